/** The built `hpcp` on real trees: what it prints, how it ends, and that none of the original's hazards is there. */
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { executable, jsonLines, program, type Run, run, scratch, shell, typed } from '../../rig.js';

/** s: a file, a hard link to it, a hole, a link, a directory; `old`: a file with other content. */
function tree(): string {
  const root = scratch();
  mkdirSync(join(root, 's/sub'), { recursive: true });
  writeFileSync(join(root, 's/a'), 'content\n');
  linkSync(join(root, 's/a'), join(root, 's/hard'));
  writeFileSync(join(root, 's/sub/z'), '');
  truncateSync(join(root, 's/sub/z'), 300_000);
  symlinkSync('a', join(root, 's/l'));
  writeFileSync(join(root, 'old'), 'old\n');
  for (const name of ['s/sub', 's']) utimesSync(join(root, name), 1_000_000_000, 1_000_000_000);
  return root;
}

const hpcp = (cwd: string, ...args: string[]) => run(['hpcp', ...args], { cwd });
const read = (root: string, name: string) => readFileSync(join(root, name), 'utf8');
/** All names below, links not followed. */
const list = (root: string, name: string): string[] =>
  readdirSync(join(root, name), { withFileTypes: true })
    .flatMap((entry) => {
      const below = entry.isDirectory() ? list(root, `${name}/${entry.name}`) : [];
      return [entry.name, ...below.map((each) => `${entry.name}/${each}`)];
    })
    .sort();
const lastOf = ({ stdout }: Run) => stdout.trimEnd().split('\n').at(-1);

/** What rsync would still change. */
async function difference(root: string, from: string, to: string): Promise<string> {
  const { stdout, stderr } = await program('rsync', ['-aniHAX', '--checksum', '--delete', `${from}/`, to], {
    cwd: root,
  });
  return stdout + stderr;
}

