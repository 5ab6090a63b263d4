/**
 * Manifests, verifications, removals and compressions by parts: what comes when their parts are done.
 *
 * Comes in: a task, and the books of its parts; goes out: one report. Of a task that has a whole (`task.ts`) this is the report
 * of it, with what the parts have done; of one that has none it is what their states come to.
 */

import { BulkhaulError } from '../../error.js';
import { type PathLike, toBytes } from '../../names.js';
import type { NativeReport } from '../../native/events.js';
import type { Resources } from '../../native/options.js';
import { common, pathBytes } from '../arguments.js';
import { Job } from '../job.js';
import type { Operation, Run, Stage } from './operation.js';
import { removalCheck, type Task, wholeJob } from './task.js';

/** What only the end has to know. */
export interface Ending extends Resources {
  output?: PathLike;
  extra?: boolean;
  entries?: boolean;
}

export class Whole implements Operation {
  readonly ranges = false;
  readonly kept: Operation['kept'];
  readonly phase: Operation['phase'];

  constructor(
    readonly task: Task,
    readonly ending: Ending,
  ) {
    this.kept = { destination: '', terms: {}, task };
    this.phase = { manifest: 'scanning', verify: 'scanning', remove: 'removing', compress: 'copying' }[
      task.operation
    ] as Operation['phase'];
  }

  get sync(): NativeReport['sync'] {
    return this.task.operation === 'compress' ? 'all' : 'none';
  }

  get below(): boolean {
    return this.task.operation !== 'manifest';
  }

  get writes(): boolean {
    return this.task.operation === 'compress';
  }

  get replaces(): boolean {
    return false;
  }

  get reads(): boolean {
    return this.task.operation === 'manifest' || this.task.operation === 'verify';
  }

  get tellsAll(): boolean {
    return this.task.operation !== 'compress';
  }

  passes(): { bytes: number; entries: number } {
    return { bytes: this.task.operation === 'remove' ? 0 : 1, entries: 1 };
  }

  async check(_: Run, include: Stage['include']): Promise<void> {
    const { task } = this;
    if (task.operation === 'remove') await include(new Job(async () => ({ native: await removalCheck(task) })));
  }

  async prepare(): Promise<string | undefined> {
    return this.reads ? undefined : this.task.source;
  }

  async finish(stage: Stage): Promise<NativeReport> {
    const { task } = this;
    return task.operation === 'compress' ? this.#sum(stage) : this.#tell(task, stage);
  }

  async #sum(stage: Stage): Promise<NativeReport> {
    const { books, plan } = stage;
    if (!stage.stopping()) await books.giveUp();
    books.leaveDirectories(plan.found.directory);
    return this.#report(stage);
  }

  #report(stage: Stage): NativeReport {
    const { workers, books } = stage;
    return books.report({ interrupted: stage.stopping(), workers, elapsed: stage.elapsed(), sync: this.sync });
  }

  async #tell(task: Exclude<Task, { operation: 'compress' }>, stage: Stage): Promise<NativeReport> {
    const { books, directory, run } = stage;
    const { output, extra, entries, ...pace } = this.ending;
    const { exclude = [], oneFileSystem = false, inUse = [], spillDirectory } = run;
    if (stage.stopping()) return this.#report(stage);
    if (task.operation === 'remove' && !stage.leads())
      throw new BulkhaulError('JOURNAL', `somebody else coordinates the run in ${run.path}: nothing more was removed`);
    if (books.left > 0) {
      const does = task.operation === 'remove' ? 'removed' : 'read';
      books.note(
        'run',
        `no worker has brought ${books.left} of ${books.parts} parts to an end: what is in them is ${does} here`,
      );
    }
    const native = await wholeJob(task, directory.foundByAll(), {
      ...{ ...pace, exclude: exclude.map(pathBytes), oneFileSystem },
      ...{ inUse: [...inUse.map(pathBytes), toBytes(run.path)] },
      ...(output !== undefined && { output: pathBytes(output) }),
      ...(extra !== undefined && { extra }),
      ...common({ spillDirectory, entries }),
    });
    stage.enter('closing');
    const report = await stage.tell(native);
    const proves = task.operation === 'verify';
    return {
      ...books.joined(report, { files: proves ? report.resumedFiles : 0, bytes: proves ? report.resumedBytes : 0 }),
      ...{ resumedFiles: 0, resumedBytes: 0, workers: stage.workers, elapsed: stage.elapsed() },
    };
  }
}
