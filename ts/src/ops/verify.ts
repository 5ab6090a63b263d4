/**
 * Whether a directory has what manifests say.
 *
 * Comes in: manifests and options; goes out: a running `Job`. What is missing, extra, of another kind or of other content is
 * an `error` event each, and so is what can't be read; with a copy at hand only what that could not repair.
 */
import { stat } from 'node:fs/promises';
import { BulkhaulError } from '../error.js';
import { type PathLike, toBytes } from '../names.js';
import type { NativeVerifyOptions } from '../native/options.js';
import { type Addon, loadAddon, loadStores, type NativeJob } from '../native.js';
import { isHere } from '../stores/urls.js';
import {
  boolean,
  common,
  count,
  each,
  excluding,
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
import { accessTo, placeText, plainPlace, REACHING, type Reaching, settled } from './places.js';

/** What the job keeps of itself. */
type Logs = 'finished' | 'finishedElsewhere' | 'keepFinished';

/** Options of `verify`. */
export interface VerifyOptions
  extends JobOptions,
    Reaching,
    Omit<
      NativeVerifyOptions,
      'manifests' | 'directory' | 'filter' | 'only' | 'inUse' | Logs | 'spillDirectory' | 'entryEvents'
    > {
  /** Manifests, all of which hold: lines of b3sum, sha256sum and their like, also in the form of BSD, hashdeep's, a bag's, and those of `manifest`. A directory stands for those that lie below it, by their names: `FILE.md5`, `SHA256SUMS`, `md5checksums.txt`, `manifest-sha512.txt` and the like. */
  manifests: PathLike | PathLike[];
  /** Where the paths in them begin, a path or a URL, `s3://BUCKET/PREFIX`; of manifests below a directory, where that itself is taken to be. Default: each where its manifest lies. */
  directory?: PathLike | undefined;
  /** Rules as rsync's --exclude: `PATTERN` leaves out, `+ PATTERN` takes; the first that matches decides. What is excluded is neither verified nor extra. Default: everything is taken. */
  exclude?: PathLike[];
  /** Nothing but these paths below the directory. Default: all. */
  only?: PathLike[];
  /** Files and directories that the caller uses meanwhile: they are not extra. Default: none. */
  inUse?: PathLike[];
  /** A copy of the directory: files that are damaged or missing are written anew from there, where it has them as the manifests say, and verified again; what was written to after the copy was made stays. Needs `directory`, and manifests that are files. What was repaired has an `entry` event in any case, and the outcome `copied`. Default: nothing is written. */
  repairFrom?: PathLike | undefined;
  /** A directory for temporary files, for what memory should not hold. Default: memory is used, and for a repair `/var/tmp`. */
  spillDirectory?: PathLike;
}

const FIELDS: Fields<VerifyOptions> = {
  ...RESOURCES,
  ...JOB,
  ...REACHING,
  manifests: paths,
  directory: path,
  exclude: each(path),
  only: each(path),
  algorithm: text,
  extra: boolean,
  quick: boolean,
  sample: record<NonNullable<VerifyOptions['sample']>>({ part: count, parts: count }, 'part', 'parts'),
  repairFrom: path,
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
    store,
    credentials,
    environment,
    requests,
    dryRun,
    manifests,
    directory,
    exclude,
    only,
    repairFrom,
    inUse,
    spillDirectory,
    entries,
    ...rest
  } = options;
  const place = directory === undefined ? undefined : plainPlace(placeText(directory, 'the directory'));
  const url = place !== undefined && !isHere(place) ? place : undefined;
  if (url !== undefined && repairFrom !== undefined) {
    throw new BulkhaulError('USAGE', 'repairFrom: what is at a URL is not repaired; sync brings over what differs');
  }
  const repair = repairFrom === undefined ? undefined : await repairOf(options, pathText(repairFrom, 'the copy'));
  const access = url === undefined ? undefined : await accessTo(url, store, { environment, credentials });
  const journal = await journalFor('verify', { ...options, ...(access && { store: settled(store ?? {}, access) }) });
  const used = [...(inUse ?? []), ...(settings && !dryRun ? [settings.directory] : [])];
  const native: NativeVerifyOptions = {
    ...rest,
    manifests: [manifests].flat().map((path) => pathBytes(pathText(path, 'a manifest'))),
    ...(place !== undefined && { directory: pathBytes(place) }),
    ...(only && { only: only.map(pathBytes) }),
    ...excluding(exclude?.map(pathBytes)),
    ...(used.length > 0 && { inUse: used.map(pathBytes) }),
    // What a store has is read anew each time.
    ...(journal && url === undefined && { finished: pathBytes(journal.finished) }),
    ...common({ spillDirectory, entries }),
  };
  return prepared(journal, async () => {
    if (url !== undefined) return (await loadStores()).verify(native, access, requests);
    const addon = await loadAddon();
    return repair === undefined ? addon.verify(native) : repairing(addon, native, repair);
  });
}

/** Where a repair is made, and from where. Throws `USAGE` where that can't be. */
async function repairOf({ directory, manifests, dryRun }: VerifyOptions, from: string) {
  if (directory === undefined) throw new BulkhaulError('USAGE', 'repairFrom: directory says what is to be repaired');
  if (dryRun) throw new BulkhaulError('USAGE', 'repairFrom: a dry run writes nothing');
  for (const manifest of [manifests].flat()) {
    // They are read more than once.
    const entry = await stat(pathBytes(manifest)).catch(() => undefined);
    if (entry !== undefined && !entry.isFile() && !entry.isDirectory())
      throw new BulkhaulError('USAGE', `repairFrom: ${pathText(manifest, 'a manifest')} is no file, to be read again`);
  }
  const { checkCopy, RepairingJob } = await import('./verify/repair.js');
  const here = pathText(directory, 'the directory');
  await checkCopy(here, from);
  return { directory: here, from, RepairingJob };
}

function repairing(
  addon: Addon,
  native: NativeVerifyOptions,
  { directory, from, RepairingJob }: Awaited<ReturnType<typeof repairOf>>,
): NativeJob {
  // What is damaged is proved in this run.
  const { entryEvents: _, quick: __, sample: ___, finished: ____, ...whole } = native;
  const { jobs, limits, nice, ionice, spillDirectory } = native;
  const resources = {
    ...(jobs !== undefined && { jobs }),
    ...(limits && { limits }),
    ...(nice !== undefined && { nice }),
    ...(ionice !== undefined && { ionice }),
  };
  return new RepairingJob({
    directory,
    from,
    scratch: spillDirectory === undefined ? '/var/tmp' : pathText(spillDirectory, 'the spill directory'),
    verify: (files) => addon.verify(files === undefined ? native : { ...whole, ...files, extra: false }),
    copy: (list) =>
      addon.copy({
        ...resources,
        sources: [{ path: toBytes(from), contents: true, follow: true }],
        destinations: [{ path: toBytes(directory), follow: true }],
        filesFrom: { path: toBytes(list), nul: true },
        // Directories stay as they are; of files size and time say nothing here.
        directories: 'needed',
        fullHash: true,
        verify: true,
        sync: 'all',
        ...(spillDirectory && { spillDirectory }),
        entryEvents: true,
      }),
  });
}
