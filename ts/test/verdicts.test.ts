/**
 * What a run comes to, as its user sees it: codes, last lines, where failures are kept, and what is refused with the right
 * command.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { elsewhere } from '../src/cli/values.js';
import { executable, jsonLines, program, run, scratch } from './rig.js';

/** A directory with `files`, and the way to put a name below it. */
function tree(files: Readonly<Record<string, string>>): (name?: string) => string {
  const root = scratch();
  const at = (name = '') => join(root, name);
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(join(root, name, '..'), { recursive: true });
    writeFileSync(at(name), content);
  }
  return at;
}

const lastLine = (text: string) => text.trimEnd().split('\n').at(-1);

describe('a path of another machine', () => {
  it.each([
    ['nas:/backup', 'copy', 'rsync -aHAX photos nas:/backup does that; ./nas:/backup is'],
    ['me@nas:x y', 'copy', "rsync -aHAX photos 'me@nas:x y' does that"],
    ['nas::module', 'copy', 'rsync -aHAX photos nas::module does that'],
    ['rsync://nas/module', 'copy', 'rsync -aHAX photos rsync://nas/module does that'],
    ['nas:/old', 'remove', 'ssh nas bulkhaul remove /old does that'],
    ['nas:photos', 'list', 'ssh nas bulkhaul list photos does that'],
    ['nas:', 'list', 'ssh nas bulkhaul list . does that'],
    ['nas:a b', 'remove', "ssh nas bulkhaul remove ''\\''a b'\\''' does that"],
    ['me@[fe80::1]:/x', 'list', 'ssh me@fe80::1 bulkhaul list /x does that'],
    ['[::1]:/x', 'copy', "rsync -aHAX photos '[::1]:/x' does that"],
    ['s3://bucket/x', 'copy', 'bulkhaul sync photos s3://bucket/x does that; ./s3://bucket/x is'],
    ['gs://bucket', 'list', 'rclone lsf photos :gcs:bucket does that'],
    ['s3://bucket/x', 'compress', 'bulkhaul sync comes before or after, with a directory here; ./s3'],
    ['gs://bucket/x', 'compress', 'rclone copy comes before or after, with a directory here; ./gs'],
    ['nas:/x', 'migrate', 'rsync -aHAX comes before or after, with a directory here; ./nas'],
    ['https://host/x', 'copy', 'rclone or curl does that'],
    ['file:///etc/x', 'copy', 'the path is /etc/x'],
  ])('%s of %s: %s', (path, verb, said) => {
    expect(elsewhere(path, verb, ['photos', path])).toContain(said);
  });

  it.each(['./nas:/backup', '/nas:/x', 'a/b:c', 'a', ':', './s3://x', ''])('%j is none', (path) => {
    expect(elsewhere(path, 'copy', [path])).toBeUndefined();
  });

  it('is refused by every verb, and ./ is the way to mean it', async () => {
    const at = tree({ 'a:b': '1' });
    for (const words of [
      ['copy', 'a:b', 'd'],
      ['copy', './a:b', 'a:d'],
      ['list', 'a:b'],
      ['compare', 'a:b', 'a:b'],
      ['remove', '-f', 'a:b'],
      ['move', 'a:b', 'd'],
      ['migrate', 'a:b', 'd'],
      ['copy', '--workers', '2', 'a:b', 'd'],
      ['compress', 'a:b'],
      ['partition', '-n', '2', 'a:b'],
      ['manifest', 'a:b'],
      ['verify', 'a:b'],
      ['pack', 'a:b', 'd'],
      ['unpack', 'a:b', 'd'],
      ['sync', 'a:b', 'd'],
      ['sync', 'd', 'a:b'],
      ['retain', '--key', 'month', '--keep', '1', 'a:b'],
      ['image', 'inspect', 'a:b'],
    ]) {
      const { code, stderr } = await run(words, { cwd: at() });
      expect([code, stderr]).toEqual([2, expect.stringContaining('names another host')]);
    }
    expect(readdirSync(at())).toEqual(['a:b']);
    expect((await run(['copy', './a:b', './c:d'], { cwd: at() })).code).toBe(0);
    expect(readFileSync(at('c:d'), 'utf8')).toBe('1');
  });

  it('of hpcp is refused where nothing here has the name', async () => {
    const at = tree({ 'a:b': '1' });
    expect((await run(['hpcp', 'a:b', '-d', 'c'], { cwd: at() })).code).toBe(0);
    const to = await run(['hpcp', 'a:b', '-d', 'nas:/x'], { cwd: at() });
    expect([to.code, to.stderr]).toEqual([202, expect.stringContaining('rsync -aHAX SRC nas:/x does that')]);
    const from = await run(['hpcp', 's3://b', '-d', 'd'], { cwd: at() });
    expect([from.code, from.stderr]).toEqual([240, expect.stringContaining('bulkhaul sync s3://b DEST does that')]);
    expect(existsSync(at('nas:'))).toBe(false);
  });
});

