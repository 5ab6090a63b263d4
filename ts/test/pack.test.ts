/** `bulkhaul pack`: what GNU tar, bsdtar and rsync make of its shards, what further runs add, and what is in no shard. */
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
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { pack } from '../src/index.js';
import { jsonLines, run, scratch } from './rig.js';

const has = (tool: string) => spawnSync(tool, ['--version']).error === undefined;
const isRoot = process.getuid?.() === 0;

/** Names that give others trouble. */
const NAMES = ['a b', ' lead', 'trail ', '-rf', '*?[', 'new\nline', 'back\\slash', 'é', 'e\u0301', '😀', '\x1b[31m'];
const BYTES = Buffer.from('latin-\xe9\xff', 'latin1');

/** A tree `t` with what tar can hold. */
function tree(): { cwd: string; at: (...names: string[]) => string } {
  const cwd = scratch();
  const at = (...names: string[]) => join(cwd, ...names);
  mkdirSync(at('t/d/e'), { recursive: true });
  mkdirSync(at('t/empty'));
  for (const name of NAMES) writeFileSync(at('t', name), `in ${name}`);
  writeFileSync(Buffer.concat([Buffer.from(`${at('t')}/`), BYTES]), 'bytes');
  writeFileSync(at('t', 'n'.repeat(255)), 'long');
  writeFileSync(at('t/d/none'), '');
  writeFileSync(at('t/d/big'), Buffer.alloc(3_000_001, 'big'));
  writeFileSync(at('t/z'), 'first of three');
  linkSync(at('t/z'), at('t/d/e/link'));
  linkSync(at('t/z'), at('t/zz'));
  symlinkSync('../nowhere', at('t/d/dangling'));
  symlinkSync('s'.repeat(300), at('t/d/far'));
  execFileSync('mkfifo', [at('t/d/fifo')]);
  writeFileSync(at('t/holes'), 'x');
  truncateSync(at('t/holes'), 60_000_000);
  appendFileSync(at('t/holes'), 'y');
  truncateSync(at('t/holes'), 120_000_000);
  chmodSync(at('t/d/none'), 0o4711);
  chmodSync(at('t/d'), 0o500);
  execFileSync('touch', ['-hd', '1965-01-02 03:04:05.123456789', at('t/empty')]);
  execFileSync('touch', ['-hd', '2106-02-07 07:28:16.000000001', at('t/d/dangling')]);
  if (isRoot) {
    execFileSync('mknod', [at('t/d/device'), 'c', '1', '3']);
    execFileSync('chown', ['4000000000:3000000', at('t/d/big')]);
  }
  if (has('setfattr')) execFileSync('setfattr', ['-n', 'user.bytes', '-v', '0x000aff', at('t/a b')]);
  if (has('setfacl')) execFileSync('setfacl', ['-m', 'u:1234:rw,g:77:x', at('t/a b')]);
  if (has('setfacl')) execFileSync('setfacl', ['-d', '-m', 'u:1234:rwx', at('t/empty')]);
  return { cwd, at };
}

const shardsIn = (directory: string) =>
  readdirSync(directory)
    .filter((name) => /\.tar(\.gz|\.zst)?$/.test(name))
    .sort();

/** What differs, as rsync sees it. */
const differences = (left: string, right: string) =>
  execFileSync('rsync', [isRoot ? '-aniHAX' : '-aniHX', '--checksum', '--delete', `${left}/`, `${right}/`], {
    encoding: 'utf8',
  });

const GNU = ['tar', '--acls', '--xattrs', '--xattrs-include=*', '--numeric-owner', '-xp'];
const BSD = ['bsdtar', '--acls', '--xattrs', '--numeric-owner', '-xp'];

describe.skipIf(!has('rsync'))('what is packed is restored', () => {
  it.each([
    ['GNU tar', GNU, []],
    ['bsdtar', BSD, []],
    ['GNU tar, from many shards', GNU, ['--shard-size', '64k']],
    ['GNU tar, from zstd', GNU, ['--shard-size', '1m', '--compress', 'zstd']],
    ['GNU tar, from gzip', GNU, ['--shard-size', '1m', '--compress', 'bgzf']],
  ])('by %s', async (_, [tool = '', ...words], more) => {
    if (!has(tool)) return;
    const { cwd, at } = tree();
    const { code, stderr } = await run(['pack', ...more, `${at('t')}/`, at('out')], { cwd });
    expect({ code, stderr }).toMatchObject({ code: 0 });
    mkdirSync(at('back'));
    for (const shard of shardsIn(at('out'))) {
      execFileSync(tool, [...words, '-f', at('out', shard), '-C', at('back')]);
    }
    // bsdtar takes the decimals of a time before 1970 for those of one after it, and leaves the directory that it is in as it
    // comes to be.
    const own = tool === 'bsdtar' ? /^\.d\.\.t\.* (empty|\.)\/\n/gm : /^$/;
    expect(differences(at('t'), at('back')).replace(own, '')).toBe('');
  });

  it('each shard by itself, with the directories above and all names of a file', async () => {
    const { cwd, at } = tree();
    expect((await run(['pack', '--shard-size', '64k', at('t'), at('out')], { cwd })).code).toBe(0);
    const shards = shardsIn(at('out'));
    expect(shards.length).toBeGreaterThan(1);
    for (const shard of shards) {
      mkdirSync(at(`only-${shard}`));
      execFileSync('tar', ['-xpf', at('out', shard), '-C', at(`only-${shard}`)]);
    }
    const seen = execFileSync('tar', ['-tvf', at('out', shards[0] ?? '')], { encoding: 'utf8' });
    expect(seen).toContain('t/');
  });
});

