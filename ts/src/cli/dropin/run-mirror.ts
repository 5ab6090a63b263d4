/**
 * `run-mirror`: the command line of mirror_tool.py over manifest, copy and verify.
 *
 * Comes in: its arguments; goes out: its exit code. What only asks for the help or the version, or can't be understood, is
 * answered with nothing else loaded.
 */
import type { Context } from '../run.js';
import { version } from '../version.js';
import { suggestion, UsageError } from './argparse.js';
import { type MirrorCall, parseCall, usageError } from './run-mirror/flags.js';

/** The original's code for wrong usage, and for input and output that fail. */
const USAGE = 2;

export async function runMirror(args: readonly string[], context: Context): Promise<number> {
  let call: MirrorCall;
  try {
    call = parseCall(args, context.env);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    context.stderr.write(usageError(error.message + (await suggestion(error))));
    return USAGE;
  }
  const { help, version: asksVersion } = call.values;
  if (help || asksVersion) {
    const { answer } = await import('../answer.js');
    try {
      await answer(context.stdout, help ? await helpFor(context) : `run-mirror (bulkhaul ${version()})\n`);
      return 0;
    } catch (error) {
      context.stderr.write(`run-mirror: ${error instanceof Error ? error.message : error}\n`);
      return USAGE;
    }
  }
  const { run } = await import('./run-mirror/run.js');
  return run(call, context);
}

async function helpFor({ stdout }: Context): Promise<string> {
  const { helpText } = await import('./run-mirror/help.js');
  const { widthOf } = await import('../layout.js');
  return helpText(widthOf(stdout));
}
