/** `bulkhaul partition`: trees in, parts out, with a list of each, and perhaps a command for each. */
import { BulkhaulError } from '../../error.js';
import type { PartitionOptions } from '../../ops/partition.js';
import { VerbCommand } from '../base.js';
import { choice, flag, number, operands, rest, rules, together, value } from '../options.js';
import { Command } from '../parser.js';
import { neededSpillDirectory, runJob } from '../run.js';
import { parseSize, refuseElsewhere } from '../values.js';

export class PartitionCommand extends VerbCommand {
  static override paths = [['partition']];
  static override usage = Command.Usage({
    description: 'Divide trees into parts of one size, with a list of each',
    details: `
      Divides what is in each PATH into parts that are even both in bytes and in entries, so that as many workers have
      about as much to do. Either N parts (\`-n\`), or as many as it takes where a part may hold so much (\`--entries\`,
      \`--bytes\`, or both). What an entry costs beside its bytes is \`--cost\`. A file larger than a part has one of its
      own, and a list in JSON says in which ranges it is best moved. Names of one inode (hard links) are in one part.

      Every entry is in one list, once: directories too, empty ones, and those that can't be read, which are errors as
      well. Names are relative to PATH/, whose own name is then \`.\`; those of PATH begin with its last component, and
      there may be several. The same tree and options give the same lists, each sorted by the bytes of its names.

      With \`-o TEMPLATE\` the lists are TEMPLATE.1, TEMPLATE.2 and so on, each there when it is whole; without it, or
      with \`-o -\`, standard output has all of them, as lines of number, bytes and name. The forms are for
      \`rsync -a --from0 --files-from=LIST\` (without \`-r\`: directories are entries), \`tar --no-recursion -T LIST\`
      (with \`-0\` \`--null -T\`), and \`rclone copy --files-from-raw LIST\`, which has files and symlinks only. What a form
      can't have is an error with its name; jsonl has any name. Lists of another run are not written over without
      \`--replace\`, which removes them.

      \`--live\` hands parts on while the walk goes on, with limits only: the lists are then not sorted, and others each
      time. \`--exec\` runs a command for each part as soon as its list is there, with the arguments as they are, \`{}\`
      in them standing for the list, and no shell; BULKHAUL_PART_FILE, _NUMBER, _ENTRIES, _BYTES and _COST tell it of its
      part, and so do the names that fpart's hooks have.

      What was interrupted begins anew, in place of the lists that it has left; commands of --exec are all run again.

      Exit codes: 0 complete, 2 usage or nothing begun, 23 something could not be read or written down, or a command
      failed, 24 something vanished meanwhile, 130 interrupted.
    `,
    examples: [
      ['Four lists for rsync', '$0 partition -n 4 --format rsync -o /tmp/part /data/'],
      [
        'Four rsyncs at once',
        '$0 partition -n 4 --format rsync -o /tmp/part --exec-jobs 4 /data/ --exec rsync -a --from0 --files-from={} /data/ /mnt/copy/',
      ],
      ['What the parts would be', '$0 partition --dry-run --entries 10000 --bytes 4G /data/'],
      ['Parts while the walk goes on', '$0 partition --live --bytes 1T --format jsonl -o /tmp/part /data/'],
    ],
  });

