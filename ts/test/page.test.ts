/** The page of a job, and what is gathered for it: from records of every length, with hostile names, in a real browser. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { HostStatus, Report } from '../src/events.js';
import type { JournalRecord } from '../src/journal/record.js';
import type { JobSummary } from '../src/journal/store.js';
import { chart, sparkline } from '../src/report/chart.js';
import { page } from '../src/report/html.js';
import { remedyOf } from '../src/report/remedies.js';
import { storyOf } from '../src/report/story.js';
import { browse, noBrowser } from './browser.js';
import { jsonLines, program, run, scratch } from './rig.js';

const ATTEMPT = { type: 'attempt', number: 1, time: '2026-01-01T00:00:00Z', host: 'h', process: 7 } as const;

const progress = (elapsed: number, movedBytes: number, entries: number): JournalRecord => ({
  ...{ type: 'progress', time: '2026-01-01T00:00:00Z', phase: 'copying', attempt: 1, elapsed, movedBytes },
  // The job has counts of other runs too.
  ...{ metEntries: entries, entries: entries + 7, bytes: movedBytes, copiedBytes: movedBytes, errors: 0 },
});

const failure = (path: string, kind = 'io'): JournalRecord => ({
  ...{ type: 'error', kind, outcome: 'failed', operation: 'read', path, entryKind: 'file' },
  message: `read ${path}: Input/output error`,
});

async function* each(records: Iterable<JournalRecord>): AsyncGenerator<JournalRecord> {
  yield* records;
}

const SUMMARY: JobSummary = {
  ...{ id: 'copy-1', state: 'failed', operation: 'copy', sources: ['/s'], destinations: ['/d'], attempts: 1 },
  ...{ begun: undefined, heard: undefined, holder: undefined, exitCode: 23, path: '/j', errors: 1 },
  ...{ sentence: 'INCOMPLETE', entries: 1, bytes: 1, copiedBytes: 1 },
};

it('is told in few stretches, whatever the length, and none of what was moved is lost', async () => {
  const runs = fc.array(fc.array(fc.tuple(fc.nat(1000), fc.nat(1e9), fc.nat(1e5)), { maxLength: 900 }), {
    maxLength: 4,
  });
  await fc.assert(
    fc.asyncProperty(runs, async (told) => {
      let [seconds, bytes, entries] = [0, 0, 0];
      const records: JournalRecord[] = [];
      for (const samples of told) {
        records.push(ATTEMPT);
        let at = { elapsed: 0, bytes: 0, entries: 0 };
        for (const [more, moved, done] of samples) {
          at = { elapsed: at.elapsed + more + 1, bytes: at.bytes + moved, entries: at.entries + done };
          records.push(progress(at.elapsed, at.bytes, at.entries));
        }
        seconds += at.elapsed;
        bytes += at.bytes;
        entries += at.entries;
      }
      const { stretches } = await storyOf(each(records));
      expect(stretches.length).toBeLessThanOrEqual(240);
      expect(stretches.reduce((sum, stretch) => sum + stretch.bytes, 0)).toBe(bytes);
      expect(stretches.reduce((sum, stretch) => sum + stretch.entries, 0)).toBe(entries);
      expect(stretches.at(-1)?.to ?? 0).toBe(seconds);
      for (const [index, { from, to }] of stretches.entries()) {
        expect(from).toBe(index === 0 ? 0 : stretches[index - 1]?.to);
        expect(to).toBeGreaterThan(from);
      }
      expect(sparkline(stretches, (stretch) => stretch.bytes, 60).length).toBeLessThanOrEqual(60);
    }),
    { numRuns: 60 },
  );
});

it('counts failures by kind in the last run, and keeps the first of each', async () => {
  const many = Array.from({ length: 1000 }, (_, index) => failure(`/s/${index}`));
  const { kinds, runs } = await storyOf(
    each([ATTEMPT, failure('/s/old', 'permission'), { ...ATTEMPT, number: 2 }, failure('/s/x', 'changed'), ...many]),
  );
  expect(kinds.map(({ kind, count }) => [kind, count])).toEqual([
    ['io', 1000],
    ['changed', 1],
  ]);
  expect(kinds[0]?.examples).toHaveLength(5);
  expect(runs).toHaveLength(2);
});

it('shows names as they are, never as HTML', async () => {
  const hostile = '/s/<img src=x onerror=alert(1)>&"\'\n\u202e\udcff';
  const text = page({ ...SUMMARY, sources: [hostile] }, await storyOf(each([ATTEMPT, failure(hostile)])));
  expect(text).not.toContain('<img');
  expect(text).not.toMatch(/[\u202e\udcff]/);
  expect(text.split('&lt;img src=x onerror=alert(1)&gt;&amp;&quot;&#39;\\n\\u{202e}\\xff')).toHaveLength(3);
  expect(text).not.toMatch(/<script|https?:|url\(|@import/);
});

it('draws nothing where there is nothing', async () => {
  const words = { title: 't', rate: String, time: String };
  expect(chart([], ({ bytes }) => bytes, words)).toBe('');
  expect(sparkline([{ from: 0, to: 1, bytes: 0, entries: 0 }], ({ bytes }) => bytes, 60)).toBe('');
  expect(page(SUMMARY, await storyOf(each([])))).not.toContain('<svg');
});

it('says what to do about each kind of failure that there is', () => {
  const source = readFileSync(new URL('../src/native/events.ts', import.meta.url), 'utf8');
  const [, codes = ''] = /Stable code: (.*)\n/.exec(source) ?? [];
  const kinds = [...codes.matchAll(/'([a-z-]+)'/g)].map(([, kind = '']) => kind).filter((kind) => kind !== 'other');
  expect(kinds.length).toBeGreaterThan(15);
  for (const kind of kinds) expect([kind, remedyOf(kind)]).not.toEqual([kind, remedyOf('other')]);
});

/** A job that failed in part, its state directory, and where it ran. */
async function failed(): Promise<{ cwd: string; options: { cwd: string } }> {
  const cwd = scratch();
  mkdirSync(join(cwd, 's'));
  for (let index = 0; index < 20; index += 1) writeFileSync(join(cwd, `s/f${index}`), Buffer.alloc(1000 * index));
  mkdirSync(join(cwd, 'd/f1/x'), { recursive: true });
  const { code } = await run(['copy', '--state-dir', 'state', '--iops-limit', '12', '-j1', 's/', 'd'], { cwd });
  expect(code).toBe(23);
  return { cwd, options: { cwd } };
}

