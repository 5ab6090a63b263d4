/**
 * A verification that writes files anew which are not as manifests say, from a copy that is.
 *
 * Comes in: the addon's jobs that it is made of, and where the copy is; goes out: one job. It verifies the directory, then of
 * what is damaged there the copy, copies what is good in that, and verifies it once more. Promises: nothing is written that
 * the copy was not proved to have by the manifests, read from the medium; what is written appears whole, is synced, and is
 * proved by the manifests again, read from the medium; what somebody wrote to after the copy was made, stays. A file that is
 * good in the end has the outcome `copied` and an `entry` event; any other its failure, with why it was not repaired. A directory
 * that was missing is made where a file in it is written.
 */
import { lstat, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BulkhaulError } from '../../error.js';
import { toBytes } from '../../names.js';
import type {
  NativeEntryEvent,
  NativeEvent,
  NativeFailure,
  NativeReport,
  NativeSnapshot,
} from '../../native/events.js';
import type { Limits, NativeVerifyOptions } from '../../native/options.js';
import type { NativeJob } from '../../native.js';
import { follow } from '../job.js';
import { EventQueue } from '../queue.js';

/** What a repair is made of. */
export interface RepairParts {
  /** Verifies all that was asked for, or of it the content of nothing but these files. */
  verify(files?: Pick<NativeVerifyOptions, 'directory' | 'only'>): NativeJob;
  /** Copies the files of a list, ended by NUL, over those of the directory. */
  copy(list: string): NativeJob;
  directory: string;
  /** Where the copy is. */
  from: string;
  /** A directory for temporary files. */
  scratch: string;
}

/** Damaged files that one run repairs: so many names are in memory. */
const MOST_FILES = 100_000;

/** What makes a failure one that a copy may repair. */
function isDamaged({ kind, operation, entryKind }: NativeFailure): boolean {
  if (entryKind === 'directory') return kind === 'missing';
  return (
    entryKind === 'file' && (kind === 'mismatch' || kind === 'missing' || (operation === 'read' && kind !== 'changed'))
  );
}

/** Throws where the copy is the directory itself, or is not there. */
export async function checkCopy(directory: string, from: string): Promise<void> {
  const [here, there] = await Promise.all([facts(toBytes(directory), stat), facts(toBytes(from), stat)]);
  if (there === undefined) throw new BulkhaulError('NO_SOURCE', `${from} can't be looked at`);
  if (here !== undefined && here.dev === there.dev && here.ino === there.ino) {
    throw new BulkhaulError('USAGE', `${from} is ${directory} itself: it can't be repaired from there`);
  }
}

export class RepairingJob implements NativeJob {
  readonly #events = new EventQueue();
  /** The failures that may be repaired, by the names of their files. */
  readonly #damaged = new Map<string, NativeFailure>();
  /** Those that have ended. */
  readonly #before: NativeSnapshot[] = [];
  #current: NativeJob;
  #cancelled: boolean | undefined;
  #limits: Limits | undefined;
  #stallTimeout = 0;
  #begun = 0;
  #elapsed: number | undefined;

  constructor(readonly parts: RepairParts) {
    this.#current = parts.verify();
  }

  async run(): Promise<NativeReport> {
    this.#begun = performance.now();
    try {
      return await this.#run();
    } finally {
      this.#elapsed = (performance.now() - this.#begun) / 1000;
      this.#events.end();
    }
  }

