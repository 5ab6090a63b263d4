/**
 * Whether files that a tool copied were as long as it took them to be.
 *
 * Comes in: names and the lengths that a tool told; goes out: those that have another, or go on after it, and what is wrong with
 * them. rsync takes a file for complete when it has so many bytes as it was said to have: one that has grown, and one whose
 * file system tells lies, end too early without a word. Only what was copied is looked at, a few files at a time.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';

/** Files that are looked at at once. */
const AT_ONCE = 16;

export class Lengths {
  /** What is wrong, by names of a character for each byte. */
  readonly wrong = new Map<string, string>();
  readonly #looks = new Set<Promise<void>>();

  /** A file was copied, and had so many bytes; a promise asks to wait with the next. */
  take(name: Buffer, path: Buffer, size: number): Promise<void> | undefined {
    const key = name.toString('latin1');
    const look = wrongWith(path, size).then((why) => {
      // It may have been copied again.
      if (why === undefined) this.wrong.delete(key);
      else this.wrong.set(key, why);
      this.#looks.delete(look);
    });
    this.#looks.add(look);
    return this.#looks.size < AT_ONCE ? undefined : Promise.race(this.#looks);
  }

  /** All are looked at. */
  async done(): Promise<void> {
    await Promise.all(this.#looks);
  }
}

async function wrongWith(path: Buffer, size: number): Promise<string | undefined> {
  let file: FileHandle | undefined;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const about = await file.stat();
    if (!about.isFile()) return undefined;
    if (about.size !== size) return `it changed while it was copied: it has ${about.size} bytes now, and had ${size}`;
    const { bytesRead } = await file.read(Buffer.alloc(1), 0, 1, size);
    return bytesRead > 0 ? `it goes on after the ${size} bytes that it says it has` : undefined;
  } catch {
    // It has gone, or can't be read here: whoever copied it could.
    return undefined;
  } finally {
    await file?.close();
  }
}
