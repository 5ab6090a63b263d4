/** `bulkhaul manifest`: what others make of its manifests, what is in them, and what is not. */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { manifest } from '../src/index.js';
import { executable, jsonLines, program, run, scratch } from './rig.js';

const has = (tool: string) => spawnSync(tool, ['--version']).error === undefined;
/** A b3sum that knows carriage returns, and digests with names of algorithms. */
const B3SUM = fileURLToPath(new URL('../../.setup/b3sum-1.8/bin/b3sum', import.meta.url));

/** Names that text has, those that lines escape among them. */
const NAMES = [
  'a',
  'a b',
  ' lead',
  'trail ',
  'é',
  '😀',
  '-x',
  '*star',
  '#hash',
  'back\\slash',
  'new\nline',
  'a!',
  'a.b',
];
const LATIN = Buffer.from('latin-\xe9', 'latin1');

/** A tree `t` of such names, each file with its own content, and what is no regular file. */
function tree(names = NAMES): { cwd: string; at: (...names: string[]) => string } {
  const cwd = scratch();
  const at = (...names: string[]) => join(cwd, ...names);
  mkdirSync(at('t/d/e'), { recursive: true });
  mkdirSync(at('t/empty'));
  for (const name of names) {
    writeFileSync(at('t', name), `in ${name}`);
    writeFileSync(at('t/d', name), `in d/${name}`);
  }
  writeFileSync(at('t/d/e/nothing'), '');
  writeFileSync(at('t/big'), Buffer.alloc(3_000_001, 'big'));
  symlinkSync('a', at('t/link'));
  execFileSync('mkfifo', [at('t/fifo')]);
  return { cwd, at };
}

/** The paths of all files of the tree, as bytes, sorted. */
const sorted = (names: readonly string[]) =>
  [...names.flatMap((name) => [name, `d/${name}`]), 'd/e/nothing', 'big']
    .map((name) => Buffer.from(name))
    .sort(Buffer.compare);

