/** Lists that come late, outputs that are no files, and what the command says when it can not write, on the built commands. */
import { execFileSync, spawn } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { executable, program, type Run, run, scratch } from './rig.js';

/** A place with the tree `s`: files a and b. */
function place(): string {
  const root = scratch();
  mkdirSync(join(root, 's'));
  for (const name of ['a', 'b']) writeFileSync(join(root, 's', name), name);
  return root;
}

/** Runs a line in bash, where `bh` is the built command. */
function shell(line: string, cwd: string, env?: NodeJS.ProcessEnv): Promise<Run> {
  const command = 'bh() { "$NODE" "$MAIN" "$@"; }; ';
  return program('bash', ['-c', command + line], { cwd, env: { NODE: process.execPath, MAIN: executable, ...env } });
}

const there = (...names: string[]) => readdirSync(join(...names)).sort();

describe('a list that comes late', () => {
  it.each([
    ['a pipe', '(sleep 0.5; echo a) | bh copy -q --files-from - s d'],
    ['a pipe by its path', 'bh copy -q --files-from <(sleep 0.5; echo a) s d'],
    ['a FIFO', 'mkfifo f; (sleep 0.5; echo a >f) & bh copy -q --files-from f s d'],
    ['hpcp, a pipe', '(sleep 0.5; echo a) | bh hpcp -d d --files-from - s'],
    ['hpcp, sources', '(sleep 0.5; echo s/a) | bh hpcp -sfl - -d d/'],
    ['workers, a pipe', '(sleep 0.5; printf a; sleep 0.2; echo) | bh copy -q --workers 2 --files-from - s d'],
    ['workers, its path, by NUL', "(sleep 0.5; printf 'a\\0') | bh copy -q --workers 2 --files-from0 /dev/stdin s d"],
    ['workers, a pipe by its path', 'bh copy -q --workers 2 --files-from <(sleep 0.5; echo a) s d'],
    ['workers, a FIFO', 'mkfifo f; (sleep 0.5; echo a >f) & bh copy -q --workers 2 --files-from f s d'],
    ['a move by workers', '(sleep 0.5; echo a) | bh copy -q --move --workers 2 --files-from - s d'],
    ['a move, which walks twice', '(sleep 0.5; echo a) | bh copy -q --move --require-space --files-from - s d'],
  ])('%s', async (what, line) => {
    const root = place();
    expect(await shell(line, root)).toMatchObject({ code: 0, stderr: '' });
    expect(there(root, 'd')).toEqual(['a']);
    expect(there(root, 's')).toEqual(what.startsWith('a move') ? ['b'] : ['a', 'b']);
  });

  it('is a side of a comparison too', async () => {
    const root = place();
    const line = '(sleep 0.5; bh list s) | bh compare --list-a - s';
    expect(await shell(line, root)).toMatchObject({ code: 0 });
    expect(await shell('(sleep 0.5; bh list s) | bh hpcp s -cfl -fl /dev/stdin --fail-on-diff', root)).toMatchObject({
      code: 0,
    });
  });

  it('a signal ends the waiting, and nothing is left', async () => {
    const root = place();
    for (const args of [
      ['copy', '--files-from', '-', 's', 'd'],
      ['copy', '--workers', '2', '--state-dir', scratch(), '--files-from', '-', 's', 'd'],
      ['compare', '--list-a', '-', 's'],
    ]) {
      const env = { ...process.env, BULKHAUL_PROGRESS_INTERVAL: '0.1' };
      const child = spawn(process.execPath, [executable, ...args, '--progress', 'plain'], { cwd: root, env });
      // It waits, and says so.
      child.stderr.once('data', () => child.kill('SIGINT'));
      const code = await new Promise((resolve) => child.on('close', resolve));
      child.stdin.destroy();
      expect(code).toBe(130);
      expect(there(root)).toEqual(['s']);
    }
  });

  it('names that are missing are told once', async () => {
    const root = place();
    writeFileSync(join(root, 'names'), 'a\nnope\n');
    const { code, stderr } = await run(['copy', '--move', '--files-from', 'names', 's', 'd'], { cwd: root });
    expect(code).toBe(23);
    expect(stderr).toContain('1 failure: 1 missing');
    expect(stderr).toContain('moved: 1 source entry removed, 1 left');
  });
});

