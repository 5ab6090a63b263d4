/**
 * Errors as exit codes: what a command threw in, the code out, by the table in `verdict.ts`.
 */
import { BulkhaulError, type ErrorCode, isHomeless, NO_WORKING_DIRECTORY, whyOf } from '../error.js';
import { ExitCode } from '../verdict.js';

const BY_ERROR: Record<ErrorCode, ExitCode> = {
  USAGE: ExitCode.usage,
  NO_SOURCE: ExitCode.failed,
  NO_DESTINATION: ExitCode.usage,
  LIST: ExitCode.usage,
  JOURNAL: ExitCode.usage,
  ADDON: ExitCode.usage,
  NO_START: ExitCode.usage,
  SAFETY: ExitCode.safety,
  NO_SPACE: ExitCode.safety,
  OUTPUT: ExitCode.failed,
  STORE: ExitCode.failed,
  INCOMPLETE: ExitCode.failed,
  ABORTED: ExitCode.interrupted,
  INTERNAL: ExitCode.defect,
};

/** The code for what a command threw; anything that is not a `BulkhaulError` is a defect. */
export function exitCodeOfError(error: unknown): ExitCode {
  return error instanceof BulkhaulError ? BY_ERROR[error.code] : ExitCode.defect;
}

/**
 * What the system answered to a command that was not at work yet, as an error of its user's world; anything else as it
 * is. What goes wrong in a job never comes so.
 */
export function systemError(thrown: unknown): unknown {
  // Where the directory is gone that it stands in, a source that is not found says nothing about the source.
  if (thrown instanceof BulkhaulError && thrown.code === 'NO_SOURCE' && !hasWorkingDirectory()) {
    return new BulkhaulError('USAGE', NO_WORKING_DIRECTORY, { cause: thrown });
  }
  if (thrown instanceof Error && 'code' in thrown && thrown.code === 'ERR_MODULE_NOT_FOUND') {
    return new BulkhaulError('NO_START', `parts of the installation are missing: ${thrown.message}`, { cause: thrown });
  }
  if (!(thrown instanceof Error && 'syscall' in thrown) || thrown instanceof BulkhaulError) return thrown;
  if (isHomeless(thrown)) return BulkhaulError.from(thrown);
  return new BulkhaulError('USAGE', whyOf(thrown), { cause: thrown });
}

function hasWorkingDirectory(): boolean {
  try {
    return process.cwd() !== '';
  } catch {
    return false;
  }
}
