/** The parts of scripts/bench that can be wrong without a measurement: its statistics, its table, its yardsticks. */
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { program, type Run, scratch } from './rig.js';

const SCRIPTS = fileURLToPath(new URL('../../scripts', import.meta.url));

interface Series {
  name: string;
  role: 'yardstick' | 'ours' | 'peer';
  wall: number[];
  cpu: number[];
  resident: number[];
  durable: number[];
}

interface Target {
  of?: string;
  than?: string;
  atMost?: number;
  faster?: number;
  resident?: number;
}

interface Verdict {
  text: string;
  value: number | undefined;
  reached: boolean | undefined;
}

interface Statistics {
  median(values: readonly number[]): number;
  summary(values: readonly number[]): { median: number; min: number; max: number; spread: number };
  ratio(above: readonly number[], below: readonly number[]): number | undefined;
  verdict(target: Target, series: readonly Series[]): Verdict;
}

interface Contender {
  name: string;
  role: Series['role'];
  command(place: Record<string, unknown>): string[];
}

interface Row {
  name: string;
  title: string;
  data?: unknown;
  contenders?: Contender[];
  targets?: Target[];
}

interface Rows {
  ROWS: Row[];
  against(row: Row): Row;
  chosen(names: readonly string[]): Row[];
}

interface Data {
  scaled(data: unknown, scale: number): unknown;
  generator(data: unknown, directory: string): string[];
  room(data: unknown): { entries: number; bytes: number };
  describe(data: unknown): string;
}

interface Reports {
  markdown(report: unknown): string;
}

interface Children {
  Children: new (
    env: NodeJS.ProcessEnv,
  ) => {
    interrupt(): void;
    run(command: readonly string[], options?: { cleaning?: boolean }): Promise<{ code: number }>;
  };
  Interrupted: new () => Error;
}

interface Carrying {
  unevenness(lists: string, directory: string): { bytes: number; entries: number };
}

interface Yardsticks {
  built(cache?: string): (name: string) => string;
}

// JavaScript without declarations: what the tests use of it is said above.
const load = (name: string) => import(join(SCRIPTS, 'bench.d', name));
const { median, summary, ratio, verdict }: Statistics = await load('statistics.js');
const { ROWS, against, chosen }: Rows = await load('rows.js');
const { scaled, generator, room, describe: described }: Data = await load('data.js');
const { markdown }: Reports = await load('report.js');
const { Children, Interrupted }: Children = await load('children.js');
const { unevenness }: Carrying = await load('run.js');
const { built }: Yardsticks = await load('yardsticks.js');

const series = (name: string, role: Series['role'], wall: number[], resident: number[] = []): Series => ({
  ...{ name, role, wall, resident },
  ...{ cpu: wall, durable: [] },
});

describe('children', () => {
  it('are killed by an interrupt, but for what cleans up', async () => {
    const children = new Children(process.env);
    const endless = children.run(['sleep', '600']);
    children.interrupt();
    await expect(endless).rejects.toThrow(Interrupted);
    const cleaning = children.run(['sleep', '0.1'], { cleaning: true });
    children.interrupt();
    expect((await cleaning).code).toBe(0);
    expect(() => children.run(['true'])).toThrow(Interrupted);
  });
});

