/**
 * File systems that a clone makes anew: as another one is, with an identity that is thrown away until the end.
 *
 * Comes in: the path of a device that holds one, or is to; goes out: the arguments that make another like it, the file
 * system itself, its identity, a verdict of its checker.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { open } from 'node:fs/promises';
import { BulkhaulError } from '../../error.js';
import { must } from './program.js';

const MIB = 2 ** 20;

/** One that is to be made. */
export interface Making {
  /** As mount(8) names it. */
  type: string;
  label: string;
  /** The identity that it gets in the end. */
  uuid: string;
  /** Arguments that mirror the source; empty: the defaults of mkfs. */
  mirror: readonly string[];
  signal: AbortSignal;
}

interface Kind {
  /** Programs that it takes. */
  tools: readonly string[];
  /** Bytes and inodes for files on one of this size, about; with the arguments that mirror another. */
  room(size: number, mirror: readonly string[]): { bytes: number; inodes: number };
  /** Least bytes that it can be made with. */
  least: number;
  /** Arguments of mkfs for another like the one on a device. */
  mirror(path: string, same: boolean): Promise<string[]>;
  /** Makes one. */
  make(path: string, making: Making): Promise<void>;
  /** Gives it its identity; absent: it has had it from the beginning. */
  identify?(path: string, uuid: string): Promise<void>;
  /** Throws `USAGE` with what its checker finds. */
  check(path: string, signal?: AbortSignal): Promise<void>;
}

const unlimited = Number.POSITIVE_INFINITY;
/** The value behind an option. */
const after = (args: readonly string[], option: string) => args[args.indexOf(option) + 1];

/** Findings that are told of a file system. */
const MOST_FINDINGS = 3;

/** What e2fsck has found: it complains of nothing, and prints that between its passes, questions and totals. */
function foundByE2fsck(printed: string): string {
  const found = printed
    .split('\n')
    .map((line) => line.replace(/\s*[A-Z][\w /]*\? no$/, '').trim())
    .filter((line) => line !== '' && !/^Pass \d|\*{5}|: [\d/]+ files .* blocks$/.test(line));
  const more = found.length > MOST_FINDINGS ? [`and ${found.length - MOST_FINDINGS} more`] : [];
  return [...found.slice(0, MOST_FINDINGS), ...more].join('; ');
}

const EXT: Kind = {
  tools: ['mke2fs', 'dumpe2fs', 'tune2fs', 'e2fsck'],
  least: MIB,
  room(size, mirror) {
    const inodeSize = Number(mirror.includes('-I') ? after(mirror, '-I') : 256);
    const inodes = mirror.includes('-N')
      ? Number(after(mirror, '-N'))
      : Math.floor(size / Number(mirror.includes('-i') ? after(mirror, '-i') : 16384));
    const journal = Math.min(1024 * MIB, Math.max(4 * MIB, size / 32));
    return { bytes: size - inodes * inodeSize - journal - size / 128 - 16 * 4096, inodes: inodes - 11 };
  },
  async mirror(path, same) {
    const told = new Map(
      (await must('dumpe2fs', ['-h', path])).split('\n').flatMap((line) => {
        const [, key, value] = /^([^:]+):\s+(.*)$/.exec(line) ?? [];
        return key === undefined || value === undefined ? [] : [[key, value] as const];
      }),
    );
    const number = (key: string) => Number(told.get(key) ?? 0);
    const blocks = number('Block count');
    const blockSize = number('Block size');
    const inodes = number('Inode count');
    const features = (told.get('Filesystem features') ?? '').split(' ').filter((name) => !STATES.includes(name));
    const reserved = ((number('Reserved block count') * 100) / blocks).toFixed(2);
    return [
      ...['-b', String(blockSize), '-I', String(number('Inode size')), '-m', reserved],
      ...(same
        ? ['-N', String(inodes)]
        : ['-i', String(Math.max(blockSize, Math.floor((blocks * blockSize) / inodes)))]),
      ...['-O', ['none', ...features].join()],
    ];
  },
  async make(path, { type, label, mirror, signal }) {
    await must('mke2fs', ['-q', '-F', '-t', type, ...mirror, '-L', label, '-U', randomUUID(), path], { signal });
  },
  async identify(path, uuid) {
    // Its checksums are made anew, which takes one that was checked just now.
    await must('e2fsck', ['-f', '-p', path], { good: [0, 1] });
    await must('tune2fs', ['-U', uuid, path]);
  },
  check: async (path, signal) => void (await must('e2fsck', ['-f', '-n', path], { signal, findings: foundByE2fsck })),
};

/** Features that say how a file system is just now. */
const STATES = ['needs_recovery', 'orphan_present', 'recover'];

