/**
 * Journals, read.
 *
 * Comes in: the path of a journal; goes out: its records, one by one, or at a glance what its first and last lines say.
 * A torn last line is what death leaves, and no damage. A line in the middle that is not as it was written is counted, and
 * no record. What is no journal, and one of a newer version, is an error of the code `JOURNAL`.
 */
import { closeSync, createReadStream, fstatSync, openSync, readSync } from 'node:fs';
import { BulkhaulError } from '../error.js';
import { display, toBytes } from '../names.js';
import type { ProgressRecord } from './record.js';
import { type AttemptRecord, type EndRecord, FORMAT, type JobRecord, type JournalRecord, unseal } from './record.js';

/** Bytes of a line at most: no record is longer, so what is longer is damage, and memory stays bounded. */
const LINE_BYTES = 1 << 22;
/** Bytes at the beginning that mostly have the first line. */
const HEAD_BYTES = 1 << 14;
/** Bytes at the end that tell how a job stands. */
export const TAIL_BYTES = 1 << 16;

/** What a journal is found to be while it is read. */
export interface Condition {
  /** Lines that are not as they were written; their records are lost. */
  damaged: number;
  /** The last line is torn. */
  torn: boolean;
  /** Bytes of whole lines: where the next one goes. */
  length: number;
  /** Of the last whole line. */
  digest: string;
}

/** The records, in their order; `condition` is up to date when all were read. */
export async function* recordsOf(
  path: string,
  condition: Condition = pristine(),
): AsyncGenerator<JournalRecord, void, undefined> {
  let before: string | undefined = '';
  let first = true;
  for await (const { line, whole } of linesOf(path)) {
    if (!whole) {
      condition.torn = true;
      break;
    }
    const { record, digest } = unseal(line, before);
    if (first) headOf(record, line, path);
    first = false;
    if (digest !== undefined) before = digest;
    condition.length += Buffer.byteLength(line) + 1;
    condition.digest = before;
    if (record === undefined) condition.damaged += 1;
    else yield record;
  }
  if (first) throw foreign(path, 'it is empty');
}

export function pristine(): Condition {
  return { damaged: 0, torn: false, length: 0, digest: '' };
}

async function* linesOf(path: string): AsyncGenerator<{ line: string; whole: boolean }, void, undefined> {
  let rest: Buffer[] = [];
  let held = 0;
  for await (const chunk of createReadStream(toBytes(path)) as AsyncIterable<Buffer>) {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      yield { line: Buffer.concat([...rest, chunk.subarray(start, end)]).toString('utf8'), whole: true };
      rest = [];
      held = 0;
      start = end + 1;
    }
    held += chunk.length - start;
    // Of what is far too long for a record, the end is enough to see that it is none.
    if (held > LINE_BYTES) rest = [];
    if (start < chunk.length) rest.push(chunk.subarray(start));
  }
  if (rest.length > 0) yield { line: Buffer.concat(rest).toString('utf8'), whole: false };
}

/** The first record of a journal. Throws `JOURNAL` for what is none, or of a newer version. */
function headOf(record: JournalRecord | undefined, line: string, path: string): JobRecord {
  if (record?.type === 'job') {
    if (record.format <= FORMAT) return record;
    throw new BulkhaulError(
      'JOURNAL',
      `the journal is of a newer version (format ${record.format}; this one reads ${FORMAT}): ${display(path)}`,
    );
  }
  throw foreign(path, line.startsWith('{"type":"job"') ? 'its first line is damaged' : 'its first line is none');
}

function foreign(path: string, why: string): BulkhaulError {
  return new BulkhaulError('JOURNAL', `this is no journal that can be read, ${why}: ${display(path)}`);
}

/** What the first and the last lines say. */
export interface Glance {
  job: JobRecord;
  /** The last attempt, and the end and the status of it, as far as the end of the file tells. */
  attempt?: AttemptRecord;
  end?: EndRecord;
  progress?: ProgressRecord;
  /** When the file was last written to, as a number of milliseconds. */
  written: number;
}

/** Looks at a journal without reading all of it. Throws `JOURNAL`, or what Node throws. */
export function glance(path: string): Glance {
  const file = openSync(toBytes(path), 'r');
  try {
    const { size, mtimeMs } = fstatSync(file);
    let length = HEAD_BYTES;
    let head = piece(file, 0, length);
    while (!head.includes('\n') && length < Math.min(size, LINE_BYTES)) {
      length *= 2;
      head = piece(file, 0, length);
    }
    if (head === '') throw foreign(path, 'it is empty');
    const [first = ''] = head.split('\n', 1);
    const job = headOf(unseal(first, '').record, first, path);
    const found: Glance = { job, written: mtimeMs };
    const start = Math.max(0, size - TAIL_BYTES);
    const lines = piece(file, start, size - start).split('\n');
    // The first piece may be the rest of a line, and the last is what follows the last line.
    let before: string | undefined;
    for (const line of lines.slice(start === 0 ? 0 : 1, -1)) {
      const { record, digest } = unseal(line, before);
      before = digest;
      if (record?.type === 'attempt') {
        found.attempt = record;
        delete found.end;
        delete found.progress;
      } else if (record?.type === 'end') found.end = record;
      else if (record?.type === 'progress') found.progress = record;
    }
    return found;
  } finally {
    closeSync(file);
  }
}

function piece(file: number, start: number, length: number): string {
  const buffer = Buffer.alloc(length);
  let read = 0;
  while (read < length) {
    const more = readSync(file, buffer, read, length - read, start + read);
    if (more === 0) break;
    read += more;
  }
  return buffer.toString('utf8', 0, read);
}
