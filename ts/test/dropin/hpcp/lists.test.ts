import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { run, scratch, shell } from '../../rig.js';

/** A directory with the trees `s` and `t`: t is s with one file new, one other and a directory missing. */
function trees(): { at: (...names: string[]) => string; hpcp: (...args: string[]) => ReturnType<typeof run> } {
  const base = scratch();
  const at = (...names: string[]) => join(base, ...names);
  mkdirSync(at('s/d2'), { recursive: true });
  mkdirSync(at('s/d10'));
  for (const [name, text] of [
    ['a10', 'c'],
    ['a9', 'c'],
    ['B', 'b'],
    ['d2/x:y', 'q'],
    ['d10/q', 'q'],
  ] as const) {
    writeFileSync(at('s', name), `${text}\n`);
  }
  symlinkSync('B', at('s/ln'));
  cpSync(at('s'), at('t'), { recursive: true, verbatimSymlinks: true, preserveTimestamps: true });
  mkdirSync(at('t/sub'));
  writeFileSync(at('t/sub/new\nname'), 'n');
  writeFileSync(at('t/back\\slash'), 'n');
  writeFileSync(at('t/-dash'), 'n');
  writeFileSync(at('t/B'), 'other\n');
  rmSync(at('t/d10'), { recursive: true });
  return { at, hpcp: (...args) => run(['hpcp', ...args], { cwd: base }) };
}

// Hashes and order as hpcp 9.79 gives them.
const LIST = `s/
s/a9:90c11e1f45ee3d36
s/a10:90c11e1f45ee3d36
s/B:afc37974405adf22
s/d2/
s/d2/x:y:e61ffece6f07201d
s/d10/
s/d10/q:e61ffece6f07201d
s/ln:B
`;

describe('-fl', () => {
  it("writes the original's list, and copies nothing", async () => {
    const { at, hpcp } = trees();
    const { code, stdout } = await hpcp('s', '-fl', 'L');
    expect(code).toBe(0);
    expect(readFileSync(at('L'), 'utf8')).toBe(LIST);
    expect(stdout).toContain('Number of files: 9\nWriting file list to L\nDone.\n');
    await hpcp('s', '-nhfl', '-fl', 'L', '-e', 'd10');
    expect(readFileSync(at('L'), 'utf8')).toBe('s/\ns/a9\ns/a10\ns/B\ns/d2/\ns/d2/x:y\ns/ln\n');
    await hpcp('s/d2/', '-pfl', '-hs', '0', '-fl', 'L');
    expect(readFileSync(at('L'), 'utf8')).toBe('./\nx:y:\n');
    expect(readdirSync(at()).sort()).toEqual(['L', 's', 't']);
  });

  it('ends with 208 where the list can not be written, with 240 where there is no source', async () => {
    const { hpcp } = trees();
    expect((await hpcp('s', '-fl', 'no/such/L')).code).toBe(208);
    // What else was wrong is no fault of the list.
    expect((await hpcp('s', '-fl', 'L', '--nice', '20')).code).toBe(2);
    expect((await hpcp('nothing', '-fl', 'L')).code).toBe(240);
  });

  it.each([
    [['s', '-fl', 'no/such/L'], 208, 'LIST'],
    [['s', '-fl', 'nothing', '-cfl'], 208, 'LIST'],
    [['-sfl', 'nothing', '-d', 't'], 208, 'LIST'],
    [['s', '-fl', 'L', '--nice', '20'], 2, 'USAGE'],
  ])('tells once in JSON what kept it from the list: %j', async (args, code, kind) => {
    const { hpcp } = trees();
    const ended = await hpcp(...args, '--json');
    expect(ended.code).toBe(code);
    const errors = ended.stdout.split('\n').filter((line) => line.includes('"type":"error"'));
    expect(errors.map((line) => JSON.parse(line).code)).toEqual([kind]);
  });

  it.each([[], ['-nhfl'], ['-rf'], ['-rm', '-rf'], ['-d', 't'], ['-cfl', '-rf']])(
    'with -rme is refused before anything is touched: %j',
    async (...flags) => {
      const { at, hpcp } = trees();
      const refused = await hpcp('s/', '-fl', 'L', '-rme', ...flags);
      expect(refused.code).toBe(2);
      expect(refused.stderr).toContain(
        'argument -rme/--remove_extra: not with a list (-fl): nothing goes from a source because a list does not name it; nothing was done',
      );
      expect(readdirSync(at()).sort()).toEqual(['s', 't']);
      expect(readdirSync(at('s')).sort()).toEqual(['B', 'a10', 'a9', 'd10', 'd2', 'ln']);
    },
  );
});

