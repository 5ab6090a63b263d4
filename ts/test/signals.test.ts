/** The second signal ends a command, whatever holds it: a file system that does not answer, long loops, a reader that is stuck. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { executable, mountFaulty, scratch } from './rig.js';

/** Resolves when a stream has said this. */
function said(stream: NodeJS.ReadableStream | null, text: RegExp): Promise<void> {
  return new Promise((resolve, reject) => {
    let all = '';
    stream?.on('data', (chunk: Buffer) => {
      all += chunk;
      if (text.test(all)) resolve();
    });
    stream?.on('end', () => reject(new Error(`it ended, and said: ${all}`)));
  });
}

/** Starts the command; `read`: what it prints is taken from it. */
function start(args: readonly string[], cwd: string, read = true): ChildProcess {
  const env = { ...process.env, NO_COLOR: '1', BULKHAUL_PROGRESS_INTERVAL: '0.05' };
  const child = spawn(process.execPath, [executable, ...args], { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
  if (read) child.stdout?.resume();
  // Before anything else fails the test.
  onTestFinished(() => void child.kill('SIGKILL'));
  return child;
}

/** Sends both signals, the first when it has begun: the status says so, or somebody else; answers code and standard error. */
async function stoppedTwice(
  child: ChildProcess,
  begun: RegExp | Promise<void>,
): Promise<{ code: number | null; stderr: string }> {
  let stderr = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr += chunk;
  });
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  await (begun instanceof RegExp ? said(child.stderr, begun) : begun);
  child.kill('SIGINT');
  await said(child.stderr, /finishing what is in flight/);
  child.kill('SIGTERM');
  return { code: await ended, stderr };
}

describe('a read that does not come back', () => {
  it.each([
    'copy M/ o',
    'copy --verify M/ there',
    'list --full-hash M/',
    'compare --content M/ there/',
    'hpcp M/ -d o -fh',
  ])('%s', async (line) => {
    const cwd = scratch();
    for (const directory of ['s', 'there']) {
      mkdirSync(join(cwd, directory));
      writeFileSync(join(cwd, directory, 'f'), Buffer.alloc(1 << 20));
      utimesSync(join(cwd, directory, 'f'), 1, 1);
    }
    const mount = await mountFaulty(join(cwd, 's'), 'hang');
    if (mount === undefined) return;
    const { point, hangs, unmount } = mount;
    onTestFinished(unmount);
    const hung = hangs();
    const args = line.split(' ').map((word) => (word === 'M/' ? `${point}/` : word));
    const { code, stderr } = await stoppedTwice(start(args, cwd), hung);
    expect(stderr).toContain('SIGTERM: aborting\n');
    expect(stderr).toContain('what did not come back was left behind');
    if (!line.startsWith('hpcp')) expect(stderr).toContain(join(point, 'f'));
    expect(code).toBe(130);
  });
});

describe('what would take weeks', () => {
  it.each([
    'copy --verify a/ o',
    'copy --full-hash a/ b',
    'copy --move a/ o',
    'list --full-hash a/',
    'compare --content a/ b/',
  ])('%s', async (line) => {
    const cwd = scratch();
    for (const directory of ['a', 'b']) {
      mkdirSync(join(cwd, directory));
      writeFileSync(join(cwd, directory, 'f'), '');
      // As long as any file system allows.
      truncateSync(join(cwd, directory, 'f'), 2 ** 43);
      utimesSync(join(cwd, directory, 'f'), 1, 1);
    }
    const { code, stderr } = await stoppedTwice(start(line.split(' '), cwd), /[1-9] files?\b/);
    expect(stderr).not.toContain('left behind');
    expect(code).toBe(130);
  });
});

it('a reader that takes nothing', async () => {
  const cwd = scratch();
  mkdirSync(join(cwd, 's'));
  const name = 'x'.repeat(200);
  // More than the pipe and the command hold of what is to be printed.
  for (let number = 0; number < 2000; number++) writeFileSync(join(cwd, 's', `${name}${number}`), '');
  const child = start(['copy', '-n', 's', 'o'], cwd, false);
  const { code, stderr } = await stoppedTwice(child, /2,000 (done|of)/);
  expect(stderr).toContain('SIGTERM: not everything came to an end; run the same command again to go on\n');
  expect(code).toBe(130);
});
