/** Journals: what is written, what is read again whatever happened to it, and jobs that go on by them. */
import { execFileSync, spawn } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname, uptime } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import type { ErrorEvent, Snapshot } from '../src/events.js';
import { copy, jobs, journalOf, resume } from '../src/index.js';
import { Journal } from '../src/journal/journal.js';
import { holderOf, Lease } from '../src/journal/lease.js';
import { glance, pristine, recordsOf } from '../src/journal/reader.js';
import { type Conclusion, FORMAT, type JournalRecord, type Operation, seal, unseal } from '../src/journal/record.js';
import type { JobSummary } from '../src/journal/store.js';
import { loadAddon } from '../src/native.js';
import { Job } from '../src/ops/job.js';
import {
  executable,
  FakeNative,
  jsonLines,
  outcomes,
  program,
  reported,
  run,
  scratch,
  snapshot,
  zombie,
} from './rig.js';

const addon = await loadAddon();

/** Why strace can not kill here; undefined: it can. */
const straceFault = (() => {
  try {
    execFileSync('strace', ['-o', '/dev/null', '-e', 'inject=getpid:error=EIO', 'true'], { stdio: 'pipe' });
    return undefined;
  } catch (error) {
    return `strace can not make calls fail: ${error}`;
  }
})();
if (straceFault !== undefined) console.log(`skip: ${straceFault}`);

const JOB: JournalRecord = {
  type: 'job',
  format: FORMAT,
  id: 'copy-1',
  operation: 'copy',
  directory: '/',
  options: {},
};
const attempt = (number: number): JournalRecord => ({
  ...{ type: 'attempt', number, time: '2026-01-01T00:00:00.000Z', host: 'h', process: 1 },
});
const failure = (path: string): JournalRecord => ({
  ...{ type: 'error', kind: 'io', outcome: 'failed', operation: 'read', path, entryKind: 'file', message: 'm' },
});

/** Writes a journal of these records. */
function written(records: readonly JournalRecord[], path = join(scratch(), 'journal.jsonl')): string {
  let [before, text] = ['', ''];
  for (const record of records) {
    const { line, digest } = seal(record, before);
    text += line;
    before = digest;
  }
  appendFileSync(path, text);
  return path;
}

async function read(path: string) {
  const condition = pristine();
  const records: JournalRecord[] = [];
  for await (const record of recordsOf(path, condition)) records.push(record);
  return { records, ...condition };
}

describe('the lines', () => {
  const names = [
    'plain',
    'new\nline',
    '\udcff\udc80',
    '"quoted"',
    '\u2028',
    'x'.repeat(70_000),
    ',"digest":"0123456789abcdef"}',
  ];

  it.each(names)('keep a name: %j', async (name) => {
    const records = [JOB, attempt(1), failure(name)];
    expect((await read(written(records))).records).toEqual(records);
  });

  it('show any bit that flips, and tell the others', async () => {
    const whole = readFileSync(written([JOB, attempt(1), failure('a'), failure('b')]));
    const lines = whole.toString().split('\n');
    const first = (lines[0]?.length ?? 0) + 1;
    const path = join(scratch(), 'journal.jsonl');
    for (let at = first; at < whole.length; at += 1) {
      const bent = Buffer.from(whole);
      bent[at] = (bent[at] ?? 0) ^ (1 << (at % 8));
      writeFileSync(path, bent);
      const { records, damaged, torn } = await read(path);
      expect(damaged > 0 || torn).toBe(true);
      expect(records[0]).toEqual(JOB);
      for (const record of records) expect([JOB, attempt(1), failure('a'), failure('b')]).toContainEqual(record);
    }
  });

  it('show one that is missing, or out of place', async () => {
    const lines = readFileSync(written([JOB, attempt(1), failure('a'), failure('b')]), 'utf8').split(/(?<=\n)/);
    const of = async (...order: number[]) => {
      const path = join(scratch(), 'journal.jsonl');
      writeFileSync(path, order.map((at) => lines[at]).join(''));
      return (await read(path)).damaged;
    };
    expect(await of(0, 1, 2, 3)).toBe(0);
    expect(await of(0, 2, 3)).toBe(1);
    expect(await of(0, 2, 1, 3)).toBeGreaterThan(0);
    expect(await of(0, 1, 1, 2, 3)).toBeGreaterThan(0);
  });

  it('may be torn at the end, anywhere', async () => {
    const records = [JOB, attempt(1), failure('a')];
    const whole = readFileSync(written(records));
    const path = join(scratch(), 'journal.jsonl');
    const second = whole.indexOf(10) + 1;
    for (let end = second; end < whole.length; end += 1) {
      writeFileSync(path, whole.subarray(0, end));
      const found = await read(path);
      expect(found.damaged).toBe(0);
      expect(records).toEqual(expect.arrayContaining(found.records));
      expect(found.length).toBe(whole.subarray(0, end).lastIndexOf(10) + 1);
      expect(found.torn).toBe(found.length < end);
      expect(glance(path).job).toEqual(JOB);
    }
  });

  it.each([
    ['nothing', ''],
    ['text', 'hello\nworld\n'],
    ['bytes', Buffer.from([0, 255, 10, 0])],
    ['JSON of another', '{"type":"status"}\n'],
    ['a first line that is damaged', `${seal(JOB, '').line.replace('copy-1', 'copy-2')}`],
  ])('that are none are refused: %s', async (_, content) => {
    const path = join(scratch(), 'journal.jsonl');
    writeFileSync(path, content);
    const refused = {
      code: 'JOURNAL',
      message: expect.stringMatching(/^this is no journal that can be read, .*journal\.jsonl$/),
    };
    await expect(read(path)).rejects.toMatchObject(refused);
    expect(() => glance(path)).toThrow(expect.objectContaining(refused));
  });

  it('of a newer version are refused by its number', async () => {
    const path = written([{ ...JOB, format: FORMAT + 1 } as JournalRecord]);
    const refused = {
      code: 'JOURNAL',
      message: expect.stringContaining(`newer version (format ${FORMAT + 1}; this one reads ${FORMAT})`),
    };
    await expect(read(path)).rejects.toMatchObject(refused);
  });

  it('are no record when nothing is right', () => {
    for (const line of ['', '{', '{"type":"job"}', '{"type":"job","digest":"0123456789abcdef"}', '\0']) {
      expect(unseal(line, '').record).toBeUndefined();
    }
  });

  it('of a last attempt say how a job stands, also behind very many others', async () => {
    const many = Array.from({ length: 2000 }, (_, at) => failure(`f${at}`));
    const end: JournalRecord = {
      ...{ type: 'end', time: '2026-01-01T00:00:01.000Z', state: 'failed', exitCode: 23, sentence: 's', attempt: 1 },
      ...{ elapsed: 1, entries: 2000, bytes: 0, copiedBytes: 0, errors: 2000 },
    };
    expect(glance(written([JOB, attempt(1), ...many, end])).end).toEqual(end);
    expect(glance(written([JOB, attempt(1), end, attempt(2)]))).not.toHaveProperty('end');
  });
});

