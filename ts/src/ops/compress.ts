/**
 * Compressing files in place.
 *
 * Comes in: paths and options; goes out: a running `Job`. Each file becomes an archive beside it, and goes when that was read
 * back from the medium and has its content; killed at any moment it leaves the file, or the archive that was proved, or both.
 */
import type { ArchiveForm, NativeCompressOptions } from '../native/options.js';
import { loadAddon } from '../native.js';
import { boolean, type Fields, record } from './arguments.js';
import { ARCHIVE, FILES, type FileOptions, type MappedFiles, mapped, nativeFiles } from './conversion.js';
import { begin, type Job, journalFor, type Prepared, prepared } from './job.js';

type Own = ArchiveForm & Pick<NativeCompressOptions, 'force'>;

/** Options of `compress`. */
export type CompressOptions = FileOptions & Own;

const FIELDS: Fields<CompressOptions> = { ...FILES, ...ARCHIVE, force: boolean };
const OPTIONS = record<CompressOptions>(FIELDS, 'sources');

/**
 * Makes an archive of each file, in its place, with its owner, mode, times and attributes. A file goes when its archive was
 * read back from the medium and has the same content; `keep` leaves it.
 *
 * @example
 * ```js
 * import { compress } from 'bulkhaul';
 *
 * const { conversions } = await compress({ sources: 'photos', extensions: ['tmp'], force: true });
 * for (const { extension, files, before, after } of conversions) console.log(extension, files, before / after);
 * ```
 */
export function compress(options: CompressOptions): Job {
  return begin(options, OPTIONS, async (options) => prepareCompression(mapped(options)));
}

/** The same, not begun yet. */
export async function prepareCompression(options: MappedFiles & Own): Promise<Prepared> {
  const journal = await journalFor('compress', options);
  const { format, level, index, force, verifySource, ...rest } = options;
  const native: NativeCompressOptions = {
    files: nativeFiles(rest, journal?.files),
    ...(format !== undefined && { format }),
    ...(level !== undefined && { level }),
    ...(index !== undefined && { index }),
    ...(force !== undefined && { force }),
    ...(verifySource !== undefined && { verifySource }),
  };
  return prepared(journal, async () => (await loadAddon()).compress(native));
}
