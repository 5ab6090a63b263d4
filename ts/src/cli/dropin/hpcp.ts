/**
 * `hpcp`: the original's command line over the copy.
 *
 * Comes in: arguments of hpcp 8.96 or 9.79; goes out: its exit code. What only asks for the help or the version, or can't
 * be understood, is answered with nothing else loaded.
 */
import type { Context } from '../run.js';
import { version } from '../version.js';
import { suggestion, UsageError } from './argparse.js';
import { type HpcpCall, parseCall, usageError } from './hpcp/flags.js';

/** The original's code for wrong usage. */
const USAGE = 2;
/** Its code for output that is lost. */
const LOST = 191;

export async function hpcp(args: readonly string[], context: Context): Promise<number> {
  let call: HpcpCall;
  try {
    call = parseCall(args);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    context.stderr.write(usageError(error.message + (await suggestion(error))));
    return USAGE;
  }
  const { help, version: asksVersion } = call.values;
  if (help || asksVersion) {
    const { answer } = await import('../answer.js');
    try {
      await answer(context.stdout, help ? await helpFor(context) : versionText());
      return 0;
    } catch (error) {
      context.stderr.write(`hpcp: ${error instanceof Error ? error.message : error}\n`);
      return LOST;
    }
  }
  const { run } = await import('./hpcp/run.js');
  return run(call, context);
}

async function helpFor({ stdout }: Context): Promise<string> {
  const { helpText } = await import('./hpcp/help.js');
  const { widthOf } = await import('../layout.js');
  return helpText(widthOf(stdout));
}

function versionText(): string {
  return `hpcp 9.79 (bulkhaul ${version()}, xxh64): the flags of hpcp 8.96 and 9.79 over bulkhaul's engine\n`;
}
