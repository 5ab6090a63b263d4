/**
 * The first signal ends a command within seconds, and says what it waits for and what stays; the second at once, whatever
 * holds it: a file system that does not answer, long loops, a reader that is stuck.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { disk, WITHOUT_DISKS } from './rig/disks.js';
import { executable, jsonLines, mountFaulty, program, run, scratch } from './rig.js';

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

/** How a command ended, and all that it printed, as far as it was read. */
interface End {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** A command at work. */
interface Started {
  child: ChildProcess;
  ended: Promise<End>;
}

/** Starts the command; `stdout: false`: what it prints there is not taken from it. `input`: it has a standard input. */
function start(args: readonly string[], cwd: string, { stdout = true, input = false } = {}): Started {
  const env = { ...process.env, NO_COLOR: '1', BULKHAUL_PROGRESS_INTERVAL: '0.05' };
  const stdio = [input ? 'pipe' : 'ignore', 'pipe', 'pipe'] as const;
  const child = spawn(process.execPath, [executable, ...args], { cwd, env, stdio: [...stdio] });
  // Before anything else fails the test.
  onTestFinished(() => void child.kill('SIGKILL'));
  const printed = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    if (name === 'stderr' || stdout) {
      child[name]?.on('data', (chunk: Buffer) => {
        printed[name] += chunk;
      });
    }
  }
  return { child, ended: new Promise((resolve) => child.on('close', (code) => resolve({ code, ...printed }))) };
}

/** Sends both signals, the first when it has begun: the status says so, or somebody else. */
async function stoppedTwice({ child, ended }: Started, begun: RegExp | Promise<void>): Promise<End> {
  await (begun instanceof RegExp ? said(child.stderr, begun) : begun);
  child.kill('SIGINT');
  await said(child.stderr, /SIGINT: stopping\b.*; once more to abort\n/);
  child.kill('SIGTERM');
  return ended;
}

