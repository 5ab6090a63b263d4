/**
 * bulkhaul as a program: our own engine, one run for each part.
 *
 * Comes in: a pass; goes out: its command (the list on standard input, JSON lines on standard output), and what it says.
 */
import { BulkhaulError } from '../../error.js';
import type { Change, EntryKind, Outcome } from '../../native/events.js';
import { namesIn, written } from './list.js';
import type { Command } from './program.js';
import type { Line, Told, Tool, Verdict } from './tool.js';

const NUL = Buffer.from([0]);

/** How it is run. */
export interface BulkhaulOptions {
  /** The program here, and what comes before its verb; on a host it is `bulkhaul`. */
  here: Command;
  /** It runs on hosts. */
  remote: boolean;
  /** Threads of each run. Absent: its own choice. */
  jobs?: number | undefined;
}

export function bulkhaul({ here, remote, jobs }: BulkhaulOptions): Tool {
  return {
    program: 'bulkhaul',
    directoriesLast: false,
    tellsSizes: true,
    keepsApart: true,
    filesOnly: false,
    unfit: () => undefined,
    input: (list) => written(namesIn(list), NUL),
    command: ({ source, destination, host, what, dryRun, limit }) => {
      if (host !== undefined || what === 'trees')
        throw new BulkhaulError('INTERNAL', `bulkhaul has no way for ${what}`);
      return [
        ...(remote ? (['bulkhaul'] as const) : here),
        ...['copy', '--files-from0', '-', '--json', '-v', '--no-journal'],
        ...(jobs === undefined ? [] : ['--jobs', String(jobs)]),
        ...(dryRun ? ['--dry-run'] : []),
        ...(limit > 0 ? ['--bwlimit', `${Math.max(1, Math.floor(limit))}B`] : []),
        '--',
        source,
        destination,
      ];
    },
    read,
    verdict,
    meaning: (code) => (code === undefined ? 'a signal ended it' : 'its log says more'),
  };
}

function verdict(code: number | undefined): Verdict {
  if (code === 0) return 'done';
  if (code === 1 || code === 23 || code === 24) return 'partial';
  return code === 255 ? 'broken' : 'failed';
}

interface Event {
  type?: unknown;
  kind?: unknown;
  outcome?: unknown;
  path?: unknown;
  pathBase64?: unknown;
  bytes?: unknown;
  changes?: unknown;
  message?: unknown;
  copiedBytes?: unknown;
}

function read(line: Buffer, stream: 'stdout' | 'stderr'): Line {
  if (stream === 'stderr') return { log: line };
  let event: Event;
  try {
    event = JSON.parse(line.toString()) as Event;
  } catch {
    return { log: line };
  }
  const path =
    typeof event.pathBase64 === 'string' ? Buffer.from(event.pathBase64, 'base64') : Buffer.from(String(event.path));
  switch (event.type) {
    case 'entry': {
      const outcome = event.outcome as Outcome;
      const [kind, changes] = [event.kind as EntryKind, event.changes as Change[]];
      const told: Told = { type: 'entry', outcome, kind, name: path, size: Number(event.bytes) || 0, changes };
      return outcome === 'skipped' ? { told } : { told, log: line };
    }
    case 'status':
      return { told: { type: 'stats', bytes: Number(event.copiedBytes) || 0, compared: 0 } };
    case 'error':
      return { log: line, told: { type: 'trouble', message: String(event.message) } };
    default:
      return { log: line };
  }
}
