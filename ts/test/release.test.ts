/** What scripts/release makes and sends, with the engine of this build: the packages, their notices, and the order of publishing. */
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { program, scratch } from './rig.js';

// npm takes its time, and much more where others are at work.
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const SCRIPT = join(ROOT, 'scripts/release');
const load = (name: string) => import(join(ROOT, 'scripts/release.d', name));

const { PLATFORMS, ADDONS, addonName, disksName } = await load('platforms.js');
const { components, notices, billOfMaterials } = await load('components.js');
const { pack, PACKAGE } = await load('packages.js');
const { checkAddon, rustFlags } = await load('addons.js');
const { checkDisks } = await load('disks.js');
const { filled } = await load('packaging.js');

const HOME = 'https://forge.example/somebody/bulkhaul';

/** The platform that this build is for, where it has all addons. */
const BUILT = join(ROOT, 'bindings');
type Addon = { directory: string; package: string; crate: string };
const files = (addon: Addon, platform: unknown) => join(BUILT, addon.directory, addonName(addon, platform));
const DISKS = join(BUILT, 'blockdev/blockdev.node');
const here = PLATFORMS.filter(
  (platform: unknown) => existsSync(DISKS) && ADDONS.every((addon: Addon) => existsSync(files(addon, platform))),
);
const names: string[] = ADDONS.map((addon: Addon) => `${addon.package}-${here[0]?.name}`);
const [engineName = '', storesName = ''] = names;

