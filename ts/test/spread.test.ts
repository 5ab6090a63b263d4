/** A copy by several processes: the protocol in all its interleavings, and real runs in which somebody dies. */
import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { type PartState, type Plan, RunDirectory, restore, tagOf } from '../src/ops/spread/directory.js';
import {
  attempt,
  choose,
  type Ending,
  isReady,
  nextAttempt,
  restAfter,
  type Standing,
  type Step,
  Watch,
} from '../src/ops/spread/protocol.js';
import { copyRange, discard, type Range } from '../src/ops/spread/range.js';
import { Rates } from '../src/ops/spread/rates.js';
import type { SpreadOptions } from '../src/ops/spread.js';
import { Ledger } from '../src/ops/transfer/ledger.js';
import { hostsOf } from './rig/hosts.js';
import { slurm } from './rig/slurm.js';
import { lives, mountFaulty, program, type Run, run, scratch } from './rig.js';

// Each of them starts many processes, which take their time on a small shared machine.
vi.setConfig({ testTimeout: 120_000 });

/** What takes longer is for `scripts/test --exhaustive`. */
const EXHAUSTIVE = process.env.BULKHAUL_EXHAUSTIVE === '1';

const MAIN = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));

/** The run directory, as the protocol sees it. */
interface Disk {
  /** PART.ATTEMPT to who has it. */
  leases: Record<string, string>;
  released: Record<string, true>;
  /** PART to what counts. */
  states: Record<string, string>;
}

/** Looks at a part. Answered with how it stands, and whether who has it is taken for lost. */
type Look = { do: 'look'; part: number };
/** Reads all states. Answered with them. */
type Read = { do: 'read' };
type Actor = Generator<Step<string> | Look | Read, unknown, never>;

interface World {
  disk: Disk;
  /** What each actor was answered so far; crashed ones go no further. */
  actors: { name: string; answers: unknown[]; crashed: boolean }[];
  /** PART.ATTEMPT whose work came to its end. */
  worked: Record<string, true>;
  crashes: number;
}

/** A worker: each part until it has its state, or until it has tried so often. */
function* worker(name: string, parts: number, tries: number): Actor {
  const endings: Ending[] = [];
  for (let part = 1; part <= parts; part += 1) {
    for (let more = tries; more > 0; more -= 1) {
      const { standing, lost } = (yield { do: 'look', part }) as { standing: Standing; lost: boolean };
      if (standing.settled) break;
      const next = nextAttempt(standing, lost);
      if (next === undefined) continue;
      endings.push(yield* attempt<string>(part, next) as Generator<Step<string>, Ending, never>);
    }
  }
  return { name, endings };
}

/** The coordinator: looks again until all parts have their states, and counts them. */
function* coordinator(parts: number, tries: number): Actor {
  for (let more = tries; more > 0; more -= 1) {
    const states = (yield { do: 'read' }) as Record<string, string>;
    if (Object.keys(states).length === parts) return { counted: states };
  }
  return { counted: undefined };
}

function standingOf({ leases, released, states }: Disk, part: number): Standing & { holder: string } {
  const attempts = Object.keys(leases).flatMap((lease) =>
    lease.startsWith(`${part}.`) ? [Number(lease.slice(2))] : [],
  );
  const last = Math.max(0, ...attempts);
  return {
    attempt: last,
    released: released[`${part}.${last}`] ?? false,
    settled: states[part] !== undefined,
    holder: leases[`${part}.${last}`] ?? '',
  };
}

/** All worlds that can come of one, in which actors step in any order and up to so many of them crash. */
function explore(
  make: Record<string, () => Actor>,
  rules: { crashes: number; misjudge: boolean },
  seen: (end: World, results: Record<string, unknown>) => void,
) {
  const names = Object.keys(make);
  const pending = ({ name, answers }: World['actors'][number]) => {
    const actor = make[name]?.() as Actor;
    let step = actor.next();
    for (const answer of answers) step = actor.next(answer as never);
    return step;
  };
  const known = new Set<string>();
  const first: World = {
    disk: { leases: {}, released: {}, states: {} },
    actors: names.map((name) => ({ name, answers: [], crashed: false })),
    worked: {},
    crashes: 0,
  };
  const queue = [first];
  let worlds = 0;
  for (let world = queue.pop(); world !== undefined; world = queue.pop()) {
    const key = JSON.stringify(world);
    if (known.has(key)) continue;
    known.add(key);
    worlds += 1;
    const steps = world.actors.map(pending);
    let moved = false;
    for (const [index, actor] of world.actors.entries()) {
      const step = steps[index];
      if (actor.crashed || !step || step.done) continue;
      moved = true;
      const asked = step.value as Step<string> | Look | Read;
      const crashed = (name: string) => world.actors.some((other) => other.name === name && other.crashed);
      const become = (change: (next: World) => unknown, crash = false) => {
        const next = structuredClone(world);
        const self = next.actors[index];
        if (!self) return;
        if (crash) {
          self.crashed = true;
          next.crashes += 1;
        } else self.answers.push(change(next));
        queue.push(next);
      };
      if (world.crashes < rules.crashes) become(() => undefined, true);
      if (asked.do === 'look') {
        const { holder, ...standing } = standingOf(world.disk, asked.part);
        const judgements = rules.misjudge ? [false, true] : [crashed(holder)];
        for (const lost of judgements) become(() => ({ standing, lost: lost && standing.attempt > 0 }));
      } else become((next) => perform(next, asked, actor.name));
    }
    if (moved) continue;
    const results = Object.fromEntries(
      world.actors.map(({ name, crashed }, index) => [name, crashed ? undefined : steps[index]?.value]),
    );
    seen(world, results);
  }
  return worlds;
}

function perform({ disk, worked }: World, step: Step<string> | Read, name: string): unknown {
  if (step.do === 'read') return { ...disk.states };
  const lease = `${step.part}.${'attempt' in step ? step.attempt : 0}`;
  switch (step.do) {
    case 'lease':
      if (disk.leases[lease] !== undefined) return false;
      disk.leases[lease] = name;
      return true;
    case 'leased':
      return disk.leases[lease] !== undefined;
    case 'settled':
      return disk.states[step.part] !== undefined;
    case 'work':
      worked[lease] = true;
      return `${lease} ${name}`;
    case 'settle':
      if (disk.states[step.part] !== undefined) return false;
      disk.states[step.part] = step.outcome;
      return true;
    case 'release':
      disk.released[lease] = true;
      return undefined;
  }
}

/** What holds of any end. */
function judge(world: World, results: Record<string, unknown>, parts: number): void {
  const { disk, worked } = world;
  // Nothing is lost: whoever comes now can bring each part to its state.
  for (let part = 1; part <= parts; part += 1) {
    const standing = standingOf(disk, part);
    if (!standing.settled) expect(nextAttempt(standing, true)).toBe(standing.attempt + 1);
  }
  // What counts is the work of an attempt that came to its end, and that had the lease.
  for (const [part, state] of Object.entries(disk.states)) {
    const [lease = '', name] = state.split(' ');
    expect(lease.startsWith(`${part}.`) && worked[lease]).toBe(true);
    expect(disk.leases[lease]).toBe(name);
  }
  // Each that says it is the one is the one.
  const settled = Object.values(results).flatMap((result) =>
    result && typeof result === 'object' && 'endings' in result
      ? (result as { endings: Ending[] }).endings.filter((ending) => ending === 'settled')
      : [],
  );
  expect(settled.length).toBeLessThanOrEqual(Object.keys(disk.states).length);
  // What was counted stays what it was.
  const { counted } = (results.coordinator ?? {}) as { counted?: Record<string, string> };
  if (counted) expect(counted).toEqual(disk.states);
}

