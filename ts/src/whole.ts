/**
 * Files that are written as a whole.
 *
 * Comes in: a path and a text; goes out: the file with it. Whoever reads the file meanwhile sees its old content or all of the new.
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  fchmodSync,
  fchownSync,
  fsyncSync,
  openSync,
  realpathSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fromBytes, toBytes } from './names.js';

/**
 * Replaces a file, which keeps its mode and for root its owner, also behind a symlink, which stays; what is no regular file is
 * written into. `parts`: the text; `durable`: it is on disk then. Throws what the file system says, and the file is as it was.
 */
export function writeWhole(path: string, parts: Iterable<string>, durable = true): void {
  const there = statSync(toBytes(path), { throwIfNoEntry: false });
  if (there === undefined || there.isFile()) {
    const real = there ? fromBytes(realpathSync.native(toBytes(path), { encoding: 'buffer' })) : path;
    replace(real, there, parts, durable);
    return;
  }
  const file = openSync(toBytes(path), 'w');
  try {
    for (const part of parts) writeFileSync(file, part);
  } finally {
    closeSync(file);
  }
}

function replace(path: string, there: Stats | undefined, parts: Iterable<string>, durable: boolean): void {
  // Who takes all files of one ending, as node_exporter does, does not take it.
  const temporary = toBytes(join(dirname(path), `.${randomBytes(8).toString('hex')}.new`));
  const file = openSync(temporary, 'wx');
  try {
    try {
      if (there && process.getuid?.() === 0) fchownSync(file, there.uid, there.gid);
      if (there) fchmodSync(file, there.mode & 0o7777);
      for (const part of parts) writeFileSync(file, part);
      if (durable) fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, toBytes(path));
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}
