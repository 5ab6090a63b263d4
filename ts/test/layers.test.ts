/**
 * The layers of the design, as a check on the sources: what may import what, where `unsafe` may be written, and who may
 * print or read the environment. Each rule is also shown to fail on a planted line.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** Sources by path from the root of the checkout. */
type Tree = ReadonlyMap<string, string>;

/** crate -> the crates of the workspace that it may use. */
const CRATES: Readonly<Record<string, readonly string[]>> = {
  sys: [],
  formats: [],
  engine: ['sys', 'formats'],
  node: ['engine'],
};

/** Rooms of ts/src from the bottom; a file may import from its own room and from those below. */
const ROOMS = ['error', 'names', 'native', 'events', 'ops', 'report', 'index', 'cli'];

/** Rooms that are side by side. */
const APART: Readonly<Record<string, readonly string[]>> = { index: ['report'] };

/** System calls: nothing above `sys` has them. */
const SYSTEM_CRATES = ['libc', 'rustix', 'nix'];

const RUST_BANS: readonly { crates: readonly string[]; pattern: RegExp; why: string }[] = [
  { crates: ['formats', 'engine', 'node'], pattern: /\bunsafe\b/, why: 'unsafe is written in crates/sys only' },
  {
    crates: ['formats', 'engine', 'node'],
    pattern: /\b(?:libc|rustix|nix)::/,
    why: 'system calls are made in crates/sys',
  },
  { crates: ['formats'], pattern: /\bstd::(?:fs|net|os|process|env|path)\b/, why: 'formats does no input or output' },
  { crates: ['formats'], pattern: /\bio::(?:stdin|stdout|stderr|copy)\b/, why: 'formats does no input or output' },
  {
    crates: ['formats', 'engine', 'sys', 'node'],
    pattern: /\b(?:e?print(?:ln)?|dbg)!/,
    why: 'the library never prints',
  },
  { crates: ['engine', 'sys'], pattern: /\bio::(?:stdout|stderr)\b/, why: 'the library never prints' },
  {
    crates: ['engine', 'sys', 'node'],
    pattern: /\benv::(?:var|vars|args)/,
    why: 'the library never reads the environment',
  },
];

