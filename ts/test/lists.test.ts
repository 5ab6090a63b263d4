import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { compare, list, listedSources } from '../src/index.js';
import { executable, jsonLines, program, run, scratch } from './rig.js';

function tree(): (...names: string[]) => string {
  const base = scratch();
  const at = (...names: string[]) => join(base, ...names);
  for (const side of ['a', 'b']) {
    mkdirSync(at(side, 'd'), { recursive: true });
    writeFileSync(at(side, 'd/file'), 'same\n');
    writeFileSync(at(side, 'x\ny'), 'same\n');
    symlinkSync('d', at(side, 'link'));
  }
  return at;
}

const A = 'a/\na/d/\na/d/file:a55655d2593af0d1\na/link:d\n\0a/x\\ny\0:a55655d2593af0d1\n';

describe('bulkhaul list', () => {
  it('prints the list, or writes it into a file', async () => {
    const at = tree();
    const cwd = at();
    const printed = await run(['list', 'a'], { cwd, env: { TMPDIR: cwd } });
    expect([printed.code, printed.stdout]).toEqual([0, A]);
    expect(printed.stderr).toMatch(/^5 entries listed, .*\ncomplete: 5 entries\n$/);
    expect(await run(['list', '-q', 'a'], { cwd })).toEqual({ code: 0, stdout: A, stderr: '' });
    const written = await run(['list', '-o', 'L', 'a'], { cwd });
    expect([written.code, readFileSync(at('L'), 'utf8'), written.stdout]).toEqual([0, A, '']);
    expect(written.stderr).toContain('5 entries listed');
    const names = await run(['list', '-0', '--exclude', 'd', 'a/'], { cwd });
    expect(names.stdout).toBe('.\0link\0x\ny\0');
    expect((await run(['list', '--no-hash', 'a/d'], { cwd })).stdout).toBe('d/\nd/file\n');
    expect((await run(['list', '--hash-size', '0', 'a/d/file'], { cwd })).stdout).toBe('file:\n');
    expect(readdirSync(cwd).sort()).toEqual(['L', 'a', 'b']);
  });

  it('--json has an entry with its facts for each', async () => {
    const at = tree();
    const { stdout } = await run(['list', '--json', 'a'], { cwd: at() });
    const entries = jsonLines(stdout).filter(({ type }) => type === 'entry');
    expect(entries.map(({ path }) => path)).toEqual(['a', 'a/d', 'a/d/file', 'a/link', 'a/x\ny']);
    expect(entries[2]).toMatchObject({ outcome: 'listed', hash: 'a55655d2593af0d1', size: 5, kind: 'file' });
    const exact = statSync(at('a/d/file'), { bigint: true }).mtimeNs;
    expect(entries[2]).toMatchObject({ mtimeNs: String(exact) });
  });

  it('exit 23 for what is not there, and leaves an older list', async () => {
    const at = tree();
    writeFileSync(at('L'), 'older');
    const { code, stderr } = await run(['list', '-o', 'L', 'nothing'], { cwd: at() });
    expect([code, stderr.split('\n').length]).toEqual([23, 2]);
    expect(readFileSync(at('L'), 'utf8')).toBe('older');
    expect((await run(['list', '-o', 'no/such/L', 'a'], { cwd: at() })).code).toBe(2);
    expect((await run(['compare', '-o', 'no/such/L', 'a', 'b'], { cwd: at() })).code).toBe(2);
    expect(readdirSync(at()).sort()).toEqual(['L', 'a', 'b']);
  });
});

describe('bulkhaul list -o', () => {
  it('keeps the mode of the list that it replaces', async () => {
    const at = tree();
    writeFileSync(at('L'), 'older', { mode: 0o600 });
    expect((await run(['list', '-o', 'L', 'a'], { cwd: at() })).code).toBe(0);
    expect([readFileSync(at('L'), 'utf8'), statSync(at('L')).mode & 0o7777]).toEqual([A, 0o600]);
  });
});

