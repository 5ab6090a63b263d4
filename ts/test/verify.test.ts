/** `bulkhaul verify`: manifests of others and of ours, what it finds, and what it refuses. */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
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
import { describe, expect, it, onTestFinished } from 'vitest';
import { verify } from '../src/index.js';
import { executable, jsonLines, program, run, scratch } from './rig.js';

const has = (tool: string) => spawnSync(tool, ['--version']).error === undefined;
const NAMES = ['a', 'a b', ' lead', 'trail ', 'é', '-x', '*star', '#hash', 'back\\slash', 'new\nline', 'a!', 'a.b'];

/** A tree `t` of such names. */
function tree(names = NAMES) {
  const cwd = scratch();
  const at = (...names: string[]) => join(cwd, ...names);
  mkdirSync(at('t/d'), { recursive: true });
  for (const name of names) {
    writeFileSync(at('t', name), `in ${name}`);
    writeFileSync(at('t/d', name), `in d/${name}`);
  }
  writeFileSync(at('t/nothing'), '');
  writeFileSync(at('t/big'), Buffer.alloc(1_000_003, 'big'));
  const bh = (...args: string[]) => run(args, { cwd });
  return { cwd, at, bh };
}

/** The kinds of what was found, by path. */
async function findings(bh: (...args: string[]) => ReturnType<typeof run>, ...args: string[]) {
  const { code, stdout } = await bh('verify', '--json', ...args);
  const errors = jsonLines(stdout).filter(({ type }) => type === 'error');
  return { code, found: Object.fromEntries(errors.map(({ path, kind }) => [path, kind])) };
}

const flip = (path: string, at: number) => {
  const [byte = 0] = readFileSync(path).subarray(at);
  const file = openSync(path, 'r+');
  writeSync(file, Buffer.of(byte ^ 1), 0, 1, at);
  closeSync(file);
};

describe('a manifest of ours', () => {
  it.each([
    ['blake3 sums', ['-a', 'blake3']],
    ['sha256 sums', ['-a', 'sha256']],
    ['NUL-terminated', ['--nul', '-a', 'md5']],
    ['crc32c sums', ['-a', 'crc32c']],
    ['jsonl', ['--format', 'jsonl', '-a', 'xxh3', '-a', 'sha512']],
    ['bagit', ['--format', 'bagit', '--exclude', ' lead', '--exclude', '[*]star']],
  ])('%s: all is well, and a bit that flips is found', async (_, options) => {
    const { bh, at } = tree();
    const bag = options.includes('bagit');
    // Otherwise a name that tells nothing of the algorithm.
    const name = bag ? 't/manifest-sha512.txt' : 't/M';
    expect((await bh('manifest', ...options, '-o', name, 't/')).code).toBe(0);
    const words = [...(bag ? ['--no-extra'] : []), name];
    const { code, stdout, stderr } = await bh('verify', ...words);
    expect([code, stdout]).toEqual([0, '']);
    expect(stderr).toMatch(/^verified: \d\d files \(.*\) read back and equal/);
    expect(stderr).toMatch(/\ncomplete: \d+ entries\n$/);
    flip(at('t/big'), 777_777);
    expect(await findings(bh, ...words)).toEqual({ code: 1, found: { 't/big': 'mismatch' } });
  });

  it('hashdeep', async () => {
    const { bh, at } = tree(['a', 'é']);
    await bh('manifest', '--format', 'hashdeep', '-o', 't/M', 't/');
    expect((await bh('verify', 't/M')).code).toBe(0);
    flip(at('t/a'), 0);
    expect((await findings(bh, 't/M')).found).toEqual({ 't/a': 'mismatch' });
  });
});

describe('a manifest of others', () => {
  it.each([
    ['b3sum', [], 'SUMS'],
    ['sha256sum', [], 'SUMS'],
    ['sha256sum', ['--tag'], 'SUMS'],
    ['sha256sum', ['-z'], 'SUMS'],
    ['sha512sum', ['-b'], 'SHA512SUMS'],
    ['md5sum', [], 'files.md5'],
  ])('%s %j', async (tool, options, name) => {
    if (!has(tool)) return;
    const { bh, at } = tree();
    const files = ['big', 'nothing', ...NAMES.flatMap((each) => [each, `d/${each}`])];
    writeFileSync(at('t', name), execFileSync(tool, [...options, '--', ...files], { cwd: at('t') }));
    const { code, stderr } = await bh('verify', `t/${name}`);
    expect([code, stderr]).toEqual([0, expect.stringContaining('26 files')]);
    rmSync(at('t/a!'));
    expect(await findings(bh, `t/${name}`)).toEqual({ code: 1, found: { 't/a!': 'missing' } });
  });

  it('upper case, CRLF, from standard input, and many in a tree, each where it lies', async () => {
    const { cwd, bh, at } = tree(['a']);
    const sums = execFileSync('md5sum', ['a', 'd/a', 'big', 'nothing'], { cwd: at('t'), encoding: 'utf8' });
    const all = `; made by somebody\n# and by another\n\n${sums}`;
    const lines = all.replace(/^[0-9a-f]+/gm, (digits) => digits.toUpperCase()).replaceAll('\n', '\r\n');
    const piped = await run(['verify', '--in', 't', '-'], { cwd, input: lines });
    expect([piped.code, piped.stderr]).toEqual([0, expect.stringContaining('4 files')]);
    writeFileSync(at('t/d/a.md5'), execFileSync('md5sum', ['a'], { cwd: at('t/d') }));
    writeFileSync(at('t/rest.md5'), execFileSync('md5sum', ['a', 'big', 'nothing'], { cwd: at('t') }));
    expect((await bh('verify', 't/d/a.md5', 't/rest.md5')).code).toBe(0);
    flip(at('t/d/a'), 1);
    expect(Object.values((await findings(bh, 't/d/a.md5', 't/rest.md5')).found)).toEqual(['mismatch']);
  });
});

