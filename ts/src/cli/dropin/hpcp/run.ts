/**
 * One call of `hpcp`, its arguments read: one job, a copy or a removal, the original's echo, summary and last line on stdout, and its
 * exit code. Errors and notes go to stderr; with --json stdout holds nothing but JSON.
 */
import { realpathSync } from 'node:fs';
import { BulkhaulError } from '../../../error.js';
import type { Event, Report, Victims } from '../../../events.js';
import { display, fromBytes, toBytes } from '../../../names.js';
import type { MaxDelete } from '../../../ops/arguments.js';
import { compareMapped } from '../../../ops/compare.js';
import { copyMapped, type MappedCopyOptions } from '../../../ops/copy.js';
import type { Job } from '../../../ops/job.js';
import { listedSources, listMapped } from '../../../ops/list.js';
import { jsonLine } from '../../../report/json.js';
import { Output } from '../../../report/output.js';
import { NO_WORKING_DIRECTORY } from '../../exit.js';
import { type CommonSettings, type Context, neededSpillDirectory, runJob, spillDirectory } from '../../run.js';
import { parseOwner } from '../../values.js';
import { UsageError } from '../argparse.js';
import { answered, ask, type Call, inputWaits, question, Stopped, withoutTerminal } from './ask.js';
import { exitCode, forJson, lastLine, type Problem, problem, problemOf, problemsOf } from './codes.js';
import {
  compareHead,
  copiedSides,
  DifferentNames,
  differenceFile,
  differenceProblems,
  hashing,
  listPath,
  ownersOf,
  readingProblems,
  treesOf,
  workOf,
} from './compare.js';
import { agreed, deletionLines } from './copy.js';
import {
  baseOf,
  destinationLine,
  expandDestination,
  findListed,
  findSources,
  isDirectory,
  mapSources,
  type Source,
  sourcesThatAreDestinations,
  usableDestinations,
} from './destinations.js';
import { ExcludeFileError, readExcludeFile, readExcludes } from './excludes.js';
import { choice, echo, type HpcpCall, type HpcpValues, usageError } from './flags.js';
import {
  findVictims,
  isRemoval,
  removalHead,
  removalLines,
  removalOptions,
  removalProblems,
  runRemoval,
} from './remove.js';
import { resources } from './settings.js';
import { CopiedNames, headLine, leftOutNotes, RULE, summaryLines } from './summary.js';

/** Nothing can be copied; the problems say why. `told`: the reporters of a job have said so in JSON. */
class Refused extends Error {
  constructor(
    readonly problems: readonly Problem[],
    readonly told = false,
  ) {
    super('refused');
  }
}

/** One call: what went wrong is collected on the way, and decides the last line and the exit code. */
export class Run {
  readonly #problems: Problem[] = [];
  readonly #stdout: Output;
  #json = false;
  #quiet = false;

  constructor(readonly streams: Context) {
    // A reader that goes away ends the lines, not the copy.
    this.#stdout = new Output(streams.stdout, () => undefined);
  }

  async main(call: HpcpCall): Promise<number> {
    const { values } = call;
    this.#json = values.json;
    this.#quiet = values.quiet;
    this.#print(echo(call), RULE);
    try {
      await this.#work(call);
    } catch (error) {
      this.#caught(error);
    }
    this.#print(lastLine(this.#problems));
    await this.#stdout.flush();
    try {
      this.#stdout.check('standard output');
    } catch (error) {
      const lost = problemOf(error);
      // The reporters of the job may have told it.
      if (!this.#problems.some(({ message }) => message === lost.message)) this.#report(lost);
    }
    return exitCode(this.#problems);
  }

  #work(call: HpcpCall): Promise<void> {
    // Every verb stands on it: where it is gone, a source that is not found says nothing about the source.
    const directory = workingDirectory();
    if (isRemoval(call)) return this.#remove(call, directory);
    switch (workOf(call)) {
      case 'list':
        return this.#list(call, directory);
      case 'compare':
        return this.#compare(call, directory);
      case undefined:
        return this.#copy(call, directory);
    }
  }

  /** The sources that arguments and a list name; the missing ones are problems. */
  async #sources(args: readonly string[], values: HpcpValues): Promise<Source[]> {
    const { found, problems } = findSources(args);
    this.#report(...problems);
    if (values.source_file_list !== undefined || args.length > 0) {
      return this.#some([...found, ...(await this.#listed(values))]);
    }
    // What removes takes its list from standard input only where it is told to.
    if (isTerminal(this.streams.stdin) || values.remove || values.remove_extra) {
      throw new Refused([problem('no source', 'No source paths: no source is given')]);
    }
    return this.#some(await this.#listed(values, '-'));
  }

