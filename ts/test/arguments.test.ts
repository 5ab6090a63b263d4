/** What library calls make of arguments that a caller without a compiler may give: `USAGE`, with the key, and nothing else. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type {
  CompareOptions,
  CompressOptions,
  CopyOptions,
  DecompressOptions,
  ListOptions,
  ManifestOptions,
  MigrateOptions,
  MoveOptions,
  PackOptions,
  PartitionOptions,
  RemoveOptions,
  UnpackOptions,
  VerifyOptions,
} from '../src/index.js';
import * as library from '../src/index.js';
import { Job } from '../src/ops/job.js';
import { FakeNative } from './rig.js';

const DIRECTORY = mkdtempSync(join(tmpdir(), 'bulkhaul-test-'));
afterAll(() => rmSync(DIRECTORY, { recursive: true }));
/** Nothing is there. */
const ABSENT = join(DIRECTORY, 'absent');
/** What a right call may make. */
const OUTPUT = join(DIRECTORY, 'output');

/** A manifest of nothing that is there. */
const SUMS = join(DIRECTORY, 'MD5SUMS');
writeFileSync(SUMS, `${'0'.repeat(32)}  absent\n`);

/** Where no server is. */
const NOBODY = 'http://127.0.0.1:9';

const URL_OF_FILE = new URL('file:///nowhere');

/** Values that no argument takes. */
const NOTHING = [null, Symbol('x'), 10n, URL_OF_FILE];
const NO_NUMBER = [...NOTHING, '5', true, [1], {}, NaN, Number.POSITIVE_INFINITY];

