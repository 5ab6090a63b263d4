/** Who may work on what: the protocol in all its interleavings, the schedule of a large run, and how fast hosts are. */
import { execFileSync } from 'node:child_process';
import { readdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, vi } from 'vitest';
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
} from '../../src/ops/spread/protocol.js';
import { Rates } from '../../src/ops/spread/rates.js';
import { scratch } from '../rig.js';

// Each of them starts many processes, which take their time on a small shared machine.
vi.setConfig({ testTimeout: 120_000 });

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

describe('the simulation', () => {
  it('brings each part to its state, and counts the same each time', () => {
    const script = fileURLToPath(new URL('../../../scripts/scale', import.meta.url));
    const args = ['--workers', '40', '--entries', '1e7', '--dead', '0.2', '--slow', '0.1'];
    const [first, second] = [0, 1].map(() => execFileSync(process.execPath, [script, ...args]).toString());
    expect(first).toBe(second);
    expect(first).toMatch(/^entries, workers, parts +10,000,000, 40, 640$/m);
    expect(first).toMatch(/^workers that died +[1-9]/m);
    expect(first).toMatch(/^states made +640$/m);
  });

  it('takes the parts that the planner makes of a tree, a file in ranges too, and measures a run directory', () => {
    const tree = scratch();
    for (let file = 0; file < 100; file += 1) writeFileSync(join(tree, `f${file}`), '');
    writeFileSync(join(tree, 'big'), '');
    truncateSync(join(tree, 'big'), 1 << 28);
    const script = fileURLToPath(new URL('../../../scripts/scale', import.meta.url));
    const place = scratch();
    const args = [
      '--plan',
      tree,
      '--measure',
      place,
      '--steps',
      '20',
      '--workers',
      '4',
      '--entries',
      '1e6',
      '--dead',
      '0',
    ];
    const said = execFileSync(process.execPath, [script, ...args]).toString();
    // The directory itself is an entry.
    expect(said).toMatch(/^planned: 102 entries, /m);
    for (const what of ['a lease', 'a state', 'a beat', 'a name in a look'])
      expect(said).toMatch(new RegExp(`^measured: ${what}, [0-9.]+ us$`, 'm'));
    const parts = Number(/^entries, workers, parts +1,000,000, 4, (\d+)$/m.exec(said)?.[1]);
    expect(parts).toBeGreaterThan(64);
    expect(said).toContain(`states made${' '.repeat(37)}${parts}\n`);
    expect(readdirSync(place)).toEqual([]);
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
