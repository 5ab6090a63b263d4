/** Deleting as part of a copy, by the verb and the library: extra entries of the destination, sources of a move. */
import {
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Victims } from '../src/events.js';
import { copy } from '../src/ops/copy.js';
import { Job } from '../src/ops/job.js';
import { FakeNative, jsonLines, program, run, scratch } from './rig.js';

/** s: a, sub/b; d: an older a, and what s does not have. */
function pair(): string {
  const root = scratch();
  for (const name of ['s/sub', 'd/sub', 'd/gone/deep']) mkdirSync(join(root, name), { recursive: true });
  for (const name of ['s/a', 's/sub/b', 'd/extra', 'd/sub/extra', 'd/gone/deep/f']) {
    writeFileSync(join(root, name), name);
  }
  writeFileSync(join(root, 'd/a'), 'older');
  symlinkSync('nowhere', join(root, 'd/dangling'));
  return root;
}

const names = (root: string, name: string) =>
  readdirSync(join(root, name), { recursive: true, encoding: 'utf8' }).map(String).sort();

describe('copy --delete', () => {
  it('removes what is extra, and itemises it', async () => {
    const root = pair();
    const before = names(root, 'd');
    const dry = await run(['copy', '--delete', '-n', 's/', 'd'], { cwd: root });
    expect(dry.code).toBe(0);
    const deleting = dry.stdout.split('\n').filter((line) => line.startsWith('*deleting'));
    expect(deleting.sort()).toEqual([
      '*deleting   dangling',
      '*deleting   extra',
      '*deleting   gone/',
      '*deleting   gone/deep/',
      '*deleting   gone/deep/f',
      '*deleting   sub/extra',
    ]);
    expect(names(root, 'd')).toEqual(before);
    const real = await run(['copy', '--delete', '-v', 's/', 'd'], { cwd: root });
    expect(real.code).toBe(0);
    expect(
      real.stdout
        .split('\n')
        .filter((line) => line.startsWith('*deleting'))
        .sort(),
    ).toEqual(deleting.sort());
    expect(real.stderr).toMatch(/entries: .*6 removed/);
    expect(names(root, 'd')).toEqual(['a', 'sub', 'sub/b']);
  });

  it.each([
    [['--max-delete', '5'], 3],
    [['--max-delete', '50%'], 3],
    [['--max-delete', '6'], 0],
    [['--max-delete', '100%'], 0],
  ])('honours %j', async (limit, code) => {
    const root = pair();
    const done = await run(['copy', '--delete', ...limit, '--json', 's/', 'd'], { cwd: root });
    expect(done.code).toBe(code);
    expect(existsSync(join(root, 'd/extra'))).toBe(code !== 0);
    const summary = jsonLines(done.stdout).at(-1);
    const withheld = code === 0 ? [] : [expect.objectContaining({ kind: 'max-delete', what: 'extra' })];
    expect(summary).toMatchObject({ type: 'summary', withheld, extras: code === 0 ? 6 : 0 });
  });

  it('clears the way where a file became a directory, and the reverse', async () => {
    const root = pair();
    for (const name of ['s/gone', 's/extra']) mkdirSync(join(root, name));
    writeFileSync(join(root, 's/gone/deep'), 'a file now');
    writeFileSync(join(root, 's/extra/f'), 'a directory now');
    const plain = await run(['copy', 's/', 'd'], { cwd: root });
    expect(plain).toMatchObject({ code: 23, stderr: expect.stringMatching(/: 2 conflict/) });
    const limited = await run(['copy', '--delete', '--max-delete', '4', 's/', 'd'], { cwd: root });
    expect(limited.code).toBe(3);
    expect(names(root, 'd/gone')).toEqual(['deep', 'deep/f']);
    const real = await run(['copy', '--delete', '-v', 's/', 'd'], { cwd: root });
    expect(real.code).toBe(0);
    expect(real.stdout).toContain('*deleting   gone/deep/f\n');
    expect(real.stdout).toMatch(/^\S*f\S* +gone\/deep$/m);
    expect(names(root, 'd')).toEqual(names(root, 's'));
  });

  it('removes nothing for an empty or missing source, and says so', async () => {
    const root = pair();
    mkdirSync(join(root, 'empty'));
    const empty = await run(['copy', '--delete', 'empty/', 'd'], { cwd: root });
    expect(empty).toMatchObject({ code: 3, stderr: expect.stringContaining('NOT REMOVED: empty is empty') });
    const missing = await run(['copy', '--delete', 's/', 'none/', 'd'], { cwd: root });
    expect(missing).toMatchObject({ code: 3, stderr: expect.stringContaining('NOT REMOVED: a source is missing') });
    expect(existsSync(join(root, 'd/extra'))).toBe(true);
  });

  it('refuses a limit that is none, and a list of names', async () => {
    const root = pair();
    expect((await run(['copy', '--delete', '--max-delete', 'x', 's/', 'd'], { cwd: root })).code).toBe(2);
    expect((await run(['copy', '--delete', '--max-delete', '101%', 's/', 'd'], { cwd: root })).code).toBe(2);
    expect((await run(['copy', '--delete', '--files-from', '-', 's/', 'd'], { cwd: root, input: 'a\n' })).code).toBe(2);
  });

  it('names what a limit keeps, in a dry run too', async () => {
    const root = pair();
    for (const dry of [['-n'], []]) {
      const held = await run(['copy', '--delete', '--max-delete', '1', ...dry, 's/', 'd'], { cwd: root });
      expect(held.code).toBe(3);
      const named = held.stderr.match(/NOT REMOVED: 6 of 8 entries are extra, which is more than 1 \((.*)\)/)?.[1];
      expect(named?.split(', ').sort()).toEqual([
        'd/dangling',
        'd/extra',
        'd/gone',
        'd/gone/deep',
        'd/gone/deep/f',
        'd/sub/extra',
      ]);
    }
  });

  it.each([
    ['log', []],
    ['gone/log', ['*deleting   gone/deep/']],
  ])('keeps the log of this very run: %s', async (name, gone) => {
    const root = pair();
    const log = join('d', name);
    for (const command of [
      ['copy', '--delete', '-v', 's/', 'd'],
      ['hpcp', '-rme', '-rf', 's/', '-d', 'd'],
    ]) {
      const done = await run([...command, '--log-file', log], { cwd: root });
      expect(done).toMatchObject({ code: 0, stdout: expect.stringContaining(gone[0] ?? '') });
      const lines = readFileSync(join(root, log), 'utf8').trimEnd().split('\n');
      expect(lines.at(-1)).toContain('"msg":"summary"');
      expect(names(root, 'd').filter((each) => !each.includes('log') && each !== 'gone')).toEqual([
        'a',
        'sub',
        'sub/b',
      ]);
      gone.length = 0;
    }
  });

  it('keeps what this very run writes of its failures', async () => {
    const root = pair();
    const kept = join(root, 'd/state/bulkhaul/jobs');
    mkdirSync(join(kept, 'old'), { recursive: true });
    writeFileSync(join(kept, 'old/journal.jsonl'), '');
    // So slow that the failure, a name that two sources bring, is written down long before anything is removed.
    for (let number = 0; number < 20; number += 1) writeFileSync(join(root, `s/${number}`), '');
    mkdirSync(join(root, 'more'));
    writeFileSync(join(root, 'more/a'), 'other');
    const env = { XDG_STATE_HOME: join(root, 'd/state') };
    const { code, stderr } = await run(['copy', '--delete', '--iops-limit', '40', 's/', 'more/', 'd'], {
      cwd: root,
      env,
    });
    expect(code, stderr).toBe(23);
    expect(readdirSync(kept)).toEqual([expect.stringMatching(/^copy-/)]);
    expect(stderr).toContain(`all of them are in ${join(kept, readdirSync(kept)[0] ?? '', 'journal.jsonl')}`);
  });

  it('lets nothing take the place of the log', async () => {
    const root = pair();
    mkdirSync(join(root, 's/log'));
    const done = await run(['copy', '--delete', '--log-file', 'd/log', 's/', 'd'], { cwd: root });
    expect(done).toMatchObject({ code: 23, stderr: expect.stringContaining('in the way of a directory') });
    expect(readFileSync(join(root, 'd/log'), 'utf8')).toContain('"msg":"summary"');
  });
});

