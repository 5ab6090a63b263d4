/**
 * Disk images as directories.
 *
 * Comes in: an image file or a block device; goes out: the roots of the file systems in it, each a directory by a descriptor
 * that nothing else leads to. It promises that nothing is left mounted or attached when they are closed, or the process
 * dies; that an image is open for writing once only; that nothing is repaired unasked; and that a new image has its name
 * when it is whole: until then it is `NAME.partial`, which the next run goes on with.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import { type FileHandle, link, open, readdir, realpath, rm, stat, unlink } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { BulkhaulError, whyOf } from '../error.js';
import { display, fromBytes, toBytes } from '../names.js';
import { type Blockdev, loadBlockdev, type Mounted, type Partition, type Signature } from '../native/blockdev.js';
import { loadAddon } from '../native.js';
import { closed, mountedAt } from './disk/attach.js';
import { claim, missing, named, unlessAbsent } from './disk/device.js';
import { has, must } from './disk/program.js';

/** One file system of an image. */
export interface Root {
  /** A path of this process that leads to it, for as long as the image is open. */
  directory: string;
  /** The image, and behind it the partition, where it has several: for people. */
  name: string;
  /** As mount(8) names it. */
  type: string;
  label: string;
  /** Absent: the image is one file system without a partition table. */
  partition?: Partition;
}

/** What of an image is no file system, or can't be mounted. */
export interface Unmounted {
  name: string;
  /** `swap`: nothing is lost without it. `failed`: it is a file system. `other`: it is something else. */
  kind: 'swap' | 'failed' | 'other';
  /** In a sentence. */
  why: string;
  /** Bytes. */
  size: number;
}

/** File systems that a new image may have. */
export const IMAGE_FILE_SYSTEMS = ['ext4', 'xfs', 'btrfs'] as const;
export type ImageFileSystem = (typeof IMAGE_FILE_SYSTEMS)[number];

/** Commands that read an image of one file system without root. */
const READERS: Readonly<Partial<Record<string, string>>> = {
  ext4: 'debugfs -R "rdump / DIR" IMAGE',
  squashfs: 'unsquashfs -d DIR IMAGE',
  erofs: 'fsck.erofs --extract=DIR IMAGE',
};

/** An open image. */
export class Image {
  private constructor(
    readonly path: string,
    readonly roots: readonly Root[],
    readonly unmounted: readonly Unmounted[],
    readonly file: FileHandle,
    readonly release: () => Promise<void>,
  ) {}

