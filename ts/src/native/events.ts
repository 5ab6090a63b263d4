/**
 * What the addon tells: events as they come, counters at a moment, and the report at the end.
 *
 * One to one with `bindings/node`: the type test holds the keys of both against each other. Paths are bytes.
 */
import type { Limits, PathBytes } from './options.js';

/** What an entry of a file system is. `block` and `char` are devices. */
export type EntryKind = 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'block' | 'char';

/** design.md section 2, promise 1: every entry ends in exactly one of these. */
export type Outcome =
  | 'made'
  | 'copied'
  | 'linked'
  | 'renamed'
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
  /** Tells this event from others. */
  type: 'entry';
  /** What became of it. In a dry run: what would. */
  outcome: Outcome;
  /** What it is in the source; of what only the destination has, there. */
  kind: EntryKind;
  /** Relative to the destination. */
  path: PathBytes;
  /** The full path of the source entry, as the argument was given plus the rest. */
  source: PathBytes;
  /** The full path of the destination entry. */
  destination: PathBytes;
  /** Bytes of content written (0 where none were). In a dry run: that would be. */
  bytes: number;
  /** What differs between the two sides; empty where nothing does. */
  changes: Change[];
  /** Why it was skipped: 'unchanged', 'excluded', 'overridden' (another source brings the name), 'other-file-system', 'staging-name', 'destination' (it is the destination itself), 'same-file', 'directories-only', 'not-needed', 'not-empty' (a directory that was to be removed holds what stays), 'vanished' (somebody else removed it first, or put its archive there), 'in-use' (a file of `inUse`), 'not-a-file' (no regular file, where a manifest has only those), 'not-listed' (no manifest names it, and that is no error), 'other-suffix' (its name does not end as was asked for), 'too-small', 'compressed' (already), 'not-smaller' (its archive would not be), 'several-names' (hard links), 'symlink'. Absent: it was not. */
  reason?: string;
  /** Text of a symlink; path of the first link where the outcome is `linked`. Absent of anything else. */
  target?: PathBytes;
  /** In a list: the xxh64 of the file's end, or of all of it, in 16 hexadecimal digits. Absent where nothing was hashed. */
  hash?: string;
  /** In a manifest: the digests of a file's content, each in hexadecimal digits by the name of its algorithm (`Buffer.from(digest, 'hex')` has its bytes). Absent elsewhere. */
  digests?: Record<string, string>;
  /** In a list or a manifest: bytes of content. Absent elsewhere. */
  size?: number;
  /** In a list or a manifest: last change of content, in seconds since 1970. A double: no more than about a quarter of a microsecond is told. Absent elsewhere. */
  mtime?: number;
  /** The same in nanoseconds, exact: a whole number as text, for `BigInt`. Absent where `mtime` is. */
  mtimeNs?: string;
  /** In a list or a manifest: permission, set-id and sticky bits. Absent elsewhere. */
  mode?: number;
  /** In a list or a manifest: numeric id of the owner. Absent elsewhere. */
  user?: number;
  /** In a list or a manifest: numeric id of the group. Absent elsewhere. */
  group?: number;
}

/** What a comparison found, in entries. */
export interface NativeDifferences {
  /** Entries that only the left side has. */
  left: number;
  /** Entries that only the right side has. */
  right: number;
  /** Entries that both sides have, and that differ. */
  changed: number;
  /** All entries of the left side. */
  leftEntries: number;
  /** All entries of the right side. */
  rightEntries: number;
}

/** What became of the files of one extension that were packed or unpacked. */
export interface NativeConversion {
  /** In small letters, without its dot; `*` stands for those beyond the first 256. */
  extension: PathBytes;
  /** How many files. */
  files: number;
  /** Their bytes. */
  before: number;
  /** Bytes of what they became; 0 in a dry run. */
  after: number;
}

export interface NativeFailure {
  /** Tells this event from others. */
  type: 'error';
  /** Stable code: 'missing' (named, also by a manifest, and not found) | 'vanished' | 'changed' | 'mismatch' | 'unreadable' | 'conflict' | 'collision' (another source brings the name with other content) | 'not-kept' | 'unwritable' (a manifest of this form can't have it) | 'extra' (no manifest names it) | 'damaged' (an archive that is not whole) | 'foreign' (what is no archive that can be read here: of another program, of none, or it needs more memory or a dictionary) | 'payload-missing' and 'payload-damaged' (a patch does not have what it brings, or has it otherwise) | 'not-applied' (a patch was, and it is not so) | 'kind' (a manifest says that it is something else) | 'same-file' | 'no-space' | 'quota' | 'read-only' | 'permission' | 'io' | 'name-too-long' | 'metadata' | 'panic' | 'stalled' | 'unsupported' | 'other'. */
  kind: string;
  /** How it was counted. */
  outcome: 'changed' | 'conflict' | 'mismatched' | 'failed';
  /** What was being done: 'open', 'read', 'write', 'rename', 'mkdir', 'list', 'stat', 'chown', … */
  operation: string;
  /** The path that it was done to, of the source or of the destination. */
  path: PathBytes;
  /** What it is. */
  entryKind: EntryKind;
  /** Name such as 'ENOSPC'. Absent where no system call failed. */
  errno?: string;
  /** One sentence: `operation path: cause`, lossy; the consumer escapes it. */
  message: string;
  /** The option without which it failed: `removeExtra`, where something else has its name in the destination. Absent: none is known. */
  option?: 'removeExtra' | 'acceptTimeLoss';
}

