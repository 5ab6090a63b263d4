/**
 * The course of a run: a plan, parts, workers, and what comes last.
 *
 * Comes in: a run, and the operation that is done in it (`operation.ts`); goes out: a job like any other. All that workers and
 * coordinator know of each other is in a run directory (`directory.ts`), by a protocol in which anybody may die at any moment
 * (`protocol.ts`). What is reported is read from the states of the parts: nobody's exit code is believed. It promises that
 * there is one coordinator, and that a plan that was begun is gone on with, or nothing is done.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { BulkhaulError } from '../../error.js';
import { movedOf, type Report, type Snapshot } from '../../events.js';
import { type Holder, Lease } from '../../journal/lease.js';
import { display, toBytes } from '../../names.js';
import type { NativeFailure, NativeReport, NativeSnapshot } from '../../native/events.js';
import type { Limits } from '../../native/options.js';
import { loadAddon, type NativeJob } from '../../native.js';
import { verdictOf } from '../../verdict.js';
import { pathBytes, pathText, pick } from '../arguments.js';
import { follow, type Job } from '../job.js';
import { total } from '../transfer/ledger.js';
import { Books } from './books.js';
import { muster } from './check.js';
import { type Beat, type Pace, type Plan, RunDirectory } from './directory.js';
import type { Operation, Run, Stage } from './operation.js';
import { type Planned, plan, planner, type Sifted, sift } from './plan.js';
import { commands, LOOK, Staff } from './staff.js';
import { boot } from './worker.js';

const PATIENCE = 60;
/** Beats without which a worker is lost: so many that a busy server is forgiven. */
const LOOKS = 10;
/** Seconds between two beats of each worker where somebody watches: one for so many workers, half a second at least. */
const WATCHED = { least: LOOK / 1000, workers: 200 };

export class Coordinator implements NativeJob {
  #run: Run;
  readonly #operation: Operation;
  readonly #directory: RunDirectory;
  readonly #books: Books;
  #workers: number;
  #hosts: readonly string[];
  #sockets: string | undefined;
  /** Hosts that the run directory is carried to. */
  #blind: ReadonlySet<string> = new Set();
  readonly #program: readonly string[];
  /** Those who are at work. */
  #staff: Staff | undefined;
  /** What a list names, where one does. */
  #named: Sifted | undefined;
  #planner: NativeJob | undefined;
  /** What comes last, and what of it tells all. */
  #last: Job | undefined;
  #teller: NativeJob | undefined;
  #phase: NativeSnapshot['phase'] = 'preflight';
  /** There is a plan: it is known how much there is. */
  #known = false;
  /** Workers are at it. */
  #working = false;
  /** Somebody has asked how far it is, and workers were told. */
  #watched = false;
  #tells = false;
  #stopping: 'no' | 'gently' | 'now' = 'no';
  /** Ends the waiting for a list. */
  readonly #stop = new AbortController();
  /** Seconds; 0: never. */
  #stallTimeout = 0;
  #begun = 0;
  #elapsed: number | undefined;

  constructor(run: Run, operation: Operation) {
    this.#run = run;
    this.#operation = operation;
    this.#directory = new RunDirectory(run.path);
    this.#books = new Books(this.#directory, operation);
    this.#hosts = run.hosts ?? [];
    this.#workers = run.workers ?? (this.#hosts.length || 2);
    const elsewhere = run.hostProgram === undefined ? undefined : [run.hostProgram];
    this.#program = elsewhere ?? (this.#hosts.length > 0 ? undefined : run.program) ?? ['bulkhaul'];
  }

