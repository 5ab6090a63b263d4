/**
 * An operation that is spread: its parts are worked on by workers, each a process of its own, and what can only come last comes
 * last.
 *
 * Comes in: a source, a destination, options of a copy, or what is to be read (`spread/reading.ts`), and how many workers; goes out: a running `Job`. All that workers and
 * coordinator know of each other is in a run directory (`spread/directory.ts`), by a protocol in which anybody may die at any
 * moment (`spread/protocol.ts`). When each part has its state, the coordinator sets what directories are like, and removes what
 * is extra. What it reports is read from the states of the parts: nobody's exit code is believed. It promises that the
 * entries of all states are those that the planner has counted, or that the run is not complete.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { lstat, rm, stat } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { BulkhaulError, whyOf } from '../error.js';
import { movedOf, type Report, type Snapshot } from '../events.js';
import { absolutePath, jobDirectory } from '../journal/identity.js';
import { type Holder, Lease } from '../journal/lease.js';
import { makeDirectories } from '../journal/store.js';
import { display, type PathLike, toBytes } from '../names.js';
import type { NativeFailure, NativeNote, NativeReport, NativeSnapshot, Outcome } from '../native/events.js';
import type { Limits, Resources } from '../native/options.js';
import { loadAddon, type NativeJob } from '../native.js';
import { verdictOf } from '../verdict.js';
import {
  boolean,
  call,
  each,
  type Fields,
  id,
  JOB,
  type JobOptions,
  limit,
  path,
  pathBytes,
  pathText,
  RESOURCES,
  record,
  SELECTION,
  text,
  whole,
} from './arguments.js';
import { folds } from './folds.js';
import { begin, type Confirm, Job, journalFor, type Prepared, prepared } from './job.js';
import { type Deletion, type MappedCopyOptions, mapSources, prepareCopy, SHARED } from './mapping.js';
import { muster } from './spread/check.js';
import { type Hired, hire, sharing, workerCommand } from './spread/crew.js';
import {
  type Beat,
  type CopyTerms,
  nameIn,
  type Pace,
  type PartState,
  type Plan,
  RunDirectory,
  restore,
  store,
  tagOf,
} from './spread/directory.js';
import { type Planned, plan, planner, type Sifted, sift } from './spread/plan.js';
import { attempt } from './spread/protocol.js';
import { discard, HAS_RANGES } from './spread/range.js';
import { Rates } from './spread/rates.js';
import { type Reading, readAll } from './spread/reading.js';
import { SlurmArray, STEP, submission } from './spread/slurm.js';
import { boot } from './spread/worker.js';
import { Ledger, total } from './transfer/ledger.js';
import { checkHost } from './transfer/ssh.js';
import type { Count } from './transfer/tally.js';

/** Options of a copy that each part is copied with. */
const TERMS = [
  ...(['hashSize', 'fullHash', 'sparse', 'sync', 'keepDirlinks', 'owner', 'permissions', 'acls', 'xattrs'] as const),
  ...(['times', 'chownUser', 'chownGroup', 'chmod', 'verify'] as const),
] as const;
type Terms = (typeof TERMS)[number];
/** Options that say how fast it goes. */
const PACE = ['jobs', 'limits', 'nice', 'ionice'] as const;

/** Who works on the parts of something. */
export interface Crew {
  /** Workers at a time, which share `jobs` and `limits`. Default: one for each host, or 2. */
  workers?: number;
  /** Hosts that have the workers, as ssh knows them; one as often as it is to have a worker. Default: they are here. */
  hosts?: readonly string[];
  /** Workers are tasks of Slurm: an array of jobs, with these words for sbatch; in an allocation that this runs in, its steps. Default: they are not. */
  slurm?: { args?: readonly string[]; allocated?: boolean };
  /** The command that bulkhaul is on the hosts. Default: its name. */
  hostProgram?: string;
  /** Parts that the source is divided into. Default: sixteen for each worker. */
  parts?: number;
  /** The run directory. Default: with the journal, which is needed then; it goes when the run is complete. */
  directory?: PathLike;
  /** Seconds after which a worker of which nothing was heard is taken for lost, at the least. Default 60. */
  patience?: number;
  /** How bulkhaul is begun here, as words of a command. Default: by its name. */
  program?: readonly string[];
  /** The version of the program. Default: nothing is said of it. */
  version?: string;
}

/** What is only read, by workers. */
export interface SpreadReading extends JobOptions, Crew, Resources {
  /** What it is read for, and where. */
  reading: Reading;
  /** Rules as rsync's --exclude. Default: everything is taken. */
  exclude?: PathLike[];
  /** Do not go into other file systems. Default false. */
  oneFileSystem?: boolean;
  /** Of a manifest: where it goes. Default: only events. */
  output?: PathLike;
  /** Of a verification: what no manifest names is an error. Default true. */
  extra?: boolean;
  /** Files that the caller has open meanwhile: they are left out. Default: none. */
  inUse?: PathLike[];
  /** A directory for temporary files without a name. Default: memory is used. */
  spillDirectory?: PathLike;
}

/** Options of `spread`. */
export interface SpreadOptions
  extends JobOptions,
    Crew,
    Deletion,
    Pick<
      MappedCopyOptions,
      Terms | (typeof PACE)[number] | 'oneFileSystem' | 'removeExtra' | 'removeSources' | 'acceptTimeLoss' | 'manifest'
    > {
  /** A directory: `SRC/` brings what is in it, `SRC` itself. */
  source: PathLike;
  /** A directory, made with its parents when absent. */
  destination: PathLike;
  /** Rules as rsync's --exclude. Default: everything is taken. */
  exclude?: PathLike[];
  /** A list of names relative to the source, one a line, or with `nul` each ended by NUL. A directory comes by itself. Default: all of the source. */
  filesFrom?: { path: PathLike; nul: boolean };
  /** A directory for temporary files without a name. Default: memory is used. */
  spillDirectory?: PathLike;
  /** Files that the caller has open meanwhile: they stay. Default: none. */
  inUse?: PathLike[];
}

