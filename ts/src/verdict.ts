/**
 * The verdict of a run, and the one table of exit codes that says it.
 *
 * Comes in: what a job counted; goes out: whether it is complete, and the code that a command ends with.
 */
import type { NativeReport } from './native/events.js';

/** The codes that commands end with, by what they mean. */
export const ExitCode = {
  /** Everything is accounted for and nothing is wrong. */
  complete: 0,
  /** Verification found a mismatch, or something missing or extra, or a comparison a difference. */
  mismatched: 1,
  /** Wrong usage, or an error before work began. */
  usage: 2,
  /** A promise would break, or did. */
  safety: 3,
  /** Some entries failed, are missing or in conflict, or something of them was lost. */
  failed: 23,
  /** Some source entries vanished after they were found, or changed. */
  changed: 24,
  /** A defect of bulkhaul. */
  defect: 70,
  /** Interrupted; run it again to go on. */
  interrupted: 130,
} as const;
/** One of them. */
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** What a report adds to what was counted. */
export interface Verdict {
  /** All that was found is accounted for, and nothing failed, changed, was lost or held back. Of a comparison: all was compared, whatever differs. */
  complete: boolean;
  /** The number that the command of this operation ends with, as in `ExitCode`. */
  exitCode: number;
  /** Nothing was done: the counts are what would be. */
  dryRun: boolean;
}

/** The counts that decide. */
type Counted = Pick<
  NativeReport,
  'outcomes' | 'failureKinds' | 'withheld' | 'accounted' | 'interrupted' | 'differences'
> & { notes: readonly { kind: string; lost: boolean }[] };

export function verdictOf(counted: Counted, dryRun: boolean): Verdict {
  const code = faultCode(counted);
  const differs = differencesOf(counted) > 0;
  const graver: readonly ExitCode[] = [ExitCode.interrupted, ExitCode.safety];
  return {
    complete: code === ExitCode.complete,
    exitCode: differs && !graver.includes(code) ? ExitCode.mismatched : code,
    dryRun,
  };
}

/**
 * The code for what went wrong, whatever a comparison found. When several hold: 130, 3, 1, 23, 24; before them 23 for a
 * run that hung and was given up.
 */
export function faultCode(counted: Counted): ExitCode {
  const { outcomes, failureKinds, notes, withheld, accounted, interrupted } = counted;
  const { vanished = 0, changed = 0, mismatch = 0, ...others } = failureKinds;
  // A vanished entry may be counted as failed: it alone does not make the run one that failed.
  const lost = notes.some((note) => note.lost);
  const failed = lost || outcomes.failed > vanished || Object.values(others).some((count) => count > 0);
  if (failureKinds.stalled) return ExitCode.failed;
  if (interrupted) return ExitCode.interrupted;
  // What failed keeps deletions from beginning: the failure itself tells that.
  const stopped = withheld.some(({ kind }) => kind !== 'failed' && kind !== 'not-synced');
  if (!accounted || stopped) return ExitCode.safety;
  if (outcomes.mismatched + mismatch > 0) return ExitCode.mismatched;
  if (failed || outcomes.conflict > 0) return ExitCode.failed;
  if (outcomes.changed + outcomes.failed + vanished + changed > 0) return ExitCode.changed;
  return ExitCode.complete;
}

/** How many entries differ in a comparison. */
export function differencesOf({ differences: { left, right, changed } }: Pick<Counted, 'differences'>): number {
  return left + right + changed;
}

/**
 * The verdict in one sentence. `code`: what the command ends with, where that is not what the report says; `onward`: what
 * is to be done about an interruption.
 */
export function sentenceOf(
  report: Counted & Verdict & Pick<NativeReport, 'found' | 'extras' | 'skipped' | 'unfinished'>,
  code: number = report.exitCode,
  onward = 'the same command goes on',
): string {
  const tail = [...(code === 0 ? [] : [`exit ${code}`]), ...(report.dryRun ? ['dry run: nothing was done'] : [])];
  return `${bareSentence(report, onward)}${tail.length > 0 ? ` (${tail.join(', ')})` : ''}`;
}