describe('comparing', () => {
  it('-cfl -d counts in both directions, as 8.96 and as 9.79', async () => {
    const { hpcp } = trees();
    const { code, stdout } = await hpcp('s', '-d', 't', '-cfl');
    expect(code).toBe(0);
    expect(stdout).toContain('Files in src but not in dest count: 3\nFiles in dest but not in src count: 5\n');
    expect(stdout).toContain('Modified count: 1\n');
    expect(stdout).toContain('Files in src but not in dest:\nB\nd10/\nd10/q\n');
    expect((await hpcp('s', '-d', 't', '-cfl', '--fail-on-diff')).code).toBe(1);
    expect((await hpcp('s', '-d', 's', '-cfl', '--fail-on-diff')).code).toBe(0);
    expect((await hpcp('s', '-d', 'nowhere', '-cfl')).code).toBe(202);
  });

  it('-dfl writes what turns the source into the destination', async () => {
    const { at, hpcp } = trees();
    const { stdout } = await hpcp('s', '-d', 't', '-dfl', 'D');
    expect(stdout).toContain('Diff file list written to D\n');
    expect(readFileSync(at('D'), 'latin1')).toBe(
      '-dash\nB\nback\\slash\nsub/\n\0sub/new\\nname\0\n-\0B\n-\0d10/\n-\0d10/q\n',
    );
    await hpcp('s', '-d', 't', '-dfl');
    expect(readdirSync(at()).filter((name) => /^DIFF_s_TO_t_\d+_file_list\.txt$/.test(name))).toHaveLength(1);
  });

  it('-tdfl alone compares, and tar takes its file', async () => {
    const { at, hpcp } = trees();
    expect((await hpcp('s', '-d', 't', '-tdfl')).code).toBe(0);
    const [file = ''] = readdirSync(at()).filter((name) => /^DIFF_s_TO_t_\d+_tar_file_list\.txt$/.test(name));
    execFileSync('tar', ['-C', at('t'), '-cf', at('new.tar'), '-T', at(file)]);
    mkdirSync(at('out'));
    execFileSync('tar', ['-C', at('out'), '-xf', at('new.tar')]);
    expect(readdirSync(at('out')).sort()).toEqual(['-dash', 'B', 'back\\slash', 'sub']);
    expect(readdirSync(at('out/sub'))).toEqual(['new\nname']);
    expect(
      execFileSync('tar', ['-tf', at('new.tar')])
        .toString()
        .trimEnd()
        .split('\n'),
    ).toHaveLength(5);
    expect(existsSync(at('t/a9'))).toBe(true);
  });

  it('a tree with a list, and two lists', async () => {
    const { at, hpcp } = trees();
    await hpcp('s', '-fl', 'L');
    const before = readFileSync(at('L'));
    const same = await hpcp('s', '-fl', 'L', '-dfl', 'D', '--fail-on-diff');
    expect([same.code, readFileSync(at('D'), 'utf8')]).toEqual([0, '']);
    expect(readFileSync(at('L'))).toEqual(before);
    expect((await hpcp('-sfl', 'L', '-fl', 'L', '-cfl', '--fail-on-diff')).code).toBe(0);
    expect((await hpcp('-sfl', 'L', '-d', 's', '-cfl', '--fail-on-diff')).code).toBe(0);
    expect((await hpcp('-sfl', 'L', '-d', 't', '-cfl', '--fail-on-diff')).code).toBe(1);
    writeFileSync(at('M'), LIST.replace('s/ln:B', 's/ln:C').replace('s/a9:90c', 's/a9:000'));
    const other = await hpcp('-sfl', 'L', '-fl', 'M', '-cfl', '--fail-on-diff');
    expect([other.code, /Modified count: (\d+)/.exec(other.stdout)?.[1]]).toEqual([1, '2']);
    expect((await hpcp('s', '-fl', 'nothing', '-cfl')).code).toBe(208);
  });

  it('by where a copy would have gone', async () => {
    const { hpcp } = trees();
    expect((await hpcp('s/a9', '-d', 't', '-cfl', '--fail-on-diff')).code).toBe(0);
    expect((await hpcp('s/a9', '-d', 't/a10', '-cfl', '--fail-on-diff')).code).toBe(0);
    expect((await hpcp('s/B', '-d', 't/', '-cfl', '--fail-on-diff')).code).toBe(1);
    expect((await hpcp('s/a9', 's/d2', '-d', 't', '-cfl', '--fail-on-diff')).code).toBe(0);
    expect((await hpcp('s/a9', 's/d10', '-d', 't', '-cfl', '--fail-on-diff')).code).toBe(1);
  });
});

