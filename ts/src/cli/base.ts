/** What the native verbs share: the common options, and the way of errors to stderr and exit codes. */
import { BulkhaulError } from '../error.js';
import type { Resources } from '../native/options.js';
import { exitCodeOfError, systemError } from './exit.js';
import { Command, Option, t, UsageError } from './parser.js';
import { type CommonSettings, errorText, PROGRESS } from './run.js';
import { parseCount, parseRate } from './values.js';

/** A native verb: a command with the common options, whose errors go to stderr and whose exit code comes from the table. */
export abstract class VerbCommand extends Command {
  dryRun = Option.Boolean('-n,--dry-run', false, {
    description: 'Show what would be done, itemised on standard output, and do nothing',
  });
  json = Option.Boolean('--json', false, {
    description: 'Print one JSON object a line on standard output: status, entry (with -v or -n), error, note, summary',
  });
  progress = Option.String('--progress', 'auto', {
    description:
      'The status on standard error: auto, tty (one line, redrawn), plain (a line every 30 s, or every BULKHAUL_PROGRESS_INTERVAL seconds, 0 for none), json, none',
    validator: t.isEnum(PROGRESS),
  });
  quiet = Option.Boolean('-q,--quiet', false, {
    description: 'Print nothing unless something is wrong; with --json only the summary',
  });
  verbose = Option.Boolean('-v,--verbose', false, { description: "Itemise each entry, as rsync's -i does" });
  logFile = Option.String('--log-file', {
    description: 'Append failures, notes and the summary to FILE, as JSON lines',
  });
  jobs = Option.String('-j,--jobs', {
    description:
      'Worker threads at most; otherwise from the CPUs that this process may use, and in a copy from the devices',
    validator: t.cascade(t.isNumber(), [t.isInteger(), t.isInInclusiveRange(1, 1024)]),
  });
  bwlimit = Option.String('--bwlimit', {
    description: "Read at most RATE from the sources: KiB a second, or with a unit, as rsync's --bwlimit (1.5m, 500KB)",
  });
  iopsLimit = Option.String('--iops-limit', { description: 'Look at no more than N entries a second' });
  nice = Option.String('--nice', {
    description: 'Niceness of the worker threads, -20 to 19 (the last to get a processor)',
    validator: t.cascade(t.isNumber(), [t.isInteger(), t.isInInclusiveRange(-20, 19)]),
  });
  ionice = Option.String('--ionice', {
    description: "Order of the workers' disk requests: idle, best-effort[:LEVEL] or realtime[:LEVEL], 0 (first) to 7",
  });
  stallTimeout = Option.String('--stall-timeout', {
    description:
      'Give up and end with 23 when nothing at all moves for so many seconds, as a device or server that hangs makes it; ten times as long while something is synced. 0, the default: never',
    validator: t.cascade(t.isNumber(), [t.isInInclusiveRange(0, 1e9)]),
  });

  // `catch` is too late: clipanion prints what it rethrows on stdout and ends with 1, else with 0.
  override async validateAndExecute(): Promise<number> {
    try {
      return await super.validateAndExecute();
    } catch (thrown) {
      const error = thrown instanceof UsageError ? new BulkhaulError('USAGE', thrown.message) : systemError(thrown);
      this.context.stderr.write(errorText(error));
      return exitCodeOfError(error);
    }
  }

  /** The common options. */
  get settings(): CommonSettings {
    const { dryRun, json, progress, quiet, verbose, logFile, stallTimeout } = this;
    return { dryRun, json, progress, quiet, verbose, logFile, stallTimeout };
  }

  /** What the job may take of the machine, as its options. */
  protected get resources(): Resources {
    const { bwlimit, iopsLimit, nice, ionice, jobs } = this;
    return {
      limits: {
        ...(bwlimit !== undefined && { bytes: parseRate(bwlimit, '--bwlimit') }),
        ...(iopsLimit !== undefined && { entries: parseCount(iopsLimit, '--iops-limit') }),
      },
      ...(jobs !== undefined && { jobs }),
      ...(nice !== undefined && { nice }),
      ...(ionice !== undefined && { ionice }),
    };
  }
}
