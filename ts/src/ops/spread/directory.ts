/**
 * The run directory: all that a coordinator and its workers know of each other.
 *
 * ```
 * run.json       what is to be done, with a digest of each list; appears last; of it only changes what is in use
 * parts/N        the entries of part N that are no directories, each ended by NUL; never changes
 * directories    the directories, in the same form
 * names          where a list named what is to be copied: all its names, in the same form
 * pace.json      how fast each worker may go; may change at any time
 * watched        somebody looks how far it is: so many seconds between two beats, for whoever would beat more rarely
 * leases/N.K     attempt K at part N: who has it; made exclusively. N.K.over: nobody works by it any more
 * found/N.K      what attempt K at part N has read, or read back, or has found to be left of its list
 * found.all      what all have read, while the whole is told
 * failures/N.K   what failed in attempt K at part N, a line each; 0.0: when the plan was made
 * states/N       what came of part N; appears whole, and never changes
 * workers/W      where worker W is, how many beats it has counted, and what it has done. W.over: it has ended
 * logs/W         what worker W had to say
 * witness        what tells this run from another that a host has under the same path
 * slurm, task.sh the array of jobs that was submitted, and what each task does
 * final.json     the run has come to its end
 * lock           who coordinates
 * ```
 *
 * Comes in: the steps of attempts (`protocol.ts`), the plan, beats; goes out: the same, to whoever looks. It promises that
 * what is there is whole: a file appears by a rename or a link, synced before.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  createReadStream,
  existsSync,
  fstatSync,
  fsyncSync,
  linkSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { addAbortSignal, Readable } from 'node:stream';
import { BulkhaulError, whyOf } from '../../error.js';
import type { Report } from '../../events.js';
import { makeDirectories } from '../../journal/store.js';
import { display, toBytes } from '../../names.js';
import type {
  EntryKind,
  NativeFailure,
  NativeNote,
  NativeShare,
  NativeSizeClass,
  NativeSlow,
  NativeStopping,
  Outcome,
} from '../../native/events.js';
import type { Resources } from '../../native/options.js';
import type { Logs } from '../mapping.js';
import type { Standing, Step } from './protocol.js';
import type { Gathered, Range } from './range.js';
import type { Task } from './task.js';

/** What is in it and holds something. */
const DIRECTORIES = ['parts', 'leases', 'found', 'failures', 'states', 'workers', 'logs'] as const;

/** What ends a line of text. */
export const NEWLINE = 0x0a;
/** Failures that are written at once. */
export const TOGETHER = 500;

/** Version of `run.json`. */
const FORMAT = 3;

/** A part, as the plan has it. */
export interface PlannedPart {
  /** Entries that are no directories. */
  entries: number;
  /** Bytes of the files in it. */
  bytes: number;
  /** Of its list. */
  digest: string;
  /** It is this range of the one file in its list. */
  range?: Range;
  /** It is one file, which these parts, the first and the last of them, are ranges of: it comes when they have their states. */
  ranges?: readonly [first: number, last: number];
}

/** What of a copy its workers are to know: options of the engine, in words that JSON has. */
export type CopyTerms = Readonly<Record<string, unknown>>;

/** How each worker goes. */
export interface Pace extends Resources {
  /** Seconds in which nothing moves, after which a worker gives up. Absent: it waits. */
  stallTimeout?: number;
  spillDirectory?: string;
}

/** What is to be done. */
export interface Plan {
  format: number;
  /** ISO 8601. */
  made: string;
  /** Of bulkhaul, where the caller has told it. */
  version?: string;
  /** What is done with it. Absent: it is copied. */
  task?: Task;
  /** A directory; what is in it is divided. */
  source: string;
  /** Where it is copied to; empty where it is not. */
  destination: string;
  /** Options of the copy of each part. */
  terms: CopyTerms;
  /** How many share what the run may take. */
  workers: number;
  /** Seconds between two beats of a worker. */
  beat: number;
  /** Looks without a beat after which it is lost. */
  looks: number;
  /** What there is, by kinds. */
  found: Record<EntryKind, number>;
  /** Of the list of directories. */
  directories: string;
  /** What could not be read when the plan was made, by kinds. */
  failureKinds: Record<string, number>;
  /** How large files are, and where most of them are. */
  sizes: NativeSizeClass[];
  heaviest: Stored<NativeShare>[];
  /** Part 1 is the first. */
  parts: PlannedPart[];
}

