/** `bulkhaul compress` and `decompress`: what others make of the archives, what is said, and what is refused. */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { compress, decompress } from '../src/index.js';
import { executable, jsonLines, program, run, scratch } from './rig.js';

const has = (tool: string) => spawnSync(tool, ['--version']).error === undefined;

/** Lines of numbers: they become smaller, and take some time. */
const lines = (seed: number, count: number) =>
  Array.from({ length: count }, (_, line) => `${(line * 7919 * seed) % 100_003}\t${line}\tgene${line % 300}\n`).join(
    '',
  );

/** A tree `t` of such files. */
function tree(): { cwd: string; at: (...names: string[]) => string; names: () => string[] } {
  const cwd = scratch();
  const at = (...names: string[]) => join(cwd, ...names);
  mkdirSync(at('t/d'), { recursive: true });
  writeFileSync(at('t/a.tsv'), lines(1, 20_000));
  writeFileSync(at('t/d/b.TSV'), lines(2, 3000));
  writeFileSync(at('t/d/c.tar.foo'), lines(3, 3000));
  writeFileSync(at('t/d/other'), lines(4, 100));
  const names = () =>
    readdirSync(at('t'), { recursive: true })
      .map(String)
      .filter((name) => name !== 'd')
      .sort();
  return { cwd, at, names };
}

const ORACLES: [format: string, suffix: string, tools: [string, ...string[]][]][] = [
  [
    'bgzf',
    'gz',
    [
      ['gzip', '-t'],
      ['bgzip', '-t'],
      ['pigz', '-t'],
    ],
  ],
  [
    'gzip',
    'gz',
    [
      ['gzip', '-t'],
      ['pigz', '-t'],
    ],
  ],
  ['xz', 'xz', [['xz', '-t']]],
  ['zstd', 'zst', [['zstd', '-t', '-q']]],
];

describe('what other programs make of it', () => {
  it.each(ORACLES)('%s', async (format, suffix, tools) => {
    const { cwd, at, names } = tree();
    const before = readFileSync(at('t/a.tsv'));
    chmodSync(at('t/a.tsv'), 0o640);
    utimesSync(at('t/a.tsv'), 1.5e9, 1.5e9);
    const { code, stdout, stderr } = await run(['compress', '--format', format, 't'], { cwd });
    expect({ code, stdout }).toEqual({ code: 0, stdout: '' });
    expect(stderr).toMatch(/^4 files compressed, [\d.]+ [KM]iB to [\d.]+ KiB \(ratio [\d.]+, [\d.]+ KiB saved\) in /);
    expect(names()).toEqual(['a.tsv', 'd/b.TSV', 'd/c.tar.foo', 'd/other'].map((name) => `${name}.${suffix}`));
    const archive = at(`t/a.tsv.${suffix}`);
    for (const [tool, ...options] of tools.filter(([tool]) => has(tool))) {
      expect(await program(tool, [...options, archive]), tool).toMatchObject({ code: 0 });
    }
    const [[tool] = ['gzip']] = tools;
    expect(execFileSync(tool, ['-d', '-c', '-q', archive]).equals(before)).toBe(true);
    expect([statSync(archive).mode & 0o777, statSync(archive).mtimeMs]).toEqual([0o640, 1.5e12]);
    // And back, also of what other programs have made.
    const goes = format === 'zstd' ? ['--rm'] : [];
    execFileSync(tool, ['-d', '-q', ...goes, at(`t/d/other.${suffix}`)]);
    execFileSync(tool, ['-q', ...goes, at('t/d/other')]);
    expect(await run(['decompress', '-q', 't'], { cwd })).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(names()).toEqual(['a.tsv', 'd/b.TSV', 'd/c.tar.foo', 'd/other']);
    expect(readFileSync(at('t/a.tsv')).equals(before)).toBe(true);
    expect([statSync(at('t/a.tsv')).mode & 0o777, statSync(at('t/a.tsv')).mtimeMs]).toEqual([0o640, 1.5e12]);
  });

  it.skipIf(!has('bgzip'))('the index is that of bgzip', async () => {
    const { cwd, at } = tree();
    expect((await run(['compress', '--index', '-q', 't'], { cwd })).code).toBe(0);
    execFileSync('bgzip', ['-r', '-I', at('theirs'), at('t/a.tsv.gz')]);
    expect(readFileSync(at('t/a.tsv.gz.gzi')).equals(readFileSync(at('theirs')))).toBe(true);
    const part = execFileSync('bgzip', ['-b', '100000', '-s', '50', at('t/a.tsv.gz')]);
    expect(String(part)).toBe(lines(1, 20_000).slice(100_000, 100_050));
  });

  it('the same content, format and level are the same bytes', async () => {
    const { cwd, at } = tree();
    writeFileSync(at('t/again'), lines(1, 20_000));
    expect((await run(['compress', '-q', '-j', '3', 't'], { cwd })).code).toBe(0);
    expect(readFileSync(at('t/again.gz')).equals(readFileSync(at('t/a.tsv.gz')))).toBe(true);
  });
});

