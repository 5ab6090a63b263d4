/**
 * What only reads, in parts: a manifest and a verification.
 *
 * Comes in: what was asked for, and where a run keeps its lists and logs; goes out: a job of one part, or of the whole. A part
 * reads what is in it, and leaves a log of what it has found. The whole is the operation itself, by one process, which reads
 * nothing again that a log has with the size and the times that a file has then. So each thing is told once, by whoever sees
 * all, and what a worker has lost, or never came to, is read in the end.
 */
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { absolutePath } from '../../journal/identity.js';
import { toBytes } from '../../names.js';
import type { ManifestForm, NativeVerifyOptions, Resources } from '../../native/options.js';
import { loadAddon, type NativeJob } from '../../native.js';

/** What is asked for, in words that JSON has; paths are absolute. */
export type Reading =
  | ({ operation: 'manifest' } & Pick<ManifestForm, 'algorithms' | 'format' | 'nul'> & Tree)
  | ({ operation: 'verify'; manifests: string[]; directory?: string } & Pick<NativeVerifyOptions, 'algorithm'> & Tree);

/** Where it is read; with `contents`, names begin below it, and otherwise with its own. */
interface Tree {
  source: string;
  contents: boolean;
}

/** A tree to read, as rsync's slash means it: what is in it, or it by its name. */
export function treeOf(path: string): Tree {
  const whole = absolutePath(path, process.cwd());
  return { source: whole.replace(/(?<=[^/])\/+$/, ''), contents: /(?:^|\/)\.{0,2}$/.test(path) };
}

/** Where what was found is written, and who has found some of it already. */
interface Logs {
  own: string;
  others: readonly string[];
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

/** A job that reads what a list names. */
export async function readPart(
  reading: Reading,
  list: string,
  logs: Logs,
  { spillDirectory, ...pace }: Resources & { spillDirectory?: string },
): Promise<NativeJob> {
  const kept = {
    ...pace,
    ...found(logs),
    keepFinished: true,
    ...(spillDirectory !== undefined && { spillDirectory: toBytes(spillDirectory) }),
  };
  const addon = await loadAddon();
  if (reading.operation === 'manifest') {
    // The names of the list begin where those of the whole do.
    const source = reading.contents ? reading.source : dirname(reading.source);
    const part = manifestOf({ ...reading, source, contents: true });
    return addon.manifest({ ...kept, ...part, filesFrom: { path: toBytes(list), nul: true } });
  }
  return addon.verify({ ...kept, ...verificationOf(reading), only: await namesIn(list), extra: false });
}

/** The job that tells all. */
export async function readAll(reading: Reading, logs: Logs, whole: Whole): Promise<NativeJob> {
  const { exclude, oneFileSystem, output, extra, inUse, ...rest } = whole;
  const options = {
    ...rest,
    ...found(logs),
    inUse: [...inUse],
    ...(exclude.length > 0 && { filter: { style: 'rsync' as const, rules: [...exclude] } }),
  };
  const addon = await loadAddon();
  if (reading.operation === 'manifest')
    return addon.manifest({ ...options, ...manifestOf(reading), oneFileSystem, ...(output && { output }) });
  return addon.verify({ ...options, ...verificationOf(reading), ...(extra !== undefined && { extra }) });
}

function manifestOf({ operation: _, source, contents, ...form }: Extract<Reading, { operation: 'manifest' }>) {
  return { ...form, sources: [{ path: toBytes(source), contents, follow: contents }] };
}

function verificationOf({ manifests, directory, algorithm }: Extract<Reading, { operation: 'verify' }>) {
  return {
    manifests: manifests.map(toBytes),
    ...(directory !== undefined && { directory: toBytes(directory) }),
    ...(algorithm !== undefined && { algorithm }),
  };
}

function found({ own, others }: Logs) {
  return { finished: toBytes(own), finishedElsewhere: others.map(toBytes) };
}

/** The names of a list of the run. */
async function namesIn(path: string): Promise<Buffer[]> {
  const bytes = await readFile(toBytes(path));
  const names: Buffer[] = [];
  for (let from = 0, end = bytes.indexOf(0); end >= 0; from = end + 1, end = bytes.indexOf(0, from))
    names.push(bytes.subarray(from, end));
  return names;
}
