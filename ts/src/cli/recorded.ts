/**
 * A command that is told as one job, because it does several one after another, or works on what is open only meanwhile.
 *
 * Comes in: what it is, and what it does; goes out: its exit code. What fails in its jobs, how far they are, and how it ends
 * are in one journal, which the same command goes on with. How it goes on is its own.
 */
import { BulkhaulError, workingDirectory } from '../error.js';
import type { Report, Snapshot } from '../events.js';
import { absolutePath } from '../journal/identity.js';
import { Keeper } from '../journal/keeper.js';
import type { CommandOperation } from '../journal/record.js';
import type { JournalSettings } from '../ops/arguments.js';
import { type Job, journalFor, NOTHING_YET, recordIn } from '../ops/job.js';
import { ExitCode, sentenceOf } from '../verdict.js';
import { decisive, type Witness } from './ended.js';
import { exitCodeOfError, systemError } from './exit.js';
import { type Context, originOf } from './run.js';

/** What a command does. */
export interface Work {
  operation: CommandOperation;
  /** As they were given; relative ones begin in the working directory. */
  sources: readonly string[];
  destinations: readonly string[];
  /** Nothing is said of what it goes on with. */
  quiet: boolean;
}

/** How it ended. */
export interface Ended {
  exitCode: number;
  /** Why, where no report says it. */
  why?: string | undefined;
}

/** Runs `body`, whose jobs are told to the journal, where there is to be one. Throws as `body` does. */
export async function recorded(
  { operation, quiet, ...places }: Work,
  settings: JournalSettings | undefined,
  context: Context,
  body: (context: Context) => Promise<Ended>,
): Promise<number> {
  const { goesOn, stderr } = context;
  const asked = settings && goesOn ? { ...settings, ...goesOn, required: true } : settings;
  const here = workingDirectory();
  const journaling =
    asked && here !== undefined ? await journalFor(operation, { ...wordsOf(places, here), journal: asked }) : undefined;
  if (journaling === undefined) return (await body(context)).exitCode;
  let peek = (): Snapshot => NOTHING_YET;
  const keeper = new Keeper(journaling, () => peek());
  const { earlier } = keeper.told;
  if (earlier && !quiet) {
    const { resumedText } = await import('../report/progress.js');
    stderr.write(`${resumedText(earlier)}\n`);
  }
  const witness: Witness = context.witness ?? { reports: [] };
  const follow = (job: Job) => {
    peek = recordIn(job, keeper);
  };
  const begun = performance.now();
  const end = async ({ exitCode, why }: Ended) => {
    const report = decisive(witness.reports);
    if (report === undefined && exitCode !== ExitCode.complete) return keeper.abandon();
    const elapsed = (performance.now() - begun) / 1000;
    await keeper.end({
      state: stateOf(exitCode),
      exitCode,
      elapsed,
      sentence: sentence(report, exitCode, why),
      report,
    });
  };
  try {
    const ended = await body({ ...context, witness, follow });
    await end(ended);
    return ended.exitCode;
  } catch (thrown) {
    const error = systemError(thrown);
    const { code, message } = BulkhaulError.from(error);
    // Of a defect nobody knows how far it came.
    if (code === 'INTERNAL') keeper.close();
    else await end({ exitCode: exitCodeOfError(error), why: message });
    throw thrown;
  }
}

/** What the journal keeps of the command, and tells it from others by. */
function wordsOf({ sources, destinations }: Pick<Work, 'sources' | 'destinations'>, here: string) {
  // What has a colon before the first slash is elsewhere.
  const at = (paths: readonly string[]) =>
    paths.map((path) => (/^[^/]+:/.test(path) ? path : absolutePath(path, here)));
  return {
    directory: here,
    words: originOf().command,
    sources: at(sources),
    destinations: at(destinations),
  };
}

function stateOf(exitCode: number) {
  if (exitCode === ExitCode.complete) return 'done';
  return exitCode === ExitCode.interrupted ? 'interrupted' : 'failed';
}

/** The verdict: of the job that decides, unless it is not what went wrong. */
function sentence(report: Report | undefined, exitCode: number, why: string | undefined): string {
  const faulty = exitCode !== ExitCode.complete;
  if (report && report.complete !== faulty) return sentenceOf(report, exitCode);
  return faulty ? `INCOMPLETE: ${why ?? 'what comes after its jobs failed'} (exit ${exitCode})` : 'complete';
}
