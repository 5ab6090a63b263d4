/**
 * The state of a migration: `migration_state.json`, in the structure of the original.
 *
 * Comes in: records of directories; goes out: the same to whoever resumes. It promises that the file shows its old content or
 * all of the new; that what other runs wrote into it meanwhile stays, and so do keys that nobody here knows; that it goes by
 * real paths, so that another spelling finds what is there, also in files of the original; and that what is no state is
 * refused by name.
 */
import { mkdirSync, readFileSync, realpathSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { BulkhaulError, whyOf } from '../../../error.js';
import { Lease } from '../../../journal/lease.js';
import { fromBytes, toBytes } from '../../../names.js';
import { loadAddon } from '../../../native.js';
import { writeWhole } from '../../../whole.js';
import { isoOf } from '../migration.js';

export const STATE = 'migration_state.json';
const LOCK = '.migration_state.lock';
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

  private constructor(
    readonly path: string,
    readonly directory: string,
    readonly stored: Stored,
  ) {}

  /** Reads what is there. Throws `LIST` for what is no state. */
  static read(directory: string): State {
    const path = join(directory, STATE);
    return new State(path, directory, stored(path));
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
      const { top, directories } = stored(this.path);
      for (const [key, record] of this.#own) {
        // What an older or newer version knows beside that stays.
        directories.set(key, { ...directories.get(key), ...record });
      }
      writeWhole(this.path, lines(top, directories));
    } finally {
      lease.release();
    }
  }

  async #lock(): Promise<Lease> {
    const addon = await loadAddon();
    for (let look = 0; look < LOOKS; look++) {
      const lease = Lease.take(join(this.directory, LOCK), addon);
      if (lease instanceof Lease) return lease;
      await wait(PAUSE);
    }
    throw new BulkhaulError('OUTPUT', `${this.path}: another run has it, and does not give it back`);
  }
}

function stored(path: string): Stored {
  const bad = (why: string) =>
    new BulkhaulError('LIST', `${path} is no state of a migration: ${why}; move it away to begin anew`);
  let text: string;
  try {
    text = readFileSync(toBytes(path), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { top: {}, directories: new Map() };
    throw new BulkhaulError('LIST', `${path} can't be read: ${whyOf(error, path)}`);
  }
  let state: unknown;
  try {
    state = JSON.parse(text);
  } catch (error) {
    throw bad((error as Error).message);
  }
  if (!isObject(state)) throw bad('it is no object');
  const { directories = {}, ...top } = state;
  if (!isObject(directories)) throw bad('"directories" is no object');
  const records = new Map<string, Keyed>();
  for (const [key, record] of Object.entries(directories)) {
    if (!isObject(record) || !('files' in record ? Array.isArray(record.files) : true)) {
      throw bad(`the record of ${key} is none`);
    }
    const real = realOf(key);
    const known = records.get(real);
    // Two spellings of one: what is done counts.
    if (known === undefined || known.status !== 'completed') records.set(real, record);
  }
  return { top, directories: records };
}

/** The file as text, a record of a file at a time: it may be longer than a string can be. */
function* lines(top: Keyed, directories: ReadonlyMap<string, Keyed>): Generator<string> {
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

function isObject(value: unknown): value is Keyed {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The real path of what is there, else the absolute one. */
export function realOf(path: string): string {
  try {
    return fromBytes(realpathSync(toBytes(path), { encoding: 'buffer' }));
  } catch {
    return resolve(path);
  }
}
