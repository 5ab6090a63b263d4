/** The help of `compress_files`: its flags in, a page of a given width out. Nothing else loads it. */
import { helpPage, type Page } from '../help.js';
import { FLAGS, usageText } from './flags.js';

export const PAGE = {
  usage: usageText,
  about: [
    'Compresses files in place by extension: each archive is written beside its file, synced, read back from the medium, decompressed and compared, and has owner, mode, times and attributes of the file.',
    'Exit codes: 0 all that was meant is compressed, 1 something is not, 2 wrong usage, or no such directory, 130 interrupted.',
  ],
  original: 'compress_files.py',
  flags: FLAGS,
  operands: '',
  examples: [
    ['What would be compressed', 'compress_files -r /data/run --ext tsv clusters --dry-run'],
    ['Archives in place of the files', 'compress_files -r /data/run --ext tsv clusters --pigz --remove'],
    ['Small ones', 'compress_files -r /data/run --algo xz --level 9 --remove'],
  ],
} as const satisfies Page;

export function helpText(width: number): string {
  return helpPage(PAGE, width);
}