describe('what is chosen', () => {
  it('names that end so, in any case, and of several parts', async () => {
    const { cwd, names } = tree();
    const { code, stderr } = await run(['compress', '--ext', '.tsv,tar.foo', 't'], { cwd });
    expect(code, stderr).toBe(0);
    expect(names()).toEqual(['a.tsv.gz', 'd/b.TSV.gz', 'd/c.tar.foo.gz', 'd/other']);
    expect(stderr).toMatch(/^3 files compressed.*\n {2}tsv: 2 files, .*\n {2}tar\.foo: 1 file, .*\n/);
    expect(stderr).toContain('skipped: 2 not-a-file, 1 other-suffix\n');
    const { stderr: back } = await run(['decompress', '--ext', 'tar.foo', 't'], { cwd });
    expect(back).toMatch(/^1 file decompressed/);
    expect(names()).toEqual(['a.tsv.gz', 'd/b.TSV.gz', 'd/c.tar.foo', 'd/other']);
  });

  it('the names of a list', async () => {
    const { cwd, at, names } = tree();
    writeFileSync(at('t/new\nline'), lines(5, 500));
    const input = Buffer.from('a.tsv\0new\nline\0');
    const { code, stderr } = await run(['compress', '--files-from0', '-', 't'], { cwd, input });
    expect(code, stderr).toBe(0);
    expect(names()).toEqual(['a.tsv.gz', 'd/b.TSV', 'd/c.tar.foo', 'd/other', 'new\nline.gz']);
    const here = await run(['decompress', '-q', '--files-from', '-'], { cwd: at('t'), input: 'a.tsv.gz\nmissing\n' });
    expect([here.code, here.stderr]).toEqual([23, expect.stringContaining('missing: No such file or directory')]);
    expect(names()).toContain('a.tsv');
  });

  it('not what is smaller, excluded, or compressed already', async () => {
    const { cwd, at, names } = tree();
    writeFileSync(at('t/picture.tsv'), Buffer.concat([Buffer.from('89504e470d0a1a0a', 'hex'), Buffer.alloc(5000)]));
    linkSync(at('t/d/other'), at('t/d/name'));
    symlinkSync('a.tsv', at('t/link'));
    const args = ['compress', '--min-size', '100K', '--exclude', 'b.*', '--exclude', 'c.*', 't'];
    const { code, stderr } = await run(args, { cwd });
    expect(code).toBe(0);
    expect(stderr).toContain('skipped: 2 excluded, 2 not-a-file, 1 symlink, 3 too-small\n');
    expect(names()).toContain('a.tsv.gz');
    const all = await run(['compress', 't'], { cwd });
    expect(all.stderr).toMatch(/skipped: .*2 compressed.*2 several-names, 1 symlink\n/);
    expect(all.stderr).toMatch(/^note \(several-names, 2x\): a file with several names \(hard links\) is left alone/m);
  });
});

describe('what is there already', () => {
  it('the same lets the file go, anything else is a conflict', async () => {
    const { cwd, at, names } = tree();
    expect((await run(['compress', '-k', '-q', 't'], { cwd })).code).toBe(0);
    writeFileSync(at('t/d/other'), lines(9, 100));
    const { code, stdout, stderr } = await run(['compress', '-v', 't'], { cwd });
    expect(code).toBe(23);
    expect(stderr).toContain('d/other.gz: its content is another, so both stay');
    expect(stderr).toContain('3 files removed: the archive was there already, and is the same\n');
    expect(stdout.split('\n').sort()).toEqual([
      '',
      '*deleting   t/a.tsv',
      '*deleting   t/d/b.TSV',
      '*deleting   t/d/c.tar.foo',
    ]);
    expect(names()).toEqual(['a.tsv.gz', 'd/b.TSV.gz', 'd/c.tar.foo.gz', 'd/other', 'd/other.gz']);
  });
});

