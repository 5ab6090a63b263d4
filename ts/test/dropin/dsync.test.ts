/** `dsync`: its flags, its parts and its transfers with the real rsync and the real rclone, and what the original loses. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type Flag, UsageError } from '../../src/cli/dropin/argparse.js';
import { FLAGS, originalFlags, parseCall } from '../../src/cli/dropin/dsync/flags.js';
import { helpText } from '../../src/cli/dropin/dsync/help.js';
import { KEY, SECRET, s3 } from '../rig/s3.js';
import { executable, jsonLines, lives, program, run, scratch } from '../rig.js';

const has = (command: string) => spawnSync(command, ['--version']).error === undefined;
const RSYNC = has('rsync');
const RCLONE = has('rclone');
if (!RSYNC) console.log('skip: there is no rsync');
if (!RCLONE) console.log('skip: there is no rclone');

const NAMES = [
  ...['a', 'a b', ' lead', 'trail ', 'é', '-x', '*star', '#hash', ';semi', 'back\\slash', 'back\\#012', "it's", '"q"'],
  ...['new\nline', 'cr\r', 'tab\t', '\x01ctl', '$HOME', '`id`', '.hidden', '>f+++++++++ 1 0 x', '␁'],
];

/** Names that are no text too. */
const BYTES = Buffer.from('caf\xe9', 'latin1');