describe('statistics', () => {
  it.each([
    [[3], 3],
    [[4, 1], 2.5],
    [[9, 1, 5], 5],
    [[10, 9, 2, 1], 5.5],
    [[0.1, 0.3, 0.2, 0.5, 0.4], 0.3],
  ])('the median of %j is %d', (values, expected) => {
    const before = [...values];
    expect(median(values)).toBeCloseTo(expected, 12);
    expect(values).toEqual(before);
  });

  it('sorts by value, not by text', () => {
    expect(median([100, 20, 3])).toBe(20);
  });

  it('of nothing are an error, and a ratio is undefined', () => {
    expect(() => median([])).toThrow(RangeError);
    expect(ratio([], [1])).toBeUndefined();
    expect(ratio([1], [])).toBeUndefined();
  });

  it('have the spread as a part of the median', () => {
    expect(summary([2, 1, 4])).toEqual({ median: 2, min: 1, max: 4, spread: 1.5 });
    expect(summary([0, 0])).toEqual({ median: 0, min: 0, max: 0, spread: 0 });
  });

  it('have ratios of medians, not of means', () => {
    expect(ratio([2, 2, 90], [1, 1, 1])).toBe(2);
  });

  const row = [
    series('floor', 'yardstick', [1]),
    series('ours', 'ours', [1.3], [100 * 1024, 300 * 1024]),
    series('drop-in', 'ours', [4]),
    series('cp', 'peer', [2.6]),
    series('xcp', 'peer', []),
  ];

  it.each<[Target, number | undefined, boolean | undefined]>([
    [{ than: 'floor', atMost: 1.35 }, 1.3, true],
    [{ than: 'floor', atMost: 1.25 }, 1.3, false],
    [{ than: 'cp', faster: 2 }, 2, true],
    [{ than: 'cp', faster: 2.1 }, 2, false],
    [{ of: 'drop-in', than: 'cp', faster: 1 }, 0.65, false],
    [{ than: 'xcp', faster: 1 }, undefined, undefined],
    [{ than: 'nobody', faster: 1 }, undefined, undefined],
    [{ resident: 300 }, 300, true],
    [{ resident: 256 }, 300, false],
  ])('judge %j', (target, value, reached) => {
    const found = verdict(target, row);
    expect(found.value === undefined ? undefined : Number(found.value.toFixed(6))).toBe(value);
    expect(found.reached).toBe(reached);
  });
});

