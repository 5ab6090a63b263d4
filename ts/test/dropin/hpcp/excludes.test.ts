/** Exclude patterns: how they are normalised, and what is said about those that do not do what they look like. */
import { mkdirSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ExcludeFileError, normalise, readExcludeFile, readExcludes } from '../../../src/cli/dropin/hpcp/excludes.js';
import { fromBytes } from '../../../src/names.js';
import { scratch } from '../../rig.js';

it.each<[string, string | undefined]>([
  ['*.o', '*/*.o'],
  ['logs', '*/logs'],
  ['logs/*', '*/logs/*'],
  ['*/x', '*/x'],
  ['/abs/x', '/abs/x'],
  ['//abs///x', '/abs/x'],
  ['a//b', '*/a/b'],
  ['#x', '*/#x'],
  ['./x', '*/./x'],
  ['s/', '*/s/'],
  ['', undefined],
  ['  ', undefined],
])('%j is %j', (pattern, rule) => {
  expect(normalise(pattern)).toBe(rule);
});

describe('patterns and the sources themselves', () => {
  const sources = [
    { path: 's', kind: 'directory' as const },
    { path: '/d[1]/f', kind: 'other' as const },
  ];
  it.each<[string[], string[], RegExp[]]>([
    [['*.o', '', 's/x'], ['*/*.o', '*/s/x'], []],
    [['s/'], ['*/s/', '/w/s', '/w/s/*'], [/'s\/' leaves out the whole source s$/]],
    [['s'], ['*/s', '/w/s', '/w/s/*'], [/leaves out the whole source s$/]],
    [['f'], ['*/f', '/d[[]1]/f', '/d[[]1]/f/*'], [/leaves out the whole source \/d\[1\]\/f$/]],
    [['f/'], ['*/f/'], [/can not match/]],
    [['./x'], ['*/./x'], [/can not match/]],
    [['../x'], ['*/../x'], [/can not match/]],
    [['.x', '..x'], ['*/.x', '*/..x'], []],
    [['*'], ['*/*', '/w/s', '/w/s/*', '/d[[]1]/f', '/d[[]1]/f/*'], [/whole source s$/, /whole source .*f$/]],
  ])('%j', (patterns, rules, notes) => {
    const result = readExcludes(patterns, sources, '/w');
    expect(result.rules).toEqual(rules);
    expect(result.notes).toEqual(notes.map((note) => expect.stringMatching(note)));
  });
});

describe('sources are spelled so that absolute patterns match', () => {
  it.each<[string, string]>([
    ['s', 's'],
    ['s/', 's/'],
    ['./s', 's'],
    ['./s/.', 's/'],
    ['.//s//x', 's/x'],
    ['/s/./x', '/s/x'],
    ['.', 'CWD/'],
    ['./', 'CWD/'],
    ['/', '/'],
    ['d/..', 'CWD/'],
    ['d/../d/', 'CWD/d/'],
    ['ln/../x', 'CWD/d/x'],
    ['d/../ln', 'CWD/ln'],
  ])('%s is %s', (path, spelled) => {
    const root = realpathSync(scratch());
    mkdirSync(join(root, 'd/below'), { recursive: true });
    symlinkSync('d/below', join(root, 'ln'));
    const before = process.cwd();
    process.chdir(root);
    try {
      const { sources } = readExcludes(['x'], [{ path, kind: 'directory' }], root);
      expect(sources).toEqual([{ path: spelled.replace('CWD', root), kind: 'directory' }]);
      expect(readExcludes([''], [{ path, kind: 'directory' }], root).sources[0]?.path).toBe(path);
    } finally {
      process.chdir(before);
    }
  });
});

describe('the exclude file', () => {
  it('has one pattern a line, in bytes, with nothing trimmed', () => {
    const file = join(scratch(), 'x');
    writeFileSync(file, Buffer.from([...Buffer.from('a\r\n b \n\n#c\n'), 0xff, 0x0a]));
    expect(readExcludeFile(file)).toEqual(['a', ' b ', '', '#c', fromBytes(Buffer.from([0xff])), '']);
  });

  it('is an error when it is missing or unreadable', () => {
    const root = scratch();
    mkdirSync(join(root, 'd'));
    const problemOf = (path: string) => {
      try {
        readExcludeFile(path);
      } catch (error) {
        if (error instanceof ExcludeFileError) return error.problem.case;
      }
      return undefined;
    };
    expect(problemOf(join(root, 'none'))).toBe('exclude file missing');
    expect(problemOf(join(root, 'd'))).toBe('exclude file unreadable');
  });
});
