/**
 * The end of a run in words: a report in, lines for people out, the last of them the verdict. Names are escaped. Failures
 * are not named: they were as they happened, and the file that has all of them is.
 */
import type { ErrorEvent, Report } from '../events.js';
import { display, isText, toBytes } from '../names.js';
import { differencesOf, sentenceOf } from '../verdict.js';
import { bytes, count, duration, rate } from './units.js';

const ON_DISK: Record<Report['sync'], string> = {
  none: 'nothing is guaranteed: a power cut may lose any of it; run again after one',
  safe: 'after a power cut the next run finds and repairs whatever was lost',
  all: 'everything that was written is synced',
};

/** What a command calls what it does for the disk; nothing: it does no other thing. */
type SyncNames = Partial<Record<Report['sync'], string>>;
const SYNC_NAMES: SyncNames = { none: '--sync none', safe: '--sync safe' };

/** What is only read leaves nothing to go on with. */
const ANEW = 'the same command begins anew';

/** The text, each line ended. `syncs`: how its options name what is on disk; `false`: it does not know that. */
export function summaryText(report: Report, syncs: SyncNames | false = SYNC_NAMES): string {
  const { outcomes, files, found, dryRun } = report;
  const lines: string[] = [];
  const would = dryRun ? 'would be ' : '';
  const size = dryRun ? ` (${bytes(report.plannedBytes)})` : `, ${bytes(report.copiedBytes)} written`;
  const speed = dryRun || report.elapsed <= 0 ? '' : `, ${rate(report.copiedBytes / report.elapsed)}`;
  if (outcomes.renamed > 0) lines.push(renamedLine(report, would));
  lines.push(`${count(files.copied, 'file')} ${would}copied${size} in ${duration(report.elapsed)}${speed}`);
  lines.push(...packedLines(report));
  const others: [number, string][] = [
    [outcomes.copied - files.copied + outcomes.made, 'made'],
    [outcomes.linked, 'linked'],
    [outcomes.metadata, 'given other metadata'],
    [outcomes.removed, 'removed'],
  ];
  const counted = others
    .filter(([number]) => number > 0)
    .map(([number, what]) => `${number.toLocaleString('en-US')} ${would}${what}`);
  if (counted.length > 0) lines.push(`entries: ${counted.join(', ')}`);
  const { removedSources, keptSources } = report;
  if (removedSources + keptSources > 0) {
    lines.push(
      `moved: ${count(removedSources, 'source entry', 'source entries')} ${would}removed, ${keptSources.toLocaleString('en-US')} left`,
    );
  }
  lines.push(...skippedLines(report));
  const special = found.fifo + found.socket + found.block + found.char;
  // What nobody came to has no size.
  const known = report.interrupted ? `${bytes(report.foundBytes)} known` : bytes(report.foundBytes);
  lines.push(
    `found: ${count(found.file, 'file')} (${known}), ${count(found.directory, 'directory', 'directories')}, ` +
      `${count(found.symlink, 'symlink')}${special > 0 ? `, ${special.toLocaleString('en-US')} special` : ''}`,
  );
  lines.push(...noteLines(report));
  for (const { message } of report.withheld) lines.push(`NOT REMOVED: ${display(message)}`);
  lines.push(...failureLines(report));
  if (report.resumedFiles > 0) lines.push(`resumed: ${thereText(report)}`);
  if (report.verifiedFiles > 0) lines.push(`verified: ${verifiedText(report)}`);
  if (syncs && !dryRun) {
    const name = syncs[report.sync];
    lines.push(`on disk: ${ON_DISK[report.sync]}${name === undefined ? '' : ` (${name})`}`);
  }
  lines.push(...jobLines(report), display(sentenceOf(report)));
  return lines.map((line) => `${line}\n`).join('');
}

/** The end alone, where what was done is data and was printed, or is nothing yet. */
export function verdictSummary(report: Report): string {
  const lines = [
    ...skippedLines(report),
    ...noteLines(report),
    ...failureLines(report),
    display(sentenceOf(report, report.exitCode, ANEW)),
  ];
  return lines.map((line) => `${line}\n`).join('');
}

