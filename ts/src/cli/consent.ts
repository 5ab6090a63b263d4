/**
 * Whether somebody agrees: a question on standard error, and a line of standard input that says yes in so many letters.
 *
 * Off a terminal the line may be piped; the end of input is no consent, and neither is anything but y or yes: it may be
 * a line of the list that a loop around us reads.
 */
import { createInterface } from 'node:readline';
import type { Report } from '../events.js';
import { display } from '../names.js';
import { bytes, count } from '../report/units.js';
import type { Context } from './run.js';

/** `nobody`: input ended without a line. */
export type Answer = 'yes' | 'no' | 'nobody' | 'interrupted';

export function askConsent(question: string, { stdin, stderr }: Pick<Context, 'stdin' | 'stderr'>): Promise<Answer> {
  const terminal = 'isTTY' in stdin && stdin.isTTY === true;
  return new Promise((resolve) => {
    stderr.write(question);
    const reader = createInterface({ input: stdin, terminal, ...(terminal && { output: stderr }) });
    const settle = (answer: Answer) => {
      reader.removeAllListeners();
      reader.close();
      if (!terminal || answer === 'nobody' || answer === 'interrupted') stderr.write('\n');
      resolve(answer);
    };
    reader.once('line', (line) => settle(/^y(es)?$/i.test(line.trim()) ? 'yes' : 'no'));
    reader.once('close', () => settle('nobody'));
    reader.once('SIGINT', () => settle('interrupted'));
  });
}

/** What a removal would take, in words; `names`: some of it. */
export function removalPreview(report: Report, names: readonly string[]): string {
  const { outcomes, directories, foundBytes, skipped, failures, failureKinds } = report;
  const number = (value: number) => value.toLocaleString('en-US');
  const lines = [
    `${count(outcomes.removed, 'entry', 'entries')} (${bytes(foundBytes)}) will be removed: ` +
      `${count(outcomes.removed - directories.removed, 'file')} and links, ${count(directories.removed, 'directory', 'directories')}`,
    ...names.map((name) => `  ${display(name)}`),
  ];
  if (outcomes.removed > names.length) lines.push(`  and ${number(outcomes.removed - names.length)} more`);
  if (skipped.excluded)
    lines.push(`${count(skipped.excluded, 'entry', 'entries')} excluded, with what is below: not removed`);
  const unlisted = Object.values(failureKinds).reduce((sum, each) => sum + each, 0);
  if (unlisted > 0) lines.push(`${number(unlisted)} cannot be looked at: ${display(failures[0]?.message ?? '')}`);
  return lines.map((line) => `${line}\n`).join('');
}
