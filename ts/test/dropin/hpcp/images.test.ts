/** Disk images as sources and destinations: what is in them, what is left of them, and what is refused. */
import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { loadAddon } from '../../../src/native.js';
import { MEMORY, mounted, WITHOUT_DISKS, WITHOUT_VIEWS } from '../../rig/disks.js';
import { executable, run, scratch } from '../../rig.js';

const must = (program: string, ...args: string[]) => execFileSync(program, args, { encoding: 'utf8' });
const hpcp = (cwd: string, ...args: string[]) => run(['hpcp', ...args], { cwd });
/** What rsync would change, content, owners, times, links and attributes looked at. */
const differences = (from: string, to: string) =>
  must('rsync', '-aniHAX', '--checksum', '--delete', `${from}/`, `${to}/`);

/** Directories of the test that runs. */
let owned: string[] = [];
function own(directory = scratch()): string {
  owned.push(directory);
  return directory;
}

/** Where that can be had: much is written and synced. */
function ownInMemory(): string {
  const directory = mkdtempSync(join(MEMORY, 'bulkhaul-test-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return own(directory);
}

/** A tree of many kinds. */
function tree(cwd: string): string {
  const root = join(cwd, 'src');
  mkdirSync(join(root, 'a/b'), { recursive: true });
  for (let index = 0; index < 30; index += 1)
    writeFileSync(join(root, `a/b/f${index}`), Buffer.alloc(1000 * index, index));
  linkSync(join(root, 'a/b/f1'), join(root, 'hard'));
  symlinkSync('a', join(root, 'link'));
  writeFileSync(join(root, 'sparse'), '');
  truncateSync(join(root, 'sparse'), 1 << 30);
  must('mkfifo', join(root, 'pipe'));
  must('setfattr', '-n', 'user.x', '-v', 'y', join(root, 'a/b/f2'));
  chmodSync(join(root, 'a'), 0o2750);
  utimesSync(join(root, 'a'), 1e9, 1e9 + 0.5);
  return root;
}

describe.skipIf(WITHOUT_DISKS !== undefined)('an image', { timeout: 60_000 }, () => {
  beforeEach(() => {
    const attached = () =>
      must('losetup', '--noheadings', '-O', 'NAME,BACK-FILE')
        .split('\n')
        .filter((line) => owned.some((directory) => line.includes(directory)));
    owned = [];
    onTestFinished(() => expect(attached()).toEqual([]));
  });

  it.each(['ext4', 'xfs', 'btrfs'])(
    'of %s has all of a tree, at its absolute path, and gives it back',
    async (type) => {
      const cwd = own();
      const source = tree(cwd);
      const made = await hpcp(cwd, 'src', '-di', 'x.img', '--image-fs', type);
      expect(made).toMatchObject({ code: 0, stderr: expect.stringContaining(`x.img is made: `) });
      expect(readdirSync(cwd).sort()).toEqual(['src', 'x.img']);
      expect(must('blkid', '-p', '-o', 'value', '-s', 'TYPE', join(cwd, 'x.img'))).toBe(`${type}\n`);
      // Holes take no room in it.
      expect(statSync(join(cwd, 'x.img')).blocks * 512).toBeLessThan(200e6);
      expect(statSync(join(cwd, 'x.img')).mode & 0o777).toBe(0o600);
      expect(await hpcp(cwd, '-si', 'x.img', '-d', 'out')).toMatchObject({ code: 0 });
      expect(differences(source, join(cwd, 'out', source))).toBe('');
      if (type === 'ext4') must('e2fsck', '-fn', join(cwd, 'x.img'));
    },
  );

  it('that is there gets what has changed, and loses what is extra where that is asked for', async () => {
    const cwd = own();
    const source = tree(cwd);
    expect((await hpcp(cwd, 'src', '-di', 'x.img')).code).toBe(0);
    writeFileSync(join(source, 'new'), 'new');
    rmSync(join(source, 'a/b/f3'));
    const again = await hpcp(cwd, 'src', '-di', 'x.img');
    expect(again).toMatchObject({ code: 0, stdout: expect.stringMatching(/^Total size copied: +3\.00 B$/m) });
    expect((await hpcp(cwd, '-si', 'x.img', '-d', 'out')).code).toBe(0);
    expect(differences(source, join(cwd, 'out', source))).toBe('*deleting   a/b/f3\n');
  });

  it('loses with -rme what is extra below its sources, and nothing beside them', async () => {
    const cwd = ownInMemory();
    for (const name of ['one/[s]/gone', 'one/[s]/stays', 'two/other']) {
      mkdirSync(join(cwd, name, '..'), { recursive: true });
      writeFileSync(join(cwd, name), name);
    }
    expect((await hpcp(cwd, 'one', 'two', '-di', 'x.img')).code).toBe(0);
    rmSync(join(cwd, 'one/[s]/gone'));
    writeFileSync(join(cwd, 'one/[s]/new'), 'new');
    const asked = await run(['hpcp', 'one', '-di', 'x.img', '-rme'], { cwd, input: 'n\n' });
    expect(asked.code).toBe(147);
    const mirrored = await hpcp(cwd, 'one', '-di', 'x.img', '-rme', '-rf');
    expect({ code: mirrored.code, told: mirrored.stdout }).toEqual({
      code: 0,
      told: expect.stringContaining('Removed 1 of 1 extra'),
    });
    expect((await hpcp(cwd, 'one', '-di', 'x.img', '-rme', '-rf', '-e', 'x')).code).toBe(2);
    expect((await hpcp(cwd, '-si', 'x.img', '-d', 'out')).code).toBe(0);
    const found = must('find', join(cwd, 'out'), '-type', 'f', '-printf', '/%P\n').split('\n').sort();
    expect(found).toEqual(['', ...['one/[s]/new', 'one/[s]/stays', 'two/other'].map((name) => join(cwd, name))]);
  });

  it('that lies in what is copied has nothing of itself', async () => {
    const cwd = ownInMemory();
    const inside = join(tree(cwd), '[b]');
    mkdirSync(inside);
    writeFileSync(join(inside, 'x_1.img'), 'theirs');
    for (const more of [[], [], ['-rme', '-rf']]) {
      const ran = await hpcp(cwd, 'src', '-di', 'src/[b]/x.img', ...more);
      expect(ran.code, ran.stderr).toBe(0);
    }
    expect((await hpcp(cwd, '-si', 'src/[b]/x.img', '-d', 'out')).code).toBe(0);
    expect(readdirSync(join(cwd, 'out', inside))).toEqual(['x_1.img']);
    expect(statSync(join(cwd, 'out', cwd, 'src/sparse')).size).toBe(1 << 30);
  });

  it.skipIf(WITHOUT_VIEWS !== undefined)(
    'that another view of what is copied shows has nothing of itself',
    async () => {
      const cwd = ownInMemory();
      mkdirSync(join(cwd, 'src/d'), { recursive: true });
      writeFileSync(join(cwd, 'src/d/f'), 'f');
      mkdirSync(join(cwd, 'view'));
      must('bindfs', join(cwd, 'src'), join(cwd, 'view'));
      onTestFinished(() => void must('umount', join(cwd, 'view')));
      const found = () => must('find', join(cwd, 'src'), '-printf', '%P\n').split('\n').sort();
      const before = found();
      for (const [from, into] of [
        ['src', 'view/d'],
        ['view', 'src/d'],
      ] as const) {
        for (const _ of ['made', 'brought up to date']) {
          const ran = await hpcp(cwd, from, '-di', join(into, 'x.img'));
          expect(ran.code, ran.stderr).toBe(0);
        }
        const packed = await run(['image', 'pack', from, join(into, 'y.img')], { cwd });
        expect([packed.code, packed.stderr]).toEqual([3, expect.stringContaining('would lie in what is packed')]);
        expect((await hpcp(cwd, '-si', join(into, 'x.img'), '-d', `out-${from}`)).code).toBe(0);
        expect(readdirSync(join(cwd, `out-${from}`, cwd, from, 'd'))).toEqual(['f']);
        rmSync(join(cwd, 'src/d/x.img'));
        expect(found()).toEqual(before);
      }
    },
  );

  it('that another mount shows in what is copied, deeper, has nothing of itself', async () => {
    const cwd = ownInMemory();
    for (const directory of ['src/d/deep', 'src/empty', 'view', 'beside'])
      mkdirSync(join(cwd, directory), { recursive: true });
    writeFileSync(join(cwd, 'src/d/deep/f'), 'f');
    for (const [of, at] of [
      ['src/d/deep', 'view'],
      ['beside', 'src/empty'],
    ] as const) {
      must('mount', '--bind', join(cwd, of), join(cwd, at));
      onTestFinished(() => void must('umount', join(cwd, at)));
    }
    for (const into of ['view', 'beside']) {
      const packed = await run(['image', 'pack', 'src', join(into, 'y.img')], { cwd });
      expect([packed.code, packed.stderr]).toEqual([3, expect.stringContaining('would lie in what is packed')]);
      for (const _ of ['made', 'brought up to date']) {
        const ran = await hpcp(cwd, 'src', '-di', join(into, 'x.img'));
        expect(ran.code, ran.stderr).toBe(0);
      }
      expect((await hpcp(cwd, '-si', join(into, 'x.img'), '-d', `out-${into}`)).code).toBe(0);
      const found = must('find', join(cwd, `out-${into}`), '-type', 'f', '-printf', '%P\n').trim();
      expect(`/${found}`).toBe(join(cwd, 'src/d/deep/f'));
      rmSync(join(cwd, into, 'x.img'));
    }
  });

  it('has room for many small files', async () => {
    const cwd = own();
    mkdirSync(join(cwd, 'many'));
    for (let index = 0; index < 20_000; index += 1) symlinkSync('x', join(cwd, `many/${index}`));
    expect(await hpcp(cwd, 'many', '-di', 'x.img')).toMatchObject({ code: 0 });
  });

  it('takes several sources, each at its path, and leaves out what is excluded', async () => {
    const cwd = own();
    tree(cwd);
    mkdirSync(join(cwd, 'other'));
    writeFileSync(join(cwd, 'other/keep'), '1');
    writeFileSync(join(cwd, 'other/drop.tmp'), '2');
    const args = ['src/a/b/f7', 'other', '-e', '*.tmp', '-di', 'x.img'];
    expect((await hpcp(cwd, ...args)).code).toBe(0);
    // Patterns with a slash at their beginning are about paths in the image then.
    expect((await hpcp(cwd, '-si', 'x.img', '-e', '/lost+found', '-d', 'out')).code).toBe(0);
    const found = must('find', join(cwd, 'out'), '-type', 'f', '-printf', '/%P\n').split('\n').sort();
    expect(found).toEqual(['', `${cwd}/other/keep`, `${cwd}/src/a/b/f7`]);
    expect(existsSync(join(cwd, 'out/lost+found'))).toBe(false);
  });

  it('with partitions gives what is in all of them, and says what it can not give', async () => {
    const cwd = own();
    const path = join(cwd, 'disk.img');
    writeFileSync(path, '');
    truncateSync(path, 64 << 20);
    execFileSync('sfdisk', ['-q', path], { input: 'label: gpt\nsize=16MiB\nsize=8MiB\nsize=16MiB\n' });
    for (const [index, start] of [1, 25].entries()) {
      const content = join(cwd, `content${index}`);
      mkdirSync(content);
      writeFileSync(join(content, `from-${index}`), 'x');
      const part = join(cwd, 'part.img');
      must('mke2fs', '-q', '-t', 'ext4', '-d', content, part, '16M');
      must('dd', `if=${part}`, `of=${path}`, 'bs=1M', `seek=${start}`, 'conv=notrunc', 'status=none');
    }
    writeFileSync(join(cwd, 'swap'), '');
    truncateSync(join(cwd, 'swap'), 8 << 20);
    must('mkswap', join(cwd, 'swap'));
    const put = () =>
      must('dd', `if=${join(cwd, 'swap')}`, `of=${path}`, 'bs=1M', 'seek=17', 'conv=notrunc', 'status=none');
    put();
    const whole = await hpcp(cwd, '-si', 'd*.img', '-d', 'out');
    expect(whole).toMatchObject({
      code: 0,
      stderr: expect.stringContaining('disk.img, partition 2 is left out: it holds swap'),
    });
    expect(readdirSync(join(cwd, 'out')).sort()).toEqual(['from-0', 'from-1']);
    // Something else than swap is something that is not there afterwards.
    writeFileSync(join(cwd, 'swap'), 'LUKS\xba\xbe\0\x01', 'latin1');
    truncateSync(join(cwd, 'swap'), 8 << 20);
    put();
    const part = await hpcp(cwd, '-si', 'disk.img', '-d', 'out');
    expect(part.code).toBe(128);
    expect(part.stdout + part.stderr).toContain('disk.img, partition 2');
  });

  it('with partitions that have other files of one name gives the last of them, and says so', async () => {
    const cwd = own();
    for (const index of [1, 2]) {
      const content = join(cwd, `content${index}`);
      mkdirSync(join(content, 'd'), { recursive: true });
      writeFileSync(join(content, `d/only${index}`), '');
      writeFileSync(join(content, 'd/same'), 'same');
      must('mke2fs', '-q', '-t', 'ext4', '-d', content, join(cwd, `${index}.img`), '4M');
    }
    // Directories and what is the same are merged.
    expect((await hpcp(cwd, '-si', '?.img', '-d', 'merged')).code).toBe(0);
    expect(readdirSync(join(cwd, 'merged/d')).sort()).toEqual(['only1', 'only2', 'same']);
    for (const index of [1, 2]) {
      writeFileSync(join(cwd, 'other'), `${index}`);
      must('debugfs', '-w', '-R', `write ${join(cwd, 'other')} d/other`, join(cwd, `${index}.img`));
    }
    writeFileSync(join(cwd, 'other'), '');
    for (const into of [
      ['-d', 'out'],
      ['-di', 'into.img'],
    ]) {
      const ran = await hpcp(cwd, '-si', '1.img', '2.img', ...into);
      expect([ran.code, ran.stdout + ran.stderr]).toEqual([
        190,
        expect.stringMatching(/1\.img:\/?d\/other: .*2\.img:\/?d\/other/),
      ]);
    }
    expect(readFileSync(join(cwd, 'out/d/other'), 'utf8')).toBe('2');
  });

  it('that is being made when the run dies is gone on with by the next', async () => {
    const cwd = own();
    const source = join(cwd, 'src');
    mkdirSync(source);
    for (let index = 0; index < 60; index += 1) writeFileSync(join(source, `f${index}`), Buffer.alloc(20_000, index));
    const child = spawn(process.execPath, [executable, 'hpcp', 'src', '-di', 'x.img', '--bwlimit', '100'], {
      cwd,
      stdio: 'ignore',
    });
    const ended = new Promise((resolve) => child.on('close', resolve));
    onTestFinished(() => void child.kill('SIGKILL'));
    const partial = join(cwd, 'x.img.partial');
    // Something of the content is in it.
    while (!existsSync(partial) || statSync(partial).blocks * 512 < 600_000) {
      if (child.exitCode !== null) throw new Error('it ended');
      await new Promise((resolve) => setImmediate(resolve));
    }
    child.kill('SIGKILL');
    await ended;
    expect(existsSync(join(cwd, 'x.img'))).toBe(false);
    const again = await hpcp(cwd, 'src', '-di', 'x.img');
    expect(again).toMatchObject({ code: 0, stderr: expect.stringContaining('goes on with x.img.partial') });
    expect(readdirSync(cwd).sort()).toEqual(['src', 'x.img']);
    expect((await hpcp(cwd, '-si', 'x.img', '-d', 'out')).code).toBe(0);
    expect(differences(source, join(cwd, 'out', source))).toBe('');
  });

  it('of a size goes on in further ones: all directories in each, each file whole in one; they are a set', async () => {
    const cwd = ownInMemory();
    const source = join(cwd, 'src');
    mkdirSync(join(source, 'a/b'), { recursive: true });
    for (const [index, name] of ['a/b/big0', 'a/big1', 'big2'].entries()) {
      writeFileSync(join(source, name), Buffer.alloc(12 << 20, index + 1));
    }
    symlinkSync('a', join(source, 'link'));
    linkSync(join(source, 'big2'), join(source, 'a/hard'));
    const dry = await hpcp(cwd, 'src', '-di', 'x.img', '-dis', '50Mi', '--dry-run');
    expect(dry).toMatchObject({ code: 0, stderr: expect.stringContaining('x.img to x_1.img would be 2 new images') });
    expect(readdirSync(cwd)).toEqual(['src']);
    expect(await hpcp(cwd, 'src', '-di', 'x.img', '-dis', '50Mi')).toMatchObject({ code: 0 });
    const volumes = ['x.img', 'x_1.img'];
    expect(readdirSync(cwd).sort()).toEqual(['src', ...volumes]);
    const names = (of: string) => {
      const found = must('debugfs', '-R', `ls -p ${source}${of}`, join(cwd, volumes[0] ?? '')).concat(
        must('debugfs', '-R', `ls -p ${source}${of}`, join(cwd, volumes[1] ?? '')),
      );
      return found.split('\n').flatMap((line) => line.split('/')[5] || []);
    };
    expect(names('/a').sort()).toEqual(['.', '.', '..', '..', 'b', 'b', 'big1', 'hard']);
    expect(volumes.map((name) => statSync(join(cwd, name)).size)).toEqual([50 << 20, 50 << 20]);
    for (const name of volumes) must('e2fsck', '-fn', join(cwd, name));
    expect(must('blkid', '-p', '-o', 'value', '-s', 'LABEL', join(cwd, 'x_1.img'))).toMatch(/^bh[0-9a-f]{4}:2\/2\n$/);
    // One of them means all.
    expect((await hpcp(cwd, '-si', 'x_1.img', '-d', 'out')).code).toBe(0);
    expect(differences(source, join(cwd, 'out', source))).toBe('');
    expect((await run(['image', 'unpack', 'x.img', 'unpacked'], { cwd })).code).toBe(0);
    expect(differences(source, join(cwd, 'unpacked', source))).toBe('');
    // The next run finds each file where it is.
    writeFileSync(join(source, 'big2'), Buffer.alloc(12 << 20, 9));
    writeFileSync(join(source, 'new'), 'new');
    const again = await hpcp(cwd, 'src', '-di', 'x.img');
    expect(again).toMatchObject({ code: 0, stdout: expect.stringMatching(/^Total size copied: +12\.00 MiB$/m) });
    expect(
      names('')
        .filter((name) => /^(big2|new|link)$/.test(name))
        .sort(),
    ).toEqual(['big2', 'link', 'new']);
    expect((await hpcp(cwd, '-si', 'x*.img', '-d', 'later')).code).toBe(0);
    expect(differences(source, join(cwd, 'later', source))).toBe('');
    rmSync(join(cwd, 'x_1.img'));
    const torn = await hpcp(cwd, '-si', 'x.img', '-d', 'torn');
    expect(torn.stdout + torn.stderr).toContain('it is volume 1 of 2, and volume 2 is missing: x_1.img');
    expect([torn.code, existsSync(join(cwd, 'torn'))]).toEqual([206, false]);
  });

  it('of a size is refused before any is made where a file fits into none, or a name is taken', async () => {
    const cwd = ownInMemory();
    mkdirSync(join(cwd, 'src'));
    writeFileSync(join(cwd, 'src/big'), Buffer.alloc(40 << 20, 1));
    const refused = async (code: number, why: string) => {
      const before = readdirSync(cwd);
      const ran = await hpcp(cwd, 'src', '-di', 'x.img', '-dis', '50Mi');
      expect({ code: ran.code, told: ran.stdout + ran.stderr }).toEqual({ code, told: expect.stringContaining(why) });
      expect(readdirSync(cwd)).toEqual(before);
    };
    await refused(223, `${cwd}/src/big takes 41943040, and one holds`);
    writeFileSync(join(cwd, 'src/big'), Buffer.alloc(20 << 20, 1));
    writeFileSync(join(cwd, 'src/other'), Buffer.alloc(20 << 20, 2));
    writeFileSync(join(cwd, 'x_1.img'), 'precious');
    await refused(221, "x_1.img can't be used: there is something of this name");
    expect(readFileSync(join(cwd, 'x_1.img'), 'utf8')).toBe('precious');
  });

  it('is not made by a dry run, nor is one that is there changed', async () => {
    const cwd = own();
    const source = tree(cwd);
    const dry = await hpcp(cwd, 'src', '-di', 'x.img', '--dry-run');
    expect(dry).toMatchObject({ code: 0, stderr: expect.stringContaining('x.img would be a new image of') });
    expect(readdirSync(cwd)).toEqual(['src']);
    expect((await hpcp(cwd, 'src', '-di', 'x.img')).code).toBe(0);
    const before = must('sha256sum', join(cwd, 'x.img'));
    writeFileSync(join(source, 'new'), 'new');
    expect((await hpcp(cwd, 'src', '-di', 'x.img', '--dry-run')).code).toBe(0);
    expect(must('sha256sum', join(cwd, 'x.img'))).toBe(before);
  });

  it('is told by its name where something fails in it', async () => {
    const cwd = own();
    const source = tree(cwd);
    expect((await hpcp(cwd, 'src', '-di', 'x.img')).code).toBe(0);
    // A directory is in the way.
    rmSync(join(source, 'hard'));
    mkdirSync(join(cwd, 'elsewhere'));
    mkdirSync(join(source, 'hard'));
    const { code, stderr, stdout } = await hpcp(cwd, 'src', '-di', 'x.img');
    expect(code).not.toBe(0);
    expect(stderr + stdout).toContain(`x.img:${source}/hard`);
    expect(stderr + stdout).not.toContain('/proc/self/fd');
  });

  it('whose journal was not replayed is no source, and says so; one that is damaged is not repaired', async () => {
    const cwd = own();
    tree(cwd);
    const path = join(cwd, 'x.img');
    must('truncate', '-s', '8M', path);
    must('mkfs.ext4', '-q', path);
    mounted(path, { start: 0, size: 0 }, 'rw', (root) => {
      writeFileSync(join(root, 'f'), 'f');
      must('sync', '-f', root);
      must('cp', '--sparse=always', path, join(cwd, 'dirty.img'));
    });
    must('cp', path, join(cwd, 'damaged.img'));
    // It has no group descriptors.
    must('dd', 'if=/dev/zero', `of=${join(cwd, 'damaged.img')}`, 'bs=1024', 'seek=2', 'count=1', 'conv=notrunc');
    const before = must('sha256sum', join(cwd, 'dirty.img'), join(cwd, 'damaged.img'));
    for (const [code, why, args] of [
      [240, 'dirty.img: its journal was not replayed', ['-si', 'dirty.img', '-d', 'out']],
      [240, 'damaged.img: mount', ['-si', 'damaged.img', '-d', 'out']],
      [221, 'none of it can be mounted', ['src', '-di', 'damaged.img']],
    ] as const) {
      const ran = await hpcp(cwd, ...args);
      expect([ran.code, ran.stdout + ran.stderr]).toEqual([code, expect.stringContaining(why)]);
    }
    expect(must('sha256sum', join(cwd, 'dirty.img'), join(cwd, 'damaged.img'))).toBe(before);
    expect(existsSync(join(cwd, 'out'))).toBe(false);
  });

  it('that is attached elsewhere is not written to', async () => {
    const cwd = own();
    tree(cwd);
    expect((await hpcp(cwd, 'src', '-di', 'x.img')).code).toBe(0);
    const device = must('losetup', '--find', '--show', join(cwd, 'x.img')).trim();
    try {
      const { code, stdout, stderr } = await hpcp(cwd, 'src', '-di', 'x.img');
      expect({ code, told: stdout + stderr }).toEqual({
        code: 221,
        told: expect.stringContaining(`it is attached to ${device}`),
      });
    } finally {
      must('losetup', '-d', device);
    }
  });

  it.each<[string, string[], number, string]>([
    ['is none', ['src', '-di', 'text'], 221, 'there is no file system in it'],
    ['is none, as a source', ['-si', 'text', '-d', 'out'], 206, 'there is no file system in it'],
    ['is not there, as a source', ['-si', 'absent*', '-d', 'out'], 240, 'Source image not found: absent*'],
    ['is a directory', ['src', '-di', 'src'], 221, 'neither a file nor a block device'],
    ['is smaller than any', ['src', '-di', 'x.img', '-dis', '10Mi'], 223, 'at least'],
    ['comes beside a destination, and is not there', ['src', '-di', 'x.img', '-d', 'out'], 128, 'does not exist'],
    [
      'is asked for with another file system',
      ['src', '-di', 'x.img', '--image-fs', 'ntfs'],
      2,
      'none of ext4, xfs, btrfs',
    ],
    ['has no destination', ['-si', 'text'], 2, 'named with -d or -di'],
  ])('that %s is refused', async (_, args, code, why) => {
    const cwd = own();
    tree(cwd);
    writeFileSync(join(cwd, 'text'), 'text'.repeat(10_000));
    const before = readdirSync(cwd);
    const ran = await hpcp(cwd, ...args);
    expect({ code: ran.code, told: ran.stdout + ran.stderr }).toEqual({ code, told: expect.stringContaining(why) });
    expect(readdirSync(cwd)).toEqual(before);
    expect(readFileSync(join(cwd, 'text'), 'utf8')).toBe('text'.repeat(10_000));
  });

  it('is written to by one run at a time', async () => {
    const cwd = own();
    tree(cwd);
    expect((await hpcp(cwd, 'src', '-di', 'x.img')).code).toBe(0);
    const file = openSync(join(cwd, 'x.img'), 'r+');
    expect((await loadAddon()).lockDescriptor(file)).toBe(true);
    const { code, stdout, stderr } = await hpcp(cwd, 'src', '-di', 'x.img');
    closeSync(file);
    expect({ code, told: stdout + stderr }).toEqual({
      code: 221,
      told: expect.stringContaining('another run is at work on it'),
    });
  });
});
