/**
 * Ceph's own S3 server on loopback until the test ends, with one bucket. For `scripts/test --exhaustive`: it takes a quarter of
 * a minute to start and half a GiB of memory. `undefined` where it can't be, and why is printed.
 */
import { spawnSync } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { onTestFinished } from 'vitest';
import { scratch } from '../rig.js';
import { KEY, SECRET } from './s3.js';
import { servers } from './servers.js';

export const BUCKET = 'bucket';

function missing(parts: readonly string[]): string | undefined {
  if (process.env.BULKHAUL_EXHAUSTIVE !== '1') return 'it is for --exhaustive';
  if (process.getuid?.() !== 0) return 'it needs root';
  const gone = parts.filter((program) => spawnSync(program, ['--version']).error !== undefined);
  if (gone.length === 0) return undefined;
  return `missing: ${gone.join(', ')} (in Debian, as root: apt-get install ceph-common ceph-mon ceph-mgr ceph-osd radosgw)`;
}

/** What a client needs to know, as the environment of a command. The bucket is {@link BUCKET}. */
export async function ceph(): Promise<NodeJS.ProcessEnv | undefined> {
  const { CEPH, ceph } = await servers();
  const without = missing(CEPH);
  if (without !== undefined) {
    console.log(`skip: Ceph: ${without}`);
    return undefined;
  }
  const keys = { AWS_ACCESS_KEY_ID: KEY, AWS_SECRET_ACCESS_KEY: SECRET };
  const { endpoint, close } = await ceph(scratch(), { keys });
  onTestFinished(close);
  await makeBucket(endpoint);
  return { AWS_ENDPOINT_URL: endpoint, ...keys, AWS_CA_BUNDLE: '' };
}

/** By the old signature, which Ceph takes and which is one line. */
async function makeBucket(endpoint: string): Promise<void> {
  const date = new Date().toUTCString();
  const signature = createHmac('sha1', SECRET).update(`PUT\n\n\n${date}\n/${BUCKET}`).digest('base64');
  const made = await fetch(`${endpoint}/${BUCKET}`, {
    method: 'PUT',
    headers: { date, authorization: `AWS ${KEY}:${signature}` },
  });
  if (!made.ok) throw new Error(`no bucket: ${made.status} ${await made.text()}`);
}