describe('a directory', () => {
  /** Deliveries below `t`, each with a manifest of another kind, and nothing beside them. */
  function delivered() {
    const { cwd, at, bh } = tree(['a']);
    const sum = (tool: string, at: string, ...names: string[]) => execFileSync(tool, names, { cwd: at });
    for (const name of ['one', 'two/deep', 'three', 'four']) {
      mkdirSync(at('t', name), { recursive: true });
      writeFileSync(at('t', name, 'x.bam'), `in ${name}`);
    }
    writeFileSync(at('t/one/x.bam.md5'), String(sum('md5sum', at('t/one'), 'x.bam')).slice(0, 32));
    writeFileSync(at('t/two/SHA256SUMS.txt'), sum('sha256sum', at('t/two'), 'deep/x.bam'));
    writeFileSync(at('t/three/md5checksums.txt'), String(sum('md5sum', at('t/three'), './x.bam')));
    execFileSync('gzip', [at('t/three/md5checksums.txt')]);
    writeFileSync(at('t/four/manifest-sha512.txt'), sum('sha512sum', at('t/four'), 'x.bam'));
    writeFileSync(at('t/rest.sha256'), sum('sha256sum', at('t'), 'a', 'big', 'nothing', 'd/a'));
    return { cwd, at, bh };
  }

  it('stands for the manifests below it, each about where it lies', async () => {
    const { bh, at } = delivered();
    // It is a tool, no manifest; and nobody follows links.
    writeFileSync(at('t/d/a'), readFileSync(at('t/d/a')));
    const { code, stderr } = await bh('verify', 't');
    expect([code, stderr]).toEqual([0, expect.stringContaining('verified: 8 files ')]);
    writeFileSync(at('t/two/new'), '');
    flip(at('t/one/x.bam'), 0);
    rmSync(at('t/four/x.bam'));
    mkdirSync(at('elsewhere'));
    writeFileSync(at('elsewhere/M.md5'), 'no manifest');
    symlinkSync('../elsewhere', at('t/link'));
    expect(await findings(bh, 't/')).toEqual({
      code: 1,
      found: { 't/two/new': 'extra', 't/one/x.bam': 'mismatch', 't/four/x.bam': 'missing' },
    });
    expect(await findings(bh, '--exclude', 'one/', '--exclude', '/four', '--no-extra', 't')).toMatchObject({ code: 0 });
    // Beside others, and of a copy of what was delivered.
    expect(Object.keys((await findings(bh, '--no-extra', 't/one', 't/two/SHA256SUMS.txt')).found)).toHaveLength(1);
    execFileSync('cp', ['-a', at('t'), at('copy')]);
    flip(at('copy/three/x.bam'), 0);
    expect((await findings(bh, '--no-extra', '--in', 'copy', 't')).found).toEqual({
      'copy/one/x.bam': 'mismatch',
      'copy/three/x.bam': 'mismatch',
      'copy/four/x.bam': 'missing',
    });
  });

  it('is repaired from a copy, by its manifests', async () => {
    const { bh, at } = delivered();
    execFileSync('cp', ['-a', at('t'), at('copy')]);
    flip(at('t/one/x.bam'), 0);
    execFileSync('touch', ['-r', at('copy/one/x.bam'), at('t/one/x.bam')]);
    rmSync(at('t/two/deep/x.bam'));
    expect((await bh('verify', '--in', 't', '--repair-from', 'copy', 't')).code).toBe(0);
    expect((await bh('verify', 't')).code).toBe(0);
  });

  it('without a manifest is refused, and so is a file that is called one and is none', async () => {
    const { bh, at } = tree(['a']);
    for (const name of ['md5sum', '.md5', 'a.sha1', 'sha256.txt.bak'])
      writeFileSync(at('t', name), 'nothing of the kind');
    expect(await bh('verify', 't')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('t: no manifest lies below'),
    });
    writeFileSync(at('t/d/reads.md5'), 'nothing of the kind');
    expect(await bh('verify', 't')).toMatchObject({ code: 2, stderr: expect.stringContaining('t/d/reads.md5: ') });
  });

  it('of large files, each beside its manifest, is read once', async () => {
    const { bh, at } = tree(['a']);
    const size = 300 * 1024 * 1024;
    mkdirSync(at('u'));
    execFileSync('truncate', ['-s', String(size), at('u/x')]);
    writeFileSync(at('u/x.sha256'), execFileSync('sha256sum', ['x'], { cwd: at('u') }));
    const { code, stdout } = await bh('verify', '--json', 'u');
    const { hashedBytes, verifiedBytes } = jsonLines(stdout).at(-1) ?? {};
    expect({ code, hashedBytes, verifiedBytes }).toEqual({ code: 0, hashedBytes: size, verifiedBytes: size });
  });
});

