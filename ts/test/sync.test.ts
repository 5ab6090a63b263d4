/**
 * Sync between a directory and an object store: what is brought over, what is not, and what becomes of it where the server,
 * the wire or a name is not as it should be. The server is the rig's own; rclone judges where it is installed.
 */
import { type ChildProcess, execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type IncomingMessage, request as send } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it, onTestFinished } from 'vitest';
import { identify } from '../src/journal/identity.js';
import { compareStores } from '../src/ops/sync.js';
import { accessOf, sectionsOf } from '../src/stores/access.js';
import { type Ask, KEY, type S3, SECRET, s3 } from './rig/s3.js';
import { versitygw } from './rig/versitygw.js';
import { executable, faulty, freePort, jsonLines, program, type Run, run, scratch } from './rig.js';

const MIB = 1024 * 1024;

/** A tree of text files by their paths. */
function tree(files: Record<string, string | Buffer>): string {
  const root = join(scratch(), 'tree');
  mkdirSync(root);
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(join(root, path, '..'), { recursive: true });
    writeFileSync(join(root, path), content);
    utimesSync(join(root, path), 1_600_000_000, 1_600_000_000);
  }
  return root;
}

/** The files of a tree by their paths. */
function filesOf(root: string): Record<string, string> {
  const names = readdirSync(root, { recursive: true, withFileTypes: true });
  const files = names.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return Object.fromEntries(files.sort().map((path) => [path.slice(root.length + 1), readFileSync(path, 'utf8')]));
}

/** Runs `bulkhaul sync` without pauses between tries. */
function sync(server: S3, ...args: string[]): Promise<Run> {
  return run(['sync', '--backoff', '0', ...args], { env: server.env });
}

async function summary(
  server: S3,
  ...args: string[]
): Promise<{ code: number | null; counts: Record<string, number> }> {
  const { code, stdout } = await sync(server, '--json', ...args);
  const last = JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}') as { outcomes: Record<string, number> };
  const counts = Object.entries(last.outcomes).filter(([, count]) => count > 0);
  return { code, counts: Object.fromEntries(counts) };
}

const FILES = { a: '1', 'a!': '2', 'd/b': '3', 'd/e/f': '4', 'ü +%&<>"\'': '5', ' n ': '6' };

it('brings a tree up, sees what changed, and brings it down', async () => {
  const server = await s3({ page: 2 });
  const source = tree(FILES);
  expect(await summary(server, source, 's3://b/p')).toMatchObject({ code: 0, counts: { copied: 6 } });
  expect(server.contents).toEqual(Object.fromEntries(Object.entries(FILES).map(([key, text]) => [`p/${key}`, text])));
  expect(server.objects.get('p/a')?.headers).toMatchObject({ 'x-amz-meta-mtime': '1600000000.000000000' });
  expect((await summary(server, source, 's3://b/p')).counts.copied).toBeUndefined();
  // The same size, and another time.
  writeFileSync(join(source, 'a'), '9');
  expect((await summary(server, source, 's3://b/p')).counts.copied).toBe(1);
  const back = join(scratch(), 'back');
  expect(await summary(server, 's3://b/p', back)).toEqual({ code: 0, counts: { copied: 6 } });
  expect(filesOf(back)).toEqual({ ...FILES, a: '9' });
  expect(statSync(join(back, 'd/b')).mtimeMs).toBe(1_600_000_000_000);
  // Neither way finds anything to do now.
  expect((await summary(server, 's3://b/p', back)).counts).toEqual({ skipped: 6 });
  expect((await summary(server, back, 's3://b/p')).counts.copied).toBeUndefined();
});

it('brings large objects over in parts, with bounded memory, and leaves no upload behind', async () => {
  const content = Buffer.alloc(12 * MIB + 7, 'twelve');
  const source = tree({ big: content });
  for (const checks of ['crc', 'hash', 'nothing'] as const) {
    const server = await s3({ checks });
    const args = ['--chunk-size', '5M', '--memory', '5M'];
    expect(await summary(server, ...args, source, 's3://b/p')).toMatchObject({ code: 0, counts: { copied: 1 } });
    expect(server.objects.get('p/big')?.body.equals(content)).toBe(true);
    expect([server.keys, server.uploads.size]).toEqual([['p/big'], 0]);
    expect(server.asked.filter((ask) => ask.includes('partNumber'))).toHaveLength(3);
    const back = join(scratch(), 'back');
    expect(await summary(server, ...args, 's3://b/p', back)).toMatchObject({ code: 0 });
    expect(readFileSync(join(back, 'big')).equals(content)).toBe(true);
    // What the server does not check is read back.
    const downloads = server.asked.filter((ask) => ask.startsWith('GET /b/p/big'));
    expect(downloads.length).toBe(checks === 'nothing' ? 6 : 3);
  }
}, 120_000);

it('goes on after what is over in a moment: overload, broken connections, pages that break off', async () => {
  const faults = [{ status: 503, code: 'SlowDown' }, 'reset', { status: 400, code: 'RequestTimeout' }, 'lost'] as const;
  for (const fault of faults) {
    const server = await s3({ page: 2 });
    server.plan = ({ nth }) => (nth <= 2 ? fault : undefined);
    const source = tree(FILES);
    expect(await summary(server, source, 's3://b/p')).toMatchObject({ code: 0, counts: { copied: 6 } });
    const back = join(scratch(), 'back');
    expect((await summary(server, 's3://b/p', back)).code).toBe(0);
    expect(filesOf(back)).toEqual(FILES);
  }
  const server = await s3({ page: 2 });
  for (const key of ['p/a', 'p/b', 'p/c']) server.put(key, key);
  server.plan = ({ nth }) => (nth === 1 ? 'cut' : undefined);
  const { stdout, code } = await run(['list', 's3://b/p'], { env: server.env });
  expect([stdout, code]).toEqual(['a\nb\nc\n', 0]);
});

it('gives up what does not get better, in the end, and says why', async () => {
  const server = await s3();
  const source = tree(FILES);
  server.plan = ({ key, method }) =>
    method === 'PUT' && key === 'p/a' ? { status: 503, code: 'SlowDown' } : undefined;
  const { code, stderr } = await sync(server, '--retries', '2', '-j1', source, 's3://b/p');
  expect([code, server.asked.filter((ask) => ask === 'PUT /b/p/a').length]).toEqual([23, 3]);
  expect(stderr).toContain('503 SlowDown');
  expect(server.keys).toHaveLength(5);
});

it('stops where all requests are wrong, and never shows a secret', async () => {
  const source = tree(FILES);
  for (const code of ['ExpiredToken', 'RequestTimeTooSkewed', 'InvalidAccessKeyId']) {
    const server = await s3();
    server.plan = ({ method }) => (method === 'PUT' ? { status: 400, code } : undefined);
    const state = scratch();
    const ran = await sync(
      server,
      '--json',
      '-v',
      '--state-dir',
      state,
      '--log-file',
      join(state, 'log'),
      source,
      's3://b/p',
    );
    expect(ran.code, ran.stderr).toBe(23);
    expect(server.asked.filter((ask) => ask.startsWith('PUT')).length).toBeLessThanOrEqual(16);
    const journals = Object.values(filesOf(state)).join('');
    expect(journals).toContain(code);
    for (const text of [ran.stdout, ran.stderr, journals]) {
      expect(text.includes(SECRET) || text.includes(KEY), text).toBe(false);
    }
  }
  const server = await s3();
  const wrong = await run(['sync', source, 's3://b/p'], { env: { ...server.env, AWS_SECRET_ACCESS_KEY: 'other' } });
  expect([wrong.code, wrong.stderr.includes('SignatureDoesNotMatch')]).toEqual([2, true]);
  expect((await sync(server, source, 's3://other/p')).stderr).toContain('NoSuchBucket');
});

it('has no secret in its title', async () => {
  const server = await s3();
  let titles = '';
  let pid = 0;
  server.plan = () => {
    const read = (file: string) => readFileSync(`/proc/${pid}/${file}`, 'utf8');
    const threads = readdirSync(`/proc/${pid}/task`).map((task) => {
      try {
        return read(`task/${task}/comm`);
      } catch {
        return ''; // it is over
      }
    });
    titles ||= [read('cmdline'), ...threads].join(' ');
    return undefined;
  };
  const onStart = (child: ChildProcess) => {
    pid = child.pid ?? 0;
  };
  expect((await run(['sync', tree({ a: '1' }), 's3://b/p'], { env: server.env, onStart })).code).toBe(0);
  expect(titles).toContain('s3://b/p');
  expect(titles.includes(SECRET) || titles.includes(KEY)).toBe(false);
});

it('finds a million keys in memory that does not grow with them', async () => {
  const server = await s3({ many: 1_000_000 });
  const hook = "process.on('exit',()=>process._rawDebug('peak',process.resourceUsage().maxRSS))";
  const env = { ...server.env, NODE_OPTIONS: `--import "data:text/javascript,${encodeURIComponent(hook)}"` };
  const there = tree({ extra: 'x' });
  const options = ['-n', '--json', '-q', '--compare', 'size', '--delete'];
  const { code, stdout, stderr } = await run(['sync', ...options, 's3://b/many', there], { env });
  const { outcomes } = JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}');
  expect([code, outcomes?.copied, outcomes?.removed], stderr).toEqual([0, 1_000_000, 1]);
  // KiB.
  expect(Number(/peak (\d+)/.exec(stderr)?.[1])).toBeLessThan(256 * 1024);
}, 300_000);

it('takes no listing for whole that is not, and removes nothing by it', async () => {
  for (const fault of ['no-token', 'repeat', 'disorder', { status: 500, code: 'InternalError' }] as const) {
    const server = await s3({ page: 2 });
    for (const key of ['p/a', 'p/b', 'p/c', 'p/d', 'p/e']) server.put(key, key);
    const later = ({ query }: Ask) => query.has('list-type') && (query.has('continuation-token') || fault !== 'repeat');
    // A second page that is wrong, for good.
    server.plan = (ask) =>
      ask.method === 'GET' && later(ask) && ask.query.get('continuation-token') ? fault : undefined;
    const there = tree({ x: 'only here', y: 'and this' });
    const ran = await sync(server, '--delete', 's3://b/p', there);
    expect(ran.code, ran.stderr).toBe(23);
    expect(ran.stderr).toContain('list s3://b/p');
    expect(Object.keys(filesOf(there))).toEqual(expect.arrayContaining(['x', 'y']));
    // The same of the destination: what is there is not known, so nothing goes.
    const source = tree({ z: 'new' });
    const up = await sync(server, '--delete', source, 's3://b/p');
    expect(up.code, up.stderr).toBe(23);
    expect(server.keys).toEqual(['p/a', 'p/b', 'p/c', 'p/d', 'p/e', 'p/z']);
  }
});

it('does not read on where an answer has no end', async () => {
  const server = await s3();
  server.put('p/a', 'a');
  server.plan = () => 'endless';
  const ran = await sync(server, '--retries', '0', 's3://b/p', scratch());
  expect([ran.code, ran.stderr], ran.stderr).toEqual([23, expect.stringContaining('TooLong')]);
  // As long as a page may be (64 MiB), and what was on its way, which is as much as kernels like.
  expect(server.endless).toBeLessThan(128 * MIB);
});

it('settles a completion whose answer was lost, and finds one that stored less', async () => {
  const source = tree({ big: Buffer.alloc(11 * MIB, 'x') });
  const completes = ({ method, query }: Ask) => method === 'POST' && query.has('uploadId');
  for (const checks of ['crc', 'hash'] as const) {
    const server = await s3({ checks });
    server.plan = (ask) => (completes(ask) && ask.nth === 1 ? 'lost' : undefined);
    expect(await summary(server, source, 's3://b/p')).toMatchObject({ code: 0, counts: { copied: 1 } });
    expect(server.objects.get('p/big')?.body.length).toBe(11 * MIB);

    const short = await s3({ checks });
    short.plan = (ask) => (completes(ask) ? 'short' : undefined);
    const ran = await sync(short, source, 's3://b/p');
    expect([ran.code, ran.stderr.includes('was removed again')], ran.stderr).toEqual([23, true]);
    // Never a short object that looks whole.
    expect([short.keys, short.uploads.size]).toEqual([[], 0]);
  }
});

it('finds a bit that flips, up and down', async () => {
  const source = tree({ a: 'some text' });
  const puts = ({ method, key }: Ask) => method === 'PUT' && key === 'p/a';
  for (const checks of ['crc', 'hash', 'nothing'] as const) {
    const once = await s3({ checks });
    once.plan = (ask) => (puts(ask) && ask.nth === 1 ? 'up' : undefined);
    expect(await summary(once, source, 's3://b/p')).toMatchObject({ code: 0, counts: { copied: 1 } });
    expect(once.contents).toEqual({ 'p/a': 'some text' });

    const always = await s3({ checks });
    always.plan = (ask) => (puts(ask) ? 'up' : undefined);
    const { code } = await summary(always, source, 's3://b/p');
    expect([code, always.keys]).toEqual([checks === 'nothing' ? 1 : 23, []]);

    const down = await s3({ checks });
    expect((await summary(down, source, 's3://b/p')).code).toBe(0);
    down.plan = (ask) => (ask.method === 'GET' && ask.key === 'p/a' ? 'down' : undefined);
    const back = join(scratch(), 'back');
    expect(await summary(down, 's3://b/p', back)).toEqual({ code: 1, counts: { mismatched: 1 } });
    expect(existsSync(join(back, 'a'))).toBe(false);
  }
});

