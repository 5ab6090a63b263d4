/**
 * Operations that are spread: their parts are worked on by workers, each a process of its own, and what can only come last comes
 * last.
 *
 * Comes in: a source and a destination with options of a copy, or what else is to be done with a tree (`spread/task.ts`), and
 * who works; goes out: a running `Job`. Here is what is asked for and checked. The course of a run is that of its coordinator
 * (`spread/coordinator.ts`), and what an operation does in the end is its own: `spread/copying.ts`, `spread/whole.ts`. It
 * promises that the entries of all states are those that the planner has counted, or that the run is not complete.
 */
import { lstat, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { BulkhaulError, whyOf } from '../error.js';
import { absolutePath, jobDirectory } from '../journal/identity.js';
import { type PathLike, toBytes } from '../names.js';
import type { NativeNames, Resources } from '../native/options.js';
import {
  boolean,
  call,
  each,
  type Fields,
  type Given,
  id,
  JOB,
  type JobOptions,
  limit,
  path,
  pathText,
  pick,
  RESOURCES,
  record,
  SELECTION,
  text,
  whole,
} from './arguments.js';
import { begin, Job, journalFor, type Prepared, prepared } from './job.js';
import { type Deletion, type MappedCopyOptions, mapSources, prepareCopy, SHARED } from './mapping.js';
import { Coordinator } from './spread/coordinator.js';
import { Copying, PACE, TERMS } from './spread/copying.js';
import type { Crew } from './spread/operation.js';
import { removalCheck, type Task } from './spread/task.js';
import { Whole } from './spread/whole.js';
import { checkHost } from './transfer/ssh.js';
import { ownNames, ruleOf } from './within.js';

export type { Crew } from './spread/operation.js';

type Terms = (typeof TERMS)[number];

/** What is done with a tree by workers, other than a copy. */
export interface SpreadTask extends JobOptions, Crew, Resources {
  /** What is done, and where. */
  task: Task;
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
      | Terms
      | (typeof PACE)[number]
      | 'oneFileSystem'
      | 'removeExtra'
      | 'removeSources'
      | 'acceptTimeLoss'
      | 'manifest'
      | 'requireSpace'
    > {
  /** A directory: `SRC/` brings what is in it, `SRC` itself. */
  source: PathLike;
  /** A directory, made with its parents when absent. */
  destination: PathLike;
  /** Rules as rsync's --exclude. Default: everything is taken. */
  exclude?: PathLike[];
  /** A list of names relative to the source, with or without a slash, one a line, or with `nul` each ended by NUL. A directory comes by itself. Default: all of the source. */
  filesFrom?: Given<Omit<NativeNames, 'contents'>>;
  /** A directory for temporary files without a name. Default: memory is used. */
  spillDirectory?: PathLike;
  /** Files that the caller has open meanwhile: they stay. Default: none. */
  inUse?: PathLike[];
}

/** The most workers of a run. */
const MOST_WORKERS = 10_000;

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
  requireSpace: SHARED.requireSpace,
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

/** Does something else with a tree, by several processes at once, and tells all as one would. */
export function spreadTask(options: SpreadTask): Job {
  return begin(options, () => undefined, prepareTask);
}

async function prepareTask(given: SpreadTask): Promise<Prepared> {
  for (const host of given.hosts ?? []) checkHost(host);
  const { directory: named, output } = given;
  const { source, operation, contents } = given.task;
  const changes = operation === 'remove' || operation === 'compress';
  // What is only named by a symlink is not gone into there.
  const found = await (changes && !contents ? lstat : stat)(toBytes(source)).catch((error) => {
    // All of it had gone, and nobody has said so yet.
    if (operation === 'remove' && given.journal?.id !== undefined && error.code === 'ENOENT') return undefined;
    throw new BulkhaulError('NO_SOURCE', `${source}: ${whyOf(error, source)}`);
  });
  if (found?.isDirectory() === false)
    throw new BulkhaulError('USAGE', `${source} is no directory: it can't be divided`);
  const here = process.cwd();
  const at = (path: PathLike, what: string) => absolutePath(pathText(path, what), here);
  const asked: SpreadTask = {
    ...given,
    ...(named !== undefined && { directory: at(named, 'the run directory') }),
    ...(output !== undefined && { output: at(output, 'the output') }),
  };
  const journal = await journalFor('spread', { ...asked, ...{ source } }, true);
  return prepared(journal, async () => {
    const inUse = [
      ...(given.inUse ?? []),
      ...(given.journal && operation !== 'remove' ? [given.journal.directory] : []),
      ...(journal?.files ?? []),
    ];
    const { task, output, extra, entries, ...others } = asked;
    const place = placeOf(asked, journal?.journal?.id);
    if (changes && place.path !== '') refuseWithin(source, [place.path]);
    const own =
      'inUse' in task ? { ...task, inUse: [...task.inUse, ...inUse.map((path) => at(path, 'a file in use'))] } : task;
    const run = {
      ...others,
      ...{ source, contents: contents || operation === 'verify', inUse, ...place },
      // The planner goes into nothing that a removal does not.
      ...(operation === 'remove' && { oneFileSystem: true }),
      ...(entries !== undefined && { entries }),
    };
    if (found === undefined) return removalCheck(own as Parameters<typeof removalCheck>[0]);
    const ending = { ...pick(asked, [...PACE, 'output', 'extra', 'entries']) };
    return new Coordinator(run, new Whole(own, ending));
  });
}

/** What works on a tree is not in it. */
function refuseWithin(source: string, paths: readonly string[]): void {
  const inside = paths.find((path) => `${path}/`.startsWith(`${source}/`));
  if (inside !== undefined)
    throw new BulkhaulError('USAGE', `the run directory ${inside} is in ${source}: name another one`);
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
export async function prepareSpread(options: SpreadOptions | SpreadTask): Promise<Prepared> {
  return 'task' in options ? prepareTask(options) : prepareSpreadCopy(options);
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
  const rooted = given.filesFrom !== undefined;
  const places = await placesOf(absolutePath(ends[0], here), absolutePath(ends[1], here), rooted).catch(
    async (error) => {
      // What is not there the engine says, as of every copy.
      if (error instanceof BulkhaulError) throw error;
      await new Job(async () => prepareCopy({ ...(await mapSources([ends[0]], ends[1])), dryRun: true }));
      throw new BulkhaulError('NO_SOURCE', `${ends[0]}: ${whyOf(error, ends[0])}`);
    },
  );
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
    const { directory: _, journal: __, destination: ___, ...run } = asked;
    const { path, goesOn, lasting } = placeOf(asked, journal?.journal?.id);
    const own = path === '' ? [] : ownNames([places.source, places.destination], [path, ...(journal?.files ?? [])]);
    // The names of a list are meant as they are.
    const exclude = asked.filesFrom === undefined ? [...own.map(ruleOf), ...(run.exclude ?? [])] : [];
    const whole = { ...run, exclude, own, source: places.source, path, goesOn, lasting };
    return new Coordinator(whole, new Copying(asked, places.destination));
  });
}

/** rsync's slash rule, for a directory. `rooted`: it is the root of the names of a list, with or without a slash. */
async function placesOf(
  source: string,
  destination: string,
  rooted: boolean,
): Promise<{ source: string; destination: string }> {
  const found = await lstat(toBytes(source));
  const contents = rooted || /\/\.{0,2}$/.test(source);
  const target = contents ? await stat(toBytes(source)).catch(() => found) : found;
  if (!target.isDirectory()) throw new BulkhaulError('USAGE', `${source} is no directory: it can't be divided`);
  const bare = (path: string) => path.replace(/(?<=[^/])\/+$/, '');
  return {
    source: bare(source),
    destination: contents ? bare(destination) : join(bare(destination), basename(bare(source))),
  };
}
