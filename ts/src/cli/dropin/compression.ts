/**
 * How the migration tools ask for a compression: the flags that two of them share, and what they mean to the operation.
 *
 * Comes in: values of the flags; goes out: options of `compress`, or `UsageError` before any work.
 */
import { chosen, type FlagTable, UsageError, type Values } from './argparse.js';

export const COMPRESSION = {
  ext: {
    names: ['--ext'],
    takes: 'many',
    metavar: 'EXT',
    rank: 0,
    help: 'What names end with, in any case, also of several parts (tar.foo); without it tsv clusters cluster.',
  },
  algo: {
    names: ['--algo'],
    takes: 'text',
    metavar: '{gzip,xz}',
    rank: 0,
    help: 'gzip (the default), in blocks that every reader of gzip takes, or xz.',
  },
  level: {
    names: ['--level'],
    takes: 'int',
    metavar: 'N',
    rank: 0,
    help: 'From the fastest to the smallest: gzip 1 to 12, xz 0 to 9; without it 6.',
  },
  workers: {
    names: ['--workers'],
    takes: 'int',
    metavar: 'N',
    rank: 0,
    help: 'Files at a time; without it as many as the CPUs that may be used serve.',
  },
  pigz: {
    names: ['--pigz'],
    takes: 'none',
    rank: 0,
    help: 'Accepted: a big file is always worked on by several threads.',
  },
  pigz_threads: {
    names: ['--pigz-threads'],
    takes: 'int',
    metavar: 'N',
    rank: 0,
    help: 'With --pigz and --workers: threads for each of these; without it 4.',
  },
  verify: {
    names: ['--verify'],
    takes: 'none',
    rank: 0,
    help: 'Accepted: each archive is always read back from the medium, decompressed and compared.',
  },
} as const satisfies FlagTable;

/** What is asked of a compression. */
export interface Compression {
  readonly extensions: string[];
  readonly format: 'bgzf' | 'xz';
  readonly level: number;
  /** Threads, of all files together. Absent: by the CPUs. */
  readonly jobs?: number;
}

const EXTENSIONS = ['tsv', 'clusters', 'cluster'];
const LEVELS = { gzip: [1, 12], xz: [0, 9] } as const;
const LEVEL = 6;
const PIGZ_THREADS = 4;
/** Worker threads at most, as the engine has it. */
const MOST = 1024;

/** Checks the values. Throws `UsageError`. */
export function compressionOf(values: Values<typeof COMPRESSION>): Compression {
  const algo = chosen('--algo', ['gzip', 'xz'], values.algo ?? 'gzip');
  const level = values.level ?? LEVEL;
  const [least, most] = LEVELS[algo];
  if (level < least || level > most) {
    throw new UsageError(`argument --level: ${level} is not from ${least} to ${most}, as ${algo} has it`);
  }
  const extensions = values.ext ?? EXTENSIONS;
  if (extensions.length === 0) throw new UsageError('argument --ext: expected at least one argument');
  if (extensions.some((each) => each.replace(/^\.+/, '') === '')) throw new UsageError('argument --ext: it is empty');
  const workers = counted('--workers', values.workers);
  const threads = counted('--pigz-threads', values.pigz_threads) ?? PIGZ_THREADS;
  const jobs = workers && Math.min(workers * (values.pigz ? threads : 1), MOST);
  return {
    extensions: [...extensions],
    format: algo === 'xz' ? 'xz' : 'bgzf',
    level,
    ...(jobs !== undefined && { jobs }),
  };
}

function counted(flag: string, value: number | undefined): number | undefined {
  if (value !== undefined && value < 1) throw new UsageError(`argument ${flag}: ${value} is less than 1`);
  return value;
}
