/**
 * `hpcp` without a flag for something else: a copy, with what it deletes: extra entries of the destination (`-rme`), and
 * the sources of a move (`-d` with `-rm`).
 *
 * Comes in: the call; goes out: the copy, its lines, and what went wrong. Nothing is deleted without a yes, typed or piped,
 * or `-rf`.
 */
import type { Event, Report, Victims } from '../../../events.js';
import { display } from '../../../names.js';
import type { MaxDelete } from '../../../ops/arguments.js';
import { copyMapped } from '../../../ops/copy.js';
import type { Job } from '../../../ops/job.js';
import type { MappedCopyOptions } from '../../../ops/mapping.js';
import { bytes, count } from '../../../report/units.js';
import { askConsent } from '../../consent.js';
import { type Context, inUse, runJob, spillDirectory } from '../../run.js';
import { parseOwner } from '../../values.js';
import { codeWith, type HpcpConsole, problem, problemOf, problemsOf, Refused } from './codes.js';
import { choice, type HpcpCall, type HpcpValues, usesImages } from './flags.js';
import { type Placed, placeTrees } from './place.js';
import { hashing, journaled, resources, settingsOf } from './settings.js';
import { nameList } from './sources.js';
import { CopiedNames, headLine, leftOutNotes, RULE, summaryLines } from './summary.js';

/** Copies; `directory` is the working directory. */
export async function copy(
  { values, positionals, given }: HpcpCall,
  out: HpcpConsole,
  directory: string,
): Promise<void> {
  const flags = await optionsOf(values).catch((error: unknown) => {
    throw new Refused([problemOf(error)]);
  });
  if (values.hash_size !== undefined && values.hash_size <= 0) {
    out.note('hash size 0: contents are not compared, a file of equal size and time counts as unchanged');
  }
  if (values.remove_force && !values.remove)
    out.note('-rf only answers questions here: the sources stay; -rm removes them');
  const call = { values, positionals, given };
  const placed = usesImages(values)
    ? await (await import('./images.js')).placeImages(call, flags, out, directory)
    : await placeTrees(call, out, directory);
  out.print(headLine(placed.shown, placed.destinations));
  try {
    await transfer(values, flags, placed, out);
  } finally {
    await placed.close?.();
  }
}

/** Copies what is placed, and tells of it. */
async function transfer(
  values: HpcpValues,
  flags: Awaited<ReturnType<typeof optionsOf>>,
  { options: places, shown, end }: Placed,
  out: HpcpConsole,
): Promise<void> {
  // What a missing source had would look extra.
  const removeExtra = values.remove_extra && !out.problems.some((each) => each.case === 'source missing');
  if (values.remove_extra && !removeExtra) {
    out.report(problem('removal skipped', 'Removal skipped: a source is missing, so nothing extra was removed'));
  }
  const settings = settingsOf(values, codeWith(out, problemsOf));
  const options: MappedCopyOptions = {
    ...flags,
    removeExtra,
    ...places,
    spillDirectory: spillDirectory(out.streams.env),
    ...inUse(settings, out.streams.env),
    // What is open by a descriptor only nobody could go on with by its name.
    ...(places.aliases ? {} : journaled(values, out.streams.env)),
  };
  const names = new CopiedNames();
  const asks = (removeExtra || values.remove) && !values.remove_force && !values.dry_run;
  const begin: Parameters<typeof runJob>[0] = (entries, hush) => {
    const confirm = (victims: readonly Victims[]) => hush(() => agreed(victims, out.streams, () => job.cancel()));
    const job: Job = copyMapped({ ...options, entries: entries || values.verbose, ...(asks && { confirm }) });
    return job;
  };
  const listen = values.verbose ? (event: Event) => names.take(event) : undefined;
  const report = await runJob(begin, settings, out.streams, listen);
  await end?.(report);

  for (const note of leftOutNotes(report)) out.note(note);
  out.notes(report);
  out.report(...problemsOf(report));
  if (values.dry_run) out.print('Dry run: nothing was done; the totals are what would be done');
  out.print(...summaryLines(report, shown.length > 1), ...deletionLines(report));
  const lines = values.verbose ? names.lines() : [];
  if (lines.length > 0) out.print(...lines, RULE);
}

/** What the flags ask of the copy, apart from what goes where. */
async function optionsOf(values: HpcpValues): Promise<Omit<MappedCopyOptions, 'sources' | 'destinations'>> {
  const owner = values.chown === undefined ? {} : await parseOwner(values.chown);
  const filesFrom = nameList(values);
  return {
    allowNested: true,
    onCollision: 'last',
    sparse: choice(values, 'sparse') ?? 'always',
    sync: choice(values, 'sync') ?? 'safe',
    ...hashing(values),
    dryRun: values.dry_run,
    oneFileSystem: values.one_file_system,
    keepDirlinks: values.keep_dirlinks,
    directories: values.directory_only ? 'only' : values.no_directory_sync ? 'needed' : 'all',
    linkTracking: values.link_tracking && !values.no_link_tracking,
    contentOnly: values.content_only,
    owner: !values.no_owner,
    requireSpace: values.exit_not_enough_space || values.require_space,
    verify: values.verify,
    removeSources: values.remove,
    acceptTimeLoss: values.accept_time_loss,
    randomDestination: values.random_dest_selection,
    ...(values.max_delete !== undefined && { maxDelete: values.max_delete as MaxDelete }),
    ...resources(values),
    ...(owner.user !== undefined && { chownUser: owner.user }),
    ...(owner.group !== undefined && { chownGroup: owner.group }),
    ...(values.chmod !== undefined && { chmod: values.chmod }),
    ...(filesFrom && { filesFrom }),
  };
}

/** Shows what would go and asks; `stop` for ^C. */
export async function agreed(victims: readonly Victims[], streams: Context, stop: () => void): Promise<boolean> {
  const answer = await askConsent(question(victims), streams);
  if (answer === 'interrupted') stop();
  return answer === 'yes';
}

/** The question, with what it is about: one answer is for all of it. */
export function question(victims: readonly Victims[]): string {
  const what = victims.map(({ what }) => what).join();
  const ask = { extra: 'delete them', sources: 'continue' }[what] ?? 'delete both';
  return `${victims.map(shown).join('')}Do you want to ${ask}? (y/n) `;
}

function shown({ what, entries, bytes: size, first }: Victims): string {
  const many = `${count(entries, 'entry', 'entries')} (${bytes(size)})`;
  const names = first.map((name) => `  ${display(name)}\n`).join('');
  if (what === 'sources') {
    return `${many} will be removed from the sources, each when its copy is proved:\n${names}`;
  }
  const more = entries - first.length;
  const rest = more > 0 ? `  and ${more.toLocaleString('en-US')} more\n` : '';
  return `${many} of the destination are extra:\n${names}${rest}`;
}

/** What was deleted, after the totals of the copy. */
function deletionLines({ extras, outcomes, removedSources, keptSources }: Report): string[] {
  const lines: string[] = [];
  if (extras > 0) lines.push(`Removed ${outcomes.removed} of ${extras} extra files, links and folders`);
  if (removedSources + keptSources > 0) {
    lines.push(`Removed ${removedSources} files, links and folders from the sources`);
  }
  if (keptSources > 0) lines.push(`Move left ${keptSources} entries in the sources`);
  return lines.length > 0 ? [...lines, RULE] : [];
}
