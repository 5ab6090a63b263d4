/**
 * A server of objects for rows of stores: versitygw, whose buckets are the directories of one directory.
 *
 * Comes in: its program and a directory; goes out: where it answers, until it is closed.
 */
import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** Who asks it. It is gone afterwards: this is no secret. */
export const KEYS = { AWS_ACCESS_KEY_ID: 'bench', AWS_SECRET_ACCESS_KEY: 'bench-secret' };

/** @returns {Promise<number>} a port that nobody has at the moment */
const freePort = () =>
  new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });

/**
 * @param {string} program
 * @param {string} directory
 * @returns {Promise<{ endpoint: string, close: () => Promise<void> }>}
 */
export async function serve(program, directory) {
  const port = await freePort();
  const env = {
    ...process.env,
    ROOT_ACCESS_KEY: KEYS.AWS_ACCESS_KEY_ID,
    ROOT_SECRET_KEY: KEYS.AWS_SECRET_ACCESS_KEY,
  };
  const server = spawn(program, ['--quiet', '--port', `127.0.0.1:${port}`, 'posix', directory], {
    env,
    stdio: 'ignore',
  });
  let ended = false;
  const gone = new Promise((resolve) => server.on('error', resolve).on('close', resolve)).then(() => {
    ended = true;
  });
  // However this process ends.
  const kill = () => server.kill('SIGKILL');
  process.on('exit', kill);
  const endpoint = `http://127.0.0.1:${port}`;
  const answers = () =>
    fetch(endpoint).then(
      () => true,
      () => false,
    );
  while (!ended && !(await answers())) await sleep(50);
  if (ended) throw new Error(`${program} ended before it answered`);
  return {
    endpoint,
    close: async () => {
      kill();
      process.off('exit', kill);
      await gone;
    },
  };
}
