/**
 * Files that are not as manifests say, written anew from a copy that is.
 *
 * Comes in: a verification that found them, and where the copy is; goes out: which of them are good now, and why others are not.
 * Promises: nothing is written that the copy was not proved to have by the manifests, read from the medium; what is written
 * appears whole, is synced, and is proved by the manifests again, read from the medium; what somebody wrote to after the copy was made, stays.
 */
import { lstat, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BulkhaulError } from './error.js';
import type { ErrorEvent, JobEvent } from './events.js';
import { type PathLike, toBytes } from './names.js';
import type { Resources } from './native/options.js';
import { copyMapped } from './ops/copy.js';
import { type VerifyOptions, verify } from './ops/verify.js';

/** What is to be repaired, with what. */
export interface RepairOptions extends Resources {
  /** The verification that found the damage: its manifests, and the directory that they are about. */
  verification: Pick<VerifyOptions, 'manifests' | 'exclude' | 'algorithm'> & { directory: string };
  /** The paths of damaged files below the directory. */
  damaged: readonly string[];
  /** Where the copy is. */
  from: string;
  /** A directory for temporary files. */
  spillDirectory: PathLike;
  /** Ends it: what is not done stays as it is. */
  signal?: AbortSignal;
}

/** What came of it. */
export interface Repair {
  /** Paths that are as the manifests say now, as read from the medium. */
  repaired: string[];
  /** The others, each with a reason. */
  left: { path: string; why: string }[];
}

/** The path, below the directory, of the file that an event of a verification tells to be damaged; undefined: it is none. */
export function damagedFile(event: JobEvent, directory: string): string | undefined {
  if (event.type !== 'error' || event.entryKind !== 'file') return undefined;
  const { kind, operation, path } = event;
  const damaged = kind === 'mismatch' || kind === 'missing' || (operation === 'read' && kind !== 'changed');
  return damaged ? pathBelow(path, directory) : undefined;
}

/** Repairs files. Rejects where the copy is the directory itself, or is not there. */
export async function repair(options: RepairOptions): Promise<Repair> {
  const { verification, damaged, from, spillDirectory, signal, ...resources } = options;
  const { directory } = verification;
  const left: Repair['left'] = [];
  const leave = (path: string, why: string) => void left.push({ path, why });
  const [here, there] = await Promise.all([facts(directory, stat), facts(from, stat)]);
  if (here === undefined || there === undefined) throw new BulkhaulError('NO_SOURCE', `${from} can't be looked at`);
  if (here.dev === there.dev && here.ino === there.ino) {
    throw new BulkhaulError('USAGE', `${from} is ${directory} itself: it can't be repaired from there`);
  }
  const check = async (where: string, only: readonly string[]) => {
    const found = new Map<string, ErrorEvent>();
    const job = verify({
      ...verification,
      ...resources,
      directory: where,
      only: [...only],
      extra: false,
      spillDirectory,
      ...(signal && { signal }),
    });
    for await (const event of job) {
      const path = event.type === 'error' ? pathBelow(event.path, where) : undefined;
      if (path !== undefined && event.type === 'error') found.set(path, event);
    }
    await job;
    return found;
  };
  const bad = await check(from, damaged);
  const good: string[] = [];
  for (const path of damaged) {
    const [old, copy] = await Promise.all([facts(join(directory, path)), facts(join(from, path))]);
    const wrong = bad.get(path);
    if (wrong !== undefined || copy === undefined)
      leave(path, `the copy is not good either: ${wrong?.message ?? 'it is not there'}`);
    else if (old !== undefined && old.mtimeNs > copy.mtimeNs) leave(path, 'it was written to after its copy was made');
    else good.push(path);
  }
  if (good.length === 0) return { repaired: [], left };
  const failed = await write(good, { from, directory, spillDirectory, resources, signal });
  const still = await check(directory, good);
  const repaired: string[] = [];
  for (const path of good) {
    const why = failed.get(path) ?? still.get(path)?.message;
    if (still.has(path)) leave(path, why ?? 'it is as before');
    else repaired.push(path);
  }
  return { repaired, left };
}

/** Copies files over those that are damaged; why some could not be. */
async function write(
  paths: readonly string[],
  {
    from,
    directory,
    spillDirectory,
    resources,
    signal,
  }: Pick<RepairOptions, 'from' | 'spillDirectory' | 'signal'> & {
    directory: string;
    resources: Resources;
  },
): Promise<Map<string, string>> {
  const temporary = await mkdtemp(join(String(spillDirectory), 'bulkhaul-repair-'));
  const failed = new Map<string, string>();
  try {
    const list = join(temporary, 'list');
    await writeFile(list, Buffer.concat(paths.flatMap((path) => [toBytes(path), Buffer.of(0)])));
    const job = copyMapped({
      ...resources,
      sources: [{ path: from, contents: true, follow: true }],
      destinations: [{ path: directory, follow: true }],
      filesFrom: { path: list, nul: true },
      // Directories stay as they are; of files size and time say nothing here.
      directories: 'needed',
      fullHash: true,
      verify: true,
      sync: 'all',
      spillDirectory,
      ...(signal && { signal }),
    });
    for await (const event of job) {
      if (event.type !== 'error') continue;
      const path = pathBelow(event.path, directory) ?? pathBelow(event.path, from);
      if (path !== undefined) failed.set(path, event.message);
    }
    await job;
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
  return failed;
}

function pathBelow(path: string, directory: string): string | undefined {
  const root = directory === '' || directory === '.' ? '' : directory.replace(/\/*$/, '/');
  return path.startsWith(root) ? path.slice(root.length) : undefined;
}

/** Of an entry, or with `stat` of what it leads to; undefined where there are none. */
async function facts(path: string, look: typeof lstat = lstat) {
  return look(toBytes(path), { bigint: true }).catch(() => undefined);
}