describe('rows', () => {
  it('are all those that are promised', () => {
    expect(ROWS.map((row) => row.name)).toEqual([
      ...[
        'small-tmpfs',
        'small-ext4',
        'small-cold',
        'flat',
        'deep',
        'watched',
        'journal',
        'big-tmpfs',
        'big-ext4',
        'one-big',
        'resume',
        'mixed',
      ],
      ...['unchanged-times', 'unchanged-tail', 'durable-small', 'durable-big'],
      ...[
        'verify-small',
        'verify-big',
        'hash-small',
        'hash-copy-small',
        'hash-big',
        'hash-copy-big',
        'verify-manifest',
      ],
      ...[
        'list',
        'partition',
        'store-up',
        'store-down',
        'store-again',
        'store-big-up',
        'store-big-down',
        'ceph-up',
        'ceph-down',
        'ceph-again',
        'ceph-big-up',
        'ceph-big-down',
        'spread',
        'pack',
        'image',
        'compare',
        'remove',
      ],
      ...['compress-one', 'decompress-one', 'migrate-one', 'compress-many', 'decompress-many', 'migrate-many'],
      ...['compress-xz', 'compress-zstd'],
      ...['memory-1m-tree', 'memory-1m-flat', 'memory-10m-tree', 'memory-10m-flat', 'start'],
    ]);
  });

  it.each(ROWS.map((row) => [row.name, row] as const))('%s has ours, and targets that can be judged', (_, row) => {
    const contenders = row.contenders ?? [];
    const names = contenders.map((each) => each.name);
    expect(new Set(names).size).toBe(names.length);
    expect(contenders.some((each) => each.role === 'ours')).toBe(true);
    expect(row.targets).not.toHaveLength(0);
    for (const { of, than } of row.targets ?? []) {
      if (of !== undefined) expect(names).toContain(of);
      if (than !== undefined) expect(names).toContain(than);
    }
  });

  it.each(ROWS.map((row) => [row.name, row] as const))('%s has command lines of words', (_, row) => {
    const place = {
      source: '/s',
      destination: '/d',
      temporary: '/t',
      threads: 2,
      batch: 1,
      endpoint: 'http://e',
      path: (name: string) => name,
    };
    for (const contender of row.contenders ?? []) {
      for (const word of contender.command(place)) expect(word).toMatch(/^(?!undefined|NaN)/);
    }
  });

  it.each(ROWS.map((row) => [row.name, row] as const))(
    '%s has each of ours twice against another checkout',
    (_, row) => {
      const place = {
        ...{ source: '/s', destination: '/d', temporary: '/t', threads: 2, batch: 1 },
        path: (program: string) => (program === 'bulkhaul of another checkout' ? '/other' : `/this/${program}`),
      };
      const { contenders = [], targets = [] } = against(row);
      const ours = (row.contenders ?? []).filter(({ role }) => role === 'ours');
      expect(contenders).toHaveLength((row.contenders ?? []).length + ours.length);
      for (const each of ours) {
        const twin = contenders.find(({ name }) => name === `${each.name} of the other checkout`);
        const command = each.command(place).map((word) => (word === '/this/bulkhaul' ? '/other' : word));
        expect(twin?.command(place)).toEqual(command);
        expect(command).toContain('/other');
        expect(targets).toContainEqual({ of: each.name, than: twin?.name, atMost: 1.03 });
      }
    },
  );

  it('are chosen by name or by the beginning of names', () => {
    const names = (...given: string[]) => chosen(given).map((row) => row.name);
    expect(names('start', 'small')).toEqual(['small-tmpfs', 'small-ext4', 'small-cold', 'start']);
    expect(names('memory-1m')).toEqual(['memory-1m-tree', 'memory-1m-flat']);
    expect(() => names('smal')).toThrow(RangeError);
  });

  it('of ten million run only when they are named', () => {
    const isLarge = (row: Row) => row.name.startsWith('memory-10m');
    expect(chosen([]).some(isLarge)).toBe(false);
    expect(chosen(['memory']).some(isLarge)).toBe(false);
    expect(chosen(['memory-10m']).filter(isLarge)).toHaveLength(2);
    expect(chosen([]).length).toBe(ROWS.length - 2);
  });

  it('are described', () => {
    const text = readFileSync(join(SCRIPTS, '../docs/benchmarks.md'), 'utf8');
    for (const { name } of ROWS) expect(text).toContain(`\`${name}\``);
  });
});

describe('data', () => {
  it.each([
    [
      { kind: 'tree', directories: 1000, files: 100, most: 16384 },
      { directories: 50, files: 100, most: 16384 },
    ],
    [
      { kind: 'flat', files: 10, most: 0 },
      { files: 1, most: 0 },
    ],
    [
      { kind: 'deep', chains: 80, depth: 250, files: 5, most: 1 },
      { chains: 4, depth: 250 },
    ],
    [
      { kind: 'big', files: 2, mebibytes: 1024 },
      { files: 2, mebibytes: 51 },
    ],
    [
      { kind: 'tables', files: 4000, mebibytes: 384 },
      { files: 200, mebibytes: 19 },
    ],
    [{ kind: 'real' }, { kind: 'real' }],
  ])('%j shrinks', (data, expected) => {
    expect(scaled(data, 0.05)).toMatchObject(expected);
    expect(scaled(data, 1)).toEqual(data);
  });
});

