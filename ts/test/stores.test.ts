/** Places beside S3: hosts over ssh and whatever rclone reaches, through the real sshd, ssh and rclone. */
import type { ChildProcess } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { filesystem } from '../src/filesystem.js';
import { locate, urlOf } from '../src/stores/urls.js';
import { azurite, type Sums } from './rig/azurite.js';
import { ceph } from './rig/ceph.js';
import { KEY, SECRET, s3 } from './rig/s3.js';
import { sshd } from './rig/sshd.js';
import { versitygw } from './rig/versitygw.js';
import { faulty, program, run, scratch } from './rig.js';

const MIB = 1024 * 1024;
const version = await program('rclone', ['version']).catch(() => undefined);
if (version?.code !== 0) console.log('skip: rclone is not installed');

/** No configuration of whoever runs this. */
const RCLONE = { RCLONE_CONFIG: '/dev/null' };
const FILES = { a: '1', 'a!': '22', 'd/b': '333', 'd/e/f': '', 'ü +%&<>"\'': '5', '-x': '6', ' n ': '7', 'l\nf': '8' };

function put(root: string, files: Record<string, string | Buffer>): string {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), content);
    utimesSync(join(root, name), 1_600_000_000.5, 1_600_000_000.5);
  }
  return root;
}

function filesOf(root: string): Record<string, string> {
  const entries = readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = entries.map((entry) => join(entry.parentPath, entry.name)).sort();
  return Object.fromEntries(paths.map((path) => [path.slice(root.length + 1), readFileSync(path, 'utf8')]));
}

/**
 * An ssh that has the system's SFTP server behind it, and kills whoever started it when request `KILL_AT` that changes
 * something is done and not answered.
 */
function hostThatKills(): NodeJS.ProcessEnv | undefined {
  const server = ['/usr/lib/openssh/sftp-server', '/usr/libexec/openssh/sftp-server'].find(existsSync);
  if (server === undefined) {
    console.log('skip: there is no sftp-server');
    return undefined;
  }
  const bin = scratch();
  const changing = [3, 4, 6, 9, 10, 13, 14, 15, 18, 200];
  writeFileSync(
    join(bin, 'ssh'),
    `#!${process.execPath}
const server = require('node:child_process').spawn('${server}', [], { stdio: ['pipe', 'pipe', 'inherit'] });
let [left, held, over] = [Number(process.env.KILL_AT ?? Infinity), Buffer.alloc(0), false];
server.stdout.on('data', (chunk) => over || process.stdout.write(chunk));
server.on('close', () => {
  if (over) process.kill(process.ppid, 'SIGKILL');
  process.exit();
});
process.stdin.on('end', () => server.stdin.end());
process.stdin.on('data', (chunk) => {
  held = Buffer.concat([held, chunk]);
  while (!over && held.length >= 5 && held.length >= 4 + held.readUInt32BE()) {
    const packet = held.subarray(0, 4 + held.readUInt32BE());
    held = held.subarray(packet.length);
    if (${JSON.stringify(changing)}.includes(packet[4])) left -= 1;
    over = left === 0;
    server.stdin.write(packet);
    if (over) server.stdin.end();
  }
});
`,
    { mode: 0o755 },
  );
  return { PATH: `${bin}:${process.env.PATH}` };
}

type Env = NodeJS.ProcessEnv;

async function counts(env: Env, ...args: string[]): Promise<[code: number | null, counts: Record<string, number>]> {
  const { code, stdout, stderr } = await run(['sync', '--backoff', '0', '--json', ...args], { env });
  const last = stdout.trim().split('\n').at(-1) ?? '';
  if (last === '') throw new Error(stderr);
  const { outcomes } = JSON.parse(last) as { outcomes: Record<string, number> };
  return [code, Object.fromEntries(Object.entries(outcomes).filter(([, count]) => count > 0))];
}