describe('what was not as it should be', () => {
  const summary = (stdout: string) => jsonLines(stdout).at(-1);

  it.each([
    ['one manifest', ['M'], 'mv t/d/a.kept t/d/a'],
    ['manifests in several places', ['t/d/D.md5', 't/rest.md5'], 'mv t/d/a.kept t/d/a'],
    ['a directory of manifests', ['t'], 'mv t/d/a.kept t/d/a'],
  ])('is verified again alone: %s', async (_, manifests, mend) => {
    const { cwd, bh, at } = tree(['a']);
    await bh('manifest', '-a', 'md5', '-o', 't/rest.md5', '--exclude', '/d', 't/');
    await bh('manifest', '-a', 'md5', '-o', 't/d/D.md5', 't/d/');
    await bh('manifest', '-o', 'M', '--exclude', '*.md5', 't/');
    const where = manifests.includes('M') ? ['--in', 't', '--exclude', '*.md5'] : [];
    const state = ['--journal', '--state-dir', 'state'];
    execFileSync('mv', [at('t/d/a'), at('t/d/a.kept')]);
    writeFileSync(at('t/d/a'), 'damaged');
    writeFileSync(at('t/new'), '');
    const verified = await bh('verify', ...where, ...manifests, ...state);
    expect([verified.code, verified.stderr]).toEqual([1, expect.stringContaining('2 extra')]);
    execFileSync('sh', ['-c', mend], { cwd });
    const again = () => bh('resume', '--retry-failed', '--json', '--state-dir', 'state');
    const first = await again();
    expect(first.code).toBe(1);
    // Of three files that are right only the one that was not is read.
    expect(summary(first.stdout)).toMatchObject({ verifiedFiles: 1, failureKinds: { extra: 1 } });
    rmSync(at('t/new'));
    const second = await again();
    expect([second.code, summary(second.stdout)]).toEqual([0, expect.objectContaining({ verifiedFiles: 0 })]);
    expect((await bh('status', '--state-dir', 'state')).stdout).toMatch(/ done /);
  });
});

describe('a manifest of Windows', () => {
  it('has backslashes for slashes, which is told, and leads nowhere else', async () => {
    const { bh, at } = tree(['a', 'é']);
    const sums = (tool: string) =>
      String(execFileSync(tool, ['a', 'big', 'd/a', 'd/é'], { cwd: at('t') }))
        .replaceAll('d/', 'd\\')
        .replaceAll('\n', '\r\n');
    for (const tool of ['md5sum', 'sha256sum']) {
      writeFileSync(at('M'), sums(tool));
      const { code, stderr } = await bh('verify', '--no-extra', '--in', 't', 'M');
      expect([code, stderr]).toEqual([
        0,
        expect.stringMatching(/^verified: 4 files[\s\S]*\nnote \(backslashes, 1x\): /),
      ]);
    }
    flip(at('t/d/a'), 1);
    expect(await findings(bh, '--no-extra', '--in', 't', 'M')).toEqual({ code: 1, found: { 't/d/a': 'mismatch' } });
    writeFileSync(at('M'), `${sums('md5sum')}${'0'.repeat(32)}  ..\\..\\etc\\passwd\r\n`);
    expect(await bh('verify', '--no-extra', '--in', 't', 'M')).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/M: line 5: the path .* has '\.\.'/),
    });
    // Here such names may be there: they are what they are.
    writeFileSync(at('t/d\\a'), 'of another kind');
    writeFileSync(at('M'), execFileSync('md5sum', ['-z', 'd\\a', 'd/a'], { cwd: at('t') }));
    expect((await bh('verify', '--no-extra', '--in', 't', 'M')).code).toBe(0);
  });
});

describe('what peers have stumbled over', () => {
  it('names that look like digests, `./`, percent signs, and digests from standard input', async () => {
    const { bh, at } = tree(['a']);
    const names = [
      'grandes roussieres 1.pm',
      'FTP/one/senate transcoded.mp4',
      'AABBCCD DEEFFGGHH',
      '100% done',
      'a%20b',
    ];
    mkdirSync(at('t/FTP/one'), { recursive: true });
    for (const name of names) writeFileSync(at('t', name), `in ${name}`);
    const sums = String(execFileSync('md5sum', names, { cwd: at('t') }));
    writeFileSync(at('M'), sums.replace(/ {2}/g, '  ./'));
    expect((await bh('verify', '--no-extra', '--in', 't', 'M')).code).toBe(0);
    // Many tools for bags write percent signs as they are.
    writeFileSync(at('t/manifest-md5.txt'), sums);
    expect((await bh('verify', '--no-extra', 't/manifest-md5.txt')).code).toBe(0);
    // xxhsum marks the digests of its newer hash.
    const { stdout } = await bh('manifest', '-a', 'xxh3', 't/');
    writeFileSync(at('M'), stdout.replace(/^/gm, 'XXH3_').replace(/XXH3_$/, ''));
    expect((await bh('verify', '--in', 't', 'M')).code).toBe(0);
    writeFileSync(at('M'), execFileSync('md5sum', ['-'], { input: 'x' }));
    expect(await findings(bh, '--no-extra', '--in', 't', 'M')).toEqual({ code: 1, found: { 't/-': 'missing' } });
  });

  it('of two files with one content one may not be missing, and an empty one counts too', async () => {
    const { bh, at } = tree(['a']);
    for (const name of ['one', 'other', 'empty', 'd/empty'])
      writeFileSync(at('t', name), name.endsWith('y') ? '' : 'same');
    writeFileSync(at('M'), execFileSync('hashdeep', ['-rl', '.'], { cwd: at('t') }));
    expect((await bh('verify', '--in', 't', 'M')).code).toBe(0);
    rmSync(at('t/other'));
    renameSync(at('t/d/empty'), at('t/d/moved'));
    expect(await findings(bh, '--in', 't', 'M')).toEqual({
      code: 1,
      found: { 't/other': 'missing', 't/d/empty': 'missing', 't/d/moved': 'extra' },
    });
  });
});

