/** `bulkhaul list`: options in, one list out, on standard output or into a file. */
import { BulkhaulError } from '../../error.js';
import type { ListOptions } from '../../ops/list.js';
import { isUrl } from '../../stores/urls.js';
import { flag, operands, rules, value } from '../options.js';
import { Command } from '../parser.js';
import { neededSpillDirectory, runJob } from '../run.js';
import { StoreCommand } from '../stores.js';
import { parseSize, refuseElsewhere } from '../values.js';

export class ListCommand extends StoreCommand {
  static override readonly idle = {
    '--dry-run': 'a list changes nothing',
    '--verbose': 'the list has a line for each entry',
  };
  static override paths = [['list']];
  static override usage = Command.Usage({
    description: 'List trees, with hashes',
    details: `
      Lists what is in each PATH, one entry a line in natural order: \`name:hash\` for a file (xxh64 of its last 64 KiB,
      see \`--hash-size\`, \`--full-hash\`), \`name:target\` for a symlink, \`name/\` for a directory. This is the form of
      hpcp's lists. Names begin with the name of PATH; with \`PATH/\` they are relative to it.

      A name that a line can't carry (a newline, bytes that are not UTF-8, blanks at its ends, what would read back as
      something else) is escaped: a NUL byte stands in front, and \`compare\` and hpcp's \`-sfl\` here read it back.
      FIFOs, sockets and devices are left out. What can't be read is an error, and the rest is listed.

      Where more than 64 KiB of each file are hashed (\`--full-hash\`, \`--hash-size\`), a run that was interrupted or killed
      is gone on with by the same command, or \`resume\`: what it has hashed is not read again where size, time of
      modification and time of change are as they were (\`--no-journal\`: all is read).

      A URL as \`sync\` takes it, \`s3://BUCKET/PREFIX\` or another, lists names below it, in the order of their bytes, and with \`--json\` sizes and times.

      Exit codes: 0 complete, 2 usage or nothing begun, 23 some entries are missing or could not be read, 24 some vanished
      or changed meanwhile, 130 interrupted.
    `,
    examples: [
      ['List a tree with hashes', '$0 list photos'],
      ['Into a file, which appears when it is whole', '$0 list --output photos.list photos'],
      ['Names only, for xargs', '$0 list --no-hash -0 photos/'],
      ['For a program, with sizes and times', '$0 list --json photos'],
      ['What is in a bucket', '$0 list s3://archive/photos'],
    ],
  });

  rules = rules('Leave out what PATTERN matches');
  oneFileSystem = flag('-x,--one-file-system', {
    group: 'what',
    help: 'Do not go into other file systems below a PATH',
  });
  hashSize = value(
    '--hash-size',
    {
      ...{ group: 'how', value: 'BYTES', default: '64K' },
      help: 'How much of the end of a file is hashed, also with K, M or G; 0 for nothing',
    },
    parseSize,
  );
  fullHash = flag('--full-hash', { group: 'how', help: 'Hash whole files' });
  noHash = flag('--no-hash', { group: 'how', help: 'Names only' });
  output = value('-o,--output', {
    ...{ group: 'output', value: 'FILE', default: '-, standard output' },
    help: 'Write the list to FILE, whole or not at all; into a FIFO or device as it comes',
  });
  nul = flag('-0,--null', {
    group: 'output',
    help: 'End each name with NUL instead of a newline; names only, as they are',
  });
  operands = operands('PATH…', 1);

  async execute(): Promise<number> {
    const { settings, context } = this;
    if (this.operands.some(isUrl)) return this.listUrl();
    refuseElsewhere('list', this.operands);
    const output = this.output && this.file('--output', this.output, '/dev/stdout');
    const options: ListOptions = {
      sources: this.operands,
      exclude: await this.patterns(this.rules),
      hashes: !this.noHash && !this.nul,
      fullHash: this.fullHash,
      nul: this.nul,
      oneFileSystem: this.oneFileSystem,
      spillDirectory: neededSpillDirectory(context.env),
      ...this.resources,
      ...this.journaled,
      ...(this.hashSize !== undefined && { hashSize: this.hashSize }),
    };
    const { list } = await import('../../ops/list.js');
    const target = output ?? (settings.json ? undefined : '/dev/stdout');
    const report = await runJob(
      () => list({ ...options, output: target, entries: settings.json && !settings.quiet }),
      settings,
      context,
    );
    if (this.tells(report, output === undefined)) {
      const { listSummary } = await import('../../report/summary.js');
      context.stderr.write(listSummary(report, options));
    }
    return report.exitCode;
  }

  /** One URL: names, or entries as events. */
  private async listUrl(): Promise<number> {
    const { settings, context, fullHash, oneFileSystem, hashSize } = this;
    const [place = '', ...more] = this.operands;
    if (more.length > 0) throw new BulkhaulError('USAGE', 'one URL is listed at a time');
    if (fullHash || oneFileSystem || hashSize !== undefined) {
      throw new BulkhaulError('USAGE', 'of a URL names are listed: --hash-size, --full-hash and -x are for paths');
    }
    const output = this.output && this.file('--output', this.output, '/dev/stdout');
    const { jobs: _, ...pace } = this.resources;
    const { listStore } = await import('../../ops/sync.js');
    const target = output ?? (settings.json ? undefined : '/dev/stdout');
    const exclude = await this.patterns(this.rules);
    const asked = {
      place,
      exclude,
      nul: this.nul,
      output: target,
      store: this.store,
      environment: context.env,
      ...pace,
    };
    const entries = settings.json && !settings.quiet;
    const report = await runJob(() => listStore({ ...asked, entries }), settings, context);
    if (this.tells(report, output === undefined)) {
      const { listSummary } = await import('../../report/summary.js');
      context.stderr.write(listSummary(report));
    }
    return report.exitCode;
  }
}
