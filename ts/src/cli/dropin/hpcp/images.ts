/**
 * Copies out of disk images (`-si`) and into them (`-di`, `-dis`).
 *
 * Comes in: the call, and what its flags ask of a copy; goes out: what goes where, as every copy has it, with the images
 * open. Into an image each source goes to its absolute path; out of one comes what is in its file systems. A new image is
 * measured first, so that it has room for all of it, and gets its name when the copy has come to its end.
 */
import { realpathSync, rmSync, writeFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { BulkhaulError } from '../../../error.js';
import type { Report } from '../../../events.js';
import { fromBytes, toBytes } from '../../../names.js';
import type { NativePlacement } from '../../../native/options.js';
import { copyMapped } from '../../../ops/copy.js';
import {
  type Content,
  emptyLostAndFound,
  Image,
  type ImageFileSystem,
  imageFileSystem,
  imageFileSystemOf,
  imageSize,
  makeImage,
  type Root,
  shownIn,
} from '../../../ops/image.js';
import type { MappedCopyOptions } from '../../../ops/mapping.js';
import {
  makeSet,
  type NewSet,
  openSet,
  placeInto,
  planVolumes,
  type Run,
  type VolumePlan,
  volumePath,
} from '../../../ops/volumes.js';
import { bytes } from '../../../report/units.js';
import { spillDirectory } from '../../run.js';
import { UsageError } from '../argparse.js';
import { glob } from '../glob.js';
import { type HpcpConsole, problem, problemOf, Refused } from './codes.js';
import { destinationsOf, mapSources } from './destinations.js';
import { filterOf, literal as literalOf, patternsOf, readExcludes } from './excludes.js';
import { choice, type HpcpCall, type HpcpValues } from './flags.js';
import type { Placed } from './place.js';
import { quantity } from './settings.js';
import { expandHome, look, nameList, type Source, sourcesOf } from './sources.js';
import { step } from './step.js';

/** The least size that `-dis` takes, as in the original. */
const LEAST = 50 * 2 ** 20;

/** What goes where. Throws `Refused`, `UsageError`; then no image is open. */
export async function placeImages(
  { values, positionals }: HpcpCall,
  flags: Omit<MappedCopyOptions, 'sources' | 'destinations'>,
  out: HpcpConsole,
  directory: string,
): Promise<Placed> {
  const { src_image = [], dest_image, dest_path, remove } = values;
  if (remove && src_image.length > 0) {
    throw new UsageError('argument -rm/--remove: nothing is removed from an image (-si); nothing was done');
  }
  if (dest_image === undefined && dest_path.length === 0) {
    throw new UsageError('argument -si/--src_image: the destination is named with -d or -di; nothing was done');
  }
  if (nameList(values) !== undefined) {
    throw new UsageError('argument --files-from: not with images (-si, -di); nothing was done');
  }
  const trees = positionals.length > 0 || values.source_file_list !== undefined;
  if (dest_image !== undefined && trees && src_image.length > 0) {
    throw new UsageError('argument -si/--src_image: into an image (-di) come either images or paths; nothing was done');
  }
  const open: Image[] = [];
  try {
    for (const path of imagesOf(src_image, out)) await openMore(open, path, out);
    const roots = open.flatMap((image) => image.roots);
    const found = trees || src_image.length === 0 ? await sourcesOf(positionals, values, out) : [];
    if (roots.length + found.length === 0) {
      throw new Refused([problem('no source', 'No source paths: nothing of the images can be read')]);
    }
    const { rules, sources, notes } = readExcludes(patternsOf(values), found, directory);
    for (const note of notes) out.note(note);
    const names = new Map(roots.map((root) => [root.directory, `${root.name}:`]));
    // Nobody has put them in this order to have the one over the other.
    const merged = roots.length > 1 ? { onCollision: 'fail' as const } : {};
    const all: Source[] = [...roots.map((root) => contents(`${root.directory}/`)), ...sources];
    const shown = [...roots.map(({ name }) => name), ...sources.map(({ path }) => path)];
    const anchored = rules.filter((rule) => rule.startsWith('/'));
    // A pattern that begins at the root begins at that of each image, too.
    const filter = filterOf([...rules, ...roots.flatMap((root) => anchored.map((rule) => root.directory + rule))]);
    if (dest_image === undefined) {
      const spare: string[] = [];
      for (const root of roots) if (await emptyLostAndFound(root)) spare.push(`${root.directory}/lost+found`);
      const destinations = destinationsOf(all, dest_path, values, out);
      const mapping = mapSources(all, destinations, { create: !values.no_create_dir });
      const taken = filterOf([...(filter.filter?.rules ?? []), ...spare]);
      return {
        options: { ...mapping, ...taken, ...merged, aliases: aliases(names) },
        ...{ shown, destinations, close: () => closeAll(open) },
      };
    }
    const from = roots.length > 0 ? roots.map((root) => root.directory) : sources;
    const into = await destination(dest_image, from, values, { ...flags, ...filter }, names, out, directory);
    const close = async () => {
      await into.close();
      await closeAll(open);
    };
    return { ...into, options: { ...filter, ...into.options, ...merged }, shown, close };
  } catch (error) {
    await closeAll(open);
    throw error;
  }
}

const contents = (path: string): Source => ({ path, kind: 'directory' });

function aliases(names: ReadonlyMap<string, string>): { path: string; name: string }[] {
  return [...names].map(([path, name]) => ({ path, name }));
}

export async function closeAll(images: readonly Image[]): Promise<void> {
  for (const image of images) await image.close();
}

/** The images that arguments mean: a literal name first, then a pattern, `~` last. Missing ones are problems. */
function imagesOf(args: readonly string[], out: HpcpConsole): string[] {
  return args.flatMap((arg) => {
    if (look(arg, 'itself')) return [arg];
    const matches = glob(expandHome(arg) ?? arg);
    if (matches.length === 0) out.report(problem('source image', `Source image not found: ${arg}`));
    return matches;
  });
}

/** Opens a source image, with the other volumes of its set, where it is not open yet. */
async function openMore(open: Image[], path: string, out: HpcpConsole): Promise<void> {
  const key = ({ dev, ino }: { dev: bigint; ino: bigint }) => `${dev}:${ino}`;
  const known = new Set<string>();
  for (const { file } of open) known.add(key(await file.stat({ bigint: true })));
  const itself = await stat(toBytes(path), { bigint: true }).catch(() => undefined);
  if (itself?.isFile() && known.has(key(itself))) return;
  open.push(...(await openedSet(path, 'source image', false, out)));
}

/** Opens an image. Throws `Refused`; what of it can't be mounted is a problem, or a note. */
export async function opened(
  path: string,
  which: 'source image' | 'destination image',
  write: boolean,
  out: HpcpConsole,
): Promise<Image> {
  const image = await Image.open(path, write).catch((error: unknown) => refusedBy(which, error));
  tellUnmounted(image, write, out);
  return image;
}

/** The same with all volumes of a set. */
async function openedSet(
  path: string,
  which: 'source image' | 'destination image',
  write: boolean,
  out: HpcpConsole,
): Promise<Image[]> {
  const images = await openSet(path, write).catch((error: unknown) => refusedBy(which, error));
  for (const image of images) tellUnmounted(image, write, out);
  return images;
}

function tellUnmounted(image: Image, write: boolean, out: HpcpConsole): void {
  for (const { name, kind, why } of image.unmounted) {
    if (kind === 'swap') out.note(`${name} is left out: ${why}`);
    // Into an image goes what one of its file systems takes.
    else if (!write) out.report(problem('partition', `Partition can not be mounted: ${name}: ${why}`));
  }
}

export function refusedBy(which: 'source image' | 'destination image', error: unknown): never {
  if (!(error instanceof BulkhaulError)) throw error;
  throw new Refused([problem(which, problemOf(error).message)]);
}

/** An image as destination. */
async function destination(
  path: string,
  from: readonly string[] | readonly Source[],
  values: HpcpValues,
  options: Omit<MappedCopyOptions, 'sources' | 'destinations'>,
  names: ReadonlyMap<string, string>,
  out: HpcpConsole,
  directory: string,
): Promise<Omit<Placed, 'shown'> & { close: () => Promise<void> }> {
  const others = values.dest_path.length > 0 ? destinationsOf([], values.dest_path, values, out) : [];
  const exists = look(path, 'target') !== undefined;
  if (!exists && others.length > 0) {
    throw new Refused([problem('partition', `Destination image does not exist: ${path}; with -d it is not made`)]);
  }
  if (values.remove_extra && patternsOf(values).length > 0) {
    throw new UsageError('argument -rme/--remove_extra: into an image not with -e and -x; nothing was done');
  }
  const { drop, ...sources } = stored(from, directory, spillDirectory(out.streams.env), values.remove_extra);
  const placed = (roots: readonly Pick<Root, 'directory' | 'name'>[]) => ({
    destinations: [...others, path],
    options: {
      ...sources,
      destinations: [...others, ...roots.map(({ directory: root }) => root)].map((at) => ({ path: at, follow: true })),
      sync: 'all' as const,
      aliases: aliases(new Map([...names, ...roots.map(({ directory: root, name }) => [root, `${name}:`] as const)])),
    },
  });
  const trees = from.flatMap((source) => (typeof source === 'string' ? [] : [resolve(directory, source.path)]));
  /** What is written to is no part of what is copied. */
  const apart = async (into: ReturnType<typeof placed>, images: readonly string[]) => {
    const own: string[] = [];
    for (const image of images) {
      for (const at of await shownIn(trees, resolve(directory, image), !values.dry_run)) own.push(at, `${at}.partial`);
    }
    if (own.length === 0) return into;
    const { filter = options.filter } = into.options;
    const rules = filter?.rules ?? [];
    const exact =
      filter?.style === 'rsync'
        ? { style: filter.style, rules: [...own.map((image) => `- ${exactly(image)}`), ...rules] }
        : { style: 'fnmatch' as const, rules: [...rules, ...own.map(literalOf)] };
    return { ...into, options: { ...into.options, filter: exact } };
  };
  const place = (roots: readonly Pick<Root, 'directory' | 'name'>[], images: readonly string[]) =>
    apart(placed(roots), images);
  try {
    if (exists) {
      // What is only looked at is not mounted for writing, which would replay its journal.
      const images = await openedSet(path, 'destination image', !values.dry_run, out);
      const close = async () => {
        drop();
        await closeAll(images);
      };
      const roots: Root[] = [];
      for (const image of images) roots.push(await rootOf(image, close));
      const into = await place(
        roots,
        images.map((image) => image.path),
      );
      if (images.length === 1 || others.length > 0) return { ...into, close };
      const placement = await placeInto({ ...options, ...into.options }, images, (begin, listen) =>
        step('measuring', begin, values, out, listen),
      );
      return { ...into, options: { ...into.options, placement }, close };
    }
    // Nothing has this name: what is measured goes nowhere.
    const planned = await place([{ directory: `${path}/`, name: path }], [path]);
    const nowhere = { ...options, ...planned.options };
    const made = await fresh(path, nowhere, values, out);
    const close = async () => drop();
    if (made === undefined) return { ...planned, close };
    const end = async (report: Report) => {
      if (!report.interrupted) return made.publish().catch((error: unknown) => refusedBy('destination image', error));
      await closeAll(made.images);
      out.note(`the image is unfinished: ${path}.partial stays, and the same command goes on with it`);
    };
    const images = made.images.map((image) => image.path.replace(/\.partial$/, ''));
    const into = await place(
      made.images.map((image, index) => ({ ...image.largest, name: images[index] ?? '' })),
      images,
    );
    const { placement } = made;
    return { ...into, options: { ...into.options, ...(placement && { placement }) }, end, close };
  } catch (error) {
    drop();
    throw error;
  }
}

/** The file system that is written to; what has none is closed. */
export async function rootOf(image: Image, close: () => Promise<void>): Promise<Root> {
  try {
    return image.largest;
  } catch (error) {
    await close();
    return refusedBy('destination image', error);
  }
}

/** What is copied, as a dry run finds it. */
async function measured(options: MappedCopyOptions, values: HpcpValues, out: HpcpConsole): Promise<Content> {
  const measure = () => copyMapped({ ...options, dryRun: true, requireSpace: false });
  const { allocatedBytes, found } = await step('measuring', measure, values, out);
  const entries = Object.values(found).reduce((sum, count) => sum + count, 0);
  return { bytes: allocatedBytes, entries, directories: found.directory };
}

/** A new image with room for all of it, or several; nothing in a dry run, which tells what it would be. */
async function fresh(
  path: string,
  copy: MappedCopyOptions,
  values: HpcpValues,
  out: HpcpConsole,
): Promise<(NewSet & { placement?: NativePlacement[] }) | undefined> {
  const content = await measured(copy, values, out);
  const asked = choice(values, 'image_fs');
  const need = imageSize(content, asked ?? (await imageFileSystem(content)));
  const size = sizeOf(values);
  const several = size !== undefined && size < need ? await volumesOf(copy, size, asked, values, out) : undefined;
  if (several && several.count > 1) return freshSet(path, several, values, out);
  const type = several?.type ?? asked ?? (await imageFileSystem(content));
  const most = size ?? need;
  if (values.dry_run) {
    out.note(`${path} would be a new image of ${bytes(most)} with ${type}`);
    return undefined;
  }
  const { image, resumed, publish } = await makeImage(path, most, type, content.entries).catch((error: unknown) =>
    refusedBy('destination image', error),
  );
  out.note(
    resumed
      ? `goes on with ${path}.partial, which an earlier run has left`
      : `${path} is made: ${bytes(most)}, ${type}`,
  );
  return { images: [image], resumed, publish };
}

/** How many images of one size it takes; `own`: what comes into each beside the copy. */
export async function volumesOf(
  copy: MappedCopyOptions,
  size: number,
  asked: ImageFileSystem | undefined,
  values: HpcpValues,
  out: HpcpConsole,
  own?: { bytes: number; entries: number },
): Promise<VolumePlan> {
  const run: Run = (begin, listen) => step('measuring', begin, values, out, listen);
  return planVolumes(copy, size, asked ?? (await imageFileSystemOf(size)), run, own).catch((error: unknown) => {
    if (!(error instanceof BulkhaulError) || error.code !== 'NO_SPACE') throw error;
    throw new Refused([problem('image size', `Destination image is too small: ${error.message}; nothing was done`)]);
  });
}

/** Several images of one size, because one would not hold it all. */
async function freshSet(
  path: string,
  plan: VolumePlan,
  values: HpcpValues,
  out: HpcpConsole,
): Promise<(NewSet & { placement: NativePlacement[] }) | undefined> {
  const { size, type } = plan;
  const names = `${path} to ${volumePath(path, plan.count - 1)}`;
  if (values.dry_run) {
    out.note(`${names} would be ${plan.count} new images of ${bytes(size)} with ${type}`);
    return undefined;
  }
  const set = await makeSet(path, plan).catch((error: unknown) => refusedBy('destination image', error));
  out.note(
    set.resumed
      ? `goes on with ${path}.partial and its other volumes, which an earlier run has left`
      : `${names} are made: ${plan.count} volumes of ${bytes(size)}, ${type}`,
  );
  return { ...set, placement: plan.placement };
}

/** The size that was asked for. */
export function sizeOf({ dest_image_size }: HpcpValues): number | undefined {
  const size = quantity(dest_image_size, '-dis') ?? 0;
  if (size === 0) return undefined;
  if (size < LEAST) {
    const what = `Destination image is too small: -dis is at least ${bytes(LEAST)}; nothing was done`;
    throw new Refused([problem('image size', what)]);
  }
  return Math.floor(size / 4096) * 4096;
}

/** Sources for an image: what is in images as it is there, and each other one at its absolute path. */
function stored(
  sources: readonly string[] | readonly Source[],
  directory: string,
  temporary: string,
  mirrored: boolean,
): Pick<MappedCopyOptions, 'sources' | 'filesFrom' | 'filter'> & { drop: () => void } {
  const roots = sources.filter((source) => typeof source === 'string');
  if (roots.length > 0) {
    const all = roots.map((path) => ({ path, contents: true, follow: true }));
    return { sources: all, drop: () => undefined };
  }
  const paths = (sources as readonly Source[]).map(({ path, kind }) => absolute(resolve(directory, path), kind));
  const root = [{ path: '/', contents: true, follow: true }];
  if (mirrored) {
    // What is extra can't be told by a list; what lies beside the sources in the image is nobody's here, and stays.
    const rules = (sources as readonly Source[]).flatMap(({ kind }, index) => rulesFor(paths[index] ?? '', kind));
    return { sources: root, filter: { style: 'rsync', rules: [...rules, '- *'] }, drop: () => undefined };
  }
  const list = join(temporary, `bulkhaul-list-${process.pid}-${Math.random().toString(36).slice(2)}`);
  const names = paths.map((path) => Buffer.concat([toBytes(path === '/' ? '.' : path.slice(1)), Buffer.of(0)]));
  writeFileSync(toBytes(list), Buffer.concat(names), { mode: 0o600, flag: 'wx' });
  return {
    sources: root,
    filesFrom: { path: list, nul: true, contents: true },
    drop: () => rmSync(toBytes(list), { force: true }),
  };
}

/** Where a source is, without links on the way: below one nothing is found. */
export function absolute(path: string, kind: Source['kind']): string {
  const real = (of: string) => fromBytes(realpathSync.native(toBytes(of), { encoding: 'buffer' }));
  return kind === 'directory' ? real(path) : join(real(dirname(path)), basename(path));
}

/** Rules that take what is at an absolute path, with all that is in it, and what leads to it. */
export function rulesFor(path: string, kind: Source['kind']): string[] {
  const parts = path.split('/').slice(1).map(literal);
  const upTo = (many: number) => `/${parts.slice(0, many).join('/')}`;
  const steps = parts.slice(0, -1).map((_, index) => `+ ${upTo(index + 1)}/`);
  const whole = upTo(parts.length);
  if (path === '/') return ['- /lost+found/', '+ /**'];
  return [...steps, ...(kind === 'directory' ? [`+ ${whole}/`, `+ ${whole}/**`] : [`+ ${whole}`])];
}

/** A path as a rule of rsync that means itself. */
const exactly = (path: string) => path.split('/').map(literal).join('/');

/** A name as a pattern that means itself. */
function literal(name: string): string {
  return name.replaceAll(/[\\*?[]/g, '\\$&');
}
