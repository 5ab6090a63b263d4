/**
 * Syncs and retentions that are killed at each of their requests: nothing is lost, what is there is whole, and the same command
 * goes on. On a disk and back `sync.test.ts` does that.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, it } from 'vitest';
import { killedAt } from './rig/killed.js';
import { type Ask, type Fault, type S3, s3 } from './rig/s3.js';
import { EXHAUSTIVE } from './rig/spread.js';
import { run, scratch } from './rig.js';

const MIB = 1024 * 1024;
/** When the old contents were changed, and the new ones: seconds since 1970. */
const [BEFORE, AFTER] = [1_600_000_000, 1_700_000_000];
type Contents = Readonly<Record<string, string | Buffer>>;

/** What is at a place, but for what asks a server what it checks. */
type Place = () => Record<string, Buffer>;

const below =
  (server: S3, prefix: string): Place =>
  () =>
    Object.fromEntries(
      server.keys.flatMap((key) => {
        const [name, body] = [key.slice(prefix.length), server.objects.get(key)?.body];
        return key.startsWith(prefix) && body && !key.includes('.bulkhaul-probe-') ? [[name, body]] : [];
      }),
    );

const onDisk =
  (root: string): Place =>
  () =>
    Object.fromEntries(
      (existsSync(root) ? readdirSync(root, { recursive: true, withFileTypes: true }) : [])
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name))
        .sort()
        .map((path) => [path.slice(root.length + 1), readFileSync(path)]),
    );

/** Digests are told in place of large contents. */
const told = (contents: Contents) =>
  Object.entries(contents)
    .map(([name, content]) => `${name}=${content.length > 99 ? `${content.length}x${content.slice(0, 3)}` : content}`)
    .sort();

/** Same size and another content, something new, something extra, something that stays. */
const small = { old: { a: 'old', 'd/gone': 'extra', 'd/same': 's' }, now: { a: 'new', 'd/c': '2', 'd/same': 's' } };
const large = {
  old: { ...small.old, big: Buffer.alloc(6 * MIB, 'old') },
  now: { ...small.now, big: Buffer.alloc(11 * MIB, 'new') },
};

/** What is synced where, and what all of it is like before and after. */
interface Case {
  servers: S3[];
  args: string[];
  source: Place;
  destination: Place;
  backup: Place;
  /** Makes the source hold this; what is in `since`, and the same, has not changed. */
  fill: (contents: Contents, since?: Contents) => void;
  /** Makes a disk what it was before. */
  reset?: () => void;
}

/** Without what has no name yet: of that what is in a destination goes with the next run. */
const named = (files: ReturnType<Place>) =>
  Object.fromEntries(Object.entries(files).filter(([name]) => !/(^|\/)\.bh-/.test(name)));

const is = (content: Buffer | undefined, other: string | Buffer | undefined) =>
  other !== undefined && content?.equals(Buffer.from(other)) === true;

/** Kills it at request 1, and at each so many further on; each time from the same beginning. */
async function killed({ old, now }: { old: Contents; now: Contents }, step: number, made: Case): Promise<void> {
  const { servers, source, destination, backup, fill, reset } = made;
  const state = join(scratch(), 'state');
  const args = ['sync', '-j1', '--chunk-size', '5M', '--delete', '--state', state, ...made.args];
  const again = (...more: string[]) => run([...args, ...more], { env: servers[0]?.env });
  fill(old);
  const first = await again();
  expect([first.code, told(destination())], first.stderr).toEqual([0, told(old)]);
  fill(now, old);
  const before = servers.map(({ objects }) => new Map(objects));
  const remembered = readFileSync(state);
  const aside = Object.fromEntries(Object.entries(old).filter(([name]) => now[name] !== old[name]));
  for (let at = 1, ended = false; !ended; at += step) {
    for (const [index, { objects, uploads }] of servers.entries()) {
      objects.clear();
      uploads.clear();
      for (const [key, object] of before[index] ?? []) objects.set(key, object);
    }
    reset?.();
    writeFileSync(state, remembered);
    ({ ended } = await killedAt(at, servers, args));
    // Each is what it was or what it is to be, and of what is not there any more the old is kept.
    const [there, kept] = [named(destination()), named(backup())];
    const wrong = Object.keys(there).filter((name) => !is(there[name], old[name]) && !is(there[name], now[name]));
    const lost = Object.entries(aside).filter(([name, was]) => !is(there[name], was) && !is(kept[name], was));
    expect([at, wrong, told(Object.fromEntries(lost))]).toEqual([at, [], []]);
    const next = await again();
    expect([at, next.code, told(destination()), told(named(backup()))], next.stderr).toEqual([
      ...[at, 0, told(now), told(aside)],
    ]);
    expect(told(source())).toEqual(told(now));
    // An upload of which nobody has heard is no object, and goes when that is asked for.
    const begun = () => servers.flatMap(({ uploads }) => [...uploads.values()].map(({ key }) => key));
    if (begun().length > 0) expect((await again('--abort-stale', '0s')).code).toBe(0);
    const left = servers.flatMap(({ keys }) => keys.filter((key) => key.includes('.bulkhaul-')));
    expect([at, begun(), left]).toEqual([at, [], []]);
  }
}

