/** What an editor shows of the library: words on every option and field, defaults, and examples that run. */
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { s3 } from './rig/s3.js';
import { program, scratch } from './rig.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const source = (name: string) => readFileSync(join(ROOT, 'ts/src', name), 'utf8');

const OPERATIONS = [
  'ops/migrate.ts',
  'ops/mapping.ts',
  'ops/move.ts',
  'ops/compare.ts',
  'ops/conversion.ts',
  'ops/list.ts',
  'ops/manifest.ts',
  'ops/pack.ts',
  'ops/partition.ts',
  'ops/commands.ts',
  'ops/spread.ts',
  'ops/spread/operation.ts',
  'ops/remove.ts',
  'ops/unpack.ts',
  'ops/verify.ts',
  'ops/sync.ts',
  'ops/places.ts',
  'filesystem.ts',
  'pairs.ts',
  'parallel.ts',
  'ops/retain.ts',
  'resume.ts',
  'stores/access.ts',
];
const OPTIONS = ['native/options.ts', 'ops/arguments.ts', ...OPERATIONS];
const TOLD = [
  'native/events.ts',
  'events.ts',
  'verdict.ts',
  'journal/keeper.ts',
  'journal/record.ts',
  'journal/store.ts',
];

/** The fields of the interfaces of a module, each with the comment above it. */
function fieldsOf(name: string): { name: string; optional: boolean; words: string }[] {
  const text = source(name);
  // What stands for the addon is nothing but types, and what is told in its words.
  const bodies = /^native\/|^events\.ts$/.test(name)
    ? [text]
    : (text.match(/^(?:export )?interface [\s\S]*?^\}/gm) ?? []);
  const field = /(\/\*\*(?:[^*]|\*(?!\/))*\*\/)?\n +(\w+)(\??): /g;
  return bodies.flatMap((body) =>
    [...body.matchAll(field)].map(([, words = '', name = '', mark]) => ({ name, optional: mark === '?', words })),
  );
}

/** The modules in which the types with fields are that a module shows; `only`: this one. */
function modulesOf(name: string, only?: string): string[] {
  const shown = source(name).matchAll(/^export (type )?\{([^}]*)\} from '(\..*?)\.js';$/gm);
  return [...shown].flatMap(([, allTypes, names = '', path = '']) => {
    const module = join(dirname(name), `${path}.ts`);
    return names.split(',').flatMap((each) => {
      const [, isType = allTypes, type = ''] = /^\s*(type )?(\w*)/.exec(each) ?? [];
      if (isType === undefined || type !== (only ?? type)) return [];
      const own = new RegExp(`^export (interface ${type}\\b|type ${type} =[^;]*\\{\n)`, 'm').test(source(module));
      return own ? [module] : modulesOf(module, type);
    });
  });
}

it('every type with fields that the library shows is looked at', () => {
  const modules = new Set(modulesOf('index.ts'));
  expect(modules.size).toBeGreaterThan(20);
  expect([...modules].filter((module) => ![...OPTIONS, ...TOLD].includes(module))).toEqual([]);
});

it.each([...OPTIONS, ...TOLD])('%s: every field has its words', (name) => {
  const fields = fieldsOf(name);
  expect(fields.length).toBeGreaterThan(1);
  expect(fields.filter(({ words }) => words === '').map((field) => field.name)).toEqual([]);
});

it.each(OPTIONS)('%s: every option that may be left out has its default', (name) => {
  const optional = fieldsOf(name).filter((field) => field.optional);
  expect(optional.filter(({ words }) => !/Default|[Aa]bsent/.test(words)).map((field) => field.name)).toEqual([]);
});

