import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { Writable } from 'node:stream';
import { describe, expect, it, vi } from 'vitest';
import { exitCodeOfError } from '../src/cli/exit.js';
import { type CommonSettings, runJob } from '../src/cli/run.js';
import { BulkhaulError, type ErrorCode } from '../src/error.js';
import { decode } from '../src/events.js';
import type {
  NativeEntryEvent,
  NativeFailure,
  NativeNote,
  NativeReport,
  NativeSnapshot,
} from '../src/native/events.js';
import { Job } from '../src/ops/job.js';
import type { Listener } from '../src/report/follow.js';
import { itemLine } from '../src/report/itemize.js';
import { compareSummary, removalSummaryText, summaryText } from '../src/report/summary.js';
import { bytes, duration } from '../src/report/units.js';
import { ExitCode } from '../src/verdict.js';
import { Capture, FakeNative, jsonLines, outcomes, reported, schemaViolations, scratch, snapshot } from './rig.js';

const ODD = Buffer.from([0x61, 0xff, 0x0a, 0x1b]);

const failure = (changes: Partial<NativeFailure> = {}): NativeFailure => ({
  type: 'error',
  kind: 'permission',
  outcome: 'failed',
  operation: 'open',
  path: Buffer.from('src/secret'),
  entryKind: 'file',
  message: 'open src/secret: permission denied',
  errno: 'EACCES',
  ...changes,
});
const note: NativeNote = {
  type: 'note',
  kind: 'owner',
  count: 1,
  lost: false,
  path: ODD,
  message: 'the owner cannot be set',
};
const entry = (changes: Partial<NativeEntryEvent> = {}): NativeEntryEvent => ({
  type: 'entry',
  outcome: 'copied',
  kind: 'file',
  path: Buffer.from('a'),
  source: Buffer.from('src/a'),
  destination: Buffer.from('dst/a'),
  bytes: 3,
  changes: ['new'],
  ...changes,
});

const SETTINGS: CommonSettings = { dryRun: false, json: false, progress: 'auto', quiet: false, verbose: false };

/** Runs a scripted job under settings; what came out. */
async function follow(
  native: FakeNative,
  settings: Partial<CommonSettings> = {},
  given: NodeJS.ProcessEnv = {},
  isTTY = false,
) {
  const env = { XDG_STATE_HOME: scratch(), ...given };
  const stdout = new Capture();
  const stderr = new Capture();
  stderr.isTTY = isTTY;
  const wanted: boolean[] = [];
  const begin = (entries: boolean) => {
    wanted.push(entries);
    return new Job(async () => ({ native }));
  };
  const done = runJob(begin, { ...SETTINGS, ...settings }, { stdout, stderr, env });
  return { stdout, stderr, wanted, done };
}

/** A run in which files are found, skipped and copied. */
const ROW: NativeSnapshot[] = [
  snapshot({ phase: 'scanning', foundFiles: 10, foundBytes: 1000, elapsed: 0.1 }),
  snapshot({
    phase: 'scanning',
    foundFiles: 20,
    foundBytes: 2000,
    doneFiles: 5,
    doneBytes: 500,
    copiedBytes: 500,
    elapsed: 0.2,
  }),
  snapshot({ foundFiles: 40, foundBytes: 4000, doneFiles: 10, doneBytes: 1000, copiedBytes: 1000, elapsed: 1 }),
  snapshot({
    foundFiles: 40,
    foundBytes: 4000,
    doneFiles: 30,
    doneBytes: 3000,
    skippedFiles: 20,
    skippedBytes: 2000,
    copiedBytes: 1000,
    elapsed: 2,
  }),
  snapshot({
    phase: 'closing',
    foundFiles: 40,
    foundBytes: 4000,
    doneFiles: 40,
    doneBytes: 4000,
    skippedFiles: 20,
    skippedBytes: 2000,
    copiedBytes: 2000,
    elapsed: 3,
  }),
];

describe('units', () => {
  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '0.98 KiB'],
    [1024, '1.00 KiB'],
    [10 * 1024, '10.0 KiB'],
    [100 * 1024, '100 KiB'],
    [1023 * 1024, '1.00 MiB'],
    [2 ** 53, '8.00 PiB'],
  ])('%d bytes are %s', (value, text) => expect(bytes(value)).toBe(text));
  it.each([
    [0, '0.0 s'],
    [9.94, '9.9 s'],
    [9.96, '10 s'],
    [59.6, '1m00s'],
    [3599.6, '1h00m00s'],
    [86_400, '1d00h00m'],
    [365 * 86_400 - 1, '364d23h59m'],
    [365 * 86_400, 'over a year'],
    [Number.POSITIVE_INFINITY, 'over a year'],
  ])('%d seconds are %s', (value, text) => expect(duration(value)).toBe(text));
});

