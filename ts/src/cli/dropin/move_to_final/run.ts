/**
 * One call of `move_to_final`, its arguments read: one move, its logs and its record.
 *
 * Comes in: the call; goes out: the exit code: 0, 1 for whatever is not in the destination then, 130. The record is written
 * when the move begins, and when it has ended.
 */
import { type Dirent, readdirSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { BulkhaulError, whyOf } from '../../../error.js';
import type { Event, Report } from '../../../events.js';
import { fromBytes, toBytes } from '../../../names.js';
import { failureText, summaryText } from '../../../report/summary.js';
import { count } from '../../../report/units.js';
import { ExitCode, sentenceOf } from '../../../verdict.js';
import { writeWhole } from '../../../whole.js';
import { systemError } from '../../exit.js';
import { type CommonSettings, type Context, inUse, runJob, spillDirectory } from '../../run.js';
import { elsewhere } from '../../values.js';
import { Console } from '../console.js';
import {
  commandText,
  isoOf,
  isTransferred,
  nearestReal,
  OWN_NAMES,
  ownNamesIn,
  PARTIALS,
  RunLog,
  stampOf,
  TransferLog,
  transferCode,
} from '../migration.js';
import { journaled, resourcesOf, settingsOf } from '../settings.js';
import { isState } from '../state.js';
import type { MoveCall } from './flags.js';

/** Errors that the record names; all of them are in the logs. */
const ERRORS_KEPT = 100;

/** The record, with the names of the original. */
interface Move {
  source: string;
  dest: string;
  status: 'pending' | 'moving' | 'cleaning' | 'completed' | 'completed_with_errors' | 'error';
  rsync_command: string;
  rsync_exit_code: number | null;
  rsync_log_file: string | null;
  rsync_errors: string[];
  files_moved: number;
  directories_cleaned: number;
  start_time: string | null;
  end_time: string | null;
  error_message: string | null;
}

interface Problem {
  message: string;
  said?: boolean;
}

/** Runs a call. */
export async function run(call: MoveCall, streams: Context): Promise<number> {
  const { json, quiet } = call.values;
  const out = new Console<Problem>('move_to_final', streams, { json, quiet, piped: false });
  try {
    const report = await new Final(call, out).run();
    if (report.interrupted) return ExitCode.interrupted;
  } catch (thrown) {
    const error = systemError(thrown);
    if (!(error instanceof BulkhaulError) || error.code === 'INTERNAL') throw error;
    out.report({ message: error.message });
    out.json({ type: 'error', kind: 'refused', code: error.code, message: error.message });
  }
  return out.problems.length > 0 ? 1 : 0;
}

class Final {
  readonly #stem: string;
  readonly #logs: string;
  readonly #move: Move;
  readonly #kept: string[] = [];

  constructor(
    readonly call: MoveCall,
    readonly out: Console<Problem>,
  ) {
    const { source, dest, values } = call;
    const place = resolve(source);
    this.#stem = `${basename(place)}_${stampOf(new Date())}`;
    this.#logs = values.log_dir === undefined ? dirname(place) : resolve(values.log_dir);
    this.#move = {
      ...{ source, dest, status: 'pending', rsync_command: commandOf(call), rsync_exit_code: null },
      ...{ rsync_log_file: null, rsync_errors: [], files_moved: 0, directories_cleaned: 0 },
      ...{ start_time: null, end_time: null, error_message: null },
    };
  }

  async run(): Promise<Report> {
    const { call, out } = this;
    const { dry_run: dryRun, quiet, json } = call.values;
    await this.#check();
    const lost = (message: string) => out.report({ message });
    const show = (line: string) => {
      if (!quiet && !json) out.streams.stderr.write(`${line}\n`);
    };
    const where = dryRun ? undefined : { directory: this.#logs, stem: `move_${this.#stem}` };
    const log = new RunLog(where, show, lost);
    const record = log.path?.replace(/\.log$/, '.json');
    const transfer = dryRun
      ? undefined
      : new TransferLog(this.#logs, `rsync_move_${this.#stem}`, this.#move.rsync_command, lost);
    Object.assign(this.#move, {
      status: 'moving',
      start_time: isoOf(new Date()),
      rsync_log_file: transfer?.path ?? null,
    });
    log.tell('INFO', `Source: ${call.source}`);
    log.tell('INFO', `Destination: ${call.dest}`);
    log.tell(
      'INFO',
      `Mode: ${call.values.keep_source ? 'copy, the source stays' : 'move'}${dryRun ? ' (dry run)' : ''}`,
    );
    this.#write(record);
    const used = [log.path, record, transfer?.path].filter((path) => path !== undefined);
    try {
      const report = await this.#transfer(used, log, transfer);
      transfer?.end(transferCode(report));
      this.#conclude(report, log);
      return report;
    } catch (error) {
      const { message } = BulkhaulError.from(error);
      Object.assign(this.#move, { status: 'error', error_message: message });
      log.tell('ERROR', message);
      // Nothing was begun, for a reason that rsync calls one of usage.
      transfer?.end(1);
      throw error;
    } finally {
      this.#move.end_time = isoOf(new Date());
      this.#write(record);
      log.close();
    }
  }

  /** What can't come to anything is refused before anything is written. */
  async #check(): Promise<void> {
    const { source, dest } = this.call;
    for (const path of [source, dest]) {
      const why = elsewhere(path, 'move', [source, dest]);
      if (why !== undefined) throw new BulkhaulError('USAGE', why);
    }
    const is = await stat(toBytes(source)).catch(() => undefined);
    if (!is?.isDirectory()) throw new BulkhaulError('NO_SOURCE', `the source ${source} is no directory`);
    const inside = `${nearestReal(source)}/`;
    if (`${nearestReal(this.#logs)}/`.startsWith(inside)) {
      throw new BulkhaulError('USAGE', `--log-dir ${this.#logs} lies in the source, which is to be moved away`);
    }
  }

  async #transfer(used: readonly string[], log: RunLog, transfer: TransferLog | undefined): Promise<Report> {
    const { call, out } = this;
    const { keep_source: keep, dry_run: dryRun, quiet } = call.values;
    const { copyMapped } = await import('../../../ops/copy.js');
    const settings: CommonSettings = {
      ...settingsOf('move_to_final', call.values, call.progress),
      exitCode: (report) => (report.complete ? 0 : report.interrupted ? ExitCode.interrupted : 1),
    };
    const begin = () =>
      copyMapped({
        sources: [{ path: call.source, contents: true, follow: true }],
        destinations: [{ path: call.dest, follow: true }],
        filter: { style: 'rsync', rules: [...OWN_NAMES, ...ownBelow(call.source), `${PARTIALS}/`] },
        ...(keep ? { verify: true, fullHash: true, sync: 'all' } : { removeSources: true, rename: true }),
        dryRun,
        // Each is written down.
        entries: true,
        spillDirectory: spillDirectory(out.streams.env),
        inUse: [...inUse(settings, out.streams.env).inUse, ...used],
        ...resourcesOf(call.values),
        ...journaled(call.values, out.streams.env),
      });
    const listen = (event: Event) => {
      if (event.type === 'entry') {
        transfer?.entry(event);
        if (isTransferred(event)) this.#move.files_moved++;
        if (event.reason === 'excluded') this.#kept.push(event.source);
      }
      if (event.type === 'error') {
        const text = failureText(event);
        transfer?.failure(event);
        if (this.#move.rsync_errors.length < ERRORS_KEPT) this.#move.rsync_errors.push(text);
        log.tell('DEBUG', text);
      }
    };
    return runJob(begin, { ...settings, quiet }, out.streams, listen);
  }

  /** What it came to. */
  #conclude(report: Report, log: RunLog): void {
    const { call, out } = this;
    const { keep_source: keep, dry_run: dryRun, quiet, json } = call.values;
    const move = this.#move;
    const verdict = sentenceOf(report, report.complete ? 0 : 1);
    move.rsync_exit_code = transferCode(report);
    move.status = report.complete ? 'completed' : 'completed_with_errors';
    if (!report.complete) move.error_message = verdict;
    if (!keep && !dryRun) move.directories_cleaned = Math.max(0, report.found.directory - directoriesLeft(call.source));
    const would = dryRun ? 'would be ' : '';
    log.tell('INFO', `Files ${would}${keep ? 'copied' : 'moved'}: ${move.files_moved}`);
    if (!keep && !dryRun) log.tell('INFO', `Directories cleaned: ${move.directories_cleaned}`);
    if (this.#kept.length > 0) {
      const what = `${count(this.#kept.length, 'file')} of a migration ${this.#kept.length === 1 ? 'stays' : 'stay'}`;
      log.tell('INFO', `${what} in the source: ${this.#kept.join(', ')}`);
    }
    for (const { message, path } of report.notes) log.tell('DEBUG', `${message} (first at ${path})`);
    log.tell(report.complete ? 'INFO' : 'ERROR', verdict);
    if (!json && !(quiet && report.complete)) out.streams.stderr.write(summaryText(report));
    if (!report.complete && !report.interrupted) out.collect({ message: verdict });
  }

  /** Writes the record down, unless it is a dry run. */
  #write(path: string | undefined): void {
    if (path === undefined) return;
    const state = { last_updated: isoOf(new Date()), move: this.#move };
    try {
      writeWhole(path, [`${JSON.stringify(state, undefined, 2)}\n`]);
    } catch (error) {
      this.out.report({ message: `${path} can't be written: ${whyOf(error, path)}` });
    }
  }
}