describe('-sfl', () => {
  it.each([
    ['hashed', []],
    ['names only', ['-nhfl']],
  ] as const)('copies what a list names, %s', async (_, flags) => {
    const { at, hpcp } = trees();
    await hpcp('s', ...flags, '-fl', 'L');
    expect((await hpcp('-sfl', 'L', '-d', 'out')).code).toBe(0);
    expect(readdirSync(at('out')).sort()).toEqual(['B', 'a10', 'a9', 'd10', 'd2', 'ln']);
    expect(readlinkSync(at('out/ln'))).toBe('B');
    await hpcp('s/d2/x:y', 's/ln', 's/B', ...flags, '-fl', 'L');
    const inside = await run(['hpcp', '-sfl', '../../L', '-d', '../../some/'], { cwd: at('s/d2') });
    expect(inside.code).toBe(207);
    expect(readdirSync(at('some'))).toEqual(['x:y']);
  });

  it('reads standard input, with - and where there is no source', async () => {
    const { at } = trees();
    const input = '  s/a9 \n\ns/B\ns/B\nmissing\n';
    const asked = await run(['hpcp', '-sfl', '-', '-d', 'one'], { cwd: at(), input });
    const implied = await run(['hpcp', '-d', 'two'], { cwd: at(), input });
    for (const { code, stderr } of [asked, implied]) {
      expect(code).toBe(207);
      expect(stderr).toContain('missing');
    }
    expect(readdirSync(at('one'))).toEqual(['B', 'a9']);
    expect(readdirSync(at('two'))).toEqual(['B', 'a9']);
    expect((await run(['hpcp', '-d', 'three'], { cwd: at() })).code).toBe(240);
    expect((await run(['hpcp', '-rm', '-rf'], { cwd: at(), input: 's\n' })).code).toBe(240);
    expect(existsSync(at('s/a9'))).toBe(true);
    expect((await run(['hpcp', '-rm', '-rf', '-sfl', '-'], { cwd: at(), input: 's/a9\n' })).code).toBe(0);
    expect(existsSync(at('s/a9'))).toBe(false);
  });

  it('with -rme removes what the directories of the list do not have', async () => {
    const { at, hpcp } = trees();
    await hpcp('s', '-fl', 'L');
    for (const name of ['out/extra', 'out/d2/extra', 'out/gone/f']) {
      mkdirSync(dirname(at(name)), { recursive: true });
      writeFileSync(at(name), name);
    }
    const { code, stdout } = await hpcp('-sfl', 'L', '-d', 'out', '-rme', '-rf');
    expect([code, /Removed .* extra/.exec(stdout)?.[0]]).toEqual([0, 'Removed 4 of 4 extra']);
    expect(readdirSync(at('out')).sort()).toEqual(['B', 'a10', 'a9', 'd10', 'd2', 'ln']);
    expect(readdirSync(at('out/d2'))).toEqual(['x:y']);
    // Files of a list have no directory that stands for anything.
    writeFileSync(at('out/extra'), '');
    writeFileSync(at('names'), 's/a9\ns/d2/x:y\n');
    expect((await hpcp('-sfl', 'names', '-d', 'out/', '-rme', '-rf')).code).toBe(0);
    expect(existsSync(at('out/extra')) && existsSync(at('out/d10/q'))).toBe(true);
  });

  it.each([
    ['a missing name', 's/\nnone\n', 212],
    ['no name', '\n', 240],
    ['a name that says yes, and nobody else', 'y\ns\n', 147],
  ])('with -rme removes nothing for %s', async (_, input, code) => {
    const { at, hpcp } = trees();
    for (const name of ['y', 'out/s', 'out/y']) mkdirSync(at(name), { recursive: true });
    for (const name of ['y/a', 'out/extra', 'out/s/extra', 'out/y/extra']) writeFileSync(at(name), '');
    writeFileSync(at('names'), input);
    const force = code === 147 ? [] : ['-rf'];
    const piped = await run(['hpcp', '-sfl', '-', '-d', 'out/', '-rme', ...force], { cwd: at(), input });
    const redirected = await shell(`hpcp -sfl - -d out/ -rme ${force.join()} < names`, at());
    const named = await hpcp('-sfl', 'names', '-d', 'out/', '-rme', ...force);
    expect([piped.code, redirected.code, named.code]).toEqual([code, code, code]);
    for (const name of ['extra', 's/extra', 'y/extra']) expect(existsSync(at(`out/${name}`))).toBe(true);
  });

  it('names below one source, --files-from, and -rme exclude each other', async () => {
    const { at, hpcp } = trees();
    writeFileSync(at('names'), 'a9\n');
    const refused = await hpcp('s', '-d', 't', '-rme', '-rf', '--files-from', 'names');
    expect([refused.code, existsSync(at('t/-dash'))]).toEqual([2, true]);
    expect(refused.stderr).toContain("extra entries can't be told where only the names of a list are copied");
  });

  it('needs a destination, and a list that is there', async () => {
    const { hpcp } = trees();
    expect((await hpcp('-sfl', 'L')).code).toBe(2);
    expect((await hpcp('-sfl', 'L', '-d', 'out')).code).toBe(208);
  });
});

