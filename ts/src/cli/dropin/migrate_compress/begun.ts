/**
 * Files in the destination for which an archive has been proved: what an earlier copy left of them.
 *
 * Comes in: a file of the destination and the one of the source that it is of; goes out: whether it went. It goes only where
 * every byte of it is in the source at the same place, so that nothing is lost; and never where both are one name.
 */
import type { BigIntStats } from 'node:fs';
import { lstatSync, statSync, unlinkSync } from 'node:fs';
import { constants, type FileHandle, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { toBytes } from '../../../names.js';

/** Bytes that are compared at once. */
const CHUNK = 1 << 20;

/** Removes a file that is all of another, or its beginning: what a copy that was interrupted leaves. Throws what keeps it from that. */
export async function removeBegun(path: string, source: string): Promise<boolean> {
  const there = lstatSync(toBytes(path), { bigint: true, throwIfNoEntry: false });
  if (!there?.isFile() || isSame(directoryOf(path), directoryOf(source))) return false;
  if (!(await begins(path, source))) return false;
  const now = lstatSync(toBytes(path), { bigint: true, throwIfNoEntry: false });
  if (now === undefined || !isSame(there, now) || now.size !== there.size || now.mtimeNs !== there.mtimeNs)
    return false;
  unlinkSync(toBytes(path));
  return true;
}

const directoryOf = (path: string) => statSync(toBytes(dirname(path)), { bigint: true });
const isSame = (one: BigIntStats, other: BigIntStats) => one.dev === other.dev && one.ino === other.ino;

/** Whether the content of a file begins with all of another's. */
async function begins(beginning: string, whole: string): Promise<boolean> {
  const files: FileHandle[] = [];
  try {
    for (const path of [beginning, whole]) {
      files.push(await open(toBytes(path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK));
    }
    const [one, other] = files as [FileHandle, FileHandle];
    if (!(await other.stat()).isFile()) return false;
    const [held, against] = [Buffer.allocUnsafe(CHUNK), Buffer.allocUnsafe(CHUNK)];
    for (let at = 0; ; ) {
      const { bytesRead } = await one.read(held, 0, CHUNK, at);
      if (bytesRead === 0) return true;
      for (let read = 0; read < bytesRead; ) {
        const more = await other.read(against, read, bytesRead - read, at + read);
        if (more.bytesRead === 0) return false;
        read += more.bytesRead;
      }
      if (held.compare(against, 0, bytesRead, 0, bytesRead) !== 0) return false;
      at += bytesRead;
    }
  } finally {
    for (const file of files) await file.close();
  }
}
