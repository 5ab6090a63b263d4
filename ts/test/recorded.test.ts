/** Commands that are told as one job: what is written down of them, and how they go on. */
import { execFileSync, spawn } from 'node:child_process';
import { closeSync, constants, existsSync, mkdirSync, openSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { jobs, journalOf, resume } from '../src/index.js';
import { WITHOUT_DISKS } from './rig/disks.js';
import { executable, run, scratch } from './rig.js';

/** A tree of files. */
function tree(): { cwd: string; state: string } {
  const cwd = scratch();
  mkdirSync(join(cwd, 's'));
  for (let at = 0; at < 3; at += 1) writeFileSync(join(cwd, 's', `f${at}`), `content ${at}`);
  return { cwd, state: join(cwd, 'state') };
}

async function typesOf(state: string, id: string): Promise<string[]> {
  const types: string[] = [];
  for await (const { type } of journalOf(state, id)) if (type !== 'progress') types.push(type);
  return types;
}

describe('dsync', () => {
  it('is one job: what failed in it is written down, and it goes on as it was called, from anywhere', async () => {
    const { cwd, state } = tree();
    mkdirSync(join(cwd, 'd/f1/x'), { recursive: true });
    const args = [
      'dsync',
      '-n',
      '2',
      '--copy-with',
      'bulkhaul',
      '--working-dir',
      'w',
      '--state-dir',
      'state',
      's',
      'd',
    ];
    const first = await run(args, { cwd });
    expect(first.code).toBe(23);
    const [job, ...others] = await jobs(state);
    expect(others).toEqual([]);
    const id = job?.id ?? '';
    expect(id).toMatch(/^dsync-/);
    expect(job).toMatchObject({ operation: 'dsync', state: 'failed', exitCode: 23, attempts: 1 });
    expect(job).toMatchObject({ sources: [join(cwd, 's')], destinations: [join(cwd, 'd')] });
    expect(first.stderr).toContain(`bulkhaul resume ${id}`);
    expect(await typesOf(state, id)).toEqual(['job', 'attempt', 'error', 'end']);
    expect((await run(['report', '--state-dir', 'state', id], { cwd })).stdout).toContain('d/f1');
    await expect(resume(id, { journal: { directory: state } })).rejects.toMatchObject({
      code: 'JOURNAL',
      message: expect.stringContaining(`bulkhaul resume ${id}`),
    });
    const slower = await run(['resume', '--bwlimit', '1m', '--state-dir', state, id]);
    expect(slower).toMatchObject({ code: 2, stderr: expect.stringContaining('goes on as it was called') });

    rmSync(join(cwd, 'd/f1'), { recursive: true });
    const second = await run(['resume', '--retry-failed', '--state-dir', state, id]);
    expect(second).toMatchObject({ code: 0, stderr: expect.stringContaining(`goes on with job ${id}`) });
    expect(readdirSync(join(cwd, 'd')).sort()).toEqual(['f0', 'f1', 'f2']);
    expect(await jobs(state)).toMatchObject([{ id, state: 'done', exitCode: 0, attempts: 2 }]);
    expect((await run(['resume', '--state-dir', state, id])).stderr).toContain(`job ${id} is done`);
  });

  it('is none that was refused, quick and complete, or without a journal', async () => {
    const { cwd, state } = tree();
    const args = ['dsync', '-n', '2', '--copy-with', 'bulkhaul', '--working-dir', 'w', '--state-dir', 'state'];
    expect((await run([...args, 'absent', 'd'], { cwd })).code).toBeGreaterThan(0);
    mkdirSync(join(cwd, 'd/f1/x'), { recursive: true });
    expect((await run([...args, '--no-journal', 's', 'd'], { cwd })).code).toBe(23);
    expect((await run([...args, '--dry-run', 's', 'd'], { cwd })).code).toBeGreaterThan(0);
    expect(existsSync(join(state, 'jobs'))).toBe(false);
  });
});

describe('partition', () => {
  it('that was killed while its commands ran begins anew, in place of its lists', async () => {
    const { cwd, state } = tree();
    execFileSync('mkfifo', [join(cwd, 'gate')]);
    const args = ['partition', '-n', '2', '--state-dir', 'state', '-o', 'part', 's/', '--exec', 'cat', 'gate', '{}'];
    const child = spawn(process.execPath, [executable, ...args], { cwd, stdio: 'ignore' });
    const ended = new Promise<void>((resolve) => child.on('close', () => resolve()));
    onTestFinished(async () => {
      child.kill('SIGKILL');
      await ended;
    });
    // Its command waits for the gate, and nothing else ends it.
    while (!existsSync(join(cwd, 'part.2')) || (await jobs(state))[0]?.state !== 'running')
      await new Promise((resolve) => setTimeout(resolve, 20));
    child.kill('SIGKILL');
    await ended;
    // What it had begun ends with this.
    const gate = openSync(join(cwd, 'gate'), constants.O_RDWR);
    onTestFinished(() => closeSync(gate));
    const [killed] = await jobs(state);
    const id = killed?.id ?? '';
    expect(killed).toMatchObject({ operation: 'partition', state: 'interrupted', sources: [join(cwd, 's/')] });

    rmSync(join(cwd, 'gate'));
    writeFileSync(join(cwd, 'gate'), 'open\n');
    const lists = readdirSync(cwd).filter((name) => name.startsWith('part.'));
    const again = await run(args, { cwd });
    expect(again).toMatchObject({ code: 0, stderr: expect.stringContaining(`goes on with job ${id}`) });
    expect(again.stdout).toMatch(/^open\n(?:.*\n)*f0\n/m);
    expect(readdirSync(cwd).filter((name) => name.startsWith('part.'))).toEqual(lists);
    expect(await jobs(state)).toMatchObject([{ id, state: 'done' }]);
    // What another run has left it does not touch.
    expect((await run(args, { cwd })).code).toBe(2);
  });

  it('keeps nothing of the environment of its commands', async () => {
    const { cwd, state } = tree();
    const args = ['partition', '-n', '1', '--journal', '--state-dir', 'state', '-o', 'part', 's/'];
    await run([...args, '--exec', 'sh', '-c', 'test -n "$SECRET"'], { cwd, env: { SECRET: 'hush' } });
    const [job] = await jobs(state);
    expect(job?.state).toBe('done');
    for await (const record of journalOf(state, job?.id ?? '')) expect(JSON.stringify(record)).not.toContain('hush');
  });
});

it.each(['--test', '--stdout'])('decompress %s is a job', async (how) => {
  const { cwd, state } = tree();
  execFileSync('gzip', [join(cwd, 's/f0')]);
  expect((await run(['decompress', how, '--journal', '--state-dir', 'state', 's/f0.gz'], { cwd })).code).toBe(0);
  expect(await jobs(state)).toMatchObject([
    { operation: 'decompress', state: 'done', sources: [join(cwd, 's/f0.gz')] },
  ]);
  // What was written to a stream can't be gone on with by its name.
  writeFileSync(join(cwd, 's/f0.gz'), 'no archive');
  expect((await run(['decompress', how, '--state-dir', 'state', 's/f0.gz'], { cwd })).code).toBeGreaterThan(0);
  const [job] = await jobs(state);
  const again = await run(['resume', '--retry-failed', '--state-dir', 'state', job?.id ?? ''], { cwd });
  expect(again.stderr).toContain(how === '--stdout' ? 'used /dev/stdout, which is gone' : 'INCOMPLETE');
});

describe.skipIf(WITHOUT_DISKS !== undefined)('what is done with images', { timeout: 60_000 }, () => {
  it.each([
    ['image', ['image', 'unpack', '--state-dir', 'state', 'x.img', 'd']],
    ['hpcp', ['hpcp', '--state-dir', 'state', '-si', 'x.img', '-d', 'd']],
  ])('is one job, by its command: %s', async (_, args) => {
    const { cwd, state } = tree();
    expect(await run(['image', 'pack', '--no-journal', 's/', 'x.img'], { cwd })).toMatchObject({ code: 0 });
    mkdirSync(join(cwd, 'd/f1/x'), { recursive: true });
    expect((await run(args, { cwd })).code).toBeGreaterThan(0);
    const [job] = await jobs(state);
    const id = job?.id ?? '';
    expect(job).toMatchObject({ operation: 'image', state: 'failed', sources: [join(cwd, 'x.img')] });
    expect(job).toMatchObject({ destinations: [join(cwd, 'd')], errors: 1 });
    expect((await run(['report', '--state-dir', 'state', id], { cwd })).stdout).toContain('d/f1');
    rmSync(join(cwd, 'd/f1'), { recursive: true });
    const { code, stderr } = await run(['resume', '--state-dir', state, '--retry-failed', id]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: expect.stringContaining(`goes on with job ${id}`) });
    expect(existsSync(join(cwd, 'd/f1'))).toBe(true);
    expect(await jobs(state)).toMatchObject([{ id, state: 'done', attempts: 2 }]);
  });

  it('is written down where it is refused by what it works on, and was begun', async () => {
    const { cwd, state } = tree();
    expect((await run(['image', 'clone', '--state-dir', 'state', 's/f0', 'y.img'], { cwd })).code).toBe(2);
    expect(existsSync(join(state, 'jobs'))).toBe(false);
  });
});
