/** `run-mirror`: its steps and flags, the flows that the original documents, and what the original loses. */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { type Flag, UsageError } from '../../src/cli/dropin/argparse.js';
import { FLAGS, originalFlags, parseCall } from '../../src/cli/dropin/run-mirror/flags.js';
import { helpText } from '../../src/cli/dropin/run-mirror/help.js';
import { countFiles } from '../../src/cli/dropin/run-mirror/run.js';
import { executable, faulty, jsonLines, program, run, scratch, snapshot } from '../rig.js';

const NAMES = [
  'a',
  'a b',
  ' lead',
  'trail ',
  'é',
  '-x',
  '*star',
  '#hash',
  'back\\slash',
  'new\nline',
  '.hidden',
  '._x',
];

/** A source `s` with such names; `mirror` is the command, and `sh` a line in which `run-mirror` is. */
function tree(names: readonly string[] = NAMES) {
  const cwd = scratch();
  const at = (...names: string[]) => join(cwd, ...names);
  mkdirSync(at('s/sub'), { recursive: true });
  for (const name of names) {
    writeFileSync(at('s', name), `in ${name}`);
    writeFileSync(at('s/sub', name), `in sub/${name}`);
  }
  const mirror = (...args: string[]) => run(['run-mirror', ...args], { cwd });
  const sh = (line: string) =>
    program(
      'bash',
      ['-o', 'pipefail', '-c', line.replaceAll('run-mirror', `'${process.execPath}' '${executable}' run-mirror`)],
      { cwd },
    );
  const text = (...names: string[]) => readFileSync(at(...names), 'utf8');
  return { cwd, at, mirror, sh, text };
}

const check = (tool: string, manifest: string, cwd: string) => spawnSync(tool, ['--check', manifest], { cwd }).status;

/** Another byte, and nothing else that tells it. */
function flip(path: string): void {
  execFileSync('cp', ['-a', path, `${path}.before`]);
  const content = readFileSync(path);
  content[0] = (content[0] ?? 0) ^ 1;
  writeFileSync(path, content);
  execFileSync('touch', ['-r', `${path}.before`, path]);
  rmSync(`${path}.before`);
}

const lines = (stderr: string, mark: string) => stderr.split('\n').filter((line) => line.startsWith(`[${mark}]`));

