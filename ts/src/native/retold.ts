/**
 * A job that is told in other words than the engine's.
 *
 * Comes in: a job of the addon, and what becomes of each event and of the report; goes out: the same job, which tells that.
 */
import type { NativeJob } from '../native.js';
import type { NativeEvent, NativeFailure, NativeReport } from './events.js';

export function retold(
  job: NativeJob,
  event: (event: NativeEvent) => NativeEvent,
  report: (report: NativeReport) => NativeReport,
): NativeJob {
  return {
    run: async () => report(await job.run()),
    nextEvents: async () => (await job.nextEvents()).map(event),
    cancel: (abort) => job.cancel(abort),
    setLimits: (limits) => job.setLimits(limits),
    setStallTimeout: (seconds) => job.setStallTimeout(seconds),
    snapshot: () => job.snapshot(),
    peek: () => job.peek(),
    answer: (yes) => job.answer(yes),
  };
}

/** The same where it is only about failures. */
export function retoldFailures(job: NativeJob, tell: (failure: NativeFailure) => NativeFailure): NativeJob {
  return retold(
    job,
    (event) => (event.type === 'error' ? tell(event) : event),
    (report) => ({ ...report, failures: report.failures.map(tell) }),
  );
}
