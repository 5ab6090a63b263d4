/**
 * The flags that bulkhaul adds to those of an original, where their names are free there.
 *
 * A table to be spread into a drop-in's own, and the check of its values; what they ask of a job is in `settings.ts`.
 */
import { chosen, type FlagTable, UsageError, type Values } from './argparse.js';

/** For whoever watches a run, and what is done when it is over; every drop-in has them. */
export const WATCHED = {
  serve: {
    names: ['--serve'],
    takes: 'text',
    metavar: '[HOST:]PORT',
    rank: 2,
    help: 'Let a browser watch: prints, for each job, an address that only you know; of this machine only, unless HOST says otherwise; port 0 is any.',
  },
  serve_control: {
    names: ['--serve-control'],
    takes: 'none',
    rank: 2,
    help: 'Limits, a pause and a stop in good order can be had from the page of --serve.',
  },
  on_end: {
    names: ['--on-end'],
    takes: 'text',
    metavar: 'COMMAND',
    rank: 2,
    help: 'Run COMMAND when all is over, also where it failed early: a program, or a JSON array of words, which no shell reads. It gets the summary of each job as a JSON line on standard input, and BULKHAUL_VERDICT, BULKHAUL_EXIT_CODE, BULKHAUL_SENTENCE and BULKHAUL_OPERATION in its environment; not in a dry run.',
  },
  on_failure: {
    names: ['--on-failure'],
    takes: 'text',
    metavar: 'COMMAND',
    rank: 2,
    help: 'The same where the exit code is not 0.',
  },
  metrics_file: {
    names: ['--metrics-file'],
    takes: 'text',
    metavar: 'FILE',
    rank: 2,
    help: 'Write metrics for Prometheus into FILE, replaced every 15 s and at the end, as the textfile collector of node_exporter reads them (FILE.prom); not in a dry run.',
  },
} as const satisfies FlagTable;

export type WatchedValues = Values<typeof WATCHED>;

/** Rank 2: bulkhaul's own. */
export const ADDED = {
  version: { names: ['-V', '--version'], takes: 'none', rank: 2, help: 'Show the version.' },
  quiet: { names: ['-q', '--quiet'], takes: 'none', rank: 2, help: 'Say only what is wrong.' },
  json: {
    names: ['--json'],
    takes: 'none',
    rank: 2,
    help: 'Events as JSON lines on standard output, of each job with its summary.',
  },
  progress: {
    names: ['--progress'],
    takes: 'text',
    metavar: 'FORM',
    rank: 2,
    default: 'auto',
    help: 'The status on standard error: auto (a row on a terminal, else lines), tty, plain, json, or none.',
  },
  log_file: {
    names: ['--log-file'],
    takes: 'text',
    metavar: 'FILE',
    rank: 2,
    help: 'Append failures, notes and the summary of each job to FILE, as JSON lines; - is standard error.',
  },
  bwlimit: {
    names: ['--bwlimit'],
    takes: 'text',
    metavar: 'RATE',
    rank: 2,
    default: 'no limit',
    help: 'Bytes a second that are read at most, as rsync has it: KiB, or with B, K, M, G.',
  },
  iops_limit: {
    names: ['--iops-limit'],
    takes: 'text',
    metavar: 'N',
    rank: 2,
    default: 'no limit',
    help: 'Entries a second at most.',
  },
  nice: {
    names: ['--nice'],
    takes: 'int',
    metavar: 'N',
    rank: 2,
    default: "the caller's",
    help: 'Niceness of the worker threads, -20 to 19.',
  },
  ionice: {
    names: ['--ionice'],
    takes: 'text',
    metavar: 'CLASS',
    rank: 2,
    default: "the caller's",
    help: 'Order of disk requests: idle, best-effort or realtime, the last two also with :LEVEL, 0 (first) to 7.',
  },
  stall_timeout: {
    names: ['--stall-timeout'],
    takes: 'text',
    metavar: 'SECONDS',
    rank: 2,
    default: '0, never',
    help: 'Give up when nothing moves for so long.',
  },
  state_dir: {
    names: ['--state-dir'],
    takes: 'text',
    metavar: 'DIR',
    rank: 2,
    default: '$XDG_STATE_HOME/bulkhaul, or ~/.local/state/bulkhaul',
    help: 'Where the journals are kept by which `bulkhaul status` and `bulkhaul resume` know a job.',
  },
  no_journal: { names: ['--no-journal'], takes: 'none', rank: 2, help: 'Keep no journal.' },
  ...WATCHED,
} as const satisfies FlagTable;

export type AddedValues = Values<typeof ADDED>;

const PROGRESS = ['auto', 'tty', 'plain', 'json', 'none'] as const;
export type ProgressForm = (typeof PROGRESS)[number];

const COPIERS = ['bulkhaul', 'rsync'] as const;
/** Who copies, where a drop-in leaves the choice. */
export type Copier = (typeof COPIERS)[number];
/** What only bulkhaul's own copy minds. */
const NOT_RSYNC = { iops_limit: '--iops-limit', nice: '--nice', ionice: '--ionice', stall_timeout: '--stall-timeout' };

/** Who copies. Throws `UsageError` also for what rsync could not mind. */
export function copierOf(values: AddedValues & { readonly copy_with: string | undefined }): Copier {
  const copier = chosen('--copy-with', COPIERS, values.copy_with ?? 'bulkhaul');
  if (copier !== 'rsync') return copier;
  for (const [name, flag] of Object.entries(NOT_RSYNC)) {
    const given = values[name as keyof typeof NOT_RSYNC] !== undefined;
    if (given) throw new UsageError(`argument ${flag}: rsync knows nothing of it (--copy-with)`);
  }
  return copier;
}

/** Checks what has to be right before anything is loaded; the form of the status. Throws `UsageError`. */
export function checkAdded({ progress = 'auto', stall_timeout }: AddedValues): ProgressForm {
  if (stall_timeout !== undefined && !/^\d{1,9}(\.\d+)?$/.test(stall_timeout)) {
    throw new UsageError(`argument --stall-timeout: '${stall_timeout}' is not a number of seconds`);
  }
  return chosen('--progress', PROGRESS, progress);
}
