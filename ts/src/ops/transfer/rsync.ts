/**
 * The real rsync.
 *
 * Comes in: a pass; goes out: its command (the list on standard input, ended by NUL; itemised lines of a form of our own),
 * and what it says. A line is told by its columns, of which the name is the last, and rsync escapes what would end it: no
 * name can look like a line. It sets no delete, and the remote shell sees no path (--secluded-args by its older name).
 */
import type { Change, EntryKind, Outcome } from '../../native/events.js';
import { namesIn, written } from './list.js';
import { REMOTE_SHELL } from './ssh.js';
import { type Line, older, type Told, type Tool, type Verdict } from './tool.js';

/** Itemised changes, size, bytes sent, name. With the bytes sent a line comes when its file is through, not before. */
const FORMAT = '--out-format=%i %l %b %n';

/** Now and then, between carriage returns, the bytes that went so far, also of one big file. */
const PROGRESS = ['--info=progress2', '--no-human-readable'];
const SO_FAR = /^ +(\d+) +\d+% /;

/** 11 columns: what is done, the kind, and a letter, `+` or a blank for each attribute. */
const ITEM = /^([<>ch.])([fdLDS])([.+?a-zA-Z ]{9}) (\d+) (\d+) ([\s\S]+)$/;
const KINDS: Record<string, EntryKind> = { f: 'file', d: 'directory', L: 'symlink', D: 'char', S: 'fifo' };
const CHANGES: Record<string, Change> = {
  ...{ c: 'content', s: 'size', t: 'time', T: 'time', p: 'mode', o: 'owner', g: 'group', a: 'acl', x: 'xattr' },
  '+': 'new',
};

/** Codes of connections and servers: rsync(1), exit values; ssh has 255. */
const BROKEN = [5, 10, 12, 30, 35, 255];

const MEANINGS: Record<number, string> = {
  1: 'its options were not understood: the two sides may be of very different versions',
  2: 'the two sides do not understand each other: their versions differ too much',
  3: 'a directory can not be used',
  5: 'the other side did not start',
  11: 'reading or writing failed, as where a disk is full',
  12: 'the connection broke',
  20: 'it was stopped',
  22: 'it had too little memory',
  30: 'the connection timed out',
  35: 'the other side did not answer in time',
  127: 'there is no rsync on the other side',
  255: 'ssh did not get through, or lost the connection',
};

const NUL = Buffer.from([0]);
const SLASH = 0x2f;
const ROOT = Buffer.from('.');

/** Options that have rsync tell each entry in a line that can be read, and how far it is. */
export function itemising(dryRun: boolean): string[] {
  return ['-ii', '--outbuf=L', FORMAT, ...(dryRun ? ['--dry-run'] : PROGRESS)];
}

/** How rsync is run. */
export interface RsyncOptions {
  /** Hard links among the entries of a list stay such. */
  hardLinks: boolean;
}

export function rsync({ hardLinks }: RsyncOptions): Tool {
  return {
    program: 'rsync',
    version: '--version',
    unsuited: (said) => older(said, /^rsync +version v?(\d+)\.(\d+)/m, [3, 1]),
    directoriesLast: true,
    tellsSizes: true,
    trusting: true,
    filesOnly: false,
    unfit: () => undefined,
    input: (list, what) => written(namesIn(list, what === 'directories' ? 'directories' : 'all'), NUL, uncommented),
    command: ({ source, destination, host, what, dryRun, limit }) => [
      'rsync',
      '-as',
      ...(hardLinks ? ['-H'] : []),
      ...itemising(dryRun),
      ...(what === 'root' ? ['--exclude=*'] : ['--from0', '--files-from=-']),
      ...(what === 'trees' ? ['-r'] : []),
      // Others write into the same directories meanwhile: these get their times and modes when all else is there.
      ...(what === 'entries' ? ['--omit-dir-times', '--chmod=Du+rwx'] : []),
      ...(what === 'directories' ? ['--no-implied-dirs'] : []),
      // It knows KiB; 0 would be no limit.
      ...(limit > 0 ? [`--bwlimit=${Math.max(1, Math.floor(limit / 1024))}`] : []),
      ...(host === undefined ? [] : ['-e', REMOTE_SHELL]),
      '--',
      below(source),
      host === undefined ? below(destination) : `${host}:${below(destination)}`,
    ],
    read: (line, stream, { source, destination }) =>
      stream === 'stdout' ? item(line) : complaint(line, [below(source), below(destination)]),
    verdict,
    meaning: (code) => (code === undefined ? 'a signal ended it' : (MEANINGS[code] ?? 'see rsync(1), exit values')),
  };
}

