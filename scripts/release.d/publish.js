/**
 * Publishing: the npm tarballs of a release in, sent to the registry that npm is configured for. Engines go first and the
 * main package last, so that nobody can install one without its engine; the first error ends it. What the registry has
 * already, with the same content, is passed over: the same command goes on.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Refused, run, say } from './run.js';

/**
 * @param {string} out where the release is
 * @param {boolean} dryRun sends nothing
 * @throws {Refused} at the first tarball that could not be published
 */
export function publish(out, dryRun) {
  const sums = readFileSync(join(out, 'SHA256SUMS'), 'utf8');
  run('sha256sum', ['--check', '--quiet', 'SHA256SUMS'], { cwd: out });
  const tarballs = [...sums.matchAll(/^\w+ {2}(.+\.tgz)$/gm)].map(([, file = '']) => read(join(out, file)));
  const main = tarballs.filter(({ name }) => !name.startsWith('@'));
  if (main.length !== 1) throw new Refused(`${out} has ${main.length} main packages`);
  const engines = tarballs.filter(({ name }) => name.startsWith('@'));
  const needed = Object.keys(main[0]?.optionalDependencies ?? {});
  const missing = needed.filter((name) => !engines.some((each) => each.name === name));
  if (missing.length > 0 || needed.length !== engines.length)
    throw new Refused(`${out} has ${engines.length} engines, and the main package names ${needed.join(', ')}`);
  const nowhere = tarballs.filter(({ repository }) => !repository);
  if (nowhere.length > 0)
    throw new Refused(
      `${nowhere.map(({ name }) => name).join(', ')} ${nowhere.length === 1 ? 'says' : 'say'} of no repository where it is from: build the release with --home, the https address of yours`,
    );
  for (const each of [...engines, ...main]) {
    const { name, version, file, integrity } = each;
    const there = published(name, version);
    if (there === integrity) say(`${name} ${version} is there already`);
    else if (there !== undefined) throw new Refused(`${name} ${version} is there already, with another content`);
    else if (dryRun) say(`would publish ${name} ${version}`);
    else {
      say(`publishing ${name} ${version}`);
      run('npm', ['publish', file, '--access', 'public', '--ignore-scripts']);
    }
  }
}

function read(/** @type {string} */ file) {
  const { name, version, optionalDependencies, repository } = JSON.parse(run('tar', ['-xzOf', file, 'package/package.json']));
  const integrity = `sha512-${createHash('sha512').update(readFileSync(file)).digest('base64')}`;
  return { name, version, optionalDependencies, repository, file, integrity };
}

/** What the registry has of a version: its integrity; undefined: it has none. */
function published(/** @type {string} */ name, /** @type {string} */ version) {
  try {
    return JSON.parse(run('npm', ['view', `${name}@${version}`, 'dist.integrity', '--json']) || 'null') ?? undefined;
  } catch (error) {
    // Anything but an answer that there is none is no answer.
    if (error instanceof Refused && error.message.includes('E404')) return undefined;
    throw error;
  }
}
