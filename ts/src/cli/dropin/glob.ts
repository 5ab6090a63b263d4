/**
 * Shell patterns as Python's `fnmatch` and `glob` understand them, on names in the form of `names.ts`.
 *
 * Comes in: a pattern, and the file system for `glob`; goes out: whether a name matches, or the names that do, sorted.
 * It promises that no name is lost for its bytes, that hidden names match like others, and that `**` ends: a symlink to
 * a directory that is already being walked is listed but not entered.
 */
import { type Dirent, lstatSync, readdirSync, statSync } from 'node:fs';
import { fromBytes, toBytes } from '../../names.js';

/** Whether `pattern` has a character that is special to `glob`. */
export function hasMagic(pattern: string): boolean {
  return /[*?[]/.test(pattern);
}

/** Whether `name` matches the whole of `pattern`: `*` and `?` match `/` too, `[a-z]` and `[!a-z]` one character. */
export function fnmatch(name: string, pattern: string): boolean {
  return compile(pattern).test(name);
}

/**
 * The existing paths that `pattern` names, sorted within each directory. A pattern without magic gives itself when it
 * exists (a dangling symlink exists). What can't be listed matches nothing.
 */
export function glob(pattern: string): string[] {
  return expand(pattern, false).filter((path) => path !== '');
}

function expand(pattern: string, directoriesOnly: boolean): string[] {
  const [head, tail] = split(pattern);
  if (!hasMagic(pattern)) return (tail === '' ? isDirectory(head) : exists(pattern)) ? [pattern] : [];
  const directories = head !== pattern && hasMagic(head) ? expand(head, true) : [head];
  return directories.flatMap((directory) =>
    names(directory, tail, directoriesOnly).map((name) => join(directory, name)),
  );
}

/** Names in `directory` that `pattern`, one component, stands for; '' is the directory itself. */
function names(directory: string, pattern: string, directoriesOnly: boolean): string[] {
  if (pattern === '**') {
    const below = recursive(directory, directoriesOnly, new Set());
    return directory === '' || isDirectory(directory) ? ['', ...below] : below;
  }
  if (!hasMagic(pattern)) {
    const found = pattern === '' ? isDirectory(directory) : exists(join(directory, pattern));
    return found ? [pattern] : [];
  }
  const matcher = compile(pattern);
  return list(directory, directoriesOnly).filter((name) => matcher.test(name));
}

function recursive(directory: string, directoriesOnly: boolean, above: ReadonlySet<string>): string[] {
  const identity = identityOf(directory);
  if (identity === undefined || above.has(identity)) return [];
  const walked = new Set(above).add(identity);
  return list(directory, directoriesOnly).flatMap((name) => {
    const path = join(directory, name);
    const below = isDirectory(path) ? recursive(path, directoriesOnly, walked) : [];
    return [name, ...below.map((each) => join(name, each))];
  });
}

function list(directory: string, directoriesOnly: boolean): string[] {
  let entries: Dirent<Buffer>[];
  try {
    entries = readdirSync(toBytes(directory || '.'), { encoding: 'buffer', withFileTypes: true });
  } catch {
    return [];
  }
  return entries
    .filter((entry) => !directoriesOnly || entry.isDirectory() || entry.isSymbolicLink())
    .map((entry) => entry.name)
    .sort(Buffer.compare)
    .map(fromBytes)
    .filter((name) => !directoriesOnly || isDirectory(join(directory, name)));
}

/** Python's `os.path.split`. */
function split(path: string): [head: string, tail: string] {
  const at = path.lastIndexOf('/') + 1;
  const head = path.slice(0, at);
  return [/^\/*$/.test(head) ? head : head.replace(/\/+$/, ''), path.slice(at)];
}

function join(directory: string, name: string): string {
  return directory === '' || directory.endsWith('/') ? directory + name : `${directory}/${name}`;
}

function exists(path: string): boolean {
  try {
    return lstatSync(toBytes(path), { throwIfNoEntry: false }) !== undefined;
  } catch {
    return false;
  }
}

function isDirectory(path: string): boolean {
  try {
    return statSync(toBytes(path), { throwIfNoEntry: false })?.isDirectory() ?? false;
  } catch {
    return false;
  }
}

function identityOf(directory: string): string | undefined {
  try {
    const { dev, ino } = statSync(toBytes(directory || '.'), { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}

/** The pattern as a regular expression over code points. */
function compile(pattern: string): RegExp {
  const chars = Array.from(pattern);
  let source = '';
  for (let at = 0; at < chars.length; at++) {
    const char = chars[at] ?? '';
    if (char === '*') source += source.endsWith('.*') ? '' : '.*';
    else if (char === '?') source += '.';
    else if (char === '[') {
      const end = classEnd(chars, at + 1);
      if (end === undefined) source += literal(char);
      else {
        source += characterClass(chars.slice(at + 1, end));
        at = end;
      }
    } else source += literal(char);
  }
  return new RegExp(`^${source}$`, 'su');
}

/** Index of the `]` that ends the class that begins at `at`; a `]` right at its beginning belongs to it. */
function classEnd(chars: readonly string[], at: number): number | undefined {
  let end = at;
  if (chars[end] === '!') end++;
  if (chars[end] === ']') end++;
  while (end < chars.length && chars[end] !== ']') end++;
  return end < chars.length ? end : undefined;
}

function characterClass(chars: readonly string[]): string {
  const negated = chars[0] === '!';
  const members = negated ? chars.slice(1) : chars;
  let source = '';
  for (let at = 0; at < members.length; at++) {
    const low = members[at] ?? '';
    const high = members[at + 2];
    if (members[at + 1] === '-' && high !== undefined) {
      // A range that runs backwards holds nothing.
      if (codePoint(low) <= codePoint(high)) source += `${literal(low)}-${literal(high)}`;
      at += 2;
    } else source += literal(low);
  }
  return `[${negated ? '^' : ''}${source}]`;
}

function codePoint(char: string): number {
  return char.codePointAt(0) ?? 0;
}

function literal(char: string): string {
  return `\\u{${codePoint(char).toString(16)}}`;
}
