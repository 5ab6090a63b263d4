/**
 * A running operation: a promise of its report, an async iterable of its events, and cancellable.
 *
 * Comes in: a way to make the addon's job; goes out: decoded events and the report. It runs from the moment it is made,
 * awaited or not, read or not. What could not begin rejects with `BulkhaulError`. What goes wrong with single entries is
 * in the report, and the job resolves: `complete` tells, and `orThrow()` rejects.
 */
import { existsSync } from 'node:fs';
import { BulkhaulError, workingDirectory } from '../error.js';
import { decode, type JobEvent, type Report, type Snapshot, type Victims } from '../events.js';
import { conclusionOf, type Journaled, type Journaling, Keeper } from '../journal/keeper.js';
import type { Operation } from '../journal/record.js';
import { toBytes } from '../names.js';
import type { NativeEvent, NativeQuestion, NativeReport } from '../native/events.js';
import type { Limits } from '../native/options.js';
import { loadAddon, type NativeJob } from '../native.js';
import { sentenceOf, verdictOf } from '../verdict.js';
import { boolean, type Check, type JobOptions, LIMITS, pathText, record, seconds } from './arguments.js';

/** Whether what is named may be deleted: extra entries of the destination, the sources of a move, or both. */
export type Confirm = (victims: readonly Victims[]) => boolean | Promise<boolean>;

export type { Journaled, Journaling } from '../journal/keeper.js';

/** Of what has not begun. */
export const NOTHING_YET: Snapshot = {
  phase: 'preflight',
  foundFiles: 0,
  foundBytes: 0,
  foundDirectories: 0,
  foundLinks: 0,
  doneEntries: 0,
  doneFiles: 0,
  doneBytes: 0,
  skippedFiles: 0,
  skippedBytes: 0,
  copiedBytes: 0,
  copiedFiles: 0,
  resumedBytes: 0,
  errors: 0,
  workers: 0,
  limits: { bytes: 0, entries: 0 },
  verifiedBytes: 0,
  readBytes: 0,
  workedEntries: 0,
  elapsed: 0,
};

/** A job of the addon, and its journal where it has one. */
export interface Prepared {
  native: NativeJob;
  journal?: Journaling | undefined;
}

/**
 * Runs a job of the addon to its end, and takes its events: they are asked for before it runs, because what nobody has asked for
 * is not told. Rejects with what the job rejects with, when all were taken.
 */
export async function follow(
  native: NativeJob,
  take: (event: NativeEvent) => void | Promise<void>,
): Promise<NativeReport> {
  const first = native.nextEvents();
  const running = native.run();
  running.catch(() => undefined);
  for (let batch = await first; batch.length > 0; batch = await native.nextEvents()) {
    for (const event of batch) await take(event);
  }
  return running;
}

/** A job of the addon that was told to run. */
interface Begun {
  native: NativeJob;
  report: Promise<NativeReport>;
  /** The first batch of events: asked for before the job runs, so that none is missed. */
  events: Promise<NativeEvent[]> | undefined;
}

/**
 * A job that ended, and not as it was to: `report` is what it did.
 *
 * @example
 * ```js
 * import { copy, JobError } from 'bulkhaul';
 *
 * try {
 *   await copy({ sources: ['photos', 'absent'], destination: '/mnt/archive' }).orThrow();
 * } catch (error) {
 *   if (!(error instanceof JobError)) throw error;
 *   console.log(error.message, error.report.failures);
 * }
 * ```
 */
export class JobError extends BulkhaulError {
  constructor(
    code: 'INCOMPLETE' | 'ABORTED',
    message: string,
    /** What it did until then. */
    readonly report: Report,
    options?: ErrorOptions,
  ) {
    super(code, message, options);
  }
}

/**
 * What happens in a job is told to the journal of the command of which it is a step, where it has none itself; answers what
 * tells how far it is. To be called in the same tick as the job is made.
 */
export let recordIn: (job: Job, keeper: Keeper) => () => Snapshot;

/**
 * A running operation: await it for its report, iterate it for its events. Every operation is one.
 *
 * @example
 * ```js
 * import { copy } from 'bulkhaul';
 *
 * const job = copy({ sources: 'photos', destination: '/mnt/archive' });
 * for await (const event of job) if (event.type === 'note') console.log(event.message);
 * console.log((await job).complete);
 * ```
 */