describe('decompress', () => {
  it('tests, and writes nothing', async () => {
    const { cwd, at, names } = tree();
    await run(['compress', '-q', 't'], { cwd });
    const { code, stderr } = await run(['decompress', '--test', 't'], { cwd });
    expect(code).toBe(0);
    expect(stderr).toMatch(/^4 archives whole \(/);
    truncateSync(at('t/a.tsv.gz'), 5000);
    const before = names();
    for (const args of [['-t'], []]) {
      const { code, stderr } = await run(['decompress', ...args, 't/a.tsv.gz'], { cwd });
      expect(code).toBe(1);
      expect(stderr).toMatch(/read t\/a\.tsv\.gz: damaged: /);
      expect(stderr).toMatch(/\nMISMATCHED: 1 damaged \(exit 1\)\n$/);
    }
    expect(names()).toEqual(before);
    // What was named itself is read whatever its name is.
    const test = (name: string) => run(['decompress', '-t', at(name)], { cwd });
    writeFileSync(at('t/backup'), readFileSync(at('t/d/other.gz')));
    expect(await test('t/backup')).toMatchObject({ code: 0, stderr: expect.stringMatching(/^1 archive whole \(/) });
    truncateSync(at('t/backup'), 100);
    expect(await test('t/backup')).toMatchObject({ code: 1, stderr: expect.stringContaining('damaged: ') });
    writeFileSync(at('t/backup'), 'text');
    expect(await test('t/backup')).toMatchObject({ code: 23, stderr: expect.stringContaining('it is no archive') });
  });

  it('writes one file to standard output, whatever its name is', async () => {
    const { cwd, at, names } = tree();
    await run(['compress', '-q', 't'], { cwd });
    writeFileSync(at('t/nameless'), readFileSync(at('t/a.tsv.gz')));
    symlinkSync('t/a.tsv.gz', at('link.gz'));
    for (const name of ['link.gz', 't/nameless']) {
      const { code, stdout, stderr } = await run(['decompress', '-c', name], { cwd });
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expect(stdout).toBe(lines(1, 20_000));
    }
    expect(names()).toContain('a.tsv.gz');
    // Who leaves early has what was wanted.
    writeFileSync(at('t/long'), lines(1, 400_000));
    await run(['compress', '-q', 't/long'], { cwd });
    const shell = `"${process.execPath}" "${executable}" decompress -c t/long.gz | head -n 1`;
    const early = await program('bash', ['-o', 'pipefail', '-c', shell], { cwd });
    expect(early).toEqual({ code: 0, stdout: '0\t0\tgene0\n', stderr: '' });
    expect(await run(['decompress', '-c', 't'], { cwd })).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('t: it is no file'),
    });
  });

  it('reads what a link leads to, where it only reads; in place a link that is named is left alone, and told', async () => {
    const { cwd, at, names } = tree();
    symlinkSync('t', at('link'));
    symlinkSync('a.tsv', at('t/l'));
    const told = /^note \(symlink, 2x\): a symlink is left alone, .* or named with a slash at its end, first at /m;
    for (const verb of ['compress', 'decompress']) {
      const { code, stderr } = await run([verb, 'link', 't/l'], { cwd });
      expect([code, stderr]).toEqual([0, expect.stringMatching(told)]);
      expect(names()).toContain('a.tsv');
    }
    await run(['compress', '-q', 'link/'], { cwd });
    symlinkSync('a.tsv.gz', at('t/l.gz'));
    for (const [name, count] of [
      ['link', '4 archives'],
      ['t/l.gz', '1 archive'],
    ] as const) {
      const { code, stderr } = await run(['decompress', '-t', name], { cwd });
      expect([code, stderr]).toEqual([0, expect.stringMatching(new RegExp(`^${count} whole \\(`))]);
    }
    truncateSync(at('t/a.tsv.gz'), 5000);
    expect(await run(['decompress', '-t', 'link'], { cwd })).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/read link\/a\.tsv\.gz: damaged: /),
    });
  });

  it('names what it does not read', async () => {
    const { cwd, at } = tree();
    writeFileSync(at('t/old.bz2'), 'BZh9');
    const { code, stderr } = await run(['decompress', 't'], { cwd });
    expect(code).toBe(0);
    expect(stderr).toContain(
      'an archive of another program is left alone: bzip2; bunzip2 reads it, first at t/old.bz2',
    );
  });
});

