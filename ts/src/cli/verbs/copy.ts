/** `bulkhaul copy`: options in, one copy job run, its summary on stderr and its exit code out. */
import { BulkhaulError } from '../../error.js';
import type { CopyOptions } from '../../ops/copy.js';
import type { Job } from '../../ops/job.js';
import type { SpreadOptions } from '../../ops/spread.js';
import { VerbCommand } from '../base.js';
import { ALGORITHMS, algorithmOf, formatOf } from '../digests.js';
import { choice, flag, limit, number, operands, rules, together, value, values } from '../options.js';
import { Command } from '../parser.js';
import { PROGRAM, runJob, spillDirectory } from '../run.js';
import { parseCount, parseOwner, parseSize, refuseElsewhere } from '../values.js';
import { version } from '../version.js';

const SPARSE = ['auto', 'always', 'never'] as const;
const COLLISION = ['fail', 'last', 'first'] as const;
const SYNC = ['none', 'safe', 'all'] as const;

export class CopyCommand extends VerbCommand {
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
      all parts are done, directories get their times and \`--delete\` removes. Limits are shared out.

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

  rules = rules('Leave out what PATTERN matches');
  filesFrom = together([
    {
      ...{ names: ['--files-from'], group: 'what', value: 'FILE', default: 'all of SRC' },
      help: 'Copy the names in FILE, one a line, relative to the one SRC; - is standard input',
    },
    {
      ...{ names: ['--files-from0'], group: 'what', value: 'FILE', default: 'all of SRC' },
      help: 'As --files-from, each name ended by a NUL byte',
    },
  ]);
  oneFileSystem = flag('-x,--one-file-system', {
    group: 'what',
    help: 'Do not go into other file systems below a source',
  });
  move = flag('--move', {
    group: 'how',
    help: 'Remove each source entry whose copy was synced, read back from the medium and found the same; implies --sync all',
  });
  delete = flag('--delete', {
    group: 'how',
    help: 'Remove from directories of the destination what the sources do not have, after all of them were listed, also what is of another kind (a file where a directory comes, or the reverse); nothing when a listing failed, a source is missing or empty, or past --max-delete, and nothing from where nothing could be made',
  });
  onCollision = choice('--on-collision', COLLISION, {
    ...{ group: 'how', value: 'RULE', default: 'fail' },
    help: 'Where two sources bring one name: last, that of the last is copied; first, that of the first; fail, that of the last, and what the others have with other content is a failure. Directories of one name merge',
  });
  hashSize = value(
    '--hash-size',
    {
      ...{ group: 'how', value: 'BYTES', default: '64K' },
      help: 'How much of the end of a file is compared before it is skipped, also with K, M or G; 0: size and time decide',
    },
    parseSize,
  );
  fullHash = flag('--full-hash', { group: 'how', help: 'Compare whole files before they are skipped' });
  keepDirlinks = flag('-K,--keep-dirlinks', {
    group: 'how',
    help: 'In the destination, a symlink to a directory serves as a directory; otherwise it is a conflict',
  });
  sparse = choice('--sparse', SPARSE, {
    ...{ group: 'how', value: 'WHEN', default: 'auto' },
    help: 'Holes in files: auto (as in the source), always (also for runs of zeros), never',
  });
  chown = value('--chown', {
    ...{ group: 'how', value: 'USER:GROUP', default: 'as in the source' },
    help: 'Set owner and group: USER:GROUP, USER or :GROUP, by name or number',
  });
  chmod = value('--chmod', {
    ...{ group: 'how', value: 'MODES', default: 'as in the source' },
    help: 'Change modes, as rsync does: D755,F644 or u=rwX,go-w',
  });
  noOwner = flag('--no-owner', { group: 'how', help: 'Do not keep owner and group' });
  noPerms = flag('--no-perms', {
    group: 'how',
    help: 'Do not keep permissions, nor ACLs, which are part of them: what is made is as mkdir and cp make it',
  });
  noAcls = flag('--no-acls', { group: 'how', help: 'Do not keep ACLs: those that the destination gives stand' });
  noXattrs = flag('--no-xattrs', { group: 'how', help: 'Do not keep extended attributes and capabilities' });
  noTimes = flag('--no-times', {
    group: 'how',
    help: 'Do not keep times: the next run copies again what has another time',
  });
  verify = flag('--verify', {
    group: 'safety',
    help: 'Read everything back from the medium and compare it, also what is there already',
  });
  sync = choice('--sync', SYNC, {
    ...{ group: 'safety', value: 'WHEN', default: 'safe' },
    help: 'What is on disk for sure after a power cut: none; safe (whatever the next run could mistake for finished); all (everything, before success is reported)',
  });
  maxDelete = limit('--max-delete', {
    ...{ group: 'safety', value: 'N', default: 'no limit' },
    help: 'With --delete and --move: where more than N entries, or N% of those there, would go, none goes. N% is of what the destination had before, or of what the sources have: after a run that brought much and held back, a second one may find that less than N% would go',
  });
  requireSpace = flag('--require-space', {
    group: 'safety',
    help: 'Measure the sources first, and refuse when they do not fit, by bytes or by inodes',
  });
  acceptTimeLoss = flag('--accept-time-loss', {
    group: 'safety',
    help: 'With --move: remove also entries with a time that the destination cannot keep, such as one after January 2038; otherwise they stay',
  });
  manifest = value('--manifest', {
    ...{ group: 'output', value: 'FILE', default: 'none' },
    help: 'Write the digests of all files that are in DEST then to FILE, by their paths below DEST: made while they are copied, and read for it what is there already. - is standard output',
  });
  format = value(
    '--format',
    {
      ...{ group: 'output', value: 'FORM', default: 'sums' },
      help: 'Form of the manifest: sums (lines of a digest and a path), jsonl, hashdeep, bagit',
    },
    formatOf,
  );
  algorithms = values('--algorithm', {
    ...{ group: 'output', value: 'NAME', default: 'blake3; of hashdeep md5 and sha256, of bagit sha512' },
    help: `A digest of the manifest: ${ALGORITHMS.join(', ')}; more than one for jsonl and hashdeep`,
  });
  workers = number('--workers', 1, 10_000, {
    ...{ group: 'speed', value: 'N', default: 'one process does it all' },
    help: 'Spread the copy over N processes, which share --jobs, --bwlimit and --iops-limit; with -v a line for each part that is done',
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
  operands = operands('SRC… DEST', 2);

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
    if (!settings.json && !left && !(settings.quiet && report.complete)) {
      const { partitionSummary, summaryText } = await import('../../report/summary.js');
      context.stderr.write(report.parts ? partitionSummary(report) : summaryText(report));
    }
    return report.exitCode;
  }

  /** What begins the job. */
  private async begun(): Promise<(entries: boolean) => Job> {
    refuseElsewhere('copy', this.operands);
    const shared = await this.shared();
    const options = this.copyOptions();
    if (this.workers !== undefined) {
      const { chown, ...rest } = shared;
      const spreading: SpreadOptions = {
        ...rest,
        ...this.spreadOptions(this.workers),
        ...(chown?.user !== undefined && { chownUser: chown.user }),
        ...(chown?.group !== undefined && { chownGroup: chown.group }),
      };
      const { spread } = await import('../../ops/spread.js');
      return (entries) => spread({ ...spreading, entries });
    }
    const alone = { '--parts': this.parts, '--run-dir': this.runDir, '--patience': this.patience };
    for (const [name, given] of Object.entries(alone)) {
      if (given !== undefined) throw new BulkhaulError('USAGE', `${name} goes with --workers`);
    }
    const { copy } = await import('../../ops/copy.js');
    return (entries) => copy({ ...shared, ...options, entries });
  }

  /** What only a copy by several processes has. */
  private spreadOptions(workers: number): Pick<SpreadOptions, 'source' | 'destination'> & Partial<SpreadOptions> {
    const [source = '', destination = '', ...more] = this.operands;
    for (const [name, given] of Object.entries({
      '--move': this.move,
      '--files-from': this.filesFrom.length > 0,
      '--manifest': this.manifest !== undefined,
      '--require-space': this.requireSpace,
      '--on-collision': this.onCollision !== 'fail',
      '--stall-timeout': this.stallTimeout !== undefined,
      'More than one SRC': more.length > 0,
    })) {
      if (given) throw new BulkhaulError('USAGE', `${name} and --workers exclude each other`);
    }
    return {
      ...{ source, destination, workers, program: PROGRAM, version: version() },
      ...(this.parts !== undefined && { parts: this.parts }),
      ...(this.runDir !== undefined && { directory: this.runDir }),
      ...(this.patience !== undefined && { patience: this.patience }),
    };
  }

  /** What a copy has in either way. */
  private async shared() {
    const { oneFileSystem, keepDirlinks, chmod, sparse, sync, fullHash, verify, dryRun } = this;
    const owner = this.chown === undefined ? undefined : await parseOwner(this.chown);
    return {
      ...{ oneFileSystem, keepDirlinks, sparse, sync, fullHash, verify, dryRun },
      exclude: await this.patterns(this.rules),
      owner: !this.noOwner,
      permissions: !this.noPerms,
      acls: !this.noAcls,
      xattrs: !this.noXattrs,
      times: !this.noTimes,
      removeExtra: this.delete,
      spillDirectory: spillDirectory(this.context.env),
      ...(owner && { chown: owner }),
      ...(this.maxDelete !== undefined && { maxDelete: this.maxDelete }),
      ...(chmod !== undefined && { chmod }),
      ...(this.hashSize !== undefined && { hashSize: this.hashSize }),
      ...this.inUse,
      ...this.resources,
      ...this.journaled,
    };
  }

  private copyOptions(): CopyOptions {
    const [list, ...more] = this.filesFrom;
    if (more.length > 0) {
      throw new BulkhaulError('USAGE', '--files-from and --files-from0 exclude each other, and go once');
    }
    if (this.acceptTimeLoss && !this.move) throw new BulkhaulError('USAGE', '--accept-time-loss goes with --move');
    if (this.maxDelete !== undefined && !this.move && !this.delete) {
      throw new BulkhaulError('USAGE', '--max-delete goes with --delete or --move');
    }
    if (this.manifest === undefined && (this.format !== undefined || this.algorithms.length > 0)) {
      throw new BulkhaulError('USAGE', '--format and --algorithm go with --manifest');
    }
    return {
      sources: this.operands.slice(0, -1),
      destination: this.operands.at(-1) ?? '',
      onCollision: this.onCollision,
      requireSpace: this.requireSpace,
      removeSources: this.move,
      acceptTimeLoss: this.acceptTimeLoss,
      ...(this.manifest !== undefined && {
        manifest: {
          path: this.file('--manifest', this.manifest, '/dev/stdout'),
          algorithms: this.algorithms.map(algorithmOf),
          ...(this.format !== undefined && { format: this.format }),
        },
      }),
      ...(list !== undefined && {
        filesFrom: {
          path: this.file(list.option, list.value, '/dev/stdin'),
          nul: list.option === '--files-from0',
        },
      }),
    };
  }
}
