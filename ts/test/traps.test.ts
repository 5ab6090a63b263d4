/**
 * What others lost data by, each in small: public threads about tools that sync with object stores, tried on ours. Those of
 * which another test tells are in the table with the others, so that none is without one.
 */
import { randomBytes } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, it } from 'vitest';
import { type Ask, KEY, type S3, SECRET, s3 } from './rig/s3.js';
import { executable, program, run, scratch } from './rig.js';

const MIB = 1024 * 1024;
const THEN = 1_600_000_000;

function tree(files: Record<string, string | Buffer>, mtime = THEN): string {
  const root = join(scratch(), 'tree');
  mkdirSync(root);
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
    utimesSync(join(root, path), mtime, mtime);
  }
  return root;
}

type Counts = Record<string, number>;

/** Exit code, what became of files and what was said; directories of a tree are skipped, and no matter here. */
async function sync(server: S3, ...args: string[]): Promise<[code: number | null, counts: Counts, said: string]> {
  const { code, stdout, stderr } = await run(['sync', '--backoff', '0', '--json', ...args], { env: server.env });
  const last = JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}') as { outcomes?: Counts };
  const { skipped: _, ...counts } = last.outcomes ?? {};
  return [code, Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0)), stdout + stderr];
}

/** Threads, the file of the test beside this one, and how its name begins; none: it is here. */
const TRAPS: [threads: string, file: string, test: string][] = [
  ['opendal #6577 #4610 #1038', 'stores', 'each server carries a name as it is, or it is an error that names it'],
  ['opendal PR 7400 #3956, RisingWave #24673', 'sync', 'goes on after what is over in a moment'],
  ['obstore #429, multistore #116', 'sync', 'carries names or says that it can not, and takes none for absent'],
  ['arrow-rs #7026, zarr #4032', 'sync', 'lists keys as they are'],
  ['s5cmd #695 #852', 'traps', 'removes nothing by a source'],
  ['s5cmd and a dangling symlink', 'traps', 'copies all but a symlink that leads nowhere'],
  ['aws-cli #3273 #1074 #3415', 'traps', 'fetches and sends what changed and kept its size'],
  ['aws-cli #431', 'traps', 'sorts as keys sort'],
  ['aws-cli #1538 #3218', 'traps', 'sorts as keys sort'],
  ['s5cmd #450, smart_open #628, scylladb #19533', 'sync', 'settles a completion whose answer was lost'],
  ['duckdb-httpfs PR 393', 'traps', 'takes no answer for a success that says 200'],
  ['mlcommons/storage #593', 'sync', 'settles a completion whose answer was lost, and finds one that stored less'],
  ['rclone #7449 #717 #1250', 'traps', 'makes no object of a file that grows'],
  ['rclone #523, lakeFS #2486, s5cmd #561', 'traps', 'takes no tag for a sum'],
  ['opendal #6252', 'traps', 'sends parts of one length'],
  ['aws-cli #9214, seaweedfs #6548', 'traps', 'sends bodies as they are'],
  ['awscr-s3 #71, kache #278', 'sync', 'takes no listing for whole that is not'],
  ['rclone #3453 #440 #1621 #7247', 'traps', 'counts empty directories'],
  ['esthri #256, fsspec #1062', 'traps', 'leaves path2/ alone'],
  ['s3fs #988', 'filesystem', 'is written, read, listed, copied and emptied'],
  ['aeroftp PR 764', 'traps', 'takes x for no folder x/'],
  ['aws-cli #1564, mc #2048 #2373 #4047, node-s3-cli #5', 'traps', 'removes nothing by a source'],
  ['rclone #2658 #5732, genlayer-studio PR 1707, s3sync #82', 'traps', 'takes contents as they are stored'],
  ['aws-cli #748 #2088 #4039, s3cmd PR 193, s5cmd #712', 'traps', 'goes on beside what can not be read for now'],
  ['gsutil #875, rclone #2296 #5917', 'traps', 'carries times of all ages'],
  ['s3ql PR 170, minio-js #1314, versitygw #770', 'traps', 'lists on behind a page that has nothing'],
  ['aws-cli #736 #2473 #2767 #3767', 'traps', 'removes nothing where a directory can not be read'],
  ['s3cmd #279 #726', 'traps', 'takes the marker of the root'],
  ['rclone #3104 #1094', 'stores', 'moves nothing onto itself that is seen in another way'],
  ['rclone #2806, azcopy #148, blobxfer #92', 'traps', 'loses nothing to a file where a directory is'],
];

