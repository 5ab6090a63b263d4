/** `bulkhaul report`: what the journal of a job says, on stdout. */
import { display } from '../../names.js';
import { journalOf } from '../../resume.js';
import { ExitCode } from '../../verdict.js';
import { answer } from '../answer.js';
import { BareCommand } from '../base.js';
import { meant, needed } from '../jobs.js';
import { operands } from '../options.js';
import { Command } from '../parser.js';

export class ReportCommand extends BareCommand {
  static override paths = [['report']];
  static override usage = Command.Usage({
    description: 'Tell what a job did, and all that failed in it',
    details: `
      Shows the job, each run of it, and each entry that failed, changed or was in conflict in the last one. Without JOB it
      is the job that was heard of last.

      Exit codes: 0, 2 there is no such job, its journal can't be read, or usage.
    `,
    examples: [
      ['The last job', '$0 report'],
      ['All records of one, a JSON object a line', '$0 report --json copy-5f0c1a9e'],
    ],
  });

  operands = operands('[JOB]', 0, 1);

  async execute(): Promise<number> {
    const directory = needed(this.stateDirectory);
    const job = await meant(directory, this.operands[0], () => true);
    const { stdout } = this.context;
    if (this.json) {
      const { jsonLine } = await import('../../report/json.js');
      for await (const record of journalOf(directory, job.id)) await answer(stdout, jsonLine(record));
      return ExitCode.complete;
    }
    const { jobText } = await import('../../report/jobs.js');
    const { failureText } = await import('../../report/summary.js');
    await answer(stdout, jobText(job, Date.now()));
    for await (const record of journalOf(directory, job.id)) {
      if (record.type === 'attempt') {
        const called = record.command === undefined ? '' : `: ${record.command.map(display).join(' ')}`;
        await answer(stdout, `run ${record.number} from ${record.time} on ${display(record.host)}${called}\n`);
      } else if (record.type === 'error') await answer(stdout, `  ${failureText(record)}\n`);
      else if (record.type === 'note')
        await answer(stdout, `  LOST (${display(record.kind)}): ${display(record.message)}\n`);
      else if (record.type === 'end') await answer(stdout, `  ${display(record.sentence)}\n`);
    }
    return ExitCode.complete;
  }
}
