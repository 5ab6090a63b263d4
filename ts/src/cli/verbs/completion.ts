/** `bulkhaul completion`: what completes the command lines of all commands in a shell, on stdout, or with the manual pages in files. */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { BulkhaulError, whyOf } from '../../error.js';
import { toBytes } from '../../names.js';
import { noneOf } from '../../nearest.js';
import { ExitCode } from '../../verdict.js';
import { answer } from '../answer.js';
import { BareCommand } from '../base.js';
import { operands, type Verb, value } from '../options.js';
import { Command } from '../parser.js';
import { bash } from '../shell/bash.js';
import { type Described, describe, type Told } from '../shell/describe.js';
import { fish } from '../shell/fish.js';
import { pages } from '../shell/man.js';
import { zsh } from '../shell/zsh.js';
import { version } from '../version.js';

const SHELLS = ['bash', 'zsh', 'fish'] as const;

/** The verb over the table of commands. */
export function completionCommand(commands: () => Promise<readonly Told[]>): Verb {
  return class CompletionCommand extends BareCommand {
    static override paths = [['completion']];
    static override readonly idle = {
      '--json': 'it prints a script for a shell',
      '--state-dir': 'it looks at no job',
    };
    static override usage = Command.Usage({
      description: 'Print completion for a shell',
      details: `
        Prints a script that completes commands, options and values in SHELL, for \`bulkhaul\` and for each drop-in under its
        own name. With --into it writes those of all shells, and the manual pages, where shells and man look below DIR.

        Exit codes: 0, 2 usage, or a file or standard output can't be written.
      `,
      examples: [
        ['All of it, for one user', '$0 completion --into ~/.local'],
        ['In this bash, now', 'source <($0 completion bash)'],
        ['For zsh, in a directory of fpath', '$0 completion zsh > ~/.zfunc/_bulkhaul'],
        ['In this fish, now', '$0 completion fish | source'],
      ],
    });

    into = value('--into', {
      ...{ group: 'output', value: 'DIR', default: 'nothing is written' },
      help: 'Write what is for each shell, and the manual pages, into share below DIR: bash-completion/completions, zsh/site-functions, fish/vendor_completions.d, man/man1',
    });
    operands = operands('[bash|zsh|fish]', 0, 1);

    async execute(): Promise<number> {
      const [shell] = this.operands;
      const known = SHELLS.find((each) => each === shell);
      if (shell !== undefined && known === undefined)
        throw new BulkhaulError('USAGE', `completion: ${noneOf(shell, SHELLS)}`);
      if ((shell === undefined) === (this.into === undefined))
        throw new BulkhaulError('USAGE', 'completion takes the name of a shell, or --into DIR');
      const all = (await commands()).map(describe);
      const own = all.filter(({ ownName }) => ownName);
      const names = ['bulkhaul', ...own.map(({ name }) => name)];
      if (this.into !== undefined) await write(this.into, this.files(all, names));
      else await answer(this.context.stdout, this.script(known ?? 'bash', all, names));
      return ExitCode.complete;
    }

    private script(shell: (typeof SHELLS)[number], all: readonly Described[], names: readonly string[]): string {
      if (shell === 'bash') return bash(all, names, version());
      if (shell === 'zsh') return zsh(all, names, version());
      return names.map((name) => fish(all, name, version())).join('\n');
    }

    /** All files, by their places below DIR. Shells look for one of the name of the command. */
    private files(all: readonly Described[], names: readonly string[]): ReadonlyMap<string, string> {
      const edition = { version: version(), date: day(this.context.env) };
      const script = bash(all, names, edition.version);
      return new Map([
        ...names.map((name) => [`bash-completion/completions/${name}`, script] as const),
        ['zsh/site-functions/_bulkhaul', zsh(all, names, edition.version)],
        ...names.map((name) => [`fish/vendor_completions.d/${name}.fish`, fish(all, name, edition.version)] as const),
        ...[...pages(all, edition)].map(([name, page]) => [`man/man1/${name}`, page] as const),
      ]);
    }
  };
}

async function write(into: string, files: ReadonlyMap<string, string>): Promise<void> {
  for (const [name, text] of files) {
    const path = toBytes(join(into, 'share', name));
    try {
      await mkdir(toBytes(dirname(join(into, 'share', name))), { recursive: true });
      await writeFile(path, text);
    } catch (error) {
      throw new BulkhaulError('USAGE', `--into: ${whyOf(error)}`, { cause: error });
    }
  }
}

/** The day that a build says it is of, so that the same sources give the same pages. */
function day({ SOURCE_DATE_EPOCH: seconds }: NodeJS.ProcessEnv): string {
  return /^\d{1,11}$/.test(seconds ?? '') ? new Date(Number(seconds) * 1000).toISOString().slice(0, 10) : '';
}