describe('all', () => {
  it('writes the manifest into SRC, copies, verifies; stdout stays empty', async () => {
    const { mirror, at, cwd } = tree();
    const { code, stdout, stderr } = await mirror('s', 'deep/d');
    expect({ code, stdout }).toEqual({ code: 0, stdout: '' });
    expect(stderr).toMatch(
      /^=== Mirror ===\nTime: \S+\nStep: all\nDry: False\nAlgo: blake3\n\[1\/3\] Creating manifest…\n\[2\/3\] Copying s to deep\/d…\nHashing: 24\/24\n/,
    );
    // What is not on the medium can not be read from there.
    expect(stderr).toContain('\non disk: everything that was written is synced');
    expect(stderr).toContain('\n[3/3] Verifying at deep/d using s/BLAKE3SUMS\nHashing: 24/24\n');
    expect(stderr).toMatch(/verified: 24 files \(.*\nVerification successful\.\n$/);
    expect(readFileSync(at('deep/d/BLAKE3SUMS'))).toEqual(readFileSync(at('s/BLAKE3SUMS')));
    execFileSync('diff', ['-r', 's', 'deep/d'], { cwd });
    expect([check('b3sum', 'BLAKE3SUMS', at('s')), check('b3sum', 'BLAKE3SUMS', at('deep/d'))]).toEqual([0, 0]);
  });

  it('succeeds again on the same tree, with the same manifest', async () => {
    const { mirror, text } = tree();
    await mirror('s', 'd');
    const first = text('s/BLAKE3SUMS');
    expect((await mirror('s', 'd')).code).toBe(0);
    expect(text('s/BLAKE3SUMS')).toBe(first);
    expect(first).not.toContain('SUMS');
  });

  it('verifies by its own manifest, not by an older one of DST', async () => {
    const { mirror, at, text } = tree(['a']);
    await mirror('s', 'd');
    writeFileSync(at('s/new'), 'new');
    const { code, stderr } = await mirror('--manifest', 'M', 's', 'd');
    expect([code, stderr]).toEqual([0, expect.stringContaining('using M\n')]);
    expect(text('M')).toContain('  new\n');
  });

  it('a flipped byte that size and time do not tell is found, exit 1; one that they tell is repaired', async () => {
    const { mirror, at } = tree(['a', 'b']);
    await mirror('s', 'd');
    writeFileSync(at('s/big'), Buffer.alloc(200_000, 'big'));
    await mirror('s', 'd');
    flip(at('d/big'));
    const { code, stderr } = await mirror('s', 'd');
    expect(code).toBe(1);
    expect(stderr).toMatch(/\n\[MISMATCH\] big\n[\s\S]*\n\[ERROR\] Verification failed: 1 problem\(s\)\.\n$/);
    writeFileSync(at('d/big'), Buffer.alloc(200_000, 'gib'));
    expect((await mirror('s', 'd')).code).toBe(0);
  });

  it('reads SRC once: what is copied is hashed on the way, and only what DST has already is read for it', async () => {
    const { mirror, at } = tree(['a', 'b']);
    const copied = async () =>
      jsonLines((await mirror('--json', 's', 'd')).stdout).find(({ type }) => type === 'summary');
    expect(await copied()).toMatchObject({ copiedBytes: 24, hashedBytes: 0 });
    writeFileSync(at('s/c'), 'new');
    const before = readFileSync(at('s/BLAKE3SUMS')).length;
    // The manifest that SRC has is no part of the next one, and comes anew.
    expect(await copied()).toMatchObject({ copiedBytes: 3, hashedBytes: 24 });
    expect(readFileSync(at('s/BLAKE3SUMS')).length).toBe(before + 68);
    expect(readFileSync(at('d/BLAKE3SUMS'))).toEqual(readFileSync(at('s/BLAKE3SUMS')));
  });

  it('brings a manifest that lies deeper in SRC, too', async () => {
    const { mirror, at, cwd } = tree(['a']);
    expect((await mirror('--manifest', 's/sub/M', 's', 'd')).code).toBe(0);
    execFileSync('diff', ['-r', 's', 'd'], { cwd });
    expect(readFileSync(at('d/sub/M'), 'utf8')).toMatch(/^\w{64} {2}a\n\w{64} {2}sub\/a\n$/);
  });

  it('a name that the manifest can not have is told and copied, and the rest is verified, exit 2', async () => {
    const { mirror, at, sh } = tree(['a']);
    await sh("touch s/$'latin-\\xe9'");
    const { code, stderr } = await mirror('s', 'd');
    expect([code, stderr]).toEqual([2, expect.stringMatching(/verified: 2 files[\s\S]*Verification successful/)]);
    expect(readdirSync(at('d'))).toHaveLength(4);
  });

  it('a copy that is incomplete is not verified, exit 2', async () => {
    const { mirror, at } = tree(['a']);
    mkdirSync(at('d/a/x'), { recursive: true });
    const { code, stderr } = await mirror('s', 'd');
    expect([code, stderr.includes('[3/3]')]).toEqual([2, false]);
    expect(stderr).toContain('run-mirror: the copy is incomplete, so it was not verified\n');
  });

  it('--manifest -: standard output has the manifest, and it is what DST is verified by', async () => {
    const { mirror, at, text } = tree();
    const { code, stdout, stderr } = await mirror('--manifest', '-', 's', 'd');
    expect([code, stderr]).toEqual([0, expect.stringContaining('verified: 24 files')]);
    writeFileSync(at('M'), stdout);
    expect([check('b3sum', '../M', at('d')), existsSync(at('s/BLAKE3SUMS'))]).toEqual([0, false]);
    await mirror('s', 'e');
    expect(text('s/BLAKE3SUMS')).toBe(stdout);
  });

  it('an empty SRC, and one that is not there, end with 2', async () => {
    const { mirror, at } = tree();
    mkdirSync(at('empty'));
    for (const args of [
      ['empty', 'd'],
      ['--manifest', '-', 'empty', 'd'],
      ['absent', 'd'],
      ['--manifest', 'M', 'absent', 'd'],
      ['--dry-run', 'absent', 'd'],
      ['s/a', 'd'],
    ]) {
      expect((await mirror(...args)).code, args.join(' ')).toBe(2);
    }
    expect(existsSync(at('d'))).toBe(false);
  });

  it('copies symlinks as they are, and lists none', async () => {
    const { mirror, at, text } = tree(['a']);
    symlinkSync('a', at('s/link'));
    symlinkSync('nowhere', at('s/dangling'));
    expect((await mirror('s', 'd')).code).toBe(0);
    expect(text('s/BLAKE3SUMS')).toMatch(/^\w{64} {2}a\n\w{64} {2}sub\/a\n$/);
    expect(readdirSync(at('d')).sort()).toEqual(['BLAKE3SUMS', 'a', 'dangling', 'link', 'sub']);
  });

  it('a name with a carriage return is verified; b3sum 1.2 takes no such line, which is told', async () => {
    const { mirror, at } = tree(['carriage\rreturn']);
    expect((await mirror('s', 'd')).code).toBe(0);
    expect((await mirror('--algo', 'sha256', 's', 'e')).code).toBe(0);
    expect(check('sha256sum', 'SHA256SUMS', at('e'))).toBe(0);
    if (!/^b3sum 1\.2\./.test(String(spawnSync('b3sum', ['--version']).stdout))) return;
    const { code, stderr } = await mirror('--prefer-external-b3', 's', 'd');
    expect([code, stderr]).toEqual([2, expect.stringContaining("b3sum can't check s/BLAKE3SUMS: ")]);
  });

  it('DST in SRC, and SRC itself, are refused', async () => {
    const { mirror } = tree();
    expect((await mirror('s', 's')).code).toBe(2);
    expect((await mirror('s', 's/in')).code).toBe(2);
  });
});

describe('--dry-run', () => {
  it.each([['all'], ['make-manifest'], ['copy']])('--step %s writes nothing', async (step) => {
    const { mirror, cwd } = tree(['a']);
    const before = readdirSync(cwd, { recursive: true }).sort();
    const { code, stderr } = await mirror('--step', step, '--dry-run', 's', 'd');
    expect([code, lines(stderr, 'MISSING')]).toEqual([0, []]);
    expect(stderr).toContain('\nDry: True\n');
    expect(readdirSync(cwd, { recursive: true }).sort()).toEqual(before);
  });

  it('tells what would be copied', async () => {
    const { mirror } = tree(['a']);
    const { stdout, stderr } = await mirror('--step', 'copy', '--dry-run', 's', 'd');
    expect(stdout).toContain('sub/a');
    expect(stderr).toContain('dry run: nothing was done');
  });
});

describe('--step make-manifest', () => {
  it('of sha256 is for sha256sum, also with names that are not UTF-8', async () => {
    const { mirror, at, sh } = tree();
    await sh("touch $'s/\\xff'");
    expect((await mirror('--step', 'make-manifest', '--algo', 'sha256', 's')).code).toBe(0);
    expect([existsSync(at('s/BLAKE3SUMS')), check('sha256sum', 'SHA256SUMS', at('s'))]).toEqual([false, 0]);
  });

  it('a name that b3sum does not take is told, exit 2, and the rest is there, copied and verified', async () => {
    const { mirror, at, sh } = tree();
    await sh("touch $'s/\\xff'");
    const { code, stderr } = await mirror('s', 'd');
    expect([code, stderr]).toEqual([2, expect.stringContaining('\\xff')]);
    expect(stderr).toContain('verified: 24 files');
    expect([check('b3sum', 'BLAKE3SUMS', at('d')), readdirSync(at('d')).length]).toEqual([0, 15]);
  });

  it('a source that cannot be written is an error that names --manifest, which works', async () => {
    const { mirror, at, cwd } = tree();
    if (process.getuid?.() !== 0) return;
    mkdirSync(at('ro'));
    execFileSync('mount', ['--bind', 's', 'ro'], { cwd });
    onTestFinished(() => void execFileSync('umount', ['ro'], { cwd }));
    execFileSync('mount', ['-o', 'remount,ro,bind', 'ro'], { cwd });
    const { code, stderr } = await mirror('ro', 'd');
    expect([code, stderr]).toEqual([2, expect.stringMatching(/can't be written into SRC: .*--manifest PATH/)]);
    expect(existsSync(at('d'))).toBe(false);
    expect((await mirror('--manifest', 'M', 'ro', 'd')).code).toBe(0);
    expect((await mirror('--manifest', '-', 'ro', 'e')).code).toBe(0);
  });

  it('a manifest that can not be made whole leaves the older one', async () => {
    const { mirror, at, text } = tree(['a']);
    await mirror('--step', 'make-manifest', 's');
    const before = text('s/BLAKE3SUMS');
    rmSync(at('s'), { recursive: true });
    mkdirSync(at('s'));
    writeFileSync(at('s/BLAKE3SUMS'), before);
    expect((await mirror('--step', 'make-manifest', '--manifest', 'absent/M', 's')).code).toBe(2);
    expect(text('s/BLAKE3SUMS')).toBe(before);
  });

  it('SRC may be `.` with a name that looks like an option', async () => {
    const { at } = tree();
    const { code } = await run(['run-mirror', '--step', 'make-manifest', '.'], { cwd: at('s') });
    expect([code, check('b3sum', 'BLAKE3SUMS', at('s'))]).toEqual([0, 0]);
  });
});

describe('--step verify', () => {
  it('names everything that is missing or different, and goes on to the end', async () => {
    const { mirror, at } = tree();
    await mirror('s', 'd');
    flip(at('d/é'));
    rmSync(at('d/a'));
    rmSync(at('d/sub/a b'));
    mkdirSync(at('d/sub/a b'));
    rmSync(at('d/trail '));
    symlinkSync('a b', at('d/trail '));
    writeFileSync(at('d/extra'), 'x');
    const { code, stdout, stderr } = await mirror('--step', 'verify', 's', 'd');
    expect([code, stdout]).toEqual([1, '']);
    expect(lines(stderr, 'MISSING')).toEqual(['[MISSING] a']);
    expect(lines(stderr, 'MISMATCH').sort()).toEqual(['[MISMATCH] sub/a b', '[MISMATCH] trail ', '[MISMATCH] é']);
    expect(stderr).toContain('\nrun-mirror: note: 1 file in d is not in the manifest');
    expect(stderr).toMatch(/\n\[ERROR\] Verification failed: 4 problem\(s\)\.\n$/);
  });

  it('counts the files while it reads them, off a terminal', () => {
    vi.useFakeTimers();
    onTestFinished(() => void vi.useRealTimers());
    const said: string[] = [];
    const seen = [
      { doneFiles: 99, foundFiles: 120 },
      { doneFiles: 110, foundFiles: 200 },
      { doneFiles: 209, foundFiles: 250, expected: { entries: 400, files: 350, toDo: 400 } },
      { doneFiles: 260, foundFiles: 350, expected: { entries: 400, files: 350, toDo: 400 } },
    ];
    const timer = countFiles({ snapshot: () => snapshot(seen.shift()) }, (line) => said.push(line));
    vi.advanceTimersByTime(4000);
    clearInterval(timer);
    expect(said).toEqual(['Hashing: 110/200', 'Hashing: 260/350']);
  });

  it('what is extra alone is a note', async () => {
    const { mirror, at } = tree();
    await mirror('s', 'd');
    writeFileSync(at('d/extra'), 'x');
    const { code, stderr } = await mirror('--step', 'verify', 's', 'd');
    expect([code, stderr]).toEqual([0, expect.stringContaining('note: 1 file in d is not in the manifest')]);
  });

  it('what can not be read is 2, and the rest is verified', async () => {
    const { mirror, at, cwd } = tree(['a', 'b']);
    await mirror('s', 'd');
    const point = await faulty(at('d'), 'larger=3,only=/a');
    if (point === undefined) return;
    const { code, stderr } = await run(['run-mirror', '--step', 'verify', 's', point], { cwd });
    expect([code, stderr]).toEqual([2, expect.stringMatching(/run-mirror: read .*\/a: .*\n[\s\S]*failed: 2 problem/)]);
    rmSync(at('d/b'));
    expect((await run(['run-mirror', '--step', 'verify', 's', point], { cwd })).code).toBe(1);
  });

  it('takes the manifest of SRC, and says that another is in DST', async () => {
    const { mirror, at } = tree(['a']);
    await mirror('s', 'd');
    writeFileSync(at('s/new'), 'new');
    await mirror('--step', 'make-manifest', 's');
    const { code, stderr } = await mirror('--step', 'verify', 's', 'd');
    expect([code, lines(stderr, 'MISSING')]).toEqual([1, ['[MISSING] new']]);
    expect(stderr).toContain('note: d/BLAKE3SUMS has another size or time');
    rmSync(at('s'), { recursive: true });
    const alone = await mirror('--step', 'verify', 's', 'd');
    expect([alone.code, alone.stderr]).toEqual([0, expect.stringContaining('using d/BLAKE3SUMS\n')]);
    expect((await mirror('--step', 'verify', 'd')).code).toBe(0);
  });

  it.each([
    [
      'upper case, *, CRLF',
      (text: string) => text.replace(/^(\w+) {2}/gm, (_, hex) => `${hex.toUpperCase()} *`).replaceAll('\n', '\r\n'),
      0,
    ],
    ['an absolute path', (text: string) => text.replace('  a\n', '  /etc/passwd\n'), 2],
    ['..', (text: string) => text.replace('  a\n', '  ../s/a\n'), 2],
    ['nothing', () => '', 2],
    ['no line at all', () => 'hello\n', 2],
  ])('a manifest with %s', async (_, change, wanted) => {
    const { mirror, at, text } = tree(['a', 'b']);
    await mirror('s', 'd');
    writeFileSync(at('M'), change(text('s/BLAKE3SUMS')));
    const { code, stderr } = await mirror('--step', 'verify', '--manifest', 'M', 's', 'd');
    expect([code, lines(stderr, 'MISMATCH')]).toEqual([wanted, []]);
    const piped = await run(['run-mirror', '--step', 'verify', '--manifest', '-', 's', 'd'], {
      cwd: at('.'),
      input: text('M'),
    });
    expect(piped.code).toBe(wanted);
  });

  it('the wrong algorithm is named, not each file', async () => {
    const { mirror, sh } = tree();
    await mirror('s', 'd');
    // As the original leaves it.
    await sh('cd d && sha256sum a sub/a >BLAKE3SUMS');
    for (const flags of [[], ['--algo', 'blake3']]) {
      const { code, stderr } = await mirror('--step', 'verify', ...flags, '--manifest', 'd/BLAKE3SUMS', 's', 'd');
      expect([code, stderr]).toEqual([2, expect.stringContaining('are of sha256, where blake3 was expected')]);
      expect(lines(stderr, 'MISMATCH')).toEqual([]);
    }
    const told = await mirror('--step', 'verify', '--algo', 'sha256', '--manifest', 'd/BLAKE3SUMS', 's', 'd');
    expect(told.code).toBe(0);
    const other = await mirror('--step', 'verify', '--algo', 'sha256', '--manifest', 's/BLAKE3SUMS', 's', 'd');
    expect([other.code, other.stderr]).toEqual([2, expect.stringContaining('are of blake3')]);
  });

  it('without a manifest anywhere, exit 2', async () => {
    const { mirror } = tree();
    expect(await mirror('--step', 'verify', 's')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('--manifest names another'),
    });
  });
});

describe('the flows of its documentation', () => {
  it('make-manifest to gzip, and verify from zcat', async () => {
    const { sh, mirror, at } = tree();
    expect((await sh('run-mirror --step make-manifest --manifest - --jobs 8 s | gzip > M.gz')).code).toBe(0);
    expect(readdirSync(at('s'))).not.toContain('BLAKE3SUMS');
    await mirror('--step', 'copy', 's', 'd');
    const verify = 'zcat M.gz | run-mirror --step verify --manifest - --jobs 8 s d';
    expect((await sh(verify)).code).toBe(0);
    flip(at('d/a'));
    expect(await sh(verify)).toMatchObject({ code: 1, stderr: expect.stringContaining('\n[MISMATCH] a\n') });
  });

  it('the same with what is packed in SRC itself, which the manifest does not list', async () => {
    const { sh, mirror, at } = tree();
    await mirror('--step', 'copy', 's', 'd');
    expect((await sh('run-mirror --step make-manifest --manifest - s | gzip > s/BLAKE3SUMS.gz')).code).toBe(0);
    expect(readdirSync(at('s'))).toContain('BLAKE3SUMS.gz');
    const verified = await sh('zcat s/BLAKE3SUMS.gz | run-mirror --step verify --manifest - s d');
    expect(verified).toMatchObject({ code: 0, stderr: expect.stringContaining('\nVerification successful.\n') });
  });

  it('manifest first, then copy and verify, with the environment', async () => {
    const { sh } = tree();
    const line = ['make-manifest s', 'copy s d', 'verify s d'].map((step) => `run-mirror --step ${step}`).join(' && ');
    expect((await sh(`export MIRROR_JOBS=2 MIRROR_B3THREADS=8; ${line}`)).code).toBe(0);
  });

  it('all, from a disk, with b3sum', async () => {
    const { mirror } = tree();
    const flags = ['--step', 'all', '--algo', 'blake3', '--prefer-external-b3', '--jobs', '4', '--blake3-threads', '1'];
    const { code, stderr } = await mirror(...flags, 's', 'd');
    expect([code, stderr]).toEqual([0, expect.stringContaining('\nb3sum --check finds the same\n')]);
  });
});

describe('--prefer-external-b3', () => {
  /** A b3sum of ours, or none at all. */
  const withB3sum = (cwd: string, script: string | undefined) => {
    mkdirSync(join(cwd, 'bin'));
    if (script !== undefined) {
      writeFileSync(join(cwd, 'bin/b3sum'), `#!/bin/sh\n${script}\n`);
      chmodSync(join(cwd, 'bin/b3sum'), 0o755);
    }
    return { cwd, env: { PATH: script === undefined ? join(cwd, 'bin') : `${join(cwd, 'bin')}:${process.env.PATH}` } };
  };

  it('says so where there is none', async () => {
    const { cwd } = tree();
    const { code, stderr } = await run(['run-mirror', '--prefer-external-b3', 's', 'd'], withB3sum(cwd, undefined));
    expect([code, stderr]).toEqual([0, expect.stringContaining('run-mirror: note: there is no b3sum here')]);
  });

  it.each([
    ['make-manifest', []],
    ['verify', []],
    ['make-manifest', ['--manifest', '-']],
  ])('--step %s %j: what it finds is found, with its threads', async (step, more) => {
    const { cwd, mirror, at, text } = tree(['a']);
    await mirror('s', 'd');
    const where = withB3sum(cwd, `echo "$PWD $@" >>${cwd}/args; cat >/dev/null; echo 'sub/a: FAILED'; exit 1`);
    const flags = ['--step', step, ...more, '--prefer-external-b3', '--blake3-threads', '3'];
    const { code, stderr } = await run(['run-mirror', ...flags, 's', 'd'], where);
    expect([code, lines(stderr, 'MISMATCH')]).toEqual([1, ['[MISMATCH] sub/a']]);
    expect(text('args')).toBe(`${at(step === 'verify' ? 'd' : 's')} --check --quiet --num-threads 3\n`);
  });

  it('what it can not do is told, exit 2', async () => {
    const { cwd } = tree(['a']);
    const where = withB3sum(cwd, 'echo b3sum: no >&2; exit 1');
    const { code, stderr } = await run(['run-mirror', '--prefer-external-b3', 's', 'd'], where);
    expect([code, stderr]).toEqual([2, expect.stringContaining("b3sum can't check s/BLAKE3SUMS: b3sum: no\n")]);
  });

  it('a signal ends it too', async () => {
    const { cwd } = tree(['a']);
    const where = withB3sum(cwd, 'kill -INT $PPID; exec sleep 600');
    const { code, stderr } = await run(['run-mirror', '--prefer-external-b3', 's', 'd'], where);
    expect([code, stderr]).toEqual([2, expect.stringMatching(/run-mirror: interrupted: the same command goes on\n$/)]);
  });

  it('has no part in sha256, nor in a manifest of which nobody says what it is of', async () => {
    const { mirror, sh } = tree(['a']);
    const of256 = await mirror('--prefer-external-b3', '--algo', 'sha256', 's', 'd');
    expect([of256.code, of256.stderr]).toEqual([0, expect.stringContaining('note: b3sum was not run')]);
    await sh('cp s/SHA256SUMS M');
    const any = await mirror('--step', 'verify', '--prefer-external-b3', '--manifest', 'M', 's', 'd');
    expect([any.code, any.stderr]).toEqual([0, expect.stringContaining('note: b3sum was not run')]);
  });

  it('a manifest from standard input is for both', async () => {
    const { mirror, sh } = tree();
    await mirror('s', 'd');
    const line = 'run-mirror --step verify --algo blake3 --prefer-external-b3 --manifest - s d <s/BLAKE3SUMS';
    expect(await sh(line)).toMatchObject({ code: 0, stderr: expect.stringContaining('b3sum --check finds the same') });
  });
});

describe('bulkhaul’s own options', () => {
  it('--json: standard output has the events of each step', async () => {
    const { mirror, at } = tree(['a']);
    const { code, stdout, stderr } = await mirror('--json', '--log-file', 'log', 's', 'd');
    expect(stderr).toBe('');
    const summaries = jsonLines(stdout).filter(({ type }) => type === 'summary');
    expect([code, summaries.map(({ exitCode }) => exitCode)]).toEqual([0, [0, 0]]);
    expect(readFileSync(at('log'), 'utf8').match(/"msg":"begin"/g)).toHaveLength(2);
    flip(at('d/a'));
    const found = jsonLines((await mirror('--json', '--step', 'verify', 's', 'd')).stdout);
    expect(found).toContainEqual(expect.objectContaining({ type: 'error', kind: 'mismatch', path: 'd/a' }));
    expect(found.at(-1)).toMatchObject({ type: 'summary', exitCode: 1 });
    // What keeps it from beginning is told once, whoever finds it.
    for (const args of [
      ['absent', 'd'],
      ['--manifest', 'absent/M', 's', 'd'],
    ]) {
      const refused = jsonLines((await mirror('--json', ...args)).stdout);
      expect(refused).toEqual([expect.objectContaining({ type: 'error', kind: 'refused' })]);
    }
  });

  it('--quiet says nothing where all is well', async () => {
    const { mirror } = tree();
    expect(await mirror('--quiet', 's', 'd')).toEqual({ code: 0, stdout: '', stderr: '' });
  });

  it('each job has a journal in --state-dir, or none', async () => {
    const { mirror, at } = tree(['a']);
    await mirror('--bwlimit', '100m', '--iops-limit', '1000', '--nice', '5', '--ionice', 'idle', 's', 'd');
    flip(at('d/a'));
    // Nothing is kept of a short job in which nothing fails.
    await mirror('--state-dir', 'state', '--step', 'verify', 's', 'd');
    expect(readdirSync(at('state/jobs'))).toEqual([expect.stringMatching(/^verify-/)]);
    await mirror('--state-dir', 'other', '--no-journal', '--step', 'verify', 's', 'd');
    expect(existsSync(at('other'))).toBe(false);
  });
});

describe('--copy-with rsync', () => {
  it('the real rsync copies, between the manifest and the verification', async () => {
    const { at, cwd } = tree();
    symlinkSync('a', at('s/link'));
    mkdirSync(at('s/state'));
    mkdirSync(at('bin'));
    const real = program('sh', ['-c', 'command -v rsync']);
    const script = `#!/bin/sh\necho run >>'${at('ran')}'\nexec '${(await real).stdout.trim()}' "$@"\n`;
    writeFileSync(at('bin/rsync'), script, { mode: 0o755 });
    const env = { PATH: `${at('bin')}:${process.env.PATH}` };
    const { code, stdout, stderr } = await run(
      ['run-mirror', '--copy-with', 'rsync', '--jobs', '2', '--state-dir', 's/state', 's', 'd'],
      { cwd, env },
    );
    expect([code, stdout]).toEqual([0, '']);
    expect(stderr).toMatch(/\[1\/3\][\s\S]*\[2\/3\][\s\S]*\[3\/3\][\s\S]*Verification successful\.\n$/);
    const look = ['-ani', '--checksum', '--delete', '--exclude=/state', 's/', 'd/'];
    expect([execFileSync('rsync', look, { cwd, encoding: 'utf8' }), existsSync(at('d/state'))]).toEqual(['', false]);
    expect(readFileSync(at('ran'), 'utf8').split('\n').length).toBeGreaterThan(2);
    rmSync(at('d/a'));
    const again = await run(['run-mirror', '--copy-with', 'rsync', '--step', 'copy', 's', 'd'], { cwd, env });
    expect([again.code, existsSync(at('d/a'))]).toEqual([0, true]);
    expect(again.stderr).toContain('1 file copied');
  });

  it('is refused where there is no rsync, before anything is read, and for DST in SRC', async () => {
    const { at, cwd } = tree(['a']);
    const { code, stderr } = await run(['run-mirror', '--copy-with', 'rsync', 's', 'd'], {
      cwd,
      env: { PATH: at('nowhere') },
    });
    expect([code, existsSync(at('s/BLAKE3SUMS'))]).toEqual([2, false]);
    expect(stderr).toContain('rsync');
    expect((await run(['run-mirror', '--copy-with', 'rsync', 's', 's/d'], { cwd })).code).toBe(2);
    expect(existsSync(at('s/d'))).toBe(false);
  });

  it('a dry run writes nothing', async () => {
    const { mirror, at } = tree(['a']);
    const { code, stdout } = await mirror('--copy-with', 'rsync', '--dry-run', 's', 'd');
    expect([code, existsSync(at('d')), existsSync(at('s/BLAKE3SUMS'))]).toEqual([0, false, false]);
    expect(stdout).toContain('sub/a');
  });
});

describe('the command line', () => {
  const refused =
    (args: string[], env: NodeJS.ProcessEnv = {}) =>
    () =>
      parseCall(args, env);

  it.each<[string[], NodeJS.ProcessEnv]>([
    [[], {}],
    [['s'], {}],
    [['s', 'd', 'e'], {}],
    [['--step', 'copy', 's'], {}],
    [['--step', 'both', 's', 'd'], {}],
    [['--algo', 'md5', 's', 'd'], {}],
    [['--jobs', '0', 's', 'd'], {}],
    [['--jobs', 'x', 's', 'd'], {}],
    [['--blake3-threads', '-1', 's', 'd'], {}],
    [['s', 'd'], { MIRROR_JOBS: 'many' }],
    [['s', 'd'], { MIRROR_JOBS: '0' }],
    [['s', 'd'], { MIRROR_B3THREADS: '1.5' }],
    [['--json', '--manifest', '-', 's', 'd'], {}],
    [['--frob', 's', 'd'], {}],
    [['', 'd'], {}],
    [['s', ''], {}],
    [['--manifest', '', 's', 'd'], {}],
    [['--progress', 'x', 's', 'd'], {}],
    [['--stall-timeout', 'x', 's', 'd'], {}],
    [['--copy-with', 'cp', 's', 'd'], {}],
    [['--copy-with', 'rsync', '--step', 'verify', 's', 'd'], {}],
    [['--copy-with', 'rsync', '--nice', '5', 's', 'd'], {}],
  ])('%j %j is refused', (args, env) => expect(refused(args, env)).toThrow(UsageError));

  it('the flag wins over the environment, which wins over the engine', () => {
    expect(parseCall(['s', 'd'], {}).jobs).toBeUndefined();
    expect(parseCall(['s', 'd'], { MIRROR_JOBS: '8', MIRROR_B3THREADS: '2' })).toMatchObject({ jobs: 8, threads: 2 });
    expect(parseCall(['--jobs=3', 's', 'd'], { MIRROR_JOBS: 'x' }).jobs).toBe(3);
    expect(parseCall(['s', 'd'], { MIRROR_JOBS: '' }).jobs).toBeUndefined();
  });

  it('is refused with usage and a sentence, exit 2', async () => {
    const { code, stdout, stderr } = await run(['run-mirror', 's', 'd', '--manifes'], { env: { MIRROR_JOBS: 'x' } });
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(
      /^usage: run-mirror \[-h\][\s\S]*\nrun-mirror: error: argument --manifest: needs a value\n$/,
    );
    expect((await run(['run-mirror', 's', 'd'], { env: { MIRROR_JOBS: 'x' } })).code).toBe(2);
  });

  it('help has every flag', () => {
    const page = helpText(100);
    for (const { names } of Object.values(FLAGS)) for (const name of names) expect(page).toContain(name);
  });

  it('every flag has a row in the documentation, and the original no others', () => {
    const page = readFileSync(new URL('../../../docs/dropin.md', import.meta.url), 'utf8');
    const rows = (page.split('\n## ').find((section) => section.startsWith('run-mirror\n')) ?? '').split('\n');
    const documented = rows.flatMap((row) => /^\| ((?:`-[^`]+` ?)+)\|/.exec(row)?.[1]?.trim() ?? []);
    const spelled = (flags: readonly Flag[]) => flags.map(({ names }) => names.map((name) => `\`${name}\``).join(' '));
    expect(documented.sort()).toEqual(spelled(Object.values<Flag>(FLAGS)).sort());
    expect(
      originalFlags()
        .flatMap(({ names }) => names)
        .join(' '),
    ).toBe('-h --help --jobs --blake3-threads --algo --prefer-external-b3 --manifest --dry-run --step');
  });
});
