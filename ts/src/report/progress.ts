/**
 * What a row of snapshots says about progress: percent and time left, honestly.
 *
 * Comes in: snapshots of one job, in order; goes out: a view for each. Percent and time left are there only when somebody
 * has seen how much there is in all, and are about time: the percent is the part of the run that is over, as far as what it
 * has cost so far tells. It never goes back, and is 100 only at the end.
 */
import { movedOf, type Snapshot } from '../events.js';
import type { Earlier } from '../journal/journal.js';
import { display } from '../names.js';
import { Estimate, type Left } from './estimate.js';
import { bytes, count, duration, rate } from './units.js';

export interface View {
  snapshot: Snapshot;
  /** A step beside the work: what it is, in a word. */
  aside?: string;
  /** 0 to 100, whole. Absent until it is known how much there is. */
  percent?: number;
  /** Bytes that are still to be read. Absent until sizes are known. */
  rest?: number;
  /** Seconds. Absent until it is known how much there is, and what it costs. */
  left?: number;
  /** Bytes moved a second, over the last seconds: read, copied, proved. Absent in the first view: one snapshot has no speed. */
  rate?: number;
  /** The same over the whole run. */
  average: number;
}

/** Seconds that the present rate looks back. */
const RATE_WINDOW = 5;
/** Hosts that a line tells of. */
const MOST_HOSTS = 16;
/** Seconds between the samples that are kept, which bounds their number. */
const SAMPLE_SPACING = 0.5;

type Expected = NonNullable<Snapshot['expected']>;

interface Sample {
  elapsed: number;
  moved: number;
}

export class Progress {
  readonly #estimate = new Estimate();
  #samples: Sample[] = [];
  #percent = 0;
  /** Bytes of files that are done, and what of those that went through a run is theirs: the others are of files in flight. */
  #done = 0;
  #settled = 0;
  /** The part of all that earlier runs have done. */
  #before = 0;

  /** `aside`: the job is a step beside the work, of this name. */
  constructor(readonly aside?: string) {}

  /** The job goes on where an earlier run has left it: its percent begins there. */
  resume(earlier: Earlier): void {
    this.#before = shareOf(earlier) ?? 0;
    this.#percent = Math.max(this.#percent, Math.min(Math.floor(this.#before * 100), 99));
  }

