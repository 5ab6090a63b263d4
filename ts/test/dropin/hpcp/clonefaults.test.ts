/** Clones that die at tables and boot code, and that can't read or write some files: what is on the destination then. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import {
  bytes,
  contents,
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
import { executable, mountFaulty, run } from '../../rig.js';

const ID = '11111111-2222-4333-8444-555555555555';
const ADDON = fileURLToPath(new URL('../../../../bindings/blockdev/blockdev.node', import.meta.url));

function own(): string {
  const directory = mkdtempSync(join(MEMORY, 'bulkhaul-test-'));
  onTestFinished(() => {
    rmSync(directory, { recursive: true });
    expect(must('losetup', '--noheadings', '-O', 'BACK-FILE')).not.toContain(directory);
  });
  return directory;
}

/** A device over a file for as long as the test runs. */
function loop(path: string): string {
  const device = must('losetup', '--find', '--show', path).trim();
  onTestFinished(() => void must('losetup', '-d', device));
  return device;
}

/** Calls of a clone by what they write: in the words of the program that is loaded before it. */
const CALLS = {
  'the first table': 'table && table.partitions.length === 0',
  'a table with a partition that is proved': 'table && table.partitions.length === 1',
  'the table with the identity': `table && table.id === '${ID}'`,
  'boot code': '!table && length === 440',
} as const;
type Call = keyof typeof CALLS;

/** A program that ends the process that loads it before it makes a call, or behind it. */
function killer(directory: string, call: Call, when: 'before' | 'behind'): string {
  const path = join(directory, 'killer.cjs');
  const code = `
    const addon = require(${JSON.stringify(ADDON)});
    const { open } = require('node:fs/promises');
    const end = () => { process.kill(process.pid, 'SIGKILL'); return new Promise(() => {}); };
    const ending = (of, is) => async function (...args) {
      const chosen = is(...args);
      if (chosen && ${when === 'before'}) await end();
      const result = await of.apply(this, args);
      if (chosen) await end();
      return result;
    };
    addon.writeTable = ending(addon.writeTable, (_, path, table, length) => ${CALLS[call]});
    open(__filename).then(async (file) => {
      const handle = Object.getPrototypeOf(file);
      handle.write = ending(handle.write, (_, offset, length, position, table) => position === 0 && ${CALLS[call]});
      await file.close();
    });
  `;
  writeFileSync(path, code);
  return path;
}

const rooted = (path: string): Place => places(path)[1] ?? expect.fail();
const differences = (one: string, other: string) =>
  mounted(one, rooted(one), 'ro', (left) =>
    mounted(other, rooted(other), 'ro', (right) =>
      must('rsync', '-aniHAX', '--checksum', '--delete', '--exclude', 'lost+found', `${left}/`, `${right}/`),
    ),
  );

