/**
 * Copies out of disk images (`-si`) and into them (`-di`, `-dis`).
 *
 * Comes in: the call, and what its flags ask of a copy; goes out: what goes where, as every copy has it, with the images
 * open. Into an image each source goes to its absolute path; out of one comes what is in its file systems. A new image is
 * measured first, so that it has room for all of it, and gets its name when the copy has come to its end.
 */
import { realpathSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { BulkhaulError } from '../../../error.js';
import type { Report } from '../../../events.js';
import { fromBytes, toBytes } from '../../../names.js';
import { copyMapped } from '../../../ops/copy.js';
import {
  type Content,
  emptyLostAndFound,
  Image,
  type ImageFileSystem,
  imageFileSystem,
  imageSize,
  makeImage,
  type NewImage,
  type Root,
} from '../../../ops/image.js';
import type { MappedCopyOptions } from '../../../ops/mapping.js';
import { bytes } from '../../../report/units.js';
import { spillDirectory } from '../../run.js';
import { UsageError } from '../argparse.js';
import { glob } from '../glob.js';
import { type HpcpConsole, problem, problemOf, Refused } from './codes.js';
import { destinationsOf, mapSources } from './destinations.js';
import { filterOf, patternsOf, readExcludes } from './excludes.js';
import { choice, type HpcpCall, type HpcpValues } from './flags.js';
import type { Placed } from './place.js';
import { quantity } from './settings.js';
import { expandHome, look, nameList, type Source, sourcesOf } from './sources.js';

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
    for (const path of imagesOf(src_image, out)) open.push(await opened(path, 'source image', false, out));
    const roots = open.flatMap((image) => image.roots);
    const found = trees || src_image.length === 0 ? await sourcesOf(positionals, values, out) : [];
    if (roots.length + found.length === 0) {
      throw new Refused([problem('no source', 'No source paths: nothing of the images can be read')]);
    }
    const { rules, sources, notes } = readExcludes(patternsOf(values), found, directory);
    for (const note of notes) out.note(note);
    const names = new Map(roots.map((root) => [root.directory, `${root.name}:`]));
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
        options: { ...mapping, ...taken, aliases: aliases(names) },
        ...{ shown, destinations, close: () => closeAll(open) },
      };
    }
    const from = roots.length > 0 ? roots.map((root) => root.directory) : sources;
    const into = await destination(dest_image, from, values, { ...flags, ...filter }, names, out, directory);
    const close = async () => {
      await into.close();
      await closeAll(open);
    };
    return { ...into, options: { ...into.options, ...filter }, shown, close };
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
export function imagesOf(args: readonly string[], out: HpcpConsole): string[] {
  return args.flatMap((arg) => {
    if (look(arg, 'itself')) return [arg];
    const matches = glob(expandHome(arg) ?? arg);
    if (matches.length === 0) out.report(problem('source image', `Source image not found: ${arg}`));
    return matches;
  });
}