describe('the first signal', () => {
  /** A file that no read gives anything of until `open` is called, and then too little in too long a time. */
  async function held(cwd: string) {
    mkdirSync(join(cwd, 's'));
    writeFileSync(join(cwd, 's/big'), '');
    // Whatever the time for the first chunk, it makes it too long for the rest.
    truncateSync(join(cwd, 's/big'), 2 ** 40);
    mkdirSync(join(cwd, 'd'));
    const gate = join(cwd, 'gate');
    const mount = await mountFaulty(join(cwd, 's'), `hang,until=${gate}`);
    if (mount) onTestFinished(mount.unmount);
    return mount && { point: mount.point, hangs: mount.hangs(), open: () => writeFileSync(gate, '') };
  }
  const STAY = 'INTERRUPTED: 0 of 2 found entries done, 1 unfinished file stays; the same command goes on (exit 130)';
  /** The next run of the same command does it. What holds nothing but a hole need not be read slowly. */
  async function goesOn(cwd: string) {
    expect(readdirSync(join(cwd, 'd')).filter((name) => name.startsWith('.bh-'))).toHaveLength(1);
    expect((await run(['copy', 's/', 'd'], { cwd })).code).toBe(0);
    expect(readdirSync(join(cwd, 'd'))).toEqual(['big']);
  }
  const WAITS = 'stopping: 1 file in flight, 1.00 TiB left';
  /** Stops a command of a held file, which is let go when the command has told what it waits for. */
  async function stoppedOnce(
    gate: NonNullable<Awaited<ReturnType<typeof held>>>,
    { child, ended }: Started,
    signal: NodeJS.Signals,
    [stream, text]: ['stdout' | 'stderr', RegExp] = ['stderr', new RegExp(`\\d ${WAITS} \\| `)],
  ): Promise<End> {
    await gate.hangs;
    child.kill(signal);
    await said(child[stream], text);
    gate.open();
    return ended;
  }

  it('in plain lines', async () => {
    const cwd = scratch();
    const gate = await held(cwd);
    if (!gate) return;
    const { code, stderr } = await stoppedOnce(gate, start(['copy', `${gate.point}/`, 'd'], cwd), 'SIGHUP');
    expect(code).toBe(130);
    expect(stderr).toContain(`SIGHUP: ${WAITS}; once more to abort\n`);
    expect(stderr.trimEnd().split('\n').at(-1)).toBe(STAY);
    expect(stderr).not.toContain('failure');
    await goesOn(cwd);
  });

  it('by a worker', async () => {
    const cwd = scratch();
    const gate = await held(cwd);
    if (!gate) return;
    const copying = start(['copy', '--workers', '1', '--state-dir', 'state', `${gate.point}/`, 'd'], cwd);
    const { code, stderr } = await stoppedOnce(gate, copying, 'SIGINT');
    expect(code).toBe(130);
    expect(stderr.trimEnd().split('\n').at(-1)).toBe(STAY);
    await goesOn(cwd);
  });

  it('in JSON lines', async () => {
    const cwd = scratch();
    const gate = await held(cwd);
    if (!gate) return;
    const copying = start(['copy', '--json', `${gate.point}/`, 'd'], cwd);
    const { code, stdout } = await stoppedOnce(gate, copying, 'SIGTERM', ['stdout', /"stopping"/]);
    expect(code).toBe(130);
    const lines = jsonLines(stdout);
    expect(lines).toContainEqual(expect.objectContaining({ type: 'status', stopping: { files: 1, bytes: 2 ** 40 } }));
    expect(lines.at(-1)).toMatchObject({
      type: 'summary',
      interrupted: true,
      unfinished: 1,
      failures: [],
      exitCode: 130,
    });
    await goesOn(cwd);
  });

  it('on a terminal', async () => {
    const cwd = scratch();
    const gate = await held(cwd);
    if (!gate) return;
    const line = `"${process.execPath}" "${executable}" copy "${gate.point}/" d`;
    const { code, stdout } = await program('script', ['-qec', line, '/dev/null'], {
      cwd,
      input: false,
      onStart: (child) => {
        void gate.hangs.then(() => child.stdin?.write('\x03'));
        void said(child.stdout, new RegExp(`\\r${WAITS} \\| [^\r]*\\r`)).then(gate.open, () => undefined);
      },
    });
    expect(code).toBe(130);
    expect(stdout).toContain(`SIGINT: ${WAITS}; once more to abort\r\n`);
    expect(stdout.trimEnd().split('\r\n').at(-1)).toBe(STAY);
    await goesOn(cwd);
  });

  it('of an image that another program makes', async () => {
    const cwd = scratch();
    const gate = await held(cwd);
    if (!gate) return;
    const { child, ended } = start(['image', 'pack', '--image-fs', 'squashfs', `${gate.point}/`, 'x.img'], cwd);
    await Promise.race([Promise.all([gate.hangs, said(child.stderr, / packing \| 0 errors \| /)]), ended]);
    child.kill('SIGTERM');
    const { code, stderr } = await ended;
    if (code === 2) return console.log(`skip: ${stderr}`);
    expect([code, stderr.trimEnd().split('\n').at(-1)]).toEqual([
      130,
      'INTERRUPTED: nothing was made; the same command begins anew (exit 130)',
    ]);
    expect(readdirSync(cwd).sort()).toEqual(['d', 's']);
  });

  it('of hpcp', async () => {
    const cwd = scratch();
    const gate = await held(cwd);
    if (!gate) return;
    const { code, stdout } = await stoppedOnce(gate, start(['hpcp', `${gate.point}/`, '-d', 'd'], cwd), 'SIGINT');
    expect(code).toBe(130);
    expect(stdout.trimEnd().split('\n').at(-1)).toBe(
      "Error occurred: ['Interrupted: 1 unfinished file stays; run the same command again to go on'], return code: 130.",
    );
  });
});

/** A manifest of a file `f`. */
const MD5SUMS = `${'0'.repeat(32)}  f\n`;

it('SIGUSR1 is for the status, also while there is none: no debugger is opened', async () => {
  const cwd = scratch();
  mkdirSync(join(cwd, 's'));
  await program('mkfifo', [join(cwd, 'rules')]);
  const { child, ended } = start(['copy', '--exclude-from', 'rules', 's', 'd'], cwd);
  // It can be opened as soon as the command reads it.
  const rules = await open(join(cwd, 'rules'), 'w');
  child.kill('SIGUSR1');
  await rules.close();
  const { code, stderr } = await ended;
  expect([code, stderr]).toEqual([0, expect.stringContaining('complete: 1 entry')]);
  expect(stderr).not.toContain('ebugger');
});

