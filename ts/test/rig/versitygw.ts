/**
 * versitygw, an S3 server that somebody else wrote, on loopback until the test ends: directories of one directory are its
 * buckets, files its objects. `undefined` where `scripts/setup --tests` could not build it, and that is printed.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import { scratch } from '../rig.js';
import { KEY, SECRET } from './s3.js';
import { servers } from './servers.js';

const BUILT = fileURLToPath(new URL('../../../.setup/versitygw/versitygw', import.meta.url));

export interface Gateway {
  /** What a client needs to know, as the environment of a command. */
  readonly env: NodeJS.ProcessEnv;
  /** What is in the bucket `bucket`. */
  readonly bucket: string;
}

export async function versitygw(): Promise<Gateway | undefined> {
  const program = existsSync(BUILT) ? BUILT : 'versitygw';
  if (spawnSync(program, ['--version']).error !== undefined) {
    console.log('skip: versitygw is not installed');
    return undefined;
  }
  const there = scratch();
  const keys = { AWS_ACCESS_KEY_ID: KEY, AWS_SECRET_ACCESS_KEY: SECRET };
  const { endpoint, close } = await (await servers()).versitygw(there, { program, keys });
  onTestFinished(close);
  mkdirSync(join(there, 'bucket'));
  return { env: { AWS_ENDPOINT_URL: endpoint, ...keys, AWS_CA_BUNDLE: '' }, bucket: join(there, 'bucket') };
}
