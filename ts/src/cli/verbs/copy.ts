/** `bulkhaul copy`: options in, one copy job run, its summary on stderr and its exit code out. */
import { BulkhaulError } from '../../error.js';
import type { Job } from '../../ops/job.js';
import type { CopyOptions } from '../../ops/mapping.js';
import type { SpreadOptions } from '../../ops/spread.js';
import type { FlagNames } from '../../report/summary.js';
import { CREW, crewOf } from '../crew.js';
import { formatOf } from '../digests.js';
import { flag, value } from '../options.js';
import { Command } from '../parser.js';
import { runJob } from '../run.js';
import { CopyingCommand, listOf } from '../trees.js';
import { refuseElsewhere } from '../values.js';

const FLAGS: FlagNames = { removeExtra: '--delete', acceptTimeLoss: '--accept-time-loss' };

export class CopyCommand extends CopyingCommand {
  static override paths = [['copy']];
  static override usage = Command.Usage({
    description: 'Copy trees',
    details: `
      Copies each SRC into DEST and says truthfully what it did.

      \`SRC/\` means the contents of the directory, \`SRC\` the entry itself, as in rsync. A single source that is no
      directory is copied under the name DEST, unless DEST is a directory or ends with a slash. DEST and its parents are
      made when absent.

      A file is skipped when the destination has the same size, time and content of its last 64 KiB (\`--hash-size\`,
      \`--full-hash\`). Everything that a careful copier keeps is kept: mode, owner, times, xattrs, ACLs, capabilities,
      hard links, holes, symlinks, FIFOs, sockets and devices. What of that the destination refuses is told, and the exit
      code is 23, unless an option says that it is not wanted. A name never shows partial content. What is interrupted
      goes on when it is run again.

      With \`--workers\` the copy is spread: what is in the one SRC is divided into parts, which so many processes copy, each
      the next when it is done. Where a worker dies, another takes its part; where this command dies, resume goes on. When
      all parts are done, directories get their times, \`--delete\` and \`--move\` remove, and \`--manifest\` is written: by
      one process, which for these two reads everything once more. Limits are shared out.

      Exit codes: 0 complete, 1 a copy reads back differently, 2 usage or nothing begun, 3 refused for safety, or
      --delete or --move held back, 23 some entries failed, are missing or in conflict, 24 some vanished or changed
      meanwhile, 130 interrupted.
    `,
    examples: [
      ['Copy the directory photos to /backup/photos', '$0 copy photos /backup'],
      ['Copy what is in photos to /backup', '$0 copy photos/ /backup'],
      ['Show what would be copied', '$0 copy -n photos /backup'],
      ['Leave out objects anywhere and the top cache', "$0 copy --exclude '*.o' --exclude /cache src/ dst"],
      ['Copy the files that find names', 'find . -newer stamp -print0 | $0 copy --files-from0 - . /backup'],
      ['Hand the copy to somebody else', '$0 copy --chown alice:staff --chmod D755,F644 data /srv'],
      ['Everything on disk before success is reported', '$0 copy --sync all data /mnt/archive'],
      ['A mirror: what photos no longer has goes too', '$0 copy --delete --max-delete 10% photos/ /backup/photos'],
      ['Move, with proof', '$0 copy --move data/ /mnt/archive/data'],
      ['Copy, and write down what arrived', '$0 copy --manifest photos.b3 photos/ /mnt/archive'],
      ['By four processes', '$0 copy --workers 4 data/ /mnt/archive/data'],
      ['For a program to read', '$0 copy --json -v data /mnt/archive'],
    ],
  });

  move = flag('--move', {
    group: 'how',
    help: 'Remove each source entry whose copy was synced, read back from the medium and found the same; implies --sync all',
  });
  acceptTimeLoss = flag('--accept-time-loss', {
    group: 'safety',
    help: 'With --move: remove also entries with a time that the destination cannot keep, such as one after January 2038; otherwise they stay',
  });
  format = value(
    '--format',
    {
      ...{ group: 'output', value: 'FORM', default: 'sums' },
      help: 'Form of the manifest: sums (lines of a digest and a path), jsonl, hashdeep, bagit',
    },
    formatOf,
  );
  workers = CREW.workers('the copy');
  hosts = CREW.hosts('the source', 'the destination');
  slurm = CREW.slurm('the source', 'the destination');
  slurmArgs = CREW.slurmArgs();
  hostProgram = CREW.hostProgram();
  parts = CREW.parts('SRC');
  runDir = CREW.runDir();
  patience = CREW.patience();

  async execute(): Promise<number> {
    const { settings, context } = this;
    const begin = await this.begun();
    const { Output } = await import('../../report/output.js');
    // Whoever closes the pipe has seen enough: no summary then.
    let left = false;
    new Output(context.stdout, () => {
      left = true;
    });
    const report = await runJob(begin, { ...settings, flags: FLAGS }, context);
    if (!left) await this.conclude(report);
    return report.exitCode;
  }

  /** What begins the job. */
  private async begun(): Promise<(entries: boolean) => Job> {
    refuseElsewhere('copy', this.operands);
    const [source = '', destination = '', ...more] = this.operands;
    const excluded = {
      'More than one SRC': more.length > 0,
    };
    const crew = await crewOf(this, excluded, this.context.env.SLURM_JOB_ID !== undefined);
    this.checkOptions();
    if (crew !== undefined) {
      const { chown, ...rest } = await this.shared();
      const list = listOf(this.filesFrom);
      const spreading: SpreadOptions = {
        ...rest,
        ...crew,
        ...{ source, destination },
        // One source has one entry of each name: whatever --on-collision says holds.
        ...(this.requireSpace && { requireSpace: true }),
        ...(this.move && { removeSources: true, acceptTimeLoss: this.acceptTimeLoss }),
        ...(this.manifest !== undefined && { manifest: this.written('--manifest', this.manifest, this.format) }),
        ...(list !== undefined && { filesFrom: this.names(list) }),
        ...(chown?.user !== undefined && { chownUser: chown.user }),
        ...(chown?.group !== undefined && { chownGroup: chown.group }),
      };
      const { spread } = await import('../../ops/spread.js');
      return (entries) => spread({ ...spreading, entries });
    }
    const options = await this.copyOptions();
    const { copy } = await import('../../ops/copy.js');
    return (entries) => copy({ ...options, entries });
  }

  private checkOptions(): void {
    if (this.acceptTimeLoss && !this.move) throw new BulkhaulError('USAGE', '--accept-time-loss goes with --move');
    if (this.maxDelete !== undefined && !this.move && !this.delete) {
      throw new BulkhaulError('USAGE', '--max-delete goes with --delete or --move');
    }
    if (this.manifest === undefined && (this.format !== undefined || this.algorithms.length > 0)) {
      throw new BulkhaulError('USAGE', '--format and --algorithm go with --manifest');
    }
  }

  private async copyOptions(): Promise<CopyOptions> {
    const { move: removeSources, acceptTimeLoss } = this;
    return { ...(await this.copying(this.format)), removeSources, acceptTimeLoss };
  }
}
