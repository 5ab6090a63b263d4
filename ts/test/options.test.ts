/** The command line of the native verbs: what is read as what, what is refused, and what the refusal says. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { commandAdvice, optionAdvice } from '../src/cli/advice.js';
import { read, UnknownOptions } from '../src/cli/options.js';
import { CompareCommand } from '../src/cli/verbs/compare.js';
import { CopyCommand } from '../src/cli/verbs/copy.js';
import { ListCommand } from '../src/cli/verbs/list.js';
import { ManifestCommand } from '../src/cli/verbs/manifest.js';
import { MigrateCommand } from '../src/cli/verbs/migrate.js';
import { PackCommand } from '../src/cli/verbs/pack.js';
import { RemoveCommand } from '../src/cli/verbs/remove.js';
import { SyncCommand } from '../src/cli/verbs/sync.js';
import { UnpackCommand } from '../src/cli/verbs/unpack.js';
import { VerifyCommand } from '../src/cli/verbs/verify.js';
import { jsonLines, program, run, scratch } from './rig.js';

const VERBS = {
  copy: CopyCommand,
  remove: RemoveCommand,
  list: ListCommand,
  manifest: ManifestCommand,
  compare: CompareCommand,
  sync: SyncCommand,
  pack: PackCommand,
  unpack: UnpackCommand,
  migrate: MigrateCommand,
  verify: VerifyCommand,
} as const;

/** A call as a shell would part it, at blanks; `~` is a blank in a word. */
function reading(line: string): string[] | 'help' {
  const [name = '', ...args] = line.split(' ').map((word) => word.replaceAll('~', ' '));
  return read(name, VERBS[name as keyof typeof VERBS], args);
}

/** What is said of a call that is refused. */
function refusal(line: string): string {
  try {
    reading(line);
  } catch (error) {
    if (error instanceof UnknownOptions) return optionAdvice(line.split(' ')[0] ?? '', error.given, error.known);
    return (error as Error).message;
  }
  expect.fail(`${line} was taken`);
}

it.each<[string, string]>([
  ['copy -j4 a b', '--jobs=4 -- a b'],
  ['copy -j 4 a b', '--jobs=4 -- a b'],
  ['copy -j=4 a b', '--jobs=4 -- a b'],
  ['copy --jobs 4 a b', '--jobs=4 -- a b'],
  ['copy --jobs=4 a b', '--jobs=4 -- a b'],
  ['copy a -nv b -j4', '--dry-run --verbose --jobs=4 -- a b'],
  ['copy -nvj4 a b', '--dry-run --verbose --jobs=4 -- a b'],
  ['copy --nice -5 a b', '--nice=-5 -- a b'],
  ['copy --nice=-5 a b', '--nice=-5 -- a b'],
  ['copy --hash-size= a b', '--hash-size= -- a b'],
  ['copy --exclude -~x a b', '--exclude=- x -- a b'],
  ['copy --exclude=--verify a b', '--exclude=--verify -- a b'],
  ['copy --exclude=a=b a b', '--exclude=a=b -- a b'],
  ['copy --files-from0=-x a b', '--files-froma=-x -- a b'],
  ['copy --files-from - a b', '--files-from=- -- a b'],
  ['copy -- -a --verify', '-- -a --verify'],
  ['copy a - -- b', '-- a - b'],
  ['copy --verify --no-verify a b', '--verify --no-verify -- a b'],
  ['remove -y a', '--force -- a'],
  ['list -0o- a', '--null --output=- -- a'],
])('%s', (line, read) => {
  expect(reading(line)).toEqual(
    read
      .replace('=- x', '=-~x')
      .split(' ')
      .map((word) => word.replace('~', ' ')),
  );
});

it.each(['copy --help', 'copy -h', 'copy -nh a', 'list a --frob --help'])('%s asks for help', (line) => {
  expect(reading(line)).toBe('help');
});