describe('the protocol', () => {
  it('gives a part one state, whoever dies or is wrongly thought lost', () => {
    let ends = 0;
    const make = {
      a: () => worker('a', 1, 2),
      b: () => worker('b', 1, 2),
      coordinator: () => coordinator(1, 2),
    };
    const worlds = explore(make, { crashes: 2, misjudge: true }, (world, results) => {
      ends += 1;
      judge(world, results, 1);
    });
    expect(worlds).toBeGreaterThan(1000);
    expect(ends).toBeGreaterThan(100);
  });

  it('has one at work on a part where only the dead are thought lost, and nobody works twice', () => {
    const make = {
      a: () => worker('a', 2, 1),
      b: () => worker('b', 2, 1),
      coordinator: () => coordinator(2, 2),
    };
    explore(make, { crashes: 1, misjudge: false }, (world, results) => {
      judge(world, results, 2);
      for (const part of [1, 2]) {
        const works = Object.keys(world.worked).filter((lease) => lease.startsWith(`${part}.`));
        expect(works.length).toBeLessThanOrEqual(1 + world.crashes);
      }
    });
  });

  it('would be seen to fail: an attempt that does not make its state exclusively is found', () => {
    const careless = (name: string): Actor =>
      (function* () {
        const { standing, lost } = (yield { do: 'look', part: 1 }) as unknown as { standing: Standing; lost: boolean };
        const next = nextAttempt(standing, lost);
        if (next === undefined) return { name, endings: [] };
        yield { do: 'lease', part: 1, attempt: next };
        const outcome = (yield { do: 'work', part: 1, attempt: next }) as unknown as string;
        return { name, endings: (yield { do: 'settle', part: 1, attempt: next, outcome }) ? ['settled'] : ['settled'] };
      })() as Actor;
    const make = { a: () => careless('a'), b: () => careless('b') };
    const found = () => explore(make, { crashes: 0, misjudge: true }, (world, results) => judge(world, results, 1));
    expect(found).toThrow();
  });

  it('takes a worker for lost after so many looks without a beat, and no sooner', () => {
    const watch = new Watch(3);
    const looks = [1, 1, 1, 2, 2, 2, 2, undefined, undefined, undefined, undefined].map((beats) =>
      watch.look('w', beats),
    );
    expect(looks).toEqual([false, false, false, false, false, false, true, false, false, false, true]);
    expect(watch.look('another', 7)).toBe(false);
  });

  it('begins a file that is in ranges when each of these has its state', () => {
    const ranges: readonly [number, number] = [1, 2];
    /** The parts one after the other, each as often as it may be tried: the third is the file. */
    function* ranger(name: string): Actor {
      for (const part of [1, 2, 3]) {
        const others: boolean[] = [];
        for (const other of part === 3 ? ranges : [])
          others.push(((yield { do: 'look', part: other }) as { standing: Standing }).standing.settled);
        if (part === 3 && !isReady({ ranges }, (range) => others[range - 1] === true)) continue;
        const { standing, lost } = (yield { do: 'look', part }) as { standing: Standing; lost: boolean };
        const next = nextAttempt(standing, lost);
        if (next !== undefined) yield* attempt<string>(part, next) as Generator<Step<string>, Ending, never>;
      }
      return { name, endings: [] };
    }
    let published = 0;
    explore({ a: () => ranger('a'), b: () => ranger('b') }, { crashes: 0, misjudge: false }, (world, results) => {
      judge(world, results, 3);
      const { states } = world.disk;
      if (states[3] === undefined) return;
      published += 1;
      expect([states[1], states[2]]).not.toContain(undefined);
    });
    expect(published).toBeGreaterThan(0);
    expect(isReady({}, () => false)).toBe(true);
  });

  it('lets those rest longer who are more than can be of use', () => {
    const run = { beat: 6, looks: 10, workers: 100 };
    const rests = (index: number) => {
      const all = [restAfter(0, run, { index, open: 12 })];
      while (all.length < 12) all.push(restAfter(all.at(-1) ?? 0, run, { index, open: 12 }));
      return all;
    };
    expect(rests(2).slice(-7)).toEqual(Array(7).fill(6));
    expect([rests(3)[0], rests(3).at(-1)]).toEqual([0.25, 60]);
  });

  it('lets workers begin with shares of their own, the largest first', () => {
    const free = [1, 2, 3, 4, 5, 6].map((part) => [part, 1] as const);
    const parts = (index: number, of = free) => choose(of, index, 3).map(([part]) => part);
    expect([0, 1, 2].map((index) => parts(index))).toEqual([
      [1, 4],
      [2, 5],
      [3, 6],
    ]);
    expect(parts(0, free.slice(1, 3))).toEqual([2, 3]);
  });
});

describe('how far a spread copy is', () => {
  it.each<
    [string, number, number, Pick<SpreadOptions, 'verify' | 'removeSources' | 'removeExtra'> & { manifest?: boolean }]
  >([
    ['a copy', 1, 1, {}],
    ['a proof', 2, 1, { verify: true }],
    ['a move', 3, 3, { removeSources: true }],
    ['a proof and a move', 4, 3, { verify: true, removeSources: true }],
    ['a move with a manifest', 4, 3, { removeSources: true, manifest: true }],
    ['a manifest', 2, 2, { manifest: true }],
    ['a removal of what is extra', 1, 2, { removeExtra: true }],
  ])('counts all bytes and entries of %s', async (_, reads, passes, { manifest, ...options }) => {
    const [source, destination] = [scratch(), join(scratch(), 'copy')];
    const sizes = [100_000, 70_000, 5];
    for (const size of sizes) writeFileSync(join(source, `f${size}`), Buffer.alloc(size, 'x'));
    const job = spread({
      ...{ ...options, source: `${source}/`, destination, workers: 2, directory: join(scratch(), 'run') },
      ...{ program: [process.execPath, MAIN], patience: 36_000 },
      ...(manifest && { manifest: { path: join(scratch(), 'M') } }),
    });
    expect((await job).complete).toBe(true);
    const { expected, readBytes, workedEntries } = job.snapshot();
    const [bytes, entries] = [100_000 + 70_000 + 5, sizes.length + 1];
    expect(expected).toMatchObject({ bytes, entries, toRead: bytes * reads, toDo: entries * passes });
    expect([readBytes, workedEntries]).toEqual([bytes * reads, entries * passes]);
  });
});

describe('who watches a spread copy', () => {
  it('takes the making of the plan for no part of the work, and its end for none', async () => {
    const [source, destination] = [scratch(), join(scratch(), 'copy')];
    for (const name of ['a', 'b', 'c']) writeFileSync(join(source, name), name);
    const job = spread({
      ...{ source: `${source}/`, destination, workers: 1, directory: join(scratch(), 'run') },
      program: [process.execPath, MAIN],
    });
    let over = false;
    const ended = job.finally(() => (over = true));
    const wrong: string[] = [];
    for (let before = ''; !over; await setImmediate()) {
      const { phase, doneEntries, expected } = job.snapshot();
      const told = phase === 'scanning' && (doneEntries > 0 || expected !== undefined);
      if (told || (before === 'done' && phase !== before)) wrong.push(phase);
      before = phase;
    }
    expect([(await ended).complete, wrong]).toEqual([true, []]);
  });

  it('hears of its workers long before their next sign of life is due', async () => {
    const [source, destination, directory] = [scratch(), join(scratch(), 'copy'), join(scratch(), 'run')];
    for (const name of ['a', 'b', 'c']) writeFileSync(join(source, name), Buffer.alloc(100_000, name));
    const job = spread({
      ...{ source: `${source}/`, destination, workers: 1, parts: 1, directory },
      // So slow that it never ends by itself, and so patient that nobody beats again.
      ...{ program: [process.execPath, MAIN], patience: 1_000_000, limits: { bytes: 100 } },
    });
    let over = false;
    const ended = job.finally(() => (over = true));
    const told = () => job.snapshot().readBytes;
    // Whoever comes when its worker is at work hears of it, too.
    const leases = join(directory, 'leases');
    while (!over && !(existsSync(leases) && readdirSync(leases).length > 0)) await sleep(20);
    while (told() === 0 && !over) await sleep(20);
    const [read, was] = [told(), over];
    job.cancel(true);
    expect([read > 0, was, (await ended).interrupted]).toEqual([true, false, true]);
  });
});

