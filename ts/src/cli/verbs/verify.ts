/** `bulkhaul verify`: manifests in, what is not as they say out. */
import { statSync } from 'node:fs';
import { dirname } from 'node:path';
import { BulkhaulError } from '../../error.js';
import type { Event } from '../../events.js';
import type { Part } from '../../journal/scrub.js';
import { display, toBytes } from '../../names.js';
import type { Job } from '../../ops/job.js';
import type { Crew } from '../../ops/spread.js';
import type { VerifyOptions } from '../../ops/verify.js';
import { isUrl } from '../../stores/urls.js';
import { ExitCode } from '../../verdict.js';
import { CREW, crewOf } from '../crew.js';
import { ALGORITHMS, algorithmOf } from '../digests.js';
import { needed } from '../jobs.js';
import { flag, operands, rules, value } from '../options.js';
import { Command } from '../parser.js';
import { neededSpillDirectory, runJob } from '../run.js';
import { StoreCommand } from '../stores.js';
import { refuseElsewhere } from '../values.js';

/** The parts that `N%` makes of all. */
function partsOf(text: string, option: string): number {
  const [, digits] = /^(\d+(?:\.\d+)?)%$/.exec(text) ?? [];
  const percent = Number(digits);
  if (digits === undefined || percent < 0.01 || percent > 100) {
    throw new BulkhaulError('USAGE', `${option}: ${text} is no part of all, such as 5%, from 0.01% to 100%`);
  }
  return Math.ceil(100 / percent);
}

export class VerifyCommand extends StoreCommand {
  static override readonly idle = {
    '--dry-run': 'a verification changes nothing; --quick reads no content',
    '--verbose': 'whatever is not as it should be has a line',
  };
  static override paths = [['verify']];
  static override usage = Command.Usage({
    description: 'Check files against manifests',
    details: `
      Reads each file that a MANIFEST names and compares its digest with the one that stands there. A MANIFEST may be
      what \`manifest\` wrote, in any form, or b3sum, sha256sum, sha512sum, md5sum, their like on BSD, hashdeep, rclone or
      a tool for bags, or one digest alone in FILE.md5 beside FILE, and each may be compressed (gzip, xz, zstd), or UTF-16 as PowerShell writes it; its form and its algorithm are recognised, and an algorithm that the files are not of is named.
      Backslashes of Windows are taken for slashes where no file has such a name.
      Paths begin in DIR (\`--in\`), or else where MANIFEST lies; nothing outside is ever read, and no link is followed.
      \`-\` is standard input, for which \`--in\` is needed. A MANIFEST that is a directory stands for those that lie below it,
      each about where it lies: \`FILE.md5\`, \`SHA256SUMS\`, \`md5checksums.txt\`, \`manifest-sha512.txt\` and what else is called
      so, of any algorithm that is known here; \`--in\` says then where that directory is taken to be.

      An error each are a file with other content (mismatch), an entry that is missing, one of another kind, one that
      can't be read, and an entry that no MANIFEST names (extra; \`--no-extra\` leaves these out). Where lines are about
      regular files only, nothing else is extra. All is looked at to the end. The MANIFESTs themselves, the state
      directory and what interrupted runs left unfinished are not extra. Modes, owners and times are not compared.

      Content is read from the medium, not from memory, where the system allows it; the summary says how much came from
      the cache nevertheless.

      A run that was interrupted or killed is gone on with by the same command, or \`resume\`: what it has proved is not read
      again where size, time of modification and time of change are as they were (\`--no-journal\`: all is read). A run that
      came to its end is no such thing: the next one reads all.

      DIR may be a URL as \`sync\` takes it, \`s3://BUCKET/PREFIX\` or another: each object is read whole, whatever sum its
      store has of it, and each time anew. What a store has no place for, directories and symlinks, is not missing there.

      With \`--workers\` so many processes read, each a part after the other: what is in DIR is divided, and each worker reads
      the MANIFESTs for each part. Where a worker dies, another takes its part; where this command dies, resume goes on. In
      the end one process looks at all of it, tells what is missing, extra or wrong, and reads nothing again that was proved.

      Exit codes: 0 all is as it should be, 1 something is mismatched, missing, extra or of another kind, 2 usage or
      nothing begun, also where a MANIFEST is refused (nothing in it, a line that is none, a path that is absolute or has
      \`..\`, lines that disagree), with the number of the line, 23 MANIFEST or DIR does not exist, or something could not be
      read, 24 something vanished or changed meanwhile, 130 interrupted.
    `,
    examples: [
      ['Is every byte still there?', '$0 verify photos/BLAKE3SUMS'],
      ['A copy, by the manifest of its source', '$0 verify --in /mnt/archive photos/BLAKE3SUMS'],
      ['What is in a bucket, by the manifest of what was sent there', '$0 verify --in s3://archive/photos photos.b3'],
      ['What was delivered with many manifests, each beside its files', '$0 verify delivery'],
      ['Each night a twentieth of all', '$0 verify --sample 5% photos/BLAKE3SUMS'],
      ['Repair what is damaged', '$0 verify --in photos --repair-from /mnt/archive photos/BLAKE3SUMS'],
      ['By four processes', '$0 verify --workers 4 photos/BLAKE3SUMS'],
      ['Only names and sizes', '$0 verify --quick photos.jsonl'],
    ],
  });

