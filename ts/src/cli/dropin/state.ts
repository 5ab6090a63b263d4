/**
 * The state of a migration: `migration_state.json`, in the structure of the original.
 *
 * Comes in: records of directories; goes out: the same to whoever resumes. It promises that the file shows its old content or
 * all of the new; that what other runs wrote into it meanwhile stays, and so do keys that nobody here knows; that it goes by
 * real paths, so that another spelling finds what is there, also in files of the original; and that what is no state is
 * refused by name.
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  fchmodSync,
  fchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  realpathSync,
  rmSync,
  statSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { BulkhaulError, whyOf } from '../../error.js';
import { Lease } from '../../journal/lease.js';
import { fromBytes, toBytes } from '../../names.js';
import { loadAddon } from '../../native.js';
import { writeWhole } from '../../whole.js';
import { isoOf } from './migration.js';
import { Pieces } from './pieces.js';

export const STATE = 'migration_state.json';
export const LOCK = '.migration_state.lock';
/** Milliseconds between two looks at a lock that another run has, and the looks. */
const PAUSE = 100;
const LOOKS = 3000;

export interface FileRecord {
  source_path: string;
  dest_path: string;
  original_size: number;
  compressed_size: number;
  source_sha256: string | null;
  compressed_sha256: string | null;
  decompressed_sha256: string | null;
  status: 'pending' | 'compressed' | 'verified' | 'skipped' | 'error';
  error_message: string | null;
  rsync_exit_code: number | null;
  timestamp: string;
}

export interface DirectoryRecord {
  source_dir: string;
  dest_dir: string;
  status:
    | 'pending'
    | 'syncing'
    | 'compressing'
    | 'completed'
    | 'completed_with_errors'
    | 'partial'
    | 'error'
    | 'dry_run';
  rsync_command: string | null;
  rsync_exit_code: number | null;
  rsync_log_file: string | null;
  rsync_errors: string[];
  files: FileRecord[];
  total_source_size: number;
  total_compressed_size: number;
  start_time: string | null;
  end_time: string | null;
  error_message: string | null;
}

type Keyed = Record<string, unknown>;

/** The file as it is. */
interface Stored {
  top: Keyed;
  /** By real path. */
  directories: Map<string, Keyed>;
}

export class State {
  /** Records of this run, by real path. */
  readonly #own = new Map<string, DirectoryRecord>();
  /** What the file had when this run last read or wrote it, and which file that was. */
  #last: { identity: string | undefined; stored: Stored };

  private constructor(
    readonly path: string,
    readonly directory: string,
    identity: string | undefined,
    readonly stored: Stored,
  ) {
    this.#last = { identity, stored: { ...stored, directories: new Map(stored.directories) } };
  }

  /** Reads what is there. Throws `LIST` for what is no state. */
  static read(directory: string): State {
    const path = join(directory, STATE);
    // Before it is read: what comes later is another.
    const identity = identityOf(path);
    return new State(path, directory, identity, stored(path));
  }

  /** What is known of a directory, as it was when this run began. */
  known(source: string): Partial<DirectoryRecord> | undefined {
    return this.stored.directories.get(source);
  }

  /** Remembers a record, to be saved. */
  set(record: DirectoryRecord): void {
    this.#own.set(record.source_dir, record);
  }

  /** Writes all records of this run beside those of others. Throws what keeps it from that. */
  async save(): Promise<void> {
    mkdirSync(toBytes(this.directory), { recursive: true });
    const lease = await this.#lock();
    try {
      const there = identityOf(this.path) === this.#last.identity ? this.#last.stored : stored(this.path);
      for (const [key, record] of this.#own) {
        // What an older or newer version knows beside that stays.
        there.directories.set(key, { ...there.directories.get(key), ...record });
      }
      writeWhole(this.path, lines(there));
      this.#last = { identity: identityOf(this.path), stored: there };
    } finally {
      lease.release();
    }
  }

  async #lock(): Promise<Lease> {
    const addon = await loadAddon();
    makeLock(join(this.directory, LOCK), this.directory);
    for (let look = 0; look < LOOKS; look++) {
      const lease = Lease.take(join(this.directory, LOCK), addon);
      if (lease instanceof Lease) return lease;
      await wait(PAUSE);
    }
    throw new BulkhaulError('OUTPUT', `${this.path}: another run has it, and does not give it back`);
  }
}

/**
 * Makes the lock where none is: whoever may write the directory may take it, whatever the umask is here. It appears as it is
 * to be, so that nobody is refused meanwhile.
 */
