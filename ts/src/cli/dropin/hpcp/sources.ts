/**
 * What arguments and lists mean as sources.
 *
 * Comes in: arguments as typed, lists as flags name them, and the file system to look at; goes out: the sources that
 * exist, and a problem for each that does not.
 */
import { type BigIntStats, lstatSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { fromBytes, type PathLike, toBytes } from '../../../names.js';
import { listedSources } from '../../../ops/list.js';
import { neededSpillDirectory } from '../../run.js';
import { elsewhere } from '../../values.js';
import { glob, hasMagic } from '../glob.js';
import { type HpcpConsole, type Problem, problem, problemOf, Refused } from './codes.js';
import type { HpcpValues } from './flags.js';

/** One existing source. */
export interface Source {
  path: string;
  /** A link to a directory is one of its own: alone it is followed, among others it is copied as a link. */
  kind: 'directory' | 'link to directory' | 'other';
}

export interface Sources {
  found: Source[];
  problems: Problem[];
}

/** Expands the source arguments: a literal name first, then as a pattern, `~` last. */
export function findSources(args: readonly string[]): Sources {
  const found: Source[] = [];
  const problems: Problem[] = [];
  for (const arg of args) {
    const paths = expand(arg);
    if (paths.length === 0) {
      const why = elsewhere(arg, 'copy', [arg, 'DEST']);
      problems.push(problem('source missing', `Source path not found: ${why ?? arg}`));
    }
    for (const path of paths) {
      const { source = { path, kind: 'other' }, leads = false } = sourceAt(path) ?? {};
      if (!leads) {
        const what = `Source path not found: ${path} is a link to nothing; the link itself is copied`;
        problems.push(problem('source missing', what));
      }
      found.push(source);
    }
  }
  return { found, problems };
}

/** The paths of a list: none of them is a pattern. */
function findListed(paths: readonly string[]): Sources {
  const found: Source[] = [];
  const problems: Problem[] = [];
  for (const path of paths) {
    const source = sourceAt(path)?.source;
    if (source) found.push(source);
    else problems.push(problem('source missing', `Source path not found: ${path}`));
  }
  return { found, problems };
}

/** The sources that arguments and a list name; the missing ones are problems. Throws `Refused` where there is none. */
export async function sourcesOf(args: readonly string[], values: HpcpValues, out: HpcpConsole): Promise<Source[]> {
  const { found, problems } = findSources(args);
  out.report(...problems);
  if (values.source_file_list !== undefined || args.length > 0) {
    return some([...found, ...(await listed(values, out))]);
  }
  // What removes takes its list from standard input only where it is told to.
  if (isTerminal(out.streams.stdin) || values.remove || values.remove_extra) {
    throw new Refused([problem('no source', 'No source paths: no source is given')]);
  }
  return some(await listed(values, out, '-'));
}

/** The sources of a list, if one is given. */
export async function listed(
  { source_file_list }: HpcpValues,
  out: HpcpConsole,
  path = source_file_list,
): Promise<Source[]> {
  if (path === undefined) return [];
  const paths = await listedSources(listPath(path), neededSpill(out)).catch((error: Error) => {
    throw new Refused([problem('list file', `Source list can not be read: ${error.message}`)]);
  });
  const { found, problems } = findListed(paths);
  out.report(...problems);
  return found;
}

/** The same; throws `Refused` where there is none. */
export function some(found: Source[]): Source[] {
  if (found.length > 0) return found;
  throw new Refused([problem('no source', 'No source paths: none of them exists')]);
}

/** Where temporary files go, for what can't do without. */
export function neededSpill({ streams }: HpcpConsole): string {
  try {
    return neededSpillDirectory(streams.env);
  } catch (error) {
    throw new Refused([problemOf(error)]);
  }
}

function isTerminal(stream: object): boolean {
  return 'isTTY' in stream && stream.isTTY === true;
}

/** A list as a flag names it: `-` is standard input. */
export function listPath(path: string): string {
  return path === '-' ? '/dev/stdin' : path;
}

/** The list of names to copy, with - for standard input. */
export function nameList({ files_from, files_from0 }: HpcpValues): { path: string; nul: boolean } | undefined {
  const path = files_from ?? files_from0;
  return path === undefined ? undefined : { path: path === '-' ? '/dev/stdin' : path, nul: files_from0 !== undefined };
}

/** The source that a path names, and whether it leads to something, as a symlink may not. Undefined: there is none. */
function sourceAt(path: string): { source: Source; leads: boolean } | undefined {
  const entry = look(path, 'itself');
  if (entry === undefined) return undefined;
  const target = entry.isSymbolicLink() ? look(path, 'target') : entry;
  const directory = target === entry ? 'directory' : 'link to directory';
  return { source: { path, kind: target?.isDirectory() ? directory : 'other' }, leads: target !== undefined };
}

/** The paths that an argument means; none: it does not exist. */
export function expand(arg: string): string[] {
  if (look(arg, 'itself')) return [arg];
  const matches = hasMagic(arg) ? glob(arg) : [];
  const home = expandHome(arg);
  if (matches.length > 0 || home === undefined) return matches;
  return look(home, 'itself') ? [home] : hasMagic(home) ? glob(home) : [];
}

/** `~` and `~/…` with the home directory; undefined: the argument does not begin so. */
export function expandHome(arg: string): string | undefined {
  return arg === '~' || arg.startsWith('~/') ? homedir() + arg.slice(1) : undefined;
}

export function pathText(path: PathLike): string {
  return typeof path === 'string' ? path : fromBytes(path);
}

/** A path's facts; `target`: of what a symlink leads to. Undefined: there is nothing, or nothing that can be used. */
export function look(path: PathLike, what: 'itself' | 'target'): BigIntStats | undefined {
  const bytes = toBytes(pathText(path));
  try {
    return what === 'itself' ? lstatSync(bytes, { bigint: true }) : statSync(bytes, { bigint: true });
  } catch {
    // The engine names the reason where it matters.
    return undefined;
  }
}

export function isDirectory(path: string): boolean {
  return look(path, 'target')?.isDirectory() ?? false;
}

/** A source as an argument of a list or a comparison. */
export type Tree = { path: PathLike; contents: boolean; follow: boolean };

/** The sources as trees: names begin with that of the source, or below it where that ends with a slash. */
export function treesOf(sources: readonly Source[]): Tree[] {
  const sole = sources.length === 1;
  return sources.map(({ path, kind }) => ({
    path,
    contents: false,
    follow: sole && kind === 'link to directory',
  }));
}
