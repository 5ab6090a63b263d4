/**
 * The addons: built by zig for each platform from this checkout, and looked at before they are taken.
 *
 * Comes in: platforms and a directory; goes out: of each addon `BINARY.PLATFORM.node` in a directory there, and once its loader and types. Two
 * builds are equal byte for byte wherever the checkout lies: paths are remapped, and settings of the builder do not count.
 */
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { ADDONS, addonName, GLIBC, ROOT, TOOLS } from './platforms.js';
import { Refused, run, say } from './run.js';

export const ZIG = join(ROOT, '.setup/zig');

/** The platform as zig has it, with the oldest glibc. */
export const zigTarget = (/** @type {import('./platforms.js').Platform} */ { triple, libc }) =>
  libc === 'glibc' ? `${triple.replace('-unknown', '')}.${GLIBC}` : triple.replace('-unknown', '');

/**
 * @param {readonly import('./platforms.js').Platform[]} platforms
 * @param {string} out
 */
export function buildAddons(platforms, out) {
  mkdirSync(out, { recursive: true });
  tools(platforms);
  for (const [platform, addon] of platforms.flatMap((each) => ADDONS.map((addon) => /** @type {const} */ ([each, addon])))) {
    say(`building ${addon.crate} for ${platform.name}`);
    const sources = join('bindings', addon.directory);
    const to = join(out, addon.directory);
    mkdirSync(to, { recursive: true });
    const made = mkdtempSync(join(tmpdir(), 'bulkhaul-release-'));
    try {
      const target = platform.libc === 'glibc' ? `${platform.triple}.${GLIBC}` : platform.triple;
      run(
        join(ROOT, 'node_modules/.bin/napi'),
        ['build', '--cross-compile', '--target', target, '--platform', '--release', '--esm', '--strip']
          .concat(['--manifest-path', join(sources, 'Cargo.toml'), '--output-dir', made])
          // The engine's settings are those of the project.
          .concat(existsSync(join(ROOT, sources, 'package.json')) ? ['--package-json-path', join(sources, 'package.json')] : [])
          .concat(['--', '--locked']),
        { env: surroundings(platform) },
      );
      checkAddon(platform, join(made, addonName(addon, platform)));
      for (const name of [addonName(addon, platform), 'index.js', 'index.d.ts'])
        copyFileSync(join(made, name), join(to, name));
    } finally {
      rmSync(made, { recursive: true, force: true });
    }
  }
}

/** What builds: zig and cargo's way to it, and Rust's standard library for each platform. */
function tools(/** @type {readonly import('./platforms.js').Platform[]} */ platforms) {
  if (!existsSync(join(ZIG, 'bin/cargo-zigbuild'))) {
    say(`installing ${TOOLS.join(' and ')}`);
    run('python3', ['-m', 'venv', ZIG]);
    run(join(ZIG, 'bin/pip'), ['install', '--quiet', ...TOOLS]);
  }
  run('rustup', ['target', 'add', ...platforms.map(({ triple }) => triple)]);
}

const CARGO_HOME = process.env.CARGO_HOME || join(homedir(), '.cargo');
const TARGET = process.env.CARGO_TARGET_DIR || join(ROOT, 'target');

/** The environment of a build: nothing of the builder's that could change what is built. */
function surroundings(/** @type {import('./platforms.js').Platform} */ { libc }) {
  const kept = Object.entries(process.env).filter(
    ([name]) => !/^(CARGO_(PROFILE|ENCODED|BUILD)_|RUSTFLAGS$)/.test(name),
  );
  const places = /** @type {const} */ ([
    [TARGET, '/target'],
    [ROOT, '/bulkhaul'],
    [CARGO_HOME, '/cargo'],
  ]);
  return {
    ...Object.fromEntries(kept),
    PATH: `${join(ZIG, 'bin')}:${process.env.PATH}`,
    CARGO_ENCODED_RUSTFLAGS: rustFlags(libc, places),
  };
}

/**
 * What Rust is told, in the form that a blank does not end: a checkout may lie below one. Cargo reads no other then, so what napi adds to
 * that other is here, too.
 *
 * @param {import('./platforms.js').Platform['libc']} libc
 * @param {readonly (readonly [string, string])[]} places directories, each with what the addon has in its place
 */
export function rustFlags(libc, places) {
  const flags = places.map(([from, to]) => `--remap-path-prefix=${from}=${to}`).concat('-Clink-arg=-s');
  return [...flags, ...(libc === 'musl' ? ['-Ctarget-feature=-crt-static'] : [])].join('\x1f');
}

/**
 * Looks at an addon as its platform will.
 *
 * @param {import('./platforms.js').Platform} platform
 * @param {string} file
 * @throws {Refused} where it would not load there, or tells of the machine that built it
 */
export function checkAddon({ name, libc, needs }, file) {
  const symbols = run('readelf', ['--dyn-syms', '--wide', file]);
  const asked = [...symbols.matchAll(/@GLIBC_([\d.]+)/g)].map(([, version = '']) => version);
  const tooNew = asked.filter((version) => libc === 'musl' || newer(version, GLIBC));
  if (tooNew.length > 0) throw new Refused(`${name} needs GLIBC_${tooNew.join(', GLIBC_')}`);
  if (libc === 'glibc' && asked.length === 0)
    throw new Refused(`${name} names no version of glibc: it was not looked at`);
  const libraries = [...run('readelf', ['--dynamic', '--wide', file]).matchAll(/\(NEEDED\).*\[(.+)\]/g)];
  const others = libraries.map(([, library = '']) => library).filter((library) => !needs.includes(library));
  if (others.length > 0) throw new Refused(`${name} needs ${others.join(', ')}`);
  const text = readFileSync(file, 'latin1');
  for (const place of [homedir(), ROOT, CARGO_HOME, TARGET]) {
    if (text.includes(`${place}/`)) throw new Refused(`${name} tells of ${place}, where it was built`);
  }
}

/** Whether a version comes after another. */
export const newer = (/** @type {string} */ version, /** @type {string} */ than) =>
  version.localeCompare(than, 'en', { numeric: true }) > 0;
