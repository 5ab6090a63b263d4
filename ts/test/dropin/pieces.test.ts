/** JSON that is read in pieces is what JSON.parse makes of it as a whole. */
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Pieces } from '../../src/cli/dropin/pieces.js';
import { scratch } from '../rig.js';

const CHUNK = 2 ** 20;

/** As a whole, down to objects in objects. */
function read(pieces: Pieces, depth = 2): unknown {
  if (depth > 0 && pieces.isNext('{')) {
    const members: [string, unknown][] = [];
    for (const name of pieces.members()) members.push([name, read(pieces, depth - 1)]);
    return Object.fromEntries(members);
  }
  return pieces.isNext('[') ? [...pieces.elements()] : pieces.value();
}

/** What comes of a text, by either way; undefined: it is refused. */
function both(path: string, text: string): [unknown, unknown] {
  const attempt = (make: () => unknown) => {
    try {
      return make();
    } catch {
      return undefined;
    }
  };
  writeFileSync(path, text);
  const file = openSync(path, 'r');
  try {
    const pieces = new Pieces(file);
    const ours = attempt(() => {
      const value = read(pieces);
      pieces.end();
      return value;
    });
    return [ours, attempt(() => JSON.parse(text))];
  } finally {
    closeSync(file);
  }
}

it('is what it is as a whole, wherever a chunk ends', () => {
  const path = join(scratch(), 'f');
  const text = fc
    .tuple(fc.json({ maxDepth: 4 }), fc.constantFrom(undefined, 2, '\t'))
    .map(([json, indent]) => JSON.stringify(JSON.parse(json), undefined, indent));
  fc.assert(
    fc.property(text, fc.nat(60), (json, before) => {
      const [ours, theirs] = both(path, ' '.repeat(CHUNK - before) + json);
      expect(ours).toEqual(theirs);
    }),
    { numRuns: 60 },
  );
});

it('is refused where it is none', () => {
  const path = join(scratch(), 'f');
  const edit = fc.tuple(
    fc.json({ maxDepth: 3 }),
    fc.nat(),
    fc.constantFrom('', ',', ':', '"', '{', '}', '[', ']', '\\', ' ', '0'),
  );
  fc.assert(
    fc.property(edit, ([json, at, put]) => {
      const place = at % (json.length + 1);
      const [ours, theirs] = both(path, json.slice(0, place) + put + json.slice(place + 1));
      expect(ours).toEqual(theirs);
    }),
    { numRuns: 400 },
  );
});
