/**
 * `hpcp -fl`, `-cfl`, `-dfl`, `-tdfl`: lists, and comparisons of trees and lists; and sources from a list, `-sfl`.
 *
 * Comes in: the values of the flags, and what the arguments mean for a copy; goes out: what is listed or compared, and
 * what is printed of it. Names in both are those that a copy would give.
 */
import { lstatSync, realpathSync } from 'node:fs';
import { basename } from 'node:path';
import type { Event, Report } from '../../../events.js';
import { display, fromBytes, type PathLike, toBytes } from '../../../names.js';
import type { MappedCompareOptions } from '../../../ops/compare.js';
import { failureText } from '../../../report/summary.js';
import { interruption, type Problem, problem } from './codes.js';
import type { Mapping, Source } from './destinations.js';
import type { HpcpCall, HpcpValues } from './flags.js';
import { list as nameList, RULE } from './summary.js';

/** What a call with one of these flags does instead of copying. */
export type Work = 'list' | 'compare' | undefined;

/** `-fl` lists; with one of the others, which compare also alone, it names the list to compare with. */
export function workOf({ values }: HpcpCall): Work {
  const { compare_file_list, diff_file_list, tar_diff_file_list, changes } = values;
  if (compare_file_list || diff_file_list !== undefined || tar_diff_file_list || changes) return 'compare';
  return values.target_file_list === undefined ? undefined : 'list';
}

/** A list as a flag names it: `-` is standard input. */
export function listPath(path: string): string {
  return path === '-' ? '/dev/stdin' : path;
}

/** Bytes at the end of a file that count. */
export function hashing({ hash_size, full_hash }: HpcpValues): { hashSize?: number; fullHash: boolean } {
  return { fullHash: full_hash, ...(hash_size !== undefined && { hashSize: Math.max(0, hash_size) }) };
}

type Tree = { path: PathLike; contents: boolean; follow: boolean };
type Sides = Pick<MappedCompareOptions, 'left' | 'right' | 'align'>;

/** The sources as trees: names begin with that of the source, or below it where that ends with a slash. */
export function treesOf(sources: readonly Source[]): Tree[] {
  const sole = sources.length === 1;
  return sources.map(({ path, kind }) => ({
    path,
    contents: false,
    follow: sole && kind === 'link to directory',
  }));
}

/** The two sides for sources that would be copied so: what a copy would have made stands against each source. */
export function copiedSides({ sources, destinations }: Mapping): Sides {
  const left: Tree[] = sources.map(({ path, contents, follow }) => ({ path, contents, follow }));
  if (sources.some(({ contents }) => contents)) {
    return {
      left: { trees: left },
      right: { trees: destinations.map(({ path }) => ({ path, contents: true, follow: true })) },
      align: false,
    };
  }
  const twins = destinations.flatMap(({ path: directory }) =>
    sources.map(({ path, name }) => {
      const own = text(name ?? basename(text(path)));
      return `${text(directory).replace(/\/*$/, '/')}${own}`;
    }),
  );
  const there = twins.filter((path) => lstatSync(toBytes(path), { throwIfNoEntry: false }) !== undefined);
  return {
    left: { trees: left },
    right: { trees: there.map((path) => ({ path, contents: false, follow: false })) },
    // A sole file may have another name there.
    align: left.length === 1 && there.length === 1 && sources[0]?.name !== undefined && !isDirectory(there[0] ?? ''),
  };
}

function isDirectory(path: string): boolean {
  return lstatSync(toBytes(path), { throwIfNoEntry: false })?.isDirectory() ?? false;
}

function text(path: PathLike): string {
  return typeof path === 'string' ? path : fromBytes(path);
}

/** Where the differences go; undefined: nowhere. `now`: seconds since 1970. */
export function differenceFile(
  { diff_file_list: given, tar_diff_file_list: tar, changes }: HpcpValues,
  sources: readonly string[],
  other: string,
  now = Math.floor(Date.now() / 1000),
): string | undefined {
  if (given === undefined && !tar && !changes) return undefined;
  if (typeof given === 'string') return given;
  const own = (path: string) => basename(path.replace(/\/+$/, '')) || 'root';
  const target = fromBytes(realpathSync.native(toBytes(other), { encoding: 'buffer' }));
  return `DIFF_${sources.map(own).join('-')}_TO_${own(target)}_${now}_${tar ? 'tar_' : ''}file_list.txt`;
}

/** Which side the names in the file of differences belong to. */
export function ownersOf({ tar_diff_file_list: tar, changes }: HpcpValues): string {
  if (changes) return 'with A and M belong to the source, those with D to the destination';
  return `belong to the destination${tar ? '' : '; those with - and NUL in front belong to the source'}`;
}

/** Names of one group that are printed; all of them are in the file of differences. */
const NAMED = 1000;

/** Collects what is printed of a comparison. */
export class DifferentNames {
  readonly #groups = { src: new Group(), dest: new Group() };

  take(event: Event): void {
    if (event.type !== 'entry' || event.outcome !== 'different') return;
    const name = event.kind === 'directory' && !event.path.endsWith('/') ? `${event.path}/` : event.path;
    if (!event.changes.includes('extra')) this.#groups.src.add(name);
    if (!event.changes.includes('new')) this.#groups.dest.add(name);
  }

  /** The block that the original prints, with the count lines of 8.96 and of 9.79. */
  lines({ differences }: Report): string[] {
    const { left, right, changed, leftEntries, rightEntries } = differences;
    return [
      RULE,
      `Number of files in src: ${leftEntries}`,
      `Number of files in dest: ${rightEntries}`,
      RULE,
      'Files in src but not in dest:',
      ...this.#groups.src.lines(),
      RULE,
      'Files in dest but not in src:',
      ...this.#groups.dest.lines(),
      RULE,
      `Files in src but not in dest count: ${left + changed}`,
      `Files in dest but not in src count: ${right + changed}`,
      `Added (in src, not in dest) count: ${left}`,
      `Modified count: ${changed}`,
      `Deleted (in dest, not in src) count: ${right}`,
    ];
  }
}

class Group {
  readonly #names: string[] = [];
  #more = 0;

  add(name: string): void {
    if (this.#names.length < NAMED) this.#names.push(name);
    else this.#more += 1;
  }

  lines(): string[] {
    return [...this.#names.map(display), ...(this.#more > 0 ? [`… and ${this.#more} more`] : [])];
  }
}

export function compareHead(left: readonly string[], right: string): string {
  return `Comparing file list from ${nameList(left)} with ${display(right)}`;
}

/** What went wrong while trees were read. */
export function readingProblems(report: Report): Problem[] {
  const problems = report.failures.map((failure) =>
    problem('listing failed', `Listing failed: ${failureText(failure)}`),
  );
  const all = Object.values(report.failureKinds).reduce((sum, count) => sum + count, 0);
  if (all > problems.length) {
    problems.push(problem('listing failed', `Listing failed: ${all - problems.length} more failures`));
  }
  if (!report.accounted) {
    problems.push(problem('copy crashed', 'Listing crashed: the entries found and the entries listed do not agree'));
  }
  problems.push(...interruption(report, 'nothing was written'));
  return problems;
}

/** Differences, where they are to be a failure. */
export function differenceProblems({ differences }: Report): Problem[] {
  const { left, right, changed } = differences;
  const all = left + right + changed;
  return all === 0 ? [] : [problem('different', `Differences found: ${all}`)];
}
