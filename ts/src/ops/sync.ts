/**
 * Sync: what changed is brought over, between object stores and this machine.
 *
 * Comes in: two places and options; goes out: a running `Job`. Where both places are paths it is the engine's own copy, if that
 * does all that is asked for.
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { BulkhaulError } from '../error.js';
import { fromBytes, type PathLike } from '../names.js';
import type {
  NativeCopyOptions,
  NativeStoreCompareOptions,
  NativeStoreListOptions,
  NativeSyncOptions,
} from '../native/options.js';
import { loadAddon, loadStores } from '../native.js';
import type { Credentials, StoreSettings } from '../stores/access.js';
import { isHere } from '../stores/urls.js';
import {
  boolean,
  common,
  count,
  each,
  excluding,
  type Fields,
  isRecord,
  JOB,
  type JobOptions,
  limit,
  type MaxDelete,
  mostOf,
  path,
  pathBytes,
  pathText,
  RESOURCES,
  rate,
  record,
  size,
  text,
} from './arguments.js';
import { begin, type Job, journalFor, type Prepared, prepared } from './job.js';
import {
  ASKING,
  type Asking,
  accessTo,
  HEADERS,
  placeText,
  plainPlace,
  REQUESTS,
  refuseTwo,
  STORE,
  settled,
  wholePlace,
} from './places.js';
import { ownNames, ruleOf } from './within.js';

/** Where `incrementalSync` remembers. */
export interface Remembered {
  /** The file of what was seen when it was there last; made when it is missing. */
  state: PathLike;
}

/** Options of `syncDir`. */
export interface SyncOptions
  extends JobOptions,
    Asking,
    Omit<
      NativeSyncOptions,
      | 'source'
      | 'destination'
      | 'sourceAccess'
      | 'destinationAccess'
      | 'backupAccess'
      | 'filter'
      | 'names'
      | 'maxDelete'
      | 'maxDeletePercent'
      | 'backup'
      | 'state'
      | 'uploads'
      | 'dryRun'
      | 'spillDirectory'
      | 'entryEvents'
    > {
  /** `s3://BUCKET/PREFIX` or a path: what is in it is brought over. */
  source: PathLike;
  /** Where it comes to be: the same. */
  destination: PathLike;
  /** How stores are reached. Default: as `environment` says. */
  store?: StoreSettings;
  /** How the store of the source is reached, where that is another. Default: as `store` says. */
  sourceStore?: StoreSettings;
  /** Credentials of the source's store. Default: `credentials`. */
  sourceCredentials?: Credentials;
  /** Rules as rsync's --exclude: `PATTERN` leaves out, `+ PATTERN` takes; the first that matches decides. Default: everything is taken. */
  exclude?: PathLike[];
  /** Where more would go, nothing extra goes: a number of entries, or a percentage of those in the destination. Default: no limit. */
  maxDelete?: MaxDelete;
  /** A URL or a path: what is replaced or removed in the destination is kept there first, under its name. Default: it is not kept. */
  backup?: PathLike;
  /** A file in which is written down what both sides were: by it a later run sees what changed, on either side. Default: none. */
  state?: PathLike;
  /** A directory for temporary files without a name. Default: memory is used. */
  spillDirectory?: PathLike;
}

const moment = (value: unknown, key: string) => {
  if (typeof value !== 'number' || !Number.isFinite(value)) {
    throw new BulkhaulError('USAGE', `${key} is no number of seconds since 1970`);
  }
};

const FIELDS: Fields<SyncOptions> = {
  ...RESOURCES,
  ...JOB,
  source: path,
  destination: path,
  store: STORE,
  sourceStore: STORE,
  ...ASKING,
  sourceCredentials: ASKING.credentials,
  headers: HEADERS,
  requests: REQUESTS,
  compare: text,
  conflict: text,
  verify: text,
  newerThan: moment,
  olderThan: moment,
  minSize: size,
  maxSize: size,
  partition: text,
  removeExtra: boolean,
  maxDelete: limit,
  backup: path,
  batchSize: count,
  batchPause: rate,
  abortStale: moment,
  links: boolean,
  markers: boolean,
  exclude: each(path),
  state: path,
  modes: boolean,
  sync: boolean,
  spillDirectory: path,
};
const OPTIONS = record<SyncOptions>(FIELDS, 'source', 'destination');
const { compare: _compare, ...ALWAYS } = FIELDS;
const INCREMENTAL = record<Omit<SyncOptions, 'compare'>>(ALWAYS, 'source', 'destination', 'state');

