/**
 * The command line of `run-mirror`: mirror_tool.py's flags and environment, and what bulkhaul adds.
 *
 * Comes in: arguments and the environment; goes out: a call that is whole, or `UsageError`.
 */
import { display } from '../../../names.js';
import { ADDED, type Copier, checkAdded, copierOf, type ProgressForm } from '../added.js';
import { chosen, type Flag, type FlagTable, original, type Parsed, parse, UsageError, usage } from '../argparse.js';

/** Rank 0: the original's. Rank 2: bulkhaul's own. */
export const FLAGS = {
  help: { names: ['-h', '--help'], takes: 'none', rank: 0, help: 'Show this help.' },
  jobs: {
    names: ['--jobs'],
    takes: 'int',
    metavar: 'N',
    rank: 0,
    help: 'Files at a time, in each step; without it MIRROR_JOBS, else by the CPUs and the devices. 2 to 8 for rotating disks.',
  },
  blake3_threads: {
    names: ['--blake3-threads'],
    takes: 'int',
    metavar: 'N',
    rank: 0,
    help: 'Threads of the real b3sum, with --prefer-external-b3; without it MIRROR_B3THREADS, else 0, its own choice.',
  },
  algo: {
    names: ['--algo'],
    takes: 'text',
    metavar: '{auto,blake3,sha256}',
    rank: 0,
    help: 'The digest: auto (the default) is blake3; a verification with auto goes by what the manifest holds.',
  },
  prefer_external_b3: {
    names: ['--prefer-external-b3'],
    takes: 'none',
    rank: 0,
    help: 'The real b3sum, where there is one, checks the manifest as well; where there is none, that is said.',
  },
  manifest: {
    names: ['--manifest'],
    takes: 'text',
    metavar: 'PATH',
    rank: 0,
    help: 'The manifest; - is standard output, for --step verify standard input. Without it SRC/BLAKE3SUMS, or SHA256SUMS with --algo sha256; to verify that of SRC, else that of DST.',
  },
  dry_run: {
    names: ['--dry-run'],
    takes: 'none',
    rank: 0,
    help: 'Write nothing: say what would be copied. Nothing is hashed for it.',
  },
  step: {
    names: ['--step'],
    takes: 'text',
    metavar: '{all,make-manifest,copy,verify}',
    rank: 0,
    help: 'The step; all (the default) are the three in their order.',
  },
  copy_with: {
    names: ['--copy-with'],
    takes: 'text',
    metavar: '{bulkhaul,rsync}',
    rank: 2,
    help: 'Who copies: bulkhaul (the default), or the real rsync, with -a, --jobs of them at a time (else one). Then SRC is hashed before it is copied, not meanwhile, and --bwlimit is what it writes.',
  },
  ...ADDED,
} as const satisfies FlagTable;

/** A call as it was given, and what it means. */
export interface MirrorCall extends Parsed<typeof FLAGS> {
  readonly step: Step;
  readonly algo: (typeof ALGORITHMS)[number];
  readonly copyWith: Copier;
  readonly progress: ProgressForm;
  readonly source: string;
  readonly destination: string | undefined;
  /** undefined: the engine's own choice. */
  readonly jobs: number | undefined;
  /** 0: b3sum's own choice. */
  readonly threads: number;
}

const STEPS = ['all', 'make-manifest', 'copy', 'verify'] as const;
export type Step = (typeof STEPS)[number];
const ALGORITHMS = ['auto', 'blake3', 'sha256'] as const;

/** Worker threads at most, as the engine has it. */
const MOST = 1024;

/** Reads a command line. Throws `UsageError`. */
export function parseCall(args: readonly string[], env: NodeJS.ProcessEnv): MirrorCall {
  const parsed = parse(FLAGS, args);
  const { values, positionals } = parsed;
  const step = chosen('--step', STEPS, values.step ?? 'all');
  const algo = chosen('--algo', ALGORITHMS, values.algo ?? 'auto');
  const copyWith = copierOf(values);
  const progress = checkAdded(values);
  const [source = '', destination, ...more] = positionals;
  const call = { ...parsed, step, algo, copyWith, progress, source, destination, jobs: undefined, threads: 0 };
  if (values.help || values.version) return call;

  const jobs = fromEnvironment(values.jobs, '--jobs', env, 'MIRROR_JOBS');
  const threads = fromEnvironment(values.blake3_threads, '--blake3-threads', env, 'MIRROR_B3THREADS') ?? 0;
  if (jobs !== undefined && jobs < 1) throw new UsageError(`argument --jobs: ${jobs} is less than 1`);
  if (threads < 0) throw new UsageError(`argument --blake3-threads: ${threads} is less than 0`);
  if (positionals.length === 0) throw new UsageError('the following arguments are required: SRC');
  if (more.length > 0) throw new UsageError(`unrecognized arguments: ${more.join(' ')}`);
  if (source === '') throw new UsageError('argument SRC: it is empty');
  if (destination === '') throw new UsageError('argument DST: it is empty');
  if (destination === undefined && (step === 'all' || step === 'copy')) {
    throw new UsageError(`argument DST: --step ${step} needs it`);
  }
  if (copyWith === 'rsync' && step !== 'all' && step !== 'copy') {
    throw new UsageError(`argument --copy-with: --step ${step} copies nothing`);
  }
  if (values.manifest === '') throw new UsageError('argument --manifest: it is empty');
  if (values.json && values.manifest === '-' && (step === 'all' || step === 'make-manifest')) {
    throw new UsageError('argument --json: standard output has the manifest; nothing was done');
  }
  return { ...call, jobs: jobs && Math.min(jobs, MOST), threads };
}

/** The flag wins; an empty variable is none. */
function fromEnvironment(given: number | undefined, flag: string, env: NodeJS.ProcessEnv, name: string) {
  const text = env[name];
  if (given !== undefined || text === undefined || text === '') return given;
  if (/^\s*[+-]?\d+\s*$/.test(text)) return Number(text);
  throw new UsageError(`argument ${flag}: ${name} is '${text}', which is not a whole number`);
}

/** Spellings that the original has, for the documentation and its test. */
export function originalFlags(): Flag[] {
  return Object.values(original(FLAGS));
}

export function usageText(width?: number): string {
  return usage('run-mirror', original(FLAGS), 'SRC [DST]', width);
}

/** Usage and one sentence. */
export function usageError(sentence: string): string {
  return `${usageText()}\nrun-mirror: error: ${display(sentence)}\n`;
}
