/** Entries as lines in the form of rsync's --itemize-changes, and the parts of a partition. */
import type { EntryEvent, Event, PartEvent } from '../events.js';
import { display } from '../names.js';
import type { Change, EntryKind } from '../native/events.js';
import type { Output } from './output.js';
import { type Reporter, unreachable } from './reporter.js';
import { bytes, count } from './units.js';

export class Itemize implements Reporter {
  constructor(
    readonly output: Output,
    /** Called before each line: both streams may be one terminal. */
    readonly before: () => void,
  ) {}

  take(event: Event): void | Promise<void> {
    const line = event.type === 'entry' ? itemLine(event) : event.type === 'part' ? partLine(event) : undefined;
    if (line === undefined) return;
    this.before();
    return this.output.write(`${line}\n`);
  }
}

/** The line of a part: what is in it, and where its list is. */
export function partLine({ number, entries, bytes: size, split, path }: PartEvent): string {
  const marked = split > 0 ? `, ${count(split, 'file')} to be split` : '';
  const where = path === undefined ? '' : `: ${display(path)}`;
  return `part ${number}: ${count(entries, 'entry', 'entries')}, ${bytes(size)}${marked}${where}`;
}

const KINDS: Record<EntryKind, string> = {
  file: 'f',
  directory: 'd',
  symlink: 'L',
  fifo: 'S',
  socket: 'S',
  block: 'D',
  char: 'D',
};

/** Reasons to leave something alone without a word. */
const SILENT = ['unchanged', 'excluded', 'other-suffix', 'compressed', 'not-a-file'];

/** What a copy would not only put right. */
const MADE_ANEW: readonly Change[] = ['new', 'content', 'target', 'kind'];

/** The columns after the kind: a letter where one of the changes is there. */
const COLUMNS: [string, readonly Change[]][] = [
  ['c', ['content', 'target', 'kind']],
  ['s', ['size']],
  ['t', ['time']],
  ['p', ['mode']],
  ['o', ['owner']],
  ['g', ['group']],
  ['u', []],
  ['a', ['acl']],
  ['x', ['xattr']],
];

/** The line of an entry; none for what is left alone without a word, and for what failed (that is an error event). */
export function itemLine(event: EntryEvent): string | undefined {
  const update = updateOf(event);
  if (update === undefined) return undefined;
  const slash = event.kind === 'directory' && !event.path.endsWith('/') ? '/' : '';
  const name = `${display(event.path)}${slash}`;
  if (event.outcome === 'removed' || event.changes.includes('extra')) return `*deleting   ${name}`;
  // What takes the place of another kind of entry is new.
  const isNew = event.changes.includes('new') || event.changes.includes('kind');
  const changes = COLUMNS.map(([letter, causes]) =>
    isNew ? '+' : causes.some((cause) => shown(event).includes(cause)) ? letter : '.',
  ).join('');
  const arrow = event.outcome === 'linked' ? ' => ' : ' -> ';
  const target = event.target === undefined ? '' : `${arrow}${display(event.target)}`;
  const why = event.outcome === 'skipped' ? ` (${event.reason ?? 'skipped'})` : '';
  return `${update}${KINDS[event.kind]}${changes} ${name}${target}${why}`;
}

/** rsync says that content differs where that was what decided: not of a file whose size or time does. */
function shown({ kind, changes }: EntryEvent): readonly Change[] {
  const decided = kind === 'file' && (changes.includes('size') || changes.includes('time'));
  return decided ? changes.filter((change) => change !== 'content') : changes;
}

function updateOf({ outcome, kind, changes, reason }: EntryEvent): string | undefined {
  switch (outcome) {
    case 'copied':
      return '>';
    case 'made':
      return kind === 'file' ? '>' : changes.includes('new') || kind !== 'directory' ? 'c' : '.';
    case 'linked':
      return 'h';
    case 'renamed':
      return 'm';
    case 'metadata':
      return changes.length > 0 ? '.' : undefined;
    case 'skipped':
      return SILENT.includes(reason ?? '') ? undefined : '.';
    case 'listed':
      return '.';
    case 'removed':
      return '*';
    case 'different':
      return !changes.some((change) => MADE_ANEW.includes(change)) ? '.' : kind === 'file' ? '>' : 'c';
    case 'same':
      return undefined;
    case 'changed':
    case 'conflict':
    case 'mismatched':
    case 'failed':
      return undefined;
    default:
      return unreachable(outcome);
  }
}
