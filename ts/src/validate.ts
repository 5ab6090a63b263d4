/**
 * A file held against its copy, wherever both are.
 *
 * Comes in: two URLs or paths; goes out: whether one is what the other is, and why not. Nothing is written.
 */
import type { Readable } from 'node:stream';
import { BulkhaulError, unfit } from './error.js';
import { filesystem } from './filesystem.js';
import type { PathLike } from './names.js';
import { placeText } from './ops/places.js';
import { done, type PairOptions } from './pairs.js';

/** Whether a copy is what it was made of. */
export interface Validation {
  /** Both are files, and what was compared is the same. */
  ok: boolean;
  /** What was the same, or what is not. */
  reason: string;
}

const NOTHING = Buffer.alloc(0);

/** What is compared by each kind of proof. */
const COMPARED = { size: 'size', hash: 'checksum', full: 'size' } as const;

/**
 * Holds a file against its copy, by size, and by what is in both: with `hash` what the store of the copy vouches for is not read;
 * with `full`, which is the default, all of both is; with `size` nothing is. Symlinks are no files.
 *
 * @example
 * ```js
 * import { copyPairs, validateTransfer } from 'bulkhaul';
 *
 * const environment = process.env;
 * await copyPairs([{ from: 'photos/a.jpg', to: 's3://archive/a.jpg' }], { environment });
 * const { ok, reason } = await validateTransfer('photos/a.jpg', 's3://archive/a.jpg', { environment });
 * console.log(ok, reason);
 * ```
 */
export async function validateTransfer(
  from: PathLike,
  to: PathLike,
  { verify = 'full', ...options }: Omit<PairOptions, 'compare'> = {},
): Promise<Validation> {
  if (!Object.hasOwn(COMPARED, verify)) throw unfit('options.verify', "'size', 'hash' or 'full'", verify);
  const compare = COMPARED[verify];
  const [told] = await done([{ from, to }], { ...options, compare }, { dryRun: true });
  const { outcome, reason } = told ?? {};
  if (outcome === 'added') return { ok: false, reason: `${told?.to} is missing` };
  if (reason === 'not-a-file') return { ok: false, reason: `${told?.from} is no regular file` };
  if (outcome !== 'skipped' || reason !== 'unchanged') return { ok: false, reason: reason ?? 'nothing is known' };
  if (verify === 'size') return { ok: true, reason: 'the sizes are the same' };
  if (verify === 'full') {
    try {
      const both = [opened(placeText(from, 'from'), options), opened(placeText(to, 'to'), options)] as const;
      if (!(await haveSame(both, options.signal))) return { ok: false, reason: 'they differ: content' };
    } catch (error) {
      options.signal?.throwIfAborted();
      const { message, cause } = BulkhaulError.from(error);
      // Somebody has changed what the store has, and not the sum that it keeps with it.
      const isOther = (cause as { kind?: string } | undefined)?.kind === 'mismatch';
      return { ok: false, reason: isOther ? 'what was read is not what its store vouches for' : message };
    }
  }
  return { ok: true, reason: 'the contents are the same' };
}

/** What is in a file. */
function opened(place: string, { environment, credentials, store, requests }: PairOptions): Readable {
  const asked = { environment, credentials, ...(store && { store }), ...(requests && { requests }) };
  return filesystem('file', asked).open(place);
}

/** Whether two streams have the same bytes. Both are read to their ends: there it is known what a store vouches for. */
async function haveSame([left, right]: readonly [Readable, Readable], signal?: AbortSignal): Promise<boolean> {
  const [ours, theirs] = [left[Symbol.asyncIterator](), right[Symbol.asyncIterator]()];
  const next = async (iterator: AsyncIterator<Buffer>, rest: Buffer | undefined) =>
    rest?.length === 0 ? (await iterator.next()).value : rest;
  let [a, b]: (Buffer | undefined)[] = [NOTHING, NOTHING];
  let same = true;
  try {
    for (;;) {
      signal?.throwIfAborted();
      [a, b] = await Promise.all([next(ours, a), next(theirs, b)]);
      if (a === undefined && b === undefined) return same;
      const length = Math.min(a?.length ?? Number.POSITIVE_INFINITY, b?.length ?? Number.POSITIVE_INFINITY);
      same &&= a !== undefined && b !== undefined && a.compare(b, 0, length, 0, length) === 0;
      [a, b] = [a?.subarray(length), b?.subarray(length)];
    }
  } finally {
    left.destroy();
    right.destroy();
  }
}
