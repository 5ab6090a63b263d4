/**
 * The one error that the library throws for what the caller can act on.
 *
 * What goes wrong with a single entry is no exception: it is a failure in the report.
 */

/**
 * - `USAGE`: an option or a path is wrong.
 * - `SAFETY`: refused, because a promise would break (destination inside a source, a file onto itself).
 * - `NO_SPACE`: `requireSpace` was asked for, and the sources don't fit.
 * - `NO_SOURCE`, `NO_DESTINATION`: a source is missing; the destination cannot be used.
 * - `LIST`: a list can't be read, or is none of the kind that it was given for.
 * - `ADDON`: the native engine could not be loaded.
 * - `OUTPUT`: a list, the log file or standard output could not be written.
 * - `INTERNAL`: a defect; nothing is known about what was done.
 */
export type ErrorCode =
  | 'USAGE'
  | 'SAFETY'
  | 'NO_SPACE'
  | 'NO_SOURCE'
  | 'NO_DESTINATION'
  | 'LIST'
  | 'ADDON'
  | 'OUTPUT'
  | 'INTERNAL';

const CODES: readonly string[] = [
  'USAGE',
  'SAFETY',
  'NO_SPACE',
  'NO_SOURCE',
  'NO_DESTINATION',
  'LIST',
  'ADDON',
  'OUTPUT',
  'INTERNAL',
] satisfies ErrorCode[];

/** An operation that could not begin, or had to stop. `message` may hold names as they are: escape it for a terminal. */
export class BulkhaulError extends Error {
  override readonly name = 'BulkhaulError';

  constructor(
    readonly code: ErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }

  /** The error itself, or one made from an error of the addon (its `code` when it is one of ours, else `INTERNAL`). */
  static from(error: unknown): BulkhaulError {
    if (error instanceof BulkhaulError) return error;
    const { code, message } = error instanceof Error ? (error as NodeJS.ErrnoException) : { message: String(error) };
    const known = code !== undefined && CODES.includes(code) ? (code as ErrorCode) : 'INTERNAL';
    return new BulkhaulError(known, message, { cause: error });
  }
}
