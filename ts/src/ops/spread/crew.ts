/**
 * Where the workers of a run are, and how they are begun.
 *
 * Comes in: a worker's name and number, and a host or none; goes out: a process that was begun, and how it ended. A worker
 * reads its standard input, and ends when that does: it does not outlive whoever began it, however that died. On a host that
 * is so because ssh tells it of the end. All workers of a host share one connection. A worker that does not see the run asks for
 * all of it by its standard output (`carried.ts`).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { whyOf } from '../../error.js';
import { toBytes } from '../../names.js';
import { LOST, overSsh } from '../transfer/ssh.js';

/** How a worker's process ended. */
export interface WorkerEnded {
  code: number | undefined;
  signal: string | undefined;
  /** It could not be begun. */
  why?: string;
  /** Whether its process has gone is not known: the connection has. */
  lost: boolean;
}

/** A worker that was begun. */
export interface Hired {
  ended: Promise<WorkerEnded>;
  /** Asks it to end, or with `abort` to leave everything. */
  stop(abort: boolean): void;
  /** Ends its process here at once; a worker on a host ends when it hears of that. */
  leave(): void;
}

/** The words of the command that a worker is. */
export function workerCommand(
  program: readonly string[],
  directory: string,
  { name, index, carried }: { name: string; index: number; carried: boolean },
): string[] {
  const bond = carried ? '--carried' : '--attached';
  return [...program, 'worker', '--name', name, '--index', String(index), bond, '--', directory];
}

/** How the workers of a host share a connection: a socket in a directory that is nobody else's. */
export function sharing(directory: string): string[] {
  return ['ControlMaster=auto', `ControlPath=${directory}/%C`, 'ControlPersist=30'];
}

/** How a worker is begun. */
interface Hiring {
  /** A file for what it says. */
  log: string;
  /** Where it is; absent: here. */
  host?: string | undefined;
  /** Of ssh. */
  options?: readonly string[];
  /** Does what it asks for; absent: it sees the run itself. */
  serves?: ((from: Readable, to: Writable) => Promise<void>) | undefined;
}

/** Begins a worker. */
export function hire(command: readonly string[], { log, host, options = [], serves }: Hiring): Hired {
  const [program = '', ...args] = host === undefined ? command : overSsh(host, command, options);
  const file = openSync(toBytes(log), 'a', 0o600);
  let child: ChildProcess;
  try {
    // A group of its own: a key on the terminal is for whoever began it to answer.
    child = spawn(program, args, { stdio: ['pipe', serves ? 'pipe' : 'ignore', file], detached: true });
  } finally {
    closeSync(file);
  }
  // It may have ended before it was told anything.
  child.stdin?.on('error', () => undefined);
  const ended = new Promise<WorkerEnded>((resolve) => {
    child.on('error', (error) => resolve({ code: undefined, signal: undefined, why: whyOf(error), lost: false }));
    child.on('exit', (code, signal) => {
      const lost = host !== undefined && (code === null || code === LOST);
      resolve({ code: code ?? undefined, signal: signal ?? undefined, lost });
    });
  });
  const leave = () => {
    child.kill('SIGKILL');
    // Where even that takes no effect, nothing here waits for it.
    child.stdin?.destroy();
    child.stdout?.destroy();
    child.unref();
  };
  // Whoever asks for what makes no sense is no worker.
  if (serves && child.stdin && child.stdout) serves(child.stdout, child.stdin).catch(leave);
  return { ended, leave, stop: (abort) => child.stdin?.write(abort ? 'abort\n' : 'stop\n') };
}