describe.skipIf(here.length === 0)('the packages', () => {
  const out = mkdtempSync(join(tmpdir(), 'bulkhaul-test-'));
  const all = components();
  const addons = mkdtempSync(join(tmpdir(), 'bulkhaul-test-'));
  const places = { addons, notices: notices(all), home: HOME };
  let packed: string[] = [];
  beforeAll(() => {
    for (const name of ['node', 'stores']) symlinkSync(join(BUILT, name), join(addons, name));
    mkdirSync(join(addons, 'blockdev'));
    copyFileSync(DISKS, join(addons, 'blockdev', disksName(here[0])));
    packed = pack(here, { ...places, out });
  });
  afterAll(() => {
    for (const each of [out, addons]) rmSync(each, { recursive: true, force: true });
  });

  const npm = (args: readonly string[], cwd: string) =>
    program('npm', [...args, '--offline', '--no-audit', '--no-fund'], {
      cwd,
      env: { npm_config_cache: join(cwd, 'cache'), NODE_EXTRA_CA_CERTS: undefined },
    });

  it('are installed without a network, bring nothing else, and work', async () => {
    const at = scratch();
    const args = ['install', '--global', '--prefix', at, ...packed.map((file) => join(out, file))];
    expect(await npm(args, at)).toMatchObject({ code: 0, stdout: expect.stringContaining('added 3 packages') });
    const modules = join(at, 'lib/node_modules');
    for (const name of ['bulkhaul', ...names]) {
      for (const file of ['LICENSE', 'THIRD-PARTY.md', 'README.md'])
        expect(existsSync(join(modules, name, file))).toBe(true);
      const { repository, homepage, bugs, keywords, scripts, dependencies } = JSON.parse(
        readFileSync(join(modules, name, 'package.json'), 'utf8'),
      );
      expect({ repository, homepage, bugs }).toEqual({
        repository: { type: 'git', url: `git+${HOME}.git` },
        homepage: `${HOME}#readme`,
        bugs: { url: `${HOME}/issues` },
      });
      expect(keywords.length).toBeGreaterThan(3);
      expect({ scripts, dependencies }).toEqual({});
    }
    for (const name of Object.keys(PACKAGE.bin)) {
      expect(await program(join(at, 'bin', name), ['--version'])).toMatchObject({ code: 0, stderr: '' });
      expect(existsSync(join(at, 'share/man/man1', `${name}.1`))).toBe(true);
    }
    writeFileSync(join(at, 'one'), 'x');
    const copy = ['copy', '--verify', '--log-file', join(at, 'log'), join(at, 'one'), join(at, 'two')];
    expect(await program(join(at, 'bin/bulkhaul'), copy)).toMatchObject({ code: 0 });
    expect(readFileSync(join(at, 'two'), 'utf8')).toBe('x');
    expect(readFileSync(join(at, 'log'), 'utf8')).toContain('"msg":"summary"');
    // The ldd of a system need not be of the libc that Node.js has.
    const hook = [
      "const fs = require('node:fs'); const read = fs.readFileSync;",
      "fs.readFileSync = (path, ...more) => (path === '/usr/bin/ldd' ? 'musl' : read(path, ...more));",
      "require('node:module').syncBuiltinESMExports();",
    ];
    writeFileSync(join(at, 'hook.cjs'), hook.join(''));
    const deceived = { env: { NODE_OPTIONS: `--require ${join(at, 'hook.cjs')}` } };
    expect(
      await program(join(at, 'bin/bulkhaul'), ['copy', join(at, 'one'), join(at, 'three')], deceived),
    ).toMatchObject({
      code: 0,
    });
    // What knows disks and images is there.
    writeFileSync(join(at, 'image'), Buffer.alloc(1 << 20));
    const inspected = await program(join(at, 'bin/bulkhaul'), ['image', 'inspect', join(at, 'image')]);
    expect(inspected.stderr).not.toContain('libblkid');
    expect(inspected.code, inspected.stderr).toBe(0);
    // What speaks to object stores is there, and asks.
    const asks = ['list', '--anonymous', '--endpoint-url', 'http://127.0.0.1:1', '--json', 's3://bucket'];
    expect((await program(join(at, 'bin/bulkhaul'), asks)).stderr).toContain('s3://bucket');
  });

  it('are a library for old resolvers too, with types', async () => {
    const at = scratch();
    writeFileSync(join(at, 'package.json'), '{}');
    await npm(['install', ...packed.map((file) => join(out, file))], at);
    const use = "const { copy } = await import('bulkhaul'); console.log(typeof copy, require.resolve('bulkhaul'))";
    const { stdout } = await program(process.execPath, ['-e', `(async () => { ${use} })()`], { cwd: at });
    expect(stdout).toMatch(/^function .*ts\/dist\/index\.js\n$/);
    writeFileSync(join(at, 'use.ts'), "import { copy } from 'bulkhaul';\nexport const text: string = copy;\n");
    const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
    const types = ['--ignoreConfig', '--noEmit', '--strict', '--skipLibCheck', '--target', 'es2023', '--types', 'node'];
    for (const resolution of [
      ['--module', 'nodenext'],
      ['--module', 'preserve', '--moduleResolution', 'bundler'],
    ]) {
      const typeRoots = ['--typeRoots', join(ROOT, 'node_modules/@types')];
      const said = await program(process.execPath, [tsc, ...types, ...typeRoots, ...resolution, 'use.ts'], { cwd: at });
      // That the mistake is seen shows that the types are.
      expect(said.stdout).toMatch(
        /^use\.ts\(2,14\): error TS2322: Type '\(.*=> Job' is not assignable to type 'string'\.\s*$/,
      );
    }
  });

  it('say in one sentence that the engine was left out', async () => {
    const at = scratch();
    const main = packed.map((file) => join(out, file)).filter((file) => !/bulkhaul-(engine|stores)/.test(file));
    await npm(['install', '--global', '--prefix', at, '--omit=optional', ...main], at);
    const { code, stderr } = await program(join(at, 'bin/bulkhaul'), ['list', '/etc/hostname']);
    expect({ code, lines: stderr.split('\n').length }).toEqual({ code: 2, lines: 2 });
    expect(stderr).toContain(`the package ${engineName}, which has the native engine, is not installed`);
    const stores = await program(join(at, 'bin/bulkhaul'), ['list', '--anonymous', 's3://bucket']);
    expect(stores.code).toBe(2);
    expect(stores.stderr).toContain(
      `the package ${storesName}, which has the part for object stores, is not installed`,
    );
  });

  it('are the same bytes when they are made again', () => {
    const again = scratch();
    pack(here, { ...places, out: again });
    for (const file of packed) expect(readFileSync(join(again, file)).equals(readFileSync(join(out, file)))).toBe(true);
  });

  it('are not made with a name of a file that is not there', () => {
    PACKAGE.files.push('ts/nothing');
    try {
      expect(() => pack(here, { ...places, out: scratch() })).toThrow(
        'bulkhaul names ts/nothing, and there is no such file',
      );
    } finally {
      PACKAGE.files.pop();
    }
  });

  it('name all that is in them of others, with a licence', async () => {
    const { stdout } = await program(
      'cargo',
      [
        'tree',
        '-p',
        'bulkhaul-node',
        '-p',
        'bulkhaul-stores-node',
        '-e',
        'normal,no-proc-macro',
        '--prefix',
        'none',
      ].concat(['-f', '{p}', '--locked']),
      { cwd: ROOT },
    );
    const crates = [...stdout.matchAll(/^(?!bulkhaul)(\S+) v(\S+)/gm)].map(([, name, version]) => `${name} ${version}`);
    expect(crates.length).toBeGreaterThan(20);
    const text = notices(all);
    for (const each of [...crates, 'pino 10.4.0', 'clipanion 3.2.1', 'typanion 3.14.0'])
      expect(text).toContain(`- ${each} (`);
    for (const each of all) expect(each.text.length, each.name).toBeGreaterThan(100);
    // What of C a crate has in it has a licence of its own.
    for (const [crate, holder] of [
      ['libdeflate-sys', 'Eric Biggers'],
      ['zstd-sys', 'Meta Platforms'],
      ['liblzma-sys', 'XZ Utils'],
    ] as const) {
      const there = all.find(({ name }: { name: string }) => name === crate);
      if (there) expect(there.text).toContain(holder);
    }
    const bill = JSON.parse(billOfMaterials(all, PACKAGE, new Date(0)));
    expect(bill).toMatchObject({ bomFormat: 'CycloneDX', specVersion: '1.5' });
    expect(bill.components).toHaveLength(all.length);
    const refs = bill.components.map((each: Record<string, string>) => each['bom-ref']);
    expect(new Set(refs).size).toBe(refs.length);
    for (const each of bill.components) if (each.purl.startsWith('pkg:cargo/')) expect(each.hashes).toHaveLength(1);
  });
});