describe('on a terminal', () => {
  it('one line is redrawn, and gone at the end', async () => {
    const native = new FakeNative({ snapshots: ROW, takes: 'cancel' });
    const { stderr, stdout, done } = await follow(native, {}, {}, true);
    await vi.waitFor(() => expect(stderr.text.split('\r').length).toBeGreaterThan(4), 60_000);
    native.cancel(false);
    await done;
    const frames = stderr.text.split('\r').slice(1);
    expect(stderr.text).not.toContain('\n');
    expect(frames.at(-1)).toBe('\x1b[K');
    expect(stdout.text).toBe('');
    const percents = [...stderr.text.matchAll(/(\d+)%/g)].map(([, number]) => Number(number));
    expect(percents).toEqual([...percents].sort((a, b) => a - b));
  });

  it('errors are red, but not under NO_COLOR', async () => {
    const snapshots = [snapshot({ errors: 2 })];
    const colored = await follow(new FakeNative({ snapshots, takes: 150 }), {}, {}, true);
    await colored.done;
    expect(colored.stderr.text).toContain('\x1b[31m2 errors\x1b[39m');
    const plain = await follow(new FakeNative({ snapshots, takes: 150 }), {}, { NO_COLOR: '1' }, true);
    await plain.done;
    expect(plain.stderr.text).toContain('2 errors');
    expect(plain.stderr.text).not.toContain('\x1b[31m');
  });

  it('a dumb one gets whole lines', async () => {
    const env = { TERM: 'dumb', BULKHAUL_PROGRESS_INTERVAL: '0.05' };
    const { stderr, done } = await follow(
      new FakeNative({ snapshots: ROW, takes: 200 }),
      { progress: 'tty' },
      env,
      true,
    );
    await done;
    expect(stderr.text).toMatch(/^\d\d:\d\d:\d\d 0 of 10 files found so far .*\n/);
    for (const control of ['\r', '\x1b']) expect(stderr.text).not.toContain(control);
  });
});

describe('off a terminal', () => {
  it('there are whole lines without control characters, at the interval that the environment sets', async () => {
    const env = { BULKHAUL_PROGRESS_INTERVAL: '0.05' };
    const { stderr, stdout, done } = await follow(new FakeNative({ snapshots: ROW, takes: 320 }), {}, env);
    await done;
    const lines = stderr.text.split('\n');
    expect(lines.pop()).toBe('');
    expect(lines.length).toBeGreaterThanOrEqual(3);
    for (const control of ['\r', '\x1b']) expect(stderr.text).not.toContain(control);
    expect(stdout.text).toBe('');
  });

  it.each([
    [{ BULKHAUL_PROGRESS_INTERVAL: '0' }, {}],
    [{}, {}],
    [{ BULKHAUL_PROGRESS_INTERVAL: '0.01' }, { quiet: true }],
    [{ BULKHAUL_PROGRESS_INTERVAL: '0.01' }, { progress: 'none' as const }],
  ])('nothing is printed with %j %j in a short run', async (env, settings) => {
    const { stderr, stdout, done } = await follow(new FakeNative({ snapshots: ROW, takes: 100 }), settings, env);
    await done;
    expect(stderr.text + stdout.text).toBe('');
  });

  it('an interval that is no number is refused before anything begins', async () => {
    const { done, wanted } = await follow(new FakeNative(), {}, { BULKHAUL_PROGRESS_INTERVAL: 'often' });
    await expect(done).rejects.toMatchObject({ code: 'USAGE' });
    expect(wanted).toEqual([]);
  });
});

