/** The help of the native verbs: what it holds, how it is laid out, and the ways to it. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Flag } from '../src/cli/dropin/argparse.js';
import * as compress_files from '../src/cli/dropin/compress_files/help.js';
import * as dsync from '../src/cli/dropin/dsync/help.js';
import * as hpcp from '../src/cli/dropin/hpcp/help.js';
import * as migrate_compress from '../src/cli/dropin/migrate_compress/help.js';
import * as move_to_final from '../src/cli/dropin/move_to_final/help.js';
import * as runMirror from '../src/cli/dropin/run-mirror/help.js';
import { verbHelp } from '../src/cli/help.js';
import { declared, GROUPS } from '../src/cli/options.js';
import { CompareCommand } from '../src/cli/verbs/compare.js';
import { completionCommand } from '../src/cli/verbs/completion.js';
import { CompressCommand } from '../src/cli/verbs/compress.js';
import { CopyCommand } from '../src/cli/verbs/copy.js';
import { DecompressCommand } from '../src/cli/verbs/decompress.js';
import { DoctorCommand } from '../src/cli/verbs/doctor.js';
import { ImageCommand } from '../src/cli/verbs/image.js';
import { ListCommand } from '../src/cli/verbs/list.js';
import { ManifestCommand } from '../src/cli/verbs/manifest.js';
import { MigrateCommand } from '../src/cli/verbs/migrate.js';
import { MoveCommand } from '../src/cli/verbs/move.js';
import { PackCommand } from '../src/cli/verbs/pack.js';
import { PartitionCommand } from '../src/cli/verbs/partition.js';
import { RemoveCommand } from '../src/cli/verbs/remove.js';
import { ReportCommand } from '../src/cli/verbs/report.js';
import { ResumeCommand } from '../src/cli/verbs/resume.js';
import { StatusCommand } from '../src/cli/verbs/status.js';
import { SyncCommand } from '../src/cli/verbs/sync.js';
import { UnpackCommand } from '../src/cli/verbs/unpack.js';
import { VerifyCommand } from '../src/cli/verbs/verify.js';
import { executable, program, run, scratch } from './rig.js';

const VERBS = {
  copy: CopyCommand,
  move: MoveCommand,
  remove: RemoveCommand,
  list: ListCommand,
  manifest: ManifestCommand,
  sync: SyncCommand,
  verify: VerifyCommand,
  partition: PartitionCommand,
  pack: PackCommand,
  unpack: UnpackCommand,
  compare: CompareCommand,
  migrate: MigrateCommand,
  compress: CompressCommand,
  decompress: DecompressCommand,
  status: StatusCommand,
  resume: ResumeCommand,
  report: ReportCommand,
  doctor: DoctorCommand,
  image: ImageCommand,
  completion: completionCommand(async () => []),
} as const;

describe.each(Object.entries(VERBS))('%s', (name, verb) => {
  const { options } = declared(verb);
  const idle: string[] = Object.keys(verb.idle);
  const shown = options.filter(({ names }) => !names.some((each) => idle.includes(each)));
  const page = verbHelp(name, verb, 80);

  it('shows each option once, in its group, with a word for its value and its default', () => {
    const titles = Object.values(GROUPS);
    for (const { names, group, value, default: standard } of shown) {
      const head = `  ${names.join(', ')}${value === undefined ? '' : ` ${value}`}`;
      const lines = page.split('\n').filter((line) => line === head || line.startsWith(`${head}  `));
      expect(lines, head).toHaveLength(1);
      const before = page.slice(0, page.indexOf(lines[0] ?? '')).split('\n');
      expect(before.findLast((line) => titles.some((title) => title === line))).toBe(GROUPS[group]);
      expect(standard === undefined, `${head}: a default goes with a value`).toBe(value === undefined);
      if (standard !== undefined) expect(page.replace(/\s+/g, ' ')).toContain(`default: ${standard})`);
    }
  });

  it('is silent about what does nothing here', () => {
    expect(options.flatMap(({ names }) => names)).toEqual(expect.arrayContaining(idle));
    for (const option of idle) expect(page).not.toMatch(new RegExp(`^  .*${option}\\b`, 'm'));
  });

  it.each([40, 60, 80, 132])('fits %d columns, and each example is a line that a shell takes', (width) => {
    const text = verbHelp(name, verb, width);
    for (const line of text.split('\n')) expect([...line].length, line).toBeLessThanOrEqual(width);
    for (const [, example] of verb.usage?.examples ?? []) {
      expect(text.replaceAll(/ \\\n +/g, ' ')).toContain(`    ${example.replaceAll('$0', 'bulkhaul')}\n`);
    }
  });

  it('comes from help VERB, VERB --help and VERB -h, whatever else is there', async () => {
    for (const args of [
      ['help', name],
      [name, '--help'],
      [name, '-h'],
      [name, 'x', '--frob', '-h'],
    ]) {
      expect(await run(args)).toEqual({ code: 0, stdout: page, stderr: '' });
    }
  });
});

/** Those that have the flags of originals. */
const PAGES = { compress_files, dsync, hpcp, migrate_compress, move_to_final, 'run-mirror': runMirror } as const;

