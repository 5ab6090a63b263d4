/** README.md does what it says: its commands and its library example run in a scratch directory. */
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { program, scratch } from './rig.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const README = readFileSync(join(ROOT, 'README.md'), 'utf8');

const PAGES = [
  'README.md',
  ...readdirSync(join(ROOT, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];

/** Pages for those who work on bulkhaul. */
const INSIDE = ['docs/release.md', 'docs/scale.md'];

/** The headings of a page, as links name them. */
const headings = (text: string) =>
  [...text.matchAll(/^#+ (.*)$/gm)].map(
    ([, title = '']) =>
      `#${title
        .toLowerCase()
        .replace(/[^\w\- ]/g, '')
        .replaceAll(' ', '-')}`,
  );

/** What is in the code blocks of a language. */
const blocks = (language: string) =>
  [...README.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)]
    .filter(([, tag]) => tag === language)
    .map(([, , text = '']) => text);

const commands = blocks('sh').flatMap((block) => block.trim().split('\n'));

/** A scratch directory with `photos`, and with `mnt` for what the README calls /mnt. */
function place() {
  const at = scratch();
  mkdirSync(join(at, 'photos/cache'), { recursive: true });
  for (const name of ['a.jpg', 'b.tmp', 'cache/c.jpg']) writeFileSync(join(at, 'photos', name), name);
  mkdirSync(join(at, 'mnt'));
  return { at, here: (text: string) => text.replaceAll('/mnt/', `${join(at, 'mnt')}/`) };
}

const all = (directory: string) => readdirSync(directory, { recursive: true }).map(String).sort();

/** What each command leaves below /mnt. */
const PHOTOS = ['a.jpg', 'b.tmp', 'cache', 'cache/c.jpg'];
const LEAVES: Readonly<Record<string, [string, string[]] | undefined>> = {
  'scripts/run hpcp photos -d /mnt/archive': ['archive', PHOTOS],
  'scripts/run copy photos /mnt/archive': ['archive/photos', PHOTOS],
  'scripts/run copy photos/ /mnt/archive/2024': ['archive/2024', PHOTOS],
  'scripts/run copy --dry-run photos /mnt/archive': ['.', []],
  "scripts/run copy --exclude '*.tmp' --exclude /cache photos/ /mnt/clean": ['clean', ['a.jpg']],
  "scripts/run copy --include '*/' --include '*.jpg' --exclude '*' photos/ /mnt/pictures": [
    'pictures',
    ['a.jpg', 'cache', 'cache/c.jpg'],
  ],
  'scripts/run copy --json --sync all photos /mnt/archive': ['archive/photos', PHOTOS],
  'scripts/run copy --bwlimit 100m --iops-limit 5000 --nice 10 --ionice idle photos /mnt/quiet': [
    'quiet/photos',
    PHOTOS,
  ],
  'scripts/run copy --verify photos /mnt/archive': ['archive/photos', PHOTOS],
  'scripts/run copy --delete --max-delete 10% photos/ /mnt/archive/2024': ['archive/2024', PHOTOS],
  'scripts/run manifest -o /mnt/photos.b3 photos': ['.', ['photos.b3']],
  'scripts/run manifest --algorithm sha256 -o /mnt/SHA256SUMS photos': ['.', ['SHA256SUMS']],
  'scripts/run manifest -o photos/BLAKE3SUMS photos/ && scripts/run verify photos/BLAKE3SUMS': ['.', []],
  'scripts/run pack photos/ /mnt/packed && tar -tf /mnt/packed/shard-00001.tar': [
    'packed',
    ['shard-00001.jsonl', 'shard-00001.tar', 'state-00001.b3', 'state-00001.jsonl'],
  ],
  'scripts/run pack photos/ /mnt/shards && scripts/run unpack /mnt/shards a.jpg /mnt/one': ['one', ['a.jpg']],
  'scripts/run pack --shard-size 1G --compress zstd photos /mnt/small': [
    'small',
    ['shard-00001.jsonl', 'shard-00001.tar.zst', 'state-00001.b3', 'state-00001.jsonl'],
  ],
  'scripts/run partition -n 2 -o /mnt/part photos/': ['.', ['part.1', 'part.2']],
  'scripts/run partition --dry-run --entries 1000 --bytes 1G photos': ['.', []],
  'scripts/run partition -n 2 --format rsync -o /mnt/list photos/ --exec rsync -a --from0 --files-from={} photos/ /mnt/copies/':
    ['copies', PHOTOS],
  'scripts/run compress --ext jpg,tmp --force photos && scripts/run decompress photos': ['.', []],
  'scripts/run compress -n --min-size 1M photos': ['.', []],
  'scripts/run compress --format xz --level 9 --keep --force photos/a.jpg && scripts/run decompress --test photos': [
    '.',
    [],
  ],
  'scripts/run migrate --ext jpg,tmp --verify photos/ /mnt/migrated': [
    'migrated',
    ['a.jpg.gz', 'b.tmp.gz', 'cache', 'cache/c.jpg.gz'],
  ],
  'scripts/run migrate -n --ext jpg photos/ /mnt/migrated': ['.', []],
  'scripts/run migrate --ext jpg --manifest /mnt/in.b3 --stored-manifest /mnt/stored.b3 photos/ /mnt/migrated-too': [
    'migrated-too',
    ['a.jpg.gz', 'b.tmp', 'cache', 'cache/c.jpg.gz'],
  ],
  'scripts/run move photos /mnt/archive': ['archive/photos', PHOTOS],
  "scripts/run move --exclude '*.tmp' photos/ /mnt/archive/2024": ['archive/2024', ['a.jpg', 'cache', 'cache/c.jpg']],
  'scripts/run move --dry-run photos /mnt/archive': ['.', []],
  'scripts/run copy --manifest /mnt/photos.b3 photos/ /mnt/archive/2024': ['archive/2024', PHOTOS],
  'scripts/run copy --move photos/ /mnt/archive/2025': ['archive/2025', PHOTOS],
  'scripts/run copy --workers 2 photos/ /mnt/archive/2026': ['archive/2026', PHOTOS],
};

describe('README', () => {
  it('has the commands that are run here, and no others', () => {
    expect(commands.sort()).toEqual(Object.keys(LEAVES).sort());
  });

  it.each(commands)('%s', async (command) => {
    const { at, here } = place();
    const line = here(command).replace(/\bscripts\//g, `${join(ROOT, 'scripts')}/`);
    const { code, stdout, stderr } = await program('sh', ['-c', line], { cwd: at });
    expect({ code, stderr }).toMatchObject({ code: 0 });
    if (command.includes('hpcp')) expect(stdout).toMatch(/\nDone\.\n$/);
    const [directory, names] = LEAVES[command] ?? expect.fail(command);
    expect(all(join(at, 'mnt', directory))).toEqual(names);
  });

  it.each(PAGES)('%s leads to what exists, and to headings that are there', (page) => {
    const text = readFileSync(join(ROOT, page), 'utf8');
    for (const [, link = '', heading = ''] of text.matchAll(/\]\(([^):#]*)(#[^)]*)?\)/g)) {
      const file = link === '' ? join(ROOT, page) : join(ROOT, dirname(page), link);
      expect(existsSync(file), link).toBe(true);
      if (heading !== '') expect(headings(readFileSync(file, 'utf8')), link).toContain(heading);
    }
  });

  it('names files of the architecture that are there', () => {
    const text = readFileSync(join(ROOT, 'docs/architecture.md'), 'utf8');
    const plain = (path: string) => `/${path}`.replace('/src/', '/');
    const there = ['crates', 'bindings', 'ts'].flatMap((root) =>
      all(join(ROOT, root)).map((path) => plain(`${root}/${path}`)),
    );
    const named = [...text.matchAll(/`([\w./-]+\.(?:rs|ts))`/g)].map(([, path = '']) => path);
    const missing = named.filter((path) => !there.some((file) => file.endsWith(plain(path))));
    // It stands for any drop-in.
    expect(missing).toEqual(['ts/src/cli/dropin/NAME.ts']);
  });

  it('names scripts that exist', () => {
    const named = [...README.matchAll(/`?((?:scripts|ts|crates|bindings)\/[\w./-]+)/g)];
    expect(named.length).toBeGreaterThan(10);
    for (const [, path = ''] of named) expect(existsSync(join(ROOT, path)), path).toBe(true);
  });

  it('leads to every page', () => {
    const shown = PAGES.filter((page) => page !== 'README.md' && !INSIDE.includes(page));
    expect(shown.filter((page) => !README.includes(`](${page}`))).toEqual([]);
  });

  it('has a library example that runs', async () => {
    const { at, here } = place();
    mkdirSync(join(at, 'node_modules'));
    symlinkSync(ROOT, join(at, 'node_modules/bulkhaul'));
    const [example = ''] = blocks('js');
    writeFileSync(join(at, 'example.mjs'), here(example));
    const { code, stdout, stderr } = await program(process.execPath, ['example.mjs'], { cwd: at });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^copied .*a\.jpg$/m);
    expect(stdout).toMatch(/\ntrue 3 0\n$/);
    expect(all(join(at, 'mnt/archive'))).toEqual(PHOTOS);
  });
});
