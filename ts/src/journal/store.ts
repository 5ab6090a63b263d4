/**
 * The jobs of a state directory.
 *
 * Comes in: the directory; goes out: its jobs, with what each is and how it stands. Those that are done and that nobody
 * keeps are removed; one that can be gone on with never is.
 */
import { mkdirSync, statSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { BulkhaulError } from '../error.js';
import { fromBytes, toBytes } from '../names.js';
import { jobDirectory, journalPath, leasePath } from './identity.js';
import { type Holder, holderOf, type Life } from './lease.js';
import { type Glance, glance } from './reader.js';
import type { Counts, EndRecord, Operation, ProgressRecord } from './record.js';

/** Milliseconds after which a job that is done is forgotten. */
const LIFE = 90 * 24 * 3600 * 1000;

/** Makes a directory and what is missing above it. Node's own way never ends where a name can't be made, as in /proc. */
export function makeDirectories(path: string, mode = 0o700): void {
  const make = () => mkdirSync(toBytes(path), mode);
  try {
    make();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return;
    if (code !== 'ENOENT' || dirname(path) === path) throw error;
    makeDirectories(dirname(path), mode);
    make();
  }
}

/** How a job stands. `interrupted`: it did not come to its end, and can be gone on with. `damaged`: its journal is. */
export type JobState = 'running' | 'interrupted' | 'failed' | 'done' | 'damaged';

/** A job, at a glance. */
export interface JobSummary extends Counts {
  /** What it is called. */
  id: string;
  /** How it stands. */
  state: JobState;
  /** What is done. Absent where the journal does not tell. */
  operation: Operation | undefined;
  /** What it reads, removes or compares. */
  sources: string[];
  /** Where to. */
  destinations: string[];
  /** Times that it was run. */
  attempts: number;
  /** When the last run began; ISO 8601. Absent where the journal does not tell. */
  begun: string | undefined;
  /** When it was last heard of; ISO 8601. Absent where the journal does not tell. */
  heard: string | undefined;
  /** Who is at work on it. Absent: nobody. */
  holder: Pick<Holder, 'host' | 'process'> | undefined;
  /** The number that its last run ended with, as in `ExitCode`. Absent where it did not come to its end. */
  exitCode: number | undefined;
  /** Its verdict. Absent where it has none. */
  sentence: string | undefined;
  /** Its journal. */
  path: string;
  /** Where its workers know each other. Absent: it has none. */
  runDirectory?: string;
}

export function stateOf({ end }: Pick<Glance, 'end' | 'job' | 'written'>, holder: Holder | undefined): JobState {
  return holder !== undefined ? 'running' : (end?.state ?? 'interrupted');
}

async function namesIn(state: string): Promise<string[]> {
  const names = await readdir(toBytes(join(state, 'jobs')), { encoding: 'buffer' }).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      throw error;
    },
  );
  return names.map(fromBytes);
}

/** All jobs, those that were heard of last first. */
export async function jobsIn(state: string, addon: Life): Promise<JobSummary[]> {
  const jobs: JobSummary[] = [];
  for (const id of await namesIn(state)) {
    const job = await jobIn(state, id, addon);
    if (job !== undefined) jobs.push(job);
  }
  return jobs.sort((a, b) => ((a.heard ?? '') < (b.heard ?? '') ? 1 : -1));
}

/** One job; undefined where there is none of this name. */
async function jobIn(state: string, id: string, addon: Life): Promise<JobSummary | undefined> {
  const path = journalPath(state, id);
  const none: JobSummary = {
    ...{ id, state: 'damaged', operation: undefined, sources: [], destinations: [], attempts: 0, begun: undefined },
    ...{ heard: undefined, holder: undefined, exitCode: undefined, sentence: undefined, path },
    ...{ entries: 0, bytes: 0, copiedBytes: 0, errors: 0 },
  };
  let seen: Glance;
  try {
    seen = glance(path);
  } catch (error) {
    if (error instanceof BulkhaulError) return { ...none, sentence: error.message };
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
  const { job, attempt, end, progress, written } = seen;
  const holder = await holderOf(leasePath(state, id), addon);
  const { entries, bytes, copiedBytes, errors, expectedEntries, expectedBytes } = end ?? progress ?? none;
  return {
    id,
    state: stateOf(seen, holder),
    operation: job.operation,
    ...placesOf(job.options),
    ...(job.operation === 'spread' && { runDirectory: runOf(job.options) ?? join(jobDirectory(state, id), 'run') }),
    attempts: attempt?.number ?? end?.attempt ?? progress?.attempt ?? 1,
    begun: attempt?.time ?? beginningOf(end ?? progress),
    heard: new Date(written).toISOString(),
    holder: holder && { host: holder.host, process: holder.process },
    exitCode: end?.exitCode,
    sentence: end?.sentence,
    path,
    entries,
    bytes,
    copiedBytes,
    errors,
    ...(expectedEntries !== undefined && { expectedEntries }),
    ...(expectedBytes !== undefined && { expectedBytes }),
  };
}

/** When the attempt began that this is about. */
function beginningOf(record: EndRecord | ProgressRecord | undefined): string | undefined {
  return record && new Date(Date.parse(record.time) - record.elapsed * 1000).toISOString();
}

/** The run directory that was named. */
function runOf({ directory }: Record<string, unknown>): string | undefined {
  return typeof directory === 'string' ? directory : undefined;
}

/** What a job works on, of its options as they are kept. */
function placesOf(options: Record<string, unknown>): Pick<JobSummary, 'sources' | 'destinations'> {
  const texts = (value: unknown): string[] => {
    if (typeof value === 'string') return [value];
    if (Array.isArray(value)) return value.flatMap(texts);
    if (typeof value !== 'object' || value === null) return [];
    const { path, contents } = value as { path?: unknown; contents?: unknown };
    return typeof path === 'string'
      ? [contents === true && !path.endsWith('/') ? `${path}/` : path]
      : texts(Object.values(value));
  };
  const { sources, source, paths, place, left, manifests, directory } = options;
  const { destinations, destination, output, right } = options;
  return {
    sources: texts(sources ?? source ?? paths ?? place ?? left ?? [manifests, directory]),
    destinations: texts(destinations ?? destination ?? output ?? right),
  };
}

/** Removes what is done of the jobs beyond the last so many, and of those that are old. Nothing else is looked into. */
export async function prune(state: string, keep: number, addon: Life): Promise<void> {
  const heard = (id: string) => statSync(toBytes(journalPath(state, id)), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const jobs = (await namesIn(state)).map((id) => ({ id, heard: heard(id) })).sort((a, b) => b.heard - a.heard);
  const now = Date.now();
  for (const { id } of jobs.filter(({ heard }, index) => index >= keep || now - heard > LIFE)) {
    const job = await jobIn(state, id, addon);
    if (job?.state !== 'done') continue;
    await rm(toBytes(jobDirectory(state, id)), { recursive: true, force: true });
  }
}
