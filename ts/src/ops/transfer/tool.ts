/**
 * What a tool is that copies the entries of a list: rsync, rclone, or bulkhaul itself as a program.
 *
 * Comes in: what is to be copied where; goes out: a command, the list in the form that it reads, and what its lines and
 * its exit code mean. A tool knows nothing of parts, hosts and attempts.
 */
import type { Change, EntryKind, Outcome } from '../../native/events.js';
import type { Command, TakeLine } from './program.js';

/** One run of a tool over a list. */
export interface Pass {
  /** A directory; what is in it is copied. */
  source: string;
  /** A directory, on the host if there is one. */
  destination: string;
  /** The host of the destination; absent: where the tool runs. */
  host: string | undefined;
  /**
   * - `entries`: all that the list names, and nothing else.
   * - `trees`: the same, and what is below its directories.
   * - `rest`: what is left of trees, each entry by its name.
   * - `directories`: metadata of the directories that the list names, when nothing more comes into them.
   * - `root`: the same of the directory itself; no list is read.
   */
  what: 'entries' | 'trees' | 'rest' | 'directories' | 'root';
  dryRun: boolean;
  /** Each entry is to be told by its name, those that need nothing too. */
  every: boolean;
  /** Bytes a second; 0: no limit. */
  limit: number;
}

/** What a line says. */
export type Told =
  /** What became of an entry, or in a dry run would. `name`: relative; absent where the line can't give it. */
  | { type: 'entry'; outcome: Outcome; kind: EntryKind; name?: Buffer; size: number; changes: Change[] }
  /** So far: bytes that were moved, and entries that were looked at because the destination has them too. */
  | { type: 'stats'; bytes: number; compared: number }
  /** Something that can't be copied, and is left out: why, as a word. */
  | { type: 'skipped'; reason: string; kind: EntryKind; name: Buffer }
  /** Something went wrong. `name`: relative. `vanished`: it was not there any more. */
  | { type: 'trouble'; name?: Buffer; message: string; vanished?: boolean };

/** A line, as it is logged (absent: not at all), and what it says. */
export interface Line {
  log?: Buffer;
  told?: Told;
}

/**
 * What an end means.
 * - `done`: everything is there.
 * - `partial`: some entries are not; the others are.
 * - `broken`: the connection or a server failed: another attempt, perhaps on another host, may do.
 * - `failed`: it did not get to work, or another attempt would do no better.
 */
export type Verdict = 'done' | 'partial' | 'broken' | 'failed';

export interface Tool {
  /** The program that it is, as it is to be found on a host. */
  readonly program: string;
  /** The argument that makes it tell its version, where it has to be looked for. */
  readonly version?: string;
  /** Why the one that tells this of its version won't do; undefined: it will. Absent: any does. */
  unsuited?(said: string): string | undefined;
  /** Directories need a pass of their own when all else is done, and count in that. */
  readonly directoriesLast: boolean;
  /** It tells how large a file is that it copied. */
  readonly tellsSizes: boolean;
  /** It takes a file for complete that is not as long as it said. */
  readonly trusting?: true;
  /** It promises that no name takes the place of another: a destination where two may be one is refused. */
  readonly keepsApart?: true;
  /** It copies regular files, and nothing else. */
  readonly filesOnly: boolean;
  command(pass: Pass): Command;
  /** The list as the command reads it from standard input. */
  input(list: string, what: Pass['what']): AsyncIterable<Buffer>;
  /** Why a name can't be given to it; undefined: it can. */
  unfit(name: Buffer): string | undefined;
  read(line: Buffer, stream: Parameters<TakeLine>[1], pass: Pass): Line;
  verdict(code: number | undefined): Verdict;
  /** What a code means, in words. */
  meaning(code: number | undefined): string;
}

/** Why a version is too old, or none at all, by the text that a program tells. */
export function older(said: string, pattern: RegExp, [major, minor]: readonly [number, number]): string | undefined {
  const [, ...numbers] = pattern.exec(said) ?? [];
  const [first = -1, second = -1] = numbers.map(Number);
  if (first > major || (first === major && second >= minor)) return undefined;
  const [line = ''] = said.trim().split('\n');
  return `it must be version ${major}.${minor} or newer, and says: ${line || 'nothing'}`;
}
