/** The help of `run-mirror`: its flags in, a page of a given width out. Nothing else loads it. */
import { commandLine, row, wrap } from '../../layout.js';
import { type Flag, spellings } from '../argparse.js';
import { FLAGS, usageText } from './flags.js';

export function helpText(width: number): string {
  const rows = (own: boolean) =>
    Object.entries<Flag>(FLAGS)
      .filter(([, { rank }]) => (rank === 2) === own)
      .map(([key, flag]) => row(spellings(key, flag), flag.help, width));
  return [
    usageText(width),
    '',
    wrap(
      'Writes a manifest of the files in SRC, copies what is in SRC into DST, and verifies DST against the manifest, read from the medium.',
      width,
    ),
    '',
    'As in mirror_tool.py',
    ...rows(false),
    '',
    'Added by bulkhaul',
    ...rows(true),
    '',
    wrap(
      'Exit codes: 0 all is well, 1 the verification found something missing or different, 2 usage, input or output, interrupted.',
      width,
    ),
    '',
    'Examples',
    ...EXAMPLES.flatMap(([what, line]) => [wrap(`${what}:`, width, '  '), commandLine(line, width)]),
    '',
    wrap('docs/dropin.md has every flag and every deliberate difference from the original.', width),
    '',
  ].join('\n');
}

const EXAMPLES = [
  ['Manifest, copy, verify', 'run-mirror /mnt/delivery /data/delivery'],
  ['From a rotating disk', 'run-mirror --jobs 4 /mnt/delivery /data/delivery'],
  ['Only the manifest, compressed', 'run-mirror --step make-manifest --manifest - /mnt/delivery | gzip > M.gz'],
  ['A verification by it', 'zcat M.gz | run-mirror --step verify --manifest - /mnt/delivery /data/delivery'],
] as const;
