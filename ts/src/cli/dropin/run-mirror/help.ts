/** The help of `run-mirror`: its flags in, a page of a given width out. Nothing else loads it. */
import { helpPage, type Page } from '../help.js';
import { FLAGS, usageText } from './flags.js';

export const PAGE = {
  usage: usageText,
  about: [
    'Writes a manifest of the files in SRC, copies what is in SRC into DST, and verifies DST against the manifest, read from the medium.',
    'Exit codes: 0 all is well, 1 the verification found something missing or different, 2 usage, input or output, interrupted.',
  ],
  original: 'mirror_tool.py',
  flags: FLAGS,
  operands: 'SRC [DST]',
  examples: [
    ['Manifest, copy, verify', 'run-mirror /mnt/delivery /data/delivery'],
    ['From a rotating disk', 'run-mirror --jobs 4 /mnt/delivery /data/delivery'],
    ['Copied by the real rsync, four at a time', 'run-mirror --copy-with rsync --jobs 4 /mnt/delivery /data/delivery'],
    ['Only the manifest, compressed', 'run-mirror --step make-manifest --manifest - /mnt/delivery | gzip > M.gz'],
    ['A verification by it', 'zcat M.gz | run-mirror --step verify --manifest - /mnt/delivery /data/delivery'],
  ],
} as const satisfies Page;

export function helpText(width: number): string {
  return helpPage(PAGE, width);
}
