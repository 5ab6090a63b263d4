/** `bulkhaul compare`: two sides in, what differs out. */
import { statSync } from 'node:fs';
import { BulkhaulError } from '../../error.js';
import { toBytes } from '../../names.js';
import type { Compared, CompareOptions } from '../../ops/compare.js';
import type { StoreCompareOptions } from '../../ops/sync.js';
import { bytes } from '../../report/units.js';
import { isUrl } from '../../stores/urls.js';
import { ExitCode, faultCode } from '../../verdict.js';
import { flag, operands, rules, value } from '../options.js';
import { Command } from '../parser.js';
import { neededSpillDirectory, runJob, spillDirectory } from '../run.js';
import { TwoStoresCommand } from '../stores.js';
import { parseSize, refuseElsewhere } from '../values.js';

export class CompareCommand extends TwoStoresCommand {
  static override readonly idle = {
    '--dry-run': 'a comparison changes nothing; --itemize shows each difference',
  };
  static override paths = [['compare']];
  static override usage = Command.Usage({
    description: 'Compare two trees, or a tree with a list',
    details: `
      Compares A with B, each a tree or, with \`--list-a\` and \`--list-b\`, a list that \`list\` or hpcp wrote. Counts
      what only A has, what only B has, and what both have and differs; with \`--itemize\` each difference is a line, as
      rsync would print it for a copy of A onto B.

      Files differ when their sizes do, or the xxh64 of their last 64 KiB (\`--hash-size\`). That finds what is missing or
      unfinished, and is no proof that longer files are the same: \`--content\` is, which reads both files whole where the
      sizes are equal. \`--metadata\` compares modes, owners and times too. The summary says what was compared.

      \`--output\` writes a list that says how to turn A into B: what is new or other in B, then what A has instead with
      \`-\` and NUL in front, as hpcp's -dfl. With \`--tar\` only the first, for \`tar -C B -T FILE\`. With \`--changes\` it is
      hpcp 9.79's change list, which says how to turn B into A.

      What a run that was interrupted or killed has read with \`--content\`, \`--full-hash\` or a larger \`--hash-size\` is not read
      again by the same command, or \`resume\`, where size, time of modification and time of change are as they were
      (\`--no-journal\`: all is read).

      A side may be a URL as \`sync\` takes it, \`s3://BUCKET/PREFIX\` or another. Then names and sizes are compared; with
      \`--hash-size\` also the ends of files and with \`--content\` all that is in them, read on both sides; with \`--metadata\`
      modes, owners and times, as far as both sides keep them. What a store has no place for, symlinks (but with \`--links\`)
      and directories, is counted and not compared. Where A is on another server, \`--source-endpoint-url\` and the like say
      so. \`--changes\`, \`--xattrs\` and lists do not go with a URL: a store knows too little for them;
      \`verify --in URL\` holds what is there against a manifest.

      Exit codes: 0 nothing differs, 1 something differs (\`--exit-zero\`: 0 then too), 2 usage or nothing begun, 23
      something could not be read, 24 something vanished or changed meanwhile, 130 interrupted.
    `,
    examples: [
      ['Is the copy complete?', '$0 compare photos /backup/photos'],
      ['Each difference, whole contents', '$0 compare --itemize --content photos /backup/photos'],
      ['With a list that was made before', '$0 compare --list-a photos.list /backup/photos'],
      ['With what is in a bucket', '$0 compare --content photos s3://archive/photos'],
      ['What is new, for tar', '$0 compare --tar --output new.list old new && tar -C new -cf new.tar -T new.list'],
    ],
  });

