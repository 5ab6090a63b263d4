/** What the commands `compress` and `decompress` share: which files are meant, and the summary in the end. */
import { BulkhaulError } from '../error.js';
import type { Report } from '../events.js';
import type { FileOptions } from '../ops/conversion.js';
import { VerbCommand } from './base.js';
import { flag, rules, together, value, values } from './options.js';
import { spillDirectory } from './run.js';
import { parseSize, refuseElsewhere } from './values.js';

export abstract class ConversionCommand extends VerbCommand {
  rules = rules('Leave out what PATTERN matches');
  extensions = values('--ext', {
    ...{ group: 'what', value: 'EXT', default: 'all files' },
    help: 'Take names that end so, in any case: tsv, or several parts, tar.foo; a comma stands between several',
  });
  filesFrom = together([
    {
      ...{ names: ['--files-from'], group: 'what', value: 'FILE', default: 'all of PATH' },
      help: 'Take the names in FILE, one a line, relative to the one PATH, by default the working directory; - is standard input',
    },
    {
      ...{ names: ['--files-from0'], group: 'what', value: 'FILE', default: 'all of PATH' },
      help: 'As --files-from, each name ended by a NUL byte',
    },
  ]);
  minSize = value(
    '--min-size',
    {
      ...{ group: 'what', value: 'SIZE', default: '0' },
      help: 'Leave smaller files alone: bytes, or with K, M or G',
    },
    parseSize,
  );
  oneFileSystem = flag('-x,--one-file-system', {
    group: 'what',
    help: 'Do not go into other file systems below a PATH',
  });
  noOwner = flag('--no-owner', {
    group: 'how',
    help: 'Owner and group need not be kept; otherwise a file whose owner the new one cannot have stays',
  });
  memory = value(
    '--memory',
    {
      ...{ group: 'speed', value: 'SIZE', default: 'half of what may be used' },
      help: 'Memory for compressors, with K, M or G; with little of it fewer workers are at work',
    },
    parseSize,
  );

  /** Which files are meant, and what the job may take, as options of an operation. */
  protected async files(verb: string, paths: readonly string[]): Promise<FileOptions> {
    refuseElsewhere(verb, paths);
    const [list, ...more] = this.filesFrom;
    if (more.length > 0) {
      throw new BulkhaulError('USAGE', '--files-from and --files-from0 exclude each other, and go once');
    }
    if (paths.length === 0 && list === undefined) {
      throw new BulkhaulError('USAGE', `${verb} takes PATH…, and nothing was given`);
    }
    if (paths.length > 1 && list !== undefined) {
      throw new BulkhaulError('USAGE', `${list.option} goes with one PATH, and ${paths.length} were given`);
    }
    const { oneFileSystem, minSize, memory, dryRun } = this;
    const extensions = this.extensions.flatMap((each) => each.split(','));
    return {
      sources: paths.length === 0 ? ['.'] : [...paths],
      exclude: await this.patterns(this.rules),
      oneFileSystem,
      dryRun,
      owner: !this.noOwner,
      spillDirectory: spillDirectory(this.context.env),
      ...(extensions.length > 0 && { extensions }),
      ...(minSize !== undefined && { minSize }),
      ...(memory !== undefined && { memory }),
      ...(list !== undefined && {
        filesFrom: {
          path: this.file(list.option, list.value, '/dev/stdin'),
          nul: list.option === '--files-from0',
        },
      }),
      ...this.inUse,
      ...this.resources,
      ...this.journaled,
    };
  }

  /** Says how it ended. */
  protected async conclude(report: Report, operation: 'compress' | 'decompress', test = false): Promise<void> {
    const { settings, context } = this;
    if (settings.json || (settings.quiet && report.complete)) return;
    const { conversionSummary } = await import('../report/summary.js');
    context.stderr.write(conversionSummary(report, operation, test));
  }
}
