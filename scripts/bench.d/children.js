/**
 * Child processes of the benchmark: each in a process group of its own, so that an interrupt ends all that it started.
 */
import { spawn } from 'node:child_process';

const MOST_KEPT = 4096;

/** Thrown by what was under way when the benchmark was interrupted. */
export class Interrupted extends Error {}

/**
 * @typedef {object} Ended
 * @property {number} code 128 and more: a signal
 * @property {string} stdout
 * @property {string} stderr its end
 * @property {string} result what was written to descriptor 3
 */

/** Starts processes, one at a time, until it is interrupted. */
export class Children {
  /** @type {import('node:child_process').ChildProcess | undefined} */
  #running;
  #cleaning = false;
  #interrupted = false;

  /** @param {NodeJS.ProcessEnv} env */
  constructor(env) {
    this.env = env;
  }

  /** Kills what runs; nothing starts any more, except with `cleaning`: that comes to its end. */
  interrupt() {
    this.#interrupted = true;
    const pid = this.#running?.pid;
    if (pid === undefined || this.#cleaning) return;
    try {
      process.kill(-pid, 'SIGKILL');
    } catch (error) {
      // It has just ended.
      if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'ESRCH') throw error;
    }
  }

  /**
   * Runs a command to its end, whatever its exit code is.
   * @param {readonly string[]} command
   * @param {{ keepOutput?: boolean, cleaning?: boolean }} [options] otherwise stdout goes to /dev/null
   * @returns {Promise<Ended>}
   * @throws {Interrupted}
   */
  run(command, { keepOutput = false, cleaning = false } = {}) {
    if (this.#interrupted && !cleaning) throw new Interrupted();
    const [program = '', ...args] = command;
    return new Promise((resolve, reject) => {
      const child = spawn(program, args, {
        env: this.env,
        detached: true,
        stdio: ['ignore', keepOutput ? 'pipe' : 'ignore', 'pipe', 'pipe'],
      });
      this.#running = child;
      this.#cleaning = cleaning;
      const [, stdout, stderr, third] = child.stdio;
      let [output, complaints, result] = ['', '', ''];
      stdout?.on('data', (chunk) => (output += chunk));
      stderr?.on('data', (chunk) => (complaints = (complaints + chunk).slice(-MOST_KEPT)));
      third?.on('data', (chunk) => (result += chunk));
      child.on('error', reject);
      child.on('close', (code, signal) => {
        this.#running = undefined;
        if (this.#interrupted && !cleaning) reject(new Interrupted());
        else resolve({ code: code ?? (signal ? 128 : 1), stdout: output, stderr: complaints.trim(), result });
      });
    });
  }

  /**
   * Runs a command that has to succeed.
   * @param {readonly string[]} command
   * @param {{ cleaning?: boolean }} [options]
   * @returns {Promise<string>} its standard output
   * @throws {Error} what it complained about
   */
  async must(command, options = {}) {
    const { code, stdout, stderr } = await this.run(command, { keepOutput: true, ...options });
    if (code !== 0) throw new Error(`${command.join(' ')}: exit code ${code}${stderr && `, ${stderr}`}`);
    return stdout;
  }
}
