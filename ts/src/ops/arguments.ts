/** What the operations make of their arguments: paths as strings or bytes in, checked paths out. */
import { BulkhaulError } from '../error.js';
import { display, fromBytes, type PathLike, toBytes } from '../names.js';
import type { PathBytes } from '../native/options.js';

/** The same options with each path as the caller may give it. */
export type Given<T> = T extends PathBytes
  ? PathLike
  : T extends readonly (infer Item)[]
    ? Given<Item>[]
    : T extends object
      ? { [Key in keyof T]: Given<T[Key]> }
      : T;

export interface JobOptions {
  /** Stops the job at once; see `Job`. */
  signal?: AbortSignal | undefined;
  /** Iterating gives an `entry` event for each entry. Errors and notes come always. Default false. */
  entries?: boolean;
}

export function pathBytes(path: PathLike): Buffer {
  return typeof path === 'string' ? toBytes(path) : path;
}

/** The string form of a path argument; the empty one is refused, because it is mostly an unset variable. */
export function pathText(path: PathLike, what: string): string {
  const text = typeof path === 'string' ? path : fromBytes(path);
  if (text === '') throw new BulkhaulError('USAGE', `${what} is an empty path`);
  if (text.includes('\0')) throw new BulkhaulError('USAGE', `${what} holds a NUL byte: ${display(text)}`);
  return text;
}

/** A limit of deletions: a number of entries, or the part of those that are there: `'5%'`. */
export type MaxDelete = number | `${number}%`;

/** The limit in the addon's form. Throws `USAGE`. */
export function mostOf(maxDelete: MaxDelete): { maxDelete: number } | { maxDeletePercent: number } {
  const [, digits, percent] = /^(\d+)(%?)$/.exec(String(maxDelete)) ?? [];
  if (digits === undefined) {
    throw new BulkhaulError('USAGE', `maxDelete is neither a number of entries nor a percentage: ${maxDelete}`);
  }
  return percent ? { maxDeletePercent: Number(digits) } : { maxDelete: Number(digits) };
}