/** The most workers of a run. */
const MOST_WORKERS = 10_000;
const PATIENCE = 60;
/** Beats without which a worker is lost: so many that a busy server is forgiven. */
const LOOKS = 10;
/** Milliseconds between two looks at the run directory. */
const LOOK = 500;
/** Times that workers are submitted to Slurm, where none is left and parts are. */
const SUBMISSIONS = 4;
/** Seconds between two beats of each worker where somebody watches: one for so many workers, half a second at least. */
const WATCHED = { least: LOOK / 1000, workers: 200 };
/** Looks at the run directory for each at the queue of Slurm. */
const LOOKS_AT_SLURM = 6;
/** Milliseconds that workers have to end in when all parts are done. */
const GRACE = 10_000;
/** Workers that may die for each that there is to be, before no more are begun. */
const DEATHS_PER_WORKER = 3;
/** What of the states of parts is only added up. */
const SUMS = [
  'resumedFiles',
  'resumedBytes',
  'verifiedFiles',
  'verifiedBytes',
  'verifiedFromCache',
  'hashedBytes',
] as const;
/** Attempts at a part that ended with the death of its worker, before it is taken for failed. */
const MOST_ATTEMPTS = 5;

const FIELDS: Fields<SpreadOptions> = {
  ...RESOURCES,
  ...JOB,
  hashSize: SHARED.hashSize,
  fullHash: SHARED.fullHash,
  sparse: SHARED.sparse,
  sync: SHARED.sync,
  keepDirlinks: SHARED.keepDirlinks,
  owner: SHARED.owner,
  permissions: SHARED.permissions,
  acls: SHARED.acls,
  xattrs: SHARED.xattrs,
  times: SHARED.times,
  chmod: SHARED.chmod,
  verify: SHARED.verify,
  chownUser: id,
  chownGroup: id,
  source: path,
  destination: path,
  exclude: each(path),
  filesFrom: record<NonNullable<SpreadOptions['filesFrom']>>({ path, nul: boolean }, 'path', 'nul'),
  removeSources: boolean,
  acceptTimeLoss: boolean,
  manifest: SHARED.manifest,
  oneFileSystem: SELECTION.oneFileSystem,
  removeExtra: boolean,
  maxDelete: limit,
  confirm: call,
  workers: whole(1, MOST_WORKERS),
  hosts: each(text),
  slurm: record<NonNullable<SpreadOptions['slurm']>>({ args: each(text), allocated: boolean }),
  hostProgram: text,
  parts: whole(1, 1_000_000),
  directory: path,
  patience: whole(1, 1_000_000),
  program: each(text),
  version: text,
  spillDirectory: path,
  inUse: each(path),
};
const OPTIONS = record<SpreadOptions>(FIELDS, 'source', 'destination');

/**
 * Copies a tree by several processes at once. What a worker leaves when it dies, another goes on with.
 *
 * @example
 * ```js
 * import { spread } from 'bulkhaul';
 *
 * const { outcomes } = await spread({ source: 'photos/', destination: '/mnt/archive', workers: 2, directory: '/mnt/run' });
 * console.log(outcomes.copied, outcomes.failed);
 * ```
 */
export function spread(options: SpreadOptions): Job {
  return begin(options, OPTIONS, prepareSpread);
}

/** Only reads a tree, by several processes at once, and tells all as one would. */
export function spreadReading(options: SpreadReading): Job {
  return begin(options, () => undefined, prepareReading);
}

async function prepareReading(given: SpreadReading): Promise<Prepared> {
  for (const host of given.hosts ?? []) checkHost(host);
  const { directory: named, output, reading } = given;
  const found = await stat(toBytes(reading.source)).catch((error) => {
    throw new BulkhaulError('NO_SOURCE', `${reading.source}: ${whyOf(error, reading.source)}`);
  });
  if (!found.isDirectory()) throw new BulkhaulError('USAGE', `${reading.source} is no directory: it can't be divided`);
  const here = process.cwd();
  const at = (path: PathLike, what: string) => absolutePath(pathText(path, what), here);
  const asked: SpreadReading = {
    ...given,
    ...(named !== undefined && { directory: at(named, 'the run directory') }),
    ...(output !== undefined && { output: at(output, 'the output') }),
  };
  const journal = await journalFor('spread', { ...asked, ...{ source: reading.source } }, true);
  return prepared(journal, async () => {
    const inUse = [
      ...(given.inUse ?? []),
      ...(given.journal ? [given.journal.directory] : []),
      ...(journal?.files ?? []),
    ];
    const run = { ...asked, source: reading.source, destination: '', inUse };
    return new Spread({ ...run, ...placeOf(asked, journal?.journal?.id) });
  });
}

/** Where a run is kept, and whether it was begun before. */
function placeOf({ directory, journal, dryRun }: JobOptions & Crew, id: string | undefined) {
  const state = journal && pathText(journal.directory, 'the directory of journals');
  const own = id === undefined || state === undefined ? undefined : join(jobDirectory(state, id), 'run');
  const path = directory === undefined ? own : pathText(directory, 'the run directory');
  if (path === undefined && !dryRun)
    throw new BulkhaulError('USAGE', 'directory: a run needs a run directory, or a journal that it can be kept with');
  return { path: path ?? '', goesOn: journal?.id !== undefined, lasting: directory !== undefined };
}

/** A spread operation that is not begun yet. */
export async function prepareSpread(options: SpreadOptions | SpreadReading): Promise<Prepared> {
  return 'reading' in options ? prepareReading(options) : prepareSpreadCopy(options);
}

