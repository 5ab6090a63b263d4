/**
 * `hpcp -rm` without a destination: bulk removal.
 *
 * Comes in: the values of the flags and the arguments as typed; goes out: what is removed, what is asked, and what went
 * wrong in the original's codes. Nothing goes without a yes, typed or piped, or `-rf`.
 */
import { lstatSync } from 'node:fs';
import { homedir } from 'node:os';
import type { ErrorEvent, Event, Report } from '../../../events.js';
import { display, toBytes } from '../../../names.js';
import { Removal, type RemoveOptions } from '../../../ops/remove.js';
import { failureText } from '../../../report/summary.js';
import { askConsent, removalPreview } from '../../consent.js';
import { type CommonSettings, type Context, runJob } from '../../run.js';
import { Stopped } from './ask.js';
import { interruption, type Problem, problem } from './codes.js';
import { expand, type Source } from './destinations.js';
import type { HpcpCall, HpcpValues } from './flags.js';
import { resources } from './settings.js';
import { list, RULE } from './summary.js';

/** Where one of these is given, the sources are read for something else. */
const OTHER_WORK: readonly (keyof HpcpValues)[] = [
  'dest_path',
  'dest_image',
  'get_diff_image',
  'load_diff_image',
  'disk_dump',
  'target_file_list',
  'compare_file_list',
  'diff_file_list',
  'tar_diff_file_list',
  'changes',
  'remove_extra',
];

/** Whether a call removes and does nothing else: `-rf` alone asks for it too, but never where there is a destination. */
export function isRemoval({ values, given }: HpcpCall): boolean {
  return (values.remove || values.remove_force) && !given.some((name) => OTHER_WORK.includes(name));
}

/** The arguments as paths: a literal name first, then as a pattern, `~` last. A symlink stands for itself. */
export function findVictims(args: readonly string[]): { found: Source[]; problems: Problem[] } {
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
export function removalOptions(
  values: HpcpValues,
  sources: readonly Source[],
  rules: readonly string[],
): RemoveOptions {
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
export async function runRemoval(
  options: RemoveOptions,
  force: boolean,
  settings: CommonSettings,
  streams: Context,
  take: (event: Event) => void,
): Promise<Report> {
  const removal = new Removal(options);
  if (!force && !options.dryRun) await consent(removal, settings, streams);
  return runJob(() => removal.remove(), settings, streams, take);
}

async function consent(removal: Removal, settings: CommonSettings, streams: Context): Promise<void> {
  const names: string[] = [];
  const looking = { ...settings, json: false, dryRun: false, logFile: undefined };
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
export function removalProblems(report: Report): Problem[] {
  const problems = report.failures.map((failure) => problem(caseOf(failure), failureText(failure)));
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
export function removalHead(sources: readonly Source[], options: RemoveOptions): string {
  const crew = options.jobs === undefined ? '' : ` with ${options.jobs} workers`;
  return `Removing files from ${list(sources.map(({ path }) => path))}${crew}`;
}

/** The end of a removal; `names`: with -v, what went. */
export function removalLines(report: Report, sources: readonly Source[], names: readonly string[]): string[] {
  const { outcomes, directories, skipped, elapsed } = report;
  const from = list(sources.map(({ path }) => path));
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
