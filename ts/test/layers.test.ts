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
  stores: ['sys', 'formats', 'engine'],
  job: ['engine'],
  node: ['engine', 'job'],
  'stores-node': ['sys', 'engine', 'stores', 'job'],
};

/** The operations of the engine: none of them imports another. */
const OPERATIONS = [
  'list',
  'manifest',
  'partition',
  'verify',
  'compare',
  'patch',
  'remove',
  'compress',
  'pack',
  'unpack',
  'doctor',
  'copy',
];

/**
 * Rooms of the engine from the ground up, each a file or a directory; a file imports from its own room and from those
 * before it. What belongs to several is in the one with the longest name.
 */
const ENGINE = [
  ...['entry', 'error', 'report', 'event', 'pool', 'tree', 'job', 'bytes', 'walk', 'records', 'sweep'],
  ...['list', 'manifest', 'partition', 'verify', 'compare', 'patch', 'remove', 'compress', 'pack', 'unpack', 'doctor'],
  ...['options', 'plan', 'dir', 'target', 'ties', 'entry', 'memory', 'departure', 'views', 'given', 'prepare', 'links']
    .concat(['manifest', 'run', 'worker', 'times', 'track', 'extra', 'clear'])
    .concat(
      ['make', 'rename', 'note', 'archive', 'content', 'pack', 'begin', 'link', 'file', 'special', 'depart'].map(
        (deed) => `act/${deed}`,
      ),
    )
    .concat(['act', 'collision', 'finder', 'directory', 'lookout', 'mirror', 'perform', 'pass'])
    .map((room) => `copy/${room}`),
  'copy',
  'lib',
];

/** hpcp's rooms from the bottom; its verbs never import each other. */
const HPCP_VERBS = ['copy', 'list', 'compare', 'remove', 'patch', 'clone'];
const HPCP = [
  'flags',
  'help',
  'codes',
  'settings',
  'step',
  'sources',
  'excludes',
  'destinations',
  'ask',
  'summary',
  'place',
  'images',
  ...HPCP_VERBS,
  'diskpatch',
  'run',
];

/** The drop-ins of the migration tools. */
const MIGRATION = ['compress_files', 'migrate_compress', 'move_to_final'];

/**
 * Rooms of ts/src from the bottom, each a file or a directory; a file may import from its own room and from those below.
 * What belongs to several is in the one with the longest name.
 */
const ROOMS = [
  'error',
  'names',
  'whole',
  'nearest',
  'parallel',
  ...[
    'native/options',
    'native/events',
    'native/platform',
    'native/blockdev',
    'native',
    'native/retold',
    'native/alias',
  ],
  'verdict',
  ...['program', 'attach', 'device', 'table', 'filesystem', 'used', 'raw', 'boot'].map((room) => `ops/disk/${room}`),
  'events',
  'stores/urls',
  ...['record', 'identity', 'lease', 'reader', 'store', 'scrub', 'journal', 'keeper'].map((room) => `journal/${room}`),
  'stores',
  ...[
    'ops/arguments',
    'ops/places',
    'ops/job',
    'ops/conversion',
    'ops/mapping',
    'ops/queue',
    'ops/folds',
    'ops/within',
    'ops/verify/repair',
  ],
  ...['program', 'ssh', 'list', 'planned', 'tool', 'rsync', 'rclone', 'bulkhaul'].map((room) => `ops/transfer/${room}`),
  ...['check', 'crew', 'tally', 'ledger', 'lengths', 'log'].map((room) => `ops/transfer/${room}`),
  'ops/transfer',
  'ops/errand',
  ...['protocol', 'range', 'task', 'directory', 'carried', 'rates', 'check', 'plan', 'crew', 'slurm', 'worker']
    .concat(['books', 'operation', 'staff', 'copying', 'whole', 'coordinator'])
    .map((room) => `ops/spread/${room}`),
  ...['ops/spread', 'ops/commands', 'ops'],
  ...['ops/volumes', 'ops/treeimage', 'ops/diskpatch', 'ops/clone/plan', 'ops/clone'],
  'pairs',
  'filesystem',
  'validate',
  'resume',
  'report',
  'index',
  ...[
    'version',
    'layout',
    'parser',
    'options',
    'help',
    'advice',
    'exit',
    'values',
    'answer',
    'digests',
    'ended',
    'leave',
    'run',
    'recorded',
    'jobs',
    'consent',
    'spool',
    'base',
    'crew',
    'trees',
    'archives',
    'conversion',
    'dropin/argparse',
    ...['describe', 'bash', 'zsh', 'fish', 'man'].map((room) => `shell/${room}`),
    'stores',
    'verbs',
  ].map((room) => `cli/${room}`),
  ...['added', 'help', 'console', 'settings', 'frame', 'glob', 'compression', 'migration', 'pieces', 'state'].map(
    (room) => `cli/dropin/${room}`,
  ),
  ...HPCP.map((room) => `cli/dropin/hpcp/${room}`),
  'cli/dropin/hpcp',
  ...['flags', 'help', 'b3sum', 'rsync', 'run'].map((room) => `cli/dropin/run-mirror/${room}`),
  'cli/dropin/run-mirror',
  ...['flags', 'help', 'plan', 'run'].map((room) => `cli/dropin/dsync/${room}`),
  'cli/dropin/dsync',
  ...MIGRATION.flatMap((name) => [
    ...['flags', 'help', 'remaining', 'begun', 'rsync', 'run'].map((room) => `cli/dropin/${name}/${room}`),
    `cli/dropin/${name}`,
  ]),
  'cli/main',
];

