/** The help of `dsync`: its flags in, a page of a given width out. Nothing else loads it. */
import { helpPage, type Page } from '../help.js';
import { FLAGS, usageText } from './flags.js';

export const PAGE = {
  usage: usageText,
  about: [
    'Cuts what is in SRC into parts and copies them at once, with the real rsync, the real rclone or bulkhaul, on this host or on others; waits, and says what became of it.',
    'Exit codes: 0 complete, 2 usage or nothing begun, 3 refused for safety, 23 some entries failed, 24 some vanished meanwhile, 130 interrupted.',
  ],
  original: 'dsync.py',
  flags: FLAGS,
  operands: 'SRC DST',
  examples: [
    ['Eight transfers at once', 'dsync -n 8 /data/projects /mnt/new/projects'],
    ['What that would do', 'dsync -n 8 --dry-run /data/projects /mnt/new/projects'],
    ['To a bucket', 'dsync -n 8 --cloud --rclone-config ~/bucket.conf /data/projects archive:projects'],
    ['Shared out to hosts', 'dsync -n 16 --source-hosts hosts.txt /data/projects /mnt/new/projects'],
    ['Once more, by the same parts', 'dsync -n 8 --reuse /data/projects /mnt/new/projects'],
  ],
} as const satisfies Page;

export function helpText(width: number): string {
  return helpPage(PAGE, width);
}
