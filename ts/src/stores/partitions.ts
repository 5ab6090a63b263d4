/** Partitions in paths, as Hive writes them: a path in, its keys and values out. The engine's `hive` knows the same rules. */
import { unfit } from '../error.js';
import { fromBytes, type PathLike } from '../names.js';

/**
 * The partitions that a path lies in, from the outside in: of each directory `KEY=VALUE` its value, as text, decoded as Hive
 * encodes it. `columns`: the last directories are values of these instead, whatever they look like. Only directories count:
 * the last name is that of a file, unless the path ends with a slash. Dots mean nothing; a value may hold more `=`.
 *
 * @example
 * ```js
 * import { partitionsOf } from 'bulkhaul';
 *
 * console.log(partitionsOf('data/v1.2/year=2023/month=01/file.parquet')); // { year: '2023', month: '01' }
 * console.log(partitionsOf('data/2023/01/file.parquet', ['year', 'month'])); // the same
 * ```
 */
export function partitionsOf(path: PathLike, columns?: readonly string[]): Record<string, string> {
  if (typeof path !== 'string' && !Buffer.isBuffer(path)) throw unfit('path', 'a path (a string or a Buffer)', path);
  if (columns !== undefined && !(Array.isArray(columns) && columns.every((each) => typeof each === 'string')))
    throw unfit('columns', 'an array of strings', columns);
  const names = (typeof path === 'string' ? path : fromBytes(path)).split('/').slice(0, -1);
  if (columns !== undefined) {
    const last = names.slice(Math.max(names.length - columns.length, 0));
    return Object.fromEntries(last.map((value, index) => [columns[columns.length - last.length + index] ?? '', value]));
  }
  return Object.fromEntries(
    names.flatMap((name) => {
      const at = name.indexOf('=');
      return at > 0 ? [[name.slice(0, at), decoded(name.slice(at + 1))]] : [];
    }),
  );
}

/** A value without Hive's escapes. */
function decoded(value: string): string {
  const bytes = (text: string) => Buffer.from(text.replaceAll('%', ''), 'hex');
  return value.replace(/(?:%[0-9a-f]{2})+/gi, (escapes) => fromBytes(bytes(escapes)));
}
