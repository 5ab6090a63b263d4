/**
 * A tree in several images of one size, because one does not hold it all.
 *
 * Comes in: a copy and a size; goes out: how many images it takes and which file goes into which, before any is made; the
 * images, open; and, from one of them, all of a set. Each has the directories, a file is whole in one of them. They have
 * their names when all is in them, the first one last: where it is, all are. What belongs together says so in its label.
 */
import { randomBytes } from 'node:crypto';
import { lstatSync } from 'node:fs';
import { open, stat, statfs } from 'node:fs/promises';
import { BulkhaulError } from '../error.js';
import type { JobEvent } from '../events.js';
import { display, toBytes } from '../names.js';
import { loadBlockdev } from '../native/blockdev.js';
import type { NativePlacement } from '../native/options.js';
import { copyMapped } from './copy.js';
import { unlessAbsent } from './disk/device.js';
import { Image, type ImageFileSystem, makeImage, type NewImage } from './image.js';
import type { Job } from './job.js';
import type { MappedCopyOptions } from './mapping.js';

const MIB = 2 ** 20;
const BLOCK = 4096;
/** What a label has room for: two digits. */
const MOST_VOLUMES = 99;
/** A file of a smaller part of a volume has no place of its own: it goes where there is room. */
const SMALL = 64;

/** Which volume of which set an image is. */
interface Part {
  set: string;
  number: number;
  count: number;
}

const labelOf = ({ set, number, count }: Part) => `bh${set}:${number}/${count}`;

function partOf({ roots }: Image): Part | undefined {
  const [, set = '', number, count] = /^bh([0-9a-f]{4}):(\d{1,2})\/(\d{1,2})$/.exec(roots[0]?.label ?? '') ?? [];
  return set === '' ? undefined : { set, number: Number(number), count: Number(count) };
}

/** The names of volumes, as hpcp has them: `x.img`, `x_1.img` and so on. */
export function volumePath(path: string, index: number): string {
  if (index === 0) return path;
  const [, stem = path, end = ''] = /^(.*[^/])(\.(?:img|iso))$/i.exec(path) ?? [];
  return `${stem}_${index}${end}`;
}

/** The name of the first one, from that of one of them. */
function firstOf(path: string, index: number): string | undefined {
  if (index === 0) return path;
  const [, stem, end] = new RegExp(`^(.*)_${index}(\\.(?:img|iso))?$`, 'i').exec(path) ?? [];
  return stem === undefined ? undefined : `${stem}${end ?? ''}`;
}

function refuse(path: string, why: string): never {
  throw new BulkhaulError('USAGE', `the image ${display(path)} can't be used: ${why}`);
}

/** Opens an image, and where it is one of a set, all of them. Throws as `Image.open`, and `USAGE` where one is missing. */
export async function openSet(path: string, write: boolean): Promise<Image[]> {
  const one = await Image.open(path, write);
  const part = partOf(one);
  if (part === undefined || part.count === 1) return [one];
  const open = [one];
  try {
    const what = `it is volume ${part.number} of ${part.count}`;
    const first = firstOf(path, part.number - 1) ?? refuse(path, `${what}, and not named as one`);
    const set: Image[] = [];
    for (let number = 1; number <= part.count; number += 1) {
      if (number === part.number) {
        set.push(one);
        continue;
      }
      const at = volumePath(first, number - 1);
      const other = await Image.open(at, write).catch((error: unknown) => {
        if (!(error instanceof BulkhaulError) || error.code !== 'NO_SOURCE') throw error;
        return refuse(path, `${what}, and volume ${number} is missing: ${display(at)}`);
      });
      open.push(other);
      set.push(other);
      const its = partOf(other);
      if (its?.set !== part.set || its.number !== number || its.count !== part.count) {
        refuse(path, `${what}, and ${display(at)} is not volume ${number} of it`);
      }
    }
    return set;
  } catch (error) {
    for (const image of open) await image.close();
    throw error;
  }
}

