/**
 * A range of a disk or image as a device, and the file system on it as a directory.
 *
 * Comes in: an open file or device, and a place in it; goes out: the path of a loop device for as long as it is used, or a
 * descriptor of a root that is mounted nowhere. Promises: nothing is left attached or mounted when the descriptors are
 * closed, or the process dies.
 */
import { close } from 'node:fs';
import { constants } from 'node:os';
import { promisify } from 'node:util';
import { BulkhaulError } from '../../error.js';
import { toBytes } from '../../names.js';
import type { Blockdev } from '../../native/blockdev.js';

/** Bytes from the beginning of a disk. */
export interface Place {
  start: number;
  /** 0: to the end. */
  size: number;
}

/** How a range is attached. */
export interface How {
  write: boolean;
  /** 0: 512 bytes. */
  sectorSize?: number;
  /** Past the cache, where that can be had. */
  direct?: boolean;
}

/** A mounted root. */
export interface MountedRoot {
  descriptor: number;
  /** A path of this process that leads to it. */
  directory: string;
  /** What is read of it comes from the medium. */
  direct: boolean;
}

export const closed = promisify(close);

/** Attaches a range, and calls `use` with the path of the device. */
export async function attached<T>(
  blockdev: Blockdev,
  file: number,
  { start, size }: Place,
  { write, sectorSize = 0, direct = false }: How,
  use: (path: string, direct: boolean) => Promise<T>,
): Promise<T> {
  const attaching = blockdev.attachLoop(file, !write, start, size, sectorSize, direct);
  const loop = await attaching.catch((error: NodeJS.ErrnoException) => {
    if (process.geteuid?.() === 0 || error.errno === undefined) throw error;
    throw new BulkhaulError(
      'USAGE',
      `only root may have the loop devices and mounts that this takes (${error.message})`,
      {
        cause: error,
      },
    );
  });
  try {
    return await use(loop.path, loop.direct);
  } finally {
    await closed(loop.fd);
  }
}

/** Mounts a file system nowhere; who has its root closes the descriptor. */
export function mountedAt(
  blockdev: Blockdev,
  file: number,
  type: string,
  place: Place,
  how: How,
): Promise<MountedRoot> {
  return attached(blockdev, file, place, how, async (path, direct) => {
    // Two file systems of one identity may be mounted at once.
    const options: Record<string, string> = type === 'xfs' ? { nouuid: '' } : {};
    const mounting = blockdev.mountDetached(toBytes(path), type, !how.write, options);
    const descriptor = await mounting.catch((error: NodeJS.ErrnoException) => {
      if (how.write || error.errno !== constants.errno.EROFS) throw error;
      throw new BulkhaulError('USAGE', `its journal was not replayed, and that would write to it (${error.message})`, {
        cause: error,
      });
    });
    return { descriptor, directory: `/proc/self/fd/${descriptor}`, direct };
  });
}