it.each(TRAPS)('has a test of %s', (_, file, test) => {
  const text = readFileSync(new URL(`./${file}.test.ts`, import.meta.url), 'utf8');
  const names = [...text.matchAll(/\b(?:it|describe)(?:\.\w+\(.*?\))?\(\s*'([^'\n]*)/gs)].map(([, name = '']) => name);
  expect(names.some((name) => name.startsWith(test))).toBe(true);
});

it('removes nothing by a source of which it saw a part, or none (s5cmd #695), and says so (#852)', async () => {
  const server = await s3({ page: 2 });
  for (const key of ['from/a', 'from/b', 'from/c']) server.put(key, '1');
  for (const key of ['to/a', 'to/old']) server.put(key, '1');
  server.plan = ({ query }) =>
    query.get('prefix') === 'from/' && query.has('continuation-token')
      ? { status: 403, code: 'AccessDenied' }
      : undefined;
  const [code] = await sync(server, '--delete', 's3://b/from', 's3://b/to');
  expect([code, server.objects.has('to/old')]).toEqual([23, true]);
  server.plan = () => undefined;
  for (const source of ['s3://b/form', `${scratch()}/none`, scratch()]) {
    const [refused] = await sync(server, '--delete', source, 's3://b/to');
    expect([source, refused === 0, server.objects.has('to/old')]).toEqual([source, false, true]);
  }
  expect((await sync(server, '--delete', 's3://b/from', 's3://b/to'))[1].removed).toBe(1);
  expect(server.objects.has('to/old')).toBe(false);
});

it('copies all but a symlink that leads nowhere (s5cmd stops)', async () => {
  const server = await s3();
  const source = tree({ a: '1', z: '2' });
  symlinkSync('nowhere', join(source, 'm'));
  expect((await sync(server, source, 's3://b/p')).slice(0, 2)).toEqual([0, { copied: 2 }]);
});

it('fetches and sends what changed and kept its size, whichever side is newer (aws-cli #3273, #1074, #3415)', async () => {
  const server = await s3();
  const later = new Date((THEN + 1000) * 1000);
  const local = tree({ a: 'old' });
  server.put('p/a', 'new', {}, later);
  expect((await sync(server, 's3://b/p', local)).slice(0, 2)).toEqual([0, { copied: 1 }]);
  expect(readFileSync(join(local, 'a'), 'utf8')).toBe('new');
  expect((await sync(server, 's3://b/p', local))[1]).toEqual({});
  // Written by somebody else once more, and the other way.
  server.put('p/a', 'yes', {}, new Date((THEN + 2000) * 1000));
  expect((await sync(server, 's3://b/p', local))[1]).toEqual({ copied: 1 });
  writeFileSync(join(local, 'a'), 'own');
  utimesSync(join(local, 'a'), THEN + 3000, THEN + 3000);
  expect((await sync(server, local, 's3://b/p'))[1]).toEqual({ copied: 1 });
  expect(server.contents).toEqual({ 'p/a': 'own' });
});

