/**
 * Whether a directory has what manifests say.
 *
 * Comes in: manifests and options; goes out: a running `Job`. What is missing, extra, of another kind or of other content is
 * an `error` event each, and so is what can't be read.
 */
import type { PathLike } from '../names.js';
import type { NativeVerifyOptions } from '../native/options.js';
import { loadAddon } from '../native.js';
import {
  boolean,
  count,
  each,
  type Fields,
  JOB,
  type JobOptions,
  path,
  pathBytes,
  paths,
  pathText,
  RESOURCES,
  record,
  text,
} from './arguments.js';
import { begin, type Job, journalFor, type Prepared, prepared } from './job.js';

/** Options of `verify`. */
export interface VerifyOptions
  extends JobOptions,
    Omit<
      NativeVerifyOptions,
      'manifests' | 'directory' | 'filter' | 'only' | 'inUse' | 'spillDirectory' | 'entryEvents'
    > {
  /** Manifests, all of which hold: lines of b3sum, sha256sum and their like, also in the form of BSD, hashdeep's, a bag's, and those of `manifest`. */
  manifests: PathLike | PathLike[];
  /** Where the paths in them begin. Default: each where its manifest lies. */
  directory?: PathLike | undefined;
  /** Rules as rsync's --exclude: `PATTERN` leaves out, `+ PATTERN` takes; the first that matches decides. What is excluded is neither verified nor extra. Default: everything is taken. */
  exclude?: PathLike[];
  /** Nothing but these paths below the directory. Default: all. */
  only?: PathLike[];
  /** Files and directories that the caller uses meanwhile: they are not extra. Default: none. */
  inUse?: PathLike[];
  /** A directory for temporary files without a name, for what memory should not hold. Default: memory is used. */
  spillDirectory?: PathLike;
}

const FIELDS: Fields<VerifyOptions> = {
  ...RESOURCES,
  ...JOB,
  manifests: paths,
  directory: path,
  exclude: each(path),
  only: each(path),
  algorithm: text,
  extra: boolean,
  quick: boolean,
  sample: record<NonNullable<VerifyOptions['sample']>>({ part: count, parts: count }, 'part', 'parts'),
  inUse: each(path),
  spillDirectory: path,
};
const OPTIONS = record<VerifyOptions>(FIELDS, 'manifests');

/**
 * Verifies that a directory has what manifests say: each file with its content, and nothing else.
 *
 * @example
 * ```js
 * import { manifest, verify } from 'bulkhaul';
 *
 * await manifest({ sources: 'photos/', output: 'photos/BLAKE3SUMS' });
 * const job = verify({ manifests: 'photos/BLAKE3SUMS' });
 * for await (const event of job) if (event.type === 'error') console.log(event.kind, event.path);
 * console.log((await job).complete);
 * ```
 */
export function verify(options: VerifyOptions): Job {
  return begin(options, OPTIONS, prepareVerification);
}

/** The same, not begun yet. */
export async function prepareVerification(options: VerifyOptions): Promise<Prepared> {
  const {
    signal: _,
    journal: settings,
    dryRun,
    manifests,
    directory,
    exclude,
    only,
    inUse,
    spillDirectory,
    entries,
    ...rest
  } = options;
  const journal = await journalFor('verify', options);
  const used = [...(inUse ?? []), ...(settings && !dryRun ? [settings.directory] : [])];
  const native: NativeVerifyOptions = {
    ...rest,
    manifests: [manifests].flat().map((path) => pathBytes(pathText(path, 'a manifest'))),
    ...(directory !== undefined && { directory: pathBytes(pathText(directory, 'the directory')) }),
    ...(only && { only: only.map(pathBytes) }),
    ...(exclude && exclude.length > 0 && { filter: { style: 'rsync', rules: exclude.map(pathBytes) } }),
    ...(used.length > 0 && { inUse: used.map(pathBytes) }),
    ...(spillDirectory !== undefined && { spillDirectory: pathBytes(spillDirectory) }),
    ...(entries !== undefined && { entryEvents: entries }),
  };
  return prepared(journal, async () => (await loadAddon()).verify(native));
}