/** What holds of any place that has directories. */
async function isPlace(
  env: Env,
  place: (path: string) => string,
  changed: number,
  files: Record<string, string>,
): Promise<void> {
  const source = put(scratch(), files);
  const copied = Object.keys(files).length;
  const there = join(scratch(), 'not/there');
  expect(await counts(env, source, place(there))).toMatchObject([0, { copied }]);
  expect(filesOf(there)).toEqual(files);
  expect(statSync(join(there, 'd/b')).mtimeMs).toBe(changed);
  expect((await counts(env, source, place(there)))[1].copied).toBeUndefined();
  // The same size, and another time.
  writeFileSync(join(source, 'a'), '9');
  expect((await counts(env, '--compare', 'mtime', source, place(there)))[1].copied).toBe(1);
  const back = join(scratch(), 'back');
  expect(await counts(env, '--verify', 'full', place(there), back)).toMatchObject([0, { copied }]);
  expect(filesOf(back)).toEqual({ ...files, a: '9' });
  expect((await counts(env, place(there), back))[1].copied).toBeUndefined();
  // From there to there; what is extra goes, with the directories that it was in, and what is excluded stays.
  const copy = put(join(there, '../copy'), { 'old/er/x': 'x', 'keep/y': 'y' });
  const mirror = ['--delete', '--exclude', '/keep', place(there), place(copy)];
  expect(await counts(env, '-n', ...mirror)).toMatchObject([0, { copied, removed: 3 }]);
  expect(await counts(env, ...mirror)).toMatchObject([0, { copied, removed: 3 }]);
  expect(filesOf(copy)).toEqual({ ...files, a: '9', 'keep/y': 'y' });
  expect(existsSync(join(copy, 'old'))).toBe(false);
  const listed = await run(['list', '-0', place(there)], { env });
  const names = listed.stdout.split('\0').filter((name) => name !== '' && !name.endsWith('/'));
  expect(names).toEqual(Object.keys(files).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))));
  // One in the other is refused, and a source that is not there wipes nothing.
  const nested = await run(['sync', place(there), place(join(there, 'd'))], { env });
  expect([nested.code, nested.stderr.includes('one is in the other')], nested.stderr).toEqual([3, true]);
  const missing = await run(['sync', '--delete', place(join(there, 'no')), back], { env });
  expect(missing.code, missing.stderr).toBe(23);
  expect(filesOf(back)).toEqual({ ...files, a: '9' });
}

