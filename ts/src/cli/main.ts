#!/usr/bin/env node
/**
 * The one executable: the name it was started with, or its first argument, decides which command it is.
 *
 * Only that command is loaded: starting is most of what a small run costs.
 */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import type { DropInPage } from './dropin/argparse.js';
import type { Verb } from './options.js';
import type { Context, GoesOn } from './run.js';
import type { Told } from './shell/describe.js';

// Node would open a debugger. A run that has something to say prints it.
process.on('SIGUSR1', () => undefined);

// Not static: what is wrong with them would come before anything here.
const [{ BulkhaulError }, { display, fromBytes }, { exitCodeOfError, systemError }, { ExitCode }] = await Promise.all([
  import('../error.js'),
  import('../names.js'),
  import('./exit.js'),
  import('../verdict.js'),
]).catch((error: unknown) => cannotStart(error));

/** A command: its arguments in, its exit code out. */
interface Main {
  (args: string[], context: Context): Promise<number>;
  /** What a native verb declares. */
  readonly verb?: Verb;
}

interface Entry {
  summary: string;
  load: () => Promise<Main>;
  /** The command is also installed under its own name. */
  dropIn?: boolean;
  /** What a drop-in tells of itself, for completion and manual pages. */
  page?: () => Promise<DropInPage>;
}

const COMMANDS = new Map<string, Entry>([
  ['copy', { summary: 'Copy trees', load: async () => verb('copy', (await import('./verbs/copy.js')).CopyCommand) }],
  ['move', { summary: 'Move trees', load: async () => verb('move', (await import('./verbs/move.js')).MoveCommand) }],
  [
    'migrate',
    {
      summary: 'Copy trees and compress files on the way',
      load: async () => verb('migrate', (await import('./verbs/migrate.js')).MigrateCommand),
    },
  ],
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
    'manifest',
    {
      summary: 'Write down the digests of files',
      load: async () => verb('manifest', (await import('./verbs/manifest.js')).ManifestCommand),
    },
  ],
  [
    'verify',
    {
      summary: 'Check files against manifests',
      load: async () => verb('verify', (await import('./verbs/verify.js')).VerifyCommand),
    },
  ],
  [
    'partition',
    {
      summary: 'Divide trees into parts of one size, with a list of each',
      load: async () => verb('partition', (await import('./verbs/partition.js')).PartitionCommand),
    },
  ],
  [
    'pack',
    {
      summary: 'Pack trees into a few large tar files, with indexes',
      load: async () => verb('pack', (await import('./verbs/pack.js')).PackCommand),
    },
  ],
  [
    'unpack',
    {
      summary: 'Unpack shards, or any tar, or verify them',
      load: async () => verb('unpack', (await import('./verbs/unpack.js')).UnpackCommand),
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
    'compress',
    {
      summary: 'Compress files in place',
      load: async () => verb('compress', (await import('./verbs/compress.js')).CompressCommand),
    },
  ],
  [
    'decompress',
    {
      summary: 'Decompress files in place, or test them',
      load: async () => verb('decompress', (await import('./verbs/decompress.js')).DecompressCommand),
    },
  ],
  [
    'sync',
    {
      summary: 'Bring over what changed, also between object stores and this machine',
      load: async () => verb('sync', (await import('./verbs/sync.js')).SyncCommand),
    },
  ],
  [
    'retain',
    {
      summary: 'Keep the last partitions of a data set, and remove the others',
      load: async () => verb('retain', (await import('./verbs/retain.js')).RetainCommand),
    },
  ],
  [
    'image',
    {
      summary: 'Look at disks and images, check, clone and pack them',
      load: async () => verb('image', (await import('./verbs/image.js')).ImageCommand),
    },
  ],
  [
    'status',
    { summary: 'Show jobs', load: async () => verb('status', (await import('./verbs/status.js')).StatusCommand) },
  ],
  [
    'resume',
    {
      summary: 'Go on with a job',
      load: async () => verb('resume', (await import('./verbs/resume.js')).ResumeCommand),
    },
  ],
  [
    'report',
    {
      summary: 'Tell what a job did',
      load: async () => verb('report', (await import('./verbs/report.js')).ReportCommand),
    },
  ],
  [
    'worker',
    {
      summary: 'Work on the parts of what is spread',
      load: async () => verb('worker', (await import('./verbs/worker.js')).WorkerCommand),
    },
  ],
  [
    'doctor',
    {
      summary: 'Tell what this machine allows and what is missing',
      load: async () => verb('doctor', (await import('./verbs/doctor.js')).DoctorCommand),
    },
  ],
  [
    'completion',
    {
      summary: 'Print completion for a shell',
      load: async () => verb('completion', (await import('./verbs/completion.js')).completionCommand(told)),
    },
  ],
  [
    'hpcp',
    {
      summary: 'Parallel copy, with the flags of hpcp',
      load: async () => (await import('./dropin/hpcp.js')).hpcp,
      page: async () => (await import('./dropin/hpcp/help.js')).PAGE,
      dropIn: true,
    },
  ],
  [
    'run-mirror',
    {
      summary: 'Manifest, copy, verify, with the flags of mirror_tool.py',
      load: async () => (await import('./dropin/run-mirror.js')).runMirror,
      page: async () => (await import('./dropin/run-mirror/help.js')).PAGE,
      dropIn: true,
    },
  ],
  [
    'dsync',
    {
      summary: 'Parts, copied at once by rsync or rclone, with the flags of dsync.py',
      load: async () => (await import('./dropin/dsync.js')).dsync,
      page: async () => (await import('./dropin/dsync/help.js')).PAGE,
      dropIn: true,
    },
  ],
  [
    'compress_files',
    {
      summary: 'Compress in place, with the flags of compress_files.py',
      load: async () => (await import('./dropin/compress_files.js')).compressFiles,
      page: async () => (await import('./dropin/compress_files/help.js')).PAGE,
      dropIn: true,
    },
  ],
  [
    'migrate_compress',
    {
      summary: 'Copy and compress, with the flags of migrate_compress.py',
      load: async () => (await import('./dropin/migrate_compress.js')).migrateCompress,
      page: async () => (await import('./dropin/migrate_compress/help.js')).PAGE,
      dropIn: true,
    },
  ],
  [
    'move_to_final',
    {
      summary: 'Move with proof, with the flags of move_to_final.py',
      load: async () => (await import('./dropin/move_to_final.js')).moveToFinal,
      page: async () => (await import('./dropin/move_to_final/help.js')).PAGE,
      dropIn: true,
    },
  ],
]);

