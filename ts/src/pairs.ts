/**
 * Pairs of files: each copied to a place of its own, or held against its copy.
 *
 * Comes in: pairs of URLs and paths; goes out: what became of each, in order. One that fails ends nothing.
 */
import { BulkhaulError } from './error.js';
import type { Report } from './events.js';
import type { PathLike } from './names.js';
import type { ObjectHeaders, StoreRequests } from './native/options.js';
import { each, type Fields, type JobOptions, path, record, text } from './ops/arguments.js';
import { ASKING, type Asking, HEADERS, headersAt, placeText, REQUESTS, STORE } from './ops/places.js';
import { type SyncFilesOptions, syncFiles } from './ops/sync.js';
import type { StoreSettings } from './stores/access.js';
import { isUrl, locate, urlOf } from './stores/urls.js';

/** A file, and where its copy is. */
export interface Pair {
  /** A URL or path. */
  from: PathLike;
  /** The same. */
  to: PathLike;
}

/** What became of a pair. */
export interface PairOutcome {
  /** As it was given. */
  from: string;
  /** The same. */
  to: string;
  /** `added`: nothing was there; `updated`: something else was; `skipped`: it was there already, or a rule kept what was. */
  outcome: 'added' | 'updated' | 'skipped' | 'failed';
  /** Why it was skipped, or what failed. Absent: it was copied. */
  reason?: string;
}

/** Whether a copy is what it was made of. */
export interface Validation {
  /** It is. */
  ok: boolean;
  /** What was the same, or what is not. */
  reason: string;
}

/** Options of `copyPairs`. */
export interface PairOptions extends Asking {
  /** How stores are reached. Default: as `environment` says. */
  store?: StoreSettings;
  /** What is said of each object that is written: see `syncDir`. Default: its type. */
  headers?: ObjectHeaders;
  /** How requests go. Default: as `StoreRequests` has it. */
  requests?: StoreRequests;
  /** What tells two files apart: see `syncFiles`. Default `mtime`. */
  compare?: 'size' | 'mtime' | 'checksum';
  /** What is proved of what was written: see `syncFiles`. Default `size`. */
  verify?: 'size' | 'hash' | 'full';
  /** Stops at once. Default: nothing does. */
  signal?: JobOptions['signal'];
}

const FIELDS: Fields<Omit<PairOptions, 'signal'>> = {
  ...ASKING,
  store: STORE,
  headers: HEADERS,
  requests: REQUESTS,
  compare: text,
  verify: text,
};
const PAIRS = each(record<Pair>({ from: path, to: path }, 'from', 'to'));
const OPTIONS = record<Omit<PairOptions, 'signal'>>(FIELDS);

/** A pair with its places taken apart. */
interface Placed {
  readonly outcome: PairOutcome;
  readonly source: readonly [string, string];
  readonly destination: readonly [string, string];
}

/**
 * Copies files to places of their own, where they differ from what is there.
 *
 * @example
 * ```js
 * import { copyPairs } from 'bulkhaul';
 *
 * const outcomes = await copyPairs(
 *   [
 *     { from: 'photos/a.jpg', to: 's3://archive/2026/first.jpg' },
 *     { from: 'photos/missing.jpg', to: 's3://archive/2026/second.jpg' },
 *   ],
 *   { environment: process.env },
 * );
 * for (const { to, outcome, reason } of outcomes) console.log(to, outcome, reason);
 * ```
 */
export async function copyPairs(pairs: readonly Pair[], options: PairOptions = {}): Promise<PairOutcome[]> {
  return done(pairs, options, {});
}

/**
 * Holds a file against its copy: by size, and by content unless `verify` is `size`. What a store vouches for is not read.
 *
 * @example
 * ```js
 * import { copyPairs, validateTransfer } from 'bulkhaul';
 *
 * const environment = process.env;
 * await copyPairs([{ from: 'photos/a.jpg', to: 's3://archive/a.jpg' }], { environment });
 * const { ok, reason } = await validateTransfer('photos/a.jpg', 's3://archive/a.jpg', { environment });
 * console.log(ok, reason);
 * ```
 */
