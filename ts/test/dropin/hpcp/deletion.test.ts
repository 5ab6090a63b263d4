/** `hpcp -rme`, `-d` with `-rm`, `--max-delete`, `-rds` and `-ctl` on real trees: prompts, codes, and hazards that are absent. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { question } from '../../../src/cli/dropin/hpcp/copy.js';
import { run, scratch, typed } from '../../rig.js';

/** s: a, sub/b; d: an older a, and what s does not have. */
function pair(): string {
  const root = scratch();
  for (const name of ['s/sub', 'd/sub', 'd/gone']) mkdirSync(join(root, name), { recursive: true });
  for (const name of ['s/a', 's/sub/b', 'd/extra', 'd/sub/extra', 'd/gone/f']) writeFileSync(join(root, name), name);
  writeFileSync(join(root, 'd/a'), 'older');
  return root;
}

const hpcp = (cwd: string, input: string, ...args: string[]) => run(['hpcp', ...args], { cwd, input });
const names = (root: string, name: string) =>
  readdirSync(join(root, name), { recursive: true, encoding: 'utf8' }).map(String).sort();
const lastOf = (text: string) => text.trimEnd().split('\n').at(-1);

describe('-rme', () => {
  it.each([
    ['y\n', [], 0],
    ['yes\n', [], 0],
    ['', ['-rf'], 0],
    ['n\n', [], 147],
    ['', [], 147],
    ['/some/name of a list\n', [], 147],
  ])('input %j, flags %j: %d', async (input, flags, code) => {
    const root = pair();
    const done = await hpcp(root, input, 's', '-d', 'd', '-rme', ...flags);
    expect(done.code).toBe(code);
    const left = ['a', 'sub', 'sub/b'];
    if (code !== 0) left.push('extra', 'gone', 'gone/f', 'sub/extra');
    expect(names(root, 'd')).toEqual(left.sort());
    // The copy itself is done in either case.
    expect(readFileSync(join(root, 'd/a'), 'utf8')).toBe('s/a');
    expect(existsSync(join(root, 's/a'))).toBe(true);
    if (flags.length === 0) {
      expect(done.stderr).toContain('4 entries (26 B) of the destination are extra:');
      expect(done.stderr).toContain('\n  d/gone/f\n');
    } else expect(done.stderr).not.toContain('y/n');
    expect(lastOf(done.stdout)).toMatch(code === 0 ? /^Done\.$/ : /return code: 147\.$/);
    if (code === 0) expect(done.stdout).toContain('Removed 4 of 4 extra files, links and folders');
  });

  it('is itemised and unasked in a dry run', async () => {
    const root = pair();
    const done = await hpcp(root, '', 's', '-d', 'd', '-rme', '--dry-run');
    expect(done.code).toBe(0);
    expect(done.stdout).toContain('*deleting   gone/f\n');
    expect(existsSync(join(root, 'd/extra'))).toBe(true);
  });

  it('never takes siblings of what was copied', async () => {
    const root = pair();
    mkdirSync(join(root, 'o/s'), { recursive: true });
    for (const name of ['o/sibling', 'o/s/extra']) writeFileSync(join(root, name), name);
    expect((await hpcp(root, '', 's/a', '-d', 'o', '-rme')).code).toBe(0);
    expect(names(root, 'o')).toEqual(['a', 's', 's/extra', 'sibling']);
    expect((await hpcp(root, '', 's', '-d', 'o/', '-rme', '-rf')).code).toBe(0);
    expect(names(root, 'o')).toEqual(['a', 's', 's/a', 's/sub', 's/sub/b', 'sibling']);
  });

  it.each([
    ['y\n', 0],
    ['n\n', 190],
  ])('is asked about what is in the way of another kind, too: %j, %d', async (input, code) => {
    const root = pair();
    writeFileSync(join(root, 's/gone'), 'a file now');
    const done = await hpcp(root, input, 's', '-d', 'd', '-rme');
    expect(done).toMatchObject({ code, stderr: expect.stringContaining('\n  d/gone/f\n') });
    expect(names(root, 'd').includes('gone/f')).toBe(code !== 0);
  });

  it('takes nothing for an empty or missing source, nor past the limit', async () => {
    const root = pair();
    mkdirSync(join(root, 'empty'));
    const before = names(root, 'd');
    expect((await hpcp(root, '', 'empty', '-d', 'd', '-rme', '-rf')).code).toBe(212);
    expect((await hpcp(root, '', 's', '-d', 'd', '-rme', '-rf', '--max-delete', '3')).code).toBe(241);
    expect((await hpcp(root, '', 's', '-d', 'd', '-rme', '-rf', '--max-delete', '10%')).code).toBe(241);
    expect(names(root, 'd')).toEqual([...before, 'sub/b'].sort());
    const missing = await hpcp(root, '', 's/', 'none', '-d', 'd', '-rme', '-rf');
    expect(missing.code).toBe(212);
    expect(existsSync(join(root, 'd/extra'))).toBe(true);
  });

  it('keeps what is excluded on either side', async () => {
    const root = pair();
    for (const name of ['s/x.log', 'd/x.log', 'd/gone/y.log']) writeFileSync(join(root, name), name);
    expect((await hpcp(root, '', 's', '-d', 'd', '-rme', '-rf', '-e', '*.log')).code).toBe(0);
    expect(names(root, 'd')).toEqual(['a', 'gone', 'gone/y.log', 'sub', 'sub/b', 'x.log']);
    expect(readFileSync(join(root, 'd/x.log'), 'utf8')).toBe('d/x.log');
    // An extra folder that stays is no file that was left out.
    const again = await hpcp(root, '', 's', '-d', 'd', '-rme', '-rf', '-e', '*.log');
    expect(again.stdout).toContain('Total files unchanged:  2\n');
    expect(again.stdout).toContain('Removed 0 of 1 extra files, links and folders');
  });

  it('with -rf alone keeps the sources', async () => {
    const root = pair();
    const done = await hpcp(root, '', 's', '-d', 'd', '-rme', '-rf');
    expect(done.stderr).toContain('the sources stay');
    expect(names(root, 's')).toEqual(['a', 'sub', 'sub/b']);
  });
});

