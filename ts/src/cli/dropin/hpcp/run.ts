/**
 * One call of `hpcp`, its arguments read: the verb that it asks for, between the original's echo and last line.
 *
 * Comes in: the call; goes out: the exit code. Errors and notes go to stderr; with --json stdout holds nothing but JSON.
 */
import { realpathSync } from 'node:fs';
import { NO_WORKING_DIRECTORY } from '../../../error.js';
import type { CommandOperation } from '../../../journal/record.js';
import { fromBytes, toBytes } from '../../../names.js';
import type { Ended } from '../../recorded.js';
import type { Context } from '../../run.js';
import { UsageError } from '../argparse.js';
import { Console } from '../console.js';
import { Stopped } from './ask.js';
import { exitCode, forJson, type HpcpConsole, lastLine, type Problem, problem, problemOf, Refused } from './codes.js';
import { ExcludeFileError } from './excludes.js';
import { echo, type HpcpCall, type HpcpValues, usageError, usesImages, workOf, writtenList } from './flags.js';
import { journaled } from './settings.js';
import { RULE } from './summary.js';

/** Runs a call. */
export async function run(call: HpcpCall, streams: Context): Promise<number> {
  const operation = recordedWork(call);
  if (operation === undefined) return (await told(call, streams)).exitCode;
  const { dest_image, dest_path, src_image = [], get_diff_image: made, load_diff_image: loaded } = call.values;
  const { journal } = call.values.dry_run ? {} : journaled(call.values, streams.env);
  const { recorded } = await import('../../recorded.js');
  const work = {
    operation,
    sources: [...src_image, ...(loaded ?? []), ...call.positionals],
    destinations: [dest_image ?? [], dest_path, typeof made === 'string' ? made : []].flat(),
    quiet: call.values.quiet || call.values.json,
  };
  return recorded(work, journal, streams, (watched) => told(call, watched));
}

/** What of it is several jobs, or works on what is mounted meanwhile. */
function recordedWork(call: HpcpCall): CommandOperation | undefined {
  const work = workOf(call);
  if (isRemoval(call) || work === 'list' || work === 'compare') return undefined;
  return work ?? (usesImages(call.values) ? 'image' : undefined);
}

/** What goes wrong is collected on the way, and decides the last line and the exit code. */
async function told(call: HpcpCall, streams: Context): Promise<Ended> {
  const { json, quiet } = call.values;
  const out: HpcpConsole = new Console('hpcp', streams, { json, quiet, piped: writtenList(call.values) === '-' });
  out.print(echo(call), RULE);
  try {
    await work(call, out);
  } catch (error) {
    caught(error, out);
  }
  out.print(lastLine(out.problems));
  try {
    await out.flush();
  } catch (error) {
    const lost = problemOf(error);
    // The reporters of the job may have told it.
    if (!out.problems.some(({ message }) => message === lost.message)) out.report(lost);
  }
  return { exitCode: exitCode(out.problems), why: out.problems[0]?.message };
}

/** Only the verb that is asked for is loaded. */
async function work(call: HpcpCall, out: HpcpConsole): Promise<void> {
  // Every verb stands on it: where it is gone, a source that is not found says nothing about the source.
  const directory = workingDirectory();
  if (isRemoval(call)) return (await import('./remove.js')).remove(call, out, directory);
  switch (workOf(call)) {
    case 'clone':
      return (await import('./clone.js')).cloneDisk(call, out);
    case 'list':
      return (await import('./list.js')).list(call, out, directory);
    case 'compare':
      return (await import('./compare.js')).compare(call, out, directory);
    case 'patch': {
      const disks = await import('./diskpatch.js');
      if (disks.isOfDisk(call)) return disks.patchDisk(call, out, directory);
      return (await import('./patch.js')).patch(call, out, directory);
    }
    case undefined:
      return (await import('./copy.js')).copy(call, out, directory);
  }
}

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

function caught(error: unknown, out: HpcpConsole): void {
  const refusal = refusalOf(error);
  if (refusal === undefined) {
    out.report(problemOf(error));
    if (problemOf(error).case === 'defect') out.say(error instanceof Error ? (error.stack ?? '') : '');
  } else if (error instanceof UsageError) {
    out.streams.stderr.write(usageError(error.message));
    out.collect(...refusal);
  } else out.report(...refusal);
  // The reporters of a job may have told it in JSON.
  if (error instanceof Refused && error.told) return;
  for (const each of refusal ?? []) out.json({ type: 'error', kind: 'refused', ...forJson(each) });
}

/** The problems for which no job was begun; undefined: it was, or this is a defect. */
function refusalOf(error: unknown): readonly Problem[] | undefined {
  if (error instanceof Refused) return error.problems;
  if (error instanceof ExcludeFileError || error instanceof Stopped) return [error.problem];
  return error instanceof UsageError ? [problemOf(error)] : undefined;
}

function workingDirectory(): string {
  try {
    return fromBytes(realpathSync.native(toBytes('.'), { encoding: 'buffer' }));
  } catch {
    throw new Refused([problem('usage', NO_WORKING_DIRECTORY)]);
  }
}
