/** What an editor shows of the library: words on every option and field, units, defaults, and examples that run. */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { Face, type Field } from './rig/face.js';
import { s3 } from './rig/s3.js';
import { program, scratch } from './rig.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const face = new Face(join(ROOT, 'ts/src'));

/** The places of fields, each once. */
const at = (fields: readonly Field[]) => [...new Set(fields.map(({ at }) => at))];

it('all is looked at: what is exported, and what that leads to', async () => {
  const values = Object.keys(await import('../src/index.js'));
  expect(face.exports.map(({ name }) => name)).toEqual(expect.arrayContaining(values));
  expect(at(face.fields)).toEqual(
    expect.arrayContaining([
      'native/options.ts: Limits.bytes',
      'native/options.ts: NativeCopyOptions.hashSize',
      'native/events.ts: NativeReport.outcomes',
      'ops/mapping.ts: CopyOptions.user',
      'events.ts: HostStatus.rate',
      'parallel.ts: CallOutcome.error',
      'error.ts: BulkhaulError.code',
    ]),
  );
  expect(face.callables.map(({ name }) => name)).toEqual(
    expect.arrayContaining(['copy', 'Job.[Symbol.asyncIterator]', 'FileSystem.open', 'BulkhaulError.from']),
  );
});

it('everything that is exported has its words', () => {
  expect(face.exports.filter(({ words }) => words === '').map(({ name }) => name)).toEqual([]);
});

it('every field has its words', () => {
  expect(at(face.fields.filter(({ words }) => words === ''))).toEqual([]);
});

it('every option that may be left out has its default, and every field that may be absent says when', () => {
  const silent = face.fields.filter(
    ({ optional, asked, words }) =>
      optional && !(asked ? /Default|[Aa]bsent/ : /Default|[Aa]bsent|[Oo]nly/).test(words),
  );
  expect(at(silent)).toEqual([]);
});

/** What a number is of, or that it is a level, an offset, an index, a code. */
const UNITS =
  /\b(bytes|seconds|entries|failures|files|inodes|links|symlinks|directories|jobs|workers|threads|parts|partitions|commands|calls|tries|times|times as long|bits|id|level|niceness|index|descriptors|number (of|for)|1 is the first|counted from 1)\b|`ExitCode`/i;

it('every number says what it is of', () => {
  expect(at(face.fields.filter(({ number, words }) => number && !UNITS.test(words)))).toEqual([]);
});

/** A bucket that has what examples speak of. */
async function archive(): Promise<NodeJS.ProcessEnv> {
  const server = await s3({ bucket: 'archive' });
  for (const key of ['photos/a.jpg', 'events/year=2024/month=2/a.parquet']) server.put(key, key);
  return server.env;
}

it.each(face.callables)('the example of $name runs', async ({ name, words }) => {
  const [, block = expect.fail(`${name} has no example`)] =
    /@example\n *\* ```js\n([\s\S]*?) *\* ```/.exec(words) ?? [];
  const example = block.replace(/^ *\* ?/gm, '');
  // What a job can do is shown of a copy, and a disk or a store is opened.
  const [of = name] = name.split('.');
  const user = { Job: 'copy', FileSystem: 'filesystem' }[of] ?? of;
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
