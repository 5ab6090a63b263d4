/**
 * Places as operations take them: URLs and paths, how their stores are reached, and who asks.
 *
 * Comes in: what a caller gave; goes out: checks of it, and access in the addon's form.
 */
import { realpath } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { BulkhaulError } from '../error.js';
import { fromBytes, type PathLike, toBytes } from '../names.js';
import type { ObjectHeaders, StoreAccess, StoreRequests } from '../native/options.js';
import { accessOf, type Credentials, type StoreSettings } from '../stores/access.js';
import { canonical, isHere, isUrl, serviceOf } from '../stores/urls.js';
import {
  boolean,
  count,
  ENVIRONMENT,
  type Environment,
  type Fields,
  is,
  isRecord,
  path,
  pathText,
  rate,
  record,
  size,
  text,
} from './arguments.js';

/** Who asks, and where that is looked up. Neither is kept in a journal. */
export interface Asking {
  /** Credentials of the stores. Default: they are looked up in `environment`. */
  credentials?: Credentials | undefined;
  /** Variables as the AWS tools have them, such as `process.env`: keys, profile, region, endpoint, and `HOME` for `~/.aws`. Default: nothing is looked up. */
  environment?: Environment | undefined;
}

export const STORE = record<StoreSettings>({
  endpoint: text,
  region: text,
  profile: text,
  pathStyle: boolean,
  anonymous: boolean,
  caFile: path,
});
const CREDENTIALS = record<Credentials>({ key: text, secret: text, token: text }, 'key', 'secret');
export const REQUESTS = record<StoreRequests>({
  ...{ memory: size, chunkSize: size },
  ...{ retries: count, backoff: rate, jitter: rate },
});
export const HEADERS = is(
  'an object of values by the names of headers',
  (value) => isRecord(value) && Object.values(value).every((each) => typeof each === 'string'),
);

/** Fields of `Asking`. */
export const ASKING: Fields<Asking> = { credentials: CREDENTIALS, environment: ENVIRONMENT };

/** The text of a place; `what` names it in an error. */
export function placeText(place: PathLike, what: string): string {
  return pathText(typeof place === 'string' ? place : fromBytes(place), what);
}

/** A path from the root; a URL is whole. */
export function wholePlace(place: string): string {
  return isUrl(place) || place.startsWith('/') ? place : `${process.cwd()}/${place}`;
}

/** A place on this machine as a path; a URL stays. */
export function plainPlace(place: string): string {
  return isHere(place) ? place.replace(/^file:(?:\/\/)?(?=\/)/i, '') : place;
}

/**
 * Where an entry is, whatever it is called: of a path its name in what the directories above it lead to, of a URL that in one
 * spelling. The entry itself is not followed. `known`: directories that were looked at.
 */
export async function whereabouts(place: string, known = new Map<string, string>()): Promise<string> {
  if (!isHere(place)) return canonical(place);
  const path = plainPlace(place);
  const name = basename(path);
  if (['', '.', '..'].includes(name)) return led(path === '' ? '.' : path);
  const directory = dirname(path);
  const above = known.get(directory) ?? (await led(directory));
  known.set(directory, above);
  return above === '/' ? `/${name}` : `${above}/${name}`;
}

/** What a directory leads to; of one that is not there, as far as it is, and by its words from there. */
async function led(path: string): Promise<string> {
  try {
    return fromBytes(await realpath(toBytes(path), 'buffer'));
  } catch {
    const above = dirname(path);
    return above === path ? path : join(await led(above), basename(path));
  }
}

/** Throws `USAGE` where two sources would have one destination: in a store one content would take the place of the other. */
export async function refuseTwo(copies: Iterable<{ readonly from: string; readonly to: string }>): Promise<void> {
  const known = new Map<string, string>();
  const sources = new Map<string, string>();
  for (const { from, to } of copies) {
    const place = await whereabouts(to, known);
    const other = sources.get(place);
    if (other !== undefined && other !== from) {
      throw new BulkhaulError('USAGE', `${to} would be the copy of two: ${other} and ${from}`);
    }
    sources.set(place, from);
  }
}

/** How the store of one place is reached. */
export interface Reaching extends Asking {
  /** How the store of a URL is reached. Default: as `environment` says. */
  store?: StoreSettings;
  /** How requests go. Default: as `StoreRequests` has it. */
  requests?: StoreRequests;
}

/** Fields of `Reaching`. */
export const REACHING: Fields<Reaching> = { store: STORE, requests: REQUESTS, ...ASKING };

/** Access to the store of a place; undefined: whoever reaches it needs to be told nothing. */
export async function accessTo(
  place: string,
  store: StoreSettings | undefined,
  { environment, credentials }: Asking,
): Promise<StoreAccess | undefined> {
  const service = serviceOf(place);
  return service && accessOf(service, store ?? {}, environment, credentials);
}

/** Headers for what is written at a place, where that can keep some. */
export function headersAt(place: string, headers: ObjectHeaders | undefined): { headers?: ObjectHeaders } {
  return headers !== undefined && serviceOf(place) ? { headers } : {};
}

/** Settings with the server that they lead to, wherever that was said: another server is another job. */
export function settled(store: StoreSettings, access: StoreAccess | undefined): StoreSettings {
  return access?.endpoint === undefined ? store : { ...store, endpoint: access.endpoint };
}
