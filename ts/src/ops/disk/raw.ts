/**
 * Bytes of a disk as they are: where there is nothing else to go by, or only of what is in use.
 *
 * Comes in: an open file or device and places in it; goes out: the same bytes in another, with their digest.
 */
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { BulkhaulError } from '../../error.js';
import type { Place } from './attach.js';

/** Bytes that are read at once. */
const PIECE = 4 * 2 ** 20;
const ZEROS = Buffer.alloc(PIECE);

/** Hears of bytes that are done with; true asks to stop. */
export type Heard = (bytes: number) => boolean;

/**
 * Copies the bytes of `places`, which are counted from `base`, to the same places from `start` on; undefined: it was asked to
 * stop. `holes`: zeros are not written, because they are there. Answers their SHA-256 in hexadecimal digits.
 */
export function copyRaw(
  from: FileHandle,
  base: number,
  places: readonly Place[],
  to: FileHandle,
  start: number,
  holes: boolean,
  heard: Heard,
): Promise<string | undefined> {
  return each(from, base, places, heard, async (piece, offset) => {
    if (holes && piece.equals(ZEROS.subarray(0, piece.length))) return;
    let written = 0;
    while (written < piece.length) {
      const at = start + offset + written;
      written += (await to.write(piece, written, piece.length - written, at)).bytesWritten;
    }
  });
}

/** The digest of what a device holds at these places. */
export async function digestOf(path: string, places: readonly Place[], heard: Heard): Promise<string | undefined> {
  const file = await open(path, 'r');
  try {
    return await each(file, 0, places, heard, async () => undefined);
  } finally {
    await file.close();
  }
}

async function each(
  from: FileHandle,
  base: number,
  places: readonly Place[],
  heard: Heard,
  take: (piece: Buffer, offset: number) => Promise<void>,
): Promise<string | undefined> {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(Math.min(PIECE, Math.max(0, ...places.map(({ size }) => size))));
  for (const { start, size } of places) {
    let done = 0;
    while (done < size) {
      const { bytesRead } = await from.read(buffer, 0, Math.min(PIECE, size - done), base + start + done);
      if (bytesRead === 0) throw new BulkhaulError('USAGE', `it ends ${size - done} bytes early`);
      const piece = buffer.subarray(0, bytesRead);
      hash.update(piece);
      await take(piece, start + done);
      done += bytesRead;
      if (heard(bytesRead)) return undefined;
    }
  }
  return hash.digest('hex');
}