/** An event with its path as text that JSON can have. */
export type Stored<T extends { path: Buffer }> = Omit<T, 'path'> & { path: string };

/** What came of a part. */
export interface PartState {
  part: number;
  attempt: number;
  worker: string;
  host: string;
  /** Seconds. */
  elapsed: number;
  /** Entries that are no directories, as the engine has found them. */
  found: number;
  /** Their outcomes; of these, of regular files. */
  outcomes: Partial<Record<Outcome, { all: number; file: number }>>;
  /** Directories that were made on the way. */
  made: number;
  copiedBytes: number;
  /** Bytes that were read, compared, copied and read back. */
  movedBytes: number;
  resumedFiles: number;
  resumedBytes: number;
  verifiedFiles: number;
  verifiedBytes: number;
  verifiedFromCache: number;
  hashedBytes: number;
  /** All of it is there, as it was asked for. */
  complete: boolean;
  /** Why entries were skipped. Absent: they were there already. */
  skipped?: Record<string, number>;
  /** What became archives. */
  conversions?: Conversion[];
  /** Of a range: where its bytes are. Absent: nowhere, the file is copied as a whole. */
  gathered?: Gathered;
  /** How often something failed in it, by kinds; each is among its attempt's failures. */
  failureKinds: Record<string, number>;
  /** Nobody has brought it to its end in so many attempts: each of its entries failed. */
  abandoned?: number;
  notes: Stored<NativeNote>[];
  /** What took longest. Absent: nothing took long. */
  slowest?: Stored<NativeSlow>[];
}

/** What became archives, by extension; bytes before and after. */
export interface Conversion {
  extension: string;
  files: number;
  before: number;
  after: number;
}

/** How a worker is. */
export interface Beat {
  host: string;
  process: number;
  /** Of this start of the system. */
  boot: string;
  beats: number;
  /** What it works on; 0: nothing. */
  part: number;
  /** Of that part, so far. */
  entries: number;
  bytes: number;
  copiedBytes: number;
  movedBytes: number;
  errors: number;
  /** It syncs: for so many seconds. */
  syncing?: number;
  /** It was told to stop: what it still finishes. */
  stopping?: NativeStopping;
  /** It has stopped: what stays of what it was at. */
  left?: Left;
}

/** What stays of a job that was stopped: files under unfinished names, and notes of what did not come back. */
export interface Left {
  unfinished: number;
  notes: Stored<NativeNote>[];
}

export function leftOf({ unfinished, notes }: Report): Left {
  const behind = notes.filter(({ kind }) => kind === 'left-behind');
  return { unfinished, notes: behind.map((note) => store({ ...note, path: toBytes(note.path) })) };
}

export function store<T extends { path: Buffer }>(event: T): Stored<T> {
  return { ...event, path: event.path.toString('base64') };
}

export function restore<T extends { path: Buffer }>(event: Stored<T>): T {
  return { ...event, path: Buffer.from(event.path, 'base64') } as unknown as T;
}

/** A run as one of its workers sees it: a run directory that is here, or one that a connection leads to (`carried.ts`). */
export interface WorkerRun {
  plan(): Answer<Plan | undefined>;
  pace(): Answer<Pace>;
  watched(): Answer<number | undefined>;
  isThere(): Answer<boolean>;
  standings(): Answer<Map<number, Standing>>;
  workers(): Answer<Map<string, boolean>>;
  holder(part: number, attempt: number): Answer<string | undefined>;
  beatOf(worker: string): Answer<Beat | undefined>;
  state(part: number): Answer<PartState>;
  perform(step: Exclude<Step<PartState>, { do: 'work' }>, worker: string): Answer<boolean>;
  beat(worker: string, beat: Beat): Answer<void>;
  end(worker: string): Answer<void>;
  /** A file with the entries of a part. */
  list(part: number): Answer<string>;
  /** The file for what an attempt reads, with what it has read where it was. */
  found(part: number, attempt: number): Answer<string>;
  /** These failed in an attempt. */
  fail(part: number, attempt: number, failures: readonly NativeFailure[]): Answer<void>;
  /** An attempt has read all that it will. */
  keepFound(part: number, attempt: number): Answer<void>;
}

