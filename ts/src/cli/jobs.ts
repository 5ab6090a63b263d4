/**
 * What `status`, `report` and `resume` share: the state directory, and which job is meant.
 *
 * Comes in: the name of a job, its run directory, or none; goes out: the job. What is not there throws `JOURNAL`, and says what is.
 */
import { resolve } from 'node:path';
import { BulkhaulError } from '../error.js';
import type { JobSummary } from '../journal/store.js';
import { jobs } from '../resume.js';

/** The state directory. Throws `USAGE` where there is none. */
export function needed(directory: string | undefined): string {
  if (directory !== undefined) return directory;
  throw new BulkhaulError('USAGE', 'there is no home directory where jobs could be; name the place with --state-dir');
}

/** The job of this name, or the one that was heard of last of those that `fits`. */
export async function meant(
  directory: string,
  name: string | undefined,
  fits: (job: JobSummary) => boolean,
): Promise<JobSummary> {
  const all = await jobs(directory);
  const run = name && resolve(name);
  const found =
    name === undefined ? all.filter(fits) : all.filter((job) => job.id === name || job.runDirectory === run);
  const [first] = found;
  if (first !== undefined) return first;
  const known = all.slice(0, 5).map(({ id, state }) => `${id} (${state})`);
  const there = known.length > 0 ? `; there are ${known.join(', ')}${all.length > known.length ? ', …' : ''}` : '';
  const what = name === undefined ? 'no job that could be meant' : `no job ${name}`;
  throw new BulkhaulError('JOURNAL', `there is ${what} in ${directory}${there}`);
}
