/**
 * Servers of objects, on loopback, for the rows of stores and for the tests: versitygw, whose buckets are the directories of
 * one directory, and Ceph's RADOS Gateway before a monitor, a manager and one store in memory.
 *
 * Comes in: an empty directory, and who may ask; goes out: where it answers, until it is closed. However this process ends, no
 * server outlives it.
 */
import { spawn, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** Who asks it. It is gone afterwards: this is no secret. */
export const KEYS = { AWS_ACCESS_KEY_ID: 'bench', AWS_SECRET_ACCESS_KEY: 'bench-secret' };

/** What Ceph consists of. */
export const CEPH = ['ceph', 'ceph-authtool', 'monmaptool', 'ceph-mon', 'ceph-mgr', 'ceph-osd', 'radosgw', 'radosgw-admin'];
/** Bytes that the store of Ceph may hold. */
const CEPH_BYTES = 4 * 2 ** 30;

/**
 * @typedef {object} Server
 * @property {string} endpoint
 * @property {string[]} settle a command after which what was removed takes no room, and no work, any more
 * @property {() => Promise<void>} close
 *
 * @typedef {typeof KEYS} Keys
 * @typedef {import('node:child_process').ChildProcess} ChildProcess
 */

/** @returns {Promise<number>} a port that nobody has at the moment */
const freePort = () =>
  new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });

/** Programs that run until all are ended. */
class Daemons {
  /** @type {Set<ChildProcess>} */
  #running = new Set();
  #kill = () => {
    for (const child of this.#running) child.kill('SIGKILL');
  };

  constructor() {
    process.on('exit', this.#kill);
  }

  /** @param {string} program @param {string[]} args @param {import('node:child_process').SpawnOptions} options */
  start(program, args, options) {
    const child = spawn(program, args, { ...options, stdio: 'ignore' });
    this.#running.add(child);
    for (const end of ['error', 'close']) child.on(end, () => this.#running.delete(child));
    return child;
  }

  /**
   * Until it answers, or has ended, which is an error.
   * @param {ChildProcess} child
   * @param {string} endpoint
   */
  async answers(child, endpoint) {
    const asked = () =>
      fetch(endpoint).then(
        () => true,
        () => false,
      );
    while (!(await asked())) {
      if (!this.#running.has(child)) throw new Error(`${child.spawnfile} ended before it answered`);
      await sleep(50);
    }
  }

  /** A gateway waits for a monitor that is gone when it is asked to end: nobody is asked. */
  async close() {
    const gone = [...this.#running].map((child) => new Promise((resolve) => child.on('close', resolve)));
    this.#kill();
    process.off('exit', this.#kill);
    await Promise.all(gone);
  }
}

/**
 * @param {string} directory
 * @param {{ program?: string, keys?: Keys }} [given]
 * @returns {Promise<Server>}
 */
export async function versitygw(directory, { program = 'versitygw', keys = KEYS } = {}) {
  const daemons = new Daemons();
  const port = await freePort();
  const server = daemons.start(program, ['--quiet', '--port', `127.0.0.1:${port}`, 'posix', directory], {
    env: { ...process.env, ROOT_ACCESS_KEY: keys.AWS_ACCESS_KEY_ID, ROOT_SECRET_KEY: keys.AWS_SECRET_ACCESS_KEY },
  });
  const endpoint = `http://127.0.0.1:${port}`;
  await daemons.answers(server, endpoint);
  return { endpoint, settle: ['true'], close: () => daemons.close() };
}

/** @param {{ root: string, cluster: string, monitor: string, gateway: number }} given */
const configuration = ({ root, cluster, monitor, gateway }) => `[global]
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
memstore device bytes = ${CEPH_BYTES}
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

/**
 * For root. It takes a quarter of a minute to start, and half a GiB of memory.
 * @param {string} root
 * @param {{ keys?: Keys }} [given]
 * @returns {Promise<Server>}
 */
export async function ceph(root, { keys = KEYS } = {}) {
  const daemons = new Daemons();
  try {
    return await begun(root, keys, daemons);
  } catch (error) {
    await daemons.close();
    throw error;
  }
}

/** @param {string} root @param {Keys} keys @param {Daemons} daemons @returns {Promise<Server>} */
async function begun(root, keys, daemons) {
  for (const name of ['mon', 'osd', 'mgr/x', 'rgw', 'log', 'run']) mkdirSync(join(root, name), { recursive: true });
  const gateway = await freePort();
  const file = join(root, 'ceph.conf');
  const monitor = `v2:127.0.0.1:${await freePort()}`;
  const cluster = randomUUID();
  writeFileSync(file, configuration({ root, cluster, monitor, gateway }));

  /** @param {string} program @param {string[]} args */
  const must = (program, ...args) => {
    const ran = spawnSync(program, args, { cwd: root, encoding: 'utf8', timeout: 120_000 });
    if (ran.status !== 0) throw new Error(`${program} ${args.join(' ')}: ${ran.stderr}${String(ran.error ?? '')}`);
    return ran.stdout.trim();
  };
  /** @param {string[]} args */
  const admin = (...args) => must('ceph', '-c', file, ...args);
  /** @param {string} program @param {string[]} args */
  const start = (program, ...args) => daemons.start(program, ['-c', file, '-f', ...args], { cwd: root });
  /** @param {string} name @param {string[]} caps */
  const key = (name, ...caps) =>
    must('ceph-authtool', ...(name === 'mon.' ? ['-C'] : []), 'keyring', '--gen-key', '-n', name, ...caps);

  key('mon.', '--cap', 'mon', 'allow *');
  for (const name of ['client.admin', 'mgr.x', 'osd.0', 'client.rgw.a']) {
    key(name, ...['mon', 'osd', 'mgr'].flatMap((part) => ['--cap', part, 'allow *']));
  }
  must('monmaptool', '--create', '--fsid', cluster, '--addv', 'a', `[${monitor}]`, 'monmap');
  must('ceph-mon', '-c', file, '--mkfs', '-i', 'a', '--monmap', 'monmap', '--keyring', 'keyring');
  start('ceph-mon', '-i', 'a');
  admin('-s');
  start('ceph-mgr', '-i', 'x');
  const uuid = randomUUID();
  const id = admin('osd', 'create', uuid);
  mkdirSync(join(root, 'osd', id));
  must('ceph-osd', '-c', file, '-i', id, '--mkfs', '--osd-uuid', uuid);
  admin('osd', 'crush', 'add', `osd.${id}`, '1.0', 'host=here', 'root=default');
  start('ceph-osd', '-i', id);
  admin('auth', 'import', '-i', 'keyring');
  const server = start('radosgw', '-n', 'client.rgw.a');
  const endpoint = `http://127.0.0.1:${gateway}`;
  await daemons.answers(server, endpoint);
  const asked = [`--access-key=${keys.AWS_ACCESS_KEY_ID}`, `--secret=${keys.AWS_SECRET_ACCESS_KEY}`];
  must('radosgw-admin', '-c', file, 'user', 'create', '--uid=t', '--display-name=t', ...asked);
  // It removes what is left of large objects in two hours, else.
  const settle = ['radosgw-admin', '-c', file, 'gc', 'process', '--include-all'];
  return { endpoint, settle, close: () => daemons.close() };
}
