/** What the tests stand on: scratch directories, the built command, and jobs that follow a script. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished } from 'vitest';
import { decode, type Report } from '../src/events.js';
import type { NativeEvent, NativeReport, NativeSnapshot } from '../src/native/events.js';
import type { Limits } from '../src/native/options.js';
import type { NativeJob } from '../src/native.js';
import { verdictOf } from '../src/verdict.js';

const MAIN = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const FAULTS = fileURLToPath(new URL('../../crates/engine/tests/rig/faultfs.py', import.meta.url));

/** An empty directory that goes away with the test. */
export function scratch(): string {
  const directory = mkdtempSync(join(tmpdir(), 'bulkhaul-test-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A port that nobody has at the moment. */
export function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

export interface Mount {
  point: string;
  /** Resolves when a read begins to hang. */
  hangs: () => Promise<void>;
  /** What waits for an answer of it gets an error. */
  unmount: () => Promise<void>;
}

/**
 * Shows a directory somewhere else, with faults: `options` as faultfs.py tells them. Whoever calls it unmounts it; it
 * ends with this process at the latest. `undefined`: it can't be had here, and that was printed.
 */
export async function mountFaulty(of: string, options = ''): Promise<Mount | undefined> {
  if (process.getuid?.() !== 0) return skipped('this needs root');
  const point = mkdtempSync(join(tmpdir(), 'bulkhaul-test-'));
  // The python that the system's packages are for.
  const server = spawn('/usr/bin/python3', [FAULTS, of, point, '-o', options], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise<number | Error | null>((resolve) => server.on('error', resolve).on('close', resolve));
  // It says a line at a time.
  const said = await new Promise<string>((resolve) => {
    server.stdout.once('data', (chunk: Buffer) => resolve(chunk.toString()));
    void ended.then((how) => resolve(String(how)));
  });
  if (said === 'ready\n') {
    server.stdout.resume();
    const hangs = () => new Promise<void>((resolve) => server.stdout.once('data', () => resolve()));
    const unmount = async () => {
      server.stdin.end();
      await ended;
      rmdirSync(point);
    };
    return { point, hangs, unmount };
  }
  rmdirSync(point);
  const how = await ended;
  if (how === 2) expect.fail(`faultfs does not know: ${options}`);
  return skipped(said.trim());
}

/** As mountFaulty, until the test ends; answers where. */
export async function faulty(of: string, options = ''): Promise<string | undefined> {
  const mount = await mountFaulty(of, options);
  if (mount) onTestFinished(mount.unmount);
  return mount?.point;
}

function skipped(why: string): undefined {
  console.log(`skip: ${why}`);
}

export interface Run {
  code: number | null;
  stdout: string;
  stderr: string;
}

interface Surroundings {
  cwd?: string | undefined;
  env?: NodeJS.ProcessEnv | undefined;
  /** What it reads; false: what somebody writes. */
  input?: Buffer | string | false | undefined;
  /** Called when it is started. */
  onStart?: ((child: ChildProcess) => void) | undefined;
  /** Called at the first output on stdout. */
  onOutput?: ((child: ChildProcess) => void) | undefined;
}

/** Runs the built command, off a terminal. `startedAs`: a link to the executable, for the name. */
export function run(
  args: readonly string[],
  { startedAs = MAIN, ...surroundings }: Surroundings & { startedAs?: string } = {},
): Promise<Run> {
  return program(process.execPath, [startedAs, ...args], surroundings);
}

/** Runs a program to its end. */
export function program(
  command: string,
  args: readonly string[],
  { cwd, env, input = '', onStart, onOutput }: Surroundings = {},
): Promise<Run> {
  if (!existsSync(MAIN)) throw new Error(`${MAIN} is missing: npm run build:ts`);
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, env: { ...process.env, NO_COLOR: '1', ...env } });
    onStart?.(child);
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
    if (onOutput) child.stdout.once('data', () => onOutput(child));
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
    child.on('error', reject);
    child.on('close', (code) =>
      resolve({ code, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() }),
    );
    // A command that refuses its arguments does not read its input.
    child.stdin.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') reject(error);
    });
    if (input !== false) child.stdin.end(input);
  });
}

/** The built executable. */
export const executable = MAIN;

/** Runs a line in a shell, where `hpcp` is the built command. */
export function shell(line: string, cwd: string): Promise<Run> {
  return program('bash', ['-c', line.replaceAll('hpcp', `"${process.execPath}" "${executable}" hpcp`)], { cwd });
}

/** Runs a line on a terminal of its own, where `answer`, as of printf, is typed. */
export function typed(answer: string, line: string, cwd: string): Promise<Run> {
  return shell(`(sleep 1; printf '${answer}'; sleep 0.5) | script -qec '${line}' /dev/null`, cwd);
}

