/** Completion for zsh: commands in, the file `_bulkhaul` for a directory of `fpath` out. */
import { type Described, type DescribedOption, optionsOf, type ValueKind } from './describe.js';

/** @param names what the script is for: `bulkhaul` and the drop-ins. */
export function zsh(commands: readonly Described[], names: readonly string[], version: string): string {
  const table = commands.map(({ name, summary }) => `      ${quoted(`${name}:${summary}`)}`).join('\n');
  return `#compdef ${names.join(' ')}
# Completion of ${names.join(', ')} for zsh (bulkhaul ${version}).

_bulkhaul_jobs() {
  local -a jobs=(\${XDG_STATE_HOME:-$HOME/.local/state}/bulkhaul/jobs/*(N:t))
  compadd -a jobs
}

_bulkhaul() {
  local command=$service
  if [[ $service == bulkhaul ]]; then
    local -a commands=(
${table}
    )
    if (( CURRENT == 2 )); then
      commands+=('help:Describe a command' 'version:Print the version')
      _describe -t commands command commands
      return
    fi
    command=$words[2]
    if [[ $command == help ]]; then
      (( CURRENT > 3 )) || _describe -t commands command commands
      return
    fi
    shift words
    (( CURRENT-- ))
  fi
  case $command in
${commands.map(commandCase).join('\n')}
  esac
}

# Loaded with a name of fpath it is to complete at once; sourced, it is only declared, also where nobody has begun completion yet.
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _bulkhaul "$@"
else
  (( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i -D }
  compdef _bulkhaul ${names.join(' ')}
fi
`;
}

function commandCase(command: Described): string {
  const operands = action(command.operand);
  // Verbs put letters together as getopt does; drop-ins have names of several letters behind one dash.
  const specs = [
    ...optionsOf(command).map((option) => spec(option, command.dropIn)),
    ...(command.first.length === 0 ? [] : [quoted(`1:${escaped(command.operands)}:(${command.first.join(' ')})`)]),
    ...(command.operands === '' ? [] : [quoted(`*:${escaped(command.operands)}:${operands}`)]),
  ];
  const style = command.dropIn ? '-S' : '-s -S';
  return `    ${command.name})\n      _arguments ${style} : \\\n        ${specs.join(' \\\n        ')}\n      ;;`;
}

function spec({ names, value, takes, is, repeatable, help }: DescribedOption, dropIn: boolean): string {
  const others = repeatable ? '*' : names.length > 1 ? `(${names.join(' ')})` : '';
  const told = `[${escaped(help.split(/[;.] /, 1)[0] ?? help)}]`;
  const word = escaped(value ?? '');
  const ends = { none: '', one: `:${word}:${action(is)}`, optional: `::${word}:${action(is)}` };
  const end = takes === 'many' ? `:*-*:${word}:${action(is)}` : ends[takes];
  // A value may stand behind a letter at once, and behind = after a name.
  const shown = names.map((name) =>
    takes !== 'one' || dropIn ? name : name.startsWith('--') ? `${name}=` : `${name}+`,
  );
  if (shown.length === 1) return quoted(`${others}${shown[0]}${told}${end}`);
  return `${others === '' ? '' : quoted(others)}{${shown.map(quoted).join(',')}}${quoted(`${told}${end}`)}`;
}

function action(is: ValueKind): string {
  switch (is.kind) {
    case 'file':
      return '_files';
    case 'directory':
      return '_path_files -/';
    case 'choice':
      return `(${is.of.join(' ')})`;
    case 'job':
      return '_bulkhaul_jobs';
    case 'other':
      return ' ';
  }
}

/** Text within a spec. */
const escaped = (text: string) => text.replace(/[\\:[\]]/g, '\\$&');

const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
