/**
 * The only importer of the addon: its face, one to one with `bindings/node`, and how it is loaded.
 *
 * Comes in: plain option objects (`native/options.ts`); goes out: the addon's `Job` and its plain values
 * (`native/events.ts`). Paths are bytes (`Buffer`) here; everywhere above they are strings in the form of `names.ts`.
 * Sizes are numbers in bytes, exact to 2^53; times are seconds unless the name says otherwise.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { BulkhaulError } from './error.js';
import type { NativeEvent, NativeReport, NativeSnapshot } from './native/events.js';
import type {
  Limits,
  NativeCompareOptions,
  NativeCompressOptions,
  NativeCopyOptions,
  NativeDecompressOptions,
  NativeFilesOptions,
  NativeListOptions,
  NativeManifestOptions,
  NativePackOptions,
  NativePartitionOptions,
  NativePatchOptions,
  NativePruneOptions,
  NativeRemoveOptions,
  NativeStoreCompareOptions,
  NativeStoreListOptions,
  NativeSyncOptions,
  NativeUnpackOptions,
  NativeVerifyOptions,
  PathBytes,
  StoreAccess,
  StoreRequests,
} from './native/options.js';
import { ENGINE, libcOfNode, packageHere } from './native/platform.js';

export interface NativeJob {
  /**
   * Runs to the end on the engine's own threads. Rejects before anything was written with an Error whose `code` is
   * 'USAGE' (bad option or path; exit 2), 'SAFETY' (refused: destination inside source, file onto itself; exit 3),
   * 'NO_SPACE' (not enough space with requireSpace; exit 3), 'NO_SOURCE' (a source is missing), 'LIST' (a list can't be
   * read, or is none of the kind it was given for), 'NO_DESTINATION' (it cannot be used), or
   * 'NO_START' (too few file descriptors, no room for temporary files, a store that does not answer; exit 2).
   */
  run(): Promise<NativeReport>;
  /** The next events, at most 1024; resolves with an empty array when the job has ended and all were taken. One call at a time. Once called, the job waits for its reader. */
  nextEvents(): Promise<NativeEvent[]>;
  /**
   * false: finish what is in flight and ends within seconds, and stop; true: stop at once. What does not come back within a second is left behind, and
   * the report has a note of the kind `left-behind`: then the process had better end.
   */
  cancel(abort: boolean): void;
  /** Changes how fast it may go, from now on, also for what waits already; throws 'USAGE' for what is no rate. */
  setLimits(limits: Limits): void;
  /** Before `run`: the job is given up when nothing moves for so many seconds; 0: never. Throws 'USAGE' for what is none. */
  setStallTimeout(seconds: number): void;
  snapshot(): NativeSnapshot;
  /** The same, of somebody who does not watch: nobody goes ahead to see how much there is. */
  peek(): NativeSnapshot;
  /** Answers a `question`. */
  answer(yes: boolean): void;
}

/** A removal that can be looked at before it is done. */
export interface NativeRemoval {
  /** A job that counts what would go, with an `entry` event for each of the first ten; bytes are known here. */
  preview(): NativeJob;
  /** A job that removes: the very inodes that the preview found, if there was one. */
  remove(): NativeJob;
}

/** Whether one thing can be had. */
export interface Answer {
  name: string;
  /** Why not; absent: it can. */
  error?: string;
}

/** What was found by trying. */
export interface Probe {
  answers: Answer[];
  /** Bytes a second, written and synced. */
  written: number;
  /** Bytes a second, read back. */
  read: number;
  /** Bytes of 64 MiB that the cache gave; absent: the kernel does not tell. */
  fromCache?: number;
}

