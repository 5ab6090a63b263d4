/** `run-mirror`: the command line of mirror_tool.py over manifest, copy and verify. Arguments in, exit code out. */
import type { Context } from '../run.js';
import { version } from '../version.js';
import { dropIn } from './frame.js';
import { parseCall, usageError } from './run-mirror/flags.js';

export function runMirror(args: readonly string[], context: Context): Promise<number> {
  const face = {
    name: 'run-mirror',
    parse: parseCall,
    usageError,
    version: () => `run-mirror (bulkhaul ${version()})\n`,
    help: async () => (await import('./run-mirror/help.js')).helpText,
    // The original's code for input and output that fail.
    lost: 2,
    run: async (call: ReturnType<typeof parseCall>, watched: Context) =>
      (await import('./run-mirror/run.js')).run(call, watched),
  };
  return dropIn(face, args, context);
}