describe('bulkhaul compare', () => {
  it('counts, itemises, and fails unless it was asked not to', async () => {
    const at = tree();
    const cwd = at();
    const same = await run(['compare', '--content', 'a', 'b'], { cwd });
    expect([same.code, same.stdout]).toEqual([0, '']);
    expect(same.stderr).toContain('0 only in A, 0 only in B, 0 different');
    expect(same.stderr).toMatch(/\nthe same: nothing differs in names, kinds, sizes and whole contents\n$/);
    writeFileSync(at('b/d/file'), 'sama\n');
    writeFileSync(at('b/new'), '');
    chmodSync(at('b/x\ny'), 0o600);
    const other = await run(['compare', '-i', '-o', 'D', 'a', 'b'], { cwd });
    expect([other.code, other.stdout]).toEqual([1, '>fc........ d/file\n*deleting   new\n']);
    expect(readFileSync(at('D'), 'latin1')).toBe('d/file\nnew\n-\0d/file\n');
    expect(other.stderr).toContain('\ncompared: names, kinds, sizes and the last 64 KiB of files; ');
    expect(other.stderr).toMatch(/\nDIFFERENT: 0 only in A, 1 only in B, 1 different \(exit 1\)\n$/);
    const metadata = await run(['compare', '-i', '-m', '--exit-zero', 'a', 'b'], { cwd });
    expect(metadata.code).toBe(0);
    expect(metadata.stderr).toContain('sizes, the last 64 KiB of files and modes, owners and times; ');
    expect(metadata.stderr).toMatch(/\nDIFFERENT: 0 only in A, 1 only in B, \d different\n$/);
    expect(metadata.stdout).toContain('p..... x\\ny\n');
    const json = jsonLines((await run(['compare', '--json', 'a', 'b'], { cwd })).stdout);
    expect(json.filter(({ type }) => type === 'entry').map(({ path, changes }) => [path, changes])).toEqual([
      ['d/file', ['content']],
      ['new', ['extra']],
    ]);
    expect(json.at(-1)).toMatchObject({
      differences: { left: 0, right: 1, changed: 1 },
      complete: true,
      exitCode: 1,
    });
    const zero = await run(['compare', '--json', '--exit-zero', 'a', 'b'], { cwd });
    expect([zero.code, jsonLines(zero.stdout).at(-1)]).toMatchObject([0, { exitCode: 0 }]);
  });

  it('reads lists, whatever their root is called', async () => {
    const at = tree();
    const cwd = at();
    await run(['list', '-o', 'L', 'a'], { cwd });
    expect((await run(['compare', '--list-a', 'L', 'b'], { cwd })).code).toBe(0);
    await run(['list', '-o', 'M', '--no-hash', 'b/'], { cwd });
    expect((await run(['compare', '--list-a', '--list-b', 'L', 'M'], { cwd })).code).toBe(0);
    writeFileSync(at('b/new'), '');
    expect((await run(['compare', '--list-a', 'L', 'b'], { cwd })).code).toBe(1);
  });

  it('refuses lists that are given as trees', async () => {
    const at = tree();
    const cwd = at();
    await run(['list', '-o', 'L', 'a'], { cwd });
    await run(['list', '-o', 'M', 'b'], { cwd });
    const { code, stderr } = await run(['compare', 'L', 'M'], { cwd });
    expect([code, stderr]).toEqual([
      2,
      expect.stringContaining('L and M hold lists; a list is given as one: --list-a'),
    ]);
    expect((await run(['compare', 'L', 'a/d/file'], { cwd })).code).toBe(1);
  });

  it('exit 23 for a side that is not there', async () => {
    const at = tree();
    const { code, stderr } = await run(['compare', 'a', 'nothing'], { cwd: at() });
    expect([code, stderr]).toEqual([23, expect.stringContaining('nothing')]);
  });

  it.each([
    [['a'], /compare takes A B, and only a was given/],
    [['a', 'b', 'c'], /compare takes A B, and 3 were given/],
    [['a', 'a/d/file'], /a\/d\/file is a file, and a is a directory; a list is given as one: --list-a/],
    [['nas:a', 'b'], /rsync -anic nas:a b does that; .\/nas:a is/],
    [['--tar', 'a', 'b'], /--output/],
    [['--list-a', 'a', 'b'], /directory/],
    [['--list-a', '--list-b', '-', '-'], /--list-b - and --list-a - can't both have standard input/],
    [['--list-a', '--list-b', '-', '/dev/stdin'], /both lists are standard input/],
  ])('%j: exit 2', async (args, message) => {
    const at = tree();
    const { code, stderr } = await run(['compare', ...args], { cwd: at() });
    expect(code).toBe(2);
    expect(stderr).toMatch(message);
  });
});

describe('the library', () => {
  it('lists and compares', async () => {
    const at = tree();
    const paths: string[] = [];
    for await (const event of list({ sources: at('a'), entries: true }))
      if (event.type === 'entry') paths.push(event.path);
    expect(paths).toEqual(['a', 'a/d', 'a/d/file', 'a/link', 'a/x\ny']);
    const { outcomes } = await list({ sources: at('a/'), output: at('L') });
    expect(outcomes.listed).toBe(5);
    const { differences } = await compare({ left: { list: at('L') }, right: at('b'), content: 'tail' });
    expect(differences).toEqual({ left: 0, right: 0, changed: 0, leftEntries: 5, rightEntries: 5 });
    expect(await listedSources(at('L'))).toEqual(['./']);
    await expect(list({ sources: '' })).rejects.toMatchObject({ code: 'USAGE' });
    await expect(list({ sources: at('nothing') })).rejects.toMatchObject({ code: 'NO_SOURCE' });
    await expect(listedSources(at('nothing'))).rejects.toMatchObject({ code: 'LIST' });
  });
});

const skips = reasonToSkip();
if (skips !== undefined) console.log(`skip: ${skips}`);

function reasonToSkip(): string | undefined {
  try {
    execFileSync('strace', ['-o', '/dev/null', '-e', 'inject=getpid:error=EIO', 'true'], { stdio: 'pipe' });
    return undefined;
  } catch (error) {
    return `strace can not make calls fail: ${error}`;
  }
}

it.skipIf(skips !== undefined)(
  'a directory that vanishes while it is read ends with 24, and hpcp with 209',
  async () => {
    const base = scratch();
    const at = (...names: string[]) => join(base, ...names);
    for (const side of ['s', 't']) {
      mkdirSync(at(side, 'd'), { recursive: true });
      writeFileSync(at(side, 'd/f'), 'f');
    }
    const without = (...args: string[]) => {
      const fault = ['-P', at('s/d'), '-e', 'trace=getdents64', '-e', 'inject=getdents64:error=ENOENT'];
      return program('strace', ['-f', '-o', '/dev/null', ...fault, process.execPath, executable, ...args], {
        cwd: base,
      });
    };
    for (const [args, code] of [
      [['list', 's', '-o', 'L'], 24],
      [['compare', 's', 't'], 24],
      [['compare', 't', 's'], 24],
      [['compare', '--content', 't', 's'], 24],
      [['hpcp', 's', '-fl', 'M'], 209],
      [['hpcp', 's', '-d', 't', '-cfl'], 209],
    ] as const) {
      const ended = await without(...args);
      expect({ args, code: ended.code }).toEqual({ args, code });
      expect(ended.stderr).toContain('list s/d: No such file or directory');
    }
  },
);
