/**
 * `hpcp -rm` without a destination: bulk removal.
 *
 * Comes in: the call; goes out: what is removed, what is asked, its lines, and what went wrong. Nothing goes without a yes,
 * typed or piped, or `-rf`.
 */
import { lstatSync } from 'node:fs';
import { homedir } from 'node:os';
import type { ErrorEvent, Event, Report } from '../../../events.js';
import { display, toBytes } from '../../../names.js';
import { Removal, type RemoveOptions } from '../../../ops/remove.js';
import { failureText } from '../../../report/summary.js';
import { askConsent, removalPreview } from '../../consent.js';
import { type CommonSettings, type Context, inUse, runJob, spillDirectory } from '../../run.js';
import { Stopped } from './ask.js';
import { codeWith, type HpcpConsole, interruption, type Problem, problem, Refused, told } from './codes.js';
import { patternsOf, readExcludes } from './excludes.js';
import type { HpcpCall, HpcpValues } from './flags.js';
import { journaled, resources, settingsOf } from './settings.js';
import { expand, listed, type Source, type Sources, some } from './sources.js';
import { pythonList, RULE } from './summary.js';

/** Removes; `directory` is the working directory. */
export async function remove({ values, positionals }: HpcpCall, out: HpcpConsole, directory: string): Promise<void> {
  const patterns = patternsOf(values);
  if (positionals.length === 0 && values.source_file_list === undefined) {
    throw new Refused([problem('no source', 'No source paths: nothing to remove is given')]);
  }
  const { found: typed, problems } = findVictims(positionals);
  out.report(...problems);
  const found = some([...typed, ...(await listed(values, out))]);
  const { rules, sources, notes } = readExcludes(patterns, found, directory);
  for (const note of notes) out.note(note);
  // What ends in dots is for the engine to refuse, not to be spelled out here.
  const victims = sources.map((source, index) => {
    const typed = found[index] ?? source;
    return /(^|\/)\.{1,2}\/*$/.test(typed.path) ? typed : source;
  });
  const settings = settingsOf(values, codeWith(out, removalProblems));
  const { env } = out.streams;
  const own = { spillDirectory: spillDirectory(env), ...inUse(settings, env), ...journaled(values, env) };
  const options = { ...removalOptions(values, victims, rules), ...own };
  out.print(removalHead(victims, options));
  const names: string[] = [];
  const listen = (event: Event) => {
    if (values.verbose && event.type === 'entry' && event.outcome === 'removed' && event.kind !== 'directory') {
      names.push(event.source);
    }
  };
  const report = await runRemoval(options, values.remove_force, settings, out.streams, listen);
  out.notes(report);
  out.report(...removalProblems(report));
  if (values.dry_run) out.print('Dry run: nothing was done; the totals are what would be done');
  out.print(...removalLines(report, victims, names));
}

/** The arguments as paths: a literal name first, then as a pattern, `~` last. A symlink stands for itself. */
function findVictims(args: readonly string[]): Sources {
  const found: Source[] = [];
  const problems: Problem[] = [];
  for (const arg of args) {
    const paths = expand(arg);
    if (paths.length === 0) problems.push(problem('source missing', `Source path not found: ${arg}`));
    found.push(...paths.map((path): Source => ({ path, kind: isDirectory(path) ? 'directory' : 'other' })));
  }
  return { found, problems };
}

/** What cannot be looked at is for the engine to report. */
function isDirectory(path: string): boolean {
  return lstatSync(toBytes(path.replace(/(?<=[^/])\/+$/, '')), { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/** Options of the removal; `rules` as `readExcludes` makes them. */
function removalOptions(values: HpcpValues, sources: readonly Source[], rules: readonly string[]): RemoveOptions {
  return {
    paths: sources.map(({ path }) => path),
    excludeAbsolute: [...rules],
    protect: homedir() === '' ? [] : [homedir()],
    noPreserveRoot: [...values.no_preserve_root],
    dryRun: values.dry_run,
    listFirst: values.do_not_remove_files_while_listing,
    entries: values.dry_run || values.verbose,
    ...resources(values),
    ...(values.max_delete !== undefined && { maxDelete: values.max_delete as `${number}%` }),
  };
}

/** Removes, after a question where `force` does not answer it. Throws `Stopped` where nobody agrees. */
async function runRemoval(
  options: RemoveOptions,
  force: boolean,
  settings: CommonSettings,
  streams: Context,
  listen: (event: Event) => void,
): Promise<Report> {
  const removal = new Removal(options);
  if (!force && !options.dryRun) await consent(removal, settings, streams);
  return runJob(() => removal.remove(), settings, streams, listen);
}

async function consent(removal: Removal, settings: CommonSettings, streams: Context): Promise<void> {
  const names: string[] = [];
  const looking = { ...settings, json: false, dryRun: false, aside: 'counting' };
  const report = await runJob(
    () => removal.preview(),
    looking,
    streams,
    (event) => event.type === 'entry' && names.push(event.source),
  );
  if (report.interrupted) throw new Stopped('Interrupted: nothing was removed', true);
  const answer = await askConsent(`${removalPreview(report, names)}Do you want to continue? (y/n) `, streams);
  if (answer === 'interrupted') throw new Stopped('Interrupted: nothing was removed', true);
  if (answer === 'no') throw new Stopped('Stopped: the answer was not yes, nothing was removed');
  if (answer === 'nobody') {
    throw new Stopped('Stopped: nobody answered, nothing was removed; -rf removes without a question');
  }
}

/** What the report says went wrong. */
function removalProblems(report: Report): Problem[] {
  const problems = report.failures.map((failure) => told(caseOf(failure), failureText(failure)));
  const all = Object.values(report.failureKinds).reduce((sum, count) => sum + count, 0);
  if (all > report.failures.length) {
    problems.push(problem('removal failed', `Removal failed: ${all - report.failures.length} more failures`));
  }
  if (!report.accounted) {
    problems.push(problem('copy crashed', 'Removal crashed: the entries found and the entries finished do not agree'));
  }
  problems.push(...interruption(report, 'run the same command again to go on'));
  return problems;
}

function caseOf({ kind, operation, entryKind, errno }: ErrorEvent): Problem['case'] {
  if (kind === 'panic') return 'copy crashed';
  const unlisted = operation === 'list' || (operation === 'open' && entryKind === 'directory' && errno !== 'EXDEV');
  return unlisted ? 'listing failed' : 'removal failed';
}

/** `Removing files from [...] with N workers`. */
function removalHead(sources: readonly Source[], options: RemoveOptions): string {
  const crew = options.jobs === undefined ? '' : ` with ${options.jobs} workers`;
  return `Removing files from ${pythonList(sources.map(({ path }) => path))}${crew}`;
}

/** The end of a removal; `names`: with -v, what went. */
function removalLines(report: Report, sources: readonly Source[], names: readonly string[]): string[] {
  const { outcomes, directories, skipped, elapsed } = report;
  const from = pythonList(sources.map(({ path }) => path));
  const kept = (skipped.excluded ?? 0) + (skipped['not-empty'] ?? 0);
  return [
    `Removed ${outcomes.removed - directories.removed} files and links from ${from} in ${elapsed.toFixed(4)} seconds`,
    `Removed ${directories.removed} folders`,
    ...(kept > 0
      ? [`Kept ${skipped.excluded ?? 0} excluded, and ${skipped['not-empty'] ?? 0} folders that are not empty`]
      : []),
    ...[...names].sort().map((name) => `Removed File: ${display(name)}`),
    RULE,
  ];
}
