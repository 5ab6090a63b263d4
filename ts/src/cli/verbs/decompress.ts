/** `bulkhaul decompress`: archives in, their content in their place, or on standard output; the exit code out. */
import { BulkhaulError } from '../../error.js';
import type { DecompressOptions } from '../../ops/decompress.js';
import { ConversionCommand } from '../conversion.js';
import { flag, operands } from '../options.js';
import { Command } from '../parser.js';
import { neededSpillDirectory, runJob } from '../run.js';

export class DecompressCommand extends ConversionCommand {
  static override paths = [['decompress']];
  static override usage = Command.Usage({
    description: 'Decompress files in place, or test them',
    details: `
      The reverse of compress: the content of each archive in each PATH (.gz, .bgz, .xz, .zst; .tgz and the like become
      .tar) is written beside it, synced, read back from the medium and compared; then it gets owner, mode, times,
      attributes and ACLs of the archive, and the archive goes. Archives of any number of parts are read to their last
      byte: one that is damaged, cut short or followed by something else is an error with the place of it, and stays. Killed
      at any moment it leaves the archive, or the content that was proved, or both; the same command goes on, inside an
      archive of 16 MiB and more where it was, if that has several blocks or frames. What is one piece, such as an
      ordinary .gz, begins anew.

      Where PATH is \`-\`, it is standard input, whose content goes to standard output as with \`--stdout\`, or is tested: it is kept in
      a file in $TMPDIR, else in /var/tmp, until it is read.

      What has the name of the content already is compared: the same lets the archive go, anything else is a conflict, and
      both stay. Files with several names (hard links), symlinks and special files are left alone and counted. What bzip2
      and other programs have made is left alone, and told; where a PATH names it, and where the name of an archive does not
      end as that of one, that is an error.

      Exit codes: 0 complete, 1 an archive is damaged, or content reads back differently, 2 usage or nothing begun, 23 some
      files failed or are in conflict, 24 some vanished or changed meanwhile, 130 interrupted.
    `,
    examples: [
      ['All archives of a run', '$0 decompress run'],
      ['Whether they are whole', '$0 decompress --test run'],
      ['Those of TSV only, and they stay', '$0 decompress --ext tsv --keep run'],
      ['One of them, to be read', '$0 decompress --stdout run/counts.tsv.gz | head'],
      ['One that another host sends', 'ssh host cat /data/counts.tsv.gz | $0 decompress - > counts.tsv'],
    ],
  });

  test = flag('-t,--test', {
    group: 'how',
    help: 'Read the archives to their end, from the medium, and write nothing',
  });
  stdout = flag('-c,--stdout', {
    group: 'how',
    help: 'Write the content of the one archive to standard output; the archive stays',
  });
  sparse = flag('-S,--sparse', { group: 'how', help: 'Make holes of zeros' });
  keep = flag('-k,--keep', { group: 'how', help: 'Leave the archives where they are' });
  operands = operands('PATH…', 0);

  async execute(): Promise<number> {
    const { context, operands } = this;
    if (!operands.includes('-')) return this.#decompress(operands, this.stdout);
    if (operands.length > 1) throw new BulkhaulError('USAGE', 'standard input (-) is decompressed alone');
    this.file('PATH', '-', '/dev/stdin');
    const { spooled } = await import('../spool.js');
    const directory = neededSpillDirectory(context.env);
    // What came by a stream can't be had again.
    this.journal = false;
    return spooled(context.stdin, directory, (path) => this.#decompress([path], !this.test));
  }

  async #decompress(paths: readonly string[], stdout: boolean): Promise<number> {
    const { settings, context, test, sparse, keep } = this;
    if (this.stdout && test) throw new BulkhaulError('USAGE', '--stdout writes, and --test writes nothing');
    const options: DecompressOptions = {
      ...(await this.files('decompress', paths)),
      ...{ test, sparse, keep },
      ...(stdout && { output: this.file('--stdout', '-', '/dev/stdout') }),
    };
    const { decompress } = await import('../../ops/decompress.js');
    const report = await runJob((entries) => decompress({ ...options, entries }), settings, context);
    if (!stdout || !report.complete) await this.conclude(report, 'decompress', test);
    return report.exitCode;
  }
}
