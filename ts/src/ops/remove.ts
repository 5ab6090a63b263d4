/**
 * Removing trees.
 *
 * Comes in: paths and options with friendly names; goes out: a running `Job`, or first one that only counts what would
 * go. `/`, the home and the working directory and everything above them are refused, and so are mount points.
 */
import { userInfo } from 'node:os';
import { BulkhaulError } from '../error.js';
import type { PathLike } from '../names.js';
import type { NativeRemoveOptions, Resources } from '../native/options.js';
import { loadAddon, type NativeRemoval } from '../native.js';
import {
  boolean,
  common,
  each,
  JOB,
  type JobOptions,
  limit,
  type MaxDelete,
  mostOf,
  path,
  pathBytes,
  paths,
  pathText,
  RESOURCES,
  record,
} from './arguments.js';
import { begin, type Job, journalFor, type Prepared, prepared } from './job.js';

/** Options of `remove`. */
export interface RemoveOptions
  extends JobOptions,
    Resources,
    Pick<NativeRemoveOptions, 'dryRun' | 'listFirst' | 'ignoreMissing'> {
  /** What to remove, whole trees. A symlink goes itself, never what it leads to. */
  paths: PathLike | PathLike[];
  /** What stays, and the directories above it: rules as rsync's --exclude, on the path from its last component on; `+ PATTERN` lets go. Default: nothing stays. */
  exclude?: PathLike[];
  /** The same in hpcp's form, `fnmatch` on absolute paths. One of the two. Default: nothing stays. */
  excludeAbsolute?: PathLike[];
  /** Remove nothing when it would be more entries than this, or more than this part of those that are there: `'5%'`. Default: no limit. */
  maxDelete?: MaxDelete | undefined;
  /** Directories to protect beside `/`, the working directory and the home directory of the user database. Default: none. */
  protect?: PathLike[];
  /** Files that the caller has open meanwhile, or is about to, such as a log: they are not removed. Default: none. */
  inUse?: PathLike[];
  /** A directory for temporary files without a name, for what a dry run tells in order. Default: memory. */
  spillDirectory?: PathLike;
  /** Directories that are removed though they are protected, and entered though something is mounted there. Default: none. */
  noPreserveRoot?: PathLike[];
}

const OPTIONS = record<RemoveOptions>(
  {
    ...RESOURCES,
    ...JOB,
    paths,
    exclude: each(path),
    excludeAbsolute: each(path),
    listFirst: boolean,
    ignoreMissing: boolean,
    maxDelete: limit,
    protect: each(path),
    inUse: each(path),
    noPreserveRoot: each(path),
    spillDirectory: path,
  },
  'paths',
);

/**
 * Removes whole trees.
 *
 * @example
 * ```js
 * import { remove } from 'bulkhaul';
 *
 * const { outcomes } = await remove({ paths: 'photos/cache', maxDelete: 1000 });
 * console.log(outcomes.removed);
 * ```
 */
export function remove(options: RemoveOptions): Job {
  return new Removal(options).remove();
}

/**
 * A removal that can be looked at before it is done: what its preview found is what goes, or nothing.
 *
 * @example
 * ```js
 * import { Removal } from 'bulkhaul';
 *
 * const removal = new Removal({ paths: ['photos'], exclude: ['*.jpg'] });
 * const { outcomes } = await removal.preview();
 * if (outcomes.removed < 10) await removal.remove();
 * ```
 */
export class Removal {
  #native: Promise<NativeRemoval> | undefined;

  constructor(
    /** What is removed, and what stays. */
    readonly options: RemoveOptions,
  ) {}

  /**
   * Counts what would go: the outcomes `removed`, and their bytes; iterating gives the first few entries.
   *
   * @example
   * ```js
   * import { Removal } from 'bulkhaul';
   *
   * for await (const event of new Removal({ paths: 'photos' }).preview()) {
   *   if (event.type === 'entry') console.log(event.source);
   * }
   * ```
   */
  preview(): Job {
    return begin(this.options, OPTIONS, async (options) => ({ native: (await this.#prepared(options)).preview() }));
  }

  /**
   * Removes what the preview found, if there was one.
   *
   * @example
   * ```js
   * import { Removal } from 'bulkhaul';
   *
   * const removal = new Removal({ paths: 'photos/cache' });
   * const { outcomes } = await removal.preview();
   * const gone = await removal.remove();
   * console.log(gone.outcomes.removed === outcomes.removed);
   * ```
   */
  remove(): Job {
    return begin(this.options, OPTIONS, (options) => removal(options, (own) => this.#prepared(own)));
  }

  #prepared(options: RemoveOptions): Promise<NativeRemoval> {
    this.#native ??= nativeRemoval(options);
    return this.#native;
  }
}

async function nativeRemoval(options: RemoveOptions): Promise<NativeRemoval> {
  return (await loadAddon()).removal(nativeOptions(options));
}

/** A removal with its journal, of which the files stay. */
async function removal(
  options: RemoveOptions,
  native: (options: RemoveOptions) => Promise<NativeRemoval>,
): Promise<Prepared> {
  const journal = await journalFor('remove', options, true);
  const inUse = [...(options.inUse ?? []), ...(journal?.files ?? [])];
  return prepared(journal, async () => (await native({ ...options, inUse })).remove());
}

/** A removal, not begun yet. */
export function prepareRemoval(options: RemoveOptions): Promise<Prepared> {
  return removal(options, nativeRemoval);
}

function nativeOptions(options: RemoveOptions): NativeRemoveOptions {
  const {
    paths,
    exclude = [],
    excludeAbsolute = [],
    maxDelete,
    protect = [],
    inUse = [],
    noPreserveRoot = [],
    ...rest
  } = options;
  const { signal: _, journal: __, entries, spillDirectory, ...plain } = rest;
  if (exclude.length > 0 && excludeAbsolute.length > 0) {
    throw new BulkhaulError('USAGE', 'exclude and excludeAbsolute exclude each other');
  }
  const rules = exclude.length > 0 ? exclude : excludeAbsolute;
  return {
    ...plain,
    paths: (Array.isArray(paths) ? paths : [paths]).map((path) => pathBytes(pathText(path, 'a path to remove'))),
    protected: [...protect, ...homes()].map(pathBytes),
    inUse: inUse.map(pathBytes),
    noPreserveRoot: noPreserveRoot.map((path) => pathBytes(pathText(path, 'noPreserveRoot'))),
    ...(rules.length > 0 && {
      filter: { style: exclude.length > 0 ? ('rsync' as const) : ('fnmatch' as const), rules: rules.map(pathBytes) },
    }),
    ...(maxDelete !== undefined && mostOf(maxDelete)),
    ...common({ spillDirectory, entries }),
  };
}

/** The home directory of the user database; a user without an entry there has none. */
export function homes(): string[] {
  try {
    const { homedir } = userInfo();
    return homedir === '' ? [] : [homedir];
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_SYSTEM_ERROR') throw error;
    return [];
  }
}
