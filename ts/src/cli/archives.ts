/** What the commands that make archives share: of which files, in which form, and with how much memory. */
import { lstatSync } from 'node:fs';
import { BulkhaulError } from '../error.js';
import { display, toBytes } from '../names.js';
import type { ArchiveForm } from '../native/options.js';
import { choice, flag, number, value, values } from './options.js';
import { parseSize } from './values.js';

const FORMATS = ['bgzf', 'gzip', 'xz', 'zstd'] as const;

const WORDS = { group: 'what', value: 'EXT', default: 'all files' } as const;

/** The ends of names, where all operands are there; `does`: what becomes of such files. Several may follow the option, as in other tools: what is no path is one more, behind all operands. */
export function extensions(does: string): string[] {
  const help = `${does}, in any case: tsv, or several parts, tar.foo; several as tsv,tar.foo, or one after the other behind all PATHs`;
  return values('--ext', { ...WORDS, help }, isNoPath);
}

/** The same, where the last operand need not be there yet. What may have been meant as one more extension never is the destination. */
export function extensionsBefore(does: string): string[] {
  const help = `${does}, in any case: tsv, or several parts, tar.foo; a comma stands between several`;
  return values('--ext', { ...WORDS, help }, (word, given, operands) => {
    if (operands.length < 2 || !isNoPath(word)) return false;
    const [meant, ext] = [display([...given, word].join(',')), display(given.join(','))];
    throw new BulkhaulError(
      'USAGE',
      `${display(word)} comes after --ext, and is not there: for one more extension, --ext ${meant}; for the destination, --ext ${ext} before SRC`,
    );
  });
}

function isNoPath(word: string): boolean {
  return !word.includes('/') && word !== '-' && lstatSync(toBytes(word), { throwIfNoEntry: false }) === undefined;
}

/** The same, one by one, where there are any. */
export function extensionsOf(given: readonly string[]): { extensions?: string[] } {
  const extensions = given.flatMap((each) => each.split(','));
  return extensions.length > 0 ? { extensions } : {};
}

/** The least size; `does`: what becomes of smaller files. */
export function minSize(does: string): number | undefined {
  const words = { group: 'what', value: 'SIZE', default: '0' } as const;
  return value('--min-size', { ...words, help: `${does}: bytes, or with K, M or G` }, parseSize);
}

export function memory(): number | undefined {
  return value(
    '--memory',
    {
      ...{ group: 'speed', value: 'SIZE', default: 'half of what may be used' },
      help: 'Memory for compressors, with K, M or G; with little of it fewer workers are at work',
    },
    parseSize,
  );
}

export function format() {
  return choice('--format', FORMATS, {
    ...{ group: 'how', value: 'FORM', default: 'bgzf' },
    help: 'Form of the archives: bgzf and gzip (.gz), xz (.xz), zstd (.zst)',
  });
}

export function level(): number | undefined {
  return number('--level', 0, 100, {
    ...{ group: 'how', value: 'N', default: '6, of zstd 3' },
    help: 'From the fastest to the smallest: bgzf and gzip 1 to 12, xz 0 to 9, zstd 1 to 19',
  });
}

export function index(): boolean {
  return flag('--index', { group: 'how', help: 'Write an index (.gzi) beside each archive, for random access' });
}

export function verifySource(help: string): boolean {
  return flag('--verify-source', { group: 'how', help });
}

/** How archives are made, as options of an operation. Throws `USAGE` for what does not go together. */
export function archiveForm({ format = 'bgzf', level, index = false, verifySource = false }: ArchiveForm): ArchiveForm {
  if (index && format !== 'bgzf') throw new BulkhaulError('USAGE', '--index goes with --format bgzf');
  return { format, index, ...(level !== undefined && { level }), ...(verifySource && { verifySource }) };
}
