/** `move_to_final`: its flags, logs and record, and what the original loses. */
import { spawn } from 'node:child_process';
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { FLAGS, originalFlags } from '../../src/cli/dropin/move_to_final/flags.js';
import { helpText } from '../../src/cli/dropin/move_to_final/help.js';
import { executable, jsonLines, run, scratch } from '../rig.js';

function put(root: string, files: Record<string, string>): void {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), content);
  }
}

/** What a finished migration leaves in its destination. */
const MIGRATED = {
  'scratch/sub/a.tsv.gz': 'not really',
  'scratch/readme.txt': 'root file',
  'scratch/errors.tsv': 'cannot, failed, permission denied',
};
const OWN = {
  'scratch/migration_state.json': '{}',
  'scratch/migration_state_data.json': '{}',
  'scratch/.migration_state.lock': '',
  'scratch/.migration_state.lock.0123456789abcdef': '',
  'scratch/migration_20260126_161642.log': 'x',
  'scratch/migration_data_20260126_161642.log': 'x',
  'scratch/rsync_sub1_20260126_161642.log': 'x',
  'scratch/rsync_root_files_20260126_161642.log': 'x',
  'scratch/rsync_exclude_20260126_161642.txt': 'x',
};

function tree(files: Record<string, string> = MIGRATED) {
  const cwd = scratch();
  put(cwd, files);
  const move = (...args: string[]) => run(['move_to_final', ...args], { cwd });
  const names = (directory: string) => readdirSync(join(cwd, directory), { recursive: true }).map(String).sort();
  const text = (pattern: RegExp) => {
    const name = readdirSync(cwd).find((each) => pattern.test(each));
    return readFileSync(join(cwd, name ?? expect.fail(`no ${pattern}`)), 'utf8');
  };
  return { cwd, move, names, text };
}

const MOVED = ['errors.tsv', 'readme.txt', 'sub', 'sub/a.tsv.gz'];

describe('a move', () => {
  it('brings the content over, and leaves logs and a record with the names and fields of the original', async () => {
    const { cwd, move, names, text } = tree();
    const { code, stderr } = await move('--source', 'scratch', '--dest', 'deep/final');
    expect(code, stderr).toBe(0);
    expect(names('deep/final')).toEqual(MOVED);
    expect(existsSync(join(cwd, 'scratch'))).toBe(false);
    const record = JSON.parse(text(/^move_scratch_\d{8}_\d{6}\.json$/));
    expect(Object.keys(record)).toEqual(['last_updated', 'move']);
    expect(record.last_updated).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}$/);
    const rsync = 'rsync -av --partial --progress --checksum --human-readable --itemize-changes';
    expect(record.move).toEqual({
      source: 'scratch',
      dest: 'deep/final',
      status: 'completed',
      rsync_command: `${rsync} --remove-source-files scratch/ deep/final/`,
      rsync_exit_code: 0,
      rsync_log_file: expect.stringMatching(/\/rsync_move_scratch_\d{8}_\d{6}\.log$/),
      rsync_errors: [],
      files_moved: 3,
      directories_cleaned: 2,
      start_time: expect.stringMatching(/^\d{4}-/),
      end_time: expect.stringMatching(/^\d{4}-/),
      error_message: null,
    });
    expect(text(/^move_scratch_.*\.log$/)).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \[INFO\] Source: scratch\n/);
    const log = text(/^rsync_move_scratch_.*\.log$/);
    expect(log).toMatch(/^Command: rsync -av [\s\S]*\nStarted: .*\n={80}\n\n/);
    expect(log).toMatch(/\n={80}\nFinished: .*\nExit code: 0\nExit meaning: Success\n$/);
    expect(log.match(/^>f\S+ .*$/gm)?.sort()).toEqual([
      '>f+++++++++ errors.tsv',
      '>f+++++++++ readme.txt',
      '>f+++++++++ sub/a.tsv.gz',
    ]);
  });

  it('replaces what has other content, and reads it back', async () => {
    const { move, names, cwd } = tree({ 'scratch/a': 'new', 'final/a': 'old', 'final/own': 'x' });
    const { code, stderr } = await move('-s', 'scratch', '-d', 'final');
    expect({ code, verified: /verified: 1 file /.test(stderr) }).toEqual({ code: 0, verified: true });
    expect([names('final'), readFileSync(join(cwd, 'final/a'), 'utf8')]).toEqual([['a', 'own'], 'new']);
  });

  it('keeps hard links, and what rsync -a does not', async () => {
    const { move, cwd } = tree();
    linkSync(join(cwd, 'scratch/readme.txt'), join(cwd, 'scratch/sub/other'));
    expect((await move('-s', 'scratch', '-d', 'final')).code).toBe(0);
    expect(lstatSync(join(cwd, 'final/sub/other')).nlink).toBe(2);
  });

  it('with --keep-source removes nothing, and reads all back', async () => {
    const { cwd, move, names, text } = tree({ ...MIGRATED, 'final/readme.txt': 'root file' });
    for (const name of ['scratch', 'final']) utimesSync(join(cwd, name, 'readme.txt'), 1e9, 1e9);
    const { code, stderr } = await move('-s', 'scratch', '-d', 'final', '--keep-source');
    expect(code).toBe(0);
    expect(stderr).toContain('verified: 3 files');
    expect([names('scratch'), names('final')]).toEqual([MOVED, MOVED]);
    const { move: record } = JSON.parse(text(/^move_scratch_.*\.json$/));
    expect(record).toMatchObject({ status: 'completed', files_moved: 2, directories_cleaned: 0 });
    expect(record.rsync_command).not.toContain('--remove-source-files');
  });
});