/** Kinds of arguments: what is one, and what is none. A wrong value in an array or an object is given with its way. */
const KINDS = {
  boolean: { right: true, wrong: [...NOTHING, 'yes', 0, 1, [], {}] },
  // true goes with other options only.
  inMoves: { right: false, wrong: [...NOTHING, 'yes', 0, 1, [], {}] },
  text: { right: undefined, wrong: [...NOTHING, 5, true, [], {}, Buffer.from('x')] },
  path: { right: OUTPUT, wrong: [...NOTHING, 5, true, [], {}, new Uint8Array(1), [ABSENT]] },
  paths: { right: [ABSENT], wrong: [...NOTHING, 5, true, {}, new Uint8Array(1), [5], ['x', null], [URL_OF_FILE]] },
  patterns: { right: ['*.o', Buffer.from('x')], wrong: [...NOTHING, 'x', 5, {}, [5], ['x', undefined], [['x']]] },
  algorithms: {
    right: ['md5'],
    wrong: [...NOTHING, 'md5', 5, {}, [5], ['md5', undefined], ['nonsense'], ['md5', 'sha256']],
  },
  manifests: { right: [SUMS], wrong: [...NOTHING, 5, true, {}, new Uint8Array(1), [5], ['x', null], [URL_OF_FILE]] },
  directory: { right: DIRECTORY, wrong: [...NOTHING, 5, true, [], {}, new Uint8Array(1), [ABSENT]] },
  directories: { right: [DIRECTORY], wrong: [...NOTHING, 'x', 5, {}, [5], [null]] },
  count: { right: 3, wrong: [...NO_NUMBER, -1, 1.5, 2 ** 32] },
  id: { right: 7, wrong: [...NO_NUMBER, -1, 1.5, 2 ** 32 - 1] },
  size: { right: 4096, wrong: [...NO_NUMBER, -1, 1.5, 2 ** 53] },
  // Enough for one worker of any format; less is refused by its name.
  memory: { right: 2 ** 30, wrong: [...NO_NUMBER, -1, 1.5, 2 ** 53] },
  nice: { right: 1, wrong: [...NO_NUMBER, 1.5, -21, 20, 2 ** 32 + 1] },
  limit: { right: '5%', wrong: [...NOTHING, NaN, -1, 1.5, 2 ** 53, '', 'x', '-1', '5 %', '101%', '1.5%', [], {}] },
  limits: {
    right: { bytes: 1e9, entries: 0.5 },
    wrong: [...NOTHING, 5, [], { bytes: '5' }, { bytes: -1 }, { entries: NaN }, { bytes: 1e17 }, { byte: 1 }],
  },
  chown: {
    right: { user: 0 },
    wrong: [...NOTHING, 5, { user: 'root' }, { user: -1 }, { group: 2 ** 32 - 1 }, { users: 1 }],
  },
  filesFrom: {
    right: { path: '/dev/null', nul: false },
    wrong: [...NOTHING, 'x', {}, { path: 'x' }, { nul: true }, { path: 5, nul: true }, { path: 'x', nul: 1 }],
  },
  sample: {
    right: { part: 1, parts: 2 },
    wrong: [...NOTHING, 5, {}, { part: 1 }, { part: 2, parts: 2 }, { part: -1, parts: 2 }, { part: 0, parts: 'x' }],
  },
  // A right one goes with a form and an output.
  update: { right: undefined, wrong: [...NOTHING, 5, true, [], {}, Buffer.from('x'), 'nonsense', 'full'] },
  copyManifest: {
    right: { path: OUTPUT, format: 'jsonl', algorithms: ['md5'] },
    wrong: [
      ...NOTHING,
      'x',
      {},
      { path: 5 },
      { path: 'x', format: 'x' },
      { path: 'x', nul: 1 },
      { path: 'x', algorithms: ['md5', 'sha256'] },
      { path: 'x', algorithms: 'md5' },
    ],
  },
  storedManifest: { right: { path: OUTPUT }, wrong: [...NOTHING, 'x', {}, { path: 5 }, { path: 'x', format: 'x' }] },
  packing: {
    right: { format: 'xz', level: 9, extensions: ['.tsv'], minSize: 5, memory: 1e9 },
    wrong: [
      ...NOTHING,
      'x',
      5,
      { format: 'x' },
      { level: 'x' },
      { extensions: 'tsv' },
      { minSize: -1 },
      { keep: true },
    ],
  },
  // A right one goes with the list of one file.
  gathered: {
    right: undefined,
    wrong: [...NOTHING, 'x', 5, {}, { name: 'x' }, { name: 5, version: '' }, { name: 'x', version: 5 }],
  },
  placement: {
    right: [{ inode: 1, size: 2, room: 4096, destination: 0 }],
    wrong: [...NOTHING, 'x', {}, [{}], [{ inode: 1, size: -1, room: 0, destination: 0 }], [{ inode: 1, size: 1 }]],
  },
  filter: {
    right: { style: 'rsync', rules: ['x'] },
    wrong: [
      ...NOTHING,
      'x',
      [],
      {},
      { style: 'x', rules: [] },
      { style: 'rsync', rules: 'x' },
      { style: 'rsync', rules: [5] },
    ],
  },
  side: {
    right: ABSENT,
    wrong: [...NOTHING, 5, true, [], {}, { list: 5 }, { list: 'x', names: 'no' }, { list: 'x', name: true }],
  },
  mappedSide: {
    right: { trees: [{ path: ABSENT, contents: false, follow: false }] },
    wrong: [...NOTHING, ABSENT, {}, { trees: ABSENT }, { trees: [ABSENT] }, { trees: [{ path: ABSENT }] }, { list: 5 }],
  },
  trees: {
    right: [{ path: ABSENT, contents: false, follow: false }],
    wrong: [...NOTHING, ABSENT, {}, [ABSENT], [null], [{ path: ABSENT, contents: 0, follow: false }]],
  },
  places: {
    right: [{ path: ABSENT, follow: false }],
    wrong: [...NOTHING, ABSENT, {}, [ABSENT], [{ path: ABSENT }], [{ path: ABSENT, follow: null }]],
  },
  aliases: {
    right: [{ path: ABSENT, name: 'absent' }],
    wrong: [...NOTHING, ABSENT, {}, [ABSENT], [{ path: ABSENT }], [{ path: ABSENT, name: 5 }]],
  },
  signal: { right: new AbortController().signal, wrong: [...NOTHING, {}, new AbortController(), 5] },
  journal: {
    right: { directory: join(DIRECTORY, 'state') },
    wrong: [...NOTHING, 'x', [], {}, { directory: 5 }, { directory: 'x', keep: -1 }, { directory: 'x', command: 'x' }],
  },
  exec: {
    right: { command: ['true'], jobs: 2 },
    wrong: [
      ...NOTHING,
      'x',
      [],
      {},
      { command: 'x' },
      { command: [] },
      { command: ['x'], jobs: 0 },
      { command: ['x'], environment: 5 },
    ],
  },
  named: {
    right: ['a', { from: 'b', to: 'c' }],
    wrong: [...NOTHING, 'x', 5, {}, [5], ['x', undefined], [{ from: 'b' }], [{ from: 'b', to: 5 }]],
  },
  keys: { right: ['year', 'month'], wrong: [...NOTHING, 5, true, {}, [5], [null]] },
  // A right one goes with a size of batches.
  pause: { right: undefined, wrong: [...NO_NUMBER, -1] },
  moment: { right: 1.5, wrong: NO_NUMBER },
  store: {
    right: { endpoint: NOBODY },
    wrong: [...NOTHING, 5, 'x', [], { region: 5 }, { regio: 'x' }, { anonymous: 'yes' }],
  },
  credentials: {
    right: { key: 'x', secret: 'y' },
    wrong: [...NOTHING, 5, 'x', [], {}, { key: 'x' }, { key: 5, secret: 'y' }, { key: 'x', secret: 'y', tokn: 'z' }],
  },
  requests: {
    right: { retries: 0 },
    wrong: [...NOTHING, 5, 'x', [], { retries: -1 }, { retries: '1' }, { retry: 1 }, { chunkSize: 1.5 }],
  },
  headers: { right: { 'content-type': 'x/y' }, wrong: [...NOTHING, 5, 'x', [], { a: 1 }, { a: undefined }] },
  slurm: { right: { args: ['x'] }, wrong: [...NOTHING, 5, 'x', [], { args: 'x' }, { arg: ['x'] }, { allocated: 1 }] },
  words: { right: ['true'], wrong: [...NOTHING, 'x', 5, {}, [5], ['x', undefined], [['x']]] },
  environment: { right: {}, wrong: [...NOTHING, 'x', 5, true] },
  call: { right: () => false, wrong: [...NOTHING, true, 'yes', {}] },
} satisfies Record<string, { right: unknown; wrong: unknown[] }>;
type Kind = keyof typeof KINDS;

