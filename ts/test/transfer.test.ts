/** What runs the real rsync and rclone: words for shells, lines of programs, counts, hosts, lists. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Outcome } from '../src/native/events.js';
import { Hosts } from '../src/ops/transfer/crew.js';
import { namesIn } from '../src/ops/transfer/list.js';
import { gather } from '../src/ops/transfer/planned.js';
import { start } from '../src/ops/transfer/program.js';
import { plain, rclone, standard } from '../src/ops/transfer/rclone.js';
import { rsync, unescaped } from '../src/ops/transfer/rsync.js';
import { checkHost, quoted } from '../src/ops/transfer/ssh.js';
import { Tally } from '../src/ops/transfer/tally.js';
import type { Pass, Told } from '../src/ops/transfer/tool.js';
import { lives, scratch } from './rig.js';

const HOSTILE = [
  '',
  'plain',
  'two words',
  "it's",
  '"quoted"',
  '$HOME `id` $(id)',
  'back\\slash',
  '\\',
  "'",
  "\\'",
  "'\\''",
  'end\\',
  'new\nline',
  'tab\t!! !x ^',
  '*?[a]{b,c}',
  '~',
  '-n',
  '; rm -rf x & | > <',
  'é😀',
  '#no comment',
  '%s\\n',
];

describe('a word for a shell', () => {
  it.each(['sh', 'dash', 'bash', 'zsh', 'fish'])('is one word to %s, whatever is in it', (shell) => {
    const there = ['/bin', '/usr/bin'].some((directory) => existsSync(join(directory, shell)));
    if (!there) return console.log(`skip: there is no ${shell}`);
    const line = `printf '%s\\0' ${HOSTILE.map(quoted).join(' ')}`;
    const seen = execFileSync(shell, ['-c', line]).toString();
    expect(seen.split('\0').slice(0, -1)).toEqual(HOSTILE);
  });

  it('is left as it is where nothing in it means anything', () => {
    expect(quoted('/data/a-b_c.d:e,f@g=h%i+j')).toBe('/data/a-b_c.d:e,f@g=h%i+j');
  });
});

describe('a host', () => {
  it.each(['a', 'user@node-1.example', '[::1]', 'me@10.0.0.1'])('%s is one', (host) => checkHost(host));

  it.each(['', '-oProxyCommand=id', 'a b', 'a;b', 'a\nb', '$(id)', '`id`', "a'b", '#a', 'a\udc80'])(
    '%j is none',
    (host) => {
      expect(() => checkHost(host)).toThrow(/not the name of a host/);
    },
  );

  it('gets as much as every other, and a lost one nothing', () => {
    const hosts = new Hosts(['a', 'b', 'c', 'a']);
    const taken = Array.from({ length: 8 }, () => hosts.take());
    expect(taken).toEqual(['a', 'b', 'c', 'a', 'a', 'b', 'c', 'a']);
    hosts.giveBack('b');
    expect(hosts.take()).toBe('b');
    expect(hosts.lose('a')).toBe(true);
    expect(hosts.lose('a')).toBe(false);
    expect([hosts.take(), hosts.take(), hosts.left]).toEqual(['b', 'c', ['b', 'c']]);
    hosts.lose('b');
    hosts.lose('c');
    expect(hosts.take()).toBe(undefined);
  });
});

async function linesOf(script: string, input?: Buffer[]): Promise<{ lines: string[]; code: number | undefined }> {
  const lines: string[] = [];
  const from = async function* () {
    yield* input ?? [];
  };
  const { ended } = start(['sh', '-c', script], {
    input: input && from(),
    take: async (line, stream) => {
      // Slower than the program.
      await new Promise((resolve) => setImmediate(resolve));
      lines.push(`${stream}: ${line.toString('latin1')}`);
    },
  });
  const { code } = await ended;
  return { lines, code };
}

describe('a program', () => {
  it('gives its lines, the last one without an end too, and its code', async () => {
    expect(await linesOf('printf "a\\n\\nb"; exit 7')).toEqual({
      lines: ['stdout: a', 'stdout: ', 'stdout: b'],
      code: 7,
    });
  });

  it('reads what it is given, and may end before it has', async () => {
    const big = Array.from({ length: 64 }, () => Buffer.alloc(65_536, 'x\n'));
    expect(await linesOf('wc -c', big)).toEqual({ lines: [`stdout: ${64 * 65_536}`], code: 0 });
    expect(await linesOf('head -c 2; exit 3', big)).toEqual({ lines: ['stdout: x'], code: 3 });
  });

  it('a carriage return ends a line, too', async () => {
    const { lines } = await linesOf("printf 'a\\rb\\n\\rc'; sleep 0.1; printf 'd\\re'");
    expect(lines.map((line) => line.slice('stdout: '.length))).toEqual(['a', 'b', '', 'cd', 'e']);
  });

  it('of a line without an end only the beginning is kept', async () => {
    const { lines } = await linesOf('head -c 1000000 /dev/zero | tr "\\0" a; echo; echo next');
    expect(lines.map((line) => line.length)).toEqual(['stdout: '.length + 65_536, 'stdout: next'.length]);
  });

  it('that is not there is told by its name', async () => {
    const running = start(['bulkhaul-no-such-program'], { take: () => undefined });
    await expect(running.ended).rejects.toThrow("bulkhaul-no-such-program can't be run: there is no such program here");
  });

  it('gets no name that it could not be given', async () => {
    const running = start(['echo', 'a\udcff'], { take: () => undefined });
    await expect(running.ended).rejects.toThrow('not UTF-8');
  });

  it('ends with all that it has begun', async () => {
    const at = scratch();
    const running = start(['sh', '-c', 'sleep 1000 & echo $!; wait'], {
      take: (line) => {
        writeFileSync(join(at, 'child'), line);
        running.stop(true);
      },
    });
    expect(await running.ended).toEqual({ code: undefined, signal: 'SIGKILL' });
    // Its output is closed: nobody has it any more.
    expect(lives(readFileSync(join(at, 'child'), 'utf8'))).toBe(false);
  });
});

const PASS: Pass = {
  source: '/s',
  destination: '/d',
  host: undefined,
  what: 'entries',
  dryRun: false,
  every: false,
  limit: 0,
};

describe('rsync', () => {
  const tool = rsync({ hardLinks: false });
  const read = (line: string | Buffer) => tool.read(Buffer.from(line), 'stdout', PASS).told;

  it.each([
    ['>f+++++++++ 12 34 a/b c', { outcome: 'copied', kind: 'file', size: 12, changes: ['new'] }, 'a/b c'],
    ['<f.st...... 12 34  lead', { outcome: 'copied', kind: 'file', size: 12, changes: ['size', 'time'] }, ' lead'],
    ['.f          12 0 same', { outcome: 'skipped', kind: 'file', size: 12, changes: [] }, 'same'],
    ['.f...p..... 12 0 mode', { outcome: 'metadata', kind: 'file', size: 12, changes: ['mode'] }, 'mode'],
    ['cd+++++++++ 4096 0 dir/', { outcome: 'made', kind: 'directory', size: 0, changes: ['new'] }, 'dir'],
    ['cL+++++++++ 3 0 link', { outcome: 'made', kind: 'symlink', size: 0, changes: ['new'] }, 'link'],
    ['hf+++++++++ 3 0 hard', { outcome: 'linked', kind: 'file', size: 3, changes: ['new'] }, 'hard'],
    // A name that looks like a line, and one with what rsync escapes.
    [
      '>f+++++++++ 1 0 x\\#012>f+++++++++ 2 0 y',
      { outcome: 'copied', kind: 'file', size: 1, changes: ['new'] },
      'x\n>f+++++++++ 2 0 y',
    ],
    ['>f+++++++++ 1 0 back\\#134#012', { outcome: 'copied', kind: 'file', size: 1, changes: ['new'] }, 'back\\#012'],
  ] as const)('%s', (line, told, name) => {
    const { name: bytes, ...rest } = read(line) as { name: Buffer };
    expect(rest).toEqual({ type: 'entry', ...told });
    expect(bytes.toString()).toBe(name);
  });

  it.each([
    'created directory /d',
    'sent 12 bytes',
    '',
    '>f+++++++++ x 34 a',
    'skipping non-regular file "f+++++++++ 1 2 x"',
  ])('says nothing of an entry: %j', (line) => expect(read(line)).toBe(undefined));

  it('says how far a big file is', () => {
    const told = { type: 'stats', bytes: 2_228_224, compared: 0 };
    expect(read('        2228224  37%    1.95MB/s    0:00:01  ')).toEqual(told);
    expect(read('        3000000  50%    2.00MB/s    0:00:01 (xfr#1, to-chk=1/2)')).toEqual({
      ...told,
      bytes: 3_000_000,
    });
  });

  it('takes escaped bytes back', () => {
    expect(unescaped('caf\\#351 \\#01 \\#999')).toEqual(Buffer.from('caf\xe9 \\#01 \\#999', 'latin1'));
  });

  it('tells why an entry failed, by its name', () => {
    const line = Buffer.from('rsync: [sender] send_files failed to open "/s/a b": Permission denied (13)');
    expect(tool.read(line, 'stderr', PASS).told).toEqual({
      type: 'trouble',
      name: Buffer.from('a b'),
      message: 'Permission denied (13)',
    });
    expect(tool.read(Buffer.from('rsync error: some files (code 23)'), 'stderr', PASS).told).toBe(undefined);
    const gone = tool.read(Buffer.from('file has vanished: "/s/a"'), 'stderr', PASS).told;
    expect(gone).toMatchObject({ name: Buffer.from('a'), vanished: true });
  });

  it.each([
    [0, 'done'],
    [23, 'partial'],
    [24, 'partial'],
    [12, 'broken'],
    [255, 'broken'],
    [1, 'failed'],
    [11, 'failed'],
    [undefined, 'failed'],
  ] as const)('code %s is %s', (code, verdict) => expect(tool.verdict(code)).toBe(verdict));
});

describe('rclone', () => {
  it.each([
    ['plain é', 'plain é'],
    ['new\nline', 'new␊line'],
    ['\x01\x1f\x7f', '␁␟␡'],
    ['a␁b', 'a‛␁b'],
    ['␀ ␠ ␢', '␀ ␠ ␢'],
  ])('knows %j as %j', (name, form) => {
    expect(standard(Buffer.from(name))?.toString()).toBe(form);
    expect(plain(form).toString()).toBe(name);
  });

  it('can not be told of its own mark, and that is said', () => {
    const name = Buffer.from('a‛b');
    expect([standard(name), rclone({ config: undefined }).unfit(name)]).toEqual([
      undefined,
      expect.stringContaining('U+201B'),
    ]);
  });
});

it('a list gives its names, by kinds, and one that is cut short is none', async () => {
  const list = join(scratch(), 'list');
  const names = Array.from(
    { length: 20_000 },
    (_, index) => `dir${index}/${index % 3 === 0 ? '' : `new\nline ${index}`}`,
  );
  writeFileSync(list, names.map((name) => `${name}\0`).join(''));
  const all = async (kind?: 'all' | 'directories' | 'others') => {
    const found: string[] = [];
    for await (const batch of namesIn(list, kind)) found.push(...batch.map(String));
    return found;
  };
  const bare = names.map((name) => name.replace(/\/$/, ''));
  expect(await all()).toEqual(bare);
  expect(await all('directories')).toEqual(bare.filter((_, index) => index % 3 === 0));
  expect(await all('others')).toEqual(bare.filter((_, index) => index % 3 !== 0));
  writeFileSync(list, 'a\0b');
  await expect(all()).rejects.toThrow('cut short');
});

it('lists of a planner that lack what it has put into them are no plan', async () => {
  const at = scratch();
  const list = join(at, 'listed.1');
  const made = (entries: number) => {
    writeFileSync(list, ['.', 'a'].map((path) => `${JSON.stringify({ path, kind: 'file' })}\n`).join(''));
    return gather({ lists: [list], entries }, 'all', (number) => join(at, `part.${number}`));
  };
  expect((await made(2)).found.file).toBe(1);
  await expect(made(3)).rejects.toThrow('the planner has put 3 entries into its lists, and 2 are there');
});

describe('a tally', () => {
  type Entry = Extract<Told, { type: 'entry' }>;
  const entry = (outcome: Outcome, isNew = true): Entry => ({
    ...{ type: 'entry', outcome, kind: 'file', size: 1 },
    changes: isNew ? ['new'] : [],
  });
  const sum = (tally: Tally, entries: number) =>
    Object.fromEntries(Object.entries(tally.settle(entries)).map(([outcome, { all }]) => [outcome, all]));

  it('gives each entry one outcome, also when a run was begun again', () => {
    const tally = new Tally(true);
    tally.again();
    for (let copied = 0; copied < 3; copied += 1) tally.take(entry('copied'));
    tally.again();
    // The first three are there; one of them was not finished.
    tally.take(entry('copied'));
    for (const _ of [1, 2]) tally.take(entry('skipped'));
    for (const _ of [1, 2]) tally.take(entry('copied'));
    expect(tally.told).toBe(5);
    expect(sum(tally, 5)).toEqual({ metadata: 0, made: 0, linked: 0, copied: 5, skipped: 0 });
    // Of a file that did not come through nothing counts in the end.
    tally.take({ type: 'stats', bytes: 100, compared: 0 });
    expect([tally.written, tally.writtenSoFar]).toEqual([6, 103]);
  });

  it('takes what only was counted for what needed nothing', () => {
    const tally = new Tally(false);
    tally.again();
    tally.take(entry('copied'));
    tally.take(entry('copied', false));
    tally.take({ type: 'stats', bytes: 2, compared: 4 });
    expect([tally.told, tally.written]).toEqual([5, 2]);
    expect(sum(tally, 5)).toEqual({ metadata: 0, made: 0, linked: 0, copied: 2, skipped: 3 });
  });
});
