/**
 * One call of `migrate_compress`, its arguments read: the files of the source, then each of its sub-directories, one after the
 * other: copied and compressed in one pass, and written down in the state. Where the compression waits for a copy that was
 * whole (--stop-on-partial), a directory is copied first, and compressed in the destination then; so is what an earlier run
 * left there as it was.
 *
 * Comes in: the call; goes out: the exit code: 0, 1 for whatever is not there then, 130. A directory is completed only where
 * everything in it was copied and everything that matches was compressed. A dry run writes nothing.
 */
import { lstatSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { BulkhaulError, whyOf } from '../../../error.js';
import type { EntryEvent, Event, Report } from '../../../events.js';
import { fromBytes, toBytes } from '../../../names.js';
import type { Job } from '../../../ops/job.js';
import type { MappedCopyOptions } from '../../../ops/mapping.js';
import { failureText } from '../../../report/summary.js';
import { bytes, count } from '../../../report/units.js';
import { ExitCode, sentenceOf } from '../../../verdict.js';
import { systemError } from '../../exit.js';
import { type CommonSettings, type Context, inUse, neededSpillDirectory, runJob, spillDirectory } from '../../run.js';
import { elsewhere } from '../../values.js';
import type { Compression } from '../compression.js';
import { Console } from '../console.js';
import {
  commandText,
  isoOf,
  isTransferred,
  literal,
  meaningOf,
  nearestReal,
  OWN_NAMES,
  PARTIALS,
  RunLog,
  stampOf,
  TransferLog,
  transferCode,
} from '../migration.js';
import { journaled, resourcesOf, settingsOf } from '../settings.js';
import { type DirectoryRecord, type FileRecord, LOCK, realOf, STATE, State } from '../state.js';
import { removeBegun } from './begun.js';
import type { MigrateCall } from './flags.js';
import { type Known, knownAs, knownBy, listRemaining } from './remaining.js';

/** Errors that a record names; all of them are in the logs. */
const ERRORS_KEPT = 100;
/** Milliseconds after which the state is written down though a directory is not done. */
const SAVE_EVERY = 60_000;
/** A state that takes longer than this to be saved (ms) is saved so rarely that it costs no more than this part of the time. */
const LONG_SAVE = 500;
const SAVING_PART = 0.1;

/** Codes of rsync after which the others are there. */
const PARTIAL = [23, 24];

/** What became of a copy, and the code that rsync has for it. */
interface Copied {
  report: Report;
  code: number;
}

interface Problem {
  message: string;
  said?: boolean;
}

const END = Buffer.of(0);

/** Bytes of a directory's name in the name of a log. */
const NAME_BYTES = 200;

/** What is copied and compressed at a time. */
interface Unit {
  /** The name of the sub-directory; absent: the files of the source, or with --process-root all of it. */
  readonly name?: string;
  readonly title: string;
  readonly source: string;
  readonly dest: string;
  /** `dest` is a link to a directory, and stands for that: rsync follows it, whose arguments end with a slash. */
  readonly linked?: boolean;
}

/** Runs a call. */
export async function run(call: MigrateCall, streams: Context): Promise<number> {
  const { json, quiet } = call.values;
  const out = new Console<Problem>('migrate_compress', streams, { json, quiet, piped: false });
  const migration = new Migration(call, out);
  try {
    if (await migration.run()) return ExitCode.interrupted;
  } catch (thrown) {
    const error = systemError(thrown);
    if (!(error instanceof BulkhaulError) || error.code === 'INTERNAL') throw error;
    out.report({ message: error.message });
    out.json({ type: 'error', kind: 'refused', code: error.code, message: error.message });
  } finally {
    migration.close();
  }
  return out.problems.length > 0 ? 1 : 0;
}

class Migration {
  readonly #source: string;
  readonly #dest: string;
  readonly #logs: string;
  readonly #stamp = stampOf(new Date());
  #log!: RunLog;
  #state: State | undefined;
  #saved = Date.now();
  /** Milliseconds to the next save at least, and what it is to write then. */
  #rest = 0;
  #unsaved: DirectoryRecord | undefined;
  #temporary: string | undefined;
  /** The sub-directories so far, by what is the same in all spellings of a name. */
  readonly #names = new Map<string, string>();

  constructor(
    readonly call: MigrateCall,
    readonly out: Console<Problem>,
  ) {
    this.#source = realOf(call.source);
    this.#dest = resolve(call.dest);
    this.#logs = call.values.log_dir === undefined ? this.#dest : resolve(call.values.log_dir);
  }

  /** Whether it was interrupted. */
  async run(): Promise<boolean> {
    const { call, out } = this;
    const { dry_run: dryRun, quiet, json, resume } = call.values;
    this.#check();
    const state = State.read(this.#logs);
    const show = (line: string) => {
      if (!quiet && !json) out.streams.stderr.write(`${line}\n`);
    };
    const where = dryRun ? undefined : { directory: this.#logs, stem: `migration_${this.#stamp}` };
    this.#log = new RunLog(where, show, this.#lost);
    if (!dryRun) this.#state = state;
    this.#log.tell('INFO', `Source: ${call.source}`);
    this.#log.tell('INFO', `Destination: ${call.dest}`);
    this.#log.tell('INFO', `Extensions: ${call.compression.extensions.join(', ')}${dryRun ? ' (dry run)' : ''}`);
    if (call.values.check_path !== undefined && !call.values.check_existing) {
      this.#log.tell('WARNING', '--check-path is for --check-existing: without it nothing is looked up there');
    }
    try {
      for (const unit of this.#units()) {
        if (await this.#migrate(unit, resume ? state.known(unit.source) : undefined)) {
          this.#log.tell('ERROR', 'interrupted: the same command with --resume goes on');
          return true;
        }
      }
    } finally {
      if (this.#unsaved) await this.#save(this.#unsaved, true);
    }
    const { problems } = out;
    this.#log.tell(
      problems.length > 0 ? 'ERROR' : 'INFO',
      problems.length > 0 ? `${count(problems.length, 'problem')}` : 'complete',
    );
    return false;
  }

  close(): void {
    this.#log?.close();
    if (this.#temporary !== undefined) rmSync(this.#temporary, { recursive: true, force: true });
  }

  readonly #lost = (message: string) => this.out.report({ message });

  /** What can't come to anything is refused before anything is written. */
  #check(): void {
    const { source, dest, values } = this.call;
    for (const path of [source, dest]) {
      const why = elsewhere(path, 'copy', [source, dest]);
      if (why !== undefined) throw new BulkhaulError('USAGE', why);
    }
    const directory = (path: string) => statSync(toBytes(path), { throwIfNoEntry: false })?.isDirectory() ?? false;
    if (!directory(source)) throw new BulkhaulError('NO_SOURCE', `the source ${source} is no directory`);
    for (const [what, path] of [
      ['the destination', this.#dest],
      ['--log-dir', this.#logs],
    ] as const) {
      if (`${nearestReal(path)}/`.startsWith(`${this.#source}/`)) {
        throw new BulkhaulError('USAGE', `${what} ${path} lies in the source ${source}`);
      }
    }
    this.#checkState();
    const { check_existing: checks, check_path: checked } = values;
    if (checks && checked !== undefined && !directory(checked)) {
      throw new BulkhaulError('USAGE', `--check-path ${checked} is no directory`);
    }
  }

  /** What lies in the source under the name that the state of this migration has in the destination is neither copied over it nor taken for it. */
  #checkState(): void {
    const [dest, logs] = [nearestReal(this.#dest), nearestReal(this.#logs)];
    if (!`${logs}/`.startsWith(`${dest}/`)) return;
    const place = logs.slice(dest.length + 1);
    for (const own of [STATE, LOCK]) {
      const path = join(this.#source, place, own);
      const excluded = this.call.values.exclude?.some((each) => each === own || each === `/${join(place, own)}`);
      if (excluded || lstatSync(toBytes(path), { throwIfNoEntry: false }) === undefined) continue;
      const what = own === STATE ? 'the state of this migration' : 'the lock of that state';
      throw new BulkhaulError('USAGE', `${path} would come where ${what} lies: take a --log-dir outside ${this.#dest}`);
    }
  }

  #units(): Unit[] {
    const [source, dest] = [this.#source, this.#dest];
    const root = { title: this.call.values.process_root ? basename(source) : 'root_files', source, dest };
    if (this.call.values.process_root) return [root];
    const entries = readdirSync(toBytes(source), { withFileTypes: true, encoding: 'buffer' });
    const names = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
    const units = names.sort(Buffer.compare).map(fromBytes);
    const unit = (name: string): Unit => {
      const there = join(dest, name);
      return { name, title: name, source: `${source}/${name}`, dest: there, linked: leadsToDirectory(there) };
    };
    return [root, ...units.map(unit)];
  }

  /** One unit; whether it was interrupted. */
  async #migrate(unit: Unit, known: Partial<DirectoryRecord> | undefined): Promise<boolean> {
    const { dry_run: dryRun, stop_on_partial: stops, verify } = this.call.values;
    const real = this.call.copyWith === 'rsync';
    const packs = !real && !stops;
    const record = this.#begin(unit);
    record.files = doneBefore(known, unit.dest, verify);
    const stem = `rsync_${short(unit.title)}_${this.#stamp}`;
    const open = () => new TransferLog(this.#logs, stem, record.rsync_command ?? '', this.#lost);
    const logs = new UnitLogs(dryRun ? undefined : open, unit.name, this.call.compression);
    try {
      this.#arrive(unit);
      const there = await this.#there(unit);
      if (there === 'interrupted') return await this.#end(unit, record, logs, 'syncing', true);
      const list = this.#remaining(unit, record.files, there);
      const files = new Files(record, this.#source, this.#dest, this.call.compression);
      const { report: copied, code } = real
        ? await this.#copyWithRsync(unit, record, logs, list, files)
        : await this.#copy(unit, record, logs, list, files, packs);
      record.rsync_exit_code = code;
      files.settle();
      if (copied.interrupted) return await this.#end(unit, record, logs, 'syncing', true);
      // A rule excludes it, as it seems: it is none of the migration.
      const own = list === undefined ? 0 : 1;
      if (unit.name !== undefined && copied.complete && copied.found.directory === own) {
        this.#log.tell('INFO', `${unit.title}: excluded`);
        return false;
      }
      if (!copied.complete) {
        this.#problem(unit, record, `${meaningOf(code)}: ${sentenceOf(copied, 1)}`);
        if (!PARTIAL.includes(code)) return await this.#end(unit, record, logs, 'error', false);
        if (stops) return await this.#end(unit, record, logs, 'partial', false);
      }
      if (dryRun) {
        this.#log.tell('INFO', `${unit.title}: ${count(logs.matching, 'file')} would be compressed`);
        return false;
      }
      const linked = packs ? undefined : await this.#packLinked(unit, record, files);
      if (linked?.interrupted) return await this.#end(unit, record, logs, 'compressing', true);
      if (linked?.complete === false) this.#problem(unit, record, sentenceOf(linked, 1));
      await this.#removeBegun(unit, files);
      // What the copy has not brought may be anything: the rest of a run that ended in the middle of it.
      const only = copied.complete ? undefined : this.#arrived(unit, files);
      const packed = await this.#compress(unit, record, files, only);
      if (packed.interrupted) return await this.#end(unit, record, logs, 'compressing', true);
      if (!packed.complete) this.#problem(unit, record, sentenceOf(packed, 1));
      const [first] = files.several;
      if (first !== undefined) {
        const what = count(files.several.length, 'file');
        this.#problem(
          unit,
          record,
          `${what} in the destination with several names (hard links) not compressed: ${first}`,
        );
      }
      const whole = copied.complete && linked?.complete !== false && packed.complete && first === undefined;
      return await this.#end(unit, record, logs, whole ? 'completed' : 'completed_with_errors', false);
    } catch (thrown) {
      const error = systemError(thrown);
      if (!(error instanceof BulkhaulError) || error.code === 'INTERNAL') throw error;
      this.#problem(unit, record, error.message);
      record.rsync_exit_code ??= 1;
      return await this.#end(unit, record, logs, 'error', false);
    }
  }

  /**
   * Throws `SAFETY` before anything is done with a unit: where its destination and the source overlap, the source would be
   * written into, or compressed; and of two directories that the destination takes for one the second does not come.
   */
  #arrive({ name, dest, linked }: Unit): void {
    // Of the root alone nothing below its files is touched.
    const all = name !== undefined || this.call.values.process_root;
    const below = liesIn(dest, this.#source);
    if (below || (all && liesIn(this.#source, dest))) {
      const what = below ? 'is the source, or lies in it' : 'holds the source';
      const why = 'nothing is copied into it, nor compressed there';
      throw new BulkhaulError('SAFETY', `the destination ${dest} ${what} (${this.#source}): ${why}`);
    }
    if (linked && this.call.copyWith === 'rsync') {
      const why = 'rsync would replace it, or not go through it; without --copy-with it is followed';
      throw new BulkhaulError('SAFETY', `the destination ${dest} is a link to a directory: ${why}`);
    }
    if (name === undefined) return;
    const spelling = name.normalize('NFC').toLowerCase();
    const other = this.#names.get(spelling);
    this.#names.set(spelling, name);
    if (other === undefined) return;
    const [one, two] = [join(this.#dest, other), dest].map((path) =>
      statSync(toBytes(path), { bigint: true, throwIfNoEntry: false }),
    );
    if (one === undefined || two === undefined || one.dev !== two.dev || one.ino !== two.ino) return;
    throw new BulkhaulError('SAFETY', `the destination takes ${name} and ${other} for one: ${name} is not copied`);
  }

  #begin({ title, source, dest }: Unit): DirectoryRecord {
    this.#log.tell('INFO', `${title}: copying`);
    return {
      ...{ source_dir: source, dest_dir: dest, status: 'syncing', rsync_command: this.#command(source, dest) },
      ...{ rsync_exit_code: null, rsync_log_file: null, rsync_errors: [], files: [] },
      ...{ total_source_size: 0, total_compressed_size: 0 },
      ...{ start_time: isoOf(new Date()), end_time: null, error_message: null },
    };
  }

  async #end(
    { title }: Unit,
    record: DirectoryRecord,
    logs: UnitLogs,
    status: DirectoryRecord['status'],
    interrupted: boolean,
  ): Promise<boolean> {
    logs.end(record.rsync_exit_code ?? 0);
    record.rsync_log_file = logs.path ?? null;
    record.status = status;
    record.end_time = isoOf(new Date());
    const sum = (key: 'original_size' | 'compressed_size') =>
      record.files.filter(isDone).reduce((all, file) => all + file[key], 0);
    record.total_source_size = sum('original_size');
    record.total_compressed_size = sum('compressed_size');
    const sizes = `${bytes(record.total_source_size)} to ${bytes(record.total_compressed_size)}`;
    const bad = status !== 'completed';
    this.#log.tell(
      bad ? 'ERROR' : 'INFO',
      `${title}: ${status}, ${count(record.files.filter(isDone).length, 'archive')}, ${sizes}`,
    );
    await this.#save(record);
    return interrupted;
  }

  #problem({ title }: Unit, record: DirectoryRecord, message: string): void {
    record.error_message ??= message;
    this.#log.tell('ERROR', `${title}: ${message}`);
    this.out.collect({ message });
  }

  /** `last`: it is not put off. */
  async #save(record: DirectoryRecord, last = false): Promise<void> {
    if (this.#state === undefined) return;
    this.#state.set(record);
    this.#unsaved = record;
    const began = Date.now();
    if (!last && began - this.#saved < this.#rest) return;
    this.#unsaved = undefined;
    this.#saved = began;
    try {
      await this.#state.save();
      this.#saved = Date.now();
      const took = this.#saved - began;
      this.#rest = took > LONG_SAVE ? took / SAVING_PART : 0;
    } catch (error) {
      if (error instanceof BulkhaulError && error.code === 'LIST') throw error;
      this.out.report({ message: `${this.#state.path} can't be written: ${whyOf(error, this.#state.path)}` });
    }
  }

  /**
   * With --check-existing the files of a unit that have their content where it is to be looked up, as they are or as archives:
   * what a copy to there would leave as it is.
   */
  async #there(unit: Unit): Promise<ReadonlySet<string> | 'interrupted' | undefined> {
    const { call, out } = this;
    const { check_existing: checks, check_path: path } = call.values;
    if (!checks) return undefined;
    const { copyMapped } = await import('../../../ops/copy.js');
    const settings = { ...this.#settings(), aside: 'comparing' };
    const same = new Set<string>();
    for (const format of [undefined, 'gzip', 'xz'] as const) {
      const begin = (): Job =>
        copyMapped({
          ...this.#from(unit, unit.name !== undefined),
          ...(unit.linked && path === undefined && { keepDirlinks: true }),
          destinations: [{ path: path === undefined ? this.#dest : resolve(path), follow: true }],
          ...(format !== undefined && { packing: { format, replace: false } }),
          // Times say nothing, nor what else there is beside content.
          ...{ replace: false, fullHash: true, contentOnly: true },
          ...{ dryRun: true, entries: true, allowNested: true },
          spillDirectory: spillDirectory(out.streams.env),
          ...resourcesOf(call.values, call.compression.jobs),
        });
      const report = await runJob(begin, settings, out.streams, (event) => {
        if (event.type === 'entry' && event.kind === 'file' && event.reason === 'unchanged') same.add(event.source);
      });
      if (report.interrupted) return 'interrupted';
    }
    return same;
  }

  /** The list of what is to be copied, where that is not all. `there`: what is there as far as contents tell. */
  #remaining(
    { name, source, title }: Unit,
    files: readonly FileRecord[],
    there: ReadonlySet<string> | undefined,
  ): string | undefined {
    const all: Known[] = [
      ...(files.length > 0 ? [knownBy(files, this.#dest)] : []),
      ...(there === undefined ? [] : [knownAs(this.#source, there)]),
    ];
    if (all.length === 0) return undefined;
    const list = this.#newList();
    const known: Known = (file, stat) => all.some((each) => each(file, stat));
    const entries = readdirSync(toBytes(source), { withFileTypes: true, encoding: 'buffer' });
    const whole = this.call.values.process_root;
    const tops = entries.filter((entry) => whole || !entry.isDirectory()).map((entry) => fromBytes(entry.name));
    const left = listRemaining(this.#source, name === undefined ? tops : [name], list, known);
    if (left > 0) this.#log.tell('INFO', `${title}: ${count(left, 'file')} there already`);
    return list;
  }

  /** A list of what is to be compressed of what a copy brought that was not whole. */
  #arrived({ dest }: Unit, files: Files): string {
    return this.#listOf(dest, files.uncompressed());
  }

  /** A list of paths, relative to the directory that they are below. */
  #listOf(directory: string, paths: readonly string[]): string {
    const list = this.#newList();
    const above = toBytes(directory).length + 1;
    const within = paths.map((path) => Buffer.concat([toBytes(path).subarray(above), END]));
    writeFileSync(list, Buffer.concat(within), { mode: 0o600 });
    return list;
  }

  #newList(): string {
    return join(this.#scratch, `${Date.now()}-${Math.random().toString(36).slice(2)}`);
  }

  /** Copies a unit; what rules mean is relative to the source, whatever the unit is. `packs`: what matches becomes archives on its way, and is written down in `files`. */
  async #copy(
    unit: Unit,
    record: DirectoryRecord,
    logs: UnitLogs,
    list: string | undefined,
    files: Files,
    packs: boolean,
  ): Promise<Copied> {
    const { call, out } = this;
    const { dry_run: dryRun, verify } = call.values;
    const { copyMapped } = await import('../../../ops/copy.js');
    const settings = this.#settings();
    const { jobs: _, ...form } = call.compression;
    const begin = (): Job =>
      copyMapped({
        ...this.#from(unit, unit.name !== undefined && list === undefined),
        ...(unit.linked && { keepDirlinks: true }),
        destinations: [{ path: this.#dest, follow: true }],
        ...(list !== undefined && { filesFrom: { path: list, nul: true } }),
        // What has the name of an archive and another content stays, and is told.
        ...(packs && { packing: { ...form, replace: false }, verify: !dryRun }),
        // The events tell the digests then.
        ...(packs && verify && { manifest: { path: '/dev/null', algorithms: ['sha256'] } }),
        fullHash: true,
        dryRun,
        entries: true,
        spillDirectory: spillDirectory(out.streams.env),
        ...this.#used(settings),
        ...resourcesOf(call.values, call.compression.jobs),
        ...(list === undefined ? journaled(call.values, out.streams.env) : {}),
      });
    const report = await this.#saving(record, files, () =>
      runJob(begin, settings, out.streams, (event) => {
        this.#take(event, record, logs, files);
        if (packs && !dryRun) files.take(event);
      }),
    );
    return { report, code: transferCode(report) };
  }

  /** What a copy of a unit takes: by its name, or of all that is in the source. */
  #from({ name, source }: Unit, named: boolean): Pick<MappedCopyOptions, 'sources' | 'filter'> {
    const { exclude = [], process_root: whole } = this.call.values;
    const rules = [...exclude, ...(name === undefined && !whole ? ['/*/'] : [])];
    return {
      sources: [{ path: named ? source : this.#source, contents: !named, follow: false }],
      ...(rules.length > 0 && { filter: { style: 'rsync', rules } }),
    };
  }

  /** The same by the real rsync; nothing becomes an archive on its way. */
  async #copyWithRsync(
    unit: Unit,
    record: DirectoryRecord,
    logs: UnitLogs,
    list: string | undefined,
    files: Files,
  ): Promise<Copied> {
    const { call, out } = this;
    const { dry_run: dryRun, exclude = [], process_root: whole } = call.values;
    const { RsyncRun } = await import('./rsync.js');
    const rsync = await RsyncRun.prepare({
      ...{ source: this.#source, dest: this.#dest, name: unit.name, whole, exclude, list, dryRun },
      scratch: this.#scratch,
      limit: resourcesOf(call.values).limits?.bytes ?? 0,
      note: (message) => this.#log.tell('WARNING', message),
    });
    record.rsync_command = commandText(rsync.command);
    const report = await runJob(
      () => rsync.begin(true),
      this.#settings(),
      out.streams,
      (event) => this.#take(event, record, logs, files),
    );
    return { report, code: report.complete ? 0 : (rsync.code ?? transferCode(report)) };
  }

  /** What became of an entry is in the logs, and in the record what failed. */
  #take(event: Event, record: DirectoryRecord, logs: UnitLogs, files: Files): void {
    logs.take(event);
    files.arrive(event);
    if (event.type !== 'error') return;
    const text = failureText(event);
    if (record.rsync_errors.length < ERRORS_KEPT) record.rsync_errors.push(text);
    this.#log.tell('DEBUG', text);
  }

  /**
   * Files with several names, copied as they are, become archives of as many names from the source: a compression in place has
   * none for them.
   */
  async #packLinked(unit: Unit, record: DirectoryRecord, files: Files): Promise<Report | undefined> {
    const several = files.uncompressed().filter((path) => lstatSync(toBytes(path)).nlink > 1);
    if (several.length === 0) return undefined;
    const list = this.#listOf(this.#dest, several);
    const { report } = await this.#copy(
      unit,
      record,
      new UnitLogs(undefined, unit.name, this.call.compression),
      list,
      files,
      true,
    );
    return report;
  }

  /** Where an archive was proved, what an earlier run has left of its file under that one's name goes. */
  async #removeBegun({ title, source, dest }: Unit, files: Files): Promise<void> {
    let removed = 0;
    for (const path of files.proved) {
      try {
        if (await removeBegun(path, source + path.slice(dest.length))) removed++;
      } catch (error) {
        this.#log.tell('WARNING', `${path} stays beside its archive: ${whyOf(error, path)}`);
      }
    }
    if (removed > 0)
      this.#log.tell('INFO', `${title}: ${count(removed, 'file')} of an earlier run went, for their archives`);
  }

  /** A directory for lists, which goes in the end. */
  get #scratch(): string {
    this.#temporary ??= mkdtempSync(join(neededSpillDirectory(this.out.streams.env), 'bulkhaul-migration-'));
    return this.#temporary;
  }

  /** Compresses what matches in the destination, and writes down each file. `only`: a list of what may be. */
  async #compress(unit: Unit, record: DirectoryRecord, files: Files, only: string | undefined): Promise<Report> {
    const { call, out } = this;
    const { compression, values } = call;
    record.status = 'compressing';
    await this.#save(record);
    this.#log.tell('INFO', `${unit.title}: compressing`);
    const { compress } = await import('../../../ops/compress.js');
    const digests = values.verify ? await this.#digest(unit) : undefined;
    const settings = this.#settings();
    const begin = (): Job =>
      compress({
        sources: unit.name === undefined ? unit.dest : `${unit.dest}/`,
        exclude: this.#inDestination(unit),
        ...(only !== undefined && { filesFrom: { path: only, nul: true } }),
        ...compression,
        ...{ force: true, entries: true },
        spillDirectory: spillDirectory(out.streams.env),
        ...this.#used(settings),
        ...resourcesOf(values, compression.jobs),
        ...(only === undefined ? journaled(values, out.streams.env) : {}),
      });
    return this.#saving(record, files, () =>
      runJob(begin, settings, out.streams, (event) => {
        if (event.type === 'error') this.#log.tell('DEBUG', failureText(event));
        files.take(event, digests);
      }),
    );
  }

  /** Does something for a unit, and writes the state down now and then meanwhile. */
  async #saving(record: DirectoryRecord, files: Files, deed: () => Promise<Report>): Promise<Report> {
    const saving = setInterval(() => {
      files.settle();
      if (Date.now() - this.#saved >= SAVE_EVERY) void this.#save(record);
    }, SAVE_EVERY);
    try {
      return await deed();
    } finally {
      clearInterval(saving);
      files.settle();
    }
  }

  /** The SHA-256 of each file that is to be compressed, by its path in the destination. */
  async #digest(unit: Unit): Promise<Map<string, string>> {
    const { call, out } = this;
    const { manifest } = await import('../../../ops/manifest.js');
    const any = (text: string) =>
      text.replace(/[a-z]/gi, (letter) => `[${letter.toLowerCase()}${letter.toUpperCase()}]`);
    const wanted = call.compression.extensions.map((each) => `+ *.${any(literal(each.replace(/^\.+/, '')))}`);
    const settings = this.#settings();
    const digests = new Map<string, string>();
    // A manifest names what it is of, unless that stands for what is in it.
    const named = unit.name === undefined;
    const above = named ? dirname(unit.dest) : unit.dest;
    const begin = (): Job =>
      manifest({
        sources: named ? unit.dest : `${unit.dest}/`,
        exclude: [...this.#inDestination(unit), '+ */', ...wanted, '*'],
        algorithms: ['sha256'],
        entries: true,
        spillDirectory: neededSpillDirectory(out.streams.env),
        ...this.#used(settings),
        ...resourcesOf(call.values, call.compression.jobs),
      });
    await runJob(begin, { ...settings, progress: 'none' }, out.streams, (event) => {
      if (event.type === 'entry' && event.digests?.sha256) digests.set(join(above, event.path), event.digests.sha256);
    });
    return digests;
  }

  /** What is left alone in the destination: at its top the files of migrations, and of the root only files are a unit. */
  #inDestination({ name }: Unit): string[] {
    const partials = `${PARTIALS}/`;
    if (name !== undefined) return [partials];
    return [partials, ...OWN_NAMES.map((own) => `/*${own}`), ...(this.call.values.process_root ? [] : ['/*/*/'])];
  }

  #settings(): CommonSettings {
    const exitCode = (report: Report) => (report.complete ? 0 : report.interrupted ? ExitCode.interrupted : 1);
    return { ...settingsOf('migrate_compress', this.call.values, this.call.progress), exitCode };
  }

  #used(settings: CommonSettings): { inUse: string[] } {
    const { inUse: used } = inUse(settings, this.out.streams.env);
    const own = [this.#log.path, this.#state?.path].filter((path) => path !== undefined);
    return { inUse: [...used, ...own] };
  }

  /** The command of the original that a unit's copy stands for. */
  #command(source: string, dest: string): string {
    const { exclude = [], process_root: whole, dry_run: dryRun } = this.call.values;
    const root = source === this.#source && !whole;
    return commandText([
      ...['rsync', '-av', '--partial', '--progress', '--checksum', '--human-readable', '--itemize-changes'],
      ...(dryRun ? ['--dry-run'] : []),
      ...(root ? ['--exclude=*/'] : []),
      ...exclude.map((pattern) => `--exclude=${pattern}`),
      ...[`${source}/`, `${dest}/`],
    ]);
  }
}

/** The log of a unit's transfer, made when there is something for it; without `open` it is only counted. */
class UnitLogs {
  #log: TransferLog | undefined;
  /** Files that were transferred, or would be, and whose names end as was asked for. */
  matching = 0;

  constructor(
    readonly open: (() => TransferLog) | undefined,
    readonly name: string | undefined,
    readonly compression: Compression,
  ) {}

  get path(): string | undefined {
    return this.#log?.path;
  }

  take(event: Event): void {
    if (event.type === 'entry' && event.reason !== 'excluded') {
      // Its name in the source, also where it became an archive.
      const suffix = suffixOf(this.compression);
      const path = isPacked(event, suffix) ? event.path.slice(0, -suffix.length) : event.path;
      this.#made()?.entry({ ...event, path: this.#within(path) });
      if (isTransferred(event) && matches(path, this.compression)) this.matching++;
    }
    if (event.type === 'error') this.#made()?.failure(event);
  }

  /** The path as the transfer of this unit has it. */
  #within(path: string): string {
    const { name } = this;
    if (name === undefined || (path !== name && !path.startsWith(`${name}/`))) return path;
    return path.slice(name.length + 1) || '.';
  }

  end(code: number): void {
    this.#made()?.end(code);
  }

  #made(): TransferLog | undefined {
    this.#log ??= this.open?.();
    return this.#log;
  }
}

/** What the record of a directory says of its files. */
class Files {
  readonly #all: Map<string, FileRecord>;
  /** What matches of that which the copy told is there, by its name there before it is compressed. */
  readonly #there = new Set<string>();
  /** What this run has proved the archives of, and what has none in the destination because of its several names; by the names there. */
  readonly proved = new Set<string>();
  readonly several: string[] = [];
  readonly suffix: string;

  constructor(
    readonly record: DirectoryRecord,
    readonly source: string,
    readonly dest: string,
    readonly compression: Compression,
  ) {
    this.#all = new Map(record.files.map((file) => [file.source_path, file]));
    this.suffix = suffixOf(compression);
  }

  /** An event of a copy in which files become archives, or of a compression in the destination; `digests`: by the names there. */
  take(event: Event, digests?: ReadonlyMap<string, string>): void {
    if (event.type === 'error') {
      const here = this.#here(event.path);
      if (!matches(here, this.compression)) return;
      const failure = { status: 'error', error_message: failureText(event), decompressed_sha256: null } as const;
      this.#note(here, digests?.get(here), { dest_path: here + this.suffix, ...failure });
    }
    if (event.type !== 'entry' || event.kind !== 'file') return;
    if (isPacked(event, this.suffix)) {
      const path = this.#here(event.destination);
      if (isThere(event)) this.#made(path, event.digests?.sha256 ?? digests?.get(path));
    }
    if (event.reason === 'several-names') this.several.push(event.source);
    // The archive was there, and the file went.
    if (event.outcome === 'removed') this.#made(event.source, digests?.get(event.source));
  }

  /** An event of a copy: what it brought, the last that it says of a file being what counts. */
  arrive(event: Event): void {
    if (event.type === 'error') this.#there.delete(this.#here(event.path));
    if (event.type !== 'entry' || event.kind !== 'file' || !isThere(event)) return;
    const path = this.#here(event.destination);
    if (matches(path, this.compression)) this.#there.add(path);
  }

  /** What a copy brought that is no archive yet. */
  uncompressed(): string[] {
    return [...this.#there].filter((path) => lstatSync(toBytes(path), { throwIfNoEntry: false })?.isFile());
  }

  /** The name in the destination, without what archives end with. */
  #here(path: string): string {
    const here = path.startsWith(`${this.source}/`) ? this.dest + path.slice(this.source.length) : path;
    return here.endsWith(this.suffix) ? here.slice(0, -this.suffix.length) : here;
  }

  /** The record has all that was taken. */
  settle(): void {
    for (const file of this.#all.values()) {
      file.rsync_exit_code ??= this.record.rsync_exit_code;
      // Until its directory had its name, an archive could not be looked at.
      if (isDone(file) && file.compressed_size === 0) file.compressed_size = sizeOf(file.dest_path);
    }
    this.record.files = [...this.#all.values()];
  }

  #made(path: string, digest: string | undefined): void {
    this.proved.add(path);
    const original_size = sizeOf(this.source + path.slice(this.dest.length));
    this.#note(path, digest, { dest_path: path + this.suffix, original_size });
  }

  #note(path: string, digest: string | undefined, changes: Partial<FileRecord>): void {
    this.#all.set(path, {
      ...{ source_path: path, dest_path: '', original_size: 0, compressed_size: 0 },
      ...{ source_sha256: digest ?? null, compressed_sha256: null, decompressed_sha256: digest ?? null },
      ...{ status: digest === undefined ? 'compressed' : 'verified', error_message: null },
      ...{ rsync_exit_code: this.record.rsync_exit_code, timestamp: isoOf(new Date()) },
      ...changes,
    });
  }
}

