/**
 * What a clone of a disk will do, before it does anything.
 *
 * Comes in: a source and a destination, disks or images, and sizes; goes out: the method for each partition and why, its
 * place, what it takes; with the source open, and its file systems mounted nowhere but here. All that can be known to go
 * wrong is refused here: nothing was written then.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import { type FileHandle, open, realpath, stat, statfs } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { BulkhaulError, whyOf } from '../../error.js';
import { display, fromBytes, toBytes } from '../../names.js';
import {
  type Blockdev,
  loadBlockdev,
  type Partition,
  type PartitionTable,
  type Signature,
} from '../../native/blockdev.js';
import { attached, closed, type MountedRoot, mountedAt, type Place } from '../disk/attach.js';
import * as devices from '../disk/device.js';
import { KINDS } from '../disk/filesystem.js';
import { has, must } from '../disk/program.js';
import { SNAPSHOT, snapshotOfVolume, type VolumeSnapshot, volumeInUse } from '../disk/snapshot.js';
import { isHybrid, layOut, limit, resized, soundTable, tail, throwaway } from '../disk/table.js';
import { USED } from '../disk/used.js';

const MIB = 2 ** 20;

/** What keeps a clone from being begun. */
export type Reason =
  | 'source'
  /** There is no source. */
  | 'missing'
  | 'destination'
  /** The source is the destination. */
  | 'same'
  | 'in use'
  | 'too small'
  | 'table'
  | 'tools';

/** A clone that is refused; nothing was written. */
export class CloneRefused extends BulkhaulError {
  constructor(
    readonly reason: Reason,
    message: string,
  ) {
    super(
      ({ missing: 'NO_SOURCE', same: 'SAFETY', 'in use': 'SAFETY', 'too small': 'NO_SPACE' } as const)[
        reason as 'same'
      ] ?? 'USAGE',
      message,
    );
  }
}

/** What is asked for. */
export interface CloneOptions {
  /** A disk or an image with a partition table. */
  source: string;
  /** A disk, or the image that is made. */
  destination: string;
  /** Bytes of partitions, the greatest for the largest one. */
  sizes: readonly number[];
  /** Bytes of a new image, at least; undefined: as much as is needed. */
  total?: number | undefined;
  /** File systems are made with the parameters that those of the source have. */
  mirror: boolean;
  /** The clone gets identities of its own, and what its files say of those of the source is rewritten. */
  newIdentity?: boolean;
  /** Nothing will be written. */
  dryRun: boolean;
}

/** `files`: a new file system, into which the files are copied; `blocks`: what of its bytes is in use; `raw`: all bytes; `make`: anew, with nothing in it; `table`: a container of others. */
export type Method = 'files' | 'blocks' | 'raw' | 'make' | 'table';

/** One partition of the plan. */
export interface Part {
  partition: Partition;
  to: Place;
  method: Method;
  /** In a sentence. */
  why: string;
  /** What it holds; undefined: nothing that is known. */
  found: Signature | undefined;
  /** What it has in the end: of its file system, and of the partition. */
  identity: { uuid: string; partUuid: string };
  /** Arguments of mkfs. */
  mirror: readonly string[];
  /** Bytes and inodes that are copied, about. */
  bytes: number;
  inodes: number;
  /** `blocks` and `raw`: what is copied, from the beginning of the partition. */
  places?: readonly Place[];
  /** `files`: where they are. */
  root?: MountedRoot;
  /** Where the source is mounted by others, who may change it meanwhile. */
  live?: string;
  /** What `root` leads to is a snapshot of that. */
  still?: boolean;
}

/** A destination as it was found. */
export interface Destination {
  path: string;
  /** Where an image lies, without links on the way. */
  real?: string;
  /** A disk, or the image that was there; undefined: there is none. */
  stats?: Stats;
  /** A disk, which nobody else has as long as this is open. */
  file?: FileHandle;
  /** What is on it, in words; undefined: nothing. */
  holds?: string;
}

/** A plan, with what it looks at open. */
export interface Plan {
  options: CloneOptions;
  source: FileHandle;
  table: PartitionTable;
  parts: readonly Part[];
  destination: Destination;
  /** Bytes of the destination. */
  size: number;
  /** Identity of the disk in the end. */
  id: string;
  /** Identity of the disk until the proof is done: that of this very plan, by which the next run knows what was begun. */
  meanwhile: string;
  /** What is to be told of it. */
  notes: readonly string[];
  /** Unmounts and closes everything. */
  close: () => Promise<void>;
}

