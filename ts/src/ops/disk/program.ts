/**
 * Programs of the system that make, check and change file systems.
 *
 * Comes in: a program and its arguments; goes out: what it printed. None is run by a shell, and none is looked for where the
 * caller's PATH says.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { BulkhaulError, whyOf } from '../../error.js';

/** Where programs of the system are; what libblkid remembers of disks is neither asked nor changed. */
const PATHS = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C', BLKID_FILE: '/dev/null' };
/** Bytes of what a program prints that are kept, where no more are asked for. */
const KEPT = 1 << 20;
/** Bytes of its complaint that are told. */
const SAID = 4096;

/**
 * Runs a program to its end. Throws `USAGE` where it is not there, or fails, with what it says; `good`: codes with which it
 * has not failed; `silent`: what complains has failed, too; `signal`: ends it; `findings`: what of what it printed says why it
 * failed, where it does not complain of that; `most`: bytes of what it prints that are kept; `bytes`: each of them a character.
 */
export function must(
  program: string,
  args: readonly string[],
  {
    good = [0],
    silent = false,
    signal,
    findings = () => '',
    most = KEPT,
    bytes = false,
  }: {
    good?: readonly number[];
    silent?: boolean;
    signal?: AbortSignal | undefined;
    findings?: (printed: string) => string;
    most?: number;
    bytes?: boolean;
  } = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    let child: ChildProcess;
    const fail = (why: string) => reject(new BulkhaulError('USAGE', `${program}: ${why}`));
    try {
      child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...PATHS }, signal });
    } catch (error) {
      fail(whyOf(error));
      return;
    }
    let printed = '';
    let said = '';
    child.stdout?.on('data', (part: Buffer) => {
      if (printed.length < most) printed += part.toString(bytes ? 'latin1' : 'utf8');
    });
    child.stderr?.on('data', (part: Buffer) => {
      if (said.length < SAID) said += part.toString();
    });
    child.on('error', (error: NodeJS.ErrnoException) =>
      fail(error.code === 'ENOENT' ? 'there is no such program' : whyOf(error)),
    );
    child.on('close', (code, killed) => {
      if (code !== null && good.includes(code) && !(silent && said !== '')) resolve(printed);
      else fail(findings(printed) || said.trim() || printed.trim().slice(-SAID) || `it ended with ${code ?? killed}`);
    });
  });
}

/** Whether a program is there. */
export async function has(program: string): Promise<boolean> {
  for (const directory of PATHS.PATH.split(':')) {
    const found = await stat(`${directory}/${program}`).catch(() => undefined);
    if (found !== undefined) return true;
  }
  return false;
}
