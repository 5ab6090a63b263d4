/** `bulkhaul unpack`: shards or a tar in, a tree out; or a list, or a verdict. */
import { BulkhaulError } from '../../error.js';
import type { UnpackOptions } from '../../ops/unpack.js';
import { ExitCode } from '../../verdict.js';
import { flag, operands } from '../options.js';
import { Command } from '../parser.js';
import { neededSpillDirectory, runJob } from '../run.js';
import { StoreCommand } from '../stores.js';
import { refuseElsewhere } from '../values.js';

export class UnpackCommand extends StoreCommand {
  static override paths = [['unpack']];
  static override usage = Command.Usage({
    description: 'Unpack shards, or any tar, or verify them',
    details: `
      Restores what \`pack\` made below the directory TARGET: all of SRC, a directory of shards, or only each PATH, a
      directory with what is in it, in which \`*\`, \`?\` and \`[\` mean what they mean to rsync. Of several states the last
      one counts. Single entries are read by the index, wherever they lie. SRC may also be one tar file, of any tar, as it
      is or compressed with gzip, xz or zstd.

      Nothing is written outside of TARGET, whatever the archive says: absolute names, and such with \`..\`, are refused
      and counted, and no link is followed, neither one that is there nor one that was just unpacked. Symlinks are
      restored as they are. A file gets its name when it is whole and has the digest that the index knows. What is there
      with the same size, time and mode is left, so the same command goes on after an interruption; anything else is
      replaced, but a directory is in the way of what is none. Where TARGET takes two names for one, the second of them is
      in conflict. \`--dry-run\` tells of all that beforehand, as far as it shows.

      Damage costs the entries that it hits, which are named; the rest is restored. A lost or damaged index is made anew
      from its shard, with a note; what lay where that is damaged too has no name any more, and is told by its place. Of a
      compressed shard that has an index only the pieces are read that hold what is wanted; any other compressed archive is
      unpacked into a file without a name first, in TARGET.

      SRC may be \`-\`, a tar on standard input: it is kept in a file in $TMPDIR, else in /var/tmp, until it is unpacked.

      SRC may be \`s3://BUCKET/PREFIX\`, or a tar there: what is wanted is asked for, and not the rest of its shard.

      \`--list\` prints the entries; \`--verify\` reads all and compares it with the sums of shards and entries: neither has
      a TARGET.

      Exit codes: 0 complete, 1 something is damaged, 2 usage or nothing begun, 23 some entries failed, are missing or in
      conflict, 130 interrupted.
    `,
    examples: [
      ['All of it', '$0 unpack /mnt/packed restored'],
      ['One directory, and what ends with .txt', "$0 unpack /mnt/packed 2024/may '*.txt' restored"],
      ['One file out of a store', '$0 unpack s3://archive/photos 2024/may/a.jpg restored'],
      ['What there is', '$0 unpack --list /mnt/packed'],
      ['Whether it is whole', '$0 unpack --verify /mnt/packed'],
      ['A tar of somebody else', '$0 unpack theirs.tar.gz there'],
    ],
  });

  list = flag('-t,--list', { group: 'what', help: 'Print the entries, and unpack nothing' });
  verify = flag('--verify', {
    group: 'what',
    help: 'Read shards and entries, and compare them with their sums; unpack nothing',
  });
  ignoreZeros = flag('--ignore-zeros', {
    group: 'what',
    help: 'Take archives in one file, one behind the other, for one; without it another one behind the end is an error',
  });
  noOwner = flag('--no-owner', { group: 'how', help: 'Do not restore owner and group' });
  operands = operands('SRC [PATH…] TARGET', 1);

  async execute(): Promise<number> {
    const { context } = this;
    if (this.list && this.verify) throw new BulkhaulError('USAGE', '--list and --verify exclude each other');
    const task = this.list ? 'list' : this.verify ? 'verify' : 'unpack';
    const [source = '', ...rest] = this.operands;
    if (source !== '-') this.refuseHosts('unpack', [source]);
    refuseElsewhere('unpack', rest);
    const destination = task === 'unpack' ? rest.pop() : undefined;
    // What came by a stream can't be had again.
    if (source === '-') this.journal = false;
    if (task === 'unpack' && destination === undefined) {
      throw new BulkhaulError('USAGE', 'where to? unpack SRC TARGET; --list and --verify need no TARGET');
    }
    const spillDirectory = neededSpillDirectory(context.env);
    const options: Omit<UnpackOptions, 'source'> = {
      task,
      only: rest,
      ignoreZeros: this.ignoreZeros,
      owner: !this.noOwner,
      store: this.store,
      environment: context.env,
      dryRun: this.settings.dryRun,
      spillDirectory,
      ...(destination !== undefined && { destination }),
      ...this.resources,
      ...this.journaled,
    };
    if (source !== '-') return this.#unpack({ ...options, source });
    const { spooled } = await import('../spool.js');
    return spooled(context.stdin, spillDirectory, (path) => this.#unpack({ ...options, source: path }));
  }

  async #unpack(options: UnpackOptions): Promise<number> {
    const { settings, context } = this;
    const { task } = options;
    const { unpack } = await import('../../ops/unpack.js');
    const shown = this.list && !settings.json ? { ...settings, verbose: true } : settings;
    let left = false;
    context.stdout.on('error', ({ code }: NodeJS.ErrnoException) => {
      left ||= code === 'EPIPE';
    });
    const report = await runJob(
      (entries) => unpack({ ...options, entries: entries || (this.list && !settings.quiet) }),
      shown,
      context,
    );
    // Who reads the beginning of a list has what they wanted.
    if (this.list && report.interrupted && left) return ExitCode.complete;
    if (!settings.json && (!report.complete || !settings.quiet)) {
      const { listSummary, summaryText, unpackedSummary } = await import('../../report/summary.js');
      const text = task === 'list' ? listSummary : task === 'verify' ? unpackedSummary : summaryText;
      context.stderr.write(text(report));
    }
    return report.exitCode;
  }
}