/** The drop-ins: none of them imports another. */
const DROP_INS = ['hpcp', 'run-mirror', 'dsync', ...MIGRATION];

/** Rooms that are side by side: what is in the first imports nothing of the second. */
const APART: readonly (readonly [string, string])[] = [
  ['index', 'report'],
  ...DROP_INS.flatMap((name) =>
    DROP_INS.filter((other) => other !== name).map((other) => [`cli/dropin/${name}`, `cli/dropin/${other}`] as const),
  ),
  ...['parser', 'options', 'help', 'base', 'shell', 'verbs'].map((room) => ['cli/dropin', `cli/${room}`] as const),
  ...HPCP_VERBS.flatMap((verb) =>
    HPCP_VERBS.filter((other) => other !== verb).map(
      (other) => [`cli/dropin/hpcp/${verb}`, `cli/dropin/hpcp/${other}`] as const,
    ),
  ),
];

/** Rooms whose files never import each other. */
const SOLITARY = ['ops', 'cli/verbs'];

/** System calls: nothing above `sys` has them. */
const SYSTEM_CRATES = ['libc', 'rustix', 'nix'];

const RUST_BANS: readonly { crates: readonly string[]; pattern: RegExp; why: string }[] = [
  {
    crates: ['formats', 'engine', 'stores', 'job', 'node', 'stores-node'],
    pattern: /\bunsafe\b/,
    why: 'unsafe is written in crates/sys only',
  },
  {
    crates: ['formats', 'engine', 'stores', 'job', 'node', 'stores-node'],
    pattern: /\b(?:libc|rustix|nix)::/,
    why: 'system calls are made in crates/sys',
  },
  { crates: ['formats'], pattern: /\bstd::(?:fs|net|os|process|env|path)\b/, why: 'formats does no input or output' },
  { crates: ['formats'], pattern: /\bio::(?:stdin|stdout|stderr|copy)\b/, why: 'formats does no input or output' },
  {
    crates: ['formats', 'engine', 'stores', 'sys', 'job', 'node', 'stores-node'],
    pattern: /\b(?:e?print(?:ln)?|dbg)!/,
    why: 'the library never prints',
  },
  { crates: ['engine', 'sys'], pattern: /\bio::(?:stdout|stderr)\b/, why: 'the library never prints' },
  {
    crates: ['engine', 'stores', 'sys', 'job', 'node', 'stores-node'],
    pattern: /\benv::(?:var|vars|args)/,
    why: 'the library never reads the environment',
  },
];