/** A file that has another name in the destination. */
export interface NamePair {
  /** Relative to the source. */
  from: PathLike;
  /** Relative to the destination. */
  to: PathLike;
}

/** Options of `syncFiles`. */
export interface SyncFilesOptions extends Omit<SyncOptions, 'exclude' | 'removeExtra'> {
  /** Names of files, relative to both places, or of two, one relative to each: what is brought over where it changed. No two become one. Default: none. */
  add?: (PathLike | NamePair)[];
  /** Names that are removed from the destination, after that, and if nothing failed. Default: none. */
  remove?: PathLike[];
}

const PAIR = record<NamePair>({ from: path, to: path }, 'from', 'to');
function nameOrPair(value: unknown, key: string): void {
  (isRecord(value) ? PAIR : path)(value, key);
}

const { exclude: _exclude, removeExtra: _removeExtra, ...COMMON } = FIELDS;
const FILES_OPTIONS = record<SyncFilesOptions>(
  { ...COMMON, add: each(nameOrPair), remove: each(path) },
  'source',
  'destination',
);

/** What the engine's own copy does not do: with one of these two paths are synced as stores are. */
const SYNC_ONLY = [
  ...(['newerThan', 'olderThan', 'minSize', 'maxSize', 'partition'] as const),
  ...(['backup', 'batchSize', 'batchPause', 'state'] as const),
] as const;
/** What no path has a use for. */
const STORES_ONLY = ['headers', 'requests', 'abortStale'] as const;

/**
 * Brings what changed in a directory or below a prefix over to another, new and updated entries, and with `removeExtra`
 * takes away what the source does not have.
 *
 * @example
 * ```js
 * import { syncDir } from 'bulkhaul';
 *
 * const { outcomes } = await syncDir({
 *   source: 'photos',
 *   destination: 's3://archive/photos',
 *   environment: process.env,
 * });
 * console.log(outcomes.copied, outcomes.removed);
 * ```
 */
export function syncDir(options: SyncOptions): Job {
  return begin(options, OPTIONS, prepareSync);
}

/**
 * Brings files over that are named, where they changed, and removes others from the destination that are named. Nothing is
 * listed.
 *
 * @example
 * ```js
 * import { syncFiles } from 'bulkhaul';
 *
 * const { outcomes, failures } = await syncFiles({
 *   source: 'photos',
 *   destination: 's3://archive/photos',
 *   add: ['a.jpg', 'cache/c.jpg'],
 *   environment: process.env,
 * });
 * console.log(outcomes.copied, failures.length);
 * ```
 */
export function syncFiles(options: SyncFilesOptions): Job {
  return begin(options, FILES_OPTIONS, prepareSync);
}

/**
 * Brings over what changed since the last time, by a file that says what both sides were then. It is written entry by entry, and
 * belongs to its two places; what is gone or changed in the destination is seen too.
 *
 * @example
 * ```js
 * import { incrementalSync } from 'bulkhaul';
 *
 * const { outcomes } = await incrementalSync({
 *   source: 'photos',
 *   destination: 's3://archive/photos',
 *   state: 'photos.state',
 *   environment: process.env,
 * });
 * console.log(outcomes.copied);
 * ```
 */
export function incrementalSync(options: Omit<SyncOptions, 'compare'> & Remembered): Job {
  return begin(options, INCREMENTAL, (options) => prepareSync({ ...options, compare: 'state' }));
}

