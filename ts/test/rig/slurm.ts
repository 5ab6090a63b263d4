/**
 * The real Slurm: a controller and two nodes of Debian's packages on this machine, for one test.
 *
 * They go with the test, however it ends. Where they can't be had, `undefined`, and why is printed.
 */
import { execFileSync } from 'node:child_process';
import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { onTestFinished } from 'vitest';
import { scratch } from '../rig.js';

export interface Slurm {
  /** The environment in which its commands reach it. */
  env: NodeJS.ProcessEnv;
  /** What a command of it prints. */
  ask: (command: string, ...args: string[]) => string;
  /** A node dies: nothing of Slurm is left on it. What ran there goes on, and nobody watches it. */
  kill: (node: string) => void;
}

/** The processes that watch what runs on a node (slurmstepd), which have its spool directory open or name the node. */
function stepsOf(root: string, node: string): number[] {
  return readdirSync('/proc').flatMap((number) => {
    try {
      if (readFileSync(`/proc/${number}/comm`, 'utf8').trim() !== 'slurmstepd') return [];
      const held = readdirSync(`/proc/${number}/fd`).map((file) => {
        try {
          return readlinkSync(`/proc/${number}/fd/${file}`);
        } catch {
          return '';
        }
      });
      const places = [...held, readlinkSync(`/proc/${number}/cwd`), readFileSync(`/proc/${number}/environ`, 'latin1')];
      return places.some((place) => place.includes(root) && place.includes(node)) ? [Number(number)] : [];
    } catch {
      return [];
    }
  });
}

const SOCKET = '/run/munge/munge.socket.2';

/** How often there was one: each has ports of its own. */
let made = 0;

export async function slurm(): Promise<Slurm | undefined> {
  const skip = (why: string): undefined => console.log(`skip: ${why}`) as undefined;
  if (process.getuid?.() !== 0) return skip('Slurm needs root');
  const needed = ['/usr/sbin/slurmctld', '/usr/sbin/slurmd', '/usr/sbin/munged', '/usr/bin/sbatch', '/usr/bin/srun'];
  const missing = needed.find((path) => !existsSync(path));
  if (missing !== undefined) return skip(`there is no ${missing}`);
  const root = scratch();
  const kill = (file: string) => {
    try {
      process.kill(Number(readFileSync(file, 'utf8')), 'SIGKILL');
    } catch {
      // It has ended.
    }
  };
  try {
    // One serves the whole machine: who has begun it ends it.
    if (!existsSync(SOCKET)) {
      onTestFinished(() => kill('/run/munge/munged.pid'));
      onTestFinished(() => rmSync(SOCKET, { force: true }));
      const { uid, gid } = statSync('/etc/munge');
      mkdirSync('/run/munge', { recursive: true });
      for (const path of ['/run/munge', '/var/log/munge', '/var/lib/munge']) chownSync(path, uid, gid);
      execFileSync('setpriv', ['--reuid=munge', '--regid=munge', '--clear-groups', '/usr/sbin/munged']);
    }
    made += 1;
    const port = 20_000 + ((process.pid * 11 + made * 4) % 30_000);
    for (const name of ['spool', 'state', 'log']) mkdirSync(join(root, name));
    const [host, file] = [hostname(), join(root, 'slurm.conf')];
    const nodes = `NodeName=n[1-2] NodeHostname=${host} NodeAddr=127.0.0.1 Port=[${port + 1}-${port + 2}]`;
    const settings = [
      ...['ClusterName=tests', `SlurmctldHost=${host}(127.0.0.1)`, 'SlurmUser=root', 'SlurmdUser=root'],
      ...['AuthType=auth/munge', `SlurmctldPort=${port}`, `StateSaveLocation=${root}/state`],
      ...[`SlurmdSpoolDir=${root}/spool/%n`, `SlurmctldPidFile=${root}/slurmctld.pid`],
      ...[`SlurmdPidFile=${root}/slurmd.%n.pid`, `SlurmctldLogFile=${root}/log/slurmctld.log`],
      ...[`SlurmdLogFile=${root}/log/slurmd.%n.log`, 'ProctrackType=proctrack/linuxproc', 'TaskPlugin=task/none'],
      ...['SelectType=select/cons_tres', 'SelectTypeParameters=CR_CPU', 'ReturnToService=2', 'MpiDefault=none'],
      ...['SlurmdParameters=config_overrides', 'AccountingStorageType=accounting_storage/none', 'SlurmdTimeout=10'],
      ...[`${nodes} CPUs=4 RealMemory=1000 State=UNKNOWN`, 'PartitionName=main Nodes=n[1-2] Default=YES State=UP'],
    ];
    writeFileSync(file, `${settings.join('\n')}\n`);
    const env = { SLURM_CONF: file };
    onTestFinished(() => {
      for (const name of ['slurmctld', 'slurmd.n1', 'slurmd.n2']) kill(join(root, `${name}.pid`));
    });
    const ask = (command: string, ...args: string[]) =>
      execFileSync(command, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] }).toString();
    ask('slurmctld', '-f', file);
    for (const node of ['n1', 'n2']) ask('slurmd', '-f', file, '-N', node);
    const idle = () => {
      try {
        return ask('sinfo', '-N', '-h', '-o', '%T').match(/^idle$/gm)?.length === 2;
      } catch {
        return false;
      }
    };
    for (let tries = 0; !idle(); tries += 1) {
      if (tries > 200) return skip('the nodes of Slurm do not come up');
      await sleep(100);
    }
    const killNode = (node: string) => {
      const daemon = Number(readFileSync(join(root, `slurmd.${node}.pid`), 'utf8'));
      for (const number of [...stepsOf(root, node), daemon]) process.kill(number, 'SIGKILL');
    };
    return { env, ask, kill: killNode };
  } catch (error) {
    return skip(`Slurm can't be had: ${(error as Error).message}`);
  }
}