describe('what hosts do', () => {
  it('is told by their states and their beats, each byte once', () => {
    const rates = new Rates();
    const beat = (host: string, part: number, copiedBytes: number) => ({ host, part, copiedBytes });
    rates.look([beat('a', 1, 0), beat('b', 2, 0), beat('b', 3, 0)], 0);
    rates.count({ part: 1, host: 'a', copiedBytes: 5000 });
    // Its worker has not told yet that it has another part.
    const beats = [beat('a', 1, 4000), beat('b', 2, 1000), beat('b', 3, 2000)];
    rates.look(beats, 10_000);
    expect(rates.hosts(beats)).toEqual([
      { host: 'a', workers: 1, parts: 1, copiedBytes: 5000, rate: 500 },
      { host: 'b', workers: 2, parts: 0, copiedBytes: 3000, rate: 300 },
    ]);
    // What was long ago is no part of it; who has gone stays with what it has done.
    for (const at of [20, 30, 40]) rates.look([], at * 1000);
    rates.count({ part: 2, host: 'b', copiedBytes: 8000 });
    rates.look([], 50_000);
    expect(rates.hosts([])).toEqual([
      { host: 'a', workers: 0, parts: 1, copiedBytes: 5000, rate: 0 },
      { host: 'b', workers: 0, parts: 1, copiedBytes: 8000, rate: 400 },
    ]);
  });
});

/** A tree with what there is: modes, times, links, holes, names of every kind. */
function tree(): string {
  const root = join(scratch(), 'source');
  mkdirSync(join(root, 'empty'), { recursive: true });
  for (const directory of ['a', 'b/c', 'b/d', 'private']) {
    mkdirSync(join(root, directory), { recursive: true });
    for (let file = 0; file < 12; file += 1) writeFileSync(join(root, directory, `f${file}`), `${directory} ${file}`);
  }
  for (const name of ['with space', 'new\nline', '-rf', ' ', 'é\u2028x']) writeFileSync(join(root, name), name);
  writeFileSync(Buffer.concat([Buffer.from(`${root}/`), Buffer.from([0xff, 0xfe])]), 'bytes');
  linkSync(join(root, 'a/f0'), join(root, 'b/c/linked'));
  symlinkSync('../a', join(root, 'b/link'));
  execFileSync('mkfifo', [join(root, 'fifo')]);
  execFileSync('chmod', ['700', join(root, 'private')]);
  execFileSync('chmod', ['555', join(root, 'b/d')]);
  for (const path of ['a/f1', 'a', 'b/c', 'b', 'empty', '.']) utimesSync(join(root, path), 1e9, 1e9);
  return root;
}

/** What rsync would still have to do. */
function differences(source: string, destination: string): string {
  const args = ['-aHn', '--delete', '--checksum', '--itemize-changes', '--omit-link-times', '--exclude=.bh-*'];
  return execFileSync('rsync', [...args, `${source}/`, `${destination}/`]).toString();
}

const rsyncIsHere = (() => {
  try {
    execFileSync('rsync', ['--version']);
    return true;
  } catch {
    console.log('skip: there is no rsync to compare with');
    return false;
  }
})();

function same(source: string, destination: string): void {
  if (rsyncIsHere) expect(differences(source, destination)).toBe('');
}

/** The last line of JSON. */
const summaryOf = ({ stdout }: Run) => JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}');

const entriesOf = (root: string) => Number(execFileSync('sh', ['-c', 'find "$1" -printf x | wc -c', 'sh', root]));

/** Sources of this project: nobody writes to them, so that what was read of them once holds. */
const SETTLED = fileURLToPath(new URL('../../crates/sys/src', import.meta.url));

/** What went wrong, in any order. */
const errorsOf = ({ stdout }: Run) =>
  stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
    .flatMap(({ type, kind, path, pathBase64 }) => (type === 'error' ? [`${kind} ${pathBase64 ?? path}`] : []))
    .sort();

describe('manifest and verify --workers', () => {
  it('write what one process writes, by any names and in any form', async () => {
    const source = tree();
    const state = scratch();
    for (const args of [
      [source],
      [`${source}/`, '--exclude', 'b/c'],
      [source, '--format', 'jsonl', '--algorithm', 'md5', '--algorithm', 'blake3'],
    ]) {
      const alone = await run(['manifest', '--no-journal', ...args]);
      const spread = await run(['manifest', '--workers', '3', '--parts', '7', '--state-dir', state, ...args]);
      expect(alone.stdout).not.toBe('');
      expect([spread.code, spread.stdout]).toEqual([alone.code, alone.stdout]);
    }
  });

  it('find what one process finds', async () => {
    const [source, state] = [tree(), scratch()];
    const sums = join(state, 'sums.jsonl');
    expect((await run(['manifest', '--format', 'jsonl', '-o', sums, `${source}/`])).code).toBe(0);
    writeFileSync(join(source, 'a/f3'), 'A 3');
    rmSync(join(source, 'a/f4'));
    rmSync(join(source, 'private'), { recursive: true });
    writeFileSync(join(source, 'b/c/more'), 'extra');
    rmSync(join(source, 'a/f5'));
    mkdirSync(join(source, 'a/f5'));
    const args = ['verify', '--json', '--in', source, sums];
    const alone = await run([...args, '--no-journal']);
    const spread = await run([...args, '--workers', '2', '--parts', '5', '--state-dir', state]);
    expect(errorsOf(alone).length).toBeGreaterThan(15);
    expect(errorsOf(spread)).toEqual(errorsOf(alone));
    const [one, other] = [summaryOf(alone), summaryOf(spread)];
    expect([spread.code, other.outcomes, other.found]).toEqual([alone.code, one.outcomes, one.found]);
  });

  it('read each file once, whoever does it', async () => {
    const [directory, sums] = [join(scratch(), 'run'), join(scratch(), 'sums')];
    const sizes = execFileSync('find', [SETTLED, '-type', 'f', '-printf', '%s\\n'])
      .toString()
      .trim()
      .split('\n')
      .map(Number);
    const files = sizes.length;
    const crew = ['--workers', '2', '--parts', '4', '--no-journal', '--run-dir'];
    const made = await run(['manifest', '--json', ...crew, directory, '-o', sums, `${SETTLED}/`]);
    const bytes = sizes.reduce((sum, size) => sum + size);
    expect([made.code, summaryOf(made).hashedBytes]).toEqual([0, bytes]);
    const named = await run(['manifest', '--json', ...crew, `${directory}.1`, SETTLED]);
    expect([named.code, summaryOf(named).hashedBytes]).toEqual([0, bytes]);
    const verified = await run(['verify', '--json', ...crew, `${directory}.2`, '--in', SETTLED, sums]);
    expect([verified.code, verified.stderr]).toEqual([0, '']);
    const parts = readdirSync(join(`${directory}.2`, 'states'));
    const states = parts.map((part) => JSON.parse(readFileSync(join(`${directory}.2`, 'states', part), 'utf8')));
    expect(states.reduce((sum: number, { verifiedFiles }) => sum + verifiedFiles, 0)).toBe(files);
    expect(summaryOf(verified).verifiedFiles).toBe(files);
  });

  it('tell all though no worker works', async () => {
    const [source, directory] = [tree(), scratch()];
    const [one, other] = [join(directory, 'one'), join(directory, 'other')];
    const crew = ['--workers', '2', '--host-program', 'false', '--state-dir', scratch()];
    expect((await run(['manifest', '--no-journal', '--format', 'jsonl', '-o', one, source])).code).toBe(0);
    const spread = await run(['manifest', '--json', ...crew, '--format', 'jsonl', '-o', other, source]);
    expect([spread.code, readFileSync(other, 'utf8')]).toEqual([0, readFileSync(one, 'utf8')]);
    const notes: { message: string }[] = summaryOf(spread).notes;
    expect(notes.map(({ message }) => message).join()).toContain('what is in them is read here');
  });

  it.each(['manifest', 'verify'])('%s leaves to another what a worker was killed at', async (verb) => {
    const [source, directory, go] = [tree(), join(scratch(), 'run'), join(scratch(), 'go')];
    writeFileSync(join(source, 'b/held'), 'nobody reads this before it may');
    const sums = join(scratch(), 'sums');
    expect((await run(['manifest', '--no-journal', '-a', 'md5', '-o', sums, `${source}/`])).code).toBe(0);
    const mount = await mountFaulty(source, `hang,until=${go},only=/held`);
    if (!mount) return;
    onTestFinished(mount.unmount);
    const [hung, made] = [mount.hangs(), join(scratch(), 'made')];
    const words = verb === 'verify' ? ['--in', mount.point, sums] : ['-a', 'md5', '-o', made, `${mount.point}/`];
    const crew = ['--workers', '1', '--parts', '4', '--no-journal', '--run-dir', directory];
    const running = run([verb, '--json', ...crew, ...words]);
    // It is the only one, and it is at that file.
    await hung;
    const room = new RunDirectory(directory);
    const [name = ''] = room.workers().keys();
    process.kill(room.beatOf(name)?.process ?? Number.NaN, 'SIGKILL');
    writeFileSync(go, '');
    const done = await running;
    const notes: { message: string }[] = summaryOf(done).notes;
    expect([done.code, notes.map(({ message }) => message)]).toEqual([
      0,
      [expect.stringMatching(/^worker .* ended by SIGKILL$/)],
    ]);
    const again = readdirSync(join(directory, 'leases')).flatMap((lease) => /^(\d+)[.]2$/.exec(lease)?.[1] ?? []);
    expect(again.map((part) => room.state(Number(part)).attempt)).toEqual([2]);
    if (verb === 'manifest') expect(readFileSync(made, 'utf8')).toBe(readFileSync(sums, 'utf8'));
    else {
      const alone = await run(['verify', '--json', '--no-journal', '--in', source, sums]);
      expect([alone.code, summaryOf(alone).outcomes]).toEqual([0, summaryOf(done).outcomes]);
    }
  });

  it('refuse what one process has to do', async () => {
    const [source, state] = [tree(), scratch()];
    for (const [args, why] of [
      [['manifest', source, state], 'More than one SRC'],
      [['manifest', '--update', '--format', 'jsonl', '-o', join(state, 'x'), source], '--update'],
      [['verify', '--quick', join(state, 'x')], '--quick'],
      [['verify', '--repair-from', source, '--in', state, join(state, 'x')], '--repair-from'],
    ] as const) {
      const { code, stderr } = await run([...args, '--workers', '2', '--state-dir', state]);
      expect([code, stderr]).toEqual([2, expect.stringContaining(`${why} and --workers exclude each other`)]);
    }
    const alone = await run(['verify', '--parts', '3', join(state, 'x')]);
    expect([alone.code, alone.stderr]).toEqual([2, expect.stringContaining('--parts goes with --workers')]);
  });
});

