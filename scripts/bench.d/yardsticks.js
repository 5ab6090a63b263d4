/** Builds the C programs of scripts/yardsticks into a cache outside of git, each when it is older than its sources. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SOURCES = fileURLToPath(new URL('../yardsticks', import.meta.url));

/** The root of the checkout. */
export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** Where builds are kept. */
export const CACHE = join(ROOT, '.setup/bench');

/**
 * @param {string} [cache]
 * @returns {(name: string) => string} the path of a program by its name
 * @throws {Error} with what the compiler said
 */
export function built(cache = CACHE) {
  mkdirSync(cache, { recursive: true });
  const sources = readdirSync(SOURCES);
  const changed = (/** @type {string} */ name) => statSync(join(SOURCES, name)).mtimeMs;
  const headers = Math.max(...sources.filter((name) => name.endsWith('.h')).map(changed));
  for (const source of sources.filter((name) => name.endsWith('.c'))) {
    const program = join(cache, source.slice(0, -2));
    if (existsSync(program) && statSync(program).mtimeMs > Math.max(headers, changed(source))) continue;
    // Two benchmarks may build at once: a program appears complete.
    const made = `${program}.${process.pid}`;
    execFileSync(
      'cc',
      ['-std=gnu11', '-O2', '-pthread', '-Wall', '-Wextra', '-Werror', '-o', made, join(SOURCES, source)],
      { stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' },
    );
    renameSync(made, program);
  }
  return (name) => join(cache, name);
}