it('holds what others wrote against the sum that its tag is', async () => {
  const server = await s3();
  const gets = ({ method, key }: Ask) => method === 'GET' && key === 'p/a';
  server.put('p/a', 'theirs');
  server.plan = (ask) => (gets(ask) ? 'down' : undefined);
  const back = join(scratch(), 'back');
  expect(await summary(server, 's3://b/p', back)).toEqual({ code: 1, counts: { mismatched: 1 } });
  expect(existsSync(join(back, 'a'))).toBe(false);
  server.plan = (ask) => (gets(ask) && ask.nth === 3 ? 'down' : undefined);
  expect(await summary(server, 's3://b/p', back)).toEqual({ code: 0, counts: { copied: 1 } });
  expect(filesOf(back)).toEqual({ a: 'theirs' });
  // Tags that are no sums of what is read: it came in parts, or a key of somebody's own seals it.
  server.put('p/parts', 'in parts');
  server.put('p/sealed', 'sealed', { 'x-amz-server-side-encryption': 'aws:kms' });
  for (const [key, etag] of [
    ['p/parts', `${'0'.repeat(32)}-2`],
    ['p/sealed', '0'.repeat(32)],
  ] as const)
    Object.assign(server.objects.get(key) ?? {}, { etag });
  expect(await summary(server, 's3://b/p', back)).toMatchObject({ code: 0, counts: { copied: 2 } });
});

it('carries names or says that it can not, and takes none for absent', async () => {
  const server = await s3({ encodes: true });
  const exact = ['p/a', 'p/a/b', 'p//c', 'p/./d', 'p/../e', 'p/dir/', 'p/body/', 'p/line\nfeed', 'p/\u{1f600}'];
  for (const key of exact) server.put(key, key === 'p/dir/' ? '' : key);
  const there = join(scratch(), 'there');
  const ran = await sync(server, '--delete', '--json', '-v', 's3://b/p', there);
  expect(ran.code, ran.stdout).toBe(23);
  const told = ran.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { type: string; kind: string });
  const failed = told.filter(({ type }) => type === 'error');
  // `a` and `a/b` can't both be here: whichever comes second is told.
  expect(failed.map(({ kind }) => kind).sort()).toEqual(['conflict', 'name', 'name', 'name', 'name']);
  const carried = Object.keys(filesOf(there));
  expect(carried).toEqual(expect.arrayContaining(['line\nfeed', '\u{1f600}']));
  expect(carried).toHaveLength(3);
  // Up: what is not UTF-8, and what is too long.
  const source = tree({ ok: '1' });
  writeFileSync(Buffer.concat([Buffer.from(`${source}/`), Buffer.from([0x66, 0xff])]), 'x');
  const up = await s3();
  up.put('p/other', 'stays');
  // What would be done is what is done.
  for (const [more, keys] of [
    [['-n'], ['p/other']],
    [[], ['p/ok', 'p/other']],
  ] as const) {
    const { code, stdout, stderr } = await sync(up, ...more, '--delete', source, 's3://b/p');
    expect([code, up.keys, stdout.includes('*deleting')], stdout).toEqual([23, keys, false]);
    expect(stderr).toContain('UTF-8');
  }
  const dry = await summary(server, '-n', 's3://b/p', join(scratch(), 'dry'));
  expect(dry).toMatchObject({ code: 23, counts: { failed: 4 } });
});

it('lists keys as they are, also where a server knows no encoding', async () => {
  for (const encodes of [true, false]) {
    const server = await s3({ page: 1, encodes });
    const keys = [' n ', 'a+b', 'a b', 'a%20b', 'a/', 'ü&<>', 'dir/x'];
    for (const key of keys) server.put(`p/${key}`, key.endsWith('/') ? '' : key);
    server.put('p2/not-asked-for', 'x');
    const { stdout, code } = await run(['list', '-0', 's3://b/p'], { env: server.env });
    expect(code).toBe(0);
    expect(stdout.split('\0').filter(Boolean).sort()).toEqual(keys.sort());
    const json = await run(['list', '--json', 's3://b/p'], { env: server.env });
    expect(json.stdout).toContain('"size":');
    const rules = ['--exclude', 'a*', '--exclude', 'dir/'];
    const some = await run(['list', '-0', ...rules, 's3://b/p'], { env: server.env });
    expect([some.code, some.stdout.split('\0').filter(Boolean).sort()], some.stderr).toEqual([0, [' n ', 'ü&<>']]);
  }
});

it('removes what is extra when it may, last, and nothing otherwise', async () => {
  const server = await s3();
  const source = tree({ a: '1', 'd/b': '2' });
  for (const key of ['p/a/x', 'p/old', 'p/line\nfeed', 'p/<&>', 'p2/other']) server.put(key, key);
  const limited = await sync(server, '--delete', '--max-delete', '3', source, 's3://b/p');
  expect([limited.code, limited.stderr.includes('4 of 4 entries would go')], limited.stderr).toEqual([3, true]);
  const dry = await sync(server, '--delete', '-n', source, 's3://b/p');
  expect([dry.code, dry.stdout.match(/^\*deleting/gm)?.length], dry.stdout).toEqual([0, 4]);
  expect(server.keys).toContain('p/old');
  expect(await summary(server, '--delete', source, 's3://b/p')).toMatchObject({ code: 0, counts: { removed: 4 } });
  expect(server.keys).toEqual(['p/a', 'p/d/b', 'p2/other']);
  // An empty source, and a missing one.
  const empty = tree({});
  const held = await sync(server, '--delete', empty, 's3://b/p');
  expect([held.code, held.stderr.includes('the source is empty')], held.stderr).toEqual([3, true]);
  expect((await sync(server, '--delete', join(empty, 'missing'), 's3://b/p')).code).toBe(23);
  expect((await sync(server, '--delete', 's3://b/nothing-there', source)).code).toBe(23);
  expect(server.keys).toEqual(['p/a', 'p/d/b', 'p2/other']);
  // One in which nothing is that could be carried is no better, nor is one that only has markers of directories.
  const hollow = tree({});
  symlinkSync('nowhere', join(hollow, 'link'));
  mkdirSync(join(hollow, 'lost+found'));
  server.put('m/dir/', '');
  for (const places of [
    [hollow, 's3://b/p'],
    ['s3://b/m', source],
  ]) {
    const { code, stderr } = await sync(server, '--delete', ...places);
    expect([code, stderr.includes('nothing that is carried')], stderr).toEqual([3, true]);
  }
  expect([server.keys, Object.keys(filesOf(source))]).toEqual([
    ['m/dir/', 'p/a', 'p/d/b', 'p2/other'],
    ['a', 'd/b'],
  ]);
  // Down: directories that nothing is in any more go too, what is excluded stays.
  const there = tree({ a: '1', 'd/b': '2', 'old/er/x': '3', 'keep/y': '4' });
  const down = await summary(server, '--delete', '--exclude', '/keep', 's3://b/p', there);
  expect(down).toMatchObject({ code: 0, counts: { removed: 3 } });
  expect(Object.keys(filesOf(there)).sort()).toEqual(['a', 'd/b', 'keep/y']);
});

it('chooses by name, age and size, and by a rule where both sides differ', async () => {
  const server = await s3();
  const source = tree({ 'a.txt': '12345', 'b.tmp': '1', big: '1234567890', old: '123' });
  utimesSync(join(source, 'old'), 1, 1);
  const chosen = ['--exclude', '*.tmp', '--max-size', '5', '--min-size', '2', '--newer-than', '2000-01-01'];
  expect((await summary(server, ...chosen, source, 's3://b/p')).code).toBe(0);
  expect(server.keys).toEqual(['p/a.txt']);
  for (const [rule, expected] of [
    ['destination', 'theirs'],
    ['larger', '12345'],
    ['newer', 'theirs'],
    ['source', '12345'],
  ] as const) {
    server.put('p/a.txt', rule === 'larger' ? '1' : 'theirs', {}, new Date());
    await sync(server, '--conflict', rule, '--include', 'a.txt', '--exclude', '*', source, 's3://b/p');
    expect([rule, server.contents['p/a.txt']]).toEqual([rule, expected]);
  }
  server.put('p/a.txt', 'theirs');
  const failed = await sync(server, '--conflict', 'fail', '--include', 'a.txt', '--exclude', '*', source, 's3://b/p');
  expect([failed.code, server.contents['p/a.txt']]).toEqual([23, 'theirs']);
  // By content: the same size and time, and others.
  const same = tree({ x: 'one' });
  server.put('p/x', 'two', { 'x-amz-meta-mtime': '1600000000' });
  expect((await summary(server, same, 's3://b/p')).counts.copied).toBeUndefined();
  expect((await summary(server, '--compare', 'checksum', same, 's3://b/p')).counts.copied).toBe(1);
});

it('says of an object what its name does, what is kept with the object that it comes from, or what is asked for', async () => {
  const server = await s3();
  const said = (key: string, ...names: string[]) =>
    names.map((name) => server.objects.get(key)?.headers[name] ?? 'nothing');
  const source = tree({
    'a.html': '<p>',
    't.TSV': '1',
    'big.csv.gz': Buffer.alloc(6 * MIB, 'x'),
    none: '',
    'x.y': '2',
  });
  expect((await sync(server, '--chunk-size', '5M', source, 's3://b/p')).code).toBe(0);
  const types = ['a.html', 't.TSV', 'big.csv.gz', 'none', 'x.y'].map((name) => said(`p/${name}`, 'content-type')[0]);
  expect(types).toEqual(['text/html', 'text/tab-separated-values', 'application/gzip', 'nothing', 'nothing']);

  // From one object to another: through this machine, in one request and in parts, and within the server.
  const theirs = { 'content-type': 'x/y', 'cache-control': 'no-store', 'x-amz-meta-owner-of': 'me' };
  const packed = { ...theirs, 'content-encoding': 'aws-chunked,gzip', 'x-amz-meta-mtime': '5.5' };
  server.put('o/a.html', 'other', packed);
  server.put('o/big', Buffer.alloc(6 * MIB, 'o'), theirs);
  expect((await sync(server, '--chunk-size', '5M', '--verify', 'full', 's3://b/o', 's3://b/q')).code).toBe(0);
  const names = Object.keys(theirs);
  expect(said('q/a.html', ...names, 'content-encoding')).toEqual([...Object.values(theirs), 'gzip']);
  expect(said('q/a.html', 'x-amz-meta-mtime')).toEqual(['5.500000000']);
  expect(said('q/big', ...names)).toEqual(Object.values(theirs));
  expect((await sync(server, 's3://b/o', 's3://b/r')).code).toBe(0);
  expect(said('r/a.html', ...names)).toEqual(Object.values(theirs));

  // What is asked for goes before; what the server would keep of another object does not come with a copy within it.
  const asked = ['--header', 'Content-Type: text/plain', '--header', 'x-amz-storage-class:COLD'];
  expect((await sync(server, ...asked, '--chunk-size', '5M', source, 's3://b/s')).code).toBe(0);
  for (const name of ['a.html', 'big.csv.gz', 'none']) {
    expect(said(`s/${name}`, 'content-type', 'x-amz-storage-class')).toEqual(['text/plain', 'COLD']);
  }
  expect((await sync(server, ...asked, 's3://b/o', 's3://b/t')).code).toBe(0);
  expect(said('t/a.html', ...names)).toEqual(['text/plain', 'no-store', 'me']);
  for (const [header, place, text] of [
    ['no header', 's3://b/p', "--header: no header is not 'NAME: VALUE'"],
    ['Host: x', 's3://b/p', 'headers: host: the destination keeps no such thing'],
    ['Content-Type: x', scratch(), 'headers is for places of which one is a URL'],
    ['x-amz-meta-mtime: 1', 's3://b/p', 'headers: x-amz-meta-mtime: this is what bulkhaul itself keeps'],
    ['x-amz-meta-a: \u00e4', 's3://b/p', 'headers: x-amz-meta-a: its value is not plain ASCII'],
    ['x-ms-access-tier: Cool', 's3://b/p', 'headers: x-ms-access-tier: the destination keeps no such thing'],
    ['Content-Type: x', 'sftp://nowhere/p', 'headers: content-type: the destination keeps no such thing'],
  ] as const) {
    const refused = await sync(server, '--header', header, source, place);
    expect([refused.code, refused.stderr.includes(text)], refused.stderr).toEqual([2, true]);
  }
}, 60_000);

