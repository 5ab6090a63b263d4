/** Manual pages: a command in, its page in the language of man(7) out. */
import type { Described, DescribedOption } from './describe.js';

/** What every page has at its edges. */
export interface Edition {
  readonly version: string;
  /** The day of the edition, as 2026-11-30; empty: not known. */
  readonly date: string;
}

/** The page of a command: `bulkhaul-copy(1)`, `hpcp(1)`. */
function commandPage(command: Described, others: readonly Described[], edition: Edition): string {
  const { name, dropIn, ownName, summary, operands, about, groups, examples } = command;
  const title = pageName(command);
  const call = ownName ? name : `bulkhaul ${name}`;
  const options = groups.flatMap(({ title, options }) => [`.SS ${text(title)}`, ...options.flatMap(entry)]);
  return [
    header(title, edition),
    '.SH NAME',
    `${text(title)} \\- ${text(summary)}`,
    '.SH SYNOPSIS',
    `.B ${text(call)}`,
    `[\\fIOPTIONS\\fR] ${text(operands)}`,
    '.SH DESCRIPTION',
    ...paragraphs(about.length > 0 ? about : [`${summary}.`]),
    ...(options.length > 0 ? ['.SH OPTIONS', ...options] : []),
    ...(examples.length > 0 ? ['.SH EXAMPLES', ...examples.flatMap(example).slice(1)] : []),
    '.SH SEE ALSO',
    references(['bulkhaul', ...others.filter((each) => each.dropIn === dropIn && each !== command).map(pageName)]),
    '',
  ].join('\n');
}

/** `bulkhaul(1)`. */
function overviewPage(commands: readonly Described[], edition: Edition): string {
  return [
    header('bulkhaul', edition),
    '.SH NAME',
    'bulkhaul \\- move bulk data fast and prove that it arrived',
    '.SH SYNOPSIS',
    '.B bulkhaul',
    '\\fICOMMAND\\fR [\\fIOPTIONS\\fR] \\fIARGUMENTS\\fR',
    '.SH DESCRIPTION',
    ...paragraphs([
      'Copies, compares, lists, verifies and removes trees in parallel. Every entry found ends in exactly one outcome, counted twice; a name never shows partial content; what was interrupted goes on when the same command is given again.',
      'Data goes to standard output; the status, failures, notes and the verdict go to standard error.',
    ]),
    '.SH COMMANDS',
    ...commands.flatMap((each) => [
      '.TP',
      `.B ${text(each.name)}`,
      `${text(each.summary)}; see \\fB${text(pageName(each))}\\fR(1).`,
    ]),
    '.SH EXIT STATUS',
    ...EXIT.flatMap(([code, meaning]) => ['.TP', `.B ${code}`, text(meaning)]),
    '.SH ENVIRONMENT',
    ...ENVIRONMENT.flatMap(([name, meaning]) => ['.TP', `.B ${text(name)}`, text(meaning)]),
    '.SH SEE ALSO',
    references(commands.map(pageName)),
    '',
  ].join('\n');
}

/** The name of the page of a command. */
const pageName = ({ name, ownName }: Described) => (ownName ? name : `bulkhaul-${name}`);

const EXIT = [
  ['0', 'complete'],
  ['1', 'a verification found a mismatch, or a comparison a difference'],
  ['2', 'usage, or an error before work began'],
  ['3', 'safety stop: a promise would have been broken'],
  ['23', 'some entries failed, are missing or in conflict'],
  ['24', 'some entries vanished after they were found, or changed'],
  ['70', 'a defect of bulkhaul'],
  ['130', 'interrupted; the same command goes on'],
] as const;

const ENVIRONMENT = [
  ['BULKHAUL_PROGRESS_INTERVAL', 'Seconds between lines of the status off a terminal; 0: none.'],
  ['NO_COLOR', 'If it is set there are no colours.'],
  ['TMPDIR', 'Where temporary files go that may grow large; else /var/tmp.'],
  ['XDG_STATE_HOME', 'Journals are kept in bulkhaul/jobs below it; else below ~/.local/state.'],
] as const;

function header(title: string, { version, date }: Edition): string {
  return `.TH ${text(title.toUpperCase())} 1 "${date}" "bulkhaul ${text(version)}" "bulkhaul"`;
}

function entry({ names, value, takes, help }: DescribedOption): string[] {
  const word = `\\fI${text(value ?? '')}\\fR`;
  const shown = { none: '', one: ` ${word}`, optional: ` [${word}]`, many: ` [${word} ...]` }[takes];
  return ['.TP', names.map((name) => `\\fB${text(name)}\\fR`).join(', ') + shown, marked(help)];
}

function example([what, line]: readonly [string, string]): string[] {
  return ['.PP', text(/[?!]$/.test(what) ? what : `${what}:`), '.nf', '.RS', text(line), '.RE', '.fi'];
}

/** Below a title: the first needs no sign that it begins. */
const paragraphs = (all: readonly string[]) => all.flatMap((each) => ['.PP', marked(each)]).slice(1);

/** A list of other pages. */
const references = (names: readonly string[]) =>
  [...new Set(names)].map((name) => `.BR ${text(name)} (1)`).join(' ,\n');

/** Text where words of the command line stand in backticks. */
function marked(paragraph: string): string {
  return paragraph
    .split('`')
    .map((part, at) => (at % 2 === 1 ? `\\fB${escaped(part)}\\fR` : escaped(part)))
    .join('')
    .replace(/^(?=[.'])/, '\\&');
}

const text = (plain: string) => escaped(plain).replace(/^(?=[.'])/, '\\&');

/** Characters that roff takes for others. */
function escaped(plain: string): string {
  const roff: Readonly<Record<string, string>> = {
    '\\': '\\e',
    '-': '\\-',
    "'": '\\(aq',
    '^': '\\(ha',
    '~': '\\(ti',
    '`': '\\(ga',
  };
  return plain.replace(/[\\\-'^~`]/g, (character) => roff[character] ?? character);
}

/** All pages, by the names of their files. */
export function pages(commands: readonly Described[], edition: Edition): ReadonlyMap<string, string> {
  return new Map([
    ['bulkhaul.1', overviewPage(commands, edition)],
    ...commands.map((each) => [`${pageName(each)}.1`, commandPage(each, commands, edition)] as const),
  ]);
}
