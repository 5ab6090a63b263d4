/**
 * The end of a run as `hpcp` prints it, for the scripts that read it.
 *
 * Comes in: the report, and with -v the entries as they pass; goes out: lines with the original's labels and columns.
 * The numbers are the real ones: what failed is not copied, and everything that was found is discovered.
 */

import type { EntryEvent, Event, Report } from '../../../events.js';
import { display } from '../../../names.js';
import { thereText, verifiedText } from '../../../report/summary.js';

export const RULE = '-'.repeat(80);

/** `Copying from [...] to [...]`. */
export function headLine(sources: readonly string[], destinations: readonly string[]): string {
  return `Copying from ${pythonList(sources)} to ${pythonList(destinations)}`;
}

/** Names of a list that are shown: the rest is counted. */
const LISTED = 1000;

/** Names as Python prints a list. */
export function pythonList(names: readonly string[]): string {
  const shown = names.slice(0, LISTED).map((name) => `'${display(name).replaceAll("'", "\\'")}'`);
  const more = names.length > LISTED ? [`… and ${names.length - LISTED} more`] : [];
  return `[${[...shown, ...more].join(', ')}]`;
}

/** The block of totals; `several`: with the overall summary that the original adds for more than one source. */
export function summaryLines(report: Report, several: boolean): string[] {
  const { found, files, elapsed } = report;
  const seconds = `${elapsed.toFixed(4)} seconds`;
  const unchanged = files.metadata + files.skipped - leftOut(report);
  const copied = files.copied + files.made + files.linked + unchanged;
  const special = found.fifo + found.socket + found.block + found.char;
  const per = (value: number) => (elapsed > 0 ? value / elapsed : 0);
  const lines = [
    `Number of files: ${found.file}`,
    `Number of links: ${found.symlink}`,
    `Number of folders: ${found.directory}`,
    ...(special > 0 ? [`Number of special files: ${special}`] : []),
    `Estimated size: ${bytes(report.foundBytes)}`,
    `Processing ${found.file} files with ${report.workers} workers`,
    '',
    `Time taken:             ${seconds}`,
    `Average speed:          ${bytes(per(report.copiedBytes))}/s`,
    `                        ${per(copied).toFixed(2)} file/s`,
    `Average bandwidth:      ${scaled(per(report.copiedBytes) * 8, 1000, ['', 'K', 'M', 'G', 'T'])}bps`,
    `Total files copied:     ${copied}`,
    `Total files unchanged:  ${unchanged}`,
    `Total size copied:      ${bytes(report.copiedBytes + report.plannedBytes)}`,
    `Total files discovered: ${found.file}`,
    ...(report.resumedFiles > 0 ? [`Resumed:                ${thereText(report)}`] : []),
    ...(report.verifiedFiles > 0 ? [`Verified:               ${verifiedText(report)}`] : []),
    `Processed ${found.file} files and ${found.symlink} symlinks in total`,
    RULE,
  ];
  if (found.symlink > 0) lines.push(`Found Symbolic Links:   ${found.symlink}`, RULE);
  if (several) {
    lines.push(
      'Overall Summary:',
      `Number of files / links: ${found.file + found.symlink}`,
      `Number of links: ${found.symlink}`,
      `Total time taken: ${seconds}`,
    );
  }
  return lines;
}

/** Reasons to skip a file of a source for which nobody would call it copied. */
const LEFT_OUT = ['overridden', 'staging-name', 'same-file', 'directories-only'];

/** Files that were left out. Reasons are counted for all kinds of entries, so this may count too many, and never too few. */
function leftOut({ skipped, files }: Report): number {
  return Math.min(
    files.skipped,
    LEFT_OUT.reduce((sum, reason) => sum + (skipped[reason] ?? 0), 0),
  );
}

const WHY: Readonly<Record<string, string>> = {
  overridden: 'left out: a later source brings the same name',
  'other-file-system': 'not entered: other file systems',
  'staging-name': 'left out: unfinished entries of an interrupted run',
  destination: 'not entered: the destination itself',
  'in-use': 'not removed: in use by this very run',
};

/** What was found and not copied for a reason that the user may not know. */
export function leftOutNotes({ skipped }: Report): string[] {
  return Object.entries(WHY).flatMap(([reason, why]) => {
    const count = skipped[reason] ?? 0;
    return count > 0 ? [`${count} ${count === 1 ? 'entry' : 'entries'} ${why}`] : [];
  });
}

/** `208.00 KiB`. */
export function bytes(value: number): string {
  return `${scaled(value, 1024, ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei'])}B`;
}

/** Two digits after the point, a blank, and the prefix. */
function scaled(value: number, base: number, prefixes: readonly string[]): string {
  let step = 0;
  let rest = value;
  // What would round up to the base belongs to the next prefix.
  while (Number(rest.toFixed(2)) >= base && step < prefixes.length - 1) {
    rest /= base;
    step++;
  }
  return `${rest.toFixed(2)} ${prefixes[step]}`;
}

/** Collects what -v names at the end: memory grows with the number of entries. */
export class CopiedNames {
  readonly #files: string[] = [];
  readonly #links: string[] = [];

  take(event: Event): void {
    if (event.type !== 'entry' || !arrived(event)) return;
    if (event.kind !== 'directory') this.#files.push(event.path);
    if (event.kind === 'symlink') this.#links.push(`${event.source} -> ${event.destination}`);
  }

  /** `Copied File: NAME` for each file, `Link: SOURCE -> DESTINATION` for each link, each list sorted. */
  lines(): string[] {
    const files = this.#files.sort().map((name) => `Copied File: ${display(name)}`);
    const links = this.#links.sort().map((link) => `Link: ${display(link)}`);
    return [...files, ...links];
  }
}

/** It is in the destination now, whether this run wrote it or found it there. */
function arrived({ outcome, reason }: EntryEvent): boolean {
  switch (outcome) {
    case 'made':
    case 'copied':
    case 'linked':
    case 'renamed':
    case 'metadata':
      return true;
    case 'skipped':
      return reason === 'unchanged';
    default:
      return false;
  }
}