it('is not misled by what others keep with their objects, and tells what it can not take along', async () => {
  const server = await s3();
  for (const name of ['a', 'b', 'c']) server.put(`o/${name}`, name, { 'content-type': 'x/y' });
  // A signature over a tab is another one to every server; our own names may hold anything.
  server.put('o/odd', '1', {
    ...{ 'x-amz-meta-tab': 'a\tb', 'x-amz-meta-letter': '\u00e4', 'x-amz-missing-meta': '2' },
    ...{ 'x-amz-meta-uid': 'customer-42', 'x-amz-meta-mtime': 'yesterday' },
  });
  const through = await sync(server, '--verify', 'full', 's3://b/o', 's3://b/p');
  expect([through.code, Object.keys(server.contents).length], through.stderr).toEqual([0, 8]);
  for (const name of ['metadata tab', 'metadata letter', 'metadata mtime', 'metadata that S3 does not tell']) {
    expect(through.stderr).toContain(name);
  }
  expect(server.objects.get('p/odd')?.headers).toMatchObject({ 'x-amz-meta-uid': 'customer-42' });
  // One signature that is refused when others were taken is a failure of one object.
  server.plan = ({ method, key }) =>
    method === 'PUT' && key === 'q/b' ? { status: 403, code: 'SignatureDoesNotMatch' } : undefined;
  const refused = await sync(server, '--verify', 'full', 's3://b/o', 's3://b/q');
  expect([refused.code, server.keys.filter((key) => key.startsWith('q/'))], refused.stderr).toEqual([
    23,
    ['q/a', 'q/c', 'q/odd'],
  ]);
  expect(refused.stderr).toContain('it took other signatures');
});

it('is another job where something else is said of objects, and the same at another pace', async () => {
  const places = { source: '/a', destination: 's3://b/p', store: {} };
  const identity = (more: object = {}) => identify('sync', '/', { ...places, ...more });
  const none = await identity();
  expect(await identity({ requests: { retries: 5, memory: 1 } })).toBe(none);
  const cold = await identity({ headers: { 'x-amz-storage-class': 'COLD' } });
  expect(cold).not.toBe(none);
  expect(await identity({ headers: { 'x-amz-storage-class': 'COOL' } })).not.toBe(cold);
});

it('keeps what it replaces as it was, whatever is to be said of what comes', async () => {
  const server = await s3();
  const source = tree({ a: 'new' });
  const said = { 'content-type': 'old/type', 'x-amz-meta-of': 'old' };
  const asked = ['--header', 'Content-Type: new/type', '--header', 'x-amz-storage-class: COLD'];
  for (const verify of ['size', 'full']) {
    for (const how of [
      ['--backup-dir', 's3://b/kept'],
      ['--conflict', 'keep-both'],
    ]) {
      server.objects.clear();
      server.put('p/a', 'old', said);
      const ran = await sync(server, ...asked, '--verify', verify, ...how, source, 's3://b/p');
      const old = server.keys.find((key) => server.contents[key] === 'old') ?? '';
      expect([ran.code, server.objects.get('p/a')?.headers['content-type']], ran.stderr).toEqual([0, 'new/type']);
      expect([old === 'p/a', server.objects.get(old)?.headers]).toMatchObject([false, said]);
    }
  }
  // Tags are of the other object where a server copies within itself.
  server.asked.length = 0;
  expect((await sync(server, '--header', 'x-amz-tagging: a=b', 's3://b/p', 's3://b/q')).code).toBe(0);
  expect(server.asked.some((ask) => ask.startsWith('GET /b/p/a'))).toBe(true);
});

it('keeps what it replaces and removes, where that is asked for, and leaves it where it can not', async () => {
  const server = await s3();
  const source = tree({ a: 'new', 'd/b': '2' });
  server.put('p/a', 'old', { 'x-amz-meta-mtime': '5' });
  server.put('p/gone', 'extra');
  const aside = await summary(server, '--delete', '--backup-dir', 's3://b/kept', source, 's3://b/p');
  expect(aside).toMatchObject({ code: 0, counts: { copied: 2, removed: 1 } });
  const kept = { 'kept/a': 'old', 'kept/gone': 'extra' };
  expect(server.contents).toEqual({ ...kept, 'p/a': 'new', 'p/d/b': '2' });
  expect(server.objects.get('kept/a')?.headers['x-amz-meta-mtime']).toBe('5');
  // Down, on a disk; and what can't be kept stays.
  const there = tree({ a: 'mine', extra: 'x' });
  const old = join(scratch(), 'old');
  symlinkSync('nowhere', join(there, 'link'));
  const down = await sync(server, '--delete', '--backup-dir', old, 's3://b/p', there);
  expect([down.code, filesOf(old)], down.stderr).toEqual([23, { a: 'mine', extra: 'x' }]);
  expect(filesOf(there)).toEqual({ a: 'new', 'd/b': '2' });
  expect(readdirSync(there)).toContain('link');
  // From a disk into a store.
  const mine = tree({ a: 'mine' });
  const up = await summary(server, '--backup-dir', 's3://b/from-disk', 's3://b/p', mine);
  expect([up.code, server.contents['from-disk/a']]).toEqual([0, 'mine']);
  server.objects.delete('from-disk/a');
  server.plan = ({ method, key }) =>
    method === 'PUT' && key.startsWith('kept/') ? { status: 403, code: 'AccessDenied' } : undefined;
  writeFileSync(join(source, 'a'), 'newer');
  const failed = await sync(server, '--backup-dir', 's3://b/kept', source, 's3://b/p');
  expect([failed.code, server.contents['p/a']], failed.stderr).toEqual([23, 'new']);
  for (const place of ['s3://b/p', 's3://b/p/old', source]) {
    const nested = await sync(server, '--backup-dir', place, source, 's3://b/p');
    expect([nested.code, nested.stderr.includes('one is in the other')], nested.stderr).toEqual([3, true]);
  }
});

it('keeps both, under names that tell when, and finds nothing to do then', async () => {
  const server = await s3();
  const source = tree({ 'd/a.txt': 'mine', b: '2' });
  server.put('p/d/a.txt', 'theirs', {}, new Date('2020-01-02T03:04:05Z'));
  const go = () => summary(server, '--conflict', 'keep-both', source, 's3://b/p');
  expect(await go()).toMatchObject({ code: 0, counts: { copied: 2 } });
  const both = { 'p/d/a.conflict-20200102T030405Z.txt': 'theirs', 'p/d/a.txt': 'mine', 'p/b': '2' };
  expect(server.contents).toEqual(both);
  expect((await go()).counts.copied).toBeUndefined();
  const mirrored = await sync(server, '--conflict', 'keep-both', '--delete', source, 's3://b/p');
  expect([mirrored.code, mirrored.stderr.includes('keep-both')]).toEqual([2, true]);
  server.put('p/b', 'theirs');
  expect((await summary(server, '--conflict', 'skip', source, 's3://b/p')).counts.copied).toBeUndefined();
});

it('takes partitions by what their values are, and looks at no others', async () => {
  const server = await s3();
  const months = ['2022/12', '2023/5', '2023/6', '2023/10'];
  const files = months.map((month) => [`v1.2/year=${month.replace('/', '/month=')}/f`, month] as const);
  const source = tree({ ...Object.fromEntries(files), 'v1.2/readme': 'x' });
  server.put('p/v1.2/year=2021/month=1/f', 'old');
  server.put('p/v1.2/year=2023/month=9/f', 'extra');
  const rule = ['--partition', 'year=2023, month>=6'];
  expect((await summary(server, '--delete', ...rule, source, 's3://b/p')).counts).toMatchObject({
    copied: 2,
    removed: 1,
  });
  const expected = ['year=2021/month=1', 'year=2023/month=10', 'year=2023/month=6'];
  expect(server.keys).toEqual(expected.map((name) => `p/v1.2/${name}/f`));
  const back = join(scratch(), 'back');
  expect((await summary(server, '--partition', 'month<7', 's3://b/p', back)).counts).toEqual({ copied: 2 });
  expect((await sync(server, '--partition', 'year', source, 's3://b/p')).stderr).toContain('KEY=VALUE');
});

it('carries symlinks and empty directories where that is asked for, as rclone does', async () => {
  const server = await s3();
  const source = tree({ 'd/a': '1', 'd/a!': '2', 'l/x': '3' });
  symlinkSync('a', join(source, 'd/to'));
  symlinkSync('../not there', join(source, 'l/to'));
  mkdirSync(join(source, 'empty/inner'), { recursive: true });
  const all = ['--links', '--directory-markers'];
  expect((await summary(server, source, 's3://b/plain')).counts.copied).toBe(3);
  expect(await summary(server, ...all, source, 's3://b/p')).toMatchObject({ code: 0, counts: { copied: 5, made: 1 } });
  expect(server.contents).toMatchObject({
    'p/d/to.rclonelink': 'a',
    'p/empty/inner/': '',
    'p/l/to.rclonelink': '../not there',
  });
  expect((await summary(server, '--delete', ...all, source, 's3://b/p')).counts).toEqual({ skipped: 10 });
  const back = join(scratch(), 'back');
  const down = await summary(server, ...all, 's3://b/p', back);
  expect(down).toMatchObject({ code: 0, counts: { copied: 5, made: 1 } });
  const list = (root: string) =>
    readdirSync(root, { recursive: true, withFileTypes: true })
      .map((entry) => {
        const path = join(entry.parentPath, entry.name);
        return `${path.slice(root.length)} ${entry.isSymbolicLink() ? readlinkSync(path) : entry.isDirectory()}`;
      })
      .sort();
  expect(list(back)).toEqual(list(source));
  expect((await summary(server, '--delete', ...all, 's3://b/p', back)).counts.copied).toBeUndefined();
  // A link that changed, and one that is no link any more.
  unlinkSync(join(source, 'd/to'));
  symlinkSync('a!', join(source, 'd/to'));
  unlinkSync(join(source, 'l/to'));
  expect((await summary(server, '--delete', ...all, source, 's3://b/p')).counts).toMatchObject({
    copied: 1,
    removed: 1,
  });
  expect((await summary(server, '--delete', ...all, 's3://b/p', back)).counts).toMatchObject({ copied: 1, removed: 1 });
  expect(list(back)).toEqual(list(source));
  // One name for two, on a disk and in a store.
  server.put('q/x', 'file');
  server.put('q/x.rclonelink', 'target');
  const two = await sync(server, '--links', 's3://b/q', join(scratch(), 'two'));
  expect([two.code, two.stderr.includes('a file has the name of this symlink')], two.stderr).toEqual([23, true]);
  const odd = await sync(server, '--links', tree({ 'y.rclonelink': 'z', w: '1' }), 's3://b/r');
  expect([odd.code, server.keys.filter((key) => key.startsWith('r/'))], odd.stderr).toEqual([23, ['r/w']]);
});

it('goes in batches, of which one begins when the one before has ended', async () => {
  const server = await s3();
  const files = Object.fromEntries(Array.from({ length: 9 }, (_, index) => [`f${index}`, `${index}`]));
  let [at, most] = [0, 0];
  server.plan = ({ method, key }) => {
    if (method === 'PUT' && key.startsWith('p/f')) {
      // Whatever is under way belongs to one batch.
      const batch = Math.floor(at / 2);
      at += 1;
      most = Math.max(most, batch);
      expect(server.keys.length).toBeGreaterThanOrEqual(batch * 2);
    }
    return undefined;
  };
  const args = ['--batch-size', '2', '--batch-pause', '0.01'];
  expect(await summary(server, ...args, tree(files), 's3://b/p')).toMatchObject({ code: 0, counts: { copied: 9 } });
  expect(most).toBe(4);
  const alone = await sync(server, '--batch-pause', '1', tree(files), 's3://b/p');
  expect([alone.code, alone.stderr.includes('--batch-size')]).toEqual([2, true]);
});

it('goes by what is remembered, and notices what changed on either side', async () => {
  const server = await s3();
  const source = tree({ a: '1', b: '2', c: '3' });
  const state = join(scratch(), 'state');
  const go = (...more: string[]) => summary(server, '--state', state, ...more, source, 's3://b/p');
  expect((await go()).counts.copied).toBe(3);
  const before = server.asked.length;
  expect((await go()).counts.skipped).toBeGreaterThanOrEqual(3);
  // No question an entry.
  expect(server.asked.slice(before).filter((ask) => !ask.startsWith('GET /b/?'))).toEqual([]);
  server.objects.delete('p/a');
  server.put('p/b', '9');
  writeFileSync(join(source, 'c'), '4');
  expect((await go()).counts.copied).toBe(3);
  expect(server.contents).toEqual({ 'p/a': '1', 'p/b': '2', 'p/c': '4' });
  // A line that breaks off is none; other places are refused.
  writeFileSync(state, readFileSync(state, 'utf8').slice(0, -5));
  expect(await go()).toMatchObject({ code: 0 });
  const other = await sync(server, '--state', state, source, 's3://b/q');
  expect([other.code, other.stderr.includes('other places')]).toEqual([2, true]);
  // A place is what it is, however and from wherever it is named; a bucket is one of its server.
  const [root, name] = [join(source, '..'), 'tree'];
  const elsewhere = join(scratch(), 'elsewhere');
  mkdirSync(join(elsewhere, name), { recursive: true });
  const again = await s3();
  for (const [cwd, place, { env }, code] of [
    [root, name, server, 0],
    [source, '.', server, 0],
    [elsewhere, name, server, 2],
    [root, name, again, 2],
  ] as const) {
    const ran = await run(['sync', '--state', state, place, 's3://b/p'], { cwd, env });
    expect(ran.code, ran.stderr).toBe(code);
  }
});

it('ends in good order where it refuses while a listing is on its way', async () => {
  const server = await s3({ page: 2 });
  for (const key of ['p/a', 'p/b', 'p/c']) server.put(key, key);
  server.plan = ({ query }) => (query.has('continuation-token') ? 'endless' : undefined);
  const state = join(scratch(), 'state');
  writeFileSync(state, 'of somebody else\n');
  const { code, stderr } = await sync(server, '--state', state, 's3://b/p', scratch());
  expect([code, stderr]).toEqual([2, `bulkhaul: ${state}: this is no state file of a sync\n`]);
});