describe('copy --move', () => {
  it('removes what arrived and is proved', async () => {
    const root = pair();
    const moved = await run(['copy', '--move', 's/', 'd'], { cwd: root });
    expect(moved.code).toBe(0);
    expect(moved.stderr).toMatch(/moved: 4 source entries removed, 0 left/);
    expect(moved.stderr).toMatch(/verified: 2 files/);
    expect(existsSync(join(root, 's'))).toBe(false);
    expect(readFileSync(join(root, 'd/a'), 'utf8')).toBe('s/a');
    expect(existsSync(join(root, 'd/extra'))).toBe(true);
  });

  it('leaves what failed, and what a later source overrode', async () => {
    const root = pair();
    mkdirSync(join(root, 't'));
    mkdirSync(join(root, 'd/t'));
    for (const name of ['t/a', 't/t']) writeFileSync(join(root, name), name);
    const moved = await run(['copy', '--move', '--json', 's/', 't/', 'd'], { cwd: root });
    expect(moved.code).toBe(23);
    expect(names(root, 's')).toEqual(['a']);
    expect(names(root, 't')).toEqual(['a', 't']);
    expect(jsonLines(moved.stdout).at(-1)).toMatchObject({ removedSources: 2, sync: 'all', accounted: true });
  });

  it('refuses to move into itself, and keeps to the limit', async () => {
    const root = pair();
    expect((await run(['copy', '--move', 's', 's/sub'], { cwd: root })).code).toBe(3);
    expect((await run(['copy', '--move', '--max-delete', '3', 's/', 'd'], { cwd: root })).code).toBe(3);
    expect(names(root, 's')).toEqual(['a', 'sub', 'sub/b']);
  });

  it('says in a dry run what would leave the source, or what keeps it', async () => {
    const root = pair();
    const dry = ['copy', '-n', '--move', 's/', 'd'];
    const would = await run(dry, { cwd: root });
    expect(would).toMatchObject({
      code: 0,
      stderr: expect.stringContaining('moved: 4 source entries would be removed, 0 left'),
    });
    const held = await run([...dry, '--max-delete', '20%'], { cwd: root });
    expect(held).toMatchObject({ code: 3, stderr: expect.stringContaining('4 of 4 entries would go') });
    const hpcp = ['hpcp', '--dry-run', '-rm', '-rf', 's/', '-d', 'd'];
    expect((await run([...hpcp, '--max-delete', '0'], { cwd: root })).code).toBe(241);
    const done = await run(hpcp, { cwd: root });
    expect(done.stdout).toContain('Removed 4 files, links and folders from the sources\n');
    expect(names(root, 's')).toEqual(['a', 'sub', 'sub/b']);
  });

  it('removes a name whose copy is another name of the same file', async () => {
    const root = scratch();
    for (const name of ['s', 'd']) mkdirSync(join(root, name));
    writeFileSync(join(root, 's/a'), 'x');
    linkSync(join(root, 's/a'), join(root, 'd/a'));
    const moved = await run(['copy', '--move', 's/', 'd'], { cwd: root });
    expect(moved).toMatchObject({
      code: 0,
      stderr: expect.stringContaining('moved: 2 source entries removed, 0 left'),
    });
    expect([existsSync(join(root, 's')), readFileSync(join(root, 'd/a'), 'utf8')]).toEqual([false, 'x']);
  });

  it('copies what only looks the same before it goes', async () => {
    const root = pair();
    const [old, now] = ['x', 'y'].map((head) => head + 'z'.repeat(100_000));
    writeFileSync(join(root, 's/big'), now ?? '');
    writeFileSync(join(root, 'd/big'), old ?? '');
    for (const name of ['s/big', 'd/big']) utimesSync(join(root, name), 1_000_000_000, 1_000_000_000);
    expect((await run(['copy', '--move', 's/', 'd'], { cwd: root })).code).toBe(0);
    expect(readFileSync(join(root, 'd/big'), 'utf8')).toBe(now);
  });
});

