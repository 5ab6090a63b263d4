/**
 * The books of a transfer: what was found, what became of it, and what there is to tell.
 *
 * Comes in: settled lists, failures and notes, as they come; goes out: events for whoever reads them, and the report.
 */
import type {
  EntryKind,
  NativeEvent,
  NativeFailure,
  NativeNote,
  NativeReport,
  NativeSlow,
  Outcome,
} from '../../native/events.js';
import { EventQueue } from '../queue.js';
import type { Count } from './tally.js';

/** Failures that a report has; all are counted. */
const MOST_FAILURES = 1000;
/** Entries that took long of which a report tells, and those that are kept for it: what is told of one comes piece by piece. */
const SLOW = 20;
const MOST_SLOW = 1000;

/** Counts have their names in order, as those of the engine; the compiler misses none. */
const KINDS: Readonly<Record<EntryKind, number>> = {
  ...{ block: 0, char: 0, directory: 0, fifo: 0, file: 0, socket: 0, symlink: 0 },
};
const OUTCOMES: Readonly<Record<Outcome, number>> = {
  ...{ changed: 0, conflict: 0, copied: 0, different: 0, failed: 0, linked: 0, listed: 0 },
  ...{ made: 0, metadata: 0, mismatched: 0, removed: 0, renamed: 0, same: 0, skipped: 0 },
};

export class Ledger {
  readonly outcomes = { ...OUTCOMES };
  readonly files = { ...OUTCOMES };
  readonly #directories = { ...OUTCOMES };
  readonly found = { ...KINDS };
  readonly #skipped: Record<string, number> = {};
  readonly #failures: NativeFailure[] = [];
  readonly #failureKinds: Record<string, number> = {};
  readonly #notes = new Map<string, NativeNote>();
  /** Directories that were made on the way, and are not settled yet. */
  made = 0;
  foundBytes = 0;
  copiedBytes = 0;
  /** Bytes of the files that are settled. */
  doneBytes = 0;
  errors = 0;
  /** What a planner has seen: how large files are, and where most of them are. */
  seen: Pick<NativeReport, 'sizes' | 'heaviest'> = { sizes: [], heaviest: [] };
  #slow = new Map<string, NativeSlow>();

  readonly events = new EventQueue();

  /** `found`: what a planner has counted; absent: who settles entries has found them. */
  constructor(readonly planned: Readonly<Record<EntryKind, number>> | undefined) {
    if (planned) Object.assign(this.found, planned);
  }

  /** So many entries of a list have their outcome. `skipped`: why, where they are not as they are to be already. */
  settle(counts: Partial<Record<Outcome, Count>>, skipped?: Readonly<Record<string, number>>): void {
    for (const [outcome, { all, file, directory }] of Object.entries(counts) as [Outcome, Count][]) {
      this.outcomes[outcome] += all;
      this.files[outcome] += file;
      this.#directories[outcome] += directory;
    }
    for (const [reason, many] of Object.entries(skipped ?? { unchanged: counts.skipped?.all ?? 0 }))
      if (many > 0) this.#skipped[reason] = (this.#skipped[reason] ?? 0) + many;
  }

  /** So many directories have their outcome: some of them were made when something came into them. */
  settleDirectories(counts: Partial<Record<Outcome, Count>>): void {
    const settled = new Map(Object.entries(counts).map(([outcome, { all }]) => [outcome as Outcome, all]));
    for (const outcome of ['metadata', 'skipped'] as const) {
      const made = Math.min(this.made, settled.get(outcome) ?? 0);
      this.made -= made;
      settled.set('made', (settled.get('made') ?? 0) + made);
      settled.set(outcome, (settled.get(outcome) ?? 0) - made);
    }
    this.settle(Object.fromEntries([...settled].map(([outcome, all]) => [outcome, { all, file: 0, directory: all }])));
  }

  /** So many entries of a kind are left out. */
  skip(reason: string, kind: EntryKind, many = 1): void {
    if (many === 0) return;
    if (!this.planned) this.found[kind] += many;
    this.#skipped[reason] = (this.#skipped[reason] ?? 0) + many;
    this.#count('skipped', kind, many);
  }

