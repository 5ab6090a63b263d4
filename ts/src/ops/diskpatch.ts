/**
 * What a patch of a whole disk says beside the lists of its file systems: the table of the disk, and areas of bytes.
 *
 * Comes in: texts and open disks; goes out: rows, what a disk is, and why a disk can't take a patch. Nothing of a patch is
 * believed: an area is exactly as long as the table says, and belongs to a partition that is one.
 */
import type { FileHandle } from 'node:fs/promises';
import { BulkhaulError } from '../error.js';
import type { Blockdev, Partition, PartitionTable, Signature } from '../native/blockdev.js';
import { attached, type Place } from './disk/attach.js';
import { KINDS } from './disk/filesystem.js';
import { must } from './disk/program.js';
import { digestOf } from './disk/raw.js';
import { BOOT_CODE } from './patch.js';

const HEAD = '#hpcp-disk\t1\n#kind\tnumber\tfield\told\tnew\n';
const FIELDS = [
  ...(['kind', 'type_guid', 'unique_guid', 'name', 'attrs', 'size', 'fs_type', 'fs_uuid', 'fs_label'] as const),
  'fs_params',
] as const;
type Field = (typeof FIELDS)[number];

/** `fs`: its files are compared; `raw`: its bytes; `swap`: nothing of it. */
export type PartKind = 'fs' | 'swap' | 'raw';

/** A partition as a patch knows it; all of it is text. */
export type PartFacts = Record<Field, string>;

/** A disk as a patch knows it. */
export interface DiskFacts {
  guid: string;
  sectorSize: number;
  parts: ReadonlyMap<number, PartFacts>;
}

/** Both sides of a patch. */
export interface DiskTable {
  old: DiskFacts;
  new: DiskFacts;
}

/** What a disk is. `kind`: how a partition is compared. */
export async function factsOf(
  blockdev: Blockdev,
  file: FileHandle,
  { id, sectorSize, partitions }: PartitionTable,
  kind: (partition: Partition, found: Signature | undefined) => PartKind,
): Promise<DiskFacts> {
  const parts = new Map<number, PartFacts>();
  for (const partition of partitions) {
    const found = await blockdev.probe(file.fd, partition.start, partition.size).catch(() => undefined);
    parts.set(partition.number, {
      kind: kind(partition, found),
      type_guid: partition.type,
      unique_guid: partition.uuid,
      name: partition.name,
      attrs: partition.attributes.toString(16).toUpperCase().padStart(16, '0'),
      size: String(partition.size),
      fs_type: found?.type ?? '',
      fs_uuid: found?.uuid ?? '',
      fs_label: found?.label ?? '',
      fs_params: '',
    });
  }
  return { guid: id, sectorSize, parts };
}

/** Why no patch leads from one disk to the other; empty: one does. */
export function mismatches(old: DiskFacts, other: DiskFacts): string[] {
  const problems: string[] = [];
  if (old.sectorSize !== other.sectorSize) problems.push(`sectors of ${old.sectorSize} and ${other.sectorSize} bytes`);
  const numbers = ({ parts }: DiskFacts) => [...parts.keys()].sort((a, b) => a - b).join();
  if (numbers(old) !== numbers(other)) return [...problems, `partitions ${numbers(old)} and ${numbers(other)}`];
  for (const [number, is] of other.parts) {
    const was = old.parts.get(number);
    for (const field of ['type_guid', 'fs_type'] as const) {
      if (was?.[field].toLowerCase() === is[field].toLowerCase()) continue;
      problems.push(`partition ${number}: ${field} ${was?.[field] || 'none'} and ${is[field] || 'none'}`);
    }
    if ((is.kind === 'raw' || was?.kind === 'raw') && was?.size !== is.size) {
      problems.push(`partition ${number} is compared by its bytes, and has ${was?.size} and ${is.size}`);
    }
  }
  return problems;
}

const ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '\t': '\\t', '\n': '\\n', '\r': '\\r' };
const escaped = (text: string) => text.replace(/[\\\t\n\r]/g, (each) => ESCAPES[each] ?? each);

