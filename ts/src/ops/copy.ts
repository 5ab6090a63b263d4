/**
 * Copying trees.
 *
 * Comes in: sources, a destination and options with friendly names; goes out: a running `Job`. `copy` has rsync's slash
 * rule; `copyMapped` takes the mapping of sources to destinations as the caller decided it.
 */
import type { PathLike } from '../names.js';
import type { NativeCopyManifest, NativeCopyOptions } from '../native/options.js';
import { each, type Given, id, type JobOptions, path, paths, record } from './arguments.js';
import { begin, type Job } from './job.js';
import { type Deletion, MAPPED, type MappedCopyOptions, mapGiven, prepareCopy, SHARED } from './mapping.js';

/** Options of `copy`. */
export interface CopyOptions
  extends JobOptions,
    Deletion,
    Omit<
      NativeCopyOptions,
      | 'sources'
      | 'destinations'
      | 'filter'
      | 'filesFrom'
      | 'chownUser'
      | 'chownGroup'
      | 'spillDirectory'
      | 'manifest'
      | 'inUse'
      | 'entryEvents'
      | keyof Deletion
      | 'maxDeletePercent'
    > {
  /** `SRC/`: its contents go into the destination; `SRC`: the entry itself does, by its name. A link is copied as a link, `LINK/` is followed. */
  sources: PathLike | PathLike[];
  /** A directory, made with its parents when absent. Or the new name of one source that is no directory, where there is neither a directory of that name nor a slash at the end. */
  destination: PathLike;
  /** Rules as rsync's --exclude, relative to the root of the transfer: `PATTERN` leaves out, `+ PATTERN` takes; the first that matches decides. Default: everything is taken. */
  exclude?: PathLike[];
  /** A file with names relative to the one source, one a line, or with `nul` each ended by NUL. A directory comes by itself, with `contents` with what is in it. Default: all of the source. */
  filesFrom?: { path: PathLike; nul: boolean; contents?: boolean } | undefined;
  /** Owner and group to set, as numeric ids. Default: those of the source. */
  chown?: { user?: number | undefined; group?: number | undefined } | undefined;
  /** A directory for temporary files without a name, for when a tree has more hard links than memory should hold. Default: memory is used. */
  spillDirectory?: PathLike;
  /** A manifest of what is in the destination then, made while the bytes pass; what is there already is read for it. It appears at `path` when it is whole, and does not list itself. Default: none. */
  manifest?: Given<NativeCopyManifest> | undefined;
  /** Files that the caller has open meanwhile, such as a log: they stay, and nothing takes their place. Default: none. */
  inUse?: PathLike[];
}

const CHOWN = record<NonNullable<CopyOptions['chown']>>({ user: id, group: id });
const OPTIONS = record<CopyOptions>(
  { ...SHARED, sources: paths, destination: path, exclude: each(path), chown: CHOWN },
  'sources',
  'destination',
);

/**
 * Copies trees, with rsync's slash rule: `photos/` brings what is in it, `photos` itself.
 *
 * @example
 * ```js
 * import { copy } from 'bulkhaul';
 *
 * const { outcomes, copiedBytes } = await copy({ sources: 'photos/', destination: '/mnt/archive', verify: true });
 * console.log(outcomes.copied, outcomes.failed, copiedBytes);
 * ```
 */
export function copy(options: CopyOptions): Job {
  return begin(options, OPTIONS, async ({ sources, destination, exclude, chown, ...rest }) => {
    const mapped = await mapGiven(sources, destination, rest.filesFrom !== undefined);
    return prepareCopy({
      ...rest,
      ...mapped,
      ...(exclude && exclude.length > 0 && { filter: { style: 'rsync', rules: exclude } }),
      ...(chown?.user !== undefined && { chownUser: chown.user }),
      ...(chown?.group !== undefined && { chownGroup: chown.group }),
    });
  });
}

/**
 * Copies each source to where it is told to go.
 *
 * @example
 * ```js
 * import { copyMapped } from 'bulkhaul';
 *
 * const source = { path: 'photos/a.jpg', contents: false, name: 'cover.jpg', follow: false };
 * await copyMapped({ sources: [source], destinations: [{ path: '/mnt/archive', follow: true }] });
 * ```
 */
export function copyMapped(options: MappedCopyOptions): Job {
  return begin(options, MAPPED, prepareCopy);
}
