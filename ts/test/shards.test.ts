/**
 * Shards in a store: `bulkhaul pack` to a URL and `unpack` from one. What comes back, what is asked for, and what is there
 * after faults and deaths. The server is the rig's own.
 */
import { type ChildProcess, execFileSync } from 'node:child_process';
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { pack, unpack } from '../src/index.js';
import { type S3, s3 } from './rig/s3.js';
import { sshd } from './rig/sshd.js';
import { has, isRoot, tarTree } from './rig/tree.js';
import { jsonLines, run, scratch } from './rig.js';

/** What differs, as rsync sees it. */
const differences = (left: string, right: string) =>
  execFileSync('rsync', [isRoot ? '-aniHAX' : '-aniHX', '--checksum', '--delete', `${left}/`, `${right}/`], {
    encoding: 'utf8',
  });

const shardsOf = (server: S3) => server.keys.filter((key) => /\/shard-\d+\.tar/.test(key));
const probe = (key: string) => key.includes('.bulkhaul-probe-');

it.each([[[]], [['--compress', 'zstd']], [['--compress', 'bgzf']]])('come back with %j', async (more) => {
  const server = await s3();
  const { cwd, at } = tarTree();
  const settings = { cwd, env: server.env };
  const packed = await run(['pack', '--shard-size', '64k', ...more, 't/', 's3://b/p'], settings);
  expect(packed).toMatchObject({ code: 0 });
  expect(shardsOf(server).length).toBeGreaterThan(1);
  expect(server.keys.filter(probe)).toEqual([]);
  const verified = await run(['unpack', '--verify', 's3://b/p'], settings);
  expect(verified).toMatchObject({ code: 0, stderr: expect.stringContaining('as they were packed') });
  const { code, stderr } = await run(['unpack', 's3://b/p', 'back'], settings);
  expect({ code, stderr }).toMatchObject({ code: 0 });
  if (has('rsync')) expect(differences(at('t'), at('back'))).toBe('');
  // The same bytes as in a directory, and one can be the other.
  expect((await run(['pack', '--shard-size', '64k', ...more, 't/', 'out'], settings)).code).toBe(0);
  expect(server.keys).toEqual(
    readdirSync(at('out'))
      .map((name) => `p/${name}`)
      .sort(),
  );
  for (const name of readdirSync(at('out'))) {
    expect(server.objects.get(`p/${name}`)?.body.equals(readFileSync(at('out', name)))).toBe(true);
  }
});

