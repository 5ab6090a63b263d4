/** `bulkhaul remove`: options in, a question where one is due, one removal run, its summary on stderr and its exit code out. */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { BulkhaulError } from '../../error.js';
import { toBytes } from '../../names.js';
import type { Job } from '../../ops/job.js';
import { homes, Removal, type RemoveOptions } from '../../ops/remove.js';
import type { Crew } from '../../ops/spread.js';
import { ExitCode } from '../../verdict.js';
import { VerbCommand } from '../base.js';
import { askConsent, removalPreview } from '../consent.js';
import { CREW, crewOf } from '../crew.js';
import { flag, limit, operands, rules, values } from '../options.js';
import { Command } from '../parser.js';
import { runJob, spillDirectory } from '../run.js';
import { refuseElsewhere } from '../values.js';

export class RemoveCommand extends VerbCommand {
  static override readonly idle = {
    '--bwlimit': 'a removal reads no contents; --iops-limit slows it',
  };
  static override paths = [['remove']];
  static override usage = Command.Usage({
    description: 'Remove trees',
    details: `
      Removes each PATH and everything below it, in parallel, and says truthfully what is left.

      A symlink is removed itself, never what it leads to; a symlink with a slash at its end is refused. What is excluded
      stays, and so do the directories above it. What something is mounted on is not entered and counts as failed.

      On a terminal it first counts what would go, shows the first names, and asks. Off one a piped \`y\` consents; without
      it, and without \`--force\`, nothing is removed.

      It refuses \`/\`, the home directory, the working directory, everything above these, and mount points, by whatever
      path they are named; \`--no-preserve-root PATH\` takes PATH out of that.

      \`--workers\`, \`--hosts\` and \`--slurm\` divide what is in one PATH into parts, which several processes remove; then
      one of them removes the directories, and what is left. \`--by-parts\` is \`--workers 2\`.

      Exit codes: 0 everything is gone, 2 usage or nothing begun, 3 refused for safety or nobody agreed, 23 some entries
      are left or a PATH does not exist, 24 entries changed meanwhile, 130 interrupted.
    `,
    examples: [
      ['Remove a tree, after a question', '$0 remove build'],
      ['In a script', '$0 remove --force build cache'],
      ['Show what would go', '$0 remove -n build'],
      ['All but the logs', "$0 remove --exclude '*.log' run"],
      [
        'Nothing, when that is more than a tenth of what is there',
        '$0 remove --force --max-delete 10% --exclude /spool/new spool',
      ],
      ['By four processes', '$0 remove --force --workers 4 spool'],
    ],
  });

  rules = rules('Keep what PATTERN matches, on the path from the name of PATH on');
  force = flag('-f,-y,--yes,--force', {
    group: 'safety',
    help: 'Do not ask; a PATH that does not exist is no failure',
  });
  maxDelete = limit('--max-delete', {
    ...{ group: 'safety', value: 'N', default: 'no limit' },
    help: 'Remove nothing when it would be more entries than N, or more than N% of those that are there',
  });
  listFirst = flag('--list-first', {
    group: 'safety',
    help: 'List everything before anything goes; what cannot be listed then leaves everything',
  });
  noPreserveRoot = values('--no-preserve-root', {
    ...{ group: 'safety', value: 'PATH', default: 'none' },
    help: 'Remove PATH though it is protected, or empty it though something is mounted there',
  });
  byParts = flag('--by-parts', {
    group: 'speed',
    help: 'Spread the removal, over two processes where nothing else is said',
  });
  workers = CREW.workers('the removal', '--jobs and --iops-limit');
  hosts = CREW.hosts('PATH');
  slurm = CREW.slurm('PATH');
  slurmArgs = CREW.slurmArgs();
  hostProgram = CREW.hostProgram();
  parts = CREW.parts('PATH');
  runDir = CREW.runDir();
  patience = CREW.patience();
  operands = operands('PATH…', 1);

