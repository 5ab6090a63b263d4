/** `move_to_final`: the command line of move_to_final.py over the move. Arguments in, exit code out. */
import type { Context } from '../run.js';
import { version } from '../version.js';
import { dropIn } from './frame.js';
import { parseCall, usageError } from './move_to_final/flags.js';

export function moveToFinal(args: readonly string[], context: Context): Promise<number> {
  const face = {
    name: 'move_to_final',
    parse: parseCall,
    usageError,
    version: () => `move_to_final (bulkhaul ${version()})\n`,
    help: async () => (await import('./move_to_final/help.js')).helpText,
    lost: 2,
    run: async (call: ReturnType<typeof parseCall>, watched: Context) =>
      (await import('./move_to_final/run.js')).run(call, watched),
  };
  return dropIn(face, args, context);
}