/** Runs the words of a command that go on with a job; the exit code. */
const again: NonNullable<Context['again']> = ([startedAs = '', ...args], goesOn) => main(startedAs, args, goesOn);

/** Runs the command; the exit code. `goesOn`: the job that it goes on with. */
async function main(startedAs: string, args: string[], goesOn?: GoesOn): Promise<number> {
  const [first, ...others] = COMMANDS.get(startedAs)?.dropIn ? [startedAs, ...args] : args;
  if (first === undefined) {
    process.stderr.write(await overview(process.stderr));
    return ExitCode.usage;
  }
  if (['--version', '-V', 'version'].includes(first)) return answer(`bulkhaul ${await version()}\n`);
  const asked = ['--help', '-h', 'help'].includes(first);
  const [name, ...rest] = asked ? [others[0], '--help'] : [first, ...others];
  if (name === undefined || (asked && ['help', 'version'].includes(name)))
    return answer(await overview(process.stdout));
  const entry = COMMANDS.get(name);
  if (entry === undefined) {
    const { commandAdvice } = await import('./advice.js');
    return refuse(
      `${display(commandAdvice(name, [...COMMANDS.keys(), 'help', 'version']))} (bulkhaul help lists the commands)`,
    );
  }
  const command = await entry.load().catch((error: unknown) => cannotStart(error));
  try {
    return await command(rest, goesOn ? { ...process, goesOn } : process);
  } catch (thrown) {
    const { errorText } = await import('./run.js');
    const error = systemError(thrown);
    process.stderr.write(errorText(error, name));
    return exitCodeOfError(error);
  }
}

