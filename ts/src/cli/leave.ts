/**
 * The end of a command that can't wait for anything.
 *
 * Comes in: an exit code; what listens to the end of the process is told, and then it has ended. `process.exit` alone waits
 * for the threads that read files for Node.js, and one of them may be held by a file system that does not answer.
 */
import { loadAddon } from '../native.js';

export async function leave(code: number): Promise<never> {
  const addon = await loadAddon().catch(() => undefined);
  process.on('exit', () => addon?.endProcess(code));
  process.exit(code);
}
