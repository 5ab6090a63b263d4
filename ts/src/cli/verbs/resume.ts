/** `bulkhaul resume`: goes on with a job; its summary on stderr, its exit code out. */
import { BulkhaulError, whyOf } from '../../error.js';
import type { Report } from '../../events.js';
import { absolutePath } from '../../journal/identity.js';
import { isCommand } from '../../journal/record.js';
import type { JobSummary } from '../../journal/store.js';
import type { Job } from '../../ops/job.js';
import { VerbCommand } from '../base.js';
import { askConsent } from '../consent.js';
import { meant, needed } from '../jobs.js';
import { flag, operands } from '../options.js';
import { Command } from '../parser.js';
import { type Context, PROGRAM, runJob, spillDirectory } from '../run.js';

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
      trust. The same command, given again, goes on too. What dsync, \`image\` and hpcp with images, disks and patches do
      goes on as it was called. One with workers may be named by its run directory.

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
    const named = needed(this.stateDirectory);
    const job = await meant(
      named,
      this.operands[0],
      ({ state }) => state === 'interrupted' || (this.retryFailed && state === 'failed'),
    );
    // The working directory becomes that of the job.
    const directory = absolutePath(named, process.cwd());
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
    if (job.operation && isCommand(job.operation)) return this.#again(job, directory, asked.options.words);
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

  /** Goes on with a command as it was called. */
  #again({ id, state }: JobSummary, directory: string, words: unknown): Promise<number> {
    if (state === 'done') throw new BulkhaulError('JOURNAL', `job ${id} is done: there is nothing to go on with`);
    const { again } = this.context as Context;
    const given = PACE.filter((name) => this[name] !== undefined);
    if (given.length > 0 || this.json || this.force)
      throw new BulkhaulError('USAGE', `job ${id} goes on as it was called: give its own command with other options`);
    if (again === undefined || !isWords(words))
      throw new BulkhaulError('JOURNAL', `the journal of ${id} has no command`);
    return again(words, { id, directory });
  }
}

function isWords(value: unknown): value is string[] {
  return Array.isArray(value) && value.length > 0 && value.every((word) => typeof word === 'string');
}

/** Options that would change how a command goes on. */
const PACE = ['jobs', 'bwlimit', 'iopsLimit', 'nice', 'ionice', 'maxDuration', 'logFile', 'serve'] as const;

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
