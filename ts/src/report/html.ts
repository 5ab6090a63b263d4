/**
 * A job as one page: a summary and its story in, HTML out.
 *
 * The page needs nothing beside itself: no script, no font, no picture from elsewhere; it follows the reader's dark or
 * light, prints, and can be read aloud. Whatever comes from a file system is shown as `display` makes it, and escaped.
 */
import type { Counted } from '../journal/record.js';
import type { JobSummary } from '../journal/store.js';
import { display } from '../names.js';
import { type Chart, chart } from './chart.js';
import { remedyOf } from './remedies.js';
import type { Kind, Run, Story } from './story.js';
import { failureText } from './summary.js';
import { bytes, count, duration, rate } from './units.js';

/** A piece of HTML, told from text that is still to be escaped. */
class Html {
  constructor(readonly text: string) {}
}

type Part = Html | string | number | undefined | readonly Part[];

function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
  return new Html(strings.map((text, index) => text + (index < parts.length ? rendered(parts[index]) : '')).join(''));
}

function rendered(part: Part): string {
  if (part instanceof Html) return part.text;
  if (Array.isArray(part)) return part.map(rendered).join('');
  if (part === undefined) return '';
  const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
  return display(String(part)).replace(/[&<>"']/g, (char) => entities[char] ?? char);
}

const number = (value: number) => value.toLocaleString('en-US');

/** The page. */
export function page(job: JobSummary, story: Story): string {
  const { runs, stretches, kinds, lost } = story;
  const last = runs.at(-1);
  const report = last?.end?.report;
  const title = `bulkhaul: ${job.id}`;
  return html`${new Html('<!doctype html>')}
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${title}</title>
<style>${new Html(STYLE)}</style>
</head>
<body>
<main>
<header>
<p class="kind">bulkhaul ${job.operation ?? 'job'}</p>
<h1>${job.id}</h1>
<p class="verdict ${classOf(job)}"><strong>${stateText(job)}</strong> ${job.sentence ?? ''}</p>
</header>
${tiles(job, report)}
${speeds(stretches)}
${failures(kinds, job)}
${losses(lost)}
${report && outcomes(report)}
${report && sizes(report)}
${report && skipped(report)}
${history(runs, story.earlierRuns)}
${asked(job, story)}
</main>
<footer><p>Made from the journal ${job.path}.</p></footer>
</body>
</html>
`.text;
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
function tiles(job: JobSummary, report: Counted | undefined): Html {
  const elapsed = report?.elapsed;
  const facts: [string, string | undefined][] = [
    ['entries', number(job.entries)],
    ['content', bytes(job.bytes)],
    ['written', report && report.copiedBytes > 0 ? bytes(report.copiedBytes) : undefined],
    ['hashed', report && report.hashedBytes > 0 ? bytes(report.hashedBytes) : undefined],
    ['read back and equal', report && report.verifiedBytes > 0 ? bytes(report.verifiedBytes) : undefined],
    ['last run', elapsed === undefined ? undefined : duration(elapsed)],
    ['failures', number(job.errors)],
  ];
  const shown = facts.filter(([, value]) => value !== undefined);
  return html`<dl class="tiles">${shown.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function speeds(stretches: Story['stretches']): Html | undefined {
  const all = stretches.reduce((sum, stretch) => sum + stretch.bytes, 0);
  const entries = stretches.reduce((sum, stretch) => sum + stretch.entries, 0);
  const seconds = stretches.at(-1)?.to ?? 0;
  const each = (value: number) => `${number(Math.round(value))}/s`;
  const words: [string, Chart, (stretch: Story['stretches'][number]) => number][] = [
    [
      'Bytes a second',
      { title: `Bytes a second over time, ${rate(all / seconds)} on average`, rate, time: duration },
      (stretch) => stretch.bytes,
    ],
    [
      'Entries a second',
      { title: `Entries a second over time, ${each(entries / seconds)} on average`, rate: each, time: duration },
      (stretch) => stretch.entries,
    ],
  ];
  const drawn = words
    .map(([name, chosen, amount]) => ({ name, picture: chart(stretches, amount, chosen), title: chosen.title }))
    .filter(({ picture }) => picture !== '');
  if (drawn.length === 0) return undefined;
  return html`<section><h2>Speed</h2>${drawn.map(
    ({ name, picture, title }) =>
      html`<figure><figcaption>${name}</figcaption>${new Html(picture)}<p class="small">${title}.</p></figure>`,
  )}</section>`;
}

function failures(kinds: readonly Kind[], job: JobSummary): Html | undefined {
  if (kinds.length === 0) return undefined;
  const told = kinds.map(({ kind, count: many, examples }) => {
    const more = many > examples.length ? html`<li>and ${number(many - examples.length)} more</li>` : undefined;
    const shown = examples.map((example) => html`<li><code>${failureText(example)}</code></li>`);
    return html`<article><h3>${kind}: ${number(many)}</h3><p>${remedyOf(kind)}</p><ul>${shown}${more}</ul></article>`;
  });
  return html`<section><h2>What failed</h2>${told}<p class="small">All of them: <code>bulkhaul report ${job.id}</code>.</p></section>`;
}

function losses(lost: Story['lost']): Html | undefined {
  if (lost.length === 0) return undefined;
  const told = lost.map(
    ({ kind, message, path }) => html`<li><strong>${kind}</strong>: ${message}, first at <code>${path}</code></li>`,
  );
  return html`<section><h2>What the destination did not keep</h2><ul>${told}</ul></section>`;
}

/** A table of two columns, the first of which names the row. */
function table(caption: string, head: readonly [string, ...string[]], rows: readonly (readonly Part[])[]): Html {
  const [first, ...others] = head;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="${caption}"><table><caption>${caption}</caption>
<thead><tr><th scope="col">${first}</th>${others.map((name) => html`<th scope="col" class="number">${name}</th>`)}</tr></thead>
<tbody>${rows.map(
    ([name, ...cells]) =>
      html`<tr><th scope="row">${name}</th>${cells.map((cell) => html`<td class="number">${cell}</td>`)}</tr>`,
  )}</tbody></table></div>`;
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

/** A share as a bar that is read as a percentage. */
function bar(part: number, all: number): Html {
  const share = all > 0 ? (part / all) * 100 : 0;
  const text = `${share.toFixed(share > 0 && share < 9.95 ? 1 : 0)} %`;
  return html`<span class="bar"><span style="width:${share.toFixed(1)}%"></span></span> ${text}`;
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
  ];
  const shown = facts.filter(([, value]) => value !== undefined);
  return html`<section><h2>What was asked for</h2><dl class="facts">${shown.map(
    ([name, value]) => html`<div><dt>${name}</dt><dd><code>${value}</code></dd></div>`,
  )}</dl></section>`;
}

const STYLE = `
:root { color-scheme: light dark; --ink: #1c2024; --paper: #ffffff; --soft: #5a6169; --line: #d7dbe0; --tint: #f3f5f7;
  --good: #106b36; --bad: #b3261e; --open: #7a5200; --draw: #0b62a8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --paper: #16181b; --soft: #a9b0b8; --line: #3a4047;
  --tint: #1f2327; --good: #6fd495; --bad: #ff8a80; --open: #f0bf5a; --draw: #6cb6f5; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main, footer { max-width: 56rem; margin: 0 auto; padding: 1rem 1.25rem; }
h1 { margin: 0 0 .5rem; font-size: 1.6rem; overflow-wrap: anywhere; }
h2 { margin: 2rem 0 .5rem; font-size: 1.15rem; }
h3 { margin: 1rem 0 0; font-size: 1rem; }
p { margin: .25rem 0; }
code { font: .9em ui-monospace, monospace; overflow-wrap: anywhere; }
.kind, .small, footer { color: var(--soft); font-size: .9rem; }
.verdict { padding: .6rem .9rem; border-left: .35rem solid; background: var(--tint); overflow-wrap: anywhere; }
.good { border-color: var(--good); } .good strong { color: var(--good); }
.bad { border-color: var(--bad); } .bad strong { color: var(--bad); }
.open { border-color: var(--open); } .open strong { color: var(--open); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: .75rem; margin: 1rem 0; }
.tiles div { padding: .6rem .8rem; background: var(--tint); }
dt { color: var(--soft); font-size: .85rem; } dd { margin: 0; }
.tiles dd { font-size: 1.3rem; font-variant-numeric: tabular-nums; }
.facts div { display: grid; grid-template-columns: 9rem 1fr; gap: .5rem; padding: .15rem 0; }
figure { margin: .5rem 0 1rem; } figcaption { font-weight: 600; }
svg { display: block; width: 100%; height: auto; } svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
.grid { stroke: var(--line); } .line { fill: none; stroke: var(--draw); stroke-width: 1.5; }
.area { fill: var(--draw); opacity: .18; }
.bar { display: inline-block; width: 7rem; height: .7em; background: var(--tint); }
.bar span { display: block; height: 100%; background: var(--draw); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; min-width: 20rem; }
caption { text-align: left; color: var(--soft); font-size: .85rem; }
th, td { padding: .25rem .9rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th[scope="row"] { font-weight: 400; } .number { font-variant-numeric: tabular-nums; }
@media print { body { font-size: 11pt; } section, article, figure { break-inside: avoid; } .scroll { overflow: visible; } }
`;