/** A source `s` with such names, the working directory `w` and the destination `d`, all below one directory. */
function tree(names: readonly string[] = NAMES, above = '') {
  const cwd = join(scratch(), above);
  const at = (...more: string[]) => join(cwd, ...more);
  for (const directory of ['s/sub/deep', 's/empty', 's/none/in', 's/#top', 's/;top'])
    mkdirSync(at(directory), { recursive: true });
  for (const name of names) {
    writeFileSync(at('s', name), `in ${name}`);
    writeFileSync(at('s/sub', name), `in sub/${name}`);
    mkdirSync(at('s/dirs', name), { recursive: true });
    writeFileSync(at('s/dirs', name, 'f'), name);
  }
  writeFileSync(Buffer.concat([Buffer.from(at('s/')), BYTES]), 'bytes');
  symlinkSync('a', at('s/link'));
  symlinkSync('/nowhere/at all', at('s/sub/dangling'));
  execFileSync('mkfifo', [at('s/fifo')]);
  chmodSync(at('s/sub/deep'), 0o750);
  for (const directory of ['s/sub/deep', 's/sub', 's/none/in', 's/none', 's/empty', 's/dirs', 's'])
    utimesSync(at(directory), 1e9, 1e9);
  const env = (more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv => ({
    HOME: cwd,
    RCLONE_CONFIG: at('no-rclone.conf'),
    ...more,
  });
  const dsync = (...args: string[]) => run(['dsync', '--working-dir', at('w'), ...args], { cwd, env: env() });
  const text = (...more: string[]) => readFileSync(at(...more), 'utf8');
  return { cwd, at, dsync, env, text };
}

/** What rsync would still do. */
function difference(source: string, destination: string): string {
  return spawnSync('rsync', ['-aniO', '--checksum', `${source}/`, `${destination}/`]).stdout.toString();
}

/** The same, with times of directories. */
function wholeDifference(source: string, destination: string): string {
  return execFileSync('rsync', ['-ani', '--checksum', `${source}/`, `${destination}/`]).toString();
}

const logsOf = (w: string) =>
  readdirSync(join(w, 'logs'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.log'))
    .map((name) => join(w, 'logs', name))
    .sort();

/** A program of this name that comes before the real one: `script` for sh, where `$real` is the real one. */
function standIn(directory: string, name: string, script: string): string {
  mkdirSync(directory, { recursive: true });
  const real = execFileSync('sh', ['-c', `command -v ${name} || true`])
    .toString()
    .trim();
  writeFileSync(join(directory, name), `#!/bin/sh\nreal='${real}'\n${script}\n`, { mode: 0o755 });
  return `${directory}:${process.env.PATH}`;
}

/** An rsync that stands before its work, the first time, until it is told to go; not for ever. */
function held(at: (...names: string[]) => string) {
  execFileSync('mkfifo', [at('go')]);
  const waits = `mkdir '${at('once')}' 2>/dev/null && timeout 60 cat '${at('go')}'`;
  const PATH = standIn(at('bin'), 'rsync', `[ "$1" = --version ] || { ${waits} >&2; }\nexec "$real" "$@"`);
  return { PATH, go: () => program('sh', ['-c', `timeout 60 sh -c ': >"$0"' '${at('go')}'`]) };
}

describe.runIf(RSYNC)('rsync', () => {
  it('brings everything, by as many transfers as asked for, and says what', async () => {
    const { at, dsync } = tree();
    const { code, stdout, stderr } = await dsync('-n', '4', 's', 'd');
    expect({ code, stdout }).toEqual({ code: 0, stdout: '' });
    expect(wholeDifference(at('s'), at('d'))).toBe('');
    const entries = Number(execFileSync('sh', ['-c', 'find . -mindepth 1 -printf x | wc -c'], { cwd: at('s') }));
    expect(stderr).toContain(`complete: ${entries} entries\n`);
    expect(stderr).toMatch(/\ndsync: the logs are in \S+\/w\/logs\/s-[0-9a-f]{8}\/[0-9TZ]+-\d+\n$/);
    expect(stderr).not.toContain('on disk');
    // One a part, and one for the directory itself.
    expect(logsOf(at('w')).map((path) => path.replace(/.*\//, ''))).toEqual(
      [0, 1, 2, 3, 4].map((part) => `rsync.${part}.log`),
    );
    const again = await dsync('-n', '4', 's', 'd');
    expect(again.stderr).toContain(`skipped: ${entries} unchanged\n`);
    // Each run has its own.
    expect(logsOf(at('w'))).toHaveLength(10);
  });

  it('takes any path, and ~ for the home', async () => {
    const { at, dsync } = tree(['a'], 'it\'s a $HOME `id` "dir" \\ *');
    expect((await dsync('-n', '2', '~/s/', "~/d'd \n x/deep")).code).toBe(0);
    expect(wholeDifference(at('s'), at("d'd \n x/deep"))).toBe('');
  });

  it('updates what changed, and deletes nothing', async () => {
    const { at, dsync, text } = tree();
    await dsync('-n', '3', 's', 'd');
    writeFileSync(at('s/sub/a'), 'other content');
    chmodSync(at('s/a b'), 0o600);
    writeFileSync(at('d/extra'), 'stays');
    // The directory whose file is replaced gets its time back, too.
    const { code, stderr } = await dsync('-n', '3', 's', 'd');
    expect(code).toBe(0);
    expect(stderr).toMatch(/^1 file copied, 13 B written[\s\S]*\nentries: 2 given other metadata\n/m);
    expect([text('d/sub/a'), text('d/extra')]).toEqual(['other content', 'stays']);
    expect(difference(at('s'), at('d'))).toBe('');
  });

  it('a directory that its owner may not write gets its mode when it is full', async () => {
    const { at, dsync } = tree();
    chmodSync(at('s/sub'), 0o555);
    expect((await dsync('-n', '4', 's', 'd')).code).toBe(0);
    expect(wholeDifference(at('s'), at('d'))).toBe('');
  });

  it('keeps hard links where that is asked for, and says where it is not', async () => {
    const { at, dsync } = tree(['a']);
    for (let index = 0; index < 20; index += 1) linkSync(at('s/a'), at('s/sub', `hard${index}`));
    const plain = await dsync('-n', '4', 's', 'd');
    expect(plain.stderr).toContain('dsync: note: there are hard links, which rsync -a makes copies of');
    expect((await dsync('-n', '4', '-H', 's', 'linked')).code).toBe(0);
    const inodes = (where: string) =>
      new Set(
        execFileSync('find', [at(where), '-name', 'hard*', '-printf', '%i\n'])
          .toString()
          .trim()
          .split('\n'),
      ).size;
    expect([inodes('d'), inodes('linked')]).toEqual([20, 1]);
  });

  it('leaves snapshots at the top out, says so, and nothing else', async () => {
    const { at, dsync } = tree(['a']);
    for (const name of ['.zfs', '.snapshot', '.snapshot1', '.snapshot2', '.zfsx', 'sub/.snapshots', 'sub/.zfs']) {
      mkdirSync(at('s', name));
      writeFileSync(at('s', name, 'in'), 'in');
    }
    for (const [way, to] of [
      ['--progress=none', 'd'],
      ['--no-fpart', 'd2'],
    ] as const) {
      const { code, stderr } = await dsync('-n', '3', way, 's', to);
      expect(code).toBe(0);
      expect(stderr).toContain(`left out at the top of ${at('s')}: .snapshot, .snapshot1, .snapshot2 and 1 more\n`);
      const there = ['.zfs', '.snapshot', '.snapshot1', '.snapshot2', '.zfsx', 'sub/.snapshots', 'sub/.zfs'];
      expect(there.filter((name) => existsSync(at(to, name, 'in')))).toEqual(['.zfsx', 'sub/.snapshots', 'sub/.zfs']);
    }
  });

  it('leaves its own working directory out, wherever it is', async () => {
    const { at, dsync } = tree(['a']);
    for (const own of ['[w]', 'w\\', '\\*']) {
      const { code, stderr } = await dsync('-n', '2', '--working-dir', at('s/sub', own), 's', 'd');
      expect(stderr).toContain(`left out, because dsync works there: sub/${own}\n`);
      expect([code, existsSync(at('s/sub', own)), existsSync(at('d/sub', own)), existsSync(at('d/sub/a'))]).toEqual([
        ...[0, true, false, true],
      ]);
      rmSync(at('s/sub', own), { recursive: true });
    }
  });

  it('--no-fpart deals out what is at the top, hidden entries too', async () => {
    const { at, dsync } = tree();
    const { code, stderr } = await dsync('-n', '5', '--no-fpart', 's', 'd');
    expect(code).toBe(0);
    expect(wholeDifference(at('s'), at('d'))).toBe('');
    expect(stderr).toMatch(/\ncomplete: \d+ entries\n/);
    const before = (await dsync('-n', '5', 's', 'd')).stderr;
    const counts = (text: string) => /found: .*\n/.exec(text)?.[0];
    expect(counts(before)).toBe(counts(stderr));
  });

  it('a dry run makes nothing, and prints a line for each entry', async () => {
    const { at, cwd, dsync, env } = tree(['a', 'new\nline']);
    for (const args of [
      ['-n', '2'],
      ['-n', '2', '--no-fpart'],
    ]) {
      const { code, stdout, stderr } = await run(['dsync', '--dry-run', ...args, 's', 'x/y/d'], { cwd, env: env() });
      expect(code).toBe(0);
      const entries = Number(execFileSync('sh', ['-c', 'find . -mindepth 1 -printf x | wc -c'], { cwd: at('s') }));
      const lines = stdout.trim().split('\n');
      expect(lines).toHaveLength(entries);
      expect(lines).toContain('>f+++++++++ sub/new\\nline');
      expect(lines).toContain('cd+++++++++ empty/');
      expect(stderr).toContain(`complete: ${entries} entries (dry run: nothing was done)`);
      expect(readdirSync(cwd)).toEqual(['s']);
    }
    const json = await run(['dsync', '--dry-run', '--json', '-n', '2', 's', 'x/y/d'], { cwd, env: env() });
    const told = json.stdout.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line)]));
    const said = told.filter(({ type }) => ['part', 'entry', 'summary'].includes(type));
    expect(new Set(said.map(({ type, dryRun }) => `${type} ${dryRun}`))).toEqual(
      new Set(['part true', 'entry true', 'summary true']),
    );
    const reuse = await run(['dsync', '--dry-run', '--reuse', '-n', '2', 's', 'd'], { cwd, env: env() });
    expect([reuse.code, readdirSync(cwd)]).toEqual([2, ['s']]);
    await dsync('-n', '2', 's', 'd');
    writeFileSync(at('s/a'), 'other');
    utimesSync(at('s/a'), 1_500_000_000, 1_500_000_000);
    expect((await dsync('-n', '2', '--dry-run', 's', 'd')).stdout).toBe('>f.st...... a\n');
    expect(readFileSync(at('d/a'), 'utf8')).toBe('in a');
  });

  it('uses the home where nothing else is said', async () => {
    const { at, cwd, env } = tree(['a']);
    expect((await run(['dsync', '-n', '1', 's', 'd'], { cwd, env: env() })).code).toBe(0);
    expect(readdirSync(at('dsync_working')).sort()).toEqual(['logs', expect.stringMatching(/^s-[0-9a-f]{8}$/)]);
    await run(['dsync', '-n', '1', '--log-output', 'l', 's', 'd'], { cwd, env: env() });
    expect(existsSync(at('l'))).toBe(true);
  });

  it('an entry that can not come is tried once more, named, and costs nothing else', async () => {
    const { at, dsync } = tree();
    mkdirSync(at('d/sub/a/full'), { recursive: true });
    const { code, stderr } = await dsync('-n', '3', 's', 'd');
    expect(code).toBe(23);
    expect(stderr).toMatch(new RegExp(`^dsync: rsync ${at('s')}/sub/a: `, 'm'));
    expect(stderr).toContain('INCOMPLETE: 1 of ');
    // Nothing else is left to do.
    expect(difference(at('s'), at('d'))).toBe('cannot delete non-empty directory: sub/a\n');
    const logs = logsOf(at('w')).map((path) => readFileSync(path, 'utf8'));
    expect(logs.filter((log) => log.includes('# not there: 1 entries, which are tried once more'))).toHaveLength(1);
    rmSync(at('d/sub/a'), { recursive: true });
    expect((await dsync('-n', '3', 's', 'd')).code).toBe(0);
  });

  it('tries again only what failed', async () => {
    const { at, cwd, env } = tree(['a', 'b', 'c']);
    // The first run leaves one out and says so.
    const PATH = standIn(
      at('bin'),
      'rsync',
      `case "$*" in *--dry-run*|*--files-from=-*) ;; *) exec "$real" "$@" ;; esac
      case "$*" in *--dry-run*|*--no-implied-dirs*) exec "$real" "$@" ;; esac
      cat >'${at('list')}'
      if mkdir '${at('once')}' 2>/dev/null; then "$real" --exclude=/sub/b "$@" <'${at('list')}'; exit 23; fi
      cp '${at('list')}' '${at('second')}'; exec "$real" "$@" <'${at('list')}'`,
    );
    const { code, stderr } = await run(['dsync', '-n', '1', 's', 'd'], { cwd, env: env({ PATH }) });
    expect([code, stderr]).toEqual([0, expect.stringMatching(/\ncomplete: /)]);
    expect(readFileSync(at('second'), 'utf8')).toBe('sub/b\0');
    expect(wholeDifference(at('s'), at('d'))).toBe('');
  });

  it('what a run leaves out without a word is found, by counting', async () => {
    const { at, cwd, env } = tree(['a', 'b', 'c']);
    const PATH = standIn(
      at('bin'),
      'rsync',
      `case "$*" in *--dry-run*) exec "$real" "$@" ;; esac
      if mkdir '${at('once')}' 2>/dev/null; then exec "$real" --exclude=/sub/b "$@"; fi
      exec "$real" "$@"`,
    );
    expect((await run(['dsync', '-n', '1', 's', 'd'], { cwd, env: env({ PATH }) })).code).toBe(0);
    expect(wholeDifference(at('s'), at('d'))).toBe('');
  });

  it('what vanishes meanwhile is named, and that alone is 24', async () => {
    const { at, cwd, env } = tree(['a', 'b']);
    const PATH = standIn(at('bin'), 'rsync', `[ "$1" = --version ] || rm -f '${at('s/sub/b')}'\nexec "$real" "$@"`);
    const { code, stderr } = await run(['dsync', '-n', '2', 's', 'd'], { cwd, env: env({ PATH }) });
    expect(code).toBe(24);
    expect(stderr).toContain(`dsync: rsync ${at('s/sub/b')}: it vanished\n`);
    expect(difference(at('s'), at('d'))).toBe('');
  });

  it('what grows meanwhile, of which rsync says nothing, is named, and that alone is 24', async () => {
    const { at, cwd, env } = tree(['a', 'b']);
    // It has told of the file before it ends.
    const PATH = standIn(
      at('bin'),
      'rsync',
      `case "$*" in *--dry-run*|*--version*) exec "$real" "$@" ;; esac
      mkdir '${at('once')}' 2>/dev/null || exec "$real" "$@"
      "$real" "$@" >'${at('kept')}' || exit
      echo more >>'${at('s/sub/b')}'; cat '${at('kept')}'`,
    );
    const { code, stderr } = await run(['dsync', '-n', '1', 's', 'd'], { cwd, env: env({ PATH }) });
    expect([code, stderr]).toEqual([
      24,
      expect.stringContaining(
        `dsync: rsync ${at('s/sub/b')}: it changed while it was copied: it has 13 bytes now, and had 8\n`,
      ),
    ]);
    expect(stderr).toContain('1 of ');
    // The next run brings the rest.
    const again = await run(['dsync', '-n', '1', 's', 'd'], { cwd, env: env() });
    expect([again.code, difference(at('s'), at('d'))]).toEqual([0, '']);
  });

  it('what goes on after the size that it says it has is named', async () => {
    const { at, dsync } = tree(['a']);
    // In this file system such files are known.
    if (!existsSync('/proc/sys/kernel/random/boot_id')) return console.log('skip: there is no such /proc');
    const { code, stderr } = await dsync('-n', '1', '/proc/sys/kernel/random', at('d'));
    expect([code, stderr]).toEqual([
      24,
      expect.stringMatching(/random\/boot_id: it goes on after the 0 bytes that it says it has/),
    ]);
  });

  it('what vanishes from trees, of which nobody knew, is named too', async () => {
    const { at, cwd, env } = tree(['a', 'b']);
    const PATH = standIn(
      at('bin'),
      'rsync',
      `case "$*" in *--dry-run*|*--version*) exec "$real" "$@" ;; esac
      "$real" "$@" || exit
      if mkdir '${at('once')}' 2>/dev/null; then echo 'file has vanished: "${at('s/sub/gone')}"' >&2; exit 24; fi`,
    );
    const { code, stderr } = await run(['dsync', '-n', '2', '--no-fpart', 's', 'd'], { cwd, env: env({ PATH }) });
    expect([code, stderr]).toEqual([24, expect.stringContaining(`dsync: rsync ${at('s/sub/gone')}: it vanished\n`)]);
    expect(readdirSync(at('dsync_working', readdirSync(at('dsync_working'))[1] ?? '')).sort()).toEqual([
      'chunk.1',
      'chunk.2',
      'lock',
      'plan.json',
      'top',
    ]);
  });

  it.runIf(process.getuid?.() === 0)(
    'what can not be read is named, in the plan and after it, and the rest comes',
    async () => {
      const { at, cwd, env } = tree(['a']);
      mkdirSync(at('s/closed/in'), { recursive: true });
      writeFileSync(at('s/secret'), 'secret');
      for (const name of ['closed', 'secret']) chmodSync(at('s', name), 0);
      for (const [name, mode] of [
        ['.', 0o777],
        ['s/sub/deep', 0o755],
      ] as const)
        chmodSync(at(name), mode);
      const nobody = ['--reuid=65534', '--regid=65534', '--clear-groups'];
      const dsync = [process.execPath, executable, 'dsync', '-n', '2', '--working-dir', at('w')];
      const as = (...more: string[]) =>
        program('setpriv', [...nobody, ...dsync, ...more, 's', 'd'], { cwd, env: env() });
      const { code, stderr } = await as();
      expect(code).toBe(23);
      expect(stderr).toMatch(new RegExp(`^dsync: open ${at('s')}/closed: Permission denied`, 'm'));
      expect(stderr).toMatch(new RegExp(`^dsync: rsync ${at('s')}/secret: .*Permission denied`, 'm'));
      expect(stderr).toContain('INCOMPLETE: ');
      expect(existsSync(at('d/sub/a'))).toBe(true);
      // Parts that are taken again are no more whole than they were.
      const again = await as('--reuse');
      expect([again.code, again.stderr]).toEqual([
        23,
        expect.stringContaining('dsync: 1 entry could not be read when the parts were cut\n'),
      ]);
    },
  );

  it('a part that fails as a whole is told, and the others go on', async () => {
    const { at, cwd, env } = tree();
    const PATH = standIn(
      at('bin'),
      'rsync',
      `case "$*" in *--omit-dir-times*) ;; *) exec "$real" "$@" ;; esac
      if mkdir '${at('once')}' 2>/dev/null; then echo 'no space' >&2; exit 11; fi
      exec "$real" "$@"`,
    );
    const { code, stderr } = await run(['dsync', '-n', '3', 's', 'd'], { cwd, env: env({ PATH }) });
    expect(code).toBe(23);
    expect(stderr).toMatch(
      /dsync: part \d: rsync ended with 11 \(no space\): reading or writing failed.*; \d+ of its entries are not known to be there/,
    );
    const counted = Number(/INCOMPLETE: (\d+) of/.exec(stderr)?.[1]);
    const files = Number(
      execFileSync('sh', ['-c', 'find . -mindepth 1 ! -type d -printf x | wc -c'], { cwd: at('d') }),
    );
    const all = Number(execFileSync('sh', ['-c', 'find . -mindepth 1 ! -type d -printf x | wc -c'], { cwd: at('s') }));
    expect(counted).toBe(all - files);
  });

  it('--jobs bounds how many run at once, and --bwlimit is shared out among them', async () => {
    const { at, cwd, env, dsync } = tree();
    mkdirSync(at('now'));
    const PATH = standIn(
      at('bin'),
      'rsync',
      `[ "$1" = --version ] && exec "$real" "$@"
      touch '${at('now')}'/$$; ls '${at('now')}' | wc -l >>'${at('counts')}'
      "$real" "$@"; code=$?; rm '${at('now')}'/$$; exit $code`,
    );
    const limits = ['-n', '6', '-j', '2', '--bwlimit', '8m'];
    const { code } = await run(['dsync', '--working-dir', at('w'), ...limits, 's', 'd'], { cwd, env: env({ PATH }) });
    expect(code).toBe(0);
    const counts = readFileSync(at('counts'), 'utf8').trim().split('\n').map(Number);
    expect(counts.length).toBeGreaterThan(6);
    expect(Math.max(...counts)).toBeLessThanOrEqual(2);
    expect(logsOf(at('w')).every((path) => readFileSync(path, 'utf8').includes(' --bwlimit=4096 '))).toBe(true);
    expect((await dsync('-n', '2', '--bwlimit', 'much', 's', 'd')).code).toBe(2);
  });

  it('shows how far it is, by what there is in all', async () => {
    const { at, cwd, env } = tree();
    const { PATH, go } = held(at);
    let said = '';
    const ended = run(['dsync', '-n', '1', 's', 'd'], {
      cwd,
      env: env({ PATH, BULKHAUL_PROGRESS_INTERVAL: '0.05' }),
      onStart: (child) => child.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString())),
    });
    await expect.poll(() => said, { timeout: 30_000 }).toMatch(/\d\d:\d\d:\d\d 0 B of \d+ B \| 0 of 67 files/);
    await go();
    expect((await ended).code).toBe(0);
  });

  it('a source that is not there, a tool that is not there, a destination in the source: nothing is begun', async () => {
    const { at, cwd, dsync, env } = tree(['a']);
    const none = await dsync('-n', '2', 'absent', 'd');
    expect([none.code, none.stderr]).toEqual([23, `dsync: ${at('absent')} is no directory\n`]);
    symlinkSync(process.execPath, at('node'));
    const PATH = at('nothing');
    const tool = await run(['dsync', '-n', '2', 's', 'd'], { cwd, env: env({ PATH }) });
    expect([tool.code, tool.stderr]).toEqual([2, "dsync: rsync can't be run: there is no such program here\n"]);
    symlinkSync(at('s/sub'), at('way'));
    for (const inside of ['s', 's/new/d', 'way/d', 's/../s']) {
      const { code, stderr } = await dsync('-n', '2', 's', inside);
      expect([code, stderr]).toEqual([3, expect.stringContaining('DST ')]);
    }
    expect([existsSync(at('d')), existsSync(at('s/new')), existsSync(at('w'))]).toEqual([false, false, false]);
  });

  it('a source that is no text is refused by name, one of its names is not', async () => {
    const { cwd, env } = tree(['a']);
    execFileSync('bash', ['-c', "mv s $'s\\xff'"], { cwd });
    const dsync = `'${process.execPath}' '${executable}' dsync -n 1`;
    const { code, stderr } = await program('bash', ['-c', `${dsync} $'s\\xff' d`], { cwd, env: env() });
    expect([code, stderr]).toEqual([
      2,
      expect.stringMatching(/^dsync: SRC .*s\\xff is not UTF-8: rsync can't be given it\n$/),
    ]);
    expect(readdirSync(cwd)).toHaveLength(1);
  });

  it('a tool that is too old is refused before anything is looked at', async () => {
    const { at, cwd, env } = tree(['a']);
    const PATH = standIn(at('bin'), 'rsync', 'echo "openrsync: protocol version 29"');
    const { code, stderr } = await run(['dsync', '-n', '1', 's', 'd'], { cwd, env: env({ PATH }) });
    const why =
      "dsync: the rsync here won't do: it must be version 3.1 or newer, and says: openrsync: protocol version 29\n";
    expect([code, stderr, existsSync(at('d'))]).toEqual([2, why, false]);
  });

  it('an empty source is complete', async () => {
    const { at, dsync } = tree(['a']);
    mkdirSync(at('e'));
    for (const way of ['--no-fpart', '--quiet']) expect((await dsync('-n', '3', way, 'e', 'd')).code).toBe(0);
    expect(readdirSync(at('d'))).toEqual([]);
  });

  it('with --json standard output is JSON lines, a summary of the plan and one of the transfer', async () => {
    const { dsync } = tree(['a']);
    const { code, stdout, stderr } = await dsync('-n', '2', '--json', '-v', 's', 'd');
    const lines = jsonLines(stdout);
    expect(code).toBe(0);
    expect(stderr).toMatch(/^$/);
    expect(lines.filter(({ type }) => type === 'summary')).toHaveLength(2);
    expect(lines.at(-1)).toMatchObject({ type: 'summary', complete: true, exitCode: 0, accounted: true });
    expect(lines).toContainEqual(expect.objectContaining({ type: 'entry', outcome: 'copied', path: 'sub/a' }));
  });

  it('runs under its own name by a link', async () => {
    const { at, cwd, env } = tree(['a']);
    symlinkSync(executable, at('dsync'));
    expect((await run(['-n', '1', 's', 'd'], { cwd, env: env(), startedAs: at('dsync') })).code).toBe(0);
    expect(difference(at('s'), at('d'))).toBe('');
  });
});

