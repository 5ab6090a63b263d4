/**
 * What a copy, a migration and a move have in common: where each source goes, and what the engine is asked.
 *
 * Comes in: sources and a destination as somebody wrote them, or the mapping as the caller decided it; goes out: a job of the
 * engine that is not begun.
 */
import { lstat, stat } from 'node:fs/promises';
import { BulkhaulError } from '../error.js';
import { type PathLike, toBytes } from '../names.js';
import { aliased } from '../native/alias.js';
import type {
  NativeCopyManifest,
  NativeCopyOptions,
  NativeGathered,
  NativeNames,
  NativePacking,
  NativePlacement,
} from '../native/options.js';
import { loadAddon } from '../native.js';
import {
  boolean,
  call,
  common,
  count,
  each,
  excluding,
  type Fields,
  type Given,
  id,
  JOB,
  type JobOptions,
  limit,
  MANIFEST,
  type MaxDelete,
  mostOf,
  path,
  pathBytes,
  paths,
  pathText,
  RESOURCES,
  record,
  SELECTION,
  size,
  text,
} from './arguments.js';
import { ARCHIVE } from './conversion.js';
import { type Confirm, journalFor, type Prepared, prepared } from './job.js';

export interface Deletion {
  /** Asked before extra entries are removed, and before sources are. Default: they go unasked. */
  confirm?: Confirm | undefined;
  /** Delete nothing when it would be more entries than this, or more than this part of those that are there: `'5%'`. Default: no limit. */
  maxDelete?: MaxDelete | undefined;
}

/** Options of `copyMapped`: the addon's own, with paths as strings or bytes. */
export type MappedCopyOptions = Given<
  Omit<NativeCopyOptions, 'entryEvents' | keyof ReturnType<typeof finished> | keyof Deletion | 'maxDeletePercent'>
> &
  JobOptions &
  Deletion & {
    /** Events and report tell what begins with `path` with `name` in its place. Default: paths are told as they are. */
    aliases?: readonly Alias[];
  };

/** What a path is called. */
export interface Alias {
  /** What paths begin with. */
  path: PathLike;
  /** What is told in its place. */
  name: PathLike;
}

const WRITTEN = record<Given<NativeCopyManifest>>({ ...MANIFEST, path }, 'path');
/** Which files become archives, and how. */
const PACKED: Fields<Given<NativePacking>> = {
  ...ARCHIVE,
  extensions: each(path),
  minSize: size,
  memory: size,
  replace: boolean,
};
const PACKING = record<Given<NativePacking>>(PACKED);

/** The options that need no translation. */
export const SHARED: Fields<
  Omit<MappedCopyOptions, 'sources' | 'destinations' | 'filter' | 'chownUser' | 'chownGroup' | 'aliases'>
