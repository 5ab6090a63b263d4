/** What else is done by several processes: manifests, verifications, removals, compressions. */
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { RunDirectory } from '../../src/ops/spread/directory.js';
import {
  contentOf,
  deedful,
  entriesOf,
  errorsOf,
  MAIN,
  partJob,
  SETTLED,
  spreadTask,
  summaryOf,
  tree,
} from '../rig/spread.js';
import { mountFaulty, program, type Run, run, scratch } from '../rig.js';

// Each of them starts many processes, which take their time on a small shared machine.
vi.setConfig({ testTimeout: 120_000 });

describe('manifest and verify --workers', () => {
  it('write what one process writes, by any names and in any form', async () => {
    const source = tree();
    const state = scratch();
    for (const args of [
      [source],
      [`${source}/`, '--exclude', 'b/c'],
      [source, '--format', 'jsonl', '--algorithm', 'md5', '--algorithm', 'blake3'],
    ]) {
      const alone = await run(['manifest', '--no-journal', ...args]);
      const spread = await run(['manifest', '--workers', '3', '--parts', '7', '--state-dir', state, ...args]);
      expect(alone.stdout).not.toBe('');
      expect([spread.code, spread.stdout]).toEqual([alone.code, alone.stdout]);
    }
  });

  it('find what one process finds', async () => {
    const [source, state] = [tree(), scratch()];
    const sums = join(state, 'sums.jsonl');
    expect((await run(['manifest', '--format', 'jsonl', '-o', sums, `${source}/`])).code).toBe(0);
    writeFileSync(join(source, 'a/f3'), 'A 3');
    rmSync(join(source, 'a/f4'));
    rmSync(join(source, 'private'), { recursive: true });
    writeFileSync(join(source, 'b/c/more'), 'extra');
    rmSync(join(source, 'a/f5'));
    mkdirSync(join(source, 'a/f5'));
    const args = ['verify', '--json', '--in', source, sums];
    const alone = await run([...args, '--no-journal']);
    const spread = await run([...args, '--workers', '2', '--parts', '5', '--state-dir', state]);
    expect(errorsOf(alone).length).toBeGreaterThan(15);
    expect(errorsOf(spread)).toEqual(errorsOf(alone));
    const [one, other] = [summaryOf(alone), summaryOf(spread)];
    expect([spread.code, other.outcomes, other.found]).toEqual([alone.code, one.outcomes, one.found]);
  });

  it('read each file once, whoever does it', async () => {
    const [directory, sums] = [join(scratch(), 'run'), join(scratch(), 'sums')];
    const sizes = execFileSync('find', [SETTLED, '-type', 'f', '-printf', '%s\\n'])
      .toString()
      .trim()
      .split('\n')
      .map(Number);
    const files = sizes.length;
    const crew = ['--workers', '2', '--parts', '4', '--no-journal', '--run-dir'];
    const made = await run(['manifest', '--json', ...crew, directory, '-o', sums, `${SETTLED}/`]);
    const bytes = sizes.reduce((sum, size) => sum + size);
    expect([made.code, summaryOf(made).hashedBytes]).toEqual([0, bytes]);
    const named = await run(['manifest', '--json', ...crew, `${directory}.1`, SETTLED]);
    expect([named.code, summaryOf(named).hashedBytes]).toEqual([0, bytes]);
    const verified = await run(['verify', '--json', ...crew, `${directory}.2`, '--in', SETTLED, sums]);
    expect([verified.code, verified.stderr]).toEqual([0, '']);
    const parts = readdirSync(join(`${directory}.2`, 'states'));
    const states = parts.map((part) => JSON.parse(readFileSync(join(`${directory}.2`, 'states', part), 'utf8')));
    expect(states.reduce((sum: number, { verifiedFiles }) => sum + verifiedFiles, 0)).toBe(files);
    expect(summaryOf(verified).verifiedFiles).toBe(files);
  });

  it('tell all though no worker works', async () => {
    const [source, directory] = [tree(), scratch()];
    const [one, other] = [join(directory, 'one'), join(directory, 'other')];
    const crew = ['--workers', '2', '--host-program', 'false', '--state-dir', scratch()];
    expect((await run(['manifest', '--no-journal', '--format', 'jsonl', '-o', one, source])).code).toBe(0);
    const spread = await run(['manifest', '--json', ...crew, '--format', 'jsonl', '-o', other, source]);
    expect([spread.code, readFileSync(other, 'utf8')]).toEqual([0, readFileSync(one, 'utf8')]);
    const notes: { message: string }[] = summaryOf(spread).notes;
    expect(notes.map(({ message }) => message).join()).toContain('what is in them is read here');
  });

  it.each(['manifest', 'verify'])('%s leaves to another what a worker was killed at', async (verb) => {
    const [source, directory, go] = [tree(), join(scratch(), 'run'), join(scratch(), 'go')];
    writeFileSync(join(source, 'b/held'), 'nobody reads this before it may');
    const sums = join(scratch(), 'sums');
    expect((await run(['manifest', '--no-journal', '-a', 'md5', '-o', sums, `${source}/`])).code).toBe(0);
    const mount = await mountFaulty(source, `hang,until=${go},only=/held`);
    if (!mount) return;
    onTestFinished(mount.unmount);
    const [hung, made] = [mount.hangs(), join(scratch(), 'made')];
    const words = verb === 'verify' ? ['--in', mount.point, sums] : ['-a', 'md5', '-o', made, `${mount.point}/`];
    const crew = ['--workers', '1', '--parts', '4', '--no-journal', '--run-dir', directory];
    const running = run([verb, '--json', ...crew, ...words]);
    // It is the only one, and it is at that file.
    await hung;
    const room = new RunDirectory(directory);
    const [name = ''] = room.workers().keys();
    process.kill(room.beatOf(name)?.process ?? Number.NaN, 'SIGKILL');
    writeFileSync(go, '');
    const done = await running;
    const notes: { message: string }[] = summaryOf(done).notes;
    expect([done.code, notes.map(({ message }) => message)]).toEqual([
      0,
      [expect.stringMatching(/^worker .* ended by SIGKILL$/)],
    ]);
    const again = readdirSync(join(directory, 'leases')).flatMap((lease) => /^(\d+)[.]2$/.exec(lease)?.[1] ?? []);
    expect(again.map((part) => room.state(Number(part)).attempt)).toEqual([2]);
    if (verb === 'manifest') expect(readFileSync(made, 'utf8')).toBe(readFileSync(sums, 'utf8'));
    else {
      const alone = await run(['verify', '--json', '--no-journal', '--in', source, sums]);
      expect([alone.code, summaryOf(alone).outcomes]).toEqual([0, summaryOf(done).outcomes]);
    }
  });

  it('refuse what one process has to do', async () => {
    const [source, state] = [tree(), scratch()];
    for (const [args, why] of [
      [['manifest', source, state], 'More than one SRC'],
      [['manifest', '--update', '--format', 'jsonl', '-o', join(state, 'x'), source], '--update'],
      [['verify', '--quick', join(state, 'x')], '--quick'],
      [['verify', '--repair-from', source, '--in', state, join(state, 'x')], '--repair-from'],
    ] as const) {
      const { code, stderr } = await run([...args, '--workers', '2', '--state-dir', state]);
      expect([code, stderr]).toEqual([2, expect.stringContaining(`${why} and --workers exclude each other`)]);
    }
    const alone = await run(['verify', '--parts', '3', join(state, 'x')]);
    expect([alone.code, alone.stderr]).toEqual([2, expect.stringContaining('--parts goes with --workers')]);
  });
});

