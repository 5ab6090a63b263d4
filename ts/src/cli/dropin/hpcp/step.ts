/**
 * Steps before and after the work that are jobs themselves: what is measured, packed, proved.
 *
 * Comes in: a word for it, and a job; goes out: its report. Its status and its signals are those of any job; what came of it
 * is told by whoever takes the step.
 */
import type { Report } from '../../../events.js';
import type { Job } from '../../../ops/job.js';
import type { Listener } from '../../../report/follow.js';
import { runJob } from '../../run.js';
import { type HpcpConsole, interruption, Refused } from './codes.js';
import type { HpcpValues } from './flags.js';
import { settingsOf } from './settings.js';

/** Takes a step. Throws `Refused` where it is interrupted, and what the job rejects with. */
export async function step(
  what: 'measuring' | 'packing' | 'proving' | 'checking',
  begin: () => Job,
  values: HpcpValues,
  out: HpcpConsole,
  listen?: Listener,
): Promise<Report> {
  const settings = { ...settingsOf(values, ({ exitCode }) => exitCode), aside: what };
  const report = await runJob(begin, settings, out.streams, listen);
  // What a step has begun goes with it.
  const stopped = interruption({ ...report, unfinished: 0 }, 'nothing was made');
  if (stopped.length > 0) throw new Refused(stopped);
  return report;
}