/** The kind of each option; of words also one that is right. */
type Kinds<Options> = { [Key in keyof Required<Options>]: Kind | `text ${string}` };

const RESOURCES = { jobs: 'count', limits: 'limits', nice: 'nice', ionice: 'text idle' } as const;
const JOB = { signal: 'signal', entries: 'boolean', dryRun: 'boolean', journal: 'journal' } as const;
const CONVERSION = {
  ...RESOURCES,
  ...JOB,
  sources: 'paths',
  exclude: 'patterns',
  filesFrom: 'filesFrom',
  oneFileSystem: 'boolean',
  extensions: 'patterns',
  minSize: 'size',
  keep: 'boolean',
  owner: 'boolean',
  inUse: 'patterns',
  memory: 'memory',
  spillDirectory: 'path',
} as const;
const REACHING = {
  store: 'store',
  credentials: 'credentials',
  environment: 'environment',
  requests: 'requests',
} as const;
const SYNC = {
  ...RESOURCES,
  ...JOB,
  source: 'path',
  destination: 'path',
  store: 'store',
  sourceStore: 'store',
  credentials: 'credentials',
  sourceCredentials: 'credentials',
  environment: 'environment',
  headers: 'headers',
  requests: 'requests',
  compare: 'text size',
  conflict: 'text newer',
  verify: 'text full',
  newerThan: 'moment',
  olderThan: 'moment',
  minSize: 'size',
  maxSize: 'size',
  partition: 'text year=2026',
  maxDelete: 'limit',
  backup: 'path',
  batchSize: 'count',
  batchPause: 'pause',
  abortStale: 'moment',
  links: 'boolean',
  markers: 'boolean',
  state: 'path',
  modes: 'boolean',
  sync: 'boolean',
  spillDirectory: 'path',
} as const;
const COPY = {
  ...RESOURCES,
  ...JOB,
  createDestination: 'boolean',
  allowNested: 'boolean',
  onCollision: 'text last',
  filesFrom: 'filesFrom',
  hashSize: 'size',
  fullHash: 'boolean',
  sparse: 'text never',
  sync: 'text all',
  dryRun: 'boolean',
  oneFileSystem: 'boolean',
  keepDirlinks: 'boolean',
  directories: 'text only',
  linkTracking: 'boolean',
  contentOnly: 'boolean',
  owner: 'boolean',
  permissions: 'boolean',
  acls: 'boolean',
  xattrs: 'boolean',
  times: 'boolean',
  chmod: 'text go-w',
  requireSpace: 'boolean',
  verify: 'boolean',
  removeExtra: 'boolean',
  removeSources: 'boolean',
  rename: 'inMoves',
  replace: 'boolean',
  acceptTimeLoss: 'boolean',
  randomDestination: 'boolean',
  linksInMemory: 'count',
  spillDirectory: 'path',
  manifest: 'copyManifest',
  inUse: 'patterns',
  confirm: 'call',
  maxDelete: 'limit',
} as const;
const { removeSources: _, rename: __, acceptTimeLoss: ___, randomDestination: ____, ...MIGRATION } = COPY;
const LIST = {
  ...RESOURCES,
  ...JOB,
  oneFileSystem: 'boolean',
  hashes: 'boolean',
  hashSize: 'size',
  fullHash: 'boolean',
  nul: 'boolean',
  output: 'path',
  spillDirectory: 'path',
} as const;
const COMPARE = {
  ...RESOURCES,
  ...JOB,
  oneFileSystem: 'boolean',
  content: 'text whole',
  hashSize: 'size',
  metadata: 'boolean',
  directoryTimes: 'boolean',
  wholeSeconds: 'boolean',
  xattrs: 'boolean',
  specials: 'boolean',
  output: 'path',
  form: 'text tar',
  spillDirectory: 'path',
} as const;

