/** The page of a drop-in's help: its usage, words, flags and examples in, a page of a given width out. */
import { commandLine, row, wrap } from '../layout.js';
import { type DropInPage, type Flag, spellings, told } from './argparse.js';

/** The page, and what only the help has. */
export interface Page extends DropInPage {
  /** The usage, wrapped at this width. */
  usage: (width: number) => string;
  /** The original, with what of it. */
  original: string;
}

export function helpPage({ usage, about, original, flags, examples }: Page, width: number): string {
  const [first = '', ...after] = about;
  const put = (keys: (key: string, flag: Flag) => boolean) =>
    Object.entries<Flag>(flags)
      .filter(([key, flag]) => keys(key, flag))
      .map(([key, flag]) => row(spellings(key, flag), `${told(flag)}.`, width));
  return [
    usage(width),
    '',
    wrap(first, width),
    '',
    `As in ${original}`,
    ...put((_, { rank }) => rank !== 2),
    '',
    'Added by bulkhaul',
    ...put((_, { rank }) => rank === 2),
    '',
    ...after.flatMap((paragraph) => [wrap(paragraph, width), '']),
    'Examples',
    ...examples.flatMap(([what, line]) => [wrap(`${what}:`, width, '  '), commandLine(line, width)]),
    '',
    wrap('docs/dropin.md has every flag and every deliberate difference from the original.', width),
    '',
  ].join('\n');
}
