/**
 * The exit codes of `hpcp`, in one table: those of 9.79 where they name the case.
 *
 * Comes in: what went wrong before, during and after the copy; goes out: problems, each with its code. The highest code
 * is the exit code, 130 before all.
 */
import { BulkhaulError, type ErrorCode } from '../../../error.js';
import type { ErrorEvent, Report } from '../../../events.js';
import { display } from '../../../names.js';
import { type FlagNames, failureText } from '../../../report/summary.js';
import { count } from '../../../report/units.js';
import { systemError } from '../../exit.js';
import { UsageError } from '../argparse.js';
import type { Console } from '../console.js';

export const CODES = {
  /** A comparison found differences, and was to fail then. */
  different: 1,
  usage: 2,
  defect: 70,
  /** A partition of an image can't be mounted. */
  partition: 128,
  interrupted: 130,
  /** Answered no, or nobody to ask. */
  stopped: 147,
  'link failed': 160,
  'link conflict': 162,
  'exclude file unreadable': 170,
  'exclude file missing': 171,
  'copy failed': 190,
  /** Of a clone: what a partition had did not come into the other. */
  'partition copy': 181,
  'partition table': 182,
  'file system': 187,
  /** A worker died, verification failed, or finder and recorder of entries disagree. */
  'copy crashed': 191,
  'removal failed': 192,
  'directory failed': 193,
  'no destination': 202,
  'source image': 206,
  'source missing': 207,
  /** A list can't be read or written. */
  'list file': 208,
  'listing failed': 209,
  /** What was to be removed was left, because something was not as it must be. */
  'removal skipped': 212,
  'destination image': 221,
  'image size': 223,
  'destination missing': 226,
  'destination file system': 227,
  'not enough space': 228,
  'no source': 240,
  /** A source is the destination. */
  refused: 241,
  /** A patch can't be made. */
  'patch making': 242,
  'patch format': 243,
  /** A patch does not have all that it says. */
  'patch incomplete': 244,
  'patch conflict': 245,
  /** What a patch has, or what was made of it, is not what it says. */
  'patch damaged': 246,
  'patch layout': 248,
  /** Of a clone: its ids could not be set, or read back differently. */
  identity: 250,
  'in use': 251,
} as const;

export type Case = keyof typeof CODES;

export interface Problem {
  case: Case;
  /** One sentence; may hold names as they are. */
  message: string;
  /** It was said when it happened. */
  said?: true;
}

export function problem(which: Case, message: string): Problem {
  return { case: which, message };
}

/** A failure of a job. */
export function told(which: Case, message: string): Problem {
  return { case: which, message, said: true };
}

/** Nothing can be copied; the problems say why. `told`: the reporters of a job have said so in JSON. */
export class Refused extends Error {
  constructor(
    readonly problems: readonly Problem[],
    readonly told = false,
  ) {
    super('refused');
  }
}

/** What the verbs print to and report to. */
export type HpcpConsole = Console<Problem>;

/** The code of a command that has had problems, for a report that brings more of them. */
export function codeWith(out: HpcpConsole, more: (report: Report) => Problem[]): (report: Report) => number {
  return (report) => exitCode([...out.problems, ...more(report)]);
}

/** 0 without problems, else the highest code; interrupted wins. */
export function exitCode(problems: readonly Problem[]): number {
  if (problems.some((each) => each.case === 'interrupted')) return CODES.interrupted;
  return Math.max(0, ...problems.map((each) => CODES[each.case]));
}

/** What is called otherwise here than in the library. */
export const FLAGS: FlagNames = { removeExtra: '-rme', acceptTimeLoss: '--accept-time-loss' };

/** What the report says went wrong. Failures beyond those that it keeps are counted in one problem. */
export function problemsOf(report: Report): Problem[] {
  const problems = report.failures.map((failure) => told(caseOf(failure), failureText(failure, FLAGS)));
  const all = Object.values(report.failureKinds).reduce((sum, count) => sum + count, 0);
  if (all > report.failures.length) {
    problems.push(problem('copy failed', `Copy failed: ${all - report.failures.length} more failures`));
  }
  for (const { lost, count, message, path } of report.notes) {
    const times = count > 1 ? `${count} times, first ` : '';
    if (lost) problems.push(problem('copy failed', `Copy failed: ${message} (${times}at ${path})`));
  }
  const { failed, conflict, mismatched, changed } = report.outcomes;
  if (problems.length === 0 && failed + conflict + mismatched + changed > 0) {
    problems.push(problem('copy failed', 'Copy failed: entries are unfinished'));
  }
  if (!report.accounted) {
    problems.push(problem('copy crashed', 'Copy crashed: the entries found and the entries finished do not agree'));
  }
  problems.push(...interruption(report, 'run the same command again to go on'));
  for (const { kind, message } of report.withheld) {
    if (kind !== 'interrupted')
      problems.push(problem(WITHHELD[kind] ?? 'removal skipped', `Removal skipped: ${message}`));
  }
  return problems;
}

