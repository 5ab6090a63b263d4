/** `bulkhaul unpack`: what comes back, judged by rsync; tars of others; hostile and damaged ones; lists and verdicts. */
import { type ChildProcess, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { pack, unpack } from '../src/index.js';
import { has, tarTree } from './rig/tree.js';
import { jsonLines, run, scratch } from './rig.js';

/** What differs, as rsync sees it. */
const differences = (left: string, right: string) =>
  execFileSync('rsync', ['-aniHAX', '--checksum', '--delete', `${left}/`, `${right}/`], { encoding: 'utf8' });

/** Members of a tar that Python writes as told. */
function tarOf(path: string, members: string): void {
  const script = `
import io, tarfile
archive = tarfile.open(${JSON.stringify(path)}, 'w')
def add(name, kind=tarfile.REGTYPE, link='', content=b''):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.size, entry.mode = kind, link, len(content), 0o644
    archive.addfile(entry, io.BytesIO(content))
${members}
archive.close()`;
  execFileSync('python3', ['-c', script]);
}

describe.skipIf(!has('rsync'))('what was packed comes back', () => {
  it.each([[[]], [['--shard-size', '64k']], [['--compress', 'zstd']], [['--shard-size', '1m', '--compress', 'bgzf']]])(
    'with %j',
    async (more) => {
      const { cwd, at } = tarTree();
      expect((await run(['pack', ...more, 't/', 'out'], { cwd })).code).toBe(0);
      const { code, stderr } = await run(['unpack', 'out', 'back'], { cwd });
      expect({ code, stderr }).toMatchObject({ code: 0 });
      expect(differences(at('t'), at('back'))).toBe('');
      expect(statSync(at('back/holes')).blocks).toBeLessThan(1000);
      // Again: nothing is left to do.
      const again = await run(['unpack', 'out', 'back'], { cwd });
      expect(again).toMatchObject({ code: 0, stderr: expect.stringMatching(/skipped: .*unchanged/) });
      expect(differences(at('t'), at('back'))).toBe('');
    },
  );

  it('the last of several states, without what has gone', async () => {
    const { cwd, at } = tarTree();
    expect((await run(['pack', 't/', 'out'], { cwd })).code).toBe(0);
    appendFileSync(at('t/zz'), ' more');
    rmSync(at('t/ lead'));
    writeFileSync(at('t/new'), 'new');
    expect((await run(['pack', 't/', 'out'], { cwd })).code).toBe(0);
    expect((await run(['unpack', 'out', 'back'], { cwd })).code).toBe(0);
    expect(differences(at('t'), at('back'))).toBe('');
  });

  it('from the shards alone, where indexes are lost or cut short', async () => {
    const { cwd, at } = tarTree();
    expect((await run(['pack', '--shard-size', '64k', 't/', 'out'], { cwd })).code).toBe(0);
    const indexes = readdirSync(at('out')).filter((name) => /^shard.*jsonl$/.test(name));
    for (const [number, name] of indexes.entries()) {
      if (number % 2 === 0) rmSync(at('out', name));
      else truncateSync(at('out', name), statSync(at('out', name)).size - 30);
    }
    const { code, stderr } = await run(['unpack', 'out', 'back'], { cwd });
    expect({ code, stderr }).toMatchObject({ code: 0, stderr: expect.stringContaining('made anew') });
    expect(differences(at('t'), at('back'))).toBe('');
  });

  it.each([
    ['GNU tar', ['tar', '--format=posix', '--sparse', '--acls', '--xattrs', '-cf']],
    [
      'GNU tar, holes as of old',
      ['tar', '--format=posix', '--sparse', '--sparse-version=0.0', '--acls', '--xattrs', '-cf'],
    ],
    [
      'GNU tar, holes as later',
      ['tar', '--format=posix', '--sparse', '--sparse-version=0.1', '--acls', '--xattrs', '-cf'],
    ],
    ['GNU tar of old', ['tar', '--format=gnu', '--sparse', '--label=old', '-cf']],
    ['GNU tar with gzip', ['tar', '--format=posix', '--acls', '--xattrs', '-czf']],
    ['bsdtar', ['bsdtar', '--format=pax', '--acls', '--xattrs', '-cf']],
  ])('of %s', async (name, [tool = '', ...words]) => {
    const { cwd, at } = tarTree();
    execFileSync(tool, [...words, at('their.tar'), '-C', at('t'), '.']);
    const { code, stderr } = await run(['unpack', 'their.tar', 'back'], { cwd });
    expect({ code, stderr }).toMatchObject({ code: 0 });
    if (name === 'GNU tar of old') {
      // It has no attributes, and whole seconds.
      execFileSync('diff', ['-r', '--no-dereference', '--exclude=fifo', '--exclude=device', at('t'), at('back')]);
    } else {
      // bsdtar takes the decimals of a time before 1970 for those of one after it.
      const own = tool === 'bsdtar' ? /^\.d\.\.t\.* empty\/\n/ : /^$/;
      expect(differences(at('t'), at('back')).replace(own, '')).toBe('');
    }
  });
});

it('single entries, directories and patterns; a further name comes with its file', async () => {
  const { cwd, at } = tarTree();
  expect((await run(['pack', 't/', 'out'], { cwd })).code).toBe(0);
  const { code, stderr } = await run(['unpack', 'out', 'zz', 'd/e', '*lead', 'back'], { cwd });
  expect({ code, stderr }).toMatchObject({ code: 0 });
  expect(readdirSync(at('back')).sort()).toEqual([' lead', 'd', 'zz']);
  expect(readdirSync(at('back/d'))).toEqual(['e']);
  expect(readFileSync(at('back/zz'), 'utf8')).toBe('first of three');
  expect(statSync(at('back/zz')).ino).toBe(statSync(at('back/d/e/link')).ino);
  const missing = await run(['unpack', 'out', 'nothing/here', 'other'], { cwd });
  expect(missing).toMatchObject({ code: 23, stderr: expect.stringContaining('nothing/here') });
});

describe('hostile archives', () => {
  it('write nothing outside, and are counted', async () => {
    const { cwd, at } = tarTree();
    writeFileSync(at('victim'), 'mine');
    tarOf(
      at('evil.tar'),
      `
add('../victim', content=b'theirs')
add(${JSON.stringify(at('victim'))}, content=b'theirs')
add('a/../../victim', content=b'theirs')
add('out', tarfile.SYMTYPE, ${JSON.stringify(cwd)})
add('out/victim', content=b'theirs')
add('hard', tarfile.LNKTYPE, '../victim')
add('fine', content=b'fine')`,
    );
    const { code, stderr } = await run(['unpack', 'evil.tar', 'back'], { cwd });
    expect(code).toBe(23);
    expect(readFileSync(at('victim'), 'utf8')).toBe('mine');
    expect(readFileSync(at('back/fine'), 'utf8')).toBe('fine');
    expect(existsSync(at('back/hard'))).toBe(false);
    expect(stderr.match(/may lead anywhere/g)?.length).toBeGreaterThanOrEqual(4);
    // Of link and file one was there first; the other is in conflict, and the link is followed by neither.
    expect(readdirSync(at('back')).sort()).toEqual(['fine', 'out']);
    expect(lstatSync(at('victim')).size).toBe(4);
  });

  it('a link that is there already is not followed', async () => {
    const { cwd, at } = tarTree();
    mkdirSync(at('outside'));
    mkdirSync(at('back'));
    symlinkSync(at('outside'), at('back/d'));
    expect((await run(['pack', 't/', 'out'], { cwd })).code).toBe(0);
    expect((await run(['unpack', 'out', 'back'], { cwd })).code).toBe(23);
    expect(readdirSync(at('outside'))).toEqual([]);
    expect(existsSync(at('back/a b'))).toBe(true);
  });

  it('of several entries of one name the last one counts', async () => {
    const { cwd, at } = tarTree();
    tarOf(at('twice.tar'), `add('a', content=b'first')\nadd('a', content=b'second')`);
    expect((await run(['unpack', 'twice.tar', 'back'], { cwd })).code).toBe(0);
    expect(readFileSync(at('back/a'), 'utf8')).toBe('second');
  });
});

describe('damage', () => {
  it('in content costs its own entry, is found by --verify too, and no damaged file appears', async () => {
    const { cwd, at } = tarTree();
    expect((await run(['pack', 't/', 'out'], { cwd })).code).toBe(0);
    expect(await run(['unpack', '--verify', 'out'], { cwd })).toMatchObject({
      code: 0,
      stderr: expect.stringContaining('as they were packed'),
    });
    const shard = readFileSync(at('out/shard-00001.tar'));
    shard[shard.indexOf('in a b')] = 0x49;
    writeFileSync(at('out/shard-00001.tar'), shard);
    const verified = await run(['unpack', '--verify', 'out'], { cwd });
    expect(verified).toMatchObject({ code: 1, stderr: expect.stringMatching(/a b: .*digest/) });
    const { code, stderr } = await run(['unpack', 'out', 'back'], { cwd });
    expect({ code, stderr }).toMatchObject({ code: 1, stderr: expect.stringContaining('a b') });
    expect(existsSync(at('back/a b'))).toBe(false);
    expect(readFileSync(at('back/d/big')).equals(readFileSync(at('t/d/big')))).toBe(true);
    expect(readdirSync(at('back')).filter((name) => name.startsWith('.bh-'))).toEqual([]);
  });

  it('of a shard that is cut short or gone costs what was in it, by name', async () => {
    const { cwd, at } = tarTree();
    expect((await run(['pack', '--shard-size', '64k', 't/', 'out'], { cwd })).code).toBe(0);
    const shards = readdirSync(at('out')).filter((name) => name.endsWith('.tar'));
    expect(shards.length).toBeGreaterThan(1);
    rmSync(at('out', shards[0] ?? ''));
    const { code, stderr } = await run(['unpack', 'out', 'back'], { cwd });
    expect(code).not.toBe(0);
    expect(stderr).toContain(shards[0]);
    expect(existsSync(at('back/z'))).toBe(true);
  });

  // Each of the files in the middle piece of three is gone with it; of these nobody knows more than where they were.
  it.each([
    ['zstd', 'in a piece', 40],
    ['zstd', 'where a piece begins', 0],
    ['bgzf', 'where a piece begins', 0],
  ] as const)('of a %s shard without its index costs what is in that piece: %s', async (form, _, within) => {
    const cwd = scratch();
    const at = (...names: string[]) => join(cwd, ...names);
    mkdirSync(at('t'));
    const names = Array.from({ length: 9 }, (_, number) => `file-${number}`);
    // Three of them are a piece; what can't be compressed is stored as it is, with nothing in it that looks like a header.
    const content = (name: string) => createHash('shake256', { outputLength: 400_000 }).update(name).digest();
    for (const name of names) writeFileSync(at('t', name), content(name));
    expect((await run(['pack', '--compress', form, 't/', 'out'], { cwd })).code).toBe(0);
    const shard = readdirSync(at('out')).find((name) => name.startsWith('shard-00001.tar')) ?? '';
    const index = readFileSync(at('out/shard-00001.jsonl'), 'utf8').split('\n');
    const frames = new Map(
      index.map((line): [string, number] => {
        const { path, frame = '' } = JSON.parse(line || '{}');
        return [path, Number.parseInt(frame, 10)];
      }),
    );
    const begun = frames.get('file-3') ?? 0;
    expect(begun).toBeGreaterThan(0);
    const bytes = readFileSync(at('out', shard));
    bytes[begun + within] = (bytes[begun + within] ?? 0) ^ 0xff;
    writeFileSync(at('out', shard), bytes);
    rmSync(at('out/shard-00001.jsonl'));
    const { code, stderr } = await run(['unpack', 'out', 'back'], { cwd });
    expect({ code, stderr }).toMatchObject({ code: 1, stderr: expect.stringMatching(/shard-00001.*damaged/) });
    const lost = form === 'bgzf' ? names.slice(3, 4) : names.filter((name) => frames.get(name) === begun);
    expect(readdirSync(at('back')).sort()).toEqual(names.filter((name) => !lost.includes(name)));
    for (const name of readdirSync(at('back'))) expect(readFileSync(at('back', name)).equals(content(name))).toBe(true);
  });

  it('of a header does not end the archive where zeros follow in the content', async () => {
    const cwd = scratch();
    const at = (name: string) => join(cwd, name);
    tarOf(at('a.tar'), "add('zeros', content=bytes(4096))\nadd('next', content=b'next')");
    const bytes = readFileSync(at('a.tar'));
    bytes[0] = 0x41;
    writeFileSync(at('a.tar'), bytes);
    expect((await run(['unpack', 'a.tar', 'back'], { cwd })).code).toBe(1);
    expect(readdirSync(at('back'))).toEqual(['next']);
  });

  it('what is no archive is refused', async () => {
    const { cwd, at } = tarTree();
    writeFileSync(at('none.tar'), 'no tar at all'.repeat(100));
    mkdirSync(at('nothing'));
    for (const [what, code] of [
      ['none.tar', 1],
      ['nothing', 23],
      ['nowhere', 23],
    ] as const) {
      expect({ what, ...(await run(['unpack', what, 'back'], { cwd })) }).toMatchObject({ what, code });
    }
  });
});

it('another archive behind the end of one is an error, or taken too; other bytes there are told', async () => {
  const cwd = scratch();
  const at = (name: string) => join(cwd, name);
  tarOf(at('a.tar'), "add('a', content=b'a')");
  tarOf(at('b.tar'), "add('b', content=b'b')");
  const [one, other] = [readFileSync(at('a.tar')), readFileSync(at('b.tar'))];
  writeFileSync(at('both.tar'), Buffer.concat([one, other]));
  const { code, stderr } = await run(['unpack', 'both.tar', 'one'], { cwd });
  expect({ code, stderr }).toMatchObject({ code: 1, stderr: expect.stringContaining('--ignore-zeros') });
  expect(readdirSync(at('one'))).toEqual(['a']);
  expect((await run(['unpack', '--ignore-zeros', 'both.tar', 'two'], { cwd })).code).toBe(0);
  expect(readdirSync(at('two')).sort()).toEqual(['a', 'b']);
  writeFileSync(at('more.tar'), Buffer.concat([one, Buffer.alloc(512, 'x')]));
  const more = await run(['unpack', 'more.tar', 'three'], { cwd });
  expect(more).toMatchObject({ code: 0, stderr: expect.stringContaining('what follows the end') });
});

it('a list has each entry once, and nothing is written', async () => {
  const { cwd, at } = tarTree();
  expect((await run(['pack', '--shard-size', '64k', 't/', 'out'], { cwd })).code).toBe(0);
  const { code, stdout } = await run(['unpack', '--list', '--json', 'out'], { cwd });
  expect(code).toBe(0);
  const paths = jsonLines(stdout).flatMap(({ type, path }) => (type === 'entry' ? [path] : []));
  expect(new Set(paths).size).toBe(paths.length);
  expect(paths).toEqual(expect.arrayContaining(['a b', 'd', 'd/e/link', 'd/big']));
  const plain = await run(['unpack', '--list', 'out'], { cwd });
  expect(plain.stdout.split('\n')).toEqual(expect.arrayContaining(['.f......... a b', '.d......... d/']));
  expect((await run(['unpack', '-n', 'out', 'back'], { cwd })).code).toBe(0);
  expect(existsSync(at('back'))).toBe(false);
});

/** Waits until something is there. */
async function appears(path: string): Promise<void> {
  while (!existsSync(path)) await new Promise((resolve) => setTimeout(resolve, 5));
}

it('packing and unpacking go on where they were killed', async () => {
  const cwd = scratch();
  const at = (...names: string[]) => join(cwd, ...names);
  mkdirSync(at('t'));
  const names = Array.from({ length: 12 }, (_, number) => `file-${String(number).padStart(2, '0')}`);
  for (const name of names) writeFileSync(at('t', name), name.repeat(30_000));
  const killed = async (words: string[], first: string) => {
    let gone = Promise.resolve();
    const onStart = (child: ChildProcess) => {
      gone = appears(at(first)).then(() => void child.kill('SIGKILL'));
    };
    const { code } = await run([...words, '--bwlimit', '300K', '-j', '1'], { cwd, onStart });
    await gone;
    expect(code).toBeNull();
  };
  const packing = ['pack', '--shard-size', '600k', 't/', 'out'];
  await killed(packing, 'out/shard-00001.jsonl');
  const packed = await run(packing, { cwd });
  expect(packed).toMatchObject({ code: 0, stderr: expect.stringMatching(/skipped: .*unchanged/) });
  await killed(['unpack', 'out', 'back'], 'back/file-00');
  const unpacked = await run(['unpack', 'out', 'back'], { cwd });
  expect(unpacked).toMatchObject({ code: 0, stderr: expect.stringMatching(/skipped: .*unchanged/) });
  expect(readdirSync(at('back')).sort()).toEqual(names);
  for (const name of names) expect(readFileSync(at('back', name), 'utf8')).toBe(name.repeat(30_000));
});

it('the library restores what it packed', async () => {
  const { at } = tarTree();
  await pack({ sources: at('t'), destination: at('out') }).orThrow();
  await unpack({ source: at('out'), destination: at('back'), only: ['t/d'] }).orThrow();
  expect(readdirSync(at('back/t'))).toEqual(['d']);
  expect(await unpack({ source: at('out'), task: 'verify' })).toMatchObject({ complete: true });
});
