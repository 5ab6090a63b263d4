/**
 * Whether a directory takes names for one that differ.
 *
 * Comes in: a directory; goes out: whether names there differ by case, and by forms of a letter. Two copies side by side do not
 * see which of their names meet, so that one would silently take the place of the other.
 */
import { lstatSync, mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { toBytes } from '../names.js';

/** Whether a directory takes names for one that differ by case, or by forms of a letter: found out with an empty directory. */
export function folds(directory: string): boolean {
  const name = (word: string) => toBytes(join(directory, `.bulkhaul-${process.pid}-${word}`));
  const made = name('\u00e9a');
  try {
    mkdirSync(made, 0o700);
  } catch {
    // The copy will tell what it does not take.
    return false;
  }
  try {
    const others = ['\u00c9A', 'e\u0301a'];
    return others.some((word) => lstatSync(name(word), { throwIfNoEntry: false }) !== undefined);
  } finally {
    rmdirSync(made);
  }
}