it('goes on where it was killed', async () => {
  const server = await s3();
  const files = Object.fromEntries(Array.from({ length: 40 }, (_, index) => [`f${index}`, `content ${index}`]));
  const source = tree(files);
  const state = join(scratch(), 'state');
  for (const at of [3, 9, 20]) {
    let child: { kill: (signal: 'SIGKILL') => boolean } | undefined;
    const from = server.asked.length;
    server.plan = () => {
      if (server.asked.length - from === at) child?.kill('SIGKILL');
      return undefined;
    };
    await run(['sync', '-j1', '--state', state, source, 's3://b/p'], {
      env: server.env,
      onStart: (started) => {
        child = started;
      },
    });
  }
  server.plan = () => undefined;
  const done = await summary(server, '--state', state, source, 's3://b/p');
  expect(done.code).toBe(0);
  const probes = server.keys.filter((key) => key.includes('.bulkhaul-probe-'));
  for (const key of probes) server.objects.delete(key);
  expect(server.contents).toEqual(Object.fromEntries(Object.entries(files).map(([key, text]) => [`p/${key}`, text])));
  expect((await summary(server, '--state', state, source, 's3://b/p')).counts.copied).toBeUndefined();
});

it('is killed at each of its requests, leaves nothing that looks whole and is not, and goes on', async () => {
  const files = { a: '1', big: Buffer.alloc(11 * MIB, 'k'), c: '2' };
  const source = tree(files);
  const args = ['-j1', '--chunk-size', '5M', source, 's3://b/p'];
  for (let at = 1, whole = false; !whole; at += 1) {
    const server = await s3();
    server.put('p/a', 'old');
    let child: ChildProcess | undefined;
    server.plan = () => {
      if (server.asked.length === at) child?.kill('SIGKILL');
      return undefined;
    };
    const onStart = (started: ChildProcess) => {
      child = started;
    };
    whole = (await run(['sync', ...args], { env: server.env, onStart })).code === 0;
    const isRight = ([key, { body }]: [string, { body: Buffer }]) =>
      key.includes('.bulkhaul-probe-') ||
      (key === 'p/a' && String(body) === 'old') ||
      body.equals(Buffer.from(files[key.slice(2) as keyof typeof files] ?? ''));
    expect([at, [...server.objects].filter((entry) => !isRight(entry)).map(([key]) => key)]).toEqual([at, []]);
    server.plan = () => undefined;
    expect((await run(['sync', ...args], { env: server.env })).code).toBe(0);
    const there = server.keys.filter((key) => !key.includes('.bulkhaul-probe-'));
    expect([at, there]).toEqual([at, ['p/a', 'p/big', 'p/c']]);
    expect(server.objects.get('p/big')?.body.equals(files.big)).toBe(true);
  }
}, 300_000);

it('is killed at each of its requests on the way down, and shows what there was or what there is', async () => {
  const server = await s3({ page: 2 });
  const files = { a: '1', big: Buffer.alloc(11 * MIB, 'k'), 'd/c': '2' };
  for (const [name, content] of Object.entries(files)) server.put(`p/${name}`, content);
  const old: Record<string, string> = { a: 'old', 'd/gone': 'extra' };
  for (let at = 1, whole = false; !whole; at += 1) {
    const there = tree(old);
    const args = ['-j1', '--chunk-size', '5M', '--memory', '5M', '--delete', 's3://b/p', there];
    let child: ChildProcess | undefined;
    const from = server.asked.length;
    server.plan = () => {
      if (server.asked.length - from === at) child?.kill('SIGKILL');
      return undefined;
    };
    const onStart = (started: ChildProcess) => {
      child = started;
    };
    whole = (await run(['sync', ...args], { env: server.env, onStart })).code === 0;
    const shown = Object.entries(filesOf(there)).filter(([name]) => !/(^|\/)\.bh-/.test(name));
    const isRight = ([name, text]: [string, string]) =>
      text === old[name] || text === String(files[name as keyof typeof files]);
    expect([at, shown.filter((file) => !isRight(file)).map(([name]) => name)]).toEqual([at, []]);
    server.plan = () => undefined;
    const again = await run(['sync', ...args], { env: server.env });
    expect([at, again.code, Object.keys(filesOf(there))], again.stderr).toEqual([at, 0, ['a', 'big', 'd/c']]);
    expect(readFileSync(join(there, 'big')).equals(files.big)).toBe(true);
  }
}, 300_000);

it('goes on with a large object, from the parts that the server has, if what is sent is still the same', async () => {
  const big = Buffer.alloc(27 * MIB, 'parts');
  for (const checks of ['crc', 'hash'] as const) {
    const server = await s3({ checks });
    const [source, state] = [tree({ big }), scratch()];
    const args = ['-j1', '--chunk-size', '5M', '--memory', '5M', '--state-dir', state, source, 's3://b/p'];
    let child: ChildProcess | undefined;
    const onStart = (started: ChildProcess) => {
      child = started;
    };
    const parts = () => server.asked.filter((ask) => ask.includes('partNumber=')).length;
    server.plan = () => {
      if (parts() === 4) child?.kill('SIGKILL');
      return undefined;
    };
    await run(['sync', ...args], { env: server.env, onStart });
    expect([server.uploads.size, server.keys.filter((key) => key === 'p/big')]).toEqual([1, []]);
    // One part is not what it was: it is sent again.
    const [upload] = server.uploads.values();
    const had = upload?.parts.size ?? 0;
    upload?.parts.set(2, Buffer.alloc(5 * MIB, 'other'));
    server.plan = () => undefined;
    const before = parts();
    const done = await run(['sync', ...args], { env: server.env });
    expect([done.code, server.objects.get('p/big')?.body.equals(big)], done.stderr).toEqual([0, true]);
    expect([parts() - before, server.uploads.size]).toEqual([6 - had + 1, 0]);
    // The second part is among those that it had.
    expect(done.stderr).toContain(`${(had - 1) * 5}.0 MiB`);
    expect(Object.keys(filesOf(state)).filter((name) => name.startsWith('uploads/'))).toEqual([]);
  }
});

/** A sync that was killed when the second part of a large file was on its way: of what, and its words. */
async function killedInParts(server: S3, files: Record<string, string | Buffer>) {
  const [source, state] = [tree(files), scratch()];
  const args = ['-j1', '--chunk-size', '5M', '--state-dir', state, source, 's3://b/p'];
  let child: ChildProcess | undefined;
  const onStart = (started: ChildProcess) => {
    child = started;
  };
  server.plan = ({ query }) => {
    if (query.get('partNumber') === '2') child?.kill('SIGKILL');
    return undefined;
  };
  await run(['sync', ...args], { env: server.env, onStart });
  server.plan = () => undefined;
  expect(server.uploads.size).toBe(1);
  return { source, state, args };
}

it('begins anew where what is sent has changed, and gives up what is left over when it is told to', async () => {
  const server = await s3();
  const { source, state, args } = await killedInParts(server, { big: Buffer.alloc(12 * MIB, 'old') });
  writeFileSync(join(source, 'big'), Buffer.alloc(12 * MIB, 'new'));
  // A run that failed for anything may not know all that is to be gone on with.
  writeFileSync(Buffer.concat([Buffer.from(`${source}/`), Buffer.from([0xff])]), '');
  expect((await run(['sync', ...args], { env: server.env })).code).toBe(23);
  expect([server.objects.get('p/big')?.body.includes('old'), server.uploads.size]).toEqual([false, 1]);
  unlinkSync(Buffer.concat([Buffer.from(`${source}/`), Buffer.from([0xff])]));
  const whole = await run(['sync', ...args], { env: server.env });
  expect([whole.code, server.uploads.size, whole.stderr.includes('stale-uploads')], whole.stderr).toEqual([0, 0, true]);
  expect(Object.keys(filesOf(state)).filter((name) => name.startsWith('uploads/'))).toEqual([]);
  // What others have begun is given up by its age only.
  const upload = { headers: {}, parts: new Map(), begun: new Date('2020-01-01') };
  for (const key of ['p/x y', 'p2/x', 'p/young']) server.uploads.set(key, { ...upload, key });
  server.uploads.set('p/young', { ...upload, key: 'p/young', begun: new Date() });
  const dry = await sync(server, '-n', '--abort-stale', '7d', source, 's3://b/p');
  expect([dry.code, dry.stderr.includes('stale-uploads, 1x'), server.uploads.size], dry.stderr).toEqual([0, true, 3]);
  const ran = await sync(server, '--abort-stale', '7d', source, 's3://b/p');
  expect([ran.code, [...server.uploads.keys()].sort()], ran.stderr).toEqual([0, ['p/young', 'p2/x']]);
});

it('gives up what it has begun of a file that is gone, and nothing while it may go on', async () => {
  const server = await s3();
  const { source, args } = await killedInParts(server, { a: '1', big: Buffer.alloc(12 * MIB, 'gone') });
  const dry = await run(['sync', '-n', ...args], { env: server.env });
  expect([dry.code, server.uploads.size], dry.stderr).toEqual([0, 1]);
  unlinkSync(join(source, 'big'));
  // Where the server does not let it, that is told, and is no error of what was synced.
  server.plan = ({ method, query }) =>
    method === 'DELETE' && query.has('uploadId') ? { status: 403, code: 'AccessDenied' } : undefined;
  const denied = await run(['sync', ...args], { env: server.env });
  expect([denied.code, server.uploads.size, denied.stderr.includes('AccessDenied')], denied.stderr).toEqual([
    0,
    1,
    true,
  ]);
  server.plan = () => undefined;
  const done = await run(['sync', ...args], { env: server.env });
  expect([done.code, server.keys, server.uploads.size], done.stderr).toEqual([0, ['p/a'], 0]);
});

it('compares two places, by sizes and by what is in them', async () => {
  const server = await s3({ page: 2 });
  const source = tree({ a: '1', 'd/b': '22', only: 'x', same: 's' });
  const compare = (...args: string[]) => run(['compare', ...args, source, 's3://b/p'], { env: server.env });
  for (const [key, text] of [
    ['a', '2'],
    ['d/b', '1'],
    ['same', 's'],
    ['extra', 'y'],
  ] as const)
    server.put(`p/${key}`, text);
  const sizes = await compare('-i');
  expect([sizes.code, sizes.stdout.trim().split('\n').sort()], sizes.stderr).toEqual([
    ...[1, ['*deleting   extra', '>f+++++++++ only', '>f.s....... d/b'].sort()],
  ]);
  const whole = await compare('--content', '-i');
  expect([whole.code, whole.stdout.includes(' a\n')], whole.stderr).toEqual([1, true]);
  // What rules exclude is looked at on neither side.
  const some = await compare('-i', '--exclude', 'extra', '--exclude', '/d', '--exclude', 'on*');
  expect([some.code, some.stdout], some.stderr).toEqual([0, '']);
  expect((await compare('--exit-zero')).code).toBe(0);
  server.objects.clear();
  for (const [key, text] of [
    ['a', '1'],
    ['d/b', '22'],
    ['same', 's'],
    ['only', 'x'],
  ] as const)
    server.put(`p/${key}`, text);
  const same = await compare('--content');
  expect(same.code, same.stderr).toBe(0);
  // What is not known is no difference, and no proof.
  server.plan = ({ query }) => (query.get('continuation-token') ? { status: 403, code: 'AccessDenied' } : undefined);
  const partly = await compare('-i');
  expect([partly.code, partly.stdout], partly.stderr).toEqual([23, '']);
});

it('compares places of two servers, and symlinks with what a store has of them', async () => {
  const [there, here] = [await s3(), await s3()];
  for (const server of [there, here]) for (const key of ['p/a', 'p/b']) server.put(key, key);
  here.put('p/b', 'pb!');
  const compare = (...args: string[]) => run(['compare', '-i', '--content', ...args], { env: here.env });
  const across = ['--source-endpoint-url', there.endpoint];
  const two = await compare(...across, 's3://b/p', 's3://b/p');
  expect([two.code, two.stdout], two.stderr).toEqual([1, '>fc........ b\n']);
  const same = await compare('s3://b/p', 's3://b/p');
  expect([same.code, same.stdout], same.stderr).toEqual([0, '']);
  // To two stores a marker is an object like any other; a disk has a directory for it.
  here.put('p/m/', '');
  const marked = await compare(...across, 's3://b/p', 's3://b/p');
  expect([marked.code, marked.stdout], marked.stderr).toEqual([
    1,
    expect.stringMatching(/^.{11} b\n\*deleting +m\/\n$/),
  ]);
  // A path is where it is, whatever is said of the server of the first place.
  const mixed = await compare(...across, tree({ a: 'p/a', b: 'pb!' }), 's3://b/p');
  expect(mixed.code, mixed.stderr).toBe(0);
  const { differences } = await compareStores({
    ...{ left: 's3://b/p', right: 's3://b/p', content: 'whole', environment: here.env },
    ...{ leftStore: { endpoint: there.endpoint }, leftCredentials: { key: KEY, secret: SECRET } },
  });
  expect(differences).toMatchObject({ changed: 1, left: 0, right: 1 });

  const linked = tree({ a: 'p/a', b: 'pb!' });
  for (const [name, text] of [
    ['l', 'a'],
    ['other', 'b'],
  ] as const)
    symlinkSync(text, join(linked, name));
  here.put('p/l.rclonelink', 'a');
  here.put('p/other.rclonelink', 'c');
  const links = await compare('--links', linked, 's3://b/p');
  expect([links.code, links.stdout], links.stderr).toEqual([1, '>fc........ other.rclonelink\n']);
  // What a symlink leads to is all of it, also where no content of files is read.
  const sizes = await run(['compare', '-i', '--links', linked, 's3://b/p'], { env: here.env });
  expect([sizes.code, sizes.stdout], sizes.stderr).toEqual([1, '>fc........ other.rclonelink\n']);
  const without = await compare(linked, 's3://b/p');
  expect([without.code, without.stdout.split('\n').length], without.stderr).toEqual([1, 3]);
});