/** What is to be copied, as far as it matters where it goes. */
interface Load {
  /** Files that are large for a volume, the largest first. */
  large: { path: string; inode: number; size: number; room: number }[];
  /** The others together. */
  bytes: number;
  files: number;
  directories: number;
  /** Entries of other kinds, which all go into the first volume. */
  others: number;
}

const rounded = (bytes: number) => Math.ceil(bytes / BLOCK) * BLOCK;

/** Runs a job to its end, and tells of each event. */
export type Run = (begin: () => Job, listen: (event: JobEvent) => void) => Promise<unknown>;

/** Looks at what a copy would bring; files from `large` bytes on one by one. */
async function loadOf(copy: MappedCopyOptions, large: number, run: Run): Promise<Load> {
  const load: Load = { large: [], bytes: 0, files: 0, directories: 0, others: 0 };
  const { signal: _, ...options } = copy;
  const take = (event: JobEvent) => {
    if (event.type !== 'entry') return;
    if (event.kind === 'directory') load.directories += 1;
    else if (event.kind !== 'file') load.others += 1;
    else if (event.outcome === 'copied') {
      const found = lstatSync(toBytes(event.source), { bigint: true, throwIfNoEntry: false });
      if (found === undefined) return;
      const room = rounded(Number(found.blocks) * 512);
      load.files += 1;
      // Beyond that a number is not exact.
      if (room < large || found.ino > Number.MAX_SAFE_INTEGER) load.bytes += room;
      else load.large.push({ path: event.source, inode: Number(found.ino), size: Number(found.size), room });
    }
  };
  await run(() => copyMapped({ ...options, dryRun: true, requireSpace: false, entries: true }), take);
  load.large.sort((one, other) => other.room - one.room || (one.path < other.path ? -1 : 1));
  return load;
}

/** Puts each large file into the first volume with room; undefined: not all of it, and of the others, has any. */
function placed({ large, bytes }: Load, rooms: readonly number[]): NativePlacement[] | undefined {
  const free = [...rooms];
  const placement: NativePlacement[] = [];
  for (const { inode, size, room } of large) {
    const destination = free.findIndex((left) => left >= room);
    if (destination < 0) return undefined;
    free[destination] = (free[destination] ?? 0) - room;
    placement.push({ inode, size, room, destination });
  }
  // A small file may not fit into what is left in one.
  const left = free.reduce((sum, each, index) => sum + Math.max(0, each - (rooms[index] ?? 0) / SMALL), 0);
  return left >= bytes ? placement : undefined;
}

/** Volumes that are not made yet. */
export interface VolumePlan {
  count: number;
  /** Bytes of each. */
  size: number;
  type: ImageFileSystem;
  /** Entries that each has room for. */
  entries: number;
  placement: NativePlacement[];
}

/** Bytes for files in a volume: what hpcp 9.79 takes for them, and no more than a file system of so many entries has. */
function roomOf(size: number, type: ImageFileSystem, entries: number, directories: number): number {
  const own = {
    ext4: Math.max(4 * MIB, Math.min(1024 * MIB, size / 32)) + size / 64 + (entries * 1.05 + 1024) * 256 + 2 * MIB,
    xfs: Math.max(64 * MIB, Math.min(2048 * MIB, size / 2048)) + size / 32 + entries * 512,
    btrfs: 64 * MIB + size / 10 + entries * 1024,
  }[type];
  return Math.floor(Math.min(0.9 * size - 16 * MIB, size - own) - directories * BLOCK);
}

/**
 * How many volumes of `size` bytes a copy takes, and what goes where. `run`: has the look at what there is shown. `own`: bytes and entries that come into each beside it.
 * Throws `NO_SPACE` where there are no such volumes.
 */
