/**
 * The npm packages: the addons and what was built of TypeScript in, a tarball for each addon and platform and one for the rest out. They are put together outside of
 * the checkout, which stays as it is.
 */
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ADDONS, addonName, DISKS, disksName, packageOf, ROOT } from './platforms.js';
import { Refused, run } from './run.js';

/** Where the manual pages are. */
const MAN = 'ts/dist/share/man/man1';

/** The project's package.json. */
export const PACKAGE = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));

/**
 * @param {readonly import('./platforms.js').Platform[]} platforms
 * @param {{ addons: string, notices: string, out: string, home: string | undefined }} places `addons`: where each has its directory, as in `bindings`; `notices`: the text of THIRD-PARTY.md; `home`: the address of the repository
 * @returns {string[]} the names of the tarballs in `out`, the main package last
 */
export function pack(platforms, { addons, notices, out, home }) {
  mkdirSync(out, { recursive: true });
  const stage = mkdtempSync(join(tmpdir(), 'bulkhaul-release-'));
  try {
    const directories = [
      ...platforms.flatMap((platform) => ADDONS.map((addon) => platformPackage(addon, platform, addons, stage))),
      main(platforms, addons, stage),
    ];
    return directories.map((directory) => {
      writeFileSync(join(directory, 'THIRD-PARTY.md'), notices);
      if (home !== undefined) addressed(directory, home);
      copyFileSync(join(ROOT, 'LICENSE'), join(directory, 'LICENSE'));
      complete(directory);
      const [made] = JSON.parse(run('npm', ['pack', '--json', '--pack-destination', out], { cwd: directory }));
      return made.filename;
    });
  } finally {
    rmSync(stage, { recursive: true, force: true });
  }
}

/** What every package tells of itself. */
function common() {
  const { version, license, keywords, engines } = PACKAGE;
  return { version, license, keywords, engines };
}

/** Says where a package is from. */
function addressed(/** @type {string} */ directory, /** @type {string} */ home) {
  const manifest = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8'));
  const repository = { type: 'git', url: `git+${home}.git` };
  write(directory, { ...manifest, homepage: `${home}#readme`, bugs: { url: `${home}/issues` }, repository });
}

function platformPackage(
  /** @type {import('./platforms.js').Addon} */ addon,
  /** @type {import('./platforms.js').Platform} */ platform,
  /** @type {string} */ addons,
  /** @type {string} */ stage,
) {
  const { name, cpu, libc } = platform;
  const file = addonName(addon, platform);
  const directory = join(stage, `${addon.directory}-${name}`);
  mkdirSync(directory);
  copyFileSync(join(addons, addon.directory, file), join(directory, file));
  const files = [file];
  if (addon.directory === 'node') {
    copyFileSync(join(addons, 'blockdev', disksName(platform)), join(directory, DISKS.file));
    files.push(DISKS.file);
  }
  const description = `${addon.what} of bulkhaul for Linux on ${cpu}, ${libc}`;
  write(directory, {
    ...{ name: packageOf(addon, platform), description, ...common() },
    ...{ main: file, files: [...files, 'THIRD-PARTY.md'], os: ['linux'], cpu: [cpu], libc: [libc] },
  });
  writeFileSync(
    join(directory, 'README.md'),
    `# ${packageOf(addon, platform)}\n\n${description}. The package bulkhaul brings it.\n`,
  );
  return directory;
}

function main(
  /** @type {readonly import('./platforms.js').Platform[]} */ platforms,
  /** @type {string} */ addons,
  /** @type {string} */ stage,
) {
  const directory = join(stage, 'main');
  mkdirSync(directory);
  const { devDependencies: _, devEngines: __, scripts: ___, ...rest } = PACKAGE;
  // Only here: a lock file in git could not resolve versions that are not published yet.
  const names = platforms.flatMap((each) => ADDONS.map((addon) => packageOf(addon, each)));
  const optionalDependencies = Object.fromEntries(names.map((name) => [name, PACKAGE.version]));
  const man = readdirSync(join(ROOT, MAN)).map((page) => join(MAN, page));
  write(directory, { ...rest, man, optionalDependencies });
  for (const each of ['README.md', ...PACKAGE.files]) {
    const from = each.startsWith('bindings/') ? join(addons, each.slice('bindings/'.length)) : join(ROOT, each);
    if (existsSync(from)) cpSync(from, join(directory, each), { recursive: true });
  }
  return directory;
}

function write(/** @type {string} */ directory, /** @type {object} */ manifest) {
  writeFileSync(join(directory, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
}

/** Throws `Refused` where a package names a file that is not there: npm would leave it out and say nothing. */
function complete(/** @type {string} */ directory) {
  const {
    name,
    files,
    main,
    types,
    bin = {},
    man = [],
  } = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8'));
  const named = [...files, main, ...(types === undefined ? [] : [types]), ...Object.values(bin), ...man];
  const missing = named.filter((each) => !existsSync(join(directory, each)));
  if (missing.length > 0) throw new Refused(`${name} names ${missing.join(', ')}, and there is no such file`);
}
