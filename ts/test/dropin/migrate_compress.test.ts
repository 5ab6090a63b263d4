/** `migrate_compress`: its flags, logs and state, going on, and what the original loses. */
import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { FLAGS, originalFlags } from '../../src/cli/dropin/migrate_compress/flags.js';
import { helpText } from '../../src/cli/dropin/migrate_compress/help.js';
import { executable, faulty, run, scratch } from '../rig.js';

const TEXT = 'a\tb\tc\n'.repeat(3000);
const sha = (text: string) => createHash('sha256').update(text).digest('hex');

const FILES = {
  's/root.tsv': TEXT,
  's/README.txt': 'root file',
  's/sub1/x.tsv': `${TEXT}x`,
  's/sub1/plain.txt': 'plain',
  's/sub2/deep/y.CLUSTERS': `${TEXT}y`,
};

function put(root: string, files: Record<string, string | Buffer>): void {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), content);
  }
}

type Directory = Record<string, unknown> & { files: Record<string, unknown>[] };

function tree(files: Record<string, string | Buffer> = FILES) {
  const cwd = scratch();
  put(cwd, files);
  const migrate = (...args: string[]) => run(['migrate_compress', '-s', 's', '-d', 'd', ...args], { cwd });
  const state = (
    at = 'd',
  ): { last_updated: string; directories: Record<string, Directory> } & Record<string, unknown> =>
    JSON.parse(readFileSync(join(cwd, at, 'migration_state.json'), 'utf8'));
  const record = (name: string, at = 'd') =>
    state(at).directories[join(cwd, name)] ?? expect.fail(`no record of ${name}`);
  /** Data in the destination. */
  const names = (directory = 'd') =>
    readdirSync(join(cwd, directory), { recursive: true, withFileTypes: true })
      .filter((entry) => !entry.isDirectory())
      .map((entry) => join(entry.parentPath, entry.name).slice(join(cwd, directory).length + 1))
      .filter((name) => !/^(\.?migration_|rsync_)/.test(name))
      .sort();
  const unpacked = (name: string) => gunzipSync(readFileSync(join(cwd, 'd', name))).toString();
  return { cwd, migrate, state, record, names, unpacked };
}

const DONE = ['README.txt', 'root.tsv.gz', 'sub1/plain.txt', 'sub1/x.tsv.gz', 'sub2/deep/y.CLUSTERS.gz'];

describe('a migration', () => {
  it('copies root files and each directory, and compresses what matches', async () => {
    const { cwd, migrate, names, unpacked, record, state } = tree();
    const { code, stderr } = await migrate('--pigz', '--verify', '--workers', '2');
    expect(code, stderr).toBe(0);
    expect(names()).toEqual(DONE);
    expect(unpacked('sub2/deep/y.CLUSTERS.gz')).toBe(`${TEXT}y`);
    const { files, ...rest } = record('s/sub1');
    expect(rest).toEqual({
      source_dir: join(cwd, 's/sub1'),
      dest_dir: join(cwd, 'd/sub1'),
      status: 'completed',
      rsync_command: expect.stringMatching(/^rsync -av --partial .*\/s\/sub1\/ .*\/d\/sub1\/$/),
      rsync_exit_code: 0,
      rsync_log_file: expect.stringMatching(/\/d\/rsync_sub1_\d{8}_\d{6}\.log$/),
      rsync_errors: [],
      total_source_size: TEXT.length + 1,
      total_compressed_size: expect.any(Number),
      start_time: expect.any(String),
      end_time: expect.any(String),
      error_message: null,
    });
    expect(files).toEqual([
      {
        source_path: join(cwd, 'd/sub1/x.tsv'),
        dest_path: join(cwd, 'd/sub1/x.tsv.gz'),
        original_size: TEXT.length + 1,
        compressed_size: expect.any(Number),
        source_sha256: sha(`${TEXT}x`),
        compressed_sha256: null,
        decompressed_sha256: sha(`${TEXT}x`),
        status: 'verified',
        error_message: null,
        rsync_exit_code: 0,
        timestamp: expect.any(String),
      },
    ]);
    expect(Object.keys(state().directories)).toEqual(['s', 's/sub1', 's/sub2'].map((name) => join(cwd, name)));
    const logs = readdirSync(join(cwd, 'd')).filter((name) => /^(migration|rsync)_/.test(name));
    expect(logs.map((name) => name.replace(/\d{8}_\d{6}/, 'T')).sort()).toEqual([
      'migration_T.log',
      'migration_state.json',
      'rsync_root_files_T.log',
      'rsync_sub1_T.log',
      'rsync_sub2_T.log',
    ]);
    const log = readFileSync(join(cwd, 'd', logs.find((name) => name.startsWith('rsync_sub1_')) ?? ''), 'utf8');
    expect(log).toMatch(/^Command: rsync [\s\S]*\nStarted: .*\n={80}\n\n[\s\S]*^>f\+{9} x\.tsv$/m);
    expect(log).toMatch(/\nExit code: 0\nExit meaning: Success\n$/);
  });

  it('takes the source as one directory with --process-root', async () => {
    const { cwd, migrate, names, state } = tree();
    expect((await migrate('--process-root', '--log-dir', 'logs')).code).toBe(0);
    expect(names()).toEqual(DONE);
    expect(Object.keys(state('logs').directories)).toEqual([join(cwd, 's')]);
  });

  it.each([
    ['temp', ['sub1/temp', 'temp/a', 'x/temp/b'], ['keep']],
    ['temp/', ['temp/a', 'x/temp/b'], ['keep', 'sub1/temp']],
    ['*.log', ['a.log', 'sub1/deep/b.log'], ['keep', 'sub1/c']],
    ['**/cache', ['cache/a', 'sub1/deep/cache/b'], ['keep', 'sub1/c']],
    ['*mid*', ['amidst/a', 'sub1/mid'], ['keep']],
    ['/top_level', ['top_level/a'], ['keep', 'sub1/top_level/a']],
    ['/sub1/only', ['sub1/only'], ['keep', 'sub2/sub1/only']],
  ])('excludes %s as the table says, at the top too', async (pattern, out, stay) => {
    const all = [...out, ...stay];
    const { migrate, names, state } = tree(Object.fromEntries(all.map((name) => [`s/${name}`, 'x'])));
    expect((await migrate('--exclude', pattern)).code).toBe(0);
    expect(names()).toEqual([...stay].sort());
    for (const name of Object.keys(state().directories)) expect(name).not.toMatch(/\/(temp|cache|amidst|top_level)$/);
  });

  it('a dry run changes nothing, an older state included', async () => {
    const { cwd, migrate } = tree();
    const first = await migrate('--dry-run');
    expect([first.code, existsSync(join(cwd, 'd'))]).toEqual([0, false]);
    expect(first.stdout).toContain('sub1/x.tsv.gz\n');
    expect(first.stderr).toContain('sub1: 1 file would be compressed');
    await migrate();
    const all = () => execFileSync('find', ['d', '-printf', '%p %s %T@\n'], { cwd, encoding: 'utf8' });
    const before = all();
    expect((await migrate('--dry-run', '--resume')).code).toBe(0);
    expect(all()).toBe(before);
    // Nor where it comes to a status that is written down otherwise.
    put(cwd, { 's/sub1/odd': 'x', 'd/sub1/odd/in': 'y' });
    const odd = all();
    expect((await migrate('--dry-run', '--resume', '--stop-on-partial')).code).toBe(1);
    expect(all()).toBe(odd);
  });
});

