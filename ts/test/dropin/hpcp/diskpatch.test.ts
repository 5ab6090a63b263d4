/** Patches of whole disks: made and applied, conflicts, what is refused, and what a patch may not say. */
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { mismatches, parseTable, tableText } from '../../../src/ops/diskpatch.js';
import {
  bytes,
  contents,
  digest,
  disk,
  dump,
  MEMORY,
  mounted,
  must,
  places,
  WITHOUT_DISKS,
  within,
} from '../../rig/disks.js';
import { run } from '../../rig.js';

const hpcp = (cwd: string, ...args: string[]) => run(['hpcp', ...args], { cwd });
const told = ({ stdout, stderr }: { stdout: string; stderr: string }) => stdout + stderr;

/** hpcp 9.79, where scripts/setup --tests has put it, and what it takes for disks. */
const ORIGINAL = fileURLToPath(new URL('../../../../.setup/hpcp-9.79/hpcp.py', import.meta.url));
const LACKING = ['python3', 'sgdisk', 'losetup', 'lsblk', 'partx'].filter(
  (program) => spawnSync('sh', ['-c', `command -v ${program}`]).status !== 0,
);
if (!existsSync(ORIGINAL)) LACKING.push('hpcp 9.79 (scripts/setup --tests)');
if (WITHOUT_DISKS === undefined && LACKING.length === 0 && !givesPartitions()) LACKING.push('device of a partition');
if (LACKING.length > 0) console.log(`skip: patches of disks by the original: there is no ${LACKING.join(', ')}`);

/** Whether partitions of a loop device are devices, as far as the kernel or partx makes them. */
function givesPartitions(): boolean {
  const directory = mkdtempSync(join(MEMORY, 'bulkhaul-test-'));
  const path = join(directory, 'disk');
  disk(path, '4M', 'label: gpt\nsize=1MiB\n', []);
  const device = must('losetup', '--partscan', '--find', '--show', path).trim();
  try {
    spawnSync('partx', ['-a', device]);
    return existsSync(`${device}p1`);
  } finally {
    must('losetup', '-d', device);
    rmSync(directory, { recursive: true });
  }
}

/**
 * Its exit code. It needs a device for each partition, and the kernel may know no GPT: partx makes them then, and again when
 * sgdisk had the kernel look.
 */
function original(cwd: string, ...args: string[]): number | null {
  const env: Record<string, string> = {};
  for (const [program, device] of [
    ['losetup', '$out'],
    ['sgdisk', '$last'],
  ] as const) {
    const path = join(cwd, `${program}.sh`);
    const text = `#!/bin/sh
      out=$(${must('sh', '-c', `command -v ${program}`).trim()} "$@")
      code=$?
      printf '%s\\n' "$out"
      for last; do :; done
      case ${device} in /dev/loop*) partx -a ${device} > /dev/null 2>&1 ;; esac
      exit $code\n`;
    writeFileSync(path, text, { mode: 0o755 });
    env[`${program.toUpperCase()}_PATH`] = path;
  }
  return spawnSync('python3', [ORIGINAL, ...args], {
    ...{ cwd, stdio: 'ignore', timeout: 60_000 },
    env: { ...process.env, ...env },
  }).status;
}

const FACTS = {
  ...{ kind: 'fs', type_guid: 'A', unique_guid: 'B', name: 'tab\tand \\ line\n', attrs: '0'.repeat(16), size: '4096' },
  ...{ fs_type: 'ext4', fs_uuid: 'u', fs_label: '', fs_params: '' },
};

it('the table of a disk is read as it is written, and no other', () => {
  const old = { guid: 'G', sectorSize: 512, parts: new Map([[3, FACTS]]) };
  const now = { guid: 'H', sectorSize: 512, parts: new Map([[3, { ...FACTS, fs_uuid: 'v' }]]) };
  const text = tableText({ old, new: now });
  expect(parseTable(text)).toEqual({ old, new: now });
  expect(mismatches(old, now)).toEqual([]);
  for (const [from, to] of [
    ['#hpcp-disk\t1', '#hpcp-disk\t2'],
    ['part\t3\tattrs', 'part\t3\tnoise'],
    ['part\t3\tattrs', 'part\tx\tattrs'],
    ['part\t3\tattrs', 'disk\t3\tattrs'],
    ['part\t3\tattrs', 'part\t3\tname'],
    ['kind\tfs\tfs', 'kind\tfs\traw'],
    ['kind\tfs\tfs', 'kind\tx\tx'],
    ['\tu\tv\n', '\tu\n'],
  ] as const) {
    expect(text).toContain(from);
    expect(parseTable(text.replace(from, to)), to).toEqual(expect.any(String));
  }
  const raw = { ...now, parts: new Map([[3, { ...FACTS, kind: 'raw', size: '8192' }]]) };
  expect(mismatches(old, raw as typeof now)).toEqual(['partition 3 is compared by its bytes, and has 4096 and 8192']);
});

