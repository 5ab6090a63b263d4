/** The calls of the addon for disks and images end with their signal: none is begun after it, who reads is not waited for and leaves nothing, who writes comes to his end. */
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { type Blockdev, loadBlockdev, type PartitionTable } from '../src/native/blockdev.js';
import { closed, mountedAt } from '../src/ops/disk/attach.js';
import { must, WITHOUT_DISKS } from './rig/disks.js';
import { mountFaulty, scratch } from './rig.js';

const ENOUGH = new Error('enough');
const WHOLE = { start: 0, size: 0 };
const table: Omit<PartitionTable, 'end'> = {
  ...{ label: 'dos', id: '0x12345678', sectorSize: 512, first: 0, entries: 0 },
  partitions: [
    ...[{ number: 1, start: 2 ** 20, size: 2 ** 20, type: '83', uuid: '', name: '', attributes: 0n, container: false }],
  ],
};

/** An image in a directory of its own. */
function image(): { directory: string; path: string } {
  const directory = scratch();
  const path = join(directory, 'i.img');
  writeFileSync(path, '');
  truncateSync(path, 8 * 2 ** 20);
  must('mke2fs', '-q', '-t', 'ext4', path);
  return { directory, path };
}

/** A file that is open until the test ends. */
function opened(path: string, how = 'r'): number {
  const file = openSync(path, how);
  onTestFinished(() => closeSync(file));
  return file;
}

/** Descriptors of this process that lead to a file. */
const descriptorsOf = (path: string) =>
  readdirSync('/proc/self/fd').filter((number) => {
    try {
      return readlinkSync(`/proc/self/fd/${number}`) === path;
    } catch {
      return false;
    }
  });
const loopsOf = (path: string) => must('losetup', '-j', path).trim();

