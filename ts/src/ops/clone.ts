/**
 * Cloning a disk: partition by partition, each proved, and only then with the source's identity.
 *
 * Comes in: a plan; goes out: a running `Job`. Promises: until all partitions are proved an image is `NAME.partial`, and a
 * disk has an identity of nobody, and a table with no more partitions than are proved; the next run of the same plan goes on
 * from there. What is whole in the end is read back, table and identities too. Nothing is left mounted or attached.
 */
import { constants } from 'node:fs';
import { type FileHandle, link, open, rename, rm, rmdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { BulkhaulError, whyOf } from '../error.js';
import { display, fromBytes, toBytes } from '../names.js';
import { aliased } from '../native/alias.js';
import { loadBlockdev, type Partition, type PartitionTable } from '../native/blockdev.js';
import type { NativeEvent, NativeFailure, NativeReport, NativeSnapshot } from '../native/events.js';
import type { Limits, Resources } from '../native/options.js';
import type { NativeJob } from '../native.js';
import { ExitCode, faultCode } from '../verdict.js';
import { type Part, type Plan, sectorOf } from './clone/plan.js';
import { prepareComparison } from './compare.js';
import { attached, closed, type MountedRoot, mountedAt, type Place } from './disk/attach.js';
import { astrayIn, hasFallbackLoader, rewriteIn } from './disk/boot.js';
import { claim, named, unlessAbsent } from './disk/device.js';
import { KINDS, makeSwap } from './disk/filesystem.js';
import { copyRaw, digestOf } from './disk/raw.js';
import { SNAPSHOT, type Snapshot, snapshotOf } from './disk/snapshot.js';
import { throwaway } from './disk/table.js';
import { errand } from './errand.js';
import { follow, Job } from './job.js';
import { type MappedCopyOptions, prepareCopy } from './mapping.js';
import { Ledger, total } from './transfer/ledger.js';

/** How a clone is made. */
export interface CloneSettings extends Resources {
  /** Patterns of what is left out, as hpcp has them: a slash at their beginning is the root of each file system. Default: nothing. */
  exclude?: readonly string[];
  /** Directory for temporary files without a name. */
  spillDirectory: string;
  /** Iterating gives an `entry` event for each entry that is copied. Default false. */
  entries?: boolean;
}

/**
 * Makes a clone, or of a plan for a dry run tells what it would. The caller has asked whether what the destination holds may
 * go, and closes the plan.
 */
export function clone(plan: Plan, settings: CloneSettings): Job {
  if (plan.options.dryRun) return planned(plan);
  return new Job(async () => ({ native: new Cloning(plan, settings) }));
}

/** Nothing but what would be done: each partition is an entry. */
function planned({ parts }: Plan): Job {
  return errand(async (ledger) => {
    ledger.found.block = parts.length;
    ledger.copiedBytes = parts.reduce((sum, { bytes }) => sum + bytes, 0);
    ledger.settle({ copied: { all: parts.length, file: 0, directory: 0 } });
  }, true);
}

/** Boot code in the first sector: what follows is the identity of the disk, and its table. */
const BOOT_CODE = 440;
const SECTOR = 512;
const MIB = 2 ** 20;
/** A type for partitions that are not what they will be: Linux, data. */
const MEANWHILE = { gpt: '0FC63DAF-8483-4772-8E79-3D69D8477DE4', dos: '83' } as const;
/** System partitions of UEFI, by their types in both kinds of tables. */
const SYSTEM_PARTITIONS = ['C12A7328-F81F-11D2-BA4B-00A0C93EC93B', 'EF'];
/** Passes over what others write to meanwhile. */
const PASSES = 2;

/** Where the clone is written. */
interface Target {
  file: FileHandle;
  path: string;
  /** Nothing but zeros was there. */
  fresh: boolean;
  /** Numbers of the partitions that an earlier run has proved. */
  proved: Set<number>;
}

/** The clone can't go on; it was told. */
class Halt extends Error {}

class Cloning implements NativeJob {
  readonly #ledger = new Ledger(undefined);
  #reports: NativeReport[] = [];
  #verified = { files: 0, bytes: 0, fromCache: 0 };
  #current: NativeJob | undefined;
  readonly #abort = new AbortController();
  readonly #blockdev = loadBlockdev(this.#abort.signal);
  #stopping = false;
  #phase: NativeSnapshot['phase'] = 'preflight';
  /** Bytes that jobs have read, entries that they have looked at, and bytes that were read without one. */
  #read = 0;
  #worked = 0;
  #rawBytes = 0;
  /** The same when the last partition was done with, and its files. */
  #before = { bytes: 0, entries: 0, files: 0, foundBytes: 0 };
  /** What is at work only compares: nothing is found or done by it. */
  #comparing = false;
  /** Since when something is synced. */
  #syncing: number | undefined;
  /** Bytes to be read, entries to be done with, of partitions that are not. */
  #ahead: { bytes: number; entries: number };
  #begun = 0;
  #elapsed: number | undefined;

  constructor(
    readonly plan: Plan,
    readonly settings: CloneSettings,
  ) {
    this.#ahead = { bytes: 0, entries: 0 };
    for (const part of plan.parts) this.#expect(part, 1);
  }

  /** Each byte is read twice: to be copied, and to be proved. */
  #expect({ bytes, inodes }: Part, sign: 1 | -1): void {
    this.#ahead.bytes += sign * 2 * bytes;
    this.#ahead.entries += sign * 2 * inodes;
  }

  async run(): Promise<NativeReport> {
    this.#begun = performance.now();
    let target: Target | undefined;
    try {
      target = await this.#open();
      if (await this.#work(target)) await this.#finish(target);
      else if (this.#stopping && target.path !== this.plan.destination.path) {
        this.#note(`it is unfinished: ${display(target.path)} stays, and the same command goes on with it`);
      }
    } catch (error) {
      if (!(error instanceof Halt || this.#abort.signal.aborted)) throw error;
    } finally {
      if (target && target.file !== this.plan.destination.file) await target.file.close();
      this.#elapsed = (performance.now() - this.#begun) / 1000;
      this.#phase = 'done';
      this.#ledger.events.end();
    }
    return this.#report();
  }

  /** All partitions; false: it was told to stop. */
  async #work(target: Target): Promise<boolean> {
    this.#phase = 'copying';
    for (const part of this.plan.parts) {
      if (this.#stopping) return false;
      if (part.method === 'table') continue;
      const kept = target.proved.has(part.partition.number) && (await this.#isKept(target, part));
      // What was not looked at to its end stays proved.
      if (this.#stopping) return false;
      if (!kept) {
        target.proved.delete(part.partition.number);
        await this.#table(target);
        if (!(await this.#partition(target, part))) return false;
        target.proved.add(part.partition.number);
        await this.#table(target);
      } else {
        this.#note(`partition ${part.partition.number} was proved by an earlier run, and is as it was`);
        // An identity of its own it has had from the beginning.
        if (part.found?.type === 'xfs') {
          const there = await this.#blockdev.probe(target.file.fd, part.to.start, part.to.size);
          part.identity.uuid = there?.uuid ?? part.identity.uuid;
        }
      }
      this.#expect(part, -1);
      const sum = (of: (report: NativeReport) => number) => this.#reports.reduce((all, report) => all + of(report), 0);
      this.#before = {
        ...{ bytes: this.#read + this.#rawBytes, entries: this.#worked },
        ...{
          files: sum(({ found }) => found.file),
          foundBytes: sum((report) => report.foundBytes) + this.#rawBytes / 2,
        },
      };
    }
    return !this.#stopping;
  }

  async #open(): Promise<Target> {
    const { destination, size, table, meanwhile } = this.plan;
    let target: Target;
    if (destination.file) target = { file: destination.file, path: destination.path, fresh: false, proved: new Set() };
    else {
      const path = `${destination.path}.partial`;
      if (destination.stats) await named(destination.path, destination.stats);
      const made = constants.O_RDWR | constants.O_CREAT;
      const file = await open(toBytes(path), made, 0o600).catch((error: Error) => this.#halt('open', path, error));
      target = { file, path, fresh: true, proved: new Set() };
      const stats = await file.stat();
      const why = await claim(path, file, stats);
      if (why !== undefined) {
        await file.close();
        return this.#halt('open', path, new Error(why));
      }
      target.fresh = stats.size !== size;
    }
    const before = target.fresh
      ? undefined
      : await this.#blockdev.readTable(toBytes(target.path), sectorOf(table)).catch(() => {
          this.#abort.signal.throwIfAborted();
          return undefined;
        });
    // What has no name yet, and the last identity, had all its partitions when it was left.
    const last = target.path !== destination.path && before?.id === this.plan.id;
    if (before && (last || before.id === this.#identity(meanwhile)) && before.label === table.label) {
      for (const { number, start, size: bytes } of before.partitions) {
        const part = this.plan.parts.find(({ partition }) => partition.number === number);
        if (part?.to.start === start && part.to.size === bytes) target.proved.add(number);
      }
      if (target.path !== destination.path)
        this.#note(`goes on with ${display(target.path)}, which an earlier run has left`);
      return target;
    }
    if (!destination.file) {
      await target.file.truncate(0);
      await target.file.truncate(size);
      target.fresh = true;
    } else {
      for (const at of [0, size - MIB]) await this.#wipe(target, at, MIB);
    }
    await this.#table(target);
    return target;
  }

  /** Zeros over what was there. */
  async #wipe({ file }: Target, at: number, size: number): Promise<void> {
    await file.write(Buffer.alloc(size), 0, size, at);
  }

  /** The identity of a disk in the form of its table. */
  #identity(guid: string): string {
    return this.plan.table.label === 'gpt' ? guid : `0x${guid.slice(0, 8).toLowerCase()}`;
  }

  /** Writes the table of a clone that is not proved: with the partitions that are, as nobody's. */
  async #table({ path, file, proved }: Target): Promise<void> {
    const { table, parts, meanwhile } = this.plan;
    const logical = parts.some(
      ({ partition: { number } }) => table.label === 'dos' && number > 4 && proved.has(number),
    );
    // Logical ones have their numbers by their order: none can be there without those before it.
    const [least = Number.POSITIVE_INFINITY] = parts
      .flatMap(({ partition: { number } }) =>
        table.label === 'dos' && number > 4 && !proved.has(number) ? number : [],
      )
      .sort((one, other) => one - other);
    const there = parts.filter(({ partition: { number, container } }) =>
      container ? logical : proved.has(number) && (number <= 4 || number < least),
    );
    const partitions = there.map(({ partition, to }) => ({
      ...partition,
      ...to,
      type: partition.container ? partition.type : MEANWHILE[table.label],
      uuid: table.label === 'gpt' ? throwaway(meanwhile, String(partition.number)) : '',
      name: '',
      attributes: 0n,
    }));
    const first = this.#first();
    await this.#blockdev
      .writeTable(toBytes(path), { ...table, first, id: this.#identity(meanwhile), partitions })
      .catch((error: Error) => this.#halt('write', path, error));
    await this.#sync(file);
  }

  /** Syncs, and says since when. */
  async #sync(file: FileHandle): Promise<void> {
    this.#syncing = performance.now();
    try {
      await file.sync();
    } finally {
      this.#syncing = undefined;
    }
  }

  /** Where partitions may begin. */
  #first(): number {
    const { table, parts } = this.plan;
    return Math.min(table.first, ...parts.map(({ to }) => to.start));
  }

  /** Whether what an earlier run has proved is still as the source is. */
  async #isKept(target: Target, part: Part): Promise<boolean> {
    if (part.method === 'files') return this.#sameFiles(target, part, 'nothing', () => undefined).catch(() => false);
    if (part.method === 'make') return false;
    const { source, table } = this.plan;
    const how = { write: false, sectorSize: sectorOf(table) };
    const digests: (string | undefined)[] = [];
    for (const [file, place] of [
      [source, part.partition],
      [target.file, part.to],
    ] as const) {
      const digest = (path: string) => digestOf(path, part.places ?? [], () => this.#stopping);
      digests.push(await attached(this.#blockdev, file.fd, placeOf(place), how, digest));
    }
    return digests[0] !== undefined && digests[0] === digests[1];
  }

  /** One partition; false: it was told to stop. */
  async #partition(target: Target, part: Part): Promise<boolean> {
    const { method, to } = part;
    if (!target.fresh) {
      const size = Math.min(MIB, to.size);
      for (const at of [to.start, to.start + to.size - size]) await this.#wipe(target, at, size);
    }
    try {
      switch (method) {
        case 'raw':
        case 'blocks':
          return await this.#raw(target, part);
        case 'make':
          return await this.#make(target, part);
        default:
          return await this.#files(target, part);
      }
    } catch (error) {
      // It had its identity from the beginning, and is not what that says.
      if (part.found?.type === 'xfs') await this.#wipe(target, to.start, SECTOR).catch(() => undefined);
      if (error instanceof Halt) throw error;
      return this.#halt('clone', this.#nameOf(part), error as Error);
    }
  }

  async #raw(target: Target, part: Part): Promise<boolean> {
    const { source, table } = this.plan;
    const { partition, to, places = [], bytes } = part;
    const heard = (bytes: number) => {
      this.#rawBytes += bytes;
      return this.#stopping;
    };
    const given = await copyRaw(source, partition.start, places, target.file, to.start, target.fresh, heard);
    if (given === undefined) return false;
    await this.#sync(target.file);
    const place = { start: to.start, size: partition.size };
    const how = { write: false, direct: true, sectorSize: sectorOf(table) };
    const got = await attached(this.#blockdev, target.file.fd, place, how, async (path, direct) => {
      if (!direct) this.#verified.fromCache += bytes;
      return digestOf(path, places, heard);
    });
    if (got === undefined) return false;
    if (got !== given) {
      return this.#halt('verify', this.#nameOf(part), new Error('what was written reads back differently'), 'mismatch');
    }
    this.#verified.files += 1;
    this.#verified.bytes += bytes;
    this.#count(bytes);
    return true;
  }

  /** A partition that was copied whole, or made, is one entry. */
  #count(bytes: number): void {
    this.#ledger.found.block += 1;
    this.#ledger.copiedBytes += bytes;
    this.#ledger.settle({ copied: { all: 1, file: 0, directory: 0 } });
  }

  async #make(target: Target, part: Part): Promise<boolean> {
    await this.#attached(target, part.to, true, (path) => makeSwap(path, this.#making(part)));
    await this.#sync(target.file);
    this.#count(0);
    return true;
  }

  #making({ found, mirror, identity: { uuid } }: Part) {
    const { type = '', label = '' } = found ?? {};
    return { type, label, uuid, mirror, signal: this.#abort.signal };
  }

  /** A range of the destination as a device; what is read of it comes from the medium. */
  #attached<T>({ file }: Target, to: Place, write: boolean, use: (path: string) => Promise<T>): Promise<T> {
    const { table } = this.plan;
    const how = { write, direct: !write, sectorSize: sectorOf(table) };
    return attached(this.#blockdev, file.fd, to, how, use);
  }

  /** From a snapshot, where what is mounted has them. */
  async #files(target: Target, part: Part): Promise<boolean> {
    const snapshot = await this.#snapshot(part);
    try {
      return await this.#filesOf(target, snapshot ? { ...part, root: snapshot.root, still: true } : part);
    } finally {
      await snapshot?.remove().catch((error: Error) => {
        this.#note(`a snapshot is left in ${display(part.live ?? '')}: ${error.message}`);
      });
    }
  }

  async #snapshot({ root, live, found }: Part): Promise<Snapshot | undefined> {
    if (root === undefined || live === undefined || found?.type !== 'btrfs') return undefined;
    return snapshotOf(root, live).catch((error: Error) => {
      this.#note(`${display(live)} is copied as it is now and then, without a snapshot: ${error.message}`);
      return undefined;
    });
  }

  async #filesOf(target: Target, part: Part): Promise<boolean> {
    const { table } = this.plan;
    const { root, found, to } = part;
    const kind = KINDS[found?.type ?? ''];
    if (root === undefined || found === undefined || kind === undefined)
      throw new BulkhaulError('INTERNAL', 'no files');
    await this.#attached(target, to, true, (path) => this.#mkfs(path, part));
    const how = { write: true, sectorSize: sectorOf(table) };
    const mounted = await mountedAt(this.#blockdev, target.file.fd, found.type, to, how);
    try {
      const extra = join(mounted.directory, 'lost+found');
      if ((await stat(join(root.directory, 'lost+found')).catch(unlessAbsent)) === undefined) {
        await rmdir(extra).catch(unlessAbsent);
      }
      if (!(await this.#copy(part, mounted.directory, root.directory))) return false;
      if (found.type !== 'vfat') await this.#carryFlags(part, root, mounted);
      if (this.#stopping) return false;
    } finally {
      await closed(mounted.descriptor);
    }
    await this.#sync(target.file);
    await this.#attached(target, to, false, (path) => kind.check(path, this.#abort.signal));
    const differs = (event: NativeEvent) => this.#differs(part, event);
    const same = await this.#sameFiles(target, part, 'whole', differs);
    if (this.#stopping) return false;
    if (!same) throw new Halt();
    return true;
  }

  /** Carries what chattr(1) sets, which may forbid all that comes later; what the clone does not take is told. */
  async #carryFlags(part: Part, root: MountedRoot, { descriptor }: MountedRoot): Promise<void> {
    const lost: Buffer[] = [];
    const from = await open(root.directory, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      const ahead = [Buffer.alloc(0)];
      for (let path = ahead.pop(); path !== undefined && !this.#stopping; path = ahead.pop()) {
        const below = (name: Uint8Array) => Buffer.concat([path, Buffer.from(path.length > 0 ? '/' : ''), name]);
        const carried = await this.#blockdev.carryFlags(from.fd, descriptor, path);
        ahead.push(...carried.directories.map(below));
        lost.push(...carried.lost.map(below));
      }
    } finally {
      await from.close();
    }
    const [first, ...more] = lost;
    if (first === undefined) return;
    const others = more.length > 0 ? `, and of ${more.length} more` : '';
    this.#note(`${this.#nameOf(part)}: flags (chattr) of /${display(fromBytes(first))} are not kept${others}`);
  }

  /** Makes a file system as that of the source is; with less of its parameters where mkfs does not take them. */
  async #mkfs(path: string, part: Part): Promise<void> {
    const kind = KINDS[part.found?.type ?? ''];
    const making = this.#making(part);
    const name = this.#nameOf(part);
    try {
      await kind?.make(path, making).catch((error: Error) => {
        if (making.mirror.length === 0 || this.#stopping) throw error;
        this.#note(`${name} is made with the defaults of mkfs, which refused its parameters: ${error.message}`);
        return kind.make(path, { ...making, mirror: [] });
      });
    } catch (error) {
      await this.#halt('mkfs', name, error as Error);
    }
  }

  /** Copies files; false: it was told to stop. */
  async #copy(part: Part, into: string, from: string): Promise<boolean> {
    const { exclude: _, spillDirectory, entries, ...resources } = this.settings;
    const fat = part.found?.type === 'vfat';
    const options: MappedCopyOptions = {
      ...resources,
      sources: [{ path: from, contents: true, follow: true }],
      destinations: [{ path: into, follow: true }],
      allowNested: true,
      sync: 'all',
      sparse: 'auto',
      requireSpace: part.to.size < part.partition.size,
      // What FAT shows of these is how it is mounted.
      owner: !fat,
      permissions: !fat,
      ...this.#filter(part, [from]),
      spillDirectory,
      entries: entries ?? false,
    };
    let report: NativeReport | undefined;
    for (let pass = 0; pass < PASSES && !this.#stopping; pass += 1) {
      const { native } = await prepareCopy(options);
      const job = aliased(native, [this.#alias(part, from, 'source'), this.#alias(part, into, 'destination')]);
      const last = pass === PASSES - 1 || !changes(part);
      const kept: NativeEvent[] = [];
      // What has changed is looked at once more, and told then.
      const take = (event: NativeEvent) =>
        !last && event.type === 'error' ? void kept.push(event) : this.#pass(event);
      report = await this.#run(job, take);
      const code = faultCode(report);
      if (code !== ExitCode.changed || last) {
        for (const event of kept) await this.#pass(event);
        break;
      }
    }
    if (report === undefined) return false;
    this.#reports.push(report);
    const code = faultCode(report);
    if (code === ExitCode.complete || (code === ExitCode.changed && changes(part))) return !this.#stopping;
    if (code === ExitCode.interrupted) return false;
    throw new Halt();
  }

  /** An event of a copy is one of the clone. Its report has the failures. */
  #pass(event: NativeEvent): void | Promise<void> {
    if (event.type !== 'question') return this.#ledger.tell(event);
  }

  #filter(part: Part, roots: readonly string[]): Pick<MappedCopyOptions, 'filter'> {
    const { exclude = [] } = this.settings;
    const rules = exclude.flatMap((rule) => (rule.startsWith('/') ? roots.map((root) => root + rule) : [rule]));
    rules.push(...this.#own(part).flatMap((name) => roots.map((root) => root + name)));
    return rules.length > 0 ? { filter: { style: 'fnmatch', rules } } : {};
  }

  /** What of ours lies in what is cloned: the clone itself, and what a dead run has left. */
  #own({ live, found }: Part): string[] {
    const { destination } = this.plan;
    const snapshots = found?.type === 'btrfs' ? [`/${SNAPSHOT}*`] : [];
    if (live === undefined || destination.file) return snapshots;
    const path = destination.real;
    if (path === undefined || (live !== '/' && !path.startsWith(`${live}/`))) return snapshots;
    const inside = (live === '/' ? path : path.slice(live.length)).replace(/[*?[]/g, '[$&]');
    return [...snapshots, inside, `${inside}.partial`];
  }

  /** Runs a job of the engine, and takes its events. */
  async #run(job: NativeJob, take: (event: NativeEvent) => void | Promise<void>): Promise<NativeReport> {
    this.#current = job;
    try {
      if (this.#stopping) job.cancel(this.#abort.signal.aborted);
      return await follow(job, take);
    } finally {
      const { readBytes, workedEntries } = job.peek();
      this.#read += readBytes;
      this.#worked += workedEntries;
      this.#current = undefined;
    }
  }

  /** Whether the clone of a partition has the files of its source; `differs` hears of each that it has not. */
  async #sameFiles(
    target: Target,
    part: Part,
    content: 'whole' | 'nothing',
    differs: (event: NativeEvent) => void | Promise<void>,
  ): Promise<boolean> {
    const { table } = this.plan;
    const { root, found, to } = part;
    if (root === undefined || found === undefined) return false;
    const how = { write: false, direct: true, sectorSize: sectorOf(table) };
    const mounted = await mountedAt(this.#blockdev, target.file.fd, found.type, to, how);
    try {
      const { exclude: _, spillDirectory, entries: __, ...resources } = this.settings;
      const tree = (path: string) => ({ trees: [{ path, contents: true, follow: true }] });
      const metadata = found.type !== 'vfat';
      const { native } = await prepareComparison({
        ...resources,
        left: tree(root.directory),
        right: tree(mounted.directory),
        ...{ content, metadata, xattrs: metadata, spillDirectory, entries: true },
        ...this.#filter(part, [root.directory, mounted.directory]),
      });
      let explained = true;
      this.#comparing = true;
      const names = [this.#alias(part, root.directory, 'source'), this.#alias(part, mounted.directory, 'destination')];
      const report = await this.#run(aliased(native, names), (event) => {
        if (event.type === 'error' || (event.type === 'entry' && event.outcome !== 'same')) {
          explained &&= changes(part) && event.type === 'entry' && !isDamage(event.changes);
          return differs(event);
        }
      });
      if (content === 'nothing') return !report.interrupted && faultCode(report) === 0 && total(pick(report)) === 0;
      this.#verified.files += report.files.same / 2;
      this.#verified.bytes += report.foundBytes / 2;
      if (!mounted.direct) this.#verified.fromCache += report.foundBytes / 2;
      return !report.interrupted && explained;
    } finally {
      this.#comparing = false;
      await closed(mounted.descriptor);
    }
  }

  /** A file that the proof has found to be another: of a live source what changed meanwhile, else damage. */
  #differs(part: Part, event: NativeEvent): void | Promise<void> {
    if (event.type === 'error') return this.#ledger.fail(event, false);
    if (event.type !== 'entry') return;
    const meanwhile = changes(part) && !isDamage(event.changes);
    const path = event.source.length > 0 ? event.source : event.destination;
    const what = meanwhile ? 'changed meanwhile' : 'is another in the clone';
    return this.#ledger.fail(
      {
        type: 'error',
        kind: meanwhile ? 'changed' : 'mismatch',
        outcome: meanwhile ? 'changed' : 'mismatched',
        operation: 'compare',
        path,
        entryKind: event.kind,
        message: `compare ${fromBytes(path)}: it ${what} (${event.changes.join(', ')})`,
      },
      false,
    );
  }

  /** Identity, then boot code, then a look at all of it, and the name. */
  async #finish(target: Target): Promise<void> {
    const { plan } = this;
    const { table, parts, source, destination } = plan;
    this.#phase = 'closing';
    try {
      for (const part of parts) {
        const { found, to, method, identity } = part;
        const other = (method === 'raw' || method === 'blocks') && identity.uuid !== (found?.uuid ?? '');
        const kind = method === 'files' || other ? KINDS[found?.type ?? ''] : undefined;
        if (kind?.identify)
          await this.#attached(target, to, true, (path) => kind.identify?.(path, identity.uuid) ?? Promise.resolve());
      }
      await this.#rewrite(target);
      await this.#sync(target.file);
      const partitions = parts.map(({ partition, to, identity: { partUuid } }) => ({
        ...partition,
        ...to,
        uuid: partUuid,
      }));
      const final = { ...table, id: this.plan.id, first: this.#first(), partitions };
      await this.#blockdev.writeTable(toBytes(target.path), final);
      await this.#bootCode(target, source);
      await this.#sync(target.file);
      await this.#readBack(target, final);
      await this.#blockdev.rereadTable(target.file.fd).catch((error: Error) => {
        this.#abort.signal.throwIfAborted();
        this.#note(`the kernel goes on with the old partitions (partprobe has it look again): ${whyOf(error)}`);
      });
      await this.#boots(target);
      if (target.path !== destination.path)
        await publish(target.path, destination.path, destination.stats !== undefined);
    } catch (error) {
      if (error instanceof Halt) throw error;
      await this.#halt('identify', destination.path, error as Error);
    }
  }

  /** Puts the identities of the clone where its files have those of the source. */
  async #rewrite(target: Target): Promise<void> {
    const { parts, table, options } = this.plan;
    if (!options.newIdentity) return;
    const renamed = new Map<string, string>();
    for (const { found, identity, partition, method } of parts) {
      if (found && found.uuid !== '') {
        renamed.set(found.uuid.toLowerCase(), identity.uuid);
        if ((method === 'raw' || method === 'blocks') && identity.uuid === found.uuid) {
          this.#note(`partition ${partition.number} keeps the UUID of the source: ${found.type} is copied as it is`);
        }
      }
      renamed.set(
        this.#partUuid(table, partition.uuid, partition.number, table.id).toLowerCase(),
        this.#finalUuid(partition.number),
      );
    }
    for (const { found, to, method, partition } of parts) {
      if (method !== 'files' && found?.type !== 'vfat') continue;
      const how = { write: true, sectorSize: sectorOf(table) };
      const mounted = await mountedAt(this.#blockdev, target.file.fd, found?.type ?? '', to, how).catch(
        (error: Error) => {
          this.#abort.signal.throwIfAborted();
          this.#note(`nothing is rewritten in partition ${partition.number}: ${whyOf(error)}`);
          return undefined;
        },
      );
      if (mounted === undefined) continue;
      try {
        const { changed, kept } = await rewriteIn(mounted.directory, renamed);
        for (const file of changed) this.#note(`${file} has the ids of the clone`);
        for (const file of kept) this.#note(`${file} has the ids of the source: it may not be written to (chattr)`);
      } finally {
        await closed(mounted.descriptor);
      }
    }
  }

  /** By what a partition is known: one of an MBR disk by the id of the disk, and its number. */
  #partUuid({ label }: Pick<PartitionTable, 'label'>, uuid: string, number: number, id: string): string {
    return label === 'gpt' ? uuid : `${id.slice(2)}-${number.toString(16).padStart(2, '0')}`;
  }

  #finalUuid(of: number): string {
    const { table, parts, id } = this.plan;
    const part = parts.find(({ partition: { number } }) => number === of);
    return this.#partUuid(table, part?.identity.partUuid ?? '', of, id);
  }

  /** Boot code; of a table of the kind `dos` also what a boot loader has put before the first partition. */
  async #bootCode({ file }: Target, source: FileHandle): Promise<void> {
    const { table, parts } = this.plan;
    const { buffer: code } = await source.read(Buffer.alloc(BOOT_CODE), 0, BOOT_CODE, 0);
    await file.write(code, 0, BOOT_CODE, 0);
    if (table.label !== 'dos') return;
    const end = Math.min(...parts.flatMap(({ partition, to }) => [partition.start, to.start]), 64 * MIB);
    const gap = { start: SECTOR, size: end - SECTOR };
    if (gap.size > 0) await copyRaw(source, 0, [gap], file, 0, false, () => false);
  }

  /** Tells what would not be found when the clone boots. */
  async #boots(target: Target): Promise<void> {
    const { parts, options, table } = this.plan;
    const all = (of: (part: Part) => (string | undefined)[]) => parts.flatMap((part) => of(part).map((id) => id ?? ''));
    // What the source says of itself the clone says of itself, where it has identities of its own.
    const own = (id: string | undefined) => (options.newIdentity ? [id] : []);
    const known = {
      uuids: all(({ found, identity }) => [identity.uuid, ...own(found?.uuid)]),
      labels: all(({ found }) => [found?.label]),
      partUuids: all(({ partition: { number, uuid } }) => [
        this.#finalUuid(number),
        ...own(this.#partUuid(table, uuid, number, table.id)),
      ]),
      partLabels: all(({ partition }) => [partition.name]),
    };
    const twins =
      !options.newIdentity &&
      this.plan.destination.file !== undefined &&
      (await this.plan.source.stat()).isBlockDevice();
    if (twins) this.#note('both disks have the same ids now: in one machine a system may take the one for the other');
    const looked = async (directory: string, { number, type }: Partition) => {
      for (const sentence of await astrayIn(directory, known)) this.#note(sentence);
      if (!SYSTEM_PARTITIONS.includes(type.toUpperCase()) || (await hasFallbackLoader(directory))) return;
      const why = 'a machine that does not know the disk finds nothing to start (EFI/BOOT/BOOT*.EFI)';
      this.#note(`partition ${number} is a system partition of UEFI without a loader in the place for any: ${why}`);
    };
    for (const { root, found, to, partition } of parts) {
      if (root) await looked(root.directory, partition);
      // What boards boot from was copied as it is.
      if (root || found?.type !== 'vfat') continue;
      const how = { write: false, sectorSize: sectorOf(table) };
      const mounted = await mountedAt(this.#blockdev, target.file.fd, found.type, to, how).catch((error: Error) => {
        this.#abort.signal.throwIfAborted();
        this.#note(`nobody has looked at what partition ${partition.number} says of disks: ${whyOf(error)}`);
        return undefined;
      });
      if (mounted === undefined) continue;
      try {
        await looked(mounted.directory, partition);
      } finally {
        await closed(mounted.descriptor);
      }
    }
  }

  /** Reads table and identities back. Throws what is not as it has to be. */
  async #readBack({ file, path }: Target, wanted: Omit<PartitionTable, 'end'>): Promise<void> {
    const { parts, table } = this.plan;
    const found = await this.#blockdev.readTable(toBytes(path), sectorOf(table));
    const facts = (of: Pick<PartitionTable, 'id' | 'label' | 'partitions'> | undefined) =>
      JSON.stringify([of?.id, of?.label, of?.partitions], (_, value) =>
        typeof value === 'bigint' ? String(value) : value,
      );
    if (facts(found) !== facts(wanted)) throw new BulkhaulError('USAGE', 'the partition table reads back differently');
    for (const { partition, to, found, identity } of parts) {
      if (partition.container || found === undefined) continue;
      const has = await this.#blockdev.probe(file.fd, to.start, to.size);
      const had = { ...found, uuid: identity.uuid };
      for (const of of ['type', 'uuid', 'label'] as const) {
        // Swap that held a sleeping system is plain swap.
        if (has?.[of] === had[of] || (of === 'type' && had.type === 'swsuspend')) continue;
        throw new BulkhaulError(
          'USAGE',
          `partition ${partition.number} has the ${of} ${has?.[of] || 'none'}, not ${had[of]}`,
        );
      }
    }
  }

  #nameOf({ partition }: Part): string {
    return `${this.plan.destination.path}, partition ${partition.number}`;
  }

  #alias({ partition }: Part, path: string, side: 'source' | 'destination') {
    const name = `${this.plan.options[side]}, partition ${partition.number}:`;
    return { path: toBytes(path), name: toBytes(name) };
  }

  #note(message: string): void {
    this.#ledger.note('clone', message, Buffer.alloc(0));
  }

  /** Tells why the clone can't go on, and ends it. */
  async #halt(operation: string, path: string, error: Error, kind = 'other'): Promise<never> {
    const mismatch = kind === 'mismatch';
    const failure: NativeFailure = {
      ...{ type: 'error', kind, operation, path: toBytes(path), entryKind: 'block' },
      outcome: mismatch ? 'mismatched' : 'failed',
      message: `${operation} ${path}: ${whyOf(error, path)}`,
    };
    // Whoever asked for the end is not told that it came.
    if (!this.#stopping) await this.#ledger.fail(failure, false);
    throw new Halt();
  }

  nextEvents() {
    return this.#ledger.events.next();
  }

  cancel(abort: boolean): void {
    this.#stopping = true;
    if (abort) this.#abort.abort();
    this.#current?.cancel(abort);
  }

  setLimits(limits: Limits): void {
    this.#current?.setLimits(limits);
  }

  setStallTimeout(): void {}

  answer(): void {}

  peek(): NativeSnapshot {
    return this.snapshot();
  }

  snapshot(): NativeSnapshot {
    const running = this.#current?.peek();
    const now = this.#comparing ? undefined : running;
    const sum = (of: (report: NativeReport) => number) => this.#reports.reduce((all, report) => all + of(report), 0);
    const read = this.#read + this.#rawBytes + (running?.readBytes ?? 0);
    const done = sum(({ outcomes }) => total(outcomes)) + total(this.#ledger.outcomes) + (now?.doneEntries ?? 0);
    const files = sum(({ found }) => found.file) + (now?.foundFiles ?? 0);
    const foundBytes = sum((report) => report.foundBytes) + (now?.foundBytes ?? 0);
    const { bytes, entries } = this.#ahead;
    const before = this.#before;
    const syncing = running?.syncing ?? (this.#syncing && (performance.now() - this.#syncing) / 1000);
    return {
      phase: this.#phase,
      foundFiles: files,
      foundBytes,
      foundDirectories: sum(({ found }) => found.directory) + (now?.foundDirectories ?? 0),
      foundLinks: sum(({ found }) => found.symlink) + (now?.foundLinks ?? 0),
      doneEntries: done,
      doneFiles: sum((report) => total(report.files)) + (now?.doneFiles ?? 0),
      doneBytes: sum((report) => report.foundBytes) + this.#rawBytes + (now?.doneBytes ?? 0),
      skippedFiles: 0,
      skippedBytes: 0,
      copiedBytes: sum(({ copiedBytes }) => copiedBytes) + this.#ledger.copiedBytes + (now?.copiedBytes ?? 0),
      copiedFiles: sum((report) => report.files.copied) + (now?.copiedFiles ?? 0),
      resumedBytes: 0,
      errors: this.#ledger.errors + sum(({ failureKinds }) => total(failureKinds)) + (running?.errors ?? 0),
      workers: running?.workers ?? 1,
      limits: running?.limits ?? { bytes: 0, entries: 0 },
      verifiedBytes: this.#verified.bytes,
      readBytes: read,
      workedEntries: this.#worked + (running?.workedEntries ?? 0),
      // Of what is ahead file systems tell how much there is; what is done with was counted.
      ...(this.#phase !== 'preflight' && {
        expected: {
          entries: Math.ceil((before.entries + entries) / 2),
          files: before.files + entries / 2,
          bytes: Math.ceil(before.foundBytes + bytes / 2),
          toRead: Math.max(read, before.bytes + bytes),
          toDo: before.entries + entries,
        },
      }),
      ...(syncing !== undefined && { syncing }),
      ...(this.#stopping && { stopping: { files: 0, bytes: 0, ...running?.stopping } }),
      elapsed: this.#elapsed ?? (performance.now() - this.#begun) / 1000,
    };
  }

  #report(): NativeReport {
    const { files, bytes, fromCache } = this.#verified;
    const own = this.#ledger.report({
      ...{ interrupted: this.#stopping, workers: 1, dryRun: false },
      elapsed: this.#elapsed ?? 0,
    });
    const report = this.#reports.reduce(added, own);
    return { ...report, verifiedFiles: files, verifiedBytes: bytes, verifiedFromCache: fromCache, sync: 'all' };
  }
}