describe.skipIf(version?.code !== 0)('what rclone reaches', () => {
  const place = (path: string) => `rclone::local:${path}`;

  it('is synced both ways, with times, and nothing is done twice', async () => {
    // Each entry is a run or three.
    const { a, 'd/b': b, ' n ': n, 'l\nf': l } = FILES;
    await isPlace(RCLONE, place, 1_600_000_000_500, { a, 'd/b': b, ' n ': n, 'l\nf': l });
  }, 120_000);

  it('is a bucket too, and the same to us and to it', async () => {
    const server = await s3({ checks: 'hash' });
    const env = remote(server.env);
    const source = put(scratch(), { a: '1', 'd/b': '2' });
    const up = await run(['sync', source, 'rclone:X:b/p'], { env });
    expect([up.code, server.contents], up.stderr).toEqual([0, { 'p/a': '1', 'p/d/b': '2' }]);
    // The times are those that we read.
    const again = await run(['sync', '-n', source, 's3://b/p'], { env });
    expect([again.code, again.stdout.includes('>f')], again.stderr).toEqual([0, false]);
    for (const text of [up.stdout, up.stderr]) expect(text.includes(SECRET)).toBe(false);
  }, 60_000);

  it('loses nothing where a listing or a run fails', async () => {
    const source = put(scratch(), { a: '1' });
    const there = put(scratch(), { x: 'stays' });
    const unknown = await run(['sync', '--delete', source, 'rclone:nowhere:x'], { env: RCLONE });
    expect([unknown.code, /rclone: .*config/.test(unknown.stderr)], unknown.stderr).toEqual([2, true]);
    const can = 'case "$*" in *features*) echo \'{"Precision":1,"Features":{"BucketBased":true}}\'; exit;; esac';
    // One that breaks off in its listing, and one that copies nothing and says that it has.
    for (const script of [
      'case "$*" in *lsjson*) echo "["; echo \'{"Path":"a","Size":1,"IsDir":false},\'; exit 1;; esac',
      'case "$*" in *--stat*) exit 3;; *lsjson*) echo "["; echo "]";; esac',
    ]) {
      const bin = scratch();
      writeFileSync(join(bin, 'rclone'), `#!/bin/sh\n${can}\n${script}\n`, { mode: 0o755 });
      const env = { ...RCLONE, PATH: `${bin}:${process.env.PATH}` };
      const places = script.includes('--stat') ? [source, 'rclone:x:y'] : ['rclone:x:y', there];
      const ran = await run(['sync', '--delete', ...places], { env });
      expect([ran.code === 0, filesOf(there)], ran.stderr).toEqual([false, { x: 'stays' }]);
    }
    writeFileSync(Buffer.concat([Buffer.from(`${source}/`), Buffer.from([0x66, 0xff])]), 'x');
    const named = await run(['sync', '--delete', source, place(there)], { env: RCLONE });
    expect([named.code, named.stderr.includes('rclone takes UTF-8')], named.stderr).toEqual([23, true]);
    expect(filesOf(there)).toEqual({ a: '1', x: 'stays' });
    // Down, too: rclone shows it as another name.
    const back = put(scratch(), { x: 'stays' });
    const down = await run(['sync', '--delete', place(source), back], { env: RCLONE });
    expect([down.code, down.stderr.includes('another name')], down.stderr).toEqual([23, true]);
    expect(filesOf(back)).toEqual({ a: '1', x: 'stays' });
  }, 60_000);

  it.each([
    ['nobody answers', 'case "$*" in *lsjson*) echo "["; exit 5;; esac', 2],
    ['the remote is not known', 'exit 1', 2],
    ['the remote says no', 'case "$*" in *lsjson*) echo "["; exit 1;; esac', 23],
    ['there is no such directory', 'case "$*" in *lsjson*) exit 3;; esac', 23],
  ])('a source that can not be listed: %s', async (_, script, code) => {
    const features = 'case "$*" in *features*) echo \'{"Precision":1,"Features":{"BucketBased":true}}\'; exit;; esac';
    const bin = scratch();
    const text = `#!/bin/sh\n${script === 'exit 1' ? '' : features}\n${script}\n`;
    writeFileSync(join(bin, 'rclone'), text, { mode: 0o755 });
    const env = { ...RCLONE, PATH: `${bin}:${process.env.PATH}` };
    const there = put(scratch(), { x: 'stays' });
    const ran = await run(['sync', '--delete', 'rclone:x:y', there], { env });
    expect([ran.code, filesOf(there)], ran.stderr).toEqual([code, { x: 'stays' }]);
  });

  it('is a file system', async () => {
    const root = scratch();
    const files = filesystem(place(root));
    await files.makedirs('d/e');
    files.open('d/a', 'w').end('0123');
    const local = join(put(scratch(), { x: 'y' }), 'x');
    await files.put(local, 'd/x');
    expect((await files.ls('d')).map(({ name, type }) => [name, type])).toContainEqual(['d/e', 'directory']);
    expect(String(await files.cat('d/x'))).toBe('y');
    await files.mv('d/x', 'd/e/y');
    await files.makedirs('empty');
    for (const name of ['empty', 'empty/'])
      expect(await files.info(name)).toMatchObject({ name: 'empty', type: 'directory' });
    for (const name of ['none/', 'd/a/']) expect([name, await files.exists(name)]).toEqual([name, false]);
    for (const to of ['d/e/y', 'd//e/y']) {
      await expect(files.mv('d/e/y', to)).rejects.toMatchObject({ code: 'USAGE' });
    }
    await expect(files.mv('d', 'd/e', { recursive: true })).rejects.toMatchObject({ code: 'USAGE' });
    expect(String(await files.cat('d/e/y'))).toBe('y');
    for (const name of ['d', 'empty']) await files.rm(name, { recursive: true });
    expect([readdirSync(root), await files.exists('d')]).toEqual([[], false]);
  }, 60_000);

  it('moves nothing onto itself that is seen in another way (rclone #3104)', async () => {
    const root = put(scratch(), { 'd/a': 'the only one', 'd/b': 'b', 'e/a': 'old' });
    symlinkSync('d', join(root, 'link'));
    const folding = put(scratch(), { 'd/a': 'the only one', 'd/b': 'b' });
    const folded = await faulty(folding, 'fold');
    const files = filesystem('file');
    const moves: [string, string, boolean][] = [
      [place(join(root, 'd/a')), place(join(root, 'link/a')), false],
      [join(root, 'd/a'), place(join(root, 'd/a')), false],
      [join(root, 'd'), place(join(root, 'd')), true],
    ];
    if (folded !== undefined) {
      moves.push([place(join(folded, 'd/a')), place(join(folded, 'd/A')), false]);
      moves.push([place(join(folded, 'd')), place(join(folded, 'D')), true]);
    }
    for (const [from, to, recursive] of moves) {
      await expect(files.mv(from, to, { recursive }), `${from} ${to}`).rejects.toMatchObject({
        code: 'USAGE',
        message: expect.stringContaining('itself, seen in another way'),
      });
      for (const at of [root, folding])
        expect([at, filesOf(join(at, 'd'))]).toEqual([at, { a: 'the only one', b: 'b' }]);
    }
    // What is another file is replaced, in one directory and in two.
    await files.mv(place(join(root, 'd/a')), place(join(root, 'd/b')));
    await files.mv(place(join(root, 'd/b')), place(join(root, 'e/a')));
    expect(filesOf(root)).toEqual({ 'e/a': 'the only one' });
  }, 240_000);
});

it('says that rclone is not there, and what is no place of its', async () => {
  const source = put(scratch(), { a: '1' });
  const none = await run(['sync', source, 'rclone:x:y'], { env: { PATH: scratch() } });
  expect([none.code, none.stderr.includes("rclone can't be run")], none.stderr).toEqual([2, true]);
  for (const [place, words] of [
    ['rclone:x', 'rclone:REMOTE:PATH'],
    ['rclone:-x:y', 'rclone:REMOTE:PATH'],
    ['rclone::s3,secret_access_key=hidden:b', "rclone's own configuration"],
  ] as const) {
    const wrong = await run(['sync', source, place]);
    expect([wrong.code, wrong.stderr.includes(words), wrong.stderr.includes('hidden')], wrong.stderr).toEqual([
      ...[2, true, false],
    ]);
  }
});