it('sorts as keys sort, so that nothing goes and comes each run (aws-cli #431), and knows a and a/b (#1538, #3218)', async () => {
  const server = await s3({ page: 1 });
  const source = tree({ 'foo.txt': '1', 'foo/a': '2', 'foo-bar/b': '3', foo0: '4' });
  expect((await sync(server, '--delete', source, 's3://b/p'))[1]).toEqual({ copied: 4 });
  for (const args of [
    [source, 's3://b/p'],
    ['s3://b/p', source],
  ]) {
    expect((await sync(server, '--delete', ...args))[1]).toEqual({});
  }
  server.put('p/foo', 'a file that is a directory elsewhere');
  const [code, counts, said] = await sync(server, 's3://b/p', source);
  expect([code, counts.copied, said.includes('/tree/foo')], said).toEqual([23, undefined, true]);
  expect(readFileSync(join(source, 'foo/a'), 'utf8')).toBe('2');
});

it('says of a prefix below which nothing is that it is missing (s5cmd #869), and an empty bucket is empty', async () => {
  const server = await s3();
  server.put('p/file', '1');
  for (const url of ['s3://b/nothere', 's3://b/p/fil']) {
    for (const args of [
      ['sync', url, join(scratch(), 'back')],
      ['list', url],
      ['manifest', url],
    ]) {
      const { code, stdout, stderr } = await run(args, { env: server.env });
      expect([args[0], url, code, stdout, stderr.includes(`${url}/: nothing is there`)], stderr).toEqual([
        ...[args[0], url, 23, '', true],
      ]);
    }
  }
  const empty = await s3();
  const { code, stderr } = await run(['sync', 's3://b/', join(scratch(), 'back')], { env: empty.env });
  expect(code, stderr).toBe(0);
});

it('takes no tag for a sum of the content (rclone #523, lakeFS #2486, s5cmd #561)', async () => {
  const server = await s3();
  const source = tree({ a: 'this', b: 'same' });
  server.put('p/a', 'that');
  server.put('p/b', 'same');
  // The tag that the content here would have, and one that says nothing.
  server.put('x', 'this');
  const [a, b, x] = ['p/a', 'p/b', 'x'].map((key) => server.objects.get(key));
  if (a && b && x) {
    a.etag = x.etag;
    b.etag = `${b.etag}-1`;
  }
  server.objects.delete('x');
  const [code, counts] = await sync(server, '--compare', 'checksum', source, 's3://b/p');
  expect([code, counts, server.contents]).toEqual([0, { copied: 1 }, { 'p/a': 'this', 'p/b': 'same' }]);
});

it('sends bodies as they are, without trailers inside or behind (aws-cli #9214, seaweedfs #6548)', async () => {
  for (const checks of ['crc', 'hash', 'nothing'] as const) {
    const server = await s3({ checks });
    const big = Buffer.alloc(6 * MIB, 'whole');
    const source = tree({ a: '1', none: '', big });
    expect((await sync(server, '--chunk-size', '5M', source, 's3://b/p')).slice(0, 2)).toEqual([0, { copied: 3 }]);
    expect([checks, server.contents['p/a'], server.contents['p/none']]).toEqual([checks, '1', '']);
    expect(server.objects.get('p/big')?.body.equals(big)).toBe(true);
    for (const name of ['x-amz-trailer', 'x-amz-decoded-content-length', 'content-encoding', 'transfer-encoding']) {
      expect([checks, name, server.headers.has(name)]).toEqual([checks, name, false]);
    }
  }
});

it('counts empty directories that it does not carry (rclone #3453), and takes a marker for one, not for a file (#440, #7247)', async () => {
  const server = await s3();
  const source = tree({ 'd/a': '1' });
  mkdirSync(join(source, 'pg_wal/empty'), { recursive: true });
  const plain = await run(['sync', source, 's3://b/p'], { env: server.env });
  expect([plain.code, server.keys, /skipped/.test(plain.stderr)], plain.stderr).toEqual([0, ['p/d/a'], true]);
  server.put('p/made/', '');
  server.put('p/d/', '');
  const back = join(scratch(), 'back');
  expect((await sync(server, 's3://b/p', back))[0]).toBe(0);
  expect(existsSync(join(back, 'made'))).toBe(false);
  expect((await sync(server, '--directory-markers', 's3://b/p', back))[0]).toBe(0);
  expect([existsSync(join(back, 'made')), readFileSync(join(back, 'd/a'), 'utf8')]).toEqual([true, '1']);
});

