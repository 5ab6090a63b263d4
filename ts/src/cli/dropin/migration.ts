/**
 * What the tools for data migration share: names and forms of their logs, the meaning of rsync's codes, and files that appear
 * whole.
 *
 * Comes in: what happens, as it happens; goes out: the logs that their users read. No log takes the place of another, of
 * whatever run, and one that can't be written is told and ends no work.
 */
import { closeSync, mkdirSync, openSync, realpathSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { BulkhaulError, whyOf } from '../../error.js';
import type { EntryEvent, ErrorEvent, Report } from '../../events.js';
import { display, fromBytes, toBytes } from '../../names.js';
import { itemLine } from '../../report/itemize.js';
import { failureText } from '../../report/summary.js';
import { version } from '../version.js';

/** rsync's exit codes, as its manual has them. */
const MEANINGS: Readonly<Record<number, string>> = {
  0: 'Success',
  1: 'Syntax or usage error',
  2: 'Protocol incompatibility',
  3: 'Errors selecting input or output files or directories',
  4: 'Requested action not supported',
  5: 'Error starting the client-server protocol',
  6: 'Daemon unable to append to its log file',
  10: 'Error in socket I/O',
  11: 'Error in file I/O',
  12: 'Error in the rsync protocol data stream',
  13: 'Errors with program diagnostics',
  14: 'Error in IPC code',
  20: 'Received SIGUSR1 or SIGINT',
  21: 'Some error returned by waitpid()',
  22: 'Error allocating core memory buffers',
  23: 'Partial transfer due to error (some files failed)',
  24: 'Partial transfer due to vanished source files',
  25: 'The --max-delete limit stopped deletions',
  30: 'Timeout in data send or receive',
  35: 'Timeout waiting for the daemon connection',
};

export function meaningOf(code: number): string {
  return MEANINGS[code] ?? 'Unknown';
}

/** The code that rsync would have ended with. */
export function transferCode({ complete, interrupted, exitCode }: Report): number {
  if (complete) return 0;
  return interrupted ? 20 : exitCode === 24 ? 24 : 23;
}

/** Local time as logs are named: `YYYYmmdd_HHMMSS`. */
export function stampOf(date: Date): string {
  return isoOf(date).slice(0, 19).replaceAll('-', '').replaceAll(':', '').replace('T', '_');
}

/** The same as the originals write it down: ISO 8601 without a zone, in microseconds. */
export function isoOf(date: Date): string {
  const local = new Date(date.getTime() - date.getTimezoneOffset() * 60_000);
  return local.toISOString().replace('Z', '000');
}

/** The names that the logs and the state of a migration have, as rules for names of a directory's top. */
const STAMP = `${'[0-9]'.repeat(8)}_${'[0-9]'.repeat(6)}`;
export const OWN_NAMES = [
  `/migration_${STAMP}*.log`,
  `/migration_*_${STAMP}*.log`,
  `/rsync_*_${STAMP}*.log`,
  `/rsync_exclude_${STAMP}*.txt`,
  '/migration_state.json',
  '/migration_state_*.json',
  // And what one that was killed has left of making it.
  '/.migration_state.lock*',
];

/** The same for a directory below. What has no other wildcard has one, so that the escapes of a path are some. */
export function ownNamesIn(directory: string): string[] {
  return OWN_NAMES.map((own) => `/${literal(directory)}${own.replace('migration', '[m]igration')}`);
}

/** A text as a pattern that matches it alone, where a pattern has a wildcard. */
export function literal(text: string): string {
  return text.replace(/[[\]*?\\]/g, (letter) => `\\${letter}`);
}

/**
 * Where the real rsync keeps what it has of a file that is not whole. With the original's `--partial` that would have the
 * name of the file, with zeros for what can't be read in the source; the next run takes it for the same by its sum.
 */
export const PARTIALS = '.bulkhaul-partial';

/** A file that is written as things happen; what keeps it from that is told once, and remembered. */
class LogFile {
  readonly #file: number;
  #error: Error | undefined;

  private constructor(
    readonly path: string,
    file: number,
    readonly lost: (message: string) => void,
  ) {
    this.#file = file;
  }

  /** Opens a new file, beside one that has the name already. Throws `OUTPUT`. */
  static open(directory: string, stem: string, extension: string, lost: (message: string) => void): LogFile {
    try {
      mkdirSync(toBytes(directory), { recursive: true });
      for (let turn = 1; ; turn++) {
        const path = join(directory, `${stem}${turn === 1 ? '' : `_${turn}`}.${extension}`);
        try {
          return new LogFile(path, openSync(toBytes(path), 'wx'), lost);
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
        }
      }
    } catch (error) {
      throw new BulkhaulError('OUTPUT', `a log can't be made in ${directory}: ${whyOf(error)}`);
    }
  }

  write(text: string): void {
    if (this.#error) return;
    try {
      writeFileSync(this.#file, text);
    } catch (error) {
      this.#error = error as Error;
      this.lost(`${this.path} can't be written any more: ${whyOf(this.#error, this.path)}`);
    }
  }

  close(): void {
    closeSync(this.#file);
  }
}

type Level = 'DEBUG' | 'INFO' | 'WARNING' | 'ERROR';

/** The log for people: a line with time and level each, of which all but the details are shown as well. */
export class RunLog {
  readonly #file: LogFile | undefined;

  /** `where`: directory and stem; absent: it is only shown, as in a dry run. */
  constructor(
    where: { directory: string; stem: string } | undefined,
    readonly show: (line: string) => void,
    lost: (message: string) => void,
  ) {
    this.#file = where && LogFile.open(where.directory, where.stem, 'log', lost);
  }

  /** Where it is. */
  get path(): string | undefined {
    return this.#file?.path;
  }

  tell(level: Level, message: string): void {
    const text = display(message);
    const time = isoOf(new Date()).slice(0, 23).replace('T', ' ').replace('.', ',');
    this.#file?.write(`${time} [${level}] ${text}\n`);
    if (level !== 'DEBUG') this.show(`[${level}] ${text}`);
  }

  close(): void {
    this.#file?.close();
  }
}

const RULE = '='.repeat(80);

/** The log of one transfer in the form of the originals: a header, rsync's lines, a footer. */
export class TransferLog {
  readonly #file: LogFile;

  /** `command`: the one of the original that the transfer stands for. */
  constructor(directory: string, stem: string, command: string, lost: (message: string) => void) {
    this.#file = LogFile.open(directory, stem, 'log', lost);
    this.#file.write(`Command: ${command}\nDone by: bulkhaul ${version()}\nStarted: ${isoOf(new Date())}\n${RULE}\n\n`);
  }

  get path(): string {
    return this.#file.path;
  }

  /** A line for what was made of an entry, as rsync --itemize-changes has it. */
  entry(event: EntryEvent): void {
    const line = transferLine(event);
    if (line !== undefined) this.#file.write(`${line}\n`);
  }

  failure(event: ErrorEvent): void {
    this.#file.write(`bulkhaul: ${failureText(event)}\n`);
  }

  end(code: number): void {
    this.#file.write(
      `\n${RULE}\nFinished: ${isoOf(new Date())}\nExit code: ${code}\nExit meaning: ${meaningOf(code)}\n`,
    );
    this.#file.close();
  }
}

/** A file that is a link or was renamed is one that was transferred, as the originals count. */
function transferLine(event: EntryEvent): string | undefined {
  if (event.kind === 'file' && (event.outcome === 'linked' || event.outcome === 'renamed')) {
    const { target: _, ...rest } = event;
    return itemLine({ ...rest, outcome: 'copied' });
  }
  return itemLine(event.outcome === 'renamed' ? { ...event, outcome: 'made' } : event);
}

/** Whether a file was transferred, as the originals count it: rsync has a line `>f` for it. */
export function isTransferred(event: EntryEvent): boolean {
  return transferLine(event)?.startsWith('>f') ?? false;
}

/** The real path of a directory, or of the nearest one above it that is there. */
export function nearestReal(path: string): string {
  try {
    return fromBytes(realpathSync(toBytes(path), { encoding: 'buffer' }));
  } catch {
    return path === '/' ? path : join(nearestReal(dirname(path)), basename(path));
  }
}

/** A word as a shell takes it. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** A command line, for people. */
export function commandText(words: readonly string[]): string {
  return words.map(quoted).join(' ');
}