describe('a lease', () => {
  it('is one at a time, and free when it was given back', async () => {
    const path = join(scratch(), 'lease');
    const first = Lease.take(path, addon);
    expect(first).toBeInstanceOf(Lease);
    expect(Lease.take(path, addon)).toMatchObject({ host: hostname(), process: process.pid });
    expect(await holderOf(path, addon)).toMatchObject({ process: process.pid });
    (first as Lease).release();
    expect(await holderOf(path, addon)).toBeUndefined();
    const second = Lease.take(path, addon);
    expect(second).toBeInstanceOf(Lease);
    (second as Lease).release();
  });

  it('of this host is free after another start of the system, unless it was touched since', async () => {
    const path = join(scratch(), 'lease');
    const theirs = { host: hostname(), process: process.pid, boot: 'another' };
    writeFileSync(path, JSON.stringify(theirs));
    // Another host of this name.
    expect(Lease.take(path, addon)).toEqual(theirs);
    expect(await holderOf(path, addon)).toEqual(theirs);
    const before = Date.now() / 1000 - uptime() - 60;
    utimesSync(path, before, before);
    expect(await holderOf(path, addon)).toBeUndefined();
    const lease = Lease.take(path, addon);
    expect(lease).toBeInstanceOf(Lease);
    (lease as Lease).release();
  });

  it('of another host is respected until it lapses, by the time of the file', async () => {
    const path = join(scratch(), 'lease');
    const theirs = { host: 'another.host', process: 7, boot: 'b' };
    writeFileSync(path, JSON.stringify(theirs));
    expect(Lease.take(path, addon)).toEqual(theirs);
    expect(await holderOf(path, addon)).toEqual(theirs);
    const long = Date.now() / 1000 - 3600;
    utimesSync(path, long, long);
    expect(await holderOf(path, addon)).toBeUndefined();
    const lease = Lease.take(path, addon);
    expect(lease).toBeInstanceOf(Lease);
    (lease as Lease).release();
  });

  it('is touched by the time of the file system, whatever the clock here says', () => {
    const path = join(scratch(), 'lease');
    // This host has lived in 1970 since it began.
    vi.useFakeTimers({ now: 0, toFake: ['Date', 'setInterval', 'clearInterval'] });
    onTestFinished(() => void vi.useRealTimers());
    const lease = Lease.take(path, addon) as Lease;
    const said = readFileSync(path, 'utf8');
    utimesSync(path, 1, 1);
    vi.advanceTimersByTime(30_000);
    expect(statSync(path).mtimeMs).toBeGreaterThan(1e12);
    expect(readFileSync(path, 'utf8')).toBe(said);
    lease.release();
    expect(readFileSync(path, 'utf8')).toBe('');
  });

  it('that another host has taken while its own slept is neither touched nor given back', () => {
    const path = join(scratch(), 'lease');
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    onTestFinished(() => void vi.useRealTimers());
    const lease = Lease.take(path, addon) as Lease;
    expect(lease.lost).toBe(false);
    const theirs = JSON.stringify({ host: 'another.host', process: 7, boot: 'b' });
    writeFileSync(path, theirs);
    expect(lease.lost).toBe(true);
    utimesSync(path, 1, 1);
    vi.advanceTimersByTime(60_000);
    expect(statSync(path).mtimeMs).toBe(1000);
    lease.release();
    expect(readFileSync(path, 'utf8')).toBe(theirs);
  });

  it('counts where there are no locks', async () => {
    const path = join(scratch(), 'lease');
    const without = { ...addon, lockDescriptor: () => null };
    const lease = Lease.take(path, without);
    expect(lease).toBeInstanceOf(Lease);
    const { host, boot } = JSON.parse(readFileSync(path, 'utf8')) as { host: string; boot: string };
    (lease as Lease).release();
    // The parent lives, and is another process.
    writeFileSync(path, JSON.stringify({ host, process: process.ppid, boot }));
    expect(Lease.take(path, without)).toMatchObject({ process: process.ppid });
    expect(await holderOf(path, without)).toMatchObject({ process: process.ppid });
    // Of one that has ended there is only its number left.
    const ended = await zombie();
    if (ended === undefined) return;
    writeFileSync(path, JSON.stringify({ host, process: ended, boot }));
    expect(await holderOf(path, without)).toBeUndefined();
    const free = Lease.take(path, without);
    expect(free).toBeInstanceOf(Lease);
    (free as Lease).release();
  });
});