  /** So many entries failed that have no event of their own. */
  failMore(kind: EntryKind, many: number): void {
    this.#fall('failed', kind, many);
  }

  #fall(outcome: NativeFailure['outcome'], kind: EntryKind, many: number): void {
    if (!this.planned) this.found[kind] += many;
    this.#count(outcome, kind, many);
  }

  /** An entry failed; with `entry` false, something that is none of the entries. */
  fail(failure: NativeFailure, entry = true): void | Promise<void> {
    if (entry) this.#fall(failure.outcome, failure.entryKind, 1);
    this.errors += 1;
    this.#failureKinds[failure.kind] = (this.#failureKinds[failure.kind] ?? 0) + 1;
    if (this.#failures.length < MOST_FAILURES) this.#failures.push(failure);
    return this.tell(failure);
  }

  /** Failures of a kind that have no words here. */
  failUntold(kind: string, many: number): void {
    if (many === 0) return;
    this.errors += many;
    this.#failureKinds[kind] = (this.#failureKinds[kind] ?? 0) + many;
  }

  note(kind: string, message: string, path: Buffer, { lost = false, count = 1 } = {}): void {
    const note: NativeNote = { type: 'note', kind, count, lost, path, message };
    const before = this.#notes.get(message);
    if (before) before.count += count;
    else this.#notes.set(message, note);
    // There are few of them.
    void this.tell({ ...note });
  }

  /** Entries that took their time. One that several had in their hands, as ranges or one after another, is told of once. */
  took(slow: readonly NativeSlow[]): void {
    for (const { path, bytes, seconds } of slow) {
      const key = path.toString('latin1');
      const before = this.#slow.get(key) ?? { bytes: 0, seconds: 0 };
      this.#slow.set(key, { path, bytes: Math.max(bytes, before.bytes), seconds: seconds + before.seconds });
    }
    if (this.#slow.size > MOST_SLOW) this.#slow = new Map(this.#slowest().slice(0, MOST_SLOW / 2));
  }

  /** The slowest first. */
  #slowest(): [string, NativeSlow][] {
    return [...this.#slow].sort(([, one], [, other]) => other.seconds - one.seconds);
  }

  #count(outcome: Outcome, kind: EntryKind, many: number): void {
    this.outcomes[outcome] += many;
    if (kind === 'file') this.files[outcome] += many;
    if (kind === 'directory') this.#directories[outcome] += many;
  }

  /** Tells an event; a promise asks to wait with more. */
  tell(event: NativeEvent): void | Promise<void> {
    return this.events.tell(event);
  }

  report(how: Pick<NativeReport, 'interrupted' | 'workers' | 'elapsed'> & { dryRun: boolean }): NativeReport {
    const { dryRun, interrupted, workers, elapsed } = how;
    return {
      outcomes: this.outcomes,
      found: this.found,
      files: this.files,
      directories: this.#directories,
      skipped: inOrder(this.#skipped),
      foundBytes: this.foundBytes,
      ...this.seen,
      slowest: this.#slowest()
        .slice(0, SLOW)
        .map(([, slow]) => slow),
      allocatedBytes: 0,
      copiedBytes: dryRun ? 0 : this.copiedBytes,
      resumedFiles: 0,
      resumedBytes: 0,
      plannedBytes: dryRun ? this.copiedBytes : 0,
      verifiedFiles: 0,
      verifiedBytes: 0,
      verifiedFromCache: 0,
      hashedBytes: 0,
      differences: { left: 0, right: 0, changed: 0, leftEntries: 0, rightEntries: 0 },
      extras: 0,
      removedSources: 0,
      keptSources: 0,
      conversions: [],
      withheld: [],
      failures: this.#failures,
      failureKinds: inOrder(this.#failureKinds),
      notes: [...this.#notes.values()],
      accounted: interrupted || total(this.found) === total(this.outcomes),
      interrupted,
      unfinished: 0,
      sync: 'none',
      workers,
      elapsed,
    };
  }
}

function inOrder(counts: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(counts).sort(([one], [other]) => (one < other ? -1 : 1)));
}

export function total(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((sum, each) => sum + each, 0);
}
