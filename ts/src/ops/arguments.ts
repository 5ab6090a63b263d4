/**
 * What the operations make of their arguments.
 *
 * Comes in: options as a caller gives them, perhaps without a compiler that minds their types; goes out: options whose
 * every key is known, of its type and in its range, in the addon's form. What words mean (a mode, a class) the engine
 * checks. Whatever is wrong is `USAGE`, and the message names the key.
 */
import { BulkhaulError, unfit } from '../error.js';
import { display, fromBytes, type PathLike, toBytes } from '../names.js';
import type {
  Limits,
  ManifestForm,
  NativeFilter,
  NativeTree,
  PathBytes,
  Resources,
  Selection,
} from '../native/options.js';
import { nearest } from '../nearest.js';

/** The same options with each path as the caller may give it. */
export type Given<T> = T extends PathBytes
  ? PathLike
  : T extends readonly (infer Item)[]
    ? Given<Item>[]
    : T extends object
      ? { [Key in keyof T]: Given<T[Key]> }
      : T;

export interface JobOptions {
  /** Stops the job at once; see `Job`. Default: nothing but `cancel` does. */
  signal?: AbortSignal | undefined;
  /** Iterating gives an `entry` event for each entry. Errors and notes come always. Default false. */
  entries?: boolean;
  /** Nothing is made, changed, removed or written: events and report say what would be. Default false. */
  dryRun?: boolean;
  /** Keeps a journal, by which a later run knows what this one did; a dry run keeps none. Default: there is none. */
  journal?: JournalSettings | undefined;
}