it('has no entry of its own state and journals, on either side', async () => {
  const server = await s3();
  const source = tree({ a: '1' });
  const link = join(scratch(), 'link');
  symlinkSync(source, link);
  for (const dir of ['d [x]', 'state']) mkdirSync(join(source, dir));
  const args = ['--journal', '--state-dir', join(source, 'state'), '--state', join(link, 'd [x]/s*te'), '--delete'];
  for (let time = 0; time < 2; time += 1) {
    const ran = await sync(server, ...args, source, 's3://b/p');
    expect([ran.code, server.keys], ran.stderr).toEqual([0, ['p/a']]);
  }
  expect(existsSync(join(source, 'd [x]/s*te'))).toBe(true);
  // What they are called is no wildcard.
  writeFileSync(join(source, 'd [x]/some te'), '2');
  expect((await sync(server, ...args, source, 's3://b/p')).code).toBe(0);
  expect(server.keys).toEqual(['p/a', 'p/d [x]/some te']);
  // In the destination it is nothing extra.
  const there = scratch();
  const down = ['--delete', '--state', join(there, 'state')];
  for (let time = 0; time < 2; time += 1) {
    const ran = await sync(server, ...down, 's3://b/p', there);
    expect([ran.code, readdirSync(there).sort()], ran.stderr).toEqual([0, ['a', 'd [x]', 'state']]);
  }
});

it('writes down what differs, and looks at as much of it as it is told to', async () => {
  const server = await s3({ page: 2 });
  const [long, other] = [Buffer.alloc(6 * MIB, 'ab'), Buffer.alloc(6 * MIB, 'ab')];
  other[5] = 0;
  const files = { 'a+b': '1', 'd/b': '22', 'd/same': 's', gone: 'x', 'l\nf': '3', long };
  const source = tree(files);
  const aside = scratch();
  const list = join(aside, 'list');
  const there = { 'a+b': '2', 'd/b': '1', 'd/same': 's', 'l\nf': '3', long: other, new: 'y' };
  for (const [key, content] of Object.entries(there)) server.put(`p/${key}`, content);
  const compare = async (...args: string[]) => {
    const { code, stdout, stderr } = await run(['compare', ...args], { env: server.env });
    return { code, stdout, stderr, list: existsSync(list) ? readFileSync(list, 'utf8') : undefined };
  };
  const places = [source, 's3://b/p'] as const;
  // By sizes; by the ends, which is where the long one is the same; by all.
  for (const [args, what] of [
    [[], 'd/b\nnew\n\0-d/b\n\0-gone\n'],
    [['--hash-size', '64K'], 'a+b\nd/b\nnew\n\0-a+b\n\0-d/b\n\0-gone\n'],
    [['--hash-size', '6M'], 'a+b\nd/b\nlong\nnew\n\0-a+b\n\0-d/b\n\0-gone\n\0-long\n'],
    [['--content', '-j', '4'], 'a+b\nd/b\nlong\nnew\n\0-a+b\n\0-d/b\n\0-gone\n\0-long\n'],
    [['--full-hash', '-j1'], 'a+b\nd/b\nlong\nnew\n\0-a+b\n\0-d/b\n\0-gone\n\0-long\n'],
  ] as const) {
    const ran = await compare(...args, '-o', list, ...places);
    const found = ran.list?.replaceAll('-\0', '\0-');
    expect([args, ran.code, found], ran.stderr).toEqual([args, 1, what]);
  }
  const stdout = await compare('--tar', '-o', '-', 's3://b/p', source);
  expect([stdout.code, stdout.stdout], stdout.stderr).toEqual([1, 'd/b\ngone\n']);
  const tar = await compare('--tar', '-o', '-', ...places);
  expect([tar.code, tar.stderr.includes('B is elsewhere')], tar.stderr).toEqual([2, true]);

  // What both sides keep beside the content.
  expect((await sync(server, source, 's3://b/q')).code).toBe(0);
  const kept = [source, 's3://b/q'] as const;
  expect((await compare('--metadata', '--content', ...kept)).code).toBe(0);
  utimesSync(join(source, 'gone'), 1, 1);
  const times = await compare('-i', '--metadata', ...kept);
  expect([times.code, times.stdout], times.stderr).toEqual([1, '.f..t...... gone\n']);

  // What could not be looked at is no difference, and no list is written by a run that is stopped.
  server.plan = ({ method, key }) =>
    method === 'GET' && key === 'q/long' ? { status: 403, code: 'AccessDenied' } : undefined;
  const denied = await compare('--content', '-o', list, ...kept);
  expect([denied.code, denied.list, denied.stderr.includes('AccessDenied')], denied.stderr).toEqual([23, '', true]);
  for (const [option, words] of [
    ['--list-a', 'verify --in URL'],
    ['--xattrs', 'keeps none'],
    ['--changes', 'goes with --output'],
  ] as const) {
    const refused = await compare(option, ...kept);
    expect([option, refused.code]).toEqual([option, 2]);
    if (option !== '--changes') expect(refused.stderr).toContain(words);
  }
});

it('is a job that status shows and resume goes on with', async () => {
  const server = await s3();
  const source = tree({ a: '1', b: '2' });
  const state = scratch();
  server.plan = ({ method, key }) =>
    method === 'PUT' && key === 'p/b' ? { status: 403, code: 'AccessDenied' } : undefined;
  const { code } = await sync(server, '--state-dir', state, source, 's3://b/p');
  expect(code).toBe(23);
  const [job] = readdirSync(join(state, 'jobs'));
  const told = await run(['status', '--state-dir', state]);
  expect(told.stdout).toContain(`${source} -> s3://b/p`);
  server.plan = () => undefined;
  // Keys are in no journal: they are looked up anew.
  const without = { ...server.env, AWS_ACCESS_KEY_ID: '', HOME: scratch() };
  expect((await run(['resume', String(job), '--state-dir', state], { env: without })).stderr).toContain(
    'no credentials',
  );
  const done = await run(['resume', String(job), '--state-dir', state], { env: server.env });
  expect([done.code, server.contents], done.stderr).toEqual([0, { 'p/a': '1', 'p/b': '2' }]);
});

it('leaves nothing unfinished of a download that was killed', async () => {
  const server = await s3();
  const names = Array.from({ length: 30 }, (_, index) => `f${index}`);
  for (const name of names) server.put(`p/d/${name}`, 'content');
  server.put('p/d/big', Buffer.alloc(12 * MIB, 'z'));
  const back = join(scratch(), 'back');
  let child: { kill: (signal: 'SIGKILL') => boolean } | undefined;
  // Its first part has come, and is written under another name.
  server.plan = ({ key }) => {
    if (key === 'p/d/big' && server.asked.filter((ask) => ask.startsWith('GET /b/p/d/big')).length === 2)
      child?.kill('SIGKILL');
    return undefined;
  };
  await run(['sync', '-j1', '--chunk-size', '5M', '--memory', '5M', 's3://b/p', back], {
    env: server.env,
    onStart: (started) => {
      child = started;
    },
  });
  expect(readdirSync(join(back, 'd')).filter((name) => ![...names, 'big'].includes(name))).toHaveLength(1);
  server.plan = () => undefined;
  const done = await summary(server, '--delete', 's3://b/p', back);
  expect([done.code, done.counts.removed]).toEqual([0, undefined]);
  expect(readdirSync(join(back, 'd')).sort()).toEqual([...names, 'big'].sort());
});

it('clears what a run that was killed left in the backup directory, when it keeps that file again', async () => {
  const server = await s3();
  const source = tree({ 'd/big': 'new' });
  server.put('p/d/big', Buffer.alloc(12 * MIB, 'z'));
  const old = join(scratch(), 'old');
  let child: { kill: (signal: 'SIGKILL') => boolean } | undefined;
  // The first part of what is kept has come.
  server.plan = ({ key }) => {
    if (key === 'p/d/big' && server.asked.filter((ask) => ask.startsWith('GET /b/p/d/big')).length === 2)
      child?.kill('SIGKILL');
    return undefined;
  };
  const args = ['--chunk-size', '5M', '--memory', '5M', '--backup-dir', old, source, 's3://b/p'];
  await run(['sync', '-j1', ...args], {
    env: server.env,
    onStart: (started) => {
      child = started;
    },
  });
  const left = readdirSync(join(old, 'd'));
  expect([left.length, server.objects.get('p/d/big')?.body.length]).toEqual([1, 12 * MIB]);
  expect(left[0]).toMatch(/^\.bh-/);
  server.plan = () => undefined;
  const done = await sync(server, ...args);
  expect([done.code, readdirSync(join(old, 'd'))], done.stderr).toEqual([0, ['big']]);
  expect([statSync(join(old, 'd/big')).size, server.contents['p/d/big']]).toEqual([12 * MIB, 'new']);
});

it('tells how much there is as soon as that is known, and of what stays only what does', async () => {
  const server = await s3();
  for (const name of ['a', 'b']) server.put(`p/${name}`, Buffer.alloc(MIB, name));
  const back = join(scratch(), 'back');
  let told = '';
  const { code, stdout } = await run(['sync', '--json', '--bwlimit', '1k', 's3://b/p', back], {
    env: { ...server.env, BULKHAUL_PROGRESS_INTERVAL: '0.05' },
    onStart: (child) =>
      child.stdout?.on('data', (chunk: Buffer) => {
        const was = told.includes('"expected"');
        told += chunk;
        // It would take half an hour.
        if (!was && told.includes('"expected"')) child.kill('SIGINT');
      }),
  });
  const lines = jsonLines(stdout);
  const { expected } = lines.find((line) => line.expected !== undefined) ?? {};
  expect(expected).toEqual({ entries: 2, files: 2, bytes: 2 * MIB, toRead: 2 * MIB, toDo: 2 });
  expect(code).toBe(130);
  expect(lines.at(-1)).toMatchObject({ type: 'summary', interrupted: true, unfinished: 0 });
  expect(existsSync(back) ? readdirSync(back) : []).toEqual([]);
});

it('copies within a server, and from one to another', async () => {
  const server = await s3();
  const other = await s3();
  server.put('p/a', '1', { 'x-amz-meta-mtime': '1600000000' });
  server.put('p/dir/', '');
  const before = server.asked.length;
  expect(await summary(server, 's3://b/p', 's3://b/q')).toEqual({ code: 0, counts: { copied: 2 } });
  expect(server.asked.slice(before).some((ask) => ask.startsWith('GET /b/p/a'))).toBe(false);
  expect(server.keys).toEqual(['p/a', 'p/dir/', 'q/a', 'q/dir/']);
  expect((await summary(server, 's3://b/p', 's3://b/q')).counts).toEqual({ skipped: 2 });
  const across = ['--endpoint-url', other.endpoint, '--source-endpoint-url', server.endpoint];
  expect((await summary(server, ...across, 's3://b/p', 's3://b/p')).code).toBe(0);
  expect(other.contents).toEqual({ 'p/a': '1', 'p/dir/': '' });
  expect((await sync(server, 's3://b/p', 's3://b/p/below')).code).toBe(3);
});

it('goes through this machine with what a server does not copy', async () => {
  const server = await s3();
  server.put('p/a', '1');
  server.plan = ({ method, key, nth }) =>
    method === 'PUT' && key === 'q/a' && nth === 1 ? { status: 400, code: 'DirectoryObjectContainsData' } : undefined;
  expect(await summary(server, 's3://b/p', 's3://b/q')).toEqual({ code: 0, counts: { copied: 1 } });
  expect(server.contents['q/a']).toBe('1');
});

it('tells by sums what has no time of its own, and copies all where nothing is to tell', async () => {
  const server = await s3();
  // As old as each other, as long, and not the same.
  server.put('p/a', 'AAA');
  server.put('q/a', 'BBB');
  server.put('p/same', '123', {}, new Date(2021, 0, 1));
  server.put('q/same', '123');
  expect(await summary(server, 's3://b/p', 's3://b/q')).toEqual({ code: 0, counts: { copied: 1, skipped: 1 } });
  expect(server.contents['q/a']).toBe('AAA');
  expect((await summary(server, 's3://b/p', 's3://b/q')).counts).toEqual({ skipped: 2 });
  expect((await summary(server, '--compare', 'always', 's3://b/p', 's3://b/q')).counts).toEqual({ copied: 2 });
});