/** The same, not begun yet. */
export async function prepareSync(options: SyncOptions & SyncFilesOptions): Promise<Prepared> {
  const source = placeText(options.source, 'the source');
  const destination = placeText(options.destination, 'the destination');
  const { add, remove } = options;
  const named = add !== undefined || remove !== undefined;
  const here = isHere(source) && isHere(destination);
  if (here && !named && isCopy(options)) return copied(options, source, destination);
  if (isHere(source) && !named && (await isFile(plainPlace(source)))) {
    const what = 'this is a file: name the directory that it is in, and the file in a list';
    throw new BulkhaulError('NO_SOURCE', `${source}: ${what}`);
  }
  const brought = (add ?? []).map(taken);
  await refuseTwo(placesOf(brought, source, destination));
  const { store = {}, environment, credentials } = options;
  const asked = { environment, credentials: options.sourceCredentials ?? credentials };
  const sourceAccess = await accessTo(source, options.sourceStore ?? store, asked);
  const destinationAccess = await accessTo(destination, store, { environment, credentials });
  const aside = options.backup !== undefined && placeText(options.backup, 'the backup directory');
  const backupAccess = aside ? await accessTo(aside, store, { environment, credentials }) : undefined;
  const {
    signal: _signal,
    journal: _journal,
    store: _store,
    sourceStore: _sourceStore,
    credentials: _credentials,
    sourceCredentials: _sourceCredentials,
    environment: _environment,
    add: _add,
    remove: _remove,
    exclude,
    maxDelete,
    backup,
    state,
    spillDirectory,
    entries,
    ...rest
  } = options;
  const native: NativeSyncOptions = {
    ...rest,
    // A directory has a place for both.
    ...(here && !named && { links: options.links ?? true, markers: options.markers ?? true }),
    source: pathBytes(source),
    destination: pathBytes(destination),
    ...(sourceAccess && { sourceAccess }),
    ...(destinationAccess && { destinationAccess }),
    ...(backupAccess && { backupAccess }),
    ...(named && { names: { taken: brought, removed: names(remove, 'remove') } }),
    ...(maxDelete !== undefined && mostOf(maxDelete)),
    ...(backup !== undefined && { backup: pathBytes(pathText(backup, 'the backup directory')) }),
    ...(state !== undefined && { state: pathBytes(pathText(state, 'the state file')) }),
    ...common({ spillDirectory, entries }),
  };
  const stores = await loadStores();
  // The server is part of what the job is, wherever it was named.
  const theirs = settled(options.sourceStore ?? store, sourceAccess);
  const lasting: SyncOptions = {
    ...options,
    store: settled(store, destinationAccess ?? sourceAccess),
    ...((options.sourceStore || theirs.endpoint !== destinationAccess?.endpoint) &&
      sourceAccess &&
      destinationAccess && { sourceStore: theirs }),
  };
  const removes = options.removeExtra === true || remove !== undefined || backup !== undefined;
  const journal = await journalFor('sync', located(lasting, source, destination), removes);
  // Beside the journals: what is large goes on where it was, also where nothing else is to be written down.
  const { journal: settings } = options;
  const kept = settings && wholePlace(pathText(settings.directory, 'the directory of journals'));
  const uploads = journal && kept && join(kept, 'uploads', journal.id);
  // What the job itself writes is on neither side.
  const own = [state && wholePlace(pathText(state, 'the state file')), kept, uploads, ...(journal?.files ?? [])];
  const rules = ownNames(
    [source, destination].filter(isHere).map((place) => wholePlace(plainPlace(place))),
    own.filter((path) => path !== undefined),
  ).map(ruleOf);
  const begun: NativeSyncOptions = {
    ...native,
    ...(!named && excluding([...rules, ...(exclude ?? [])].map(pathBytes))),
    ...(uploads && { uploads: pathBytes(uploads) }),
  };
  return prepared(journal, async () => stores.sync(begun));
}

/** Whole places of what is named. */
function* placesOf(named: readonly { key: Buffer; to?: Buffer }[], source: string, destination: string) {
  const [from, to] = [slashed(source), slashed(destination)];
  for (const { key, to: renamed = key } of named) {
    yield { from: `${from}${fromBytes(key)}`, to: `${to}${fromBytes(renamed)}` };
  }
}

/** A place, to be followed by a name in it. */
const slashed = (place: string) => (/[/:]$/.test(place) ? place : `${place}/`);

function taken(given: PathLike | NamePair, index: number): { key: Buffer; to?: Buffer } {
  const name = (name: PathLike, key: string) => pathBytes(pathText(name, key));
  if (typeof given === 'string' || Buffer.isBuffer(given)) return { key: name(given, `add[${index}]`) };
  return { key: name(given.from, `add[${index}].from`), to: name(given.to, `add[${index}].to`) };
}

