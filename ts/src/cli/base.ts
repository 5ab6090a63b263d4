/** What the native verbs share: the common options, and the way of errors to stderr and exit codes. */
import { BulkhaulError } from '../error.js';
import type { Report } from '../events.js';
import { display, fromBytes } from '../names.js';
import type { Resources } from '../native/options.js';
import type { JournalSettings } from '../ops/arguments.js';
import { checkCommand, parseCommand, type Witness } from './ended.js';
import { exitCodeOfError, systemError } from './exit.js';
import { choice, either, flag, type Given, number, value } from './options.js';
import { Command } from './parser.js';
import {
  type CommonSettings,
  type Context,
  errorText,
  inUse,
  journalSettings,
  PROGRESS,
  stateDirectory,
  tellRefusal,
} from './run.js';
import { contentOf, parseCount, parseLasting, parseRate } from './values.js';

/** A native verb: its errors go to stderr, and its exit code comes from the table. */
export abstract class BareCommand extends Command {
  /** Common options that do nothing in this verb, and why: they are refused, and help is silent about them. */
  static readonly idle: Readonly<Record<string, string>> = {};

  json = flag('--json', { group: 'output', help: 'Print one JSON object a line on standard output' });
  stateDir = value('--state-dir', {
    ...{ group: 'safety', value: 'DIR', default: '$XDG_STATE_HOME/bulkhaul, or ~/.local/state/bulkhaul' },
    help: 'Where journals are kept',
  });

  // `catch` is too late: clipanion prints what it rethrows on stdout and ends with 1, else with 0.
  override async validateAndExecute(): Promise<number> {
    try {
      return await super.validateAndExecute();
    } catch (thrown) {
      const error = systemError(thrown);
      if (this.json) await tellRefusal(this.context.stdout, error);
      this.context.stderr.write(errorText(error));
      this.failed(BulkhaulError.from(error));
      return exitCodeOfError(error);
    }
  }

  /** Is told what ended the command. */
  protected failed(_: BulkhaulError): void {}

  /** The state directory; undefined where neither an option nor the environment names one. */
  protected get stateDirectory(): string | undefined {
    return this.stateDir ?? stateDirectory(this.context.env);
  }
}

/** A native verb that runs a job: it has the common options. */
export abstract class VerbCommand extends BareCommand {
  dryRun = flag('-n,--dry-run', {
    group: 'safety',
    help: 'Show what would be done, itemised on standard output, and do nothing',
  });
  jobs = number('-j,--jobs', 1, 1024, {
    ...{ group: 'speed', value: 'N', default: 'by the processors that may be used' },
    help: 'Worker threads at most',
  });
  bwlimit = value(
    '--bwlimit',
    {
      ...{ group: 'speed', value: 'RATE', default: 'no limit' },
      help: 'Read at most so much of the sources in a second: KiB, or with a unit, as in rsync (1.5m, 500KB)',
    },
    parseRate,
  );
  iopsLimit = value(
    '--iops-limit',
    { group: 'speed', value: 'N', default: 'no limit', help: 'Look at no more than N entries a second' },
    parseCount,
  );
  nice = number('--nice', -20, 19, {
    ...{ group: 'speed', value: 'N', default: "the caller's" },
    help: 'Niceness of the workers: -20 (the first to get a processor) to 19 (the last)',
  });
  ionice = value('--ionice', {
    ...{ group: 'speed', value: 'CLASS', default: "the caller's" },
    help: "Order of the workers' disk requests: idle, best-effort[:LEVEL] or realtime[:LEVEL], 0 (first) to 7",
  });
  stallTimeout = value(
    '--stall-timeout',
    {
      ...{ group: 'safety', value: 'SECONDS', default: '0, never' },
      help: 'Give up and end with 23 when nothing at all moves for so long, as a device or server that hangs makes it; ten times as long while something is synced',
    },
    parseCount,
  );
  journal = either('--journal', {
    group: 'safety',
    help: 'Begin only with a journal, by which status, report and resume know the job; --no-journal: without one. Otherwise there is one where it can be had',
  });
  keepJobs = number('--keep-jobs', 0, 1_000_000, {
    ...{ group: 'safety', value: 'N', default: '100' },
    help: 'The last so many jobs whose journals are kept; beyond them those that can be gone on with still are',
  });
  maxDuration = value(
    '--max-duration',
    {
      ...{ group: 'safety', value: 'SECONDS', default: 'no limit' },
      help: 'End after so long as at a first ^C, with exit code 130: the same command, or resume, goes on',
    },
    parseCount,
  );
  verbose = flag('-v,--verbose', {
    group: 'output',
    help: 'Print a line for each entry that is worked on, as rsync -i does',
  });
  quiet = flag('-q,--quiet', {
    group: 'output',
    help: 'Print nothing unless something is wrong; with --json only the summary',
  });
  override json = flag('--json', {
    group: 'output',
    help: 'Print one JSON object a line on standard output: status, entry (with -v or -n), error, note, summary',
  });
  progress = choice('--progress', PROGRESS, {
    ...{ group: 'output', value: 'FORM', default: 'auto' },
    help: 'The status on standard error: tty (one line, redrawn), plain (a line every 30 s, or every BULKHAUL_PROGRESS_INTERVAL seconds, 0 for none), json, none; auto takes tty on a terminal, json with --json, else plain',
  });
  logFile = value('--log-file', {
    ...{ group: 'output', value: 'FILE', default: 'none' },
    help: 'Append version, command line and host, failures, notes and the summary to FILE, as JSON lines; - is standard error',
  });