/** The journal of a job. */
export interface JournalSettings {
  /** The state directory: the journal is in `jobs/ID` in it. */
  directory: PathLike;
  /** Without a journal the job does not begin. Default false: it goes on without, and `Job.journal()` says why. */
  required?: boolean;
  /** The last so many jobs whose journals are kept; beyond them, those that can be gone on with. Default 100. */
  keep?: number;
  /** The job to go on with, by its name. Default: the one with the same options, if there is one. */
  id?: string;
  /** Only a part of the job that is named is done again: what else was counted before counts. Default false. */
  partial?: boolean;
  /** How the job was called, for whoever reads the journal. Default: nothing. */
  command?: readonly string[];
  /** The version of the program that called it. Default: nothing. */
  version?: string;
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

/** Sources as they were given, one or several, each of which is an entry with its own name. */
export function trees(sources: PathLike | PathLike[]) {
  const all = Array.isArray(sources) ? sources : [sources];
  return all.map((path) => ({ path, contents: false, follow: false }));
}

/** The rules of an `exclude`, where there are any. */
export function excluding<Rule extends PathLike>(exclude: readonly Rule[] = []) {
  return exclude.length === 0 ? {} : { filter: { style: 'rsync' as const, rules: [...exclude] } };
}

/** What most operations take alike, in the addon's form. */
export function common(given: {
  filter?: Given<NativeFilter> | undefined;
  spillDirectory?: PathLike | undefined;
  entries?: boolean | undefined;
}) {
  const { filter, spillDirectory, entries } = given;
  return {
    ...(filter && { filter: { ...filter, rules: filter.rules.map(pathBytes) } }),
    ...(spillDirectory !== undefined && { spillDirectory: pathBytes(spillDirectory) }),
    ...(entries !== undefined && { entryEvents: entries }),
  };
}

/** A limit of deletions: a number of entries, or the part of those that are there: `'5%'`. */
export type MaxDelete = number | `${number}%`;

/** The limit in the addon's form. */
export function mostOf(maxDelete: MaxDelete): { maxDelete: number } | { maxDeletePercent: number } {
  const number = Number.parseInt(String(maxDelete), 10);
  return String(maxDelete).endsWith('%') ? { maxDeletePercent: number } : { maxDelete: number };
}

/** Throws `USAGE` for a value that is not what `key` asks for. */
export type Check = (value: unknown, key: string) => void;

/** A check for each key of an object; the compiler misses none. */
export type Fields<T> = { readonly [Key in keyof Required<T>]: Check };

export function is(wanted: string, fits: (value: unknown) => boolean): Check {
  return (value, key) => {
    if (!fits(value)) throw unfit(key, wanted, value);
  };
}

export const PATH = 'a path (a string or a Buffer)';

export const boolean = is('a boolean', (value) => typeof value === 'boolean');
export const text = is('a string', (value) => typeof value === 'string');
export const call = is('a function', (value) => typeof value === 'function');
export const path = is(PATH, isPath);
export const seconds = is('a number of seconds', (value) => typeof value === 'number');
const signal = is('an AbortSignal', (value) => value instanceof AbortSignal);

/** A rate, up to the highest that the engine takes. */
export const rate = is('a number from 0 to 1e16', (value) => typeof value === 'number' && value >= 0 && value <= 1e16);

/** The highest number of 32 bits, and the highest id: to chown(2) the one above it means "leave it". */
const MOST = 2 ** 32 - 1;
const MOST_ID = MOST - 1;

/** A whole number. */
export function whole(least: number, most: number): Check {
  const fits = (value: unknown) => Number.isSafeInteger(value) && Number(value) >= least && Number(value) <= most;
  return is(`a whole number from ${least} to ${most}`, fits);
}

export const count = whole(0, MOST);
export const size = whole(0, Number.MAX_SAFE_INTEGER);
export const id = whole(0, MOST_ID);

/** `MaxDelete`; digits in a string are a number too. */
export const limit = is('a number of entries or a percentage up to 100%', (value) => {
  if (typeof value === 'number') return Number.isSafeInteger(value) && value >= 0;
  const [, digits, percent] = (typeof value === 'string' && /^(\d+)(%?)$/.exec(value)) || [];
  return digits !== undefined && (percent === '' || Number(digits) <= 100);
});

/** An array of these. */
export function each(check: Check): Check {
  return (value, key) => {
    if (!Array.isArray(value)) throw unfit(key, 'an array', value);
    for (const [index, item] of value.entries()) check(item, `${key}[${index}]`);
  };
}

/** One path, or an array of them. */
export const paths: Check = (value, key) => {
  if (Array.isArray(value)) each(path)(value, key);
  else if (!isPath(value)) throw unfit(key, `${PATH} or an array of paths`, value);
};

/** An object of these fields, of which some are required, and of no other. */
export function record<T extends object>(fields: Fields<T>, ...required: readonly (keyof T & string)[]): Check {
  const names = Object.keys(fields);
  return (value, key) => {
    if (!isRecord(value)) throw unfit(key || 'options', 'an object of options', value);
    const within = key === '' ? '' : `${key}.`;
    for (const name of Object.keys(value)) {
      if (names.includes(name)) continue;
      const near = nearest(name, names);
      const hint = near === undefined ? '' : `; did you mean ${within}${near}?`;
      throw new BulkhaulError('USAGE', `there is no option ${within}${name}${hint}`);
    }
    for (const [name, check] of Object.entries<Check>(fields)) {
      const item = value[name];
      if (item !== undefined || (required as readonly string[]).includes(name)) check(item, within + name);
    }
  };
}

/** An object of the caller's making: no array, `URL`, `Map` or bytes. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && Object.prototype.toString.call(value) === '[object Object]';
}

export function isPath(value: unknown): value is PathLike {
  return typeof value === 'string' || Buffer.isBuffer(value);
}

/** The groups of fields that several operations share. */
export const LIMITS: Fields<Limits> = { bytes: rate, entries: rate };
export const RESOURCES: Fields<Resources> = {
  jobs: whole(0, 1024),
  limits: record(LIMITS),
  nice: whole(-20, 19),
  ionice: text,
};
export const JOURNAL = record<JournalSettings>(
  { directory: path, required: boolean, keep: count, id: text, partial: boolean, command: each(text), version: text },
  'directory',
);
/** Variables by their names, as a process has them. */
export type Environment = Readonly<Record<string, string | undefined>>;

export const ENVIRONMENT = is('an object of variables by their names', isRecord);
export const JOB: Fields<JobOptions> = { signal, entries: boolean, dryRun: boolean, journal: JOURNAL };
export const MANIFEST: Fields<ManifestForm> = { algorithms: each(text), format: text, nul: boolean };
export const SELECTION: Fields<Given<Selection>> = {
  filter: record<Given<NativeFilter>>({ style: text, rules: each(path) }, 'style', 'rules'),
  oneFileSystem: boolean,
};
export const TREE = record<Given<NativeTree>>(
  { path, contents: boolean, follow: boolean },
  'path',
  'contents',
  'follow',
);

/** The options of these names that are given. */
export function pick<T extends object, Key extends keyof T>(
  of: T,
  names: readonly Key[],
): { [K in Key]?: Exclude<T[K], undefined> } {
  const given = names.flatMap((name) => (of[name] === undefined ? [] : [[name, of[name]]]));
  return Object.fromEntries(given);
}
