/**
 * What a tool said about a part: a file that is appended to.
 *
 * Comes in: lines as bytes; goes out: the file. It is made with the first line. What can't be written is told once, and stops
 * nothing.
 */
import { createWriteStream, type WriteStream } from 'node:fs';
import { toBytes } from '../../names.js';

const NEWLINE = Buffer.from('\n');

export class PartLog {
  #stream: WriteStream | undefined;
  #problem: Error | undefined;

  constructor(
    readonly path: string,
    readonly onProblem: (error: Error) => void,
  ) {}

  /** Takes a line; a promise asks to wait with the next. */
  line(text: Buffer | string): void | Promise<void> {
    if (this.#problem) return;
    this.#stream ??= createWriteStream(toBytes(this.path), { flags: 'a' }).on('error', (error) => {
      if (this.#problem === undefined) this.onProblem(error);
      this.#problem ??= error;
      this.#stream?.emit('drain');
    });
    const stream = this.#stream;
    const bytes = typeof text === 'string' ? Buffer.from(text) : text;
    if (stream.write(Buffer.concat([bytes, NEWLINE]))) return;
    return new Promise((resolve) => stream.once('drain', resolve));
  }

  async close(): Promise<void> {
    const stream = this.#stream;
    this.#stream = undefined;
    if (stream === undefined || this.#problem) return;
    await new Promise<void>((resolve) => stream.once('error', () => resolve()).end(resolve));
  }
}