/** All names below a directory, with what they have. */
const contentOf = (root: string) =>
  execFileSync('sh', [
    '-c',
    'cd "$1" && find . -type f -print0 | sort -z | xargs -0r sha256sum -z',
    'sh',
    root,
  ]).toString();

describe('remove and compress --workers', () => {
  it('remove what one process removes', async () => {
    for (const rules of [[], ['--exclude', '/source/b/c'], ['--exclude', 'f1']]) {
      const [one, other] = [tree(), tree()];
      const alone = await run(['remove', '--force', '--json', '--no-journal', ...rules, one]);
      const crew = ['--workers', '3', '--parts', '7', '--state-dir', scratch()];
      const spread = await run(['remove', '--force', '--json', ...crew, ...rules, other]);
      expect([alone.code, spread.code, spread.stderr]).toEqual([0, 0, '']);
      const [expected, found] = [summaryOf(alone), summaryOf(spread)];
      for (const key of ['outcomes', 'found', 'files', 'directories', 'skipped', 'accounted', 'complete'])
        expect([key, found[key]]).toEqual([key, expected[key]]);
      const left = [one, other].map((root) => (existsSync(root) ? readdirSync(root, { recursive: true }).sort() : []));
      expect(left[1]).toEqual(left[0]);
      expect(left[0]?.length === 0).toBe(rules.length === 0);
    }
  });

  it('compress what one process compresses', async () => {
    const made = ['one', 'other'].map((name) => {
      const root = join(scratch(), name);
      mkdirSync(join(root, 'd/e'), { recursive: true });
      for (let file = 0; file < 20; file += 1)
        for (const end of ['tsv', 'txt', 'log'])
          writeFileSync(join(root, file % 2 ? 'd/e' : 'd', `f${file}.${end}`), `${file} ${end}\n`.repeat(500 + file));
      writeFileSync(join(root, 'small.txt'), 'x');
      symlinkSync('small.txt', join(root, 'link'));
      linkSync(join(root, 'd/f0.txt'), join(root, 'd/hard.txt'));
      return root;
    });
    const [one = '', other = ''] = made;
    const args = ['--json', '--ext', 'tsv', '--ext', 'txt', '--exclude', 'f3.txt'];
    const alone = await run(['compress', '--no-journal', ...args, one]);
    const spread = await run(['compress', '--workers', '2', '--parts', '6', '--state-dir', scratch(), ...args, other]);
    expect([alone.code, spread.code, spread.stderr]).toEqual([0, 0, '']);
    expect(contentOf(other)).toBe(contentOf(one));
    const [expected, found] = [summaryOf(alone), summaryOf(spread)];
    for (const key of [
      'outcomes',
      'files',
      'directories',
      'found',
      'verifiedFiles',
      'verifiedBytes',
      'conversions',
      'complete',
    ])
      expect([key, found[key]]).toEqual([key, expected[key]]);
    // What rules leave out is in no part.
    const { excluded, ...others } = expected.skipped;
    expect([excluded, found.skipped]).toEqual([1, others]);
  });

  it('count what a worker had done that died', async () => {
    const source = join(scratch(), 'source');
    mkdirSync(source);
    for (let file = 0; file < 10; file += 1) writeFileSync(join(source, `f${file}`), `${file}\n`.repeat(1000));
    const dies = (marker: string, deed: string) =>
      deedful(`const { readFileSync } = await import('node:fs');
        const { gzipSync } = await import('node:zlib');
        if (!existsSync('${marker}')) {
          writeFileSync('${marker}', '');
          take('1.1');
          const path = join('${source}', readFileSync(join(directory, 'parts/1'), 'utf8').split('\\0')[0]);
          ${deed}
          rmSync(path);
          die();
          await new Promise(() => undefined);
        }`);
    const crew = { workers: 1, parts: 3, patience: 36_000 };
    const packing = { operation: 'compress' as const, source, contents: false, inUse: [] };
    const archive = 'writeFileSync(path + ".gz", gzipSync(readFileSync(path)));';
    const packed = await spreadTask({
      ...{ ...crew, task: packing, directory: join(scratch(), 'run') },
      program: dies(join(scratch(), 'died'), archive),
    });
    expect([packed.complete, packed.accounted, packed.outcomes.copied]).toEqual([true, true, 10]);
    expect(readdirSync(source)).toEqual(Array.from({ length: 10 }, (_, file) => `f${file}.gz`));
    expect(packed.conversions).toMatchObject([{ extension: '', files: 9 }]);
    expect(packed.notes).toContainEqual(expect.objectContaining({ kind: 'earlier', count: 1 }));
    const removal = { operation: 'remove' as const, source, contents: false, inUse: [], protect: [] };
    const removed = await spreadTask({
      ...{ ...crew, task: removal, directory: join(scratch(), 'run') },
      program: dies(join(scratch(), 'died'), ''),
    });
    expect([removed.complete, removed.accounted, removed.outcomes.removed]).toEqual([true, true, 11]);
    expect(existsSync(source)).toBe(false);
  });

  it('remove of a list only what it names in the tree, and nothing that a symlink leads to', async () => {
    const [root, list] = [tree(), join(scratch(), 'list')];
    const many = entriesOf(root);
    // `b/link` leads to `a`.
    writeFileSync(list, ['a/f1', 'b/link', 'b/link/f2', 'b/c/gone', 'gone/x', ''].join('\0'));
    const task = { operation: 'remove' as const, source: root, contents: false, inUse: [], protect: [] };
    const job = await partJob(task, list, { own: '', others: [] }, {});
    const { outcomes, failures } = await job.run();
    expect([outcomes.removed, failures, entriesOf(root)]).toEqual([2, [], many - 2]);
    expect([existsSync(join(root, 'a/f1')), existsSync(join(root, 'a/f2'))]).toEqual([false, true]);
  });

  it('remove all though no worker works', async () => {
    const source = tree();
    const many = entriesOf(source);
    const crew = ['--by-parts', '--host-program', 'false', '--state-dir', scratch()];
    const { code, stdout } = await run(['remove', '--force', '--json', ...crew, source]);
    expect([code, summaryOf({ stdout } as Run).outcomes.removed, existsSync(source)]).toEqual([0, many, false]);
  });

  it('refuse what one process has to do, and what is protected, before anything goes', async () => {
    const [source, state] = [tree(), scratch()];
    for (const [args, why] of [
      [['remove', source, state], 'More than one PATH and --workers exclude'],
      [['remove', '--max-delete', '5', source], '--max-delete and --workers exclude'],
      [['compress', '--files-from', '/dev/null', source], 'A list of names and --workers exclude'],
      [['remove', '--run-dir', join(source, 'run'), source], 'name another one'],
      [['compress', '--run-dir', join(source, 'run'), source], 'name another one'],
      [['remove', join(source, 'b/link')], 'is no directory'],
      [['remove', `${source}/a/.`], 'is removed by its own name'],
    ] as const) {
      const { code, stderr } = await run([
        ...args,
        '--workers',
        '2',
        '--state-dir',
        state,
        ...(args[0] === 'remove' ? ['--force'] : []),
      ]);
      expect([code, stderr]).toEqual([2, expect.stringContaining(why)]);
    }
    const home = await program(
      process.execPath,
      [MAIN, 'remove', '--force', '--workers', '2', '--state-dir', state, source],
      {
        env: { ...process.env, HOME: join(source, 'a') },
      },
    );
    expect([home.code, home.stderr]).toEqual([3, expect.stringContaining('above the home directory')]);
    expect(existsSync(join(source, 'a/f0'))).toBe(true);
    const gone = await run(['remove', '--force', '--workers', '2', '--state-dir', state, join(state, 'nothing')]);
    expect(gone.code).toBe(0);
  });
});