describe('the change list of 9.79', () => {
  /** Two trees, times fixed: t is the base, s is the new one. */
  function changed() {
    const base = scratch();
    const at = (...names: string[]) => join(base, ...names);
    for (const name of ['s/d', 't/d', 't/e', 's/k']) mkdirSync(at(name), { recursive: true });
    const odd = Buffer.from(`${base}/t/n\tw\nx\ry\\z\xff`, 'latin1');
    for (const [path, text] of [
      [at('s/a'), 'a'],
      [at('t/a'), 'b'],
      [at('s/gone2'), 'g'],
      [at('s/gone10'), 'g'],
      [at('t/k'), 'x'],
      [odd, 'n'],
    ] as const) {
      writeFileSync(path, `${text}\n`);
      utimesSync(path, 1e9, 1e9);
    }
    symlinkSync('a', at('s/l'));
    symlinkSync('b\t', at('t/l'));
    chmodSync(at('t/d'), 0o700);
    const own = `${process.getuid?.()}:${process.getgid?.()}`;
    const none = 'ef46db3751d8e999';
    const file = (hash: string) => `f:2:1000000000000000000:100644:${own}:${hash}:${none}`;
    // As hpcp 9.79 writes it.
    const list = [
      '#hpcp-changes\t1',
      '#op\tpath\told\tnew',
      `D\te/\td:40755:${own}:${none}\t-`,
      `D\tk\t${file('0ac3482722e9fdae')}\t-`,
      `D\tn\\tw\\nx\\ry\\\\z\xff\t${file('9f72b3d213df029e')}\t-`,
      `A\tgone2\t-\t${file('608c75b7b6127863')}`,
      `A\tgone10\t-\t${file('608c75b7b6127863')}`,
      `A\tk/\t-\td:40755:${own}:${none}`,
      `M\ta\t${file('afc37974405adf22')}\t${file('fbbde8981eccc855')}`,
      `M\td/\td:40700:${own}:${none}\td:40755:${own}:${none}`,
      'M\tl\tl:b\\t\tl:a',
      '',
    ].join('\n');
    return { base, at, list };
  }

  it('turns the destination into the source, in the bytes of the original', async () => {
    const { base, at, list } = changed();
    const { code, stderr } = await run(['hpcp', 's', '-d', 't', '--changes', '-dfl', 'D'], { cwd: base });
    expect(readFileSync(at('D'), 'latin1')).toBe(list);
    expect(stderr).toBe(
      'hpcp: note: the names in D with A and M belong to the source, those with D to the destination\n',
    );
    expect(code).toBe(0);
    await run(['compare', '--changes', '-X', '-o', 'V', 's', 't'], { cwd: base });
    const rows = (text: string) => text.split('\n').filter((row) => !/^M\td\//.test(row));
    // A native comparison of metadata looks at times of directories too.
    expect(rows(readFileSync(at('V'), 'latin1')).filter((row) => !row.startsWith('M\t./'))).toEqual(rows(list));
  });

  it('is read by its first line where sources come from a list', async () => {
    const { base, at, list } = changed();
    writeFileSync(at('s/D'), list, 'latin1');
    writeFileSync(at('s/k/inside'), 'i');
    const copied = await run(['hpcp', '-sfl', 'D', '-d', '../o/'], { cwd: at('s') });
    expect(copied).toMatchObject({ code: 0, stderr: '' });
    expect(readdirSync(at('o')).sort()).toEqual(['a', 'gone10', 'gone2', 'inside', 'l']);
    await run(['hpcp', 's/', '-d', 't/', '-dfl', 's/O'], { cwd: base });
    const back = await run(['hpcp', '-sfl', '../s/O', '-d', '../p/'], { cwd: at('t') });
    expect(back).toMatchObject({ code: 0, stderr: '' });
    expect(readdirSync(at('p'), 'latin1').sort()).toEqual(['a', 'k', 'l', 'n\tw\nx\ry\\z\xff']);
  });

  it('is no side of a comparison, and of no other version', async () => {
    const { base, at, list } = changed();
    writeFileSync(at('D'), list, 'latin1');
    writeFileSync(at('E'), '#hpcp-changes\t2\n');
    writeFileSync(at('F'), '#hpcp-changes\t1\nA\ta\tl:x\tl:y\n');
    expect(await run(['hpcp', 's', '-fl', 'D', '-cfl'], { cwd: base })).toMatchObject({ code: 208 });
    expect((await run(['compare', '--list-b', 's', 'D'], { cwd: base })).code).toBe(2);
    for (const name of ['E', 'F']) {
      expect((await run(['hpcp', '-sfl', name, '-d', 'o'], { cwd: base })).code).toBe(208);
    }
    expect((await run(['hpcp', 's', '-d', 't', '--changes', '-tdfl'], { cwd: base })).code).toBe(2);
    expect((await run(['compare', '--changes', 's', 't'], { cwd: base })).code).toBe(2);
  });
});

describe('- is a standard stream', () => {
  it('for a list that is written: the lines for people go to standard error', async () => {
    const { at, hpcp } = trees();
    await hpcp('s', '-fl', 'L', '-nhfl');
    const { code, stdout, stderr } = await hpcp('s', '-fl', '-', '-nhfl');
    expect({ code, stdout }).toEqual({ code: 0, stdout: readFileSync(at('L'), 'utf8') });
    expect(stderr).toMatch(/^> hpcp .*Getting file list for .*Done\.\n$/s);
    const compared = await hpcp('s', '-d', 't', '-tdfl', '-dfl', '-');
    expect(compared.stdout.split('\n')).toContain('--add-file="-dash"');
    expect(compared.stdout).not.toContain('>');
    expect(existsSync(at('-'))).toBe(false);
  });

  it('for patterns, and for a log', async () => {
    const { at } = trees();
    const args = ['hpcp', 's', '-d', 'o', '-x', '-', '--log-file', '-'];
    const { code, stderr } = await run(args, { cwd: at(), input: 'd2\nB\n' });
    expect(code).toBe(0);
    expect(readdirSync(at('o')).sort()).toEqual(['a10', 'a9', 'd10', 'ln']);
    expect(stderr).toContain('"msg":"summary"');
    expect(existsSync(at('-'))).toBe(false);
  });

  it.each<[string, RegExp]>([
    ['s -fl - --json', /argument --json: standard output has the list; nothing was done\n$/],
    ['-sfl - -x - -d o', /standard input can be read once; nothing was done\n$/],
    ['s -cfl -fl - -x -', /standard input can be read once; nothing was done\n$/],
  ])('for one flag only: %s', async (line, sentence) => {
    const { hpcp } = trees();
    const { code, stderr } = await hpcp(...line.split(' '));
    expect(code).toBe(2);
    expect(stderr).toMatch(sentence);
  });
});
