/** A diagnosis in words: facts in, lines for people out. */
import { display } from '../names.js';
import type { Answer } from '../native.js';
import type { Diagnosis, Place } from '../ops/doctor.js';
import { bytes, rate } from './units.js';

/** What is lost where a call is missing. */
const WITHOUT: Readonly<Record<string, string>> = {
  statx: 'nothing can be done',
  openat2: 'paths are opened part by part',
  renameat2: 'names are taken by hard links, or looked up first',
  copy_file_range: 'all bytes go through this process',
  fallocate: 'room is not taken ahead',
  fadvise64: 'what is verified may come from the cache',
  sync_file_range: 'write-back begins late',
  syncfs: 'each file is synced by itself',
  ioprio_set: '--ionice can not be had',
  cachestat: 'how much came from the cache is not known',
  listxattrat: 'attributes take a call more',
};

/** Where the facts begin. */
const COLUMN = 30;

const fact = (name: string, text: string) => `${`  ${name}`.padEnd(COLUMN)}${text}`.trimEnd();

/** All of it; the text ends with a newline. */
export function doctorText(found: Diagnosis, version: string): string {
  const { system, kernel, arch, node, libc, container, root, processors, memory, engineError } = found;
  const missing = found.tools.filter((tool) => tool.found === undefined);
  const calls =
    found.calls.length > 0 ? [title('Kernel calls'), ...found.calls.map((call) => answered(call, WITHOUT))] : [];
  return [
    `bulkhaul ${version}`,
    title('This machine'),
    fact('system', `${display(system)}${container ? ', in a container' : ''}`),
    fact('kernel', `${display(kernel)} ${arch}`),
    fact('Node.js', `${node}, ${libc}`),
    fact('engine', engineError === undefined ? 'loaded' : `MISSING: ${display(engineError)}`),
    fact('user', root ? 'root' : 'not root: owners, devices and some attributes can not be set'),
    fact('capabilities', found.capabilities.join(' ').toLowerCase() || 'none'),
    fact('processors', String(processors)),
    fact('memory', bytes(memory)),
    ...found.limits.map(({ name, soft, hard }) =>
      fact(name, soft === hard ? soft : `${soft}, may be raised to ${hard}`),
    ),
    ...found.abilities.map((each) => answered(each)),
    ...calls,
    title('Programs of others'),
    ...found.tools.flatMap(({ name, found, use }) =>
      found === undefined ? [] : [fact(name, `${display(found)} (${use})`)],
    ),
    ...(missing.length > 0 ? [fact('not here', missing.map(({ name, use }) => `${name} (${use})`).join(', '))] : []),
    ...found.places.flatMap(placeLines),
    '',
  ].join('\n');
}

const title = (text: string) => `\n${text}`;

function answered({ name, error }: Answer, without: Readonly<Record<string, string>> = {}): string {
  if (error === undefined) return fact(name, 'yes');
  const so = without[name];
  return fact(name, `NO: ${display(error)}${so === undefined ? '' : `: ${so}`}`);
}

function placeLines(place: Place): string[] {
  const { path, error, kind = '', flags = [], size = 0, free = 0, freeFiles, answers = [], probe, probeError } = place;
  const head = title(display(path));
  if (error !== undefined) return [head, fact('', `NO: ${display(error)}`)];
  const files = freeFiles === undefined ? '' : `, ${freeFiles.toLocaleString('en-US')} files`;
  return [
    head,
    fact('file system', display(kind)),
    fact('flags', flags.join(' ')),
    fact('free', `${bytes(free)} of ${bytes(size)}${files}`),
    ...answers.map((each) => answered(each)),
    ...(probeError === undefined ? [] : [fact('probe', `NO: ${display(probeError)}`)]),
    ...(probe === undefined ? [] : [...probe.answers.map((each) => answered(each)), ...speeds(probe)]),
  ];
}

function speeds({ written, read, fromCache }: NonNullable<Place['probe']>): string[] {
  const cache =
    fromCache === undefined
      ? ' (how much of it from the cache is not known)'
      : fromCache > 0
        ? ` (${bytes(fromCache)} of it from the cache)`
        : '';
  return [fact('written and synced', rate(written)), fact('read back', `${rate(read)}${cache}`)];
}
