/** What is on a disk or in an image in words: facts in, lines for people, whose names are escaped, or for programs out. */
import { display } from '../names.js';
import type { Inspected, Volume } from '../ops/inspect.js';
import { jsonLine } from './json.js';
import { bytes } from './units.js';

/** Properties in the order of the schema. */
const FACTS = ['path', 'size', 'sectorSize', 'table', 'id', 'damage'] as const;
const OF_VOLUME = [
  ...(['number', 'start', 'size', 'name', 'partType', 'partUuid', 'attributes', 'type', 'version'] as const),
  ...(['label', 'uuid', 'fill', 'unmounted', 'mounted', 'damage', 'unchecked'] as const),
];

/** All of it as one line of JSON. */
export function inspectedLine(found: Inspected, version: string): string {
  const volumes = found.volumes.map((volume) => picked(volume, OF_VOLUME));
  return jsonLine({ type: 'image', version, ...picked(found, FACTS), volumes });
}

function picked<Facts>(facts: Facts, names: readonly (keyof Facts & string)[]): Partial<Facts> {
  return Object.fromEntries(
    names.flatMap((name) => (facts[name] === undefined ? [] : [[name, facts[name]]])),
  ) as Partial<Facts>;
}

/** Whether anything of it is damaged. */
export function isDamaged({ damage, volumes }: Inspected): boolean {
  return damage !== undefined || volumes.some(({ damage = '' }) => damage !== '');
}

/** All of it; the text ends with a newline. */
export function inspectedText({ path, size, sectorSize, table, id, damage, volumes }: Inspected): string {
  const sectors = sectorSize === 512 ? '' : `, sectors of ${sectorSize} bytes`;
  const kind = table === undefined ? '' : `, ${table === 'gpt' ? 'GPT' : 'MBR'} ${id}`;
  const lines = [`${display(path)}: ${bytes(size)}${kind}${sectors}`];
  if (damage !== undefined) lines.push(`  DAMAGED: ${display(damage)}`);
  return [...lines, ...volumes.flatMap(volumeLines), ''].join('\n');
}

function volumeLines(volume: Volume): string[] {
  const {
    number,
    name,
    size,
    start,
    type,
    version,
    label,
    uuid,
    partUuid,
    fill,
    unmounted,
    mounted,
    damage,
    unchecked,
  } = volume;
  const what = type === undefined ? 'nothing that is known' : `${type}${version === undefined ? '' : ` ${version}`}`;
  const named = name === undefined ? '' : ` "${display(name)}"`;
  const head = number === undefined ? `  ${what}` : `  ${number}${named}: ${bytes(size)} at ${bytes(start)}, ${what}`;
  const lines = [head + (label === undefined ? '' : ` "${display(label)}"`)];
  const ids = [
    ...(uuid === undefined ? [] : [`UUID ${uuid}`]),
    ...(partUuid === undefined ? [] : [`PARTUUID ${partUuid}`]),
  ];
  if (ids.length > 0) lines.push(`     ${ids.join(', ')}`);
  if (fill) {
    const { usedInodes, inodes } = fill;
    const entries =
      inodes === undefined
        ? ''
        : `, ${usedInodes?.toLocaleString('en-US')} of ${inodes.toLocaleString('en-US')} inodes`;
    lines.push(`     ${bytes(fill.used)} of ${bytes(fill.size)} used${entries}`);
  }
  if (mounted !== undefined) lines.push(`     mounted at ${display(mounted)}`);
  if (unmounted !== undefined) lines.push(`     can't be mounted: ${display(unmounted)}`);
  if (damage === '') lines.push('     sound');
  else if (damage !== undefined) lines.push(`     DAMAGED: ${display(damage)}`);
  if (unchecked !== undefined) lines.push(`     not checked: ${display(unchecked)}`);
  return lines;
}
