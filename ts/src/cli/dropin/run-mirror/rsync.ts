/**
 * The copy of `run-mirror` by the real rsync.
 *
 * Comes in: SRC and DST; goes out: a crew, and two jobs, one after the other: what is in SRC is written down, and that is
 * copied, so that each entry of it ends in one outcome. Nothing is kept of it: what was interrupted rsync finds by sizes and
 * times when it is run again.
 */
import { join } from 'node:path';
import { BulkhaulError } from '../../../error.js';
import type { Event, Report } from '../../../events.js';
import { isText, toBytes } from '../../../names.js';
import type { Job } from '../../../ops/job.js';
import { partition } from '../../../ops/partition.js';
import { Crew } from '../../../ops/transfer/crew.js';
import { gather } from '../../../ops/transfer/planned.js';
import { rsync } from '../../../ops/transfer/rsync.js';
import { ask } from '../../../ops/transfer/ssh.js';
import { transfer } from '../../../ops/transfer.js';
import { real, ruleOf, within } from '../../../ops/within.js';

/** A copy, as asked for. */
export interface RsyncCopy {
  source: string;
  destination: string;
  /** Runs of rsync at a time. */
  jobs: number;
  /** Bytes a second; 0: no limit. */
  limit: number;
  dryRun: boolean;
  /** Files and directories that are left out, where they are in SRC. */
  inUse: readonly string[];
  /** A directory for lists, which nobody else uses. */
  scratch: string;
  /** A directory for what memory should not hold. */
  spillDirectory: string;
  /** Runs the job that looks through SRC, and says what went wrong. */
  look(begin: () => Job, listen: (event: Event) => void): Promise<Report>;
  /** Runs the job that copies, and says what it came to. */
  copy(begin: (entries: boolean) => Job): Promise<Report>;
  note(message: string): void;
}

const TOOL = rsync({ hardLinks: false });

/** Whoever copies; DST is there then. Throws what keeps rsync from it, before anything is read. */
export async function muster({ source, destination, dryRun, note }: RsyncCopy): Promise<Crew> {
  for (const [name, path] of Object.entries({ SRC: source, DST: destination })) {
    if (!isText(path)) throw new BulkhaulError('USAGE', `${name} ${path} is not UTF-8: rsync can't be given it`);
  }
  const [from, to] = [real(source), real(destination)];
  if (from === to || within(from, to) !== undefined) {
    const where = from === to ? 'SRC itself' : `in SRC ${source}`;
    throw new BulkhaulError('SAFETY', `DST ${destination} is ${where}`);
  }
  const here = { sourceHosts: [], destinationHosts: [], cloud: false, config: undefined };
  return Crew.muster({ source, destination, tool: TOOL, dryRun, ...here }, note);
}

/** Copies. Whether what it came to is whole is for whoever ran the jobs. */
export async function copyWithRsync(crew: Crew, options: RsyncCopy): Promise<void> {
  const { source, destination, jobs, limit, dryRun, scratch, spillDirectory, note } = options;
  const own = options.inUse.flatMap((path) => within(real(source), real(path)) ?? []);
  const lists: string[] = [];
  const looked = await options.look(
    () =>
      partition({
        sources: source.replace(/\/*$/, '/'),
        parts: jobs,
        exclude: own.map((path) => toBytes(ruleOf(path))),
        format: 'jsonl',
        template: join(scratch, 'listed'),
        replace: true,
        spillDirectory,
      }),
    (event) => {
      if (event.type === 'part' && event.path !== undefined) lists[event.number - 1] = event.path;
    },
  );
  if (looked.interrupted || !looked.accounted) return;
  const { parts, found, hardLinks } = await gather({ lists, entries: looked.parts?.entries }, 'all', (number) =>
    join(scratch, `part.${number}`),
  );
  if (hardLinks) note('there are hard links, which rsync -a makes copies of');
  const copied = await options.copy((entries) =>
    transfer({ source, destination, tool: TOOL, crew, parts, jobs, found, scratch, limit, dryRun, entries }),
  );
  if (dryRun || copied.interrupted) return;
  // What is not on disk yet can't be read from there.
  const { code, stderr } = await ask(undefined, ['sync', '-f', '--', destination]);
  if (code !== 0) note(`sync -f ended with ${code}: ${stderr.trim()}`);
}
