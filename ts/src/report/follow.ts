/**
 * Drives reporters over the events of one job.
 *
 * Comes in: which reporters, and the streams; goes out: the report. Opening comes before the job is begun, so that a log
 * file that cannot be opened stops nothing half-way.
 */
import type { Writable } from 'node:stream';
import { BulkhaulError } from '../error.js';
import type { Event, JobEvent, Report, Snapshot } from '../events.js';
import type { Job } from '../ops/job.js';
import { sentenceOf } from '../verdict.js';
import type { FailureSettings, Failures } from './failures.js';
import type { Origin } from './log.js';
import { Output } from './output.js';
import { Progress, resumedText, statusLine, stoppingText } from './progress.js';
import type { Reporter } from './reporter.js';
import type { Serve, ServeSettings } from './serve.js';
import type { Terminal } from './terminal.js';

export interface ReportSettings {
  stdout: Writable;
  stderr: Writable & { columns?: number };
  /** The status: a line redrawn, whole lines, or JSON lines, on stderr; with `json` the last goes to stdout. */
  progress: 'tty' | 'plain' | 'json' | 'none';
  /** Milliseconds between status lines, for `plain` and `json`; 0: none. */
  every: number;
  /** Every event as a JSON line on stdout. */
  json: boolean;
  /** With `json`: the summary only. */
  quiet: boolean;
  /** Entries as itemised lines on stdout; not with `json`. */
  itemize: boolean;
  color: boolean;
  logFile?: string | undefined;
  /** A step beside the work, in a word for its status; with `json` nothing else is told of it. */
  aside?: string | undefined;
  /** Where a browser can look; absent: nowhere. */
  serve?: ServeSettings | undefined;
  /** The file of the metrics, and what they are of. */
  metrics?: { path: string; operation: string } | undefined;
  /** What a log begins with. */
  origin: Origin;
  /** Failures as they happen, and where all of them go; absent: nowhere. */
  failures?: FailureSettings | undefined;
  /** What the command ends with for a report, where that is not what the report says. */
  exitCode?: ((report: Report) => number) | undefined;
}

/** Who is told each event of a job beside its reporters, and before them. */
export type Listener = (event: JobEvent) => void;

/** Opened reporters, for one job. */
export interface Follower {
  /** Gives the events of a job, just begun, to `listen` and the reporters, to its end. Throws what they or the job throw. */
  follow(job: Job, listen?: Listener): Promise<Report>;
  /** The whole line of a status, whatever there is room for. */
  status(snapshot: Snapshot): string;
  /** What a job that was told to stop waits for. */
  stopping(snapshot: Snapshot): string;
  /** Writes a line to stderr, clear of the status line. */
  say(line: string): void;
  /** Shows no status while `body` has the terminal. */
  hush<T>(body: () => Promise<T>): Promise<T>;
}

