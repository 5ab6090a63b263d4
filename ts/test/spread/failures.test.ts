/** Spread runs in which somebody dies, stands still, or goes on later. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import type { JobEvent } from '../../src/events.js';
import type { NativePart } from '../../src/native/events.js';
import type { NativeJob } from '../../src/native.js';
import { type PartState, RunDirectory } from '../../src/ops/spread/directory.js';
import { plan, planner } from '../../src/ops/spread/plan.js';
import { attempt, type Ending, type Step } from '../../src/ops/spread/protocol.js';
import { boot } from '../../src/ops/spread/worker.js';
import { copy, deedful, entriesOf, leasesOf, MAIN, MIB, planOf, same, spread, summaryOf, tree } from '../rig/spread.js';
import { faulty, lives, mountFaulty, run, scratch, zombie } from '../rig.js';

// Each of them starts many processes, which take their time on a small shared machine.
vi.setConfig({ testTimeout: 120_000 });

it('tells all failures of a part as one process tells them: path, operation, number of the error', async () => {
  const [source, below, directory] = [scratch(), scratch(), join(scratch(), 'run')];
  const many = 1200;
  for (const place of [source, below]) mkdirSync(join(place, 'shut'));
  for (let number = 0; number < many; number += 1) writeFileSync(join(source, 'shut', `f${number}`), 'x');
  writeFileSync(join(source, 'good'), 'x');
  const destination = await faulty(below, 'nocreate=EACCES,only=/shut');
  if (destination === undefined) return;
  const options = { source: `${source}/`, destination, workers: 1, parts: 1, directory };
  const told = async (job: AsyncIterable<JobEvent>) => {
    const failures: string[] = [];
    for await (const event of job) {
      if (event.type === 'error') failures.push(JSON.stringify([event.path, event.operation, event.errno, event.kind]));
    }
    return failures.sort();
  };
  const job = spread({ ...options, program: [process.execPath, MAIN] });
  const failures = await told(job);
  const { exitCode, failureKinds, outcomes } = await job;
  expect([exitCode, failureKinds, outcomes.failed]).toEqual([23, { permission: many }, many]);
  expect(failures).toHaveLength(many);
  expect(failures).toEqual(await told(copy({ sources: `${source}/`, destination })));
});

it('tells what stays of a part where it is stopped at once', async () => {
  const [source, destination, gate] = [scratch(), scratch(), join(scratch(), 'gate')];
  writeFileSync(join(source, 'f'), Buffer.alloc(64 * MIB, 'f'));
  const mount = await mountFaulty(source, `hang,until=${gate}`);
  if (mount === undefined) return;
  onTestFinished(async () => {
    // Whoever hangs in it goes, too.
    writeFileSync(gate, '');
    await mount.unmount();
  });
  const run = { source: `${mount.point}/`, destination, workers: 1, directory: join(scratch(), 'run') };
  const job = spread({ ...run, program: [process.execPath, MAIN] });
  const report = job.then(({ interrupted, unfinished, notes }) => [
    interrupted,
    unfinished,
    notes.map(({ kind, path }) => [kind, path.split('/').at(-1)]),
  ]);
  await mount.hangs();
  job.cancel(true);
  expect(await report).toEqual([true, 1, [['left-behind', 'f']]]);
  expect(readdirSync(destination).filter((name) => name.startsWith('.bh-'))).toHaveLength(1);
});

describe('a plan', () => {
  it('of which a part is lost is none', async () => {
    const [source, room] = [tree(), new RunDirectory(join(scratch(), 'run'))];
    room.make();
    const division = {
      source,
      contents: true,
      rules: [],
      oneFileSystem: false,
      named: undefined,
      parts: 3,
      workers: 1,
    };
    const native = await planner({ ...division, spillDirectory: undefined, dryRun: false }, room);
    // Somebody has not heard of one of its lists.
    const forget = ({ path, ...event }: NativePart) => (event.number === 2 ? event : { path, ...event });
    const job = {
      run: () => native.run(),
      nextEvents: async () =>
        (await native.nextEvents()).map((event) => (event.type === 'part' ? forget(event as NativePart) : event)),
    };
    const planned = plan(job as NativeJob, room, { named: [], cut: undefined, below: false }, () => undefined);
    await expect(planned).rejects.toThrow(/^the planner has put \d+ entries into its lists, and \d+ are there$/);
    expect(room.isThere()).toBe(false);
  });
});

describe('a worker that dies', () => {
  it('leaves its part to another, at once', async () => {
    const [source, destination, directory] = [tree(), join(scratch(), 'copy'), join(scratch(), 'run')];
    const marker = join(scratch(), 'died');
    const dies = deedful(
      `if (!existsSync('${marker}')) { writeFileSync('${marker}', ''); take('1.1'); die(); await new Promise(() => undefined); }`,
    );
    // Nobody waits for it: it is known to be dead.
    const options = { source: `${source}/`, destination, workers: 1, parts: 5, directory, patience: 36_000 };
    const report = await spread({ ...options, program: dies });
    expect([report.complete, report.notes.map(({ message }) => message)]).toEqual([
      true,
      [expect.stringMatching(/^worker .* ended by SIGKILL$/)],
    ]);
    expect(leasesOf(directory, 1).sort()).toEqual(['1.1', '1.2']);
    expect(new RunDirectory(directory).state(1).attempt).toBe(2);
    same(source, destination);
  });

  it('is not followed by others without end: a part that kills them all fails, and the rest is there', async () => {
    const [source, destination, directory] = [tree(), join(scratch(), 'copy'), join(scratch(), 'run')];
    const dies = deedful(
      `const tries = readdirSync(join(directory, 'leases')).filter((each) => /^1[.]\\d+$/.test(each)).length;
       if (!existsSync(join(directory, 'states', '1'))) { take('1.' + (tries + 1)); die(); await new Promise(() => undefined); }`,
    );
    const options = { source: `${source}/`, destination, workers: 2, parts: 5, directory, patience: 36_000 };
    const report = await spread({ ...options, program: dies });
    const { entries } = planOf(directory).parts[0] ?? { entries: 0 };
    expect([report.exitCode, report.accounted, report.outcomes.failed]).toEqual([23, true, entries]);
    // Each entry by its own name.
    const names = readFileSync(join(directory, 'parts', '1'), 'utf8')
      .split('\0')
      .slice(0, -1);
    expect(report.failures.map(({ path }) => path)).toEqual(names.map((name) => join(source, name)));
    expect(report.failures[0]?.message).toMatch(
      /^copy .*: no worker has brought part 1, which it is in, to its end in [56] attempts /,
    );
    // The same run goes on, with what failed and nothing else.
    const before = leasesOf(directory, 2);
    rmSync(join(directory, 'final.json'));
    const again = await spread({ ...options, program: [process.execPath, MAIN] });
    expect([again.complete, leasesOf(directory, 2)]).toEqual([true, before]);
    same(source, destination);
  });

  it('is said where it never begins, and no part is taken for copied', async () => {
    const [source, destination, directory] = [tree(), join(scratch(), 'copy'), join(scratch(), 'run')];
    const options = { source: `${source}/`, destination, workers: 2, parts: 3, directory };
    const report = await spread({ ...options, program: ['/nonexistent/bulkhaul'] });
    const { found } = planOf(directory);
    const { directory: directories, ...others } = found;
    const all = Object.values(others).reduce((sum, each) => sum + each, 0);
    expect([report.exitCode, report.outcomes.failed, report.directories.made]).toEqual([23, all, directories]);
    expect(report.notes[0]?.message).toContain('no such file or directory');
  });
});

describe('a run that is gone on with', () => {
  const planned = async (parts = 3, patience = 1) => {
    const [source, destination, directory] = [tree(), join(scratch(), 'copy'), join(scratch(), 'run')];
    const options = { source: `${source}/`, destination, workers: 1, parts, directory, patience };
    await spread({ ...options, program: ['/nonexistent/bulkhaul'] });
    rmSync(join(directory, 'final.json'));
    return { source, destination, directory, options: { ...options, program: [process.execPath, MAIN] } };
  };

  it('takes over from a worker of another host that gives no sign of life; what that one brings then does not count', async () => {
    const { source, destination, directory, options } = await planned();
    const room = new RunDirectory(directory);
    const ghost = attempt<PartState>(1, 1);
    const step = (answer?: unknown) => ghost.next(answer).value as Step<PartState> | Ending;
    const perform = (asked: Step<PartState> | Ending) =>
      typeof asked === 'string' || asked.do === 'work' ? undefined : room.perform(asked, 'elsewhere-1');
    let asked = step();
    asked = step(perform(asked));
    asked = step(perform(asked));
    expect(asked).toMatchObject({ do: 'work' });
    const report = await spread(options);
    expect([report.complete, room.state(1).attempt]).toEqual([true, 2]);
    asked = step({ ...room.state(1), attempt: 1 });
    expect(step(perform(asked))).toBe('lost');
    expect(room.state(1).attempt).toBe(2);
    same(source, destination);
  });

  it('takes over from a worker that was killed before its lease had its name', async () => {
    const { source, destination, directory, options } = await planned();
    writeFileSync(join(directory, 'leases', '1.1'), '');
    const report = await spread(options);
    expect([report.complete, report.notes.map(({ kind }) => kind)]).toEqual([true, ['run']]);
    expect(new RunDirectory(directory).state(1).attempt).toBe(2);
    same(source, destination);
  });

  it('does not wait for a worker of here that has ended, though its process is still in the table', async () => {
    const ended = await zombie();
    if (ended === undefined) return;
    const { source, destination, directory, options } = await planned(3, 3600);
    const room = new RunDirectory(directory);
    room.perform({ do: 'lease', part: 1, attempt: 1 }, 'ended');
    const idle = { part: 1, entries: 0, bytes: 0, copiedBytes: 0, movedBytes: 0, errors: 0 };
    room.beat('ended', { host: hostname(), process: ended, boot: boot(), beats: 1, ...idle });
    const report = await spread(options);
    expect([report.complete, room.state(1).attempt]).toEqual([true, 2]);
    same(source, destination);
  });

  it('says what vanished, and tries that again and nothing else', async () => {
    const { source, destination, directory, options } = await planned();
    rmSync(join(source, 'a/f3'));
    const report = await spread(options);
    expect([report.exitCode, report.failureKinds, report.accounted]).toEqual([24, { vanished: 1 }, true]);
    const failed = [1, 2, 3].filter((part) => !new RunDirectory(directory).state(part).complete);
    expect(failed).toHaveLength(1);
    writeFileSync(join(source, 'a/f3'), 'here again');
    utimesSync(join(source, 'a'), 1e9, 1e9);
    rmSync(join(directory, 'final.json'));
    const again = await spread(options);
    expect([again.complete, readFileSync(join(destination, 'a/f3'), 'utf8')]).toEqual([true, 'here again']);
    expect([1, 2, 3].map((part) => leasesOf(directory, part).length > 1)).toEqual(
      [1, 2, 3].map((part) => failed.includes(part)),
    );
    same(source, destination);
  });

  it('does not work by a list that somebody has changed', async () => {
    const { directory, options } = await planned();
    writeFileSync(new RunDirectory(directory).list(2), 'a/f1\0');
    const report = await spread(options);
    expect([report.exitCode, report.complete]).toEqual([23, false]);
    const logs = readdirSync(join(directory, 'logs')).map((name) =>
      readFileSync(join(directory, 'logs', name), 'utf8'),
    );
    expect(logs.join('')).toContain('is not as it was written');
  });

  it('is refused where the directory holds another run', async () => {
    const { directory, options } = await planned();
    await expect(spread({ ...options, destination: scratch() })).rejects.toThrow('holds another run, of ');
    await expect(spread({ ...options, verify: true })).rejects.toThrow('holds another run, of ');
    expect(existsSync(directory)).toBe(true);
  });

  it('comes to the same end where the coordinator was killed: what is done is not done again', async () => {
    const [source, destination, state] = [tree(), join(scratch(), 'copy'), scratch()];
    const words = ['copy', '--workers', '2', '--parts', '8', '--iops-limit', '12', '--state-dir', state];
    const child = spawn(process.execPath, [MAIN, ...words, `${source}/`, destination], { stdio: 'ignore' });
    const directory = () => {
      const [job] = existsSync(join(state, 'jobs')) ? readdirSync(join(state, 'jobs')) : [];
      return job === undefined ? undefined : join(state, 'jobs', job, 'run');
    };
    const settled = () => {
      const path = directory();
      return path !== undefined && existsSync(join(path, 'states')) ? new RunDirectory(path).settled() : [];
    };
    while (settled().length === 0 && child.exitCode === null) await sleep(20);
    child.kill('SIGKILL');
    await once(child, 'exit');
    const path = directory() as string;
    expect(existsSync(join(path, 'run.json'))).toBe(true);
    // Its workers end with it.
    const room = new RunDirectory(path);
    const beats = [...room.workers().keys()].map((name) => room.beatOf(name));
    while (beats.some((beat) => beat && lives(beat.process))) await sleep(20);
    const done = settled();
    const before = Object.fromEntries(done.map((part) => [part, leasesOf(path, part)]));
    const copy = scratch();
    execFileSync('cp', ['-a', path, copy]);
    const resumed = await run(['resume', '--json', '--iops-limit', '100000', '--state-dir', state]);
    expect([resumed.code, resumed.stderr]).toEqual([0, '']);
    const { outcomes, notes } = summaryOf(resumed);
    const sum = Object.values(outcomes as Record<string, number>).reduce((all, each) => all + each, 0);
    expect(sum).toBe(entriesOf(source));
    expect(notes.map(({ kind }: { kind: string }) => kind)).toContain('run');
    for (const part of done) expect(before[part]).toEqual([`${part}.1`]);
    same(source, destination);
  });

  it('has one coordinator', async () => {
    const { directory, options } = await planned();
    const marker = join(scratch(), 'go');
    const waits = deedful(`while (!existsSync('${marker}')) await new Promise((go) => setTimeout(go, 20));`);
    const logs = join(directory, 'logs');
    for (const name of readdirSync(logs)) rmSync(join(logs, name)); // what the planning left there
    const first = spread({ ...options, program: waits });
    while (readdirSync(logs).length === 0) await sleep(20);
    const locked = await spread(options).catch((error: unknown) => (error as Error).message);
    writeFileSync(marker, '');
    expect((await first).complete).toBe(true);
    expect(locked).toContain('coordinates the run');
  });
});

describe('a worker that stands still', () => {
  it('loses its part, and harms nothing when it comes back', async () => {
    const [source, destination, directory] = [tree(), join(scratch(), 'copy'), join(scratch(), 'run')];
    const options = { source: `${source}/`, destination, workers: 2, parts: 6, directory, patience: 2 };
    const job = spread({ ...options, limits: { entries: 2 }, program: [process.execPath, MAIN] });
    const room = new RunDirectory(directory);
    /** A worker that stands still from now on, and has a part. */
    const still = () => {
      for (const [worker, over] of existsSync(join(directory, 'workers')) ? room.workers() : []) {
        const number = over ? undefined : room.beatOf(worker)?.process;
        if (number === undefined) continue;
        process.kill(number, 'SIGSTOP');
        for (const [part, { attempt: last, settled }] of room.standings())
          if (!settled && room.holder(part, last) === worker) return { number, next: `${part}.${last + 1}` };
        process.kill(number, 'SIGCONT');
      }
      return undefined;
    };
    let stopped = still();
    for (; stopped === undefined; stopped = still()) await sleep(20);
    // The other one is as fast as it can be from now on.
    room.setPace({});
    while (!existsSync(join(directory, 'leases', stopped.next))) await sleep(20);
    process.kill(stopped.number, 'SIGCONT');
    const report = await job;
    expect([report.complete, report.accounted]).toEqual([true, true]);
    const all = Object.values(report.outcomes).reduce((sum, each) => sum + each, 0);
    expect(all).toBe(entriesOf(source));
    same(source, destination);
  });
});

