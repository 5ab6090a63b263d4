/** Manifests, verifications and verified copies that died: the next run reads nothing again that was read, and everything that may have changed. */
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { jobs, manifest } from '../src/index.js';
import { jsonLines, run, scratch } from './rig.js';

const FILES = 60;
const BYTES = 16 * 1024;
/** So slow that no run ends before it is killed. */
const SLOW = ['--bwlimit', '32', '--jobs', '2'];
const HEAD = 40;

/** A tree `t` of as many files, and a way to kill a command as soon as it has written down that it finished more. */
function tree() {
  const cwd = scratch();
  const at = (...names: string[]) => join(cwd, ...names);
  execFileSync('mkdir', [at('t')]);
  const write = (change = 0) => {
    for (let file = 0; file < FILES; file += 1) {
      const path = at('t', String(file));
      const content = Buffer.alloc(BYTES, `content of ${file}`);
      content[0] = (content[0] ?? 0) ^ change;
      writeFileSync(path, content);
      utimesSync(path, 1e9, 1e9);
    }
  };
  write();
  const common = ['--journal', '--state-dir', at('state')];
  /** The log of what is finished. */
  const log = () => {
    if (!existsSync(at('state/jobs'))) return undefined;
    const [job = ''] = readdirSync(at('state/jobs'));
    const path = at('state/jobs', job, 'finished');
    return existsSync(path) ? path : undefined;
  };
  /** How many pieces are in it. */
  const pieces = (record: number) => {
    const path = log();
    return path === undefined ? 0 : Math.floor((statSync(path).size - HEAD) / record);
  };
  const killed = async (record: number, ...args: string[]) => {
    const before = pieces(record);
    let more = 0;
    const { code } = await run([...args, ...SLOW, ...common], {
      cwd,
      onStart: async (child) => {
        while (more <= before && child.exitCode === null) {
          await setTimeout(20);
          more = pieces(record);
        }
        child.kill('SIGKILL');
      },
    });
    expect([code, more > before]).toEqual([null, true]);
    return pieces(record);
  };
  const bh = (...args: string[]) => run([...args, ...common], { cwd });
  return { cwd, at, bh, killed, log, write, pieces };
}

const ofManifest = (digests: number) => 16 + digests + 8;
const OF_PROOF = 16 + 8;

describe('a manifest that was killed', () => {
  it('goes on where it was, again and again, and has the same bytes', async () => {
    const { at, bh, killed, log } = tree();
    const made = ['manifest', '-o', 'M', 't'];
    let finished = 0;
    for (let kill = 0; kill < 3; kill += 1) finished = await killed(ofManifest(32), ...made);
    expect(existsSync(at('M'))).toBe(false);
    const { code, stdout } = await bh(...made, '--json');
    const { resumedFiles, resumedBytes, hashedBytes, outcomes } = jsonLines(stdout).at(-1) ?? {};
    expect(code).toBe(0);
    expect({ resumedFiles, resumedBytes, hashedBytes, outcomes }).toMatchObject({
      resumedFiles: finished,
      resumedBytes: finished * BYTES,
      hashedBytes: (FILES - finished) * BYTES,
      outcomes: { listed: FILES, failed: 0 },
    });
    execFileSync('b3sum', ['--check', '--quiet', 'M'], { cwd: at('.') });
    // What ended is done: the next one reads all.
    expect(log()).toBeUndefined();
    const again = jsonLines((await bh(...made, '--json')).stdout).at(-1);
    expect(again).toMatchObject({ resumedFiles: 0, hashedBytes: FILES * BYTES });
  });

  it('reads what changed meanwhile, if only its time of change tells, and says what it did not read', async () => {
    const { at, bh, killed, write } = tree();
    const made = ['manifest', '-a', 'md5', '-a', 'sha256', '--format', 'jsonl', '-o', 'M', 't'];
    const finished = await killed(ofManifest(48), ...made);
    const [job] = await jobs(at('state'));
    expect([job?.state, job?.operation]).toEqual(['interrupted', 'manifest']);
    write(1);
    const { code, stderr } = await bh(...made);
    expect([code, stderr.includes('resumed')]).toEqual([0, false]);
    const fresh = await manifest({ sources: at('t'), format: 'jsonl', algorithms: ['md5', 'sha256'], output: at('N') });
    expect([fresh.complete, readFileSync(at('M'), 'utf8')]).toEqual([true, readFileSync(at('N'), 'utf8')]);
    expect(finished).toBeGreaterThan(0);
  });

  it('has a log that is damaged, cut short or of another work: what it still tells holds, and nothing else', async () => {
    const { at, killed, log } = tree();
    const made = ['manifest', '-o', 'M', 't'];
    const finished = await killed(ofManifest(32), ...made);
    const path = log() ?? '';
    const whole = readFileSync(path).subarray(0, HEAD + finished * ofManifest(32));
    const [state = ''] = readdirSync(at('state/jobs'));
    for (const [content, holds] of [
      [Buffer.concat([whole, Buffer.from('torn')]), finished],
      [Buffer.from(whole).fill(0, HEAD + 20, HEAD + 21), finished - 1],
      [Buffer.from('nothing of the kind'), 0],
      [Buffer.alloc(0), 0],
    ] as const) {
      execFileSync('cp', ['-a', at('state'), at('copy')]);
      writeFileSync(join(at('copy/jobs'), state, 'finished'), content);
      const { code, stdout } = await run([...made, '--json', '--journal', '--state-dir', at('copy')], { cwd: at('.') });
      const { resumedFiles, notes } = jsonLines(stdout).at(-1) ?? {};
      expect({ code, resumedFiles, notes }).toEqual({ code: 0, resumedFiles: holds, notes: [] });
      execFileSync('b3sum', ['--check', '--quiet', 'M'], { cwd: at('.') });
      rmSync(at('copy'), { recursive: true });
    }
  });
});

