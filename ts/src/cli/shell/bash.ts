/**
 * Completion for bash (4.2 and newer; it needs nothing else installed): commands in, a script out.
 *
 * One function knows all commands. Where a file may come, readline completes its name: it knows best how to quote it.
 */
import { type Described, type DescribedOption, optionsOf, type ValueKind } from './describe.js';

/** @param names what the script is for: `bulkhaul` and the drop-ins. */
export function bash(commands: readonly Described[], names: readonly string[], version: string): string {
  const dropIns = commands.filter(({ dropIn }) => dropIn).map(({ name }) => name);
  return `# Completion of ${names.join(', ')} for bash (bulkhaul ${version}).

_bulkhaul() {
  local IFS=$' \\t\\n' current=\${COMP_WORDS[COMP_CWORD]} option= command=\${COMP_WORDS[0]##*/} first=1 at ended=
  COMPREPLY=()
  case $command in
    ${[...dropIns, '-'].join(' | ')}) ;;
    *)
      if ((COMP_CWORD == 1)); then
        compopt +o default +o bashdefault
        COMPREPLY=($(compgen -W '${[...commands.map(({ name }) => name), 'help', 'version', '--help', '--version'].join(' ')}' -- "$current"))
        return
      fi
      command=\${COMP_WORDS[1]} first=2
      if [[ $command == help ]]; then
        compopt +o default +o bashdefault
        ((COMP_CWORD > 2)) || COMPREPLY=($(compgen -W '${commands.map(({ name }) => name).join(' ')}' -- "$current"))
        return
      fi
      ;;
  esac
  for ((at = first; at < COMP_CWORD; at++)); do
    if [[ \${COMP_WORDS[at]} == -- ]]; then ended=yes; fi
  done
  # readline takes --name=value for three words.
  if [[ $current == = ]]; then
    current= option=\${COMP_WORDS[COMP_CWORD - 1]}
  elif [[ \${COMP_WORDS[COMP_CWORD - 1]} == = ]]; then
    option=\${COMP_WORDS[COMP_CWORD - 2]}
  else
    option=\${COMP_WORDS[COMP_CWORD - 1]}
  fi
  [[ -z $ended ]] || option=
  case $command in
${commands.map(commandCase).join('\n')}
    *)
      compopt +o default +o bashdefault
      return
      ;;
  esac
}

complete -o default -o bashdefault -F _bulkhaul ${names.join(' ')}
`;
}

function commandCase(command: Described): string {
  const options = optionsOf(command);
  /** Values by what helps with them: options of one kind share a branch. */
  const branches = new Map<string, string[]>();
  for (const { names, takes, is } of options) {
    if (takes !== 'one') continue;
    const help = values(is);
    branches.set(help, [...(branches.get(help) ?? []), ...names]);
  }
  const words = options.flatMap(({ names }: DescribedOption) => names);
  return `    ${command.name})
      case $option in
${[...branches].map(([help, names]) => `        ${names.join(' | ')})\n          ${help}\n          return\n          ;;`).join('\n')}
      esac
      if [[ $current == -* && -z $ended ]]; then
        compopt +o default +o bashdefault
        COMPREPLY=($(compgen -W '${words.join(' ')}' -- "$current"))
${command.first.length === 0 ? '' : `      elif ((COMP_CWORD == first)); then\n        ${values({ kind: 'choice', of: command.first })}\n`}      else
        ${values(command.operand)}
      fi
      ;;`;
}

/** What helps with a value. */
function values(is: ValueKind): string {
  switch (is.kind) {
    case 'file':
      return ': a file';
    case 'directory':
      return 'compopt +o default +o bashdefault -o dirnames';
    case 'choice':
      return `compopt +o default +o bashdefault; COMPREPLY=($(compgen -W '${is.of.join(' ')}' -- "$current"))`;
    case 'job':
      return `compopt +o default +o bashdefault; COMPREPLY=($(compgen -W "$(ls "\${XDG_STATE_HOME:-$HOME/.local/state}/bulkhaul/jobs" 2>/dev/null)" -- "$current"))`;
    case 'other':
      return 'compopt +o default +o bashdefault';
  }
}
