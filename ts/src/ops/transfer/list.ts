/**
 * The list of a part: names relative to the source, each ended by NUL, those of directories with a slash at the end.
 *
 * Comes in: the path of such a file; goes out: its names, a batch at a time, so that a list of any length takes no memory.
 */
import { createReadStream } from 'node:fs';
import { BulkhaulError } from '../../error.js';
import { toBytes } from '../../names.js';

/** A part of a source. */
export interface Part {
  /** 1 is the first. */
  number: number;
  /** The file with its names. */
  list: string;
  /** Entries that are no directories; absent where nobody has counted. */
  files?: number;
  /** Directories. Absent like `files`. */
  directories?: number;
  /** Bytes of the regular files. Absent like `files`. */
  bytes?: number;
}

const SLASH = 0x2f;

/** Which of the names. */
export type Kind = 'all' | 'directories' | 'others';

/** The names of a list, without slashes at their ends, in its order. */
export async function* namesIn(path: string, kind: Kind = 'all'): AsyncGenerator<Buffer[]> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of createReadStream(toBytes(path)) as AsyncIterable<Buffer>) {
    const bytes = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk;
    const names: Buffer[] = [];
    let from = 0;
    for (let end = bytes.indexOf(0); end >= 0; end = bytes.indexOf(0, from)) {
      const directory = bytes[end - 1] === SLASH;
      if (end > from && (kind === 'all' || (kind === 'directories') === directory)) {
        names.push(bytes.subarray(from, directory ? end - 1 : end));
      }
      from = end + 1;
    }
    rest = bytes.subarray(from);
    if (names.length > 0) yield names;
  }
  if (rest.length > 0) throw new BulkhaulError('LIST', `the list is cut short: ${path}`);
}

/** Names as a program reads them, each with `end` after it. */
export async function* written(
  names: AsyncIterable<readonly Buffer[]>,
  end: Buffer,
  form: (name: Buffer) => Buffer | undefined = (name) => name,
): AsyncGenerator<Buffer> {
  for await (const batch of names) {
    yield Buffer.concat(
      batch.flatMap((name) => {
        const text = form(name);
        return text === undefined ? [] : [text, end];
      }),
    );
  }
}