describe('what the original does otherwise', () => {
  it('logs and state of a migration do not come into the final data', async () => {
    const { move, names } = tree({ ...MIGRATED, ...OWN, 'scratch/sub/migration_state.json': 'data' });
    const { code, stderr } = await move('-s', 'scratch', '-d', 'final');
    expect(code).toBe(0);
    expect(names('final')).toEqual([...MOVED, 'sub/migration_state.json'].sort());
    expect(names('scratch')).toEqual(
      Object.keys(OWN)
        .map((name) => name.slice('scratch/'.length))
        .sort(),
    );
    expect(stderr).toContain('9 files of a migration stay in the source');
  });

  it('nor do they where they lie deeper, beside a state that is one', async () => {
    const record = { status: 'completed', files: [] };
    const state = JSON.stringify({ last_updated: 'then', directories: { '/data/sub': record } });
    const own = Object.keys(OWN).map((name) => name.slice('scratch/'.length));
    const places = ['logs', 'deep/a\\b [x]*?'];
    const within = places.flatMap((place) => own.map((name) => `${place}/${name}`));
    const data = [
      'logs/data.log',
      'sub/migration_state.json',
      'sub/rsync_sub1_20260126_161642.log',
      'axb/rsync_a_20260126_161642.log',
    ];
    const files = Object.fromEntries([...within, ...data].map((name) => [`scratch/${name}`, 'x']));
    for (const place of places) files[`scratch/${place}/migration_state.json`] = state;
    files['scratch/sub/migration_state.json'] = JSON.stringify({ last_updated: 'then', directories: 5 });
    const { cwd, move } = tree(files);
    const kept = (directory: string) =>
      readdirSync(join(cwd, directory), { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name).slice(join(cwd, directory).length + 1))
        .sort();
    const { code, stderr } = await move('-s', 'scratch/', '-d', 'final');
    expect([code, kept('final')], stderr).toEqual([0, data.sort()]);
    expect(kept('scratch')).toEqual(within.sort());
    expect(stderr).toContain('18 files of a migration stay in the source');
  });

  it('a dry run writes nothing: no log, no parents of the destination', async () => {
    const { cwd, move } = tree();
    const { code, stdout } = await move('-s', 'scratch', '-d', 'deep/final', '--dry-run');
    expect(code).toBe(0);
    expect(stdout).toContain('sub/a.tsv.gz\n');
    expect(readdirSync(cwd)).toEqual(['scratch']);
  });

  it('errors are errors, not names that look like some', async () => {
    const { move, text } = tree({ ...MIGRATED, 'final/sub': 'in the way' });
    const { code, stderr } = await move('-s', 'scratch', '-d', 'final');
    expect(code).toBe(1);
    expect(stderr).toContain('INCOMPLETE');
    const { move: record } = JSON.parse(text(/^move_scratch_.*\.json$/));
    expect(record).toMatchObject({ status: 'completed_with_errors', rsync_exit_code: 23, files_moved: 2 });
    // It advises no option of another command.
    expect(record.rsync_errors).toEqual([expect.stringMatching(/final\/sub: [^(]* is in the way[^(]*$/)]);
    expect(text(/^rsync_move_.*\.log$/)).toMatch(/\nExit code: 23\nExit meaning: Partial transfer due to error/);
  });

  it('two runs of one second have a log each', async () => {
    const cwd = scratch();
    const all = Array.from({ length: 4 }, (_, n) => n);
    for (const n of all) put(cwd, { [`${n}/scratch/a`]: 'x' });
    const runs = all.map((n) =>
      run(['move_to_final', '-s', `${n}/scratch`, '-d', `${n}/final`, '--log-dir', 'logs', '-q'], { cwd }),
    );
    expect((await Promise.all(runs)).map(({ code }) => code)).toEqual([0, 0, 0, 0]);
    const logs = readdirSync(join(cwd, 'logs'));
    for (const pattern of [/^move_.*\.log$/, /^move_.*\.json$/, /^rsync_move_.*\.log$/]) {
      expect(logs.filter((name) => pattern.test(name))).toHaveLength(4);
    }
    expect(logs).toHaveLength(12);
  });

  it.each([
    [['-s', 'scratch', '-d', 'scratch/sub/final'], 'the destination lies inside the source'],
    [['-s', 'none', '-d', 'final'], 'the source none is no directory'],
    [['-s', 'scratch', '-d', 'final', '--log-dir', 'scratch/sub/logs'], 'lies in the source'],
    [['-s', 'scratch', '-d', 'host:final'], 'rsync -aHAX --remove-source-files'],
  ])('%j is refused', async (args, said) => {
    const { move, names } = tree();
    const { code, stderr } = await move(...args);
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining(said) });
    expect(names('scratch')).toEqual(MOVED);
  });

  it('killed between two file systems, the same command goes on', async ({ skip }) => {
    const files = Object.fromEntries(Array.from({ length: 200 }, (_, n) => [`scratch/${n % 5}/${n}`, `${n}`]));
    const { cwd, move } = tree(files);
    if (!existsSync('/dev/shm') || statSync('/dev/shm').dev === statSync(cwd).dev) return skip();
    const final = mkdtempSync('/dev/shm/bulkhaul-test-');
    onTestFinished(() => rmSync(final, { recursive: true }));
    const args = [executable, 'move_to_final', '-s', 'scratch', '-d', final, '--iops-limit', '150', '--json'];
    const child = spawn(process.execPath, args, { cwd, stdio: ['ignore', 'pipe', 'ignore'] });
    child.stdout.on('data', (text) => {
      if (String(text).includes('"copied"')) child.kill('SIGKILL');
    });
    await new Promise((ended) => child.once('close', ended));
    expect((await move('-s', 'scratch', '-d', final)).code).toBe(0);
    expect(existsSync(join(cwd, 'scratch'))).toBe(false);
    for (const [name, content] of Object.entries(files)) {
      expect(readFileSync(join(final, name.slice('scratch/'.length)), 'utf8')).toBe(content);
    }
  });
});

