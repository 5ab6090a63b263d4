/**
 * The only importer of the addon: its face, one to one with `bindings/node`, and how it is loaded.
 *
 * Comes in: plain option objects (`native/options.ts`); goes out: the addon's `Job` and its plain values
 * (`native/events.ts`). Paths are bytes (`Buffer`) here; everywhere above they are strings in the form of `names.ts`.
 * Sizes are numbers in bytes, exact to 2^53; times are seconds unless the name says otherwise.
 */

import { fileURLToPath } from 'node:url';
import { BulkhaulError } from './error.js';
import type { NativeEvent, NativeReport, NativeSnapshot } from './native/events.js';
import type {
  Limits,
  NativeCompareOptions,
  NativeCompressOptions,
  NativeCopyOptions,
  NativeDecompressOptions,
  NativeListOptions,
  NativeManifestOptions,
  NativePartitionOptions,
  NativeRemoveOptions,
  NativeVerifyOptions,
  PathBytes,
} from './native/options.js';

export interface NativeJob {
  /**
   * Runs to the end on the engine's own threads. Rejects before anything was written with an Error whose `code` is
   * 'USAGE' (bad option or path; exit 2), 'SAFETY' (refused: destination inside source, file onto itself; exit 3),
   * 'NO_SPACE' (not enough space with requireSpace; exit 3), 'NO_SOURCE' (a source is missing), 'LIST' (a list can't be
   * read, or is none of the kind it was given for), 'NO_DESTINATION' (it cannot be used), or
   * 'NO_START' (too few file descriptors, no room for temporary files; exit 2).
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

export interface Addon {
  /** Checks the options; throws an Error with code 'USAGE' that names the option. Touches nothing. */
  removal(options: NativeRemoveOptions): NativeRemoval;
  /** Checks the options; throws an Error with code 'USAGE' that names the option. Starts nothing. */
  copy(options: NativeCopyOptions): NativeJob;
  list(options: NativeListOptions): NativeJob;
  manifest(options: NativeManifestOptions): NativeJob;
  partition(options: NativePartitionOptions): NativeJob;
  verify(options: NativeVerifyOptions): NativeJob;
  compare(options: NativeCompareOptions): NativeJob;
  compress(options: NativeCompressOptions): NativeJob;
  decompress(options: NativeDecompressOptions): NativeJob;
  /** The sources that a list names, in its order; without what is in a directory that it names too. Throws like a job. */
  listedSources(list: PathBytes, spillDirectory?: PathBytes): PathBytes[];
  /** Locks the file that a descriptor has open, until it is closed. false: somebody else has the lock; null: there are no locks here. */
  lockDescriptor(descriptor: number): boolean | null;
}

/** What the generated loader's directory is called relative to the compiled and to the TypeScript source of this file. */
const LOADER = '../../bindings/node/index.js';

/** The addon, loaded on first use. Throws `ADDON` with what was tried. */
export async function loadAddon(): Promise<Addon> {
  try {
    return (await import(new URL(LOADER, import.meta.url).href)) as Addon;
  } catch (error) {
    throw new BulkhaulError('ADDON', explain(error), { cause: error });
  }
}

function explain(error: unknown): string {
  const causes: string[] = [];
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    const first = cause.message.split('\n', 1)[0] ?? '';
    if (!causes.includes(first)) causes.push(first);
  }
  const { platform, arch, version } = process;
  return [
    `the native engine could not be loaded (${platform} ${arch}, Node ${version})`,
    `tried ${fileURLToPath(new URL(LOADER, import.meta.url))}, a built file beside it, and the package bulkhaul-${platform}-${arch}-*`,
    ...causes.map((cause) => `  ${cause}`),
    'from the package: install it again with optional dependencies; in a checkout: npm run build:native',
  ].join('\n');
}
