/** `bulkhaul status`: the jobs of the state directory on stdout, or one of them, once or again and again. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { JobSummary } from '../../journal/store.js';
import { jobs } from '../../resume.js';
import { ExitCode } from '../../verdict.js';
import { answer } from '../answer.js';
import { BareCommand } from '../base.js';
import { meant, needed } from '../jobs.js';
import { flag, operands } from '../options.js';
import { Command } from '../parser.js';

/** Milliseconds between two looks. */
const EVERY = 2000;

export class StatusCommand extends BareCommand {
  static override paths = [['status']];
  static override usage = Command.Usage({
    description: 'Show jobs: running, interrupted, failed, done',
    details: `
      Lists the jobs that have a journal, the one that was heard of last first; with JOB shows what is known of that one.

      A job is there when it took longer than a second, or something in it failed. \`interrupted\` is one that did not come
      to its end, \`failed\` one that did, and is not complete: resume goes on with both. One with workers may be named by
      its run directory.

      Exit codes: 0, 2 there is no such job, standard output can't be written, or usage.
    `,
    examples: [
      ['What there is', '$0 status'],
      ['One job, until it has ended', '$0 status --watch copy-5f0c1a9e'],
      ['For a program to read', '$0 status --json'],
    ],
  });

  watch = flag('-w,--watch', {
    group: 'output',
    help: 'Look again every 2 s as long as a job is running, or until ^C',
  });
  operands = operands('[JOB]', 0, 1);

  async execute(): Promise<number> {
    const directory = needed(this.stateDirectory);
    const [name] = this.operands;
    const { stdout } = this.context;
    const clears = this.watch && 'isTTY' in stdout && stdout.isTTY === true;
    for (;;) {
      const shown = name === undefined ? await jobs(directory) : [await meant(directory, name, () => true)];
      await answer(stdout, (clears ? '\x1b[H\x1b[J' : '') + (await this.text(shown, name !== undefined)));
      if (!this.watch || !shown.some(({ state }) => state === 'running')) return ExitCode.complete;
      await sleep(EVERY);
    }
  }

  private async text(shown: readonly JobSummary[], single: boolean): Promise<string> {
    if (this.json) {
      const { jsonLine } = await import('../../report/json.js');
      return shown.map((job) => jsonLine({ type: 'job-summary', ...job })).join('');
    }
    const { jobTable, jobText } = await import('../../report/jobs.js');
    const now = Date.now();
    return single ? shown.map((job) => jobText(job, now)).join('') : jobTable(shown, now);
  }
}
