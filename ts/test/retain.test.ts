/** Retention: which partitions of a data set go, in a store and on a disk, and when none does. */
import { existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { partitionsOf } from '../src/stores/partitions.js';
import { type S3, s3 } from './rig/s3.js';
import { jsonLines, run, scratch } from './rig.js';

const KEYS = [
  'events/_metadata',
  'events/year=2022/month=9/a',
  'events/year=2022/month=10/a',
  'events/year=2022/month=10/b',
  'events/year=2022/month=11/a',
  'events/year=2023/month=1/a',
  'events/year=2023/month=2/a',
];

/** What goes, of all that there is. */
const without = (...gone: string[]) => KEYS.filter((key) => !gone.some((each) => key.includes(each))).sort();

async function filled(keys = KEYS): Promise<S3> {
  const server = await s3({ page: 3 });
  for (const key of keys) server.put(key, key);
  return server;
}

const retain = (server: S3, ...args: string[]) => run(['retain', ...args], { env: server.env });

it('keeps the last ones of each directory, by what their values are', async () => {
  const server = await filled();
  const args = ['--key', 'month', '--keep', '2', 's3://b/events'];
  const dry = await retain(server, '-n', ...args);
  expect([dry.code, dry.stdout], dry.stderr).toEqual([
    0,
    '*deleting   year=2022/month=9/\n.d......... year=2022/month=10/ (kept)\n.d......... year=2022/month=11/ (kept)\n' +
      '.d......... year=2023/month=1/ (kept)\n.d......... year=2023/month=2/ (kept)\n',
  ]);
  // Of what would go, and not of all that there is.
  expect(dry.stderr).toContain('1 entry would be removed (26 B)');
  const told = jsonLines((await retain(server, '-n', '--json', ...args)).stdout);
  expect(told[0]).toMatchObject({
    ...{ type: 'entry', outcome: 'removed', kind: 'directory', dryRun: true },
    ...{ path: 'year=2022/month=9', destination: 's3://b/events/year=2022/month=9' },
  });
  expect(server.keys).toEqual([...KEYS].sort());
  const done = await retain(server, ...args);
  expect([done.code, server.keys], done.stderr).toEqual([0, without('month=9')]);
  expect(done.stderr).toContain('1 entry removed');
});

it('orders by several keys, and makes larger groups', async () => {
  const across = await filled();
  expect((await retain(across, '--key', 'year,month', '--keep', '3', 's3://b')).code).toBe(0);
  expect(across.keys).toEqual(without('month=9', 'month=10'));
  const within = await filled(['r=a/d=1/h=1/x', 'r=a/d=1/h=2/x', 'r=a/d=2/h=1/x', 'r=b/d=1/h=1/x']);
  expect((await retain(within, '--key', 'h', '--keep', '2', '--within', 'r', 's3://b')).code).toBe(0);
  expect(within.keys).toEqual(['r=a/d=1/h=2/x', 'r=a/d=2/h=1/x', 'r=b/d=1/h=1/x']);
});

it('removes nothing where not all is known, past its limit, or for a rule that says nothing', async () => {
  const args = ['--key', 'year', '--keep', '1', 's3://b'];
  const broken = await filled();
  let later = 0;
  broken.plan = ({ query }) => {
    if (query.has('continuation-token')) later += 1;
    return later === 2 ? { status: 403, code: 'AccessDenied' } : undefined;
  };
  const partly = await retain(broken, ...args);
  expect([partly.code, broken.keys.length], partly.stderr).toEqual([23, KEYS.length]);
  const limited = await filled();
  const held = await retain(limited, '--max-delete', '50%', ...args);
  expect([held.code, limited.keys.length, held.stderr.includes('4 of 7 entries would go')], held.stderr).toEqual([
    ...[3, KEYS.length, true],
  ]);
  // A slip in a name is told.
  for (const [rule, words] of [
    [['--key', 'yaer'], 'in a partition of yaer'],
    [['--key', 'year', '--within', 'regoin'], 'in a partition of year within one of regoin'],
  ] as const) {
    const { code, stderr } = await retain(limited, ...rule, '--keep', '1', 's3://b');
    expect([code, stderr.includes(`nothing is there ${words}`)], stderr).toEqual([0, true]);
  }
  for (const [wrong, words] of [
    [['--key', 'year', 's3://b'], '--keep'],
    [['--key', 'year', '--keep', '0', 's3://b'], '--keep'],
    [['--key', 'a=b', '--keep', '1', 's3://b'], 'key'],
    [['--key', 'year,', '--keep', '1', 's3://b'], 'key'],
  ] as const) {
    const { code, stderr } = await retain(limited, ...wrong);
    expect([code, stderr.includes(words)], stderr).toEqual([2, true]);
  }
  expect((await retain(limited, '--key', 'year', '--keep', '1', join(scratch(), 'missing'))).code).toBe(23);
});

it('says what it could not remove, and goes on with the rest', async () => {
  const server = await filled();
  server.plan = ({ method, key, query }) => {
    if (method === 'POST' && query.has('delete')) return { status: 501, code: 'NotImplemented' };
    return method === 'DELETE' && key.endsWith('month=10/a') ? { status: 403, code: 'AccessDenied' } : undefined;
  };
  const { code, stderr } = await retain(server, '--key', 'year', '--keep', '1', 's3://b');
  expect([code, server.keys], stderr).toEqual([23, [...without('2022'), 'events/year=2022/month=10/a'].sort()]);
});

it('does the same on a disk, through no symlink', async () => {
  const root = join(scratch(), 'lake');
  for (const key of KEYS) {
    mkdirSync(join(root, key, '..'), { recursive: true });
    writeFileSync(join(root, key), key);
  }
  const elsewhere = scratch();
  writeFileSync(join(elsewhere, 'x'), 'stays');
  mkdirSync(join(root, 'events/year=2022/month=9/inner'));
  symlinkSync(elsewhere, join(root, 'events/year=2022/month=9/link'));
  const { code, stderr } = await run(['retain', '--key', 'month', '--keep', '2', root]);
  expect(code, stderr).toBe(0);
  expect(readdirSync(join(root, 'events/year=2022')).sort()).toEqual(['month=10', 'month=11']);
  expect([existsSync(join(elsewhere, 'x')), existsSync(join(root, 'events/_metadata'))]).toEqual([true, true]);
});

it('tells the partitions of a path', () => {
  for (const [path, expected] of [
    ['data/year=2023/month=01/day=15/file.parquet', { year: '2023', month: '01', day: '15' }],
    ['data/v1.2/year=2023/x', { year: '2023' }],
    ['a=b=c/x', { a: 'b=c' }],
    ['when=2023-01-01%2010%3A00/%41=x/', { when: '2023-01-01 10:00', '%41': 'x' }],
    ['year=2023', {}],
    ['=a/x', {}],
    ['__proto__=x/y', Object.fromEntries([['__proto__', 'x']])],
  ] as const) {
    expect(partitionsOf(path), path).toEqual(expected);
  }
  expect(partitionsOf('d/2023/06/f', ['year', 'month'])).toEqual({ year: '2023', month: '06' });
  expect(partitionsOf('06/f', ['year', 'month'])).toEqual({ month: '06' });
  expect([partitionsOf('a/b/f', []), partitionsOf('f', ['year'])]).toEqual([{}, {}]);
});
