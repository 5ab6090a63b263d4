/**
 * A command for each part of a partition, as soon as its list is there.
 *
 * Comes in: the addon's job, and a command; goes out: the same job, which ends when its commands have ended. Promises: no
 * shell sees anything; each part has one command, and not more run at once than asked for; one that fails is a failure of
 * the job, as an event and in the report; when the job is stopped no more are begun, and it was interrupted then.
 */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { BulkhaulError, unfit, whyOf } from '../error.js';
import { display, fromBytes, isText } from '../names.js';
import type { NativeEvent, NativeFailure, NativePart, NativeReport } from '../native/events.js';
import type { Limits } from '../native/options.js';
import type { NativeJob } from '../native.js';
import { type Check, each, type Fields, isRecord, record, text, whole } from './arguments.js';

/** What is run for each part. */
export interface PartCommand {
  /** The program and its arguments; `{}` in them stands for the file of the list. */
  command: readonly string[];
  /** Its environment, beside what it is told of its part. Default: nothing, so that the program is found by its path only. */
  environment?: Readonly<Record<string, string | undefined>>;
  /** Commands at once, 1 to 1024. Default 1. */
  jobs?: number;
  /** Descriptors of this process for what it prints, and what it complains of. Default: nobody hears it. */
  output?: readonly [number, number];
}

const variables: Check = (value, key) => {
  if (!isRecord(value)) throw unfit(key, 'an object of strings', value);
};
const FIELDS: Fields<PartCommand> = {
  command: each(text),
  environment: variables,
  jobs: whole(1, 1024),
  output: each(whole(0, 2 ** 31 - 1)),
};
export const PART_COMMAND = record<PartCommand>(FIELDS, 'command');

/** Failures that a report keeps in full, as the engine has it. */
const FAILURES_KEPT = 1000;

/** A job whose parts have commands. */
export class Commanded implements NativeJob {
  readonly #native: NativeJob;
  readonly #command: PartCommand;
  readonly #running = new Map<Promise<void>, ChildProcess>();
  /** What its reader has not been told. */
  #untold: NativeEvent[] = [];
  readonly #failures: NativeFailure[] = [];
  #failed = 0;
  /** Somebody reads the events. */
  #read = false;
  /** Hands the reader what there is. */
  #give: (() => void) | undefined;
  /** The reader has taken everything. */
  #taken: (() => void) | undefined;
  #ended = false;
  #stopped = false;
  /** Parts whose commands were not begun. */
  #missed = 0;

  constructor(native: NativeJob, command: PartCommand) {
    this.#native = native;
    this.#command = command;
    if (command.command.length === 0) throw new BulkhaulError('USAGE', 'exec.command: there is no program in it');
  }

  async run(): Promise<NativeReport> {
    const following = this.#follow();
    try {
      const report = await this.#native.run();
      await following;
      await Promise.all(this.#running.keys());
      const failures = [...report.failures, ...this.#failures].slice(0, FAILURES_KEPT);
      const failureKinds = { ...report.failureKinds, ...(this.#failed > 0 && { command: this.#failed }) };
      return { ...report, failures, failureKinds, interrupted: report.interrupted || this.#missed > 0 };
    } finally {
      this.#ended = true;
      this.#give?.();
    }
  }

  /** Takes the events of the job, and begins commands; a reader that is behind holds both back. */
  async #follow(): Promise<void> {
    for (let batch = await this.#native.nextEvents(); batch.length > 0; batch = await this.#native.nextEvents()) {
      for (const event of batch) {
        this.#tell(event);
        if (event.type === 'part') await this.#begin(event);
      }
      if (this.#read && this.#untold.length > 0) await new Promise<void>((taken) => (this.#taken = taken));
    }
  }

  #tell(event: NativeEvent): void {
    if (this.#read) this.#untold.push(event);
    this.#give?.();
  }

  async #begin(part: NativePart): Promise<void> {
    const { jobs = 1 } = this.#command;
    while (this.#running.size >= jobs) await Promise.race(this.#running.keys());
    if (this.#stopped || part.path === undefined) {
      this.#missed += 1;
      return;
    }
    const list = fromBytes(part.path);
    const [program = '', ...args] = this.#command.command.map((word) => word.replaceAll('{}', () => list));
    const streams: StdioOptions = ['ignore', ...(this.#command.output ?? (['ignore', 'ignore'] as const))];
    let child: ChildProcess;
    try {
      child = spawn(program, args, { env: this.#environment(part, list), stdio: streams });
    } catch (error) {
      return this.#fail(part, program, whyOf(error));
    }
    const over = new Promise<void>((resolve) => {
      const end = (why: string | undefined) => {
        if (this.#running.delete(over) && why !== undefined) this.#fail(part, program, why);
        resolve();
      };
      child.on('error', (error) => end(whyOf(error)));
      child.on('close', (code, signal) => end(code === 0 ? undefined : `it ended with ${signal ?? code}`));
    });
    this.#running.set(over, child);
  }

  /** What a command is told of its part: by our names, and those that fpart's hooks have. */
  #environment({ number, entries, bytes, cost }: NativePart, list: string): Record<string, string | undefined> {
    return {
      ...this.#command.environment,
      BULKHAUL_PART_FILE: list,
      BULKHAUL_PART_NUMBER: String(number),
      BULKHAUL_PART_ENTRIES: String(entries),
      BULKHAUL_PART_BYTES: String(bytes),
      BULKHAUL_PART_COST: String(cost),
      FPART_HOOKTYPE: 'post-part',
      FPART_PARTFILENAME: list,
      FPART_PARTNUMBER: String(number),
      FPART_PARTSIZE: String(bytes),
      FPART_PARTNUMFILES: String(entries),
      FPART_PID: String(process.pid),
    };
  }

  #fail({ number, path = Buffer.alloc(0) }: NativePart, program: string, why: string): void {
    const failure: NativeFailure = {
      type: 'error',
      kind: 'command',
      outcome: 'failed',
      operation: 'exec',
      path,
      entryKind: 'file',
      message: `exec ${fromBytes(path)}: ${program} for part ${number}: ${why}`,
    };
    this.#failed += 1;
    if (this.#failures.length < FAILURES_KEPT) this.#failures.push(failure);
    this.#tell(failure);
  }

  async nextEvents(): Promise<NativeEvent[]> {
    this.#read = true;
    if (this.#untold.length === 0 && !this.#ended) await new Promise<void>((give) => (this.#give = give));
    this.#give = undefined;
    const batch = this.#untold;
    this.#untold = [];
    this.#taken?.();
    this.#taken = undefined;
    return batch;
  }

  cancel(abort: boolean): void {
    this.#stopped = true;
    this.#native.cancel(abort);
    if (abort) for (const child of this.#running.values()) child.kill();
  }

  setLimits(limits: Limits): void {
    this.#native.setLimits(limits);
  }

  setStallTimeout(seconds: number): void {
    this.#native.setStallTimeout(seconds);
  }

  snapshot() {
    return this.#native.snapshot();
  }

  peek() {
    return this.#native.peek();
  }

  answer(yes: boolean): void {
    this.#native.answer(yes);
  }
}

/** Throws `USAGE` for lists that no command could be told of. */
export function checkTemplate(template: string | undefined): void {
  if (template === undefined)
    throw new BulkhaulError('USAGE', 'exec: a command works on a list in a file; name a template');
  if (!isText(template)) {
    throw new BulkhaulError(
      'USAGE',
      `exec: ${display(template)}: a name that is not UTF-8 is no argument of a command`,
    );
  }
}