function names(given: readonly PathLike[] = [], key: string): Buffer[] {
  return given.map((name, index) => pathBytes(pathText(name, `${key}[${index}]`)));
}

/** Paths from where the job began; a URL is one from anywhere. */
function located(options: SyncOptions, source: string, destination: string): SyncOptions {
  const { sourceCredentials: _, ...rest } = options;
  const { backup } = options;
  return {
    ...rest,
    source: wholePlace(source),
    destination: wholePlace(destination),
    ...(backup !== undefined && { backup: wholePlace(placeText(backup, 'the backup directory')) }),
  };
}

/** What can't be looked at is left to who lists it. */
const isFile = async (path: string) => {
  const found = await stat(pathBytes(path)).catch(() => undefined);
  return found?.isFile() ?? false;
};

/** Whether the engine's own copy does all that is asked for. */
function isCopy({ compare = 'mtime', conflict = 'source', ...options }: SyncOptions): boolean {
  const plain = (compare === 'mtime' || compare === 'checksum') && conflict === 'source';
  return plain && SYNC_ONLY.every((key) => options[key] === undefined);
}

/** Two paths: the engine's own copy. */
async function copied(options: SyncOptions, source: string, destination: string): Promise<Prepared> {
  for (const key of STORES_ONLY) {
    if (options[key] !== undefined) {
      throw new BulkhaulError('USAGE', `${key} is for places of which one is a URL; two paths are copied as by copy`);
    }
  }
  const { compare = 'mtime', verify = 'size' } = options;
  const { jobs, limits, nice, ionice, dryRun, removeExtra, exclude, maxDelete, spillDirectory, entries, sync } =
    options;
  const plain = (place: string) => pathBytes(place.replace(/^file:(?:\/\/)?(?=\/)/i, ''));
  const native: NativeCopyOptions = {
    sources: [{ path: plain(source), contents: true, follow: true }],
    destinations: [{ path: plain(destination), follow: true }],
    fullHash: compare === 'checksum',
    verify: verify !== 'size',
    sync: sync === false ? 'none' : 'safe',
    ...(jobs !== undefined && { jobs }),
    ...(limits && { limits }),
    ...(nice !== undefined && { nice }),
    ...(ionice !== undefined && { ionice }),
    ...(dryRun !== undefined && { dryRun }),
    ...(removeExtra !== undefined && { removeExtra }),
    ...excluding(exclude?.map(pathBytes)),
    ...(maxDelete !== undefined && mostOf(maxDelete)),
    ...common({ spillDirectory, entries }),
  };
  const addon = await loadAddon();
  const journal = await journalFor('sync', located(options, source, destination), removeExtra === true);
  return prepared(journal, async () => addon.copy(native));
}

/** Options of `compareStores`. */
export interface StoreCompareOptions
  extends Omit<JobOptions, 'journal' | 'dryRun'>,
    Asking,
    Omit<
      NativeStoreCompareOptions,
      'left' | 'right' | 'leftAccess' | 'rightAccess' | 'filter' | 'output' | 'spillDirectory' | 'entryEvents'
    > {
  /** A URL or a path: what is, or was. One of the two is a URL. */
  left: PathLike;
  /** What it is compared with: the same. */
  right: PathLike;
  /** How stores are reached. Default: as `environment` says. */
  store?: StoreSettings;
  /** How the store of the left side is reached, where that is another. Default: as `store` says. */
  leftStore?: StoreSettings;
  /** Credentials of the left side's store. Default: `credentials`. */
  leftCredentials?: Credentials;
  /** Rules as rsync's --exclude: what `PATTERN` excludes is looked at on neither side, `+ PATTERN` takes; the first that matches decides. Default: everything is taken. */
  exclude?: PathLike[];
  /** The file that says how to turn the left side into the right one: it appears when it is whole. What is no regular file is written into. Default: none. */
  output?: PathLike;
  /** A directory for temporary files without a name. Default: memory is used. */
  spillDirectory?: PathLike;
}

