/**
 * The table of the benchmark: one row for each job that is measured, with its data, its contenders and what it has to
 * reach. Pure; run.js carries it out.
 */
import { bare, bigfloor, bringer, CLONERS, cloned, COMPARERS, copiedAndSummed, copiedThenSummed, copy, divided, dropin, elsewhere, emptyNode, floor, fpart, floorRemove, LISTERS, holdsSource, isCloned, isInBucket, isSource, journaled, migrated, noting, packed, packer, PACKERS, peer, pipeline, reader, readOnce, REMOVERS, remover, replacer, resumed, SUMMERS, spread, synced, unpacks, VERIFIERS, watched } from './contenders.js';

import { describe } from './data.js';

/** @typedef {import('./contenders.js').Contender} Contender */
/** @typedef {import('./data.js').Data} Data */
/** @typedef {import('./statistics.js').Target} Target */

/**
 * @typedef {object} Row
 * @property {string} name
 * @property {string} title
 * @property {'copy' | 'again' | 'remove' | 'replace' | 'start'} job copy: to a new name in each run; again: where a copy is
 *   already; remove: what was made for the run; replace: that, by something else; start: no tree
 * @property {(place: import('./contenders.js').Place) => string[]} [proof] what shows after a run in the first round that
 *   all is there, where the destination is no copy
 * @property {'tmpfs' | 'disk' | 'loop'} medium disk: an ext4 of this machine; loop: one made for the row
 * @property {Data} [data]
 * @property {boolean} [cold] page cache dropped before each run
 * @property {boolean} [durable] the contenders sync by themselves
 * @property {readonly Contender[]} contenders in the order of the table; ratios are to the first yardstick and the first of ours
 * @property {readonly Target[]} targets
 * @property {number} [repeat] runs in a round
 * @property {number} [rounds] instead of what was asked for
 * @property {'versitygw' | 'ceph'} [served] the server of objects that there is meanwhile
 * @property {string} [onlyAs] runs only when this name or its own is given
 */

/** @type {Data} */
const SMALL = { kind: 'tree', directories: 1000, files: 100, most: 16384 };
/** @type {Data} */
const MILLION = { kind: 'tree', directories: 10_000, files: 100, most: 1024 };

const COLD_THREADS = 4;

const FULL = floor('copy_full');
const EXTRA_FLOORS = [floor('copy_rename'), floor('copy_stagedir')];

const SMALL_PEERS = [
  ...[peer('cp'), peer('rsync'), peer('tar'), peer('xargs'), peer('rclone')],
  ...[peer('fpsync'), peer('xcp', '--no-progress'), peer('cpz'), peer('hpcp')],
];
// Without its progress, xcp 0.24.9 leaves out what is beyond the first 2 GiB of a file.
const BIG_PEERS = [...SMALL_PEERS.slice(0, -3), peer('xcp', '--driver', 'parblock'), peer('cpz'), peer('hpcp')];

// On tmpfs the default of --sync costs nothing; on disks a peer that syncs nothing is compared with --sync none.
const OURS = copy('bulkhaul copy');
const OURS_UNSYNCED = copy('bulkhaul copy --sync none', ['--sync', 'none']);
const DROPIN = dropin('bulkhaul hpcp');
const DROPIN_UNSYNCED = dropin('bulkhaul hpcp --sync none', ['--sync', 'none']);
const DURABLE_OURS = [
  copy('bulkhaul copy --sync safe', ['--sync', 'safe']),
  copy('bulkhaul copy --sync all', ['--sync', 'all']),
];

/** Requests at once of the rows of stores. */
const REQUESTS = [16, 1, 64];
/** 5,000 files, 10 KiB each in the middle. @type {Data} */
const OBJECTS = { kind: 'tree', directories: 50, files: 100, most: 20_480 };
/** @type {Data} */
const LARGE_OBJECT = { kind: 'big', files: 1, mebibytes: 1024 };