/** The command of the original that does the same. */
function commandOf({ source, dest, values }: MoveCall): string {
  const slash = (path: string) => path.replace(/\/*$/, '/');
  return commandText([
    ...['rsync', '-av', '--partial', '--progress', '--checksum', '--human-readable', '--itemize-changes'],
    ...(values.keep_source ? [] : ['--remove-source-files']),
    ...(values.dry_run ? ['--dry-run'] : []),
    ...[slash(source), slash(dest)],
  ]);
}

const STATE_NAME = /^migration_state(_.*)?\.json$/;

/** Rules for the files of migrations that lie below a source: beside what is a state, and has its name. */
function ownBelow(source: string): string[] {
  const root = source.replace(/\/*$/, '/');
  const rules: string[] = [];
  for (const { path, entries } of directoriesIn(source)) {
    const states = entries.filter((entry) => entry.isFile() && STATE_NAME.test(fromBytes(entry.name)));
    const directory = fromBytes(path).slice(root.length);
    if (directory === '' || !states.some(({ name }) => isState(`${root}${directory}/${fromBytes(name)}`))) continue;
    rules.push(...ownNamesIn(directory));
  }
  return rules;
}

function directoriesLeft(root: string): number {
  let directories = 0;
  for (const _ of directoriesIn(root)) directories++;
  return directories;
}

/** The directories at and below a path, with what is in them. */
function* directoriesIn(root: string): Generator<{ path: Buffer; entries: Dirent<Buffer>[] }> {
  const waiting = [toBytes(root.replace(/(?<=.)\/+$/, ''))];
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    const entries = listed(path);
    if (entries === undefined) continue;
    const parent = path;
    const within = entries.filter((entry) => entry.isDirectory());
    waiting.push(...within.map(({ name }) => Buffer.concat([parent, Buffer.from('/'), name])));
    yield { path, entries };
  }
}

/** What is in a directory; undefined: it is gone, or can't be read. */
function listed(path: Buffer): Dirent<Buffer>[] | undefined {
  try {
    return readdirSync(path, { withFileTypes: true, encoding: 'buffer' });
  } catch {
    return undefined;
  }
}
