/** The command line of `move_to_final`: the original's flags, and what bulkhaul adds. Arguments in, a call or `UsageError` out. */
import { display } from '../../../names.js';
import { ADDED, checkAdded, type ProgressForm } from '../added.js';
import { demand, type Flag, type FlagTable, original, type Parsed, parse, UsageError, usage } from '../argparse.js';

/** Rank 0: the original's. Rank 2: bulkhaul's own. */
export const FLAGS = {
  help: { names: ['-h', '--help'], takes: 'none', rank: 0, help: 'Show this help.' },
  source: {
    names: ['-s', '--source'],
    takes: 'text',
    metavar: 'DIR',
    rank: 0,
    help: 'The directory whose content is moved; required. It goes when it is empty then.',
  },
  dest: {
    names: ['-d', '--dest'],
    takes: 'text',
    metavar: 'DIR',
    rank: 0,
    help: 'The directory that it comes into, made with its parents when absent; required.',
  },
  log_dir: {
    names: ['--log-dir'],
    takes: 'text',
    metavar: 'DIR',
    rank: 0,
    help: 'Where the logs go; without it the directory that holds the source.',
  },
  keep_source: {
    names: ['--keep-source'],
    takes: 'none',
    rank: 0,
    help: 'Copy: read everything back from the medium, and remove nothing.',
  },
  dry_run: {
    names: ['--dry-run'],
    takes: 'none',
    rank: 0,
    help: 'Show what would be done, itemised on standard output; nothing is written, no log either.',
  },
  ...ADDED,
} as const satisfies FlagTable;

/** A call as it was given, and what it means. */
export interface MoveCall extends Parsed<typeof FLAGS> {
  readonly source: string;
  readonly dest: string;
  readonly progress: ProgressForm;
}

/** Reads a command line. Throws `UsageError`. */
export function parseCall(args: readonly string[]): MoveCall {
  const parsed = parse(FLAGS, args);
  const { values, positionals } = parsed;
  const progress = checkAdded(values);
  if (values.help || values.version) return { ...parsed, source: '', dest: '', progress };
  const [source, dest] = demand(FLAGS, values, 'source', 'dest');
  if (positionals.length > 0) throw new UsageError(`unrecognized arguments: ${positionals.join(' ')}`);
  return { ...parsed, source, dest, progress };
}

/** Spellings that the original has, for the documentation and its test. */
export function originalFlags(): Flag[] {
  return Object.values(original(FLAGS));
}

export function usageText(width?: number): string {
  return usage('move_to_final', original(FLAGS), '', width);
}

/** Usage and one sentence. */
export function usageError(sentence: string): string {
  return `${usageText()}\nmove_to_final: error: ${display(sentence)}\n`;
}
