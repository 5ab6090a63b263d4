/**
 * Images that are made of a directory in one go, by the program that makes such file systems.
 *
 * Comes in: a directory; goes out: an image of it, and a comparison of the two. An image has its name when it is whole, and
 * when what is asked to prove it has done so; until then it is `NAME.partial`, which the next run begins anew.
 */
import { randomUUID } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import { type FileHandle, link, lstat, open, rm } from 'node:fs/promises';
import { whyOf } from '../error.js';
import type { Report } from '../events.js';
import { toBytes } from '../names.js';
import { aliased } from '../native/alias.js';
import type { Resources } from '../native/options.js';
import { prepareComparison } from './compare.js';
import { unlessAbsent } from './disk/device.js';
import { must } from './disk/program.js';
import { errand } from './errand.js';
import { BLOCK, begun, discard, Image, type Root, refuse } from './image.js';
import { Job } from './job.js';
import { total } from './transfer/ledger.js';

/** Those that are made whole, of one directory, and are never written to again. */
export const READ_ONLY_FILE_SYSTEMS = ['squashfs', 'erofs'] as const;
export type ReadOnlyFileSystem = (typeof READ_ONLY_FILE_SYSTEMS)[number];

export const isReadOnly = (type: string): type is ReadOnlyFileSystem =>
  READ_ONLY_FILE_SYSTEMS.some((one) => one === type);

/** What a dry run of a copy has found. */
type Measured = Pick<Report, 'found' | 'foundBytes'>;

/** What makes an image of a directory in one go. */
export interface TreeImage {
  /** ext4: for somebody who may mount nothing. Times are in whole seconds then, as in squashfs, and sockets are left out. */
  type: 'ext4' | ReadOnlyFileSystem;
  /** Of ext4: bytes and entries. */
  size: number;
  entries: number;
}

/**
 * Lets the program that makes an image run, which ends when the signal is aborted; answers whether it came to its end.
 */
export type Watch = (make: (signal: AbortSignal) => Promise<void>) => Promise<boolean>;

/**
 * Makes an image of what is in a directory by the program that makes such file systems. `prove` says of the image, before it
 * has its name, whether it is what it has to be; absent: e2fsck looks at an ext4, and nothing is read back. Answers whether
 * there is an image now. Throws `USAGE` where the name is taken, or a program fails.
 */
export async function makeImageOf(
  directory: string,
  path: string,
  { type, size, entries }: TreeImage,
  watch: Watch,
  prove?: (image: Image) => Promise<boolean>,
): Promise<boolean> {
  if (await lstat(toBytes(path)).catch(unlessAbsent)) refuse(path, 'there is something of this name');
  const tree = await open(toBytes(directory), constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    const partial = `${path}.partial`;
    await discard(partial);
    const file = await begun(partial);
    try {
      const at = (handle: FileHandle) => `/proc/${process.pid}/fd/${handle.fd}`;
      const whole = await watch(async (signal) => {
        if (type === 'ext4') {
          await file.truncate(size);
          await makeExt4Of(`${at(tree)}/`, await tree.stat(), at(file), entries, signal);
        } else await makeReadOnlyOf(type, `${at(tree)}/`, at(file), path, signal);
        await file.sync();
      });
      if (!whole) {
        await rm(toBytes(partial));
        return false;
      }
      if (prove) {
        const image = await Image.open(partial, false);
        const proved = await prove(image).finally(() => image.release());
        await image.file.close();
        if (!proved) {
          await rm(toBytes(partial));
          return false;
        }
      }
      await link(toBytes(partial), toBytes(path)).catch((error: Error) => refuse(path, whyOf(error, path)));
      await rm(toBytes(partial));
      return true;
    } catch (error) {
      await rm(toBytes(partial), { force: true });
      throw error;
    } finally {
      await file.close();
    }
  } finally {
    await tree.close();
  }
}

/** The same, where nothing can be read back: what was measured before is what comes in, but for sockets. */
export function packTree(directory: string, path: string, tree: TreeImage, measured: Measured): Job {
  const { found, foundBytes } = measured;
  return errand(async (ledger, signal) => {
    const made = await makeImageOf(directory, path, tree, async (make) => {
      await make(signal);
      return !signal.aborted;
    });
    if (!made) return;
    const { socket, ...kept } = found;
    const all = total(kept);
    Object.assign(ledger.found, kept);
    ledger.settle({ copied: { all, file: kept.file, directory: kept.directory } });
    Object.assign(ledger, { foundBytes, copiedBytes: foundBytes });
    const about = toBytes(directory);
    if (tree.type !== 'erofs') ledger.note('times', 'times are kept in whole seconds', about);
    ledger.note('unproved', 'nothing was read back: that takes root', about);
    if (tree.type !== 'ext4') {
      ledger.found.socket = socket;
      ledger.settle({ copied: { all: socket, file: 0, directory: 0 } });
    } else if (socket > 0) {
      ledger.failMore('socket', socket);
      ledger.failUntold('unsupported', socket);
      ledger.note('sockets', `sockets are left out: ${socket}`, about);
    }
  });
}

/** Compares a directory with one of an image, in all that can be kept. */
export function compareWithImage(
  directory: string,
  { directory: path, name }: Root,
  options: Resources & { spillDirectory: string; wholeSeconds: boolean },
): Job {
  const side = (of: string) => ({ trees: [{ path: of, contents: true, follow: true }] });
  return new Job(async () => {
    const { native } = await prepareComparison({
      ...options,
      ...{ left: side(directory), right: side(path), content: 'whole', metadata: true, xattrs: true, entries: true },
    });
    return { native: aliased(native, [{ path: toBytes(path), name: toBytes(`${name}:`) }]) };
  });
}

async function makeExt4Of(
  directory: string,
  root: Stats,
  device: string,
  entries: number,
  signal: AbortSignal,
): Promise<void> {
  const args = ['-q', '-F', '-t', 'ext4', '-b', String(BLOCK), '-I', '256', '-m', '0', '-U', randomUUID()];
  await must('mke2fs', [...args, '-N', String(Math.ceil(entries * 1.05) + 1024), '-d', directory, device], { signal });
  // Of the directory itself mke2fs keeps nothing.
  const own = { mode: root.mode, uid: root.uid, gid: root.gid, mtime: Math.floor(root.mtimeMs / 1000) };
  for (const [field, value] of Object.entries(own)) {
    await must('debugfs', ['-w', '-R', `sif <2> ${field} ${field === 'mtime' ? '@' : ''}${value}`, device], { signal });
  }
  await must('e2fsck', ['-f', '-n', device], { signal });
}

async function makeReadOnlyOf(
  type: ReadOnlyFileSystem,
  directory: string,
  device: string,
  path: string,
  signal: AbortSignal,
): Promise<void> {
  if (type === 'erofs') {
    await must('mkfs.erofs', ['--quiet', '-U', randomUUID(), device, directory], { signal });
    return;
  }
  // Of what it leaves out it complains, and ends well.
  const args = ['-noappend', '-no-progress', '-quiet', '-exit-on-error'];
  await must('mksquashfs', [directory, device, ...args], { silent: true, signal }).catch((error: Error) => {
    if (!error.message.includes('posix_acl')) throw error;
    refuse(path, 'squashfs keeps no ACLs, and there are some; erofs does (--image-fs erofs)');
  });
}
