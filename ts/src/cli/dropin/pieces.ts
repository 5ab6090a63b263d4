/**
 * JSON in pieces: a file of it may be longer than a string can be, and what is in it is wanted one by one.
 *
 * Comes in: a descriptor; goes out: the members of objects and arrays as they come, each parsed by itself. An error names the
 * byte where it is.
 */
import { readSync } from 'node:fs';

/** Bytes that are read at once. */
const CHUNK = 1 << 20;
const [QUOTE, BACKSLASH, COMMA, COLON] = [0x22, 0x5c, 0x2c, 0x3a];
const [OPENS, CLOSES] = [new Set([0x5b, 0x7b]), new Set([0x5d, 0x7d])];
const BLANKS = new Set([0x20, 0x09, 0x0a, 0x0d]);

export class Pieces {
  readonly #file: number;
  #held = Buffer.alloc(0);
  /** Where in `#held` it goes on, and how many bytes were before. */
  #at = 0;
  #before = 0;

  constructor(file: number) {
    this.#file = file;
  }

  /** Whether the next value is an object (`{`) or an array (`[`). */
  isNext(opening: '{' | '['): boolean {
    return this.#peek() === opening.charCodeAt(0);
  }

  /** The names of an object's members. Whoever takes one goes past its value before the next. */
  *members(): Generator<string> {
    for (const _ of this.#between('{', '}')) {
      const name = this.value();
      if (typeof name !== 'string') throw this.#wrong('a name is due');
      this.#expect(COLON);
      yield name;
    }
  }

  /** The elements of an array. */
  *elements(): Generator<unknown> {
    for (const _ of this.#between('[', ']')) yield this.value();
  }

  /** The next value. */
  value(): unknown {
    this.#peek();
    const text = this.#take();
    try {
      return JSON.parse(text);
    } catch (error) {
      throw this.#wrong((error as Error).message);
    }
  }

  /** Throws where something follows. */
  end(): void {
    if (this.#peek() !== undefined) throw this.#wrong('it goes on after its end');
  }

  *#between(opening: string, closing: string): Generator<void> {
    this.#expect(opening.charCodeAt(0));
    const close = closing.charCodeAt(0);
    if (this.#peek() !== close) {
      for (;;) {
        yield;
        if (this.#peek() !== COMMA) break;
        this.#at += 1;
      }
    }
    this.#expect(close);
  }

  #expect(byte: number): void {
    if (this.#peek() !== byte) throw this.#wrong(`${String.fromCharCode(byte)} is due`);
    this.#at += 1;
  }

  /** The next byte that is no blank; none at the end. */
  #peek(): number | undefined {
    for (;;) {
      const byte = this.#byte(0);
      if (byte === undefined || !BLANKS.has(byte)) return byte;
      this.#at += 1;
    }
  }

  /** The bytes of the next value: to its end, or to what can't be of it. */
  #take(): string {
    let [length, depth, quoted] = [0, 0, false];
    for (;;) {
      const byte = this.#byte(length);
      if (byte === undefined) break;
      if (quoted) {
        if (byte === BACKSLASH) length += 1;
        else if (byte === QUOTE) quoted = false;
      } else if (byte === QUOTE) quoted = true;
      else if (OPENS.has(byte)) depth += 1;
      else if (depth === 0 && (BLANKS.has(byte) || byte === COMMA || byte === COLON || CLOSES.has(byte))) break;
      else if (CLOSES.has(byte)) depth -= 1;
      length += 1;
      if (depth === 0 && !quoted && (byte === QUOTE || CLOSES.has(byte))) break;
    }
    const text = this.#held.toString('utf8', this.#at, this.#at + length);
    this.#at += length;
    return text;
  }

  /** A byte from here on; none behind the end. */
  #byte(ahead: number): number | undefined {
    while (this.#at + ahead >= this.#held.length) {
      const chunk = Buffer.allocUnsafe(CHUNK);
      const read = readSync(this.#file, chunk);
      if (read === 0) return undefined;
      this.#before += this.#at;
      this.#held = Buffer.concat([this.#held.subarray(this.#at), chunk.subarray(0, read)]);
      this.#at = 0;
    }
    return this.#held[this.#at + ahead];
  }

  #wrong(why: string): Error {
    return new Error(`${why}, at byte ${this.#before + this.#at}`);
  }
}