describe('going on', () => {
  it('leaves out what is done, file by file, and finds what was added since, from another spelling', async () => {
    const { cwd, migrate, names, unpacked, record } = tree();
    await migrate('--verify');
    put(cwd, { 's/sub1/added.tsv': TEXT, 's/sub2/added.txt': 'y' });
    appendFileSync(join(cwd, 's/root.tsv'), 'more');
    rmSync(join(cwd, 'd/root.tsv.gz'));
    const time = (name: string) => execFileSync('stat', ['-c', '%i %Z', join(cwd, 'd', name)], { encoding: 'utf8' });
    const before = time('sub1/x.tsv.gz');
    symlinkSync('s', join(cwd, 'link'));
    const args = ['-s', join(cwd, 'link/.'), '-d', '../d', '--resume', '--verify'];
    mkdirSync(join(cwd, 'else'));
    const { code, stderr } = await run(['migrate_compress', ...args], { cwd: join(cwd, 'else') });
    expect(code, stderr).toBe(0);
    expect(stderr).toContain('sub1: 1 file there already');
    expect(names()).toEqual([...DONE, 'sub1/added.tsv.gz', 'sub2/added.txt'].sort());
    expect(unpacked('root.tsv.gz')).toBe(`${TEXT}more`);
    expect(time('sub1/x.tsv.gz')).toBe(before);
    expect(record('s/sub1').files.map(({ status }) => status)).toEqual(['verified', 'verified']);
    expect(migrate).toBeDefined();
  });

  it('with --verify proves what was done without', async () => {
    const { cwd, migrate, record, names } = tree();
    await migrate();
    expect(record('s/sub1').files).toMatchObject([{ status: 'compressed', source_sha256: null }]);
    expect((await migrate('--resume', '--verify')).code).toBe(0);
    const verified = { status: 'verified', source_sha256: sha(`${TEXT}x`) };
    expect([names(), record('s/sub1').files]).toMatchObject([DONE, [verified]]);
    const again = await migrate('--resume', '--verify');
    expect([again.code, again.stderr]).toEqual([0, expect.stringContaining('sub1: 1 file there already')]);
    // A damage that neither the size nor the time shows.
    rmSync(join(cwd, 'd/migration_state.json'));
    await migrate();
    const archive = join(cwd, 'd/sub1/x.tsv.gz');
    const [content, { atime, mtime }] = [readFileSync(archive), statSync(archive)];
    content[40] = ~(content[40] ?? 0);
    writeFileSync(archive, content);
    utimesSync(archive, atime, mtime);
    const damaged = await migrate('--resume', '--verify');
    expect([damaged.code, damaged.stderr]).toEqual([1, expect.stringContaining('x.tsv.gz')]);
    expect(record('s/sub1').status).toBe('completed_with_errors');
  });

  it('a source that changed since is no success: its older archive stays', async () => {
    const { cwd, migrate, names, record, unpacked } = tree();
    await migrate();
    appendFileSync(join(cwd, 's/sub1/x.tsv'), 'more');
    for (const more of [[], ['--resume']]) {
      const { code, stderr } = await migrate(...more);
      expect([code, stderr]).toEqual([1, expect.stringContaining('x.tsv.gz: something else has its name, and stays')]);
      expect([names(), unpacked('sub1/x.tsv.gz')]).toEqual([DONE, `${TEXT}x`]);
      expect(record('s/sub1')).toMatchObject({ status: 'completed_with_errors', error_message: expect.any(String) });
    }
  });

  it('goes by a state of the original, with paths as they were typed, and keeps what it does not know', async () => {
    const { cwd, migrate, record, state, names } = tree({ 's/sub1/x.tsv': TEXT, 's/sub1/new.txt': 'n' });
    put(cwd, { 'd/sub1/x.tsv.gz': gzipSync(TEXT) });
    utimesSync(join(cwd, 's/sub1/x.tsv'), 1e9, 1e9);
    const size = readFileSync(join(cwd, 'd/sub1/x.tsv.gz')).length;
    const old = {
      last_updated: '2026-01-26T16:16:42.123456',
      a_later_version: { says: ['this'] },
      directories: {
        [join(cwd, 's/../s/sub1')]: {
          status: 'completed',
          dest_dir: join(cwd, 'd/sub1'),
          odd: 7,
          files: [
            {
              source_path: join(cwd, 'd/sub1/x.tsv'),
              dest_path: join(cwd, 'd/sub1/x.tsv.gz'),
              original_size: TEXT.length,
              compressed_size: size,
              status: 'verified',
              source_sha256: 'abc',
            },
          ],
        },
        '/somebody/else': { status: 'completed', files: [] },
      },
    };
    put(cwd, { 'd/migration_state.json': JSON.stringify(old) });
    const { code, stderr } = await migrate('--resume');
    expect(code, stderr).toBe(0);
    expect(stderr).toContain('sub1: 1 file there already');
    expect(names()).toEqual(['sub1/new.txt', 'sub1/x.tsv.gz']);
    expect(record('s/sub1')).toMatchObject({ status: 'completed', odd: 7, files: [{ source_sha256: 'abc' }] });
    expect(state()).toMatchObject({ a_later_version: { says: ['this'] } });
    expect(state().directories['/somebody/else']).toEqual({ status: 'completed', files: [] });
  });

  it.each([
    ['{"directories": {', 'is no state of a migration'],
    ['[]', 'it is no object'],
    ['{"directories": {"/x": {"files": 5}}}', 'the record of /x is none'],
  ])('a state that is none is refused: %s', async (text, said) => {
    const { cwd, migrate } = tree();
    put(cwd, { 'd/migration_state.json': text });
    const { code, stderr } = await migrate('--resume');
    expect([code, stderr]).toEqual([1, expect.stringContaining(said)]);
    expect([readdirSync(join(cwd, 'd')), readFileSync(join(cwd, 'd/migration_state.json'), 'utf8')]).toEqual([
      ['migration_state.json'],
      text,
    ]);
  });

  it('killed in the middle, --resume comes to the end', async () => {
    const files = Object.fromEntries(Array.from({ length: 120 }, (_, n) => [`s/sub${n % 4}/${n}.tsv`, `${n}${TEXT}`]));
    const { cwd, migrate, names, unpacked } = tree(files);
    const args = [executable, 'migrate_compress', '-s', 's', '-d', 'd', '--iops-limit', '200'];
    const child = spawn(process.execPath, args, { cwd, stdio: ['ignore', 'ignore', 'pipe'] });
    child.stderr.on('data', (text) => {
      if (String(text).includes('sub1: copying')) child.kill('SIGKILL');
    });
    await new Promise((ended) => child.once('close', ended));
    const { code, stderr } = await migrate('--resume');
    expect(code, stderr).toBe(0);
    expect(stderr).toMatch(/sub0: \d+ files there already/);
    const wanted = Object.keys(files).map((name) => `${name.slice(2)}.gz`);
    expect(names()).toEqual(wanted.sort());
    for (const name of wanted) expect(unpacked(name)).toBe(files[`s/${name.slice(0, -3)}`]);
  });

  it('many runs share one directory of logs and its state', async () => {
    const cwd = scratch();
    const all = [0, 1, 2, 3];
    for (const n of all) put(cwd, { [`${n}/s/sub/a.tsv`]: `${n}${TEXT}` });
    const runs = all.map((n) =>
      run(['migrate_compress', '-s', `${n}/s`, '-d', `${n}/d`, '--log-dir', 'logs', '-q'], { cwd }),
    );
    expect((await Promise.all(runs)).map(({ code }) => code)).toEqual([0, 0, 0, 0]);
    const { directories } = JSON.parse(readFileSync(join(cwd, 'logs/migration_state.json'), 'utf8'));
    expect(Object.keys(directories).sort()).toEqual(
      all.flatMap((n) => [join(cwd, `${n}/s`), join(cwd, `${n}/s/sub`)]).sort(),
    );
    const logs = readdirSync(join(cwd, 'logs'));
    expect(logs.filter((name) => name.startsWith('rsync_sub_'))).toHaveLength(4);
    expect(logs.filter((name) => /^migration_\d/.test(name))).toHaveLength(4);
  });
});