const sizeOf = (path: string) => statSync(toBytes(path), { throwIfNoEntry: false })?.size ?? 0;

/** Whether a path is a link to a directory. */
function leadsToDirectory(path: string): boolean {
  const [link, there] = [lstatSync, statSync].map((look) => look(toBytes(path), { throwIfNoEntry: false }));
  return link?.isSymbolicLink() === true && there?.isDirectory() === true;
}

/** Whether a path is a directory, or lies in it, by device and inode: links and mounts have other names for one. */
function liesIn(path: string, directory: string): boolean {
  const look = (of: string) => statSync(toBytes(of), { bigint: true, throwIfNoEntry: false });
  const there = look(directory);
  for (let at = nearestReal(path); there !== undefined; at = dirname(at)) {
    const here = look(at);
    if (here?.dev === there.dev && here.ino === there.ino) return true;
    if (at === dirname(at)) break;
  }
  return false;
}

/** What archives end with. */
const suffixOf = ({ format }: Compression) => (format === 'xz' ? '.xz' : '.gz');

/** Whether a name ends as is asked for. */
function matches(path: string, { extensions }: Compression): boolean {
  const name = path.toLowerCase();
  return extensions.some((each) => name.endsWith(`.${each.replace(/^\.+/, '').toLowerCase()}`));
}

