/** The help of `migrate_compress`: its flags in, a page of a given width out. Nothing else loads it. */
import { helpPage, type Page } from '../help.js';
import { FLAGS, usageText } from './flags.js';

export const PAGE = {
  usage: usageText,
  about: [
    'Copies the files of the source, then each of its sub-directories, and compresses what matches in the destination; each archive is read back and compared before its file goes. Logs and a state file tell what was done, and --resume goes by them.',
    'Exit codes: 0 everything is there, 1 something is not, or nothing was begun, 2 wrong usage, 130 interrupted: the same command with --resume goes on.',
  ],
  original: 'migrate_compress.py',
  flags: FLAGS,
  operands: '',
  examples: [
    ['What would be done', 'migrate_compress -s /data/original -d /scratch/migration --dry-run'],
    ['A migration', 'migrate_compress -s /data/original -d /scratch/migration --pigz --verify'],
    [
      'The same, after an interruption',
      'migrate_compress -s /data/original -d /scratch/migration --pigz --verify --resume',
    ],
    ['Without some of it', "migrate_compress -s /data/original -d /scratch/migration --exclude temp/ '*.log' /old"],
  ],
} as const satisfies Page;

export function helpText(width: number): string {
  return helpPage(PAGE, width);
}