it('is written whole, or nothing is', async () => {
  const { cwd, options } = await failed();
  writeFileSync(join(cwd, 'page.html'), 'before');
  const told = await run(['report', '--state-dir', 'state', '--html', 'page.html'], options);
  expect(told).toEqual({ code: 0, stdout: '', stderr: '' });
  const text = readFileSync(join(cwd, 'page.html'), 'utf8');
  expect(text).toMatch(/^<!doctype html>[\s\S]*INCOMPLETE: 1 of 21 entries failed[\s\S]*<\/html>\n$/);
  expect(text).toContain('<h3>conflict: 1</h3>');
  // 20 files of 0 to 19,000 bytes: one is empty, and four have at most 4 KiB.
  expect(
    [...text.matchAll(/<th scope="row">(empty|to [^<]*)<\/th><td class="number">(\d+)</g)].map((found) =>
      found.slice(1),
    ),
  ).toEqual([
    ['empty', '1'],
    ['to 4.00 KiB', '4'],
    ['to 64.0 KiB', '15'],
  ]);
  expect((await run(['report', '--state-dir', 'state', '--html', '-'], options)).stdout).toBe(text);
  execFileSync('mkfifo', [join(cwd, 'fifo')]);
  const reader = program('cat', ['fifo'], options);
  expect((await run(['report', '--state-dir', 'state', '--html', 'fifo'], options)).code).toBe(0);
  expect((await reader).stdout).toBe(text);
  mkdirSync(join(cwd, 'in-the-way/x'), { recursive: true });
  const refused = await run(['report', '--state-dir', 'state', '--html', 'in-the-way'], options);
  expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining('in-the-way') });
  const both = await run(['report', '--state-dir', 'state', '--json', '--html', '-'], options);
  expect(both).toMatchObject({ code: 2, stderr: expect.stringContaining('--html and --json') });
  expect(readdirSync(cwd).sort()).toEqual(['d', 'fifo', 'in-the-way', 'page.html', 's', 'state']);
});

