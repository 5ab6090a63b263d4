/** For scripts/test --exhaustive: disks with Debian, cloned into smaller images, boot in qemu, by BIOS and by UEFI. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { disk, MEMORY, mounted, must, type Place, places, WITHOUT_DISKS, within } from './rig/disks.js';
import { run } from './rig.js';

const FIRMWARE = '/usr/share/ovmf/OVMF.fd';
const CORE = '/usr/lib/grub/i386-pc/boot.img';
/** Where Debian comes from. */
const MIRROR = 'http://deb.debian.org/debian';
const WITHOUT = (() => {
  if (process.env.BULKHAUL_EXHAUSTIVE !== '1') return 'it is for --exhaustive';
  if (WITHOUT_DISKS !== undefined) return WITHOUT_DISKS;
  const programs = ['debootstrap', 'qemu-system-x86_64', 'grub-mkimage', 'mcopy', 'mkfs.fat'];
  const missing = programs.filter((program) => spawnSync(program, ['--version']).error !== undefined);
  missing.push(...[FIRMWARE, CORE, '/usr/lib/grub/x86_64-efi/moddep.lst'].filter((path) => !existsSync(path)));
  if (missing.length === 0) return undefined;
  const packages = 'debootstrap qemu-system-x86 ovmf mtools dosfstools grub-common grub-pc-bin grub-efi-amd64-bin';
  return `missing: ${missing.join(', ')} (in Debian, as root: apt-get install ${packages})`;
})();
if (WITHOUT !== undefined) console.log(`skip: clones that boot: ${WITHOUT}`);

const UUID = '0b9c1111-2222-4333-8444-5566778899aa';
const WORD = 'THE-CLONE-IS-UP';
const INIT = `#!/bin/sh
mount -t proc proc /proc 2> /dev/null
mount -t sysfs sysfs /sys 2> /dev/null
echo "${WORD} $(cat /etc/disk) of $(cat /sys/class/block/vda2/size) sectors" > /dev/console
echo o > /proc/sysrq-trigger
sleep 60
`;
/** What GRUB's core asks for. */
const MODULES = ['part_gpt', 'ext2', 'search', 'search_fs_uuid', 'normal', 'configfile', 'linux', 'serial', 'terminal'];

/** GRUB for a BIOS: its first sector has the place of its core, whose first sector has the place of what follows. */
function bios(cwd: string, path: string, { start }: Place, early: string): void {
  must(
    'grub-mkimage',
    '-O',
    'i386-pc',
    '-o',
    join(cwd, 'core'),
    '-c',
    early,
    '-p',
    '/boot/grub',
    'biosdisk',
    ...MODULES,
  );
  const sector = BigInt(start / 512);
  const boot = readFileSync(CORE).subarray(0, 440);
  boot.writeBigUInt64LE(sector, 0x5c);
  boot.writeUInt16LE(0x9090, 0x66);
  const core = readFileSync(join(cwd, 'core'));
  core.writeBigUInt64LE(sector + 1n, 0x1f4);
  core.writeUInt16LE(Math.ceil(core.length / 512) - 1, 0x1fc);
  core.writeUInt16LE(0x820, 0x1fe);
  for (const [bytes, at] of [
    [boot, 0],
    [core, start],
  ] as const) {
    writeFileSync(join(cwd, 'bytes'), bytes);
    must('dd', `if=${join(cwd, 'bytes')}`, `of=${path}`, 'bs=512', `seek=${at / 512}`, 'conv=notrunc', 'status=none');
  }
}

/** GRUB for UEFI, in the place where a firmware that knows nothing looks. */
function uefi(cwd: string, path: string, place: Place, early: string): void {
  const loader = join(cwd, 'BOOTX64.EFI');
  must('grub-mkimage', '-O', 'x86_64-efi', '-o', loader, '-c', early, '-p', '/boot/grub', 'fat', 'efi_gop', ...MODULES);
  within(path, place, (device) => {
    must('mkfs.fat', '-F', '32', '-n', 'ESP', device);
    must('mmd', '-i', device, '::/EFI', '::/EFI/BOOT');
    must('mcopy', '-i', device, loader, '::/EFI/BOOT/BOOTX64.EFI');
  });
}