describe('copy --workers', () => {
  it('copies as one process does, counts each entry once, and leaves no run behind', async () => {
    const [source, destination, state] = [tree(), join(scratch(), 'copy'), scratch()];
    const args = ['copy', '--json', '--workers', '3', '--parts', '9', '--state-dir', state, `${source}/`, destination];
    const first = await run(args);
    expect([first.code, first.stderr]).toEqual([0, '']);
    const { found, outcomes, directories, complete } = summaryOf(first);
    const sum = (counts: Record<string, number>) => Object.values(counts).reduce((all, each) => all + each, 0);
    expect([complete, sum(found), sum(outcomes)]).toEqual([true, entriesOf(source), entriesOf(source)]);
    expect([outcomes.linked, directories.made]).toEqual([1, Number(found.directory)]);
    same(source, destination);
    const [job = ''] = readdirSync(join(state, 'jobs'));
    expect(readdirSync(join(state, 'jobs', job)).sort()).toEqual(['journal.jsonl', 'lease']);
    const again = summaryOf(await run(args));
    // A look at how the destination takes names touches it.
    const { skipped, metadata } = again.outcomes;
    expect([skipped + metadata, again.copiedBytes]).toEqual([entriesOf(source), 0]);
  });

  it('copies SRC into DEST, or what is in it', async () => {
    const [source, destination] = [tree(), scratch()];
    expect((await run(['copy', '--workers', '2', source, destination])).code).toBe(0);
    same(source, join(destination, 'source'));
  });

  it('removes what is extra when all is there, and copies what came late', async () => {
    const [source, destination] = [tree(), join(scratch(), 'copy')];
    mkdirSync(join(destination, 'gone/deep'), { recursive: true });
    writeFileSync(join(destination, 'gone/deep/x'), 'x');
    const { code, stdout } = await run(['copy', '--json', '--workers', '2', '--delete', `${source}/`, destination]);
    expect([code, JSON.parse(stdout.trim().split('\n').at(-1) ?? '').outcomes.removed]).toEqual([0, 3]);
    same(source, destination);
  });

  it('removes nothing past --max-delete', async () => {
    const [source, destination] = [tree(), join(scratch(), 'copy')];
    mkdirSync(destination);
    for (const name of ['x', 'y']) writeFileSync(join(destination, name), name);
    const words = ['copy', '--workers', '2', '--delete', '--max-delete', '1', `${source}/`, destination];
    const { code, stderr } = await run(words);
    expect([code, existsSync(join(destination, 'x')), existsSync(join(destination, 'a/f1'))]).toEqual([3, true, true]);
    expect(stderr).toContain('NOT REMOVED');
  });

  it('makes nothing in a dry run, and prints the parts and the commands', async () => {
    const [source, destination, state] = [tree(), join(scratch(), 'copy'), scratch()];
    const words = ['copy', '-n', '--workers', '2', '--parts', '4', '--state-dir', state, `${source}/`, destination];
    const { code, stdout, stderr } = await run(words);
    expect([code, stdout.match(/^part \d: /gm)?.length]).toEqual([0, 4]);
    expect(stderr.match(/ worker --name /g)).toHaveLength(2);
    expect([existsSync(destination), readdirSync(state)]).toEqual([false, []]);
  });

  it.each([['--require-space'], ['--on-collision', 'last'], ['--stall-timeout', '9']])(
    'is refused with %s',
    async (...words) => {
      const { code, stderr } = await run(['copy', '--workers', '2', ...words, 'a', 'b'], { cwd: scratch() });
      expect([code, stderr]).toEqual([2, expect.stringContaining(`${words[0]} and --workers exclude each other`)]);
    },
  );

  it('is refused for what is no directory, for more than one SRC, and its options without it', async () => {
    const cwd = scratch();
    writeFileSync(join(cwd, 'f'), '');
    const refused = async (...words: string[]) => (await run(['copy', ...words], { cwd })).stderr;
    expect(await refused('--workers', '2', 'f', 'd')).toContain("is no directory: it can't be divided");
    expect(await refused('--workers', '2', 'f', 'g', 'd')).toContain('More than one SRC');
    expect(await refused('--run-dir', 'r', 'f', 'd')).toContain('--run-dir goes with --workers');
    for (const absent of ['absent', 'absent/', 'f/absent']) {
      const alone = await run(['copy', absent, 'd'], { cwd });
      const { code, stderr } = await run(['copy', '--workers', '2', absent, 'd'], { cwd });
      expect([code, stderr]).toEqual([alone.code, alone.stderr]);
    }
    expect(await refused('--workers', '2', '--no-journal', 'a/', 'd')).toContain('name one with --run-dir');
    expect(existsSync(join(cwd, 'd'))).toBe(false);
  });

  it('moves: nothing goes from the source before all is there and proved', async () => {
    const [source, destination, state] = [tree(), join(scratch(), 'copy'), scratch()];
    const kept = join(scratch(), 'kept');
    execFileSync('cp', ['-a', source, kept]);
    const entries = entriesOf(source);
    const words = ['copy', '--json', '--workers', '2', '--move', '--state-dir', state];
    // One that can not come.
    mkdirSync(join(destination, 'a/f3/full'), { recursive: true });
    const held = await run([...words, `${source}/`, destination]);
    expect([held.code, summaryOf(held).withheld, entriesOf(source)]).toEqual([
      23,
      [{ kind: 'failed', what: 'sources', message: 'the source stays: not everything was copied' }],
      entries,
    ]);
    rmSync(join(destination, 'a/f3'), { recursive: true });
    const [job = ''] = readdirSync(join(state, 'jobs'));
    const moved = await run(['resume', '--json', '--state-dir', state, job]);
    expect(moved.stderr).toBe('');
    const { accounted, removedSources, outcomes } = summaryOf(moved);
    const sum = Object.values(outcomes as Record<string, number>).reduce((all, each) => all + each, 0);
    expect([moved.code, accounted, removedSources, sum]).toEqual([0, true, entries, entries]);
    expect(existsSync(source)).toBe(false);
    same(kept, destination);
  });

  it('writes the manifest of all, that of one process', async () => {
    const [source, destination, cwd] = [tree(), join(scratch(), 'copy'), scratch()];
    const one = await run(['copy', '--format', 'jsonl', '--manifest', 'one', `${source}/`, join(scratch(), 'copy')], {
      cwd,
    });
    const many = await run(
      ['copy', '--workers', '2', '--format', 'jsonl', '--manifest', 'many', `${source}/`, destination],
      { cwd },
    );
    expect([one.code, many.code]).toEqual([0, 0]);
    expect(readFileSync(join(cwd, 'many'), 'latin1')).toBe(readFileSync(join(cwd, 'one'), 'latin1'));
  });

  it('copies what a list names, as one process does', async () => {
    const source = tree();
    const names = ['a/f1', './b/c/', 'b//link', 'b/c/f2', 'empty', 'new\nline', 'a/f1', 'private/f0', ''];
    const bytes = Buffer.concat([Buffer.from(names.join('\0')), Buffer.from([0xff, 0xfe])]);
    const list = join(scratch(), 'list');
    writeFileSync(list, bytes);
    const [one, many] = [join(scratch(), 'one'), join(scratch(), 'many')];
    const words = (to: string) => ['--files-from0', list, `${source}/`, to];
    const alone = summaryOf(await run(['copy', '--json', ...words(one)]));
    const { code, stdout } = await run(['copy', '--json', '--workers', '2', '--parts', '3', ...words(many)]);
    const spread = JSON.parse(stdout.trim().split('\n').at(-1) ?? '');
    expect([code, spread.found, spread.outcomes]).toEqual([0, alone.found, alone.outcomes]);
    expect(differences(one, many)).toBe('');
    // From standard input, by lines; what is missing is told and costs nothing else.
    const third = join(scratch(), 'third');
    const lines = ['copy', '--json', '--workers', '2', '--files-from', '-', `${source}/`];
    const missing = await run([...lines, third], { input: 'a/f1\nnowhere/x\nempty' });
    const judged = summaryOf(
      await run(['copy', '--json', '--files-from', '-', `${source}/`, join(scratch(), 'x')], {
        input: 'a/f1\nnowhere/x\nempty',
      }),
    );
    const { failureKinds, accounted } = summaryOf(missing);
    expect([missing.code, failureKinds, accounted]).toEqual([judged.exitCode, judged.failureKinds, true]);
    expect([existsSync(join(third, 'a/f1')), existsSync(join(third, 'empty'))]).toEqual([true, true]);
    for (const outside of ['../x', '/a', 'a/../../x']) {
      const out = await run([...lines, join(scratch(), 'x')], { input: `a/f1\n${outside}\n` });
      expect([out.code, out.stdout]).toEqual([2, expect.stringContaining('is not below')]);
    }
    const none = await run([...lines, join(scratch(), 'x')], { input: '' });
    expect([none.code, summaryOf(none).found.directory]).toEqual([0, 1]);
    const dry = await run(['copy', '-n', '--workers', '2', ...words(join(scratch(), 'x'))]);
    expect([dry.code, dry.stderr]).toEqual([0, expect.stringContaining('dry run')]);
    const extra = await run(['copy', '--workers', '2', '--delete', ...words(many)]);
    expect([extra.code, extra.stderr]).toEqual([2, expect.stringContaining('extra entries')]);
  });

  it('shares limits and threads out', async () => {
    const [source, directory] = [tree(), join(scratch(), 'run')];
    const words = [
      '--workers',
      '4',
      '--jobs',
      '8',
      '--bwlimit',
      '400m',
      '--iops-limit',
      '4000',
      '--run-dir',
      directory,
    ];
    expect((await run(['copy', ...words, `${source}/`, join(scratch(), 'copy')])).code).toBe(0);
    expect(new RunDirectory(directory).pace()).toMatchObject({
      jobs: 2,
      limits: { bytes: 100 * 1024 * 1024, entries: 1000 },
    });
  });
});