describe('remove and compress --workers', () => {
  it('remove what one process removes', async () => {
    for (const rules of [[], ['--exclude', '/source/b/c'], ['--exclude', 'f1']]) {
      const [one, other] = [tree(), tree()];
      const alone = await run(['remove', '--force', '--json', '--no-journal', ...rules, one]);
      const crew = ['--workers', '3', '--parts', '7', '--state-dir', scratch()];
      const spread = await run(['remove', '--force', '--json', ...crew, ...rules, other]);
      expect([alone.code, spread.code, spread.stderr]).toEqual([0, 0, '']);
      const [expected, found] = [summaryOf(alone), summaryOf(spread)];
      for (const key of ['outcomes', 'found', 'files', 'directories', 'skipped', 'accounted', 'complete'])
        expect([key, found[key]]).toEqual([key, expected[key]]);
      const left = [one, other].map((root) => (existsSync(root) ? readdirSync(root, { recursive: true }).sort() : []));
      expect(left[1]).toEqual(left[0]);
      expect(left[0]?.length === 0).toBe(rules.length === 0);
    }
  });

  it('compress what one process compresses', async () => {
    const made = ['one', 'other'].map((name) => {
      const root = join(scratch(), name);
      mkdirSync(join(root, 'd/e'), { recursive: true });
      for (let file = 0; file < 20; file += 1)
        for (const end of ['tsv', 'txt', 'log'])
          writeFileSync(join(root, file % 2 ? 'd/e' : 'd', `f${file}.${end}`), `${file} ${end}\n`.repeat(500 + file));
      writeFileSync(join(root, 'small.txt'), 'x');
      symlinkSync('small.txt', join(root, 'link'));
      linkSync(join(root, 'd/f0.txt'), join(root, 'd/hard.txt'));
      return root;
    });
    const [one = '', other = ''] = made;
    const args = ['--json', '--ext', 'tsv', '--ext', 'txt', '--exclude', 'f3.txt'];
    const alone = await run(['compress', '--no-journal', ...args, one]);
    const spread = await run(['compress', '--workers', '2', '--parts', '6', '--state-dir', scratch(), ...args, other]);
    expect([alone.code, spread.code, spread.stderr]).toEqual([0, 0, '']);
    expect(contentOf(other)).toBe(contentOf(one));
    const [expected, found] = [summaryOf(alone), summaryOf(spread)];
    for (const key of [
      'outcomes',
      'files',
      'directories',
      'found',
      'verifiedFiles',
      'verifiedBytes',
      'conversions',
      'complete',
    ])
      expect([key, found[key]]).toEqual([key, expected[key]]);
    // What rules leave out is in no part.
    const { excluded, ...others } = expected.skipped;
    expect([excluded, found.skipped]).toEqual([1, others]);
  });

  it.each([
    ['compress', '--keep'],
    ['remove', '--force'],
  ])('%s goes on with its plan by the same command when its coordinator was killed', async (verb, option) => {
    const [source, state, marker] = [tree(), scratch(), join(scratch(), 'died')];
    const many = entriesOf(source);
    const program = join(scratch(), 'bulkhaul');
    const goesOn = `exec '${process.execPath}' '${MAIN}' "$@"`;
    const text = `#!/bin/sh\n[ -e '${marker}' ] && ${goesOn}\n: > '${marker}'\nkill -KILL $PPID\n`;
    writeFileSync(program, text, { mode: 0o755 });
    const crew = ['--workers', '1', '--parts', '3', '--host-program', program, '--state-dir', state];
    const words = [verb, option, '--json', ...crew, source];
    expect((await run(words)).code).not.toBe(0);
    const again = await run(words);
    const { outcomes, notes } = summaryOf(again);
    expect([again.code, verb === 'remove' ? outcomes.removed : many]).toEqual([0, many]);
    expect(notes.map(({ message }: { message: string }) => message).join()).toContain('going on with the plan');
    expect(existsSync(source)).toBe(verb === 'compress');
  });

  it('count what a worker had done that died', async () => {
    const source = join(scratch(), 'source');
    mkdirSync(source);
    for (let file = 0; file < 10; file += 1) writeFileSync(join(source, `f${file}`), `${file}\n`.repeat(1000));
    const dies = (marker: string, deed: string) =>
      deedful(`const { readFileSync } = await import('node:fs');
        const { gzipSync } = await import('node:zlib');
        if (!existsSync('${marker}')) {
          writeFileSync('${marker}', '');
          take('1.1');
          const path = join('${source}', readFileSync(join(directory, 'parts/1'), 'utf8').split('\\0')[0]);
          ${deed}
          rmSync(path);
          die();
          await new Promise(() => undefined);
        }`);
    const crew = { workers: 1, parts: 3, patience: 36_000 };
    const packing = { operation: 'compress' as const, source, contents: false, inUse: [] };
    const archive = 'writeFileSync(path + ".gz", gzipSync(readFileSync(path)));';
    const packed = await spreadTask({
      ...{ ...crew, task: packing, directory: join(scratch(), 'run') },
      program: dies(join(scratch(), 'died'), archive),
    });
    expect([packed.complete, packed.accounted, packed.outcomes.copied]).toEqual([true, true, 10]);
    expect(readdirSync(source)).toEqual(Array.from({ length: 10 }, (_, file) => `f${file}.gz`));
    expect(packed.conversions).toMatchObject([{ extension: '', files: 9 }]);
    expect(packed.notes).toContainEqual(expect.objectContaining({ kind: 'earlier', count: 1 }));
    const removal = { operation: 'remove' as const, source, contents: false, inUse: [], protect: [] };
    const removed = await spreadTask({
      ...{ ...crew, task: removal, directory: join(scratch(), 'run') },
      program: dies(join(scratch(), 'died'), ''),
    });
    expect([removed.complete, removed.accounted, removed.outcomes.removed]).toEqual([true, true, 11]);
    expect(existsSync(source)).toBe(false);
  });

  it('remove of a list only what it names in the tree, and nothing that a symlink leads to', async () => {
    const [root, list] = [tree(), join(scratch(), 'list')];
    const many = entriesOf(root);
    // `b/link` leads to `a`.
    writeFileSync(list, ['a/f1', 'b/link', 'b/link/f2', 'b/c/gone', 'gone/x', ''].join('\0'));
    const task = { operation: 'remove' as const, source: root, contents: false, inUse: [], protect: [] };
    const job = await partJob(task, list, { own: '', others: [], keep: true }, {});
    const { outcomes, failures } = await job.run();
    expect([outcomes.removed, failures, entriesOf(root)]).toEqual([2, [], many - 2]);
    expect([existsSync(join(root, 'a/f1')), existsSync(join(root, 'a/f2'))]).toEqual([false, true]);
  });

  it('remove all though no worker works', async () => {
    const source = tree();
    const many = entriesOf(source);
    const crew = ['--by-parts', '--host-program', 'false', '--state-dir', scratch()];
    const { code, stdout } = await run(['remove', '--force', '--json', ...crew, source]);
    expect([code, summaryOf({ stdout } as Run).outcomes.removed, existsSync(source)]).toEqual([0, many, false]);
  });

  it('end in good order where all had gone and nobody was left to say so', async () => {
    const [source, state] = [tree(), scratch()];
    // It removes all, and whoever began it dies with it.
    const program = join(scratch(), 'bulkhaul');
    writeFileSync(program, `#!/bin/sh\nrm -rf '${source}'\nkill -KILL $PPID\n`, { mode: 0o755 });
    const words = ['--force', '--workers', '1', '--host-program', program, '--state-dir', state];
    await run(['remove', ...words, source]);
    expect(existsSync(source)).toBe(false);
    const [job = ''] = readdirSync(join(state, 'jobs'));
    expect((await run(['status', '--state-dir', state, job])).stdout).toContain('interrupted');
    const { code, stderr } = await run(['resume', '--state-dir', state, job]);
    expect([code, stderr]).toEqual([0, expect.stringContaining('complete')]);
    expect((await run(['status', '--state-dir', state, job])).stdout).toContain('done');
  });

  it('refuse what one process has to do, and what is protected, before anything goes', async () => {
    const [source, state] = [tree(), scratch()];
    for (const [args, why] of [
      [['remove', source, state], 'More than one PATH and --workers exclude'],
      [['remove', '--max-delete', '5', source], '--max-delete and --workers exclude'],
      [['compress', '--files-from', '/dev/null', source], 'A list of names and --workers exclude'],
      [['remove', '--run-dir', join(source, 'run'), source], 'name another one'],
      [['compress', '--run-dir', join(source, 'run'), source], 'name another one'],
      [['remove', join(source, 'b/link')], 'is no directory'],
      [['remove', `${source}/a/.`], 'is removed by its own name'],
    ] as const) {
      const { code, stderr } = await run([
        ...args,
        '--workers',
        '2',
        '--state-dir',
        state,
        ...(args[0] === 'remove' ? ['--force'] : []),
      ]);
      expect([code, stderr]).toEqual([2, expect.stringContaining(why)]);
    }
    const home = await program(
      process.execPath,
      [MAIN, 'remove', '--force', '--workers', '2', '--state-dir', state, source],
      {
        env: { ...process.env, HOME: join(source, 'a') },
      },
    );
    expect([home.code, home.stderr]).toEqual([3, expect.stringContaining('above the home directory')]);
    expect(existsSync(join(source, 'a/f0'))).toBe(true);
    const gone = await run(['remove', '--force', '--workers', '2', '--state-dir', state, join(state, 'nothing')]);
    expect(gone.code).toBe(0);
  });
});