describe('a command that cannot start', () => {
  it.each([20, 21, 22])('with %d descriptors ends with 2 and a sentence', async (limit) => {
    const at = tree({ a: '1' });
    const line = `ulimit -n ${limit}; exec "${process.execPath}" "${executable}" copy a b`;
    const { code, stderr } = await program('bash', ['-c', line], { cwd: at() });
    expect([code, stderr.trimEnd().split('\n')]).toEqual([
      2,
      [expect.stringMatching(/^(bulkhaul|copy): .*too many open files/i)],
    ]);
  });
});

describe('a dry run', () => {
  const script = `
old() { touch -h -d '2001-01-01 00:00:00' "$@"; }
mkdir s d; cd s; mkdir -p sub/deep modes times new/er made
echo 1 > a; echo 22 > sub/b; echo 3 > sub/deep/c; ln -s a link; ln -s a link-time; ln -s a link-text
mkfifo fifo fifo-mode; mknod dev c 1 3; mknod dev-other c 1 5
echo one > size; echo abc > same-size; echo x > mode; echo x > owner; echo x > time; echo x > both; : > empty
echo f > was-link; ln -s x was-file; ln -s x was-fifo; mkfifo was-file2; echo x > 'odd name'; echo x > new/er/f
echo h > hard1; ln hard1 hard2; echo x > sub!; echo x > sub-
cd ..; cp -a s/. d/; cd d
rm -r a new sub/deep/c fifo dev dev-other empty link made was-link was-file was-fifo was-file2 hard2
mknod dev-other c 1 7; echo three > size; echo xyz > same-size; chmod 600 mode fifo-mode; chown 5:6 owner; chmod 777 both
ln -sfn b link-text; ln -s x was-link; echo f > was-file; mkfifo was-fifo; echo f > was-file2; chmod 700 modes
echo e > extra; mkdir extra-dir; echo e > extra-dir/e
old size same-size time both link-time times sub
find ../s -exec touch -h -d '2010-01-01' {} +
touch -h -d '2010-01-01' mode owner fifo-mode modes 'odd name' sub/b sub! sub- link-text sub/deep hard1 .
`;
  const built = async () => {
    const at = tree({});
    expect(await program('bash', ['-ec', script], { cwd: at() })).toMatchObject({ code: 0, stderr: '' });
    return at;
  };

  it.skipIf(process.getuid?.() !== 0).each([
    [[], []],
    [['--delete'], ['--delete']],
    [
      ['--exclude', 'sub'],
      ['--exclude', 'sub'],
    ],
    [['--no-owner'], ['--no-owner', '--no-group']],
    [['--no-perms'], ['--no-perms']],
  ])('itemises %j as rsync -ain %j', async (ours, theirs) => {
    const at = await built();
    const wanted = await program('rsync', ['-aHin', ...theirs, 's/', 'd/'], { cwd: at() });
    // One worker: which of several links comes first is the same each time.
    const { code, stdout } = await run(['copy', '-n', '-j', '1', ...ours, 's/', 'd'], { cwd: at() });
    const lines = (text: string) => text.trimEnd().split('\n').sort();
    expect([code, lines(stdout)]).toEqual([0, lines(wanted.stdout)]);
  });

  it.skipIf(process.getuid?.() !== 0)(
    'tells its entries in the order of their paths, and says what it is',
    async () => {
      const at = await built();
      const key = (path: string) => Buffer.from(path.replaceAll('/', '\0'), 'latin1');
      const ordered = (paths: string[]) => paths.toSorted((one, two) => Buffer.compare(key(one), key(two)));
      for (const words of [
        ['copy', '-n', '--json', '-j', '4', '--delete', 's/', 'd'],
        ['remove', '-n', '--json', '-j', '4', 's', 'd'],
      ]) {
        const { stdout } = await run(words, { cwd: at() });
        const entries = jsonLines(stdout).filter(({ type }) => type === 'entry');
        const paths = entries.map(({ path }) => String(path));
        expect(paths.length).toBeGreaterThan(30);
        expect(paths).toEqual(ordered(paths));
        expect(new Set(entries.map(({ dryRun }) => dryRun))).toEqual(new Set([true]));
        expect(jsonLines(stdout).at(-1)).toMatchObject({ type: 'summary', dryRun: true });
      }
    },
  );

  it('of any verb says so in JSON and in the log, and its sizes are bytes', async () => {
    const at = tree({ 's/a': '12345', 's/b': '1' });
    const cwd = at();
    for (const words of [
      ['copy', 's', 'd'],
      ['remove', 's'],
      ['hpcp', 's', '-d', 'd'],
      ['hpcp', 's', '-fl', 'L'],
      ['hpcp', 's', '-d', 's', '-dfl', 'L'],
      ['hpcp', '-rm', '-rf', 's'],
    ]) {
      const { code, stdout } = await run([...words, '--dry-run', '--json', '--log-file', 'log'], { cwd });
      expect([words, code, jsonLines(stdout).at(-1)]).toMatchObject([words, 0, { dryRun: true, exitCode: 0 }]);
      const log = readFileSync(at('log'), 'utf8').trimEnd().split('\n');
      expect(JSON.parse(log.at(-1) ?? '')).toMatchObject({ msg: 'summary', dryRun: true });
      if (words[0] === 'copy') {
        expect(jsonLines(stdout).at(-1)).toMatchObject({ plannedBytes: 6 });
        expect(jsonLines(stdout)).toContainEqual(expect.objectContaining({ path: 's/a', bytes: 5 }));
      }
    }
    expect(readdirSync(cwd).sort()).toEqual(['log', 's']);
    const { stderr } = await run(['copy', '-n', 's', 'd'], { cwd });
    expect(stderr).toContain('2 files would be copied (6 B)');
  });
});

