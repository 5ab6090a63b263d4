/**
 * Parts of what the planner has written.
 *
 * Comes in: its lists as JSON lines; goes out: a part for each, with its own list and its counts. Each list is turned into
 * names and goes, so that no more than one lies there twice.
 */
import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { BulkhaulError } from '../../error.js';
import { toBytes } from '../../names.js';
import type { EntryKind } from '../../native/events.js';
import type { Part } from './list.js';

/** What a plan came to. */
export interface Planned {
  parts: Part[];
  /** What there is, by kinds; the source itself does not count. */
  found: Record<EntryKind, number>;
  /** Some entries are hard links of each other. */
  hardLinks: boolean;
}

/** A line of a list, as far as it counts here. */
interface Listed {
  path: string;
  pathBase64?: string;
  kind: EntryKind;
  size?: number;
  linkGroup?: number;
}

/**
 * Makes parts of the planner's lists, in their order. `entries`: how many it has put into them, where it has said; `holds`: what
 * their own lists are to hold; `place`: where each goes, by its number.
 */
export async function gather(
  { lists, entries }: { lists: readonly string[]; entries: number | undefined },
  holds: 'all' | 'files',
  place: (number: number) => string,
): Promise<Planned> {
  const found = { file: 0, directory: 0, symlink: 0, fifo: 0, socket: 0, block: 0, char: 0 };
  const parts: Part[] = [];
  let hardLinks = false;
  let there = 0;
  for (const [index, listed] of lists.entries()) {
    const number = index + 1;
    const list = place(number);
    const part = { number, list, files: 0, directories: 0, bytes: 0 };
    const file = createWriteStream(toBytes(list), { mode: 0o600 });
    const failed = once(file, 'error').then(([error]) => Promise.reject(error));
    const write = async () => {
      for await (const line of createInterface({ input: createReadStream(toBytes(listed)) })) {
        const { path, pathBase64, kind, size = 0, linkGroup } = JSON.parse(line) as Listed;
        there += 1;
        // The source itself has no name in a list.
        if (path === '.') continue;
        found[kind] += 1;
        hardLinks ||= linkGroup !== undefined;
        if (holds === 'files' && kind !== 'file') continue;
        const name = pathBase64 === undefined ? Buffer.from(path) : Buffer.from(pathBase64, 'base64');
        if (kind === 'directory') part.directories += 1;
        else part.files += 1;
        part.bytes += size;
        const bytes = Buffer.concat([name, kind === 'directory' ? DIRECTORY_END : END]);
        if (!file.write(bytes)) await once(file, 'drain');
      }
      file.end();
      await once(file, 'finish');
    };
    await Promise.race([write(), failed]);
    await rm(toBytes(listed), { force: true });
    parts.push(part);
  }
  if (entries !== undefined && there !== entries)
    throw new BulkhaulError(
      'INTERNAL',
      `the planner has put ${entries} entries into its lists, and ${there} are there`,
    );
  return { parts, found, hardLinks };
}

const END = Buffer.from([0]);
const DIRECTORY_END = Buffer.from('/\0');
