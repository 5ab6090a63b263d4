/** Patches: made and applied here and by hpcp 9.79, conflicts, the way back, and what is refused. */
import { type ChildProcess, execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { parseManifest } from '../../../src/ops/patch.js';
import { mounted, WITHOUT_DISKS } from '../../rig/disks.js';
import { executable, run, scratch } from '../../rig.js';

/** hpcp 9.79, where scripts/setup --tests has put it. */
const ORIGINAL = fileURLToPath(new URL('../../../../.setup/hpcp-9.79/hpcp.py', import.meta.url));
if (!existsSync(ORIGINAL)) console.log('skip: there is no hpcp 9.79 (scripts/setup --tests)');

const must = (program: string, ...args: string[]) => execFileSync(program, args, { encoding: 'utf8' });
const hpcp = (cwd: string, ...args: string[]) => run(['hpcp', ...args], { cwd });
/** Its exit code. */
const original = (cwd: string, ...args: string[]) =>
  spawnSync('python3', [ORIGINAL, ...args], { cwd, stdio: 'ignore', timeout: 60_000 }).status;

/** What rsync finds between two trees, but for times of directories and, for the original, of links. */
function differences(from: string, to: string, links = true): string {
  const lines = must('rsync', '-aniAX', '--checksum', '--delete', '-O', `${from}/`, `${to}/`).split('\n');
  return lines.filter((line) => links || !line.startsWith('.L..t')).join('\n');
}

/** Two trees, in `new` and `base`, with all that a patch has to do between them. */
function trees(cwd: string): void {
  const file = (path: string, content: string, time = 1e9) => {
    mkdirSync(join(cwd, path, '..'), { recursive: true });
    writeFileSync(join(cwd, path), content);
    utimesSync(join(cwd, path), time, time + 0.25);
  };
  for (const side of ['new', 'base']) {
    file(`${side}/same`, 'same');
    file(`${side}/d/same`, 'same');
    file(`${side}/changed`, side);
    file(`${side}/mode`, 'x');
  }
  file('new/d/added', 'added');
  file('new/now-a-file', 'x');
  file('new/now-a-directory/x', 'x');
  file('new/tab\t, newline\n and é', 'x');
  file('base/gone/deep/x', 'x');
  file('base/now-a-file/x', 'x');
  file('base/now-a-directory', 'x');
  symlinkSync('a', join(cwd, 'new/link'));
  symlinkSync('b', join(cwd, 'base/link'));
  chmodSync(join(cwd, 'new/mode'), 0o640);
  chmodSync(join(cwd, 'new/d'), 0o2750);
  chmodSync(join(cwd, 'new'), 0o750);
  must('setfattr', '-n', 'user.top', '-v', 'y', join(cwd, 'new'));
  must('setfattr', '-n', 'user.x', '-v', 'y', join(cwd, 'new/changed'));
  must('setfacl', '-m', 'u:1234:rw', join(cwd, 'new/d/added'));
}

const twin = (cwd: string, from: string, to: string) => must('cp', '-a', join(cwd, from), join(cwd, to));

/** An image made of a directory, without root's help. */
function image(path: string, content: string): void {
  must('mke2fs', '-q', '-t', 'ext4', '-I', '256', '-d', content, path, '2M');
}

const MANIFEST = (over: Record<string, string> = {}) => {
  const keys = {
    ...{ format: 'hpcp-diff', format_version: '1', patch_id: '0'.repeat(32), volume: '1/1', new: 'new', base: 'base' },
    ...{ hash_algo: 'xxh64', hash_size: '65536', full_hash: '1', xattrs: '1', layout: 'root' },
    section: 'root\t.\tchanges.tsv',
    ...over,
  };
  return Object.entries(keys)
    .filter(([, value]) => value !== '')
    .map(([key, value]) => `${key}\t${value}\n`)
    .join('');
};

/** A patch of these rows and files. */
function made(cwd: string, name: string, rows: string, files: Record<string, string>, manifest = MANIFEST()): void {
  const content = join(cwd, `${name}.content`);
  mkdirSync(join(content, '.hpcp_diff'), { recursive: true });
  writeFileSync(join(content, '.hpcp_diff/manifest'), manifest);
  writeFileSync(join(content, '.hpcp_diff/changes.tsv'), `#hpcp-changes\t1\n#op\tpath\told\tnew\n${rows}`);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(content, path, '..'), { recursive: true });
    writeFileSync(join(content, path), text);
    chmodSync(join(content, path), 0o644);
  }
  image(join(cwd, name), content);
}