describe('two sources with one name', () => {
  const both = () => tree({ 'a/x': 'one', 'b/x': 'two', 'a/same': 's', 'b/same': 's', 'a/d/1': '1', 'b/d/2': '2' });

  it('is a failure that names both, unless told which', async () => {
    const at = both();
    const cwd = at();
    for (const options of [[], ['-n'], ['--move']]) {
      const { code, stderr } = await run(['copy', ...options, 'a/', 'b/', 'd'], { cwd });
      expect([options, code]).toEqual([options, 23]);
      expect(stderr).toContain('bulkhaul: create a/x: another source brings this name with other content: b/x\n');
      expect(stderr).toContain('1 failure: 1 collision');
      expect(stderr).toContain('note (same-name, 1x)');
      const stays = expect.stringContaining('only what is copied leaves its source, so this one stays');
      expect(stderr).toEqual(options.includes('--move') ? stays : expect.not.stringContaining('stays'));
    }
    expect(readFileSync(at('a/x'), 'utf8')).toBe('one');
  });

  it.each([
    ['last', 'two'],
    ['first', 'one'],
  ])('--on-collision %s: %s', async (rule, content) => {
    const at = both();
    const { code } = await run(['copy', '--on-collision', rule, 'a/', 'b/', 'd'], { cwd: at() });
    expect([code, readFileSync(at('d/x'), 'utf8')]).toEqual([0, content]);
    expect(readdirSync(at('d/d'))).toEqual(['1', '2']);
  });

  it('and they are the very same: it is said so', async () => {
    const at = both();
    const { code, stderr } = await run(['copy', '--move', 'a/d', './a/d', 'd'], { cwd: at() });
    expect([code, stderr]).toEqual([0, expect.stringContaining('sources name it more than once, first at a/d/1\n')]);
    expect(stderr).not.toContain('stays');
    expect([existsSync(at('a/d')), readFileSync(at('d/d/1'), 'utf8')]).toEqual([false, '1']);
  });

  it('of hpcp is as in its original: the last', async () => {
    const at = both();
    expect((await run(['hpcp', 'a/', 'b/', '-d', 'd'], { cwd: at() })).code).toBe(0);
    expect(readFileSync(at('d/x'), 'utf8')).toBe('two');
  });
});

it.each([
  ['USAGE', 'copy --frob a d'],
  ['USAGE', 'copy --jobs x a d'],
  ['USAGE', 'copy'],
  ['USAGE', 'copy host:/x d'],
  ['USAGE', 'copy --log-file no/log a d'],
  ['SAFETY', 'copy s s/d'],
  ['NO_SOURCE', 'image inspect gone'],
  ['JOURNAL', 'status none'],
  ['JOURNAL', 'resume none'],
])('what keeps a command from beginning is one line of JSON, whoever finds it: %s, %s', async (code, line) => {
  const at = tree({ a: '1', 's/b': '2' });
  const { stdout, stderr } = await run([...line.split(' '), '--json'], { cwd: at(), env: { XDG_STATE_HOME: at('x') } });
  expect(jsonLines(stdout)).toMatchObject([{ type: 'error', kind: 'refused', code }]);
  expect(stderr).toMatch(/^bulkhaul: [^\n]+\n$/);
});