describe('- for what is read', () => {
  it('is an archive on standard input: its content goes to standard output, or is tested', async () => {
    const root = place();
    const quiet = { code: 0, stderr: '' };
    for (const line of [
      'gzip -c s/a | bh decompress -',
      'xz -c s/a | bh decompress -c -',
      'gzip s/a; bh decompress - <s/a.gz',
    ])
      expect(await shell(line, root), line).toEqual({ ...quiet, stdout: 'a' });
    expect(await shell('bh decompress -q --test - <s/a.gz', root)).toEqual({ ...quiet, stdout: '' });
    const cut = await shell('head -c 20 s/a.gz | bh decompress -', root);
    expect([cut.code, cut.stdout]).toEqual([1, '']);
    expect(cut.stderr).toMatch(/stdin: damaged: it was cut short, at byte 20\n/);
    expect(cut.stderr).not.toContain('bulkhaul resume');
  });

  it('is a tar on standard input', async () => {
    const root = place();
    for (const [line, to] of [
      ['tar -c s', 'plain'],
      ['tar -cz s', 'packed'],
    ] as const) {
      expect(await shell(`${line} | bh unpack -q - ${to}`, root)).toEqual({ code: 0, stdout: '', stderr: '' });
      expect(there(root, to, 's')).toEqual(['a', 'b']);
    }
    expect((await shell('tar -c s | bh unpack --list -q -', root)).code).toBe(0);
    expect((await shell('tar -c s | bh unpack --verify -', root)).stderr).toContain('complete: 3 entries\n');
  });

  it('is kept where TMPDIR says for as long as that takes, and a signal that comes before its end leaves nothing', async () => {
    const [root, room] = [place(), scratch()];
    const TMPDIR = join(room, 'tmp');
    mkdirSync(TMPDIR);
    await shell('gzip -c s/a | bh decompress -', root, { TMPDIR });
    expect(there(TMPDIR)).toEqual([]);
    const line =
      'mkfifo f; "$NODE" "$MAIN" unpack - to <f & exec 3>f; echo x >&3; until ls "$TMPDIR"/bulkhaul-stdin-*/stdin; do sleep 0.02; done; kill -TERM $!; wait $!';
    const { code, stderr } = await shell(line, root, { TMPDIR });
    expect(code).toBe(130);
    expect(stderr).toContain('bulkhaul: SIGTERM: standard input had not ended, and nothing was begun\n');
    expect([there(TMPDIR), existsSync(join(root, 'to'))]).toEqual([[], false]);
  });

  it.each([
    ['copy - d'],
    ['copy s -'],
    ['move - d'],
    ['migrate s -'],
    ['remove -y -'],
    ['list -'],
    ['manifest -'],
    ['compare - s'],
    ['partition -n 1 -'],
    ['pack s -'],
    ['unpack - -'],
    ['compress -'],
    ['decompress s/a -'],
    ['sync - d'],
    ['image pack s -'],
  ])('%s is refused, and means nothing of that name', async (line) => {
    const root = place();
    mkdirSync(join(root, '-'));
    const { code, stderr } = await shell(`bh ${line} </dev/null`, root);
    expect([code, stderr]).toEqual([2, expect.stringMatching(/standard (stream|input)/)]);
    expect(there(root).filter((name) => name !== '-')).toEqual(['s']);
  });
});