async function prepareSpreadCopy(given: SpreadOptions): Promise<Prepared> {
  const { source, destination, directory: named, ...others } = given;
  for (const host of given.hosts ?? []) checkHost(host);
  // What words mean the engine knows: what is wrong is refused before anything is begun.
  await prepareCopy({
    ...pick(given, [...TERMS, ...PACE, 'removeExtra', 'removeSources', 'acceptTimeLoss', 'manifest', 'maxDelete']),
    ...pick(given, ['filesFrom']),
    sources: [{ path: source, contents: true, follow: true }],
    destinations: [{ path: destination, follow: true }],
  });
  const here = process.cwd();
  const ends = [pathText(source, 'the source'), pathText(destination, 'the destination')] as const;
  const places = await placesOf(absolutePath(ends[0], here), absolutePath(ends[1], here)).catch(async (error) => {
    // What is not there the engine says, as of every copy.
    if (error instanceof BulkhaulError) throw error;
    await new Job(async () => prepareCopy({ ...(await mapSources([ends[0]], ends[1])), dryRun: true }));
    throw new BulkhaulError('NO_SOURCE', `${ends[0]}: ${whyOf(error, ends[0])}`);
  });
  const directory = named === undefined ? undefined : absolutePath(pathText(named, 'the run directory'), here);
  // With the slash it means the same when it is read again.
  const kept = { ...places, source: places.source.replace(/\/*$/, '/') };
  // What goes from the source is on disk in the destination before.
  const lasting = { ...others, ...(given.removeSources && { sync: 'all' as const }) };
  const asked = { ...lasting, ...kept, ...(directory !== undefined && { directory }) };
  if (asked.filesFrom !== undefined && (asked.exclude?.length ?? 0) > 0)
    throw new BulkhaulError('USAGE', 'exclude: of the names of a list each is meant');
  if (asked.removeExtra && asked.times === false)
    throw new BulkhaulError('USAGE', 'removeExtra: without times nobody can tell what is there already in the end');
  const journal = await journalFor('spread', asked, true);
  return prepared(journal, async () => {
    return new Spread({ ...asked, ...places, ...placeOf(asked, journal?.journal?.id) });
  });
}

/** The options of these names that are given. */
function pick<T extends object, Key extends keyof T>(
  of: T,
  names: readonly Key[],
): { [K in Key]?: Exclude<T[K], undefined> } {
  const given = names.flatMap((name) => (of[name] === undefined ? [] : [[name, of[name]]]));
  return Object.fromEntries(given);
}

/** rsync's slash rule, for a directory. */
async function placesOf(source: string, destination: string): Promise<{ source: string; destination: string }> {
  const found = await lstat(toBytes(source));
  const contents = /\/\.{0,2}$/.test(source);
  const target = contents ? await stat(toBytes(source)).catch(() => found) : found;
  if (!target.isDirectory()) throw new BulkhaulError('USAGE', `${source} is no directory: it can't be divided`);
  const bare = (path: string) => path.replace(/(?<=[^/])\/+$/, '');
  return {
    source: bare(source),
    destination: contents ? bare(destination) : join(bare(destination), basename(bare(source))),
  };
}

/** What a run is made of. */
interface Run
  extends Omit<SpreadOptions, 'source' | 'destination' | 'directory'>,
    Pick<SpreadReading, 'output' | 'extra'> {
  /** It is only read, and for this. Default: it is copied. */
  reading?: Reading;
  /** A directory, absolute; what is in it is divided. */
  source: string;
  /** What that comes into, absolute; empty where it is only read. */
  destination: string;
  /** The run directory; empty in a dry run. */
  path: string;
  /** What was begun is gone on with, even where it came to its end. */
  goesOn: boolean;
  /** The run directory stays when all is complete. */
  lasting: boolean;
}

/** What came last. */
type Last = Pick<NativeReport, 'accounted' | 'extras' | 'removedSources' | 'keptSources' | 'withheld'>;

/** A worker that was begun. */
interface Member extends Hired {
  /** What it is called in the run. */
  name: string;
  /** Whose place it has, from 0. */
  index: number;
}

class Spread implements NativeJob {
  #run: Run;
  readonly #directory: RunDirectory;
  readonly #ledger = new Ledger({ file: 0, directory: 0, symlink: 0, fifo: 0, socket: 0, block: 0, char: 0 });
  #workers: number;
  /** Those that can have workers; none: they are here. */
  #hosts: readonly string[];
  /** Where the sockets of connections are. */
  #sockets: string | undefined;
  readonly #program: readonly string[];
  readonly #crew = new Map<string, Member>();
  /** Parts whose states were read. */
  readonly #counted = new Set<number>();
  #beats = new Map<string, Beat>();
  readonly #rates = new Rates();
  #parts = 0;
  /** There is a plan: it is known how much there is. */
  #known = false;
  /** What a list names, where one does. */
  #named: Sifted | undefined;
  /** What is at work here: the planner, or what comes last. */
  #native: NativeJob | undefined;
  #last: Job | undefined;
  #phase: NativeSnapshot['phase'] = 'preflight';
  /** Workers are at it. */
  #working = false;
  /** Somebody has asked how far it is, and workers were told. */
  #watched = false;
  #tells = false;
  #stopping: 'no' | 'gently' | 'now' = 'no';
  readonly #tag = randomBytes(3).toString('hex');
  #deaths = 0;
  #hired = 0;
  #begun = 0;
  #elapsed: number | undefined;
  #wake: () => void = () => undefined;
  #dismissed: NodeJS.Timeout | undefined;
  /** All states say as many entries as the plan. */
  #balanced = true;
  /** Bytes that went through the parts that have their states. */
  #moved = 0;
  /** In the end all of both trees is looked at once more. */
  #again: boolean;
  readonly #sums = Object.fromEntries(SUMS.map((name) => [name, 0])) as Record<(typeof SUMS)[number], number>;

  constructor(run: Run) {
    this.#run = run;
    this.#again = run.removeExtra === true || run.removeSources === true || run.manifest !== undefined;
    this.#directory = new RunDirectory(run.path);
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
      await this.#muster();
      const plan = await this.#plan();
      const report = await this.#perform(plan);
      if (plan && this.#stopping === 'no') await this.#leave(report);
      return report;
    } finally {
      this.#disconnect();
      lease?.release();
      this.#elapsed = (performance.now() - this.#begun) / 1000;
      this.#phase = 'done';
      this.#ledger.events.end();
    }
  }

  nextEvents() {
    return this.#ledger.events.next();
  }

  cancel(abort: boolean): void {
    if (this.#stopping !== 'now') this.#stopping = abort ? 'now' : 'gently';
    this.#native?.cancel(abort);
    this.#last?.cancel(abort);
    for (const { stop } of this.#crew.values()) stop(abort);
    this.#wake();
  }

  setLimits(limits: Limits): void {
    this.#run = { ...this.#run, limits: { ...this.#run.limits, ...limits } };
    this.#last?.setLimits(limits);
    if (this.#run.reading) this.#native?.setLimits(limits);
    if (this.#working) this.#directory.setPace(this.#share());
  }

  setStallTimeout(seconds: number): void {
    if (seconds > 0) throw new BulkhaulError('USAGE', 'with workers there is no stall timeout: see its patience');
  }

  answer(): void {}

  peek(): Snapshot {
    const hosts = this.#rates.hosts([...this.#beats.values()]);
    return { ...this.#status(), ...(hosts.length > 0 && { hosts, parts: this.#parts }) };
  }

  snapshot(): Snapshot {
    this.#watched = true;
    return this.#status();
  }

  #status(): Snapshot {
    // The planner, or who tells what parts have read.
    const alone = this.#working ? undefined : this.#native?.snapshot();
    if (alone && !this.#known) return this.#run.dryRun ? alone : foundSoFar(alone);
    const { outcomes, files, found, foundBytes, copiedBytes, doneBytes } = this.#ledger;
    const last = this.#last?.snapshot();
    const working = [...this.#beats.values()].filter(({ part }) => part > 0 && !this.#counted.has(part));
    const sum = (of: (beat: Beat) => number) => working.reduce((all, beat) => all + of(beat), 0);
    const copied = this.#run.reading ? 0 : copiedBytes + sum((beat) => beat.copiedBytes);
    const done = Math.max(copied, doneBytes + sum(({ bytes }) => bytes));
    const all = { entries: total(found), files: found.file, bytes: foundBytes };
    const moved =
      this.#moved + sum((beat) => beat.movedBytes) + (last ? movedOf(last) : 0) + (alone ? movedOf(alone) : 0);
    const { verify = false, removeSources = false, manifest } = this.#run;
    // Bytes are read to be copied, and to be proved; then sources and copies before the sources go, and the manifest's.
    const after = this.#again ? 2 * Number(removeSources) + Number(manifest !== undefined) : 0;
    const reads = 1 + Number(verify) + after;
    const passes = this.#again ? 2 + Number(removeSources) : 1;
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
      phase: this.#shown(last?.phase),
      foundFiles: all.files,
      foundBytes,
      foundDirectories: found.directory,
      foundLinks: found.symlink,
      doneEntries: entries,
      doneFiles: total(files),
      doneBytes: done,
      skippedFiles: files.skipped,
      skippedBytes: this.#run.reading ? 0 : done - copied,
      copiedBytes: copied,
      copiedFiles: files.copied,
      resumedBytes: this.#sums.resumedBytes,
      errors: this.#ledger.errors + sum((beat) => beat.errors) + (alone?.errors ?? 0),
      workers: this.#crew.size,
      limits: { bytes, entries: looks },
      verifiedBytes: this.#sums.verifiedBytes,
      readBytes: moved,
      workedEntries: entries + (this.#again ? (last?.workedEntries ?? 0) : 0),
      ...(this.#known && {
        expected: { ...all, toRead: Math.max(all.bytes * reads, moved), toDo: all.entries * passes },
      }),
      ...(this.#stopping !== 'no' && { stopping: waits }),
      ...(last?.sweep && { sweep: last.sweep }),
      ...(syncing !== undefined && syncing >= 0 && { syncing }),
      ...(this.#working && { hosts: this.#rates.hosts([...this.#beats.values()]), parts: this.#parts }),
      elapsed: this.#elapsed ?? (performance.now() - this.#begun) / 1000,
    };
  }

  /** What is at work in the end says itself what it does. */
  #shown(last: Snapshot['phase'] | undefined): Snapshot['phase'] {
    if (last === undefined || last === 'done' || !this.#again || this.#phase === 'done') return this.#phase;
    return last === 'preflight' || last === 'scanning' ? 'copying' : last;
  }

  /** Only tells what would be done: the parts, and the commands. */
  async #rehearse(): Promise<NativeReport> {
    this.#phase = 'scanning';
    // A list is read from a file.
    const lists = mkdtempSync(join(tmpdir(), 'bulkhaul-plan-'));
    try {
      await this.#sift(new RunDirectory(lists));
      return await this.#tellPlan();
    } finally {
      rmSync(lists, { recursive: true, force: true });
    }
  }

  async #tellPlan(): Promise<NativeReport> {
    const native = await planner(this.#division, this.#directory);
    this.#native = native;
    const running = native.run();
    // It is told when the events have ended.
    running.catch(() => undefined);
    for (let batch = await native.nextEvents(); batch.length > 0; batch = await native.nextEvents()) {
      for (const event of batch) {
        const full = this.#ledger.tell(event);
        if (full) await full;
      }
    }
    const report = await running;
    for (let index = 0; index < this.#workers; index += 1) {
      const command = workerCommand(this.#program, this.#run.path || 'RUN', nameOf(this.#tag, index, 1), index);
      const host = this.#hosts[index % Math.max(1, this.#hosts.length)];
      if (this.#run.slurm && !this.#run.slurm.allocated) {
        const words = submission(this.#run.path || 'RUN', this.#workers, this.#run.slurm.args ?? []);
        this.#ledger.note('worker', `here: ${words.map(display).join(' ')}`, Buffer.alloc(0));
        break;
      }
      this.#ledger.note(
        'worker',
        `${host === undefined ? 'here' : `on ${host}`}: ${command.map(display).join(' ')}`,
        Buffer.alloc(0),
      );
    }
    const { notes } = this.#ledger.report({ interrupted: false, workers: 0, elapsed: 0, dryRun: true });
    return { ...report, notes: [...report.notes, ...notes] };
  }

  /** Finds out which hosts can have workers, and that the destination keeps names apart. */
  async #muster(): Promise<void> {
    const { source, destination, version, reading } = this.#run;
    if (reading) return this.#ask(source, this.#run.path, version);
    // What is above it is nobody's entry: what workers make is for their owner only, until the end.
    makeDirectories(dirname(destination), 0o777);
    const beside = existsSync(toBytes(destination)) ? destination : dirname(destination);
    if (folds(beside)) {
      throw new BulkhaulError(
        'SAFETY',
        `${beside} takes names for one that differ by case or by forms of a letter: only a copy by one process sees which of them meet`,
      );
    }
    await this.#ask(source, beside, version);
  }

  async #ask(source: string, beside: string, version: string | undefined): Promise<void> {
    if (this.#hosts.length === 0) return;
    const about = { source, beside, version, program: this.#program };
    const { faults, notes } = await muster(this.#hosts, this.#directory, about);
    for (const [host, why] of faults) this.#note('host', `host ${host} is left out: ${why}`);
    for (const note of notes) this.#note('host', note);
    this.#hosts = this.#hosts.filter((host) => !faults.has(host));
    this.#workers = this.#run.workers ?? this.#hosts.length;
    this.#sockets = mkdtempSync(join(tmpdir(), 'bulkhaul-ssh-'));
  }

  /** Connections that were shared are for nobody else. */
  #disconnect(): void {
    if (this.#sockets !== undefined) rmSync(this.#sockets, { recursive: true, force: true });
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

  get #division() {
    const { source, exclude = [], oneFileSystem = false, parts, spillDirectory, dryRun = false } = this.#run;
    return {
      named: this.#named,
      ...{ source, contents: this.#run.reading?.operation !== 'manifest' || this.#run.reading.contents },
      ...{ rules: exclude.map(pathBytes), oneFileSystem, parts, dryRun, workers: this.#workers },
      spillDirectory: spillDirectory === undefined ? undefined : pathText(spillDirectory, 'the spill directory'),
    };
  }

  /** The plan that is there, or a new one; undefined: it was interrupted. */
  async #plan(): Promise<Plan | undefined> {
    const { source, destination, version, goesOn, patience = PATIENCE, reading } = this.#run;
    const terms: CopyTerms = pick(this.#run, TERMS);
    const there = this.#directory.plan();
    if (there && (goesOn || !this.#directory.finished)) {
      const same = there.source === source && there.destination === destination;
      const asked = [there.terms, there.reading].map((of) => JSON.stringify(of)).join();
      if (!same || asked !== [terms, reading].map((of) => JSON.stringify(of)).join()) {
        throw new BulkhaulError(
          'JOURNAL',
          `${this.#run.path} holds another run, of ${there.source}${there.destination && ` to ${there.destination}`}: name another directory`,
        );
      }
      this.#reopen(there);
      return this.#adopt(there);
    }
    await this.#directory.clear();
    this.#directory.make();
    this.#phase = 'scanning';
    await this.#sift(this.#directory);
    this.#native = await planner(this.#division, this.#directory);
    if (this.#stopping !== 'no') this.#native.cancel(true);
    // One worker has a file to itself, with all of its threads.
    const ranges = HAS_RANGES && this.#workers > 1 && this.#run.keepDirlinks !== true && !reading;
    const planned: Planned = await plan(
      this.#native,
      this.#directory,
      { named: this.#named?.directories ?? [], ranges },
      () => undefined,
    );
    this.#native = undefined;
    if (planned.interrupted || this.#stopping !== 'no') return undefined;
    const { interrupted: _, ...rest } = planned;
    const kept = this.#directory.keep({
      ...{ made: new Date().toISOString(), source, destination, terms, workers: this.#workers },
      ...(reading && { reading }),
      ...{ beat: Math.max(0.1, patience / LOOKS), looks: LOOKS },
      ...(version !== undefined && { version }),
      ...rest,
    });
    return this.#adopt(kept);
  }

  /** Reads the list of what is to be copied, where there is one. */
  async #sift(directory: RunDirectory): Promise<void> {
    const { filesFrom, source } = this.#run;
    if (filesFrom === undefined) return;
    const list = { path: pathText(filesFrom.path, 'the list'), nul: filesFrom.nul };
    this.#named = await sift(list, source, directory);
  }

  /** Each worker's share of what the run may take. */
  #share(): Pace {
    const { jobs, limits, spillDirectory } = this.#run;
    const workers = this.#workers;
    const share = (of: number | undefined) => (of === undefined ? 0 : of / workers);
    return {
      ...(jobs && { jobs: Math.max(1, Math.floor(jobs / workers)) }),
      ...(limits && { limits: { bytes: share(limits.bytes), entries: share(limits.entries) } }),
      ...pick(this.#run, ['nice', 'ionice']),
      ...(spillDirectory !== undefined && { spillDirectory: pathText(spillDirectory, 'the spill directory') }),
    };
  }

  /** Of a run that is gone on with: what is not complete is tried again, and who is gone is known to be. */
  #reopen(plan: Plan): void {
    this.#directory.begin();
    for (const [part, { attempt: last, settled }] of this.#directory.standings()) {
      if (settled && !this.#directory.state(part).complete) this.#directory.reopen(part, last);
    }
    for (const [name, over] of this.#directory.workers()) {
      const beat = over ? undefined : this.#directory.beatOf(name);
      if (beat && beat.host === hostname() && (beat.boot !== boot() || !isAlive(beat.process)))
        this.#directory.end(name);
    }
    this.#note('run', `going on with the plan of ${plan.made}`);
  }

  #adopt(plan: Plan): Plan {
    this.#parts = plan.parts.length;
    Object.assign(this.#ledger.found, plan.found);
    this.#ledger.foundBytes = plan.parts.reduce((sum, { bytes }) => sum + bytes, 0);
    this.#ledger.seen = { sizes: plan.sizes, heaviest: plan.heaviest.map((share) => restore(share)) };
    this.#known = true;
    // Whoever reads all tells what can't be read.
    if (plan.reading) return plan;
    this.#ledger.failMore('file', plan.failureKinds.missing ?? 0);
    this.#tell(
      plan.failures.map((failure) => restore(failure)),
      plan.failureKinds,
      [],
      (kind) => kind,
    );
    return plan;
  }

  /** All parts, and what comes last. */
  async #perform(plan: Plan | undefined): Promise<NativeReport> {
    const { reading } = this.#run;
    if (plan) await this.#work(plan);
    if (plan && reading && this.#stopping === 'no') return this.#readAll(plan, reading);
    if (!plan || reading || this.#stopping !== 'no') return this.#report(undefined);
    await this.#giveUp(plan);
    return this.#report(await this.#finish(plan));
  }

  /** All parts, as far as workers come. */
  async #work(plan: Plan): Promise<void> {
    this.#phase = this.#run.reading ? 'scanning' : 'copying';
    this.#working = true;
    this.#directory.setPace(this.#share());
    this.#directory.setWatched(undefined);
    this.#look(plan);
    if (this.#run.slurm && !this.#run.slurm.allocated) await this.#array(plan, this.#run.slurm.args ?? []);
    else await this.#attend(plan);
    clearTimeout(this.#dismissed);
    this.#look(plan);
    this.#working = false;
  }

  /** Tells all of it, by what the parts have found. */
  async #readAll(plan: Plan, reading: Reading): Promise<NativeReport> {
    const { exclude = [], oneFileSystem = false, output, extra, inUse = [], spillDirectory, entries } = this.#run;
    const open = plan.parts.length - this.#counted.size;
    if (open > 0)
      this.#note(
        'run',
        `no worker has brought ${open} of ${plan.parts.length} parts to an end: what is in them is read here`,
      );
    this.#native = await readAll(reading, this.#directory.foundByAll(), {
      ...pick(this.#run, PACE),
      ...{ exclude: exclude.map(pathBytes), oneFileSystem, inUse: [...inUse, this.#run.path].map(pathBytes) },
      ...(output !== undefined && { output: pathBytes(output) }),
      ...(extra !== undefined && { extra }),
      ...(spillDirectory !== undefined && { spillDirectory: pathBytes(spillDirectory) }),
      ...(entries !== undefined && { entryEvents: entries }),
    });
    const native = this.#native;
    this.#phase = 'closing';
    if (this.#stopping !== 'no') native.cancel(this.#stopping === 'now');
    const running = native.run();
    // It is told when the events have ended.
    running.catch(() => undefined);
    for (let batch = await native.nextEvents(); batch.length > 0; batch = await native.nextEvents()) {
      for (const event of batch) await this.#ledger.tell(event);
    }
    const report = await running;
    this.#ledger.took(report.slowest);
    const { notes, slowest } = this.#ledger.report({ interrupted: false, workers: 0, elapsed: 0, dryRun: false });
    const { verifiedFiles, verifiedBytes, verifiedFromCache, hashedBytes } = this.#sums;
    return {
      ...report,
      notes: [...notes, ...report.notes],
      slowest,
      // What parts have read is no run of before.
      ...{ resumedFiles: 0, resumedBytes: 0, workers: this.#workers },
      verifiedFiles: report.verifiedFiles + verifiedFiles,
      verifiedBytes: report.verifiedBytes + verifiedBytes,
      verifiedFromCache: report.verifiedFromCache + verifiedFromCache,
      hashedBytes: report.hashedBytes + hashedBytes,
      elapsed: (performance.now() - this.#begun) / 1000,
    };
  }

  /** Workers that are begun here, to their end. */
  async #attend(plan: Plan): Promise<void> {
    const open = plan.parts.length - this.#counted.size;
    for (let index = 0; index < Math.min(this.#workers, open); index += 1) this.#hire(plan, index);
    while (this.#crew.size > 0) {
      await this.#pause();
      this.#look(plan);
      // Those that wait for more need not look again.
      if (this.#counted.size === plan.parts.length) this.#dismiss();
    }
  }

  /** Workers that Slurm begins, as long as there is something to do and any of them is left. */
  async #array(plan: Plan, args: readonly string[]): Promise<void> {
    const submit = () => SlurmArray.submit(this.#directory, this.#program, this.#workers, args);
    let array = await SlurmArray.adopt(this.#directory);
    for (let more = SUBMISSIONS; this.#counted.size < plan.parts.length && this.#stopping === 'no'; ) {
      if (array === undefined && more === 0) return;
      if (array === undefined) {
        more -= 1;
        array = await submit();
        this.#note('worker', `submitted to Slurm as ${array.id}`);
      }
      for (let looks = LOOKS_AT_SLURM; looks > 0 && this.#stopping === 'no'; looks -= 1) {
        await this.#pause();
        this.#look(plan);
        if (this.#counted.size === plan.parts.length) break;
      }
      if (this.#counted.size < plan.parts.length && this.#stopping === 'no' && !(await array.isLeft())) {
        this.#look(plan);
        array = undefined;
      }
    }
    await array?.cancel();
  }

  #hire(plan: Plan, index: number): void {
    this.#hired += 1;
    const name = nameOf(this.#tag, index, this.#hired);
    const { path } = this.#run;
    const host = this.#hosts[index % Math.max(1, this.#hosts.length)];
    const step = this.#run.slurm ? STEP : [];
    const command = [...step, ...workerCommand(this.#program, path, name, index)];
    const hired = hire(command, this.#directory.log(name), host, this.#sockets ? sharing(this.#sockets) : []);
    const member: Member = { ...hired, name, index };
    this.#crew.set(name, member);
    if (this.#stopping !== 'no') member.stop(this.#stopping === 'now');
    void hired.ended.then(({ code, signal, why, lost }) => {
      // It is known to be gone: nobody has to wait for what it had.
      if (!lost && !this.#run.slurm) this.#directory.end(name);
      this.#crew.delete(name);
      this.#beats.delete(name);
      const more = this.#counted.size < plan.parts.length;
      if (code !== 0 && more && this.#stopping === 'no') {
        this.#condemn(plan, name);
        const status = signal === undefined ? `with code ${code}` : `by ${signal}`;
        const how = why === undefined ? status : `without having begun: ${why}`;
        const where = host === undefined ? '' : ` on ${host}`;
        this.#note(
          'worker',
          `worker ${name}${where} ${lost ? 'is lost: ssh ended' : 'ended'} ${how}`,
          this.#directory.log(name),
        );
        this.#deaths += 1;
        // One that can't work here says so, and another one could not either.
        const again = !lost && code !== 2 && why === undefined && this.#deaths <= this.#workers * DEATHS_PER_WORKER;
        if (again) this.#hire(plan, index);
      }
      this.#wake();
    });
  }

  /** All parts are done: nobody is needed any more, and who can't be told that is not waited for. */
  #dismiss(): void {
    if (this.#dismissed !== undefined) return;
    for (const { stop } of this.#crew.values()) stop(false);
    this.#dismissed = setTimeout(() => {
      for (const { leave } of this.#crew.values()) leave();
    }, GRACE).unref();
  }

  /** A part at which one worker after another has died is not tried any more: each of its entries failed. */
  #condemn(plan: Plan, worker: string): void {
    for (const [part, { attempt: last, settled }] of this.#directory.standings()) {
      const planned = plan.parts[part - 1];
      if (settled || last < MOST_ATTEMPTS || !planned || this.#directory.holder(part, last) !== worker) continue;
      const message = `part ${part}: ${last} attempts ended with the death of their worker, it is not tried again`;
      const failure: NativeFailure = {
        ...{ type: 'error', kind: 'other', outcome: 'failed', operation: 'copy', entryKind: 'file', message },
        path: this.#list(part),
      };
      const name = `coordinator-${process.pid}`;
      // Of a range that is not there its file is copied as a whole, which is then what fails.
      const failed = planned.range === undefined && plan.reading === undefined;
      const state: PartState = {
        ...{ part, attempt: last + 1, worker: name, host: hostname(), elapsed: 0, found: planned.entries, made: 0 },
        outcomes: failed ? { failed: { all: planned.entries, file: planned.entries } } : {},
        ...{ copiedBytes: 0, movedBytes: 0, resumedFiles: 0, resumedBytes: 0, verifiedFiles: 0, verifiedBytes: 0 },
        ...{ verifiedFromCache: 0, hashedBytes: 0, complete: !failed, failures: failed ? [store(failure)] : [] },
        ...{ failureKinds: failed ? { other: 1 } : {}, notes: [] },
      };
      const steps = attempt<PartState>(part, last + 1);
      for (let step = steps.next(); !step.done; ) {
        step = steps.next(step.value.do === 'work' ? state : this.#directory.perform(step.value, name));
      }
    }
  }

  /** Reads what is new in the run directory. */
  #look(plan: Plan): void {
    if (this.#watched && !this.#tells) {
      this.#tells = true;
      this.#directory.setWatched(Math.max(WATCHED.least, this.#workers / WATCHED.workers));
    }
    const names = this.#run.slurm ? [...this.#directory.workers()].flatMap(([name, over]) => (over ? [] : [name])) : [];
    this.#beats = new Map(
      [...this.#crew.keys(), ...names].flatMap((name) => {
        const beat = this.#directory.beatOf(name);
        return beat ? [[name, beat]] : [];
      }),
    );
    // After the beats: whoever is at another part by now has left the state of the one before.
    for (const part of this.#directory.settled()) {
      const planned = plan.parts[part - 1];
      if (planned === undefined || this.#counted.has(part)) continue;
      this.#counted.add(part);
      this.#count(this.#directory.state(part), planned.entries, planned.bytes);
    }
    this.#rates.look([...this.#beats.values()], performance.now());
  }

  /** Puts what came of a part into the books. */
  #count(state: PartState, entries: number, bytes: number): void {
    const { part, found, outcomes, failures, failureKinds, notes, copiedBytes, made } = state;
    this.#rates.count(state);
    const ledger = this.#ledger;
    ledger.settle(
      Object.fromEntries(Object.entries(outcomes).map(([name, count]) => [name, { ...count, directory: 0 }])),
    );
    ledger.made += made;
    if (!this.#run.reading) ledger.copiedBytes += copiedBytes;
    this.#moved += state.movedBytes;
    ledger.doneBytes += bytes;
    for (const key of SUMS) this.#sums[key] += state[key];
    ledger.took((state.slowest ?? []).map((slow) => restore(slow)));
    this.#tell(
      failures.map((failure) => restore(failure)),
      failureKinds,
      // What others of this run have not finished yet is nothing to tell; what comes last sees what is left of any run.
      notes.filter(({ kind }) => kind !== 'foreign-staging').map((note) => restore(note)),
    );
    // What is below a directory that could not be made is not even looked at.
    if (found < entries && total(failureKinds) > 0) ledger.failMore('file', entries - found);
    else if (found !== entries) {
      this.#balanced = false;
      this.#note('run', `part ${part} has ${entries} entries, and ${found} were found in it`);
    }
    if (this.#run.entries)
      void ledger.tell({ type: 'part', number: part, entries, bytes, cost: bytes, split: 0, path: this.#list(part) });
  }

  #list(part: number): Buffer {
    return toBytes(this.#directory.list(part));
  }

  /** Parts that nobody has brought to their end: each of their entries failed. */
  async #giveUp(plan: Plan): Promise<void> {
    const standings = this.#directory.standings();
    for (const [place, { entries }] of plan.parts.entries()) {
      const part = place + 1;
      // Of a range nothing is to tell: the file is none of those that are there.
      if (this.#counted.has(part) || entries === 0) continue;
      const { attempt: attempts = 0 } = standings.get(part) ?? {};
      this.#ledger.failMore('file', entries - 1);
      await this.#ledger.fail({
        ...{ type: 'error', kind: 'other', outcome: 'failed', operation: 'copy', entryKind: 'file' },
        path: this.#list(part),
        message: `part ${part}: no worker has brought it to its end in ${attempts} attempts; ${entries} entries are not known to be there (resume tries them again)`,
      });
    }
  }

  /** What comes when all parts are done: directories as they are to be, and extra entries. */
  async #finish(plan: Plan): Promise<Last | undefined> {
    const { removeExtra = false, removeSources = false, acceptTimeLoss, manifest } = this.#run;
    const { maxDelete, confirm, exclude = [], oneFileSystem = false, inUse, filesFrom } = this.#run;
    for (const [place, { ranges }] of plan.parts.entries()) {
      // Whoever has published it may have died before it did this.
      if (ranges === undefined || !this.#counted.has(place + 1)) continue;
      const name = await nameIn(this.#directory.list(place + 1));
      await discard({ destination: plan.destination, name, tag: tagOf(plan) });
    }
    // Nothing goes where anything is missing, and a manifest is of all.
    const good = this.#ledger.errors === 0 && this.#balanced;
    const whole = (removeExtra || removeSources || manifest !== undefined) && good;
    this.#again = whole;
    this.#phase = !whole || !(removeExtra || removeSources) ? 'closing' : removeSources ? 'proving' : 'sweeping';
    const allowed: Confirm = async (victims) => this.#leads() && ((await confirm?.(victims)) ?? true);
    const options: MappedCopyOptions = {
      ...(plan.terms as unknown as MappedCopyOptions),
      sources: [{ path: plan.source, contents: true, follow: true }],
      destinations: [{ path: plan.destination, follow: true }],
      ...pick(this.#run, [...PACE, 'spillDirectory']),
      ...(whole
        ? {
            ...{ hashSize: 0, fullHash: false, verify: false, removeExtra, removeSources, oneFileSystem },
            ...((removeExtra || removeSources) && { confirm: allowed }),
            ...(acceptTimeLoss && { acceptTimeLoss }),
            ...(manifest && { manifest }),
            ...(filesFrom && { filesFrom: { path: this.#directory.names, nul: true } }),
            ...(exclude.length > 0 && { filter: { style: 'rsync' as const, rules: exclude } }),
            ...(maxDelete !== undefined && { maxDelete }),
            ...(inUse && { inUse }),
          }
        : { filesFrom: { path: this.#directory.directories, nul: true } }),
    };
    this.#last = new Job(() => prepareCopy(options), undefined, allowed);
    if (this.#stopping !== 'no') this.#last.cancel(this.#stopping === 'now');
    const report = await this.#last;
    if (report.interrupted) return undefined;
    if (whole) this.#countAll(plan, report);
    else {
      const settled = Object.entries(report.outcomes).map(([name, all]) => [name, { all, file: 0, directory: all }]);
      this.#ledger.settleDirectories(Object.fromEntries(settled));
      // What is below a directory that could not be made is not even looked at.
      const unseen = plan.found.directory - total(report.outcomes);
      if (unseen > 0 && total(report.failureKinds) > 0) this.#ledger.failMore('directory', unseen);
    }
    this.#tell(
      report.failures.map((failure) => ({ ...failure, path: toBytes(failure.path) })),
      report.failureKinds,
      report.notes.map((note) => ({ ...note, path: toBytes(note.path) })),
    );
    const held: NativeReport['withheld'] = [];
    if (removeExtra && !whole)
      held.push({ kind: 'failed', what: 'extra', message: 'extra entries stay: not everything was copied' });
    if (removeSources && !whole)
      held.push({ kind: 'failed', what: 'sources', message: 'the source stays: not everything was copied' });
    if (manifest && !whole) this.#note('manifest', 'there is no manifest: not everything was copied', '', true);
    const { accounted, extras, removedSources, keptSources } = report;
    return { accounted, extras, removedSources, keptSources, withheld: [...held, ...report.withheld] };
  }

  /** The whole of both trees was looked at: what came or changed after the plan was made is copied now, and counts. */
  #countAll(plan: Plan, { found, outcomes, files, directories }: Report): void {
    const ledger = this.#ledger;
    const counts = Object.entries(outcomes).flatMap(([name, many]): [Outcome, Count][] => {
      const outcome = name as Outcome;
      const others = many - directories[outcome];
      // Parts have counted what is there already.
      return outcome === 'skipped' || others === 0
        ? []
        : [[outcome, { all: others, file: files[outcome], directory: 0 }]];
    });
    ledger.settle(Object.fromEntries(counts));
    ledger.settleDirectories(
      Object.fromEntries(Object.entries(directories).map(([name, all]) => [name, { all, file: 0, directory: all }])),
    );
    const there = outcomes.skipped - directories.skipped;
    const late = total(found) - found.directory - there;
    if (late > 0 || found.directory !== plan.found.directory)
      this.#note('run', `entries came, went or changed after the plan was made: ${late} were copied in the end`);
    ledger.found.file += Math.max(0, late);
    ledger.found.directory = found.directory;
  }

  /** Failures and notes of somebody else, into the books. */
  #tell(
    failures: readonly NativeFailure[],
    kinds: Readonly<Record<string, number>>,
    notes: readonly NativeNote[],
    meant = kindOf,
  ): void {
    const ledger = this.#ledger;
    const left = new Map(Object.entries(kinds));
    for (const failure of failures) {
      left.set(failure.kind, (left.get(failure.kind) ?? 0) - 1);
      void ledger.fail({ ...failure, kind: meant(failure.kind) }, false);
    }
    for (const [kind, many] of left) ledger.failUntold(meant(kind), Math.max(0, many));
    for (const { kind, message, path, lost, count } of notes) ledger.note(kind, message, path, { lost, count });
  }

  /** Whether this is still the one that coordinates. */
  #leads(): boolean {
    const { host, process: number } = JSON.parse(readFileSync(toBytes(join(this.#run.path, 'lock')), 'utf8')) as Holder;
    return host === hostname() && number === process.pid;
  }

  #report(last: Last | undefined): NativeReport {
    const interrupted = this.#stopping !== 'no' || last === undefined;
    const elapsed = (performance.now() - this.#begun) / 1000;
    const report = this.#ledger.report({ interrupted, workers: this.#workers, elapsed, dryRun: false });
    const { extras = 0, withheld = [], accounted = true, removedSources = 0, keptSources = 0 } = last ?? {};
    const balanced = accounted && this.#balanced && total(report.found) + extras === total(report.outcomes);
    const sync = this.#run.sync ?? 'safe';
    return {
      ...report,
      ...this.#sums,
      extras,
      removedSources,
      keptSources,
      withheld,
      accounted: interrupted || balanced,
      sync,
    } as NativeReport;
  }

  /** The run is over: what is complete needs no run directory any more. */
  async #leave(report: NativeReport): Promise<void> {
    const { complete, exitCode } = verdictOf(report, false);
    this.#directory.finish(exitCode);
    if (complete && !this.#run.lasting) await rm(toBytes(this.#run.path), { recursive: true, force: true });
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, LOOK);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #note(kind: string, message: string, path = '', lost = false): void {
    this.#ledger.note(kind, message, toBytes(path), { lost });
  }
}

/** What was found by who makes the plan: nothing is done with it yet, and nobody knows how much more there is. */
function foundSoFar({ expected: _, ...found }: NativeSnapshot): Snapshot {
  return { ...found, phase: 'scanning', doneEntries: 0, doneFiles: 0, doneBytes: 0, workedEntries: 0, readBytes: 0 };
}

/** What the planner had found is not missing, it vanished. */
function kindOf(kind: string): string {
  return kind === 'missing' ? 'vanished' : kind;
}

/**
 * What a worker is called: by who coordinates (`tag` tells one run of this process from another, in which it has ended), its
 * number, and which one it is of all that were begun.
 */
function nameOf(tag: string, index: number, number: number): string {
  return `${hostname().replace(/[^\w.-]/g, '_')}-${process.pid}-${tag}-${index + 1}.${number}`;
}

function isAlive(number: number): boolean {
  try {
    process.kill(number, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
