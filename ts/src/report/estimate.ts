/**
 * How long the rest of a run takes.
 *
 * Comes in: what was done and what is left, again and again; goes out: seconds. A run is taken for bytes that each cost the
 * same, entries that each cost the same, and entries that are skipped and cost less; the prices are learnt from the run
 * itself, the recent part of it counting more. They explain all the time that was taken, so that bursts and pauses are
 * part of them. Of what is left, as great a part is taken for skipped as lately. A calm estimate is worth more than
 * a quick one, so the moment of the end moves slowly.
 */

/** What was done: each number only grows. */
export interface Done {
  /** Bytes read, copied or proved. */
  bytes: number;
  /** Entries that are done with, but for those that were skipped. */
  worked: number;
  /** Entries that needed nothing. */
  skipped: number;
}

/** What is left. */
export interface Left {
  bytes: number;
  entries: number;
}

/** Seconds after which a piece of the past counts half. */
const HALF_LIFE = 60;
/** Seconds between the pieces that prices are learnt from: shorter ones tell more of the system's whims than of the run. */
const PIECE = 0.5;
/** Pieces with some work in them that tell how many entries are skipped. */
const LATELY = 6;
/** So many are needed to believe in them: in the first one after a stretch of skipped entries most are skipped. */
const BELIEVED = 2;
/** Another choice of prices has to explain so much more of the time: of two that tell the same, the first is taken. */
const BETTER = 1.00001;
/** Seconds in which the foreseen end follows what was just learnt, by two thirds. */
const CALM = 2;

const KEYS = ['bytes', 'worked', 'skipped'] as const;
type Prices = Record<(typeof KEYS)[number], number>;

export class Estimate {
  /** Sums of products of pieces, older ones smaller; each piece as shares of what it took on the whole. */
  readonly #products = KEYS.map(() => [0, 0, 0]);
  readonly #withTime = [0, 0, 0];
  readonly #sums = [0, 0, 0];
  #time = 0;
  #skips: number[] = [];
  #last: (Done & { elapsed: number }) | undefined;
  #end: number | undefined;
  #seen = 0;

  /**
   * Takes in what was done after `elapsed` seconds, and what is left, as far as that is known; answers the seconds that are
   * left. Undefined: what is left is not known, or has no price yet.
   */
  update(elapsed: number, done: Done, left: Left | undefined): number | undefined {
    this.#learn(elapsed, done);
    const prices = left && this.#prices();
    if (left === undefined || prices === undefined || (prices.bytes === 0 && prices.worked === 0)) return undefined;
    const skipped = this.#skips.length < BELIEVED ? 0 : lowerMedian(this.#skips);
    const seconds =
      prices.bytes * left.bytes * (1 - skipped) +
      left.entries * (prices.worked * (1 - skipped) + prices.skipped * skipped);
    const end = elapsed + seconds;
    const follow = 1 - Math.exp(-Math.max(0, elapsed - this.#seen) / CALM);
    this.#end = this.#end === undefined ? end : this.#end + (end - this.#end) * follow;
    this.#seen = elapsed;
    // However calm: what is left has its price.
    return Math.max(seconds / 2, this.#end - elapsed);
  }

  #learn(elapsed: number, done: Done): void {
    const last = this.#last;
    if (last !== undefined && elapsed - last.elapsed < PIECE) return;
    this.#last = { elapsed, ...done };
    if (last === undefined) return;
    const time = elapsed - last.elapsed;
    // Counters are read one after the other: none of them goes back.
    const piece = KEYS.map((key) => Math.max(0, done[key] - last[key]));
    const fade = 0.5 ** (time / HALF_LIFE);
    const fading = (old: number, value: number) => old * fade + value;
    for (const [row, value] of piece.entries()) {
      this.#products[row] = piece.map((other, column) => fading(this.#products[row]?.[column] ?? 0, value * other));
      this.#withTime[row] = fading(this.#withTime[row] ?? 0, value * time);
      this.#sums[row] = fading(this.#sums[row] ?? 0, value);
    }
    this.#time = fading(this.#time, time);
    const [, worked = 0, skipped = 0] = piece;
    if (worked > 0) this.#skips = [...this.#skips.slice(1 - LATELY), skipped / (worked + skipped)];
  }

  /** Least squares without negative prices: of all choices of what has one, that which explains most. */
  #prices(): Prices | undefined {
    let best: { explained: number; prices: number[] } | undefined;
    for (let choice = 1; choice < 2 ** KEYS.length; choice += 1) {
      const chosen = KEYS.map((_, index) => index).filter((index) => choice & (1 << index));
      const solved = solve(
        chosen.map((row) => chosen.map((column) => this.#products[row]?.[column] ?? 0)),
        chosen.map((row) => this.#withTime[row] ?? 0),
      );
      if (solved === undefined || solved.some((price) => price < 0)) continue;
      const explained = chosen.reduce((sum, row, index) => sum + (solved[index] ?? 0) * (this.#withTime[row] ?? 0), 0);
      const prices = KEYS.map((_, row) => solved[chosen.indexOf(row)] ?? 0);
      if (best === undefined || explained > best.explained * BETTER) best = { explained, prices };
    }
    if (best === undefined) return undefined;
    const [bytes = 0, worked = 0, skipped = 0] = best.prices;
    const [sumBytes = 0, sumWorked = 0, sumSkipped = 0] = this.#sums;
    // What was quick weighs most in squares: the whole must come to the time that it took.
    const scale = this.#time / (bytes * sumBytes + worked * sumWorked + skipped * sumSkipped);
    return { bytes: bytes * scale, worked: worked * scale, skipped: skipped * scale };
  }
}

/** The value in the middle; of two, the lower one. */
function lowerMedian(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor((values.length - 1) / 2)] ?? 0;
}

/** Solves linear equations by elimination. Undefined where they tell too little: what has always come together is one. */
function solve(matrix: readonly (readonly number[])[], right: readonly number[]): number[] | undefined {
  // In units in which each is as great as the others.
  const units = matrix.map((row, index) => Math.sqrt(row[index] ?? 0));
  if (units.some((unit) => unit === 0)) return undefined;
  const unit = (index: number) => units[index] ?? 1;
  const rows = matrix.map((row, index) => [
    ...row.map((value, column) => value / (unit(index) * unit(column))),
    (right[index] ?? 0) / unit(index),
  ]);
  for (const [index, pivot] of rows.entries()) {
    const head = pivot[index] ?? 0;
    if (head < 1e-3) return undefined;
    for (const [other, row] of rows.entries()) {
      if (other === index) continue;
      const times = (row[index] ?? 0) / head;
      for (const [column, value] of pivot.entries()) row[column] = (row[column] ?? 0) - times * value;
    }
  }
  return rows.map((row, index) => (row[rows.length] ?? 0) / (row[index] ?? 1) / unit(index));
}
