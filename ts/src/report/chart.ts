/**
 * Speed over time as a picture: stretches in, an SVG or a line of blocks out. It needs no script and no style of its own:
 * colours are the page's.
 */
import type { Stretch } from './story.js';

/** Units of the picture; it is drawn as wide as there is room. */
const WIDTH = 720;
const HEIGHT = 160;
const LEFT = 84;
const BOTTOM = 22;
const TOP = 10;

export interface Chart {
  /** What it shows, for whoever does not see it. */
  title: string;
  /** A rate in words. */
  rate: (perSecond: number) => string;
  /** A time in words. */
  time: (seconds: number) => string;
}

/** Steps, one a stretch, over time; empty where there is nothing to show. */
export function chart(stretches: readonly Stretch[], amount: (stretch: Stretch) => number, words: Chart): string {
  const end = stretches.at(-1)?.to ?? 0;
  const rates = stretches.map((stretch) => amount(stretch) / (stretch.to - stretch.from));
  const top = Math.max(...rates);
  if (stretches.length < 2 || !(top > 0)) return '';
  const x = (seconds: number) => round(LEFT + (seconds / end) * (WIDTH - LEFT - 4));
  const y = (rate: number) => round(HEIGHT - BOTTOM - (rate / top) * (HEIGHT - BOTTOM - TOP));
  const steps = stretches.map(({ from, to }, index) => {
    const level = y(rates[index] ?? 0);
    return `L${x(from)} ${level}L${x(to)} ${level}`;
  });
  const line = steps.join('').replace('L', 'M');
  const base = y(0);
  const lines = [top, top / 2, 0].map(
    (rate) =>
      `<line class="grid" x1="${LEFT}" x2="${WIDTH - 4}" y1="${y(rate)}" y2="${y(rate)}"/>` +
      `<text x="${LEFT - 8}" y="${y(rate) + 4}" text-anchor="end">${words.rate(rate)}</text>`,
  );
  const times = [0, end / 2, end].map((seconds, index) => {
    const anchor = ['start', 'middle', 'end'][index];
    return `<text x="${x(seconds)}" y="${HEIGHT - 6}" text-anchor="${anchor}">${words.time(seconds)}</text>`;
  });
  return (
    `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${words.title}">` +
    `${lines.join('')}<path class="area" d="${line}L${x(end)} ${base}L${x(0)} ${base}Z"/>` +
    `<path class="line" d="${line}"/>${times.join('')}</svg>`
  );
}

const round = (value: number) => Math.round(value * 10) / 10;

const BLOCKS = '▁▂▃▄▅▆▇█';

/** The same as text, of at most so many columns. */
export function sparkline(
  stretches: readonly Stretch[],
  amount: (stretch: Stretch) => number,
  columns: number,
): string {
  const [first, last] = [stretches[0]?.from ?? 0, stretches.at(-1)?.to ?? 0];
  const number = Math.min(columns, stretches.length);
  if (number < 2 || last <= first) return '';
  const width = (last - first) / number;
  const sums = new Array<number>(number).fill(0);
  for (const stretch of stretches) {
    // Each column has of a stretch what falls into it.
    for (let column = 0; column < number; column += 1) {
      const from = Math.max(stretch.from, first + column * width);
      const to = Math.min(stretch.to, first + (column + 1) * width);
      if (to > from) sums[column] = (sums[column] ?? 0) + (amount(stretch) * (to - from)) / (stretch.to - stretch.from);
    }
  }
  return blocks(sums);
}

/** Numbers as blocks of their heights; empty where all are 0. */
export function blocks(numbers: readonly number[]): string {
  const top = Math.max(...numbers);
  if (!(top > 0)) return '';
  return numbers.map((each) => BLOCKS[Math.round((each / top) * (BLOCKS.length - 1))]).join('');
}
