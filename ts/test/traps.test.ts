/** What others lost data by, each in small: public threads about tools that sync with object stores, tried on ours. */
import { existsSync, mkdirSync, readFileSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, it } from 'vitest';
import { type S3, s3 } from './rig/s3.js';
import { run, scratch } from './rig.js';

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
  for (const url of ['s3://b/nothere', 's3://b/p/file']) {
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
