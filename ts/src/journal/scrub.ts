/**
 * How far a scrub has come: a verification that reads another part of the files each time, until it has read all.
 *
 * Comes in: a state directory, the name of the verification, and how many parts there are; goes out: the part that is next. It
 * moves on only when a part is done, so that what was interrupted comes again, and with it no part is ever left out.
 */
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { toBytes } from '../names.js';
import { makeDirectories } from './store.js';

/** A part of the files, from 0. */
export interface Part {
  part: number;
  parts: number;
}

function statePath(state: string, id: string, parts: number): string {
  return join(state, 'scrubs', `${id}-${parts}.json`);
}

/** The part that is next; the first one where nothing is known. */
export function nextPart(state: string, id: string, parts: number): Part {
  const part = (() => {
    try {
      const { next } = JSON.parse(readFileSync(toBytes(statePath(state, id, parts)), 'utf8')) as { next: unknown };
      return Number.isSafeInteger(next) ? Math.abs(Number(next)) % parts : 0;
    } catch (error) {
      if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ENOENT') return 0;
      throw error;
    }
  })();
  return { part, parts };
}

/** A part is done. */
export function moveOn(state: string, id: string, { part, parts }: Part): void {
  const path = statePath(state, id, parts);
  makeDirectories(dirname(path));
  const temporary = `${path}.new`;
  const file = openSync(toBytes(temporary), 'w', 0o600);
  try {
    writeSync(file, `${JSON.stringify({ next: (part + 1) % parts, parts })}\n`);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(toBytes(temporary), toBytes(path));
}