describe('jobs', () => {
  it('one that is interrupted goes on, and is known by its name', async () => {
    const { cwd, names } = tree();
    const env = { XDG_STATE_HOME: join(cwd, 'state') };
    const stopped = await run(['compress', '--max-duration', '0', '--journal', 't'], { cwd, env });
    expect(stopped.code, stopped.stderr).toBe(130);
    const { stdout } = await run(['status'], { cwd, env });
    expect(stdout).toMatch(/^compress-[0-9a-f]{8} +interrupted /m);
    const resumed = await run(['resume'], { cwd: '/', env });
    expect(resumed.code, resumed.stderr).toBe(0);
    expect(resumed.stderr).toMatch(/4 files compressed|^3 files compressed|files compressed/);
    expect(names().every((name) => name.endsWith('.gz'))).toBe(true);
  });

  it('a dry run says what would be, and does nothing', async () => {
    const { cwd, names } = tree();
    const before = names();
    const { code, stdout, stderr } = await run(['compress', '-n', '--ext', 'tsv', 't'], { cwd });
    expect({ code, stdout }).toEqual({ code: 0, stdout: '>f+++++++++ t/a.tsv.gz\n>f+++++++++ t/d/b.TSV.gz\n' });
    expect(stderr).toMatch(/^2 files would be compressed, [\d.]+ KiB in /);
    const told = jsonLines((await run(['compress', '-n', '--json', '-v', '--ext', 'tsv', 't'], { cwd })).stdout);
    for (const { source, bytes } of told.filter(({ outcome }) => outcome === 'copied'))
      expect(bytes).toBe(statSync(join(cwd, String(source))).size);
    expect(names()).toEqual(before);
  });

  it('JSON has each file, and sums by extension', async () => {
    const { cwd } = tree();
    const { stdout } = await run(['compress', '--json', '-v', '--ext', 'tsv', 't'], { cwd });
    const told = jsonLines(stdout);
    const entries = told.filter(({ type, outcome }) => type === 'entry' && outcome === 'copied');
    expect(entries.map(({ source, destination }) => [source, destination]).sort()).toEqual([
      ['t/a.tsv', 't/a.tsv.gz'],
      ['t/d/b.TSV', 't/d/b.TSV.gz'],
    ]);
    const summary = told.at(-1);
    expect(summary).toMatchObject({ type: 'summary', sync: 'all', complete: true });
    const [sums] = (summary?.conversions ?? []) as {
      extension: string;
      files: number;
      before: number;
      after: number;
    }[];
    expect(sums).toMatchObject({ extension: 'tsv', files: 2, before: lines(1, 20_000).length + lines(2, 3000).length });
    expect(sums?.after).toBe(entries.reduce((sum, { bytes }) => sum + Number(bytes), 0));
  });
});

it.each([
  [
    ['compress', 't', '--ext', 'tsv', 'csv', 'tar.foo'],
    ['a.tsv.gz', 'd/b.TSV.gz', 'd/c.tar.foo.gz', 'd/other'],
  ],
  [
    ['compress', 't', '--ext', 'tsv', 'tar.foo', '-k'],
    ['a.tsv', 'a.tsv.gz', 'd/b.TSV', 'd/b.TSV.gz', 'd/c.tar.foo', 'd/c.tar.foo.gz', 'd/other'],
  ],
  [
    ['compress', 't/d', '--ext', 'tsv', 'csv', '-q', '--ext=zip', 'tar.foo'],
    ['a.tsv', 'd/b.TSV.gz', 'd/c.tar.foo.gz', 'd/other'],
  ],
])('what is no path right behind an extension is one more: %j', async (args, wanted) => {
  const { cwd, names } = tree();
  const { code, stderr } = await run([...args, '--force'], { cwd });
  expect([code, names()], stderr).toEqual([0, wanted]);
});

