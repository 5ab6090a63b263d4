/**
 * A file system that others write to, as it is at one moment.
 *
 * Comes in: the root of a btrfs, and where it is mounted; goes out: a snapshot of it that nobody writes to, for as long as it
 * is used. It lies in that root, under a name of its own, is locked while somebody uses it, and goes in the end; what a dead
 * run has left goes with the next one.
 */
import { randomBytes } from 'node:crypto';
import { type BigIntStats, constants } from 'node:fs';
import { type FileHandle, open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { BulkhaulError } from '../../error.js';
import { toBytes } from '../../names.js';
import { loadAddon } from '../../native.js';
import type { MountedRoot } from './attach.js';
import { must } from './program.js';

/** What the names of snapshots begin with. */
export const SNAPSHOT = '.bulkhaul-snapshot-';

/** A snapshot. */
export interface Snapshot {
  root: MountedRoot;
  /** Takes it away. */
  remove(): Promise<void>;
}

/** Makes one. Throws `USAGE` with what btrfs says, as where nobody may write, and where `live` does not lead to `root`. */
export async function snapshotOf(root: MountedRoot, live: string): Promise<Snapshot> {
  const before = await rootAt(live);
  const { dev, ino } = await rootAt(root.directory);
  // btrfs takes away only what it finds by its path.
  if (before.dev !== dev || before.ino !== ino) throw new BulkhaulError('USAGE', 'another mount hides it');
  await sweep(live);
  const name = `${SNAPSHOT}${randomBytes(8).toString('hex')}`;
  await must('btrfs', ['-q', 'subvolume', 'snapshot', '-r', live, join(live, name)]);
  const { mtimeNs } = await rootAt(live);
  const lock = await held(join(live, name));
  const remove = async () => {
    await lock?.close();
    const untouched = (await rootAt(live)).mtimeNs === mtimeNs;
    await removed(join(live, name));
    // Nothing but the snapshot has come and gone.
    if (untouched) await must('touch', ['-m', '-d', `@${seconds(before)}`, live]);
  };
  return { root: { ...root, directory: join(root.directory, name) }, remove };
}

const rootAt = (path: string): Promise<BigIntStats> => stat(toBytes(path), { bigint: true });

const seconds = ({ mtimeNs }: BigIntStats) => {
  const digits = String(mtimeNs).padStart(10, '0');
  return `${digits.slice(0, -9)}.${digits.slice(-9)}`;
};

const removed = (path: string) => must('btrfs', ['-q', 'subvolume', 'delete', path]);

/** Takes away those that nobody uses. */
async function sweep(live: string): Promise<void> {
  for (const name of await readdir(toBytes(live))) {
    if (!name.startsWith(SNAPSHOT)) continue;
    const lock = await held(join(live, name));
    await lock?.close();
    if (lock) await removed(join(live, name));
  }
}

/** Holds a snapshot; undefined: somebody has it. */
async function held(path: string): Promise<FileHandle | undefined> {
  const file = await open(toBytes(path), constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  if ((await loadAddon()).lockDescriptor(file.fd) !== false) return file;
  await file.close();
  return undefined;
}