it('any tar has the sums of the shards, and the index is a manifest of the tree', async () => {
  const { cwd, at } = tree();
  expect((await run(['pack', '--shard-size', '64k', `${at('t')}/`, 'out'], { cwd })).code).toBe(0);
  if (has('b3sum')) execFileSync('b3sum', ['--check', 'state-00001.b3'], { cwd: at('out') });
  const indexes = readdirSync(at('out')).filter((name) => /^shard.*jsonl$/.test(name));
  const manifests = indexes.map((name) => at('out', name));
  const { code, stderr } = await run(['verify', '--in', at('t'), '--no-extra', ...manifests], { cwd });
  expect({ code, stderr }).toMatchObject({ code: 0 });
  writeFileSync(at('t/a b'), 'IN A B');
  expect((await run(['verify', '--in', at('t'), '--no-extra', ...manifests], { cwd })).code).toBe(1);
});

it('where an entry is: its blocks are at its offset', async () => {
  const { cwd, at } = tree();
  expect((await run(['pack', `${at('t')}/`, 'out'], { cwd })).code).toBe(0);
  const shard = readFileSync(at('out/shard-00001.tar'));
  const lines = readFileSync(at('out/shard-00001.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  const entry = lines.find(({ path }) => path === 'a b');
  const blocks = shard.subarray(entry.offset, entry.offset + entry.length);
  expect(blocks.length % 512).toBe(0);
  expect(blocks.toString('latin1')).toContain('in a b');
  expect(lines.at(-1)).toMatchObject({ type: 'shard', shard: 'shard-00001.tar', size: shard.length, state: 1 });
});

it('the same tree gives the same bytes, with one worker and with several', async () => {
  const { cwd, at } = tree();
  for (const jobs of ['1', '4']) {
    expect((await run(['pack', '-j', jobs, '--shard-size', '64k', `${at('t')}/`, `out${jobs}`], { cwd })).code).toBe(0);
  }
  const files = readdirSync(at('out1')).sort();
  expect(readdirSync(at('out4')).sort()).toEqual(files);
  for (const file of files) expect(readFileSync(at('out4', file)).equals(readFileSync(at('out1', file)))).toBe(true);
});

describe('a later state', () => {
  it('has what is new or has changed in further shards, and what has gone in its state', async () => {
    const { cwd, at } = tree();
    expect((await run(['pack', `${at('t')}/`, 'out'], { cwd })).code).toBe(0);
    const before = readdirSync(at('out')).map((name) => [name, readFileSync(at('out', name))] as const);
    appendFileSync(at('t/d/e/link'), ' more');
    writeFileSync(at('t/new'), 'new');
    rmSync(at('t/ lead'));
    expect((await run(['pack', `${at('t')}/`, 'out'], { cwd })).code).toBe(0);
    const paths = execFileSync('tar', ['-tf', at('out/shard-00002.tar')], { encoding: 'utf8' }).split('\n');
    // All three names of the file that was written to.
    expect(paths).toEqual(expect.arrayContaining(['z', 'zz', 'd/e/link', 'new']));
    expect(paths).not.toContain('a b');
    expect(readFileSync(at('out/state-00002.jsonl'), 'utf8')).toContain('{"type":"removed","path":" lead"}');
    for (const [name, bytes] of before) expect(readFileSync(at('out', name)).equals(bytes)).toBe(true);
    const files = readdirSync(at('out'));
    expect((await run(['pack', `${at('t')}/`, 'out'], { cwd })).code).toBe(0);
    expect(readdirSync(at('out'))).toEqual(files);
  });

  it('goes on where a run did not end, and leaves a shard without an index alone', async () => {
    const { cwd, at } = tree();
    expect((await run(['pack', '--shard-size', '64k', `${at('t')}/`, 'out'], { cwd })).code).toBe(0);
    const all = shardsIn(at('out'));
    // As a run that died before its end: no state, the last shard without its index.
    for (const name of ['state-00001.jsonl', 'state-00001.b3', `${all.at(-1)?.replace('.tar', '')}.jsonl`]) {
      rmSync(at('out', name));
    }
    const { code, stderr } = await run(['pack', '--shard-size', '64k', `${at('t')}/`, 'out'], { cwd });
    expect({ code, stderr }).toMatchObject({ code: 0, stderr: expect.stringMatching(/skipped: .* unchanged/) });
    expect(shardsIn(at('out')).length).toBeGreaterThan(all.length);
    const shards = readFileSync(at('out/state-00001.jsonl'), 'utf8').match(/"type":"shard"/g);
    expect(shards).toHaveLength(shardsIn(at('out')).length - 1);
  });
});

describe('what is not packed', () => {
  it('is told: what can not be read, and the rest is there', { skip: !isRoot }, async () => {
    const { cwd, at } = tree();
    chmodSync(cwd, 0o777);
    mkdirSync(at('out'));
    chmodSync(at('out'), 0o777);
    chmodSync(at('t/d'), 0o755);
    chmodSync(at('t/z'), 0);
    writeFileSync(at('t/closed'), 'no');
    chmodSync(at('t/closed'), 0);
    const program = join(import.meta.dirname, '../../dist/cli/main.js');
    if (!existsSync(program)) return;
    const words = ['--reuid=65534', '--regid=65534', '--clear-groups', process.execPath, program];
    const done = spawnSync('setpriv', [...words, 'pack', '--no-journal', `${at('t')}/`, at('out')], {
      encoding: 'utf8',
    });
    // Not everybody reaches the program.
    if (done.stderr.includes('MODULE_NOT_FOUND') || done.stderr.includes('EACCES')) return;
    expect(done.status).toBe(23);
    expect(done.stderr).toMatch(/open .*closed: Permission denied/);
    const paths = execFileSync('tar', ['-tf', at('out/shard-00001.tar')], { encoding: 'utf8' }).split('\n');
    expect(paths).toContain('a b');
    for (const name of ['closed', 'z', 'zz', 'd/e/link']) expect(paths).not.toContain(name);
  });

  it('a socket, with a note, and what the run itself writes', async () => {
    const { cwd, at } = tree();
    execFileSync('python3', ['-c', `import socket; socket.socket(socket.AF_UNIX).bind('${at('t/s')}')`]);
    const { code, stderr } = await run(['pack', `${at('t')}/`, 't/out'], { cwd });
    expect({ code, stderr }).toMatchObject({ code: 0, stderr: expect.stringContaining('sockets are left out') });
    const paths = execFileSync('tar', ['-tf', at('t/out/shard-00001.tar')], { encoding: 'utf8' }).split('\n');
    expect(paths).not.toContain('s');
    expect(paths.filter((path) => path.startsWith('out'))).toEqual([]);
  });

  it.each([
    [['pack', 't/', 't', 'out'], 'it can be packed alone'],
    [['pack', 't', './t', 'out'], 'could not be told apart'],
    [['pack', '--shard-size', '0', 't', 'out'], 'a shard holds something'],
    [['pack', '--level', '3', 't', 'out'], 'level: nothing is compressed'],
    [['pack', '--compress', 'bgzf', '--level', '19', 't', 'out'], 'level 19 is not one of bgzf'],
    [['pack', 't', 'no/where'], 'no/where: No such file or directory'],
  ])('%j is refused before any work', async (words, what) => {
    const { cwd, at } = tree();
    const { code, stderr } = await run(words, { cwd });
    expect({ code, stderr }).toMatchObject({ code: 2, stderr: expect.stringContaining(what) });
    expect(existsSync(at('out'))).toBe(false);
  });
});

it('a source that is not there is an error, and nothing is made', async () => {
  const { cwd, at } = tree();
  expect((await run(['pack', 'nowhere', 'out'], { cwd })).code).toBe(23);
  expect(existsSync(at('out'))).toBe(false);
});

it('a dry run tells of the shards and writes nothing', async () => {
  const { cwd, at } = tree();
  const { code, stdout } = await run(['pack', '-n', '--json', '--shard-size', '64k', `${at('t')}/`, 'out'], { cwd });
  const parts = jsonLines(stdout).filter(({ type }) => type === 'part');
  expect(code).toBe(0);
  expect(parts.length).toBeGreaterThan(1);
  expect(parts[0]).toMatchObject({ number: 1, path: 'out/shard-00001.tar' });
  expect(existsSync(at('out'))).toBe(false);
});

it('the library tells of each shard as it is there', async () => {
  const { at } = tree();
  const job = pack({ sources: `${at('t')}/`, destination: at('out'), shardSize: 65536 });
  const paths: string[] = [];
  for await (const event of job) if (event.type === 'part' && event.path) paths.push(event.path);
  const report = await job;
  expect(report).toMatchObject({ complete: true, sync: 'all', parts: { number: paths.length } });
  expect(paths.sort()).toEqual(shardsIn(at('out')).map((name) => at('out', name)));
});
