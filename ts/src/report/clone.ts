/** The plan of a clone in words: a plan in, a line for each partition, whose names are escaped, or one for programs out. */
import { display } from '../names.js';
import type { Part, Plan } from '../ops/clone/plan.js';
import { jsonLine } from './json.js';
import { bytes } from './units.js';

/** All of it as one line of JSON. */
export function planLine({ options, table, size, parts, destination: { path, holds }, notes }: Plan): string {
  const of = { source: options.source, destination: path, table: table.label, size };
  const partitions = parts.map(({ partition, to, method, why, found, bytes: content }) => ({
    ...{ number: partition.number, name: partition.name, method, why, type: found?.type ?? '' },
    ...{ start: partition.start, size: partition.size, to: { start: to.start, size: to.size }, bytes: content },
  }));
  return jsonLine({ type: 'clone-plan', ...of, ...(holds !== undefined && { holds }), partitions, notes });
}

export function planLines({ options, table, size, parts, destination, notes }: Plan): string[] {
  const kind = table.label === 'gpt' ? 'GPT' : 'MBR';
  const sectors = table.sectorSize === 512 ? '' : `, sectors of ${table.sectorSize} bytes`;
  const over = destination.holds === undefined ? '' : `, over ${display(destination.holds)}`;
  return [
    `${display(options.source)} (${kind}${sectors}) to ${display(destination.path)} (${bytes(size)}${over})`,
    ...parts.map(partLine),
    ...notes,
  ];
}

function partLine({ partition, to, method, why, found, bytes: content }: Part): string {
  const { number, name, size } = partition;
  const named = name === '' ? '' : ` "${display(name)}"`;
  const type = found?.type ? `, ${found.type}${found.label === '' ? '' : ` "${display(found.label)}"`}` : '';
  const sizes = to.size === size ? bytes(size) : `${bytes(size)} to ${bytes(to.size)}`;
  const used = method === 'files' || method === 'blocks' ? `, ${bytes(content)} used` : '';
  return `partition ${number}${named}: ${method}${type}, ${sizes}${used}: ${display(why)}`;
}
