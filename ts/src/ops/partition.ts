/**
 * Partitions: what is in trees, divided into parts for work side by side, each with a list.
 *
 * Comes in: paths and options; goes out: a running `Job`, with a `part` event for each part as soon as its list is there, and
 * the sums in its report (`parts`). What was interrupted begins anew: only a walk that has ended knows the parts.
 */
import { BulkhaulError } from '../error.js';
import type { PathLike } from '../names.js';
import type { NativeNames, NativePartitionOptions } from '../native/options.js';
import { loadAddon } from '../native.js';
import {
  boolean,
  common,
  each,
  excluding,
  type Fields,
  type Given,
  JOB,
  JOURNAL,
  type JobOptions,
  path,
  pathBytes,
  paths,
  pathText,
  RESOURCES,
  record,
  SELECTION,
  size,
  text,
  whole,
} from './arguments.js';
import { Commanded, checkTemplate, PART_COMMAND, type PartCommand } from './commands.js';
import { begin, type Job, journalFor, type Prepared, prepared } from './job.js';

/** Options of `partition`. */
export interface PartitionOptions
  extends Omit<JobOptions, 'entries'>,
    Omit<
      NativePartitionOptions,
      'sources' | 'filter' | 'filesFrom' | 'template' | 'output' | 'spillDirectory' | 'dryRun'
    > {
  /** `DIR/`: what is in it, by names relative to it, which only one source can be; `DIR`: the entry itself, by names that begin with its own. */
  sources: PathLike | PathLike[];
  /** Rules as rsync's --exclude: `PATTERN` leaves out, `+ PATTERN` takes; the first that matches decides. Default: everything is taken. */
  exclude?: PathLike[];
  /** Only what a list names, relative to the one source, which ends with a slash: one name a line, or with `nul` each ended by NUL. A directory is taken with all that is in it. Default: all of the sources. */
  filesFrom?: Given<Omit<NativeNames, 'contents'>>;
  /** Each list goes into a file of this path, a dot and the number of the part, from 1: whole or not at all. Default: parts are only told. */
  template?: PathLike;
  /** All lists go into this file: lines of number, bytes and name, or JSON. Default: parts are only told. */
  output?: PathLike;
  /** A command for each part, as soon as its list is there; the job ends when all have ended. Needs `template`; a dry run has none. Default: none. */
  exec?: PartCommand;
  /** A directory for temporary files without a name, for trees that memory should not hold. Default: memory is used. */
  spillDirectory?: PathLike;
}

/** The most parts, as the engine has it. */
const MOST_PARTS = 1_000_000;

const FIELDS: Fields<PartitionOptions> = {
  ...RESOURCES,
  signal: JOB.signal,
  dryRun: boolean,
  journal: JOURNAL,
  oneFileSystem: SELECTION.oneFileSystem,
  parts: whole(1, MOST_PARTS),
  maxEntries: whole(1, Number.MAX_SAFE_INTEGER),
  maxBytes: size,
  live: boolean,
  entryCost: whole(0, 2 ** 40),
  format: text,
  nul: boolean,
  template: path,
  output: path,
  replace: boolean,
  exec: PART_COMMAND,
  spillDirectory: path,
  filesFrom: record<NonNullable<PartitionOptions['filesFrom']>>({ path, nul: boolean }, 'path', 'nul'),
  sources: paths,
  exclude: each(path),
};
const OPTIONS = record<PartitionOptions>(FIELDS, 'sources');

/**
 * Divides trees into parts that are even both in bytes and in entries, and writes a list of each. Every entry is in one list,
 * directories too, and links of one inode in the same.
 *
 * @example
 * ```js
 * import { partition } from 'bulkhaul';
 *
 * const job = partition({ sources: 'photos/', parts: 4, format: 'rsync', template: '/mnt/lists' });
 * for await (const event of job) {
 *   if (event.type === 'part') console.log(event.path, event.entries, event.bytes);
 * }
 * console.log((await job).complete);
 * ```
 */
export function partition(options: PartitionOptions): Job {
  return begin(options, OPTIONS, (options) => preparePartition(mappedPartition(options)));
}

/** The options as a journal keeps them: with paths as strings or bytes. */
export interface MappedPartition extends Omit<PartitionOptions, 'sources' | 'exclude'> {
  /** Each by its path. */
  sources: { path: PathLike }[];
  /** The rules. Default: everything is taken. */
  filter?: ReturnType<typeof excluding>['filter'];
  /** That of the commands, which no journal has. Default: that of `exec`. */
  environment?: PartCommand['environment'];
}

export function mappedPartition({ sources, exclude, ...rest }: PartitionOptions): MappedPartition {
  const paths = Array.isArray(sources) ? sources : [sources];
  return { ...rest, sources: paths.map((path) => ({ path })), ...excluding(exclude) };
}

/** A partition that is not begun yet. */
export async function preparePartition(given: MappedPartition): Promise<Prepared> {
  const { signal: _, journal: __, entries: ___, ...options } = given as MappedPartition & JobOptions;
  const { sources, filter, filesFrom, template, output, spillDirectory, exec, environment, ...rest } = options;
  if (exec !== undefined) checkTemplate(template === undefined ? undefined : pathText(template, 'the template'));
  if (sources.length === 0) throw new BulkhaulError('USAGE', 'sources: nothing is given to divide');
  const { environment: own = environment, ...command } = exec ?? {};
  // It alone tells the next run that lists which are there are of this one.
  const early = template !== undefined && rest.replace !== true;
  const journal = await journalFor('partition', { ...given, ...(exec && { exec: command }) }, early);
  const bytes = (path: PathLike, what: string) => pathBytes(pathText(path, what));
  const native: NativePartitionOptions = {
    ...rest,
    sources: sources.map(({ path }) => ({ path: bytes(path, 'a source'), contents: false, follow: false })),
    ...(filesFrom && { filesFrom: { ...filesFrom, path: bytes(filesFrom.path, 'the list') } }),
    ...(template !== undefined && { template: bytes(template, 'the template') }),
    ...(output !== undefined && { output: bytes(output, 'the output') }),
    ...common({ filter, spillDirectory }),
    // The lists that an interrupted run of this job has left are its own.
    ...(journal?.journal?.earlier?.state === 'interrupted' && { replace: true }),
  };
  return prepared(journal, async () => {
    const job = (await loadAddon()).partition(native);
    return exec === undefined || rest.dryRun ? job : new Commanded(job, { ...exec, ...(own && { environment: own }) });
  });
}
