/** `bulkhaul manifest`: trees in, one manifest out, on standard output or into a file. */
import { BulkhaulError } from '../../error.js';
import type { Job } from '../../ops/job.js';
import type { ManifestOptions } from '../../ops/manifest.js';
import type { Crew } from '../../ops/spread.js';
import { isUrl } from '../../stores/urls.js';
import { CREW, crewOf } from '../crew.js';
import { ALGORITHMS, algorithmOf, FORMATS } from '../digests.js';
import { choice, flag, operands, rules, value, values } from '../options.js';
import { Command } from '../parser.js';
import { neededSpillDirectory, runJob } from '../run.js';
import { StoreCommand } from '../stores.js';
import { refuseElsewhere } from '../values.js';

export class ManifestCommand extends StoreCommand {
  static override readonly idle = {
    '--dry-run': 'nothing but the manifest is written',
    '--verbose': 'the manifest has a line for each entry',
  };
  static override paths = [['manifest']];
  static override usage = Command.Usage({
    description: 'Write down the digests of files',
    details: `
      Reads each file in each SRC and writes its digest and its path down, sorted by the bytes of the paths: the same
      files give the same manifest. \`b3sum --check\`, and with \`--algorithm\` \`sha256sum -c\`, \`sha512sum -c\` and
      \`md5sum -c\`, read it. Paths begin with the name of SRC; with \`SRC/\` they are relative to it.

      Such lines are about regular files and their content, and nothing else: directories, symlinks, which are not
      followed, FIFOs, sockets and devices are not in them, and are counted as skipped; nor are sizes, times, modes and
      owners. \`--format jsonl\` has all of that, links and hard links too, and any name, as one JSON object a line.
      \`hashdeep\` writes lines for \`hashdeep -a\`, \`bagit\` those of a bag's manifest, whose payload is below \`data\`.

      A file that changes while it is read, what can't be read, and a name that the format can't carry (for b3sum what is
      not UTF-8) are errors, and the rest is written. The manifest itself, the state directory, and what an interrupted
      run left unfinished are left out.

      \`--update\` takes the digests of files whose size, time of modification and time of change FILE knows as they are,
      and reads the others; \`--full\` reads all. Where the content is another though size and time of modification are not,
      the file was changed behind its time, or, where the time of change is the same too, it is damaged: an error, and its
      line stays as it was. That needs \`--format jsonl\`, which has times.

      A run that was interrupted or killed is gone on with by the same command, or \`resume\`: what it has read is not read
      again where size, time of modification and time of change are as they were (\`--no-journal\`: all is read).

      SRC may be one URL as \`sync\` takes it, \`s3://BUCKET/PREFIX\` or another: what is below it, by names relative to it, as
      for \`SRC/\`. Each object is read whole, whatever sum its store has of it. A name that no path stands for (with empty
      parts, \`.\` or \`..\`) is an error; what marks a directory is no file, and is counted. \`--update\` is for paths.

      With \`--workers\` so many processes read, each a part after the other: of the one SRC what is in it is divided. Where a worker dies, another takes its
      part; where this command dies, resume goes on. In the end one process looks at all of it and writes the manifest, and
      reads nothing again whose size and times are as they were.

      Exit codes: 0 complete, 1 \`--update\` found content that changed behind its times, 2 usage or nothing begun, 23 some files are missing, could not be read or written down, 24
      some vanished or changed meanwhile, 130 interrupted.
    `,
    examples: [
      ['What is in a tree, beside the files', '$0 manifest -o photos/BLAKE3SUMS photos/'],
      ['For sha256sum -c', '$0 manifest --algorithm sha256 -o SHA256SUMS photos'],
      [
        'All that is known, two digests',
        '$0 manifest --format jsonl --algorithm blake3 --algorithm md5 -o photos.jsonl photos',
      ],
      ['Bring it up to date', '$0 manifest --update --format jsonl -o photos.jsonl photos'],
      ['Of what is in a bucket', '$0 manifest -o photos.b3 s3://archive/photos'],
      ['By four processes', '$0 manifest --workers 4 -o photos.b3 photos'],
      ['Of a bag', '$0 manifest --format bagit -o bag/manifest-sha512.txt bag/data'],
    ],
  });

