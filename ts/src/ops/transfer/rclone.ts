/**
 * The real rclone.
 *
 * Comes in: a pass; goes out: its command (the list on standard input, a name a line, JSON lines for a log), and what it
 * says. rclone leaves out without a word what of a list it can't find, and has names in a form of its own: control
 * characters as their pictures (so that a name with a newline is a line), and a mark before what looks like one. A name
 * that it could not be told in that form is found out before. It copies regular files only.
 *
 * The form is the one that rclone's documentation calls Standard (overview, restricted filenames).
 */
import { namesIn, written } from './list.js';
import type { Command } from './program.js';
import { type Line, older, type Pass, type Told, type Tool, type Verdict } from './tool.js';

const NEWLINE = Buffer.from('\n');

/** How rclone is run. */
export interface RcloneOptions {
  /** Its configuration; absent: its own. */
  config: string | undefined;
}

/** Before a character that stands for itself. */
const QUOTE = '\u201b';

const MEANINGS: Record<number, string> = {
  2: 'its options were not understood: it may be too old',
  3: 'a directory was not found',
  7: 'the destination refused it for good, such as an account that is suspended',
};

export function rclone({ config }: RcloneOptions): Tool {
  return {
    program: 'rclone',
    version: 'version',
    unsuited: (said) => older(said, /^rclone v(\d+)\.(\d+)/m, [1, 53]),
    directoriesLast: false,
    tellsSizes: false,
    filesOnly: true,
    unfit: (name) => (name.includes(QUOTE) ? 'rclone can not be told a name with the character U+201B' : undefined),
    input: (list, what) =>
      what === 'trees' ? rules(list) : written(namesIn(list, 'others'), NEWLINE, (name) => standard(name)),
    command: ({ source, destination, what, dryRun, every, limit }) => [
      'rclone',
      'copy',
      ...(what === 'trees' ? ['--filter-from', '-'] : ['--files-from-raw', '-']),
      ...['--transfers', '2', every ? '-vv' : '-v', '--use-json-log', '--stats', '1s', '--stats-log-level', 'NOTICE'],
      // What failed is tried again by name.
      ...['--retries', '1'],
      ...(config === undefined ? [] : ['--config', config]),
      ...(dryRun ? ['--dry-run'] : []),
      ...(limit > 0 ? ['--bwlimit', `${Math.max(1, Math.floor(limit))}B`] : []),
      '--',
      source,
      destination,
    ],
    read,
    verdict,
    meaning: (code) => (code === undefined ? 'a signal ended it' : (MEANINGS[code] ?? 'its log says more')),
  };
}

function verdict(code: number | undefined): Verdict {
  if (code === 0) return 'done';
  if (code === 255 || code === 5) return 'broken';
  return code === undefined || code === 2 || code > 8 ? 'failed' : 'partial';
}

/** Whether the destination takes what is written there: a file with a name of ours is made, and goes again. */
export function writeTest(destination: string, name: string, config: string | undefined): [Command, Command] {
  const slash = /[:/]$/.test(destination) ? '' : '/';
  const common = [...(config === undefined ? [] : ['--config', config]), '--', `${destination}${slash}${name}`];
  return [
    ['rclone', 'touch', ...common],
    ['rclone', 'deletefile', ...common],
  ];
}

/** A name in rclone's form; undefined: it has none. */
export function standard(name: Buffer): Buffer | undefined {
  if (name.includes(QUOTE)) return undefined;
  if (!name.some((byte) => byte < 0x20 || byte === 0x7f || byte === 0xe2)) return name;
  const pieces: Buffer[] = [];
  for (let at = 0; at < name.length; at += 1) {
    const byte = name[at] ?? 0;
    if (byte < 0x20) pieces.push(Buffer.from(String.fromCodePoint(0x2400 + byte)));
    else if (byte === 0x7f) pieces.push(Buffer.from('\u2421'));
    else {
      if (isPicture(name, at)) pieces.push(Buffer.from(QUOTE));
      pieces.push(name.subarray(at, at + 1));
    }
  }
  return Buffer.concat(pieces);
}

