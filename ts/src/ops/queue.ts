/**
 * The events of a job that is not the addon's, between whoever makes them and whoever reads them.
 *
 * Comes in: events; goes out: batches, as the addon gives them. As long as nobody reads, none is kept; once somebody does,
 * who makes them waits for the reader, so that memory stays bounded.
 */
import type { NativeEvent } from '../native/events.js';

/** Events of a batch, and those that wait, at most. */
const BATCH = 1024;

export class EventQueue {
  #waiting: NativeEvent[] = [];
  #read = false;
  #ended = false;
  #wake: () => void = () => undefined;
  #room: () => void = () => undefined;

  /** Tells an event; a promise asks to wait with more. */
  tell(event: NativeEvent): void | Promise<void> {
    if (!this.#read) return;
    this.#waiting.push(event);
    this.#wake();
    if (this.#waiting.length >= BATCH) return this.#space();
  }

  async #space(): Promise<void> {
    while (this.#waiting.length >= BATCH) {
      const others = this.#room;
      await new Promise<void>((resolve) => {
        this.#room = () => {
          others();
          resolve();
        };
      });
    }
  }

  /** There are no more events. */
  end(): void {
    this.#ended = true;
    this.#wake();
  }

  /** The next events; none: it has ended. */
  async next(): Promise<NativeEvent[]> {
    this.#read = true;
    while (this.#waiting.length === 0 && !this.#ended) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const batch = this.#waiting.splice(0, BATCH);
    const room = this.#room;
    this.#room = () => undefined;
    room();
    return batch;
  }
}
