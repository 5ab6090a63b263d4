/** What is released for which machines, and what may be asked of them. */
import { fileURLToPath } from 'node:url';

/** The root of the checkout. */
export const ROOT = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');

/**
 * @typedef {object} Addon
 * @property {string} directory where its sources, its loader and its types are
 * @property {string} binary its file begins with it
 * @property {string} crate
 * @property {string} package its packages' names begin with it
 * @property {string} what
 */

/** What is built for each platform: the engine, and what speaks to object stores, which is loaded where a URL is named. @type {readonly Addon[]} */
export const ADDONS = [
  {
    ...{ directory: 'node', binary: 'bulkhaul', crate: 'bulkhaul-node', package: '@bulkhaul/engine' },
    what: 'The native engine',
  },
  {
    ...{ directory: 'stores', binary: 'bulkhaul-stores', crate: 'bulkhaul-stores-node', package: '@bulkhaul/stores' },
    what: 'The part that speaks to object stores',
  },
];

/** What disks and images take of the system: the libraries of util-linux, in this version or a newer one. RHEL 8 has 2.32. */
export const DISKS = { libraries: ['blkid', 'mount', 'fdisk'], version: '2.31', file: 'blockdev.node' };

/** The addon for disks and images of a platform, until it is in its package. */
export const disksName = (/** @type {Platform} */ { name }) => `blockdev.${name}.node`;

/** The newest glibc that an addon may need: that of RHEL 7 and of all that came after it. */
export const GLIBC = '2.17';

/** What is built with, from PyPI. */
export const TOOLS = ['cargo-zigbuild==0.24.1', 'ziglang==0.17.1'];

/** Node.js in the tarballs: a build for glibc 2.17, from PyPI, by the sha256 of its file. */
export const NODE = '22.20.0';

/**
 * @typedef {object} Platform
 * @property {string} name the end of its package's name
 * @property {string} triple Rust's name for it
 * @property {'x64' | 'arm64'} cpu as Node.js and npm call it
 * @property {'glibc' | 'musl'} libc as npm calls it
 * @property {readonly string[]} needs the libraries that an addon may ask for
 * @property {{ tag: string, sha256: string }} [node] the Node.js that its tarball has; absent: there is none
 */

/** @type {readonly Platform[]} */
export const PLATFORMS = [
  {
    ...{ name: 'linux-x64-gnu', triple: 'x86_64-unknown-linux-gnu', cpu: 'x64', libc: 'glibc' },
    needs: ['libc.so.6', 'libm.so.6', 'libpthread.so.0', 'libdl.so.2', 'ld-linux-x86-64.so.2'],
    node: {
      tag: 'manylinux_2_17_x86_64',
      sha256: 'b5c500aa4dc046333ecb0a80f183e069e5c30ce637f1c1a37166b2c0b642dc21',
    },
  },
  {
    ...{ name: 'linux-arm64-gnu', triple: 'aarch64-unknown-linux-gnu', cpu: 'arm64', libc: 'glibc' },
    needs: ['libc.so.6', 'libm.so.6', 'libpthread.so.0', 'libdl.so.2', 'ld-linux-aarch64.so.1'],
    node: {
      tag: 'manylinux_2_17_aarch64',
      sha256: '7a2b0989194148f66e9295d8f11bc463bde02cbe276517f4d20a310fb84780ae',
    },
  },
  {
    ...{ name: 'linux-x64-musl', triple: 'x86_64-unknown-linux-musl', cpu: 'x64', libc: 'musl' },
    needs: ['libc.so'],
  },
  {
    ...{ name: 'linux-arm64-musl', triple: 'aarch64-unknown-linux-musl', cpu: 'arm64', libc: 'musl' },
    needs: ['libc.so'],
  },
];

/** The file of an addon for a platform, as its loader looks for it. */
export const addonName = (/** @type {Addon} */ { binary }, /** @type {Platform} */ { name }) => `${binary}.${name}.node`;

/** The name of the package that has an addon for a platform. */
export const packageOf = (/** @type {Addon} */ addon, /** @type {Platform} */ { name }) => `${addon.package}-${name}`;