describe('a refusal says why', () => {
  it.each<[string, string]>([
    ['copy a', 'copy takes SRC… DEST, and only a was given'],
    ['copy', 'copy takes SRC… DEST, and nothing was given'],
    ['compare a b c', 'compare takes A B, and 3 were given'],
    ['copy a b --jobs', '--jobs needs a value: --jobs N'],
    [
      'copy --exclude --verify a b',
      '--exclude needs a value (PATTERN), and --verify looks like an option; to mean it: --exclude=--verify',
    ],
    ['copy --json=1 a b', '--json takes no value, but 1 was given'],
    // An option that does nothing.
    ['list -n a', 'list has no use for -n: a list changes nothing'],
    ['list --verbose a', 'list has no use for --verbose: the list has a line for each entry'],
    ['compare -n a b', 'compare has no use for -n: a comparison changes nothing; --itemize shows each difference'],
    ['remove --bwlimit=1m a', 'remove has no use for --bwlimit: a removal reads no contents; --iops-limit slows it'],
    // A near miss.
    ['copy --verfiy a b', 'copy has no option --verfiy; did you mean --verify?'],
    ['copy --exclud=x a b', 'copy has no option --exclud; did you mean --exclude?'],
    ['copy --require a b', 'copy has no option --require; did you mean --require-space?'],
    ['copy -J4 a b', 'copy has no option -J; did you mean -j?; a name that begins with - goes after --'],
    ['copy --frobnicate a b', 'copy has no option --frobnicate'],
    ['remove --frob a', 'remove has no option --frob'],
    ['copy -5 a b', 'copy has no option -5; a name that begins with - goes after --'],
    // A habit of another tool.
    ['copy -av a b', '-a is not an option of copy: all that it asks for is always done; leave it out'],
    [
      'copy -rz a b',
      '-r is not an option of copy: trees are always taken whole; leave it out; -z is not an option of copy: nothing is sent, so there is nothing to compress; leave it out',
    ],
    [
      'copy -P a b',
      '-P is not an option of copy: what was interrupted always goes on, and the status is always shown; leave it out',
    ],
    ['copy -c a b', '-c is not an option of copy: --full-hash compares whole files before they are skipped'],
    [
      'copy --remove-source-files a b',
      '--remove-source-files is not an option of copy: --move removes each source entry whose copy is proved',
    ],
    ['remove -rf a', '-r is not an option of remove: trees are always taken whole; leave it out'],
    ['remove -x a', '-x is not an option of remove: what is mounted below a PATH is never entered; leave it out'],
    ['sync -c a b', '-c is not an option of sync: --compare checksum does that'],
    ['sync -r a b', '-r is not an option of sync: trees are always taken whole; leave it out'],
    ['pack -z a b', '-z is not an option of pack: --compress NAME says how'],
    ['unpack --test a', '--test is not an option of unpack: --verify does that'],
    [
      'migrate --compress a b',
      '--compress is not an option of migrate: --format NAME says how files are packed; leave it out',
    ],
    ['list -l a', '-l is not an option of list: --json tells sizes, times, modes and owners'],
    // What a near name would answer wrongly, or not at all.
    ['copy --preserve=all a b', '--preserve is not an option of copy: it is always kept; leave it out'],
    [
      'copy --max-size=1m a b',
      '--max-size is not an option of copy: find does that: (cd SRC; find … -print0) | bulkhaul copy --files-from0 - SRC DEST',
    ],
    [
      'copy --size-only a b',
      '--size-only is not an option of copy: time and the last 64 KiB tell too; --hash-size 0 leaves size and time',
    ],
    [
      'copy --delete-excluded a b',
      '--delete-excluded is not an option of copy: --delete spares what a rule leaves out',
    ],
    [
      'copy --reflink=auto a b',
      '--reflink is not an option of copy: contents are shared where the file system can; leave it out',
    ],
    ['copy --files-from x -0 a b', '-0 is not an option of copy: --files-from0 reads names that end with NUL'],
    [
      'copy --no-clobber a b',
      '--no-clobber is not an option of copy: what differs is copied, and what is the same is skipped; move never replaces anything',
    ],
    [
      'copy --human-readable a b',
      '--human-readable is not an option of copy: text for people has units that they read; leave it out',
    ],
    ['manifest -c a', '-c is not an option of manifest: bulkhaul verify MANIFEST checks files against one'],
    ['verify -c a', '-c is not an option of verify: it is what this does; leave it out'],
  ])('%s', (line, sentence) => {
    expect(refusal(line)).toBe(sentence);
  });

  it.each<[string, string]>([
    ['copyy', 'there is no command copyy; did you mean copy?'],
    ['lst', 'there is no command lst; did you mean list?'],
    ['rsync', 'there is no command rsync; did you mean copy?'],
    ['tar', 'there is no command tar; did you mean pack or unpack?'],
    ['lsf', 'there is no command lsf; did you mean list?'],
    ['purge', 'there is no command purge; did you mean remove?'],
    ['mv', 'there is no command mv; did you mean move?'],
    ['snyc', 'there is no command snyc; did you mean sync?'],
    ['frobnicate', 'there is no command frobnicate'],
    ['constructor', 'there is no command constructor'],
    ['--json', '--json stands before a command; options come after it, as in: bulkhaul copy --verify SRC DEST'],
  ])('bulkhaul %s', (given, sentence) => {
    expect(commandAdvice(given, [...Object.keys(VERBS), 'hpcp'])).toBe(sentence);
  });

  it.each<[string[], string]>([
    [
      ['copy', '-j', '-4', 'a', 'b'],
      '--jobs: -4 is no whole number from 1 to 1024 (bulkhaul help copy describes the command)',
    ],
    [
      ['copy', '--nice=x', 'a', 'b'],
      '--nice: x is no whole number from -20 to 19 (bulkhaul help copy describes the command)',
    ],
    [
      ['copy', '--sync', 'x', 'a', 'b'],
      '--sync: x is none of none, safe, all (bulkhaul help copy describes the command)',
    ],
    [
      ['copy', '--sync', 'al', 'a', 'b'],
      '--sync: al is none of none, safe, all; did you mean all? (bulkhaul help copy describes the command)',
    ],
    [['image', 'inspct', 'a'], 'inspct is none of inspect, check, clone, pack, unpack; did you mean inspect?'],
    [['verson'], 'there is no command verson; did you mean version? (bulkhaul help lists the commands)'],
    [
      ['copy', '--max-delete', '-1', 'a', 'b'],
      '--max-delete: -1 is neither a number of entries nor a percentage (bulkhaul help copy describes the command)',
    ],
    [
      ['copy', '--verify\x1b', 'a', 'b'],
      'copy has no option --verify\\x1b; did you mean --verify? (bulkhaul help copy describes the command)',
    ],
    [['copyy'], 'there is no command copyy; did you mean copy? (bulkhaul help lists the commands)'],
    [['help', 'copyy'], 'there is no command copyy; did you mean copy? (bulkhaul help lists the commands)'],
  ])('on the whole: %j', async (args, sentence) => {
    const at = scratch();
    expect(await run(args, { cwd: at })).toEqual({ code: 2, stdout: '', stderr: `bulkhaul: ${sentence}\n` });
    expect(readdirSync(at)).toEqual([]);
  });
});