  /** The sources of a list, if one is given. */
  async #listed({ source_file_list }: HpcpValues, path = source_file_list): Promise<Source[]> {
    if (path === undefined) return [];
    const paths = await listedSources(listPath(path), this.#spill()).catch((error: Error) => {
      throw new Refused([problem('list file', `Source list can not be read: ${error.message}`)]);
    });
    const { found, problems } = findListed(paths);
    this.#report(...problems);
    return found;
  }

  /** Where temporary files go, for what can't do without. */
  #spill(): string {
    try {
      return neededSpillDirectory(this.streams.env);
    } catch (error) {
      throw new Refused([problemOf(error)]);
    }
  }

  #some(found: Source[]): Source[] {
    if (found.length > 0) return found;
    throw new Refused([problem('no source', 'No source paths: none of them exists')]);
  }

  async #list({ values, positionals }: HpcpCall, directory: string): Promise<void> {
    const output = values.target_file_list ?? '';
    const patterns = patternsOf(values);
    const found = await this.#sources(positionals, values);
    const { rules, sources, notes } = readExcludes(patterns, found, directory);
    for (const note of notes) this.#note(note);
    for (const { path } of sources) this.#print(`Getting file list for ${display(path)}`);
    const allowed = resources(values);
    const begin = (entries: boolean) =>
      listMapped({
        ...hashing(values),
        sources: treesOf(sources),
        hashes: !values.no_hash_file_list,
        oneFileSystem: values.one_file_system,
        spillDirectory: this.#spill(),
        entries,
        ...(!values.dry_run && { output }),
        ...allowed,
        ...(rules.length > 0 && { filter: { style: 'fnmatch' as const, rules } }),
      });
    const report = await runJob(begin, settingsOf(values), this.streams).catch(listFileError);
    this.#notes(report);
    this.#report(...readingProblems(report));
    this.#print(
      `Time taken to get file list: ${report.elapsed.toFixed(4)} seconds`,
      `Number of files: ${report.outcomes.listed}`,
      values.dry_run ? 'Dry run: no list was written' : `Writing file list to ${display(output)}`,
    );
  }

  async #compare({ values, positionals }: HpcpCall, directory: string): Promise<void> {
    const { target_file_list: list, source_file_list: sourceList, one_file_system, no_hash_file_list } = values;
    const patterns = patternsOf(values);
    const names = no_hash_file_list ? { names: true } : {};
    const listed = positionals.length === 0 && sourceList !== undefined;
    const call =
      list !== undefined || listed
        ? { sources: positionals, destinations: values.dest_path }
        : await this.#where(positionals, values);
    const found = listed ? [] : await this.#sources(call.sources, values);
    const { rules, sources, notes } = readExcludes(patterns, found, directory);
    for (const note of notes) this.#note(note);

    const destinations = list === undefined ? this.#existing(sources, call.destinations) : [];
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
    this.#print(compareHead(left, list ?? destinations.join(', ')));
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
        spillDirectory: this.#spill(),
        entries: true,
        ...(fullHash ? { hashSize: Number.MAX_SAFE_INTEGER } : hashSize !== undefined && { hashSize }),
        ...(output !== undefined && !values.dry_run && { output }),
        ...allowed,
        ...(rules.length > 0 && { filter: { style: 'fnmatch' as const, rules } }),
      });
    const take = (event: Event) => seen.take(event);
    const report = await runJob(begin, settingsOf(values), this.streams, take).catch(listFileError);
    this.#notes(report);
    this.#report(...readingProblems(report));
    this.#print(...seen.lines(report));
    if (output !== undefined && !values.dry_run) {
      this.#print(`Diff file list written to ${display(output)}`);
      this.#note(`the names in ${output} ${ownersOf(values)}`);
    }
    if (values.fail_on_diff) this.#report(...differenceProblems(report));
  }

  /** The destinations of a comparison. */
  #existing(sources: readonly Source[], wanted: readonly string[]): string[] {
    const destinations = [...new Set(wanted.flatMap(expandDestination))];
    const missing = destinations.filter((path) => sources.length > 0 && !isDirectory(baseOf(sources, path)));
    if (destinations.length > 0 && missing.length === 0) return destinations;
    const which = missing.length > 0 ? missing.join(', ') : 'none is given';
    throw new Refused([problem('no destination', `No valid destination: nothing to compare with: ${which}`)]);
  }

  /** What was lost is a problem, and told as one. */
  #notes(report: Report): void {
    for (const { count, lost, message } of report.notes) {
      if (!lost) this.#note(`${message}${count > 1 ? ` (${count} times)` : ''}`);
    }
  }

  async #remove({ values, positionals }: HpcpCall, directory: string): Promise<void> {
    const patterns = patternsOf(values);
    if (positionals.length === 0 && values.source_file_list === undefined) {
      throw new Refused([problem('no source', 'No source paths: nothing to remove is given')]);
    }
    const { found: typed, problems } = findVictims(positionals);
    this.#report(...problems);
    const found = this.#some([...typed, ...(await this.#listed(values))]);
    const { rules, sources, notes } = readExcludes(patterns, found, directory);
    for (const note of notes) this.#note(note);
    // What ends in dots is for the engine to refuse, not to be spelled out here.
    const victims = sources.map((source, index) => {
      const typed = found[index] ?? source;
      return /(^|\/)\.{1,2}\/*$/.test(typed.path) ? typed : source;
    });
    const options = removalOptions(values, victims, rules);
    this.#print(removalHead(victims, options));
    const names: string[] = [];
    const take = (event: Event) => {
      if (values.verbose && event.type === 'entry' && event.outcome === 'removed' && event.kind !== 'directory') {
        names.push(event.source);
      }
    };
    const report = await runRemoval(options, values.remove_force, settingsOf(values), this.streams, take);
    this.#notes(report);
    this.#report(...removalProblems(report));
    if (values.dry_run) this.#print('Dry run: nothing was done; the totals are what would be done');
    this.#print(...removalLines(report, victims, names));
  }

  async #copy({ values, positionals }: HpcpCall, directory: string): Promise<void> {
    const flags = await optionsOf(values).catch((error: unknown) => {
      throw new Refused([problemOf(error)]);
    });
    if (values.hash_size !== undefined && values.hash_size <= 0) {
      this.#note('hash size 0: contents are not compared, a file of equal size and time counts as unchanged');
    }
    if (values.remove_force && !values.remove)
      this.#note('-rf only answers questions here: the sources stay; -rm removes them');
    const patterns = patternsOf(values);
    const { sources: args, destinations: wanted } = await this.#where(positionals, values);
    const found = await this.#sources(args, values);
    const destinations = this.#usable(found, wanted, values);
    const { rules, sources, notes } = readExcludes(patterns, found, directory);
    for (const note of notes) this.#note(note);
    const mapping = mapSources(sources, destinations, {
      create: !values.no_create_dir,
      rooted: nameList(values) !== undefined,
    });
    const same = sourcesThatAreDestinations(mapping);
    if (same.length > 0) throw new Refused(same);
    if (destinations.length > 1) this.#note(destinationLine(destinations));
    this.#print(
      headLine(
        sources.map(({ path }) => path),
        destinations,
      ),
    );

    // What a missing source had would look extra.
    const removeExtra = values.remove_extra && !this.#problems.some((each) => each.case === 'source missing');
    if (values.remove_extra && !removeExtra) {
      this.#report(problem('removal skipped', 'Removal skipped: a source is missing, so nothing extra was removed'));
    }
    const options: MappedCopyOptions = {
      ...flags,
      removeExtra,
      ...mapping,
      spillDirectory: spillDirectory(this.streams.env),
      ...(rules.length > 0 && { filter: { style: 'fnmatch' as const, rules } }),
    };
    const names = new CopiedNames();
    const asks = (removeExtra || values.remove) && !values.remove_force && !values.dry_run;
    const begin: Parameters<typeof runJob>[0] = (entries, hush) => {
      const confirm = (victims: readonly Victims[]) => hush(() => agreed(victims, this.streams, () => job.cancel()));
      const job: Job = copyMapped({ ...options, entries: entries || values.verbose, ...(asks && { confirm }) });
      return job;
    };
    const listen = values.verbose ? (event: Event) => names.take(event) : undefined;
    const report = await runJob(begin, settingsOf(values), this.streams, listen);
    this.#summary(report, sources.length > 1, values.dry_run, values.verbose ? names.lines() : []);
  }

  /** The sources and destinations as typed, or as answered. */
  async #where(positionals: readonly string[], values: HpcpValues): Promise<Call> {
    if (values.dest_path.length > 0) return { sources: positionals, destinations: values.dest_path };
    if (positionals.length === 0 && values.source_file_list === undefined) {
      throw new Refused([problem('no source', 'No source paths: no source is given')]);
    }
    if (values.source_file_list !== undefined) {
      throw new UsageError('argument -d/-C/--dest_path: sources from a list need a destination');
    }
    const { stdin, stderr } = this.streams;
    if (nameList(values)?.path === '/dev/stdin') return withoutTerminal(positionals, () => false);
    if (!('isTTY' in stdin && stdin.isTTY)) return withoutTerminal(positionals, inputWaits);
    return answered(positionals, (await ask(question(positionals), stdin, stderr)) ?? '');
  }

  #usable(sources: readonly Source[], wanted: readonly string[], values: HpcpValues): string[] {
    const expanded = wanted.flatMap((destination) => {
      const paths = expandDestination(destination);
      if (paths.length === 0) {
        this.#report(problem('no destination', `No valid destination: no directory matches ${destination}`));
      }
      return paths;
    });
    const requirements = { exists: values.no_create_dir, fileSystem: values.target_file_system };
    const { usable, problems } = usableDestinations(sources, [...new Set(expanded)], requirements);
    this.#report(...problems);
    if (usable.length > 0) return usable;
    throw new Refused([problem('no destination', 'No valid destination: none is left, nothing was copied')]);
  }

  #summary(report: Report, several: boolean, dryRun: boolean, names: readonly string[]): void {
    for (const note of leftOutNotes(report)) this.#note(note);
    this.#notes(report);
    this.#report(...problemsOf(report));
    if (dryRun) this.#print('Dry run: nothing was done; the totals are what would be done');
    this.#print(...summaryLines(report, several), ...deletionLines(report));
    if (names.length > 0) this.#print(...names, RULE);
  }

  #caught(error: unknown): void {
    const refusal = refusalOf(error);
    if (refusal === undefined) {
      this.#report(problemOf(error));
      if (problemOf(error).case === 'defect') this.#say(error instanceof Error ? (error.stack ?? '') : '');
    } else if (error instanceof UsageError) {
      this.streams.stderr.write(usageError(error));
      this.#problems.push(...refusal);
    } else this.#report(...refusal);
    if (!this.#json || wasTold(error)) return;
    for (const each of refusal ?? [])
      this.#stdout.write(jsonLine({ type: 'error', kind: 'refused', ...forJson(each) }));
  }

  #report(...problems: readonly Problem[]): void {
    this.#problems.push(...problems);
    for (const { message } of problems) this.#say(message);
  }

  #note(text: string): void {
    if (!this.#quiet) this.#say(`note: ${text}`);
  }

  #say(text: string): void {
    this.streams.stderr.write(`hpcp: ${text.split('\n').map(display).join('\n')}\n`);
  }

  #print(...lines: readonly string[]): void {
    if (!this.#json) this.#stdout.write(lines.map((line) => `${line}\n`).join(''));
  }
}

