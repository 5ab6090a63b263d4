/**
 * The command line of `dsync`: dsync.py's flags, and what bulkhaul adds.
 *
 * Comes in: arguments and the environment; goes out: a call that is whole, or `UsageError`.
 */
import { isAbsolute, join } from 'node:path';
import { display } from '../../../names.js';
import { ADDED, WATCHED } from '../added.js';
import { type Flag, type FlagTable, type Parsed, parse, UsageError, usage } from '../argparse.js';

/** Rank 0: the original's. Rank 2: bulkhaul's own. */
export const FLAGS = {
  help: { names: ['-h', '--help'], takes: 'none', rank: 0, help: 'Show this help.' },
  number: {
    names: ['-n', '--number'],
    takes: 'int',
    metavar: 'N',
    rank: 0,
    help: 'Cut the source into N parts, and run as many transfers at once; required.',
  },
  no_fpart: {
    names: ['--no-fpart'],
    takes: 'none',
    rank: 0,
    help: 'Only deal the entries at the top of the source out, without looking at what is below them. Hidden ones are entries too, and rclone gets whole directories as well.',
  },
  source_hosts: {
    names: ['--source-hosts'],
    takes: 'text',
    metavar: 'FILE',
    rank: 0,
    help: 'Run the transfers on the hosts in FILE, one a line, over ssh. Each must see the source and the destination under the same paths.',
  },
  destination_hosts: {
    names: ['--destination-hosts'],
    takes: 'text',
    metavar: 'FILE',
    rank: 0,
    help: 'Copy to the hosts in FILE, one a line, over ssh; the destination is one file system that all of them have.',
  },
  reuse: {
    names: ['--reuse'],
    takes: 'none',
    rank: 0,
    help: 'Take the parts of an earlier run, if they are of the same source and options, and the top of the source has not changed; otherwise say what differs, and do nothing.',
  },
  cloud: {
    names: ['--cloud'],
    takes: 'none',
    rank: 0,
    help: 'The destination is one of rclone: remote:bucket/path. The real rclone copies regular files there.',
  },
  dry_run: {
    names: ['--dry-run'],
    takes: 'none',
    rank: 0,
    help: 'Make nothing: print what would be done, an itemised line for each entry.',
  },
  rclone_config: {
    names: ['--rclone-config'],
    takes: 'text',
    metavar: 'FILE',
    rank: 0,
    help: "rclone's configuration; without it, rclone's own choice.",
  },
  working_dir: {
    names: ['--working-dir'],
    takes: 'text',
    metavar: 'DIR',
    rank: 0,
    help: 'Where the lists of the parts are kept. Default: ~/dsync_working.',
  },
  log_output: {
    names: ['--log-output'],
    takes: 'text',
    metavar: 'DIR',
    rank: 0,
    help: 'Where the logs go, one a part, in a directory for each run. Default: logs in the working directory.',
  },
  version: ADDED.version,
  copy_with: {
    names: ['--copy-with'],
    takes: 'text',
    metavar: '{rsync,rclone,bulkhaul}',
    rank: 2,
    help: 'What copies a part: the real rsync (the default), the real rclone (the same as --cloud), or bulkhaul itself.',
  },
  jobs: {
    names: ['-j', '--jobs'],
    takes: 'int',
    metavar: 'N',
    rank: 2,
    default: 'one for each part',
    help: 'Transfers at once at most, where they are to be fewer than parts.',
  },
  hard_links: {
    names: ['-H', '--hard-links'],
    takes: 'none',
    rank: 2,
    help: 'With rsync: keep hard links, as its -H does. Each group of them is in one part.',
  },
  bwlimit: {
    names: ['--bwlimit'],
    takes: 'text',
    metavar: 'RATE',
    rank: 2,
    default: 'no limit',
    help: 'Bytes a second of all transfers together, as rsync has it: KiB, or with B, K, M, G.',
  },
  quiet: ADDED.quiet,
  verbose: { names: ['-v', '--verbose'], takes: 'none', rank: 2, help: 'Print an itemised line for each entry.' },
  json: {
    names: ['--json'],
    takes: 'none',
    rank: 2,
    help: 'Events as JSON lines on standard output: a summary of the plan, and one of the transfer.',
  },
  progress: {
    names: ['--progress'],
    takes: 'text',
    metavar: 'FORM',
    rank: 2,
    default: 'auto',
    help: 'The status on standard error: auto (a row on a terminal, else a line every 30 s), tty, plain, json, or none.',
  },
  log_file: {
    names: ['--log-file'],
    takes: 'text',
    metavar: 'FILE',
    rank: 2,
    help: 'Append failures, notes and the summary to FILE, as JSON lines; - is standard error.',
  },
  state_dir: ADDED.state_dir,
  no_journal: ADDED.no_journal,
  ...WATCHED,
} as const satisfies FlagTable;

/** A call as it was given, and what it means. */
export interface DsyncCall extends Parsed<typeof FLAGS> {
  readonly tool: (typeof TOOLS)[number];
  readonly progress: (typeof PROGRESS)[number];
  readonly parts: number;
  readonly jobs: number;
  readonly source: string;
  readonly destination: string;
  /** Absolute; undefined: rclone's own choice. */
  readonly rcloneConfig: string | undefined;
  readonly workingDirectory: string;
  readonly logDirectory: string;
}

