/**
 * Manifests: which files there are in trees, and the digests of their content.
 *
 * Comes in: paths and options; goes out: a running `Job`. The manifest goes to a file, or comes as `entry` events.
 */
import { BulkhaulError } from '../error.js';
import type { PathLike } from '../names.js';
import type { NativeManifestOptions } from '../native/options.js';
import { loadAddon, loadStores } from '../native.js';
import { isHere } from '../stores/urls.js';
import {
  common,
  each,
  excluding,
  type Fields,
  type Given,
  JOB,
  type JobOptions,
  MANIFEST,
  path,
  pathBytes,
  paths,
  pathText,
  RESOURCES,
  record,
  SELECTION,
  text,
  trees,
} from './arguments.js';
import { begin, type Job, journalFor, type Prepared, prepared } from './job.js';
import { accessTo, placeText, plainPlace, REACHING, type Reaching, settled } from './places.js';

/** What the job keeps of itself. */
type Logs = 'finished' | 'finishedElsewhere' | 'keepFinished';

/** The options as a journal keeps them: the addon's own, with paths as strings or bytes. */
export type MappedManifestOptions = Given<Omit<NativeManifestOptions, 'entryEvents' | 'filesFrom' | Logs>> &
  JobOptions &
  Reaching;

/** Options of `manifest`. */
export interface ManifestOptions
  extends JobOptions,
    Reaching,
    Omit<
      NativeManifestOptions,
      'sources' | 'filter' | 'filesFrom' | 'output' | 'inUse' | Logs | 'spillDirectory' | 'entryEvents'
    > {
  /** `DIR/`: what is in it, by names relative to it; `DIR`: the entry itself, by names that begin with its own. Or one URL, `s3://BUCKET/PREFIX`: what is below it, by names relative to it. */
  sources: PathLike | PathLike[];
  /** Rules as rsync's --exclude: `PATTERN` leaves out, `+ PATTERN` takes; the first that matches decides. Default: everything is taken. */
  exclude?: PathLike[];
  /** The file that the manifest goes to: it appears when it is whole, and does not list itself. What is no regular file is written into. Default: only events. */
  output?: PathLike | undefined;
  /** Files and directories that the caller uses meanwhile: they are left out. Default: none. */
  inUse?: PathLike[];
  /** A directory for temporary files without a name, for manifests that memory should not hold. Default: memory is used. */
  spillDirectory?: PathLike;
}

const FIELDS: Fields<ManifestOptions> = {
  ...RESOURCES,
  ...JOB,
  ...REACHING,
  oneFileSystem: SELECTION.oneFileSystem,
  ...MANIFEST,
  output: path,
  update: text,
  inUse: each(path),
  spillDirectory: path,
  sources: paths,
  exclude: each(path),
};
const OPTIONS = record<ManifestOptions>(FIELDS, 'sources');

/**
 * Makes a manifest of each source under its own name, in a file or as events.
 *
 * @example
 * ```js
 * import { manifest } from 'bulkhaul';
 *
 * const { complete } = await manifest({ sources: 'photos/', algorithms: ['sha256'], output: '/mnt/SHA256SUMS' });
 * console.log(complete);
 * for await (const event of manifest({ sources: 'photos', format: 'jsonl', entries: true })) {
 *   if (event.type === 'entry' && event.digests) console.log(event.path, Buffer.from(event.digests.blake3, 'hex'));
 * }
 * ```
 */
export function manifest(options: ManifestOptions): Job {
  return begin(options, OPTIONS, async ({ sources, exclude, ...rest }) =>
    prepareManifest({
      ...rest,
      sources: trees(sources),
      ...excluding(exclude),
    }),
  );
}

/** The same, not begun yet. */
export async function prepareManifest(options: MappedManifestOptions): Promise<Prepared> {
  const {
    signal: _,
    journal: settings,
    store,
    credentials,
    environment,
    requests,
    dryRun,
    sources,
    filter,
    output,
    inUse,
    spillDirectory,
    entries,
    ...rest
  } = options;
  const url = sources.map((source) => placeText(source.path, 'a source')).find((place) => !isHere(place));
  if (url !== undefined && sources.length > 1) {
    throw new BulkhaulError('USAGE', 'sources: of a URL a manifest is made by itself, not of several sources');
  }
  const access = url === undefined ? undefined : await accessTo(url, store, { environment, credentials });
  const journal = await journalFor('manifest', { ...options, ...(access && { store: settled(store ?? {}, access) }) });
  const used = [...(inUse ?? []), ...(settings && !dryRun ? [settings.directory] : []), ...(journal?.files ?? [])];
  const native: NativeManifestOptions = {
    ...rest,
    sources: sources.map((source) => ({ ...source, path: pathBytes(plainPlace(placeText(source.path, 'a source'))) })),
    ...(output !== undefined && !dryRun && { output: pathBytes(pathText(output, 'the output')) }),
    ...(used.length > 0 && { inUse: used.map(pathBytes) }),
    // What a store has is read anew each time.
    ...(journal && url === undefined && { finished: pathBytes(journal.finished) }),
    ...common({ filter, spillDirectory, entries }),
  };
  return prepared(journal, async () =>
    url === undefined ? (await loadAddon()).manifest(native) : (await loadStores()).manifest(native, access, requests),
  );
}