describe('what is missing', () => {
  it('is 23, and what is there is dealt with', async () => {
    const at = tree({ a: '1', 's/b': '2', list: 'b\ngone\n' });
    const cwd = at();
    for (const words of [
      ['copy', 'a', 'gone', 'd'],
      ['copy', '--files-from', 'list', 's', 'd'],
      ['list', 's', 'gone'],
      ['remove', '-f', '-n', 'a', 'gone'],
    ]) {
      const { code, stderr } = await run(words, { cwd });
      if (words[0] === 'remove') expect(code).toBe(0);
      else expect([words, code, stderr]).toEqual([words, 23, expect.stringContaining('1 failure: 1 missing')]);
    }
    expect(readdirSync(at('d'))).toEqual(['a', 'b']);
    for (const words of [
      ['copy', 'gone', 'e'],
      ['list', 'gone'],
      ['compare', 'gone', 'd'],
    ]) {
      const { code, stdout } = await run([...words, '--json'], { cwd });
      expect([words, code, jsonLines(stdout)]).toMatchObject([words, 23, [{ kind: 'refused', code: 'NO_SOURCE' }]]);
    }
    for (const words of [
      ['manifest', 'gone'],
      ['verify', 'gone'],
      ['verify', 's', 'gone'],
      ['verify', 'a/'],
      ['partition', '-n', '2', 'gone'],
      ['compress', 'gone'],
      ['migrate', 'gone', 'e'],
      ['move', 'gone', 'e'],
      ['sync', 'gone', 'e'],
      ['pack', 'gone', 'e'],
      ['unpack', 'gone', 'e'],
      ['image', 'inspect', 'gone'],
      ['copy', '--workers', '2', 'gone', 'e'],
    ]) {
      const { code, stderr } = await run(words, { cwd });
      expect([words, code, stderr]).toEqual([words, 23, expect.stringMatching(/^bulkhaul: (gone|a\/): [^\n]*\n$/)]);
    }
    expect((await run(['remove', 'a', 'gone'], { cwd, input: 'y\n' })).code).toBe(23);
    expect(existsSync(at('e'))).toBe(false);
  });
});

describe('the last line', () => {
  it('is the verdict', async () => {
    const at = tree({ 's/a': '1' });
    const cwd = at();
    expect(lastLine((await run(['copy', 's', 'd'], { cwd })).stderr)).toBe('complete: 2 entries');
    expect(lastLine((await run(['copy', '-n', 's', 'd'], { cwd })).stderr)).toBe(
      'complete: 2 entries (dry run: nothing was done)',
    );
    mkdirSync(at('o/s/a'), { recursive: true });
    const failed = await run(['copy', 's', 'o'], { cwd });
    expect([failed.code, lastLine(failed.stderr)]).toEqual([23, 'INCOMPLETE: 1 of 2 entries failed (exit 23)']);
  });
});