describe('a bit that flips in the medium', () => {
  it.skipIf(process.getuid?.() !== 0)('is found where what is in memory is as it was', async () => {
    const { cwd, bh, at } = tree(['a']);
    execFileSync('truncate', ['-s', '64M', at('image')]);
    execFileSync('mkfs.ext4', ['-q', '-F', at('image')]);
    mkdirSync(at('m'));
    const mounted = await program('mount', ['-o', 'loop', at('image'), at('m')]);
    if (mounted.code !== 0) return console.log(`skip: ${mounted.stderr}`);
    onTestFinished(async () => void (await program('umount', [at('m')])));
    const mark = `of ${cwd} `;
    mkdirSync(at('m/t'));
    writeFileSync(at('m/t/a'), mark.repeat(20_000));
    await bh('manifest', '-a', 'md5', '-o', 'M', 'm/t/');
    execFileSync('sync', ['-f', at('m')]);
    flip(at('image'), readFileSync(at('image')).indexOf(mark.repeat(9)) + 5000);
    // Who reads the file is told what it was.
    execFileSync('md5sum', ['-c', '--quiet', '../../M'], { cwd: at('m/t') });
    expect(await findings(bh, '--in', 'm/t', '--exclude', 'lost+found', 'M')).toEqual({
      code: 1,
      found: { 'm/t/a': 'mismatch' },
    });
  });
});

describe('a read that gives the copy other bytes than there are', () => {
  const POKED = 'inject=read,pread64:poke_exit=@arg2=deadbeef:when=1';
  const pokes = spawnSync('strace', ['-qq', '-o', '/dev/null', '-P', '/absent', '-e', POKED, 'true']).status === 0;

  /** Copies `t` to `c` while the first read of the one large file is falsified. */
  function copied(cwd: string, ...options: string[]) {
    const elsewhere = 'inject=copy_file_range,sendfile:error=EXDEV';
    const calls = ['-e', 'trace=read,pread64,copy_file_range,sendfile', '-e', POKED, '-e', elsewhere];
    const copy = [executable, 'copy', '--jobs', '1', '--no-journal', '--json', '--quiet', ...options, 't/', 'c'];
    const traced = ['-f', '-qq', '-o', '/dev/null', '-P', join(cwd, 't/big'), ...calls, process.execPath, ...copy];
    return program('strace', traced, { cwd });
  }

  it.skipIf(!pokes)('is found by the manifest of the source', async () => {
    const { cwd, bh, at } = tree(['a']);
    await bh('manifest', '-o', 'M', 't/');
    expect((await copied(cwd)).code).toBe(0);
    expect(readFileSync(at('c/big')).equals(readFileSync(at('t/big')))).toBe(false);
    expect(await findings(bh, '--in', 'c', 'M')).toEqual({ code: 1, found: { 'c/big': 'mismatch' } });
  });

  it.skipIf(!pokes)('is found by --verify, and copied once more', async () => {
    const { cwd, at } = tree(['a']);
    const { code, stdout } = await copied(cwd, '--verify');
    const { copiedBytes, foundBytes, verifiedFiles, outcomes } = jsonLines(stdout).at(-1) ?? {};
    expect({ code, verifiedFiles, outcomes }).toMatchObject({ code: 0, verifiedFiles: 4, outcomes: { mismatched: 0 } });
    execFileSync('diff', ['-r', at('t'), at('c')]);
    // What was taken back is not written.
    expect(copiedBytes).toBe(foundBytes);
  });
});

describe('a manifest in UTF-16', () => {
  it.each([
    ['as PowerShell writes it', (text: string) => Buffer.from(`\ufeff${text}`, 'utf16le')],
    ['of the other order', (text: string) => Buffer.from(`\ufeff${text}`, 'utf16le').swap16()],
  ])('%s', async (_, written) => {
    const { cwd, bh, at } = tree(['a']);
    writeFileSync(at('t/d/\u{1f600} ä'), 'a smile');
    const sums = execFileSync('sha256sum', ['a', 'big', 'nothing', 'd/a', 'd/\u{1f600} ä'], { cwd: at('t') });
    // Of more than one piece.
    const comments = Array.from({ length: 40_000 }, (_, line) => `# \u{1f600} ${line}\r\n`).join('');
    const bytes = written(String(sums).replaceAll('\n', '\r\n') + comments);
    writeFileSync(at('t/SUMS'), bytes);
    expect(await bh('verify', 't/SUMS')).toMatchObject({ code: 0, stderr: expect.stringContaining('5 files') });
    const piped = await run(['verify', '--in', 't', '--exclude', 'SUMS', '-'], { cwd, input: bytes });
    expect(piped.code).toBe(0);
    flip(at('t/d/\u{1f600} ä'), 1);
    expect(await findings(bh, 't/SUMS')).toEqual({ code: 1, found: { 't/d/\u{1f600} ä': 'mismatch' } });
    writeFileSync(at('t/SUMS'), bytes.subarray(0, -1));
    expect(await bh('verify', 't/SUMS')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('t/SUMS: it begins as UTF-16, and is none'),
    });
  });
});

