/** What the commands `compress` and `decompress` share: which files are meant, and the summary in the end. */
import { BulkhaulError } from '../error.js';
import type { Report } from '../events.js';
import { display } from '../names.js';
import type { FileOptions } from '../ops/conversion.js';
import { extensions, extensionsOf, memory, minSize } from './archives.js';
import { VerbCommand } from './base.js';
import { flag, type Given, rules } from './options.js';
import { spillDirectory } from './run.js';
import { filesFrom, listOf } from './trees.js';
import { refuseElsewhere } from './values.js';

export abstract class ConversionCommand extends VerbCommand {
  rules = rules('Leave out what PATTERN matches');
  extensions = extensions('Take names that end so');
  filesFrom: Given[] = filesFrom(
    'PATH',
    'Take the names in FILE, one a line, relative to the one PATH, by default the working directory',
  );
  minSize = minSize('Leave smaller files alone');
  oneFileSystem = flag('-x,--one-file-system', {
    group: 'what',
    help: 'Do not go into other file systems below a PATH',
  });
  noOwner = flag('--no-owner', {
    group: 'how',
    help: 'Owner and group need not be kept; otherwise a file whose owner the new one cannot have stays',
  });
  memory = memory();

  /** Which files are meant, and what the job may take, as options of an operation. */
  protected async files(verb: string, paths: readonly string[]): Promise<FileOptions> {
    refuseElsewhere(verb, paths);
    const list = listOf(this.filesFrom);
    if (paths.length === 0 && list === undefined) {
      const { extensions: given } = this;
      const all = given.length > 0 ? ` but extensions: ${display(given.join(', '))}` : '';
      throw new BulkhaulError('USAGE', `${verb} takes PATH…, and nothing was given${all}`);
    }
    if (paths.length > 1 && list !== undefined) {
      throw new BulkhaulError('USAGE', `${list.option} goes with one PATH, and ${paths.length} were given`);
    }
    const { oneFileSystem, minSize, memory, dryRun } = this;
    return {
      sources: paths.length === 0 ? ['.'] : [...paths],
      exclude: await this.patterns(this.rules),
      oneFileSystem,
      dryRun,
      owner: !this.noOwner,
      spillDirectory: spillDirectory(this.context.env),
      ...extensionsOf(this.extensions),
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
    const { conversionSummary, partitionSummary } = await import('../report/summary.js');
    context.stderr.write(report.parts ? partitionSummary(report) : conversionSummary(report, operation, test));
  }
}