describe.skipIf(here.length === 0).each(ADDONS as Addon[])('$crate', (addon) => {
  it('that was not built for old systems is refused', () => {
    // That of a checkout needs what the machine has that built it.
    if (here[0].libc !== 'glibc') return;
    expect(() => checkAddon(here[0], files(addon, here[0]))).toThrow(/needs GLIBC_2\.\d\d/);
  });

  it('that needs another library is refused', () => {
    expect(() => checkAddon({ ...here[0], needs: [] }, process.execPath)).toThrow(/needs /);
  });
});

it('an addon is built below a directory whose name has a blank, and does not tell it', async () => {
  const at = join(scratch(), 'a b');
  const crate = (name: string, dependencies: string, file: string, code: string) => {
    mkdirSync(join(at, name, 'src'), { recursive: true });
    writeFileSync(
      join(at, name, 'Cargo.toml'),
      `[package]\nname = "${name}"\nedition = "2024"\n[dependencies]\n${dependencies}`,
    );
    writeFileSync(join(at, name, 'src', file), code);
  };
  crate('told', '', 'lib.rs', "pub fn place() -> &'static str { file!() }");
  crate('tells', 'told = { path = "../told" }', 'main.rs', 'fn main() { print!("{}", told::place()) }');
  const env = {
    CARGO_TARGET_DIR: join(at, 'target'),
    CARGO_ENCODED_RUSTFLAGS: rustFlags('glibc', [[at, '/bulkhaul']]),
  };
  const args = ['run', '--quiet', '--offline', '--manifest-path', join(at, 'tells/Cargo.toml')];
  expect(await program('cargo', args, { env })).toMatchObject({ code: 0, stdout: '/bulkhaul/told/src/lib.rs' });
});

