/** `bulkhaul image`: what it tells of disks and images, what it finds damaged, and a clone by its own name. */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { astray, astrayIn, references, rewritten } from '../src/ops/disk/boot.js';
import { unlessAbsent } from '../src/ops/disk/device.js';
import { READ_ONLY_FILE_SYSTEMS } from '../src/ops/treeimage.js';
import { places, WITHOUT_DISKS } from './rig/disks.js';
import { executable, jsonLines, run, scratch } from './rig.js';

const must = (program: string, ...args: string[]) =>
  execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
const image = (cwd: string, ...args: string[]) => run(['image', ...args], { cwd });

/** Images that are only read, where they can be made and mounted here. */
const readOnly = READ_ONLY_FILE_SYSTEMS.filter((type) => {
  const program = type === 'squashfs' ? 'mksquashfs' : 'mkfs.erofs';
  spawnSync('modprobe', [type]);
  const known = readFileSync('/proc/filesystems', 'utf8').includes(`\t${type}\n`);
  const can = known && spawnSync(program, ['--help']).error === undefined;
  if (!can) console.log(`skip: there is no ${known ? program : `${type} in this kernel`}`);
  return can;
});

/** A disk with a boot loader's partition, and an ext4 with a file. */
function disk(cwd: string): string {
  const path = join(cwd, 'd.img');
  const table =
    'label: gpt\nlabel-id: 11111111-2222-4333-8444-555555555555\nsize=1MiB,name=boot\nsize=16MiB,name="é"\n';
  must('truncate', '-s', '24M', path);
  execFileSync('sfdisk', ['-q', path], { input: table, stdio: ['pipe', 'ignore', 'ignore'] });
  mkdirSync(join(cwd, 'tree/etc'), { recursive: true });
  writeFileSync(join(cwd, 'tree/etc/fstab'), 'UUID=01234567-0000-4000-8000-000000000000 / ext4 defaults 0 1\n');
  const part = join(cwd, 'part');
  must('mke2fs', '-q', '-t', 'ext4', '-L', 'root', '-d', join(cwd, 'tree'), part, '16M');
  must('dd', `if=${part}`, `of=${path}`, 'bs=1M', 'seek=2', 'conv=notrunc', 'status=none');
  return path;
}