  /**
   * Opens an image, and mounts what file systems it has. Throws `NO_SOURCE` for what is not there; `USAGE` for what is no
   * image, and for one that is in use where it is to be written; `ADDON` where images can't be had.
   */
  static async open(path: string, write: boolean): Promise<Image> {
    const blockdev = loadBlockdev();
    const device = await stat(toBytes(path)).catch((error: Error) => missing(path, error, (why) => refuse(path, why)));
    if (!device.isFile() && !device.isBlockDevice()) refuse(path, 'it is neither a file nor a block device');
    // Nobody else may have a device of which something is mounted, or that is swap.
    const exclusive = device.isBlockDevice() && write ? constants.O_EXCL : 0;
    const file = await open(toBytes(path), (write ? constants.O_RDWR : constants.O_RDONLY) | exclusive).catch(
      (error: Error) => refuse(path, whyOf(error, path)),
    );
    try {
      if (write) {
        await claimed(path, file, device);
        if (device.isFile()) await named(path, device);
      }
      return await Image.#mount(path, file, write, blockdev);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  static async #mount(path: string, file: FileHandle, write: boolean, blockdev: Blockdev): Promise<Image> {
    const whole = await blockdev.probe(file.fd, 0, 0).catch((error: Error) => refuse(path, whyOf(error)));
    if (whole === undefined) refuse(path, 'there is no file system in it, and no partition table');
    const roots: Root[] = [];
    const unmounted: Unmounted[] = [];
    const mounted: number[] = [];
    // Unmounting may take as long as what was written takes to the disk.
    const release = async () => {
      for (const fd of mounted.splice(0)) await closed(fd);
    };
    const add = async (found: Signature | undefined, partition?: Partition) => {
      const name = partition === undefined ? path : `${path}, partition ${partition.number}`;
      const size = partition?.size ?? 0;
      if (found?.usage !== 'filesystem') {
        const kind = found?.type === 'swap' ? 'swap' : 'other';
        unmounted.push({ name, kind, why: `it holds ${found?.type || 'no file system'}`, size });
        return;
      }
      try {
        const place = { start: partition?.start ?? 0, size };
        const { descriptor, directory } = await mountedAt(blockdev, file.fd, found.type, place, { write });
        mounted.push(descriptor);
        const { type, label } = found;
        roots.push({ directory, name, type, label, ...(partition && { partition }) });
      } catch (error) {
        const reader = write || partition || process.geteuid?.() === 0 ? undefined : READERS[found.type];
        const instead = reader === undefined ? '' : `; without root its files can be had by ${reader}`;
        unmounted.push({ name, kind: 'failed', why: `${whyOf(error)}${instead}`, size });
      }
    };
    try {
      if (whole.table === '') await add(whole);
      else {
        const table = await blockdev.readTable(toBytes(path), 0);
        for (const partition of table?.partitions ?? []) {
          if (partition.container) continue;
          await add(await blockdev.probe(file.fd, partition.start, partition.size), partition);
        }
      }
    } catch (error) {
      await release();
      throw error;
    }
    return new Image(path, roots, unmounted, file, release);
  }

  /** The largest of its file systems, which is the one that is written to. Throws `USAGE` where there is none. */
  get largest(): Root {
    const [first, ...others] = this.roots;
    if (first === undefined) return this.refuseUnmounted();
    return others.reduce(
      (one, other) => ((other.partition?.size ?? 0) > (one.partition?.size ?? 0) ? other : one),
      first,
    );
  }

  /** Throws `USAGE` with why nothing of it is mounted. */
  refuseUnmounted(): never {
    const why = this.unmounted.map(({ name, why: each }) => `${name}: ${each}`).join('; ');
    return refuse(this.path, `none of it can be mounted (${why})`);
  }

  /** Unmounts it; what was written is on disk then. */
  async close(): Promise<void> {
    await this.release();
    try {
      await this.file.sync();
    } finally {
      await this.file.close();
    }
  }
}

/** Makes sure that nobody else writes to an image. */
async function claimed(path: string, file: FileHandle, stats: Stats): Promise<void> {
  const why = await claim(path, file, stats);
  if (why !== undefined) refuse(path, why);
}

export function refuse(path: string, why: string): never {
  throw new BulkhaulError('USAGE', `the image ${display(path)} can't be used: ${why}`);
}

/**
 * Where directories show what is written at a path: they hold it, or show it by another mount of its file system, or another
 * file system shows them there (FUSE, a network file system of this very host), which a file tells that is made beside it for
 * a moment. What such a one shows under another name, of what lies deeper, is not found; where no file can be made, or
 * nothing is `made`, it is not found at all.
 */
export async function shownIn(directories: readonly string[], path: string, made: boolean): Promise<string[]> {
  const absent = (): undefined => undefined;
  const real = async (of: string) => fromBytes(await realpath(toBytes(of), { encoding: 'buffer' }));
  const beside = await real(dirname(path)).catch(absent);
  // Nobody copies what is in a device.
  const device = (await stat(toBytes(path)).catch(absent))?.isBlockDevice() ?? false;
  if (beside === undefined || device) return [];
  // No view remembers that it was not there: nobody has asked for it.
  const name = `.bulkhaul-witness-${process.pid}-${randomBytes(8).toString('hex')}`;
  const witness = toBytes(join(beside, name));
  const file = made ? await open(witness, 'wx', 0o600).catch(absent) : undefined;
  const found = new Set<string>();
  try {
    await file?.close();
    const mounted = await mountedViews(beside);
    const steps = beside.split('/');
    for (const directory of directories) {
      const at = await real(directory).catch(absent);
      if (at === undefined) continue;
      for (const shown of mounted) if (isWithin(shown, at)) found.add(join(shown, basename(path)));
      if (file === undefined) continue;
      for (let from = 1; from <= steps.length; from += 1) {
        const shown = join(at, ...steps.slice(from));
        if (await stat(toBytes(join(shown, name))).catch(absent)) found.add(join(shown, basename(path)));
      }
    }
  } finally {
    if (file) await unlink(witness);
  }
  return [...found];
}

/** Whether a path is a directory, or lies in it; both without links. */
const isWithin = (path: string, directory: string) =>
  `${path}/`.startsWith(directory === '/' ? directory : `${directory}/`);

/** The paths by which the mounts of its file system show a directory: its own, and others. */
async function mountedViews(directory: string): Promise<string[]> {
  const { dev, ino } = await stat(toBytes(directory), { bigint: true });
  const mounts = (await mountTable()).map(({ target, root, major, minor }) => {
    return { target: fromBytes(target), root: fromBytes(root), of: `${major}:${minor}` };
  });
  // What is mounted later hides what is at the same place.
  const [own] = mounts
    .filter(({ target }) => isWithin(directory, target))
    .reverse()
    .sort((one, other) => other.target.length - one.target.length);
  const views = new Set([directory]);
  if (own === undefined) return [...views];
  const within = join(own.root, relative(own.target, directory));
  for (const { target, root, of } of mounts) {
    if (of !== own.of || !isWithin(within, root)) continue;
    const shown = join(target, relative(root, within));
    const there = await stat(toBytes(shown), { bigint: true }).catch(() => undefined);
    if (there?.dev === dev && there.ino === ino) views.add(shown);
  }
  return [...views];
}

/** All mounts; where the addon is not, nobody can tell. */
async function mountTable(): Promise<Mounted[]> {
  try {
    return await loadBlockdev().mounts();
  } catch {
    return [];
  }
}

/** Whether a file system has nothing but its name in what its checker keeps for what it finds: that is no data. */
export async function emptyLostAndFound({ directory, type }: Pick<Root, 'directory' | 'type'>): Promise<boolean> {
  if (!/^ext[234]$/.test(type)) return false;
  return (await readdir(`${directory}/lost+found`).catch(() => undefined))?.length === 0;
}

/** What is to be put into a new image. */
export interface Content {
  /** Bytes that files take, holes left out. */
  bytes: number;
  /** Entries of all kinds. */
  entries: number;
  directories: number;
}

const MIB = 2 ** 20;
/** From so many bytes on a new image is XFS, where that can be made. */
const XFS_BYTES = 300 * MIB;
/** Bytes of a block of what is made here. */
export const BLOCK = 4096;

/**
 * Bytes of a new image for so much content: those of hpcp 9.79 (1.05 times the content, and 50 MiB), and at least what the
 * file system needs beside the content: its journal, its inodes, a block for each directory.
 */
export function imageSize({ bytes, entries, directories }: Content, type: ImageFileSystem): number {
  const own = {
    ext4: 50 * MIB + entries * 256,
    xfs: 96 * MIB + entries * 512,
    btrfs: 128 * MIB + entries * 1024,
  }[type];
  // Each file ends in a block that it does not fill.
  const need = Math.max(1.05 * bytes + 50 * MIB, 1.05 * (bytes + directories * BLOCK + own));
  return Math.ceil(Math.max(need, type === 'ext4' ? 0 : XFS_BYTES) / BLOCK) * BLOCK;
}

/** The file system for so much content, where none is asked for. */
export function imageFileSystem(content: Content): Promise<ImageFileSystem> {
  return imageFileSystemOf(imageSize(content, 'ext4'));
}

/** The file system of an image of so many bytes. */
export async function imageFileSystemOf(size: number): Promise<ImageFileSystem> {
  return size > XFS_BYTES && (await has('mkfs.xfs')) ? 'xfs' : 'ext4';
}

/** A new image that is being filled. */
export interface NewImage {
  image: Image;
  /** An earlier run has begun it. */
  resumed: boolean;
  /** Gives it its name. Throws `USAGE` where something has it by now; then it stays as it is. */
  publish(): Promise<void>;
}

/**
 * Makes an image of `size` bytes with one file system for so many entries, or goes on with the one of this label that an
 * earlier run has left unfinished; `anew`: that goes. Throws `USAGE` where the name is taken.
 */
export async function makeImage(
  path: string,
  size: number,
  type: ImageFileSystem,
  entries: number,
  { anew = false, label = '' } = {},
): Promise<NewImage> {
  const partial = `${path}.partial`;
  const taken = await stat(toBytes(path)).catch(unlessAbsent);
  if (taken) refuse(path, 'there is something of this name');
  const left = await resumable(partial, anew ? Number.POSITIVE_INFINITY : size, label);
  const image = left ?? (await made(partial, size, type, entries, label));
  const publish = async () => {
    await image.close();
    await link(toBytes(partial), toBytes(path)).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'EEXIST') refuse(path, `something has its name by now; it is ${display(partial)}`);
      throw error;
    });
    await rm(toBytes(partial));
  };
  return { image, resumed: left !== undefined, publish };
}