it.skipIf(here.length === 0)('what takes newer libraries than it says is refused', () => {
  expect(() => checkDisks(here[0], DISKS)).not.toThrow();
  expect(() => checkDisks(here[0], process.execPath)).toThrow('names no version of libblkid, libmount or libfdisk');
});

it.each([
  ['before 1.0', 'spack/package.py'],
  ['since 1.0', 'spack_repo/builtin/build_systems/generic.py'],
])('the recipe of Spack has the sums of a release and its address, and declares its versions (%s)', async (_, room) => {
  const recipe = readFileSync(join(ROOT, 'packaging/spack/package.py'), 'utf8');
  const sums = ['x64', 'arm64'].map(
    (name, index) => `${String(index + 1).repeat(64)}  bulkhaul-0.1.0-linux-${name}.tar.gz\n`,
  );
  const at = scratch();
  for (const each of ['spack', dirname(room)]) mkdirSync(join(at, each), { recursive: true });
  // What of Spack it names, so that it runs.
  const stub = [
    'told = []',
    'def version(*args, **more): told.append((args, more))',
    'def license(*_): pass',
    'conflicts = lambda *_, **__: None',
    'run_after = lambda _: lambda body: body',
  ];
  writeFileSync(join(at, 'spack/__init__.py'), '');
  writeFileSync(join(at, 'spack/package.py'), stub.join('\n'));
  // What it is one of, where that Spack has it.
  appendFileSync(join(at, room), '\nclass Package: pass\n');
  writeFileSync(join(at, 'recipe.py'), filled(recipe, sums.join(''), HOME));
  const told = 'import recipe, spack.package, json; print(json.dumps([spack.package.told, recipe.Bulkhaul.homepage]))';
  const { code, stdout, stderr } = await program('python3', ['-c', told], { cwd: at });
  expect(code, stderr).toBe(0);
  const [[[[version], { sha256, url }]], homepage] = JSON.parse(stdout);
  const platform = process.arch === 'arm64' ? ['arm64', '2'] : ['x64', '1'];
  expect({ version, sha256, homepage }).toEqual({ version: '0.1.0', sha256: platform[1]?.repeat(64), homepage: HOME });
  expect(url).toBe(`${HOME}/releases/download/v0.1.0/bulkhaul-0.1.0-linux-${platform[0]}.tar.gz`);
});

