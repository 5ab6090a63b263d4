/**
 * The books of a run: what the states of its parts say, added up.
 *
 * Comes in: a plan, and states as they appear; goes out: events, counts and the report. Each state counts once. It promises to
 * notice where the entries of a state are not those that the planner has counted.
 */

import { toBytes } from '../../names.js';
import type { NativeFailure, NativeNote, NativeReport, Outcome } from '../../native/events.js';
import { Ledger, total } from '../transfer/ledger.js';
import type { Count } from '../transfer/tally.js';
import {
  type Conversion,
  digestOf,
  type Left,
  lines,
  type PartState,
  type Plan,
  type RunDirectory,
  restore,
} from './directory.js';
import { Rates } from './rates.js';

/** What of the states of parts is only added up. */
const SUMS = [
  'resumedFiles',
  'resumedBytes',
  'verifiedFiles',
  'verifiedBytes',
  'verifiedFromCache',
  'hashedBytes',
] as const;

/** Failures, as they are had. */
type Failures = Iterable<NativeFailure> | AsyncIterable<NativeFailure>;

/** What came last. */
export type Last = Pick<NativeReport, 'accounted' | 'extras' | 'removedSources' | 'keptSources' | 'withheld'>;

/** What an operation is like, as far as its books go by it. */
export interface Manner {
  /** What the parts have not done is found, and told, by whoever comes last. */
  readonly tellsAll: boolean;
  /** What goes through a worker is read, and not copied. */
  readonly reads: boolean;
  /** Where something of another kind has a name, whoever comes last may remove that, and does what the part could not. */
  readonly replaces: boolean;
}

export class Books {
  readonly ledger = new Ledger({ file: 0, directory: 0, symlink: 0, fifo: 0, socket: 0, block: 0, char: 0 });
  readonly rates = new Rates();
  readonly sums = Object.fromEntries(SUMS.map((name) => [name, 0])) as Record<(typeof SUMS)[number], number>;
  /** Parts whose states were read. */
  readonly #counted = new Set<number>();
  /** Of these, those in which something of another kind is in the way, and nothing else is wrong. */
  readonly #obstructed: number[] = [];
  /** Entries of these that have no outcome yet. */
  obstructed = 0;
  /** What went wrong with directories: each part that needs one finds the same. */
  readonly #directories = new Set<string>();
  #plan: Plan | undefined;
  /** All states say as many entries as the plan. */
  balanced = true;
  /** Bytes that went through the parts that have their states. */
  moved = 0;
  /** Files that stay under unfinished names where it was stopped. */
  unfinished = 0;
  /** By extensions. */
  readonly #conversions = new Map<string, Conversion>();

  constructor(
    readonly directory: RunDirectory,
    readonly operation: Manner,
  ) {}

  /** There is a plan. */
  async open(plan: Plan): Promise<void> {
    this.#plan = plan;
    Object.assign(this.ledger.found, plan.found);
    this.ledger.foundBytes = plan.parts.reduce((sum, { bytes }) => sum + bytes, 0);
    this.ledger.seen = { sizes: plan.sizes, heaviest: plan.heaviest.map((share) => restore(share)) };
    if (this.operation.tellsAll) return;
    this.ledger.failMore('file', plan.failureKinds.missing ?? 0);
    await this.tell(this.directory.failures(0, 0), plan.failureKinds, [], (kind) => kind);
  }

  /** How many parts there are. */
  get parts(): number {
    return this.#plan?.parts.length ?? 0;
  }

  /** How many of them have no state. */
  get left(): number {
    return this.parts - this.#counted.size;
  }

  has(part: number): boolean {
    return this.#counted.has(part);
  }