it.skipIf(WITHOUT_DISKS !== undefined)('is stopped as any job while it is packed, and nothing is left', async () => {
  const cwd = scratch();
  for (const directory of ['new', 'base', 'tmp']) mkdirSync(join(cwd, directory));
  writeFileSync(join(cwd, 'new/big'), Buffer.alloc(3 << 20, 'x'));
  // Slow enough to be met in the middle.
  const args = ['hpcp', 'new', '-diff', 'patch.img', '-d', 'base', '--bwlimit', '1m'];
  const env = { TMPDIR: join(cwd, 'tmp'), BULKHAUL_PROGRESS_INTERVAL: '0.05' };
  const onStart = (child: ChildProcess) => {
    let said = '';
    child.stderr?.on('data', (chunk: Buffer) => {
      if (/ packing \|/.test(said)) return;
      said += chunk;
      if (/ packing \|/.test(said)) child.kill('SIGINT');
    });
  };
  const { code, stdout, stderr } = await run(args, { cwd, env, onStart });
  expect([code, stdout.trimEnd().split('\n').at(-1)], stderr).toEqual([
    130,
    "Error occurred: ['Interrupted: nothing was made'], return code: 130.",
  ]);
  expect([readdirSync(cwd).sort(), readdirSync(join(cwd, 'tmp'))]).toEqual([['base', 'new', 'tmp'], []]);
});

const FILE = 'f:1:1000000000000000000:100644:0:0:-:-';

it('a manifest is lines of a key and a value', () => {
  expect(parseManifest('# x\n\na\tb\tc\nsection\troot\t.\tx\nsection\tpart1\tpart1\ty\n')).toEqual({
    keys: new Map([['a', 'b\tc']]),
    sections: [
      ['root', '.', 'x'],
      ['part1', 'part1', 'y'],
    ],
    raws: [],
  });
  expect(parseManifest('raw\tmbr\tx\n')?.raws).toEqual([['mbr', 'x']]);
  for (const text of ['a\n', 'a\tb\na\tc\n', '\tb\n']) expect(parseManifest(text)).toBeUndefined();
});

/** Directories of the test that runs. */
let owned: string[] = [];
function own(): string {
  const directory = scratch();
  owned.push(directory);
  return directory;
}

