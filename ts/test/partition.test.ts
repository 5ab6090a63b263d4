/** `bulkhaul partition`: what is in the lists, what the tools make of them, and how even the parts are. */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { partition } from '../src/index.js';
import { executable, jsonLines, program, run, scratch } from './rig.js';

const has = (tool: string) => spawnSync(tool, ['--version']).error === undefined;

/** Names that some tool or other takes for something else. */
const NAMES = [
  ...[
    'a',
    'a b',
    ' lead',
    'trail ',
    'é',
    '😀',
    '*star',
    '?',
    '[x]',
    'back\\slash',
    '\\n',
    'new\nline',
    '\n',
    'cr\r',
    'a\tb',
  ],
  ...[
    '#hash',
    ';semicolon',
    '-x',
    '--',
    '-',
    '-a b',
    '-"q"',
    "-'q'",
    '-a\\b',
    ' -blank',
    '\t-tab',
    '--add-file=a',
    '$HOME',
  ],
  ...['"q"', "'", '{}', '~', ':', '\x01', '\x7f', '␀', '␉', '／', '．', '�'],
].map((name) => Buffer.from(name));
const ODD = [Buffer.from([0xff]), Buffer.from('latin-\xe9', 'latin1'), Buffer.from([0xe2, 0x90])];

/** A tree `t` of such names, with what is no file, an empty directory, and names of one inode. */
function tree(names: readonly Buffer[] = [...NAMES, ...ODD]): { cwd: string; at: (...names: string[]) => string } {
  const cwd = scratch();
  const at = (...names: string[]) => join(cwd, ...names);
  mkdirSync(at('t/d/e'), { recursive: true });
  mkdirSync(at('t/empty'));
  mkdirSync(at('t/#directory'));
  const directory = (name: string) => Buffer.from(`${at(name)}/`);
  for (const [index, name] of names.entries()) {
    writeFileSync(Buffer.concat([directory('t'), name]), 'x'.repeat(index * 7));
    writeFileSync(Buffer.concat([directory('t/d'), name]), 'y');
  }
  writeFileSync(at('t/big'), Buffer.alloc(300_000, 'big'));
  linkSync(at('t/big'), at('t/d/e/second'));
  linkSync(at('t/big'), at('t/#directory/third'));
  symlinkSync('a', at('t/link'));
  execFileSync('mkfifo', [at('t/fifo')]);
  return { cwd, at };
}

/** Every entry below a directory with its type, by the bytes of its name; `.` is the directory. */
function entries(directory: string, types = 'fdlp'): string[] {
  const found = execFileSync('find', ['.', '-printf', '%y%P\\0'], { cwd: directory });
  return found
    .toString('latin1')
    .split('\0')
    .filter((each) => each !== '' && types.includes(each.charAt(0)))
    .map((each) => each.replace(/^d$/, 'd.'))
    .sort();
}
const names = (directory: string, types?: string) =>
  entries(directory, types)
    .map((each) => each.slice(1))
    .sort();

const listed = (lists: readonly string[], end: string) =>
  lists.map((list) => readFileSync(list, 'latin1').split(end).slice(0, -1));

const lists = (directory: string) =>
  readdirSync(directory)
    .sort((a, b) => Number(a.split('.').at(-1)) - Number(b.split('.').at(-1)))
    .map((name) => join(directory, name));