describe.skipIf(WITHOUT_DISKS !== undefined)('image', { timeout: 60_000 }, () => {
  it('inspect tells what is on a disk, as other programs do, and writes nothing', async () => {
    const cwd = scratch();
    const path = disk(cwd);
    const before = must('sha256sum', path);
    const { code, stdout } = await image(cwd, 'inspect', '--json', 'd.img');
    const [one, two] = JSON.parse(must('sfdisk', '-J', path)).partitiontable.partitions;
    const blkid = (tag: string) =>
      must('blkid', '-p', '-o', 'value', '-s', tag, '-O', String(2 << 20), '-S', String(16 << 20), path).trim();
    expect([code, ...jsonLines(stdout)]).toEqual([
      0,
      expect.objectContaining({
        ...{ type: 'image', path: 'd.img', size: 24 << 20, sectorSize: 512, table: 'gpt' },
        id: '11111111-2222-4333-8444-555555555555',
        volumes: [
          {
            ...{ number: 1, start: one.start * 512, size: one.size * 512, name: 'boot' },
            ...{ partType: one.type, partUuid: one.uuid },
          },
          {
            ...{ number: 2, start: two.start * 512, size: two.size * 512, name: 'é', partType: two.type },
            ...{ partUuid: two.uuid, type: 'ext4', version: '1.0', label: 'root', uuid: blkid('UUID') },
            fill: expect.objectContaining({ used: expect.any(Number), usedInodes: 13 }),
          },
        ],
      }),
      expect.objectContaining({ type: 'summary', complete: true, exitCode: 0 }),
    ]);
    const text = await image(cwd, 'inspect', 'd.img', 'part');
    expect(text).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('  2 "é": 16.0 MiB at 2.00 MiB, ext4 1.0 "root"'),
    });
    expect(text.stdout).toContain('part: 16.0 MiB\n  ext4 1.0 "root"\n');
    expect(must('sha256sum', path)).toBe(before);
  });

  it('check finds what is damaged, and repairs nothing', async () => {
    const cwd = scratch();
    const path = disk(cwd);
    expect(await image(cwd, 'check', 'd.img', 'part')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('sound'),
    });
    must('debugfs', '-w', '-R', 'clri <12>', join(cwd, 'part'));
    const before = must('sha256sum', join(cwd, 'part'));
    expect(await image(cwd, 'check', 'part')).toMatchObject({
      code: 1,
      stdout: expect.stringContaining("DAMAGED: e2fsck: Entry 'etc' in / (2) has deleted/unused inode 12.; "),
    });
    expect(must('sha256sum', join(cwd, 'part'))).toBe(before);
    // The table alone.
    must('dd', 'if=/dev/zero', `of=${path}`, 'bs=512', 'seek=3', 'count=1', 'conv=notrunc', 'status=none');
    must('dd', 'if=/dev/urandom', `of=${path}`, 'bs=512', 'seek=2', 'count=1', 'conv=notrunc', 'status=none');
    const { code, stdout } = await image(cwd, 'inspect', 'd.img');
    expect({ code, stdout }).toEqual({ code: 1, stdout: expect.stringContaining('DAMAGED: the partition table') });
  });

  it('clone plans, asks, clones, and tells what would not be found when it boots', async () => {
    const cwd = scratch();
    const path = disk(cwd);
    const plan = await image(cwd, 'clone', '-n', '--json', 'd.img', 'x.img');
    expect([plan.code, ...jsonLines(plan.stdout)]).toEqual([
      0,
      expect.objectContaining({
        ...{ type: 'clone-plan', source: 'd.img', destination: 'x.img', table: 'gpt' },
        partitions: [
          expect.objectContaining({ number: 1, method: 'raw' }),
          expect.objectContaining({ number: 2, method: 'files', type: 'ext4', name: 'é' }),
        ],
      }),
      expect.objectContaining({ type: 'summary', complete: true, dryRun: true, exitCode: 0 }),
    ]);
    expect(existsSync(join(cwd, 'x.img'))).toBe(false);
    const made = await image(cwd, 'clone', 'd.img', 'x.img');
    expect(made).toMatchObject({ code: 0, stderr: expect.stringMatching(/^complete: /m) });
    expect(made.stderr).toContain(
      '/etc/fstab names UUID=01234567-0000-4000-8000-000000000000, and nothing of the clone has it',
    );
    const dump = (of: string) =>
      must('sfdisk', '-d', of)
        .replaceAll(of, 'disk')
        .replace(/^last-lba.*$/m, '');
    expect(dump(join(cwd, 'x.img'))).toBe(dump(path));
    expect(await run(['image', 'clone', 'd.img', 'x.img'], { cwd, input: 'n\n' })).toMatchObject({
      code: 3,
      stderr: expect.stringContaining('x.img holds a partition table (gpt)'),
    });
    const env = { ...process.env, BULKHAUL_PROGRESS_INTERVAL: '0.02' };
    const again = await run(['image', 'clone', '--overwrite', '--json', 'd.img', 'x.img'], { cwd, env });
    expect([again.code, again.stderr]).toEqual([0, '']);
    const states = jsonLines(again.stdout).filter(({ type }) => type === 'status');
    // Nothing goes from a source, and what is read to prove the clone was expected from the beginning.
    expect(states.map(({ phase }) => phase)).not.toContain('proving');
    const toRead = states.flatMap(({ expected }) => (expected ? [(expected as { toRead: number }).toRead] : []));
    expect(toRead).toEqual(toRead.toSorted((one, other) => other - one));
    expect(readdirSync(cwd).sort()).toEqual(['d.img', 'part', 'tree', 'x.img']);
  });

  it.each([
    ['gpt', 'C12A7328-F81F-11D2-BA4B-00A0C93EC93B'],
    ['dos', 'ef'],
  ])(
    'clone tells of a system partition of UEFI (%s) without a loader where any firmware looks',
    async (label, type) => {
      const cwd = scratch();
      must('truncate', '-s', '16M', join(cwd, 'd.img'));
      const table = `label: ${label}\nsize=4MiB,type=${type}\nsize=4MiB,type=${type}\n`;
      execFileSync('sfdisk', ['-q', join(cwd, 'd.img')], { input: table });
      // Of a file system that kernels know; FAT finds names in any case.
      for (const [index, name] of ['EFI/debian/grubx64.efi', 'EFI/Boot/bootx64.efi'].entries()) {
        const content = join(cwd, `content${index}`);
        mkdirSync(join(content, name, '..'), { recursive: true });
        writeFileSync(join(content, name), 'loader');
        must('mke2fs', '-q', '-t', 'ext4', '-d', content, join(cwd, 'part'), '4M');
        must(
          'dd',
          `if=${join(cwd, 'part')}`,
          `of=${join(cwd, 'd.img')}`,
          'bs=1M',
          `seek=${1 + 4 * index}`,
          'conv=notrunc',
        );
      }
      const { code, stderr } = await image(cwd, 'clone', 'd.img', 'x.img');
      expect([code, stderr.match(/partition \d is a system partition of UEFI without a loader/g)]).toEqual([
        0,
        ['partition 1 is a system partition of UEFI without a loader'],
      ]);
    },
  );

  it('clone that died with its last identity, before it had its name, goes on with all partitions', async () => {
    const cwd = scratch();
    const path = disk(cwd);
    expect((await image(cwd, 'clone', 'd.img', 'x.img')).code).toBe(0);
    renameSync(join(cwd, 'x.img'), join(cwd, 'x.img.partial'));
    const { code, stderr } = await image(cwd, 'clone', 'd.img', 'x.img');
    expect({ code, stderr }).toEqual({ code: 0, stderr: expect.stringContaining('goes on with x.img.partial') });
    for (const number of [1, 2]) expect(stderr).toContain(`partition ${number} was proved by an earlier run`);
    expect(places(join(cwd, 'x.img'))).toEqual(places(path));
  });

  it.each<[string, string[], number, string]>([
    ['inspect', ['inspect', 'd.img'], 0, 'complete: 2 entries'],
    ['check', ['check', 'd.img'], 0, 'complete: 2 entries'],
    ['a check of what is damaged', ['check', 'part'], 1, 'MISMATCHED: 1 damaged (exit 1)'],
    ['clone -n', ['clone', '-n', 'd.img', 'x.img'], 0, 'complete: 2 entries (dry run: nothing was done)'],
  ])('%s ends with its verdict, in the log and for --on-end too', async (_, args, code, sentence) => {
    const cwd = scratch();
    disk(cwd);
    must('debugfs', '-w', '-R', 'clri <12>', join(cwd, 'part'));
    writeFileSync(join(cwd, 'end'), '#!/bin/sh\necho "end $BULKHAUL_EXIT_CODE $BULKHAUL_SENTENCE"\n', { mode: 0o755 });
    const ran = await image(cwd, ...args, '--log-file', 'log', '--on-end', './end');
    expect(ran.code, ran.stderr).toBe(code);
    const lines = ran.stderr.trimEnd().split('\n');
    const dry = args.includes('-n');
    expect(dry ? lines : lines.slice(-2)).toEqual([sentence, ...(dry ? [] : [`end ${code} ${sentence}`])]);
    const log = readFileSync(join(cwd, 'log'), 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(log[0]).toMatchObject({ msg: 'begin', command: expect.arrayContaining(['image', args[0]]) });
    expect(log.at(-1)).toMatchObject({ msg: 'summary', exitCode: code, complete: code === 0, dryRun: dry });
    const quiet = await image(cwd, ...args, '--quiet');
    expect(quiet).toMatchObject({ code, stderr: code === 0 ? '' : expect.stringContaining(sentence) });
    const json = await image(cwd, ...args, '--quiet', '--json');
    expect(jsonLines(json.stdout)).toEqual([expect.objectContaining({ type: 'summary', exitCode: code })]);
  });

  it.each<[string[], string]>([
    [['inspect', '--size', '4M'], 'image inspect has no use for --size: it is for image clone'],
    [['check', '-n'], 'image check has no use for --dry-run: it is for image clone, pack, unpack'],
    [['check', '--bwlimit', '1m'], 'image check has no use for --bwlimit: it is for image clone, pack, unpack'],
    [['unpack', '--total', '4M', 'out'], 'image unpack has no use for --total: it is for image clone, pack'],
    [['pack', '--new-identity', 'x.img'], 'image pack has no use for --new-identity: it is for image clone'],
    [['clone', '--image-fs', 'xfs', 'x.img'], 'image clone has no use for --image-fs: it is for image pack'],
  ])('refuses what another action is asked for: %j', async ([action = '', ...args], why) => {
    const cwd = scratch();
    disk(cwd);
    const ran = await image(cwd, action, 'd.img', ...args);
    expect(ran).toEqual({ code: 2, stdout: '', stderr: `bulkhaul: ${why}\n` });
    expect(readdirSync(cwd).sort()).toEqual(['d.img', 'part', 'tree']);
  });

  it('clone tells of an MBR that names partitions of a GPT', async () => {
    const cwd = scratch();
    const path = disk(cwd);
    const plain = await image(cwd, 'clone', '-n', 'd.img', 'x.img');
    expect([plain.code, plain.stdout.includes('hybrid')]).toEqual([0, false]);
    const file = openSync(path, 'r+');
    // The second entry: Linux.
    writeSync(file, Buffer.of(0x83), 0, 1, 446 + 16 + 4);
    closeSync(file);
    const told = await image(cwd, 'clone', '-n', 'd.img', 'x.img');
    expect([told.code, told.stdout]).toEqual([0, expect.stringContaining('names partitions, too (a hybrid one)')]);
  });

  it('clone has a table for as many partitions, and with a number that few have', async () => {
    const cwd = scratch();
    const path = join(cwd, 'd.img');
    must('truncate', '-s', '24M', path);
    const table = 'label: gpt\ntable-length: 256\n200: size=2MiB,name=far\n3: size=2MiB\n';
    execFileSync('sfdisk', ['-q', path], { input: table, stdio: ['pipe', 'ignore', 'ignore'] });
    const made = await image(cwd, 'clone', 'd.img', 'x.img');
    expect(made.code, made.stderr).toBe(0);
    const dump = (of: string) =>
      must('sfdisk', '-d', of)
        .replaceAll(of, 'disk')
        .replace(/^last-lba.*$/m, '');
    expect(dump(join(cwd, 'x.img'))).toBe(dump(path));
    expect(dump(path)).toContain('table-length: 256');
  });

  it('clone with --new-identity has ids of its own, and its files name them', async () => {
    const cwd = scratch();
    const path = disk(cwd);
    const uuid = (of: string) =>
      must('blkid', '-p', '-o', 'value', '-s', 'UUID', '-O', String(2 << 20), '-S', String(16 << 20), of).trim();
    const table = (of: string) => JSON.parse(must('sfdisk', '-J', of)).partitiontable;
    const guid = (of: string): string => table(of).partitions[1].uuid;
    const fstab = (of: string) =>
      `UUID=${uuid(of)} / ext4 defaults 0 1\nPARTUUID=${guid(of).toLowerCase()} /x ext4 ro\n`;
    const part = join(cwd, 'part');
    writeFileSync(join(cwd, 'tree/etc/fstab'), fstab(path));
    writeFileSync(join(cwd, 'tree/etc/crypttab'), `x UUID=${uuid(path)} none\n`);
    must('mke2fs', '-q', '-F', '-t', 'ext4', '-L', 'root', '-U', uuid(path), '-d', join(cwd, 'tree'), part, '16M');
    // Immutable, beside the flag that says how it is kept.
    must('debugfs', '-w', '-R', 'sif /etc/crypttab flags 0x80010', part);
    must('dd', `if=${part}`, `of=${path}`, 'bs=1M', 'seek=2', 'conv=notrunc', 'status=none');
    const made = await image(cwd, 'clone', '--new-identity', 'd.img', 'x.img');
    expect(made).toMatchObject({ code: 0, stderr: expect.stringContaining('/etc/fstab has the ids of the clone') });
    expect(made.stderr).toContain('/etc/crypttab has the ids of the source: it may not be written to');
    expect(made.stderr).not.toContain('nothing of the clone has it');
    const clone = join(cwd, 'x.img');
    const ids = (of: string) => [uuid(of), guid(of), table(of).id];
    for (const [index, id] of ids(clone).entries()) expect(id).not.toBe(ids(path)[index]);
    expect((await image(cwd, 'unpack', 'x.img', 'out')).code).toBe(0);
    expect(readFileSync(join(cwd, 'out/p2/etc/fstab'), 'utf8')).toBe(fstab(clone));
    must('e2fsck', '-fn', `${clone}?offset=${2 << 20}`);
  });

  it('pack makes an image of trees, by their names, brings it up to date, and unpack gives them back', async () => {
    const cwd = scratch();
    mkdirSync(join(cwd, 'one/sub'), { recursive: true });
    mkdirSync(join(cwd, 'two'));
    writeFileSync(join(cwd, 'one/sub/f'), 'f'.repeat(5000));
    must('truncate', '-s', '1G', join(cwd, 'one/sparse'));
    must('setfattr', '-n', 'user.x', '-v', 'y', join(cwd, 'one/sub/f'));
    writeFileSync(join(cwd, 'two/g'), 'g');
    expect(await image(cwd, 'pack', '-n', 'one', 'x.img')).toMatchObject({ code: 0 });
    expect(existsSync(join(cwd, 'x.img'))).toBe(false);
    expect(await image(cwd, 'pack', 'one', 'two/', 'x.img')).toMatchObject({ code: 0 });
    expect(must('blkid', '-p', '-o', 'value', '-s', 'TYPE', join(cwd, 'x.img'))).toBe('ext4\n');
    writeFileSync(join(cwd, 'two/h'), 'h');
    expect((await image(cwd, 'pack', 'one', 'two/', 'x.img')).code).toBe(0);
    expect((await image(cwd, 'unpack', 'x.img', 'out')).code).toBe(0);
    expect(readdirSync(join(cwd, 'out')).sort()).toEqual(['g', 'h', 'one']);
    expect(must('rsync', '-aniHAX', '--checksum', '--delete', `${cwd}/one`, `${cwd}/out`)).not.toMatch(/^[^.]/m);
    expect(await image(cwd, 'pack', 'one', 'y.img', '--total', '4M')).toMatchObject({ code: 3 });
    // Of a disk each file system has its own directory.
    disk(cwd);
    expect((await image(cwd, 'unpack', 'd.img', 'parts')).code).toBe(0);
    expect(readdirSync(join(cwd, 'parts/p2'))).toEqual(['etc']);
    expect(readdirSync(cwd).sort()).toEqual(['d.img', 'one', 'out', 'part', 'parts', 'tree', 'two', 'x.img']);
  });

  it.each(readOnly)('pack makes of all of a tree an image of %s, or none', async (type) => {
    const cwd = scratch();
    const tree = join(cwd, 'tree');
    mkdirSync(join(tree, 'sub'), { recursive: true });
    for (const name of ['sub/f', 'n\n', Buffer.from('\xff', 'latin1')]) {
      writeFileSync(Buffer.concat([Buffer.from(`${tree}/`), Buffer.from(name)]), 'f'.repeat(5000));
    }
    linkSync(join(tree, 'sub/f'), join(tree, 'hard'));
    symlinkSync('sub', join(tree, 'link'));
    must('truncate', '-s', '4M', join(tree, 'sparse'));
    must('mkfifo', join(tree, 'pipe'));
    must('mknod', join(tree, 'device'), 'c', '1', '3');
    must('chown', '70000:4', join(tree, 'hard'));
    must('chmod', '2750', tree);
    must('setfattr', '-n', 'user.x', '-v', 'y', join(tree, 'sub/f'));
    must('find', tree, '-exec', 'touch', '-h', '-d', '@1000000000.5', '{}', '+');
    const pack = (into: string, ...more: string[]) => image(cwd, 'pack', '--image-fs', type, 'tree/', into, ...more);
    expect(await pack('x.img', '-n')).toMatchObject({ code: 0 });
    expect(readdirSync(cwd)).toEqual(['tree']);
    expect(await pack('x.img')).toMatchObject({ code: 0, stderr: expect.stringContaining('nothing differs') });
    expect(must('blkid', '-p', '-o', 'value', '-s', 'TYPE', join(cwd, 'x.img'))).toBe(`${type}\n`);
    expect((await image(cwd, 'unpack', 'x.img', 'out')).code).toBe(0);
    // squashfs has whole seconds.
    if (type === 'squashfs') must('find', tree, '-exec', 'touch', '-h', '-d', '@1000000000', '{}', '+');
    expect(must('rsync', '-aniHAX', '--checksum', '--delete', `${tree}/`, `${cwd}/out/`)).toBe('');
    const digest = must('sha256sum', join(cwd, 'x.img'));
    expect(await pack('x.img')).toMatchObject({ code: 2, stderr: expect.stringContaining('never written to again') });
    expect(must('sha256sum', join(cwd, 'x.img'))).toBe(digest);
    // What it does not keep is found, and there is no image then.
    if (type === 'squashfs') {
      must('touch', '-d', '1960-01-01', join(tree, 'sub/f'));
      expect(await pack('y.img')).toMatchObject({ code: 1, stderr: expect.stringContaining('y.img was not made') });
      must('setfacl', '-m', 'u:3:r', join(tree, 'sub/f'));
      expect(await pack('y.img')).toMatchObject({ code: 2, stderr: expect.stringContaining('keeps no ACLs') });
    }
    for (const [args, why] of [
      [['tree', 'z.img'], 'with a slash at its end'],
      [['tree/', 'tree/sub/', 'z.img'], 'one directory'],
      [['tree/', 'z.img', '--total', '8M'], 'as large as what is in it'],
      [['tree/', 'tree/sub/z.img'], 'would lie in what is packed'],
    ] as const) {
      const ran = await image(cwd, 'pack', '--image-fs', type, ...args);
      expect(ran).toMatchObject({ code: expect.any(Number), stderr: expect.stringContaining(why) });
      expect(ran.code, why).not.toBe(0);
    }
    expect(readdirSync(cwd).sort()).toEqual(['out', 'tree', 'x.img']);
  });

  it('pack without root has a tree by mke2fs, in whole seconds, and what takes root says so', async () => {
    const cwd = scratch();
    mkdirSync(join(cwd, 'tree/sub'), { recursive: true });
    writeFileSync(join(cwd, 'tree/sub/f'), 'f'.repeat(5000));
    linkSync(join(cwd, 'tree/sub/f'), join(cwd, 'tree/hard'));
    symlinkSync('sub', join(cwd, 'tree/link'));
    must('truncate', '-s', '1G', join(cwd, 'tree/sparse'));
    must('setfattr', '-n', 'user.x', '-v', 'y', join(cwd, 'tree/sub/f'));
    must('chmod', '2750', join(cwd, 'tree'));
    must('find', join(cwd, 'tree'), '-exec', 'touch', '-h', '-d', '@1000000000', '{}', '+');
    must('chown', '-R', '65534:65534', cwd);
    const other = (...args: string[]) => {
      const words = ['--reuid=65534', '--regid=65534', '--clear-groups', process.execPath, executable, ...args];
      return spawnSync('setpriv', words, { cwd, encoding: 'utf8' });
    };
    const plain = (...args: string[]) => other('image', ...args);
    const packed = plain('pack', 'tree/', 'x.img');
    expect(packed).toMatchObject({ status: 0, stderr: expect.stringContaining('times are kept in whole seconds') });
    expect(packed.stderr.trimEnd().split('\n').at(-1)).toBe('complete: 6 entries');
    expect(readdirSync(cwd).sort()).toEqual(['tree', 'x.img']);
    // Somebody else's loop device has a file that this user does not see.
    const hidden = scratch();
    must('truncate', '-s', '1M', join(hidden, 'file'));
    must('chmod', '700', hidden);
    const device = must('losetup', '--find', '--show', join(hidden, 'file')).trim();
    const made = other('hpcp', 'tree', '-di', 'z.img');
    must('losetup', '-d', device);
    expect(made).toMatchObject({ status: 221, stderr: expect.stringContaining('only root may') });
    expect(plain('pack', 'tree', 'y.img')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('without root one directory is packed'),
    });
    expect(plain('unpack', 'x.img', 'out')).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/only root may .*; without root its files can be had by debugfs -R "rdump/),
    });
    // What nobody has looked at is neither sound nor damaged.
    expect(plain('check', 'x.img')).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('not checked: only root may'),
      stderr: expect.stringContaining('skipped: 1 unchecked'),
    });
    expect(readdirSync(cwd).sort()).toEqual(['tree', 'x.img']);
    expect((await image(cwd, 'unpack', 'x.img', 'out')).code).toBe(0);
    const differs = must('rsync', '-aniHAX', '--checksum', '--delete', `${cwd}/tree/`, `${cwd}/out/`);
    expect(differs).toBe('');
  });

  it.each<[string, string[], number, string]>([
    ['another action', ['frob', 'd.img'], 2, 'frob is none of inspect, check, clone, pack, unpack'],
    ['a clone without a destination', ['clone', 'd.img'], 2, 'takes a source and a destination'],
    ['a clone onto itself', ['clone', 'd.img', './d.img'], 3, 'same medium'],
    ['what is not there', ['inspect', 'absent'], 23, 'bulkhaul: absent: stat: no such file or directory\n'],
    ['a clone of nothing', ['clone', 'absent', 'x.img'], 23, 'bulkhaul: absent: stat: no such file or directory\n'],
    ['nothing to unpack', ['unpack', 'absent', 'out'], 23, 'bulkhaul: absent: stat: no such file or directory\n'],
    ['a directory', ['check', 'tree'], 2, 'neither a file nor a block device'],
  ])('refuses %s', async (_, args, code, why) => {
    const cwd = scratch();
    disk(cwd);
    const ran = await image(cwd, ...args);
    expect(ran).toMatchObject({ code, stderr: expect.stringContaining(why) });
  });
});