/** What a list cannot be read or written for has a code of its own. */
function listFileError(error: unknown): never {
  if (error instanceof BulkhaulError && (error.code === 'LIST' || error.code === 'OUTPUT')) {
    throw new Refused([problem('list file', `List file: ${error.message}`)], true);
  }
  throw error;
}

/** Whether the reporters of a job have told it in JSON. */
function wasTold(error: unknown): boolean {
  return error instanceof Refused && error.told;
}

function isTerminal(stream: object): boolean {
  return 'isTTY' in stream && stream.isTTY === true;
}

/** The problems for which no job was begun; undefined: it was, or this is a defect. */
function refusalOf(error: unknown): readonly Problem[] | undefined {
  if (error instanceof Refused) return error.problems;
  if (error instanceof ExcludeFileError || error instanceof Stopped) return [error.problem];
  return error instanceof UsageError ? [problemOf(error)] : undefined;
}

function patternsOf({ exclude, exclude_file }: HpcpValues): string[] {
  return [...exclude, ...(exclude_file === undefined ? [] : readExcludeFile(exclude_file))];
}

function settingsOf(values: HpcpValues): CommonSettings {
  return {
    dryRun: values.dry_run,
    json: values.json,
    progress: choice(values, 'progress') ?? 'auto',
    quiet: values.quiet,
    // -v of hpcp is another one: see CopiedNames.
    verbose: false,
    logFile: values.log_file,
    stallTimeout: Number(values.stall_timeout ?? values.command_timeout_limit ?? 0),
  };
}