  directory = value('--in', {
    ...{ group: 'what', value: 'DIR', default: 'where MANIFEST lies' },
    help: 'Where the paths in a MANIFEST begin',
  });
  rules = rules('Neither verify nor call extra what PATTERN matches, below DIR');
  noExtra = flag('--no-extra', { group: 'what', help: 'What no MANIFEST names is no error' });
  algorithm = value('-a,--algorithm', {
    ...{ group: 'how', value: 'NAME', default: 'as the manifests tell' },
    help: `What the digests are of: ${ALGORITHMS.join(', ')}`,
  });
  quick = flag('--quick', { group: 'how', help: 'Compare names, kinds and sizes only, and say so' });
  sample = value(
    '--sample',
    {
      ...{ group: 'how', value: 'N%', default: '100%' },
      help: 'Read the content of N% of the files, of others in each run, so that 100/N runs read all; of all others compare names, kinds and sizes. How far it is, is kept in the state directory, and a run that is interrupted does not count',
    },
    partsOf,
  );
  repairFrom = value('--repair-from', {
    ...{ group: 'safety', value: 'COPY', default: 'none: nothing is written' },
    help: 'Write files that are damaged or missing anew from the directory COPY, where they are as a MANIFEST says, and verify them again; what was written to after COPY was made stays. What could not be repaired is an error, and the exit code is 0 when nothing is wrong any more. Needs --in',
  });
  workers = CREW.workers('the reading');
  hosts = CREW.hosts('DIR', 'the MANIFESTs');
  slurm = CREW.slurm('DIR', 'the MANIFESTs');
  slurmArgs = CREW.slurmArgs();
  hostProgram = CREW.hostProgram();
  parts = CREW.parts('DIR');
  runDir = CREW.runDir();
  patience = CREW.patience();
  operands = operands('MANIFEST…', 1);

