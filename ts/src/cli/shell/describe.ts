/**
 * A command as completion and manual pages see it: what a verb or a drop-in declares in, one form for both out.
 *
 * It is made of the tables that the help is made of, so what they know they can't tell differently.
 */
import { type DropInPage, told } from '../dropin/argparse.js';
import { paragraphs } from '../layout.js';
import { type Declaration, declared, GROUPS, type Verb } from '../options.js';

/** A row of the table of commands, as far as it is told. */
export interface Told {
  readonly name: string;
  readonly summary: string;
  /** What it is: one of both. */
  readonly verb?: Verb | undefined;
  readonly page?: DropInPage | undefined;
}

/** What a value is, as far as a shell can help with it. */
export type ValueKind =
  | { readonly kind: 'file' | 'directory' | 'job' | 'other' }
  | { readonly kind: 'choice'; readonly of: readonly string[] };

export interface DescribedOption {
  /** All spellings, with their dashes. */
  readonly names: readonly string[];
  /** The word for its value; absent: it has none. */
  readonly value?: string | undefined;
  readonly is: ValueKind;
  /** How many values it takes. */
  readonly takes: 'none' | 'one' | 'optional' | 'many';
  readonly repeatable: boolean;
  readonly help: string;
}

export interface Described {
  readonly name: string;
  readonly summary: string;
  /** It reads `-ab` as one option. */
  readonly dropIn: boolean;
  /** It is called by its own name too. */
  readonly ownName: boolean;
  readonly operands: string;
  readonly operand: ValueKind;
  /** What the first operand is one of; empty: it is as the others. */
  readonly first: readonly string[];
  /** Paragraphs, with words of the command line in backticks. */
  readonly about: readonly string[];
  readonly groups: readonly { readonly title: string; readonly options: readonly DescribedOption[] }[];
  /** What each does, and the line. */
  readonly examples: readonly (readonly [string, string])[];
}

/** All options of a command, in their order. */
export const optionsOf = ({ groups }: Described): DescribedOption[] => groups.flatMap(({ options }) => options);

export function describe({ name, summary, verb, page }: Told): Described {
  if (page !== undefined) return ofPage(name, summary, page);
  if (verb !== undefined) return ofVerb(name, summary, verb);
  return {
    name,
    summary,
    dropIn: false,
    ownName: false,
    operands: '',
    operand: OTHER,
    first: [],
    about: [],
    groups: [],
    examples: [],
  };
}

/** Names that other tools have too: they are completed as `bulkhaul NAME` only, and so are their pages called. */
const OTHERS_HAVE = ['dsync'];

const OTHER: ValueKind = { kind: 'other' };
const HELP = 'Show this help';

function ofVerb(name: string, summary: string, verb: Verb): Described {
  const { options, operands } = declared(verb);
  const shown = options.filter(({ names }) => !names.some((each) => each in verb.idle));
  const groups = Object.entries(GROUPS).flatMap(([group, title]) => {
    const those = shown.filter((option) => option.group === group).map(ofDeclaration);
    return those.length > 0 ? [{ title, options: those }] : [];
  });
  const help: DescribedOption = { names: ['-h', '--help'], takes: 'none', is: OTHER, repeatable: false, help: HELP };
  const { details = '', examples = [] } = verb.usage ?? {};
  return {
    ...{ name, summary, dropIn: false, ownName: false, operands: operands.words, operand: kindOf(operands.words) },
    first: operands.first,
    about: paragraphs(details),
    groups: [...groups, { title: 'Help', options: [help] }],
    examples: examples.map(([what, line]) => [what, line.replaceAll('$0', 'bulkhaul')] as const),
  };
}

function ofDeclaration({
  names,
  value,
  help,
  choices,
  default: standard,
  repeatable = false,
}: Declaration): DescribedOption {
  const more = standard === undefined ? help : `${help} (default: ${standard})`;
  const is: ValueKind = choices === undefined ? kindOf(value ?? '') : { kind: 'choice', of: choices };
  return { names, value, is, takes: value === undefined ? 'none' : 'one', repeatable, help: more };
}

/** What a word for a value or for operands stands for. */
function kindOf(word: string): ValueKind {
  if (/\bJOB\b/.test(word)) return { kind: 'job' };
  if (/\bDIR\b/.test(word)) return { kind: 'directory' };
  const [, choices] = /^\{(.+)\}$/.exec(word) ?? [];
  if (choices !== undefined) return { kind: 'choice', of: choices.split(',') };
  const shells = /^\[?(\w+(?:\|\w+)+)\]?$/.exec(word)?.[1];
  if (shells !== undefined) return { kind: 'choice', of: shells.split('|') };
  return /\b(?:FILE|LIST|PATH|SRC|DEST|DST|MANIFEST|src|path|file)/.test(word) ? { kind: 'file' } : OTHER;
}

function ofPage(name: string, summary: string, page: DropInPage): Described {
  const { flags, operands, about, examples, choices = {} } = page;
  const group = (title: string, own: boolean) => ({
    title,
    options: Object.entries(flags)
      .filter(([, { rank }]) => (rank === 2) === own)
      .map(([key, flag]): DescribedOption => {
        const { names, takes, metavar = key.toUpperCase() } = flag;
        const of = choices[key];
        return {
          ...{ names, value: takes === 'none' ? undefined : metavar, help: told(flag) },
          is: of === undefined ? kindOf(metavar) : { kind: 'choice', of },
          takes: takes === 'text' || takes === 'int' || takes === 'texts' ? 'one' : takes,
          repeatable: takes === 'texts' || takes === 'many',
        };
      }),
  });
  const groups = [group('As in the original', false), group('Added by bulkhaul', true)];
  const ownName = !OTHERS_HAVE.includes(name);
  return {
    name,
    summary,
    dropIn: true,
    ownName,
    operands,
    operand: kindOf(operands),
    first: [],
    about,
    groups,
    examples,
  };
}