it('takes another server for another job, wherever it was named', async () => {
  const [server, other] = [await s3(), await s3()];
  const source = tree({ a: '1' });
  const state = scratch();
  for (const each of [server, other]) {
    each.plan = ({ method, key }) =>
      method === 'PUT' && key === 'p/a' ? { status: 403, code: 'AccessDenied' } : undefined;
    expect((await sync(each, '--state-dir', state, source, 's3://b/p')).code).toBe(23);
  }
  const jobs = readdirSync(join(state, 'jobs'));
  expect(jobs).toHaveLength(2);
  const named = await sync(server, '--state-dir', state, '--endpoint-url', other.endpoint, source, 's3://b/p');
  expect([named.code, readdirSync(join(state, 'jobs'))], named.stderr).toEqual([23, jobs]);
  // Resumed, each goes to its own, whatever the environment says now.
  for (const each of [server, other]) each.plan = () => undefined;
  for (const job of jobs) {
    const ran = await run(['resume', job, '--state-dir', state], { env: server.env });
    expect(ran.code, ran.stderr).toBe(0);
  }
  expect([server.contents, other.contents]).toEqual([{ 'p/a': '1' }, { 'p/a': '1' }]);
});

it('speaks to Google as to AWS, with its own keys', async () => {
  const server = await s3();
  const source = tree({ a: '1', 'd/b': '2' });
  const env = { ...server.env, AWS_ACCESS_KEY_ID: '', GS_ACCESS_KEY_ID: KEY, GS_SECRET_ACCESS_KEY: SECRET };
  const up = await run(['sync', '--endpoint-url', server.endpoint, source, 'gs://b/p'], { env });
  expect([up.code, server.contents], up.stderr).toEqual([0, { 'p/a': '1', 'p/d/b': '2' }]);
  const listed = await run(['list', '--endpoint-url', server.endpoint, 'gs://b/p'], { env });
  expect(listed.stdout).toBe('a\nd/b\n');
  // It is no place of S3.
  const across = await run(['sync', '--endpoint-url', server.endpoint, 'gs://b/p', 's3://b/p'], { env });
  expect([across.code, across.stderr.includes('no credentials for s3')], across.stderr).toEqual([2, true]);
});

it('refuses what it does not know, before anything is done', async () => {
  const server = await s3();
  const source = tree({ a: '1' });
  for (const [args, words] of [
    [['abfs://b/p'], 'abfs is not there yet'],
    [['az://b/p'], 'no credentials for az'],
    [['--abort-stale', '1d', 'memory:'], 'abort-stale'],
    [['gs://b/p'], 'no credentials for gs'],
    [['--links', 'sftp://h/p'], 'symlinks are carried between'],
    [['sftp://u:secret@h/p'], 'sftp://[USER@]HOST[:PORT]/PATH'],
    [['ftp://h/p'], 'nothing is known of ftp'],
    [['s3:///p'], 'no name of a bucket'],
    [['s3://b/p/../q'], '. or ..'],
    [['--endpoint-url', 'nowhere', 's3://b/p'], 'endpoint-url'],
    [['--chunk-size', '1M', 's3://b/p'], 'chunk-size'],
    [['--ca-file', '/dev/null', 's3://b/p'], 'ca-file'],
    [['--max-delete', '1', 's3://b/p'], '--max-delete'],
    [['--compare', 'state', 's3://b/p'], 'state file'],
  ] as const) {
    const { code, stderr } = await sync(server, source, ...args);
    expect([code, stderr.includes(words)], stderr).toEqual([2, true]);
  }
  const none = { ...server.env, AWS_ACCESS_KEY_ID: '', HOME: scratch() };
  expect((await run(['sync', source, 's3://b/p'], { env: none })).stderr).toContain('no credentials');
  expect(server.asked).toEqual([]);
});

it('asks the server that the profile of a source has, whatever is said of the other', async () => {
  const [there, here] = [await s3(), await s3()];
  there.put('p/a', 'theirs');
  const home = scratch();
  mkdirSync(join(home, '.aws'));
  const keys = `aws_access_key_id = ${KEY}\naws_secret_access_key = ${SECRET}\n`;
  const settings = `[profile two]\n${keys}endpoint_url = ${there.endpoint}\n[profile keys]\n${keys}`;
  writeFileSync(join(home, '.aws/config'), settings);
  const to = ['--endpoint-url', here.endpoint, 's3://b/p', 's3://b/back'];
  const env = { HOME: home, AWS_ENDPOINT_URL: '' };
  const from = (...options: string[]) => run(['sync', ...options, ...to], { env: { ...here.env, ...env } });
  const { code, stderr } = await from('--source-profile', 'two');
  expect([code, here.contents], stderr).toEqual([0, { 'back/a': 'theirs' }]);
  const compared = await run(['compare', '--source-profile', 'two', '--content', ...to], {
    env: { ...here.env, ...env },
  });
  expect(compared.code, compared.stderr).toBe(0);
  // One that has none, or one that was said.
  for (const [options, words] of [
    [['--source-profile', 'keys'], 's3://b/p/: nothing is there'],
    [['--source-profile', 'two', '--source-endpoint-url', here.endpoint], 's3://b/p/: nothing is there'],
    [['--source-profile', 'none'], 'no profile none'],
  ] as const)
    expect((await from(...options)).stderr).toContain(words);
}, 60_000);

it('takes keys of a profile', async () => {
  const server = await s3();
  const home = scratch();
  mkdirSync(join(home, '.aws'));
  writeFileSync(
    join(home, '.aws/credentials'),
    `[default]\naws_access_key_id = no\n[mine]\naws_access_key_id=${KEY}\naws_secret_access_key = ${SECRET}\n`,
  );
  writeFileSync(
    join(home, '.aws/config'),
    `[profile mine]\nregion = eu-central-1\nendpoint_url = ${server.endpoint}\n`,
  );
  const env = { HOME: home, AWS_ACCESS_KEY_ID: '', AWS_ENDPOINT_URL: '', AWS_CA_BUNDLE: '' };
  const ran = await run(['sync', '--profile', 'mine', tree({ a: '1' }), 's3://b/p'], { env });
  expect([ran.code, server.keys], ran.stderr).toEqual([0, ['p/a']]);
  expect((await run(['list', '--profile', 'none', 's3://b'], { env })).stderr).toContain('no profile none');
  expect(sectionsOf('[a]\nx = 1 # y\n  s3 = z\n[b]\n')).toEqual(
    new Map<string, Record<string, string>>([
      ['a', { x: '1 # y' }],
      ['b', {}],
    ]),
  );
});

/** What the page has beside photos. */
const EVENTS = [5, 6, 7].map((month) => `events/year=2026/month=${month}/a.parquet`);

/** The bucket `archive` of a server: who asks it, and what it has. */
const ARCHIVES: Record<string, () => Promise<{ env: NodeJS.ProcessEnv; keys: () => string[] } | undefined>> = {
  'a server of our own': async () => {
    const server = await s3({ bucket: 'archive' });
    return { env: server.env, keys: () => server.keys };
  },
  versitygw: async () => {
    const server = await versitygw();
    if (!server) return undefined;
    const archive = join(server.bucket, '../archive');
    mkdirSync(archive);
    return { env: server.env, keys: () => Object.keys(filesOf(archive)) };
  },
};