describe('every entry is in one list, once', () => {
  it.each([
    ['parts', ['-n', '3']],
    ['more parts than entries', ['-n', '1000']],
    ['entries', ['--entries', '10']],
    ['bytes', ['--bytes', '1K']],
    ['both limits', ['-f', '20', '-s', '2k']],
    ['parts that are handed on', ['--live', '-f', '9']],
    ['large ones', ['-L', '-s', '1G']],
  ])('%s', async (_, options) => {
    const { cwd, at } = tree();
    mkdirSync(at('lists'));
    const { code, stdout } = await run(['partition', ...options, '-0', '-o', 'lists/part', 't/'], { cwd });
    expect([code, stdout]).toEqual([0, '']);
    const parts = listed(lists(at('lists')), '\0');
    expect(parts.flat().sort()).toEqual(names(at('t')));
    expect(parts.every((part) => part.length > 0)).toBe(true);
    expect(lists(at('lists'))).toEqual(parts.map((_, index) => at(`lists/part.${index + 1}`)));
    // Names of one inode.
    expect(
      parts.filter((part) => ['big', 'd/e/second', '#directory/third'].some((name) => part.includes(name))),
    ).toHaveLength(1);
    if (!options.some((option) => ['--live', '-L'].includes(option)))
      for (const part of parts) {
        // The root has no name, and comes first.
        const rest = part.filter((name) => name !== '.');
        expect(part).toEqual([...(part.includes('.') ? ['.'] : []), ...rest.sort()]);
      }
  });

  it('several paths, by their own names, and a file', async () => {
    const { cwd, at } = tree([Buffer.from('a')]);
    writeFileSync(at('file'), 'f');
    const { stdout } = await run(['partition', '-n', '1', 't', 'file'], { cwd });
    const lines = stdout
      .split('\n')
      .slice(0, -1)
      .map((line) => line.split('\t'));
    expect(lines.map(([, , name]) => name).sort()).toEqual(
      [
        'file',
        't',
        ...names(at('t'))
          .filter((name) => name !== '.')
          .map((name) => `t/${name}`),
      ].sort(),
    );
    expect(new Set(lines.map(([part]) => part))).toEqual(new Set(['1']));
    expect(lines.find(([, , name]) => name === 't/big')?.[1]).toBe('300000');
  });

  it('what a list names, with all that is in it', async () => {
    const { cwd } = tree([Buffer.from('a'), Buffer.from('b')]);
    const part = (list: string, ...options: string[]) =>
      run(['partition', '-n', '1', '-0', ...options, 't/'], { cwd, input: list });
    const named = ({ stdout }: { stdout: string }) =>
      stdout
        .split('\0')
        .slice(0, -1)
        .map((line) => line.replace(/^1\t\d+\t/, ''));
    const { code, stdout } = await part('d\nd/a\n./empty/\n', '-i', '-');
    expect([code, named({ stdout })]).toEqual([0, ['d', 'd/a', 'd/b', 'd/e', 'd/e/second', 'empty']]);
    expect(named(await part('d/e/second\0a\0', '--files-from0', '-'))).toEqual(['a', 'd/e/second']);
    const missing = await part('a\nnowhere/x\n', '--files-from', '-');
    expect([missing.code, named(missing)]).toEqual([23, ['a']]);
    expect(missing.stderr).toContain('t/nowhere/x: No such file');
    const outside = await part('../x\n', '--files-from', '-');
    expect([outside.code, outside.stdout]).toEqual([2, '']);
    expect(outside.stderr).toContain('../x is not below t/');
  });

  it('limits are kept, and the same tree gives the same lists whoever walks it', async () => {
    const { cwd, at } = tree();
    const digest = async (name: string, jobs: string) => {
      mkdirSync(at(name));
      const options = ['-f', '11', '-s', '3000', '--format', 'jsonl', '-j', jobs, '-o', `${name}/p`];
      const { events } = await jsonRun([...options, 't/'], cwd);
      for (const part of events.filter(({ type }) => type === 'part')) {
        expect(part.entries).toBeLessThanOrEqual(11);
        expect(part.bytes <= 3000 || part.entries === 3).toBe(true);
      }
      const text = lists(at(name)).map((list) => readFileSync(list));
      return createHash('sha256').update(Buffer.concat(text)).digest('hex');
    };
    expect(await digest('one', '1')).toBe(await digest('four', '4'));
  });
});

/** Lines of the command, as far as they are looked at here. */
interface Told {
  type: string;
  number: number;
  path: string;
  entries: number;
  bytes: number;
  split: number;
  cost: number;
}

async function jsonRun(args: string[], cwd: string) {
  const { code, stdout, stderr } = await run(['partition', '--json', ...args], { cwd });
  return { code, stderr, events: jsonLines(stdout) as unknown as Told[] };
}