describe('a file of failures that can not be written', () => {
  /** Failures without number: each name of the source is a directory in the destination. */
  function place(): (name?: string) => string {
    const at = tree({});
    for (let number = 0; number < 400; number += 1) mkdirSync(at(`d/${number}`), { recursive: true });
    mkdirSync(at('s'));
    for (let number = 0; number < 400; number += 1) writeFileSync(at(`s/${number}`), '');
    mkdirSync(at('full'));
    return at;
  }

  it.skipIf(process.getuid?.() !== 0).each([
    ['from the first', 0, /400 failures: 400 conflict; all of them are in .*\/other\//],
    ['to its end', 20, /note \(journal, 1x\): the journal could not be written: .*no space left on device/],
  ])('%s costs the run nothing', async (_, room, said) => {
    const at = place();
    mkdirSync(at('other'));
    const done = await program(
      'unshare',
      [
        ...['--mount', 'sh', '-c'],
        `mount -t tmpfs -o size=64k none full && head -c ${(64 - room) * 1024} /dev/zero >full/fill
        exec "$@"`,
        ...['sh', process.execPath, executable, 'copy', 's/', 'd'],
      ],
      { cwd: at(), env: { XDG_STATE_HOME: at('full'), TMPDIR: at('other') } },
    );
    expect([done.code, lastLine(done.stderr)]).toEqual([23, 'INCOMPLETE: 400 of 401 entries failed (exit 23)']);
    expect(done.stderr).toMatch(said);
  });

  it.skipIf(process.getuid?.() !== 0)('as the log: what the run came to is said all the same', async () => {
    const at = place();
    const log = ['copy', '--log-file', '/dev/full', 's/', 'd'];
    const { code, stderr } = await run(log, { cwd: at() });
    expect(code).toBe(23);
    expect(lastLine(stderr)).toMatch(
      /^bulkhaul: the log file could not be written: .*no space left on device; the run itself: INCOMPLETE: 400 of 401 entries failed/,
    );
  });

  it.skipIf(process.getuid?.() !== 0).each<[string, string]>([
    ['pack', 'pack s full'],
    ['unpack', 'unpack P full/out'],
    ['compress', 'compress --keep full/s'],
    ['decompress', 'decompress --keep full/z'],
  ])('what %s had no room for says whose limit that was, and how much there is', async (_, line) => {
    const at = tree({});
    for (const directory of ['s', 'z', 'full']) mkdirSync(at(directory));
    // Nothing makes it smaller.
    writeFileSync(at('s/f'), randomBytes(1.5 * 2 ** 20));
    writeFileSync(at('z/g'), Buffer.alloc(4 * 2 ** 20, 'x'));
    expect((await run(['pack', 's', 'P'], { cwd: at() })).code).toBe(0);
    expect((await run(['compress', 'z'], { cwd: at() })).code).toBe(0);
    const source = { compress: 's', decompress: 'z' }[line.split(' ')[0] ?? ''];
    const there = source === undefined ? '' : `cp -r ${source} full/ &&`;
    // Of what is made nothing has room, whatever is there.
    const size = source === undefined ? 1 : 2;
    const mount = `mount -t tmpfs -o size=${size}m none full && ${there} exec "$@"`;
    const words = ['sh', process.execPath, executable, ...line.split(' ')];
    const { code, stderr } = await program('unshare', ['--mount', 'sh', '-c', mount, ...words], { cwd: at() });
    expect(code, stderr).toBe(23);
    expect(stderr).toMatch(
      new RegExp(`No space left on device \\(the file system of \\S+ has .* of ${size}\\.00 MiB free\\)`),
    );
  });

  it.skipIf(process.getuid?.() !== 0).each([
    ['copy', 'copy s/ full/d'],
    ['copy --workers', 'copy --workers 1 s/ full/d'],
    ['migrate', 'migrate --ext tsv s/ full/d'],
    ['unpack', 'unpack P full/d'],
  ])('what %s took back is not counted as written', async (what, line) => {
    const at = tree({});
    mkdirSync(at('s'));
    mkdirSync(at('full'));
    // Two of them have room, in any order, and nothing makes them smaller.
    for (const name of ['a.tsv', 'b.tsv', 'c.tsv']) writeFileSync(at(`s/${name}`), randomBytes(1.5 * 2 ** 20));
    expect((await run(['pack', 's/', 'P'], { cwd: at() })).code).toBe(0);
    const words = ['sh', process.execPath, executable, ...line.split(' '), '-j', '1', '--json', '-q'];
    const mount = 'mount -t tmpfs -o size=4m none full && exec "$@"';
    const env = { XDG_STATE_HOME: at('state') };
    const { code, stdout } = await program('unshare', ['--mount', 'sh', '-c', mount, ...words], { cwd: at(), env });
    const { outcomes, copiedBytes } = jsonLines(stdout).at(-1) as { outcomes: { failed: number }; copiedBytes: number };
    expect([code, outcomes.failed], stdout).toEqual([23, 1]);
    // Of an archive there are some bytes around.
    const around = what === 'migrate' ? 2 ** 14 : 0;
    expect(copiedBytes - 3 * 2 ** 20).toBeGreaterThanOrEqual(0);
    expect(copiedBytes - 3 * 2 ** 20).toBeLessThanOrEqual(around);
  });

  it('a name that is no text is whole in its line, and so is the reason', async () => {
    const at = tree({});
    const named = (top: string) => Buffer.from(`${at(top)}/a\n\x1b\xe9\xff`, 'latin1');
    mkdirSync(at('s'));
    writeFileSync(named('s'), '');
    mkdirSync(named('d'), { recursive: true });
    const { stderr } = await run(['copy', 's/', 'd'], { cwd: at() });
    expect(stderr).toContain('bulkhaul: create d/a\\n\\x1b\\xe9\\xff: a directory is in the way');
  });
});
