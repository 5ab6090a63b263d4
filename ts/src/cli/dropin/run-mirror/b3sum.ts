/**
 * The real b3sum, as a second opinion on a manifest that was made here, or found right.
 *
 * Comes in: a manifest of BLAKE3 and the directory that its names begin in; goes out: what b3sum says of it.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { fromBytes, toBytes } from '../../../names.js';

/** What b3sum says. */
export type Opinion =
  | { kind: 'right' | 'absent' | 'interrupted' }
  /** The names, in b3sum's own escapes. */
  | { kind: 'wrong'; names: string[] }
  | { kind: 'unable'; why: string };

/** `threads`: 0 for its own choice; `stop` ends it. */
export async function askB3sum(
  manifest: string,
  directory: string,
  threads: number,
  stop: AbortSignal,
): Promise<Opinion> {
  // Node takes no bytes there.
  if (!Buffer.from(directory).equals(toBytes(directory))) {
    return { kind: 'unable', why: 'the name of the directory is not UTF-8' };
  }
  const args = ['--check', '--quiet', ...(threads > 0 ? ['--num-threads', String(threads)] : [])];
  // As its standard input the manifest may have any name.
  const file = openSync(toBytes(manifest), 'r');
  try {
    return await new Promise((resolve, reject) => {
      const child = spawn('b3sum', args, { cwd: directory, stdio: [file, 'pipe', 'pipe'], signal: stop });
      const said = { out: [] as Buffer[], err: [] as Buffer[] };
      child.stdout?.on('data', (chunk: Buffer) => said.out.push(chunk));
      child.stderr?.on('data', (chunk: Buffer) => said.err.push(chunk));
      child.on('error', (error: NodeJS.ErrnoException) => {
        if (stop.aborted) resolve({ kind: 'interrupted' });
        else if (error.code === 'ENOENT') resolve({ kind: 'absent' });
        else reject(error);
      });
      child.on('close', (code) => {
        if (stop.aborted) return resolve({ kind: 'interrupted' });
        if (code === 0) return resolve({ kind: 'right' });
        const names = fromBytes(Buffer.concat(said.out))
          .split('\n')
          .flatMap((line) => /^(.*): FAILED/.exec(line)?.[1] ?? []);
        const why = fromBytes(Buffer.concat(said.err)).trim().split('\n', 1)[0] || `it ended with ${code}`;
        resolve(names.length > 0 ? { kind: 'wrong', names } : { kind: 'unable', why });
      });
    });
  } finally {
    closeSync(file);
  }
}