export interface Addon {
  /** Checks the options; throws an Error with code 'USAGE' that names the option. Touches nothing. */
  removal(options: NativeRemoveOptions): NativeRemoval;
  /** Checks the options; throws an Error with code 'USAGE' that names the option. Starts nothing. */
  copy(options: NativeCopyOptions): NativeJob;
  list(options: NativeListOptions): NativeJob;
  manifest(options: NativeManifestOptions): NativeJob;
  pack(options: NativePackOptions): NativeJob;
  partition(options: NativePartitionOptions): NativeJob;
  unpack(options: NativeUnpackOptions): NativeJob;
  verify(options: NativeVerifyOptions): NativeJob;
  compare(options: NativeCompareOptions): NativeJob;
  patch(options: NativePatchOptions): NativeJob;
  compress(options: NativeCompressOptions): NativeJob;
  decompress(options: NativeDecompressOptions): NativeJob;
  /** The sources that a list names, in its order; without what is in a directory that it names too. Throws like a job. */
  listedSources(list: PathBytes, spillDirectory?: PathBytes): PathBytes[];
  /** Locks the file that a descriptor has open, until it is closed. false: somebody else has the lock; null: there are no locks here. */
  lockDescriptor(descriptor: number): boolean | null;
  /** Whether a process of this number is there. One that has ended and was not waited for is not. */
  processExists(number: number): boolean;
  /** Ends this process at once, whatever its threads are at; what listens to its end hears nothing. */
  endProcess(code: number): void;
  /** Calls that not every kernel has, or that are forbidden here. */
  kernelCalls(): Answer[];
  /** What the directory of a descriptor allows, as far as that is seen without a change. Throws where it is none. */
  lookAt(descriptor: number): Answer[];
  /** The same by trying, in files without a name. Throws where none can be made or written. Holds this thread meanwhile. */
  probe(descriptor: number): Probe;
}

/** What is done between object stores and this machine. */
export interface StoresAddon {
  /** Checks the options; throws an Error with code 'USAGE' that names the option. Asks nothing yet. */
  sync(options: NativeSyncOptions): NativeJob;
  listStore(options: NativeStoreListOptions): NativeJob;
  /** Its report has `differences`. */
  compareStores(options: NativeStoreCompareOptions): NativeJob;
  /** Packs to a URL. */
  pack(options: NativePackOptions, access?: StoreAccess, requests?: StoreRequests): NativeJob;
  /** Unpacks from a URL, lists or verifies. */
  unpack(options: NativeUnpackOptions, access?: StoreAccess, requests?: StoreRequests): NativeJob;
  /** Makes a manifest of what is below the URL that is the one source. */
  manifest(options: NativeManifestOptions, access?: StoreAccess, requests?: StoreRequests): NativeJob;
  /** Verifies what is below the URL that is the directory. */
  verify(options: NativeVerifyOptions, access?: StoreAccess, requests?: StoreRequests): NativeJob;
  /** Removes what is old enough, or all that is there. */
  prune(options: NativePruneOptions): NativeJob;
  openFiles(options: NativeFilesOptions): NativeFiles;
}

/** What is known of an entry of a store. */
export interface FileEntry {
  /** Relative to the place; that of a directory ends with a slash. */
  key: PathBytes;
  directory: boolean;
  size: number;
  /** When it was written, in seconds since 1970. */
  written: number;
  /** Last change, as whoever wrote it has said; absent: nobody has, or nobody was asked. */
  mtime?: number;
  /** Permission bits, likewise. */
  mode?: number;
  /** What changes when the content does; absent: the store does not say. */
  tag?: Buffer;
}

/** A store, file by file. What fails rejects with an Error that has the code 'STORE' and, as `kind`, the kind of a failure. */
export interface NativeFiles {
  /** What is in a directory, whose key is empty or ends with a slash. */
  list(directory: PathBytes): Promise<FileEntry[]>;
  stat(key: PathBytes): Promise<FileEntry | null>;
  /** Begins to read one, from a byte to another, or to its end. */
  read(key: PathBytes, from: number, to?: number): NativeFileReader;
  /** Begins to write one; `mtime`: its last change, in seconds since 1970. */
  write(key: PathBytes, mtime?: number): NativeFileWriter;
}

/** A content that comes back. One call at a time. */
export interface NativeFileReader {
  /** The next part; null at the end. */
  next(): Promise<Buffer | null>;
}

/** A content that is taken in. One call at a time. */
export interface NativeFileWriter {
  put(bytes: Buffer): Promise<void>;
  /** The end: it appears. */
  finish(): Promise<FileEntry>;
  /** Nothing is left of it. */
  abort(): void;
}

/** Where the generated loader and package.json are, relative to the compiled and to the TypeScript source of this file. */
const LOADER = '../../bindings/node/index.js';
const PACKAGE = '../../package.json';
const STORES_LOADER = '../../bindings/stores/index.js';
/** What the names of their packages begin with. */
const STORES = '@bulkhaul/stores';