interface Call {
  /** The options that it needs, and nothing that exists. */
  needed: Record<string, unknown>;
  kinds: Record<string, Kind | `text ${string}`>;
  of(options: never): PromiseLike<unknown>;
  /** What an option can't be without, or not beside. */
  beside?: Readonly<Record<string, object>>;
}

const REMOVE = {
  needed: { paths: ABSENT },
  kinds: {
    ...RESOURCES,
    ...JOB,
    paths: 'paths',
    exclude: 'patterns',
    excludeAbsolute: 'patterns',
    listFirst: 'boolean',
    ignoreMissing: 'boolean',
    maxDelete: 'limit',
    protect: 'patterns',
    inUse: 'patterns',
    noPreserveRoot: 'directories',
    spillDirectory: 'path',
  } satisfies Kinds<RemoveOptions>,
};

/** Every function that takes options. */
const CALLS: Record<string, Call> = {
  copy: {
    of: library.copy,
    needed: { sources: ABSENT, destination: join(ABSENT, 'either') },
    kinds: {
      ...COPY,
      sources: 'paths',
      destination: 'path',
      exclude: 'patterns',
      chown: 'chown',
    } satisfies Kinds<CopyOptions>,
  },
  copyMapped: {
    of: library.copyMapped,
    needed: {
      sources: [{ path: ABSENT, contents: true, follow: true }],
      destinations: [{ path: join(ABSENT, 'either'), follow: false }],
    },
    kinds: {
      ...COPY,
      sources: 'trees',
      destinations: 'places',
      filter: 'filter',
      chownUser: 'id',
      chownGroup: 'id',
      storedManifest: 'storedManifest',
      packing: 'packing',
      gathered: 'gathered',
      placement: 'placement',
      aliases: 'aliases',
    } satisfies Kinds<library.MappedCopyOptions>,
  },
  move: {
    of: library.move,
    needed: { sources: ABSENT, destination: join(ABSENT, 'either') },
    kinds: {
      ...RESOURCES,
      ...JOB,
      sources: 'paths',
      destination: 'path',
      exclude: 'patterns',
      oneFileSystem: 'boolean',
      keepDirlinks: 'boolean',
      sparse: 'text never',
      requireSpace: 'boolean',
      acceptTimeLoss: 'boolean',
      spillDirectory: 'path',
      inUse: 'patterns',
    } satisfies Kinds<MoveOptions>,
  },
  list: {
    of: library.list,
    needed: { sources: ABSENT },
    kinds: { ...LIST, sources: 'paths', exclude: 'patterns' } satisfies Kinds<ListOptions>,
  },
  listMapped: {
    of: library.listMapped,
    needed: { sources: [{ path: ABSENT, contents: false, follow: false }] },
    kinds: { ...LIST, sources: 'trees', filter: 'filter' } satisfies Kinds<library.MappedListOptions>,
  },
  manifest: {
    of: library.manifest,
    needed: { sources: ABSENT },
    kinds: {
      ...RESOURCES,
      ...JOB,
      ...REACHING,
      oneFileSystem: 'boolean',
      algorithms: 'algorithms',
      format: 'text jsonl',
      nul: 'boolean',
      output: 'path',
      update: 'update',
      inUse: 'patterns',
      spillDirectory: 'path',
      sources: 'paths',
      exclude: 'patterns',
    } satisfies Kinds<ManifestOptions>,
  },
  unpack: {
    of: library.unpack,
    needed: { source: ABSENT, destination: OUTPUT },
    beside: { task: { destination: undefined } },
    kinds: {
      ...RESOURCES,
      ...JOB,
      ...REACHING,
      source: 'path',
      destination: 'path',
      task: 'text list',
      only: 'patterns',
      ignoreZeros: 'boolean',
      owner: 'boolean',
      spillDirectory: 'path',
    } satisfies Kinds<UnpackOptions>,
  },
  pack: {
    of: library.pack,
    needed: { sources: ABSENT, destination: OUTPUT },
    beside: { level: { compression: 'zstd' } },
    kinds: {
      ...RESOURCES,
      ...JOB,
      ...REACHING,
      oneFileSystem: 'boolean',
      sources: 'paths',
      destination: 'path',
      shardSize: 'size',
      compression: 'text zstd',
      level: 'count',
      exclude: 'patterns',
      inUse: 'patterns',
      spillDirectory: 'path',
    } satisfies Kinds<PackOptions>,
  },
  partition: {
    of: library.partition,
    needed: { sources: ABSENT, parts: 3 },
    beside: {
      filesFrom: { sources: `${ABSENT}/` },
      maxEntries: { parts: undefined },
      maxBytes: { parts: undefined },
      live: { parts: undefined, maxEntries: 3 },
      exec: { template: OUTPUT },
    },
    kinds: {
      ...RESOURCES,
      signal: 'signal',
      dryRun: 'boolean',
      journal: 'journal',
      oneFileSystem: 'boolean',
      filesFrom: 'filesFrom',
      parts: 'count',
      maxEntries: 'size',
      maxBytes: 'size',
      live: 'boolean',
      entryCost: 'size',
      format: 'text tar',
      nul: 'boolean',
      template: 'path',
      output: 'path',
      replace: 'boolean',
      exec: 'exec',
      spillDirectory: 'path',
      sources: 'paths',
      exclude: 'patterns',
    } satisfies Kinds<PartitionOptions>,
  },
  verify: {
    of: library.verify,
    needed: { manifests: SUMS },
    beside: { repairFrom: { directory: ABSENT } },
    kinds: {
      ...RESOURCES,
      ...JOB,
      ...REACHING,
      manifests: 'manifests',
      directory: 'directory',
      exclude: 'patterns',
      only: 'patterns',
      algorithm: 'text md5',
      extra: 'boolean',
      quick: 'boolean',
      sample: 'sample',
      repairFrom: 'path',
      inUse: 'patterns',
      spillDirectory: 'path',
    } satisfies Kinds<VerifyOptions>,
  },
  migrate: {
    of: library.migrate,
    needed: { sources: ABSENT, destination: join(ABSENT, 'either') },
    beside: { verifySource: { verify: true } },
    kinds: {
      ...MIGRATION,
      sources: 'paths',
      destination: 'path',
      exclude: 'patterns',
      chown: 'chown',
      storedManifest: 'storedManifest',
      extensions: 'patterns',
      minSize: 'size',
      memory: 'memory',
      format: 'text xz',
      level: 'count',
      index: 'boolean',
      verifySource: 'boolean',
    } satisfies Kinds<MigrateOptions>,
  },
  compress: {
    of: library.compress,
    needed: { sources: ABSENT },
    kinds: {
      ...CONVERSION,
      format: 'text xz',
      level: 'count',
      index: 'boolean',
      verifySource: 'boolean',
      force: 'boolean',
    } satisfies Kinds<CompressOptions>,
  },
  decompress: {
    of: library.decompress,
    needed: { sources: ABSENT },
    kinds: { ...CONVERSION, test: 'boolean', output: 'path', sparse: 'boolean' } satisfies Kinds<DecompressOptions>,
  },
  compare: {
    of: library.compare,
    needed: { left: ABSENT, right: ABSENT },
    kinds: { ...COMPARE, left: 'side', right: 'side', exclude: 'patterns' } satisfies Kinds<CompareOptions>,
  },
  compareMapped: {
    of: library.compareMapped,
    needed: { left: KINDS.mappedSide.right, right: KINDS.mappedSide.right },
    kinds: {
      ...COMPARE,
      left: 'mappedSide',
      right: 'mappedSide',
      align: 'boolean',
      filter: 'filter',
    } satisfies Kinds<library.MappedCompareOptions>,
  },
  remove: { of: library.remove, ...REMOVE },
  spread: {
    of: library.spread,
    needed: { source: ABSENT, destination: join(ABSENT, 'either') },
    kinds: {
      ...RESOURCES,
      ...JOB,
      hashSize: 'size',
      fullHash: 'boolean',
      sparse: 'text never',
      sync: 'text all',
      keepDirlinks: 'boolean',
      owner: 'boolean',
      permissions: 'boolean',
      acls: 'boolean',
      xattrs: 'boolean',
      times: 'boolean',
      chmod: 'text D755',
      verify: 'boolean',
      chownUser: 'id',
      chownGroup: 'id',
      source: 'path',
      destination: 'path',
      exclude: 'patterns',
      oneFileSystem: 'boolean',
      removeExtra: 'boolean',
      maxDelete: 'limit',
      confirm: 'call',
      workers: 'count',
      hosts: 'words',
      slurm: 'slurm',
      hostProgram: 'text',
      parts: 'count',
      directory: 'path',
      patience: 'count',
      program: 'words',
      version: 'text',
      spillDirectory: 'path',
      removeSources: 'boolean',
      acceptTimeLoss: 'boolean',
      manifest: 'copyManifest',
      requireSpace: 'boolean',
      filesFrom: 'filesFrom',
      inUse: 'patterns',
    } satisfies Kinds<library.SpreadOptions>,
  },
  syncDir: {
    of: asked(library.syncDir),
    needed: { source: ABSENT, destination: 's3://bucket/prefix' },
    kinds: { ...SYNC, exclude: 'patterns', removeExtra: 'boolean' } satisfies Kinds<library.SyncOptions>,
  },
  syncFiles: {
    of: asked(library.syncFiles),
    needed: { source: ABSENT, destination: 's3://bucket/prefix' },
    kinds: { ...SYNC, add: 'named', remove: 'patterns' } satisfies Kinds<library.SyncFilesOptions>,
  },
  incrementalSync: {
    of: asked(library.incrementalSync),
    needed: { source: ABSENT, destination: 's3://bucket/prefix', state: OUTPUT },
    kinds: (({ compare: _, ...kinds }) => ({ ...kinds, exclude: 'patterns', removeExtra: 'boolean' }) as const)(
      SYNC,
    ) satisfies Kinds<Omit<library.SyncOptions, 'compare'>>,
  },
  retainPartitions: {
    of: asked(library.retainPartitions),
    needed: { place: 's3://bucket/prefix', key: 'month', keep: 3 },
    kinds: {
      ...RESOURCES,
      ...JOB,
      place: 'path',
      key: 'keys',
      keep: 'count',
      within: 'text',
      store: 'store',
      credentials: 'credentials',
      environment: 'environment',
      requests: 'requests',
      maxDelete: 'limit',
      spillDirectory: 'path',
    } satisfies Kinds<library.RetainOptions>,
  },
  compareStores: {
    of: asked(library.compareStores),
    needed: { left: ABSENT, right: 's3://bucket/prefix' },
    kinds: {
      ...RESOURCES,
      signal: 'signal',
      entries: 'boolean',
      left: 'path',
      right: 'path',
      store: 'store',
      leftStore: 'store',
      credentials: 'credentials',
      leftCredentials: 'credentials',
      environment: 'environment',
      requests: 'requests',
      content: 'text',
      hashSize: 'size',
      metadata: 'boolean',
      links: 'boolean',
      oneFileSystem: 'boolean',
      output: 'path',
      form: 'text',
      exclude: 'patterns',
      spillDirectory: 'path',
    } satisfies Kinds<library.StoreCompareOptions>,
  },
  listStore: {
    of: asked(library.listStore),
    needed: { place: 's3://bucket/prefix' },
    kinds: {
      limits: 'limits',
      nice: 'nice',
      ionice: 'text idle',
      signal: 'signal',
      entries: 'boolean',
      place: 'path',
      store: 'store',
      credentials: 'credentials',
      environment: 'environment',
      requests: 'requests',
      exclude: 'patterns',
      nul: 'boolean',
      output: 'path',
    } satisfies Kinds<library.StoreListOptions>,
  },
  resume: {
    of: (options) => library.resume('none', options),
    needed: { journal: KINDS.journal.right },
    kinds: {
      ...RESOURCES,
      // What its words mean is asked when the job is known.
      ionice: 'text',
      signal: 'signal',
      entries: 'boolean',
      journal: 'journal',
      retryFailed: 'boolean',
      confirm: 'call',
      spillDirectory: 'path',
      inUse: 'patterns',
      environment: 'environment',
      program: 'words',
    } satisfies Kinds<library.ResumeOptions>,
  },
  'Removal, to look': { of: (options) => new library.Removal(options).preview(), ...REMOVE },
  'Removal, to do': { of: (options) => new library.Removal(options).remove(), ...REMOVE },
};