  rules = rules('Leave out of trees what PATTERN matches');
  listA = flag('--list-a', { group: 'what', help: 'A is a list' });
  listB = flag('--list-b', { group: 'what', help: 'B is a list' });
  links = flag('--links', {
    group: 'what',
    help: 'Of URLs: compare symlinks by their texts, with the objects NAME.rclonelink that hold those in a store',
  });
  oneFileSystem = flag('-x,--one-file-system', { group: 'what', help: 'Do not go into other file systems' });
  content = flag('-c,--checksum,--content', {
    group: 'how',
    help: 'Read files whole, where their sizes are equal',
  });
  hashSize = value(
    '--hash-size',
    {
      ...{ group: 'how', value: 'BYTES', default: '64K' },
      help: 'How much of the end of a file is compared, also with K, M or G; 0 for nothing',
    },
    parseSize,
  );
  fullHash = flag('--full-hash', { group: 'how', help: 'Hash whole files, as a list made so needs it' });
  noHash = flag('--no-hash', { group: 'how', help: 'Compare names and sizes only' });
  metadata = flag('-m,--metadata', { group: 'how', help: 'Compare modes, owners and times too' });
  xattrs = flag('-X,--xattrs', { group: 'how', help: 'Compare extended attributes and ACLs too' });
  itemize = flag('-i,--itemize', { group: 'output', help: 'Print each difference, as -v' });
  output = value('-o,--output', {
    ...{ group: 'output', value: 'FILE', default: 'none' },
    help: 'Write what differs to FILE, whole or not at all; into a FIFO or device as it comes; - is standard output',
  });
  tar = flag('--tar', { group: 'output', help: 'Write --output in the form of tar -T' });
  changes = flag('--changes', {
    group: 'output',
    help: "Write --output as hpcp 9.79's change list: how to turn B into A, with what is known of both sides",
  });
  exitZero = flag('--exit-zero', { group: 'output', help: 'End with 0 though something differs' });
  operands = operands('A B', 2, 2);

  async execute(): Promise<number> {
    const { context } = this;
    const settings = {
      ...this.settings,
      verbose: this.verbose || this.itemize,
      ...(this.exitZero && { exitCode: faultCode }),
    };
    const [a = '', b = ''] = this.operands;
    if (isUrl(a) || isUrl(b)) return this.#stores(a, b);
    const trees = [...(this.listA ? [] : [a]), ...(this.listB ? [] : [b])];
    refuseElsewhere('compare', trees);
    const { content, output } = this.#asked();
    const options: CompareOptions = {
      left: this.#side(a, this.listA && '--list-a'),
      right: this.#side(b, this.listB && '--list-b'),
      exclude: await this.patterns(this.rules),
      content,
      metadata: this.metadata || this.xattrs,
      xattrs: this.xattrs,
      oneFileSystem: this.oneFileSystem,
      form: this.changes ? 'changes' : this.tar ? 'tar' : 'both',
      spillDirectory: neededSpillDirectory(context.env),
      ...(output !== undefined && { output }),
      ...this.resources,
      ...this.journaled,
      ...(this.hashSize !== undefined && { hashSize: this.hashSize }),
      ...(this.fullHash && { hashSize: Number.MAX_SAFE_INTEGER }),
    };
    const { compare } = await import('../../ops/compare.js');
    const wanted = (settings.json || settings.verbose) && !settings.quiet;
    const report = await runJob(() => compare({ ...options, entries: wanted }), settings, context);
    if (!settings.json && !(settings.quiet && report.exitCode === ExitCode.complete)) {
      const { compareSummary } = await import('../../report/summary.js');
      context.stderr.write(compareSummary(report, whatOf(this), options));
    }
    return report.exitCode;
  }