  /** Reads the states that are new. `entries`: each is told. */
  async look(entries: boolean): Promise<void> {
    for (const part of this.directory.settled()) {
      const planned = this.#plan?.parts[part - 1];
      if (planned === undefined || this.#counted.has(part)) continue;
      this.#counted.add(part);
      await this.#count(this.directory.state(part), planned, entries);
    }
  }

  async #count(state: PartState, { entries, bytes }: Plan['parts'][number], told: boolean): Promise<void> {
    const { part, attempt, found, outcomes, failureKinds, abandoned, notes, copiedBytes, made } = state;
    this.rates.count(state);
    const ledger = this.ledger;
    const obstructed = this.operation.replaces && isObstructed(state, entries);
    const { conflict, ...others } = outcomes;
    ledger.settle(withoutDirectories(obstructed ? others : outcomes), state.skipped);
    ledger.made += made;
    if (!this.operation.reads) ledger.copiedBytes += copiedBytes;
    this.moved += state.movedBytes;
    ledger.doneBytes += bytes;
    for (const key of SUMS) this.sums[key] += state[key];
    ledger.took((state.slowest ?? []).map((slow) => restore(slow)));
    for (const { extension, files, before, after } of state.conversions ?? []) {
      const sum = this.#conversions.get(extension) ?? { extension, files: 0, before: 0, after: 0 };
      sum.files += files;
      sum.before += before;
      sum.after += after;
      this.#conversions.set(extension, sum);
    }
    await this.tell(
      total(failureKinds) > 0 && !obstructed ? this.directory.failures(part, attempt) : [],
      obstructed ? {} : failureKinds,
      // What others of this run have not finished yet is nothing to tell; what comes last sees what is left of any run.
      notes.filter(({ kind }) => kind !== 'foreign-staging').map((note) => restore(note)),
    );
    if (abandoned !== undefined) await this.#abandon(part, abandoned);
    else if (obstructed) {
      this.#obstructed.push(part);
      this.obstructed += entries - found + (conflict?.all ?? 0);
    }
    // What is below a directory that could not be made is not even looked at.
    else if (found < entries && total(failureKinds) > 0) ledger.failMore('file', entries - found);
    else if (found !== entries) {
      this.balanced = false;
      this.note('run', `part ${part} has ${entries} entries, and ${found} were found in it`);
    }
    if (told)
      void ledger.tell({ type: 'part', number: part, entries, bytes, cost: bytes, split: 0, path: this.#list(part) });
  }

  /** Nobody comes who may remove what is in the way: what it is in the way of failed. */
  async obstruct(): Promise<void> {
    for (const part of this.#obstructed.splice(0)) {
      const { attempt, found, outcomes, failureKinds } = this.directory.state(part);
      const { conflict } = outcomes;
      if (conflict) this.ledger.settle(withoutDirectories({ conflict }));
      await this.tell(this.directory.failures(part, attempt), failureKinds, []);
      this.ledger.failMore('file', (this.#plan?.parts[part - 1]?.entries ?? found) - found);
    }
    this.obstructed = 0;
  }

  #list(part: number): Buffer {
    return toBytes(this.directory.list(part));
  }

  /** Parts that nobody has brought to their end: each of their entries failed. */
  async giveUp(): Promise<void> {
    const standings = this.directory.standings();
    for (const [place, { entries }] of this.#plan?.parts.entries() ?? []) {
      const part = place + 1;
      // Of a range nothing is to tell: the file is none of those that are there.
      if (this.#counted.has(part) || entries === 0) continue;
      await this.#abandon(part, standings.get(part)?.attempt ?? 0);
    }
  }

  /** Nobody has brought a part to its end: each of its entries failed, by its own name. */
  async #abandon(part: number, attempts: number): Promise<void> {
    const { source = '', task, parts = [] } = this.#plan ?? {};
    const { entries = 0, digest } = parts[part - 1] ?? {};
    const operation = task?.operation ?? 'copy';
    const list = this.directory.list(part);
    const failed = { type: 'error', kind: 'other', outcome: 'failed', operation, entryKind: 'file' } as const;
    if ((await digestOf(list)) !== digest) {
      this.ledger.failMore('file', entries - 1);
      const message = `part ${part}: its list is not as it was written, so nothing of its ${entries} entries was done`;
      return this.ledger.fail({ ...failed, path: this.#list(part), message });
    }
    const why = `no worker has brought part ${part}, which it is in, to its end in ${attempts} attempts (resume tries it again)`;
    for await (const name of lines(list, 0, false)) {
      const path = Buffer.concat([toBytes(`${source}/`), name]);
      await this.ledger.fail({ ...failed, path, message: `${operation} ${path}: ${why}` });
    }
  }

  /** What was interrupted, because nothing moved any more: that is told, and nothing else of it. */
  async stalled(failures: Failures, { stalled = 0 }: Readonly<Record<string, number>>): Promise<void> {
    if (stalled > 0) await this.tell(failures, { stalled }, []);
  }

  /** Failures and notes of somebody else. */
  async tell(
    failures: Failures,
    kinds: Readonly<Record<string, number>>,
    notes: readonly NativeNote[],
    meant = kindOf,
  ): Promise<void> {
    const left = new Map(Object.entries(kinds));
    for await (const failure of failures) {
      // What is not counted here is not told, or by whoever comes last.
      if (left.get(failure.kind) === undefined) continue;
      left.set(failure.kind, (left.get(failure.kind) ?? 0) - 1);
      await this.fail(failure, meant);
    }
    for (const [kind, many] of left) this.ledger.failUntold(meant(kind), Math.max(0, many));
    for (const { kind, message, path, lost, count } of notes) this.ledger.note(kind, message, path, { lost, count });
  }

  /** Something failed that has its outcome already, or gets it from somebody else. What goes wrong with a directory is told once. */
  async fail(failure: NativeFailure, meant = kindOf): Promise<void> {
    if (failure.entryKind === 'directory') {
      const key = `${failure.path.toString('latin1')}\0${failure.message}`;
      if (this.#directories.has(key)) return;
      this.#directories.add(key);
    }
    await this.ledger.fail({ ...failure, kind: meant(failure.kind) }, false);
  }

  /** What was stopped has left something. */
  leave({ unfinished, notes }: Left): void {
    this.unfinished += unfinished;
    for (const stored of notes) {
      const { kind, message, path, lost, count } = restore(stored);
      this.ledger.note(kind, message, path, { lost, count });
    }
  }

  note(kind: string, message: string, path = '', lost = false): void {
    this.ledger.note(kind, message, toBytes(path), { lost });
  }

  /** The notes so far. */
  notes(): NativeNote[] {
    return this.ledger.report({ interrupted: false, workers: 0, elapsed: 0, dryRun: false }).notes;
  }

  /** Directories that nothing is done with. */
  leaveDirectories(many: number): void {
    this.ledger.skip('not-a-file', 'directory', many);
  }

  /** What the parts have done, and what was done in the end, which took over what they had `proved`: what was read twice counts once. */
  joined(last: NativeReport, proved: { files: number; bytes: number }): NativeReport {
    this.ledger.took(last.slowest);
    const { notes, slowest } = this.ledger.report({ interrupted: false, workers: 0, elapsed: 0, dryRun: false });
    const { outcomes, files, found } = this.ledger;
    const { verifiedFromCache, hashedBytes } = this.sums;
    const verifiedBytes = last.verifiedBytes + proved.bytes;
    const gone = outcomes.removed;
    return {
      ...last,
      notes: [...notes, ...last.notes],
      slowest,
      outcomes: { ...last.outcomes, removed: last.outcomes.removed + gone },
      files: { ...last.files, removed: last.files.removed + files.removed },
      found: gone > 0 ? foundWith(found, last.found, gone) : last.found,
      verifiedFiles: last.verifiedFiles + proved.files,
      verifiedBytes,
      verifiedFromCache: Math.min(last.verifiedFromCache + verifiedFromCache, verifiedBytes),
      hashedBytes: last.hashedBytes + hashedBytes,
    };
  }

  #converted(): NativeReport['conversions'] {
    const sums = [...this.#conversions.values()].sort((one, other) => other.before - one.before);
    return sums.map((sum) => ({ ...sum, extension: toBytes(sum.extension) }));
  }

  report(how: Pick<NativeReport, 'interrupted' | 'workers' | 'elapsed' | 'sync'>, last?: Last): NativeReport {
    const report = this.ledger.report({ ...how, dryRun: false });
    const { extras = 0, withheld = [], accounted = true, removedSources = 0, keptSources = 0 } = last ?? {};
    const balanced = accounted && this.balanced && total(report.found) + extras === total(report.outcomes);
    return {
      ...report,
      ...this.sums,
      conversions: this.#converted(),
      ...{ extras, removedSources, keptSources, withheld },
      accounted: how.interrupted || balanced,
      unfinished: this.unfinished,
      sync: how.sync,
    };
  }
}

/** Whether nothing is wrong with a part but that something of another kind has names of it. */
function isObstructed({ found, failureKinds, abandoned }: PartState, entries: number): boolean {
  const { conflict = 0 } = failureKinds;
  return abandoned === undefined && conflict > 0 && conflict === total(failureKinds) && found <= entries;
}

function withoutDirectories(outcomes: PartState['outcomes']): Partial<Record<Outcome, Count>> {
  const counts = Object.entries(outcomes).map(([name, count]) => [name, { ...count, directory: 0 }]);
  return Object.fromEntries(counts);
}

/** What there was of each kind: what came or vanished after the plan was made counts as files, as nobody knows better. */
function foundWith(planned: NativeReport['found'], last: NativeReport['found'], gone: number): NativeReport['found'] {
  const others = (of: NativeReport['found']) => total(of) - of.directory;
  const late = others(last) + gone - others(planned);
  return { ...planned, file: Math.max(0, planned.file + late), directory: last.directory };
}

/** What the planner had found is not missing, it vanished. */
function kindOf(kind: string): string {
  return kind === 'missing' ? 'vanished' : kind;
}
