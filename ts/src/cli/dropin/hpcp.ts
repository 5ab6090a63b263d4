/** `hpcp`: the command line of hpcp 8.96 and 9.79 over the copy. Arguments in, exit code out. */
import type { Context } from '../run.js';
import { version } from '../version.js';
import { dropIn } from './frame.js';
import { parseCall, usageError } from './hpcp/flags.js';

export function hpcp(args: readonly string[], context: Context): Promise<number> {
  const face = {
    name: 'hpcp',
    parse: parseCall,
    usageError,
    version: () => `hpcp 9.79 (bulkhaul ${version()}, xxh64): the flags of hpcp 8.96 and 9.79 over bulkhaul's engine\n`,
    help: async () => (await import('./hpcp/help.js')).helpText,
    // The original's code.
    lost: 191,
    run: async (call: ReturnType<typeof parseCall>, watched: Context) =>
      (await import('./hpcp/run.js')).run(call, watched),
  };
  return dropIn(face, args, context);
}