describe('a host over ssh', () => {
  const place = (path: string) => `sftp://there${path}`;

  it('is synced both ways, with whole seconds, and nothing is done twice', async () => {
    const env = await sshd();
    if (env) await isPlace(env, place, 1_600_000_000_000, FILES);
  }, 60_000);

  it('carries any bytes, large files and modes, and leads through no symlink', async () => {
    const env = await sshd();
    if (!env) return;
    const big = Buffer.alloc(17 * MIB + 5, 'sftp');
    const source = put(scratch(), { big, 'link/x': '1' });
    writeFileSync(Buffer.concat([Buffer.from(`${source}/`), Buffer.from([0x66, 0xff])]), 'bytes', { mode: 0o640 });
    const [there, elsewhere] = [scratch(), scratch()];
    symlinkSync(elsewhere, join(there, 'link'));
    const up = await run(['sync', '--perms', source, place(there)], { env });
    expect([up.code, up.stderr.includes('no directory has the name')], up.stderr).toEqual([23, true]);
    expect(readdirSync(elsewhere)).toEqual([]);
    expect(readFileSync(join(there, 'big')).equals(big)).toBe(true);
    const odd = Buffer.concat([Buffer.from(`${there}/`), Buffer.from([0x66, 0xff])]);
    expect([String(readFileSync(odd)), statSync(odd).mode & 0o777]).toEqual(['bytes', 0o640]);
    // A symlink is counted, and neither followed nor taken for what it leads to.
    const back = scratch();
    const down = await counts(env, place(there), back);
    expect(down).toMatchObject([0, { copied: 2, skipped: 1 }]);
    expect(readFileSync(join(back, 'big')).equals(big)).toBe(true);
    expect(readdirSync(back)).toHaveLength(2);
  }, 60_000);

  it('gives a new file what the host gives any, and one that it replaces the mode of that one', async () => {
    const env = await sshd();
    if (!env) return;
    const source = put(scratch(), { fresh: '1', secret: 'new' });
    const there = put(scratch(), { secret: 'older' });
    chmodSync(join(there, 'secret'), 0o600);
    expect(await counts(env, source, place(there))).toMatchObject([0, { copied: 2 }]);
    const mode = (path: string) => statSync(path).mode & 0o777;
    expect(filesOf(there)).toEqual({ fresh: '1', secret: 'new' });
    expect([mode(join(there, 'fresh')), mode(join(there, 'secret'))]).toEqual([mode(join(source, 'fresh')), 0o600]);
  }, 60_000);

  it('shows what it had or what it gets, whenever it is killed, and clears what is left', async () => {
    const env = await sshd();
    if (!env) return;
    const big = Buffer.alloc(24 * MIB, 'new');
    const source = put(scratch(), { big });
    const there = put(scratch(), { big: 'old' });
    let child: ChildProcess | undefined;
    const killed = run(['sync', '--chunk-size', '5M', '--memory', '5M', '--bwlimit', '6M', source, place(there)], {
      env,
      onStart: (started) => {
        child = started;
      },
    });
    // It is being written, under another name.
    while (!readdirSync(there).some((name) => name.startsWith('.bh-')) && child?.exitCode === null)
      await new Promise((resolve) => setTimeout(resolve, 5));
    child?.kill('SIGKILL');
    await killed;
    expect(filesOf(there).big).toBe('old');
    expect(readdirSync(there)).toHaveLength(2);
    expect(await counts(env, '--delete', source, place(there))).toMatchObject([0, { copied: 1 }]);
    expect([readdirSync(there), readFileSync(join(there, 'big')).equals(big)]).toEqual([['big'], true]);
  }, 60_000);

  it('is killed at each of its requests that change something, leaves nothing that looks whole and is not, and goes on', async () => {
    const env = hostThatKills();
    if (!env) return;
    const files = { a: '1', 'd/big': Buffer.alloc(300_000, 'k'), 'd/c': '2' };
    const source = put(scratch(), files);
    for (let at = 1, whole = false; !whole; at += 1) {
      const there = put(scratch(), { a: 'old', extra: 'x' });
      const args = ['sync', '-j1', '--delete', source, place(there)];
      whole = (await run(args, { env: { ...env, KILL_AT: String(at) } })).code === 0;
      // Nothing has a name that is not whole, and nothing goes before all is there.
      const shown = Object.entries(filesOf(there)).filter(([name]) => !/(^|\/)\.bh-/.test(name));
      const wrong = shown.filter(
        ([name, text]) => text !== String(files[name as keyof typeof files] ?? { a: 'old', extra: 'x' }[name]),
      );
      const old = shown.filter(([name, text]) => name === 'a' && text === 'old').map(([name]) => name);
      expect([at, wrong.map(([name]) => name).filter((name) => !old.includes(name))]).toEqual([at, []]);
      const again = await run(args, { env });
      expect([at, again.code], again.stderr).toEqual([at, 0]);
      expect(filesOf(there)).toEqual(filesOf(source));
    }
  }, 600_000);

  it('says why there is none', async () => {
    const env = await sshd();
    if (!env) return;
    const source = put(scratch(), { a: '1' });
    const nowhere = await run(['sync', source, 'sftp://nowhere/p'], { env });
    expect([nowhere.code, nowhere.stderr.includes('Connection refused')], nowhere.stderr).toEqual([2, true]);
    const bin = scratch();
    writeFileSync(join(bin, 'ssh'), '#!/bin/sh\necho Welcome to this host; exec cat\n', { mode: 0o755 });
    const noisy = await run(['sync', source, 'sftp://there/p'], { env: { PATH: `${bin}:${process.env.PATH}` } });
    expect([noisy.code, noisy.stderr.includes('no SFTP')], noisy.stderr).toEqual([2, true]);
    const wrong = join(source, 'a');
    const file = await run(['sync', source, place(`${wrong}/below`)], { env });
    expect(file.code, file.stderr).not.toBe(0);
  }, 60_000);
});