/** Whether one of the characters that stand for others begins here: U+2401 to U+241F, U+2421. */
function isPicture(name: Buffer, at: number): boolean {
  const [first, second, third = 0] = name.subarray(at, at + 3);
  return first === 0xe2 && second === 0x90 && ((third > 0x80 && third <= 0x9f) || third === 0xa1);
}

/** The name that is meant by one in rclone's form. */
export function plain(text: string): Buffer {
  const meant = text.replace(/\u201b(.)|[\u2401-\u241f\u2421]/gsu, (found, kept: string | undefined) => {
    if (kept !== undefined) return kept;
    return found === '\u2421' ? '\x7f' : String.fromCharCode((found.codePointAt(0) ?? 0) - 0x2400);
  });
  return Buffer.from(meant);
}

/** Filter rules that take what a list names, with all that is below its directories, and nothing else. */
async function* rules(list: string): AsyncGenerator<Buffer> {
  for (const kind of ['directories', 'others'] as const) {
    yield* written(namesIn(list, kind), NEWLINE, (name) => {
      const form = standard(name);
      return (
        form && Buffer.from(`+ /${pattern(form.toString('latin1'))}${kind === 'directories' ? '/**' : ''}`, 'latin1')
      );
    });
  }
  yield Buffer.from('- *\n');
}

/** A name, for a rule: blanks at the end of a line would be cut off. */
function pattern(name: string): string {
  return name.replace(/[\\*?[\]{}]/g, '\\$&').replace(/[ \t]$/, '[$&]');
}

/** A line of the log, as far as it is of use. */
interface LogLine {
  level?: unknown;
  msg?: unknown;
  object?: unknown;
  objectType?: unknown;
  stats?: { bytes?: unknown; checks?: unknown };
}

function read(line: Buffer, _: unknown, { dryRun }: Pass): Line {
  let record: LogLine;
  try {
    record = JSON.parse(line.toString()) as LogLine;
  } catch {
    return { log: line };
  }
  const { level, msg, object, objectType, stats } = record;
  if (stats !== undefined) {
    return { told: { type: 'stats', bytes: Number(stats.bytes) || 0, compared: Number(stats.checks) || 0 } };
  }
  const said = String(msg).trim();
  const about = typeof object === 'string' ? object : undefined;
  const log = Buffer.from(`${String(level).toUpperCase()} ${about === undefined ? '' : `${about}: `}${said}`);
  const isObject = String(objectType).endsWith('.Object');
  // A byte that is no text is lost in JSON.
  const name = about !== undefined && isObject && !about.includes('\ufffd') ? plain(about) : undefined;
  const entry = { type: 'entry', kind: 'file', size: 0, ...(name && { name }) } as const;
  if (/^(?:Multi-thread )?Copied \(/.test(said)) {
    const changes = [/\bnew\)$/.test(said) ? ('new' as const) : ('content' as const)];
    return { log, told: { ...entry, outcome: 'copied', changes } };
  }
  if (dryRun && isObject && /^Skipped .* as --dry-run is set/.test(said)) {
    const [, bytes] = /^Skipped copy .*\(size (\d+)\)/.exec(said) ?? [];
    const told: Told =
      bytes === undefined
        ? { ...entry, outcome: 'metadata', changes: ['time'] }
        : { ...entry, outcome: 'copied', size: Number(bytes), changes: ['content'] };
    return { log, told };
  }
  if (said === 'Unchanged skipping' && isObject) return { told: { ...entry, outcome: 'skipped', changes: [] } };
  if (level === 'debug') return {};
  if (/^Updated modification time/.test(said))
    return { log, told: { ...entry, outcome: 'metadata', changes: ['time'] } };
  if (name !== undefined && /^Can't follow symlink/.test(said))
    return { log, told: { type: 'skipped', reason: 'not-a-file', kind: 'symlink', name } };
  if (name !== undefined && /^Can't transfer non file/.test(said))
    return { log, told: { type: 'skipped', reason: 'not-a-file', kind: 'fifo', name } };
  if (level === 'error' || level === 'critical' || level === 'fatal' || level === 'emergency')
    return { log, told: { type: 'trouble', message: said, ...(name && { name }) } };
  return { log };
}
