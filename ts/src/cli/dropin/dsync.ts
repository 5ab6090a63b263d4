/**
 * `dsync`: the command line of dsync.py over the planner, and the real rsync, the real rclone, or bulkhaul for each part.
 * Arguments in, exit code out.
 */
import type { Context } from '../run.js';
import { version } from '../version.js';
import { type DsyncCall, parseCall, usageError } from './dsync/flags.js';
import { dropIn } from './frame.js';

export function dsync(args: readonly string[], context: Context): Promise<number> {
  const face = {
    name: 'dsync',
    parse: parseCall,
    usageError,
    version: () => `dsync (bulkhaul ${version()})\n`,
    help: async () => (await import('./dsync/help.js')).helpText,
    lost: 2,
    run: async (call: DsyncCall, watched: Context) => (await import('./dsync/run.js')).run(call, watched),
  };
  return dropIn(face, args, context);
}
