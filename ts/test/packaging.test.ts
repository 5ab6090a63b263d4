/** What lies in packaging: it is of this version, loads where that can be tried, and can at least be read elsewhere. */
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { executable, program, scratch } from './rig.js';

const PACKAGING = fileURLToPath(new URL('../../packaging', import.meta.url));
const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
const file = (name: string) => readFileSync(join(PACKAGING, name), 'utf8');

it('is of this version', () => {
  expect(readdirSync(join(PACKAGING, 'module'))).toEqual([version]);
  const versioned = [
    `module/${version}`,
    'container/Dockerfile',
    'container/bulkhaul.def',
    'conda/recipe.yaml',
    'spack/package.py',
  ];
  for (const name of versioned) {
    const named = file(name).match(/\b\d+\.\d+\.\d+\b/g) ?? [];
    expect([name, ...new Set(named)]).toEqual([name, version]);
  }
});

it('tells how each is used', () => {
  const told = file('README.md');
  const all = readdirSync(PACKAGING, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  for (const { name } of all) expect(told).toMatch(new RegExp(`^\\| \`${name}/.*\n\\| \\|.*\n\\| \\|.*`, 'm'));
});

const LMOD = '/usr/share/lmod/lmod/init/bash';

it.skipIf(!existsSync(LMOD))('the module loads in Lmod, and goes again', async () => {
  const at = scratch();
  mkdirSync(join(at, 'tree/bin'), { recursive: true });
  symlinkSync(executable, join(at, 'tree/bin/hpcp'));
  mkdirSync(join(at, 'modules/bulkhaul'), { recursive: true });
  const module = file(`module/${version}`);
  expect(module).toContain(`set root /opt/bulkhaul-${version}-linux-x64\n`);
  writeFileSync(
    join(at, 'modules/bulkhaul', version),
    module.replace(/^set root .*$/m, `set root ${join(at, 'tree')}`),
  );
  const line = `. ${LMOD}; module use modules; module load bulkhaul/${version}; hpcp --version; module unload bulkhaul; command -v hpcp`;
  const { code, stdout, stderr } = await program('bash', ['--noprofile', '--norc', '-c', line], {
    cwd: at,
    env: { PATH: '/usr/bin:/bin', BASH_ENV: undefined },
  });
  expect({ code, stderr }).toEqual({ code: 1, stderr: '' });
  expect(stdout).toMatch(/^hpcp 9\.79 .*\n$/);
});

it('the recipe of Spack is Python', async () => {
  const compile = 'import sys; compile(open(sys.argv[1]).read(), sys.argv[1], "exec")';
  const { code, stderr } = await program('python3', ['-c', compile, join(PACKAGING, 'spack/package.py')]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
});

it('systemd takes the units', async () => {
  const at = scratch();
  for (const name of readdirSync(join(PACKAGING, 'systemd'))) {
    const unit = file(`systemd/${name}`).replace('/usr/local/bin/bulkhaul', '/bin/true');
    writeFileSync(join(at, name), unit);
  }
  const units = readdirSync(at).map((name) => join(at, name));
  const said = await program('systemd-analyze', ['verify', '--man=no', ...units]).catch(() => undefined);
  if (said === undefined) return console.log('skip: this needs systemd-analyze');
  expect(said).toEqual({ code: 0, stdout: '', stderr: '' });
});

it('the containers take the tarball by the name that scripts/release gives it', () => {
  expect(file('container/Dockerfile')).toContain(
    ['ADD bulkhaul-$', '{VERSION}-$', '{PLATFORM}.tar.gz /opt/\n'].join(''),
  );
  expect(file('container/bulkhaul.def')).toContain('bulkhaul-{{ VERSION }}-{{ PLATFORM }}.tar.gz /opt/');
});
