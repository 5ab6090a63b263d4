/**
 * Unpacking: what is in shards, or in any tar, becomes a tree again; or is listed, or verified.
 *
 * Comes in: paths and options; goes out: a running `Job`. What is there already with size, time and mode is left, so the same
 * call goes on where one was interrupted.
 */
import { BulkhaulError } from '../error.js';
import type { PathLike } from '../names.js';
import type { NativeUnpackOptions } from '../native/options.js';
import { loadAddon, loadStores } from '../native.js';
import { isHere } from '../stores/urls.js';
import {
  boolean,
  common,
  each,
  type Fields,
  type Given,
  JOB,
  type JobOptions,
  path,
  pathBytes,
  pathText,
  RESOURCES,
  record,
  text,
} from './arguments.js';
import { begin, type Job, journalFor, type Prepared, prepared } from './job.js';
import { accessTo, placeText, plainPlace, REACHING, type Reaching, settled, wholePlace } from './places.js';

/** The options as a journal keeps them: the addon's own, with paths as strings or bytes. */
export type MappedUnpackOptions = Given<Omit<NativeUnpackOptions, 'entryEvents' | 'dryRun'>> & JobOptions & Reaching;

/** Options of `unpack`. */
export interface UnpackOptions
  extends JobOptions,
    Reaching,
    Omit<NativeUnpackOptions, 'source' | 'destination' | 'only' | 'spillDirectory' | 'entryEvents' | 'dryRun'> {
  /** A directory of shards, or a tar file, which may be compressed; either may be a URL, `s3://BUCKET/PREFIX`. */
  source: PathLike;
  /** The directory that entries go to; made where it is not there. Default: none; needed by the task `unpack`, and by no other. */
  destination?: PathLike;
  /** Only these paths, a directory with what is in it; `*`, `?` and `[` as in rsync's patterns. Default: all. */
  only?: PathLike[];
  /** A directory for temporary files without a name: content of compressed archives, and what memory should not hold. Default: memory is used, and the working directory. */
  spillDirectory?: PathLike;
}

const FIELDS: Fields<UnpackOptions> = {
  ...RESOURCES,
  ...JOB,
  ...REACHING,
  source: path,
  destination: path,
  task: text,
  only: each(path),
  ignoreZeros: boolean,
  owner: boolean,
  spillDirectory: path,
};
const OPTIONS = record<UnpackOptions>(FIELDS, 'source');

/**
 * Unpacks what `pack` made, or any tar: all of it, or only some paths, which are read by the index. With the task `list` or
 * `verify` nothing is written: entries come as events, or are read and compared with their digests.
 *
 * @example
 * ```js
 * import { pack, unpack } from 'bulkhaul';
 *
 * await pack({ sources: 'photos/', destination: '/mnt/shards' }).orThrow();
 * await unpack({ source: '/mnt/shards', destination: '/mnt/restored', only: ['a.jpg'] }).orThrow();
 * const { complete } = await unpack({ source: '/mnt/shards', task: 'verify' });
 * console.log(complete);
 * ```
 */
export function unpack(options: UnpackOptions): Job {
  return begin(options, OPTIONS, async (options) => prepareUnpack(options));
}

/** The same, not begun yet. */
export async function prepareUnpack(options: MappedUnpackOptions): Promise<Prepared> {
  const { signal: _, journal: __, store, credentials, environment, requests, ...given } = options;
  const { source, destination, only, spillDirectory, entries, ...rest } = given;
  const task = rest.task ?? 'unpack';
  if ((task === 'unpack') !== (destination !== undefined)) {
    const what = task === 'unpack' ? 'a destination is needed' : `nothing goes to a destination with the task ${task}`;
    throw new BulkhaulError('USAGE', `destination: ${what}`);
  }
  const place = plainPlace(placeText(source, 'the source'));
  const access = await accessTo(place, store, { environment, credentials });
  const target = destination === undefined ? undefined : pathText(destination, 'the destination');
  const asked: MappedUnpackOptions = {
    ...options,
    source: wholePlace(place),
    ...(access && { store: settled(store ?? {}, access) }),
    ...(target !== undefined && { destination: wholePlace(target) }),
  };
  const journal = await journalFor('unpack', asked);
  const native: NativeUnpackOptions = {
    ...rest,
    source: pathBytes(place),
    ...(target !== undefined && { destination: pathBytes(target) }),
    ...(only && only.length > 0 && { only: only.map((path) => pathBytes(pathText(path, 'a path'))) }),
    ...common({ spillDirectory, entries }),
  };
  return prepared(journal, async () =>
    isHere(place) ? (await loadAddon()).unpack(native) : (await loadStores()).unpack(native, access, requests),
  );
}