/** Looks at everything. Throws `CloneRefused`, or `ADDON` where disks can't be had. */
export async function planClone(options: CloneOptions): Promise<Plan> {
  const open: FileHandle[] = [];
  const roots: MountedRoot[] = [];
  const snapshots: VolumeSnapshot[] = [];
  const close = async () => {
    for (const { descriptor } of roots.splice(0)) await closed(descriptor);
    for (const file of open.splice(0)) await file.close();
    for (const snapshot of snapshots.splice(0)) await snapshot.remove();
  };
  try {
    return { ...(await build(options, open, roots, snapshots)), options, close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function build(
  options: CloneOptions,
  open: FileHandle[],
  roots: MountedRoot[],
  snapshots: VolumeSnapshot[],
): Promise<Omit<Plan, 'options' | 'close'>> {
  const blockdev = loadBlockdev();
  const { source: path, destination: into, mirror } = options;
  const itself = await stat(toBytes(path)).catch(() => undefined);
  // Whether others have it is asked before we do.
  const volume = itself && (await volumeInUse(path, itself));
  let { file: source, stats } = await opened(path, 'source', constants.O_RDONLY);
  open.push(source);
  const there = await stat(toBytes(into)).catch(devices.unlessAbsent);
  if (there) await distinct(options, stats, there);
  const destination = await lookAt(blockdev, options, there, open);
  const notes: string[] = [];
  let from = path;
  if (volume && options.dryRun) notes.push(`${display(path)} is in use: a snapshot of it would be cloned`);
  if (volume && !options.dryRun) {
    const snapshot = await snapshotOfVolume(volume).catch((error: Error) => error);
    if (snapshot instanceof Error) {
      notes.push(
        `${display(path)} is in use, and cloned as it is now and then, without a snapshot: ${snapshot.message}`,
      );
    } else {
      snapshots.push(snapshot);
      from = snapshot.path;
      notes.push(`${display(path)} is in use: what is cloned is a snapshot of it`);
      ({ file: source, stats } = await opened(from, 'source', constants.O_RDONLY));
      open.push(source);
    }
  }
  const bytes = await devices.sizeOf(stats);
  const table = await soundTable(blockdev, from, source, bytes, await devices.sectorOf(stats)).catch((error: Error) => {
    throw new CloneRefused('table', error.message);
  });
  if (table === undefined || table.partitions.length === 0) {
    throw new CloneRefused('table', `${display(path)} has no partitions: only a disk with a partition table is cloned`);
  }
  if (await isHybrid(source, table)) {
    notes.push(`the MBR of ${display(path)} names partitions, too (a hybrid one): that of the clone does not`);
  }
  const places = layOut(table, resized(table, options.sizes));
  const size = await sizeFor(options, table, places, destination);
  const parts: Part[] = [];
  for (const partition of table.partitions) {
    const to = places.get(partition.number);
    if (to) parts.push(await planned({ blockdev, path, file: source, stats, table, mirror, roots }, partition, to));
  }
  await equipped(parts);
  await spacious(options, destination, parts);
  const like = parts.map(({ partition, to, method, mirror: args }) => [partition, to, method, args]);
  const { newIdentity = false } = options;
  if (newIdentity) for (const part of parts) part.identity = fresh(table, part);
  const words = JSON.stringify([table.label, table.id, size, like, newIdentity], (_, value) =>
    typeof value === 'bigint' ? String(value) : value,
  );
  const id = newIdentity ? freshId(table) : table.id;
  return { source, table, parts, destination, size, id, meanwhile: throwaway('disk', words), notes };
}

const freshId = ({ label }: Pick<PartitionTable, 'label'>) =>
  label === 'gpt' ? randomUUID().toUpperCase() : `0x${randomBytes(4).toString('hex')}`;

/** An identity of its own; what is copied as it is and can't get another keeps that of the source. */
function fresh(table: PartitionTable, { found, method, identity }: Part): Part['identity'] {
  const partUuid = table.label === 'gpt' && identity.partUuid !== '' ? randomUUID().toUpperCase() : identity.partUuid;
  const type = found?.type ?? '';
  const whole = method === 'raw' || method === 'blocks';
  const keeps = whole && type !== 'vfat' && type !== 'btrfs';
  if (method === 'table' || keeps || identity.uuid === '') return { ...identity, partUuid };
  const digits = randomBytes(4).toString('hex').toUpperCase();
  return { partUuid, uuid: type === 'vfat' ? `${digits.slice(0, 4)}-${digits.slice(4)}` : randomUUID() };
}

async function opened(path: string, which: 'source' | 'destination', flags: number) {
  const refuse = (why: string): never => {
    throw new CloneRefused(which, `the ${which} ${display(path)} can't be used: ${why}`);
  };
  const stats = await stat(toBytes(path)).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') return refuse(whyOf(error, path));
    throw new CloneRefused('missing', `${display(path)}: ${whyOf(error, path)}`);
  });
  if (!stats.isFile() && !stats.isBlockDevice()) refuse('it is neither a file nor a block device');
  if (await devices.isPartition(stats)) refuse('it is a partition: name the whole disk');
  const file = await openFile(path, flags).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EBUSY') return refuse(whyOf(error, path));
    throw new CloneRefused(
      'in use',
      `the ${which} ${display(path)} is in use: it, or a partition of it, is mounted somewhere, is swap, or is part of something else`,
    );
  });
  return { file, stats };
}

