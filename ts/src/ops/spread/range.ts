/**
 * A range of a big file: its bytes come into a file that all ranges of it share, and which becomes the copy when they are there.
 *
 * Comes in: where the file is and is to be, a range of it, and whether the range is still this worker's; goes out: the bytes, on
 * the medium, and which version of the source they are of. Nothing else is made of the file: what it is like, and its name, it
 * gets from whoever publishes it, which is the engine's part.
 *
 * What makes it safe that a range may have two writers, one of whom was wrongly thought lost: the shared file is of one
 * version of the source, by its name; and a piece is read first, then the range is found to be still this worker's, and then it
 * is written. So what is written late was read before anybody could publish, and is what is there. It is published only where
 * the source is of that version then.
 *
 * Directories are opened one by one, no symlink is followed, and names are bytes: by descriptors under /proc, so on Linux only.
 */
import { createHash } from 'node:crypto';
import { type BigIntStats, constants } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, unlink } from 'node:fs/promises';
import { toBytes } from '../../names.js';

/** Where ranges can be copied by themselves. */
export const HAS_RANGES = process.platform === 'linux';
/** The least bytes of a range: a file of less than two is copied as a whole. */
export const LEAST_RANGE = 64 * 1024 * 1024;
/** The most: what is done again where a worker dies. */
export const MOST_RANGE = 1024 * 1024 * 1024;

/** Bytes that are read and written at once, and how many such pieces are in flight. */
const PIECE = 4 * 1024 * 1024;
const LANES = 4;
/** Bytes of zeros that are looked for where they may stay holes. */
const HOLE = 64 * 1024;
const ZEROS = Buffer.alloc(HOLE);

/** Bytes of a file, the last not included, and its size. */
export interface Range {
  start: number;
  end: number;
  size: number;
}

/** The file that ranges come into: its name beside the copy that is to be, and what it is a version of. */
export interface Gathered {
  name: string;
  version: string;
}

/** How a range is copied. */
export interface RangeCopy {
  source: string;
  destination: string;
  /** Of the file, below both. */
  name: Buffer;
  range: Range;
  /** What tells files of this run from those of others: eight hexadecimal digits. */
  tag: string;
  /** As options of a copy have it. */
  sparse: 'auto' | 'always' | 'never';
  lanes: number | undefined;
  /** Waits until so many bytes may go. */
  pace: (bytes: number) => Promise<void>;
  /** Whether the range is still this worker's. */
  mine: () => boolean | Promise<boolean>;
  /** Whether it is to end. */
  stopped: () => boolean;
  /** So many bytes are there. */
  moved: (bytes: number) => void;
}

/** What came of it. */
export interface RangeEnd {
  /** Directories that were made on the way. */
  made: number;
  /** Bytes that were written: holes are not. */
  written: number;
  /** `undefined`: the source has become another, or is no such file; who publishes it copies all of it and says why. */
  gathered: Gathered | undefined;
}

/**
 * Copies a range; undefined: it was stopped, or is somebody else's now. Throws what Node throws where the source can't be read
 * or the destination not be written.
 */
export async function copyRange(copy: RangeCopy): Promise<RangeEnd | undefined> {
  const names = namesOf(copy.name);
  const last = names.pop() ?? copy.name;
  const { directory: from } = await descend(copy.source, names, false);
  let source: FileHandle | undefined;
  try {
    source = await openSource(below(from, last));
    const about = await source.stat({ bigint: true });
    if (!about.isFile() || about.size !== BigInt(copy.range.size)) return { made: 0, written: 0, gathered: undefined };
    const version = versionOf(about);
    const { directory: to, made } = await descend(copy.destination, names, true);
    try {
      const name = nameOf(copy, version);
      const { O_RDWR, O_CREAT, O_NOFOLLOW } = constants;
      let written = 0;
      const target = await open(below(to, Buffer.from(name)), O_RDWR | O_CREAT | O_NOFOLLOW, 0o600);
      try {
        if ((await target.stat()).size < copy.range.size) await target.truncate(copy.range.size);
        const holes = copy.sparse === 'always' || (copy.sparse === 'auto' && about.blocks * 512n < about.size);
        const moved = await move(copy, source, target, holes);
        if (moved === undefined) return undefined;
        written = moved;
        await target.datasync();
      } finally {
        await target.close();
      }
      const same = versionOf(await source.stat({ bigint: true })) === version;
      return { made, written, gathered: same ? { name, version } : undefined };
    } finally {
      await to.close();
    }
  } finally {
    await source?.close();
    await from.close();
  }
}

/** A file of a run, whose ranges are gathered beside it. */
type OfRun = Pick<RangeCopy, 'destination' | 'name' | 'tag'>;

/** How many versions of a file something was gathered of. */
export async function gathered(file: OfRun): Promise<number> {
  let many = 0;
  await eachGathered(file, async () => {
    many += 1;
  });
  return many;
}

/** Removes what was gathered of a file and did not become its copy. */
export async function discard(file: OfRun): Promise<void> {
  await eachGathered(file, unlink);
}

