/** A copy by several processes. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { type PartState, RunDirectory, restore, tagOf } from '../../src/ops/spread/directory.js';
import { attempt } from '../../src/ops/spread/protocol.js';
import { copyRange, discard, type Range } from '../../src/ops/spread/range.js';
import type { SpreadOptions } from '../../src/ops/spread.js';
import { Ledger, total } from '../../src/ops/transfer/ledger.js';
import {
  bigTree,
  contentOf,
  deedful,
  differences,
  entriesOf,
  errorsOf,
  MAIN,
  MIB,
  planOf,
  same,
  spread,
  summaryOf,
  tree,
} from '../rig/spread.js';
import { type Run, run, scratch } from '../rig.js';

// Each of them starts many processes, which take their time on a small shared machine.
vi.setConfig({ testTimeout: 120_000 });

describe('copy --workers', () => {
  it('copies as one process does, counts each entry once, and leaves no run behind', async () => {
    const [source, destination, state] = [tree(), join(scratch(), 'copy'), scratch()];
    const args = ['copy', '--json', '--workers', '3', '--parts', '9', '--state-dir', state, `${source}/`, destination];
    const first = await run(args);
    expect([first.code, first.stderr]).toEqual([0, '']);
    const { found, outcomes, directories, complete } = summaryOf(first);
    const sum = (counts: Record<string, number>) => Object.values(counts).reduce((all, each) => all + each, 0);
    expect([complete, sum(found), sum(outcomes)]).toEqual([true, entriesOf(source), entriesOf(source)]);
    expect([outcomes.linked, directories.made]).toEqual([1, Number(found.directory)]);
    same(source, destination);
    const [job = ''] = readdirSync(join(state, 'jobs'));
    expect(readdirSync(join(state, 'jobs', job)).sort()).toEqual(['journal.jsonl', 'lease']);
    const again = summaryOf(await run(args));
    // A look at how the destination takes names touches it.
    const { skipped, metadata } = again.outcomes;
    expect([skipped + metadata, again.copiedBytes]).toEqual([entriesOf(source), 0]);
  });

  it('is known to status and resume by its run directory', async () => {
    const [source, destination, state, cwd] = [scratch(), join(scratch(), 'copy'), scratch(), scratch()];
    for (const name of ['a', 'b']) writeFileSync(join(source, name), name);
    // Nobody can work on it.
    const words = ['--workers', '2', '--run-dir', 'run', '--state-dir', state, '--host-program', '/nonexistent'];
    expect((await run(['copy', ...words, `${source}/`, destination], { cwd })).code).toBe(23);
    for (const named of ['run', 'run/', join(cwd, 'run')]) {
      const { code, stdout } = await run(['status', '--json', '--state-dir', state, named], { cwd });
      expect([code, JSON.parse(stdout.trim().split('\n')[0] ?? '').destinations]).toEqual([0, [destination]]);
    }
    const again = await run(['resume', '--retry-failed', '--state-dir', state, 'run'], { cwd });
    expect([again.code, again.stderr]).toEqual([23, expect.stringContaining('no worker has brought part 1')]);
  });

  it('copies SRC into DEST, or what is in it', async () => {
    const [source, destination] = [tree(), scratch()];
    expect((await run(['copy', '--workers', '2', source, destination])).code).toBe(0);
    same(source, join(destination, 'source'));
  });

  it('opens nothing that the source keeps closed, also where permissions are not kept', async () => {
    const [source, destination] = [tree(), join(scratch(), 'copy')];
    const words = ['copy', '--workers', '2', '--no-perms', `${source}/`, destination];
    expect((await run(words)).code).toBe(0);
    const modes = (of: string) => ['private', 'a', 'b/c'].map((name) => statSync(join(of, name)).mode & 0o777);
    expect(modes(destination)).toEqual(modes(source));
  });

  it('removes what is extra when all is there, and copies what came late', async () => {
    const [source, destination] = [tree(), join(scratch(), 'copy')];
    mkdirSync(join(destination, 'gone/deep'), { recursive: true });
    writeFileSync(join(destination, 'gone/deep/x'), 'x');
    const { code, stdout } = await run(['copy', '--json', '--workers', '2', '--delete', `${source}/`, destination]);
    expect([code, JSON.parse(stdout.trim().split('\n').at(-1) ?? '').outcomes.removed]).toEqual([0, 3]);
    same(source, destination);
  });

  it('reads back what comes in the end too, and nothing twice', async () => {
    const [source, destination] = [scratch(), join(scratch(), 'copy')];
    for (const [name, bytes] of [['a', 70_000] as const, ['b', 50] as const]) {
      writeFileSync(join(source, name), Buffer.alloc(bytes, name));
      utimesSync(join(source, name), 1e9, 1e9);
    }
    const late = join(source, 'late');
    const program = deedful(`writeFileSync(${JSON.stringify(late)}, 'comes when there is a plan');`);
    const job = spread({
      ...{ source: `${source}/`, destination, workers: 1, parts: 2, directory: join(scratch(), 'run'), program },
      ...{ verify: true, removeExtra: true },
    });
    const { complete, outcomes, copiedBytes, verifiedFiles, verifiedBytes } = await job;
    const bytes = 70_000 + 50 + 26;
    expect([complete, outcomes.copied, copiedBytes]).toEqual([true, 3, bytes]);
    expect([verifiedFiles, verifiedBytes, job.snapshot().readBytes]).toEqual([3, bytes, 2 * bytes]);
    same(source, destination);
  });

  it('removes nothing past --max-delete', async () => {
    const [source, destination] = [tree(), join(scratch(), 'copy')];
    mkdirSync(destination);
    for (const name of ['x', 'y']) writeFileSync(join(destination, name), name);
    const words = ['copy', '--workers', '2', '--delete', '--max-delete', '1', `${source}/`, destination];
    const { code, stderr } = await run(words);
    expect([code, existsSync(join(destination, 'x')), existsSync(join(destination, 'a/f1'))]).toEqual([3, true, true]);
    expect(stderr).toContain('NOT REMOVED');
  });

  it('puts what it copies in the place of what is of another kind, with --delete, as one process does', async () => {
    const [source, destination, alone] = [tree(), join(scratch(), 'copy'), join(scratch(), 'alone')];
    for (const to of [destination, alone]) {
      mkdirSync(join(to, 'a/f1/deep'), { recursive: true });
      writeFileSync(join(to, 'a/f1/deep/x'), 'x');
      writeFileSync(join(to, 'b'), 'where a directory comes');
      symlinkSync('a', join(to, 'private'));
    }
    const words = ['copy', '--json', '--verify', `${source}/`];
    const told = (done: Run) => {
      const { complete, accounted, extras, outcomes, found } = summaryOf(done);
      return { code: done.code, complete, accounted, extras, outcomes, found };
    };
    const workers = ['--workers', '2', '--parts', '7'];
    // Nothing goes that nobody said should.
    expect((await run([...words, ...workers, destination])).code).toBe(23);
    expect(existsSync(join(destination, 'a/f1/deep/x'))).toBe(true);
    for (const each of ['c', 'd']) expect(existsSync(join(destination, 'b', each))).toBe(false);
    const held = await run([...words, ...workers, '--delete', '--max-delete', '1', destination]);
    expect([held.code, summaryOf(held).accounted]).toEqual([3, true]);
    const several = told(await run([...words, ...workers, '--delete', destination]));
    expect(several).toMatchObject({ code: 0, complete: true, accounted: true, outcomes: { removed: 5 } });
    same(source, destination);
    expect((await run([...words, '--delete', alone])).code).toBe(0);
    same(alone, destination);
    // Where something else is wrong too nothing goes, and what is in the way is named.
    rmSync(join(destination, 'b'), { recursive: true });
    writeFileSync(join(destination, 'b'), 'in the way');
    const program = deedful(`rmSync('${join(source, 'a/f2')}', { force: true });`);
    const report = await spread({
      ...{ source: `${source}/`, destination, workers: 1, parts: 9, directory: join(scratch(), 'run'), program },
      removeExtra: true,
    });
    expect([report.accounted, report.failureKinds.vanished, report.withheld.length]).toEqual([true, 1, 1]);
    expect(report.failureKinds.conflict).toBeGreaterThan(0);
    expect(report.failures.filter(({ kind }) => kind === 'conflict').map(({ path }) => path)).toContain(
      join(destination, 'b'),
    );
    expect(readFileSync(join(destination, 'b'), 'utf8')).toBe('in the way');
  });

  it.each([1, 2, 3, 4])(
    'tells what went wrong as one process does, and of a directory once (tree %d)',
    async (seed) => {
      let state = seed;
      const below = (many: number) => {
        state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
        return (state >>> 16) % many;
      };
      const [source, destination, alone] = [scratch(), join(scratch(), 'copy'), join(scratch(), 'alone')];
      const names: string[] = [];
      const grow = (at: string, depth: number) => {
        for (const name of ['a', 'b', 'c', 'd', 'e', 'f'].slice(0, 3 + below(4))) {
          const path = join(at, name);
          names.push(path);
          const kind = below(depth > 0 ? 4 : 2);
          if (kind === 0) symlinkSync('elsewhere', join(source, path));
          else if (kind === 1) writeFileSync(join(source, path), `${path} ${'x'.repeat(below(50))}`);
          else {
            mkdirSync(join(source, path));
            grow(path, depth - 1);
          }
        }
      };
      grow('', 2);
      mkdirSync(join(source, 'z/deep'), { recursive: true });
      for (const name of ['f', 'deep/f', 'deep/g']) writeFileSync(join(source, 'z', name), name);
      // The same in both: what is there already, of that kind or of another.
      const there = names.flatMap((name) => {
        const kind = below(8);
        return kind < 3 ? [[name, kind] as const] : [];
      });
      for (const to of [destination, alone]) {
        mkdirSync(to);
        writeFileSync(join(to, 'z'), 'where a directory comes, which several parts need');
        for (const [name, kind] of there) {
          const path = join(to, name);
          if (!existsSync(dirname(path)) || !lstatSync(dirname(path)).isDirectory()) continue;
          if (kind === 0) symlinkSync('nowhere', path);
          else if (kind === 1) writeFileSync(path, 'other');
          else mkdirSync(path);
        }
      }
      const told = (done: Run, to: string) => {
        const { accounted, complete, outcomes, found, failureKinds, copiedBytes } = summaryOf(done);
        const { failed, skipped, metadata, ...others } = outcomes;
        // What is below a directory that could not be made one process does not look at, and a plan has.
        const seen = total(found) - failed;
        const failures = errorsOf(done).map((each) => each.replace(to, ''));
        const became = { ...others, kept: skipped + metadata };
        return { code: done.code, accounted, complete, seen, failureKinds, copiedBytes, failures, outcomes: became };
      };
      const words = ['copy', '--json', '--state-dir', scratch(), `${source}/`];
      const one = told(await run([...words, alone]), alone);
      const several = told(await run([...words, destination, '--workers', '2', '--parts', '12']), destination);
      expect(several).toEqual(one);
      expect(several.failures).toContain('conflict /z');
      expect(contentOf(destination)).toBe(contentOf(alone));
    },
  );

  it('counts what stays of what is extra as one process does', async () => {
    const [source, destination, alone] = [tree(), join(scratch(), 'copy'), join(scratch(), 'alone')];
    // Of another host, so that nobody knows whether it is still worked on.
    const unfinished = '.bh-01234567-0123456789abcdef';
    writeFileSync(join(source, 'a', unfinished), 'in the source');
    for (const to of [destination, alone]) {
      mkdirSync(join(to, 'gone'), { recursive: true });
      mkdirSync(join(to, 'kept/deep'), { recursive: true });
      mkdirSync(join(to, 'begun'));
      writeFileSync(join(to, 'kept/deep/x.keep'), 'x');
      writeFileSync(join(to, 'begun', unfinished), 'in the destination');
    }
    const words = ['copy', '--json', '--delete', '--exclude', '*.keep', `${source}/`];
    const [one, several] = [await run([...words, alone]), await run([...words, '--workers', '2', destination])];
    const told = (done: Run) => {
      const { extras, accounted, outcomes, skipped } = summaryOf(done);
      // One process has found in the source what no part has.
      const { 'staging-name': begun = 0, ...others } = skipped;
      return { code: done.code, extras, accounted, removed: outcomes.removed, begun, others };
    };
    expect(told(one)).toEqual({ ...told(several), begun: 2 });
    expect(told(several)).toMatchObject({ code: 0, accounted: true, removed: 1, begun: 1, others: { 'not-empty': 3 } });
  });

  it('neither copies nor removes its run, where that is kept in one of the trees', async () => {
    const [source, destination, state] = [tree(), join(scratch(), 'copy'), scratch()];
    mkdirSync(join(destination, 'extra'), { recursive: true });
    const note = (names: string) => `left out, because the run is kept there: ${names}`;
    const copied = async (...more: string[]) => {
      const words = ['copy', '--json', '--workers', '2', '--parts', '5', '--delete', ...more];
      const done = await run([...words, `${source}/`, destination]);
      const { complete, notes } = summaryOf(done);
      return [done.code, complete, notes.map(({ message }: { message: string }) => message)];
    };
    const own = join(source, 'ru[n');
    expect(await copied('--state-dir', state, '--run-dir', own)).toEqual([0, true, [note('ru[n')]]);
    expect([existsSync(join(own, 'final.json')), existsSync(join(destination, 'ru[n'))]).toEqual([true, false]);
    rmSync(own, { recursive: true });
    const other = join(destination, 'run');
    expect(await copied('--state-dir', state, '--run-dir', other)).toEqual([0, true, [note('run')]]);
    expect(existsSync(join(other, 'final.json'))).toBe(true);
    rmSync(other, { recursive: true });
    // The journal is there too, and the run in it goes with its end.
    for (const tree of [source, destination]) {
      const names = ['finished', 'journal.jsonl', 'lease', 'run'].map((name) => `state/jobs/ID/${name}`).join(', ');
      const [code, complete, notes] = await copied('--state-dir', join(tree, 'state'));
      const shown = notes.map((message: string) => message.replaceAll(/spread-[0-9a-f]{8}/g, 'ID'));
      expect([code, complete, shown]).toEqual([0, true, [note(names)]]);
      const [job = ''] = readdirSync(join(tree, 'state/jobs'));
      expect(readdirSync(join(tree, 'state/jobs', job))).toContain('journal.jsonl');
      for (const each of [source, destination]) rmSync(join(each, 'state'), { recursive: true, force: true });
    }
    expect(existsSync(join(destination, 'extra'))).toBe(false);
    expect(contentOf(destination)).toBe(contentOf(source));
  });

  it('makes nothing in a dry run, and prints the parts and the commands', async () => {
    const [source, destination, state] = [tree(), join(scratch(), 'copy'), scratch()];
    const words = ['copy', '-n', '--workers', '2', '--parts', '4', '--state-dir', state, `${source}/`, destination];
    const { code, stdout, stderr } = await run(words);
    expect([code, stdout.match(/^part \d: /gm)?.length]).toEqual([0, 4]);
    expect(stderr.match(/ worker --name /g)).toHaveLength(2);
    expect([existsSync(destination), readdirSync(state)]).toEqual([false, []]);
  });

  it.skipIf(process.getuid?.() !== 0)(
    'refuses what does not fit as one process does, before anything is made',
    async () => {
      const cwd = scratch();
      for (const name of ['src', 'small']) mkdirSync(join(cwd, name));
      for (const [name, bytes] of [
        ['large', 3 << 20],
        ['little', 10],
      ] as const)
        writeFileSync(join(cwd, 'src', name), Buffer.alloc(bytes, 'x'));
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'none', join(cwd, 'small')]);
      onTestFinished(() => void execFileSync('umount', [join(cwd, 'small')]));
      const alone = await run(['copy', '--require-space', 'src/', 'small/d'], { cwd });
      for (const more of [[], ['-n']]) {
        const words = ['copy', ...more, '--workers', '2', '--require-space', 'src/', 'small/d'];
        const { code, stderr } = await run(words, { cwd });
        expect([code, stderr]).toEqual([3, alone.stderr]);
      }
      expect(readdirSync(join(cwd, 'small'))).toEqual([]);
      // Of a list, also one that can be read only once, what it names has to fit.
      const list = ['copy', '--workers', '2', '--require-space', '--files-from', '-', 'src/', 'small/d'];
      expect((await run(list, { cwd, input: 'large\n' })).code).toBe(3);
      expect((await run(list, { cwd, input: 'little\n' })).code).toBe(0);
      expect(readdirSync(join(cwd, 'small/d'))).toEqual(['little']);
    },
  );

  it('has no use for a rule for names that two sources bring, and takes it', async () => {
    const [source, destination] = [tree(), join(scratch(), 'copy')];
    const words = ['--workers', '2', '--on-collision', 'last', '--state-dir', scratch()];
    expect((await run(['copy', ...words, `${source}/`, destination])).code).toBe(0);
    same(source, destination);
  });

  it('is refused for what is no directory, for more than one SRC, and its options without it', async () => {
    const cwd = scratch();
    writeFileSync(join(cwd, 'f'), '');
    const refused = async (...words: string[]) => (await run(['copy', ...words], { cwd })).stderr;
    expect(await refused('--workers', '2', 'f', 'd')).toContain("is no directory: it can't be divided");
    expect(await refused('--workers', '2', 'f', 'g', 'd')).toContain('More than one SRC');
    expect(await refused('--run-dir', 'r', 'f', 'd')).toContain('--run-dir goes with --workers');
    for (const absent of ['absent', 'absent/', 'f/absent']) {
      const alone = await run(['copy', absent, 'd'], { cwd });
      const { code, stderr } = await run(['copy', '--workers', '2', absent, 'd'], { cwd });
      expect([code, stderr]).toEqual([alone.code, alone.stderr]);
    }
    expect(await refused('--workers', '2', '--no-journal', 'a/', 'd')).toContain('name one with --run-dir');
    expect(existsSync(join(cwd, 'd'))).toBe(false);
  });

  it('moves: nothing goes from the source before all is there and proved', async () => {
    const [source, destination, state] = [tree(), join(scratch(), 'copy'), scratch()];
    const kept = join(scratch(), 'kept');
    execFileSync('cp', ['-a', source, kept]);
    const entries = entriesOf(source);
    const words = ['copy', '--json', '--workers', '2', '--move', '--state-dir', state];
    // One that can not come.
    mkdirSync(join(destination, 'a/f3/full'), { recursive: true });
    const held = await run([...words, `${source}/`, destination]);
    expect([held.code, summaryOf(held).withheld, entriesOf(source)]).toEqual([
      23,
      [{ kind: 'failed', what: 'sources', message: 'the source stays: not everything was copied' }],
      entries,
    ]);
    rmSync(join(destination, 'a/f3'), { recursive: true });
    const [job = ''] = readdirSync(join(state, 'jobs'));
    const moved = await run(['resume', '--json', '--state-dir', state, job]);
    expect(moved.stderr).toBe('');
    const { accounted, removedSources, outcomes } = summaryOf(moved);
    const sum = Object.values(outcomes as Record<string, number>).reduce((all, each) => all + each, 0);
    expect([moved.code, accounted, removedSources, sum]).toEqual([0, true, entries, entries]);
    expect(existsSync(source)).toBe(false);
    same(kept, destination);
  });

  it('writes the manifest of all, that of one process', async () => {
    const [source, destination, cwd] = [tree(), join(scratch(), 'copy'), scratch()];
    const one = await run(['copy', '--format', 'jsonl', '--manifest', 'one', `${source}/`, join(scratch(), 'copy')], {
      cwd,
    });
    const many = await run(
      ['copy', '--workers', '2', '--format', 'jsonl', '--manifest', 'many', `${source}/`, destination],
      { cwd },
    );
    expect([one.code, many.code]).toEqual([0, 0]);
    expect(readFileSync(join(cwd, 'many'), 'latin1')).toBe(readFileSync(join(cwd, 'one'), 'latin1'));
  });

  it('copies what a list names, as one process does', async () => {
    const source = tree();
    const names = ['a/f1', './b/c/', 'b//link', 'b/c/f2', 'empty', 'new\nline', 'a/f1', 'private/f0', ''];
    const bytes = Buffer.concat([Buffer.from(names.join('\0')), Buffer.from([0xff, 0xfe])]);
    const list = join(scratch(), 'list');
    writeFileSync(list, bytes);
    const [one, many] = [join(scratch(), 'one'), join(scratch(), 'many')];
    const words = (to: string) => ['--files-from0', list, `${source}/`, to];
    const alone = summaryOf(await run(['copy', '--json', ...words(one)]));
    const { code, stdout } = await run(['copy', '--json', '--workers', '2', '--parts', '3', ...words(many)]);
    const spread = JSON.parse(stdout.trim().split('\n').at(-1) ?? '');
    expect([code, spread.found, spread.outcomes]).toEqual([0, alone.found, alone.outcomes]);
    expect(differences(one, many)).toBe('');
    // From standard input, by lines; what is missing is told and costs nothing else.
    const third = join(scratch(), 'third');
    const lines = ['copy', '--json', '--workers', '2', '--files-from', '-', `${source}/`];
    const missing = await run([...lines, third], { input: 'a/f1\nnowhere/x\nempty' });
    const judged = summaryOf(
      await run(['copy', '--json', '--files-from', '-', `${source}/`, join(scratch(), 'x')], {
        input: 'a/f1\nnowhere/x\nempty',
      }),
    );
    const { failureKinds, accounted } = summaryOf(missing);
    expect([missing.code, failureKinds, accounted]).toEqual([judged.exitCode, judged.failureKinds, true]);
    expect([existsSync(join(third, 'a/f1')), existsSync(join(third, 'empty'))]).toEqual([true, true]);
    for (const outside of ['../x', '/a', 'a/../../x']) {
      const out = await run([...lines, join(scratch(), 'x')], { input: `a/f1\n${outside}\n` });
      expect([out.code, out.stdout]).toEqual([2, expect.stringContaining('is not below')]);
    }
    const none = await run([...lines, join(scratch(), 'x')], { input: '' });
    expect([none.code, summaryOf(none).found.directory]).toEqual([0, 1]);
    const dry = await run(['copy', '-n', '--workers', '2', ...words(join(scratch(), 'x'))]);
    expect([dry.code, dry.stderr]).toEqual([0, expect.stringContaining('dry run')]);
    const extra = await run(['copy', '--workers', '2', '--delete', ...words(many)]);
    expect([extra.code, extra.stderr]).toEqual([2, expect.stringContaining('extra entries')]);
  });

  it('shares limits and threads out', async () => {
    const [source, directory] = [tree(), join(scratch(), 'run')];
    const words = [
      '--workers',
      '4',
      '--jobs',
      '8',
      '--bwlimit',
      '400m',
      '--iops-limit',
      '4000',
      '--run-dir',
      directory,
    ];
    expect((await run(['copy', ...words, `${source}/`, join(scratch(), 'copy')])).code).toBe(0);
    expect(new RunDirectory(directory).pace()).toMatchObject({
      jobs: 2,
      limits: { bytes: 100 * 1024 * 1024, entries: 1000 },
    });
  });
});

describe('a big file', () => {
  const copied = async (source: string, directory: string, destination: string, ...words: string[]) => {
    const args = ['--workers', '2', '--parts', '6', '--run-dir', directory, '--state-dir', scratch(), ...words];
    const done = await run(['copy', '--json', ...args, `${source}/`, destination]);
    const plan = planOf(directory);
    const room = new RunDirectory(directory);
    const whole = plan.parts.findIndex(({ ranges }) => ranges !== undefined) + 1;
    const [first, last] = plan.parts[whole - 1]?.ranges ?? [1, 0];
    const ranges = Array.from({ length: last - first + 1 }, (_, index) => room.state(first + index));
    return { done, plan, room, whole, ranges };
  };
  const left = (destination: string) => readdirSync(join(destination, 'deep/er')).filter((name) => name !== 'big');

  it('comes in ranges, from several workers, and is published when the last is there', async () => {
    const [source, destination, directory] = [bigTree(), join(scratch(), 'copy'), join(scratch(), 'run')];
    const { done, room, whole, ranges } = await copied(source, directory, destination);
    expect([done.code, done.stderr]).toEqual([0, '']);
    expect(ranges.map(({ found, gathered }) => [found, gathered !== undefined])).toEqual(Array(3).fill([0, true]));
    const written = ranges.map(({ copiedBytes }) => copiedBytes);
    // Who looks for what took long finds the file, and not one of its ranges only.
    const books = new Ledger(undefined);
    for (const { slowest = [] } of ranges) books.took(slowest.map((slow) => restore(slow)));
    const { slowest } = books.report({ interrupted: false, workers: 1, elapsed: 1, dryRun: false });
    expect(slowest.map(({ path, bytes }) => [String(path), bytes])).toEqual([[join(source, 'deep/er/big'), 200 * MIB]]);
    expect(Math.min(...written)).toBeGreaterThan(0);
    expect(Math.max(...written)).toBeLessThan(MIB);
    expect(new Set(ranges.map(({ gathered }) => JSON.stringify(gathered))).size).toBe(1);
    // Who publishes it writes nothing of it.
    expect(room.state(whole)).toMatchObject({
      found: 1,
      copiedBytes: 0,
      resumedBytes: 0,
      outcomes: { copied: { all: 1 } },
    });
    same(source, destination);
    expect(left(destination)).toEqual([]);
    // What is a hole stays one.
    expect(statSync(join(destination, 'deep/er/big')).blocks * 512).toBeLessThan(MIB);
    const { found, outcomes, accounted } = summaryOf(done);
    const sum = (counts: Record<string, number>) => Object.values(counts).reduce((all, each) => all + each, 0);
    expect([accounted, sum(found), sum(outcomes)]).toEqual([true, entriesOf(source), entriesOf(source)]);
    // It is there: nothing of it goes again, and nothing is made beside it.
    const again = await copied(source, join(scratch(), 'run'), destination, '--verify');
    expect([again.done.code, summaryOf(again.done).copiedBytes]).toEqual([0, 0]);
    expect(again.ranges.map(({ gathered }) => gathered)).toEqual([undefined, undefined, undefined]);
    expect(left(destination)).toEqual([]);
  });

  it('is copied as a whole where holes are the most of it, which ranges would read', async () => {
    const [source, destination, directory] = [scratch(), join(scratch(), 'copy'), join(scratch(), 'run')];
    mkdirSync(join(source, 'deep/er'), { recursive: true });
    const big = join(source, 'deep/er/big');
    writeFileSync(big, 'begin');
    truncateSync(big, 3 * 1024 * MIB);
    const { done, plan } = await copied(source, directory, destination);
    expect([done.code, done.stderr]).toEqual([0, '']);
    expect(plan.parts.filter(({ range, ranges }) => range ?? ranges)).toEqual([]);
    const [one, other] = [big, join(destination, 'deep/er/big')].map((path) => statSync(path));
    expect([other?.size, other?.blocks]).toEqual([one?.size, one?.blocks]);
  });

  it('is left where it is, and told, when the copy is stopped while it waits for its turn', async () => {
    const [source, destination] = [scratch(), scratch()];
    writeFileSync(join(source, 'big'), '');
    truncateSync(join(source, 'big'), 256 * MIB);
    const job = spread({
      ...{ source: `${source}/`, destination, workers: 2, parts: 4, directory: join(scratch(), 'run') },
      // The second piece of a range would come in a day.
      ...{ program: [process.execPath, MAIN], limits: { bytes: 100 } },
    });
    let over = false;
    const ended = job.finally(() => (over = true));
    const left = () => readdirSync(destination).filter((name) => name.startsWith('.bh-'));
    while (!over && left().length === 0) await sleep(20);
    const was = over;
    job.cancel();
    const { interrupted, unfinished } = await ended;
    expect([was, interrupted, unfinished, left().length]).toEqual([false, true, 1, 1]);
  });

  it('is copied as a whole where its ranges are not of what it is now', async () => {
    const [source, destination, directory] = [bigTree(), join(scratch(), 'copy'), join(scratch(), 'run')];
    const options = { source: `${source}/`, destination, workers: 2, parts: 6, directory, patience: 36_000 };
    // A worker that ends when the ranges are there, and what it leaves is of another version.
    await spread({ ...options, program: ['/nonexistent/bulkhaul'] });
    rmSync(join(directory, 'final.json'));
    const plan = planOf(directory);
    const whole = plan.parts.findIndex(({ ranges }) => ranges !== undefined) + 1;
    const [first, last] = plan.parts[whole - 1]?.ranges ?? [1, 0];
    mkdirSync(join(destination, 'deep/er'), { recursive: true });
    const name = `.bh-${tagOf(plan)}-${createHash('sha256').update('big').digest('hex').slice(0, 8)}01234567`;
    writeFileSync(join(destination, 'deep/er', name), '');
    truncateSync(join(destination, 'deep/er', name), 200 * MIB);
    // Of another host, and another run.
    writeFileSync(join(destination, 'deep/er/.bh-00000001-0123456789abcdef'), '');
    const room = new RunDirectory(directory);
    for (let part = first; part <= last; part += 1) {
      const steps = attempt<PartState>(part, 1);
      const state = {
        ...{ part, attempt: 1, worker: 'x', host: 'x', elapsed: 0, found: 0, outcomes: {}, made: 0, copiedBytes: 0 },
        ...{
          movedBytes: 0,
          resumedFiles: 0,
          resumedBytes: 0,
          verifiedFiles: 0,
          verifiedBytes: 0,
          verifiedFromCache: 0,
          hashedBytes: 0,
        },
        ...{ complete: true, failureKinds: {}, notes: [], gathered: { name, version: '1 2 3 4' } },
      };
      for (let step = steps.next(); !step.done; )
        step = steps.next(step.value.do === 'work' ? state : room.perform(step.value, 'x'));
    }
    const report = await spread({ ...options, program: [process.execPath, MAIN] });
    // Those who had these names in the run before have ended; these have not, and keep what they have.
    expect(readdirSync(join(directory, 'leases')).filter((name) => /[.][2-9]/.test(name))).toEqual([]);
    expect([report.complete, room.state(whole).copiedBytes > 0]).toEqual([true, true]);
    expect(report.notes.map(({ kind, path }) => [kind, path])).toEqual([
      ['run', ''],
      ['foreign-staging', join(destination, 'deep/er/.bh-00000001-0123456789abcdef')],
    ]);
    expect(left(destination)).toEqual(['.bh-00000001-0123456789abcdef']);
    same(source, destination);
  });

  it('has no two writers that harm it: what is late is not written', async () => {
    const [source, destination] = [bigTree(), scratch()];
    const copy = (range: Range, mine: () => boolean) =>
      copyRange({
        ...{ source, destination, name: Buffer.from('deep/er/big'), range, tag: '01234567', sparse: 'never' },
        ...{ lanes: 1, pace: async () => undefined, mine, stopped: () => false, moved: () => undefined },
      });
    const size = 200 * MIB;
    const end = await copy({ start: 0, end: 8 * MIB, size }, () => true);
    const gathered = join(destination, 'deep/er', end?.gathered?.name ?? '');
    expect([end?.made, statSync(gathered).size]).toEqual([2, size]);
    // It is somebody else's from the second piece on.
    const answers = [true, false];
    expect(await copy({ start: 56 * MIB, end: size, size }, () => answers.shift() ?? false)).toBeUndefined();
    const of = (path: string, at: number) => {
      const [file, bytes] = [openSync(path, 'r'), Buffer.alloc(7)];
      readSync(file, bytes, 0, 7, at);
      closeSync(file);
      return bytes.toString();
    };
    expect([of(gathered, 0), of(gathered, 64 * MIB - 5)]).toEqual(['0000000', '\0'.repeat(7)]);
    // Another version has another file, and one of another size has none.
    utimesSync(join(source, 'deep/er/big'), 1.1e9, 1.1e9);
    const other = await copy({ start: 0, end: MIB, size }, () => true);
    expect(other?.gathered?.name).not.toBe(end?.gathered?.name);
    expect(await copy({ start: 0, end: MIB, size: size + 1 }, () => true)).toEqual({
      made: 0,
      written: 0,
      gathered: undefined,
    });
    await discard({ destination, name: Buffer.from('deep/er/big'), tag: '01234567' });
    expect(left(destination)).toEqual([]);
  });

  it('leads nowhere by a symlink', async () => {
    const [source, destination, elsewhere] = [bigTree(), scratch(), scratch()];
    symlinkSync(elsewhere, join(destination, 'deep'));
    const { done } = await copied(source, join(scratch(), 'run'), destination);
    const { accounted } = summaryOf(done);
    expect([done.code, accounted, readdirSync(elsewhere)]).toEqual([23, true, []]);
  });
});

describe('how far a spread copy is', () => {
  it.each<
    [string, number, number, Pick<SpreadOptions, 'verify' | 'removeSources' | 'removeExtra'> & { manifest?: boolean }]
  >([
    ['a copy', 1, 1, {}],
    ['a proof', 2, 1, { verify: true }],
    ['a move', 3, 3, { removeSources: true }],
    ['a proof and a move', 3, 3, { verify: true, removeSources: true }],
    ['a move with a manifest', 4, 3, { removeSources: true, manifest: true }],
    ['a manifest', 2, 2, { manifest: true }],
    ['a removal of what is extra', 1, 2, { removeExtra: true }],
  ])('counts all bytes and entries of %s', async (_, reads, passes, { manifest, ...options }) => {
    // In a directory that two of them make at once names are given once more, and what was proved before is not known then.
    const [source, destination] = [scratch(), scratch()];
    const sizes = [100_000, 70_000, 5];
    for (const size of sizes) {
      writeFileSync(join(source, `f${size}`), Buffer.alloc(size, 'x'));
      // Of what may have been written to since nobody takes a proof over.
      utimesSync(join(source, `f${size}`), 1e9, 1e9);
    }
    const job = spread({
      ...{ ...options, source: `${source}/`, destination, workers: 2, directory: join(scratch(), 'run') },
      ...{ program: [process.execPath, MAIN], patience: 36_000 },
      ...(manifest && { manifest: { path: join(scratch(), 'M') } }),
    });
    expect((await job).complete).toBe(true);
    const { expected, readBytes, workedEntries } = job.snapshot();
    const [bytes, entries] = [100_000 + 70_000 + 5, sizes.length + 1];
    expect(expected).toMatchObject({ bytes, entries, toRead: bytes * reads, toDo: entries * passes });
    expect([readBytes, workedEntries]).toEqual([bytes * reads, entries * passes]);
  });
});

describe('who watches a spread copy', () => {
  it('takes the making of the plan for no part of the work, and its end for none', async () => {
    const [source, destination] = [scratch(), join(scratch(), 'copy')];
    for (const name of ['a', 'b', 'c']) writeFileSync(join(source, name), name);
    const job = spread({
      ...{ source: `${source}/`, destination, workers: 1, directory: join(scratch(), 'run') },
      program: [process.execPath, MAIN],
    });
    let over = false;
    const ended = job.finally(() => (over = true));
    const wrong: string[] = [];
    for (let before = ''; !over; await setImmediate()) {
      const { phase, doneEntries, expected } = job.snapshot();
      const told = phase === 'scanning' && (doneEntries > 0 || expected !== undefined);
      if (told || (before === 'done' && phase !== before)) wrong.push(phase);
      before = phase;
    }
    expect([(await ended).complete, wrong]).toEqual([true, []]);
  });

  it('hears of its workers long before their next sign of life is due', async () => {
    const [source, destination, directory] = [scratch(), join(scratch(), 'copy'), join(scratch(), 'run')];
    for (const name of ['a', 'b', 'c']) writeFileSync(join(source, name), Buffer.alloc(100_000, name));
    const job = spread({
      ...{ source: `${source}/`, destination, workers: 1, parts: 1, directory },
      // So slow that it never ends by itself, and so patient that nobody beats again.
      ...{ program: [process.execPath, MAIN], patience: 1_000_000, limits: { bytes: 100 } },
    });
    let over = false;
    const ended = job.finally(() => (over = true));
    const told = () => job.snapshot().readBytes;
    // Whoever comes when its worker is at work hears of it, too.
    const leases = join(directory, 'leases');
    while (!over && !(existsSync(leases) && readdirSync(leases).length > 0)) await sleep(20);
    while (told() === 0 && !over) await sleep(20);
    const [read, was] = [told(), over];
    job.cancel(true);
    expect([read > 0, was, (await ended).interrupted]).toEqual([true, false, true]);
  });
});
