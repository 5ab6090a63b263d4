/** `bulkhaul pack`: trees in, shards with indexes out, in a directory. */
import { BulkhaulError } from '../../error.js';
import type { PackOptions } from '../../ops/pack.js';
import { choice, either, flag, number, operands, rules, value } from '../options.js';
import { Command } from '../parser.js';
import { neededSpillDirectory, runJob } from '../run.js';
import { StoreCommand } from '../stores.js';
import { parseSize, refuseElsewhere } from '../values.js';

export class PackCommand extends StoreCommand {
  static override paths = [['pack']];
  static override usage = Command.Usage({
    description: 'Pack trees into a few large tar files, with indexes',
    details: `
      Packs what is in each SRC into shards in the directory DEST: tar files of about one size (\`--shard-size\`) that any
      tar reads, with names of any bytes, times to the nanosecond, owners, modes, extended attributes, ACLs, holes, hard
      links, symlinks, FIFOs and devices. Each restores on its own: all names of a file are in one shard, and the
      directories above an entry are there too. Paths begin with the name of SRC; with \`SRC/\` they are relative to it.

      Beside each shard lies its index, shard-NUMBER.jsonl: a manifest, which \`verify\` reads, that also says in which
      shard and where an entry is. state-NUMBER.jsonl says which shards belong together, and state-NUMBER.b3 has their
      sums for \`b3sum --check\`. Every file is read once, with its digest; each shard is synced, read back from the medium
      and compared before it gets its name. Nothing in DEST is ever written over.

      The same command later packs what is new or has changed since into further shards, and writes down what is not
      there any more; after an interruption it goes on. A file that changes while it is read, and what can't be read, is an
      error, and is in no shard. Sockets are left out, with a note.

      DEST may be \`s3://BUCKET/PREFIX\`. A shard is made in a file without a name in \`$TMPDIR\` then, which needs room for
      it, and goes up when it is whole; the server checks it, or it is read back.

      \`--compress\` makes .tar.zst or .tar.gz (BGZF), which zstd, gzip and tar read, in pieces that are read alone.

      Exit codes: 0 complete, 1 a shard was read back and differs, 2 usage or nothing begun, 23 some entries or shards
      failed, 24 some entries vanished or changed meanwhile, 130 interrupted.
    `,
    examples: [
      ['A tree for the tape library', '$0 pack photos/ /mnt/packed'],
      ['In compressed shards of 1 GiB', '$0 pack --shard-size 1G --compress zstd photos /mnt/packed'],
      ['What the shards would be', '$0 pack --dry-run photos/ /mnt/packed'],
      ['Into a store', '$0 pack --compress zstd photos/ s3://archive/photos'],
      ['Look into one with tar', 'tar -tvf /mnt/packed/shard-00001.tar'],
    ],
  });

  override dryRun = flag('-n,--dry-run', {
    group: 'safety',
    help: 'Show what the shards would be, with their sizes, and write nothing',
  });
  rules = rules('Leave out what PATTERN matches');
  oneFileSystem = flag('-x,--one-file-system', {
    group: 'what',
    help: 'Do not go into other file systems below a SRC',
  });
  shardSize = value(
    '--shard-size',
    {
      ...{ group: 'how', value: 'SIZE', default: '10G' },
      help: 'A shard has SIZE bytes of files and headers at most, before it is compressed, also with K, M, G or T; a larger file has one of its own',
    },
    parseSize,
  );
  compress = choice('--compress', ['none', 'zstd', 'bgzf'], {
    ...{ group: 'how', value: 'FORM', default: 'none' },
    help: 'Compress the shards: zstd, bgzf (gzip in blocks), none',
  });
  level = number('--level', 1, 19, {
    ...{ group: 'how', value: 'N', default: '3 of zstd, 6 of bgzf' },
    help: 'Level of that: 1 (fast) to 19 of zstd, to 12 of bgzf',
  });
  index = either('--index', {
    group: 'how',
    help: 'Write an index beside each shard, by which single entries are found; it is always written',
  });
  operands = operands('SRC… DEST', 2);

  async execute(): Promise<number> {
    const { settings, context } = this;
    const [sources, destination = ''] = [this.operands.slice(0, -1), this.operands.at(-1)];
    refuseElsewhere('pack', sources);
    if (this.index === false) throw new BulkhaulError('USAGE', '--no-index: an index is always written');
    this.refuseHosts('pack', [destination]);
    const options: PackOptions = {
      sources,
      destination,
      store: this.store,
      environment: context.env,
      exclude: await this.patterns(this.rules),
      oneFileSystem: this.oneFileSystem,
      dryRun: settings.dryRun,
      spillDirectory: neededSpillDirectory(context.env),
      ...(this.shardSize !== undefined && { shardSize: this.shardSize }),
      ...(this.compress !== undefined && { compression: this.compress }),
      ...(this.level !== undefined && { level: this.level }),
      ...this.inUse,
      ...this.resources,
      ...this.journaled,
    };
    const { pack } = await import('../../ops/pack.js');
    const report = await runJob((entries) => pack({ ...options, entries }), settings, context);
    if (!settings.json && (!report.complete || !settings.quiet)) {
      const { packSummary } = await import('../../report/summary.js');
      context.stderr.write(packSummary(report));
    }
    return report.exitCode;
  }
}