describe('-d with -rm', () => {
  it.each([
    ['y\n', [], 0],
    ['', ['-rf'], 0],
    ['n\n', [], 147],
    ['', [], 147],
  ])('input %j, flags %j: %d', async (input, flags, code) => {
    const root = pair();
    const done = await hpcp(root, input, 's', '-d', 'new', '-rm', ...flags);
    expect(done.code).toBe(code);
    expect(names(root, 'new')).toEqual(['a', 'sub', 'sub/b']);
    expect(existsSync(join(root, 's'))).toBe(code !== 0);
    if (flags.length === 0)
      expect(done.stderr).toMatch(/4 entries \(10 B\) will be removed from the sources.*\n {2}s\n/);
    if (code === 0) expect(done.stdout).toContain('Removed 4 files, links and folders from the sources');
  });

  it.each([
    ['y\n', 0],
    ['n\n', 147],
    ['', 147],
  ])('with -rme asks once for both, and takes %j for both', async (input, code) => {
    const root = pair();
    const before = names(root, 'd');
    const done = await hpcp(root, input, 's', '-d', 'd', '-rm', '-rme');
    expect(done.code).toBe(code);
    expect(done.stderr.match(/\(y\/n\)/g)).toHaveLength(1);
    expect(done.stderr).toContain('4 entries (26 B) of the destination are extra:');
    expect(done.stderr).toMatch(
      /4 entries \(10 B\) will be removed from the sources.*\n {2}s\nDo you want to delete both/,
    );
    expect(existsSync(join(root, 's'))).toBe(code !== 0);
    expect(names(root, 'd')).toEqual(code === 0 ? ['a', 'sub', 'sub/b'] : [...before, 'sub/b'].sort());
    if (code !== 0) expect(names(root, 's')).toEqual(['a', 'sub', 'sub/b']);
  });

  it.each([
    ['y\\r', 0],
    ['n\\r', 147],
    ['\\003', 130],
  ])('with -rme on a terminal, %s is typed: %d', async (answer, code) => {
    const root = pair();
    const done = await typed(answer, 'hpcp s -d d -rm -rme', root);
    expect(done.stdout.match(/\(y\/n\)/g)).toHaveLength(1);
    expect(done.code).toBe(code);
    expect(existsSync(join(root, 's'))).toBe(code !== 0);
    expect(existsSync(join(root, 'd/extra'))).toBe(code !== 0);
  });

  it('with -rme asks only about what there is', async () => {
    const root = pair();
    for (const name of ['d/extra', 'd/sub/extra', 'd/gone']) rmSync(join(root, name), { recursive: true });
    const moved = await hpcp(root, 'y\n', 's', '-d', 'd', '-rm', '-rme');
    expect([moved.code, moved.stderr.includes('extra')]).toEqual([0, false]);
    expect(existsSync(join(root, 's'))).toBe(false);
  });

  it('refuses a move onto or into itself, and a destination that is not named', async () => {
    const root = pair();
    for (const args of [
      ['s', '-d', 's'],
      ['s', '-d', 's/sub'],
      ['s/a', '-d', 's/'],
    ]) {
      expect((await hpcp(root, '', ...args, '-rm', '-rf')).code).toBe(241);
    }
    expect((await hpcp(root, '', 's', 'd', '-rm', '-rme', '-rf')).code).toBe(2);
    expect(names(root, 's')).toEqual(['a', 'sub', 'sub/b']);
  });

  it('leaves what could not be copied, and both say so', async () => {
    const root = pair();
    mkdirSync(join(root, 'o/a'), { recursive: true });
    const done = await hpcp(root, '', 's', '-d', 'o', '-rm', '-rf');
    expect(done.code).toBe(190);
    expect(names(root, 's')).toEqual(['a']);
    expect(done.stdout).toContain('Move left 2 entries in the sources');
  });

  it('leaves the loser of two sources', async () => {
    const root = pair();
    mkdirSync(join(root, 't'));
    writeFileSync(join(root, 't/a'), 'later');
    expect((await hpcp(root, '', 's/', 't/', '-d', 'o/', '-rm', '-rf')).code).toBe(0);
    expect(readFileSync(join(root, 'o/a'), 'utf8')).toBe('later');
    expect(names(root, 's')).toEqual(['a']);
    expect(existsSync(join(root, 't'))).toBe(false);
  });
});

