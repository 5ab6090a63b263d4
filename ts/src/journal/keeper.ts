/**
 * Who keeps a journal: it is opened when there is something for it, and what keeps it from being opened stops nothing.
 *
 * Comes in: how the journal is opened, and the events of whatever it is of; goes out: the journal, once there is one, and what
 * a report says of it. Most runs are over before they have one.
 */
import { whyOf } from '../error.js';
import type { JobEvent, Report, Snapshot } from '../events.js';
import { sentenceOf } from '../verdict.js';
import type { Earlier, Journal } from './journal.js';
import type { Conclusion } from './record.js';

/** Milliseconds that something takes before it gets a journal, unless something fails in it. */
const PATIENCE = 1000;

/** A journal: open, or to be opened when there is something for it. */
export interface Journaling {
  /** The name of the job. */
  id: string;
  /** Where it is open already. */
  journal?: Journal;
  /** Opens it. */
  open: () => Promise<Journal>;
  /** The files that are its own. */
  files: readonly string[];
  /** Where the engine says what of the job is finished. */
  finished: string;
}

/** What the journal of a job says of it. */
export interface Journaled {
  /** The name of the job. */
  id: string;
  /** What an earlier run of it has left, which this one goes on with. Absent: there is none. */
  earlier?: Earlier;
  /** Why there is no journal after all. Absent: there is one, or nothing to write down. */
  problem?: string;
}

/** How the run ended that a report tells of. */
export function conclusionOf(report: Report): Conclusion {
  const { complete, interrupted, exitCode, elapsed } = report;
  const state = interrupted ? 'interrupted' : complete ? 'done' : 'failed';
  return { state, exitCode, elapsed, sentence: sentenceOf(report), report };
}

export class Keeper {
  readonly #journaling: Journaling;
  readonly #peek: () => Snapshot;
  readonly #later: NodeJS.Timeout;
  #journal: Journal | undefined;
  #opened: Promise<void> | undefined;
  /** Why it could not be opened. */
  #problem: string | undefined;

  /** `peek` tells how far it is, whose journal it is. */
  constructor(journaling: Journaling, peek: () => Snapshot) {
    this.#journaling = journaling;
    this.#peek = peek;
    if (journaling.journal) this.#watch(journaling.journal);
    this.#later = setTimeout(() => void this.#open().then(() => this.#journal?.begin()), PATIENCE).unref();
  }

  get id(): string {
    return this.#journal?.id ?? this.#journaling.id;
  }

  /** The file that has all failures so far, where the journal has them. */
  get failureFile(): string | undefined {
    return this.#journal?.holdsFailures ? this.#journal.file : undefined;
  }

  get told(): Journaled {
    const problem = this.#journal?.problem ?? this.#problem;
    const earlier = this.#journal?.earlier;
    return { id: this.id, ...(earlier && { earlier }), ...(problem !== undefined && { problem }) };
  }

  /** Takes in what happened. */
  async take(event: JobEvent): Promise<void> {
    if (event.type === 'error' || (event.type === 'note' && event.lost)) await this.#open();
    this.#journal?.take(event);
  }

  /** The report says where the journal is, and what is wrong with it. */
  tell(report: Report): void {
    const journal = this.#journal;
    if (journal?.file !== undefined) {
      if (journal.holdsFailures) report.failureFile = journal.file;
      report.job = journal.id;
    }
    const { problem } = this.told;
    if (problem === undefined) return;
    const [path = ''] = this.#journaling.files;
    report.notes = [...report.notes, { type: 'note', kind: 'journal', count: 1, lost: false, path, message: problem }];
  }

  /** It is over, and the journal has heard of everything. */
  async end(ending: Conclusion): Promise<void> {
    clearTimeout(this.#later);
    if (ending.state !== 'done') await this.#open();
    await this.#opened;
    this.#journal?.end(ending);
  }

  /** It was refused, or is broken off. */
  abandon(): void {
    clearTimeout(this.#later);
    this.#journal?.abandon();
  }

  /** Nobody tells it anything any more. */
  close(): void {
    clearTimeout(this.#later);
    this.#journal?.close();
  }

  #open(): Promise<void> {
    this.#opened ??= this.#journal
      ? Promise.resolve()
      : this.#journaling.open().then(
          (journal) => this.#watch(journal),
          (error: Error) => {
            this.#problem = `the journal could not be opened: ${whyOf(error)}`;
          },
        );
    return this.#opened;
  }

  #watch(journal: Journal): void {
    this.#journal = journal;
    journal.watch(this.#peek);
  }
}
