/**
 * The journal of one job: what was asked for, who worked on it, what failed, how far it is, and how it ended.
 *
 * Comes in: a job's options, its events and its counts; goes out: lines that are appended to a file, which the next run of
 * the same job finds. A run that is over within a second and complete leaves nothing. A journal that can't be written
 * never stops a job: it ends, and says why.
 */
import { closeSync, existsSync, fsyncSync, ftruncateSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { arch, availableParallelism, hostname, release, type as system } from 'node:os';
import { BulkhaulError, whyOf } from '../error.js';
import { type HostStatus, type JobEvent, movedOf, type Report, type Snapshot } from '../events.js';
import { display, toBytes } from '../names.js';
import { finishedPath, identify, jobDirectory, journalPath, lastingOf, leasePath } from './identity.js';
import { type Holder, Lease, type Life } from './lease.js';
import { glance, pristine, recordsOf, TAIL_BYTES } from './reader.js';
import type { Conclusion, Counted, Counts, JobRecord, JournalRecord, Operation, ProgressRecord } from './record.js';
import { FORMAT, seal } from './record.js';
import { makeDirectories, prune, stateOf } from './store.js';

/** Milliseconds between records of how far the job is. */
const STATUS_EVERY = 5000;
/** Bytes of failures at most without a record of how far the job is: whoever looks at the last lines finds one. */
const FAILURES_BYTES = TAIL_BYTES / 2;
/** Bytes of a journal beyond which only the last run of it stays when another begins. */
const LONG = 1 << 24;
/** Jobs of the same options that may run at once. */
const MOST_AT_ONCE = 32;

/** Where a job's journal goes, and whether it has to. */
export interface JournalOptions {
  /** The state directory: journals are kept below `jobs` in it. */
  directory: string;
  /** Without a journal the job does not begin. Default: then it goes on without. */
  required?: boolean;
  /** The last so many jobs whose journals are kept; beyond them, those that can be gone on with. Default 100. */
  keep?: number;
  /** As the command was called, and its version. */
  command?: readonly string[];
  version?: string;
  /** Goes on with this job, which has to be there. */
  id?: string;
  /** Only a part of the job is done again: what else was counted before counts. */
  partial?: boolean;
  /** The files have to be there from the beginning: something is deleted, and they may lie there. */
  early?: boolean;
}

/** What an earlier run of the same job has left. */
export interface Earlier extends Counts {
  /** The name of the job. */
  id: string;
  /** How many times it was run. */
  attempts: number;
  /** How the last run ended. */
  state: 'failed' | 'interrupted';
}

/** The number of jobs whose journals are kept when they have ended. */
const KEEP = 100;

const NOTHING: Counts = { entries: 0, bytes: 0, copiedBytes: 0, errors: 0 };

/** What they have done with is not there any more: the next run meets the rest alone. */
const CONSUMING: readonly Operation[] = ['remove', 'retain'];

export class Journal {
  #id: string;
  #file: number | undefined;
  #lease: Lease | undefined;
  #digest = '';
  #problem: string | undefined;
  /** Nothing more is written. */
  #broken = false;
  #closed = false;
  #made = false;
  #failures = 0;
  #earlier: Earlier | undefined;
  #timer: NodeJS.Timeout | undefined;
  #peek: (() => Snapshot) | undefined;
  /** Bytes of failures since the last record of how far it is. */
  #told = 0;

  private constructor(
    readonly options: JournalOptions,
    readonly addon: Life,
    readonly job: Omit<JobRecord, 'id'>,
    id: string,
  ) {
    this.#id = id;
  }

  /**
   * The journal for a job: an earlier one of the same job that has not ended well is gone on with. Throws `JOURNAL` where
   * one is required and can't be had, and where the job that is named is in use.
   */
  static async open(
    options: JournalOptions,
    addon: Life,
    operation: Operation,
    directory: string,
    asked: object,
  ): Promise<Journal> {
    const lasting = lastingOf(asked, directory);
    const job = { type: 'job', format: FORMAT, operation, directory, options: lasting } as const;
    const journal = new Journal(options, addon, job, options.id ?? (await identify(operation, directory, lasting)));
    try {
      await journal.#find();
      if (options.required || options.early) journal.#begin();
    } catch (error) {
      if (options.required || options.id !== undefined) throw asJournalError(error);
      journal.#fail(error);
    }
    if (options.required && journal.#broken) throw new BulkhaulError('JOURNAL', journal.#problem ?? '');
    return journal;
  }

  /** What the job is called; a command goes on with it by this name. */
  get id(): string {
    return this.#id;
  }

  /** The file, once there is one; also after the end. */
  get file(): string | undefined {
    return this.#made ? journalPath(this.options.directory, this.#id) : undefined;
  }

  /** All failures so far are in the file. */
  get holdsFailures(): boolean {
    return this.#failures > 0 && this.#made && !this.#broken;
  }

  /** The files that are its own, whether they are there yet or not. */
  get files(): string[] {
    const { directory } = this.options;
    return [journalPath(directory, this.#id), leasePath(directory, this.#id), finishedPath(directory, this.#id)];
  }

  /** What an earlier run has left. */
  get earlier(): Earlier | undefined {
    return this.#earlier;
  }

  /** What went wrong with the journal, or with old ones. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** The job is at work; `peek` tells how far it is. */
  watch(peek: () => Snapshot): void {
    this.#peek = peek;
    this.#timer = setInterval(() => this.#status(peek()), STATUS_EVERY).unref();
  }

  /** It takes so long that there is to be a file. */
  begin(): void {
    this.#begin();
    if (this.#peek) this.#status(this.#peek());
  }

  /** Takes in what happened. */
  take(event: JobEvent): void {
    if (event.type !== 'error' && !(event.type === 'note' && event.lost)) return;
    if (event.type === 'error') this.#failures += 1;
    this.#begin();
    this.#write(event);
    if (this.#told > FAILURES_BYTES && this.#peek) this.#status(this.#peek());
  }

  /** It is over. */
  end({ state, exitCode, sentence, elapsed, report }: Conclusion): void {
    if (state !== 'done') this.#begin();
    const last = this.#peek?.();
    if (last?.hosts) this.#status(last);
    const { failures, failureFile, job, ...counted } = report ?? {};
    this.#write({
      type: 'end',
      time: new Date().toISOString(),
      state,
      exitCode,
      sentence,
      attempt: this.#attempt,
      elapsed,
      ...this.#standing(
        report ? countsOf(report, last) : { ...NOTHING, errors: this.#failures },
        state !== 'interrupted',
      ),
      ...(report && { report: counted as Counted }),
    });
    this.close();
  }

  /** The job was refused, or is broken off: where it has done nothing yet, it is none that anybody could go on with. */
  abandon(): void {
    const nothing = this.#made && this.#earlier === undefined && this.#failures === 0;
    const { doneEntries = 0, copiedBytes = 0 } = this.#peek?.() ?? {};
    if (nothing && doneEntries === 0 && copiedBytes === 0 && this.#lease !== undefined && !this.#closed) {
      // While it has the lease still: nobody else is at work there.
      try {
        rmSync(toBytes(jobDirectory(this.options.directory, this.#id)), { recursive: true, force: true });
        this.#made = false;
      } catch (error) {
        this.#fail(error);
      }
    }
    this.close();
  }

  /** Nobody tells it anything any more. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#timer);
    const [file, lease] = [this.#file, this.#lease];
    this.#file = this.#lease = undefined;
    try {
      lease?.release();
      if (file !== undefined) closeSync(file);
    } catch (error) {
      this.#fail(error);
    }
  }

  get #attempt(): number {
    return (this.#earlier?.attempts ?? 0) + 1;
  }

  /** Finds what an earlier run has left. A job of another run that is at work is left to it, and the next number tried. */
  async #find(): Promise<void> {
    const { directory, id: named } = this.options;
    const first = this.#id;
    for (let number = 1; number <= MOST_AT_ONCE; number += 1) {
      this.#id = number === 1 ? first : `${first}-${number}`;
      const path = journalPath(directory, this.#id);
      if (!existsSync(toBytes(path))) {
        if (named === undefined) return;
        throw new BulkhaulError('JOURNAL', `there is no job ${display(named)}`);
      }
      const lease = Lease.take(leasePath(directory, this.#id), this.addon);
      if (!(lease instanceof Lease)) {
        if (named !== undefined) throw inUse(named, lease);
        continue;
      }
      this.#lease = lease;
      const found = await read(path).catch(unlessDamaged);
      if (found === undefined) {
        if (named !== undefined) await read(path);
        // Whoever wants to know what it was can look at it.
        renameSync(toBytes(path), toBytes(`${path}.damaged`));
      } else if (found.state !== 'done') {
        this.#earlier = found.earlier;
        const { length, digest } = found.length > LONG ? await this.#shorten(path, found) : found;
        this.#append(path, length, digest);
      }
      return;
    }
    throw new BulkhaulError('JOURNAL', `more than ${MOST_AT_ONCE} runs of this job are at work`);
  }

  /**
   * Of a long journal only the last run stays: what failed before that was tried again, and a job that fails each night would
   * fill the disk. Answers where the next line goes; where it can't be written anew, it stays as it is.
   */
  async #shorten(path: string, found: { length: number; digest: string }): Promise<{ length: number; digest: string }> {
    let [runs, records] = [0, 0];
    let last = 0;
    for await (const { type } of recordsOf(path)) {
      records += 1;
      if (type === 'attempt') [runs, last] = [runs + 1, records];
    }
    if (runs < 2) return found;
    const partial = `${path}.new`;
    try {
      const file = openSync(toBytes(partial), 'w', 0o600);
      let length = 0;
      let digest = '';
      try {
        records = 0;
        for await (const record of recordsOf(path)) {
          records += 1;
          if (records > 1 && records < last) continue;
          const sealed = seal(record, digest);
          length += writeAll(file, sealed.line);
          digest = sealed.digest;
        }
        fsyncSync(file);
      } finally {
        closeSync(file);
      }
      renameSync(toBytes(partial), toBytes(path));
      return { length, digest };
    } catch (error) {
      rmSync(toBytes(partial), { force: true });
      this.#problem ??= `the journal could not be shortened: ${whyOf(error)}`;
      return found;
    }
  }

  #append(path: string, length: number, digest: string): void {
    this.#file = openSync(toBytes(path), 'r+');
    // What a run that died has left of its last line.
    ftruncateSync(this.#file, length);
    closeSync(this.#file);
    this.#file = openSync(toBytes(path), 'a', 0o600);
    this.#digest = digest;
    this.#made = true;
    this.#write(this.#beginning());
    // Nothing was looked at again: until then the job is where it was.
    this.#progress({ phase: 'preflight', elapsed: 0, movedBytes: 0, metEntries: 0 }, NOTHING);
  }

  #beginning(): JournalRecord {
    const { command, version } = this.options;
    return {
      type: 'attempt',
      number: this.#attempt,
      time: new Date().toISOString(),
      host: hostname(),
      process: process.pid,
      ...(command && { command }),
      ...(version !== undefined && { version }),
      machine: `${system()} ${release()} ${arch()}, ${availableParallelism()} processors, Node.js ${process.versions.node}`,
    };
  }

  /** Makes the file, if there is none. */
  #begin(): void {
    if (this.#file !== undefined || this.#closed || this.#broken) return;
    const { directory, keep = KEEP } = this.options;
    try {
      const first = this.#id;
      for (let number = 2; this.#lease === undefined; number += 1) {
        makeDirectories(jobDirectory(directory, this.#id));
        const lease = Lease.take(leasePath(directory, this.#id), this.addon);
        if (lease instanceof Lease) this.#lease = lease;
        else if (number > MOST_AT_ONCE) throw inUse(first, lease);
        else this.#id = `${first}-${number}`;
      }
      const path = journalPath(directory, this.#id);
      // Whole from its first moment on: two lines, then the name.
      const partial = `${path}.new`;
      this.#file = openSync(toBytes(partial), 'w', 0o600);
      this.#digest = '';
      const { type, format, ...rest } = this.job;
      this.#put({ type, format, id: this.#id, ...rest });
      this.#put(this.#beginning());
      renameSync(toBytes(partial), toBytes(path));
      this.#made = true;
      prune(directory, keep, this.addon).catch((error: Error) => {
        this.#problem ??= `journals of old jobs could not be removed: ${whyOf(error)}`;
      });
    } catch (error) {
      this.#fail(error);
      if (this.#file !== undefined) rmSync(toBytes(`${journalPath(directory, this.#id)}.new`), { force: true });
    }
  }

  #status(snapshot: Snapshot): void {
    const { phase, elapsed, doneEntries, doneBytes, copiedBytes, errors, hosts } = snapshot;
    this.#progress(
      { phase, elapsed, movedBytes: movedOf(snapshot), metEntries: doneEntries },
      { entries: doneEntries, bytes: doneBytes, copiedBytes, errors, ...expectedOf(snapshot) },
      hosts,
    );
  }

  /** `counts`: of this run. */
  #progress(
    met: Pick<ProgressRecord, 'phase' | 'elapsed' | 'movedBytes' | 'metEntries'>,
    counts: Counts,
    hosts?: HostStatus[],
  ): void {
    this.#write({
      type: 'progress',
      time: new Date().toISOString(),
      attempt: this.#attempt,
      ...met,
      ...this.#standing(counts, false),
      ...(hosts && { hosts }),
    });
    this.#told = 0;
  }

  /** How the job stands, of which this run has counted so much; `over`: it has come to its end. */
  #standing(now: Counts, over: boolean): Counts {
    const { earlier, job, options } = this;
    if (earlier === undefined) return now;
    const copiedBytes = earlier.copiedBytes + now.copiedBytes;
    if (CONSUMING.includes(job.operation)) return { ...now, ...behind(now, earlier), copiedBytes };
    if (over && !options.partial) return { ...now, copiedBytes };
    return {
      ...now,
      ...most(now, earlier),
      copiedBytes,
      errors: over ? now.errors : Math.max(now.errors, earlier.errors),
    };
  }

  #write(record: JournalRecord): void {
    if (this.#broken || this.#closed || this.#file === undefined) return;
    try {
      if (this.#lease?.lost)
        throw new BulkhaulError('JOURNAL', 'another run has the job, as nothing was heard of this one');
      this.#put(record);
    } catch (error) {
      this.#fail(error);
    }
  }

  #put(record: JournalRecord): void {
    const { line, digest } = seal(record, this.#digest);
    this.#told += writeAll(this.#file as number, line);
    this.#digest = digest;
  }

  /** There is no journal from now on. */
  #fail(error: unknown): void {
    this.#broken = true;
    this.#problem ??= `the journal could not be written: ${whyOf(error)}`;
  }
}

/** Answers how many bytes it were. */
function writeAll(file: number, text: string): number {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
  return bytes.length;
}

/** How much there is in all, where that is known. */
function expectedOf(snapshot: Snapshot | undefined): Pick<Counts, 'expectedEntries' | 'expectedBytes'> {
  const { entries, bytes } = snapshot?.expected ?? {};
  return {
    ...(entries !== undefined && { expectedEntries: entries }),
    ...(bytes !== undefined && { expectedBytes: bytes }),
  };
}

/**
 * What is done of a job whose run has looked again at a part of it only: what runs before have done is there still. What of their
 * entries is not met any more is nothing to be done.
 */
function most(now: Counts, earlier: Counts): Partial<Counts> {
  const of = (done: 'entries' | 'bytes', all: 'expectedEntries' | 'expectedBytes') => {
    const [there, before] = [now[all], earlier[all]];
    if (there === undefined)
      return { [done]: Math.max(now[done], earlier[done]), ...(before !== undefined && { [all]: before }) };
    const gone = Math.max(0, (before ?? there) - there);
    return { [done]: Math.max(now[done] + gone, Math.min(earlier[done], there + gone)), [all]: there + gone };
  };
  return { ...of('entries', 'expectedEntries'), ...of('bytes', 'expectedBytes') };
}

/** What is done of a job whose run meets only what runs before have left, and what failed in them. */
function behind(now: Counts, earlier: Counts): Partial<Counts> {
  const before = Math.max(0, earlier.entries - earlier.errors);
  const { expectedEntries, expectedBytes } = now;
  return {
    entries: before + now.entries,
    bytes: earlier.bytes + now.bytes,
    ...(expectedEntries !== undefined && { expectedEntries: before + expectedEntries }),
    ...(expectedBytes !== undefined && { expectedBytes: earlier.bytes + expectedBytes }),
  };
}

function asJournalError(error: unknown): BulkhaulError {
  if (error instanceof BulkhaulError) return error;
  const { message } = error as Error;
  return new BulkhaulError('JOURNAL', `the journal can't be written: ${message}`, { cause: error });
}

function inUse(id: string, { host, process }: Holder): BulkhaulError {
  return new BulkhaulError('JOURNAL', `job ${display(id)} is in use: process ${process} on ${display(host)}`);
}

function unlessDamaged(error: unknown): undefined {
  if (error instanceof BulkhaulError) return undefined;
  throw error;
}

/** All of a journal, as far as whoever goes on with it has to know. */
async function read(path: string) {
  const { job, end, progress, attempt, written } = glance(path);
  const state = stateOf({ job, written, ...(end && { end }) }, undefined);
  if (state === 'done') return { state } as const;
  const condition = pristine();
  let attempts = attempt?.number ?? 0;
  let counts: Counts = { ...NOTHING, ...pick(end ?? progress) };
  for await (const record of recordsOf(path, condition)) {
    if (record.type === 'attempt') attempts = record.number;
    if (record.type === 'end' || record.type === 'progress') counts = { ...counts, ...pick(record) };
  }
  const { length, digest } = condition;
  const earlier: Earlier = {
    id: job.id,
    attempts,
    state: end?.state === 'failed' ? 'failed' : 'interrupted',
    ...counts,
  };
  return { state, earlier, length, digest } as const;
}

function pick(counts: Counts | undefined): Counts | undefined {
  if (counts === undefined) return undefined;
  const { entries, bytes, copiedBytes, errors, expectedEntries, expectedBytes } = counts;
  return {
    entries,
    bytes,
    copiedBytes,
    errors,
    ...(expectedEntries !== undefined && { expectedEntries }),
    ...(expectedBytes !== undefined && { expectedBytes }),
  };
}

/** What a report counts; of one that was interrupted, what was done with is what was seen last. */
function countsOf(report: Report, last: Snapshot | undefined): Counts {
  const { outcomes, found, extras, foundBytes, copiedBytes, failureKinds, interrupted } = report;
  const sum = (counts: Record<string, number>) => Object.values(counts).reduce((all, each) => all + each, 0);
  const all = sum(found) + extras;
  return {
    entries: sum(outcomes),
    bytes: interrupted && last ? last.doneBytes : foundBytes,
    copiedBytes,
    errors: sum(failureKinds),
    ...(interrupted ? expectedOf(last) : { expectedEntries: all, expectedBytes: foundBytes }),
  };
}