/** Whether a file became an archive on its way, or would. */
function isPacked({ kind, path, source }: EntryEvent, suffix: string): boolean {
  return kind === 'file' && path.endsWith(suffix) && !source.endsWith(suffix);
}

/** Whether a file is in the destination as it is to be. */
const isThere = ({ outcome, reason }: EntryEvent) =>
  ['copied', 'linked', 'metadata'].includes(outcome) || reason === 'unchanged';

const isDone = ({ status }: FileRecord) => status === 'verified' || status === 'compressed';

/** What a record of an earlier run says is done, by the paths of this one; `proved`: and that it was compared by digests. */
function doneBefore(known: Partial<DirectoryRecord> | undefined, dest: string, proved: boolean): FileRecord[] {
  if (known?.files === undefined) return [];
  const before = `${String(known.dest_dir ?? dest).replace(/\/+$/, '')}/`;
  const here = (path: string) => (path.startsWith(before) ? `${dest}/${path.slice(before.length)}` : path);
  const counts = (file: FileRecord) => (proved ? file.status === 'verified' : isDone(file));
  const done = known.files.filter((file) => counts(file) && typeof file.source_path === 'string');
  return done.map((file) => ({
    ...file,
    source_path: here(file.source_path),
    dest_path: here(String(file.dest_path)),
  }));
}

/** A name that leaves room for what comes before and after it. */
function short(name: string): string {
  return toBytes(name).length > NAME_BYTES ? [...name].slice(0, NAME_BYTES / 4).join('') : name;
}
