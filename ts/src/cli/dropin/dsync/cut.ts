/**
 * The planner, for `dsync`: a source in, the lists of its parts out, in the form that a plan keeps.
 *
 * Comes in: a source, how many parts, and what the lists are to hold; goes out: the job that plans, and what it came to. Each
 * list is turned into names as soon as the planner has written it, so that no more than one lies there twice.
 */

import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { toBytes } from '../../../names.js';
import type { EntryKind } from '../../../native/events.js';
import type { Job } from '../../../ops/job.js';
import { partition } from '../../../ops/partition.js';
import type { Part } from '../../../ops/transfer/list.js';
import type { Cut, Plans } from './plan.js';

/** What a plan came to. */
export interface Parts {
  parts: Part[];
  /** What there is, by kinds; the source itself does not count. */
  found: Record<EntryKind, number>;
  /** Some entries are hard links of each other. */
  hardLinks: boolean;
}

/** Begins to plan. */
export function plan(cut: Pick<Cut, 'source' | 'parts' | 'leftOut'> & { spillDirectory: string }, plans: Plans): Job {
  const { source, parts, leftOut, spillDirectory } = cut;
  return partition({
    sources: source.replace(/\/*$/, '/'),
    parts,
    exclude: leftOut.map((path) => `/${path.replace(/[\\*?[]/g, '\\$&')}`),
    format: 'jsonl',
    template: join(plans.directory, 'listed'),
    replace: true,
    spillDirectory,
  });
}

/** A line of a list, as far as it counts here. */
interface Listed {
  path: string;
  pathBase64?: string;
  kind: EntryKind;
  size?: number;
  linkGroup?: number;
}

/** Turns the lists of the planner into those of a plan. */
export async function gather(lists: readonly string[], holds: Cut['holds'], plans: Plans): Promise<Parts> {
  const found = { file: 0, directory: 0, symlink: 0, fifo: 0, socket: 0, block: 0, char: 0 };
  const parts: Part[] = [];
  let hardLinks = false;
  for (const [index, listed] of lists.entries()) {
    const number = index + 1;
    const list = plans.list(number);
    const part = { number, list, files: 0, directories: 0, bytes: 0 };
    const file = createWriteStream(toBytes(list), { mode: 0o600 });
    const failed = once(file, 'error').then(([error]) => Promise.reject(error));
    const write = async () => {
      for await (const line of createInterface({ input: createReadStream(toBytes(listed)) })) {
        const { path, pathBase64, kind, size = 0, linkGroup } = JSON.parse(line) as Listed;
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
  return { parts, found, hardLinks };
}

const END = Buffer.from([0]);
const DIRECTORY_END = Buffer.from('/\0');