  async execute(): Promise<number> {
    const { settings, context } = this;
    refuseElsewhere('remove', this.operands);
    const { Output } = await import('../../report/output.js');
    let left = false;
    new Output(context.stdout, () => {
      left = true;
    });
    const { dryRun, noPreserveRoot, maxDelete, verbose, quiet, listFirst } = this;
    const excluded = {
      'More than one PATH': this.operands.length > 1,
      '--list-first': listFirst,
      '--max-delete': maxDelete !== undefined,
      '--no-preserve-root': noPreserveRoot.length > 0,
    };
    const crew = await crewOf(this.crewed(), excluded, context.env.SLURM_JOB_ID !== undefined);
    const options: RemoveOptions = {
      paths: this.operands,
      exclude: await this.patterns(this.rules),
      noPreserveRoot,
      protect: home(),
      dryRun,
      listFirst,
      ignoreMissing: this.force,
      spillDirectory: spillDirectory(context.env),
      entries: !quiet && (dryRun || verbose),
      ...this.inUse,
      ...this.resources,
      ...this.journaled,
      ...(maxDelete !== undefined && { maxDelete }),
    };
    const removal = new Removal(options);
    if (!this.force && !dryRun) {
      const interrupted = await this.consent(removal);
      if (interrupted) return ExitCode.interrupted;
    }
    // Of what is not there nothing is divided.
    const whole = crew === undefined || (this.force && !existsSync(toBytes(this.operands[0] ?? '')));
    const begin = whole ? () => removal.remove() : await this.spread(crew, options);
    const report = await runJob(begin, settings, context);
    if (!settings.json && !left && !(settings.quiet && report.complete)) {
      const { partitionSummary, removalSummaryText } = await import('../../report/summary.js');
      context.stderr.write(report.parts ? partitionSummary(report) : removalSummaryText(report));
    }
    return report.exitCode;
  }

  /** These arguments, with what `--by-parts` stands for. */
  private crewed() {
    const { workers, hosts, slurm, slurmArgs, hostProgram, parts, runDir, patience, journal, dryRun } = this;
    const two = this.byParts && hosts === undefined && !slurm ? 2 : undefined;
    return {
      workers: workers ?? two,
      ...{ hosts, slurm, slurmArgs, hostProgram, parts, runDir, patience, journal, dryRun },
    };
  }

  /** The same by several processes. */
  private async spread(crew: Crew, options: RemoveOptions): Promise<() => Job> {
    const [path = ''] = this.operands;
    if (/(^|\/)\.{1,2}\/*$/.test(path))
      throw new BulkhaulError('USAGE', `${path}: a directory is removed by its own name; nothing was removed`);
    const { spreadTask } = await import('../../ops/spread.js');
    const { treeOf } = await import('../../ops/spread/task.js');
    const {
      paths: _,
      protect = [],
      listFirst: __,
      ignoreMissing: ___,
      noPreserveRoot: ____,
      maxDelete: _____,
      ...shared
    } = options;
    const task = { operation: 'remove' as const, protect: [...protect, ...homes()].map(String), inUse: [] };
    return () => spreadTask({ ...shared, ...crew, task: { ...task, ...treeOf(path), contents: false } });
  }

  /** Throws where nobody agrees; true: interrupted. */
  private async consent(removal: Removal): Promise<boolean> {
    const { settings, context } = this;
    const names: string[] = [];
    const looking = { ...settings, json: false, aside: 'counting' };
    const report = await runJob(
      () => removal.preview(),
      looking,
      context,
      (event) => event.type === 'entry' && names.push(event.source),
    );
    if (report.interrupted) return true;
    const answer = await askConsent(`${removalPreview(report, names)}Remove this? (y/n) `, context);
    if (answer === 'interrupted') return true;
    if (answer === 'yes') return false;
    const why =
      answer === 'no' ? 'the answer was not yes' : 'there is no terminal to ask on; --force removes without a question';
    throw new BulkhaulError('SAFETY', `nothing was removed: ${why}`);
  }
}

/** The home directory that the environment names. */
function home(): string[] {
  const directory = homedir();
  return directory === '' ? [] : [directory];
}
