/** `bulkhaul copy`: options in, one copy job run, its summary on stderr and its exit code out. */
import { existsSync } from 'node:fs';
import { BulkhaulError } from '../../error.js';
import { fromBytes, toBytes } from '../../names.js';
import type { Job } from '../../ops/job.js';
import type { CopyOptions } from '../../ops/mapping.js';
import type { SpreadOptions } from '../../ops/spread.js';
import { formatOf } from '../digests.js';
import { flag, number, value } from '../options.js';
import { Command } from '../parser.js';
import { PROGRAM, runJob } from '../run.js';
import { CopyingCommand, listOf } from '../trees.js';
import { contentOf, parseCount, refuseElsewhere } from '../values.js';
import { version } from '../version.js';

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
  workers = number('--workers', 1, 10_000, {
    ...{ group: 'speed', value: 'N', default: 'one process does it all' },
    help: 'Spread the copy over N processes, which share --jobs, --bwlimit and --iops-limit; with -v a line for each part that is done',
  });
  hosts = value('--hosts', {
    ...{ group: 'speed', value: 'LIST', default: 'this one' },
    help: 'Have the workers on these hosts, by ssh without a question: names with commas between, or a file with one a line; one for each, or --workers in all. Each has to see the source, the destination and --run-dir under the same paths',
  });
  slurm = flag('--slurm', {
    group: 'speed',
    help: 'Have the workers as an array of Slurm jobs, or in an allocation as its steps; the nodes have to see the source, the destination and --run-dir. What ends early is submitted again',
  });
  slurmArgs = value('--slurm-args', {
    ...{ group: 'speed', value: 'WORDS', default: 'none' },
    help: 'With --slurm: more words for sbatch, with blanks between them, or as a JSON array',
  });
  hostProgram = value('--host-program', {
    ...{ group: 'speed', value: 'PATH', default: 'bulkhaul' },
    help: 'With --hosts and --slurm: the command that bulkhaul is there',
  });
  parts = number('--parts', 1, 1_000_000, {
    ...{ group: 'speed', value: 'N', default: '16 for each worker' },
    help: 'With --workers: into how many parts SRC is divided',
  });
  runDir = value('--run-dir', {
    ...{ group: 'safety', value: 'DIR', default: 'with the journal; it goes when all is complete' },
    help: 'With --workers: where the run is kept, which all workers see',
  });
  patience = value(
    '--patience',
    {
      ...{ group: 'safety', value: 'SECONDS', default: '60' },
      help: 'With --workers: a worker of which nothing is heard for so long is taken for lost, and its part goes to another',
    },
    parseCount,
  );

  async execute(): Promise<number> {
    const { settings, context } = this;
    const begin = await this.begun();
    const { Output } = await import('../../report/output.js');
    // Whoever closes the pipe has seen enough: no summary then.
    let left = false;
    new Output(context.stdout, () => {
      left = true;
    });
    const report = await runJob(begin, settings, context);
    if (!left) await this.conclude(report);
    return report.exitCode;
  }

  /** What begins the job. */
  private async begun(): Promise<(entries: boolean) => Job> {
    refuseElsewhere('copy', this.operands);
    if (this.workers !== undefined || this.hosts !== undefined || this.slurm) {
      const { chown, ...rest } = await this.shared();
      this.checkOptions();
      const spreading: SpreadOptions = {
        ...rest,
        ...(await this.spreadOptions()),
        ...(chown?.user !== undefined && { chownUser: chown.user }),
        ...(chown?.group !== undefined && { chownGroup: chown.group }),
      };
      const { spread } = await import('../../ops/spread.js');
      return (entries) => spread({ ...spreading, entries });
    }
    const alone = {
      ...{ '--parts': this.parts, '--run-dir': this.runDir, '--patience': this.patience },
      ...{ '--host-program': this.hostProgram, '--slurm-args': this.slurmArgs },
    };
    for (const [name, given] of Object.entries(alone)) {
      if (given !== undefined) throw new BulkhaulError('USAGE', `${name} goes with --workers`);
    }
    const options = await this.copyOptions();
    const { copy } = await import('../../ops/copy.js');
    return (entries) => copy({ ...options, entries });
  }

  /** What only a copy by several processes has. */
  private async spreadOptions(): Promise<Pick<SpreadOptions, 'source' | 'destination'> & Partial<SpreadOptions>> {
    const [source = '', destination = '', ...more] = this.operands;
    for (const [name, given] of Object.entries({
      '--require-space': this.requireSpace,
      '--on-collision': this.onCollision !== 'fail',
      '--stall-timeout': this.stallTimeout !== undefined,
      'More than one SRC': more.length > 0,
      ...(this.slurm && { '--hosts': this.hosts !== undefined }),
    })) {
      if (given) throw new BulkhaulError('USAGE', `${name} and --workers exclude each other`);
    }
    if (this.journal === false && this.runDir === undefined && !this.dryRun) {
      throw new BulkhaulError('USAGE', '--no-journal: the run has no place then; name one with --run-dir');
    }
    const list = listOf(this.filesFrom);
    return {
      ...{ source, destination, program: PROGRAM, version: version() },
      ...(this.move && { removeSources: true, acceptTimeLoss: this.acceptTimeLoss }),
      ...(this.manifest !== undefined && { manifest: this.written('--manifest', this.manifest, this.format) }),
      ...(list !== undefined && { filesFrom: this.names(list) }),
      ...(this.workers !== undefined && { workers: this.workers }),
      ...(this.hosts !== undefined && { hosts: await hostsOf(this.hosts) }),
      ...(this.slurm && {
        slurm: { args: wordsOf(this.slurmArgs ?? ''), allocated: this.context.env.SLURM_JOB_ID !== undefined },
      }),
      ...(this.hostProgram !== undefined && { hostProgram: this.hostProgram }),
      ...(this.parts !== undefined && { parts: this.parts }),
      ...(this.runDir !== undefined && { directory: this.runDir }),
      ...(this.patience !== undefined && { patience: this.patience }),
    };
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
    this.checkOptions();
    const { move: removeSources, acceptTimeLoss } = this;
    return { ...(await this.copying(this.format)), removeSources, acceptTimeLoss };
  }
}

/** Words with blanks between them, or a JSON array of words. */
function wordsOf(given: string): string[] {
  if (!given.startsWith('[')) return given.split(/\s+/).filter((word) => word !== '');
  try {
    const words: unknown = JSON.parse(given);
    if (Array.isArray(words) && words.every((word) => typeof word === 'string')) return words;
  } catch {
    // Said below.
  }
  throw new BulkhaulError('USAGE', `--slurm-args: no JSON array of words: ${given}`);
}

/** Hosts, from a file with one a line, or with commas between. Throws `USAGE` where there are none. */
async function hostsOf(given: string): Promise<string[]> {
  const text = existsSync(toBytes(given)) ? fromBytes(await contentOf('--hosts', given)) : given.replaceAll(',', '\n');
  const hosts = text.split('\n').map((line) => line.replace(/#.*/, '').trim());
  const named = hosts.filter((host) => host !== '');
  if (named.length === 0) throw new BulkhaulError('USAGE', `--hosts: there are no hosts in ${given || 'nothing'}`);
  return named;
}
