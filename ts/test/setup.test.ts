/** scripts/setup, with nothing but what it needs, and a package manager of the test's own. */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { scratch } from './rig.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const TOOLS = [
  ...['sh', 'env', 'dirname', 'readlink', 'find', 'sed', 'grep', 'sort', 'head', 'tail', 'cut', 'cat', 'mkdir', 'mv'],
  ...['sleep', 'flock', 'node', 'npm', 'cargo', 'rustc'],
];

/** Makes a checkout ready in which all is there but what the package manager is to bring; `aptGet`: what that does. */
function setUp(aptGet: string): { status: number | null; stderr: string; asked: string[] } {
  const cwd = scratch();
  const write = (path: string, text: string, mode = 0o644): void => {
    mkdirSync(dirname(join(cwd, path)), { recursive: true });
    writeFileSync(join(cwd, path), text, { mode });
  };
  for (const path of ['scripts/setup', 'package.json', 'package-lock.json', 'Cargo.toml'])
    cpSync(join(ROOT, path), join(cwd, path));
  mkdirSync(join(cwd, 'node_modules'));
  for (const path of ['packages', 'b3sum-1.8/bin/b3sum', 'azurite/node_modules/.bin/azurite-blob', 'asked'])
    write(`.setup/${path}`, '');
  write('bin/id', '#!/bin/sh\necho 0\n', 0o755);
  write('bin/apt-get', `#!/bin/sh\necho "$*" >>.setup/asked\n${aptGet}\n`, 0o755);
  for (const tool of TOOLS) {
    const path = execFileSync('sh', ['-c', 'PATH=$PATH:$HOME/.cargo/bin; command -v "$1"', 'sh', tool], {
      encoding: 'utf8',
    });
    symlinkSync(path.trim(), join(cwd, 'bin', tool));
  }
  const { status, stderr } = spawnSync('scripts/setup', ['--tests'], {
    cwd,
    encoding: 'utf8',
    env: { ...process.env, PATH: join(cwd, 'bin') },
  });
  return { status, stderr, asked: readFileSync(join(cwd, '.setup/asked'), 'utf8').trim().split('\n') };
}

it('waits for the package manager where another one is at work', () => {
  const { status, stderr, asked } = setUp(`mkdir .setup/"$3" 2>/dev/null || exit 0
echo 'E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1 (apt-get)' >&2
exit 100`);
  expect([status, stderr]).toEqual([0, expect.stringContaining('installing build-essential\n')]);
  const waits = '-o DPkg::Lock::Timeout=-1';
  const install = `${waits} install -y --no-install-recommends build-essential`;
  expect(asked.slice(0, 4)).toEqual([`${waits} update`, `${waits} update`, install, install]);
  expect(stderr).toMatch(/there is no hpcp-9\.79 \(python3 .*\): tests that need it are skipped/);
});

it('tells what the package manager says when that fails', () => {
  const { status, stderr, asked } = setUp("echo 'E: Unable to locate package build-essential' >&2; exit 100");
  expect([status, stderr]).toEqual([2, expect.stringContaining('E: Unable to locate package build-essential\n')]);
  expect(stderr).toContain('bulkhaul setup: this failed: apt_get_install build-essential\n');
  expect(asked).toHaveLength(1);
});
