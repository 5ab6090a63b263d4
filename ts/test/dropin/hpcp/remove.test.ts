/** `hpcp -rm`: when it asks, what it takes for a yes, what it refuses, and its codes. */
import { existsSync, mkdirSync, readdirSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseCall } from '../../../src/cli/dropin/hpcp/flags.js';
import { isRemoval } from '../../../src/cli/dropin/hpcp/run.js';
import { jsonLines, type Run, run, scratch } from '../../rig.js';

function place(): string {
  const at = realpathSync(scratch());
  for (const directory of ['s/sub', 'other', 'logs']) mkdirSync(join(at, directory), { recursive: true });
  for (const name of ['s/a', 's/sub/b', 's/keep.log', 'other/x', 'logs/y']) writeFileSync(join(at, name), name);
  symlinkSync('other', join(at, 'link'));
  symlinkSync('nowhere', join(at, 'loose'));
  return at;
}

/** All names below, links not followed. */
const all = (at: string): string[] =>
  readdirSync(at, { withFileTypes: true })
    .flatMap((entry) => {
      const below = entry.isDirectory() ? all(join(at, entry.name)) : [];
      return [entry.name, ...below.map((each) => `${entry.name}/${each}`)];
    })
    .sort();
const lastOf = ({ stdout }: Run) => stdout.trimEnd().split('\n').at(-1);
const hpcp = (cwd: string, input: string, ...args: string[]) =>
  run(['hpcp', ...args], { cwd, input, env: { HOME: join(cwd, 'other') } });

it.each<[string, boolean]>([
  ['-rm a', true],
  ['-rf a b', true],
  ['-rm -rf a', true],
  ['-rf a -d b', false],
  ['a b', false],
])('%s removes and does nothing else: %j', (line, removes) => {
  expect(isRemoval(parseCall(line.split(' ')))).toBe(removes);
});

