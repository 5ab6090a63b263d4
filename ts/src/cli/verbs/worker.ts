/** `bulkhaul worker`: works on the parts of a run; what it has to say goes to standard error. */
import type { Readable } from 'node:stream';
import { BulkhaulError } from '../../error.js';
import { display } from '../../names.js';
import { CarriedRun } from '../../ops/spread/carried.js';
import { answer as answerOf } from '../../ops/spread/check.js';
import { RunDirectory } from '../../ops/spread/directory.js';
import { Worker, type WorkerOptions } from '../../ops/spread/worker.js';
import { ExitCode } from '../../verdict.js';
import { answer } from '../answer.js';
import { BareCommand } from '../base.js';
import { flag, number, operands, value } from '../options.js';
import { Command } from '../parser.js';
import { version } from '../version.js';

export class WorkerCommand extends BareCommand {
  static override paths = [['worker']];
  static override readonly idle = {
    '--json': 'a worker has nothing to print: status tells how far its run is',
    '--state-dir': 'all that a worker knows is in the run directory',
  };
  static override usage = Command.Usage({
    description: 'Work on the parts of a run that --workers has begun',
    details: `
      Takes parts of the run in RUN, one at a time, does what the run does with what is in them, and writes down what came of it, until
      there are none left. \`copy\`, \`manifest\`, \`verify\`, \`remove\` and \`compress\` with \`--workers\` begin their workers themselves; more of them
      may be begun by hand at any time, on every host that sees RUN, the source and the destination under the same paths.
      To hosts that do not see RUN it is carried by the connection that began their workers.

      The first SIGTERM or SIGINT ends it in good order, the second at once: what it was at goes to another worker.

      Exit codes: 0 no part is left, 2 usage or it can't work here, 23 nothing moved any more (--stall-timeout), 130 it was
      stopped.
    `,
    examples: [
      ['One more worker for a run', '$0 worker --name extra ~/.local/state/bulkhaul/jobs/spread-5f0c1a9e/run'],
    ],
  });

  name = value('--name', {
    ...{ group: 'how', value: 'NAME', default: 'a new one' },
    help: 'What it is called in the run: letters, digits, . _ and -; no other worker has the name',
  });
  index = number('--index', 0, 1_000_000, {
    ...{ group: 'how', value: 'N', default: '0' },
    help: 'Which worker it is, from 0: each begins with a share of its own',
  });
  check = flag('--check', {
    group: 'how',
    help: 'Only look whether this host sees what a run needs, which standard input says in JSON, and print that as JSON',
  });
  attached = flag('--attached', {
    group: 'how',
    help: 'End in good order when standard input does, as whoever began it dies or goes',
  });
  carried = flag('--carried', {
    group: 'how',
    help: 'As --attached; RUN is where whoever began it is, who answers on standard input what it asks on standard output',
  });
  operands = operands('RUN', 1, 1);

  async execute(): Promise<number> {
    if (this.check) {
      await answer(this.context.stdout, await answerOf(await textOf(this.context.stdin), version()));
      return ExitCode.complete;
    }
    const { context, attached, carried, index = 0, name = `by-hand-${process.pid}-${Date.now().toString(36)}` } = this;
    if (!/^\w[\w.-]*$/.test(name) || /\.(?:over|new)$/.test(name)) {
      throw new BulkhaulError('USAGE', `--name: ${display(name)} is none that a worker can have`);
    }
    const say = (sentence: string) => void context.stderr.write(`${new Date().toISOString()} ${sentence}\n`);
    const directory = this.operands[0] ?? '';
    let worker: Worker | undefined;
    let stopping = false;
    let aborting = false;
    const stop = (why: string, abort = stopping) => {
      say(`${why}: ${abort ? 'aborting' : 'finishing what is at hand'}`);
      aborting = abort;
      stopping = true;
      worker?.stop(abort);
    };
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
    const onSignal = (signal: string) => stop(signal);
    const onData = (said: Buffer | string) => stop('told to stop', stopping || said.includes('abort'));
    const onEnd = () => stop('whoever began it is gone', true);
    const connection = carried
      ? await CarriedRun.open(context.stdin, context.stdout, { order: onData, lost: (why) => stop(why, true) })
      : undefined;
    const run: WorkerOptions['run'] = connection ?? new RunDirectory(directory);
    for (const signal of signals) process.on(signal, onSignal);
    if (attached && !carried) context.stdin.on('data', onData).on('end', onEnd).on('error', onEnd);
    try {
      const plan = await run.plan();
      if (plan === undefined) throw new BulkhaulError('JOURNAL', `there is no run to work on in ${display(directory)}`);
      worker = new Worker({ run, name, index, say }, plan);
      if (stopping) worker.stop(aborting);
      const end = await worker.run();
      return {
        ...{ done: ExitCode.complete, stopped: ExitCode.interrupted },
        ...{ unfit: ExitCode.usage, stalled: ExitCode.failed },
      }[end];
    } catch (error) {
      // Whoever began it may begin another one.
      if (connection?.isGone) return ExitCode.interrupted;
      throw error;
    } finally {
      for (const signal of signals) process.off(signal, onSignal);
      connection?.close();
      if (attached || carried) {
        context.stdin.off('end', onEnd);
        context.stdin.destroy();
      }
    }
  }
}

/** All that a stream brings. */
async function textOf(stream: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}
