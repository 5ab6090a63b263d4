/** `compress_files`: its flags, matching, lines and codes, and what the original loses. */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { FLAGS, originalFlags } from '../../src/cli/dropin/compress_files/flags.js';
import { helpText } from '../../src/cli/dropin/compress_files/help.js';
import { jsonLines, run, scratch } from '../rig.js';

const TEXT = 'a\tb\tc\n'.repeat(5000);

function tree(files: Record<string, string | Buffer> = { 'r/a.tsv': TEXT, 'r/sub/b.clusters': TEXT, 'r/c.txt': TEXT }) {
  const cwd = scratch();
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(cwd, name)), { recursive: true });
    writeFileSync(join(cwd, name), content);
  }
  const compress = (...args: string[]) => run(['compress_files', '-r', 'r', ...args], { cwd });
  const names = () =>
    readdirSync(join(cwd, 'r'), { recursive: true })
      .map(String)
      .filter((name) => statSync(join(cwd, 'r', name), { throwIfNoEntry: false })?.isDirectory() !== true)
      .sort();
  const content = (name: string) => gunzipSync(readFileSync(join(cwd, 'r', name))).toString();
  return { cwd, compress, names, content };
}

describe('files by extension', () => {
  it('become archives that gzip reads, and stay without --remove', async () => {
    const { cwd, compress, names, content } = tree();
    const { code, stderr } = await compress();
    expect(code, stderr).toBe(0);
    expect(stderr).toMatch(/^OK {3}r\/a\.tsv -> r\/a\.tsv\.gz$/m);
    expect(stderr).toMatch(/^OK {3}r\/sub\/b\.clusters -> r\/sub\/b\.clusters\.gz$/m);
    expect(names()).toEqual(['a.tsv', 'a.tsv.gz', 'c.txt', 'sub/b.clusters', 'sub/b.clusters.gz']);
    expect(content('a.tsv.gz')).toBe(TEXT);
    execFileSync('gzip', ['-t', join(cwd, 'r/a.tsv.gz'), join(cwd, 'r/sub/b.clusters.gz')]);
  });

  it('go with --remove, for what is proved', async () => {
    const { compress, names, content } = tree();
    const { code, stderr } = await compress('--remove', '--pigz', '--pigz-threads', '2', '--workers', '2', '--verify');
    expect(code).toBe(0);
    expect(names()).toEqual(['a.tsv.gz', 'c.txt', 'sub/b.clusters.gz']);
    expect(content('sub/b.clusters.gz')).toBe(TEXT);
    expect(stderr).toMatch(/verified: 2 files/);
  });

  it('are matched in any case, with a dot or without, and of several parts', async () => {
    const { compress, names } = tree({ 'r/a.TSV': TEXT, 'r/b.tar.foo': TEXT, 'r/c.foo': TEXT, 'r/tsv': TEXT });
    expect((await compress('--ext', '.tsv', 'tar.foo', '--remove')).code).toBe(0);
    expect(names()).toEqual(['a.TSV.gz', 'b.tar.foo.gz', 'c.foo', 'tsv']);
  });

  it('become xz where that is asked for', async ({ skip }) => {
    if (spawnSync('xz', ['--version']).error) return skip();
    const { cwd, compress } = tree();
    expect((await compress('--algo', 'xz', '--level', '1', '--remove')).code).toBe(0);
    expect(String(execFileSync('xz', ['-dc', join(cwd, 'r/a.tsv.xz')]))).toBe(TEXT);
  });

  it('are only listed by a dry run', async () => {
    const { compress, names } = tree();
    const { code, stdout, stderr } = await compress('--dry-run', '--remove');
    expect({ code, stdout }).toEqual({ code: 0, stdout: '' });
    expect(stderr).toMatch(/^DRY {2}r\/a\.tsv -> r\/a\.tsv\.gz$/m);
    expect(names()).toEqual(['a.tsv', 'c.txt', 'sub/b.clusters']);
  });
});