  async execute(): Promise<number> {
    const { settings, context } = this;
    if (this.operands.some(isUrl)) {
      const what = 'a MANIFEST is a file of this machine (sync brings it here); --in URL says where its paths begin';
      throw new BulkhaulError('USAGE', what);
    }
    refuseElsewhere(
      'verify',
      this.operands.filter((path) => path !== '-'),
    );
    const url = this.directory !== undefined && isUrl(this.directory);
    if (this.directory !== undefined && !url) this.refuseHosts('verify', [this.directory]);
    if (this.operands.includes('-') && this.directory === undefined) {
      throw new BulkhaulError(
        'USAGE',
        'what comes from standard input lies in no directory: --in DIR says where its paths begin',
      );
    }
    if (this.repairFrom !== undefined && (this.directory === undefined || this.operands.includes('-'))) {
      const what = '--repair-from needs --in DIR, and manifests by their names: they are read more than once';
      throw new BulkhaulError('USAGE', what);
    }
    const options: VerifyOptions = {
      manifests: this.operands.map((path) => this.file('MANIFEST', path, '/dev/stdin')),
      directory: this.directory,
      exclude: await this.patterns(this.rules),
      extra: !this.noExtra,
      quick: this.quick,
      repairFrom: this.repairFrom,
      spillDirectory: neededSpillDirectory(context.env),
      ...(this.algorithm !== undefined && { algorithm: algorithmOf(this.algorithm) }),
      ...this.inUse,
      ...this.resources,
      ...this.journaled,
      ...(url && { store: this.store, environment: context.env }),
    };
    const excluded = {
      'A URL': url,
      '--quick': this.quick,
      '--sample': this.sample !== undefined,
      '--repair-from': this.repairFrom !== undefined,
      'Standard input': this.operands.includes('-'),
      'More than one MANIFEST without --in': this.operands.length > 1 && this.directory === undefined,
    };
    const crew = await crewOf(this, excluded, context.env.SLURM_JOB_ID !== undefined);
    const scrub = this.sample === undefined ? undefined : await this.#scrub(this.sample, options);
    const { verify } = await import('../../ops/verify.js');
    const spread = crew && (await this.#spread(crew, options));
    let print = (_: string) => {};
    const started: Parameters<typeof runJob>[0] = (_, hush) => {
      print = (line) => void hush(async () => void context.stderr.write(`${line}\n`));
      if (spread) return spread();
      return verify({ ...options, ...(scrub && { sample: scrub.part }) });
    };
    const listen = (event: Event) => {
      if (event.type === 'entry' && event.outcome === 'copied' && !settings.json && !settings.quiet)
        print(`repaired: ${display(event.path)}`);
    };
    const report = await runJob(started, settings, context, listen);
    if (!report.interrupted && report.accounted) scrub?.moveOn();
    if (!settings.json && !(settings.quiet && report.exitCode === ExitCode.complete)) {
      const { verifySummary } = await import('../../report/summary.js');
      context.stderr.write(verifySummary(report, { quick: this.quick, part: scrub?.part, from: this.repairFrom }));
    }
    return report.exitCode;
  }

  /** The same by several processes. */
  async #spread(crew: Crew, options: VerifyOptions): Promise<() => Job> {
    const { manifests: _, directory: __, quick: ___, repairFrom: ____, algorithm, ...shared } = options;
    const { spreadTask } = await import('../../ops/spread.js');
    const { treeOf } = await import('../../ops/spread/task.js');
    const manifests = this.operands.map((path) => treeOf(path).source);
    const [first = ''] = manifests;
    const directory = this.directory === undefined ? undefined : treeOf(this.directory).source;
    const source =
      directory ?? (statSync(toBytes(first), { throwIfNoEntry: false })?.isDirectory() ? first : dirname(first));
    return () =>
      spreadTask({
        ...shared,
        ...crew,
        task: {
          ...{ operation: 'verify', manifests, source, contents: true },
          ...(directory !== undefined && { directory }),
          ...(algorithm !== undefined && { algorithm }),
        },
      });
  }

  /** The part of the files that is next. */
  async #scrub(parts: number, options: VerifyOptions): Promise<{ part: Part; moveOn: () => void }> {
    if (this.quick) throw new BulkhaulError('USAGE', '--quick reads no content, and --sample some: one of the two');
    if (this.operands.includes('-')) {
      throw new BulkhaulError('USAGE', '--sample needs manifests by their names: it goes on where the last run ended');
    }
    const directory = needed(this.stateDirectory);
    const { identify, lastingOf } = await import('../../journal/identity.js');
    const { nextPart, moveOn } = await import('../../journal/scrub.js');
    const id = await identify('verify', process.cwd(), lastingOf(options, process.cwd()));
    const part = nextPart(directory, id, parts);
    return { part, moveOn: () => moveOn(directory, id, part) };
  }
}