const MIB = 1024 * 1024;

/** A tree with a file of three ranges, most of which are holes, and some bytes at the ends of each. */
function bigTree(): string {
  const root = tree();
  mkdirSync(join(root, 'deep/er'), { recursive: true });
  const path = join(root, 'deep/er/big');
  const file = openSync(path, 'w', 0o640);
  for (const [index, at] of [0, 64 * MIB - 5, 64 * MIB + 9, 128 * MIB - 1, 200 * MIB - 7].entries())
    writeSync(file, Buffer.alloc(7, `${index}`), 0, 7, at);
  closeSync(file);
  for (const above of ['deep/er/big', 'deep/er', 'deep', '.']) utimesSync(join(root, above), 1e9, 1e9);
  return root;
}

describe('a big file', () => {
  const copied = async (source: string, directory: string, destination: string, ...words: string[]) => {
    const args = ['--workers', '2', '--parts', '6', '--run-dir', directory, '--state-dir', scratch(), ...words];
    const done = await run(['copy', '--json', ...args, `${source}/`, destination]);
    const plan = planOf(directory);
    const room = new RunDirectory(directory);
    const whole = plan.parts.findIndex(({ ranges }) => ranges !== undefined) + 1;
    const [first, last] = plan.parts[whole - 1]?.ranges ?? [1, 0];
    const ranges = Array.from({ length: last - first + 1 }, (_, index) => room.state(first + index));
    return { done, plan, room, whole, ranges };
  };
  const left = (destination: string) => readdirSync(join(destination, 'deep/er')).filter((name) => name !== 'big');

  it('comes in ranges, from several workers, and is published when the last is there', async () => {
    const [source, destination, directory] = [bigTree(), join(scratch(), 'copy'), join(scratch(), 'run')];
    const { done, room, whole, ranges } = await copied(source, directory, destination);
    expect([done.code, done.stderr]).toEqual([0, '']);
    expect(ranges.map(({ found, gathered }) => [found, gathered !== undefined])).toEqual(Array(3).fill([0, true]));
    const written = ranges.map(({ copiedBytes }) => copiedBytes);
    // Who looks for what took long finds the file, and not one of its ranges only.
    const books = new Ledger(undefined);
    for (const { slowest = [] } of ranges) books.took(slowest.map((slow) => restore(slow)));
    const { slowest } = books.report({ interrupted: false, workers: 1, elapsed: 1, dryRun: false });
    expect(slowest.map(({ path, bytes }) => [String(path), bytes])).toEqual([[join(source, 'deep/er/big'), 200 * MIB]]);
    expect(Math.min(...written)).toBeGreaterThan(0);
    expect(Math.max(...written)).toBeLessThan(MIB);
    expect(new Set(ranges.map(({ gathered }) => JSON.stringify(gathered))).size).toBe(1);
    // Who publishes it writes nothing of it.
    expect(room.state(whole)).toMatchObject({
      found: 1,
      copiedBytes: 0,
      resumedBytes: 0,
      outcomes: { copied: { all: 1 } },
    });
    same(source, destination);
    expect(left(destination)).toEqual([]);
    // What is a hole stays one.
    expect(statSync(join(destination, 'deep/er/big')).blocks * 512).toBeLessThan(MIB);
    const { found, outcomes, accounted } = summaryOf(done);
    const sum = (counts: Record<string, number>) => Object.values(counts).reduce((all, each) => all + each, 0);
    expect([accounted, sum(found), sum(outcomes)]).toEqual([true, entriesOf(source), entriesOf(source)]);
    // It is there: nothing of it goes again, and nothing is made beside it.
    const again = await copied(source, join(scratch(), 'run'), destination, '--verify');
    expect([again.done.code, summaryOf(again.done).copiedBytes]).toEqual([0, 0]);
    expect(again.ranges.map(({ gathered }) => gathered)).toEqual([undefined, undefined, undefined]);
    expect(left(destination)).toEqual([]);
  });

  it('is copied as a whole where its ranges are not of what it is now', async () => {
    const [source, destination, directory] = [bigTree(), join(scratch(), 'copy'), join(scratch(), 'run')];
    const options = { source: `${source}/`, destination, workers: 2, parts: 6, directory, patience: 36_000 };
    // A worker that ends when the ranges are there, and what it leaves is of another version.
    await spread({ ...options, program: ['/nonexistent/bulkhaul'] });
    rmSync(join(directory, 'final.json'));
    const plan = planOf(directory);
    const whole = plan.parts.findIndex(({ ranges }) => ranges !== undefined) + 1;
    const [first, last] = plan.parts[whole - 1]?.ranges ?? [1, 0];
    mkdirSync(join(destination, 'deep/er'), { recursive: true });
    const name = `.bh-${tagOf(plan)}-${createHash('sha256').update('big').digest('hex').slice(0, 8)}01234567`;
    writeFileSync(join(destination, 'deep/er', name), '');
    truncateSync(join(destination, 'deep/er', name), 200 * MIB);
    // Of another host, and another run.
    writeFileSync(join(destination, 'deep/er/.bh-00000001-0123456789abcdef'), '');
    const room = new RunDirectory(directory);
    for (let part = first; part <= last; part += 1) {
      const steps = attempt<PartState>(part, 1);
      const state = {
        ...{ part, attempt: 1, worker: 'x', host: 'x', elapsed: 0, found: 0, outcomes: {}, made: 0, copiedBytes: 0 },
        ...{
          movedBytes: 0,
          resumedFiles: 0,
          resumedBytes: 0,
          verifiedFiles: 0,
          verifiedBytes: 0,
          verifiedFromCache: 0,
          hashedBytes: 0,
        },
        ...{ complete: true, failures: [], failureKinds: {}, notes: [], gathered: { name, version: '1 2 3 4' } },
      };
      for (let step = steps.next(); !step.done; )
        step = steps.next(step.value.do === 'work' ? state : room.perform(step.value, 'x'));
    }
    const report = await spread({ ...options, program: [process.execPath, MAIN] });
    // Those who had these names in the run before have ended; these have not, and keep what they have.
    expect(readdirSync(join(directory, 'leases')).filter((name) => /[.][2-9]/.test(name))).toEqual([]);
    expect([report.complete, room.state(whole).copiedBytes > 0]).toEqual([true, true]);
    expect(report.notes.map(({ kind, path }) => [kind, path])).toEqual([
      ['run', ''],
      ['foreign-staging', join(destination, 'deep/er/.bh-00000001-0123456789abcdef')],
    ]);
    expect(left(destination)).toEqual(['.bh-00000001-0123456789abcdef']);
    same(source, destination);
  });

  it('has no two writers that harm it: what is late is not written', async () => {
    const [source, destination] = [bigTree(), scratch()];
    const copy = (range: Range, mine: () => boolean) =>
      copyRange({
        ...{ source, destination, name: Buffer.from('deep/er/big'), range, tag: '01234567', sparse: 'never' },
        ...{ lanes: 1, pace: async () => undefined, mine, stopped: () => false, moved: () => undefined },
      });
    const size = 200 * MIB;
    const end = await copy({ start: 0, end: 8 * MIB, size }, () => true);
    const gathered = join(destination, 'deep/er', end?.gathered?.name ?? '');
    expect([end?.made, statSync(gathered).size]).toEqual([2, size]);
    // It is somebody else's from the second piece on.
    const answers = [true, false];
    expect(await copy({ start: 56 * MIB, end: size, size }, () => answers.shift() ?? false)).toBeUndefined();
    const of = (path: string, at: number) => {
      const [file, bytes] = [openSync(path, 'r'), Buffer.alloc(7)];
      readSync(file, bytes, 0, 7, at);
      closeSync(file);
      return bytes.toString();
    };
    expect([of(gathered, 0), of(gathered, 64 * MIB - 5)]).toEqual(['0000000', '\0'.repeat(7)]);
    // Another version has another file, and one of another size has none.
    utimesSync(join(source, 'deep/er/big'), 1.1e9, 1.1e9);
    const other = await copy({ start: 0, end: MIB, size }, () => true);
    expect(other?.gathered?.name).not.toBe(end?.gathered?.name);
    expect(await copy({ start: 0, end: MIB, size: size + 1 }, () => true)).toEqual({
      made: 0,
      written: 0,
      gathered: undefined,
    });
    await discard({ destination, name: Buffer.from('deep/er/big'), tag: '01234567' });
    expect(left(destination)).toEqual([]);
  });

  it('leads nowhere by a symlink', async () => {
    const [source, destination, elsewhere] = [bigTree(), scratch(), scratch()];
    symlinkSync(elsewhere, join(destination, 'deep'));
    const { done } = await copied(source, join(scratch(), 'run'), destination);
    const { accounted } = summaryOf(done);
    expect([done.code, accounted, readdirSync(elsewhere)]).toEqual([23, true, []]);
  });
});

