/** Patterns; every expectation was checked with Python's fnmatch and glob (hidden names included). */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { fnmatch, glob } from '../../src/cli/dropin/glob.js';
import { fromBytes, toBytes } from '../../src/names.js';
import { scratch } from '../rig.js';

describe('fnmatch', () => {
  it.each<[string, string, boolean]>([
    ['', '', true],
    ['', '*', true],
    ['a/b', '*', true],
    ['a/b', 'a?b', true],
    ['a\nb', 'a*b', true],
    ['ab\n', 'ab', false],
    ['A', 'a', false],
    ['b', '[a-c]', true],
    ['-', '[a-c-e]', true],
    ['d', '[a-c-e]', false],
    ['b', '[c-a]', false],
    ['b', '[!c-a]', true],
    ['b', '[!a]', true],
    ['^', '[^a]', true],
    ['b', '[^a]', false],
    [']', '[]]', true],
    ['a', '[!]]', true],
    ['[', '[[]', true],
    ['\\', '[\\]', true],
    ['x[', 'x[', true],
    ['a.b', 'a.b', true],
    ['axb', 'a.b', false],
    ['😀', '?', true],
    [fromBytes(Buffer.from([0x61, 0xff])), 'a?', true],
    [fromBytes(Buffer.from([0xff])), fromBytes(Buffer.from([0xff])), true],
    [fromBytes(Buffer.from([0xff])), fromBytes(Buffer.from([0xfe])), false],
  ])('%j by %j: %j', (name, pattern, matches) => {
    expect(fnmatch(name, pattern)).toBe(matches);
  });
});

describe('glob', () => {
  function tree(): string {
    const root = scratch();
    mkdirSync(join(root, 'd/.h'), { recursive: true });
    mkdirSync(join(root, 'd/d2'));
    for (const name of ['b', 'a[1]', 'a1', '.hid', 'd/x', 'd/.y', 'd/d2/f.txt']) writeFileSync(join(root, name), '');
    symlinkSync('d', join(root, 'ln'));
    symlinkSync('nowhere', join(root, 'dang'));
    return root;
  }

  it.each<[string, string[]]>([
    ['*', ['.hid', 'a1', 'a[1]', 'b', 'd', 'dang', 'ln']],
    ['a*', ['a1', 'a[1]']],
    ['a[1]', ['a1']],
    ['a[[]1]', ['a[1]']],
    ['?', ['b', 'd']],
    ['[!a]*', ['.hid', 'b', 'd', 'dang', 'ln']],
    ['*/', ['d/', 'ln/']],
    ['*/x', ['d/x', 'ln/x']],
    ['d/*', ['d/.h', 'd/.y', 'd/d2', 'd/x']],
    ['d/**', ['d/', 'd/.h', 'd/.y', 'd/d2', 'd/d2/f.txt', 'd/x']],
    ['d/**/', ['d/', 'd/.h/', 'd/d2/']],
    ['**/*.txt', ['d/d2/f.txt', 'ln/d2/f.txt']],
    ['**/x', ['d/x', 'ln/x']],
    ['./b', ['./b']],
    ['./b*', ['./b']],
    ['d', ['d']],
    ['d/', ['d/']],
    ['b/', []],
    ['dang', ['dang']],
    ['nope*', []],
    ['nope', []],
    ['nope/*', []],
  ])('%j', (pattern, paths) => {
    const root = tree();
    const absolute = pattern.startsWith('./') ? `${root}/${pattern}` : join(root, pattern);
    const found = glob(absolute).map((path) => path.slice(root.length + 1));
    // Sorted per directory, not as whole paths.
    expect(found.sort()).toEqual([...paths].sort());
  });

  it('keeps names that are not UTF-8', () => {
    const root = scratch();
    const name = Buffer.from([0x66, 0xff, 0x0a]);
    writeFileSync(Buffer.concat([Buffer.from(`${root}/`), name]), '');
    expect(glob(`${root}/f*`).map(toBytes)).toEqual([Buffer.concat([Buffer.from(`${root}/`), name])]);
  });

  it('ends in a directory that links to itself', () => {
    const root = scratch();
    mkdirSync(join(root, 'd'));
    writeFileSync(join(root, 'd/f'), '');
    symlinkSync('..', join(root, 'd/up'));
    const found = glob(`${root}/**`).map((path) => path.slice(root.length + 1));
    expect(found).toEqual(['', 'd', 'd/f', 'd/up']);
  });
});
