/** What a reporter is: a consumer of events. One file for each form. */
import type { BulkhaulError } from '../error.js';
import type { Event } from '../events.js';

export interface Reporter {
  /** Milliseconds between the status events that it wants; absent: it wants none. */
  readonly every?: number;
  /** Takes one event, in order; a promise asks to wait with the next (a status may come meanwhile). */
  take(event: Event): void | Promise<void>;
  /** The job could not begin, or was given up. */
  refused?(error: BulkhaulError): void | Promise<void>;
  /** Leaves everything as it should stay. */
  close?(): void;
  /** After a whole job: throws `OUTPUT` when something that was taken is not written. */
  check?(): void;
}

/** For the `default` of a switch over a union: a new member does not compile until it is dealt with. */
export function unreachable(value: never): never {
  throw new TypeError(`unexpected value: ${JSON.stringify(value)}`);
}
