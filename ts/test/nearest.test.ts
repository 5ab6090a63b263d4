import { expect, it } from 'vitest';
import { nearest } from '../src/nearest.js';

it.each<[string, string[], string | undefined]>([
  ['verfiy', ['verify', 'verbose'], 'verify'],
  ['cpoy', ['copy', 'compare'], 'copy'],
  ['cop', ['copy', 'hpcp'], 'copy'],
  ['Sync', ['sync'], 'sync'],
  ['x', ['yz'], undefined],
  ['', ['a', 'bc'], 'a'],
  ['bandwidth', ['bwlimit'], undefined],
  ['excluded', ['exclude', 'include'], 'exclude'],
  ['a', [], undefined],
])('%j among %j: %j', (name, names, meant) => {
  expect(nearest(name, names)).toBe(meant);
});
