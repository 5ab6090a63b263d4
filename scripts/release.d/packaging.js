/** `packaging` in a release: the same files, with what only a release knows: the sums of its tarballs, and its address. */
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './platforms.js';
import { Refused } from './run.js';

/** @param {string} out where the release is @param {string | undefined} home the address of its repository */
export function packaging(out, home) {
  const to = join(out, 'packaging');
  cpSync(join(ROOT, 'packaging'), to, { recursive: true });
  const file = join(to, 'spack/package.py');
  writeFileSync(file, filled(readFileSync(file, 'utf8'), readFileSync(join(out, 'SHA256SUMS'), 'utf8'), home));
}

/** The recipe of Spack with the sums and the address. Throws `Refused` where it has no place for one. */
export function filled(/** @type {string} */ recipe, /** @type {string} */ sums, /** @type {string | undefined} */ home) {
  let text = recipe;
  for (const [, sum = '', platform = ''] of sums.matchAll(/^(\w{64}) {2}bulkhaul-.*-(linux-\w+)\.tar\.gz$/gm)) {
    const with_ = text.replace(new RegExp(`("${platform}": ")0{64}"`), `$1${sum}"`);
    if (with_ === text) throw new Refused(`the recipe of Spack has no place for ${platform}`);
    text = with_;
  }
  return home === undefined ? text : text.replace(/^_HOME = .*$/m, `_HOME = ${JSON.stringify(home)}`);
}
