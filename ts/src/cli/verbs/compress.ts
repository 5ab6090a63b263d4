/** `bulkhaul compress`: files in, archives in their place; the summary on stderr, the exit code out. */
import type { CompressOptions } from '../../ops/compress.js';
import type { Job } from '../../ops/job.js';
import type { Crew } from '../../ops/spread.js';
import { archiveForm, format, index, level, verifySource } from '../archives.js';
import { ConversionCommand } from '../conversion.js';
import { CREW, crewOf } from '../crew.js';
import { flag, operands } from '../options.js';
import { Command } from '../parser.js';
import { runJob } from '../run.js';

export class CompressCommand extends ConversionCommand {
  static override paths = [['compress']];
  static override usage = Command.Usage({
    description: 'Compress files in place',
    details: `
      Makes an archive of each file in each PATH, beside it, and removes the file when its archive is proved: synced, read
      back from the medium, decompressed, and compared with what the file gave. The archive has owner, mode, times,
      attributes and ACLs of the file. Killed at any moment it leaves the file, or the archive that was proved, or both;
      the same command goes on, inside a file of 32 MiB and more where it was.

      The default, \`bgzf\`, is gzip in blocks: gzip, zcat, Python, R, samtools and tabix read it. \`gzip\` is one member, for
      readers that stop after the first. No name and no time is in an archive: the same content gives the same bytes.

      An archive that is there already is decompressed and compared: the same content lets the file go, other content is a
      conflict, and both stay. \`--verify-source\` reads a file once more when its archive is proved: what a file gave wrongly
      in its only reading is not seen otherwise. Left alone, and counted, are files that are compressed already, by their first bytes; those
      whose archive would not be smaller; files with several names (hard links), symlinks and special files. A file that
      changes while it is read is kept, and told.

      \`--workers\`, \`--hosts\` and \`--slurm\` divide what is in one PATH into parts, which several processes compress.

      Exit codes: 0 complete, 1 an archive reads back differently, 2 usage or nothing begun, 23 some files failed or are in
      conflict, 24 some vanished or changed meanwhile, 130 interrupted.
    `,
    examples: [
      ['All TSV and cluster files of a run', '$0 compress --ext tsv --ext clusters run'],
      ['What would be compressed', '$0 compress -n --ext tsv run'],
      ['With an index, for tabix and samtools', '$0 compress --ext vcf --index calls'],
      ['Small, and the files stay', '$0 compress --format xz --level 9 --keep logs'],
      ['By four processes', '$0 compress --workers 4 --ext tsv run'],
      ['The files that find names', "find . -name '*.tsv' -mtime +30 -print0 | $0 compress --files-from0 -"],
    ],
  });

  format = format();
  level = level();
  index = index();
  verifySource = verifySource('Read each file twice before it goes: its only reading may be wrong');
  keep = flag('-k,--keep', { group: 'how', help: 'Leave the files where they are' });
  force = flag('-f,--force', { group: 'how', help: 'Compress also what does not become smaller' });
  workers = CREW.workers('the compression');
  hosts = CREW.hosts('PATH');
  slurm = CREW.slurm('PATH');
  slurmArgs = CREW.slurmArgs();
  hostProgram = CREW.hostProgram();
  parts = CREW.parts('PATH');
  runDir = CREW.runDir();
  patience = CREW.patience();
  operands = operands('PATH…', 0);

  async execute(): Promise<number> {
    const { settings, context, keep, force } = this;
    const options: CompressOptions = {
      ...(await this.files('compress', this.operands)),
      ...archiveForm(this),
      ...{ keep, force },
    };
    const excluded = {
      'More than one PATH': this.operands.length > 1,
      'A list of names': options.filesFrom !== undefined,
    };
    const crew = await crewOf(this, excluded, context.env.SLURM_JOB_ID !== undefined);
    const { compress } = await import('../../ops/compress.js');
    const begin =
      crew === undefined ? (entries: boolean) => compress({ ...options, entries }) : await this.spread(crew, options);
    const report = await runJob(begin, settings, context);
    await this.conclude(report, 'compress');
    return report.exitCode;
  }
  /** The same by several processes. */
  private async spread(crew: Crew, options: CompressOptions): Promise<(entries: boolean) => Job> {
    const { sources: _, extensions, filesFrom: __, format, level, index, verifySource, force, ...rest } = options;
    const { minSize, keep, owner, memory, ...shared } = rest;
    const { spreadTask } = await import('../../ops/spread.js');
    const { treeOf } = await import('../../ops/spread/task.js');
    const form = { format, level, index, verifySource, force, minSize, keep, owner, memory };
    const asked = Object.fromEntries(Object.entries(form).filter(([, value]) => value !== undefined));
    const task = {
      ...{ operation: 'compress' as const, inUse: [], ...asked, ...treeOf(this.operands[0] ?? '.') },
      ...(extensions && { extensions: extensions.map(String) }),
    };
    return (entries) => spreadTask({ ...shared, ...crew, entries, task });
  }
}
