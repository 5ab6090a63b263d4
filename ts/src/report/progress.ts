/**
 * What a row of snapshots says about progress: percent and time left, honestly.
 *
 * Comes in: snapshots of one job, in order; goes out: a view for each. Percent and time left are there only when the
 * totals are known, count only work still to do (what is skipped as unchanged is neither done nor left), and the percent
 * never goes back and is 100 only at the end.
 */
import type { Snapshot } from '../events.js';
import { bytes, count, duration, rate } from './units.js';

export interface View {
  snapshot: Snapshot;
  /** 0 to 100, whole. Absent until the totals are known. */
  percent?: number;
  /** Seconds. Absent until the totals are known and something moves. */
  left?: number;
  /** Bytes written a second, over the last seconds. Absent in the first view: one snapshot has no speed. */
  rate?: number;
  /** Bytes written a second, over the whole run. */
  average: number;
}

/** Seconds that the present rate looks back. */
const RATE_WINDOW = 5;
/** Seconds that the estimate of the time left looks back: longer, so that it is calm. */
const LEFT_WINDOW = 60;
/** Seconds between the samples that are kept, which bounds their number. */
const SAMPLE_SPACING = 0.5;

interface Sample {
  elapsed: number;
  written: number;
  worked: number;
}

export class Progress {
  #samples: Sample[] = [];
  #percent = 0;

  update(snapshot: Snapshot): View {
    const { elapsed, copiedBytes } = snapshot;
    const work = workOf(snapshot);
    this.#sample({ elapsed, written: copiedBytes, worked: work.done });
    const view: View = {
      snapshot,
      average: elapsed > 0 ? copiedBytes / elapsed : 0,
    };
    const now = this.#slope(RATE_WINDOW, ({ written }) => written);
    if (now !== undefined) view.rate = now;
    if (['preflight', 'scanning', 'removing'].includes(snapshot.phase)) return view;
    const share = work.total > 0 ? Math.floor((work.done / work.total) * 100) : 100;
    this.#percent = snapshot.phase === 'done' ? 100 : Math.max(this.#percent, Math.min(share, 99));
    view.percent = this.#percent;
    const speed = this.#slope(LEFT_WINDOW, ({ worked }) => worked);
    if (speed !== undefined && speed > 0) view.left = (work.total - work.done) / speed;
    return view;
  }

  #sample(sample: Sample): void {
    const last = this.#samples.at(-2);
    // The newest sample is always there; the one before it only when it is far enough from its own predecessor.
    if (last !== undefined && sample.elapsed - last.elapsed < SAMPLE_SPACING) this.#samples.pop();
    this.#samples.push(sample);
    while ((this.#samples[0]?.elapsed ?? 0) < sample.elapsed - LEFT_WINDOW) this.#samples.shift();
  }

  #slope(window: number, value: (sample: Sample) => number): number | undefined {
    const last = this.#samples.at(-1);
    const first = this.#samples.find(({ elapsed }) => last !== undefined && elapsed >= last.elapsed - window);
    if (first === undefined || last === undefined || last.elapsed <= first.elapsed) return undefined;
    return Math.max(0, value(last) - value(first)) / (last.elapsed - first.elapsed);
  }
}

/** Work in bytes; in files where no bytes are to be copied. */
function workOf(snapshot: Snapshot): { done: number; total: number } {
  const bytesToDo = snapshot.foundBytes - snapshot.skippedBytes;
  const [done, total] =
    bytesToDo > 0
      ? // Files in flight have no outcome yet, but their written bytes are work done.
        [Math.max(snapshot.doneBytes - snapshot.skippedBytes, snapshot.copiedBytes), bytesToDo]
      : [snapshot.doneFiles - snapshot.skippedFiles, Math.max(snapshot.foundFiles - snapshot.skippedFiles, 0)];
  return { done: Math.min(Math.max(done, 0), total), total };
}

/** What goes on when the copying itself is over. */
const DOING: Readonly<Record<Snapshot['phase'], string>> = {
  preflight: '',
  scanning: '',
  copying: '',
  sweeping: ', removing what is extra',
  removing: '',
  closing: ', finishing',
  proving: ', proving and removing sources',
  done: '',
};

/** One line of totals, the most important first: a narrow terminal shows its beginning. */
export function statusLine(view: View): string {
  const { snapshot, percent, left } = view;
  const { foundFiles, foundBytes, skippedFiles, skippedBytes, doneFiles, copiedBytes, errors, phase } = snapshot;
  const parts: string[] = [];
  const number = (value: number) => value.toLocaleString('en-US');
  if (phase === 'removing') {
    const { doneEntries, elapsed } = snapshot;
    const average = elapsed > 0 ? Math.round(doneEntries / elapsed) : 0;
    return [
      `removing: ${number(doneEntries)} done`,
      `${number(average)}/s`,
      count(errors, 'error'),
      duration(elapsed),
    ].join(' | ');
  }
  if (phase === 'preflight') parts.push('checking');
  else if (phase === 'scanning') {
    parts.push(`scanning: ${count(foundFiles, 'file')}, ${bytes(foundBytes)}`);
    parts.push(`${number(doneFiles - skippedFiles)} done, ${bytes(copiedBytes)}`);
  } else {
    parts.push(`${percent ?? 0}%${DOING[phase]}`);
    const total = foundBytes - skippedBytes;
    if (total > 0) parts.push(`${bytes(workOf(snapshot).done)} of ${bytes(total)}`);
    parts.push(`${number(doneFiles - skippedFiles)} of ${count(foundFiles - skippedFiles, 'file')}`);
  }
  if (view.rate !== undefined) parts.push(rate(view.rate));
  if (phase === 'copying' && left !== undefined) parts.push(`${duration(left)} left`);
  parts.push(count(errors, 'error'));
  if (phase !== 'preflight') parts.push(`average ${rate(view.average)}`);
  if (skippedFiles > 0) parts.push(`${number(skippedFiles)} unchanged`);
  parts.push(duration(snapshot.elapsed));
  return parts.join(' | ');
}