  async run(): Promise<NativeReport> {
    this.#begun = performance.now();
    let lease: Lease | undefined;
    try {
      if (this.#run.dryRun) return await this.#rehearse();
      this.#directory.make();
      lease = await this.#lead();
      const there = this.#there();
      if (there === undefined) await this.#clear();
      await this.#check(this.#directory);
      const { own = [] } = this.#run;
      if (own.length > 0)
        this.#books.note('run', `left out, because the run is kept there: ${own.map(display).join(', ')}`);
      const beside = await this.#operation.prepare();
      await this.#muster(beside);
      const plan = await this.#plan(there);
      if (plan === undefined) return this.#interrupted();
      await this.#work(plan);
      // What is removed in the end is not looked for by another attempt at its part.
      this.#directory.keepStates();
      const report = await this.#operation.finish(this.#stage(plan));
      if (this.#stopping === 'no') await this.#leave(report);
      return report;
    } finally {
      if (this.#sockets !== undefined) rmSync(this.#sockets, { recursive: true, force: true });
      lease?.release();
      this.#elapsed = this.#seconds();
      this.#phase = 'done';
      this.#books.ledger.events.end();
    }
  }

  nextEvents() {
    return this.#books.ledger.events.next();
  }

  cancel(abort: boolean): void {
    if (this.#stopping !== 'now') this.#stopping = abort ? 'now' : 'gently';
    this.#stop.abort();
    for (const job of [this.#planner, this.#teller, this.#last]) job?.cancel(abort);
    this.#staff?.stop(abort);
  }

  setLimits(limits: Limits): void {
    this.#run = { ...this.#run, limits: { ...this.#run.limits, ...limits } };
    for (const job of [this.#teller, this.#last]) job?.setLimits(limits);
    if (this.#working) this.#directory.setPace(this.#share());
  }

  setStallTimeout(seconds: number): void {
    this.#stallTimeout = seconds;
  }

  answer(): void {}

  peek(): Snapshot {
    const hosts = this.#books.rates.hosts(this.#beats);
    return { ...this.#status(), ...(hosts.length > 0 && { hosts, parts: this.#books.parts }) };
  }

  snapshot(): Snapshot {
    this.#watched = true;
    return this.#status();
  }

  get #beats(): Beat[] {
    return this.#staff?.beats ?? [];
  }

  #status(): Snapshot {
    const alone = this.#working ? undefined : (this.#teller ?? this.#planner)?.snapshot();
    if (alone && !this.#known) return this.#run.dryRun ? alone : foundSoFar(alone);
    const books = this.#books;
    const { outcomes, files, found, foundBytes, copiedBytes, doneBytes } = books.ledger;
    const last = this.#last?.snapshot();
    const working = this.#beats.filter(({ part }) => part > 0 && !books.has(part));
    const sum = (of: (beat: Beat) => number) => working.reduce((all, beat) => all + of(beat), 0);
    const { reads } = this.#operation;
    const copied = reads ? 0 : copiedBytes + sum((beat) => beat.copiedBytes);
    const done = Math.max(copied, doneBytes + sum(({ bytes }) => bytes));
    const all = { entries: total(found), files: found.file, bytes: foundBytes };
    const passes = this.#operation.passes();
    const again = passes.entries > 1;
    const moved =
      books.moved + sum((beat) => beat.movedBytes) + (last ? movedOf(last) : 0) + (alone ? movedOf(alone) : 0);
    const waits = last?.stopping ?? {
      files: sum((beat) => beat.stopping?.files ?? 0),
      bytes: sum((beat) => beat.stopping?.bytes ?? 0),
    };
    const entries = Math.min(all.entries, total(outcomes) + sum((beat) => beat.entries));
    const { bytes = 0, entries: looks = 0 } = this.#run.limits ?? {};
    // As long as one of them does anything else, that is what the run does.
    const syncs = working.map((beat) => beat.syncing ?? Number.NaN);
    const syncing = last ? last.syncing : Math.max(...syncs);
    return {
      phase: again ? this.#shown(last?.phase) : this.#phase,
      foundFiles: all.files,
      foundBytes,
      foundDirectories: found.directory,
      foundLinks: found.symlink,
      doneEntries: entries,
      doneFiles: total(files),
      doneBytes: done,
      skippedFiles: files.skipped,
      skippedBytes: reads ? 0 : done - copied,
      copiedBytes: copied,
      copiedFiles: files.copied,
      resumedBytes: books.sums.resumedBytes,
      errors: books.ledger.errors + sum((beat) => beat.errors) + (alone?.errors ?? 0),
      workers: this.#staff?.size ?? 0,
      limits: { bytes, entries: looks },
      verifiedBytes: books.sums.verifiedBytes,
      readBytes: moved,
      workedEntries: entries + (again ? (last?.workedEntries ?? 0) : 0),
      ...(this.#known && {
        expected: { ...all, toRead: Math.max(all.bytes * passes.bytes, moved), toDo: all.entries * passes.entries },
      }),
      ...(this.#stopping !== 'no' && { stopping: waits }),
      ...(last?.sweep && { sweep: last.sweep }),
      ...(syncing !== undefined && syncing >= 0 && { syncing }),
      ...(this.#working && { hosts: books.rates.hosts(this.#beats), parts: books.parts }),
      elapsed: this.#elapsed ?? this.#seconds(),
    };
  }

  /** What is at work in the end says itself what it does. */
  #shown(last: Snapshot['phase'] | undefined): Snapshot['phase'] {
    if (last === undefined || last === 'done' || this.#phase === 'done') return this.#phase;
    return last === 'preflight' || last === 'scanning' ? 'copying' : last;
  }

  #seconds(): number {
    return (performance.now() - this.#begun) / 1000;
  }

  #interrupted(): NativeReport {
    const how = { interrupted: true, workers: this.#workers, elapsed: this.#seconds() };
    return this.#books.report({ ...how, sync: this.#operation.sync });
  }

  /** Only tells what would be done: the parts, and the commands. */
  async #rehearse(): Promise<NativeReport> {
    // A list is read from a file.
    const lists = mkdtempSync(join(tmpdir(), 'bulkhaul-plan-'));
    try {
      const room = new RunDirectory(lists);
      await this.#sift(room);
      await this.#check(room);
      this.#phase = 'scanning';
      this.#planner = await planner(this.#division, this.#directory);
      const report = await this.#listen(this.#planner);
      const path = this.#run.path || 'RUN';
      for (const command of commands(this.#crew, path)) this.#books.note('worker', command);
      return { ...report, notes: [...report.notes, ...this.#books.notes()] };
    } finally {
      rmSync(lists, { recursive: true, force: true });
    }
  }

  /** What can't be done is refused before anything is. */
  async #check({ names }: RunDirectory): Promise<void> {
    const filesFrom = this.#run.filesFrom && { filesFrom: { path: names, nul: true } };
    try {
      await this.#operation.check({ ...this.#run, ...filesFrom }, (job) => this.#include(job));
    } finally {
      this.#last = undefined;
    }
  }

  /** Has a job run as a part of this one. */
  async #include(job: Job, failed?: (failure: NativeFailure) => Promise<void>): Promise<Report> {
    this.#last = job;
    job.setStallTimeout(this.#stallTimeout);
    if (this.#stopping !== 'no') job.cancel(this.#stopping === 'now');
    if (failed === undefined) return job;
    for await (const event of job) {
      if (event.type === 'error') await failed({ ...event, path: toBytes(event.path) });
    }
    return job;
  }

  /** Runs a job, and tells what it tells. */
  async #listen(native: NativeJob): Promise<NativeReport> {
    native.setStallTimeout(this.#stallTimeout);
    if (this.#stopping !== 'no') native.cancel(this.#stopping === 'now');
    return follow(native, (event) => this.#books.ledger.tell(event));
  }

  /** Finds out which hosts can have workers. `beside`: a directory that all of them have to see the same of. */
  async #muster(beside: string | undefined): Promise<void> {
    if (this.#hosts.length === 0) return;
    const { source, version } = this.#run;
    const { writes } = this.#operation;
    const about = { source, beside, writes, version, program: this.#program };
    const { faults, notes, blind } = await muster(this.#hosts, this.#directory, about);
    for (const [host, why] of faults) this.#books.note('host', `host ${host} is left out: ${why}`);
    for (const note of notes) this.#books.note('host', note);
    this.#blind = blind;
    this.#hosts = this.#hosts.filter((host) => !faults.has(host));
    this.#workers = this.#run.workers ?? this.#hosts.length;
    this.#sockets = mkdtempSync(join(tmpdir(), 'bulkhaul-ssh-'));
  }

  /** Makes sure that nobody else coordinates. */
  async #lead(): Promise<Lease> {
    const path = join(this.#run.path, 'lock');
    const lease = Lease.take(path, await loadAddon());
    if (lease instanceof Lease) return lease;
    throw new BulkhaulError(
      'JOURNAL',
      `process ${lease.process} on ${lease.host} coordinates the run in ${this.#run.path}`,
    );
  }

  /** Whether this is still the one that coordinates. */
  #leads(): boolean {
    const { host, process: number } = JSON.parse(readFileSync(toBytes(join(this.#run.path, 'lock')), 'utf8')) as Holder;
    return host === hostname() && number === process.pid;
  }

  get #division() {
    const {
      source,
      contents = true,
      exclude = [],
      oneFileSystem = false,
      parts,
      spillDirectory,
      dryRun = false,
    } = this.#run;
    return {
      named: this.#named,
      ...{ source, contents, rules: exclude.map(pathBytes), oneFileSystem, parts, dryRun, workers: this.#workers },
      spillDirectory: spillDirectory === undefined ? undefined : pathText(spillDirectory, 'the spill directory'),
    };
  }

  /** The plan that is there and is gone on with. Throws `JOURNAL` where it is of something else. */
  #there(): Plan | undefined {
    const { source, goesOn, path } = this.#run;
    const there = this.#directory.plan();
    if (there === undefined || (!goesOn && this.#directory.finished)) return undefined;
    const now = { ...there, task: undefined, ...this.#operation.kept, source };
    // What is in use is each time another.
    const of = ({ source, destination, terms, task }: Omit<Plan, 'format'>) =>
      JSON.stringify([source, destination, terms, { ...task, inUse: undefined }]);
    if (of(there) === of(now))
      return JSON.stringify(there.task) === JSON.stringify(now.task) ? there : this.#directory.keep(now);
    throw new BulkhaulError(
      'JOURNAL',
      `${path} holds another run, of ${there.source}${there.destination && ` to ${there.destination}`}: name another directory`,
    );
  }

  /** Nothing of a run of before is left, and what a list names is known. */
  async #clear(): Promise<void> {
    await this.#directory.clear();
    this.#directory.make();
    await this.#sift(this.#directory);
  }

  /** `there`, or a new one; undefined: it was interrupted. */
  async #plan(there: Plan | undefined): Promise<Plan | undefined> {
    const { source, version, patience = PATIENCE } = this.#run;
    const { kept } = this.#operation;
    if (there !== undefined) {
      await this.#reopen(there);
      return this.#adopt(there);
    }
    this.#phase = 'scanning';
    this.#planner = await planner(this.#division, this.#directory);
    this.#planner.setStallTimeout(this.#stallTimeout);
    if (this.#stopping !== 'no') this.#planner.cancel(true);
    const planned: Planned = await plan(
      this.#planner,
      this.#directory,
      // One worker has a file to itself, with all of its threads.
      {
        named: this.#named?.directories ?? [],
        cut: this.#operation.ranges && this.#workers > 1 ? source : undefined,
        below: this.#operation.below && this.#run.contents === false,
      },
      () => undefined,
    );
    this.#planner = undefined;
    if (planned.interrupted) {
      await this.#books.stalled(this.#directory.failures(0, 0), planned.failureKinds);
    }
    if (planned.interrupted || this.#stopping !== 'no') return undefined;
    const { interrupted: _, ...rest } = planned;
    const made = this.#directory.keep({
      ...{ made: new Date().toISOString(), source, ...kept, workers: this.#workers },
      ...{ beat: Math.max(0.1, patience / LOOKS), looks: LOOKS },
      ...(version !== undefined && { version }),
      ...rest,
    });
    return this.#adopt(made);
  }

  /** Reads the list of what is meant, where there is one. */
  async #sift(directory: RunDirectory): Promise<void> {
    const { filesFrom, source } = this.#run;
    if (filesFrom === undefined) return;
    const list = { path: pathText(filesFrom.path, 'the list'), nul: filesFrom.nul };
    this.#named = await sift(list, source, directory, this.#stop.signal);
  }

  /** Each worker's share of what the run may take. */
  #share(): Pace {
    const { jobs, limits, spillDirectory } = this.#run;
    const workers = this.#workers;
    const share = (of: number | undefined) => (of === undefined ? 0 : of / workers);
    return {
      ...(jobs && { jobs: Math.max(1, Math.floor(jobs / workers)) }),
      ...(this.#stallTimeout > 0 && { stallTimeout: this.#stallTimeout }),
      ...(limits && { limits: { bytes: share(limits.bytes), entries: share(limits.entries) } }),
      ...pick(this.#run, ['nice', 'ionice']),
      ...(spillDirectory !== undefined && { spillDirectory: pathText(spillDirectory, 'the spill directory') }),
    };
  }

  /** Of a run that is gone on with: what is not complete is tried again, and who is gone is known to be. */
  async #reopen(plan: Plan): Promise<void> {
    const { processExists } = await loadAddon();
    this.#directory.begin();
    for (const [part, { attempt: last, settled }] of this.#directory.standings()) {
      if (settled && !this.#directory.state(part).complete) this.#directory.reopen(part, last);
    }
    for (const [name, over] of this.#directory.workers()) {
      const beat = over ? undefined : this.#directory.beatOf(name);
      if (beat && beat.host === hostname() && (beat.boot !== boot() || !processExists(beat.process)))
        this.#directory.end(name);
    }
    this.#books.note('run', `going on with the plan of ${plan.made}`);
  }

  async #adopt(plan: Plan): Promise<Plan> {
    await this.#books.open(plan);
    this.#known = true;
    return plan;
  }

  get #crew() {
    const { slurm } = this.#run;
    return {
      ...{ workers: this.#workers, hosts: this.#hosts, blind: this.#blind, program: this.#program },
      ...{ sockets: this.#sockets, slurm },
    };
  }

  /** All parts, as far as workers come. */
  async #work(plan: Plan): Promise<void> {
    this.#phase = this.#operation.phase;
    this.#working = true;
    this.#directory.setPace(this.#share());
    this.#directory.setWatched(undefined);
    const staff = new Staff(this.#crew, plan, this.#directory, this.#books, () => this.#look());
    this.#staff = staff;
    if (this.#stopping !== 'no') staff.stop(this.#stopping === 'now');
    await this.#look();
    await staff.work();
    await this.#look();
    this.#working = false;
  }

  /** Reads what is new in the run directory. */
  async #look(): Promise<void> {
    if (this.#watched && !this.#tells) {
      this.#tells = true;
      this.#directory.setWatched(Math.max(WATCHED.least, this.#workers / WATCHED.workers));
    }
    this.#staff?.observe();
    // After the beats: whoever is at another part by now has left the state of the one before.
    await this.#books.look(this.#run.entries === true);
    this.#books.rates.look(this.#beats, performance.now());
  }

  /** What the operation works with in the end. */
  #stage(plan: Plan): Stage {
    return {
      ...{ run: this.#run, directory: this.#directory, books: this.#books, plan, workers: this.#workers },
      elapsed: () => this.#seconds(),
      stopping: () => this.#stopping !== 'no',
      leads: () => this.#leads(),
      enter: (phase) => {
        this.#phase = phase;
      },
      include: (job, failed) => this.#include(job, failed),
      tell: (native) => {
        this.#teller = native;
        return this.#listen(native);
      },
    };
  }

  /** The run is over: what is complete needs no run directory any more. */
  async #leave(report: NativeReport): Promise<void> {
    const { complete, exitCode } = verdictOf(report, false);
    this.#directory.finish(exitCode);
    if (complete && !this.#run.lasting) await rm(toBytes(this.#run.path), { recursive: true, force: true });
  }
}

/** What was found by who makes the plan: nothing is done with it yet, and nobody knows how much more there is. */
function foundSoFar({ expected: _, ...found }: NativeSnapshot): Snapshot {
  return { ...found, phase: 'scanning', doneEntries: 0, doneFiles: 0, doneBytes: 0, workedEntries: 0, readBytes: 0 };
}
