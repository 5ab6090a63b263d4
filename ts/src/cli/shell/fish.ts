/** Completion for fish: commands in, a script for one name out. */
import { type Described, type DescribedOption, optionsOf, type ValueKind } from './describe.js';

/** @param name whose arguments are completed: `bulkhaul`, which has all commands as its first word, or a drop-in. */
export function fish(commands: readonly Described[], name: string, version: string): string {
  const head = `# Completion of ${name} for fish (bulkhaul ${version}).\n`;
  const own = commands.find((each) => each.dropIn && each.name === name);
  if (own !== undefined) return [head, ...ofCommand(own, name, '')].join('\n').concat('\n');
  const first = [
    ...commands.map(({ name, summary }) => [name, summary] as const),
    ['help', 'Describe a command'],
    ['version', 'Print the version'],
  ] as const;
  return [
    head,
    'function __bulkhaul_is',
    '    set -l words (commandline -opc)',
    '    test (count $words) -gt 1; and contains -- $words[2] $argv',
    'end',
    '',
    'function __bulkhaul_first',
    '    test (count (commandline -opc)) -eq 1',
    'end',
    '',
    ...first.map(([word, summary]) => `complete -c ${name} -n __bulkhaul_first -f -a ${word} -d ${quoted(summary)}`),
    ...commands.map(
      ({ name: word, summary }) =>
        `complete -c ${name} -n '__bulkhaul_is help; and test (count (commandline -opc)) -eq 2' -f -a ${word} -d ${quoted(summary)}`,
    ),
    ...commands.flatMap((command) => ['', ...ofCommand(command, name, ` -n '__bulkhaul_is ${command.name}'`)]),
    '',
  ].join('\n');
}

function ofCommand(command: Described, name: string, when: string): string[] {
  const operand = command.operand.kind === 'file' ? [] : [`complete -c ${name}${when} -f${argument(command.operand)}`];
  const first =
    command.first.length === 0
      ? []
      : [
          `complete -c ${name} -n '__bulkhaul_is ${command.name}; and test (count (commandline -opc)) -eq 2' -f -a ${quoted(command.first.join(' '))}`,
        ];
  return [...operand, ...first, ...optionsOf(command).map((option) => `complete -c ${name}${when}${ofOption(option)}`)];
}

function ofOption({ names, takes, is, help }: DescribedOption): string {
  const spelled = names.map((each) =>
    each.startsWith('--')
      ? ` -l ${each.slice(2)}`
      : each.length === 2
        ? ` -s ${each.slice(1)}`
        : ` -o ${each.slice(1)}`,
  );
  const value = takes === 'none' || takes === 'optional' ? '' : is.kind === 'file' ? ' -r' : ` -x${argument(is)}`;
  return `${spelled.join('')}${value} -d ${quoted(help.split(/[;.] /, 1)[0] ?? help)}`;
}

function argument(is: ValueKind): string {
  switch (is.kind) {
    case 'directory':
      return ` -a '(__fish_complete_directories)'`;
    case 'choice':
      return ` -a ${quoted(is.of.join(' '))}`;
    case 'job':
      return ` -a '(set -q XDG_STATE_HOME; or set -l XDG_STATE_HOME ~/.local/state; path basename $XDG_STATE_HOME/bulkhaul/jobs/* 2>/dev/null; or basename -a $XDG_STATE_HOME/bulkhaul/jobs/* 2>/dev/null)'`;
    case 'file':
    case 'other':
      return '';
  }
}

const quoted = (text: string) => `'${text.replace(/['\\]/g, '\\$&')}'`;