/** Opens the reporters. Throws `USAGE` when the log file cannot be opened. */
export async function openReporters(settings: ReportSettings): Promise<Follower> {
  const lost = new AbortController();
  const stdout = new Output(settings.stdout, () => lost.abort());
  // Nobody is left to be told when stderr is gone: the job goes on.
  const stderr = new Output(settings.stderr, () => undefined);
  const reporters: Reporter[] = [];
  const every = settings.every > 0 ? settings.every : undefined;
  let terminal: Terminal | undefined;
  // One for all: who asks seldom is answered with what the others have learnt.
  const progress = new Progress(settings.aside);

  if (settings.logFile !== undefined) {
    reporters.push(new (await import('./log.js')).Log(settings.logFile, settings.origin));
  }
  if (settings.metrics !== undefined) {
    const { Metrics } = await import('./metrics.js');
    reporters.push(new Metrics(settings.metrics.path, settings.metrics.operation));
  }
  if (settings.json) {
    const all: Event['type'][] = settings.aside !== undefined ? [] : ['entry', 'part', 'error', 'note', 'summary'];
    const types: Event['type'][] = settings.quiet ? all.filter((type) => type === 'summary') : ['status', ...all];
    const status = settings.progress === 'json' && !settings.quiet ? every : undefined;
    reporters.push(new (await import('./json.js')).Json(stdout, types, progress, status));
  } else if (settings.progress === 'json' && every !== undefined) {
    reporters.push(new (await import('./json.js')).Json(stderr, ['status', 'error'], progress, every));
  }
  if (settings.progress === 'tty') {
    terminal = new (await import('./terminal.js')).Terminal(settings.stderr, settings.color, progress);
    reporters.push(terminal);
  } else if (settings.progress === 'plain' && every !== undefined) {
    reporters.push(new (await import('./plain.js')).Plain(stderr, every, progress));
  }
  if (settings.itemize && !settings.json) {
    reporters.push(new (await import('./itemize.js')).Itemize(stdout, () => terminal?.hide()));
  }

  const say = (line: string) => {
    terminal?.hide();
    stderr.write(`${line}\n`);
  };
  let followed: Job | undefined;
  let failures: Failures | undefined;
  if (settings.failures) {
    failures = new (await import('./failures.js')).Failures(
      settings.failures,
      say,
      () => settings.logFile ?? followed?.failureFile,
      !settings.json && settings.progress !== 'json',
    );
    reporters.push(failures);
  }
  let served: Serve | undefined;
  if (settings.serve) {
    served = await (await import('./serve.js')).Serve.open(settings.serve, progress);
    reporters.push(served);
    say(`to be watched at ${served.address}`);
  }
  let hushed = false;
  const hush = async <T>(body: () => Promise<T>) => {
    terminal?.hide();
    hushed = true;
    try {
      return await body();
    } finally {
      hushed = false;
    }
  };
  const follow = async (job: Job, listen?: Listener) => {
    followed = job;
    served?.attach(job);
    const speaks = !settings.json && !settings.quiet && settings.progress !== 'json';
    job.journal().then(
      (journal) => {
        if (journal?.earlier === undefined) return;
        progress.resume(journal.earlier);
        if (speaks) say(resumedText(journal.earlier));
      },
      // The job itself rejects with it.
      () => undefined,
    );
    lost.signal.addEventListener('abort', () => job.cancel(), { once: true });
    const finish = (report: Report): Report => {
      // The order of the keys is always the same.
      const { job: name, failureFile, ...rest } = report;
      const kept = failures?.path ?? failureFile;
      return {
        ...rest,
        ...(settings.exitCode && { exitCode: settings.exitCode(report) }),
        ...(failures?.note && { notes: [...report.notes, failures.note] }),
        ...(kept !== undefined && { failureFile: kept }),
        ...(name !== undefined && { job: name }),
      };
    };
    const report = await drive(job, reporters, () => hushed, finish, listen);
    stdout.check('standard output');
    try {
      for (const reporter of reporters) reporter.check?.();
    } catch (error) {
      // What the run came to is not lost with its log.
      const { code, message } = BulkhaulError.from(error);
      throw new BulkhaulError(code, `${message}; the run itself: ${sentenceOf(report)}`, { cause: error });
    }
    return report;
  };
  const status = (snapshot: Snapshot) => statusLine(progress.update(snapshot));
  return { follow, status, stopping: stoppingText, say, hush };
}

async function drive(
  job: Job,
  reporters: readonly Reporter[],
  hushed: () => boolean,
  /** Adds to the report what is known of it here. */
  finish: (report: Report) => Report,
  listen: Listener | undefined,
): Promise<Report> {
  const timers = reporters.flatMap((reporter) => {
    if (reporter.every === undefined) return [];
    const tick = () => {
      if (!hushed()) void reporter.take({ type: 'status', ...job.snapshot() });
    };
    // Not what keeps the process alive: that is the job.
    return setInterval(tick, reporter.every).unref();
  });
  try {
    for await (const given of job) {
      const event: JobEvent = given.type === 'summary' ? { ...finish(given), type: 'summary' } : given;
      listen?.(event);
      for (const reporter of reporters) {
        const ready = reporter.take(event);
        if (ready) await ready;
      }
    }
    return finish(await job);
  } catch (thrown) {
    const error = BulkhaulError.from(thrown);
    // When a reporter threw, nobody watches any more: the job stops, and has stopped when this returns.
    job.cancel(true);
    await job.then(undefined, () => undefined);
    for (const reporter of reporters) await reporter.refused?.(error);
    throw error;
  } finally {
    for (const timer of timers) clearInterval(timer);
    for (const reporter of reporters) reporter.close?.();
  }
}
