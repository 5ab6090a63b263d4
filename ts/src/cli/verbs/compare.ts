/** `bulkhaul compare`: two sides in, what differs out. */
import { statSync } from 'node:fs';
import { BulkhaulError } from '../../error.js';
import { toBytes } from '../../names.js';
import type { Compared, CompareOptions } from '../../ops/compare.js';
import { VerbCommand } from '../base.js';
import { ExitCode, exitCodeOfReport } from '../exit.js';
import { Command, Option } from '../parser.js';
import { neededSpillDirectory, runJob } from '../run.js';
import { parseSize } from '../values.js';

export class CompareCommand extends VerbCommand {
  static override paths = [['compare']];
  static override usage = Command.Usage({
    description: 'Compare two trees, or a tree with a list',
    details: `
      Compares A with B, each a tree or, with \`--list-a\` and \`--list-b\`, a list that \`list\` or hpcp wrote. Counts
      what only A has, what only B has, and what both have and differs; with \`--itemize\` each difference is a line, as
      rsync would print it for a copy of A onto B.

      Files differ when their sizes do, or the xxh64 of their last 64 KiB (\`--hash-size\`). \`--content\` reads both
      files whole where the sizes are equal. \`--metadata\` compares modes, owners and times too.

      \`--output\` writes a list that says how to turn A into B: what is new or other in B, then what A has instead with
      \`-\` and NUL in front, as hpcp's -dfl. With \`--tar\` only the first, for \`tar -C B -T FILE\`. With \`--changes\` it is
      hpcp 9.79's change list, which says how to turn B into A.

      Exit codes: 0 compared (with \`--fail-on-diff\`: and nothing differs), 1 differences with \`--fail-on-diff\`, 2 usage
      or nothing begun, 23 something could not be read, 24 something vanished or changed meanwhile, 130 interrupted.
    `,
    examples: [
      ['Is the copy complete?', '$0 compare --fail-on-diff photos /backup/photos'],
      ['Each difference, whole contents', '$0 compare --itemize --content photos /backup/photos'],
      ['With a list that was made before', '$0 compare --list-a photos.list /backup/photos'],
      ['What is new, for tar', '$0 compare --tar --output new.list old new && tar -C new -cf new.tar -T new.list'],
    ],
  });

  itemize = Option.Boolean('-i,--itemize', false, { description: 'Print each difference, as -v' });
  content = Option.Boolean('-c,--content,--checksum', false, {
    description: 'Read files whole, where their sizes are equal',
  });
  metadata = Option.Boolean('-m,--metadata', false, { description: 'Compare modes, owners and times too' });
  xattrs = Option.Boolean('-X,--xattrs', false, { description: 'Compare extended attributes and ACLs too' });
  hashSize = Option.String('--hash-size', {
    description: 'Bytes at the end of a file that are compared, with K, M or G; 0 for none. Otherwise 64K',
  });
  fullHash = Option.Boolean('--full-hash', false, { description: 'Hash whole files, as a list made so needs it' });
  noHash = Option.Boolean('--no-hash', false, { description: 'Compare names and sizes only' });
  listA = Option.Boolean('--list-a', false, { description: 'A is a list' });
  listB = Option.Boolean('--list-b', false, { description: 'B is a list' });
  exclude = Option.Array('--exclude', [], {
    description: "Leave out of trees what PATTERN matches, by rsync's rules; repeatable, the first that matches wins",
  });
  oneFileSystem = Option.Boolean('-x,--one-file-system', false, { description: 'Do not go into other file systems' });
  output = Option.String('-o,--output', {
    description: 'Write what differs to FILE, whole or not at all; into a FIFO or device as it comes',
  });
  tar = Option.Boolean('--tar', false, { description: 'Write --output in the form of tar -T' });
  changes = Option.Boolean('--changes', false, {
    description: "Write --output as hpcp 9.79's change list: how to turn B into A, with what is known of both sides",
  });
  failOnDiff = Option.Boolean('--fail-on-diff', false, { description: 'End with 1 when something differs' });
  operands = Option.Rest({ name: 'A B', required: 2 });

  async execute(): Promise<number> {
    const { context } = this;
    const settings = { ...this.settings, verbose: this.verbose || this.itemize };
    const [a, b, ...more] = this.operands;
    if (a === undefined || b === undefined || more.length > 0) {
      throw new BulkhaulError('USAGE', `compare takes two sides, not ${this.operands.length}`);
    }
    for (const [given, name] of [
      [this.tar, '--tar'],
      [this.changes, '--changes'],
    ] as const) {
      if (given && this.output === undefined) throw new BulkhaulError('USAGE', `${name} goes with --output`);
    }
    if (this.tar && this.changes) throw new BulkhaulError('USAGE', '--tar and --changes exclude each other');
    const options: CompareOptions = {
      left: side(a, this.listA),
      right: side(b, this.listB),
      exclude: this.exclude,
      content: this.content ? 'whole' : this.noHash ? 'nothing' : 'tail',
      metadata: this.metadata || this.xattrs,
      xattrs: this.xattrs,
      oneFileSystem: this.oneFileSystem,
      form: this.changes ? 'changes' : this.tar ? 'tar' : 'both',
      spillDirectory: neededSpillDirectory(context.env),
      ...(this.output !== undefined && !settings.dryRun && { output: this.output }),
      ...this.resources,
      ...(this.hashSize !== undefined && { hashSize: parseSize(this.hashSize, '--hash-size') }),
      ...(this.fullHash && { hashSize: Number.MAX_SAFE_INTEGER }),
    };
    const { compare } = await import('../../ops/compare.js');
    const wanted = (settings.json || settings.verbose || settings.dryRun) && !settings.quiet;
    const report = await runJob(() => compare({ ...options, entries: wanted }), settings, context);
    const code = this.failOnDiff ? exitCodeWithDifferences(report) : exitCodeOfReport(report);
    if (!settings.json && (!settings.quiet || code !== ExitCode.complete)) {
      const { compareSummary } = await import('../../report/summary.js');
      context.stderr.write(compareSummary(report));
    }
    return code;
  }
}

function exitCodeWithDifferences(report: Parameters<typeof exitCodeOfReport>[0]): ExitCode {
  const code = exitCodeOfReport(report);
  const { left, right, changed } = report.differences;
  const differ = left + right + changed > 0 && code !== ExitCode.interrupted && code !== ExitCode.safety;
  return differ ? ExitCode.mismatched : code;
}

/** A regular file that is said to be a list is read as one. */
function side(path: string, isList: boolean): Compared {
  if (!isList) return path;
  if (path === '-') return { list: '/dev/stdin' };
  if (statSync(toBytes(path), { throwIfNoEntry: false })?.isDirectory()) {
    throw new BulkhaulError('USAGE', `${path} is a directory, not a list`);
  }
  return { list: path };
}
