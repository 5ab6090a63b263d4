/** `bulkhaul move`: options in, one move run, its summary on stderr and its exit code out. */
import type { FlagNames } from '../../report/summary.js';
import { flag, rules } from '../options.js';
import { Command } from '../parser.js';
import { runJob } from '../run.js';
import { TreesCommand } from '../trees.js';

const FLAGS: FlagNames = { acceptTimeLoss: '--accept-time-loss' };

export class MoveCommand extends TreesCommand {
  static override paths = [['move']];
  static override usage = Command.Usage({
    description: 'Move trees',
    details: `
      Moves each SRC into DEST: within one file system by a rename, which the summary tells; otherwise it is copied, synced,
      read back from the medium and compared, metadata too, and goes from the source then.

      \`SRC/\` means the contents of the directory, \`SRC\` the entry itself, as in rsync. A single source that is no
      directory is moved under the name DEST, unless DEST is a directory or ends with a slash. DEST and its parents are
      made when absent.

      Where DEST has a directory of that name already, they merge, entry by entry. Nothing is ever replaced: what something
      else has the name of is a conflict, and both stay. What is there already with the same content goes from the source.
      What is mounted below a SRC is copied, and its mount point stays. Directories of a source go when they are empty.

      What is interrupted goes on when it is run again: each entry is in the source, in DEST, or in both. Only the time of
      a directory whose entries were being renamed just then may be lost.

      Exit codes: 0 complete, 1 a copy reads back differently, 2 usage or nothing begun, 3 refused for safety, 23 some
      entries failed, are missing or in conflict, 24 some vanished or changed meanwhile, 130 interrupted.
    `,
    examples: [
      ['Move the directory photos to /archive/photos', '$0 move photos /archive'],
      ['Merge what is in photos into /archive/photos', '$0 move photos/ /archive/photos'],
      ['Show what would be done: m is a rename, > a copy', '$0 move -n photos /archive'],
      ['Leave where they are what is not finished', "$0 move --exclude '*.part' incoming/ /data"],
    ],
  });

  rules = rules('Leave where it is what PATTERN matches');
  acceptTimeLoss = flag('--accept-time-loss', {
    group: 'safety',
    help: 'Move also entries with a time that the destination cannot keep, such as one after January 2038; otherwise they stay',
  });

  async execute(): Promise<number> {
    const { settings, context, requireSpace, acceptTimeLoss } = this;
    const exclude = await this.patterns(this.rules);
    const options = { ...this.ends, ...this.common, exclude, requireSpace, acceptTimeLoss };
    const { move } = await import('../../ops/move.js');
    const report = await runJob((entries) => move({ ...options, entries }), { ...settings, flags: FLAGS }, context);
    await this.conclude(report);
    return report.exitCode;
  }
}
