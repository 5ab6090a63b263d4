import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { parseCount, parseOwner, parseRate, parseSize } from '../src/cli/values.js';
import { fromBytes } from '../src/names.js';
import { copy } from '../src/ops/copy.js';
import { mapSources } from '../src/ops/mapping.js';
import { executable, jsonLines, program, run, schemaViolations, scratch } from './rig.js';

describe("rsync's slash rule", () => {
  /** Files f and g, directories d and D, links to both kinds, a dangling one. */
  function place(): string {
    const at = scratch();
    for (const name of ['f', 'g', 'd/x', 'D/x']) {
      mkdirSync(join(at, name, '..'), { recursive: true });
      writeFileSync(join(at, name), name);
    }
    symlinkSync('d', join(at, 'ld'));
    symlinkSync('f', join(at, 'lf'));
    symlinkSync('nowhere', join(at, 'dangling'));
    return at;
  }

  // Sources; destination; the sources as mapped ('*': its contents, '>NAME': under a new name); the directory.
  it.each<[string[], string, string[], string]>([
    [['d'], 'new', ['d'], 'new'],
    [['d'], 'D', ['d'], 'D'],
    [['d'], 'D/', ['d'], 'D/'],
    [['d/'], 'new', ['d*'], 'new'],
    [['d//'], 'D', ['d*'], 'D'],
    [['d/.'], 'new', ['d/.*'], 'new'],
    [['d/..'], 'new', ['d/..*'], 'new'],
    [['d', 'D/'], 'new', ['d', 'D*'], 'new'],
    [['f'], 'new', ['f>new'], ''],
    [['f'], 'deep/new', ['f>new'], 'deep/'],
    [['f'], 'g', ['f>g'], ''],
    [['f'], 'D', ['f'], 'D'],
    [['f'], 'ld', ['f'], 'ld'],
    [['f'], 'new/', ['f'], 'new/'],
    [['f'], 'new/.', ['f'], 'new/.'],
    [['f'], 'dangling', ['f>dangling'], ''],
    [['f', 'g'], 'new', ['f', 'g'], 'new'],
    [['ld'], 'new', ['ld>new'], ''],
    [['ld'], 'D', ['ld'], 'D'],
    [['ld/'], 'new', ['ld*'], 'new'],
    [['lf'], 'new', ['lf>new'], ''],
    [['dangling'], 'new', ['dangling>new'], ''],
    [['absent'], 'new', ['absent'], 'new'],
  ])('%j to %s', async (sources, destination, mapped, directory) => {
    const at = place();
    const { sources: actual, destinations } = await mapSources(
      sources.map((source) => `${at}/${source}`),
      `${at}/${destination}`,
    );
    const shown = actual.map(
      ({ path, contents, name }) =>
        `${String(path).slice(at.length + 1)}${contents ? '*' : ''}${name === undefined ? '' : `>${name}`}`,
    );
    expect(shown).toEqual(mapped);
    expect(destinations).toEqual([{ path: `${at}/${directory}`, follow: true }]);
    // A link is followed only where its contents are meant.
    expect(actual.every(({ contents, follow }) => contents === follow)).toBe(true);
  });

  it.each([
    ['.', '.'],
    ['..', '..'],
    ['/', '/'],
    ['./', '.'],
  ])('%s is its contents', async (source, path) => {
    expect(await mapSources([source], 'new')).toEqual({
      sources: [{ path, contents: true, follow: true }],
      destinations: [{ path: 'new', follow: true }],
    });
  });

  it('a name without a directory lands in the working directory', async () => {
    const at = place();
    expect((await mapSources([`${at}/f`], 'a-new-name')).destinations).toEqual([{ path: '.', follow: true }]);
  });

  it('with a list of names the source is their root, with a slash or without', async () => {
    const at = place();
    for (const source of [`${at}/d`, `${at}/d/`]) {
      expect((await mapSources([source], 'new', true)).sources).toEqual([
        { path: `${at}/d`, contents: true, follow: true },
      ]);
    }
  });
});

