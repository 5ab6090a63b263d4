/**
 * What a drop-in prints, says, and collects as problems.
 *
 * Comes in: lines of the original's output, notes and problems, as they come; goes out: the lines on standard output, or
 * with `--json` nothing but JSON, sentences after the command's name on standard error, and at the end the problems,
 * of which the exit code is made. A reader that goes away ends the lines, not the work.
 */
import type { NoteEvent, Report } from '../../events.js';
import { display } from '../../names.js';
import { jsonLine } from '../../report/json.js';
import { Output } from '../../report/output.js';
import type { Context } from '../run.js';

export class Console<Problem extends { readonly message: string; readonly said?: boolean }> {
  readonly #problems: Problem[] = [];
  readonly #stdout: Output;

  /** `name`: the command's, before what it says; `piped`: standard output has a list, and the lines go to standard error. */
  constructor(
    readonly name: string,
    readonly streams: Context,
    readonly settings: { readonly json: boolean; readonly quiet: boolean; readonly piped: boolean },
  ) {
    this.#stdout = new Output(streams.stdout, () => undefined);
  }

  /** What went wrong so far. */
  get problems(): readonly Problem[] {
    return this.#problems;
  }

  /** Lines of the original's output. */
  print(...lines: readonly string[]): void {
    const { json, piped } = this.settings;
    if (json) return;
    const text = lines.map((line) => `${line}\n`).join('');
    if (piped) this.streams.stderr.write(text);
    else this.#stdout.write(text);
  }

  /** With --json: a line for a program. */
  json(event: { type: 'error'; kind: 'refused'; code: string; message: string } | NoteEvent): void {
    const { witness } = this.streams;
    if (witness && event.type === 'error') witness.refusal ??= event;
    if (this.settings.json) this.#stdout.write(jsonLine(event));
  }

  /** A sentence on standard error; names in it are escaped. */
  say(text: string): void {
    this.streams.stderr.write(`${this.name}: ${text.split('\n').map(display).join('\n')}\n`);
  }

  /** What is worth knowing, unless nobody wants to. */
  note(text: string): void {
    if (!this.settings.quiet) this.say(`note: ${text}`);
  }

  /** The notes of a job, and where its failures are, unless JSON has them. What was lost is a problem, and told as one. */
  notes({ notes, failureFile }: Report): void {
    if (this.settings.json) return;
    for (const { count, lost, message, path } of notes) {
      const where = [
        ...(count > 1 ? [`${count} times`] : []),
        ...(path === '' ? [] : [`${count > 1 ? 'first ' : ''}at ${path}`]),
      ];
      if (!lost) this.note(`${message}${where.length > 0 ? ` (${where.join(', ')})` : ''}`);
    }
    if (failureFile !== undefined) this.say(`all failures are in ${failureFile}`);
  }

  /** Collects problems and says them, unless they were when they happened. */
  report(...problems: readonly Problem[]): void {
    this.collect(...problems);
    for (const { message, said } of problems) if (!said) this.say(message);
  }

  /** Collects problems that are said in another way. */
  collect(...problems: readonly Problem[]): void {
    this.#problems.push(...problems);
  }

  /** Waits until everything is printed. Throws `OUTPUT` for what was lost, unless nobody reads it any more. */
  async flush(): Promise<void> {
    await this.#stdout.flush();
    this.#stdout.check('standard output');
  }
}