describe('--json', () => {
  const script = {
    events: [
      [entry(), entry({ path: ODD, outcome: 'linked', target: ODD }), failure({ path: ODD })],
      [note, failure({ kind: 'conflict' })],
    ],
    snapshots: ROW,
    takes: 150,
    report: {
      failures: [failure(), failure({ path: ODD })],
      failureKinds: { permission: 2 },
      skipped: { unchanged: 3 },
      notes: [{ ...note, count: 2, message: 'm' }],
    },
  };

  it('each line conforms to the schema', async () => {
    const native = new FakeNative({ ...script, takes: 'cancel' });
    const { stdout, stderr, done } = await follow(
      native,
      { json: true, verbose: true },
      { BULKHAUL_PROGRESS_INTERVAL: '0.04' },
    );
    await vi.waitFor(() => expect(stdout.text).toContain('"type":"status"'), 60_000);
    native.cancel(false);
    await done;
    const lines = jsonLines(stdout.text);
    expect(new Set(lines.map(({ type }) => type))).toEqual(new Set(['status', 'entry', 'error', 'note', 'summary']));
    expect(lines.at(-1)?.type).toBe('summary');
    expect(stderr.text).toBe('');
  });

  it('the keys of a status come in one order, whoever has counted', async () => {
    const told: Partial<NativeSnapshot> = {
      ...{ sweep: { gone: 1, of: 2 }, stopping: { files: 1, bytes: 2 }, syncing: 1, parts: 2 },
      expected: { toRead: 9, bytes: 9, estimated: true, toDo: 3, files: 2, entries: 3 },
    };
    const snapshots = [{ ...told, ...snapshot() }];
    const native = new FakeNative({ ...script, snapshots, takes: 'cancel' });
    const { stdout, done } = await follow(native, { json: true }, { BULKHAUL_PROGRESS_INTERVAL: '0.04' });
    await vi.waitFor(() => expect(stdout.text).toContain('"type":"status"'), 60_000);
    native.cancel(false);
    await done;
    const states = jsonLines(stdout.text).filter(({ type }) => type === 'status');
    expect(states[0]).toMatchObject(told);
  });

  it('a name that is not UTF-8 has its bytes beside it, any other has not', async () => {
    const { stdout, done } = await follow(new FakeNative(script), { json: true, verbose: true });
    await done;
    const [plain, odd] = jsonLines(stdout.text).filter(({ type }) => type === 'entry');
    expect(plain).toMatchObject({ path: 'a' });
    expect(plain).not.toHaveProperty('pathBase64');
    expect(odd).toMatchObject({
      path: 'a\ufffd\n\x1b',
      pathBase64: ODD.toString('base64'),
      targetBase64: ODD.toString('base64'),
    });
  });

  it('with --quiet it is the summary only', async () => {
    const { stdout, done } = await follow(new FakeNative(script), { json: true, quiet: true });
    await done;
    expect(jsonLines(stdout.text).map(({ type }) => type)).toEqual(['summary']);
  });

  it('a job that cannot begin is a line too', async () => {
    const error = Object.assign(new Error('refused'), { code: 'SAFETY' });
    const { stdout, done } = await follow(new FakeNative({ error }), { json: true });
    await expect(done).rejects.toMatchObject({ code: 'SAFETY' });
    expect(jsonLines(stdout.text)).toEqual([
      { type: 'error', schema: 1, kind: 'refused', code: 'SAFETY', message: 'refused' },
    ]);
  });

  it('--progress=json alone puts the status on stderr', async () => {
    const env = { BULKHAUL_PROGRESS_INTERVAL: '0.04' };
    const { stdout, stderr, done } = await follow(new FakeNative(script), { progress: 'json' }, env);
    await done;
    expect(new Set(jsonLines(stderr.text).map(({ type }) => type))).toEqual(new Set(['status', 'error']));
    expect(stdout.text).toBe('');
  });

  it('the check finds what is wrong', () => {
    const line = { type: 'note', schema: 1, kind: 'owner', lost: true, path: 'a', message: 'm' };
    expect(schemaViolations(line)).toEqual([]);
    for (const wrong of [
      { ...line, schema: 2 },
      { ...line, path: 1 },
      { ...line, extra: 1 },
      { ...line, type: 'noise' },
      { type: 'note', schema: 1 },
    ]) {
      expect(schemaViolations(wrong)).not.toEqual([]);
    }
  });
});

describe('the streams', () => {
  it('a reader that goes away ends the job quietly', async () => {
    const native = new FakeNative({ events: [[entry()], [entry()]], takes: 'cancel' });
    const stdout = new Writable({
      write: (_chunk, _encoding, done) => done(Object.assign(new Error('broken pipe'), { code: 'EPIPE' })),
    });
    const stderr = new Capture();
    const done = runJob(
      () => new Job(async () => ({ native })),
      { ...SETTINGS, verbose: true },
      { stdout, stderr, env: {} },
    );
    expect((await done).interrupted).toBe(true);
    expect(native.cancels).toEqual([false]);
    expect(stderr.text).toBe('');
  });

  it('any other error on stdout is told', async () => {
    const native = new FakeNative({ events: [[entry()]], takes: 'cancel' });
    const stdout = new Writable({
      write: (_chunk, _encoding, done) => done(Object.assign(new Error('no space left'), { code: 'ENOSPC' })),
    });
    const context = { stdout, stderr: new Capture(), env: {} };
    const done = runJob(() => new Job(async () => ({ native })), { ...SETTINGS, verbose: true }, context);
    await expect(done).rejects.toMatchObject({ code: 'OUTPUT', message: expect.stringContaining('no space left') });
  });

  it('a slow reader holds the events back', async () => {
    const events = Array.from({ length: 20 }, () => [entry()]);
    const native = new FakeNative({ events });
    let release: () => void = () => undefined;
    const stdout = new Writable({
      highWaterMark: 1,
      write: (_chunk, _encoding, done) => {
        release = done;
      },
    });
    const done = runJob(
      () => new Job(async () => ({ native })),
      { ...SETTINGS, verbose: true },
      { stdout, stderr: new Capture(), env: {} },
    );
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(native.reads).toBeLessThan(3);
    const drain = setInterval(() => release(), 1);
    await done;
    clearInterval(drain);
    expect(native.reads).toBe(21);
  });
});