/** When it was, in seconds since 1970. */
const changed = (name: string, contents: Contents, since: Contents = contents) =>
  contents[name] === since[name] ? BEFORE : AFTER;

/** Objects below a prefix, with their times as rclone and we keep them. */
const objects =
  (server: S3, prefix: string): Case['fill'] =>
  (contents, since) => {
    for (const key of server.keys.filter((key) => key.startsWith(prefix))) server.objects.delete(key);
    for (const [name, content] of Object.entries(contents))
      server.put(prefix + name, content, { 'x-amz-meta-mtime': `${changed(name, contents, since)}.000000000` });
  };

const files =
  (root: string): Case['fill'] =>
  (contents, since) => {
    rmSync(root, { recursive: true, force: true });
    for (const [name, content] of Object.entries(contents)) {
      mkdirSync(dirname(join(root, name)), { recursive: true });
      writeFileSync(join(root, name), content);
      const time = changed(name, contents, since);
      utimesSync(join(root, name), time, time);
    }
  };

it.each([
  ['by copies', [], small, 1],
  // What is to be proved is seen: all goes through this machine.
  ['through this machine', ['--verify', 'full'], small, EXHAUSTIVE ? 1 : 2],
  // What has come is no reason to keep it, where it comes again.
  ['whatever is there', ['--compare', 'always'], small, EXHAUSTIVE ? 1 : 3],
  ...(EXHAUSTIVE ? [['in parts', ['--verify', 'full'], large, 1] as const] : []),
] as const)('a sync within a server, %s', { timeout: 600_000 }, async (_, args, contents, step) => {
  const server = await s3({ page: 2 });
  await killed(contents, step, {
    servers: [server],
    args: [...args, '--backup-dir', 's3://b/kept', 's3://b/p', 's3://b/q'],
    ...{ source: below(server, 'p/'), destination: below(server, 'q/'), backup: below(server, 'kept/') },
    fill: objects(server, 'p/'),
  });
});

it('a sync from one server to another, in parts', { timeout: 900_000 }, async () => {
  // Of the second nothing is known but what it hashes, as of Ceph.
  const [there, from] = [await s3({ page: 2, checks: 'hash' }), await s3({ page: 2 })];
  await killed(large, EXHAUSTIVE ? 1 : 4, {
    servers: [there, from],
    args: ['--source-endpoint-url', from.endpoint, '--backup-dir', 's3://b/kept', 's3://b/p', 's3://b/q'],
    ...{ source: below(from, 'p/'), destination: below(there, 'q/'), backup: below(there, 'kept/') },
    fill: objects(from, 'p/'),
  });
});

it('a sync of a disk, with what is kept on another', { timeout: 600_000 }, async () => {
  const server = await s3({ page: 2 });
  const [source, kept] = [join(scratch(), 'source'), join(scratch(), 'kept')];
  await killed(EXHAUSTIVE ? large : small, 1, {
    servers: [server],
    args: ['--backup-dir', kept, source, 's3://b/q'],
    ...{ source: onDisk(source), destination: below(server, 'q/'), backup: onDisk(kept) },
    fill: files(source),
    reset: () => rmSync(kept, { recursive: true, force: true }),
  });
});

it('a sync down to a disk, with what is kept in a store', { timeout: 600_000 }, async () => {
  const server = await s3({ page: 2 });
  const there = join(scratch(), 'there');
  const contents = EXHAUSTIVE ? large : small;
  await killed(contents, 1, {
    servers: [server],
    args: ['--backup-dir', 's3://b/kept', 's3://b/p', there],
    ...{ source: below(server, 'p/'), destination: onDisk(there), backup: below(server, 'kept/') },
    fill: objects(server, 'p/'),
    reset: () => files(there)(contents.old),
  });
});

it.each(['many at once', 'one by one'])('a retention that removes %s', { timeout: 300_000 }, async (how) => {
  const keys = [1, 2, 9, 10, 11].flatMap((month) => ['a', 'b', 'c/d'].map((name) => `p/y=1/month=${month}/${name}`));
  const stay = [...keys.filter((key) => /=1[01]/.test(key)), 'p/_meta'].sort();
  const server = await s3({ page: 4 });
  const args = ['retain', '--key', 'month', '--keep', '2', '-j1', 's3://b/p'];
  const isMany = (ask: Ask) => ask.method === 'POST' && ask.query.has('delete');
  for (let at = 1, ended = false; !ended; at += 1) {
    server.objects.clear();
    for (const key of [...keys, 'p/_meta']) server.put(key, key);
    const plan = (ask: Ask): Fault | undefined =>
      how === 'one by one' && isMany(ask) ? { status: 501, code: 'NotImplemented' } : undefined;
    ({ ended } = await killedAt(at, [server], args, plan));
    expect([at, stay.filter((key) => !server.keys.includes(key))]).toEqual([at, []]);
    server.plan = plan;
    const next = await run(args, { env: server.env });
    expect([at, next.code, server.keys], next.stderr).toEqual([at, 0, stay]);
  }
});
