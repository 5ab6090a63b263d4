/**
 * Listing trees, each file with a hash of its end, in hpcp's form and order; and reading such lists.
 *
 * Comes in: paths and options; goes out: a running `Job`. The list goes to a file, or comes as `entry` events.
 */
import { BulkhaulError } from '../error.js';
import { fromBytes, type PathLike } from '../names.js';
import type { NativeListOptions } from '../native/options.js';
import { loadAddon } from '../native.js';
import {
  boolean,
  common,
  each,
  excluding,
  type Fields,
  type Given,
  JOB,
  type JobOptions,
  path,
  pathBytes,
  paths,
  pathText,
  RESOURCES,
  record,
  SELECTION,
  size,
  TREE,
  trees,
} from './arguments.js';
import { begin, type Job, journalFor, type Prepared, prepared } from './job.js';

/** Options of `listMapped`: the addon's own, with paths as strings or bytes. */
export type MappedListOptions = Given<Omit<NativeListOptions, 'entryEvents' | 'finished'>> & JobOptions;

/** Options of `list`. */
export interface ListOptions
  extends JobOptions,
    Omit<NativeListOptions, 'sources' | 'filter' | 'output' | 'finished' | 'spillDirectory' | 'entryEvents'> {
  /** `DIR/`: what is in it, by names relative to it; `DIR`: the entry itself, by names that begin with its own. */
  sources: PathLike | PathLike[];
  /** Rules as rsync's --exclude: `PATTERN` leaves out, `+ PATTERN` takes; the first that matches decides. Default: everything is taken. */
  exclude?: PathLike[];
  /** The file that the list goes to: it appears when it is whole. What is no regular file is written into. Default: only events. */
  output?: PathLike | undefined;
  /** A directory for temporary files without a name, for lists that memory should not hold. Default: memory is used. */
  spillDirectory?: PathLike;
}

const SHARED: Fields<Omit<MappedListOptions, 'sources' | 'filter'>> = {
  ...RESOURCES,
  ...JOB,
  oneFileSystem: SELECTION.oneFileSystem,
  hashes: boolean,
  hashSize: size,
  fullHash: boolean,
  nul: boolean,
  output: path,
  spillDirectory: path,
};
const OPTIONS = record<ListOptions>({ ...SHARED, sources: paths, exclude: each(path) }, 'sources');
const MAPPED = record<MappedListOptions>({ ...SHARED, sources: each(TREE), filter: SELECTION.filter }, 'sources');

/**
 * Lists each source under its own name, into a file or as events.
 *
 * @example
 * ```js
 * import { list } from 'bulkhaul';
 *
 * for await (const event of list({ sources: 'photos', entries: true })) {
 *   if (event.type === 'entry') console.log(event.path, event.hash, event.size, BigInt(event.mtimeNs));
 * }
 * ```
 */
export function list(options: ListOptions): Job {
  return begin(options, OPTIONS, async ({ sources, exclude, ...rest }) =>
    prepareList({
      ...rest,
      sources: trees(sources),
      ...excluding(exclude),
    }),
  );
}

/**
 * Lists each source as it is told.
 *
 * @example
 * ```js
 * import { listMapped } from 'bulkhaul';
 *
 * const sources = [{ path: 'photos', contents: true, follow: true }];
 * const { outcomes } = await listMapped({ sources, hashes: false, output: '/mnt/names.list' });
 * console.log(outcomes.listed);
 * ```
 */
export function listMapped(options: MappedListOptions): Job {
  return begin(options, MAPPED, prepareList);
}

/** The same, not begun yet. */
export async function prepareList(options: MappedListOptions): Promise<Prepared> {
  const { signal: _, journal: __, dryRun, sources, filter, output, spillDirectory, entries, ...rest } = options;
  const journal = await journalFor('list', options);
  const native: NativeListOptions = {
    ...rest,
    sources: sources.map((source) => ({ ...source, path: pathBytes(pathText(source.path, 'a source')) })),
    ...(output !== undefined && !dryRun && { output: pathBytes(pathText(output, 'the output')) }),
    ...(journal && { finished: pathBytes(journal.finished) }),
    ...common({ filter, spillDirectory, entries }),
  };
  return prepared(journal, async () => (await loadAddon()).list(native));
}

/**
 * The sources that a list names, in its order, directories with a slash at their end; without hashes, and without what is
 * in a directory that the list names too. Throws `BulkhaulError` for a list that cannot be read.
 *
 * @example
 * ```js
 * import { list, listedSources } from 'bulkhaul';
 *
 * await list({ sources: 'photos', output: '/mnt/photos.list' });
 * console.log(await listedSources('/mnt/photos.list'));
 * ```
 */
export async function listedSources(list: PathLike, spillDirectory?: PathLike): Promise<string[]> {
  path(list, 'list');
  if (spillDirectory !== undefined) path(spillDirectory, 'spillDirectory');
  const addon = await loadAddon();
  try {
    const spill = spillDirectory === undefined ? undefined : pathBytes(spillDirectory);
    return addon.listedSources(pathBytes(pathText(list, 'a list')), spill).map(fromBytes);
  } catch (error) {
    throw BulkhaulError.from(error);
  }
}
