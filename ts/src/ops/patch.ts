/**
 * Patches: what turns one tree into another, as an image of hpcp 9.79.
 *
 * Comes in: two trees, or the open volumes of a patch and a tree; goes out: an image that holds what is new or other in the
 * first tree, and the list of what is to be done; or a running `Job` that applies one. Of an image nothing is believed: what
 * it says is checked before anything is looked at by it, and nothing in it is reached through a link. A patch that was made
 * is applied, in a dry run, to the tree that it is for before it has its name.
 */
import { randomBytes } from 'node:crypto';
import { constants, createReadStream } from 'node:fs';
import { copyFile, type FileHandle, lstat, mkdir, open, writeFile } from 'node:fs/promises';
import { BulkhaulError, whyOf } from '../error.js';
import { display, toBytes } from '../names.js';
import { aliased } from '../native/alias.js';
import type { NativePatchOptions } from '../native/options.js';
import { loadAddon } from '../native.js';
import {
  boolean,
  call,
  common,
  each,
  type Fields,
  type Given,
  JOB,
  type JobOptions,
  path,
  pathBytes,
  RESOURCES,
  record,
  size,
  text,
} from './arguments.js';
import { begin, type Confirm, type Job } from './job.js';

/** Where a patch image keeps what it says of itself. */
export const OWN = '.hpcp_diff';
/** The newest format that is known here. */
const NEWEST = 3;
/** The patch of one tree; those of disks have several lists. */
const SECTION = ['root', '.', 'changes.tsv'] as const;
const MANIFEST_BYTES = 1 << 20;
/** Bytes in the first sector of a disk that are boot code. */
export const BOOT_CODE = 440;
const MOST_VOLUMES = 10_000;

/** A patch that is none, or that can't be applied here. */
export class PatchError extends BulkhaulError {
  constructor(
    readonly what: 'format' | 'incomplete' | 'layout',
    message: string,
  ) {
    super('USAGE', message);
  }
}

/** What a patch image says of itself. */
export interface PatchHead {
  id: string;
  /** This one, from 1, and how many there are. */
  volume: readonly [number, number];
  hash: 'xxh64' | 'blake2b';
  /** Bytes at the end of a file that are hashed; absent: all. */
  hashSize?: number;
  /** What the tree became, and what it was, by name. */
  names: readonly [string, string];
  /** It is one of a whole disk. */
  disk?: DiskParts;
}

/** What a patch of a disk consists of. */
export interface DiskParts {
  /** Partitions whose file systems change. */
  sections: readonly number[];
  raws: readonly RawArea[];
}

/** Bytes that change as a whole. */
export interface RawArea {
  /** `partN`, or `mbr` for the boot code. */
  name: string;
  /** SHA-256 in hexadecimal digits: of what is expected, and of what comes. */
  before: string;
  after: string;
  size: number;
}

/** Where the patch of a partition, or the bytes of an area, lie in a volume. */
export const sectionOf = (number: number) => [`part${number}`, `part${number}`, `part${number}.changes.tsv`] as const;
export const rawFileOf = ({ name }: Pick<RawArea, 'name'>) =>
  name === 'mbr' ? 'raw/mbr-bootcode.bin' : `raw/${name}.img`;
/** The table of a disk, beside the manifest. */
export const DISK_TABLE = 'disk.tsv';

/** The volumes of a patch, of which each is a directory. */
export interface Patch extends PatchHead {
  payloads: readonly string[];
  /** The list of what is to be done. */
  changes: string;
}

/** One of a tree. */
export type TreePatch = Omit<Patch, 'disk'>;

/** What the open volumes of a patch are together. `name`: for messages. Throws `PatchError`. */
export async function readPatch(volumes: readonly { directory: string; name: string }[]): Promise<Patch> {
  const heads = await Promise.all(volumes.map(({ directory, name }) => readHead(directory, name)));
  const [first] = heads;
  if (first === undefined) throw new PatchError('incomplete', 'there is no patch');
  const [, all] = first.volume;
  for (const [index, { id, volume }] of heads.entries()) {
    const name = display(volumes[index]?.name ?? '');
    if (id !== first.id || volume[1] !== all) throw new PatchError('incomplete', `${name} is of another patch`);
  }
  const missing = Array.from({ length: all }, (_, index) => index + 1).filter(
    (number) => !heads.some(({ volume }) => volume[0] === number),
  );
  if (missing.length > 0) {
    throw new PatchError('incomplete', `the patch has ${all} volumes, and these are missing: ${missing.join(', ')}`);
  }
  if (heads.length > all) throw new PatchError('incomplete', 'one volume is given more than once');
  const payloads = volumes.map(({ directory }) => directory);
  return { ...first, payloads, changes: `${payloads[0]}/${OWN}/${SECTION[2]}` };
}