describe('options', () => {
  it.each([
    ['0', 0],
    ['65536', 65536],
    ['64k', 65536],
    ['1M', 2 ** 20],
    ['2G', 2 ** 31],
  ])('a size of %s is %d', (text, size) => expect(parseSize(text, '--hash-size')).toBe(size));

  it.each(['', '-1', '1.5', '1E', '1KB', 'k', '1e3', '99999999999999999999'])('no size: %j', (text) => {
    expect(() => parseSize(text, '--hash-size')).toThrow(expect.objectContaining({ code: 'USAGE' }));
  });

  /** Rates in rsync's form, and bytes a second; undefined: none. */
  const RATES: [string, number | undefined][] = [
    ['0', 0],
    ['1', 1024],
    ['600b', 600],
    ['1.5m', 1_572_864],
    ['1.5MB', 1_500_000],
    ['1.5mb-1', 1_499_999],
    ['2g+1', 2_147_483_649],
    ['1kib', 1024],
    ['1KiB', 1024],
    ['1KB', 1000],
    ['1.', 1024],
    ['.5', 512],
    ['1t', 1024 ** 4],
    ['1P', 1024 ** 5],
    ['1ki', undefined],
    ['1k+2', undefined],
    ['-1', undefined],
    ['0b-1', undefined],
    ['abc', undefined],
    ['1x', undefined],
    ['1e', undefined],
    ['1e3', undefined],
    [' 1', undefined],
    ['1 ', undefined],
    ['1,5', undefined],
    ['NaN', undefined],
    ['Infinity', undefined],
  ];

  it.each(RATES)('a rate of %j is %s bytes a second', (text, rate) => {
    if (rate !== undefined) expect(parseRate(text, '--bwlimit')).toBe(rate);
    else expect(() => parseRate(text, '--bwlimit')).toThrow(expect.objectContaining({ code: 'USAGE' }));
  });

  it('takes the rates that rsync takes', async () => {
    for (const [text, rate] of RATES) {
      const { code, stderr } = await program('rsync', [`--bwlimit=${text}`, '--list-only', import.meta.dirname]);
      expect({ text, code, stderr }).toMatchObject({ text, code: rate === undefined ? 1 : 0 });
    }
    // What rsync finds too small is slower here; what it reads as 0 without a digit is mostly an unset variable.
    expect(parseRate('1b', '--bwlimit')).toBe(1);
    for (const text of ['', '.', 'k']) expect(() => parseRate(text, '--bwlimit')).toThrow('--bwlimit');
  });

  it.each([
    ['0', 0],
    ['10', 10],
    ['0.5', 0.5],
  ])('a count of %s is %d', (text, count) => expect(parseCount(text, '--iops-limit')).toBe(count));

  it.each(['', '-1', 'x', '1e3', '1K', '.5', ' 1'])('no count: %j', (text) => {
    expect(() => parseCount(text, '--iops-limit')).toThrow(expect.objectContaining({ code: 'USAGE' }));
  });

  it.each([
    ['root', { user: 0 }],
    ['root:', { user: 0 }],
    [':0', { group: 0 }],
    ['root:root', { user: 0, group: 0 }],
    ['1234:4321', { user: 1234, group: 4321 }],
    ['4294967294', { user: 4294967294 }],
  ])('--chown %s', async (text, ids) => expect(await parseOwner(text)).toEqual(ids));

  it.each(['', ':', 'a:b:c', 'no-such-user', ':no-such-group', '4294967295', '-1'])('no owner: %j', async (text) => {
    await expect(parseOwner(text)).rejects.toMatchObject({ code: 'USAGE' });
  });
});