  /** Of two places of which one is a store. */
  async #stores(left: string, right: string): Promise<number> {
    const settings = {
      ...this.settings,
      verbose: this.verbose || this.itemize,
      ...(this.exitZero && { exitCode: faultCode }),
    };
    const { context } = this;
    this.refuseHosts('compare', [left, right]);
    const sourceStore = await this.sourceStore();
    const unsized = 'a list has no sizes: make a manifest, and verify --in URL';
    const refusals = [
      [this.listA, '--list-a', unsized],
      [this.listB, '--list-b', unsized],
      [this.xattrs, '--xattrs', 'a store keeps none'],
      [this.changes, '--changes', 'a store knows too little of files'],
      [this.tar && isUrl(right), '--tar', 'tar reads files of this machine, and B is elsewhere'],
    ] as const;
    for (const [given, what, why] of refusals) {
      if (given) throw new BulkhaulError('USAGE', `${what} does not go with a URL: ${why}`);
    }
    const { content, output } = this.#asked();
    const { compareStores } = await import('../../ops/sync.js');
    const wanted = (settings.json || settings.verbose) && !settings.quiet;
    const exclude = await this.patterns(this.rules);
    // Of two trees the ends are read unasked: here each costs a question.
    const ends = this.hashSize ? 'tail' : 'nothing';
    const read = content === 'tail' ? (this.fullHash ? 'whole' : ends) : content;
    const options: StoreCompareOptions = {
      ...{ left, right, content: read, exclude, environment: context.env, store: this.store },
      ...{ metadata: this.metadata, oneFileSystem: this.oneFileSystem, form: this.tar ? 'tar' : 'both' },
      spillDirectory: spillDirectory(context.env),
      ...this.resources,
      ...(sourceStore && { leftStore: sourceStore }),
      ...(this.links && { links: true }),
      ...(this.hashSize !== undefined && { hashSize: this.hashSize }),
      ...(output !== undefined && { output }),
    };
    const report = await runJob(() => compareStores({ ...options, entries: wanted }), settings, context);
    if (!settings.json && !(settings.quiet && report.exitCode === ExitCode.complete)) {
      const { compareSummary } = await import('../../report/summary.js');
      const parts = ['names', 'sizes'];
      if (read === 'whole') parts.push('whole contents');
      if (read === 'tail' && this.hashSize) parts.push(endsOf(this.hashSize));
      if (this.metadata) parts.push('modes, owners and times');
      context.stderr.write(compareSummary(report, listed(parts)));
    }
    return report.exitCode;
  }

  /** What is read of files, and where differences go. Throws `USAGE` for a form without a file. */
  #asked(): { content: 'nothing' | 'tail' | 'whole'; output?: string } {
    for (const [given, name] of [
      [this.tar, '--tar'],
      [this.changes, '--changes'],
    ] as const) {
      if (given && this.output === undefined) throw new BulkhaulError('USAGE', `${name} goes with --output`);
    }
    if (this.tar && this.changes) throw new BulkhaulError('USAGE', '--tar and --changes exclude each other');
    return {
      content: this.content ? 'whole' : this.noHash ? 'nothing' : 'tail',
      ...(this.output !== undefined && { output: this.file('--output', this.output, '/dev/stdout') }),
    };
  }

  protected override get printing(): string | undefined {
    return super.printing ?? (this.itemize && !this.quiet ? '--itemize' : undefined);
  }

  /** A regular file that is said to be a list is read as one. */
  #side(path: string, list: string | false): Compared {
    if (!list) return path;
    if (path === '-') return { list: this.file(list, path, '/dev/stdin') };
    if (statSync(toBytes(path), { throwIfNoEntry: false })?.isDirectory()) {
      throw new BulkhaulError('USAGE', `${path} is a directory, not a list`);
    }
    return { list: path };
  }
}

/** What is compared, in words. */
function whatOf(command: CompareCommand): string {
  const { content, noHash, fullHash, hashSize = 65_536, metadata, xattrs, listA, listB } = command;
  const read = content
    ? ['whole contents']
    : fullHash
      ? ['hashes of whole contents']
      : noHash || hashSize === 0
        ? []
        : [endsOf(hashSize)];
  const parts = ['names', 'kinds', ...(listA || listB ? [] : ['sizes']), ...read];
  if (metadata || xattrs) parts.push('modes, owners and times');
  if (xattrs) parts.push('extended attributes');
  return listed(parts);
}

const endsOf = (hashSize: number) => `the last ${bytes(hashSize).replace('.0 ', ' ')} of files`;
const listed = (parts: readonly string[]) => `${parts.slice(0, -1).join(', ')} and ${parts.at(-1)}`;