describe('what the original does otherwise', () => {
  it('an archive that exists is compared: the same lets the file go, another is a conflict', async () => {
    const { compress, names, content } = tree({
      'r/same.tsv': TEXT,
      'r/same.tsv.gz': gzipSync(TEXT),
      'r/stale.tsv': TEXT,
      'r/stale.tsv.gz': gzipSync('old'),
    });
    const kept = await compress();
    expect(kept.stderr).toMatch(/^SKIP r\/same\.tsv: destination exists, with the same content$/m);
    expect(kept.stderr).toMatch(/^ERROR .*stale\.tsv\.gz.*both stay/m);
    expect(kept.code).toBe(1);
    expect((await compress('--remove')).code).toBe(1);
    expect(names()).toEqual(['same.tsv.gz', 'stale.tsv', 'stale.tsv.gz']);
    expect(content('stale.tsv.gz')).toBe('old');
  });

  it('archives have mode and time of the file, and nothing of when and where they were made', async () => {
    const { cwd, compress } = tree();
    chmodSync(join(cwd, 'r/a.tsv'), 0o600);
    utimesSync(join(cwd, 'r/a.tsv'), 1e9, 1e9);
    await compress();
    const { mode, mtimeMs } = statSync(join(cwd, 'r/a.tsv.gz'));
    expect([mode & 0o777, mtimeMs]).toEqual([0o600, 1e12]);
    const first = readFileSync(join(cwd, 'r/a.tsv.gz'));
    const other = tree();
    await other.compress('--workers', '1');
    expect(readFileSync(join(other.cwd, 'r/a.tsv.gz'))).toEqual(first);
  });

  it('links and files with several names are left alone, and that is said', async () => {
    const { cwd, compress, names } = tree({ 'r/a.tsv': TEXT, 'r/b.tsv': TEXT });
    symlinkSync('b.tsv', join(cwd, 'r/link.tsv'));
    linkSync(join(cwd, 'r/a.tsv'), join(cwd, 'r/other.tsv'));
    const { code, stderr } = await compress('--remove');
    expect(code).toBe(0);
    expect(stderr).toMatch(/^SKIP r\/a\.tsv: it has several names/m);
    expect(stderr).toMatch(/^WARN a symlink is left alone/m);
    expect(names()).toEqual(['a.tsv', 'b.tsv.gz', 'link.tsv', 'other.tsv']);
  });

  it('a failure is an exit code, and leaves nothing unfinished', async ({ skip }) => {
    if (process.getuid?.() !== 0) return skip();
    const { cwd, compress, names } = tree();
    mkdirSync(join(cwd, 'r/a.tsv.gz'));
    const { code, stderr } = await compress('--remove');
    expect(code).toBe(1);
    expect(stderr).toMatch(/^ERROR /m);
    expect(names()).toEqual(['a.tsv', 'c.txt', 'sub/b.clusters.gz']);
    expect(existsSync(join(cwd, 'r/sub/b.clusters'))).toBe(false);
  });

  it.each([
    [['--level', '99'], 'argument --level: 99 is not from 1 to 12, as gzip has it'],
    [['--level', '0'], 'argument --level: 0 is not from 1 to 12'],
    [['--level', '10', '--algo', 'xz'], 'argument --level: 10 is not from 0 to 9, as xz has it'],
    [['--algo', 'zip'], "argument --algo: 'zip' is none of gzip, xz"],
    [['--workers', '0'], 'argument --workers: 0 is less than 1'],
    [['--ext'], 'argument --ext: expected at least one argument'],
    [['--ext', '.'], 'argument --ext: it is empty'],
    [['x'], 'unrecognized arguments: x'],
  ])('%j is refused before any work', async (args, said) => {
    const { compress, names } = tree();
    const { code, stderr } = await compress(...args);
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining(`compress_files: error: ${said}`) });
    expect(names()).toHaveLength(3);
  });

  it('a root that does not exist is 2', async () => {
    const { code, stderr } = await run(['compress_files', '-r', '/no/such']);
    expect([code, stderr]).toEqual([2, 'ERROR root directory does not exist: /no/such\n']);
    expect((await run(['compress_files'])).stderr).toContain('the following arguments are required: -r/--root');
  });
});

describe('the command line', () => {
  it('says only what is wrong with --quiet, and tells events with --json', async () => {
    const { compress } = tree();
    expect(await compress('-q')).toEqual({ code: 0, stdout: '', stderr: '' });
    const { stdout, code } = await compress('--remove', '--json');
    const lines = jsonLines(stdout);
    expect(lines.filter(({ outcome }) => outcome === 'removed')).toHaveLength(2);
    expect([code, lines.at(-1)]).toMatchObject([0, { type: 'summary', exitCode: 0 }]);
  });

  it('follows a root that is a link', async () => {
    const { cwd, names } = tree();
    symlinkSync('r', join(cwd, 'link'));
    const { code, stderr } = await run(['compress_files', '-r', 'link', '--remove'], { cwd });
    expect([code, stderr]).toEqual([0, expect.stringMatching(/^OK {3}link\/a\.tsv -> link\/a\.tsv\.gz$/m)]);
    expect(names()).toEqual(['a.tsv.gz', 'c.txt', 'sub/b.clusters.gz']);
  });

  it('help has every flag, and the documentation a row for each of the original', () => {
    const page = helpText(100);
    for (const { names } of Object.values(FLAGS)) for (const name of names) expect(page).toContain(name);
    const all = readFileSync(new URL('../../../docs/dropin.md', import.meta.url), 'utf8');
    const section = all.split('\n## ').find((each) => each.startsWith('compress_files\n')) ?? '';
    const documented = section.split('\n').flatMap((row) => /^\| ((?:`-[^`]+` ?)+)\|/.exec(row)?.[1]?.trim() ?? []);
    const spelled = originalFlags().map(({ names }) => names.map((name) => `\`${name}\``).join(' '));
    expect(documented.sort()).toEqual(spelled.sort());
  });
});