function makeLock(path: string, directory: string): void {
  if (lstatSync(toBytes(path), { throwIfNoEntry: false }) !== undefined) return;
  const { mode, uid, gid } = statSync(toBytes(directory));
  const own = toBytes(`${path}.${randomBytes(8).toString('hex')}`);
  const file = openSync(own, 'wx', 0o600);
  try {
    // Who is not of the group can't give it to the group, nor is it needed then but by those who are.
    attempt(() => fchownSync(file, process.getuid?.() === 0 ? uid : -1, gid));
    const writers = mode & 0o022;
    // Not every file system has modes to give.
    attempt(() => fchmodSync(file, 0o600 | writers | (writers << 1)));
    // Another run may have made it; without links the lease makes its own.
    attempt(() => linkSync(own, toBytes(path)));
  } finally {
    closeSync(file);
    rmSync(own, { force: true });
  }
}

function attempt(deed: () => void): void {
  try {
    deed();
  } catch (error) {
    if (!isSystem(error)) throw error;
  }
}

/** Whether a file is the state of a migration, ours or the original's, by its form: another may have the name. */
export function isState(path: string): boolean {
  try {
    const { directories } = stored(path);
    const all = [...directories.values()];
    return all.length > 0 && all.every(({ status }) => typeof status === 'string');
  } catch {
    return false;
  }
}

/** Which file it is, and that nobody has written to it since; none is there: undefined. */
function identityOf(path: string): string | undefined {
  const there = statSync(toBytes(path), { bigint: true, throwIfNoEntry: false });
  return there && [there.dev, there.ino, there.size, there.mtimeNs, there.ctimeNs].join();
}

/** The state that a file has. Throws `LIST` for what is none. */
function stored(path: string): Stored {
  let file: number;
  try {
    file = openSync(toBytes(path), 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { top: {}, directories: new Map() };
    throw new BulkhaulError('LIST', `${path} can't be read: ${whyOf(error, path)}`);
  }
  try {
    return read(new Pieces(file));
  } catch (error) {
    if (isSystem(error)) throw new BulkhaulError('LIST', `${path} can't be read: ${whyOf(error, path)}`);
    const why = (error as Error).message;
    throw new BulkhaulError('LIST', `${path} is no state of a migration: ${why}; move it away to begin anew`);
  } finally {
    closeSync(file);
  }
}

const isSystem = (error: unknown) => (error as NodeJS.ErrnoException).syscall !== undefined;

/** A state, a record of a file at a time: it may be longer than a string can be. */
function read(pieces: Pieces): Stored {
  if (!pieces.isNext('{')) throw new Error('it is no object');
  const [top, directories]: [[string, unknown][], Stored['directories']] = [[], new Map()];
  for (const name of pieces.members()) {
    if (name !== 'directories') top.push([name, pieces.value()]);
    else if (!pieces.isNext('{')) throw new Error('"directories" is no object');
    else {
      for (const key of pieces.members()) {
        if (!pieces.isNext('{')) throw new Error(`the record of ${key} is none`);
        const record = recordOf(pieces, key);
        const real = realOf(key);
        const known = directories.get(real);
        // Two spellings of one: what is done counts.
        if (known === undefined || known.status !== 'completed') directories.set(real, record);
      }
    }
  }
  pieces.end();
  return { top: Object.fromEntries(top), directories };
}

function recordOf(pieces: Pieces, key: string): Keyed {
  const record: [string, unknown][] = [];
  for (const name of pieces.members()) {
    if (name !== 'files') record.push([name, pieces.value()]);
    else if (!pieces.isNext('[')) throw new Error(`the record of ${key} is none`);
    else record.push([name, [...pieces.elements()]]);
  }
  return Object.fromEntries(record);
}

/** The file as text, a record of a file at a time: it may be longer than a string can be. */
function* lines({ top, directories }: Stored): Generator<string> {
  yield '{\n';
  const { last_updated: _, ...others } = top;
  for (const [key, value] of Object.entries({ last_updated: isoOf(new Date()), ...others })) {
    yield `  ${JSON.stringify(key)}: ${indented(value, '  ')},\n`;
  }
  yield '  "directories": {';
  let first = true;
  for (const [key, record] of directories) {
    yield `${first ? '' : ','}\n    ${JSON.stringify(key)}: {`;
    first = false;
    let before = '';
    for (const [name, value] of Object.entries(record)) {
      yield `${before}\n      ${JSON.stringify(name)}: `;
      before = ',';
      if (name !== 'files' || !Array.isArray(value) || value.length === 0) {
        yield indented(value, '      ');
        continue;
      }
      yield '[';
      for (const [at, file] of value.entries()) yield `${at === 0 ? '' : ','}\n        ${indented(file, '        ')}`;
      yield '\n      ]';
    }
    yield '\n    }';
  }
  yield `${first ? '' : '\n  '}}\n}\n`;
}

function indented(value: unknown, indent: string): string {
  return (JSON.stringify(value, undefined, 2) ?? 'null').replaceAll('\n', `\n${indent}`);
}

/** The real path of what is there, else the absolute one. */
export function realOf(path: string): string {
  try {
    return fromBytes(realpathSync(toBytes(path), { encoding: 'buffer' }));
  } catch {
    return resolve(path);
  }
}
