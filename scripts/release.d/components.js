/**
 * What of others is in a release: crates in the addons and npm packages in the bundles, with their licences. From it come
 * THIRD-PARTY.md, which ships in each package, and the bill of materials (CycloneDX 1.5).
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ADDONS, PLATFORMS, ROOT } from './platforms.js';
import { Refused, run } from './run.js';

/**
 * @typedef {object} Component
 * @property {'cargo' | 'npm' | 'generic'} kind
 * @property {string} name
 * @property {string} version
 * @property {string} licence an SPDX expression
 * @property {string} text the text of its licence, as it came
 * @property {string} [sha256] of the crate's file
 */

/** Bundles of npm packages, which rolldown made. */
const BUNDLES = ['cli/parser.js', 'report/pino.js'].map((name) => join(ROOT, 'ts/dist', name));

/**
 * @returns {Component[]} sorted by kind and name
 * @throws {Refused} where one has no licence that could be told
 */
export function components() {
  const found = [...crates(), ...packages(), rust()];
  const key = (/** @type {Component} */ { kind, name, version }) => `${kind} ${name} ${version}`;
  return found.sort((a, b) => (key(a) < key(b) ? -1 : 1));
}

/** The crates that are linked into an addon: those that only build one are not in it. */
function crates() {
  const lock = readFileSync(join(ROOT, 'Cargo.lock'), 'utf8');
  /** @type {Map<string, Component>} */
  const found = new Map();
  for (const { triple } of PLATFORMS) {
    const { packages, resolve } = JSON.parse(
      run('cargo', ['metadata', '--format-version=1', '--locked', '--filter-platform', triple]),
    );
    const of = new Map(packages.map((/** @type {{ id: string }} */ each) => [each.id, each]));
    const nodes = new Map(resolve.nodes.map((/** @type {{ id: string }} */ each) => [each.id, each]));
    const visit = (/** @type {string} */ id) => {
      const { name, version, license, authors, manifest_path, source, targets } = of.get(id);
      const macro = targets.some((/** @type {{ kind: string[] }} */ { kind }) => kind.includes('proc-macro'));
      if (macro || found.has(id)) return;
      if (source !== null) {
        const text = licenceText(dirname(manifest_path), license) ?? written(name, license, authors);
        const [, sha256] =
          new RegExp(
            `name = "${name}"\nversion = "${version.replaceAll('.', '\\.').replaceAll('+', '\\+')}"\nsource = .*\nchecksum = "(\\w+)"`,
          ).exec(lock) ?? [];
        found.set(id, { kind: 'cargo', name, version, licence: license, text, sha256 });
      }
      for (const { pkg, dep_kinds } of nodes.get(id).deps) {
        if (dep_kinds.some((/** @type {{ kind: string | null }} */ { kind }) => kind === null)) visit(pkg);
      }
    };
    for (const { crate } of ADDONS) {
      visit(packages.find((/** @type {{ name: string }} */ { name }) => name === crate).id);
    }
  }
  return [...found.values()];
}

