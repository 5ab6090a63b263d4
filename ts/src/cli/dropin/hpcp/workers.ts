/** How many worker threads `hpcp` asks for: its flags in, a number out. */
import { availableParallelism } from 'node:os';
import type { HpcpValues } from './flags.js';

/** Worker threads at most, as the engine has it. */
const MOST = 1024;

/** undefined: the engine's own choice, one per CPU that it may use. */
export function workers(
  { single_thread, jobs, max_workers }: Pick<HpcpValues, 'single_thread' | 'jobs' | 'max_workers'>,
  cpus = availableParallelism(),
): number | undefined {
  if (single_thread) return 1;
  const asked = jobs ?? (max_workers === undefined ? undefined : resolve(max_workers, cpus));
  return asked === undefined ? undefined : Math.min(asked, MOST);
}

/** -N: N times the CPUs; 0: half of them, rounded as Python rounds, but one at least. */
function resolve(wanted: number, cpus: number): number {
  if (wanted > 0) return wanted;
  if (wanted < 0) return -wanted * cpus;
  const half = cpus / 2;
  const even = half % 1 === 0.5 ? 2 * Math.round(half / 2) : Math.round(half);
  return Math.max(1, even);
}
