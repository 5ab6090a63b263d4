/**
 * One call of `dsync`, its arguments read: checks, the parts, the transfers, the totals.
 *
 * Comes in: the call; goes out: the exit code of the common table. Standard output has the itemised lines of a dry run or of
 * --verbose, or with --json nothing but JSON; everything else goes to standard error. What can't work is found out before
 * the source is looked through, and a dry run makes nothing.
 */
import { accessSync, constants, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { BulkhaulError, whyOf } from '../../../error.js';
import type { Report } from '../../../events.js';
import { makeDirectories } from '../../../journal/store.js';
import { fromBytes, isText, toBytes } from '../../../names.js';
import { Job } from '../../../ops/job.js';
import { mappedPartition, type PartitionOptions, preparePartition } from '../../../ops/partition.js';
import { bulkhaul } from '../../../ops/transfer/bulkhaul.js';
import { Crew } from '../../../ops/transfer/crew.js';
import type { Part } from '../../../ops/transfer/list.js';
import { gather } from '../../../ops/transfer/planned.js';
import { rclone, writeTest } from '../../../ops/transfer/rclone.js';
import { rsync } from '../../../ops/transfer/rsync.js';
import { ask, checkHost } from '../../../ops/transfer/ssh.js';
import type { Tool } from '../../../ops/transfer/tool.js';
import { transfer } from '../../../ops/transfer.js';
import { real, ruleOf, within } from '../../../ops/within.js';
import type { Listener } from '../../../report/follow.js';
import { summaryText } from '../../../report/summary.js';
import { count } from '../../../report/units.js';
import { ExitCode, sentenceOf } from '../../../verdict.js';
import { exitCodeOfError, systemError } from '../../exit.js';
import { leave } from '../../leave.js';
import type { Ended } from '../../recorded.js';
import { type CommonSettings, type Context, neededSpillDirectory, PROGRAM, runJob } from '../../run.js';
import { elsewhere, parseRate } from '../../values.js';
import { Console } from '../console.js';
import { journaled, watched } from '../settings.js';
import { type DsyncCall, isElsewhere } from './flags.js';
import { type Cut, deal, nameOf, type Plan, Plans, someOf, type Top, topOf } from './plan.js';

interface Problem {
  code: number;
  message: string;
  said?: boolean;
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Runs a call. */
export async function run(call: DsyncCall, streams: Context): Promise<number> {
  const { values } = call;
  const { dry_run, quiet, json } = values;
  const { recorded } = await import('../../recorded.js');
  const work = {
    operation: 'dsync' as const,
    sources: [call.source],
    destinations: [call.destination],
    quiet: quiet || json,
  };
  const { journal } = dry_run ? {} : journaled(values, streams.env);
  return recorded(work, journal, streams, (kept) => transferred(call, kept));
}

async function transferred(call: DsyncCall, streams: Context): Promise<Ended> {
  const { json, quiet } = call.values;
  const out = new Console<Problem>('dsync', streams, { json, quiet, piped: false });
  // A job minds the signals itself; between two of them they count too.
  const signals = new AbortController();
  const stop = () => {
    if (signals.signal.aborted && !dsync.atWork) void leave(ExitCode.interrupted);
    signals.abort();
  };
  for (const signal of SIGNALS) process.on(signal, stop);
  const dsync = new Dsync(call, out, signals.signal);
  try {
    await dsync.run();
  } catch (thrown) {
    const error = systemError(thrown);
    if (!(error instanceof BulkhaulError) || error.code === 'INTERNAL') throw error;
    const { code, message } = error;
    out.report({ code: exitCodeOfError(error), message });
    if (dsync.told !== thrown) out.json({ type: 'error', kind: 'refused', code, message });
  } finally {
    for (const signal of SIGNALS) process.off(signal, stop);
    dsync.close();
  }
  const interrupted = out.problems.some(({ code }) => code === ExitCode.interrupted);
  if (signals.signal.aborted && !interrupted) {
    out.report({ code: ExitCode.interrupted, message: 'interrupted: the same command goes on' });
  }
  return { exitCode: exitCode(out.problems), why: out.problems[0]?.message };
}

/** By the order of the common table. */
const GRAVEST = [
  ExitCode.interrupted,
  ExitCode.safety,
  ExitCode.mismatched,
  ExitCode.usage,
  ExitCode.failed,
  ExitCode.changed,
];

function exitCode(problems: readonly Problem[]): number {
  return GRAVEST.find((code) => problems.some((problem) => problem.code === code)) ?? problems[0]?.code ?? 0;
}

class Dsync {
  readonly #source: string;
  readonly #destination: string;
  readonly #destinationHosts: string[];
  readonly #cloud: boolean;
  #plans: Plans | undefined;
  #temporary: string | undefined;
  /** A job runs, which minds the signals. */
  atWork = false;
  /** What the reporters of a job have told in JSON. */
  told: unknown;

  constructor(
    readonly call: DsyncCall,
    readonly out: Console<Problem>,
    readonly signal: AbortSignal,
  ) {
    const { source, destination, tool } = call;
    this.#source = source.replace(/(?<=[^/])\/+$/, '');
    this.#cloud = tool === 'rclone';
    const remote = !this.#cloud && isElsewhere(destination) ? /^([^/]*?):(?!:)(.*)$/s.exec(destination) : null;
    const [, host, path] = remote ?? [];
    // Over ssh a path begins in the home, which has no other name there.
    this.#destination = path === undefined ? destination : path.replace(/^~(?:\/+|$)/, '') || '.';
    this.#destinationHosts = host === undefined ? [] : [host];
  }

  async run(): Promise<void> {
    const { values, jobs } = this.call;
    const [limit, sourceHosts] = [values.bwlimit, this.#hosts('--source-hosts', values.source_hosts)];
    const bytes = limit === undefined ? 0 : parseRate(limit, '--bwlimit');
    const named = this.#hosts('--destination-hosts', values.destination_hosts);
    const [host] = this.#destinationHosts;
    if (host !== undefined && named.length > 0)
      throw new BulkhaulError('USAGE', `DST names the host ${host}, and --destination-hosts names others`);
    this.#destinationHosts.push(...named);
    this.#check(sourceHosts);
    const [tool, dryRun] = [this.#tool(sourceHosts.length > 0), values.dry_run];
    const crew = await Crew.muster(
      {
        source: this.#source,
        destination: this.#destination,
        tool,
        sourceHosts,
        destinationHosts: this.#destinationHosts,
        cloud: this.#cloud,
        config: this.call.rcloneConfig,
        dryRun,
      },
      (message) => this.out.note(message),
    );
    if (this.#cloud && !dryRun) await this.#writeTest(crew);
    if (this.signal.aborted) return;
    const planned = await this.#plan();
    if (planned === undefined || this.signal.aborted) return;
    const { plan, plans } = planned;
    const parts = plan.lists.map((list): Part => ({ ...list, list: plans.list(list.number) }));
    const logs = dryRun ? undefined : this.#logs();
    const settings = this.#settings();
    const { found } = plan;
    const report = await this.#job(
      (entries) =>
        transfer({
          source: this.#source,
          destination: this.#destination,
          tool,
          crew,
          parts,
          jobs,
          found,
          leftOut: found && plan.holds === 'files' ? { ...found, file: 0 } : undefined,
          trees: plan.way === 'top',
          logs,
          scratch: plans.directory,
          limit: bytes,
          dryRun,
          entries,
        }),
      settings,
    );
    this.#tell(report, settings, logs);
  }

  /** What can be found out without looking at anything but names. */
  #check(sourceHosts: readonly string[]): void {
    const { source, rcloneConfig } = this.call;
    const why = elsewhere(this.call.positionals[0] ?? source, 'copy', this.call.positionals);
    if (why !== undefined) throw new BulkhaulError('USAGE', why);
    const [destination] = this.call.positionals.slice(1);
    for (const [name, path] of Object.entries({ SRC: source, DST: this.#destination })) {
      if (!isText(path))
        throw new BulkhaulError('USAGE', `${name} ${path} is not UTF-8: ${this.call.tool} can't be given it`);
    }
    if (!this.#cloud && /^[^/]*::|^rsync:\/\//.test(destination ?? ''))
      throw new BulkhaulError('USAGE', `${destination}: a daemon of rsync is no destination here`);
    for (const host of [...sourceHosts, ...this.#destinationHosts]) checkHost(host);
    if (rcloneConfig !== undefined && sourceHosts.length === 0) {
      try {
        accessSync(toBytes(rcloneConfig), constants.R_OK);
      } catch (error) {
        throw new BulkhaulError('USAGE', `--rclone-config can't be read: ${whyOf(error)}`);
      }
    }
    if (this.#cloud || this.#destinationHosts.length > 0) return;
    const [from, to] = [real(source), real(this.#destination)];
    if (from === to || within(from, to) !== undefined)
      throw new BulkhaulError(
        'SAFETY',
        `DST ${this.#destination} is ${from === to ? 'SRC itself' : `in SRC ${source}`}`,
      );
  }

  /** The hosts in a file: one a line, blank ones and comments left out. */
  #hosts(flag: string, file: string | undefined): string[] {
    if (file === undefined) return [];
    let text: string;
    try {
      text = fromBytes(readFileSync(toBytes(file)));
    } catch (error) {
      throw new BulkhaulError('USAGE', `${flag} can't be read: ${whyOf(error)}`);
    }
    const lines = text.split('\n').map((line) => line.replace(/#.*/, '').trim());
    const hosts = lines.filter((line) => line !== '');
    if (hosts.length === 0) throw new BulkhaulError('USAGE', `${flag}: there are no hosts in ${file}`);
    return hosts;
  }

  #tool(remote: boolean): Tool {
    const { tool, values } = this.call;
    switch (tool) {
      case 'rsync':
        return rsync({ hardLinks: values.hard_links });
      case 'rclone':
        return rclone({ config: this.call.rcloneConfig });
      case 'bulkhaul':
        // They share the processors; a host has its own.
        return bulkhaul({
          here: PROGRAM,
          remote,
          jobs: remote ? undefined : Math.max(1, Math.ceil(availableParallelism() / this.call.jobs)),
        });
    }
  }

  /** The destination is written to, and that is waited for. Throws `NO_DESTINATION`. */
  async #writeTest(crew: Crew): Promise<void> {
    const name = `.dsync-write-test-${Math.random().toString(36).slice(2, 10)}`;
    const place = crew.take();
    if (place === undefined) throw new BulkhaulError('NO_START', 'no host is left');
    crew.giveBack(place);
    const host = place.source;
    const [touch, remove] = writeTest(this.#destination, name, this.call.rcloneConfig);
    const why = ({ stderr, code }: typeof written) => stderr.trim().split('\n').at(-1) || `it ended with ${code}`;
    const written = await ask(host, touch);
    if (written.code !== 0)
      throw new BulkhaulError('NO_DESTINATION', `rclone can't write to ${this.#destination}: ${why(written)}`);
    const removed = await ask(host, remove);
    // Who may write may not be allowed to remove.
    if (removed.code !== 0)
      this.out.note(`the file ${name} of the write test is still in ${this.#destination}: ${why(removed)}`);
  }

  /** The parts: those of before, or new ones. Undefined: planning was interrupted, or failed as a whole, and that is told. */
  async #plan(): Promise<{ plan: Plan; plans: Plans } | undefined> {
    const { values, parts, workingDirectory } = this.call;
    const { cut, top } = this.#cut();
    if (values.reuse) {
      const read = values.dry_run ? Plans.read : Plans.open;
      this.#plans = await read(workingDirectory, this.#source);
      return { plan: await this.#reused(this.#plans, cut, top), plans: this.#plans };
    }
    const plans = values.dry_run
      ? Plans.temporary(this.#makeTemporary())
      : await Plans.open(workingDirectory, this.#source);
    this.#plans = plans;
    await plans.clear();
    plans.keepTop(top);
    if (cut.way === 'planned') {
      const plan = await this.#planned(plans, cut);
      return plan && { plan, plans };
    }
    const made = new Date().toISOString();
    return { plan: await plans.keep({ ...cut, made, unreadable: 0 }, deal(top.names, parts, plans)), plans };
  }

  /** What decides how the source is cut, and what is at its top. */
  #cut(): { cut: Cut; top: Top } {
    const { call, out } = this;
    const { values, parts, tool, workingDirectory, logDirectory } = call;
    const source = this.#source;
    const own = [workingDirectory, logDirectory].flatMap((path) => within(real(source), real(path)) ?? []);
    const inside = [...new Set(own)].filter((path) => !own.some((other) => path.startsWith(`${other}/`)));
    const deep = inside.filter((path) => path.includes('/'));
    if (values.no_fpart && deep.length > 0) {
      const why = `--no-fpart can't leave out ${someOf(deep)}, where dsync works`;
      throw new BulkhaulError('USAGE', `${why}: --working-dir names another place`);
    }
    const top = topOf(source, inside);
    if (top.skipped.length > 0) out.note(`left out at the top of ${source}: ${someOf(top.skipped)}`);
    if (inside.length > 0) out.note(`left out, because dsync works there: ${someOf(inside)}`);
    const way = values.no_fpart ? 'top' : 'planned';
    const holds = tool === 'rclone' ? 'files' : 'all';
    return { cut: { source, parts, way, holds, leftOut: [...top.skipped, ...inside], top: top.digest }, top };
  }

  async #reused(plans: Plans, cut: Cut, top: Top): Promise<Plan> {
    const plan = await plans.reuse(cut, top);
    this.out.note(`the parts are of ${plan.made}: what came into ${cut.source} since is not copied`);
    if (plan.unreadable > 0) {
      const message = `${count(plan.unreadable, 'entry', 'entries')} could not be read when the parts were cut`;
      this.out.report({ code: ExitCode.failed, message });
    }
    return plan;
  }

  async #planned(plans: Plans, cut: Cut): Promise<Plan | undefined> {
    const { call, out } = this;
    const made = new Date().toISOString();
    const spillDirectory = neededSpillDirectory(out.streams.env);
    const lists: string[] = [];
    const options: PartitionOptions = {
      sources: cut.source.replace(/\/*$/, '/'),
      parts: cut.parts,
      exclude: cut.leftOut.map(ruleOf),
      format: 'jsonl',
      template: join(plans.directory, 'listed'),
      replace: true,
      spillDirectory,
    };
    const report = await this.#job(
      // A dry run needs its lists too, which go with it: nothing is done that anybody asked for.
      () => new Job(() => preparePartition(mappedPartition(options)), undefined, undefined, call.values.dry_run),
      { ...this.#settings(), dryRun: false, verbose: false },
      (event) => {
        if (event.type === 'part' && event.path !== undefined) lists[event.number - 1] = event.path;
      },
    );
    this.#problem(report);
    if (report.interrupted || !report.accounted) return undefined;
    const { parts, found, hardLinks } = await gather({ lists, entries: report.parts?.entries }, cut.holds, (number) =>
      plans.list(number),
    );
    if (hardLinks && call.tool === 'rsync' && !call.values.hard_links)
      out.note('there are hard links, which rsync -a makes copies of: --hard-links keeps them');
    return plans.keep({ ...cut, made, found, unreadable: report.outcomes.failed }, parts);
  }

  /** A directory for the logs of this run. */
  #logs(): string {
    const time = new Date().toISOString().replace(/[-:]|\.\d+/g, '');
    const logs = join(this.call.logDirectory, nameOf(this.#source), `${time}-${process.pid}`);
    makeDirectories(logs);
    return logs;
  }

  async #job(begin: (entries: boolean) => Job, settings: CommonSettings, listen?: Listener): Promise<Report> {
    let hush: Parameters<Parameters<typeof runJob>[0]>[1] | undefined;
    const started: Parameters<typeof runJob>[0] = (entries, given) => {
      hush = given;
      return begin(entries);
    };
    this.atWork = true;
    try {
      return await runJob(started, settings, this.out.streams, (event) => {
        // A host that is lost is told when it is.
        if (event.type === 'note' && event.kind === 'host') void hush?.(async () => this.out.note(event.message));
        listen?.(event);
      });
    } catch (error) {
      this.told = error;
      throw error;
    } finally {
      this.atWork = false;
    }
  }

  #settings(): CommonSettings {
    const { values, progress } = this.call;
    return {
      label: 'dsync',
      dryRun: values.dry_run,
      json: values.json,
      progress,
      quiet: values.quiet,
      verbose: values.verbose,
      logFile: values.log_file === '-' ? '/dev/stderr' : values.log_file,
      ...watched('dsync', values),
      exitCode: (report) => exitCode([...this.out.problems, ...problemsOf(report)]),
    };
  }

  #tell(report: Report, { json, quiet }: CommonSettings, logs: string | undefined): void {
    const told = !json && (!report.complete || !quiet);
    if (told) this.out.streams.stderr.write(summaryText(report, false));
    if (told && logs !== undefined) this.out.say(`the logs are in ${logs}`);
    this.#problem(report, told);
  }

  #problem(report: Report, said = false): void {
    this.out.report(...problemsOf(report).map((problem) => ({ ...problem, said })));
  }

  #makeTemporary(): string {
    const directory = mkdtempSync(join(neededSpillDirectory(this.out.streams.env), 'bulkhaul-dsync-'));
    process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
    this.#temporary = directory;
    return directory;
  }

  close(): void {
    this.#plans?.close();
    if (this.#temporary !== undefined) rmSync(this.#temporary, { recursive: true, force: true });
  }
}

function problemsOf(report: Report): Problem[] {
  const { exitCode: code, complete } = report;
  return complete ? [] : [{ code, message: sentenceOf(report, code) }];
}