const number = (value: number) => value.toLocaleString('en-US');
const sum = (counts: Record<string, number>) => Object.values(counts).reduce((all, each) => all + each, 0);

/** What is not as manifests say, where it is more than content that differs. */
function claims(kinds: Record<string, number>): string | undefined {
  const { mismatch = 0, missing = 0, extra = 0, kind = 0, damaged = 0 } = kinds;
  const { 'bit-rot': rotten = 0, 'behind-mtime': behind = 0 } = kinds;
  if (missing + extra + kind + damaged + rotten + behind === 0) return undefined;
  const parts: [number, string][] = [
    [mismatch, 'with other content'],
    [missing, 'missing'],
    [kind, 'of another kind'],
    [extra, 'extra'],
    [damaged + rotten, 'damaged'],
    [behind, 'changed behind the time of modification'],
  ];
  return parts.flatMap(([many, what]) => (many > 0 ? [`${number(many)} ${what}`] : [])).join(', ');
}

function bareSentence(report: Parameters<typeof sentenceOf>[0], onward: string): string {
  const { outcomes, found, extras, failureKinds, notes, withheld, accounted, interrupted, unfinished, differences } =
    report;
  const all = sum(found) + extras;
  const of = (part: number) => `${number(part)} of ${number(all)} ${all === 1 ? 'entry' : 'entries'}`;
  if (failureKinds.stalled) return 'GIVEN UP: nothing moved any more; the same command goes on';
  if (interrupted) {
    const failed = outcomes.failed + outcomes.conflict + outcomes.changed + outcomes.mismatched;
    const done = sum(outcomes) - failed - (report.skipped['not-compared'] ?? 0);
    // Nobody has found what would have come.
    const entries = `${number(all)} found ${all === 1 ? 'entry' : 'entries'}`;
    const parts = [all === 0 ? 'nothing was found yet' : `${number(done)} of ${entries} done`];
    if (failed > 0) parts.push(`${number(failed)} failed`);
    if (unfinished > 0)
      parts.push(`${number(unfinished)} unfinished ${unfinished === 1 ? 'file stays' : 'files stay'}`);
    return `INTERRUPTED: ${parts.join(', ')}; ${onward}`;
  }
  if (!accounted) {
    return 'NOT ACCOUNTED FOR: entries found and outcomes recorded do not agree, a defect of bulkhaul; do not trust this run';
  }
  switch (faultCode(report)) {
    case ExitCode.safety:
      return `HELD BACK: ${withheld.map(({ message }) => message).join('; ')}`;
    case ExitCode.mismatched:
      return `MISMATCHED: ${claims(failureKinds) ?? `${of(outcomes.mismatched)} read back differently`}`;
    case ExitCode.failed: {
      const failed = outcomes.failed + outcomes.conflict + outcomes.changed;
      if (failed > 0) return `INCOMPLETE: ${of(failed)} failed`;
      const failures = sum(failureKinds);
      if (failures > 0) return `INCOMPLETE: ${number(failures)} ${failures === 1 ? 'failure' : 'failures'}`;
      const lost = notes.filter((note) => note.lost).map(({ kind }) => kind);
      return `INCOMPLETE: the destination did not keep what was wanted: ${lost.join(', ')}`;
    }
    case ExitCode.changed:
      return `INCOMPLETE: ${of(Math.max(outcomes.changed + outcomes.failed, 1))} vanished or changed meanwhile`;
    default: {
      const { left, right, changed } = differences;
      if (differencesOf(report) > 0) {
        return `DIFFERENT: ${number(left)} only in A, ${number(right)} only in B, ${number(changed)} different`;
      }
      return `complete: ${number(all)} ${all === 1 ? 'entry' : 'entries'}`;
    }
  }
}
