/**
 * A job as one page: a summary and its story in, HTML out.
 *
 * The page needs nothing beside itself: no script, no font, no picture from elsewhere; it follows the reader's dark or
 * light, prints, and can be read aloud. Whatever comes from a file system is shown as `display` makes it, and escaped.
 */
import type { Counted } from '../journal/record.js';
import type { JobSummary } from '../journal/store.js';
import { damageText } from './jobs.js';
import { bar, document, failures, type Html, hostTable, html, speeds, table, tiles } from './markup.js';
import type { Run, Story } from './story.js';
import { bytes, count, duration, rate } from './units.js';

const number = (value: number) => value.toLocaleString('en-US');

/** The page. */
export function page(job: JobSummary, story: Story): string {
  const { runs, stretches, kinds, lost, hosts, report, damaged } = story;
  const body = html`<main>
<header>
<p class="kind">bulkhaul ${job.operation ?? 'job'}</p>
<h1>${job.id}</h1>
<p class="verdict ${classOf(job)}"><strong>${stateText(job)}</strong> ${job.sentence ?? ''}</p>
${damaged > 0 ? html`<p>${damageText(damaged)}.</p>` : undefined}
</header>
${numbers(job, report)}
${speeds(stretches)}
${hostTable(hosts)}
${failures(kinds, html`All of them: <code>bulkhaul report ${job.id}</code>.`)}
${losses(lost)}
${report && outcomes(report)}
${report && sizes(report)}
${report && heaviest(report)}
${report && slowest(report)}
${report && skipped(report)}
${history(runs, story.earlierRuns)}
${asked(job, story)}
</main>
<footer><p>Made from the journal ${job.path}.</p></footer>`;
  return document(`bulkhaul: ${job.id}`, body);
}

function classOf({ state }: JobSummary): string {
  return state === 'done' ? 'good' : state === 'running' ? 'open' : 'bad';
}

const STATES: Readonly<Record<JobSummary['state'], string>> = {
  running: 'At work.',
  interrupted: 'Interrupted.',
  failed: 'Not complete.',
  done: 'Done.',
  damaged: 'The journal is damaged.',
};

function stateText({ state, exitCode }: JobSummary): string {
  return exitCode === undefined || exitCode === 0 ? STATES[state] : `${STATES[state]} Exit code ${exitCode}.`;
}

/** The numbers that people look for first. */
function numbers(job: JobSummary, report: Counted | undefined): Html {
  const elapsed = report?.elapsed;
  return tiles([
    ['entries', number(job.entries)],
    ['content', bytes(job.bytes)],
    ['written', report && report.copiedBytes > 0 ? bytes(report.copiedBytes) : undefined],
    ['hashed', report && report.hashedBytes > 0 ? bytes(report.hashedBytes) : undefined],
    ['read back and equal', report && report.verifiedBytes > 0 ? bytes(report.verifiedBytes) : undefined],
    ['last run', elapsed === undefined ? undefined : duration(elapsed)],
    ['failures', number(job.errors)],
  ]);
}

function losses(lost: Story['lost']): Html | undefined {
  if (lost.length === 0) return undefined;
  const told = lost.map(
    ({ kind, message, path }) => html`<li><strong>${kind}</strong>: ${message}, first at <code>${path}</code></li>`,
  );
  return html`<section><h2>What the destination did not keep</h2><ul>${told}</ul></section>`;
}

function outcomes(report: Counted): Html {
  const rows = Object.entries(report.outcomes)
    .filter(([, many]) => many > 0)
    .map(([outcome, many]) => {
      const { files, directories } = report;
      const name = outcome as keyof typeof report.outcomes;
      const others = many - files[name] - directories[name];
      return [outcome, number(files[name]), number(directories[name]), number(others), number(many)];
    });
  const sizes =
    report.foundBytes > 0 ? html`<p class="small">Files of ${bytes(report.foundBytes)} in all.</p>` : undefined;
  return html`<section><h2>What became of the entries</h2>${table(
    'Entries by outcome',
    ['outcome', 'files', 'directories', 'others', 'all'],
    rows,
  )}${sizes}</section>`;
}