it.each([[[]], [['--compress', 'zstd']]])(
  'of single entries only their own bytes are asked for, with %j',
  async (more) => {
    const server = await s3();
    const root = scratch();
    const at = (...names: string[]) => join(root, ...names);
    mkdirSync(at('t/d'), { recursive: true });
    const noise = (name: string, seed: number) => {
      const bytes = Buffer.alloc(3_000_000);
      for (let index = 0, value = seed; index < bytes.length; index += 1) {
        value = (value * 1_103_515_245 + 12_345) % 2_147_483_648;
        bytes[index] = value >> 16;
      }
      writeFileSync(at('t', name), bytes);
    };
    for (const [seed, name] of ['a', 'b', 'd/c', 'e', 'f'].entries()) noise(name, seed + 1);
    writeFileSync(at('t/d/small'), 'small');
    const settings = { cwd: root, env: server.env };
    expect((await run(['pack', ...more, 't/', 's3://b/p'], settings)).code).toBe(0);
    server.ranges.length = 0;
    expect((await run(['unpack', 's3://b/p', 'd/small', 'one'], settings)).code).toBe(0);
    expect(readFileSync(at('one/d/small'), 'utf8')).toBe('small');
    const asked = server.ranges.filter(({ key }) => key.includes('.tar'));
    expect(asked.reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThan(1_000_000);
    server.ranges.length = 0;
    expect((await run(['unpack', 's3://b/p', 'd/c', 'two'], settings)).code).toBe(0);
    expect(readFileSync(at('two/d/c')).equals(readFileSync(at('t/d/c')))).toBe(true);
    const large = server.ranges.filter(({ key }) => key.includes('.tar'));
    expect(large.reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThan(5_000_000);
  },
);

it('a later state makes further shards, and writes nothing over', async () => {
  const server = await s3();
  const { cwd, at } = tarTree();
  const settings = { cwd, env: server.env };
  expect((await run(['pack', 't/', 's3://b/p/'], settings)).code).toBe(0);
  const before = [...server.objects].map(([key, { etag, written }]) => [key, etag, written] as const);
  appendFileSync(at('t/zz'), ' more');
  expect((await run(['pack', 't/', 's3://b/p/'], settings)).code).toBe(0);
  expect(shardsOf(server)).toEqual(['p/shard-00001.tar', 'p/shard-00002.tar']);
  for (const [key, etag, written] of before) expect(server.objects.get(key)).toMatchObject({ etag, written });
  const keys = server.keys;
  const { code, stdout } = await run(['pack', '--json', '-v', 't/', 's3://b/p/'], settings);
  expect(code).toBe(0);
  expect(server.keys).toEqual(keys);
  const entry = jsonLines(stdout).find((line) => line.type === 'entry' && line.path === 'zz');
  expect(entry).toMatchObject({ outcome: 'skipped', reason: 'unchanged', source: 't/zz' });
  expect((await run(['unpack', 's3://b/p', 'back'], settings)).code).toBe(0);
  expect(readFileSync(at('back/d/e/link'), 'utf8')).toBe('first of three more');
});

it('a tar of others in a store, with and without compression', async () => {
  const server = await s3();
  const { cwd, at } = tarTree();
  for (const [name, flags] of [
    ['their.tar', '-cf'],
    ['their.tar.gz', '-czf'],
  ] as const) {
    execFileSync('tar', ['--format=posix', '--sparse', flags, at(name), '-C', at('t'), '.']);
    server.put(`x/${name}`, readFileSync(at(name)));
    const back = `back-${name}`;
    const { code, stderr } = await run(['unpack', `s3://b/x/${name}`, back], { cwd, env: server.env });
    expect({ code, stderr }).toMatchObject({ code: 0 });
    execFileSync('diff', ['-r', '--no-dereference', '--exclude=fifo', '--exclude=device', at('t'), at(back)]);
    expect(statSync(at(back, 'holes')).blocks).toBeLessThan(1000);
  }
  for (const what of ['s3://b/x/none.tar', 's3://b/nothing']) {
    const done = await run(['unpack', what, 'nowhere'], { cwd, env: server.env });
    expect(done).toMatchObject({ code: 23, stderr: expect.stringContaining('nothing is there') });
    expect(existsSync(at('nowhere'))).toBe(false);
  }
});

it.each([
  ['over ssh', 'sftp://there'],
  ['through rclone', 'rclone::local:'],
])(
  'come and go %s',
  async (_, root) => {
    const env = root.startsWith('rclone:') ? has('rclone') && { RCLONE_CONFIG: '/dev/null' } : await sshd();
    if (!env) return;
    const { cwd, at } = tarTree();
    const place = `${root}${at('there')}`;
    const packed = await run(['pack', '--shard-size', '1m', '--compress', 'zstd', 't/', place], { cwd, env });
    expect(packed).toMatchObject({ code: 0 });
    expect((await run(['unpack', '--verify', place], { cwd, env })).code).toBe(0);
    expect((await run(['unpack', place, 'd/big', 'one'], { cwd, env })).code).toBe(0);
    expect(readFileSync(at('one/d/big')).equals(readFileSync(at('t/d/big')))).toBe(true);
  },
  120_000,
);

it('what a server makes of a shard is read back where it checks nothing, and is not left there', async () => {
  const server = await s3({ checks: 'nothing' });
  const { cwd } = tarTree();
  server.plan = ({ method, key }) => (method === 'PUT' && key === 'p/shard-00001.tar' ? 'up' : undefined);
  const { code, stderr } = await run(['pack', 't/', 's3://b/p'], { cwd, env: server.env });
  expect({ code, stderr }).toMatchObject({ code: 1, stderr: expect.stringContaining('is not what was sent') });
  expect(server.keys.filter((key) => !probe(key))).toEqual([]);
});

it('a shard that the server does not take costs its own entries, and the next run has them', async () => {
  const server = await s3();
  const { cwd, at } = tarTree();
  const settings = { cwd, env: server.env };
  server.plan = ({ method, key }) =>
    method === 'PUT' && key === 'p/shard-00001.tar' ? { status: 403, code: 'AccessDenied' } : undefined;
  const refused = await run(['pack', '--shard-size', '64k', 't/', 's3://b/p'], settings);
  expect(refused).toMatchObject({ code: 23, stderr: expect.stringContaining('shard-00001.tar') });
  expect(server.keys).not.toContain('p/shard-00001.jsonl');
  server.plan = () => undefined;
  expect((await run(['pack', '--shard-size', '64k', 't/', 's3://b/p'], settings)).code).toBe(0);
  expect((await run(['unpack', 's3://b/p', 'back'], settings)).code).toBe(0);
  if (has('rsync')) expect(differences(at('t'), at('back'))).toBe('');
});

it('is killed at each of its requests, leaves nothing that looks whole and is not, and goes on', async () => {
  const root = scratch();
  mkdirSync(join(root, 't'));
  for (const name of ['a', 'b']) writeFileSync(join(root, 't', name), name.repeat(3000));
  const words = ['pack', '--no-journal', '--shard-size', '4k', 't/', 's3://b/p'];
  for (let at = 1, whole = false; !whole; at += 1) {
    const server = await s3();
    let child: ChildProcess | undefined;
    server.plan = () => {
      if (server.asked.length === at) child?.kill('SIGKILL');
      return undefined;
    };
    const onStart = (started: ChildProcess) => {
      child = started;
    };
    const settings = { cwd: root, env: server.env };
    whole = (await run(words, { ...settings, onStart })).code === 0;
    server.plan = () => undefined;
    expect([at, (await run(words, settings)).code]).toEqual([at, 0]);
    const back = `back-${at}`;
    expect([at, (await run(['unpack', 's3://b/p', back], settings)).code]).toEqual([at, 0]);
    for (const name of ['a', 'b']) expect(readFileSync(join(root, back, name), 'utf8')).toBe(name.repeat(3000));
  }
}, 120_000);

it('unpacking from there is killed at each of its requests, shows no part of a file, and goes on', async () => {
  const server = await s3();
  const root = scratch();
  const names = ['a', 'b'];
  mkdirSync(join(root, 't'));
  for (const name of names) writeFileSync(join(root, 't', name), name.repeat(3000));
  const settings = { cwd: root, env: server.env };
  expect((await run(['pack', '--shard-size', '4k', 't/', 's3://b/p'], settings)).code).toBe(0);
  for (let at = 1, whole = false; !whole; at += 1) {
    const [back, before] = [join(root, `back-${at}`), server.asked.length];
    const words = ['unpack', '--no-journal', 's3://b/p', back];
    let child: ChildProcess | undefined;
    server.plan = () => {
      if (server.asked.length === before + at) child?.kill('SIGKILL');
      return undefined;
    };
    const onStart = (started: ChildProcess) => {
      child = started;
    };
    whole = (await run(words, { ...settings, onStart })).code === 0;
    server.plan = () => undefined;
    for (const name of names.filter((name) => existsSync(join(back, name)))) {
      expect([at, readFileSync(join(back, name), 'utf8')]).toEqual([at, name.repeat(3000)]);
    }
    expect([at, (await run(words, settings)).code]).toEqual([at, 0]);
    expect([at, readdirSync(back).sort()]).toEqual([at, names]);
    for (const name of names) expect(readFileSync(join(back, name), 'utf8')).toBe(name.repeat(3000));
  }
}, 120_000);

it('is a job that resume goes on with from elsewhere, and the library takes URLs', async () => {
  const server = await s3();
  const { cwd, at } = tarTree();
  const state = scratch();
  server.plan = ({ method, key }) =>
    method === 'PUT' && key === 'p/shard-00001.tar' ? { status: 403, code: 'AccessDenied' } : undefined;
  expect((await run(['pack', '--state-dir', state, 't/', 's3://b/p'], { cwd, env: server.env })).code).toBe(23);
  const [job] = readdirSync(join(state, 'jobs'));
  server.plan = () => undefined;
  const resumed = await run(['resume', String(job), '--state-dir', state], { cwd: scratch(), env: server.env });
  expect(resumed).toMatchObject({ code: 0 });
  const asked = { environment: server.env };
  await unpack({ ...asked, source: 's3://b/p', destination: at('back'), only: ['d/big'] }).orThrow();
  expect(readdirSync(at('back'))).toEqual(['d']);
  await pack({ ...asked, sources: at('t'), destination: 's3://b/q' }).orThrow();
  expect(await unpack({ ...asked, source: 's3://b/q', task: 'verify' })).toMatchObject({ complete: true });
});

it('a job in a directory is the same from elsewhere', async () => {
  const { cwd, at } = tarTree();
  const [state, elsewhere] = [scratch(), scratch()];
  expect((await run(['pack', '--state-dir', state, 't', 'late', 'out'], { cwd })).code).toBe(23);
  const [job = 'none'] = readdirSync(join(state, 'jobs'));
  writeFileSync(at('late'), 'here');
  const resumed = await run(['resume', job, '--state-dir', state], { cwd: elsewhere });
  expect(resumed).toMatchObject({ code: 0 });
  expect(readdirSync(elsewhere)).toEqual([]);
  expect((await run(['unpack', 'out', 'late', 'back'], { cwd })).code).toBe(0);
  expect(readFileSync(at('back/late'), 'utf8')).toBe('here');
});

it.each([
  [['pack', 't/', 'ftp://b/p'], 'nothing is known of ftp://'],
  [['pack', 's3://b/p', 'out'], 's3://b/p'],
  [['unpack', 's3://b/p', 's3://b/q'], 's3://b/q'],
  [['pack', 't/', 'host:out'], 'host:out'],
])('%j is refused before any work', async (words, what) => {
  const { cwd } = tarTree();
  const { code, stderr } = await run(words, { cwd, env: { AWS_ACCESS_KEY_ID: 'k', AWS_SECRET_ACCESS_KEY: 's' } });
  expect({ code, stderr }).toMatchObject({ code: 2, stderr: expect.stringContaining(what) });
});