const TYPESCRIPT_BANS: readonly { rooms: readonly string[]; pattern: RegExp; why: string }[] = [
  {
    rooms: ROOMS.filter((room) => !room.startsWith('cli/')),
    pattern: /\bprocess\.(?:env|argv|exit|exitCode|stdin|stdout|stderr)\b|\bconsole\./,
    why: 'the library never prints, exits or reads the environment',
  },
  {
    rooms: ROOMS.filter((room) => !['native', 'native/blockdev'].includes(room)),
    pattern: /bindings\/|\.node['"`]|\brequire\(|\bcreateRequire\b|\bdlopen\b/,
    why: 'only native.ts loads the addon',
  },
];

/** What breaks the layers, as `file: why`. */
function violations(tree: Tree): string[] {
  return [...tree]
    .flatMap(([path, text]) => {
      const found = path.endsWith('.rs')
        ? [...ofRust(path, text), ...(path.startsWith(ENGINE_SOURCES) ? ofEngine(tree, path) : [])]
        : path.endsWith('.toml')
          ? ofCargo(path, text)
          : /\.(?:cc|hh)$/.test(path)
            ? ofCore(text)
            : ofTypeScript(path, text);
      return found.map((why) => `${path}: ${why}`);
    })
    .concat(circles(tree));
}

/**
 * Files of the engine, and of ts/src, that import each other in a circle, each circle once, as
 * `first: a circle: first > … > first`.
 */
function circles(tree: Tree): string[] {
  const found: string[] = [];
  const done = new Set<string>();
  const visit = (path: string, way: readonly string[]) => {
    const from = way.indexOf(path);
    if (from >= 0) found.push(`${path}: a circle: ${[...way.slice(from), path].join(' > ')}`);
    if (from >= 0 || done.has(path)) return;
    const targets = path.startsWith(ENGINE_SOURCES)
      ? engineImports(tree, path)
      : imports(tree.get(path) ?? '').flatMap((each) => (each?.startsWith('.') ? [targetOf(path, each)] : []));
    for (const target of targets) visit(target, [...way, path]);
    done.add(path);
  };
  for (const path of tree.keys()) {
    if (path.startsWith('ts/src/') || path.startsWith(ENGINE_SOURCES)) visit(path, []);
  }
  return found;
}

const ENGINE_SOURCES = 'crates/engine/src/';

/** The files of the engine that a file of the engine names, other than itself and what is declared in it. */
function engineImports(tree: Tree, path: string): string[] {
  const code = rustCode(tree.get(path) ?? '');
  const own = path.slice(ENGINE_SOURCES.length).replace(/\.rs$/, '').split('/');
  const written = [...code.matchAll(/\buse\s+([^;]+);/g)].flatMap(([, use = '']) => expanded(use.replace(/\s+/g, ' ')));
  const inline = [...code.replace(/\buse\s+[^;]+;/g, '').matchAll(/\b(?:crate|super|self)(?:::\w+)+/g)];
  const targets = [...written, ...inline.map(([name]) => name)].flatMap((name) => {
    const [first, ...rest] = name.replace(/ as \w+/, '').split('::');
    const base = first === 'crate' ? [] : first === 'self' ? own : first === 'super' ? own.slice(0, -1) : undefined;
    // The longest part of the path that is a file.
    const parts = base && [...base, ...rest.filter((each) => each !== '' && each !== 'self')];
    for (let length = parts?.length ?? 0; length > 0; length -= 1) {
      const target = `${ENGINE_SOURCES}${parts?.slice(0, length).join('/')}.rs`;
      if (tree.has(target)) return target === path ? [] : [target];
    }
    return [];
  });
  return [...new Set(targets)];
}

/** The place of a file of the engine among its rooms, or -1. */
function engineRank(path: string): number {
  const name = path.slice(ENGINE_SOURCES.length).replace(/\.rs$/, '');
  const rooms = ENGINE.filter((room) => name === room || name.startsWith(`${room}/`));
  const room = rooms.sort((a, b) => b.length - a.length)[0];
  return room === undefined ? -1 : ENGINE.indexOf(room);
}

/** What a file of the engine imports from above, or from another operation. */
function ofEngine(tree: Tree, path: string): string[] {
  const rank = engineRank(path);
  if (rank < 0) return ['a room of the engine without a place'];
  const operation = (file: string) =>
    OPERATIONS.find((each) => file.slice(ENGINE_SOURCES.length).split(/[/.]/)[0] === each);
  return engineImports(tree, path).flatMap((target) => {
    const [mine, theirs] = [operation(path), operation(target)];
    if (mine && theirs && mine !== theirs) return [`the operation ${mine} imports the operation ${theirs}`];
    return engineRank(target) > rank
      ? [`${ENGINE[rank]} imports ${ENGINE[engineRank(target)]}, which is above it`]
      : [];
  });
}

/** The source that an import of a file of ts/src means. */
const targetOf = (path: string, specifier: string) => normalize(join(dirname(path), specifier)).replace(/\.js$/, '.ts');

/** The crate that a path belongs to. */
const crateOf = (path: string) => {
  const [layer, crate = ''] = path.split('/');
  return layer === 'bindings' && crate === 'stores' ? 'stores-node' : crate;
};

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
  if (
    path.endsWith('/lib.rs') &&
    ['formats', 'engine', 'stores'].includes(crate) &&
    !code.includes('#![forbid(unsafe_code)]')
  ) {
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

/** The core of bindings/blockdev is built and tested without Node. */
function ofCore(text: string): string[] {
  const included = [...text.matchAll(/^\s*#\s*include\s*([<"][^>"]*[>"])/gm)].map(([, name = '']) => name);
  return included.filter((name) => /napi|node|uv\.h|v8|\.\./.test(name)).map((name) => `the core includes ${name}`);
}

/** A file of ts/src as rooms are called. */
const stemOf = (path: string) => path.replace(/^ts\/src\//, '').replace(/\.ts$/, '');

const isIn = (stem: string, room: string) => stem === room || stem.startsWith(`${room}/`);

/** The room of a file of ts/src; one that has none is its own. */
function roomOf(path: string): string {
  const rooms = ROOMS.filter((room) => isIn(stemOf(path), room));
  return rooms.sort((a, b) => b.length - a.length)[0] ?? stemOf(path);
}

function ofTypeScript(path: string, text: string): string[] {
  const room = roomOf(path);
  const rank = ROOMS.indexOf(room);
  if (rank < 0) return ['a room without a layer'];
  const found: string[] = [];
  for (const specifier of imports(text)) {
    if (specifier === undefined) {
      if (room !== 'native') found.push('imports what only running it can tell');
    } else if (specifier.startsWith('.')) {
      const file = targetOf(path, specifier);
      const target = roomOf(file);
      const below = ROOMS.includes(target) && ROOMS.indexOf(target) <= rank;
      const apart = APART.some(([from, to]) => isIn(stemOf(path), from) && isIn(stemOf(file), to));
      if (!below || apart) found.push(`${room} imports ${target}`);
      if (target === room && SOLITARY.includes(room)) found.push(`${stemOf(path)} imports ${stemOf(file)}`);
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
  add('bindings', /\/src\/.*\.rs$|\/Cargo\.toml$|\/core\/.*\.(?:cc|hh)$/);
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
    ['crates/engine/src/tree/path.rs', 'use crate::job::desk::Desk;', 'tree imports job, which is above it'],
    [
      'crates/engine/src/tree/path.rs',
      'fn f(_: &crate::copy::run::Run) {}',
      'tree imports copy/run, which is above it',
    ],
    ['crates/engine/src/copy/dir.rs', 'use super::{plan, worker::Worker};', 'copy/dir imports copy/worker'],
    [
      'crates/engine/src/copy/act/file.rs',
      'use crate::{copy::perform::drive, walk::Walk};',
      'copy/act/file imports copy/perform',
    ],
    [
      'crates/engine/src/compare/join.rs',
      'use crate::list::sources;',
      'the operation compare imports the operation list',
    ],
    ['crates/engine/src/odds.rs', 'pub fn x() {}', 'a room of the engine without a place'],
    ['crates/engine/src/lib.rs', 'fn f() { println!("x"); }', 'never prints'],
    ['crates/engine/src/lib.rs', 'fn f() { let home = std::env::var_os("HOME"); }', 'reads the environment'],
    ['crates/engine/src/lib.rs', 'use std::{env::{var}};', 'reads the environment'],
    ['crates/engine/src/lib.rs', '#[unsafe(no_mangle)]', 'unsafe'],
    ['crates/engine/Cargo.toml', '[dependencies]\nrustix.workspace = true', 'engine depends on rustix'],
    ['bindings/node/src/lib.rs', 'use bulkhaul_sys as sys;', 'node uses sys'],
    ['bindings/node/src/lib.rs', 'fn f() { unsafe { g() } }', 'unsafe'],
    ['bindings/blockdev/core/probe.cc', '#include <napi.h>', 'the core includes <napi.h>'],
    ['bindings/blockdev/core/probe.hh', '#include "../binding.hh"', 'the core includes "../binding.hh"'],
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
    ['ts/src/native/options.ts', "import { loadAddon } from '../native.js';", 'native/options imports native'],
    ['ts/src/native/events.ts', "await import('../../../bindings/node/index.js');", 'only native.ts loads the addon'],
    ['ts/src/ops/copy.ts', "import { list } from './list.js';", 'ops/copy imports ops/list'],
    ['ts/src/ops/arguments.ts', "import { Job } from './job.js';", 'ops/arguments imports ops/job'],
    ['ts/src/cli/verbs/copy.ts', "import { ListCommand } from './list.js';", 'verbs/copy imports cli/verbs/list'],
    ['ts/src/cli/run.ts', "import { VerbCommand } from './base.js';", 'cli/run imports cli/base'],
    ['ts/src/cli/verbs/copy.ts', "import { glob } from '../dropin/glob.js';", 'cli/verbs imports cli/dropin/glob'],
    ['ts/src/cli/dropin/glob.ts', "import { FLAGS } from './hpcp/flags.js';", 'glob imports cli/dropin/hpcp/flags'],
    ['ts/src/cli/dropin/console.ts', "import { t } from '../parser.js';", 'cli/dropin/console imports cli/parser'],
    ['ts/src/cli/dropin/hpcp/copy.ts', "import { list } from './list.js';", 'hpcp/copy imports cli/dropin/hpcp/list'],
    ['ts/src/cli/dropin/hpcp/list.ts', "const x = import('./copy.js');", 'hpcp/list imports cli/dropin/hpcp/copy'],
    [
      'ts/src/cli/dropin/hpcp/codes.ts',
      "import type { Source } from './sources.js';",
      'codes imports cli/dropin/hpcp/s',
    ],
    ['ts/src/cli/dropin/hpcp/ask.ts', "import { run } from './run.js';", 'hpcp/ask imports cli/dropin/hpcp/run'],
    [
      'ts/src/cli/dropin/run-mirror/run.ts',
      "import { agreed } from '../hpcp/copy.js';",
      'run-mirror/run imports cli/dropin/hpcp/copy',
    ],
    ['ts/src/cli/helpers.ts', 'export const x = 1;', 'a room without a layer'],
    ['ts/src/helpers.ts', 'export const x = 1;', 'a room without a layer'],
    ['crates/common/src/lib.rs', 'pub fn x() {}', 'a crate without a layer'],
  ])('fail on a plant in %s: %s', (path, plant, why) => {
    const planted = new Map(tree).set(path, `${tree.get(path) ?? ''}\n${plant}\n`);
    expect(violations(planted).filter((each) => each.startsWith(`${path}: `))).toContainEqual(
      expect.stringContaining(why),
    );
  });

  it.each([
    ['crates/engine/src/tree/path.rs', 'use crate::tree::mounts::Mounts;'],
    ['crates/engine/src/bytes/ways.rs', 'fn f(_: &crate::bytes::chunks::Chunks) {}'],
    ['crates/engine/src/walk/scope.rs', 'use crate::walk::node::Node;'],
    ['crates/engine/src/walk/visitor.rs', 'use crate::walk::finder::list;'],
  ])('have no circle in a room of the engine: %s', (path, plant) => {
    const planted = new Map(tree).set(path, `${tree.get(path)}\n${plant}\n`);
    expect(violations(planted)).toContainEqual(expect.stringMatching(`: a circle: .*${path}`));
  });

  it('have no circle, not in a room either', () => {
    const path = 'ts/src/report/units.ts';
    const plant = `${tree.get(path)}\nimport type { Reporter } from './summary.js';\n`;
    expect(violations(new Map(tree).set(path, plant))).toEqual([
      expect.stringMatching(/^ts\/src\/report\/\w+\.ts: a circle: ts\/src\/report\/.+ > ts\/src\/report\//),
    ]);
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
