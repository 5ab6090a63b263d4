/** What users of other tools for copies by parts have lost data by, as far as it could happen here: reduced, and tried. */
import {
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { RunDirectory } from '../../src/ops/spread/directory.js';
import { deedful, entriesOf, same, spread, summaryOf, tree } from '../rig/spread.js';
import { run, scratch } from '../rig.js';

// Each of them starts many processes, which take their time on a small shared machine.
vi.setConfig({ testTimeout: 120_000 });

describe('what others lost data by', () => {
  it('parsyncfp2#21, parsyncfp#11: as many lists as were told, the last one too, and each entry in one of them', async () => {
    const [source, lists] = [tree(), scratch()];
    const done = await run(['partition', '-n', '38', '-0', '-o', join(lists, 'f'), `${source}/`]);
    expect(done.code).toBe(0);
    const names = readdirSync(lists);
    expect(names.sort()).toEqual(Array.from({ length: 38 }, (_, part) => `f.${part + 1}`).sort());
    const entries = names.flatMap((name) => readFileSync(join(lists, name), 'latin1').split('\0').slice(0, -1));
    expect([entries.length, new Set(entries).size]).toEqual([entriesOf(source), entriesOf(source)]);
  });

  it('fpart#8: the names of a file stay one file, however many parts there are', async () => {
    const [source, destination] = [scratch(), join(scratch(), 'copy')];
    for (let file = 0; file < 20; file += 1) {
      mkdirSync(join(source, `d${file}`));
      writeFileSync(join(source, `a${file}`), `${file}`);
      linkSync(join(source, `a${file}`), join(source, `d${file}/b`));
    }
    const words = ['--workers', '2', '--parts', '20', '--state-dir', scratch()];
    expect((await run(['copy', ...words, `${source}/`, destination])).code).toBe(0);
    const inodes = (file: number) => [`a${file}`, `d${file}/b`].map((name) => statSync(join(destination, name)).ino);
    for (let file = 0; file < 20; file += 1) expect(inodes(file)[0]).toBe(inodes(file)[1]);
  });

  it('fpart#67: a name that leaves no room for more is copied', async () => {
    const [source, destination] = [scratch(), join(scratch(), 'copy')];
    for (const letter of 'xy') writeFileSync(join(source, letter.repeat(255)), letter);
    expect((await run(['copy', '--workers', '2', '--state-dir', scratch(), `${source}/`, destination])).code).toBe(0);
    same(source, destination);
  });

  it('mpifileutils#587: nothing goes where the source was not all read', async () => {
    const [source, destination, directory] = [scratch(), scratch(), join(scratch(), 'run')];
    for (const name of ['a', 'b', 'c', 'd']) writeFileSync(join(source, name), name);
    for (const name of ['b', 'extra']) writeFileSync(join(destination, name), name);
    // It goes when the plan is made, and so does what the plan had found there.
    const program = deedful(`rmSync('${join(source, 'b')}', { force: true });`);
    const options = { source: `${source}/`, destination, workers: 1, parts: 4, directory, program };
    const report = await spread({ ...options, removeExtra: true });
    expect([report.exitCode, report.withheld.map(({ what }) => what)]).toEqual([24, ['extra']]);
    expect(readdirSync(destination).sort()).toEqual(['a', 'b', 'c', 'd', 'extra']);
  });

  it('mpifileutils#204, #616: nothing goes that nobody said should', async () => {
    const [source, destination] = [tree(), scratch()];
    writeFileSync(join(destination, 'extra'), 'mine');
    const words = ['--workers', '2', '--state-dir', scratch()];
    for (let more = 2; more > 0; more -= 1)
      expect((await run(['copy', ...words, `${source}/`, destination])).code).toBe(0);
    expect(readFileSync(join(destination, 'extra'), 'utf8')).toBe('mine');
  });

  it('mpifileutils#560: what was cut short is not taken for there, nor what is there for extra', async () => {
    const [source, destination, state] = [tree(), join(scratch(), 'copy'), scratch()];
    const words = ['--workers', '2', '--delete', '--state-dir', state, `${source}/`, destination];
    expect((await run(['copy', ...words])).code).toBe(0);
    truncateSync(join(destination, 'a/f2'), 1);
    const again = await run(['copy', '--json', ...words]);
    const { removed, copied } = summaryOf(again).outcomes;
    expect([again.code, removed, copied]).toEqual([0, 0, 1]);
    same(source, destination);
  });

  it('mpifileutils#668, #671: what is above a destination is made, and where it can not be nothing is begun', async () => {
    const [source, place] = [tree(), scratch()];
    const words = ['copy', '--workers', '2', '--state-dir', scratch(), `${source}/`];
    expect((await run([...words, join(place, 'not/there/yet')])).code).toBe(0);
    same(source, join(place, 'not/there/yet'));
    writeFileSync(join(place, 'file'), 'a file');
    const { code, stderr } = await run([...words, join(place, 'file/below')]);
    expect([code, stderr]).toEqual([2, expect.stringContaining(`${join(place, 'file/below')}: it is not a directory`)]);
    expect(readdirSync(place).sort()).toEqual(['file', 'not']);
  });

  it('rclone#1196: a list of nothing means nothing, and not all', async () => {
    const [source, destination, list] = [tree(), join(scratch(), 'copy'), join(scratch(), 'list')];
    writeFileSync(list, '');
    const words = ['--workers', '2', '--state-dir', scratch(), '--files-from', list];
    const { code, stderr } = await run(['copy', ...words, `${source}/`, destination]);
    expect([code, readdirSync(destination)]).toEqual([0, []]);
    expect(stderr).toContain('0 files copied');
  });

  it('msrsync#25: what one part has brought no other takes for extra', async () => {
    const [source, destination] = [tree(), join(scratch(), 'copy')];
    for (const name of ['a', 'b', 'c']) mkdirSync(join(destination, name, 'extra'), { recursive: true });
    const words = ['--workers', '3', '--parts', '12', '--delete', '--state-dir', scratch()];
    for (const removed of [4, 0]) {
      const done = await run(['copy', '--json', ...words, `${source}/`, destination]);
      expect([done.code, summaryOf(done).outcomes.removed]).toEqual([0, removed]);
      same(source, destination);
    }
  });

  it('fpart#86: a source of any name is found by each worker, and so is a destination', async () => {
    const place = scratch();
    const [source, destination] = [join(place, "\\\\10.0.0.1\\d/it's - $(x)"), join(place, 'to "a" \\b\n')];
    mkdirSync(source, { recursive: true });
    for (const name of ['a', 'b', 'c']) writeFileSync(join(source, name), name);
    const words = ['--workers', '2', '--parts', '3', '--state-dir', scratch()];
    expect((await run(['copy', ...words, `${source}/`, destination])).code).toBe(0);
    expect(readdirSync(destination).sort()).toEqual(['a', 'b', 'c']);
  });

  it('mpifileutils#412, #618: a symlink that leads elsewhere by now leads there in the copy too', async () => {
    const [source, destination, state] = [scratch(), join(scratch(), 'copy'), scratch()];
    for (const name of ['one', 'two']) writeFileSync(join(source, name), name);
    const words = ['copy', '--workers', '2', '--state-dir', state, `${source}/`, destination];
    for (const target of ['one', 'two', 'nowhere']) {
      rmSync(join(source, 'link'), { force: true });
      symlinkSync(target, join(source, 'link'));
      expect((await run(words)).code).toBe(0);
      expect(readlinkSync(join(destination, 'link'))).toBe(target);
    }
  });

  it('mpifileutils#665: a destination that is a symlink to a directory stays one', async () => {
    const [source, place] = [tree(), scratch()];
    mkdirSync(join(place, 'real'));
    symlinkSync('real', join(place, 'link'));
    const words = ['copy', '--workers', '2', '--state-dir', scratch(), `${source}/`, join(place, 'link')];
    expect((await run(words)).code).toBe(0);
    expect(readlinkSync(join(place, 'link'))).toBe('real');
    same(source, join(place, 'real'));
  });

  it('rclone#431, #4134: what a list names and is not there is a failure, whatever else is copied', async () => {
    const [source, destination, list] = [tree(), join(scratch(), 'copy'), join(scratch(), 'list')];
    writeFileSync(list, 'a/f1\nnot/there\n');
    const words = ['copy', '--json', '--workers', '2', '--state-dir', scratch(), '--files-from', list];
    const done = await run([...words, `${source}/`, destination]);
    const { outcomes, failures } = summaryOf(done);
    expect([done.code, outcomes.copied, failures.map(({ path }: { path: string }) => path)]).toEqual([
      ...[23, 1],
      [join(source, 'not/there')],
    ]);
  });

  it('rclone#3453, #6186: empty directories come, hidden ones too, and none is made in their place', async () => {
    const [source, destination] = [scratch(), join(scratch(), 'copy')];
    for (const name of ['pg_tblspc', '.hidden/empty', 'full']) mkdirSync(join(source, name), { recursive: true });
    writeFileSync(join(source, 'full/f'), 'f');
    const words = ['copy', '--json', '--workers', '2', '--state-dir', scratch(), `${source}/`, destination];
    const done = await run(words);
    expect([done.code, summaryOf(done).found.directory, entriesOf(destination)]).toEqual([0, 5, entriesOf(source)]);
    same(source, destination);
  });

  it('canu#337: a worker of a number that was never given has work like any other', async () => {
    const [source, destination, directory] = [scratch(), join(scratch(), 'copy'), join(scratch(), 'run')];
    for (let file = 0; file < 20; file += 1) writeFileSync(join(source, `f${file}`), `${file}`);
    const options = { source: `${source}/`, destination, workers: 2, parts: 5, directory };
    await spread({ ...options, program: ['/nonexistent/bulkhaul'] });
    const { code } = await run(['worker', '--name', 'late', '--index', '1009', '--', directory]);
    const room = new RunDirectory(directory);
    expect([code, room.settled().map((part) => room.state(part).worker)]).toEqual([0, Array(5).fill('late')]);
    rmSync(join(directory, 'final.json'));
    const report = await spread({ ...options, program: ['/nonexistent/bulkhaul'] });
    expect([report.complete, existsSync(join(destination, 'f19'))]).toEqual([true, true]);
  });
});