const ext4 = (device: string) => must('mkfs.ext4', '-q', '-L', 'root', '-b', '1024', device);
const TABLE = [
  'label: gpt\nlabel-id: 11111111-2222-4333-8444-555555555555\n',
  'size=1MiB,type=21686148-6449-6E6F-744E-656564454649,name="bios"\n',
  'size=4MiB,type=0657FD6D-A4AB-43C4-84E5-0933C84B4F4F\n',
  'size=12MiB,name=root\nsize=4MiB\n',
].join('');

/** A disk `base.img`, and `new.img`, which is other in all that a patch carries. */
function pair(cwd: string): void {
  const base = join(cwd, 'base.img');
  const now = join(cwd, 'new.img');
  disk(base, '24M', TABLE, [
    (device) => writeFileSync(device, Buffer.alloc(50_000, 'core')),
    (device) => must('mkswap', '-L', 'swappy', device),
    ext4,
    ext4,
  ]);
  const root = places(base)[2] ?? expect.fail();
  mounted(base, root, 'rw', (directory) => {
    mkdirSync(join(directory, 'd'));
    writeFileSync(join(directory, 'd/changed'), 'old');
    writeFileSync(join(directory, 'gone'), 'gone');
    writeFileSync(join(directory, 'same'), 'same');
  });
  must('cp', '--sparse=always', base, now);
  mounted(now, root, 'rw', (directory) => {
    writeFileSync(join(directory, 'd/changed'), 'new');
    writeFileSync(join(directory, 'd/added'), 'added');
    rmSync(join(directory, 'gone'));
  });
  within(now, root, (device) => {
    must('e2fsck', '-fp', device);
    must('tune2fs', '-U', '01234567-89ab-4def-8123-456789abcdef', '-L', 'other', device);
  });
  within(now, places(base)[1] ?? expect.fail(), (device) => must('swaplabel', '-L', 'other', device));
  const file = openSync(now, 'r+');
  writeSync(file, Buffer.alloc(440, 'code'), 0, 440, 0);
  writeSync(file, Buffer.from('CORE'), 0, 4, (places(base)[0]?.start ?? 0) + 1000);
  closeSync(file);
  must('sfdisk', '-q', '--disk-id', now, 'AAAAAAAA-BBBB-4CCC-8DDD-EEEEEEEEEEEE');
  must('sfdisk', '-q', '--part-label', now, '3', 'renamed é');
}

const twin = (cwd: string, from: string, to: string) => {
  must('cp', '--sparse=always', join(cwd, from), join(cwd, to));
  return join(cwd, to);
};