describe('Azure', () => {
  it('is synced both ways, with times, in blocks, and nothing is done twice', async () => {
    const server = await azurite();
    if (!server) return;
    const { env } = server;
    const { 'l\nf': _, ...files } = FILES;
    const source = put(scratch(), files);
    put(source, { big: Buffer.alloc(12 * MIB, 'blocks') });
    const copied = Object.keys(files).length + 1;
    expect(await counts(env, '--chunk-size', '5M', source, 'az://container/p')).toMatchObject([0, { copied }]);
    expect((await counts(env, source, 'az://container/p'))[1].copied).toBeUndefined();
    const back = join(scratch(), 'back');
    for (const proof of ['hash', 'full'])
      expect(await counts(env, '--verify', proof, 'az://container/p', join(back, proof))).toMatchObject([
        0,
        { copied },
      ]);
    expect(filesOf(join(back, 'full'))).toEqual(filesOf(source));
    expect(statSync(join(back, 'full/a')).mtimeMs).toBe(1_600_000_000_500);
    expect((await counts(env, 'az://container/p', join(back, 'full')))[1].copied).toBeUndefined();
    const mirror = put(scratch(), { other: '1', 'a//b': '2' });
    writeFileSync(join(mirror, 'dot.'), 'x');
    const odd = await run(['sync', '--delete', mirror, 'az://container/p'], { env });
    expect([odd.code, odd.stderr.includes('dots at the end')], odd.stderr).toEqual([23, true]);
    const { code } = await run(['sync', '--delete', put(scratch(), { other: '1' }), 'az://container/p'], { env });
    const listed = await run(['list', 'az://container/p'], { env });
    expect([code, listed.stdout]).toEqual([0, 'other\n']);
    const none = await run(['list', 'az://nothing/p'], { env });
    expect([none.code, none.stderr.includes('ContainerNotFound')], none.stderr).toEqual([23, true]);
    const wrong = await run(['list', 'az://container/p'], { env: { ...env, AZURE_STORAGE_KEY: 'AAAA' } });
    expect([wrong.code === 0, wrong.stderr.includes('AAAA')], wrong.stderr).toEqual([false, false]);
  }, 300_000);

  it('keeps what is said of objects, from S3 and back, and tells what it can not', async () => {
    const [server, other] = [await azurite(), await s3()];
    if (!server) return;
    const env = { ...server.env, ...other.env };
    const said = { 'content-type': 'x/y', 'cache-control': 'no-store', 'content-language': 'fi' };
    for (const [key, size] of [
      ['p/a.html', 3],
      ['p/big', 12 * MIB],
    ] as const) {
      other.put(key, Buffer.alloc(size, key), { ...said, 'x-amz-meta-owner': 'me', 'x-amz-meta-owner-of': 'it' });
    }
    const there = await run(['sync', '--chunk-size', '5M', 's3://b/p', 'az://container/said'], { env });
    expect(there.code, there.stderr).toBe(0);
    expect(there.stderr).toContain("(unsaid, 2x): not kept, because it can't be said there: metadata owner-of");
    expect((await run(['sync', '--chunk-size', '5M', 'az://container/said', 's3://b/q'], { env })).code).toBe(0);
    for (const name of ['a.html', 'big']) {
      const headers = other.objects.get(`q/${name}`)?.headers;
      expect(headers).toMatchObject({ ...said, 'x-amz-meta-owner': 'me' });
      expect(headers).not.toHaveProperty('x-amz-meta-owner-of');
    }
    const tier = await run(['sync', '--header', 'x-ms-access-tier: Cool', 's3://b/p', 'az://container/cool'], { env });
    expect(tier.code, tier.stderr).toBe(0);
    const refused = await run(['sync', '--header', 'Expires: 0', 's3://b/p', 'az://container/cool'], { env });
    expect([refused.code, refused.stderr.includes('headers: expires')], refused.stderr).toEqual([2, true]);
  }, 300_000);

  it.each<[Sums, string]>([
    ['checked', 'x-ms-content-crc64'],
    ['ignored', 'content-md5'],
    ['refused', 'content-md5'],
  ])(
    'finds a bit that flips on its way up, where a CRC-64 is %s',
    async (sums, header) => {
      const server = await azurite(sums);
      if (!server) return;
      const { env } = server;
      const source = put(scratch(), { small: '1', big: Buffer.alloc(12 * MIB, 'blocks') });
      // A block, and a blob in one request: each time.
      server.plan = ({ method, url }) =>
        method === 'PUT' && !url.includes('probe') && (url.endsWith('/small') || url.includes('comp=block&'))
          ? 'up'
          : undefined;
      const bad = await run(['sync', '--chunk-size', '5M', '--backoff', '0', source, 'az://container/p'], { env });
      expect([bad.code, (await run(['list', 'az://container/p'], { env })).code], bad.stderr).toEqual([23, 23]);
      server.plan = () => undefined;
      const good = await run(['sync', '--chunk-size', '5M', source, 'az://container/p'], { env });
      // It was checked on its way, so nothing is read back.
      expect([good.code, good.stderr.includes('checks nothing')], good.stderr).toEqual([0, false]);
      expect([...server.sums]).toEqual([header]);
      const back = scratch();
      expect((await run(['sync', 'az://container/p', back], { env })).code).toBe(0);
      expect(filesOf(back)).toEqual(filesOf(source));
    },
    300_000,
  );

  it('goes on with a large blob, from the blocks that the server has, and settles a lost answer', async () => {
    const server = await azurite('checked');
    if (!server) return;
    const { env } = server;
    const big = Buffer.alloc(27 * MIB, 'blocks');
    const [source, state] = [put(scratch(), { big }), scratch()];
    const args = ['sync', '-j1', '--chunk-size', '5M', '--memory', '5M', '--state-dir', state, '--backoff', '0'];
    const blocks = () => server.asked.filter((ask) => ask.includes('comp=block&')).length;
    let child: ChildProcess | undefined;
    server.plan = () => {
      if (blocks() === 4) child?.kill('SIGKILL');
      return undefined;
    };
    const onStart = (started: ChildProcess) => {
      child = started;
    };
    await run([...args, source, 'az://container/p'], { env, onStart });
    await server.idle();
    expect(blocks()).toBe(4);
    // The answer that all of it is there is lost, each time.
    server.plan = ({ method, url }) => (method === 'PUT' && url.includes('comp=blocklist') ? 'lost' : undefined);
    const done = await run([...args, source, 'az://container/p'], { env });
    expect([done.code, blocks(), done.stderr.includes('20.0 MiB')], done.stderr).toEqual([0, 6, true]);
    expect(readdirSync(join(state, 'uploads'))).toEqual([]);
    server.plan = () => undefined;
    const back = scratch();
    expect((await run(['sync', 'az://container/p', back], { env })).code).toBe(0);
    expect(readFileSync(join(back, 'big')).equals(big)).toBe(true);
    // Another content of the same length and time: none of its blocks are those.
    put(source, { big: Buffer.alloc(27 * MIB, 'others') });
    server.plan = () => {
      if (blocks() === 9) child?.kill('SIGKILL');
      return undefined;
    };
    await run([...args, source, 'az://container/q'], { env, onStart });
    await server.idle();
    server.plan = () => undefined;
    put(source, { big });
    const anew = await run([...args, source, 'az://container/q'], { env });
    expect([anew.code, blocks()], anew.stderr).toEqual([0, 9 + 6]);
    const files = filesystem('az://container/q', { environment: env });
    expect((await files.cat('big')).equals(big)).toBe(true);
  }, 300_000);

  it('is killed at each of its requests, leaves nothing that looks whole and is not, and goes on', async () => {
    const server = await azurite('checked');
    if (!server) return;
    const { env } = server;
    const files = { a: '1', big: Buffer.alloc(11 * MIB, 'k'), c: '2' };
    const [source, old] = [put(scratch(), files), put(scratch(), { a: 'old' })];
    const contents = async (place: string) => {
      const there = filesystem(place, { environment: env });
      const names = (await there.find()).map(({ name }) => name).filter((name) => !name.includes('.bulkhaul-probe-'));
      return Object.fromEntries(await Promise.all(names.map(async (name) => [name, await there.cat(name)] as const)));
    };
    for (let at = 1, whole = false; !whole; at += 1) {
      const place = `az://container/p${at}`;
      await filesystem(place, { environment: env }).put(join(old, 'a'), 'a');
      const args = ['sync', '-j1', '--chunk-size', '5M', source, place];
      let child: ChildProcess | undefined;
      const from = server.asked.length;
      server.plan = () => {
        if (server.asked.length - from === at) child?.kill('SIGKILL');
        return undefined;
      };
      const onStart = (started: ChildProcess) => {
        child = started;
      };
      whole = (await run(args, { env, onStart })).code === 0;
      await server.idle();
      server.plan = () => undefined;
      const wrong = Object.entries(await contents(place)).filter(
        ([name, content]) =>
          !content.equals(Buffer.from(files[name as keyof typeof files] ?? '')) &&
          !(name === 'a' && String(content) === 'old'),
      );
      expect([at, wrong.map(([name]) => name)]).toEqual([at, []]);
      const again = await run(args, { env });
      expect([at, again.code], again.stderr).toEqual([at, 0]);
      expect(Object.keys(await contents(place))).toEqual(['a', 'big', 'c']);
    }
  }, 600_000);

  it('takes no listing for whole that breaks off, and removes nothing by it', async () => {
    const server = await azurite();
    if (!server) return;
    const { env } = server;
    const source = put(scratch(), { a: '1', b: '2' });
    expect((await run(['sync', source, 'az://container/from'], { env })).code).toBe(0);
    const there = put(scratch(), { a: '1', old: '2' });
    for (const fault of ['cut', 'reset', 'lost'] as const) {
      server.plan = ({ url }) => (url.includes('comp=list&') ? fault : undefined);
      const bad = await run(['sync', '--delete', '--backoff', '0', 'az://container/from', there], { env });
      expect([fault, bad.code === 0, filesOf(there)], bad.stderr).toEqual([fault, false, { a: '1', old: '2' }]);
      // For a moment only, it does no harm.
      server.plan = ({ url, nth }) => (url.includes('comp=list&') && nth % 2 === 1 ? fault : undefined);
    }
    server.plan = () => undefined;
    const good = await run(['sync', '--delete', 'az://container/from', there], { env });
    expect([good.code, filesOf(there)], good.stderr).toEqual([0, { a: '1', b: '2' }]);
  }, 300_000);
});