/** A tree whose greatest directory is known. */
function tree(): string {
  const cwd = scratch();
  for (const [name, size] of [
    ['s/top', 10],
    ['s/a/one', 1000],
    ['s/a/b/two', 2000],
    ['s/a/b/c/d/three.tsv', 300_000],
    ['s/x/empty', 0],
  ] as const) {
    mkdirSync(join(cwd, dirname(name)), { recursive: true });
    writeFileSync(join(cwd, name), Buffer.alloc(size, name));
  }
  return cwd;
}

const OPERATIONS: readonly (readonly [string, ...string[]])[] = [
  ['copy', 's/', 'd'],
  ['list', 's'],
  ['list', '--full-hash', 's'],
  ['manifest', 's/', '-o', 'sums'],
  ['compare', '--content', 's', 'twin'],
  ['pack', 's/', 'shards'],
  ['partition', '-n', '2', '-o', 'part', 's'],
  ['compress', '--ext', 'tsv', '--keep', 's'],
  ['remove', '--yes', 's/x', 's/a'],
  ['move', 's/', 'm'],
];

it.each(OPERATIONS)('%s tells where most of it is, and counts each file once', async (...args) => {
  const cwd = tree();
  if (args[0] === 'compare') await program('cp', ['-a', join(cwd, 's'), join(cwd, 'twin')]);
  const { stdout, stderr } = await run([...args, '--json', '--quiet'], { cwd, env: { XDG_STATE_HOME: cwd } });
  const report = jsonLines(stdout).at(-1) as unknown as Report;
  const sum = (of: readonly { files: number; bytes: number }[], key: 'files' | 'bytes') =>
    of.reduce((all, each) => all + each[key], 0);
  expect(sum(report.heaviest, 'files'), stderr).toBe(sum(report.sizes, 'files'));
  expect(sum(report.heaviest, 'bytes')).toBe(report.foundBytes);
  // Only what may be packed is looked at, and what is removed is not asked for its size.
  const looked =
    new Map([
      ['compress', 1],
      ['remove', 0],
    ]).get(args[0] ?? '') ?? report.found.file;
  expect(sum(report.sizes, 'files')).toBe(looked);
  // What is renamed as a whole is not looked into.
  if (looked > 0 && args[0] !== 'move') expect(report.heaviest[0]?.path).toMatch(/^(s|twin)\/a\/b$/);
});

it('tells what took longest', async () => {
  const cwd = tree();
  const { stdout } = await run(
    ['copy', '--json', '--quiet', '--state-dir', 'state', '--bwlimit', '200K', '-j1', 's/', 'd'],
    { cwd },
  );
  const { slowest } = jsonLines(stdout).at(-1) as unknown as Report;
  expect(slowest[0]).toMatchObject({ path: 's/a/b/c/d/three.tsv', bytes: 300_000 });
  expect(slowest.map(({ seconds }) => seconds)).toEqual(slowest.map(({ seconds }) => seconds).sort((a, b) => b - a));
});

it('tells of a spread copy what each host has done', async () => {
  const cwd = tree();
  const { code, stderr } = await run(
    ['copy', '--workers', '2', '--journal', '--state-dir', 'state', '--run-dir', 'parts', 's/', 'd'],
    { cwd },
  );
  expect(code, stderr).toBe(0);
  const report = (...more: string[]) => run(['report', '--state-dir', 'state', ...more], { cwd });
  const story = jsonLines((await report('--json')).stdout).at(-1) as unknown as { hosts: HostStatus[] };
  expect(story.hosts).toMatchObject([{ host: hostname(), copiedBytes: 303_010 }]);
  expect((await report()).stdout).toMatch(/^host: {5}\S+: \d+ parts?, 296 KiB written$/m);
  expect((await report('--html', '-')).stdout).toContain('What each host has done');
});