it('leaves path2/ alone where path is meant, and nests nothing the second time (esthri #256, fsspec #1062)', async () => {
  const server = await s3();
  server.put('path2/x', 'theirs');
  server.put('path.x', 'theirs');
  const source = tree({ a: '1' });
  for (const copied of [1, undefined]) {
    expect((await sync(server, '--delete', source, 's3://b/path'))[1].copied).toBe(copied);
    expect(server.keys).toEqual(['path.x', 'path/a', 'path2/x']);
  }
});

it('takes x for no folder x/, and no removal for done that was refused or not answered (aeroftp PR 764)', async () => {
  const server = await s3();
  const source = tree({ x: '1' });
  expect((await sync(server, source, 's3://b/p'))[0]).toBe(0);
  server.put('p/x/', '');
  expect((await sync(server, '--delete', '--directory-markers', source, 's3://b/p'))[1].removed).toBe(1);
  expect(server.contents).toEqual({ 'p/x': '1' });
  for (const key of ['p/kept', 'p/lost', 'p/old']) server.put(key, '2');
  server.removes = (key) => (({ 'p/kept': 'refused', 'p/lost': 'silent' }) as const)[key];
  const [code, counts, said] = await sync(server, '--delete', source, 's3://b/p');
  expect([code, counts.removed, counts.failed], said).toEqual([23, 1, 2]);
  for (const key of ['p/kept', 'p/lost']) expect(said).toContain(key);
  expect(server.keys).toEqual(['p/kept', 'p/lost', 'p/x']);
  server.removes = () => undefined;
  expect((await sync(server, '--delete', source, 's3://b/p'))[1].removed).toBe(2);
});

it('takes no answer for a success that says 200 and holds an error (duckdb-httpfs PR 393)', async () => {
  const source = tree({ big: Buffer.alloc(11 * MIB, 'x') });
  const fault = { status: 200, code: 'InternalError' };
  const completes = ({ method, query }: Ask) => method === 'POST' && query.has('uploadId');
  const copies = ({ method, key }: Ask) => method === 'PUT' && key === 'q/a';
  const server = await s3();
  server.put('p/a', '1');
  server.plan = (ask) => ((completes(ask) || copies(ask)) && ask.nth === 1 ? fault : undefined);
  expect((await sync(server, source, 's3://b/up'))[0]).toBe(0);
  expect((await sync(server, 's3://b/p', 's3://b/q'))[0]).toBe(0);
  expect([server.keys, server.objects.get('up/big')?.body.length]).toEqual([['p/a', 'q/a', 'up/big'], 11 * MIB]);
  server.plan = (ask) => (completes(ask) || copies(ask) ? fault : undefined);
  for (const key of ['q/a', 'up/big']) server.objects.delete(key);
  const [up, across] = [await sync(server, source, 's3://b/up'), await sync(server, 's3://b/p', 's3://b/q')];
  expect([up[0], across[0], server.keys, server.uploads.size], up[2] + across[2]).toEqual([23, 23, ['p/a'], 0]);
});