/** The same with somebody who asks, and nobody who answers. */
function asked<Options extends object, Result>(of: (options: Options) => Result): (options: never) => Result {
  const [credentials, store, requests] = [KINDS.credentials.right, KINDS.store.right, KINDS.requests.right];
  const isPlain = (options: unknown) => Object.prototype.toString.call(options) === '[object Object]';
  return (options: Options) => of(isPlain(options) ? { credentials, store, requests, ...options } : options);
}

/** The error that a call ends with; undefined: it was taken, and ended well. */
async function errorOf(call: () => unknown): Promise<(Error & { code?: string }) | undefined> {
  try {
    await call();
    return undefined;
  } catch (error) {
    return error as Error;
  }
}

async function refuses(call: () => unknown, key: string | RegExp): Promise<void> {
  const error = await errorOf(call);
  expect(error).toMatchObject({ name: 'BulkhaulError', code: 'USAGE', message: expect.stringMatching(key) });
}

/** The key as a word, perhaps at the end of a way to it. */
const word = (key: string) => new RegExp(`(^|[ .])${key}\\b`);

it('every function that the library has is asked here', () => {
  const functions = Object.keys(CALLS).map((name) => name.replace(/,.*/, ''));
  const others = [
    'BulkhaulError',
    'ExitCode',
    'JobError',
    'copyPairs',
    'display',
    'filesystem',
    'fromBytes',
    'jobs',
    'journalOf',
    'listedSources',
    'partitionsOf',
    'runParallel',
    'toBytes',
    'validateTransfer',
    'withRetry',
  ];
  expect(Object.keys(library).sort()).toEqual([...new Set([...functions, ...others])].sort());
});