describe('a listener', () => {
  const listened = (native: FakeNative, listen: Listener, stdout = new Capture()) => {
    const context = { stdout, stderr: new Capture(), env: {} };
    return runJob(() => new Job(async () => ({ native })), { ...SETTINGS, verbose: true }, context, listen);
  };

  it('is told each event before it is shown', async () => {
    const stdout = new Capture();
    const seen: string[] = [];
    const native = new FakeNative({ events: [[entry(), note], [entry()]] });
    await listened(native, ({ type }) => seen.push(`${type} after ${stdout.text.length} characters`), stdout);
    const line = stdout.text.length / 2;
    const before = [0, line, line, 2 * line];
    const types = ['entry', 'note', 'entry', 'summary'];
    expect(seen).toEqual(types.map((type, at) => `${type} after ${before[at]} characters`));
  });

  it('that throws stops the job, and the run throws it', async () => {
    const native = new FakeNative({ events: [[note]], takes: 'cancel' });
    const listen = () => {
      throw new BulkhaulError('SAFETY', 'enough');
    };
    await expect(listened(native, listen)).rejects.toMatchObject({ code: 'SAFETY', message: 'enough' });
    expect(native.cancels).toContain(true);
  });
});

describe('--log-file', () => {
  it('has failures, notes and the summary, with names escaped', async () => {
    const path = join(scratch(), 'log');
    const script = { events: [[failure({ path: ODD, message: 'open a\n: no' }), note]], report: { copiedBytes: 7 } };
    for (const _ of [1, 2]) await (await follow(new FakeNative(script), { logFile: path })).done;
    const lines = readFileSync(path, 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines).toHaveLength(8);
    expect(lines[0]).toMatchObject({ level: 30, msg: 'begin', version: expect.any(String), host: hostname() });
    expect(lines.shift().command).toBeInstanceOf(Array);
    expect(lines[0]).toMatchObject({ pathBase64: ODD.toString('base64') });
    expect(lines[0]).toMatchObject({ level: 50, path: 'a\\xff\\n\\x1b', errno: 'EACCES', msg: 'open a\\n: no' });
    expect(lines[1]).toMatchObject({ level: 40, kind: 'owner', msg: 'the owner cannot be set' });
    expect(lines[2]).toMatchObject({ level: 30, copiedBytes: 7, accounted: true, msg: 'summary' });
  });

  it('that cannot be opened stops the run before it begins', async () => {
    const { done, wanted } = await follow(new FakeNative(), { logFile: join(scratch(), 'absent', 'log') });
    await expect(done).rejects.toMatchObject({ code: 'USAGE' });
    expect(wanted).toEqual([]);
  });

  it('that cannot be written is told at the end', async () => {
    const { done } = await follow(new FakeNative({ events: [[failure()]] }), { logFile: '/dev/full' });
    await expect(done).rejects.toMatchObject({ code: 'OUTPUT' });
  });
});

describe('signals', () => {
  it('the first finishes, the second aborts, SIGUSR1 tells the status even with --quiet', async () => {
    const native = new FakeNative({ takes: 'cancel', snapshots: ROW.slice(0, 1) });
    const before = process.listenerCount('SIGINT');
    const { stderr, done } = await follow(native, { quiet: true });
    await vi.waitFor(() => expect(native.ran).toBe(true));
    process.emit('SIGUSR1', 'SIGUSR1');
    expect(stderr.text).toMatch(/^0 of 10 files found so far.*\n$/);
    process.emit('SIGTERM', 'SIGTERM');
    process.emit('SIGINT', 'SIGINT');
    expect(native.cancels).toEqual([false, true]);
    expect(stderr.text).toMatch(/SIGTERM: .*\nSIGINT: aborting\n$/);
    expect((await done).interrupted).toBe(true);
    expect(process.listenerCount('SIGINT')).toBe(before);
  });
});