/** What an earlier run has left, where that is large enough, sound and of this label; else it goes. */
async function resumable(partial: string, size: number, label: string): Promise<Image | undefined> {
  const there = await stat(toBytes(partial)).catch(unlessAbsent);
  if (there === undefined) return undefined;
  if (there.size >= size) {
    try {
      const image = await Image.open(partial, true);
      if (image.roots[0]?.label === label) return image;
      await image.close();
    } catch (error) {
      // Somebody is at work on it.
      if (!(error instanceof BulkhaulError) || !error.message.includes('there is no file system')) throw error;
    }
  }
  await discard(partial);
  return undefined;
}

/** Removes what an earlier run has left, where none is at work on it. */
export async function discard(partial: string): Promise<void> {
  const file = await open(toBytes(partial), constants.O_RDONLY | constants.O_NOFOLLOW).catch(unlessAbsent);
  if (file === undefined) return;
  try {
    await locked(partial, file);
    await rm(toBytes(partial));
  } finally {
    await file.close();
  }
}

/** A new file that is ours. */
export async function begun(partial: string): Promise<FileHandle> {
  const how = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL;
  const file = await open(toBytes(partial), how, 0o600).catch((error: Error) => refuse(partial, whyOf(error, partial)));
  await locked(partial, file).catch(async (error: Error) => {
    await file.close();
    throw error;
  });
  return file;
}