type Answer<T> = T | Promise<T>;

export class RunDirectory implements WorkerRun {
  constructor(readonly path: string) {}

  /** Makes it where it is not there. Throws `NO_START` where its file system won't do, or what Node throws. */
  make(): void {
    for (const name of DIRECTORIES) makeDirectories(join(this.path, name));
    const [file, link] = [this.#in('lock'), this.#in(`probe.${process.pid}`)];
    closeSync(openSync(file, 'a', 0o600));
    rmSync(link, { force: true });
    try {
      linkSync(file, link);
      unlinkSync(link);
    } catch (error) {
      const why = whyOf(error);
      throw new BulkhaulError('NO_START', `${display(this.path)} is no place for a run, it has no hard links: ${why}`);
    }
  }

  /** Removes what earlier runs have left in it, and nothing else. */
  async clear(): Promise<void> {
    for (const name of [
      'run.json',
      'final.json',
      'pace.json',
      'watched',
      'witness',
      'slurm',
      'task.sh',
      ...['directories', 'names', 'plan', 'plan.names', 'found.all'],
      ...DIRECTORIES,
    ])
      await rm(this.#in(name), { recursive: true, force: true });
  }

  /** The plan; undefined: there is none. Throws `JOURNAL` for one that can't be read. */
  plan(): Plan | undefined {
    const plan = this.#read('run.json') as Plan | undefined;
    if (plan === undefined || plan.format === FORMAT) return plan;
    throw new BulkhaulError('JOURNAL', `the run in ${display(this.path)} is of another version of bulkhaul`);
  }

  keep(plan: Omit<Plan, 'format'>): Plan {
    const whole: Plan = { format: FORMAT, ...plan };
    this.#appear('run.json', JSON.stringify(whole));
    return whole;
  }

  /** The run has come to its end, and with what code. */
  finish(exitCode: number): void {
    this.#appear('final.json', JSON.stringify({ exitCode }));
  }

  /** It is gone on with. */
  begin(): void {
    rmSync(this.#in('final.json'), { force: true });
  }

  /** Whoever sees this run reads the same in it. */
  setWitness(witness: string): void {
    this.#appear('witness', JSON.stringify(witness), false);
  }

  witness(): string | undefined {
    return this.#read('witness') as string | undefined;
  }

  setPace(pace: Pace): void {
    this.#appear('pace.json', JSON.stringify(pace), false);
  }

  pace(): Pace {
    return (this.#read('pace.json') ?? {}) as Pace;
  }

  /** Somebody watches, and workers are to beat each so many seconds at least; undefined: nobody does. */
  setWatched(every: number | undefined): void {
    if (every === undefined) rmSync(this.#in('watched'), { force: true });
    else this.#appear('watched', JSON.stringify(every), false);
  }

  watched(): number | undefined {
    return this.#read('watched') as number | undefined;
  }

  /** There is a plan. */
  isThere(): boolean {
    return existsSync(this.#in('run.json'));
  }

  get finished(): boolean {
    return existsSync(this.#in('final.json'));
  }

  list(part: number): string {
    return join(this.path, 'parts', String(part));
  }

  /** What an attempt has read. */
  found(part: number, attempt: number): string {
    return join(this.path, 'found', `${part}.${attempt}`);
  }

  keepFound(): void {
    // It was written where it is kept.
  }

  /** What all attempts have read, and where all of that comes together. */
  foundByAll(): Logs {
    return {
      keep: false,
      own: join(this.path, 'found.all'),
      others: this.#names('found').map((name) => join(this.path, 'found', name)),
    };
  }

  /** Takes down what failed in an attempt; part 0 is the plan. */
  fail(part: number, attempt: number, failures: readonly NativeFailure[]): void {
    if (failures.length === 0) return;
    const file = openSync(this.#in(join('failures', `${part}.${attempt}`)), 'a', 0o600);
    try {
      writeFileSync(file, failures.map((failure) => `${JSON.stringify(store(failure))}\n`).join(''));
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
  }

  /** What failed in an attempt. */
  async *failures(part: number, attempt: number): AsyncGenerator<NativeFailure> {
    const path = join(this.path, 'failures', `${part}.${attempt}`);
    if (!existsSync(toBytes(path))) return;
    for await (const line of lines(path, NEWLINE, true)) {
      yield restore(JSON.parse(line.toString()) as Stored<NativeFailure>);
    }
  }

  get names(): string {
    return join(this.path, 'names');
  }

  get directories(): string {
    return join(this.path, 'directories');
  }

  log(worker: string): string {
    return join(this.path, 'logs', worker);
  }

  /** Performs a step of an attempt, but for its work. */
  perform(step: Exclude<Step<PartState>, { do: 'work' }>, worker: string): boolean {
    switch (step.do) {
      case 'lease':
        return this.#make(join('leases', `${step.part}.${step.attempt}`), worker);
      case 'leased':
        return existsSync(this.#in(join('leases', `${step.part}.${step.attempt}`)));
      case 'settled':
        return existsSync(this.#in(join('states', String(step.part))));
      case 'settle':
        return this.#settle(step.part, step.attempt, step.outcome);
      case 'release':
        this.#make(join('leases', `${step.part}.${step.attempt}.over`), '');
        return true;
    }
  }

  /** How each part stands, of those that anybody has begun. */
  standings(): Map<number, Standing> {
    const standings = new Map<number, Standing>();
    const of = (part: number) => {
      const known = standings.get(part) ?? { attempt: 0, released: false, settled: false };
      standings.set(part, known);
      return known;
    };
    const released: [number, number][] = [];
    for (const name of this.#names('leases')) {
      const [, part, attempt, over] = /^(\d+)\.(\d+)(\.over)?$/.exec(name) ?? [];
      if (part === undefined) continue;
      if (over !== undefined) released.push([Number(part), Number(attempt)]);
      const standing = of(Number(part));
      standing.attempt = Math.max(standing.attempt, Number(attempt));
    }
    for (const [part, attempt] of released) if (of(part).attempt === attempt) of(part).released = true;
    for (const part of this.settled()) of(part).settled = true;
    return standings;
  }

  /** The states that are there stay: before, what the power takes back is a part that is done again. */
  keepStates(): void {
    this.#sync('states');
  }

  /** The parts that have their state. */
  settled(): number[] {
    const parts = this.#names('states').flatMap((name) => (/^\d+$/.test(name) ? [Number(name)] : []));
    return parts.sort((one, other) => one - other);
  }

  /** Who has a lease; undefined: it does not say yet. */
  holder(part: number, attempt: number): string | undefined {
    return readFileSync(this.#in(join('leases', `${part}.${attempt}`)), 'utf8') || undefined;
  }

  /** What came of a part that has its state. */
  state(part: number): PartState {
    return this.#read(join('states', String(part))) as PartState;
  }

  /** What came of it does not count any more: it is to be tried again. For whoever coordinates, before there are workers. */
  reopen(part: number, attempt: number): void {
    this.perform({ do: 'release', part, attempt }, '');
    renameSync(this.#in(join('states', String(part))), this.#in(join('states', `${part}.was.${attempt}`)));
  }

  beat(worker: string, beat: Beat): void {
    this.#appear(join('workers', worker), JSON.stringify(beat), false);
  }

  beatOf(worker: string): Beat | undefined {
    return this.#read(join('workers', worker)) as Beat | undefined;
  }

  /** A worker has ended: whatever it had is nobody's. */
  end(worker: string): void {
    this.#make(join('workers', `${worker}.over`), '');
  }

  /** All workers there were, and whether each has ended. */
  workers(): Map<string, boolean> {
    const names = this.#names('workers').filter((name) => !name.endsWith('.new'));
    const over = new Set(names.filter((name) => name.endsWith('.over')));
    const ended = [...over].map((name): [string, boolean] => [name.slice(0, -'.over'.length), true]);
    return new Map([
      ...names.filter((name) => !over.has(name)).map((name): [string, boolean] => [name, false]),
      ...ended,
    ]);
  }

  #settle(part: number, attempt: number, state: PartState): boolean {
    const [written, name] = [join('states', `${part}.${attempt}.new`), join('states', String(part))];
    this.#write(written, JSON.stringify(state));
    try {
      linkSync(this.#in(written), this.#in(name));
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      // A server whose answer was lost is asked twice, and says the second time that it is there.
      return statSync(this.#in(written)).ino === statSync(this.#in(name)).ino;
    } finally {
      unlinkSync(this.#in(written));
    }
  }

  /** Makes a file that must not be there. Answers whether it was made. */
  #make(name: string, text: string): boolean {
    let file: number;
    try {
      file = openSync(this.#in(name), 'wx', 0o600);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
      throw error;
    }
    try {
      writeFileSync(file, text);
    } finally {
      closeSync(file);
    }
    return true;
  }

  #appear(name: string, text: string, lasting = true): void {
    this.#write(`${name}.new`, text, lasting);
    renameSync(this.#in(`${name}.new`), this.#in(name));
    if (lasting) this.#sync('.');
  }

  #write(name: string, text: string, lasting = true): void {
    const file = openSync(this.#in(name), 'w', 0o600);
    try {
      writeFileSync(file, text);
      if (lasting) fsyncSync(file);
    } finally {
      closeSync(file);
    }
  }

  #sync(directory: string): void {
    const file = openSync(this.#in(directory), 'r');
    try {
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
  }

  #read(name: string): unknown {
    let text: string;
    try {
      text = readFileSync(this.#in(name), 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
    try {
      return JSON.parse(text);
    } catch (error) {
      throw new BulkhaulError('JOURNAL', `${display(join(this.path, name))} is damaged: ${whyOf(error)}`);
    }
  }

  #names(directory: string): string[] {
    return readdirSync(this.#in(directory));
  }

  #in(name: string): Buffer {
    return toBytes(join(this.path, name));
  }
}

/**
 * The lines of a file. One byte ends one, and nothing else that some take for an end. `unended`: the last may have none. `stop`:
 * no more is waited for, and what has come is all that there is.
 */
export async function* lines(
  path: string,
  terminator: number,
  unended: boolean,
  stop?: AbortSignal,
): AsyncGenerator<Buffer> {
  let rest = Buffer.alloc(0);
  try {
    const chunks = chunksOf(path);
    if (stop && chunks instanceof Readable) addAbortSignal(stop, chunks);
    for await (const chunk of chunks) {
      const bytes = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk;
      let begin = 0;
      for (let end = bytes.indexOf(terminator); end >= 0; end = bytes.indexOf(terminator, begin)) {
        yield bytes.subarray(begin, end);
        begin = end + 1;
      }
      rest = bytes.subarray(begin) as Buffer<ArrayBuffer>;
    }
  } catch (error) {
    if (stop?.aborted) return;
    throw new BulkhaulError('LIST', `${path}: ${whyOf(error, path)}`, { cause: error });
  }
  if (rest.length > 0 && !unended) throw new BulkhaulError('LIST', `the list is cut short: ${path}`);
  if (rest.length > 0) yield rest;
}

/** The first name of a list. */
export async function nameIn(path: string): Promise<Buffer> {
  const names = await readFile(toBytes(path));
  return names.subarray(0, names.indexOf(0));
}

/** What tells files of a run from those of others: eight hexadecimal digits. */
export function tagOf({ made, source, destination }: Pick<Plan, 'made' | 'source' | 'destination'>): string {
  const hash = createHash('sha256').update(JSON.stringify([made, source, destination]));
  return hash.digest('hex').slice(0, 8);
}

/** The digest of a list. */
export async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of chunksOf(path)) hash.update(chunk);
  return hash.digest('hex');
}

/** Bytes of a file that are read at once. */
const AT_ONCE = 64 * 1024;

/**
 * The bytes of a file. Of what is small they are read at once: a stream takes longer than that, and there may be many. What is
 * open already may be a socket, which has no path. Standard input may be set not to wait: as a stream of the net it is waited
 * for, and it alone stays open at the end of that.
 */
function chunksOf(path: string): Readable | Buffer[] {
  const [, open] = /^\/(?:dev|proc\/self)\/fd\/(\d+)$/.exec(path === '/dev/stdin' ? '/dev/fd/0' : path) ?? [];
  const fd = Number(open);
  const about = open === undefined ? statSync(toBytes(path)) : fstatSync(fd);
  if (fd === 0 && (about.isFIFO() || about.isSocket())) return new Socket({ fd, readable: true, writable: false });
  if (open !== undefined) return createReadStream(toBytes(path), { fd, autoClose: false });
  return about.isFile() && about.size <= AT_ONCE ? [readFileSync(toBytes(path))] : createReadStream(toBytes(path));
}
