/** Disks and images in tests: whether they can be had where the tests run, how they are made, and what other programs tell of them. */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  openSync,
  readSync,
  rmdirSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Why not; undefined: they can. */
export const WITHOUT_DISKS = (() => {
  if (process.getuid?.() !== 0) return 'this needs root';
  try {
    accessSync('/dev/loop-control', constants.R_OK | constants.W_OK);
    accessSync(new URL('../../../bindings/blockdev/blockdev.node', import.meta.url));
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
})();
if (WITHOUT_DISKS !== undefined) console.log(`skip: ${WITHOUT_DISKS}`);

/** Why no view of a directory can be had through FUSE; undefined: it can. */
export const WITHOUT_VIEWS = (() => {
  if (!existsSync('/dev/fuse')) return 'there is no FUSE';
  return spawnSync('bindfs', ['--version']).error?.message;
})();
if (WITHOUT_VIEWS !== undefined) console.log(`skip: ${WITHOUT_VIEWS}`);

/** In memory where that can be had: what is done to disks is synced step by step. */
export const MEMORY = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

/** Runs a program of the system, and answers what it printed. */
export const must = (program: string, ...args: string[]) =>
  execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
export interface Place {
  start: number;
  size: number;
}

/** Partitions as sfdisk tells of them, without the name of the disk. */
export const dump = (path: string) =>
  must('sfdisk', '-d', path)
    .split('\n')
    .filter((line) => !/^(device|last-lba):/.test(line))
    .map((line) => line.replace(path, 'disk'));
export const places = (path: string): Place[] =>
  dump(path).flatMap((line) => {
    const [, start, size] = /start= *(\d+), size= *(\d+)/.exec(line) ?? [];
    return start === undefined || / type=[5f](,|$)/.test(line)
      ? []
      : [{ start: Number(start) * 512, size: Number(size) * 512 }];
  });
/** What is in each partition, as blkid tells. */
export const contents = (path: string) =>
  places(path).map(({ start, size }) => {
    try {
      return must('blkid', '-p', '-o', 'export', '-O', String(start), '-S', String(size), path)
        .split('\n')
        .filter((line) => /^(TYPE|UUID|LABEL|VERSION|BLOCK_SIZE)=/.test(line));
    } catch {
      return [];
    }
  });
export const bytes = (path: string, { start, size }: Place) => {
  const file = openSync(path, 'r');
  try {
    const buffer = Buffer.alloc(size);
    readSync(file, buffer, 0, size, start);
    return buffer;
  } finally {
    closeSync(file);
  }
};
export const digest = (path: string) => must('sha256sum', path).split(' ')[0];

export function within<T>(path: string, place: Place, use: (device: string) => T): T {
  const range = ['-o', String(place.start), '--sizelimit', String(place.size)];
  const device = must('losetup', '--find', '--show', ...range, path).trim();
  try {
    return use(device);
  } finally {
    must('losetup', '-d', device);
  }
}
export function mounted<T>(path: string, place: Place, options: string, use: (directory: string) => T): T {
  const directory = mkdtempSync(join(tmpdir(), 'bulkhaul-test-'));
  try {
    return within(path, place, (device) => {
      must('mount', '-o', options, device, directory);
      try {
        return use(directory);
      } finally {
        must('umount', directory);
      }
    });
  } finally {
    rmdirSync(directory);
  }
}

/** Makes a disk: a table, and in its partitions what `make` puts there. */
export function disk(path: string, size: string, table: string, make: readonly ((device: string) => void)[]): void {
  must('truncate', '-s', size, path);
  execFileSync('sfdisk', ['-q', path], { input: table, stdio: ['pipe', 'ignore', 'ignore'] });
  const file = openSync(path, 'r+');
  writeSync(file, Buffer.alloc(440, 'boot'), 0, 440, 0);
  closeSync(file);
  for (const [index, place] of places(path).entries()) within(path, place, (device) => make[index]?.(device));
}
