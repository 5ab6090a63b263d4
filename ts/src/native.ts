/**
 * The only importer of the addon: its typed face, one to one with `bindings/node`.
 *
 * Comes in: plain option objects; goes out: the addon's `Job` and its plain values.
 * Paths are bytes (`Buffer`) here; everywhere above they are strings in the form of `names.ts`.
 * Sizes are numbers in bytes, exact to 2^53; times are seconds unless the name says otherwise.
 */

import { fileURLToPath } from 'node:url';
import { BulkhaulError } from './error.js';

/** Bytes of a path, as the file system has them. */
export type PathBytes = Buffer;

/** One source argument. */
export interface NativeSource {
  path: PathBytes;
  /** true: the contents of this directory go into the destination; false: the entry itself does. */
  contents: boolean;
  /** The name that the entry takes in the destination; the source's own last component when absent. Not with `contents`. */
  name?: PathBytes;
  /** Follow the argument when it is a symlink to a directory. `contents` always does. */
  follow: boolean;
}

/** One destination directory: entries land in it by name. Made, with its parents, when absent. */
export interface NativeDestination {
  path: PathBytes;
  /** Follow the last component when it is a symlink to a directory (the argument itself was named by the user). */
  follow: boolean;
}

/** What is allowed in a second; absent or 0: no limit. */
export interface Limits {
  /** Bytes read from the sources, also to compare; two files that are compared byte by byte count as one. What the file system shares instead of copying it is not read. */
  bytes?: number;
  /** Entries looked at, whatever becomes of them. */
  entries?: number;
}

/** What a job may take of the machine. */
export interface Resources {
  /** Worker threads at most; absent or 0: from CPU affinity and cgroup quota, in a copy also from the devices. */
  jobs?: number;
  /** How fast it may go. Default: as fast as it can. */
  limits?: Limits;
  /** Niceness of the worker threads, -20 to 19; what the system refuses is a note. */
  nice?: number;
  /** Order of the workers' disk requests: `idle`, `best-effort[:0-7]`, `realtime[:0-7]`; what the system refuses is a note. */
  ionice?: string;
}

export interface NativeCopyOptions extends Resources {
  sources: NativeSource[];
  /** More than one: each file goes to one of them, in order, the next when one is full. */
  destinations: NativeDestination[];
  /** false: an absent destination is an error (hpcp -ncd). Default true. */
  createDestination?: boolean;
  /** true: a destination below a source is allowed and not descended into (hpcp). Default false: refused. */
  allowNested?: boolean;
  /** `rsync`: exclude rules as rsync's --exclude, relative to the transfer root; `fnmatch`: hpcp's patterns on absolute paths. */
  filter?: { style: 'rsync' | 'fnmatch'; rules: PathBytes[] };
  /** A list of names relative to the one source; `/dev/stdin` for standard input. */
  filesFrom?: { path: PathBytes; nul: boolean };
  /** Bytes of the tail that the skip test hashes; 0: no content check. Default 65536. */
  hashSize?: number;
  /** The skip test hashes whole files. Default false. */
  fullHash?: boolean;
  sparse?: 'auto' | 'always' | 'never';
  sync?: 'none' | 'safe' | 'all';
  dryRun?: boolean;
  oneFileSystem?: boolean;
  keepDirlinks?: boolean;
  /** `all` (default); `only`: directories and nothing else (hpcp -do); `needed`: parents of files, no metadata (hpcp -nds). */
  directories?: 'all' | 'only' | 'needed';
  /** hpcp -lt: targets of relative links that would dangle are copied too, when they land inside the destination. */
  linkTracking?: boolean;
  /** hpcp -co: contents only; no mode, owner, times or xattrs. */
  contentOnly?: boolean;
  /** false: owner and group are not kept (--no-owner). Default true. */
  owner?: boolean;
  /** false: permissions are not kept, nor ACLs, which are part of them (--no-perms). Default true. */
  permissions?: boolean;
  /** false: ACLs are not kept (--no-acls). Default true. */
  acls?: boolean;
  /** false: extended attributes and capabilities are not kept (--no-xattrs). Default true. */
  xattrs?: boolean;
  /** false: times are not kept, so that the next run copies again (--no-times). Default true. */
  times?: boolean;
  /** Owner and group to set instead (numeric ids). */
  chownUser?: number;
  chownGroup?: number;
  /** rsync's --chmod text, such as `D755,F644` or `u=rwX,go-w`. */
  chmod?: string;
  /** Size the sources first and refuse when they don't fit, by bytes or by inodes (hpcp -enes, --require-space). */
  requireSpace?: boolean;
  /** Read back from the medium and compare with what the source gave, also what the skip test passes over. Default false. */
  verify?: boolean;
  /** Remove from directories of the destination what is in none of the sources that were copied into them. Default false. */
  removeExtra?: boolean;
  /** Remove each source entry whose copy was synced, read back and matched. Default false. */
  removeSources?: boolean;
  /** Of these remove also entries with a time that the destination can't keep. Default false: they stay. */
  acceptTimeLoss?: boolean;
  /** Delete nothing when it would be more entries than this, or more of a hundred that are there. One of the two. */
  maxDelete?: number;
  maxDeletePercent?: number;
  /** Ask by a `question` event before extra entries and sources are removed, once; without a reader the answer is no. Default false. */
  confirm?: boolean;
  /** A file goes to one of several destinations by chance, not to the first with room. Default false. */
  randomDestination?: boolean;
  /** Inodes with several links whose copies are kept in memory; past it they go to a file in `spillDirectory`. Default 65536. */
  linksInMemory?: number;
  /** Directory for temporary files without a name, made when they are needed. Absent: memory is used instead. */
  spillDirectory?: PathBytes;
  /** Deliver an `entry` event for each entry. Failures and notes are always delivered. Default false. */
  entryEvents?: boolean;
}

