/**
 * The copy of `migrate_compress` by the real rsync.
 *
 * Comes in: a directory of the source, or the files at its top, and what is left out; goes out: a job in which each entry that
 * rsync tells of ends in one outcome, its command, and the code that it ended with. What is partial is told from that code and
 * from its itemised lines, which are read as bytes: no name can look like an error. What rsync says is missing is tried once
 * more.
 */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BulkhaulError } from '../../../error.js';
import { isText, toBytes } from '../../../names.js';
import type { Job } from '../../../ops/job.js';
import { Crew } from '../../../ops/transfer/crew.js';
import type { Command } from '../../../ops/transfer/program.js';
import { itemising, rsync } from '../../../ops/transfer/rsync.js';
import type { Pass, Tool } from '../../../ops/transfer/tool.js';
import { transfer } from '../../../ops/transfer.js';
import { PARTIALS } from '../migration.js';

/** A copy, as asked for. */
export interface RsyncCopy {
  source: string;
  dest: string;
  /** The sub-directory that is copied; absent: what is at the top, with `whole` all of it. */
  name: string | undefined;
  whole: boolean;
  /** Patterns, relative to the source. */
  exclude: readonly string[];
  /** A list of what is to be copied, where that is not all. */
  list: string | undefined;
  /** A directory for lists. */
  scratch: string;
  /** Bytes a second; 0: no limit. */
  limit: number;
  dryRun: boolean;
  note(message: string): void;
}

const RSYNC = rsync({ hardLinks: false });

/** A copy that may begin. */
export class RsyncRun {
  #code: number | undefined;

  private constructor(
    readonly options: RsyncCopy,
    readonly tool: Tool,
    readonly crew: Crew,
    readonly rule: string[],
  ) {}

  /** Throws what keeps rsync from it, before anything is read. */
  static async prepare(options: RsyncCopy): Promise<RsyncRun> {
    const { source, dest, dryRun } = options;
    const unfit = [source, dest, ...options.exclude].find((each) => !isText(each));
    if (unfit !== undefined) throw new BulkhaulError('USAGE', `${unfit} is not UTF-8: rsync can't be given it`);
    const rule = ruleOf(options);
    const run: { code(code: number | undefined): void } = { code: () => undefined };
    const tool: Tool = {
      ...RSYNC,
      // They come with what is in them.
      directoriesLast: false,
      command: (pass) => commandOf(options, rule, pass),
      input: (list, what) => (what === 'trees' ? nothing() : RSYNC.input(list, what)),
      verdict: (code) => {
        run.code(code);
        return RSYNC.verdict(code);
      },
    };
    const here = { sourceHosts: [], destinationHosts: [], cloud: false, config: undefined };
    const crew = await Crew.muster({ source, destination: dest, tool, dryRun, ...here }, options.note);
    const prepared = new RsyncRun(options, tool, crew, rule);
    run.code = (code) => {
      if (code !== 0) prepared.#code = code;
    };
    return prepared;
  }

  /** The last code of rsync that was not 0. */
  get code(): number | undefined {
    return this.#code;
  }

  /** What is run first. */
  get command(): Command {
    const { list, dryRun } = this.options;
    const what = list === undefined ? 'trees' : 'entries';
    return commandOf(this.options, this.rule, { ...this.#ends, host: undefined, what, dryRun, every: false, limit: 0 });
  }

  begin(entries: boolean): Job {
    const { list, scratch, limit, dryRun } = this.options;
    const { tool, crew } = this;
    const parts = [{ number: 1, list: list ?? '' }];
    const trees = list === undefined;
    return transfer({ ...this.#ends, tool, crew, parts, trees, jobs: 1, scratch, limit, dryRun, entries });
  }

  get #ends() {
    return { source: this.options.source, destination: this.options.dest };
  }
}

async function* nothing(): AsyncGenerator<Buffer> {}

/** The command of the original, with lines of a form that can be read whatever is in a name. */
function commandOf(
  { exclude }: RsyncCopy,
  rule: readonly string[],
  { source, destination, what, dryRun, limit }: Pass,
): Command {
  return [
    ...(['rsync', '-av', `--partial-dir=${PARTIALS}`, '--checksum', '--itemize-changes', '-s'] as const),
    ...itemising(dryRun),
    ...exclude.map((pattern) => `--exclude=${pattern}`),
    ...(what === 'trees' ? rule : ['--from0', '--files-from=-']),
    ...(limit > 0 ? [`--bwlimit=${Math.max(1, Math.floor(limit / 1024))}`] : []),
    '--',
    `${source}/`,
    `${destination}/`,
  ];
}

/**
 * Rules by which nothing but a sub-directory is copied, or nothing but what is no directory. No argument can have a name that is
 * not UTF-8: the rule of one comes in a file.
 */
function ruleOf({ name, whole, scratch }: RsyncCopy): string[] {
  if (name === undefined) return whole ? [] : ['--exclude=/*/'];
  const rule = `/${name.replace(/[\\*?[]/g, '\\$&')}/***`;
  if (isText(name)) return [`--include=${rule}`, '--exclude=/*'];
  const file = join(mkdtempSync(join(scratch, 'rule-')), 'include');
  writeFileSync(file, Buffer.concat([toBytes(rule), Buffer.of(0)]), { mode: 0o600 });
  return ['--from0', `--include-from=${file}`, '--exclude=/*'];
}