export async function planVolumes(
  copy: MappedCopyOptions,
  size: number,
  type: ImageFileSystem,
  run: Run,
  own = { bytes: 0, entries: 0 },
): Promise<VolumePlan> {
  const load = await loadOf(copy, Math.max(BLOCK, Math.floor(roomOf(size, type, 0, 0) / SMALL)), run);
  const { large, files, directories, others } = load;
  const tooSmall = (why: string): never => {
    throw new BulkhaulError('NO_SPACE', `volumes of ${size} bytes are too small: ${why}`);
  };
  for (let count = 1; count <= MOST_VOLUMES; count += 1) {
    const entries = directories + others + Math.min(files, Math.ceil((2 * files) / count)) + own.entries;
    const room = roomOf(size, type, entries, directories) - rounded(own.bytes);
    const [largest] = large;
    if (room <= 0) tooSmall(`${entries} entries have no room in one`);
    if (largest && largest.room > room)
      tooSmall(`${display(largest.path)} takes ${largest.room}, and one holds ${room}`);
    const placement = placed(load, Array(count).fill(room));
    if (placement) return { count, size, type, entries, placement };
  }
  return tooSmall(`more than ${MOST_VOLUMES} of them would be needed`);
}

/** The same for volumes that are there; what has no room in any has no place. */
export async function placeInto(
  copy: MappedCopyOptions,
  images: readonly Image[],
  run: Run,
): Promise<NativePlacement[]> {
  const free: number[] = [];
  for (const image of images) {
    const { bsize, bavail } = await statfs(image.largest.directory);
    free.push(bsize * bavail);
  }
  const load = await loadOf(copy, Math.max(BLOCK, Math.floor(Math.max(...free) / SMALL)), run);
  return placed(load, free) ?? [];
}

/** A new set that is being filled. */
export interface NewSet {
  images: readonly Image[];
  /** An earlier run has begun it. */
  resumed: boolean;
  publish(): Promise<void>;
}

/**
 * Makes the images of a plan, or goes on with those that an earlier run has left; `anew`: these go. Throws `USAGE` where a
 * name is taken.
 */
export async function makeSet(
  path: string,
  { count, size, type, entries }: VolumePlan,
  { anew = false } = {},
): Promise<NewSet> {
  const paths = Array.from({ length: count }, (_, index) => volumePath(path, index));
  const set = (anew ? undefined : await begun(path, count)) ?? randomBytes(2).toString('hex');
  const made: NewImage[] = [];
  try {
    const there = [];
    for (const each of paths) there.push(await stat(toBytes(each)).catch(unlessAbsent));
    for (const [index, each] of paths.entries()) {
      if (there[index] === undefined) continue;
      // One of this very set may have got its name before the run died that made it.
      const same = (await labelAt(each)) === labelOf({ set, number: index + 1, count });
      if (!same || index === 0) refuse(each, 'there is something of this name');
    }
    for (const [index, each] of paths.entries()) {
      const label = labelOf({ set, number: index + 1, count });
      if (there[index] === undefined) made.push(await makeImage(each, size, type, entries, { label, anew }));
      else {
        const image = await Image.open(each, true);
        made.push({ image, resumed: true, publish: () => image.close() });
      }
    }
  } catch (error) {
    for (const { image } of made) await image.close();
    throw error;
  }
  return {
    images: made.map(({ image }) => image),
    resumed: made.some(({ resumed }) => resumed),
    async publish() {
      for (const { publish } of [...made].reverse()) await publish();
    },
  };
}

/** The label in a file or device, which nothing of it is changed for; undefined: there is none. */
async function labelAt(path: string): Promise<string | undefined> {
  const file = await open(toBytes(path), 'r').catch(() => undefined);
  try {
    return (
      file &&
      (
        await loadBlockdev()
          .probe(file.fd, 0, 0)
          .catch(() => undefined)
      )?.label
    );
  } finally {
    await file?.close();
  }
}

/** The set that an earlier run has begun and not finished. */
async function begun(path: string, count: number): Promise<string | undefined> {
  const left = await Image.open(`${path}.partial`, false).catch(() => undefined);
  const part = left && partOf(left);
  await left?.close();
  return part?.count === count && part.number === 1 ? part.set : undefined;
}