it.each([
  [0o2777, 0o666],
  [0o2775, 0o660],
  [0o755, 0o600],
])('whoever may write a directory of logs (%o) may take the lock there, whatever the umask is', async (mode, lock) => {
  const { cwd } = tree();
  mkdirSync(join(cwd, 'logs'));
  chmodSync(join(cwd, 'logs'), mode);
  const command = [process.execPath, executable, 'migrate_compress', '-s', 's', '-d', 'd', '--log-dir', 'logs'];
  execFileSync('sh', ['-c', 'umask 077; exec "$@"', 'sh', ...command], { cwd, stdio: 'ignore' });
  expect(statSync(join(cwd, 'logs/.migration_state.lock')).mode & 0o777).toBe(lock);
  expect(readdirSync(join(cwd, 'logs')).filter((name) => name.startsWith('.'))).toEqual(['.migration_state.lock']);
});

describe('what the original loses', () => {
  it('a partial copy with nothing to compress is no success, and is tried again by --resume', async () => {
    const { cwd, migrate, names, record } = tree({ 's/sub1/plain': 'x', 's/sub1/other': 'y', 'd/sub1/plain/in': 'z' });
    const { code } = await migrate();
    expect(code).toBe(1);
    expect(record('s/sub1')).toMatchObject({ status: 'completed_with_errors', rsync_exit_code: 23 });
    // It advises no option of another command.
    expect(record('s/sub1').rsync_errors).toEqual([
      expect.stringMatching(/d\/sub1\/plain: a directory is in the way$/),
    ]);
    rmSync(join(cwd, 'd/sub1/plain'), { recursive: true });
    expect((await migrate('--resume')).code).toBe(0);
    expect(names()).toEqual(['sub1/other', 'sub1/plain']);
  });

  it('a failure of the root files is in the state and in the code', async () => {
    const { migrate, record } = tree({ 's/plain': 'x', 'd/plain/in': 'z' });
    expect((await migrate()).code).toBe(1);
    expect(record('s')).toMatchObject({ status: 'completed_with_errors', rsync_exit_code: 23 });
  });

  it('--stop-on-partial does not compress there, and goes on with the others', async () => {
    const { migrate, names, record } = tree({
      's/sub1/plain': 'x',
      's/sub1/a.tsv': TEXT,
      's/sub2/b.tsv': TEXT,
      'd/sub1/plain/in': 'z',
    });
    expect((await migrate('--stop-on-partial')).code).toBe(1);
    expect(names()).toEqual(['sub1/a.tsv', 'sub1/plain/in', 'sub2/b.tsv.gz']);
    expect(record('s/sub1').status).toBe('partial');
  });

  it('--check-existing goes by path and content, and loses nothing of the same name', async () => {
    const { migrate, names, cwd } = tree({
      ...FILES,
      's/sub1/README.txt': 'another file',
      's/sub1/[x].txt': 'odd',
      'f/README.txt': 'root file',
      'f/sub1/x.tsv.gz': gzipSync(`${TEXT}x`),
      'f/root.tsv.gz': gzipSync('stale'),
      'f/sub1/plain.txt': 'plaim',
    });
    const { code, stderr } = await migrate('--check-existing', '--check-path', 'f');
    expect(code, stderr).toBe(0);
    expect(names()).toEqual([
      'root.tsv.gz',
      'sub1/README.txt',
      'sub1/[x].txt',
      'sub1/plain.txt',
      'sub2/deep/y.CLUSTERS.gz',
    ]);
    expect(readFileSync(join(cwd, 'd/sub1/README.txt'), 'utf8')).toBe('another file');
  });

  it('--check-path alone changes nothing, and is told', async () => {
    const { migrate, names } = tree({ ...FILES, 'f/root.tsv.gz': gzipSync(TEXT) });
    const { code, stderr } = await migrate('--check-path', 'f');
    expect([code, names()]).toEqual([0, DONE]);
    expect(stderr).toContain('[WARNING] --check-path is for --check-existing');
  });

  it.each([
    ['migration_state.json', [], JSON.stringify({ directories: {} })],
    ['migration_state.json', ['--log-dir', 'd/'], 'no JSON'],
    ['.migration_state.lock', [], ''],
    ['sub1/migration_state.json', ['--log-dir', 'd/sub1'], 'no JSON'],
  ])('%s of the source is never taken for the state, nor lost: %j', async (name, options, text) => {
    const { cwd, migrate } = tree({ ...FILES, [`s/${name}`]: text });
    for (const more of [[], ['--resume'], ['--dry-run']]) {
      const { code, stderr } = await migrate(...options, ...more);
      expect([code, stderr]).toEqual([1, expect.stringMatching(/s\/\S+ would come where .* take a --log-dir outside/)]);
    }
    expect(existsSync(join(cwd, 'd'))).toBe(false);
    const { code, stderr } = await migrate('--log-dir', 'logs');
    expect([code, readFileSync(join(cwd, 'd', name), 'utf8')], stderr).toEqual([0, text]);
  });

  it('--check-existing reads archives of gzip and xz, and takes none that is not whole for its file', async () => {
    const gzip = gzipSync(TEXT);
    const xz = execFileSync('xz', ['-c'], { input: TEXT });
    const archives: Record<string, [Buffer, boolean]> = {
      'whole.gz': [gzip, true],
      'padded.gz': [Buffer.concat([gzip, Buffer.alloc(512)]), true],
      'two.gz': [Buffer.concat([gzipSync(TEXT.slice(0, 900)), gzipSync(TEXT.slice(900))]), true],
      'whole.xz': [xz, true],
      'zeros-and-more.gz': [Buffer.concat([gzip, Buffer.alloc(1), Buffer.from('garbage')]), false],
      'more.gz': [Buffer.concat([gzip, Buffer.from('garbage')]), false],
      'short.gz': [gzip.subarray(0, -1), false],
      // The check of its content, before the index and the footer of 12 bytes each, says something else.
      'damaged.xz': [Buffer.from(xz).fill(0, xz.length - 32, xz.length - 24), false],
      'more.xz': [Buffer.concat([xz, Buffer.from('garbage!')]), false],
      'other.gz': [gzipSync(`${TEXT}x`), false],
      'empty.gz': [Buffer.alloc(0), false],
    };
    const files = Object.entries(archives).map(([name, [archive]]) => [
      [`s/sub/${name.slice(0, -3)}.${name.slice(-2)}.tsv`, TEXT],
      [`f/sub/${name.slice(0, -3)}.${name.slice(-2)}.tsv${name.slice(-3)}`, archive],
    ]);
    const { migrate, names } = tree(Object.fromEntries(files.flat()));
    const { code, stderr } = await migrate('--check-existing', '--check-path', 'f');
    expect(code, stderr).toBe(0);
    const copied = Object.entries(archives).filter(([, [, whole]]) => !whole);
    expect(names()).toEqual(copied.map(([name]) => `sub/${name}.tsv.gz`).sort());
  });

  it('--check-existing compares content, whatever times and owners are, and also of a name that is not UTF-8', async () => {
    const { cwd, migrate, names } = tree({
      's/sub/a': 'same',
      'f/sub/a': 'same',
      's/sub/b': 'same',
      'f/sub/b': 'sane',
    });
    const odd = (directory: string, end: string) => Buffer.from(`${cwd}/${directory}/sub/\xfe${end}`, 'latin1');
    writeFileSync(odd('s', '.tsv'), TEXT);
    writeFileSync(odd('f', '.tsv.gz'), gzipSync(TEXT));
    for (const name of ['a', 'b']) utimesSync(join(cwd, 'f/sub', name), 1e9, 1e9);
    const { code, stderr } = await migrate('--check-existing', '--check-path', 'f');
    expect([code, names()], stderr).toEqual([0, ['sub/b']]);
    expect(stderr).toContain('sub: 2 files there already');
  });

  it('what an earlier run left as it was goes where its archive has the same content', async () => {
    const { migrate, names } = tree({ ...FILES, 'd/sub1/x.tsv': `${TEXT}x`, 'd/sub2/old.tsv': TEXT });
    expect((await migrate()).code).toBe(0);
    expect(names()).toEqual([...DONE, 'sub2/old.tsv.gz'].sort());
  });

  it('no uncompressed copy is in the destination, and names of one file are names of one archive', async () => {
    const { cwd, migrate, names, unpacked } = tree({ 's/sub1/a.tsv': TEXT });
    linkSync(join(cwd, 's/sub1/a.tsv'), join(cwd, 's/sub1/b.tsv'));
    const { code } = await migrate('--log-dir', 'logs', '--json');
    expect(code).toBe(0);
    expect(names()).toEqual(['sub1/a.tsv.gz', 'sub1/b.tsv.gz']);
    expect(unpacked('sub1/b.tsv.gz')).toBe(TEXT);
    expect(statSync(join(cwd, 'd/sub1/a.tsv.gz')).nlink).toBe(2);
  });

  it.each([['--stop-on-partial'], ['--verify'], ['--resume'], ['--copy-with', 'rsync']])(
    'names of one file in the destination become names of one archive too: %s',
    async (...options) => {
      const { cwd, migrate, names, unpacked, record } = tree({ 's/sub1/deep/a.tsv': TEXT, 's/top.tsv': TEXT });
      linkSync(join(cwd, 's/sub1/deep/a.tsv'), join(cwd, 's/sub1/deep/b.tsv'));
      linkSync(join(cwd, 's/top.tsv'), join(cwd, 's/too.tsv'));
      execFileSync('cp', ['-a', 's', 'd'], { cwd });
      const { code, stderr } = await migrate(...options);
      expect(code, stderr).toBe(0);
      expect(names()).toEqual(['sub1/deep/a.tsv.gz', 'sub1/deep/b.tsv.gz', 'too.tsv.gz', 'top.tsv.gz']);
      for (const name of names()) {
        expect([unpacked(name), statSync(join(cwd, 'd', name)).nlink]).toEqual([TEXT, 2]);
      }
      expect(record('s/sub1')).toMatchObject({ status: 'completed', files: [{}, {}] });
    },
  );

  it.each([[[]], [['--stop-on-partial']], [['--copy-with', 'rsync']]])(
    'names of one file that the source has not are told, and no success: %j',
    async (options) => {
      const { cwd, migrate, names, record } = tree({ 's/sub1/x.tsv': TEXT, 'd/sub1/old.tsv': TEXT });
      linkSync(join(cwd, 'd/sub1/old.tsv'), join(cwd, 'd/sub1/older.tsv'));
      const { code, stderr } = await migrate(...options);
      expect([code, stderr]).toEqual([1, expect.stringContaining('2 files in the destination with several names')]);
      expect(names()).toEqual(['sub1/old.tsv', 'sub1/older.tsv', 'sub1/x.tsv.gz']);
      expect(record('s/sub1').status).toBe('completed_with_errors');
    },
  );

  it('what an interrupted rsync --partial has left of a file goes when its archive is proved, also with --resume', async () => {
    const files = { 's/sub1/z.tsv': TEXT, 's/sub1/none.tsv': TEXT, 's/sub1/other.tsv': TEXT, 's/sub2/y.tsv': TEXT };
    const { cwd, migrate, names, record } = tree({
      ...files,
      'd/sub1/z.tsv': TEXT.slice(0, 5000),
      'd/sub1/none.tsv': '',
      'd/sub1/other.tsv': `${TEXT.slice(0, 5000)}another`,
    });
    const begun = {
      ...{ source_dir: join(cwd, 's/sub1'), dest_dir: join(cwd, 'd/sub1'), status: 'syncing', rsync_command: 'rsync' },
      ...{ rsync_exit_code: null, rsync_log_file: null, rsync_errors: [], files: [], total_source_size: 0 },
      ...{ total_compressed_size: 0, start_time: null, end_time: null, error_message: null },
    };
    const before = { last_updated: '2026-01-26T16:16:42.123456', directories: { [begun.source_dir]: begun } };
    put(cwd, { 'd/migration_state.json': JSON.stringify(before) });
    // What has anything that the source has not stays, and is told.
    const first = await migrate('--resume');
    expect([first.code, first.stderr]).toEqual([1, expect.stringContaining('other.tsv.gz: its content is another')]);
    const archives = ['none', 'other', 'z'].map((name) => `sub1/${name}.tsv.gz`).concat('sub2/y.tsv.gz');
    expect(names()).toEqual([...archives, 'sub1/other.tsv'].sort());
    rmSync(join(cwd, 'd/sub1/other.tsv'));
    // Nor does what is beside an archive that the state knows keep it from its end.
    put(cwd, { 'd/sub2/y.tsv': TEXT.slice(0, 100) });
    const { code, stderr } = await migrate('--resume');
    expect(code, stderr).toBe(0);
    expect([names(), record('s/sub1').status]).toEqual([archives, 'completed']);
  });

  it('what a copy that is not whole has not brought is not compressed', async () => {
    const { cwd, names } = tree({
      's/sub1/x.tsv': TEXT,
      's/sub1/b.tsv': TEXT,
      'd/sub1/x.tsv': 'half',
      'd/sub1/b.tsv': TEXT,
    });
    const source = await faulty(join(cwd, 's'), 'larger=1000,only=x.tsv');
    if (source === undefined) return;
    for (const more of [[], ['--verify', '--resume']]) {
      const { code, stderr } = await run(['migrate_compress', '-s', source, '-d', 'd', ...more], { cwd });
      expect(code, stderr).toBe(1);
      expect(names()).toEqual(['sub1/b.tsv.gz', 'sub1/x.tsv']);
    }
    expect(readFileSync(join(cwd, 'd/sub1/x.tsv'), 'utf8')).toBe('half');
  });

  it('a second run leaves no original beside its archive', async () => {
    const { migrate, names } = tree();
    await migrate();
    expect((await migrate()).code).toBe(0);
    expect(names()).toEqual(DONE);
  });

  it('an archive has what its file had; a link to a directory stays a link', async () => {
    const { cwd, migrate, names } = tree({ 's/sub1/x.tsv': TEXT });
    const file = join(cwd, 's/sub1/x.tsv');
    chmodSync(file, 0o640);
    utimesSync(file, 1_600_000_000, 1_500_000_000);
    if (process.getuid?.() === 0) chownSync(file, 7, 8);
    symlinkSync('sub1', join(cwd, 's/link'));
    const { code, stderr } = await migrate();
    expect(code, stderr).toBe(0);
    expect([names(), readlinkSync(join(cwd, 'd/link'))]).toEqual([['link', 'sub1/x.tsv.gz'], 'sub1']);
    const of = (path: string) => {
      const { mode, uid, gid, mtimeMs } = statSync(join(cwd, path));
      return { mode, uid, gid, mtimeMs };
    };
    expect(of('d/sub1/x.tsv.gz')).toEqual(of('s/sub1/x.tsv'));
  });

  it('two directories that the destination takes for one do not become one', async () => {
    const { cwd, names } = tree({ 's/Dir/a.tsv': TEXT, 's/dir/b.tsv': `${TEXT}b` });
    mkdirSync(join(cwd, 'd'));
    const destination = await faulty(join(cwd, 'd'), 'fold');
    if (destination === undefined) return;
    const { code, stderr } = await run(['migrate_compress', '-s', 's', '-d', destination], { cwd });
    expect([code, names()], stderr).toEqual([1, ['Dir/a.tsv.gz']]);
    expect(stderr).toContain('the destination takes dir and Dir for one: dir is not copied');
  });

  it.each(['bulkhaul', 'rsync'])('what is the source, holds it or lies in it is no destination (%s)', async (tool) => {
    const cwd = scratch();
    const names = ['top', 'data/x', 'b/y'];
    put(cwd, Object.fromEntries(names.map((name) => [`q/a/data/${name}.tsv`, `${TEXT}${name}`])));
    const inner = ['a/z', 'a/data/z', 'c/z', 'd/z'];
    put(cwd, Object.fromEntries(inner.map((name) => [`q/a/data/${name}.tsv`, 'inner'])));
    symlinkSync('a/data/b', join(cwd, 'q/c'));
    const facts = () => {
      const [files, times] = [
        readdirSync(join(cwd, 'q/a/data'), { recursive: true }).sort(),
        new Map<string, bigint>(),
      ];
      for (const file of files) times.set(`${file}`, statSync(join(cwd, `q/a/data/${file}`), { bigint: true }).mtimeNs);
      return times;
    };
    const before = facts();
    const migrate = (...args: string[]) =>
      run(['migrate_compress', '-s', 'q/a/data', ...args, '--log-dir', 'logs', '--copy-with', tool], { cwd });
    // q/a holds the source, and q/c leads into it.
    const holding = await migrate('-d', 'q');
    expect(holding.code, holding.stderr).toBe(1);
    expect(holding.stderr).toMatch(/q\/a holds the source/);
    expect(holding.stderr).toMatch(/q\/c is the source, or lies in it/);
    expect(facts()).toEqual(before);
    for (const there of ['top.tsv.gz', 'b/y.tsv.gz', 'd/z.tsv.gz'])
      expect(existsSync(join(cwd, 'q', there))).toBe(true);
    // q/a/data is the source.
    const same = await migrate('-d', 'q/a');
    expect(same.code, same.stderr).toBe(1);
    expect(same.stderr).toMatch(/q\/a\/data is the source, or lies in it/);
    expect(facts()).toEqual(before);
    expect(existsSync(join(cwd, 'q/a/b/y.tsv.gz'))).toBe(true);
    const whole = await migrate('-d', 'q', '--process-root');
    expect(whole.code, whole.stderr).toBe(1);
    expect(whole.stderr).toMatch(/q holds the source/);
    expect(facts()).toEqual(before);
  });

  it.each([[[]], [['--stop-on-partial']]])(
    'a sub-directory of the destination that is a link to a directory is followed, as by the original: %j',
    async (more) => {
      const { cwd, migrate, names, record } = tree({
        ...FILES,
        'other/keep': 'x',
        'other/x.tsv.gz': gzipSync(`${TEXT}x`),
      });
      mkdirSync(join(cwd, 'd'));
      symlinkSync('../other', join(cwd, 'd/sub1'));
      for (const resume of [[], ['--resume']]) {
        const { code, stderr } = await migrate('--verify', ...more, ...resume);
        expect(code, stderr).toBe(0);
        expect(readlinkSync(join(cwd, 'd/sub1'))).toBe('../other');
        expect(names('other')).toEqual(['keep', 'plain.txt', 'x.tsv.gz']);
        const { status, files } = record('s/sub1');
        expect([status, files]).toMatchObject([
          'completed',
          [{ status: 'verified', source_path: join(cwd, 'd/sub1/x.tsv'), source_sha256: sha(`${TEXT}x`) }],
        ]);
      }
      // Never into the source.
      rmSync(join(cwd, 'd/sub1'));
      symlinkSync('../s/sub2', join(cwd, 'd/sub1'));
      const into = await migrate(...more);
      expect([into.code, into.stderr]).toEqual([1, expect.stringContaining('is the source, or lies in it')]);
      expect(names('s')).toEqual(
        Object.keys(FILES)
          .map((name) => name.slice(2))
          .sort(),
      );
      // rsync would replace it.
      rmSync(join(cwd, 'd/sub1'));
      symlinkSync('../other', join(cwd, 'd/sub1'));
      const real = await migrate('--copy-with', 'rsync');
      expect([real.code, real.stderr]).toEqual([1, expect.stringContaining('is a link to a directory: rsync')]);
      expect(readlinkSync(join(cwd, 'd/sub1'))).toBe('../other');
    },
  );

  it('names that look like errors are none', async () => {
    const { migrate, names, record } = tree({ 's/sub1/errors failed cannot.tsv': TEXT });
    expect((await migrate()).code).toBe(0);
    expect(record('s/sub1').rsync_errors).toEqual([]);
    expect(names()).toEqual(['sub1/errors failed cannot.tsv.gz']);
  });

  it('a name that is not UTF-8 is a name like any other', async () => {
    const { cwd, migrate } = tree({});
    mkdirSync(join(cwd, 's'));
    const sub = Buffer.concat([Buffer.from(join(cwd, 's/')), Buffer.from([0x73, 0xff])]);
    mkdirSync(sub);
    writeFileSync(Buffer.concat([sub, Buffer.from('/\xfe.tsv', 'latin1')]), TEXT);
    for (const more of [[], ['--resume']]) expect((await migrate('--verify', ...more)).code).toBe(0);
    const there = Buffer.concat([
      Buffer.from(join(cwd, 'd/')),
      Buffer.from([0x73, 0xff]),
      Buffer.from('/\xfe.tsv.gz', 'latin1'),
    ]);
    expect(gunzipSync(readFileSync(there)).toString()).toBe(TEXT);
  });

  it.each([
    [['-s', 's', '-d', 's/sub1/out'], 1, 'lies in the source'],
    [['-s', 's', '-d', 'd', '--log-dir', 's/logs'], 1, '--log-dir'],
    [['-s', 'none', '-d', 'd'], 1, 'the source none is no directory'],
    [['-s', 's', '-d', 'd', '--check-existing', '--check-path', 'none'], 1, '--check-path none is no directory'],
    [['-s', 's', '-d', 'd', '--level', '13'], 2, '13 is not from 1 to 12'],
    [['-s', 's', '-d', 'd', '--ext', ''], 2, '--ext'],
    [['-s', 's', '-d', 'd', '--exclude', '+ *.tsv'], 2, 'argument --exclude: a pattern only'],
    [['-s', 's'], 2, 'the following arguments are required: -d/--dest'],
  ])('%j is refused', async (args, code, said) => {
    const { cwd } = tree();
    const refused = await run(['migrate_compress', ...args], { cwd });
    expect(refused).toMatchObject({ code, stderr: expect.stringContaining(said) });
    expect(readdirSync(cwd)).toEqual(['s']);
  });
});

