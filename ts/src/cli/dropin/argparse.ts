/**
 * Command lines in the manner of Python's argparse, for the drop-ins whose originals use it.
 *
 * Comes in: a table of flags and the arguments; goes out: a typed value for each flag and the positionals, or a
 * `UsageError` of one sentence that names the flag. It promises argparse's rules: single-dash names of several letters
 * (`-fh`), attached values (`-j8`, `-e*.o`, `-d=DIR`), combined letters (`-sv`), unique prefixes, positionals between
 * options, negative numbers as values. Unlike argparse's intermixed mode, everything after `--` is a positional.
 */

/** What a flag takes: nothing, one value, one value or none (`optional`), or all values that follow (`many`). */
export type Takes = 'none' | 'text' | 'texts' | 'int' | 'optional' | 'many';

/** One flag; its key in the table is the name of its value. */
export interface Flag {
  /** All spellings, the long one last. */
  readonly names: readonly string[];
  /** `text` and `int`: the last one wins; `texts` and `many`: every one counts. */
  readonly takes: Takes;
  /** Name of the value in the usage. */
  readonly metavar?: string;
  readonly help: string;
  /** What holds where it is not given, if the words for it do not say so. */
  readonly default?: string;
  /** Prefixes are looked for in rank 0 first; a higher rank is asked only when the lower ones have no match. */
  readonly rank: number;
  /** At most one flag of a group may be given. */
  readonly group?: string;
}

export type FlagTable = Readonly<Record<string, Flag>>;

/** What the help, completion and the manual page of a drop-in tell. */
export interface DropInPage {
  readonly flags: FlagTable;
  /** Words for the positionals. */
  readonly operands: string;
  /** Paragraphs; the help has the first before the flags, the others after them. */
  readonly about: readonly string[];
  /** What each does, and the line. */
  readonly examples: readonly (readonly [string, string])[];
  /** The words that the value of a flag may be. */
  readonly choices?: Readonly<Record<string, readonly string[]>>;
}

interface ValueOf {
  none: boolean;
  text: string | undefined;
  int: number | undefined;
  /** true: given without a value. */
  optional: string | true | undefined;
  texts: readonly string[];
  /** undefined: not given. */
  many: readonly string[] | undefined;
}

/** The values of a table's flags. */
export type Values<Table extends FlagTable> = { readonly [Key in keyof Table]: ValueOf[Table[Key]['takes']] };

export interface Parsed<Table extends FlagTable> {
  readonly values: Values<Table>;
  readonly positionals: readonly string[];
  /** The flags that were given, in the table's order. */
  readonly given: readonly (keyof Table & string)[];
}

/** The command line can't be understood; the message is one sentence. */
export class UsageError extends Error {
  override readonly name = 'UsageError';

  constructor(
    message: string,
    /** An option that is not there, and those that are. */
    readonly unknown?: { readonly given: string; readonly known: readonly string[] },
  ) {
    super(message);
  }
}

/** What an option that is not there was meant to be, if that is near. */
export async function suggestion({ unknown }: UsageError): Promise<string> {
  if (!unknown?.given.startsWith('--')) return '';
  const { nearest } = await import('../../nearest.js');
  const meant = nearest(unknown.given, unknown.known);
  return meant === undefined ? '' : `; did you mean ${meant}?`;
}

/** One reading of an argument as an option. */
interface Match {
  key: string;
  spelling: string;
  /** The value in the same argument: after `=`, or attached to a single letter. */
  attached: string | undefined;
}

const NEGATIVE_NUMBER = /^-(\d+|\d*\.\d+)$/;
const INTEGER = /^\s*[+-]?\d+(_\d+)*\s*$/;

