/**
 * The plan of a run: what there is in a source, divided into parts, as immutable lists in a run directory.
 *
 * Comes in: a job of the planner that writes JSON lines; goes out: a list for each part, those of directories apart, with
 * digests and counts. It promises that each entry of the planner's lists is in one of these, once.
 */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';
import { lstat, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { BulkhaulError } from '../../error.js';
import { makeDirectories } from '../../journal/store.js';
import { fromBytes, toBytes } from '../../names.js';
import type { EntryKind, NativeFailure, NativePart, NativeShare, NativeSizeClass } from '../../native/events.js';
import type { NativePartitionOptions } from '../../native/options.js';
import { loadAddon, type NativeJob } from '../../native.js';
import { follow } from '../job.js';
import { lines, NEWLINE, type PlannedPart, type RunDirectory, type Stored, store, TOGETHER } from './directory.js';
import { LEAST_RANGE, MOST_RANGE } from './range.js';

/** Parts for each worker, unless somebody says how many: so that the last of them does not work alone for long. */
const PARTS_PER_WORKER = 16;

/** What is to be divided, and how. */
export interface Division {
  /** A directory; what is in it is divided. */
  source: string;
  /** Names begin below it, and otherwise with its own. */
  contents: boolean;
  /** Rules of rsync's form. */
  rules: readonly Buffer[];
  oneFileSystem: boolean;
  /** Only what a list names, each by itself: what was sifted of it. */
  named: Sifted | undefined;
  /** Parts; absent: by the number of workers. */
  parts: number | undefined;
  workers: number;
  spillDirectory: string | undefined;
  dryRun: boolean;
}

/** What was planned. */
export interface Planned {
  parts: PlannedPart[];
  found: Record<EntryKind, number>;
  /** The digest of the list of directories. */
  directories: string;
  failureKinds: Record<string, number>;
  /** How large files are, and where most of them are. */
  sizes: NativeSizeClass[];
  heaviest: Stored<NativeShare>[];
  interrupted: boolean;
}

/** The names of a list. */
export interface Sifted {
  /** The file with those that are no directories, each ended by NUL. */
  others: string;
  /** The directories among them, and those on the way to any. */
  directories: Buffer[];
}

/**
 * Sifts a list of names relative to a source: all of them go into the run directory too, in the form of its lists. After `stop`
 * the rest of them is not waited for.
 */
export async function sift(
  { path, nul }: { path: string; nul: boolean },
  source: string,
  directory: RunDirectory,
  stop: AbortSignal,
): Promise<Sifted> {
  const others = new List(join(directory.path, 'plan.names'));
  const all = new List(directory.names);
  const directories = new Map<string, Buffer>();
  const enter = (name: Buffer) => directories.set(name.toString('latin1'), name);
  // The source itself is there, whatever else is.
  enter(HERE);
  for await (const line of lines(path, nul ? 0 : NEWLINE, true, stop)) {
    const parts = split(line, SLASH).filter((part) => part.length > 0 && !part.equals(HERE));
    if (line.length === 0) continue;
    // What leads out is for the planner to refuse.
    if (line[0] === SLASH || parts.some((part) => part.equals(ABOVE))) {
      others.add(line);
      continue;
    }
    const name = joined(parts);
    all.add(parts.length === 0 ? HERE : name);
    if (parts.length === 0) continue;
    const path = Buffer.concat([toBytes(`${source}/`), name]);
    // What is not there the planner tells.
    const about = await lstat(path).catch(() => undefined);
    for (let many = 1; about && many < parts.length; many += 1) enter(joined(parts.slice(0, many)));
    if (about?.isDirectory()) enter(name);
    else others.add(name);
  }
  others.end();
  all.end();
  await keepAll([directory.names]);
  return { others: join(directory.path, 'plan.names'), directories: [...directories.values()] };
}

const SLASH = 0x2f;
const [HERE, ABOVE] = [Buffer.from('.'), Buffer.from('..')];

function split(bytes: Buffer, at: number): Buffer[] {
  const parts: Buffer[] = [];
  let from = 0;
  for (let end = bytes.indexOf(at); end >= 0; end = bytes.indexOf(at, from)) {
    parts.push(bytes.subarray(from, end));
    from = end + 1;
  }
  return [...parts, bytes.subarray(from)];
}

function joined(parts: readonly Buffer[]): Buffer {
  return Buffer.concat(parts.flatMap((part, index) => (index === 0 ? [part] : [Buffer.of(SLASH), part])));
}

/** The planner's job, which writes its lists into the run directory, or in a dry run none. */
export async function planner(division: Division, directory: RunDirectory): Promise<NativeJob> {
  const { source, contents, rules, oneFileSystem, named, parts, workers, spillDirectory, dryRun } = division;
  const path = contents ? `${source.replace(/\/*$/, '')}/` : source;
  const options: NativePartitionOptions = {
    sources: [{ path: toBytes(path), contents, follow: contents }],
    parts: parts ?? workers * PARTS_PER_WORKER,
    oneFileSystem,
    format: 'jsonl',
    ...(named && { filesFrom: { path: toBytes(named.others), nul: true, contents: true } }),
    ...(rules.length > 0 && { filter: { style: 'rsync', rules: [...rules] } }),
    ...(spillDirectory !== undefined && { spillDirectory: toBytes(spillDirectory) }),
    ...(dryRun ? { dryRun } : { template: toBytes(join(directory.path, 'plan', 'list')), replace: true }),
  };
  if (!dryRun) makeDirectories(join(directory.path, 'plan'));
  return (await loadAddon()).partition(options);
}

/**
 * Runs the planner, and turns what it wrote into the lists of the run. `named`: directories that it has not seen; `cut`: the
 * directory that names begin below, where its big files are cut into ranges; `below`: of names that begin with that of the source
 * only the rest is meant; `told`: takes its events.
 */
export async function plan(
  job: NativeJob,
  directory: RunDirectory,
  { named, cut, below }: { named: readonly Buffer[]; cut: string | undefined; below: boolean },
  told: (event: NativeFailure | NativePart) => void | Promise<void>,
): Promise<Planned> {
  const found = { file: 0, directory: 0, symlink: 0, fifo: 0, socket: 0, block: 0, char: 0 };
  const lists: { path: string; cost: number }[] = [];
  const failures: NativeFailure[] = [];
  const report = await follow(job, async (event) => {
    if (event.type === 'error' && failures.push(event) >= TOGETHER) directory.fail(0, 0, failures.splice(0));
    if (event.type === 'part' && event.path) lists.push({ path: fromBytes(event.path), cost: event.cost });
    if (event.type === 'error' || event.type === 'part') await told(event);
  });
  directory.fail(0, 0, failures);
  const { failureKinds, interrupted, sizes, heaviest } = report;
  const parts: PlannedPart[] = [];
  const directories = new List(directory.directories);
  for (const name of named) {
    found.directory += 1;
    directories.add(name);
  }
  // What a list names counts, whether it is there or not.
  found.file += failureKinds.missing ?? 0;
  let listed = 0;
  // The largest come first, and those of one size in their order.
  lists.sort((one, other) => other.cost - one.cost);
  for (const { path } of interrupted ? [] : lists) {
    // There may be many of them, and signals to hear meanwhile.
    await turn();
    const list = new List(directory.list(parts.length + 1));
    const big: { name: Buffer; size: number; length: number }[] = [];
    let bytes = 0;
    const groups = new Set<number>();
    for await (const line of lines(path, NEWLINE, false)) {
      const { path, pathBase64, kind, size = 0, linkGroup, ranges } = JSON.parse(line.toString()) as Listed;
      listed += 1;
      found[kind] += 1;
      const whole = pathBase64 === undefined ? Buffer.from(path) : Buffer.from(pathBase64, 'base64');
      const name = below ? rest(whole) : whole;
      const length = Math.min(MOST_RANGE, Math.max(LEAST_RANGE, ranges?.bytes ?? 0));
      const large = ranges !== undefined && linkGroup === undefined && size >= 2 * length;
      if (cut !== undefined && large && !(await isHollow(cut, name))) {
        big.push({ name, size, length });
        continue;
      }
      (kind === 'directory' ? directories : list).add(name);
      if (linkGroup === undefined || !groups.has(linkGroup)) bytes += size;
      if (linkGroup !== undefined) groups.add(linkGroup);
    }
    const digest = list.end();
    if (list.entries > 0) parts.push({ entries: list.entries, bytes, digest });
    for (const file of big) parts.push(...inRanges(file, parts.length + 1, directory));
  }
  const { entries = listed } = report.parts ?? {};
  if (listed !== entries && !interrupted)
    throw new BulkhaulError(
      'INTERNAL',
      `the planner has put ${entries} entries into its lists, and ${listed} are there`,
    );
  const digest = directories.end();
  await keepAll([directory.directories, ...parts.map((_, place) => directory.list(place + 1))]);
  for (const name of ['plan', 'plan.names'])
    await rm(toBytes(join(directory.path, name)), { recursive: true, force: true });
  const seen = { sizes, heaviest: heaviest.map((share) => store(share)) };
  return { parts, found, directories: digest, failureKinds, ...seen, interrupted };
}

/** A name without its first component. */
function rest(name: Buffer): Buffer {
  const slash = name.indexOf(SLASH);
  return slash < 0 ? HERE : name.subarray(slash + 1);
}

/**
 * Whether a file has more of holes than of anything else, and more than a range: ranges read holes as zeros, and a copy of the
 * whole leaps over them.
 */
async function isHollow(directory: string, name: Buffer): Promise<boolean> {
  try {
    const { size, blocks } = await lstat(Buffer.concat([toBytes(`${directory}/`), name]));
    const kept = blocks * 512;
    return size - kept > Math.max(kept, MOST_RANGE);
  } catch {
    // It went meanwhile, and whoever copies it says so.
    return false;
  }
}

/** A big file: parts of its ranges, and one of itself, from a number on. */
function inRanges(
  { name, size, length }: { name: Buffer; size: number; length: number },
  first: number,
  directory: RunDirectory,
): PlannedPart[] {
  // What is left over is no range of its own.
  const many = Math.floor(size / length);
  const parts: PlannedPart[] = [];
  for (let index = 0; index <= many; index += 1) {
    const list = new List(directory.list(first + index));
    list.add(name);
    const digest = list.end();
    const [start, end] = [index * length, index === many - 1 ? size : (index + 1) * length];
    parts.push(
      index < many
        ? { entries: 0, bytes: end - start, digest, range: { start, end, size } }
        : { entries: 1, bytes: 0, digest, ranges: [first, first + many - 1] },
    );
  }
  return parts;
}

/** A line of a list, as far as it counts here. */
interface Listed {
  path: string;
  pathBase64?: string;
  kind: EntryKind;
  size?: number;
  linkGroup?: number;
  /** Of a file that is larger than a part. */
  ranges?: { number: number; bytes: number };
}

const END = Buffer.from([0]);

/** Syncs that are waited for at once: a file system makes one of many. */
const SYNCS = 16;

/** Has files on disk: those that were written some time ago, together, cost a small part of one by one. */
async function keepAll(paths: readonly string[]): Promise<void> {
  const left = paths.values();
  const keep = async () => {
    for (const path of left) {
      const file = await open(toBytes(path), 'r');
      try {
        await file.sync();
      } finally {
        await file.close();
      }
    }
  };
  await Promise.all(Array.from({ length: SYNCS }, keep));
}

/** Bytes of a list that are held before they are written. */
const HELD = 64 * 1024;

/** A list that is written. */
class List {
  readonly #file: number;
  readonly #hash: Hash = createHash('sha256');
  #held: Buffer[] = [];
  #bytes = 0;
  entries = 0;

  constructor(path: string) {
    this.#file = openSync(toBytes(path), 'w', 0o600);
  }

  add(name: Buffer): void {
    this.entries += 1;
    this.#held.push(name, END);
    this.#bytes += name.length + END.length;
    if (this.#bytes >= HELD) this.#write();
  }

  /** The digest of it, when it is written. */
  end(): string {
    this.#write();
    closeSync(this.#file);
    return this.#hash.digest('hex');
  }

  #write(): void {
    const bytes = Buffer.concat(this.#held);
    this.#hash.update(bytes);
    for (let done = 0; done < bytes.length; ) done += writeSync(this.#file, bytes, done);
    this.#held = [];
    this.#bytes = 0;
  }
}