export interface NativeRemoveOptions extends Resources {
  /** What to remove; a symlink goes itself. */
  paths: PathBytes[];
  /** `rsync`: rules see each path from its last component on; `fnmatch`: absolute paths. What matches stays. */
  filter?: { style: 'rsync' | 'fnmatch'; rules: PathBytes[] };
  dryRun?: boolean;
  /** List everything before anything goes; a listing error then leaves everything. Default false. */
  listFirst?: boolean;
  /** Remove nothing when it would be more entries than this, or more of a hundred that are there. One of the two. */
  maxDelete?: number;
  maxDeletePercent?: number;
  /** Directories that are not removed and not removed from above, beside `/` and the working directory. */
  protected?: PathBytes[];
  /** Directories that are removed though they are protected, and entered though something is mounted there. */
  noPreserveRoot?: PathBytes[];
  /** A path that does not exist is no failure. */
  ignoreMissing?: boolean;
  /** Deliver an `entry` event for each entry. Default false. */
  entryEvents?: boolean;
}

/** One argument of a list or a comparison. */
export interface NativeTree {
  path: PathBytes;
  /** It stands for what is in it. A path without a name (`.`, `..`, a slash at the end) always does. */
  contents: boolean;
  /** Follow the argument when it is a symlink to a directory. `contents` always does. */
  follow: boolean;
}

export interface NativeListOptions extends Resources {
  sources: NativeTree[];
  filter?: { style: 'rsync' | 'fnmatch'; rules: PathBytes[] };
  /** false: names only. Default true. */
  hashes?: boolean;
  /** Bytes at the end of a file that are hashed; 0: none. Default 65536. */
  hashSize?: number;
  /** Whole files are hashed. Default false. */
  fullHash?: boolean;
  /** Lines end with NUL and are names only, not escaped. Default false. */
  nul?: boolean;
  oneFileSystem?: boolean;
  /** The file that the list goes to, whole or not at all. Absent: only events. */
  output?: PathBytes;
  /** Directory for temporary files without a name, for lists that memory does not hold. Absent: memory is used. */
  spillDirectory?: PathBytes;
  /** An `entry` event for each entry, in the order of the list. Default false. */
  entryEvents?: boolean;
}

/** Trees, or a list that was written before. */
export type NativeSide =
  | { trees: NativeTree[] }
  | {
      list: PathBytes;
      /** The list holds names only; absent: it tells itself. */
      names?: boolean;
    };

