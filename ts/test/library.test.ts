import { describe, expect, it, vi } from 'vitest';
import { BulkhaulError } from '../src/error.js';
import type { JobEvent } from '../src/events.js';
import type { NativeEntryEvent, NativeEvent, NativeNote } from '../src/native/events.js';
import { copy } from '../src/ops/copy.js';
import { follow, Job, JobError } from '../src/ops/job.js';
import { FakeNative, scratch } from './rig.js';

const note = (path: string): NativeNote => ({
  type: 'note',
  kind: 'owner',
  count: 1,
  lost: false,
  path: Buffer.from(path),
  message: path,
});
const entry: NativeEntryEvent = {
  type: 'entry',
  outcome: 'copied',
  kind: 'file',
  path: Buffer.from([0x61, 0xff]),
  source: Buffer.from('s'),
  destination: Buffer.from('d'),
  bytes: 1,
  changes: ['new'],
};

const jobOf = (native: FakeNative, signal?: AbortSignal) => new Job(async () => ({ native }), signal);

async function collect(job: Job): Promise<JobEvent[]> {
  const events: JobEvent[] = [];
  for await (const event of job) events.push(event);
  return events;
}

describe('a job of the addon', () => {
  it('is asked for its events before it runs: what nobody has asked for is not told', async () => {
    const order: string[] = [];
    class Watched extends FakeNative {
      override run() {
        order.push('run');
        return super.run();
      }
      override nextEvents() {
        order.push('events');
        return super.nextEvents();
      }
    }
    const told: NativeEvent[] = [];
    const take = (event: NativeEvent) => void told.push(event);
    await follow(new Watched({ events: [[note('a')], [note('b')]] }), take);
    expect([order.slice(0, 2), told.length]).toEqual([['events', 'run'], 2]);
    const fails = new Watched({ events: [[note('a')]], error: new Error('it does not begin') });
    await expect(follow(fails, take)).rejects.toThrow('it does not begin');
  });
});

describe('a job', () => {
  it('is a promise of its report, also when nobody reads its events', async () => {
    const native = new FakeNative({ events: [[note('a')], [note('b')]], report: { copiedBytes: 7 } });
    const report = await jobOf(native);
    expect(report.copiedBytes).toBe(7);
    expect(native.reads).toBe(0);
  });

  it('runs without being awaited', async () => {
    const native = new FakeNative();
    jobOf(native);
    await vi.waitFor(() => expect(native.ran).toBe(true));
  });

  it('gives its events in order, decoded, and the summary last', async () => {
    const native = new FakeNative({ events: [[note('a'), entry], [note('b')]], report: { copiedBytes: 7 } });
    const events = await collect(jobOf(native));
    expect(events.map((event) => ('path' in event ? event.path : event.type))).toEqual([
      'a',
      'a\udcff',
      'b',
      'summary',
    ]);
    expect(events.at(-1)).toMatchObject({ type: 'summary', copiedBytes: 7, accounted: true });
  });

  it('asks for the first events before it runs', async () => {
    const native = new FakeNative();
    let readsAtRun = -1;
    const run = native.run.bind(native);
    native.run = () => {
      readsAtRun = native.reads;
      return run();
    };
    await collect(jobOf(native));
    expect(readsAtRun).toBe(1);
  });

  it('can be iterated and awaited, and iterated only once', async () => {
    const job = jobOf(new FakeNative({ events: [[note('a')]] }));
    const [events, report] = await Promise.all([collect(job), job]);
    expect(events).toHaveLength(2);
    expect(report.accounted).toBe(true);
    expect(() => job[Symbol.asyncIterator]()).toThrow(expect.objectContaining({ code: 'USAGE' }));
  });

  it('goes on when its reader leaves', async () => {
    const native = new FakeNative({ events: [[note('a')], [note('b')], [note('c')]] });
    const job = jobOf(native);
    for await (const event of job) {
      expect(event.type).toBe('note');
      break;
    }
    expect((await job).accounted).toBe(true);
    expect(native.reads).toBeGreaterThan(3);
  });

  it('rejects with the code of the addon, to its reader too', async () => {
    const error = Object.assign(new Error('destination is inside source'), { code: 'SAFETY' });
    const failing = () => jobOf(new FakeNative({ error }));
    await expect(failing()).rejects.toMatchObject({ name: 'BulkhaulError', code: 'SAFETY' });
    await expect(collect(failing())).rejects.toBeInstanceOf(BulkhaulError);
  });

  it('calls an error without a code of ours a defect', async () => {
    await expect(jobOf(new FakeNative({ error: new TypeError('oops') }))).rejects.toMatchObject({ code: 'INTERNAL' });
  });

  it('is cancelled: gently, then at once', async () => {
    const native = new FakeNative({ takes: 'cancel' });
    const job = jobOf(native);
    await vi.waitFor(() => expect(native.ran).toBe(true));
    job.cancel();
    job.cancel(true);
    expect(native.cancels).toEqual([false, true]);
    expect((await job).interrupted).toBe(true);
  });

  it('is cancelled before it has begun', async () => {
    const native = new FakeNative({ takes: 'cancel' });
    const job = jobOf(native);
    job.cancel();
    expect((await job).interrupted).toBe(true);
    expect(native.cancels).toEqual([false]);
  });

  it('resolves with what failed, and orThrow rejects, with the report', async () => {
    const failureKinds = { io: 1 };
    const job = jobOf(new FakeNative({ report: { failureKinds } }));
    expect(await job).toMatchObject({ complete: false, exitCode: 23, dryRun: false });
    await expect(job.orThrow()).rejects.toBeInstanceOf(JobError);
    await expect(job.orThrow()).rejects.toMatchObject({
      code: 'INCOMPLETE',
      message: 'INCOMPLETE: 1 failure (exit 23)',
      report: { failureKinds },
    });
    const whole = jobOf(new FakeNative());
    expect(await whole.orThrow()).toBe(await whole);
  });

  it('of a comparison is complete whatever differs', async () => {
    const differences = { left: 1, right: 0, changed: 0, leftEntries: 1, rightEntries: 0 };
    const report = await jobOf(new FakeNative({ report: { differences } })).orThrow();
    expect(report).toMatchObject({ complete: true, exitCode: 1 });
  });

  it('is caught and finished as any promise', async () => {
    const failing = () => jobOf(new FakeNative({ error: Object.assign(new Error('no'), { code: 'SAFETY' }) }));
    expect(await failing().catch((error) => error)).toMatchObject({ code: 'SAFETY' });
    const end = vi.fn();
    expect((await jobOf(new FakeNative()).finally(end)).complete).toBe(true);
    await expect(failing().finally(end)).rejects.toMatchObject({ code: 'SAFETY' });
    expect(end).toHaveBeenCalledTimes(2);
  });

  it('that does nothing says so, and each of its entries', async () => {
    const job = new Job(async () => ({ native: new FakeNative({ events: [[entry]] }) }), undefined, undefined, true);
    expect(await collect(job)).toMatchObject([
      { type: 'entry', dryRun: true },
      { type: 'summary', dryRun: true },
    ]);
  });

  it('has counters from the start', () => {
    expect(jobOf(new FakeNative()).snapshot()).toMatchObject({ phase: 'preflight', foundFiles: 0 });
  });
});