async function locked(partial: string, file: FileHandle): Promise<void> {
  if ((await loadAddon()).lockDescriptor(file.fd) === false) refuse(partial, 'another run is at work on it');
}

async function made(
  partial: string,
  size: number,
  type: ImageFileSystem,
  entries: number,
  label: string,
): Promise<Image> {
  const file = await begun(partial);
  let image: Image | undefined;
  try {
    await file
      .truncate(size)
      .then(() => makeFileSystem(type, `/proc/${process.pid}/fd/${file.fd}`, entries, label))
      .finally(() => file.close());
    image = await Image.open(partial, true);
    if (image.roots.length === 0) image.refuseUnmounted();
    return image;
  } catch (error) {
    await image?.close();
    await rm(toBytes(partial), { force: true });
    throw error;
  }
}

/** Makes a file system on a file or device, whatever was there. Throws `USAGE` with what the program says. */
async function makeFileSystem(type: ImageFileSystem, device: string, entries: number, label: string): Promise<void> {
  const uuid = randomUUID();
  const command: Record<ImageFileSystem, readonly [string, ...string[]]> = {
    // Inodes for all of them, and some more: what is made with too few is full before its blocks are.
    ext4: ['mkfs.ext4', '-q', '-F', '-b', String(BLOCK), '-I', '256', '-m', '0', '-U', uuid].concat(
      entries > 10_000 ? ['-N', String(Math.ceil(entries * 1.05) + 1024)] : [],
    ) as [string, ...string[]],
    xfs: ['mkfs.xfs', '-q', '-f', '-m', `uuid=${uuid}`],
    btrfs: ['mkfs.btrfs', '-q', '-f', '-U', uuid],
  };
  const [program, ...args] = command[type];
  await must(program, [...args, ...(label === '' ? [] : ['-L', label]), device]);
}
