/** The command line of `migrate_compress`: the original's flags, and what bulkhaul adds. Arguments in, a call or `UsageError` out. */
import { display } from '../../../names.js';
import { ADDED, type Copier, checkAdded, copierOf, type ProgressForm } from '../added.js';
import { demand, type Flag, type FlagTable, original, type Parsed, parse, UsageError, usage } from '../argparse.js';
import { COMPRESSION, type Compression, compressionOf } from '../compression.js';

/** Rank 0: the original's. Rank 2: bulkhaul's own. */
export const FLAGS = {
  help: { names: ['-h', '--help'], takes: 'none', rank: 0, help: 'Show this help.' },
  source: {
    names: ['-s', '--source'],
    takes: 'text',
    metavar: 'DIR',
    rank: 0,
    help: 'The directory whose files and sub-directories are copied; required.',
  },
  dest: {
    names: ['-d', '--dest'],
    takes: 'text',
    metavar: 'DIR',
    rank: 0,
    help: 'The directory that they come into, made with its parents when absent; required.',
  },
  ...COMPRESSION,
  resume: {
    names: ['--resume'],
    takes: 'none',
    rank: 0,
    help: 'Leave out what the state says is done and still is as it was, file by file.',
  },
  process_root: { names: ['--process-root'], takes: 'none', rank: 0, help: 'Take the source as one directory.' },
  log_dir: {
    names: ['--log-dir'],
    takes: 'text',
    metavar: 'DIR',
    rank: 0,
    help: 'Where logs and state go; without it the destination. Many runs may share it.',
  },
  stop_on_partial: {
    names: ['--stop-on-partial'],
    takes: 'none',
    rank: 0,
    help: 'Do not compress in a directory of which something was not copied.',
  },
  exclude: {
    names: ['--exclude'],
    takes: 'many',
    metavar: 'PATTERN',
    rank: 0,
    help: 'Leave out what matches, as rsync has it, relative to the source: temp, temp/, *.log, **/cache, /top_level.',
  },
  no_progress: { names: ['--no-progress'], takes: 'none', rank: 0, help: 'Show no progress.' },
  check_existing: {
    names: ['--check-existing'],
    takes: 'none',
    rank: 0,
    help: 'Leave out files that the path of --check-path has with the same content, compressed or not.',
  },
  check_path: {
    names: ['--check-path'],
    takes: 'text',
    metavar: 'DIR',
    rank: 0,
    help: 'Where that is looked up, by paths relative to it; without it the destination.',
  },
  dry_run: {
    names: ['--dry-run'],
    takes: 'none',
    rank: 0,
    help: 'Show what would be done, itemised on standard output; nothing is written, no log and no state either.',
  },
  copy_with: {
    names: ['--copy-with'],
    takes: 'text',
    metavar: '{bulkhaul,rsync}',
    rank: 2,
    help: 'Who copies: bulkhaul (the default), which compresses meanwhile, or the real rsync, with the options of the original; then a directory is compressed in the destination when it is copied, and --bwlimit is what rsync writes.',
  },
  ...ADDED,
} as const satisfies FlagTable;

/** A call as it was given, and what it means. */
export interface MigrateCall extends Parsed<typeof FLAGS> {
  readonly source: string;
  readonly dest: string;
  readonly compression: Compression;
  readonly copyWith: Copier;
  readonly progress: ProgressForm;
}

/** Reads a command line. Throws `UsageError`. */
export function parseCall(args: readonly string[]): MigrateCall {
  const parsed = parse(FLAGS, args);
  const { values, positionals } = parsed;
  const [asked, compression] = [checkAdded(values), compressionOf(values)];
  const progress = values.no_progress ? 'none' : asked;
  const how = { compression, copyWith: copierOf(values), progress };
  if (values.help || values.version) return { ...parsed, source: '', dest: '', ...how };
  const [source, dest] = demand(FLAGS, values, 'source', 'dest');
  if (positionals.length > 0) throw new UsageError(`unrecognized arguments: ${positionals.join(' ')}`);
  if (values.exclude?.some((pattern) => /^[-+] |^!$/.test(pattern))) {
    throw new UsageError('argument --exclude: a pattern only: + and - in front are for rules of rsync');
  }
  return { ...parsed, source, dest, ...how };
}

/** Spellings that the original has, for the documentation and its test. */
export function originalFlags(): Flag[] {
  return Object.values(original(FLAGS));
}

export function usageText(width?: number): string {
  return usage('migrate_compress', original(FLAGS), '', width);
}

/** Usage and one sentence. */
export function usageError(sentence: string): string {
  return `${usageText()}\nmigrate_compress: error: ${display(sentence)}\n`;
}