/**
 * A row between a tree and a bucket.
 * @param {'versitygw' | 'ceph'} server
 * @param {string} name
 * @param {string} title
 * @param {Data} data
 * @param {'up' | 'again' | 'down'} way
 * @param {readonly Target[]} targets
 * @returns {Row}
 */
const served = (server, name, title, data, way, targets) => ({
  ...{ name, title, data, targets, served: server },
  job: 'copy',
  medium: 'tmpfs',
  proof: way === 'down' ? isSource : isInBucket,
  contenders: REQUESTS.flatMap((requests) => [
    bringer('bulkhaul sync', way, requests),
    ...(way === 'again' ? [bringer('bulkhaul sync --state', way, requests)] : []),
    bringer('s5cmd', way, requests),
    bringer('rclone', way, requests),
  ]),
});

/** @type {(than: string, faster: number, ours?: string) => Target[]} */
const beside = (than, faster, ours = 'bulkhaul sync') => [
  { of: `${ours}, 16 requests`, than: `${than}, 16 requests`, faster },
  { of: `${ours}, 64 requests`, resident: 256 },
];

/** @param {'versitygw' | 'ceph'} server @param {string} name @param {string} spoken */
const STORES = (server, name, spoken) => [
  served(server, `${name}-up`, `small files into a bucket, ${spoken}`, OBJECTS, 'up', beside('s5cmd', 1.3)),
  served(server, `${name}-down`, `small files out of a bucket, ${spoken}`, OBJECTS, 'down', beside('s5cmd', 1.3)),
  served(server, `${name}-again`, `small files that the bucket has, ${spoken}`, OBJECTS, 'again', beside('rclone', 3, 'bulkhaul sync --state')),
  served(server, `${name}-big-up`, `1 GiB into a bucket, ${spoken}`, LARGE_OBJECT, 'up', beside('s5cmd', 2)),
  served(server, `${name}-big-down`, `1 GiB out of a bucket, ${spoken}`, LARGE_OBJECT, 'down', beside('s5cmd', 2)),
];

/** @type {readonly Target[]} */
const BIG_TARGETS = [
  { than: 'xcp --driver parblock', faster: 0.95 },
  { than: 'cp -a', faster: 1.3 },
];

const UNJOURNALED = 'bulkhaul copy, no journal';

/** In one file, and in files as a sequencing centre has them. */
const TABLES = [
  /** @type {const} */ (['one', { kind: 'tables', files: 1, mebibytes: 384 }]),
  /** @type {const} */ (['many', { kind: 'tables', files: 4000, mebibytes: 384 }]),
];
/** So many that each can be compressed by itself, and no more than xz has done in a minute or two. */
const FEWER_TABLES = /** @type {const} */ ({ kind: 'tables', files: 500, mebibytes: 48 });

const COMPRESS = replacer('bulkhaul compress', 'compress');
const COMPRESS_FAST = replacer('bulkhaul compress --level 1', 'compress', '--level', '1');
const DECOMPRESS = replacer('bulkhaul decompress', 'decompress');
const DECOMPRESS_PLAIN = 'bulkhaul decompress, of pigz';

/** Peers of one file work on it with all threads; of many, on as many files as there are threads. @param {string} name */
function packers(name) {
  if (name === 'many') {
    return {
      pigz: packer('pigz', '-6 -p 1'),
      others: [packer('bgzip', '-f', { files: 1 }), packer('crabz', '-I -f bgzf', { files: 1 }), packer('igzip', '-1 --rm')],
      unpigz: packer('pigz', '-d'),
      // Its threads for reading and writing cost more than they bring where files are small.
      unpackers: [packer('pigz', '-d -p 1'), packer('gzip', '-d'), packer('igzip', '-d --rm')],
    };
  }
  const together = { together: true };
  return {
    pigz: packer('pigz', '-6 -p THREADS', together),
    others: [
      packer('bgzip', '-f -@ THREADS', together),
      packer('crabz', '-I -f bgzf -p THREADS', together),
      packer('igzip', '-1 --rm -T THREADS', together),
    ],
    unpigz: packer('pigz', '-d', together),
    unpackers: [packer('gzip', '-d', together), packer('igzip', '-d --rm', together)],
  };
}

