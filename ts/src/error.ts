/**
 * The one error that the library throws for what the caller can act on.
 *
 * What goes wrong with a single entry is no exception: it is a failure in the report, and a job with failures resolves.
 * `job.orThrow()` makes an error of such a report.
 */
import { getSystemErrorMap } from 'node:util';

/**
 * What can go wrong with a whole operation:
 *
 * - `USAGE`: an option or a path is wrong.
 * - `SAFETY`: refused, because a promise would break (destination inside a source, a file onto itself).
 * - `NO_SPACE`: `requireSpace` was asked for, and the sources don't fit.
 * - `NO_SOURCE`, `NO_DESTINATION`: a source is missing; the destination cannot be used.
 * - `LIST`: a list can't be read, or is none of the kind that it was given for.
 * - `JOURNAL`: a journal can't be read or written, there is no such job, or it is in use.
 * - `ADDON`: the native engine could not be loaded.
 * - `NO_START`: there are too few file descriptors, no room for temporary files, parts of the installation are missing, or the
 *   store of a source does not answer.
 * - `OUTPUT`: a list, the log file or standard output could not be written.
 * - `STORE`: an object store did not do what it was asked for.
 * - `INCOMPLETE`: of `job.orThrow()`: the report is not complete.
 * - `ABORTED`: a signal stopped the job, whose reason can't carry the report; it is the `cause`.
 * - `INTERNAL`: a defect; nothing is known about what was done.
 */
export type ErrorCode =
  | 'USAGE'
  | 'SAFETY'
  | 'NO_SPACE'
  | 'NO_SOURCE'
  | 'NO_DESTINATION'
  | 'LIST'
  | 'JOURNAL'
  | 'ADDON'
  | 'NO_START'
  | 'OUTPUT'
  | 'STORE'
  | 'INCOMPLETE'
  | 'ABORTED'
  | 'INTERNAL';

const CODES: readonly string[] = [
  'USAGE',
  'SAFETY',
  'NO_SPACE',
  'NO_SOURCE',
  'NO_DESTINATION',
  'LIST',
  'JOURNAL',
  'ADDON',
  'NO_START',
  'OUTPUT',
  'STORE',
  'INCOMPLETE',
  'ABORTED',
  'INTERNAL',
] satisfies ErrorCode[];

/** The error for an argument that is not what it must be; `key` says which, and where in the arguments it is. */
export function unfit(key: string, wanted: string, given: unknown): BulkhaulError {
  const what = given === undefined ? `${key} is missing: it is ${wanted}` : `${key}: ${shown(given)} is not ${wanted}`;
  return new BulkhaulError('USAGE', what);
}

function shown(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return `'${value.length > 40 ? `${value.slice(0, 40)}…` : value}'`;
    case 'object':
      // No method of its own is asked: it may be anything.
      return value === null ? 'null' : Object.prototype.toString.call(value);
    case 'function':
    case 'symbol':
      return `a ${typeof value}`;
    default:
      return String(value);
  }
}

/**
 * An operation that could not begin, or had to stop. `message` may hold names as they are: escape it for a terminal.
 *
 * @example
 * ```js
 * import { BulkhaulError, copy, display } from 'bulkhaul';
 *
 * try {
 *   await copy({ sources: 'photos', destination: 'photos/cache' });
 * } catch (error) {
 *   if (!(error instanceof BulkhaulError)) throw error;
 *   console.log(error.code, display(error.message)); // SAFETY
 * }
 * ```
 */
export class BulkhaulError extends Error {
  /** Tells it from other errors where `instanceof` can't. */
  override readonly name = 'BulkhaulError';

  constructor(
    /** What kind of error it is. */
    readonly code: ErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }

  /**
   * The error itself, or one made from an error of the addon (its `code` when it is one of ours, else `INTERNAL`).
   *
   * @example
   * ```js
   * import { BulkhaulError } from 'bulkhaul';
   *
   * console.log(BulkhaulError.from(new TypeError('what?')).code); // INTERNAL
   * ```
   */
  static from(error: unknown): BulkhaulError {
    if (error instanceof BulkhaulError) return error;
    if (isHomeless(error)) return new BulkhaulError('USAGE', NO_WORKING_DIRECTORY, { cause: error });
    const { code, message } = error instanceof Error ? (error as NodeJS.ErrnoException) : { message: String(error) };
    const known = code !== undefined && CODES.includes(code) ? (code as ErrorCode) : 'INTERNAL';
    return new BulkhaulError(known, message, { cause: error });
  }
}

export const NO_WORKING_DIRECTORY = 'the working directory does not exist any more';

/** The working directory; undefined where it is gone. */
export function workingDirectory(): string | undefined {
  try {
    return process.cwd();
  } catch {
    return undefined;
  }
}

/** Whether the working directory was asked for and is gone. */
export function isHomeless(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error && error.syscall === 'uv_cwd';
}

/**
 * Why something failed, in words for people: of a call that the system refused `PATH: CALL: no such file or directory`, as
 * the engine says it, and without its name where the sentence has that already (`said`); of anything else its message.
 */
export function whyOf(error: unknown, said?: string): string {
  if (!(error instanceof Error)) return String(error);
  const { errno, syscall, path, message } = error as NodeJS.ErrnoException;
  const words = errno === undefined ? undefined : getSystemErrorMap().get(errno)?.[1];
  if (error instanceof BulkhaulError || words === undefined || syscall === undefined) return message;
  // A call is a word; that of a program comes with the program.
  const [call = syscall] = syscall.split(' ');
  return [...(path === undefined || path === said ? [] : [path]), call, words].join(': ');
}
