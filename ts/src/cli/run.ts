/**
 * What all commands share once their arguments are read: the common settings, errors as text, and running a job with
 * signals and reporters.
 *
 * The environment is read here and nowhere below.
 */
import { accessSync, constants, mkdirSync } from 'node:fs';
import { hostname } from 'node:os';
import { basename, dirname, isAbsolute, join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { BulkhaulError, whyOf } from '../error.js';
import type { Report } from '../events.js';
import { display, toBytes } from '../names.js';
import type { JournalSettings } from '../ops/arguments.js';
import type { Job } from '../ops/job.js';
import type { FailureSettings } from '../report/failures.js';
import type { Follower, Listener, ReportSettings } from '../report/follow.js';
import type { Origin } from '../report/log.js';
import type { ServeSettings } from '../report/serve.js';
import type { FlagNames } from '../report/summary.js';
import { ExitCode } from '../verdict.js';
import { answer } from './answer.js';
import type { Witness } from './ended.js';
import { version } from './version.js';

export const PROGRESS = ['auto', 'tty', 'plain', 'json', 'none'] as const;
type ProgressForm = (typeof PROGRESS)[number];

/** How this program is begun again, as a command. */
export const PROGRAM = [process.execPath, fileURLToPath(new URL('./main.js', import.meta.url))] as const;

/** Seconds between status lines off a terminal, and between JSON status lines. */
const PLAIN_INTERVAL = 30;
const JSON_INTERVAL = 1;

/**
 * Milliseconds from the second signal on in which a command may end by itself. The engine leaves threads behind that do
 * not come back; what else may hold a command is whoever reads its output.
 */
const ABORT_GRACE = 1750;

/** The common options, checked. */
export interface CommonSettings {
  dryRun: boolean;
  /** JSON lines on standard output, and no text for people there. */
  json: boolean;
  /** The form of the status: see `--progress`. */
  progress: ProgressForm;
  quiet: boolean;
  /** Itemised lines on standard output. A dry run has them without it. */
  verbose: boolean;
  logFile?: string | undefined;
  /** Seconds without any progress after which a job is given up; 0: never. */
  stallTimeout?: number | undefined;
  /** Seconds after which a job is stopped as by a first signal. */
  maxDuration?: number | undefined;
  /** Where a browser can look at the job: `[HOST:]PORT`, and whether it can be changed from there. */
  serve?: { address: string; control: boolean } | undefined;
  /** The name before each failure that is shown as it happens; absent: the product's. */
  label?: string;
  /** What its options are called, where a failure may lack one. */
  flags?: FlagNames;
  /**
   * A step before or beside the work, in a word for its status: its failures are not shown and not kept, and it has no
   * summary; whoever takes it tells what came of it.
   */
  aside?: string;
  /** Failures are shown by whoever listens. */
  ownFailures?: boolean;
  /** The file of the metrics, and what they are of. */
  metrics?: { path: string; operation: string } | undefined;
  /** What the command ends with, where that is not what the report says. */
  exitCode?: (report: Report) => number;
}

/** A job that was begun before, and the state directory that it is in. */
export interface GoesOn {
  readonly id: string;
  readonly directory: string;
}

/** The streams and the environment of a command. */
export interface Context {
  stdin: Readable;
  stdout: Writable;
  stderr: Writable;
  env: NodeJS.ProcessEnv;
  /** Learns what becomes of the command. */
  witness?: Witness | undefined;
  /** Is told each job of a command that keeps the journal of them all. */
  follow?: ((job: Job) => void) | undefined;
  /** The job that the command goes on with. */
  goesOn?: GoesOn | undefined;
  /** Runs the words of a command, which go on with a job. */
  again?: ((words: readonly string[], goesOn: GoesOn) => Promise<number>) | undefined;
}

/** What a job is shown with. */
type Outputs = Omit<Context, 'stdin'>;

/** `LABEL: message`, names in it escaped; a defect comes with its stack. */
export function errorText(error: unknown, label = 'bulkhaul'): string {
  if (error instanceof BulkhaulError && error.code !== 'INTERNAL') {
    return `${label}: ${display(error.message)}\n`;
  }
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return `${label}: this is a defect of bulkhaul: ${stack.split('\n').map(display).join('\n')}\n`;
}

/**
 * Runs a job under the common settings to its report: opens the reporters first (what cannot be opened throws before
 * anything is begun), calls `begin` (with true when the job is to deliver entry events, and what keeps the status away
 * from a question), shows what goes on and what fails, keeps all failures in a file, tells `listen` each event before it is
 * shown, and minds the signals: the first SIGINT, SIGTERM or SIGHUP finishes what is in flight and ends soon, the second
 * aborts and ends the process within two seconds, SIGUSR1 prints the status.
 * Prints no summary for people: that is the command's own.
 */
export async function runJob(
  begin: (entries: boolean, hush: Follower['hush']) => Job,
  settings: CommonSettings,
  context: Outputs,
  listen?: Listener,
): Promise<Report> {
  const { witness } = context;
  try {
    const report = await followed(begin, settings, context, listen);
    if (settings.aside === undefined) witness?.reports.push(report);
    return report;
  } catch (error) {
    if (witness) witness.refusal ??= BulkhaulError.from(error);
    throw error;
  }
}

/** Errors that reporters were told. */
const told = new WeakSet<Error>();

/** With `--json`: a line for what ended a command early, unless a reporter had it. */
export async function tellRefusal(stdout: Writable, thrown: unknown): Promise<void> {
  if (thrown instanceof Error && told.has(thrown)) return;
  const { jsonLine } = await import('../report/json.js');
  const { code, message } = BulkhaulError.from(thrown);
  // People are told all the same.
  await answer(stdout, jsonLine({ type: 'error', kind: 'refused', code, message })).catch(() => undefined);
}

async function followed(
  begin: (entries: boolean, hush: Follower['hush']) => Job,
  settings: CommonSettings,
  context: Outputs,
  listen?: Listener,
): Promise<Report> {
  // Before a file system may hold the threads that read modules, too.
  const [{ openReporters }, { leave }] = await Promise.all([import('../report/follow.js'), import('./leave.js')]);
  const { follow, status, stopping: waiting, say, hush } = await openReporters(reportSettings(settings, context));
  const job = begin(wantsEntries(settings), hush);
  if (settings.aside === undefined) context.follow?.(job);
  if (settings.stallTimeout !== undefined) job.setStallTimeout(settings.stallTimeout);
  let stopping = false;
  let end: NodeJS.Timeout | undefined;
  const stop = (why: string) => {
    job.cancel(stopping);
    say(stopping ? `${why}: aborting` : `${why}: ${waiting(job.snapshot())}; once more to abort`);
    if (stopping) {
      end ??= setTimeout(() => {
        say(`${why}: not everything came to an end; run the same command again to go on`);
        void leave(ExitCode.interrupted);
      }, ABORT_GRACE);
    }
    stopping = true;
  };
  const { maxDuration } = settings;
  const over = () => {
    if (!stopping) stop(`--max-duration ${maxDuration}`);
  };
  const limit = maxDuration === undefined ? undefined : setTimeout(over, maxDuration * 1000).unref();
  const tell = () => say(status(job.snapshot()));
  const handlers = { SIGINT: stop, SIGTERM: stop, SIGHUP: stop, SIGUSR1: tell } as const;
  for (const [signal, handler] of Object.entries(handlers)) process.on(signal as NodeJS.Signals, handler);
  try {
    return await follow(job, listen);
  } catch (error) {
    if (error instanceof Error) told.add(error);
    throw error;
  } finally {
    clearTimeout(end);
    clearTimeout(limit);
    for (const [signal, handler] of Object.entries(handlers)) process.off(signal as NodeJS.Signals, handler);
  }
}

/** Where journals are kept, as the XDG base directory specification has it: a relative directory does not count. */
export function stateDirectory({ XDG_STATE_HOME, HOME }: NodeJS.ProcessEnv): string | undefined {
  const home = HOME && join(HOME, '.local/state');
  const state = [XDG_STATE_HOME, home].find((directory) => directory && isAbsolute(directory));
  return state && join(state, 'bulkhaul');
}

/** The journal of a command: in `directory`, where there is one; `asked`: whether there has to be one, or none. */
export function journalSettings({
  directory,
  asked,
  keep,
}: {
  directory: string | undefined;
  asked: boolean | undefined;
  keep?: number | undefined;
}): { journal?: JournalSettings } {
  if (asked === false) return {};
  if (directory === undefined) {
    if (asked === undefined) return {};
    throw new BulkhaulError('USAGE', '--journal: there is no home directory for it; name a place with --state-dir');
  }
  const { command, version } = originOf();
  return {
    journal: { directory, command, version, ...(asked && { required: true }), ...(keep !== undefined && { keep }) },
  };
}

/** How this process was called. */
export function originOf(): Origin {
  const [, script = '', ...args] = process.argv;
  return { version: version(), command: [basename(script), ...args], host: hostname() };
}

/** Where a job puts temporary files that may grow large: /tmp is often memory. */
export function spillDirectory({ TMPDIR }: NodeJS.ProcessEnv): string {
  return TMPDIR || '/var/tmp';
}

/** The same, for a job that can't do without. Throws `USAGE` for a directory that was named and can't be used. */
export function neededSpillDirectory(env: NodeJS.ProcessEnv): string {
  const directory = spillDirectory(env);
  try {
    // With the slash only a directory will do.
    if (env.TMPDIR) accessSync(toBytes(`${directory}/`), constants.W_OK | constants.X_OK);
  } catch (error) {
    throw new BulkhaulError('USAGE', `TMPDIR can't be used: ${whyOf(error)}`);
  }
  return directory;
}

function wantsEntries({ dryRun, verbose, quiet }: CommonSettings): boolean {
  return !quiet && (dryRun || verbose);
}

/** Where failures go that no journal has: a file in a directory of its own, because others may make names there too. */
const OWN = [`bulkhaul-failures-${Math.random().toString(36).slice(2, 8).padEnd(6, '0')}`, `${process.pid}.jsonl`];
const made = new Set<string>();

function failureSettings(
  { label = 'bulkhaul', flags = {} }: CommonSettings,
  env: NodeJS.ProcessEnv,
  origin: Origin,
): FailureSettings {
  const path = join(spillDirectory(env), ...OWN);
  const open = async () => {
    const { Log } = await import('../report/log.js');
    try {
      // Whoever has made it meanwhile may have put links into it.
      if (!made.has(path)) mkdirSync(toBytes(dirname(path)), 0o700);
      made.add(path);
      const log = new Log(path, origin, 0o600);
      log.check();
      return { path, log };
    } catch {
      // Whoever shows failures says that there is none.
      return undefined;
    }
  };
  return { label, flags, open };
}

/**
 * The files that a command writes while its job runs, or may begin to, as an option of the job: they are not removed. Those
 * of its journal the job knows.
 */
export function inUse({ logFile }: CommonSettings, env: NodeJS.ProcessEnv): { inUse: string[] } {
  return { inUse: [logFile ?? join(spillDirectory(env), ...OWN)] };
}

function reportSettings(settings: CommonSettings, { env, stdout, stderr }: Outputs): ReportSettings {
  const { json, quiet, logFile, aside, exitCode, metrics } = settings;
  const origin = originOf();
  const dumb = env.TERM === 'dumb';
  const terminal = isTerminal(stderr) && !dumb;
  // With --json the status is JSON too, unless another form is asked for.
  const auto = json ? 'json' : terminal ? 'tty' : 'plain';
  const asked = quiet ? 'none' : settings.progress === 'auto' ? auto : settings.progress;
  // A terminal that cannot move its cursor gets whole lines.
  const progress = asked === 'tty' && dumb ? 'plain' : asked;
  const every = intervalOf(env) ?? (progress === 'json' ? JSON_INTERVAL : PLAIN_INTERVAL);
  const color = terminal && !env.NO_COLOR;
  return {
    stdout,
    stderr,
    progress,
    every: every * 1000,
    json,
    quiet,
    itemize: aside === undefined && wantsEntries(settings),
    color,
    logFile: aside === undefined ? logFile : undefined,
    aside,
    serve: settings.serve && serveSettings(settings.serve, origin),
    metrics: aside === undefined ? metrics : undefined,
    origin,
    exitCode,
    failures: aside !== undefined || settings.ownFailures ? undefined : failureSettings(settings, env, origin),
  };
}

/** Throws `USAGE` for what is no address. */
function serveSettings(
  { address, control }: { address: string; control: boolean },
  { command }: Origin,
): ServeSettings {
  const [, host = '127.0.0.1', digits] = /^(?:\[?([^[\]]*?)\]?:)?(\d{1,5})$/.exec(address) ?? [];
  const port = Number(digits);
  if (digits === undefined || port > 65535 || host === '') {
    throw new BulkhaulError('USAGE', `--serve: not a port, HOST:PORT or [ADDRESS]:PORT: ${address}`);
  }
  return { host, port, control, title: command.map(display).join(' ') };
}

/** Seconds from the environment; a text that is no number is an error, not a silent default. */
function intervalOf({ BULKHAUL_PROGRESS_INTERVAL: text }: NodeJS.ProcessEnv): number | undefined {
  if (text === undefined || text === '') return undefined;
  const seconds = Number(text);
  if (seconds >= 0 && seconds <= 86_400) return seconds;
  throw new BulkhaulError('USAGE', `BULKHAUL_PROGRESS_INTERVAL is not a number of seconds: ${text}`);
}

function isTerminal(stream: Writable): boolean {
  return 'isTTY' in stream && stream.isTTY === true;
}
