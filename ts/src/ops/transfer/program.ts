/**
 * A program of the system, run to its end.
 *
 * Comes in: a program and its arguments, each as it is (no shell sees them), what it is to read, and who takes its lines;
 * goes out: how it ended. It has a process group of its own, so that a key on the terminal is ours to answer, and nothing of
 * it is left when it was stopped. Memory is bounded: a program waits for whoever takes its lines, and of a line only so much
 * is kept. When this process dies, the program's pipes break, and it with them.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { BulkhaulError, whyOf } from '../../error.js';
import { isText } from '../../names.js';

/** Bytes of a line that are kept: room for the longest path with each byte escaped. */
const LONGEST_LINE = 64 * 1024;

/** What runs, each argument for itself. */
export type Command = readonly [program: string, ...args: string[]];

/** How a program ended: with a code, or by a signal. */
export interface Ended {
  code: number | undefined;
  signal: string | undefined;
}

/** Takes a line, without its end, of standard output or standard error; a promise asks to wait with the next. */
export type TakeLine = (line: Buffer, stream: 'stdout' | 'stderr') => void | Promise<void>;

/** A program that was begun. */
export interface Running {
  /** Rejects with `NO_START` where it can't be begun, and with what its reader throws. */
  readonly ended: Promise<Ended>;
  /** Asks it to end, or with `abort` makes it. */
  stop(abort: boolean): void;
}

/** Begins a program. `input`: what it reads; absent: nothing. */
export function start(
  [program, ...args]: Command,
  { input, take }: { input?: AsyncIterable<Buffer> | undefined; take: TakeLine },
): Running {
  const unfit = args.find((arg) => !isText(arg) || arg.includes('\0'));
  if (unfit !== undefined) {
    const error = new BulkhaulError('USAGE', `${program} can't be given a name that is not UTF-8: ${unfit}`);
    return { ended: Promise.reject(error), stop: () => undefined };
  }
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'], detached: true });
  const signal = (name: NodeJS.Signals) => {
    if (child.pid === undefined) return;
    try {
      process.kill(-child.pid, name);
    } catch (error) {
      // It has ended.
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  };
  const leave = () => signal('SIGKILL');
  if (alive.size === 0) process.on('exit', leaveNone);
  alive.add(leave);
  const ended = follow(child, program, input, take, leave).finally(() => {
    alive.delete(leave);
    if (alive.size === 0) process.off('exit', leaveNone);
  });
  return { ended, stop: (abort) => signal(abort ? 'SIGKILL' : 'SIGTERM') };
}

/** What ends each program that runs: where this process exits, none is left. */
const alive = new Set<() => void>();

function leaveNone(): void {
  for (const leave of alive) leave();
}

async function follow(
  child: ChildProcessByStdio<Writable, Readable, Readable>,
  program: string,
  input: AsyncIterable<Buffer> | undefined,
  take: TakeLine,
  leave: () => void,
): Promise<Ended> {
  const closed = new Promise<Ended>((resolve, reject) => {
    child.on('error', (error: NodeJS.ErrnoException) => {
      const why = error.code === 'ENOENT' ? 'there is no such program here' : whyOf(error);
      reject(new BulkhaulError('NO_START', `${program} can't be run: ${why}`, { cause: error }));
    });
    child.on('close', (code, signal) => resolve({ code: code ?? undefined, signal: signal ?? undefined }));
  });
  // What the others find is told first.
  closed.catch(() => undefined);
  try {
    await Promise.all([
      feed(child.stdin, input),
      lines(child.stdout, (line) => take(line, 'stdout')),
      lines(child.stderr, (line) => take(line, 'stderr')),
    ]);
    return await closed;
  } catch (error) {
    leave();
    await closed;
    throw error;
  }
}

/** Gives a program what it reads. One that ends before has its code to tell why. */
async function feed(stdin: Writable, input: AsyncIterable<Buffer> | undefined): Promise<void> {
  let room: () => void = () => undefined;
  let open = true;
  stdin.on('drain', () => room());
  for (const end of ['error', 'close']) {
    stdin.on(end, () => {
      open = false;
      room();
    });
  }
  for await (const chunk of input ?? []) {
    if (!open) return;
    if (stdin.write(chunk)) continue;
    await new Promise<void>((resolve) => {
      room = resolve;
    });
  }
  stdin.end();
}

/** Cuts a stream into lines, ended by newlines or carriage returns. Of one that is too long the beginning is taken. */
async function lines(stream: Readable, take: (line: Buffer) => void | Promise<void>): Promise<void> {
  let parts: Buffer[] = [];
  let length = 0;
  const keep = (part: Buffer) => {
    const kept = part.subarray(0, LONGEST_LINE - length);
    // A copy: the rest of the chunk is not to stay with it.
    if (kept.length > 0) parts.push(Buffer.from(kept));
    length += kept.length;
  };
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    let from = 0;
    for (const end of endsIn(chunk)) {
      let line = chunk.subarray(from, end);
      if (length > 0) {
        keep(line);
        line = Buffer.concat(parts);
        [parts, length] = [[], 0];
      }
      const ready = take(line.subarray(0, LONGEST_LINE));
      if (ready) await ready;
      from = end + 1;
    }
    keep(chunk.subarray(from));
  }
  if (length > 0) await take(Buffer.concat(parts));
}

/** Where lines end. */
function* endsIn(chunk: Buffer): Generator<number> {
  let [feed, carriage] = [chunk.indexOf('\n'), chunk.indexOf('\r')];
  while (feed >= 0 || carriage >= 0) {
    if (carriage < 0 || (feed >= 0 && feed < carriage)) {
      yield feed;
      feed = chunk.indexOf('\n', feed + 1);
    } else {
      yield carriage;
      carriage = chunk.indexOf('\r', carriage + 1);
    }
  }
}
