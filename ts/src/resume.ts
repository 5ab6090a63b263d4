/**
 * Jobs that were run before: what there is of them, and going on with one.
 *
 * Comes in: a state directory, and the name of a job; goes out: summaries, the records of its journal, or a running `Job`
 * that does what is left: all operations see for themselves what is there already.
 */
import { realpath, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { BulkhaulError } from './error.js';
import { absolutePath, jobDirectory, journalPath } from './journal/identity.js';
import { pristine, recordsOf } from './journal/reader.js';
import { type EndRecord, isCommand, type JobOperation, type JobRecord, type JournalRecord } from './journal/record.js';
import { type JobSummary, jobsIn } from './journal/store.js';
import { display, fromBytes, type PathLike, toBytes } from './names.js';
import type { Resources } from './native/options.js';
import { loadAddon } from './native.js';
import {
  boolean,
  call,
  ENVIRONMENT,
  type Environment,
  each,
  type Fields,
  JOB,
  JOURNAL,
  type JobOptions,
  type JournalSettings,
  path,
  pathText,
  RESOURCES,
  record,
  text,
} from './ops/arguments.js';
import { begin, type Confirm, type Job, type Prepared } from './ops/job.js';
import type { MappedCopyOptions } from './ops/mapping.js';
import type { RemoveOptions } from './ops/remove.js';
import type { VerifyOptions } from './ops/verify.js';

export type { JournalRecord } from './journal/record.js';
export type { JobState, JobSummary } from './journal/store.js';

/** Options of `resume`. What is not given is as it was. */
export interface ResumeOptions extends Pick<JobOptions, 'signal' | 'entries'>, Resources {
  /** The state directory, and how the journal is kept. */
  journal: Omit<JournalSettings, 'id' | 'required' | 'partial'>;
  /** Only what failed is tried again, where the last run came to its end and the job can do that: a copy of one source that deletes nothing, a removal, and a verification. Default false: all of the job. */
  retryFailed?: boolean;
  /** Asked before anything is deleted, where the job was asked that too. Default: the answer is no. */
  confirm?: Confirm | undefined;
  /** A directory for temporary files without a name. Default: memory is used. */
  spillDirectory?: PathLike;
  /** Files that the caller has open meanwhile: they stay. Default: none. */
  inUse?: PathLike[];
  /** Where credentials of object stores are looked up, as `SyncOptions` have it: a journal never has them. Default: nowhere. */
  environment?: Environment;
  /** How bulkhaul is begun, as words of a command, where the job has workers. Default: by its name. */
  program?: readonly string[];
}

const FIELDS: Fields<ResumeOptions> = {
  ...RESOURCES,
  signal: JOB.signal,
  entries: boolean,
  journal: JOURNAL,
  retryFailed: boolean,
  confirm: call,
  spillDirectory: path,
  inUse: each(path),
  environment: ENVIRONMENT,
  program: each(text),
};
const OPTIONS = record<ResumeOptions>(FIELDS, 'journal');

/**
 * The jobs of a state directory, those that were heard of last first.
 *
 * @example
 * ```js
 * import { jobs } from 'bulkhaul';
 *
 * for (const { id, state, sources } of await jobs('/mnt/state')) console.log(id, state, sources);
 * ```
 */
export async function jobs(directory: PathLike): Promise<JobSummary[]> {
  return jobsIn(pathText(directory, 'the state directory'), await loadAddon());
}

/**
 * The records of a job's journal, in their order. Throws `JOURNAL` where there is no such job, or its journal is none.
 *
 * @example
 * ```js
 * import { jobs, journalOf } from 'bulkhaul';
 *
 * for (const { id } of await jobs('/mnt/state')) {
 *   for await (const record of journalOf('/mnt/state', id)) {
 *     if (record.type === 'error') console.log(record.path, record.kind);
 *   }
 * }
 * ```
 */
export async function* journalOf(directory: PathLike, id: string): AsyncGenerator<JournalRecord, void, undefined> {
  yield* recordsIn(pathText(directory, 'the state directory'), id);
}

/** The same, of a directory that is a text; `condition`: what the journal is found to be meanwhile. */
export async function* recordsIn(
  directory: string,
  id: string,
  condition = pristine(),
): AsyncGenerator<JournalRecord, void, undefined> {
  // A name, not a way to somewhere else.
  if (!/^[\w-]+$/.test(id)) throw new BulkhaulError('JOURNAL', `there is no job ${display(id)}`);
  try {
    yield* recordsOf(journalPath(directory, id), condition);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw new BulkhaulError('JOURNAL', `there is no job ${display(id)}`, { cause: error });
  }
}

/** What was asked for in a job, and where relative paths began: rules of hpcp's form are about paths from there. Throws like `journalOf`. */
export async function askedIn(directory: string, id: string): Promise<Pick<JobRecord, 'directory' | 'options'>> {
  for await (const record of recordsIn(directory, id)) if (record.type === 'job') return record;
  throw new BulkhaulError('JOURNAL', `the journal of ${id} says nothing`);
}

/**
 * Goes on with a job that was interrupted, or did not come to a good end. Rejects with `JOURNAL` where there is none of
 * this name, it is in use, it is done, or what it was asked for came from a stream that is gone.
 *
 * @example
 * ```js
 * import { jobs, resume } from 'bulkhaul';
 *
 * const [last] = await jobs('/mnt/state');
 * if (last?.state === 'failed') await resume(last.id, { journal: { directory: '/mnt/state' }, retryFailed: true });
 * ```
 */
export function resume(id: string, options: ResumeOptions): Job {
  return begin(options, OPTIONS, (options) => prepare(id, options));
}

/** What a journal says of a job that is to be gone on with. */
interface Told {
  /** What was asked for. */
  job: JobRecord;
  /** The paths that failed in the last run, each once, as far as the journal has them, and they were asked for. */
  failed: string[];
  /** A directory is among them, so that nobody knows what is below it. */
  directories: boolean;
  /** All of them are there. */
  whole: boolean;
  /** How the last run ended; undefined: it did not. */
  state: EndRecord['state'] | undefined;
}

/** What a verification says of a directory itself. */
const FINDINGS = ['missing', 'extra', 'kind'];

/** Paths that are tried again by their names, at most: beyond them it is all of the job, and memory stays bounded. */
const MOST_PATHS = 1_000_000;

async function tellOf(directory: string, id: string, paths: boolean): Promise<Told> {
  const condition = pristine();
  let job: JobRecord | undefined;
  let failed = new Set<string>();
  let directories = false;
  let state: Told['state'];
  for await (const record of recordsIn(directory, id, condition)) {
    if (record.type === 'job') job = record;
    if (record.type === 'attempt') {
      failed = new Set();
      directories = false;
      state = undefined;
    }
    if (record.type === 'error') {
      if (paths && failed.size <= MOST_PATHS) failed.add(absolutePath(record.path, job?.directory ?? ''));
      const told = job?.operation === 'verify' && FINDINGS.includes(record.kind);
      directories ||= record.entryKind === 'directory' && !told;
    }
    if (record.type === 'end') state = record.state;
  }
  if (job === undefined) throw new BulkhaulError('JOURNAL', `the journal of ${id} says nothing`);
  return { job, failed: [...failed], directories, whole: condition.damaged === 0 && failed.size <= MOST_PATHS, state };
}

async function prepare(id: string, options: ResumeOptions): Promise<Prepared> {
  const { journal, retryFailed = false, confirm, signal: _, environment, program, ...rest } = options;
  const directory = pathText(journal.directory, 'the state directory');
  const told = await tellOf(directory, id, retryFailed);
  const { job } = told;
  const { operation } = job;
  if (isCommand(operation))
    throw new BulkhaulError('JOURNAL', `job ${id} is gone on with by its command: bulkhaul resume ${id}`);
  if (told.state === 'done') throw new BulkhaulError('JOURNAL', `job ${id} is done: there is nothing to go on with`);
  const stream = streamIn(job.options);
  if (stream !== undefined) {
    throw new BulkhaulError('JOURNAL', `job ${id} used ${stream}, which is gone: give the same command again`);
  }
  const list = join(jobDirectory(directory, id), 'retry');
  // Of a run that did not come to its end, nobody knows the rest.
  const alone = retryFailed && told.state === 'failed' && told.whole && told.failed.length > 0;
  const kept = alone ? await retried(told.job, told, list) : job.options;
  const { confirm: asks, ...asked } = kept;
  const all = {
    ...asked,
    ...rest,
    ...(ASKS.includes(operation) && { environment }),
    ...(operation === 'spread' && program && { program }),
    // What an earlier run has removed is not missing.
    ...(operation === 'remove' && { ignoreMissing: true }),
    ...(asks === true && { confirm: confirm ?? (() => false) }),
    journal: { ...journal, directory, id, partial: kept !== job.options, required: true },
  };
  return PREPARE[operation](all);
}

/** Operations that may ask a store, or run commands. */
const ASKS: readonly JobOperation[] = ['sync', 'retain', 'pack', 'unpack', 'manifest', 'verify', 'partition'];

/** Options as a journal has them: it was written from those of the operation, and its digests hold. */
type Kept = Record<string, unknown>;

/** How each operation is begun from its options as they are kept. */
const PREPARE: Record<JobOperation, (options: Kept) => Promise<Prepared>> = {
  copy: async (options) => (await import('./ops/mapping.js')).prepareCopy(options as never),
  move: async (options) => (await import('./ops/mapping.js')).prepareCopy(options as never, 'move'),
  migrate: async (options) => (await import('./ops/mapping.js')).prepareCopy(options as never, 'migrate'),
  remove: async (options) => (await import('./ops/remove.js')).prepareRemoval(options as never),
  list: async (options) => (await import('./ops/list.js')).prepareList(options as never),
  manifest: async (options) => (await import('./ops/manifest.js')).prepareManifest(options as never),
  verify: async (options) => (await import('./ops/verify.js')).prepareVerification(options as never),
  unpack: async (options) => (await import('./ops/unpack.js')).prepareUnpack(options as never),
  partition: async (options) => (await import('./ops/partition.js')).preparePartition(options as never),
  pack: async (options) => (await import('./ops/pack.js')).preparePack(options as never),
  compress: async (options) => (await import('./ops/compress.js')).prepareCompression(options as never),
  decompress: async (options) => (await import('./ops/decompress.js')).prepareDecompression(options as never),
  sync: async (options) => (await import('./ops/sync.js')).prepareSync(options as never),
  retain: async (options) => (await import('./ops/retain.js')).prepareRetention(options as never),
  spread: async (options) => (await import('./ops/spread.js')).prepareSpread(options as never),
  compare: async (options) => (await import('./ops/compare.js')).prepareComparison(options as never),
};

/** The stream that something was read from, if any was. */
function streamIn(value: unknown): string | undefined {
  if (typeof value === 'string')
    return /^\/(dev\/(std(in|out|err)|fd\/)|proc\/self\/fd\/)/.exec(value) ? value : undefined;
  if (typeof value !== 'object' || value === null) return undefined;
  return Object.values(value)
    .map(streamIn)
    .find((found) => found !== undefined);
}

/**
 * The options of a job that tries only what failed again, its names in a list in `list`; as they are where it can't: a
 * directory that failed may hold anything, and deletions and a manifest are about all of a tree.
 */
async function retried({ operation, options }: JobRecord, { failed, directories }: Told, list: string) {
  if (operation === 'remove') {
    const { paths, exclude, excludeAbsolute, maxDelete } = options as unknown as RemoveOptions;
    const roots = [paths].flat().map(String);
    const plain = !exclude?.length && !excludeAbsolute?.length && maxDelete === undefined;
    const left = within(failed, roots);
    return plain && left.length > 0 ? { ...options, paths: left } : options;
  }
  if (operation === 'verify' && !directories) return verifiedAgain(options, failed);
  if (operation !== 'copy' || directories) return options;
  const asked = options as unknown as MappedCopyOptions;
  const [source, ...others] = asked.sources;
  const [destination, ...further] = asked.destinations;
  if (source === undefined || destination === undefined || others.length > 0 || further.length > 0) return options;
  const { filesFrom, removeExtra, removeSources, filter, manifest } = asked;
  if (filesFrom || removeExtra || removeSources || manifest || (filter && !source.contents)) return options;
  const [from, to] = [String(source.path), String(destination.path)].map((path) => path.replace(/(?<=[^/])\/+$/, ''));
  if (from === undefined || to === undefined) return options;
  const target = source.contents ? to : `${to}/${source.name ?? from.slice(from.lastIndexOf('/') + 1)}`;
  const names = failed.map(
    (path) => [from, target].flatMap((root) => (path.startsWith(`${root}/`) ? [path.slice(root.length + 1)] : []))[0],
  );
  if (!names.every((name) => name !== undefined && name !== '')) return options;
  await writeFile(toBytes(list), nameList(names as string[]), { mode: 0o600 });
  return {
    ...options,
    sources: [{ path: from, contents: true, follow: true }],
    destinations: [{ ...destination, path: target }],
    filesFrom: { path: list, nul: true },
  };
}

/** The options of a verification of nothing but these paths; as they are where one lies elsewhere. */
async function verifiedAgain(options: Kept, failed: readonly string[]): Promise<Kept> {
  const { manifests, directory } = options as unknown as VerifyOptions;
  const begins = await Promise.all([manifests].flat().map((path) => beginningOf(String(path))));
  const places = new Set(directory === undefined ? begins : [String(directory)]);
  const base = places.size > 1 ? await commonOf([...places]) : ([...places][0] ?? '');
  const start = base.endsWith('/') ? base : `${base}/`;
  if (!failed.every((path) => path.startsWith(start) && path !== start)) return options;
  return { ...options, only: failed.map((path) => path.slice(start.length)) };
}

/** Where the paths of a manifest begin. */
async function beginningOf(manifest: string): Promise<string> {
  const entry = await stat(toBytes(manifest)).catch(() => undefined);
  return entry?.isDirectory() ? manifest.replace(/(?<=[^/])\/+$/, '') : dirname(manifest);
}

/** The nearest directory that has all of these in it. */
async function commonOf(directories: readonly string[]): Promise<string> {
  const whole = await Promise.all(
    directories.map(async (path) => fromBytes(await realpath(toBytes(path), { encoding: 'buffer' }))),
  );
  let common = whole[0] ?? '/';
  while (!whole.every((path) => `${path}/`.startsWith(common === '/' ? '/' : `${common}/`))) common = dirname(common);
  return common;
}

/** Those that are one of the roots, or below one. */
function within(paths: readonly string[], roots: readonly string[]): string[] {
  const inside = paths.filter((path) =>
    roots.some((root) => path === root || path.startsWith(root.endsWith('/') ? root : `${root}/`)),
  );
  return inside.filter((path) => !inside.some((other) => path !== other && path.startsWith(`${other}/`)));
}

/** The bytes of names, each ended by NUL, as a list for `filesFrom`. */
function nameList(names: readonly string[]): Buffer {
  return Buffer.concat(names.map((name) => Buffer.concat([toBytes(name), Buffer.of(0)])));
}