describe('itemised lines', () => {
  it.each<[string, Partial<NativeEntryEvent>]>([
    ['>f+++++++++ a', {}],
    ['cd+++++++++ a/', { kind: 'directory', outcome: 'made' }],
    ['cL+++++++++ a -> b', { kind: 'symlink', outcome: 'made', target: Buffer.from('b') }],
    ['hf+++++++++ a => b', { outcome: 'linked', target: Buffer.from('b') }],
    ['cS+++++++++ a', { kind: 'fifo', outcome: 'made' }],
    ['cD+++++++++ a', { kind: 'block', outcome: 'made' }],
    ['>f.st...... a', { changes: ['content', 'size', 'time'] }],
    ['>fc..p..... a', { changes: ['content', 'mode'] }],
    [
      'cL+++++++++ a -> b',
      { kind: 'symlink', outcome: 'made', changes: ['content', 'kind'], target: Buffer.from('b') },
    ],
    ['.f...pog.ax a', { outcome: 'metadata', changes: ['mode', 'owner', 'group', 'acl', 'xattr'] }],
    ['.d..t...... a/', { kind: 'directory', outcome: 'metadata', changes: ['time'] }],
    ['cLc........ a -> b', { kind: 'symlink', outcome: 'made', changes: ['target'], target: Buffer.from('b') }],
    ['*deleting   a', { outcome: 'removed' }],
    ['.f......... a (overridden)', { outcome: 'skipped', reason: 'overridden', changes: [] }],
    ['>f+++++++++ a\\xff\\n\\x1b', { path: ODD }],
  ])('%s', (line, changes) => {
    expect(itemLine(decode(entry(changes)))).toBe(line);
  });

  it.each<Partial<NativeEntryEvent>>([
    { outcome: 'skipped', reason: 'unchanged', changes: [] },
    { outcome: 'skipped', reason: 'excluded', changes: [] },
    { outcome: 'failed' },
    { outcome: 'conflict' },
  ])('none for %j', (changes) => {
    expect(itemLine(decode(entry(changes)))).toBeUndefined();
  });

  it.each([
    [{ dryRun: true }, true],
    [{ verbose: true }, true],
    [{ dryRun: true, quiet: true }, false],
    [{}, false],
  ])('are asked for with %j: %s', async (settings, asked) => {
    const { stdout, wanted, done } = await follow(new FakeNative({ events: [[entry()]] }), settings);
    await done;
    expect(wanted).toEqual([asked]);
    expect(stdout.text).toBe(asked ? '>f+++++++++ a\n' : '');
  });
});

describe('the summary of a removal', () => {
  it.each([
    [false, '10 entries removed in 2.0 s, 3 directories of them'],
    [true, '10 entries would be removed (4.88 KiB) in 2.0 s, 3 directories of them'],
  ])('dry run %s: %s', (dryRun, line) => {
    const text = removalSummaryText({
      ...reported(
        {
          outcomes: outcomes({ removed: 10, skipped: 1, failed: 1 }),
          found: { file: 8, directory: 4, symlink: 0, fifo: 0, socket: 0, block: 0, char: 0 },
          directories: outcomes({ removed: 3, skipped: 1 }),
          skipped: { 'not-empty': 1 },
          foundBytes: 5000,
          failures: [failure({ path: ODD, operation: 'remove' })],
          failureKinds: { permission: 1 },
          interrupted: true,
          elapsed: 2,
        },
        dryRun,
      ),
      failureFile: 'a\nb',
    });
    const tail = dryRun ? ', dry run: nothing was done' : '';
    expect(text).toBe(
      `${line}\nskipped: 1 not-empty\n1 failure: 1 permission; all of them are in a\\nb\n` +
        `INTERRUPTED: 11 of 12 found entries done, 1 failed; the same command goes on (exit 130${tail})\n`,
    );
  });
});