it('makes no object of a file that grows, shrinks or changes while it is sent (rclone #7449, #717, #1250)', async () => {
  const changes: Record<string, (path: string) => void> = {
    grows: (path) => appendFileSync(path, 'more'),
    shrinks: (path) => truncateSync(path, 6 * MIB),
    changes: (path) => writeFileSync(path, 'other', { flag: 'r+' }),
  };
  for (const [what, change] of Object.entries(changes)) {
    const server = await s3();
    const source = tree({ big: Buffer.alloc(11 * MIB, 'x') });
    server.plan = ({ query, nth }) => {
      if (query.get('partNumber') === '1' && nth === 1) change(join(source, 'big'));
      return undefined;
    };
    const args = ['-j1', '--chunk-size', '5M', '--memory', '5M', source, 's3://b/p'];
    const [code, , said] = await sync(server, ...args);
    expect([what, code, server.keys, server.uploads.size], said).toEqual([what, 24, [], 0]);
    server.plan = () => undefined;
    expect((await sync(server, ...args))[0]).toBe(0);
    expect(server.objects.get('p/big')?.body.equals(readFileSync(join(source, 'big')))).toBe(true);
  }
  // One that goes is sent as it was, or not at all.
  const server = await s3();
  const [content, source] = [Buffer.alloc(11 * MIB, 'x'), tree({ a: '1', big: Buffer.alloc(11 * MIB, 'x') })];
  server.plan = ({ query, nth }) => {
    if (query.get('partNumber') === '1' && nth === 1) unlinkSync(join(source, 'big'));
    return undefined;
  };
  const [code] = await sync(server, '-j1', '--chunk-size', '5M', '--memory', '5M', source, 's3://b/p');
  const there = server.objects.get('p/big');
  expect([code, there?.body.equals(content) ?? 'nothing', server.uploads.size]).toEqual([24, 'nothing', 0]);
}, 120_000);

it('sends parts of one length, but for the last (opendal #6252)', async () => {
  const server = await s3();
  const lengths: number[] = [];
  server.plan = (ask) => {
    const [upload] = server.uploads.values();
    if (ask.method === 'POST' && ask.query.has('uploadId'))
      for (const [, part] of [...(upload?.parts ?? [])].sort(([a], [b]) => a - b)) lengths.push(part.length);
    return undefined;
  };
  const source = tree({ big: Buffer.alloc(16 * MIB + 3, 'x') });
  expect((await sync(server, '--chunk-size', '5M', source, 's3://b/p'))[0]).toBe(0);
  expect(lengths).toEqual([5, 5, 5].map((mib) => mib * MIB).concat(MIB + 3));
});

it('removes keys as they are, whatever is in them (azcopy #1888, #1023, #2175, s5cmd #521, #691)', async () => {
  const server = await s3({ page: 3 });
  const odd = [
    'foo//bar',
    '/b',
    '//b',
    '%~d',
    '%2F',
    'a\u200eb',
    'a\u202fb',
    'n ',
    ' n',
    'foo/',
    'foo',
    'x\\y',
    'l\nf',
  ];
  for (const key of [...odd, 'foo/bar', 'b', 'n']) server.put(`p/${key}`, key.endsWith('/') ? '' : key);
  const source = tree({ 'foo/bar': 'foo/bar', b: 'b', n: 'n' });
  const [code, counts, said] = await sync(server, '--delete', source, 's3://b/p');
  // A marker is a directory that the source has.
  expect([code, counts.removed, server.keys], said).toEqual([0, odd.length - 1, ['p/b', 'p/foo/', 'p/foo/bar', 'p/n']]);
});

it('asks what is checked without a trace, also where nobody may remove, and takes what asks for no entry', async () => {
  const source = tree({ a: '1', b: '2' });
  for (const [checks, left] of [
    ['crc', []],
    ['hash', ['p/.bulkhaul-probe-of-checks']],
    ['nothing', ['p/.bulkhaul-probe-of-checks']],
  ] as const) {
    const server = await s3({ checks });
    // Of another run, which asks right now.
    server.put('p/d/.bulkhaul-probe-of-checks', '');
    server.plan = ({ method }) => (method === 'DELETE' ? { status: 403, code: 'AccessDenied' } : undefined);
    const [code, counts, said] = await sync(server, '--delete', source, 's3://b/p');
    expect([checks, code, counts], said).toEqual([checks, 0, { copied: 2 }]);
    expect(server.keys).toEqual([...left, 'p/a', 'p/b', 'p/d/.bulkhaul-probe-of-checks']);
    expect(said.includes('"kind":"probe"')).toBe(left.length > 0);
    // It goes with that of the next run.
    server.plan = () => undefined;
    writeFileSync(join(source, 'c'), checks);
    expect((await sync(server, '--delete', source, 's3://b/p'))[0]).toBe(0);
    expect(server.keys).toEqual(['p/a', 'p/b', 'p/c', 'p/d/.bulkhaul-probe-of-checks']);
    unlinkSync(join(source, 'c'));
  }
});