/** The addon, loaded on first use. Throws `ADDON` with the reason. */
export async function loadAddon(): Promise<Addon> {
  return (await load(LOADER, { part: 'native engine', package: ENGINE, build: 'npm run build:native' })) as Addon;
}

/** The addon for object stores, loaded when a URL is named. Throws `ADDON` with what to do. */
export async function loadStores(): Promise<StoresAddon> {
  const part = { part: 'part for object stores', package: STORES, build: 'scripts/setup --stores' };
  return (await load(STORES_LOADER, part)) as StoresAddon;
}

/** By its loader, which goes by /usr/bin/ldd; where that is of another libc than Node.js, the package for this one. */
async function load(loader: string, part: Part): Promise<unknown> {
  try {
    return await import(new URL(loader, import.meta.url).href);
  } catch (error) {
    try {
      return createRequire(import.meta.url)(packageHere(part.package));
    } catch {
      // The loader's own words tell more.
      throw notLoaded(error, part);
    }
  }
}

/** What can't be loaded, its packages, and what builds it in a checkout. */
type Part = Pick<Where, 'part' | 'package' | 'build'>;

function notLoaded(error: unknown, part: Part): BulkhaulError {
  const { engines } = JSON.parse(readFileSync(new URL(PACKAGE, import.meta.url), 'utf8'));
  const causes: string[] = [];
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) causes.push(cause.message);
  const needs = String(engines.node).replace('>=', '');
  const { platform, arch, versions } = process;
  const where = { platform, arch, node: versions.node, libc: libcOfNode(), needs, ...part };
  return new BulkhaulError('ADDON', whyNot(causes, where), { cause: error });
}

/** What runs the addon, and what it is looked for with. */
interface Where {
  platform: string;
  arch: string;
  /** The version of Node.js, and the oldest that will do. */
  node: string;
  needs: string;
  /** What this Node.js is built for. */
  libc: 'gnu' | 'musl';
  /** What it is. */
  part: string;
  /** The platform packages' names begin with it. */
  package: string;
  /** What builds it in a checkout. */
  build: string;
}

/** One sentence: why the addon can't be loaded, from what the loader's attempts said. */
export function whyNot(causes: readonly string[], where: Where): string {
  const { platform, arch, node, needs, libc, part } = where;
  const loaded = causes.find((cause) => /\.node\b/.test(cause) && !/^Cannot find module/.test(cause));
  const why = loaded?.split('\n', 1)[0];
  // npm leaves out optional packages of another version of Node.js, and says nothing.
  if (why === undefined && older(node, needs))
    return `the ${part} is missing: npm installs it for Node.js ${needs} and newer, and this is ${node}; install a newer Node.js, then bulkhaul again`;
  if (platform !== 'linux' || !['x64', 'arm64'].includes(arch))
    return `there is no ${part} for ${platform} on ${arch}: packages have it for Linux on x64 and arm64${why === undefined ? '' : ` (${why})`}`;
  const [, tried = libc] = new RegExp(`linux-${arch}-(gnu|musl)\\b`).exec(causes.join('\n')) ?? [];
  const name = (libc: string) => `${where.package}-linux-${arch}-${libc}`;
  if (tried !== libc)
    return `the ${part} for ${LIBC[tried]} was looked for, because /usr/bin/ldd is of ${LIBC[tried]}, and this Node.js is built for ${LIBC[libc]}: set NAPI_RS_NATIVE_LIBRARY_PATH to the .node file of ${name(libc)}`;
  if (why?.includes('GLIBC_')) return `the ${part} needs a newer glibc than this machine has: ${why}`;
  if (why !== undefined) return `the ${part} is there and can't be loaded: ${why}`;
  return `the package ${name(tried)}, which has the ${part}, is not installed: npm leaves it out with --omit=optional, or by a lock file of another platform; install bulkhaul again without these (in a checkout: ${where.build})`;
}

const LIBC: Readonly<Record<string, string>> = { gnu: 'glibc', musl: 'musl' };

const older = (version: string, than: string) => version.localeCompare(than, 'en', { numeric: true }) < 0;