  serve = value('--serve', {
    ...{ group: 'output', value: '[HOST:]PORT', default: 'none' },
    help: 'Let a browser watch: prints an address that only you know; of this machine only, unless HOST says otherwise; port 0 is any',
  });
  serveControl = flag('--serve-control', {
    group: 'output',
    help: 'Limits, a pause and a stop in good order can be had from the page of --serve',
  });

  onEnd = value(
    '--on-end',
    {
      ...{ group: 'output', value: 'COMMAND', default: 'none' },
      help: 'Run COMMAND when all is over, also where it failed early: a program, or with arguments a JSON array of words, which no shell reads. It gets the summary as JSON on standard input, and BULKHAUL_VERDICT (complete, failed, interrupted), BULKHAUL_EXIT_CODE, BULKHAUL_SENTENCE and BULKHAUL_OPERATION in its environment; not in a dry run',
    },
    parseCommand,
  );
  onFailure = value(
    '--on-failure',
    {
      ...{ group: 'output', value: 'COMMAND', default: 'none' },
      help: 'The same where the exit code is not 0',
    },
    parseCommand,
  );
  metricsFile = value(
    '--metrics-file',
    {
      ...{ group: 'output', value: 'FILE', default: 'none' },
      help: 'Write metrics for Prometheus into FILE, replaced every 15 s and at the end, as the textfile collector of node_exporter reads them (FILE.prom); not in a dry run',
    },
    parseLasting,
  );

  readonly #witness: Witness = { reports: [] };