> = {
  ...RESOURCES,
  ...JOB,
  oneFileSystem: SELECTION.oneFileSystem,
  createDestination: boolean,
  allowNested: boolean,
  onCollision: text,
  filesFrom: record<Given<NativeNames>>({ path, nul: boolean, contents: boolean }, 'path', 'nul'),
  hashSize: size,
  fullHash: boolean,
  sparse: text,
  sync: text,
  keepDirlinks: boolean,
  directories: text,
  linkTracking: boolean,
  contentOnly: boolean,
  owner: boolean,
  permissions: boolean,
  acls: boolean,
  xattrs: boolean,
  times: boolean,
  chmod: text,
  requireSpace: boolean,
  verify: boolean,
  removeExtra: boolean,
  removeSources: boolean,
  rename: boolean,
  replace: boolean,
  acceptTimeLoss: boolean,
  randomDestination: boolean,
  placement: each(
    record<NativePlacement>(
      { inode: size, size, room: size, destination: count },
      'inode',
      'size',
      'room',
      'destination',
    ),
  ),
  linksInMemory: count,
  spillDirectory: path,
  manifest: WRITTEN,
  storedManifest: WRITTEN,
  packing: PACKING,
  gathered: record<Given<NativeGathered>>({ name: path, version: text }, 'name', 'version'),
  inUse: each(path),
  confirm: call,
  maxDelete: limit,
};
type Mapped<Key extends 'sources' | 'destinations'> = MappedCopyOptions[Key][number];
const SOURCE = record<Mapped<'sources'>>(
  { path, contents: boolean, name: path, follow: boolean },
  'path',
  'contents',
  'follow',
);
const DESTINATION = record<Mapped<'destinations'>>({ path, follow: boolean }, 'path', 'follow');
/** Checks the options of `copyMapped`. */
export const MAPPED = record<MappedCopyOptions>(
  {
    ...SHARED,
    sources: each(SOURCE),
    destinations: each(DESTINATION),
    filter: SELECTION.filter,
    chownUser: id,
    chownGroup: id,
    aliases: each(record<Alias>({ path, name: path }, 'path', 'name')),
  },
  'sources',
  'destinations',
);

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
      | 'storedManifest'
      | 'packing'
      | 'gathered'
      | 'placement'
      | 'inUse'
      | keyof ReturnType<typeof finished>
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
  filesFrom?: Given<NativeNames> | undefined;
  /** Owner and group to set, as numeric ids. Default: those of the source. */
  chown?:
    | {
        /** Numeric id of the owner. Default: that of the source. */
        user?: number | undefined;
        /** Numeric id of the group. Default: that of the source. */
        group?: number | undefined;
      }
    | undefined;
  /** A directory for temporary files without a name, for when a tree has more hard links than memory should hold. Default: memory is used. */
  spillDirectory?: PathLike;
  /** A manifest of what is in the destination then, made while the bytes pass; what is there already is read for it. It appears at `path` when it is whole, and does not list itself. Default: none. */
  manifest?: Given<NativeCopyManifest> | undefined;
  /** Files that the caller has open meanwhile, such as a log: they stay, and nothing takes their place. Default: none. */
  inUse?: PathLike[];
}

const CHOWN = record<NonNullable<CopyOptions['chown']>>({ user: id, group: id });
const { storedManifest: _, packing: __, gathered: ___, placement: ____, ...OWN } = SHARED;
/** Checks of these. */
export const COPY: Fields<CopyOptions> = {
  ...OWN,
  ...{ sources: paths, destination: path, exclude: each(path), chown: CHOWN },
};
/** The options of a copy in the form that a journal keeps. */
export async function mappedCopy(options: CopyOptions): Promise<MappedCopyOptions> {
  const { sources, destination, exclude, chown, ...rest } = options;
  return {
    ...rest,
    ...(await mapGiven(sources, destination, rest.filesFrom !== undefined)),
    ...excluding(exclude),
    ...(chown?.user !== undefined && { chownUser: chown.user }),
    ...(chown?.group !== undefined && { chownGroup: chown.group }),
  };
}

/** What a part of a job writes down, of what is not to be done again; and what others have. */
export interface Logs {
  /** Where it is written. */
  own: PathLike;
  /** Where others have. */
  others: readonly PathLike[];
  /** It is a part: its own stays when it has ended. */
  keep: boolean;
}

/** The same, as options of the addon. */
export function finished({ own, others, keep }: Logs) {
  return { finished: pathBytes(own), finishedElsewhere: others.map(pathBytes), keepFinished: keep };
}