it.each(Object.entries(ARCHIVES))(
  'does what its page says, with %s',
  async (_, start) => {
    const server = await start();
    if (!server) return;
    const page = readFileSync(new URL('../../docs/sync.md', import.meta.url), 'utf8');
    const blocks = [...page.matchAll(/^```(sh|js)\n([\s\S]*?)^```$/gm)].map(([, kind, text = '']) => ({ kind, text }));
    const cwd = scratch();
    for (const name of ['photos/a.jpg', 'photos/b.tmp', 'photos/cache/c.jpg', ...EVENTS]) {
      mkdirSync(join(cwd, name, '..'), { recursive: true });
      writeFileSync(join(cwd, name), name.replace(/^photos\//, ''));
    }
    mkdirSync(join(cwd, 'node_modules'));
    symlinkSync(fileURLToPath(new URL('../..', import.meta.url)), join(cwd, 'node_modules/bulkhaul'));
    const said: string[] = [];
    for (const { kind, text } of blocks) {
      writeFileSync(join(cwd, 'example.mjs'), text);
      const line = `bulkhaul() { "${process.execPath}" "${executable}" "$@"; }\nset -e\n${text}`;
      const [command, args] = kind === 'js' ? [process.execPath, ['example.mjs']] : ['sh', ['-c', line]];
      const ran = await program(command as string, args as string[], { cwd, env: server.env });
      expect(ran.code, `${text}\n${ran.stderr}`).toBe(0);
      if (kind === 'js') said.push(ran.stdout);
    }

    const [all3, both] = [
      "[ [ 'all/a.jpg', 5 ], [ 'all/b.tmp', 5 ], [ 'all/cache/c.jpg', 11 ] ]\n",
      "[ 'all', 'one' ]\n",
    ];
    const place = `${both}${all3}a.j false\n`;
    expect(said).toEqual([
      '3\n0 true\n1\na.jpg 5\ncache/c.jpg 11\n',
      ...['3 0\n', '0\n', 'true\n', '2\n', '3\n', '3 0\n'],
      "{ year: '2026', month: '06', day: '15' }\n{ year: '2026', month: '06' }\n",
      '2\n',
      'removed year=2026/month=6\nskipped year=2026/month=7\n1\n',
      's3://archive/pairs/first.jpg added undefined\n' +
        's3://archive/pairs/second.jpg failed stat photos/missing.jpg: No such file or directory\n',
      'true the contents are the same\n',
      '1 2\n2 2\nchecked/a.jpg true undefined\nchecked/none.jpg false NO_SOURCE\n',
      ...['true\n', 'true 1\n', '3 0 0\n', '3 true\n', place + place],
    ]);
    for (const there of ['recent', 'copied', 'nightly'])
      expect([there, filesOf(join(cwd, there))]).toEqual([there, filesOf(join(cwd, 'photos'))]);
    const all = ['a.jpg', 'b.tmp', 'cache/c.jpg'];
    const below = (prefix: string) =>
      server.keys().flatMap((key) => (key.startsWith(prefix) ? [key.slice(prefix.length)] : []));
    for (const prefix of ['photos/', 'copy/', 'state/', 'proved/'])
      expect([prefix, below(prefix)]).toEqual([prefix, all]);
    expect([below('some/'), below('named/')]).toEqual([
      ['a.jpg', 'cache/c.jpg'],
      ['a.jpg', 'cache/c.jpg'],
    ]);
    expect(Object.keys(filesOf(join(cwd, 'back')))).toEqual(all);
    // Of three months the last two are left.
    expect(below('events/')).toEqual(['year=2026/month=6/a.parquet', 'year=2026/month=7/a.parquet']);
  },
  120_000,
);

it('does not begin where nobody answers, whatever is asked of the store', async () => {
  const source = tree({ a: '1' });
  const env = { AWS_ACCESS_KEY_ID: 'a', AWS_SECRET_ACCESS_KEY: 'b', AWS_REGION: 'x' };
  const away = ['--json', '--quiet', '--endpoint-url', `http://127.0.0.1:${await freePort()}`];
  for (const [code, words] of [
    ['NO_DESTINATION', ['sync', '--retries', '0', source, 's3://b/p']],
    ['NO_START', ['sync', '--retries', '0', 's3://b/p', join(source, 'into')]],
    ['NO_START', ['list', 's3://b/p']],
    ['NO_START', ['manifest', 's3://b/p']],
    ['NO_START', ['compare', source, 's3://b/p']],
    ['NO_START', ['retain', '--key', 'month', '--keep', '1', 's3://b/p']],
  ] as const) {
    const ran = await run([words[0], ...away, ...words.slice(1)], { env });
    expect([words, ran.code, ...jsonLines(ran.stdout)]).toMatchObject([words, 2, { kind: 'refused', code }]);
  }
}, 120_000);

/** A server's key and certificate for a name, and the authority that has signed it; none: nothing here makes certificates. */
async function certificate(
  subject: string,
): Promise<{ tls: { key: string; cert: string }; authority: string } | undefined> {
  const at = scratch();
  const make = (name: string, ...more: string[]) => {
    const words = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', `/CN=${name}`];
    return program('openssl', [...words, '-keyout', `${name}.key`, '-out', `${name}.pem`, ...more], { cwd: at });
  };
  const wanted = [`subjectAltName=${subject}`, 'basicConstraints=critical,CA:FALSE'].flatMap((text) => [
    '-addext',
    text,
  ]);
  const authority = await make('ca').catch(() => undefined);
  const made = authority && (await make('server', '-CA', 'ca.pem', '-CAkey', 'ca.key', ...wanted));
  if (made?.code !== 0) {
    console.log('skip: there is no openssl that makes certificates');
    return undefined;
  }
  const [key, cert] = ['server.key', 'server.pem'].map((name) => readFileSync(join(at, name), 'utf8'));
  return { tls: { key: key ?? '', cert: cert ?? '' }, authority: join(at, 'ca.pem') };
}

it('speaks TLS with servers whose authority it trusts, and with no others', async () => {
  const made = await certificate('IP:127.0.0.1');
  if (made === undefined) return;
  const server = await s3({ tls: made.tls });
  const source = tree({ a: '1' });
  const refused = await sync(server, source, 's3://b/p');
  expect([refused.code, refused.stderr.includes('certificate'), server.keys], refused.stderr).toEqual([2, true, []]);
  const trusted = await sync(server, '--ca-file', made.authority, source, 's3://b/p');
  expect([trusted.code, server.keys], trusted.stderr).toEqual([0, ['p/a']]);
});

/** A proxy to which each host is this server; and what it was asked, with the words of who asked. */
async function proxyTo(server: S3): Promise<{ port: number; asked: string[] }> {
  const [asked, port] = [[] as string[], Number(new URL(server.endpoint).port)];
  const note = ({ method, url, headers }: IncomingMessage) => {
    const [, words = ''] = headers['proxy-authorization']?.split(' ') ?? [];
    asked.push(`${method} ${url?.split('?')[0]} ${Buffer.from(words, 'base64')}`);
  };
  const proxy = createServer((request, response) => {
    note(request);
    const { method, headers } = request;
    const path = request.url?.replace(/^http:\/\/[^/]*/, '');
    const to = send({ host: '127.0.0.1', port, method, path, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.pipe(response);
    });
    request.pipe(to);
  });
  proxy.on('connect', (request: IncomingMessage, socket: Socket) => {
    note(request);
    const to = connect(port, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      to.pipe(socket).pipe(to);
    });
    for (const [one, other] of [
      [to, socket],
      [socket, to],
    ] as const) {
      one.on('error', () => other.destroy()).on('close', () => other.destroy());
    }
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    proxy.closeAllConnections();
    proxy.close();
  });
  return { port: (proxy.address() as AddressInfo).port, asked };
}

it('goes through the proxy that the environment names, in the clear and by TLS', async () => {
  const source = tree({ a: '1' });
  const server = await s3();
  const { port, asked } = await proxyTo(server);
  const proxied = {
    ...server.env,
    AWS_ENDPOINT_URL: 'http://store.test',
    HTTP_PROXY: `http://me:word@127.0.0.1:${port}`,
  };
  const plain = await run(['sync', source, 's3://b/p'], { env: proxied });
  expect([plain.code, server.contents], plain.stderr).toEqual([0, { 'p/a': '1' }]);
  expect(asked).toContain('PUT http://store.test/b/p/a me:word');
  // This machine is asked without.
  const before = asked.length;
  const here = await run(['sync', source, 's3://b/q'], { env: { ...proxied, ...server.env } });
  expect([here.code, asked.length], here.stderr).toEqual([0, before]);
  // What is no proxy, or does not answer, is no way round: nothing goes to the server, and the password is in no message.
  for (const [wrong, code] of [
    ['me:word@', 2],
    ['socks5://me:word@127.0.0.1:1', 2],
    [`http://me:word@127.0.0.1:${await freePort()}`, 2],
  ] as const) {
    const args = ['sync', '--retries', '0', source, 's3://b/r'];
    const none = await run(args, { env: { ...proxied, HTTP_PROXY: wrong, http_proxy: '' } });
    expect([wrong, none.code, none.stderr.includes('word')], none.stderr).toEqual([wrong, code, false]);
    expect(none.stderr).toMatch(/asked through the proxy|proxy: this is no/);
  }

  const made = await certificate('DNS:store.test');
  if (made === undefined) return;
  const secure = await s3({ tls: made.tls });
  const tunnel = await proxyTo(secure);
  const env = { ...secure.env, AWS_ENDPOINT_URL: 'https://store.test', HTTPS_PROXY: `127.0.0.1:${tunnel.port}` };
  const safe = await run(['sync', '--ca-file', made.authority, source, 's3://b/p'], { env });
  expect([safe.code, secure.contents], safe.stderr).toEqual([0, { 'p/a': '1' }]);
  expect(new Set(tunnel.asked)).toEqual(new Set(['CONNECT store.test:443 ']));
}, 60_000);

it('knows whom the environment names', async () => {
  const way = async (endpoint: string | undefined, variables: Record<string, string>) => {
    const { proxy, direct } = await accessOf('s3', { anonymous: true, ...(endpoint && { endpoint }) }, variables);
    return [proxy, direct];
  };
  const variables = { HTTP_PROXY: 'http://p:1', https_proxy: 'q:2', HTTPS_PROXY: 'r:3', NO_PROXY: '.here,10.0.0.0/8' };
  expect(await way(undefined, variables)).toEqual(['http://q:2', '.here,10.0.0.0/8']);
  expect(await way('http://store', variables)).toEqual(['http://p:1', '.here,10.0.0.0/8']);
  expect(await way('https://store:9000', { HTTPS_PROXY: 'r:3' })).toEqual(['http://r:3', undefined]);
  expect(await way('http://store', { HTTPS_PROXY: 'r:3', http_proxy: '' })).toEqual([undefined, undefined]);
  for (const here of ['http://localhost:9000', 'http://127.0.0.1', 'http://[::1]:1', 'http://127.1.2.3:5/']) {
    expect([here, await way(here, variables)]).toEqual([here, [undefined, undefined]]);
  }
  for (const here of ['http://LOCALHOST', 'http://localhost.', 'http://127.1', 'http://127.0.0.1:1/account']) {
    expect([here, await way(here, variables)]).toEqual([here, [undefined, undefined]]);
  }
  expect((await way('http://127.0.0.1.example', variables))[0]).toBe('http://p:1');
  const direct = async (endpoint: string, names: string) =>
    (await way(endpoint, { http_proxy: 'p:1', https_proxy: 'p:1', no_proxy: names }))[1];
  expect(await direct('http://s3.test', 'a:80, *.test ,b:81,c')).toBe('a,.test,c');
  expect(await direct('https://s3.test', 'a:80,b:443,[::2]:443,[::3]:80,::4')).toBe('b,::2,::4');
  expect(await direct('http://s3.test:9000', 'a:9000,*,10.0.0.0/8,')).toBe('a,*,10.0.0.0/8');
});

it('brings over and removes what is named, and lists nothing', async () => {
  const server = await s3();
  const source = tree({ a: '1', 'd/b': '2', c: '3' });
  server.put('p/old', 'x');
  server.put('p/other', 'x');
  const lists = scratch();
  writeFileSync(join(lists, 'add'), 'd/b\na\na\n');
  writeFileSync(join(lists, 'remove'), 'old\0not-there\0');
  const named = ['--files-from', join(lists, 'add')];
  expect(await summary(server, ...named, source, 's3://b/p')).toEqual({ code: 0, counts: { copied: 2 } });
  expect(await summary(server, ...named, source, 's3://b/p')).toEqual({ code: 0, counts: { skipped: 2 } });
  const removed = ['-0', '--delete-from', join(lists, 'remove')];
  for (const more of [['-n'], []]) {
    const told = await summary(server, ...more, ...removed, source, 's3://b/p');
    expect(told).toEqual({ code: 0, counts: { removed: 1, skipped: 1 } });
  }
  expect(server.keys).toEqual(['p/a', 'p/d/b', 'p/other']);
  expect(server.asked.some((ask) => ask.includes('list-type'))).toBe(false);
  // What is named and missing is an error, and then nothing goes.
  writeFileSync(join(lists, 'add'), 'missing\n');
  writeFileSync(join(lists, 'remove'), 'other\n');
  const missing = await sync(server, ...named, '--delete-from', join(lists, 'remove'), source, 's3://b/p');
  expect([missing.code, server.keys.includes('p/other')], missing.stderr).toEqual([23, true]);
});

it('brings no name that leads out of its place, also where that is still to be made', async () => {
  const server = await s3();
  const [root, list] = [scratch(), join(scratch(), 'list')];
  mkdirSync(join(root, 'in'));
  writeFileSync(join(root, 'secret'), 'x');
  server.put('secret', 'x');
  writeFileSync(list, '../secret\n./a\n/etc/hostname\n');
  for (const source of [join(root, 'in'), 's3://b/p']) {
    const ran = await sync(server, '--files-from', list, source, join(root, 'new'));
    expect([ran.code, ran.stderr.match(/^bulkhaul: stat /gm)?.length], ran.stderr).toEqual([23, 3]);
    expect([existsSync(join(root, 'new')), readFileSync(join(root, 'secret'), 'utf8')]).toEqual([false, 'x']);
  }
});

it('copies two paths as copy does', async () => {
  const source = tree({ a: '1', 'd/b': '2' });
  const there = join(scratch(), 'there');
  const ran = await run(['sync', '--delete', source, `file://${there}`]);
  expect([ran.code, filesOf(there)], ran.stderr).toEqual([0, { a: '1', 'd/b': '2' }]);
  const wrong = await run(['sync', '--header', 'Cache-Control: no-store', source, there]);
  expect([wrong.code, wrong.stderr.includes('a URL')], wrong.stderr).toEqual([2, true]);
});

/** Runs a sync between two paths; answers what came, and what became of entries. */
async function between(...args: string[]) {
  const { code, stdout, stderr } = await run(['sync', '--json', ...args]);
  const { outcomes, added, updated } = JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}');
  return { code, added, updated, removed: outcomes?.removed, ...(outcomes === undefined && { stderr }) };
}

it('chooses between two paths too, and brings what a copy would bring of a file', async () => {
  const source = tree({ a: '1', big: '12345', 'd=1/b': '2', 'd=2/private/c': '3', 'empty/.x': '' });
  unlinkSync(join(source, 'empty/.x'));
  chmodSync(join(source, 'a'), 0o751);
  chmodSync(join(source, 'd=2/private'), 0o700);
  utimesSync(join(source, 'big'), 1_700_000_000, 1_700_000_000);
  symlinkSync('a', join(source, 'link'));
  // Blocks of zeros take no room.
  writeFileSync(join(source, 'holes'), Buffer.alloc(MIB));
  const there = scratch();
  const to = (name: string) => join(there, name);
  expect(await between('--newer-than', '2023-01-01', '--max-size', '9', source, to('new'))).toMatchObject({ added: 2 });
  expect(Object.keys(filesOf(to('new')))).toEqual(['big']);
  expect(await between('--partition', 'd>=2', source, to('some'))).toMatchObject({ code: 0, added: 1 });
  expect([filesOf(to('some')), statSync(join(to('some'), 'd=2/private')).mode & 0o777]).toEqual([
    { 'd=2/private/c': '3' },
    0o700,
  ]);
  expect(await between('--min-size', '0', source, to('all'))).toMatchObject({ code: 0, added: 6, updated: 0 });
  expect(filesOf(to('all'))).toEqual(filesOf(source));
  expect([readlinkSync(join(to('all'), 'link')), statSync(join(to('all'), 'empty')).isDirectory()]).toEqual([
    'a',
    true,
  ]);
  const { mode, mtimeMs } = statSync(join(to('all'), 'a'));
  expect([mode & 0o777, mtimeMs]).toEqual([0o751, 1_600_000_000_000]);
  expect(statSync(join(to('all'), 'holes')).blocks).toBeLessThan(MIB / 1024);
});

it('brings what was a file as a symlink or a directory between two paths, and the reverse, when what was there may go', async () => {
  const kinds = {
    file: (path: string) => writeFileSync(path, '1'),
    link: (path: string) => symlinkSync('x', path),
    directory: (path: string) => {
      mkdirSync(path);
      writeFileSync(join(path, 'a'), '1');
    },
  };
  const root = scratch();
  const [source, there] = [join(root, 'source'), join(root, 'there')];
  for (const place of [source, there]) mkdirSync(place);
  const names = Object.entries(kinds).flatMap(([was, make]) =>
    Object.entries(kinds).flatMap(([is, makeNew]) => {
      if (was === is) return [];
      const name = `${was}-${is}`;
      make(join(there, name));
      makeNew(join(source, name));
      return [name];
    }),
  );
  const kindsIn = (place: string) =>
    names.map((name) => {
      const stat = lstatSync(join(place, name));
      return stat.isFile() ? 'file' : stat.isSymbolicLink() ? 'link' : 'directory';
    });
  const before = kindsIn(there);
  expect(await between('--min-size', '0', source, there)).toMatchObject({ code: 23, added: 0, updated: 0 });
  expect(kindsIn(there)).toEqual(before);
  expect(await between('--min-size', '0', '--delete', source, there)).toMatchObject({ code: 0, added: 6, removed: 8 });
  expect(kindsIn(there)).toEqual(kindsIn(source));
});

it('remembers, keeps aside and heeds conflicts between two paths', async () => {
  const source = tree({ a: '1', b: '2' });
  const [there, old] = [scratch(), scratch()].map((each) => join(each, 'to')) as [string, string];
  const state = join(scratch(), 'state');
  const job = ['--state', state, '--delete', '--backup-dir', old, source, there];
  expect(await between(...job)).toEqual({ code: 0, added: 2, updated: 0, removed: 0 });
  expect(await between(...job)).toEqual({ code: 0, added: 0, updated: 0, removed: 0 });
  // The same size and time: only what is remembered tells.
  writeFileSync(join(there, 'a'), '9');
  utimesSync(join(there, 'a'), 1_600_000_000, 1_600_000_001);
  chmodSync(join(source, 'b'), 0o640);
  writeFileSync(join(there, 'extra'), 'x');
  expect(await between('--conflict', 'fail', ...job)).toMatchObject({ code: 23, updated: 0 });
  expect(await between(...job)).toEqual({ code: 0, added: 0, updated: 1, removed: 1 });
  expect([filesOf(there), filesOf(old)]).toEqual([
    { a: '1', b: '2' },
    { a: '9', extra: 'x' },
  ]);
});

