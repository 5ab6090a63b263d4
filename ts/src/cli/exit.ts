/**
 * The one table of exit codes: a report or an error in, a code out.
 */
import { BulkhaulError, type ErrorCode } from '../error.js';
import type { Report } from '../events.js';

export const ExitCode = {
  /** Everything is accounted for and nothing is wrong. */
  complete: 0,
  /** Verification found a difference. */
  mismatched: 1,
  /** Wrong usage, or an error before work began. */
  usage: 2,
  /** A promise would break, or did. */
  safety: 3,
  /** Some entries failed or are in conflict, or something of them was lost. */
  failed: 23,
  /** Some source entries vanished or changed. */
  changed: 24,
  /** Interrupted; run it again to go on. */
  interrupted: 130,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

const BY_ERROR: Record<ErrorCode, ExitCode> = {
  USAGE: ExitCode.usage,
  NO_SOURCE: ExitCode.usage,
  NO_DESTINATION: ExitCode.usage,
  LIST: ExitCode.usage,
  ADDON: ExitCode.usage,
  SAFETY: ExitCode.safety,
  NO_SPACE: ExitCode.safety,
  INTERNAL: ExitCode.safety,
  OUTPUT: ExitCode.failed,
};

/** The code for a report. When several hold: 130, 3, 1, 23, 24; before them 23 for a run that hung and was given up. */
export function exitCodeOfReport(report: Report): ExitCode {
  const { outcomes, failureKinds } = report;
  const { vanished = 0, changed = 0, mismatch = 0, ...others } = failureKinds;
  // A vanished entry may be counted as failed: it alone does not make the run one that failed.
  const lost = report.notes.some((note) => note.lost);
  const failed = lost || outcomes.failed > vanished || Object.values(others).some((count) => count > 0);
  if (failureKinds.stalled) return ExitCode.failed;
  if (report.interrupted) return ExitCode.interrupted;
  // What failed keeps deletions from beginning: the failure itself tells that.
  const stopped = report.withheld.some(({ kind }) => kind !== 'failed' && kind !== 'not-synced');
  if (!report.accounted || stopped) return ExitCode.safety;
  if (outcomes.mismatched + mismatch > 0) return ExitCode.mismatched;
  if (failed || outcomes.conflict > 0) return ExitCode.failed;
  if (outcomes.changed + outcomes.failed + vanished + changed > 0) return ExitCode.changed;
  return ExitCode.complete;
}

/** The code for what a command threw; anything that is not a `BulkhaulError` is a defect. */
export function exitCodeOfError(error: unknown): ExitCode {
  return error instanceof BulkhaulError ? BY_ERROR[error.code] : ExitCode.safety;
}

/**
 * What the system answered to a command that was not at work yet, as an error of its user's world; anything else as it
 * is. What goes wrong in a job never comes so.
 */
export function systemError(thrown: unknown): unknown {
  if (!(thrown instanceof Error && 'syscall' in thrown) || thrown instanceof BulkhaulError) return thrown;
  const gone = thrown.syscall === 'uv_cwd';
  return new BulkhaulError('USAGE', gone ? NO_WORKING_DIRECTORY : thrown.message, { cause: thrown });
}

export const NO_WORKING_DIRECTORY = 'the working directory does not exist any more';