describe('an output that is no file', () => {
  const LIST = /^s\/\ns\/a:[0-9a-f]{16}\ns\/b:[0-9a-f]{16}\n$/;

  it.each([
    ['list -o', 'bh list -q -o f s'],
    ['compare -o', 'bh compare -q --exit-zero -o f none s'],
    ['hpcp -fl', 'bh hpcp -fl f s'],
    ['hpcp -dfl', 'bh hpcp -dfl f s -d none'],
    ['hpcp -tdfl', 'bh hpcp -tdfl -dfl f s -d none'],
    ['--log-file', 'bh copy -q --log-file f s d'],
  ])('%s writes into a FIFO', async (_, line) => {
    const root = place();
    mkdirSync(join(root, 'none'));
    writeFileSync(join(root, 'none/x'), '');
    const { code, stdout } = await shell(`mkfifo f; cat f >got & ${line} >&2; code=$?; wait; exit $code`, root);
    expect([code, stdout]).toEqual([0, '']);
    expect(lstatSync(join(root, 'f')).isFIFO()).toBe(true);
    expect(readFileSync(join(root, 'got'), 'latin1')).not.toBe('');
  });

  it('standard output has many names, and may be a socket', async () => {
    const root = place();
    for (const name of ['/dev/stdout', '/dev/fd/1', '/proc/self/fd/1']) {
      // What Node gives a child is a socket.
      expect((await run(['list', '-q', '-o', name, 's'], { cwd: root })).stdout).toMatch(LIST);
      expect((await shell(`bh list -q -o ${name} s | cat`, root)).stdout).toMatch(LIST);
      await shell(`(echo first; bh list -q -o ${name} s; echo last) >out`, root);
      expect(readFileSync(join(root, 'out'), 'utf8').split('\n')).toEqual([
        'first',
        's/',
        expect.any(String),
        expect.any(String),
        'last',
        '',
      ]);
    }
    expect((await run(['copy', '-q', '--log-file', '/dev/stdout', 's', 'd'], { cwd: root })).stdout).toContain(
      '"accounted":true',
    );
    expect(there('/dev')).toContain('stdout');
  });

  it('a symlink stays, and what it leads to is the list', async () => {
    const root = place();
    symlinkSync('d', join(root, 'link'));
    expect((await run(['list', '-q', '-o', 'link', 's'], { cwd: root })).code).toBe(0);
    expect(readFileSync(join(root, 'd'), 'utf8')).toMatch(LIST);
    expect(lstatSync(join(root, 'link')).isSymbolicLink()).toBe(true);
    expect(there(root)).toEqual(['d', 'link', 's']);
  });

  it('a reader that has seen enough ends it quietly', async () => {
    const root = place();
    for (let number = 0; number < 3000; number++) writeFileSync(join(root, 's', `${number}`.padStart(200, '0')), '');
    const { stdout, stderr } = await shell('set -o pipefail; bh list s | head -1; echo $?', root);
    expect([stdout, stderr]).toEqual(['s/\n0\n', '']);
    const told = await shell('mkfifo f; head -1 f & bh list -o f s; echo $?; wait', root);
    expect([told.stdout.split('\n').sort(), told.stderr]).toEqual([
      ['', '0', 's/'],
      expect.stringContaining('note (unread, 1x): whoever read it left before its end, first at f\ncomplete: '),
    ]);
  });
});

it.each([
  ['copy', '--metrics-file', '-', 's', 'd'],
  ['sync', '--state', '-', 's', 's3://b/p'],
  ['list', '--ca-file', '-', 's3://b/p'],
])('what is there for longer is no stream: %s %s -', async (...args) => {
  const root = place();
  const { code, stderr } = await run(args, { cwd: root });
  expect([code, stderr]).toEqual([2, expect.stringContaining(`: ${args[1]}: a stream won't do, it needs a file`)]);
  expect(there(root)).toEqual(['s']);
});

it('hosts come from a stream too', async () => {
  const { code, stderr } = await shell("echo '-x' | bh copy --hosts - s d", place());
  expect([code, stderr]).toEqual([2, expect.stringContaining('not the name of a host: -x')]);
});

describe('a device, FIFO or socket as the destination', () => {
  it.each([
    [['copy', 's/a', 'node'], 2],
    [['copy', 's/a', './link'], 2],
    [['hpcp', 's/a', '-d', 'node'], 202],
    [['copy', '-n', 's/a', 'node'], 2],
  ])('%j is refused', async (args, code) => {
    const root = place();
    execFileSync('mkfifo', [join(root, 'node')]);
    symlinkSync('node', join(root, 'link'));
    const refused = await run(args, { cwd: root });
    expect(refused).toMatchObject({
      code,
      stderr: expect.stringMatching(/(node|link): it is a FIFO: a copy does not/),
    });
    expect(lstatSync(join(root, 'node')).isFIFO()).toBe(true);
    expect(there(root)).toEqual(['link', 'node', 's']);
  });

  it('hpcp replaces it inside of a directory that was named', async () => {
    const root = place();
    mkdirSync(join(root, 'd'));
    execFileSync('mkfifo', [join(root, 'd/a')]);
    expect((await run(['hpcp', 's/a', '-d', 'd'], { cwd: root })).code).toBe(0);
    expect(readFileSync(join(root, 'd/a'), 'utf8')).toBe('a');
  });

  it('/dev/stdout is none either', async () => {
    const root = place();
    const { code, stderr } = await run(['copy', 's/a', '/dev/stdout'], { cwd: root });
    expect([code, stderr]).toEqual([2, expect.stringContaining('/dev/stdout: it is an open pipe or file')]);
  });
});

