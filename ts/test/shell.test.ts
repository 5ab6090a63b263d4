/** Completion in real shells, each on a terminal of its own, and the manual pages before two formatters. */
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { executable, program, run, scratch } from './rig.js';

/** What the build made. */
const SHARE = fileURLToPath(new URL('../dist/share', import.meta.url));
const { bin } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
/** Everything that can be called by its own name. */
const NAMES: readonly string[] = Object.keys(bin);

const has = async (command: string) => (await program('sh', ['-c', `command -v ${command}`])).code === 0;

/** A home with files, a directory and a job; the commands are on the path. */
function home() {
  const at = scratch();
  mkdirSync(join(at, 'photos'));
  mkdirSync(join(at, 'state/bulkhaul/jobs/copy-5f0c1a9e'), { recursive: true });
  for (const name of ['a b.txt', 'list.txt', 'copy']) writeFileSync(join(at, name), '');
  mkdirSync(join(at, 'bin'));
  for (const name of NAMES) symlinkSync(executable, join(at, 'bin', name));
  const env = {
    XDG_STATE_HOME: join(at, 'state'),
    HOME: at,
    TERM: 'xterm',
    PATH: `${join(at, 'bin')}:${process.env.PATH}`,
  };
  return { at, env };
}

/** A line, and what is offered for its last word, in any order. */
const OFFERS: readonly (readonly [string, readonly string[]])[] = [
  ['bulkhaul ver', ['verify', 'version']],
  ['bulkhaul comp', ['compare', 'completion', 'compress', 'compress_files']],
  ['bulkhaul copy --dr', ['--dry-run']],
  ['bulkhaul copy --sync a', ['all']],
  ['bulkhaul copy --on-collision ', ['fail', 'first', 'last']],
  ['bulkhaul copy -x p', ['photos']],
  ['bulkhaul copy --files-from li', ['list.txt']],
  ['bulkhaul list --state-dir ph', ['photos']],
  ['bulkhaul list --state-dir li', []],
  ['bulkhaul copy --jobs li', []],
  ['bulkhaul report ', ['copy-5f0c1a9e']],
  ['bulkhaul help mani', ['manifest']],
  ['bulkhaul completion z', ['zsh']],
  ['bulkhaul sync --compare ', ['always', 'auto', 'checksum', 'mtime', 'size', 'state']],
  ['bulkhaul sync ph', ['photos']],
  ['bulkhaul retain --wi', ['--within']],
  ['bulkhaul pack --compress ', ['bgzf', 'none', 'zstd']],
  ['bulkhaul unpack --veri', ['--verify']],
  ['bulkhaul unpack ph', ['photos']],
  ['bulkhaul migrate --format ', ['bgzf', 'gzip', 'xz', 'zstd']],
  ['bulkhaul migrate --sto', ['--stored-manifest']],
  ['bulkhaul image ', ['check', 'clone', 'inspect', 'pack', 'unpack']],
  ['bulkhaul image inspect li', ['list.txt']],
  ['bulkhaul image --mkfs', ['--mkfs-defaults']],
  ['bulkhaul partition --exec', ['--exec', '--exec-jobs']],
  ['bulkhaul partition --format ', ['jsonl', 'names', 'rclone', 'rsync', 'tar']],
  ['bulkhaul hpcp --source_f', ['--source_file_list']],
  ['hpcp --source_f', ['--source_file_list']],
  ['hpcp --sync no', ['none']],
  ['hpcp ph', ['photos']],
  ['run-mirror --algo bl', ['blake3']],
];

const last = (line: string) => line.slice(line.lastIndexOf(' ') + 1);

/** The words that came in the place of the last one of a line, without the signs that a shell puts behind. */
function offered(line: string, becomes: string): string[] {
  const words = becomes
    .slice(line.length - last(line).length)
    .trim()
    .split(/ +/);
  return words.map((word) => word.replace(/[=/]$/, '')).sort();
}