describe.each(Object.entries(PAGES))('%s', (name, { PAGE, helpText }) => {
  it.each([40, 60, 80, 132])('fits %d columns', (width) => {
    for (const line of helpText(width).split('\n')) {
      // But for a word that is longer, or a flag of the usage with its choices.
      const words = line.trim().match(/\[-[^\]]*\]|\S+/g) ?? [];
      const least = line.length - line.trimStart().length + Math.max(0, ...words.map(({ length }) => length));
      expect([...line].length, line).toBeLessThanOrEqual(Math.max(width, least));
    }
  });

  it('tells of the flags that native verbs have, too, what holds without them', () => {
    const native = new Map(
      declared(CopyCommand).options.flatMap((each) => each.names.map((one) => [one, each] as const)),
    );
    const silent = Object.values<Flag>(PAGE.flags).flatMap(({ names, rank, takes, help, default: standard }) => {
      const { default: known = 'none' } = native.get(names.at(-1) ?? '') ?? {};
      const said = known === 'none' || standard !== undefined || /^The same as -|default|wins over/.test(help);
      return rank < 2 || takes === 'none' || said ? [] : [`${name} ${names.at(-1)}: ${known}`];
    });
    expect(silent).toEqual([]);
  });
});

it('has the width of the terminal', async () => {
  const line = `stty cols 50; '${process.execPath}' '${executable}' help list`;
  const { stdout } = await program('script', ['-qec', line, '/dev/null'], { cwd: scratch() });
  expect(stdout.replaceAll('\r', '')).toBe(verbHelp('list', ListCommand, 50));
});

it.each([['version'], ['-V'], ['--version']])('bulkhaul %s tells the version', async (word) => {
  expect(await run([word])).toEqual({ code: 0, stdout: 'bulkhaul 0.1.0\n', stderr: '' });
});

it.each(['run-mirror', 'dsync', 'compress_files', 'migrate_compress', 'move_to_final'])('so does %s', async (name) => {
  for (const word of ['-V', '--version']) {
    expect(await run([name, word])).toEqual({ code: 0, stdout: `${name} (bulkhaul 0.1.0)\n`, stderr: '' });
  }
});

it.each([[['help']], [['-h']], [['--help']], [['help', 'help']], [['help', 'version']]])(
  'bulkhaul %j lists what can be run, and nothing else',
  async (words) => {
    const { code, stdout } = await run(words);
    const names = [...stdout.matchAll(/^ {2}(\S+) /gm)].map(([, name]) => name);
    expect({ code, names }).toEqual({
      code: 0,
      names: [
        'copy',
        'move',
        'migrate',
        'remove',
        'list',
        'manifest',
        'verify',
        'partition',
        'pack',
        'unpack',
        'compare',
        'compress',
        'decompress',
        'sync',
        'retain',
        'image',
        'status',
        'resume',
        'report',
        'worker',
        'doctor',
        'completion',
        'hpcp',
        'run-mirror',
        'dsync',
        'compress_files',
        'migrate_compress',
        'move_to_final',
      ],
    });
  },
);

it('the list of commands has the width of the terminal', async () => {
  const line = `stty cols 40; '${process.execPath}' '${executable}' help`;
  const { stdout } = await program('script', ['-qec', line, '/dev/null'], { cwd: scratch() });
  const lines = stdout.replaceAll('\r', '').split('\n');
  expect(lines.filter(({ length }) => length > 40)).toEqual([]);
  expect(lines.join('\n')).toMatch(/^ {2}migrate {11}Copy trees and\n {20}compress files on$/m);
});

it('help hpcp is the help of hpcp', async () => {
  expect(await run(['help', 'hpcp'])).toEqual(await run(['hpcp', '--help']));
});

it('dsync can be run, and is not installed: mpiFileUtils has the name', async () => {
  const { bin } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  expect([(await run(['dsync', '--help'])).code, 'dsync' in bin]).toEqual([0, false]);
});

/** The names of the design, which the package installs. */
const DROP_INS = ['hpcp', 'run-mirror', 'compress_files', 'migrate_compress', 'move_to_final'];

it.each(DROP_INS)('%s is installed, and works', async (name) => {
  const { bin } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  const { code, stderr } = await run([name, '--help']);
  expect({ code, stderr, installed: name in bin }).toEqual({ code: 0, stderr: '', installed: true });
});
