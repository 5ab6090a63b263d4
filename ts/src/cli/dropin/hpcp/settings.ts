/**
 * What flags of `hpcp` mean for every verb: how a job is shown, what it may take of the machine, and what of a file counts.
 *
 * Comes in: the values of the flags; goes out: the common settings, and options of the operations. What is no rate throws
 * `UsageError`.
 */
import { availableParallelism } from 'node:os';
import type { Report } from '../../../events.js';
import type { Resources } from '../../../native/options.js';
import type { JournalSettings } from '../../../ops/arguments.js';
import { type CommonSettings, journalSettings, stateDirectory } from '../../run.js';
import { parseCount, parseRate } from '../../values.js';
import { UsageError } from '../argparse.js';
import { watched } from '../settings.js';
import { FLAGS } from './codes.js';
import { choice, type HpcpValues } from './flags.js';

/** Worker threads at most, as the engine has it. */
const MOST = 1024;

/** The common settings; `exitCode`: what the command ends with for a report. */
export function settingsOf(values: HpcpValues, exitCode: (report: Report) => number): CommonSettings {
  return {
    label: 'hpcp',
    flags: FLAGS,
    exitCode,
    dryRun: values.dry_run,
    json: values.json,
    progress: choice(values, 'progress') ?? 'auto',
    quiet: values.quiet,
    // -v of hpcp is another one: see CopiedNames.
    verbose: false,
    logFile: values.log_file === '-' ? '/dev/stderr' : values.log_file,
    stallTimeout: Number(values.stall_timeout ?? values.command_timeout_limit ?? 0),
    ...watched('hpcp', values),
  };
}

/** The journal, as an option of a job. */
export function journaled(
  { no_journal, state_dir }: HpcpValues,
  env: NodeJS.ProcessEnv,
): { journal?: JournalSettings } {
  return journalSettings({ directory: state_dir ?? stateDirectory(env), asked: no_journal ? false : undefined });
}

/** Where a list goes; `-` is standard output. */
export function outputPath(path: string): string {
  return path === '-' ? '/dev/stdout' : path;
}

/** Bytes at the end of a file that count. */
export function hashing({ hash_size, full_hash }: HpcpValues): { hashSize?: number; fullHash: boolean } {
  return {
    fullHash: full_hash,
    ...(hash_size !== undefined && { hashSize: Math.min(Math.max(0, hash_size), Number.MAX_SAFE_INTEGER) }),
  };
}

/** Throws `UsageError` for what is no rate: a limit that is not understood must not be none. */
export function resources(values: HpcpValues): Resources {
  const { rate_limit, file_rate_limit, bwlimit, iops_limit, nice, ionice } = values;
  const jobs = workers(values);
  const bytes = bwlimit === undefined ? quantity(rate_limit, '-L') : parseRate(bwlimit, '--bwlimit');
  const entries = iops_limit === undefined ? quantity(file_rate_limit, '-F') : parseCount(iops_limit, '--iops-limit');
  return {
    limits: { ...(bytes !== undefined && { bytes }), ...(entries !== undefined && { entries }) },
    ...(jobs !== undefined && { jobs }),
    ...(nice !== undefined && { nice }),
    ...(ionice !== undefined && { ionice }),
  };
}

/** A number as the original reads it: with `K`, `M`, `G`, `T` or `P` to base 1000, with `Ki` to base 1024; a `B` is ignored. */
export function quantity(text: string | undefined, flag: string): number | undefined {
  if (text === undefined) return undefined;
  const match = /^\s*(\d+\.?\d*|\.\d+)\s*(?:([kmgtp])(i)?)?b?\s*$/i.exec(text);
  if (match === null) throw new UsageError(`argument ${flag}: '${text}' is no rate (a number, or with K, Ki, M, Mi…)`);
  const [, number, unit = '', binary] = match;
  const power = unit === '' ? 0 : 'kmgtp'.indexOf(unit.toLowerCase()) + 1;
  return Number(number) * (binary === undefined ? 1000 : 1024) ** power;
}

/** undefined: the engine's own choice. */
export function workers(
  { single_thread, jobs, max_workers }: Pick<HpcpValues, 'single_thread' | 'jobs' | 'max_workers'>,
  cpus = availableParallelism(),
): number | undefined {
  if (single_thread) return 1;
  const asked = jobs ?? (max_workers === undefined ? undefined : resolve(max_workers, cpus));
  return asked === undefined ? undefined : Math.min(asked, MOST);
}

/** -N: N times the CPUs; 0: half of them, rounded as Python rounds, but one at least. */
function resolve(wanted: number, cpus: number): number {
  if (wanted > 0) return wanted;
  if (wanted < 0) return -wanted * cpus;
  const half = cpus / 2;
  const even = half % 1 === 0.5 ? 2 * Math.round(half / 2) : Math.round(half);
  return Math.max(1, even);
}
