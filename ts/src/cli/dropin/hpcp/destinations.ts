/**
 * Where `hpcp` copies to, and under which names: its own rules, which are neither cp's nor rsync's.
 *
 * Comes in: the sources that exist, the destinations as typed, and the file system to look at; goes out: the destinations
 * that may be used, and the mapping of the one to the other that the copy takes. Nothing is written here.
 */
import { readFileSync, realpathSync } from 'node:fs';
import { display, fromBytes, type PathLike, toBytes } from '../../../names.js';
import type { MappedCopyOptions } from '../../../ops/mapping.js';
import { elsewhere } from '../../values.js';
import { UsageError } from '../argparse.js';
import { glob, hasMagic } from '../glob.js';
import { type HpcpConsole, type Problem, problem, Refused } from './codes.js';
import type { HpcpValues } from './flags.js';
import { expandHome, isDirectory, look, pathText, type Source } from './sources.js';

/**
 * Expands one destination argument: a literal name that exists first, then a pattern (directories only), then `~`.
 * A name that does not exist is taken as it is, unless it holds `*` or `?`: that is a mistake, not a name to be made.
 */
export function expandDestination(arg: string): string[] {
  if (arg === '') throw new UsageError('argument -d/-C/--dest_path: the value is empty');
  if (look(arg, 'itself')) return [arg];
  const home = expandHome(arg) ?? arg;
  if (look(home, 'itself')) return [home];
  const why = elsewhere(arg, 'copy', ['SRC', arg]);
  if (why !== undefined) throw new Refused([problem('no destination', `No valid destination: ${why}`)]);
  if (!hasMagic(home)) return [home];
  const matches = glob(home).filter(isDirectory);
  return matches.length > 0 || /[*?]/.test(home) ? matches : [home];
}

/** The destination directory, and the name that the sole source gets in it; without a name its contents go there. */
interface Place {
  directory: string;
  name: string | undefined;
  /** The name is what the user called the destination, not the source's own. */
  given: boolean;
}

/** Where things go, ready for the copy. */
export type Mapping = Pick<MappedCopyOptions, 'sources' | 'destinations' | 'createDestination'>;

export interface MappingOptions {
  /** Make destinations that are absent. */
  create?: boolean;
  /** A list of names is relative to the sole directory. */
  rooted?: boolean;
}

/** A directory that a destination needs: the destination itself, or the directory of a new file name. */
export function baseOf(sources: readonly Source[], destination: string): string {
  const [sole, ...others] = sources;
  return sole !== undefined && others.length === 0 ? place(sole, destination).directory : destination;
}

/**
 * Maps sources to destinations:
 * 1. one directory to DEST: its contents go into DEST, whether DEST exists or not;
 * 2. one directory to DEST/: DEST/name;
 * 3. a source with a slash at its end (also `.` and `..`): its contents go into DEST;
 * 4. several sources: each to DEST/name, with a slash its contents to DEST;
 * 5. one file to DEST: that name, unless it is a directory, then DEST/name; to DEST/: DEST/name;
 * 6. a symlink is copied as a link, except that a sole one to a directory is followed.
 * Each destination is taken by itself. `rooted`: the sole directory is the root of a list of names. Throws `UsageError` where one file would get different names.
 */
export function mapSources(
  sources: readonly Source[],
  destinations: readonly string[],
  { create = true, rooted = false }: MappingOptions = {},
): Mapping {
  const [sole, ...others] = sources;
  if (sole === undefined || others.length > 0) {
    return {
      sources: unique(sources).map((source) =>
        bringsContents(source)
          ? { path: unslashed(source.path), contents: true, follow: true }
          : { path: source.path, contents: false, follow: false },
      ),
      destinations: destinations.map((path) => ({ path, follow: true })),
      createDestination: create,
    };
  }
  const places = destinations.map((destination) => place(sole, destination));
  const names = new Set(places.map(({ name }) => name));
  const path = unslashed(sole.path);
  const follow = sole.kind !== 'other';
  const [name] = names;
  if (names.size <= 1 && !(rooted && follow)) {
    const given = places.some((place) => place.given) && name !== undefined;
    return {
      sources: [{ path, contents: name === undefined, ...(given && { name }), follow }],
      destinations: places.map(({ directory }) => ({ path: directory, follow: true })),
      createDestination: create,
    };
  }
  if (sole.kind === 'other') {
    const list = destinations.map((destination) => `'${destination}'`).join(', ');
    throw new UsageError(`argument -d/-C/--dest_path: ${list} give one file different names`);
  }
  return {
    sources: [{ path, contents: true, follow }],
    // A name below the destination argument was not typed by the user: it is not followed.
    destinations: places.map(({ directory, name }) =>
      name === undefined ? { path: directory, follow: true } : { path: join(directory, name), follow: false },
    ),
  };
}