const openFile = (path: string, flags: number) => open(toBytes(path), flags);

/** Refuses a destination that leads to the medium of the source. */
async function distinct({ source, destination }: CloneOptions, one: Stats, other: Stats): Promise<void> {
  const media = await devices.mediaOf(one);
  const shared = (await devices.mediaOf(other)).find((medium) => media.includes(medium));
  if (shared === undefined) return;
  throw new CloneRefused(
    'same',
    `the destination ${display(destination)} is on the same medium as the source ${display(source)}; nothing was done`,
  );
}

/** Looks at the destination, and holds a disk. */
async function lookAt(
  blockdev: Blockdev,
  { destination, dryRun }: CloneOptions,
  there: Stats | undefined,
  open: FileHandle[],
): Promise<Destination> {
  // An image that a link leads to is replaced where it is.
  const path = there?.isFile() ? fromBytes(await realpath(toBytes(destination), { encoding: 'buffer' })) : destination;
  if (there === undefined) {
    const parent = await stat(toBytes(dirname(path))).catch(devices.unlessAbsent);
    if (parent?.isDirectory()) return { path, real: await realOf(path) };
    throw new CloneRefused('destination', `the destination ${display(path)} can't be made: its directory is not there`);
  }
  const how = dryRun ? constants.O_RDONLY : constants.O_RDWR;
  const { file, stats } = await opened(path, 'destination', how | (there.isBlockDevice() ? constants.O_EXCL : 0));
  open.push(file);
  const why = await devices.claim(path, file, stats);
  if (why !== undefined) {
    throw new CloneRefused('in use', `the destination ${display(path)} is in use: ${why}; nothing was done`);
  }
  const holds = await contentOf(blockdev, file, await devices.sizeOf(stats));
  return {
    path,
    real: await realOf(path),
    stats,
    ...(stats.isBlockDevice() && { file }),
    ...(holds !== undefined && { holds }),
  };
}

async function realOf(path: string): Promise<string> {
  return join(fromBytes(await realpath(toBytes(dirname(path)), { encoding: 'buffer' })), basename(path));
}

/** What is on a disk or in an image, in words; undefined: it is blank. */
async function contentOf(blockdev: Blockdev, file: FileHandle, size: number): Promise<string | undefined> {
  if (size === 0) return undefined;
  const found = await blockdev.probe(file.fd, 0, 0).catch(() => ({ table: '', type: 'something', label: '' }));
  if (found?.table) return `a partition table (${found.table})`;
  if (found) return `${found.type}${found.label ? ` "${found.label}"` : ''}`;
  for (const at of [0, Math.max(0, size - MIB)]) {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(MIB), 0, Math.min(MIB, size), at);
    if (buffer.subarray(0, bytesRead).some((byte) => byte !== 0)) return 'data';
  }
  return undefined;
}

/** The size of the destination. */
async function sizeFor(
  { total = 0 }: CloneOptions,
  table: PartitionTable,
  places: ReadonlyMap<number, Place>,
  { path, stats }: Destination,
): Promise<number> {
  const ends = [...places.values()].map(({ start, size }) => start + size);
  const end = Math.max(0, ...ends);
  if (end > limit(table)) {
    const why = `its MBR counts no further than ${limit(table)} bytes, and partitions would end at ${end}`;
    throw new CloneRefused('table', `${display(path)} can't be made: ${why}; nothing was done`);
  }
  const tooSmall = (has: number, needs: number) => {
    throw new CloneRefused(
      'too small',
      `${display(path)} is too small: ${needs} bytes are needed, and it has ${has}; nothing was done`,
    );
  };
  if (stats?.isBlockDevice()) {
    const sector = await devices.sectorOf(stats);
    if (sector !== table.sectorSize) {
      throw new CloneRefused(
        'destination',
        `${display(path)} has sectors of ${sector} bytes, the source of ${table.sectorSize}: its table would say other places there; nothing was done`,
      );
    }
    const size = await devices.sizeOf(stats);
    const need = end + tail(table);
    if (size < need) tooSmall(size, need);
    return size;
  }
  const of = table.partitions.filter(({ container }) => !container);
  const sum = of.reduce((all, { number }) => all + (places.get(number)?.size ?? 0) + MIB, 2 * MIB);
  const need = Math.ceil(Math.max(end + MIB, sum) / MIB) * MIB;
  if (total !== 0 && total < need) tooSmall(total, need);
  return Math.max(need, Math.floor(total / MIB) * MIB);
}