describe.skipIf(WITHOUT_DISKS !== undefined)('a clone', { timeout: 60_000 }, () => {
  let disks: string;
  let source: string;
  beforeAll(() => {
    if (WITHOUT_DISKS !== undefined) return;
    disks = mkdtempSync(join(MEMORY, 'bulkhaul-test-'));
    source = join(disks, 'source.img');
    disk(
      source,
      '16M',
      `label: gpt\nlabel-id: ${ID}\nsize=1MiB,type=0657FD6D-A4AB-43C4-84E5-0933C84B4F4F\nsize=8MiB\n`,
      [(device) => must('mkswap', device), (device) => must('mkfs.ext4', '-q', '-b', '1024', device)],
    );
    mounted(source, rooted(source), 'rw', (root) => {
      mkdirSync(join(root, 'a'));
      for (const name of ['a/f', 'g']) writeFileSync(join(root, name), name.repeat(5000));
    });
  });
  afterAll(() => {
    if (WITHOUT_DISKS === undefined) rmSync(disks, { recursive: true });
  });

  it.each<[when: 'before' | 'behind', call: Call]>([
    ['behind', 'the first table'],
    ['before', 'a table with a partition that is proved'],
    ['before', 'the table with the identity'],
    ['behind', 'the table with the identity'],
    ['behind', 'boot code'],
  ])(
    'onto a disk that dies %s %s has no identity, or all of the content; the next run completes it',
    async (when, call) => {
      const cwd = own();
      const target = join(cwd, 'target');
      must('truncate', '-s', '20M', target);
      const device = loop(target);
      await killed(cwd, device, when, call);
      const identified = call === 'boot code' || (when === 'behind' && call === 'the table with the identity');
      expect(dump(target).join().includes(ID)).toBe(identified);
      expect(bytes(target, { start: 0, size: 440 }).equals(bytes(source, { start: 0, size: 440 }))).toBe(
        call === 'boot code',
      );
      if (identified) {
        expect(dump(target)).toEqual(dump(source));
        expect(contents(target)).toEqual(contents(source));
        expect(differences(source, target)).toBe('');
      } else if (call !== 'the table with the identity') {
        const ids = contents(source).flatMap((lines) => lines.filter((line) => line.startsWith('UUID=')));
        const there = contents(target).flat();
        // Swap is made with its identity, and nothing of it is content.
        expect(there.filter((line) => ids.slice(1).includes(line))).toEqual([]);
      }
      await completes(cwd, device, target);
    },
  );

  /** A clone that dies then. */
  async function killed(cwd: string, device: string, when: 'before' | 'behind', call: Call): Promise<void> {
    const args = ['--require', killer(cwd, call, when), executable, 'hpcp', '-dd', source, '-d', device];
    const child = spawn(process.execPath, args, { cwd, stdio: 'ignore' });
    expect(await new Promise((resolve) => child.once('close', (_, by) => resolve(by)))).toBe('SIGKILL');
    // What it had attached goes when its descriptors are closed.
    const inside = () => must('losetup', '--noheadings', '-O', 'BACK-FILE').split('\n');
    while (inside().includes(device)) await new Promise((resolve) => setImmediate(resolve));
    must('sync', device);
  }

  /** The next run of the same clone makes it what it is to be. */
  async function completes(cwd: string, device: string, target: string): Promise<void> {
    const again = await run(['hpcp', '-dd', source, '-d', device, '--overwrite'], { cwd });
    expect(again.code, again.stdout + again.stderr).toBe(0);
    must('sync', device);
    expect(dump(target)).toEqual(dump(source));
    expect(contents(target)).toEqual(contents(source));
    expect(bytes(target, { start: 0, size: 440 })).toEqual(bytes(source, { start: 0, size: 440 }));
    expect(differences(source, target)).toBe('');
  }

  const slow = process.env.BULKHAUL_EXHAUSTIVE === '1';
  it.runIf(slow)(
    "that dies while it writes the last table is whole, or nobody's; the next run completes it",
    async () => {
      const cwd = own();
      const disks: Record<'before' | 'behind', Buffer> = { before: Buffer.alloc(0), behind: Buffer.alloc(0) };
      for (const when of ['before', 'behind'] as const) {
        const path = join(cwd, when);
        must('truncate', '-s', '20M', path);
        await killed(cwd, loop(path), when, 'the table with the identity');
        disks[when] = readFileSync(path);
      }
      // A table has two headers and two lists of entries.
      const end = disks.before.length;
      const [header, entries] = [
        { at: 512, size: 512 },
        { at: 1024, size: 16384 },
      ];
      const [lastHeader, lastEntries] = [
        { at: end - 512, size: 512 },
        { at: end - 512 - 16384, size: 16384 },
      ];
      for (const [name, written] of [
        ['no header', [entries, lastEntries]],
        ['the last header', [entries, lastEntries, lastHeader]],
        ['the first', [header, entries]],
        ['the last', [lastHeader, lastEntries]],
      ] as const) {
        const half = Buffer.from(disks.before);
        for (const { at, size } of written) disks.behind.copy(half, at, at, at + size);
        const path = join(cwd, name);
        writeFileSync(path, half);
        expect(half.equals(disks.before) || half.equals(disks.behind), name).toBe(false);
        await completes(cwd, loop(path), path);
      }
    },
  );

  it.each<[string, string, number, string]>([
    [
      'can not be read in the middle',
      `handle.read = unless(handle.read, (_, __, ___, at) => at === MIDDLE, () => error('EIO'))`,
      181,
      'partition 1: EIO',
    ],
    [
      'is full in the middle',
      `handle.write = unless(handle.write, (_, __, ___, at) => at === MIDDLE, () => error('ENOSPC'))`,
      181,
      'partition 1: ENOSPC',
    ],
    [
      'keeps other bytes',
      `handle.write = changed(handle.write, (_, __, ___, at) => at === MIDDLE)`,
      191,
      'partition 1: what was written reads back differently',
    ],
  ])('of bytes of a medium that %s is none, and says where', async (_, fault, code, why) => {
    const cwd = own();
    const path = join(cwd, 'noise');
    disk(path, '16M', `label: gpt\nlabel-id: ${ID}\nsize=12MiB\n`, [
      (device) => writeFileSync(device, Buffer.alloc(12 << 20, 'noise')),
    ]);
    // The second piece of the first partition.
    const loaded = join(cwd, 'fault.cjs');
    writeFileSync(
      loaded,
      `
      const { open } = require('node:fs/promises');
      const MIDDLE = ${(1 << 20) + (4 << 20)};
      const error = (code) => Object.assign(new Error(code), { code, errno: -require('node:os').constants.errno[code] });
      const unless = (of, is, fail) => async function (...args) {
        if (is(...args)) throw fail();
        return of.apply(this, args);
      };
      const changed = (of, is) => async function (buffer, ...args) {
        if (is(buffer, ...args)) buffer = Buffer.from(buffer.map((byte, index) => (index === 77 ? byte ^ 1 : byte)));
        return of.call(this, buffer, ...args);
      };
      module.exports = open(__filename).then(async (file) => {
        const handle = Object.getPrototypeOf(file);
        ${fault};
        await file.close();
      });`,
    );
    const target = join(cwd, 'target');
    must('truncate', '-s', '20M', target);
    const args = ['--require', loaded, executable, 'hpcp', '-dd', 'noise', '-d', loop(target)];
    const ran = spawnSync(process.execPath, args, { cwd, encoding: 'utf8' });
    expect({ code: ran.status, said: ran.stdout + ran.stderr }).toEqual({ code, said: expect.stringContaining(why) });
    expect(dump(target).join()).not.toContain(ID);
    expect(places(target)).toEqual([]);
  });

  it('whose file system is another than the source when it is read back is none, and names the file', async () => {
    const cwd = own();
    const real = must('sh', '-c', 'readlink -f $(command -v e2fsck)').trim();
    must('cp', real, join(cwd, 'real'));
    // In a namespace of its own the checker changes one byte of a file, and nothing that it checks.
    const damage = join(cwd, 'damage');
    const at = `at=$(grep -obUaPm1 'a/fa/fa/f' ${join(cwd, 'x.img.partial')} | head -1 | cut -d: -f1)`;
    const flip = `printf X | dd of=${join(cwd, 'x.img.partial')} bs=1 seek=$at conv=notrunc status=none`;
    writeFileSync(damage, `#!/bin/sh\n${at}\n${flip}\nsync\nexec ${join(cwd, 'real')} "$@"\n`, { mode: 0o755 });
    const inside = `mount --bind ${damage} ${real} && exec "$@"`;
    const command = [process.execPath, executable, 'hpcp', '-dd', source, '-di', 'x.img'];
    const ran = spawnSync('unshare', ['--mount', 'sh', '-c', inside, 'sh', ...command], { cwd, encoding: 'utf8' });
    expect({ code: ran.status, said: ran.stdout + ran.stderr }).toEqual({
      code: 191,
      said: expect.stringContaining('a/f: it is another in the clone (content)'),
    });
    expect(readdirSync(cwd).sort()).toEqual(['damage', 'real', 'x.img.partial']);
    expect(dump(join(cwd, 'x.img.partial')).join()).not.toContain(ID);
  });

  it('of a disk that does not give all of a file is none, and names the file', async () => {
    const cwd = own();
    const path = join(cwd, 'torn');
    disk(path, '24M', 'label: dos\nsize=1MiB\nsize=16MiB\n', [
      () => undefined,
      (device) => must('mkfs.ext4', '-q', '-b', '4096', '-O', '^has_journal,^extent,^64bit', device),
    ]);
    mounted(path, rooted(path), 'rw', (directory) => {
      for (const name of ['whole', 'torn']) writeFileSync(join(directory, name), Buffer.alloc(20_000, name));
    });
    // Its second block is where the disk has none.
    within(path, rooted(path), (device) => must('debugfs', '-w', '-R', 'sif /torn block[1] 4000000', device));
    const ran = await run(['hpcp', '-dd', 'torn', '-di', 'x.img'], { cwd });
    expect({ code: ran.code, said: ran.stdout + ran.stderr }).toEqual({
      code: 190,
      said: expect.stringMatching(/partition 2:\/torn: (Input\/output error|Structure needs cleaning)/),
    });
    expect(readdirSync(cwd).sort()).toEqual(['torn', 'x.img.partial']);
    expect(places(join(cwd, 'x.img.partial'))).toHaveLength(1);
  });

  it('onto a medium that is full before it says so has no identity', async () => {
    const cwd = own();
    mkdirSync(join(cwd, 'small'));
    must('mount', '-t', 'tmpfs', '-o', 'size=3m', 'none', join(cwd, 'small'));
    onTestFinished(() => void must('umount', join(cwd, 'small')));
    const path = join(cwd, 'noise');
    disk(path, '24M', `label: gpt\nlabel-id: ${ID}\nsize=1MiB\nsize=16MiB\n`, [
      () => undefined,
      (device) => must('mkfs.ext4', '-q', '-b', '4096', '-O', '^has_journal', device),
    ]);
    mounted(path, rooted(path), 'rw', (directory) => {
      must('dd', 'if=/dev/urandom', `of=${join(directory, 'f')}`, 'bs=1M', 'count=8', 'status=none');
    });
    const target = join(cwd, 'small/target');
    must('truncate', '-s', '24M', target);
    const device = loop(target);
    const ran = await run(['hpcp', '-dd', 'noise', '-d', device], { cwd });
    expect(ran.code, ran.stdout + ran.stderr).toBeGreaterThan(0);
    expect(dump(target).join()).not.toContain(ID);
    const id = contents(path)[1]?.find((line) => line.startsWith('UUID='));
    expect(contents(target).flat()).not.toContain(id);
  });
});