it('leaves alone what is excluded, on whichever side it is (aws-cli #778, #1481, #4923, s5cmd #815, s3sync #134)', async () => {
  const files = { a: '1', 'folder/x': '2', 'b.py': '3' };
  const rules = ['--delete', '--exclude', '/folder/', '--exclude', '*.py'];
  const server = await s3();
  for (const [key, text] of Object.entries(files)) for (const at of ['p', 'q']) server.put(`${at}/${key}`, text);
  server.put('p/old', 'goes');
  server.put('from/new', '4');
  const there = tree({ ...files, old: 'goes' });
  for (const [source, destination] of [
    [tree({ new: '4' }), 's3://b/p'],
    ['s3://b/from', 's3://b/q'],
    ['s3://b/from', there],
  ] as const)
    expect((await sync(server, ...rules, source, destination))[0]).toBe(0);
  const left = ['b.py', 'folder/x', 'new'];
  expect(server.keys).toEqual(['from/new', ...['p', 'q'].flatMap((at) => left.map((key) => `${at}/${key}`))]);
  expect(left.every((name) => existsSync(join(there, name)))).toBe(true);
  expect(['a', 'old'].some((name) => existsSync(join(there, name)))).toBe(false);
});

it('means the same by a place with a slash and without, and finds nothing to do again (azcopy #255, #2613, #1539)', async () => {
  const source = tree({ a: '1', 'd/b': '2' });
  const server = await s3();
  server.put('p.txt', 'beside');
  for (const from of [source, `${source}/`]) {
    for (const to of ['s3://b/p', 's3://b/p/']) {
      const [code, { copied, removed }] = await sync(server, '--delete', from, to);
      const first = from === source && to === 's3://b/p';
      expect([from, to, code, copied, removed]).toEqual([from, to, 0, first ? 2 : undefined, undefined]);
    }
  }
  const back = join(scratch(), 'back');
  for (const [at, from] of ['s3://b/p', 's3://b/p/'].entries()) {
    const [code, { copied, removed }] = await sync(server, '--delete', from, `${back}${at === 0 ? '' : '/'}`);
    expect([from, code, copied, removed]).toEqual([from, 0, at === 0 ? 2 : undefined, undefined]);
  }
  expect(server.keys).toEqual(['p.txt', 'p/a', 'p/d/b']);
});

it('refuses to sync a place with itself or what is in it (rclone #3995)', async () => {
  const server = await s3();
  for (const key of ['p/a', 'p/d/b']) server.put(key, key);
  for (const [from, to] of [
    ['s3://b/p', 's3://b/p/'],
    ['s3://b/p', 's3://b/p/d'],
    ['s3://b/p/d', 's3://b/p'],
    ['s3://b', 's3://b/p'],
  ] as const) {
    const [code, , said] = await sync(server, '--delete', from, to);
    expect([from, to, code !== 0, server.keys], said).toEqual([from, to, true, ['p/a', 'p/d/b']]);
  }
});

it('takes contents as they are stored, packed or not, and never has them unpacked on the way', async () => {
  const packed = gzipSync('some text that is long enough to be packed: some text that is long enough');
  const server = await s3({ unpacks: true });
  for (const key of ['p/a.gz', 'p/big']) {
    const content = key === 'p/big' ? gzipSync(randomBytes(6 * MIB)) : packed;
    server.put(key, content, { 'content-encoding': 'gzip' });
  }
  const keys = { GS_ACCESS_KEY_ID: KEY, GS_SECRET_ACCESS_KEY: SECRET };
  const back = join(scratch(), 'back');
  const args = ['--endpoint-url', server.endpoint, '--chunk-size', '5M', 'gs://b/p', back];
  const ran = await run(['sync', ...args], { env: { ...server.env, ...keys } });
  expect(ran.code, ran.stderr).toBe(0);
  for (const name of ['a.gz', 'big'])
    expect(readFileSync(join(back, name)).equals(server.objects.get(`p/${name}`)?.body ?? packed), name).toBe(true);
  // Elsewhere nobody is told that packed answers are welcome: what stands between would pack all of them.
  const plain = await s3();
  plain.put('p/a.gz', packed, { 'content-encoding': 'gzip' });
  const there = join(scratch(), 'there');
  expect((await sync(plain, 's3://b/p', there))[0]).toBe(0);
  expect([readFileSync(join(there, 'a.gz')).equals(packed), plain.headers.has('accept-encoding')]).toEqual([
    true,
    false,
  ]);
});

