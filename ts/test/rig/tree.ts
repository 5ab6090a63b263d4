/** A tree with all that an archive is asked to hold. */
import { execFileSync, spawnSync } from 'node:child_process';
import { appendFileSync, chmodSync, linkSync, mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { scratch } from '../rig.js';

/** Whether a tool is there. */
export const has = (tool: string) => spawnSync(tool, ['--version']).error === undefined;
export const isRoot = process.getuid?.() === 0;

/** Names that give others trouble. */
export const NAMES = [
  'a b',
  ' lead',
  'trail ',
  '-rf',
  '*?[',
  'new\nline',
  'back\\slash',
  'é',
  'e\u0301',
  '😀',
  '\x1b[31m',
];
export const BYTES = Buffer.from('latin-\xe9\xff', 'latin1');

/** A tree `t` with what tar can hold: names, times, owners, attributes, holes, links, devices. */
export function tarTree(): { cwd: string; at: (...names: string[]) => string } {
  const cwd = scratch();
  const at = (...names: string[]) => join(cwd, ...names);
  mkdirSync(at('t/d/e'), { recursive: true });
  mkdirSync(at('t/empty'));
  for (const name of NAMES) writeFileSync(at('t', name), `in ${name}`);
  writeFileSync(Buffer.concat([Buffer.from(`${at('t')}/`), BYTES]), 'bytes');
  writeFileSync(at('t', 'n'.repeat(255)), 'long');
  writeFileSync(at('t/d/none'), '');
  writeFileSync(at('t/d/big'), Buffer.alloc(3_000_001, 'big'));
  writeFileSync(at('t/z'), 'first of three');
  linkSync(at('t/z'), at('t/d/e/link'));
  linkSync(at('t/z'), at('t/zz'));
  symlinkSync('../nowhere', at('t/d/dangling'));
  symlinkSync('s'.repeat(300), at('t/d/far'));
  symlinkSync('/etc', at('t/d/absolute'));
  execFileSync('mkfifo', [at('t/d/fifo')]);
  writeFileSync(at('t/holes'), 'x');
  truncateSync(at('t/holes'), 60_000_000);
  appendFileSync(at('t/holes'), 'y');
  truncateSync(at('t/holes'), 120_000_000);
  chmodSync(at('t/d/none'), 0o4711);
  chmodSync(at('t/d'), 0o500);
  execFileSync('touch', ['-hd', '1965-01-02 03:04:05.123456789', at('t/empty')]);
  execFileSync('touch', ['-hd', '2106-02-07 07:28:16.000000001', at('t/d/dangling')]);
  if (isRoot) {
    execFileSync('mknod', [at('t/d/device'), 'c', '1', '3']);
    execFileSync('chown', ['4000000000:3000000', at('t/d/big')]);
  }
  if (has('setfattr')) execFileSync('setfattr', ['-n', 'user.bytes', '-v', '0x000aff', at('t/a b')]);
  if (has('setfacl')) execFileSync('setfacl', ['-m', 'u:1234:rw,g:77:x', at('t/a b')]);
  if (has('setfacl')) execFileSync('setfacl', ['-d', '-m', 'u:1234:rwx', at('t/empty')]);
  return { cwd, at };
}