/** Whether a process is there, and has not ended. */
export function lives(process: number | string): boolean {
  try {
    // Its state comes after its name, which may hold anything.
    return !/^[ZX]/.test(readFileSync(`/proc/${process}/stat`, 'latin1').replace(/^.*\) /s, ''));
  } catch {
    return false;
  }
}

/** The number of a process that has ended and that nobody waits for until the test ends; undefined: none can be had here. */
export async function zombie(): Promise<number | undefined> {
  if (process.platform !== 'linux') {
    console.log('skip: /proc does not tell of processes here');
    return undefined;
  }
  // The shell becomes a program that waits for no child, and only then its child may end.
  const parent = spawn('sh', ['-c', 'exec 3<&0; (read -r _ <&3) & echo $!; exec sleep 600'], {
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  onTestFinished(() => void parent.kill('SIGKILL'));
  const [said] = await once(parent.stdout, 'data');
  const of = (number: number | undefined, what: string) => readFileSync(`/proc/${number}/${what}`, 'latin1');
  await expect.poll(() => of(parent.pid, 'comm'), { timeout: 30_000 }).toBe('sleep\n');
  parent.stdin.end();
  await expect.poll(() => of(Number(said), 'stat'), { timeout: 30_000 }).toMatch(/\) Z /);
  return Number(said);
}

/** Keeps what is written to it. */
export class Capture extends Writable {
  text = '';
  isTTY = false;
  columns = 100;
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

export const snapshot = (changes: Partial<NativeSnapshot> = {}): NativeSnapshot => ({
  phase: 'copying',
  foundFiles: 0,
  foundBytes: 0,
  foundDirectories: 0,
  foundLinks: 0,
  doneEntries: 0,
  doneFiles: 0,
  doneBytes: 0,
  skippedFiles: 0,
  skippedBytes: 0,
  copiedBytes: 0,
  copiedFiles: 0,
  resumedBytes: 0,
  errors: 0,
  workers: 2,
  limits: { bytes: 0, entries: 0 },
  verifiedBytes: 0,
  readBytes: 0,
  workedEntries: 0,
  elapsed: 0,
  ...changes,
});

const NO_OUTCOMES = {
  changed: 0,
  conflict: 0,
  copied: 0,
  different: 0,
  failed: 0,
  linked: 0,
  listed: 0,
  made: 0,
  metadata: 0,
  mismatched: 0,
  removed: 0,
  renamed: 0,
  same: 0,
  skipped: 0,
};

export const outcomes = (changes: Partial<NativeReport['outcomes']> = {}): NativeReport['outcomes'] => ({
  ...NO_OUTCOMES,
  ...changes,
});

export const report = (changes: Partial<NativeReport> = {}): NativeReport => ({
  outcomes: outcomes(),
  found: { block: 0, char: 0, directory: 0, fifo: 0, file: 0, socket: 0, symlink: 0 },
  files: outcomes(),
  directories: outcomes(),
  skipped: {},
  foundBytes: 0,
  sizes: [],
  heaviest: [],
  slowest: [],
  allocatedBytes: 0,
  copiedBytes: 0,
  resumedFiles: 0,
  resumedBytes: 0,
  plannedBytes: 0,
  verifiedFiles: 0,
  verifiedBytes: 0,
  verifiedFromCache: 0,
  hashedBytes: 0,
  differences: { left: 0, right: 0, changed: 0, leftEntries: 0, rightEntries: 0 },
  extras: 0,
  removedSources: 0,
  keptSources: 0,
  conversions: [],
  withheld: [],
  failures: [],
  failureKinds: {},
  notes: [],
  accounted: true,
  interrupted: false,
  unfinished: 0,
  sync: 'safe',
  workers: 2,
  elapsed: 1,
  ...changes,
});

/** The same as jobs give it. */
export function reported(changes: Partial<NativeReport> = {}, dryRun = false): Report {
  const counted = decode(report(changes));
  return { ...counted, ...verdictOf(counted, dryRun) };
}

interface Script {
  /** Batches of events. */
  events?: NativeEvent[][];
  /** One for each call; the last stays. */
  snapshots?: NativeSnapshot[];
  report?: Partial<NativeReport>;
  /** `run` rejects with it. */
  error?: Error;
  /** Milliseconds that the job takes; 'cancel': until it is cancelled. */
  takes?: number | 'cancel';
}

/** A job of the addon as the contract in native.ts says, that does what a script says. */
export class FakeNative implements NativeJob {
  readonly cancels: boolean[] = [];
  readonly limits: Limits[] = [];
  reads = 0;
  ran = false;
  /** Batches still to be read; the job ends only when a reader that began has taken all of them. */
  readonly #batches: NativeEvent[][];
  readonly #snapshots: NativeSnapshot[];
  #end: () => void = () => undefined;
  readonly #ended = new Promise<void>((resolve) => {
    this.#end = resolve;
  });
  #taken: () => void = () => undefined;
  readonly #allTaken = new Promise<void>((resolve) => {
    this.#taken = resolve;
  });

  constructor(readonly script: Script = {}) {
    this.#batches = [...(script.events ?? [])];
    this.#snapshots = [...(script.snapshots ?? [snapshot()])];
  }

  async run(): Promise<NativeReport> {
    this.ran = true;
    const { error, takes = 0 } = this.script;
    if (error) {
      this.#end();
      throw error;
    }
    if (takes === 'cancel') {
      if (this.cancels.length === 0) await this.#ended;
    } else await new Promise((resolve) => setTimeout(resolve, takes));
    if (this.reads > 0 && this.#batches.length > 0) await this.#allTaken;
    this.#end();
    return report({ ...this.script.report, interrupted: this.cancels.length > 0 });
  }

  async nextEvents(): Promise<NativeEvent[]> {
    this.reads += 1;
    const batch = this.#batches.shift();
    if (this.#batches.length === 0) this.#taken();
    if (batch) return batch;
    await this.#ended;
    return [];
  }

  readonly answers: boolean[] = [];
  answer(yes: boolean): void {
    this.answers.push(yes);
  }

  setLimits(limits: Limits): void {
    this.limits.push(limits);
  }

  readonly stallTimeouts: number[] = [];
  setStallTimeout(seconds: number): void {
    this.stallTimeouts.push(seconds);
  }

  cancel(abort: boolean): void {
    this.cancels.push(abort);
    this.#end();
  }

  snapshot(): NativeSnapshot {
    const next = this.#snapshots.length > 1 ? this.#snapshots.shift() : this.#snapshots[0];
    return next ?? snapshot();
  }

  peek(): NativeSnapshot {
    return this.snapshot();
  }
}

/** The parts of JSON Schema that the shipped schema uses; a property that it does not know is an error too. */
function violations(schema: Schema, value: unknown, root: Schema, at = '$'): string[] {
  if (schema.$ref)
    return violations(root.$defs?.[schema.$ref.replace('#/$defs/', '')] ?? expect.fail(schema.$ref), value, root, at);
  if (schema.oneOf) {
    const all = schema.oneOf.map((each) => violations(each, value, root, at));
    return all.filter((found) => found.length === 0).length === 1 ? [] : all.flat();
  }
  const found: string[] = [];
  if ('const' in schema && schema.const !== value) found.push(`${at} is not ${schema.const}`);
  if (schema.enum && !schema.enum.includes(value)) found.push(`${at} is none of ${schema.enum}`);
  if (schema.type === 'integer' ? !Number.isInteger(value) : schema.type && schema.type !== typeOf(value)) {
    found.push(`${at} is not ${schema.type}`);
  }
  if (schema.minimum !== undefined && Number(value) < schema.minimum) found.push(`${at} is too small`);
  if (Array.isArray(value)) {
    value.forEach((item, index) => {
      found.push(...violations(schema.items ?? {}, item, root, `${at}[${index}]`));
    });
  } else if (typeof value === 'object' && value !== null) {
    for (const key of schema.required ?? []) if (!(key in value)) found.push(`${at}.${key} is missing`);
    // Where the schema names the properties they come in its order, else in that of their names.
    const keys = Object.keys(value);
    const order = schema.properties
      ? Object.keys(schema.properties).filter((key) => keys.includes(key))
      : [...keys].sort();
    if (order.join() !== keys.filter((key) => order.includes(key)).join())
      found.push(`${at} has its keys in another order`);
    for (const [key, item] of Object.entries(value)) {
      const each = schema.properties?.[key] ?? schema.additionalProperties;
      // Anything may be there.
      if (each === true) continue;
      if (each) found.push(...violations(each, item, root, `${at}.${key}`));
      else found.push(`${at}.${key} is not in the schema`);
    }
  }
  return found;
}

interface Schema {
  $ref?: string;
  $defs?: Record<string, Schema>;
  oneOf?: Schema[];
  const?: unknown;
  enum?: unknown[];
  type?: string;
  minimum?: number;
  items?: Schema;
  required?: string[];
  properties?: Record<string, Schema>;
  additionalProperties?: Schema | true;
}

const typeOf = (value: unknown) => (Array.isArray(value) ? 'array' : value === null ? 'null' : typeof value);

const SCHEMA: Schema = JSON.parse(readFileSync(new URL('../schema/events.schema.json', import.meta.url), 'utf8'));

/** What is wrong with a line of --json. */
export const schemaViolations = (line: unknown): string[] => violations(SCHEMA, line, SCHEMA);

/** The lines of a text, each checked against the schema. */
export function jsonLines(text: string): Record<string, unknown>[] {
  expect(text.endsWith('\n')).toBe(true);
  return text
    .slice(0, -1)
    .split('\n')
    .map((line) => {
      const value = JSON.parse(line);
      expect(schemaViolations(value)).toEqual([]);
      return value;
    });
}
