/**
 * Patches of whole disks: `hpcp -dd -diff`, which makes one, and `hpcp -siff` on a disk, which applies it.
 *
 * Comes in: the call; goes out: an image that turns one disk into another, or a disk that is another. A disk is its file
 * systems, file by file; areas of bytes, where nothing else can be known; boot code; and its identities. All is looked at
 * before anything changes, and read back in the end.
 */
import { createHash } from 'node:crypto';
import { constants, rmSync, type Stats, statSync } from 'node:fs';
import { copyFile, type FileHandle, mkdir, open, stat, writeFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { BulkhaulError, whyOf } from '../../../error.js';
import { display, toBytes } from '../../../names.js';
import { type Blockdev, loadBlockdev, type Partition, type PartitionTable } from '../../../native/blockdev.js';
import { rootOf as liveRoot } from '../../../ops/clone/plan.js';
import { copyMapped } from '../../../ops/copy.js';
import { attached, closed, type MountedRoot, mountedAt } from '../../../ops/disk/attach.js';
import * as devices from '../../../ops/disk/device.js';
import { KINDS } from '../../../ops/disk/filesystem.js';
import { copyRaw } from '../../../ops/disk/raw.js';
import { soundTable } from '../../../ops/disk/table.js';
import {
  bootCodeOf,
  type DiskFacts,
  factsOf,
  identify,
  mismatches,
  type PartFacts,
  type PartKind,
  parseTable,
  rangeDigest,
  tableText,
} from '../../../ops/diskpatch.js';
import { Image, imageFileSystem, imageSize, makeImage } from '../../../ops/image.js';
import type { MappedCopyOptions } from '../../../ops/mapping.js';
import {
  applyPatch,
  BOOT_CODE,
  DISK_TABLE,
  OWN,
  openInPatch,
  type Patch,
  PatchError,
  patchOfSection,
  putManifests,
  type RawArea,
  type Rows,
  rawFileOf,
  readPatch,
  readRows,
  sectionOf,
} from '../../../ops/patch.js';
import { bytes, count } from '../../../report/units.js';
import { version } from '../../version.js';
import { type Case, type HpcpConsole, problem, Refused } from './codes.js';
import { filterOf, patternsOf, readExcludes } from './excludes.js';
import { choice, type HpcpCall, type HpcpValues } from './flags.js';
import { closeAll } from './images.js';
import {
  applied,
  applyProblems,
  compared,
  defaultName,
  drop,
  goesWith,
  type Lists,
  patchesOf,
  proved,
  refusal,
  refuseTaken,
  temporaryFiles,
  throwAs,
} from './patch.js';
import { resources } from './settings.js';
import { look, neededSpill } from './sources.js';
import { step } from './step.js';

/** Whether a call is about the patch of a disk: it says so, or its target is one. */
export function isOfDisk({ values, positionals }: HpcpCall): boolean {
  if (values.disk_dump) return true;
  const [target, ...others] = [...values.dest_path, ...positionals];
  if (values.load_diff_image === undefined || target === undefined || others.length > 0) return false;
  const found = statSync(toBytes(target), { throwIfNoEntry: false });
  return found !== undefined && (found.isFile() || found.isBlockDevice());
}

/** Makes or applies one; `directory` is the working directory. */
export async function patchDisk(call: HpcpCall, out: HpcpConsole, directory: string): Promise<void> {
  return goesWith(call) ? make(call, out, directory) : apply(call, out);
}

function layout(why: string): Refused {
  return new Refused([problem('patch layout', `Disk layout: ${why}; nothing was done`)]);
}

/** An open disk. */
interface Disk {
  path: string;
  file: FileHandle;
  stats: Stats;
  table: PartitionTable;
}

/** Opens a disk, or an image of one; with `write` nobody else has it. Throws `Refused`. */
async function openDisk(path: string, write: boolean): Promise<Disk> {
  const refuse = (which: Case, why: string): never => {
    throw new Refused([problem(which, `${display(path)} can't be used: ${why}; nothing was done`)]);
  };
  const stats = await stat(toBytes(path)).catch((error: Error) => refuse('refused', whyOf(error, path)));
  if (!stats.isFile() && !stats.isBlockDevice()) refuse('refused', 'it is neither a file nor a block device');
  if (await devices.isPartition(stats)) refuse('patch layout', 'it is a partition: name the whole disk');
  const exclusive = write && stats.isBlockDevice() ? constants.O_EXCL : 0;
  const flags = (write ? constants.O_RDWR : constants.O_RDONLY) | exclusive;
  const file = await open(toBytes(path), flags).catch((error: NodeJS.ErrnoException) =>
    error.code === 'EBUSY'
      ? refuse('in use', 'it, or a partition of it, is mounted somewhere, is swap, or is part of something else')
      : refuse('refused', whyOf(error, path)),
  );
  try {
    const why = write ? await devices.claim(path, file, stats) : undefined;
    if (why !== undefined) refuse('in use', why);
    const size = await devices.sizeOf(stats);
    const sector = await devices.sectorOf(stats);
    const table = await soundTable(loadBlockdev(), path, file, size, sector).catch((error: unknown) =>
      throwAs('patch layout', error),
    );
    if (table?.label !== 'gpt') throw layout(`${display(path)} has no GPT, and patches are of disks that have one`);
    return { path, file, stats, table };
  } catch (error) {
    await file.close();
    throw error;
  }
}

const partitionOf = ({ table }: Disk, number: number): Partition => {
  const found = table.partitions.find((each) => each.number === number);
  if (found === undefined) throw layout(`there is no partition ${number}`);
  return found;
};

const howOf = ({ table }: Disk, write: boolean) => ({
  write,
  sectorSize: table.sectorSize === 512 ? 0 : table.sectorSize,
});

/** Kinds whose files a patch carries: what FAT shows of owners and modes is how it is mounted. */
const ofFiles = (type: string) => type !== 'vfat' && KINDS[type] !== undefined;

/** What is compared of a partition, as far as its type says. */
const kindBy = (type: string): PartKind => (type === 'swap' ? 'swap' : ofFiles(type) ? 'fs' : 'raw');

/** A disk as a patch knows it. */
function factsOfDisk(blockdev: Blockdev, { file, table }: Disk): Promise<DiskFacts> {
  return factsOf(blockdev, file, table, (_, found) => kindBy(found?.type ?? ''));
}

/** A file system that changes. */
interface Section extends Lists {
  number: number;
  rows: Rows;
  root: MountedRoot;
}

/** `hpcp -dd -diff`. */
async function make({ values, positionals }: HpcpCall, out: HpcpConsole, directory: string): Promise<void> {
  const { src_image = [], dest_image, dest_path, get_diff_image } = values;
  const sources = [...src_image, ...positionals];
  const bases = [...dest_path, ...(dest_image === undefined ? [] : [dest_image])];
  const [source, base] = [sources[0], bases[0]];
  if (source === undefined || base === undefined || sources.length + bases.length !== 2) {
    throw refusal('-dd -diff needs exactly one new disk and one old disk (-d or -di)');
  }
  const path = typeof get_diff_image === 'string' ? get_diff_image : defaultName(source, base);
  if (look(path, 'itself')) throw new Refused([problem('patch making', `Diff image error: ${path} is there already`)]);
  const blockdev = loadBlockdev();
  const disks: Disk[] = [];
  const roots: MountedRoot[] = [];
  const sections: Section[] = [];
  try {
    const now = await openDisk(source, false);
    disks.push(now);
    const was = await openDisk(base, false);
    disks.push(was);
    const facts = { new: await factsOfDisk(blockdev, now), old: await factsOfDisk(blockdev, was) };
    const check = () => {
      const problems = mismatches(facts.old, facts.new);
      if (problems.length > 0) throw layout(`${problems.join('; ')}: clone the disk anew`);
    };
    check();
    out.print(`Comparing ${display(source)} with ${display(base)}`);
    const raws: RawArea[] = [];
    for (const [number, fact] of facts.new.parts) {
      if (fact.kind !== 'fs') continue;
      const pair = await Promise.all([now, was].map((disk) => rootOn(blockdev, disk, number, fact.fs_type))).catch(
        (error: unknown) => {
          out.note(`partition ${number} is compared by its bytes: ${whyOf(error)}`);
          return undefined;
        },
      );
      if (pair === undefined) fact.kind = 'raw';
      const [left, right] = pair ?? [];
      if (left === undefined || right === undefined) continue;
      roots.push(left, right);
      const lists = temporaryFiles(neededSpill(out));
      const section = { number, root: left, ...lists, rows: { added: 0, modified: 0, deleted: 0 } };
      sections.push(section);
      const sides = sidesOf(left, right, values, directory, out);
      const names = [source, base].map((name) => ({ name: `${name}, partition ${number}` }));
      const report = await compared(sides, lists.changes, names, values, out);
      if (!report.complete) return;
      const { left: added, right: deleted, changed } = report.differences;
      if (added + deleted + changed === 0) {
        sections.pop();
        drop(lists);
      } else if (!values.dry_run) section.rows = await readRows(lists.changes, lists.names);
      out.print(`Changes of partition ${number}: ${added} added, ${changed} modified, ${deleted} deleted`);
    }
    check();
    for (const [number, { kind }] of facts.new.parts) {
      if (kind !== 'raw') continue;
      const digests = [];
      for (const disk of [was, now]) digests.push(await rangeDigest(blockdev, disk.file, partitionOf(disk, number)));
      const [before = '', after = ''] = digests;
      if (before !== after) raws.push({ name: `part${number}`, before, after, size: partitionOf(now, number).size });
    }
    const codes = [await bootCodeOf(was.file), await bootCodeOf(now.file)];
    const [before = '', after = ''] = codes.map((code) => createHash('sha256').update(code).digest('hex'));
    if (before !== after) raws.push({ name: 'mbr', before, after, size: BOOT_CODE });
    const identities = changesOf(facts.old, facts.new).length;
    const many = [
      count(sections.length, 'file system'),
      count(raws.length, 'area'),
      count(identities, 'identity', 'identities'),
    ];
    out.print(`Disk changes: ${many.join(', ')}`);
    if (sections.length + raws.length + identities === 0 || values.dry_run) return;
    const sums = { hash: 'xxh64' } as const;
    await build(path, { now, sections, raws, table: tableText(facts), names: [source, base], sums }, values, out);
    out.print(`Patch image written to ${display(path)}`);
  } finally {
    for (const lists of sections) drop(lists);
    for (const { descriptor } of roots) await closed(descriptor);
    for (const { file } of disks) await file.close();
  }
}

/** The files of a partition: where it is mounted, or mounted for us. */
async function rootOn(blockdev: Blockdev, disk: Disk, number: number, type: string): Promise<MountedRoot> {
  const partition = partitionOf(disk, number);
  const mounts = await devices.mountsOf(blockdev, await devices.devicesOf(disk.path, disk.stats, partition));
  const found = { type };
  const { root } = await liveRoot({ blockdev, ...disk }, found, mounts, partition, `${disk.path}, partition ${number}`);
  return root;
}

function sidesOf(left: MountedRoot, right: MountedRoot, values: HpcpValues, directory: string, out: HpcpConsole) {
  const { rules, notes } = readExcludes(patternsOf(values), [], directory);
  for (const note of notes) out.note(note);
  const anchored = [...rules.filter((rule) => rule.startsWith('/')), '/lost+found'];
  const all = [left, right].flatMap((root) => anchored.map((rule) => root.directory + rule));
  const side = (path: string) => ({ trees: [{ path, contents: true, follow: true }] });
  return { left: side(left.directory), right: side(right.directory), ...filterOf([...rules, ...all]) };
}

/** What of identities is another. */
interface Identity {
  /** Absent: that of the disk. */
  number?: number;
  field: 'guid' | keyof PartFacts;
  old: string;
  new: string;
}

function changesOf(old: DiskFacts, now: DiskFacts): Identity[] {
  const found: Identity[] = old.guid === now.guid ? [] : [{ field: 'guid', old: old.guid, new: now.guid }];
  for (const [number, is] of now.parts) {
    for (const field of ['unique_guid', 'name', 'attrs', 'fs_uuid', 'fs_label'] as const) {
      // What is in an area of bytes comes with them.
      if (is.kind === 'raw' && field.startsWith('fs_')) continue;
      const was = old.parts.get(number)?.[field] ?? '';
      if (was !== is[field]) found.push({ number, field, old: was, new: is[field] });
    }
  }
  return found;
}

/** What a patch is made of. */
interface Parts {
  now: Disk;
  sections: readonly Section[];
  raws: readonly RawArea[];
  table: string;
  names: readonly [string, string];
  /** How the rows of the sections are hashed. */
  sums: Pick<Patch, 'hash' | 'hashSize'>;
}

/** Makes the image; it has its name when all is in it, and proved. */
async function build(path: string, parts: Parts, values: HpcpValues, out: HpcpConsole): Promise<void> {
  const { now, sections, raws, table, names, sums } = parts;
  const spillDirectory = neededSpill(out);
  const failed = (why: string) =>
    new Refused([problem('patch making', `Diff image error: ${why}; there is no ${path}`)]);
  const copy = ({ root, names: list }: Section, to: string): MappedCopyOptions => ({
    sources: [{ path: root.directory, contents: true, follow: true }],
    destinations: [{ path: to, follow: true }],
    filesFrom: { path: list, nul: true, contents: false },
    ...{ allowNested: true, sync: 'all', spillDirectory },
    ...resources(values),
  });
  const content = { bytes: table.length, entries: 10, directories: 3 };
  let payloadBytes = 0;
  for (const section of sections) {
    const measure = () => copyMapped({ ...copy(section, `${path}/`), dryRun: true });
    const { allocatedBytes, foundBytes, found } = await step('measuring', measure, values, out);
    payloadBytes += foundBytes;
    content.bytes += allocatedBytes + statSync(toBytes(section.changes)).size;
    content.entries += Object.values(found).reduce((sum, many) => sum + many, 2);
    content.directories += found.directory + 1;
  }
  for (const { size } of raws) content.bytes += size;
  const type = choice(values, 'image_fs') ?? (await imageFileSystem(content));
  const size = imageSize(content, type);
  const { image, publish } = await makeImage(path, size, type, content.entries, { anew: true }).catch(
    (error: unknown) => throwAs('patch making', error),
  );
  let finished = false;
  try {
    const { directory } = image.largest;
    const own = `${directory}/${OWN}`;
    await mkdir(own, { mode: 0o755 });
    await writeFile(`${own}/${DISK_TABLE}`, table, { mode: 0o644, flag: 'wx' });
    const disk = { sections: sections.map(({ number }) => number), raws };
    const rows = { added: 0, modified: 0, deleted: 0 };
    const id = createHash('sha256')
      .update(JSON.stringify([path, Date.now(), process.pid]))
      .digest('hex')
      .slice(0, 32);
    const base = { ...sums, names: names.map((name) => basename(name)) as [string, string] };
    const whole: Patch = { id, volume: [1, 1], ...base, payloads: [directory], changes: '', disk };
    for (const section of sections) {
      const [, payload, changes] = sectionOf(section.number);
      await mkdir(`${directory}/${payload}`, { mode: 0o755 });
      const pack = () => copyMapped(copy(section, `${directory}/${payload}`));
      const report = await step('packing', pack, values, out);
      if (!report.complete) throw failed(report.failures[0]?.message ?? 'not all of it could be copied');
      await copyFile(toBytes(section.changes), `${own}/${changes}`);
      const one = await patchOfSection(whole, section.number);
      const made = { ...base, ...section.rows, layout: 'root' as const, payloadBytes: 0 };
      await proved(one, `${directory}/${payload}`, made, values, out, failed);
      for (const of of ['added', 'modified', 'deleted'] as const) rows[of] += section.rows[of];
    }
    if (raws.length > 0) await mkdir(`${directory}/raw`, { mode: 0o755 });
    for (const raw of raws) {
      const file = await open(`${directory}/${rawFileOf(raw)}`, 'wx', 0o644);
      try {
        await file.truncate(raw.size);
        const place = raw.name === 'mbr' ? { start: 0, size: BOOT_CODE } : partitionOf(now, numberOf(raw));
        const whole = [{ start: 0, size: place.size }];
        const digest = await copyRaw(now.file, place.start, whole, file, 0, true, () => false);
        if (digest !== raw.after) throw failed(`${raw.name} changed meanwhile`);
      } finally {
        await file.close();
      }
    }
    await putManifests(whole, { ...base, ...rows, layout: 'disk', payloadBytes, disk }, version());
    await publish().catch((error: unknown) => throwAs('patch making', error));
    finished = true;
    out.note(`${path} is made: ${bytes(size)}, ${type}`);
  } finally {
    if (!finished) {
      await image.close().catch(() => undefined);
      rmSync(toBytes(`${path}.partial`), { force: true });
    }
  }
}

const numberOf = ({ name }: RawArea) => Number(name.slice('part'.length));

/** `hpcp -siff` on a disk. */
async function apply({ values, positionals }: HpcpCall, out: HpcpConsole): Promise<void> {
  if (patternsOf(values).length > 0) throw refusal('a patch is applied as a whole: not with -e and -x');
  const targets = [
    ...values.dest_path,
    ...positionals,
    ...(values.dest_image === undefined ? [] : [values.dest_image]),
  ];
  const [target] = targets;
  if (target === undefined || targets.length > 1) throw refusal('-siff needs exactly one disk (-d)');
  refuseTaken(values);
  const open: Image[] = [];
  let disk: Disk | undefined;
  try {
    const volumes: { directory: string; name: string }[] = [];
    for (const path of patchesOf([...(values.load_diff_image ?? [])])) {
      const image = await Image.open(path, false).catch((error: unknown) => throwAs('patch format', error));
      open.push(image);
      const [root = throwAs('patch format', new BulkhaulError('USAGE', `${display(path)} has no file system`))] =
        image.roots;
      volumes.push({ directory: root.directory, name: root.name });
    }
    const patch = await readPatch(volumes).catch(patchError);
    if (patch.disk === undefined) throw layout(`${display(target)} is no directory, and the patch is one of a tree`);
    const table = await tableOf(patch).catch(patchError);
    disk = await openDisk(target, !values.dry_run);
    out.print(`Applying the patch of ${patch.names.map(display).join(' for ')} to ${display(target)}`);
    await new Application(patch, patch.disk, table, disk, volumes, values, out).run();
  } finally {
    await disk?.file.close();
    await closeAll(open.reverse());
  }
}

function patchError(error: unknown): never {
  if (!(error instanceof PatchError)) throw error;
  throw new Refused([problem(`patch ${error.what}`, `Patch: ${error.message}`)]);
}

/** The table of a patch, which has all that its lists and areas are of. */
async function tableOf(patch: Patch): Promise<{ old: DiskFacts; new: DiskFacts }> {
  const file = await openInPatch(patch, OWN, DISK_TABLE);
  let text: string;
  try {
    text = await file.readFile('utf8');
  } finally {
    await file.close();
  }
  const table = parseTable(text);
  const wrong = (why: string): never => {
    throw new PatchError('format', `it is no patch that can be applied: ${why}`);
  };
  if (typeof table === 'string') return wrong(`its table of the disk: ${table}`);
  for (const number of patch.disk?.sections ?? []) {
    if (table.old.parts.get(number)?.kind !== 'fs')
      wrong(`it has files for partition ${number}, which is no file system`);
  }
  for (const raw of patch.disk?.raws ?? []) {
    if (raw.name === 'mbr') continue;
    const [was, is] = [table.old.parts.get(numberOf(raw)), table.new.parts.get(numberOf(raw))];
    const sizes = was?.size === String(raw.size) && is?.size === String(raw.size);
    if (was?.kind !== 'raw' || !sizes) wrong(`its bytes for partition ${numberOf(raw)} are not what the table says`);
  }
  return table;
}

/** The steps of an application: each looked at before the first is done. */
class Application {
  constructor(
    readonly patch: Patch,
    readonly parts: NonNullable<Patch['disk']>,
    readonly table: { old: DiskFacts; new: DiskFacts },
    readonly disk: Disk,
    readonly volumes: readonly { directory: string; name: string }[],
    readonly values: HpcpValues,
    readonly out: HpcpConsole,
  ) {}

  async run(): Promise<void> {
    const { values, out } = this;
    const blockdev = loadBlockdev();
    const there = await factsOfDisk(blockdev, this.disk);
    this.#fits(there);
    const raws = await this.#planRaws(blockdev);
    for (const number of this.parts.sections) await this.#planSection(blockdev, number);
    const identities = this.#identities(there);
    const many = [
      count(this.parts.sections.length, 'file system'),
      count(raws.length, 'area'),
      count(identities.length, 'identity', 'identities'),
    ];
    out.print(`Disk patch: ${many.join(', ')} to be changed`);
    if (out.problems.length > 0) return;
    if (values.dry_run) return out.print('Dry run: nothing was done');
    if (values.undo !== undefined) await this.#keepWayBack(values.undo, blockdev, there, raws, identities);
    if (out.problems.length > 0) return;
    for (const number of this.parts.sections) {
      await this.#within(blockdev, number, true, (target) => this.#section(number, target));
      if (out.problems.length > 0) return;
    }
    for (const raw of raws) await this.#raw(blockdev, raw);
    await this.#identify(blockdev, identities);
    await this.#check(blockdev);
  }

  /** Whether it is a disk that the patch is for. */
  #fits(there: DiskFacts): void {
    const old = { ...this.table.old, parts: new Map(this.table.old.parts) };
    // How a partition is compared is what the patch says.
    for (const [number, fact] of there.parts) {
      const kind = old.parts.get(number)?.kind;
      if (kind !== undefined) fact.kind = kind;
    }
    const problems = mismatches(old, there);
    if (problems.length > 0) throw layout(`the patch and ${display(this.disk.path)} have ${problems.join('; ')}`);
  }

  /** The areas that are not yet what comes; each is expected to be what it is. */
  async #planRaws(blockdev: Blockdev): Promise<RawArea[]> {
    const due: RawArea[] = [];
    for (const raw of this.parts.raws) {
      await (await openInPatch(this.patch, 'raw', rawFileOf(raw).slice('raw/'.length)).catch(patchError)).close();
      const is = await this.#digest(blockdev, raw);
      if (is === undefined || is === raw.after) continue;
      if (is !== raw.before && !this.values.force_apply) {
        this.out.report(
          problem(
            'patch conflict',
            `Patch conflict: ${raw.name} is neither what the patch expects nor what it brings (-fa overrules it)`,
          ),
        );
      } else due.push({ ...raw, before: is });
    }
    return due;
  }

  async #digest(blockdev: Blockdev, raw: RawArea): Promise<string | undefined> {
    const { disk } = this;
    if (raw.name !== 'mbr') return rangeDigest(blockdev, disk.file, partitionOf(disk, numberOf(raw)));
    return createHash('sha256')
      .update(await bootCodeOf(disk.file))
      .digest('hex');
  }

  async #planSection(blockdev: Blockdev, number: number): Promise<void> {
    const patch = await patchOfSection(this.patch, number).catch(patchError);
    const force = this.values.force_apply;
    const spillDirectory = neededSpill(this.out);
    await this.#within(blockdev, number, false, async ({ directory, name }) => {
      const aliases = [{ path: directory, name: `${name}:` }];
      const plan = () => applyPatch({ patch, target: directory, dryRun: true, force, spillDirectory, aliases });
      const report = await step('checking', plan, this.values, this.out).catch((error: unknown) =>
        error instanceof Refused ? Promise.reject(error) : throwAs('patch format', error),
      );
      this.out.report(...applyProblems(report));
    });
  }

  /** Writes the patch that leads back, before anything changes. What it can't lead back from is a problem. */
  async #keepWayBack(
    path: string,
    blockdev: Blockdev,
    there: DiskFacts,
    raws: readonly RawArea[],
    identities: readonly Identity[],
  ): Promise<void> {
    const { disk, out, patch, values } = this;
    const roots: MountedRoot[] = [];
    const sections: Section[] = [];
    try {
      for (const number of this.parts.sections) {
        const section = {
          number,
          root: await this.#mounted(blockdev, number, false),
          ...temporaryFiles(neededSpill(out)),
        };
        roots.push(section.root);
        const rows = await this.#rowsBack(section);
        if (rows) sections.push({ ...section, rows });
        else drop(section);
      }
      if (out.problems.length > 0) return;
      const table = tableText({ old: this.#becomes(there, raws, identities), new: there });
      const back = raws.map(({ before, after, ...raw }) => ({ ...raw, before: after, after: before }));
      const { hash, hashSize } = patch;
      const sums = { hash, ...(hashSize !== undefined && { hashSize }) };
      const names = [patch.names[1], patch.names[0]] as const;
      await build(path, { now: disk, sections, raws: back, table, names, sums }, values, out);
      out.note(`${display(path)} leads back: hpcp -siff ${display(path)} -d ${display(disk.path)}`);
    } finally {
      for (const lists of sections) drop(lists);
      for (const { descriptor } of roots) await closed(descriptor);
    }
  }

  /** Has the list written that leads a file system back, and nothing done; undefined: there is nothing to lead back from. */
  async #rowsBack({ number, root, changes, names }: Omit<Section, 'rows'>): Promise<Rows | undefined> {
    let rows: Rows | undefined;
    const patch = await patchOfSection(this.patch, number).catch(patchError);
    const look = () =>
      applyPatch({
        patch,
        target: root.directory,
        force: this.values.force_apply,
        undo: changes,
        spillDirectory: neededSpill(this.out),
        aliases: [{ path: root.directory, name: `${this.#nameOf(number)}:` }],
        confirm: async ([first]) => {
          if (first?.what === 'undo' && first.entries > 0) rows = await readRows(changes, names);
          return false;
        },
      });
    const report = await step('checking', look, this.values, this.out);
    this.out.report(...applyProblems(report));
    return rows;
  }

  /** What the disk is when all is done. */
  #becomes(there: DiskFacts, raws: readonly RawArea[], identities: readonly Identity[]): DiskFacts {
    const parts = new Map([...there.parts].map(([number, facts]) => [number, { ...facts }]));
    // What is in an area of bytes comes with them.
    for (const raw of raws) {
      const [facts, brought] = [parts.get(numberOf(raw)), this.table.new.parts.get(numberOf(raw))];
      if (facts && brought) Object.assign(facts, { fs_uuid: brought.fs_uuid, fs_label: brought.fs_label });
    }
    let { guid } = there;
    for (const { number, field, new: text } of identities) {
      if (number === undefined) guid = text;
      else Object.assign(parts.get(number) ?? {}, { [field]: text });
    }
    return { ...there, guid, parts };
  }

  async #section(number: number, target: { directory: string; name: string }): Promise<void> {
    const patch = await patchOfSection(this.patch, number).catch(patchError);
    const [, payload] = sectionOf(number);
    const volumes = this.volumes.map(({ directory, name }) => ({ directory: `${directory}/${payload}`, name }));
    // The way back is that of the whole disk.
    await applied(patch, volumes, target, { ...this.values, undo: undefined }, this.out);
  }

  /** Mounts a file system of the disk. */
  async #within(
    blockdev: Blockdev,
    number: number,
    write: boolean,
    use: (target: { directory: string; name: string }) => Promise<void>,
  ): Promise<void> {
    const root = await this.#mounted(blockdev, number, write);
    try {
      await use({ directory: root.directory, name: this.#nameOf(number) });
    } finally {
      await closed(root.descriptor);
    }
    if (write) await this.disk.file.sync();
  }

  #mounted(blockdev: Blockdev, number: number, write: boolean): Promise<MountedRoot> {
    const partition = partitionOf(this.disk, number);
    const type = this.table.new.parts.get(number)?.fs_type ?? '';
    return mountedAt(blockdev, this.disk.file.fd, type, partition, howOf(this.disk, write)).catch((error: Error) => {
      const why = `Partition can not be mounted: ${this.#nameOf(number)}: ${whyOf(error)}`;
      throw new Refused([problem('partition', why)]);
    });
  }

  #nameOf(number: number): string {
    return `${this.disk.path}, partition ${number}`;
  }

  /** Bytes over an area, read back. */
  async #raw(blockdev: Blockdev, raw: RawArea): Promise<void> {
    const { disk } = this;
    const start = raw.name === 'mbr' ? 0 : partitionOf(disk, numberOf(raw)).start;
    const from = await openInPatch(this.patch, 'raw', rawFileOf(raw).slice('raw/'.length)).catch(patchError);
    const damaged = (why: string) => new Refused([problem('patch damaged', `Patch: ${raw.name}: ${why}`)]);
    try {
      if ((await from.stat()).size !== raw.size) throw damaged('it has another size than it says');
      if ((await digestOfFile(from, raw.size)) !== raw.after) throw damaged('it is not what the patch says of it');
      await copyRaw(from, 0, [{ start: 0, size: raw.size }], disk.file, start, false, () => false);
    } finally {
      await from.close();
    }
    await disk.file.sync();
    if ((await this.#digest(blockdev, raw)) !== raw.after) throw damaged('it reads back differently');
    this.out.print(`${raw.name}: ${bytes(raw.size)} written and read back`);
  }

  /** The identities that are not yet what comes; of one that is another than that of the base it is said. */
  #identities(there: DiskFacts): Identity[] {
    return changesOf(this.table.old, this.table.new).flatMap((change) => {
      const { number, field } = change;
      const is = number === undefined ? there.guid : (there.parts.get(number)?.[field as keyof PartFacts] ?? '');
      if (is.toLowerCase() === change.new.toLowerCase()) return [];
      if (is.toLowerCase() !== change.old.toLowerCase()) {
        const of = number === undefined ? 'the disk' : `partition ${number}`;
        this.out.note(`${field} of ${of} is ${is || 'none'}, and not that of the base (${change.old || 'none'})`);
      }
      return [change];
    });
  }

  async #identify(blockdev: Blockdev, identities: readonly Identity[]): Promise<void> {
    const { disk, table } = this;
    const failed = (error: unknown): never => throwAs('identity', error);
    for (const [number, { fs_type: type }] of table.new.parts) {
      const of = (field: Identity['field']) =>
        identities.find((each) => each.number === number && each.field === field)?.new;
      const [uuid, label] = [of('fs_uuid'), of('fs_label')];
      if (uuid === undefined && label === undefined) continue;
      await attached(blockdev, disk.file.fd, partitionOf(disk, number), howOf(disk, true), (device) =>
        identify(type, device, uuid, label),
      ).catch(failed);
    }
    await disk.file.sync();
    if (!identities.some(({ field }) => ['guid', 'unique_guid', 'name', 'attrs'].includes(field))) return;
    const partitions = disk.table.partitions.map((partition) => {
      const is = table.new.parts.get(partition.number);
      if (is === undefined) return partition;
      return { ...partition, uuid: is.unique_guid, name: is.name, attributes: BigInt(`0x${is.attrs}`) };
    });
    await blockdev.writeTable(toBytes(disk.path), { ...disk.table, id: table.new.guid, partitions }).catch(failed);
    await disk.file.sync();
    await blockdev.rereadTable(disk.file.fd).catch((error: Error) => {
      this.out.note(`the kernel goes on with the old partitions (partprobe has it look again): ${error.message}`);
    });
  }

  /** Whether the disk is what the patch makes of it. */
  async #check(blockdev: Blockdev): Promise<void> {
    const { disk } = this;
    const table = await blockdev.readTable(toBytes(disk.path), howOf(disk, false).sectorSize);
    const is = table && (await factsOfDisk(blockdev, { ...disk, table }));
    const wrong = is ? changesOf(this.table.new, is).filter((each) => !sameText(each)) : [];
    const first = is ? wrong[0] : { field: 'guid', new: 'none', old: this.table.new.guid };
    if (first === undefined) return;
    const what = `Patch: ${first.field} reads back as ${first.new || 'none'}, and is to be ${first.old || 'none'}`;
    throw new Refused([problem('patch damaged', what)]);
  }
}

const sameText = (change: Identity) => change.old.toLowerCase() === change.new.toLowerCase();

async function digestOfFile(file: FileHandle, size: number): Promise<string> {
  const hash = createHash('sha256');
  const buffer = Buffer.alloc(1 << 20);
  for (let at = 0; at < size; ) {
    const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, size - at), at);
    if (bytesRead === 0) break;
    hash.update(buffer.subarray(0, bytesRead));
    at += bytesRead;
  }
  return hash.digest('hex');
}
