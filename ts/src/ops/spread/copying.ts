/**
 * A copy by parts: what comes when all parts are there.
 *
 * Comes in: options of a copy, and the books of its parts; goes out: directories as they are to be, and where that was asked
 * for a removal of what is extra, of the sources, or a manifest, for which all of both trees is looked at once more. Nothing
 * goes where anything is missing.
 */
import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { BulkhaulError } from '../../error.js';
import type { Report } from '../../events.js';
import { makeDirectories } from '../../journal/store.js';
import { toBytes } from '../../names.js';
import type { NativeReport, Outcome } from '../../native/events.js';
import { pick } from '../arguments.js';
import { folds } from '../folds.js';
import { type Confirm, Job } from '../job.js';
import { type Deletion, type MappedCopyOptions, prepareCopy } from '../mapping.js';
import { total } from '../transfer/ledger.js';
import type { Count } from '../transfer/tally.js';
import type { Last } from './books.js';
import { leftOf, nameIn, tagOf } from './directory.js';
import type { Operation, Run, Stage } from './operation.js';
import { discard, gathered, HAS_RANGES } from './range.js';

/** Options of a copy that each part is copied with. */
export const TERMS = [
  ...(['hashSize', 'fullHash', 'sparse', 'sync', 'keepDirlinks', 'owner', 'permissions', 'acls', 'xattrs'] as const),
  ...(['times', 'chownUser', 'chownGroup', 'chmod', 'verify'] as const),
] as const;
/** Options that say how fast it goes. */
export const PACE = ['jobs', 'limits', 'nice', 'ionice'] as const;

/** Options of a copy by parts. */
export interface CopyingOptions
  extends Deletion,
    Pick<
      MappedCopyOptions,
      (typeof TERMS)[number] | 'removeExtra' | 'removeSources' | 'acceptTimeLoss' | 'manifest' | 'requireSpace'
    > {}

export class Copying implements Operation {
  readonly phase = 'copying';
  readonly tellsAll = false;
  readonly below = true;
  readonly writes = true;
  readonly reads = false;
  readonly kept: Operation['kept'];
  readonly ranges: boolean;
  readonly replaces: boolean;
  /** In the end all of both trees is looked at once more. */
  #again: boolean;

  /** `destination`: absolute. */
  constructor(
    readonly options: CopyingOptions,
    readonly destination: string,
  ) {
    const { removeExtra = false, removeSources = false, manifest } = options;
    this.kept = { destination, terms: pick(options, TERMS) };
    this.replaces = removeExtra;
    this.ranges = HAS_RANGES && options.keepDirlinks !== true;
    this.#again = removeExtra || removeSources || manifest !== undefined;
  }

  /** Bytes are read to be copied, and to be proved; then to be compared where they were not, and once more before the sources go; and the manifest's. */
  passes(): { bytes: number; entries: number } {
    const { verify = false, removeSources = false, manifest } = this.options;
    const leaving = removeSources ? 2 - Number(verify) : 0;
    const after = this.#again ? leaving + Number(manifest !== undefined) : 0;
    return { bytes: 1 + Number(verify) + after, entries: this.#again ? 2 + Number(removeSources) : 1 };
  }

  get sync(): NativeReport['sync'] {
    return this.options.sync ?? 'safe';
  }

  /** What would be copied is measured as one process measures it. */
  async check(run: Run, include: Stage['include']): Promise<void> {
    if (!this.options.requireSpace) return;
    const { source, exclude = [], oneFileSystem = false, filesFrom } = run;
    const options: MappedCopyOptions = {
      ...(this.kept.terms as unknown as MappedCopyOptions),
      sources: [{ path: source, contents: true, follow: true }],
      destinations: [{ path: this.destination, follow: true }],
      ...pick(run, [...PACE, 'spillDirectory']),
      ...{ oneFileSystem, requireSpace: true, dryRun: true },
      ...(filesFrom && { filesFrom }),
      ...(exclude.length > 0 && { filter: { style: 'rsync' as const, rules: [...exclude] } }),
    };
    await include(new Job(() => prepareCopy(options)));
  }

  async prepare(): Promise<string> {
    const { destination } = this;
    // What is above it is nobody's entry: what workers make is for their owner only, until the end.
    makeDirectories(dirname(destination), 0o777);
    const beside = existsSync(toBytes(destination)) ? destination : dirname(destination);
    if (!folds(beside)) return beside;
    throw new BulkhaulError(
      'SAFETY',
      `${beside} takes names for one that differ by case or by forms of a letter: only a copy by one process sees which of them meet`,
    );
  }

  async finish(stage: Stage): Promise<NativeReport> {
    if (stage.stopping()) stage.books.unfinished += await gatheredBy(stage);
    else await stage.books.giveUp();
    const last = stage.stopping() ? undefined : await this.#finish(stage);
    const interrupted = stage.stopping() || last === undefined;
    return stage.books.report({ interrupted, workers: stage.workers, elapsed: stage.elapsed(), sync: this.sync }, last);
  }

  /** Directories as they are to be, and extra entries; undefined: it was stopped. */
  async #finish(stage: Stage): Promise<Last | undefined> {
    const { books, directory, plan, run } = stage;
    const { removeExtra = false, removeSources = false, acceptTimeLoss, manifest, maxDelete, confirm } = this.options;
    const { exclude = [], oneFileSystem = false, inUse, filesFrom } = run;
    for (const [place, { ranges }] of plan.parts.entries()) {
      // Whoever has published it may have died before it did this.
      if (ranges === undefined || !books.has(place + 1)) continue;
      const name = await nameIn(directory.list(place + 1));
      await discard({ destination: plan.destination, name, tag: tagOf(plan) });
    }
    // Nothing goes where anything is missing, and a manifest is of all.
    const good = books.ledger.errors === 0 && books.balanced;
    const whole = (removeExtra || removeSources || manifest !== undefined) && good;
    if (!whole) await books.obstruct();
    this.#again = whole;
    stage.enter(!whole || !(removeExtra || removeSources) ? 'closing' : removeSources ? 'proving' : 'sweeping');
    const allowed: Confirm = async (victims) => stage.leads() && ((await confirm?.(victims)) ?? true);
    const options: MappedCopyOptions = {
      ...(plan.terms as unknown as MappedCopyOptions),
      sources: [{ path: plan.source, contents: true, follow: true }],
      destinations: [{ path: plan.destination, follow: true }],
      ...pick(run, [...PACE, 'spillDirectory']),
      ...(whole
        ? {
            ...{ hashSize: 0, fullHash: false, removeExtra, removeSources, oneFileSystem },
            ...((removeExtra || removeSources) && { confirm: allowed }),
            ...(acceptTimeLoss && { acceptTimeLoss }),
            ...(manifest && { manifest }),
            ...(filesFrom && { filesFrom: { path: directory.names, nul: true } }),
            ...(exclude.length > 0 && { filter: { style: 'rsync' as const, rules: [...exclude] } }),
            ...(maxDelete !== undefined && { maxDelete }),
            ...(inUse && { inUse: [...inUse] }),
          }
        : { filesFrom: { path: directory.directories, nul: true } }),
    };
    // What parts have read back is not read again; what comes only now is.
    const proved = whole && this.options.verify ? directory.foundByAll() : undefined;
    const job = new Job(() => prepareCopy(options, 'copy', proved), undefined, allowed);
    const report = await stage.include(job, (failure) => books.fail(failure));
    if (report.interrupted) {
      books.leave(leftOf(report));
      return undefined;
    }
    if (whole) countAll(stage, report, proved !== undefined);
    else {
      const settled = Object.entries(report.outcomes).map(([name, all]) => [name, { all, file: 0, directory: all }]);
      books.ledger.settleDirectories(Object.fromEntries(settled));
      // What is below a directory that could not be made is not even looked at.
      const unseen = plan.found.directory - total(report.outcomes);
      if (unseen > 0 && total(report.failureKinds) > 0) books.ledger.failMore('directory', unseen);
    }
    for (const { kind, message, path, lost, count } of report.notes)
      books.ledger.note(kind, message, toBytes(path), { lost, count });
    const held: NativeReport['withheld'] = [];
    if (removeExtra && !whole)
      held.push({ kind: 'failed', what: 'extra', message: 'extra entries stay: not everything was copied' });
    if (removeSources && !whole)
      held.push({ kind: 'failed', what: 'sources', message: 'the source stays: not everything was copied' });
    if (manifest && !whole) books.note('manifest', 'there is no manifest: not everything was copied', '', true);
    const { accounted, extras, removedSources, keptSources } = report;
    return { accounted, extras, removedSources, keptSources, withheld: [...held, ...report.withheld] };
  }
}

