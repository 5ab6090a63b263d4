/**
 * Ceph's own S3 server, RADOS Gateway, before a monitor, a manager and one store in memory, on loopback until the test ends,
 * with one bucket. For `scripts/test --exhaustive`: it takes a quarter of a minute to start and half a GiB of memory.
 * `undefined` where it can't be, and why is printed.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createHmac, randomUUID } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { onTestFinished } from 'vitest';
import { freePort, scratch } from '../rig.js';
import { KEY, SECRET } from './s3.js';

export const BUCKET = 'bucket';

function missing(): string | undefined {
  if (process.env.BULKHAUL_EXHAUSTIVE !== '1') return 'it is for --exhaustive';
  if (process.getuid?.() !== 0) return 'it needs root';
  const programs = ['ceph', 'ceph-mon', 'ceph-mgr', 'ceph-osd', 'radosgw', 'radosgw-admin'];
  const gone = programs.filter((program) => spawnSync(program, ['--version']).error !== undefined);
  if (gone.length === 0) return undefined;
  return `missing: ${gone.join(', ')} (in Debian, as root: apt-get install ceph-common ceph-mon ceph-mgr ceph-osd radosgw)`;
}

function configuration(root: string, cluster: string, monitor: string, gateway: number): string {
  return `[global]
fsid = ${cluster}
mon initial members = a
mon host = ${monitor}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 2147483648
mon allow pool size one = true
mon data avail warn = 1
mon data avail crit = 1
mon data = ${root}/mon/$id
osd data = ${root}/osd/$id
mgr data = ${root}/mgr/$id
admin socket = ${root}/run/$name.asok
log file = ${root}/log/$name.log
run dir = ${root}/run
keyring = ${root}/keyring
mgr initial modules =
[client.rgw.a]
rgw frontends = beast endpoint=127.0.0.1:${gateway}
rgw data = ${root}/rgw
rgw enable apis = s3, admin
`;
}

/** What a client needs to know, as the environment of a command. The bucket is {@link BUCKET}. */
export async function ceph(): Promise<NodeJS.ProcessEnv | undefined> {
  const without = missing();
  if (without !== undefined) {
    console.log(`skip: Ceph: ${without}`);
    return undefined;
  }
  const root = scratch();
  const children: ChildProcess[] = [];
  onTestFinished(async () => {
    // The gateway waits for a monitor that is gone when it is asked to end.
    await Promise.all(
      children.map((child) => {
        const gone = new Promise((resolve) => child.on('close', resolve));
        if (child.exitCode !== null || child.signalCode !== null) return undefined;
        child.kill('SIGKILL');
        return gone;
      }),
    );
  });
  for (const name of ['mon', 'osd', 'mgr/x', 'rgw', 'log', 'run']) mkdirSync(join(root, name), { recursive: true });
  const [cluster, monitor, gateway] = [randomUUID(), `v2:127.0.0.1:${await freePort()}`, await freePort()];
  const file = join(root, 'ceph.conf');
  writeFileSync(file, configuration(root, cluster, monitor, gateway));

  const must = (program: string, ...args: string[]): string => {
    const ran = spawnSync(program, args, { cwd: root, encoding: 'utf8', timeout: 120_000 });
    if (ran.status !== 0) throw new Error(`${program} ${args.join(' ')}: ${ran.stderr}${String(ran.error ?? '')}`);
    return ran.stdout.trim();
  };
  const admin = (...args: string[]): string => must('ceph', '-c', file, ...args);
  const serve = (program: string, ...args: string[]): ChildProcess => {
    const child = spawn(program, ['-c', file, '-f', ...args], { cwd: root, stdio: 'ignore' });
    children.push(child);
    return child;
  };
  const key = (name: string, ...caps: string[]): string =>
    must('ceph-authtool', ...(name === 'mon.' ? ['-C'] : []), 'keyring', '--gen-key', '-n', name, ...caps);

  key('mon.', '--cap', 'mon', 'allow *');
  for (const name of ['client.admin', 'mgr.x', 'osd.0', 'client.rgw.a']) {
    key(name, ...['mon', 'osd', 'mgr'].flatMap((part) => ['--cap', part, 'allow *']));
  }
  must('monmaptool', '--create', '--fsid', cluster, '--addv', 'a', `[${monitor}]`, 'monmap');
  must('ceph-mon', '-c', file, '--mkfs', '-i', 'a', '--monmap', 'monmap', '--keyring', 'keyring');
  serve('ceph-mon', '-i', 'a');
  admin('-s');
  serve('ceph-mgr', '-i', 'x');
  const uuid = randomUUID();
  const id = admin('osd', 'create', uuid);
  mkdirSync(join(root, 'osd', id));
  must('ceph-osd', '-c', file, '-i', id, '--mkfs', '--osd-uuid', uuid);
  admin('osd', 'crush', 'add', `osd.${id}`, '1.0', 'host=here', 'root=default');
  serve('ceph-osd', '-i', id);
  admin('auth', 'import', '-i', 'keyring');
  const server = serve('radosgw', '-n', 'client.rgw.a');
  const endpoint = `http://127.0.0.1:${gateway}`;
  const answers = () =>
    fetch(endpoint).then(
      () => true,
      () => false,
    );
  while (!(await answers())) {
    if (server.exitCode !== null) throw new Error(`radosgw ended with ${server.exitCode}`);
    await sleep(100);
  }
  must(
    'radosgw-admin',
    '-c',
    file,
    'user',
    'create',
    '--uid=t',
    '--display-name=t',
    `--access-key=${KEY}`,
    `--secret=${SECRET}`,
  );
  await makeBucket(endpoint);
  return { AWS_ENDPOINT_URL: endpoint, AWS_ACCESS_KEY_ID: KEY, AWS_SECRET_ACCESS_KEY: SECRET, AWS_CA_BUNDLE: '' };
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
