/** `migrate_compress`: the command line of migrate_compress.py over copy and compression. Arguments in, exit code out. */
import type { Context } from '../run.js';
import { version } from '../version.js';
import { dropIn } from './frame.js';
import { parseCall, usageError } from './migrate_compress/flags.js';

export function migrateCompress(args: readonly string[], context: Context): Promise<number> {
  const face = {
    name: 'migrate_compress',
    parse: parseCall,
    usageError,
    version: () => `migrate_compress (bulkhaul ${version()})\n`,
    help: async () => (await import('./migrate_compress/help.js')).helpText,
    lost: 2,
    run: async (call: ReturnType<typeof parseCall>, watched: Context) =>
      (await import('./migrate_compress/run.js')).run(call, watched),
  };
  return dropIn(face, args, context);
}
