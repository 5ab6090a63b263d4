/** Manifests of what is at a URL, and their verification: with coreutils, b3sum and rclone as judges, and what goes wrong. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { filesystem, jobs, manifest, type VerifyOptions, verify } from '../src/index.js';
import { azurite } from './rig/azurite.js';
import { SECRET, s3 } from './rig/s3.js';
import { sshd } from './rig/sshd.js';
import { run, scratch } from './rig.js';

const MIB = 1024 * 1024;
const FILES = { a: '1', 'a!': '22', 'd/b': '333', 'd/e/f': '', 'ü +%&<>"\'': '5', '-x': '6', ' n ': '7', 'l\nf': '8' };

function put(root: string, files: Record<string, string | Buffer>): string {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), content);
    utimesSync(join(root, name), 1_600_000_000.5, 1_600_000_000.5);
  }
  return root;
}

/** Nothing is tried again. */
const ONCE = { requests: { retries: 0 } };

/** What a verification finds wrong, by kind and name below `p/`, with its exit code. */
async function wrong(
  environment: NodeJS.ProcessEnv,
  directory: string,
  manifests: string,
  more: Partial<VerifyOptions> = {},
): Promise<[number, string[]]> {
  const report = await verify({ manifests, directory, environment, ...ONCE, ...more });
  return [report.exitCode, report.failures.map(({ kind, path }) => `${kind} ${path.replace(/^.*\/p\//, '')}`)];
}