/** Reads the manifest in a volume. Throws `PatchError`. */
async function readHead(directory: string, name: string): Promise<PatchHead> {
  const refuse = (why: string, what: PatchError['what'] = 'format'): never => {
    throw new PatchError(what, `${display(name)} is no patch that can be applied: ${why}`);
  };
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
  const own = await lstat(`${directory}/${OWN}`).catch(() => undefined);
  if (!own?.isDirectory()) return refuse(`it has no ${OWN}`);
  const list = await lstat(`${directory}/${OWN}/${SECTION[2]}`).catch(() => undefined);
  const file = await open(`${directory}/${OWN}/manifest`, O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch((error: Error) =>
    refuse(`its manifest can't be read: ${whyOf(error)}`),
  );
  let manifest: Manifest;
  try {
    const found = await file.stat();
    if (!found.isFile() || found.size > MANIFEST_BYTES) refuse('its manifest is none');
    manifest = parseManifest(await file.readFile('utf8')) ?? refuse('its manifest can not be understood');
  } finally {
    await file.close();
  }
  const { keys, sections } = manifest;
  const number = (key: string) => (/^\d{1,15}$/.test(keys.get(key) ?? '') ? Number(keys.get(key)) : undefined);
  const version = number('format_version');
  if (keys.get('format') !== 'hpcp-diff' || version === undefined || version < 1) refuse('it is of another format');
  if (Number(version) > NEWEST) refuse(`it is of version ${version}, and ${NEWEST} is the newest that is known here`);
  const disk = keys.get('layout') === 'disk' ? diskParts(manifest) : undefined;
  if (typeof disk === 'string') return refuse(disk);
  if (disk === undefined && (manifest.raws.length > 0 || keys.has('disk'))) refuse('it has areas of no disk');
  const plain = sections.length === 1 && sections[0]?.every((field, index) => field === SECTION[index]);
  if (disk === undefined && !plain) refuse('it has other lists than the one of a tree');
  if (disk === undefined && !list?.isFile()) refuse('its list of changes is missing');
  const id = keys.get('patch_id') ?? '';
  if (!/^[0-9a-f]{32}$/.test(id)) refuse('it has no patch_id');
  const [, k = '', n = ''] = /^(\d{1,5})\/(\d{1,5})$/.exec(keys.get('volume') ?? '') ?? [];
  const volume = [Number(k), Number(n)] as const;
  if (k === '' || volume[0] < 1 || volume[0] > volume[1] || volume[1] > MOST_VOLUMES) refuse('its volume is none');
  const hash = keys.get('hash_algo');
  if (hash !== 'xxh64' && hash !== 'blake2b') return refuse(`it is hashed with ${hash ?? 'nothing'}`);
  const hashSize = number('hash_size');
  const full = number('full_hash');
  if (full !== 1 && (full !== 0 || hashSize === undefined)) refuse('it does not say what is hashed');
  const names = [keys.get('new') ?? '', keys.get('base') ?? ''] as const;
  return {
    ...{ id, volume, hash, names },
    ...(full === 0 && hashSize !== undefined && { hashSize }),
    ...(disk && { disk }),
  };
}

/** What a manifest says of a disk; a text: why that can't be. */
function diskParts({ keys, sections, raws }: Manifest): DiskParts | string {
  if (keys.get('disk') !== DISK_TABLE) return 'it has no table of its disk';
  const numbers: number[] = [];
  for (const fields of sections) {
    const number = Number(/^part([1-9]\d{0,2})$/.exec(fields[0] ?? '')?.[1] ?? 0);
    if (number === 0 || numbers.includes(number) || fields.join() !== sectionOf(number).join()) {
      return 'it has a list that is of no partition';
    }
    numbers.push(number);
  }
  const areas: RawArea[] = [];
  for (const [name = '', file, before = '', after = '', size = '', ...more] of raws) {
    const known = /^(?:mbr|part[1-9]\d{0,2})$/.test(name) && !areas.some((area) => area.name === name);
    const digests = [before, after].every((digest) => /^[0-9a-f]{64}$/.test(digest));
    if (!known || !digests || !/^\d{1,15}$/.test(size) || more.length > 0 || file !== rawFileOf({ name })) {
      return 'it has an area of bytes that is none';
    }
    if (name === 'mbr' && size !== String(BOOT_CODE)) return 'its boot code has another size than boot code has';
    areas.push({ name, before, after, size: Number(size) });
  }
  return { sections: numbers, raws: areas };
}

/** The patch of one file system of a disk. */
export async function patchOfSection(patch: Patch, number: number): Promise<TreePatch> {
  const { disk: _, ...rest } = patch;
  const [, payload, changes] = sectionOf(number);
  const payloads: string[] = [];
  for (const volume of patch.payloads) {
    // One with nothing but removals has no files.
    const found = await lstat(`${volume}/${payload}`).catch(() => undefined);
    if (found?.isDirectory()) payloads.push(`${volume}/${payload}`);
  }
  const own = `${patch.payloads[0]}/${OWN}`;
  const list = await lstat(`${own}/${changes}`).catch(() => undefined);
  if (!list?.isFile()) throw new PatchError('format', `its list of changes of partition ${number} is missing`);
  return { ...rest, payloads: payloads.length > 0 ? payloads : [own], changes: `${own}/${changes}` };
}

/** Opens the table, or the bytes of an area, in the volumes of a patch; nothing is reached through a link. */
export async function openInPatch({ payloads }: Patch, directory: string, name: string): Promise<FileHandle> {
  for (const volume of payloads) {
    const above = await lstat(`${volume}/${directory}`).catch(() => undefined);
    const found = await lstat(`${volume}/${directory}/${name}`).catch(() => undefined);
    if (above?.isDirectory() && found?.isFile()) {
      return open(`${volume}/${directory}/${name}`, constants.O_RDONLY | constants.O_NOFOLLOW);
    }
  }
  throw new PatchError('incomplete', `the patch has no ${directory}/${name}`);
}

/** What a manifest has. */
interface Manifest {
  keys: ReadonlyMap<string, string>;
  sections: readonly (readonly string[])[];
  /** Areas of bytes. */
  raws: readonly (readonly string[])[];
}

/** Lines of a key and a value with a tab between; unknown ones are passed over. Undefined: it is none. */
export function parseManifest(text: string): Manifest | undefined {
  const keys = new Map<string, string>();
  const sections: string[][] = [];
  const raws: string[][] = [];
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('#')) continue;
    const [key = '', ...values] = line.split('\t');
    if (key === '' || values.length === 0) return undefined;
    if (key === 'section') sections.push(values);
    else if (key === 'raw') raws.push(values);
    else if (keys.has(key)) return undefined;
    else keys.set(key, values.join('\t'));
  }
  return { keys, sections, raws };
}

