/**
 * versitygw, an S3 server that somebody else wrote, on loopback until the test ends: directories of one directory are its
 * buckets, files its objects. `undefined` where `scripts/setup --tests` could not build it, and that is printed.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import { freePort, scratch } from '../rig.js';
import { KEY, SECRET } from './s3.js';

const BUILT = fileURLToPath(new URL('../../../.setup/versitygw/versitygw', import.meta.url));

export interface Gateway {
  /** What a client needs to know, as the environment of a command. */
  readonly env: NodeJS.ProcessEnv;
  /** What is in the bucket `bucket`. */
  readonly bucket: string;
}

export async function versitygw(): Promise<Gateway | undefined> {
  const there = scratch();
  const port = await freePort();
  const server = spawn(existsSync(BUILT) ? BUILT : 'versitygw', ['--port', `127.0.0.1:${port}`, 'posix', there], {
    env: { ...process.env, ROOT_ACCESS_KEY: KEY, ROOT_SECRET_KEY: SECRET },
    stdio: 'ignore',
  });
  const gone = new Promise<void>((resolve) => server.on('error', () => resolve()).on('close', () => resolve()));
  onTestFinished(async () => {
    server.kill('SIGKILL');
    await gone;
  });
  const endpoint = `http://127.0.0.1:${port}`;
  const answers = () =>
    fetch(endpoint).then(
      () => true,
      () => false,
    );
  let ended = false;
  void gone.then(() => {
    ended = true;
  });
  while (!ended && !(await answers())) await sleep(50);
  if (ended) {
    console.log('skip: versitygw is not installed');
    return undefined;
  }
  mkdirSync(join(there, 'bucket'));
  return {
    env: { AWS_ENDPOINT_URL: endpoint, AWS_ACCESS_KEY_ID: KEY, AWS_SECRET_ACCESS_KEY: SECRET, AWS_CA_BUNDLE: '' },
    bucket: join(there, 'bucket'),
  };
}