it('goes on beside what can not be read for now, and sends nothing for it again', async () => {
  const server = await s3();
  for (const key of ['p/a', 'p/cold', 'p/z']) server.put(key, key);
  const frozen = { status: 403, code: 'InvalidObjectState' };
  server.plan = ({ method, key }) =>
    (method === 'GET' && key.endsWith('/cold')) || (method === 'PUT' && key === 'q/cold') ? frozen : undefined;
  const there = tree({ extra: 'stays' });
  const [code, counts, said] = await sync(server, '--delete', 's3://b/p', there);
  expect([code, counts, said.includes('InvalidObjectState')], said).toEqual([23, { copied: 2, failed: 1 }, true]);
  expect([existsSync(join(there, 'extra')), existsSync(join(there, 'cold'))]).toEqual([true, false]);
  expect((await sync(server, 's3://b/p', 's3://b/q')).slice(0, 2)).toEqual([23, { copied: 2, failed: 1 }]);
  // What is there is known by its listing: it is neither read nor sent.
  const source = tree({ a: 'p/a', cold: 'p/cold', z: 'p/z' }, 0);
  expect((await sync(server, source, 's3://b/p')).slice(0, 2)).toEqual([0, {}]);
});

it('carries times of all ages, and goes by when it was written where a time is none', async () => {
  const server = await s3();
  const [source, back] = [tree({ old: '1', fraction: '2', ahead: '3' }), join(scratch(), 'back')];
  for (const [name, time] of [
    ['old', -86_400],
    ['fraction', -1.5],
    ['ahead', 13_000_000_000],
  ] as const)
    utimesSync(join(source, name), time, time);
  const wrong = ['NaN', '1e400', '99999999999999999999', '-', 'yesterday', '1.2.3'];
  for (const [at, mtime] of wrong.entries()) server.put(`w/${at}`, mtime, { 'x-amz-meta-mtime': mtime });
  expect((await sync(server, source, 's3://b/p')).slice(0, 2)).toEqual([0, { copied: 3 }]);
  expect((await sync(server, 's3://b/p', back)).slice(0, 2)).toEqual([0, { copied: 3 }]);
  for (const name of ['old', 'fraction', 'ahead'])
    expect([name, statSync(join(back, name)).mtimeMs]).toEqual([name, statSync(join(source, name)).mtimeMs]);
  const there = join(scratch(), 'there');
  expect((await sync(server, 's3://b/w', there)).slice(0, 2)).toEqual([0, { copied: wrong.length }]);
  for (const [from, to] of [
    [source, 's3://b/p'],
    ['s3://b/p', back],
    ['s3://b/w', there],
  ] as const)
    expect([from, ...(await sync(server, from, to)).slice(0, 2)]).toEqual([from, 0, {}]);
});