  override async validateAndExecute(): Promise<number> {
    // clipanion has no place for it, and hands the context on as it is.
    Object.assign(this.context, { witness: this.#witness } satisfies Partial<Context>);
    const exitCode = await super.validateAndExecute();
    const { onEnd, onFailure, metricsFile, dryRun } = this;
    if (dryRun || (!onEnd && !onFailure && metricsFile === undefined)) return exitCode;
    const { atEnd } = await import('./ended.js');
    const ending = { operation: this.operation, exitCode, ...this.#witness };
    const say = (sentence: string) => void this.context.stderr.write(`bulkhaul: ${display(sentence)}\n`);
    await atEnd({ onEnd, onFailure, metricsFile }, ending, this.context.env, say);
    return exitCode;
  }

  protected override failed(error: BulkhaulError): void {
    this.#witness.refusal = error;
  }

  /** The word that the verb is called by. */
  private get operation(): string {
    return this.path[0] ?? '';
  }

  /** Who has a standard stream, by its path. */
  readonly #streams = new Map<string, string>();

  /** The common options. */
  get settings(): CommonSettings {
    const { dryRun, json, progress, quiet, verbose, stallTimeout, maxDuration } = this;
    const logFile = this.logFile === '-' ? '/dev/stderr' : this.logFile;
    const { serve: address, serveControl: control } = this;
    if (control && address === undefined) throw new BulkhaulError('USAGE', '--serve-control goes with --serve');
    const serve = address === undefined ? undefined : { address, control };
    for (const [option, command] of [
      ['--on-end', this.onEnd],
      ['--on-failure', this.onFailure],
    ] as const) {
      if (command) checkCommand(command, option, this.context.env);
    }
    const metrics =
      dryRun || this.metricsFile === undefined ? undefined : { path: this.metricsFile, operation: this.operation };
    return { serve, dryRun, json, progress, quiet, verbose, logFile, stallTimeout, maxDuration, metrics };
  }

  /** The journal, as an option of a job. */
  protected get journaled(): { journal?: JournalSettings } {
    const { stateDirectory: directory, journal: asked, keepJobs: keep } = this;
    return journalSettings({ directory, asked, keep });
  }

  /** What the job may take of the machine, as its options. */
  protected get resources(): Resources {
    const { bwlimit: bytes, iopsLimit: entries, nice, ionice, jobs } = this;
    return {
      limits: { ...(bytes !== undefined && { bytes }), ...(entries !== undefined && { entries }) },
      ...(jobs !== undefined && { jobs }),
      ...(nice !== undefined && { nice }),
      ...(ionice !== undefined && { ionice }),
    };
  }

  /** The files that the command itself writes meanwhile, as an option of a job. */
  protected get inUse(): { inUse: string[] } {
    return inUse(this.settings, this.context.env);
  }

  /** The path that FILE of an option means: `-` is a standard stream, which only one option can have. */
  protected file(option: string, file: string, stream: '/dev/stdin' | '/dev/stdout'): string {
    if (file !== '-') return file;
    const other = this.#streams.get(stream) ?? (stream === '/dev/stdout' ? this.printing : undefined);
    if (other !== undefined) {
      const name = stream === '/dev/stdin' ? 'standard input' : 'standard output';
      throw new BulkhaulError('USAGE', `${option} - and ${other} can't both have ${name}`);
    }
    this.#streams.set(stream, `${option} -`);
    return stream;
  }

  /** Whether people are told the end: not who was content with the beginning of what was `printed`, as `head` is. */
  protected tells({ complete, notes }: Report, printed: boolean): boolean {
    const left = printed && notes.some(({ kind }) => kind === 'unread');
    return !this.json && !(complete && (this.quiet || left));
  }

  /** The option that puts lines of its own on standard output. */
  protected get printing(): string | undefined {
    return this.json ? '--json' : this.verbose && !this.quiet ? '--verbose' : undefined;
  }

  /** The rules for names, those of files in their places, in the form of the operations' `exclude`. */
  protected async patterns(given: readonly Given[]): Promise<string[]> {
    const patterns: string[] = [];
    for (const { option, value } of given) {
      if (option === '--exclude-from') patterns.push(...(await this.#patternsOf(value)));
      // The signs of rsync mean the same behind either option.
      else if (option === '--include' && !/^([-+] |!?$)/.test(value)) patterns.push(`+ ${value}`);
      else patterns.push(value);
    }
    return patterns;
  }

  async #patternsOf(file: string): Promise<string[]> {
    const path = this.file('--exclude-from', file, '/dev/stdin');
    const text = path === '/dev/stdin' ? await this.#input() : await contentOf('--exclude-from', path);
    const lines = fromBytes(text).split(/[\r\n]/);
    return lines.filter((line) => !/^([#;]|$)/.test(line));
  }

  async #input(): Promise<Buffer> {
    const chunks: Buffer[] = [];
    for await (const chunk of this.context.stdin) chunks.push(Buffer.from(chunk));
    return Buffer.concat(chunks);
  }
}
