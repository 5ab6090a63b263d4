/**
 * A run directory that a worker does not see: the connection that began the worker leads to it.
 *
 * Comes in: on the one side the worker's standard input and output, on the other the same two and the run directory; goes out:
 * the run as a worker sees it. Each call is a line of JSON that the worker writes, and one that it reads; between these come
 * the words that tell it to stop. All files stay where the coordinator is, which performs each step as if the worker had done it
 * there, so nothing is different for whoever else works on the run. A worker knows lists, and what it has read, by copies in a
 * temporary directory, which is locked as long as it lives: of one that was killed the next one on its host takes it away.
 *
 * Whoever is cut off is not told that it has lost its part. So it takes itself for lost when a call is not answered, sooner than
 * anybody else may: `looks` beats after the last one that others could see.
 */
import { closeSync, constants, existsSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { appendFile, mkdtemp, open, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { BulkhaulError, whyOf } from '../../error.js';
import { toBytes } from '../../names.js';
import type { NativeFailure } from '../../native/events.js';
import { type Addon, loadAddon } from '../../native.js';
import { text, whole } from '../arguments.js';
import {
  type Beat,
  type Pace,
  type PartState,
  type Plan,
  type RunDirectory,
  restore,
  type Stored,
  store,
  type WorkerRun,
} from './directory.js';
import type { Standing, Step } from './protocol.js';

/** Bytes of a file that go at once. */
const CHUNK = 1024 * 1024;

/** A call: its number, what it is of, and with what. */
interface Call {
  call: number;
  of: string;
  with: readonly unknown[];
}

/** What comes of it. */
interface Reply {
  reply: number;
  value?: unknown;
  /** Why there is none. */
  error?: string;
}

/** A number that a worker has said. */
function number(value: unknown): number {
  whole(0, Number.MAX_SAFE_INTEGER)(value, 'a number of a call');
  return value as number;
}

/** The name of another worker. */
function name(value: unknown): string {
  text(value, 'a name of a call');
  if (!/^\w[\w.-]*$/.test(value as string)) throw new BulkhaulError('USAGE', 'there is no worker of such a name');
  return value as string;
}

/** What may be asked for, as the coordinator does it. */
const DEEDS: Readonly<Record<string, (run: RunDirectory, worker: string, given: readonly unknown[]) => unknown>> = {
  plan: (run) => run.plan(),
  pace: (run) => run.pace(),
  watched: (run) => run.watched(),
  isThere: (run) => run.isThere(),
  standings: (run) => [...run.standings()],
  workers: (run) => [...run.workers()],
  holder: (run, _, [part, attempt]) => run.holder(number(part), number(attempt)),
  beatOf: (run, _, [worker]) => run.beatOf(name(worker)),
  state: (run, _, [part]) => run.state(number(part)),
  beat: (run, worker, [beat]) => run.beat(worker, beat as Beat),
  end: (run, worker) => run.end(worker),
  lease: (run, worker, [part, attempt]) =>
    run.perform({ do: 'lease', part: number(part), attempt: number(attempt) }, worker),
  leased: (run, worker, [part, attempt]) =>
    run.perform({ do: 'leased', part: number(part), attempt: number(attempt) }, worker),
  settled: (run, worker, [part]) => run.perform({ do: 'settled', part: number(part) }, worker),
  settle: (run, worker, [part, attempt, state]) => {
    const outcome = state as PartState;
    return run.perform({ do: 'settle', part: number(part), attempt: number(attempt), outcome }, worker);
  },
  release: (run, worker, [part, attempt]) =>
    run.perform({ do: 'release', part: number(part), attempt: number(attempt) }, worker),
  fail: (run, _, [part, attempt, failures]) =>
    run.fail(number(part), number(attempt), (failures as Stored<NativeFailure>[]).map(restore)),
  list: (run, _, [at, part]) => chunkOf(run.list(number(part)), number(at)),
  found: (run, _, [at, part, attempt]) => chunkOf(run.found(number(part), number(attempt)), number(at)),
  keepFound: (run, _, [at, bytes, part, attempt]) => {
    text(bytes, 'bytes of a call');
    put(run.found(number(part), number(attempt)), number(at), Buffer.from(bytes as string, 'base64'));
  },
};

/** Bytes of a file from a place on; none: it ends there, or is not there. */
function chunkOf(path: string, at: number): string {
  let file: number;
  try {
    file = openSync(toBytes(path), 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  }
  try {
    const bytes = Buffer.allocUnsafe(CHUNK);
    return bytes.subarray(0, readSync(file, bytes, 0, CHUNK, at)).toString('base64');
  } finally {
    closeSync(file);
  }
}

function put(path: string, at: number, bytes: Buffer): void {
  const file = openSync(toBytes(path), at === 0 ? 'w' : 'r+', 0o600);
  try {
    for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done, bytes.length - done, at + done);
  } finally {
    closeSync(file);
  }
}

/** Does what a worker asks for, until it asks no more. */
export async function serve(from: Readable, to: Writable, run: RunDirectory, worker: string): Promise<void> {
  for await (const line of linesOf(from)) {
    // What a login file prints is none of it.
    if (!line.startsWith('{"call":')) continue;
    const { call, of, with: given } = JSON.parse(line) as Call;
    const reply: Reply = { reply: call };
    try {
      const deed = Object.hasOwn(DEEDS, of) ? DEEDS[of] : undefined;
      if (deed === undefined) throw new BulkhaulError('USAGE', `there is no call of this name: ${of}`);
      reply.value = deed(run, worker, given);
    } catch (error) {
      reply.error = whyOf(error);
    }
    to.write(`${JSON.stringify(reply)}\n`);
  }
}

/** What a worker hears other than replies. */
export interface Heard {
  /** A word of whoever began it. */
  order: (word: string) => void;
  /** There is no way to the run any more. */
  lost: (why: string) => void;
}

/** What directories of workers are called. */
const OWN = 'bulkhaul-worker-';

/** A directory of this process, and the descriptor that holds it. */
interface Own {
  path: string;
  file: number;
}

/** Makes one. */
async function own({ lockDescriptor }: Pick<Addon, 'lockDescriptor'>): Promise<Own> {
  for (;;) {
    const path = await mkdtemp(join(tmpdir(), OWN));
    const file = openSync(toBytes(path), constants.O_RDONLY | constants.O_DIRECTORY);
    // Somebody may have taken it for left before it was held.
    if (lockDescriptor(file) !== false && existsSync(path)) return { path, file };
    closeSync(file);
  }
}

/** Takes away those that nobody holds. */
async function sweep({ lockDescriptor }: Pick<Addon, 'lockDescriptor'>): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    if (!name.startsWith(OWN)) continue;
    const path = join(tmpdir(), name);
    let file: number;
    try {
      file = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
    } catch {
      // It is another user's, or has gone meanwhile.
      continue;
    }
    try {
      if (lockDescriptor(file) === true) await rm(path, { recursive: true, force: true });
    } catch {
      // A directory in it that can't be read is none of a worker's.
    } finally {
      closeSync(file);
    }
  }
}

