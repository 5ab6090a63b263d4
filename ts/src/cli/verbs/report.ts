/** `bulkhaul report`: what the journal of a job says, on stdout or as a page in a file. */
import { BulkhaulError } from '../../error.js';
import { pristine } from '../../journal/reader.js';
import { display } from '../../names.js';
import { journalOf, recordsIn } from '../../resume.js';
import { ExitCode } from '../../verdict.js';
import { writeWhole } from '../../whole.js';
import { answer } from '../answer.js';
import { BareCommand } from '../base.js';
import { meant, needed } from '../jobs.js';
import { operands, value } from '../options.js';
import { Command } from '../parser.js';

export class ReportCommand extends BareCommand {
  static override paths = [['report']];
  static override usage = Command.Usage({
    description: 'Tell what a job did, and all that failed in it',
    details: `
      Shows the job, each run of it, and each entry that failed, changed or was in conflict in the last one. Without JOB it
      is the job that was heard of last. \`--html\` makes one page of it that needs nothing beside itself: verdict, totals, speed
      over time, sizes, the directories that hold most, what took longest, what failed by kind and what to do about it, what was
      skipped, each run, and what was asked for. \`--json\` prints all records, and at last a line of the type story with the
      same.

      Exit codes: 0, 2 there is no such job, its journal can't be read, or what was asked for not written, or usage.
    `,
    examples: [
      ['The last job', '$0 report'],
      ['A page for a browser, or to send to somebody', '$0 report --html copy.html copy-5f0c1a9e'],
      ['All records of one, a JSON object a line', '$0 report --json copy-5f0c1a9e'],
    ],
  });

  html = value('--html', {
    ...{ group: 'output', value: 'FILE', default: 'none' },
    help: 'Write a page to FILE, which appears when it is whole; - is standard output',
  });
  operands = operands('[JOB]', 0, 1);

  async execute(): Promise<number> {
    const directory = needed(this.stateDirectory);
    const job = await meant(directory, this.operands[0], () => true);
    const { stdout } = this.context;
    const told = async () => {
      const { storyOf } = await import('../../report/story.js');
      const condition = pristine();
      return storyOf(recordsIn(directory, job.id, condition), condition);
    };
    if (this.html !== undefined) {
      if (this.json)
        throw new BulkhaulError('USAGE', '--html and --json are two forms of one answer: give one of them');
      const { page } = await import('../../report/html.js');
      const text = page(job, await told());
      await (this.html === '-' ? answer(stdout, text) : writeWhole(this.html, [text]));
      return ExitCode.complete;
    }
    if (this.json) {
      const { jsonLine } = await import('../../report/json.js');
      const { storyEvent } = await import('../../report/story.js');
      for await (const record of journalOf(directory, job.id)) await answer(stdout, jsonLine(record));
      await answer(stdout, jsonLine(storyEvent(job, await told())));
      return ExitCode.complete;
    }
    const { jobText, storyText } = await import('../../report/jobs.js');
    const { failureText } = await import('../../report/summary.js');
    const { LC_ALL, LC_CTYPE, LANG } = this.context.env;
    const drawn = /utf-?8/i.test(LC_ALL || LC_CTYPE || LANG || '');
    await answer(stdout, jobText(job, Date.now()));
    await answer(stdout, storyText(await told(), drawn));
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