/** What the flags ask of the copy, apart from what goes where. */
async function optionsOf(values: HpcpValues): Promise<Omit<MappedCopyOptions, 'sources' | 'destinations'>> {
  const owner = values.chown === undefined ? {} : await parseOwner(values.chown);
  const filesFrom = nameList(values);
  return {
    allowNested: true,
    sparse: choice(values, 'sparse') ?? 'always',
    sync: choice(values, 'sync') ?? 'safe',
    fullHash: values.full_hash,
    dryRun: values.dry_run,
    oneFileSystem: values.one_file_system,
    keepDirlinks: values.keep_dirlinks,
    directories: values.directory_only ? 'only' : values.no_directory_sync ? 'needed' : 'all',
    linkTracking: values.link_tracking && !values.no_link_tracking,
    contentOnly: values.content_only,
    owner: !values.no_owner,
    requireSpace: values.exit_not_enough_space || values.require_space,
    verify: values.verify,
    removeSources: values.remove,
    acceptTimeLoss: values.accept_time_loss,
    randomDestination: values.random_dest_selection,
    ...(values.max_delete !== undefined && { maxDelete: values.max_delete as MaxDelete }),
    ...(values.hash_size !== undefined && { hashSize: Math.max(0, values.hash_size) }),
    ...resources(values),
    ...(owner.user !== undefined && { chownUser: owner.user }),
    ...(owner.group !== undefined && { chownGroup: owner.group }),
    ...(values.chmod !== undefined && { chmod: values.chmod }),
    ...(filesFrom && { filesFrom }),
  };
}

/** The list of names to copy, with - for standard input. */
function nameList({ files_from, files_from0 }: HpcpValues): { path: string; nul: boolean } | undefined {
  const path = files_from ?? files_from0;
  return path === undefined ? undefined : { path: path === '-' ? '/dev/stdin' : path, nul: files_from0 !== undefined };
}

function workingDirectory(): string {
  try {
    return fromBytes(realpathSync.native(toBytes('.'), { encoding: 'buffer' }));
  } catch {
    throw new Refused([problem('usage', NO_WORKING_DIRECTORY)]);
  }
}