/** A registry on loopback: it knows nothing, and takes what `takes` lets it. */
async function registry(takes: (name: string) => boolean) {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    const name = decodeURIComponent((request.url ?? '').slice(1));
    request.resume().on('end', () => {
      if (request.method === 'PUT') asked.push(name);
      response.statusCode = request.method !== 'PUT' ? 404 : takes(name) ? 201 : 403;
      response.setHeader('content-type', 'application/json').end('{}');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return { asked, port, close: () => server.close() };
}

/** A release of small packages. */
async function released(repository: string | undefined = `git+${HOME}.git`): Promise<string> {
  const at = scratch();
  const optionalDependencies = { '@bulkhaul/engine-a': '1.0.0', '@bulkhaul/engine-b': '1.0.0' };
  const manifests = [
    { name: 'bulkhaul', version: '1.0.0', optionalDependencies },
    ...Object.keys(optionalDependencies).map((name) => ({ name, version: '1.0.0' })),
  ];
  for (const manifest of manifests) {
    const directory = scratch();
    mkdirSync(join(directory, 'package'));
    writeFileSync(join(directory, 'package/package.json'), JSON.stringify({ ...manifest, repository }));
    const file = join(at, `${manifest.name.replace('@', '').replace('/', '-')}-1.0.0.tgz`);
    await program('tar', ['-czf', file, '-C', directory, 'package']);
  }
  const sums = readdirSync(at).map((name) => {
    const sum = createHash('sha256')
      .update(readFileSync(join(at, name)))
      .digest('hex');
    return `${sum}  ${name}\n`;
  });
  writeFileSync(join(at, 'SHA256SUMS'), sums.join(''));
  return at;
}

describe('publishing', () => {
  const publish = (out: string, port: number, ...more: string[]) =>
    program(SCRIPT, ['publish', '--out', out, ...more], {
      env: {
        ...{ npm_config_registry: `http://127.0.0.1:${port}/`, npm_config_fetch_retries: '0' },
        [`npm_config_//127.0.0.1:${port}/:_authToken`]: 'local',
      },
    });

  it('sends engines first and the main package last', async () => {
    const { asked, port, close } = await registry(() => true);
    const { code, stderr } = await publish(await released(), port);
    close();
    expect({ code, asked }, stderr).toEqual({
      code: 0,
      asked: ['@bulkhaul/engine-a', '@bulkhaul/engine-b', 'bulkhaul'],
    });
  });

  it('ends at the first that is not taken', async () => {
    const { asked, port, close } = await registry((name) => name !== '@bulkhaul/engine-b');
    const { code, stderr } = await publish(await released(), port);
    close();
    expect({ code, asked }).toEqual({ code: 1, asked: ['@bulkhaul/engine-a', '@bulkhaul/engine-b'] });
    expect(stderr).toContain('403');
  });

  it('sends nothing in a dry run, and says what it would', async () => {
    const { asked, port, close } = await registry(() => true);
    const { code, stderr } = await publish(await released(), port, '--dry-run');
    close();
    expect({ code, asked }).toEqual({ code: 0, asked: [] });
    expect(stderr.match(/would publish (\S+)/g)).toEqual(
      ['@bulkhaul/engine-a', '@bulkhaul/engine-b', 'bulkhaul'].map((name) => `would publish ${name}`),
    );
  });

  it('sends nothing that does not say where it is from', async () => {
    const { asked, port, close } = await registry(() => true);
    const nowhere = await released('');
    for (const more of [[], ['--dry-run']]) {
      const { code, stderr } = await publish(nowhere, port, ...more);
      expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining('build the release with --home') });
    }
    close();
    expect(asked).toEqual([]);
  });

  it('sends nothing of a release that is not whole', async () => {
    const { asked, port, close } = await registry(() => true);
    const damaged = await released();
    writeFileSync(join(damaged, 'bulkhaul-1.0.0.tgz'), 'x');
    const lacking = await released();
    const sums = readFileSync(join(lacking, 'SHA256SUMS'), 'utf8');
    writeFileSync(join(lacking, 'SHA256SUMS'), sums.replace(/^.*engine-b.*\n/m, ''));
    expect(await publish(damaged, port)).toMatchObject({ code: 1, stderr: expect.stringContaining('FAILED') });
    expect(await publish(lacking, port)).toMatchObject({ code: 1, stderr: expect.stringContaining('has 1 engines') });
    close();
    expect(asked).toEqual([]);
  });
});

it.each([
  [['frob'], 'what is frob?'],
  [['--platform', 'sparc'], 'there is no platform sparc'],
  [['--dry-run'], '--dry-run is for publish'],
  [['--frob'], '--frob'],
  [['--home', 'git@forge:bulkhaul'], 'is no https address of a repository'],
  [['--home', 'https://forge.example'], 'is no https address of a repository'],
])('scripts/release %j is refused', async (args, why) => {
  const { code, stderr } = await program(SCRIPT, args);
  expect(code).toBe(2);
  expect(stderr).toContain(why);
  expect(stderr).toContain('usage: scripts/release');
});
