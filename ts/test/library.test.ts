import { describe, expect, it, vi } from 'vitest';
import { BulkhaulError } from '../src/error.js';
import type { JobEvent } from '../src/events.js';
import type { NativeEntryEvent, NativeNote } from '../src/native/events.js';
import { copy } from '../src/ops/copy.js';
import { Job } from '../src/ops/job.js';
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

const jobOf = (native: FakeNative, signal?: AbortSignal) => new Job(async () => native, signal);

async function collect(job: Job): Promise<JobEvent[]> {
  const events: JobEvent[] = [];
  for await (const event of job) events.push(event);
  return events;
}

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
    expect((await job).interrupted).toBe(true);
    expect(native.cancels).toEqual([true]);
    expect(own).toHaveBeenCalledOnce();
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
