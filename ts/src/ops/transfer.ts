/**
 * Copying a source in parts, each by a run of a tool: the real rsync, the real rclone, or bulkhaul as a program; here, or
 * shared out to hosts.
 *
 * Comes in: the parts as lists of names, the tool and the hosts; goes out: a running `Job`. Each entry of a part ends in one
 * outcome: what a tool told of is held against what the list has, and where that does not agree, or the tool says that
 * something is missing, a run that only looks finds out which entries are not there. Those alone are tried once more, and
 * what is missing then is a failure with its name. A part whose host is lost goes to another. No program is left when the
 * job has ended.
 */
import { isUtf8 } from 'node:buffer';
import { createWriteStream, type WriteStream } from 'node:fs';
import { lstat, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BulkhaulError, whyOf } from '../error.js';
import { display, toBytes } from '../names.js';
import type { EntryKind, NativeReport, NativeSnapshot } from '../native/events.js';
import type { Limits } from '../native/options.js';
import type { NativeJob } from '../native.js';
import { Job } from './job.js';
import type { Crew, Place } from './transfer/crew.js';
import { Ledger, total } from './transfer/ledger.js';
import { Lengths } from './transfer/lengths.js';
import { namesIn, type Part } from './transfer/list.js';
import { PartLog } from './transfer/log.js';
import type { Running } from './transfer/program.js';
import { LOST, startOn } from './transfer/ssh.js';
import { Tally } from './transfer/tally.js';
import type { Pass, Told, Tool, Verdict } from './transfer/tool.js';

/** What is transferred, and how. */
export interface TransferOptions {
  /** The directory whose content is copied. */
  source: string;
  /** What it comes into. */
  destination: string;
  /** What copies. */
  tool: Tool;
  /** The parts of the source. */
  parts: readonly Part[];
  /** Parts at a time. */
  jobs: number;
  /** Who takes part. */
  crew: Crew;
  /** What there is in the source, as a planner has counted. Absent: the tool tells. */
  found?: Readonly<Record<EntryKind, number>> | undefined;
  /** What of that is in no list, because the tool can't copy it. Absent: nothing. */
  leftOut?: Partial<Readonly<Record<EntryKind, number>>> | undefined;
  /** The lists name trees: all that is below their directories comes too. Default false. */
  trees?: boolean;
  /** A directory for a log of each part. Absent: there are none. */
  logs?: string | undefined;
  /** A directory for lists of what failed. */
  scratch: string;
  /** Bytes a second, of all parts together. Default 0: no limit. */
  limit?: number;
  /** Nothing is copied, nor made: the tools only look. Default false. */
  dryRun?: boolean;
  /** Iterating gives an `entry` event for each entry that a tool tells of. Default false. */
  entries?: boolean;
}

/** Reasons of failures that are kept until the failures are told. */
const MOST_REASONS = 1000;
/** Runs more of a part whose connection broke though its hosts answer. */
const MORE_RUNS = 2;
/** Entries that are looked for at once: so many names are in memory. */
const BATCH = 20_000;
/** Lines of complaint that are kept for the words of a failure. */
const MOST_SAID = 2;

const END = Buffer.from([0]);
const DIRECTORY_END = Buffer.from('/\0');

/** Runs a transfer. */
export function transfer(options: TransferOptions): Job {
  return new Job(async () => ({ native: new Transfer(options) }), undefined, undefined, options.dryRun);
}

type Entry = Extract<Told, { type: 'entry' }>;

/** A list to be worked on. */
interface Work {
  part: Part;
  list: string;
  what: Pass['what'];
  tally: Tally;
  log: PartLog | undefined;
  /** How long were the files that were copied, where that is to be seen. */
  lengths: Lengths | undefined;
  /** The tools only look. */
  dryRun: boolean;
  /** Takes what is told, of a run that only looks what is not there yet. */
  look?: (told: Entry) => void | Promise<void>;
}

/** How the runs over a list ended. */
interface End {
  verdict: Verdict | 'stopped';
  /** Why, where it did not work. */
  message: string;
}

class Transfer implements NativeJob {
  readonly #ledger: Ledger;
  readonly #running = new Set<Running>();
  /** Of lists that are worked on. */
  readonly #tallies = new Set<Tally>();
  /** Why an entry failed, by its name, as far as a tool said. */
  readonly #reasons = new Map<string, string>();
  #phase: NativeSnapshot['phase'] = 'preflight';
  #stopping: 'no' | 'gently' | 'now' = 'no';
  #workers = 0;
  #mostWorkers = 0;
  #lists = 0;
  #begun = 0;
  #elapsed: number | undefined;