export interface NativeCompareOptions extends Resources {
  left: NativeSide;
  right: NativeSide;
  /** The name of a side that is one entry, or a list of one, does not matter. Default true. */
  align?: boolean;
  filter?: { style: 'rsync' | 'fnmatch'; rules: PathBytes[] };
  /** Files: `tail` (default) by a hash of their ends, `whole` byte by byte, `nothing` by size only. */
  content?: 'nothing' | 'tail' | 'whole';
  hashSize?: number;
  /** Of two trees also modes, owners and times. Default false. */
  metadata?: boolean;
  /** With `metadata`: times of directories too. Default true. */
  directoryTimes?: boolean;
  /** With `metadata`: extended attributes too. Default false. */
  xattrs?: boolean;
  /** Of two trees: FIFOs, sockets and devices too. Default true. */
  specials?: boolean;
  oneFileSystem?: boolean;
  /** The file that says how to turn the left side into the right one. */
  output?: PathBytes;
  /** `both` (default): names that the right side has, then those of the left one with `-` and NUL; `tar`: the first, for tar -T; `changes`: the list of hpcp 9.79, which turns the right side into the left one, with `xattrs` also in what it says. */
  form?: 'both' | 'tar' | 'changes';
  spillDirectory?: PathBytes;
  /** An `entry` event for each difference. Default false. */
  entryEvents?: boolean;
}

export type EntryKind = 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'block' | 'char';

/** design.md section 2, promise 1: every entry ends in exactly one of these. */
export type Outcome =
  | 'made'
  | 'copied'
  | 'linked'
  | 'metadata'
  | 'skipped'
  | 'removed'
  | 'listed'
  | 'same'
  | 'different'
  | 'changed'
  | 'conflict'
  | 'mismatched'
  | 'failed';

/** What differs, as a set of the names below (rsync's itemize columns). */
export type Change =
  | 'new'
  | 'content'
  | 'size'
  | 'time'
  | 'mode'
  | 'owner'
  | 'group'
  | 'acl'
  | 'xattr'
  | 'target'
  | 'extra'
  | 'kind';

export interface NativeEntryEvent {
  type: 'entry';
  outcome: Outcome;
  kind: EntryKind;
  /** Relative to the destination. */
  path: PathBytes;
  /** The full path of the source entry, as the argument was given plus the rest. */
  source: PathBytes;
  /** The full path of the destination entry. */
  destination: PathBytes;
  /** Bytes of content written (0 where none were). In a dry run: that would be. */
  bytes: number;
  changes: Change[];
  /** Why it was skipped: 'unchanged', 'excluded', 'overridden' (a later source brings the name), 'other-file-system', 'staging-name', 'destination' (it is the destination itself), 'same-file', 'directories-only', 'not-needed', 'not-empty' (a directory that was to be removed holds what stays), 'vanished' (somebody else removed it first). */
  reason?: string;
  /** Text of a symlink; path of the first link where the outcome is `linked`. */
  target?: PathBytes;
  /** In a list: 16 hexadecimal digits of the file's hash; its size in bytes, time in seconds, mode bits, numeric ids. */
  hash?: string;
  size?: number;
  mtime?: number;
  mode?: number;
  user?: number;
  group?: number;
}

/** What a comparison found: entries that only one side has, and that both have otherwise; all entries of each side. */
export interface NativeDifferences {
  left: number;
  right: number;
  changed: number;
  leftEntries: number;
  rightEntries: number;
}

export interface NativeFailure {
  type: 'error';
  /** Stable code: 'vanished' | 'changed' | 'mismatch' | 'unreadable' | 'conflict' | 'not-kept' | 'same-file' | 'no-space' | 'quota' | 'read-only' | 'permission' | 'io' | 'name-too-long' | 'metadata' | 'panic' | 'stalled' | 'unsupported' | 'other'. */
  kind: string;
  outcome: 'changed' | 'conflict' | 'mismatched' | 'failed';
  /** What was being done: 'open', 'read', 'write', 'rename', 'mkdir', 'list', 'stat', 'chown', … */
  operation: string;
  path: PathBytes;
  entryKind: EntryKind;
  /** Name such as 'ENOSPC', absent where no system call failed. */
  errno?: string;
  /** One sentence: `operation path: cause`, lossy; the consumer escapes it. */
  message: string;
}