describe('a verification that was killed', () => {
  it('goes on where it was, and ends as one that was not', async () => {
    const { at, bh, killed, log } = tree();
    await run(['manifest', '-o', at('M'), at('t/')]);
    const verified = ['verify', '--in', 't', 'M'];
    let finished = 0;
    for (let kill = 0; kill < 3; kill += 1) finished = await killed(OF_PROOF, ...verified);
    const [job] = await jobs(at('state'));
    expect([job?.state, job?.operation]).toEqual(['interrupted', 'verify']);
    expect(job?.sources).toEqual([at('M'), at('t')]);
    const { code, stderr } = await bh(...verified);
    expect([code, stderr]).toEqual([0, expect.stringContaining(`verified: ${FILES - finished} files `)]);
    expect(stderr).toMatch(new RegExp(`\nresumed: ${finished} files? \\(.*\\) w(as|ere) verified by the run before`));
    expect(log()).toBeUndefined();
    expect((await bh(...verified)).stderr).toContain(`verified: ${FILES} files `);
  });

  it('trusts nothing that was written to since, nor for another digest, and forgets what it proved when it ends', async () => {
    const { at, bh, killed, write, log } = tree();
    await run(['manifest', '-o', at('M'), at('t/')]);
    const verified = ['verify', '--in', 't', 'M'];
    await killed(OF_PROOF, ...verified);
    write(1);
    const found = async (...args: string[]) => {
      const { code, stdout } = await bh(...args, '--json');
      const { resumedFiles, failureKinds } = jsonLines(stdout).at(-1) ?? {};
      return { code, resumedFiles, failureKinds };
    };
    expect(await found(...verified)).toEqual({ code: 1, resumedFiles: 0, failureKinds: { mismatch: FILES } });
    // It came to its end, whatever it found.
    expect(log()).toBeUndefined();
    await run(['manifest', '-o', at('M'), at('t/')]);
    await killed(OF_PROOF, ...verified);
    // The same manifest says something else now.
    write();
    await run(['manifest', '-o', at('M'), at('t/')]);
    expect(await found(...verified)).toEqual({ code: 0, resumedFiles: 0, failureKinds: {} });
  });
});

