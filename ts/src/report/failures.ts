/**
 * Failures, as they happen: the first ones as whole lines on stderr, above the status, and all of them in a file.
 *
 * Comes in: the events of a job; goes out: lines, and the name of the file. The file is the log where there is one, or the
 * journal; otherwise it is made with the first failure, and ends with the summary; that it can't be written to its end is a note, and costs
 * the run nothing. Memory does not grow with the failures.
 */

import type { BulkhaulError } from '../error.js';
import { whyOf } from '../error.js';
import type { ErrorEvent, Event, Report } from '../events.js';
import { display } from '../names.js';
import type { Log } from './log.js';
import type { Reporter } from './reporter.js';
import { type FlagNames, failureText } from './summary.js';

/** Failures that are shown as they happen. */
const SHOWN = 20;

/** Where a job's failures go. */
export interface FailureSettings {
  /** Before each line. */
  label: string;
  /** What its options are called. */
  flags: FlagNames;
  /** Opens the file, if it can be had: its name, and what writes it. */
  open: () => Promise<{ path: string; log: Log } | undefined>;
}

export class Failures implements Reporter {
  #count = 0;
  #file: { path: string; log: Log } | undefined;
  /** A file was asked for: with the first failure that nobody keeps. */
  #tried = false;

  constructor(
    readonly settings: FailureSettings,
    readonly say: (line: string) => void,
    /** The file that has all failures already: the log, or the job's journal. */
    readonly kept: () => string | undefined,
    /** Whether the lines are shown. */
    readonly shows: boolean,
  ) {}

  /** The name of the file, once there is one, and all that failed is in it. */
  get path(): string | undefined {
    return this.#count > 0 && this.note === undefined ? (this.kept() ?? this.#file?.path) : undefined;
  }

  /** What of the file could not be written. */
  get note(): Report['notes'][number] | undefined {
    const { path, log: { error } = {} } = this.#file ?? {};
    if (path === undefined || error === undefined) return undefined;
    const message = `not all failures could be written to their file: ${whyOf(error)}`;
    return { type: 'note', kind: 'failure-file', count: 1, lost: false, path, message };
  }

  take(event: Event): void | Promise<void> {
    if (event.type !== 'error') return this.#file?.log.take(event);
    this.#count += 1;
    if (this.#file !== undefined || this.kept() !== undefined || this.#tried) return this.#record(event);
    this.#tried = true;
    return this.settings.open().then((file) => {
      this.#file = file;
      this.#record(event);
    });
  }

  #record(event: ErrorEvent): void {
    if (this.shows) this.#show(failureText(event, this.settings.flags));
    this.#file?.log.take(event);
  }

  #show(text: string): void {
    const { label } = this.settings;
    if (this.#count <= SHOWN) this.say(`${label}: ${text}`);
    if (this.#count !== SHOWN + 1) return;
    const where = this.path === undefined ? 'and no file could be made for them' : `all go to ${display(this.path)}`;
    this.say(`${label}: more failures are not shown here, ${where}`);
  }

  refused(error: BulkhaulError): void {
    this.#file?.log.refused(error);
  }

  close(): void {
    this.#file?.log.close();
  }
}
