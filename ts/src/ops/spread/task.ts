/**
 * What is done with the parts of a tree where they are not copied: they are read, removed, or compressed.
 *
 * Comes in: what was asked for, in words that a run directory keeps; goes out: a job of one part, or of the whole.
 *
 * Of a manifest, a verification and a removal the whole is the operation itself, by one process, when the parts are done. A part
 * that was read has left a log of what it has found, and nothing is read again that a log has with the size and the times that a
 * file has then; of what is removed only directories are left. So each thing is told once, by whoever sees all, and what a
 * worker has lost, or never came to, is done in the end. A compression has no whole: what its parts say is all.
 */
import { lstat, readFile, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { absolutePath } from '../../journal/identity.js';
import { toBytes } from '../../names.js';
import type {
  ArchiveForm,
  ManifestForm,
  NativeCompressOptions,
  NativeFiles,
  NativeVerifyOptions,
  Resources,
} from '../../native/options.js';
import { loadAddon, type NativeJob } from '../../native.js';
import { finished, type Logs } from '../mapping.js';

/** What is asked for, in words that JSON has; paths are absolute. */
export type Task =
  | ({ operation: 'manifest' } & Pick<ManifestForm, 'algorithms' | 'format' | 'nul'> & Tree)
  | ({ operation: 'verify'; manifests: string[]; directory?: string } & Pick<NativeVerifyOptions, 'algorithm'> & Tree)
  | ({ operation: 'remove'; protect: string[] } & Left & Tree)
  | ({ operation: 'compress'; extensions?: string[] } & Form & Left & Tree);

/** The form of archives, and which files become some. */
type Form = ArchiveForm &
  Pick<NativeCompressOptions, 'force'> &
  Pick<NativeFiles, 'minSize' | 'keep' | 'owner' | 'memory'>;

/** Where it is; with `contents`, names begin below it, and otherwise with its own. */
interface Tree {
  source: string;
  contents: boolean;
}

/** What is in use meanwhile, and left alone. */
interface Left {
  inUse: string[];
}

/** A tree, as rsync's slash means it: what is in it, or it by its name. */
export function treeOf(path: string): Tree {
  const whole = absolutePath(path, process.cwd());
  return { source: whole.replace(/(?<=[^/])\/+$/, ''), contents: /(?:^|\/)\.{0,2}$/.test(path) };
}

/** What holds for all of it. */
interface Whole extends Resources {
  exclude: readonly Buffer[];
  oneFileSystem: boolean;
  /** Of a manifest. */
  output?: Buffer;
  /** Of a verification. */
  extra?: boolean;
  inUse: readonly Buffer[];
  spillDirectory?: Buffer;
  entryEvents?: boolean;
}

/** A job that does what is to be done with what a list names. */
export async function partJob(
  task: Task,
  list: string,
  logs: Logs,
  { spillDirectory, ...pace }: Resources & { spillDirectory?: string },
): Promise<NativeJob> {
  const addon = await loadAddon();
  const spill = spillDirectory === undefined ? {} : { spillDirectory: toBytes(spillDirectory) };
  const filesFrom = { path: toBytes(list), nul: true };
  switch (task.operation) {
    case 'manifest': {
      // The names of the list begin where those of the whole do.
      const source = task.contents ? task.source : dirname(task.source);
      const part = manifestOf({ ...task, source, contents: true });
      return addon.manifest({ ...pace, ...spill, ...finished(logs), ...part, filesFrom });
    }
    case 'verify':
      return addon.verify({
        ...{ ...pace, ...spill, ...finished(logs), ...verificationOf(task) },
        ...{ only: await namesIn(list), extra: false },
      });
    case 'remove':
      return addon.removal({ ...pace, ...spill, ...removalOf(task), filesFrom }).remove();
    case 'compress': {
      const { source, inUse, extensions, format, level, index, verifySource, force, minSize, keep, owner, memory } =
        task;
      return addon.compress({
        ...given({ format, level, index, verifySource, force }),
        files: {
          ...{ ...pace, ...spill, ...given({ minSize, keep, owner, memory }), filesFrom },
          ...{ sources: [{ path: toBytes(source), contents: true, follow: true }], inUse: inUse.map(toBytes) },
          ...(extensions && { extensions: extensions.map(toBytes) }),
        },
      });
    }
  }
}

/** The job that does the rest, and tells all. */
export async function wholeJob(
  task: Exclude<Task, { operation: 'compress' }>,
  logs: Logs,
  { exclude, oneFileSystem, output, extra, inUse, ...rest }: Whole,
): Promise<NativeJob> {
  const filter = exclude.length > 0 ? { filter: { style: 'rsync' as const, rules: [...exclude] } } : {};
  const addon = await loadAddon();
  if (task.operation === 'remove') {
    return addon.removal({ ...rest, ...filter, ...removalOf(task) }).remove();
  }
  const options = { ...rest, ...filter, ...finished(logs), inUse: [...inUse] };
  if (task.operation === 'manifest')
    return addon.manifest({ ...options, ...manifestOf(task), oneFileSystem, ...(output && { output }) });
  return addon.verify({ ...options, ...verificationOf(task), ...(extra !== undefined && { extra }) });
}

/** A job that finds out whether a removal may begin, and removes nothing. */
export async function removalCheck(task: Extract<Task, { operation: 'remove' }>): Promise<NativeJob> {
  const nothing = { path: toBytes('/dev/null'), nul: true };
  return (await loadAddon()).removal({ ...removalOf(task), filesFrom: nothing, dryRun: true }).remove();
}

function manifestOf({ operation: _, source, contents, ...form }: Extract<Task, { operation: 'manifest' }>) {
  return { ...form, sources: [{ path: toBytes(source), contents, follow: contents }] };
}

function verificationOf({ manifests, directory, algorithm }: Extract<Task, { operation: 'verify' }>) {
  return {
    manifests: manifests.map(toBytes),
    ...(directory !== undefined && { directory: toBytes(directory) }),
    ...(algorithm !== undefined && { algorithm }),
  };
}

function removalOf({ source, protect, inUse }: Extract<Task, { operation: 'remove' }>) {
  return { paths: [toBytes(source)], protected: protect.map(toBytes), inUse: inUse.map(toBytes), ignoreMissing: true };
}

/** Without what is not there. */
function given<T extends object>(options: T): { [Key in keyof T]?: Exclude<T[Key], undefined> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as never;
}

/** The names of a list of the run. */
async function namesIn(path: string): Promise<Buffer[]> {
  const bytes = await readFile(toBytes(path));
  const names: Buffer[] = [];
  for (let from = 0, end = bytes.indexOf(0); end >= 0; from = end + 1, end = bytes.indexOf(0, from))
    names.push(bytes.subarray(from, end));
  return names;
}

/** What an archive of each form is called by. */
const SUFFIXES = { bgzf: '.gz', gzip: '.gz', xz: '.xz', zstd: '.zst' } as const;

/**
 * Of a list whose files somebody was compressing: a list of those that are still there, in `rest`. Answers how many have gone
 * and left an archive.
 */
export async function sinceCompressed(
  { source, format = 'bgzf' }: Extract<Task, { operation: 'compress' }>,
  list: string,
  rest: string,
): Promise<number> {
  const left: Buffer[] = [];
  const isThere = (path: Buffer) =>
    lstat(path).then(
      () => true,
      () => false,
    );
  const names = await namesIn(list);
  for (const name of names) {
    const path = Buffer.concat([toBytes(`${source}/`), name]);
    const gone = !(await isThere(path)) && (await isThere(Buffer.concat([path, toBytes(SUFFIXES[format])])));
    if (!gone) left.push(name, Buffer.of(0));
  }
  await writeFile(toBytes(rest), Buffer.concat(left), { mode: 0o600 });
  return names.length - left.length / 2;
}