  update(snapshot: Snapshot): View {
    const { elapsed, phase, stopping } = snapshot;
    const moved = movedOf(snapshot);
    this.#sample({ elapsed, moved });
    const view: View = {
      snapshot,
      ...(this.aside !== undefined && { aside: this.aside }),
      average: elapsed > 0 ? moved / elapsed : 0,
    };
    const now = this.#rate();
    if (now !== undefined) view.rate = now;
    // What is left of a run that was told to stop is left for the next one.
    const rest = this.#rest(snapshot);
    if (rest !== undefined && snapshot.expected?.toRead !== undefined) view.rest = rest.bytes;
    const left = stopping === undefined ? this.#left(snapshot, rest) : undefined;
    if (left !== undefined) {
      view.left = left;
      const share = elapsed + left > 0 ? elapsed / (elapsed + left) : 0;
      const percent = Math.floor((this.#before + (1 - this.#before) * share) * 100);
      this.#percent = Math.max(this.#percent, Math.min(percent, 99));
    }
    if (phase === 'done') view.percent = 100;
    else if (left !== undefined || this.#percent > 0) view.percent = this.#percent;
    return view;
  }

  /** What is still to be done, as far as that is known. */
  #rest(snapshot: Snapshot): Left | undefined {
    const { expected, doneBytes } = snapshot;
    if (expected === undefined) return undefined;
    const through = throughOf(snapshot);
    // A hole takes no reading: no more of a file that is done went through than there was.
    this.#settled = Math.min(
      through,
      this.#settled + Math.max(0, doneBytes - this.#done) * perByteOf(snapshot, expected),
    );
    this.#done = doneBytes;
    return leftOf(snapshot, expected, through - this.#settled);
  }

  #left(snapshot: Snapshot, rest: Left | undefined): number | undefined {
    const { elapsed, phase, skippedFiles, workedEntries } = snapshot;
    const done = { bytes: movedOf(snapshot), worked: workedEntries - skippedFiles, skipped: skippedFiles };
    // Before the work there is no telling how long it takes.
    const left = phase === 'preflight' ? undefined : rest;
    // It learns from the beginning, also while nobody knows how much there is.
    return this.#estimate.update(elapsed, done, left);
  }

  #sample(sample: Sample): void {
    const last = this.#samples.at(-2);
    // The newest sample is always there; the one before it only when it is far enough from its own predecessor.
    if (last !== undefined && sample.elapsed - last.elapsed < SAMPLE_SPACING) this.#samples.pop();
    this.#samples.push(sample);
    while ((this.#samples[0]?.elapsed ?? 0) < sample.elapsed - RATE_WINDOW) this.#samples.shift();
  }

  #rate(): number | undefined {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    if (first === undefined || last === undefined || last.elapsed <= first.elapsed) return undefined;
    return Math.max(0, last.moved - first.moved) / (last.elapsed - first.elapsed);
  }
}

/** The part that is done, by bytes where there are any; undefined where nobody knows how much there is. */
function shareOf({ entries, bytes, expectedEntries, expectedBytes }: Earlier): number | undefined {
  if (expectedBytes) return Math.min(1, bytes / expectedBytes);
  return expectedEntries ? Math.min(1, entries / expectedEntries) : undefined;
}

/** What a job that goes on says of what there is. */
export function resumedText(earlier: Earlier): string {
  const { id, attempts, entries, bytes: size, errors } = earlier;
  const share = shareOf(earlier);
  if (entries === 0) return `goes on with job ${id}, which was begun in ${count(attempts, 'run')} before`;
  const part = share === undefined ? '' : `, ${Math.floor(share * 100)} %`;
  const failed = errors > 0 ? `, ${count(errors, 'failure')}` : '';
  return (
    `goes on with job ${id}: ${count(entries, 'entry', 'entries')} (${bytes(size)}${part}) were done with` +
    `${failed} in ${count(attempts, 'run')} before`
  );
}

/** The same with what an earlier run has left, which costs nothing. */
const throughOf = (snapshot: Snapshot) => movedOf(snapshot) + snapshot.resumedBytes;

/** How often each byte of what is left is read, as far as can be told. */
function perByteOf({ doneBytes, skippedBytes }: Snapshot, { bytes = 0, toRead = 0 }: Expected): number {
  const all = bytes > 0 ? toRead / bytes : 0;
  // Where everything is proved, what is there already is read beside its source, once, and what is copied twice.
  const skipped = doneBytes > 0 ? skippedBytes / doneBytes : 0;
  return all - Math.max(0, all - 1) * skipped;
}

/**
 * What is still to be done. The tree may have grown or shrunk since it was looked at. `inFlight`: bytes that went through for files
 * that are not done.
 */
function leftOf(snapshot: Snapshot, expected: Expected, inFlight: number): Left | undefined {
  const entries = Math.max(0, expected.toDo - snapshot.workedEntries);
  if (expected.bytes === undefined || expected.toRead === undefined) {
    // Sizes are not known yet: what comes is taken for what has been. Before the first has come, nobody knows.
    if (snapshot.workedEntries === 0) return undefined;
    return { bytes: (movedOf(snapshot) / snapshot.workedEntries) * entries, entries };
  }
  const byReading = expected.toRead - throughOf(snapshot);
  // What is skipped is not read as expected: files without an outcome tell it, where each is looked at once.
  const files = (expected.bytes - snapshot.doneBytes) * perByteOf(snapshot, expected) - inFlight;
  const byFiles = expected.toDo > expected.entries ? byReading : files;
  return { bytes: Math.max(0, Math.min(byReading, byFiles)), entries };
}

/** What goes on beside or after the copying. */
export const DOING: Readonly<Record<Snapshot['phase'], string>> = {
  preflight: 'checking',
  scanning: '',
  copying: '',
  sweeping: 'counting what is extra',
  removing: 'removing',
  closing: 'finishing',
  proving: 'proving and removing sources',
  done: '',
};

function doingText({ phase, sweep }: Snapshot): string {
  if (phase !== 'sweeping' || sweep === undefined) return DOING[phase];
  return `removing what is extra: ${number(sweep.gone)} of ${number(sweep.of)}`;
}

/** A piece of the line: it goes as a whole where there is no room, those with the lowest priority first. */
interface Field {
  text: string;
  priority: number;
  /** In its place where the line is too short for it alone. */
  short?: string;
}

/** What is synced, and for how long it has been, in seconds. */
function syncingText(since: number): string {
  return `syncing what was written (${duration(since)})`;
}

/** What a run that was told to stop waits for: `stopping: 2 files in flight, 80.0 MiB left`. */
export function stoppingText({ stopping }: Snapshot): string {
  if (stopping === undefined || stopping.files === 0) return 'stopping';
  return `stopping: ${count(stopping.files, 'file')} in flight, ${bytes(stopping.bytes)} left`;
}

/** One line of totals; at most `width` columns, by leaving out whole fields: where none has room there is nothing. */
export function statusLine(view: View, width = Number.POSITIVE_INFINITY): string {
  const fields = fieldsOf(view).map(({ text, priority, short = text }) => ({
    text: text.length > width ? short : text,
    priority,
  }));
  const line = () => fields.map(({ text }) => text).join(' | ');
  while (fields.length > 0 && line().length > width) {
    const least = fields.reduce((one, other) => (other.priority < one.priority ? other : one));
    fields.splice(fields.indexOf(least), 1);
  }
  return line();
}

const number = (value: number) => value.toLocaleString('en-US');

function fieldsOf({ snapshot, aside, percent, left, rest, rate: now, average }: View): Field[] {
  const { phase, foundFiles, foundBytes, skippedFiles, doneFiles, doneEntries, errors, elapsed, expected } = snapshot;
  const fields: Field[] = [];
  const add = (priority: number, text: string, short?: string) =>
    fields.push({ text, priority, ...(short !== undefined && { short }) });
  const wrong = errors > 0 ? 8 : 2;
  if (snapshot.stopping !== undefined) {
    add(10, stoppingText(snapshot), 'stopping');
    if (snapshot.syncing !== undefined) add(9, syncingText(snapshot.syncing), 'syncing');
    if (now !== undefined) add(6, rate(now));
    add(wrong, count(errors, 'error'));
    add(3, duration(elapsed));
    return fields;
  }
  if (aside !== undefined) add(9, aside);
  if (percent !== undefined) add(10, `${percent}%`);
  if (phase === 'removing') {
    const all = expected && number(Math.max(expected.entries, doneEntries));
    const of = expected?.estimated ? 'of about' : 'of';
    add(9, `removing: ${number(doneEntries)} ${all === undefined ? 'done' : `${of} ${all}`}`, 'removing');
    if (left !== undefined) add(7, `${duration(left)} left`);
    add(5, `${number(elapsed > 0 ? Math.round(doneEntries / elapsed) : 0)}/s`);
    add(wrong, count(errors, 'error'));
    add(3, duration(elapsed));
    return fields;
  }
  // What a step beside the work checks first is part of what it says that it does.
  const said = aside !== undefined && phase === 'preflight' ? '' : doingText(snapshot);
  const doing = snapshot.syncing === undefined ? said : syncingText(snapshot.syncing);
  const [short] = doing.split(' ');
  if (doing !== '') add(9, doing, short);
  if (phase !== 'preflight') {
    const done = `${number(doneFiles)} of`;
    if (expected) {
      const moved = throughOf(snapshot);
      // What is skipped is read once, or not at all: the total is what will have been read.
      add(4, rest === undefined ? `${bytes(moved)} done` : `${bytes(moved)} of ${bytes(moved + rest)}`);
      add(3, `${done} ${count(Math.max(expected.files, foundFiles), 'file')}`);
    } else {
      const known = phase === 'scanning' ? 'found so far' : 'found';
      add(7, `${done} ${count(foundFiles, 'file')} ${known}`, `${done} ${number(foundFiles)}`);
      add(4, `${bytes(throughOf(snapshot))} done, ${bytes(foundBytes)} seen`);
    }
  }
  // While something is synced or extra entries go, there is no telling.
  const told = doing === '' || (phase === 'proving' && snapshot.syncing === undefined);
  if (left !== undefined && told) add(7, `${duration(left)} left`);
  // Before the work nothing moves.
  if (now !== undefined && phase !== 'preflight') add(6, rate(now));
  add(wrong, count(errors, 'error'));
  if (phase !== 'preflight') add(1, `average ${rate(average)}`);
  const { hosts = [], parts } = snapshot;
  if (parts !== undefined) {
    const done = hosts.reduce((sum, host) => sum + host.parts, 0);
    add(2, `${number(done)} of ${count(parts, 'part')}`);
  }
  if (hosts.length > 1) {
    const told = hosts.slice(0, MOST_HOSTS).map((host) => `${display(host.host)} ${rate(host.rate)}`);
    const more = hosts.length > MOST_HOSTS ? [`${hosts.length - MOST_HOSTS} more`] : [];
    add(1, [...told, ...more].join(', '));
  }
  if (skippedFiles > 0) add(2, `${number(skippedFiles)} unchanged`);
  add(3, duration(elapsed));
  return fields;
}