const XFS: Kind = {
  tools: ['mkfs.xfs', 'xfs_db', 'xfs_repair'],
  // What mkfs.xfs makes since 5.19.
  least: 300 * MIB,
  room: (size) => ({ bytes: size * 0.98 - Math.max(64 * MIB, Math.min(2048 * MIB, size / 2048)), inodes: unlimited }),
  async mirror(path) {
    const told = await must('xfs_db', ['-r', '-c', 'info', path]);
    const [, data = '', naming = ''] = /^data([\s\S]*)^naming([\s\S]*)^log/m.exec(told) ?? [];
    const of = (text: string, name: string) => new RegExp(`\\b${name}=(\\d+)`).exec(text)?.[1];
    const list = (text: string, names: readonly string[]) =>
      names.flatMap((name) => {
        const value = of(text, name);
        return value === undefined ? [] : [`${name}=${value}`];
      });
    const option = (letter: string, values: readonly string[]) => (values.length > 0 ? [letter, values.join()] : []);
    const size = of(naming, 'bsize');
    return [
      ...['-b', `size=${of(data, 'bsize') ?? 4096}`, '-s', `size=${of(told, 'sectsz') ?? 512}`],
      ...option('-i', [`size=${of(told, 'isize') ?? 512}`, ...list(told, ['sparse', 'nrext64'])]),
      ...option('-n', [...(size === undefined ? [] : [`size=${size}`]), ...list(naming, ['ftype'])]),
      ...option('-m', list(told, ['crc', 'finobt', 'rmapbt', 'reflink', 'bigtime', 'inobtcount'])),
    ];
  },
  async make(path, { label, uuid, mirror, signal }) {
    // An identity that came later would be a feature of its own, which the source does not have.
    const named = label === '' ? [] : ['-L', label];
    await must('mkfs.xfs', ['-q', '-f', ...mirror, '-m', `uuid=${uuid}`, ...named, path], { signal });
  },
  check: async (path, signal) => void (await must('xfs_repair', ['-n', path], { ...(signal && { signal }) })),
};

const BTRFS: Kind = {
  tools: ['mkfs.btrfs', 'btrfs', 'btrfstune', 'unshare', 'mount', 'sh'],
  least: 110 * MIB,
  room: (size) => ({ bytes: size * 0.9 - 64 * MIB, inodes: unlimited }),
  async mirror(path) {
    const told = await must('btrfs', ['inspect-internal', 'dump-super', path]);
    const of = (name: string) => new RegExp(`^${name}\\s+(\\S+)(?:\\s+\\((\\w+))?`, 'm').exec(told);
    const digest = of('csum_type')?.[2];
    return [
      ...['-n', of('nodesize')?.[1] ?? '16384', '-s', of('sectorsize')?.[1] ?? '4096'],
      ...(digest === undefined ? [] : ['--csum', digest]),
      ...(told.includes('MIXED_GROUPS') ? ['--mixed'] : []),
    ];
  },
  async make(path, { label, mirror, signal }) {
    const named = label === '' ? [] : ['-L', label];
    await must('mkfs.btrfs', ['-q', '-f', ...mirror, '-U', randomUUID(), ...named, path], { signal });
  },
  async identify(path, uuid) {
    // It refuses an identity that any disk of the machine has, and the source has it: it is shown no disks.
    const alone = ['--mount', '--', 'sh', '-c', 'mount -t tmpfs none /sys && exec "$@"', 'sh'];
    await must('unshare', [...alone, 'btrfstune', '-f', '-U', uuid, path]);
  },
  check: async (path, signal) =>
    void (await must('btrfs', ['check', '--readonly', path], { ...(signal && { signal }) })),
};

const FAT: Kind = {
  tools: ['mkfs.fat', 'fsck.fat'],
  least: MIB,
  room: (size) => ({ bytes: size * 0.99 - MIB, inodes: unlimited }),
  async mirror(path) {
    const boot = await bootSector(path);
    return ['-S', String(boot.readUInt16LE(11)), '-s', String(boot[13]), ...(isFat32(boot) ? ['-F', '32'] : [])];
  },
  async make(path, { label, mirror, signal }) {
    const named = label === '' ? [] : ['-n', label];
    await must('mkfs.fat', ['-i', randomBytes(4).toString('hex'), ...mirror, ...named, path], { signal });
  },
  async identify(path, uuid) {
    if (!/^[0-9A-F]{4}-[0-9A-F]{4}$/i.test(uuid)) throw new BulkhaulError('USAGE', `no identity of FAT: ${uuid}`);
    const boot = await bootSector(path);
    const number = Buffer.alloc(4);
    number.writeUInt32LE(Number.parseInt(uuid.replace('-', ''), 16));
    const file = await open(path, 'r+');
    try {
      // In the boot sector, and of FAT32 in its copy.
      const copy = isFat32(boot) ? boot.readUInt16LE(50) * boot.readUInt16LE(11) : 0;
      const at = isFat32(boot) ? 67 : 39;
      for (const sector of new Set([0, copy])) await file.write(number, 0, 4, sector + at);
      await file.sync();
    } finally {
      await file.close();
    }
  },
  check: async (path, signal) => void (await must('fsck.fat', ['-n', path], { ...(signal && { signal }) })),
};

async function bootSector(path: string): Promise<Buffer> {
  const file = await open(path, 'r');
  try {
    return (await file.read(Buffer.alloc(512), 0, 512, 0)).buffer;
  } finally {
    await file.close();
  }
}

/** It has no count of sectors where the smaller ones have it. */
const isFat32 = (boot: Buffer) => boot.readUInt16LE(22) === 0;

/** The kinds whose files are copied. */
export const KINDS: Readonly<Partial<Record<string, Kind>>> = {
  ext2: EXT,
  ext3: EXT,
  ext4: EXT,
  xfs: XFS,
  btrfs: BTRFS,
  vfat: FAT,
};

/** Makes swap: nothing of it is copied. */
export async function makeSwap(path: string, { label, uuid, signal }: Making): Promise<void> {
  await must('mkswap', ['-U', uuid, ...(label === '' ? [] : ['-L', label]), path], { signal });
}
