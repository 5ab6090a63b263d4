/**
 * What a journal tells of a job, gathered for people.
 *
 * Comes in: the records of a journal, in order; goes out: its runs, its speed over time, what failed by kind with examples,
 * and what the last run counted. Memory does not grow with the length of the journal.
 */
import type { ErrorEvent, HostStatus, NoteEvent } from '../events.js';
import { type Condition, pristine } from '../journal/reader.js';
import type { AttemptRecord, Counted, EndRecord, JournalRecord, ProgressRecord } from '../journal/record.js';
import type { JobSummary } from '../journal/store.js';
import { remedyOf } from './remedies.js';

/** A stretch of time at one speed. */
export interface Stretch {
  /** Seconds of work, over all runs, without the pauses between them. */
  from: number;
  to: number;
  /** Bytes and entries in it. */
  bytes: number;
  entries: number;
}

/** Failures of one kind in the last run. */
export interface Kind {
  kind: string;
  count: number;
  /** The first of them. */
  examples: ErrorEvent[];
}

/** One run of the job. */
export interface Run {
  attempt: AttemptRecord;
  /** Absent: it died, or is at work. */
  end?: EndRecord;
}

export interface Story {
  /** Where relative paths began. */
  directory: string;
  /** The last ones. */
  runs: Run[];
  /** Runs before those. */
  earlierRuns: number;
  /** Lines of the journal that are not as they were written: what they told is lost. */
  damaged: number;
  stretches: Stretch[];
  /** Those with most failures first. */
  kinds: Kind[];
  /** What the destination did not keep in the last run. */
  lost: NoteEvent[];
  /** What hosts have done in the last run, where it was spread over them. */
  hosts: HostStatus[];
  /** All that the last run counted; absent: it has not ended. */
  report?: Counted | undefined;
}

/** Examples of a kind that are kept. */
const EXAMPLES = 5;
/** Kinds of failures and of losses that are kept: there are a few dozen. */
const KINDS = 200;
/** Runs that are kept. */
const RUNS = 50;
/** Stretches at most: of more, two neighbours each become one. */
const STRETCHES = 240;

/** All of it; `condition`: what the journal is found to be meanwhile. */
export async function storyOf(
  records: AsyncIterable<JournalRecord>,
  condition: Condition = pristine(),
): Promise<Story> {
  let directory = '';
  let hosts: HostStatus[] = [];
  const runs: Run[] = [];
  const speed = new Speed();
  const failed = new Failed();
  const lost: NoteEvent[] = [];
  for await (const record of records) {
    switch (record.type) {
      case 'job':
        directory = record.directory;
        break;
      case 'attempt':
        // What failed before was tried again.
        failed.clear();
        lost.length = 0;
        hosts = [];
        if (runs.push({ attempt: record }) > RUNS) runs.shift();
        speed.begin();
        break;
      case 'error':
        failed.take(record);
        break;
      case 'note':
        if (lost.length < KINDS) lost.push(record);
        break;
      case 'progress':
        speed.take({ ...record, entries: record.metEntries ?? record.entries }, record.movedBytes ?? record.bytes);
        hosts = record.hosts ?? hosts;
        break;
      case 'end': {
        const { report } = record;
        if (report) {
          const { outcomes, copiedBytes, verifiedBytes, hashedBytes } = report;
          const entries = Object.values(outcomes).reduce((all, each) => all + each, 0);
          speed.take({ ...record, entries }, Math.max(copiedBytes + verifiedBytes, hashedBytes));
        } else speed.take(record, record.bytes);
        const last = runs.at(-1);
        if (last) last.end = record;
        break;
      }
    }
  }
  const report = runs.at(-1)?.end?.report;
  const earlierRuns = (runs[0]?.attempt.number ?? 1) - 1;
  const { damaged } = condition;
  return {
    directory,
    runs,
    earlierRuns,
    damaged,
    stretches: speed.stretches,
    kinds: failed.kinds,
    lost,
    hosts,
    report,
  };
}

/** The story as one line for programs has it, after what the job is. */
export function storyEvent(
  { id, state, operation }: JobSummary,
  story: Story,
): { type: 'story' } & Record<string, unknown> {
  const { directory, runs, earlierRuns, damaged, stretches, kinds, lost, hosts, report } = story;
  const told = runs.map(({ attempt: { type: _, ...attempt }, end }) => {
    if (end === undefined) return attempt;
    const { time: ended, state, exitCode, sentence, elapsed } = end;
    return { ...attempt, ended, state, exitCode, sentence, elapsed };
  });
  return {
    ...{ type: 'story', id, state, operation, directory, earlierRuns, damaged, runs: told, stretches },
    kinds: kinds.map(({ kind, count, examples }) => ({ kind, count, remedy: remedyOf(kind), examples })),
    lost,
    ...(hosts.length > 0 && { hosts }),
    ...(report && { report }),
  };
}

/** Counts failures by kind, and keeps the first of each. */
export class Failed {
  readonly #kinds = new Map<string, Kind>();

  take(failure: ErrorEvent): void {
    const kind = this.#kinds.get(failure.kind) ?? { kind: failure.kind, count: 0, examples: [] };
    kind.count += 1;
    if (kind.examples.length < EXAMPLES) kind.examples.push(failure);
    if (this.#kinds.size < KINDS) this.#kinds.set(failure.kind, kind);
  }

  clear(): void {
    this.#kinds.clear();
  }

  /** Those with most failures first. */
  get kinds(): Kind[] {
    return [...this.#kinds.values()].sort((one, other) => other.count - one.count);
  }
}

/** Turns counts that only grow within a run into stretches. */
export class Speed {
  stretches: Stretch[] = [];
  /** Seconds of the runs before. */
  #before = 0;
  #last = { elapsed: 0, bytes: 0, entries: 0 };
  /** Records that go into one stretch. */
  #coarse = 1;
  #waiting = 0;

  begin(): void {
    this.#before += this.#last.elapsed;
    this.#last = { elapsed: 0, bytes: 0, entries: 0 };
    this.#waiting = 0;
  }

  take({ elapsed, entries }: Pick<ProgressRecord, 'elapsed' | 'entries'>, moved: number): void {
    const last = this.#last;
    if (elapsed <= last.elapsed) return;
    // What is told in the end may leave out what was read for nothing: no stretch has less than nothing in it.
    const now = { elapsed, bytes: Math.max(moved, last.bytes), entries: Math.max(entries, last.entries) };
    const stretch = {
      from: this.#before + last.elapsed,
      to: this.#before + elapsed,
      bytes: now.bytes - last.bytes,
      entries: now.entries - last.entries,
    };
    this.#last = now;
    const open = this.stretches.at(-1);
    if (open !== undefined && this.#waiting > 0) this.stretches[this.stretches.length - 1] = joined(open, stretch);
    else this.stretches.push(stretch);
    this.#waiting = (this.#waiting + 1) % this.#coarse;
    if (this.stretches.length <= STRETCHES) return;
    const all = this.stretches;
    this.stretches = all.flatMap((one, index) => {
      const next = all[index + 1];
      return index % 2 === 0 ? [next === undefined ? one : joined(one, next)] : [];
    });
    this.#coarse *= 2;
    this.#waiting = 0;
  }
}

function joined(one: Stretch, next: Stretch): Stretch {
  return { from: one.from, to: next.to, bytes: one.bytes + next.bytes, entries: one.entries + next.entries };
}
