/** scripts/picture: it draws what a terminal showed, and what it drew last is in the README. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { program, scratch } from './rig.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** The frames of a picture, each as its lines. */
function framesOf(picture: string): string[][] {
  const plain = (text: string) =>
    text
      .replace(/<[^>]+>/g, '')
      .replaceAll('&lt;', '<')
      .replaceAll('&amp;', '&');
  return [...picture.matchAll(/<g[^>]*>(.*?)<\/g>/gs)].map(([, group = '']) =>
    [...group.matchAll(/<text[^>]*>(.*?)<\/text>/gs)].map(([, text = '']) => plain(text)),
  );
}

/** A run is typed, goes on with a percentage that never falls, and ends with what it says. */
function expectRun(picture: string): void {
  expect(picture).toMatch(/^<svg [^>]*>.*<\/svg>\n$/s);
  const frames = framesOf(picture);
  expect(frames[0]).toEqual(['$ ']);
  const percents = frames.flatMap((lines) => lines.flatMap((line) => /^(\d+)%/.exec(line)?.[1] ?? [])).map(Number);
  expect(percents.length).toBeGreaterThan(3);
  expect(percents).toEqual([...percents].sort((a, b) => a - b));
  const last = frames.at(-1) ?? [];
  expect(last[0]).toBe('$ bulkhaul copy --verify --bwlimit 16m photos archive');
  expect(last.filter((line) => line.includes('%'))).toEqual([]);
  expect(last.join('\n')).toMatch(/^96 files copied, .*^verified: 96 files.*^\$ $/ms);
}

it('is in the README', () => {
  expect(readFileSync(join(ROOT, 'README.md'), 'utf8')).toContain('](docs/run.svg)');
  expectRun(readFileSync(join(ROOT, 'docs/run.svg'), 'utf8'));
});

it('is made again from a run', async () => {
  const file = join(scratch(), 'run.svg');
  const made = await program(join(ROOT, 'scripts/picture'), [file]);
  expect(made).toMatchObject({ code: 0, stderr: '' });
  expectRun(readFileSync(file, 'utf8'));
}, 60_000);
