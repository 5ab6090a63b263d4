/**
 * The parts of a source, as `dsync` keeps them in its working directory.
 *
 * Comes in: a source and what decides how it is cut; goes out: a list for each part, `chunk.1` and so on (names ended by NUL,
 * those of directories with a slash), and `plan.json`, which comes last and says what they are of, with a digest of each. It
 * promises that lists are taken again only for what they were made for, whole, and that a plan is used by one run at a time.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  createReadStream,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { BulkhaulError } from '../../../error.js';
import { Lease } from '../../../journal/lease.js';
import { makeDirectories } from '../../../journal/store.js';
import { display, fromBytes, toBytes } from '../../../names.js';
import type { EntryKind } from '../../../native/events.js';
import { loadAddon } from '../../../native.js';
import type { Part } from '../../../ops/transfer/list.js';

/** Version of `plan.json`. */
const FORMAT = 1;

/** Directories of snapshots at the top of a source: they hold the source again, once for each snapshot. */
const SNAPSHOTS = /^\.(?:zfs$|snapshot)/;

/** What decides how a source is cut: a plan of other values is another one. */
export interface Cut {
  /** Absolute. */
  source: string;
  /** `-n`. */
  parts: number;
  /** `planned`: by bytes and entries; `top`: entries at the top, dealt out (`--no-fpart`). */
  way: 'planned' | 'top';
  /** What the lists hold: all entries, or only regular files. */
  holds: 'all' | 'files';
  /** What is left out at the top, or below it: names relative to the source. */
  leftOut: readonly string[];
  /** What is at the top otherwise: the digest of a list of it. */
  top: string;
}

/** A plan, as it is kept. */
export interface Plan extends Cut {
  format: number;
  /** When it was made; ISO 8601. */
  made: string;
  /** What there is, by kinds; absent where nobody has looked. */
  found?: Record<EntryKind, number>;
  /** Entries that could not be read when the plan was made. */
  unreadable: number;
  lists: ListRecord[];
}

/** A list, as a plan has it. */
type ListRecord = Omit<Part, 'list'> & { digest: string };

/** Where the lists of a source are. */
export class Plans {
  #lease: Lease | undefined;

  private constructor(readonly directory: string) {}

  /** Of a source in a working directory, for this run alone. Throws `JOURNAL` where another run has it. */
  static async open(workingDirectory: string, source: string): Promise<Plans> {
    const plans = new Plans(join(workingDirectory, nameOf(source)));
    makeDirectories(plans.directory);
    const lease = Lease.take(join(plans.directory, 'lock'), await loadAddon());
    if (!(lease instanceof Lease)) {
      const who = `process ${lease.process} on ${lease.host}`;
      throw new BulkhaulError(
        'JOURNAL',
        `${who} works with the parts in ${plans.directory}; --working-dir names another place`,
      );
    }
    plans.#lease = lease;
    return plans;
  }

  /** The same, only to be read: nothing is made. */
  static async read(workingDirectory: string, source: string): Promise<Plans> {
    return new Plans(join(workingDirectory, nameOf(source)));
  }

  /** In a directory that goes with the process. */
  static temporary(directory: string): Plans {
    return new Plans(directory);
  }

  /** The list of a part. */
  list(number: number): string {
    return join(this.directory, `chunk.${number}`);
  }

  /** Removes the plan, and the lists that it names. Whatever else is there stays. */
  async clear(): Promise<void> {
    const names = readdirSync(toBytes(this.directory)).filter((name) => /^(?:chunk|listed|left|look)\.\d/.test(name));
    for (const name of ['plan.json', 'top', ...names]) await rm(toBytes(join(this.directory, name)), { force: true });
  }