describe('a manifest that is compressed', () => {
  it.each([
    ['gzip', 'gz'],
    ['bgzip', 'gz'],
    ['pigz', 'gz'],
    ['xz', 'xz'],
    ['zstd', 'zst'],
  ])('%s', async (tool, suffix) => {
    if (!has(tool)) return;
    const { cwd, bh, at } = tree();
    await bh('manifest', '-a', 'sha256', '-o', 't/SHA256SUMS', 't/');
    // Of more than one piece, on either side.
    const more = Array.from({ length: 40_000 }, (_, line) => `# ${line} ${line * 7919}\n`).join('');
    const packed = execFileSync(tool, ['-c'], { input: readFileSync(at('t/SHA256SUMS')), maxBuffer: 1 << 26 });
    const rest = execFileSync(tool, ['-c'], { input: more, maxBuffer: 1 << 26 });
    rmSync(at('t/SHA256SUMS'));
    const name = `t/SHA256SUMS.${suffix}`;
    writeFileSync(at(name), Buffer.concat([packed, rest]));
    const { code, stderr } = await bh('verify', name);
    expect([code, stderr]).toEqual([0, expect.stringContaining('26 files')]);
    const piped = await run(['verify', '-a', 'sha256', '--in', 't', '--exclude', 'SHA*', '-'], {
      cwd,
      input: readFileSync(at(name)),
    });
    expect(piped.code).toBe(0);
    // What is cut short, or damaged, is no shorter manifest.
    writeFileSync(at(name), packed.subarray(0, -9));
    expect(await bh('verify', name)).toMatchObject({ code: 2, stderr: expect.stringContaining(name) });
    writeFileSync(at(name), packed);
    flip(at(name), Math.floor(packed.length / 2));
    expect((await bh('verify', name)).code).toBe(2);
  });

  it('of a bag, and beside its file; one that is not read here is named', async () => {
    const { bh, at } = tree(['100%']);
    await bh('manifest', '--format', 'bagit', '-o', 't/manifest-sha512.txt', 't/');
    execFileSync('gzip', [at('t/manifest-sha512.txt')]);
    expect((await bh('verify', 't/manifest-sha512.txt.gz')).code).toBe(0);
    const [digest = ''] = String(execFileSync('md5sum', [at('t/big')])).split(' ');
    writeFileSync(at('t/big.md5'), `${digest}\n`);
    execFileSync('gzip', [at('t/big.md5')]);
    expect((await bh('verify', '--no-extra', 't/big.md5.gz')).code).toBe(0);
    writeFileSync(at('M'), 'BZh91AY&SY');
    expect(await bh('verify', 'M')).toMatchObject({ code: 2, stderr: expect.stringContaining('M: it is bzip2') });
  });
});

describe('what it finds', () => {
  it('goes on to the end, names each, and sums up', async () => {
    const { bh, at } = tree();
    await bh('manifest', '-o', 'M', 't/');
    flip(at('t/a'), 0);
    rmSync(at('t/a b'));
    writeFileSync(at('t/d/new'), '');
    rmSync(at('t/a.b'));
    mkdirSync(at('t/a.b'));
    renameSync(at('t/é'), at('t/moved'));
    symlinkSync('moved', at('t/é'));
    mkdirSync(at('t/nothing else'));
    const { code, stderr } = await bh('verify', '--in', 't', 'M');
    expect(code).toBe(1);
    const said = stderr.split('\n');
    for (const line of [
      /^bulkhaul: verify t\/a: its content is not that of line \d+ of M, by its blake3 digest$/,
      /^bulkhaul: verify t\/a b: it is missing, and line \d+ of M names it$/,
      /^bulkhaul: verify t\/a\.b: it is a directory, and line \d+ of M says a file$/,
      /^bulkhaul: verify t\/é: it is a symlink, and line \d+ of M says a file$/,
      /^bulkhaul: verify t\/moved: it is extra: no manifest names it$/,
      /^bulkhaul: verify t\/d\/new: it is extra: no manifest names it$/,
      /^MISMATCHED: 1 with other content, 1 missing, 2 of another kind, 2 extra \(exit 1\)$/,
    ]) {
      expect(said, String(line)).toContainEqual(expect.stringMatching(line));
    }
    const { found } = await findings(bh, '--in', 't', '--no-extra', 'M');
    expect(Object.values(found).sort()).toEqual(['kind', 'kind', 'mismatch', 'missing']);
  });

  it.each([
    ['NFC', 'NFD'],
    ['NFD', 'NFC'],
  ])('a name in %s that is there in %s is missing, and that is said', async (listed, is) => {
    const name = 'J\u00fcrgen/\uac00.bam';
    const { bh, at } = tree([]);
    mkdirSync(at('t', name.normalize(is), '..'), { recursive: true });
    writeFileSync(at('t', name.normalize(is)), 'reads');
    await bh('manifest', '-o', 'M', 't/');
    writeFileSync(at('M'), readFileSync(at('M'), 'utf8').normalize(listed));
    const { code, stderr } = await bh('verify', '--in', 't', 'M');
    const said = stderr.split('\n').filter((line) => line.startsWith('bulkhaul: verify '));
    expect({ code, said: said.sort() }).toEqual({
      code: 1,
      said: [
        `bulkhaul: verify t/${name.normalize(is)}: it is extra: no manifest names it`,
        `bulkhaul: verify t/${name.normalize(listed)}: it is missing, and line 1 of M names it; what is there has its name in ${is}`,
      ].sort(),
    });
  });

  it('jsonl: links, directories, sizes and what is extra of all kinds', async () => {
    const { bh, at } = tree(['a']);
    symlinkSync('a', at('t/link'));
    await bh('manifest', '--format', 'jsonl', '-o', 'M', 't/');
    expect((await bh('verify', '--in', 't', 'M')).code).toBe(0);
    rmSync(at('t/link'));
    symlinkSync('d', at('t/link'));
    writeFileSync(at('t/d/a'), 'longer than before');
    mkdirSync(at('t/e'));
    const all = { 't/link': 'mismatch', 't/d/a': 'mismatch', 't/e': 'extra' };
    expect(await findings(bh, '--in', 't', 'M')).toEqual({ code: 1, found: all });
    // Without reading anything.
    expect(await findings(bh, '--in', 't', '--quick', 'M')).toEqual({ code: 1, found: all });
  });

  it('--quick says that it read nothing, and finds nothing that only content tells', async () => {
    const { bh, at } = tree(['a']);
    await bh('manifest', '-o', 't/M', 't/');
    flip(at('t/a'), 0);
    const { code, stderr } = await bh('verify', '--quick', 't/M');
    expect([code, stderr]).toEqual([0, expect.stringContaining('by names, kinds and sizes only: no content was read')]);
  });

  it('never leaves the directory through a link', async () => {
    const { bh, at } = tree(['a']);
    mkdirSync(at('other'));
    writeFileSync(at('other/a'), 'in d/a');
    await bh('manifest', '-a', 'md5', '-o', 'M', 't/');
    rmSync(at('t/d'), { recursive: true });
    symlinkSync('../other', at('t/d'));
    expect(await findings(bh, '--in', 't', 'M')).toEqual({ code: 1, found: { 't/d/a': 'missing' } });
  });

  it.skipIf(process.getuid?.() !== 0)('what can not be read is 23', async () => {
    const { cwd, bh, at } = tree(['a']);
    await bh('manifest', '-o', 'M', 't/');
    chmodSync(at('t/a'), 0);
    chmodSync(cwd, 0o755);
    const args = ['--reuid=65534', '--clear-groups', process.execPath, '--input-type=module', '-e'];
    const library = new URL('../dist/index.js', import.meta.url).href;
    const program = `import { verify } from '${library}';
      const { exitCode, failureKinds } = await verify({ manifests: 'M', directory: 't' });
      console.log(JSON.stringify([exitCode, failureKinds]));`;
    const { stdout } = spawnSync('setpriv', [...args, program], { cwd, encoding: 'utf8' });
    expect(stdout).toBe('[23,{"unreadable":1}]\n');
  });
});

