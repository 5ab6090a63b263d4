/**
 * What is on disks and in images: tables, partitions, file systems, identities, and how full they are; and whether it is
 * sound.
 *
 * Comes in: a path; goes out: facts. Nothing is written, and nothing is mounted at any place.
 */
import { open, stat, statfs } from 'node:fs/promises';
import { BulkhaulError, whyOf } from '../error.js';
import { display, toBytes } from '../names.js';
import { loadBlockdev, type Partition, type Signature } from '../native/blockdev.js';
import { attached, closed, mountedAt } from './disk/attach.js';
import * as devices from './disk/device.js';
import { KINDS } from './disk/filesystem.js';
import { has } from './disk/program.js';
import { soundTable } from './disk/table.js';
import { errand } from './errand.js';
import type { Job } from './job.js';
import type { Ledger } from './transfer/ledger.js';

/** How full a file system is. */
export interface Fill {
  /** Bytes for files, and how many of them have some. */
  size: number;
  used: number;
  /** Absent: it makes inodes as it needs them. */
  inodes?: number;
  usedInodes?: number;
}

/** A file system, or what else is there. */
export interface Volume {
  /** Absent: it is the whole image. */
  number?: number;
  start: number;
  size: number;
  /** Of the partition. */
  name?: string;
  partType?: string;
  partUuid?: string;
  attributes?: string;
  /** What it holds, as mount(8) names it; absent: nothing that is known. */
  type?: string;
  version?: string;
  label?: string;
  uuid?: string;
  fill?: Fill;
  /** Why nobody can tell how full it is. */
  unmounted?: string;
  /** Where it is mounted just now. */
  mounted?: string;
  /** Of a check: what its program said of it; empty: it is sound. */
  damage?: string;
  /** Of a check: why it was not checked. */
  unchecked?: string;
}

/** A disk or an image. */
export interface Inspected {
  path: string;
  size: number;
  sectorSize: number;
  /** `gpt` or `dos`; absent: it is one file system. */
  table?: string;
  id?: string;
  /** Of a table that can't be trusted: why. */
  damage?: string;
  volumes: Volume[];
}

/**
 * Looks at disks and images, and gives what is found of each to `tell`; `check`: has each file system checked. Each volume is
 * an entry, and so is a table that is damaged. Rejects with `NO_SOURCE` for what is not there, and `USAGE` for what is neither.
 */
export function inspectDisks(paths: readonly string[], check: boolean, tell: (found: Inspected) => Promise<void>): Job {
  return errand(async (ledger, signal) => {
    for (const path of paths) {
      if (signal.aborted) return;
      const found = await inspectDisk(path, check, signal);
      await book(found, check, ledger);
      await tell(found);
    }
  });
}

async function book({ path, damage: table, volumes }: Inspected, check: boolean, ledger: Ledger): Promise<void> {
  const damaged = (name: string, why: string) =>
    ledger.fail({
      ...{ type: 'error', kind: 'damaged', outcome: 'mismatched', operation: 'check', path: toBytes(name) },
      ...{ entryKind: 'block', message: `check ${name}: ${why}` },
    });
  if (table !== undefined) await damaged(path, table);
  for (const { number, damage, unchecked } of volumes) {
    const name = number === undefined ? path : `${path}, partition ${number}`;
    if (damage) await damaged(name, damage);
    else if (unchecked !== undefined) ledger.skip('unchecked', 'block');
    else {
      ledger.found.block += 1;
      const one = { all: 1, file: 0, directory: 0 };
      ledger.settle(check && damage !== undefined ? { same: one } : { listed: one });
    }
  }
}

