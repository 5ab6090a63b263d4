/**
 * Comparing two trees, a tree with a list, or two lists.
 *
 * Comes in: two sides and options; goes out: a running `Job`, whose report has the counts (`differences`), and which gives
 * an `entry` event for each difference: what a copy of the left side would do to the right one.
 */
import { open, stat } from 'node:fs/promises';
import { BulkhaulError, unfit } from '../error.js';
import { type PathLike, toBytes } from '../names.js';
import type { NativeCompareOptions, NativeSide } from '../native/options.js';
import { loadAddon } from '../native.js';
import {
  boolean,
  type Check,
  common,
  each,
  excluding,
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
import { begin, type Job, journalFor, type Prepared, prepared } from './job.js';

/** Options of `compareMapped`: the addon's own, with paths as strings or bytes. */
export type MappedCompareOptions = Given<Omit<NativeCompareOptions, 'entryEvents' | 'finished'>> & JobOptions;

/** A tree by its path, or a list that was written before. */
export type Compared =
  | PathLike
  | {
      /** The file that holds the list. */
      list: PathLike;
      /** It holds names only. Default: it tells itself. */
      names?: boolean;
    };

/** Options of `compare`. */
export interface CompareOptions
  extends JobOptions,
    Omit<
      NativeCompareOptions,
      'left' | 'right' | 'align' | 'filter' | 'output' | 'finished' | 'spillDirectory' | 'entryEvents'
    > {
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
  wholeSeconds: boolean,
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
  return begin(options, OPTIONS, async ({ left, right, exclude, ...rest }) => {
    const sides = [await sideOf(left), await sideOf(right)] as const;
    await refuseLists(sides.map(({ path, kind }) => ({ path, kind })));
    return prepareComparison({
      ...rest,
      left: sides[0].side,
      right: sides[1].side,
      ...excluding(exclude),
    });
  });
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
  return begin(options, MAPPED, prepareComparison);
}

/** A side that was looked at. */
interface Looked {
  /** It, in the addon's form. */
  side: Given<NativeSide>;
  /** Its path, if it is no list. */
  path: string | undefined;
  /** What the path leads to. */
  kind: 'directory' | 'file' | 'other';
}

async function sideOf(compared: Compared): Promise<Looked> {
  if (typeof compared === 'object' && 'list' in compared) return { side: compared, path: undefined, kind: 'other' };
  const path = pathText(compared, 'a side');
  // A directory stands for what is in it, anything else for itself. What cannot be looked at the engine reports.
  const entry = await stat(toBytes(path)).catch(() => undefined);
  const kind = entry?.isDirectory() ? 'directory' : entry?.isFile() ? 'file' : 'other';
  return { side: { trees: [{ path, contents: kind === 'directory', follow: true }] }, path, kind };
}

/** How lists are given. */
const AS_A_LIST = 'a list is given as one: --list-a, --list-b, and in the library { list: path }';

/** Throws `USAGE` where lists are given as trees: a file beside a directory, or two files that hold lists. */
async function refuseLists(sides: readonly Omit<Looked, 'side'>[]): Promise<void> {
  const file = sides.find(({ kind }) => kind === 'file')?.path;
  const directory = sides.find(({ kind }) => kind === 'directory')?.path;
  if (file !== undefined && directory !== undefined) {
    throw new BulkhaulError('USAGE', `${file} is a file, and ${directory} is a directory; ${AS_A_LIST}`);
  }
  if (!sides.every(({ kind }) => kind === 'file')) return;
  const lists = await Promise.all(sides.map(({ path = '' }) => holdsList(path)));
  if (lists.every(Boolean)) {
    throw new BulkhaulError(
      'USAGE',
      `${sides.map(({ path }) => path).join(' and ')} hold lists; ${AS_A_LIST} (cmp compares files)`,
    );
  }
}

/** Bytes that tell a list. */
const LIST_HEAD = 4096;

/** Whether a file begins as the lists of `list` and hpcp do, with hashes. */
async function holdsList(path: string): Promise<boolean> {
  const file = await open(toBytes(path)).catch(() => undefined);
  if (file === undefined) return false;
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(LIST_HEAD), 0, LIST_HEAD, 0);
    const lines = buffer.toString('latin1', 0, bytesRead).split('\n').slice(0, -1);
    return lines.some((line) => /:[0-9a-f]{16}$/.test(line)) && lines.every((line) => /\/$|.:/.test(line));
  } catch {
    return false;
  } finally {
    await file.close();
  }
}

/** The same, not begun yet. */
export async function prepareComparison(options: MappedCompareOptions): Promise<Prepared> {
  const { signal: _, journal: __, dryRun, left, right, filter, output, spillDirectory, entries, ...rest } = options;
  const journal = await journalFor('compare', options);
  const native: NativeCompareOptions = {
    ...rest,
    left: nativeSide(left),
    right: nativeSide(right),
    ...(output !== undefined && !dryRun && { output: pathBytes(pathText(output, 'the output')) }),
    ...(journal && { finished: pathBytes(journal.finished) }),
    ...common({ filter, spillDirectory, entries }),
  };
  return prepared(journal, async () => (await loadAddon()).compare(native));
}

function nativeSide(side: Given<NativeSide>): NativeSide {
  if ('list' in side) return { ...side, list: pathBytes(pathText(side.list, 'a list')) };
  return { trees: side.trees.map((tree) => ({ ...tree, path: pathBytes(pathText(tree.path, 'a side')) })) };
}