/** It takes these in front of a name for a comment, also where names end with NUL. */
const COMMENT = [0x23, 0x3b];

function uncommented(name: Buffer): Buffer {
  return COMMENT.includes(name[0] ?? 0) ? Buffer.concat([Buffer.from('./'), name]) : name;
}

/** What is in a directory. */
const below = (directory: string) => directory.replace(/\/*$/, '/');

function verdict(code: number | undefined): Verdict {
  if (code === 0) return 'done';
  if (code === 23 || code === 24) return 'partial';
  return code !== undefined && BROKEN.includes(code) ? 'broken' : 'failed';
}

/** The bytes that rsync shows as `\#ooo`: control characters, what is no text in its locale, and the backslash of such. */
export function unescaped(text: string): Buffer {
  const bytes = text.replace(/\\#([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
  return Buffer.from(bytes, 'latin1');
}

function item(line: Buffer): Line {
  // A character for each byte.
  const text = line.toString('latin1');
  const [, soFar] = SO_FAR.exec(text) ?? [];
  if (soFar !== undefined) return { told: { type: 'stats', bytes: Number(soFar), compared: 0 } };
  const [, update = '', letter = '', columns = '', size, sent, shown = ''] = ITEM.exec(text) ?? [];
  if (shown === '') return text === '' ? {} : { log: line };
  const kind = KINDS[letter] ?? 'file';
  const changes = [...new Set(Array.from(columns, (column) => CHANGES[column]))].filter((each) => each !== undefined);
  const outcome = outcomeOf(update, changes);
  const whole = unescaped(shown);
  const name = kind === 'directory' && whole.at(-1) === SLASH ? whole.subarray(0, -1) : whole;
  // The directory itself, which comes along with names that begin with `./`, is in no list.
  if (name.equals(ROOT)) return outcome === 'skipped' ? {} : { log: line };
  const told: Told = { type: 'entry', outcome, kind, name, size: kind === 'file' ? Number(size) : 0, changes };
  return outcome === 'skipped'
    ? { told }
    : { told, log: Buffer.from(`${update}${letter}${columns} ${sent} ${shown}`, 'latin1') };
}

function outcomeOf(update: string, changes: readonly Change[]): Outcome {
  switch (update) {
    case '<':
    case '>':
      return 'copied';
    case 'c':
      return 'made';
    case 'h':
      return 'linked';
    default:
      return changes.length > 0 ? 'metadata' : 'skipped';
  }
}

/** The name in a complaint, where it is below one of the roots: for the words that go with a failure, not to decide by. */
function complaint(line: Buffer, roots: readonly string[]): Line {
  const text = line.toString('latin1');
  // It says so in the end of any run that was not all well.
  if (/^rsync error: |^$/.test(text)) return { log: line };
  const vanished = /^file has vanished: "(.+)"$/.exec(text)?.[1];
  const [, path = vanished] = /^rsync: .*?"(.+)"(?: \(in .*\))?(?: failed)?:? /.exec(text) ?? [];
  const full = path === undefined ? undefined : unescaped(path);
  const root = roots.map((each) => Buffer.from(each)).find((each) => full?.subarray(0, each.length).equals(each));
  if (full === undefined || root === undefined)
    return { log: line, told: { type: 'trouble', message: unescaped(text).toString().trim() } };
  const [, reason = text] = /: ([^:]+)$/.exec(text) ?? [];
  const told: Told = { type: 'trouble', name: full.subarray(root.length), message: reason };
  return { log: line, told: vanished === undefined ? told : { ...told, vanished: true } };
}
