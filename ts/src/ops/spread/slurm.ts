/**
 * Workers of a run as an array of Slurm jobs.
 *
 * Comes in: a run directory that the nodes see, and how bulkhaul is begun there; goes out: an array that was submitted, and
 * whether anything of it is left. What the scheduler says of an end is not believed: a task that it takes for dead may go on,
 * and runs beside its successor. Only that nothing is left tells something, and then the states of the parts are looked at.
 */
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BulkhaulError } from '../../error.js';
import { toBytes } from '../../names.js';
import type { Command } from '../transfer/program.js';
import { ask, quoted } from '../transfer/ssh.js';
import type { RunDirectory } from './directory.js';

/** Seconds before the end of its time at which a task is told, so that it ends in good order. */
const NOTICE = 120;

/** The words that submit workers. `args`: more of sbatch's own. */
export function submission(directory: string, workers: number, args: readonly string[]): Command {
  return [
    'sbatch',
    ...['--parsable', `--array=0-${workers - 1}`, '--job-name=bulkhaul', '--open-mode=append'],
    // The batch shell is told, which the worker has taken the place of.
    `--signal=B:TERM@${NOTICE}`,
    `--output=${join(directory, 'logs', 'slurm.%A_%a')}`,
    ...args,
    join(directory, 'task.sh'),
  ];
}

/** The script of a task: it becomes a worker. A requeued one is another worker. */
function scriptOf(program: readonly string[], directory: string): string {
  const name = '"slurm-$SLURM_JOB_ID-$SLURM_RESTART_COUNT"';
  const index = '"$SLURM_ARRAY_TASK_ID"';
  const command = `${program.map(quoted).join(' ')} worker --name ${name} --index ${index} -- ${quoted(directory)}`;
  return `#!/bin/sh\nexec ${command}\n`;
}

export class SlurmArray {
  private constructor(readonly id: string) {}

  /** Submits workers. Throws `NO_START` with what sbatch said. */
  static async submit(
    { path }: RunDirectory,
    program: readonly string[],
    workers: number,
    args: readonly string[],
  ): Promise<SlurmArray> {
    const script = toBytes(join(path, 'task.sh'));
    writeFileSync(script, scriptOf(program, path));
    chmodSync(script, 0o700);
    const { code, stdout, stderr } = await ask(undefined, submission(path, workers, args));
    // `ID`, or `ID;CLUSTER`.
    const [, id] = /^(\d+)(?:;|$)/.exec(stdout.trim().split('\n').at(-1) ?? '') ?? [];
    if (code !== 0 || id === undefined)
      throw new BulkhaulError('NO_START', `sbatch ended with ${code}: ${stderr.trim() || stdout.trim()}`);
    writeFileSync(toBytes(join(path, 'slurm')), id);
    return new SlurmArray(id);
  }

  /** The one that an earlier coordinator has submitted, if something of it is left. */
  static async adopt({ path }: RunDirectory): Promise<SlurmArray | undefined> {
    const file = toBytes(join(path, 'slurm'));
    if (!existsSync(file)) return undefined;
    const array = new SlurmArray(readFileSync(file, 'utf8'));
    return (await array.isLeft()) ? array : undefined;
  }

  /** Whether any of it runs or waits. A controller that does not answer has not said that nothing does. */
  async isLeft(): Promise<boolean> {
    const { code, stdout, stderr } = await ask(undefined, ['squeue', '--noheader', '--jobs', this.id, '--format=%T']);
    if (code !== 0) return !/Invalid job id/i.test(stderr);
    return stdout.trim() !== '';
  }

  /** Nothing of it is needed any more: what runs is told to end. */
  async cancel(): Promise<void> {
    await ask(undefined, ['scancel', '--quiet', this.id]);
  }
}

/** The words before those of a worker in an allocation: one step for each. */
export const STEP = ['srun', '--ntasks=1', '--nodes=1', '--overlap', '--quiet'] as const;
