/**
 * The options of a command that can have workers, and what they come to.
 *
 * Comes in: the arguments of a call; goes out: who works, as options of an operation, or nothing where one process does it all.
 */
import { existsSync } from 'node:fs';
import { BulkhaulError } from '../error.js';
import { fromBytes, toBytes } from '../names.js';
import type { Crew } from '../ops/spread.js';
import { flag, number, value } from './options.js';
import { PROGRAM } from './run.js';
import { contentOf, parseCount } from './values.js';
import { version } from './version.js';

/** The options, each a field of a command. `what`: is spread; `shared`: between its workers; `source`: is divided; `seen`: what each host has to see. */
export const CREW = {
  workers: (what: string, shared = '--jobs, --bwlimit and --iops-limit') =>
    number('--workers', 1, 10_000, {
      ...{ group: 'speed', value: 'N', default: 'one process does it all' },
      help: `Spread ${what} over N processes, which share ${shared}; with -v a line for each part that is done`,
    }),
  hosts: (...seen: string[]) =>
    value('--hosts', {
      ...{ group: 'speed', value: 'LIST', default: 'this one' },
      help: `Have the workers on these hosts, by ssh without a question: names with commas between, or a file with one a line, - for standard input; one for each, or --workers in all. Each has to see ${named(seen)} under the same paths; to one that does not see --run-dir it is carried by the connection`,
    }),
  slurm: (...seen: string[]) =>
    flag('--slurm', {
      group: 'speed',
      help: `Have the workers as an array of Slurm jobs, or in an allocation as its steps; the nodes have to see ${named([...seen, '--run-dir'])}. What ends early is submitted again`,
    }),
  slurmArgs: () =>
    value('--slurm-args', {
      ...{ group: 'speed', value: 'WORDS', default: 'none' },
      help: 'With --slurm: more words for sbatch, with blanks between them, or as a JSON array',
    }),
  hostProgram: () =>
    value('--host-program', {
      ...{ group: 'speed', value: 'PATH', default: 'bulkhaul' },
      help: 'With --hosts and --slurm: the command that bulkhaul is there',
    }),
  parts: (source: string) =>
    number('--parts', 1, 1_000_000, {
      ...{ group: 'speed', value: 'N', default: '16 for each worker' },
      help: `With --workers: into how many parts ${source} is divided`,
    }),
  runDir: () =>
    value('--run-dir', {
      ...{ group: 'safety', value: 'DIR', default: 'with the journal; it goes when all is complete' },
      help: 'With --workers: where the run is kept, which the workers of Slurm have to see',
    }),
  patience: () =>
    value(
      '--patience',
      {
        ...{ group: 'safety', value: 'SECONDS', default: '60' },
        help: 'With --workers: a worker of which nothing is heard for so long is taken for lost, and its part goes to another',
      },
      parseCount,
    ),
};

/** The fields of a command that has all of these. */
interface Given {
  workers: number | undefined;
  hosts: string | undefined;
  slurm: boolean;
  slurmArgs: string | undefined;
  hostProgram: string | undefined;
  parts: number | undefined;
  runDir: string | undefined;
  patience: number | undefined;
  journal: boolean | undefined;
  dryRun: boolean;
}

/** Who works; undefined: this process. `excluded`: options that can't be had then. Throws `USAGE` for what does not go together. */
export async function crewOf(
  given: Given,
  excluded: Readonly<Record<string, boolean>>,
  allocated: boolean,
): Promise<Crew | undefined> {
  const { workers, hosts, slurm, slurmArgs, hostProgram, parts, runDir, patience, journal, dryRun } = given;
  if (workers === undefined && hosts === undefined && !slurm) {
    const alone = {
      ...{ '--parts': parts, '--run-dir': runDir, '--patience': patience },
      ...{ '--host-program': hostProgram, '--slurm-args': slurmArgs },
    };
    for (const [name, value] of Object.entries(alone)) {
      if (value !== undefined) throw new BulkhaulError('USAGE', `${name} goes with --workers`);
    }
    return undefined;
  }
  for (const [name, isGiven] of Object.entries({ ...excluded, ...(slurm && { '--hosts': hosts !== undefined }) })) {
    if (isGiven) throw new BulkhaulError('USAGE', `${name} and --workers exclude each other`);
  }
  if (journal === false && runDir === undefined && !dryRun) {
    throw new BulkhaulError('USAGE', '--no-journal: the run has no place then; name one with --run-dir');
  }
  return {
    ...{ program: PROGRAM, version: version() },
    ...(workers !== undefined && { workers }),
    ...(hosts !== undefined && { hosts: await hostsOf(hosts) }),
    ...(slurm && { slurm: { args: wordsOf(slurmArgs ?? ''), allocated } }),
    ...(hostProgram !== undefined && { hostProgram }),
    ...(parts !== undefined && { parts }),
    ...(runDir !== undefined && { directory: runDir }),
    ...(patience !== undefined && { patience }),
  };
}

/** `A`, `A and B`, `A, B and C`. */
const named = (things: readonly string[]) => things.join(', ').replace(/, ([^,]*)$/, ' and $1');

/** Words with blanks between them, or a JSON array of words. */
function wordsOf(given: string): string[] {
  if (!given.startsWith('[')) return given.split(/\s+/).filter((word) => word !== '');
  try {
    const words: unknown = JSON.parse(given);
    if (Array.isArray(words) && words.every((word) => typeof word === 'string')) return words;
  } catch {
    // Said below.
  }
  throw new BulkhaulError('USAGE', `--slurm-args: no JSON array of words: ${given}`);
}

/** Hosts, from a file with one a line, or with commas between. Throws `USAGE` where there are none. */
async function hostsOf(given: string): Promise<string[]> {
  const path = given === '-' ? '/dev/stdin' : given;
  const text = existsSync(toBytes(path)) ? fromBytes(await contentOf('--hosts', path)) : given.replaceAll(',', '\n');
  const hosts = text.split('\n').map((line) => line.replace(/#.*/, '').trim());
  const named = hosts.filter((host) => host !== '');
  if (named.length === 0) throw new BulkhaulError('USAGE', `--hosts: there are no hosts in ${given || 'nothing'}`);
  return named;
}