describe('the summary', () => {
  const text = (changes: Partial<NativeReport>, dryRun = false) => summaryText(reported(changes, dryRun));

  it('tells all', () => {
    const failures = Array.from({ length: 12 }, (_, index) =>
      failure({ message: `open f${index}: permission denied` }),
    );
    expect(
      text({
        outcomes: outcomes({ made: 4, copied: 3, linked: 1, metadata: 2, skipped: 5, failed: 12 }),
        found: { file: 20, directory: 3, symlink: 1, fifo: 1, socket: 0, block: 0, char: 0 },
        files: outcomes({ copied: 3, skipped: 5 }),
        skipped: { unchanged: 4, excluded: 1 },
        foundBytes: 5_000_000,
        copiedBytes: 3_000_000,
        failures: [failure({ path: ODD }), ...failures],
        failureKinds: { permission: 13 },
        notes: [{ type: 'note', kind: 'owner', count: 2, lost: false, path: ODD, message: 'the owner cannot be set' }],
        elapsed: 2,
      }),
    ).toMatchInlineSnapshot(`
      "3 files copied, 2.86 MiB written in 2.0 s, 1.43 MiB/s
      entries: 4 made, 1 linked, 2 given other metadata
      skipped: 4 unchanged, 1 excluded
      found: 20 files (4.77 MiB), 3 directories, 1 symlink, 1 special
      note (owner, 2x): the owner cannot be set, first at a\\xff\\n\\x1b
      13 failures: 13 permission
      on disk: after a power cut the next run finds and repairs whatever was lost (--sync safe)
      INCOMPLETE: 12 of 25 entries failed (exit 23)
      "
    `);
  });

  it('says what was there already', () => {
    expect(text({ resumedFiles: 1, resumedBytes: 3 * 2 ** 29 })).toContain(
      'resumed: 1.50 GiB of 1 file was there already',
    );
    expect(text({ resumedFiles: 2, resumedBytes: 5 })).toContain('resumed: 5 B of 2 files were there already');
    expect(text({})).not.toContain('resumed');
  });

  it('of a run that was interrupted takes the sizes that are known for no more than that', () => {
    const found = { file: 20, directory: 3, symlink: 0, fifo: 0, socket: 0, block: 0, char: 0 };
    expect(text({ found, foundBytes: 5_000_000, interrupted: true })).toContain(
      'found: 20 files (4.77 MiB known), 3 directories, 0 symlinks\n',
    );
  });

  it('of a dry run does not pretend', () => {
    const lines = text({ files: outcomes({ copied: 1 }), outcomes: outcomes({ copied: 1, made: 1 }) }, true);
    expect(lines).toContain('1 file would be copied');
    expect(lines).toContain('1 would be made');
    expect(lines).not.toContain('on disk');
  });

  it('says that nothing is guaranteed with --sync none', () => {
    expect(text({ sync: 'none' })).toContain('nothing is guaranteed');
  });

  it.each<[string, Partial<NativeReport>, boolean?]>([
    ['complete: 0 entries', {}],
    ['complete: 0 entries (dry run: nothing was done)', {}, true],
    [
      'INTERRUPTED: 1,000 of 1,003 found entries done; the same command goes on (exit 130)',
      { interrupted: true, outcomes: outcomes({ copied: 1000 }) },
    ],
    [
      'INTERRUPTED: 10 of 1,003 found entries done, 3 failed, 2 unfinished files stay; the same command goes on (exit 130)',
      { interrupted: true, unfinished: 2, outcomes: outcomes({ made: 4, skipped: 6, failed: 2, conflict: 1 }) },
    ],
    [
      'INTERRUPTED: 0 of 1,003 found entries done, 1 unfinished file stays; the same command goes on (exit 130)',
      { interrupted: true, unfinished: 1 },
    ],
    [
      'GIVEN UP: nothing moved any more; the same command goes on (exit 23)',
      { interrupted: true, failureKinds: { stalled: 1 } },
    ],
    ['INTERRUPTED: nothing was found yet; the same command goes on (exit 130)', { interrupted: true }],
    [
      'NOT ACCOUNTED FOR: entries found and outcomes recorded do not agree, a defect of bulkhaul; do not trust this run (exit 3)',
      { accounted: false },
    ],
    ['HELD BACK: too many\\n (exit 3)', { withheld: [{ kind: 'max-delete', what: 'extra', message: 'too many\n' }] }],
    ['MISMATCHED: 1 of 1,003 entries read back differently (exit 1)', { outcomes: outcomes({ mismatched: 1 }) }],
    ['INCOMPLETE: 1,001 of 1,003 entries failed (exit 23)', { outcomes: outcomes({ failed: 1000, conflict: 1 }) }],
    [
      'INCOMPLETE: 1 of 1,003 entries failed (exit 23, dry run: nothing was done)',
      { outcomes: outcomes({ failed: 1 }) },
      true,
    ],
    ['INCOMPLETE: 2 failures (exit 23)', { failureKinds: { io: 2 } }],
    ['INCOMPLETE: 2 of 1,003 entries vanished or changed meanwhile (exit 24)', { outcomes: outcomes({ changed: 2 }) }],
    [
      'INCOMPLETE: the destination did not keep what was wanted: owner (exit 23)',
      { notes: [{ type: 'note', kind: 'owner', count: 1, lost: true, path: ODD, message: '' }] },
    ],
  ])('ends with: %s', (sentence, changes, dryRun) => {
    const found = { file: 1000, directory: 3, symlink: 0, fifo: 0, socket: 0, block: 0, char: 0 };
    const all = /entries (failed|read|vanished|done)/.test(sentence) ? { found } : {};
    const lines = text({ ...changes, ...all }, dryRun).split('\n');
    expect(lines.slice(-2)).toEqual([sentence, '']);
  });

  it('of a comparison says what was compared, and what that came to', () => {
    const differences = { left: 1, right: 2000, changed: 3, leftEntries: 9, rightEntries: 2008 };
    const last = (changes: Partial<NativeReport>) =>
      compareSummary(reported(changes), 'names and kinds').split('\n').at(-2);
    expect(last({})).toBe('the same: nothing differs in names and kinds');
    expect(last({ differences })).toBe('DIFFERENT: 1 only in A, 2,000 only in B, 3 different (exit 1)');
    expect(last({ failureKinds: { io: 1 } })).toBe('INCOMPLETE: 1 failure (exit 23)');
    expect(last({ interrupted: true })).toMatch(/^INTERRUPTED: .*; the same command begins anew \(exit 130\)$/);
    expect(compareSummary(reported({ differences }), 'names and kinds')).toContain(
      'compared: names and kinds; 9 entries of A',
    );
  });
});

