/** What an editor shows of the library: words on every option and field, defaults, and examples that run. */
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { program, scratch } from './rig.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const source = (name: string) => readFileSync(join(ROOT, 'ts/src', name), 'utf8');

const OPERATIONS = ['ops/copy.ts', 'ops/compare.ts', 'ops/list.ts', 'ops/remove.ts'];
const OPTIONS = ['native/options.ts', 'ops/arguments.ts', ...OPERATIONS];
const TOLD = ['native/events.ts'];

/** The fields of the interfaces of a module, each with the comment above it. */
function fieldsOf(name: string): { name: string; optional: boolean; words: string }[] {
  const text = source(name);
  // What stands for the addon is nothing but types.
  const bodies = name.startsWith('native/') ? [text] : (text.match(/^(?:export )?interface [\s\S]*?^\}/gm) ?? []);
  const field = /(\/\*\*(?:[^*]|\*(?!\/))*\*\/)?\n +(\w+)(\??): /g;
  return bodies.flatMap((body) =>
    [...body.matchAll(field)].map(([, words = '', name = '', mark]) => ({ name, optional: mark === '?', words })),
  );
}

it.each([...OPTIONS, ...TOLD])('%s: every field has its words', (name) => {
  const fields = fieldsOf(name);
  expect(fields.length).toBeGreaterThan(1);
  expect(fields.filter(({ words }) => words === '').map((field) => field.name)).toEqual([]);
});

it.each(OPTIONS)('%s: every option that may be left out has its default', (name) => {
  const optional = fieldsOf(name).filter((field) => field.optional);
  expect(optional.filter(({ words }) => !/Default|[Aa]bsent/.test(words)).map((field) => field.name)).toEqual([]);
});

/** Everything that the library exports and can be called, and where it is. */
const CALLED: readonly [string, string][] = [
  ...(['copy', 'copyMapped'] as const).map((name) => [name, 'ops/copy.ts'] as [string, string]),
  ...(['compare', 'compareMapped'] as const).map((name) => [name, 'ops/compare.ts'] as [string, string]),
  ...(['list', 'listMapped', 'listedSources'] as const).map((name) => [name, 'ops/list.ts'] as [string, string]),
  ...(['remove', 'Removal'] as const).map((name) => [name, 'ops/remove.ts'] as [string, string]),
  ...(['display', 'fromBytes', 'toBytes'] as const).map((name) => [name, 'names.ts'] as [string, string]),
];

describe('the example of', () => {
  it('each function that is exported is here', async () => {
    const { BulkhaulError, ...functions } = await import('../src/index.js');
    expect(BulkhaulError.prototype).toBeInstanceOf(Error);
    const called = Object.entries(functions).filter(
      ([, value]) => typeof value === 'function' && !(value.prototype instanceof Error),
    );
    expect(called.map(([name]) => name).sort()).toEqual(CALLED.map(([name]) => name).sort());
  });

  it.each(CALLED)('%s runs', async (name, file) => {
    const [, comment = ''] =
      new RegExp(`(/\\*\\*(?:[^*]|\\*(?!/))*\\*/)\nexport (?:async )?(?:function|class) ${name}\\b`).exec(
        source(file),
      ) ?? [];
    const [, block = expect.fail(`${name} has no example`)] =
      /@example\n \* ```js\n([\s\S]*?) \* ```/.exec(comment) ?? [];
    const example = block.replace(/^ \* ?/gm, '');
    expect(example).toMatch(new RegExp(`import .*\\b${name}\\b.* from 'bulkhaul';`));
    const at = scratch();
    mkdirSync(join(at, 'photos/cache'), { recursive: true });
    for (const photo of ['a.jpg', 'b.tmp', 'cache/c.jpg']) writeFileSync(join(at, 'photos', photo), photo);
    mkdirSync(join(at, 'mnt'));
    mkdirSync(join(at, 'node_modules'));
    symlinkSync(ROOT, join(at, 'node_modules/bulkhaul'));
    writeFileSync(join(at, 'example.mjs'), example.replaceAll("'/mnt", `'${join(at, 'mnt')}`));
    expect(await program(process.execPath, ['example.mjs'], { cwd: at })).toMatchObject({ code: 0, stderr: '' });
  });
});
