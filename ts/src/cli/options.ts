/**
 * The options of the native verbs: declared once, with the words that help shows, and read in one way.
 *
 * Comes in: a verb and the arguments of a call; goes out: these arguments in the one form that clipanion reads without a
 * doubt (`--name`, `--name=value`, operands after `--`), or that help is wanted. It promises getopt's rules: `-j4`, `-j 4`,
 * `--jobs 4` and `--jobs=4` are one, letters go together (`-nv`), operands stand anywhere, and all are operands after
 * `--`. What can't be read throws `USAGE` with one sentence, or `UnknownOptions`.
 */
import { BulkhaulError } from '../error.js';
import { display } from '../names.js';
import { noneOf } from '../nearest.js';
import type { MaxDelete } from '../ops/arguments.js';
import { type CommandClass, Option, t } from './parser.js';

/** The groups of the help, in its order. */
export const GROUPS = {
  what: 'What is taken',
  how: 'How it is done',
  safety: 'Safety',
  speed: 'Speed',
  store: 'Object stores',
  output: 'Output',
} as const;

/** What help tells of an option. */
interface Words {
  readonly group: keyof typeof GROUPS;
  /** What it does, without a full stop at the end. */
  readonly help: string;
}

/** The same of an option with a value. */
interface ValueWords extends Words {
  /** A word for the value. */
  readonly value: string;
  /** What holds without the option. */
  readonly default: string;
}

/** One option, as help shows it and the reader knows it. */
export interface Declaration extends Words, Partial<Omit<ValueWords, keyof Words>> {
  /** All spellings, the long one last. */
  readonly names: readonly string[];
  readonly repeatable?: boolean;
  /** All that comes after it is its value, whatever it looks like. */
  readonly rest?: boolean;
  /** The words that its value may be. */
  readonly choices?: readonly string[];
  readonly follows?: Follows;
}

/**
 * Whether a word right behind a value of an option is one more value; else it is an operand, and so is what comes after it.
 * `values`: what the option was given so far, `operands`: those before the word. Throws `USAGE` for what can't be told.
 */
type Follows = (word: string, values: readonly string[], operands: readonly string[]) => boolean;

/** The operands of a verb, in words, and how many it takes. */
interface Operands {
  readonly words: string;
  readonly least: number;
  readonly most: number;
  /** What the first is one of; empty: anything. */
  readonly first: readonly string[];
}

/** A verb, as its reader and its help see it. */
export type Verb = CommandClass & {
  /** Common options that do nothing in this verb, and why. */
  readonly idle: Readonly<Record<string, string>>;
};

/** Reads the text of a value. Throws `USAGE` with the name of the option. */
type Read<T> = (text: string, option: string) => T;

const DECLARED = Symbol('declared');
const OPERANDS = Symbol('operands');

/** An option without a value; `--no-NAME` takes it back. */
export function flag(names: string, words: Words): boolean {
  return declare(Option.Boolean(names, false), [{ ...words, names: names.split(',') }]);
}

/** The same where it also counts that neither was given: undefined then. */
export function either(names: string, words: Words): boolean | undefined {
  return declare(Option.Boolean(names), [{ ...words, names: names.split(',') }]);
}

/** An option with a value; the last one counts. */
export function value(names: string, words: ValueWords): string | undefined;
export function value<T>(names: string, words: ValueWords, read: Read<T>): T | undefined;
export function value(names: string, words: ValueWords, read: Read<unknown> = (text) => text): unknown {
  const declaration = { ...words, names: names.split(',') };
  const option = collect([declaration], (given) => {
    const last = given.at(-1);
    return last && read(last.value, last.option);
  });
  return declare(option, [declaration]);
}

/** An option with a whole number in a range. */
export function number(names: string, least: number, most: number, words: ValueWords): number | undefined {
  const fits = t.isInInclusiveRange(least, most);
  return value(names, words, (text, option) => {
    if (/^[+-]?\d+$/.test(text) && fits(Number(text))) return Number(text);
    throw usage(`${option}: ${text || 'nothing'} is no whole number from ${least} to ${most}`);
  });
}

/** An option with a number of entries, or a part of them: `10%`. */
export function limit(names: string, words: ValueWords): MaxDelete | undefined {
  return value(names, words, (text, option) => {
    if (/^\d+%?$/.test(text)) return text as `${number}%`;
    throw usage(`${option}: ${text} is neither a number of entries nor a percentage`);
  });
}

