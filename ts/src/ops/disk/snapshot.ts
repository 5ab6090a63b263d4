/**
 * A file system, or a disk, that others write to, as it is at one moment.
 *
 * Comes in: the root of a btrfs, and where it is mounted, or a logical volume (LVM); goes out: a snapshot of it that nobody
 * writes to, for as long as it is used. It has a name of its own, and goes in the end; what a dead run has left goes with the
 * next one, and what somebody uses stays: one of btrfs is locked, one of LVM is open.
 */
import { randomBytes } from 'node:crypto';
import { type BigIntStats, constants, type Stats } from 'node:fs';
import { type FileHandle, open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { BulkhaulError } from '../../error.js';
import { toBytes } from '../../names.js';
import { loadAddon } from '../../native.js';
import type { MountedRoot } from './attach.js';
import { isLogicalVolume } from './device.js';
import { has, must } from './program.js';

/** What the names of snapshots begin with. */
export const SNAPSHOT = '.bulkhaul-snapshot-';
/** The same where no name may begin with a dot. */
const VOLUME_SNAPSHOT = SNAPSHOT.slice(1);
/** Room for what is written to a volume while its snapshot is used; when that is full, the snapshot can't be read any more. */
const CHANGED_MEANWHILE = '20%ORIGIN';

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

/** A logical volume that somebody uses. */
export interface Volume {
  group: string;
  name: string;
  /** Its snapshots take what room they need. */
  thin: boolean;
}

/** The logical volume that a path leads to; undefined: it is none, or nobody has it open. */
export async function volumeInUse(path: string, stats: Stats): Promise<Volume | undefined> {
  if (!(await isLogicalVolume(stats)) || !(await has('lvs'))) return undefined;
  const [[group = '', name = '', open = '', pool = ''] = []] = await lvs(
    'vg_name,lv_name,lv_device_open,pool_lv',
    path,
  );
  return open === 'open' ? { group, name, thin: pool !== '' } : undefined;
}

/** A snapshot of a volume. */
export interface VolumeSnapshot {
  path: string;
  /** Takes it away, when nothing of it is open. */
  remove(): Promise<void>;
}

/** Makes one. Throws `USAGE` with what LVM says, as where its group has no room. */
export async function snapshotOfVolume({ group, name, thin }: Volume): Promise<VolumeSnapshot> {
  for (const [left = ''] of await lvs('lv_name', '--select', `origin=${name}`, group)) {
    // One that is in use stays.
    if (left.startsWith(VOLUME_SNAPSHOT)) await volumeRemoved(`${group}/${left}`).catch(() => undefined);
  }
  const own = `${VOLUME_SNAPSHOT}${randomBytes(8).toString('hex')}`;
  const room = thin ? [] : ['--extents', CHANGED_MEANWHILE];
  const how = ['--yes', '--quiet', '--snapshot', '--setactivationskip', 'n', ...room];
  await must('lvcreate', [...how, '--name', own, `${group}/${name}`]);
  const [[path = ''] = []] = await lvs('lv_path', `${group}/${own}`);
  return { path, remove: () => volumeRemoved(`${group}/${own}`) };
}

const volumeRemoved = async (volume: string) => void (await must('lvremove', ['--yes', '--quiet', volume]));

/** Fields of logical volumes, a line for each. */
async function lvs(fields: string, ...which: string[]): Promise<string[][]> {
  const told = await must('lvs', ['--noheadings', '--separator', '|', '--options', fields, ...which]);
  return told.split('\n').flatMap((line) => (line.trim() === '' ? [] : [line.trim().split('|')]));
}