/** The npm packages in the bundles, by the names of the files that they were made of. */
function packages() {
  const regions = BUNDLES.flatMap((bundle) =>
    [...readFileSync(bundle, 'utf8').matchAll(/^\/\/ (?:.*\/)?node_modules\/((?:@[^/\n]+\/)?[^/\n]+)\//gm)].map(
      ([, name = '']) => name,
    ),
  );
  if (regions.length === 0) throw new Refused('the bundles do not say what they are made of');
  return [...new Set(regions)].map((name) => {
    const at = join(ROOT, 'node_modules', name);
    const { version, license, author } = JSON.parse(readFileSync(join(at, 'package.json'), 'utf8'));
    const text =
      licenceText(at, license) ?? written(name, license, [typeof author === 'string' ? author : author?.name]);
    return /** @type {const} */ ({ kind: 'npm', name, version, licence: license, text });
  });
}

/** Rust's own library, which is in every engine. */
function rust() {
  const version = run('rustc', ['--version']).split(' ')[1] ?? '';
  const at = join(run('rustc', ['--print', 'sysroot']).trim(), 'share/doc/rust');
  const text =
    (existsSync(at) && licenceText(at)) || written('rust-std', 'MIT OR Apache-2.0', ['The Rust Project contributors']);
  return /** @type {const} */ ({ kind: 'generic', name: 'rust-std', version, licence: 'MIT OR Apache-2.0', text });
}

/**
 * The text of a licence in a directory: where there are several to choose from, that of MIT; where all hold, all of them;
 * and those of sources of others that lie in a directory of their own, such as C that a crate builds.
 */
function licenceText(/** @type {string} */ directory, licence = '') {
  const names = named(directory);
  const chosen = names.find((name) => /mit/i.test(name)) ?? names[0];
  const own = /\bAND\b/.test(licence) ? names : chosen === undefined ? [] : [chosen];
  const inside = readdirSync(directory, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && entry.name !== 'node_modules')
    .flatMap(({ name }) => {
      const theirs = named(join(directory, name)).filter((file) => !/gpl/i.test(file));
      const first = theirs.find((file) => /^licen[cs]e$/i.test(file));
      return (first === undefined ? theirs : [first]).map((file) => join(name, file));
    });
  const texts = [...own, ...inside].map((name) => readFileSync(join(directory, name), 'utf8').trim());
  return [...new Set(texts)].join('\n\n') || undefined;
}

/** The files of a directory that are licences by their names. */
function named(/** @type {string} */ directory) {
  return readdirSync(directory, { withFileTypes: true })
    .filter((entry) => entry.isFile() && /^(licen[cs]e|copying|unlicense)/i.test(entry.name))
    .map(({ name }) => name)
    .sort();
}

/** The text for a package that comes without it. */
function written(
  /** @type {string} */ name,
  /** @type {string} */ licence,
  /** @type {(string | undefined)[]} */ authors,
) {
  const who = authors.filter(Boolean).join(', ') || `the authors of ${name}`;
  if (!/\bMIT\b/.test(licence)) throw new Refused(`${name} (${licence}) comes without the text of its licence`);
  return MIT.replace('WHO', who);
}

const MIT = readFileSync(join(ROOT, 'LICENSE'), 'utf8')
  .replace(/^Copyright .*$/m, 'Copyright (c) WHO')
  .trim();

/** THIRD-PARTY.md: each text once, after the names of all that it is for. */
export function notices(/** @type {readonly Component[]} */ all) {
  /** @type {Map<string, Component[]>} */
  const texts = new Map();
  for (const each of all) texts.set(each.text, [...(texts.get(each.text) ?? []), each]);
  const label = (/** @type {Component} */ { kind, name, version, licence }) =>
    `- ${name} ${version} (${WORLDS[kind]}, ${licence})`;
  return [
    '# What of others is in bulkhaul',
    '',
    'Crates are in the native engine and the part for object stores, npm packages in the JavaScript of the commands. Each text below is for what is named',
    'above it.',
    ...[...texts].flatMap(([text, those]) => ['', ...those.map(label), '', '```', text, '```']),
    '',
  ].join('\n');
}

const WORLDS = { cargo: 'crate', npm: 'npm', generic: 'Rust' };

/** The bill of materials as CycloneDX 1.5. */
export function billOfMaterials(
  /** @type {readonly Component[]} */ all,
  /** @type {{ version: string, description: string, license: string }} */ { version, description, license },
  /** @type {Date} */ date,
) {
  const component = (/** @type {Component} */ { kind, name, version, licence, sha256 }) => ({
    ...{ type: 'library', name, version },
    'bom-ref': `pkg:${kind}/${name}@${version}`,
    licenses: [{ expression: licence.replaceAll('/', ' OR ') }],
    purl: `pkg:${kind}/${name.replace('@', '%40')}@${version}`,
    ...(sha256 === undefined ? {} : { hashes: [{ alg: 'SHA-256', content: sha256 }] }),
  });
  const bill = {
    ...{ bomFormat: 'CycloneDX', specVersion: '1.5', version: 1 },
    metadata: {
      timestamp: date.toISOString(),
      component: {
        type: 'application',
        name: 'bulkhaul',
        version,
        description,
        licenses: [{ license: { id: license } }],
      },
    },
    components: all.map(component),
  };
  return `${JSON.stringify(bill, null, 2)}\n`;
}
