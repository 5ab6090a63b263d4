/**
 * JSON lines: one object an event, as `ts/schema/events.schema.json` says.
 *
 * A name is a string, in which U+FFFD stands for each byte that is not UTF-8; where there is one, a second property
 * (`pathBase64` beside `path`) has the exact bytes.
 */
import type { BulkhaulError } from '../error.js';
import type { Event } from '../events.js';
import { isText, toBytes } from '../names.js';
import type { Output } from './output.js';
import type { Progress } from './progress.js';
import type { Reporter } from './reporter.js';

/** Version of the lines; a property that is added does not change it. */
const SCHEMA_VERSION = 1;

/** The properties that are names of files, wherever they are. */
const NAMES = new Set(['path', 'source', 'destination', 'target', 'failureFile', 'directory', 'extension']);
/** The properties that are lists of them. */
const LISTS = new Set(['sources', 'destinations', 'command']);

export class Json implements Reporter {
  constructor(
    readonly output: Output,
    /** The events that become lines. */
    readonly types: readonly Event['type'][],
    readonly progress: Progress,
    /** Milliseconds between status lines; absent: none. */
    readonly every?: number,
  ) {}

  take(event: Event): void | Promise<void> {
    if (!this.types.includes(event.type)) return;
    if (event.type !== 'status') return this.output.write(jsonLine(event));
    const { percent, left } = this.progress.update(event);
    // Whoever counts, the engine or an operation of many processes: what is not always there comes last, in the schema's order.
    const { elapsed, expected, hosts, parts, syncing, stopping, sweep, ...counters } = event;
    const { entries, files, toDo, bytes, toRead, estimated } = expected ?? {};
    return this.output.write(
      jsonLine({
        ...counters,
        elapsed,
        expected: expected && { entries, files, toDo, bytes, toRead, estimated },
        ...{ hosts, parts, syncing, stopping, sweep, percent, left },
      }),
    );
  }

  refused(error: BulkhaulError): void | Promise<void> {
    return this.output.write(jsonLine({ type: 'error', kind: 'refused', code: error.code, message: error.message }));
  }
}

/** One line for what has a type: an event, the error that ended a job before it began, a record of a journal. */
export function jsonLine<Told extends { type: string }>(told: Told): string {
  const { type, ...rest } = told;
  return `${JSON.stringify({ type, schema: SCHEMA_VERSION, ...portable(rest) })}\n`;
}

function portable(value: object): object {
  const entries = Object.entries(value).flatMap(([key, item]): [string, unknown][] => {
    if (NAMES.has(key) && typeof item === 'string') {
      if (isText(item)) return [[key, item]];
      const bytes = toBytes(item);
      return [
        [key, bytes.toString('utf8')],
        [`${key}Base64`, bytes.toString('base64')],
      ];
    }
    if (LISTS.has(key) && Array.isArray(item) && item.every((each) => typeof each === 'string')) {
      const bytes = item.map(toBytes);
      const texts = bytes.map((each) => each.toString('utf8'));
      if (item.every(isText)) return [[key, texts]];
      return [
        [key, texts],
        [`${key}Base64`, bytes.map((each) => each.toString('base64'))],
      ];
    }
    return [[key, portableItem(item)]];
  });
  return Object.fromEntries(entries);
}

function portableItem(item: unknown): unknown {
  if (Array.isArray(item)) return item.map(portableItem);
  if (typeof item === 'object' && item !== null) return portable(item);
  return item;
}