describe('the tools take what the lists have', () => {
  it.runIf(has('rsync'))('rsync --from0 --files-from', async () => {
    const { cwd, at } = tree();
    expect((await run(['partition', '-n', '3', '--format', 'rsync', '-o', 'part', 't/'], { cwd })).code).toBe(0);
    for (const number of [1, 2, 3]) {
      const { code, stderr } = await program(
        'rsync',
        ['-aH', '--from0', `--files-from=part.${number}`, 't/', 'copy/'],
        { cwd },
      );
      expect([code, stderr]).toEqual([0, '']);
    }
    expect(entries(at('copy'))).toEqual(entries(at('t')));
    // They were in one part.
    expect(execFileSync('stat', ['-c', '%h', at('copy/big')], { encoding: 'utf8' })).toBe('3\n');
  });

  it.each([
    ['tar -T', [], []],
    ['tar --null -T', ['-0'], ['--null']],
  ])('%s', async (_, ours, theirs) => {
    const { cwd, at } = tree();
    expect((await run(['partition', '-n', '2', '--format', 'tar', ...ours, '-o', 'part', 't/'], { cwd })).code).toBe(0);
    mkdirSync(at('copy'));
    for (const number of [1, 2]) {
      const packed = await program(
        'tar',
        ['--no-recursion', ...theirs, '-cf', 'x.tar', '-C', 't', '-T', at(`part.${number}`)],
        { cwd },
      );
      expect([packed.code, packed.stderr]).toEqual([0, '']);
      expect((await program('tar', ['-xf', at('x.tar')], { cwd: at('copy') })).code).toBe(0);
    }
    expect(entries(at('copy'))).toEqual(entries(at('t')));
  });

  it.runIf(has('rclone'))('rclone --files-from-raw, but for what it can not have', async () => {
    const { cwd, at } = tree([...NAMES, ...ODD, Buffer.from('quote\u201b')]);
    const { code, stderr } = await run(['partition', '-n', '2', '--format', 'rclone', '-o', 'part', 't/'], { cwd });
    expect(code).toBe(23);
    expect(stderr).toMatch(/t\/quote‛: the name has the character ‛.*; the form jsonl has it$/m);
    expect(stderr).toMatch(/^note \(empty-directory, 1x\): .*t\/empty$/m);
    expect(stderr).toMatch(/^note \(special, 1x\): .*t\/fifo$/m);
    for (const number of [1, 2]) {
      const copied = await program('rclone', ['copy', '-q', '--files-from-raw', `part.${number}`, 't', 'copy'], {
        cwd,
      });
      expect(copied.code).toBe(0);
    }
    expect(names(at('copy'), 'f')).toEqual(names(at('t'), 'f').filter((name) => !name.includes('quote')));
  });

  it('jsonl has all that is known', async () => {
    const { cwd, at } = tree();
    truncateSync(at('t/d/e/second'), 5_000_000);
    const { code } = await run(['partition', '-s', '2M', '--format', 'jsonl', '-o', 'part', 't/'], { cwd });
    expect(code).toBe(0);
    const lines = readdirSync(cwd)
      .filter((name) => name.startsWith('part.'))
      .flatMap((name) => readFileSync(at(name), 'utf8').trimEnd().split('\n'))
      .map((line) => JSON.parse(line));
    const ranges = { number: 3, bytes: 2 * 1024 * 1024 };
    expect(lines.find(({ path }) => path === 'big')).toEqual({
      part: 1,
      path: 'big',
      kind: 'file',
      size: 5_000_000,
      linkGroup: 1,
      ranges,
    });
    expect(lines.filter(({ linkGroup }) => linkGroup === 1)).toHaveLength(3);
    expect(lines.find(({ path }) => path === 'empty')).toMatchObject({ kind: 'directory' });
    const bytes = lines.map(({ path, pathBase64 }) => Buffer.from(pathBase64 ?? path, pathBase64 ? 'base64' : 'utf8'));
    expect(bytes.map((each) => each.toString('latin1')).sort()).toEqual(names(at('t')));
  });

  it('a name with a newline is an error where lines end so, and is in no list', async () => {
    const { cwd } = tree([Buffer.from('new\nline'), Buffer.from('plain')]);
    const { code, stdout, stderr } = await run(['partition', '-n', '1', 't/'], { cwd });
    expect(code).toBe(23);
    expect(stderr).toMatch(/t\/new\\nline: the name has a newline/);
    expect(stdout).not.toContain('new');
    expect(stdout).toContain('\tplain\n');
  });
});