describe('the command line', () => {
  it.each<[string[], RegExp]>([
    [['copy', 'a'], /copy takes SRC… DEST, and only a was given/],
    [['copy', '--no-such-option', 'a', 'b'], /no-such-option/],
    [['copy', '--progress=loud', 'a', 'b'], /--progress/],
    [['copy', '--jobs', '0', 'a', 'b'], /--jobs: 0 is no whole number/],
    [['copy', '--hash-size', 'much', 'a', 'b'], /--hash-size: not a size/],
    [['copy', '--chown', 'no-such-user', 'a', 'b'], /no user no-such-user/],
    [['copy', '--files-from', 'x', '--files-from0', 'y', 'a', 'b'], /exclude each other/],
    [['copy', '--files-from', 'x', '--files-from', 'y', 'a', 'b'], /go once/],
    [['copy', '--accept-time-loss', 'a', 'b'], /--accept-time-loss goes with --move/],
    [['copy', '--max-delete', '3', 'a', 'b'], /--max-delete goes with --delete or --move/],
    [['copy', 'a', ''], /the destination is an empty path/],
    [['cpoy', 'a', 'b'], /no command cpoy; did you mean copy\?/],
    [['\x1b[31m'], /no command \\x1b\[31m/],
  ])('%j: exit 2, one sentence on stderr', async (args, sentence) => {
    const { code, stdout, stderr } = await run(args, { cwd: scratch() });
    expect(stderr).toMatch(sentence);
    expect(stderr.trimEnd().split('\n')).toHaveLength(1);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  });

  it('--version and --help answer on stdout', async () => {
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
    expect(await run(['--version'])).toEqual({ code: 0, stdout: `bulkhaul ${version}\n`, stderr: '' });
    for (const args of [['--help'], ['copy', '--help']]) {
      const { code, stdout, stderr } = await run(args);
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expect(stdout).toContain('copy');
    }
  });

  it('the name that it was started with decides', async () => {
    const link = join(scratch(), 'migrate_compress');
    symlinkSync(executable, link);
    const { code, stdout } = await run(['--version'], { startedAs: link });
    expect([code, stdout]).toEqual([0, expect.stringMatching(/^migrate_compress \(bulkhaul /)]);
  });

  it('--version and --help load neither the addon nor what they do not show', async () => {
    // V8 writes down which scripts it was given.
    const loaded = async (args: string[]) => {
      const directory = scratch();
      expect((await run(args, { env: { NODE_V8_COVERAGE: directory } })).code).toBe(0);
      const files = readdirSync(directory).map((name) => readFileSync(join(directory, name), 'utf8'));
      return (
        files
          .join()
          .match(/file:[^"]+/g)
          ?.join('\n') ?? ''
      );
    };
    for (const args of [['--version'], ['copy', '--help']]) {
      const scripts = await loaded(args);
      expect(scripts).toContain('dist/cli/main.js');
      for (const unwanted of ['bindings/node', 'node_modules/pino', 'dist/report', 'dropin']) {
        expect(scripts).not.toContain(unwanted);
      }
    }
    expect(await loaded(['--version'])).not.toContain('dist/cli/parser.js');
    expect(await loaded(['copy', '--help'])).toContain('dist/cli/parser.js');
  });
});

/** A small tree with what is easily lost: odd names, links, modes, times, a hole, a hard link. */
function makeTree(): { at: string; source: string; destination: string } {
  const at = scratch();
  const source = join(at, 'src');
  mkdirSync(join(source, 'sub', 'empty'), { recursive: true });
  const names = ['plain', 'two words', 'quo\'te"s', '-dash', 'new\nline', '*', 'back\\slash', 'é', 'x'.repeat(255)];
  for (const name of names) writeFileSync(join(source, name), `content of ${name}`);
  writeFileSync(Buffer.concat([Buffer.from(`${source}/caf`), Buffer.from([0xe9])]), 'latin 1');
  writeFileSync(join(source, 'sub', 'big'), Buffer.alloc(300_000, 'bulkhaul '));
  writeFileSync(join(source, 'sub', 'empty file'), '');
  linkSync(join(source, 'plain'), join(source, 'sub', 'hard link'));
  symlinkSync('../plain', join(source, 'sub', 'symlink'));
  symlinkSync('nowhere', join(source, 'dangling'));
  chmodSync(join(source, 'plain'), 0o640);
  utimesSync(join(source, 'sub', 'big'), 1_000_000_000.5, 1_000_000_000.25);
  utimesSync(join(source, 'sub'), 1, 2);
  return { at, source, destination: join(at, 'dst') };
}

/** What rsync would still do to make the copy like the source. */
function differences(source: string, destination: string): string {
  return execFileSync('rsync', ['-aniHAX', '--checksum', '--delete', `${source}/`, `${destination}/`], {
    encoding: 'utf8',
  });
}

describe('bulkhaul copy', () => {
  it('copies a tree with odd names whole, and then has nothing to do', async () => {
    const { at, source, destination } = makeTree();
    const first = await run(['copy', 'src/', 'dst'], { cwd: at });
    expect(first).toMatchObject({ code: 0, stdout: '' });
    expect(first.stderr).toMatch(/^1[12] files copied/);
    expect(differences(source, destination)).toBe('');
    const second = await run(['copy', 'src/', 'dst'], { cwd: at });
    expect(second.code).toBe(0);
    expect(second.stderr).toMatch(/^0 files copied/);
    expect(second.stderr).toMatch(/skipped: .*unchanged/);
  });

  it('SRC goes into DEST by its name, a file gets the new name', async () => {
    const { at, source } = makeTree();
    expect((await run(['copy', 'src', 'dst'], { cwd: at })).code).toBe(0);
    expect(differences(source, join(at, 'dst', 'src'))).toBe('');
    expect((await run(['copy', 'src/plain', 'renamed'], { cwd: at })).code).toBe(0);
    expect(readFileSync(join(at, 'renamed'), 'utf8')).toBe('content of plain');
  });

  it('takes a name that is not UTF-8 as an argument', async () => {
    const { at } = makeTree();
    const input = Buffer.concat([
      Buffer.from('copy\0src/caf'),
      Buffer.from([0xe9]),
      Buffer.from('\0new'),
      Buffer.from([0xff, 0]),
    ]);
    const { code, stderr } = await program('xargs', ['-0', process.execPath, executable], { cwd: at, input });
    expect({ code, stderr }).toMatchObject({ code: 0 });
    const names = readdirSync(Buffer.from(at), { encoding: 'buffer' }).map(fromBytes);
    expect(names).toContain('new\udcff');
  });

  it('--dry-run shows the lines of rsync and writes nothing', async () => {
    const { at } = makeTree();
    const { code, stdout, stderr } = await run(['copy', '-n', 'src/', 'dst'], { cwd: at });
    expect(code).toBe(0);
    expect(existsSync(join(at, 'dst'))).toBe(false);
    const lines = stdout.split('\n');
    expect(lines).toContain('>f+++++++++ sub/big');
    expect(lines).toContain('>f+++++++++ new\\nline');
    expect(lines).toContain('>f+++++++++ caf\\xe9');
    expect(lines).toContain('cd+++++++++ sub/');
    expect(lines).toContain('cL+++++++++ sub/symlink -> ../plain');
    expect(lines.filter((line) => /^hf\+{9} .* => .*$/.test(line))).toHaveLength(1);
    expect(stderr).toContain('would be copied');
  });

  it('a reader that goes away ends it quietly, exit 130', async () => {
    const { at } = makeTree();
    for (let index = 0; index < 3000; index += 1) writeFileSync(join(at, 'src', `${'y'.repeat(60)}${index}`), '');
    const pipeline = '{ "$0" "$1" copy -v -j 1 src dst; echo "exit $?" >&2; } | head -n 1';
    const { stdout, stderr } = await program('sh', ['-c', pipeline, process.execPath, executable], { cwd: at });
    expect(stdout).toMatch(/^[^\n]+\n$/);
    expect(stderr).toBe('exit 130\n');
  });

  it('the first SIGINT drains, exit 130, and the next run finishes', async () => {
    const { at, source, destination } = makeTree();
    for (let index = 0; index < 4000; index += 1) writeFileSync(join(at, 'src', 'sub', `z${index}`), 'z'.repeat(500));
    const interrupted = await run(['copy', '-v', '-j', '1', 'src/', 'dst'], {
      cwd: at,
      onOutput: (child) => void child.kill('SIGINT'),
    });
    expect(interrupted.code).toBe(130);
    expect(interrupted.stderr).toMatch(/^SIGINT: stopping/);
    expect(interrupted.stderr).toMatch(
      /\nINTERRUPTED: [\d,]+ of [\d,]+ found entries done; the same command goes on \(exit 130\)\n$/,
    );
    expect((await run(['copy', 'src/', 'dst'], { cwd: at })).code).toBe(0);
    expect(differences(source, destination)).toBe('');
  });

  it('--json conforms to the schema', async () => {
    const { at, source, destination } = makeTree();
    const { code, stdout, stderr } = await run(['copy', '--json', '-v', 'src/', 'dst'], { cwd: at });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const lines = jsonLines(stdout);
    expect(lines.at(-1)).toMatchObject({ type: 'summary', accounted: true, interrupted: false });
    const odd = lines.find(({ pathBase64 }) => pathBase64 !== undefined);
    expect(Buffer.from(String(odd?.pathBase64), 'base64')).toEqual(Buffer.from([0x63, 0x61, 0x66, 0xe9]));
    expect(differences(source, destination)).toBe('');
  });

  it('--exclude and --files-from0 choose', async () => {
    const { at } = makeTree();
    expect((await run(['copy', '--exclude', '/sub', '--exclude=x*', 'src/', 'dst'], { cwd: at })).code).toBe(0);
    expect(existsSync(join(at, 'dst', 'plain'))).toBe(true);
    expect(existsSync(join(at, 'dst', 'sub'))).toBe(false);
    expect(existsSync(join(at, 'dst', 'x'.repeat(255)))).toBe(false);
    writeFileSync(join(at, 'names'), 'new\nline\0sub/big\0');
    // A pipe of the shell: what Node gives a child is a socket.
    const pipeline = 'cat names | "$0" "$1" copy --files-from0 - src list';
    const listed = await program('sh', ['-c', pipeline, process.execPath, executable], { cwd: at });
    expect(listed).toMatchObject({ code: 0, stdout: '' });
    expect(readdirSync(join(at, 'list')).sort()).toEqual(['new\nline', 'sub']);
    expect(readdirSync(join(at, 'list', 'sub'))).toEqual(['big']);
  });

  it('--chmod changes modes, --log-file has the summary, --quiet is quiet', async () => {
    const { at } = makeTree();
    const args = ['copy', '-q', '--chmod', 'F600', '--log-file', 'log', 'src/', 'dst'];
    expect(await run(args, { cwd: at })).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(lstatSync(join(at, 'dst', 'plain')).mode & 0o7777).toBe(0o600);
    expect(readlinkSync(join(at, 'dst', 'sub', 'symlink'))).toBe('../plain');
    expect(readFileSync(join(at, 'log'), 'utf8')).toContain('"accounted":true');
  });

  it('what is not wanted is neither kept nor missed', async () => {
    const { at, source } = makeTree();
    chmodSync(join(source, 'plain'), 0o600);
    utimesSync(join(source, 'plain'), 1, 1);
    const options = ['--no-owner', '--no-perms', '--no-acls', '--no-xattrs', '--no-times'];
    const { code, stderr } = await run(['copy', ...options, 'src/', 'dst'], { cwd: at });
    expect({ code, notes: stderr.match(/^(?:note|LOST).*$/gm) }).toEqual({ code: 0, notes: null });
    // As open(2) makes it with the permissions of the source.
    expect(lstatSync(join(at, 'dst', 'plain')).mode & 0o7777).toBe(0o600);
    expect(lstatSync(join(at, 'dst', 'plain')).mtimeMs).toBeGreaterThan(1000);
    expect((await run(['copy', 'src/', 'dst'], { cwd: at })).code).toBe(0);
    expect(lstatSync(join(at, 'dst', 'plain')).mtimeMs).toBe(1000);
  });

  /** What a copy of a file has of owner, mode, attributes and time, and the one list that it has. */
  const kept = (path: string) => {
    const { uid, gid, mode, mtimeMs } = statSync(path);
    const list = execFileSync('getfacl', ['-cnpE', path], { encoding: 'utf8' });
    const attributes = execFileSync('getfattr', ['--absolute-names', path], { encoding: 'utf8' });
    return {
      owner: `${uid}:${gid}`,
      mode: mode & 0o7777,
      list: list.includes('user:12:rw-'),
      attributes: attributes.includes('user.note'),
      time: mtimeMs === 1000,
    };
  };
  const ALL = { owner: '5:6', mode: 0o660, list: true, attributes: true, time: true };
  it.skipIf(process.getuid?.() !== 0).each([
    [[], ALL],
    [['--no-owner'], { ...ALL, owner: '0:0' }],
    // As open makes it, less what the mask of this process takes away.
    [['--no-perms'], { ...ALL, mode: 0o640, list: false }],
    // The group's own bits, without the list.
    [['--no-acls'], { ...ALL, mode: 0o600, list: false }],
    [['--no-xattrs'], { ...ALL, attributes: false }],
    [['--no-times'], { ...ALL, time: false }],
  ])('keeps all but what is not wanted: %j', async (options, wanted) => {
    const at = scratch();
    mkdirSync(join(at, 'src'));
    const file = join(at, 'src', 'a');
    writeFileSync(file, 'x', { mode: 0o600 });
    chownSync(file, 5, 6);
    execFileSync('setfacl', ['-m', 'u:12:rw', file]);
    execFileSync('setfattr', ['-n', 'user.note', '-v', '1', file]);
    utimesSync(file, 1, 1);
    for (const destination of ['dst', 'existing']) {
      if (destination === 'existing') mkdirSync(join(at, destination));
      const { code, stderr } = await program(
        'sh',
        ['-c', 'umask 022; exec "$@"', 'sh', process.execPath, executable, 'copy', ...options, 'src/', destination],
        { cwd: at },
      );
      expect({ code, notes: stderr.match(/^(?:note|LOST).*$/gm) }).toEqual({ code: 0, notes: null });
      expect(kept(join(at, destination, 'a'))).toEqual(wanted);
    }
    if (options.length === 0 || options[0] === '--no-owner') {
      const hpcp = await run(['hpcp', ...options, 'src/', '-d', 'by hpcp'], { cwd: at });
      expect(hpcp.code).toBe(0);
      expect(kept(join(at, 'by hpcp', 'a'))).toEqual(wanted);
    }
  });

  it.skipIf(process.getuid?.() !== 0)('--require-space refuses what does not fit, in a dry run too', async () => {
    const at = scratch();
    for (const name of ['src', 'small']) mkdirSync(join(at, name));
    writeFileSync(join(at, 'src', 'a'), Buffer.alloc(3 << 20, 'x'));
    truncateSync(join(at, 'src', 'a'), 1 << 30);
    expect(await program('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'none', 'small'], { cwd: at })).toMatchObject({
      code: 0,
    });
    onTestFinished(() => void execFileSync('umount', [join(at, 'small')]));
    for (const [args, wanted] of [
      [['copy', '--require-space', 'src/', 'small'], 3],
      [['copy', '-n', '--require-space', 'src/', 'small'], 3],
      [['hpcp', '-enes', 'src/', '-d', 'small'], 228],
      [['hpcp', '--dry-run', '-enes', 'src/', '-d', 'small'], 228],
    ] as [string[], number][]) {
      const { code, stderr } = await run(args, { cwd: at });
      expect([code, stderr]).toEqual([wanted, expect.stringContaining('are to be copied')]);
    }
    expect(readdirSync(join(at, 'small'))).toEqual([]);
    // Holes take no room.
    truncateSync(join(at, 'src', 'a'), 1 << 20);
    truncateSync(join(at, 'src', 'a'), 1 << 30);
    expect((await run(['copy', '--require-space', 'src/', 'small'], { cwd: at })).code).toBe(0);
    expect(statSync(join(at, 'small', 'a')).size).toBe(1 << 30);
  });

  it('a missing source is exit 23, a destination inside the source exit 3, and nothing is written', async () => {
    const { at, source } = makeTree();
    const missing = await run(['copy', 'absent', 'dst'], { cwd: at });
    expect(missing.code).toBe(23);
    expect(missing.stderr).toMatch(/^bulkhaul: .*absent/);
    const inside = await run(['copy', 'src', 'src/sub/in'], { cwd: at });
    expect(inside.code).toBe(3);
    expect(existsSync(join(source, 'sub', 'in'))).toBe(false);
    expect(existsSync(join(at, 'dst'))).toBe(false);
  });

  it('a directory in the way of a file is one failure, exit 23, and the rest is copied', async () => {
    const { at } = makeTree();
    mkdirSync(join(at, 'dst', 'plain'), { recursive: true });
    writeFileSync(join(at, 'dst', 'plain', 'keep'), 'kept');
    const { code, stderr } = await run(['copy', 'src/', 'dst'], { cwd: at });
    expect(code).toBe(23);
    expect(stderr).toMatch(/failure.*: 1 conflict/);
    expect(stderr).toMatch(/a directory is in the way \(with --delete.*it goes\)/);
    expect(readFileSync(join(at, 'dst', 'plain', 'keep'), 'utf8')).toBe('kept');
    expect(readFileSync(join(at, 'dst', 'sub', 'big'))).toHaveLength(300_000);
  });
});

describe('the library', () => {
  it('keeps what it knows of hard links in a file, and says so where that fails', async () => {
    const at = scratch();
    mkdirSync(join(at, 'src'));
    for (const name of ['a', 'b']) {
      writeFileSync(join(at, 'src', name), name);
      linkSync(join(at, 'src', name), join(at, 'src', `${name}-link`));
    }
    const copied = async (destination: string, spillDirectory: string) => {
      const job = copy({ sources: `${at}/src/`, destination: join(at, destination), linksInMemory: 0, spillDirectory });
      const report = await job;
      expect(report).toMatchObject({ accounted: true, outcomes: { copied: 2, linked: 2, failed: 0 } });
      return report.notes.map(({ kind, path }) => [kind, path]);
    };
    expect(await copied('one', at)).toEqual([]);
    expect(await copied('two', join(at, 'absent'))).toEqual([['hard-links', join(at, 'absent')]]);
    expect(readdirSync(at).sort()).toEqual(['one', 'src', 'two']);
  });

  it('copies, tells each entry once, and counts the same', async () => {
    const { source, destination } = makeTree();
    const job = copy({ sources: `${source}/`, destination, entries: true });
    const paths: string[] = [];
    for await (const event of job) if (event.type === 'entry') paths.push(event.path);
    const report = await job;
    expect(report).toMatchObject({ accounted: true, interrupted: false, failures: [] });
    expect(new Set(paths).size).toBe(paths.length);
    expect(paths).toContain('caf\udce9');
    expect(paths).toHaveLength(Object.values(report.outcomes).reduce((sum, count) => sum + count, 0));
    expect(differences(source, destination)).toBe('');
  });

  it('takes bytes as well as strings', async () => {
    const { source, destination } = makeTree();
    const report = await copy({ sources: [Buffer.from(`${source}/`)], destination: Buffer.from(destination) });
    expect(report.accounted).toBe(true);
    expect(differences(source, destination)).toBe('');
  });
});

describe('what a job may take of the machine', () => {
  const small = () => {
    const at = scratch();
    writeFileSync(join(at, 'a'), 'x'.repeat(30_000));
    return at;
  };

  it.each([
    ['--bwlimit', 'fast'],
    ['--bwlimit', '99999999p'],
    ['--iops-limit', '1k'],
    ['--nice', '20'],
    ['--nice', '1.5'],
    ['--ionice', 'idle:1'],
    ['--ionice', 'best-effort:8'],
    ['--ionice', '7'],
  ])('%s %s is refused, and nothing is copied', async (...option) => {
    const cwd = small();
    expect(await run(['copy', ...option, 'a', 'b'], { cwd })).toMatchObject({ code: 2, stdout: '' });
    expect((await run(['hpcp', ...option, 'a', '-d', 'b'], { cwd })).code).toBe(2);
    expect(existsSync(join(cwd, 'b'))).toBe(false);
  });

  it('goes on within limits and priorities, and says so in the status', async () => {
    const cwd = small();
    const options = ['--bwlimit', '20', '--iops-limit', '500', '--nice', '3', '--ionice', 'best-effort:6', '-j', '2'];
    const { code, stdout, stderr } = await run(['copy', '--json', ...options, 'a', 'b'], {
      cwd,
      env: { BULKHAUL_PROGRESS_INTERVAL: '0.05' },
    });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const lines = jsonLines(stdout);
    expect(lines.flatMap(schemaViolations)).toEqual([]);
    const status = lines.filter(({ type }) => type === 'status');
    expect(status.length).toBeGreaterThan(1);
    for (const { limits } of status) expect(limits).toEqual({ bytes: 20_480, entries: 500 });
    expect(status.at(-1)?.workers).toBeLessThanOrEqual(2);
    expect(readFileSync(join(cwd, 'b'), 'utf8')).toBe(readFileSync(join(cwd, 'a'), 'utf8'));
  });

  it.each([
    ['list', ['list', 'tree']],
    ['manifest', ['manifest', 'tree']],
    ['compare', ['compare', 'tree', 'tree']],
    ['remove', ['remove', '--force', 'tree']],
    ['hpcp -fl', ['hpcp', 'tree', '-fl', 'list']],
    ['hpcp -cfl', ['hpcp', 'tree', '-d', 'tree', '-cfl']],
    ['hpcp -rf', ['hpcp', '-rf', 'tree']],
  ])('%s goes on within limits and priorities too', async (_, args) => {
    const cwd = scratch();
    mkdirSync(join(cwd, 'tree'));
    for (let number = 0; number < 12; number++) writeFileSync(join(cwd, 'tree', `${number}`), 'x');
    // What is no rate, and what no system would take.
    for (const wrong of [
      ['--iops-limit', '1k'],
      ['--bwlimit', 'fast'],
      ['--nice', '20'],
      ['--ionice', '7'],
    ]) {
      expect(await run([...args, ...wrong], { cwd })).toMatchObject({ code: 2 });
    }
    const priorities = ['--nice', '3', '--ionice', 'best-effort:6'];
    const env = { BULKHAUL_PROGRESS_INTERVAL: '0.05' };
    const limited = await run([...args, '--json', '--iops-limit', '40', ...priorities], { cwd, env });
    expect(limited).toMatchObject({ code: 0, stderr: '' });
    const lines = jsonLines(limited.stdout);
    expect(lines.flatMap(schemaViolations)).toEqual([]);
    // How many there are is the machine's affair: one is due long before the limit lets the run end.
    const status = lines.filter(({ type }) => type === 'status');
    expect(status).not.toEqual([]);
    for (const { limits } of status) expect(limits).toEqual({ bytes: 0, entries: 40 });
    expect(lines.at(-1)).toMatchObject({ type: 'summary' });
  });

  it('has its limits changed while it runs', async () => {
    const cwd = small();
    const options = { sources: join(cwd, 'a'), destination: join(cwd, 'b') };
    const job = copy({ ...options, limits: { bytes: 0.001 } });
    // Before it has begun, too.
    expect(job.snapshot().limits).toEqual({ bytes: 0.001, entries: 0 });
    job.setLimits({ bytes: 0.002, entries: 7 });
    expect(job.snapshot().limits).toEqual({ bytes: 0.002, entries: 7 });
    await expect.poll(() => job.snapshot().limits).toEqual({ bytes: 0.002, entries: 7 });
    expect(() => job.setLimits({ bytes: -1 })).toThrow(expect.objectContaining({ code: 'USAGE' }));
    await expect.poll(() => job.snapshot().foundBytes).toBe(30_000);
    job.setLimits({});
    expect((await job).copiedBytes).toBe(30_000);
    expect(job.snapshot().limits).toEqual({ bytes: 0, entries: 0 });
  });

  it('hpcp takes the same', async () => {
    const cwd = small();
    const options = ['-L', '1Mi', '-F', '1K', '--nice', '1', '--ionice', 'idle'];
    const { code, stderr } = await run(['hpcp', ...options, 'a', '-d', 'b'], { cwd });
    expect({ code, stderr }).toMatchObject({ code: 0 });
    expect(await run(['hpcp', '-L', 'x', 'a', '-d', 'c'], { cwd })).toMatchObject({ code: 2 });
    expect(existsSync(join(cwd, 'c'))).toBe(false);
  });
});