describe.runIf(RSYNC)('--copy-with bulkhaul', () => {
  it('brings the same, and keeps hard links', async () => {
    const { at, dsync } = tree();
    linkSync(at('s/a'), at('s/sub/hard'));
    const { code, stderr } = await dsync('-n', '3', '--copy-with', 'bulkhaul', 's', 'd');
    expect([code, stderr]).toEqual([0, expect.stringMatching(/\ncomplete: /)]);
    expect(execFileSync('rsync', ['-aniH', '--checksum', `${at('s')}/`, `${at('d')}/`]).toString()).toBe('');
    const again = await dsync('-n', '3', '--copy-with', 'bulkhaul', 's', 'd');
    expect([again.code, again.stderr]).toEqual([0, expect.stringMatching(/^0 files copied[\s\S]*unchanged/)]);
  });
});

describe.runIf(RSYNC)('--copy-with bulkhaul on hosts', () => {
  it('runs the bulkhaul there', async () => {
    const { at, dsync, lines, env } = withHosts("it's $a");
    symlinkSync(executable, join((env().PATH ?? '').split(':')[0] ?? '', 'bulkhaul'));
    const { code } = await dsync('-n', '4', '--copy-with', 'bulkhaul', '--source-hosts', 'hosts', 's', 'd');
    expect(code).toBe(0);
    expect(wholeDifference(at('s'), at('d'))).toBe('');
    expect(new Set(lines('ran'))).toEqual(new Set(['a', 'b', 'user@c']));
  });
});

