/** What tests of spread operations share: trees, what came of them, and workers that die when they are to. */
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { type Plan, RunDirectory } from '../../src/ops/spread/directory.js';
import { type Run, scratch } from '../rig.js';

/** What takes longer is for `scripts/test --exhaustive`. */
export const EXHAUSTIVE = process.env.BULKHAUL_EXHAUSTIVE === '1';

export const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

/** A tree with what there is: modes, times, links, holes, names of every kind. */
export function tree(): string {
  const root = join(scratch(), 'source');
  mkdirSync(join(root, 'empty'), { recursive: true });
  for (const directory of ['a', 'b/c', 'b/d', 'private']) {
    mkdirSync(join(root, directory), { recursive: true });
    for (let file = 0; file < 12; file += 1) writeFileSync(join(root, directory, `f${file}`), `${directory} ${file}`);
  }
  for (const name of ['with space', 'new\nline', '-rf', ' ', 'é\u2028x']) writeFileSync(join(root, name), name);
  writeFileSync(Buffer.concat([Buffer.from(`${root}/`), Buffer.from([0xff, 0xfe])]), 'bytes');
  linkSync(join(root, 'a/f0'), join(root, 'b/c/linked'));
  symlinkSync('../a', join(root, 'b/link'));
  execFileSync('mkfifo', [join(root, 'fifo')]);
  execFileSync('chmod', ['700', join(root, 'private')]);
  execFileSync('chmod', ['555', join(root, 'b/d')]);
  for (const path of ['a/f1', 'a', 'b/c', 'b', 'empty', '.']) utimesSync(join(root, path), 1e9, 1e9);
  return root;
}

/** What rsync would still have to do. */
export function differences(source: string, destination: string): string {
  const args = ['-aHn', '--delete', '--checksum', '--itemize-changes', '--omit-link-times', '--exclude=.bh-*'];
  return execFileSync('rsync', [...args, `${source}/`, `${destination}/`]).toString();
}

export const rsyncIsHere = (() => {
  try {
    execFileSync('rsync', ['--version']);
    return true;
  } catch {
    console.log('skip: there is no rsync to compare with');
    return false;
  }
})();

export function same(source: string, destination: string): void {
  if (rsyncIsHere) expect(differences(source, destination)).toBe('');
}

/** The last line of JSON. */
export const summaryOf = ({ stdout }: Run) => JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}');

export const entriesOf = (root: string) =>
  Number(execFileSync('sh', ['-c', 'find "$1" -printf x | wc -c', 'sh', root]));

/** Sources of this project: nobody writes to them, so that what was read of them once holds. */
export const SETTLED = fileURLToPath(new URL('../../../crates/sys/src', import.meta.url));

/** What went wrong, in any order. */
export const errorsOf = ({ stdout }: Run) =>
  stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
    .flatMap(({ type, kind, path, pathBase64 }) => (type === 'error' ? [`${kind} ${pathBase64 ?? path}`] : []))
    .sort();

/** All names below a directory, with what they have. */
export const contentOf = (root: string) =>
  execFileSync('sh', [
    '-c',
    'cd "$1" && find . -type f -print0 | sort -z | xargs -0r sha256sum -z',
    'sh',
    root,
  ]).toString();

export const MIB = 1024 * 1024;

/** A tree with a file of three ranges, most of which are holes, and some bytes at the ends of each. */
export function bigTree(): string {
  const root = tree();
  mkdirSync(join(root, 'deep/er'), { recursive: true });
  const path = join(root, 'deep/er/big');
  const file = openSync(path, 'w', 0o640);
  for (const [index, at] of [0, 64 * MIB - 5, 64 * MIB + 9, 128 * MIB - 1, 200 * MIB - 7].entries())
    writeSync(file, Buffer.alloc(7, `${index}`), 0, 7, at);
  closeSync(file);
  for (const above of ['deep/er/big', 'deep/er', 'deep', '.']) utimesSync(join(root, above), 1e9, 1e9);
  return root;
}

/** A program that is bulkhaul, but for what `deed` does before a worker begins. */
export function deedful(deed: string): string[] {
  const script = join(scratch(), 'bulkhaul.mjs');
  const text = [
    "import { openSync, writeFileSync, existsSync, rmSync, readdirSync } from 'node:fs';",
    "import { join } from 'node:path';",
    "const directory = process.argv.at(-1) ?? '';",
    "const name = process.argv[process.argv.indexOf('--name') + 1];",
    "const die = () => process.kill(process.pid, 'SIGKILL');",
    "const take = (lease) => writeFileSync(openSync(join(directory, 'leases', lease), 'wx'), name);",
    deed,
    `process.argv[1] = ${JSON.stringify(MAIN)};`,
    `await import(${JSON.stringify(MAIN)});`,
  ];
  writeFileSync(script, text.join('\n'));
  return [process.execPath, script];
}
export const { copy, spread } = await import('../../dist/index.js');
export const { spreadTask } = await import('../../dist/ops/spread.js');
export const { partJob } = await import('../../dist/ops/spread/task.js');
/** Leases of a part in a run directory that was kept. */
export const leasesOf = (directory: string, part: number) =>
  readdirSync(join(directory, 'leases')).filter((name) => name.startsWith(`${part}.`));
export const planOf = (directory: string) => new RunDirectory(directory).plan() as Plan;