describe('what can not be read', () => {
  it.runIf(process.getuid?.() === 0)('is listed, is an error, and makes the exit code 23', async () => {
    const { cwd, at } = tree([Buffer.from('a')]);
    mkdirSync(at('t/closed/below'), { recursive: true });
    mkdirSync(at('t/half'));
    writeFileSync(at('t/half/file'), '');
    chmodSync(at('t/closed'), 0);
    chmodSync(at('t/half'), 0o444);
    chmodSync(cwd, 0o777);
    const args = [process.execPath, executable, 'partition', '-n', '1', '--format', 'jsonl', '--quiet', 't/'];
    const { code, stdout, stderr } = await program(
      'setpriv',
      ['--reuid=65534', '--regid=65534', '--clear-groups', ...args],
      { cwd },
    );
    expect(code).toBe(23);
    expect(stderr).toMatch(/open t\/closed: Permission denied/);
    const lines = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    const unreadable = lines.filter((line) => line.unreadable).map(({ path, kind }) => [path, kind]);
    expect(unreadable).toEqual([
      ['closed', 'directory'],
      ['half/file', 'file'],
    ]);
    expect(lines.map(({ path }) => path)).toContain('half');
  });

  it('is not begun where no path is there', async () => {
    const cwd = scratch();
    const { code, stderr } = await run(['partition', '-n', '2', '-o', 'p', 'nowhere'], { cwd });
    expect([code, readdirSync(cwd)]).toEqual([23, []]);
    expect(stderr).toContain('nowhere: No such file');
  });

  it('a path that is missing beside one that is there is an error', async () => {
    const { cwd } = tree([Buffer.from('a')]);
    const { code, stdout } = await run(['partition', '-n', '2', 't', 'nowhere'], { cwd });
    expect(code).toBe(23);
    expect(stdout).toContain('\tt/a\n');
    expect(stdout).not.toContain('nowhere');
  });
});

describe('lists of another run', () => {
  it('are refused, or removed where they are to be replaced, and nothing else', async () => {
    const { cwd, at } = tree([Buffer.from('a')]);
    const part = (...options: string[]) => run(['partition', ...options, '-o', 'part', 't/'], { cwd });
    await part('-n', '4');
    const before = readFileSync(at('part.4'));
    for (const name of ['part.4x', 'part', 'part.', 'other.1']) writeFileSync(at(name), '');
    const refused = await part('-n', '2');
    expect(refused.code).toBe(2);
    expect(refused.stderr).toMatch(/part\.\d: a list of parts is there already.*replace removes such lists/);
    expect(readFileSync(at('part.4'))).toEqual(before);
    expect((await part('-n', '2', '--replace')).code).toBe(0);
    expect(readdirSync(cwd).sort()).toEqual(['other.1', 'part', 'part.', 'part.1', 'part.2', 'part.4x', 't']);
  });

  it('are in no list, nor are those of this one', async () => {
    const { cwd, at } = tree([Buffer.from('a')]);
    await run(['partition', '-n', '3', '-o', 't/part', 't/'], { cwd });
    for (const options of [
      ['-n', '2'],
      ['-f', '3', '--live'],
    ]) {
      const { code, stderr } = await run(['partition', ...options, '--replace', '-o', 't/part', 't/'], { cwd });
      expect(code).toBe(0);
      expect(stderr).toMatch(/^skipped: \d+ in-use$/m);
      const parts = listed(
        lists(at('t')).filter((list) => /part\.\d+$/.test(list)),
        '\n',
      );
      expect(parts.flat().filter((name) => name.startsWith('part.'))).toEqual([]);
    }
  });
});