describe.runIf(RSYNC)('--reuse', () => {
  it('takes the parts of before, without looking again', async () => {
    const { at, dsync } = tree(['a']);
    await dsync('-n', '2', 's', 'd');
    writeFileSync(at('s/sub/later'), 'later');
    writeFileSync(at('s/sub/a'), 'other content');
    const { code, stderr } = await dsync('-n', '2', '--reuse', 's', 'd2');
    expect([code, stderr]).toEqual([
      0,
      expect.stringMatching(/note: the parts are of 20.*: what came into .* since is not copied/),
    ]);
    expect(difference(at('s'), at('d2'))).toMatch(/^>f\+{9} sub\/later\n$/);
    expect((await dsync('-n', '2', '--reuse', '--dry-run', 's', 'd2')).stdout).toBe('');
  });

  it('refuses what is not of this source, options or plan, and says what differs', async () => {
    const { at, dsync } = tree(['a']);
    const refused = async (why: string, ...args: string[]) => {
      const { code, stderr } = await dsync('--reuse', ...args);
      expect([code, stderr]).toEqual([2, expect.stringContaining(why)]);
    };
    await refused('--reuse: there are no parts of this source from an earlier run', '-n', '2', 's', 'd2');
    await dsync('-n', '2', 's', 'd');
    await refused('there are no parts of this source', '-n', '2', 's/sub', 'd2');
    await refused('-n was 2, and is 3', '-n', '3', 's', 'd2');
    await refused('the way of the cut was by bytes', '-n', '2', '--no-fpart', 's', 'd2');
    if (RCLONE) await refused('what the lists hold was all entries', '-n', '2', '--cloud', 's', at('d2'));
    mkdirSync(at('s/.zfs'));
    await refused('what is left out was nothing, and is .zfs', '-n', '2', 's', 'd2');
    rmSync(at('s/.zfs'), { recursive: true });
    mkdirSync(at('s/new at the top'));
    await refused('what is at the top has changed (new at the top/ came)', '-n', '2', 's', 'd2');
    rmSync(at('s/new at the top'), { recursive: true });
    const [plans = ''] = readdirSync(at('w')).filter((name) => name !== 'logs');
    writeFileSync(at('w', plans, 'chunk.2'), 'foreign\0', { flag: 'a' });
    await refused('chunk.2 is not as it was written', '-n', '2', 's', 'd2');
    rmSync(at('w', plans, 'chunk.2'));
    await refused('chunk.2 is missing', '-n', '2', 's', 'd2');
    expect(existsSync(at('d2/a'))).toBe(false);
  });

  it('a new cut leaves none of the old lists, and nothing that is not its own goes', async () => {
    const { at, dsync } = tree();
    await dsync('-n', '6', 's', 'd');
    const [plans = ''] = readdirSync(at('w')).filter((name) => name !== 'logs');
    writeFileSync(at('w/chunk.1'), 'mine');
    writeFileSync(at('w', plans, 'chunky'), 'mine');
    await dsync('-n', '2', 's', 'd');
    expect(readdirSync(at('w', plans)).sort()).toEqual(['chunk.1', 'chunk.2', 'chunky', 'lock', 'plan.json', 'top']);
    expect(readFileSync(at('w/chunk.1'), 'utf8')).toBe('mine');
  });

  it('two sources in one working directory do not meet; two runs of one source do not at the same time', async () => {
    const { at, cwd, dsync, env } = tree(['a']);
    const { PATH, go } = held(at);
    let waiting: ChildProcess | undefined;
    const first = run(['dsync', '--working-dir', at('w'), '-n', '1', 's', 'd'], {
      cwd,
      env: env({ PATH }),
      onStart: (child) => {
        waiting = child;
      },
    });
    onTestFinished(() => void waiting?.kill('SIGKILL'));
    await expect.poll(() => existsSync(at('once')), { timeout: 30_000 }).toBe(true);
    const second = await dsync('-n', '1', 's', 'd2');
    expect([second.code, second.stderr]).toEqual([2, expect.stringContaining(`process ${waiting?.pid} on `)]);
    expect((await dsync('-n', '1', 's/sub', 'd3')).code).toBe(0);
    await go();
    expect((await first).code).toBe(0);
  });
});