it.skipIf(WITHOUT_DISKS !== undefined)(
  'what is too small for a table has none, and is not damaged',
  async () => {
    const cwd = scratch();
    for (const size of [0, 4095]) {
      writeFileSync(join(cwd, 'i.img'), Buffer.alloc(size));
      const looked = await image(cwd, 'inspect', 'i.img');
      expect([looked.code, looked.stdout]).toEqual([0, expect.not.stringContaining('DAMAGED')]);
      const { code, stderr } = await image(cwd, 'clone', 'i.img', 'o.img');
      expect([code, stderr]).toEqual([2, expect.stringContaining('i.img has no partitions')]);
    }
    expect(existsSync(join(cwd, 'o.img'))).toBe(false);
  },
  60_000,
);

it.skipIf(WITHOUT_DISKS !== undefined)(
  'of a run that died when it had given the name nothing stays beside it',
  async () => {
    const cwd = scratch();
    const twin = () => linkSync(join(cwd, 'i.img'), join(cwd, 'i.img.partial'));
    const images = () => readdirSync(cwd).filter((name) => name.startsWith('i.'));
    disk(cwd);
    expect((await image(cwd, 'clone', 'd.img', 'i.img')).code).toBe(0);
    twin();
    expect((await image(cwd, 'clone', '--overwrite', 'd.img', 'i.img')).code).toBe(0);
    expect(images()).toEqual(['i.img']);
    rmSync(join(cwd, 'i.img'));
    expect((await image(cwd, 'pack', 'tree', 'i.img')).code).toBe(0);
    twin();
    expect((await image(cwd, 'pack', 'tree', 'i.img')).code).toBe(0);
    expect(images()).toEqual(['i.img']);
  },
  60_000,
);

