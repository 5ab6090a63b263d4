#!/usr/bin/env node
/**
 * The one executable: the name it was started with, or its first argument, decides which command it is.
 *
 * Only that command is loaded: starting is most of what a small run costs.
 */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { BulkhaulError } from '../error.js';
import { display, fromBytes } from '../names.js';
import { ExitCode, exitCodeOfError, systemError } from './exit.js';
import type { CommandClass } from './parser.js';
import type { Context } from './run.js';

/** A command: its arguments in, its exit code out. */
type Main = (args: string[], context: Context) => Promise<number>;

interface Entry {
  summary: string;
  /** Absent: the name is kept for a command that does not exist yet. */
  load?: () => Promise<Main>;
  /** The command is also installed under its own name. */
  dropIn?: boolean;
}

const COMMANDS = new Map<string, Entry>([
  ['copy', { summary: 'Copy trees', load: async () => verb('copy', (await import('./verbs/copy.js')).CopyCommand) }],
  [
    'remove',
    { summary: 'Remove trees', load: async () => verb('remove', (await import('./verbs/remove.js')).RemoveCommand) },
  ],
  [
    'list',
    {
      summary: 'List trees, with hashes',
      load: async () => verb('list', (await import('./verbs/list.js')).ListCommand),
    },
  ],
  [
    'compare',
    {
      summary: 'Compare trees and lists',
      load: async () => verb('compare', (await import('./verbs/compare.js')).CompareCommand),
    },
  ],
  [
    'hpcp',
    {
      summary: 'Parallel copy, with the flags of hpcp',
      load: async () => (await import('./dropin/hpcp.js')).hpcp,
      dropIn: true,
    },
  ],
  ['run-mirror', { summary: 'Manifest, copy, verify', dropIn: true }],
  ['compress_files', { summary: 'Compress files in place', dropIn: true }],
  ['migrate_compress', { summary: 'Copy and compress, with state and resume', dropIn: true }],
  ['move_to_final', { summary: 'Move with proof', dropIn: true }],
]);

/** Runs the command; the exit code. */
async function main(startedAs: string, args: string[]): Promise<number> {
  const [name, ...rest] = COMMANDS.get(startedAs)?.dropIn ? [startedAs, ...args] : args;
  if (name === undefined) {
    process.stderr.write(overview());
    return ExitCode.usage;
  }
  if (['--help', '-h', 'help'].includes(name)) return answer(overview());
  if (name === '--version') return answer(`bulkhaul ${version()}\n`);
  const entry = COMMANDS.get(name);
  if (entry === undefined) return refuse(`there is no command ${display(name)}; bulkhaul --help lists them`);
  if (entry.load === undefined) return refuse(`${name} is not part of this version yet (${version()})`);
  try {
    const command = await entry.load();
    return await command(rest, process);
  } catch (thrown) {
    const { errorText } = await import('./run.js');
    const error = systemError(thrown);
    process.stderr.write(errorText(error, name));
    return exitCodeOfError(error);
  }
}

/** A native verb, which clipanion reads the arguments of. */
function verb(name: string, command: CommandClass): Main {
  return async (args, { stdout, env }) => {
    const { Cli } = await import('./parser.js');
    const cli = new Cli({
      binaryLabel: 'bulkhaul',
      binaryName: 'bulkhaul',
      binaryVersion: version(),
      enableColors: 'isTTY' in stdout && stdout.isTTY === true && !env.NO_COLOR && env.TERM !== 'dumb',
    });
    cli.register(command);
    try {
      const given = cli.process([name, ...args], {});
      // What is no call of the command asks what the command is.
      const called = given instanceof command;
      return await (called ? cli.run(given, {}) : answer(cli.usage(command, { detailed: true })));
    } catch (error) {
      // Only arguments that do not parse come here; what a command throws it deals with itself.
      if (!(error instanceof Error && 'clipanion' in error)) throw error;
      const [sentence = ''] = error.message.split('\n');
      return refuse(`${display(sentence)} (bulkhaul ${name} --help describes the command)`);
    }
  };
}

/** Prints a text that is all that was asked for. */
async function answer(text: string): Promise<number> {
  const { answer } = await import('./answer.js');
  try {
    await answer(process.stdout, text);
    return ExitCode.complete;
  } catch (error) {
    return refuse(BulkhaulError.from(error).message);
  }
}

function refuse(sentence: string): number {
  process.stderr.write(`bulkhaul: ${sentence}\n`);
  return ExitCode.usage;
}

function overview(): string {
  const rows = [...COMMANDS]
    .filter(([, { load }]) => load)
    .map(([name, { summary }]) => `  ${name.padEnd(18)}${summary}\n`);
  return `bulkhaul moves bulk data fast and proves that it arrived.\n\nbulkhaul COMMAND [OPTIONS] ARGUMENTS\n\n${rows.join('')}\nbulkhaul COMMAND --help describes a command; bulkhaul --version prints the version.\n`;
}

function version(): string {
  const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'));
  return version;
}

/** The arguments with every byte kept: Node decodes them with a loss. */
function commandLine(): string[] {
  const args = process.argv.slice(2);
  if (process.platform !== 'linux' || !args.some((arg) => arg.includes('\ufffd'))) return args;
  const bytes = readFileSync('/proc/self/cmdline');
  const all = fromBytes(bytes).split('\0').slice(0, -1);
  return all.slice(all.length - args.length);
}

// Nobody is left to be told that standard error is gone.
process.stderr.on('error', () => undefined);
// An event loop that runs empty before the command has ended is a defect, and must not look like success.
process.exitCode = ExitCode.safety;
process.exitCode = await main(basename(process.argv[1] ?? ''), commandLine());
