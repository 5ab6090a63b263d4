/**
 * Copying trees of which some files become archives on their way.
 *
 * Comes in: sources, a destination and options; goes out: a running `Job`. It is a copy in all else. Each file is read once,
 * and no uncompressed copy of what becomes an archive ever lies in the destination.
 */
import type { PathLike } from '../names.js';
import type { NativeCopyManifest, NativePacking } from '../native/options.js';
import { each, type Fields, type Given, path, record, size } from './arguments.js';
import { ARCHIVE } from './conversion.js';
import { begin, type Job } from './job.js';
import { COPY, type CopyOptions, mappedCopy, prepareCopy, SHARED } from './mapping.js';

/** Options of `migrate`: those of `copy`, but that a source stays, and how archives are made. */
export interface MigrateOptions
  extends Omit<CopyOptions, 'removeSources' | 'rename' | 'acceptTimeLoss' | 'randomDestination'>,
    Omit<NativePacking, 'extensions' | 'replace'> {
  /** What the names of files end with that become archives, of several parts perhaps, in any case. Default: anything. */
  extensions?: PathLike[];
  /** A manifest of what is stored, by its names in the destination: of an archive the digests of itself. `manifest` has the content, by its names in the sources. With the digests of `manifest`, where there are both. Default: none. */
  storedManifest?: Given<NativeCopyManifest> | undefined;
}

const { removeSources: _, rename: __, acceptTimeLoss: ___, randomDestination: ____, ...COPYING } = COPY;
const FIELDS: Fields<MigrateOptions> = {
  ...COPYING,
  ...ARCHIVE,
  extensions: each(path),
  minSize: size,
  memory: size,
  storedManifest: SHARED.storedManifest,
};
const OPTIONS = record<MigrateOptions>(FIELDS, 'sources', 'destination');

/**
 * Copies trees, and makes archives of the files whose names end so in the same pass. What is compressed already is copied as
 * it is; an archive that is there is looked into before it is taken for done.
 *
 * @example
 * ```js
 * import { migrate } from 'bulkhaul';
 *
 * const { conversions } = await migrate({ sources: 'photos/', destination: '/mnt/archive', extensions: ['tmp'], verify: true });
 * for (const { extension, before, after } of conversions) console.log(extension, before, after);
 * ```
 */
export function migrate(options: MigrateOptions): Job {
  return begin(
    options,
    OPTIONS,
    async ({ format, level, index, extensions, minSize, memory, verifySource, ...rest }) => {
      const packing = {
        ...(format !== undefined && { format }),
        ...(level !== undefined && { level }),
        ...(index !== undefined && { index }),
        ...(extensions !== undefined && { extensions }),
        ...(minSize !== undefined && { minSize }),
        ...(memory !== undefined && { memory }),
        ...(verifySource !== undefined && { verifySource }),
        ...(rest.replace !== undefined && { replace: rest.replace }),
      };
      return prepareCopy({ ...(await mappedCopy(rest)), packing }, 'migrate');
    },
  );
}