describe('failures', () => {
  const many = (count: number) =>
    Array.from({ length: count }, (_, at) => failure({ path: Buffer.from(`f${at}`), message: `open f${at}: no\n` }));
  const keptIn = (directory: string) => {
    const files = readdirSync(directory).flatMap((own) =>
      readdirSync(join(directory, own)).map((name) => join(directory, own, name)),
    );
    expect(files.length).toBeLessThan(2);
    return files[0];
  };
  const linesOf = (path: string) =>
    readFileSync(path, 'utf8')
      .trimEnd()
      .split('\n')
      .map((line): Record<string, unknown> => JSON.parse(line));

  it('are shown as they happen, the first ones, and a file has all of them', async () => {
    const state = scratch();
    const native = new FakeNative({ events: [many(23)], report: { failureKinds: { permission: 23 } } });
    const { stderr, stdout, done } = await follow(native, {}, { TMPDIR: state });
    const { failureFile } = await done;
    expect(failureFile).toBe(keptIn(state));
    const shown = Array.from({ length: 20 }, (_, at) => `bulkhaul: open f${at}: no\\n\n`).join('');
    expect(stderr.text).toBe(`${shown}bulkhaul: more failures are not shown here, all go to ${failureFile}\n`);
    expect(stdout.text).toBe('');
    const lines = linesOf(failureFile ?? expect.fail());
    expect(lines).toHaveLength(25);
    expect(lines[0]).toMatchObject({ msg: 'begin', command: expect.any(Array), host: hostname() });
    expect(lines[23]).toMatchObject({ path: 'f22', kind: 'permission' });
    expect(lines[24]).toMatchObject({ msg: 'summary', complete: false, exitCode: 23 });
    expect(statSync(failureFile ?? '').mode & 0o777).toBe(0o600);
  });

  it('are above the status line', async () => {
    const native = new FakeNative({ events: [many(1)], takes: 250 });
    const { stderr, done } = await follow(native, {}, {}, true);
    await done;
    expect(stderr.text).toMatch(/^bulkhaul: open f0: no\\n\n\r\d/);
  });

  it('where there is none, no file is made', async () => {
    const state = scratch();
    const { done } = await follow(new FakeNative(), {}, { TMPDIR: state });
    expect(await done).not.toHaveProperty('failureFile');
    expect(keptIn(state)).toBeUndefined();
  });

  it('go to the log file where there is one', async () => {
    const [state, log] = [scratch(), join(scratch(), 'log')];
    const { done } = await follow(new FakeNative({ events: [many(1)] }), { logFile: log }, { TMPDIR: state });
    expect((await done).failureFile).toBe(log);
    expect(keptIn(state)).toBeUndefined();
  });

  it('go to a directory of their own, because there others may make names, and nowhere where nothing can be made', async () => {
    const [wrong, other] = [join(scratch(), 'file'), scratch()];
    writeFileSync(wrong, '');
    const first = await follow(new FakeNative({ events: [many(1)] }), {}, { TMPDIR: other });
    const { failureFile = '' } = await first.done;
    expect(failureFile).toMatch(new RegExp(`^${other}/bulkhaul-failures-\\w{6}/[^/]+\\.jsonl$`));
    expect(statSync(dirname(failureFile)).mode & 0o777).toBe(0o700);
    const second = await follow(new FakeNative({ events: [many(21)] }), {}, { TMPDIR: wrong });
    expect(await second.done).not.toHaveProperty('failureFile');
    expect(second.stderr.text).toContain('more failures are not shown here, and no file could be made for them\n');
  });

  // There mkdir says that what is above does not exist, though it does.
  it.each(['/proc', '/proc/self/fd'])('go elsewhere where nothing can be made: %s', async (state) => {
    const other = scratch();
    const { done } = await follow(new FakeNative({ events: [many(1)] }), {}, { XDG_STATE_HOME: state, TMPDIR: other });
    expect((await done).failureFile).toContain(`${other}/bulkhaul-failures-`);
  });

  it('with --json the summary names the file, and stderr stays as it is', async () => {
    const state = scratch();
    const native = new FakeNative({ events: [many(1)], report: { failureKinds: { permission: 1 } } });
    const { stdout, stderr, done } = await follow(native, { json: true, quiet: true }, { TMPDIR: state });
    await done;
    expect(jsonLines(stdout.text)).toMatchObject([
      { type: 'summary', complete: false, exitCode: 23, dryRun: false, failureFile: keptIn(state) },
    ]);
    expect(stderr.text).toBe('');
  });

  it('of a look before a question are not shown', async () => {
    const { stderr, done } = await follow(new FakeNative({ events: [many(1)] }), { aside: 'counting' });
    await done;
    expect(stderr.text).toBe('');
  });
});