describe('--copy-with rsync', () => {
  const RSYNC = ['--copy-with', 'rsync'];

  it('has the real one copy, compresses then, and writes down the same', async () => {
    const { cwd, migrate, names, unpacked, record } = tree();
    const dry = await migrate(...RSYNC, '--dry-run');
    expect(dry).toMatchObject({ code: 0, stdout: expect.stringContaining('>f+++++++++ sub1/x.tsv\n') });
    expect(existsSync(join(cwd, 'd'))).toBe(false);
    const { code, stderr } = await migrate(...RSYNC, '--verify', '--bwlimit', '1g');
    expect(code, stderr).toBe(0);
    expect(names()).toEqual(DONE);
    expect(unpacked('sub2/deep/y.CLUSTERS.gz')).toBe(`${TEXT}y`);
    expect(record('s/sub1')).toMatchObject({
      status: 'completed',
      rsync_exit_code: 0,
      rsync_command: expect.stringMatching(
        /^rsync -av --partial-dir=\.bulkhaul-partial --checksum --itemize-changes .* '--include=\/sub1\/\*\*\*' /,
      ),
      files: [{ status: 'verified', source_sha256: sha(`${TEXT}x`) }],
    });
    const log = readFileSync(String(record('s/sub1').rsync_log_file), 'utf8');
    expect(log).toMatch(/^>f\+{9} x\.tsv$/m);
    expect(log).toMatch(/\nExit code: 0\nExit meaning: Success\n$/);
    const again = await migrate(...RSYNC, '--resume');
    expect([again.code, again.stderr]).toEqual([0, expect.stringContaining('sub1: 1 file there already')]);
    expect(names()).toEqual(DONE);
  });

  it.each([
    ['*.log', ['a.log', 'sub1/deep/b.log'], ['keep', 'sub1/c']],
    ['**/cache', ['cache/a', 'sub1/deep/cache/b'], ['keep', 'sub1/c']],
    ['/top_level', ['top_level/a'], ['keep', 'sub1/top_level/a']],
    ['/sub1/only', ['sub1/only'], ['keep', 'sub2/sub1/only']],
  ])('excludes %s as the engine does', async (pattern, out, stay) => {
    const { migrate, names, state } = tree(Object.fromEntries([...out, ...stay].map((name) => [`s/${name}`, 'x'])));
    expect((await migrate(...RSYNC, '--exclude', pattern)).code).toBe(0);
    expect(names()).toEqual([...stay].sort());
    for (const name of Object.keys(state().directories)) expect(name).not.toMatch(/\/(cache|top_level)$/);
  });

  it('knows what is partial by its code, and by no word in a name', async () => {
    const { migrate, names, record } = tree({
      's/sub1/plain': 'x',
      's/sub1/#errors failed cannot.tsv': TEXT,
      's/[sub]*/a\\b.tsv': TEXT,
      'd/sub1/plain/in': 'z',
    });
    const { code } = await migrate(...RSYNC);
    expect([code, record('s/sub1')]).toMatchObject([1, { status: 'completed_with_errors', rsync_exit_code: 23 }]);
    expect(record('s/sub1').rsync_errors).toEqual([expect.stringContaining('sub1/plain')]);
    expect(record('s/[sub]*')).toMatchObject({ status: 'completed', rsync_exit_code: 0, rsync_errors: [] });
    expect(names()).toEqual(['[sub]*/a\\b.tsv.gz', 'sub1/#errors failed cannot.tsv.gz', 'sub1/plain/in']);
  });

  it('zeros for what it could not read never get the name of a file, nor become an archive', async () => {
    const { cwd, names } = tree({ 's/sub1/x.tsv': TEXT, 's/sub1/plain': TEXT, 's/sub1/b.tsv': TEXT });
    const source = await faulty(join(cwd, 's'), 'larger=1000,only=x.tsv');
    if (source === undefined) return;
    // The second run finds what the first has left.
    for (const more of [[], ['--resume']]) {
      const args = ['migrate_compress', ...RSYNC, '-s', source, '-d', 'd', ...more];
      const { code, stderr } = await run(args, { cwd });
      expect(code, stderr).toBe(1);
      expect(stderr).toContain('Partial transfer');
      expect(names()).toEqual(['sub1/.bulkhaul-partial/x.tsv', 'sub1/b.tsv.gz', 'sub1/plain']);
    }
    // What is left of it does not come into the final data.
    expect((await run(['move_to_final', '-s', 'd', '-d', 'f'], { cwd })).code).toBe(0);
    expect(names('f')).toEqual(['sub1/b.tsv.gz', 'sub1/plain']);
  });

  it('a name that is not UTF-8 is a name like any other, of a sub-directory too', async () => {
    const { cwd, migrate } = tree({ 's/sub1/keep': 'x' });
    const at = (name: string) => Buffer.concat([Buffer.from(`${cwd}/`), Buffer.from(name, 'latin1')]);
    writeFileSync(at('s/sub1/\xfe.tsv'), TEXT);
    expect((await migrate(...RSYNC)).code).toBe(0);
    expect(gunzipSync(readFileSync(at('d/sub1/\xfe.tsv.gz'))).toString()).toBe(TEXT);
    // What its name has as a pattern is none, and nothing but it comes with it.
    mkdirSync(at('s/#\xff*\n'));
    mkdirSync(at('s/#\xff*\n/deep'));
    writeFileSync(at('s/#\xff*\n/deep/y.tsv'), TEXT);
    writeFileSync(at('s/#\xff*\n/z.tsv'), TEXT);
    for (const more of [['--verify'], ['--verify', '--resume']]) {
      const { code, stderr } = await migrate(...RSYNC, ...more);
      expect(code, stderr).toBe(0);
      expect(gunzipSync(readFileSync(at('d/#\xff*\n/deep/y.tsv.gz'))).toString()).toBe(TEXT);
      expect(existsSync(at('d/#\xff*\n/z.tsv.gz'))).toBe(true);
    }
    const all = readdirSync(join(cwd, 'd'), { encoding: 'buffer' }).map((name) => name.toString('latin1'));
    expect(all.filter((name) => !/^(\.?migration_|rsync_)/.test(name)).sort()).toEqual(['#\xff*\n', 'sub1']);
  });

  it('what rsync could not mind is refused', async () => {
    const { migrate } = tree();
    expect(await migrate(...RSYNC, '--nice', '5')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('argument --nice: rsync knows nothing of it'),
    });
  });
});

it('help has every flag, and the documentation a row for each of the original', () => {
  const page = helpText(100);
  for (const { names } of Object.values(FLAGS)) for (const name of names) expect(page).toContain(name);
  const all = readFileSync(new URL('../../../docs/dropin.md', import.meta.url), 'utf8');
  const section = all.split('\n## ').find((each) => each.startsWith('migrate_compress\n')) ?? '';
  const documented = section.split('\n').flatMap((row) => /^\| ((?:`-[^`]+` ?)+)\|/.exec(row)?.[1]?.trim() ?? []);
  const spelled = originalFlags().map(({ names }) => names.map((name) => `\`${name}\``).join(' '));
  expect(documented.sort()).toEqual(spelled.sort());
});