interface From {
  blockdev: Blockdev;
  path: string;
  file: FileHandle;
  stats: Stats;
  table: PartitionTable;
  mirror: boolean;
  /** What is mounted on the way. */
  roots: MountedRoot[];
}

/** What holds other things, by its name in libblkid. */
const STACKED: Readonly<Partial<Record<string, string>>> = {
  LVM2_member: 'it belongs to LVM, whose volumes come with it: two of one group must not meet in one machine',
  crypto_LUKS: 'it is encrypted (LUKS), and opens as the source does',
  linux_raid_member: 'it belongs to a RAID: two members of one name must not meet in one machine',
};

/** How a partition is cloned, and why. */
async function planned(from: From, partition: Partition, to: Place): Promise<Part> {
  const { blockdev, path, file, stats, table } = from;
  const name = `${display(path)}, partition ${partition.number}`;
  const { start, size } = partition;
  const identity = { uuid: '', partUuid: partition.uuid };
  const part = { partition, to, found: undefined, identity, mirror: [], bytes: size, inodes: 1 };
  if (partition.container) return { ...part, method: 'table', why: 'it holds the logical ones', bytes: 0, inodes: 0 };
  const found = await blockdev.probe(file.fd, start, size).catch(() => undefined);
  identity.uuid = found?.uuid ?? '';
  if (found?.type === 'swap' || found?.type === 'swsuspend') {
    return { ...part, found, method: 'make', why: 'nothing of swap is worth a copy', bytes: 0 };
  }
  const nodes = await devices.devicesOf(path, stats, partition);
  const mounts = await devices.mountsOf(blockdev, nodes);
  const raw = (why: string): Part => {
    if (mounts.length > 0)
      inUse(name, `${why}, and it is mounted at ${display(fromBytes(mounts[0]?.target ?? Buffer.alloc(0)))}`);
    if (to.size < size) {
      throw new CloneRefused(
        'too small',
        `${name} can't be made smaller: ${why}, so all its ${size} bytes are copied; nothing was done`,
      );
    }
    return { ...part, found, method: 'raw', why, places: [{ start: 0, size }] };
  };
  const sectorSize = sectorOf(table);
  const asItIs = async (why: string): Promise<Part> => {
    const whole = raw(why);
    const used = USED[found?.type ?? ''];
    if (used === undefined) return whole;
    const places = await attached(blockdev, file.fd, { start, size }, { write: false, sectorSize }, (device) =>
      used(device, size).catch(() => undefined),
    );
    if (places === undefined) return whole;
    const sum = places.reduce((all, each) => all + each.size, 0);
    return { ...whole, method: 'blocks', why: `${why}, without what it does not use`, places, bytes: sum };
  };
  const kind = found?.usage === 'filesystem' ? KINDS[found.type] : undefined;
  if (mounts.length === 0) await idle(name, nodes);
  if (found === undefined) return raw('nothing that is known is in it');
  if (USED[found.type] && !kind) return asItIs(`${found.type} is copied as it is`);
  if (kind === undefined) return raw(STACKED[found.type] ?? `it holds ${found.type || 'a partition table'}`);
  if (to.size < kind.least) return asItIs(`no ${found.type} of ${to.size} bytes can be made`);
  if (found.type === 'vfat' && mounts.length === 0 && to.size >= size) return asItIs('FAT is copied as it is');
  const mounted = await rootOf(from, found, mounts, partition, name).catch((error: unknown) => {
    if (error instanceof CloneRefused) throw error;
    return asItIs(`it can't be mounted (${whyOf(error)}), and is copied as it is`);
  });
  if ('method' in mounted) return mounted;
  const { root, live } = mounted;
  from.roots.push(root);
  if (found.type === 'btrfs' && (await subvolumes(root)) > 0) return asItIs('btrfs with subvolumes is copied as it is');
  const { bsize, blocks, bfree, files, ffree } = await statfs(root.directory);
  const [bytes, inodes] = [(blocks - bfree) * bsize, Math.max(0, files - ffree)];
  const like = from.mirror
    ? await attached(blockdev, file.fd, { start, size }, { write: false, sectorSize }, (device) =>
        kind.mirror(device, to.size === size),
      )
    : [];
  const room = kind.room(to.size, like);
  if (to.size < size && (room.bytes < bytes || room.inodes < inodes)) {
    const what = room.bytes < bytes ? `${bytes} bytes` : `${inodes} inodes`;
    throw new CloneRefused('too small', `${name} does not fit into ${to.size} bytes: it has ${what}; nothing was done`);
  }
  const taken = found.type === 'btrfs' ? 'a snapshot of what' : 'where it';
  const why =
    live === undefined ? 'its files are copied' : `its files are copied from ${taken} is mounted, ${display(live)}`;
  const more = { mirror: like, bytes, inodes, root, ...(live !== undefined && { live }) };
  return { ...part, found, method: 'files', why, ...more };
}

