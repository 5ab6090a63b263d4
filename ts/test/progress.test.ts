/** What is said of a run while it goes on, against runs whose end is known. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Snapshot } from '../src/events.js';
import { Progress, statusLine } from '../src/report/progress.js';
import { bytes } from '../src/report/units.js';
import { snapshot } from './rig.js';

/** A file of a run that is acted out. */
interface File {
  bytes: number;
  skipped?: boolean;
}

/** Prices in seconds, and what stands still meanwhile. */
interface World {
  byte: number;
  entry: number;
  skip: number;
  /** How long nothing moves after this moment, while a file is copied. */
  pause: (elapsed: number) => number;
}

const MIB = 1 << 20;
/** Seconds between what a terminal asks. */
const EVERY = 0.25;

/** Acts out a run: what it would answer whenever it is asked, and how long it takes. */
function acted(files: readonly File[], world: World): { total: number; at: (elapsed: number) => Snapshot } {
  const moments: {
    elapsed: number;
    moved: number;
    done: number;
    skipped: number;
    skippedBytes: number;
    doneBytes: number;
  }[] = [];
  let [elapsed, moved, done, skipped, skippedBytes, doneBytes] = [0, 0, 0, 0, 0, 0];
  const mark = () => moments.push({ elapsed, moved, done, skipped, skippedBytes, doneBytes });
  mark();
  for (const file of files) {
    if (file.skipped) {
      elapsed += world.skip;
      skipped += 1;
      skippedBytes += file.bytes;
    } else {
      elapsed += world.entry;
      const pieces = Math.max(1, Math.ceil((file.bytes * world.byte) / (EVERY / 2)));
      for (let piece = 0; piece < pieces; piece += 1) {
        elapsed += (file.bytes * world.byte) / pieces;
        moved += file.bytes / pieces;
        mark();
        elapsed += world.pause(elapsed);
      }
    }
    done += 1;
    doneBytes += file.bytes;
    mark();
  }
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  const expected = { entries: files.length, files: files.length, bytes, toRead: bytes, toDo: files.length };
  let next = 0;
  const at = (now: number) => {
    while ((moments[next + 1]?.elapsed ?? Number.POSITIVE_INFINITY) <= now) next += 1;
    const moment = moments[next] ?? expect.fail();
    return snapshot({
      ...{ foundFiles: files.length, foundBytes: bytes, doneFiles: moment.done, doneEntries: moment.done },
      ...{ workedEntries: moment.done, doneBytes: moment.doneBytes },
      ...{ skippedFiles: moment.skipped, skippedBytes: moment.skippedBytes },
      ...{ readBytes: moment.moved, copiedBytes: moment.moved },
      // A scout needs a moment.
      ...(now > 1 && { expected }),
      elapsed: now,
    });
  };
  return { total: elapsed, at };
}

/** Numbers from 0 to 1, the same for the same seed: a run is told by its seed, not by its thousands of files. */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Sizes as file systems have them: most are small. */
function some(seed: number, count: number, most: number): File[] {
  const next = random(seed);
  return Array.from({ length: count }, () => ({ bytes: Math.floor(Math.exp(next() * Math.log(most))) }));
}

const STEADY: World = { byte: 1 / (300 * MIB), entry: 0.01, skip: 0.0005, pause: () => 0 };

/** A name, the files by a seed, and what they cost. */
const RUNS: readonly (readonly [string, (seed: number) => File[], World])[] = [
  ['many small files', (seed) => some(seed, 3000, 64 * 1024), STEADY],
  [
    'small files and one huge one in the end',
    (seed) => [...some(seed, 8000, MIB), { bytes: 6 * 1024 * MIB }],
    { ...STEADY, entry: 0.002 },
  ],
  ['a run that goes on', (seed) => some(seed, 6000, MIB).map((file, at) => ({ ...file, skipped: at < 3000 })), STEADY],
  [
    'a run of which most is there',
    (seed) => some(seed, 6000, MIB).map((file, at) => ({ ...file, skipped: at % 3 > 0 })),
    STEADY,
  ],
  [
    'bursts',
    (seed) => some(seed, 3000, 16 * MIB),
    // Half a second of nothing every second or so.
    { ...STEADY, pause: (elapsed) => (elapsed % 1.5 < EVERY / 2 ? 0.5 : 0) },
  ],
  // Each waits for its sync.
  ['slow syncs', (seed) => some(seed, 600, 4 * MIB), { ...STEADY, entry: 0.06 }],
  ['one file', () => [{ bytes: 9 * 1024 * MIB }], STEADY],
];

