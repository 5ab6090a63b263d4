/**
 * A host that answers over ssh, on loopback: the system's sshd with keys of the test's own, until the test ends. `undefined`
 * where there is none, and why is printed.
 */
import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { onTestFinished } from 'vitest';
import { freePort, scratch } from '../rig.js';

const SSHD = '/usr/sbin/sshd';

/** The environment in which `ssh` reaches the host `there`; `nowhere` is one that nobody answers for. */
export async function sshd(): Promise<NodeJS.ProcessEnv | undefined> {
  if (!existsSync(SSHD) || !existsSync('/usr/bin/ssh')) {
    console.log(`skip: there is no ${SSHD} or no ssh`);
    return undefined;
  }
  const directory = scratch();
  const port = await freePort();
  if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true });
  for (const key of ['host', 'id'])
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(directory, key)]);
  const settings = [
    `ListenAddress 127.0.0.1:${port}`,
    `HostKey ${directory}/host`,
    `AuthorizedKeysFile ${directory}/id.pub`,
    ...['StrictModes no', 'UsePAM no', 'PasswordAuthentication no', 'PermitRootLogin prohibit-password'],
    ...['PidFile none', 'Subsystem sftp internal-sftp'],
  ];
  writeFileSync(join(directory, 'sshd_config'), `${settings.join('\n')}\n`);
  const client = [
    `IdentityFile ${directory}/id`,
    `User ${userInfo().username}`,
    'HostName 127.0.0.1',
    ...['StrictHostKeyChecking no', 'UserKnownHostsFile /dev/null', 'LogLevel ERROR', 'IdentitiesOnly yes'],
  ].map((line) => `  ${line}`);
  const config = ['Host nowhere', '  Port 1', 'Host there', `  Port ${port}`, 'Host *', ...client];
  writeFileSync(join(directory, 'config'), `${config.join('\n')}\n`);
  mkdirSync(join(directory, 'bin'));
  const script = join(directory, 'bin/ssh');
  writeFileSync(script, `#!/bin/sh\nexec /usr/bin/ssh -F ${directory}/config "$@"\n`);
  chmodSync(script, 0o755);
  const server = spawn(SSHD, ['-D', '-f', join(directory, 'sshd_config')], { stdio: 'ignore' });
  let ended = false;
  const gone = new Promise<void>((resolve) => server.on('error', () => resolve()).on('close', () => resolve()));
  void gone.then(() => {
    ended = true;
  });
  onTestFinished(async () => {
    server.kill('SIGKILL');
    await gone;
  });
  const answers = () =>
    new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1', () => resolve(true)).on('error', () => resolve(false));
      socket.on('connect', () => socket.destroy());
    });
  while (!ended && !(await answers())) await sleep(50);
  if (ended) {
    console.log('skip: sshd does not begin');
    return undefined;
  }
  return { PATH: `${join(directory, 'bin')}:${process.env.PATH}` };
}
