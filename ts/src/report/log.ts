/**
 * A log file: JSON lines by pino, appended and written at once. First what was begun where, then failures, notes and the
 * summary. Names are escaped; where that changes one, a second property (`pathBase64`) has its bytes.
 */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { BulkhaulError, whyOf } from '../error.js';
import type { Event } from '../events.js';
import { display, toBytes } from '../names.js';
import { type Logger, pino } from './pino.js';
import { type Reporter, unreachable } from './reporter.js';
import { failureText } from './summary.js';

/** What a log begins with. */
export interface Origin {
  version: string;
  /** The command line, an argument each. */
  command: readonly string[];
  host: string;
}

export class Log implements Reporter {
  readonly #file: number;
  readonly #logger: Logger;
  #error: Error | undefined;

  /** The descriptor is not ours to close. */
  readonly #inherited: boolean;

  /** Opens the file; throws `USAGE` when it cannot be opened. `mode`: of a file that is made. */
  constructor(
    readonly path: string,
    origin: Origin,
    mode = 0o666,
  ) {
    const descriptor = descriptorOf(path);
    this.#inherited = descriptor !== undefined;
    try {
      // By descriptor, because pino takes the name of a file only as text.
      this.#file = descriptor ?? openSync(toBytes(path), 'a', mode);
      fstatSync(this.#file);
    } catch (error) {
      throw new BulkhaulError('USAGE', `the log file cannot be opened: ${path}: ${whyOf(error, path)}`);
    }
    const destination = pino.destination({ dest: this.#file, sync: true });
    destination.on('error', (error: Error) => {
      this.#error ??= error;
    });
    this.#logger = pino({ base: { pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime }, destination);
    this.#logger.info({ ...origin, command: origin.command.map(display) }, 'begin');
  }

  take(event: Event): void {
    // After an error pino would keep every line in memory to try again.
    if (this.#error) return;
    switch (event.type) {
      case 'error': {
        const { type: _, message: __, path, ...rest } = event;
        this.#logger.error({ ...rest, ...named(path) }, failureText(event));
        break;
      }
      case 'note': {
        const { kind, path, message } = event;
        this.#logger.warn({ kind, ...named(path) }, display(message));
        break;
      }
      case 'summary': {
        // The failures were logged one by one.
        const { type: _, failures: __, notes, ...rest } = event;
        const counts = Object.fromEntries(notes.map(({ kind, count }) => [kind, count]));
        this.#logger.info({ ...rest, notes: counts }, 'summary');
        break;
      }
      case 'entry':
      case 'part':
      case 'status':
        break;
      default:
        unreachable(event);
    }
  }

  refused(error: BulkhaulError): void {
    if (!this.#error) this.#logger.fatal({ code: error.code }, display(error.message));
  }

  close(): void {
    if (!this.#inherited) closeSync(this.#file);
  }

  /** What could not be written, if anything. */
  get error(): Error | undefined {
    return this.#error;
  }

  check(): void {
    if (this.#error) throw new BulkhaulError('OUTPUT', `the log file could not be written: ${whyOf(this.#error)}`);
  }
}

function named(path: string): { path: string; pathBase64?: string } {
  const shown = display(path);
  return shown === path ? { path } : { path: shown, pathBase64: toBytes(path).toString('base64') };
}

/** The descriptor of this process that a path names. It goes on where it is, and a socket cannot be opened by its name. */
function descriptorOf(path: string): number | undefined {
  const standard = ['/dev/stdin', '/dev/stdout', '/dev/stderr'].indexOf(path);
  if (standard >= 0) return standard;
  const [, number] = /^\/(?:dev|proc\/self)\/fd\/(\d{1,9})$/.exec(path) ?? [];
  return number === undefined ? undefined : Number(number);
}
