/** The page of a drop-in's help: its usage, words, flags and examples in, a page of a given width out. */
import { commandLine, row, wrap } from '../layout.js';
import { type Flag, type FlagTable, spellings } from './argparse.js';

export interface Page {
  /** The usage, wrapped at this width. */
  usage: (width: number) => string;
  /** What it does. */
  about: string;
  /** The original, with what of it. */
  original: string;
  flags: FlagTable;
  /** Flags that have no effect yet, and what is said of them. */
  later?: { title: string; keys: readonly string[] };
  /** A paragraph after the flags, such as the exit codes. */
  after?: string;
  /** What each does, and the command line. */
  examples: readonly (readonly [string, string])[];
}

export function helpPage({ usage, about, original, flags, later, after, examples }: Page, width: number): string {
  const put = (keys: (key: string, flag: Flag) => boolean) =>
    Object.entries<Flag>(flags)
      .filter(([key, flag]) => keys(key, flag))
      .map(([key, flag]) => row(spellings(key, flag), flag.help, width));
  const isLater = (key: string) => later?.keys.includes(key) ?? false;
  return [
    usage(width),
    '',
    wrap(about, width),
    '',
    `As in ${original}`,
    ...put((key, { rank }) => rank !== 2 && !isLater(key)),
    '',
    'Added by bulkhaul',
    ...put((key, { rank }) => rank === 2 && !isLater(key)),
    '',
    ...(later ? [later.title, ...put(isLater), ''] : []),
    ...(after === undefined ? [] : [wrap(after, width), '']),
    'Examples',
    ...examples.flatMap(([what, line]) => [wrap(`${what}:`, width, '  '), commandLine(line, width)]),
    '',
    wrap('docs/dropin.md has every flag and every deliberate difference from the original.', width),
    '',
  ].join('\n');
}