describe('progress', () => {
  it.each(RUNS)('is near the truth: %s', (_, files, world) => {
    // The same runs each time: what is near is not near for every whim of a random one.
    for (const seed of [1, 22, 333, 4444, 55_555, 666_666, 7_777_777, 88_888_888]) {
      const { total, at } = acted(files(seed), world);
      const progress = new Progress();
      let before = 0;
      for (let now = 0; now < total; now += EVERY) {
        const { percent, left } = progress.update(at(now));
        const over = now / total;
        if (over > 0.1 && now > 2) {
          expect(percent, `${now} of ${total} s`).toBeDefined();
          expect(Math.abs((percent ?? 0) - over * 100), `${percent} % at ${now} of ${total} s`).toBeLessThanOrEqual(10);
        }
        if (over > 0.5 && over < 0.95) {
          const ratio = (left ?? 0) / (total - now);
          expect(ratio, `${left} s left at ${now} of ${total} s`).toBeGreaterThan(0.5);
          expect(ratio, `${left} s left at ${now} of ${total} s`).toBeLessThan(2);
        }
        expect(percent ?? before).toBeGreaterThanOrEqual(before);
        expect(percent ?? 0).toBeLessThan(100);
        before = percent ?? before;
      }
    }
  });

  it('is near the truth as soon as it is known how much there is', () => {
    const { total, at } = acted([{ bytes: 1200 * MIB }], STEADY);
    const progress = new Progress();
    let known = 0;
    for (let now = 0; now < total; now += EVERY) {
      const { percent, left } = progress.update(at(now));
      if (left === undefined || percent === undefined) continue;
      known += 1;
      expect(Math.abs(percent - (now / total) * 100), `${percent} % at ${now} of ${total} s`).toBeLessThanOrEqual(10);
      if (now > total * 0.9) continue;
      const ratio = left / (total - now);
      expect(Math.abs(Math.log(ratio)), `${left} s left at ${now} of ${total} s`).toBeLessThan(Math.log(2));
    }
    expect(known).toBeGreaterThan(10);
  });

  it('says nothing of percent and time left while nobody knows how much there is', () => {
    const progress = new Progress();
    const found = { foundFiles: 40, foundBytes: 20 * MIB };
    const first = progress.update(snapshot({ phase: 'scanning', ...found, elapsed: 1 }));
    const moved = { readBytes: 20 * MIB, copiedBytes: 20 * MIB, doneFiles: 1, doneEntries: 1, workedEntries: 1 };
    const second = progress.update(snapshot({ ...found, ...moved, elapsed: 2 }));
    for (const { percent, left } of [first, second]) expect([percent, left]).toEqual([undefined, undefined]);
    expect(statusLine(first)).toMatch(/^0 of 40 files found so far \| /);
    expect(statusLine(second)).toMatch(/^1 of 40 files found \| 20.0 MiB done, 20.0 MiB seen \| 20.0 MiB\/s \| /);
    // What an earlier run has left is done from the beginning.
    const part = { readBytes: 5 * MIB, copiedBytes: 5 * MIB, resumedBytes: 12 * MIB };
    const resumed = new Progress().update(snapshot({ ...found, ...part, elapsed: 1 }));
    expect(statusLine(resumed)).toContain(' | 17.0 MiB done, 20.0 MiB seen | ');
  });

  it('takes what comes for what has been while sizes are not known', () => {
    const { total, at } = acted(some(1, 3000, 64 * 1024), STEADY);
    const progress = new Progress();
    for (let now = 0; now < total; now += EVERY) {
      const { expected, ...rest } = at(now);
      const { entries = 0, files = 0, toDo = 0 } = expected ?? {};
      const { percent } = progress.update({ ...rest, ...(expected && { expected: { entries, files, toDo } }) });
      if (now > total / 10 && now > 2) expect(Math.abs((percent ?? 0) - (now / total) * 100)).toBeLessThanOrEqual(10);
    }
  });

  it('knows nothing of what all is skipped has cost otherwise', () => {
    const progress = new Progress();
    const expected = { entries: 100, files: 100, bytes: 100 * MIB, toRead: 100 * MIB, toDo: 100 };
    for (let at = 0; at < 8; at += 1) {
      const done = { doneFiles: 10 * at, workedEntries: 10 * at, skippedFiles: 10 * at, skippedBytes: 10 * at * MIB };
      const { percent } = progress.update(snapshot({ ...done, doneBytes: 10 * at * MIB, expected, elapsed: at }));
      expect(percent).toBeUndefined();
    }
  });

  it('knows nothing while only names are known and none is done with', () => {
    const progress = new Progress();
    const expected = { entries: 1, files: 1, toDo: 2 };
    for (let at = 1; at < 8; at += 1) {
      const view = progress.update(snapshot({ readBytes: 50 * at * MIB, expected, elapsed: at }));
      expect([view.percent, view.left]).toEqual([undefined, undefined]);
    }
  });

  it('knows that what is there already is read once where everything is proved', () => {
    const progress = new Progress();
    const expected = { entries: 60, files: 60, bytes: 300 * MIB, toRead: 600 * MIB, toDo: 60 };
    for (let at = 1; at < 30; at += 1) {
      const files = Math.floor(2 * at);
      const done = { doneFiles: files, workedEntries: files, skippedFiles: files, readBytes: 10 * at * MIB };
      const sizes = { doneBytes: files * 5 * MIB, skippedBytes: files * 5 * MIB };
      const view = progress.update(snapshot({ ...done, ...sizes, expected, elapsed: at }));
      const { percent = 0, left = 0 } = view;
      expect(statusLine(view)).toContain(`${bytes(10 * at * MIB)} of 300 MiB | `);
      if (at > 3) expect(Math.abs(percent - at / 0.3)).toBeLessThan(10);
      if (at > 15) expect(Math.max(left / (30 - at), (30 - at) / left)).toBeLessThan(2);
    }
  });

  it('knows that holes cost nothing, and that what was read is of the file in flight', () => {
    const progress = new Progress();
    const expected = { entries: 2, files: 2, bytes: 4300 * MIB, toRead: 4300 * MIB, toDo: 2 };
    // 4,000 MiB of holes are done at once; of the other file comes 10 MiB a second.
    const holes = { doneFiles: 1, workedEntries: 1, doneBytes: 4000 * MIB };
    for (let at = 0; at < 30; at += 1) {
      const view = progress.update(snapshot({ ...(at > 0 && holes), readBytes: 10 * at * MIB, expected, elapsed: at }));
      const { percent = 0, left = 0 } = view;
      if (at > 1) expect(statusLine(view)).toContain(`${bytes(10 * at * MIB)} of ${bytes(310 * MIB)} | `);
      if (at > 3) expect(Math.abs(percent - at / 0.3), `${percent} % at ${at} of 30 s`).toBeLessThan(10);
      if (at > 15 && at < 27) expect(Math.max(left / (30 - at), (30 - at) / left)).toBeLessThan(2);
    }
  });

  it('of a removal knows the end where somebody has counted what is there', () => {
    const expected = { entries: 9000, files: 8000, toDo: 9000 };
    const progress = new Progress();
    const at = (elapsed: number) => {
      const done = { doneEntries: 1500 * elapsed, workedEntries: 1500 * elapsed };
      return progress.update(snapshot({ phase: 'removing', ...done, expected, elapsed }));
    };
    at(0);
    at(1);
    expect(statusLine(at(2))).toBe('33% | removing: 3,000 of 9,000 | 4.0 s left | 1,500/s | 0 errors | 2.0 s');
    const going = snapshot({ phase: 'removing', expected: { ...expected, estimated: true } });
    expect(statusLine(new Progress().update(going))).toMatch(/^removing: 0 of about 9,000 \| /);
  });

  it('of a removal counts what is done, and knows no end without that', () => {
    const view = new Progress().update(snapshot({ phase: 'removing', doneEntries: 3000, errors: 1, elapsed: 2 }));
    expect([view.percent, view.left]).toEqual([undefined, undefined]);
    expect(statusLine(view)).toBe('removing: 3,000 done | 1,500/s | 1 error | 2.0 s');
  });

  it('takes what an earlier run has left for done, and not for work of this one', () => {
    const progress = new Progress();
    const expected = { entries: 1, files: 1, bytes: 100 * MIB, toRead: 100 * MIB, toDo: 1 };
    const at = (moved: number, elapsed: number) =>
      progress.update(
        snapshot({ expected, resumedBytes: 80 * MIB, readBytes: moved * MIB, copiedBytes: moved * MIB, elapsed }),
      );
    at(0, 0);
    const { average, left, rate } = [1, 2, 3, 4, 5].map((now) => at(2 * now, now)).at(-1) ?? {};
    expect([average, rate]).toEqual([2 * MIB, 2 * MIB]);
    expect(left).toBeCloseTo(5, 0);
    expect(statusLine(at(10, 5))).toContain('90.0 MiB of 100 MiB');
  });

  it('is 100 only when the job is done', () => {
    expect(new Progress().update(snapshot({ phase: 'done' })).percent).toBe(100);
  });

  it('says that it syncs, and for how long', () => {
    const view = new Progress().update(snapshot({ phase: 'closing', syncing: 12, elapsed: 20 }));
    expect(statusLine(view)).toContain('syncing what was written (12 s)');
  });

  it('of a step beside the work says which it is, at any width, and no speed before anything moves', () => {
    const progress = new Progress('measuring');
    const before = snapshot({ phase: 'preflight', elapsed: 1 });
    progress.update(before);
    expect(statusLine(progress.update({ ...before, elapsed: 3 }))).toBe('measuring | 0 errors | 3.0 s');
    const expected = { entries: 10, files: 10, bytes: 10 * MIB, toRead: 0, toDo: 10 };
    const half = snapshot({ phase: 'copying', elapsed: 4, workedEntries: 5, doneEntries: 5, doneFiles: 5, expected });
    expect(statusLine(progress.update(half), 12)).toMatch(/^(measuring|\d+%)/);
    expect(statusLine(progress.update(half))).toMatch(/^measuring \| /);
  });

  it('says that it stops, and what it waits for', () => {
    const progress = new Progress();
    const expected = { entries: 9, files: 9, bytes: 90 * MIB, toRead: 90 * MIB, toDo: 9 };
    const run = { phase: 'scanning' as const, expected, doneFiles: 4, readBytes: 40 * MIB, workedEntries: 4 };
    progress.update(snapshot({ ...run, elapsed: 3 }));
    const at = (files: number, bytes: number, changes: Partial<Snapshot> = {}) =>
      progress.update(snapshot({ ...run, stopping: { files, bytes }, errors: 1, elapsed: 4, ...changes }));
    const view = at(12, 80 * MIB);
    expect(view.left).toBeUndefined();
    expect(statusLine(view)).toBe('stopping: 12 files in flight, 80.0 MiB left | 0 B/s | 1 error | 4.0 s');
    expect(statusLine(view, 53)).toBe('stopping: 12 files in flight, 80.0 MiB left | 1 error');
    expect(statusLine(view, 40)).toBe('stopping | 0 B/s | 1 error | 4.0 s');
    expect(statusLine(at(1, 0, { syncing: 2 }))).toContain(
      'stopping: 1 file in flight, 0 B left | syncing what was written (2.0 s) | ',
    );
    expect(statusLine(at(0, 0, { phase: 'removing' }))).toMatch(/^stopping \| /);
  });

  it('of what is extra is told when it is counted', () => {
    const at = (sweep?: Snapshot['sweep']) =>
      statusLine(new Progress().update(snapshot({ phase: 'sweeping', elapsed: 4, ...(sweep && { sweep }) })));
    expect(at()).toMatch(/^counting what is extra \| /);
    expect(at({ gone: 1234, of: 5678 })).toMatch(/^removing what is extra: 1,234 of 5,678 \| /);
  });

  it('tells the parts of a spread copy, and how fast each host is', () => {
    const host = { workers: 1, parts: 3, copiedBytes: 7 };
    const hosts = [
      { ...host, host: 'a\x1b', rate: 5 },
      { ...host, host: 'b', rate: 2 * MIB },
    ];
    const line = (of: object) => statusLine(new Progress().update(snapshot({ phase: 'copying', elapsed: 1, ...of })));
    expect(line({ hosts, parts: 1009 })).toContain(' | 6 of 1,009 parts | a\\x1b 5 B/s, b 2.00 MiB/s | ');
    expect(line({ hosts: hosts.slice(1), parts: 3 })).toMatch(/ \| 3 of 3 parts \| [^a-z]*1\.0 s$/);
  });

  it('of the second half of a move says how long it takes, and what it is', () => {
    const expected = { entries: 10, files: 10, bytes: 10 * MIB, toRead: 20 * MIB, toDo: 20 };
    const progress = new Progress();
    const at = (elapsed: number) => {
      const done = { readBytes: elapsed * MIB, copiedBytes: 10 * MIB, doneFiles: 10, workedEntries: elapsed };
      return progress.update(snapshot({ phase: 'proving', ...done, expected, elapsed }));
    };
    for (let elapsed = 0; elapsed < 15; elapsed += 1) at(elapsed);
    expect(statusLine(at(15))).toMatch(/^75% \| proving and removing sources \| .* \| 5\.0 s left \| /);
  });

  it('counts what is read back, compared or hashed', () => {
    const progress = new Progress();
    progress.update(snapshot({ elapsed: 0 }));
    const view = progress.update(snapshot({ readBytes: 10 * MIB, elapsed: 1 }));
    expect(view.rate).toBe(10 * MIB);
    expect(statusLine(view)).toContain('10.0 MiB done');
  });

  it('never goes back and stays within bounds, whatever the counters say', () => {
    const counter = fc.nat(1000);
    const amounts = fc.record(
      { entries: counter, files: counter, bytes: counter, toRead: counter, toDo: counter },
      { requiredKeys: ['entries', 'files', 'toDo'] },
    );
    const any = fc.record(
      {
        ...{ foundFiles: counter, foundBytes: counter, doneFiles: counter, doneBytes: counter },
        ...{ skippedFiles: counter, skippedBytes: counter, copiedBytes: counter, readBytes: counter },
        ...{ workedEntries: counter, expected: amounts },
        elapsed: fc.double({ min: 0, max: 1000, noNaN: true }),
      },
      { requiredKeys: ['elapsed'] },
    );
    fc.assert(
      fc.property(fc.array(any, { minLength: 1 }), (rows) => {
        const progress = new Progress();
        let before = 0;
        for (const row of rows) {
          const { percent = before, left = 0, rate = 0 } = progress.update(snapshot(row as Partial<Snapshot>));
          expect(percent).toBeGreaterThanOrEqual(before);
          expect(percent).toBeLessThan(100);
          expect(left).toBeGreaterThanOrEqual(0);
          expect(Number.isFinite(left)).toBe(true);
          expect(rate).toBeGreaterThanOrEqual(0);
          before = percent;
        }
      }),
    );
  });

  it.each([20, 30, 40, 60, 80, 120])('leaves out whole fields where the line has %d columns', (width) => {
    const expected = { entries: 2000, files: 1999, bytes: 5000 * MIB, toRead: 5000 * MIB, toDo: 2000 };
    const half = { readBytes: 2500 * MIB, copiedBytes: 2500 * MIB, doneFiles: 1000, workedEntries: 1000 };
    const progress = new Progress();
    for (const elapsed of [0, 6]) {
      const part = { readBytes: 250 * MIB * elapsed, copiedBytes: 250 * MIB * elapsed, doneFiles: 100 * elapsed };
      const done = { ...part, workedEntries: 100 * elapsed, doneBytes: part.readBytes };
      progress.update(snapshot({ ...done, expected, elapsed }));
    }
    const view = progress.update(snapshot({ ...half, doneBytes: 2500 * MIB, expected, errors: 3, elapsed: 10 }));
    const [whole, line] = [statusLine(view), statusLine(view, width)];
    expect(whole.length).toBeGreaterThan(90);
    expect(line.length).toBeLessThanOrEqual(width);
    const fields = line.split(' | ');
    for (const field of fields) expect(whole.split(' | ')).toContain(field);
    expect(fields[0]).toBe('50%');
    if (width >= 40) expect(fields).toEqual(expect.arrayContaining(['10 s left', '250 MiB/s', '3 errors']));
  });

  it('has no line that is longer than the terminal, however narrow that is', () => {
    const words = (line: string) => line.split(/[ |:]+/).filter((word) => word !== '');
    const expected = { entries: 9000, files: 9000, toDo: 9000 };
    for (const state of [
      { phase: 'scanning', foundFiles: 123_456 },
      { phase: 'copying', foundFiles: 123_456, syncing: 12 },
      { phase: 'removing', doneEntries: 1000, expected },
      { phase: 'sweeping', sweep: { gone: 1000, of: 9000 } },
      { phase: 'proving' },
      { phase: 'copying', stopping: { files: 12, bytes: 80 * MIB } },
    ] as const) {
      const view = new Progress().update(snapshot({ elapsed: 4, errors: 3, ...state }));
      for (let width = 0; width <= 60; width += 1) {
        const line = statusLine(view, width);
        expect(line.length, line).toBeLessThanOrEqual(width);
        // Words and numbers are whole.
        expect(words(statusLine(view))).toEqual(expect.arrayContaining(words(line)));
      }
    }
    const view = new Progress().update(snapshot({ phase: 'scanning', foundFiles: 40, doneFiles: 8, elapsed: 1 }));
    expect(statusLine(view, 19)).toMatch(/^8 of 40( \|.*)?$/);
  });
});