it('a device that goes while it is looked at is not there', () => {
  for (const code of ['ENODEV', 'ENXIO'])
    expect(unlessAbsent(Object.assign(new Error(code), { code }))).toBeUndefined();
  expect(() => unlessAbsent(Object.assign(new Error('EIO'), { code: 'EIO' }))).toThrow('EIO');
});

describe('what a text says of disks', () => {
  it.each<[string, string[]]>([
    ['UUID=ab-cd / ext4 defaults 0 1', ['uuids ab-cd']],
    ['# UUID=ab-cd / ext4', []],
    ['LABEL="my disk" /data xfs', ['labels my disk']],
    ['/dev/disk/by-label/my\\x20disk /data xfs', ['labels my disk']],
    ['/dev/disk/by-partuuid/12-34 none swap', ['partUuids 12-34']],
    ['/dev/sda1 / ext4', ['device /dev/sda1']],
    ['/dev/nvme0n1p2 /home ext4', ['device /dev/nvme0n1p2']],
    ['linux /vmlinuz root=PARTUUID=12345678-01 ro quiet', ['partUuids 12345678-01']],
    ['  search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt2 0b9c-11', ['uuids 0b9c-11']],
    ['root UUID=1,UUID=2 none luks', ['uuids 1', 'uuids 2']],
    ['search.fs_uuid 0b9c-11 root hd0,gpt2', ['uuids 0b9c-11']],
    ['tmpfs /tmp tmpfs defaults', []],
  ])('%s', (text, expected) => {
    expect(references(text).map(({ kind, value }) => `${kind} ${value}`)).toEqual(expected);
  });

  it('is rewritten where it is one of those, as a whole, in its case', () => {
    const renamed = new Map([
      ['abcd-1234', '9876-FEDC'],
      ['12345678-01', '87654321-01'],
    ]);
    expect(rewritten('UUID=ABCD-1234 x-abcd-1234 abcd-1234-5 abcd-1234', renamed)).toBe(
      'UUID=9876-FEDC x-abcd-1234 abcd-1234-5 9876-fedc',
    );
    expect(rewritten('root=PARTUUID=12345678-01 quiet', renamed)).toBe('root=PARTUUID=87654321-01 quiet');
  });

  it('is looked for where distributions and boards have it', async () => {
    const root = scratch();
    const files = [
      ...['etc/fstab', 'etc/default/grub', 'etc/initramfs-tools/conf.d/resume', 'boot/firmware/cmdline.txt'],
      ...['boot/cmdline.txt', 'cmdline.txt', 'current/cmdline.txt', 'boot/armbianEnv.txt', 'armbianEnv.txt'],
      ...['boot/extlinux/extlinux.conf', 'boot/grub/grub.cfg', 'loader/entries/a.conf', 'EFI/debian/grub.cfg'],
    ];
    for (const file of files) {
      mkdirSync(join(root, file, '..'), { recursive: true });
      writeFileSync(join(root, file), 'root=PARTUUID=12345678-02\n');
    }
    const told = await astrayIn(root, { uuids: [], labels: [], partUuids: [], partLabels: [] });
    const named = files.map((file) => `/${file} names PARTUUID=12345678-02, and nothing of the clone has it`);
    expect(told.sort()).toEqual(named.sort());
  });

  it('is held against what the clone has, in any case', () => {
    const known = { uuids: ['ABCD-1234'], labels: ['root'], partUuids: [], partLabels: ['x'] };
    expect(astray('/etc/fstab', 'UUID=abcd-1234 / ext4\nLABEL=home /home ext4\nPARTLABEL=x /x ext4\n', known)).toEqual([
      '/etc/fstab names LABEL=home, and nothing of the clone has it',
    ]);
  });
});