/** The text of `disk.tsv`. */
export function tableText({ old, new: now }: DiskTable): string {
  const rows = [
    ['disk', '-', 'guid', old.guid, now.guid],
    ['disk', '-', 'sector_size', String(old.sectorSize), String(now.sectorSize)],
  ];
  for (const [number, is] of [...now.parts].sort(([a], [b]) => a - b)) {
    const was = old.parts.get(number);
    for (const field of FIELDS) {
      rows.push(['part', String(number), field, field === 'kind' ? is.kind : (was?.[field] ?? ''), is[field]]);
    }
  }
  return HEAD + rows.map((row) => `${row.map(escaped).join('\t')}\n`).join('');
}

/** Both sides, from the text of `disk.tsv`; a text: why it is none. */
export function parseTable(text: string): DiskTable | string {
  const [head = '', ...lines] = text.split('\n');
  if (!/^#hpcp-disk\t1$/.test(head)) return 'it is of another version';
  const sides = {
    old: { guid: '', sectorSize: 0, parts: new Map<number, Partial<PartFacts>>() },
    new: { guid: '', sectorSize: 0, parts: new Map<number, Partial<PartFacts>>() },
  };
  for (const line of lines) {
    if (line === '' || line.startsWith('#')) continue;
    const fields = line.split('\t').map(unescaped);
    const [kind, number = '', field = '', old, now] = fields;
    if (fields.length !== 5 || old === undefined || now === undefined) return 'a row has not five fields';
    for (const [side, value] of [
      [sides.old, old],
      [sides.new, now],
    ] as const) {
      if (kind === 'disk' && number === '-' && field === 'guid') side.guid = value;
      else if (kind === 'disk' && number === '-' && field === 'sector_size') side.sectorSize = Number(value);
      else if (kind === 'part' && /^[1-9]\d{0,2}$/.test(number) && isField(field)) {
        const part: Partial<PartFacts> = side.parts.get(Number(number)) ?? {};
        if (part[field] !== undefined) return `partition ${number} has two rows for ${field}`;
        part[field] = value;
        side.parts.set(Number(number), part);
      } else return `a row is of no known kind: ${kind} ${number} ${field}`;
    }
  }
  for (const [number, is] of sides.new.parts) {
    const missing = FIELDS.find((field) => is[field] === undefined);
    if (missing) return `partition ${number} has no ${missing}`;
    const was = sides.old.parts.get(number);
    if (is.kind !== was?.kind) return `partition ${number} would change its kind`;
    if (is.kind !== 'fs' && is.kind !== 'swap' && is.kind !== 'raw') return `partition ${number} is of no known kind`;
  }
  return sides as DiskTable;
}

const isField = (field: string): field is Field => (FIELDS as readonly string[]).includes(field);

function unescaped(field: string): string {
  const back: Readonly<Record<string, string>> = { '\\': '\\', t: '\t', n: '\n', r: '\r' };
  return field.replace(/\\(.)/gs, (_, letter: string) => back[letter] ?? letter);
}

/** The SHA-256 of a range, as the medium gives it. */
export function rangeDigest(blockdev: Blockdev, file: FileHandle, place: Place): Promise<string | undefined> {
  return attached(blockdev, file.fd, place, { write: false, direct: true }, (path) =>
    digestOf(path, [{ start: 0, size: place.size }], () => false),
  );
}

/** The SHA-256 of the boot code. */
export async function bootCodeOf(file: FileHandle): Promise<Buffer> {
  return (await file.read(Buffer.alloc(BOOT_CODE), 0, BOOT_CODE, 0)).buffer;
}

/** Gives a file system, or swap, another identity, another label, or both. */
export async function identify(type: string, device: string, uuid?: string, label?: string): Promise<void> {
  const none = (what: string): never => {
    throw new BulkhaulError('USAGE', `nothing here gives ${type} another ${what}`);
  };
  if (type === 'swap') {
    await must('swaplabel', [...(uuid ? ['-U', uuid] : []), ...(label === undefined ? [] : ['-L', label]), device]);
    return;
  }
  if (uuid !== undefined) {
    if (type === 'xfs') await must('xfs_admin', ['-U', uuid, device]);
    else await (KINDS[type]?.identify ?? (() => none('UUID')))(device, uuid);
  }
  if (label === undefined) return;
  if (/^ext[234]$/.test(type)) await must('e2label', [device, label]);
  else if (type === 'xfs') await must('xfs_admin', ['-L', label === '' ? '--' : label, device]);
  else if (type === 'btrfs') await must('btrfs', ['filesystem', 'label', device, label]);
  else none('label');
}
