/**
 * Hosts that are real enough: each a network of its own on a bridge, with its own name, processes and mounts, and the system's
 * sshd; the file system below is one for all, as a cluster has it.
 *
 * They go with the test, however it ends. Where they can't be had, `undefined`, and why is printed.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import { scratch } from '../rig.js';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

export interface Host {
  name: string;
  /** All of its processes die at once. */
  kill: () => void;
  /** Nothing comes from it or goes to it any more, and what it is at goes on. */
  unplug: () => void;
  /** How many workers it has. */
  workers: () => number;
  /** It is cut off the network: nothing comes or goes, and its processes that wait for a file system stand still. */
  cut: () => void;
  /** It is back, with all that it was at. */
  mend: () => void;
}

export interface Hosts {
  hosts: Host[];
  /** A name that ssh knows, and that never answers. */
  nowhere: string;
  /** The environment in which `ssh` reaches them. */
  env: NodeJS.ProcessEnv;
  /** bulkhaul, as they have it. */
  program: string;
}

const run = (command: string, ...args: string[]) => execFileSync(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
const quietly = (command: string, ...args: string[]) => {
  try {
    run(command, ...args);
  } catch {
    // It is gone already.
  }
};

/** The processes of workers that a host has, by their numbers here. */
function workersOn(host: string): number[] {
  return readdirSync('/proc').flatMap((number) => {
    try {
      const words = readFileSync(`/proc/${number}/cmdline`, 'utf8').split('\0');
      if (!words.includes('worker') || !words.includes('--name')) return [];
      // Each host has its own name.
      const name = execFileSync('nsenter', ['--uts', '--target', number, 'hostname'], {
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      return name.toString().trim() === host ? [Number(number)] : [];
    } catch {
      // It has ended, or is none of ours.
      return [];
    }
  });
}

/** How often there were some: each time they have other names. */
let made = 0;

/** So many hosts. `prepare`: words for a shell of each, by its number from 1, before it answers. */
export async function hostsOf(
  many: number,
  prepare: (number: number) => string = () => 'true',
): Promise<Hosts | undefined> {
  const skip = (why: string): undefined => console.log(`skip: ${why}`) as undefined;
  if (process.getuid?.() !== 0) return skip('hosts need root');
  for (const path of ['/usr/sbin/sshd', '/usr/bin/ssh', '/usr/bin/unshare'])
    if (!existsSync(path)) return skip(`hosts need ${path}`);
  made += 1;
  const tag = (process.pid * 7 + made) % 100_000;
  const [bridge, net] = [`bh${tag}`, `10.${200 + (tag % 50)}.${Math.floor(tag / 50) % 250}`];
  const directory = scratch();
  const inits: ChildProcess[] = [];
  const ends: (() => void)[] = [];
  onTestFinished(() => {
    for (const end of ends.reverse()) end();
  });
  try {
    run('ip', 'link', 'add', bridge, 'type', 'bridge');
    ends.push(() => quietly('ip', 'link', 'del', bridge));
    run('ip', 'addr', 'add', `${net}.1/24`, 'dev', bridge);
    run('ip', 'link', 'set', bridge, 'up');
  } catch (error) {
    return skip(`hosts need a bridge: ${(error as Error).message.split('\n')[0]}`);
  }
  mkdirSync('/run/sshd', { recursive: true });
  for (const key of ['hk', 'id']) run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', join(directory, key));
  writeFileSync(join(directory, 'authorized_keys'), readFileSync(join(directory, 'id.pub')));
  const settings = [
    `HostKey ${directory}/hk`,
    `AuthorizedKeysFile ${directory}/authorized_keys`,
    ...[
      'StrictModes no',
      'UsePAM no',
      'PasswordAuthentication no',
      'PermitRootLogin prohibit-password',
      'PidFile none',
    ],
  ];
  writeFileSync(join(directory, 'sshd_config'), `${settings.join('\n')}\n`);
  const known = ['StrictHostKeyChecking no', 'UserKnownHostsFile /dev/null', 'LogLevel ERROR', 'IdentitiesOnly yes'];
  const client = [`IdentityFile ${directory}/id`, 'User root', ...known].map((line) => `  ${line}`);
  const names = Array.from({ length: many }, (_, index) => `bh${tag}h${index + 1}`);
  const config = [...names, 'nowhere'].flatMap((name, index) => [`Host ${name}`, `  HostName ${net}.${11 + index}`]);
  writeFileSync(join(directory, 'config'), `${[...config, 'Host *', ...client].join('\n')}\n`);
  mkdirSync(join(directory, 'bin'));
  const script = (name: string, line: string) => {
    writeFileSync(join(directory, 'bin', name), `#!/bin/sh\n${line}\n`);
    chmodSync(join(directory, 'bin', name), 0o755);
  };
  script('ssh', `exec /usr/bin/ssh -F ${directory}/config "$@"`);
  script('bulkhaul', `exec ${process.execPath} ${MAIN} "$@"`);
  const env = { PATH: `${join(directory, 'bin')}:${process.env.PATH}` };
  for (const [index, name] of names.entries()) {
    const [port, address] = [`v${tag}${index}`, `${net}.${11 + index}`];
    run('ip', 'netns', 'add', name);
    ends.push(() => quietly('ip', 'netns', 'del', name));
    run('ip', 'link', 'add', port, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name);
    run('ip', 'link', 'set', port, 'master', bridge, 'up');
    run('ip', '-n', name, 'addr', 'add', `${address}/24`, 'dev', 'eth0');
    for (const device of ['eth0', 'lo']) run('ip', '-n', name, 'link', 'set', device, 'up');
    const begin = `hostname ${name}; ${prepare(index + 1)}; exec /usr/sbin/sshd -D -f ${directory}/sshd_config -o ListenAddress=${address}`;
    const apart = ['--uts', '--mount', '--pid', '--fork', '--mount-proc', '--kill-child'];
    const child = spawn('ip', ['netns', 'exec', name, 'unshare', ...apart, 'sh', '-c', begin], { stdio: 'ignore' });
    inits.push(child);
    ends.push(() => child.kill('SIGKILL'));
  }
  const answers = (name: string) => {
    try {
      execFileSync(join(directory, 'bin/ssh'), ['-o', 'BatchMode=yes', '-o', 'ConnectTimeout=2', name, 'true'], {
        stdio: 'ignore',
      });
      return true;
    } catch {
      return false;
    }
  };
  for (const [index, name] of names.entries()) {
    while (!answers(name)) {
      if (inits[index]?.exitCode !== null) return skip(`the host ${name} does not live`);
      await sleep(50);
    }
  }
  // Without the one that it waits for, a namespace of processes ends with its first one.
  const kill = (index: number) => () => void inits[index]?.kill('SIGKILL');
  const link = (index: number, state: string) => quietly('ip', 'link', 'set', `v${tag}${index}`, state);
  const hosts = names.map((name, index) => ({
    name,
    kill: kill(index),
    unplug: () => link(index, 'down'),
    workers: () => workersOn(name).length,
    cut: () => {
      for (const number of workersOn(name)) process.kill(number, 'SIGSTOP');
      link(index, 'down');
    },
    mend: () => {
      link(index, 'up');
      for (const number of workersOn(name)) process.kill(number, 'SIGCONT');
    },
  }));
  return { hosts, nowhere: 'nowhere', env, program: join(directory, 'bin/bulkhaul') };
}