describe('a read that does not come back', () => {
  it.each([
    'copy M/ o',
    'copy --verify M/ there',
    'move M/ o',
    'migrate M/ o',
    'compress M/',
    'pack M/ o',
    'unpack M/p o',
    'list --full-hash M/',
    'manifest M/',
    'verify --in M/ MD5SUMS',
    'compare --content M/ there/',
    'hpcp M/ -d o -fh',
  ])('%s', async (line) => {
    const cwd = scratch();
    for (const directory of ['s', 'there']) {
      mkdirSync(join(cwd, directory));
      writeFileSync(join(cwd, directory, 'f'), Buffer.alloc(1 << 20));
      utimesSync(join(cwd, directory, 'f'), 1, 1);
    }
    writeFileSync(join(cwd, 'MD5SUMS'), MD5SUMS);
    if (line.startsWith('unpack')) await run(['pack', '-q', 'there/', 's/p'], { cwd });
    const mount = await mountFaulty(join(cwd, 's'), 'hang');
    if (mount === undefined) return;
    const { point, hangs, unmount } = mount;
    onTestFinished(unmount);
    const hung = hangs();
    const args = line.split(' ').map((word) => word.replace(/^M\//, `${point}/`));
    const { code, stderr } = await stoppedTwice(start(args, cwd), hung);
    expect(stderr).toContain('SIGTERM: aborting\n');
    expect(stderr).toContain('what did not come back was left behind');
    // Whoever asks for anything else of it waits too, and may be the one that is named.
    if (!line.startsWith('hpcp')) expect(stderr).toContain(`first at ${point}`);
    // What it has made of the file stays, under a name that nobody takes for it.
    const makes = /^(copy M|move|hpcp)/.test(line);
    expect(/\b1 unfinished file stays\b/.test(stderr), stderr).toBe(makes);
    expect(code).toBe(130);
  });
});

it.skipIf(WITHOUT_DISKS !== undefined)('an image that no read gives anything of is not waited for', async () => {
  const cwd = scratch();
  mkdirSync(join(cwd, 's'));
  writeFileSync(join(cwd, 's/i.img'), '');
  truncateSync(join(cwd, 's/i.img'), 2 ** 20);
  const mount = await mountFaulty(join(cwd, 's'), 'hang');
  if (mount === undefined) return;
  onTestFinished(mount.unmount);
  const hung = mount.hangs();
  const { child, ended } = start(['image', 'inspect', join(mount.point, 'i.img')], cwd);
  await hung;
  child.kill('SIGINT');
  expect((await ended).code).toBe(130);
});

it.skipIf(WITHOUT_DISKS !== undefined)(
  'a file that Node.js itself reads, and that gives nothing any more',
  async () => {
    const cwd = scratch();
    mkdirSync(join(cwd, 's'));
    const [from, to, gate] = [join(cwd, 's/disk.img'), join(cwd, 'to.img'), join(cwd, 'gate')];
    // Nothing is known of what is in it, so its bytes are copied.
    disk(from, '40M', 'label: dos\nsize=32MiB', []);
    writeFileSync(to, 'something');
    writeFileSync(gate, '');
    const mount = await mountFaulty(join(cwd, 's'), `hang,until=${gate}`);
    if (mount === undefined) return;
    onTestFinished(mount.unmount);
    const args = ['image', 'clone', '--no-journal', join(mount.point, 'disk.img'), to];
    const cloning = start(args, cwd, { input: true });
    const { stdin, stderr: told } = cloning.child;
    await said(told, /Overwrite it\?/);
    rmSync(gate);
    const copying = said(told, / 0 of 1 file /);
    stdin?.end('y\n');
    const { code, stderr } = await stoppedTwice(cloning, copying);
    expect(stderr).toContain('SIGTERM: not everything came to an end; run the same command again to go on\n');
    expect(code).toBe(130);
    expect(readFileSync(to, 'utf8')).toBe('something');
  },
);

describe('a directory that is never listed', () => {
  it.each([
    'copy M/ o',
    'copy --workers 1 M/ o',
    'list M/',
    'partition --parts 2 -o L.{} M/',
    'remove -f M/month=1',
    'retain --key month --keep 1 M/',
  ])('%s', async (line) => {
    const cwd = scratch();
    mkdirSync(join(cwd, 's/month=1'), { recursive: true });
    const mount = await mountFaulty(join(cwd, 's'), 'unlisted');
    if (mount === undefined) return;
    const args = line.split(' ').map((word) => word.replace('M/', `${mount.point}/`));
    const hung = mount.hangs();
    const { child, ended } = start([...args, '--state-dir', join(cwd, 'state')], cwd);
    try {
      await hung;
      child.kill('SIGHUP');
      await said(child.stderr, /SIGHUP: stopping\b.*; once more to abort\n/);
      child.kill('SIGTERM');
      // The rest is the kernel's, which ends no such call.
      await said(child.stderr, /\nINTERRUPTED: .* \(exit 130\)\n/);
    } finally {
      await mount.unmount();
    }
    expect((await ended).code).toBe(130);
  });
});

describe('what would take weeks', () => {
  it.each([
    'copy --verify a/ o',
    'copy --full-hash a/ b',
    'copy --move a/ o',
    'list --full-hash a/',
    'manifest a/',
    'verify --in a MD5SUMS',
    'compare --content a/ b/',
    'hpcp -cfl a/ b/ -fh',
  ])('%s', async (line) => {
    const cwd = scratch();
    for (const directory of ['a', 'b']) {
      mkdirSync(join(cwd, directory));
      writeFileSync(join(cwd, directory, 'f'), '');
      // As long as any file system allows.
      truncateSync(join(cwd, directory, 'f'), 2 ** 43);
      utimesSync(join(cwd, directory, 'f'), 1, 1);
    }
    writeFileSync(join(cwd, 'MD5SUMS'), MD5SUMS);
    const { child, ended } = start(line.split(' '), cwd);
    await said(child.stderr, /[1-9] files?\b/);
    child.kill('SIGINT');
    // Nobody sends another.
    expect((await ended).code).toBe(130);
  });
});

it('a reader that takes nothing', async () => {
  const cwd = scratch();
  mkdirSync(join(cwd, 's'));
  const name = 'x'.repeat(200);
  // More than the pipe and the command hold of what is to be printed.
  for (let number = 0; number < 2000; number++) writeFileSync(join(cwd, 's', `${name}${number}`), '');
  const copying = start(['copy', '-n', 's', 'o'], cwd, { stdout: false });
  const { code, stderr } = await stoppedTwice(copying, /2,000 (done|of)/);
  expect(stderr).toContain('SIGTERM: not everything came to an end; run the same command again to go on\n');
  expect(code).toBe(130);
});

describe('a command that was killed', () => {
  it.each([
    ['copy', (args: string[]) => ['copy', ...args, 's/', 'd']],
    ['hpcp', (args: string[]) => ['hpcp', ...args, 's/big', '-d', 'd']],
  ])('is gone on with inside a big file: %s', async (_, command) => {
    const cwd = scratch();
    for (const name of ['s', 'd']) mkdirSync(join(cwd, name));
    writeFileSync(join(cwd, 's/big'), Buffer.alloc(48 * 2 ** 20, 'not a hole'));
    // Slow enough to be met in the middle.
    const { child, ended } = start(command(['--bwlimit', '20m', '--json']), cwd, { stdout: false });
    await said(child.stdout, /"copiedBytes":[1-9]\d{6}/);
    child.kill('SIGKILL');
    await ended;
    const { code, stdout } = await run(command(['--json', '--quiet']), { cwd });
    expect(code).toBe(0);
    const summary = jsonLines(stdout).at(-1);
    expect(summary).toMatchObject({ type: 'summary', resumedFiles: 1 });
    const { resumedBytes = 0, copiedBytes = 0 } = summary as { resumedBytes?: number; copiedBytes?: number };
    expect(resumedBytes).toBeGreaterThan(0);
    expect(resumedBytes + copiedBytes).toBe(48 * 2 ** 20);
    expect(readdirSync(join(cwd, 'd'))).toEqual(['big']);
    expect(readFileSync(join(cwd, 'd/big')).equals(readFileSync(join(cwd, 's/big')))).toBe(true);
  });
});