/** Something kept short of what the source has, or a warning; reported once per kind, counted in the report. */
export interface NativeNote {
  type: 'note';
  /** 'owner' | 'group' | 'mode' | 'times' | 'time' | 'acl' | 'capability' | 'xattr:NAME' | 'dropped-xattr:NAME' | 'setid-dropped' | 'space' | 'foreign-staging' | 'inode-flags' | 'special' | 'link-outside' | 'hard-links' | 'hard-link-copied' | 'left-behind' … */
  kind: string;
  /** It was asked for, could have been had, and the destination refused it: the run is not complete. */
  lost: boolean;
  path: PathBytes;
  message: string;
}

/** The job waits for `answer`: may all this be deleted? */
export interface NativeQuestion {
  type: 'question';
  victims: NativeVictims[];
}

/** What is about to be deleted. */
export interface NativeVictims {
  /** Extra entries of the destination, or the sources of a move whose copies are still to be proved. */
  what: 'extra' | 'sources';
  /** Entries, what lies below directories included, and the bytes of the files among them. */
  entries: number;
  bytes: number;
  /** Full paths of the first of them; for a move the sources. */
  first: PathBytes[];
}

export type NativeEvent = NativeEntryEvent | NativeFailure | NativeNote | NativeQuestion;

export interface NativeSnapshot {
  phase: 'preflight' | 'scanning' | 'copying' | 'sweeping' | 'removing' | 'closing' | 'proving' | 'done';
  /** Files found so far and their bytes; the totals once the phase has left 'scanning'. */
  foundFiles: number;
  foundBytes: number;
  foundDirectories: number;
  foundLinks: number;
  /** Entries that have an outcome, and the bytes of files that have one. */
  doneEntries: number;
  doneFiles: number;
  doneBytes: number;
  /** Files skipped as unchanged, and their bytes: no work, so not part of rates or ETA. */
  skippedFiles: number;
  skippedBytes: number;
  /** Bytes written. */
  copiedBytes: number;
  copiedFiles: number;
  errors: number;
  /** Workers that may be at work now. */
  workers: number;
  /** The limits now. */
  limits: Required<Limits>;
  elapsed: number;
}

export interface NativeReport {
  /** Entries by outcome; every outcome is there. */
  outcomes: Record<Outcome, number>;
  /** Entries found by the finder, by kind. */
  found: Record<EntryKind, number>;
  /** Regular files by outcome (`copied` and `skipped` matter to summaries). */
  files: Record<Outcome, number>;
  /** Directories by outcome. */
  directories: Record<Outcome, number>;
  /** Why entries were skipped: reason -> count. */
  skipped: Record<string, number>;
  /**
   * Apparent bytes of the regular files found; allocated bytes, where they were asked for (lists and comparisons by hash
   * alone ask for the size only); bytes of content written.
   */
  foundBytes: number;
  allocatedBytes: number;
  copiedBytes: number;
  /** Space that the real run would need, as a dry run found; 0 in a real run. */
  plannedBytes: number;
  /** Files that were read back and match, their bytes, and how many of these the cache gave instead of the medium. */
  verifiedFiles: number;
  verifiedBytes: number;
  verifiedFromCache: number;
  /** Of a comparison; zeros otherwise. */
  differences: NativeDifferences;
  /** Extra entries of the destination that the sweep came to; those that went are among the outcomes as `removed`. */
  extras: number;
  /** Source entries that a move removed, and those that it left. */
  removedSources: number;
  keptSources: number;
  /** Deletes that were asked for and not begun: `what` stays, and why. */
  withheld: {
    kind:
      | 'failed'
      | 'interrupted'
      | 'missing-source'
      | 'empty-source'
      | 'source-gone'
      | 'source-view'
      | 'spelling'
      | 'max-delete'
      | 'declined'
      | 'not-synced';
    what: 'extra' | 'sources';
    message: string;
  }[];
  /** The first thousand; `failureKinds` counts all. */
  failures: NativeFailure[];
  failureKinds: Record<string, number>;
  /** kind -> count and the first one. */
  notes: { kind: string; count: number; lost: boolean; path: PathBytes; message: string }[];
  /** false: finder and recorder disagree, which is a defect and a safety stop. */
  accounted: boolean;
  interrupted: boolean;
  /** What is on disk for sure: 'none', 'safe', 'all'. */
  sync: 'none' | 'safe' | 'all';
  /** The most workers that might be at work at once. */
  workers: number;
  elapsed: number;
}