describe.skipIf(WITHOUT_DISKS !== undefined)('a patch of a disk', { timeout: 120_000 }, () => {
  let all: string;
  let cwd: string;
  let first: Awaited<ReturnType<typeof hpcp>>;
  const own = () => mkdtempSync(join(MEMORY, 'bulkhaul-test-'));
  beforeAll(async () => {
    if (WITHOUT_DISKS !== undefined) return;
    all = own();
    pair(all);
    first = await hpcp(all, '-dd', 'new.img', '-diff', 'p.img', '-d', 'base.img');
  });
  afterAll(() => {
    if (WITHOUT_DISKS === undefined) rmSync(all, { recursive: true });
  });
  beforeEach(() => {
    cwd = own();
    for (const name of ['base.img', 'new.img', 'p.img']) must('cp', '--sparse=always', join(all, name), cwd);
    onTestFinished(() => {
      rmSync(cwd, { recursive: true });
      expect(must('losetup', '--noheadings', '-O', 'BACK-FILE')).not.toContain(cwd);
    });
  });

  it('turns the one into the other: files, areas, boot code, identities; and passes over what is done', async () => {
    const before = ['base.img', 'new.img'].map((name) => digest(join(cwd, name)));
    const dry = await hpcp(cwd, '-dd', 'new.img', '-diff', 'x.img', '-d', 'base.img', '--dry-run');
    expect([dry.code, existsSync(join(cwd, 'x.img'))]).toEqual([0, false]);
    expect({ code: first.code, told: told(first) }).toEqual({
      code: 0,
      told: expect.stringContaining('Disk changes: 1 file system, 2 areas, 5 identities'),
    });
    expect(['base.img', 'new.img'].map((name) => digest(join(cwd, name)))).toEqual(before);
    const target = twin(cwd, 'base.img', 'target.img');
    const looked = await hpcp(cwd, '-siff', 'p.img', '-d', 'target.img', '--dry-run');
    expect([looked.code, digest(target)]).toEqual([0, before[0]]);
    const done = await hpcp(cwd, '-siff', 'p.img', '-d', 'target.img');
    expect({ code: done.code, told: told(done) }).toEqual({
      code: 0,
      told: expect.stringContaining('deleted 1, added 1, modified '),
    });
    isNew('target.img');
    within(target, places(target)[2] ?? expect.fail(), (device) => must('e2fsck', '-fn', device));
    const again = await hpcp(cwd, '-siff', 'p.img', '-d', 'target.img');
    expect({ code: again.code, told: told(again) }).toEqual({
      code: 0,
      told: expect.stringContaining('Disk patch: 1 file system, 0 areas, 0 identities to be changed'),
    });
    // Without a difference there is no patch.
    expect((await hpcp(cwd, '-dd', 'new.img', '-diff', 'none.img', '-d', 'target.img')).code).toBe(0);
    expect(existsSync(join(cwd, 'none.img'))).toBe(false);
  });

  it('leads back, in all that it changed, and was there before', async () => {
    const target = twin(cwd, 'base.img', 'target.img');
    // What is there already does not come, and does not go again.
    mounted(target, places(target)[2] ?? expect.fail(), 'rw', (root) => rmSync(join(root, 'gone')));
    const before = twin(cwd, 'target.img', 'before.img');
    const done = await hpcp(cwd, '-siff', 'p.img', '-d', 'target.img', '--undo', 'u.img');
    expect({ code: done.code, told: told(done) }).toEqual({
      code: 0,
      told: expect.stringContaining('note: u.img leads back: hpcp -siff u.img -d target.img'),
    });
    isNew('target.img');
    expect((await hpcp(cwd, '-siff', 'p.img', '-d', 'target.img', '--undo', 'nothing.img')).code).toBe(0);
    const back = await hpcp(cwd, '-siff', 'u.img', '-d', 'target.img');
    expect(back.code, told(back)).toBe(0);
    is('target.img', before);
    // And that has a way back, too.
    expect((await hpcp(cwd, '-siff', 'p.img', '-d', 'target.img')).code).toBe(0);
    isNew('target.img');
  });

  it('is not applied over what no patch could bring back, where it is to lead back', async () => {
    const target = twin(cwd, 'base.img', 'target.img');
    mounted(target, places(target)[2] ?? expect.fail(), 'rw', (root) => {
      rmSync(join(root, 'gone'));
      mkdirSync(join(root, 'gone'));
      writeFileSync(join(root, 'gone/theirs'), 'theirs');
    });
    const before = digest(target);
    const refused = await hpcp(cwd, '-siff', 'p.img', '-d', 'target.img', '-fa', '--undo', 'u.img');
    expect([refused.code, digest(target), existsSync(join(cwd, 'u.img'))]).toEqual([245, before, false]);
  });

  /** A disk is what the patch is to make of it. */
  function isNew(name: string): void {
    is(name, join(cwd, 'new.img'));
    expect(bytes(join(cwd, name), { start: 0, size: 440 })).toEqual(Buffer.alloc(440, 'code'));
  }

  /** One is as the other is, in all that a patch carries. */
  function is(name: string, now: string): void {
    const target = join(cwd, name);
    const [area = expect.fail(), , root = expect.fail()] = places(now);
    expect(dump(target)).toEqual(dump(now));
    expect(contents(target)).toEqual(contents(now));
    const code = { start: 0, size: 440 };
    expect(bytes(target, code).equals(bytes(now, code))).toBe(true);
    expect(bytes(target, area).equals(bytes(now, area))).toBe(true);
    const differences = mounted(target, root, 'ro,norecovery', (left) =>
      mounted(now, root, 'ro,norecovery', (right) =>
        must('rsync', '-aniHAX', '-O', '--checksum', '--delete', '--exclude', 'lost+found', `${left}/`, `${right}/`),
      ),
    );
    expect(differences).toBe('');
  }

  it.skipIf(LACKING.length > 0)('that hpcp 9.79 made is applied here', async () => {
    expect(original(cwd, '-dd', 'new.img', '-diff', 'q.img', '-d', 'base.img')).toBe(0);
    twin(cwd, 'base.img', 'target.img');
    const done = await hpcp(cwd, '-siff', 'q.img', '-d', 'target.img');
    expect(done.code, told(done)).toBe(0);
    isNew('target.img');
  });

  // It waits for partitions that a kernel without GPT does not make.
  const slow = process.env.BULKHAUL_EXHAUSTIVE === '1' && LACKING.length === 0;
  it.runIf(slow)('that was made here is applied by hpcp 9.79, and the one passes over what the other did', async () => {
    twin(cwd, 'base.img', 'target.img');
    // Without these partitions it ends with 248, and has done all.
    expect([0, 248]).toContain(original(cwd, '-siff', 'p.img', '-d', 'target.img'));
    isNew('target.img');
    const again = await hpcp(cwd, '-siff', 'p.img', '-d', 'target.img');
    expect([again.code, told(again)]).toEqual([0, expect.stringContaining('0 areas, 0 identities to be changed')]);
    expect(original(cwd, '-siff', 'p.img', '-d', 'target.img')).toBe(0);
    isNew('target.img');
  });

  it('changes nothing where something is neither what it was nor what it is to be; -fa overrules that', async () => {
    const target = twin(cwd, 'base.img', 'target.img');
    mounted(target, places(target)[2] ?? expect.fail(), 'rw', (root) =>
      writeFileSync(join(root, 'd/changed'), 'theirs'),
    );
    const area = twin(cwd, 'base.img', 'area.img');
    const file = openSync(area, 'r+');
    writeSync(file, Buffer.from('theirs'), 0, 6, places(area)[0]?.start ?? 0);
    closeSync(file);
    for (const path of [target, area]) {
      const before = digest(path);
      const refused = await hpcp(cwd, '-siff', 'p.img', '-d', path);
      expect([refused.code, digest(path)]).toEqual([245, before]);
      expect((await hpcp(cwd, '-siff', 'p.img', '-d', path, '-fa')).code).toBe(0);
      expect(dump(path)).toEqual(dump(join(cwd, 'new.img')));
      expect(contents(path)).toEqual(contents(join(cwd, 'new.img')));
    }
  });

  it('is refused for a disk that is not like its own, or that somebody has', async () => {
    disk(join(cwd, 'fewer.img'), '24M', TABLE.split('\n').slice(0, 4).join('\n'), []);
    disk(join(cwd, 'mbr.img'), '24M', 'label: dos\nsize=4MiB\n', []);
    mkdirSync(join(cwd, 'tree'));
    const device = must('losetup', '--find', '--show', twin(cwd, 'base.img', 'held.img')).trim();
    try {
      const before = readdirSync(cwd).map((name) => [name, name.endsWith('.img') && digest(join(cwd, name))]);
      for (const [code, args] of [
        [248, ['-siff', 'p.img', '-d', 'fewer.img']],
        [248, ['-siff', 'p.img', '-d', 'mbr.img']],
        [248, ['-siff', 'p.img', '-d', 'tree']],
        [251, ['-siff', 'p.img', '-d', 'held.img']],
        [242, ['-siff', 'p.img', '-d', 'base.img', '--undo', 'new.img']],
        [242, ['-siff', 'p.img', '-d', 'base.img', '--undo', 'absent/u.img']],
        [241, ['-siff', 'p.img', '-d', 'base.img', '-e', 'x']],
        [243, ['-siff', 'mbr.img', '-d', 'base.img']],
        [244, ['-siff', 'absent*', '-d', 'base.img']],
        [242, ['-dd', 'new.img', '-diff', 'p.img', '-d', 'base.img']],
        [248, ['-dd', 'new.img', '-diff', 'x.img', '-d', 'mbr.img']],
        [248, ['-dd', 'new.img', '-diff', 'x.img', '-d', 'fewer.img']],
        [241, ['-dd', 'new.img', '-diff', 'x.img']],
      ] as const) {
        const ran = await hpcp(cwd, ...args);
        expect(ran.code, `${args.join(' ')}: ${told(ran)}`).toBe(code);
      }
      expect(readdirSync(cwd).map((name) => [name, name.endsWith('.img') && digest(join(cwd, name))])).toEqual(before);
    } finally {
      must('losetup', '-d', device);
    }
  });

  it.each<[string, number, (manifest: string) => string]>([
    ['boot code longer than boot code', 243, (text) => text.replace(/(raw\tmbr\t.*\t)440/, '$1512')],
    ['bytes for a file system', 243, (text) => text.replace('part1\traw/part1', 'part3\traw/part3')],
    ['bytes of another size', 243, (text) => text.replace(/(raw\tpart1\t.*\t)1048576/, '$11048577')],
    ['files for swap', 243, (text) => text.replaceAll('part3', 'part2')],
    ['a list elsewhere', 243, (text) => text.replace('part3.changes.tsv', '../x')],
    ['a file elsewhere', 243, (text) => text.replace('raw/part1.img', 'raw/../part3/x')],
    ['what is not there', 244, (text) => text],
  ])('that says %s is refused', async (_, code, lie) => {
    mounted(join(cwd, 'p.img'), { start: 0, size: 0 }, 'rw', (root) => {
      const path = join(root, '.hpcp_diff/manifest');
      const text = readFileSync(path, 'utf8');
      writeFileSync(path, lie(text));
      if (lie(text) === text) rmSync(join(root, 'raw/part1.img'));
    });
    const before = digest(join(cwd, 'base.img'));
    const ran = await hpcp(cwd, '-siff', 'p.img', '-d', 'base.img', '-fa');
    expect(ran.code, told(ran)).toBe(code);
    expect(digest(join(cwd, 'base.img'))).toBe(before);
  });
});