/** A local ssh: it notes what it is asked, and does it here; a host can be down, die once, or see another place. */
const SSH = `
while [ $# -gt 0 ]; do case $1 in --) shift; break ;; -o|-l|-p) shift 2 ;; -*) shift ;; *) break ;; esac; done
host=$1; shift
printf '%s %s\\n' "$host" "$*" >>"$NOTES"
if [ -e "$HOSTS/$host.down" ]; then echo "ssh: connect to host $host port 22: No route to host" >&2; exit 255; fi
case "$*" in *rsync*-as*|*rsync*--server*|*'rclone copy'*|*'bulkhaul copy'*)
  if [ -e "$HOSTS/$host.dies" ]; then mv "$HOSTS/$host.dies" "$HOSTS/$host.down"; exit 255; fi
  echo "$host" >>"$HOSTS/ran" ;;
esac
if [ -e "$HOSTS/$host.elsewhere" ]; then
  set -- "$(printf '%s' "$*" | sed "s#$(cat "$HOSTS/$host.elsewhere")#$HOSTS/other#g")"; fi
exec sh -c "$*"`;

function withHosts(above = '') {
  const at = tree(NAMES, above);
  const hosts = join(scratch());
  const PATH = standIn(join(hosts, 'bin'), 'ssh', SSH);
  writeFileSync(at.at('hosts'), '# a comment\n\n a \nb # another\n\n   \nuser@c\n');
  const env = at.env({ PATH, HOSTS: hosts, NOTES: join(hosts, 'notes') });
  const dsync = (...args: string[]) => run(['dsync', '--working-dir', at.at('w'), ...args], { cwd: at.cwd, env });
  const whole = () => env;
  const set = (name: string, text = '') => writeFileSync(join(hosts, name), text);
  const lines = (name: string) => readFileSync(join(hosts, name), 'utf8').trim().split('\n');
  return { ...at, dsync, set, lines, env: whole };
}