describe.skipIf(WITHOUT !== undefined)('a clone into a smaller image boots', () => {
  let cwd: string;
  let root: string;
  beforeAll(() => {
    if (WITHOUT !== undefined) return;
    cwd = mkdtempSync(join(MEMORY, 'bulkhaul-test-'));
    root = join(cwd, 'root');
    const packages = '--include=linux-image-cloud-amd64,initramfs-tools,zstd';
    must('debootstrap', '--variant=minbase', packages, 'bookworm', root, MIRROR);
    const [kernel = expect.fail()] = readdirSync(join(root, 'lib/modules'));
    if (!existsSync(join(root, `boot/initrd.img-${kernel}`)))
      must('chroot', root, 'update-initramfs', '-c', '-k', kernel);
    writeFileSync(join(root, 'sbin/clone-init'), INIT, { mode: 0o755 });
    writeFileSync(join(root, 'etc/fstab'), `UUID=${UUID} / ext4 defaults 0 1\n`);
    mkdirSync(join(root, 'boot/grub'), { recursive: true });
    // Whether its timers tick is nothing to look at where the host gives it time when it likes.
    const options = `root=UUID=${UUID} ro console=ttyS0 init=/sbin/clone-init panic=5 no_timer_check`;
    writeFileSync(
      join(root, 'boot/grub/grub.cfg'),
      `serial\nterminal_output serial\nlinux /boot/vmlinuz-${kernel} ${options}\ninitrd /boot/initrd.img-${kernel}\nboot\n`,
    );
    const early = `search.fs_uuid ${UUID} root\nset prefix=($root)/boot/grub\nconfigfile /boot/grub/grub.cfg\n`;
    writeFileSync(join(cwd, 'early'), early);
  }, 1_800_000);
  afterAll(() => {
    if (WITHOUT === undefined) rmSync(cwd, { recursive: true });
  });

  it.each([
    ['BIOS', 'size=1MiB,type=21686148-6449-6E6F-744E-656564454649', bios, []],
    ['UEFI', 'size=48MiB,type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B', uefi, ['-bios', FIRMWARE]],
  ] as const)('by %s', { timeout: 1_800_000 }, async (_, first, loader, firmware) => {
    const source = join(cwd, 'source.img');
    const clone = join(cwd, 'clone.img');
    onTestFinished(() => {
      for (const image of [source, clone]) rmSync(image, { force: true });
    });
    disk(source, '1600M', `label: gpt\n${first}\nname=root\n`, [
      () => undefined,
      (device) => must('mke2fs', '-q', '-t', 'ext4', '-U', UUID, '-d', root, device),
    ]);
    const [loaded = expect.fail(), system = expect.fail()] = places(source);
    loader(cwd, source, loaded, join(cwd, 'early'));
    const word = `disk ${Math.random()}`;
    mounted(source, system, 'rw', (directory) => writeFileSync(join(directory, 'etc/disk'), word));
    const made = await run(['hpcp', '-dd', source, '-di', clone, '-ddr', '1200Mi'], { cwd });
    expect(made.code, made.stdout + made.stderr).toBe(0);
    rmSync(source);
    const machine = [
      '-machine',
      'q35,accel=tcg',
      '-cpu',
      'max',
      '-m',
      '512',
      '-nographic',
      '-no-reboot',
      '-net',
      'none',
    ];
    const drive = ['-drive', `file=${clone},format=raw,if=virtio`];
    const ran = spawnSync('qemu-system-x86_64', [...machine, ...drive, ...firmware], { encoding: 'latin1', input: '' });
    expect(ran.stdout + ran.stderr).toContain(`${WORD} ${word} of ${(1200 << 20) / 512} sectors`);
  });
});