/** An option whose value is one of these words. */
export function choice<const Choice extends string>(
  names: string,
  choices: readonly Choice[],
  words: ValueWords & { readonly default: NoInfer<Choice> },
): Choice {
  const known = t.isEnum(choices);
  const read: Read<Choice> = (text, option) => {
    if (known(text)) return text;
    throw usage(`${option}: ${noneOf(text, choices)}`);
  };
  const declaration = { ...words, names: names.split(','), choices };
  const option = collect([declaration], (given) => {
    const last = given.at(-1);
    return last === undefined ? words.default : read(last.value, last.option);
  });
  return declare(option, [declaration]);
}

/** An option with a value that may be given again. */
export function values(names: string, words: ValueWords, follows?: Follows): string[] {
  const declaration = { ...words, names: names.split(','), repeatable: true, ...(follows && { follows }) };
  return declare(
    collect([declaration], (given) => given.map(({ value }) => value)),
    [declaration],
  );
}

/** An option that has all the arguments behind it. */
export function rest(names: string, words: ValueWords): string[] {
  const declaration = { ...words, names: names.split(','), rest: true };
  return declare(
    collect([declaration], (given) => given.map(({ value }) => value)),
    [declaration],
  );
}

/** A value, and the option that gave it. */
export interface Given {
  readonly option: string;
  readonly value: string;
}

/** Options whose order among each other counts, or of which one may be given. */
export function together(declarations: readonly Declaration[]): Given[] {
  return declare(
    collect(declarations, (given) => given),
    declarations,
  );
}

/** The rules for names; `exclude`: what becomes of what they exclude, for help; `letter`: a short name for it. */
export function rules(exclude: string, letter: readonly string[] = []): Given[] {
  const words = { group: 'what', value: 'PATTERN', repeatable: true } as const;
  return together([
    {
      ...{ ...words, names: [...letter, '--exclude'], default: 'nothing' },
      help: `${exclude}, by rsync's rules; of all rules, in their order, the first that matches decides`,
    },
    {
      ...{ ...words, names: ['--include'], default: 'nothing' },
      help: 'What PATTERN matches is not excluded by a rule that comes later',
    },
    {
      ...{ ...words, names: ['--exclude-from'], value: 'FILE', default: 'none' },
      help: 'The rules in FILE, one a line: PATTERN excludes, + PATTERN includes, # and ; begin a comment; - is standard input',
    },
  ]);
}

/** What a verb works on. */
export function operands(
  words: string,
  least: number,
  most = Number.POSITIVE_INFINITY,
  first: readonly string[] = [],
): string[] {
  return Object.assign(Option.Rest({ name: words }), { [OPERANDS]: { words, least, most, first } satisfies Operands });
}

/** An option of clipanion that makes its value of all that these declarations were given, in order. */
function collect<T>(declarations: readonly Declaration[], make: (given: Given[]) => T): T {
  const long = new Map(declarations.map(({ names }) => [bound(names.at(-1) ?? ''), names.at(-1) ?? '']));
  return Option.makeCommandOption<T>({
    definition: (builder) => {
      for (const name of long.keys()) builder.addOption({ names: [name], arity: 1 });
    },
    transformer: (_builder, _key, { options }) =>
      make(
        options.flatMap(({ name, value }) => {
          const option = long.get(name);
          return option === undefined ? [] : [{ option, value: String(value) }];
        }),
      ),
  });
}

/** A name as clipanion takes it before `=`: without digits. */
function bound(name: string): string {
  return name.replace(/\d/g, (digit) => String.fromCharCode(97 + Number(digit)));
}

function declare<T>(option: T, declarations: readonly Declaration[]): T {
  // Until a call is read, clipanion's option stands in the place of its value.
  return Object.assign(option as object, { [DECLARED]: declarations }) as T;
}

/** The options of a verb and its operands, as they are declared. */
export function declared(verb: Verb): { options: readonly Declaration[]; operands: Operands } {
  const fields: unknown[] = Object.values(new verb());
  const of = <T>(key: symbol) =>
    fields.flatMap((field) =>
      typeof field === 'object' && field !== null && key in field ? [Reflect.get(field, key) as T] : [],
    );
  const [operands = { words: '', least: 0, most: 0, first: [] }] = of<Operands>(OPERANDS);
  return { options: of<readonly Declaration[]>(DECLARED).flat(), operands };
}

/** Options that the verb does not have, as they were given. */
export class UnknownOptions extends Error {
  override readonly name = 'UnknownOptions';

  constructor(
    readonly given: readonly string[],
    readonly known: readonly string[],
  ) {
    super(`there is no option ${given.join(', ')}`);
  }
}

const HELP = ['-h', '--help'];
const NEGATIVE_NUMBER = /^-(\d+\.?\d*|\.\d+)%?$/;