/** What a shell on a terminal makes of a line when a key is struck. ^X^L prints the line and is the end of the shell. */
async function struck(shell: readonly string[], line: string, key: string, { at, env }: ReturnType<typeof home>) {
  const { stdout } = await program('script', ['-qec', shell.join(' '), '/dev/null'], {
    ...{ cwd: at, env, input: false },
    onOutput: (child) => void child.stdin?.write(`${line}${key}\x18\x0c`),
  });
  return /LINE<([\s\S]*?)>END/.exec(stdout)?.[1]?.replaceAll('\r', '') ?? expect.fail(stdout);
}

describe.skipIf(!(await has('bash')))('bash', () => {
  const start = (at: string) => {
    const rc = [
      `for each in ${NAMES.join(' ')}; do . '${SHARE}/bash-completion/completions/'$each; done`,
      `bind -x '"\\C-x\\C-l": printf "LINE<%s>END" "$READLINE_LINE"; kill -KILL $$'`,
      `bind '"\\C-x\\C-a": insert-completions'`,
      "PS1='> '",
    ];
    writeFileSync(join(at, 'rc'), `${rc.join('\n')}\n`);
    return ['bash', '--noprofile', '--rcfile', 'rc', '-i'];
  };

  it.each(OFFERS)('%s: %j', async (line, offers) => {
    const place = home();
    const all = await struck(start(place.at), line, '\x18\x01', place);
    expect(offered(line, all)).toEqual(offers.length > 0 ? [...offers].sort() : [last(line)]);
  });

  it.each([
    ['bulkhaul copy --sync=a', 'bulkhaul copy --sync=all '],
    ['bulkhaul copy a', 'bulkhaul copy a\\ b.txt '],
    ['bulkhaul copy -- --dr', 'bulkhaul copy -- --dr'],
    ['bulkhaul frob --dr', 'bulkhaul frob --dr'],
  ])('%s becomes %s', async (line, becomes) => {
    const place = home();
    expect(await struck(start(place.at), line, '\t', place)).toBe(becomes);
  });
});

describe.skipIf(!(await has('zsh')))('zsh', () => {
  it('is declared in a zsh that has not begun completion', async () => {
    const { stdout } = await run(['completion', 'zsh']);
    const file = join(scratch(), 'script');
    writeFileSync(file, stdout);
    const said = await program('zsh', ['-f', '-c', `source ${file}; print $_comps[bulkhaul] $_comps[hpcp]`]);
    expect(said).toEqual({ code: 0, stdout: '_bulkhaul _bulkhaul\n', stderr: '' });
  });

  const start = (at: string) => {
    const rc = [
      `fpath=('${SHARE}/zsh/site-functions' $fpath)`,
      'autoload -Uz compinit && compinit -u -D',
      'unsetopt prompt_sp prompt_cr',
      `dump() { print -rn -- "LINE<$BUFFER>END"; kill -KILL $$ }; zle -N dump; bindkey '^X^L' dump`,
      'every-match() { _main_complete; compstate[insert]=all }; zle -C every complete-word every-match',
      "bindkey '^X^A' every",
      "PS1='> '",
    ];
    writeFileSync(join(at, '.zshrc'), `${rc.join('\n')}\n`);
    return ['env', `ZDOTDIR='${at}'`, 'zsh', '-d', '-i'];
  };

  it.each(OFFERS)('%s: %j', async (line, offers) => {
    const place = home();
    const all = await struck(start(place.at), line, '\x18\x01', place);
    expect(offered(line, all)).toEqual(offers.length > 0 ? [...offers].sort() : [last(line)]);
  });
});

describe.skipIf(!(await has('fish')))('fish', () => {
  it.each(OFFERS)('%s: %j', async (line, offers) => {
    const { at, env } = home();
    const directory = join(SHARE, 'fish/vendor_completions.d');
    const script = `set -g fish_complete_path '${directory}'; complete -C '${line}'`;
    const { stdout, stderr } = await program('fish', ['--no-config', '-c', script], { cwd: at, env });
    expect(stderr).toBe('');
    const words = stdout.split('\n').filter((each) => each !== '');
    expect(words.map((word) => word.split('\t', 1)[0]?.replace(/\/$/, '')).sort()).toEqual([...offers].sort());
  });
});

