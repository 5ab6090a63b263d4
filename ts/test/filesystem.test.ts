/** A disk and a store, file by file; pairs of files; many calls at once, and calls that are made again. */
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { BulkhaulError } from '../src/error.js';
import { type FileSystem, filesystem } from '../src/filesystem.js';
import { syncDir, syncFiles } from '../src/ops/sync.js';
import { copyPairs } from '../src/pairs.js';
import { runParallel, withRetry } from '../src/parallel.js';
import { validateTransfer } from '../src/validate.js';
import { MEMORY } from './rig/disks.js';
import { type S3, s3 } from './rig/s3.js';
import { scratch } from './rig.js';

const MIB = 1024 * 1024;
const REQUESTS = { backoff: 0, chunkSize: 5 * MIB };

/** A disk and a store, each empty. */
async function places(): Promise<[string, FileSystem, S3 | undefined][]> {
  const server = await s3({ page: 2 });
  const options = { environment: server.env, requests: REQUESTS };
  return [
    ['a store', filesystem('s3://b/root', options), server],
    ['a disk', filesystem(join(scratch(), 'root')), undefined],
    ['all buckets', filesystem('s3', options), server],
  ];
}

/** A name below the root, also where the root is above all buckets. */
const at = (files: FileSystem, name: string) => (files.root === 's3://' ? `b/${name}` : name);

