/** `bulkhaul resume`: goes on with a job; its summary on stderr, its exit code out. */
import { BulkhaulError, whyOf } from '../../error.js';
import type { Report } from '../../events.js';
import type { JobSummary } from '../../journal/store.js';
import type { Job } from '../../ops/job.js';
import { VerbCommand } from '../base.js';
import { askConsent } from '../consent.js';
import { meant, needed } from '../jobs.js';
import { flag, operands } from '../options.js';
import { Command } from '../parser.js';
import { PROGRAM, runJob, spillDirectory } from '../run.js';

export class ResumeCommand extends VerbCommand {
  static override readonly idle = {
    '--dry-run': 'a job that was begun goes on; give its own command with --dry-run',
    '--journal': 'it goes on by its journal',
  };
  static override paths = [['resume']];
  static override usage = Command.Usage({
    description: 'Go on with a job that was interrupted, or try again what failed',
    details: `
      Does what is left of JOB, with the options that it was begun with; how fast it goes may be given anew. Without JOB it
      is the interrupted job that was heard of last. What is there already is seen by looking at it, so nothing is taken on
      trust. The same command, given again, goes on too.

      Exit codes: those of the job's own command; 2 there is no such job, it is in use, or it is done.
    `,
    examples: [
      ['The last one that was interrupted', '$0 resume'],
      ['Only what failed', '$0 resume copy-5f0c1a9e --retry-failed'],
      ['Slower', '$0 resume copy-5f0c1a9e --bwlimit 50m'],
    ],
  });

  retryFailed = flag('--retry-failed', {
    group: 'what',
    help: 'Try only what failed in the last run, where that can be had alone: in a copy of one source that deletes nothing and writes no manifest, and in a verification, in which no directory failed, and in a removal, each of which came to its end; else all of the job',
  });
  force = flag('-f,-y,--yes,--force', { group: 'safety', help: 'Do not ask before something is deleted' });
  operands = operands('[JOB]', 0, 1);

  async execute(): Promise<number> {
    const { settings, context } = this;
    const directory = needed(this.stateDirectory);
    const job = await meant(
      directory,
      this.operands[0],
      ({ state }) => state === 'interrupted' || (this.retryFailed && state === 'failed'),
    );
    if (job.state === 'damaged')
      throw new BulkhaulError('JOURNAL', job.sentence ?? `the journal of ${job.id} is damaged`);
    const { askedIn, resume } = await import('../../resume.js');
    const asked = await askedIn(directory, job.id);
    try {
      process.chdir(asked.directory);
    } catch (error) {
      throw new BulkhaulError(
        'JOURNAL',
        `job ${job.id} was begun in a directory that can't be entered: ${whyOf(error)}`,
      );
    }
    const { journal = { directory } } = this.journaled;
    const { required: _, ...kept } = journal;
    const report = await runJob(
      (entries, hush) => {
        const begun: Job = resume(job.id, {
          journal: { ...kept, directory },
          retryFailed: this.retryFailed,
          entries,
          spillDirectory: spillDirectory(context.env),
          environment: context.env,
          program: PROGRAM,
          confirm: async (victims) =>
            this.force ||
            (await hush(async () => {
              const what = victims.map(({ what, entries }) => `${entries.toLocaleString('en-US')} ${what}`).join(', ');
              return (await askConsent(`Remove this: ${what}? (y/n) `, context)) === 'yes';
            })),
          ...this.inUse,
          ...this.resources,
        });
        return begun;
      },
      settings,
      context,
    );
    if (!settings.json && !(settings.quiet && report.complete))
      context.stderr.write(await summary(job, report, asked.options));
    return report.exitCode;
  }
}

async function summary({ operation }: JobSummary, report: Report, asked: Record<string, unknown>): Promise<string> {
  const {
    compareSummary,
    conversionSummary,
    listSummary,
    manifestSummary,
    packSummary,
    removalSummaryText,
    summaryText,
    syncSummary,
    verifySummary,
  } = await import('../../report/summary.js');
  switch (operation) {
    case 'remove':
      return removalSummaryText(report);
    case 'list':
      return listSummary(report, asked);
    case 'manifest':
      return manifestSummary(report);
    case 'pack':
      return packSummary(report);
    case 'verify':
      return verifySummary(report);
    case 'compress':
    case 'decompress':
      return conversionSummary(report, operation);
    case 'compare':
      return compareSummary(report, 'what the job compares', asked);
    case 'sync':
      return syncSummary(report);
    default:
      return summaryText(report);
  }
}
