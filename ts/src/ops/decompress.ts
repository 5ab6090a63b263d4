/**
 * Decompressing archives in place, testing them, and reading one.
 *
 * Comes in: paths and options; goes out: a running `Job`. It is the exact reverse of `compress`, metadata included: an
 * archive goes when its content was read back from the medium and is what was in it.
 */
import { lstatSync, realpathSync, statSync } from 'node:fs';
import { fromBytes } from '../names.js';
import type { NativeFailure } from '../native/events.js';
import type { NativeDecompressOptions } from '../native/options.js';
import { retoldFailures } from '../native/retold.js';
import { loadAddon } from '../native.js';
import { boolean, type Fields, type Given, path, pathBytes, pathText, record } from './arguments.js';
import { FILES, type FileOptions, type MappedFiles, mapped, nativeFiles } from './conversion.js';
import { begin, type Job, journalFor, type Prepared, prepared } from './job.js';

type Own = Pick<NativeDecompressOptions, 'test' | 'output' | 'sparse'>;

/** Options of `decompress`. */
export type DecompressOptions = FileOptions & Given<Own>;

const FIELDS: Fields<DecompressOptions> = { ...FILES, test: boolean, output: path, sparse: boolean };
const OPTIONS = record<DecompressOptions>(FIELDS, 'sources');

/**
 * Puts the content of each archive in its place, with the archive's owner, mode, times and attributes. `test` reads all of
 * it and writes nothing.
 *
 * @example
 * ```js
 * import { compress, decompress } from 'bulkhaul';
 *
 * await compress({ sources: 'photos', format: 'zstd', force: true });
 * const { complete } = await decompress({ sources: 'photos', test: true });
 * if (complete) await decompress({ sources: 'photos' }).orThrow();
 * ```
 */
export function decompress(options: DecompressOptions): Job {
  return begin(options, OPTIONS, async (options) => prepareDecompression(mapped(options)));
}

/** The same, not begun yet. */
export async function prepareDecompression(options: MappedFiles & Given<Own>): Promise<Prepared> {
  const { output, test, sparse, ...rest } = options;
  const journal = await journalFor('decompress', options);
  const sources = output === undefined && !test ? rest.sources : rest.sources.map(followed);
  const native: NativeDecompressOptions = {
    files: nativeFiles({ ...rest, sources }, journal?.files),
    ...(test !== undefined && { test }),
    ...(sparse !== undefined && { sparse }),
    ...(output !== undefined && { output: pathBytes(pathText(output, 'the output')) }),
  };
  return prepared(journal, async () => {
    const job = (await loadAddon()).decompress(native);
    return native.output === undefined ? job : retoldFailures(job, writtenTo(native.output));
  });
}

/** Where one output is written to, that is what could not be written, not the directory of the archive. */
function writtenTo(output: Buffer) {
  return (failure: NativeFailure): NativeFailure => {
    const { operation, path, message } = failure;
    if (operation !== 'write') return failure;
    return { ...failure, path: output, message: message.replace(path.toString(), () => output.toString()) };
  };
}

/** Where a link leads: what is only read may be reached through one. What can't be told is left to who reads it. */
function followed<Source extends MappedFiles['sources'][number]>(source: Source): Source {
  try {
    const path = pathBytes(pathText(source.path, 'a path'));
    if (!lstatSync(path).isSymbolicLink()) return source;
    const found = statSync(path);
    if (found.isDirectory()) return { ...source, follow: true };
    // A descriptor of this process is a link that leads to no path.
    if (!found.isFile()) return source;
    return { ...source, path: fromBytes(realpathSync(path, { encoding: 'buffer' })) };
  } catch {
    return source;
  }
}
