/** `compress_files`: the command line of compress_files.py over the compression. Arguments in, exit code out. */
import type { Context } from '../run.js';
import { version } from '../version.js';
import { parseCall, usageError } from './compress_files/flags.js';
import { dropIn } from './frame.js';

export function compressFiles(args: readonly string[], context: Context): Promise<number> {
  const face = {
    name: 'compress_files',
    parse: parseCall,
    usageError,
    version: () => `compress_files (bulkhaul ${version()})\n`,
    help: async () => (await import('./compress_files/help.js')).helpText,
    lost: 2,
    run: async (call: ReturnType<typeof parseCall>, watched: Context) =>
      (await import('./compress_files/run.js')).run(call, watched),
  };
  return dropIn(face, args, context);
}