describe.runIf(RSYNC)('hosts', () => {
  it('source hosts share the parts evenly', async () => {
    const { at, dsync, lines } = withHosts("it's $a");
    const { code, stderr } = await dsync('-n', '6', '--source-hosts', 'hosts', 's', 'd "d"');
    expect([code, stderr]).toEqual([0, expect.stringMatching(/\ncomplete: /)]);
    expect(wholeDifference(at('s'), at('d "d"'))).toBe('');
    const ran = lines('ran').slice(0, 6);
    expect(
      Object.fromEntries(['a', 'b', 'user@c'].map((host) => [host, ran.filter((each) => each === host).length])),
    ).toEqual({ a: 2, b: 2, 'user@c': 2 });
  });

  it('destination hosts too, and both together; no stray directory is made here', async () => {
    const { at, dsync, lines } = withHosts("it's $a");
    expect((await dsync('-n', '6', '--destination-hosts', 'hosts', 's', 'd "d"')).code).toBe(0);
    expect(wholeDifference(at('s'), at('d "d"'))).toBe('');
    // rsync takes the user out of the name.
    expect(new Set(lines('ran'))).toEqual(new Set(['a', 'b', 'c']));
    expect((await dsync('-n', '3', '--source-hosts', 'hosts', '--destination-hosts', 'hosts', 's', 'd2')).code).toBe(0);
    expect(wholeDifference(at('s'), at('d2'))).toBe('');
    expect((await dsync('-n', '3', 's', `a:${at('d3')}`)).code).toBe(0);
    expect(wholeDifference(at('s'), at('d3'))).toBe('');
    // What has no path is the home, never the root.
    for (const home of ['a:', 'a:~', 'a:~/']) {
      expect((await dsync('-n', '1', '--dry-run', 's', home)).code).toBe(0);
      const checks = lines('notes').filter((line) => line.includes('witness'));
      expect(checks.at(-1)).toMatch(/ sh rsync \. \.bulkhaul-witness-\w+$/);
    }
    expect(readdirSync(at()).filter((name) => name.includes(':'))).toEqual([]);
  });

  it('one that does not answer is left out before anything begins, and that is said', async () => {
    const { at, dsync, set, lines } = withHosts();
    set('b.down');
    const { code, stderr } = await dsync('-n', '4', '--source-hosts', 'hosts', 's', 'd');
    expect(code).toBe(0);
    expect(stderr).toContain("dsync: note: the source host b is left out: it can't be reached: ssh: connect to host b");
    expect(lines('ran')).not.toContain('b');
    expect(wholeDifference(at('s'), at('d'))).toBe('');
  });

  it.each(['--source-hosts', '--destination-hosts'])('%s: the parts of one that is lost go to others', async (flag) => {
    const { at, dsync, set, lines } = withHosts();
    set('b.dies');
    const { code, stderr } = await dsync('-n', '6', flag, 'hosts', 's', 'd');
    expect([code, stderr]).toEqual([
      0,
      expect.stringMatching(/host b is lost \(rsync ended with (?:255|12).*\): others take over/),
    ]);
    expect(lines('ran')).not.toContain('b');
    expect(wholeDifference(at('s'), at('d'))).toBe('');
  });

  it('when all are lost, what is not there is counted', async () => {
    const { dsync, set } = withHosts();
    for (const host of ['a', 'b', 'user@c']) set(`${host}.dies`);
    const { code, stderr } = await dsync('-n', '3', '--source-hosts', 'hosts', 's', 'd');
    expect(code).toBe(23);
    expect(stderr).toMatch(/part \d: no host is left; \d+ of its entries are not known to be there/);
  });

  it('none that can be used: nothing begins', async () => {
    const { at, dsync, set } = withHosts();
    for (const host of ['a', 'b', 'user@c']) set(`${host}.down`);
    const { code, stderr } = await dsync('-n', '3', '--source-hosts', 'hosts', 's', 'd');
    expect([code, stderr]).toEqual([2, expect.stringContaining('no source host can be used (a: it can')]);
    expect(existsSync(at('w'))).toBe(false);
  });

  it('one where the destination, or the source, is another file system is left out', async () => {
    const { at, dsync, set } = withHosts();
    set('b.elsewhere', at('d'));
    const { code, stderr } = await dsync('-n', '3', '--source-hosts', 'hosts', 's', 'd');
    expect(code).toBe(0);
    expect(stderr).toContain(
      `host b is left out: ${at('d')} is not the same directory there as on a: it may not be mounted`,
    );
    expect(wholeDifference(at('s'), at('d'))).toBe('');
    set('b.elsewhere', at('s'));
    expect((await dsync('-n', '3', '--source-hosts', 'hosts', 's', 'd')).stderr).toContain('host b is left out: ');
  });

  it('a file without hosts, and what is no host, are refused', async () => {
    const { at, dsync } = withHosts();
    writeFileSync(at('none'), '\n# a\n');
    writeFileSync(at('bad'), 'a\n-oProxyCommand=touch x\n');
    expect(await dsync('-n', '3', '--source-hosts', 'none', 's', 'd')).toMatchObject({
      code: 2,
      stderr: 'dsync: --source-hosts: there are no hosts in none\n',
    });
    expect(await dsync('-n', '3', '--destination-hosts', 'bad', 's', 'd')).toMatchObject({ code: 2 });
    expect(await dsync('-n', '3', '--destination-hosts', 'absent', 's', 'd')).toMatchObject({ code: 2 });
  });
});

/** The processes of rsync that have a path among their arguments. */
function processesIn(directory: string): string[] {
  return readdirSync('/proc').filter((process) => {
    try {
      const [program, ...args] = readFileSync(`/proc/${process}/cmdline`, 'utf8').split('\0');
      return program === 'rsync' && args.some((arg) => arg.startsWith(directory));
    } catch {
      return false;
    }
  });
}

describe.runIf(RSYNC)('a signal', () => {
  /** Sends it when rsync stands in the middle of its work; who was begun. */
  async function stopped(script: string, signals: readonly NodeJS.Signals[]) {
    const { at, cwd, env } = tree(['a']);
    execFileSync('mkfifo', [at('up')]);
    const PATH = standIn(at('bin'), 'rsync', `[ "$1" = --version ] && exec "$real" "$@"\n${script}`);
    let child: ChildProcess | undefined;
    const ended = run(['dsync', '-n', '1', 's', 'd'], {
      cwd,
      env: env({ PATH, UP: at('up') }),
      onStart: (started) => {
        child = started;
      },
    });
    onTestFinished(() => void child?.kill('SIGKILL'));
    const { stdout } = await program('cat', [at('up')]);
    for (const signal of signals) {
      child?.kill(signal);
      // The second comes when the first was heard.
      if (signals.length > 1) await new Promise((resolve) => child?.stderr?.once('data', resolve));
    }
    return { ...(await ended), processes: stdout.trim().split('\n') };
  }

  it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('%s ends what runs, and leaves nobody behind', async (signal) => {
    const { code, stderr, processes } = await stopped(
      'sleep 100 & printf "%s\\n" $$ $! >"$UP"; trap "exit 20" TERM; wait',
      [signal],
    );
    expect([code, stderr]).toEqual([130, expect.stringContaining('INTERRUPTED: ')]);
    expect(processes).toHaveLength(2);
    expect(processes.filter(lives)).toEqual([]);
  });

  it('ends what runs on a host', async () => {
    const { at, cwd, env } = withHosts();
    execFileSync('mkfifo', [at('up')]);
    const PATH = standIn(
      at('bin'),
      'rsync',
      `case $1 in --version) exec "$real" "$@" ;; esac\nprintf '%s\\n' $$ >'${at('up')}'; exec sleep 100`,
    );
    let child: ChildProcess | undefined;
    const args = ['dsync', '--working-dir', at('w'), '-n', '1', '--source-hosts', 'hosts', 's', 'd'];
    const hosts = env();
    const ended = run(args, {
      cwd,
      env: { ...hosts, PATH: `${PATH.split(':')[0]}:${hosts.PATH}` },
      onStart: (started) => {
        child = started;
      },
    });
    onTestFinished(() => void child?.kill('SIGKILL'));
    const { stdout } = await program('cat', [at('up')]);
    child?.kill('SIGINT');
    expect((await ended).code).toBe(130);
    expect(lives(stdout.trim())).toBe(false);
  });

  it('by which it can not end anything, SIGKILL, leaves nobody behind either', async () => {
    const { at, cwd, env } = tree(['a']);
    for (const name of ['b', 'c']) writeFileSync(at('s', name), Buffer.alloc(4_000_000, name));
    let child: ChildProcess | undefined;
    const ended = run(['dsync', '-n', '2', '--bwlimit', '2', 's', 'd'], {
      cwd,
      env: env(),
      onStart: (started) => {
        child = started;
      },
    });
    onTestFinished(() => void child?.kill('SIGKILL'));
    await expect.poll(() => processesIn(at('s')), { timeout: 30_000 }).not.toEqual([]);
    child?.kill('SIGKILL');
    expect((await ended).code).toBe(null);
    // They end when they have something to say, and nobody hears it.
    await expect.poll(() => processesIn(at('s')), { timeout: 60_000 }).toEqual([]);
  }, 120_000);

  it('a second one ends what would not', async () => {
    const { code, processes } = await stopped(
      'trap "" TERM INT HUP; sleep 100 & printf "%s\\n" $$ $! >"$UP"; while :; do wait; sleep 1; done',
      ['SIGINT', 'SIGINT'],
    );
    expect(code).toBe(130);
    expect(processes.filter(lives)).toEqual([]);
  });
});

