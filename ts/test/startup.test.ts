/** What a command that only answers loads: starting is all of its cost, so the modules are counted, not the time. */
import { existsSync, readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { executable, run, scratch } from './rig.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** The modules that a call loads, by path from the root of the checkout: those that V8 has seen. */
async function loaded(args: readonly string[], startedAs = executable): Promise<string[]> {
  const directory = scratch();
  const { code, stderr } = await run(args, { startedAs, env: { NODE_V8_COVERAGE: directory } });
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const seen = readdirSync(directory).flatMap((name) => {
    const { result } = JSON.parse(readFileSync(join(directory, name), 'utf8')) as { result: { url: string }[] };
    return result.map(({ url }) => url).filter((url) => url.startsWith('file:'));
  });
  return [...new Set(seen)].map((url) => relative(ROOT, fileURLToPath(url))).sort();
}

const MAIN = ['cli/exit', 'cli/main', 'error', 'names', 'verdict'].map((name) => `ts/dist/${name}.js`);
const HPCP = ['dropin/added', 'dropin/argparse', 'dropin/frame', 'dropin/hpcp', 'dropin/hpcp/flags', 'version'].map(
  (name) => `ts/dist/cli/${name}.js`,
);
const MIRROR = ['added', 'argparse', 'frame', 'run-mirror', 'run-mirror/flags']
  .map((name) => `ts/dist/cli/dropin/${name}.js`)
  .concat('ts/dist/cli/version.js');
const PAGE = 'ts/dist/cli/dropin/help.js';
const DSYNC = ['dropin/added', 'dropin/argparse', 'dropin/frame', 'dropin/dsync', 'dropin/dsync/flags', 'version'].map(
  (name) => `ts/dist/cli/${name}.js`,
);
const ANSWER = 'ts/dist/cli/answer.js';
const LAYOUT = 'ts/dist/cli/layout.js';

it.each([
  ['--version', ['ts/dist/cli/version.js']],
  ['--help', [LAYOUT]],
])('bulkhaul %s loads the table of commands and what answers', async (argument, more) => {
  expect(await loaded([argument])).toEqual([...MAIN, ...more, ANSWER].sort());
});

it.each([['--version'], ['-V']])('hpcp %s loads its flags and no parser of verbs', async (flag) => {
  expect(await loaded(['hpcp', flag])).toEqual([...MAIN, ...HPCP, ANSWER].sort());
});

it.each([['--help'], ['-h']])('hpcp %s loads the page too', async (flag) => {
  const page = [PAGE, 'ts/dist/cli/dropin/hpcp/help.js', LAYOUT];
  expect(await loaded(['hpcp', flag])).toEqual([...MAIN, ...HPCP, ...page, ANSWER].sort());
});

it('run-mirror --version loads its flags, and --help the page too', async () => {
  const page = [PAGE, 'ts/dist/cli/dropin/run-mirror/help.js', LAYOUT];
  expect(await loaded(['run-mirror', '--version'])).toEqual([...MAIN, ...MIRROR, ANSWER].sort());
  expect(await loaded(['run-mirror', '--help'])).toEqual([...MAIN, ...MIRROR, ...page, ANSWER].sort());
});

it('dsync --version loads its flags, and --help the page too', async () => {
  const page = ['ts/dist/cli/dropin/dsync/help.js', PAGE, LAYOUT];
  expect(await loaded(['dsync', '--version'])).toEqual([...MAIN, ...DSYNC, ANSWER].sort());
  expect(await loaded(['dsync', '--help'])).toEqual([...MAIN, ...DSYNC, ...page, ANSWER].sort());
});

it('does so under its own name too', async () => {
  const link = join(scratch(), 'hpcp');
  symlinkSync(executable, link);
  expect(await loaded(['--version'], link)).toEqual([...MAIN, ...HPCP, ANSWER].sort());
});

it('copy --help loads no addon, no operation and no reporter, and the parser of arguments as one file', async () => {
  const command = [
    'base',
    'crew',
    'digests',
    'ended',
    'help',
    'options',
    'parser',
    'run',
    'trees',
    'values',
    'verbs/copy',
    'version',
  ].map((name) => `ts/dist/cli/${name}.js`);
  const all = [...MAIN, ...command, ANSWER, LAYOUT, 'ts/dist/nearest.js'];
  expect(await loaded(['copy', '--help'])).toEqual(all.sort());
});

it('sees what a copy loads', async () => {
  const directory = scratch();
  const modules = await loaded(['copy', '--quiet', executable, join(directory, 'copy')]);
  expect(existsSync(join(directory, 'copy'))).toBe(true);
  expect(modules).toContain('bindings/node/index.js');
  expect(modules).toContain('ts/dist/ops/copy.js');
});