describe.skipIf(WITHOUT_DISKS !== undefined)('a call of the addon whose signal comes', () => {
  const calls: [string, (blockdev: Blockdev, path: string, file: number) => Promise<unknown>][] = [
    ['probe', (blockdev, _, file) => blockdev.probe(file, 0, 0)],
    ['readTable', (blockdev, path) => blockdev.readTable(Buffer.from(path), 0)],
    ['writeTable', (blockdev, path) => blockdev.writeTable(Buffer.from(path), table)],
    ['rereadTable', (blockdev, _, file) => blockdev.rereadTable(file)],
    ['attachLoop', (blockdev, _, file) => blockdev.attachLoop(file, true, 0, 0, 0, false)],
    ['attachLoop to write', (blockdev, _, file) => blockdev.attachLoop(file, false, 0, 0, 0, false)],
    ['mountDetached', (blockdev, path) => blockdev.mountDetached(Buffer.from(path), 'ext4', true, {})],
    ['cloneMount', (blockdev) => blockdev.cloneMount(Buffer.from('/'))],
    ['carryFlags', (blockdev, _, file) => blockdev.carryFlags(file, file, Buffer.alloc(0))],
    ['mounts', (blockdev) => blockdev.mounts()],
  ];

  it.each(calls)('before %s: it is not begun', async (_, call) => {
    const { path } = image();
    const before = readFileSync(path);
    const file = opened(path, 'r+');
    const blockdev = loadBlockdev(AbortSignal.abort(ENOUGH));
    await expect(call(blockdev, path, file)).rejects.toBe(ENOUGH);
    expect(readFileSync(path).equals(before)).toBe(true);
    expect(loopsOf(path)).toBe('');
    expect(descriptorsOf(path)).toEqual([String(file)]);
  });

  it('is all of them that are tested here', () => {
    expect(Object.keys(loadBlockdev()).sort()).toEqual([...new Set(calls.map(([name]) => name.split(' ')[0]))].sort());
  });

  it.each(calls.filter(([name]) => name === 'probe' || name === 'readTable'))(
    'while %s reads what does not come: nobody waits, and nothing is left when it has come',
    async (_, call) => {
      const { directory } = image();
      const gate = join(scratch(), 'gate');
      const mount = await mountFaulty(directory, `hang,until=${gate}`);
      if (mount === undefined) return;
      onTestFinished(mount.unmount);
      const path = join(mount.point, 'i.img');
      const file = openSync(path, 'r');
      const stop = new AbortController();
      const hangs = mount.hangs();
      const answer = call(loadBlockdev(stop.signal), path, file).catch((error: unknown) => error);
      await hangs;
      closeSync(file);
      stop.abort(ENOUGH);
      expect(await answer).toBe(ENOUGH);
      // It still reads.
      expect(descriptorsOf(path)).toHaveLength(1);
      writeFileSync(gate, '');
      await vi.waitUntil(() => descriptorsOf(path).length === 0, 30_000);
    },
  );

  it('while a mount is made that only reads: nobody waits, and what comes of it goes', async () => {
    const { path } = image();
    const file = opened(path);
    const stop = new AbortController();
    const blockdev = loadBlockdev(stop.signal);
    const mounting = new Promise<void>((resolve) => {
      const { mountDetached } = blockdev;
      blockdev.mountDetached = (...args) => {
        const call = mountDetached(...args);
        resolve();
        return call;
      };
    });
    const answer = mountedAt(blockdev, file, 'ext4', WHOLE, { write: false }).catch((error: unknown) => error);
    await mounting;
    stop.abort(ENOUGH);
    expect(await answer).toBe(ENOUGH);
    await vi.waitUntil(() => loopsOf(path) === '', 30_000);
  });

  it('while a loop device is made that only reads: the same', async () => {
    const { path } = image();
    const file = opened(path);
    const stop = new AbortController();
    const answer = loadBlockdev(stop.signal).attachLoop(file, true, 0, 0, 0, false);
    queueMicrotask(() => stop.abort(ENOUGH));
    await expect(answer).rejects.toBe(ENOUGH);
    await vi.waitUntil(() => loopsOf(path) === '', 30_000);
  });

  it('while something is written: it comes to its end, and nothing after it begins', async () => {
    const { path } = image();
    const file = opened(path, 'r+');
    const stop = new AbortController();
    const blockdev = loadBlockdev(stop.signal);
    const writing = blockdev.writeTable(Buffer.from(path), table);
    const attaching = blockdev.attachLoop(file, false, 0, 0, 0, false);
    queueMicrotask(() => stop.abort(ENOUGH));
    await writing;
    const { fd } = await attaching;
    expect(must('sfdisk', '-d', path)).toContain('label-id: 0x12345678');
    expect(loopsOf(path)).not.toBe('');
    await expect(blockdev.writeTable(Buffer.from(path), { ...table, id: '0x87654321' })).rejects.toBe(ENOUGH);
    expect(must('sfdisk', '-d', path)).toContain('label-id: 0x12345678');
    await closed(fd);
    await vi.waitUntil(() => loopsOf(path) === '', 30_000);
  });
});

describe.skipIf(WITHOUT_DISKS !== undefined)('a call of the addon', () => {
  it('has the file that was meant, whatever becomes of the number', async () => {
    const { path } = image();
    const file = openSync(path, 'r');
    const found = loadBlockdev().probe(file, 0, 0);
    closeSync(file);
    expect((await found)?.type).toBe('ext4');
    expect(descriptorsOf(path)).toEqual([]);
  });

  it('says what is no descriptor', async () => {
    await expect(loadBlockdev().probe(-1, 0, 0)).rejects.toThrow(/^use a descriptor: Bad file descriptor$/);
  });

  it('does not wait for another that hangs', async () => {
    const { directory, path } = image();
    const gate = join(scratch(), 'gate');
    const mount = await mountFaulty(directory, `hang,until=${gate}`);
    if (mount === undefined) return;
    onTestFinished(mount.unmount);
    const hangs = mount.hangs();
    const blockdev = loadBlockdev();
    const first = blockdev.readTable(Buffer.from(join(mount.point, 'i.img')), 0);
    await hangs;
    expect(await blockdev.readTable(Buffer.from(path), 0)).toBeUndefined();
    expect(existsSync(gate)).toBe(false);
    writeFileSync(gate, '');
    expect(await first).toBeUndefined();
  });
});
