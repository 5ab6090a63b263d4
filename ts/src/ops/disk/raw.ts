/**
 * Bytes of a disk as they are: where there is nothing else to go by.
 *
 * Comes in: an open file or device and a place in it; goes out: the same bytes in another, with their digest.
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
 * Copies bytes; undefined: it was asked to stop. `holes`: zeros are not written, because they are there. Answers their
 * SHA-256 in hexadecimal digits.
 */
export function copyRaw(
  from: FileHandle,
  place: Place,
  to: FileHandle,
  start: number,
  holes: boolean,
  heard: Heard,
): Promise<string | undefined> {
  return each(from, place, heard, async (piece, offset) => {
    if (holes && piece.equals(ZEROS.subarray(0, piece.length))) return;
    let written = 0;
    while (written < piece.length) {
      const at = start + offset + written;
      written += (await to.write(piece, written, piece.length - written, at)).bytesWritten;
    }
  });
}

/** The digest of what a device holds. */
export async function digestOf(path: string, size: number, heard: Heard): Promise<string | undefined> {
  const file = await open(path, 'r');
  try {
    return await each(file, { start: 0, size }, heard, async () => undefined);
  } finally {
    await file.close();
  }
}

async function each(
  from: FileHandle,
  { start, size }: Place,
  heard: Heard,
  take: (piece: Buffer, offset: number) => Promise<void>,
): Promise<string | undefined> {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(Math.min(PIECE, size));
  let done = 0;
  while (done < size) {
    const { bytesRead } = await from.read(buffer, 0, Math.min(PIECE, size - done), start + done);
    if (bytesRead === 0) throw new BulkhaulError('USAGE', `it ends ${size - done} bytes early`);
    const piece = buffer.subarray(0, bytesRead);
    hash.update(piece);
    await take(piece, done);
    done += bytesRead;
    if (heard(bytesRead)) return undefined;
  }
  return hash.digest('hex');
}
