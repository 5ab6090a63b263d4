/** The plan of a clone in words: a plan in, lines for people out, one for each partition; names are escaped. */
import { display } from '../names.js';
import type { Part, Plan } from '../ops/clone/plan.js';
import { bytes } from './units.js';

export function planLines({ options, table, size, parts, destination }: Plan): string[] {
  const kind = table.label === 'gpt' ? 'GPT' : 'MBR';
  const sectors = table.sectorSize === 512 ? '' : `, sectors of ${table.sectorSize} bytes`;
  const over = destination.holds === undefined ? '' : `, over ${display(destination.holds)}`;
  return [
    `${display(options.source)} (${kind}${sectors}) to ${display(destination.path)} (${bytes(size)}${over})`,
    ...parts.map(partLine),
  ];
}

function partLine({ partition, to, method, why, found, bytes: content }: Part): string {
  const { number, name, size } = partition;
  const named = name === '' ? '' : ` "${display(name)}"`;
  const type = found?.type ? `, ${found.type}${found.label === '' ? '' : ` "${display(found.label)}"`}` : '';
  const sizes = to.size === size ? bytes(size) : `${bytes(size)} to ${bytes(to.size)}`;
  const used = method === 'files' ? `, ${bytes(content)} used` : '';
  return `partition ${number}${named}: ${method}${type}, ${sizes}${used}: ${display(why)}`;
}
