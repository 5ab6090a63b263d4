/**
 * A job whose paths are told by other names than those that lead there: what is open by a descriptor only has a path that
 * means nothing to people.
 *
 * Comes in: a job of the addon, and paths with their names; goes out: the same job, in whose events and report each path
 * begins with the name.
 */
import type { NativeJob } from '../native.js';
import type { NativeEvent, NativeReport } from './events.js';
import type { PathBytes } from './options.js';
import { retold } from './retold.js';

/** What begins with `path` is told with `name` in its place. */
export interface Alias {
  path: PathBytes;
  name: PathBytes;
}

export function aliased(job: NativeJob, aliases: readonly Alias[]): NativeJob {
  if (aliases.length === 0) return job;
  return retold(
    job,
    (event) => renamed(event, aliases) as NativeEvent,
    (report) => renamed(report, aliases) as NativeReport,
  );
}

const SLASH = 0x2f;

function renamed(value: unknown, aliases: readonly Alias[]): unknown {
  if (Buffer.isBuffer(value)) {
    for (const { path, name } of aliases) {
      const { length } = path;
      const begins = value.subarray(0, length).equals(path) && (value.length === length || value[length] === SLASH);
      if (begins) return Buffer.concat([name, value.subarray(length)]);
    }
    return value;
  }
  if (typeof value === 'string') {
    // In a sentence a path ends where something else than a digit or a letter follows.
    return aliases.reduce(
      (text, { path, name }) =>
        text
          .split(path.toString())
          .reduce((before, after) => (/^\w/.test(after) ? before + path.toString() : before + name.toString()) + after),
      value,
    );
  }
  if (Array.isArray(value)) return value.map((item) => renamed(item, aliases));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, renamed(item, aliases)]));
}