  rules = rules('Leave out what PATTERN matches');
  oneFileSystem = flag('-x,--one-file-system', {
    group: 'what',
    help: 'Do not go into other file systems below a SRC',
  });
  algorithms = values('-a,--algorithm', {
    ...{ group: 'how', value: 'NAME', default: 'blake3; of hashdeep md5 and sha256, of bagit sha512' },
    help: `The digest: ${ALGORITHMS.join(', ')}; more than one for jsonl and hashdeep`,
  });
  format = choice('--format', FORMATS, {
    ...{ group: 'output', value: 'FORM', default: 'sums' },
    help: 'Form of the manifest: sums (lines of a digest and a path), jsonl, hashdeep, bagit',
  });
  output = value('-o,--output', {
    ...{ group: 'output', value: 'FILE', default: '-, standard output' },
    help: 'Write the manifest to FILE, whole or not at all; into a FIFO or device as it comes',
  });
  update = flag('--update', {
    group: 'how',
    help: 'Read only what has another size, time of modification or time of change than in FILE (--output, of the form jsonl), where there is one already',
  });
  full = flag('--full', {
    group: 'how',
    help: 'With --update: read all, and tell what has other content though its times are the same',
  });
  nul = flag('-0,--nul,--null', {
    group: 'output',
    help: 'End each line with NUL instead of a newline, with names as they are, for sha256sum -z',
  });
  workers = CREW.workers('the reading');
  hosts = CREW.hosts('SRC');
  slurm = CREW.slurm('SRC');
  slurmArgs = CREW.slurmArgs();
  hostProgram = CREW.hostProgram();
  parts = CREW.parts('SRC');
  runDir = CREW.runDir();
  patience = CREW.patience();
  operands = operands('SRC…', 1);

  async execute(): Promise<number> {
    const { settings, context } = this;
    if (this.operands.some(isUrl)) this.#refuseForUrls();
    else refuseElsewhere('manifest', this.operands);
    if (this.full && !this.update) throw new BulkhaulError('USAGE', '--full goes with --update');
    if (this.update && (this.format !== 'jsonl' || this.output === undefined || this.output === '-')) {
      throw new BulkhaulError('USAGE', '--update needs --format jsonl, which has times to go by, and --output FILE');
    }
    const output = this.output && this.file('--output', this.output, '/dev/stdout');
    const options: ManifestOptions = {
      sources: this.operands,
      exclude: await this.patterns(this.rules),
      algorithms: this.algorithms.map(algorithmOf),
      format: this.format,
      nul: this.nul,
      ...(this.update && { update: this.full ? 'full' : 'changed' }),
      oneFileSystem: this.oneFileSystem,
      spillDirectory: neededSpillDirectory(context.env),
      ...this.inUse,
      ...this.resources,
      ...this.journaled,
      ...(this.operands.some(isUrl) && { store: this.store, environment: context.env }),
    };
    const target = output ?? (settings.json ? undefined : '/dev/stdout');
    const told = { ...(target !== undefined && { output: target }), entries: settings.json && !settings.quiet };
    const excluded = {
      '--update': this.update,
      'A URL': this.operands.some(isUrl),
      'More than one SRC': this.operands.length > 1,
    };
    const crew = await crewOf(this, excluded, context.env.SLURM_JOB_ID !== undefined);
    const { manifest } = await import('../../ops/manifest.js');
    const begin = crew === undefined ? () => manifest({ ...options, ...told }) : await this.spread(crew, options, told);
    const report = await runJob(begin, settings, context);
    if (this.tells(report, output === undefined)) {
      const { manifestSummary } = await import('../../report/summary.js');
      context.stderr.write(manifestSummary(report));
    }
    return report.exitCode;
  }

  #refuseForUrls(): void {
    this.refuseHosts('manifest', this.operands);
    if (this.operands.length > 1) throw new BulkhaulError('USAGE', 'a manifest is made of one URL at a time');
    for (const [given, name] of [
      [this.update, '--update'],
      [this.oneFileSystem, '--one-file-system'],
    ] as const) {
      if (given) throw new BulkhaulError('USAGE', `${name} does not go with a URL`);
    }
  }

  /** The same by several processes. */
  private async spread(
    crew: Crew,
    { sources: _, algorithms, format, nul, ...rest }: ManifestOptions,
    told: { output?: string; entries: boolean },
  ): Promise<() => Job> {
    const [source = ''] = this.operands;
    const form = { ...(algorithms && { algorithms }), ...(format && { format }), ...(nul && { nul }) };
    const { spreadTask } = await import('../../ops/spread.js');
    const { treeOf } = await import('../../ops/spread/task.js');
    const { output: __, ...shared } = rest;
    return () =>
      spreadTask({ ...shared, ...crew, ...told, task: { operation: 'manifest', ...form, ...treeOf(source) } });
  }
}