export async function validateTransfer(
  from: PathLike,
  to: PathLike,
  { verify = 'full', ...options }: Omit<PairOptions, 'compare'> = {},
): Promise<Validation> {
  const compare = verify === 'size' ? 'size' : 'checksum';
  const [told] = await done([{ from, to }], { ...options, compare }, { dryRun: true });
  switch (told?.outcome) {
    case 'skipped':
      return { ok: true, reason: compare === 'size' ? 'the sizes are the same' : 'the contents are the same' };
    case 'added':
      return { ok: false, reason: `${told.to} is missing` };
    case 'updated':
      return { ok: false, reason: told.reason ?? 'they differ' };
    default:
      return { ok: false, reason: told?.reason ?? 'nothing is known' };
  }
}

async function done(
  pairs: readonly Pair[],
  { signal, ...options }: PairOptions,
  more: Pick<SyncFilesOptions, 'dryRun'>,
): Promise<PairOutcome[]> {
  PAIRS(pairs, 'pairs');
  OPTIONS(options, 'options');
  const placed = pairs.map(({ from, to }, index): Placed => {
    const [source, destination] = [placeText(from, `pairs[${index}].from`), placeText(to, `pairs[${index}].to`)];
    const outcome: PairOutcome = { from: source, to: destination, outcome: 'failed', reason: 'it was not reached' };
    return { outcome, source: split(source), destination: split(destination) };
  });
  // One job for all that lies in the same two places.
  const groups = new Map<string, Placed[]>();
  for (const pair of placed) add(groups, `${pair.source[0]}\0${pair.destination[0]}`, pair);
  for (const group of groups.values()) {
    await one(group, { ...options, ...more, signal }).catch((error: unknown) => {
      signal?.throwIfAborted();
      const { message } = BulkhaulError.from(error);
      for (const { outcome } of group) outcome.reason = message;
    });
  }
  return placed.map(({ outcome }) => outcome);
}

async function one(
  group: readonly Placed[],
  { headers, ...options }: Partial<SyncFilesOptions>,
): Promise<Report | undefined> {
  const [{ source, destination } = { source: ['', ''], destination: ['', ''] }] = group;
  // By the name in the destination, and by the paths that errors tell.
  const known = new Map<string, Placed[]>();
  for (const pair of group) {
    add(known, pair.destination[1], pair);
    for (const [at, name] of [pair.source, pair.destination])
      add(known, isUrl(at) ? urlOf({ store: at, key: name }) : `${slashed(at)}${name}`, pair);
  }
  const names = group.map(({ source, destination }) => ({ from: source[1], to: destination[1] }));
  const places = { source: source[0], destination: destination[0] };
  const job = syncFiles({ ...options, ...headersAt(destination[0], headers), ...places, add: names, entries: true });
  for await (const event of job) {
    if (event.type !== 'entry' && event.type !== 'error') continue;
    for (const { outcome } of known.get(event.path) ?? []) {
      delete outcome.reason;
      if (event.type === 'error') Object.assign(outcome, { outcome: 'failed', reason: event.message });
      else if (event.outcome === 'copied') {
        outcome.outcome = event.changes.includes('new') ? 'added' : 'updated';
        if (event.dryRun) outcome.reason = `they differ: ${event.changes.join(', ')}`;
      } else Object.assign(outcome, { outcome: 'skipped', reason: event.reason });
    }
  }
  return job;
}

const slashed = (place: string) => (place.endsWith('/') ? place : `${place}/`);

function add(map: Map<string, Placed[]>, key: string, pair: Placed): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [pair]);
  else list.push(pair);
}

/** A place that has a file, and its name there: of a URL the store, of a path its directory. */
function split(place: string): [string, string] {
  const located = locate(place);
  const at = place.lastIndexOf('/');
  const name = located?.key ?? place.slice(at + 1);
  if (name === '') throw new BulkhaulError('USAGE', `${place} is no name of a file`);
  if (located) return [located.store, name];
  if (at < 0) return ['.', name];
  return [place.slice(0, at) || '/', name];
}