describe('a bucket', () => {
  it('has the manifest that the tree has that was sent there, in each form, and is verified by either', async () => {
    const server = await s3();
    const { env } = server;
    const tree = put(scratch(), { ...FILES, big: Buffer.alloc(17 * MIB + 1, 'ranged') });
    expect((await run(['sync', tree, 's3://b/p'], { env })).code).toBe(0);
    const lists = scratch();
    for (const form of [
      ['--format', 'sums'],
      ['--algorithm', 'sha256', '-0'],
      ['--format', 'hashdeep', '--exclude', 'l*'],
    ]) {
      const here = await run(['manifest', ...form, `${tree}/`]);
      const there = await run(['manifest', ...form, 's3://b/p'], { env });
      expect([there.code, there.stdout], there.stderr).toEqual([0, here.stdout]);
    }
    // The judge reads what is in the tree, by the manifest of the bucket.
    const sums = join(lists, 'sums');
    const made = await run(['manifest', '--algorithm', 'sha256', '-o', sums, 's3://b/p/'], { env });
    expect([made.code, made.stdout], made.stderr).toEqual([0, '']);
    execFileSync('sha256sum', ['--strict', '--quiet', '-c', sums], { cwd: tree });
    expect(await wrong(env, 's3://b/p', sums)).toEqual([0, []]);
    // All that is known, which has the tree in it: directories there are those that files are in.
    const known = join(lists, 'known');
    await manifest({ sources: 's3://b/p', format: 'jsonl', output: known, environment: env }).orThrow();
    const lines = readFileSync(known, 'utf8').trim().split('\n').slice(1);
    const first = lines.map((line) => JSON.parse(line)).find(({ path }) => path === 'd/b');
    expect(first).toMatchObject({ kind: 'file', size: 3, mtimeNs: '1600000000500000000' });
    expect(Object.keys(first)).not.toContain('ctimeNs');
    expect(await wrong({}, tree, known)).toEqual([0, []]);
    mkdirSync(join(tree, 'empty'));
    expect(await wrong({}, tree, known)).toEqual([1, [`extra ${join(tree, 'empty')}`]]);
    // And the other way: a store has no directories that could be missing.
    const whole = join(lists, 'whole');
    await manifest({ sources: `${tree}/`, format: 'jsonl', output: whole }).orThrow();
    const report = await verify({ manifests: whole, directory: 's3://b/p', environment: env });
    expect([report.complete, report.outcomes.skipped, report.outcomes.same]).toEqual([true, 3, 9]);
    for (const text of [made.stderr, readFileSync(known, 'utf8')]) expect(text.includes(SECRET)).toBe(false);
  }, 60_000);

  it('is seen to miss, to have more and to have other contents, and what it says itself of them is not believed', async () => {
    const server = await s3();
    const { env } = server;
    const tree = put(scratch(), { ...FILES, long: Buffer.alloc(9 * MIB, 'x'), whole: 'as it was' });
    const sums = join(scratch(), 'sums');
    await manifest({ sources: `${tree}/`, output: sums }).orThrow();
    expect((await run(['sync', tree, 's3://b/p'], { env })).code).toBe(0);
    server.objects.delete('p/a!');
    server.put('p/more/x', 'x');
    server.put('p/d/b', '33', server.objects.get('p/d/b')?.headers);
    // The same length, the same tag, the same metadata: only the bytes are others.
    for (const key of ['p/whole', 'p/long']) {
      const stored = server.objects.get(key);
      if (stored) stored.body = Buffer.from(stored.body).fill('y', 3, 4);
    }
    const all = ['missing a!', 'mismatch d/b', 'mismatch long', 'extra more/x', 'mismatch whole'];
    expect(await wrong(env, 's3://b/p', sums)).toEqual([1, all]);
    expect(await wrong(env, 's3://b/p', sums, { quick: true, extra: false })).toEqual([1, ['missing a!']]);
    expect(await wrong(env, 's3://b/p', sums, { exclude: ['/more', 'long'] })).toEqual([
      ...[1, ['missing a!', 'mismatch d/b', 'mismatch whole']],
    ]);
    // A bit that flips on its way is content that is not as it should be, and an object that can't be read is no mismatch.
    server.plan = ({ method, key }) => {
      if (method !== 'GET') return undefined;
      if (key === 'p/a') return 'down';
      return key === 'p/d/e/f' ? { status: 403, code: 'AccessDenied' } : undefined;
    };
    const [code, lines] = await wrong(env, 's3://b/p', sums, { exclude: ['/more'] });
    expect([code, lines.includes('mismatch a'), lines.some((line) => line.endsWith(' d/e/f'))]).toEqual([
      1,
      true,
      true,
    ]);
    const listed = await run(['manifest', 's3://b/p'], { env });
    expect([listed.code, listed.stdout.includes('d/e/f'), listed.stderr.includes('d/e/f')]).toEqual([23, false, true]);
  }, 60_000);

  it('takes no part of a listing for all of it, and no name for another', async () => {
    const server = await s3({ page: 2 });
    const { env } = server;
    for (const key of ['p/a', 'p/b', 'p/c', 'p/d']) server.put(key, key);
    const sums = join(scratch(), 'sums');
    expect((await run(['manifest', '-o', sums, 's3://b/p'], { env })).code).toBe(0);
    // What was not told is not missing, and nothing is said to be well.
    server.plan = ({ key, query }) => (key === '' && query.has('continuation-token') ? 'cut' : undefined);
    const [code, lines] = await wrong(env, 's3://b/p', sums);
    expect([code, lines.some((line) => line.startsWith('missing'))]).toEqual([23, false]);
    server.plan = () => undefined;
    for (const key of ['p/x//y', 'p/../z', 'p/./w', 'p//lead']) server.put(key, 'odd');
    server.put('p/mark/', '');
    const odd = await run(['manifest', 's3://b/p'], { env });
    expect([odd.code, odd.stdout], odd.stderr).toEqual([23, readFileSync(sums, 'utf8')]);
    for (const key of ['p/x//y', 'p/../z', 'p/./w', 'p//lead']) expect(odd.stderr).toContain(key);
    const [verified, extra] = await wrong(env, 's3://b/p', sums);
    expect([verified, extra.length]).toEqual([23, 4]);
  }, 60_000);

  it('is a job, which goes on from anywhere, and whose journal has no key', async () => {
    const server = await s3();
    const { env } = server;
    for (const key of ['p/a', 'p/b']) server.put(key, key);
    server.plan = ({ method, key }) => (method === 'GET' && key === 'p/a' ? { status: 403, code: 'No' } : undefined);
    const cwd = scratch();
    const state = join(cwd, 'state');
    const args = ['manifest', '--state-dir', state, '-o', 'sums', 's3://b/p'];
    expect((await run(args, { cwd, env })).code).toBe(23);
    const [job] = await jobs(state);
    expect(job).toMatchObject({ operation: 'manifest', state: 'failed', sources: ['s3://b/p'] });
    expect(readFileSync(job?.path ?? '', 'utf8')).not.toContain(SECRET);
    server.plan = () => undefined;
    expect((await run(['resume', '--retry-failed', '--state-dir', state], { env })).code).toBe(0);
    expect(readFileSync(join(cwd, 'sums'), 'utf8')).toMatch(/a\n.*b\n/);
    const checked = ['verify', '--journal', '--state-dir', state, '--in', 's3://b/p', 'sums'];
    const { code, stderr } = await run(checked, { cwd, env });
    const found = (await jobs(state)).map(({ operation, state }) => ({ operation, state }));
    expect({ code, stderr, found }).toEqual({
      ...{ code: 0, stderr },
      found: expect.arrayContaining([
        { operation: 'manifest', state: 'done' },
        { operation: 'verify', state: 'done' },
      ]),
    });
  }, 60_000);

  it('has less memory than it has bytes, and one writer', async () => {
    const server = await s3();
    const { env } = server;
    server.put('p/big', Buffer.alloc(40 * MIB, 'bounded'));
    server.put('p/small', 'x');
    const output = join(scratch(), 'sums');
    const bounded = {
      sources: 's3://b/p',
      output,
      environment: env,
      requests: { memory: 5 * MIB, chunkSize: 5 * MIB },
    };
    const here = execFileSync('b3sum', ['--no-names'], { input: Buffer.alloc(40 * MIB, 'bounded') });
    await manifest(bounded).orThrow();
    expect(readFileSync(output, 'utf8').slice(0, 64)).toBe(String(here).trim());
    expect(server.ranges.every(({ bytes }) => bytes <= 5 * MIB)).toBe(true);
    // An object that somebody writes meanwhile has no digest.
    let changed = false;
    server.plan = ({ method, key }) => {
      if (method === 'GET' && key === 'p/big' && !changed) {
        changed = true;
        server.put('p/big', Buffer.alloc(40 * MIB, 'another'));
      }
      return undefined;
    };
    const torn = await manifest(bounded);
    expect([torn.exitCode, readFileSync(output, 'utf8').split('\n').length]).toEqual([24, 2]);
  }, 60_000);
});

