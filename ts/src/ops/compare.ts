/**
 * Comparing two trees, a tree with a list, or two lists.
 *
 * Comes in: two sides and options; goes out: a running `Job`, whose report has the counts (`differences`), and which gives
 * an `entry` event for each difference: what a copy of the left side would do to the right one.
 */
import { stat } from 'node:fs/promises';
import { unfit } from '../error.js';
import { type PathLike, toBytes } from '../names.js';
import type { NativeCompareOptions, NativeSide } from '../native/options.js';
import { loadAddon, type NativeJob } from '../native.js';
import {
  boolean,
  type Check,
  each,
  type Fields,
  type Given,
  isPath,
  isRecord,
  JOB,
  type JobOptions,
  PATH,
  path,
  pathBytes,
  pathText,
  RESOURCES,
  record,
  SELECTION,
  size,
  TREE,
  text,
} from './arguments.js';
import { begin, type Job } from './job.js';

/** Options of `compareMapped`: the addon's own, with paths as strings or bytes. */
export type MappedCompareOptions = Given<Omit<NativeCompareOptions, 'entryEvents'>> & JobOptions;

/** A tree by its path, or a list that was written before. */
export type Compared = PathLike | { list: PathLike; names?: boolean };

/** Options of `compare`. */
export interface CompareOptions
  extends JobOptions,
    Omit<NativeCompareOptions, 'left' | 'right' | 'align' | 'filter' | 'output' | 'spillDirectory' | 'entryEvents'> {
  /** What is, or was. The names of the two sides themselves do not matter. */
  left: Compared;
  /** What it is compared with. */
  right: Compared;
  /** Rules as rsync's --exclude, relative to the root of each tree: `PATTERN` leaves out, `+ PATTERN` takes; the first that matches decides. Default: everything is taken. */
  exclude?: PathLike[];
  /** The file that says how to turn the left side into the right one: it appears when it is whole. What is no regular file is written into. Default: none. */
  output?: PathLike | undefined;
  /** A directory for temporary files without a name, for what memory should not hold. Default: memory is used. */
  spillDirectory?: PathLike;
}

const LIST = record<Exclude<Compared, PathLike>>({ list: path, names: boolean }, 'list');
const TREES = record({ trees: each(TREE) }, 'trees');

const side: Check = (value, key) => {
  if (isRecord(value) && 'list' in value) LIST(value, key);
  else if (!isPath(value)) throw unfit(key, `${PATH} or an object with a list`, value);
};
const mappedSide: Check = (value, key) => {
  if (isRecord(value) && 'list' in value) LIST(value, key);
  else TREES(value, key);
};

const SHARED: Fields<Omit<MappedCompareOptions, 'left' | 'right' | 'align' | 'filter'>> = {
  ...RESOURCES,
  ...JOB,
  oneFileSystem: SELECTION.oneFileSystem,
  content: text,
  hashSize: size,
  metadata: boolean,
  directoryTimes: boolean,
  xattrs: boolean,
  specials: boolean,
  output: path,
  form: text,
  spillDirectory: path,
};
const OPTIONS = record<CompareOptions>({ ...SHARED, left: side, right: side, exclude: each(path) }, 'left', 'right');
const MAPPED = record<MappedCompareOptions>(
  { ...SHARED, left: mappedSide, right: mappedSide, align: boolean, filter: SELECTION.filter },
  'left',
  'right',
);

/**
 * Compares two sides, each a tree or a list. The names of the sides themselves do not matter.
 *
 * @example
 * ```js
 * import { compare } from 'bulkhaul';
 *
 * const job = compare({ left: 'photos', right: '/mnt', content: 'whole', entries: true });
 * for await (const event of job) if (event.type === 'entry') console.log(event.changes, event.path);
 * console.log((await job).differences);
 * ```
 */
export function compare(options: CompareOptions): Job {
  return begin(options, OPTIONS, async ({ left, right, exclude, ...rest }) =>
    start({
      ...rest,
      left: await sideOf(left),
      right: await sideOf(right),
      ...(exclude && exclude.length > 0 && { filter: { style: 'rsync', rules: exclude } }),
    }),
  );
}

/**
 * Compares sides that are made of several trees, or of whose names some count.
 *
 * @example
 * ```js
 * import { compareMapped } from 'bulkhaul';
 *
 * const side = (path) => ({ trees: [{ path, contents: true, follow: true }] });
 * const { differences } = await compareMapped({ left: side('photos'), right: side('/mnt'), metadata: true });
 * console.log(differences.left);
 * ```
 */
export function compareMapped(options: MappedCompareOptions): Job {
  return begin(options, MAPPED, start);
}

async function sideOf(compared: Compared): Promise<Given<NativeSide>> {
  if (typeof compared === 'object' && 'list' in compared) return compared;
  const path = pathText(compared, 'a side');
  // A directory stands for what is in it, anything else for itself. What cannot be looked at the engine reports.
  const entry = await stat(toBytes(path)).catch(() => undefined);
  return { trees: [{ path, contents: entry?.isDirectory() ?? false, follow: true }] };
}

async function start(options: MappedCompareOptions): Promise<NativeJob> {
  const { signal: _, left, right, filter, output, spillDirectory, entries, ...rest } = options;
  const native: NativeCompareOptions = {
    ...rest,
    left: nativeSide(left),
    right: nativeSide(right),
    ...(filter && { filter: { ...filter, rules: filter.rules.map(pathBytes) } }),
    ...(output !== undefined && { output: pathBytes(pathText(output, 'the output')) }),
    ...(spillDirectory !== undefined && { spillDirectory: pathBytes(spillDirectory) }),
    ...(entries !== undefined && { entryEvents: entries }),
  };
  return (await loadAddon()).compare(native);
}

function nativeSide(side: Given<NativeSide>): NativeSide {
  if ('list' in side) return { ...side, list: pathBytes(pathText(side.list, 'a list')) };
  return { trees: side.trees.map((tree) => ({ ...tree, path: pathBytes(pathText(tree.path, 'a side')) })) };
}
