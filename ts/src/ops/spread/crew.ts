/**
 * Where the workers of a run are, and how they are begun.
 *
 * Comes in: a worker's name and number; goes out: a process that was begun, and how it ended. A worker reads its standard
 * input, and ends when that does: it does not outlive whoever began it, however that died.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { toBytes } from '../../names.js';

/** How a worker's process ended. */
export interface WorkerEnded {
  code: number | undefined;
  signal: string | undefined;
  /** It could not be begun. */
  why?: string;
}

/** A worker that was begun. */
export interface Hired {
  ended: Promise<WorkerEnded>;
  /** Asks it to end, or with `abort` to leave everything. */
  stop(abort: boolean): void;
}

/** The words of the command that a worker is. */
export function workerCommand(program: readonly string[], directory: string, name: string, index: number): string[] {
  return [...program, 'worker', '--name', name, '--index', String(index), '--attached', '--', directory];
}

/** Begins a worker here. `log`: a file for what it says. */
export function hire([program = '', ...args]: readonly string[], log: string): Hired {
  const file = openSync(toBytes(log), 'a', 0o600);
  let child: ChildProcess;
  try {
    // A group of its own: a key on the terminal is for whoever began it to answer.
    child = spawn(program, args, { stdio: ['pipe', 'ignore', file], detached: true });
  } finally {
    closeSync(file);
  }
  // It may have ended before it was told anything.
  child.stdin?.on('error', () => undefined);
  const ended = new Promise<WorkerEnded>((resolve) => {
    child.on('error', ({ message }) => resolve({ code: undefined, signal: undefined, why: message }));
    child.on('exit', (code, signal) => resolve({ code: code ?? undefined, signal: signal ?? undefined }));
  });
  return { ended, stop: (abort) => child.stdin?.write(abort ? 'abort\n' : 'stop\n') };
}