describe('what it refuses', () => {
  const zeros = '0'.repeat(32);
  it.each([
    ['nothing', '', 'line 1: nothing is listed'],
    ['comments only', '# nothing\n', 'M'],
    ['an absolute path', `${zeros}  /etc/passwd\n`, "line 1: the path '/etc/passwd' is absolute"],
    ['a way out', `${zeros}  a\n${zeros}  d/../../x\n`, "line 2: the path 'd/../../x' has '..'"],
    ['lines that disagree', `${zeros}  a\n${zeros}  b\n${'1'.repeat(32)}  a\n`, 'line 3: '],
    ['a line that is none', `${zeros}  a\nnonsense\n`, 'line 2: no line of checksums'],
    ['something else', 'hello\n', 'it is no manifest of a form that is known here'],
    ['an algorithm that is not known', `${'0'.repeat(40)}  a\n`, 'as SHA-1 has'],
  ])('%s', async (_, text, said) => {
    const { bh, at } = tree(['a']);
    writeFileSync(at('M'), text);
    const { code, stdout, stderr } = await bh('verify', '--in', 't', 'M');
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toContain(said);
  });

  it('an algorithm that the files are not of, by its name, not by a mismatch of each', async () => {
    const { bh } = tree();
    await bh('manifest', '-a', 'blake3', '-o', 't/SHA256SUMS', 't/');
    const { code, stderr } = await bh('verify', 't/SHA256SUMS');
    expect(code).toBe(2);
    expect(stderr).toContain('its digests are of blake3, where sha256 was expected');
    expect((await bh('verify', '-a', 'blake3', 't/SHA256SUMS')).code).toBe(0);
    expect((await bh('verify', '-a', 'md5', 't/SHA256SUMS')).code).toBe(2);
  });

  it('standard input without --in', async () => {
    const { bh } = tree(['a']);
    expect(await bh('verify', '-')).toMatchObject({ code: 2, stderr: expect.stringContaining('--in DIR') });
  });
});

it('the library gives the findings as events', async () => {
  const { bh, at } = tree(['a']);
  await bh('manifest', '-o', 't/M', 't/');
  flip(at('t/a'), 0);
  const job = verify({ manifests: at('t/M'), entries: true });
  const told: string[] = [];
  for await (const event of job) {
    if (event.type === 'entry') told.push(`${event.outcome} ${event.path}`);
    if (event.type === 'error') told.push(`${event.kind} ${event.path}`);
  }
  expect(told).toEqual(expect.arrayContaining([`mismatch ${at('t/a')}`, 'mismatched a', 'same d/a', 'same big']));
  expect(await job).toMatchObject({ complete: false, exitCode: 1, verifiedFiles: 3 });
});

describe('a digest alone', () => {
  it.each([
    ['md5', 'md5', (hex: string) => hex],
    ['sha256', 'sha256', (hex: string) => `${hex.toUpperCase()}\r\n`],
    ['b3', 'blake3', (hex: string) => `  ${hex}\n`],
    ['xxh3', 'xxh3', (hex: string) => `${hex}\n`],
    // As `md5sum < FILE > FILE.md5` has it.
    ['md5sum', 'md5', (hex: string) => `${hex}  -\n`],
    ['sha512', 'sha512', (hex: string) => `${hex} *-\r\n`],
  ])('in FILE.%s is that of FILE', async (suffix, algorithm, written) => {
    const { at, bh } = tree(['a', 'back\\slash']);
    for (const name of ['a', 'back\\slash', 'big']) {
      const { stdout } = await bh('manifest', '-a', algorithm, '--nul', `t/${name}`);
      writeFileSync(at('t', `${name}.${suffix}`), written(stdout.split(' ', 1)[0] ?? ''));
    }
    const given = ['a', 'back\\slash', 'big'].map((name) => `t/${name}.${suffix}`);
    expect(await findings(bh, '--no-extra', ...given)).toEqual({ code: 0, found: {} });
    flip(at('t/big'), 999_999);
    expect(await findings(bh, '--no-extra', ...given)).toEqual({ code: 1, found: { 't/big': 'mismatch' } });
  });

  it('is refused where no name says of what, or of which algorithm', async () => {
    const { at, bh } = tree(['a']);
    for (const [name, content] of [
      ['.md5', 'a'.repeat(32)],
      ['a.txt', 'a'.repeat(32)],
      ['a.md5', 'a'.repeat(64)],
    ] as const) {
      writeFileSync(at('t', name), content);
      expect((await bh('verify', `t/${name}`)).code, name).toBe(2);
    }
  });
});

