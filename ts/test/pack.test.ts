/** `bulkhaul pack`: what GNU tar, bsdtar and rsync make of its shards, what further runs add, and what is in no shard. */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { describe, expect, it } from 'vitest';
import { pack, unpack } from '../src/index.js';
import { has, isRoot, tarTree } from './rig/tree.js';
import { executable, jsonLines, run } from './rig.js';

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
    ['GNU tar, from many shards', GNU, ['--index', '--shard-size', '64k']],
    ['GNU tar, from zstd', GNU, ['--shard-size', '1m', '--compress', 'zstd']],
    ['GNU tar, from gzip', GNU, ['--shard-size', '1m', '--compress', 'bgzf']],
  ])('by %s', async (_, [tool = '', ...words], more) => {
    const { cwd, at } = tarTree();
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
    const { cwd, at } = tarTree();
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
  const { cwd, at } = tarTree();
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
  const { cwd, at } = tarTree();
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
  const { cwd, at } = tarTree();
  for (const jobs of ['1', '4']) {
    expect((await run(['pack', '-j', jobs, '--shard-size', '64k', `${at('t')}/`, `out${jobs}`], { cwd })).code).toBe(0);
  }
  const files = readdirSync(at('out1')).sort();
  expect(readdirSync(at('out4')).sort()).toEqual(files);
  for (const file of files) expect(readFileSync(at('out4', file)).equals(readFileSync(at('out1', file)))).toBe(true);
});

describe('a later state', () => {
  it('has what is new or has changed in further shards, and what has gone in its state', async () => {
    const { cwd, at } = tarTree();
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
    const { cwd, at } = tarTree();
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
    const { at } = tarTree();
    writeFileSync(at('t/closed'), 'no');
    for (const name of ['closed', 'z']) chmodSync(at('t', name), 0);
    // Root that may not read everything.
    const words = ['--bounding-set', '-dac_override,-dac_read_search', process.execPath, executable];
    const done = spawnSync('setpriv', [...words, 'pack', '--no-journal', `${at('t')}/`, at('out')], {
      encoding: 'utf8',
    });
    expect(done.status).toBe(23);
    expect(done.stderr).toMatch(/open .*closed: Permission denied/);
    const paths = execFileSync('tar', ['-tf', at('out/shard-00001.tar')], { encoding: 'utf8' }).split('\n');
    expect(paths).toContain('a b');
    for (const name of ['closed', 'z', 'zz', 'd/e/link']) expect(paths).not.toContain(name);
  });

  it('a socket, with a note, and what the run itself writes', async () => {
    const { cwd, at } = tarTree();
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
    [['pack', '--no-index', 't', 'out'], '--no-index: an index is always written'],
    [['pack', '--shard-size', '0', 't', 'out'], 'a shard holds something'],
    [['pack', '--level', '3', 't', 'out'], 'level: nothing is compressed'],
    [['pack', '--compress', 'bgzf', '--level', '19', 't', 'out'], 'level 19 is not one of bgzf'],
    [['pack', 't', 'no/where'], 'no/where: No such file or directory'],
  ])('%j is refused before any work', async (words, what) => {
    const { cwd, at } = tarTree();
    const { code, stderr } = await run(words, { cwd });
    expect({ code, stderr }).toMatchObject({ code: 2, stderr: expect.stringContaining(what) });
    expect(existsSync(at('out'))).toBe(false);
  });
});

it('a source that is not there is an error, and nothing is made', async () => {
  const { cwd, at } = tarTree();
  expect((await run(['pack', 'nowhere', 'out'], { cwd })).code).toBe(23);
  expect(existsSync(at('out'))).toBe(false);
});

it('a dry run tells of the shards and writes nothing', async () => {
  const { cwd, at } = tarTree();
  const { code, stdout } = await run(['pack', '-n', '--json', '--shard-size', '64k', `${at('t')}/`, 'out'], { cwd });
  const parts = jsonLines(stdout).filter(({ type }) => type === 'part');
  expect(code).toBe(0);
  expect(parts.length).toBeGreaterThan(1);
  expect(parts[0]).toMatchObject({ number: 1, path: 'out/shard-00001.tar' });
  expect(existsSync(at('out'))).toBe(false);
});

it('knows how much there is, and what each byte takes', async () => {
  const { at } = tarTree();
  const options = { sources: `${at('t')}/`, destination: at('out'), shardSize: 65536 };
  const packed = pack(options);
  const report = await packed;
  const entries = Object.values(report.found).reduce((sum, many) => sum + many);
  const known = { entries, toDo: entries, files: report.found.file, bytes: report.foundBytes };
  // A file is read once, whatever names it has, and what is packed already is not.
  const once = report.foundBytes - 2 * statSync(at('t/z')).size;
  expect(packed.snapshot().expected).toEqual({ ...known, toRead: 2 * once });
  expect(packed.snapshot().workedEntries).toBe(entries);
  const again = pack(options);
  expect((await again).complete).toBe(true);
  expect(again.snapshot().expected).toMatchObject({ bytes: report.foundBytes, toRead: 0 });
  const unpacked = unpack({ source: at('out'), destination: at('back') });
  expect((await unpacked).complete).toBe(true);
  expect(unpacked.snapshot().expected).toMatchObject({ bytes: report.foundBytes, toRead: report.foundBytes });
});

it('the library tells of each shard as it is there', async () => {
  const { at } = tarTree();
  const job = pack({ sources: `${at('t')}/`, destination: at('out'), shardSize: 65536 });
  const paths: string[] = [];
  for await (const event of job) if (event.type === 'part' && event.path) paths.push(event.path);
  const report = await job;
  expect(report).toMatchObject({ complete: true, sync: 'all', parts: { number: paths.length } });
  expect(paths.sort()).toEqual(shardsIn(at('out')).map((name) => at('out', name)));
});
