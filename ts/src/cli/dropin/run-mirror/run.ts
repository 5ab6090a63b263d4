/**
 * One call of `run-mirror`, its arguments read: the steps that it asks for, under the original's banner.
 *
 * Comes in: the call; goes out: the exit code: 0, 1 for what a verification found, 2 for everything else. Everything that
 * is said goes to stderr; stdout has the manifest, where that is asked for, or with --json nothing but JSON.
 */
import { accessSync, constants, createReadStream, createWriteStream, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { BulkhaulError, whyOf } from '../../../error.js';
import type { Event, Report } from '../../../events.js';
import { display, toBytes } from '../../../names.js';
import type { Resources } from '../../../native/options.js';
import type { JournalSettings } from '../../../ops/arguments.js';
import type { Job } from '../../../ops/job.js';
import type { CopyOptions } from '../../../ops/mapping.js';
import { failureText, manifestSummary, summaryText, verifiedText } from '../../../report/summary.js';
import { count } from '../../../report/units.js';
import { sentenceOf } from '../../../verdict.js';
import { systemError } from '../../exit.js';
import {
  type CommonSettings,
  type Context,
  inUse,
  neededSpillDirectory,
  runJob,
  spillDirectory,
  stateDirectory,
} from '../../run.js';
import { elsewhere } from '../../values.js';
import { Console } from '../console.js';
import { journaled, resourcesOf, settingsOf } from '../settings.js';
import { askB3sum } from './b3sum.js';
import type { MirrorCall } from './flags.js';

interface Problem {
  /** `found`: by the verification. */
  kind: 'found' | 'failed' | 'interrupted';
  message: string;
  said?: boolean;
}

type MirrorConsole = Console<Problem>;
type Begin = Parameters<typeof runJob>[0];

const INTERRUPTED: Problem = { kind: 'interrupted', message: 'interrupted: the same command goes on' };
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

const INCOMPLETE = 'the copy is incomplete, so it was not verified';
const MAKING = '[1/3] Creating manifest…';

/** By the algorithm. */
const NAMES = { blake3: 'BLAKE3SUMS', sha256: 'SHA256SUMS' } as const;

/** What a manifest in a directory is called, also where whoever reads standard output packs it. */
const manifestsIn = (directory: string): string[] =>
  Object.values(NAMES).flatMap((name) => ['', '.gz', '.bz2', '.xz', '.zst'].map((end) => below(directory, name + end)));

/** Files between two counts, and the least milliseconds. */
const COUNT_FILES = 100;
const COUNT_INTERVAL = 1000;

/** Runs a call. */
export async function run(call: MirrorCall, streams: Context): Promise<number> {
  const { json, quiet } = call.values;
  const out: MirrorConsole = new Console('run-mirror', streams, { json, quiet, piped: true });
  // A job minds the signals itself; between two of them they count too.
  const signals = new AbortController();
  const stop = () => signals.abort();
  for (const signal of SIGNALS) process.on(signal, stop);
  const mirror = new Mirror(call, out, signals.signal);
  try {
    await mirror.run();
  } catch (thrown) {
    const error = systemError(thrown);
    const known = error instanceof BulkhaulError && error.code !== 'INTERNAL';
    if (!known && !signals.signal.aborted) throw error;
    if (known) {
      const { code, message } = error;
      out.report({ kind: 'failed', message });
      if (mirror.told !== thrown) out.json({ type: 'error', kind: 'refused', code, message });
    }
  } finally {
    for (const signal of SIGNALS) process.off(signal, stop);
  }
  if (signals.signal.aborted && !out.problems.some(({ kind }) => kind === 'interrupted')) out.report(INTERRUPTED);
  return exitCode(out.problems);
}

/** What a verification found is 1, unless it was interrupted. */
function exitCode(problems: readonly Problem[]): number {
  const kinds = new Set(problems.map(({ kind }) => kind));
  if (kinds.has('interrupted')) return 2;
  if (kinds.has('found')) return 1;
  return kinds.size > 0 ? 2 : 0;
}

class Mirror {
  /** Where the paths in a manifest begin when it is verified. */
  readonly #target: string;
  readonly #algorithm: 'blake3' | 'sha256';
  #directory: string | undefined;
  /** What the reporters of a job have told in JSON. */
  told: unknown;
  /** The copy has failed entries. */
  #incomplete = false;

  constructor(
    readonly call: MirrorCall,
    readonly out: MirrorConsole,
    readonly signal: AbortSignal,
  ) {
    this.#target = call.destination ?? call.source;
    this.#algorithm = call.algo === 'sha256' ? 'sha256' : 'blake3';
  }

  async run(): Promise<void> {
    const { call, out } = this;
    const { step, values } = call;
    const resources = resourcesOf(values, call.jobs);
    this.#say(
      '=== Mirror ===',
      `Time: ${new Date().toISOString()}`,
      `Step: ${step}`,
      `Dry: ${values.dry_run ? 'True' : 'False'}`,
      `Algo: ${step === 'verify' ? call.algo : this.#algorithm}`,
    );
    await this.#check();
    const wants = (each: MirrorCall['step']) => step === 'all' || step === each;
    let made: string | undefined;
    if (step === 'all' && !values.dry_run && call.copyWith === 'bulkhaul') {
      made = await this.#makeAndCopy(resources);
    } else {
      const rsync = call.copyWith === 'rsync' ? await this.#rsync(resources) : undefined;
      if (wants('make-manifest')) made = await this.#make(resources);
      if (wants('copy') && !this.#stopped) await (rsync ? rsync() : this.#copy(resources));
    }
    if (!wants('verify') || this.#stopped) return;
    if (step === 'all' && values.dry_run) {
      this.#say(`[3/3] Verifying at ${display(this.#target)}`);
      out.note('dry run: nothing was written, so there is nothing to verify');
      return;
    }
    await this.#verify(made ?? (await this.#known()), resources);
  }

  /** What can't come to anything is refused before anything is read. */
  async #check(): Promise<void> {
    const { step, source, destination, values } = this.call;
    const paths = [source, ...(destination === undefined ? [] : [destination])];
    for (const path of paths) {
      const why = elsewhere(path, 'copy', paths);
      if (why !== undefined && !(await isDirectory(path))) throw new BulkhaulError('USAGE', why);
    }
    if (step !== 'verify' && !(await isDirectory(source))) {
      throw new BulkhaulError('NO_SOURCE', `SRC ${source} is no directory`);
    }
    if (step !== 'all' && step !== 'make-manifest') return;
    if (!hasFiles(toBytes(below(source, '')), NAMES[this.#algorithm])) throw nothingIn(source);
    if (values.manifest !== undefined) return;
    try {
      accessSync(toBytes(source), constants.W_OK);
    } catch (error) {
      throw new BulkhaulError(
        'OUTPUT',
        `the manifest can't be written into SRC: ${whyOf(error)}; --manifest PATH names another place, --manifest - is standard output`,
      );
    }
  }

  /** Makes the manifest; where it is. */
  async #make(resources: Resources): Promise<string | undefined> {
    const { call, out } = this;
    const { source, step, values } = call;
    this.#say(MAKING);
    const place = this.#place;
    const piped = place === undefined;
    if (values.dry_run && !piped) {
      out.note(`dry run: nothing is hashed, and ${place} is not written`);
      return undefined;
    }
    const direct = piped && step === 'make-manifest' && !values.prefer_external_b3;
    const output = direct ? '/dev/stdout' : (place ?? join(this.#temporary(), 'manifest'));
    const { manifest } = await import('../../../ops/manifest.js');
    const settings = this.#settings(problemsOf);
    const { report, counted } = await this.#hash(
      () =>
        manifest({
          sources: below(source, ''),
          algorithms: [this.#algorithm],
          output,
          spillDirectory: neededSpillDirectory(out.streams.env),
          inUse: [
            ...inUse(settings, out.streams.env).inUse,
            ...(this.#directory === undefined ? [] : [this.#directory]),
            ...(piped ? manifestsIn(source) : []),
          ],
          ...resources,
          ...(piped ? {} : this.#journaled),
        }),
      settings,
    );
    if (counted) out.print(`Hashing: ${filesOf(report)}`);
    this.#summarise(report, manifestSummary);
    if (this.#stopped) return undefined;
    if (report.outcomes.listed === 0) throw nothingIn(source);
    if (piped && !direct) await this.#print(output);
    if (values.prefer_external_b3 && step !== 'all') await this.#secondOpinion(output, source);
    return output;
  }

  /** Makes the manifest while it copies; where it is. SRC is read once. */
  async #makeAndCopy(resources: Resources): Promise<string | undefined> {
    const { call, out } = this;
    const { source } = call;
    this.#say(MAKING, this.#copying);
    const place = this.#place;
    const output = place ?? join(this.#temporary(), 'manifest');
    const settings = this.#settings(problemsOf);
    const copy = await this.#copier(resources, settings);
    const { report, counted } = await this.#hash(
      (entries) => copy({ entries, manifest: { path: output, algorithms: [this.#algorithm] } }),
      settings,
    );
    if (counted) out.print(`Hashing: ${copiedFilesOf(report)}`);
    this.#summarise(report, summaryText);
    // What only the manifest can't name is there.
    const { unwritable: _, ...failures } = report.failureKinds;
    const lost = report.notes.some(({ kind }) => kind === 'manifest');
    this.#incomplete = Object.values(failures).some((count) => count > 0) || !report.accounted || lost;
    if (this.#incomplete) out.say(INCOMPLETE);
    if (this.#stopped) return undefined;
    if (place === undefined) await this.#print(output);
    else if (place.startsWith(below(source, ''))) await this.#bring(place.slice(below(source, '').length), copy);
    return output;
  }

  /** The manifest lies in SRC, and was not there when the rest was copied. */
  async #bring(name: string, copy: (changes: Partial<CopyOptions>) => Job): Promise<void> {
    const list = join(this.#temporary(), 'list');
    await writeFile(list, Buffer.concat([toBytes(name), Buffer.of(0)]));
    const report = await copy({ filesFrom: { path: list, nul: true }, journal: undefined, signal: this.signal });
    if (!report.complete) this.#summarise(report, summaryText);
  }

  async #copy(resources: Resources): Promise<void> {
    this.#say(this.#copying);
    const settings = this.#settings(problemsOf);
    const copy = await this.#copier(resources, settings);
    const report = await this.#job((entries) => copy({ entries }), settings);
    this.#summarise(report, summaryText);
    this.#judge(report);
  }

  /** What is missing after a copy is no finding of a verification. */
  #judge(report: Report): void {
    this.#incomplete ||= Object.values(report.failureKinds).some((count) => count > 0) || !report.accounted;
  }

  /** The copy by the real rsync, which is known to be there. */
  async #rsync(resources: Resources): Promise<() => Promise<void>> {
    const { call, out } = this;
    const { source, destination = '', values } = call;
    const { copyWithRsync, muster } = await import('./rsync.js');
    const settings = this.#settings(problemsOf);
    const options = {
      source,
      destination,
      jobs: call.jobs ?? 1,
      limit: resources.limits?.bytes ?? 0,
      dryRun: values.dry_run,
      inUse: [
        ...inUse(settings, out.streams.env).inUse,
        ...(values.no_journal ? [] : [values.state_dir ?? stateDirectory(out.streams.env) ?? []].flat()),
      ],
      scratch: this.#temporary(),
      spillDirectory: neededSpillDirectory(out.streams.env),
      note: (message: string) => out.note(message),
      look: async (begin: Begin, listen: (event: Event) => void) => {
        const report = await this.#job(begin, { ...settings, dryRun: false }, listen);
        this.#judge(report);
        out.report(...problemsOf(report));
        return report;
      },
      copy: async (begin: Begin) => {
        const report = await this.#job(begin, settings);
        this.#judge(report);
        this.#summarise(report, (each) => summaryText(each, false));
        return report;
      },
    };
    const crew = await muster(options);
    return async () => {
      this.#say(this.#copying);
      await copyWithRsync(crew, options);
      if (this.#incomplete && call.step === 'all') out.say(INCOMPLETE);
    };
  }

  /** Begins a copy of what is in SRC into DST, with these options beside. */
  async #copier(resources: Resources, settings: CommonSettings): Promise<(changes: Partial<CopyOptions>) => Job> {
    const { call, out } = this;
    const { source, destination = '', values } = call;
    const { copy } = await import('../../../ops/copy.js');
    return (changes) =>
      copy({
        sources: below(source, ''),
        destination,
        dryRun: values.dry_run,
        // What is not on disk yet can't be read from there.
        ...(call.step === 'all' && { sync: 'all' }),
        spillDirectory: spillDirectory(out.streams.env),
        ...inUse(settings, out.streams.env),
        ...resources,
        ...(values.manifest === '-' && call.step === 'all' ? {} : this.#journaled),
        ...changes,
      });
  }

  get #copying(): string {
    const { source, destination = '' } = this.call;
    return `[2/3] Copying ${display(source)} to ${display(destination)}…`;
  }

  /** Where the manifest goes; undefined: to standard output. */
  get #place(): string | undefined {
    const { manifest } = this.call.values;
    return manifest === '-' ? undefined : (manifest ?? below(this.call.source, NAMES[this.#algorithm]));
  }

  /** Whether the steps end here. */
  get #stopped(): boolean {
    return this.#incomplete || this.signal.aborted || this.out.problems.some(({ kind }) => kind === 'interrupted');
  }

  /** The manifest to verify by, when none was made. That of SRC first: an older one in DST knows nothing of new files. */
  async #known(): Promise<string> {
    const { algo, values, source, destination } = this.call;
    if (values.manifest === '-') {
      if (!values.prefer_external_b3) return '/dev/stdin';
      const spooled = join(this.#temporary(), 'manifest');
      await pipeline(this.out.streams.stdin, createWriteStream(spooled), { signal: this.signal });
      return spooled;
    }
    if (values.manifest !== undefined) return values.manifest;
    const names = algo === 'auto' ? Object.values(NAMES) : [NAMES[algo]];
    for (const name of names) {
      const places = [source, ...(destination === undefined ? [] : [destination])].map((each) => below(each, name));
      const there: { place: string; is: string }[] = [];
      for (const place of places) {
        const entry = await stat(toBytes(place)).catch(unlessAbsent);
        if (entry !== undefined) there.push({ place, is: `${entry.size} ${entry.mtimeMs}` });
      }
      const [first, other] = there;
      if (first === undefined) continue;
      if (other !== undefined && other.is !== first.is) {
        this.out.note(`${other.place} has another size or time; --manifest names the one to verify by`);
      }
      return first.place;
    }
    throw new BulkhaulError('LIST', `there is no ${names.join(' or ')} in SRC or DST: --manifest names another`);
  }

  async #verify(manifest: string, resources: Resources): Promise<void> {
    const { call, out } = this;
    const { algo, step, values } = call;
    const target = this.#target;
    this.#say(`[3/3] Verifying at ${display(target)} using ${display(values.manifest ?? manifest)}`);
    const { verify } = await import('../../../ops/verify.js');
    const algorithm = step === 'all' ? this.#algorithm : algo === 'auto' ? undefined : algo;
    // Each failure has its line here, in the words of the original.
    const settings: CommonSettings = { ...this.#settings(findingsOf), ownFailures: true };
    const { report, counted } = await this.#hash(
      () =>
        verify({
          manifests: manifest,
          directory: target,
          extra: false,
          spillDirectory: neededSpillDirectory(out.streams.env),
          // A manifest that came with the copy.
          inUse: [...inUse(settings, out.streams.env).inUse, ...manifestsIn(target)],
          ...(algorithm && { algorithm }),
          ...resources,
          ...(values.manifest === '-' ? {} : this.#journaled),
        }),
      settings,
      (event, print) => {
        const lines = linesOf(event, target);
        if (lines.length > 0) print(lines);
      },
    );
    if (counted) out.print(`Hashing: ${filesOf(report)}`);
    out.notes(report);
    const { 'not-listed': extra = 0 } = report.skipped;
    if (extra > 0) {
      const are = `${count(extra, 'file')} in ${target} ${extra === 1 ? 'is' : 'are'} not in the manifest`;
      out.note(`${are} (bulkhaul verify --in DST MANIFEST names each)`);
    }
    const problems = findingsOf(report);
    out.report(...problems);
    if (problems.length > 0) {
      const failures = Object.values(report.failureKinds).reduce((sum, each) => sum + each, 0);
      if (failures > 0) out.print(`[ERROR] Verification failed: ${failures} problem(s).`);
      return;
    }
    if (values.prefer_external_b3 && !(await this.#secondOpinion(manifest, target))) return;
    this.#say(`verified: ${verifiedText(report)}`, 'Verification successful.');
  }

  /** What the real b3sum finds; false: something. */
  async #secondOpinion(manifest: string, directory: string): Promise<boolean> {
    const { call, out } = this;
    const blake3 = call.step !== 'verify' || call.algo === 'blake3' || manifest.endsWith(NAMES.blake3);
    if (this.#algorithm !== 'blake3' || !blake3) {
      out.note('b3sum was not run: the manifest is not known to be one of BLAKE3 (--algo blake3 says so)');
      return true;
    }
    const opinion = await askB3sum(manifest, directory, call.threads, this.signal);
    switch (opinion.kind) {
      case 'right':
        this.#say('b3sum --check finds the same');
        return true;
      case 'absent':
        out.note('there is no b3sum here: the digests are of bulkhaul alone');
        return true;
      case 'interrupted':
        out.report(INTERRUPTED);
        return false;
      case 'unable':
        out.report({
          kind: 'failed',
          message: `b3sum can't check ${call.values.manifest ?? manifest}: ${opinion.why}`,
        });
        return false;
      case 'wrong': {
        const { names } = opinion;
        out.print(...names.map((name) => `[MISMATCH] ${display(name)}`));
        out.report({ kind: 'found', message: `b3sum finds other content in ${count(names.length, 'file')}` });
        out.print(`[ERROR] Verification failed: ${names.length} problem(s).`);
        return false;
      }
    }
  }

  async #job(begin: Begin, settings: CommonSettings, listen?: (event: Event) => void): Promise<Report> {
    try {
      return await runJob(begin, settings, this.out.streams, listen);
    } catch (error) {
      this.told = error;
      throw error;
    }
  }

  /** A job that hashes, with its counts where nobody sees a status. */
  async #hash(
    begin: (entries: boolean) => Job,
    settings: CommonSettings,
    listen?: (event: Event, print: (lines: readonly string[]) => void) => void,
  ): Promise<{ report: Report; counted: boolean }> {
    const { out, call } = this;
    const { json, quiet } = call.values;
    const terminal = 'isTTY' in out.streams.stderr && out.streams.stderr.isTTY === true;
    const counts = call.progress === 'auto' && !terminal && !json && !quiet;
    let timer: NodeJS.Timeout | undefined;
    // Lines come clear of the status row of a terminal.
    let print = (lines: readonly string[]): void => out.print(...lines);
    const started: Begin = (entries, hush) => {
      const job = begin(entries);
      print = (lines) => void hush(async () => out.print(...lines));
      if (counts) timer = countFiles(job, (line) => out.print(line));
      return job;
    };
    try {
      const report = await this.#job(
        started,
        counts ? { ...settings, progress: 'none' } : settings,
        listen && ((event) => listen(event, print)),
      );
      return { report, counted: counts };
    } finally {
      clearInterval(timer);
    }
  }

  /** The summary of a step, and the problem that it tells of. */
  #summarise(report: Report, text: (report: Report) => string): void {
    const { json, quiet } = this.call.values;
    const told = !json && (!report.complete || !quiet);
    if (told) this.out.streams.stderr.write(text(report));
    this.out.report(...problemsOf(report).map((problem) => ({ ...problem, said: told })));
  }

  /** Sends a manifest to standard output. Throws `OUTPUT` where it does not arrive. */
  async #print(path: string): Promise<void> {
    try {
      await pipeline(createReadStream(path), this.out.streams.stdout, { end: false, signal: this.signal });
    } catch (error) {
      throw new BulkhaulError('OUTPUT', `standard output could not be written: ${whyOf(error)}`);
    }
  }

  /** A directory that goes with the process. */
  #temporary(): string {
    if (this.#directory !== undefined) return this.#directory;
    const directory = mkdtempSync(join(neededSpillDirectory(this.out.streams.env), 'bulkhaul-mirror-'));
    process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
    this.#directory = directory;
    return directory;
  }

  #settings(problems: (report: Report) => readonly Problem[]): CommonSettings {
    const { values, progress } = this.call;
    const verdict = (report: Report) => exitCode([...this.out.problems, ...problems(report)]);
    return { ...settingsOf('run-mirror', values, progress), exitCode: verdict };
  }

  get #journaled(): { journal?: JournalSettings } {
    return journaled(this.call.values, this.out.streams.env);
  }

  /** Lines of the original, unless nobody wants to see them. */
  #say(...lines: readonly string[]): void {
    if (!this.call.values.quiet) this.out.print(...lines);
  }
}

/** What an event of a verification says, as lines in the words of the original. */
function linesOf(event: Event, target: string): string[] {
  if (event.type !== 'error') return [];
  const { kind, path } = event;
  const root = below(target, '');
  const name = display(path.startsWith(root) ? path.slice(root.length) : path);
  if (kind === 'missing' || kind === 'vanished') return [`[MISSING] ${name}`];
  if (kind === 'mismatch') return [`[MISMATCH] ${name}`];
  const why = `run-mirror: ${failureText(event)}`;
  return kind === 'kind' ? [`[MISMATCH] ${name}`, why] : [why];
}

/** What a verification came to. */
function findingsOf(report: Report): Problem[] {
  const { missing = 0, vanished = 0, mismatch = 0, kind = 0, ...others } = report.failureKinds;
  const found = missing + vanished + mismatch + kind;
  const failed = Object.values(others).reduce((sum, each) => sum + each, 0);
  return [
    ...interruption(report),
    ...(found > 0
      ? [{ kind: 'found', message: `${count(found, 'file')} not as the manifest says`, said: true } as const]
      : []),
    ...(failed > 0 ? [{ kind: 'failed', message: `${count(failed, 'failure')}`, said: true } as const] : []),
    ...(report.accounted
      ? []
      : [{ kind: 'failed', message: 'not everything is accounted for: do not trust this run' } as const]),
  ];
}

/** What a manifest or a copy came to. */
function problemsOf(report: Report): Problem[] {
  const interrupted = interruption(report);
  if (interrupted.length > 0 || report.complete) return interrupted;
  return [{ kind: 'failed', message: sentenceOf(report, 2) }];
}

/** Who gave up a job that hung has said so. */
function interruption({ interrupted, failureKinds }: Report): Problem[] {
  if (!interrupted || failureKinds.stalled) return [];
  return [INTERRUPTED];
}

/** Prints how far a job is, whenever so many files more are done. */
export function countFiles(job: Pick<Job, 'snapshot'>, print: (line: string) => void): NodeJS.Timeout {
  let told = 0;
  return setInterval(() => {
    const { doneFiles, foundFiles, expected } = job.snapshot();
    if (doneFiles - told < COUNT_FILES) return;
    told = doneFiles;
    print(`Hashing: ${doneFiles}/${Math.max(expected?.files ?? foundFiles, doneFiles)}`);
  }, COUNT_INTERVAL).unref();
}

function filesOf({ files, found }: Report): string {
  const done = Object.values(files).reduce((sum, each) => sum + each, 0) - files.skipped;
  return `${done}/${Math.max(found.file - files.skipped, done)}`;
}

/** The same of a copy, in which what is skipped is hashed too. */
function copiedFilesOf({ files, found }: Report): string {
  const done = Object.values(files).reduce((sum, each) => sum + each, 0);
  return `${done}/${Math.max(found.file, done)}`;
}

function nothingIn(source: string): BulkhaulError {
  return new BulkhaulError('NO_SOURCE', `there are no files in SRC ${source}: an empty manifest proves nothing`);
}

/** Whether there may be a regular file below, beside `own` at the top: what can't be listed the manifest will tell. */
function hasFiles(directory: Buffer, own?: string): boolean {
  try {
    const entries = readdirSync(directory, { withFileTypes: true, encoding: 'buffer' });
    return (
      entries.some((entry) => entry.isFile() && entry.name.toString() !== own) ||
      entries.some((entry) => entry.isDirectory() && hasFiles(Buffer.concat([directory, entry.name, Buffer.from('/')])))
    );
  } catch {
    return true;
  }
}

/** A name in a directory; the empty one: what is in it. */
function below(directory: string, name: string): string {
  return `${directory.replace(/\/*$/, '/')}${name}`;
}

async function isDirectory(path: string): Promise<boolean> {
  return (await stat(toBytes(path)).catch(unlessAbsent))?.isDirectory() ?? false;
}

/** Throws what keeps it from being looked at. */
function unlessAbsent(error: NodeJS.ErrnoException): undefined {
  if (!['ENOENT', 'ENOTDIR'].includes(error.code ?? '')) throw error;
}