/** Something kept short of what the source has, or a warning; reported once per kind, counted in the report. */
export interface NativeNote {
  /** Tells this event from others. */
  type: 'note';
  /** 'owner' | 'group' | 'mode' | 'times' | 'time' | 'acl' | 'capability' | 'xattr:NAME' | 'dropped-xattr:NAME' | 'setid-dropped' | 'space' | 'foreign-staging' | 'inode-flags' | 'special' | 'link-outside' | 'hard-links' | 'hard-link-copied' | 'left-behind' | 'unread' … */
  kind: string;
  /** It was asked for, could have been had, and the destination refused it: the run is not complete. */
  lost: boolean;
  /** How many times in all, in a report; `path` and `message` are those of the first one. */
  count: number;
  /** The first path that it is about; empty where it is about none. */
  path: PathBytes;
  /** One sentence. */
  message: string;
}

/** The job waits for `answer`: may all this be deleted? */
export interface NativeQuestion {
  /** Tells this event from others. */
  type: 'question';
  /** All that would be deleted. */
  victims: NativeVictims[];
}

/** What is about to be deleted. */
export interface NativeVictims {
  /** Extra entries of the destination, or the sources of a move whose copies are still to be proved. Of a patch: what is in its way and would be overruled, or nothing, when the way back is to be kept. */
  what: 'extra' | 'sources' | 'conflicts' | 'undo';
  /** Entries, what lies below directories included. */
  entries: number;
  /** Bytes of the files among them. */
  bytes: number;
  /** Full paths of the first of them; for a move the sources. Conflicts: paths of the patch, with what is the matter. */
  first: PathBytes[];
}

/** One part of a partition: its list is there, or in a dry run would be. */
export interface NativePart {
  /** Tells this event from others. */
  type: 'part';
  /** Counted from 1. */
  number: number;
  /** The file that its list is in; absent where it has none of its own. */
  path?: PathBytes;
  /** Entries in it. */
  entries: number;
  /** Bytes of the files in it; names of one inode count once. */
  bytes: number;
  /** Both together, in bytes. */
  cost: number;
  /** Files in it that are larger than a part, and marked for splitting. */
  split: number;
}

/** What a partition came to: the sums of all parts. */
export interface NativeParts extends Omit<NativePart, 'type' | 'path'> {
  /** How many parts. */
  number: number;
  /** The first thousand of them; events have all. */
  first: NativePart[];
}

export type NativeEvent = NativeEntryEvent | NativeFailure | NativeNote | NativeQuestion | NativePart;

export interface NativeSnapshot {
  /** What is going on. */
  phase: 'preflight' | 'scanning' | 'copying' | 'sweeping' | 'removing' | 'closing' | 'proving' | 'done';
  /** Files found so far; the total once the phase has left 'scanning'. */
  foundFiles: number;
  /** Bytes of the files found so far. */
  foundBytes: number;
  /** Directories found so far. */
  foundDirectories: number;
  /** Symlinks found so far. */
  foundLinks: number;
  /** Entries that have an outcome. */
  doneEntries: number;
  /** Files that have an outcome. */
  doneFiles: number;
  /** Bytes of the files that have an outcome. */
  doneBytes: number;
  /** Files skipped as unchanged: no work, so no part of rates and estimates. */
  skippedFiles: number;
  /** Bytes of the files skipped as unchanged. */
  skippedBytes: number;
  /** Bytes written, also of what failed and was taken back. */
  copiedBytes: number;
  /** Files written. */
  copiedFiles: number;
  /** Bytes of big files that an earlier run had written before it ended: they are there, and not written again. For a manifest or a verification those that it had read. */
  resumedBytes: number;
  /** Failures so far. */
  errors: number;
  /** Workers that may be at work now. */
  workers: number;
  /** The limits now, a second; 0: none. */
  limits: Required<Limits>;
  /** Bytes that were read back and match. */
  verifiedBytes: number;
  /** Bytes read of the sources, or copied by the kernel: also to hash, to compare, to prove. */
  readBytes: number;
  /** Entries that are done with, each as often as it was looked at: a move comes to each twice. */
  workedEntries: number;
  /** How much there is in all, as somebody saw who went ahead; absent until that is known, and where nobody could. */
  expected?: NativeExpected;
  /** Something is being synced: for so many seconds. Absent: nothing is. */
  syncing?: number;
  /** The operation was told to stop: what it still waits for, a few seconds at most. Absent: it was not. */
  stopping?: NativeStopping;
  /** What is extra in the destination is removed: how far that is, once it was counted. Absent: nothing is. */
  sweep?: NativeSweep;
  /** Seconds since the job began. */
  elapsed: number;
}