/** Opens an image. Throws `Refused`; what of it can't be mounted is a problem, or a note. */
export async function opened(
  path: string,
  which: 'source image' | 'destination image',
  write: boolean,
  out: HpcpConsole,
): Promise<Image> {
  const image = await Image.open(path, write).catch((error: unknown) => refusedBy(which, error));
  for (const { name, kind, why } of image.unmounted) {
    if (kind === 'swap') out.note(`${name} is left out: ${why}`);
    // Into an image goes what one of its file systems takes.
    else if (!write) out.report(problem('partition', `Partition can not be mounted: ${name}: ${why}`));
  }
  return image;
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
  const { drop, ...sources } = stored(from, directory, spillDirectory(out.streams.env));
  const placed = (root: string, name: string) => ({
    destinations: [...others, path],
    options: {
      ...sources,
      destinations: [...others, root].map((target) => ({ path: target, follow: true })),
      sync: 'all' as const,
      aliases: aliases(new Map([...names, [root, `${name}:`]])),
    },
  });
  try {
    if (exists) {
      // What is only looked at is not mounted for writing, which would replay its journal.
      const image = await opened(path, 'destination image', !values.dry_run, out);
      const close = async () => {
        drop();
        await image.close();
      };
      const root = await rootOf(image, close);
      return { ...placed(root.directory, root.name), close };
    }
    // Nothing has this name: what is measured goes nowhere.
    const nowhere = `${path}/`;
    const content = await measured({ ...options, ...placed(nowhere, path).options });
    const made = await fresh(path, content, values, out);
    const close = async () => drop();
    if (made === undefined) return { ...placed(nowhere, path), close };
    const end = async (report: Report) => {
      if (!report.interrupted) return made.publish().catch((error: unknown) => refusedBy('destination image', error));
      await made.image.close();
      out.note(`the image is unfinished: ${path}.partial stays, and the same command goes on with it`);
    };
    return { ...placed(made.image.largest.directory, path), end, close };
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
export async function measured(options: MappedCopyOptions): Promise<Content> {
  const { allocatedBytes, found } = await copyMapped({ ...options, dryRun: true, requireSpace: false });
  const entries = Object.values(found).reduce((sum, count) => sum + count, 0);
  return { bytes: allocatedBytes, entries, directories: found.directory };
}

/** A new image with room for all of it; nothing in a dry run, which tells what it would be. */
async function fresh(
  path: string,
  content: Content,
  values: HpcpValues,
  out: HpcpConsole,
): Promise<NewImage | undefined> {
  const asked = choice(values, 'image_fs');
  const type: ImageFileSystem = asked ?? (await imageFileSystem(content));
  const need = imageSize(content, type);
  const size = sizeOf(values);
  if (size !== undefined && size < need) {
    const what = `Destination image is too small: ${bytes(need)} are needed, -dis has ${bytes(size)}, and several volumes are not in this version yet`;
    throw new Refused([problem('image size', what)]);
  }
  const most = size ?? need;
  if (values.dry_run) {
    out.note(`${path} would be a new image of ${bytes(most)} with ${type}`);
    return undefined;
  }
  const made = await makeImage(path, most, type, content.entries).catch((error: unknown) =>
    refusedBy('destination image', error),
  );
  out.note(
    made.resumed
      ? `goes on with ${path}.partial, which an earlier run has left`
      : `${path} is made: ${bytes(most)}, ${type}`,
  );
  return made;
}

/** The size that was asked for. */
function sizeOf({ dest_image_size }: HpcpValues): number | undefined {
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
): Pick<MappedCopyOptions, 'sources' | 'filesFrom'> & { drop: () => void } {
  const roots = sources.filter((source) => typeof source === 'string');
  if (roots.length > 0) {
    const all = roots.map((path) => ({ path, contents: true, follow: true }));
    return { sources: all, drop: () => undefined };
  }
  const paths = (sources as readonly Source[]).map(({ path, kind }) => absolute(resolve(directory, path), kind));
  const list = join(temporary, `bulkhaul-list-${process.pid}-${Math.random().toString(36).slice(2)}`);
  const names = paths.map((path) => Buffer.concat([toBytes(path === '/' ? '.' : path.slice(1)), Buffer.of(0)]));
  writeFileSync(toBytes(list), Buffer.concat(names), { mode: 0o600, flag: 'wx' });
  return {
    sources: [{ path: '/', contents: true, follow: true }],
    filesFrom: { path: list, nul: true, contents: true },
    drop: () => rmSync(toBytes(list), { force: true }),
  };
}

/** Where a source is, without links on the way: below one nothing is found. */
export function absolute(path: string, kind: Source['kind']): string {
  const real = (of: string) => fromBytes(realpathSync.native(toBytes(of), { encoding: 'buffer' }));
  return kind === 'directory' ? real(path) : join(real(dirname(path)), basename(path));
}
