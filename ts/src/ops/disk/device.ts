/**
 * What a path means as a disk: which medium that is in the end, how large, and who else has it.
 *
 * Comes in: the path of a file or of a block device; goes out: its size, its sectors, and keys that two paths share where
 * they lead to one medium: through links, through loop devices, by a partition, or through what is stacked on it.
 */
import type { Stats } from 'node:fs';
import { type FileHandle, lstat, readdir, readFile, realpath, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { BulkhaulError, whyOf } from '../../error.js';
import { display, fromBytes, toBytes } from '../../names.js';
import type { Blockdev, Mounted, Partition } from '../../native/blockdev.js';
import { loadAddon } from '../../native.js';

/** `MAJOR:MINOR` of a device, as sysfs names it. */
export function numberOf(rdev: number): string {
  const high = Math.floor(rdev / 2 ** 32);
  const low = rdev % 2 ** 32;
  // The encoding of glibc: 12 and 20 bits of the lower half, the rest in the upper one.
  const major = ((low >>> 8) & 0xfff) + ((high & 0xfffff000) >>> 0);
  const minor = (low & 0xff) + (((low >>> 12) & 0xfff00) >>> 0);
  return `${major}:${minor}`;
}

/** The last: sysfs says so of a device that goes while it is read. */
const ABSENT = ['ENOENT', 'ENXIO', 'ENOTDIR', 'EINVAL', 'ENODEV'];

/** For what may not be there. */
export function unlessAbsent(error: NodeJS.ErrnoException): undefined {
  if (!ABSENT.includes(error.code ?? '')) throw error;
}

/** Throws `NO_SOURCE` where a path leads nowhere; `refuse` says what else the system says of it. */
export function missing(path: string, error: NodeJS.ErrnoException, refuse: (why: string) => never): never {
  if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') refuse(whyOf(error, path));
  throw new BulkhaulError('NO_SOURCE', `${display(path)}: ${whyOf(error, path)}`, { cause: error });
}

/** A file of sysfs without its newline; undefined: there is none. */
async function attribute(path: string): Promise<string | undefined> {
  return (await readFile(toBytes(path)).catch(unlessAbsent))?.toString('latin1').replace(/\n$/, '');
}

/** The directory of sysfs of a device; undefined: there is none. */
function sysfs(number: string): Promise<string | undefined> {
  return realpath(`/sys/dev/block/${number}`).catch(unlessAbsent);
}

/** Bytes of a file or device. */
export async function sizeOf(stats: Stats): Promise<number> {
  if (!stats.isBlockDevice()) return stats.size;
  return Number((await attribute(`/sys/dev/block/${numberOf(stats.rdev)}/size`)) ?? 0) * 512;
}

/** Bytes of a sector; of a file undefined: what is in it says so. */
export async function sectorOf(stats: Stats): Promise<number | undefined> {
  if (!stats.isBlockDevice()) return undefined;
  return Number((await attribute(`/sys/dev/block/${numberOf(stats.rdev)}/queue/logical_block_size`)) ?? 512);
}

/** Whether a device is a partition of a disk. */
export async function isPartition(stats: Stats): Promise<boolean> {
  return stats.isBlockDevice() && (await attribute(`/sys/dev/block/${numberOf(stats.rdev)}/partition`)) !== undefined;
}

/** Whether a device is a logical volume (LVM). */
export async function isLogicalVolume(stats: Stats): Promise<boolean> {
  if (!stats.isBlockDevice()) return false;
  return (await attribute(`/sys/dev/block/${numberOf(stats.rdev)}/dm/uuid`))?.startsWith('LVM-') === true;
}

/** The media that a file or device stands for. */
export async function mediaOf(stats: Stats): Promise<string[]> {
  return stats.isBlockDevice() ? mediaOfDevice(numberOf(stats.rdev)) : [`file ${stats.dev}:${stats.ino}`];
}

async function mediaOfDevice(number: string): Promise<string[]> {
  const directory = await sysfs(number);
  if (directory === undefined) return [`device ${number}`];
  if ((await attribute(`${directory}/partition`)) !== undefined) {
    return mediaOfDevice((await attribute(`${dirname(directory)}/dev`)) ?? number);
  }
  const media = [`device ${number}`];
  const backing = await attribute(`${directory}/loop/backing_file`);
  const behind = backing === undefined ? undefined : await seen(Buffer.from(backing, 'latin1'));
  if (behind !== undefined) media.push(...(await mediaOf(behind)));
  for (const slave of (await readdir(`${directory}/slaves`).catch(unlessAbsent)) ?? []) {
    const below = await attribute(`${directory}/slaves/${slave}/dev`);
    if (below !== undefined) media.push(...(await mediaOfDevice(below)));
  }
  return media;
}

/** Whether both are one file, or one device. */
function isSame(one: Stats, other: Stats): boolean {
  if (one.isBlockDevice() && other.isBlockDevice()) return one.rdev === other.rdev;
  return one.dev === other.dev && one.ino === other.ino;
}

/** Takes the name `PATH.partial` from a file that has got its own: a run that died between the two has left it both. */
export async function named(path: string, stats: Stats): Promise<void> {
  const partial = toBytes(`${path}.partial`);
  const other = await lstat(partial).catch(unlessAbsent);
  if (other && isSame(other, stats)) await rm(partial);
}

/** The file behind a loop device; undefined: it is gone, or lies where this process may not look. */
const seen = (path: Buffer): Promise<Stats | undefined> => stat(path).catch(() => undefined);

/** A loop device that has a file or device, and where in it it begins. */
interface LoopOf {
  path: string;
  number: string;
  offset: number;
}

/** The loop devices that have a file or device. */
export async function loopsOf(path: string, stats: Stats): Promise<LoopOf[]> {
  const real = await realpath(toBytes(path), { encoding: 'buffer' });
  const loops: LoopOf[] = [];
  for (const name of await readdir('/sys/block')) {
    if (!/^loop\d+$/.test(name)) continue;
    const backing = await attribute(`/sys/block/${name}/loop/backing_file`);
    if (backing === undefined) continue;
    const bytes = Buffer.from(backing, 'latin1');
    const other = await seen(bytes);
    const same = other ? isSame(other, stats) : bytes.equals(real);
    if (!same) continue;
    const offset = Number((await attribute(`/sys/block/${name}/loop/offset`)) ?? 0);
    loops.push({ path: `/dev/${name}`, number: (await attribute(`/sys/block/${name}/dev`)) ?? '', offset });
  }
  return loops;
}

/** Why nobody may write to an open file or device; undefined: it is ours, until it is closed. */
export async function claim(path: string, file: FileHandle, stats: Stats): Promise<string | undefined> {
  const { lockDescriptor } = await loadAddon();
  if (lockDescriptor(file.fd) === false) return 'another run is at work on it';
  const [loop] = await loopsOf(path, stats);
  if (loop) return `it is attached to ${loop.path}: unmount it and detach it first (losetup -d ${loop.path})`;
  for (const line of fromBytes(await readFile('/proc/swaps'))
    .split('\n')
    .slice(1)) {
    const swap = line.split(/\s/, 1)[0]?.replace(/\\040/g, ' ');
    const other = swap ? await stat(toBytes(swap)).catch(unlessAbsent) : undefined;
    if (other && isSame(other, stats)) return 'it is in use as swap';
  }
  return undefined;
}

/** The devices that lead to a partition of a disk, or to the disk itself where there is none, as `MAJOR:MINOR`. */
export async function devicesOf(path: string, stats: Stats, partition: Pick<Partition, 'start'>): Promise<string[]> {
  const whole = stats.isBlockDevice() ? [{ number: numberOf(stats.rdev), offset: 0 }] : [];
  const found: string[] = [];
  for (const { number, offset } of [...whole, ...(await loopsOf(path, stats))]) {
    if (offset === partition.start) found.push(number);
    const directory = await sysfs(number);
    if (directory === undefined) continue;
    for (const name of await readdir(directory)) {
      const start = await attribute(`${directory}/${name}/start`);
      if (start === undefined || Number(start) * 512 + offset !== partition.start) continue;
      const of = await attribute(`${directory}/${name}/dev`);
      if (of !== undefined) found.push(of);
    }
  }
  return found;
}

/** The mounts of devices, whole ones first. */
export async function mountsOf(blockdev: Blockdev, devices: readonly string[]): Promise<Mounted[]> {
  const found: Mounted[] = [];
  if (devices.length === 0) return found;
  for (const mounted of await blockdev.mounts()) {
    const { major, minor, source } = mounted;
    if (devices.includes(`${major}:${minor}`)) found.push(mounted);
    else if (major === 0 && source[0] === 0x2f) {
      // btrfs numbers its mounts by itself.
      const stats = await stat(source).catch(() => undefined);
      if (stats?.isBlockDevice() && devices.includes(numberOf(stats.rdev))) found.push(mounted);
    }
  }
  const whole = ({ root }: Mounted) => (fromBytes(root) === '/' ? 0 : 1);
  return found.sort((one, other) => whole(one) - whole(other));
}

/** The node of a device; undefined: there is none. */
export async function nodeOf(number: string): Promise<string | undefined> {
  const told = await attribute(`/sys/dev/block/${number}/uevent`);
  const name = /^DEVNAME=(.+)$/m.exec(told ?? '')?.[1];
  return name && `/dev/${name}`;
}
