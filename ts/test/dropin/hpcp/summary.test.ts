/** What scripts read: the summary, the last line, and the exit code. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { UsageError } from '../../../src/cli/dropin/argparse.js';
import { CODES, exitCode, lastLine, problem, problemOf, problemsOf } from '../../../src/cli/dropin/hpcp/codes.js';
import { bytes, CopiedNames, headLine, summaryLines } from '../../../src/cli/dropin/hpcp/summary.js';
import { BulkhaulError, type ErrorCode } from '../../../src/error.js';
import { decode, type EntryEvent, type ErrorEvent } from '../../../src/events.js';
import { outcomes, type report, reported } from '../../rig.js';

const NO_FILES = { file: 0, directory: 0, symlink: 0, fifo: 0, socket: 0, block: 0, char: 0 };

describe('the summary', () => {
  it('has the labels of the original and the real numbers', () => {
    const copied = reported({
      found: { ...NO_FILES, file: 1500, directory: 12, symlink: 3 },
      files: outcomes({ copied: 1000, skipped: 400, metadata: 50, linked: 10, failed: 40 }),
      foundBytes: 3 * 2 ** 30,
      copiedBytes: 2 ** 30,
      skipped: { unchanged: 400, excluded: 7 },
      elapsed: 2,
      workers: 8,
    });
    expect(summaryLines(copied, true).join('\n')).toMatchInlineSnapshot(`
      "Number of files: 1500
      Number of links: 3
      Number of folders: 12
      Estimated size: 3.00 GiB
      Processing 1500 files with 8 workers

      Time taken:             2.0000 seconds
      Average speed:          512.00 MiB/s
                              730.00 file/s
      Average bandwidth:      4.29 Gbps
      Total files copied:     1460
      Total files unchanged:  450
      Total size copied:      1.00 GiB
      Total files discovered: 1500
      Processed 1500 files and 3 symlinks in total
      --------------------------------------------------------------------------------
      Found Symbolic Links:   3
      --------------------------------------------------------------------------------
      Overall Summary:
      Number of files / links: 1503
      Number of links: 3
      Total time taken: 2.0000 seconds"
    `);
  });

  it('divides by no time', () => {
    expect(summaryLines(reported({ elapsed: 0, copiedBytes: 5 }), false)).toContain('Average speed:          0.00 B/s');
  });

  it('does not call a file copied that was left out', () => {
    const found = { ...NO_FILES, file: 4, symlink: 1 };
    const only = reported({ found, files: outcomes({ skipped: 4 }), skipped: { 'directories-only': 5 } });
    expect(summaryLines(decode(only), false)).toContain('Total files copied:     0');
    const mixed = reported({ found, files: outcomes({ skipped: 4 }), skipped: { unchanged: 3, overridden: 1 } });
    expect(summaryLines(decode(mixed), false)).toContain('Total files copied:     3');
  });

  it.each<[number, string]>([
    [0, '0.00 B'],
    [1, '1.00 B'],
    [1023, '1023.00 B'],
    [1024, '1.00 KiB'],
    [212_992, '208.00 KiB'],
    [2 ** 20 - 1, '1.00 MiB'],
    [2 ** 20, '1.00 MiB'],
    [1.5 * 2 ** 40, '1.50 TiB'],
    [2 ** 60, '1.00 EiB'],
    [2 ** 73, '8192.00 EiB'],
  ])('%d bytes are %s', (value, text) => {
    expect(bytes(value)).toBe(text);
  });

  it('names sources and destinations', () => {
    expect(headLine(['s', "it's\n"], ['o/'])).toBe(String.raw`Copying from ['s', 'it\'s\n'] to ['o/']`);
    const many = (count: number) => headLine(Array<string>(count).fill('s'), ['o/']);
    expect(many(1000)).toBe(`Copying from [${"'s', ".repeat(999)}'s'] to ['o/']`);
    expect(many(1002)).toContain("'s', … and 2 more] to ['o/']");
  });
});

describe('-v', () => {
  const entry = (changes: Partial<EntryEvent>): EntryEvent => ({
    type: 'entry',
    outcome: 'copied',
    kind: 'file',
    path: 'a',
    source: 's/a',
    destination: 'o/a',
    bytes: 1,
    changes: ['new'],
    ...changes,
  });

  it('names what arrived, sorted, with the names escaped', () => {
    const names = new CopiedNames();
    const events = [
      entry({ path: 'b' }),
      entry({ path: 'a\x1b[2J' }),
      entry({ path: 'd', kind: 'directory', outcome: 'made' }),
      entry({ path: 'l', kind: 'symlink', outcome: 'made', source: 's/l', destination: 'o/l' }),
      entry({ path: 'same', outcome: 'skipped', reason: 'unchanged' }),
      entry({ path: 'left', outcome: 'skipped', reason: 'excluded' }),
      entry({ path: 'bad', outcome: 'failed' }),
      entry({ path: 'hard', outcome: 'linked' }),
    ];
    for (const event of events) names.take(event);
    expect(names.lines()).toEqual([
      'Copied File: a\\x1b[2J',
      'Copied File: b',
      'Copied File: hard',
      'Copied File: l',
      'Copied File: same',
      'Link: s/l -> o/l',
    ]);
  });
});

describe('exit codes', () => {
  it('are these', () => {
    expect(CODES).toMatchInlineSnapshot(`
      {
        "copy crashed": 191,
        "copy failed": 190,
        "defect": 70,
        "destination file system": 227,
        "destination image": 221,
        "destination missing": 226,
        "different": 1,
        "directory failed": 193,
        "exclude file missing": 171,
        "exclude file unreadable": 170,
        "file system": 187,
        "identity": 250,
        "image size": 223,
        "in use": 251,
        "interrupted": 130,
        "link conflict": 162,
        "link failed": 160,
        "list file": 208,
        "listing failed": 209,
        "no destination": 202,
        "no source": 240,
        "not enough space": 228,
        "partition": 128,
        "partition copy": 181,
        "partition table": 182,
        "patch conflict": 245,
        "patch damaged": 246,
        "patch format": 243,
        "patch incomplete": 244,
        "patch layout": 248,
        "patch making": 242,
        "refused": 241,
        "removal failed": 192,
        "removal skipped": 212,
        "source image": 206,
        "source missing": 207,
        "stopped": 147,
        "usage": 2,
      }
    `);
  });

  const failure = (changes: Partial<ErrorEvent>): ErrorEvent => ({
    type: 'error',
    kind: 'permission',
    outcome: 'failed',
    operation: 'open',
    path: 's/a',
    entryKind: 'file',
    message: 'open s/a: permission denied',
    ...changes,
  });
  const codeOf = (...failures: ErrorEvent[]) => exitCode(problemsOf({ ...reported(), failures }));

  it.each<[Partial<ErrorEvent>, number]>([
    [{}, 190],
    [{ kind: 'no-space', operation: 'write' }, 190],
    [{ kind: 'vanished', outcome: 'changed' }, 190],
    [{ kind: 'changed', outcome: 'changed' }, 190],
    [{ kind: 'conflict', outcome: 'conflict' }, 190],
    [{ entryKind: 'fifo' }, 190],
    [{ kind: 'panic' }, 191],
    [{ outcome: 'mismatched' }, 191],
    [{ entryKind: 'directory', operation: 'mkdir' }, 193],
    [{ entryKind: 'directory', outcome: 'conflict', kind: 'conflict' }, 193],
    [{ entryKind: 'directory', operation: 'list' }, 209],
    [{ entryKind: 'directory', operation: 'open', kind: 'unreadable' }, 209],
    [{ entryKind: 'symlink', operation: 'symlink' }, 160],
    [{ entryKind: 'symlink', outcome: 'conflict', kind: 'conflict' }, 162],
    [{ kind: 'same-file' }, 241],
  ])('%j is %d', (changes, code) => {
    expect(codeOf(failure(changes))).toBe(code);
  });

  it.each<[ErrorCode, number]>([
    ['USAGE', 2],
    ['ADDON', 2],
    ['NO_SOURCE', 207],
    ['NO_DESTINATION', 202],
    ['SAFETY', 241],
    ['OUTPUT', 191],
    ['INTERNAL', 70],
  ])('the error %s is %d', (code, exit) => {
    expect(exitCode([problemOf(new BulkhaulError(code, 'text'))])).toBe(exit);
  });

  it('tells lack of space, which the engine names, from a defect', () => {
    const engine = Object.assign(new Error('2 bytes are to be copied, and 1 is free'), { code: 'NO_SPACE' });
    expect(exitCode([problemOf(BulkhaulError.from(engine))])).toBe(228);
  });

  it('knows usage errors and defects', () => {
    expect(exitCode([problemOf(new UsageError('text'))])).toBe(2);
    expect(exitCode([problemOf(new TypeError('text'))])).toBe(70);
  });

  it('is the highest, and 130 before all', () => {
    const cases = Object.keys(CODES) as (keyof typeof CODES)[];
    fc.assert(
      fc.property(fc.subarray(cases, { minLength: 1 }), (some) => {
        const code = exitCode(some.map((each) => problem(each, 'text')));
        expect(code).toBe(some.includes('interrupted') ? 130 : Math.max(...some.map((each) => CODES[each])));
      }),
    );
    expect(exitCode([])).toBe(0);
  });

  it('is not 0 for anything that is not finished, whatever the report keeps of it', () => {
    const codeFor = (changes: Parameters<typeof report>[0]) => exitCode(problemsOf(reported(changes)));
    expect(codeFor({})).toBe(0);
    expect(
      codeFor({
        notes: [{ type: 'note', kind: 'owner', count: 2, lost: false, path: Buffer.from('x'), message: 'm' }],
      }),
    ).toBe(0);
    expect(
      codeFor({
        notes: [{ type: 'note', kind: 'owner', count: 2, lost: true, path: Buffer.from('x'), message: 'm' }],
      }),
    ).toBe(190);
    expect(codeFor({ failureKinds: { io: 3 } })).toBe(190);
    for (const outcome of ['failed', 'conflict', 'mismatched', 'changed'] as const) {
      expect(codeFor({ outcomes: outcomes({ [outcome]: 1 }) })).toBe(190);
    }
    expect(codeFor({ accounted: false })).toBe(191);
    expect(codeFor({ interrupted: true, accounted: false })).toBe(130);
  });
});

describe('the last line', () => {
  it.each<[string[], string]>([
    [[], 'Done.'],
    [["can't"], String.raw`Error occurred: ['can\'t'], return code: 190.`],
    [['a\nb', 'c\x1b'], String.raw`Error occurred: ['a\nb', 'c\x1b'], return code: 190.`],
  ])('%j', (messages, line) => {
    expect(lastLine(messages.map((message) => problem('copy failed', message)))).toBe(line);
  });

  it('stays readable when everything failed', () => {
    const many = Array.from({ length: 1000 }, (_, index) => problem('copy failed', `m${index}`));
    expect(lastLine(many)).toMatch(/'m19', 'and 980 more'\], return code: 190\.$/);
  });
});
