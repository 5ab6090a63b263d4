/**
 * What the addon is asked: the options of each operation, and the groups that several of them share.
 *
 * One to one with `bindings/node`: the type test holds the keys of both against each other. Paths are bytes.
 */

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

/** Exclude rules; the first that matches wins. */
export interface NativeFilter {
  style: 'rsync' | 'fnmatch';
  rules: PathBytes[];
}

/** What of the trees counts. */
export interface Selection {
  /** `rsync`: exclude rules as rsync's --exclude, relative to the root of the transfer; `fnmatch`: hpcp's patterns on absolute paths. */
  filter?: NativeFilter;
  /** Other file systems below a source are not entered. Default false. */
  oneFileSystem?: boolean;
}

/** Delete nothing when it would be more entries than this, or more of a hundred that are there. One of the two. */
export interface DeletionLimit {
  maxDelete?: number;
  maxDeletePercent?: number;
}

export interface NativeCopyOptions extends Resources, Selection, DeletionLimit {
  sources: NativeSource[];
  /** More than one: each file goes to one of them, in order, the next when one is full. */
  destinations: NativeDestination[];
  /** false: an absent destination is an error (hpcp -ncd). Default true. */
  createDestination?: boolean;
  /** true: a destination below a source is allowed and not descended into (hpcp). Default false: refused. */
  allowNested?: boolean;
  /** A list of names relative to the one source; `/dev/stdin` for standard input. */
  filesFrom?: { path: PathBytes; nul: boolean };
  /** Bytes of the tail that the skip test hashes; 0: no content check. Default 65536. */
  hashSize?: number;
  /** The skip test hashes whole files. Default false. */
  fullHash?: boolean;
  sparse?: 'auto' | 'always' | 'never';
  sync?: 'none' | 'safe' | 'all';
  dryRun?: boolean;
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
  /** Ask by a `question` event before extra entries and sources are removed, once; without a reader the answer is no. Default false. */
  confirm?: boolean;
  /** A file goes to one of several destinations by chance, not to the first with room. Default false. */
  randomDestination?: boolean;
  /** Files that the caller has open meanwhile: they stay, and nothing takes their place. */
  inUse?: PathBytes[];
  /** Inodes with several links whose copies are kept in memory; past it they go to a file in `spillDirectory`. Default 65536. */
  linksInMemory?: number;
  /** Directory for temporary files without a name, made when they are needed. Absent: memory is used instead. */
  spillDirectory?: PathBytes;
  /** Deliver an `entry` event for each entry. Failures and notes are always delivered. Default false. */
  entryEvents?: boolean;
}

export interface NativeRemoveOptions extends Resources, DeletionLimit {
  /** What to remove; a symlink goes itself. */
  paths: PathBytes[];
  /** `rsync`: rules see each path from its last component on; `fnmatch`: absolute paths. What matches stays. */
  filter?: NativeFilter;
  dryRun?: boolean;
  /** List everything before anything goes; a listing error then leaves everything. Default false. */
  listFirst?: boolean;
  /** Directories that are not removed and not removed from above, beside `/` and the working directory. */
  protected?: PathBytes[];
  /** Directories that are removed though they are protected, and entered though something is mounted there. */
  noPreserveRoot?: PathBytes[];
  /** Files that the caller has open meanwhile, or is about to: they are not removed. */
  inUse?: PathBytes[];
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

export interface NativeListOptions extends Resources, Selection {
  sources: NativeTree[];
  /** false: names only. Default true. */
  hashes?: boolean;
  /** Bytes at the end of a file that are hashed; 0: none. Default 65536. */
  hashSize?: number;
  /** Whole files are hashed. Default false. */
  fullHash?: boolean;
  /** Lines end with NUL and are names only, not escaped. Default false. */
  nul?: boolean;
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

export interface NativeCompareOptions extends Resources, Selection {
  left: NativeSide;
  right: NativeSide;
  /** The name of a side that is one entry, or a list of one, does not matter. Default true. */
  align?: boolean;
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
  /** The file that says how to turn the left side into the right one. */
  output?: PathBytes;
  /** `both` (default): names that the right side has, then those of the left one with `-` and NUL; `tar`: the first, for tar -T; `changes`: the list of hpcp 9.79, which turns the right side into the left one, with `xattrs` also in what it says. */
  form?: 'both' | 'tar' | 'changes';
  spillDirectory?: PathBytes;
  /** An `entry` event for each difference. Default false. */
  entryEvents?: boolean;
}