it('of blake3 or sha256, when no file is as it was: told, and every file is a mismatch', async () => {
  const { at, bh } = tree(['a']);
  await bh('manifest', '-a', 'sha256', '-o', 'M', 't/');
  for (const name of ['a', 'd/a', 'big', 'nothing']) writeFileSync(at('t', name), 'damaged');
  const { code, stderr } = await bh('verify', '--in', 't', 'M');
  expect(code).toBe(1);
  expect(stderr).toMatch(/note \(algorithm, 1x\): its digests may be of blake3 or of sha256, and no file tells which/);
  expect(stderr).toMatch(/4 failures: 4 mismatch/);
});

it('--exclude: neither what is extra nor what is listed is verified, and that is said', async () => {
  const { at, bh } = tree(['a']);
  await bh('manifest', '-o', 'M', 't/');
  writeFileSync(at('t/a'), 'damaged');
  writeFileSync(at('t/extra.tmp'), '');
  rmSync(at('t/d'), { recursive: true });
  expect((await findings(bh, '--in', 't', 'M')).code).toBe(1);
  const excluded = ['--exclude', '/d', '--exclude', '*.tmp', '--exclude', '/a'];
  expect(await findings(bh, '--in', 't', ...excluded, 'M')).toEqual({ code: 0, found: {} });
  const { stderr } = await bh('verify', '--in', 't', ...excluded, 'M');
  expect(stderr).toMatch(/excluded, 2x\): what is excluded is not verified, though a manifest lists it, first at t\/a/);
  expect(await findings(bh, '--in', 't', '--include', '/a', ...excluded, 'M')).toEqual({
    code: 1,
    found: { 't/a': 'mismatch' },
  });
});

describe('--sample', () => {
  it('reads every file once in so many runs; what was interrupted comes again; a missing file is found each time', async () => {
    const { at, bh } = tree();
    await bh('manifest', '-o', 'M', 't/');
    const scrub = async (...options: string[]) => {
      const { code, stderr, stdout } = await bh('verify', '--in', 't', '--sample', '25%', ...options, 'M');
      return { code, stderr, stdout };
    };
    const read: number[] = [];
    for (let night = 1; night <= 8; night += 1) {
      const { code, stderr } = await scrub();
      expect([code, stderr]).toEqual([0, expect.stringContaining(`sample: part ${((night - 1) % 4) + 1} of 4, `)]);
      read.push(Number(/verified: (\d+) files?/.exec(stderr)?.[1] ?? 0));
    }
    expect([read.slice(0, 4), read.slice(4)].map((parts) => parts.reduce((a, b) => a + b))).toEqual([26, 26]);
    expect(read.slice(0, 4)).toEqual(read.slice(4));
    rmSync(at('t/a'));
    flip(at('t/big'), 7);
    const found = [];
    for (let night = 0; night < 4; night += 1) {
      // Nothing is read, and nothing is moved on.
      expect((await scrub('--max-duration', '0.001', '--bwlimit', '1')).code).toBe(130);
      found.push(await findings(bh, '--in', 't', '--sample', '25%', 'M'));
    }
    expect(found.map(({ found }) => found['t/a'])).toEqual(Array(4).fill('missing'));
    expect(found.filter(({ found }) => found['t/big'] === 'mismatch')).toHaveLength(1);
  });

  it.each([
    [['--sample', '5', 'M'], /--sample: 5 is no part of all, such as 5%/],
    [['--sample', '0%', 'M'], /is no part of all/],
    [['--sample', '5%', '--quick', 'M'], /--quick reads no content/],
    [['--sample', '5%', '--in', 't', '-'], /by their names/],
  ])('%s is refused', async (args, why) => {
    const { code, stderr } = await run(['verify', ...args], { cwd: scratch() });
    expect([code, stderr]).toEqual([2, expect.stringMatching(why)]);
  });
});