describe('what is in the way of an entry', () => {
  it.each([
    [['copy', 's/', 'd'], 'with --delete it goes'],
    [['sync', 's', 'd'], 'with --delete it goes'],
    [['hpcp', 's/', '-d', 'd'], 'with -rme it goes'],
    [['copy', '--move', 's/', 'd'], 'with --delete it goes'],
    [['move', 's/', 'd'], undefined],
    [['migrate', 's/', 'd'], undefined],
  ])('%j tells with which of its own flags it would go', async (args, told) => {
    const root = scratch();
    for (const name of ['s', 'd/a/in']) mkdirSync(join(root, name), { recursive: true });
    writeFileSync(join(root, 's/a'), '1');
    const { stderr } = await run(args, { cwd: root });
    expect(stderr).toContain('directory');
    expect(/with -\S+ it goes/.exec(stderr)?.[0], stderr).toBe(told);
  });

  it('is told by the option of the library, and by no flag', async () => {
    const root = scratch();
    for (const name of ['s', 'd/a/in']) mkdirSync(join(root, name), { recursive: true });
    writeFileSync(join(root, 's/a'), '1');
    const { failures } = await copy({ sources: `${root}/s/`, destination: join(root, 'd') });
    expect(failures).toMatchObject([{ kind: 'conflict', option: 'removeExtra' }]);
    expect(failures[0]?.message).not.toContain('--');
  });
});