/** Options of `applyPatch`. */
export interface ApplyOptions
  extends JobOptions,
    Omit<
      Given<NativePatchOptions>,
      'changes' | 'payloads' | 'hash' | 'hashSize' | 'confirm' | 'dryRun' | 'entryEvents'
    > {
  patch: TreePatch;
  /** Answers whether conflicts are overruled, and what is to be done before anything changes. */
  confirm?: Confirm | undefined;
  /** What is told by another name than its path. */
  aliases?: readonly { path: string; name: string }[];
}

const FIELDS: Fields<ApplyOptions> = {
  ...RESOURCES,
  ...JOB,
  patch: record<TreePatch>(
    {
      id: text,
      volume: each(size),
      hash: text,
      hashSize: size,
      names: each(text),
      payloads: each(path),
      changes: path,
    },
    'payloads',
    'changes',
  ),
  target: path,
  force: boolean,
  undo: path,
  sync: text,
  spillDirectory: path,
  confirm: call,
  aliases: each(record<{ path: string; name: string }>({ path: text, name: text }, 'path', 'name')),
};
const OPTIONS = record<ApplyOptions>(FIELDS, 'patch', 'target');

/** Applies a patch to a directory. */
export function applyPatch(options: ApplyOptions): Job {
  return begin(options, OPTIONS, async ({ patch, target, undo, spillDirectory, aliases = [], ...others }) => {
    const { signal: _, journal: __, entries, confirm, ...rest } = others;
    const native: NativePatchOptions = {
      ...rest,
      changes: toBytes(patch.changes),
      payloads: patch.payloads.map(toBytes),
      target: pathBytes(target),
      hash: patch.hash,
      ...(patch.hashSize !== undefined && { hashSize: patch.hashSize }),
      ...(undo !== undefined && { undo: pathBytes(undo) }),
      ...common({ spillDirectory, entries }),
      ...(confirm && { confirm: true }),
    };
    const names = aliases.map((alias) => ({ path: toBytes(alias.path), name: toBytes(alias.name) }));
    return { native: aliased((await loadAddon()).patch(native), names) };
  });
}

/** Rows of a change list, by what is to be done. */
export interface Rows {
  added: number;
  modified: number;
  deleted: number;
}