/** `deed`: done with each version of what was gathered of a file. */
async function eachGathered({ destination, name, tag }: OfRun, deed: (path: Buffer) => Promise<void>): Promise<void> {
  const names = namesOf(name);
  const last = names.pop() ?? name;
  try {
    const { directory } = await descend(destination, names, false);
    try {
      const own = prefixOf({ tag, name: last });
      for (const left of await readdir(below(directory, Buffer.from('.')))) {
        if (left.startsWith(own)) await deed(below(directory, Buffer.from(left)));
      }
    } finally {
      await directory.close();
    }
  } catch (error) {
    // It is not there, then.
    if (!['ENOENT', 'ENOTDIR', 'ELOOP'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
  }
}

/** Moves the bytes, and tells how many were written; undefined: not all that there are. */
async function move(
  copy: RangeCopy,
  source: FileHandle,
  target: FileHandle,
  holes: boolean,
): Promise<number | undefined> {
  const { range, pace, mine, stopped, moved } = copy;
  let next = range.start;
  let whole = true;
  let written = 0;
  const lane = async () => {
    const buffer = Buffer.allocUnsafe(Math.min(PIECE, range.end - range.start));
    while (whole && next < range.end) {
      const at = next;
      const piece = buffer.subarray(0, Math.min(PIECE, range.end - at));
      next += piece.length;
      await pace(piece.length);
      whole = whole && !stopped() && (await fill(source, piece, at)) && (await mine());
      if (!whole) return;
      for (const [from, to] of holes ? stretches(piece) : [[0, piece.length] as const]) {
        await put(target, piece.subarray(from, to), at + from);
        written += to - from;
      }
      moved(piece.length);
    }
  };
  const lanes = Math.max(1, Math.min(LANES, copy.lanes ?? LANES));
  await Promise.all(Array.from({ length: lanes }, lane));
  return whole ? written : undefined;
}

/** Reads all of a piece; false: the file ends before. */
async function fill(file: FileHandle, piece: Buffer, at: number): Promise<boolean> {
  for (let done = 0; done < piece.length; ) {
    const { bytesRead } = await file.read(piece, done, piece.length - done, at + done);
    if (bytesRead === 0) return false;
    done += bytesRead;
  }
  return true;
}

async function put(file: FileHandle, piece: Buffer, at: number): Promise<void> {
  for (let done = 0; done < piece.length; ) {
    done += (await file.write(piece, done, piece.length - done, at + done)).bytesWritten;
  }
}

/** What of a piece is no run of zeros. */
function* stretches(piece: Buffer): Generator<readonly [number, number]> {
  let from = 0;
  for (let at = 0; at < piece.length; at += HOLE) {
    const end = Math.min(piece.length, at + HOLE);
    if (piece.compare(ZEROS, 0, end - at, at, end) !== 0) continue;
    if (at > from) yield [from, at];
    from = end;
  }
  if (piece.length > from) yield [from, piece.length];
}

/** Opens a directory below another, no symlink on the way; with `make`, what is missing is made. */
async function descend(
  root: string,
  names: readonly Buffer[],
  make: boolean,
): Promise<{ directory: FileHandle; made: number }> {
  const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;
  let made = 0;
  const enter = async (path: Buffer, flags: number) => {
    try {
      return await open(path, flags);
    } catch (error) {
      if (!make || (error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    try {
      // The mask of a worker leaves it to its owner.
      await mkdir(path, 0o777);
      made += 1;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    return open(path, flags);
  };
  let directory = await enter(toBytes(root), O_RDONLY | O_DIRECTORY);
  for (const name of names) {
    const above = directory;
    try {
      directory = await enter(below(above, name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    } finally {
      await above.close();
    }
  }
  return { directory, made };
}

async function openSource(path: Buffer): Promise<FileHandle> {
  const { O_RDONLY, O_NOFOLLOW, O_NOATIME, O_NONBLOCK } = constants;
  const flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK;
  try {
    return await open(path, flags | O_NOATIME);
  } catch (error) {
    // It is somebody else's.
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') throw error;
    return open(path, flags);
  }
}

function below(directory: FileHandle, name: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`/proc/self/fd/${directory.fd}/`), name]);
}

const SLASH = 0x2f;

function namesOf(path: Buffer): Buffer[] {
  const names: Buffer[] = [];
  for (let from = 0; from <= path.length; ) {
    const slash = path.indexOf(SLASH, from);
    const end = slash < 0 ? path.length : slash;
    if (end > from) names.push(path.subarray(from, end));
    from = end + 1;
  }
  return names;
}

/** As the engine has it: `NativeGathered`. */
function versionOf({ ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return `${ino} ${size} ${mtimeNs} ${ctimeNs}`;
}

/** A name that the engine takes for one of what is not finished, as another host has it. */
function nameOf({ tag, name }: Pick<RangeCopy, 'tag' | 'name'>, version: string): string {
  const last = namesOf(name).at(-1) ?? name;
  return `${prefixOf({ tag, name: last })}${digest(version).slice(0, 8)}`;
}

/** What the names of all versions begin with. */
function prefixOf({ tag, name }: { tag: string; name: Buffer }): string {
  return `.bh-${tag}-${digest(name).slice(0, 8)}`;
}

function digest(of: Buffer | string): string {
  return createHash('sha256').update(of).digest('hex');
}