describe.each(Object.entries(CALLS))('%s', (_, { of, needed, kinds, beside }) => {
  const call = (options: unknown) => () => of(options as never);
  const rows = Object.entries(kinds).map(([key, kind]) => {
    const [name, word] = kind.split(' ');
    const { right, wrong } = KINDS[name as Kind];
    return { key, right: word ?? right, wrong: word === undefined ? wrong : [...wrong, 'nonsense'] };
  });

  it.each(rows)('refuses a wrong $key and takes a right one', async ({ key, right, wrong }) => {
    for (const value of wrong) await refuses(call({ ...needed, [key]: value }), word(key));
    const error = await errorOf(call(key in needed ? needed : { ...needed, ...beside?.[key], [key]: right }));
    expect([undefined, 'NO_SOURCE', 'NO_START', 'JOURNAL']).toContain(error?.code);
  });

  it.each(Object.keys(needed))('needs %s', async (key) => {
    await refuses(call({ ...needed, [key]: undefined }), word(key));
  });

  it('refuses what it does not know, by its name, with the one that was meant', async () => {
    for (const key of Object.keys(kinds)) {
      const [typo, other] = [`${key.slice(0, 2)}${key.slice(3)}`, `${key}_`];
      for (const wrong of [typo, other, key.toUpperCase()]) {
        await refuses(call({ ...needed, [wrong]: undefined }), new RegExp(`option ${wrong}; did you mean \\w+\\?$`));
      }
      await refuses(call({ ...needed, [other]: 1 }), `option ${other}; did you mean ${key}\\?`);
    }
    await refuses(call({ ...needed, zebra: 1 }), /^there is no option zebra$/);
    await refuses(call({ ...needed, __proto__: null, constructor: 1 }), /^there is no option constructor$/);
  });

  it('needs options', async () => {
    const none = [undefined, null, 5, 'x', true, [], [needed], () => needed, Buffer.from('x'), URL_OF_FILE];
    for (const options of none) await refuses(call(options), /^options(: | is missing)/);
  });
});