it('lists on behind a page that has nothing, and ends where nothing follows', async () => {
  const server = await s3({ page: 2 });
  const keys = ['a', 'b', 'c', 'd'];
  for (const key of keys) server.put(`p/${key}`, key);
  let pages = 0;
  server.plan = ({ query }) => {
    if (!query.has('list-type')) return undefined;
    pages += 1;
    // Two that have nothing before each that has something, and one behind the last.
    return pages % 3 === 0 ? 'beyond' : 'empty';
  };
  const plan = server.plan;
  const listed = async () => {
    pages = 0;
    const { code, stdout, stderr } = await run(['list', 's3://b/p'], { env: server.env });
    expect(code, stderr).toBe(0);
    return stdout.split('\n').filter(Boolean);
  };
  server.plan = (ask) => (pages >= 6 ? undefined : plan(ask));
  expect(await listed()).toEqual(keys);
  const there = tree({ c: 'c', old: 'goes' });
  pages = 0;
  const [code, counts, said] = await sync(server, '--delete', 's3://b/p', there);
  expect([code, counts.removed, existsSync(join(there, 'd'))], said).toEqual([0, 1, true]);
  // Nothing but those is no listing.
  server.plan = ({ query }) => (query.has('list-type') ? 'empty' : undefined);
  writeFileSync(join(there, 'old'), 'stays');
  expect((await sync(server, '--delete', 's3://b/p', there))[0]).toBe(23);
  expect(existsSync(join(there, 'old'))).toBe(true);
}, 60_000);

it('removes nothing where a directory can not be read, copies the rest, and does not look at what is excluded', async () => {
  const server = await s3();
  for (const key of ['p/a', 'p/locked/x', 'p/old']) server.put(key, 'there');
  const source = tree({ a: '1', 'd/b': '2', 'locked/x': '3', unreadable: '4' });
  for (const name of ['locked', 'unreadable']) chmodSync(join(source, name), 0);
  // For root nothing is locked, but without these.
  const bounds = ['--bounding-set', '-dac_override,-dac_read_search'];
  const [command, ...before] = process.getuid?.() === 0 ? ['setpriv', ...bounds, process.execPath] : [process.execPath];
  const go = (...args: string[]) =>
    program(command ?? '', [...before, executable, 'sync', '--delete', ...args, source, 's3://b/p'], {
      env: server.env,
    });
  const ran = await go();
  expect([ran.code, server.keys], ran.stderr).toEqual([23, ['p/a', 'p/d/b', 'p/locked/x', 'p/old']]);
  expect([server.contents['p/a'], server.contents['p/locked/x']]).toEqual(['1', 'there']);
  for (const name of ['locked', 'unreadable']) expect(ran.stderr).toContain(name);
  const without = await go('--exclude', '/locked/', '--exclude', '/unreadable');
  expect([without.code, server.keys], without.stderr).toEqual([0, ['p/a', 'p/d/b', 'p/locked/x']]);
  chmodSync(join(source, 'locked'), 0o755);
});

it('takes the marker of the root for no entry, and for nothing that is extra', async () => {
  const server = await s3();
  for (const key of ['p/', 'p/a', 'p/d/', 'p/d/b']) server.put(key, key.endsWith('/') ? '' : key);
  const { stdout } = await run(['list', 's3://b/p'], { env: server.env });
  expect(stdout).toBe('a\nd/\nd/b\n');
  const back = join(scratch(), 'back');
  expect((await sync(server, 's3://b/p', back)).slice(0, 2)).toEqual([0, { copied: 2 }]);
  for (const more of [[], ['--directory-markers']]) {
    const [code, counts, said] = await sync(server, '--delete', ...more, back, 's3://b/p');
    expect([code, counts, server.keys], said).toEqual([0, {}, ['p/', 'p/a', 'p/d/', 'p/d/b']]);
  }
});

it('loses nothing to a file where a directory is, or to a name that a disk does not take', async () => {
  const server = await s3();
  const long = 'n'.repeat(300);
  const keys = ['p/d', 'p/d/a', `p/${long}`, `p/${long}/x`, 'p/z'];
  for (const key of keys) server.put(key, key === 'p/d' ? '' : key);
  const there = tree({ 'd/old': 'stays', y: 'stays' });
  const [code, counts, said] = await sync(server, '--delete', 's3://b/p', there);
  expect([code, counts], said).toEqual([23, { copied: 2, conflict: 1, failed: 2 }]);
  for (const name of ['d/old', 'd/a', 'y', 'z']) expect([name, existsSync(join(there, name))]).toEqual([name, true]);
});