describe.runIf(RCLONE)('rclone', () => {
  it('brings all regular files, whatever their names, and says what it can not', async () => {
    const { at, dsync } = tree();
    writeFileSync(at('s/sub/q‛x'), 'x');
    const { code, stderr } = await dsync('-n', '3', '--cloud', 's', at('d'));
    expect(code).toBe(23);
    expect(stderr).toContain(
      `dsync: rclone ${at('s/sub/q‛x')}: rclone can not be told a name with the character U+201B\n`,
    );
    expect(stderr).toMatch(/\nskipped: \d+ not-a-file\n/);
    const files = (where: string) =>
      execFileSync('find', ['.', '-type', 'f', '!', '-name', 'q*', '-print0'], { cwd: at(where) })
        .toString('latin1')
        .split('\0')
        .sort();
    expect(files('d')).toEqual(files('s'));
    rmSync(at('s/sub/q‛x'));
    const again = await dsync('-n', '3', '--cloud', 's', at('d'));
    expect([again.code, again.stderr]).toEqual([0, expect.stringMatching(/^goes on with job .*\n0 files copied/)]);
    expect(readdirSync(at('d')).filter((name) => name.startsWith('.dsync'))).toEqual([]);
  });

  it('rclone#1196: a part without a name that it can be given copies nothing', async () => {
    const { cwd, at, dsync } = tree(['a']);
    mkdirSync(at('t'));
    for (const name of ['q‛x', 'plain']) writeFileSync(at('t', name), name);
    for (const way of [[], ['--no-fpart']]) {
      const { code, stderr } = await dsync('-n', '2', '--cloud', ...way, 't', at('to'));
      expect([code, readdirSync(at('to'))]).toEqual([23, ['plain']]);
      expect(stderr).toContain('INCOMPLETE: 1 of 2 entries failed');
    }
    expect(readdirSync(cwd).sort()).toEqual(['s', 't', 'to', 'w']);
  });

  it('--no-fpart brings whole directories, hidden ones too', async () => {
    const { at, dsync } = tree();
    mkdirSync(at('s/.hide'));
    writeFileSync(at('s/.hide/in'), 'in');
    const { code } = await dsync('-n', '4', '--cloud', '--no-fpart', 's', at('d'));
    expect(code).toBe(0);
    expect(execFileSync('rsync', ['-rni', '--checksum', `${at('s')}/`, `${at('d')}/`]).toString()).not.toMatch(/^>f/m);
  });

  it('its configuration is honoured, the write test is waited for, and no stray directory is made', async () => {
    const { at, cwd, dsync } = tree(['a']);
    writeFileSync(at('my conf'), `[there]\ntype = alias\nremote = ${at('store')}\n`);
    const conf = ['--cloud', '--rclone-config', at('my conf')];
    expect((await dsync('-n', '2', ...conf, 's', 'there:bucket/in')).code).toBe(0);
    expect(readFileSync(at('store/bucket/in/sub/a'), 'utf8')).toBe('in sub/a');
    expect(readdirSync(cwd).filter((name) => name.includes(':'))).toEqual([]);
    // Without it there is no such place, and nothing is begun.
    const none = await dsync('-n', '2', '--cloud', 's', 'there:bucket/in');
    expect([none.code, none.stderr]).toEqual([
      2,
      expect.stringContaining("dsync: rclone can't write to there:bucket/in: "),
    ]);
    writeFileSync(at('a file'), '');
    const unwritable = await dsync('-n', '2', '--cloud', 's', at('a file/x'));
    expect([unwritable.code, existsSync(at('w', 'logs', 'x'))]).toEqual([2, false]);
    const absent = await dsync('-n', '2', '--cloud', '--rclone-config', 'absent', 's', 'there:x');
    expect([absent.code, absent.stderr]).toEqual([2, expect.stringContaining("--rclone-config can't be read")]);
  });

  it.each([
    ['webdav', ['type = webdav', 'vendor = other']],
    ['s3', ['type = s3', 'provider = Rclone', 'access_key_id = key', 'secret_access_key = secret']],
  ])('brings the same over the network, to a store of %s', async (protocol, settings) => {
    const about = spawnSync('rclone', ['serve', protocol, '--help']).stdout.toString();
    if (!about.includes(`rclone serve ${protocol} `)) return console.log(`skip: this rclone serves no ${protocol}`);
    const { at, cwd, env } = tree();
    mkdirSync(at('store/bucket'), { recursive: true });
    const keys = protocol === 's3' ? ['--auth-key', 'key,secret'] : [];
    const server = spawn('rclone', ['serve', protocol, '-v', '--addr', '127.0.0.1:0', ...keys, at('store')], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, ...env(), AWS_CA_BUNDLE: undefined },
    });
    try {
      const url = await new Promise<string>((resolve, reject) => {
        let said = '';
        server.stderr.on('data', (chunk: Buffer) => {
          said += chunk.toString();
          const [found] = /http:\/\/127\.0\.0\.1:\d+/.exec(said) ?? [];
          if (found) resolve(found);
        });
        server.on('exit', () => reject(new Error(said)));
      });
      const where = protocol === 's3' ? `endpoint = ${url}` : `url = ${url}`;
      writeFileSync(at('conf'), ['[there]', ...settings, where, ''].join('\n'));
      const args = ['dsync', '-n', '3', '--cloud', '--rclone-config', at('conf'), 's', 'there:bucket/in'];
      const { code, stderr } = await run(args, { cwd, env: { ...env(), AWS_CA_BUNDLE: '' } });
      expect([code, stderr]).toEqual([0, expect.stringMatching(/\ncomplete: /)]);
      const files = (where: string) =>
        Number(execFileSync('sh', ['-c', 'find . -type f -printf x | wc -c'], { cwd: at(where) }));
      expect(files('store/bucket/in')).toBe(files('s'));
      expect(readFileSync(at('store/bucket/in/sub/a b'), 'utf8')).toBe('in sub/a b');
      const again = await run(args, { cwd, env: { ...env(), AWS_CA_BUNDLE: '' } });
      expect([again.code, again.stderr]).toEqual([0, expect.stringMatching(/\ncomplete: /)]);
    } finally {
      server.kill('SIGKILL');
    }
  });

  it('brings the same to S3, and finds there what is missing', async () => {
    const store = await s3({ checks: 'hash', bucket: 'bucket' });
    const { at, cwd, env } = tree(['a', 'a b', 'é', "it's", '$HOME', '#hash', '.hidden']);
    writeFileSync(
      at('conf'),
      [
        ...['[there]', 'type = s3', 'provider = Other', `access_key_id = ${KEY}`, `secret_access_key = ${SECRET}`],
        ...[
          `endpoint = ${store.endpoint}`,
          'region = us-east-1',
          'force_path_style = true',
          'no_check_bucket = true',
          '',
        ],
      ].join('\n'),
    );
    const args = ['dsync', '-n', '3', '--cloud', '--rclone-config', at('conf'), 's', 'there:bucket/in'];
    const dsync = () => run(args, { cwd, env: { ...env(), AWS_CA_BUNDLE: '' } });
    const first = await dsync();
    expect([first.code, first.stderr]).toEqual([0, expect.stringMatching(/\ncomplete: /)]);
    const files = Number(execFileSync('sh', ['-c', 'find . -type f -printf x | wc -c'], { cwd: at('s') }));
    expect(store.keys.filter((key) => key.startsWith('in/'))).toHaveLength(files);
    const again = await dsync();
    expect([again.code, again.stderr]).toEqual([0, expect.stringMatching(/^0 files copied[\s\S]*\ncomplete: /)]);
  });

  it('a dry run makes nothing', async () => {
    const { at, cwd, env } = tree(['a']);
    const { code, stdout } = await run(['dsync', '-n', '2', '--cloud', '--dry-run', 's', at('d')], { cwd, env: env() });
    expect([code, stdout]).toEqual([0, expect.stringContaining('sub/a\n')]);
    expect(readdirSync(cwd)).toEqual(['s']);
  });

  it('what vanishes meanwhile, of which rclone says nothing, is named', async () => {
    const { at, cwd, env } = tree(['a', 'b']);
    const PATH = standIn(at('bin'), 'rclone', `[ "$1" = copy ] && rm -f '${at('s/sub/b')}'\nexec "$real" "$@"`);
    const { code, stderr } = await run(['dsync', '-n', '2', '--cloud', 's', at('d')], { cwd, env: env({ PATH }) });
    expect([code, stderr]).toEqual([24, expect.stringContaining(`dsync: rclone ${at('s/sub/b')}: it vanished\n`)]);
  });

  it('a file that can not come is tried once more, and named', async () => {
    const { at, dsync } = tree(['a', 'b']);
    mkdirSync(at('d/sub/a/full'), { recursive: true });
    const { code, stderr } = await dsync('-n', '2', '--cloud', 's', at('d'));
    expect([code, stderr]).toEqual([23, expect.stringContaining(`dsync: rclone ${at('s/sub/a')}: `)]);
    expect(stderr).toContain('INCOMPLETE: 1 of ');
  });

  it('runs on hosts', async () => {
    const { at, dsync, lines } = withHosts();
    writeFileSync(at('conf'), `[there]\ntype = alias\nremote = ${at('store')}\n`);
    const args = ['--cloud', '--rclone-config', at('conf'), '--source-hosts', 'hosts'];
    expect((await dsync('-n', '3', ...args, 's', 'there:x y')).code).toBe(0);
    expect(readFileSync(at('store/x y/sub/new\nline'), 'utf8')).toBe('in sub/new\nline');
    expect(new Set(lines('ran'))).toEqual(new Set(['a', 'b', 'user@c']));
  });
});

