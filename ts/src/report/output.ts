/**
 * A stream that reporters write to: text in, backpressure out.
 *
 * When the other end goes away (EPIPE) what follows is dropped quietly; any other error is kept for the end. Either way
 * `onLost` is called once, so that the job can stop.
 */
import type { Writable } from 'node:stream';
import { BulkhaulError, whyOf } from '../error.js';

/** Those of each stream. */
const OUTPUTS = new WeakMap<Writable, Output[]>();

export class Output {
  #lost: NodeJS.ErrnoException | undefined;

  constructor(
    readonly stream: Writable,
    readonly onLost: () => void,
  ) {
    let outputs = OUTPUTS.get(stream);
    if (outputs === undefined) {
      const all: Output[] = [];
      outputs = all;
      OUTPUTS.set(stream, all);
      // Never removed: an error may still come after the last line was handed on. One for all jobs of a process.
      stream.on('error', (error: NodeJS.ErrnoException) => {
        for (const output of all) output.#lose(error);
      });
    }
    outputs.push(this);
  }

  #lose(error: NodeJS.ErrnoException): void {
    if (!this.#lost) this.onLost();
    this.#lost ??= error;
  }

  /** Writes; a promise asks to wait with more. */
  write(text: string): void | Promise<void> {
    if (this.#lost || this.stream.write(text)) return;
    return new Promise((resolve) => {
      const done = () => {
        for (const event of ['drain', 'error', 'close']) this.stream.off(event, done);
        resolve();
      };
      for (const event of ['drain', 'error', 'close']) this.stream.on(event, done);
    });
  }

  /** Waits until all that was written is handed on, or lost. */
  async flush(): Promise<void> {
    if (!this.#lost) await new Promise<void>((resolve) => this.stream.write('', () => resolve()));
    // The event of an error comes a moment after it.
    await new Promise<void>((resolve) => setImmediate(resolve));
  }

  /** Throws `OUTPUT` when not everything could be written. */
  check(what: string): void {
    if (this.#lost && this.#lost.code !== 'EPIPE') {
      throw new BulkhaulError('OUTPUT', `${what} could not be written: ${whyOf(this.#lost)}`);
    }
  }
}
