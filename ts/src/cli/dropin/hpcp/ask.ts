/**
 * Where to copy to when no destination was given: asked on a terminal, decided by rule off one.
 *
 * Comes in: the positionals and standard input; goes out: what is a source and what the destination. An answer that
 * waits on a standard input that nobody would read is never ignored: that is a usage error.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, constants, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { display } from '../../../names.js';
import type { Context } from '../../run.js';
import { UsageError } from '../argparse.js';
import { type Problem, problem, Refused } from './codes.js';
import type { HpcpValues } from './flags.js';
import { nameList } from './sources.js';

/** What to copy and where to. */
export interface Call {
  sources: readonly string[];
  destinations: readonly string[];
}

/** Nobody answered, or the answer was no: nothing is copied. */
export class Stopped extends Error {
  override readonly name = 'Stopped';

  constructor(
    message: string,
    readonly interrupted = false,
  ) {
    super(message);
  }

  get problem(): Problem {
    return problem(this.interrupted ? 'interrupted' : 'stopped', this.message);
  }
}

/** Seconds until the default is taken. */
const PATIENCE = 60;

/** The sources and destinations as typed, or as answered. Throws `UsageError`, `Refused`, or `Stopped` for a no. */
export async function askedCall(positionals: readonly string[], values: HpcpValues, streams: Context): Promise<Call> {
  if (values.dest_path.length > 0) return { sources: positionals, destinations: values.dest_path };
  if (positionals.length === 0 && values.source_file_list === undefined) {
    throw new Refused([problem('no source', 'No source paths: no source is given')]);
  }
  if (values.source_file_list !== undefined) {
    throw new UsageError('argument -d/-C/--dest_path: sources from a list need a destination');
  }
  const { stdin, stderr } = streams;
  if (nameList(values)?.path === '/dev/stdin') return withoutTerminal(positionals, () => false);
  if (!('isTTY' in stdin && stdin.isTTY)) return withoutTerminal(positionals, inputWaits);
  return answered(positionals, (await ask(question(positionals), stdin, stderr)) ?? '');
}

/** The positionals when stdin is no terminal: the last one is the destination. Throws `UsageError`. */
export function withoutTerminal(positionals: readonly string[], inputWaits: () => boolean): Call {
  const destination = positionals.at(-1);
  if (destination === undefined || positionals.length < 2) {
    throw new UsageError('argument -d/-C/--dest_path: no destination is given, and there is no terminal to ask');
  }
  if (inputWaits()) {
    throw new UsageError(
      'argument -d/-C/--dest_path: no destination is given, and input waits on standard input that nobody would read; name the destination with -d',
    );
  }
  return { sources: positionals.slice(0, -1), destinations: [destination] };
}

/** What the user is asked. */
export function question(positionals: readonly string[]): string {
  const last = display(positionals.at(-1) ?? '');
  const options =
    positionals.length > 1
      ? `l: copy into ${last}, the last argument (default); y: copy everything into the working directory`
      : 'y: copy into the working directory (default)';
  return `No destination is given.\n${options}; n: stop; or type a destination (default after ${PATIENCE} s): `;
}

/** The meaning of an answer; an empty one is the default. Throws `Stopped` for a no. */
export function answered(positionals: readonly string[], answer: string): Call {
  const text = answer.trim();
  const several = positionals.length > 1;
  const word = text === '' ? (several ? 'l' : 'y') : text.toLowerCase();
  if (word === 'n') throw new Stopped('Stopped: the answer was no, nothing was copied');
  if (word === 'y') return { sources: positionals, destinations: ['./'] };
  if (word === 'l' && several) return { sources: positionals.slice(0, -1), destinations: [positionals.at(-1) ?? ''] };
  return { sources: positionals, destinations: [text] };
}

/** Asks; undefined when nobody typed anything in time. Throws `Stopped` at the end of input and for ^C. */
export function ask(text: string, input: Readable, output: Writable, seconds = PATIENCE): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const reader = createInterface({ input, output, terminal: true });
    const end = (settle: () => void) => {
      clearTimeout(timer);
      input.off('data', typing);
      reader.removeAllListeners('close');
      reader.close();
      settle();
    };
    const leave = (settle: () => void) => {
      output.write('\n');
      end(settle);
    };
    const timer = setTimeout(() => leave(() => resolve(undefined)), seconds * 1000);
    // Half an answer is not the default.
    const typing = () => clearTimeout(timer);
    input.on('data', typing);
    reader.on('close', () => leave(() => reject(new Stopped('Stopped: no answer, nothing was copied'))));
    reader.on('SIGINT', () => leave(() => reject(new Stopped('Interrupted: nothing was copied', true))));
    reader.question(text, (answer) => end(() => resolve(answer)));
  });
}

/**
 * Whether bytes wait on descriptor `fd`: a pipe or socket with something in it, a regular file not at its end. Never a
 * device. Takes nothing out of a pipe, which a loop around us may be reading.
 */
export function inputWaits(fd = 0): boolean {
  const entry = fstatSync(fd);
  if (entry.isFile()) return entry.size > positionOf(fd);
  if (entry.isFIFO()) {
    // With a writer of our own, a pipe that everybody else has closed is not readable just for being at its end.
    const writer = openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK);
    try {
      return isReadable(fd);
    } finally {
      closeSync(writer);
    }
  }
  return entry.isSocket() && isReadable(fd) && readSync(fd, Buffer.alloc(1)) > 0;
}

function positionOf(fd: number): number {
  const [, position] = /^pos:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1')) ?? [];
  return Number(position);
}

/** Node can't look without reading; bash can. Without bash the answer is yes, which copies nothing. */
function isReadable(fd: number): boolean {
  return spawnSync('bash', ['-c', 'read -t 0'], { stdio: [fd, 'ignore', 'ignore'] }).status !== 1;
}