describe('an open pipe is no source', () => {
  it.each([
    ['copy PIPE d', 2],
    ['move PIPE d', 2],
    ['migrate PIPE d', 2],
    ['sync PIPE d', 23],
    ['pack PIPE d', 2],
    ['unpack PIPE d', 23],
    ['image pack PIPE d', 2],
    ['image unpack PIPE d', 2],
    ['image clone PIPE d', 2],
    ['compress PIPE', 2],
    ['decompress PIPE', 2],
    ['decompress --test PIPE', 2],
    ['list PIPE', 2],
    ['manifest PIPE', 2],
    ['partition -n 1 PIPE', 2],
    ['compare PIPE s', 2],
    ['compare s PIPE', 2],
    ['remove --yes PIPE', 2],
    ['retain --key k --keep 1 PIPE', 23],
    ['copy --workers 1 PIPE d', 2],
    ['hpcp PIPE -d d', 2],
    ['hpcp -rm -rf PIPE -d d', 2],
    ['hpcp -rm -rf PIPE', 2],
    ['hpcp PIPE -fl d', 2],
    ['run-mirror PIPE d', 2],
    ['dsync -n 1 --working-dir w --log-output w PIPE d', 23],
    ['compress_files -r PIPE', 2],
    ['migrate_compress --log-dir w -s PIPE -d d', 1],
    ['move_to_final --log-dir w -s PIPE -d d', 1],
  ])('%s', async (line, code) => {
    const root = place();
    const refused = await shell(`bh ${line.replace('PIPE', '<(echo hi)')}`, root);
    expect(refused.code).toBe(code);
    expect(refused.stderr).toMatch(/\/dev\/fd\/\d+\b/);
    expect(there(root).filter((name) => name !== 'w')).toEqual(['s']);
    expect(there(root, 's')).toEqual(['a', 'b']);
  });

  it('a directory is one by its descriptor', async () => {
    const root = place();
    expect(await shell('exec 5<s; bh copy -q /dev/fd/5 d && bh list -q /dev/fd/5/', root)).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^\.\/\na:/),
    });
  });
});

describe('what can not be said', () => {
  const FULL =
    /^(bulkhaul|hpcp|run-mirror|dsync|compress_files|migrate_compress|move_to_final): standard output could not be written: write: no space left on device\n$/;

  it.each([
    [['--help'], 2],
    [['--version'], 2],
    [['copy', '--help'], 2],
    [['hpcp', '--help'], 191],
    [['hpcp', '--version'], 191],
    [['run-mirror', '--help'], 2],
    [['run-mirror', '-q', '--manifest', '-', 's', 'd'], 2],
    [['dsync', '--help'], 2],
    [['compress_files', '--help'], 2],
    [['migrate_compress', '--help'], 2],
    [['move_to_final', '--help'], 2],
    [['help'], 2],
    [['completion', 'bash'], 2],
    [['doctor'], 2],
    [['doctor', '--json'], 2],
    [['status', '--state-dir', 'state'], 2],
    [['report', '--state-dir', 'state'], 2],
    [['report', '--html', '-', '--state-dir', 'state'], 2],
    [['hpcp', 's', '-d', 'd'], 191],
    [['hpcp', 's', '--json', '-d', 'd'], 191],
  ])('%j into a full disk', async (args, code) => {
    const root = place();
    // A job to tell of.
    if (args.includes('state')) await run(['copy', '--journal', '--state-dir', 'state', 's', 'd'], { cwd: root });
    const told = await shell(`bh ${args.join(' ')} >/dev/full`, root);
    expect(told).toMatchObject({ code, stderr: expect.stringMatching(FULL) });
  });

  it('the content of an archive into a full disk', async () => {
    const root = place();
    await run(['compress', '--force', 's'], { cwd: root });
    const [archive] = readdirSync(join(root, 's'), { recursive: true })
      .map(String)
      .filter((name) => name.endsWith('.gz'));
    const { code, stderr } = await shell(`bh decompress -c s/${archive} >/dev/full`, root);
    expect([code, stderr]).toEqual([
      23,
      expect.stringContaining('bulkhaul: write /dev/stdout: No space left on device'),
    ]);
  });

  it('a list into a full disk', async () => {
    const { code, stderr } = await shell('bh list s >/dev/full', place());
    expect([code, stderr]).toEqual([23, 'bulkhaul: standard output could not be written: No space left on device\n']);
  });

  it.each([
    [['--help'], 2],
    [['copy', '--help'], 2],
    [['completion', 'bash'], 2],
    [['hpcp', '--help'], 191],
  ])('%j into a closed pipe', async (args, code) => {
    // A FIFO with a writer and no reader any more.
    const line = `mkfifo f; exec 4<>f; exec 3>f; exec 4<&-; bh ${args.join(' ')} >&3; echo "code $?" >&2`;
    const { stderr } = await shell(line, scratch());
    expect(stderr).toMatch(/^\w+: standard output could not be written: nobody reads it any more\ncode \d+\n$/);
    expect(stderr).toContain(`code ${code}`);
  });

  it('errors into a full disk keep their code', async () => {
    const root = place();
    expect((await shell('bh nothing 2>/dev/full', root)).code).toBe(2);
    expect((await shell('bh copy none d 2>/dev/full', root)).code).toBe(23);
    expect((await shell('bh copy s d 2>/dev/full', root)).code).toBe(0);
  });
});