const S5CMD = fileURLToPath(new URL('../../.setup/s5cmd/s5cmd/bin/s5cmd', import.meta.url));
const WITHOUT_JUDGES = version?.code !== 0 ? 'rclone' : existsSync(S5CMD) ? undefined : 's5cmd';
if (WITHOUT_JUDGES) console.log(`skip: other clients as judges: ${WITHOUT_JUDGES} is not installed`);

/** rclone's words for a server. */
const remote = (env: Env): Env => ({
  ...{ ...RCLONE, ...env, RCLONE_CONFIG_X_TYPE: 's3', RCLONE_CONFIG_X_PROVIDER: 'Other' },
  ...{ RCLONE_CONFIG_X_ENDPOINT: env.AWS_ENDPOINT_URL, RCLONE_CONFIG_X_FORCE_PATH_STYLE: 'true' },
  ...{ RCLONE_CONFIG_X_ACCESS_KEY_ID: KEY, RCLONE_CONFIG_X_SECRET_ACCESS_KEY: SECRET },
  ...{ RCLONE_CONFIG_X_LIST_VERSION: '2', RCLONE_CONFIG_X_NO_CHECK_BUCKET: 'true', AWS_CA_BUNDLE: undefined },
});

describe.skipIf(WITHOUT_JUDGES !== undefined)('what other clients see of ours, and we of theirs, on', () => {
  it.each([
    ['versitygw', async () => (await versitygw())?.env],
    ['Ceph', ceph],
  ] as [string, () => Promise<Env | undefined>][])(
    '%s',
    async (_, start) => {
      const env = await start();
      if (env === undefined) return;
      const theirs = { ...remote(env), S3_ENDPOINT_URL: env.AWS_ENDPOINT_URL, AWS_REGION: 'us-east-1' };
      const must = async (command: string, ...args: string[]): Promise<string> => {
        const { code, stdout, stderr } = await program(command, args, { env: theirs });
        expect([command, args, code], stderr).toEqual([command, args, 0]);
        return stdout;
      };
      const listed = async (prefix: string): Promise<Record<string, number>> => {
        const lines = (await must(S5CMD, '--json', 'ls', `s3://bucket/${prefix}/*`)).trim().split('\n');
        const rows = lines.map((line) => JSON.parse(line) as { key: string; size?: number });
        const start = `s3://bucket/${prefix}/`;
        return Object.fromEntries(rows.map(({ key, size }) => [key.replace(start, ''), size ?? 0]));
      };
      const { 'l\nf': _line, ...files } = FILES;
      const source = put(scratch(), { ...files, big: Buffer.alloc(12 * MIB, 'parts') });
      const sizes = Object.fromEntries(Object.entries(filesOf(source)).map(([name, { length }]) => [name, length]));
      sizes['ü +%&<>"\''] = 1;
      const copied = Object.keys(sizes).length;

      expect(await counts(env, '--chunk-size', '5M', source, 's3://bucket/p')).toMatchObject([0, { copied }]);
      expect(await listed('p')).toEqual(sizes);
      await must('rclone', 'check', '--download', source, 'X:bucket/p');
      // The times that it left are ours, so that it has nothing to do either.
      const idle = await program('rclone', ['sync', '-v', '--dry-run', source, 'X:bucket/p'], { env: theirs });
      expect([idle.code, idle.stderr.includes('Skipped')], idle.stderr).toEqual([0, false]);

      await must(S5CMD, 'cp', '--part-size', '5', `${source}/`, 's3://bucket/q/');
      await must('rclone', 'copy', '--s3-chunk-size', '5M', source, 'X:bucket/r');
      for (const prefix of ['q', 'r']) {
        const place = `s3://bucket/${prefix}`;
        const equal = await run(['compare', '--content', source, place], { env });
        expect([prefix, equal.code], equal.stdout + equal.stderr).toEqual([prefix, 0]);
        const back = join(scratch(), 'back');
        expect(await counts(env, '--verify', 'full', place, back)).toMatchObject([0, { copied }]);
        expect(filesOf(back)).toEqual(filesOf(source));
        // rclone keeps times, and s5cmd none.
        const kept = statSync(join(back, 'd/b')).mtimeMs === 1_600_000_000_500;
        expect([prefix, kept]).toEqual([prefix, prefix === 'r']);
        expect((await counts(env, place, back))[1].copied).toBeUndefined();
      }

      const { a: _a, ...fewer } = files;
      const mirror = put(scratch(), { ...fewer, 'd/b': 'another', 'new/x': '' });
      expect(await counts(env, '--delete', mirror, 's3://bucket/p')).toMatchObject([0, { copied: 2, removed: 2 }]);
      const { a: _gone, big: _big, ...left } = sizes;
      expect(await listed('p')).toEqual({ ...left, 'd/b': 7, 'new/x': 0 });
      await must('rclone', 'check', '--download', mirror, 'X:bucket/p');
    },
    300_000,
  );
});

