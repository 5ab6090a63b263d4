/**
 * What each host does, in a run of many workers.
 *
 * Comes in: beats of the workers that are there, as they are looked at, and states of parts; goes out: for each host what it
 * has done, and how fast it is. The clock is that of whoever looks.
 */
import type { HostStatus } from '../../events.js';
import type { Beat, PartState } from './directory.js';

/** Milliseconds that a rate looks back: more than there is between two beats, where nobody asked for another patience. */
const WINDOW = 15_000;

type At = Pick<Beat, 'host' | 'part' | 'copiedBytes'>;

export class Rates {
  /** By hosts: of parts that have their state. */
  readonly #settled = new Map<string, { parts: number; bytes: number }>();
  readonly #counted = new Set<number>();
  #samples: { at: number; bytes: Map<string, number> }[] = [];

  /** What came of a part. */
  count({ part, host, copiedBytes }: Pick<PartState, 'part' | 'host' | 'copiedBytes'>): void {
    const { parts, bytes } = this.#settled.get(host) ?? { parts: 0, bytes: 0 };
    this.#settled.set(host, { parts: parts + 1, bytes: bytes + copiedBytes });
    this.#counted.add(part);
  }

  /** The workers were looked at, at so many milliseconds. */
  look(beats: readonly At[], at: number): void {
    this.#samples.push({ at, bytes: this.#bytes(beats) });
    while (this.#samples.length > 2 && at - (this.#samples[1]?.at ?? at) >= WINDOW) this.#samples.shift();
  }

  /** The hosts, in the order of their names. */
  hosts(beats: readonly At[]): HostStatus[] {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    const seconds = first && last ? (last.at - first.at) / 1000 : 0;
    const now = this.#bytes(beats);
    const rate = (host: string) =>
      seconds > 0 ? Math.max(0, (last?.bytes.get(host) ?? 0) - (first?.bytes.get(host) ?? 0)) / seconds : 0;
    return [...now]
      .map(([host, copiedBytes]) => ({
        host,
        workers: beats.filter((beat) => beat.host === host).length,
        parts: this.#settled.get(host)?.parts ?? 0,
        copiedBytes,
        rate: rate(host),
      }))
      .sort((one, other) => (one.host < other.host ? -1 : 1));
  }

  #bytes(beats: readonly At[]): Map<string, number> {
    const bytes = new Map([...this.#settled].map(([host, settled]) => [host, settled.bytes]));
    for (const { host, part, copiedBytes } of beats)
      bytes.set(host, (bytes.get(host) ?? 0) + (this.#counted.has(part) ? 0 : copiedBytes));
    return bytes;
  }
}
