/** `bulkhaul retain`: a place and a rule in; the last partitions stay, the others go, and an exit code out. */
import { BulkhaulError } from '../../error.js';
import type { RetainOptions } from '../../ops/retain.js';
import { limit, number, operands, value } from '../options.js';
import { Command } from '../parser.js';
import { runJob, spillDirectory } from '../run.js';
import { StoreCommand } from '../stores.js';

export class RetainCommand extends StoreCommand {
  static override paths = [['retain']];
  static override usage = Command.Usage({
    description: 'Keep the last partitions of a data set, and remove the others',
    details: `
      Partitions are directories \`KEY=VALUE\`, wherever they stand in a path. In each directory that has some of \`--key\`, the
      last \`--keep\` of them stay, by their values: numbers are numbers (9 comes before 10, and 06 is 6), other values are
      in natural order, so dates are in theirs. The others go, with all that is in them. PLACE is a path or
      \`s3://BUCKET/PREFIX\` or another URL that \`sync\` takes.

      \`--key year,month\` orders by both: the last months of all years. \`--within\` makes groups larger: what is below one
      partition of that key, in the order of all that stands between.

      What is in no such partition stays, and so does what has no value (\`__HIVE_DEFAULT_PARTITION__\`). All is listed
      first; where that failed for anything, or past \`--max-delete\`, nothing goes. Look with \`-n\` before.

      Exit codes: 0 complete, 2 usage or nothing begun, 3 held back, 23 some entries failed, 24 some vanished meanwhile, 130
      interrupted.
    `,
    examples: [
      ['See what would go', '$0 retain -n --key year,month --keep 12 s3://lake/events'],
      ['The last 12 months, across years', '$0 retain --key year,month --keep 12 s3://lake/events'],
      ['The last 30 days of each region', '$0 retain --key day --keep 30 --within region s3://lake/events'],
      ['On a disk, not more than a tenth at a time', '$0 retain --key date --keep 90 --max-delete 10% /data/events'],
    ],
  });

  key = value('--key', {
    ...{ group: 'what', value: 'KEY', default: 'none; it has to be named' },
    help: 'The key of the partitions; or several, from the outside in, with commas between, to order by all of them',
  });
  keep = number('--keep', 1, 1_000_000_000, {
    ...{ group: 'what', value: 'N', default: 'none; it has to be named' },
    help: 'Keep the last N partitions of each group',
  });
  within = value('--within', {
    ...{ group: 'what', value: 'KEY', default: 'each directory is a group' },
    help: 'A group is what is below one partition of KEY; the order goes by all partitions between',
  });
  maxDelete = limit('--max-delete', {
    ...{ group: 'safety', value: 'N', default: 'no limit' },
    help: 'Where more than N entries, or N% of those that are there, would go, none goes',
  });
  operands = operands('PLACE', 1, 1);

  async execute(): Promise<number> {
    const { settings, context, key, keep, within, maxDelete, dryRun } = this;
    const [place = ''] = this.operands;
    this.refuseHosts('retain', this.operands);
    if (key === undefined || keep === undefined) throw new BulkhaulError('USAGE', '--key and --keep have to be named');
    const options: RetainOptions = {
      place,
      key: key.split(','),
      keep,
      dryRun,
      spillDirectory: spillDirectory(context.env),
      environment: context.env,
      store: this.store,
      ...this.resources,
      ...this.journaled,
      ...(within !== undefined && { within }),
      ...(maxDelete !== undefined && { maxDelete }),
    };
    const { retainPartitions } = await import('../../ops/retain.js');
    const report = await runJob((entries) => retainPartitions({ ...options, entries }), settings, context);
    if (!settings.json && !(settings.quiet && report.complete)) {
      const { removalSummaryText } = await import('../../report/summary.js');
      context.stderr.write(removalSummaryText(report, report.plannedBytes));
    }
    return report.exitCode;
  }
}