describe('hpcp -rm', () => {
  it('says what will go, and removes it for a piped y', async () => {
    const at = place();
    const ended = await hpcp(at, 'y\n', '-rm', 's', 'logs/', '-v');
    expect(ended.stderr).toMatch(/^7 entries \(26 B\) will be removed: 4 files and links, 3 directories\n {2}/);
    expect(ended.stderr).toContain('Do you want to continue? (y/n) ');
    expect(ended.stdout.replace(/in \d+\.\d{4} seconds/, 'in T seconds')).toBe(
      [
        "> hpcp 's' 'logs/' --verbose='True' --remove='True'",
        '-'.repeat(80),
        "Removing files from ['s', 'logs/']",
        "Removed 4 files and links from ['s', 'logs/'] in T seconds",
        'Removed 3 folders',
        'Removed File: logs/y',
        'Removed File: s/a',
        'Removed File: s/keep.log',
        'Removed File: s/sub/b',
        '-'.repeat(80),
        'Done.',
        '',
      ].join('\n'),
    );
    expect(ended.code).toBe(0);
    expect(all(at)).toEqual(['link', 'loose', 'other', 'other/x']);
  });

  it.each([
    ['', /nobody answered, nothing was removed/],
    ['n\n', /the answer was not yes/],
    ['you/should/not\n', /the answer was not yes/],
  ])('removes nothing for %j', async (input, message) => {
    const at = place();
    const before = all(at);
    for (const flags of [['-rm'], ['-rm', '-rwloff', '-nb', '-s']]) {
      const ended = await hpcp(at, input, ...flags, 's');
      expect(ended.code).toBe(147);
      expect(lastOf(ended)).toMatch(message);
      expect(all(at)).toEqual(before);
    }
  });

  it.each([['-rf'], ['-rm', '-rf'], ['-rf', '-b', '-j', '3'], ['-rf', '-rwloff']])(
    '%s does not ask',
    async (...flags) => {
      const at = place();
      const ended = await hpcp(at, '', ...flags, 's', 'link', 'loose');
      expect(ended).toMatchObject({ code: 0, stderr: '' });
      expect(lastOf(ended)).toBe('Done.');
      // The links go, and not what they lead to.
      expect(all(at)).toEqual(['logs', 'logs/y', 'other', 'other/x']);
    },
  );

  it('with a destination -rf removes no source, and says so', async () => {
    const at = place();
    const ended = await hpcp(at, '', 's', '-d', 'o', '-rf');
    expect(ended.code).toBe(0);
    expect(ended.stderr).toContain('the sources stay');
    expect(existsSync(join(at, 's/sub/b')) && existsSync(join(at, 'o/sub/b'))).toBe(true);
  });

  it('keeps what is excluded, with the directories above it', async () => {
    const at = place();
    writeFileSync(join(at, 'patterns'), 'keep.log\n\n');
    const ended = await hpcp(at, '', '-rf', 's', '-x', 'patterns', '-e', 'sub/*');
    expect(ended.code).toBe(0);
    expect(ended.stdout).toContain('Kept 2 excluded, and 2 folders that are not empty');
    expect(all(join(at, 's'))).toEqual(['keep.log', 'sub', 'sub/b']);
    // A list of what to keep that is not there keeps all.
    const missing = await hpcp(at, '', '-rf', 's', '-x', 'nowhere');
    expect(missing.code).toBe(171);
    expect(all(join(at, 's'))).toEqual(['keep.log', 'sub', 'sub/b']);
  });

  it('expands patterns, and tells what is missing', async () => {
    const at = place();
    const ended = await hpcp(at, '', '-rf', '[sl]*', 'gone');
    expect(ended.code).toBe(207);
    expect(ended.stderr).toBe('hpcp: Source path not found: gone\n');
    expect(all(at)).toEqual(['other', 'other/x']);
    expect((await hpcp(at, '', '-rf', 'gone')).code).toBe(240);
    // Nobody's list on standard input is taken for what to remove.
    expect((await hpcp(at, 'other\n', '-rm', '-rf')).code).toBe(240);
    expect(all(at)).toEqual(['other', 'other/x']);
  });

  it.each<[string[], number, RegExp]>([
    [['/'], 241, /root of the file system/],
    [['.'], 241, /the working directory/],
    [['s', '..'], 241, /above the working directory/],
    [['other'], 241, /the home directory/],
    [['s/../other/'], 241, /the home directory/],
    [['link/'], 2, /a symlink; without the slash/],
    [['s/sub/..'], 2, /by its own name/],
    [['s/sub/..', '-e', 'x'], 2, /by its own name/],
    [['s/sub/./', '-e', 'x'], 2, /by its own name/],
    [['--max-delete', '4', 's'], 241, /5 of 5 entries would go/],
    [['--max-delete=50%', 's'], 241, /max-delete allows 2/],
    [['--max-delete', 'x', 's'], 2, /neither N nor N%/],
  ])('refuses %j', async (args, code, message) => {
    const at = place();
    const before = all(at);
    const ended = await hpcp(at, '', '-rf', ...args);
    expect(ended.stderr).toMatch(message);
    expect(ended.code).toBe(code);
    expect(all(at)).toEqual(before);
  });

  it('removes what is named nevertheless', async () => {
    const at = place();
    expect((await hpcp(at, '', '-rf', '--no-preserve-root', 'other', 'other')).code).toBe(0);
    expect(existsSync(join(at, 'other'))).toBe(false);
  });

  it('speaks JSON, and changes nothing in a dry run', async () => {
    const at = place();
    const before = all(at);
    const dry = await hpcp(at, '', '-rm', '--dry-run', 's', '--json');
    expect(dry.code).toBe(0);
    const lines = jsonLines(dry.stdout);
    expect(lines.filter(({ outcome }) => outcome === 'removed')).toHaveLength(5);
    expect(lines.at(-1)).toMatchObject({ type: 'summary', outcomes: { removed: 5 } });
    expect(all(at)).toEqual(before);
    const text = await hpcp(at, '', '-rm', '--dry-run', 's');
    expect(text.stdout).toContain('Dry run: nothing was done');
    expect(all(at)).toEqual(before);
  });

  it('ends with 192 where something stays', async () => {
    const at = place();
    mkdirSync(join(at, 's/sub/fixed'));
    const fixed = join(at, 's/sub/fixed');
    const { program } = await import('../../rig.js');
    if ((await program('chattr', ['+i', fixed])).code !== 0) return console.log('skip: no chattr +i here');
    try {
      const ended = await hpcp(at, '', '-rf', 's');
      expect(ended.code).toBe(192);
      expect(lastOf(ended)).toMatch(/remove s\/sub\/fixed: Operation not permitted .*return code: 192\.$/);
      expect(all(join(at, 's'))).toEqual(['sub', 'sub/fixed']);
    } finally {
      await program('chattr', ['-i', fixed]);
    }
  });
});
