/**
 * Partition tables: one that is sound, and where its partitions go on another disk.
 *
 * Comes in: an open disk; goes out: its table, or why that can't be trusted. And from a table and sizes, places: pure.
 */
import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { BulkhaulError } from '../../error.js';
import { toBytes } from '../../names.js';
import type { Blockdev, Partition, PartitionTable } from '../../native/blockdev.js';
import type { Place } from './attach.js';

const MIB = 2 ** 20;
/** Bytes of a sector of a file, where nothing says otherwise. */
const SECTOR = 512;

/** A disk that is one file system from its beginning has no table. */
export type Sound = PartitionTable | undefined;

/**
 * The table of a disk of `size` bytes; of a file that has one of 4096-byte sectors that one. Throws `USAGE` where it is
 * damaged, or says what can't be.
 */
export async function soundTable(
  blockdev: Blockdev,
  path: string,
  file: FileHandle,
  size: number,
  sectorSize: number | undefined,
): Promise<Sound> {
  // What is less than a sector holds none, and the library does not open it.
  const read = async (sector: number) =>
    size < (sector || SECTOR) ? undefined : blockdev.readTable(toBytes(path), sector);
  let table = await read(sectorSize ?? 0);
  const protective = table?.label === 'dos' && table.partitions.some(({ type }) => type === 'ee');
  if (sectorSize === undefined && (table === undefined || protective)) {
    const larger = await read(4096);
    if (larger?.label === 'gpt') table = larger;
  }
  if (table === undefined) return undefined;
  const refuse = (why: string) => {
    throw new BulkhaulError('USAGE', `the partition table of ${path} is damaged: ${why}`);
  };
  if (table.label === 'dos' && table.partitions.some(({ type }) => type === 'ee')) refuse('its GPT is missing');
  if (table.label === 'gpt') {
    const why = await damage(file, table.sectorSize, size);
    if (why !== undefined) refuse(why);
  }
  let before: Partition | undefined;
  for (const each of byStart(table.partitions)) {
    if (each.start + each.size > size) refuse(`partition ${each.number} goes on after the end of the disk`);
    if (before && before.start + before.size > each.start) {
      refuse(`partitions ${before.number} and ${each.number} overlap`);
    }
    if (!each.container) before = each;
  }
  return table;
}

/** What is wrong with a GPT or its copy: the library takes either for both. */
async function damage(file: FileHandle, sector: number, size: number): Promise<string | undefined> {
  const read = async (at: number, length: number) => (await file.read(Buffer.alloc(length), 0, length, at)).buffer;
  const wrong = async (at: number) => {
    const header = await read(at, sector);
    if (header.toString('latin1', 0, 8) !== 'EFI PART') return 'is missing';
    const length = header.readUInt32LE(12);
    if (length < 92 || length > sector) return 'has a header of no length that can be';
    const sum = header.readUInt32LE(16);
    header.writeUInt32LE(0, 16);
    if (crc32(header.subarray(0, length)) !== sum) return 'has a header with another checksum';
    const entries = header.readUInt32LE(80) * header.readUInt32LE(84);
    if (entries > MIB) return 'has more entries than can be';
    const from = Number(header.readBigUInt64LE(72)) * sector;
    if (crc32(await read(from, entries)) !== header.readUInt32LE(88)) return 'has entries with another checksum';
    return undefined;
  };
  const first = await wrong(sector);
  if (first !== undefined) return `its GPT ${first}`;
  const copy = Number((await read(sector, sector)).readBigUInt64LE(32)) * sector;
  const second = copy + sector > size ? 'is missing' : await wrong(copy);
  return second === undefined ? undefined : `the copy of its GPT ${second}`;
}

/** Types in an MBR: none, and what stands for all of a GPT. */
const NO_PARTITION = [0, 0xee];

/** Whether the MBR before a GPT names partitions, too, for who knows no GPT. */
export async function isHybrid(file: FileHandle, { label }: Pick<PartitionTable, 'label'>): Promise<boolean> {
  if (label !== 'gpt') return false;
  const { buffer } = await file.read(Buffer.alloc(512), 0, 512, 0);
  return [450, 466, 482, 498].some((at) => !NO_PARTITION.includes(buffer.readUInt8(at)));
}

const byStart = (partitions: readonly Partition[]) => [...partitions].sort((a, b) => a.start - b.start);

/** A logical partition lies in the container of a table of the kind `dos`. */
const isLogical = (table: PartitionTable, { number }: Partition) => table.label === 'dos' && number > 4;

const aligned = (bytes: number) => Math.ceil(bytes / MIB) * MIB;

/**
 * Where partitions go that have `sizes`, by their numbers: at the same places as before for as long as none of them has
 * another size, then one behind the other.
 */
export function layOut(table: PartitionTable, sizes: ReadonlyMap<number, number>): Map<number, Place> {
  const places = new Map<number, Place>();
  let cursor = 0;
  let moved = false;
  const put = (partition: Partition, from: number, size = sizes.get(partition.number) ?? partition.size) => {
    const start = moved ? aligned(from) : partition.start;
    if (size !== partition.size) moved = true;
    places.set(partition.number, { start, size });
    cursor = start + size;
  };
  for (const each of byStart(table.partitions.filter((partition) => !isLogical(table, partition)))) {
    if (!each.container) {
      put(each, cursor);
      continue;
    }
    const start = moved ? aligned(cursor) : each.start;
    const [first, ...others] = byStart(table.partitions.filter((partition) => isLogical(table, partition)));
    const before = moved;
    cursor = start;
    // Before each lies its own small table.
    for (const logical of first ? [first, ...others] : []) put(logical, cursor + MIB);
    const changed = moved && !(before && first === undefined);
    places.set(each.number, { start, size: changed ? cursor - start : each.size });
    cursor = start + (places.get(each.number)?.size ?? each.size);
  }
  return places;
}

/** Bytes of an entry of a GPT. */
const ENTRY = 128;

/** Bytes that a table takes at the end of its disk. */
export function tail({ label, sectorSize, entries }: Pick<PartitionTable, 'label' | 'sectorSize' | 'entries'>): number {
  return label === 'gpt' ? Math.ceil((entries * ENTRY) / sectorSize) * sectorSize + sectorSize : 0;
}

/** Sectors that a table of the kind `dos` can count. */
const COUNTED = 2 ** 32;

/** Where the last partition has to end. */
export const limit = ({ label, sectorSize }: Pick<PartitionTable, 'label' | 'sectorSize'>) =>
  label === 'dos' ? COUNTED * sectorSize : Number.POSITIVE_INFINITY;

/** Sizes asked for, in bytes: the greatest for the largest partition, and so on. More of them than partitions throws `USAGE`. */
export function resized(table: PartitionTable, sizes: readonly number[]): Map<number, number> {
  const largest = table.partitions.filter(({ container }) => !container).sort((a, b) => b.size - a.size);
  if (sizes.length > largest.length) {
    throw new BulkhaulError('USAGE', `${sizes.length} sizes are given, and there are ${largest.length} partitions`);
  }
  const descending = [...sizes].sort((a, b) => b - a);
  return new Map(descending.map((size, index) => [largest[index]?.number ?? 0, aligned(size)]));
}

/** An identity that is nobody's, always the same for the same words. */
export function throwaway(...words: readonly string[]): string {
  const digits = createHash('sha256').update(JSON.stringify(words)).digest('hex').toUpperCase();
  // Version 4, as of a random one.
  return `${digits.slice(0, 8)}-${digits.slice(8, 12)}-4${digits.slice(13, 16)}-A${digits.slice(17, 20)}-${digits.slice(20, 32)}`;
}
