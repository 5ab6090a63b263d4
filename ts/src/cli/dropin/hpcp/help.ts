/** The help of `hpcp`: its flags in, a page of a given width out. Nothing else loads it. */
import { commandLine, row, wrap } from '../../layout.js';
import { type Flag, spellings } from '../argparse.js';
import { FLAGS, NOT_YET, usageText } from './flags.js';

export function helpText(width: number): string {
  const later = Object.values(NOT_YET).flat();
  const rows = (own: boolean) =>
    Object.entries<Flag>(FLAGS)
      .filter(([key, { rank }]) => (rank === 2) === own && !later.some((name) => name === key))
      .map(([key, flag]) => row(spellings(key, flag), flag.help, width));
  return [
    usageText(width),
    '',
    wrap(
      'Copies files and trees in parallel: hpcp SRC -d DEST puts the contents of the directory SRC into DEST; with DEST/, several sources, or a file, the entry itself. Patterns in SRC are expanded, ** too.',
      width,
    ),
    '',
    'As in hpcp 8.96 and 9.79',
    ...rows(false),
    '',
    'Added by bulkhaul',
    ...rows(true),
    '',
    'Not in this version yet (exit code 2)',
    ...later.map((name) => row(spellings(name, FLAGS[name]), FLAGS[name].help, width)),
    '',
    'Examples',
    ...EXAMPLES.flatMap(([what, line]) => [wrap(`${what}:`, width, '  '), commandLine(line, width)]),
    '',
    wrap('docs/dropin.md has every flag and every deliberate difference from the original.', width),
    '',
  ].join('\n');
}

const EXAMPLES = [
  ['What is in photos into /backup, skipping what is there', 'hpcp photos -d /backup'],
  ['A move', 'hpcp photos -d /backup -rm'],
  ['A list with hashes', 'hpcp photos -fl photos.list'],
  ['Whether the copy is complete', 'hpcp photos -d /backup -cfl --fail-on-diff'],
] as const;
