/** The command line of `compress_files`: the original's flags, and what bulkhaul adds. Arguments in, a call or `UsageError` out. */
import { display } from '../../../names.js';
import { ADDED, checkAdded, type ProgressForm } from '../added.js';
import { demand, type Flag, type FlagTable, original, type Parsed, parse, UsageError, usage } from '../argparse.js';
import { COMPRESSION, type Compression, compressionOf } from '../compression.js';

/** Rank 0: the original's. Rank 2: bulkhaul's own. */
export const FLAGS = {
  help: { names: ['-h', '--help'], takes: 'none', rank: 0, help: 'Show this help.' },
  root: {
    names: ['-r', '--root'],
    takes: 'text',
    metavar: 'DIR',
    rank: 0,
    help: 'The directory in and below which files are compressed; required.',
  },
  ...COMPRESSION,
  remove: {
    names: ['--remove'],
    takes: 'none',
    rank: 0,
    help: 'Remove each file whose archive is proved; without it the files stay.',
  },
  dry_run: { names: ['--dry-run'], takes: 'none', rank: 0, help: 'List what would be compressed, and do nothing.' },
  ...ADDED,
} as const satisfies FlagTable;

/** A call as it was given, and what it means. */
export interface CompressCall extends Parsed<typeof FLAGS> {
  readonly root: string;
  readonly compression: Compression;
  readonly progress: ProgressForm;
}

/** Reads a command line. Throws `UsageError`. */
export function parseCall(args: readonly string[]): CompressCall {
  const parsed = parse(FLAGS, args);
  const { values, positionals } = parsed;
  const [progress, compression] = [checkAdded(values), compressionOf(values)];
  if (values.help || values.version) return { ...parsed, root: '', compression, progress };
  const [root] = demand(FLAGS, values, 'root');
  if (positionals.length > 0) throw new UsageError(`unrecognized arguments: ${positionals.join(' ')}`);
  return { ...parsed, root, compression, progress };
}

/** Spellings that the original has, for the documentation and its test. */
export function originalFlags(): Flag[] {
  return Object.values(original(FLAGS));
}

export function usageText(width?: number): string {
  return usage('compress_files', original(FLAGS), '', width);
}

/** Usage and one sentence. */
export function usageError(sentence: string): string {
  return `${usageText()}\ncompress_files: error: ${display(sentence)}\n`;
}
