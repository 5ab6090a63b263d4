/**
 * A worker of a run: takes parts, does what is to be done with what is in them, and says what came of it, until there are none
 * left.
 *
 * Comes in: a run, in a directory or by a connection; goes out: states of parts. It promises to have one part at a time, to stop as soon as somebody
 * else has taken it over, and to leave no lease behind when it ends in good order. The directories that a part needs are made
 * on the way, for their owner only: what they are like is set in the end, when nothing comes into them any more.
 */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { BulkhaulError, whyOf } from '../../error.js';
import { movedOf, type Report } from '../../events.js';
import { display, toBytes } from '../../names.js';
import type { NativeFailure, NativeSlow, Outcome } from '../../native/events.js';
import type { NativeJob } from '../../native.js';
import { Job, type Prepared } from '../job.js';
import { type Logs, type MappedCopyOptions, prepareCopy } from '../mapping.js';
import {
  type Beat,
  digestOf,
  type Left,
  leftOf,
  nameIn,
  type Pace,
  type PartState,
  type Plan,
  type Stored,
  store,
  TOGETHER,
  tagOf,
  type WorkerRun,
} from './directory.js';
import { attempt, choose, type Ending, isReady, nextAttempt, restAfter, Watch } from './protocol.js';
import { copyRange, discard, type Gathered, type Range, type RangeEnd } from './range.js';
import { partJob, sinceCompressed, type Task } from './task.js';

/** How long somebody who begins to watch waits at most until a worker sees that, ms. */
const GLANCE_MS = 5000;
/** Milliseconds in which a range may come back that is to end at once. */
const ABORT_GRACE = 1000;
/** Notes of a part that its state keeps; there are few kinds of them. */
const MOST_NOTES = 200;
/** Attempts at a part that may blame the host they ran on. The next one counts, whatever comes of it. */
const MOST_BLAMES = 2;
/** What is wrong with a host rather than with an entry: another one may do better. */
const OF_A_HOST = ['no-space', 'quota', 'read-only'];

/** The same, as the system calls it. */
const FULL: Readonly<Record<string, true>> = { ENOSPC: true, EDQUOT: true, EROFS: true };

/** How a worker is run. */
export interface WorkerOptions {
  /** What it works on. */
  run: WorkerRun;
  /** What it is called: no other has the name. */
  name: string;
  /** Which of the workers of the run it is, from 0: it begins with its own share. */
  index: number;
  /** Takes what there is to say. */
  say: (sentence: string) => void;
}

/** How a worker ended: all parts have their states; it was stopped; it can't work here; nothing moved any more. */
export type WorkerEnd = 'done' | 'stopped' | 'unfit' | 'stalled';

export class Worker {
  readonly #run: WorkerRun;
  readonly #plan: Plan;
  readonly #watch: Watch;
  /** Parts that it found free while it is not fit, and at how many looks. */
  readonly #patience = new Map<number, number>();
  readonly #terms: MappedCopyOptions;
  #queue: [part: number, attempt: number][] = [];
  #beats = 0;
  #life: NodeJS.Timeout | undefined;
  #part = 0;
  #job: Job | undefined;
  /** What that job runs: looked at like this it sends no scout ahead, as the plan knows how much there is. */
  #native: NativeJob | undefined;
  /** Bytes that went through the last one that has ended. */
  #through = 0;
  /** Bytes of the range that it is at, and when what may go of it by now has gone. */
  #moved = 0;
  #busyUntil = 0;
  #stopping: 'no' | 'gently' | 'now' = 'no';
  /** What it waits for is not waited for any more. */
  readonly #stopped = new AbortController();
  /** Does not wait for a range that does not come back. */
  #forsake: () => void = () => undefined;
  /** Why it lets others go first. */
  #unfit: string | undefined;
  /** It is of no more use: why. */
  #ends: 'unfit' | 'stalled' | undefined;
  /** It gives no more signs of life. */
  #over = false;
  /** What stays of what it was at when it was stopped. */
  #left: Left | undefined;
  #wake: () => void = () => undefined;
  /** Seconds of its last rest, and parts that had no state then. */
  #rest = 0;
  #open = 0;
  /** When it last looked at others, by its own clock. */
  #looked = 0;

