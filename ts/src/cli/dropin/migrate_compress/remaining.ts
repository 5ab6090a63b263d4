/**
 * What of a directory is still to be copied: everything but files that are known to be there, written down as a list of names.
 *
 * Comes in: a directory of the source, and who knows what is there; goes out: the path of the list, or nothing where all is to be
 * copied. Names are bytes; what can't be listed is left to the copy, which tells it.
 */
import { type BigIntStats, closeSync, lstatSync, openSync, readdirSync, writeSync } from 'node:fs';
import { fromBytes, toBytes } from '../../../names.js';
import type { FileRecord } from '../state.js';

/** Whether a regular file is there, by its path relative to the source. */
export type Known = (path: string, stat: BigIntStats) => boolean;

const SLASH = Buffer.from('/');
const END = Buffer.of(0);

/** Writes the names below `root` that are not known into `list`, each ended by NUL; how many files are left out. `names`: the entries of `root` to be looked at. */
export function listRemaining(root: string, names: readonly string[], list: string, known: Known): number {
  const file = openSync(toBytes(list), 'wx', 0o600);
  const base = Buffer.concat([toBytes(root), SLASH]);
  let left = 0;
  try {
    const waiting = names.map(toBytes).reverse();
    for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
      const whole = Buffer.concat([base, path]);
      const stat = lstatSync(whole, { bigint: true, throwIfNoEntry: false });
      if (stat?.isFile() && known(fromBytes(path), stat)) {
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

/** What records of a state say: the archive is as it was made and alone, and the file has not changed since. */
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
    // What lies beside its archive is to go, for which that is proved.
    if (lstatSync(toBytes(`${root}${path}`), { throwIfNoEntry: false })?.isFile()) return false;
    const archive = lstatSync(toBytes(record.dest_path), { bigint: true, throwIfNoEntry: false });
    // Ours has the time of the file; the original's the one when it was made.
    return (
      archive?.isFile() === true && archive.size === BigInt(record.compressed_size) && archive.mtimeNs >= stat.mtimeNs
    );
  };
}

/** What a comparison found to be there with the same content, by whole paths of a source. */
export const knownAs =
  (source: string, same: ReadonlySet<string>): Known =>
  (path) =>
    same.has(`${source}/${path}`);
