/**
 * HTML in pieces: text in, markup out that is safe to join. What is no markup is escaped, and shown as `display` has it.
 */
import type { HostStatus } from '../events.js';
import { display } from '../names.js';
import { type Chart, chart } from './chart.js';
import { remedyOf } from './remedies.js';
import type { Kind, Stretch } from './story.js';
import { failureText } from './summary.js';
import { bytes, duration, rate } from './units.js';

/** A piece of HTML, told from text that is still to be escaped. */
export class Html {
  constructor(readonly text: string) {}
}

export type Part = Html | string | number | undefined | readonly Part[];

export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
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

/** A whole page; `more`: what belongs in its head. */
export function document(title: string, body: Html, more?: Html): string {
  return html`${new Html('<!doctype html>')}
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${title}</title>
<style>${new Html(STYLE)}</style>${more}
</head>
<body>
${body}
</body>
</html>
`.text;
}

/** A table of two columns, the first of which names the row. */
export function table(caption: string, head: readonly [string, ...string[]], rows: readonly (readonly Part[])[]): Html {
  const [first, ...others] = head;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="${caption}"><table><caption>${caption}</caption>
<thead><tr><th scope="col">${first}</th>${others.map((name) => html`<th scope="col" class="number">${name}</th>`)}</tr></thead>
<tbody>${rows.map(
    ([name, ...cells]) =>
      html`<tr><th scope="row">${name}</th>${cells.map((cell) => html`<td class="number">${cell}</td>`)}</tr>`,
  )}</tbody></table></div>`;
}

/** A share as a bar that is read as a percentage. */
export function bar(part: number, all: number): Html {
  const share = all > 0 ? (part / all) * 100 : 0;
  const text = `${share.toFixed(share > 0 && share < 9.95 ? 1 : 0)} %`;
  return html`<span class="bar"><span style="width:${share.toFixed(1)}%"></span></span> ${text}`;
}

/** Numbers that people look for first; those that are not known are left out. */
export function tiles(facts: readonly (readonly [string, string | undefined])[]): Html {
  const shown = facts.filter(([, value]) => value !== undefined);
  return html`<dl class="tiles">${shown.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

/** Bytes and entries a second over time; nothing where there is nothing to draw. */
export function speeds(stretches: readonly Stretch[]): Html | undefined {
  const all = stretches.reduce((sum, stretch) => sum + stretch.bytes, 0);
  const entries = stretches.reduce((sum, stretch) => sum + stretch.entries, 0);
  const seconds = stretches.at(-1)?.to ?? 0;
  const each = (value: number) => `${number(Math.round(value))}/s`;
  const words: [string, Chart, (stretch: Stretch) => number][] = [
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

/** What each host has done; nothing where the work is not spread. */
export function hostTable(hosts: readonly HostStatus[]): Html | undefined {
  if (hosts.length === 0) return undefined;
  const all = hosts.reduce((sum, { copiedBytes }) => sum + copiedBytes, 0);
  const rows = hosts.map(({ host, workers, parts, copiedBytes, rate: speed }) => [
    host,
    number(workers),
    number(parts),
    bytes(copiedBytes),
    bar(copiedBytes, all),
    rate(speed),
  ]);
  const head = ['host', 'workers', 'parts done', 'written', 'of all', 'speed at last'] as const;
  return html`<section><h2>Hosts</h2>${table('What each host has done', head, rows)}</section>`;
}

/** Failures by kind, with examples and what to do; `all`: where the rest of them is. */
export function failures(kinds: readonly Kind[], all: Part): Html | undefined {
  if (kinds.length === 0) return undefined;
  const told = kinds.map(({ kind, count: many, examples }) => {
    const more = many > examples.length ? html`<li>and ${number(many - examples.length)} more</li>` : undefined;
    const shown = examples.map((example) => html`<li><code>${failureText(example)}</code></li>`);
    return html`<article><h3>${kind}: ${number(many)}</h3><p>${remedyOf(kind)}</p><ul>${shown}${more}</ul></article>`;
  });
  return html`<section><h2>What failed</h2>${told}<p class="small">${all}</p></section>`;
}

const STYLE = `
:root { color-scheme: light dark; --ink: #1c2024; --paper: #ffffff; --soft: #5a6169; --line: #d7dbe0; --tint: #f3f5f7;
  --good: #106b36; --bad: #b3261e; --open: #7a5200; --draw: #0b62a8; }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --paper: #16181b; --soft: #a9b0b8; --line: #3a4047;
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
.lost { display: none; color: var(--bad); } [data-lost] .lost { display: block; }
form { max-width: 56rem; margin: 0 auto; padding: 0 1.25rem; } input { width: 9rem; }
.bar { display: inline-block; width: 7rem; height: .7em; background: var(--tint); }
.bar span { display: block; height: 100%; background: var(--draw); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; min-width: 20rem; }
caption { text-align: left; color: var(--soft); font-size: .85rem; }
th, td { padding: .25rem .9rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th[scope="row"] { font-weight: 400; } .number { font-variant-numeric: tabular-nums; }
@media print { :root { color-scheme: light; } body { font-size: 11pt; } .scroll { overflow: visible; }
  tr, li, article, figure, .tiles, .facts div { break-inside: avoid; } h2, h3, caption, thead { break-after: avoid; }
  .bar, .bar span, .verdict, .tiles div { -webkit-print-color-adjust: exact; print-color-adjust: exact; } }
`;