describe('a report', () => {
  const machine = {
    processor: 'p',
    cpus: 2,
    memory: 2 ** 30,
    kernel: 'k',
    load: [0],
    commit: 'c',
    time: 't',
    versions: {},
  };
  const rows = [
    {
      ...{ name: 'small', title: 'small files', data: 'files', fileSystem: 'tmpfs', rounds: 5 },
      contenders: [
        series('floor', 'yardstick', [1, 1.2, 1.1], [2048]),
        { ...series('ours', 'ours', [2.2], [4096]), kept: 2048, uneven: { bytes: 1.01, entries: 15 } },
        series('tar | tar', 'peer', [4.4], [1024]),
        { ...series('cpz', 'peer', []), missing: 'not installed' },
        { ...series('xcp', 'peer', []), missing: 'exit code 1: no' },
      ],
      verdicts: [
        { text: 'at most 1.35', value: 2, reached: false },
        { text: 'fast', value: undefined, reached: undefined },
      ],
    },
    { name: 'list', title: 'list', dash: 'no /dev/shm', contenders: [], verdicts: [] },
  ];

  it('has medians, spread, CPU, ratios, and dashes for what is missing', () => {
    const lines = markdown({ machine, scale: 1, rounds: 5, rows }).split('\n');
    expect(lines).toContain('| _floor_ | 1.10 | 1.00-1.20 | 1.10 | 1.00 | 0.50 | 2 |');
    expect(lines).toContain('| **ours** | 2.20 | 2.20-2.20 | 2.20 | 2.00 | 1.00 | 4 |');
    expect(lines).toContain('| tar \\| tar | 4.40 | 4.40-4.40 | 4.40 | 4.00 | 2.00 | 1 |');
    expect(lines).toContain('| cpz | – | – | – | – | – | – |');
    expect(lines).toContain('- xcp: exit code 1: no');
    expect(lines).toContain('- ours: what it writes down of its work has 2,048 bytes');
    expect(lines).toContain(
      '- ours: the largest part has 1.01 times the bytes of the smallest, and 15.0 times the entries',
    );
    expect(lines).toContain('- at most 1.35: 2.00, **missed**');
    expect(lines).toContain('| small | 2.20 | 2.00 | tar \\| tar 2.00 | 4 | 0 of 1 reached |');
    expect(lines).toContain('| list | – | – | – | – | no /dev/shm |');
    expect(lines.join()).not.toContain('not for quoting');
  });

  it('says when it is not for quoting', () => {
    expect(markdown({ machine, scale: 0.1, rounds: 5, rows })).toContain('not for quoting');
    expect(markdown({ machine, scale: 1, rounds: 4, rows })).toContain('not for quoting');
  });
});

describe('parts', () => {
  it('are as uneven as their lists say, in bytes and in entries', () => {
    const at = scratch();
    for (const [name, size] of Object.entries({ a: 1, b: 2, c: 3 })) writeFileSync(join(at, name), 'x'.repeat(size));
    mkdirSync(join(at, 'd'));
    writeFileSync(join(at, 'list.1'), 'a\nc\n');
    writeFileSync(join(at, 'list.2'), `${join(at, 'b')}\nd\n`);
    writeFileSync(join(at, 'list.3'), `c\na\nb\nd\n`);
    writeFileSync(join(at, 'other.1'), `a\n`);
    expect(unevenness(join(at, 'list'), at)).toEqual({ bytes: 3, entries: 2 });
  });
});

