/**
 * What every drop-in does before its work: reads its arguments, and answers who asks for the help or the version, or can't be
 * understood, with nothing else loaded.
 *
 * Comes in: a face, which says how that is done, and arguments; goes out: the exit code.
 */
import type { Context } from '../run.js';
import { suggestion, UsageError } from './argparse.js';

/** A drop-in, as its frame sees it. */
export interface Face<Call extends { readonly values: { readonly help: boolean; readonly version: boolean } }> {
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

export async function dropIn<Call extends { readonly values: { readonly help: boolean; readonly version: boolean } }>(
  face: Face<Call>,
  args: readonly string[],
  context: Context,
): Promise<number> {
  let call: Call;
  try {
    call = face.parse(args, context.env);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    context.stderr.write(face.usageError(error.message + (await suggestion(error))));
    return USAGE;
  }
  const { help, version } = call.values;
  if (!help && !version) return face.run(call, context);
  const { answer } = await import('../answer.js');
  try {
    await answer(context.stdout, help ? await pageOf(face, context) : face.version());
    return 0;
  } catch (error) {
    context.stderr.write(`${face.name}: ${error instanceof Error ? error.message : error}\n`);
    return face.lost;
  }
}

async function pageOf({ help }: { help(): Promise<(width: number) => string> }, { stdout }: Context): Promise<string> {
  const text = await help();
  const { widthOf } = await import('../layout.js');
  return text(widthOf(stdout));
}