it.skipIf(WITHOUT_DISKS !== undefined)(
  'a clone that is stopped while it looks at what is proved keeps that',
  async () => {
    const cwd = own();
    mkdirSync(join(cwd, 's'));
    const [from, to, gate] = [join(cwd, 's/disk.img'), join(cwd, 'to.img'), join(cwd, 'gate')];
    disk(from, '24M', 'label: gpt\nsize=8MiB\nsize=8MiB', []);
    expect((await run(['image', 'clone', '--no-journal', from, to])).code).toBe(0);
    // As a run leaves it that dies before the name is given.
    renameSync(to, `${to}.partial`);
    writeFileSync(to, 'something');
    writeFileSync(gate, '');
    const mount = await mountFaulty(join(cwd, 's'), `hang,until=${gate}`);
    if (mount === undefined) return;
    onTestFinished(mount.unmount);
    const source = join(mount.point, 'disk.img');
    const env = { ...process.env, NO_COLOR: '1', BULKHAUL_PROGRESS_INTERVAL: '0.05' };
    const args = [executable, 'image', 'clone', '--no-journal', source, to];
    const child = spawn(process.execPath, args, { cwd, env, stdio: ['pipe', 'ignore', 'pipe'] });
    onTestFinished(() => void child.kill('SIGKILL'));
    const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
    let stderr = '';
    const steps: [RegExp, () => void][] = [
      [
        /Overwrite it\?/,
        () => {
          rmSync(gate);
          child.stdin.end('y\n');
        },
      ],
      [/ 0 of 2 files /, () => child.kill('SIGINT')],
      [/once more to abort\n/, () => writeFileSync(gate, '')],
    ];
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk;
      if (steps[0]?.[0].test(stderr)) steps.shift()?.[1]();
    });
    expect(await ended, stderr).toBe(130);
    const again = await run(['image', 'clone', '--no-journal', '--overwrite', source, to]);
    expect(again.code, again.stderr).toBe(0);
    for (const number of [1, 2]) expect(again.stderr).toContain(`partition ${number} was proved by an earlier run`);
  },
  60_000,
);