/** Reads `args`. Throws `UsageError`. */
export function parse<Table extends FlagTable>(table: Table, args: readonly string[]): Parsed<Table> {
  const names = new Map<string, string>();
  for (const [key, flag] of Object.entries(table)) for (const name of flag.names) names.set(name, key);

  const end = args.indexOf('--');
  const options = end < 0 ? args : args.slice(0, end);
  const matches = options.map((argument) => recognise(table, names, argument));
  const positionals: string[] = [];
  const collected = new Map<string, string[]>();

  const flagOf = (key: string): Flag => {
    const flag = table[key];
    if (flag === undefined) throw new TypeError(`no flag ${key}`);
    return flag;
  };
  const take = (key: string, values: readonly string[]) => {
    const flag = flagOf(key);
    for (const other of collected.keys()) {
      if (flag.group !== undefined && other !== key && flagOf(other).group === flag.group) {
        throw fault(flag, `not allowed with argument ${flagOf(other).names.join('/')}`);
      }
    }
    if (flag.takes === 'int' && !INTEGER.test(values[0] ?? ''))
      throw fault(flag, `'${values[0]}' is not a whole number`);
    const before = flag.takes === 'texts' || flag.takes === 'many' ? (collected.get(key) ?? []) : [];
    collected.set(key, [...before, ...values]);
  };

  for (let at = 0; at < options.length; ) {
    let match = matches[at];
    if (match === undefined) {
      positionals.push(options[at++] ?? '');
      continue;
    }
    at++;
    // `-sv`: letters without a value, then one that may take the rest as its value.
    while (match.attached !== undefined && flagOf(match.key).takes === 'none') {
      const spelling: string = `-${match.attached.slice(0, 1)}`;
      const key = names.get(spelling);
      if (match.spelling.startsWith('--') || match.attached === '' || key === undefined) {
        throw fault(flagOf(match.key), `takes no value, '${match.attached}' was given`);
      }
      take(match.key, []);
      match = { key, spelling, attached: match.attached.slice(1) || undefined };
    }
    const { key, attached } = match;
    const flag = flagOf(key);
    if (attached !== undefined || flag.takes === 'none') {
      take(key, attached === undefined ? [] : [attached]);
      continue;
    }
    const limit = flag.takes === 'many' ? Number.POSITIVE_INFINITY : 1;
    const values: string[] = [];
    while (at < options.length && matches[at] === undefined && values.length < limit) values.push(options[at++] ?? '');
    if (values.length === 0 && flag.takes !== 'optional' && flag.takes !== 'many') throw fault(flag, 'needs a value');
    take(key, values);
  }
  if (end >= 0) positionals.push(...args.slice(end + 1));

  const values = Object.fromEntries(Object.keys(table).map((key) => [key, typed(flagOf(key), collected.get(key))]));
  const given = Object.keys(table).filter((key) => collected.has(key));
  // Each value was made for its flag's `takes`, which the compiler can't follow through the map.
  return { values: values as unknown as Values<Table>, positionals, given };
}

function fault(flag: Flag, what: string): UsageError {
  return new UsageError(`argument ${flag.names.join('/')}: ${what}`);
}

function typed(flag: Flag, given: readonly string[] | undefined): ValueOf[Takes] {
  switch (flag.takes) {
    case 'none':
      return given !== undefined;
    case 'text':
      return given?.[0];
    case 'int':
      return given === undefined ? undefined : Number((given[0] ?? '').trim().replaceAll('_', ''));
    case 'optional':
      return given === undefined ? undefined : (given[0] ?? true);
    case 'texts':
      return given ?? [];
    case 'many':
      return given;
  }
}

/** The flags of the original. */
export function original(table: FlagTable): Record<string, Flag> {
  return Object.fromEntries(Object.entries(table).filter(([, { rank }]) => rank === 0));
}

/** The values of flags that must be given, and say something. Throws `UsageError`. */
export function demand<Key extends string, const Keys extends readonly Key[]>(
  table: Readonly<Record<Key, Flag>>,
  values: Readonly<Record<Key, unknown>>,
  ...keys: Keys
): { [At in keyof Keys]: string } {
  const spelt = (key: Key) => table[key].names.join('/');
  const missing = keys.filter((key) => values[key] === undefined);
  if (missing.length > 0)
    throw new UsageError(`the following arguments are required: ${missing.map(spelt).join(', ')}`);
  const empty = keys.find((key) => values[key] === '');
  if (empty !== undefined) throw new UsageError(`argument ${spelt(empty)}: it is empty`);
  return keys.map((key) => String(values[key])) as { [At in keyof Keys]: string };
}

