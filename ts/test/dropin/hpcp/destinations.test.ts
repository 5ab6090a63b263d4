/** Which sources there are and where they go, on real directories and without the engine. */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import {
  expandDestination,
  mapSources,
  mountType,
  usableDestinations,
} from '../../../src/cli/dropin/hpcp/destinations.js';
import { findSources, type Source } from '../../../src/cli/dropin/hpcp/sources.js';
import { scratch } from '../../rig.js';

/**
 * s: a directory; f: a file; ln: a link to s; lf: a link to f; dang: a link to nothing; `[x]`, x: two files;
 * out: an existing directory; outlink: a link to it; old: an existing file.
 */
function tree(): string {
  const root = scratch();
  for (const name of ['s', 'out', 'two']) mkdirSync(join(root, name));
  for (const name of ['f', 'old', '[x]', 'x', '.hidden']) writeFileSync(join(root, name), name);
  symlinkSync('s', join(root, 'ln'));
  symlinkSync('f', join(root, 'lf'));
  symlinkSync('nowhere', join(root, 'dang'));
  symlinkSync('out', join(root, 'outlink'));
  return root;
}

/** One row as text: what each source is called where, relative to the root. */
function mapped(root: string, args: readonly string[], destinations: readonly string[], rooted = false): string[] {
  const { found } = findSources(args.map((arg) => `${root}/${arg}`));
  const { sources, destinations: places } = mapSources(
    found,
    destinations.map((destination) => `${root}/${destination}`),
    { rooted },
  );
  const relative = (path: string | Buffer) => String(path).slice(root.length + 1);
  return places.flatMap((place) =>
    sources.map(({ path, contents, name, follow }) => {
      const target = contents ? 'contents' : `as ${name ?? 'itself'}`;
      return `${relative(path)}${follow ? ' followed' : ''} ${target} -> ${relative(place.path)}`;
    }),
  );
}

describe('destination rules', () => {
  it.each<[rule: string, args: string[], destination: string, rows: string[]]>([
    ['1', ['s'], 'new', ['s followed contents -> new']],
    ['1, existing', ['s'], 'out', ['s followed contents -> out']],
    ['1, existing link', ['s'], 'outlink', ['s followed contents -> outlink']],
    ['1, link', ['ln'], 'new', ['ln followed contents -> new']],
    ['2', ['s'], 'new/', ['s followed as itself -> new/']],
    ['2, existing', ['s'], 'out/', ['s followed as itself -> out/']],
    ['2, link', ['ln'], 'out/', ['ln followed as itself -> out/']],
    ['3', ['s/'], 'new', ['s followed contents -> new']],
    ['3, both slashed', ['s/'], 'out/', ['s followed contents -> out/']],
    ['3, link', ['ln/'], 'out/', ['ln followed contents -> out/']],
    ['3, nameless', ['s/.'], 'out/', ['s/. followed contents -> out/']],
    ['3, parent', ['s/..'], 'out/', ['s/.. followed contents -> out/']],
    ['4', ['s', 'f'], 'new', ['s as itself -> new', 'f as itself -> new']],
    ['4, slashed', ['s/', 'f'], 'out/', ['s followed contents -> out/', 'f as itself -> out/']],
    ['4, twice the same', ['f', 'f'], 'new', ['f as itself -> new']],
    ['5, new name', ['f'], 'new', ['f as new -> ']],
    ['5, new name below', ['f'], 'no/such/new', ['f as new -> no/such/']],
    ['5, existing file', ['f'], 'old', ['f as old -> ']],
    ['5, existing directory', ['f'], 'out', ['f as itself -> out']],
    ['5, existing link to one', ['f'], 'outlink', ['f as itself -> outlink']],
    ['5, slashed', ['f'], 'new/', ['f as itself -> new/']],
    ['6, link to a file', ['lf'], 'new', ['lf as new -> ']],
    ['6, into a directory', ['lf'], 'out', ['lf as itself -> out']],
    ['6, link to a directory among several', ['ln', 'f'], 'out', ['ln as itself -> out', 'f as itself -> out']],
    ['6, link to nothing', ['dang'], 'out/', ['dang as itself -> out/']],
  ])('%s: %j to %s', (_, args, destination, rows) => {
    expect(mapped(tree(), args, [destination])).toEqual(rows);
  });

  it.each<[string, string[], string[], string[]]>([
    ['the same rule for both', ['s'], ['out', 'new'], ['s followed contents -> out', 's followed contents -> new']],
    ['each by its own rule', ['s'], ['out/', 'new'], ['s followed contents -> out/s', 's followed contents -> new']],
    [
      'several sources',
      ['s', 'f'],
      ['out', 'new/'],
      ['s as itself -> out', 'f as itself -> out', 's as itself -> new/', 'f as itself -> new/'],
    ],
    ['a file of one name', ['f'], ['out', 'new/'], ['f as itself -> out', 'f as itself -> new/']],
  ])('several destinations: %s', (_, args, destinations, rows) => {
    expect(mapped(tree(), args, destinations)).toEqual(rows);
  });

  it('refuses destinations that give one file different names', () => {
    expect(() => mapped(tree(), ['f'], ['new', 'out'])).toThrow(/^argument -d.*give one file different names$/);
  });

  it('roots a list of names in the directory that would get them', () => {
    expect(mapped(tree(), ['s'], ['new/'], true)).toEqual(['s followed contents -> new/s']);
    expect(mapped(tree(), ['s'], ['new'], true)).toEqual(['s followed contents -> new']);
  });

  it('takes the working directory for a bare new name', () => {
    const source: Source = { path: 'package.json', kind: 'other' };
    expect(mapSources([source], ['no-such-name'])).toMatchObject({
      sources: [{ name: 'no-such-name' }],
      destinations: [{ path: '.' }],
    });
  });
});