/** @type {readonly Row[]} */
export const ROWS = [
  {
    name: 'small-tmpfs',
    title: 'small files, warm, tmpfs',
    job: 'copy',
    medium: 'tmpfs',
    data: SMALL,
    contenders: [FULL, ...EXTRA_FLOORS, OURS, ...SMALL_PEERS],
    targets: [
      { than: 'copy_full', atMost: 1.35 },
      { than: 'xcp --no-progress', faster: 1 },
      { than: 'cp -a', faster: 2 },
      { than: 'hpcp', faster: 50 },
    ],
  },
  {
    name: 'small-ext4',
    title: 'small files, warm, ext4',
    job: 'copy',
    medium: 'disk',
    data: SMALL,
    contenders: [FULL, ...EXTRA_FLOORS, OURS_UNSYNCED, ...SMALL_PEERS],
    targets: [
      { than: 'copy_full', atMost: 1.35 },
      { than: 'xcp --no-progress', faster: 1 },
    ],
  },
  {
    name: 'small-cold',
    title: 'small files, cold, ext4',
    job: 'copy',
    medium: 'disk',
    cold: true,
    data: SMALL,
    contenders: [floor('copy_full', { threads: COLD_THREADS }), OURS_UNSYNCED, ...SMALL_PEERS],
    targets: [{ than: 'cp -a', faster: 2 }],
  },
  {
    name: 'flat',
    title: 'one flat directory, tmpfs',
    job: 'copy',
    medium: 'tmpfs',
    data: { kind: 'flat', files: 300_000, most: 1024 },
    contenders: [FULL, ...EXTRA_FLOORS, OURS, ...SMALL_PEERS],
    targets: [{ than: 'copy_full', atMost: 1.35 }],
  },
  {
    name: 'deep',
    title: 'deep and narrow, tmpfs',
    job: 'copy',
    medium: 'tmpfs',
    data: { kind: 'deep', chains: 80, depth: 250, files: 5, most: 16384 },
    contenders: [FULL, ...EXTRA_FLOORS, OURS, ...SMALL_PEERS],
    targets: [{ than: 'copy_full', atMost: 1.35 }],
  },
  {
    name: 'watched',
    title: 'small files that somebody watches, tmpfs',
    job: 'copy',
    medium: 'tmpfs',
    // So many that it takes far more than the second after which there is something to see.
    data: MILLION,
    contenders: [FULL, OURS, watched],
    targets: [{ of: watched.name, than: OURS.name, atMost: 1.03 }],
  },
  {
    name: 'journal',
    title: 'small files with a journal, tmpfs',
    job: 'copy',
    medium: 'tmpfs',
    // So many that it takes far more than the second after which there is one.
    data: MILLION,
    contenders: [FULL, copy(UNJOURNALED, ['--no-journal']), journaled],
    targets: [{ of: journaled.name, than: UNJOURNALED, atMost: 1.02 }],
  },
  {
    name: 'big-tmpfs',
    title: 'big files, tmpfs',
    job: 'copy',
    medium: 'tmpfs',
    data: { kind: 'big', files: 2, mebibytes: 1024 },
    contenders: [bigfloor('rw'), bigfloor('copy_file_range'), OURS, DROPIN, ...BIG_PEERS],
    targets: [...BIG_TARGETS, { of: DROPIN.name, than: 'hpcp', faster: 1 }],
  },
  {
    name: 'big-ext4',
    title: 'big files, warm, ext4',
    job: 'copy',
    medium: 'disk',
    data: { kind: 'big', files: 4, mebibytes: 1024 },
    contenders: [bigfloor('rw'), bigfloor('copy_file_range'), OURS_UNSYNCED, DROPIN_UNSYNCED, ...BIG_PEERS],
    targets: [...BIG_TARGETS, { of: DROPIN_UNSYNCED.name, than: 'hpcp', faster: 1 }],
  },
  {
    name: 'one-big',
    title: 'one big file, tmpfs',
    job: 'copy',
    medium: 'tmpfs',
    data: { kind: 'big', files: 1, mebibytes: 4096 },
    contenders: [bigfloor('rw'), bigfloor('copy_file_range'), OURS, DROPIN, ...BIG_PEERS],
    targets: [...BIG_TARGETS, { of: DROPIN.name, than: 'hpcp', faster: 1 }],
  },
  {
    name: 'resume',
    title: 'one big file, half of which is there, tmpfs',
    job: 'copy',
    medium: 'tmpfs',
    data: { kind: 'big', files: 1, mebibytes: 4096 },
    contenders: [bigfloor('rw'), OURS, resumed],
    targets: [{ of: resumed.name, than: OURS.name, atMost: 0.65 }],
  },
  {
    name: 'mixed',
    title: 'a real tree, into tmpfs',
    job: 'copy',
    medium: 'tmpfs',
    data: { kind: 'real' },
    contenders: [FULL, ...EXTRA_FLOORS, OURS, ...SMALL_PEERS],
    targets: [{ than: 'copy_full', atMost: 1.35 }],
  },
  {
    name: 'unchanged-times',
    title: 'unchanged tree, times only, tmpfs',
    job: 'again',
    medium: 'tmpfs',
    data: MILLION,
    contenders: [
      floor('walkstat', { name: 'statx of both' }),
      copy('bulkhaul copy --hash-size 0', ['--hash-size', '0']),
      dropin('bulkhaul hpcp -hs 0', ['-hs', '0']),
      ...[peer('rsync'), peer('rclone'), peer('hpcp', '-hs', '0')],
    ],
    targets: [{ than: 'rsync -a', faster: 1.5 }],
  },
  {
    name: 'unchanged-tail',
    title: 'unchanged tree, tail hashes, tmpfs',
    job: 'again',
    medium: 'tmpfs',
    data: MILLION,
    contenders: [floor('read', { name: 'read of both' }), OURS, DROPIN, peer('rsync'), peer('rclone'), peer('hpcp')],
    targets: [{ than: 'read of both', atMost: 1.6 }],
  },
  {
    name: 'durable-small',
    title: 'small files, durable, ext4',
    job: 'copy',
    medium: 'disk',
    durable: true,
    data: SMALL,
    contenders: [synced(FULL), ...DURABLE_OURS, ...SMALL_PEERS.map(synced)],
    targets: [
      { than: 'copy_full, sync -f', atMost: 1.35 },
      { than: 'xcp --no-progress, sync -f', faster: 1 },
    ],
  },
  {
    name: 'durable-big',
    title: 'big files, durable, ext4',
    job: 'copy',
    medium: 'disk',
    durable: true,
    data: { kind: 'big', files: 4, mebibytes: 1024 },
    contenders: [synced(bigfloor('rw')), ...DURABLE_OURS, ...BIG_PEERS.map(synced)],
    targets: [
      { than: 'xcp --driver parblock, sync -f', faster: 0.95 },
      { than: 'cp -a, sync -f', faster: 1.3 },
    ],
  },
  ...[
    /** @type {const} */ (['small', 'small files', SMALL]),
    /** @type {const} */ (['big', 'big files', { kind: 'big', files: 4, mebibytes: 1024 }]),
  ].map(([name, title, data]) => ({
    name: `verify-${name}`,
    title: `${title}, durable and read back, ext4`,
    job: /** @type {const} */ ('copy'),
    medium: /** @type {const} */ ('disk'),
    durable: true,
    data,
    contenders: [synced(FULL), copy('bulkhaul copy --sync all --verify', ['--sync', 'all', '--verify']), copiedAndSummed],
    targets: [{ than: copiedAndSummed.name, faster: 1.5 }],
  })),
  ...[
    /** @type {const} */ (['small', 'small files', SMALL, 1.8, 2.5]),
    /** @type {const} */ (['big', 'big files', { kind: 'big', files: 2, mebibytes: 1024 }, 0.95, 1.5]),
  ].flatMap(([name, title, data, faster, once]) => [
    {
      name: `hash-${name}`,
      title: `manifest of ${title}, tmpfs`,
      job: /** @type {const} */ ('again'),
      medium: /** @type {const} */ ('tmpfs'),
      data,
      contenders: [
        readOnce,
        reader('bulkhaul manifest', ({ source, temporary }) => [
          ...['manifest', '--quiet', '--output', `${temporary}/manifest`, `${source}/`],
        ]),
        ...SUMMERS,
      ],
      targets: [{ than: 'b3sum', faster }],
    },
    {
      name: `hash-copy-${name}`,
      title: `copy and manifest of ${title} in one pass, tmpfs`,
      job: /** @type {const} */ ('copy'),
      medium: /** @type {const} */ ('tmpfs'),
      data,
      contenders: [FULL, noting, OURS, copiedThenSummed],
      targets: [{ of: noting.name, than: copiedThenSummed.name, faster: once }],
    },
  ]),
  {
    name: 'verify-manifest',
    title: 'small files verified by their manifest, tmpfs',
    job: 'again',
    medium: 'tmpfs',
    data: SMALL,
    contenders: [readOnce, ...VERIFIERS],
    targets: [{ than: 'b3sum --check', faster: 1.8 }],
  },
  {
    name: 'list',
    title: 'list two trees with hashes, tmpfs',
    job: 'again',
    medium: 'tmpfs',
    data: MILLION,
    contenders: [
      floor('read', { name: 'read of both' }),
      reader('bulkhaul list', ({ source, destination, temporary }) => [
        ...['list', '--quiet', '--output', `${temporary}/list`],
        ...[source, destination],
      ]),
      reader('bulkhaul hpcp -fl', ({ source, destination, temporary }) => [
        ...['hpcp', '--quiet', '--progress', 'none', '-fl', `${temporary}/list`],
        ...[source, destination],
      ]),
      ...LISTERS,
    ],
    targets: [
      { of: 'bulkhaul hpcp -fl', than: 'read of both', atMost: 1.8 },
      { of: 'bulkhaul hpcp -fl', than: 'hpcp -fl', faster: 20 },
    ],
  },
  {
    name: 'partition',
    title: 'divide a tree into 64 parts, tmpfs',
    job: 'again',
    medium: 'tmpfs',
    data: MILLION,
    contenders: [
      divided,
      fpart,
    ],
    targets: [{ resident: 256 }],
  },
  ...STORES('versitygw', 'store', 'versitygw'),
  ...STORES('ceph', 'ceph', 'Ceph'),
  {
    name: 'spread',
    title: 'copy a tree of small files by several processes, tmpfs',
    job: 'copy',
    medium: 'tmpfs',
    data: SMALL,
    contenders: [
      FULL,
      OURS,
      spread('bulkhaul copy --workers 1', ['--workers', '1']),
      spread('bulkhaul copy --workers 2', ['--workers', '2']),
      spread('bulkhaul copy --workers 2 --parts 10000', ['--workers', '2', '--parts', '10000']),
      ...[peer('rsync'), peer('fpsync')],
    ],
    targets: [{ of: 'bulkhaul copy --workers 2 --parts 10000', than: 'fpsync', faster: 1 }],
  },
  {
    name: 'pack',
    title: 'small files into shards with sums, tmpfs',
    job: 'again',
    medium: 'tmpfs',
    data: SMALL,
    contenders: [
      readOnce,
      packed('bulkhaul pack'),
      packed('bulkhaul pack --compress zstd', ['--compress', 'zstd']),
      ...PACKERS,
    ],
    targets: [{ than: 'tar, b3sum of entries and tar', faster: 2 }],
  },
  {
    name: 'image',
    title: 'clone a disk with files on 3/8 of it, tmpfs, root',
    job: 'again',
    medium: 'tmpfs',
    data: { kind: 'tree', directories: 300, files: 100, most: 104_858 },
    contenders: [cloned, ...CLONERS],
    proof: isCloned,
    targets: [
      { than: 'mkfs and cp -a', atMost: 1.3 },
      { than: 'hpcp -dd', faster: 3 },
    ],
  },
  {
    name: 'compare',
    title: 'compare two trees by tail hash, tmpfs',
    job: 'again',
    medium: 'tmpfs',
    data: MILLION,
    contenders: [
      floor('read', { name: 'read of both' }),
      reader('bulkhaul compare', ({ source, destination }) => ['compare', '--quiet', source, destination]),
      reader('bulkhaul compare --content', ({ source, destination }) => [
        ...['compare', '--quiet', '--content'],
        ...[source, destination],
      ]),
      ...COMPARERS,
    ],
    targets: [{ than: 'read of both', atMost: 1.8 }],
  },
  {
    name: 'remove',
    title: 'remove a tree, tmpfs',
    job: 'remove',
    medium: 'tmpfs',
    data: { kind: 'tree', directories: 3000, files: 100, most: 1024 },
    contenders: [
      floorRemove,
      remover('bulkhaul remove', ['remove', '--force', '--quiet']),
      remover('bulkhaul hpcp -rf', ['hpcp', '--quiet', '--progress', 'none', '-rf']),
      ...REMOVERS,
    ],
    targets: [
      { than: 'remove', atMost: 1.25 },
      { than: 'rm -rf', faster: 1.5 },
    ],
  },
  ...TABLES.flatMap(([name, data]) => {
    const { pigz, others, unpigz, unpackers } = packers(name);
    const common = { medium: /** @type {const} */ ('tmpfs'), data };
    const crabz = others[1]?.name ?? '';
    const unpigzOurs = `${unpigz.name}, of ours`;
    return [
      {
        ...{ name: `compress-${name}`, title: `gzip of ${describe(data)}, in place`, ...common },
        job: /** @type {const} */ ('replace'),
        proof: holdsSource,
        contenders: [readOnce, COMPRESS, COMPRESS_FAST, pigz, ...others],
        targets: [
          { of: COMPRESS.name, than: pigz.name, faster: 2.3 },
          { of: COMPRESS.name, than: crabz, faster: 0.95 },
          { of: COMPRESS_FAST.name, than: pigz.name, faster: 5 },
        ],
      },
      {
        ...{ name: `decompress-${name}`, title: `gunzip of ${describe(data)}, in place`, ...common },
        job: /** @type {const} */ ('replace'),
        proof: isSource,
        contenders: [
          ...[readOnce, unpacks(COMPRESS, DECOMPRESS), unpacks(pigz, DECOMPRESS, DECOMPRESS_PLAIN)],
          ...[unpigz, ...unpackers].map((each) => unpacks(pigz, each)),
          unpacks(COMPRESS, unpigz, unpigzOurs),
        ],
        targets: [
          { of: DECOMPRESS.name, than: unpigzOurs, faster: 3 },
          { of: DECOMPRESS_PLAIN, than: unpigz.name, faster: 2 },
        ],
      },
      {
        ...{ name: `migrate-${name}`, title: `copy, gzip and proof of ${describe(data)}`, ...common },
        job: /** @type {const} */ ('copy'),
        proof: holdsSource,
        contenders: [readOnce, migrated, pipeline],
        targets: [{ of: migrated.name, than: pipeline.name, faster: 2 }],
      },
    ];
  }),
  ...[
    /** @type {const} */ (['xz', packer('xz', '-6')]),
    /** @type {const} */ (['zstd', packer('zstd', '-q --rm')]),
  ].map(([format, other]) => ({
    name: `compress-${format}`,
    title: `${format} of ${describe(FEWER_TABLES)}, in place`,
    job: /** @type {const} */ ('replace'),
    medium: /** @type {const} */ ('tmpfs'),
    data: FEWER_TABLES,
    proof: holdsSource,
    contenders: [readOnce, replacer(`bulkhaul compress --format ${format}`, 'compress', '--format', format), other],
    targets: [{ than: other.name, faster: 0.95 }],
  })),
  {
    name: 'memory-1m-tree',
    title: 'memory at 1,000,000 entries, a bushy tree',
    job: 'copy',
    medium: 'tmpfs',
    data: MILLION,
    contenders: [OURS, peer('cp'), peer('rsync')],
    targets: [{ resident: 256 }],
  },
  {
    name: 'memory-1m-flat',
    title: 'memory at 1,000,000 entries, one flat directory',
    job: 'copy',
    medium: 'tmpfs',
    data: { kind: 'flat', files: 1_000_000, most: 1024 },
    contenders: [OURS, peer('cp'), peer('rsync')],
    targets: [{ resident: 256 }],
  },
  ...[
    /** @type {const} */ (['tree', 'a bushy tree', { kind: 'tree', directories: 100_000, files: 100, most: 0 }]),
    /** @type {const} */ (['flat', 'one flat directory', { kind: 'flat', files: 10_000_000, most: 0 }]),
  ].map(([name, title, data]) => ({
    name: `memory-10m-${name}`,
    title: `memory at 10,000,000 entries, ${title}`,
    job: /** @type {const} */ ('copy'),
    medium: /** @type {const} */ ('loop'),
    data,
    contenders: [OURS_UNSYNCED],
    targets: [{ resident: 1024 }],
    rounds: 1,
    onlyAs: 'memory-10m',
  })),
  {
    name: 'start',
    title: 'start of a command',
    job: 'start',
    medium: 'tmpfs',
    contenders: [emptyNode, bare('--version'), bare('--help'), bare('copy', '--help')],
    targets: [{ than: 'node -e 0', atMost: 2 }],
    repeat: 4,
  },
];