describe('exit codes', () => {
  it('are one table', () => {
    expect(ExitCode).toMatchInlineSnapshot(`
      {
        "changed": 24,
        "complete": 0,
        "defect": 70,
        "failed": 23,
        "interrupted": 130,
        "mismatched": 1,
        "safety": 3,
        "usage": 2,
      }
    `);
    const codes: ErrorCode[] = [
      'USAGE',
      'SAFETY',
      'NO_SOURCE',
      'NO_DESTINATION',
      'ADDON',
      'NO_START',
      'OUTPUT',
      'INCOMPLETE',
      'ABORTED',
      'INTERNAL',
    ];
    expect(
      Object.fromEntries(codes.map((code) => [code, exitCodeOfError(new BulkhaulError(code, ''))])),
    ).toMatchInlineSnapshot(`
      {
        "ABORTED": 130,
        "ADDON": 2,
        "INCOMPLETE": 23,
        "INTERNAL": 70,
        "NO_DESTINATION": 2,
        "NO_SOURCE": 23,
        "NO_START": 2,
        "OUTPUT": 23,
        "SAFETY": 3,
        "USAGE": 2,
      }
    `);
    expect(exitCodeOfError(new TypeError())).toBe(70);
  });

  it.each<[number, string, Partial<NativeReport>]>([
    [0, 'complete', { outcomes: outcomes({ made: 1, copied: 1, linked: 1, metadata: 1, skipped: 1, removed: 1 }) }],
    [0, 'notes only', { notes: [{ type: 'note', kind: 'owner', count: 1, lost: false, path: ODD, message: '' }] }],
    [23, 'something lost', { notes: [{ type: 'note', kind: 'owner', count: 1, lost: true, path: ODD, message: '' }] }],
    [1, 'mismatched', { outcomes: outcomes({ mismatched: 1 }) }],
    [3, 'not accounted for', { accounted: false }],
    [23, 'failed', { outcomes: outcomes({ failed: 1 }), failureKinds: { io: 1 } }],
    [23, 'a failure without an entry', { failureKinds: { io: 1 } }],
    [23, 'a failed entry without a kind', { outcomes: outcomes({ failed: 1 }) }],
    [23, 'conflict', { outcomes: outcomes({ conflict: 1 }), failureKinds: { conflict: 1 } }],
    [24, 'changed', { outcomes: outcomes({ changed: 1 }), failureKinds: { changed: 1 } }],
    [24, 'vanished', { outcomes: outcomes({ changed: 1 }), failureKinds: { vanished: 1 } }],
    [24, 'vanished, counted as failed', { outcomes: outcomes({ failed: 1 }), failureKinds: { vanished: 1 } }],
    [130, 'interrupted', { interrupted: true }],
    [23, 'failed and vanished', { outcomes: outcomes({ failed: 2 }), failureKinds: { vanished: 1, io: 1 } }],
    [1, 'mismatched and failed', { outcomes: outcomes({ mismatched: 1, failed: 1 }) }],
    [3, 'not accounted for and mismatched', { accounted: false, outcomes: outcomes({ mismatched: 1 }) }],
    [
      130,
      'everything',
      { interrupted: true, accounted: false, outcomes: outcomes({ failed: 1, mismatched: 1, changed: 1 }) },
    ],
  ])('%d: %s', (code, _, changes) => {
    expect(reported(changes)).toMatchObject({ exitCode: code, complete: code === 0 });
  });
});
