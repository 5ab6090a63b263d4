/** `bulkhaul doctor`: what it tells is so, nothing is changed by it, and nothing of it is a secret. */
import { mkdirSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { hostname, userInfo } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { executable, jsonLines, program, run, scratch } from './rig.js';

const found = async (args: readonly string[], env: NodeJS.ProcessEnv = {}) => {
  const { code, stdout, stderr } = await run(['doctor', '--json', ...args], { env });
  expect(jsonLines(stdout)).toHaveLength(1);
  return { code, stderr, ...JSON.parse(stdout) };
};

it('tells of a place what findmnt tells', async () => {
  const at = scratch();
  const { stdout } = await program('findmnt', ['-no', 'FSTYPE', '-T', at]);
  const { code, places } = await found([at, '/proc']);
  expect(code).toBe(0);
  expect(places).toMatchObject([
    {
      path: at,
      kind: stdout.trim(),
      flags: expect.arrayContaining(['rw']),
      answers: [{ name: 'xattrs' }, { name: 'ACLs' }],
    },
    { path: '/proc', kind: 'proc' },
  ]);
  expect(places[0].free).toBeLessThanOrEqual(places[0].size);
});

it('changes nothing unless it is to try, and then leaves nothing', async () => {
  const at = scratch();
  const before = statSync(at, { bigint: true });
  const looked = await found([at]);
  expect(looked.places[0].probe).toBeUndefined();
  expect(statSync(at, { bigint: true }).mtimeNs).toBe(before.mtimeNs);
  const { places } = await found(['--probe', at]);
  expect(readdirSync(at)).toEqual([]);
  const { answers, written, read } = places[0].probe;
  expect(answers.map(({ name }: { name: string }) => name)).toContain('hard links');
  expect(written > 0 && read > 0).toBe(true);
});

it('tells what a kernel does not have, and what a filter forbids', async () => {
  for (const [error, why] of [
    ['ENOSYS', 'Function not implemented'],
    ['EPERM', 'Operation not permitted'],
  ] as const) {
    const inject = ['-f', '-qq', '-o', '/dev/null', '-e', `inject=renameat2,sync_file_range:error=${error}`];
    const { stdout, stderr } = await program('strace', [...inject, process.execPath, executable, 'doctor']);
    if (stderr.includes('ptrace') || stdout === '') return console.log('skip: this needs strace');
    expect(stdout).toMatch(new RegExp(`^ {2}renameat2 +NO: ${why}.*: names are taken by hard links`, 'm'));
    expect(stdout).toMatch(new RegExp(`^ {2}sync_file_range +NO: ${why}`, 'm'));
    expect(stdout).toMatch(/^ {2}statx +yes$/m);
  }
});

it('finds programs of others by the path, and says which are not there', async () => {
  const at = scratch();
  mkdirSync(join(at, 'bin'));
  symlinkSync(process.execPath, join(at, 'bin/node'));
  writeFileSync(join(at, 'bin/rclone'), '#!/bin/sh\necho "rclone v9.87.6"\n', { mode: 0o755 });
  const { stdout } = await run(['doctor'], { env: { PATH: join(at, 'bin') } });
  expect(stdout).toMatch(/^ {2}rclone +9\.87\.6 \(transfers by rclone\)$/m);
  expect(stdout).toMatch(/^ {2}not here +rsync \(transfers by rsync\), ssh/m);
});

it('has nothing of a host, a user or a variable in it', async () => {
  const secret = 'hunter2-0123456789';
  const { stdout } = await run(['doctor', '/'], {
    env: { HOME: `/home/${secret}`, SLURM_JOB_NAME: secret, RCLONE_PASS: secret },
  });
  expect(stdout).not.toContain(secret);
  const words = stdout.split(/[\s,:()]+/);
  for (const each of [hostname(), userInfo().username].filter((name) => name !== 'root'))
    expect(words).not.toContain(each);
});

it('looks at what can be looked at where something can not', async () => {
  const at = scratch();
  const { code, places } = await found([join(at, 'nothing'), at]);
  expect(code).toBe(2);
  expect(places).toMatchObject([
    { error: expect.stringContaining('no such file or directory') },
    { path: at, answers: expect.anything() },
  ]);
  const text = await run(['doctor', join(at, 'a\nb')]);
  expect(text.stdout).toMatch(/NO: .*no such file or directory/);
  expect(text.stdout).not.toContain('a\nb');
});
