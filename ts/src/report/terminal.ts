/** One line of totals on a terminal, redrawn in place and gone at the end. */
import type { Writable } from 'node:stream';
import type { Event } from '../events.js';
import { type Progress, statusLine } from './progress.js';
import type { Reporter } from './reporter.js';

export class Terminal implements Reporter {
  readonly every = 100;
  #drawn = false;

  constructor(
    readonly stream: Writable & { columns?: number },
    readonly color: boolean,
    readonly progress: Progress,
  ) {}

  take(event: Event): void {
    // A terminal that is behind gets the next line, not all of them.
    if (event.type !== 'status' || this.stream.writableNeedDrain) return;
    const text = statusLine(this.progress.update(event), (this.stream.columns || 80) - 1);
    const painted = this.color ? text.replace(/\b[1-9][\d,]* errors?\b/, '\x1b[31m$&\x1b[39m') : text;
    this.stream.write(`\r${painted}\x1b[K`);
    this.#drawn = true;
  }

  /** Takes the line off the screen, until the next status, so that other text can be written. */
  hide(): void {
    if (this.#drawn) this.stream.write('\r\x1b[K');
    this.#drawn = false;
  }

  close(): void {
    this.hide();
  }
}
