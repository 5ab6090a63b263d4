/**
 * The addon for disks and images: its face, one to one with `bindings/blockdev`, and how it is loaded.
 *
 * It lies where a checkout builds it, or in the engine's package, and loads where libblkid, libmount and libfdisk are; nothing
 * else of the product needs it. Paths are bytes, sizes and places are bytes too, and descriptors that come from it are the
 * caller's to close.
 */
import { createRequire } from 'node:module';
import { BulkhaulError } from '../error.js';
import type { PathBytes } from './options.js';
import { ENGINE, packageHere } from './platform.js';

/** What lies in a range of bytes. Texts are empty where there is nothing to say. */
export interface Signature {
  /** `filesystem`, `raid`, `crypto` or `other`. */
  usage: string;
  /** As mount(8) names it. */
  type: string;
  version: string;
  label: string;
  uuid: string;
  /** Bytes; 0: it does not say. */
  blockSize: number;
  /** `gpt` or `dos`, where there is a partition table. */
  table: string;
}

export interface Partition {
  /** From 1. */
  number: number;
  start: number;
  size: number;
  /** A GUID in upper case; in `dos` the code in hexadecimal digits. */
  type: string;
  /** A GUID in upper case; empty in `dos`. */
  uuid: string;
  name: string;
  /** GPT: all 64 bits. `dos`: 0x80 is the active flag. */
  attributes: bigint;
  /** `dos`: it holds the logical ones. */
  container: boolean;
}

export interface PartitionTable {
  label: 'gpt' | 'dos';
  /** GUID of the disk, or its id of `dos`. */
  id: string;
  sectorSize: number;
  /** Where partitions may lie: from here, and up to there. */
  first: number;
  end: number;
  /** How many partitions a GPT has room for; 0: it is none, or as many as the library gives it. */
  entries: number;
  partitions: Partition[];
}

export interface Mounted {
  source: PathBytes;
  target: PathBytes;
  /** What of the file system is mounted there: `/` is all of it. */
  root: PathBytes;
  type: string;
  options: string;
  major: number;
  minor: number;
}

/**
 * Its calls. Each runs in a thread of its own, and rejects with an `Error` that has the `errno`, or with the reason of the
 * signal that the addon was loaded with: then none is begun any more; one that only reads is not waited for, whatever the
 * kernel still does, and what that opens is closed; one that writes comes to its end, because nobody else may write there before.
 */
export interface Blockdev {
  /** Looks at `size` bytes from `offset` on, 0 for all that follow. */
  probe(fd: number, offset: number, size: number): Promise<Signature | undefined>;
  /** `sectorSize` 0: as the device says. */
  readTable(path: PathBytes, sectorSize: number): Promise<PartitionTable | undefined>;
  /** `first` 0: where the library begins. */
  writeTable(path: PathBytes, table: Omit<PartitionTable, 'end'>): Promise<void>;
  /** Has the kernel look at the table of an open disk again; false: it has no partitions of this device. */
  rereadTable(fd: number): Promise<boolean>;
  /**
   * A loop device that goes when its last descriptor and its last mount are closed. `direct`: past the cache of the file;
   * the answer says whether it is.
   */
  attachLoop(
    fd: number,
    readOnly: boolean,
    offset: number,
    size: number,
    sectorSize: number,
    direct: boolean,
  ): Promise<{ fd: number; path: string; direct: boolean }>;
  /** A directory: the root of the file system, which is mounted nowhere, and unmounted when it is closed. */
  mountDetached(
    device: PathBytes,
    type: string,
    readOnly: boolean,
    options: Readonly<Record<string, string>>,
  ): Promise<number>;
  /** A directory: a mounted tree without what is mounted below it. */
  cloneMount(path: PathBytes): Promise<number>;
  /**
   * Carries the flags (chattr) of the directory at `path` below both roots, an empty one for the roots, and of the files in it:
   * answers the directories in it, the entries whose flags the other tree has now, and those of which it did not take some.
   */
  carryFlags(
    from: number,
    to: number,
    path: PathBytes,
  ): Promise<{ directories: PathBytes[]; kept: number; lost: PathBytes[] }>;
  /** All mounts of this namespace. */
  mounts(): Promise<Mounted[]>;
}

const ADDON = '../../../bindings/blockdev/blockdev.node';
/** The addon itself takes the signal before what a call is of. */
type Calls = Readonly<Record<string, (signal: AbortSignal | undefined, ...args: readonly unknown[]) => unknown>>;
let addon: Calls | undefined;

/** The addon, loaded on first use; `signal` ends its calls. Throws `ADDON` with what is missing. */
export function loadBlockdev(signal?: AbortSignal): Blockdev {
  try {
    addon ??= load(createRequire(import.meta.url));
  } catch (error) {
    throw new BulkhaulError('ADDON', whyNoDisks((error as Error).message), { cause: error });
  }
  const calls = Object.entries(addon).map(([name, call]) => [
    name,
    async (...args: readonly unknown[]) => call(signal, ...args),
  ]);
  return Object.fromEntries(calls) as Blockdev;
}

/** The oldest util-linux whose libraries have all calls. */
const OLDEST = '2.31';

/** One sentence: why the addon can't be loaded, from what the loader of this libc said. */
export function whyNoDisks(said: string): string {
  const [why = ''] = said.split('\n', 1);
  if (why.startsWith('Cannot find module'))
    return `the addon for disks and images is not here: the package ${packageHere(ENGINE)} has it, and a checkout builds it where libblkid-dev, libmount-dev, libfdisk-dev and pkg-config are (bindings/blockdev/build)`;
  // As glibc says it, and as musl does, which knows no versions.
  const old = /(?:version `(?:BLKID|MOUNT|FDISK)_|: (?:blkid|mnt|fdisk)_\w+: symbol not found)/.test(why);
  if (old) return `disks and images need libblkid, libmount and libfdisk of util-linux ${OLDEST} or newer: ${why}`;
  const library = /\blib(?:blkid|mount|fdisk)\.so\.1(?=: )/.exec(why)?.[0];
  if (library !== undefined)
    return `disks and images need libblkid, libmount and libfdisk (in Debian the packages libblkid1, libmount1 and libfdisk1), and ${library} is not here: ${why}`;
  return `the addon for disks and images is there and can't be loaded: ${why}`;
}

function load(require: NodeJS.Require): Calls {
  try {
    return require(ADDON) as Calls;
  } catch (error) {
    // One that is there and can't be loaded says why.
    if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw error;
    return require(`${packageHere(ENGINE)}/blockdev.node`) as Calls;
  }
}
