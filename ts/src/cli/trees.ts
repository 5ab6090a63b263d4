/**
 * What the commands `copy`, `migrate` and `move` share: trees, where they go, and how.
 *
 * Comes in: the arguments of a call; goes out: options of an operation, and the summary when it has ended.
 */
import { BulkhaulError } from '../error.js';
import type { Report } from '../events.js';
import type { CopyOptions } from '../ops/mapping.js';
import { VerbCommand } from './base.js';
import { ALGORITHMS, algorithmOf, type formatOf } from './digests.js';
import { choice, flag, type Given, limit, operands, rules, together, value, values } from './options.js';
import { spillDirectory } from './run.js';
import { parseOwner, parseSize, refuseElsewhere } from './values.js';

const SPARSE = ['auto', 'always', 'never'] as const;
const COLLISION = ['fail', 'last', 'first'] as const;
const SYNC = ['none', 'safe', 'all'] as const;

/** A list of names below the one operand `of`; `help`: what becomes of them. */
export function filesFrom(of: string, help: string): Given[] {
  const words = { group: 'what', value: 'FILE', default: `all of ${of}` } as const;
  return together([
    { ...words, names: ['--files-from'], help: `${help}; - is standard input` },
    { ...words, names: ['--files-from0'], help: 'As --files-from, each name ended by a NUL byte' },
  ]);
}

/** The one list that was given. Throws `USAGE` where there are more. */
export function listOf([list, ...more]: readonly Given[]): Given | undefined {
  if (more.length === 0) return list;
  throw new BulkhaulError('USAGE', '--files-from and --files-from0 exclude each other, and go once');
}

/** A verb that brings trees to a place. */
export abstract class TreesCommand extends VerbCommand {
  oneFileSystem = flag('-x,--one-file-system', {
    group: 'what',
    help: 'Do not go into other file systems below a source',
  });
  keepDirlinks = flag('-K,--keep-dirlinks', {
    group: 'how',
    help: 'In the destination, a symlink to a directory serves as a directory; otherwise it is a conflict',
  });
  sparse = choice('--sparse', SPARSE, {
    ...{ group: 'how', value: 'WHEN', default: 'auto' },
    help: 'Holes in files: auto (as in the source), always (also for runs of zeros), never',
  });
  requireSpace = flag('--require-space', {
    group: 'safety',
    help: 'Measure what would be copied first, and refuse when it does not fit, by bytes or by inodes',
  });
  operands = operands('SRC… DEST', 2);

  /** What is taken, and where it goes. */
  protected get ends() {
    refuseElsewhere(this.path[0] ?? '', this.operands);
    return { sources: this.operands.slice(0, -1), destination: this.operands.at(-1) ?? '' };
  }

  /** What holds for all of them, as options of an operation. */
  protected get common() {
    const { oneFileSystem, keepDirlinks, sparse, dryRun } = this;
    return {
      ...{ oneFileSystem, keepDirlinks, sparse, dryRun },
      spillDirectory: spillDirectory(this.context.env),
      ...this.inUse,
      ...this.resources,
      ...this.journaled,
    };
  }

  /** Says how it ended. */
  protected async conclude(report: Report): Promise<void> {
    const { settings, context } = this;
    if (settings.json || (settings.quiet && report.complete)) return;
    const { partitionSummary, summaryText } = await import('../report/summary.js');
    context.stderr.write(report.parts ? partitionSummary(report) : summaryText(report));
  }
}

/** A verb that copies them. */
export abstract class CopyingCommand extends TreesCommand {
  rules = rules('Leave out what PATTERN matches');
  filesFrom: Given[] = filesFrom('SRC', 'Copy the names in FILE, one a line, relative to the one SRC');
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
  manifest = value('--manifest', {
    ...{ group: 'output', value: 'FILE', default: 'none' },
    help: 'Write the digests of all files that are in DEST then to FILE, by their paths below DEST: made while they are copied, and read for it what is there already. - is standard output',
  });
  algorithms = values('--algorithm', {
    ...{ group: 'output', value: 'NAME', default: 'blake3; of hashdeep md5 and sha256, of bagit sha512' },
    help: `A digest of the manifest: ${ALGORITHMS.join(', ')}; more than one for jsonl and hashdeep`,
  });

  /** The same for a copy. */
  protected async shared() {
    const { chmod, sync, fullHash, verify, maxDelete, hashSize } = this;
    const owner = this.chown === undefined ? undefined : await parseOwner(this.chown);
    return {
      ...this.common,
      ...{ sync, fullHash, verify },
      exclude: await this.patterns(this.rules),
      owner: !this.noOwner,
      permissions: !this.noPerms,
      acls: !this.noAcls,
      xattrs: !this.noXattrs,
      times: !this.noTimes,
      removeExtra: this.delete,
      ...(owner && { chown: owner }),
      ...(maxDelete !== undefined && { maxDelete }),
      ...(chmod !== undefined && { chmod }),
      ...(hashSize !== undefined && { hashSize }),
    };
  }

  /** All of a copy by one process; `form`: of its manifests. */
  protected async copying(form: ReturnType<typeof formatOf> | undefined): Promise<CopyOptions> {
    const list = listOf(this.filesFrom);
    const { onCollision, requireSpace } = this;
    return {
      ...this.ends,
      ...(await this.shared()),
      ...{ onCollision, requireSpace },
      ...(this.manifest !== undefined && { manifest: this.written('--manifest', this.manifest, form) }),
      ...(list !== undefined && { filesFrom: this.names(list) }),
    };
  }

  /** The list that an option names. */
  protected names({ option, value }: Given) {
    return { path: this.file(option, value, '/dev/stdin'), nul: option === '--files-from0' };
  }

  /** A manifest that FILE of an option is to be. */
  protected written(option: string, file: string, form: ReturnType<typeof formatOf> | undefined) {
    return {
      path: this.file(option, file, '/dev/stdout'),
      algorithms: this.algorithms.map(algorithmOf),
      ...(form !== undefined && { format: form }),
    };
  }
}