/** A tree of files, and where to. */
function tree(files = 3): { cwd: string; state: string } {
  const cwd = scratch();
  mkdirSync(join(cwd, 's'));
  for (let at = 0; at < files; at += 1) writeFileSync(join(cwd, 's', `f${at}`), `content ${at}`);
  return { cwd, state: join(cwd, 'state') };
}

const jobsOf = (state: string) => (existsSync(join(state, 'jobs')) ? readdirSync(join(state, 'jobs')) : []);

/** A job in which one file fails: there is a directory in its way. */
async function failing(files = 3): Promise<{ cwd: string; state: string; id: string; args: string[] }> {
  const { cwd, state } = tree(files);
  mkdirSync(join(cwd, 'd/f1/x'), { recursive: true });
  const args = ['copy', '--state-dir', 'state', 's/', 'd'];
  const { code, stderr } = await run(args, { cwd });
  expect(code).toBe(23);
  const [id = ''] = jobsOf(state);
  expect(stderr).toContain(
    `job: ${id} (bulkhaul resume ${id} goes on with it, bulkhaul report ${id} tells what failed`,
  );
  expect(stderr).toContain(join(`state/jobs/${id}/journal.jsonl`));
  return { cwd, state, id, args };
}

/** Starts a copy that is slow, and answers when its journal says that it is on its way. */
async function begun(cwd: string, args: readonly string[]): Promise<{ kill: () => Promise<void>; id: string }> {
  const child = spawn(process.execPath, [executable, ...args], { cwd, stdio: 'ignore' });
  const ended = new Promise<void>((resolve) => child.on('close', () => resolve()));
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  for (;;) {
    const [job] = await jobs(join(cwd, 'state'));
    if (job?.state === 'running' && job.entries > 0) {
      const kill = async () => {
        child.kill('SIGKILL');
        await ended;
      };
      return { kill, id: job.id };
    }
    if (child.exitCode !== null) expect.fail('it ended before it was seen');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

describe('a journal', () => {
  it('is not made for what is quick and complete, nor for a dry run', async () => {
    const { cwd, state } = tree();
    expect((await run(['copy', '--state-dir', 'state', 's/', 'd'], { cwd })).code).toBe(0);
    expect((await run(['copy', '-n', '--state-dir', 'state', 's/', 'e'], { cwd })).code).toBe(0);
    expect(jobsOf(state)).toEqual([]);
  });

  it.each([
    ['move', 'absent', 'd'],
    ['remove', '-f', '.'],
    ['retain', 'absent', '--key', 'month', '--keep', '2'],
    ['copy', '--journal', 'absent', 'd'],
  ])('is not left by what was refused: %s', async (...args) => {
    const [cwd, state] = [scratch(), scratch()];
    const { code } = await run(args, { cwd, env: { XDG_STATE_HOME: state } });
    expect(code).toBeGreaterThan(0);
    expect(jobsOf(join(state, 'bulkhaul'))).toEqual([]);
  });

  it('has each failure, and what was asked for, for its owner only', async () => {
    const { state, id } = await failing();
    const records: JournalRecord[] = [];
    for await (const record of journalOf(state, id)) records.push(record);
    expect(records.map(({ type }) => type)).toEqual(['job', 'attempt', 'error', 'end']);
    expect(records[0]).toMatchObject({
      operation: 'copy',
      options: { sources: [{ path: expect.stringMatching(/^\/.*\/s$/) }] },
    });
    expect(records[1]).toMatchObject({ number: 1, host: hostname(), command: expect.arrayContaining(['s/', 'd']) });
    expect(records[2]).toMatchObject({ kind: 'conflict', path: expect.stringMatching(/d\/f1$/) });
    expect(records[3]).toMatchObject({ state: 'failed', exitCode: 23, errors: 1 });
    const { mode } = statSync(join(state, 'jobs', id, 'journal.jsonl'));
    expect(mode & 0o777).toBe(0o600);
    expect(statSync(join(state, 'jobs', id)).mode & 0o777).toBe(0o700);
  });

  it('is not wanted with --no-journal: failures go to a file of their own', async () => {
    const { cwd, state } = tree();
    mkdirSync(join(cwd, 'd/f1/x'), { recursive: true });
    const args = ['copy', '--no-journal', '--state-dir', 'state', 's/', 'd'];
    const { code, stderr } = await run(args, { cwd, env: { TMPDIR: cwd } });
    expect(code).toBe(23);
    expect(jobsOf(state)).toEqual([]);
    expect(stderr).toMatch(/all of them are in .*bulkhaul-failures-/);
  });

  it.each([
    ['is a file', (state: string) => writeFileSync(state, '')],
    ['is full', (state: string) => symlinkSync('/dev/full', state)],
    ['leads nowhere', (state: string) => symlinkSync('nowhere/at/all', state)],
  ])('that can not be made is a note, where the place %s', async (_, spoil) => {
    const { cwd, state } = tree();
    spoil(state);
    mkdirSync(join(cwd, 'd/f1/x'), { recursive: true });
    const { code, stderr } = await run(['copy', '--state-dir', 'state', 's/', 'd'], { cwd });
    expect(code).toBe(23);
    expect(stderr).toContain('note (journal, 1x): the journal could not be written');
    expect(readFileSync(join(cwd, 'd/f2'), 'utf8')).toBe('content 2');
    const needed = await run(['copy', '--journal', '--state-dir', 'state', 's/', 'e'], { cwd });
    expect(needed.code).toBe(2);
    expect(existsSync(join(cwd, 'e'))).toBe(false);
    // A drop-in says it, and does its work.
    const dropIn = await run(['hpcp', '--state-dir', 'state', 's', '-d', 'h'], { cwd });
    expect(dropIn.code).toBe(0);
  });

  it.skipIf(process.getuid?.() !== 0)(
    'that ends for want of room is a note: the job goes on, and its failures are kept elsewhere',
    async () => {
      const { cwd, state } = tree(400);
      mkdirSync(state);
      expect((await program('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'none', state])).code).toBe(0);
      onTestFinished(async () => void (await program('umount', [state])));
      for (let at = 0; at < 400; at += 1) mkdirSync(join(cwd, `d/f${at}/x`), { recursive: true });
      const args = ['copy', '--state-dir', 'state', 's/', 'd'];
      const { code, stderr } = await run(args, { cwd, env: { TMPDIR: cwd } });
      expect(code).toBe(23);
      expect(stderr).toMatch(/note \(journal, 1x\): the journal could not be written: .*no space left on device/);
      expect(stderr).toMatch(/400 failures: 400 conflict; all of them are in .*bulkhaul-failures-/);
      expect((await jobs(state))[0]).toMatchObject({ state: 'interrupted' });
    },
  );

  it.skipIf(straceFault !== undefined)(
    'is whole, or not there, whenever the process dies',
    async () => {
      const { cwd, state, id, args } = await failing();
      const own = ['journal.jsonl', 'journal.jsonl.new', 'lease'].flatMap((name) => [
        '-P',
        join(state, 'jobs', id, name),
      ]);
      const calls = 'openat,write,ftruncate,rename,close';
      const ends: unknown[] = [];
      for (const before of ['nothing', 'a failed job']) {
        for (let nth = 1; ; nth += 1) {
          rmSync(state, { recursive: true });
          if (before !== 'nothing') expect((await run(args, { cwd })).code).toBe(23);
          const inject = `inject=${calls}:signal=KILL:when=${nth}`;
          const options = ['-f', '-qq', '-o', '/dev/null', ...own, '-e', `trace=${calls}`, '-e', inject];
          const traced = await program('strace', [...options, process.execPath, executable, ...args], { cwd });
          const [job] = await jobs(state);
          expect(['interrupted', 'failed', undefined]).toContain(job?.state);
          ends.push(job?.state);
          expect((await run(args, { cwd })).code).toBe(23);
          expect((await jobs(state)).map(({ id, state }) => ({ id, state }))).toEqual([{ id, state: 'failed' }]);
          if (traced.code === 23) break;
        }
      }
      expect(new Set(ends)).toEqual(new Set(['interrupted', 'failed', undefined]));
    },
    120_000,
  );

  it('in what a mirror removes stays, and so does its directory', async () => {
    const { cwd } = tree();
    mkdirSync(join(cwd, 'd'));
    const { code } = await run(['copy', '--delete', '--journal', '--state-dir', 'd/state', 's/', 'd'], { cwd });
    expect(code).toBe(0);
    const [id = ''] = jobsOf(join(cwd, 'd/state'));
    expect((await jobs(join(cwd, 'd/state')))[0]).toMatchObject({ id, state: 'done' });
  });

  it('is forgotten when so many others have ended, unless it can be gone on with', async () => {
    const { cwd, state } = tree();
    mkdirSync(join(state, 'jobs'), { recursive: true });
    for (const [name, stands] of [
      ['old', 'done'],
      ['open', undefined],
      ['failed', 'failed'],
    ] as const) {
      mkdirSync(join(state, 'jobs', name));
      const end = { type: 'end', time: '', exitCode: 0, sentence: '', attempt: 1, elapsed: 0 } as const;
      const counts = { entries: 0, bytes: 0, copiedBytes: 0, errors: 0 };
      const path = written([
        { ...JOB, id: name } as JournalRecord,
        attempt(1),
        ...(stands ? [{ ...end, ...counts, state: stands }] : []),
      ]);
      writeFileSync(join(state, 'jobs', name, 'journal.jsonl'), readFileSync(path));
      utimesSync(join(state, 'jobs', name, 'journal.jsonl'), 1, 1);
    }
    await run(['copy', '--journal', '--keep-jobs', '0', '--state-dir', 'state', 's/', 'd'], { cwd });
    expect(jobsOf(state).filter((id) => !id.startsWith('copy-'))).toEqual(['failed', 'open']);
  });
});

describe('a job', () => {
  it('that was killed is seen as it stands, and goes on with the same command, from its share', async () => {
    const { cwd } = tree(200);
    const args = ['copy', '--state-dir', 'state', '-q', 's/', 'd'];
    const { kill, id } = await begun(cwd, [...args, '--iops-limit', '20', '-j1']);
    const busy = await run(['resume', '--state-dir', 'state', id], { cwd });
    expect(busy).toMatchObject({ code: 2, stderr: expect.stringContaining(`job ${id} is in use: process `) });
    await kill();
    const [interrupted] = await jobs(join(cwd, 'state'));
    expect(interrupted).toMatchObject({ id, state: 'interrupted', attempts: 1 });
    expect(interrupted?.entries).toBeGreaterThan(0);
    const { code, stderr } = await run(
      args.filter((each) => each !== '-q'),
      { cwd },
    );
    expect(code).toBe(0);
    expect(stderr).toMatch(new RegExp(`^goes on with job ${id}: \\d+ entr.* done with in 1 run before$`, 'm'));
    expect((await jobs(join(cwd, 'state')))[0]).toMatchObject({ id, state: 'done', attempts: 2, entries: 201 });
    expect((await run(['resume', '--state-dir', 'state', id], { cwd })).stderr).toContain(`job ${id} is done`);
  });

  it('that is at work is left to it: the same command again is another job', async () => {
    const { cwd } = tree(200);
    const args = ['copy', '--state-dir', 'state', '-q', 's/', 'd'];
    const { id } = await begun(cwd, [...args, '--iops-limit', '20', '-j1']);
    expect((await run([...args, '--journal'], { cwd })).code).toBe(0);
    expect(jobsOf(join(cwd, 'state'))).toEqual([id, `${id}-2`]);
  });

  it('whose last line is torn goes on behind the line before', async () => {
    const { cwd, state, id, args } = await failing();
    const path = join(state, 'jobs', id, 'journal.jsonl');
    truncateSync(path, statSync(path).size - 7);
    expect((await jobs(state))[0]).toMatchObject({ state: 'interrupted' });
    expect((await run(args, { cwd })).code).toBe(23);
    expect(await read(path)).toMatchObject({ damaged: 0, torn: false });
    expect((await jobs(state))[0]).toMatchObject({ state: 'failed', attempts: 2 });
  });

  it('whose journal is damaged is said to be, is not gone on with, and the command begins a new one', async () => {
    const { cwd, state, id, args } = await failing();
    const path = join(state, 'jobs', id, 'journal.jsonl');
    writeFileSync(path, readFileSync(path, 'utf8').replace('"format":1', '"format":0'));
    expect((await jobs(state))[0]).toMatchObject({ id, state: 'damaged' });
    expect(await run(['resume', '--state-dir', 'state', id], { cwd })).toMatchObject({ code: 2 });
    expect(await run(['report', '--state-dir', 'state', id], { cwd })).toMatchObject({ code: 2 });
    expect((await run(args, { cwd })).code).toBe(23);
    expect((await jobs(state))[0]).toMatchObject({ id, state: 'failed', attempts: 1 });
    expect(existsSync(`${path}.damaged`)).toBe(true);
  });

  it('one of whose failures is damaged says so, goes on, and tries all again', async () => {
    const { cwd, state, id } = await failing(5);
    const path = join(state, 'jobs', id, 'journal.jsonl');
    writeFileSync(path, readFileSync(path, 'utf8').replace('"kind":"conflict"', '"kind":"conflicu"'));
    const said = "1 line of the journal can't be read any more: what failed may be more than is told here";
    const shown = await run(['report', '--state-dir', 'state', id], { cwd });
    expect(shown.stdout).toContain(said);
    const page = await run(['report', '--state-dir', 'state', '--html', '-', id], { cwd });
    expect(page.stdout).toContain(said.replace("'", '&#39;'));
    const { stdout } = await run(['report', '--state-dir', 'state', '--json', id], { cwd });
    expect(jsonLines(stdout).at(-1)).toMatchObject({ type: 'story', damaged: 1 });
    rmSync(join(cwd, 'd/f1'), { recursive: true });
    rmSync(join(cwd, 'd/f3'));
    expect((await run(['resume', '--state-dir', 'state', '--retry-failed', id], { cwd })).code).toBe(0);
    expect(readFileSync(join(cwd, 'd/f3'), 'utf8')).toBe('content 3');
  });

  it('that fails again and again has a journal that is no longer for it: the last run stays', async () => {
    const { cwd, state, id, args } = await failing();
    const path = join(state, 'jobs', id, 'journal.jsonl');
    const records: JournalRecord[] = [];
    for await (const record of journalOf(state, id)) records.push(record);
    const [job, first, failed, end] = records as [JournalRecord, JournalRecord, JournalRecord, JournalRecord];
    // A run with very many failures, and a shorter one after it.
    const many = Array.from({ length: 5000 }, () => ({ ...failure('f'), message: 'm'.repeat(4000) }) as JournalRecord);
    writeFileSync(path, readFileSync(written([job, first, ...many, end, attempt(2), failed, end])));
    expect(statSync(path).size).toBeGreaterThan(2 ** 24);
    const { stderr } = await run(args, { cwd });
    expect(stderr).toMatch(new RegExp(`^goes on with job ${id}: .* in 2 runs before$`, 'm'));
    expect(statSync(path).size).toBeLessThan(2 ** 16);
    expect(await read(path)).toMatchObject({ damaged: 0, torn: false });
    const left: JournalRecord[] = [];
    for await (const record of journalOf(state, id)) left.push(record);
    const runs = ['attempt', 'error', 'end'];
    expect(left.map(({ type }) => type)).toEqual(['job', ...runs, 'attempt', 'progress', 'error', 'end']);
    expect(left.filter(({ type }) => type === 'attempt')).toMatchObject([{ number: 2 }, { number: 3 }]);
    expect(readdirSync(join(state, 'jobs', id)).filter((name) => name.startsWith('journal'))).toEqual([
      'journal.jsonl',
    ]);
    const { stdout } = await run(['report', '--state-dir', 'state', '--json', id], { cwd });
    expect(jsonLines(stdout).at(-1)).toMatchObject({ type: 'story', earlierRuns: 1, damaged: 0 });
  });

  it('that failed tries what failed again, and nothing else', async () => {
    const { cwd, state, id } = await failing(5);
    rmSync(join(cwd, 'd/f1'), { recursive: true });
    rmSync(join(cwd, 'd/f3'));
    const { code, stdout } = await run(['resume', '--state-dir', 'state', '--retry-failed', '--json', id], { cwd });
    expect(code).toBe(0);
    expect(jsonLines(stdout).at(-1)).toMatchObject({ type: 'summary', complete: true, job: id, files: { copied: 1 } });
    expect(readFileSync(join(cwd, 'd/f1'), 'utf8')).toBe('content 1');
    expect(existsSync(join(cwd, 'd/f3'))).toBe(false);
    expect((await jobs(state))[0]).toMatchObject({ state: 'done', attempts: 2 });
  });

  it('that did not come to its end is done as a whole, whatever of it has failed', async () => {
    const { cwd, state, id } = await failing(5);
    const path = join(state, 'jobs', id, 'journal.jsonl');
    const lines = readFileSync(path, 'utf8').split(/(?<=\n)/);
    truncateSync(path, Buffer.byteLength(lines.slice(0, -1).join('')));
    expect((await jobs(state))[0]).toMatchObject({ state: 'interrupted', errors: 0 });
    rmSync(join(cwd, 'd/f1'), { recursive: true });
    rmSync(join(cwd, 'd/f3'));
    expect((await run(['resume', '--state-dir', 'state', '--retry-failed', id], { cwd })).code).toBe(0);
    expect(readFileSync(join(cwd, 'd/f3'), 'utf8')).toBe('content 3');
    expect((await jobs(state))[0]).toMatchObject({ state: 'done' });
  });

  it('with a tree by its name tries that again in its place', async () => {
    const { cwd, state } = tree();
    mkdirSync(join(cwd, 'd/s/f1/x'), { recursive: true });
    await run(['copy', '--state-dir', 'state', 's', 'd'], { cwd });
    const [id = ''] = jobsOf(state);
    rmSync(join(cwd, 'd/s/f1'), { recursive: true });
    expect((await run(['resume', '--state-dir', 'state', '--retry-failed', id], { cwd })).code).toBe(0);
    expect(readFileSync(join(cwd, 'd/s/f1'), 'utf8')).toBe('content 1');
    expect(readdirSync(join(cwd, 'd'))).toEqual(['s']);
  });

  it('goes on from anywhere, with paths as they were meant', async () => {
    const { cwd, state, id } = await failing();
    rmSync(join(cwd, 'd/f1'), { recursive: true });
    expect((await run(['resume', '--state-dir', state, id], { cwd: '/' })).code).toBe(0);
    expect(readFileSync(join(cwd, 'd/f1'), 'utf8')).toBe('content 1');
  });

  it('whose names came through a pipe can not go on by its name', async () => {
    const { cwd, state } = tree();
    mkdirSync(join(cwd, 'd/f1/x'), { recursive: true });
    await run(['copy', '--state-dir', 'state', '--files-from', '-', 's', 'd'], { cwd, input: 'f0\nf1\n' });
    const [id = ''] = jobsOf(state);
    const { code, stderr } = await run(['resume', '--state-dir', 'state', id], { cwd });
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: expect.stringContaining('used /dev/stdin, which is gone: give the same command again'),
    });
  });

  it('that removes goes on too', async () => {
    const { cwd, state } = tree();
    const { code } = await run(['remove', '--state-dir', 'state', 's', 'absent'], { cwd, input: 'y\n' });
    expect(code).toBe(23);
    const [id = ''] = jobsOf(state);
    expect(id).toMatch(/^remove-/);
    mkdirSync(join(cwd, 'absent'));
    expect((await run(['resume', '--state-dir', 'state', '--retry-failed', id], { cwd })).code).toBe(0);
    expect(readdirSync(cwd)).toEqual(['state']);
    expect((await jobs(state))[0]).toMatchObject({ id, operation: 'remove', state: 'done', attempts: 2 });
  });

  it('of the library says its name, and what was before', async () => {
    const { cwd, state } = tree();
    mkdirSync(join(cwd, 'd/f1/x'), { recursive: true });
    const options = { sources: join(cwd, 's/'), destination: join(cwd, 'd'), journal: { directory: state } };
    const first = copy(options);
    const report = await first;
    const [id] = jobsOf(state);
    expect(report).toMatchObject({ job: id, failureFile: join(state, 'jobs', id ?? '', 'journal.jsonl') });
    expect(first.id).toBe(id);
    const again = resume(id ?? '', { journal: { directory: state } });
    expect(await again.journal()).toMatchObject({ id, earlier: { attempts: 1, state: 'failed', errors: 1 } });
    expect((await again).outcomes.conflict).toBe(1);
    await expect(resume('../x', { journal: { directory: state } })).rejects.toMatchObject({ code: 'JOURNAL' });
    await expect(resume('none', { journal: { directory: state } })).rejects.toMatchObject({ code: 'JOURNAL' });
  });
});

describe('the counts of a job', () => {
  /** What runs have counted, one after another, each of which ends as is said, or dies; answers how the job stands after each. */
  async function standings(
    operation: Operation,
    runs: readonly { counted?: Partial<Snapshot>; end?: Conclusion; partial?: boolean }[],
  ) {
    const state = scratch();
    const stands: unknown[] = [];
    for (const { counted, end, partial = false } of runs) {
      const journal = await Journal.open({ directory: state, partial }, addon, operation, '/', { sources: ['s'] });
      journal.watch(() => snapshot(counted));
      if (counted) journal.begin();
      if (end) journal.end(end);
      journal.close();
      const [{ entries, bytes, copiedBytes, errors, expectedEntries } = {} as Partial<JobSummary>] = await jobs(state);
      stands.push([entries, bytes, copiedBytes, errors, expectedEntries]);
    }
    return stands;
  }
  /** So many entries of so many, each of ten bytes; `looked` of them were there before. */
  const met = (doneEntries: number, entries?: number, looked = 0) => ({
    ...{ doneEntries, doneBytes: doneEntries * 10, copiedBytes: (doneEntries - looked) * 10 },
    ...(entries !== undefined && {
      expected: { entries, files: entries, bytes: entries * 10, toDo: entries, toRead: entries * 10 },
    }),
  });
  const over = (state: Conclusion['state'], exitCode: number, done: number, failed: number): Conclusion => {
    const report = reported({
      ...{ outcomes: outcomes({ copied: done, failed }), foundBytes: (done + failed) * 10 },
      found: { ...reported().found, file: done + failed },
      failureKinds: failed > 0 ? { io: failed } : {},
      interrupted: state === 'interrupted',
    });
    return { state, exitCode, sentence: '', elapsed: 1, report };
  };

  it('do not fall while a run looks again at what is done, until one has come to its end', async () => {
    const stopped = { ...met(436, undefined, 436), errors: 0 };
    const runs = [
      { counted: { ...met(527, 1000), errors: 1 } },
      {},
      { counted: stopped },
      { counted: stopped, end: over('interrupted', 130, 436, 0) },
      { counted: met(600, 1000, 527) },
      { counted: met(1000, 1000, 600), end: over('done', 0, 1000, 0) },
    ];
    expect(await standings('copy', runs)).toEqual([
      [527, 5270, 5270, 1, 1000],
      [527, 5270, 5270, 1, 1000],
      [527, 5270, 5270, 1, 1000],
      [527, 5270, 5270, 1, 1000],
      [600, 6000, 6000, 1, 1000],
      [1000, 10000, 6000, 0, 1000],
    ]);
  });

  it('of a source that has shrunk are those that are left in the end', async () => {
    const runs = [
      { counted: met(527, 1000) },
      { counted: met(436, 800, 436) },
      { counted: met(20, 100, 20) },
      { counted: met(100, 100, 100), end: over('done', 0, 100, 0) },
    ];
    expect(await standings('copy', runs)).toMatchObject([
      [527, 5270, 5270, 0, 1000],
      [636, 6360, 5270, 0, 1000],
      [920, 9200, 5270, 0, 1000],
      [100, 1000, 5270, 0, 100],
    ]);
  });

  it('that removes are those of all its runs, which meet the rest alone, and again what failed', async () => {
    const removed = (doneEntries: number, entries: number, errors = 0) => ({
      ...{ ...met(doneEntries, entries), doneBytes: 0, copiedBytes: 0, errors },
    });
    const runs = [
      { counted: removed(500, 1000, 2) },
      { counted: removed(100, 502) },
      { counted: removed(402, 402), end: over('done', 0, 402, 0) },
    ];
    expect(await standings('remove', runs)).toMatchObject([
      [500, 0, 0, 2, 1000],
      [598, 0, 0, 0, 1000],
      [1000, 4020, 0, 0, 1000],
    ]);
  });

  it('that tries again what failed are those of all of it', async () => {
    const runs = [
      { counted: met(1000, 1000), end: over('failed', 23, 998, 2) },
      { partial: true, counted: met(1, 2) },
      { partial: true, counted: met(2, 2), end: over('failed', 23, 1, 1) },
      { partial: true, counted: met(1, 1), end: over('done', 0, 1, 0) },
    ];
    expect(await standings('copy', runs)).toMatchObject([
      [1000, 10000, 0, 2, 1000],
      [1000, 10000, 10, 2, 1000],
      [1000, 10000, 10, 1, 1000],
      [1000, 10000, 10, 0, 1000],
    ]);
  });

  it('are seen behind whatever has failed since', async () => {
    const state = scratch();
    const journal = await Journal.open({ directory: state }, addon, 'copy', '/', { sources: ['s'] });
    journal.watch(() => snapshot(met(527)));
    journal.begin();
    const long = { ...(failure('f') as ErrorEvent), message: 'm'.repeat(1000) };
    for (let nth = 0; nth < 500; nth += 1) {
      journal.take(long);
      if (nth % 100 === 99) expect((await jobs(state))[0]).toMatchObject({ entries: 527, attempts: 1 });
    }
    journal.close();
    expect((await read(journal.file ?? '')).damaged).toBe(0);
  });
});

it('a journal that can not even be loaded stops nothing', async () => {
  const path = Buffer.from('x');
  const failed = {
    type: 'error',
    kind: 'io',
    outcome: 'failed',
    operation: 'read',
    path,
    entryKind: 'file',
    message: 'm',
  } as const;
  const lost = {
    id: 'copy-1',
    files: ['state/journal'],
    finished: '',
    open: () => Promise.reject(new Error('it is gone')),
  };
  for (const takes of [0, 1100]) {
    const native = new FakeNative({ events: takes === 0 ? [[failed]] : [], takes });
    const job = new Job(async () => ({ native, journal: lost }));
    const types: string[] = [];
    for await (const { type } of job) types.push(type);
    expect(types).toEqual(takes === 0 ? ['error', 'summary'] : ['summary']);
    const message = 'the journal could not be opened: it is gone';
    expect((await job).notes).toEqual([expect.objectContaining({ kind: 'journal', lost: false, message })]);
  }
});

describe('status and report', () => {
  it('say what there is', async () => {
    const { cwd, id } = await failing();
    const options = { cwd };
    const { stdout } = await run(['status', '--state-dir', 'state'], options);
    expect(stdout).toMatch(/^JOB +STATE +DONE +FAILED +HEARD OF +WHAT\n/);
    expect(stdout).toMatch(new RegExp(`\\n${id} +failed +4 entries, .*1 failure .*ago +/.*/s/ -> /.*/d\\n$`));
    const one = await run(['status', '--state-dir', 'state', id], options);
    expect(one.stdout).toContain(`next:     bulkhaul resume ${id} --retry-failed, bulkhaul report ${id}\n`);
    const lines = jsonLines((await run(['status', '--json', '--state-dir', 'state'], options)).stdout);
    expect(lines).toMatchObject([{ type: 'job-summary', id, state: 'failed', exitCode: 23, errors: 1 }]);
    const told = await run(['report', '--state-dir', 'state'], options);
    expect(told.stdout).toContain('is in the way');
    expect(told.stdout).toMatch(/INCOMPLETE: .*\n$/);
    const records = jsonLines((await run(['report', '--json', '--state-dir', 'state', id], options)).stdout);
    expect(records.map(({ type }) => type)).toEqual(['job', 'attempt', 'error', 'end', 'story']);
  });

  it('name what there is where a job is not', async () => {
    const { cwd, id } = await failing();
    for (const verb of ['status', 'report', 'resume']) {
      const { code, stderr } = await run([verb, '--state-dir', 'state', 'nope'], { cwd });
      expect({ code, stderr }).toEqual({
        code: 2,
        stderr: expect.stringContaining(`there is no job nope in state; there are ${id} (failed)`),
      });
    }
    expect(await run(['status', '--state-dir', 'empty'], { cwd })).toMatchObject({ code: 0, stdout: 'no jobs\n' });
    expect(await run(['resume', '--state-dir', 'empty'], { cwd })).toMatchObject({ code: 2 });
  });

  it('of a directory that can not be read is an error', async () => {
    const { cwd, state } = tree();
    writeFileSync(state, '');
    chmodSync(state, 0);
    expect((await run(['status', '--state-dir', 'state'], { cwd })).code).toBe(2);
  });
});

describe('--max-duration', () => {
  it('ends as a signal does, and the same command goes on', async () => {
    const { cwd, state } = tree(40);
    const args = ['copy', '--state-dir', 'state', 's/', 'd'];
    const { code, stderr } = await run([...args, '-j1', '--iops-limit', '4', '--max-duration', '1'], { cwd });
    expect(code).toBe(130);
    expect(stderr).toMatch(/^--max-duration 1: stopping/m);
    const [stopped] = await jobs(state);
    expect(stopped).toMatchObject({ state: 'interrupted' });
    // Each file has as many bytes as the first ten, or one more; the directory has none.
    const { entries = 0, bytes = 0 } = stopped ?? {};
    expect(bytes).toBeLessThanOrEqual(10 * entries);
    expect((await run(args, { cwd })).code).toBe(0);
    expect((await jobs(state))[0]).toMatchObject({ state: 'done' });
  });
});