  constructor(
    readonly options: WorkerOptions,
    plan: Plan,
  ) {
    this.#run = options.run;
    this.#plan = plan;
    this.#watch = new Watch(plan.looks);
    this.#terms = plan.terms as unknown as MappedCopyOptions;
  }

  /** Ends it: what it is at is finished if that is soon, or with `abort` left. */
  stop(abort: boolean): void {
    this.#stopping = abort ? 'now' : 'gently';
    this.#job?.cancel(abort);
    this.#stopped.abort();
    if (abort) setTimeout(() => this.#forsake(), ABORT_GRACE).unref();
    // What is waited for is worth a line now.
    void this.#beat();
    this.#wake();
  }

  async run(): Promise<WorkerEnd> {
    const { name } = this.options;
    await this.#live();
    // Bits that the engine is to leave out of directories that nobody has set the mode of yet.
    const mask = this.#terms.permissions === false ? undefined : process.umask(0o077);
    try {
      for (;;) {
        if (this.#stopping !== 'no') return 'stopped';
        const next = await this.#next();
        if (next === 'none') return 'done';
        if (next === 'wait') await this.#pause();
        else {
          this.#rest = 0;
          await this.#carry(...next);
        }
        if (this.#ends) return this.#ends;
      }
    } finally {
      this.#over = true;
      clearTimeout(this.#life);
      if (this.#left) await this.#beat();
      if (mask !== undefined) process.umask(mask);
      await this.#run.end(name);
    }
  }

  /** A part to try. */
  async #next(): Promise<[part: number, attempt: number] | 'wait' | 'none'> {
    const known = this.#queue.shift();
    if (known !== undefined) return known;
    const { index } = this.options;
    const { parts, workers } = this.#plan;
    const standings = await this.#run.standings();
    const over = await this.#run.workers();
    const lost = new Map<string, boolean>();
    const now = performance.now();
    const due = now - this.#looked >= this.#plan.beat * 1000;
    if (due) this.#looked = now;
    let open = 0;
    const free: [number, number][] = [];
    for (let number = 1; number <= parts.length; number += 1) {
      const standing = standings.get(number) ?? { attempt: 0, released: false, settled: false };
      if (standing.settled) continue;
      open += 1;
      if (!isReady(parts[number - 1], (part) => standings.get(part)?.settled === true)) continue;
      let gone = false;
      if (standing.attempt > 0 && !standing.released) {
        const holder = await this.#run.holder(number, standing.attempt);
        // One look at each worker and beat, however many leases it has left. Of one that was killed before its lease had its
        // name nothing more is heard.
        const watched = holder ?? `${number}.${standing.attempt}`;
        if (!lost.has(watched)) {
          const ended = over.get(watched) === true;
          const beats = async () => (holder === undefined ? undefined : (await this.#run.beatOf(holder))?.beats);
          lost.set(watched, ended || (due && this.#watch.look(watched, await beats())));
        }
        gone = lost.get(watched) === true;
      }
      const next = nextAttempt(standing, gone);
      if (next !== undefined) free.push([number, next]);
    }
    if (open === 0) return 'none';
    this.#open = open;
    // What several have come to no end with does not keep the next one from the rest.
    free.sort(([, one], [, other]) => Math.max(one, MOST_BLAMES + 1) - Math.max(other, MOST_BLAMES + 1));
    this.#queue = choose(
      this.#unfit === undefined ? free : free.filter(([part]) => due && this.#waited(part)),
      index,
      workers,
    );
    return this.#queue.shift() ?? 'wait';
  }

  /** Whether a part was free for so long that nobody else seems to want it. */
  #waited(part: number): boolean {
    const looks = (this.#patience.get(part) ?? 0) + 1;
    this.#patience.set(part, looks);
    return looks > this.#plan.looks;
  }

  /** Performs an attempt. */
  async #carry(part: number, number: number): Promise<Ending> {
    const steps = attempt<PartState>(part, number);
    let answer: unknown;
    for (;;) {
      const { value, done } = steps.next(answer);
      if (done) {
        if (value === 'lost') this.options.say(`part ${part} was taken over by somebody else`);
        return value;
      }
      answer = value.do === 'work' ? await this.#work(part, number) : await this.#run.perform(value, this.options.name);
    }
  }

  /** Does what is to be done with what is in a part. */
  async #work(part: number, number: number): Promise<PartState | undefined> {
    const { source, destination, parts, task } = this.#plan;
    const planned = parts[part - 1];
    const list = await this.#run.list(part);
    if (planned === undefined || (await digestOf(list)) !== planned.digest) {
      this.#unfit = `${display(list)} is not as it was written`;
      this.#ends = 'unfit';
      this.options.say(this.#unfit);
      return undefined;
    }
    this.#part = part;
    const options: MappedCopyOptions = {
      ...this.#terms,
      ...(await this.#pace()),
      sources: [{ path: source, contents: true, follow: true }],
      destinations: [{ path: destination, follow: true }],
      filesFrom: { path: list, nul: true },
      directories: 'needed',
    };
    try {
      if (task !== undefined) return await this.#perform(part, number, task, list);
      if (planned.range !== undefined) return await this.#range(part, number, planned.range, options, list);
      const gathered = planned.ranges && (await this.#gathered(planned.ranges));
      const proved = this.#terms.verify ? await this.#logs(part, number) : undefined;
      const prepare = () => prepareCopy({ ...options, ...(gathered && { gathered }) }, 'copy', proved);
      const report = await this.#follow(part, number, prepare);
      if (report.interrupted) return undefined;
      if (this.#isBlamed(part, number, report)) return undefined;
      if (proved) await this.#run.keepFound(part, number);
      if (planned.ranges) await discard({ destination, name: await nameIn(list), tag: tagOf(this.#plan) });
      const state = this.#stateOf(part, number, report);
      // What was gathered was no run of before.
      return gathered ? { ...state, resumedFiles: 0, resumedBytes: 0 } : state;
    } catch (error) {
      if (!(error instanceof BulkhaulError) || error.code === 'INTERNAL') throw error;
      this.#unfit = whyOf(error);
      this.#ends = 'unfit';
      this.options.say(`part ${part} can't be worked on here: ${display(error.message)}`);
      return undefined;
    } finally {
      this.#job = this.#native = undefined;
      this.#moved = 0;
      this.#part = 0;
    }
  }

  /** Does a task with what is in a part. */
  async #perform(part: number, number: number, task: Task, all: string): Promise<PartState | undefined> {
    let list = all;
    const logs = await this.#logs(part, number);
    let before = 0;
    if (task.operation === 'compress' && number > 1) {
      before = await sinceCompressed(task, list, logs.own);
      list = logs.own;
    }
    const pace = await this.#pace();
    const prepare = async () => ({ native: await partJob(task, list, logs, pace) });
    const report = await this.#follow(part, number, prepare);
    if (report.interrupted) return undefined;
    const state = this.#stateOf(part, number, report);
    const { entries = 0, bytes = 0 } = this.#plan.parts[part - 1] ?? {};
    if (task.operation === 'compress' && this.#isBlamed(part, number, report)) return undefined;
    if (task.operation === 'compress') return compressed(state, report, before);
    // Whoever tells all finds what is left, and what went wrong.
    const whole = { ...state, found: entries, complete: true, failureKinds: {}, notes: [] };
    if (task.operation === 'remove') {
      const { all, file } = state.outcomes.removed ?? { all: 0, file: 0 };
      // What is not there any more an attempt before this one has removed.
      const earlier = number > 1 ? entries - state.found : 0;
      return { ...whole, outcomes: { removed: { all: all + earlier, file: file + earlier } } };
    }
    await this.#run.keepFound(part, number);
    const outcome = task.operation === 'manifest' ? 'listed' : 'same';
    return {
      ...{ ...whole, outcomes: { [outcome]: { all: entries, file: entries } } },
      ...{ movedBytes: bytes, copiedBytes: bytes, resumedFiles: 0, resumedBytes: 0 },
    };
  }

  /** Runs a job for a part: not longer than that is this worker's, and as fast as it may go at the time. */
  async #follow(part: number, number: number, prepare: () => Promise<Prepared>): Promise<Report> {
    const { stallTimeout = 0, limits: first = {} } = await this.#run.pace();
    let limits = JSON.stringify(first);
    const job = new Job(async () => {
      const made = await prepare();
      this.#native = made.native;
      return made;
    });
    job.setStallTimeout(stallTimeout);
    this.#job = job;
    if (this.#stopping !== 'no') job.cancel(this.#stopping === 'now');
    const look = async () => {
      // Another has it, or all has come to its end meanwhile: nothing of this one is to appear, or to go, any more.
      if ((await this.#isTaken(part, number)) || (await this.#isOver(part))) return job.cancel(true);
      const { limits: now = {} } = await this.#run.pace();
      if (JSON.stringify(now) !== limits) job.setLimits({ bytes: now.bytes ?? 0, entries: now.entries ?? 0 });
      limits = JSON.stringify(now);
    };
    const blind = (error: unknown) => {
      this.options.say(`whose part ${part} is can't be seen: ${whyOf(error)}`);
      job.cancel(true);
    };
    const check = setInterval(() => void look().catch(blind), this.#plan.beat * 1000);
    const failures: NativeFailure[] = [];
    const tell = () => this.#run.fail(part, number, failures.splice(0));
    try {
      for await (const event of job) {
        if (event.type !== 'error') continue;
        if (failures.push({ ...event, path: toBytes(event.path) }) >= TOGETHER) await tell();
      }
      if (failures.length > 0) await tell();
      const report = await job;
      if (report.interrupted && this.#stopping !== 'no') this.#left = leftOf(report);
      const stalled = report.failures.find(({ kind }) => kind === 'stalled');
      if (stalled) this.#giveUp(part, stalled.message);
      return report;
    } finally {
      clearInterval(check);
      this.#through = movedOf(job.snapshot());
      this.#job = this.#native = undefined;
    }
  }

  /** Whether what went wrong with a part is a matter of this host: then another one may have it. */
  #isBlamed(part: number, number: number, { failures, failureKinds }: Report): boolean {
    const blamed = OF_A_HOST.find((kind) => (failureKinds[kind] ?? 0) > 0);
    if (blamed === undefined || this.#plan.workers < 2 || number > MOST_BLAMES) return false;
    this.#unfit = failures.find(({ kind }) => kind === blamed)?.message ?? blamed;
    this.options.say(`part ${part} is left to others: ${display(this.#unfit)}`);
    return true;
  }

  /** Nothing moves any more here, and what hangs stays behind: this one ends, and another may have the part. */
  #giveUp(part: number, why: string): void {
    this.#ends = 'stalled';
    this.options.say(`part ${part} is left to others: ${display(why)}`);
  }

  /** What an attempt writes down, and those before it have. */
  async #logs(part: number, number: number): Promise<Logs & { own: string }> {
    const others: string[] = [];
    for (let before = 1; before < number; before += 1) others.push(await this.#run.found(part, before));
    return { own: await this.#run.found(part, number), others, keep: true };
  }

  /** What this worker may take, for a job. */
  async #pace(): Promise<Omit<Pace, 'stallTimeout'>> {
    const { stallTimeout: _, ...pace } = await this.#run.pace();
    return pace;
  }

  /** Whether somebody else has taken the part over. */
  async #isTaken(part: number, number: number): Promise<boolean> {
    return this.#run.perform({ do: 'leased', part, attempt: number + 1 }, '');
  }

  /** Whether nobody waits for the part. */
  async #isOver(part: number): Promise<boolean> {
    return !(await this.#run.isThere()) || this.#run.perform({ do: 'settled', part }, '');
  }

  /** Copies a range of a file, if the file is to be copied at all. */
  async #range(
    part: number,
    number: number,
    range: Range,
    options: MappedCopyOptions,
    list: string,
  ): Promise<PartState | undefined> {
    const { source, destination } = this.#plan;
    const look = await this.#follow(part, number, () => prepareCopy({ ...options, dryRun: true }));
    if (look.interrupted) return undefined;
    const name = await nameIn(list);
    const begun = performance.now();
    let end: RangeEnd | undefined = { made: 0, written: 0, gathered: undefined };
    let pace = await this.#run.pace();
    let still = { moved: 0, since: begun };
    const hung = new Promise<undefined>((resolve) => {
      this.#forsake = () => resolve(undefined);
    });
    const glance = async () => {
      pace = await this.#run.pace();
      const { stallTimeout = 0 } = pace;
      const now = performance.now();
      // What waits for its turn does not hang.
      if (this.#moved !== still.moved || now < this.#busyUntil) still = { moved: this.#moved, since: now };
      if (stallTimeout === 0 || now - still.since < stallTimeout * 1000) return;
      this.#giveUp(part, `nothing moved for ${stallTimeout} s`);
      this.#forsake();
    };
    // Whether it can be seen at all is found out before each piece is written.
    const renew = setInterval(() => void glance().catch(() => undefined), this.#plan.beat * 1000);
    try {
      if (look.outcomes.copied > 0)
        end = await Promise.race([
          hung,
          copyRange({
            ...{ source, destination, range, tag: tagOf(this.#plan), name },
            ...{ sparse: options.sparse ?? 'auto', lanes: pace.jobs },
            pace: (bytes) => this.#mayGo(bytes, pace.limits?.bytes ?? 0),
            mine: async () => !(await this.#isTaken(part, number)),
            stopped: () => this.#stopping !== 'no',
            moved: (bytes) => {
              this.#moved += bytes;
            },
          }),
        ]);
    } catch (error) {
      const { code = '' } = error as NodeJS.ErrnoException;
      const why = whyOf(error);
      if (code in FULL && this.#plan.workers > 1 && number <= MOST_BLAMES) {
        this.#unfit = why;
        this.options.say(`part ${part} is left to others: ${display(why)}`);
        return undefined;
      }
      // Whoever publishes it finds the same, and tells it as it tells of all files.
      this.options.say(`part ${part} is no range of its own: ${display(why)}`);
    } finally {
      clearInterval(renew);
    }
    if (end === undefined) return undefined;
    const elapsed = (performance.now() - begun) / 1000;
    const path = Buffer.concat([toBytes(`${source}/`), name]);
    return {
      ...{ part, attempt: number, worker: this.options.name, host: hostname() },
      ...{
        elapsed,
        found: 0,
        outcomes: {},
        made: end.made,
        copiedBytes: end.written,
        movedBytes: end.written,
      },
      ...{ resumedFiles: 0, resumedBytes: 0, verifiedFiles: 0, verifiedBytes: 0, verifiedFromCache: 0, hashedBytes: 0 },
      ...{ complete: true, failureKinds: {}, notes: [] },
      ...(end.gathered && { gathered: end.gathered }),
      ...(end.written > 0 && { slowest: [store({ path, bytes: range.size, seconds: elapsed })] }),
    };
  }

  /** What the ranges of a file have brought: undefined where it is not all of it, or not of one version. */
  async #gathered([first, last]: readonly [number, number]): Promise<Gathered | undefined> {
    const all: (Gathered | undefined)[] = [];
    for (let part = first; part <= last; part += 1) all.push((await this.#run.state(part)).gathered);
    const [one] = all;
    return all.every((other) => other?.name === one?.name && other?.version === one?.version) ? one : undefined;
  }

  /** Waits until so many bytes more may go, of so many a second, or nothing may any more; 0: at once. */
  async #mayGo(bytes: number, limit: number): Promise<void> {
    if (limit <= 0) return;
    const now = performance.now();
    const from = Math.max(now, this.#busyUntil);
    this.#busyUntil = from + (bytes / limit) * 1000;
    if (from <= now) return;
    await sleep(from - now, undefined, { signal: this.#stopped.signal }).catch(() => undefined);
  }

  #stateOf(part: number, number: number, report: Report): PartState {
    const { found, outcomes, directories, files, notes, failureKinds } = report;
    const entries = Object.entries(found).reduce((sum, [kind, many]) => sum + (kind === 'directory' ? 0 : many), 0);
    const became = Object.entries(outcomes).flatMap(([name, many]): [Outcome, { all: number; file: number }][] => {
      const outcome = name as Outcome;
      const all = many - directories[outcome];
      return all > 0 ? [[outcome, { all, file: files[outcome] }]] : [];
    });
    const { copiedBytes, resumedFiles, resumedBytes, verifiedFiles, verifiedBytes, verifiedFromCache } = report;
    const { hashedBytes } = report;
    return {
      ...{ part, attempt: number, worker: this.options.name, host: hostname(), elapsed: report.elapsed },
      found: entries,
      outcomes: Object.fromEntries(became),
      made: directories.made,
      movedBytes: this.#through,
      ...{ copiedBytes, resumedFiles, resumedBytes, verifiedFiles, verifiedBytes, verifiedFromCache, hashedBytes },
      complete: report.complete,
      failureKinds,
      notes: notes.slice(0, MOST_NOTES).map((note) => store({ ...note, path: toBytes(note.path) })),
      slowest: slowestOf(report),
    };
  }

  /** Beats from now on: as often as the plan says, or as somebody who watches wants. */
  async #live(): Promise<void> {
    const since = performance.now();
    await this.#beat();
    await this.#wait(since);
  }

  /** Until the next beat is due: who watches may have begun to meanwhile. */
  async #wait(since: number): Promise<void> {
    const { beat } = this.#plan;
    const left = since + Math.min(beat, (await this.#watched()) ?? beat) * 1000 - performance.now();
    if (this.#over) return;
    const next = left > GLANCE_MS ? () => void this.#wait(since) : () => void this.#live();
    this.#life = setTimeout(next, Math.max(0, Math.min(left, GLANCE_MS)));
  }

  async #watched(): Promise<number | undefined> {
    try {
      return await this.#run.watched();
    } catch {
      // Whoever watches waits a little longer.
      return undefined;
    }
  }

  async #beat(): Promise<void> {
    this.#beats += 1;
    const now = this.#native?.peek();
    const moved = { doneEntries: 0, doneBytes: this.#moved, copiedBytes: this.#moved, errors: 0 };
    const { doneEntries, doneBytes, copiedBytes, errors } = now ?? moved;
    const beat: Beat = {
      ...{ host: hostname(), process: process.pid, boot: boot(), beats: this.#beats },
      ...{ part: this.#part, entries: doneEntries, bytes: doneBytes },
      // What is only read is as good as copied.
      copiedBytes: now && isRead(this.#plan.task) ? movedOf(now) : copiedBytes,
      ...{ movedBytes: now ? movedOf(now) : this.#moved, errors },
      ...(now?.syncing !== undefined && { syncing: now.syncing }),
      ...(now?.stopping && { stopping: now.stopping }),
      ...(this.#left && { left: this.#left }),
    };
    try {
      await this.#run.beat(this.options.name, beat);
    } catch (error) {
      // It looks lost then: the part goes to somebody else, and this one finds out.
      this.options.say(`no sign of life could be given: ${whyOf(error)}`);
    }
  }

  /** Until the next look. */
  #pause(): Promise<void> {
    return new Promise((resolve) => {
      this.#rest = restAfter(this.#rest, this.#plan, { index: this.options.index, open: this.#open });
      const timer = setTimeout(resolve, this.#rest * 1000);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/** What a part that was compressed says; `before`: files that an attempt before this one has made archives of. */
function compressed(state: PartState, { skipped, directories, conversions }: Report, before: number): PartState {
  const { outcomes, found } = state;
  const { all, file } = outcomes.copied ?? { all: 0, file: 0 };
  const done = all + before;
  const notes: PartState['notes'] = [];
  const message = 'files became archives in an attempt before the last: they count, and their sizes are in no sum';
  if (before > 0)
    notes.push(
      store({ ...{ type: 'note', kind: 'earlier', count: before, lost: false, message }, path: Buffer.alloc(0) }),
    );
  return {
    ...{ ...state, found: found + before, notes: [...state.notes, ...notes] },
    outcomes: { ...outcomes, ...(done > 0 && { copied: { all: done, file: file + before } }) },
    // Directories are nobody's here.
    skipped: { ...skipped, 'not-a-file': (skipped['not-a-file'] ?? 0) - directories.skipped },
    conversions: conversions.map(({ extension, files, before, after }) => ({ extension, files, before, after })),
  };
}

/** What is only read is as good as copied. */
function isRead(task: Task | undefined): boolean {
  return task?.operation === 'manifest' || task?.operation === 'verify';
}

/** What tells one start of the system from another, where the system tells. */
export function boot(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return '';
  }
}

/** What took longest, as a state has it. */
function slowestOf({ slowest }: Report): Stored<NativeSlow>[] {
  return slowest.map((slow) => store({ ...slow, path: toBytes(slow.path) }));
}
