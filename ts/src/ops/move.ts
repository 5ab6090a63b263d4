/**
 * Moving trees.
 *
 * Comes in: sources and a destination; goes out: a running `Job`. Within one file system entries are renamed, a directory with
 * all that is in it; the rest is copied, synced, read back and compared, and goes from the source then. Nothing is replaced.
 */
import type { PathLike } from '../names.js';
import type { Resources } from '../native/options.js';
import {
  boolean,
  each,
  excluding,
  type Fields,
  JOB,
  type JobOptions,
  path,
  paths,
  RESOURCES,
  record,
  text,
} from './arguments.js';
import { begin, type Job } from './job.js';
import { mapGiven, prepareCopy } from './mapping.js';

/** Options of `move`. */
export interface MoveOptions extends JobOptions, Resources {
  /** `SRC/`: its contents go into the destination; `SRC`: the entry itself does, by its name. A link is moved as a link, `LINK/` is followed. */
  sources: PathLike | PathLike[];
  /** A directory, made with its parents when absent. Or the new name of one source that is no directory, where there is neither a directory of that name nor a slash at the end. */
  destination: PathLike;
  /** Rules as rsync's --exclude, relative to the root of the transfer: `PATTERN` leaves where it is, `+ PATTERN` takes; the first that matches decides. Default: everything goes. */
  exclude?: PathLike[];
  /** Other file systems below a source are not entered. Default false. */
  oneFileSystem?: boolean;
  /** In the destination a symlink to a directory serves as a directory; otherwise it is a conflict. Default false. */
  keepDirlinks?: boolean;
  /** Holes in files that are copied: `auto` as in the source, `always` also for runs of zeros, `never` none. Default `auto`. */
  sparse?: 'auto' | 'always' | 'never';
  /** Size what would be copied first and refuse when it does not fit, by bytes or by inodes. Default false. */
  requireSpace?: boolean;
  /** Entries with a time that the destination can't keep go, too. Default false: they stay. */
  acceptTimeLoss?: boolean;
  /** A directory for temporary files without a name, for when a tree has more hard links than memory should hold. Default: memory is used. */
  spillDirectory?: PathLike;
  /** Files that the caller has open meanwhile, such as a log: they stay, and nothing takes their place. Default: none. */
  inUse?: PathLike[];
}

const FIELDS: Fields<MoveOptions> = {
  ...RESOURCES,
  ...JOB,
  sources: paths,
  destination: path,
  exclude: each(path),
  oneFileSystem: boolean,
  keepDirlinks: boolean,
  sparse: text,
  requireSpace: boolean,
  acceptTimeLoss: boolean,
  spillDirectory: path,
  inUse: each(path),
};
const OPTIONS = record<MoveOptions>(FIELDS, 'sources', 'destination');

/**
 * Moves trees, with rsync's slash rule: `photos/` moves what is in it, `photos` itself. Where something else has a name in
 * the destination already, both stay, and that is a conflict; the same content and metadata lets the source go.
 *
 * @example
 * ```js
 * import { move } from 'bulkhaul';
 *
 * const { outcomes, removedSources, keptSources } = await move({ sources: 'photos', destination: '/mnt/archive' });
 * console.log(outcomes.renamed, removedSources, keptSources);
 * ```
 */
export function move(options: MoveOptions): Job {
  return begin(options, OPTIONS, async ({ sources, destination, exclude, ...rest }) =>
    prepareCopy(
      {
        ...rest,
        ...(await mapGiven(sources, destination)),
        ...excluding(exclude),
        removeSources: true,
        rename: true,
        replace: false,
      },
      'move',
    ),
  );
}