/** Everything of the library that can be called, and where it is. `Job` is no value for its users, but they have one. */
const CALLED: readonly [string, string][] = [
  ...each('ops/copy.ts', 'copy', 'copyMapped'),
  ...each('ops/move.ts', 'move'),
  ...each('ops/migrate.ts', 'migrate'),
  ...each('ops/compare.ts', 'compare', 'compareMapped'),
  ...each('ops/compress.ts', 'compress'),
  ...each('ops/decompress.ts', 'decompress'),
  ...each('ops/list.ts', 'list', 'listMapped', 'listedSources'),
  ...each('ops/manifest.ts', 'manifest'),
  ...each('ops/pack.ts', 'pack'),
  ...each('ops/partition.ts', 'partition'),
  ...each('ops/spread.ts', 'spread'),
  ...each('ops/unpack.ts', 'unpack'),
  ...each('ops/verify.ts', 'verify'),
  ...each('ops/retain.ts', 'retainPartitions'),
  ...each('stores/partitions.ts', 'partitionsOf'),
  ...each('ops/sync.ts', 'syncDir', 'syncFiles', 'incrementalSync', 'compareStores', 'listStore'),
  ...each('pairs.ts', 'copyPairs', 'validateTransfer'),
  ...each('parallel.ts', 'runParallel', 'withRetry'),
  ...each('filesystem.ts', 'filesystem'),
  ...each('ops/remove.ts', 'remove', 'Removal', 'Removal.preview', 'Removal.remove'),
  ...each('names.ts', 'display', 'fromBytes', 'toBytes'),
  ...each('error.ts', 'BulkhaulError', 'BulkhaulError.from'),
  ...each('ops/job.ts', 'JobError', 'Job', 'Job.then', 'Job.catch', 'Job.finally', 'Job.orThrow', 'Job.snapshot'),
  ...each('ops/job.ts', 'Job.[Symbol.asyncIterator]', 'Job.setLimits', 'Job.setStallTimeout', 'Job.cancel'),
  ...each('ops/job.ts', 'Job.journal', 'Job.id', 'Job.failureFile'),
  ...each('resume.ts', 'jobs', 'journalOf', 'resume'),
];

function each(file: string, ...names: string[]): [string, string][] {
  return names.map((name) => [name, file]);
}

/** A function or class, and what can be called of a class. */
function callable(name: string, value: (...args: never) => unknown): string[] {
  const prototype: object = value.prototype ?? {};
  const key = (key: string | symbol) => `${name}.${typeof key === 'symbol' ? `[${key.description}]` : key}`;
  const own = (of: object, no: readonly (string | symbol)[]) => Reflect.ownKeys(of).filter((key) => !no.includes(key));
  return [name, ...own(value, ['length', 'name', 'prototype']).map(key), ...own(prototype, ['constructor']).map(key)];
}

/** A bucket that has what examples speak of. */
async function archive(): Promise<NodeJS.ProcessEnv> {
  const server = await s3({ bucket: 'archive' });
  for (const key of ['photos/a.jpg', 'events/year=2024/month=2/a.parquet']) server.put(key, key);
  return server.env;
}

/** What jobs have for other rooms, and no user sees. */
const INTERNAL = ['begin', 'follow', 'journalFor', 'prepared', 'recordIn', 'workingDirectory'];

describe('the example of', () => {
  it('each function and method that users have is here', async () => {
    const all = Object.entries({ ...(await import('../src/index.js')), ...(await import('../src/ops/job.js')) });
    const called = all.flatMap(([name, value]) =>
      typeof value === 'function' && !INTERNAL.includes(name) ? callable(name, value as () => unknown) : [],
    );
    expect(called.sort()).toEqual(CALLED.map(([name]) => name).sort());
  });

  it.each(CALLED)('%s runs', async (name, file) => {
    const method = name.includes('.');
    const called = name.slice(name.indexOf('.') + 1).replace(/[[\]]/g, '\\$&');
    const [indent, declared] = method
      ? ['  ', `(?:async |static |get )?${called}[<(]`]
      : ['', `export (?:async )?(?:function\\*?|class) ${called}\\b`];
    // A remark for the linter may stand between.
    const where = new RegExp(`(/\\*\\*(?:[^*]|\\*(?!/))*\\*/)\n(?:${indent}//.*\n)?${indent}${declared}`);
    const [, comment = ''] = where.exec(source(file)) ?? [];
    const [, block = expect.fail(`${name} has no example`)] =
      /@example\n *\* ```js\n([\s\S]*?) *\* ```/.exec(comment) ?? [];
    const example = block.replace(/^ *\* ?/gm, '');
    // What a job can do is shown of a copy.
    const [user = name] = name.startsWith('Job.') || name === 'Job' ? ['copy'] : name.split('.');
    expect(example).toMatch(new RegExp(`import .*\\b${user}\\b.* from 'bulkhaul';`));
    const at = scratch();
    mkdirSync(join(at, 'photos/cache'), { recursive: true });
    for (const photo of ['a.jpg', 'b.tmp', 'cache/c.jpg']) writeFileSync(join(at, 'photos', photo), photo);
    mkdirSync(join(at, 'mnt'));
    mkdirSync(join(at, 'node_modules'));
    symlinkSync(ROOT, join(at, 'node_modules/bulkhaul'));
    writeFileSync(join(at, 'example.mjs'), example.replaceAll("'/mnt", `'${join(at, 'mnt')}`));
    // What it says to a store, a store hears.
    const env = example.includes('s3://') ? await archive() : {};
    expect(await program(process.execPath, ['example.mjs'], { cwd: at, env })).toMatchObject({ code: 0, stderr: '' });
  });
});
