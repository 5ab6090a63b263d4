/**
 * Retention: the last partitions of each group stay, the others go, in an object store or on a disk.
 *
 * Comes in: a place and a rule; goes out: a running `Job`.
 */
import { BulkhaulError } from '../error.js';
import type { PathLike } from '../names.js';
import type { NativePruneOptions } from '../native/options.js';
import { loadStores } from '../native.js';
import type { StoreSettings } from '../stores/access.js';
import {
  common,
  count,
  each,
  type Fields,
  JOB,
  type JobOptions,
  limit,
  type MaxDelete,
  mostOf,
  path,
  pathBytes,
  RESOURCES,
  record,
  text,
} from './arguments.js';
import { begin, type Job, journalFor, type Prepared, prepared } from './job.js';
import { ASKING, type Asking, accessTo, placeText, REQUESTS, STORE, settled, wholePlace } from './places.js';

/** Options of `retainPartitions`. */
export interface RetainOptions
  extends JobOptions,
    Asking,
    Omit<
      NativePruneOptions,
      | 'place'
      | 'access'
      | 'keys'
      | 'keep'
      | 'maxDelete'
      | 'maxDeletePercent'
      | 'dryRun'
      | 'spillDirectory'
      | 'entryEvents'
    > {
  /** `s3://BUCKET/PREFIX` or a path: what is in it. */
  place: PathLike;
  /** The key of the partitions, `month`; or several, from the outside in, whose values are ordered together: `['year', 'month']`. */
  key: string | string[];
  /** The number of the last partitions that stay, of each group; 1 or more. */
  keep: number;
  /** How the store is reached. Default: as `environment` says. */
  store?: StoreSettings;
  /** Where more would go, nothing goes: a number of entries, or a percentage of those that are there. Default: no limit. */
  maxDelete?: MaxDelete;
  /** A directory for temporary files without a name. Default: memory is used. */
  spillDirectory?: PathLike;
}

const keys = (value: unknown, key: string) => (Array.isArray(value) ? each(text) : text)(value, key);
const FIELDS: Fields<RetainOptions> = {
  ...RESOURCES,
  ...JOB,
  place: path,
  key: keys,
  keep: count,
  within: text,
  store: STORE,
  ...ASKING,
  requests: REQUESTS,
  maxDelete: limit,
  spillDirectory: path,
};
const OPTIONS = record<RetainOptions>(FIELDS, 'place', 'key', 'keep');
const { key: _key, keep: _keep, within: _within, journal: _journal, ...OF_ALL } = FIELDS;
const BELOW = record<Omit<RetainOptions, 'key' | 'keep' | 'within' | 'journal'>>(OF_ALL, 'place');

/**
 * Keeps the last partitions (`KEY=VALUE` between slashes) of each group, by their values: whole numbers as numbers, dates as
 * dates. A group is what stands in one directory; with `within`, what has one path up to that key's partition. What is in no
 * such partition stays, and so does one without a value. Nothing goes where the listing is not whole.
 *
 * @example
 * ```js
 * import { retainPartitions } from 'bulkhaul';
 *
 * const { outcomes } = await retainPartitions({
 *   place: 's3://archive/events',
 *   key: ['year', 'month'],
 *   keep: 12,
 *   dryRun: true,
 *   environment: process.env,
 * });
 * console.log(outcomes.removed);
 * ```
 */
export function retainPartitions(options: RetainOptions): Job {
  return begin(options, OPTIONS, prepareRetention);
}

/** The same, not begun yet. */
export async function prepareRetention(options: RetainOptions): Promise<Prepared> {
  const {
    signal: _signal,
    journal: _journal,
    place: given,
    key,
    keep,
    store,
    credentials,
    environment,
    maxDelete,
    spillDirectory,
    entries,
    ...rest
  } = options;
  const place = placeText(given, 'the place');
  const keys = [key].flat().map((key) => key.trim());
  if (keys.length === 0 || keys.includes('')) throw new BulkhaulError('USAGE', 'key is empty');
  const access = await accessTo(place, store, { environment, credentials });
  const native: NativePruneOptions = {
    ...rest,
    place: pathBytes(place),
    keys,
    keep,
    ...(access && { access }),
    ...(maxDelete !== undefined && mostOf(maxDelete)),
    ...common({ spillDirectory, entries }),
  };
  const stores = await loadStores();
  const asked: RetainOptions = { ...options, place: wholePlace(place), store: settled(store ?? {}, access) };
  const journal = await journalFor('retain', asked, true);
  return prepared(journal, async () => stores.prune(native));
}

/** Removes all that is below a place. */
export function removeBelow(options: Omit<RetainOptions, 'key' | 'keep' | 'within' | 'journal'>): Job {
  return begin(options, BELOW, async ({ place: given, store, credentials, environment, maxDelete, ...rest }) => {
    const { signal: _signal, entries, spillDirectory, ...more } = rest;
    const place = placeText(given, 'the place');
    const access = await accessTo(place, store, { environment, credentials });
    const native: NativePruneOptions = {
      ...more,
      place: pathBytes(place),
      ...(access && { access }),
      ...(maxDelete !== undefined && mostOf(maxDelete)),
      ...common({ spillDirectory, entries }),
    };
    const stores = await loadStores();
    return prepared(undefined, async () => stores.prune(native));
  });
}
