/** `bulkhaul migrate` and `migrate()`: archives in the place of files, in the one pass of a copy, and what the next run makes of them. */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { jobs, type MigrateOptions, migrate, resume } from '../src/index.js';
import { executable, jsonLines, program, run, scratch } from './rig.js';

const TEXT = 'a line of a table\t1\t2\n'.repeat(20_000);

function put(root: string, files: Record<string, string>): void {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), content);
    utimesSync(join(root, name), 1_500_000_000, 1_500_000_000);
  }
}

/** Names below a directory, sorted. */
const names = (root: string, directory: string) =>
  readdirSync(join(root, directory), { recursive: true }).map(String).sort();

function world(): string {
  const root = scratch();
  put(root, { 's/a.tsv': TEXT, 's/sub/B.TSV': `${TEXT}more`, 's/other.txt': 'other' });
  return root;
}

describe('bulkhaul migrate', () => {
  it('copies, compresses what was named, and says so', async () => {
    const root = world();
    const dry = await run(['migrate', '-n', '--ext', 'tsv', 's/', 'd'], { cwd: root });
    expect(dry).toMatchObject({ code: 0, stdout: expect.stringContaining('>f+++++++++ sub/B.TSV.gz\n') });
    expect(dry.stderr).toContain('2 files of them would be compressed, 859 KiB\n');
    expect(existsSync(join(root, 'd'))).toBe(false);
    const done = await run(['migrate', '-v', '--verify', '--ext', 'tsv', 's/', 'd'], { cwd: root });
    expect(done).toMatchObject({ code: 0, stdout: expect.stringContaining('>f+++++++++ a.tsv.gz\n') });
    expect(done.stderr).toMatch(/^2 files of them compressed, 859 KiB to \d.*\(ratio \d+\.\d\d, .* saved\)$/m);
    expect(done.stderr).toContain('verified: 3 files');
    expect(names(root, 'd')).toEqual(['a.tsv.gz', 'other.txt', 'sub', 'sub/B.TSV.gz']);
    expect(gunzipSync(readFileSync(join(root, 'd/sub/B.TSV.gz'))).toString()).toBe(`${TEXT}more`);
    expect(statSync(join(root, 'd/a.tsv.gz')).mtimeMs).toBe(1_500_000_000_000);
    // Once more there is nothing to do, with --delete nothing to remove.
    const again = await run(['migrate', '-v', '--delete', '--ext', 'tsv', 's/', 'd'], { cwd: root });
    expect(again).toMatchObject({ code: 0, stdout: '' });
    expect(again.stderr).toContain('0 files copied');
    expect(names(root, 'd')).toEqual(['a.tsv.gz', 'other.txt', 'sub', 'sub/B.TSV.gz']);
  });

  it('what follows an extension is never another destination without a word', async () => {
    const root = world();
    mkdirSync(join(root, 'd'));
    const many = await run(['migrate', 's', 'd', '--ext', 'tsv', 'csv'], { cwd: root });
    expect(many).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/csv comes after --ext.*--ext tsv,csv;.*--ext tsv before SRC/),
    });
    expect([names(root, '.').filter((name) => !name.includes('/')), names(root, 'd')]).toEqual([['d', 's'], []]);
    // One that is there can be nothing else, nor the second operand.
    for (const args of [
      ['s', 's/sub', '--ext', 'tsv', 'd'],
      ['s/sub', '--ext', 'tsv', 'new'],
    ]) {
      expect(await run(['migrate', ...args], { cwd: root })).toMatchObject({ code: 0 });
    }
    expect(names(root, 'd')).toEqual(expect.arrayContaining(['s/a.tsv.gz', 'sub/B.TSV.gz']));
    expect(names(root, 'new').some((name) => name.endsWith('B.TSV.gz'))).toBe(true);
  });

  it('takes no name of another entry, and no archive by its name', async () => {
    const root = world();
    put(root, { 's/sub/B.TSV.gz': 'mine', 'd/a.tsv.gz': 'something else' });
    const done = await run(['migrate', '--json', '--ext', 'tsv', 's/', 'd'], { cwd: root });
    expect(done.code).toBe(23);
    expect(jsonLines(done.stdout).find((line) => line.type === 'error')).toMatchObject({
      kind: 'conflict',
      path: 's/sub/B.TSV',
      message: expect.stringContaining('another entry of the source has the name of its archive'),
    });
    expect(readFileSync(join(root, 'd/sub/B.TSV.gz'), 'utf8')).toBe('mine');
    expect(gunzipSync(readFileSync(join(root, 'd/a.tsv.gz'))).toString()).toBe(TEXT);
  });

  it('writes down what went in, and what is there now', async () => {
    const root = world();
    const words = ['--ext', 'tsv', '--index', '--manifest', 'in.b3', '--stored-manifest', 'there.b3', 's/', 'd'];
    expect((await run(['migrate', ...words], { cwd: root })).code).toBe(0);
    for (const [manifest, directory] of [
      ['in.b3', 's'],
      ['there.b3', 'd'],
    ] as const) {
      const verified = await run(['verify', '--in', directory, '--no-extra', manifest], { cwd: root });
      expect(verified, manifest).toMatchObject({ code: 0, stderr: expect.stringContaining('3 files') });
    }
    expect(names(root, 'd')).toContain('a.tsv.gz.gzi');
  });

  it('goes on with what was interrupted', async () => {
    const root = scratch();
    put(
      root,
      Object.fromEntries(Array.from({ length: 300 }, (_, at) => [`s/${at}.tsv`, `${at} ${TEXT.slice(0, 4000)}`])),
    );
    const state = join(root, 'state');
    const words = [
      'migrate',
      '--state-dir',
      state,
      '--journal',
      '--iops-limit',
      '200',
      '-v',
      '--ext',
      'tsv',
      's/',
      'd',
    ];
    const child = spawn(process.execPath, [executable, ...words], { cwd: root, stdio: ['ignore', 'pipe', 'ignore'] });
    const ended = new Promise<number | null>((resolve) => child.on('exit', resolve));
    child.stdout.once('data', () => child.kill('SIGINT'));
    expect(await ended).toBe(130);
    const [job] = await jobs(state);
    expect(job).toMatchObject({ operation: 'migrate', state: 'interrupted' });
    const report = await resume(job?.id ?? '', { journal: { directory: state }, limits: {} });
    expect([report.complete, report.outcomes.copied > 0]).toEqual([true, true]);
    expect(names(root, 'd')).toEqual(Array.from({ length: 300 }, (_, at) => `${at}.tsv.gz`).sort());
    expect((await program('sh', ['-c', 'gzip -t d/*.gz'], { cwd: root })).code).toBe(0);
  });

  it.each([
    [['--format', 'xz', '--index', 's', 'd'], 2, '--index goes with --format bgzf'],
    [['--level', '13', 's', 'd'], 2, 'level 13 is not one of bgzf: 1 to 12'],
    [['--format', 'tar', 's', 'd'], 2, '--format: tar is none of bgzf, gzip, xz, zstd'],
    [['--ext', 'a/b', 's', 'd'], 2, "extensions: 'a/b' is none"],
    [['--max-delete', '5', 's', 'd'], 2, '--max-delete goes with --delete'],
    [['--verify-source', 's', 'd'], 2, '--verify-source goes with --verify'],
    [['--manifest-format', 'jsonl', 's', 'd'], 2, 'go with --manifest or --stored-manifest'],
    [['--move', 's', 'd'], 2, 'migrate has no option --move'],
    [['host:s', 'd'], 2, 'names another host'],
    [['s', 's/sub'], 3, 'overlap'],
    [['none', 'd'], 23, 'none: stat: No such file or directory'],
    [['s'], 2, 'migrate takes SRC… DEST'],
  ])('%j ends with %i', async (words, code, said) => {
    const root = world();
    const { stderr, ...ended } = await run(['migrate', ...words], { cwd: root });
    expect(ended).toMatchObject({ code, stdout: '' });
    expect(stderr).toContain(said);
    expect(existsSync(join(root, 'd'))).toBe(false);
  });
});

it('migrate() is the same', async () => {
  const root = world();
  const options: MigrateOptions = {
    ...{ sources: join(root, 's/'), destination: join(root, 'd') },
    ...{ extensions: ['tsv'], format: 'zstd' },
  };
  const { conversions, complete } = await migrate(options);
  expect({ complete, conversions }).toMatchObject({ complete: true, conversions: [{ extension: 'tsv', files: 2 }] });
  expect(names(root, 'd')).toContain('a.tsv.zst');
  expect((await migrate({ ...options, verify: true })).outcomes.copied).toBe(0);
});