describe('dry run and summary', () => {
  it('tells of the parts and writes nothing', async () => {
    const { cwd } = tree([Buffer.from('a')]);
    const { code, stdout, stderr } = await run(['partition', '--dry-run', '-n', '2', '-o', 'part', 't/'], { cwd });
    expect([code, readdirSync(cwd)]).toEqual([0, ['t']]);
    expect(stdout).toMatch(/^part 1: \d+ entries, 293 KiB\npart 2: \d+ entries, \d B\n$/);
    expect(stderr).toMatch(
      /^2 parts planned with 12 entries .*\ncomplete: 12 entries \(dry run: nothing was done\)\n$/,
    );
  });

  it('JSON has each part and their sums', async () => {
    const { cwd } = tree([Buffer.from('a')]);
    const { code, events } = await jsonRun(['-n', '2', '--cost', '0', '-o', 'part', 't/'], cwd);
    expect(code).toBe(0);
    const parts = events.filter(({ type }) => type === 'part');
    expect(parts.map(({ number, path, bytes, cost }) => [number, path, bytes, cost])).toEqual([
      [1, 'part.1', 300_000, 300_000],
      [2, 'part.2', 1, 1],
    ]);
    const summary = events.at(-1);
    expect(summary).toMatchObject({
      type: 'summary',
      parts: { number: 2, entries: 12, bytes: 300_001, cost: 300_001 },
    });
  });
});

describe('--exec', () => {
  it('runs a command for each part, with no shell, and tells it which', async () => {
    const { cwd, at } = tree([Buffer.from('a')]);
    const script =
      'printf "%s %s %s|" "$0" "$BULKHAUL_PART_NUMBER" "$FPART_PARTNUMFILES" >> log; cmp "$1" "$BULKHAUL_PART_FILE"';
    const command = ['sh', '-c', script, '$(no); shell', '{}'];
    const { code, stderr } = await run(['partition', '-n', '2', '-o', 'a part', 't/', '--exec', ...command], { cwd });
    expect([code, stderr]).toEqual([0, expect.stringContaining('complete: 12 entries')]);
    expect(readFileSync(at('log'), 'utf8')).toMatch(/^\$\(no\); shell 1 \d+\|\$\(no\); shell 2 \d+\|$/);
  });

  it('a command that fails is a failure, and the others run', async () => {
    const { cwd, at } = tree([Buffer.from('a')]);
    const script = 'echo $BULKHAUL_PART_NUMBER >> log; [ $BULKHAUL_PART_NUMBER != 2 ]';
    const exec = ['--exec-jobs', '2', '--exec', 'sh', '-c', script];
    const { code, events } = await jsonRun(['-n', '3', '-o', 'part', 't/', ...exec], cwd);
    expect(code).toBe(23);
    expect(readFileSync(at('log'), 'utf8').trim().split('\n').sort()).toEqual(['1', '2', '3']);
    expect(events.filter(({ type }) => type === 'error')).toMatchObject([
      { kind: 'command', path: 'part.2', operation: 'exec' },
    ]);
    expect(events.at(-1)).toMatchObject({ complete: false, exitCode: 23, failureKinds: { command: 1 } });
  });

  it('a program that is not there is one too, also where nobody reads the events', async () => {
    const { at } = tree([Buffer.from('a')]);
    const exec = { command: [at('no such program')] };
    const report = await partition({ sources: at('t/'), parts: 2, template: at('part'), exec });
    expect(report).toMatchObject({ complete: false, exitCode: 23, failureKinds: { command: 2 } });
    expect(report.failures[0]?.message).toMatch(/part\.1: .*no such program for part 1: .*no such file or directory/);
  });

  it('begins none when the job was stopped, and ends when those that run have', async () => {
    const { at } = tree();
    const script = `until [ -e '${at('go')}' ]; do sleep 0.01; done; echo ran >> '${at('log')}'`;
    const exec = { command: ['sh', '-c', script], environment: { PATH: process.env.PATH } };
    const job = partition({ sources: at('t/'), parts: 5, nul: true, template: at('part'), exec });
    for await (const event of job) {
      if (event.type !== 'part' || event.number > 1) continue;
      job.cancel();
      writeFileSync(at('go'), '');
    }
    expect(await job).toMatchObject({ interrupted: true, exitCode: 130, failureKinds: {} });
    const ran = existsSync(at('log')) ? readFileSync(at('log'), 'utf8') : '';
    expect(['', 'ran\n']).toContain(ran);
  });

  it('needs lists in files, and a dry run has none', async () => {
    const { cwd } = tree([Buffer.from('a')]);
    const refused = await run(['partition', '-n', '2', 't/', '--exec', 'true'], { cwd });
    expect([refused.code, refused.stderr]).toEqual([2, expect.stringContaining('name a template')]);
    const dry = await run(['partition', '--dry-run', '-n', '2', '-o', 'p', 't/', '--exec', 'false'], { cwd });
    expect([dry.code, readdirSync(cwd)]).toEqual([0, ['t']]);
  });
});

