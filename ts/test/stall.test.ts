/** The limit of silence, on the built commands, with calls that strace holds up. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { BulkhaulError } from '../src/error.js';
import { copy } from '../src/ops/copy.js';
import { executable, jsonLines, program, type Run, reported, run, scratch } from './rig.js';

const skips = reasonToSkip();
if (skips !== undefined) console.log(`skip: ${skips}`);

function reasonToSkip(): string | undefined {
  try {
    execFileSync('strace', ['-o', '/dev/null', '-e', 'inject=getpid:delay_enter=1', 'true'], { stdio: 'pipe' });
    return undefined;
  } catch (error) {
    return `strace can not hold calls up: ${error}`;
  }
}

/** A tree with a file that takes many reads. */
function tree(): string {
  const directory = scratch();
  mkdirSync(join(directory, 's/d'), { recursive: true });
  writeFileSync(join(directory, 's/a'), 'a\n');
  writeFileSync(join(directory, 's/d/b'), Buffer.alloc(3 << 20, 'b'));
  return directory;
}

/** Runs the command with the reads of s/d/b held up: `inject` says how. */
function held(cwd: string, inject: string, args: readonly string[]): Promise<Run> {
  const file = join(cwd, 's/d/b');
  const tracing = ['-f', '-o', '/dev/null', '-P', file, '-e', 'trace=pread64', '-e', `inject=pread64:${inject}`];
  return program('strace', [...tracing, process.execPath, executable, ...args], { cwd });
}

/** Much longer than what is waited for; strace itself waits to the end of it. */
const HANGS = 'delay_enter=8000000:when=1';
const SLOW = 'delay_enter=250000';

describe.skipIf(skips !== undefined)('a read that does not come back', () => {
  it('ends hpcp with 190 and the name of the file; the next run goes on', async () => {
    const cwd = tree();
    const { code, stdout, stderr } = await held(cwd, HANGS, ['hpcp', 's', '-d', 'o', '-ctl', '1', '--log-file', 'log']);
    expect(stderr).toContain(`wait ${join(cwd, 's/d/b')}: nothing moved for 1 s, so the run was given up (`);
    expect(stdout).toMatch(/return code: 190\.\n$/);
    expect(code).toBe(190);
    expect((await run(['hpcp', 's', '-d', 'o', '-ctl', '60'], { cwd })).code).toBe(0);
    expect((await run(['compare', '--content', 's', 'o'], { cwd })).code).toBe(0);
  });

  it('ends a native verb with 23, an error and a summary in JSON', async () => {
    const cwd = tree();
    const { code, stdout } = await held(cwd, HANGS, [
      'list',
      's',
      '--full-hash',
      '--json',
      '-q',
      '--stall-timeout',
      '1',
    ]);
    expect(code).toBe(23);
    const [summary] = jsonLines(stdout);
    expect(summary).toMatchObject({
      type: 'summary',
      failureKinds: { stalled: 1 },
      failures: [{ kind: 'stalled', operation: 'wait', path: join(cwd, 's/d/b') }],
      interrupted: true,
    });
    expect(summary?.elapsed).toBeLessThan(8);
  });
});

describe.skipIf(skips !== undefined)('a read that does not come back, of a list', () => {
  it.each([[[]], [['-o', 'L']]])('%j: is named, ends with 23, and leaves nothing', async (output) => {
    const cwd = tree();
    const { code, stdout, stderr } = await held(cwd, HANGS, [
      'list',
      's',
      '--full-hash',
      '--stall-timeout',
      '1',
      ...output,
    ]);
    expect(stderr).toContain(`wait ${join(cwd, 's/d/b')}: nothing moved for 1 s, so the run was given up (`);
    expect([code, stdout]).toEqual([23, '']);
    expect(readdirSync(cwd)).toEqual(['s']);
  });
});

describe.skipIf(skips !== undefined)('reads that are slow', () => {
  it('are no hang', async () => {
    const cwd = tree();
    const { code, stderr } = await held(cwd, SLOW, ['hpcp', 's', '-d', 'o', '-ctl', '1.5']);
    expect(stderr).not.toContain('nothing moved');
    expect(code).toBe(0);
  });
});

it('is a failure, whoever stopped it besides', () => {
  const ended = (failureKinds: Record<string, number>) => reported({ interrupted: true, failureKinds }).exitCode;
  expect(ended({ stalled: 1 })).toBe(23);
  expect(ended({ io: 1 })).toBe(130);
});

it.each(['-1', 'x', '1e10', ''])('%j is no time', async (time) => {
  const { code, stderr } = await run(['list', '.', `--stall-timeout=${time}`]);
  expect([code, stderr]).toEqual([2, expect.stringContaining('--stall-timeout')]);
});

it('is for the library too', async () => {
  const cwd = tree();
  const job = copy({ sources: join(cwd, 's'), destination: join(cwd, 'o') });
  job.setStallTimeout(60);
  expect((await job).failureKinds).toEqual({});
  const wrong = copy({ sources: join(cwd, 's'), destination: join(cwd, 'o') });
  wrong.setStallTimeout(-1);
  await expect(wrong.then()).rejects.toEqual(new BulkhaulError('USAGE', 'stallTimeout: -1 is not a number of seconds'));
});