  /** Keeps a plan whose lists are written. */
  async keep(plan: Omit<Plan, 'format' | 'lists'>, parts: readonly Part[]): Promise<Plan> {
    const lists: ListRecord[] = [];
    for (const { list, ...part } of parts) lists.push({ ...part, digest: await digestOf(list) });
    const whole: Plan = { format: FORMAT, ...plan, lists };
    const path = join(this.directory, 'plan.json');
    const file = openSync(toBytes(`${path}.new`), 'w', 0o600);
    try {
      writeFileSync(file, `${JSON.stringify(whole, undefined, 2)}\n`);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(toBytes(`${path}.new`), toBytes(path));
    return whole;
  }

  /** The plan that is kept, if it is of this cut and its lists are whole. Throws `LIST` with what differs. */
  async reuse(cut: Cut, top: Top): Promise<Plan> {
    const where = join(this.directory, 'plan.json');
    const refuse = (why: string) =>
      new BulkhaulError('LIST', `--reuse: ${why} (${where}); without --reuse it is cut anew`);
    const plan = planIn(where);
    if (plan === undefined) throw refuse('there are no parts of this source from an earlier run');
    if (plan.format !== FORMAT) throw refuse('the parts are of another version of dsync');
    const differences = differencesOf(plan, cut);
    if (plan.top !== cut.top) differences.push(`what is at the top has changed${this.#changed(top)}`);
    if (differences.length > 0) throw refuse(`the parts are of another cut: ${differences.join('; ')}`);
    for (const { number, digest } of plan.lists) {
      const found = await digestOf(this.list(number)).catch(() => undefined);
      if (found !== digest)
        throw refuse(`${this.list(number)} is ${found === undefined ? 'missing' : 'not as it was written'}`);
    }
    return plan;
  }

  /** Keeps what is at the top, to tell later what has changed. */
  keepTop({ names }: Top): void {
    writeFileSync(toBytes(join(this.directory, 'top')), listOf(names), { mode: 0o600 });
  }

  /** What came to the top, and what is gone, in words. */
  #changed({ names }: Top): string {
    let before: string[];
    try {
      before = fromBytes(readFileSync(toBytes(join(this.directory, 'top'))))
        .split('\0')
        .slice(0, -1);
    } catch {
      return '';
    }
    const now = names.map(fromBytes);
    const [was, is] = [new Set(before), new Set(now)];
    const come = now.filter((name) => !was.has(name));
    const gone = before.filter((name) => !is.has(name));
    const words = [
      ...(come.length > 0 ? [`${someOf(come)} came`] : []),
      ...(gone.length > 0 ? [`${someOf(gone)} went`] : []),
    ];
    return words.length > 0 ? ` (${words.join(', ')})` : '';
  }

  close(): void {
    this.#lease?.release();
    this.#lease = undefined;
  }
}

/** A directory's name that is its own for each source, and tells which. */
export function nameOf(source: string): string {
  const shown =
    basename(source)
      .replace(/[^\w.-]/g, '_')
      .slice(0, 40) || 'root';
  return `${shown}-${createHash('sha256').update(toBytes(source)).digest('hex').slice(0, 8)}`;
}

function planIn(path: string): Plan | undefined {
  try {
    return JSON.parse(readFileSync(toBytes(path), 'utf8')) as Plan;
  } catch (error) {
    if (
      error instanceof SyntaxError ||
      ('code' in (error as object) && (error as NodeJS.ErrnoException).code === 'ENOENT')
    )
      return undefined;
    throw error;
  }
}

/** What is not the same, in words. */
function differencesOf(plan: Plan, cut: Cut): string[] {
  const words: [string, unknown, unknown][] = [
    ['the source', plan.source, cut.source],
    ['-n', plan.parts, cut.parts],
    ['the way of the cut', WAYS[plan.way], WAYS[cut.way]],
    ['what the lists hold', HOLDS[plan.holds], HOLDS[cut.holds]],
    ['what is left out', plan.leftOut.join(', ') || 'nothing', cut.leftOut.join(', ') || 'nothing'],
  ];
  return words.flatMap(([what, was, is]) => (was === is ? [] : [`${what} was ${was}, and is ${is}`]));
}

const WAYS = { planned: 'by bytes and entries', top: 'by the entries at the top (--no-fpart)' };
const HOLDS = { all: 'all entries', files: 'regular files (rclone)' };

async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(toBytes(path))) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** What is at the top of a source. */
export interface Top {
  /** Names with a slash after those of directories, sorted by bytes. */
  names: Buffer[];
  /** Names that are left out. */
  skipped: string[];
  /** The digest of the list of names. */
  digest: string;
}

/** `own`: names below the source that are left out, too. */
export function topOf(source: string, own: readonly string[]): Top {
  const entries = readdirSync(toBytes(source), { withFileTypes: true, encoding: 'buffer' });
  const [skipped, kept] = [[] as string[], [] as Buffer[]];
  for (const entry of entries) {
    const text = fromBytes(entry.name);
    if (SNAPSHOTS.test(text)) skipped.push(text);
    else if (!own.includes(text))
      kept.push(entry.isDirectory() ? Buffer.concat([entry.name, Buffer.from('/')]) : entry.name);
  }
  const names = kept.sort(Buffer.compare);
  return { names, skipped: skipped.sort(), digest: createHash('sha256').update(listOf(names)).digest('hex') };
}

/** Deals entries out. */
export function deal(names: readonly Buffer[], parts: number, plans: Plans): Part[] {
  const dealt = Array.from({ length: Math.min(parts, names.length) }, (_, index) => ({
    number: index + 1,
    list: plans.list(index + 1),
  }));
  for (const [index, part] of dealt.entries()) {
    const own: Buffer[] = [];
    for (let place = index; place < names.length; place += dealt.length) own.push(names[place] as Buffer);
    writeFileSync(toBytes(part.list), listOf(own), { mode: 0o600 });
  }
  return dealt;
}

function listOf(names: readonly Buffer[]): Buffer {
  return Buffer.concat(names.flatMap((name) => [name, Buffer.from([0])]));
}

/** Names for a sentence: the first few. */
export function someOf(names: readonly string[]): string {
  const few = names.slice(0, 3).map(display).join(', ');
  return names.length > 3 ? `${few} and ${names.length - 3} more` : few;
}
