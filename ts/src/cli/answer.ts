/**
 * What is asked of a command itself, its help or its version: a text in, all of it on the stream, or an error out.
 *
 * Nothing else is loaded for it.
 */
import type { Writable } from 'node:stream';
import { BulkhaulError, whyOf } from '../error.js';

/**
 * Writes all that was asked for. Throws `USAGE` for what is lost, also where nobody reads it: it is no job's, which could be
 * incomplete.
 */
export function answer(stream: Writable, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    // The event says once more what the call has told.
    stream.on('error', () => undefined);
    stream.write(text, (error) => {
      if (!error) return resolve();
      const gone = (error as NodeJS.ErrnoException).code === 'EPIPE';
      const why = gone ? 'nobody reads it any more' : whyOf(error);
      reject(new BulkhaulError('USAGE', `standard output could not be written: ${why}`));
    });
  });
}