export class CarriedRun implements WorkerRun {
  readonly #calls = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  #number = 0;
  /** Milliseconds in which a call is answered, when it is known how soon others take this worker for lost. */
  #patience: number | undefined;
  #gone: BulkhaulError | undefined;

  /** The run that a connection leads to. */
  static async open(from: Readable, to: Writable, heard: Heard): Promise<CarriedRun> {
    const addon = await loadAddon();
    await sweep(addon);
    return new CarriedRun(await own(addon), from, to, heard);
  }

  private constructor(
    readonly own: Own,
    from: Readable,
    readonly to: Writable,
    readonly heard: Heard,
  ) {
    to.on('error', (error) => this.#lose(whyOf(error)));
    void this.#listen(from);
  }

  /** There is no way to the run any more. */
  get isGone(): boolean {
    return this.#gone !== undefined;
  }

  /** Nothing is asked any more, and nothing left here. */
  close(): void {
    this.#gone ??= new BulkhaulError('JOURNAL', 'the connection was closed');
    rmSync(this.own.path, { recursive: true, force: true });
    closeSync(this.own.file);
  }

  async plan(): Promise<Plan | undefined> {
    const plan = (await this.#ask('plan')) as Plan | undefined;
    // A beat is as old as that when its answer is missed, and the next one was due.
    if (plan !== undefined) this.#patience = (plan.beat * plan.looks * 1000) / 2;
    return plan;
  }

  /** What is spilled goes where there is a place for it here. */
  async pace(): Promise<Pace> {
    const { spillDirectory, ...pace } = (await this.#ask('pace')) as Pace;
    return { ...pace, ...(spillDirectory !== undefined && { spillDirectory: this.own.path }) };
  }

  async watched(): Promise<number | undefined> {
    return (await this.#ask('watched')) as number | undefined;
  }

  async isThere(): Promise<boolean> {
    return (await this.#ask('isThere')) === true;
  }

  async standings(): Promise<Map<number, Standing>> {
    return new Map((await this.#ask('standings')) as [number, Standing][]);
  }

  async workers(): Promise<Map<string, boolean>> {
    return new Map((await this.#ask('workers')) as [string, boolean][]);
  }

  async holder(part: number, attempt: number): Promise<string | undefined> {
    return (await this.#ask('holder', part, attempt)) as string | undefined;
  }

  async beatOf(worker: string): Promise<Beat | undefined> {
    return (await this.#ask('beatOf', worker)) as Beat | undefined;
  }

  async state(part: number): Promise<PartState> {
    return (await this.#ask('state', part)) as PartState;
  }

  async perform(step: Exclude<Step<PartState>, { do: 'work' }>): Promise<boolean> {
    const attempt = 'attempt' in step ? [step.attempt] : [];
    const outcome = step.do === 'settle' ? [step.outcome] : [];
    return (await this.#ask(step.do, step.part, ...attempt, ...outcome)) === true;
  }

  async beat(_: string, beat: Beat): Promise<void> {
    await this.#ask('beat', beat);
  }

  async end(): Promise<void> {
    await this.#ask('end');
  }

  async fail(part: number, attempt: number, failures: readonly NativeFailure[]): Promise<void> {
    await this.#ask('fail', part, attempt, failures.map(store));
  }

  list(part: number): Promise<string> {
    return this.#fetch(`part.${part}`, 'list', part);
  }

  found(part: number, attempt: number): Promise<string> {
    return this.#fetch(`found.${part}.${attempt}`, 'found', part, attempt);
  }

  async keepFound(part: number, attempt: number): Promise<void> {
    const path = toBytes(join(this.own.path, `found.${part}.${attempt}`));
    // Of what is empty, or was just written to, nothing is written down.
    if (!existsSync(path)) return;
    const file = await open(path);
    try {
      const bytes = Buffer.allocUnsafe(CHUNK);
      for (let at = 0; ; ) {
        const { bytesRead } = await file.read(bytes, 0, CHUNK, at);
        if (bytesRead === 0) return;
        await this.#ask('keepFound', at, bytes.subarray(0, bytesRead).toString('base64'), part, attempt);
        at += bytesRead;
      }
    } finally {
      await file.close();
    }
  }

  /** A file of the run, as a copy of it here. */
  async #fetch(name: string, of: string, ...which: number[]): Promise<string> {
    const path = join(this.own.path, name);
    rmSync(toBytes(path), { force: true });
    for (let at = 0; ; ) {
      const bytes = Buffer.from(String(await this.#ask(of, at, ...which)), 'base64');
      if (bytes.length === 0 && at > 0) return path;
      await appendFile(toBytes(path), bytes, { mode: 0o600 });
      if (bytes.length === 0) return path;
      at += bytes.length;
    }
  }

  #ask(of: string, ...given: readonly unknown[]): Promise<unknown> {
    if (this.#gone) return Promise.reject(this.#gone);
    this.#number += 1;
    const call: Call = { call: this.#number, of, with: given };
    return new Promise((resolve, reject) => {
      const timer =
        this.#patience && setTimeout(() => this.#lose('the run was not heard of for too long'), this.#patience);
      const settled = () => {
        clearTimeout(timer);
        this.#calls.delete(call.call);
      };
      this.#calls.set(call.call, {
        resolve: (value) => {
          settled();
          resolve(value);
        },
        reject: (error) => {
          settled();
          reject(error);
        },
      });
      this.to.write(`${JSON.stringify(call)}\n`);
    });
  }

  async #listen(from: Readable): Promise<void> {
    let why = 'whoever began it is gone';
    try {
      for await (const line of linesOf(from)) {
        if (!line.startsWith('{')) {
          this.heard.order(line);
          continue;
        }
        const { reply, value, error } = JSON.parse(line) as Reply;
        const call = this.#calls.get(reply);
        if (error === undefined) call?.resolve(value);
        else call?.reject(new BulkhaulError('JOURNAL', `the run: ${error}`));
      }
    } catch (error) {
      why = whyOf(error);
    }
    this.#lose(why);
  }

  #lose(why: string): void {
    if (this.#gone) return;
    this.#gone = new BulkhaulError('JOURNAL', why);
    for (const { reject } of [...this.#calls.values()]) reject(this.#gone);
    this.heard.lost(why);
  }
}

/** The lines of a stream, of any length. */
async function* linesOf(stream: Readable): AsyncGenerator<string> {
  let parts: Buffer[] = [];
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    let from = 0;
    for (let end = chunk.indexOf('\n'); end >= 0; end = chunk.indexOf('\n', from)) {
      yield Buffer.concat([...parts, chunk.subarray(from, end)]).toString();
      parts = [];
      from = end + 1;
    }
    if (from < chunk.length) parts.push(chunk.subarray(from));
  }
}
