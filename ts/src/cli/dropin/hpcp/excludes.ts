/**
 * Exclude patterns as hpcp 9.79 reads them: `fnmatch` on the absolute path.
 *
 * Comes in: patterns from -e and the lines of -x; goes out: patterns normalised for the engine, the sources that they
 * leave, and a note for each pattern that does not do what it looks like.
 */
import { readFileSync, realpathSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fromBytes, toBytes } from '../../../names.js';
import { fnmatch } from '../glob.js';
import { type Case, problem } from './codes.js';
import type { HpcpValues } from './flags.js';
import type { Source } from './sources.js';

/** The exclude file can't be read: nothing may be copied, because what it protects is not known. */
export class ExcludeFileError extends Error {
  override readonly name = 'ExcludeFileError';

  constructor(
    readonly path: string,
    readonly missing: boolean,
    cause: Error,
  ) {
    super(`Exclude file ${missing ? 'does not exist' : 'can not be read'}: ${path}`, { cause });
  }

  get problem() {
    const which: Case = this.missing ? 'exclude file missing' : 'exclude file unreadable';
    return problem(which, `${this.message}; nothing was done`);
  }
}

/** The patterns of the flags. Throws `ExcludeFileError`. */
export function patternsOf({ exclude, exclude_file }: HpcpValues): string[] {
  return [...exclude, ...(exclude_file === undefined ? [] : readExcludeFile(exclude_file))];
}

/** The lines of an exclude file, `-` for standard input; no comments, no trimming. Throws `ExcludeFileError`. */
export function readExcludeFile(path: string): string[] {
  try {
    return fromBytes(readFileSync(path === '-' ? 0 : toBytes(path))).split(/\r?\n/);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    throw new ExcludeFileError(path, (error as NodeJS.ErrnoException).code === 'ENOENT', error);
  }
}

/**
 * A pattern for matching absolute paths: one that begins with `/` as it is, any other from any component on; runs of
 * slashes count as one. Undefined: it is blank.
 */
export function normalise(pattern: string): string | undefined {
  if (pattern.trim() === '') return undefined;
  const anchored = pattern.startsWith('/') || pattern.startsWith('*/') ? pattern : `*/${pattern}`;
  return anchored.replace(/\/{2,}/g, '/');
}

export interface Excludes {
  /** For the engine. */
  rules: string[];
  /** The sources, spelled so that the absolute path that the engine makes of them is the one that rules expect. */
  sources: Source[];
  /** Each a sentence. */
  notes: string[];
}

/**
 * The rules for the engine, and what they do to the source arguments themselves; `directory` is the working directory.
 * The original walks a directory with a slash at its end, so that a pattern with one can leave out a whole source.
 */
export function readExcludes(patterns: readonly string[], given: readonly Source[], directory: string): Excludes {
  const rules: string[] = [];
  const notes: string[] = [];
  const sources = given.map((source) => ({ ...source, path: plain(source.path, directory) }));
  for (const pattern of patterns) {
    const rule = normalise(pattern);
    if (rule === undefined) continue;
    rules.push(rule);
    let whole = 0;
    for (const { path, kind } of sources) {
      const absolute = resolve(directory, path);
      const slashed = absolute === '/' ? absolute : `${absolute}/`;
      if (!fnmatch(absolute, rule) && (kind === 'other' || !fnmatch(slashed, rule))) continue;
      whole++;
      rules.push(literal(absolute), `${literal(slashed)}*`);
      notes.push(`the exclude pattern '${pattern}' leaves out the whole source ${path}`);
    }
    if (whole === 0 && neverMatches(rule)) {
      notes.push(
        `the exclude pattern '${pattern}' can not match: it is matched with absolute paths, which have no . or .. in them and no / at the end`,
      );
    }
  }
  return { rules, sources: rules.length > 0 ? sources : [...given], notes };
}

/** The rules as an option of the engine, where there are any. */
export function filterOf(rules: readonly string[]): { filter?: { style: 'fnmatch'; rules: string[] } } {
  return rules.length > 0 ? { filter: { style: 'fnmatch', rules: [...rules] } } : {};
}

/** The path without components `.`; with `..` the path that it leads to, links resolved. The slash at the end stays. */
function plain(path: string, directory: string): string {
  const names = path.split('/').filter((name) => name !== '' && name !== '.');
  const end = /(^|\/)\.?$/.test(path) && names.length > 0 ? '/' : '';
  const start = path.startsWith('/') ? '/' : '';
  if (names.at(-1) === '..') return `${real(start + names.join('/'))}/`;
  if (names.includes('..')) return join(real(start + names.slice(0, -1).join('/')), names.at(-1) ?? '') + end;
  return names.length > 0 ? start + names.join('/') + end : start || `${directory}/`;
}

function real(path: string): string {
  return fromBytes(realpathSync.native(toBytes(path), { encoding: 'buffer' }));
}

/** The pattern that only `path` matches. */
export function literal(path: string): string {
  return path.replace(/[*?[]/g, '[$&]');
}

/** No entry's path ends with a slash or has a component `.` or `..`. */
function neverMatches(rule: string): boolean {
  return rule.endsWith('/') || /\/\.{1,2}(\/|$)/.test(rule);
}
