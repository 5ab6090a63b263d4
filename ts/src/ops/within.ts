/** Where paths lead, as far as somebody has to know before anything is made: a path in, its place or its name in another out. */
import { realpathSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fromBytes, toBytes } from '../names.js';

/** A path without links, as far as it exists. */
export function real(path: string): string {
  try {
    return fromBytes(realpathSync.native(toBytes(path), { encoding: 'buffer' }));
  } catch {
    const above = dirname(path);
    return above === path ? path : join(real(above), path.slice(above.length).replace(/^\/+/, ''));
  }
}

/** The name of a path below a directory, both without links; undefined: it is not there. */
export function within(directory: string, path: string): string | undefined {
  const name = relative(directory, path);
  return name === '' || name === '..' || name.startsWith('../') ? undefined : name;
}

/** What of a run's own is in the trees, by the names that it has there. All paths are from the root. */
export function ownNames(trees: readonly string[], paths: readonly string[]): string[] {
  const names = trees.map(real).flatMap((tree) => paths.flatMap((path) => within(tree, real(path)) ?? []));
  return [...new Set(names)].sort();
}

/** The rule of rsync's form that means this name below the top, and nothing else: a backslash counts where there is a wildcard. */
export function ruleOf(name: string): string {
  return `/${/[*?[]/.test(name) ? name.replace(/[\\*?[]/g, '\\$&') : name}`;
}
