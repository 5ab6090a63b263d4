/**
 * The plan of a run: what there is in a source, divided into parts, as immutable lists in a run directory.
 *
 * Comes in: a job of the planner that writes JSON lines; goes out: a list for each part, those of directories apart, with
 * digests and counts. It promises that each entry of the planner's lists is in one of these, once.
 */
import { createHash, type Hash } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream, createWriteStream, type WriteStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { BulkhaulError } from '../../error.js';
import { makeDirectories } from '../../journal/store.js';
import { fromBytes, toBytes } from '../../names.js';
import type { EntryKind, NativeFailure, NativePart } from '../../native/events.js';
import type { NativePartitionOptions } from '../../native/options.js';
import { loadAddon, type NativeJob } from '../../native.js';
import { type PlannedPart, type RunDirectory, type Stored, store } from './directory.js';
import { LEAST_RANGE, MOST_RANGE } from './range.js';

/** Parts for each worker, unless somebody says how many: so that the last of them does not work alone for long. */
const PARTS_PER_WORKER = 16;
/** Failures that a plan keeps; all are counted. */
const MOST_FAILURES = 1000;

/** What is to be divided, and how. */
export interface Division {
  /** A directory; what is in it is divided. */
  source: string;
  /** Rules of rsync's form. */
  rules: readonly Buffer[];
  oneFileSystem: boolean;
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
  failures: Stored<NativeFailure>[];
  failureKinds: Record<string, number>;
  interrupted: boolean;
}

/** The planner's job, which writes its lists into the run directory, or in a dry run none. */
export async function planner(division: Division, directory: RunDirectory): Promise<NativeJob> {
  const { source, rules, oneFileSystem, parts, workers, spillDirectory, dryRun } = division;
  const options: NativePartitionOptions = {
    sources: [{ path: toBytes(`${source.replace(/\/*$/, '')}/`), contents: true, follow: true }],
    parts: parts ?? workers * PARTS_PER_WORKER,
    oneFileSystem,
    format: 'jsonl',
    ...(rules.length > 0 && { filter: { style: 'rsync', rules: [...rules] } }),
    ...(spillDirectory !== undefined && { spillDirectory: toBytes(spillDirectory) }),
    ...(dryRun ? { dryRun } : { template: toBytes(join(directory.path, 'plan', 'list')), replace: true }),
  };
  if (!dryRun) makeDirectories(join(directory.path, 'plan'));
  return (await loadAddon()).partition(options);
}

/** Runs the planner, and turns what it wrote into the lists of the run. `ranges`: big files are cut; `told`: takes its events. */
export async function plan(
  job: NativeJob,
  directory: RunDirectory,
  ranges: boolean,
  told: (event: NativeFailure | NativePart) => void | Promise<void>,
): Promise<Planned> {
  const found = { file: 0, directory: 0, symlink: 0, fifo: 0, socket: 0, block: 0, char: 0 };
  const lists: { path: string; cost: number }[] = [];
  const failures: Stored<NativeFailure>[] = [];
  const running = job.run();
  for (let batch = await job.nextEvents(); batch.length > 0; batch = await job.nextEvents()) {
    for (const event of batch) {
      if (event.type === 'error' && failures.length < MOST_FAILURES) failures.push(store(event));
      if (event.type === 'part' && event.path) lists.push({ path: fromBytes(event.path), cost: event.cost });
      if (event.type === 'error' || event.type === 'part') await told(event);
    }
  }
  const { failureKinds, interrupted } = await running;
  const parts: PlannedPart[] = [];
  const directories = new List(directory.directories);
  // The largest come first, and those of one size in their order.
  lists.sort((one, other) => other.cost - one.cost);
  for (const { path } of interrupted ? [] : lists) {
    const list = new List(directory.list(parts.length + 1));
    const big: { name: Buffer; size: number; length: number }[] = [];
    let bytes = 0;
    const groups = new Set<number>();
    for await (const line of lines(path)) {
      const { path, pathBase64, kind, size = 0, linkGroup, ranges: cut } = JSON.parse(line) as Listed;
      found[kind] += 1;
      const name = pathBase64 === undefined ? Buffer.from(path) : Buffer.from(pathBase64, 'base64');
      const length = Math.min(MOST_RANGE, Math.max(LEAST_RANGE, cut?.bytes ?? 0));
      if (ranges && cut && linkGroup === undefined && size >= 2 * length) {
        big.push({ name, size, length });
        continue;
      }
      const full = (kind === 'directory' ? directories : list).add(name);
      if (full) await full;
      if (linkGroup === undefined || !groups.has(linkGroup)) bytes += size;
      if (linkGroup !== undefined) groups.add(linkGroup);
    }
    const digest = await list.end();
    if (list.entries > 0) parts.push({ entries: list.entries, bytes, digest });
    for (const file of big) parts.push(...(await inRanges(file, parts.length + 1, directory)));
  }
  const digest = await directories.end();
  await rm(toBytes(join(directory.path, 'plan')), { recursive: true, force: true });
  return { parts, found, directories: digest, failures, failureKinds, interrupted };
}

/** A big file: parts of its ranges, and one of itself, from a number on. */
async function inRanges(
  { name, size, length }: { name: Buffer; size: number; length: number },
  first: number,
  directory: RunDirectory,
): Promise<PlannedPart[]> {
  // What is left over is no range of its own.
  const many = Math.floor(size / length);
  const parts: PlannedPart[] = [];
  for (let index = 0; index <= many; index += 1) {
    const list = new List(directory.list(first + index));
    await list.add(name);
    const digest = await list.end();
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

/** The lines of a file. A newline ends one, and nothing else that some take for an end. */
async function* lines(path: string): AsyncGenerator<string> {
  let rest = Buffer.alloc(0);
  for await (const chunk of createReadStream(toBytes(path)) as AsyncIterable<Buffer>) {
    const bytes = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk;
    let from = 0;
    for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, from)) {
      yield bytes.toString('utf8', from, end);
      from = end + 1;
    }
    rest = bytes.subarray(from) as Buffer<ArrayBuffer>;
  }
  if (rest.length > 0) throw new BulkhaulError('LIST', `the list is cut short: ${path}`);
}

const NEWLINE = 0x0a;
const END = Buffer.from([0]);

/** A list that is written. */
class List {
  readonly #file: WriteStream;
  readonly #hash: Hash = createHash('sha256');
  readonly #failed: Promise<never>;
  entries = 0;

  constructor(path: string) {
    this.#file = createWriteStream(toBytes(path), { mode: 0o600, flush: true });
    this.#failed = once(this.#file, 'error').then(([error]) => Promise.reject(error));
    this.#failed.catch(() => undefined);
  }

  /** A promise asks to wait with the next one. */
  add(name: Buffer): Promise<unknown> | undefined {
    this.entries += 1;
    const bytes = Buffer.concat([name, END]);
    this.#hash.update(bytes);
    return this.#file.write(bytes) ? undefined : Promise.race([once(this.#file, 'drain'), this.#failed]);
  }

  /** The digest of it, when it is on disk. */
  async end(): Promise<string> {
    const closed = once(this.#file, 'close');
    this.#file.end();
    await Promise.race([closed, this.#failed]);
    return this.#hash.digest('hex');
  }
}
