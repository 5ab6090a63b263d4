/**
 * Copying trees.
 *
 * Comes in: sources, a destination and options with friendly names; goes out: a running `Job`. `copy` has rsync's slash
 * rule; `copyMapped` takes the mapping of sources to destinations as the caller decided it.
 */
import { record } from './arguments.js';
import { begin, type Job } from './job.js';
import { COPY, type CopyOptions, MAPPED, type MappedCopyOptions, mappedCopy, prepareCopy } from './mapping.js';

const OPTIONS = record<CopyOptions>(COPY, 'sources', 'destination');

/**
 * Copies trees, with rsync's slash rule: `photos/` brings what is in it, `photos` itself.
 *
 * @example
 * ```js
 * import { copy } from 'bulkhaul';
 *
 * const { outcomes, copiedBytes } = await copy({ sources: 'photos/', destination: '/mnt/archive', verify: true });
 * console.log(outcomes.copied, outcomes.failed, copiedBytes);
 * ```
 */
export function copy(options: CopyOptions): Job {
  return begin(options, OPTIONS, async (options) => prepareCopy(await mappedCopy(options)));
}

/**
 * Copies each source to where it is told to go.
 *
 * @example
 * ```js
 * import { copyMapped } from 'bulkhaul';
 *
 * const source = { path: 'photos/a.jpg', contents: false, name: 'cover.jpg', follow: false };
 * await copyMapped({ sources: [source], destinations: [{ path: '/mnt/archive', follow: true }] });
 * ```
 */
export function copyMapped(options: MappedCopyOptions): Job {
  return begin(options, MAPPED, prepareCopy);
}
