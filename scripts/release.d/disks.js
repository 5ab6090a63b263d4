/**
 * The addon for disks and images, which is in the engine's package: built by zig for each platform, against libraries of
 * which only the names and the versions of their calls are there.
 *
 * Comes in: platforms, and this machine's libblkid, libmount and libfdisk with their headers; goes out: of each platform
 * `blockdev.PLATFORM.node`, which takes the libraries of the machine that it runs on. Nothing of this machine's is in it.
 */
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkAddon, newer, ZIG, zigTarget } from './addons.js';
import { DISKS, disksName, ROOT } from './platforms.js';
import { Refused, run, say } from './run.js';

/**
 * @param {readonly import('./platforms.js').Platform[]} platforms
 * @param {string} out
 */
export function buildDisks(platforms, out) {
  const to = join(out, 'blockdev');
  mkdirSync(to, { recursive: true });
  const stage = mkdtempSync(join(tmpdir(), 'bulkhaul-release-'));
  try {
    for (const name of DISKS.libraries) headersOf(name, stage);
    for (const platform of platforms) {
      say(`building the addon for disks and images for ${platform.name}`);
      const file = join(to, disksName(platform));
      build(platform, stage, file);
      checkAddon({ ...platform, needs: [...platform.needs, ...DISKS.libraries.map(soname)] }, file);
      checkDisks(platform, file);
    }
  } finally {
    rmSync(stage, { recursive: true, force: true });
  }
}

const soname = (/** @type {string} */ name) => `lib${name}.so.1`;

/** The headers of a library, and nothing else of this machine's: that of its libc is another one. */
function headersOf(/** @type {string} */ name, /** @type {string} */ stage) {
  const { package: of, headers } = about(name);
  const directory = run('pkg-config', ['--variable=includedir', of]).trim();
  cpSync(join(directory, headers), join(stage, 'include', headers), { recursive: true });
}

const about = (/** @type {string} */ name) => ({
  package: name,
  headers: name === 'blkid' ? 'blkid' : `lib${name}`,
});

/** By version: the calls of this machine's library that came with it. @returns {Map<string, string[]>} */
function versionsOf(/** @type {string} */ name) {
  const directory = run('pkg-config', ['--variable=libdir', about(name).package]).trim();
  const symbols = run('readelf', ['--dyn-syms', '--wide', join(directory, soname(name))]);
  /** @type {Map<string, string[]>} */
  const versions = new Map();
  for (const [, symbol = '', version = ''] of symbols.matchAll(/ FUNC .* (\S+)@@(\S+)$/gm))
    versions.set(version, [...(versions.get(version) ?? []), symbol]);
  if (versions.size === 0) throw new Refused(`${soname(name)} names no versions of its calls`);
  return versions;
}

/**
 * Makes libraries of which only the names and the versions of their calls are there: what can be linked with, and loaded with
 * where the real ones can't be had.
 *
 * @param {import('./platforms.js').Platform} platform
 * @param {string} at
 */
export function stubs(platform, at) {
  for (const name of DISKS.libraries) {
    const versions = versionsOf(name);
    const source = join(at, `${name}.c`);
    const map = join(at, `${name}.map`);
    writeFileSync(source, [...versions.values()].flat().map((call) => `void ${call}(void) {}\n`).join(''));
    writeFileSync(
      map,
      [...versions].map(([version, calls]) => `${version} { global: ${calls.join('; ')}; };\n`).join(''),
    );
    const link = ['-shared', '-nostdlib', `-Wl,-soname,${soname(name)}`, `-Wl,--version-script=${map}`];
    run(ZIGCC, ['cc', '-target', zigTarget(platform), ...link, '-o', join(at, soname(name)), source]);
    symlinkSync(soname(name), join(at, `lib${name}.so`));
  }
}

const ZIGCC = join(ZIG, 'bin/python-zig');

function build(
  /** @type {import('./platforms.js').Platform} */ platform,
  /** @type {string} */ stage,
  /** @type {string} */ file,
) {
  const at = join(stage, platform.name);
  mkdirSync(at);
  stubs(platform, at);
  for (const name of DISKS.libraries) {
    writeFileSync(
      join(at, `${about(name).package}.pc`),
      `Name: ${name}\nDescription: ${name}\nVersion: ${DISKS.version}\n` +
        `Cflags: -I${join(stage, 'include')} -I${join(stage, 'include', about(name).headers)}\nLibs: -L${at} -l${name}\n`,
    );
  }
  // What builds it takes a compiler by one word.
  const compiler = join(at, 'c++');
  writeFileSync(compiler, `#!/bin/sh\nexec '${ZIGCC}' c++ -target ${zigTarget(platform)} -s "-ffile-prefix-map=${ROOT}=/bulkhaul" "$@"\n`);
  chmodSync(compiler, 0o755);
  run(join(ROOT, 'bindings/blockdev/build'), ['--into', file], {
    env: { ...process.env, CXX: compiler, PKG_CONFIG_LIBDIR: at, PKG_CONFIG_PATH: at },
  });
}

/** @throws {Refused} where it needs newer libraries than it says */
export function checkDisks(/** @type {import('./platforms.js').Platform} */ { name }, /** @type {string} */ file) {
  const symbols = run('readelf', ['--dyn-syms', '--wide', file]);
  const asked = [...symbols.matchAll(/@(?:BLKID|MOUNT|FDISK)_([\d._]+)/g)].map(([, version = '']) =>
    version.replaceAll('_', '.'),
  );
  const tooNew = asked.filter((version) => newer(version, DISKS.version));
  if (asked.length === 0) throw new Refused(`${name} names no version of libblkid, libmount or libfdisk`);
  if (tooNew.length > 0) throw new Refused(`${name} needs util-linux ${tooNew.join(', ')}`);
}
