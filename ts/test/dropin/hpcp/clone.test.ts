/** Clones of whole disks: what they have, what is refused before anything is written, and what a dead run leaves. */
import { execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  constants,
  copyFileSync,
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
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import {
  bytes,
  contents,
  digest,
  disk,
  dump,
  MEMORY,
  mounted,
  must,
  type Place,
  places,
  WITHOUT_DISKS,
  within,
} from '../../rig/disks.js';
import { executable, run } from '../../rig.js';

const hpcp = (cwd: string, ...args: string[]) => run(['hpcp', ...args], { cwd });
const told = ({ stdout, stderr }: { stdout: string; stderr: string }) => stdout + stderr;

const MIB = 2 ** 20;

/** Directories of the test that runs. */
let owned: string[] = [];
function own(parent = MEMORY): string {
  const directory = mkdtempSync(join(parent, 'bulkhaul-test-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  owned.push(directory);
  return directory;
}

/** Attaches a range of an image for as long as the test runs, or `use` does. */
function loop(path: string, place?: Place, ...more: string[]): string {
  const range = place ? ['-o', String(place.start), '--sizelimit', String(place.size)] : [];
  const device = must('losetup', '--find', '--show', ...range, ...more, path).trim();
  onTestFinished(() => void must('losetup', '-d', device));
  return device;
}

/** Files of many kinds. */
function fill(root: string): void {
  mkdirSync(join(root, 'a/b'), { recursive: true });
  for (let index = 0; index < 30; index += 1)
    writeFileSync(join(root, `a/b/f${index}`), Buffer.alloc(20_000 + index, index + 1));
  linkSync(join(root, 'a/b/f1'), join(root, 'hard'));
  symlinkSync('a', join(root, 'link'));
  must('truncate', '-s', '1M', join(root, 'sparse'));
  must('mkfifo', join(root, 'pipe'));
  must('mknod', join(root, 'device'), 'c', '1', '3');
  must('setfattr', '-n', 'user.x', '-v', 'y', join(root, 'a/b/f2'));
  must('chown', '3:4', join(root, 'a/b/f3'));
  must('chmod', '2750', join(root, 'a'));
  must('touch', '-d', '2001-02-03 04:05:06.5', join(root, 'a'));
}

const ext4 = (device: string) => {
  must('mkfs.ext4', '-q', '-L', 'root', '-b', '1024', '-m', '3', '-O', '^metadata_csum', '-N', '3000', device);
};
const filled = (path: string, index: number) => mounted(path, places(path)[index] as Place, 'rw', fill);

let disks: string;
let gpt: string;
let mbr: string;
beforeAll(() => {
  if (WITHOUT_DISKS !== undefined) return;
  disks = mkdtempSync(join(MEMORY, 'bulkhaul-test-'));
  gpt = join(disks, 'gpt.img');
  disk(
    gpt,
    '600M',
    [
      'label: gpt\nlabel-id: 11111111-2222-4333-8444-555555555555\nfirst-lba: 34\n',
      'start=34,size=2014,type=21686148-6449-6E6F-744E-656564454649,name="bios"\n',
      'size=4MiB,type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B,name="EFI é "\n',
      'size=4MiB,type=0657FD6D-A4AB-43C4-84E5-0933C84B4F4F\n',
      'size=64MiB,name=root,attrs=LegacyBIOSBootable\n',
      'size=300MiB,name=data\n',
      'size=120MiB\n',
    ].join(''),
    [
      (device) => writeFileSync(device, Buffer.alloc(50_000, 'core')),
      (device) => must('mkfs.fat', '-n', 'EFI', device),
      (device) => must('mkswap', '-L', 'swappy', device),
      ext4,
      (device) => must('mkfs.xfs', '-q', '-L', 'data', '-i', 'size=1024', '-m', 'rmapbt=1', device),
      (device) => must('mkfs.btrfs', '-q', '-L', 'subvolumes', '-n', '8192', device),
    ],
  );
  for (const index of [3, 4, 5]) filled(gpt, index);
  mbr = join(disks, 'mbr.img');
  disk(
    mbr,
    '64M',
    [
      'label: dos\nlabel-id: 0x12345678\nstart=63,size=32705,type=83,bootable\n',
      'start=32768,size=81920,type=5\nstart=34816,size=8192,type=82\nstart=45056,size=40960,type=83\n',
    ].join(''),
    [ext4, (device) => must('mkswap', device), ext4],
  );
  filled(mbr, 0);
  filled(mbr, 2);
});
afterAll(() => {
  if (WITHOUT_DISKS === undefined) rmSync(disks, { recursive: true });
});

/** What rsync would change to make the one file system like the other. */
const differences = (one: string, other: string, index: number, from = places(one), to = places(other)) =>
  mounted(one, from[index] as Place, 'ro,norecovery', (left) =>
    mounted(other, to[index] as Place, `ro,norecovery${index === 4 ? ',nouuid' : ''}`, (right) =>
      must('rsync', '-aniHAX', '--checksum', '--delete', '--exclude', 'lost+found', `${left}/`, `${right}/`),
    ),
  );

describe.skipIf(WITHOUT_DISKS !== undefined)('a clone', { timeout: 120_000 }, () => {
  beforeEach(() => {
    owned = [disks];
    onTestFinished(() => {
      const left = must('losetup', '--noheadings', '-O', 'BACK-FILE').split('\n');
      expect(left.filter((path) => owned.some((directory) => path.includes(directory)))).toEqual([]);
    });
  });

  it('of a disk has its table, its ids, its file systems as they were made, and its files', async () => {
    const cwd = own();
    const made = await hpcp(cwd, '-dd', gpt, '-di', 'x.img');
    expect(made).toMatchObject({ code: 0, stdout: expect.stringContaining('partition 4 "root": files, ext4 "root"') });
    expect(readdirSync(cwd)).toEqual(['x.img']);
    const clone = join(cwd, 'x.img');
    expect(dump(clone)).toEqual(dump(gpt));
    expect(contents(clone)).toEqual(contents(gpt));
    expect(bytes(clone, { start: 0, size: 440 })).toEqual(Buffer.alloc(440, 'boot'));
    expect(bytes(clone, places(clone)[0] as Place).equals(bytes(gpt, places(gpt)[0] as Place))).toBe(true);
    expect(bytes(clone, places(clone)[1] as Place).equals(bytes(gpt, places(gpt)[1] as Place))).toBe(true);
    const facts = (path: string, index: number, program: string, ...args: string[]) =>
      within(path, places(path)[index] as Place, (device) =>
        must(program, ...args, device)
          .replaceAll(device, '')
          .split('\n')
          .filter(
            (line) =>
              !/created|time|checked|Lifetime|Free|Hash Seed|Journal|Mount|Last|Overhead|state|Checksum/i.test(line),
          ),
      );
    expect(facts(clone, 3, 'dumpe2fs', '-h')).toEqual(facts(gpt, 3, 'dumpe2fs', '-h'));
    expect(facts(clone, 4, 'xfs_db', '-r', '-c', 'info')).toEqual(facts(gpt, 4, 'xfs_db', '-r', '-c', 'info'));
    const node = (path: string) =>
      facts(path, 5, 'btrfs', 'inspect-internal', 'dump-super').filter((line) =>
        /^(nodesize|csum_type|sectorsize)/.test(line),
      );
    expect(node(clone)).toEqual(node(gpt));
    for (const index of [3, 4]) expect(differences(gpt, clone, index)).toBe('');
    facts(clone, 3, 'e2fsck', '-fn');
    facts(clone, 4, 'xfs_repair', '-n');
    facts(clone, 5, 'btrfs', 'check', '--readonly');
  });

  it('with sizes has them, the greatest for the largest, and keeps the places before', async () => {
    const cwd = own();
    const small = join(cwd, 'small.img');
    disk(small, '150M', 'label: gpt\nsize=2MiB\nsize=100MiB\nsize=24MiB\n', [() => undefined, ext4, ext4]);
    filled(small, 1);
    filled(small, 2);
    const plan = await hpcp(cwd, '-dd', 'small.img', '-di', 'x.img', '-ddr', '16Mi', '-ddr', '32Mi', '--dry-run');
    expect(plan).toMatchObject({ code: 0, stdout: expect.stringContaining('ext4 "root", 100 MiB to 32.0 MiB') });
    expect(readdirSync(cwd)).toEqual(['small.img']);
    expect((await hpcp(cwd, '-dd', 'small.img', '-di', 'x.img', '-ddr', '16Mi', '-ddr', '32Mi')).code).toBe(0);
    const clone = join(cwd, 'x.img');
    const [first, second, third] = places(clone);
    expect([first, second, third]).toEqual([
      { start: MIB, size: 2 * MIB },
      { start: 3 * MIB, size: 32 * MIB },
      { start: 35 * MIB, size: 16 * MIB },
    ]);
    for (const index of [1, 2]) expect(differences(small, clone, index)).toBe('');
    expect(contents(clone)).toEqual(contents(small));
  });

  it('of an MBR disk is one, with its active flag, its logical partitions and what lies before the first', async () => {
    const cwd = own(tmpdir());
    expect(await hpcp(cwd, '-dd', '-si', mbr, '-di', 'x.img')).toMatchObject({ code: 0 });
    const clone = join(cwd, 'x.img');
    expect(dump(clone)).toEqual(dump(mbr));
    expect(contents(clone)).toEqual(contents(mbr));
    const gap = { start: 512, size: 62 * 512 };
    expect(bytes(clone, gap).equals(bytes(mbr, gap))).toBe(true);
    expect(bytes(clone, { start: 0, size: 440 })).toEqual(Buffer.alloc(440, 'boot'));
    for (const index of [0, 2]) expect(differences(mbr, clone, index)).toBe('');
  });

  it('leaves out what is excluded, from the root of each file system', async () => {
    const cwd = own();
    expect((await hpcp(cwd, '-dd', mbr, '-di', 'x.img', '-e', '/a/b/*', '-e', 'pipe', '-nfp')).code).toBe(0);
    const found = mounted(join(cwd, 'x.img'), places(join(cwd, 'x.img'))[0] as Place, 'ro', (root) => [
      readdirSync(root).sort(),
      readdirSync(join(root, 'a/b')),
    ]);
    expect(found).toEqual([['a', 'device', 'hard', 'link', 'lost+found', 'sparse'], []]);
  });

  it('goes onto a disk that holds something with a yes only, and has nothing of what was there', async () => {
    const cwd = own();
    const path = join(cwd, 'target');
    disk(path, '80M', 'label: gpt\nsize=60MiB\n', [(device) => must('mkfs.ext4', '-q', '-L', 'old', device)]);
    const device = loop(path);
    const source = loop(mbr);
    const before = digest(path);
    const asked = await run(['hpcp', '-dd', mbr, '-d', device], { cwd, input: 'n\n' });
    expect(asked).toMatchObject({ code: 147, stderr: expect.stringContaining('holds a partition table (gpt)') });
    expect((await run(['hpcp', '-dd', mbr, '-d', device], { cwd, input: '' })).code).toBe(147);
    expect(digest(path)).toBe(before);
    expect(await hpcp(cwd, '-dd', source, device, '--overwrite')).toMatchObject({
      code: 0,
      stderr: expect.stringContaining('both disks have the same ids now'),
    });
    must('sync', device);
    expect(dump(path)).toEqual(dump(mbr));
    expect(contents(path)).toEqual(contents(mbr));
    expect(must('blkid', '-p', '-o', 'value', '-s', 'PTTYPE', path)).toBe('dos\n');
    expect(differences(mbr, path, 0)).toBe('');
    // An image that is there is replaced when the new one is whole.
    writeFileSync(join(cwd, 'x.img'), 'precious');
    expect((await run(['hpcp', '-dd', mbr, '-di', 'x.img'], { cwd, input: 'no\n' })).code).toBe(147);
    expect(digest(join(cwd, 'x.img'))).toBe(must('sh', '-c', 'printf precious | sha256sum').split(' ')[0]);
    expect((await run(['hpcp', '-dd', mbr, '-di', 'x.img'], { cwd, input: 'y\n' })).code).toBe(0);
    expect(dump(join(cwd, 'x.img'))).toEqual(dump(mbr));
  });

  it('onto a disk whose XFS and btrfs were in use has nothing of what they held', async () => {
    const cwd = own();
    const path = join(cwd, 'used');
    const table = places(gpt).map(({ start, size }) => `start=${start / 512},size=${size / 512}\n`);
    const skip = () => undefined;
    disk(path, '600M', `label: gpt\nfirst-lba: 34\n${table.join('')}`, [
      ...[skip, skip, skip, skip],
      (device) => must('mkfs.xfs', '-q', device),
      (device) => must('mkfs.btrfs', '-q', device),
    ]);
    const names = (of: string, index: number) =>
      mounted(of, places(of)[index] as Place, 'ro', (root) => readdirSync(root).sort());
    for (const index of [4, 5]) {
      mounted(path, places(path)[index] as Place, 'rw', (root) => writeFileSync(join(root, 'old'), 'old'));
    }
    const device = loop(path);
    const made = await hpcp(cwd, '-dd', gpt, '-d', device, '--overwrite');
    expect(made.code, told(made)).toBe(0);
    must('sync', device);
    expect(contents(path)).toEqual(contents(gpt));
    for (const index of [4, 5]) expect(names(path, index)).toEqual(names(gpt, index));
  });

  it('of a disk with sectors of 4096 bytes has them too', async () => {
    const cwd = own();
    const path = join(cwd, 'large');
    must('truncate', '-s', '64M', path);
    const device = loop(path, undefined, '-b', '4096');
    execFileSync('sfdisk', ['-q', device], { input: 'label: gpt\nsize=40MiB\n', stdio: ['pipe', 'ignore', 'ignore'] });
    within(path, { start: MIB, size: 40 * MIB }, (part) => must('mkfs.ext4', '-q', '-b', '4096', part));
    mounted(path, { start: MIB, size: 40 * MIB }, 'rw', fill);
    expect(await hpcp(cwd, '-dd', device, '-di', 'x.img')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('sectors of 4096 bytes'),
    });
    const clone = loop(join(cwd, 'x.img'), undefined, '-b', '4096');
    expect(dump(clone)).toEqual(dump(device));
    const place = [{ start: MIB, size: 40 * MIB }];
    expect(differences(path, join(cwd, 'x.img'), 0, place, place)).toBe('');
    // And an image with them is a source.
    expect((await hpcp(cwd, '-dd', 'x.img', '-di', 'y.img')).code).toBe(0);
    expect(differences(path, join(cwd, 'y.img'), 0, place, place)).toBe('');
  });

  it('takes what is mounted from where it is mounted, and what other mounts hide', async () => {
    const cwd = own();
    const path = join(cwd, 'live.img');
    copyFileSync(mbr, path, constants.COPYFILE_FICLONE);
    mounted(path, places(path)[0] as Place, 'rw', (root) => {
      writeFileSync(join(root, 'unwritten'), 'in memory yet');
      must('mount', '-t', 'tmpfs', 'none', join(root, 'a'));
      try {
        execFileSync(process.execPath, [executable, 'hpcp', '-dd', 'live.img', '-di', 'x.img'], { cwd, stdio: 'pipe' });
      } finally {
        must('umount', join(root, 'a'));
      }
    });
    expect(differences(path, join(cwd, 'x.img'), 0)).toBe('');
  });

  it('takes a btrfs that is mounted from a snapshot, and leaves none, nor what a dead run has left', async () => {
    const cwd = own();
    const path = join(cwd, 'live');
    disk(path, '130M', 'label: gpt\nsize=120MiB\n', [(device) => must('mkfs.btrfs', '-q', device)]);
    const place = places(path)[0] as Place;
    // Somebody writes all the time.
    const script = `
      while :; do echo more >> "$1/grows"; sleep 0.01; done & writer=$!
      until [ -s "$1/grows" ]; do sleep 0.01; done
      cd "$2" && "$3" "$4" hpcp -dd live -di x.img; code=$?
      kill $writer; wait $writer
      exit $code`;
    mounted(path, place, 'rw', (root) => {
      mkdirSync(join(root, 'd'));
      writeFileSync(join(root, 'grows'), 'first\n');
      must('btrfs', '-q', 'subvolume', 'snapshot', '-r', root, join(root, '.bulkhaul-snapshot-dead'));
      const { mtimeNs } = statSync(root, { bigint: true });
      must('sh', '-c', script, 'sh', root, cwd, process.execPath, executable);
      expect(readdirSync(root).sort()).toEqual(['d', 'grows']);
      expect(must('btrfs', 'subvolume', 'list', root)).toBe('');
      expect(statSync(root, { bigint: true }).mtimeNs).toBe(mtimeNs);
      mounted(join(cwd, 'x.img'), places(join(cwd, 'x.img'))[0] as Place, 'ro', (clone) => {
        expect(readdirSync(clone).sort()).toEqual(['d', 'grows']);
        expect(readFileSync(join(root, 'grows'), 'utf8').startsWith(readFileSync(join(clone, 'grows'), 'utf8'))).toBe(
          true,
        );
      });
    });
  });

  it('of a logical volume that somebody uses is one of its snapshot', () => {
    const cwd = own();
    const path = join(cwd, 'volume');
    disk(path, '24M', 'label: dos\nsize=16MiB\n', [(device) => must('mkfs.ext4', '-q', device)]);
    mounted(path, places(path)[0] as Place, 'rw', (root) => writeFileSync(join(root, 'f'), 'as it was'));
    const device = loop(path);
    // What LVM and the kernel would say, in a mount namespace of its own: kernels without device mapper have no volumes. The
    // volume is overwritten when its snapshot is there.
    const lvm = `#!/bin/sh
      echo "\${0##*/} $*" >> '${cwd}/calls'
      case "\${0##*/} $*" in
        *lv_device_open*) echo '  group|volume|open|' ;;
        *origin=volume*) echo '  bulkhaul-snapshot-dead'; echo '  theirs' ;;
        *lv_path*) cat '${cwd}/path' ;;
        lvcreate*)
          cp '${path}' '${cwd}/still'
          losetup --find --show '${cwd}/still' > '${cwd}/path'
          name=$(basename "$(cat '${cwd}/path')")
          ln -s /sys/block/$name /sys/dev/block/$(cat /sys/block/$name/dev)
          dd if=/dev/urandom of='${path}' bs=1M seek=1 count=16 conv=notrunc status=none ;;
        lvremove*dead) ;;
        lvremove*) losetup -d "$(cat '${cwd}/path')" ;;
      esac`;
    writeFileSync(join(cwd, 'lvm'), lvm, { mode: 0o755 });
    mkdirSync(join(cwd, 'sbin'));
    const inside = `
      set -e
      cd "$1"; loop=\${2##*/}; number=$(cat /sys/block/$loop/dev)
      mount -t tmpfs none /sys/dev/block
      for each in /sys/block/*; do ln -s $each /sys/dev/block/$(cat $each/dev); done
      rm /sys/dev/block/$number
      mkdir -p /sys/dev/block/$number/dm
      ln -s /sys/block/$loop/* /sys/dev/block/$number/
      echo LVM-id > /sys/dev/block/$number/dm/uuid
      mount --bind /usr/sbin sbin
      mount -t tmpfs none /usr/sbin
      ln -s "$1"/sbin/* /usr/sbin
      for each in lvs lvcreate lvremove; do rm -f /usr/sbin/$each; cp lvm /usr/sbin/$each; done
      exec "$3" "$4" hpcp -dd "$2" -di x.img`;
    const args = ['--mount', 'sh', '-c', inside, 'sh', cwd, device, process.execPath, executable];
    expect(must('unshare', ...args)).toContain(`${device} is in use: what is cloned is a snapshot of it`);
    expect(differences(join(cwd, 'still'), join(cwd, 'x.img'), 0)).toBe('');
    const [asked, swept, left, made, found, removed] = readFileSync(join(cwd, 'calls'), 'utf8').split('\n');
    expect(asked).toMatch(/^lvs .* \/dev\/loop\d+$/);
    expect(swept).toMatch(/^lvs .* --select origin=volume group$/);
    expect(left).toMatch(/^lvremove .* group\/bulkhaul-snapshot-dead$/);
    const [, name] = /^lvcreate .* --extents 20%ORIGIN --name (\S+) group\/volume$/.exec(made ?? '') ?? [];
    expect(found).toMatch(/^lvs .* lv_path group\//);
    expect(removed).toBe(`lvremove --yes --quiet group/${name}`);
  });

  it('of a btrfs with subvolumes has what it uses, and nothing of what it does not', async () => {
    const cwd = own();
    const path = join(cwd, 'sub');
    disk(path, '260M', 'label: gpt\nsize=256MiB\n', [(device) => must('mkfs.btrfs', '-q', '-m', 'single', device)]);
    const [place = expect.fail()] = places(path);
    mounted(path, place, 'rw', (root) => {
      must('btrfs', '-q', 'subvolume', 'create', join(root, 'one'));
      writeFileSync(join(root, 'one/f'), Buffer.alloc(3 * MIB, 'used'));
      must('btrfs', '-q', 'subvolume', 'snapshot', '-r', join(root, 'one'), join(root, 'two'));
    });
    // Behind all that it has given out to itself.
    write(path, place.start + place.size - MIB, MIB);
    const plan = await run(['image', 'clone', '-n', 'sub', 'x.img'], { cwd });
    expect(plan).toMatchObject({ code: 0, stdout: expect.stringMatching(/blocks, btrfs, 256 MiB, [\d.]+ MiB used/) });
    const made = await hpcp(cwd, '-dd', 'sub', '-di', 'x.img');
    expect(made.code, told(made)).toBe(0);
    const clone = join(cwd, 'x.img');
    expect(contents(clone)).toEqual(contents(path));
    expect(bytes(clone, { start: place.start + place.size - MIB, size: MIB })).toEqual(Buffer.alloc(MIB));
    within(clone, place, (device) => must('btrfs', 'check', '--readonly', device));
    const listed = (of: string) =>
      mounted(of, place, 'ro', (root) => [
        must('btrfs', 'subvolume', 'list', '-u', root),
        must('sha256sum', join(root, 'two/f')).split(' ')[0],
      ]);
    const [subvolumes, digests] = [listed(clone), listed(path)];
    expect(subvolumes).toEqual(digests);
  });

  it.each(['ext4', 'xfs', 'btrfs'])('of %s has the flags of its files and directories', async (type) => {
    const cwd = own();
    const path = join(cwd, 'flags');
    disk(path, '310M', 'label: gpt\nsize=304MiB\n', [(device) => must(`mkfs.${type}`, '-q', device)]);
    const [place = expect.fail()] = places(path);
    const flags = (root: string) => must('lsattr', '-aR', root).replaceAll(root, '').split('\n').sort();
    mounted(path, place, 'rw', (root) => {
      mkdirSync(join(root, 'd/deeper'), { recursive: true });
      for (const name of ['d/f', 'd/deeper/plain', 'd/é\nx']) writeFileSync(join(root, name), name);
      must('chattr', '+i', join(root, 'd/f'));
      must('chattr', '+d', join(root, 'd/é\nx'));
      must('chattr', '+a', join(root, 'd'));
    });
    const made = await hpcp(cwd, '-dd', 'flags', '-di', 'x.img');
    expect(made.code, told(made)).toBe(0);
    const clone = join(cwd, 'x.img');
    const [had, has] = [path, clone].map((of) => mounted(of, place, 'ro', flags));
    expect(has).toEqual(had);
    for (const [flag, name] of [
      ['i', '/d/f'],
      ['d', '/d/é'],
      ['a', '/d'],
    ] as const) {
      expect(had?.some((line) => line.split(' ')[0]?.includes(flag) && line.endsWith(` ${name}`))).toBe(true);
    }
  });

  it('of file systems whose bytes are copied has what they use, and nothing of what they do not', async () => {
    const cwd = own();
    const path = join(cwd, 'used');
    const noise = Buffer.alloc(40 * MIB, 'noise');
    const content = join(cwd, 'content');
    writeFileSync(content, Buffer.alloc(MIB / 2, 'used'));
    disk(path, '128M', 'label: gpt\nsize=40MiB\nsize=20MiB\nsize=40MiB\n', [
      (device) => {
        writeFileSync(device, noise);
        must('mkntfs', '-q', '-F', '-Q', device);
        must('ntfscp', '-q', device, content, 'f');
      },
      (device) => {
        writeFileSync(device, noise.subarray(0, 20 * MIB));
        must('mkfs.fat', '-F', '16', '-s', '4', '-f', '2', device);
        // In use by the second table only.
        const sector = bytes(device, { start: 0, size: 512 });
        const table = (sector.readUInt16LE(14) + sector.readUInt16LE(22)) * 512;
        write(device, table + 9 * 2, 2);
      },
      (device) => {
        // Larger than any page: no kernel mounts it.
        writeFileSync(device, noise);
        must('mke2fs', '-q', '-t', 'ext4', '-F', '-b', '65536', device);
        must('debugfs', '-w', '-R', `write ${content} f`, device);
      },
    ]);
    const [ntfs = expect.fail(), fat = expect.fail(), ext = expect.fail()] = places(path);
    const plan = await run(['image', 'clone', '-n', '--json', 'used', 'x.img'], { cwd });
    const { partitions } = JSON.parse(plan.stdout.split('\n')[0] ?? '');
    expect(partitions.map(({ method, why }: Record<string, string>) => [method, why])).toEqual([
      ['blocks', 'ntfs is copied as it is, without what it does not use'],
      ['blocks', 'FAT is copied as it is, without what it does not use'],
      ['blocks', expect.stringMatching(/^it can't be mounted \(.*\), and is copied as it is, without what/)],
    ]);
    const made = await hpcp(cwd, '-dd', 'used', '-di', 'x.img');
    expect(made.code, told(made)).toBe(0);
    const clone = join(cwd, 'x.img');
    expect(contents(clone)).toEqual(contents(path));
    within(clone, ntfs, (device) => {
      must('ntfsresize', '--info', '--no-progress-bar', device);
      expect(execFileSync('ntfscat', [device, 'f']).equals(readFileSync(content))).toBe(true);
    });
    within(clone, fat, (device) => {
      const area = (of: string, start: number) => bytes(of, { start, size: 2048 });
      const sector = bytes(device, { start: 0, size: 512 });
      const data = (sector.readUInt16LE(14) + 2 * sector.readUInt16LE(22)) * 512 + sector.readUInt16LE(17) * 32;
      const [used, free] = [data + (9 - 2) * 2048, data + (10 - 2) * 2048];
      expect(area(device, used).equals(area(path, fat.start + used))).toBe(true);
      expect(area(device, free)).toEqual(Buffer.alloc(2048));
    });
    within(clone, ext, (device) => {
      must('e2fsck', '-fn', device);
      const got = join(cwd, 'got');
      must('debugfs', '-R', `dump f ${got}`, device);
      expect(digest(got)).toBe(digest(content));
    });
    // Of 100 MiB of noise.
    expect(statSync(clone).blocks * 512).toBeLessThan(20 * MIB);
  });

  it.each<[string, (path: string, device: string) => void]>([
    ['sleeps', (path, device) => void must('ntfscp', '-q', device, path, 'hiberfil.sys')],
    [
      'is to be looked at',
      (_, device) => {
        const boot = bytes(device, { start: 0, size: 512 });
        const record = Number(boot.readBigUInt64LE(48)) * boot.readUInt16LE(11) * boot.readUInt8(13) + 3 * 1024;
        const volume = bytes(device, { start: record, size: 1024 });
        const at = volume.indexOf(Buffer.from([0x70, 0, 0, 0]));
        volume.writeUInt16LE(1, at + volume.readUInt16LE(at + 20) + 10);
        writeFileSync(join(disks, 'record'), volume);
        must('dd', `if=${join(disks, 'record')}`, `of=${device}`, 'bs=1024', `seek=${record / 1024}`, 'conv=notrunc');
      },
    ],
  ])('of an NTFS that %s has all its bytes', async (_, change) => {
    const cwd = own();
    const path = join(cwd, 'windows');
    writeFileSync(join(cwd, 'sleep'), Buffer.alloc(8192, 'hibr'));
    disk(path, '16M', 'label: gpt\nsize=8MiB\n', [
      (device) => {
        must('mkntfs', '-q', '-F', '-Q', device);
        change(join(cwd, 'sleep'), device);
      },
    ]);
    const made = await hpcp(cwd, '-dd', 'windows', '-di', 'x.img');
    expect([made.code, told(made)]).toEqual([0, expect.stringMatching(/partition 1: raw, ntfs, .*as it is$/m)]);
    for (const place of places(path)) expect(bytes(join(cwd, 'x.img'), place).equals(bytes(path, place))).toBe(true);
  });

  it('of an ext4 whose journal was not replayed has all its bytes, and is refused where it is to be smaller', async () => {
    const cwd = own();
    const path = join(cwd, 'dirty');
    disk(path, '32M', 'label: gpt\nsize=24MiB\n', [(device) => must('mkfs.ext4', '-q', device)]);
    const [place = expect.fail()] = places(path);
    mounted(path, place, 'rw', (root) => {
      writeFileSync(join(root, 'f'), 'f');
      must('sync', '-f', root);
      must('cp', '--sparse=always', path, join(cwd, 'torn'));
    });
    const smaller = await hpcp(cwd, '-dd', 'torn', '-di', 'x.img', '-ddr', '12Mi');
    expect([smaller.code, told(smaller)]).toEqual([223, expect.stringContaining("can't be made smaller")]);
    expect(readdirSync(cwd).sort()).toEqual(['dirty', 'torn']);
    const made = await hpcp(cwd, '-dd', 'torn', '-di', 'x.img');
    expect([made.code, told(made)]).toEqual([0, expect.stringContaining("partition 1: raw, ext4, 24.0 MiB: it can't")]);
    expect(bytes(join(cwd, 'x.img'), place).equals(bytes(join(cwd, 'torn'), place))).toBe(true);
  });

  it('that dies has no name, and nothing of the identity; the next run goes on with what is proved', async () => {
    const cwd = own();
    const args = [executable, 'hpcp', '-dd', mbr, '-di', 'x.img', '--bwlimit', '600'];
    const child = spawn(process.execPath, args, { cwd, stdio: 'ignore' });
    const ended = new Promise((resolve) => child.on('close', resolve));
    onTestFinished(() => void child.kill('SIGKILL'));
    const partial = join(cwd, 'x.img.partial');
    // One partition is proved: the table has its type.
    while (!existsSync(partial) || bytes(partial, { start: 446 + 4, size: 1 })[0] !== 0x83) {
      if (child.exitCode !== null) throw new Error('it ended');
      await new Promise((resolve) => setImmediate(resolve));
    }
    child.kill('SIGKILL');
    await ended;
    expect(readdirSync(cwd)).toEqual(['x.img.partial']);
    expect(dump(partial).join()).not.toContain('0x12345678');
    expect(places(partial)).toHaveLength(1);
    const ids = contents(mbr).flatMap((lines) => lines.filter((line) => line.startsWith('UUID=')));
    expect(
      contents(partial)
        .flat()
        .filter((line) => ids.includes(line)),
    ).toEqual([]);
    const attached = () => must('losetup', '--noheadings', '-O', 'BACK-FILE').includes(partial);
    while (attached()) await new Promise((resolve) => setImmediate(resolve));
    const again = await hpcp(cwd, '-dd', mbr, '-di', 'x.img');
    expect(again).toMatchObject({ code: 0, stderr: expect.stringContaining('was proved by an earlier run') });
    expect(readdirSync(cwd)).toEqual(['x.img']);
    expect(dump(join(cwd, 'x.img'))).toEqual(dump(mbr));
    for (const index of [0, 2]) expect(differences(mbr, join(cwd, 'x.img'), index)).toBe('');
  });

  it.each([
    ['makes the second file system', 'mke2fs', 2],
    ['proves the first', 'e2fsck', 1],
    ['makes swap', 'mkswap', 1],
    ['has given one its identity', 'tune2fs', 2],
  ] as const)('that dies when it %s has no name and no id, and the next run completes it', async (_, program, call) => {
    const cwd = own();
    const calls = join(cwd, 'calls');
    mkdirSync(calls);
    const real = must('sh', '-c', `readlink -f $(command -v ${program})`).trim();
    must('cp', real, join(calls, 'real'));
    // In a namespace of its own the program is one that ends whoever calls it.
    const killer = join(calls, 'killer');
    writeFileSync(
      killer,
      `#!/bin/sh\necho >> ${calls}/log\n[ $(wc -l < ${calls}/log) -ne ${call} ] || kill -9 $PPID\nexec ${calls}/real "$@"\n`,
      { mode: 0o755 },
    );
    const inside = `mount --bind ${killer} ${real} && exec "$@"`;
    const command = [process.execPath, executable, 'hpcp', '-dd', mbr, '-di', 'x.img'];
    const child = spawn('unshare', ['--mount', 'sh', '-c', inside, 'sh', ...command], { cwd, stdio: 'ignore' });
    const signal = await new Promise((resolve) => child.once('close', (__, by) => resolve(by)));
    expect([signal, readdirSync(cwd).sort()]).toEqual(['SIGKILL', ['calls', 'x.img.partial']]);
    const partial = join(cwd, 'x.img.partial');
    expect(dump(partial).join()).not.toContain('0x12345678');
    const attached = () => must('losetup', '--noheadings', '-O', 'BACK-FILE').includes(partial);
    while (attached()) await new Promise((resolve) => setImmediate(resolve));
    const again = await hpcp(cwd, '-dd', mbr, '-di', 'x.img');
    expect(again.code, told(again)).toBe(0);
    expect(readdirSync(cwd).sort()).toEqual(['calls', 'x.img']);
    expect(dump(join(cwd, 'x.img'))).toEqual(dump(mbr));
    expect(contents(join(cwd, 'x.img'))).toEqual(contents(mbr));
    for (const index of [0, 2]) expect(differences(mbr, join(cwd, 'x.img'), index)).toBe('');
  });

  it('of LUKS is told before, and is of all its bytes', async () => {
    const cwd = own();
    const path = join(cwd, 'locked');
    // A header as cryptsetup writes it, of nothing.
    const header = Buffer.alloc(MIB, 'locked');
    header.write('LUKS\xba\xbe\0\x01', 0, 'latin1');
    header.write('01234567-89ab-4def-8123-456789abcdef\0', 168);
    disk(path, '4M', 'label: gpt\nsize=1MiB\n', [(device) => writeFileSync(device, header)]);
    const made = await hpcp(cwd, '-dd', 'locked', '-di', 'x.img');
    expect({ code: made.code, told: told(made) }).toEqual({
      code: 0,
      told: expect.stringContaining('1: raw, crypto_LUKS, 1.00 MiB: it is encrypted (LUKS)'),
    });
    for (const place of places(path)) expect(bytes(join(cwd, 'x.img'), place).equals(header)).toBe(true);
  });

  it('that is interrupted says so, and leaves nothing attached', async () => {
    const cwd = own();
    const args = [executable, 'hpcp', '-dd', mbr, '-di', 'x.img', '--bwlimit', '100'];
    const child = spawn(process.execPath, args, { cwd, stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.on('data', (part: Buffer) => {
      said += part.toString();
    });
    const ended = new Promise((resolve) => child.on('close', resolve));
    onTestFinished(() => void child.kill('SIGKILL'));
    // It writes to the first partition.
    const partial = join(cwd, 'x.img.partial');
    while (!existsSync(partial) || statSync(partial).blocks * 512 < MIB) {
      if (child.exitCode !== null) throw new Error('it ended');
      await new Promise((resolve) => setImmediate(resolve));
    }
    child.kill('SIGINT');
    expect([await ended, readdirSync(cwd)]).toEqual([130, ['x.img.partial']]);
    expect(said).toContain('the same command goes on with it');
    expect(places(partial)).toEqual([]);
  });

  it('of a disk that can not be read is none', async () => {
    const cwd = own();
    const path = join(cwd, 'torn');
    disk(path, '64M', 'label: dos\nsize=8MiB\nsize=40MiB\n', []);
    const device = loop(path);
    expect((await hpcp(cwd, '-dd', device, '-di', 'x.img', '--dry-run')).code).toBe(0);
    // What comes after is an error of the medium.
    truncateSync(path, 20 * MIB);
    // Nothing of it may be remembered.
    must('blockdev', '--flushbufs', device);
    const ran = await hpcp(cwd, '-dd', device, '-di', 'x.img');
    const { code } = ran;
    expect({ code, told: told(ran) }).toEqual({ code: 182, told: expect.stringContaining('Input/output error') });
    expect(readdirSync(cwd)).toEqual(['torn']);
  });

  it('without room is none, and says so', async () => {
    const cwd = own();
    const path = join(cwd, 'noise');
    disk(path, '24M', 'label: gpt\nsize=16MiB\n', [
      (device) => must('dd', 'if=/dev/urandom', `of=${device}`, 'bs=1M', 'count=16'),
    ]);
    mkdirSync(join(cwd, 'small'));
    must('mount', '-t', 'tmpfs', '-o', 'size=4m', 'none', join(cwd, 'small'));
    try {
      const ran = await hpcp(cwd, '-dd', 'noise', '-di', 'small/x.img');
      expect({ code: ran.code, told: told(ran) }).toEqual({
        code: 181,
        told: expect.stringContaining('no space left on device'),
      });
      expect(existsSync(join(cwd, 'small/x.img'))).toBe(false);
    } finally {
      must('umount', join(cwd, 'small'));
    }
  });

  describe('is refused before anything is written', () => {
    /** Refused, and both sides are as they were. */
    async function refused(cwd: string, args: string[], code: number, why: string | RegExp, ...files: string[]) {
      const before = [readdirSync(cwd), files.map(digest)];
      const ran = await hpcp(cwd, '-dd', ...args, '--overwrite');
      expect({ code: ran.code, told: told(ran) }).toEqual({ code, told: expect.stringMatching(why) });
      expect([readdirSync(cwd), files.map(digest)]).toEqual(before);
    }

    it('where the destination is the source, whatever leads there', async () => {
      const cwd = own();
      const path = join(cwd, 'd.img');
      copyFileSync(mbr, path, constants.COPYFILE_FICLONE);
      symlinkSync('d.img', join(cwd, 'soft'));
      linkSync(path, join(cwd, 'hard'));
      const [first, second] = [loop(path), loop(path)];
      for (const into of ['./d.img', 'soft', 'hard', first]) {
        await refused(cwd, ['d.img', '-d', into], 241, 'same medium', path);
      }
      await refused(cwd, [first, '-d', second], 241, 'same medium', path);
    });

    it('where the destination is mounted, here or in another namespace, or is swap', async () => {
      const cwd = own();
      const path = join(cwd, 'target');
      disk(path, '80M', 'label: dos\nsize=60MiB\n', [ext4]);
      const device = loop(path, undefined, '-P');
      const part = loop(path, places(path)[0]);
      const directory = own();
      must('mount', '-o', 'ro,norecovery', part, directory);
      try {
        await refused(cwd, [mbr, '-d', 'target'], 251, 'it is attached to', path);
        await refused(cwd, [mbr, '-d', part], 251, 'in use', path);
      } finally {
        must('umount', directory);
      }
      const elsewhere = spawn('unshare', [
        '-m',
        'sh',
        '-c',
        `mount -o ro,norecovery ${part} ${directory} && echo && cat`,
      ]);
      await new Promise((resolve) => elsewhere.stdout.once('data', resolve));
      await refused(cwd, [mbr, '-d', part], 251, 'in use', path);
      const gone = new Promise((resolve) => elsewhere.once('close', resolve));
      elsewhere.stdin.end();
      await gone;
      must('mkswap', part);
      must('swapon', part);
      // The kernel may put pages there meanwhile: what says that it is swap is nobody else's.
      const header = () => must('blkid', '-p', '-o', 'export', part);
      const before = header();
      try {
        await refused(cwd, [mbr, '-d', part], 251, 'in use');
        expect(header()).toBe(before);
      } finally {
        must('swapoff', part);
      }
      expect(device).not.toBe(part);
    });

    it('where it does not fit', async () => {
      const cwd = own();
      const path = join(cwd, 'target');
      must('truncate', '-s', '32M', path);
      await refused(cwd, [mbr, '-d', loop(path)], 223, 'is too small', path);
      await refused(cwd, [mbr, '-di', 'x.img', '-dis', '52Mi'], 223, 'is too small');
      // The data of a file system, and what is copied whole.
      await refused(cwd, [gpt, '-di', 'x.img', '-ddr', '300Mi', '-ddr', '120Mi', '-ddr', '4Mi'], 223, 'does not fit');
      // An MBR counts 2^32 sectors.
      await refused(cwd, [mbr, '-di', 'x.img', '-ddr', '3Ti'], 182, 'its MBR counts no further');
      const raw = join(cwd, 'raw');
      disk(raw, '16M', 'label: gpt\nsize=8MiB\n', [(device) => writeFileSync(device, 'raw')]);
      await refused(cwd, ['raw', '-di', 'x.img', '-ddr', '4Mi'], 223, "can't be made smaller", raw);
    });

    it('where sectors have another size', async () => {
      const cwd = own();
      const path = join(cwd, 'target');
      must('truncate', '-s', '128M', path);
      await refused(cwd, [mbr, '-d', loop(path, undefined, '-b', '4096')], 221, 'sectors of 4096 bytes', path);
    });

    it.each<[string, (path: string) => void, string]>([
      ['has another beginning', (path) => write(path, 512 + 60, 1), 'its GPT has a header with another checksum'],
      ['has other entries', (path) => write(path, 1024 + 40, 1), 'its GPT has entries with another checksum'],
      ['has lost its copy', (path) => write(path, 16 * MIB - 512, 512), 'the copy of its GPT is missing'],
      ['is larger than the disk', (path) => truncateSync(path, 4 * MIB), 'is damaged'],
      ['is gone', (path) => write(path, 512, 4096 - 512), 'its GPT is missing|no partitions'],
    ])('where the table %s', async (_, damage, why) => {
      const cwd = own();
      const path = join(cwd, 'd.img');
      disk(path, '16M', 'label: gpt\nsize=8MiB\n', []);
      damage(path);
      await refused(cwd, ['d.img', '-di', 'x.img'], 182, why, path);
    });

    it.each<[string, string[], number, string]>([
      ['there is no table', ['plain', '-di', 'x.img'], 182, 'has no partitions'],
      ['there is no source', ['absent', '-di', 'x.img'], 206, 'absent'],
      ['it is a directory', ['.', '-di', 'x.img'], 206, 'neither a file nor a block device'],
      ['its directory is missing', ['plain', '-di', 'absent/x.img'], 221, 'its directory is not there'],
      ['there are two sources', ['plain', 'plain', '-di', 'x.img'], 2, 'one source'],
      ['there are two destinations', ['plain', '-d', 'a', '-d', 'b'], 2, 'one destination'],
      ['there is no destination', ['plain'], 240, '-dd takes one disk'],
      ['something is to be removed', ['plain', '-di', 'x.img', '-rm'], 2, 'not with a whole disk'],
    ])('where %s', async (_, args, code, why) => {
      const cwd = own();
      must('truncate', '-s', '1M', join(cwd, 'plain'));
      await refused(cwd, args, code, why);
    });
  });
});

function write(path: string, at: number, size: number): void {
  const file = openSync(path, 'r+');
  writeSync(file, Buffer.alloc(size, 0x55), 0, size, at);
  closeSync(file);
}
