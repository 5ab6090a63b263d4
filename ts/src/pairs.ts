/**
 * Pairs of files: each copied to a place of its own.
 *
 * Comes in: pairs of URLs and paths; goes out: what became of each, in order. One that fails ends nothing.
 */
import { BulkhaulError } from './error.js';
import type { PathLike } from './names.js';
import type { EntryKind } from './native/events.js';
import type { ObjectHeaders, StoreRequests } from './native/options.js';
import { each, type Fields, type JobOptions, path, record, text } from './ops/arguments.js';
import type { Job } from './ops/job.js';
import { ASKING, type Asking, HEADERS, headersAt, placeText, REQUESTS, refuseTwo, STORE } from './ops/places.js';
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

/** Options of `copyPairs`. */
export interface PairOptions extends Asking {
  /** How stores are reached. Default: as `environment` says. */
  store?: StoreSettings;
  /** What is said of each object that is written: see `syncDir`. Default: its type. */
  headers?: ObjectHeaders;
  /** How requests go. Default: as `StoreRequests` has it. */
  requests?: StoreRequests;
  /** What tells two files apart: see `syncFiles`. Default `mtime`. */
  compare?: 'size' | 'mtime' | 'checksum' | 'always';
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

/** A pair with its places taken apart, and what became of it. */
export interface Placed {
  readonly outcome: PairOutcome;
  readonly source: readonly [string, string];
  readonly destination: readonly [string, string];
  /** What the source is, where that was seen. */
  kind?: EntryKind;
}

/** A pair of which nothing is known yet. Throws `USAGE` for a place that has no name. */
export function placed(from: string, to: string): Placed {
  const outcome: PairOutcome = { from, to, outcome: 'failed', reason: 'it was not reached' };
  return { outcome, source: split(from), destination: split(to) };
}

/**
 * Copies files to places of their own, where they differ from what is there. Rejects with `USAGE`, before anything is copied,
 * where two would come to be at one place.
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

/** The same, and what would be done, where that is all that is wanted. */
export async function done(
  pairs: readonly Pair[],
  { signal, ...options }: PairOptions,
  more: Pick<SyncFilesOptions, 'dryRun'>,
): Promise<PairOutcome[]> {
  PAIRS(pairs, 'pairs');
  OPTIONS(options, 'options');
  const all = pairs.map(({ from, to }, index) =>
    placed(placeText(from, `pairs[${index}].from`), placeText(to, `pairs[${index}].to`)),
  );
  await refuseTwo(all.map(({ outcome }) => outcome));
  // One job for all that lies in the same two places.
  const groups = new Map<string, Placed[]>();
  for (const pair of all) add(groups, `${pair.source[0]}\0${pair.destination[0]}`, pair);
  for (const group of groups.values()) {
    try {
      const { job } = await copied(group, { ...options, ...more, signal });
      await job;
    } catch (error) {
      signal?.throwIfAborted();
      const { message } = BulkhaulError.from(error);
      for (const { outcome } of group) outcome.reason = message;
    }
  }
  return all.map(({ outcome }) => outcome);
}

/** Copies pairs that lie in the same two places, and says in each what became of it; the job has ended then. */
export async function copied(
  group: readonly Placed[],
  { headers, ...options }: Partial<SyncFilesOptions>,
): Promise<{ readonly job: Job }> {
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
    for (const pair of known.get(event.path) ?? []) {
      const { outcome } = pair;
      // One source may have several copies: what has come to be is not what failed.
      if (event.type === 'error' && outcome.outcome !== 'failed') continue;
      delete outcome.reason;
      if (event.type === 'entry') pair.kind = event.kind;
      if (event.type === 'error') Object.assign(outcome, { outcome: 'failed', reason: event.message });
      else if (event.outcome === 'copied') {
        outcome.outcome = event.changes.includes('new') ? 'added' : 'updated';
        if (event.dryRun) outcome.reason = `they differ: ${event.changes.join(', ')}`;
      } else Object.assign(outcome, { outcome: 'skipped', reason: event.reason });
    }
  }
  return { job };
}

const slashed = (place: string) => (place.endsWith('/') ? place : `${place}/`);

function add(map: Map<string, Placed[]>, key: string, pair: Placed): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [pair]);
  else list.push(pair);
}

/** A place that has a file, and its name there: of a URL the store, of a path its directory. */
export function split(place: string): [string, string] {
  const located = locate(place);
  const at = place.lastIndexOf('/');
  const name = located?.key ?? place.slice(at + 1);
  if (name === '') throw new BulkhaulError('USAGE', `${place} is no name of a file`);
  if (located) return [located.store, name];
  if (at < 0) return ['.', name];
  return [place.slice(0, at) || '/', name];
}
