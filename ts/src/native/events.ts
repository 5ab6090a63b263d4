/**
 * What the addon tells: events as they come, counters at a moment, and the report at the end.
 *
 * One to one with `bindings/node`: the type test holds the keys of both against each other. Paths are bytes.
 */
import type { Limits, PathBytes } from './options.js';

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
  /** Why it was skipped: 'unchanged', 'excluded', 'overridden' (a later source brings the name), 'other-file-system', 'staging-name', 'destination' (it is the destination itself), 'same-file', 'directories-only', 'not-needed', 'not-empty' (a directory that was to be removed holds what stays), 'vanished' (somebody else removed it first), 'in-use' (a file of `inUse`). */
  reason?: string;
  /** Text of a symlink; path of the first link where the outcome is `linked`. */
  target?: PathBytes;
  /** In a list: 16 hexadecimal digits of the file's hash; its size in bytes, time in seconds, mode bits, numeric ids. */
  hash?: string;
  size?: number;
  mtime?: number;
  mtimeNs?: string;
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
  /** In a report: how often; `path` and `message` are those of the first one. */
  count: number;
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
  /** Bytes that were read back and match. */
  verifiedBytes: number;
  /** Bytes read of the sources, or copied by the kernel: also to hash, to compare, to prove. */
  readBytes: number;
  /** Entries that are done with, each as often as it was looked at: a move comes to each twice. */
  workedEntries: number;
  /** How much there is in all, as somebody saw who went ahead; absent until that is known, and where nobody could. */
  expected?: NativeExpected;
  /** Something is being synced: for so many seconds. */
  syncing?: number;
  elapsed: number;
}

/** What an operation has to do with. For people: the trees may change meanwhile. */
export interface NativeExpected {
  entries: number;
  files: number;
  /** Bytes of the files; absent until sizes are known too. */
  bytes?: number;
  /** Bytes that will have been read in the end: `readBytes` then, but for what is skipped. Absent like `bytes`. */
  toRead?: number;
  /** Entries that will have been done with in the end: `workedEntries` then. */
  toDo: number;
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
  /** One a kind: the first, and how many. */
  notes: NativeNote[];
  /** false: finder and recorder disagree, which is a defect and a safety stop. */
  accounted: boolean;
  interrupted: boolean;
  /** What is on disk for sure: 'none', 'safe', 'all'. */
  sync: 'none' | 'safe' | 'all';
  /** The most workers that might be at work at once. */
  workers: number;
  elapsed: number;
}
