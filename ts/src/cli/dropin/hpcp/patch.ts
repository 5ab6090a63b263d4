/**
 * `hpcp -diff`, which makes a patch image, and `hpcp -siff`, which applies one.
 *
 * Comes in: the call; goes out: an image that turns one tree into another, or a tree that is another, and what is said of
 * it. With conflicts nothing is changed, unless somebody at a terminal, or `-fa`, overrules them.
 */
import { rmSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { BulkhaulError } from '../../../error.js';
import type { EntryEvent, ErrorEvent, Event, Report, Victims } from '../../../events.js';
import { display, toBytes } from '../../../names.js';
import { compareMapped, type MappedCompareOptions } from '../../../ops/compare.js';
import { copyMapped } from '../../../ops/copy.js';
import { Image, imageFileSystem, imageSize, makeImage } from '../../../ops/image.js';
import type { MappedCopyOptions } from '../../../ops/mapping.js';
import {
  applyPatch,
  type NewPatch,
  type Patch,
  PatchError,
  putChanges,
  putManifests,
  readPatch,
  readRows,
  type TreePatch,
} from '../../../ops/patch.js';
import { makeSet, volumePath } from '../../../ops/volumes.js';
import { failureText } from '../../../report/summary.js';
import { bytes, count } from '../../../report/units.js';
import { askConsent } from '../../consent.js';
import { runJob } from '../../run.js';
import { version } from '../../version.js';
import { UsageError } from '../argparse.js';
import { glob } from '../glob.js';
import {
  type Case,
  codeWith,
  type HpcpConsole,
  interruption,
  type Problem,
  problem,
  problemOf,
  Refused,
  readingProblems,
  told,
} from './codes.js';
import { filterOf, patternsOf, readExcludes } from './excludes.js';
import { choice, type HpcpCall, type HpcpValues } from './flags.js';
import { absolute, closeAll, opened, refusedBy, rootOf, rulesFor, sizeOf, volumesOf } from './images.js';
import { resources, settingsOf } from './settings.js';
import { expandHome, isDirectory, look, neededSpill, type Source } from './sources.js';
import { step } from './step.js';
import { RULE } from './summary.js';

/** Makes or applies a patch; `directory` is the working directory. */
export async function patch(call: HpcpCall, out: HpcpConsole, directory: string): Promise<void> {
  return goesWith(call) ? make(call, out, directory) : apply(call, out);
}

/** Whether a patch is made, and not applied. Throws `Refused` for what goes with neither. */
export function goesWith({ values, given }: HpcpCall): boolean {
  const makes = values.get_diff_image !== undefined;
  const flag = makes ? '-diff' : '-siff';
  if (makes && values.load_diff_image !== undefined) throw refusal('-diff makes a patch and -siff applies one');
  const single = makes && !values.disk_dump ? [] : ['dest_image_size'];
  for (const name of given.filter((name) => [...OTHERS, ...single].includes(name))) {
    throw refusal(`${flag} can not be combined with --${name}`);
  }
  return makes;
}

/** What a patch goes with nothing of, as in the original. */
const OTHERS = [
  'remove',
  'remove_force',
  'remove_extra',
  'target_file_list',
  'compare_file_list',
  'diff_file_list',
  'tar_diff_file_list',
  'changes',
  'content_only',
  'source_file_list',
  'files_from',
  'files_from0',
] as const satisfies readonly (keyof HpcpValues)[];

export function refusal(what: string, which: Case = 'refused'): Refused {
  return new Refused([problem(which, `Invalid arguments: ${what}; nothing was done`)]);
}

/** A tree that is one side of a patch. */
interface Tree {
  directory: string;
  /** For people. */
  name: string;
  image?: Image;
}

/** `hpcp -siff`. */
async function apply({ values, positionals }: HpcpCall, out: HpcpConsole): Promise<void> {
  if (patternsOf(values).length > 0) throw refusal('a patch is applied as a whole: not with -e and -x');
  if (values.src_image) throw refusal('-siff takes no source images');
  const args = [...(values.load_diff_image ?? [])];
  const targets = [...values.dest_path, ...positionals];
  // What follows the patches may be the target.
  const last = args.at(-1);
  if (targets.length === 0 && values.dest_image === undefined && args.length > 1 && last && isDirectory(last)) {
    targets.push(...args.splice(-1));
  }
  const wanted = targets.length + (values.dest_image === undefined ? 0 : 1);
  if (wanted !== 1) throw refusal(`-siff needs exactly one target (-d DIR, -di IMAGE or one path), and has ${wanted}`);
  refuseTaken(values);
  const open: Image[] = [];
  try {
    const volumes: Tree[] = [];
    for (const path of patchesOf(args)) {
      const image = await Image.open(path, false).catch((error: unknown) => throwAs('patch format', error));
      open.push(image);
      const root = await rootOf(image, async () => undefined);
      volumes.push({ directory: root.directory, name: root.name });
    }
    const patch = await readPatch(volumes).catch((error: unknown) => {
      if (!(error instanceof PatchError)) throw error;
      throw new Refused([problem(`patch ${error.what}`, `Patch: ${error.message}`)]);
    });
    if (patch.disk !== undefined) throw refusal('it is the patch of a whole disk (-d DISK)', 'patch layout');
    const target = await targetOf(targets[0], values, out);
    if (target.image) open.push(target.image);
    out.print(`Applying the patch of ${patch.names.map(display).join(' for ')} to ${display(target.name)}`);
    await applied(patch, volumes, target, values, out);
  } finally {
    await closeAll(open.reverse());
  }
}

/** Refuses a name for the way back that something has. */
export function refuseTaken({ undo }: HpcpValues): void {
  if (undo !== undefined && look(undo, 'itself')) throw refusal(`${undo} is there already`, 'patch making');
}

/** The images of a patch: a literal name first, then a pattern. */
export function patchesOf(args: readonly string[]): string[] {
  const paths = args.flatMap((arg) => (look(arg, 'itself') ? [arg] : glob(expandHome(arg) ?? arg)));
  if (paths.length > 0) return paths;
  throw new Refused([problem('patch incomplete', `Incomplete patch: there is no image: ${args.join(', ')}`)]);
}

export function throwAs(which: Case, error: unknown): never {
  const { case: found, message } = problemOf(error);
  if (found === 'defect') throw error;
  throw new Refused([problem(which, message)]);
}

async function targetOf(path: string | undefined, values: HpcpValues, out: HpcpConsole): Promise<Tree> {
  if (path === undefined) return imageTree(values.dest_image ?? '', !values.dry_run, out);
  if (isDirectory(path)) return { directory: path, name: path };
  if (look(path, 'target') === undefined) throw refusal(`-siff needs an existing target: ${path}`);
  throw refusal(`${path} is neither a directory nor a disk`, 'patch layout');
}

async function imageTree(path: string, write: boolean, out: HpcpConsole): Promise<Tree> {
  const image = await opened(path, write ? 'destination image' : 'source image', write, out);
  const { directory, name } = await rootOf(image, () => image.close());
  return { directory, name, image };
}

export async function applied(
  patch: TreePatch,
  volumes: readonly Tree[],
  target: Tree,
  values: HpcpValues,
  out: HpcpConsole,
): Promise<void> {
  const temporary = neededSpill(out);
  const undo = values.undo === undefined ? undefined : { path: values.undo, ...temporaryFiles(temporary) };
  const seen = new Seen();
  const settings = settingsOf(values, codeWith(out, applyProblems));
  const terminal = 'isTTY' in out.streams.stdin && out.streams.stdin.isTTY === true;
  const aliases = [...volumes, ...(target.image ? [target] : [])].map(({ directory, name }) => ({
    path: directory,
    name: `${name}:`,
  }));
  const begin: Parameters<typeof runJob>[0] = (_, hush) => {
    const confirm = async (victims: readonly Victims[]): Promise<boolean> => {
      const [first] = victims;
      if (first?.what === 'undo' && undo) {
        return hush(() => keepWayBack(undo, patch, target, first.entries, values, out)).then(
          () => true,
          (error: unknown) => {
            wayBack = error;
            return false;
          },
        );
      }
      if (!terminal || first === undefined) return false;
      return hush(() => overruled(first, out, () => job.cancel()));
    };
    const job = applyPatch({
      patch,
      target: target.directory,
      force: values.force_apply,
      dryRun: values.dry_run,
      sync: choice(values, 'sync') ?? 'safe',
      spillDirectory: temporary,
      entries: true,
      confirm,
      aliases,
      ...(undo && { undo: undo.changes }),
      ...resources(values),
    });
    return job;
  };
  let wayBack: unknown;
  try {
    const report = await runJob(begin, settings, out.streams, (event) => seen.take(event)).catch((error: unknown) =>
      error instanceof BulkhaulError && error.code === 'LIST' ? throwAs('patch format', error) : Promise.reject(error),
    );
    if (wayBack !== undefined) throw wayBack;
    out.notes(report);
    out.report(...applyProblems(report));
    if (values.dry_run) out.print('Dry run: nothing was done; the totals are what would be done');
    out.print(seen.line(report), RULE);
  } finally {
    if (undo) drop(undo);
  }
}

/** Shows conflicts, and asks whether they are overruled. */
async function overruled({ entries, first }: Victims, out: HpcpConsole, stop: () => void): Promise<boolean> {
  const names = first.map((name) => `  ${display(name)}\n`).join('');
  const more = entries > first.length ? `  and ${(entries - first.length).toLocaleString('en-US')} more\n` : '';
  const question = `${count(entries, 'conflict')}:\n${names}${more}Do you want to apply the patch over them? (y/n) `;
  const answer = await askConsent(question, out.streams);
  if (answer === 'interrupted') stop();
  return answer === 'yes';
}

/** Counts what was done. */
class Seen {
  readonly #counts = { deleted: 0, added: 0, modified: 0 };

  take(event: Event): void {
    if (event.type === 'entry' && event.outcome !== 'skipped') this.#counts[kindOf(event)] += 1;
  }

  /** As the original has it. */
  line({ skipped, outcomes, notes }: Report): string {
    const { deleted, added, modified } = this.#counts;
    const forced = /\d+$/.exec(notes.find(({ kind }) => kind === 'overruled')?.message ?? '')?.[0] ?? '0';
    const failed = outcomes.failed + outcomes.mismatched + outcomes.changed;
    return `Patch summary: deleted ${deleted}, added ${added}, modified ${modified}, skipped ${skipped.unchanged ?? 0}, conflicts ${outcomes.conflict}, forced ${forced}, failed ${failed}`;
  }
}

function kindOf({ changes }: EntryEvent): 'deleted' | 'added' | 'modified' {
  if (changes.includes('extra')) return 'deleted';
  return changes.includes('new') ? 'added' : 'modified';
}

export function applyProblems(report: Report): Problem[] {
  const problems = report.failures.map((failure) => told(caseOf(failure), `Patch: ${failureText(failure)}`));
  const all = Object.values(report.failureKinds).reduce((sum, many) => sum + many, 0);
  if (all > problems.length) {
    problems.push(problem('patch conflict', `Patch: ${all - problems.length} more failures`));
  }
  for (const { lost, message, path } of report.notes) {
    if (lost) problems.push(problem('patch damaged', `Patch: ${message} (${path})`));
  }
  if (report.outcomes.conflict > 0) {
    const what = `Patch conflict: ${count(report.outcomes.conflict, 'conflicting path')}`;
    problems.push(problem('patch conflict', `${what} (-fa overrules what can be overruled)`));
  }
  if (!report.accounted) {
    problems.push(problem('copy crashed', 'Patch: the rows found and the rows finished do not agree'));
  }
  return [...problems, ...interruption(report, 'run the same command again to go on')];
}

function caseOf({ kind, outcome, operation }: ErrorEvent): Case {
  if (outcome === 'conflict') return 'patch conflict';
  if (kind === 'payload-missing') return 'patch incomplete';
  if (outcome === 'mismatched') return 'patch damaged';
  return operation === 'remove' ? 'removal failed' : 'copy failed';
}

/** Files for a list of changes, and for the names that it needs. */
export interface Lists {
  changes: string;
  names: string;
}

export function temporaryFiles(directory: string): Lists {
  const stem = join(directory, `bulkhaul-patch-${process.pid}-${Math.random().toString(36).slice(2)}`);
  return { changes: `${stem}.tsv`, names: `${stem}.names` };
}

export function drop({ changes, names }: Lists): void {
  for (const file of [changes, names]) rmSync(toBytes(file), { force: true });
}

/** Writes the patch that leads back, before anything changes. */
async function keepWayBack(
  { path, changes, names }: Lists & { path: string },
  { names: sides, hash, hashSize }: Patch,
  target: Tree,
  entries: number,
  values: HpcpValues,
  out: HpcpConsole,
): Promise<void> {
  const rows = await readRows(changes, names);
  const made = { names: [sides[1], sides[0]] as const, hash, ...rows, layout: 'root' as const, payloadBytes: 0 };
  const patch = { ...made, ...(hashSize !== undefined && { hashSize }) };
  await build(path, patch, { changes, names }, target, values, out);
  out.note(`${path} leads back (${count(entries, 'entry', 'entries')} in it): hpcp -siff ${path} -d ${target.name}`);
}

/** `hpcp -diff`. */
async function make({ values, positionals }: HpcpCall, out: HpcpConsole, directory: string): Promise<void> {
  const { src_image = [], dest_image, dest_path, get_diff_image } = values;
  const sources = [...positionals];
  let output = get_diff_image;
  // A directory is never the patch: it is what comes.
  if (typeof output === 'string' && isDirectory(output)) {
    sources.push(output);
    output = undefined;
  }
  const [source = src_image[0]] = sources;
  if (sources.length + src_image.length !== 1 || source === undefined) {
    const many = sources.length + src_image.length;
    throw refusal(`-diff needs exactly one source (a directory or one -si image), and has ${many}`);
  }
  if (sources.length > 0 && !isDirectory(source)) throw refusal(`-diff needs an existing source directory: ${source}`);
  const bases = dest_path.length + (dest_image === undefined ? 0 : 1);
  if (bases !== 1) throw refusal(`-diff needs exactly one base (-d DIR or -di IMAGE), and has ${bases}`);
  const [base = dest_image ?? ''] = dest_path;
  if (dest_path.length > 0 && !isDirectory(base)) throw refusal(`-diff needs an existing base: ${base}`);
  const path = typeof output === 'string' ? output : defaultName(source, base);
  if (look(path, 'itself')) throw new Refused([problem('patch making', `Diff image error: ${path} is there already`)]);

  const open: Image[] = [];
  const lists = temporaryFiles(neededSpill(out));
  try {
    const tree = async (at: string, isImage: boolean): Promise<Tree> => {
      if (!isImage) return { directory: at, name: at };
      const found = await imageTree(at, false, out);
      if (found.image) open.push(found.image);
      return found;
    };
    const left = await tree(source, sources.length === 0);
    const right = await tree(base, dest_path.length === 0);
    const sides = sidesOf(left, right, values, directory, out);
    out.print(`Comparing ${display(left.name)} with ${display(right.name)}`);
    const report = await compared(sides, lists.changes, [left, right], values, out);
    const { left: added, right: deleted, changed } = report.differences;
    out.print(`Changes: ${added} added, ${changed} modified, ${deleted} deleted`);
    if (added + deleted + changed === 0 || values.dry_run || !report.complete) return;
    const rows = await readRows(lists.changes, lists.names);
    const made = { names: [nameOf(left), nameOf(right)] as const, hash: 'xxh64' as const, ...rows };
    const from = { ...left, directory: sides.from };
    await build(path, { ...made, layout: sides.layout, payloadBytes: 0 }, lists, from, values, out, right.directory);
    out.print(`Patch image written to ${display(path)}`);
  } finally {
    drop(lists);
    await closeAll(open.reverse());
  }
}

const nameOf = ({ name }: Tree) => basename(name.replace(/\/+$/, '')) || 'root';

export function defaultName(source: string, base: string, now = Math.floor(Date.now() / 1000)): string {
  const own = (path: string) => basename(resolve(path)) || 'root';
  return `DIFF_${own(source)}_TO_${own(base)}_${now}.img`;
}

/** What is compared, and how rows are named. */
interface Sides extends Pick<MappedCompareOptions, 'left' | 'right' | 'filter'> {
  layout: NewPatch['layout'];
  /** The tree that the names of rows begin in. */
  from: string;
}

/** Two trees; a directory against an image is compared with what lies at its absolute path there, and is named so. */
function sidesOf(left: Tree, right: Tree, values: HpcpValues, directory: string, out: HpcpConsole): Sides {
  const patterns = patternsOf(values);
  const side = (path: string) => ({ trees: [{ path, contents: true, follow: true }] });
  if (!left.image && right.image) {
    if (patterns.length > 0) {
      throw new UsageError('argument -e/--exclude: not with a directory against an image (-di); nothing was done');
    }
    const path = absolute(resolve(directory, left.directory), 'directory');
    const rules = path === '/' ? ['- /lost+found/'] : [...rulesFor(path, 'directory'), '- *'];
    const filter = { style: 'rsync' as const, rules };
    return { left: side('/'), right: side(right.directory), filter, layout: 'store', from: '/' };
  }
  const found: Source[] = [left, right]
    .filter(({ image }) => !image)
    .map((tree) => ({ path: tree.directory, kind: 'directory' }));
  const { rules, notes } = readExcludes(patterns, found, directory);
  for (const note of notes) out.note(note);
  const anchored = rules.filter((rule) => rule.startsWith('/'));
  // A pattern that begins at the root begins at that of each image, too; what is found in a file system is no part of it.
  const inImages = [left, right]
    .filter(({ image }) => image)
    .flatMap((tree) => [...anchored, '/lost+found'].map((rule) => tree.directory + rule));
  return {
    left: side(left.directory),
    right: side(right.directory),
    ...filterOf([...rules, ...inImages]),
    layout: 'root',
    from: left.directory,
  };
}

export async function compared(
  { left, right, filter }: Pick<Sides, 'left' | 'right' | 'filter'>,
  changes: string,
  trees: readonly Pick<Tree, 'name'>[],
  values: HpcpValues,
  out: HpcpConsole,
): Promise<Report> {
  const begin = () =>
    compareMapped({
      left,
      right,
      ...(filter && { filter }),
      align: true,
      content: 'tail',
      hashSize: Number.MAX_SAFE_INTEGER,
      metadata: true,
      directoryTimes: false,
      xattrs: true,
      specials: false,
      oneFileSystem: values.one_file_system,
      form: 'changes',
      output: changes,
      dryRun: values.dry_run,
      entries: values.dry_run,
      spillDirectory: neededSpill(out),
      ...resources(values),
    });
  const report = await runJob(begin, settingsOf(values, codeWith(out, readingProblems)), out.streams);
  out.notes(report);
  out.report(...readingProblems(report));
  if (!report.complete && out.problems.length === 0) {
    out.report(
      problem('patch making', `Diff image error: not all of ${trees.map(({ name }) => name).join(', ')} was read`),
    );
  }
  return report;
}

/**
 * Makes the image, or several of the size that is asked for: what the names are of, the list, and the proof that both agree;
 * then it has its name. `base`: what the patch is for.
 */
async function build(
  path: string,
  made: NewPatch,
  { changes, names }: Lists,
  from: Tree,
  values: HpcpValues,
  out: HpcpConsole,
  base?: string,
): Promise<void> {
  const temporary = neededSpill(out);
  const copy = (...into: string[]): MappedCopyOptions => ({
    sources: [{ path: from.directory, contents: true, follow: true }],
    destinations: into.map((to) => ({ path: to, follow: true })),
    filesFrom: { path: names, nul: true, contents: false },
    allowNested: true,
    sync: 'all',
    spillDirectory: temporary,
    ...resources(values),
  });
  const failed = (why: string) =>
    new Refused([problem('patch making', `Diff image error: ${why}; there is no ${path}`)]);
  const measure = () => copyMapped({ ...copy(`${path}/`), dryRun: true });
  const { allocatedBytes, foundBytes, found } = await step('measuring', measure, values, out);
  const list = statSync(toBytes(changes)).size;
  const entries = Object.values(found).reduce((sum, many) => sum + many, 0) + 3;
  const content = { bytes: allocatedBytes + list, entries, directories: found.directory + 1 };
  const asked = choice(values, 'image_fs');
  const type = asked ?? (await imageFileSystem(content));
  const need = imageSize(content, type);
  const size = sizeOf(values) ?? need;
  const plan =
    size < need ? await volumesOf(copy(`${path}/`), size, asked, values, out, { bytes: list, entries: 3 }) : undefined;
  const { images, publish } = await (plan
    ? makeSet(path, plan, { anew: true })
    : makeImage(path, size, type, entries, { anew: true }).then(({ image, ...rest }) => ({ images: [image], ...rest }))
  ).catch((error: unknown) => throwAs('patch making', error));
  let finished = false;
  try {
    const directories = images.map(({ largest }) => largest.directory);
    const pack = () => copyMapped({ ...copy(...directories), ...(plan && { placement: plan.placement }) });
    const report = await step('packing', pack, values, out);
    if (!report.complete) throw failed(report.failures[0]?.message ?? 'not all of it could be copied');
    const patch = await putChanges(directories, changes, made);
    const [directory = '', ...more] = directories;
    if (more.length === 0) await proved(patch, directory, made, values, out, failed);
    else if (base !== undefined) await fits(patch, base, values, out, failed);
    await putManifests(patch, { ...made, payloadBytes: foundBytes }, version());
    await publish().catch((error: unknown) => refusedBy('destination image', error));
    finished = true;
    const names = more.length === 0 ? `${path} is` : `${path} to ${volumePath(path, more.length)} are`;
    out.note(`${names} made: ${bytes(size)}, ${plan?.type ?? type}`);
  } finally {
    if (!finished) {
      for (const image of images) {
        await image.close().catch(() => undefined);
        rmSync(toBytes(image.path), { force: true });
      }
    }
  }
}

/** The patch could be applied to what it is for: that is as the list says, and so is what the volumes have. */
async function fits(
  patch: TreePatch,
  base: string,
  values: HpcpValues,
  out: HpcpConsole,
  failed: (why: string) => Refused,
): Promise<void> {
  const spillDirectory = neededSpill(out);
  const prove = () => applyPatch({ patch, target: base, dryRun: true, spillDirectory });
  const { complete, failures } = await step('proving', prove, values, out);
  if (!complete) throw failed(`it changed meanwhile: ${failures[0]?.message ?? 'some of it is not what it was'}`);
}

/** What was copied is what the list says: the patch has nothing left to do where its own files are. */
export async function proved(
  patch: TreePatch,
  directory: string,
  { added, modified, deleted }: NewPatch,
  values: HpcpValues,
  out: HpcpConsole,
  failed: (why: string) => Refused,
): Promise<void> {
  const spillDirectory = neededSpill(out);
  const prove = () => applyPatch({ patch, target: directory, dryRun: true, spillDirectory });
  const { skipped, failures, complete } = await step('proving', prove, values, out);
  const changed = failures[0]?.message ?? 'some of it is not what it was';
  if (!complete || (skipped.unchanged ?? 0) !== added + modified + deleted) {
    throw failed(`what it is made of changed meanwhile: ${changed}`);
  }
}