/** One of several words. Throws `UsageError`. */
export function chosen<const Choice extends string>(flag: string, choices: readonly Choice[], given: string): Choice {
  const choice = choices.find((each) => each === given);
  if (choice !== undefined) return choice;
  throw new UsageError(`argument ${flag}: '${given}' is none of ${choices.join(', ')}`);
}

/** The option that an argument means; undefined: it is a value or a positional. */
function recognise(table: FlagTable, names: ReadonlyMap<string, string>, argument: string): Match | undefined {
  if (!argument.startsWith('-') || argument === '-') return undefined;
  const exact = names.get(argument);
  if (exact !== undefined) return { key: exact, spelling: argument, attached: undefined };

  const equals = argument.indexOf('=');
  const head = equals < 0 ? argument : argument.slice(0, equals);
  const tail = equals < 0 ? undefined : argument.slice(equals + 1);
  const named = tail === undefined ? undefined : names.get(head);
  if (named !== undefined) return { key: named, spelling: head, attached: tail };

  const long = argument.startsWith('--');
  const readings = [...names].flatMap(([name, key]): Match[] => {
    if (long) return name.startsWith(head) ? [{ key, spelling: name, attached: tail }] : [];
    if (name === argument.slice(0, 2)) return [{ key, spelling: name, attached: argument.slice(2) }];
    return name.startsWith(argument) ? [{ key, spelling: name, attached: undefined }] : [];
  });
  const lowest = Math.min(...readings.map(({ key }) => table[key]?.rank ?? 0));
  const candidates = readings.filter(({ key }) => table[key]?.rank === lowest);
  const [first] = candidates;
  if (
    first !== undefined &&
    candidates.every(({ key, attached }) => key === first.key && attached === first.attached)
  ) {
    return first;
  }
  if (candidates.length > 1) {
    const spellings = candidates.map(({ spelling }) => spelling).join(', ');
    throw new UsageError(`option ${head} is ambiguous: it could be ${spellings}`);
  }
  if (NEGATIVE_NUMBER.test(argument) || argument.includes(' ')) return undefined;
  throw new UsageError(`no such option: ${head}`, { given: head, known: [...names.keys()] });
}

/** What help says of a flag, without a full stop. */
export function told({ help, default: standard }: Flag): string {
  const words = help.replace(/\.$/, '');
  return standard === undefined ? words : `${words} (default: ${standard})`;
}

/**
 * The usage text: `usage: NAME [-a] [-b B] … [operands]`, wrapped at `width` columns; where one of them has no room beside the
 * name, all of them stand below it.
 */
export function usage(name: string, table: FlagTable, operands: string, width = 80): string {
  const items = Object.entries(table).map(([key, flag]) => `[${flag.names[0]}${valueText(key, flag)}]`);
  const words = [...items, ...(operands === '' ? [] : [operands])];
  const head = `usage: ${name}`;
  const beside = head.length + 1 + Math.max(0, ...words.map(({ length }) => length)) <= width;
  const indent = ' '.repeat(beside ? head.length + 1 : 4);
  const lines: string[] = beside ? [] : [head];
  let line = beside ? head : indent;
  for (const word of words) {
    const next = line.trim() === '' ? line + word : `${line} ${word}`;
    if (next.length > width && line.trim() !== '') {
      lines.push(line);
      line = indent + word;
    } else line = next;
  }
  return [...lines, line].join('\n');
}

/** All spellings of a flag, and its value. */
export function spellings(key: string, flag: Flag): string {
  return flag.names.join(', ') + valueText(key, flag);
}

function valueText(key: string, { takes, metavar = key.toUpperCase() }: Flag): string {
  if (takes === 'none') return '';
  if (takes === 'optional') return ` [${metavar}]`;
  return takes === 'many' ? ` [${metavar} ...]` : ` ${metavar}`;
}