/** Counts the rows of a change list, and writes the names that it needs of the tree that it leads to, each ended by NUL. */
export async function readRows(changes: string, names: string): Promise<Rows> {
  const rows = { A: 0, M: 0, D: 0 };
  const file = await open(toBytes(names), 'wx', 0o600);
  try {
    let rest: Buffer = Buffer.alloc(0);
    for await (const piece of createReadStream(toBytes(changes))) {
      const bytes = Buffer.concat([rest, piece as Buffer]);
      const found: Buffer[] = [];
      let start = 0;
      for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10, start)) {
        const line = bytes.subarray(start, end);
        start = end + 1;
        const op = String.fromCharCode(line[0] ?? 0);
        if (op !== 'A' && op !== 'M' && op !== 'D') continue;
        rows[op] += 1;
        if (op !== 'D') found.push(unescaped(line.subarray(2, line.indexOf(9, 2))), Buffer.of(0));
      }
      rest = bytes.subarray(start);
      await file.write(Buffer.concat(found));
    }
  } finally {
    await file.close();
  }
  return { added: rows.A, modified: rows.M, deleted: rows.D };
}

const ESCAPES: Readonly<Record<string, number>> = { '\\': 92, t: 9, n: 10, r: 13 };

/** A path of a change list; that of the tree itself is `.`. */
function unescaped(field: Buffer): Buffer {
  if (!field.includes(92)) return field.at(-1) === 47 ? field.subarray(0, -1) : field;
  const bytes: number[] = [];
  for (let index = 0; index < field.length; index += 1) {
    const byte = field[index] ?? 0;
    if (byte === 92) index += 1;
    bytes.push(byte === 92 ? (ESCAPES[String.fromCharCode(field[index] ?? 0)] ?? 0) : byte);
  }
  if (bytes.at(-1) === 47) bytes.pop();
  return Buffer.from(bytes);
}

/** What the manifest of a new patch says. */
export interface NewPatch extends Rows, Pick<PatchHead, 'names' | 'hash' | 'hashSize'> {
  layout: 'root' | 'store' | 'disk';
  /** Bytes of the files in it. */
  payloadBytes: number;
  disk?: DiskParts;
}

/** Puts the list of changes into the volumes of a patch that is made; answers the patch that it will be. */
export async function putChanges(payloads: readonly string[], changes: string, made: NewPatch): Promise<Patch> {
  for (const directory of payloads) {
    await mkdir(`${directory}/${OWN}`, { mode: 0o755 });
    await copyFile(toBytes(changes), `${directory}/${OWN}/${SECTION[2]}`);
  }
  return {
    id: randomBytes(16).toString('hex'),
    volume: [1, payloads.length],
    hash: made.hash,
    names: made.names,
    payloads,
    changes: `${payloads[0]}/${OWN}/${SECTION[2]}`,
    ...(made.hashSize !== undefined && { hashSize: made.hashSize }),
  };
}

/** Puts the manifest into each volume, by which it is one of a patch. */
export async function putManifests(patch: Patch, made: NewPatch, version: string): Promise<void> {
  for (const [index, directory] of patch.payloads.entries()) {
    const text = manifestOf({ ...patch, volume: [index + 1, patch.payloads.length] }, made, version);
    await writeFile(`${directory}/${OWN}/manifest`, text, { mode: 0o644, flag: 'wx' });
  }
}

function manifestOf(patch: PatchHead, made: NewPatch, version: string): string {
  const { disk } = made;
  const raws = disk?.raws ?? [];
  const parts: (readonly [string, ...(string | number)[]])[] = disk
    ? [
        ['disk', DISK_TABLE],
        ['raw_bytes', raws.reduce((sum, { size: bytes }) => sum + bytes, 0)],
        ...disk.sections.map((number) => ['section', ...sectionOf(number)] as const),
        ...raws.map((raw) => ['raw', raw.name, rawFileOf(raw), raw.before, raw.after, raw.size] as const),
      ]
    : [['section', ...SECTION]];
  const fields: readonly (readonly [string, ...(string | number)[]])[] = [
    ['format', 'hpcp-diff'],
    ['format_version', disk ? 2 : 1],
    ['patch_id', patch.id],
    ['volume', patch.volume.join('/')],
    ['created', new Date().toISOString().replace(/\.\d+Z$/, 'Z')],
    ['hpcp_version', '9.79'],
    ['bulkhaul_version', version],
    ['new', plain(made.names[0])],
    ['base', plain(made.names[1])],
    ['hash_algo', made.hash],
    ['hash_size', made.hashSize ?? 65536],
    ['full_hash', made.hashSize === undefined ? 1 : 0],
    ['xattrs', 1],
    ['layout', made.layout],
    ['added', made.added],
    ['modified', made.modified],
    ['deleted', made.deleted],
    ['payload_bytes', made.payloadBytes],
    ...parts,
  ];
  return fields.map((field) => `${field.join('\t')}\n`).join('');
}

/** A name on a line of its own. */
function plain(name: string): string {
  return display(name).replaceAll(/[\t\n\r]/g, ' ');
}