/** A job that is not begun yet; `operation`: what its journal calls it. `proved`: what others have proved, with `verify`. */
export async function prepareCopy(
  options: MappedCopyOptions,
  operation: 'copy' | 'move' | 'migrate' = 'copy',
  proved?: Logs,
): Promise<Prepared> {
  const { sources, destinations, filter, filesFrom, spillDirectory, maxDelete, ...others } = options;
  const { signal: _, entries, confirm, journal: __, inUse: open = [], aliases = [], ...more } = others;
  const { manifest, storedManifest, packing, gathered, ...rest } = more;
  const { removeExtra } = options;
  const journal = await journalFor(operation, options, removeExtra || options.removeSources);
  const inUse = [...open, ...(journal?.files ?? [])];
  const native: NativeCopyOptions = {
    ...rest,
    sources: sources.map(({ path, name, ...source }) => ({
      ...source,
      path: pathBytes(path),
      ...(name !== undefined && { name: pathBytes(name) }),
    })),
    destinations: destinations.map((destination) => ({ ...destination, path: pathBytes(destination.path) })),
    ...(filesFrom && { filesFrom: { ...filesFrom, path: pathBytes(filesFrom.path) } }),
    ...(manifest && { manifest: { ...manifest, path: pathBytes(manifest.path) } }),
    ...(storedManifest && { storedManifest: { ...storedManifest, path: pathBytes(storedManifest.path) } }),
    ...(packing && { packing: nativePacking(packing) }),
    ...(gathered !== undefined && { gathered: { ...gathered, name: pathBytes(gathered.name) } }),
    ...(inUse.length > 0 && { inUse: inUse.map(pathBytes) }),
    ...(journal && options.verify && { finished: pathBytes(journal.finished) }),
    ...(proved && finished(proved)),
    ...common({ filter, spillDirectory, entries }),
    ...(confirm && { confirm: true }),
    ...(maxDelete !== undefined && mostOf(maxDelete)),
  };
  const names = aliases.map(({ path, name }) => ({ path: pathBytes(path), name: pathBytes(name) }));
  return prepared(journal, async () => {
    return aliased((await loadAddon()).copy(native), names);
  });
}

function nativePacking({ extensions, ...rest }: Given<NativePacking>): NativePacking {
  return { ...rest, ...(extensions && { extensions: extensions.map(pathBytes) }) };
}

/** The mapping of sources as they were given: one or several, text or bytes. */
export function mapGiven(sources: PathLike | PathLike[], destination: PathLike, rooted = false) {
  const given = (Array.isArray(sources) ? sources : [sources]).map((source) => pathText(source, 'a source'));
  return mapSources(given, pathText(destination, 'the destination'), rooted);
}

/** A path whose last component is not a name: a directory whatever is there. */
const DIRECTORY_FORM = /(?:^|\/)\.{0,2}$/;

/**
 * rsync's slash rule: `SRC/` (also `.`, `..`, `SRC/.`) brings its contents, `SRC` itself. With `rooted` (a list of
 * names) the one source is the root of the names, with or without a slash.
 */
export async function mapSources(
  sources: string[],
  destination: string,
  rooted = false,
): Promise<Pick<MappedCopyOptions, 'sources' | 'destinations'>> {
  const [first, ...others] = sources;
  if (first === undefined) throw new BulkhaulError('USAGE', 'no source is given');
  if (rooted && others.length > 0) throw new BulkhaulError('USAGE', 'a list of names goes with exactly one source');
  if (!rooted && others.length === 0 && (await isNewName(first, destination))) {
    const { directory, name } = split(destination);
    return {
      sources: [{ path: first, contents: false, name, follow: false }],
      destinations: [{ path: directory, follow: true }],
    };
  }
  return {
    sources: sources.map((path) =>
      rooted || DIRECTORY_FORM.test(path)
        ? { path: path.replace(/(?<=[^/])\/+$/, ''), contents: true, follow: true }
        : { path, contents: false, follow: false },
    ),
    destinations: [{ path: destination, follow: true }],
  };
}

/** The destination names the copy of this one source, not the directory for it. */
async function isNewName(source: string, destination: string): Promise<boolean> {
  if (DIRECTORY_FORM.test(source) || DIRECTORY_FORM.test(destination)) return false;
  const entry = await lstat(toBytes(source)).catch(unlessAbsent);
  if (entry === undefined || entry.isDirectory()) return false;
  const existing = await stat(toBytes(destination)).catch(unlessAbsent);
  return existing === undefined || !existing.isDirectory();
}

/** What cannot be looked at for another reason than absence is for the engine to report, with the operation. */
function unlessAbsent(error: NodeJS.ErrnoException): undefined {
  if (error.syscall === undefined) throw error;
}

function split(path: string): { directory: string; name: string } {
  const slash = path.lastIndexOf('/');
  return { directory: slash < 0 ? '.' : path.slice(0, slash + 1), name: path.slice(slash + 1) };
}