  async #run(): Promise<NativeReport> {
    const found = await this.#stage(this.#current, (event) => {
      const name =
        event.type === 'error' && isDamaged(event) ? this.#name(event.path, this.parts.directory) : undefined;
      if (name === undefined || event.type !== 'error' || this.#damaged.size >= MOST_FILES)
        return this.#events.tell(event);
      this.#damaged.set(name, event);
    });
    const repair = new Repair();
    if (!found.interrupted && this.#damaged.size > 0) await this.#repair(repair);
    for (const [name, failure] of this.#damaged) {
      const copied = repair.copied.get(name);
      const why = repair.left.get(name);
      if (repair.made.has(name)) continue;
      if (copied !== undefined && why === undefined) await this.#events.tell(copied);
      else await this.#events.tell(why === undefined ? failure : explained(failure, why));
    }
    return this.#report(found, repair);
  }

  async #repair(repair: Repair): Promise<void> {
    const { directory, from } = this.parts;
    const names = [...this.#damaged].flatMap(([name, { entryKind }]) => (entryKind === 'file' ? [name] : []));
    if (names.length === 0) return;
    const { wrong: bad } = await this.#check(from, names, repair);
    const good: string[] = [];
    for (const name of names) {
      const [old, copy] = await Promise.all([facts(below(directory, name)), facts(below(from, name))]);
      const wrong = bad.get(name);
      if (wrong !== undefined || copy === undefined)
        repair.left.set(name, `the copy is not good either: ${wrong ?? 'it is not there'}`);
      else if (old !== undefined && this.#damaged.get(name)?.kind === 'missing')
        // What is there was seen by another name, where case or the form of letters makes no other file.
        repair.left.set(name, 'its name leads to another file there');
      else if (old !== undefined && old.mtimeNs > copy.mtimeNs)
        repair.left.set(name, 'it was written to after its copy was made');
      else good.push(name);
    }
    if (good.length === 0 || repair.interrupted) return;
    await this.#copy(good, repair);
    if (repair.interrupted) return;
    const { wrong, report } = await this.#check(directory, good, repair);
    repair.proved = report;
    for (const [name, why] of wrong) if (!repair.left.has(name)) repair.left.set(name, why);
    const written = good.filter((name) => repair.has(name));
    for (const [name, { entryKind }] of this.#damaged) {
      if (entryKind === 'directory' && written.some((file) => file.startsWith(`${name}/`))) repair.made.add(name);
    }
  }

  /** Verifies nothing but these files below a directory; why some are not good. */
  async #check(directory: string, names: readonly string[], repair: Repair) {
    const wrong = new Map<string, string>();
    const only = names.map((name) => Buffer.from(name, 'latin1'));
    const job = this.parts.verify({ directory: toBytes(directory), only });
    const report = await this.#stage(job, (event) => {
      const name = event.type === 'error' ? this.#name(event.path, directory) : undefined;
      if (name !== undefined && event.type === 'error') wrong.set(name, event.message);
    });
    repair.add(report);
    return { wrong, report };
  }

  async #copy(names: readonly string[], repair: Repair): Promise<void> {
    const { directory, from, scratch } = this.parts;
    const temporary = await mkdtemp(join(scratch, 'bulkhaul-repair-'));
    try {
      const list = join(temporary, 'list');
      await writeFile(list, Buffer.concat(names.flatMap((name) => [Buffer.from(name, 'latin1'), Buffer.of(0)])));
      const report = await this.#stage(this.parts.copy(list), (event) => {
        if (event.type === 'entry' && event.kind === 'file') repair.copied.set(event.path.toString('latin1'), event);
        if (event.type !== 'error') return;
        const name = this.#name(event.path, directory) ?? this.#name(event.path, from);
        if (name !== undefined) repair.left.set(name, event.message);
      });
      repair.add(report);
    } finally {
      await rm(temporary, { recursive: true, force: true });
    }
  }

  /** The name of a path below a directory, as the addon writes such paths. */
  #name(path: Buffer, directory: string): string | undefined {
    const root = toBytes(directory.endsWith('/') ? directory : `${directory}/`);
    return path.subarray(0, root.length).equals(root) ? path.subarray(root.length).toString('latin1') : undefined;
  }

  /** Runs one of the jobs to its end. */
  async #stage(job: NativeJob, take: (event: NativeEvent) => void | Promise<void>): Promise<NativeReport> {
    if (job !== this.#current) this.#before.push(this.#current.peek());
    this.#current = job;
    if (this.#limits !== undefined) job.setLimits(this.#limits);
    job.setStallTimeout(this.#stallTimeout);
    if (this.#cancelled !== undefined) job.cancel(this.#cancelled);
    return follow(job, take);
  }

  /** What the verification found, and what became of it. */
  #report({ added: _, updated: __, ...found }: NativeReport, repair: Repair): NativeReport {
    const report: NativeReport = {
      ...found,
      outcomes: { ...found.outcomes },
      files: { ...found.files },
      directories: { ...found.directories },
      failureKinds: { ...found.failureKinds },
      failures: [],
      copiedBytes: found.copiedBytes + repair.copiedBytes,
      verifiedFiles: found.verifiedFiles + (repair.proved?.verifiedFiles ?? 0),
      verifiedBytes: found.verifiedBytes + (repair.proved?.verifiedBytes ?? 0),
      verifiedFromCache: found.verifiedFromCache + (repair.proved?.verifiedFromCache ?? 0),
      notes: [...found.notes, ...repair.notes],
      accounted: found.accounted && repair.accounted,
      interrupted: found.interrupted || repair.interrupted,
      elapsed: (performance.now() - this.#begun) / 1000,
    };
    for (const [name, { kind, outcome, entryKind }] of this.#damaged) {
      if (!repair.has(name)) continue;
      const became = entryKind === 'directory' ? 'made' : 'copied';
      for (const counts of [report.outcomes, entryKind === 'directory' ? report.directories : report.files]) {
        counts[outcome] -= 1;
        counts[became] += 1;
      }
      report.failureKinds[kind] = (report.failureKinds[kind] ?? 1) - 1;
      if (report.failureKinds[kind] === 0) delete report.failureKinds[kind];
    }
    report.failures = found.failures.flatMap((failure) => {
      const name = this.#name(failure.path, this.parts.directory) ?? '';
      if (!this.#damaged.has(name) || !isDamaged(failure)) return [failure];
      if (repair.has(name)) return [];
      const why = repair.left.get(name);
      return [why === undefined ? failure : explained(failure, why)];
    });
    return report;
  }

  nextEvents() {
    return this.#events.next();
  }

  cancel(abort: boolean): void {
    this.#cancelled = abort || (this.#cancelled ?? false);
    this.#current.cancel(abort);
  }

  setLimits(limits: Limits): void {
    this.#current.setLimits(limits);
    this.#limits = limits;
  }

  setStallTimeout(seconds: number): void {
    this.#stallTimeout = seconds;
  }

  answer(): void {}

  peek(): NativeSnapshot {
    return this.#sum((job) => job.peek());
  }

  snapshot(): NativeSnapshot {
    return this.#sum((job) => job.snapshot());
  }

  /** How far all of it is: what has ended counts as it was. */
  #sum(look: (job: NativeJob) => NativeSnapshot): NativeSnapshot {
    const last = look(this.#current);
    const { errors } = this.#before[0] ?? last;
    const total = { ...last };
    for (const counter of COUNTERS) total[counter] += this.#before.reduce((sum, each) => sum + each[counter], 0);
    const { expected } = last;
    if (expected !== undefined) {
      const done = (counter: (typeof COUNTERS)[number]) => total[counter] - last[counter];
      total.expected = {
        entries: expected.entries + done('doneEntries'),
        files: expected.files + done('doneFiles'),
        ...(expected.bytes !== undefined && { bytes: expected.bytes + done('doneBytes') }),
        ...(expected.toRead !== undefined && { toRead: expected.toRead + done('readBytes') }),
        toDo: expected.toDo + done('workedEntries'),
      };
    }
    return { ...total, errors, elapsed: this.#elapsed ?? (performance.now() - this.#begun) / 1000 };
  }
}

const COUNTERS = [
  ...(['foundFiles', 'foundBytes', 'foundDirectories', 'foundLinks', 'doneEntries', 'doneFiles', 'doneBytes'] as const),
  ...(['skippedFiles', 'skippedBytes', 'copiedBytes', 'copiedFiles', 'verifiedBytes', 'readBytes'] as const),
  'workedEntries',
] as const;

/** What came of a repair so far. */
class Repair {
  /** Files that were copied, by their names. */
  readonly copied = new Map<string, NativeEntryEvent>();
  /** Directories that were made for them. */
  readonly made = new Set<string>();
  /** Why others, or these, are not good. */
  readonly left = new Map<string, string>();
  readonly notes: NativeReport['notes'] = [];
  copiedBytes = 0;
  /** What proved those that were copied. */
  proved: NativeReport | undefined;
  accounted = true;
  interrupted = false;

  /** Whether it is good now. */
  has(name: string): boolean {
    return this.made.has(name) || (this.copied.has(name) && !this.left.has(name));
  }

  add(report: NativeReport): void {
    this.copiedBytes += report.copiedBytes;
    this.accounted &&= report.accounted;
    this.interrupted ||= report.interrupted;
    this.notes.push(...report.notes);
  }
}

function explained(failure: NativeFailure, why: string): NativeFailure {
  return { ...failure, message: `${failure.message}; it was not repaired: ${why}` };
}

function below(directory: string, name: string): Buffer {
  return Buffer.concat([toBytes(directory.replace(/\/*$/, '/')), Buffer.from(name, 'latin1')]);
}

/** Of an entry, or with `stat` of what it leads to; undefined where there are none. */
async function facts(path: Buffer, look: typeof lstat = lstat) {
  return look(path, { bigint: true }).catch(() => undefined);
}