it.each([
  ['copy', 's/', 'd'],
  ['manifest', 's/', '-o', 'sums'],
])('tells of a spread %s what stands out in all of it', async (...words) => {
  const cwd = tree();
  const more = '--workers 2 --parts 3 --bwlimit 400K --journal --state-dir state --json --quiet'.split(' ');
  const { stdout, stderr } = await run([...words, ...more], { cwd });
  const report = jsonLines(stdout).at(-1) as unknown as Report;
  const files = (of: readonly { files: number }[]) => of.reduce((all, each) => all + each.files, 0);
  expect(files(report.sizes), stderr).toBe(5);
  expect(files(report.heaviest)).toBe(5);
  // 300,000 bytes lie below it, and 2,000 in it.
  expect(report.heaviest[0]).toMatchObject({ path: join(cwd, 's/a/b'), files: 2, bytes: 302_000 });
  const slow = { path: join(cwd, 's/a/b/c/d/three.tsv'), bytes: 300_000 };
  expect(report.slowest).toContainEqual(expect.objectContaining(slow));
  expect((await run(['report', '--state-dir', 'state'], { cwd })).stdout).toContain('slowest:');
});

it('is the same as a page, as text, and as JSON', async () => {
  const cwd = tree();
  await run(['copy', '--journal', '--state-dir', 'state', '--bwlimit', '200K', '-j1', 's/', 'd'], { cwd });
  const report = (...more: string[]) =>
    run(['report', '--state-dir', 'state', ...more], { cwd, env: { LC_ALL: 'C.UTF-8' } });
  const story = jsonLines((await report('--json')).stdout).at(-1);
  expect(story).toMatchObject({ type: 'story', state: 'done', runs: [{ sentence: 'complete: 11 entries' }] });
  const { heaviest, slowest } = (story as unknown as { report: Report }).report;
  const text = (await report()).stdout;
  expect(text).toMatch(/^sizes: {4}[▁-█]+ files of at most 0 B to 1\.00 MiB$/m);
  const page = (await report('--html', '-')).stdout;
  expect(page).toContain('<dt>machine</dt><dd><code>Linux ');
  for (const { path } of [...heaviest.slice(0, 3), ...slowest.slice(0, 1)]) {
    expect(text).toContain(`:  ${path}: `);
    expect(page).toContain(`<code>${path}</code>`);
  }
});

it('has speed as a line of text for readers who have its characters', async () => {
  const { options } = await failed();
  const tell = (LC_ALL: string) => run(['report', '--state-dir', 'state'], { ...options, env: { LC_ALL } });
  expect((await tell('C.UTF-8')).stdout).toMatch(/^speed: {4}[▁-█]+$/m);
  expect((await tell('C')).stdout).not.toMatch(/speed/);
});

it.skipIf(noBrowser)('in a browser: drawn, without an error, and readable for everybody', async () => {
  const { cwd, options } = await failed();
  await run(['report', '--state-dir', 'state', '--html', 'page.html'], options);
  const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
  for (const dark of [false, true]) {
    const judged = await browse(
      `file://${cwd}/page.html`,
      `${axe};
      axe.run(document).then(({ violations }) => ({
        violations: violations.map(({ id, nodes }) => [id, nodes[0].html]),
        svg: [...document.querySelectorAll('svg')].map((picture) => picture.getBoundingClientRect().height > 50),
        wide: document.documentElement.scrollWidth > innerWidth,
        dark: matchMedia('(prefers-color-scheme: dark)').matches,
      }))`,
      { dark },
    );
    expect(judged).toEqual({ value: { violations: [], svg: [true, true], wide: false, dark }, errors: [] });
  }
});