/** Whether others may write to what is cloned. */
const changes = ({ live, still = false }: Part) => live !== undefined && !still;

const placeOf = ({ start, size }: Place): Place => ({ start, size });

/** Content that is another while nothing else says that anybody wrote it. */
const isDamage = (changes: readonly string[]) => changes.length === 1 && changes[0] === 'content';

const pick = ({ differences: { left, right, changed } }: NativeReport) => ({ left, right, changed });

/** Two reports of one run in one: counts are summed, lists follow each other. */
function added(one: NativeReport, other: NativeReport): NativeReport {
  const sums = <T extends Record<string, number>>(a: T, b: T): T =>
    Object.fromEntries(
      [...new Set([...Object.keys(a), ...Object.keys(b)])].map((key) => [key, (a[key] ?? 0) + (b[key] ?? 0)]),
    ) as T;
  const numbers = Object.fromEntries(
    Object.entries(one).flatMap(([key, value]) => {
      const more = other[key as keyof NativeReport];
      return typeof value === 'number' && typeof more === 'number' ? [[key, value + more]] : [];
    }),
  );
  return {
    ...one,
    ...numbers,
    outcomes: sums(one.outcomes, other.outcomes),
    found: sums(one.found, other.found),
    files: sums(one.files, other.files),
    directories: sums(one.directories, other.directories),
    skipped: sums(one.skipped, other.skipped),
    failureKinds: sums(one.failureKinds, other.failureKinds),
    sizes: other.sizes.map((each, index) => ({
      ...each,
      files: each.files + (one.sizes[index]?.files ?? 0),
      bytes: each.bytes + (one.sizes[index]?.bytes ?? 0),
    })),
    heaviest: [...one.heaviest, ...other.heaviest].sort((a, b) => b.bytes - a.bytes).slice(0, 20),
    slowest: [...one.slowest, ...other.slowest].sort((a, b) => b.seconds - a.seconds).slice(0, 20),
    failures: [...one.failures, ...other.failures].slice(0, 1000),
    notes: [...one.notes, ...other.notes],
    withheld: [...one.withheld, ...other.withheld],
    accounted: one.accounted && other.accounted,
    interrupted: one.interrupted || other.interrupted,
    workers: Math.max(one.workers, other.workers),
    elapsed: one.elapsed,
  };
}

/** Gives an image its name; `replace`: in place of the one that had it, which somebody has agreed to. */
async function publish(partial: string, path: string, replace: boolean): Promise<void> {
  if (replace) return rename(toBytes(partial), toBytes(path));
  await link(toBytes(partial), toBytes(path)).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
    throw new BulkhaulError('USAGE', `something has its name by now; it is ${display(partial)}`);
  });
  await rm(toBytes(partial));
}