describe('sources', () => {
  const names = (root: string, args: string[]) => {
    const { found, problems } = findSources(args.map((arg) => `${root}/${arg}`));
    return [
      found.map(({ path, kind }) => `${path.slice(root.length + 1)}: ${kind}`),
      problems.map((each) => each.case),
    ];
  };

  it.each<[string[], string[], string[]]>([
    [
      ['s', 'ln', 'ln/', 'lf', 'f'],
      ['s: directory', 'ln: link to directory', 'ln/: directory', 'lf: other', 'f: other'],
      [],
    ],
    [['[x]'], ['[x]: other'], []],
    [['[xy]'], ['x: other'], []],
    [['l*'], ['lf: other', 'ln: link to directory'], []],
    [['.h*'], ['.hidden: other'], []],
    [['none', 's'], ['s: directory'], ['source missing']],
    [['none*'], [], ['source missing']],
    [['f/'], [], ['source missing']],
    [['dang'], ['dang: other'], ['source missing']],
  ])('%j', (args, found, problems) => {
    expect(names(tree(), args)).toEqual([found, problems]);
  });

  it('expands ~ only where no such name exists', () => {
    const root = tree();
    vi.stubEnv('HOME', root);
    try {
      expect(findSources(['~/f', '~/l?']).found.map(({ path }) => path)).toEqual([
        `${root}/f`,
        `${root}/lf`,
        `${root}/ln`,
      ]);
      const before = process.cwd();
      process.chdir(root);
      try {
        mkdirSync('~');
        writeFileSync('~/f', '');
        expect(findSources(['~/f']).found.map(({ path }) => path)).toEqual(['~/f']);
      } finally {
        process.chdir(before);
      }
    } finally {
      vi.unstubAllEnvs();
    }
  });
});

describe('destinations', () => {
  it.each<[string, string[]]>([
    ['out', ['out']],
    ['new', ['new']],
    ['new/', ['new/']],
    ['[x]', ['[x]']],
    ['new[1]', ['new[1]']],
    ['[ot]*', ['out', 'outlink', 'two']],
    ['t?o', ['two']],
    ['ol*', []],
    ['none*', []],
  ])('%s', (destination, paths) => {
    const root = tree();
    const found = expandDestination(`${root}/${destination}`).map((path) => path.slice(root.length + 1));
    expect(found).toEqual(paths);
  });

  it('refuses an empty one', () => {
    expect(() => expandDestination('')).toThrow(/the value is empty/);
  });

  const usable = (args: string[], destinations: string[], exists: boolean, fileSystem?: string) => {
    const root = tree();
    const { found } = findSources(args.map((arg) => `${root}/${arg}`));
    const result = usableDestinations(
      found,
      destinations.map((destination) => `${root}/${destination}`),
      { exists, fileSystem },
    );
    return [result.usable.map((path) => path.slice(root.length + 1)), result.problems.map((each) => each.case)];
  };

  it.each<[string[], string[], string[], string[]]>([
    [['s'], ['out', 'new'], ['out'], ['destination missing']],
    [['s'], ['new/'], [], ['destination missing']],
    [['s'], ['old'], [], ['destination missing']],
    [['f'], ['new'], ['new'], []],
    [['f'], ['old'], ['old'], []],
    [['f'], ['no/new'], [], ['destination missing']],
    [['f', 's'], ['new'], [], ['destination missing']],
  ])('-ncd: %j to %j', (args, destinations, left, problems) => {
    expect(usable(args, destinations, true)).toEqual([left, problems]);
  });

  it('-tfs: drops what is on another type, also when it is still to be made', () => {
    expect(usable(['s'], ['out', 'new/deep', 'f/x'], false, 'nosuchfs')).toEqual([
      [],
      ['destination file system', 'destination file system', 'destination file system'],
    ]);
    // /proc is on a file system of its own type, in any case.
    expect(
      usableDestinations([{ path: 's', kind: 'directory' }], ['/proc/new'], { exists: false, fileSystem: 'PROC' })
        .usable,
    ).toEqual(['/proc/new']);
  });

  it.each<[string, string | undefined]>([
    ['/', 'ext4'],
    ['/home', 'ext4'],
    ['/mnt', 'ext4'],
    ['/mnt/a b', 'xfs'],
    ['/mnt/a b/c', 'xfs'],
    ['/mnt/a bc', 'ext4'],
    ['/over', 'tmpfs'],
    ['/over/x', 'tmpfs'],
  ])('the type of the mount of %s is %s', (path, type) => {
    const mountinfo = [
      '22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw',
      '23 22 8:2 / /mnt/a\\040b rw - xfs /dev/sdb rw',
      '24 22 8:3 / /over rw master:1 - nfs4 server:/ rw',
      '25 24 0:9 / /over rw - tmpfs none rw',
      '',
    ].join('\n');
    expect(mountType(mountinfo, path)).toBe(type);
  });
});