describe.skipIf(WITHOUT_DISKS !== undefined)('a patch', { timeout: 120_000 }, () => {
  beforeEach(() => {
    const attached = () =>
      must('losetup', '--noheadings', '-O', 'NAME,BACK-FILE')
        .split('\n')
        .filter((line) => owned.some((directory) => line.includes(directory)));
    owned = [];
    onTestFinished(() => expect(attached()).toEqual([]));
  });

  it('turns the base into the source, passes over what is done, and leads back', async () => {
    const cwd = own();
    trees(cwd);
    twin(cwd, 'base', 'target');
    // What a dead run has left is replaced.
    writeFileSync(join(cwd, 'patch.img.partial'), 'half');
    expect(await hpcp(cwd, 'new', '-diff', 'patch.img', '-d', 'base')).toMatchObject({ code: 0 });
    expect(existsSync(join(cwd, 'patch.img.partial'))).toBe(false);
    expect(statSync(join(cwd, 'patch.img')).mode & 0o777).toBe(0o600);
    must('e2fsck', '-fn', join(cwd, 'patch.img'));
    const dry = await hpcp(cwd, '-siff', 'patch.img', '-d', 'target', '--dry-run');
    expect(dry).toMatchObject({ code: 0, stdout: expect.stringContaining('>f+++++++++ d/added\n') });
    expect(differences(join(cwd, 'base'), join(cwd, 'target'))).toBe('');
    const done = await hpcp(cwd, '-siff', 'patch.img', '-d', 'target', '--undo', 'undo.img');
    expect(done).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('deleted 6, added 5, modified 5, skipped 0, conflicts 0, forced 0, failed 0'),
    });
    expect(differences(join(cwd, 'new'), join(cwd, 'target'))).toBe('');
    const again = await hpcp(cwd, '-siff', 'patch.img', '-d', 'target');
    expect(again).toMatchObject({ code: 0, stdout: expect.stringContaining('modified 0, skipped 16') });
    expect(await hpcp(cwd, '-siff', 'undo.img', '-d', 'target')).toMatchObject({ code: 0 });
    expect(differences(join(cwd, 'base'), join(cwd, 'target'))).toBe('');
    // Without a difference there is no patch.
    const none = await hpcp(cwd, 'base', '-diff', 'none.img', '-d', 'target');
    expect(none).toMatchObject({ code: 0, stdout: expect.stringContaining('Changes: 0 added, 0 modified, 0 deleted') });
    expect(existsSync(join(cwd, 'none.img'))).toBe(false);
    expect(await hpcp(cwd, 'new', '-diff', 'patch.img', '-d', 'base')).toMatchObject({ code: 242 });
  });

  it.each(['new', 'base'])('has nothing of times that the file system of the %s does not keep', (coarse) => {
    const cwd = own();
    trees(cwd);
    const seconds = join(cwd, 'seconds.img');
    must('truncate', '-s', '8M', seconds);
    must('mke2fs', '-q', '-t', 'ext3', '-I', '128', seconds);
    mounted(seconds, { start: 0, size: 0 }, 'rw', (root) => {
      // Each is the other side's twin, and one file has another time.
      const [fine, cut] = [join(cwd, 'fine'), join(root, 'cut')];
      must('cp', '-a', join(cwd, 'new'), fine);
      must('cp', '-a', join(cwd, 'new'), cut);
      must('rm', '-r', join(fine, 'd'), join(cut, 'd'));
      utimesSync(join(fine, 'mode'), 1e9 + 7, 1e9 + 7);
      const sides = coarse === 'base' ? [fine, cut] : [cut, fine];
      const args = ['hpcp', sides[0] ?? '', '-diff', 'p.img', '-d', sides[1] ?? ''];
      execFileSync(process.execPath, [executable, ...args], { cwd, stdio: 'pipe' });
    });
    const rows = must('debugfs', '-R', 'cat .hpcp_diff/changes.tsv', join(cwd, 'p.img')).trimEnd().split('\n').slice(2);
    expect(rows).toEqual([expect.stringMatching(/^M\tmode\t/)]);
  });

  it('of a tree that changes when its rows are written is none, and nothing is left', () => {
    const cwd = own();
    trees(cwd);
    const real = must('sh', '-c', 'readlink -f $(command -v mkfs.ext4)').trim();
    const program = join(cwd, 'mkfs.ext4');
    must('cp', real, program);
    // In a namespace of its own the program that makes the image first changes what is to come into it.
    const change = join(cwd, 'change');
    const script = `#!/bin/sh\nprintf other > ${join(cwd, 'new/d/added')}\nexec ${program} "$@"\n`;
    writeFileSync(change, script, { mode: 0o755 });
    const inside = `mount --bind ${change} ${real} && exec "$@"`;
    const command = [process.execPath, executable, 'hpcp', 'new', '-diff', 'p.img', '-d', 'base'];
    const ran = spawnSync('unshare', ['--mount', 'sh', '-c', inside, 'sh', ...command], { cwd, encoding: 'utf8' });
    expect([ran.status, ran.stdout + ran.stderr]).toEqual([242, expect.stringContaining('d/added')]);
    expect(readdirSync(cwd).sort()).toEqual(['base', 'change', 'mkfs.ext4', 'new']);
  });

  it('of images, and of a directory for an image, is applied to an image', async () => {
    const cwd = own();
    trees(cwd);
    for (const side of ['new', 'base']) image(join(cwd, `${side}.img`), join(cwd, side));
    expect(await hpcp(cwd, '-si', 'new.img', '-diff', 'patch.img', '-di', 'base.img')).toMatchObject({ code: 0 });
    expect(await hpcp(cwd, '-siff', 'patch.img', '-di', 'base.img')).toMatchObject({ code: 0 });
    expect(await hpcp(cwd, '-si', 'base.img', '-e', '/lost+found', '-d', 'out')).toMatchObject({ code: 0 });
    // What stands for a whole image has the mode that mke2fs gives it.
    expect(differences(join(cwd, 'new'), join(cwd, 'out'))).toMatch(/^(?:\.d\S+ \.\/\n)?$/);
    must('e2fsck', '-fn', join(cwd, 'base.img'));
    // What is at its absolute path in an image comes there.
    rmSync(join(cwd, 'base.img'));
    expect(await hpcp(cwd, 'base', '-di', 'base.img')).toMatchObject({ code: 0 });
    twin(cwd, 'base', 'kept');
    rmSync(join(cwd, 'base'), { recursive: true });
    cpSync(join(cwd, 'new'), join(cwd, 'base'), { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
    expect(await hpcp(cwd, 'base', '-diff', 'p2.img', '-di', 'base.img')).toMatchObject({ code: 0 });
    expect(await hpcp(cwd, '-siff', 'p2.img', '-di', 'base.img')).toMatchObject({ code: 0 });
    expect(await hpcp(cwd, '-si', 'base.img', '-d', 'stored')).toMatchObject({ code: 0 });
    expect(differences(join(cwd, 'base'), join(cwd, 'stored', cwd, 'base'))).toBe('');
  });

  it.skipIf(!existsSync(ORIGINAL))('that was made here is applied by hpcp 9.79, and the reverse', async () => {
    const cwd = own();
    trees(cwd);
    for (const target of ['a', 'b', 'c']) twin(cwd, 'base', target);
    expect((await hpcp(cwd, 'new', '-diff', 'p1.img', '-d', 'base')).code).toBe(0);
    expect(original(cwd, '-siff', 'p1.img', '-d', 'a')).toBe(0);
    expect(differences(join(cwd, 'new'), join(cwd, 'a'), false)).toBe('');
    expect(original(cwd, 'new', '-diff', 'p2.img', '-d', 'base')).toBe(0);
    expect(await hpcp(cwd, '-siff', 'p2.img', '-d', 'b', '--undo', 'undo.img')).toMatchObject({ code: 0 });
    expect(differences(join(cwd, 'new'), join(cwd, 'b'), false)).toBe('');
    // Each passes over what the other has done.
    expect(original(cwd, '-siff', 'p2.img', '-d', 'b')).toBe(0);
    const again = await hpcp(cwd, '-siff', 'p2.img', '-d', 'a');
    expect(again).toMatchObject({ code: 0, stdout: expect.stringContaining('skipped 16') });
    // The way back is a patch, too.
    expect(original(cwd, '-siff', 'undo.img', '-d', 'b')).toBe(0);
    expect(differences(join(cwd, 'base'), join(cwd, 'b'), false)).toBe('');
    // Its conflicts are ours.
    writeFileSync(join(cwd, 'c/changed'), 'other');
    expect(original(cwd, '-siff', 'p1.img', '-d', 'c')).toBe(245);
    expect((await hpcp(cwd, '-siff', 'p2.img', '-d', 'c')).code).toBe(245);
  });

  it.skipIf(!existsSync(ORIGINAL))('of hpcp 9.79 without xxhash is hashed with BLAKE2b, and applied', async () => {
    const cwd = own();
    trees(cwd);
    twin(cwd, 'base', 'target');
    const without =
      'import runpy, sys; sys.modules["xxhash"] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name="__main__")';
    const args = ['-c', without, ORIGINAL, 'new', '-diff', 'p1.img', '-d', 'base'];
    expect(spawnSync('python3', args, { cwd, stdio: 'ignore' }).status).toBe(0);
    must('debugfs', '-R', `dump /.hpcp_diff/manifest ${join(cwd, 'manifest')}`, join(cwd, 'p1.img'));
    expect(readFileSync(join(cwd, 'manifest'), 'utf8')).toContain('hash_algo\tblake2b\n');
    expect(await hpcp(cwd, '-siff', 'p1.img', '-d', 'target')).toMatchObject({ code: 0 });
    expect(differences(join(cwd, 'new'), join(cwd, 'target'), false)).toBe('');
  });

  it('keeps to a limit of speed while it is applied', async () => {
    const cwd = own();
    for (const side of ['new', 'base']) mkdirSync(join(cwd, side));
    writeFileSync(join(cwd, 'new/big'), Buffer.alloc(1 << 20, 'x'));
    expect(await hpcp(cwd, 'new', '-diff', 'p.img', '-d', 'base')).toMatchObject({ code: 0 });
    const begun = performance.now();
    expect(await hpcp(cwd, '-siff', 'p.img', '-d', 'base', '-L', '1Mi')).toMatchObject({ code: 0 });
    // All but what may go at once, a tenth of a second's.
    expect(performance.now() - begun).toBeGreaterThan(900);
    expect(differences(join(cwd, 'new'), join(cwd, 'base'))).toBe('');
  });

  it('of files with several names changes them by each, and leads back', async () => {
    const cwd = own();
    for (const side of ['new', 'base']) {
      mkdirSync(join(cwd, side));
      writeFileSync(join(cwd, side, 'a'), side);
      for (const name of ['b', 'c', ...(side === 'base' ? ['gone', 'too'] : [])]) {
        linkSync(join(cwd, side, 'a'), join(cwd, side, name));
      }
    }
    twin(cwd, 'base', 'target');
    expect((await hpcp(cwd, 'new', '-diff', 'p.img', '-d', 'base')).code).toBe(0);
    const done = await hpcp(cwd, '-siff', 'p.img', '-d', 'target', '--undo', 'u.img');
    expect(done.code, done.stderr).toBe(0);
    expect(differences(join(cwd, 'new'), join(cwd, 'target'))).toBe('');
    expect((await hpcp(cwd, '-siff', 'u.img', '-d', 'target')).code).toBe(0);
    expect(differences(join(cwd, 'base'), join(cwd, 'target'))).toBe('');
  });

  it('is not applied when the way back can not be kept', async () => {
    const cwd = own();
    trees(cwd);
    expect((await hpcp(cwd, 'new', '-diff', 'patch.img', '-d', 'base')).code).toBe(0);
    twin(cwd, 'base', 'target');
    const refused = await hpcp(cwd, '-siff', 'patch.img', '-d', 'target', '--undo', 'absent/undo.img');
    expect(refused).toMatchObject({ code: 242, stderr: expect.stringContaining('absent/undo.img') });
    expect(differences(join(cwd, 'base'), join(cwd, 'target'))).toBe('');
    const taken = await hpcp(cwd, '-siff', 'patch.img', '-d', 'target', '--undo', 'patch.img');
    expect(taken.code).toBe(242);
    expect(differences(join(cwd, 'base'), join(cwd, 'target'))).toBe('');
    for (const flag of [['-fa'], ['--undo', 'x']])
      expect((await hpcp(cwd, 'new', '-d', 'target', ...flag)).code).toBe(2);
  });

  it('with conflicts changes nothing, and is applied over them with -fa', async () => {
    const cwd = own();
    trees(cwd);
    expect((await hpcp(cwd, 'new', '-diff', 'patch.img', '-d', 'base')).code).toBe(0);
    twin(cwd, 'base', 'target');
    writeFileSync(join(cwd, 'target/changed'), 'theirs');
    writeFileSync(join(cwd, 'target/gone/unnamed'), '');
    twin(cwd, 'target', 'kept');
    const refused = await hpcp(cwd, '-siff', 'patch.img', '-d', 'target');
    expect(refused.code).toBe(245);
    expect(refused.stderr).toContain('changed: its content is neither what the patch expects nor what it brings');
    expect(refused.stderr).toContain('gone: it holds something that the patch does not name');
    expect(differences(join(cwd, 'kept'), join(cwd, 'target'))).toBe('');
    // What no patch could bring back is not overruled where the way back is asked for.
    expect((await hpcp(cwd, '-siff', 'patch.img', '-d', 'target', '-fa', '--undo', 'undo.img')).code).toBe(245);
    expect(existsSync(join(cwd, 'undo.img'))).toBe(false);
    const forced = await hpcp(cwd, '-siff', 'patch.img', '-d', 'target', '-fa');
    expect(forced).toMatchObject({ code: 0, stdout: expect.stringContaining('forced 2, failed 0') });
    expect(differences(join(cwd, 'new'), join(cwd, 'target'))).toBe('');
  });

  it('of several volumes is applied when all of them are there', async () => {
    const cwd = own();
    mkdirSync(join(cwd, 'target'));
    const rows = `A\ta\t-\t${FILE}\nA\tb\t-\t${FILE}\n`;
    made(cwd, 'p1.img', rows, { a: 'a' }, MANIFEST({ volume: '1/2' }));
    made(cwd, 'p2.img', rows, { b: 'b' }, MANIFEST({ volume: '2/2' }));
    made(cwd, 'p3.img', rows, { b: 'b' }, MANIFEST({ volume: '2/2', patch_id: '1'.repeat(32) }));
    for (const volumes of [['p1.img'], ['p1.img', 'p1.img'], ['p1.img', 'p3.img'], ['absent*.img']]) {
      expect((await hpcp(cwd, '-siff', ...volumes, '-d', 'target')).code).toBe(244);
    }
    expect(readdirSync(join(cwd, 'target'))).toEqual([]);
    expect(await hpcp(cwd, '-siff', 'p[21].img', '-d', 'target')).toMatchObject({ code: 0 });
    expect(readFileSync(join(cwd, 'target/b'), 'utf8')).toBe('b');
    // The time is that of the row.
    expect(statSync(join(cwd, 'target/a')).mtimeMs).toBe(1e12);
  });

  it('of a size that does not hold it is made in several volumes, which hpcp 9.79 applies too', async () => {
    const cwd = own();
    trees(cwd);
    for (const name of ['x', 'd/y', 'd/z']) writeFileSync(join(cwd, 'new', name), Buffer.alloc(20 << 20, name));
    for (const target of ['target', 'other']) twin(cwd, 'base', target);
    const small = await hpcp(cwd, 'new', '-diff', 'p.img', '-d', 'base', '-dis', '50M', '--image-fs', 'xfs');
    expect(small.code, small.stderr).toBe(223);
    // What a dead run has left goes.
    writeFileSync(join(cwd, 'p_1.img.partial'), 'half');
    const made = await hpcp(cwd, 'new', '-diff', 'p.img', '-d', 'base', '-dis', '56M');
    expect(made).toMatchObject({ code: 0, stderr: expect.stringContaining('p.img to p_2.img are made') });
    const volumes = ['p.img', 'p_1.img', 'p_2.img'];
    expect(readdirSync(cwd).filter((name) => name.startsWith('p'))).toEqual(volumes);
    expect((await hpcp(cwd, '-siff', 'p.img', '-d', 'target')).code).toBe(244);
    expect(await hpcp(cwd, '-siff', 'p*.img', '-d', 'target')).toMatchObject({ code: 0 });
    expect(differences(join(cwd, 'new'), join(cwd, 'target'))).toBe('');
    if (existsSync(ORIGINAL)) {
      expect(original(cwd, ...volumes.flatMap((each) => ['-siff', each]), '-d', 'other')).toBe(0);
      expect(differences(join(cwd, 'new'), join(cwd, 'other'), false)).toBe('');
    }
    // A name of one of them that is taken is refused, and what has it stays.
    rmSync(join(cwd, 'p.img'));
    const kept = readFileSync(join(cwd, 'p_1.img'));
    expect((await hpcp(cwd, 'new', '-diff', 'p.img', '-d', 'base', '-dis', '56M')).code).toBe(242);
    expect(readFileSync(join(cwd, 'p_1.img')).equals(kept)).toBe(true);
    expect(readdirSync(cwd).filter((name) => name.startsWith('p'))).toEqual(['p_1.img', 'p_2.img']);
  });

  it('of format 3 has hashes of whole files where they are marked, beside those of tails', async () => {
    const cwd = own();
    const state = (hash: string) => `f:4:1000000000000000000:100644:0:0:${hash}:-`;
    // XXH64 of `same`, and of its last two bytes.
    const [whole, tail] = ['F280ef41fe7ab1653', 'e694fca57c799618'];
    const manifest = MANIFEST({ format_version: '3', hash_size: '2', full_hash: '0' });
    const rows = `A\tf\t-\t${state(whole)}\nA\tg\t-\t${state(tail)}\n`;
    made(cwd, 'p.img', rows, { f: 'same', g: 'lame' }, manifest);
    made(cwd, 'other.img', rows, { f: 'lame', g: 'lame' }, manifest);
    for (const name of ['target', 'kept']) mkdirSync(join(cwd, name));
    const done = await hpcp(cwd, '-siff', 'p.img', '-d', 'target');
    expect(done.code, done.stderr).toBe(0);
    expect(['f', 'g'].map((name) => readFileSync(join(cwd, 'target', name), 'utf8'))).toEqual(['same', 'lame']);
    expect((await hpcp(cwd, '-siff', 'other.img', '-d', 'kept')).code).toBe(246);
    expect(readdirSync(join(cwd, 'kept'))).toEqual([]);
  });

  it('that is none, is of another format, or lies about itself is refused', async () => {
    const cwd = own();
    mkdirSync(join(cwd, 'target'));
    writeFileSync(join(cwd, 'outside'), 'n');
    const row = `A\tnew\t-\t${FILE}\n`;
    const cases: [number, string, Record<string, string>, Record<string, string>][] = [
      [243, row, { new: 'n' }, { format: 'other' }],
      [243, row, { new: 'n' }, { format_version: '4' }],
      [243, row, { new: 'n' }, { hash_algo: 'md5' }],
      [243, row, { new: 'n' }, { patch_id: 'x' }],
      [243, row, { new: 'n' }, { section: 'root\t.\t../../etc/passwd' }],
      [243, row, { new: 'n' }, { layout: 'disk', format_version: '2' }],
      [243, `A\t../outside\t-\t${FILE}\n`, { new: 'n' }, {}],
      [243, `A\t.hpcp_diff/x\t-\t${FILE}\n`, { new: 'n' }, {}],
      [243, 'A\tnew\t-\tx:1\n', { new: 'n' }, {}],
      [244, row, {}, {}],
      [246, row, { new: 'longer' }, {}],
      [246, 'A\tnew\t-\tf:1:1000000000000000000:100644:0:0:0123456789abcdef:-\n', { new: 'n' }, {}],
      [245, `A\tabsent/new\t-\t${FILE}\n`, { 'absent/new': 'n' }, {}],
    ];
    for (const [index, [code, rows, files, keys]] of cases.entries()) {
      made(cwd, `p${index}.img`, rows, files, MANIFEST(keys));
      const refused = await hpcp(cwd, '-siff', `p${index}.img`, '-d', 'target', '-fa');
      expect(refused.code, `${index}: ${refused.stderr}`).toBe(code);
      expect(readdirSync(join(cwd, 'target'))).toEqual([]);
    }
    // Links in the image lead nowhere.
    for (const name of ['manifest', 'changes.tsv']) {
      const content = join(cwd, 'p0.img.content');
      rmSync(content, { recursive: true });
      mkdirSync(join(content, '.hpcp_diff'), { recursive: true });
      writeFileSync(join(cwd, 'manifest'), MANIFEST());
      writeFileSync(join(cwd, 'changes.tsv'), `#hpcp-changes\t1\n${row}`);
      for (const own of ['manifest', 'changes.tsv']) {
        const path = join(content, '.hpcp_diff', own);
        if (own === name) symlinkSync(join(cwd, own), path);
        else writeFileSync(path, readFileSync(join(cwd, own)));
      }
      rmSync(join(cwd, 'p0.img'));
      image(join(cwd, 'p0.img'), content);
      expect((await hpcp(cwd, '-siff', 'p0.img', '-d', 'target')).code).toBe(243);
    }
    writeFileSync(join(cwd, 'p0.img'), 'no image');
    expect((await hpcp(cwd, '-siff', 'p0.img', '-d', 'target')).code).toBe(243);
    expect(readFileSync(join(cwd, 'outside'), 'utf8')).toBe('n');
  });

  it('goes with nothing that would remove or list, and needs one source, one base, one target', async () => {
    const cwd = own();
    trees(cwd);
    const before = readdirSync(cwd);
    const apply = ['-siff', 'patch.img', '-d', 'base'];
    const make = ['new', '-diff', 'patch.img', '-d', 'base'];
    const refused = [
      ...['-rm', '-rf', '-rme', '-cfl', '-dfl', '-tdfl', '-co'].flatMap((flag) => [
        [...apply, flag],
        [...make, flag],
      ]),
      [...make, '-siff', 'patch.img'],
      ['-siff', 'patch.img'],
      [...apply, '-di', 'x.img'],
      [...apply, '-e', 'x'],
      ['-siff', 'patch.img', '-d', 'absent'],
      ['new', 'base', '-diff', 'patch.img', '-d', 'base'],
      ['new/same', '-diff', 'patch.img', '-d', 'base'],
      ['new', '-diff', 'patch.img'],
      ['new', '-diff', 'patch.img', '-d', 'absent'],
      [...apply, '-dis', '1G'],
    ];
    for (const args of refused) {
      const { code, stderr } = await hpcp(cwd, ...args);
      expect([241, 244], `${args.join(' ')}: ${stderr}`).toContain(code);
    }
    // What is left out of a directory has no name in an image.
    image(join(cwd, 'base.img'), join(cwd, 'base'));
    const left = await hpcp(cwd, 'new', '-diff', 'patch.img', '-di', 'base.img', '-e', 'same');
    expect(left).toMatchObject({ code: 2, stderr: expect.stringContaining('not with a directory against an image') });
    expect(readdirSync(cwd).sort()).toEqual([...before, 'base.img'].sort());
  });
});