describe('a copy', () => {
  it('brings everything, and says so in the lines that scripts read', async () => {
    const root = tree();
    const first = await hpcp(root, 's', '-d', 'o', '-v');
    expect(first).toMatchObject({ code: 0, stderr: '' });
    const fixed = first.stdout
      .replace(/\d+\.\d{4} seconds/g, 'T seconds')
      .replace(/\d+\.\d\d file\/s/, 'N file/s')
      .replace(/(speed|bandwidth):(\s+)\d+\.\d\d \w+/g, '$1:$2N')
      .replace(/with \d+ workers/, 'with W workers');
    expect(fixed).toMatchInlineSnapshot(`
      "> hpcp 's' --verbose='True' --dest_path='o'
      --------------------------------------------------------------------------------
      Copying from ['s'] to ['o']
      Number of files: 3
      Number of links: 1
      Number of folders: 2
      Estimated size: 292.98 KiB
      Processing 3 files with W workers

      Time taken:             T seconds
      Average speed:          N/s
                              N file/s
      Average bandwidth:      N
      Total files copied:     3
      Total files unchanged:  0
      Total size copied:      8.00 B
      Total files discovered: 3
      Processed 3 files and 1 symlinks in total
      --------------------------------------------------------------------------------
      Found Symbolic Links:   1
      --------------------------------------------------------------------------------
      Copied File: a
      Copied File: hard
      Copied File: l
      Copied File: sub/z
      Link: s/l -> o/l
      --------------------------------------------------------------------------------
      Done.
      "
    `);
    expect(await difference(root, 's', 'o')).toBe('');
    expect(statSync(join(root, 'o/sub/z')).blocks).toBe(0);

    const second = await hpcp(root, 's', '-d', 'o');
    expect(second.code).toBe(0);
    expect(second.stdout).toMatch(
      /Total files copied: {5}3\nTotal files unchanged: {2}3\nTotal size copied: {6}0\.00 B/,
    );
  });

  it.each<[string[], string[]]>([
    [
      ['s', '-d', 'o'],
      ['a', 'hard', 'l', 'sub', 'sub/z'],
    ],
    [
      ['s', '-d', 'o/'],
      ['s', 's/a', 's/hard', 's/l', 's/sub', 's/sub/z'],
    ],
    [
      ['s/', '-d', 'o/'],
      ['a', 'hard', 'l', 'sub', 'sub/z'],
    ],
    [['s/a', '-d', 'o/'], ['a']],
    [
      ['s/a', '-d', 'o/deep/name'],
      ['deep', 'deep/name'],
    ],
    [
      ['s/sub', 's/a', '-d', 'o'],
      ['a', 'sub', 'sub/z'],
    ],
    [
      ['s/sub/', 's/l', '-d', 'o'],
      ['l', 'z'],
    ],
    [
      ['s/*', '-d', 'o'],
      ['a', 'hard', 'l', 'sub', 'sub/z'],
    ],
    [['s/**/z', '-d', 'o/'], ['z']],
    [['-do', 's', '-d', 'o'], ['sub']],
    [
      ['s', '-d', 'o', '-e', 'sub', '-e', '*/l'],
      ['a', 'hard'],
    ],
    [
      ['./s', '-d', 'o', '-e', 's/sub/z', '-e', 'h*'],
      ['a', 'l', 'sub'],
    ],
    [
      ['s', '-d', 'o', '-nds', '-e', 'z'],
      ['a', 'hard', 'l'],
    ],
    [
      ['s', 'o'],
      ['a', 'hard', 'l', 'sub', 'sub/z'],
    ],
  ])('%j', async (args, names) => {
    const root = tree();
    expect(await hpcp(root, ...args)).toMatchObject({ code: 0, stderr: '' });
    expect(list(root, 'o')).toEqual(names);
  });

  it('matches excludes with the name of the source, not with the new one', async () => {
    const root = tree();
    await hpcp(root, 's/a', '-d', 'new', '-e', 'new');
    expect(existsSync(join(root, 'new'))).toBe(true);
    const { stderr } = await hpcp(root, 's/a', '-d', 'other', '-e', 'a');
    expect(existsSync(join(root, 'other'))).toBe(false);
    expect(stderr).toContain("the exclude pattern 'a' leaves out the whole source s/a");
  });

  it('follows a sole link to a directory, and keeps links among others', async () => {
    const root = tree();
    symlinkSync('s', join(root, 'ln'));
    await hpcp(root, 'ln', '-d', 'o');
    expect(await difference(root, 's', 'o')).toBe('');
    await hpcp(root, 'ln', 'old', '-d', 'p');
    expect(readlinkSync(join(root, 'p/ln'))).toBe('s');
  });

  it('puts each file into one of several destinations, each by its own rule', async () => {
    const root = tree();
    const result = await hpcp(root, 's', '-d', 'o', '-d', 'p/');
    expect(result).toMatchObject({ code: 0 });
    expect(result.stderr).toContain('2 destinations, each file goes to one of them: o, p/');
    expect([...list(root, 'o'), ...list(root, 'p')].filter((name) => /(a|z|hard)$/.test(name))).toHaveLength(3);
    expect(existsSync(join(root, 'p/s/sub'))).toBe(true);
  });

  it('takes names from a list', async () => {
    const root = tree();
    const list0 = `printf 'sub/z\\0a\\0' | "${process.execPath}" "${executable}" hpcp s o/ --files-from0 -`;
    expect(await program('bash', ['-c', list0], { cwd: root })).toMatchObject({ code: 0 });
    expect(list(root, 'o')).toEqual(['s', 's/a', 's/sub', 's/sub/z']);
  });

  it('runs under its own name', async () => {
    const root = tree();
    symlinkSync(executable, join(root, 'hpcp'));
    const result = await run(['s', '-d', 'o'], { cwd: root, startedAs: join(root, 'hpcp') });
    expect(lastOf(result)).toBe('Done.');
  });

  it('keeps names of any bytes, and escapes them', async () => {
    const root = tree();
    const command = `mkdir n; : > "n/$(printf 'x\\377\\n\\033[2J')"; "${process.execPath}" "${executable}" hpcp n/x* "$(printf 'n/x\\377\\n\\033[2J')" -v -d o </dev/null`;
    const { code, stdout } = await program('bash', ['-c', command], { cwd: root });
    expect(code).toBe(0);
    expect(stdout).toContain(String.raw`Copied File: x\xff\n\x1b[2J`);
    const [name] = readdirSync(Buffer.from(join(root, 'o')), { encoding: 'buffer' });
    expect(name).toEqual(Buffer.from('x\xff\n\x1b[2J', 'latin1'));
  });
});