describe('a list and a comparison that were killed', () => {
  it.each([
    ['a list with whole hashes', 16 + 8 + 8, ['list', '--full-hash', '-o', 'L', 't/'], []],
    ['a comparison of contents', 16 + 1 + 8, ['compare', '--content', 't', 'u'], ['A', 'B']],
    ['a comparison with a list', 16 + 8 + 8, ['compare', '--full-hash', '--list-a', 'K', 't'], []],
  ])('go on where they were: %s', async (_, record, command, sides) => {
    const { at, bh, killed, log } = tree();
    execFileSync('cp', ['-a', at('t'), at('u')]);
    await run(['list', '--full-hash', '-o', at('K'), `${at('t')}/`]);
    const finished = await killed(record, ...command);
    // What was written to since is read again, though size and time of modification are as they were.
    const other = at(sides.length > 0 ? 'u' : 't', '0');
    const [first] = readFileSync(other);
    const content = readFileSync(other);
    content[0] = (first ?? 0) ^ 1;
    writeFileSync(other, content);
    utimesSync(other, 1e9, 1e9);
    const { stdout, stderr } = await bh(...command, '--json');
    const { resumedFiles, exitCode, differences } = jsonLines(stdout).at(-1) ?? {};
    expect([finished - 1, finished], stderr).toContain(resumedFiles);
    expect(log()).toBeUndefined();
    if (command[0] === 'compare') {
      expect({ exitCode, differences }).toMatchObject({ exitCode: 1, differences: { changed: 1, left: 0, right: 0 } });
      return;
    }
    expect(exitCode).toBe(0);
    await run([...command.slice(0, -2), at('N'), command.at(-1) ?? ''], { cwd: at('.') });
    expect(readFileSync(at('L'), 'utf8')).toBe(readFileSync(at('N'), 'utf8'));
    expect(readFileSync(at('L'), 'utf8')).not.toBe(readFileSync(at('K'), 'utf8'));
  });

  it('have nothing to write down where only the ends of files are read', async () => {
    const { at, bh } = tree();
    const { code, stderr } = await bh('list', '-o', 'L', 't/', '--bwlimit', '32', '--max-duration', '1');
    expect([code, stderr]).toEqual([130, expect.stringContaining('the same command begins anew')]);
    expect(existsSync(at('L'))).toBe(false);
  });
});

describe('a verified copy that was killed', () => {
  /** Directories of their own: what is proved is written down when a directory is done. */
  function spread() {
    const made = tree();
    for (let file = 0; file < FILES; file += 1) {
      mkdirSync(made.at('t', `d${file}`));
      renameSync(made.at('t', String(file)), made.at('t', `d${file}`, 'f'));
    }
    return made;
  }

  it('proves nothing twice, and everything once', async () => {
    const { at, bh, killed, log } = spread();
    const copied = ['copy', '--verify', 't/', 'c'];
    let finished = 0;
    for (let kill = 0; kill < 3; kill += 1) finished = await killed(OF_PROOF, ...copied);
    const { code, stdout } = await bh(...copied, '--json');
    const { resumedFiles, resumedBytes, verifiedFiles, outcomes } = jsonLines(stdout).at(-1) ?? {};
    expect({ code, resumedFiles, resumedBytes, verifiedFiles }).toEqual({
      ...{ code: 0, resumedFiles: finished, resumedBytes: finished * BYTES },
      verifiedFiles: FILES - finished,
    });
    expect(outcomes).toMatchObject({ failed: 0, mismatched: 0 });
    execFileSync('diff', ['-r', at('t'), at('c')]);
    expect(log()).toBeUndefined();
    const again = jsonLines((await bh(...copied, '--json')).stdout).at(-1);
    expect(again).toMatchObject({ resumedFiles: 0, verifiedFiles: FILES });
  });

  it('proves nothing twice where its sources go, but each of them when it goes', async () => {
    const { at, bh, killed, log } = spread();
    const moved = ['copy', '--move', '--verify', 't/', 'c'];
    const finished = await killed(OF_PROOF, ...moved);
    const { code, stdout } = await bh(...moved, '--json');
    const { resumedFiles, verifiedFiles } = jsonLines(stdout).at(-1) ?? {};
    expect({ code, resumedFiles, verifiedFiles }).toEqual({
      ...{ code: 0, resumedFiles: finished, verifiedFiles: 2 * FILES - finished },
    });
    expect([existsSync(at('t/d0')), readdirSync(at('c')).length, log()]).toEqual([false, FILES, undefined]);
  });

  it('reads a copy again that was written to since, and puts it right', async () => {
    const { at, bh, killed } = spread();
    const copied = ['copy', '--verify', 't/', 'c'];
    expect(await killed(OF_PROOF, ...copied)).toBeGreaterThan(0);
    for (const name of readdirSync(at('c'))) {
      const path = at('c', name, 'f');
      if (!existsSync(path)) continue;
      const content = readFileSync(path);
      content[0] = (content[0] ?? 0) ^ 1;
      writeFileSync(path, content);
      utimesSync(path, 1e9, 1e9);
    }
    const last = jsonLines((await bh(...copied, '--json')).stdout).at(-1);
    expect(last).toMatchObject({ exitCode: 0, resumedFiles: 0 });
    execFileSync('diff', ['-r', at('t'), at('c')]);
  });
});

