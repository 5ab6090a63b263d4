/** What this machine is and has: for the head of a report, and for what a row may use. Linux. */
import { execFileSync } from 'node:child_process';
import { accessSync, constants, readFileSync, realpathSync, statfsSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os';
import { delimiter, join } from 'node:path';
import { PEERS } from './contenders.js';
import { ROOT } from './yardsticks.js';

/** statfs(2). */
const MAGIC = { tmpfs: 0x01021994, ext4: 0xef53 };

/** @param {string} path */
export const isTmpfs = (path) => statfsSync(path).type === MAGIC.tmpfs;
/** @param {string} path */
export const isExt4 = (path) => statfsSync(path).type === MAGIC.ext4;

/** @param {string} path @returns bytes that may be written below it */
export function freeSpace(path) {
  const { bavail, bsize } = statfsSync(path);
  return bavail * bsize;
}

/** @returns bytes of memory that may be taken without pushing out what is in use */
export function availableMemory() {
  const [, kibibytes] = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8')) ?? [];
  if (kibibytes === undefined) throw new Error('/proc/meminfo has no MemAvailable');
  return Number(kibibytes) * 1024;
}

export const isRoot = process.geteuid?.() === 0;

/** Drops clean pages, names and inodes; the caller has synced. Root only. */
export const dropCaches = () => writeFileSync('/proc/sys/vm/drop_caches', '3');

/**
 * The file system that a path is on, as `TYPE on DEVICE (OPTIONS)`.
 * @param {string} path
 */
export function fileSystem(path) {
  const real = realpathSync(path);
  let found = { point: '', text: 'unknown' };
  for (const line of readFileSync('/proc/self/mounts', 'utf8').trim().split('\n')) {
    const [device = '', escaped = '', type = '', options = ''] = line.split(' ');
    const point = escaped.replace(/\\(\d{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)));
    const holds = real === point || real.startsWith(point.endsWith('/') ? point : `${point}/`);
    // A later mount hides an earlier one at the same point.
    if (holds && point.length >= found.point.length)
      found = { point, text: `${device === type ? type : `${type} on ${device}`} (${options})` };
  }
  return found.text;
}

/**
 * Where a command is found; undefined when it is not.
 * @param {string} name a path, or a name for PATH
 */
export function which(name) {
  const places = name.includes('/') ? [''] : (process.env.PATH ?? '').split(delimiter);
  return places
    .map((place) => join(place, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/**
 * The peers that are installed: name -> path.
 * @param {readonly string[] | undefined} wanted names; undefined: all
 */
export function installedPeers(wanted) {
  /** @type {Map<string, string>} */
  const installed = new Map();
  for (const [name, { executable }] of Object.entries(PEERS)) {
    if (wanted && !wanted.includes(name)) continue;
    const path = which(name === 'hpcp' && process.env.HPCP ? process.env.HPCP : executable);
    if (path !== undefined) installed.set(name, path);
  }
  return installed;
}

/**
 * The first line of what a command prints; why not, when it fails.
 * @param {string} command
 * @param {readonly string[]} args
 */
function firstLine(command, args) {
  try {
    const output = execFileSync(command, args, { encoding: 'utf8', cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
    return output.trim().split('\n', 1)[0]?.trim() ?? '';
  } catch (error) {
    return `unknown: ${error instanceof Error ? error.message.split('\n', 1)[0] : error}`;
  }
}

/**
 * @typedef {object} Machine
 * @property {string} time when the benchmark began
 * @property {string} processor
 * @property {number} cpus that this process may use
 * @property {number} memory bytes
 * @property {string} kernel
 * @property {readonly number[]} load averages over 1, 5 and 15 minutes at the beginning
 * @property {string} commit
 * @property {Record<string, string>} versions
 */

/**
 * @param {ReadonlyMap<string, string>} peers
 * @param {string} executable ours
 * @returns {Machine}
 */
export function machine(peers, executable) {
  /** @type {Record<string, string>} */
  const versions = {
    bulkhaul: firstLine(process.execPath, [executable, '--version']),
    node: process.version,
    cc: firstLine('cc', ['--version']),
  };
  for (const [name, path] of peers) {
    versions[name] = firstLine(path, PEERS[/** @type {import('./contenders.js').Peer} */ (name)].version);
  }
  return {
    time: new Date().toISOString(),
    processor: cpus()[0]?.model ?? 'unknown',
    cpus: availableParallelism(),
    memory: totalmem(),
    kernel: release(),
    load: loadavg(),
    commit: firstLine('git', ['describe', '--always', '--dirty']),
    versions,
  };
}
