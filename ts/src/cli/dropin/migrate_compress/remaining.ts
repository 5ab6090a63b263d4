/**
 * What of a directory is still to be copied: everything but files that are known to be there, written down as a list of names.
 *
 * Comes in: a directory of the source, and who knows what is there; goes out: the path of the list, or nothing where all is to be
 * copied. Names are bytes; what can't be listed is left to the copy, which tells it.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  type BigIntStats,
  closeSync,
  createReadStream,
  lstatSync,
  openSync,
  readdirSync,
  statSync,
  writeSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { fromBytes, toBytes } from '../../../names.js';
import { PROGRAM } from '../../run.js';
import type { FileRecord } from './state.js';

/** Whether a regular file is there, by its path relative to the source. */
export type Known = (path: string, stat: BigIntStats) => boolean | Promise<boolean>;

const SLASH = Buffer.from('/');
const END = Buffer.of(0);
const BLOCK = 1 << 18;

/** Writes the names below `root` that are not known into `list`, each ended by NUL; how many files are left out. `names`: the entries of `root` to be looked at. */
export async function listRemaining(
  root: string,
  names: readonly string[],
  list: string,
  known: Known,
): Promise<number> {
  const file = openSync(toBytes(list), 'wx', 0o600);
  const base = Buffer.concat([toBytes(root), SLASH]);
  let left = 0;
  try {
    const waiting = names.map(toBytes).reverse();
    for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
      const whole = Buffer.concat([base, path]);
      const stat = lstatSync(whole, { bigint: true, throwIfNoEntry: false });
      if (stat?.isFile() && (await known(fromBytes(path), stat))) {
        left++;
        continue;
      }
      writeSync(file, Buffer.concat([path, END]));
      if (!stat?.isDirectory()) continue;
      try {
        const entries = readdirSync(whole, { encoding: 'buffer' }).sort(Buffer.compare).reverse();
        const parent = path;
        waiting.push(...entries.map((name) => Buffer.concat([parent, SLASH, name])));
      } catch {
        // The copy fails there too, and says so.
      }
    }
  } finally {
    closeSync(file);
  }
  return left;
}

/** What records of a state say: the archive is as it was made, and the file has not changed since. */
export function knownBy(records: readonly FileRecord[], dest: string): Known {
  const root = `${dest}/`;
  const done = new Map<string, FileRecord>();
  for (const record of records) {
    const path = String(record.source_path);
    if ((record.status === 'verified' || record.status === 'compressed') && path.startsWith(root)) {
      done.set(path.slice(root.length), record);
    }
  }
  return (path, stat) => {
    const record = done.get(path);
    if (record === undefined || BigInt(record.original_size) !== stat.size) return false;
    const archive = lstatSync(toBytes(record.dest_path), { bigint: true, throwIfNoEntry: false });
    // Ours has the time of the file; the original's the one when it was made.
    return (
      archive?.isFile() === true && archive.size === BigInt(record.compressed_size) && archive.mtimeNs >= stat.mtimeNs
    );
  };
}

/** What is below another directory with the same content: the file itself, or its archive, gzip or xz. */
export function knownIn(source: string, directory: string): Known {
  return async (path, stat) => {
    const own = toBytes(`${source}/${path}`);
    const other = toBytes(`${directory}/${path}`);
    const there = statSync(other, { bigint: true, throwIfNoEntry: false });
    if (there?.isFile() && there.size === stat.size) {
      const equal = await isSame(own, (compare) => pipeline(createReadStream(other), compare));
      if (equal) return true;
    }
    for (const [suffix, unpack] of UNPACKERS) {
      const archive = `${directory}/${path}${suffix}`;
      const isFile = statSync(toBytes(archive), { throwIfNoEntry: false })?.isFile();
      if (isFile && (await isSame(own, (compare) => unpack(archive, compare)))) return true;
    }
    return false;
  };
}

/** How the content of an archive is read, by what its name ends with. Damage throws. */
const UNPACKERS: readonly [string, (archive: string, compare: Compare) => Promise<void>][] = [
  ['.gz', (archive, compare) => pipeline(createReadStream(toBytes(archive)), createGunzip(), compare)],
  ['.xz', unpacked],
];

/** The content of an archive that Node.js does not read, by a run of our own. */
async function unpacked(archive: string, compare: Compare): Promise<void> {
  // No argument can have it: then it counts as not there.
  if (!Buffer.from(archive).equals(toBytes(archive))) throw new Error('a name that is not UTF-8');
  const [node, ...main] = PROGRAM;
  const child = spawn(node, [...main, 'decompress', '-c', '--quiet', '--', archive], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const ended = once(child, 'close');
  await pipeline(child.stdout, compare);
  const [code] = await ended;
  if (code !== 0) throw new Error(`${archive} can't be read`);
}

type Compare = (content: AsyncIterable<Buffer>) => Promise<void>;

/** Whether a file has the bytes that are read into a comparison, and no others. What can't be read is not the same. */
async function isSame(path: Buffer, read: (compare: Compare) => Promise<void>): Promise<boolean> {
  const file = await open(path).catch(() => undefined);
  if (file === undefined) return false;
  const buffer = Buffer.allocUnsafe(BLOCK);
  let at = 0;
  let equal = true;
  const compare: Compare = async (content) => {
    for await (const chunk of content) {
      for (let done = 0; equal && done < chunk.length; ) {
        const { bytesRead } = await file.read(buffer, 0, Math.min(BLOCK, chunk.length - done), at);
        equal = bytesRead > 0 && buffer.subarray(0, bytesRead).equals(chunk.subarray(done, done + bytesRead));
        done += bytesRead;
        at += bytesRead;
      }
      if (!equal) return;
    }
    equal = (await file.read(buffer, 0, 1, at)).bytesRead === 0;
  };
  try {
    await read(compare);
    return equal;
  } catch {
    return false;
  } finally {
    await file.close();
  }
}
