/**
 * One call of `compress_files`, its arguments read: one compression, and the original's lines for each file.
 *
 * Comes in: the call; goes out: the exit code: 0, 1 where a file is not compressed that was meant, 2 where there is no such
 * directory, 130. The lines (`OK`, `SKIP`, `WARN`, `ERROR`) go to standard error, as the original's do.
 */
import { lstatSync, statSync } from 'node:fs';
import { BulkhaulError } from '../../../error.js';
import type { EntryEvent, Event } from '../../../events.js';
import { display, toBytes } from '../../../names.js';
import type { Job } from '../../../ops/job.js';
import { conversionSummary, failureText } from '../../../report/summary.js';
import { ExitCode, sentenceOf } from '../../../verdict.js';
import { systemError } from '../../exit.js';
import { type CommonSettings, type Context, inUse, runJob, spillDirectory } from '../../run.js';
import { journaled, resourcesOf, settingsOf } from '../settings.js';
import type { CompressCall } from './flags.js';

/** Why a file that was meant is left alone, as people say it; what is not here was not meant. */
const WHY: Readonly<Record<string, string>> = {
  unchanged: 'destination exists, with the same content',
  compressed: 'it is compressed already',
  'not-smaller': 'its archive would not be smaller',
  'several-names': 'it has several names (hard links)',
  'in-use': 'this run writes it',
  vanished: 'it has vanished',
};

/** Runs a call. */
export async function run(call: CompressCall, streams: Context): Promise<number> {
  const { root, compression, values } = call;
  const { dry_run: dryRun, json, quiet } = values;
  const say = (line: string) => streams.stderr.write(`${line}\n`);
  const refuse = (refusal: { code: string; message: string }) => {
    if (streams.witness) streams.witness.refusal = refusal;
    say(`ERROR ${display(refusal.message)}`);
  };
  if (!statSync(toBytes(root), { throwIfNoEntry: false })?.isDirectory()) {
    refuse({ code: 'NO_SOURCE', message: `root directory does not exist: ${root}` });
    return ExitCode.usage;
  }
  const settings: CommonSettings = {
    ...settingsOf('compress_files', values, call.progress),
    exitCode: (report) => (report.complete ? 0 : report.interrupted ? ExitCode.interrupted : 1),
    // Each entry and each failure has its line here.
    ...{ dryRun: false, ownFailures: true },
  };
  // Lines come clear of the status row of a terminal.
  let clear: (body: () => Promise<void>) => unknown = (body) => body();
  const { compress } = await import('../../../ops/compress.js');
  const begin = (_: boolean, hush: typeof clear): Job => {
    clear = hush;
    return compress({
      sources: rooted(root),
      ...compression,
      ...{ keep: !values.remove, force: true, dryRun, entries: true },
      spillDirectory: spillDirectory(streams.env),
      ...inUse(settings, streams.env),
      ...resourcesOf(values, compression.jobs),
      ...journaled(values, streams.env),
    });
  };
  const listen = (event: Event) => {
    const line = lineOf(event, dryRun);
    if (line === undefined || json || (quiet && !/^(ERROR|WARN) /.test(line))) return;
    void clear(async () => void say(line));
  };
  try {
    const report = await runJob(begin, settings, streams, listen);
    if (!json && !(quiet && report.complete)) streams.stderr.write(conversionSummary(report, 'compress'));
    if (report.complete) return 0;
    if (json) say(`ERROR ${display(sentenceOf(report, 1))}`);
    return report.interrupted ? ExitCode.interrupted : 1;
  } catch (thrown) {
    const error = systemError(thrown);
    if (!(error instanceof BulkhaulError) || error.code === 'INTERNAL') throw error;
    refuse(error);
    return 1;
  }
}

/** A link that was named is followed, and its paths begin as it was named. */
function rooted(root: string): string {
  return lstatSync(toBytes(root)).isSymbolicLink() ? `${root}/` : root;
}

/** The line of the original for an event; none for what was not meant. */
function lineOf(event: Event, dryRun: boolean): string | undefined {
  switch (event.type) {
    case 'entry':
      return entryLine(event, dryRun);
    case 'error':
      return `ERROR ${failureText(event)}`;
    case 'note':
      return `WARN ${display(event.message)}${event.path === '' ? '' : ` (first at ${display(event.path)})`}`;
    default:
      return undefined;
  }
}

function entryLine({ outcome, reason = '', source, destination }: EntryEvent, dryRun: boolean): string | undefined {
  const name = display(source);
  if (outcome === 'copied') return `${dryRun ? 'DRY' : 'OK '}  ${name} -> ${display(destination)}`;
  if (outcome === 'removed')
    return `${dryRun ? 'DRY' : 'OK '}  ${name} removed: destination exists, with the same content`;
  const why = outcome === 'skipped' ? WHY[reason] : undefined;
  return why === undefined ? undefined : `SKIP ${name}: ${why}`;
}
