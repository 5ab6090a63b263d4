/** Removal as the verb and as the library: what goes, what is asked, how it ends. */
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { askConsent, removalPreview } from '../src/cli/consent.js';
import { Removal, remove } from '../src/ops/remove.js';
import { Capture, jsonLines, outcomes, program, reported, run, scratch } from './rig.js';

/** `t` with three files, a link and two directories; `beside` is what must stay. */
function place(): string {
  const at = realpathSync(scratch());
  mkdirSync(join(at, 't/sub'), { recursive: true });
  for (const name of ['t/a', 't/b.log', 't/sub/c', 'beside']) writeFileSync(join(at, name), name);
  symlinkSync('../beside', join(at, 't/link'));
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
const WHOLE = ['beside', 't', 't/a', 't/b.log', 't/link', 't/sub', 't/sub/c'];

describe('bulkhaul remove', () => {
  it('shows what would go, and removes it for a piped yes', async () => {
    const at = place();
    const { code, stdout, stderr } = await run(['remove', 't'], { cwd: at, input: 'y\n' });
    expect({ code, stdout }).toEqual({ code: 0, stdout: '' });
    expect(stderr).toMatch(/^6 entries \(17 B\) will be removed: 4 files and links, 2 directories\n/);
    for (const name of ['a', 'b.log', 'link', 'sub/c']) expect(stderr).toContain(`\n  t/${name}\n`);
    expect(stderr).toMatch(
      /Remove this\? \(y\/n\) \n6 entries removed in .*, 2 directories of them\ncomplete: 6 entries\n$/,
    );
    expect(all(at)).toEqual(['beside']);
  });

  it.each([
    ['nobody', ''],
    ['no', 'n\n'],
    ['a line that was meant for somebody else', 'yesterday/file\n'],
    ['an empty line', '\n'],
  ])('removes nothing: %s', async (_, input) => {
    const at = place();
    const { code, stderr } = await run(['remove', 't'], { cwd: at, input });
    expect(code).toBe(3);
    expect(stderr).toContain('nothing was removed: ');
    expect(all(at)).toEqual(WHOLE);
  });

  it('asks nothing with --force, and does not count first', async () => {
    const at = place();
    const { code, stderr } = await run(['remove', '-f', 't', 'gone'], { cwd: at });
    expect(code).toBe(0);
    expect(stderr).toMatch(/^6 entries removed in /);
    expect(all(at)).toEqual(['beside']);
  });

  it('itemises in a dry run, and in JSON', async () => {
    const at = place();
    const dry = await run(['remove', '-n', '--exclude', '*.log', 't'], { cwd: at });
    expect(dry.code).toBe(0);
    expect(dry.stdout.trim().split('\n').sort()).toEqual([
      '*deleting   t/a',
      '*deleting   t/link',
      '*deleting   t/sub/',
      '*deleting   t/sub/c',
      '.d......... t/ (not-empty)',
    ]);
    expect(all(at)).toEqual(WHOLE);
    const { code, stdout } = await run(['remove', '-f', '--json', '-v', '--exclude=*.log', 't'], { cwd: at });
    expect(code).toBe(0);
    const lines = jsonLines(stdout);
    expect(lines.at(-1)).toMatchObject({
      type: 'summary',
      outcomes: { removed: 4, skipped: 1 },
      directories: { removed: 1, skipped: 1 },
      skipped: { excluded: 1, 'not-empty': 1 },
    });
    expect(lines.filter(({ type }) => type === 'entry')).toHaveLength(6);
    expect(all(at)).toEqual(['beside', 't', 't/b.log']);
  });

  it.each<[string[], number, RegExp]>([
    [['.'], 3, /it is the working directory/],
    [['..'], 3, /above the working directory/],
    [['../here'], 3, /it is the working directory/],
    [['/'], 3, /root of the file system/],
    [['t', '/'], 3, /root of the file system/],
    [['home'], 3, /above the home directory/],
    [['home/user'], 3, /it is the home directory/],
    [['to-home/user/'], 3, /it is the home directory/],
    [['t/link/'], 2, /a symlink; without the slash/],
    [['t/sub/.'], 2, /by its own name/],
    [['gone'], 23, /gone: No such file/],
    [[''], 2, /empty path/],
    [['--max-delete', '5', 't'], 3, /6 of 6 entries would go, and max-delete allows 5/],
    [['--max-delete', '99%', 't'], 3, /max-delete allows 5/],
    [['--max-delete', 'x', 't'], 2, /max-delete/],
    [['--no-preserve-root', 'nowhere', 't'], 2, /no-preserve-root nowhere/],
    [[], 2, /remove/],
  ])('refuses %j', async (args, code, message) => {
    const root = place();
    const at = join(root, 'here');
    mkdirSync(join(root, 'h/home/user'), { recursive: true });
    mkdirSync(at);
    for (const name of ['t', 'beside', 'h/home']) renameSync(join(root, name), join(at, name.replace('h/', '')));
    symlinkSync('home', join(at, 'to-home'));
    const before = all(root);
    const ended = await run(
      ['remove', '-f', '-q', ...args].filter((arg) => arg !== '-f' || args[0] !== 'gone'),
      {
        cwd: at,
        input: 'y\n',
        env: { HOME: join(at, 'home/user') },
      },
    );
    expect(ended.stderr).toMatch(message);
    expect(ended.code).toBe(code);
    expect(all(root)).toEqual(before);
  });

  it('tells what is missing beside the rest', async () => {
    const at = place();
    const { code, stderr } = await run(['remove', 't', 'gone'], { cwd: at, input: 'y' });
    expect(code).toBe(23);
    expect(stderr).toContain('stat gone: No such file or directory');
    expect(all(at)).toEqual(['beside']);
  });

  it('asks on a terminal', async () => {
    const at = place();
    const there = await program('sh', ['-c', 'command -v script']);
    if (there.code !== 0) return console.log('skip: there is no script to make a terminal');
    const command = `'${process.execPath}' '${join(import.meta.dirname, '../dist/cli/main.js')}' remove t`;
    for (const [typed, code, left] of [
      ['n\n', 3, WHOLE],
      ['y\n', 0, ['beside']],
    ] as const) {
      const ended = await program('script', ['-qefc', command, '/dev/null'], { cwd: at, input: typed });
      expect(ended.stdout).toContain('Remove this? (y/n) ');
      expect(ended.code).toBe(code);
      expect(all(at)).toEqual(left);
    }
  });
});

describe('remove as a function', () => {
  it('removes, and delivers entries where they are asked for', async () => {
    const at = place();
    const job = remove({ paths: join(at, 't'), entries: true, jobs: 1 });
    const seen: string[] = [];
    for await (const event of job) if (event.type === 'entry') seen.push(event.path);
    expect(seen.at(-1)).toBe('t');
    expect((await job).outcomes).toMatchObject({ removed: 6 });
    expect(all(at)).toEqual(['beside']);
  });

  it('removes what the preview found, and nothing that took its name', async () => {
    const at = place();
    const removal = new Removal({ paths: [join(at, 't')] });
    expect(await removal.preview()).toMatchObject({ outcomes: { removed: 6 }, foundBytes: 17 });
    renameSync(join(at, 't'), join(at, 'moved'));
    mkdirSync(join(at, 't'));
    writeFileSync(join(at, 't/precious'), '');
    expect(await removal.remove()).toMatchObject({ outcomes: { removed: 0 }, failureKinds: { changed: 1 } });
    expect(readFileSync(join(at, 't/precious'), 'utf8')).toBe('');
    expect(existsSync(join(at, 'moved/sub/c'))).toBe(true);
  });

  it('protects what it is told to, and refuses contradictions', async () => {
    const at = place();
    const code = (options: object) => expect(remove({ paths: join(at, 't'), ...options })).rejects.toMatchObject;
    await code({ protect: [join(at, 't/sub')] })({ code: 'SAFETY' });
    await code({ exclude: ['a'], excludeAbsolute: ['b'] })({ code: 'USAGE' });
    await code({ maxDelete: 1.5 })({ code: 'USAGE' });
    await code({ paths: [] })({ code: 'USAGE' });
    expect(all(at)).toEqual(WHOLE);
    await remove({ paths: join(at, 't'), excludeAbsolute: [`${at}/t/s*`] });
    expect(all(at)).toEqual(['beside', 't', 't/sub', 't/sub/c']);
    expect(lstatSync(join(at, 'beside')).size).toBe(6);
  });
});

describe('consent', () => {
  const begin = (isTTY: boolean) => {
    const stdin = Object.assign(new PassThrough(), { isTTY });
    const stderr = new Capture();
    return { stdin, stderr, answer: askConsent('well? ', { stdin, stderr }) };
  };

  it.each<[string, string]>([
    ['y\n', 'yes'],
    ['Y\r\n', 'yes'],
    [' yes \n', 'yes'],
    ['yy\n', 'no'],
    ['n\ny\n', 'no'],
    ['\n', 'no'],
    ['y', 'yes'],
    ['', 'nobody'],
  ])('%j: %s', async (typed, answer) => {
    const asked = begin(false);
    asked.stdin.end(typed);
    await expect(asked.answer).resolves.toBe(answer);
    expect(asked.stderr.text).toBe('well? \n');
  });

  it('is interrupted on a terminal', async () => {
    const asked = begin(true);
    asked.stdin.write('\x03');
    await expect(asked.answer).resolves.toBe('interrupted');
  });

  it('is asked for with names escaped', () => {
    const going = reported({
      outcomes: outcomes({ removed: 3 }),
      directories: outcomes({ removed: 1 }),
      foundBytes: 10,
      skipped: { excluded: 2 },
    });
    const text = removalPreview({ ...going, failures: [], notes: [] }, ['a\x1b[2J', 'b']);
    expect(text).toBe(
      '3 entries (10 B) will be removed: 2 files and links, 1 directory\n  a\\x1b[2J\n  b\n  and 1 more\n' +
        '2 entries excluded, with what is below: not removed\n',
    );
  });
});