/** Small inodes of ext4 end in January 2038. */
describe.skipIf(process.getuid?.() !== 0)('a move to where time ends early', () => {
  it.each([
    [['copy', '--move', 's/', 'd/o'], 23],
    [['hpcp', '-rm', '-rf', 's/', '-d', 'd/o'], 192],
  ])('%j leaves what has a later time, unless that is accepted', async (args, code) => {
    const root = scratch();
    for (const name of ['s', 'd']) mkdirSync(join(root, name));
    for (const name of ['s/early', 's/late']) writeFileSync(join(root, name), name);
    utimesSync(join(root, 's/late'), 2_208_988_800, 2_208_988_800);
    writeFileSync(join(root, 'image'), '');
    truncateSync(join(root, 'image'), 32 << 20);
    for (const [command, ...rest] of [
      ['mkfs.ext4', '-q', '-I', '128', 'image'],
      ['mount', '-o', 'loop', 'image', 'd'],
    ] as [string, ...string[]][]) {
      expect(await program(command, rest, { cwd: root })).toMatchObject({ code: 0 });
    }
    try {
      const moved = await run(args, { cwd: root });
      expect(moved.code).toBe(code);
      expect(moved.stderr).toMatch(/note.*its time: 2040-01-01T00:00:00Z became 2038-01-19T03:14:07Z/);
      expect(moved.stderr).toMatch(
        /remove s\/late: its time was not kept, so it stays \(with --accept-time-loss it goes\)/,
      );
      expect(names(root, 's')).toEqual(['late']);
      const accepted = await run([...args, '--accept-time-loss'], { cwd: root });
      expect(accepted.code).toBe(0);
      expect(existsSync(join(root, 's'))).toBe(false);
      expect(names(root, 'd/o')).toEqual(['early', 'late']);
    } finally {
      await program('umount', ['d'], { cwd: root });
    }
  });
});

describe('the library asks', () => {
  const extras = (root: string) => ({ sources: join(root, 's/'), destination: join(root, 'd'), removeExtra: true });

  it.each([true, false])('and does as it is told: %s', async (yes) => {
    for (const read of [true, false]) {
      const root = pair();
      const asked: Victims[] = [];
      const job = copy({
        ...extras(root),
        confirm: async (victims) => {
          asked.push(...victims);
          return yes;
        },
      });
      if (read) for await (const event of job) expect(event.type).not.toBe('question');
      const report = await job;
      expect(asked).toMatchObject([{ what: 'extra', entries: 6, bytes: 7 + 11 + 13 }]);
      expect(asked[0]?.first).toContain(join(root, 'd/gone/deep/f'));
      expect(existsSync(join(root, 'd/extra'))).toBe(!yes);
      expect(report.withheld.map(({ kind }) => kind)).toEqual(yes ? [] : ['declined']);
    }
  });

  it('goes on unasked without a question', async () => {
    const root = pair();
    expect(await copy(extras(root))).toMatchObject({ extras: 6, withheld: [] });
  });

  it('takes a failure to ask for a no, and throws it', async () => {
    const victims = { what: 'extra' as const, entries: 1, bytes: 0, first: [] };
    const native = new FakeNative({ events: [[{ type: 'question', victims: [victims] }]] });
    const job = new Job(
      async () => ({ native }),
      undefined,
      () => Promise.reject(new Error('no terminal')),
    );
    const reading = (async () => {
      for await (const _ of job);
    })();
    await expect(reading).rejects.toThrow('no terminal');
    expect(native.answers).toEqual([false]);
  });
});
