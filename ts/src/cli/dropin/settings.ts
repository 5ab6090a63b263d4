/** What the flags that bulkhaul adds to a drop-in ask of its jobs: their values in, options and settings out. */
import type { Resources } from '../../native/options.js';
import type { JournalSettings } from '../../ops/arguments.js';
import { type CommonSettings, journalSettings, stateDirectory } from '../run.js';
import { parseCount, parseRate } from '../values.js';
import type { AddedValues, ProgressForm } from './added.js';

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
export function journaled(values: AddedValues, env: NodeJS.ProcessEnv): { journal?: JournalSettings } {
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
  return { label, dryRun, json, progress, quiet, verbose: false, logFile, stallTimeout: Number(stall_timeout ?? 0) };
}