/** Reads the arguments of a verb. */
export function read(name: string, verb: Verb, args: readonly string[]): string[] | 'help' {
  const { options, operands } = declared(verb);
  const known = new Map(options.flatMap((option) => option.names.map((spelling) => [spelling, option] as const)));
  const unknown: string[] = [];
  const read: string[] = [];
  const rest = [...args];
  const found: string[] = [];
  const valuesOf = new Map<Declaration, string[]>();
  /** The option that a word may be one more value of, and the words that were. */
  let before: Declaration | undefined;
  let more: string[] = [];
  let help = false;

  const give = (option: Declaration, value: string) => {
    valuesOf.set(option, [...(valuesOf.get(option) ?? []), value]);
    read.push(`${bound(option.names.at(-1) ?? '')}=${value}`);
    before = option;
  };

  const take = (spelling: string, attached: string | undefined) => {
    const option = known.get(spelling);
    if (option === undefined) {
      if (HELP.includes(spelling)) help = true;
      else unknown.push(spelling);
      return;
    }
    const long = option.names.at(-1) ?? spelling;
    const why = verb.idle[long];
    if (why !== undefined) throw usage(`${name} has no use for ${spelling}: ${why}`);
    if (option.value === undefined) {
      if (attached !== undefined) throw usage(`${spelling} takes no value, but ${attached} was given`);
      read.push(long);
      return;
    }
    if (option.rest) {
      const all = [...(attached === undefined ? [] : [attached]), ...rest.splice(0)];
      if (all.length === 0) throw usage(`${spelling} needs a value: ${spelling} ${option.value}`);
      read.push(...all.map((each) => `${bound(long)}=${each}`));
      return;
    }
    const value = attached ?? rest.shift();
    if (value === undefined) throw usage(`${spelling} needs a value: ${spelling} ${option.value}`);
    if (attached === undefined && isOption(value)) {
      const joined = spelling.startsWith('--') ? `${spelling}=${value}` : `${spelling}${value}`;
      throw usage(
        `${spelling} needs a value (${option.value}), and ${value} looks like an option; to mean it: ${joined}`,
      );
    }
    give(option, value);
  };
  const takesBack = (spelling: string) => {
    const option = spelling.startsWith('--no-') ? known.get(`--${spelling.slice(5)}`) : undefined;
    return option !== undefined && option.value === undefined;
  };

  for (let argument = rest.shift(); argument !== undefined; argument = rest.shift()) {
    if (argument === '--') {
      found.push(...rest.splice(0));
      continue;
    }
    if (argument === '-' || !argument.startsWith('-')) {
      if (before?.follows?.(argument, valuesOf.get(before) ?? [], found)) {
        give(before, argument);
        more.push(argument);
        continue;
      }
      const [slip] = more;
      if (before !== undefined && slip !== undefined) {
        // It may be an operand that is misspelt: nobody would miss it.
        const meant = `${before.names.at(-1)} ${display((valuesOf.get(before) ?? []).join(','))}`;
        throw new BulkhaulError('USAGE', `there is no ${display(slip)}; did you mean ${meant}?`);
      }
      before = undefined;
      found.push(argument);
      continue;
    }
    before = undefined;
    more = [];
    if (argument.startsWith('--')) {
      const [, spelling = argument, , attached] = /^([^=]+)(=([\s\S]*))?$/.exec(argument) ?? [];
      if (!known.has(spelling) && takesBack(spelling)) read.push(argument);
      else take(spelling, attached);
    } else {
      let letters = argument.slice(1);
      while (letters !== '') {
        const spelling = `-${Array.from(letters)[0] ?? ''}`;
        letters = letters.slice(spelling.length - 1);
        const attached =
          known.get(spelling)?.value !== undefined && letters !== '' ? letters.replace(/^=/, '') : undefined;
        // What follows a letter that is not known is another letter, or its value.
        if (attached !== undefined || (!known.has(spelling) && !/^[a-z]/i.test(letters))) letters = '';
        take(spelling, attached);
      }
    }
  }
  if (help) return 'help';
  if (unknown.length > 0)
    throw new UnknownOptions(
      [...new Set(unknown)],
      [...known.keys()].filter((each) => !(each in verb.idle)),
    );
  const { words, least, most } = operands;
  if (found.length < least) {
    const given = found.length === 0 ? 'nothing was given' : `only ${found.join(' ')} was given`;
    throw usage(`${name} takes ${words}, and ${given}`);
  }
  if (found.length > most) throw usage(`${name} takes ${words}, and ${found.length} were given`);
  return [...read, '--', ...found];
}

/** Whether somebody meant an option, not the value of the one before. */
function isOption(argument: string): boolean {
  return argument === '--' || (/^--?[^\s-]\S*$/.test(argument) && !NEGATIVE_NUMBER.test(argument));
}

function usage(sentence: string): BulkhaulError {
  return new BulkhaulError('USAGE', sentence);
}