async function inspectDisk(path: string, check: boolean, signal: AbortSignal): Promise<Inspected> {
  const blockdev = loadBlockdev(signal);
  const refuse = (why: string): never => {
    throw new BulkhaulError('USAGE', `${display(path)} can't be looked at: ${why}`);
  };
  const stats = await stat(toBytes(path)).catch((error: Error) => devices.missing(path, error, refuse));
  if (!stats.isFile() && !stats.isBlockDevice()) refuse('it is neither a file nor a block device');
  const file = await open(toBytes(path), 'r').catch((error: Error) => refuse(whyOf(error, path)));
  try {
    const size = await devices.sizeOf(stats);
    const sector = await devices.sectorOf(stats);
    const found: Inspected = { path, size, sectorSize: sector ?? 512, volumes: [] };
    const table = await soundTable(blockdev, path, file, size, sector).catch((error: Error) => {
      signal.throwIfAborted();
      found.damage = whyOf(error);
      return undefined;
    });
    const look = async (partition?: Partition): Promise<Volume> => {
      const place = { start: partition?.start ?? 0, size: partition?.size ?? size };
      const held = await blockdev.probe(file.fd, place.start, partition?.size ?? 0).catch(() => {
        signal.throwIfAborted();
        return undefined;
      });
      const volume: Volume = { ...place, ...(partition && partitionFacts(partition)), ...signatureFacts(held) };
      if (held?.usage !== 'filesystem') return volume;
      const how = { write: false, sectorSize: found.sectorSize === 512 ? 0 : found.sectorSize };
      const at = partition ?? { start: 0 };
      const [mount] = await devices.mountsOf(blockdev, await devices.devicesOf(path, stats, at));
      if (mount) volume.mounted = mount.target.toString();
      await mountedAt(blockdev, file.fd, held.type, place, how).then(
        async ({ descriptor, directory }) => {
          try {
            volume.fill = await fillOf(directory);
          } finally {
            await closed(descriptor);
          }
        },
        (error: Error) => {
          signal.throwIfAborted();
          volume.unmounted = whyOf(error);
        },
      );
      if (!check) return volume;
      const kind = KINDS[held.type];
      const missing = [];
      for (const tool of kind?.tools ?? []) if (!(await has(tool))) missing.push(tool);
      if (kind === undefined) volume.unchecked = `nothing here checks ${held.type}`;
      else if (mount) volume.unchecked = 'it is mounted';
      else if (missing.length > 0) volume.unchecked = `there is no ${missing.join(', ')}`;
      else {
        // What ended it has found nothing.
        const failed = (error: Error) => {
          signal.throwIfAborted();
          return whyOf(error);
        };
        const damageOf = (device: string) => kind.check(device, signal).then(() => '', failed);
        await attached(blockdev, file.fd, place, how, damageOf).then(
          (damage) => Object.assign(volume, { damage }),
          (error: Error) => Object.assign(volume, { unchecked: failed(error) }),
        );
      }
      return volume;
    };
    if (table === undefined) {
      if (found.damage === undefined) found.volumes.push(await look());
      return found;
    }
    Object.assign(found, { table: table.label, id: table.id, sectorSize: table.sectorSize });
    for (const partition of table.partitions) if (!partition.container) found.volumes.push(await look(partition));
    return found;
  } finally {
    await file.close();
  }
}

function partitionFacts({ number, name, type, uuid, attributes }: Partition): Partial<Volume> {
  return {
    ...{ number, partType: type },
    ...(name !== '' && { name }),
    ...(uuid !== '' && { partUuid: uuid }),
    ...(attributes !== 0n && { attributes: attributes.toString(16).padStart(16, '0') }),
  };
}

function signatureFacts(found: Signature | undefined): Partial<Volume> {
  if (found === undefined) return {};
  const { type, version, label, uuid } = found;
  const facts = { type, version, label, uuid };
  return Object.fromEntries(Object.entries(facts).filter(([, value]) => value !== ''));
}

async function fillOf(directory: string): Promise<Fill> {
  const { bsize, blocks, bfree, files, ffree } = await statfs(directory);
  // One that counts none says so with 0, or with a number that can't be.
  const inodes = files > 0 && Number.isSafeInteger(files) ? { inodes: files, usedInodes: files - ffree } : {};
  return { size: blocks * bsize, used: (blocks - bfree) * bsize, ...inodes };
}
