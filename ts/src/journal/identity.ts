/**
 * Which job it is that some options ask for, and where its journal lies.
 *
 * Comes in: an operation and its options; goes out: the options as they are kept, the name of the job, which is the same each
 * time, and paths. Nothing else of the journals is loaded for that: most runs are over before they have one.
 */
import { join } from 'node:path';
import { fromBytes } from '../names.js';
import { isUrl } from '../stores/urls.js';
import type { Operation } from './record.js';

export function jobDirectory(state: string, id: string): string {
  return join(state, 'jobs', id);
}

export function journalPath(state: string, id: string): string {
  return join(jobDirectory(state, id), 'journal.jsonl');
}

export function leasePath(state: string, id: string): string {
  return join(jobDirectory(state, id), 'lease');
}

export function finishedPath(state: string, id: string): string {
  return join(jobDirectory(state, id), 'finished');
}

/** A path as it is meant where relative ones begin in `directory`. Not normalised: `..` behind a symlink leads where it leads. */
export function absolutePath(path: string, directory: string): string {
  return path.startsWith('/') ? path : `${directory}/${path}`;
}

/** Options of one run only, which make no other job; secrets among them, which no journal has. */
const PASSING = [
  ...['signal', 'entries', 'dryRun', 'inUse', 'spillDirectory', 'journal', 'credentials', 'environment'],
  ...['program', 'version'],
];
/** Options that say how fast it goes, not what is done. */
const PACE = [
  'jobs',
  'limits',
  'nice',
  'ionice',
  'requests',
  'workers',
  'hosts',
  'slurm',
  'hostProgram',
  'parts',
  'patience',
];
/** Options whose values are paths, or hold some. */
const PATHS = [
  'path',
  'paths',
  'list',
  'protect',
  'noPreserveRoot',
  'output',
  'template',
  'manifests',
  'repairFrom',
  'directory',
  'state',
  'caFile',
];

/** The options as they are kept, by their names: what belongs to one run left out, paths as text and absolute, URLs as they are, a question as whether. */
export function lastingOf(asked: object, directory: string): Record<string, unknown> {
  const kept = (value: unknown, key: string): unknown => {
    if (Buffer.isBuffer(value)) return kept(fromBytes(value), key);
    if (typeof value === 'string') return PATHS.includes(key) && !isUrl(value) ? absolutePath(value, directory) : value;
    if (Array.isArray(value)) return value.map((each) => kept(each, key));
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, kept(each, name)]));
  };
  const lasting = Object.entries(asked)
    .filter(([name, value]) => !PASSING.includes(name) && value !== undefined)
    .map(([name, value]): [string, unknown] => [name, name === 'confirm' ? true : kept(value, name)]);
  return Object.fromEntries(lasting.sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** The name of the job that these options are: the same each time. */
export async function identify(
  operation: Operation,
  directory: string,
  options: Record<string, unknown>,
): Promise<string> {
  const asked = Object.entries(options).filter(([name]) => !PACE.includes(name));
  // Only such rules are about paths from where the command was given.
  const where = (options.filter as { style?: string } | undefined)?.style === 'fnmatch' ? directory : '';
  const text = JSON.stringify([operation, where, asked]);
  // Loaded late: it is most of what finding a job costs.
  const { createHash } = await import('node:crypto');
  return `${operation}-${createHash('sha256').update(text).digest('hex').slice(0, 8)}`;
}