const TOOLS = ['rsync', 'rclone', 'bulkhaul'] as const;
const PROGRESS = ['auto', 'tty', 'plain', 'json', 'none'] as const;

/** Parts at most: each is a transfer. */
const MOST_PARTS = 10_000;

/** Reads a command line. Throws `UsageError`. */
export function parseCall(args: readonly string[], env: NodeJS.ProcessEnv): DsyncCall {
  const parsed = parse(FLAGS, args);
  const { values, positionals } = parsed;
  const call = { ...parsed, tool: 'rsync', progress: 'auto', parts: 1, jobs: 1 } as const;
  if (values.help || values.version)
    return {
      ...call,
      ...{ source: '', destination: '', workingDirectory: '', logDirectory: '' },
      rcloneConfig: undefined,
    };

  const missing = [
    ...(values.number === undefined ? ['-n/--number'] : []),
    ...(positionals.length < 1 ? ['SRC'] : []),
    ...(positionals.length < 2 ? ['DST'] : []),
  ];
  if (missing.length > 0) throw new UsageError(`the following arguments are required: ${missing.join(', ')}`);
  const [source = '', destination = '', ...more] = positionals;
  if (more.length > 0) throw new UsageError(`unrecognized arguments: ${more.join(' ')}`);
  if (source === '') throw new UsageError('argument SRC: it is empty');
  if (destination === '') throw new UsageError('argument DST: it is empty');

  const parts = counted('-n/--number', values.number ?? 1, MOST_PARTS);
  const jobs = Math.min(parts, counted('-j/--jobs', values.jobs ?? parts, MOST_PARTS));
  const given = values.copy_with === undefined ? undefined : chosen('--copy-with', TOOLS, values.copy_with);
  if (values.cloud && given !== undefined && given !== 'rclone') {
    throw new UsageError(`argument --cloud: it copies with rclone, not with ${given}`);
  }
  const tool = values.cloud ? 'rclone' : (given ?? 'rsync');
  refuse(tool !== 'rclone' && values.rclone_config !== undefined, '--rclone-config', 'it goes with --cloud');
  refuse(tool !== 'rsync' && values.destination_hosts !== undefined, '--destination-hosts', 'it is for rsync');
  refuse(tool !== 'rsync' && values.hard_links, '-H/--hard-links', 'it is for rsync');
  refuse(tool === 'bulkhaul' && values.no_fpart, '--no-fpart', 'bulkhaul copies lists, not trees');
  const home = env.HOME;
  const path = (flag: string, text: string) => directory(flag, text, home);
  const working = values.working_dir;
  if (working === undefined && !home) throw new UsageError('argument --working-dir: there is no home directory');
  const workingDirectory = working === undefined ? join(home ?? '', 'dsync_working') : path('--working-dir', working);
  return {
    ...call,
    tool,
    progress: chosen('--progress', PROGRESS, values.progress ?? 'auto'),
    parts,
    jobs,
    source: path('SRC', source),
    destination: tool === 'rclone' || isElsewhere(destination) ? destination : path('DST', destination),
    rcloneConfig: values.rclone_config === undefined ? undefined : path('--rclone-config', values.rclone_config),
    workingDirectory,
    logDirectory:
      values.log_output === undefined ? join(workingDirectory, 'logs') : path('--log-output', values.log_output),
  };
}

/** `host:path`, as rsync has it. */
export function isElsewhere(destination: string): boolean {
  return /^[^/]+:/.test(destination);
}

function refuse(wrong: boolean, flag: string, why: string): void {
  if (wrong) throw new UsageError(`argument ${flag}: ${why}`);
}

function counted(flag: string, number: number, most: number): number {
  if (number >= 1 && number <= most) return number;
  throw new UsageError(`argument ${flag}: ${number} is not a number from 1 to ${most}`);
}

/** The path that is meant, absolute: hosts know no working directory of ours. */
function directory(flag: string, text: string, home: string | undefined): string {
  if (text === '') throw new UsageError(`argument ${flag}: it is empty`);
  const [, rest] = /^~(\/.*)?$/s.exec(text) ?? [text];
  // A shell has expanded it where it is a word of its own.
  const meant = text.startsWith('~') && (text === '~' || text[1] === '/') && home ? `${home}${rest ?? ''}` : text;
  return isAbsolute(meant) ? meant : join(process.cwd(), meant);
}

function chosen<const Choice extends string>(flag: string, choices: readonly Choice[], given: string): Choice {
  const choice = choices.find((each) => each === given);
  if (choice !== undefined) return choice;
  throw new UsageError(`argument ${flag}: '${given}' is none of ${choices.join(', ')}`);
}

/** Spellings that the original has, for the documentation and its test. */
export function originalFlags(): Flag[] {
  return Object.values<Flag>(FLAGS).filter(({ rank }) => rank === 0);
}

export function usageText(width?: number): string {
  const originals = Object.entries<Flag>(FLAGS).filter(([, { rank }]) => rank === 0);
  return usage('dsync', Object.fromEntries(originals), 'SRC DST', width);
}

/** Usage and one sentence. */
export function usageError(sentence: string): string {
  return `${usageText()}\ndsync: error: ${display(sentence)}\n`;
}