it.each<[string, (path: never) => unknown, string]>([
  ['copy', (path) => library.copy({ sources: ['x', path], destination: ABSENT }), 'sources\\[1\\]'],
  [
    'copyMapped',
    (path) => library.copyMapped({ sources: [], destinations: [{ path, follow: true }] }),
    'destinations\\[0\\].path',
  ],
  ['list', (path) => library.list({ sources: ABSENT, exclude: ['x', path] }), 'exclude\\[1\\]'],
  ['compare', (path) => library.compare({ left: { list: path }, right: ABSENT }), 'left.list'],
  ['remove', (path) => library.remove({ paths: [path] }), 'paths\\[0\\]'],
])('%s says where in an argument the wrong one is', async (_, call, where) => {
  for (const value of [5, null, URL_OF_FILE]) await refuses(() => call(value as never), `^${where}: .* is not a path`);
});

it.each<[string, (options: never) => unknown, object, string]>([
  [
    'limits',
    (limits) => library.list({ sources: ABSENT, limits }),
    { byte: 1 },
    'limits.byte; did you mean limits.bytes',
  ],
  [
    'chown',
    (chown) => library.copy({ sources: 'x', destination: 'y', chown }),
    { usr: 1 },
    'chown.usr; did you mean chown.user',
  ],
  [
    'a source',
    (source) => library.listMapped({ sources: [source] }),
    { pth: 'x' },
    'sources\\[0\\].pth; did you mean sources\\[0\\].path',
  ],
  [
    'a side',
    (left) => library.compare({ left, right: 'x' }),
    { list: 'x', nams: true },
    'left.nams; did you mean left.names',
  ],
])('%s has known keys too', async (_, call, options, what) => {
  await refuses(() => call(options as never), `^there is no option ${what}\\?$`);
});

