/** Workers that Slurm begins, and ends. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { RunDirectory } from '../../src/ops/spread/directory.js';
import { slurm } from '../rig/slurm.js';
import { EXHAUSTIVE, entriesOf, MAIN, planOf, same, summaryOf, tree } from '../rig/spread.js';
import { lives, program, type Run, run, scratch } from '../rig.js';

// Each of them starts many processes, which take their time on a small shared machine.
vi.setConfig({ testTimeout: 120_000 });

describe('copy --slurm', () => {
  /** A copy that goes on for a while: what is to be done to it is done in the meantime. */
  const begun = (env: NodeJS.ProcessEnv, ...more: string[]) => {
    const [source, destination, directory, state] = [
      tree(),
      join(scratch(), 'copy'),
      join(scratch(), 'run'),
      scratch(),
    ];
    const words = ['--slurm', '--workers', '2', '--parts', '6', '--run-dir', directory, '--state-dir', state, ...more];
    const running = run(['copy', '--json', ...words, `${source}/`, destination], { env });
    const room = new RunDirectory(directory);
    const atWork = () => {
      const names = existsSync(join(directory, 'workers')) ? [...room.workers().keys()] : [];
      return names.map((name) => ({ name, beat: room.beatOf(name) })).find(({ beat }) => beat && beat.part > 0);
    };
    return { source, destination, directory, state, running, room, atWork };
  };
  const judged = (done: Run, source: string, destination: string) => {
    const { complete, accounted, outcomes } = summaryOf(done);
    const all = Object.values(outcomes as Record<string, number>).reduce((sum, each) => sum + each, 0);
    expect([done.code, complete, accounted, all]).toEqual([0, true, true, entriesOf(source)]);
    same(source, destination);
  };

  it('has an array of jobs copy the parts, and goes on where one is killed', async () => {
    const cluster = await slurm();
    if (!cluster) return;
    const run = begun(cluster.env, '--patience', '2', '--iops-limit', '1', '--slurm-args', '--comment=a --nice=0');
    let first = run.atWork();
    for (; first === undefined; first = run.atWork()) await sleep(50);
    const id = /^slurm-(\d+)-/.exec(first.name)?.[1] ?? '';
    // The worker and its shell are one process.
    cluster.ask('scancel', '--signal=KILL', '--batch', id);
    run.room.setPace({});
    const done = await run.running;
    judged(done, run.source, run.destination);
    const workers = [...run.room.workers().keys()];
    expect(workers.every((name) => name.startsWith('slurm-'))).toBe(true);
    expect(summaryOf(done).notes.map(({ message }: { message: string }) => message)).toContainEqual(
      expect.stringMatching(/^submitted to Slurm as \d+$/),
    );
  });

  it('goes on with what is left of the array where the coordinator was killed', async () => {
    const cluster = await slurm();
    if (!cluster) return;
    const [source, destination, directory, state] = [
      tree(),
      join(scratch(), 'copy'),
      join(scratch(), 'run'),
      scratch(),
    ];
    const words = ['--slurm', '--workers', '2', '--parts', '6', '--run-dir', directory, '--state-dir', state];
    const args = [MAIN, 'copy', ...words, '--iops-limit', '12', `${source}/`, destination];
    const child = spawn(process.execPath, args, { stdio: 'ignore', env: { ...process.env, ...cluster.env } });
    const room = new RunDirectory(directory);
    while (!existsSync(join(directory, 'states')) || room.settled().length === 0) await sleep(50);
    child.kill('SIGKILL');
    await once(child, 'exit');
    const id = readFileSync(join(directory, 'slurm'), 'utf8');
    const resumed = await run(['resume', '--json', '--state-dir', state], { env: cluster.env });
    judged(resumed, source, destination);
    expect(readFileSync(join(directory, 'slurm'), 'utf8')).toBe(id);
  });

  it.runIf(EXHAUSTIVE)('ends in good order when its time is over, and what is left is submitted again', async () => {
    const cluster = await slurm();
    if (!cluster) return;
    // So slow that there is enough left.
    const { source, destination, running, room } = begun(cluster.env, '--iops-limit', '2');
    const over = running.then(() => true);
    const workers = () => (existsSync(join(room.path, 'workers')) ? [...room.workers().keys()] : []);
    const count = async (many: number) => {
      while (workers().length < many && !(await Promise.race([sleep(50).then(() => false), over])));
    };
    await count(2);
    // What Slurm sends some time before the end.
    for (const name of workers()) cluster.ask('scancel', '--signal=TERM', '--batch', name.split('-')[1] ?? '');
    await count(3);
    room.setPace({});
    const done = await running;
    judged(done, source, destination);
    const told = summaryOf(done).notes.map(({ message }: { message: string }) => message);
    expect(told.filter((message: string) => message.startsWith('submitted to Slurm as '))).toHaveLength(2);
    // It left no part to be waited for.
    const left = readdirSync(join(room.path, 'leases')).filter((name) => /^\d+[.]1$/.test(name));
    const ended = left.filter((name) => existsSync(join(room.path, 'leases', `${name}.over`)));
    expect(ended.every((name) => existsSync(join(room.path, 'leases', name.replace(/1$/, '2'))))).toBe(true);
  });

  it.runIf(EXHAUSTIVE)(
    'loses nothing with a node, and what goes on there unwatched harms nothing',
    async () => {
      const cluster = await slurm();
      if (!cluster) return;
      // It stays at it until Slurm has begun another in its place, two minutes later, and is never taken for lost: it beats.
      const { source, destination, running, room, atWork } = begun(
        cluster.env,
        '--iops-limit',
        '1',
        '--patience',
        '10',
      );
      let first = atWork();
      for (; first === undefined; first = atWork()) await sleep(50);
      const [, id = ''] = /^slurm-(\d+)-/.exec(first.name) ?? [];
      const nodeOf = () => {
        const lines = cluster.ask('squeue', '--noheader', '--format=%A %N').split('\n');
        return lines.map((line) => line.split(' ')).find(([job, name]) => job === id && name)?.[1];
      };
      let node = nodeOf();
      for (; node === undefined; node = nodeOf()) await sleep(100);
      room.setPace({ limits: { entries: 0.02 } });
      cluster.kill(node);
      cluster.ask('scontrol', 'update', `nodename=${node}`, 'state=down', 'reason=dead');
      const over = running.then(() => true);
      const again = () => [...room.workers().keys()].some((name) => /^slurm-\d+-[1-9]/.test(name));
      while (!again() && !(await Promise.race([sleep(200).then(() => false), over])));
      expect([again(), lives(first.beat?.process ?? 0)]).toEqual([true, true]);
      room.setPace({});
      const done = await running;
      judged(done, source, destination);
    },
    300_000,
  );

  it('has its workers as steps of an allocation that it is in', async () => {
    const cluster = await slurm();
    if (!cluster) return;
    const [source, destination, directory] = [tree(), join(scratch(), 'copy'), join(scratch(), 'run')];
    const words = ['--slurm', '--workers', '2', '--parts', '6', '--run-dir', directory, '--state-dir', scratch()];
    const copy = [process.execPath, MAIN, 'copy', '--json', ...words, `${source}/`, destination];
    const { code, stdout } = await program('salloc', ['--nodes=2', '--ntasks=2', '--quiet', ...copy], {
      env: { ...process.env, ...cluster.env },
    });
    judged({ code, stdout, stderr: '' } as Run, source, destination);
    const room = new RunDirectory(directory);
    expect(existsSync(join(directory, 'slurm'))).toBe(false);
    expect(room.settled().length).toBe(planOf(directory).parts.length);
  });

  it('says what sbatch says, and prints its words in a dry run', async () => {
    const [source, state, bin] = [tree(), scratch(), scratch()];
    writeFileSync(join(bin, 'sbatch'), '#!/bin/sh\necho "sbatch: error: no partition" >&2\nexit 1\n', { mode: 0o755 });
    const words = ['copy', '--slurm', '--slurm-args', '["--comment=a b"]', '--state-dir', state];
    const env = { PATH: `${bin}:${process.env.PATH}` };
    const { code, stderr } = await run([...words, `${source}/`, join(scratch(), 'copy')], { env });
    expect([code, stderr]).toEqual([2, expect.stringContaining('sbatch: error: no partition')]);
    const dry = await run([...words, '-n', '--workers', '3', `${source}/`, join(scratch(), 'copy')], { env });
    expect(dry.stderr).toMatch(/sbatch --parsable --array=0-2 .*--comment=a b/);
  });
});