it('takes its own state file for no entry, on either side', async () => {
  for (const side of ['source', 'there'] as const) {
    const places = { source: tree({ a: '1' }), there: scratch() };
    const state = join(places[side], 'state');
    for (const added of [1, 0]) {
      const ran = await between('--state', state, '--delete', places.source, places.there);
      expect([side, ran]).toEqual([side, { code: 0, added, updated: 0, removed: 0 }]);
    }
    expect(Object.values(places).filter((place) => existsSync(join(place, 'state')))).toEqual([places[side]]);
  }
});

it('refuses two paths that are one, or of which one is in the other, whatever they are called', async () => {
  const source = tree({ a: '1', 'd/b': '2' });
  const alias = join(scratch(), 'alias');
  symlinkSync(source, alias);
  for (const [from, to] of [
    [source, alias],
    [source, join(alias, 'd/e')],
    [join(alias, 'd'), source],
  ] as const) {
    const ran = await run(['sync', '--min-size', '0', from, to]);
    expect([ran.code, ran.stderr.includes('one is in the other')], ran.stderr).toEqual([3, true]);
  }
  expect(filesOf(source)).toEqual({ a: '1', 'd/b': '2' });
});

it('tells what was new from what was there', async () => {
  const server = await s3();
  const source = tree({ a: '1', b: '2' });
  server.put('p/a', 'other');
  const told = async (...args: string[]) => {
    const { stdout } = await sync(server, '--json', ...args, source, 's3://b/p');
    const { added, updated, outcomes } = JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}');
    return [added, updated, outcomes.copied];
  };
  expect(await told('-n')).toEqual([1, 1, 2]);
  expect(await told()).toEqual([1, 1, 2]);
  expect(await told()).toEqual([0, 0, 0]);
  const here = join(scratch(), 'here');
  expect(await between(source, here)).toMatchObject({ added: 2, updated: 0 });
  writeFileSync(join(source, 'a'), 'longer');
  expect(await between(source, here)).toMatchObject({ added: 0, updated: 1 });
});

it('works with a server that somebody else wrote', async () => {
  const gateway = await versitygw();
  if (!gateway) return;
  const { env, bucket } = gateway;
  const source = tree({ 'a!': '1', 'd/b': '2', 'ü +%&': '3', big: Buffer.alloc(11 * MIB, 'v') });
  const expected = filesOf(source);
  for (const proof of ['size', 'hash', 'full']) {
    const up = await run(['sync', '--verify', proof, source, `s3://bucket/${proof}`], { env });
    expect([up.code, filesOf(join(bucket, proof))], up.stderr).toEqual([0, expected]);
  }
  const back = join(scratch(), 'back');
  const down = await run(['sync', 's3://bucket/size', back], { env });
  expect([down.code, filesOf(back)], down.stderr).toEqual([0, expected]);
  const mirror = await run(['sync', '--delete', tree({ other: '1' }), 's3://bucket/hash'], { env });
  expect([mirror.code, filesOf(join(bucket, 'hash'))], mirror.stderr).toEqual([0, { other: '1' }]);
}, 60_000);

it('brings a file where a directory was, and the reverse, when what is extra may go', async () => {
  const gateway = await versitygw();
  if (!gateway) return;
  const { env, bucket } = gateway;
  const before = tree({ a: '1', 'b/c/d': '2', 'b/e': '3', z: '4' });
  const after = tree({ 'a/x': '5', 'a/y/z': '6', b: '7' });
  const [url, local] = ['s3://bucket/p', join(scratch(), 'local')];
  const mirror = (from: string, to: string, most: string) =>
    run(['sync', '--delete', '--max-delete', most, from, to], { env });
  const there = () => [filesOf(join(bucket, 'p')), filesOf(local)];
  await mirror(before, url, '100%');
  await mirror(url, local, '100%');
  expect(there()).toEqual([filesOf(before), filesOf(before)]);
  // To a server that has files and directories, and from it.
  for (const [from, to] of [
    [after, url],
    [url, local],
  ] as const) {
    const was = there();
    const held = await mirror(from, to, '1');
    expect([held.code, there()], held.stderr).toEqual([3, was]);
    expect(held.stderr).toContain('something extra is in its way, which was not removed');
    const ran = await mirror(from, to, '100%');
    expect(ran.code, ran.stderr).toBe(0);
  }
  expect(there()).toEqual([filesOf(after), filesOf(after)]);
}, 60_000);

it('agrees with rclone about what is there', async () => {
  const version = await program('rclone', ['version'], {}).catch(() => undefined);
  if (version?.code !== 0) return console.log('skip: rclone is not installed');
  const server = await s3({ checks: 'hash' });
  const source = tree({ ...FILES, big: Buffer.alloc(6 * MIB, 'y') });
  expect((await sync(server, '--chunk-size', '5M', source, 's3://b/p')).code).toBe(0);
  const env = {
    RCLONE_CONFIG: '/dev/null',
    AWS_CA_BUNDLE: undefined,
    RCLONE_CONFIG_X_TYPE: 's3',
    RCLONE_CONFIG_X_PROVIDER: 'Other',
    RCLONE_CONFIG_X_ENDPOINT: server.endpoint,
    RCLONE_CONFIG_X_ACCESS_KEY_ID: KEY,
    RCLONE_CONFIG_X_SECRET_ACCESS_KEY: SECRET,
    RCLONE_CONFIG_X_FORCE_PATH_STYLE: 'true',
    RCLONE_CONFIG_X_LIST_VERSION: '2',
  };
  const judged = await program('rclone', ['check', '--download', source, 'X:b/p'], { env });
  expect([judged.code, judged.stderr.includes('0 differences found')], judged.stderr).toEqual([0, true]);
  // What rclone wrote is the same to us.
  const theirs = await program('rclone', ['copy', source, 'X:b/q'], { env });
  expect(theirs.code, theirs.stderr).toBe(0);
  expect((await summary(server, source, 's3://b/q')).counts.copied).toBeUndefined();
});

it('brings the content where a destination refuses modes and times, and says so once', async () => {
  const server = await s3({});
  const source = tree({ a: '1', b: '2' });
  for (const name of ['a', 'b']) chmodSync(join(source, name), 0o640);
  await sync(server, source, 's3://b/p');
  for (const [options, words, kind] of [
    ['nochmod=EPERM', [], '2 files copied'],
    ['nochmod=EPERM', ['--perms'], 'LOST (mode, 2x): '],
    ['noutimens=EPERM', [], 'LOST (times, 2x): '],
  ] as const) {
    const behind = scratch();
    const there = await faulty(behind, options);
    if (!there) return;
    const { code, stderr } = await sync(server, ...words, 's3://b/p', there);
    expect({ code, files: filesOf(behind), stderr }).toEqual({
      code: kind.startsWith('LOST') ? 23 : 0,
      files: { a: '1', b: '2' },
      stderr: expect.stringContaining(kind),
    });
  }
});

it.skipIf(process.getuid?.() !== 0)(
  'writes what its directory gives any program, and what the file had that it replaces',
  async () => {
    const server = await s3({});
    const source = tree({ 'd/new': '1', 'd/secret': 'new' });
    await sync(server, source, 's3://b/p');
    const [there, plain] = [scratch(), scratch()];
    for (const root of [there, plain]) {
      execFileSync('chgrp', ['12', root]);
      execFileSync('setfacl', ['-m', 'd:u:1009:rwx,d:g::rwx,d:o::---', root]);
      chmodSync(root, 0o2770);
      mkdirSync(join(root, 'd'));
      writeFileSync(join(root, 'd/secret'), 'old');
      chmodSync(join(root, 'd/secret'), 0o600);
    }
    writeFileSync(join(plain, 'd/new'), '1');
    expect(await sync(server, 's3://b/p', there)).toMatchObject({ code: 0 });
    expect(filesOf(there)).toEqual({ 'd/new': '1', 'd/secret': 'new' });
    const rights = (cwd: string) => execFileSync('getfacl', ['-pE', 'd', 'd/new', 'd/secret'], { cwd }).toString();
    expect(rights(there)).toBe(rights(plain));
    // What is kept of it is as it was.
    const old = scratch();
    for (const how of [
      ['--conflict', 'keep-both'],
      ['--backup-dir', old],
    ]) {
      writeFileSync(join(there, 'd/secret'), `as it is before ${how[0]}`);
      expect(await sync(server, ...how, 's3://b/p', there)).toMatchObject({ code: 0 });
    }
    const kept = readdirSync(join(there, 'd')).filter((name) => name.includes('.conflict-'));
    for (const path of [...kept.map((name) => join(there, 'd', name)), join(old, 'd/secret')]) {
      expect([path, statSync(path).mode & 0o777]).toEqual([path, 0o600]);
    }
    expect(kept).toHaveLength(1);
  },
);

it('says that it takes directories where a file is named', async () => {
  const server = await s3({});
  const source = tree({ a: '1' });
  for (const [file, words, what] of [
    [join(source, 'a'), ['s3://b/p'], 'this is a file: name the directory that it is in'],
    [join(source, 'a'), ['--min-size', '0', scratch()], 'this is a file: name the directory that it is in'],
    [join(source, 'a/b'), ['s3://b/p'], 'Not a directory'],
  ] as const) {
    const { code, stderr } = await sync(server, file, ...words);
    expect([code, stderr]).toEqual([23, expect.stringContaining(what)]);
  }
  expect(server.keys).toEqual([]);
});

it('removes nothing where the destination shows what is in the source, whatever their servers are called', async () => {
  const server = await s3();
  for (const key of ['p/a', 'p/sub/a', 'p/sub/b']) server.put(key, '1');
  const there = server.keys;
  // The same server by another name: it is looked at before anything goes, and not in a dry run, which writes nothing.
  const other = ['--source-endpoint-url', `${server.endpoint}/`, '--compare', 'size'];
  for (const [from, to] of [
    ['s3://b/p/sub', 's3://b/p'],
    ['s3://b/p', 's3://b/p/sub'],
  ] as const) {
    const held = await sync(server, '--delete', ...other, from, to);
    const said = 'one place, or one is in the other, seen in another way, so nothing extra was removed';
    expect([held.code, held.stderr.includes(said)], held.stderr).toEqual([3, true]);
    expect(server.keys).toEqual(expect.arrayContaining(there));
    expect(server.keys.filter((key) => key.includes('probe'))).toEqual([]);
    for (const key of server.keys) if (!there.includes(key)) server.objects.delete(key);
  }
  // Two servers may have buckets of one name.
  const elsewhere = await s3();
  elsewhere.put('p/sub/a', '1');
  const args = [
    '--delete',
    '--source-endpoint-url',
    elsewhere.endpoint,
    '--compare',
    'size',
    's3://b/p/sub',
    's3://b/p',
  ];
  expect(await sync(server, ...args)).toMatchObject({ code: 0 });
  expect(server.keys).toEqual(['p/a']);
});

it.skipIf((await program('rclone', ['version']).catch(() => undefined))?.code !== 0)(
  'removes nothing of a directory that a remote shows too',
  async () => {
    const source = tree({ a: '1', 'sub/a': '1', 'sub/b': '2' });
    const env = { RCLONE_CONFIG: '/dev/null' };
    for (const [from, to] of [
      [join(source, 'sub'), `rclone::local:${source}`],
      [`rclone::local:${source}/sub`, source],
    ] as const) {
      const held = await run(['sync', '--delete', '--compare', 'size', from, to], { env });
      expect([held.code, held.stderr.includes('seen in another way')], held.stderr).toEqual([3, true]);
      expect(filesOf(source)).toMatchObject({ 'sub/a': '1', 'sub/b': '2' });
    }
  },
  60_000,
);

it('refuses a source that is in the destination, and the reverse, seen in another way', async () => {
  const places = { 'the one': [], 'in it': ['deep', 'er'] };
  for (const [where, below] of Object.entries(places)) {
    for (const files of [{ f: '1', 'd/g': '2' }, { 'only/in/here': '3' }]) {
      const whole = tree({ 'other/x': '4' });
      const real = join(whole, ...below);
      for (const [path, content] of Object.entries(files)) {
        mkdirSync(join(real, path, '..'), { recursive: true });
        writeFileSync(join(real, path), content);
      }
      const view = await faulty(real);
      if (!view) return;
      const before = filesOf(whole);
      for (const [from, to] of [
        [view, whole],
        [whole, view],
      ] as const) {
        const ran = await run(['sync', '--min-size', '0', '--delete', from, to]);
        expect([where, ran.code, filesOf(whole)], ran.stderr).toEqual([where, 3, before]);
        expect(ran.stderr).toContain('one is in the other, seen in another way');
      }
    }
  }
});

it.skipIf(process.getuid?.() !== 0)(
  'refuses a source that is mounted from the destination, in a dry run too',
  async () => {
    const whole = tree({ 'd/f': '1', 'other/x': '4' });
    const view = scratch();
    execFileSync('mount', ['--bind', join(whole, 'd'), view]);
    onTestFinished(() => void execFileSync('umount', [view]));
    for (const words of [['--dry-run'], []]) {
      for (const places of [
        [view, whole],
        [whole, view],
      ]) {
        const ran = await run(['sync', '--min-size', '0', '--delete', ...words, ...places]);
        expect([ran.code, filesOf(whole)], ran.stderr).toEqual([3, { 'd/f': '1', 'other/x': '4' }]);
      }
    }
  },
);
