/**
 * Numbers out of repeated measurements: seconds (or KiB) go in, medians, spreads, ratios and verdicts come out. Pure.
 */

/**
 * The middle value; of an even number of values the mean of the two in the middle.
 * @param {readonly number[]} values at least one
 */
export function median(values) {
  if (values.length === 0) throw new RangeError('no values have no median');
  const sorted = [...values].sort((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  const [lower = Number.NaN, upper = Number.NaN] = [sorted[Math.floor(middle)], sorted[Math.ceil(middle)]];
  return (lower + upper) / 2;
}

/**
 * @typedef {object} Summary
 * @property {number} median
 * @property {number} min
 * @property {number} max
 * @property {number} spread (max - min) / median: how far single runs were apart; 0 when all were equal
 */

/**
 * @param {readonly number[]} values at least one
 * @returns {Summary}
 */
export function summary(values) {
  const middle = median(values);
  const min = Math.min(...values);
  const max = Math.max(...values);
  return { median: middle, min, max, spread: max === min ? 0 : (max - min) / middle };
}

/**
 * The ratio of the medians of two series; undefined where one has no values.
 * @param {readonly number[]} above
 * @param {readonly number[]} below
 */
export function ratio(above, below) {
  return above.length === 0 || below.length === 0 ? undefined : median(above) / median(below);
}

/**
 * What a contender of a row was measured at, one value a round.
 * @typedef {object} Series
 * @property {string} name
 * @property {'yardstick' | 'ours' | 'peer'} role
 * @property {readonly number[]} wall seconds
 * @property {readonly number[]} cpu seconds, user and system, of all processes
 * @property {readonly number[]} resident KiB, of the largest process
 * @property {readonly number[]} durable seconds until `sync -f` of the destination had ended too; empty where not asked
 */

/**
 * What a row has to reach. One of:
 * `atMost`: times the wall time of the contender `than`; `faster`: `than` takes at least that many times as long;
 * `resident`: MiB of memory at most.
 * @typedef {object} Target
 * @property {string} [of] the contender that must reach it; the first of ours otherwise
 * @property {string} [than]
 * @property {number} [atMost]
 * @property {number} [faster]
 * @property {number} [resident]
 */

/**
 * @typedef {object} Verdict
 * @property {string} text what was to be reached
 * @property {number | undefined} value what was reached; undefined: not measured
 * @property {boolean | undefined} reached
 */

/**
 * @param {Target} target
 * @param {readonly Series[]} series of the row
 * @returns {Verdict}
 */
export function verdict(target, series) {
  const ours = series.find((each) => (target.of === undefined ? each.role === 'ours' : each.name === target.of));
  const of = target.of === undefined ? '' : `${target.of}: `;
  if (target.resident !== undefined) {
    const text = `${of}at most ${target.resident} MiB resident`;
    const value = ours && ours.resident.length > 0 ? Math.max(...ours.resident) / 1024 : undefined;
    return { text, value, reached: value === undefined ? undefined : value <= target.resident };
  }
  const other = series.find((each) => each.name === target.than);
  if (target.atMost !== undefined) {
    const value = ratio(ours?.wall ?? [], other?.wall ?? []);
    const text = `${of}at most ${target.atMost} times as long as ${target.than}`;
    return { text, value, reached: value === undefined ? undefined : value <= target.atMost };
  }
  if (target.faster === undefined) throw new TypeError('a target says what is to be reached');
  const value = ratio(other?.wall ?? [], ours?.wall ?? []);
  const text = `${of}at least ${target.faster} times as fast as ${target.than}`;
  return { text, value, reached: value === undefined ? undefined : value >= target.faster };
}