describe('the command line', () => {
  const env = { HOME: '/home/me' };

  it('means what it meant', () => {
    expect(parseCall(['-n', '8', '/s/', '/d'], env)).toMatchObject({
      ...{ tool: 'rsync', parts: 8, jobs: 8, source: '/s/', destination: '/d' },
      ...{ workingDirectory: '/home/me/dsync_working', logDirectory: '/home/me/dsync_working/logs' },
    });
    const all = [
      '--number=4',
      '--cloud',
      '--rclone-config',
      'c',
      '--working-dir',
      '~/w/',
      '--reuse',
      '--no-fpart',
      '/s',
      'r:b/x',
    ];
    expect(parseCall(all, env)).toMatchObject({
      ...{ tool: 'rclone', parts: 4, destination: 'r:b/x', workingDirectory: '/home/me/w/' },
    });
  });

  it.each([
    [[], 'the following arguments are required: -n/--number, SRC, DST'],
    [['-n', '2', '/s'], 'the following arguments are required: DST'],
    [['/s', '/d'], 'the following arguments are required: -n/--number'],
    [['-n', '0', '/s', '/d'], 'argument -n/--number: 0 is not a number from 1 to 10000'],
    [['-n', 'x', '/s', '/d'], "argument -n/--number: 'x' is not a whole number"],
    [['-n', '2', '/s', ''], 'argument DST: it is empty'],
    [['-n', '2', '/s', '/d', '/e'], 'unrecognized arguments: /e'],
    [['-n', '2', '--rclone-config', 'x', '/s', '/d'], 'argument --rclone-config: it goes with --cloud'],
    [['-n', '2', '--cloud', '--destination-hosts', 'h', '/s', 'd:'], 'argument --destination-hosts: it is for rsync'],
    [
      ['-n', '2', '--cloud', '--copy-with', 'rsync', '/s', 'd:'],
      'argument --cloud: it copies with rclone, not with rsync',
    ],
    [
      ['-n', '2', '--no-fpart', '--copy-with', 'bulkhaul', '/s', '/d'],
      'argument --no-fpart: bulkhaul copies lists, not trees',
    ],
  ])('%j is refused', (args, why) => expect(() => parseCall(args, env)).toThrow(new UsageError(why)));

  it.each([
    ['host:x', 'names another host'],
    ['s3://bucket', 'is a URL'],
  ])('SRC %s is refused', async (source, why) => {
    const { code, stderr } = await run(['dsync', '-n', '2', source, '/d'], { cwd: scratch() });
    expect([code, stderr]).toEqual([2, expect.stringContaining(why)]);
  });

  it('documents each flag, in the help and in docs/dropin.md', () => {
    const help = helpText(80);
    const docs = readFileSync(new URL('../../../docs/dropin.md', import.meta.url), 'utf8');
    const section = /^## dsync\n[\s\S]*?(?=^## |(?![\s\S]))/m.exec(docs)?.[0] ?? '';
    for (const flag of Object.values<Flag>(FLAGS)) {
      expect(help).toContain(flag.names.at(-1));
      expect(section).toContain(`| ${flag.names.map((name) => `\`${name}\``).join(' ')} |`);
    }
    expect(originalFlags()).toHaveLength(11);
    for (const line of help.split('\n')) expect(line.length).toBeLessThanOrEqual(80);
  });
});
