/**
 * What a compression and a decompression have in common: which files are meant, and the ways to the addon.
 *
 * Comes in: options as a caller gives them; goes out: the same in the form that a journal keeps, and the addon's own.
 */
import type { PathLike } from '../names.js';
import type { ArchiveForm, NativeFiles, NativeNames } from '../native/options.js';
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
  text,
  trees,
  whole,
} from './arguments.js';

/** The options as a journal keeps them: the addon's own, with paths as strings or bytes. */
export type MappedFiles = Given<Omit<NativeFiles, 'entryEvents'>> & JobOptions;

/** Which files are meant, and what holds for both operations. */
export interface FileOptions
  extends JobOptions,
    Omit<
      NativeFiles,
      'sources' | 'filter' | 'filesFrom' | 'extensions' | 'inUse' | 'spillDirectory' | 'entryEvents' | 'dryRun'
    > {
  /** Files and trees. Symlinks, special files and files with several names are left alone. */
  sources: PathLike | PathLike[];
  /** Rules as rsync's --exclude: `PATTERN` leaves out, `+ PATTERN` takes; the first that matches decides. Default: everything is taken. */
  exclude?: PathLike[];
  /** Only what a list names below the one source, a directory: one name a line, or with `nul` each ended by NUL; with `contents` a directory that it names brings what is in it. Default: all of the sources. */
  filesFrom?: Given<NativeNames>;
  /** What names end with, of several parts perhaps, in any case, the suffix of an archive left out. Default: anything. */
  extensions?: PathLike[];
  /** Files and directories that the caller uses meanwhile: they are left out. Default: none. */
  inUse?: PathLike[];
  /** A directory for temporary files without a name, for what a dry run tells in order. Default: memory is used. */
  spillDirectory?: PathLike;
}

/** Checks of how archives are made. */
export const ARCHIVE: Fields<ArchiveForm> = {
  ...{ format: text, level: whole(0, 100), index: boolean },
  verifySource: boolean,
};

/** Checks of these. */
export const FILES: Fields<FileOptions> = {
  ...RESOURCES,
  ...JOB,
  oneFileSystem: SELECTION.oneFileSystem,
  sources: paths,
  exclude: each(path),
  filesFrom: record<NonNullable<FileOptions['filesFrom']>>({ path, nul: boolean, contents: boolean }, 'path', 'nul'),
  extensions: each(path),
  minSize: size,
  keep: boolean,
  owner: boolean,
  inUse: each(path),
  memory: size,
  spillDirectory: path,
};

/** The options in the form that a journal keeps. */
export function mapped<Options extends FileOptions>({ sources, exclude, ...rest }: Options) {
  return {
    ...rest,
    sources: trees(sources),
    ...excluding(exclude),
  };
}

/** The same for the addon; `files`: those of the journal, which the run leaves out. */
export function nativeFiles(options: MappedFiles, files: readonly string[] = []): NativeFiles {
  const {
    signal: _,
    journal,
    sources,
    filter,
    filesFrom,
    extensions,
    inUse = [],
    spillDirectory,
    entries,
    ...rest
  } = options;
  const used = [...inUse, ...(journal && !options.dryRun ? [journal.directory] : []), ...files];
  return {
    ...rest,
    sources: sources.map((source) => ({ ...source, path: pathBytes(pathText(source.path, 'a path')) })),
    ...(filesFrom && { filesFrom: { ...filesFrom, path: pathBytes(pathText(filesFrom.path, 'filesFrom')) } }),
    ...(extensions && { extensions: extensions.map(pathBytes) }),
    ...(used.length > 0 && { inUse: used.map(pathBytes) }),
    ...common({ filter, spillDirectory, entries }),
  };
}