it('is the same over ssh, through rclone and on Azure', async () => {
  const tree = put(scratch(), { a: '1', 'd/b': '22', ' n ': '3' });
  const sums = join(scratch(), 'sums');
  await manifest({ sources: `${tree}/`, output: sums }).orThrow();
  const places: [string, NodeJS.ProcessEnv | undefined][] = [
    [`sftp://there${tree}`, await sshd()],
    [`rclone::local:${tree}`, { RCLONE_CONFIG: '/dev/null' }],
    ['az://container/p', (await azurite())?.env],
  ];
  for (const [place, env] of places) {
    if (env === undefined) continue;
    if (place.startsWith('az:')) expect((await run(['sync', tree, place], { env })).code).toBe(0);
    const made = await run(['manifest', place], { env });
    expect([made.code, made.stdout], made.stderr).toEqual([0, readFileSync(sums, 'utf8')]);
    const verified = await run(['verify', '--in', place, sums], { env });
    expect(verified.code, verified.stderr).toBe(0);
  }
}, 120_000);

it.each(['s3:', 'sftp:', 'rclone:', 'az:'])(
  'lists, reads, verifies and compares one file that is named at %s',
  async (at) => {
    const tree = put(scratch(), { 'd/a': '12', 'd/b': '34', 'd/alone/alone': '5' });
    const places: Record<string, () => Promise<[string, NodeJS.ProcessEnv | undefined]>> = {
      's3:': async () => ['s3://b/p', (await s3()).env],
      'sftp:': async () => [`sftp://there${tree}`, await sshd()],
      'rclone:': async () => [`rclone::local:${tree}`, { RCLONE_CONFIG: '/dev/null' }],
      'az:': async () => ['az://container/p', (await azurite())?.env],
    };
    const [place, env] = (await places[at]?.()) ?? expect.fail(at);
    if (env === undefined) return;
    if (/^(?:az|s3):/.test(place)) expect((await run(['sync', tree, place], { env })).code).toBe(0);
    const [sums, file, other] = [join(scratch(), 'sums'), `${place}/d/a`, join(tree, 'd/b')];
    for (const [args, code, words] of [
      [['list', file], 0, /^a$/m],
      [['list', `${place}/d/alone`], 0, /^alone$/m],
      [['manifest', '-o', sums, file], 0, /^complete: 1 entry/m],
      [['verify', '--in', file, sums], 0, /^verified: 1 file/m],
      [['compare', '--content', file, join(tree, 'd/a')], 0, /^the same/m],
      // Two that have other names are one pair, as two files of this machine are.
      [['compare', '--metadata', '--content', other, file], 1, /0 only in A, 0 only in B, 1 different/],
      [['compare', file, tree], 2, /d\/a is a file, and .* is a directory/],
      [['list', `${place}/d/none`], 23, /none/],
      [['compare', file, `${place}/d/none`], 23, /none/],
      [
        ['sync', '--delete', file, join(scratch(), 'back')],
        23,
        /d\/a: this is a file: name the directory that it is in/,
      ],
    ] as const) {
      const { code: ended, stdout, stderr } = await run([...args], { env });
      expect([ended, words.test(stdout + stderr)], `${args.join(' ')}: ${stdout}${stderr}`).toEqual([code, true]);
    }
    expect(readFileSync(sums, 'utf8')).toMatch(/^[0-9a-f]{64} {2}a\n$/);
    // The ssh of the test is that of a command.
    if (at === 'sftp:') return;
    const files = filesystem(place, { environment: env });
    const found = async (name: string) => (await files.find(name)).map(({ name, size }) => [name, size]);
    expect([await found('d/a'), await found('d/alone')]).toEqual([[['d/a', 2]], [['d/alone/alone', 1]]]);
  },
  120_000,
);