it('-rds spreads files over the destinations, the same in each run', async () => {
  const root = scratch();
  mkdirSync(join(root, 's'));
  const all = Array.from({ length: 64 }, (_, index) => `f${index}`).sort();
  for (const name of all) writeFileSync(join(root, 's', name), name);
  const copy = () => hpcp(root, '', 's', '-d', 'o', '-d', 'p', '-rds');
  expect((await copy()).code).toBe(0);
  const [one, two] = [names(root, 'o'), names(root, 'p')];
  expect([...one, ...two].sort()).toEqual(all);
  expect(Math.min(one.length, two.length)).toBeGreaterThan(4);
  expect((await copy()).stdout).toContain('Total files unchanged:  64');
  expect([names(root, 'o'), names(root, 'p')]).toEqual([one, two]);
});

it('-ctl takes seconds', async () => {
  const root = pair();
  expect((await hpcp(root, '', 's', '-d', 'd', '-ctl', '0')).stderr).toBe('');
  expect(await hpcp(root, '', 's', '-d', 'd', '-ctl', '30')).toMatchObject({ code: 0, stderr: '' });
  expect((await hpcp(root, '', 's', '-d', 'd', '-ctl', 'soon')).code).toBe(2);
});

it('shows names escaped, and how many more there are', () => {
  const victims = { what: 'extra' as const, entries: 12, bytes: 2048, first: ['d/\u001b[2J', 'd/b'] };
  expect(question([victims])).toMatchInlineSnapshot(`
    "12 entries (2.00 KiB) of the destination are extra:
      d/\\x1b[2J
      d/b
      and 10 more
    Do you want to delete them? (y/n) "
  `);
});