it.each<[string, string, (value: never) => unknown, unknown[]]>([
  ['toBytes', 'name', library.toBytes, [undefined, ...NOTHING, 5, Buffer.from('x')]],
  ['display', 'name', library.display, [undefined, ...NOTHING, 5, Buffer.from('x')]],
  ['fromBytes', 'bytes', library.fromBytes, [undefined, ...NOTHING, 5, 'x', new Uint8Array(1)]],
  ['partitionsOf', 'path', library.partitionsOf, [undefined, ...NOTHING, 5, ['x']]],
  ['partitionsOf', 'columns', (columns) => library.partitionsOf('x', columns), [...NOTHING, 5, 'x', [5]]],
  ['filesystem', 'urlOrProtocol', library.filesystem, [undefined, ...NOTHING, 5, ['x']]],
  ['filesystem', 'options', (options) => library.filesystem('s3', options), [...NOTHING, 5, 'x']],
  ['copyPairs', 'pairs', library.copyPairs, [undefined, ...NOTHING, 5, 'x']],
  ['runParallel', 'call', (call) => library.runParallel(call, []), [undefined, ...NOTHING, 5, 'x']],
  ['withRetry', 'call', library.withRetry, [undefined, ...NOTHING, 5, 'x']],
  ['withRetry', 'jitter', (jitter) => library.withRetry(() => 1, { jitter }), [NaN, -1, 'x']],
  ['listedSources', 'list', library.listedSources, [undefined, ...NOTHING, 5, ['x']]],
  ['listedSources', 'spillDirectory', (spill) => library.listedSources('x', spill), [...NOTHING, 5, ['x']]],
])('%s refuses a wrong %s', async (_, key, call, wrong) => {
  for (const value of wrong) await refuses(async () => call(value as never), `^${key}(: | is missing)`);
});

describe('a job', () => {
  const job = (confirm?: library.Confirm) => new Job(async () => ({ native: new FakeNative() }), undefined, confirm);

  it('refuses wrong limits, and keeps those that it has', () => {
    const native = new FakeNative();
    const limited = new Job(async () => ({ native }));
    for (const wrong of [undefined, ...KINDS.limits.wrong]) {
      expect(() => limited.setLimits(wrong as never)).toThrow(expect.objectContaining({ code: 'USAGE' }));
    }
    expect(native.limits).toEqual([]);
  });

  it('refuses a wrong word for how it is cancelled', () => {
    for (const wrong of [...NOTHING, 'yes', 1]) {
      expect(() => job().cancel(wrong as never)).toThrow(expect.objectContaining({ code: 'USAGE' }));
    }
  });

  it('does not begin with a wrong time', async () => {
    for (const wrong of [...NOTHING, '5', true]) {
      const timed = job();
      timed.setStallTimeout(wrong as never);
      await refuses(() => timed, /^stallTimeout: /);
    }
  });

  it('takes only true for a yes, and tells what was no answer', async () => {
    const question = { type: 'question' as const, victims: [] };
    for (const answer of ['yes', 1, {}]) {
      const native = new FakeNative({ events: [[question]] });
      const asking = new Job(
        async () => ({ native }),
        undefined,
        () => answer as never,
      );
      await refuses(async () => {
        for await (const _ of asking);
      }, /^the answer of confirm: /);
      expect(native.answers).toEqual([false]);
      expect((await asking).accounted).toBe(true);
    }
  });
});
