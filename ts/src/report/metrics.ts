/**
 * A run as metrics of Prometheus, in a file for the textfile collector of node_exporter: snapshots and the report in, the
 * whole file out, replaced at once. The format is text exposition 0.0.4.
 */
import { statSync } from 'node:fs';
import { BulkhaulError, whyOf } from '../error.js';
import type { Event, Report, Snapshot } from '../events.js';
import { display, toBytes } from '../names.js';
import { writeWhole } from '../whole.js';
import type { Reporter } from './reporter.js';

/** Milliseconds between two writes. */
const EVERY = 15_000;

/** What is known of a run; `exitCode`: it has ended. */
export interface Measured {
  readonly operation: string;
  /** Seconds since 1970. */
  readonly now: number;
  readonly snapshot?: Snapshot | undefined;
  readonly report?: Report | undefined;
  readonly exitCode?: number | undefined;
}

/** The text of the file. */
export function metricsText({ operation, now, snapshot, report, exitCode }: Measured): string {
  const ended = exitCode !== undefined;
  const metric = (name: string, help: string, value: number | undefined) =>
    value === undefined ? [] : family(name, help, [[{ operation }, value]]);
  const found = report && Object.values(report.found).reduce((sum, each) => sum + each, 0);
  const errors = report && Object.values(report.failureKinds).reduce((sum, each) => sum + each, 0);
  const outcomes = Object.entries(report?.outcomes ?? {}).map(
    ([outcome, count]) => [{ operation, outcome }, count] as const,
  );
  return [
    ...metric('running', 'Whether the run is at work.', ended ? 0 : 1),
    ...metric('updated_timestamp_seconds', 'When this was written.', now),
    ...metric('end_timestamp_seconds', 'When the run ended.', ended ? now : undefined),
    ...metric('exit_code', 'What the run ended with; 0: complete.', exitCode),
    ...metric('elapsed_seconds', 'How long the run has taken.', report?.elapsed ?? snapshot?.elapsed),
    ...metric(
      'entries_found',
      'Entries that the sources have, as far as they were looked at.',
      found ?? (snapshot && snapshot.foundFiles + snapshot.foundDirectories + snapshot.foundLinks),
    ),
    ...metric('entries_done', 'Entries that have their outcome.', report ? undefined : snapshot?.doneEntries),
    ...metric('bytes_found', 'Bytes that the sources have.', report?.foundBytes ?? snapshot?.foundBytes),
    ...metric('bytes_copied', 'Bytes that were copied.', report?.copiedBytes ?? snapshot?.copiedBytes),
    ...metric(
      'bytes_verified',
      'Bytes that were read back and compared.',
      report?.verifiedBytes ?? snapshot?.verifiedBytes,
    ),
    ...metric('failures', 'Entries that failed, vanished, changed or do not match.', errors ?? snapshot?.errors),
    ...metric('workers', 'Workers that are at work.', ended ? undefined : snapshot?.workers),
    ...(outcomes.length > 0 ? family('outcomes', 'Entries by what became of them.', outcomes) : []),
  ].join('');
}

type Sample = readonly [Readonly<Record<string, string>>, number];

function family(name: string, help: string, samples: readonly Sample[]): string[] {
  const full = `bulkhaul_${name}`;
  const lines = samples.map(([labels, value]) => {
    const inside = Object.entries(labels).map(([label, text]) => `${label}="${text}"`);
    return `${full}{${inside.join(',')}} ${value}\n`;
  });
  return [`# HELP ${full} ${help}\n`, `# TYPE ${full} gauge\n`, ...lines];
}

/** Replaces the file, as others read it now and then: what is no regular file is refused. Throws `OUTPUT`. */
export function writeMetrics(path: string, measured: Measured): void {
  try {
    if (!(statSync(toBytes(path), { throwIfNoEntry: false })?.isFile() ?? true)) {
      throw new BulkhaulError('OUTPUT', `${display(path)} is no regular file`);
    }
    writeWhole(path, [metricsText(measured)], false);
  } catch (error) {
    throw new BulkhaulError('OUTPUT', `the file of the metrics could not be written: ${whyOf(error)}`);
  }
}

/** Writes the file while a job runs. What becomes of the command is written by who knows it. */
export class Metrics implements Reporter {
  readonly every = EVERY;
  #error: BulkhaulError | undefined;

  /** Throws `USAGE` when the file can't be written. */
  constructor(
    readonly path: string,
    readonly operation: string,
  ) {
    try {
      writeMetrics(path, { operation, now: Date.now() / 1000 });
    } catch (error) {
      throw new BulkhaulError('USAGE', `--metrics-file: ${whyOf(error)}`, { cause: error });
    }
  }

  take(event: Event): void {
    if (event.type !== 'status') return;
    try {
      writeMetrics(this.path, { operation: this.operation, now: Date.now() / 1000, snapshot: event });
      this.#error = undefined;
    } catch (error) {
      this.#error = BulkhaulError.from(error);
    }
  }

  check(): void {
    if (this.#error) throw this.#error;
  }
}