describe('what is wrong is refused by name', () => {
  it.each([
    [['t/'], 'how much is a part'],
    [['-n', '2', '-f', '3', 't/'], 'exclude each other'],
    [['-n', '2', '--live', 't/'], 'live: how much goes into one'],
    [['-n', '0', 't/'], '--parts: 0 is no whole number'],
    [['-s', 'x', 't/'], '--bytes: not a size'],
    [['-n', '2', '--format', 'rclone', '-0', '-o', 'p', 't/'], 'can end with NUL'],
    [['-n', '2', '--format', 'rsync', 't/'], 'only lists of names and of JSON lines'],
    [['-n', '2', 't', 't/'], 'it can be divided alone'],
    [['-n', '2', 't/d', 't/empty/d'], 'could not be told apart'],
    [['-n', '2', '-o', 't/', 't/'], 'a directory'],
    [['-n', '2', '-o', 'nowhere/p', 't/'], 'nowhere/p'],
    [['-n', '2', 'host:/t'], 'another host'],
  ])('%j', async (args, why) => {
    const { cwd } = tree([Buffer.from('a')]);
    const { code, stdout, stderr } = await run(['partition', ...args], { cwd });
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toContain(why);
  });
});

describe('parts are even', () => {
  const skew = (values: number[]) => Math.max(...values) / Math.min(...values);
  const ours = async (cwd: string, ...args: string[]) => {
    const { events } = await jsonRun(['--dry-run', ...args], cwd);
    const parts = events.filter(({ type }) => type === 'part');
    return {
      skews: [skew(parts.map(({ bytes }) => bytes)), skew(parts.map(({ entries }) => entries))] as const,
      // A file that is larger than a part is one.
      even: parts.every(({ split }) => split === 0),
    };
  };
  const theirs = (cwd: string, ...args: string[]) => {
    const { stderr } = spawnSync('fpart', args, { cwd, encoding: 'utf8' });
    const parts = [...stderr.matchAll(/^Part #(\d+): size = (\d+), files = (\d+)/gm)].filter(
      ([, part]) => part !== '0',
    );
    return [skew(parts.map(([, , size]) => Number(size))), skew(parts.map(([, , , files]) => Number(files)))] as const;
  };

  it.runIf(has('fpart'))('of a real tree as even as those of fpart -n', async () => {
    const cwd = scratch();
    const { skews, even } = await ours(cwd, '-n', '4', '/usr');
    if (!even) return console.log('skip: a file in /usr is larger than a quarter of it');
    for (const each of [...skews, ...theirs(cwd, '-n', '4', '-zzz', '/usr')]) expect(each).toBeLessThan(1.01);
  });

  it.runIf(has('fpart'))('both in bytes and in entries, where fpart counts only one of them', async () => {
    const cwd = scratch();
    // Eight large files and two thousand small ones.
    for (let index = 0; index < 2000; index += 1) {
      mkdirSync(join(cwd, `t/${index % 20}`), { recursive: true });
      writeFileSync(join(cwd, `t/${index % 20}/${index}`), 'x'.repeat(index % 97));
    }
    for (let index = 0; index < 8; index += 1) {
      writeFileSync(join(cwd, `t/large-${index}`), '');
      truncateSync(join(cwd, `t/large-${index}`), 10_000_000 + index * 1000);
    }
    const { skews } = await ours(cwd, '-n', '4', 't/');
    expect(Math.max(...skews)).toBeLessThan(1.01);
    for (const [mine, other] of [
      [await ours(cwd, '--bytes', '21000000', 't/'), theirs(cwd, '-s', '21000000', '-zzz', 't')],
      [await ours(cwd, '--entries', '510', 't/'), theirs(cwd, '-f', '510', '-zzz', 't')],
    ] as const) {
      expect(Math.max(...mine.skews)).toBeLessThan(1.05);
      expect(Math.max(...other)).toBeGreaterThan(2);
    }
  });
});
