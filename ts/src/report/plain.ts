/** Status for logs and pipes: a whole line at a time, seldom, without control characters. */
import type { Event } from '../events.js';
import type { Output } from './output.js';
import { Progress, statusLine } from './progress.js';
import type { Reporter } from './reporter.js';

export class Plain implements Reporter {
  readonly #progress = new Progress();

  constructor(
    readonly output: Output,
    readonly every: number,
  ) {}

  take(event: Event): void | Promise<void> {
    if (event.type === 'status') return this.output.write(`${statusLine(this.#progress.update(event))}\n`);
  }
}
