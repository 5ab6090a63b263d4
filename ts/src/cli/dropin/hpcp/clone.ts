/**
 * `hpcp -dd`: a whole disk into an image or onto another disk.
 *
 * Comes in: the call; goes out: the plan, the clone, its lines, and what went wrong. What the destination holds goes with a
 * yes, typed or piped, or with --overwrite; nothing is written before.
 */
import { display } from '../../../names.js';
import { CloneRefused, type Plan, planClone, type Reason } from '../../../ops/clone/plan.js';
import { clone } from '../../../ops/clone.js';
import { planLines } from '../../../report/clone.js';
import { askConsent } from '../../consent.js';
import { runJob, spillDirectory } from '../../run.js';
import { UsageError } from '../argparse.js';
import { Stopped } from './ask.js';
import { type Case, codeWith, type HpcpConsole, problem, problemsOf, Refused } from './codes.js';
import { normalise, patternsOf } from './excludes.js';
import { FLAGS, type HpcpCall, type HpcpValues } from './flags.js';
import { quantity, resources, settingsOf } from './settings.js';
import { headLine, RULE, summaryLines } from './summary.js';

/** Flags that mean nothing for a disk: what they ask for would not be done. */
const FOREIGN: readonly (keyof HpcpValues)[] = [
  ...([
    'remove',
    'remove_extra',
    'source_file_list',
    'target_file_list',
    'compare_file_list',
    'diff_file_list',
  ] as const),
  ...(['tar_diff_file_list', 'changes', 'files_from', 'files_from0', 'directory_only', 'no_directory_sync'] as const),
  ...(['content_only', 'link_tracking', 'chown', 'chmod', 'no_owner', 'image_fs'] as const),
];

const CASES: Readonly<Record<Reason, Case>> = {
  source: 'source image',
  missing: 'source image',
  destination: 'destination image',
  same: 'refused',
  'in use': 'in use',
  'too small': 'image size',
  table: 'partition table',
  tools: 'file system',
};

export async function cloneDisk({ values, positionals, given }: HpcpCall, out: HpcpConsole): Promise<void> {
  const foreign = FOREIGN.find((name) => given.includes(name));
  if (foreign !== undefined) {
    throw new UsageError(`argument ${FLAGS[foreign].names.join('/')}: not with a whole disk (-dd); nothing was done`);
  }
  const { source, destination } = sidesOf(values, positionals);
  const exclude = patternsOf(values).flatMap((pattern) => normalise(pattern) ?? []);
  const plan = await planClone({
    source,
    destination,
    sizes: values.dd_resize.flatMap((text) => quantity(text, '-ddr') || []),
    total: quantity(values.dest_image_size, '-dis'),
    mirror: !values.no_fs_param_mirror,
    newIdentity: values.new_identity,
    dryRun: values.dry_run,
  }).catch((error: unknown) => {
    if (!(error instanceof CloneRefused)) throw error;
    throw new Refused([problem(CASES[error.reason], error.message)]);
  });
  try {
    out.print(headLine([source], [destination]), ...planLines(plan));
    if (values.dry_run) {
      for (const message of planLines(plan)) {
        out.json({ type: 'note', kind: 'plan', count: 1, lost: false, path: destination, message });
      }
    } else await agree(plan, values, out);
    await run(plan, values, exclude, out);
  } finally {
    await plan.close();
  }
}

/** One source, and where it goes: without a flag for it the last argument. */
function sidesOf(values: HpcpValues, positionals: readonly string[]): { source: string; destination: string } {
  const named = [...values.dest_path, ...(values.dest_image === undefined ? [] : [values.dest_image])];
  const all = [...(values.src_image ?? []), ...positionals];
  const sources = named.length > 0 ? all : all.slice(0, -1);
  const [destination, ...others] = named.length > 0 ? named : all.slice(-1);
  const [source, ...more] = sources;
  if (source === undefined || destination === undefined) {
    throw new Refused([
      problem('no source', 'No source paths: -dd takes one disk or image, and a destination (-di, -d)'),
    ]);
  }
  if (more.length > 0) throw new UsageError('argument -dd/--disk_dump: it takes one source; nothing was done');
  if (others.length > 0) throw new UsageError('argument -dd/--disk_dump: it takes one destination; nothing was done');
  return { source, destination };
}

/** Asks whether what the destination holds may go. Throws `Stopped` where nobody agrees. */
async function agree({ destination: { path, holds } }: Plan, values: HpcpValues, out: HpcpConsole): Promise<void> {
  if (holds === undefined || values.overwrite) return;
  const question = `${display(path)} holds ${display(holds)}, and all of it would be lost.\nDo you want to overwrite it? (y/n) `;
  const answer = await askConsent(question, out.streams);
  if (answer !== 'yes') throw new Stopped('Stopped: nobody agreed, nothing was written', answer === 'interrupted');
}

async function run(plan: Plan, values: HpcpValues, exclude: readonly string[], out: HpcpConsole): Promise<void> {
  const options = { ...resources(values), exclude, spillDirectory: spillDirectory(out.streams.env) };
  const settings = settingsOf(values, codeWith(out, problemsOf));
  const report = await runJob((entries) => clone(plan, { ...options, entries }), settings, out.streams);
  out.notes(report);
  out.report(...problemsOf(report));
  if (values.dry_run) out.print('Dry run: nothing was done');
  else out.print(RULE, ...summaryLines(report, false));
}
