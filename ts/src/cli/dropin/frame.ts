/**
 * What every drop-in does before its work: reads its arguments, and answers who asks for the help or the version, or can't be
 * understood, with nothing else loaded.
 *
 * Comes in: a face, which says how that is done, and arguments; goes out: the exit code.
 */
import type { Context } from '../run.js';
import type { WatchedValues } from './added.js';
import { suggestion, UsageError } from './argparse.js';

/** What every drop-in has. */
interface AnyCall {
  readonly values: WatchedValues & { readonly help: boolean; readonly version: boolean; readonly dry_run: boolean };
}

/** A drop-in, as its frame sees it. */
export interface Face<Call extends AnyCall> {
  readonly name: string;
  /** Reads a command line. Throws `UsageError`. */
  parse(args: readonly string[], env: NodeJS.ProcessEnv): Call;
  /** Usage, and one sentence. */
  usageError(sentence: string): string;
  /** The lines of `--version`. */
  version(): string;
  /** The page of `--help`, for a width. */
  help(): Promise<(width: number) => string>;
  /** The code for output that is lost. */
  readonly lost: number;
  /** Does what is asked. */
  run(call: Call, context: Context): Promise<number>;
}

/** The originals' code for wrong usage. */
const USAGE = 2;

export async function dropIn<Call extends AnyCall>(
  face: Face<Call>,
  args: readonly string[],
  context: Context,
): Promise<number> {
  let call: Call;
  try {
    call = face.parse(args, context.env);
    const { help, version } = call.values;
    if (!help && !version) return await work(face, call, context);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    context.stderr.write(face.usageError(error.message + (await suggestion(error))));
    return USAGE;
  }
  const { help } = call.values;
  const { answer } = await import('../answer.js');
  try {
    await answer(context.stdout, help ? await pageOf(face, context) : face.version());
    return 0;
  } catch (error) {
    context.stderr.write(`${face.name}: ${error instanceof Error ? error.message : error}\n`);
    return face.lost;
  }
}

/** Runs the call, and does what is to be done when it is over. */
async function work<Call extends AnyCall>(face: Face<Call>, call: Call, context: Context): Promise<number> {
  const { serve_control, on_end, on_failure, metrics_file } = call.values;
  if (!serve_control && on_end === undefined && on_failure === undefined && metrics_file === undefined)
    return face.run(call, context);
  const { toItsEnd } = await import('./settings.js');
  return toItsEnd(face.name, call.values, context, (watched) => face.run(call, watched));
}

async function pageOf({ help }: { help(): Promise<(width: number) => string> }, { stdout }: Context): Promise<string> {
  const text = await help();
  const { widthOf } = await import('../layout.js');
  return text(widthOf(stdout));
}
