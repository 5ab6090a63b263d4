/**
 * What became of the entries of a list.
 *
 * Comes in: what a tool told in each of its runs over the list; goes out: one outcome for each of its entries. What any run
 * did counts; what needed nothing the last one knows, and it is the rest. Pure.
 */
import type { EntryKind, Outcome } from '../../native/events.js';
import type { Told } from './tool.js';

/** Of one outcome: entries of all kinds, and how many of them are files and directories. */
export interface Count {
  all: number;
  file: number;
  directory: number;
}

/** What a run does, in the order in which a surplus is taken away: what one run made another may have finished. */
const DEEDS = ['metadata', 'made', 'linked', 'copied'] as const;
type Deed = (typeof DEEDS)[number];

export class Tally {
  /** Of all runs. */
  readonly #deeds: Record<Deed, Count> = { metadata: none(), made: none(), linked: none(), copied: none() };
  /** Of the last run, entries that it told of; by kinds in `kinds`. */
  #told = 0;
  kinds: Partial<Record<EntryKind, number>> = {};
  #unchanged = none();
  /** Of the last run: entries that the destination had, by its own count, and how many of them it told of. */
  #compared = 0;
  #toldOfCompared = 0;
  /** Of the last run: bytes of the files that it told of. */
  bytes = 0;
  /** Bytes of the files that were copied: of all runs, and of those before this one. */
  #copied = 0;
  #copiedBefore = 0;
  /** The same by the tool's own count, of the runs before, and of this one, as it goes. */
  #moved = 0;
  #movedNow = 0;

  /** `sizes`: the tool tells how large a file is that it copied. */
  constructor(readonly sizes: boolean) {}

  /** Another run begins. */
  again(): void {
    this.#told = this.#compared = this.#toldOfCompared = this.bytes = 0;
    this.kinds = {};
    this.#unchanged = none();
    this.#copiedBefore = this.#copied;
    this.#moved += this.#movedNow;
    this.#movedNow = 0;
  }

  take(told: Extract<Told, { type: 'entry' | 'stats' }>): void {
    if (told.type === 'stats') {
      this.#compared = told.compared;
      this.#movedNow = told.bytes;
      return;
    }
    const { outcome, kind, size, changes } = told;
    this.#told += 1;
    this.kinds[kind] = (this.kinds[kind] ?? 0) + 1;
    if (kind === 'file') this.bytes += size;
    if (outcome === 'skipped') {
      one(this.#unchanged, kind);
      return;
    }
    if (!changes.includes('new')) this.#toldOfCompared += 1;
    const deed = DEEDS.find((each) => each === outcome);
    if (deed !== undefined) one(this.#deeds[deed], kind);
    if (outcome === 'copied') this.#copied += size;
  }

  /** What was done of a part of the list, in another tally, counts here. */
  add(other: Tally): void {
    for (const deed of DEEDS) {
      for (const key of ['all', 'file', 'directory'] as const) this.#deeds[deed][key] += other.#deeds[deed][key];
    }
    this.#copied += other.#copied;
    this.#moved += other.#moved + other.#movedNow;
  }

  /** Entries that the last run has told of, in any way. */
  get told(): number {
    return this.#told + this.#silent;
  }

  /** Files that needed nothing, as far as the last run has told. */
  get unchanged(): number {
    return this.#unchanged.file + this.#silent;
  }

  /** Entries that the destination had and the tool said nothing of: they needed nothing. */
  get #silent(): number {
    return Math.max(0, this.#compared - this.#toldOfCompared);
  }

  get copiedFiles(): number {
    return this.#deeds.copied.file;
  }

  /** Bytes that were written, of files that are through. */
  get written(): number {
    return this.sizes ? this.#copied : this.#moved + this.#movedNow;
  }

  /** The same with what went of the file that the tool is at. */
  get writtenSoFar(): number {
    return Math.max(this.written, this.#copiedBefore + this.#movedNow);
  }

  /** An outcome for each of so many entries. */
  settle(entries: number): Partial<Record<Outcome, Count>> {
    let surplus = DEEDS.reduce((sum, deed) => sum + this.#deeds[deed].all, 0) - entries;
    const settled: Partial<Record<Outcome, Count>> = {};
    for (const deed of DEEDS) {
      const { all, file, directory } = this.#deeds[deed];
      const less = Math.max(0, Math.min(surplus, all));
      surplus -= less;
      const rest = all - less;
      settled[deed] = { all: rest, file: Math.min(file, rest), directory: Math.min(directory, rest) };
    }
    const skipped = Math.max(0, -surplus);
    const directory = Math.min(this.#unchanged.directory, skipped);
    settled.skipped = { all: skipped, file: Math.min(this.unchanged, skipped - directory), directory };
    return settled;
  }
}

function none(): Count {
  return { all: 0, file: 0, directory: 0 };
}

function one(count: Count, kind: EntryKind): void {
  count.all += 1;
  if (kind === 'file' || kind === 'directory') count[kind] += 1;
}