describe('rules', () => {
  /** A tree in which `a.txt`, `b.o`, `d/a.txt` and `d/b.o` are. */
  function tree(): string {
    const at = scratch();
    mkdirSync(join(at, 's/d'), { recursive: true });
    for (const name of ['a.txt', 'b.o', 'keep.o', 'd/a.txt', 'd/b.o', 'd/#x']) writeFileSync(join(at, 's', name), name);
    writeFileSync(join(at, 'rules'), '# a comment\n; another\n\n+ keep.o\r\n- *.o\n');
    return at;
  }
  const CALLS: [string, string][] = [
    ['one', '--exclude *.o'],
    ['an include before', '--include keep.o --exclude *.o'],
    ['an include that comes too late', '--exclude *.o --include keep.o'],
    ['only text', '--include */ --include *.txt --exclude *'],
    ['a file', '--exclude-from rules'],
    ['a file in its place', '--include /b.o --exclude-from rules --exclude d'],
    ['signs that say otherwise', '--include -~*.o --exclude +~d'],
    ['a list that is emptied', '--exclude a.txt --include ! --exclude b.o'],
  ];

  it.each(CALLS)('%s: what rsync copies', async (_, line) => {
    const at = tree();
    const words = line.split(' ').map((word) => word.replaceAll('~', ' '));
    const ours = await run(['copy', ...words, 's/', 'ours'], { cwd: at });
    const theirs = await program('rsync', ['-r', ...words, 's/', 'theirs'], { cwd: at });
    expect({ ours: ours.code, theirs: theirs.code }).toEqual({ ours: 0, theirs: 0 });
    const names = (directory: string) => readdirSync(join(at, directory), { recursive: true }).map(String).sort();
    expect(names('ours')).toEqual(names('theirs'));
    expect(names('ours')).not.toEqual(names('s'));
  });

  it('come from standard input, in every verb', async () => {
    const at = tree();
    const input = readFileSync(join(at, 'rules'));
    const listed = await run(['list', '--no-hash', '--exclude-from', '-', 's/'], { cwd: at, input });
    expect(listed).toMatchObject({ code: 0, stdout: './\na.txt\nd/\nd/#x\nd/a.txt\nkeep.o\n' });
    await run(['copy', 's/', 'c'], { cwd: at });
    writeFileSync(join(at, 'c/b.o'), 'other content');
    const compared = await run(['compare', '--exclude-from=-', 's', 'c'], { cwd: at, input });
    expect(compared.code).toBe(0);
    const removed = await run(['remove', '--force', '--exclude-from', '-', 's'], { cwd: at, input });
    expect(removed.code).toBe(0);
    expect(readdirSync(join(at, 's'), { recursive: true }).sort()).toEqual(['b.o', 'd', 'd/b.o']);
  });

  it('that cannot be read end before anything is begun', async () => {
    const at = tree();
    const { code, stderr } = await run(['copy', '--exclude-from', 'absent', 's', 'o'], { cwd: at });
    expect(code).toBe(2);
    expect(stderr).toMatch(/^bulkhaul: --exclude-from can't be read: .*absent: open: no such file or directory\n$/);
    // What opens and can't be read is named, too.
    for (const words of [
      ['copy', '--exclude-from', 'd', 's', 'o'],
      ['sync', '--files-from', 'd', 's', 'o'],
      ['copy', '--files-from', 'd', 's/', 'o'],
      ['copy', '--workers', '2', '--files-from', 'd', 's/', 'o'],
      ['copy', '--workers', '2', '--files-from', 'none', 's/', 'o'],
      ['copy', '--hosts', 'd', 's', 'o'],
    ]) {
      mkdirSync(join(at, 'd'), { recursive: true });
      const refused = await run(words, { cwd: at });
      expect([words, refused.code, refused.stderr]).toEqual([
        words,
        2,
        expect.stringMatching(/^bulkhaul: [^\n]*\b(d|none): [^\n]*directory\n$/),
      ]);
    }
    expect(existsSync(join(at, 'o'))).toBe(false);
  });
});

describe('- is a standard stream', () => {
  function two(): string {
    const at = scratch();
    mkdirSync(join(at, 'a'));
    mkdirSync(join(at, 'b'));
    writeFileSync(join(at, 'a/x'), 'x');
    return at;
  }

  it('for what a list or a comparison writes', async () => {
    const at = two();
    expect(await run(['list', '--no-hash', '-o', '-', 'a/'], { cwd: at })).toMatchObject({
      code: 0,
      stdout: './\nx\n',
    });
    const { stdout } = await run(['compare', '--output', '-', 'b', 'a'], { cwd: at });
    expect(stdout).toBe('x\n');
  });

  it('for a log, on standard error', async () => {
    const at = two();
    const { code, stdout, stderr } = await run(['copy', '--quiet', '--log-file', '-', 'a', 'o'], { cwd: at });
    expect({ code, stdout }).toEqual({ code: 0, stdout: '' });
    const lines = stderr
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines.at(-1)).toMatchObject({ msg: 'summary', accounted: true });
    expect(existsSync(join(at, '-'))).toBe(false);
  });

  it.each<[string, string]>([
    ['compare --list-a --list-b - -', "--list-b - and --list-a - can't both have standard input"],
    ['copy --files-from - --exclude-from - a o', "--files-from - and --exclude-from - can't both have standard input"],
    ['list -o - --json a', "--output - and --json can't both have standard output"],
    ['compare -o - -i a b', "--output - and --itemize can't both have standard output"],
  ])('for one option only: %s', async (line, sentence) => {
    const { code, stderr } = await run(line.split(' '), { cwd: two() });
    expect({ code, stderr }).toEqual({ code: 2, stderr: `bulkhaul: ${sentence}\n` });
  });

  it('and the output of --json is lines that the schema knows', async () => {
    const at = two();
    const { stdout } = await run(['copy', '--json', '-v', 'a', 'o'], { cwd: at });
    expect(jsonLines(stdout).at(-1)).toMatchObject({ type: 'summary' });
  });
});
