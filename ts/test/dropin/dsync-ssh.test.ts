/** `dsync` on hosts of a real sshd on this machine: what ssh makes of a command, of a list, and of an interruption. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { freePort, run, scratch } from '../rig.js';

const SSHD = ['/usr/sbin/sshd', '/sbin/sshd'].find((path) => spawnSync(path, ['-?']).error === undefined);
const able =
  SSHD !== undefined && ['rsync', 'ssh', 'ssh-keygen'].every((each) => spawnSync(each, ['-?']).error === undefined);
if (!able) console.log('skip: there is no sshd, ssh or rsync');

const HOSTS = ['node-1', 'node-2', 'node-3'];

describe.runIf(able)('hosts of a real sshd', () => {
  /** Only its owner may write anywhere above: sshd asks for that. */
  const at = mkdtempSync(join(tmpdir(), 'bulkhaul-sshd-'));
  let server: ChildProcess | undefined;
  let path = '';

  beforeAll(async () => {
    for (const key of ['host', 'id'])
      execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(at, key)]);
    copyFileSync(join(at, 'id.pub'), join(at, 'authorized'));
    const port = await freePort();
    writeFileSync(
      join(at, 'sshd_config'),
      [
        `Port ${port}`,
        'ListenAddress 127.0.0.1',
        `HostKey ${join(at, 'host')}`,
        `AuthorizedKeysFile ${join(at, 'authorized')}`,
        `PidFile none`,
        'StrictModes no',
        'UsePAM no',
        'PermitRootLogin prohibit-password',
        // A host that is a source begins ssh, too.
        `SetEnv PATH=${join(at, 'bin')}:/usr/bin:/bin`,
        '',
      ].join('\n'),
    );
    if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true });
    server = spawn(SSHD ?? '', ['-D', '-e', '-f', join(at, 'sshd_config')], { stdio: ['ignore', 'ignore', 'pipe'] });
    await new Promise<void>((resolve, reject) => {
      let said = '';
      server?.stderr?.on('data', (chunk: Buffer) => {
        said += chunk.toString();
        if (said.includes('Server listening')) resolve();
      });
      server?.on('exit', () => reject(new Error(said)));
    });
    const config = [
      `Host ${HOSTS.join(' ')}`,
      ...['HostName 127.0.0.1', `Port ${port}`, `User ${userInfo().username}`, `IdentityFile ${join(at, 'id')}`],
      ...['IdentitiesOnly yes', 'StrictHostKeyChecking no', 'UserKnownHostsFile /dev/null', 'LogLevel ERROR'],
    ];
    writeFileSync(join(at, 'config'), config.join('\n  '));
    mkdirSync(join(at, 'bin'));
    const real = execFileSync('sh', ['-c', 'command -v ssh']).toString().trim();
    writeFileSync(join(at, 'bin/ssh'), `#!/bin/sh\nexec '${real}' -F '${join(at, 'config')}' "$@"\n`, { mode: 0o755 });
    path = `${join(at, 'bin')}:${process.env.PATH}`;
    writeFileSync(join(at, 'hosts'), `${HOSTS.join('\n')}\n`);
  });

  afterAll(() => {
    server?.kill('SIGKILL');
    rmSync(at, { recursive: true, force: true });
  });

  function tree() {
    const cwd = join(scratch(), 'it\'s a $HOME \\ "dir"');
    for (const name of ['sub', 'e m p t y', 'new\nline']) mkdirSync(join(cwd, 's', name), { recursive: true });
    for (const name of ['a', 'b c', '#d', 'x\ny', "'q'", '\\'])
      for (const directory of ['', 'sub']) writeFileSync(join(cwd, 's', directory, name), `in ${name}`);
    const dsync = (...args: string[]) =>
      run(['dsync', '--working-dir', join(cwd, 'w'), ...args], { cwd, env: { PATH: path } });
    return { cwd, dsync };
  }

  const difference = (cwd: string) =>
    execFileSync('rsync', ['-ani', '--checksum', `${cwd}/s/`, `${cwd}/d/`]).toString();

  it.each([[['--source-hosts']], [['--destination-hosts']], [['--source-hosts', '--destination-hosts']]])(
    '%j: everything arrives',
    async (flags) => {
      const { cwd, dsync } = tree();
      const hosts = flags.flatMap((flag) => [flag, join(at, 'hosts')]);
      const { code, stderr } = await dsync('-n', '5', ...hosts, 's', 'd');
      expect([code, stderr]).toEqual([0, expect.stringMatching(/\ncomplete: 15 entries\n/)]);
      expect(difference(cwd)).toBe('');
    },
  );

  it('one that is not there is left out, at once', async () => {
    const { cwd, dsync } = tree();
    writeFileSync(join(cwd, 'some'), 'node-1\nnobody.invalid\n');
    const { code, stderr } = await dsync('-n', '2', '--source-hosts', 'some', 's', 'd');
    expect([code, stderr]).toEqual([
      0,
      expect.stringContaining("host nobody.invalid is left out: it can't be reached: ssh: "),
    ]);
    expect(difference(cwd)).toBe('');
  });

  it('an interruption ends what runs there', async () => {
    const { cwd } = tree();
    writeFileSync(join(cwd, 's/big'), Buffer.alloc(8_000_000, 'big'));
    const args = ['--working-dir', join(cwd, 'w'), '-n', '1', '--bwlimit', '1', '--source-hosts', join(at, 'hosts')];
    let child: ChildProcess | undefined;
    const ended = run(['dsync', ...args, 's', 'd'], {
      cwd,
      env: { PATH: path },
      onStart: (started) => {
        child = started;
      },
    });
    onTestFinished(() => void child?.kill('SIGKILL'));
    await expect.poll(() => rsyncsIn(cwd).length, { timeout: 30_000 }).toBeGreaterThan(0);
    child?.kill('SIGINT');
    expect(await ended).toMatchObject({ code: 130, stderr: expect.stringContaining('INTERRUPTED: ') });
    await expect.poll(() => rsyncsIn(cwd), { timeout: 30_000 }).toEqual([]);
  });
});

/** The processes of rsync, not of ssh, that have a path among their arguments. */
function rsyncsIn(directory: string): string[] {
  return readdirSync('/proc').filter((process) => {
    try {
      const [program, ...args] = readFileSync(`/proc/${process}/cmdline`, 'utf8').split('\0');
      return program === 'rsync' && args.some((arg) => arg.includes(directory));
    } catch {
      return false;
    }
  });
}