/** The same of a sync. */
export const syncSummary = (report: Report): string => summaryText(report, { none: '--no-sync' });

/** The same of a removal. `going`: bytes of what a dry run would remove. */
export function removalSummaryText(report: Report, going = report.foundBytes): string {
  const { outcomes, directories, elapsed, dryRun } = report;
  const would = dryRun ? 'would be ' : '';
  const size = dryRun ? ` (${bytes(going)})` : '';
  const lines = [
    `${count(outcomes.removed, 'entry', 'entries')} ${would}removed${size} in ${duration(elapsed)}, ` +
      `${count(directories.removed, 'directory', 'directories')} of them`,
    ...skippedLines(report),
    ...noteLines(report),
    ...failureLines(report),
    ...jobLines(report),
    display(sentenceOf(report)),
  ];
  return lines.map((line) => `${line}\n`).join('');
}

/** What of files is read, as lists and comparisons are asked for it. */
export interface Reading {
  fullHash?: boolean;
  hashSize?: number;
  content?: string;
}

/** Bytes of a file beyond which a job writes down that it has read them. */
const WRITTEN_DOWN = 65_536;

/** What is to be done about an interruption, where so much is read of files. */
function onwardBy(report: Report, { fullHash = false, hashSize = 0, content = 'tail' }: Reading): string | undefined {
  return fullHash || hashSize > WRITTEN_DOWN || content === 'whole' ? onwardOf(report) : ANEW;
}

/** The same of a list. */
export function listSummary(report: Report, reading: Reading = {}): string {
  const { outcomes, foundBytes, elapsed } = report;
  const size = foundBytes > 0 ? `, files of ${bytes(foundBytes)}` : '';
  const lines = [
    `${count(outcomes.listed, 'entry', 'entries')} listed${size} in ${duration(elapsed)}`,
    ...earlierLines(report, 'hashed'),
    ...skippedLines(report),
    ...noteLines(report),
    ...failureLines(report),
    ...jobLines(report),
    display(sentenceOf(report, report.exitCode, onwardBy(report, reading))),
  ];
  return lines.map((line) => `${line}\n`).join('');
}

/** The same of a manifest. */
export function manifestSummary(report: Report): string {
  const { outcomes, hashedBytes, elapsed } = report;
  const speed = elapsed > 0 ? `, ${rate(hashedBytes / elapsed)}` : '';
  const lines = [
    `${count(outcomes.listed, 'entry', 'entries')} listed, ${bytes(hashedBytes)} hashed in ${duration(elapsed)}${speed}`,
    ...earlierLines(report, 'hashed'),
    ...skippedLines(report),
    ...noteLines(report),
    ...failureLines(report),
    ...jobLines(report),
    display(sentenceOf(report, report.exitCode, onwardOf(report))),
  ];
  return lines.map((line) => `${line}\n`).join('');
}

/** The same of a partition. */
export function partitionSummary(report: Report): string {
  const { parts, elapsed, dryRun } = report;
  const lines: string[] = [];
  if (parts !== undefined) {
    const { number, entries, bytes: size, split, first } = parts;
    const range = (of: (part: (typeof first)[number]) => number, text: (value: number) => string) => {
      const all = first.map(of);
      const [least, most] = [text(Math.min(...all)), text(Math.max(...all))];
      return least === most ? least : `${least} to ${most}`;
    };
    const each =
      number === 0 || number > first.length
        ? ''
        : `, each of ${range(
            (part) => part.entries,
            (value) => value.toLocaleString('en-US'),
          )} entries and ${range((part) => part.bytes, bytes)}`;
    const marked = split > 0 ? `, ${count(split, 'file')} larger than a part` : '';
    const what = `${count(entries, 'entry', 'entries')} (${bytes(size)})`;
    lines.push(
      `${count(number, 'part')}${dryRun ? ' planned' : ''} with ${what}${each}${marked}, in ${duration(elapsed)}`,
    );
  }
  lines.push(
    ...skippedLines(report),
    ...noteLines(report),
    ...failureLines(report),
    display(sentenceOf(report, report.exitCode, ANEW)),
  );
  return lines.map((line) => `${line}\n`).join('');
}