describe('the yardsticks', async () => {
  const compiles = (await program('cc', ['--version']).catch(() => undefined))?.code === 0;
  const run = async (...command: string[]): Promise<Run> => {
    const [name = '', ...args] = command;
    const result = await program(name, args);
    expect(result).toMatchObject({ code: 0, stderr: '' });
    return result;
  };
  /** Names, kinds, sizes, times and contents of a tree. */
  const fingerprint = async (tree: string) =>
    (
      await run(
        'sh',
        '-c',
        `cd ${tree} && find . -printf '%P %y %s %m %T@\\n' | grep -v ' d ' | sort
      find . -type d -printf '%P\\n' | sort; find . -type f -print0 | sort -z | xargs -0 sha256sum`,
      )
    ).stdout;

  it.runIf(compiles)('compile, are not compiled twice, and do what they say', { timeout: 120_000 }, async () => {
    const at = scratch();
    const path = built(join(at, 'cache'));
    const compiled = statSync(path('floor')).mtimeMs;
    expect(statSync(built(join(at, 'cache'))('floor')).mtimeMs).toBe(compiled);

    const kinds = {
      tree: { kind: 'tree', directories: 60, files: 3, most: 5000 },
      flat: { kind: 'flat', files: 2500, most: 10 },
      deep: { kind: 'deep', chains: 2, depth: 30, files: 2, most: 100 },
      big: { kind: 'big', files: 3, mebibytes: 2 },
    };
    for (const [name, data] of Object.entries(kinds)) {
      const make = async (directory: string) => {
        const [program = '', ...args] = generator(data, directory);
        return (await run(path(program), ...args)).stdout;
      };
      const [tree, again] = [join(at, name), join(at, `${name}-again`)];
      const said = await make(tree);
      expect(await make(again), described(data)).toBe(said);
      const first = await fingerprint(tree);
      if (name !== 'big') expect(await fingerprint(again)).toBe(first);

      const counted = (await run(path('floor'), 'walkstat', '2', tree)).stdout;
      const [files = 0, , bytes = 0] = (counted.match(/\d+/g) ?? []).map(Number);
      expect(said).toBe(`${files} files ${bytes} bytes\n`);
      expect(room(data).entries).toBeGreaterThanOrEqual(files);
      expect(room(data).bytes).toBeGreaterThan(bytes);

      expect((await run(path('floor'), 'walk', '2', tree, again)).stdout).toMatch(new RegExp(`^${2 * files} files `));
      expect((await run(path('floor'), 'read', '2', tree)).stdout).toContain(` ${bytes} bytes`);
      for (const mode of ['copy_full', 'copy_rename', 'copy_stagedir']) {
        const copy = join(at, `${name}-${mode}`);
        expect((await run(path('floor'), mode, '3', tree, copy)).stdout).toContain(`${files} files`);
        expect(await fingerprint(copy), mode).toBe(first);
        await run(path('floor'), 'remove', '2', copy);
        expect(existsSync(copy)).toBe(false);
      }
    }
    const content = async (tree: string) => (await run('sh', '-c', `cd ${tree} && sha256sum *`)).stdout;
    for (const mode of ['rw', 'copy_file_range']) {
      const copy = join(at, mode);
      await run(path('bigfloor'), mode, '2', '1', join(at, 'big'), copy, ...(mode === 'rw' ? ['64'] : []));
      expect(await content(copy)).toBe(await content(join(at, 'big')));
    }
    expect((await run(path('memwarm'), '3', 'sh', '-c', 'echo "$1"', 'sh', 'warm')).stdout).toBe('warm\n');
    for (const [script, code] of [
      ['exit 7', 7],
      ['kill -9 $$', 128 + 9],
    ] as const) {
      expect((await program(path('memwarm'), ['3', 'sh', '-c', script])).code).toBe(code);
    }
    expect((await program(path('memwarm'), ['3', join(at, 'nothing')])).code).toBe(127);
    expect((await program(path('floor'), ['walk', '2', join(at, 'nothing')])).code).toBe(1);
  });

  it.runIf(compiles)('account for all processes of a command', async () => {
    const path = built();
    const timed = async (script: string) => {
      const { stdout } = await run('sh', '-c', '"$1" sh -c "$2" 3>&1 >/dev/null', 'sh', path('timed'), script);
      return JSON.parse(stdout) as { wall: number; user: number; system: number; resident: number; code: number };
    };
    const busy = `${process.execPath} -e 'const end = process.cpuUsage().user + 200_000; while (process.cpuUsage().user < end);'`;
    // One in the foreground, one that has lost its parent when the command ends.
    const usage = await timed(`${busy}; (${busy} &) ; exit 7`);
    expect(usage.code).toBe(7);
    expect(usage.user + usage.system).toBeGreaterThan(0.4);
    expect(usage.wall).toBeGreaterThan(0);
    expect(usage.resident).toBeGreaterThan(10_000);
    expect((await timed('kill -9 $$')).code).toBe(128 + 9);
  });
});