describe('what b3sum, sha256sum and the others make of it', () => {
  it.each([
    ['blake3', ['b3sum', '--check', '--quiet']],
    ['sha256', ['sha256sum', '-c', '--strict', '--quiet']],
    ['sha512', ['sha512sum', '-c', '--strict', '--quiet']],
    ['md5', ['md5sum', '-c', '--strict', '--quiet']],
  ])('%s', async (algorithm, [tool = '', ...options]) => {
    const { cwd, at } = tree();
    const { code, stdout, stderr } = await run(['manifest', '-a', algorithm, '-o', 'M', 't/'], { cwd });
    expect([code, stdout]).toEqual([0, '']);
    expect(stderr).toMatch(/^28 entries listed, 2\.86 MiB hashed in .*\nskipped: 6 not-a-file\n/);
    const sums = readFileSync(at('M'), 'utf8');
    // The same lines as of the tool itself.
    if (!has(tool)) return;
    const theirs = await program(tool, ['--', ...sorted(NAMES).map(String)], { cwd: at('t') });
    expect(sums).toBe(theirs.stdout);
    expect(await program(tool, [...options, '../M'], { cwd: at('t') })).toEqual({ code: 0, stdout: '', stderr: '' });
    appendFileSync(at('t/a.b'), '!');
    expect((await program(tool, [...options, '../M'], { cwd: at('t') })).code).toBe(1);
  });

  it.skipIf(!existsSync(B3SUM))('b3sum 1.8, also with names that 1.2 does not take, and back', async () => {
    const names = [...NAMES, 'carriage\rreturn', 'all\r\n\\of it'];
    const { cwd, at } = tree(names);
    expect((await run(['manifest', '-o', 'M', 't/'], { cwd })).code).toBe(0);
    const files = sorted(names).map(String);
    const theirs = await program(B3SUM, ['--', ...files], { cwd: at('t') });
    expect(readFileSync(at('M'), 'utf8')).toBe(theirs.stdout);
    const checked = ['--check', '--quiet', '../M'];
    expect(await program(B3SUM, checked, { cwd: at('t') })).toEqual({ code: 0, stdout: '', stderr: '' });
    const verified = async (name: string) => {
      const { code, stderr } = await run(['verify', '--in', 't', name], { cwd });
      return { code, said: stderr.match(/^verified: \d+ files/)?.[0] };
    };
    const tagged = await program(B3SUM, ['--tag', '--', ...files], { cwd: at('t') });
    for (const sums of [theirs.stdout, tagged.stdout]) {
      writeFileSync(at('N'), sums);
      expect(await verified('N')).toEqual({ code: 0, said: `verified: ${files.length} files` });
    }
    appendFileSync(at('t/carriage\rreturn'), '!');
    expect([(await program(B3SUM, checked, { cwd: at('t') })).code, (await verified('N')).code]).toEqual([1, 1]);
  });

  it('NUL-terminated, also names that are not UTF-8', async () => {
    const { cwd, at } = tree();
    writeFileSync(Buffer.concat([Buffer.from(at('t/')), LATIN]), 'latin');
    expect((await run(['manifest', '--nul', '-a', 'sha256', '-o', 'M', 't'], { cwd })).code).toBe(0);
    const names = Buffer.concat(
      [...sorted(NAMES), LATIN]
        .sort(Buffer.compare)
        .map((name) => Buffer.concat([Buffer.from('t/'), name, Buffer.of(0)])),
    );
    const theirs = execFileSync('xargs', ['-0', 'sha256sum', '-z', '--'], { cwd, input: names });
    expect(readFileSync(at('M')).equals(theirs)).toBe(true);
  });

  it.skipIf(!has('hashdeep'))('hashdeep finds all of it, and what changed', async () => {
    const names = NAMES.filter((name) => !name.includes('\n'));
    const { cwd, at } = tree(names);
    expect((await run(['manifest', '--format', 'hashdeep', '-o', 'M', 't/'], { cwd })).code).toBe(0);
    const audit = () => spawnSync('hashdeep', ['-a', '-r', '-l', '-o', 'f', '-k', '../M', '.'], { cwd: at('t') });
    expect(String(audit().stdout)).toContain('Audit passed');
    writeFileSync(at('t/a'), 'xx a');
    expect(String(audit().stdout)).toContain('Audit failed');
  });

  it('of a bag: its own algorithm, and the names of RFC 8493', async () => {
    const { cwd, at } = tree();
    writeFileSync(at('t/d/100%'), '');
    expect((await run(['manifest', '--format', 'bagit', '-o', 'M', 't/d'], { cwd })).code).toBe(0);
    const lines = readFileSync(at('M'), 'utf8').split('\n');
    const theirs = execFileSync('sha512sum', ['t/d/a'], { cwd, encoding: 'utf8' });
    expect(lines).toContain(theirs.trim().replace('t/d', 'd'));
    expect(lines.some((line) => /^[0-9a-f]{128} {2}d\/100%25$/.test(line))).toBe(true);
    expect(lines.some((line) => /^[0-9a-f]{128} {2}d\/new%0Aline$/.test(line))).toBe(true);
  });
});

describe('the form jsonl', () => {
  it('has all that is known of entries of all kinds', async () => {
    const { cwd, at } = tree(['a']);
    linkSync(at('t/a'), at('t/d/second'));
    writeFileSync(Buffer.concat([Buffer.from(at('t/')), LATIN]), 'latin');
    const { code } = await run(['manifest', '--format', 'jsonl', '-a', 'blake3', '-a', 'md5', '-o', 'M', 't'], { cwd });
    expect(code).toBe(0);
    const lines = readFileSync(at('M'), 'utf8').trimEnd().split('\n');
    const [head, ...entries] = lines.map((line): Record<string, unknown> => JSON.parse(line));
    expect(head).toEqual({ type: 'manifest', schema: 1 });
    expect(entries.map(({ path }) => path)).toEqual(
      ['t', 't/a', 't/big', 't/d', 't/d/a', 't/d/e', 't/d/e/nothing', 't/d/second', 't/empty', 't/fifo'].concat([
        't/latin-\ufffd',
        't/link',
      ]),
    );
    const of = (path: string) => entries.find((entry) => entry.path === path);
    const { mtimeNs, ctimeNs, size, uid, gid } = statSync(at('t/a'), { bigint: true });
    const md5 = execFileSync('md5sum', [at('t/a')], { encoding: 'utf8' }).slice(0, 32);
    expect(of('t/a')).toEqual({
      path: 't/a',
      kind: 'file',
      size: Number(size),
      mtimeNs: String(mtimeNs),
      ctimeNs: String(ctimeNs),
      mode: 0o644,
      user: Number(uid),
      group: Number(gid),
      linkGroup: 1,
      digests: { blake3: expect.stringMatching(/^[0-9a-f]{64}$/), md5 },
    });
    expect(of('t/d/second')).toMatchObject({ linkGroup: 1, digests: { md5 } });
    expect(of('t/d')).not.toHaveProperty('digests');
    expect(of('t/link')).toMatchObject({ kind: 'symlink', target: 'a' });
    expect(of('t/fifo')).toMatchObject({ kind: 'fifo' });
    expect(of('t/latin-\ufffd')).toMatchObject({
      pathBase64: Buffer.concat([Buffer.from('t/'), LATIN]).toString('base64'),
    });
  });
});

