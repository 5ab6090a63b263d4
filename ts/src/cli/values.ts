/** Values of options: the text that was typed in, numbers out. What is none throws `USAGE` with the name of the option. */
import { readFile } from 'node:fs/promises';
import { BulkhaulError, NO_WORKING_DIRECTORY, whyOf, workingDirectory } from '../error.js';
import { display, fromBytes, toBytes } from '../names.js';

/** Bytes from a whole number with K, M, G, T or P (base 1024). Throws `USAGE` with the name of the option. */
export function parseSize(text: string, option: string): number {
  const [, digits, unit = ''] = /^(\d+)([KMGTP]?)$/i.exec(text) ?? [];
  const size = Number(digits) * 1024 ** ['', 'K', 'M', 'G', 'T', 'P'].indexOf(unit.toUpperCase());
  if (Number.isSafeInteger(size)) return size;
  throw new BulkhaulError('USAGE', `${option}: not a size: ${text} (a whole number of bytes, or with K, M, G, T or P)`);
}

/** A word of a command line, for a shell. */
const quoted = (word: string) => (/^[\w@%+=:,./~-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

/**
 * Why a path is none of this machine, and what to do instead: `host:path` as of rsync and scp, URLs, `-`, and a path in a working directory that is gone. Undefined: it
 * is one; `./host:path` always is. `verb` and `operands`: the command that it is given to.
 */
export function elsewhere(path: string, verb: string, operands: readonly string[]): string | undefined {
  const [, scheme, rest = ''] = /^([a-z][a-z0-9+.-]*):\/\/(.*)$/is.exec(path) ?? [];
  const here = `./${path} is the way to mean a local name`;
  if (path === '-') return `- is a standard stream, and ${verb} works on paths: ${here}`;
  if (scheme?.toLowerCase() === 'file') return `${path} is a URL: the path is ${rest.replace(/^[^/]*/, '') || '/'}`;
  if (scheme?.toLowerCase() === 's3' && (verb === 'copy' || verb === 'remove')) {
    const does = verb === 'copy' ? `bulkhaul sync ${operands.map(quoted).join(' ')}` : 'bulkhaul sync --delete-from';
    return `${path} is a URL, and ${verb} works on paths of this machine: ${does} does that; ${here}`;
  }
  if (scheme !== undefined && scheme.toLowerCase() !== 'rsync') {
    const remote = /^(s3|gs)$/i.test(scheme) ? `:${scheme.toLowerCase() === 's3' ? 's3' : 'gcs'}:${rest}` : undefined;
    const command = operands.map((each) => quoted(each === path && remote !== undefined ? remote : each)).join(' ');
    const does = { copy: 'copy', move: 'move', list: 'lsf' }[verb];
    // Nobody there does what this does: what it works on is brought here, or taken there in the end.
    const bring = scheme.toLowerCase() === 's3' ? 'bulkhaul sync' : 'rclone copy';
    const what =
      remote === undefined
        ? 'rclone or curl does that'
        : does !== undefined
          ? `rclone ${does} ${command} does that`
          : `${bring} comes before or after, with a directory here`;
    return `${path} is a URL, and bulkhaul works on paths of this machine: ${what}; ${here}`;
  }
  const [, host] = /^((?:[^/:@]*@)?\[[^\]/]*\]|[^/:]+):/.exec(path) ?? [];
  if (host === undefined && scheme === undefined) {
    return path.startsWith('/') || workingDirectory() !== undefined ? undefined : NO_WORKING_DIRECTORY;
  }
  const words = operands.map(quoted).join(' ');
  const below = path.slice((host?.length ?? 0) + 1);
  if (verb === 'migrate')
    return `${path} names another host, and bulkhaul works on paths of this one: rsync -aHAX comes before or after, with a directory here; ${here}`;
  const command =
    verb === 'copy' || verb === 'sync'
      ? `rsync -aHAX ${words}`
      : verb === 'move'
        ? `rsync -aHAX --remove-source-files ${words}`
        : verb === 'compare'
          ? `rsync -anic ${words}`
          : // The shell there takes the words apart once more, and brackets are for what a colon comes after.
            `ssh ${quoted((host ?? '').replace(/\[(.*)\]$/, '$1'))} bulkhaul ${verb} ${quoted(quoted(below || '.'))}`;
  return `${path} names another host, and bulkhaul works on paths of this one: ${command} does that; ${here}`;
}

/** Throws `USAGE` where one of the paths is none of this machine. */
export function refuseElsewhere(verb: string, operands: readonly string[]): void {
  for (const path of operands) {
    const why = elsewhere(path, verb, operands);
    if (why !== undefined) throw new BulkhaulError('USAGE', why);
  }
}

/** Numeric ids from USER:GROUP, USER, USER: or :GROUP. Throws `USAGE` for a name that is not known here. */
export async function parseOwner(text: string): Promise<{ user?: number; group?: number }> {
  const [user = '', group = '', ...more] = text.split(':');
  if (more.length > 0 || (user === '' && group === '')) {
    throw new BulkhaulError('USAGE', `--chown: not USER:GROUP, USER or :GROUP: ${text}`);
  }
  return {
    ...(user !== '' && { user: await idOf(user, '/etc/passwd', 'user') }),
    ...(group !== '' && { group: await idOf(group, '/etc/group', 'group') }),
  };
}

/** The highest id: the one above means "leave it" to chown(2). */
const MAX_ID = 2 ** 32 - 2;

async function idOf(name: string, database: string, what: string): Promise<number> {
  // A name wins over a number, as in chown(1).
  const rows = fromBytes(await readFile(database)).split('\n');
  const field = rows.map((row) => row.split(':')).find(([rowName]) => rowName === name)?.[2] ?? name;
  const id = /^\d+$/.test(field) ? Number(field) : Number.NaN;
  if (id <= MAX_ID) return id;
  throw new BulkhaulError('USAGE', `--chown: no ${what} ${display(name)} in ${database}; give the numeric id`);
}

/**
 * Bytes a second from a rate as rsync's --bwlimit takes it: a number, also with a fraction, in KiB or with a unit (`B`;
 * `K`, `M`, `G`, `T`, `P`, or these with `iB`, to base 1024; with `B` to base 1000, in any case), and then perhaps `+1` or
 * `-1` byte. 0: no limit. Throws `USAGE` with the name of the option.
 */
export function parseRate(text: string, option: string): number {
  const match = /^(\d+\.?\d*|\.\d+)(?:(b)|([kmgtp])(ib|b)?)?([+-]1)?$/i.exec(text);
  const [, number, bytes, unit = 'k', base = '', offset = '0'] = match ?? [];
  const power = bytes === undefined ? 'kmgtp'.indexOf(unit.toLowerCase()) + 1 : 0;
  const rate = Math.floor(Number(number) * (base.toLowerCase() === 'b' ? 1000 : 1024) ** power) + Number(offset);
  if (rate >= 0) return rate;
  throw new BulkhaulError(
    'USAGE',
    `${option}: not a rate: ${text} (a number of KiB a second, or with B, K, M, G, T or P; KB is 1000 bytes; 0 for no limit)`,
  );
}

/** A number that is not negative, with or without a fraction. Throws `USAGE` with the name of the option. */
export function parseCount(text: string, option: string): number {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text);
  throw new BulkhaulError('USAGE', `${option}: not a number: ${text}`);
}

const SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 };

/** The moment, in seconds since 1970, that lies so long ago (`7d`; s, m, h, d, w), or is meant by a date (ISO 8601). Throws `USAGE` with the name of the option. */
export function parseAge(text: string, option: string): number {
  const [, number, unit = ''] = /^(\d+(?:\.\d+)?)([smhdw])$/.exec(text) ?? [];
  const date = /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text) / 1000 : Number.NaN;
  const moment = number === undefined ? date : Date.now() / 1000 - Number(number) * (SECONDS[unit] ?? 0);
  if (Number.isFinite(moment)) return moment;
  throw new BulkhaulError(
    'USAGE',
    `${option}: neither a time ago (7d, also s, m, h, w) nor a date (2026-01-31): ${text}`,
  );
}

/** A part of a whole, from `10%`. Throws `USAGE` with the name of the option. */
export function parsePercent(text: string, option: string): number {
  const [, number] = /^(\d+(?:\.\d+)?)%?$/.exec(text) ?? [];
  if (number !== undefined && Number(number) <= 100) return Number(number) / 100;
  throw new BulkhaulError('USAGE', `${option}: not a percentage up to 100%: ${text}`);
}

/** What is in the file that an option names. Throws `USAGE`, with its path. */
export async function contentOf(option: string, path: string): Promise<Buffer> {
  return readFile(toBytes(path)).catch((error: NodeJS.ErrnoException) => {
    // Of a directory, which opens and can't be read, the system does not say which.
    const which = error.path === undefined ? `${path}: ` : '';
    throw new BulkhaulError('USAGE', `${option} can't be read: ${which}${whyOf(error)}`, { cause: error });
  });
}

/** The name of a file that is there for longer than a stream. Throws `USAGE` for `-`. */
export function parseLasting(text: string, option: string): string {
  if (text !== '-') return text;
  throw new BulkhaulError('USAGE', `${option}: a stream won't do, it needs a file (./- is the one of that name)`);
}
