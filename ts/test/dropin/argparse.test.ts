/** The parser against argparse's rules; every expectation here was checked with Python's own argparse. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type FlagTable, parse, UsageError, usage } from '../../src/cli/dropin/argparse.js';

const TABLE = {
  serial: { names: ['-s', '--single_thread'], takes: 'none', rank: 0, help: '' },
  verbose: { names: ['-v', '--verbose'], takes: 'none', rank: 0, help: '' },
  full: { names: ['-fh', '--full_hash'], takes: 'none', rank: 0, help: '' },
  workers: { names: ['-j', '-m', '--max_workers'], takes: 'int', rank: 0, help: '' },
  per: { names: ['-f', '-fpj', '--files_per_job'], takes: 'int', rank: 0, help: '' },
  diff: { names: ['-dfl', '--diff_file_list'], takes: 'optional', rank: 0, help: '' },
  exclude: { names: ['-e', '--exclude'], takes: 'texts', rank: 0, help: '' },
  image: { names: ['-si', '--src_image'], takes: 'many', rank: 0, help: '' },
  dest: { names: ['-d', '-C', '--dest_path'], takes: 'texts', rank: 0, help: '' },
  destImage: { names: ['-di', '--dest_image'], takes: 'text', rank: 0, help: '' },
  rate: { names: ['-F', '--file_rate_limit'], takes: 'text', rank: 1, help: '' },
  batch: { names: ['-b', '--batch'], takes: 'none', rank: 0, group: 'batch', help: '' },
  sequential: { names: ['-nb', '--no_batch'], takes: 'none', rank: 1, group: 'batch', help: '' },
  dry: { names: ['--dry-run'], takes: 'none', rank: 2, help: '' },
  files: { names: ['--files-from'], takes: 'text', rank: 2, help: '' },
} as const satisfies FlagTable;

const EMPTY = parse(TABLE, []).values;

describe('what is understood', () => {
  it.each<[string[], Partial<typeof EMPTY>, string[]]>([
    [[], {}, []],
    [['a', '-d', 'x', 'b'], { dest: ['x'] }, ['a', 'b']],
    [['-sv'], { serial: true, verbose: true }, []],
    [['-svj8'], { serial: true, verbose: true, workers: 8 }, []],
    [['-sj', '8'], { serial: true, workers: 8 }, []],
    [['-j8'], { workers: 8 }, []],
    [['-j', '-1'], { workers: -1 }, []],
    [['-j-1'], { workers: -1 }, []],
    [['-m', '1_000'], { workers: 1000 }, []],
    [['-j=3'], { workers: 3 }, []],
    [['-j', '1', '-m', '2'], { workers: 2 }, []],
    [['-dDEST'], { dest: ['DEST'] }, []],
    [['-d', ''], { dest: [''] }, []],
    [['-d='], { dest: [''] }, []],
    [['-d', 'a', '-C', 'b', '--dest_path=c'], { dest: ['a', 'b', 'c'] }, []],
    [['-e*.o', '-e=a=b', '--exclude', 'c'], { exclude: ['*.o', 'a=b', 'c'] }, []],
    [['-fh'], { full: true }, []],
    [['-f', '3'], { per: 3 }, []],
    [['-fpj', '3'], { per: 3 }, []],
    [['-f8'], { per: 8 }, []],
    [['--max', '2'], { workers: 2 }, []],
    [['--max=2'], { workers: 2 }, []],
    [['--full'], { full: true }, []],
    [['-dfl'], { diff: true }, []],
    [['-dfl', 'a', 'b'], { diff: 'a' }, ['b']],
    [['a', '-dfl', '-s'], { diff: true, serial: true }, ['a']],
    [['-si', 'a', 'b', '-d', 'x', 'c'], { image: ['a', 'b'], dest: ['x'] }, ['c']],
    [['-si', 'a', '-si', 'b'], { image: ['a', 'b'] }, []],
    [['-si', '-s'], { image: [], serial: true }, []],
    [['-', '-1.5'], {}, ['-', '-1.5']],
    [['-a name'], {}, ['-a name']],
    [['--', '-s', '--', '-d'], {}, ['-s', '--', '-d']],
    [['a', '--', 'b'], {}, ['a', 'b']],
    // 8.96 knew one --file…, and keeps it
    [['--file=3'], { per: 3 }, []],
    [['--file_rate', '3'], { rate: '3' }, []],
    [['--dry'], { dry: true }, []],
    [['--files-f', 'x'], { files: 'x' }, []],
  ])('%j', (args, values, positionals) => {
    expect(parse(TABLE, args)).toMatchObject({ values: { ...EMPTY, ...values }, positionals });
  });
});

describe('what is refused, in one sentence that names the flag', () => {
  it.each<[string[], RegExp]>([
    [['-z'], /^no such option: -z$/],
    [['--nonsense=1'], /^no such option: --nonsense$/],
    [['-df'], /^option -df is ambiguous: it could be -dfl, -d$/],
    [['--dest=x'], /^option --dest is ambiguous: it could be --dest_path, --dest_image$/],
    [['--d'], /^option --d is ambiguous/],
    [['a', '-d'], /^argument -d\/-C\/--dest_path: needs a value$/],
    [['-d', '--', 'x'], /^argument -d\/-C\/--dest_path: needs a value$/],
    [['-e', '-s'], /^argument -e\/--exclude: needs a value$/],
    [['-j', 'x'], /^argument -j\/-m\/--max_workers: 'x' is not a whole number$/],
    [['-j', '1.5'], /'1.5' is not a whole number/],
    [['-j='], /'' is not a whole number/],
    [['--full_hash=yes'], /^argument -fh\/--full_hash: takes no value, 'yes' was given$/],
    [['-s='], /takes no value/],
    [['-sz'], /^argument -s\/--single_thread: takes no value, 'z' was given$/],
    [['-b', '-nb'], /^argument -nb\/--no_batch: not allowed with argument -b\/--batch$/],
  ])('%j', (args, message) => {
    expect(() => parse(TABLE, args)).toThrow(UsageError);
    expect(() => parse(TABLE, args)).toThrow(message);
  });
});

it('says which flags were given, in the order of the table', () => {
  expect(parse(TABLE, ['-d', 'x', '-s', '-j', '1']).given).toEqual(['serial', 'workers', 'dest']);
});

it('reads back whatever is written, in any spelling', () => {
  const value = fc.string({ minLength: 1 }).filter((text) => !text.startsWith('-'));
  const piece = fc.oneof(
    value.map((text) => ({ args: [text], positional: text })),
    fc.constantFrom('-d', '-C', '--dest_path', '--dest_p').chain((name) =>
      value.chain((text) =>
        fc
          .constantFrom(
            [name, text],
            [`${name}=${text}`],
            // Attached to a letter only where no other name begins so.
            ...(name === '-C' && !text.startsWith('=') ? [[name + text]] : []),
          )
          .map((args) => ({ args, dest: text })),
      ),
    ),
    fc
      .integer()
      .chain((number) =>
        fc
          .constantFrom(['-j', `${number}`], [`-j${number}`], [`--max_workers=${number}`], [`-sj${number}`])
          .map((args) => ({ args, workers: number })),
      ),
    fc.constantFrom(['-s'], ['-sv'], ['-vs'], ['--verb'], ['-fh']).map((args) => ({ args, flag: args[0] ?? '' })),
  );
  fc.assert(
    fc.property(fc.array(piece), (pieces) => {
      const { values, positionals } = parse(
        TABLE,
        pieces.flatMap(({ args }) => args),
      );
      expect(positionals).toEqual(pieces.flatMap((each) => ('positional' in each ? [each.positional] : [])));
      expect(values.dest).toEqual(pieces.flatMap((each) => ('dest' in each ? [each.dest] : [])));
      expect(values.workers).toBe(pieces.flatMap((each) => ('workers' in each ? [each.workers] : [])).at(-1));
      const flags = pieces.flatMap((each) => ('flag' in each ? [each.flag] : []));
      expect(values.verbose).toBe(flags.some((flag) => flag.includes('v')));
      expect(values.full).toBe(flags.includes('-fh'));
    }),
  );
});

it('never throws anything but a usage error', () => {
  const names = Object.values(TABLE).flatMap((flag): string[] => [...flag.names]);
  const arg = fc.oneof(
    fc.constantFrom(...names),
    fc.string(),
    fc.string().map((text) => `-${text}`),
  );
  fc.assert(
    fc.property(fc.array(arg), (args) => {
      try {
        parse(TABLE, args);
      } catch (error) {
        expect(error).toBeInstanceOf(UsageError);
      }
    }),
  );
});

it('shows the usage', () => {
  expect(usage('tool', TABLE, '[src ...]', 60)).toMatchInlineSnapshot(`
    "usage: tool [-s] [-v] [-fh] [-j WORKERS] [-f PER]
                [-dfl [DIFF]] [-e EXCLUDE] [-si [IMAGE ...]]
                [-d DEST] [-di DESTIMAGE] [-F RATE] [-b] [-nb]
                [--dry-run] [--files-from FILES] [src ...]"
  `);
});
