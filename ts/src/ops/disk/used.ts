/**
 * What of a partition its file system uses, where its bytes are copied: all else holds nothing.
 *
 * Comes in: the path of a device that is only read; goes out: places from its beginning, with all that is no part of what
 * the file system shares out, or `undefined`. Nobody can tell then, or it throws `USAGE` where a program is missing or finds
 * damage: what says so is not sound, or would be another after the replay of a log.
 */
import { open } from 'node:fs/promises';
import type { Place } from './attach.js';
import { must } from './program.js';

const MIB = 2 ** 20;
/** Bytes that a program may print of what is in use. */
const MOST = 256 * MIB;

type Used = (device: string, size: number) => Promise<Place[] | undefined>;

/** By the names of mount(8). */
export const USED: Readonly<Partial<Record<string, Used>>> = {
  ext2: usedOfExt,
  ext3: usedOfExt,
  ext4: usedOfExt,
  btrfs: usedOfBtrfs,
  vfat: usedOfFat,
  ntfs: usedOfNtfs,
};

/** All of so many bytes but what is free, which is in order. */
function without(size: number, free: Iterable<Place>): Place[] {
  const used: Place[] = [];
  let at = 0;
  for (const { start, size: bytes } of free) {
    if (start > at) used.push({ start: at, size: start - at });
    at = start + bytes;
  }
  if (at < size) used.push({ start: at, size: size - at });
  return used;
}

/** Runs of units that are free: `isFree` of `many`, which begin at `start`. */
function* runs(isFree: (index: number) => boolean, many: number, start: number, unit: number): Generator<Place> {
  let first: number | undefined;
  for (let index = 0; index <= many; index += 1) {
    if (index < many && isFree(index)) first ??= index;
    else if (first !== undefined) {
      yield { start: start + first * unit, size: (index - first) * unit };
      first = undefined;
    }
  }
}

/** By its bitmaps, which are right where it was unmounted and its checker finds nothing. */
async function usedOfExt(device: string, size: number): Promise<Place[] | undefined> {
  await must('e2fsck', ['-f', '-n', device]);
  const told = await must('dumpe2fs', [device], { most: MOST });
  const of = (name: string) => new RegExp(`^${name}:\\s+(.+)$`, 'm').exec(told)?.[1];
  if (of('Filesystem state') !== 'clean' || of('Filesystem features')?.includes('needs_recovery') !== false) {
    return undefined;
  }
  const unit = Number(of('Block size'));
  const free = [...told.matchAll(/^ {2}Free blocks: (.+)$/gm)].flatMap(([, list = '']) =>
    list.split(', ').map((range) => {
      const [first = 0, last = first] = range.split('-').map(Number);
      return { start: first * unit, size: (last - first + 1) * unit };
    }),
  );
  const sum = free.reduce((all, each) => all + each.size, 0);
  if (sum !== Number(of('Free blocks')) * unit || Number(of('Block count')) * unit > size) return undefined;
  return without(size, free);
}

/** Where btrfs has its superblock, and how many bytes of it; what is before the first mebibyte is kept whole. */
const SUPERBLOCKS = [64 * MIB, 256 * 1024 ** 3];
const SUPERBLOCK = 4096;

/**
 * What btrfs has given out to itself, by the tree that says so; not where it has several devices, or a log that was not
 * replayed, or does not agree with its superblock.
 */
async function usedOfBtrfs(device: string, size: number): Promise<Place[] | undefined> {
  const told = await must('btrfs', ['inspect-internal', 'dump-super', device]);
  const of = (name: string) => new RegExp(`^${name}\\s+(\\d+)`, 'm').exec(told)?.[1];
  if (of('num_devices') !== '1' || of('log_root') !== '0') return undefined;
  const tree = await must('btrfs', ['inspect-internal', 'dump-tree', '-t', 'dev', device], { most: MOST });
  const extents = [...tree.matchAll(/key \(1 DEV_EXTENT (\d+)\)[\s\S]*? length (\d+)$/gm)].map(([, start, length]) => ({
    ...{ start: Number(start), size: Number(length) },
  }));
  const sum = extents.reduce((all, extent) => all + extent.size, 0);
  if (String(sum) !== of('dev_item.bytes_used')) return undefined;
  const own = SUPERBLOCKS.filter((at) => at + SUPERBLOCK <= size).map((start) => ({ start, size: SUPERBLOCK }));
  const places = [{ start: 0, size: MIB }, ...own, ...extents].sort((one, other) => one.start - other.start);
  return places.every(({ start, size: bytes }) => start + bytes <= size) ? places : undefined;
}

/** From so many clusters on a FAT has 16 or 32 bits for each. */
const FAT16 = 4085;
const FAT32 = 65525;

/** What no copy of its table says is free. */
async function usedOfFat(device: string, size: number): Promise<Place[] | undefined> {
  const file = await open(device, 'r');
  try {
    const read = async (at: number, bytes: number) => (await file.read(Buffer.alloc(bytes), 0, bytes, at)).buffer;
    const boot = await read(0, 512);
    const sector = boot.readUInt16LE(11);
    const unit = sector * boot.readUInt8(13);
    const copies = boot.readUInt8(16);
    const sectors = boot.readUInt16LE(19) || boot.readUInt32LE(32);
    const length = (boot.readUInt16LE(22) || boot.readUInt32LE(36)) * sector;
    const table = boot.readUInt16LE(14) * sector;
    const data = table + copies * length + Math.ceil((boot.readUInt16LE(17) * 32) / sector) * sector;
    const clusters = Math.floor((sectors * sector - data) / unit);
    const bits = clusters < FAT16 ? 12 : clusters < FAT32 ? 16 : 32;
    // The first two entries are of no cluster.
    const fits = clusters > 0 && sectors * sector <= size && ((clusters + 2) * bits) / 8 <= length;
    if (!fits || copies === 0 || length > MOST) return undefined;
    const tables: Buffer[] = [];
    for (let copy = 0; copy < copies; copy += 1) tables.push(await read(table + copy * length, length));
    const entry = (of: Buffer, index: number) => {
      if (bits === 16) return of.readUInt16LE(index * 2);
      if (bits === 32) return of.readUInt32LE(index * 4) & 0x0fffffff;
      const two = of.readUInt16LE(index + (index >> 1));
      return index % 2 === 0 ? two & 0xfff : two >> 4;
    };
    const isFree = (index: number) => tables.every((of) => entry(of, index + 2) === 0);
    return without(size, runs(isFree, clusters, data, unit));
  } finally {
    await file.close();
  }
}

/** The inode of its bitmap. */
const BITMAP = '6';

/** By its bitmap, where it is that of its files; not where Windows sleeps or was not shut down, or is to look at it. */
async function usedOfNtfs(device: string, size: number): Promise<Place[] | undefined> {
  await must('ntfs-3g.probe', ['--readwrite', device]);
  const told = await must('ntfsresize', ['--info', '--no-progress-bar', device]);
  const of = (name: string) => Number(new RegExp(`^${name} *: (\\d+) bytes`, 'm').exec(told)?.[1]);
  const [bytes, unit] = [of('Current volume size'), of('Cluster size')];
  const clusters = Math.floor(bytes / unit);
  const bitmap = Buffer.from(await must('ntfscat', ['-i', BITMAP, device], { most: MOST, bytes: true }), 'latin1');
  if (!(bytes <= size && bitmap.length * 8 >= clusters)) return undefined;
  const isFree = (index: number) => (bitmap.readUInt8(index >> 3) & (1 << (index & 7))) === 0;
  return without(size, runs(isFree, clusters, 0, unit));
}