const TYPESCRIPT_BANS: readonly { rooms: readonly string[]; pattern: RegExp; why: string }[] = [
  {
    rooms: ROOMS.filter((room) => room !== 'cli'),
    pattern: /\bprocess\.(?:env|argv|exit|exitCode|stdin|stdout|stderr)\b|\bconsole\./,
    why: 'the library never prints, exits or reads the environment',
  },
  {
    rooms: ROOMS.filter((room) => room !== 'native'),
    pattern: /bindings\/|\.node['"`]|\brequire\(|\bcreateRequire\b|\bdlopen\b/,
    why: 'only native.ts loads the addon',
  },
];

/** What breaks the layers, as `file: why`. */
function violations(tree: Tree): string[] {
  return [...tree].flatMap(([path, text]) => {
    const found = path.endsWith('.rs')
      ? ofRust(path, text)
      : path.endsWith('.toml')
        ? ofCargo(path, text)
        : ofTypeScript(path, text);
    return found.map((why) => `${path}: ${why}`);
  });
}

/** The crate that a path belongs to. */
const crateOf = (path: string) => (path.startsWith('bindings/') ? 'node' : (path.split('/')[1] ?? ''));

function ofRust(path: string, text: string): string[] {
  const crate = crateOf(path);
  const allowed = CRATES[crate];
  if (!allowed) return ['a crate without a layer'];
  const code = rustCode(text);
  const found = [...new Set(code.match(/\bbulkhaul_\w+/g))]
    .map((name) => name.slice('bulkhaul_'.length))
    .filter((used) => used !== crate && !allowed.includes(used))
    .map((used) => `${crate} uses ${used}`);
  // A path hidden in braces counts as written out.
  const paths = [...code.matchAll(/\buse\s+([^;]+);/g)].flatMap(([, use = '']) => expanded(use));
  const subject = [code, ...paths].join('\n');
  for (const { crates, pattern, why } of RUST_BANS) {
    if (crates.includes(crate) && pattern.test(subject)) found.push(`${why} (${subject.match(pattern)?.[0]})`);
  }
  if (path.endsWith('/lib.rs') && ['formats', 'engine'].includes(crate) && !code.includes('#![forbid(unsafe_code)]')) {
    found.push('does not forbid unsafe code');
  }
  return found;
}

/** Rust without comments, strings and unit tests (a test may use what its subject may not). */
function rustCode(text: string): string {
  return text
    .replace(/\/\/.*|\/\*[\s\S]*?\*\/|\br(#*)"[\s\S]*?"\1|"(?:\\[\s\S]|[^"\\])*"|'(?:\\[^']+|[^'\\\n])'/g, (token) =>
      token.startsWith('/') ? '' : '""',
    )
    .replace(/^#\[cfg\(test\)\]\nmod \w+ \{\n[\s\S]*?^\}$/gm, '');
}

/** `a::{b, c::{d, e as f}}` as `a::b`, `a::c::d`, `a::c::e as f`, each with a `::` after it. */
function expanded(use: string): string[] {
  const open = use.indexOf('{');
  if (open < 0) return [`${use.trim()}::`];
  const prefix = use.slice(0, open).trim();
  const parts: string[] = [];
  let [depth, part] = [0, ''];
  for (const character of use.slice(open + 1, use.lastIndexOf('}'))) {
    depth += character === '{' ? 1 : character === '}' ? -1 : 0;
    if (character === ',' && depth === 0) {
      parts.push(part);
      part = '';
    } else part += character;
  }
  return [...parts, part].filter((each) => each.trim() !== '').flatMap((each) => expanded(prefix + each.trim()));
}

function ofCargo(path: string, text: string): string[] {
  const crate = crateOf(path);
  const allowed = CRATES[crate];
  if (!allowed) return ['a crate without a layer'];
  const found: string[] = [];
  let section = '';
  for (const line of text.split('\n')) {
    section = /^\[(.+)\]/.exec(line)?.[1] ?? section;
    const isDevelopment = section.includes('dev-dependencies');
    // `[dependencies.NAME]` and `package = "NAME"` bring in NAME too.
    const names = [/dependencies\.([\w-]+)\]/.exec(line)?.[1], /\bpackage\s*=\s*"([^"]+)"/.exec(line)?.[1]];
    if (section.endsWith('dependencies')) names.push(/^([\w-]+)/.exec(line)?.[1]);
    for (const name of names.filter((each) => each !== undefined)) {
      const member = /^bulkhaul-(.+)/.exec(name)?.[1];
      if (member !== undefined && section !== 'package' && !allowed.includes(member))
        found.push(`${crate} depends on ${member}`);
      if (SYSTEM_CRATES.includes(name) && crate !== 'sys' && !isDevelopment) found.push(`${crate} depends on ${name}`);
    }
  }
  return found;
}

/** The room of a file of ts/src: its directory, or the file itself. */
const roomOf = (path: string) => path.replace(/^ts\/src\//, '').replace(/(?:\/.*|\.[jt]s)$/, '');

function ofTypeScript(path: string, text: string): string[] {
  const room = roomOf(path);
  const rank = ROOMS.indexOf(room);
  if (rank < 0) return ['a room without a layer'];
  const found: string[] = [];
  for (const specifier of imports(text)) {
    if (specifier === undefined) {
      if (room !== 'native') found.push('imports what only running it can tell');
    } else if (specifier.startsWith('.')) {
      const target = roomOf(normalize(join(dirname(path), specifier)));
      const below = ROOMS.includes(target) && ROOMS.indexOf(target) <= rank && !APART[room]?.includes(target);
      if (!below) found.push(`${room} imports ${target}`);
    } else if (/^bulkhaul(?:$|[/-])/.test(specifier)) found.push('imports the package that it is a part of');
  }
  const code = text.replace(/^\s*(?:\/?\*.*|\/\/.*)$/gm, '');
  for (const { rooms, pattern, why } of TYPESCRIPT_BANS) {
    if (rooms.includes(room) && pattern.test(code)) found.push(`${why} (${code.match(pattern)?.[0]})`);
  }
  return found;
}

/** What is imported or exported from, statically (statements begin lines) or dynamically; undefined: a computed name. */
function imports(text: string): (string | undefined)[] {
  const code = text.replace(/^\s*(?:\/?\*.*|\/\/.*)$/gm, '');
  const statements = code.matchAll(/^\s*(?:import|export)\b(?:[^;'"`=(]*?\bfrom)?\s*['"]([^'"]+)['"]/gm);
  const calls = code.matchAll(/\bimport\(\s*(?:(['"`])([^'"`$]+)\1\s*[,)])?/g);
  return [...[...statements].map((match) => match[1]), ...[...calls].map((match) => match[2])];
}

/** The sources of the checkout. */
function checkout(): Map<string, string> {
  const tree = new Map<string, string>();
  const add = (directory: string, wanted: RegExp) => {
    for (const entry of readdirSync(join(ROOT, directory), { recursive: true, withFileTypes: true })) {
      const path = normalize(join(entry.parentPath.slice(ROOT.length), entry.name));
      if (entry.isFile() && wanted.test(path)) tree.set(path, readFileSync(join(ROOT, path), 'utf8'));
    }
  };
  // Tests of a crate are outside of its layer: they make the trees that it works on.
  add('crates', /\/src\/.*\.rs$|\/Cargo\.toml$/);
  add('bindings', /\/src\/.*\.rs$|\/Cargo\.toml$/);
  add('ts/src', /\.ts$/);
  return tree;
}

describe('layers', () => {
  const tree = checkout();

  it('has them all before it', () => {
    for (const path of [
      'crates/sys/src/lib.rs',
      'crates/formats/Cargo.toml',
      'crates/formats/src/filter.rs',
      'crates/engine/src/lib.rs',
      'bindings/node/src/lib.rs',
      'ts/src/native.ts',
      'ts/src/index.ts',
      'ts/src/ops/copy.ts',
      'ts/src/cli/main.ts',
    ]) {
      expect(tree.has(path), path).toBe(true);
    }
  });

  it('are kept', () => {
    expect(violations(tree)).toEqual([]);
  });

  it.each([
    ['crates/formats/src/filter.rs', 'use bulkhaul_sys::linux;', 'formats uses sys'],
    ['crates/formats/src/filter.rs', 'use std::fs;', 'no input or output'],
    ['crates/formats/src/filter.rs', 'use std::{cmp::Ordering, fs::{self, File}};', 'no input or output'],
    ['crates/formats/src/filter.rs', 'fn read() { std::fs::read("x"); }', 'no input or output'],
    ['crates/formats/src/filter.rs', 'use std::io::{self, stdin};', 'no input or output'],
    ['crates/formats/src/filter.rs', 'use libc::open;', 'system calls'],
    ['crates/formats/src/filter.rs', 'fn f() { unsafe { g() } }', 'unsafe'],
    ['crates/formats/Cargo.toml', '[dependencies]\nbulkhaul-sys.workspace = true', 'formats depends on sys'],
    ['crates/formats/Cargo.toml', '[dependencies.bulkhaul-sys]\nworkspace = true', 'formats depends on sys'],
    ['crates/formats/Cargo.toml', '[dependencies]\nx = { package = "bulkhaul-engine" }', 'formats depends on engine'],
    ['crates/formats/Cargo.toml', '[dependencies]\nlibc.workspace = true', 'formats depends on libc'],
    ['crates/sys/src/lib.rs', 'use bulkhaul_formats as formats;', 'sys uses formats'],
    ['crates/sys/src/lib.rs', 'fn f() -> bulkhaul_engine::Job { g() }', 'sys uses engine'],
    [
      'crates/sys/Cargo.toml',
      '[target."cfg(unix)".dependencies]\nbulkhaul-engine = { path = "../engine" }',
      'sys depends on engine',
    ],
    ['crates/engine/src/lib.rs', 'use bulkhaul_node::Job;', 'engine uses node'],
    ['crates/engine/src/lib.rs', 'fn f() { println!("x"); }', 'never prints'],
    ['crates/engine/src/lib.rs', 'fn f() { let home = std::env::var_os("HOME"); }', 'reads the environment'],
    ['crates/engine/src/lib.rs', 'use std::{env::{var}};', 'reads the environment'],
    ['crates/engine/src/lib.rs', '#[unsafe(no_mangle)]', 'unsafe'],
    ['crates/engine/Cargo.toml', '[dependencies]\nrustix.workspace = true', 'engine depends on rustix'],
    ['bindings/node/src/lib.rs', 'use bulkhaul_sys as sys;', 'node uses sys'],
    ['bindings/node/src/lib.rs', 'fn f() { unsafe { g() } }', 'unsafe'],
    ['ts/src/native.ts', "import { copy } from './ops/copy.js';", 'native imports ops'],
    ['ts/src/ops/copy.ts', "import { run } from '../cli/main.js';", 'ops imports cli'],
    ['ts/src/ops/copy.ts', "import type { Report } from '../report/reporter.js';", 'ops imports report'],
    ['ts/src/ops/copy.ts', "export * from '../report/reporter.js';", 'ops imports report'],
    ['ts/src/ops/copy.ts', "import {\n  a,\n  b,\n} from '../cli/base.js';", 'ops imports cli'],
    ['ts/src/ops/copy.ts', "const main = () => import('../cli/main.js');", 'ops imports cli'],
    ['ts/src/ops/copy.ts', "type Main = import('../cli/main.js').Main;", 'ops imports cli'],
    ['ts/src/ops/copy.ts', 'const main = (name: string) => import(name);', 'only running it can tell'],
    ['ts/src/ops/copy.ts', "import addon from '../../../bindings/node/index.js';", 'only native.ts loads the addon'],
    ['ts/src/ops/copy.ts', 'const color = process.env.NO_COLOR;', 'never prints'],
    ['ts/src/report/json.ts', "import '../cli/main.js';", 'report imports cli'],
    ['ts/src/report/json.ts', "process.stdout.write('x');", 'never prints'],
    ['ts/src/index.ts', "export { Terminal } from './report/terminal.js';", 'index imports report'],
    [
      'ts/src/cli/base.ts',
      "const addon = require('../../../bindings/node/bulkhaul.linux-x64-gnu.node');",
      'only native.ts loads the addon',
    ],
    ['ts/src/cli/base.ts', "import { copy } from 'bulkhaul';", 'a part of'],
    ['ts/src/helpers.ts', 'export const x = 1;', 'a room without a layer'],
    ['crates/common/src/lib.rs', 'pub fn x() {}', 'a crate without a layer'],
  ])('fail on a plant in %s: %s', (path, plant, why) => {
    const planted = new Map(tree).set(path, `${tree.get(path) ?? ''}\n${plant}\n`);
    expect(violations(planted).filter((each) => each.startsWith(`${path}: `))).toContainEqual(
      expect.stringContaining(why),
    );
  });

  it('take comments, strings and unit tests for what they are', () => {
    const harmless = [
      '// use bulkhaul_sys::x; unsafe println!',
      '/* unsafe */',
      'const A: &str = "unsafe { bulkhaul_sys } \\" std::fs::";',
      `const B: (char, &[u8], &str) = ('"', b"'", r#"unsafe " libc::"#);`,
      "fn f<'a>(x: &'a str) -> &'a str { x }",
      '#[cfg(test)]\nmod planted {\n    use std::fs;\n}\n',
    ].join('\n');
    const path = 'crates/formats/src/filter.rs';
    expect(violations(new Map(tree).set(path, `${tree.get(path)}\n${harmless}\n`))).toEqual([]);
  });
});
