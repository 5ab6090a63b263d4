/** The help of `move_to_final`: its flags in, a page of a given width out. Nothing else loads it. */
import { helpPage, type Page } from '../help.js';
import { FLAGS, usageText } from './flags.js';

export const PAGE = {
  usage: usageText,
  about: [
    'Moves what is in the source into the destination: within one file system by renames, otherwise each entry is copied, synced, read back and compared before it goes. What is there with other content is replaced. The logs and the state of a migration stay in the source.',
    'Exit codes: 0 everything is there, 1 something is not, or nothing was begun, 2 wrong usage, 130 interrupted.',
  ],
  original: 'move_to_final.py',
  flags: FLAGS,
  operands: '',
  examples: [
    ['What would be moved', 'move_to_final --source /scratch/data --dest /final/data --dry-run'],
    ['A move', 'move_to_final --source /scratch/data --dest /final/data'],
    ['A copy that is read back', 'move_to_final -s /scratch/data -d /final/data --keep-source'],
  ],
} as const satisfies Page;

export function helpText(width: number): string {
  return helpPage(PAGE, width);
}