describe('the output', () => {
  it('is nothing but JSON with --json', async () => {
    const root = tree();
    const { code, stdout, stderr } = await hpcp(root, 's', 'none', '-d', 'o', '--json', '-v');
    expect(code).toBe(207);
    const lines = jsonLines(stdout);
    expect(lines.at(-1)).toMatchObject({ type: 'summary', outcomes: { failed: 0 } });
    expect(lines.filter(({ type }) => type === 'entry')).toHaveLength(6);
    expect(stderr).toContain('Source path not found: none');
  });

  it.each<[string[], number, string]>([
    [['none', '-d', 'o'], 240, 'NO_SOURCE'],
    [['s', '-d', 'none*'], 202, 'NO_DESTINATION'],
    [['s', '-d', 's'], 241, 'SAFETY'],
    [['s', '-d', 'old'], 202, 'NO_DESTINATION'],
    [['s', '-d', 'o', '-x', 'none'], 171, 'USAGE'],
    [['s'], 2, 'USAGE'],
    [['s', '-d', 'o', '--chown', 'nobody-of-that-name'], 2, 'USAGE'],
  ])('says with --json why nothing was begun: %j', async (args, code, word) => {
    const result = await hpcp(tree(), ...args, '--json');
    expect(result.code).toBe(code);
    expect(jsonLines(result.stdout)).toMatchObject([{ type: 'error', kind: 'refused', code: word }]);
  });

  it('shows in a dry run what would be done, and does nothing', async () => {
    const root = tree();
    const { code, stdout } = await hpcp(root, 's', '-d', 'o', '--dry-run');
    expect(code).toBe(0);
    expect(stdout).toMatch(/^>f\+{9} (a|hard)$/m);
    expect(stdout).toContain('Dry run: nothing was done');
    expect(existsSync(join(root, 'o'))).toBe(false);
  });

  it.each<[string[], RegExp]>([
    [['-h'], /^usage: hpcp /],
    [['-V'], /^hpcp 9\.79 \(bulkhaul \d+\.\d+\.\d+, xxh64\)/],
  ])('%j', async (args, text) => {
    const { code, stdout, stderr } = await hpcp('/', ...args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(text);
  });

  it.each<[string[], string]>([
    [['-z'], 'no such option: -z'],
    [['--verfiy', 's', '-d', 'o'], 'no such option: --verfiy; did you mean --verify?'],
    [['--max_worker_count=3', 's'], 'no such option: --max_worker_count'],
    [
      ['s', '-rm', '-rme'],
      'argument -rm/--remove: together with -rme the destination is named with -d; nothing was done',
    ],
    [['s', '-d'], 'argument -d/-C/--dest_path: needs a value'],
  ])('of %j is the usage and one sentence', async (args, sentence) => {
    const { code, stdout, stderr } = await hpcp(tree(), ...args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(/^usage: hpcp /);
    expect(stderr.trimEnd().split('\n').at(-1)).toBe(`hpcp: error: ${sentence}`);
  });
});

describe('exit codes', () => {
  it.each<[string[], number]>([
    [['s', 'none', '-d', 'o'], 207],
    [['none', '-d', 'o'], 240],
    [['-d', 'o'], 240],
    [['s'], 2],
    [['s', '-d', ''], 2],
    [['s', '-d', 'none*'], 202],
    [['s', '-d', 'old'], 202],
    [['s', '-d', 'o', '-ncd'], 226],
    [['s', '-d', 'o', '-tfs', 'none'], 227],
    [['s', '-d', 'o', '-x', 'none'], 171],
    [['s', '-d', 'o', '-x', 's'], 170],
    [['s', '-d', 's'], 241],
    [['s', '-d', 'o', '--chmod', 'x'], 2],
  ])('%j is %d, and that is the last line', async (args, code) => {
    const root = tree();
    const result = await hpcp(root, ...args);
    expect(result.code).toBe(code);
    expect(lastOf(result)).toMatch(new RegExp(`^Error occurred: \\[.+\\], return code: ${code}\\.$`));
    expect(existsSync(join(root, 'o'))).toBe(code === 207);
  });

  it.skipIf(process.getuid?.() !== 0)('is 228 when the sources do not fit, before anything is copied', async () => {
    const root = tree();
    mkdirSync(join(root, 'small'));
    await program('mount', ['-t', 'tmpfs', '-o', 'size=100k', 'none', 'small'], { cwd: root });
    try {
      writeFileSync(join(root, 's/big'), Buffer.alloc(300_000, 'x'));
      const refused = await hpcp(root, 's', '-d', 'small/o', '-enes');
      expect(refused.code).toBe(228);
      expect(lastOf(refused)).toMatch(/return code: 228\.$/);
      expect(readdirSync(join(root, 'small'))).toEqual([]);
      expect((await hpcp(root, 's', '-d', 'small/o')).code).toBe(190);
    } finally {
      await program('umount', ['small'], { cwd: root });
    }
  });

  it('copies the rest beside a missing source', async () => {
    const root = tree();
    await hpcp(root, 's', 'none', '-d', 'o');
    expect(await difference(root, 's', 'o')).toBe('');
  });

  it('is 207 for a link to nothing, which is copied', async () => {
    const root = tree();
    symlinkSync('nowhere', join(root, 'dang'));
    expect(await hpcp(root, 'dang', 's', '-d', 'o')).toMatchObject({ code: 207 });
    expect(readlinkSync(join(root, 'o/dang'))).toBe('nowhere');
  });
});

describe('no destination', () => {
  it.each<[string, number]>([
    ['echo y | { sleep 0.1; hpcp s o; }', 2],
    ['hpcp s o < old', 2],
    ['hpcp s o < /dev/null', 0],
    ['true | { sleep 0.1; hpcp s o; }', 0],
    ['hpcp s < /dev/null', 2],
  ])('%s is %d', async (line, code) => {
    const root = tree();
    expect(await shell(line, root)).toMatchObject({ code });
    expect(existsSync(join(root, 'o'))).toBe(code === 0);
  });

  it.each<[string, string, number]>([
    ['hpcp s o', '\\r', 0],
    ['hpcp s', 'o\\r', 0],
    ['hpcp s o', 'n\\r', 147],
    ['hpcp s o', '\\004', 147],
    ['hpcp s o', '\\003', 130],
  ])('%s, and %s is typed: %d', async (line, answer, code) => {
    const root = tree();
    const result = await typed(answer, line, root);
    expect(result.code).toBe(code);
    expect(existsSync(join(root, 'o'))).toBe(code === 0);
  });
});

describe('hazards that are absent', () => {
  it.each<[string, string[]]>([
    ['.', ['s', '-d', 's']],
    ['.', ['s', '-d', './s/']],
    ['.', ['s/', '-d', 's/../s']],
    ['.', ['s', '-d', 'same']],
    ['.', ['same', '-d', 's']],
    ['.', ['s/sub', 's', '-d', 's']],
    ['.', ['old', 's/', '-d', 's/']],
    ['s', ['.', '-d', '.']],
    ['s', ['../s', '-d', './']],
  ])('a copy onto itself is refused, with everything intact: in %s, %j', async (directory, args) => {
    const root = tree();
    symlinkSync('s', join(root, 'same'));
    const result = await hpcp(join(root, directory), ...args);
    expect(result.code).toBe(241);
    expect(list(root, 's')).toEqual(['a', 'hard', 'l', 'sub', 'sub/z']);
    expect(readlinkSync(join(root, 's/l'))).toBe('a');
    expect(read(root, 's/a')).toBe('content\n');
  });

  it('a file onto itself is refused, also by a hard link', async () => {
    const root = tree();
    for (const destination of ['s/a', 's/hard', 's']) {
      const { code } = await hpcp(root, 's/a', '-d', destination);
      expect(code).toBe(241);
    }
    expect(read(root, 's/a')).toBe('content\n');
    expect(statSync(join(root, 's/a')).nlink).toBe(2);
  });

  it('a destination below the source is not descended into', async () => {
    const root = tree();
    for (let round = 0; round < 2; round++) {
      expect((await hpcp(root, 's', '-d', 's/in')).code).toBe(0);
      expect(list(root, 's/in')).toEqual(['a', 'hard', 'l', 'sub', 'sub/z']);
    }
  });

  it('an unreadable source leaves the older destination file as it was', async () => {
    const root = tree();
    const { code, stdout } = await hpcp(root, '/proc/self/mem', '-d', 'old');
    expect(code).toBe(190);
    expect(stdout).toContain('Total files copied:     0\n');
    expect(read(root, 'old')).toBe('old\n');
    expect(readdirSync(root).sort()).toEqual(['old', 's']);
  });

  it('a directory where a file comes is a conflict', async () => {
    const root = tree();
    mkdirSync(join(root, 'o/a/keep'), { recursive: true });
    expect(await hpcp(root, 's', '-d', 'o')).toMatchObject({ code: 190 });
    expect(list(root, 'o')).toEqual(['a', 'a/keep', 'hard', 'l', 'sub', 'sub/z']);
  });

  it('a file where a directory comes is a conflict, and keeps its mode', async () => {
    const root = tree();
    mkdirSync(join(root, 'o'));
    writeFileSync(join(root, 'o/sub'), 'file', { mode: 0o600 });
    expect(await hpcp(root, 's', '-d', 'o')).toMatchObject({ code: 193 });
    expect(read(root, 'o/sub')).toBe('file');
    expect(statSync(join(root, 'o/sub')).mode & 0o777).toBe(0o600);
  });

  it('a directory where a link comes is a conflict', async () => {
    const root = tree();
    mkdirSync(join(root, 'o/l'), { recursive: true });
    expect(await hpcp(root, 's', '-d', 'o')).toMatchObject({ code: 162 });
    expect(lstatSync(join(root, 'o/l')).isDirectory()).toBe(true);
  });

  it('a symlink in the destination is never written through', async () => {
    const root = tree();
    mkdirSync(join(root, 'o'));
    mkdirSync(join(root, 'elsewhere'));
    symlinkSync('../old', join(root, 'o/a'));
    symlinkSync('../elsewhere', join(root, 'o/sub'));
    expect(await hpcp(root, 's', '-d', 'o')).toMatchObject({ code: 193 });
    expect(read(root, 'old')).toBe('old\n');
    expect(read(root, 'o/a')).toBe('content\n');
    expect(readdirSync(join(root, 'elsewhere'))).toEqual([]);
    expect(await hpcp(root, 's', '-d', 'o', '--keep-dirlinks')).toMatchObject({ code: 0 });
    expect(readdirSync(join(root, 'elsewhere'))).toEqual(['z']);
  });

  it('a missing exclude file copies nothing', async () => {
    const root = tree();
    const { code, stderr } = await hpcp(root, 's', '-d', 'o', '-x', 'none');
    expect(code).toBe(171);
    expect(stderr).toContain('Exclude file does not exist: none; nothing was done');
    expect(existsSync(join(root, 'o'))).toBe(false);
  });

  it('a blank exclude pattern leaves nothing out', async () => {
    const root = tree();
    writeFileSync(join(root, 'x'), '\n\n');
    expect((await hpcp(root, 's', '-d', 'o', '-x', 'x', '-e', '')).code).toBe(0);
    expect(await difference(root, 's', 'o')).toBe('');
  });

  it('link tracking does not leave the destination', async () => {
    const root = tree();
    symlinkSync('../old', join(root, 's/up'));
    mkdirSync(join(root, 'deep'));
    expect((await hpcp(root, 's', '-d', 'deep/o', '-lt')).code).toBe(0);
    expect(readdirSync(join(root, 'deep'))).toEqual(['o']);
    expect(readlinkSync(join(root, 'deep/o/up'))).toBe('../old');
  });

  it('link tracking brings a target inside the destination that was left out', async () => {
    const root = tree();
    symlinkSync('sub/z', join(root, 's/to'));
    expect((await hpcp(root, 's/to', 's/a', '-d', 'o', '-lt')).code).toBe(0);
    expect(statSync(join(root, 'o/to')).size).toBe(300_000);
  });

  it('several sources of one name: the later wins, the loser is told', async () => {
    const root = tree();
    mkdirSync(join(root, 't'));
    writeFileSync(join(root, 't/a'), 'other\n');
    const { stderr } = await hpcp(root, 's/a', 't/a', '-d', 'o');
    expect(read(root, 'o/a')).toBe('other\n');
    expect(stderr).toContain('1 entry left out: a later source brings the same name');
  });

  it('.. as a source does not write beside the destination', async () => {
    const root = tree();
    expect((await hpcp(join(root, 's/sub'), '..', '-d', join(root, 'o/'))).code).toBe(0);
    expect(list(root, 'o')).toEqual(['a', 'hard', 'l', 'sub', 'sub/z']);
    expect(readdirSync(root).sort()).toEqual(['o', 'old', 's']);
  });

  it('a source with brackets in its name is itself', async () => {
    const root = tree();
    for (const name of ['a[1]', 'a1']) writeFileSync(join(root, name), name);
    expect((await hpcp(root, 'a[1]', '-d', 'o[1]/')).code).toBe(0);
    expect(read(root, 'o[1]/a[1]')).toBe('a[1]');
  });

  it('a FIFO is made again, and the last line is still Done.', async () => {
    const root = tree();
    await program('mkfifo', ['s/fifo'], { cwd: root });
    const result = await hpcp(root, 's', '-d', 'o');
    expect(lastOf(result)).toBe('Done.');
    expect(lstatSync(join(root, 'o/fifo')).isFIFO()).toBe(true);
  });

  it('an output that nobody reads does not stop the copy', async () => {
    const root = tree();
    const { stderr } = await program(
      'bash',
      ['-c', `"${process.execPath}" "${executable}" hpcp s -d o -v < /dev/null | true`],
      { cwd: root },
    );
    expect(stderr).toBe('');
    expect(await difference(root, 's', 'o')).toBe('');
  });
});