describe('the command line', () => {
  it('asks for what is required, as argparse does', async () => {
    for (const [args, said] of [
      [[], '-s/--source, -d/--dest'],
      [['-s', 'x'], '-d/--dest'],
    ] as const) {
      const { code, stderr } = await run(['move_to_final', ...args]);
      expect(code).toBe(2);
      expect(stderr).toMatch(/^usage: move_to_final \[-h\]/);
      expect(stderr).toContain(`move_to_final: error: the following arguments are required: ${said}\n`);
    }
  });

  it('tells events in JSON where that is asked for', async () => {
    const { move } = tree();
    const { code, stdout } = await move('-s', 'scratch', '-d', 'final', '--json');
    expect([code, jsonLines(stdout).at(-1)]).toMatchObject([0, { type: 'summary', exitCode: 0, keptSources: 0 }]);
  });

  it('help has every flag, and the documentation a row for each of the original', () => {
    const page = helpText(100);
    for (const { names } of Object.values(FLAGS)) for (const name of names) expect(page).toContain(name);
    const all = readFileSync(new URL('../../../docs/dropin.md', import.meta.url), 'utf8');
    const section = all.slice(all.indexOf('\n## move_to_final\n')).split(/\n## /)[1] ?? '';
    const documented = section.split('\n').flatMap((row) => /^\| ((?:`-[^`]+` ?)+)\|/.exec(row)?.[1]?.trim() ?? []);
    const spelled = originalFlags().map(({ names }) => names.map((name) => `\`${name}\``).join(' '));
    expect(documented.sort()).toEqual(spelled.sort());
  });
});
