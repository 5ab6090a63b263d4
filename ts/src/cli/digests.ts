/** Digests and manifests, as options name them. */
import { BulkhaulError } from '../error.js';
import type { Algorithm, ManifestFormat } from '../native/options.js';
import { noneOf } from '../nearest.js';

export const ALGORITHMS = [
  'blake3',
  'sha256',
  'sha512',
  'md5',
  'crc32c',
  'xxh3',
] as const satisfies readonly Algorithm[];

/** The forms of manifests, as options name them. */
export const FORMATS = ['sums', 'jsonl', 'hashdeep', 'bagit'] as const satisfies readonly ManifestFormat[];

/** The algorithm of this name. Throws `USAGE` where there is none. */
export function algorithmOf(name: string): Algorithm {
  const known = ALGORITHMS.find((each) => each === name);
  if (known !== undefined) return known;
  throw new BulkhaulError('USAGE', `--algorithm: ${noneOf(name, ALGORITHMS)}`);
}

/** The form of this name. Throws `USAGE` where there is none. */
export function formatOf(name: string, option: string): ManifestFormat {
  const known = FORMATS.find((each) => each === name);
  if (known !== undefined) return known;
  throw new BulkhaulError('USAGE', `${option}: ${noneOf(name, FORMATS)}`);
}
