/** What is installed: nothing but ours, and a sentence that names the cause where the engine can't be loaded. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { whyNoDisks } from '../src/native/blockdev.js';
import { whyNot } from '../src/native.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const PACKAGE = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));

describe('the package', () => {
  it('depends on nothing and runs nothing when it is installed', () => {
    const { dependencies, optionalDependencies, scripts } = PACKAGE;
    expect({ dependencies, optionalDependencies }).toEqual({});
    expect(Object.keys(scripts)).not.toContainEqual(expect.stringMatching(/install|^prepare$|publish|pack$/));
  });

  it('imports nothing but itself and Node.js', () => {
    const files = readdirSync(join(ROOT, 'ts/dist'), { recursive: true }).map(String);
    const imported = files
      .filter((file) => file.endsWith('.js'))
      .flatMap((file) => {
        const text = readFileSync(join(ROOT, 'ts/dist', file), 'utf8');
        // Statements begin lines. A bundle wraps what it has taken in.
        const found = text.matchAll(/^(?:import|export)\b(?:[^;'"`=(]*?\bfrom)?\s*['"]([^'"]+)['"]/gm);
        return [...found].map(([, specifier]) => `${file}: ${specifier}`);
      });
    expect(imported.length).toBeGreaterThan(100);
    expect(imported.filter((each) => !/: (?:\.|node:)/.test(each))).toEqual([]);
  });

  it('invents no address, and is found by resolvers that know no exports', () => {
    const { main, types, exports, repository, homepage, bugs, keywords, license } = PACKAGE;
    expect({ main, types }).toEqual({ main: exports['.'].default, types: exports['.'].types });
    // Whoever releases it says where it is from (scripts/release --home).
    expect([repository, homepage, bugs]).toEqual([undefined, undefined, undefined]);
    expect(keywords.length).toBeGreaterThan(3);
    expect(license).toBe('MIT');
  });
});

describe('an engine that can not be loaded', () => {
  const missing = (libc: string, arch = 'x64') => [
    'Cannot find native binding. npm has a bug',
    "Cannot find module 'bulkhaul-wasm32-wasi'\nRequire stack:\n- /x",
    `Cannot find module '@bulkhaul/engine-linux-${arch}-${libc}'\nRequire stack:\n- /x`,
    `Cannot find module './bulkhaul.linux-${arch}-${libc}.node'\nRequire stack:\n- /x`,
  ];
  type Where = Parameters<typeof whyNot>[1];
  const here: Where = {
    ...{ platform: 'linux', arch: 'x64', node: '22.20.0', needs: '20.17', libc: 'gnu' },
    ...{ part: 'native engine', package: '@bulkhaul/engine', build: 'npm run build:native' },
  };
  const glibc = "/lib64/libc.so.6: version `GLIBC_2.17' not found (required by /x/bulkhaul.linux-x64-gnu.node)";

  it.each<[string, string[], Partial<Where>, string]>([
    ['an old Node.js', missing('gnu'), { node: '18.20.8' }, 'for Node.js 20.17 and newer, and this is 18.20.8'],
    ['a Node.js that is a little too old', missing('gnu'), { node: '20.9.0' }, 'and this is 20.9.0'],
    [
      'another system',
      ['Unsupported OS: x'],
      { platform: 'darwin', arch: 'arm64' },
      'no native engine for darwin on arm64',
    ],
    ['another processor', ['x'], { arch: 'ppc64' }, 'no native engine for linux on ppc64'],
    ['a package that was left out', missing('gnu'), {}, 'the package @bulkhaul/engine-linux-x64-gnu, '],
    ['one for musl', missing('musl', 'arm64'), { arch: 'arm64', libc: 'musl' }, '@bulkhaul/engine-linux-arm64-musl, '],
    ['a Node.js of the other libc', missing('gnu'), { libc: 'musl' }, 'file of @bulkhaul/engine-linux-x64-musl'],
    ['an old glibc', [...missing('gnu'), glibc], {}, `a newer glibc than this machine has: ${glibc}`],
    ['a file of another kind', ['/x/bulkhaul.linux-x64-gnu.node: file too short'], {}, "can't be loaded: /x/bulkhaul"],
  ])('because of %s: one sentence says so', (_, causes, changes, sentence) => {
    const why = whyNot(causes, { ...here, ...changes });
    expect(why).toContain(sentence);
    expect(why).not.toMatch(/\n|wasi/);
  });
});

describe('an addon for disks that can not be loaded', () => {
  const at = '/x/blockdev.node';
  it.each([
    [
      'no package',
      "Cannot find module '@bulkhaul/engine-linux-x64-gnu/blockdev.node'\nRequire stack:\n- /x",
      'has it,',
    ],
    [
      'no library',
      'libfdisk.so.1: cannot open shared object file: No such file or directory',
      'and libfdisk.so.1 is not here',
    ],
    [
      'no library on musl',
      `Error loading shared library libblkid.so.1: No such file or directory (needed by ${at})`,
      'and libblkid.so.1 is not here',
    ],
    [
      'an old library',
      `/lib64/libfdisk.so.1: version \`FDISK_2.31' not found (required by ${at})`,
      'of util-linux 2.31 or newer: /lib64',
    ],
    [
      'an old library on musl',
      `Error relocating ${at}: fdisk_disable_dialogs: symbol not found`,
      'of util-linux 2.31 or newer: Error',
    ],
    ['a file of another kind', `${at}: file too short`, "is there and can't be loaded: /x"],
  ])('because of %s: one sentence says so', (_, said, sentence) => {
    expect(whyNoDisks(said)).toContain(sentence);
    expect(whyNoDisks(said)).not.toContain('\n');
  });
});
