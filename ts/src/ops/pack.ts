/**
 * Packing trees into shards: a few large tar files with an index each, for tape, object stores and quotas of files.
 *
 * Comes in: paths and options; goes out: a running `Job`, with a `part` event for each shard as soon as it is there and proved,
 * and the sums in its report (`parts`). The same call again packs what is new or has changed since into further shards, and
 * goes on where a run was interrupted.
 */
import type { PathLike } from '../names.js';
import type { NativePackOptions } from '../native/options.js';
import { loadAddon, loadStores } from '../native.js';
import { isHere } from '../stores/urls.js';
import {
  common,
  each,
  type Fields,
  type Given,
  JOB,
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
import { begin, type Job, journalFor, type Prepared, prepared } from './job.js';
import { accessTo, placeText, plainPlace, REACHING, type Reaching, settled, wholePlace } from './places.js';

/** The options as a journal keeps them: the addon's own, with paths as strings or bytes. */
export type MappedPackOptions = Given<Omit<NativePackOptions, 'entryEvents' | 'dryRun'>> & JobOptions & Reaching;

/** Options of `pack`. */
export interface PackOptions
  extends JobOptions,
    Reaching,
    Omit<
      NativePackOptions,
      'sources' | 'filter' | 'destination' | 'inUse' | 'spillDirectory' | 'entryEvents' | 'dryRun'
    > {
  /** `DIR/`: what is in it, by names relative to it, which only one source can be; `DIR`: the entry itself, by names that begin with its own. */
  sources: PathLike | PathLike[];
  /** The directory that the shards go to, or `s3://BUCKET/PREFIX`. It is made where it is not there; one that has shards gets further ones with what is new or has changed. */
  destination: PathLike;
  /** Rules as rsync's --exclude: `PATTERN` leaves out, `+ PATTERN` takes; the first that matches decides. Default: everything is taken. */
  exclude?: PathLike[];
  /** Files and directories that the caller uses meanwhile: they are left out. Default: none. */
  inUse?: PathLike[];
  /** A directory for temporary files without a name, for trees that memory should not hold, and for shards that go to a URL. Default: memory is used, and the working directory. */
  spillDirectory?: PathLike;
}

const FIELDS: Fields<PackOptions> = {
  ...RESOURCES,
  ...JOB,
  ...REACHING,
  oneFileSystem: SELECTION.oneFileSystem,
  sources: paths,
  destination: path,
  shardSize: size,
  compression: text,
  level: whole(0, 100),
  exclude: each(path),
  inUse: each(path),
  spillDirectory: path,
};
const OPTIONS = record<PackOptions>(FIELDS, 'sources', 'destination');

/**
 * Packs trees into shards: tar files that any tar reads, each with an index (a manifest that also says where an entry is),
 * read back from the medium before they get their names. Every file is read once.
 *
 * @example
 * ```js
 * import { pack } from 'bulkhaul';
 *
 * const job = pack({ sources: 'photos/', destination: '/mnt/packed', shardSize: 2 ** 30, compression: 'zstd' });
 * for await (const event of job) {
 *   if (event.type === 'part') console.log(event.path, event.entries, event.bytes);
 * }
 * console.log((await job).complete);
 * ```
 */
export function pack(options: PackOptions): Job {
  return begin(options, OPTIONS, async ({ sources, exclude, ...rest }) =>
    preparePack({
      ...rest,
      sources: (Array.isArray(sources) ? sources : [sources]).map((path) => ({ path, contents: false, follow: false })),
      ...(exclude && exclude.length > 0 && { filter: { style: 'rsync', rules: exclude } }),
    }),
  );
}

/** The same, not begun yet. */
export async function preparePack(options: MappedPackOptions): Promise<Prepared> {
  const {
    signal: _,
    journal: settings,
    store,
    credentials,
    environment,
    requests,
    sources,
    destination,
    filter,
    inUse = [],
    spillDirectory,
    entries,
    ...rest
  } = options;
  const place = plainPlace(placeText(destination, 'the destination'));
  const access = await accessTo(place, store, { environment, credentials });
  const asked: MappedPackOptions = {
    ...options,
    destination: wholePlace(place),
    ...(access && { store: settled(store ?? {}, access) }),
  };
  const journal = await journalFor('pack', asked);
  const used = [...inUse, ...(settings && !rest.dryRun ? [settings.directory] : []), ...(journal?.files ?? [])];
  const native: NativePackOptions = {
    ...rest,
    sources: sources.map((source) => ({ ...source, path: pathBytes(pathText(source.path, 'a source')) })),
    destination: pathBytes(place),
    ...(used.length > 0 && { inUse: used.map(pathBytes) }),
    ...common({ filter, spillDirectory, entries }),
  };
  return prepared(journal, async () =>
    isHere(place) ? (await loadAddon()).pack(native) : (await loadStores()).pack(native, access, requests),
  );
}
