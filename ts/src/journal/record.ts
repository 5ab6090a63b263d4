/**
 * The records of a journal, and the lines that they are kept in.
 *
 * Comes in: a record; goes out: one line of JSON whose last key, `digest`, is taken over it and the line before; and back.
 * A bit that flips, a line that is lost, and one that was torn are found. It promises that what it reads is what was
 * written: a line that is none is `undefined`, never a guess.
 */
import { createHash } from 'node:crypto';
import type { ErrorEvent, HostStatus, NoteEvent, Report } from '../events.js';

/** Version of the format: a reader knows the records of its own and of older ones. */
export const FORMAT = 1;

/** What is done by several jobs one after another, or with what is open only meanwhile: its command alone goes on with it. */
const COMMANDS = ['image', 'clone', 'patch', 'dsync'] as const;
export type CommandOperation = (typeof COMMANDS)[number];

/** What is done by one job, which goes on by its options. */
export type JobOperation =
  | 'copy'
  | 'move'
  | 'migrate'
  | 'remove'
  | 'list'
  | 'compare'
  | 'manifest'
  | 'verify'
  | 'partition'
  | 'pack'
  | 'unpack'
  | 'compress'
  | 'decompress'
  | 'sync'
  | 'retain'
  | 'spread';

/** What kind of job it is. */
export type Operation = JobOperation | CommandOperation;

export function isCommand(operation: Operation): operation is CommandOperation {
  return (COMMANDS as readonly Operation[]).includes(operation);
}

/** The first record: what was asked for. */
export interface JobRecord {
  /** The kind of record. */
  type: 'job';
  /** The number of the version of the format: 1. */
  format: number;
  /** The name of the job. */
  id: string;
  /** What is done. */
  operation: Operation;
  /** Where relative paths began; those in `options` are absolute. */
  directory: string;
  /** Options of the operation in its mapped form, without those that belong to one run. */
  options: Record<string, unknown>;
}

/** Somebody begins, or goes on. */
export interface AttemptRecord {
  /** The kind of record. */
  type: 'attempt';
  /** 1 is the first. */
  number: number;
  /** When; ISO 8601. */
  time: string;
  /** Where, by the name that the host has itself. */
  host: string;
  /** Its number of process there. */
  process: number;
  /** As it was called. Absent: by the library. */
  command?: readonly string[];
  /** Of bulkhaul. Absent: it is the library that is at work. */
  version?: string;
  /** System, processors, and Node.js, in words. Absent in what older versions wrote. */
  machine?: string;
}

/** The counts that tell how far a job is, by all its runs: until one has come to its end, none is less than it was. */
export interface Counts {
  /** Entries that have an outcome. */
  entries: number;
  /** Bytes of the files that have one. */
  bytes: number;
  /** Bytes written, in all runs together. */
  copiedBytes: number;
  /** Failures that were not tried again with a better end. */
  errors: number;
  /** Entries in all. Absent where nobody has looked. */
  expectedEntries?: number;
  /** Bytes of files in all. Absent where nobody has looked. */
  expectedBytes?: number;
}

/** How far it is, now and then. */
export interface ProgressRecord extends Counts {
  /** The kind of record. */
  type: 'progress';
  /** When; ISO 8601. */
  time: string;
  /** What is done, as `Snapshot` has it. */
  phase: string;
  /** The number of the attempt that it is about. */
  attempt: number;
  /** Seconds of this attempt. */
  elapsed: number;
  /** Entries that have an outcome in this attempt. Absent in what older versions wrote. */
  metEntries?: number;
  /** Bytes that went through this attempt: read, copied, proved. Absent in what older versions wrote. */
  movedBytes?: number;
  /** What hosts have done. Absent: it is not spread over them. */
  hosts?: HostStatus[];
}

/** What a report tells, without what has records of its own. */
export type Counted = Omit<Report, 'failures' | 'failureFile' | 'job'>;

/** How an attempt ended. */
export interface EndRecord extends Counts {
  /** The kind of record. */
  type: 'end';
  /** When; ISO 8601. */
  time: string;
  /** `failed`: it came to its end, and is not complete. `interrupted`: the same command goes on. */
  state: 'done' | 'failed' | 'interrupted';
  /** The number that the command of this operation ends with, as in `ExitCode`. */
  exitCode: number;
  /** The verdict. */
  sentence: string;
  /** Which one: 1 is the first. */
  attempt: number;
  /** Seconds that it took. */
  elapsed: number;
  /** All that was counted. Absent where nothing was. */
  report?: Counted;
}

/** How a run comes to its end. */
export interface Conclusion extends Pick<EndRecord, 'state' | 'exitCode' | 'sentence' | 'elapsed'> {
  /** What it did, as far as anybody has counted. */
  report?: Report | undefined;
}

/** What a journal has, in the order in which it came to be. */
export type JournalRecord = JobRecord | AttemptRecord | ErrorEvent | NoteEvent | ProgressRecord | EndRecord;

const TYPES: readonly string[] = [
  'job',
  'attempt',
  'error',
  'note',
  'progress',
  'end',
] satisfies JournalRecord['type'][];

/** Characters of a digest: 64 bits find what chance does to a line. */
const DIGEST_DIGITS = 16;
const LINE = new RegExp(`^(\\{"type":"[\\s\\S]*),"digest":"([0-9a-f]{${DIGEST_DIGITS}})"\\}$`);

function digestOf(body: string, before: string): string {
  return createHash('sha256').update(before).update(body).digest('hex').slice(0, DIGEST_DIGITS);
}

/** The line of a record, and its digest; `before`: that of the line before it, '' for the first. */
export function seal(record: JournalRecord, before: string): { line: string; digest: string } {
  const body = JSON.stringify(record).slice(0, -1);
  const digest = digestOf(body, before);
  return { line: `${body},"digest":"${digest}"}\n`, digest };
}

/**
 * A line without its end, opened: its digest as it says, and its record where that is right after `before`. `before` is
 * undefined where the line before is not known: then the line is believed as far as its form goes.
 */
export function unseal(line: string, before: string | undefined): { record?: JournalRecord; digest?: string } {
  const [, body, digest] = LINE.exec(line) ?? [];
  if (body === undefined || digest === undefined) return {};
  if (before !== undefined && digestOf(body, before) !== digest) return { digest };
  try {
    const record = JSON.parse(`${body}}`) as JournalRecord;
    return TYPES.includes(record.type) ? { record, digest } : { digest };
  } catch {
    return { digest };
  }
}