  constructor(readonly options: TransferOptions) {
    const { found, leftOut = {}, parts } = options;
    this.#ledger = new Ledger(found);
    this.#ledger.foundBytes = parts.reduce((sum, { bytes = 0 }) => sum + bytes, 0);
    for (const [kind, many] of Object.entries(leftOut)) this.#ledger.skip('not-a-file', kind as EntryKind, many);
  }

  async run(): Promise<NativeReport> {
    this.#begun = performance.now();
    this.options.crew.note = (message) => this.#note('host', message);
    try {
      await this.#work();
    } finally {
      this.#elapsed = (performance.now() - this.#begun) / 1000;
      this.#phase = 'done';
      this.#ledger.events.end();
    }
    return this.#ledger.report({
      interrupted: this.#stopping !== 'no',
      workers: this.#mostWorkers,
      elapsed: this.#elapsed,
      dryRun: this.options.dryRun ?? false,
    });
  }

  nextEvents() {
    return this.#ledger.events.next();
  }

  cancel(abort: boolean): void {
    if (this.#stopping !== 'now') this.#stopping = abort ? 'now' : 'gently';
    for (const running of this.#running) running.stop(abort);
  }

  setLimits(_limits: Limits): void {
    throw new BulkhaulError('USAGE', 'the limit of a transfer is set when it begins');
  }

  setStallTimeout(seconds: number): void {
    if (seconds > 0) throw new BulkhaulError('USAGE', 'a transfer has no stall timeout');
  }

  answer(): void {}

  peek(): NativeSnapshot {
    return this.snapshot();
  }

  snapshot(): NativeSnapshot {
    const { found, limit = 0 } = this.options;
    const { outcomes, files, foundBytes, copiedBytes, doneBytes, errors } = this.#ledger;
    const sum = (of: (tally: Tally) => number) => [...this.#tallies].reduce((all, tally) => all + of(tally), 0);
    const entries = total(outcomes) + sum(({ told }) => told);
    const doneFiles = total(files) + sum(({ kinds }) => kinds.file ?? 0);
    const copied = copiedBytes + sum(({ writtenSoFar }) => writtenSoFar);
    const done = Math.max(copied, doneBytes + sum(({ bytes }) => bytes));
    const all = found && { entries: total(found), files: found.file, bytes: foundBytes };
    return {
      phase: this.#phase,
      foundFiles: all?.files ?? doneFiles,
      foundBytes: all?.bytes ?? done,
      foundDirectories: found?.directory ?? 0,
      foundLinks: found?.symlink ?? 0,
      doneEntries: entries,
      doneFiles,
      doneBytes: done,
      skippedFiles: files.skipped + sum(({ unchanged }) => unchanged),
      skippedBytes: done - copied,
      copiedBytes: copied,
      copiedFiles: files.copied + sum(({ copiedFiles }) => copiedFiles),
      resumedBytes: 0,
      errors,
      workers: this.#workers,
      limits: { bytes: limit, entries: 0 },
      verifiedBytes: 0,
      readBytes: copied,
      workedEntries: entries,
      ...(all && this.#phase !== 'preflight' && { expected: { ...all, toRead: all.bytes, toDo: all.entries } }),
      // What the tools are at, and how much of it is left, nobody knows: they are told to end too.
      ...(this.#stopping !== 'no' && { stopping: { files: 0, bytes: 0 } }),
      elapsed: this.#elapsed ?? (performance.now() - this.#begun) / 1000,
    };
  }

  /** Why an entry of the source can't be looked at; undefined: it is there. */
  #absence(name: Buffer): Promise<NodeJS.ErrnoException | undefined> {
    return lstat(below(this.options.source, name)).then(
      () => undefined,
      (error: NodeJS.ErrnoException) => error,
    );
  }

  async #work(): Promise<void> {
    const { tool, parts, trees = false } = this.options;
    const largestFirst = [...parts].sort((one, other) => (other.bytes ?? 0) - (one.bytes ?? 0));
    this.#phase = 'copying';
    await this.#share(largestFirst, trees ? 'trees' : 'entries');
    if (!tool.directoriesLast) return;
    this.#phase = 'closing';
    const others = largestFirst.filter(({ directories }) => directories !== undefined && directories > 0);
    if (!trees) await this.#share(others, 'directories');
    await this.#root();
  }

  /** Works on the parts, so many at a time. */
  async #share(parts: readonly Part[], what: Pass['what']): Promise<void> {
    const queue = [...parts];
    const work = async () => {
      for (let part = queue.shift(); part !== undefined && this.#stopping === 'no'; part = queue.shift()) {
        this.#workers += 1;
        this.#mostWorkers = Math.max(this.#mostWorkers, this.#workers);
        const log = this.#logOf(part);
        const { dryRun = false } = this.options;
        try {
          await this.#part({
            part,
            list: part.list,
            what,
            tally: this.#tally(),
            log,
            lengths: this.options.tool.trusting && !dryRun ? new Lengths() : undefined,
            dryRun,
          });
        } finally {
          this.#workers -= 1;
          await log?.close();
        }
      }
    };
    await Promise.all(Array.from({ length: this.options.jobs }, work));
  }

  #logOf({ number }: Part): PartLog | undefined {
    const { logs, tool } = this.options;
    if (logs === undefined) return undefined;
    const path = join(logs, `${tool.program}.${number}.log`);
    return new PartLog(path, (error) => this.#note('log', `a log can't be written: ${whyOf(error, path)}`, path));
  }

  /** The list of a part, to an outcome for each of its entries. */
  async #part(work: Work): Promise<void> {
    const { tool } = this.options;
    const { part, what, tally } = work;
    const listed = what === 'trees' ? undefined : what === 'directories' ? part.directories : part.files;
    // Directories alone are for the tool too: it makes them.
    if (listed === 0 && (what === 'directories' || tool.filesOnly || part.directories === 0)) return;
    this.#tallies.add(tally);
    try {
      const unfit = tool.filesOnly ? await this.#refuseUnfit(work) : 0;
      const given = listed === undefined ? undefined : listed - unfit;
      const first = await this.#persist(work);
      let failed = 0;
      if (first.verdict === 'stopped') failed = given === undefined ? 0 : Math.max(0, given - tally.told);
      else if (first.verdict === 'failed') failed = await this.#failWhole(work, given, first);
      else if (work.dryRun)
        failed =
          first.verdict === 'partial' ? (await this.#missing(work)) || (await this.#failWhole(work, given, first)) : 0;
      else if (first.verdict === 'partial' || (given !== undefined && given !== tally.told))
        failed = await this.#mend(work, given, first);
      failed += await this.#tellLengths(work);
      this.#settle(work, (given ?? tally.told) - failed);
    } finally {
      this.#tallies.delete(tally);
    }
  }

  /** The files that were not as long as their tool took them to be: each has changed. How many. */
  async #tellLengths({ lengths, log }: Work): Promise<number> {
    await lengths?.done();
    for (const [text, why] of lengths?.wrong ?? []) {
      const name = Buffer.from(text, 'latin1');
      const path = below(this.options.source, name);
      await log?.line(Buffer.concat([Buffer.from(`# changed: `), name]));
      const message = `${this.options.tool.program} ${path.toString()}: ${why}`;
      await this.#ledger.fail({ ...this.#failure('changed', path, message, 'file'), outcome: 'changed' });
    }
    return lengths?.wrong.size ?? 0;
  }

  #settle({ part, what, tally }: Work, entries: number): void {
    const ledger = this.#ledger;
    const { tool, found } = this.options;
    const settled = tally.settle(entries);
    if (what === 'directories') ledger.settleDirectories(settled);
    else ledger.settle(settled);
    if (what === 'entries' && !tool.directoriesLast && !tool.filesOnly && part.directories !== undefined) {
      const { directories: all } = part;
      ledger.settleDirectories({ skipped: { all, file: 0, directory: all } });
    }
    ledger.copiedBytes += tally.written;
    if (what === 'entries') ledger.doneBytes += part.bytes ?? tally.bytes;
    if (what === 'trees') ledger.doneBytes += tally.bytes;
    if (found !== undefined) return;
    ledger.foundBytes += tally.bytes;
    const told = Object.entries(tally.kinds) as [EntryKind, number][];
    for (const [kind, many] of told) ledger.found[kind] += many;
    // Of what a tool has only counted nothing is known but that they are files.
    ledger.found.file += entries - told.reduce((sum, [, many]) => sum + many, 0);
  }

  /** Finds the entries that are not there, tries these once more, and tells what is missing then. How many failed. */
  async #mend(work: Work, given: number | undefined, first: End): Promise<number> {
    const { tally, log, what } = work;
    const { list, entries, failed, ...looked } = await this.#look(work);
    try {
      if (looked.verdict === 'stopped') return given === undefined ? 0 : Math.max(0, given - tally.told);
      if (looked.verdict === 'failed') {
        const end: End = { ...first, message: `${first.message}; ${looked.message}` };
        return failed + (await this.#failWhole(work, given === undefined ? undefined : given - failed, end));
      }
      if (entries === 0) return failed;
      await log?.line(`# not there: ${entries} entries, which are tried once more`);
      const again: Work = { ...work, list, what: what === 'trees' ? 'rest' : what, tally: this.#tally() };
      const second = await this.#persist(again);
      tally.add(again.tally);
      if (second.verdict === 'stopped') return failed + entries;
      if (second.verdict === 'done' && again.tally.told === entries) return failed;
      return failed + (await this.#tell(again, second));
    } finally {
      await rm(toBytes(list), { force: true });
    }
  }

  /**
   * Looks which entries of a list are not there: they are put on a list of their own. Those that are not in the source any
   * more are failures, and so is what the tool does not tell of. `entries`, `failed`: how many of either.
   */
  async #look(work: Work): Promise<End & { list: string; entries: number; failed: number }> {
    const { what } = work;
    const list = this.#scratch('left', work);
    const file = createWriteStream(toBytes(list), { mode: 0o600 });
    const found = { list, entries: 0, failed: 0 };
    const leave = (name: Buffer, isDirectory: boolean) => {
      found.entries += 1;
      return into(file, Buffer.concat([name, isDirectory ? DIRECTORY_END : END]));
    };
    try {
      for await (const batch of this.#batches(work)) {
        const told = new Set<string>();
        let unnamed = 0;
        const look = ({ outcome, name, kind }: Entry) => {
          if (name === undefined) unnamed += 1;
          else if (what !== 'trees') told.add(name.toString('latin1'));
          return outcome === 'skipped' || name === undefined ? undefined : leave(name, kind === 'directory');
        };
        const end = await this.#persist({
          ...work,
          list: batch.list,
          tally: this.#tally(),
          dryRun: true,
          look,
        });
        if (end.verdict === 'stopped' || end.verdict === 'failed') return { ...end, ...found };
        // Which entries of trees it means only its words tell.
        if (what === 'trees' && end.verdict === 'partial') await this.#failWhole(work, undefined, end);
        const silent = batch.names.filter((name) => !told.has(name.toString('latin1')));
        // Those that were told without their names, because they are no text, are taken for there: another count is not.
        if (silent.length === unnamed && !silent.some(isUtf8)) continue;
        for (const name of silent) {
          if (await this.#gone(work, name)) found.failed += 1;
          else await leave(name, what === 'directories');
        }
      }
      return { verdict: 'done', message: '', ...found };
    } finally {
      await ended(file);
    }
  }

  /** The list of some work in batches: the names of each, and a list of them. */
  async *#batches(work: Work): AsyncGenerator<{ names: Buffer[]; list: string }> {
    const { list, what } = work;
    if (what === 'trees') {
      yield { names: [], list };
      return;
    }
    const isDirectory = what === 'directories';
    const path = this.#scratch('look', work);
    let names: Buffer[] = [];
    const batch = async () => {
      const lines = names.flatMap((name) => [name, isDirectory ? DIRECTORY_END : END]);
      await writeFile(toBytes(path), Buffer.concat(lines));
      return { names, list: path };
    };
    try {
      for await (const some of namesIn(list, isDirectory ? 'directories' : 'others')) {
        for (const name of some) if (this.options.tool.unfit(name) === undefined) names.push(Buffer.from(name));
        if (names.length < BATCH) continue;
        yield await batch();
        names = [];
      }
      if (names.length > 0) yield await batch();
    } finally {
      await rm(toBytes(path), { force: true });
    }
  }

  #tally(): Tally {
    return new Tally(this.options.tool.tellsSizes);
  }

  #scratch(what: string, { part }: Work): string {
    this.#lists += 1;
    return join(this.options.scratch, `${what}.${part.number}.${this.#lists}`);
  }

  /** Runs the tool over a list, on one host after another where hosts are lost. */
  async #persist(work: Work): Promise<End> {
    const { crew } = this.options;
    for (let more = MORE_RUNS; ; ) {
      if (this.#stopping !== 'no') return { verdict: 'stopped', message: 'it was stopped' };
      const place = crew.take();
      if (place === undefined) return { verdict: 'failed', message: 'no host is left' };
      work.tally.again();
      const end = await this.#once(work, place).finally(() => crew.giveBack(place));
      if (end.verdict !== 'broken') return end;
      if (await crew.lost(place, end.message)) continue;
      if (more === 0) return { ...end, verdict: 'failed' };
      more -= 1;
    }
  }

  /** One run of the tool. */
  async #once(work: Work, place: Place): Promise<End> {
    const { tool, source, destination, limit = 0, jobs, parts } = this.options;
    const { what, dryRun, list, log } = work;
    const share = limit / Math.max(1, Math.min(jobs, parts.length));
    const every = work.look !== undefined;
    const pass: Pass = { source, destination, host: place.destination, what, dryRun, every, limit: share };
    const command = tool.command(pass);
    const where = place.source === undefined ? '' : `on ${place.source}: `;
    await log?.line(`# ${new Date().toISOString()} ${where}${display(command.join(' '))}`);
    const said: string[] = [];
    const running = startOn(place.source, command, {
      input: what === 'root' ? undefined : tool.input(list, what),
      take: async (line, stream) => {
        const read = tool.read(line, stream, pass);
        if (read.log && !work.look) await log?.line(read.log);
        if (read.told?.type === 'trouble' && said.length < MOST_SAID) said.push(read.told.message);
        if (read.told) await this.#take(read.told, work);
      },
    });
    this.#running.add(running);
    // It may have been stopped between two runs.
    if (this.#stopping !== 'no') running.stop(this.#stopping === 'now');
    const { code, signal } = await running.ended.finally(() => this.#running.delete(running));
    const why = said.length > 0 ? ` (${said.join('; ')})` : '';
    const text = `${tool.program} ended with ${code ?? signal}${why}`;
    await log?.line(`# ${text}`);
    if (this.#stopping !== 'no') return { verdict: 'stopped', message: text };
    const verdict = place.source !== undefined && code === LOST ? 'broken' : tool.verdict(code);
    return { verdict, message: verdict === 'partial' ? text : `${text}: ${tool.meaning(code)}` };
  }

  /** What a line told. */
  async #take(told: Told, { what, tally, look, lengths }: Work): Promise<void> {
    if (told.type === 'stats') return tally.take(told);
    if (told.type === 'trouble') {
      if (told.name === undefined) return;
      if (this.#reasons.size < MOST_REASONS) this.#reasons.set(told.name.toString('latin1'), told.message);
      // Of trees nobody knows what there was.
      if (told.vanished && what === 'trees' && !look) await this.#fail('vanished', told.name, 'it vanished');
      return;
    }
    if (told.type === 'skipped') {
      if (look || what !== 'trees') return;
      this.#ledger.skip(told.reason, told.kind);
      return this.#entry({ ...told, type: 'entry', outcome: 'skipped', size: 0, changes: [] }, told.reason);
    }
    const isDirectory = told.kind === 'directory';
    if (what === 'root') return;
    if (isDirectory && what === 'entries') {
      // Those on the way to an entry too; each is told for itself at the end.
      if (told.outcome === 'made' && !look) this.#ledger.made += 1;
      return;
    }
    tally.take(told);
    const { outcome, kind, name, size } = told;
    if (lengths && !look && outcome === 'copied' && kind === 'file' && name !== undefined)
      await lengths.take(name, below(this.options.source, name), size);
    await (look ? look(told) : this.#entry(told));
  }

  async #entry({ outcome, kind, name, size, changes }: Entry, reason = 'unchanged') {
    const { entries = false, source, destination } = this.options;
    if (!entries || name === undefined) return;
    await this.#ledger.tell({
      ...{ type: 'entry', outcome, kind, path: name },
      source: below(source, name),
      destination: below(destination, name),
      bytes: outcome === 'copied' ? size : 0,
      changes,
      ...(outcome === 'skipped' && { reason }),
    });
  }

  /** The metadata of the directory itself. */
  async #root(): Promise<void> {
    const { dryRun = false, destination } = this.options;
    const part = { number: 0, list: '' };
    const log = this.#logOf(part);
    const end = await this.#persist({
      part,
      list: '',
      what: 'root',
      tally: this.#tally(),
      log,
      lengths: undefined,
      dryRun,
    });
    await log?.close();
    if (end.verdict === 'done' || end.verdict === 'stopped') return;
    await this.#fail('metadata', toBytes(destination), end.message, 'directory', false);
  }

  /** The names that the tool can't be given: each is a failure. How many. */
  async #refuseUnfit({ list }: Work): Promise<number> {
    let unfit = 0;
    for await (const names of namesIn(list)) {
      for (const name of names) {
        const why = this.options.tool.unfit(name);
        if (why === undefined) continue;
        unfit += 1;
        await this.#fail('unsupported', name, why);
      }
    }
    return unfit;
  }

  /** Entries of a list that are not in the source any more, or can't be looked at: each is a failure. How many. */
  async #missing(work: Work): Promise<number> {
    const kind = work.what === 'directories' ? 'directories' : work.what === 'trees' ? 'all' : 'others';
    let missing = 0;
    for await (const names of namesIn(work.list, kind)) {
      for (const name of names) if (await this.#gone(work, name)) missing += 1;
    }
    return missing;
  }

  /** Whether an entry is not in the source any more, or can't be looked at, which is a failure. */
  async #gone({ what, log }: Work, name: Buffer): Promise<boolean> {
    const error = await this.#absence(name);
    if (error === undefined) return false;
    const vanished = error.code === 'ENOENT' || error.code === 'ENOTDIR';
    const [kind, why] = vanished ? ['vanished', 'it vanished'] : ['unreadable', whyOf(error)];
    await log?.line(Buffer.concat([Buffer.from(`# ${kind}: `), name]));
    await this.#fail(kind, name, why, what === 'directories' ? 'directory' : 'file');
    return true;
  }

  /** Those entries of a list that are still not there failed; where nobody can look, all of them. How many. */
  async #tell(work: Work, { verdict, message }: End): Promise<number> {
    const missing = verdict === 'failed' ? undefined : await this.#look(work);
    const looked = missing?.verdict === 'done';
    let failed = looked ? missing.failed : 0;
    for await (const names of namesIn(looked ? missing.list : work.list)) {
      for (const name of names) {
        failed += 1;
        await work.log?.line(Buffer.concat([Buffer.from('# failed: '), name]));
        await this.#fail('other', name, this.#reasons.get(name.toString('latin1')) ?? message);
      }
    }
    if (missing) await rm(toBytes(missing.list), { force: true });
    return failed;
  }

  /** The part failed as a whole; of what it has, only what the tool told of is known to be there. How many failed. */
  async #failWhole({ part, what, tally, log }: Work, given: number | undefined, { message }: End): Promise<number> {
    const failed = given === undefined ? 1 : Math.max(1, given - tally.told);
    const kind = what === 'directories' ? 'directory' : 'file';
    const number = given === undefined ? 'not all of its entries are' : `${failed} of its entries are not`;
    const where = log === undefined ? '' : ` (${log.path})`;
    this.#ledger.failMore(kind, failed - 1);
    const text = `part ${part.number}: ${message}; ${number} known to be there${where}`;
    await this.#ledger.fail(this.#failure('io', toBytes(this.options.source), text, kind));
    // Whoever tells how many there are has not told of this one.
    return given === undefined ? 0 : failed;
  }

  #fail(kind: string, name: Buffer, why: string, entryKind: EntryKind = 'file', entry = true): void | Promise<void> {
    const path = entry ? below(this.options.source, name) : name;
    const message = `${this.options.tool.program} ${path.toString()}: ${why}`;
    return this.#ledger.fail(this.#failure(kind, path, message, entryKind), entry);
  }

  #failure(kind: string, path: Buffer, message: string, entryKind: EntryKind) {
    const operation = this.options.tool.program;
    return { type: 'error', kind, outcome: 'failed', operation, path, entryKind, message } as const;
  }

  #note(kind: string, message: string, path = ''): void {
    this.#ledger.note(kind, message, toBytes(path));
  }
}

/** A name in a directory. */
function below(directory: string, name: Buffer): Buffer {
  return Buffer.concat([toBytes(directory.replace(/\/*$/, '/')), name]);
}

function into(file: WriteStream, bytes: Buffer): void | Promise<void> {
  if (file.write(bytes)) return;
  return new Promise((resolve) => file.once('drain', resolve));
}

function ended(file: WriteStream): Promise<void> {
  return new Promise((resolve, reject) => {
    file.once('error', reject);
    file.end(resolve);
  });
}