describe('what is in no manifest', () => {
  it('itself, what an earlier run has left, the log, the state directory: the same bytes on every run', async () => {
    const { cwd, at } = tree();
    writeFileSync(at('t/.bh-0123abcd-0123456789abcdef'), 'what a dead run has left');
    for (const format of ['sums', 'jsonl']) {
      const args = [
        ...['manifest', '--format', format, '--journal', '--state-dir', 't/state'],
        ...['--log-file', 't/log', '-o', 't/d/M', 't/'],
      ];
      const texts: string[] = [];
      for (let time = 0; time < 3; time++) {
        const { code, stderr } = await run(args, { cwd });
        expect(code).toBe(0);
        expect(stderr).toMatch(/\d in-use/);
        texts.push(readFileSync(at('t/d/M'), 'utf8'));
      }
      expect(new Set(texts).size).toBe(1);
      expect(texts[0]).not.toMatch(/\bd\/M\b|state|"log|\blog$/m);
    }
    expect(readdirSync(at('t/d')).filter((name) => name.startsWith('.'))).toEqual([]);
  });

  it('what rules exclude', async () => {
    const { cwd } = tree(['a', 'b.o']);
    const { stdout } = await run(['manifest', '-a', 'crc32c', '--exclude', '*.o', '--exclude', 'big', 't/d'], { cwd });
    expect(stdout.replace(/^[0-9a-f]{8} {2}/gm, '')).toBe('d/a\nd/e/nothing\n');
  });

  it('a name that b3sum does not take: it is named, with what to do, and the rest is there', async () => {
    const { cwd } = tree(['a']);
    writeFileSync(Buffer.concat([Buffer.from(join(cwd, 't/')), LATIN]), 'latin');
    const { code, stdout, stderr } = await run(['manifest', 't/d', 't/a', 't/'], { cwd });
    expect(code).toBe(23);
    expect(stderr).toMatch(/t\/latin-\\xe9: the name is not UTF-8.*; the form jsonl has it$/m);
    expect(stdout).toMatch(/^[0-9a-f]{64} {2}a\n[\s\S]*[0-9a-f]{64} {2}d\/a\n/);
    expect(stdout).not.toContain('latin');
  });

  it('a name that two sources bring with other content; the same content stands once', async () => {
    const { cwd, at } = tree(['a']);
    mkdirSync(at('u'));
    writeFileSync(at('u/a'), 'in a');
    const once = await run(['manifest', 'u/', 'u/'], { cwd });
    expect([once.code, once.stdout.split('\n').length]).toEqual([0, 2]);
    writeFileSync(at('u/a'), 'other');
    const { code, stderr } = await run(['manifest', 't/', 'u/'], { cwd });
    expect(code).toBe(23);
    expect(stderr).toContain('another source brings this name with other content');
  });
});

describe('what is no answer', () => {
  it.each([
    [['-a', 'sha1'], '--algorithm: sha1 is none of blake3, sha256, sha512, md5, crc32c, xxh3'],
    [['-a', 'md5', '-a', 'blake3'], 'a manifest of this format has one algorithm'],
    [['--format', 'hashdeep', '-a', 'xxh3'], 'hashdeep knows md5 and sha256 only'],
    [['--format', 'jsonl', '--nul'], 'only lines of the format sums can end with NUL'],
  ])('%j', async (args, said) => {
    const { cwd } = tree(['a']);
    const { code, stderr } = await run(['manifest', ...args, 't'], { cwd });
    expect(code).toBe(2);
    expect(stderr).toContain(said);
  });

  it('a source that is not there leaves an older manifest', async () => {
    const { cwd, at } = tree(['a']);
    writeFileSync(at('M'), 'older');
    expect((await run(['manifest', '-o', 'M', 'nothing'], { cwd })).code).toBe(23);
    expect(readFileSync(at('M'), 'utf8')).toBe('older');
  });
});

it('--json has the digests', async () => {
  const { cwd } = tree(['a']);
  const { code, stdout } = await run(['manifest', '--json', '-a', 'xxh3', 't/'], { cwd });
  expect(code).toBe(0);
  const lines = jsonLines(stdout);
  const entries = lines.filter(({ type }) => type === 'entry');
  expect(entries.map(({ path }) => path)).toEqual(['a', 'big', 'd/a', 'd/e/nothing']);
  // xxhsum -H3 of nothing.
  expect(entries[3]).toMatchObject({ outcome: 'listed', digests: { xxh3: '2d06800538d394c2' }, size: 0 });
  expect(lines.at(-1)).toMatchObject({ complete: true, hashedBytes: 3_000_001 + 4 + 6 });
});

it('is a job with a journal, and status knows it', async () => {
  const { cwd } = tree(['a']);
  const state = ['--state-dir', 'state'];
  expect((await run(['manifest', ...state, '--journal', '-o', 'M', 't'], { cwd })).code).toBe(0);
  expect((await run(['status', ...state, '--json'], { cwd })).stdout).toMatch(/"id":"manifest-[0-9a-f]{8}"/);
});

it('the death of a run leaves the older manifest, and no other', async () => {
  const { cwd, at } = tree(['a']);
  truncateSync(at('t/big'), 2 ** 40);
  writeFileSync(at('M'), 'older');
  const job = program(process.execPath, [executable, 'manifest', '--json', '-o', 'M', 't'], {
    cwd,
    env: { BULKHAUL_PROGRESS_INTERVAL: '0.1' },
    onOutput: (child) => void child.kill('SIGKILL'),
  });
  expect((await job).code).toBe(null);
  expect(readFileSync(at('M'), 'utf8')).toBe('older');
  expect(readdirSync(cwd).sort()).toEqual(['M', 't']);
});

it('the library gives the same', async () => {
  const { cwd, at } = tree(['a']);
  const digests: Record<string, Record<string, string> | undefined> = {};
  const job = manifest({ sources: `${at('t')}/`, algorithms: ['md5'], output: at('M'), entries: true });
  for await (const event of job) if (event.type === 'entry') digests[event.path] = event.digests;
  expect((await job).complete).toBe(true);
  const lines = Object.entries(digests).map(([path, digest]) => `${digest?.md5}  ${path}\n`);
  expect(readFileSync(join(cwd, 'M'), 'utf8')).toBe(lines.join(''));
});

describe('a copy that writes a manifest', () => {
  it.each([
    ['blake3', ['b3sum', '--check', '--quiet']],
    ['sha256', ['sha256sum', '-c', '--strict', '--quiet']],
    ['md5', ['md5sum', '-c', '--strict', '--quiet']],
  ])('%s, which the destination passes', async (algorithm, [tool = '', ...options]) => {
    const { cwd, at } = tree();
    const copying = ['copy', '--manifest', 'M', '--algorithm', algorithm, 't/', 'd'];
    for (const times of ['first', 'again']) {
      const { code, stderr } = await run(copying, { cwd });
      expect({ times, code, stderr }).toMatchObject({ code: 0 });
      await run(['manifest', '-a', algorithm, '-o', 'N', 't/'], { cwd });
      expect(readFileSync(at('M'), 'latin1')).toBe(readFileSync(at('N'), 'latin1'));
    }
    const checked = spawnSync(tool, [...options, '../M'], { cwd: at('d'), encoding: 'utf8' });
    expect(checked).toMatchObject({ status: 0, stdout: '', stderr: '' });
  });

  it('has names as they are in the destination, and goes to standard output', async () => {
    const { cwd } = tree(['a']);
    const { code, stdout } = await run(['copy', '-q', '--manifest', '-', 't', 'd'], { cwd });
    expect({ code, names: stdout.split('\n').map((line) => line.slice(66)) }).toEqual({
      code: 0,
      names: ['t/a', 't/big', 't/d/a', 't/d/e/nothing', ''],
    });
  });

  it('is not written in a dry run, and is refused before anything is done', async () => {
    const { cwd, at } = tree(['a']);
    expect((await run(['copy', '-n', '--manifest', 'M', 't/', 'd'], { cwd })).code).toBe(0);
    for (const [options, why] of [
      [['--format', 'jsonl'], /--format and --algorithm go with --manifest/],
      [['--manifest', 'M', '--format', 'xml'], /--format: xml is none of/],
      [['--manifest', 'M', '--algorithm', 'sha3'], /--algorithm: sha3 is none of/],
      [['--manifest', 'M', '--algorithm', 'md5', '--algorithm', 'sha256'], /algorithms: /],
      [['--manifest', 'no/M'], /no\/M could not be written: /],
      [['--manifest', '-', '--json'], /can't both have standard output/],
    ] as const) {
      const { code, stderr } = await run(['copy', ...options, 't/', 'd'], { cwd });
      expect({ code, stderr }).toMatchObject({ code: 2, stderr: expect.stringMatching(why) });
    }
    expect(readdirSync(cwd)).toEqual(['t']);
    expect(at()).toBe(cwd);
  });

  it('has what was there of a big file that was killed', async () => {
    const { cwd, at } = tree(['a']);
    writeFileSync(at('t/big'), Buffer.alloc(100_000_003, 'bigger'));
    for (const algorithm of ['blake3', 'md5']) {
      const copying = ['copy', '--manifest', 'M', '--algorithm', algorithm, 't/', 'd'];
      const stopped = await run([...copying, '--bwlimit', '60m', '--max-duration', '1'], { cwd });
      expect(stopped.code).toBe(130);
      expect(existsSync(at('M'))).toBe(false);
      const { code, stderr } = await run(copying, { cwd });
      expect({ code, stderr }).toMatchObject({ code: 0 });
      await run(['manifest', '-a', algorithm, '-o', 'N', 't/'], { cwd });
      expect(readFileSync(at('M'), 'latin1')).toBe(readFileSync(at('N'), 'latin1'));
      for (const name of ['M', 'N', 'd']) rmSync(at(name), { recursive: true });
    }
  });
});

describe('--update', () => {
  /** A tree of 20 files with a manifest of the form jsonl, `update`, which runs the update, and what was read in it. */
  async function made() {
    const cwd = scratch();
    const at = (...names: string[]) => join(cwd, ...names);
    mkdirSync(at('t/d'), { recursive: true });
    for (let number = 0; number < 10; number += 1) {
      for (const name of [`t/${number}`, `t/d/${number}`]) writeFileSync(at(name), `number ${number}`);
    }
    const making = ['manifest', '--format', 'jsonl', '-o', 'M', 't/'];
    expect((await run(making, { cwd })).code).toBe(0);
    const update = async (...options: string[]) => {
      const before = readFileSync(at('M'), 'utf8');
      const { code, stdout, stderr } = await run([...making, '--update', '--json', ...options], { cwd });
      const said = jsonLines(stdout);
      const errors = said.flatMap(({ type, kind, path }) => (type === 'error' ? [[kind, path]] : []));
      const notes = said.flatMap(({ type, kind, message }) => (type === 'note' ? [[kind, message]] : []));
      const same = readFileSync(at('M'), 'utf8') === before;
      return { code, errors, notes, same, read: said.at(-1)?.hashedBytes, stderr };
    };
    const anew = async () => {
      await run(['manifest', '--format', 'jsonl', '-o', 'N', 't/'], { cwd });
      return readFileSync(at('N'), 'utf8') === readFileSync(at('M'), 'utf8');
    };
    return { cwd, at, update, anew };
  }
  /** Other content, with size and time of modification as they were. */
  const behind = (path: string) => {
    const { atime, mtime } = statSync(path);
    execFileSync('cp', ['-a', path, `${path}.kept`]);
    const content = readFileSync(path);
    content[0] = (content[0] ?? 0) ^ 1;
    writeFileSync(path, content);
    utimesSync(path, atime, mtime);
    execFileSync('touch', ['-r', `${path}.kept`, path]);
    rmSync(`${path}.kept`);
  };

  it('reads nothing where nothing changed, and the same bytes come of it', async () => {
    const { update } = await made();
    expect(await update()).toMatchObject({ code: 0, errors: [], notes: [], same: true, read: 0 });
  });

  it('reads what is new, or has another size or time, or other metadata, and says how many files are gone', async () => {
    const { at, update, anew } = await made();
    writeFileSync(at('t/0'), 'longer than before');
    utimesSync(at('t/1'), 5, 5);
    chmodSync(at('t/2'), 0o600);
    writeFileSync(at('t/new'), 'new');
    rmSync(at('t/d/3'));
    rmSync(at('t/d/4'));
    expect(await update()).toMatchObject({
      code: 0,
      errors: [],
      notes: [['gone', '2 files of the older manifest are not there any more']],
      read: 18 + 8 + 8 + 3,
    });
    expect(await anew()).toBe(true);
  });

  it('tells of content that changed behind its time, each time, and keeps what it was', async () => {
    const { at, update } = await made();
    behind(at('t/5'));
    for (let times = 0; times < 2; times += 1) {
      expect(await update()).toMatchObject({ code: 1, errors: [['behind-mtime', 't/5']], same: true, read: 8 });
    }
    const { code, stderr } = await run(['verify', '--in', 't', 'M'], { cwd: at() });
    expect([code, stderr]).toEqual([1, expect.stringMatching(/t\/5: its content is not that of line \d+ of M/)]);
    // Who writes to it says that it is meant so.
    utimesSync(at('t/5'), 9, 9);
    expect(await update()).toMatchObject({ code: 0, errors: [] });
  });

  it('--full reads all, and finds what no time tells', async () => {
    const { at, update } = await made();
    // As where the medium gives other bytes: what the manifest says is not what is there.
    const text = readFileSync(at('M'), 'utf8');
    const lines = text.split('\n');
    const rotten = lines.findIndex((line) => line.includes('"path":"d/7"'));
    lines[rotten] = (lines[rotten] ?? '').replace(
      /"blake3":"./,
      (start) => `${start.slice(0, -1)}${start.endsWith('0') ? 1 : 0}`,
    );
    writeFileSync(at('M'), lines.join('\n'));
    expect(await update()).toMatchObject({ code: 0, errors: [], same: true, read: 0 });
    expect(await update('--full')).toMatchObject({ code: 1, errors: [['bit-rot', 't/d/7']], same: true, read: 160 });
    const { stderr } = await run(['manifest', '--update', '--full', '--format', 'jsonl', '-o', 'M', 't/'], {
      cwd: at(),
    });
    expect(stderr).toMatch(/MISMATCHED: 1 damaged/);
  });

  it('makes one where there is none, and refuses what has no times, or is no whole manifest', async () => {
    const { cwd, at, update } = await made();
    rmSync(at('M'));
    writeFileSync(at('M'), '');
    const refused = async (why: RegExp) => {
      const before = readFileSync(at('M'));
      const { code, stderr } = await run(['manifest', '--update', '--format', 'jsonl', '-o', 'M', 't/'], { cwd });
      expect({ code, stderr }).toMatchObject({ code: 2, stderr: expect.stringMatching(why) });
      expect(readFileSync(at('M'))).toEqual(before);
    };
    await refused(/M: nothing is listed/);
    await run(['manifest', '-o', 'M', 't/'], { cwd });
    await refused(/M: it is no manifest of the form jsonl/);
    await run(['manifest', '--format', 'jsonl', '-o', 'M', 't/'], { cwd });
    const lines = readFileSync(at('M'), 'utf8').split('\n');
    writeFileSync(at('M'), [lines[0], lines[2], lines[1], ...lines.slice(3)].join('\n'));
    await refused(/M: line 3: the paths are not in order/);
    writeFileSync(at('M'), lines.slice(0, 9).join('\n'));
    await refused(/M: its last line has no end/);
    rmSync(at('M'));
    expect((await run(['manifest', '--update', '--format', 'jsonl', '-o', 'M', 't/'], { cwd })).code).toBe(0);
    expect(await update()).toMatchObject({ code: 0, same: true, read: 0 });
    for (const [options, why] of [
      [['--full'], /--full goes with --update/],
      [['--update', '-o', 'M'], /--update needs --format jsonl/],
      [['--update', '--format', 'jsonl'], /--update needs --format jsonl.*--output FILE/],
    ] as const) {
      const { code, stderr } = await run(['manifest', ...options, 't/'], { cwd });
      expect({ code, stderr }).toMatchObject({ code: 2, stderr: expect.stringMatching(why) });
    }
  });

  it('reads for a digest that the older one has not', async () => {
    const { update } = await made();
    expect(await update('-a', 'md5')).toMatchObject({ code: 0, same: false, read: 160 });
  });
});