/** The same of shards that were verified. */
export function unpackedSummary(report: Report): string {
  const { outcomes, hashedBytes, elapsed } = report;
  const lines = [
    `${count(outcomes.same, 'entry', 'entries')} as they were packed, ${bytes(hashedBytes)} of shards read in ${duration(elapsed)}`,
    ...skippedLines(report),
    ...noteLines(report),
    ...failureLines(report),
    ...jobLines(report),
    display(sentenceOf(report, report.exitCode, ANEW)),
  ];
  return lines.map((line) => `${line}\n`).join('');
}

/** The same of a pack. */
export function packSummary(report: Report): string {
  const { parts, copiedBytes, elapsed, dryRun, verifiedBytes } = report;
  const lines: string[] = [];
  if (parts !== undefined) {
    const { number, entries, bytes: size } = parts;
    const speed = dryRun || elapsed <= 0 ? '' : `, ${rate(copiedBytes / elapsed)}`;
    lines.push(
      `${count(number, 'shard')}${dryRun ? ' planned' : ''} with ${count(entries, 'entry', 'entries')} (${bytes(size)}), in ${duration(elapsed)}${speed}`,
    );
  }
  lines.push(...skippedLines(report), ...noteLines(report), ...failureLines(report));
  if (verifiedBytes > 0) lines.push(`verified: ${bytes(verifiedBytes)} of shards read back`);
  lines.push(...jobLines(report), display(sentenceOf(report)));
  return lines.map((line) => `${line}\n`).join('');
}

/** What is to be done about an interruption, where the journal knows what is finished, and where there is none. */
const onwardOf = ({ job }: Report) => (job === undefined ? ANEW : undefined);

/** How a verification was done. */
export interface VerifyWay {
  /** No content was read. */
  quick?: boolean;
  /** Which part of the files was read; undefined: all were. */
  part?: { part: number; parts: number } | undefined;
  /** Where files were repaired from; undefined: none were. */
  from?: string | undefined;
}

/** The same of a verification. */
export function verifySummary(report: Report, { quick = false, part, from }: VerifyWay = {}): string {
  const { files, elapsed } = report;
  const what = quick
    ? `${count(files.same, 'file')} there, by names, kinds and sizes only: no content was read`
    : verifiedText(report);
  const lines = [
    `verified: ${what}, in ${duration(elapsed)}`,
    ...earlierLines(report, 'verified'),
    ...(part ? [partLine(report, part)] : []),
    ...(from === undefined
      ? []
      : [`repaired: ${count(files.copied, 'file')} written anew from ${display(from)}, and verified again`]),
    ...skippedLines(report),
    ...noteLines(report),
    ...failureLines(report),
    ...jobLines(report),
    display(sentenceOf(report, report.exitCode, onwardOf(report))),
  ];
  return lines.map((line) => `${line}\n`).join('');
}