/** How many files of which sizes, and what they come to. */
function sizes(report: Counted): Html | undefined {
  const there = report.sizes.filter(({ files }) => files > 0);
  if (there.length === 0) return undefined;
  const all = { files: report.sizes.reduce((sum, { files }) => sum + files, 0), bytes: report.foundBytes };
  const rows = report.sizes
    .slice(
      report.sizes.indexOf(there[0] as (typeof there)[0]),
      report.sizes.lastIndexOf(there.at(-1) as (typeof there)[0]) + 1,
    )
    .map((each) => [
      each.most === 0
        ? 'empty'
        : each.most === undefined
          ? `more than ${bytes(report.sizes.at(-2)?.most ?? 0)}`
          : `to ${bytes(each.most)}`,
      number(each.files),
      bar(each.files, all.files),
      bytes(each.bytes),
      bar(each.bytes, all.bytes),
    ]);
  return html`<section><h2>Sizes</h2>${table(
    'Files by size',
    ['size', 'files', 'of all files', 'content', 'of all content'],
    rows,
  )}</section>`;
}

/** Where most of it is. */
function heaviest({ heaviest: shares = [], foundBytes }: Counted): Html | undefined {
  if (shares.length === 0) return undefined;
  const rows = shares.map(({ path, files, bytes: size }) => [
    path === '' ? 'all others' : html`<code>${path}</code>`,
    number(files),
    bytes(size),
    bar(size, foundBytes),
  ]);
  return html`<section><h2>Where most of it is</h2>${table(
    'Directories that hold most',
    ['directory', 'files', 'content', 'of all content'],
    rows,
  )}<p class="small">One that is two steps below its source stands for all that is below it.</p></section>`;
}

function slowest({ slowest: slow = [] }: Counted): Html | undefined {
  if (slow.length === 0) return undefined;
  const rows = slow.map(({ path, bytes: size, seconds }) => [
    html`<code>${path}</code>`,
    duration(seconds),
    bytes(size),
    size > 0 ? rate(size / seconds) : '',
  ]);
  return html`<section><h2>What took longest</h2>${table(
    'Entries that took longest',
    ['entry', 'time', 'content', 'speed'],
    rows,
  )}</section>`;
}

function skipped(report: Counted): Html | undefined {
  const rows = Object.entries(report.skipped)
    .filter(([, many]) => many > 0)
    .map(([reason, many]) => [reason, number(many)]);
  const notes = report.notes.filter(({ lost }) => !lost);
  const withheld = report.withheld.map(({ message }) => html`<li><strong>Not removed</strong>: ${message}</li>`);
  if (rows.length + notes.length + withheld.length === 0) return undefined;
  const told = notes.map(
    ({ kind, count: many, message }) => html`<li>${kind}, ${count(many, 'time')}: ${message}</li>`,
  );
  return html`<section><h2>What was left as it is, and notes</h2>${
    rows.length > 0 ? table('Skipped entries by reason', ['reason', 'entries'], rows) : undefined
  }<ul>${withheld}${told}</ul></section>`;
}

function history(runs: readonly Run[], earlier: number): Html {
  const rows = runs.map(({ attempt, end }) => [
    attempt.number,
    attempt.time,
    `process ${attempt.process} on ${attempt.host}`,
    end ? duration(end.elapsed) : '',
    end ? end.sentence : 'no end is known: it died, or is at work',
  ]);
  const before = earlier > 0 ? html`<p class="small">${count(earlier, 'run')} before these.</p>` : undefined;
  return html`<section><h2>Runs</h2>${table('Runs', ['run', 'begun', 'where', 'time', 'end'], rows)}${before}</section>`;
}

function asked(job: JobSummary, { directory, runs }: Story): Html {
  const last = runs.at(-1)?.attempt;
  const facts: [string, string | undefined][] = [
    ['command', last?.command?.join(' ')],
    ['working directory', directory],
    ['from', job.sources.join(', ') || undefined],
    ['to', job.destinations.join(', ') || undefined],
    ['version', last?.version],
    ['host', last?.host],
    ['machine', last?.machine],
  ];
  const shown = facts.filter(([, value]) => value !== undefined);
  return html`<section><h2>What was asked for</h2><dl class="facts">${shown.map(
    ([name, value]) => html`<div><dt>${name}</dt><dd><code>${value}</code></dd></div>`,
  )}</dl></section>`;
}