const COMPARE_OPTIONS = record<StoreCompareOptions>(
  {
    ...RESOURCES,
    signal: JOB.signal,
    entries: boolean,
    left: path,
    right: path,
    store: STORE,
    leftStore: STORE,
    ...ASKING,
    leftCredentials: ASKING.credentials,
    requests: REQUESTS,
    content: text,
    hashSize: size,
    metadata: boolean,
    links: boolean,
    oneFileSystem: boolean,
    output: path,
    form: text,
    exclude: each(path),
    spillDirectory: path,
  },
  'left',
  'right',
);

/**
 * Compares two places of which one at least is a store: names and sizes, with `content` what is in the files or at their ends,
 * which is read on both sides, and with `metadata` what both keep beside.
 *
 * @example
 * ```js
 * import { compareStores } from 'bulkhaul';
 *
 * const { differences } = await compareStores({
 *   left: 'photos',
 *   right: 's3://archive/photos',
 *   environment: process.env,
 * });
 * console.log(differences.left, differences.right, differences.changed);
 * ```
 */
export function compareStores(options: StoreCompareOptions): Job {
  return begin(options, COMPARE_OPTIONS, async ({ signal: _, credentials, environment, entries, ...rest }) => {
    const { store, leftStore = store, leftCredentials = credentials, exclude, output, spillDirectory, ...more } = rest;
    const places = [placeText(rest.left, 'the left side'), placeText(rest.right, 'the right side')] as const;
    const leftAccess = await accessTo(places[0], leftStore, { environment, credentials: leftCredentials });
    const rightAccess = await accessTo(places[1], store, { environment, credentials });
    const native: NativeStoreCompareOptions = {
      ...more,
      left: pathBytes(places[0]),
      right: pathBytes(places[1]),
      ...(leftAccess && { leftAccess }),
      ...(rightAccess && { rightAccess }),
      ...excluding(exclude?.map(pathBytes)),
      ...(output !== undefined && { output: pathBytes(pathText(output, 'the output')) }),
      ...common({ spillDirectory, entries }),
    };
    const stores = await loadStores();
    return prepared(undefined, async () => stores.compareStores(native));
  });
}

/** Options of `listStore`. */
export interface StoreListOptions
  extends Omit<JobOptions, 'journal' | 'dryRun'>,
    Asking,
    Omit<NativeStoreListOptions, 'place' | 'access' | 'filter' | 'output' | 'entryEvents'> {
  /** The URL. */
  place: PathLike;
  /** How its store is reached. Default: as `environment` says. */
  store?: StoreSettings;
  /** Rules as rsync's --exclude, relative to the place. Default: everything is listed. */
  exclude?: PathLike[];
  /** The file that the list goes to, whole or not at all. Default: only events. */
  output?: PathLike | undefined;
}

const { jobs: _jobs, ...PACE } = RESOURCES;
const LIST_FIELDS: Fields<StoreListOptions> = {
  ...PACE,
  signal: JOB.signal,
  entries: boolean,
  place: path,
  store: STORE,
  ...ASKING,
  requests: REQUESTS,
  exclude: each(path),
  nul: boolean,
  output: path,
};
const LIST_OPTIONS = record<StoreListOptions>(LIST_FIELDS, 'place');

/**
 * Lists what is below a URL, in the order of the bytes of the keys.
 *
 * @example
 * ```js
 * import { listStore } from 'bulkhaul';
 *
 * for await (const event of listStore({ place: 's3://archive/photos', environment: process.env, entries: true })) {
 *   if (event.type === 'entry') console.log(event.path, event.size);
 * }
 * ```
 */
export function listStore(options: StoreListOptions): Job {
  return begin(
    options,
    LIST_OPTIONS,
    async ({ signal: _, place, store, credentials, environment, exclude, output, entries, ...rest }) => {
      const native: NativeStoreListOptions = {
        ...rest,
        place: pathBytes(pathText(place, 'the place')),
        ...(await accessTo(String(place), store, { environment, credentials }).then((access) => access && { access })),
        ...excluding(exclude?.map(pathBytes)),
        ...(output !== undefined && { output: pathBytes(pathText(output, 'the output')) }),
        ...common({ entries }),
      };
      const stores = await loadStores();
      return prepared(undefined, async () => stores.listStore(native));
    },
  );
}
