/**
 * Everything that a job tells, as one union by `type`, with paths as strings in the form of `names.ts`.
 *
 * Comes in: the addon's values with paths as bytes; goes out: the same values, decoded.
 */
import { fromBytes } from './names.js';
import type {
  NativeEntryEvent,
  NativeFailure,
  NativeNote,
  NativePart,
  NativeReport,
  NativeSnapshot,
  NativeVictims,
} from './native/events.js';
import type { Verdict } from './verdict.js';

/** The same value with each path as a string. */
export type Decoded<T> = T extends Uint8Array
  ? string
  : T extends readonly (infer Item)[]
    ? Decoded<Item>[]
    : T extends object
      ? { [Key in keyof T]: Decoded<T[Key]> }
      : T;

/** What a dry run marks. */
export interface Rehearsed {
  /** Nothing was done: it is what would be. Absent: it was. */
  dryRun?: true;
}

/** One entry and its outcome. */
export type EntryEvent = Decoded<NativeEntryEvent> & Rehearsed;
/** One entry that failed, is in conflict, changed while it was read, or does not match. */
export type ErrorEvent = Decoded<NativeFailure>;
/** Something kept short of what the source has; once per kind. */
export type NoteEvent = Decoded<NativeNote>;
/** One part of a partition, as soon as its list is there. */
export type PartEvent = Decoded<NativePart> & Rehearsed;
/** What is about to be deleted. */
export type Victims = Decoded<NativeVictims>;
/** What workers of a host have done, and do. */
export interface HostStatus {
  /** Its name, as it has it itself. */
  host: string;
  /** Workers that were heard of and have not ended. */
  workers: number;
  /** Parts that it has brought to their end. */
  parts: number;
  /** Bytes that were written there, of what it is at too. */
  copiedBytes: number;
  /** Bytes a second, over the last seconds. */
  rate: number;
}
/** How far a job is; counters only grow. */
export type Snapshot = NativeSnapshot & {
  /** Hosts that have workers, in the order of their names; only of a spread operation. */
  hosts?: HostStatus[];
  /** How many parts there are for them; only of a spread operation. */
  parts?: number;
};
/** What a job did. A report with failures is no error: `complete` and `exitCode` say how it ended. */
export type Report = Decoded<NativeReport> &
  Verdict & {
    /** The file that has all failures: the journal, or what a command keeps in its place. Absent: none was kept. */
    failureFile?: string;
    /** The name of the job. Absent: it has no journal. */
    job?: string;
  };
/** A snapshot as an event; made by reporters' timers, not by jobs. */
export type StatusEvent = {
  /** Tells this event from others. */
  type: 'status';
} & Snapshot;
/** The last event of a job. */
export type SummaryEvent = {
  /** Tells this event from others. */
  type: 'summary';
} & Report;

/** What iterating a job gives: entries (when asked for), parts of a partition, errors and notes as they come, then one summary. */
export type JobEvent = EntryEvent | ErrorEvent | NoteEvent | PartEvent | SummaryEvent;
/** What reporters take. */
export type Event = JobEvent | StatusEvent;

/** Bytes that went through a run: what the kernel shares or copies by itself is not read. */
export function movedOf({ readBytes, copiedBytes, verifiedBytes }: Snapshot): number {
  return Math.max(readBytes, copiedBytes + verifiedBytes);
}

/** Decodes every path in a value of the addon. */
export function decode<T>(value: T): Decoded<T> {
  return decodeAny(value) as Decoded<T>;
}

function decodeAny(value: unknown): unknown {
  if (Buffer.isBuffer(value)) return fromBytes(value);
  if (Array.isArray(value)) return value.map(decodeAny);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, decodeAny(item)]));
}