export interface NativeJob {
  /**
   * Runs to the end on the engine's own threads. Rejects before anything was written with an Error whose `code` is
   * 'USAGE' (bad option or path; exit 2), 'SAFETY' (refused: destination inside source, file onto itself; exit 3),
   * 'NO_SPACE' (not enough space with requireSpace; exit 3), 'NO_SOURCE' (a source is missing), 'LIST' (a list can't be
   * read, or is none of the kind it was given for), or 'NO_DESTINATION' (it cannot be used).
   */
  run(): Promise<NativeReport>;
  /** The next events, at most 1024; resolves with an empty array when the job has ended and all were taken. One call at a time. Once called, the job waits for its reader. */
  nextEvents(): Promise<NativeEvent[]>;
  /**
   * false: finish what is in flight and stop; true: stop at once. What does not come back within a second is left behind, and
   * the report has a note of the kind `left-behind`: then the process had better end.
   */
  cancel(abort: boolean): void;
  /** Changes how fast it may go, from now on, also for what waits already; throws 'USAGE' for what is no rate. */
  setLimits(limits: Limits): void;
  /** Before `run`: the job is given up when nothing moves for so many seconds; 0: never. Throws 'USAGE' for what is none. */
  setStallTimeout(seconds: number): void;
  snapshot(): NativeSnapshot;
  /** Answers a `question`. */
  answer(yes: boolean): void;
}

/** A removal that can be looked at before it is done. */
export interface NativeRemoval {
  /** A job that counts what would go, with an `entry` event for each of the first ten; bytes are known here. */
  preview(): NativeJob;
  /** A job that removes: the very inodes that the preview found, if there was one. */
  remove(): NativeJob;
}

export interface Addon {
  /** Checks the options; throws an Error with code 'USAGE' that names the option. Touches nothing. */
  removal(options: NativeRemoveOptions): NativeRemoval;
  /** Checks the options; throws an Error with code 'USAGE' that names the option. Starts nothing. */
  copy(options: NativeCopyOptions): NativeJob;
  list(options: NativeListOptions): NativeJob;
  compare(options: NativeCompareOptions): NativeJob;
  /** The sources that a list names, in its order; without what is in a directory that it names too. Throws like a job. */
  listedSources(list: PathBytes, spillDirectory?: PathBytes): PathBytes[];
}

/** What the generated loader's directory is called relative to the compiled and to the TypeScript source of this file. */
const LOADER = '../../bindings/node/index.js';

/** The addon, loaded on first use. Throws `ADDON` with what was tried. */
export async function loadAddon(): Promise<Addon> {
  try {
    return (await import(new URL(LOADER, import.meta.url).href)) as Addon;
  } catch (error) {
    throw new BulkhaulError('ADDON', explain(error), { cause: error });
  }
}

function explain(error: unknown): string {
  const causes: string[] = [];
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    const first = cause.message.split('\n', 1)[0] ?? '';
    if (!causes.includes(first)) causes.push(first);
  }
  const { platform, arch, version } = process;
  return [
    `the native engine could not be loaded (${platform} ${arch}, Node ${version})`,
    `tried ${fileURLToPath(new URL(LOADER, import.meta.url))}, a built file beside it, and the package bulkhaul-${platform}-${arch}-*`,
    ...causes.map((cause) => `  ${cause}`),
    'from the package: install it again with optional dependencies; in a checkout: npm run build:native',
  ].join('\n');
}