/** A program that is bulkhaul, but for what `deed` does before a worker begins. */
function deedful(deed: string): string[] {
  const script = join(scratch(), 'bulkhaul.mjs');
  const text = [
    "import { openSync, writeFileSync, existsSync, rmSync, readdirSync } from 'node:fs';",
    "import { join } from 'node:path';",
    "const directory = process.argv.at(-1) ?? '';",
    "const name = process.argv[process.argv.indexOf('--name') + 1];",
    "const die = () => process.kill(process.pid, 'SIGKILL');",
    "const take = (lease) => writeFileSync(openSync(join(directory, 'leases', lease), 'wx'), name);",
    deed,
    `process.argv[1] = ${JSON.stringify(MAIN)};`,
    `await import(${JSON.stringify(MAIN)});`,
  ];
  writeFileSync(script, text.join('\n'));
  return [process.execPath, script];
}
const { spread } = await import('../dist/index.js');
const { spreadTask } = await import('../dist/ops/spread.js');
const { partJob } = await import('../dist/ops/spread/task.js');
/** Leases of a part in a run directory that was kept. */
const leasesOf = (directory: string, part: number) =>
  readdirSync(join(directory, 'leases')).filter((name) => name.startsWith(`${part}.`));
const planOf = (directory: string) => new RunDirectory(directory).plan() as Plan;

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
    expect(report.failures.map(({ message }) => message)).toEqual([expect.stringMatching(/^part 1: [56] attempts /)]);
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
  const planned = async (parts = 3) => {
    const [source, destination, directory] = [tree(), join(scratch(), 'copy'), join(scratch(), 'run')];
    const options = { source: `${source}/`, destination, workers: 1, parts, directory, patience: 1 };
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

describe('the simulation', () => {
  it('brings each part to its state, and counts the same each time', () => {
    const script = fileURLToPath(new URL('../../scripts/scale', import.meta.url));
    const args = ['--workers', '40', '--entries', '1e7', '--dead', '0.2', '--slow', '0.1'];
    const [first, second] = [0, 1].map(() => execFileSync(process.execPath, [script, ...args]).toString());
    expect(first).toBe(second);
    expect(first).toMatch(/^entries, workers, parts +10,000,000, 40, 640$/m);
    expect(first).toMatch(/^workers that died +[1-9]/m);
    expect(first).toMatch(/^states made +640$/m);
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

describe('copy --hosts', () => {
  it('has workers on hosts that see the same, leaves out the others, and says why', async () => {
    const [source, destination, directory] = [tree(), join(scratch(), 'copy'), join(scratch(), 'run')];
    mkdirSync(destination);
    const there = await hostsOf(3, (number) => (number === 3 ? `mount -t tmpfs none ${destination}` : 'true'));
    if (!there) return;
    const { hosts, nowhere, env, program } = there;
    const [one, two, three] = hosts.map(({ name }) => name);
    const file = join(scratch(), 'hosts');
    writeFileSync(file, `# all of them\n${one}\n\n${two}  # twice\n${nowhere}\n${three}\n`);
    const words = ['--hosts', file, '--host-program', program, '--run-dir', directory, '--parts', '6'];
    const done = await run(['copy', '--json', ...words, `${source}/`, destination], { env });
    const { complete, notes } = summaryOf(done);
    expect([done.code, complete]).toEqual([0, true]);
    expect(notes.map(({ message }: { message: string }) => message).sort()).toEqual([
      expect.stringMatching(`host ${three} is left out: the destination is not the same directory there`),
      expect.stringMatching(`host ${nowhere} is left out: it can't be reached`),
    ]);
    const room = new RunDirectory(directory);
    const at = new Set(room.settled().map((part) => room.state(part).host));
    expect([one, two]).toEqual(expect.arrayContaining([...at]));
    same(source, destination);
  });

  it('goes on where a host dies: nothing is lost, nothing counts twice', async () => {
    const [source, destination, directory] = [tree(), join(scratch(), 'copy'), join(scratch(), 'run')];
    const there = await hostsOf(2);
    if (!there) return;
    const { hosts, env, program } = there;
    const words = [
      '--hosts',
      hosts.map(({ name }) => name).join(','),
      '--host-program',
      program,
      '--run-dir',
      directory,
    ];
    const slow = ['--parts', '6', '--patience', '2', '--iops-limit', '1'];
    const running = run(['copy', '--json', ...words, ...slow, `${source}/`, destination], { env });
    const room = new RunDirectory(directory);
    const atWork = () =>
      existsSync(join(directory, 'workers')) &&
      [...room.workers().keys()].some((name) => {
        const beat = room.beatOf(name);
        return beat?.host === hosts[0]?.name && (beat?.part ?? 0) > 0;
      });
    while (!atWork()) await sleep(20);
    hosts[0]?.kill();
    room.setPace({});
    const done = await running;
    const { complete, accounted, outcomes, notes } = summaryOf(done);
    expect([done.code, complete, accounted]).toEqual([0, true, true]);
    const said = notes.map(({ message }: { message: string }) => message);
    // What it was at may lie there in the end, under a name of its own.
    const left = 'an unfinished entry of another host is left alone';
    expect(said.filter((message: string) => message !== left)).toEqual([
      expect.stringContaining(`on ${hosts[0]?.name} is lost`),
    ]);
    const all = Object.values(outcomes as Record<string, number>).reduce((sum, each) => sum + each, 0);
    expect(all).toBe(entriesOf(source));
    same(source, destination);
  });

  it.runIf(EXHAUSTIVE)('goes on where a host is cut off, and harms nothing when it is back', async () => {
    const [source, destination, directory] = [tree(), join(scratch(), 'copy'), join(scratch(), 'run')];
    const there = await hostsOf(2);
    if (!there) return;
    const { hosts, env, program } = there;
    const names = hosts.map(({ name }) => name).join(',');
    const words = ['--hosts', names, '--host-program', program, '--run-dir', directory];
    const slow = ['--parts', '6', '--patience', '2', '--iops-limit', '2'];
    const running = run(['copy', '--json', ...words, ...slow, `${source}/`, destination], { env });
    const room = new RunDirectory(directory);
    let at: { worker: string; part: number } | undefined;
    const atWork = () => {
      const all = existsSync(join(directory, 'workers')) ? [...room.workers().keys()] : [];
      for (const worker of all) {
        const beat = room.beatOf(worker);
        if (beat?.host === hosts[0]?.name && beat?.part) return { worker, part: beat.part };
      }
      return undefined;
    };
    for (at = atWork(); at === undefined; at = atWork()) await sleep(20);
    hosts[0]?.cut();
    room.setPace({});
    // What it has now, which may be another part than a moment ago, goes to the other.
    const mine = () => {
      for (const [part, { attempt, settled }] of room.standings())
        if (!settled && room.holder(part, attempt) === at?.worker) return [part, attempt] as const;
      return undefined;
    };
    const had = mine();
    const over = running.then(() => true);
    while (had && !existsSync(join(directory, 'leases', `${had[0]}.${had[1] + 1}`)))
      if (await Promise.race([sleep(50), over])) break;
    hosts[0]?.mend();
    const done = await running;
    const { complete, accounted, outcomes } = summaryOf(done);
    expect([done.code, complete, accounted]).toEqual([0, true, true]);
    const all = Object.values(outcomes as Record<string, number>).reduce((sum, each) => sum + each, 0);
    expect(all).toBe(entriesOf(source));
    same(source, destination);
  });

  it.runIf(EXHAUSTIVE)('leaves to others what a host has no room for', async () => {
    const [source, destination, directory] = [tree(), join(scratch(), 'copy'), join(scratch(), 'run')];
    mkdirSync(join(destination, 'b/c'), { recursive: true });
    // There is no room for any file there.
    const full = `mount -t tmpfs -o size=4k,nr_inodes=1 none ${destination}/b/c`;
    const there = await hostsOf(2, (number) => (number === 1 ? full : 'true'));
    if (!there) return;
    const { hosts, env, program } = there;
    const [one, two] = hosts.map(({ name }) => name);
    const words = ['--hosts', `${one},${two}`, '--host-program', program, '--run-dir', directory, '--parts', '12'];
    const done = await run(['copy', '--json', ...words, '--patience', '2', `${source}/`, destination], { env });
    const { complete, accounted } = summaryOf(done);
    expect([done.code, complete, accounted]).toEqual([0, true, true]);
    const room = new RunDirectory(directory);
    const lists = room
      .settled()
      .map((part) => [room.state(part).host, readFileSync(room.list(part), 'latin1')] as const);
    const of = lists
      .filter(([, list]) => list.split('\0').some((name) => name.startsWith('b/c/')))
      .map(([host]) => host);
    expect(new Set(of)).toEqual(new Set([two]));
    same(source, destination);
  });

  it('does not begin where no host can take part', async () => {
    const [source, state] = [tree(), scratch()];
    const words = ['copy', '--hosts', 'user@host.invalid', '--state-dir', state, `${source}/`, join(scratch(), 'copy')];
    const { code, stderr } = await run(words);
    expect([code, stderr]).toEqual([
      2,
      expect.stringContaining("no host can have a worker (user@host.invalid: it can't be reached"),
    ]);
    expect((await run(['copy', '--hosts=-oProxyCommand=id', 'a', 'b'])).stderr).toContain('not the name of a host');
    expect((await run(['copy', '--host-program', 'x', 'a', 'b'])).stderr).toContain(
      '--host-program goes with --workers',
    );
  });
});

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