/** How many files have come in part, in ranges. */
async function gatheredBy({ books, directory, plan }: Stage): Promise<number> {
  let many = 0;
  for (const [place, { ranges }] of plan.parts.entries()) {
    if (ranges === undefined || books.has(place + 1)) continue;
    const name = await nameIn(directory.list(place + 1));
    many += await gathered({ destination: plan.destination, name, tag: tagOf(plan) });
  }
  return many;
}

/** Why what is extra may stay. */
const STAYING = ['not-empty', 'other-file-system', 'in-use', 'vanished', 'staging-name'] as const;

/** The whole of both trees was looked at: what came or changed after the plan was made is copied now, and counts. `proved`: what was proved is known. */
function countAll({ books, plan }: Stage, report: Report, proved: boolean): void {
  const { found, outcomes, files, directories, skipped, extras } = report;
  const { ledger, sums } = books;
  ledger.copiedBytes += report.copiedBytes;
  // It has taken over what parts have proved, as far as that still holds: each of its proofs is one.
  sums.verifiedFiles = report.verifiedFiles + (proved ? report.resumedFiles : 0);
  sums.verifiedBytes = report.verifiedBytes + (proved ? report.resumedBytes : 0);
  sums.verifiedFromCache = Math.min(sums.verifiedFromCache + report.verifiedFromCache, sums.verifiedBytes);
  // Names of unfinished entries are passed over in a source too, where they are nothing that a plan has.
  const staying: Record<string, number> = {};
  let stays = 0;
  for (const reason of STAYING) {
    const many = Math.min(skipped[reason] ?? 0, Math.max(0, extras - outcomes.removed - stays));
    if (many > 0) staying[reason] = many;
    stays += many;
  }
  ledger.settle({ skipped: { all: stays, file: 0, directory: 0 } }, staying);
  const counts = Object.entries(outcomes).flatMap(([name, many]): [Outcome, Count][] => {
    const outcome = name as Outcome;
    const others = many - directories[outcome];
    // Parts have counted what is there already.
    return outcome === 'skipped' || others === 0
      ? []
      : [[outcome, { all: others, file: files[outcome], directory: 0 }]];
  });
  ledger.settle(Object.fromEntries(counts));
  ledger.settleDirectories(
    Object.fromEntries(Object.entries(directories).map(([name, all]) => [name, { all, file: 0, directory: all }])),
  );
  const there = outcomes.skipped - directories.skipped - stays;
  const late = total(found) - found.directory - there - books.obstructed;
  if (late > 0 || found.directory !== plan.found.directory)
    books.note('run', `entries came, went or changed after the plan was made: ${late} were copied in the end`);
  ledger.found.file += late;
  ledger.found.directory = found.directory;
}