describe('--repair-from', () => {
  /** A tree with a manifest, and a copy of it. */
  async function copied() {
    const made = tree();
    await made.bh('manifest', '-o', 'M', 't/');
    execFileSync('cp', ['-a', made.at('t'), made.at('copy')]);
    const verified = (...options: string[]) => made.bh('verify', '--in', 't', ...options, 'M');
    return { ...made, verified };
  }
  /** Another bit, and no time that tells it. */
  const rot = (path: string, at: number) => {
    execFileSync('cp', ['-a', path, `${path}.kept`]);
    flip(path, at);
    execFileSync('touch', ['-r', `${path}.kept`, path]);
    rmSync(`${path}.kept`);
  };

  it('writes anew what is damaged or missing here and good there, with all that the copy has', async () => {
    const { at, verified } = await copied();
    rot(at('t/big'), 500_000);
    rot(at('t/new\nline'), 1);
    rmSync(at('t/d'), { recursive: true });
    chmodSync(at('copy/a'), 0o640);
    rot(at('t/a'), 0);
    const { code, stderr } = await verified('--repair-from', 'copy');
    expect([code, stderr]).toEqual([0, expect.stringMatching(/repaired: big\n[\s\S]*repaired: new\\nline\n/)]);
    expect(stderr).toMatch(/\nrepaired: 15 files written anew from copy, and verified again\ncomplete: \d+ entries\n$/);
    expect((await verified()).code).toBe(0);
    execFileSync('diff', ['-r', at('t'), at('copy')]);
    expect(readdirSync(at('t')).filter((name) => name.startsWith('.bh'))).toEqual([]);
  });

  it('a directory that is listed and missing is there again with its files; an empty one is not made', async () => {
    const { at, bh } = await copied();
    mkdirSync(at('t/empty'));
    mkdirSync(at('copy/empty'));
    await bh('manifest', '--format', 'jsonl', '-o', 'J', 't/');
    rmSync(at('t/d'), { recursive: true });
    const repairing = () => bh('verify', '--in', 't', '--repair-from', 'copy', '--json', 'J');
    const told = (stdout: string) => {
      const all = jsonLines(stdout);
      const errors = all.flatMap(({ type, kind, path }) => (type === 'error' ? [[kind, path]] : []));
      const { outcomes, directories } = all.at(-1) ?? {};
      return { errors, outcomes, directories };
    };
    const { code, stdout } = await repairing();
    expect({ code, ...told(stdout) }).toMatchObject({
      code: 0,
      errors: [],
      outcomes: { made: 1, copied: NAMES.length, mismatched: 0 },
      directories: { made: 1, mismatched: 0 },
    });
    rmSync(at('t/empty'), { recursive: true });
    const again = await repairing();
    expect({ code: again.code, ...told(again.stdout) }).toMatchObject({
      code: 1,
      errors: [['missing', 't/empty']],
      outcomes: { made: 0, copied: 0, mismatched: 1 },
      directories: { made: 0, mismatched: 1 },
    });
  });

  it('leaves what the copy has not either, and what was written to after it', async () => {
    const { at, verified } = await copied();
    rot(at('t/big'), 1);
    rot(at('copy/big'), 2);
    writeFileSync(at('t/a'), 'written on purpose');
    rot(at('t/a b'), 1);
    const before = readFileSync(at('t/big'));
    const { code, stderr } = await verified('--repair-from', 'copy');
    expect(code).toBe(1);
    expect(stderr).toMatch(/verify t\/a: .*; it was not repaired: it was written to after its copy was made\n/);
    expect(stderr).toMatch(
      /verify t\/big: .* not repaired: the copy is not good either: .*content is not that of line/,
    );
    expect(stderr).toMatch(
      /\nrepaired: 1 file written anew[\s\S]*\nMISMATCHED: 2 of \d+ entries read back differently/,
    );
    expect([readFileSync(at('t/a'), 'utf8'), readFileSync(at('t/big'))]).toEqual(['written on purpose', before]);
    // What is extra no copy repairs.
    rmSync(at('t/a'));
    writeFileSync(at('t/extra'), '');
    expect((await verified('--exclude', '/big', '--repair-from', 'copy')).code).toBe(1);
    rmSync(at('t/extra'));
    expect((await verified('--exclude', '/big')).code).toBe(0);
  });

  it('--json: one summary, with what was repaired as entries and what was not as errors', async () => {
    const { at, verified } = await copied();
    rot(at('t/big'), 1);
    rmSync(at('t/d/é'));
    rot(at('t/a'), 1);
    rot(at('copy/a'), 1);
    const { code, stdout } = await verified('--json', '--repair-from', 'copy');
    const events = jsonLines(stdout).filter(({ type }) => type !== 'status');
    expect([code, events.map(({ type, path, outcome }) => [type, path, outcome])]).toEqual([
      1,
      [
        ['error', 't/a', 'mismatched'],
        ['entry', 'big', 'copied'],
        ['entry', 'd/é', 'copied'],
        ['summary', undefined, undefined],
      ],
    ]);
    expect(events.at(-1)).toMatchObject({
      ...{ exitCode: 1, accounted: true, failureKinds: { mismatch: 1 } },
      outcomes: expect.objectContaining({ copied: 2, mismatched: 1, failed: 0 }),
      failures: [expect.objectContaining({ path: 't/a', message: expect.stringContaining('it was not repaired') })],
    });
  });

  it('of the library is one job, and what is in no sample is proved too', async () => {
    const { at } = await copied();
    rot(at('t/big'), 1);
    rmSync(at('t/a'));
    rot(at('copy/a'), 1);
    const job = verify({
      manifests: at('M'),
      directory: Buffer.from(at('t')),
      repairFrom: at('copy'),
      sample: { part: 0, parts: 1000 },
      spillDirectory: at('.'),
    });
    const found: unknown[] = [];
    for await (const event of job) {
      if (event.type === 'error') found.push([event.kind, event.path]);
      if (event.type === 'entry') found.push([event.outcome, event.path]);
    }
    // Only names and sizes tell what is in another part, and the copy has no good one of what is missing.
    expect(found).toEqual([['missing', at('t/a')]]);
    expect([job.snapshot().phase, (await job).complete]).toEqual(['done', false]);
    await expect(verify({ manifests: at('M'), repairFrom: at('copy') })).rejects.toMatchObject({ code: 'USAGE' });
  });

  it('is refused from the directory itself, from nowhere, and where nobody says what is to be repaired', async () => {
    const { at, verified, bh } = await copied();
    rot(at('t/a'), 0);
    symlinkSync('t', at('alias'));
    for (const [from, why] of [
      ['t/.', /is t itself/],
      ['alias', /is t itself/],
      ['absent', /absent can't be looked at/],
    ] as const) {
      const { code, stderr } = await verified('--repair-from', from);
      expect([code === 0, stderr]).toEqual([false, expect.stringMatching(why)]);
    }
    expect((await bh('verify', '--repair-from', 'copy', 't/M')).code).toBe(2);
    expect((await verified()).code).toBe(1);
  });
});