describe('a copy that is killed again and again', () => {
  const MIB = 2 ** 20;
  const journal = ['--journal', '--state-dir', 'state'];
  const none = ['--no-journal'];
  const exhaustive = process.env.BULKHAUL_EXHAUSTIVE !== undefined;

  /** Bytes that a process has written so far; undefined: it is gone. */
  function writtenBy(id: number | undefined): number | undefined {
    try {
      return Number(/^wchar: (\d+)$/m.exec(readFileSync(`/proc/${id}/io`, 'utf8'))?.[1] ?? 0);
    } catch {
      return undefined;
    }
  }

  /** Bytes below a directory: of one file what it takes, of many those that are finished, which their time tells. */
  function thereIn(path: string, one: boolean): number {
    if (!existsSync(path)) return 0;
    const files = readdirSync(path, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    const bytes = ({ blocks, size, mtimeMs }: Stats) => (one ? blocks * 512 : mtimeMs === 1e12 ? size : 0);
    return files.reduce((sum, { parentPath, name }) => sum + bytes(statSync(join(parentPath, name))), 0);
  }

  /** A tree of as many files, each of as many bytes, eight in a directory. */
  function lay(at: string, files: number, bytes: number): void {
    for (let file = 0; file < files; file += 1) {
      const directory = join(at, `d${Math.floor(file / 8)}`);
      mkdirSync(directory, { recursive: true });
      const path = join(directory, String(file));
      const block = Buffer.alloc(Math.min(bytes, 64 * MIB), `content of ${file}`);
      for (let left = bytes; left > 0; left -= block.length) appendFileSync(path, block.subarray(0, left));
      utimesSync(path, 1e9, 1e9);
    }
  }

  /** What is copied, and when it is killed: after a part of it, or so many milliseconds after its first bytes. */
  interface Case {
    files: number;
    bytes: number;
    limit?: string;
    every?: number;
  }

  const EVERY: [string, Case, readonly string[]][] = [
    ['a tree without a journal', { files: 400, bytes: 64 * 1024, limit: '24m' }, none],
    ['a big file', { files: 1, bytes: 128 * MIB, limit: '96m' }, none],
    ['a file of 2 GiB, every 50 ms', { files: 1, bytes: 2048 * MIB, every: 50 }, none],
    ['the same, verified, with a journal', { files: 1, bytes: 2048 * MIB, every: 50 }, [...journal, '--verify']],
    ['a tree, every 50 ms', { files: 2500, bytes: 64 * 1024, every: 50 }, journal],
    ['a tree of larger files, every 50 ms', { files: 1200, bytes: 160 * 1024, every: 50 }, journal],
  ];

  it.each<[string, Case, readonly string[]]>([
    // Less than is synced at once.
    ['a tree', { files: 60, bytes: 512 * 1024, limit: '32m' }, journal],
    ['a big file that is verified', { files: 1, bytes: 128 * MIB, limit: '96m' }, [...journal, '--verify']],
    ...(exhaustive ? EVERY : []),
  ])(
    'never has less, and writes little twice: %s',
    async (_, { files, bytes, limit, every }, options) => {
      const cwd = scratch();
      lay(join(cwd, 's'), files, bytes);
      const payload = files * bytes;
      const slow = limit === undefined ? [] : ['--bwlimit', limit];
      const command = ['copy', '--json', '--quiet', '--jobs', '2', ...slow, ...options, 's/', 'd'];
      // Beside the content, which is less than all of it, there is what says how far it is.
      const has = () => Math.min(thereIn(join(cwd, 'd'), files === 1), payload);
      let [taken, written, kills] = [0, 0, 0];
      for (;;) {
        const { code, stdout } = await run(command, {
          cwd,
          onStart: async (child) => {
            // Not when all of it may be there.
            const enough = every === undefined ? (payload * 2) / 7 : 64 * 1024;
            while ((writtenBy(child.pid) ?? enough) < enough) await setTimeout(2);
            await setTimeout(every ?? 0);
            child.kill('SIGSTOP');
            const before = writtenBy(child.pid) ?? 0;
            child.kill('SIGKILL');
            // Of one that has ended by itself its summary tells.
            child.once('exit', (code) => {
              if (code === null) written += before;
            });
          },
        });
        if (code === 0) {
          written += Number(jsonLines(stdout).at(-1)?.copiedBytes);
          break;
        }
        expect(code).toBe(null);
        kills += 1;
        const now = has();
        expect(now).toBeGreaterThanOrEqual(taken);
        taken = now;
      }
      console.log(`${kills} kills, ${(written / payload).toFixed(2)} times its bytes were written`);
      expect(kills).toBeGreaterThan(0);
      expect(written).toBeLessThanOrEqual(1.2 * payload);
      execFileSync('diff', ['-r', 's', 'd'], { cwd });
      rmSync(cwd, { recursive: true });
    },
    exhaustive ? 600_000 : undefined,
  );
});
