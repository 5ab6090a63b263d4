/** Running programs: argument arrays in, what they said out, and an error with all of it where they failed. */
import { spawnSync } from 'node:child_process';
import { ROOT } from './platforms.js';

/** A program that a release needs failed, or what it made is not what it has to be. */
export class Refused extends Error {
  name = 'Refused';
}

/** The longest output that is kept, in bytes. */
const MOST = 64 << 20;

/**
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv, input?: string }} [options]
 * @returns {string} its standard output
 * @throws {Refused} with what it said
 */
export function run(command, args, { cwd = ROOT, env = process.env, input = '' } = {}) {
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    ...{ cwd, env, input, maxBuffer: MOST, encoding: 'utf8' },
  });
  if (error) throw new Refused(`${command} can't be run: ${error.message}`);
  if (status !== 0) throw new Refused(`${[command, ...args].join(' ')} ended with ${status}:\n${stdout}${stderr}`);
  return stdout;
}

/** Says what is going on. */
export const say = (/** @type {string} */ text) => process.stderr.write(`release: ${text}\n`);