const names = (infos: { name: string }[]) => infos.map(({ name }) => name.replace(/^b\//, ''));

describe('a place', () => {
  it('is written, read, listed, copied and emptied, whatever it is', async () => {
    for (const [what, files, server] of await places()) {
      server?.objects.clear();
      const name = (name: string) => at(files, name);
      await files.makedirs(name(''));
      for (const [file, content] of [
        ['a', '0123456789'],
        ['d/b ü+%&', 'x'],
        ['d/e/c', ''],
      ] as const) {
        await pipeline(Readable.from([Buffer.from(content)]), files.open(name(file), 'w'));
      }
      expect([what, names(await files.ls(name('')))]).toEqual([what, ['a', 'd']]);
      expect(names(await files.ls(name('d')))).toEqual(['d/b ü+%&', 'd/e']);
      expect(names(await files.find(name('')))).toEqual(['a', 'd/b ü+%&', 'd/e/c']);
      expect(names(await files.ls(name('a')))).toEqual(['a']);
      expect(await files.info(name('a'))).toMatchObject({ name: name('a'), type: 'file', size: 10 });
      expect(await files.info(name('d'))).toMatchObject({ name: name('d'), type: 'directory', size: 0 });
      expect([await files.exists(name('d')), await files.exists(name('x'))]).toEqual([true, false]);
      await expect(files.info(name('x'))).rejects.toMatchObject({ code: 'NO_SOURCE' });
      await expect(files.ls(name('x'))).rejects.toMatchObject({ code: 'NO_SOURCE' });
      expect(String(await files.cat(name('a')))).toBe('0123456789');
      expect(String(await files.cat(name('a'), { start: 2, end: 5 }))).toBe('234');
      expect(String(await files.cat(name('a'), { start: 8 }))).toBe('89');
      expect(String(await files.cat(name('a'), { start: 3, end: 3 }))).toBe('');
      expect((await files.cat(name('d/e/c'))).length).toBe(0);
      await files.cp(name('a'), name('f/copy'));
      await files.mv(name('f/copy'), name('f/moved'));
      await files.cp(name('d'), name('g'), { recursive: true });
      await files.mv(name('g'), name('h'), { recursive: true });
      expect(names(await files.find(name('')))).toEqual(['a', 'd/b ü+%&', 'd/e/c', 'f/moved', 'h/b ü+%&', 'h/e/c']);
      await files.rm(name('a'));
      await expect(files.rm(name('d'))).rejects.toMatchObject({ code: 'USAGE' });
      expect((await files.rm(name('d'), { recursive: true })).complete).toBe(true);
      await expect(files.rm(name('h'), { recursive: true, maxDelete: 1 })).rejects.toMatchObject({
        code: expect.stringMatching(/^(SAFETY|INCOMPLETE)$/),
      });
      expect(names(await files.find(name('')))).toEqual(['f/moved', 'h/b ü+%&', 'h/e/c']);
      await expect(files.rm(name('x'))).rejects.toMatchObject({ code: 'NO_SOURCE' });
    }
  }, 60_000);

  it('takes and gives files of this machine, alone and with all that is beside them', async () => {
    for (const [, files, server] of await places()) {
      server?.objects.clear();
      const tree = join(scratch(), 'tree');
      mkdirSync(join(tree, 'd'), { recursive: true });
      writeFileSync(join(tree, 'a'), '1');
      writeFileSync(join(tree, 'd/b'), '2');
      await files.makedirs(at(files, ''));
      await files.put(join(tree, 'a'), at(files, 'one/x'));
      await files.put(tree, at(files, 'all'), { recursive: true });
      // A second time it does not come to be in itself.
      await files.put(tree, at(files, 'all'), { recursive: true });
      expect(names(await files.find(at(files, '')))).toEqual(['all/a', 'all/d/b', 'one/x']);
      const back = scratch();
      await files.get(at(files, 'one/x'), join(back, 'y'));
      await files.get(at(files, 'all'), join(back, 'all'), { recursive: true });
      expect(readFileSync(join(back, 'y'), 'utf8') + readFileSync(join(back, 'all/d/b'), 'utf8')).toBe('12');
      const missing = join(tree, 'missing');
      await expect(files.put(missing, at(files, 'm'))).rejects.toMatchObject({
        code: 'INCOMPLETE',
        message: expect.stringMatching(/^INCOMPLETE: 1 of 1 entry failed.*: stat .*missing: No such file/),
        cause: { kind: 'missing', path: missing },
      });
    }
  }, 60_000);

  it('says of all that it writes in a store what is to be said, and of nothing on a disk', async () => {
    const server = await s3();
    const [tree, back, headers] = [scratch(), scratch(), { 'Cache-Control': 'no-store' }];
    for (const name of ['a.html', 'b']) writeFileSync(join(tree, name), name);
    const settings = { environment: server.env, headers, requests: REQUESTS };
    const files = filesystem('s3://b', settings);
    await files.put(tree, 'all', { recursive: true });
    await files.put(join(tree, 'b'), 'one');
    await files.cp('one', 'copy');
    await pipeline(Readable.from(['x']), files.open('written', 'w'));
    const pairs = [
      { from: join(tree, 'b'), to: 's3://b/pair' },
      { from: 's3://b/all/a.html', to: join(back, 'pair') },
    ];
    expect((await copyPairs(pairs, settings)).map(({ outcome }) => outcome)).toEqual(['added', 'added']);
    const said = [...server.objects].map(([key, { headers }]) => [key, headers['cache-control']]);
    expect(said.sort()).toEqual(
      ['all/a.html', 'all/b', 'copy', 'one', 'pair', 'written'].map((key) => [key, 'no-store']),
    );
    expect(server.objects.get('all/a.html')?.headers['content-type']).toBe('text/html');
    await files.get('all', join(back, 'all'), { recursive: true });
    await files.get('one', join(back, 'one'));
    const texts = ['all/a.html', 'one', 'pair'].map((name) => readFileSync(join(back, name), 'utf8'));
    expect(texts).toEqual(['a.html', 'b', 'a.html']);
    await expect(filesystem(back, { headers }).ls()).resolves.toHaveLength(3);
    const wrong = filesystem('s3://b', { ...settings, headers: { Host: 'x' } });
    await expect(wrong.put(join(tree, 'b'), 'y')).rejects.toMatchObject({ code: 'USAGE' });
  });

  it('has large contents in parts, and none that broke off', async () => {
    const server = await s3();
    const files = filesystem('s3://b', { environment: server.env, requests: REQUESTS });
    const content = Buffer.alloc(11 * MIB + 3, 'abcdefg');
    await pipeline(Readable.from([content]), files.open('big', 'w', { modified: new Date(1_600_000_000_500) }));
    expect(server.objects.get('big')?.body.equals(content)).toBe(true);
    expect(server.objects.get('big')?.headers['x-amz-meta-mtime']).toBe('1600000000.500000000');
    expect((await files.cat('big')).equals(content)).toBe(true);
    expect(
      (await files.cat('big', { start: 5 * MIB - 1, end: 5 * MIB + 2 })).equals(
        content.subarray(5 * MIB - 1, 5 * MIB + 2),
      ),
    ).toBe(true);
    const breaks = Readable.from(
      (async function* () {
        yield Buffer.alloc(7 * MIB);
        throw new Error('the source broke off');
      })(),
    );
    await expect(pipeline(breaks, files.open('half', 'w'))).rejects.toThrow('broke off');
    expect(server.keys).toEqual(['big']);
    const there = join(scratch(), 'disk');
    const disk = filesystem(there);
    await expect(
      pipeline(
        Readable.from(
          (async function* () {
            yield Buffer.from('x');
            throw new Error('no');
          })(),
        ),
        disk.open('half', 'w'),
      ),
    ).rejects.toThrow('no');
    await pipeline(Readable.from([content]), disk.open('whole', 'w'));
    expect(readdirSync(there).filter((name) => !name.startsWith('.bh-'))).toEqual(['whole']);
    // What is flipped on its way is no content.
    server.plan = ({ method, key }) => (method === 'GET' && key === 'big' ? 'down' : undefined);
    await expect(files.cat('big')).rejects.toBeInstanceOf(BulkhaulError);
    await expect(files.cat('none')).rejects.toMatchObject({ code: 'NO_SOURCE' });
  }, 60_000);

  it('tells a file from a directory of the same name, and leaves a prefix of a name alone', async () => {
    const server = await s3();
    const files = filesystem('s3://b', { environment: server.env });
    for (const key of ['x', 'x/y', 'x2/z', 'm/']) server.put(key, key === 'm/' ? '' : key);
    expect(await files.ls()).toMatchObject([
      { name: 'm', type: 'directory' },
      { name: 'x', type: 'file' },
      { name: 'x', type: 'directory' },
      { name: 'x2', type: 'directory' },
    ]);
    await files.rm('x/', { recursive: true });
    expect(server.keys).toEqual(['m/', 'x', 'x2/z']);
    await files.rm('x');
    expect(server.keys).toEqual(['m/', 'x2/z']);
  });

  it('is told what is wrong before anything is asked', async () => {
    expect(() => filesystem('ftp://b')).toThrow('s3://BUCKET/PREFIX');
    expect(() => filesystem(5 as never)).toThrow('urlOrProtocol');
    expect(() => filesystem('s3://b', { stroe: {} } as never)).toThrow('did you mean options.store');
    const files = filesystem('s3://b', { environment: {} });
    await expect(files.ls()).rejects.toThrow('no credentials');
    expect(() => files.open('a', 'x' as never)).toThrow("mode: 'x'");
    expect(() => filesystem('s3').open('/', 'w')).toThrow('no bucket');
    const disk = filesystem('file');
    const root = scratch();
    symlinkSync('nowhere', join(root, 'link'));
    writeFileSync(join(root, 'file'), '1');
    expect((await disk.ls(root)).map(({ name }) => name)).toEqual([join(root, 'file')]);
  });
});

describe('what is moved', () => {
  it('is never put onto itself or into itself, by whatever name', async () => {
    for (const [what, files, server] of await places()) {
      server?.objects.clear();
      const name = (name: string) => at(files, name);
      await files.makedirs(name('m/sub'));
      for (const file of ['m/a', 'm/b', 'm/sub/c']) {
        await pipeline(Readable.from([Buffer.from(file)]), files.open(name(file), 'w'));
      }
      const whole = files.url(name('m/a'));
      const refused: [string, string, boolean][] = [
        [name('m/a'), name('m/a'), false],
        [name('m/a'), name('m/a'), true],
        [name('m/a'), name('m/'), false],
        [name('m'), name('m'), true],
        [name('m'), name('m/'), true],
        [name('m'), name('m/sub'), true],
        [name('m'), name('m/new/er'), true],
        [name('m/sub'), name('m'), true],
        [name('m/a'), whole, false],
        [name('m/a'), whole.replace('s3:', 'S3:'), false],
      ];
      for (const [from, to, recursive] of refused) {
        const moving = files.mv(from, to, { recursive });
        await expect(moving, `${what}: ${from} to ${to}`).rejects.toMatchObject({ code: 'USAGE' });
      }
      await expect(files.cp(name('m/a'), name('m/a'))).rejects.toMatchObject({ code: 'USAGE' });
      expect(names(await files.find(name('m')))).toEqual(['m/a', 'm/b', 'm/sub/c']);
      // A name that only begins so is another.
      await files.mv(name('m'), name('m2'), { recursive: true });
      expect(names(await files.find(name('')))).toEqual(['m2/a', 'm2/b', 'm2/sub/c']);
    }
  }, 60_000);

  it('is told from itself on a disk by what paths lead to', async () => {
    const root = scratch();
    const files = filesystem(root);
    mkdirSync(join(root, 'm'));
    symlinkSync('m', join(root, 'n'));
    writeFileSync(join(root, 'm/a'), '1');
    linkSync(join(root, 'm/a'), join(root, 'b'));
    symlinkSync('m/a', join(root, 'l'));
    for (const [from, to] of [
      ['m/a', 'n/a'],
      ['m/a', 'm/../n/./a'],
      ['m/a', 'b'],
      ['l', 'm/a'],
      ['m', 'n/sub'],
    ] as const) {
      await expect(files.mv(from, to), `${from} to ${to}`).rejects.toMatchObject({ code: 'USAGE' });
    }
    expect(readdirSync(root).sort()).toEqual(['b', 'l', 'm', 'n']);
    expect(readFileSync(join(root, 'l'), 'utf8')).toBe('1');
    // The link itself goes to where it leads.
    await files.mv('n', 'm/n');
    expect(lstatSync(join(root, 'm/n')).isSymbolicLink()).toBe(true);
    await expect(files.mv('m/a', 'no/such/a')).rejects.toMatchObject({
      code: 'NO_DESTINATION',
      message: expect.stringContaining(join(root, 'no/such')),
    });
    await expect(files.mv('none', 'other')).rejects.toMatchObject({
      code: 'NO_SOURCE',
      message: expect.stringContaining(join(root, 'none')),
    });
  });

  it('takes the place of what looks like it, and so does a copy', async () => {
    const server = await s3();
    const options = { environment: server.env, requests: REQUESTS };
    const [files, here] = [filesystem('s3://b', options), scratch()];
    const disk = filesystem(here, options);
    // Of the same size and last change, and foreign ones that were written later.
    const both: Record<string, string>[] = [{ 'x-amz-meta-mtime': '1000000000' }, {}];
    for (const kept of both) {
      const fill = () => {
        server.objects.clear();
        for (const [key, body] of Object.entries({ 'd/a': 'some', 'e/a': 'them' })) server.put(key, body, kept);
        mkdirSync(join(here, 'd'), { recursive: true });
        writeFileSync(join(here, 'd/a'), 'mine');
        utimesSync(join(here, 'd/a'), 1e9, 1e9);
      };
      const contents = { 'd/a': 'some', 'e/a': 'them' };
      fill();
      await files.cp('d/a', 'e/a');
      expect(server.contents).toEqual({ ...contents, 'e/a': 'some' });
      fill();
      await files.cp('d', 'e', { recursive: true });
      expect(server.contents).toEqual({ ...contents, 'e/a': 'some' });
      fill();
      await files.mv('d/a', 'e/a');
      expect(server.contents).toEqual({ 'e/a': 'some' });
      fill();
      await files.mv('d', 'e', { recursive: true });
      expect(server.contents).toEqual({ 'e/a': 'some' });
      fill();
      await disk.mv('d/a', 's3://b/e/a');
      expect([server.contents, existsSync(join(here, 'd/a'))]).toEqual([{ ...contents, 'e/a': 'mine' }, false]);
      fill();
      await disk.mv('d', 's3://b/e', { recursive: true });
      expect([server.contents, existsSync(join(here, 'd/a'))]).toEqual([{ ...contents, 'e/a': 'mine' }, false]);
      fill();
      await disk.mv('s3://b/d', 'd', { recursive: true });
      expect([server.contents, readFileSync(join(here, 'd/a'), 'utf8')]).toEqual([{ 'e/a': 'them' }, 'some']);
      fill();
      await disk.mv('s3://b/d/a', 'd/');
      expect([server.contents, readFileSync(join(here, 'd/a'), 'utf8')]).toEqual([{ 'e/a': 'them' }, 'some']);
      // Two paths: what is the same stays, what is not is not.
      mkdirSync(join(here, 'f'), { recursive: true });
      writeFileSync(join(here, 'f/a'), 'else');
      utimesSync(join(here, 'f/a'), 1e9, 1e9);
      await disk.cp('d', 'f', { recursive: true });
      expect(readFileSync(join(here, 'f/a'), 'utf8')).toBe('some');
      writeFileSync(join(here, 'f/a'), 'else');
      utimesSync(join(here, 'f/a'), lstatSync(join(here, 'd/a')).mtime, lstatSync(join(here, 'd/a')).mtime);
      await disk.cp('d/a', 'f/a');
      expect(readFileSync(join(here, 'f/a'), 'utf8')).toBe('some');
    }
  }, 60_000);

  it('stays where it was not copied, and that is said', async () => {
    const server = await s3();
    const options = { environment: server.env, requests: REQUESTS };
    const here = scratch();
    const disk = filesystem(here, options);
    mkdirSync(join(here, 'd/e'), { recursive: true });
    for (const name of ['d/a', 'd/e/b']) writeFileSync(join(here, name), name);
    symlinkSync('a', join(here, 'd/link'));
    symlinkSync('nowhere', join(here, 'd/e/broken'));
    const moving = disk.mv('d', 's3://b/d', { recursive: true });
    await expect(moving).rejects.toMatchObject({
      code: 'INCOMPLETE',
      message: expect.stringMatching(/d\/e\/broken.*d\/link|d\/link.*d\/e\/broken/),
    });
    expect(server.contents).toEqual({ 'd/a': 'd/a', 'd/e/b': 'd/e/b' });
    expect([readdirSync(join(here, 'd')).sort(), readdirSync(join(here, 'd/e'))]).toEqual([['e', 'link'], ['broken']]);
    for (const name of ['d/link', 'd/e']) {
      await expect(disk.mv(name, 's3://b/x')).rejects.toMatchObject({
        code: 'INCOMPLETE',
        message: expect.stringContaining(join(here, name)),
      });
    }
    expect([server.keys, lstatSync(join(here, 'd/link')).isSymbolicLink()]).toEqual([['d/a', 'd/e/b'], true]);
    // What fails for one of them keeps all.
    server.plan = ({ method, key }) =>
      method !== 'HEAD' && key === 'd/e/b' ? { status: 403, code: 'AccessDenied' } : undefined;
    const back = join(here, 'back');
    await expect(disk.mv('s3://b/d', back, { recursive: true })).rejects.toMatchObject({ code: 'INCOMPLETE' });
    expect(server.keys).toEqual(['d/a', 'd/e/b']);
    await expect(disk.mv('s3://b/none', back, { recursive: true })).rejects.toMatchObject({ code: 'NO_SOURCE' });
  });

  it('goes to another file system with all that it is', async ({ skip }) => {
    const here = scratch();
    const there = mkdtempSync(join(MEMORY, 'bulkhaul-test-mv-'));
    onTestFinished(() => rmSync(there, { recursive: true, force: true }));
    if (lstatSync(here).dev === lstatSync(there).dev) skip('there is one file system only');
    const disk = filesystem('file');
    mkdirSync(join(here, 'd/empty'), { recursive: true });
    writeFileSync(join(here, 'd/a'), '1');
    writeFileSync(join(here, 'b'), 'other');
    writeFileSync(join(there, 'b'), 'there');
    symlinkSync('a', join(here, 'd/link'));
    await disk.mv(join(here, 'd'), join(there, 'd'), { recursive: true });
    await disk.mv(join(here, 'b'), join(there, 'b'));
    expect(readdirSync(here)).toEqual([]);
    expect(readdirSync(join(there, 'd')).sort()).toEqual(['a', 'empty', 'link']);
    expect(readFileSync(join(there, 'b'), 'utf8')).toBe('other');
  });
});

describe('a name', () => {
  it('that ends with a slash is found, moved and removed as it is shown', async () => {
    const server = await s3();
    const options = { environment: server.env, requests: REQUESTS };
    for (const [files, root] of [
      [filesystem('s3://b', options), ''],
      [filesystem('s3', options), 'b/'],
    ] as const) {
      const fill = () => {
        server.objects.clear();
        for (const [key, body] of Object.entries({
          'w/': 'body',
          'z/': '',
          'd/': '',
          'd/a': '1',
          'd/e/': '',
          'd/f/': 'f',
        }))
          server.put(key, body);
      };
      fill();
      const shown = await files.ls(root);
      expect(shown.map(({ name, type }) => [name, type])).toEqual(
        ['d', 'w', 'z'].map((name) => [root + name, 'directory']),
      );
      for (const { name, type } of shown) expect(await files.info(name)).toEqual({ name, type, size: 0 });
      const found = await files.find(root);
      expect(found.map(({ name, size }) => [name, size])).toEqual([
        [`${root}d/a`, 1],
        [`${root}d/f/`, 1],
        [`${root}w/`, 4],
      ]);
      for (const { name, size } of found) {
        expect(await files.info(name)).toMatchObject({ name, size, type: 'file' });
        expect((await files.cat(name)).length).toBe(size);
      }
      expect(await files.info(`${root}z/`)).toMatchObject({ name: `${root}z`, type: 'directory' });
      for (const name of ['z', 'z/', 'w', 'w/', 'd/'])
        expect([name, await files.exists(root + name)]).toEqual([name, true]);
      for (const name of ['x', 'x/']) expect([name, await files.exists(root + name)]).toEqual([name, false]);
      await expect(files.rm(`${root}z`)).rejects.toMatchObject({ code: 'USAGE' });
      await expect(files.rm(`${root}z`, { recursive: true, maxDelete: 0 })).rejects.toMatchObject({
        code: 'INCOMPLETE',
      });
      await files.rm(`${root}z`, { recursive: true });
      await files.rm(`${root}w/`);
      expect(server.keys).toEqual(['d/', 'd/a', 'd/e/', 'd/f/']);
      await files.rm(`${root}d`, { recursive: true });
      expect(server.keys).toEqual([]);
      fill();
      await files.rm(`${root}w`, { recursive: true });
      await files.rm(`${root}d/`, { recursive: true });
      expect(server.keys).toEqual(['z/']);
      fill();
      await files.mv(`${root}w/`, `${root}v/`);
      await files.mv(`${root}z`, `${root}y`, { recursive: true });
      await files.mv(`${root}d`, `${root}g`, { recursive: true });
      expect(server.contents).toEqual({ 'g/': '', 'g/a': '1', 'g/e/': '', 'g/f/': 'f', 'v/': 'body', 'y/': '' });
      await files.mv(`${root}v/`, `${root}v`);
      const back = join(scratch(), 'g');
      await expect(files.get(`${root}v`, back)).resolves.toMatchObject({ complete: true });
      expect(server.keys).toEqual(['g/', 'g/a', 'g/e/', 'g/f/', 'v', 'y/']);
    }
  });

  it('of a symlink is that of what it leads to, but for directories, which are not entered', async () => {
    const root = scratch();
    mkdirSync(join(root, 'loop/x'), { recursive: true });
    for (const name of ['loop/a', 'loop/x/b']) writeFileSync(join(root, name), name);
    symlinkSync('..', join(root, 'loop/x/up'));
    symlinkSync('itself', join(root, 'loop/itself'));
    symlinkSync('../loop/a', join(root, 'loop/link'));
    symlinkSync('loop', join(root, 'to'));
    const files = filesystem(root);
    expect(names(await files.find('loop'))).toEqual(['loop/a', 'loop/link', 'loop/x/b']);
    expect(names(await files.find())).toEqual(['loop/a', 'loop/link', 'loop/x/b']);
    // Whoever names one means what it leads to.
    expect(names(await files.find('to'))).toEqual(['to/a', 'to/link', 'to/x/b']);
    expect(names(await files.ls('loop'))).toEqual(['loop/a', 'loop/link', 'loop/x']);
  });

  it('of what is no file is refused where one is to be copied', async () => {
    const server = await s3();
    const options = { environment: server.env, requests: REQUESTS };
    const here = scratch();
    mkdirSync(join(here, 'd'));
    writeFileSync(join(here, 'a'), '1');
    symlinkSync('a', join(here, 'l'));
    const [store, disk] = [filesystem('s3://b', options), filesystem(here, options)];
    for (const [name, why] of [
      ['d', 'directory'],
      ['l', 'no regular file'],
      ['d/', 'no name of a file'],
    ] as const) {
      const path = name === 'd/' ? `${join(here, 'd')}/` : join(here, name);
      const refusal = { code: 'USAGE', message: expect.stringMatching(new RegExp(`${path}.*${why}`)) };
      await expect(store.put(path, 'x')).rejects.toMatchObject(refusal);
      await expect(disk.cp(name, 's3://b/x')).rejects.toMatchObject(refusal);
      await expect(disk.cp(name, 'x')).rejects.toMatchObject(refusal);
      await expect(disk.get(name, join(here, 'x'))).rejects.toMatchObject(refusal);
    }
    expect([server.keys, existsSync(join(here, 'x'))]).toEqual([[], false]);
  });
});

describe('pairs', () => {
  it('are copied each to its place, and one that fails ends nothing', async () => {
    const server = await s3();
    const [here, there] = [scratch(), scratch()];
    for (const name of ['a', 'b', 'c']) writeFileSync(join(here, name), name);
    const pairs = [
      { from: join(here, 'a'), to: 's3://b/x/1' },
      { from: join(here, 'missing'), to: 's3://b/x/2' },
      { from: join(here, 'b'), to: 's3://b/y/3' },
      { from: join(here, 'c'), to: join(there, 'c2') },
    ];
    const options = { environment: server.env, requests: { backoff: 0 } };
    const outcomes = await copyPairs(pairs, options);
    expect(outcomes.map(({ to, outcome }) => [to, outcome])).toEqual([
      ['s3://b/x/1', 'added'],
      ['s3://b/x/2', 'failed'],
      ['s3://b/y/3', 'added'],
      [join(there, 'c2'), 'added'],
    ]);
    expect(outcomes[1]?.reason).toContain('No such file');
    expect([server.contents, readFileSync(join(there, 'c2'), 'utf8')]).toEqual([{ 'x/1': 'a', 'y/3': 'b' }, 'c']);
    writeFileSync(join(here, 'a'), 'other');
    expect((await copyPairs(pairs, options)).map(({ outcome }) => outcome)).toEqual([
      ...['updated', 'failed', 'skipped', 'skipped'],
    ]);
  });

  it('are held against each other, by size and by content', async () => {
    const server = await s3();
    const here = join(scratch(), 'a');
    writeFileSync(here, 'some');
    const to = 's3://b/a';
    const options = { environment: server.env };
    const check = (verify?: 'size') => validateTransfer(here, to, { ...options, ...(verify && { verify }) });
    expect(await check()).toEqual({ ok: false, reason: 's3://b/a is missing' });
    await copyPairs([{ from: here, to }], options);
    expect(await check()).toEqual({ ok: true, reason: 'the contents are the same' });
    server.put('a', 'same');
    expect(await check('size')).toEqual({ ok: true, reason: 'the sizes are the same' });
    expect(await check()).toEqual({ ok: false, reason: 'they differ: content' });
    server.put('a', 'longer');
    expect(await check('size')).toMatchObject({ ok: false });
    expect(server.contents).toEqual({ a: 'longer' });
    // What is read in pieces, which end elsewhere on each side.
    const long = Buffer.alloc(300_001, 'abc');
    writeFileSync(here, long);
    server.put('a', long);
    expect(await check()).toEqual({ ok: true, reason: 'the contents are the same' });
    long[300_000] = 0;
    server.put('a', long);
    expect(await check()).toEqual({ ok: false, reason: 'they differ: content' });
  });

  it('are the same only where both are files and were read', async () => {
    for (const checks of ['crc', 'hash'] as const) {
      const server = await s3({ checks });
      const here = scratch();
      const options = { environment: server.env, requests: REQUESTS };
      const [from, to] = [join(here, 'a'), 's3://b/a'];
      writeFileSync(from, 'some');
      mkdirSync(join(here, 'd'));
      symlinkSync('a', join(here, 'l'));
      await copyPairs([{ from, to }], options);
      const check = (from: string, to: string, verify?: 'size' | 'hash') =>
        validateTransfer(from, to, { ...options, ...(verify && { verify }) });
      for (const verify of [undefined, 'hash', 'size'] as const) {
        expect(await check(from, to, verify)).toMatchObject({ ok: true });
        expect(await check(to, from, verify)).toMatchObject({ ok: true });
        for (const [one, other] of [
          [join(here, 'd'), 's3://b/none'],
          [join(here, 'd'), to],
          [join(here, 'l'), to],
          [join(here, 'l'), 's3://b/none'],
          [to, join(here, 'd')],
          [to, join(here, 'l')],
          [join(here, 'none'), to],
          [from, 's3://b/none'],
        ] as const) {
          expect([one, other, (await check(one, other, verify)).ok]).toEqual([one, other, false]);
        }
      }
      const kept = server.objects.get('a');
      if (kept !== undefined) kept.body = Buffer.from('sane');
      const vouched = 'what was read is not what its store vouches for';
      const reason = checks === 'crc' ? vouched : expect.any(String);
      expect(await check(from, to)).toEqual({ ok: false, reason });
      expect(await check(to, from)).toEqual({ ok: false, reason });
      for (const verify of ['bogus', 'checksum', 'toString', 5]) {
        const checking = validateTransfer(from, to, { ...options, verify: verify as never });
        await expect(checking).rejects.toMatchObject({
          code: 'USAGE',
          message: expect.stringContaining('options.verify'),
        });
      }
    }
  });

  it('of which two have one destination are refused before anything is copied', async () => {
    const server = await s3();
    const [here, there] = [scratch(), scratch()];
    for (const name of ['a', 'b']) writeFileSync(join(here, name), name);
    mkdirSync(join(there, 'd'));
    symlinkSync('d', join(there, 'l'));
    const options = { environment: server.env, requests: REQUESTS };
    const [a, b] = [join(here, 'a'), join(here, 'b')];
    for (const [one, other] of [
      ['s3://b/x', 's3://b/x'],
      ['s3://b/x', 'S3://b/x'],
      [join(there, 'd/x'), join(there, 'l/x')],
      [join(there, 'd/x'), `${there}/d/../l/./x`],
      [join(there, 'new/x'), `file://${there}/new/x`],
    ] as const) {
      const pairs = [
        { from: a, to: one },
        { from: a, to: 's3://b/y' },
        { from: b, to: other },
      ];
      await expect(copyPairs(pairs, options)).rejects.toMatchObject({
        code: 'USAGE',
        message: expect.stringContaining(other),
      });
    }
    const places = { source: here, destination: 's3://b/p', ...options };
    for (const add of [
      ['a', { from: 'b', to: 'a' }],
      [{ from: 'a', to: 'x' }, 'b', { from: 'b', to: 'x' }],
    ]) {
      const refused = { code: 'USAGE', message: expect.stringMatching(/s3:\/\/b\/p\/[ax]/) };
      await expect(syncFiles({ ...places, add }).orThrow()).rejects.toMatchObject(refused);
    }
    expect([server.keys, readdirSync(join(there, 'd'))]).toEqual([[], []]);
    // The same twice is one; one may go to two places.
    const twice = [
      { from: a, to: 's3://b/x' },
      { from: a, to: 's3://b/x' },
      { from: a, to: 's3://b/X' },
    ];
    expect((await copyPairs(twice, options)).map(({ outcome }) => outcome)).toEqual(['added', 'added', 'added']);
    expect(server.keys).toEqual(['X', 'x']);
  });

  it('are told apart where one source has several copies and one of them fails', async () => {
    const server = await s3();
    const there = scratch();
    server.put('a', 'a');
    let asked = 0;
    server.plan = ({ method }) => {
      asked += method === 'GET' ? 1 : 0;
      return method === 'GET' && asked === 2 ? { status: 403, code: 'AccessDenied' } : undefined;
    };
    const pairs = ['x', 'y', 'z'].map((name) => ({ from: 's3://b/a', to: join(there, name) }));
    const outcomes = await copyPairs(pairs, { environment: server.env, requests: REQUESTS });
    for (const { to, outcome } of outcomes) expect(outcome).toBe(existsSync(to) ? 'added' : 'failed');
    expect(outcomes.filter(({ outcome }) => outcome === 'failed')).toHaveLength(1);
  });
});

describe('calls', () => {
  it('are made at once, keep their order, and end none of the others', async () => {
    const progress: number[] = [];
    let [now, most] = [0, 0];
    const outcomes = await runParallel(
      async (item: number) => {
        now += 1;
        most = Math.max(most, now);
        await new Promise(setImmediate);
        now -= 1;
        if (item === 2) throw new Error('two');
        return item * 10;
      },
      [1, 2, 3, 4, 5],
      { workers: 2, onProgress: (done) => progress.push(done) },
    );
    expect(outcomes).toMatchObject([
      { ok: true, item: 1, value: 10 },
      { ok: false, item: 2, error: { message: 'two' } },
      ...[3, 4, 5].map((item) => ({ ok: true, item, value: item * 10 })),
    ]);
    expect([progress, most]).toEqual([[1, 2, 3, 4, 5], 2]);
    const stopped = await runParallel(() => 1, [1, 2], { signal: AbortSignal.abort('enough') });
    expect(stopped).toMatchObject([{ ok: false, error: 'enough' }, { ok: false }]);
    expect(await runParallel(() => 1, [])).toEqual([]);
    const called: number[] = [];
    const watched = runParallel((item: number) => called.push(item), [1, 2, 3, 4], {
      workers: 2,
      onProgress: (done) => {
        throw new Error(`told of ${done}`);
      },
    });
    await expect(watched).rejects.toThrow('told of 1');
    expect(called).toEqual([1, 2, 3, 4]);
    await expect(runParallel(() => 1, [1], { workers: 0 })).rejects.toMatchObject({ code: 'USAGE' });
  });

  it('are made again where that may help', async () => {
    const told: number[] = [];
    const flaky = (fails: number, error: unknown) => (attempt: number) => {
      if (attempt <= fails) throw error;
      return attempt;
    };
    const options = { first: 0, onRetry: (_: unknown, attempt: number) => told.push(attempt) };
    expect(await withRetry(flaky(2, new Error('busy')), options)).toEqual({ ok: true, value: 3, attempts: 3 });
    expect(await withRetry(flaky(9, new Error('busy')), options)).toMatchObject({ ok: false, attempts: 4 });
    expect(told).toEqual([1, 2, 1, 2, 3]);
    for (const lasting of [new TypeError('no'), new BulkhaulError('USAGE', 'no'), new BulkhaulError('SAFETY', 'no')]) {
      expect(await withRetry(flaky(9, lasting), options)).toEqual({ ok: false, error: lasting, attempts: 1 });
    }
    const store = new BulkhaulError('STORE', 'overload');
    expect(await withRetry(flaky(1, store), options)).toMatchObject({ ok: true, attempts: 2 });
    expect(await withRetry(flaky(1, store), { ...options, isTransient: () => false })).toMatchObject({ attempts: 1 });
    await expect(withRetry(() => 1, { retries: -1 })).rejects.toMatchObject({ code: 'USAGE' });
  });

  it('are made again where a store was busy or silent, and not where it says no', async () => {
    const server = await s3();
    const here = scratch();
    writeFileSync(join(here, 'a'), 'a');
    server.put('p/a', 'a');
    const options = { environment: server.env, requests: { backoff: 0, retries: 0 } };
    const files = filesystem('s3://b', options);
    const calls = (): (() => Promise<unknown>)[] => [
      () => syncDir({ source: here, destination: 's3://b/q', ...options }).orThrow(),
      () => syncDir({ source: 's3://b/p', destination: join(here, 'p'), ...options }).orThrow(),
      () => syncFiles({ source: here, destination: 's3://b/q', add: ['a'], ...options }).orThrow(),
      () => files.info('p/a'),
      () => files.ls('p'),
      () => files.cat('p/a'),
      () => files.find('p'),
    ];
    const attempts = async (call: () => Promise<unknown>) => (await withRetry(call, { first: 0, retries: 2 })).attempts;
    for (const [fault, expected] of [
      [{ status: 503, code: 'SlowDown' }, 3],
      ['reset', 3],
      [{ status: 403, code: 'SignatureDoesNotMatch' }, 1],
      [{ status: 404, code: 'NoSuchBucket' }, 1],
    ] as const) {
      server.plan = () => fault;
      for (const call of calls())
        expect([fault, String(call), await attempts(call)]).toEqual([fault, String(call), expected]);
    }
    server.plan = () => undefined;
    for (const call of [
      () => files.cat('none'),
      () => files.put(join(here, 'none'), 'x'),
      () => files.rm('p'),
      () => syncDir({ source: join(here, 'none'), destination: 's3://b/q', ...options }).orThrow(),
      () => syncDir({ source: 's3://b/none', destination: here, ...options }).orThrow(),
      // Words in a name are no answer of a server.
      () => syncDir({ source: join(here, 'none: 503 SlowDown'), destination: 's3://b/q', ...options }).orThrow(),
    ]) {
      expect([String(call), await attempts(call)]).toEqual([String(call), 1]);
    }
  }, 60_000);
});