/** A native verb: its arguments are read, and clipanion makes the call of them. */
function verb(name: string, command: Verb): Main {
  const main = async (args: string[], { stdout, goesOn }: Context) => {
    const { read, UnknownOptions } = await import('./options.js');
    const { Cli } = await import('./parser.js');
    const describes = `(bulkhaul help ${name} describes the command)`;
    try {
      const call = read(name, command, args);
      if (call === 'help') {
        const { verbHelp } = await import('./help.js');
        const { widthOf } = await import('./layout.js');
        return await answer(verbHelp(name, command, widthOf(stdout)));
      }
      const cli = new Cli({ binaryName: 'bulkhaul', enableColors: false });
      cli.register(command);
      const more: Partial<Context> = { again, goesOn };
      return await cli.run(cli.process([name, ...call], {}), more);
    } catch (error) {
      // Only arguments that do not parse come here; what a command throws it deals with itself.
      const told = async (message: string) => {
        const end = args.indexOf('--');
        if (args.slice(0, end < 0 ? undefined : end).includes('--json')) {
          const { tellRefusal } = await import('./run.js');
          await tellRefusal(stdout, new BulkhaulError('USAGE', message));
        }
        return refuse(`${display(message)} ${describes}`);
      };
      if (error instanceof UnknownOptions) {
        const { optionAdvice } = await import('./advice.js');
        return told(optionAdvice(name, error.given, error.known));
      }
      if (error instanceof BulkhaulError && error.code === 'USAGE') return told(error.message);
      throw error;
    }
  };
  return Object.assign(main, { verb: command });
}

/** All commands that can be run, with what they tell of themselves. */
async function told(): Promise<Told[]> {
  const all = [...COMMANDS].map(async ([name, { summary, load, page }]) => {
    const main = await load?.();
    return main && { name, summary, verb: main.verb, page: await page?.() };
  });
  return (await Promise.all(all)).filter((each) => each !== undefined);
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

async function overview(stream: object): Promise<string> {
  const { widthOf, wrap } = await import('./layout.js');
  const width = widthOf(stream);
  return [
    wrap('bulkhaul moves bulk data fast and proves that it arrived.', width),
    '',
    wrap('Usage: bulkhaul COMMAND [OPTIONS] ARGUMENTS', width, '', '    '),
    '',
    ...[...COMMANDS].map(([name, { summary }]) => wrap(summary, width, `  ${name.padEnd(17)}`, ' '.repeat(20))),
    '',
    wrap('bulkhaul help COMMAND describes a command; bulkhaul version prints the version.', width),
    '',
  ].join('\n');
}

/** The arguments with every byte kept, for everybody: Node decodes them with a loss. */
function commandLine(): string[] {
  const args = process.argv.slice(2);
  if (process.platform !== 'linux' || !args.some((arg) => arg.includes('\ufffd'))) return args;
  const bytes = readFileSync('/proc/self/cmdline');
  const all = fromBytes(bytes).split('\0').slice(0, -1);
  process.argv.splice(2, args.length, ...all.slice(all.length - args.length));
  return process.argv.slice(2);
}

async function version(): Promise<string> {
  return (await import('./version.js')).version();
}

/** Says why nothing can be begun, and ends. */
function cannotStart(error: unknown): never {
  const why = error instanceof Error ? error.message : String(error);
  const few = error instanceof Error && 'code' in error && error.code === 'EMFILE';
  const advice = few
    ? 'more file descriptors are needed than the limit allows (ulimit -n)'
    : `parts of the installation are missing, or Node.js ${process.version} is too old`;
  process.stderr.write(`bulkhaul: cannot start: ${advice}: ${why.split('\n', 1)[0]}\n`);
  process.exit(2);
}

// Nobody is left to be told that standard error is gone.
process.stderr.on('error', () => undefined);
// An event loop that runs empty before the command has ended is a defect, and must not look like success.
process.exitCode = ExitCode.defect;
// So is what nobody caught.
process.on('uncaughtException', (error) => {
  process.stderr.write(`bulkhaul: this is a defect of bulkhaul: ${error instanceof Error ? error.stack : error}\n`);
  process.exit(ExitCode.defect);
});
process.exitCode = await main(basename(process.argv[1] ?? ''), commandLine());
