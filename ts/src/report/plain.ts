/** Status for logs and pipes: a whole line at a time, seldom, without control characters. */
import type { Event } from '../events.js';
import type { Output } from './output.js';
import { type Progress, statusLine } from './progress.js';
import type { Reporter } from './reporter.js';

/** As a log has it: `14:03:59`, where the process is. */
const timeOfDay = () => new Date().toTimeString().slice(0, 8);

export class Plain implements Reporter {
  constructor(
    readonly output: Output,
    readonly every: number,
    readonly progress: Progress,
  ) {}

  take(event: Event): void | Promise<void> {
    if (event.type !== 'status') return;
    return this.output.write(`${timeOfDay()} ${statusLine(this.progress.update(event))}\n`);
  }
}