/** Two builds are level within this: what changes no way of the bytes may cost no more. */
const LEVEL = 1.03;

/**
 * The row with each of ours beside its twin of another checkout, with which it has to be level.
 * @param {Row} row
 * @returns {Row}
 */
export function against(row) {
  const ours = row.contenders.filter(({ role }) => role === 'ours');
  const levels = ours.map((each) => ({ of: each.name, than: elsewhere(each).name, atMost: LEVEL }));
  return {
    ...row,
    contenders: row.contenders.flatMap((each) => (each.role === 'ours' ? [each, elsewhere(each)] : [each])),
    targets: [...row.targets, ...levels],
  };
}

/**
 * The rows that names choose, in the order of the table: a name, or the beginning of names up to a dash (`small` is
 * small-tmpfs, small-ext4 and small-cold). No names: all but those that run only when they are named.
 * @param {readonly string[]} names
 * @returns {Row[]}
 * @throws {RangeError} a name that chooses nothing
 */
export function chosen(names) {
  const chooses = (/** @type {string} */ name, /** @type {Row | Coming} */ row) => {
    if (row.onlyAs !== undefined) return name === row.name || name === row.onlyAs;
    return row.name === name || row.name.startsWith(`${name}-`);
  };
  const unknown = names.find((name) => !ROWS.some((row) => chooses(name, row)));
  if (unknown !== undefined)
    throw new RangeError(`no row ${unknown}; there are ${ROWS.map((row) => row.name).join(' ')}`);
  if (names.length === 0) return ROWS.filter((row) => row.onlyAs === undefined);
  return ROWS.filter((row) => names.some((name) => chooses(name, row)));
}