/** The same of a compression or decompression; `test`: archives were only read. */
export function conversionSummary(report: Report, operation: 'compress' | 'decompress', test = false): string {
  const { conversions, files, outcomes, elapsed, dryRun, complete, verifiedFiles } = report;
  const would = dryRun ? 'would be ' : '';
  const [before, after] = [sumOf(conversions, 'before'), sumOf(conversions, 'after')];
  const became = dryRun ? `, ${bytes(before)}` : `, ${bytes(before)} to ${becameText({ before, after })}`;
  const speed = dryRun || elapsed <= 0 ? '' : `, ${rate(before / elapsed)}`;
  const lines = test
    ? [
        `${count(files.same, 'archive')} whole (${bytes(report.verifiedBytes)} read${cacheText(report)}) in ${duration(elapsed)}`,
      ]
    : [`${count(files.copied, 'file')} ${would}${operation}ed${became} in ${duration(elapsed)}${speed}`];
  lines.push(...extensionLines(report));
  if (outcomes.removed > 0) {
    const kept = operation === 'compress' ? 'the archive' : 'the content';
    lines.push(`${count(outcomes.removed, 'file')} ${would}removed: ${kept} was there already, and is the same`);
  }
  lines.push(...skippedLines(report), ...noteLines(report), ...failureLines(report));
  if (!test && verifiedFiles > 0) lines.push(`verified: ${verifiedText(report)}`);
  const onward = complete || test ? ANEW : undefined;
  lines.push(...jobLines(report), display(sentenceOf(report, report.exitCode, onward)));
  return lines.map((line) => `${line}\n`).join('');
}

/** Files that became archives on their way. */
function packedLines(report: Report): string[] {
  const { conversions, dryRun } = report;
  if (conversions.length === 0) return [];
  const [files, before, after] = (['files', 'before', 'after'] as const).map((key) => sumOf(conversions, key));
  const [would, size] = dryRun
    ? ['would be ', '']
    : ['', ` to ${becameText({ before: before ?? 0, after: after ?? 0 })}`];
  return [
    `${count(files ?? 0, 'file')} of them ${would}compressed, ${bytes(before ?? 0)}${size}`,
    ...extensionLines(report),
  ];
}

/** What became of each extension, where there are several. */
function extensionLines({ conversions, dryRun, elapsed }: Report): string[] {
  if (conversions.length < 2) return [];
  return conversions.map((sums) => {
    const name = sums.extension === '' ? '(no extension)' : display(sums.extension);
    const size = dryRun ? bytes(sums.before) : `${bytes(sums.before)} to ${becameText(sums)}`;
    const speed = dryRun || elapsed <= 0 ? '' : `, ${rate(sums.before / elapsed)}`;
    return `  ${name}: ${count(sums.files, 'file')}, ${size}${speed}`;
  });
}

type Sums = Report['conversions'][number];

const sumOf = (all: readonly Sums[], key: 'files' | 'before' | 'after') =>
  all.reduce((sum, each) => sum + each[key], 0);

/** `3.1 GiB (ratio 3.97, 9.2 GiB saved)`. */
function becameText({ before, after }: Pick<Sums, 'before' | 'after'>): string {
  const [great, small] = [Math.max(before, after), Math.min(before, after)];
  if (small === 0) return bytes(after);
  const saved = after > before ? `${bytes(after - before)} more` : `${bytes(before - after)} saved`;
  return `${bytes(after)} (ratio ${(great / small).toFixed(2)}, ${saved})`;
}

function partLine({ files, interrupted }: Report, { part, parts }: { part: number; parts: number }): string {
  const left = parts - part - (interrupted ? 0 : 1);
  const next = left > 0 ? `${count(left, 'more run')} to have read all` : 'all have been read since the first part';
  return `sample: part ${part + 1} of ${parts}, ${next}; of ${count(files.same, 'file')} in all names, kinds and sizes are right`;
}

/** The same of a comparison; `what`: what was compared. */
export function compareSummary(report: Report, what: string, reading: Reading = {}): string {
  const { left, right, changed, leftEntries, rightEntries } = report.differences;
  const number = (value: number) => value.toLocaleString('en-US');
  const same = report.complete && differencesOf(report) === 0;
  const lines = [
    `${number(left)} only in A, ${number(right)} only in B, ${number(changed)} different`,
    `compared: ${what}; ${count(leftEntries, 'entry', 'entries')} of A with ${number(rightEntries)} of B ` +
      `in ${duration(report.elapsed)}`,
    ...earlierLines(report, 'read'),
    ...skippedLines(report),
    ...noteLines(report),
    ...failureLines(report),
    same
      ? `the same: nothing differs in ${what}`
      : display(sentenceOf(report, report.exitCode, onwardBy(report, reading))),
  ];
  return lines.map((line) => `${line}\n`).join('');
}

