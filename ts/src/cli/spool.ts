/**
 * Standard input where a file is needed that can be read from any place on: it is kept in one for as long as that takes.
 *
 * Comes in: a stream and a directory for temporary files; goes out: the path of a file, which is gone afterwards. A signal that
 * comes before the stream has ended leaves nothing behind, and ends the command also where the stream gives nothing any more.
 */
import { createWriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { BulkhaulError, whyOf } from '../error.js';
import { ExitCode } from '../verdict.js';
import { leave } from './leave.js';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Milliseconds from the signal on in which a command may end by itself: a read that does not come back would hold it. */
const GRACE = 1000;

/** Does `deed` with a file that has all of `stdin`. Throws `NO_START` where it can't be kept, `ABORTED` for a signal. */
export async function spooled<T>(stdin: Readable, directory: string, deed: (path: string) => Promise<T>): Promise<T> {
  const refuse = (error: unknown) => {
    throw new BulkhaulError('NO_START', `standard input can't be kept in ${directory}: ${whyOf(error)}`, {
      cause: error,
    });
  };
  const room = await mkdtemp(join(directory, 'bulkhaul-stdin-')).catch(refuse);
  try {
    const path = join(room, 'stdin');
    const stopped = new AbortController();
    const stop = (signal: string) =>
      stopped.abort(new BulkhaulError('ABORTED', `${signal}: standard input had not ended, and nothing was begun`));
    for (const signal of SIGNALS) process.on(signal, stop);
    try {
      await received(stdin, path, stopped.signal);
    } catch (error) {
      stopped.signal.throwIfAborted();
      refuse(error);
    } finally {
      for (const signal of SIGNALS) process.off(signal, stop);
    }
    return await deed(path);
  } finally {
    await rm(room, { recursive: true, force: true });
  }
}

/** Writes `stdin` into a new file. At the signal it is given up at once: a read that does not come back keeps it from closing. */
async function received(stdin: Readable, path: string, signal: AbortSignal): Promise<void> {
  const givenUp = new Promise<never>((_, reject) => {
    const giveUp = () => {
      setTimeout(() => void leave(ExitCode.interrupted), GRACE).unref();
      reject(signal.reason);
    };
    signal.addEventListener('abort', giveUp, { once: true });
  });
  const file = createWriteStream(path, { flags: 'wx', mode: 0o600 });
  await Promise.race([pipeline(stdin, file, { signal }), givenUp]);
}
