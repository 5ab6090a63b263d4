/** `bulkhaul move` and `move()`: renames within a file system, proved copies between two, nothing replaced, and going on. */
import { spawn } from 'node:child_process';
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { jobs, move, resume } from '../src/index.js';
import { fromBytes, toBytes } from '../src/names.js';
import { executable, jsonLines, run, scratch } from './rig.js';

function put(root: string, files: Record<string, string>): void {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), content);
  }
}

/** Names below a directory, sorted. */
const names = (root: string, directory: string) =>
  readdirSync(join(root, directory), { recursive: true }).map(String).sort();

/** Another file system than that of `scratch()`, or undefined. */
function elsewhere(): string | undefined {
  const base = '/dev/shm';
  const here = scratch();
  if (!existsSync(base) || lstatSync(base).dev === lstatSync(here).dev) return undefined;
  const path = join(base, `bulkhaul-test-move-${process.pid}-${Math.random().toString(36).slice(2)}`);
  mkdirSync(path);
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

describe('within one file system', () => {
  it('renames a tree as a whole, and says so', async () => {
    const root = scratch();
    put(root, { 's/a': '1', 's/sub/b': '2' });
    mkdirSync(join(root, 'd'));
    const inode = lstatSync(join(root, 's/sub/b')).ino;
    const dry = await run(['move', '-n', 's', 'd'], { cwd: root });
    expect(dry).toMatchObject({ code: 0, stdout: 'md+++++++++ s/\n' });
    expect(dry.stderr).toContain(
      '1 entry would be renamed within the file system, 1 directory of them with all that is in it\n',
    );
    expect(names(root, 's')).toEqual(['a', 'sub', 'sub/b']);
    const moved = await run(['move', '-v', 's', 'd'], { cwd: root });
    expect(moved).toMatchObject({ code: 0, stdout: 'md+++++++++ s/\n' });
    expect(moved.stderr).toContain('1 entry renamed within the file system');
    expect(lstatSync(join(root, 'd/s/sub/b')).ino).toBe(inode);
    expect(existsSync(join(root, 's'))).toBe(false);
  });

  it('merges entry by entry, replaces nothing, and removes what is empty then, and only that', async () => {
    const root = scratch();
    put(root, { 's/free': '1', 's/sub/free': '2', 's/sub/taken': 'source', 's/same': 'x', 's/gone/deep': '3' });
    put(root, { 'd/sub/taken': 'other!', 'd/same': 'x', 'd/gone/own': 'y' });
    utimesSync(join(root, 's/sub'), 1_000_000_000, 1_000_000_000);
    utimesSync(join(root, 's/gone'), 1_000_000_000, 1_000_000_000);
    const moved = await run(['move', '--json', '-v', 's/', 'd'], { cwd: root });
    expect(moved.code).toBe(23);
    const lines = jsonLines(moved.stdout);
    expect(lines.filter((line) => line.outcome === 'renamed').map((line) => line.path)).toEqual(
      expect.arrayContaining(['free', 'sub/free', 'gone/deep']),
    );
    expect(lines.find((line) => line.type === 'error')).toMatchObject({ kind: 'conflict', path: 'd/sub/taken' });
    expect(names(root, 's')).toEqual(['sub', 'sub/taken']);
    expect(names(root, 'd')).toEqual(['free', 'gone', 'gone/deep', 'gone/own', 'same', 'sub', 'sub/free', 'sub/taken']);
    expect(readFileSync(join(root, 'd/sub/taken'), 'utf8')).toBe('other!');
    for (const name of ['d/sub', 'd/gone', 's/sub']) expect(lstatSync(join(root, name)).mtimeMs).toBe(1e12);
  });

  it('takes names as bytes, links as links, and one entry under a new name', async () => {
    const root = scratch();
    const odd = [Buffer.from('\xff\n', 'latin1'), Buffer.from('-rf *')];
    mkdirSync(join(root, 's'));
    mkdirSync(join(root, 'd'));
    for (const name of odd) writeFileSync(toBytes(join(root, 's', fromBytes(name))), name);
    linkSync(toBytes(join(root, 's', fromBytes(odd[0] ?? Buffer.of()))), join(root, 's/other'));
    symlinkSync('nowhere', join(root, 's/link'));
    expect((await run(['move', 's/', 'd'], { cwd: root })).code).toBe(0);
    const there = readdirSync(join(root, 'd'), { encoding: 'buffer' }).map((name) => name.toString('latin1'));
    expect(there.sort()).toEqual(['-rf *', 'link', 'other', '\xff\n'].sort());
    expect(lstatSync(join(root, 'd/other')).nlink).toBe(2);
    expect((await run(['move', 'd/other', 'd/new name'], { cwd: root })).code).toBe(0);
    expect(names(root, 'd')).toContain('new name');
  });

  it('leaves what a rule names, with the directories that hold it', async () => {
    const root = scratch();
    put(root, { 's/a': '1', 's/sub/b.part': '2', 's/sub/c': '3' });
    expect((await run(['move', '--exclude', '*.part', 's', 'd'], { cwd: root })).code).toBe(0);
    expect(names(root, 's')).toEqual(['sub', 'sub/b.part']);
    expect(names(root, 'd')).toEqual(['s', 's/a', 's/sub', 's/sub/c']);
  });
});

describe('between file systems', () => {
  it('copies, proves, removes, and goes on where it was killed', async ({ skip }) => {
    const [root, to] = [scratch(), elsewhere()];
    if (to === undefined) return skip();
    const files = Object.fromEntries(Array.from({ length: 300 }, (_, n) => [`s/${n % 7}/${n}`, `${n}`.repeat(500)]));
    put(root, files);
    const state = join(root, 'state');
    const child = spawn(
      process.execPath,
      [executable, 'move', '--state-dir', state, '--journal', '--iops-limit', '200', '-v', 's', to],
      { cwd: root, stdio: ['ignore', 'pipe', 'ignore'] },
    );
    // Some entries have arrived by then.
    child.stdout.once('data', () => child.kill('SIGKILL'));
    await new Promise((ended) => child.once('close', ended));
    const [job] = await jobs(state);
    expect(job).toMatchObject({ operation: 'move', state: 'interrupted' });
    for (const [name, content] of Object.entries(files)) {
      const places = [join(root, name), join(to, name)].filter((path) => existsSync(path));
      expect(places.map((path) => readFileSync(path, 'utf8'))).toContain(content);
    }
    const report = await resume(job?.id ?? '', { journal: { directory: state } });
    expect(report).toMatchObject({ complete: true, keptSources: 0 });
    expect(existsSync(join(root, 's'))).toBe(false);
    expect(names(to, 's')).toHaveLength(307);
    expect((await jobs(state))[0]).toMatchObject({ state: 'done' });
  });

  it('replaces nothing there either, and takes a part of a tree that is mounted elsewhere along', async ({ skip }) => {
    const [root, to] = [scratch(), elsewhere()];
    if (to === undefined) return skip();
    put(root, { 's/a': 'new', 's/b': 'x' });
    put(to, { a: 'old' });
    const report = await move({ sources: join(root, 's/'), destination: to });
    expect(report).toMatchObject({ complete: false, exitCode: 23, removedSources: 1, keptSources: 2 });
    expect(report.failureKinds).toEqual({ conflict: 1 });
    expect([names(root, 's'), readFileSync(join(to, 'a'), 'utf8')]).toEqual([['a'], 'old']);
  });
});

it.each([
  [['move', 's', 's/sub'], 3, 'overlap'],
  [['move', 'none', 'd'], 23, 'none: stat: No such file or directory'],
  [['move', 's'], 2, 'move takes SRC… DEST'],
  [['move', '-f', 's', 'd'], 2, 'nothing is replaced'],
  [['move', 'host:s', 'd'], 2, 'rsync -aHAX --remove-source-files'],
  [['move', '--delete', 's', 'd'], 2, 'move has no option --delete'],
])('%j is refused', async (args, code, said) => {
  const root = scratch();
  put(root, { 's/sub/a': '1' });
  const refused = await run(args, { cwd: root });
  expect(refused).toMatchObject({ code, stderr: expect.stringContaining(said) });
  expect(names(root, 's')).toEqual(['sub', 'sub/a']);
});