function place(source: Source, destination: string): Place {
  const name = baseName(source.path);
  if (source.kind !== 'other') {
    const inside = destination.endsWith('/') && !bringsContents(source);
    return { directory: destination, name: inside ? name : undefined, given: false };
  }
  const newName = baseName(destination);
  if (isNameless(newName) || isDirectory(destination)) return { directory: destination, name, given: false };
  return { directory: destination.slice(0, -newName.length) || '.', name: newName, given: true };
}

/** A directory without a name of its own: slash at the end, `.` or `..`. */
function bringsContents({ path, kind }: Source): boolean {
  return kind !== 'other' && isNameless(baseName(path));
}

function isNameless(name: string): boolean {
  return name === '' || name === '.' || name === '..';
}

function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

function unslashed(path: string): string {
  return path.replace(/(?<=[^/])\/+$/, '');
}

function join(directory: string, name: string): string {
  return directory.endsWith('/') ? directory + name : `${directory}/${name}`;
}

function unique(sources: readonly Source[]): Source[] {
  return [...new Map(sources.map((source) => [source.path, source])).values()];
}

/** The sources that are a destination themselves, whatever they are called: a copy would go around in circles. */
export function sourcesThatAreDestinations({ sources, destinations }: Mapping): Problem[] {
  const identity = (path: PathLike, follow: boolean) => {
    const entry = look(path, follow ? 'target' : 'itself');
    return entry && `${entry.dev}:${entry.ino}`;
  };
  const places = new Set(destinations.map(({ path }) => identity(path, true)));
  return sources
    .filter(({ path, follow }) => {
      const source = identity(path, follow);
      return source !== undefined && places.has(source);
    })
    .map(({ path }) =>
      problem('refused', `Refused: the source ${pathText(path)} is the destination; nothing was copied`),
    );
}

/** What -ncd and -tfs ask of a destination. */
export interface Requirements {
  exists: boolean;
  fileSystem: string | undefined;
}

/** The destinations that meet the requirements; each other one is a problem. */
export function usableDestinations(
  sources: readonly Source[],
  destinations: readonly string[],
  { exists, fileSystem }: Requirements,
): { usable: string[]; problems: Problem[] } {
  const problems: Problem[] = [];
  const usable = destinations.filter((destination) => {
    const base = baseOf(sources, destination);
    if (exists && !isDirectory(base)) {
      problems.push(problem('destination missing', `Destination path does not exist: ${base} (-ncd), left out`));
      return false;
    }
    const type = fileSystem === undefined ? undefined : fileSystemType(base);
    if (type?.toLowerCase() !== fileSystem?.toLowerCase()) {
      const what = `Destination file system differs: ${base} is on ${type ?? 'an unknown one'}, not ${fileSystem} (-tfs), left out`;
      problems.push(problem('destination file system', what));
      return false;
    }
    return true;
  });
  return { usable, problems };
}

/** Where the copy may go, of what was asked for; each other one is a problem. Throws `Refused` where none is left. */
export function destinationsOf(
  sources: readonly Source[],
  wanted: readonly string[],
  values: HpcpValues,
  out: HpcpConsole,
): string[] {
  const expanded = wanted.flatMap((destination) => {
    const paths = expandDestination(destination);
    if (paths.length === 0) {
      out.report(problem('no destination', `No valid destination: no directory matches ${destination}`));
    }
    return paths;
  });
  const requirements = { exists: values.no_create_dir, fileSystem: values.target_file_system };
  const { usable, problems } = usableDestinations(sources, [...new Set(expanded)], requirements);
  out.report(...problems);
  if (usable.length > 0) return usable;
  throw new Refused([problem('no destination', 'No valid destination: none is left, nothing was copied')]);
}

/** Type of the file system that holds `path`, or would: the nearest directory that exists decides. */
function fileSystemType(path: string): string | undefined {
  let existing = path;
  while (existing !== '.' && !isDirectory(existing)) {
    const parent = unslashed(existing).replace(/[^/]+$/, '');
    existing = parent === '' ? '.' : parent;
  }
  const real = fromBytes(realpathSync.native(toBytes(existing), { encoding: 'buffer' }));
  return mountType(fromBytes(readFileSync('/proc/self/mountinfo')), real);
}

/** The type of the mount that `path`, absolute and without links, is on; of mounts on one point the last one. */
export function mountType(mountinfo: string, path: string): string | undefined {
  let best: { point: string; type: string | undefined } | undefined;
  for (const line of mountinfo.split('\n')) {
    const [mount = '', fields = ''] = line.split(' - ');
    const point = mount
      .split(' ')[4]
      ?.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)));
    if (point === undefined) continue;
    const holds = path === point || path.startsWith(point.endsWith('/') ? point : `${point}/`);
    if (holds && point.length >= (best?.point.length ?? 0)) best = { point, type: fields.split(' ')[0] };
  }
  return best?.type;
}

/** The destinations for people, in one line. */
export function destinationLine(destinations: readonly string[]): string {
  return `${destinations.length} destinations, each file goes to one of them: ${destinations.map(display).join(', ')}`;
}