describe('an AbortSignal', () => {
  it('that is aborted already begins nothing', async () => {
    const native = new FakeNative();
    const reason = new Error('never mind');
    await expect(jobOf(native, AbortSignal.abort(reason))).rejects.toBe(reason);
    expect(native.ran).toBe(false);
  });

  it('stops a running job, and its own handler stays', async () => {
    const native = new FakeNative({ takes: 'cancel' });
    const controller = new AbortController();
    const own = vi.fn();
    controller.signal.onabort = own;
    const job = jobOf(native, controller.signal);
    await vi.waitFor(() => expect(native.ran).toBe(true));
    controller.abort();
    await expect(job).rejects.toMatchObject({ name: 'AbortError', report: { interrupted: true, exitCode: 130 } });
    await expect(job).rejects.toBe(controller.signal.reason);
    expect(native.cancels).toEqual([true]);
    expect(own).toHaveBeenCalledOnce();
  });

  it.each([
    ['no object', 'enough'],
    ['frozen', Object.freeze(new Error('enough'))],
  ])('whose reason is %s is the cause of the error that has the report', async (_, reason) => {
    const native = new FakeNative({ takes: 'cancel' });
    const controller = new AbortController();
    const job = jobOf(native, controller.signal);
    await vi.waitFor(() => expect(native.ran).toBe(true));
    controller.abort(reason);
    await expect(job).rejects.toBeInstanceOf(JobError);
    await expect(job).rejects.toMatchObject({ code: 'ABORTED', cause: reason, report: { interrupted: true } });
  });

  it('of two jobs gives each its own report', async () => {
    const controller = new AbortController();
    const natives = [1, 2].map((copiedBytes) => new FakeNative({ takes: 'cancel', report: { copiedBytes } }));
    const jobs = natives.map((native) => jobOf(native, controller.signal));
    await vi.waitFor(() => expect(natives.every(({ ran }) => ran)).toBe(true));
    controller.abort();
    const settled = await Promise.allSettled(jobs);
    expect(settled).toMatchObject([
      { reason: { report: { copiedBytes: 1 } } },
      { reason: { report: { copiedBytes: 2 }, cause: controller.signal.reason } },
    ]);
  });

  it('that comes too late changes nothing', async () => {
    const controller = new AbortController();
    const native = new FakeNative();
    native.cancel = () => undefined;
    const job = jobOf(native, controller.signal);
    await vi.waitFor(() => expect(native.ran).toBe(true));
    controller.abort();
    expect((await job).complete).toBe(true);
  });

  it('is let go of at the end, also of a job that could not begin', async () => {
    const native = new FakeNative();
    const controller = new AbortController();
    const { signal } = controller;
    const added = vi.spyOn(signal, 'addEventListener');
    const removed = vi.spyOn(signal, 'removeEventListener');
    await jobOf(native, signal);
    await expect(copy({ sources: '', destination: 'd', signal })).rejects.toMatchObject({ code: 'USAGE' });
    expect(added).toHaveBeenCalledTimes(2);
    expect(removed).toHaveBeenCalledTimes(2);
    controller.abort();
    expect(native.cancels).toEqual([]);
  });
});

describe('copy', () => {
  it.each([
    ['no source', { sources: [], destination: 'd' }],
    ['an empty source', { sources: '', destination: 'd' }],
    ['an empty destination', { sources: 's', destination: '' }],
    ['a NUL in a name', { sources: 'a\0b', destination: 'd' }],
    ['a list with two sources', { sources: ['a', 'b'], destination: 'd', filesFrom: { path: 'l', nul: false } }],
  ])('refuses %s', async (_, options) => {
    await expect(copy(options)).rejects.toMatchObject({ code: 'USAGE' });
  });

  it('makes two independent jobs', async () => {
    const directory = scratch();
    const settled = await Promise.allSettled([
      copy({ sources: `${directory}/absent`, destination: `${directory}/1` }),
      copy({ sources: '', destination: `${directory}/2` }),
    ]);
    expect(settled).toMatchObject([{ reason: { code: 'NO_SOURCE' } }, { reason: { code: 'USAGE' } }]);
  });
});