it('a missing PATH is a failure (23): one with a slash, or behind one that is there, or behind another option', async () => {
  const { cwd, names } = tree();
  for (const args of [['./gone'], ['-q', 'gone'], ['--', 'gone']]) {
    const alone = await run(['compress', '--ext', 'tsv', ...args], { cwd });
    expect(alone).toMatchObject({ code: 23, stderr: expect.stringContaining('gone: No such file or directory') });
  }
  const beside = await run(['compress', '--ext', 'tsv', 't', 'gone'], { cwd });
  expect(beside).toMatchObject({ code: 23, stderr: expect.stringMatching(/1 missing[\s\S]*INCOMPLETE/) });
  expect(names()).toEqual(expect.arrayContaining(['a.tsv.gz', 'd/b.TSV.gz']));
});

describe('refused before any work', () => {
  it.each([
    [['compress'], 'compress takes PATH…, and nothing was given'],
    [['compress', '--level', '13', 't'], 'level 13 is not one of bgzf: 1 to 12'],
    [['compress', '--format', 'zstd', '--level', '20', 't'], 'level 20 is not one of zstd: 1 to 19'],
    [['compress', '--format', 'bzip2', 't'], '--format: bzip2 is none of bgzf, gzip, xz, zstd'],
    [['compress', '--format', 'xz', '--index', 't'], '--index goes with --format bgzf'],
    [['compress', '--ext', '', 't'], "extensions: '' is none"],
    [['compress', '--ext', 'tsv', 'clusters', 't'], 'there is no clusters; did you mean --ext tsv,clusters?'],
    [['compress', '--ext', 'tsv', 'gone'], 'takes PATH…, and nothing was given but extensions: tsv, gone'],
    [['compress', '--min-size', '1.5G', 't'], '--min-size: not a size: 1.5G'],
    [['compress', '-d', 't'], '-d is not an option of compress: bulkhaul decompress does that'],
    [['compress', '--files-from', '-', 't', 'u'], '--files-from goes with one PATH, and 2 were given'],
    [['decompress', '-c', '-t', 't'], '--stdout writes, and --test writes nothing'],
    [['decompress', '-c', '-n', 't/a.tsv'], 'output writes, and a dry run does not'],
    [['decompress', '-c', 't/a.tsv', 't/d/other'], 'output takes the content of one file'],
    [['gunzip', 't'], 'there is no command gunzip; did you mean decompress?'],
  ])('%j', async (args, sentence) => {
    const { cwd, names } = tree();
    const before = names();
    const { code, stdout, stderr } = await run(args, { cwd });
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain(sentence);
    expect(names()).toEqual(before);
  });
});

describe('the library', () => {
  it('compresses and decompresses', async () => {
    const { at, names } = tree();
    const report = await compress({
      sources: [at('t')],
      extensions: ['tsv'],
      format: 'zstd',
      level: 1,
      verifySource: true,
    }).orThrow();
    expect(report.conversions).toMatchObject([{ extension: 'tsv', files: 2 }]);
    expect(names()).toEqual(['a.tsv.zst', 'd/b.TSV.zst', 'd/c.tar.foo', 'd/other']);
    await expect(decompress({ sources: at('t'), test: true })).resolves.toMatchObject({ exitCode: 0 });
    // A file that is there would be written over in part, one that is not would not be whole.
    for (const output of [at('t/d/other'), at('one')]) {
      await expect(decompress({ sources: at('t/a.tsv.zst'), output })).rejects.toMatchObject({ code: 'OUTPUT' });
    }
    await decompress({ sources: at('t') }).orThrow();
    expect(readFileSync(at('t/a.tsv'), 'utf8')).toBe(lines(1, 20_000));
  });

  it.each([
    [{ level: '6' }, 'level'],
    [{ format: 'bzip2' }, "format: 'bzip2' is none of bgzf, gzip, xz, zstd"],
    [{ ext: ['tsv'] }, 'there is no option ext'],
    [{ minSize: -1 }, 'minSize'],
  ])('%j is refused', async (wrong, sentence) => {
    const { at } = tree();
    const job = compress({ sources: at('t'), ...wrong } as never);
    await expect(job).rejects.toMatchObject({ code: 'USAGE', message: expect.stringContaining(sentence) });
  });
});