function inUse(name: string, why: string): never {
  throw new CloneRefused('in use', `${name} is in use: ${why}; nothing was done`);
}

/** Loop devices and mounts of 4096-byte sectors have to be told so. */
export const sectorOf = ({ sectorSize }: Pick<PartitionTable, 'sectorSize'>) => (sectorSize === 512 ? 0 : sectorSize);

/** What is in use by somebody, and mounted nowhere that we see, is in no state to be read. */
async function idle(name: string, nodes: readonly string[]): Promise<void> {
  for (const number of nodes) {
    const node = await devices.nodeOf(number);
    if (node === undefined) continue;
    const file = await openFile(node, constants.O_RDONLY | constants.O_EXCL).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'EBUSY') inUse(name, `somebody has ${node}, and it is not mounted here`);
      return undefined;
    });
    await file?.close();
  }
}

/** The files of a partition: where it is mounted, or mounted for us. */
export async function rootOf(
  { blockdev, file, table }: Pick<From, 'blockdev' | 'file' | 'table'>,
  found: Pick<Signature, 'type'>,
  mounts: Awaited<ReturnType<typeof devices.mountsOf>>,
  place: Place,
  name: string,
): Promise<{ root: MountedRoot; live?: string }> {
  const [first] = mounts;
  if (first === undefined) {
    return {
      root: await mountedAt(blockdev, file.fd, found.type, place, { write: false, sectorSize: sectorOf(table) }),
    };
  }
  const live = fromBytes(first.target);
  if (fromBytes(first.root) !== '/') inUse(name, `only a part of it is mounted, at ${display(live)}`);
  const descriptor = await blockdev.cloneMount(first.target);
  return { root: { descriptor, directory: `/proc/self/fd/${descriptor}`, direct: false }, live };
}

/** How many subvolumes a btrfs has beside its own root. */
async function subvolumes({ descriptor }: MountedRoot): Promise<number> {
  const told = await must('btrfs', ['subvolume', 'list', `/proc/${process.pid}/fd/${descriptor}`]);
  // Those that a dead run has left go.
  return told.split('\n').filter((line) => line !== '' && !line.includes(` path ${SNAPSHOT}`)).length;
}

/** Refuses where a program is missing. */
async function equipped(parts: readonly Part[]): Promise<void> {
  const tools = parts.flatMap(({ method, found }) =>
    method === 'make' ? ['mkswap'] : method === 'files' ? (KINDS[found?.type ?? '']?.tools ?? []) : [],
  );
  const missing: string[] = [];
  for (const tool of new Set(tools)) if (!(await has(tool))) missing.push(tool);
  if (missing.length === 0) return;
  throw new CloneRefused('tools', `programs are missing for this clone: ${missing.join(', ')}; nothing was done`);
}

/** Refuses an image that its file system has no room for. */
async function spacious({ destination }: CloneOptions, { stats }: Destination, parts: readonly Part[]): Promise<void> {
  if (stats?.isBlockDevice() || (await stat(toBytes(`${destination}.partial`)).catch(devices.unlessAbsent))) return;
  const { bsize, bavail } = await statfs(toBytes(dirname(destination)));
  const need = parts.reduce((sum, { method, bytes }) => sum + (method === 'files' ? bytes : 0), 0);
  if (need <= bavail * bsize) return;
  throw new CloneRefused(
    'too small',
    `there is no room for ${display(destination)}: ${need} bytes of files, and ${bavail * bsize} are free; nothing was done`,
  );
}