export class Job implements PromiseLike<Report>, AsyncIterable<JobEvent> {
  readonly #begun: Promise<Begun>;
  readonly #report: Promise<Report>;
  #native: NativeJob | undefined;
  /** Who keeps its journal. */
  #keeper: Keeper | undefined;
  /** Who keeps that of the command of which it is a step. */
  #above: Keeper | undefined;
  /** Cancelled before there was anything to cancel: false gently, true at once. */
  #cancelled: boolean | undefined;
  /** Set before there was anything to limit. */
  #limits: Limits | undefined;
  #stallTimeout: number | undefined;
  #read = false;
  /** All events were taken. */
  #tell: () => void = () => undefined;
  readonly #heard = new Promise<void>((resolve) => {
    this.#tell = resolve;
  });
  /** The journal has come to its end. */
  #ended: Promise<void> | undefined;
  /** Somebody else reads the events. */
  #iterated = false;
  readonly #confirm: Confirm | undefined;
  readonly #dryRun: boolean;
  /** Limits that it begins with. */
  readonly #asked: Limits;

  /**
   * Starts what `prepare` makes. A signal that is aborted already rejects with its reason and nothing is begun. One that is
   * aborted later stops the job at once, which then rejects with the reason, and the reason has the report as its property
   * `report`; a reason that can't carry it (no object, frozen, or it has one of another job) is the cause of a `JobError`.
   * `confirm` answers the job's question; without it the answer is no. `dryRun`: the job does nothing, and says so.
   */
  constructor(
    prepare: () => Promise<Prepared>,
    signal?: AbortSignal,
    confirm?: Confirm,
    dryRun = false,
    limits: Limits = {},
  ) {
    this.#confirm = confirm;
    this.#dryRun = dryRun;
    this.#asked = limits;
    this.#begun = this.#begin(prepare, signal);
    this.#report = this.#finish(signal);
  }

  static {
    recordIn = (job, keeper) => {
      job.#above = keeper;
      return () => job.#peek();
    };
  }

  readonly #abort = () => this.cancel(true);

  async #begin(prepare: () => Promise<Prepared>, signal: AbortSignal | undefined): Promise<Begun> {
    signal?.throwIfAborted();
    signal?.addEventListener('abort', this.#abort, { once: true });
    try {
      const { native, journal } = await prepare();
      this.#native = native;
      if (journal) this.#keeper = new Keeper(journal, () => this.#peek());
      if (this.#limits !== undefined) native.setLimits(this.#limits);
      if (this.#stallTimeout !== undefined) {
        seconds(this.#stallTimeout, 'stallTimeout');
        native.setStallTimeout(this.#stallTimeout);
      }
      if (this.#cancelled !== undefined) native.cancel(this.#cancelled);
      if (!this.#read && (this.#confirm !== undefined || journal !== undefined)) {
        // Nobody reads: questions are answered nevertheless, and the journal is told.
        this.#read = true;
        void this.#drain(native);
        return { native, events: undefined, report: native.run() };
      }
      if (!this.#read) this.#tell();
      const events = this.#read ? native.nextEvents() : undefined;
      return { native, events, report: native.run() };
    } catch (error) {
      throw BulkhaulError.from(error);
    }
  }

  async #finish(signal: AbortSignal | undefined): Promise<Report> {
    try {
      const { report: running } = await this.#begun;
      const counted = decode(
        await running.catch((error: unknown) => {
          throw BulkhaulError.from(error);
        }),
      );
      const report: Report = { ...counted, ...verdictOf(counted, this.#dryRun) };
      this.#ended = this.#heard.then(() => this.#close(report));
      // Whoever reads the events may wait for the report before the last of them.
      if (!this.#iterated) await this.#ended;
      if (signal?.aborted && report.interrupted) throw abortError(signal.reason, report);
      return report;
    } catch (error) {
      if (error instanceof BulkhaulError && error.code !== 'INTERNAL') this.#keeper?.abandon();
      else this.#keeper?.close();
      throw error;
    } finally {
      signal?.removeEventListener('abort', this.#abort);
    }
  }

  #peek(): Snapshot {
    return this.#native?.peek() ?? NOTHING_YET;
  }

  /** The journal has heard of everything: it ends, and the report says where it is. */
  async #close(report: Report): Promise<void> {
    await this.#keeper?.end(conclusionOf(report));
    (this.#keeper ?? this.#above)?.tell(report);
  }

  /**
   * The name of the job, where it has a journal; undefined before it has begun.
   *
   * @example
   * ```js
   * import { copy } from 'bulkhaul';
   *
   * const job = copy({ sources: 'photos', destination: '/mnt/archive', journal: { directory: '/mnt/state' } });
   * await job;
   * console.log(job.id);
   * ```
   */
  get id(): string | undefined {
    return this.#keeper?.id;
  }

  /**
   * The file that has all failures so far, where the journal has them.
   *
   * @example
   * ```js
   * import { copy } from 'bulkhaul';
   *
   * const job = copy({ sources: 'photos', destination: '/mnt/archive', journal: { directory: '/mnt/state' } });
   * const { failed } = (await job).outcomes;
   * if (failed > 0) console.log(job.failureFile);
   * ```
   */
  get failureFile(): string | undefined {
    return (this.#keeper ?? this.#above)?.failureFile;
  }

  /**
   * What its journal says of it, when it has begun; undefined where it has none. Rejects with what the job rejects with.
   *
   * @example
   * ```js
   * import { copy } from 'bulkhaul';
   *
   * const job = copy({ sources: 'photos', destination: '/mnt/archive', journal: { directory: '/mnt/state' } });
   * console.log((await job.journal())?.earlier?.bytes);
   * ```
   */
  async journal(): Promise<Journaled | undefined> {
    await this.#begun;
    return this.#keeper?.told;
  }

  /**
   * What `await` calls: the report, with failures in it or not; rejects with what kept the job from beginning, or the reason of
   * its signal.
   *
   * @example
   * ```js
   * import { copy } from 'bulkhaul';
   *
   * const { complete, exitCode } = await copy({ sources: 'photos', destination: '/mnt/archive' });
   * console.log(complete, exitCode);
   * ```
   */
  // biome-ignore lint/suspicious/noThenProperty: a job is awaited for its report
  then<Result = Report, Otherwise = never>(
    onReport?: ((report: Report) => Result | PromiseLike<Result>) | null,
    onError?: ((error: unknown) => Otherwise | PromiseLike<Otherwise>) | null,
  ): Promise<Result | Otherwise> {
    return this.#report.then(onReport, onError);
  }

  /**
   * As of a promise: what `onError` makes of an error stands for the report.
   *
   * @example
   * ```js
   * import { copy } from 'bulkhaul';
   *
   * const report = await copy({ sources: 'absent', destination: '/mnt/archive' }).catch(({ code }) => code);
   * console.log(report); // NO_SOURCE
   * ```
   */
  catch<Otherwise = never>(
    onError?: ((error: unknown) => Otherwise | PromiseLike<Otherwise>) | null,
  ): Promise<Report | Otherwise> {
    return this.#report.catch(onError);
  }

  /**
   * As of a promise: calls `onEnd` when the job is over, however it ended.
   *
   * @example
   * ```js
   * import { copy } from 'bulkhaul';
   *
   * const job = copy({ sources: 'photos', destination: '/mnt/archive' });
   * const timer = setInterval(() => console.log(job.snapshot().doneFiles), 1000);
   * await job.finally(() => clearInterval(timer));
   * ```
   */
  finally(onEnd?: (() => void) | null): Promise<Report> {
    return this.#report.finally(onEnd);
  }

  /**
   * The report of a job that is complete. Where something failed, changed, was lost or held back it rejects with a
   * `JobError` of the code `INCOMPLETE`, which has the report; its `cause` is the first failure, whose message it ends with. (The
   * job itself resolves then.)
   *
   * @example
   * ```js
   * import { copy } from 'bulkhaul';
   *
   * const { outcomes } = await copy({ sources: 'photos', destination: '/mnt/archive' }).orThrow();
   * console.log(outcomes.copied);
   * ```
   */
  async orThrow(): Promise<Report> {
    const report = await this.#report;
    if (report.complete) return report;
    const [cause] = report.failures;
    const sentence = sentenceOf(report);
    throw cause === undefined
      ? new JobError('INCOMPLETE', sentence, report)
      : new JobError('INCOMPLETE', `${sentence}: ${cause.message}`, report, { cause });
  }

  /**
   * The events, once. Start to iterate in the same tick as the job is made, or the first ones may be missed. The job
   * waits for a slow reader; leaving the loop early lets it run on unread. Throws what the job rejects with.
   *
   * @example
   * ```js
   * import { copy } from 'bulkhaul';
   *
   * for await (const event of copy({ sources: 'photos', destination: '/mnt/archive', entries: true })) {
   *   if (event.type === 'entry') console.log(event.outcome, event.path);
   *   if (event.type === 'error') console.log(event.message);
   * }
   * ```
   */
  [Symbol.asyncIterator](): AsyncGenerator<JobEvent, void, undefined> {
    if (this.#read) throw new BulkhaulError('USAGE', 'the events of a job can be iterated only once');
    this.#read = this.#iterated = true;
    // The reader is told by the iteration; without this a job that nobody awaits as well would end the process.
    this.#report.catch(() => undefined);
    return this.#events();
  }

  async *#events(): AsyncGenerator<JobEvent, void, undefined> {
    const { native, events } = await this.#begun;
    let left = true;
    try {
      for (let batch = await (events ?? native.nextEvents()); batch.length > 0; batch = await native.nextEvents()) {
        for (const event of batch) {
          if (event.type === 'question') await this.#ask(native, event);
          else if ((event.type === 'entry' || event.type === 'part') && this.#dryRun)
            yield { ...decode(event), dryRun: true };
          else yield await this.#note(decode(event));
        }
      }
      left = false;
      this.#tell();
    } finally {
      if (left) void this.#drain(native);
    }
    const report = await this.#report;
    await this.#ended;
    yield { type: 'summary', ...report };
  }

  /** The journal hears of an event before anybody else. */
  async #note<Told extends JobEvent>(event: Told): Promise<Told> {
    await (this.#keeper ?? this.#above)?.take(event);
    return event;
  }

  async #ask(native: NativeJob, { victims }: NativeQuestion): Promise<void> {
    let yes = false;
    try {
      const answer = (await this.#confirm?.(decode(victims))) ?? false;
      boolean(answer, 'the answer of confirm');
      yes = answer;
    } finally {
      native.answer(yes);
    }
  }

  /** Takes the events that nobody wants any more, so that the job does not wait for its reader. */
  async #drain(native: NativeJob): Promise<void> {
    try {
      for (let batch = await native.nextEvents(); batch.length > 0; batch = await native.nextEvents()) {
        for (const event of batch) {
          // Whoever could be told that asking failed has left: it is a no.
          if (event.type === 'question') await this.#ask(native, event).catch(() => undefined);
          else if ((this.#keeper ?? this.#above) !== undefined) await this.#note(decode(event));
        }
      }
    } finally {
      this.#tell();
    }
  }

  /**
   * Counters, now: absolute numbers, at any time, also before the job has begun and after it has ended. Whoever asks is taken
   * for somebody who watches: after a second `expected` says how much there is in all, once that is known.
   *
   * @example
   * ```js
   * import { setTimeout } from 'node:timers/promises';
   * import { copy } from 'bulkhaul';
   *
   * const job = copy({ sources: 'photos', destination: '/mnt/archive' });
   * await Promise.race([job, setTimeout(500)]);
   * const { phase, doneFiles, readBytes, elapsed } = job.snapshot();
   * console.log(phase, doneFiles, readBytes / elapsed);
   * ```
   */
  snapshot(): Snapshot {
    const { bytes = 0, entries = 0 } = this.#limits ?? this.#asked;
    return this.#native?.snapshot() ?? { ...NOTHING_YET, limits: { bytes, entries } };
  }

  /**
   * Changes how fast the job may go, from now on: bytes and entries a second, 0 for no limit; what is left out becomes 0.
   * Throws `USAGE` for what is no rate.
   *
   * @example
   * ```js
   * import { copy } from 'bulkhaul';
   *
   * const job = copy({ sources: 'photos', destination: '/mnt/archive', limits: { bytes: 1e6 } });
   * job.setLimits({ bytes: 100e6, entries: 5000 });
   * await job;
   * ```
   */
  setLimits(limits: Limits): void {
    record(LIMITS)(limits, 'limits');
    this.#limits = limits;
    try {
      this.#native?.setLimits(limits);
    } catch (error) {
      throw BulkhaulError.from(error);
    }
  }

  /**
   * Gives the job up when nothing moves for so many seconds; 0, the default: never. To be called in the same tick as the job
   * is made. The report then has failures of the kind `stalled`, with what its threads are held at; these threads stay
   * behind, so the process had better end. Not counted is the time in which the job waits for an answer, leave from a limit,
   * whoever reads its events, or a list that is still being written; a sync may take ten times as long.
   *
   * @example
   * ```js
   * import { copy } from 'bulkhaul';
   *
   * const job = copy({ sources: 'photos', destination: '/mnt/archive' });
   * job.setStallTimeout(600);
   * const { failureKinds } = await job;
   * console.log('stalled' in failureKinds);
   * ```
   */
  setStallTimeout(seconds: number): void {
    this.#stallTimeout = seconds;
  }

  /**
   * Stops the job. `abort` false, the default: within a few seconds, in good order: nothing new is begun, a file in flight
   * that can end by then does, any other stays unfinished for the next run (`unfinished` of the report), and what only reads
   * stops at once. `snapshot().stopping` tells what is waited for. true: at once, and what is unfinished goes, but for big
   * files, which the next run goes on with. The report then says `interrupted`. A call of the system that does not come
   * back within a second of that is left behind with its thread, and the report has a note of the kind `left-behind`: the
   * process had better end.
   *
   * @example
   * ```js
   * import { copy } from 'bulkhaul';
   *
   * const job = copy({ sources: 'photos', destination: '/mnt/archive' });
   * process.once('SIGTERM', () => job.cancel());
   * const { interrupted } = await job;
   * console.log(interrupted ? 'the same again goes on' : 'done');
   * ```
   */
  cancel(abort = false): void {
    boolean(abort, 'abort');
    this.#cancelled = abort || (this.#cancelled ?? false);
    this.#native?.cancel(abort);
  }
}

/**
 * The job that `prepare` makes of a caller's options when `check` has found nothing wrong with them; else a job that
 * rejects.
 */
export function begin<
  Options extends Pick<JobOptions, 'signal' | 'dryRun'> & {
    confirm?: Confirm | undefined;
    limits?: Limits | undefined;
  },
>(options: Options, check: Check, prepare: (options: Options) => Promise<Prepared>): Job {
  try {
    check(options, '');
  } catch (error) {
    return new Job(() => Promise.reject(error));
  }
  return new Job(() => prepare(options), options.signal, options.confirm, options.dryRun, options.limits);
}

/**
 * The journal that the options of an operation ask for; `asked`: these options in the form that a later run begins from.
 * `early`: its files have to be there from the beginning, because something is deleted. Otherwise it is opened at once only
 * where an earlier run has left one.
 */
export async function journalFor(
  operation: Operation,
  asked: JobOptions & object,
  early = false,
): Promise<Journaling | undefined> {
  const { journal: settings, dryRun } = asked;
  if (settings === undefined || dryRun) return undefined;
  const directory = pathText(settings.directory, 'the directory of journals');
  const here = workingDirectory();
  // Nobody could go on from there.
  if (here === undefined && !settings.required) return undefined;
  if (here === undefined) throw new BulkhaulError('JOURNAL', 'the working directory does not exist any more');
  const { finishedPath, identify, journalPath, lastingOf, leasePath } = await import('../journal/identity.js');
  const id = settings.id ?? (await identify(operation, here, lastingOf(asked, here)));
  const open = async () => {
    const { Journal } = await import('../journal/journal.js');
    return Journal.open({ ...settings, directory, early }, await loadAddon(), operation, here, asked);
  };
  const path = journalPath(directory, id);
  const now = early || settings.required || settings.id !== undefined || existsSync(toBytes(path));
  const journal = now ? await open() : undefined;
  const finished = finishedPath(directory, journal?.id ?? id);
  const files = journal?.files ?? [path, leasePath(directory, id), finished];
  return { id, open, files, finished, ...(journal && { journal }) };
}

/** The addon's job with its journal, which is closed where there is none to be made. */
export async function prepared(journal: Journaling | undefined, native: () => Promise<NativeJob>): Promise<Prepared> {
  try {
    return { native: await native(), journal };
  } catch (error) {
    journal?.journal?.close();
    throw error;
  }
}

/** What an aborted job rejects with: the reason, with the report on it. */
function abortError(reason: unknown, report: Report): unknown {
  if (typeof reason !== 'object' || reason === null || !Object.isExtensible(reason) || 'report' in reason) {
    return new JobError('ABORTED', 'the job was aborted', report, { cause: reason });
  }
  return Object.defineProperty(reason, 'report', { value: report });
}