/** What went wrong while trees were read. */
export function readingProblems(report: Report): Problem[] {
  const problems = report.failures.map((failure) => told('listing failed', `Listing failed: ${failureText(failure)}`));
  const all = Object.values(report.failureKinds).reduce((sum, count) => sum + count, 0);
  if (all > problems.length) {
    problems.push(problem('listing failed', `Listing failed: ${all - problems.length} more failures`));
  }
  if (!report.accounted) {
    problems.push(problem('copy crashed', 'Listing crashed: the entries found and the entries listed do not agree'));
  }
  problems.push(...interruption(report, 'nothing was written'));
  return problems;
}

/** Stopped by somebody; who gave up a job that hung has said so. `next`: what is left to do or say. */
export function interruption({ interrupted, unfinished, failureKinds }: Report, next: string): Problem[] {
  if (!interrupted || failureKinds.stalled) return [];
  const stay = unfinished > 0 ? `${count(unfinished, 'unfinished file')} ${unfinished === 1 ? 'stays' : 'stay'}; ` : '';
  return [problem('interrupted', `Interrupted: ${stay}${next}`)];
}

const WITHHELD: Readonly<Partial<Record<Report['withheld'][number]['kind'], Case>>> = {
  declined: 'stopped',
  'max-delete': 'refused',
};

/** Steps of a clone. */
const STEPS: Readonly<Partial<Record<string, Case>>> = {
  clone: 'partition copy',
  mkfs: 'file system',
  identify: 'identity',
};

function caseOf({ kind, outcome, operation, entryKind }: ErrorEvent): Case {
  if (kind === 'same-file') return 'refused';
  if (kind === 'stalled') return 'copy failed';
  const step = STEPS[operation];
  if (step !== undefined) return step;
  if (kind === 'panic' || outcome === 'mismatched') return 'copy crashed';
  if (operation === 'remove') return 'removal failed';
  switch (entryKind) {
    case 'symlink':
      return outcome === 'conflict' ? 'link conflict' : 'link failed';
    case 'directory':
      return operation === 'list' || kind === 'unreadable' ? 'listing failed' : 'directory failed';
    default:
      return 'copy failed';
  }
}

/** What a list cannot be read or written for has a code of its own. */
export function listFileError(error: unknown): never {
  if (error instanceof BulkhaulError && ['LIST', 'OUTPUT', 'NO_START'].includes(error.code)) {
    throw new Refused([problem('list file', `List file: ${error.message}`)], true);
  }
  throw error;
}

/** What was thrown instead of a report. */
export function problemOf(thrown: unknown): Problem {
  const error = systemError(thrown);
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof UsageError) return problem('usage', message);
  return problem(error instanceof BulkhaulError ? BY_ERROR[error.code] : 'defect', message);
}

const BY_ERROR: Readonly<Record<ErrorCode, Case>> = {
  USAGE: 'usage',
  ADDON: 'usage',
  NO_START: 'usage',
  NO_SOURCE: 'source missing',
  LIST: 'list file',
  JOURNAL: 'usage',
  NO_DESTINATION: 'no destination',
  NO_SPACE: 'not enough space',
  SAFETY: 'refused',
  OUTPUT: 'copy crashed',
  STORE: 'copy failed',
  INCOMPLETE: 'copy failed',
  ABORTED: 'interrupted',
  INTERNAL: 'defect',
};

const ERRORS: Readonly<Partial<Record<Case, ErrorCode>>> = {
  'no source': 'NO_SOURCE',
  'source missing': 'NO_SOURCE',
  'no destination': 'NO_DESTINATION',
  'not enough space': 'NO_SPACE',
  'list file': 'LIST',
  refused: 'SAFETY',
};

/** A problem that stopped the run before a job was begun, in the words of the JSON lines. */
export function forJson({ case: which, message }: Problem): { code: ErrorCode; message: string } {
  return { code: ERRORS[which] ?? 'USAGE', message };
}

/** Messages named in the last line; the others are counted. */
const NAMED = 20;

/** The last line of output: `Done.`, or the messages and the code, as Python prints a list. */
export function lastLine(problems: readonly Problem[]): string {
  if (problems.length === 0) return 'Done.';
  const messages = problems.slice(0, NAMED).map(({ message }) => `'${display(message).replaceAll("'", "\\'")}'`);
  if (problems.length > NAMED) messages.push(`'and ${problems.length - NAMED} more'`);
  return `Error occurred: [${messages.join(', ')}], return code: ${exitCode(problems)}.`;
}
