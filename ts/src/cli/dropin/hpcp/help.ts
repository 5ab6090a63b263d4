/** The help of `hpcp`: its flags in, a page of a given width out. Nothing else loads it. */
import { helpPage, type Page } from '../help.js';
import { CHOICES, FLAGS, usageText } from './flags.js';

export const PAGE = {
  usage: usageText,
  about: [
    'Copies files and trees in parallel: hpcp SRC -d DEST puts the contents of the directory SRC into DEST; with DEST/, several sources, or a file, the entry itself. Patterns in SRC are expanded, ** too.',
  ],
  original: 'hpcp 8.96 and 9.79',
  flags: FLAGS,
  operands: '[src_path ...]',
  choices: CHOICES,
  examples: [
    ['What is in photos into /backup, skipping what is there', 'hpcp photos -d /backup'],
    ['A move', 'hpcp photos -d /backup -rm'],
    ['A list with hashes', 'hpcp photos -fl photos.list'],
    ['Whether the copy is complete', 'hpcp photos -d /backup -cfl --fail-on-diff'],
  ],
} as const satisfies Page;

export function helpText(width: number): string {
  return helpPage(PAGE, width);
}