describe('bulkhaul completion', () => {
  it.each([
    ['bash', ['-n']],
    ['zsh', ['-n']],
    ['fish', ['-n']],
  ])('prints a script that %s can read', async (shell, args) => {
    const { code, stdout, stderr } = await run(['completion', shell]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    for (const name of NAMES) expect(stdout).toContain(name);
    if (!(await has(shell))) return;
    const file = join(scratch(), 'script');
    writeFileSync(file, stdout);
    expect(await program(shell, [...args, file])).toEqual({ code: 0, stdout: '', stderr: '' });
  });

  it('writes for each name what the shells look for, and its page', async () => {
    const at = scratch();
    expect(await run(['completion', '--into', at])).toEqual({ code: 0, stdout: '', stderr: '' });
    const found = readdirSync(join(at, 'share'), { recursive: true }).map(String);
    for (const name of NAMES) {
      expect(found).toContain(`bash-completion/completions/${name}`);
      expect(found).toContain(`fish/vendor_completions.d/${name}.fish`);
      expect(found).toContain(`man/man1/${name}.1`);
    }
    expect(readFileSync(join(at, 'share/zsh/site-functions/_bulkhaul'), 'utf8')).toContain(
      `#compdef ${NAMES.join(' ')}\n`,
    );
  });

  it.each([
    [['completion'], 'completion takes the name of a shell, or --into DIR'],
    [['completion', 'tcsh'], 'tcsh is none of bash, zsh, fish'],
    [['completion', '--into', '/dev/null/x'], 'mkdir: not a directory'],
    [['completion', '--json', 'bash'], 'completion has no use for --json'],
  ])('%j is refused: %s', async (args, why) => {
    const { code, stdout, stderr } = await run(args);
    expect(code).toBe(2);
    const json = args.includes('--json');
    expect({ stdout, stderr }[json ? 'stdout' : 'stderr']).toContain(why);
    if (!json) expect(stdout).toBe('');
  });
});

describe('manual pages', async () => {
  const at = join(SHARE, 'man/man1');
  const pages = readdirSync(at).sort();

  it('are there for each command', async () => {
    const { stdout } = await run(['help']);
    const commands = [...stdout.matchAll(/^ {2}(\S+) /gm)].map(([, name = '']) => name);
    const expected = commands.map((name) => (NAMES.includes(name) ? `${name}.1` : `bulkhaul-${name}.1`));
    expect(pages).toEqual([...expected, 'bulkhaul.1'].sort());
  });

  it.each(pages)('%s names every option that the help has', async (page) => {
    if (page === 'bulkhaul.1') return;
    const name = page.replace(/^bulkhaul-|\.1$/g, '');
    const { stdout: help } = await run(['help', name]);
    const text = readFileSync(join(at, page), 'utf8').replaceAll('\\-', '-');
    const current = help.split('Not in this version yet')[0] ?? '';
    for (const [, option = ''] of current.matchAll(/^ {2}(?:-\S+, )*(--[\w-]+)/gm))
      expect(text).toContain(`\\fB${option}\\fR`);
  });

  it.skipIf(!(await has('mandoc')))('have nothing that mandoc warns of', async () => {
    const dated = scratch();
    await run(['completion', '--into', dated], { env: { SOURCE_DATE_EPOCH: '1700000000' } });
    const files = pages.map((page) => join(dated, 'share/man/man1', page));
    expect(await program('mandoc', ['-Tlint', '-Wwarning', ...files])).toEqual({ code: 0, stdout: '', stderr: '' });
  });

  it.skipIf(!(await has('man')) || !(await has('groff'))).each(pages)(
    'man -l %s shows it, without a warning',
    async (page) => {
      const { code, stdout, stderr } = await program('man', ['--warnings', '-l', join(at, page)], {
        env: { MANWIDTH: '80', LC_ALL: 'C.UTF-8', MANPAGER: 'cat' },
      });
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expect(stdout).toContain('SYNOPSIS');
      // Nothing of the language is left in it.
      expect(stdout).not.toMatch(/^\.[A-Z]{2}|\\f[BIR]/m);
    },
  );
});