/** Names that somebody lost or changed. */
const NAMES = [
  ...[' a', 'a ', 'a  b', '-rf', '~', '...', 'end.', '.hidden', 'a\nb', 'a\rb', 'a\tb', 'a\u0001b', 'back\\slash'],
  ...['%', '%2F', 'a%20b', 'a+b', 'a&b=c?d#e', '*?[x]', '"\'`$(x);|<>', ':', '@{u}', 'a,b', 'caf\u00e9', 'cafe\u0301'],
  ...['\u{1f600}', '\u202e', '\ufeff', '\ufffd', '\u240a', 'x'.repeat(255), 'CON', 'same', 'Same'],
];

describe('each server carries a name as it is, or it is an error that names it:', () => {
  it.each([
    // Its listings put U+FFFD for what XML can't carry: another name would come back.
    ['versitygw', async () => (await versitygw())?.env, () => 's3://bucket/p', () => true],
    ['Ceph', ceph, () => 's3://bucket/p', () => true],
    ['Azurite', async () => (await azurite())?.env, () => 'az://container/p', () => true],
    ['sshd', sshd, () => `sftp://there${scratch()}/p`, () => true],
    // Of what starts a program for each name, some.
    [
      'rclone',
      async () => (version?.code === 0 ? RCLONE : undefined),
      () => `rclone::local:${scratch()}/p`,
      (_, at) => at % 4 === 0,
    ],
  ] as [string, () => Promise<Env | undefined>, () => string, (name: string, at: number) => boolean][])(
    '%s',
    async (_, start, at, takes) => {
      const env = await start();
      if (env === undefined) return;
      const place = at();
      const names = NAMES.filter(takes);
      const source = put(scratch(), Object.fromEntries(names.map((name) => [`d/${name}`, name])));
      const up = await run(['sync', '--backoff', '0', '--json', source, place], { env });
      const lines = up.stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as { type: string; path: string });
      const failed = lines.filter(({ type }) => type === 'error').map(({ path }) => path);
      const back = join(scratch(), 'back');
      const down = await run(['sync', place, back], { env });
      expect(down.code, down.stderr).toBe(0);
      const [all, carried] = [filesOf(source), filesOf(back)];
      const lost = Object.keys(all).filter((key) => !(key in carried));
      expect(Object.fromEntries(Object.entries(all).filter(([key]) => key in carried))).toEqual(carried);
      expect([up.code, failed.length]).toEqual([lost.length > 0 ? 23 : 0, lost.length]);
      for (const key of lost) {
        expect([key, failed.some((path) => path.endsWith(`/${key}`))]).toEqual([key, true]);
      }
      // And all of it is there still, and nothing is done twice.
      expect((await counts(env, source, place))[1].copied).toBeUndefined();
    },
    120_000,
  );
});

it('finds the store in a URL, and puts them together again', () => {
  for (const [url, store, key] of [
    ['s3://b/k/l', 's3://b', 'k/l'],
    ['s3://b', 's3://b', ''],
    ['gs://b/', 'gs://b', ''],
    ['sftp://u@h:22/a/b', 'sftp://u@h:22/', 'a/b'],
    ['sftp://h/~/a', 'sftp://h/~', 'a'],
    ['rclone:x:b/p', 'rclone:x:', 'b/p'],
    ['rclone::local:/a/b', 'rclone::local:/', 'a/b'],
    ['rclone::s3,endpoint="http://h:1":b/p', 'rclone::s3,endpoint="http://h:1":', 'b/p'],
  ] as const) {
    expect(locate(url), url).toEqual({ store, key });
    expect(urlOf({ store, key }), url).toBe(url.replace(/(?<=^gs:\/\/b)\/$/, ''));
  }
  expect([locate('a/b'), locate('file:///a')]).toEqual([undefined, undefined]);
});