describe('a worker whose run is carried by its connection', () => {
  it('ends when it is not answered any more', async () => {
    const child = spawn(process.execPath, [MAIN, 'worker', '--carried', '--name', 'far', '--', '/nonexistent'], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const plan = { beat: 0.1, looks: 10, workers: 2, terms: {}, parts: [], source: '/s', destination: '/d' };
    const asked: string[] = [];
    const said: string[] = [];
    child.stderr.on('data', (chunk: Buffer) => said.push(chunk.toString()));
    createInterface({ input: child.stdout }).on('line', (line) => {
      const { call, of } = JSON.parse(line);
      asked.push(of);
      if (of === 'plan') child.stdin.write(`${JSON.stringify({ reply: call, value: plan })}\n`);
    });
    const [code] = await once(child, 'exit');
    expect([code, asked.slice(0, 2)]).toEqual([130, ['plan', 'beat']]);
    expect(said.join('')).toContain('the run was not heard of for too long: aborting');
  });

  it('takes away what one before it has left that was killed, and nothing of one that lives', async () => {
    const room = scratch();
    /** One that has asked its first question. */
    const begun = async () => {
      const child = spawn(process.execPath, [MAIN, 'worker', '--carried', '--', '/nonexistent'], {
        stdio: ['pipe', 'pipe', 'ignore'],
        env: { ...process.env, TMPDIR: room },
      });
      onTestFinished(() => void child.kill('SIGKILL'));
      await once(child.stdout, 'data');
      return child;
    };
    const killed = await begun();
    const [left = ''] = readdirSync(room);
    writeFileSync(join(room, left, 'part.1'), 'a list');
    killed.kill('SIGKILL');
    await once(killed, 'exit');
    const first = await begun();
    const [held = '', ...others] = readdirSync(room);
    expect([left === held, others]).toEqual([false, []]);
    const second = await begun();
    expect(readdirSync(room)).toContain(held);
    expect(readdirSync(room)).toHaveLength(2);
    for (const child of [first, second]) {
      child.stdin.end();
      await once(child, 'exit');
    }
    expect(readdirSync(room)).toEqual([]);
  });
});

describe('a file that hangs', () => {
  it('ends one worker after another, and keeps nobody from the rest', async () => {
    const [source, destination, directory] = [scratch(), join(scratch(), 'copy'), join(scratch(), 'run')];
    for (let file = 0; file < 40; file += 1) writeFileSync(join(source, `f${file}`), `${file}`);
    // So large that it has a part of its own, which is the first.
    writeFileSync(join(source, 'z'), Buffer.alloc(8 << 20, 'z'));
    const mount = await mountFaulty(source, 'hang,only=/z');
    if (!mount) return;
    onTestFinished(() => mount.unmount());
    const words = ['--workers', '2', '--parts', '5', '--run-dir', directory, '--stall-timeout', '3'];
    const done = await run(['copy', '--json', ...words, `${mount.point}/`, destination]);
    expect([done.code, readdirSync(destination).length, existsSync(join(destination, 'z'))]).toEqual([23, 40, false]);
    expect(summaryOf(done).failures).toMatchObject([
      { path: join(mount.point, 'z'), message: expect.stringMatching(/ part 1, .* attempts/) },
    ]);
    const logs = readdirSync(join(directory, 'logs')).map((name) =>
      readFileSync(join(directory, 'logs', name), 'utf8'),
    );
    expect(logs.join('')).toMatch(/part 1 is left to others: .*nothing moved for 3 s/);
  });
});
