/**
 * `hpcp -cfl`, `-dfl`, `-tdfl`, `--changes`: comparisons of trees and lists.
 *
 * Comes in: the call, whose arguments mean what they would mean for a copy; goes out: what is compared, what is printed of
 * it, and what went wrong. Names are those that a copy would give.
 */
import { lstatSync, realpathSync } from 'node:fs';
import { basename } from 'node:path';
import type { Event, Report } from '../../../events.js';
import { display, fromBytes, toBytes } from '../../../names.js';
import { compareMapped, type MappedCompareOptions } from '../../../ops/compare.js';
import { runJob } from '../../run.js';
import { askedCall } from './ask.js';
import { codeWith, type HpcpConsole, listFileError, type Problem, problem, Refused, readingProblems } from './codes.js';
import { baseOf, expandDestination, type Mapping, mapSources } from './destinations.js';
import { filterOf, patternsOf, readExcludes } from './excludes.js';
import type { HpcpCall, HpcpValues } from './flags.js';
import { hashing, journaled, outputPath, resources, settingsOf } from './settings.js';
import { isDirectory, listPath, neededSpill, pathText, type Source, sourcesOf, type Tree, treesOf } from './sources.js';
import { pythonList, RULE } from './summary.js';

/** Compares; `directory` is the working directory. */
export async function compare({ values, positionals }: HpcpCall, out: HpcpConsole, directory: string): Promise<void> {
  const { target_file_list: list, source_file_list: sourceList, one_file_system, no_hash_file_list } = values;
  const patterns = patternsOf(values);
  const names = no_hash_file_list ? { names: true } : {};
  const listed = positionals.length === 0 && sourceList !== undefined;
  const call =
    list !== undefined || listed
      ? { sources: positionals, destinations: values.dest_path }
      : await askedCall(positionals, values, out.streams);
  const found = listed ? [] : await sourcesOf(call.sources, values, out);
  const { rules, sources, notes } = readExcludes(patterns, found, directory);
  for (const note of notes) out.note(note);

  const destinations = list === undefined ? existing(sources, call.destinations) : [];
  const sides =
    list === undefined && !listed
      ? copiedSides(mapSources(sources, destinations))
      : {
          left: listed ? { list: listPath(sourceList), ...names } : { trees: treesOf(sources) },
          right:
            list !== undefined
              ? { list: listPath(list), ...names }
              : { trees: destinations.map((path) => ({ path, contents: true, follow: true })) },
          align: listed && list === undefined,
        };
  const left = listed ? [sourceList] : sources.map(({ path }) => path);
  const right = list ?? destinations[0] ?? '';
  const output = differenceFile(values, left, right);
  out.print(compareHead(left, list ?? destinations.join(', ')));
  const allowed = resources(values);
  const seen = new DifferentNames();
  const { fullHash, hashSize } = hashing(values);
  const begin = () =>
    compareMapped({
      ...sides,
      content: no_hash_file_list || hashSize === 0 ? 'nothing' : 'tail',
      metadata: values.metadata || values.changes,
      directoryTimes: false,
      xattrs: values.metadata || values.changes,
      specials: false,
      oneFileSystem: one_file_system,
      form: values.changes ? 'changes' : values.tar_diff_file_list ? 'tar' : 'both',
      spillDirectory: neededSpill(out),
      entries: true,
      ...(fullHash ? { hashSize: Number.MAX_SAFE_INTEGER } : hashSize !== undefined && { hashSize }),
      dryRun: values.dry_run,
      ...(output !== undefined && { output }),
      ...allowed,
      ...journaled(values, out.streams.env),
      ...filterOf(rules),
    });
  const listen = (event: Event) => seen.take(event);
  const problemsOf = (report: Report) => [
    ...readingProblems(report),
    ...(values.fail_on_diff ? differenceProblems(report) : []),
  ];
  const settings = settingsOf(values, codeWith(out, problemsOf));
  const report = await runJob(begin, settings, out.streams, listen).catch(listFileError);
  out.notes(report);
  out.report(...readingProblems(report));
  out.print(...seen.lines(report));
  if (output !== undefined && !values.dry_run) {
    out.print(`Diff file list written to ${display(output)}`);
    out.note(`the names in ${output} ${ownersOf(values)}`);
  }
  if (values.fail_on_diff) out.report(...differenceProblems(report));
}

/** The destinations of a comparison. Throws `Refused` where there is none, or one does not exist. */
function existing(sources: readonly Source[], wanted: readonly string[]): string[] {
  const destinations = [...new Set(wanted.flatMap(expandDestination))];
  const missing = destinations.filter((path) => sources.length > 0 && !isDirectory(baseOf(sources, path)));
  if (destinations.length > 0 && missing.length === 0) return destinations;
  const which = missing.length > 0 ? missing.join(', ') : 'none is given';
  throw new Refused([problem('no destination', `No valid destination: nothing to compare with: ${which}`)]);
}

type Sides = Pick<MappedCompareOptions, 'left' | 'right' | 'align'>;

/** The two sides for sources that would be copied so: what a copy would have made stands against each source. */
function copiedSides({ sources, destinations }: Mapping): Sides {
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
      const own = pathText(name ?? basename(pathText(path)));
      return `${pathText(directory).replace(/\/*$/, '/')}${own}`;
    }),
  );
  const there = twins.filter((path) => lstatSync(toBytes(path), { throwIfNoEntry: false }) !== undefined);
  return {
    left: { trees: left },
    right: { trees: there.map((path) => ({ path, contents: false, follow: false })) },
    // A sole file may have another name there.
    align:
      left.length === 1 && there.length === 1 && sources[0]?.name !== undefined && !isDirectoryItself(there[0] ?? ''),
  };
}

/** A symlink is none. */
function isDirectoryItself(path: string): boolean {
  return lstatSync(toBytes(path), { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/** Where the differences go; undefined: nowhere. `now`: seconds since 1970. */
function differenceFile(
  { diff_file_list: given, tar_diff_file_list: tar, changes }: HpcpValues,
  sources: readonly string[],
  other: string,
  now = Math.floor(Date.now() / 1000),
): string | undefined {
  if (given === undefined && !tar && !changes) return undefined;
  if (typeof given === 'string') return outputPath(given);
  const own = (path: string) => basename(path.replace(/\/+$/, '')) || 'root';
  const target = fromBytes(realpathSync.native(toBytes(other), { encoding: 'buffer' }));
  return `DIFF_${sources.map(own).join('-')}_TO_${own(target)}_${now}_${tar ? 'tar_' : ''}file_list.txt`;
}

/** Which side the names in the file of differences belong to. */
function ownersOf({ tar_diff_file_list: tar, changes }: HpcpValues): string {
  if (changes) return 'with A and M belong to the source, those with D to the destination';
  return `belong to the destination${tar ? '' : '; those with - and NUL in front belong to the source'}`;
}

/** Names of one group that are printed; all of them are in the file of differences. */
const NAMED = 1000;

/** Collects what is printed of a comparison. */
class DifferentNames {
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

function compareHead(left: readonly string[], right: string): string {
  return `Comparing file list from ${pythonList(left)} with ${display(right)}`;
}

/** Differences, where they are to be a failure. */
function differenceProblems({ differences }: Report): Problem[] {
  const { left, right, changed } = differences;
  const all = left + right + changed;
  return all === 0 ? [] : [problem('different', `Differences found: ${all}`)];
}
