/** The results of a benchmark as Markdown, for people. Pure. The same as JSON is the value itself. */
import { ratio, summary } from './statistics.js';

/** @typedef {import('./run.js').Result} Result */
/** @typedef {import('./run.js').Measured} Measured */
/** @typedef {import('./machine.js').Machine} Machine */

/** Fewer rounds than this are for trying a row. */
export const LEAST_ROUNDS = 5;

/**
 * @typedef {object} Report
 * @property {1} schema
 * @property {Machine} machine
 * @property {number} scale
 * @property {number} rounds
 * @property {Result[]} rows
 */

const DASH = '–';

/** Three digits that mean something. @param {number} value seconds */
const seconds = (value) =>
  value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(value >= 1 ? 2 : 3);

/** @param {number | undefined} value */
const times = (value) => (value === undefined ? DASH : value >= 10 ? value.toFixed(1) : value.toFixed(2));

/** @param {readonly (string | number)[]} cells */
const line = (cells) => `| ${cells.map((cell) => `${cell}`.replaceAll('|', '\\|')).join(' | ')} |`;

/** @param {readonly string[]} head @param {readonly (readonly string[])[]} body */
const table = (head, body) => [
  line(head),
  line(head.map((_, column) => (column === 0 ? '---' : '---:'))),
  ...body.map(line),
];

/**
 * @param {readonly Measured[]} contenders
 * @param {Measured['role']} role
 */
const first = (contenders, role) => contenders.find((each) => each.role === role);

/** @param {Result} row */
function details(row) {
  const yardstick = first(row.contenders, 'yardstick')?.wall ?? [];
  const ours = first(row.contenders, 'ours')?.wall ?? [];
  const isDurable = row.contenders.some((each) => each.durable.length > 0);
  const head = ['', 'median s', 'min-max s', 'CPU s', '÷ yardstick', '÷ ours', 'MiB resident'];
  if (isDurable) head.push('and sync -f, s');
  const body = row.contenders.map((each) => {
    const name = each.role === 'ours' ? `**${each.name}**` : each.role === 'yardstick' ? `_${each.name}_` : each.name;
    if (each.wall.length === 0) return [name, ...head.slice(1).map(() => DASH)];
    const wall = summary(each.wall);
    return [
      name,
      seconds(wall.median),
      `${seconds(wall.min)}-${seconds(wall.max)}`,
      seconds(summary(each.cpu).median),
      times(ratio(each.wall, yardstick)),
      times(ratio(each.wall, ours)),
      (Math.max(...each.resident) / 1024).toFixed(0),
      ...(isDurable ? [each.durable.length > 0 ? seconds(summary(each.durable).median) : DASH] : []),
    ];
  });
  const failures = row.contenders
    .filter((each) => each.missing !== undefined && each.missing !== 'not installed')
    .map((each) => `- ${each.name}: ${each.missing}`);
  const kept = row.contenders.flatMap(({ name, kept }) =>
    kept === undefined ? [] : [`- ${name}: what it writes down of its work has ${kept.toLocaleString('en-US')} bytes`],
  );
  const parts = row.contenders.flatMap(({ name, uneven }) =>
    uneven === undefined
      ? []
      : [`- ${name}: the largest part has ${times(uneven.bytes)} times the bytes of the smallest, and ${times(uneven.entries)} times the entries`],
  );
  const verdicts = row.verdicts.map(
    ({ text, value, reached }) =>
      `- ${text}: ${value === undefined ? DASH : `${times(value)}, ${reached ? 'reached' : '**missed**'}`}`,
  );
  return [
    ...[`### ${row.name}: ${row.title}`, ''],
    ...[[row.data, row.fileSystem, `${row.rounds} rounds`].filter(Boolean).join('; '), ''],
    ...table(head, body),
    ...(failures.length + kept.length + parts.length > 0 ? ['', ...failures, ...kept, ...parts] : []),
    ...(verdicts.length > 0 ? ['', 'To be reached:', ...verdicts] : []),
    '',
  ];
}

/** @param {Result} row one line of the overview */
function overview(row) {
  const yardstick = first(row.contenders, 'yardstick');
  const ours = first(row.contenders, 'ours');
  if (row.dash !== undefined || !ours || ours.wall.length === 0) {
    return [row.name, DASH, DASH, DASH, DASH, row.dash ?? ours?.missing ?? DASH];
  }
  const peers = row.contenders.filter((each) => each.role === 'peer' && each.wall.length > 0);
  const best = peers.sort((a, b) => summary(a.wall).median - summary(b.wall).median)[0];
  const judged = row.verdicts.filter((each) => each.reached !== undefined);
  return [
    row.name,
    seconds(summary(ours.wall).median),
    times(ratio(ours.wall, yardstick?.wall ?? [])),
    best ? `${best.name} ${times(ratio(best.wall, ours.wall))}` : DASH,
    (Math.max(...ours.resident) / 1024).toFixed(0),
    judged.length === 0 ? DASH : `${judged.filter((each) => each.reached).length} of ${judged.length} reached`,
  ];
}

/**
 * @param {Report} report
 * @returns {string}
 */
export function markdown({ machine, scale, rounds, rows }) {
  const { processor, cpus, memory, kernel, load, commit, time, versions } = machine;
  return [
    ...['# Benchmark', ''],
    `- ${time}, commit ${commit}`,
    `- ${processor}, ${cpus} CPUs, ${(memory / 2 ** 30).toFixed(1)} GiB, kernel ${kernel}`,
    `- load at the beginning: ${load.map((value) => value.toFixed(2)).join(' ')}`,
    ...Object.entries(versions).map(([name, version]) => `- ${name}: ${version}`),
    ...(scale === 1 ? [] : [`- sizes times ${scale}: **for trying, not for quoting**`]),
    ...(rounds >= LEAST_ROUNDS ? [] : [`- fewer than ${LEAST_ROUNDS} rounds: **for trying, not for quoting**`]),
    ...['', ...rows.flatMap((row) => (row.dash === undefined ? details(row) : []))],
    ...['## Overview', ''],
    ...table(['row', 'ours, s', '÷ yardstick', 'best peer, ÷ ours', 'MiB resident', 'targets'], rows.map(overview)),
    '',
  ].join('\n');
}