/** How far the removal of extra entries is. */
export interface NativeSweep {
  /** Entries that have gone. */
  gone: number;
  /** Entries that are to go in all. */
  of: number;
}

/** The files that were begun when an operation was told to stop, and have not ended. */
export interface NativeStopping {
  /** Files being copied, waiting for their sync, or being read back. */
  files: number;
  /** Bytes of them that are still to be copied or read back. What would take too long is given up before. */
  bytes: number;
}

/** What an operation has to do with. For people: the trees may change meanwhile. */
export interface NativeExpected {
  /** Entries of all kinds. */
  entries: number;
  /** Regular files. */
  files: number;
  /** Bytes of the files; absent until sizes are known too. */
  bytes?: number;
  /** Bytes that will have been read in the end: `readBytes` then, but for what is skipped. Absent like `bytes`. */
  toRead?: number;
  /** Entries that will have been done with in the end: `workedEntries` then. */
  toDo: number;
  /** They went while they were counted: the numbers are near. Absent: they are exact. */
  estimated?: boolean;
}

/** Files of one class of sizes. */
export interface NativeSizeClass {
  /** Bytes of each at most, and more than the class before; absent: there is no limit. */
  most?: number;
  /** Files of it. */
  files: number;
  /** Their bytes. */
  bytes: number;
}

/** What lies in a directory that holds much of a run's files. */
export interface NativeShare {
  /** Full path, as the source was given plus the rest; empty for what was not told apart. One that is two steps below its source stands for all below it. */
  path: PathBytes;
  /** Regular files that are there, and were found. */
  files: number;
  /** Their bytes. */
  bytes: number;
}

/** An entry that took long. */
export interface NativeSlow {
  /** Full path, as the source was given plus the rest. */
  path: PathBytes;
  /** Bytes of a regular file, by its size. */
  bytes: number;
  /** Seconds that a worker had it in its hands. */
  seconds: number;
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
  /** Files that were copied, and nothing had their names: with `updated` they are `files.copied`. Absent where that is not told apart: what several hosts or other programs copy, what is unpacked. */
  added?: number;
  /** Files that were copied, and something had their names. Absent like `added`. */
  updated?: number;
  /** Why entries were skipped: reason -> count. */
  skipped: Record<string, number>;
  /** Bytes of the regular files found, by their sizes; of a run that was interrupted, as far as they are known. */
  foundBytes: number;
  /** The same files by classes of their sizes, smaller ones first, every class. */
  sizes: NativeSizeClass[];
  /** The directories that hold most of them, the first twenty, the greatest first. */
  heaviest: NativeShare[];
  /** The entries that took longest, the first twenty of those that took 10 ms and more, the slowest first. */
  slowest: NativeSlow[];
  /** Their bytes by the room that they take; 0 where only sizes were asked for, as in lists and comparisons by hash alone. */
  allocatedBytes: number;
  /** Bytes of content written, without those of what failed and was taken back. */
  copiedBytes: number;
  /** Big files that an earlier run had begun, and this one went on with; for a manifest or a verification files that an earlier run had read, for a verified copy also those that it had proved. */
  resumedFiles: number;
  /** Bytes of them that were there, and were not written again; or not read again. */
  resumedBytes: number;
  /** Bytes of content that the real run would write, or a retention remove, as a dry run found; 0 in a real run. */
  plannedBytes: number;
  /** Files that were read back and match. */
  verifiedFiles: number;
  /** Their bytes. */
  verifiedBytes: number;
  /** How many of these bytes the cache gave instead of the medium. */
  verifiedFromCache: number;
  /** Bytes that were read into digests of a manifest. */
  hashedBytes: number;
  /** Of a comparison; zeros otherwise. */
  differences: NativeDifferences;
  /** What a partition came to; absent of anything else. */
  parts?: NativeParts;
  /** Extra entries of the destination that the sweep came to; those that went are among the outcomes as `removed`. */
  extras: number;
  /** Source entries that a move removed. */
  removedSources: number;
  /** Source entries that a move left. */
  keptSources: number;
  /** Files that were compressed or decompressed, by extension, the greatest sum of bytes first; empty for other operations. */
  conversions: NativeConversion[];
  /** Deletes that were asked for and not begun: `what` stays, and why. */
  withheld: {
    /** Why, as a stable word. */
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
    /** Extra entries of the destination, or the sources of a move. */
    what: 'extra' | 'sources';
    /** Why, in a sentence. */
    message: string;
  }[];
  /** The first thousand; `failureKinds` counts all. */
  failures: NativeFailure[];
  /** All failures: kind -> count. */
  failureKinds: Record<string, number>;
  /** One a kind: the first, and how many. */
  notes: NativeNote[];
  /** false: finder and recorder disagree, which is a defect and a safety stop. */
  accounted: boolean;
  /** It was stopped before its end. */
  interrupted: boolean;
  /** Files that were begun then and would have taken too long: they stay under unfinished names, and are no failures. The same operation goes on. */
  unfinished: number;
  /** What is on disk for sure: see the option. */
  sync: 'none' | 'safe' | 'all';
  /** The most workers that might be at work at once. */
  workers: number;
  /** Seconds from beginning to end. */
  elapsed: number;
}
