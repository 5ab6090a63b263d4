/** The help of `dsync`: its flags in, a page of a given width out. Nothing else loads it. */
import { commandLine, row, wrap } from '../../layout.js';
import { type DropInPage, type Flag, spellings } from '../argparse.js';
import { FLAGS, usageText } from './flags.js';

export function helpText(width: number): string {
  const rows = (own: boolean) =>
    Object.entries<Flag>(FLAGS)
      .filter(([, { rank }]) => (rank === 2) === own)
      .map(([key, flag]) => row(spellings(key, flag), flag.help, width));
  return [
    usageText(width),
    '',
    wrap(WHAT, width),
    '',
    'As in dsync.py',
    ...rows(false),
    '',
    'Added by bulkhaul',
    ...rows(true),
    '',
    wrap(CODES, width),
    '',
    'Examples',
    ...PAGE.examples.flatMap(([what, line]) => [wrap(`${what}:`, width, '  '), commandLine(line, width)]),
    '',
    wrap('docs/dropin.md has every flag and every deliberate difference from the original.', width),
    '',
  ].join('\n');
}

const WHAT =
  'Cuts what is in SRC into parts and copies them at once, with the real rsync, the real rclone or bulkhaul, on this host or on others; waits, and says what became of it.';
const CODES =
  'Exit codes: 0 complete, 2 usage or nothing begun, 3 refused for safety, 23 some entries failed, 24 some vanished meanwhile, 130 interrupted.';

export const PAGE: DropInPage = {
  flags: FLAGS,
  operands: 'SRC DST',
  about: [WHAT, CODES],
  examples: [
    ['Eight transfers at once', 'dsync -n 8 /data/projects /mnt/new/projects'],
    ['What that would do', 'dsync -n 8 --dry-run /data/projects /mnt/new/projects'],
    ['To a bucket', 'dsync -n 8 --cloud --rclone-config ~/bucket.conf /data/projects archive:projects'],
    ['Shared out to hosts', 'dsync -n 16 --source-hosts hosts.txt /data/projects /mnt/new/projects'],
    ['Once more, by the same parts', 'dsync -n 8 --reuse /data/projects /mnt/new/projects'],
  ],
};
