/**
 * Who works on a job: a file that is locked, says who, and is touched now and then.
 *
 * Comes in: the path of the file; goes out: the lease, or who has it. The lock ends with its process. Where locks do not
 * reach another host, what the file says counts: the lease of another host is respected until it was not touched for a
 * while, by the clock of the file system. Whoever slept so long has lost it to the other.
 */
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  readFileSync,
  readSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { hostname, uptime } from 'node:os';
import { toBytes } from '../names.js';
import type { Addon } from '../native.js';

/** Milliseconds between touches. */
const TOUCH = 30_000;
/** Milliseconds after which a lease that was not touched is nobody's: several touches, so that a busy server is forgiven. */
const LAPSED = 150_000;

/** Who has a lease. */
export interface Holder {
  /** Its host, by the name that it has itself. */
  host: string;
  /** Its number of process there. */
  process: number;
  /** Of this start of the system: after another one the same number is another process. */
  boot: string;
}

/** How it is known who lives. */
export type Life = Pick<Addon, 'lockDescriptor' | 'processExists'>;

export class Lease {
  readonly #file: number;
  readonly #said: Buffer;
  readonly #timer: NodeJS.Timeout;

  private constructor(file: number, said: Buffer) {
    this.#file = file;
    this.#said = said;
    this.#timer = setInterval(() => this.#touch(), TOUCH).unref();
  }

  /** Says once more who has it: its time is the file system's then, whatever the clock here says. */
  #touch(): void {
    // A touch that fails makes the lease look older than it is; the lock stays.
    try {
      if (!this.lost) writeSync(this.#file, this.#said, 0, this.#said.length, 0);
    } catch {}
  }

  /** Somebody else has it by now. Throws what Node throws where nobody can tell. */
  get lost(): boolean {
    const said = Buffer.alloc(this.#said.length);
    readSync(this.#file, said, 0, said.length, 0);
    return !said.equals(this.#said);
  }

  /** Takes the lease, or says who has it. Throws what Node throws where the file can't be made. */
  static take(path: string, addon: Life): Lease | Holder {
    const file = openSync(toBytes(path), constants.O_RDWR | constants.O_CREAT, 0o600);
    try {
      const locked = addon.lockDescriptor(file);
      const said = holderIn(readFileSync(file, 'utf8'));
      const theirs =
        locked === false ? (said ?? UNKNOWN) : said && holds(said, locked === true, path, file, addon) && said;
      if (theirs) {
        closeSync(file);
        return theirs;
      }
      ftruncateSync(file, 0);
      const own: Holder = { host: hostname(), process: process.pid, boot: boot() };
      const text = Buffer.from(JSON.stringify(own));
      writeSync(file, text, 0, text.length, 0);
      return new Lease(file, text);
    } catch (error) {
      closeSync(file);
      throw error;
    }
  }

  /** Gives it back. */
  release(): void {
    clearInterval(this.#timer);
    try {
      if (!this.lost) ftruncateSync(this.#file, 0);
    } finally {
      closeSync(this.#file);
    }
  }
}

const UNKNOWN: Holder = { host: 'an unknown host', process: 0, boot: '' };

/** Who has the lease in this file, if somebody has. */
export async function holderOf(path: string, addon: Life): Promise<Holder | undefined> {
  const text = await readFile(toBytes(path), 'utf8').catch(() => '');
  const said = holderIn(text);
  if (said === undefined) return undefined;
  if (isOfHere(said)) {
    if (!addon.processExists(said.process)) return undefined;
    // The number may be another process's by now: the lock tells.
    const file = openSync(toBytes(path), 'r+');
    try {
      return addon.lockDescriptor(file) === true ? undefined : said;
    } finally {
      closeSync(file);
    }
  }
  const touched = await stat(toBytes(path)).catch(() => undefined);
  return touched !== undefined && isHeard(said, Date.now() - touched.mtimeMs) ? said : undefined;
}

/** Whether the one that the file names has it still, though this process has the lock, or there are none. */
function holds(said: Holder, locked: boolean, path: string, file: number, { processExists }: Life): boolean {
  if (isOfHere(said)) return !locked && processExists(said.process) && said.process !== process.pid;
  // By the clock of the file system: the one here may go wrong.
  const probe = `${path}.${process.pid}`;
  const fresh = openSync(toBytes(probe), 'w', 0o600);
  try {
    return isHeard(said, fstatSync(fresh).mtimeMs - fstatSync(file).mtimeMs);
  } finally {
    closeSync(fresh);
    unlinkSync(toBytes(probe));
  }
}

/** Whether its number is one of a process of this system, as it runs now. */
function isOfHere({ host, boot: started }: Holder): boolean {
  return host === hostname() && started === boot();
}

/**
 * Whether somebody of another start of a system is at work, who was heard of so many milliseconds ago. What has the name of this
 * host, and was heard of since it started, is another host of that name.
 */
function isHeard({ host }: Holder, age: number): boolean {
  return age < LAPSED && (host !== hostname() || age < uptime() * 1000);
}

function holderIn(text: string): Holder | undefined {
  try {
    const { host, process, boot } = JSON.parse(text) as Partial<Holder>;
    if (typeof host !== 'string' || typeof process !== 'number' || typeof boot !== 'string') return undefined;
    return { host, process, boot };
  } catch {
    return undefined;
  }
}

/** What tells one start of the system from another, where the system tells. */
function boot(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return '';
  }
}