  override dryRun = flag('--dry-run', {
    group: 'safety',
    help: 'Show what the parts would be, with their sizes, and write nothing',
  });
  override verbose = flag('-v,--verbose', { group: 'output', help: 'Print a line for each part' });
  rules = rules('Leave out what PATTERN matches', ['-x']);
  filesFrom = together([
    {
      ...{ names: ['-i', '--files-from'], group: 'what', value: 'FILE', default: 'all of PATH' },
      help: 'Only what FILE names, relative to PATH/, one name a line; a directory with all that is in it; - is standard input',
    },
    {
      ...{ names: ['--files-from0'], group: 'what', value: 'FILE', default: 'all of PATH' },
      help: 'As --files-from, each name ended by a NUL byte',
    },
  ]);
  oneFileSystem = flag('-b,--one-file-system', {
    group: 'what',
    help: 'Do not go into other file systems below a PATH; the directories where they begin are entries',
  });
  parts = number('-n,--parts', 1, 1_000_000, {
    ...{ group: 'how', value: 'N', default: 'as many as the limits need' },
    help: 'Divide into N parts, or fewer where there are fewer entries',
  });
  entries = number('-f,--entries', 1, Number.MAX_SAFE_INTEGER, {
    ...{ group: 'how', value: 'N', default: 'any number' },
    help: 'A part holds N entries at most; hard links of one inode that are more are alone in one',
  });
  bytes = value(
    '-s,--bytes',
    {
      ...{ group: 'how', value: 'SIZE', default: 'any number' },
      help: 'A part holds SIZE bytes of files at most, also with K, M, G, T or P; a larger file is alone in one',
    },
    parseSize,
  );
  cost = value(
    '--cost',
    {
      ...{ group: 'how', value: 'SIZE', default: '64K' },
      help: 'What an entry costs beside its bytes: what a worker moves in the time that an empty file takes',
    },
    parseSize,
  );
  live = flag('-L,--live', {
    group: 'how',
    help: 'Hand parts on while the walk goes on; needs --entries or --bytes',
  });
  directories = flag('-z,--directories', {
    group: 'what',
    help: 'Changes nothing, for scripts that had fpart: directories always are in the parts',
  });
  format = choice('--format', ['names', 'rsync', 'rclone', 'tar', 'jsonl'], {
    ...{ group: 'output', value: 'FORM', default: 'names' },
    help: 'Form of the lists: names (as they are), rsync, rclone, tar, jsonl',
  });
  output = value('-o,--output', {
    ...{ group: 'output', value: 'TEMPLATE', default: '-, all on standard output' },
    help: 'Write each list into TEMPLATE.NUMBER, whole or not at all',
  });
  nul = flag('-0,--nul,--null', {
    group: 'output',
    help: 'End each name with NUL instead of a newline; lists for rsync always have it',
  });
  replace = flag('--replace', {
    group: 'safety',
    help: 'Remove lists of another run that have names of TEMPLATE, before the first of this one is there',
  });
  execJobs = number('--exec-jobs', 1, 1024, {
    ...{ group: 'speed', value: 'N', default: '1' },
    help: 'Commands of --exec at once',
  });
  exec = rest('--exec', {
    ...{ group: 'how', value: 'COMMAND…', default: 'none' },
    help: 'Run COMMAND for each part, {} in it standing for its list; all that comes behind --exec belongs to it',
  });
  operands = operands('PATH…', 1);

  async execute(): Promise<number> {
    const { settings, context } = this;
    refuseElsewhere('partition', this.operands);
    if (this.parts === undefined && this.entries === undefined && this.bytes === undefined) {
      throw new BulkhaulError(
        'USAGE',
        'how much is a part? -n N for so many parts, or --entries N, --bytes SIZE, or both',
      );
    }
    const [list, ...more] = this.filesFrom;
    if (more.length > 0)
      throw new BulkhaulError('USAGE', '--files-from and --files-from0 exclude each other, and go once');
    const options: PartitionOptions = {
      sources: this.operands,
      exclude: await this.patterns(this.rules),
      format: this.format,
      nul: this.nul,
      oneFileSystem: this.oneFileSystem,
      live: this.live,
      replace: this.replace,
      dryRun: settings.dryRun,
      spillDirectory: neededSpillDirectory(context.env),
      ...(list && {
        filesFrom: {
          path: this.file(list.option, list.value, '/dev/stdin'),
          nul: list.option === '--files-from0',
        },
      }),
      ...(this.parts !== undefined && { parts: this.parts }),
      ...(this.entries !== undefined && { maxEntries: this.entries }),
      ...(this.bytes !== undefined && { maxBytes: this.bytes }),
      ...(this.cost !== undefined && { entryCost: this.cost }),
      ...this.#lists,
      ...this.journaled,
      ...(this.exec.length > 0 && {
        exec: {
          command: this.exec,
          environment: context.env,
          output: [settings.json ? 2 : 1, 2] as const,
          ...(this.execJobs !== undefined && { jobs: this.execJobs }),
        },
      }),
      ...this.resources,
    };
    const { partition } = await import('../../ops/partition.js');
    const report = await runJob(() => partition(options), settings, context);
    if (!settings.json && (!report.complete || !settings.quiet)) {
      const { partitionSummary } = await import('../../report/summary.js');
      context.stderr.write(partitionSummary(report));
    }
    return report.exitCode;
  }

  /** Where the lists go, as options. */
  get #lists(): Pick<PartitionOptions, 'template' | 'output'> {
    const { output } = this;
    if (output !== undefined && output !== '-') return { template: output };
    // Events tell of the parts then.
    if (this.settings.dryRun || (output === undefined && this.printing !== undefined)) return {};
    return { output: this.file('--output', '-', '/dev/stdout') };
  }
}
