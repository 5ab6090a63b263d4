/** What the flags that bulkhaul adds to a drop-in ask of its jobs: their values in, options and settings out. */

import { BulkhaulError } from '../../error.js';
import { display } from '../../names.js';
import type { Resources } from '../../native/options.js';
import type { JournalSettings } from '../../ops/arguments.js';
import { ExitCode } from '../../verdict.js';
import { atEnd, checkCommand, parseCommand, type UserCommand, type Witness } from '../ended.js';
import { type CommonSettings, type Context, journalSettings, stateDirectory } from '../run.js';
import { parseCount, parseRate } from '../values.js';
import type { AddedValues, ProgressForm, WatchedValues } from './added.js';
import { UsageError } from './argparse.js';

/** Throws `USAGE` for what is no rate: a limit that is not understood must not be none. */
export function resourcesOf(values: AddedValues, jobs?: number): Resources {
  const { bwlimit, iops_limit, nice, ionice } = values;
  return {
    limits: {
      ...(bwlimit !== undefined && { bytes: parseRate(bwlimit, '--bwlimit') }),
      ...(iops_limit !== undefined && { entries: parseCount(iops_limit, '--iops-limit') }),
    },
    ...(jobs !== undefined && { jobs }),
    ...(nice !== undefined && { nice }),
    ...(ionice !== undefined && { ionice }),
  };
}

/** The journal of a job. */
export function journaled(
  values: Pick<AddedValues, 'no_journal' | 'state_dir'>,
  env: NodeJS.ProcessEnv,
): { journal?: JournalSettings } {
  const { no_journal, state_dir } = values;
  return journalSettings({ directory: state_dir ?? stateDirectory(env), asked: no_journal ? false : undefined });
}

/** How a job is shown; `label`: the drop-in's name. */
export function settingsOf(
  label: string,
  values: AddedValues & { readonly dry_run: boolean },
  progress: ProgressForm,
): CommonSettings {
  const { dry_run: dryRun, json, quiet, log_file, stall_timeout } = values;
  const logFile = log_file === '-' ? '/dev/stderr' : log_file;
  const stallTimeout = Number(stall_timeout ?? 0);
  return { label, dryRun, json, progress, quiet, verbose: false, logFile, stallTimeout, ...watched(label, values) };
}

/** Who looks at a job of the drop-in of this name. */
export function watched(
  operation: string,
  {
    serve: address,
    serve_control: control,
    metrics_file: path,
    dry_run: dry,
  }: WatchedValues & { readonly dry_run: boolean },
): Pick<CommonSettings, 'serve' | 'metrics'> {
  return {
    ...(address !== undefined && { serve: { address, control } }),
    ...(path !== undefined && !dry && { metrics: { path, operation } }),
  };
}

/**
 * Runs a drop-in, and does what is to be done when it is over, however it ends. Throws `UsageError` before it begins.
 */
export async function toItsEnd(
  operation: string,
  values: WatchedValues & { readonly dry_run: boolean },
  context: Context,
  body: (context: Context) => Promise<number>,
): Promise<number> {
  if (values.serve_control && values.serve === undefined)
    throw new UsageError('argument --serve-control: it goes with --serve');
  const onEnd = commandOf(values.on_end, '--on-end', context.env);
  const onFailure = commandOf(values.on_failure, '--on-failure', context.env);
  if (values.dry_run) return body(context);
  const witness: Witness = { reports: [] };
  let exitCode: number = ExitCode.defect;
  try {
    exitCode = await body({ ...context, witness });
    return exitCode;
  } catch (error) {
    witness.refusal = BulkhaulError.from(error);
    throw error;
  } finally {
    const say = (sentence: string) => void context.stderr.write(`${operation}: ${display(sentence)}\n`);
    const wishes = { onEnd, onFailure, metricsFile: values.metrics_file };
    await atEnd(wishes, { operation, exitCode, ...witness }, context.env, say);
  }
}

function commandOf(text: string | undefined, flag: string, env: NodeJS.ProcessEnv): UserCommand | undefined {
  if (text === undefined) return undefined;
  try {
    const command = parseCommand(text, flag);
    checkCommand(command, flag, env);
    return command;
  } catch (error) {
    throw error instanceof BulkhaulError ? new UsageError(`argument ${error.message}`) : error;
  }
}