/** A rename needs no copy, and takes what is in a directory along: nobody has counted that. */
function renamedLine({ outcomes, directories }: Report, would: string): string {
  const entries = count(outcomes.renamed, 'entry', 'entries');
  const whole = directories.renamed;
  const along = whole === 0 ? '' : `, ${count(whole, 'directory', 'directories')} of them with all that is in it`;
  return `${entries} ${would}renamed within the file system${along}`;
}

function skippedLines(report: Report): string[] {
  const skipped = Object.entries(report.skipped).filter(([, number]) => number > 0);
  if (skipped.length === 0) return [];
  return [`skipped: ${skipped.map(([why, number]) => `${number.toLocaleString('en-US')} ${why}`).join(', ')}`];
}

function noteLines(report: Report): string[] {
  return report.notes.map(
    ({ kind, count: times, lost, path, message }) =>
      `${lost ? 'LOST' : 'note'} (${display(kind)}, ${times.toLocaleString('en-US')}x): ${display(message)}${path === '' ? '' : `, first at ${display(path)}`}`,
  );
}

/** How to go on with a job that is not done, where it has a journal. */
function jobLines({ job, complete, interrupted, failureKinds }: Report): string[] {
  if (job === undefined || complete) return [];
  const failed = !interrupted && Object.keys(failureKinds).length > 0;
  const retry = failed ? `; bulkhaul resume ${job} --retry-failed tries what failed again` : '';
  return [`job: ${job} (bulkhaul resume ${job} goes on with it, bulkhaul report ${job} tells what failed${retry})`];
}

/** What of the files an earlier run had read. */
function earlierLines({ resumedFiles, resumedBytes }: Report, what: string): string[] {
  if (resumedFiles === 0) return [];
  const [files, were] = [count(resumedFiles, 'file'), resumedFiles === 1 ? 'was' : 'were'];
  return [`resumed: ${files} (${bytes(resumedBytes)}) ${were} ${what} by the run before, and did not change since`];
}

/** What of the files was there already, from a run that ended before they did. */
export function thereText({ resumedFiles, resumedBytes }: Report): string {
  return `${bytes(resumedBytes)} of ${count(resumedFiles, 'file')} ${resumedFiles === 1 ? 'was' : 'were'} there already`;
}

/** What was read back and found equal, and where the proof did not reach the medium. */
export function verifiedText(report: Report): string {
  const { verifiedFiles, verifiedBytes } = report;
  return `${count(verifiedFiles, 'file')} (${bytes(verifiedBytes)}) read back and equal${cacheText(report)}`;
}

function cacheText({ verifiedFromCache }: Report): string {
  return verifiedFromCache > 0 ? `; ${bytes(verifiedFromCache)} came from the cache, not from the medium` : '';
}

function failureLines({ failureKinds, failureFile }: Report): string[] {
  const kinds = Object.entries(failureKinds).filter(([, number]) => number > 0);
  if (kinds.length === 0) return [];
  const total = kinds.reduce((sum, [, number]) => sum + number, 0);
  const where = failureFile === undefined ? '' : `; all of them are in ${display(failureFile)}`;
  return [
    `${count(total, 'failure')}: ${kinds.map(([kind, number]) => `${number.toLocaleString('en-US')} ${kind}`).join(', ')}${where}`,
  ];
}

/** What a command calls options without which something fails; it tells of no others. */
export type FlagNames = Partial<Record<NonNullable<ErrorEvent['option']>, string>>;

/** One failure, on one line: the engine's sentence, with the name in it whole where it is no text, and the flag that it lacks. */
export function failureText(
  { path, message, option }: Pick<ErrorEvent, 'path' | 'message' | 'option'>,
  flags: FlagNames = {},
): string {
  const text = display(isText(path) ? message : message.replace(toBytes(path).toString(), () => path));
  const flag = option && flags[option];
  return flag === undefined ? text : `${text} (with ${flag} it goes)`;
}
