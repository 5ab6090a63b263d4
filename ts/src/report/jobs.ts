/** Jobs in words: summaries in, lines for people out. Names are escaped. */
import type { JobSummary } from '../journal/store.js';
import { display } from '../names.js';
import { blocks, sparkline } from './chart.js';
import type { Story } from './story.js';
import { bytes, count, duration } from './units.js';

/** Columns of a line that shows speed over time. */
const COLUMNS = 60;
/** What stands out, so many of it. */
const FIRST = 5;

/** A line a job, with a headline, those that were heard of last first; the text ends with a newline. */
export function jobTable(jobs: readonly JobSummary[], now: number): string {
  if (jobs.length === 0) return 'no jobs\n';
  const rows = jobs.map((job) => [
    job.id,
    job.state,
    progressText(job),
    job.errors > 0 ? count(job.errors, 'failure') : '',
    ageText(job, now),
    `${places(job.sources)}${job.destinations.length > 0 ? ` -> ${places(job.destinations)}` : ''}`,
  ]);
  const head = ['JOB', 'STATE', 'DONE', 'FAILED', 'HEARD OF', 'WHAT'];
  const all = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]) =>
    row
      .map((text, column) => text.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd();
  return `${all.map(line).join('\n')}\n`;
}

/** One job, a fact a line. */
export function jobText(job: JobSummary, now: number): string {
  const { id, state, operation, sources, destinations, attempts, begun, holder, sentence, path } = job;
  const facts: [string, string | undefined][] = [
    ['job', `${id} (${operation ?? 'unknown'})`],
    ['state', holder === undefined ? state : `${state}, process ${holder.process} on ${display(holder.host)}`],
    ['from', sources.length > 0 ? places(sources) : undefined],
    ['to', destinations.length > 0 ? places(destinations) : undefined],
    ['done', progressText(job)],
    ['failures', job.errors > 0 ? job.errors.toLocaleString('en-US') : undefined],
    ['runs', `${attempts.toLocaleString('en-US')}${begun === undefined ? '' : `, the last one from ${begun}`}`],
    ['heard of', ageText(job, now)],
    ['verdict', sentence === undefined ? undefined : display(sentence)],
    ['journal', display(path)],
    ['next', nextText(job)],
  ];
  return facts
    .filter(([, text]) => text !== undefined)
    .map(([name, text]) => `${`${name}:`.padEnd(10)}${text}\n`)
    .join('');
}

/** What stands out of it, a fact a line; `drawn`: the reader's characters have blocks. */
export function storyText({ stretches, hosts, report, damaged }: Story, drawn: boolean): string {
  const { sizes = [], heaviest = [], slowest = [] } = report ?? {};
  const line = (amount: 'bytes' | 'entries') => sparkline(stretches, (stretch) => stretch[amount], COLUMNS);
  const facts: [string, string][] = drawn
    ? [
        ['speed', line('bytes')],
        ['entries', line('entries')],
        ['sizes', sizeText(sizes)],
      ]
    : [];
  if (damaged > 0) facts.push(['damaged', damageText(damaged)]);
  for (const { host, parts, copiedBytes } of hosts)
    facts.push(['host', `${display(host)}: ${count(parts, 'part')}, ${bytes(copiedBytes)} written`]);
  for (const { path, files, bytes: size } of heaviest.slice(0, FIRST))
    facts.push(['most in', `${display(path) || 'all others'}: ${count(files, 'file')}, ${bytes(size)}`]);
  for (const { path, bytes: size, seconds } of slowest.slice(0, FIRST))
    facts.push(['slowest', `${display(path)}: ${duration(seconds)}, ${bytes(size)}`]);
  return facts.map(([name, text]) => (text === '' ? '' : `${`${name}:`.padEnd(10)}${text}\n`)).join('');
}

/** What of a journal was lost. */
export function damageText(damaged: number): string {
  return `${count(damaged, 'line')} of the journal can't be read any more: what failed may be more than is told here`;
}

/** How many files there are of each class of sizes, from the smallest class that there is to the greatest. */
function sizeText(sizes: NonNullable<Story['report']>['sizes']): string {
  const first = sizes.findIndex(({ files }) => files > 0);
  const last = sizes.findLastIndex(({ files }) => files > 0);
  if (first < 0) return '';
  const told = ({ most }: { most?: number }) => (most === undefined ? 'more' : bytes(most));
  const there = sizes.slice(first, last + 1);
  const ends = [there[0], there.at(-1)].map((each) => told(each ?? {}));
  return `${blocks(there.map(({ files }) => files))} files of at most ${[...new Set(ends)].join(' to ')}`;
}

function nextText({ id, state }: JobSummary): string | undefined {
  if (state === 'interrupted') return `bulkhaul resume ${id}`;
  if (state === 'failed') return `bulkhaul resume ${id} --retry-failed, bulkhaul report ${id}`;
  return undefined;
}

function progressText({ entries, bytes: size, expectedEntries, expectedBytes }: JobSummary): string {
  const share = expectedBytes ? size / expectedBytes : expectedEntries ? entries / expectedEntries : undefined;
  const part = share === undefined ? '' : ` ${Math.floor(Math.min(1, share) * 100)} %`;
  return `${count(entries, 'entry', 'entries')}, ${bytes(size)}${part}`;
}

function ageText({ heard }: JobSummary, now: number): string {
  return heard === undefined ? '' : `${duration(Math.max(0, (now - Date.parse(heard)) / 1000))} ago`;
}

function places(paths: readonly string[]): string {
  const [first = '', ...others] = paths;
  return display(others.length > 0 ? `${first} and ${others.length} more` : first);
}
