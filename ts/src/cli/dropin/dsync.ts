/**
 * `dsync`: the command line of dsync.py over the planner, and the real rsync, the real rclone, or bulkhaul for each part.
 *
 * Comes in: its arguments; goes out: its exit code. What only asks for the help or the version, or can't be understood, is
 * answered with nothing else loaded.
 */
import { ExitCode } from '../../verdict.js';
import type { Context } from '../run.js';
import { version } from '../version.js';
import { suggestion, UsageError } from './argparse.js';
import { type DsyncCall, parseCall, usageError } from './dsync/flags.js';

export async function dsync(args: readonly string[], context: Context): Promise<number> {
  let call: DsyncCall;
  try {
    call = parseCall(args, context.env);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    context.stderr.write(usageError(error.message + (await suggestion(error))));
    return ExitCode.usage;
  }
  const { help, version: asksVersion } = call.values;
  if (help || asksVersion) {
    const { answer } = await import('../answer.js');
    try {
      await answer(context.stdout, help ? await helpFor(context) : `dsync (bulkhaul ${version()})\n`);
      return ExitCode.complete;
    } catch (error) {
      context.stderr.write(`dsync: ${error instanceof Error ? error.message : error}\n`);
      return ExitCode.usage;
    }
  }
  const { run } = await import('./dsync/run.js');
  return run(call, context);
}

async function helpFor({ stdout }: Context): Promise<string> {
  const { helpText } = await import('./dsync/help.js');
  const { widthOf } = await import('../layout.js');
  return helpText(widthOf(stdout));
}