describe('a working directory that is gone', () => {
  it.each([
    ['bh copy s d', 2],
    ['bh list s', 2],
    ['bh list .', 2],
    ['bh compress .', 2],
    ['bh remove -y s', 2],
    ['bh manifest s', 2],
    ['bh sync s d', 2],
    ['bh pack s d', 2],
    ['bh unpack s d', 2],
    ['bh copy --workers 2 s d', 2],
    ['bh hpcp "$ROOT/s" -d "$ROOT/d"', 2],
    ['bh hpcp s -d d', 2],
    ['bh hpcp s* -fl L', 2],
    ['bh hpcp -rm -rf s', 2],
    ['bh hpcp -rm -rf "$ROOT/s"', 2],
    ['bh hpcp "$ROOT/s" -fl "$ROOT/L"', 2],
    ['bh list -q -o "$ROOT/L" "$ROOT/s"', 0],
    ['bh copy -q "$ROOT/s" "$ROOT/d"', 0],
  ])('%s', async (line, code) => {
    const root = place();
    const gone = mkdtempSync(join(root, 'gone-'));
    const ended = await shell(`rmdir "$PWD"; ${line}`, gone, { ROOT: root });
    expect(ended.code).toBe(code);
    expect(ended.stderr).not.toMatch(/defect|\n {4}at /);
    expect(ended.stderr.split('\n').length).toBeLessThan(3);
    expect(existsSync(join(root, 's/a'))).toBe(true);
  });
});

it('a list of what is packed that nobody reads to its end was read as far as it was wanted', async () => {
  const root = place();
  expect((await run(['pack', '-q', 's', 'p'], { cwd: root })).code).toBe(0);
  // A FIFO with a writer and no reader any more.
  const line = 'mkfifo f; exec 4<>f; exec 3>f; exec 4<&-; bh unpack --list p >&3';
  const { code, stderr } = await shell(line, root);
  expect([code, stderr]).toEqual([0, expect.not.stringContaining('INTERRUPTED')]);
});

describe('a TMPDIR that can not be used', () => {
  it.each([
    [['list', 's'], 2],
    [['manifest', 's'], 2],
    [['verify', 's/a'], 2],
    [['compare', 's', 's'], 2],
    [['hpcp', 's', '-fl', 'L'], 2],
    [['hpcp', 's', '-d', 's', '-cfl'], 2],
    // A copy can do without.
    [['copy', '-q', 's', 'd'], 0],
  ])('%j', async (args, code) => {
    const root = place();
    for (const TMPDIR of ['/nonexistent', join(root, 's/a')]) {
      const ended = await run(args, { cwd: root, env: { TMPDIR } });
      expect(ended.code).toBe(code);
      if (code !== 0) expect(ended.stderr).toMatch(/^\w+: TMPDIR can't be used: [^\n]*\n$/);
    }
  });
});
