/**
 * What a command is asked to do when it has ended, also where it failed before it began: to write its metrics, and to run
 * commands of the user's.
 *
 * Comes in: options, and how it ended; goes out: nothing but sentences about what went wrong here, because the exit code
 * says how the run went. No shell reads a command: it is one word, or a JSON array of words.
 */
import { spawn } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { join } from 'node:path';
import { BulkhaulError, whyOf } from '../error.js';
import type { Report } from '../events.js';
import { toBytes } from '../names.js';
import { ExitCode, sentenceOf } from '../verdict.js';

/** A command of the user's: the program and its arguments. */
export type UserCommand = readonly [string, ...string[]];

/** Reads the value of an option. Throws `USAGE`. */
export function parseCommand(text: string, option: string): UserCommand {
  if (!text.startsWith('[')) {
    if (text === '') throw new BulkhaulError('USAGE', `${option}: there is no program`);
    return [text];
  }
  let words: unknown;
  try {
    words = JSON.parse(text);
  } catch (error) {
    throw new BulkhaulError('USAGE', `${option}: this is no JSON array of words: ${(error as Error).message}`);
  }
  const [program, ...args] = Array.isArray(words) && words.every((word) => typeof word === 'string') ? words : [];
  if (!program) throw new BulkhaulError('USAGE', `${option}: this is no JSON array of words: ${text}`);
  return [program, ...args];
}

/** Throws `USAGE` where there is no such program: it would be missed only when all is over. */
export function checkCommand([program]: UserCommand, option: string, { PATH = '' }: NodeJS.ProcessEnv): void {
  const places = program.includes('/')
    ? [program]
    : PATH.split(':').map((directory) => join(directory || '.', program));
  const runs = places.some((place) => {
    try {
      accessSync(toBytes(place), constants.X_OK);
      return statSync(toBytes(place)).isFile();
    } catch {
      return false;
    }
  });
  if (!runs) throw new BulkhaulError('USAGE', `${option}: there is no program ${program} that can be run`);
}

/** What is learnt of a command while it runs. */
export interface Witness {
  /** What its jobs did, as they ended. */
  readonly reports: Report[];
  /** What it was refused for. */
  refusal?: { readonly code: string; readonly message: string };
}

/** How a command ended. */
export interface Ending extends Witness {
  readonly operation: string;
  readonly exitCode: number;
}

/** What is to be done then. */
export interface Wishes {
  readonly onEnd?: UserCommand | undefined;
  readonly onFailure?: UserCommand | undefined;
  readonly metricsFile?: string | undefined;
}

/** Does it, and tells `say` what went wrong. */
export async function atEnd(wishes: Wishes, ending: Ending, env: NodeJS.ProcessEnv, say: (sentence: string) => void) {
  const { onEnd, onFailure, metricsFile } = wishes;
  const report = decisive(ending.reports);
  if (metricsFile !== undefined) {
    const { writeMetrics } = await import('../report/metrics.js');
    try {
      const { operation, exitCode } = ending;
      writeMetrics(metricsFile, { operation, exitCode, report, now: Date.now() / 1000 });
    } catch (error) {
      say((error as Error).message);
    }
  }
  if (onEnd) await runCommand(onEnd, '--on-end', ending, env, say);
  if (onFailure && ending.exitCode !== ExitCode.complete) await runCommand(onFailure, '--on-failure', ending, env, say);
}

/** The report that the end is told by: the last that is not complete, or the last. */
export function decisive(reports: readonly Report[]): Report | undefined {
  return reports.findLast(({ complete }) => !complete) ?? reports.at(-1);
}

async function runCommand(
  [program, ...args]: UserCommand,
  option: string,
  ending: Ending,
  env: NodeJS.ProcessEnv,
  say: (sentence: string) => void,
): Promise<void> {
  const { operation, exitCode, reports, refusal } = ending;
  const { jsonLine } = await import('../report/json.js');
  const report = decisive(reports);
  const { code, message } = refusal ?? { code: 'INTERNAL', message: 'it ended without a report' };
  // Of one job the code is the command's.
  const own = reports.length === 1 ? { exitCode } : {};
  const lines = reports.map((each) => jsonLine({ ...each, ...own, type: 'summary' }));
  if (refusal || !report) lines.push(jsonLine({ type: 'error', kind: 'refused', code, message }));
  const told = {
    BULKHAUL_OPERATION: operation,
    BULKHAUL_EXIT_CODE: String(exitCode),
    BULKHAUL_VERDICT: verdict(exitCode),
    BULKHAUL_SENTENCE: refusal || !report ? message : sentenceOf(report, exitCode),
  };
  await new Promise<void>((resolve) => {
    // Standard output is for data of ours.
    const child = spawn(program, args, { stdio: ['pipe', 2, 2], env: { ...env, ...told } });
    child.on('error', (failed) => {
      say(`${option} ${program} can't be run: ${whyOf(failed, program)}`);
      resolve();
    });
    child.on('close', (status, signal) => {
      if (status !== 0) say(`${option} ${program} ended with ${signal ?? status}`);
      resolve();
    });
    // Who does not read it does not need it.
    child.stdin?.on('error', () => undefined).end(lines.join(''));
  });
}

function verdict(exitCode: number): 'complete' | 'interrupted' | 'failed' {
  if (exitCode === ExitCode.complete) return 'complete';
  return exitCode === ExitCode.interrupted ? 'interrupted' : 'failed';
}