it('takes what is below a key for what is named, before the object of that key', async () => {
  const server = await s3();
  for (const [key, content] of Object.entries({ 'p//x': '1', q: '1', 'q/r': '22' })) server.put(key, content);
  for (const [place, listed] of [
    ['s3://b/p//x', 'x\n'],
    ['s3://b/q', 'r\n'],
    ['s3://b/p//x/', ''],
  ] as const) {
    expect((await run(['list', place], { env: server.env })).stdout, place).toBe(listed);
  }
}, 60_000);

it('refuses what is not for URLs, and says what is not there', async () => {
  const server = await s3();
  const { env } = server;
  const sums = join(scratch(), 'sums');
  writeFileSync(sums, `${'0'.repeat(64)}  a\n`);
  for (const [args, code, words] of [
    [['manifest', 's3://b/p', 's3://b/q'], 2, 'one URL at a time'],
    [['manifest', '--update', '--format', 'jsonl', '-o', sums, 's3://b/p'], 2, '--update'],
    [['manifest', '-x', 's3://b/p'], 2, '--one-file-system'],
    [['verify', 's3://b/p/sums'], 2, '--in'],
    [['verify', '--in', 's3://b/p', '--repair-from', '/tmp', sums], 2, 'repair'],
    [['manifest', 's3://nobody/p'], 23, 'NoSuchBucket'],
  ] as const) {
    const refused = await run([...args], { env });
    expect([refused.code, refused.stderr.includes(words)], `${args.join(' ')}: ${refused.stderr}`).toEqual([
      code,
      true,
    ]);
  }
}, 60_000);
