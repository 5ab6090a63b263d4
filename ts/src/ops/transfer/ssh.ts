/**
 * Other hosts, over the system's ssh.
 *
 * Comes in: a command as an array of arguments, and a host or none; goes out: the same command, run there or here. ssh has
 * no array of arguments: what it is given goes to a shell there, so each argument is quoted, by one function. Nothing ever
 * asks for a password, a host that does not answer is given up, and what was begun there is told to end when it is stopped
 * here: without a terminal, ssh would leave it running.
 */
import { BulkhaulError } from '../../error.js';
import { display, isText } from '../../names.js';
import { type Command, type Ended, type Running, start, type TakeLine } from './program.js';

/** What ssh ends with where it did not get through, or lost the connection. */
export const LOST = 255;

/** It asks nothing; a host that does not answer is given up after 15 seconds, one that is silent after a minute. */
const OPTIONS = ['BatchMode=yes', 'ConnectTimeout=15', 'ServerAliveInterval=15', 'ServerAliveCountMax=4'];

const SSH: Command = ['ssh', ...OPTIONS.flatMap((option) => ['-o', option])];

/** ssh with its options as one text, for a program that begins it: no word of it needs quotes. */
export const REMOTE_SHELL = SSH.join(' ');

/**
 * A word for a shell: of POSIX, and of the others that people have for their login (fish takes a backslash in quotes for
 * more than itself, so it stands outside of them).
 */
export function quoted(word: string): string {
  if (/^[\w@%+=:,./-]+$/.test(word)) return word;
  return `'${word.replaceAll(/['\\]/g, "'\\$&'")}'`;
}

/** Throws `USAGE` for what is no name of a host: it would be an option of ssh, or more than one word. */
export function checkHost(host: string): void {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this is about
  if (!/^-|[\s\x00-\x20\x7f'"`$\\;&|<>(){}*?!#]|^$/.test(host) && isText(host)) return;
  throw new BulkhaulError('USAGE', `not the name of a host: ${display(host) || '(nothing)'}`);
}

/** Says its number first, so that it can be told to end, and becomes the command. */
const TELL = 'echo "$$"; exec "$@"';

interface Surroundings {
  input?: AsyncIterable<Buffer> | undefined;
  take: TakeLine;
}

/** Begins a command on a host; without one, here. */
export function startOn(host: string | undefined, command: Command, { input, take }: Surroundings): Running {
  if (host === undefined) return start(command, { input, take });
  let number: string | undefined;
  const words = ['sh', '-c', TELL, 'sh', ...command];
  const running = start(overSsh(host, words), {
    input,
    take: (line, stream) => {
      if (stream !== 'stdout' || number !== undefined) return take(line, stream);
      number = line.toString('latin1');
      // What a login file prints comes before it; what is no number is nothing to send a signal to.
      if (!/^\d+$/.test(number)) number = undefined;
      return undefined;
    },
  });
  const stop = (abort: boolean) => {
    if (number === undefined) return running.stop(true);
    const kill = start(overSsh(host, ['kill', abort ? '-KILL' : '-TERM', number]), { take: () => undefined });
    const there = kill.ended.then(({ code }) => code === 0).catch(() => false);
    // Where that does not get through, there is nobody to wait for.
    void there.then((told) => {
      if (!told || abort) running.stop(true);
    });
    if (abort) running.stop(true);
  };
  return { ended: running.ended, stop };
}

/** Runs a command on a host to its end: how it ended, and what it said, of which only so much is kept. `input`: what it reads. */
export async function ask(
  host: string | undefined,
  command: Command,
  input?: AsyncIterable<Buffer>,
): Promise<Ended & { stdout: string; stderr: string }> {
  const said = { stdout: '', stderr: '' };
  const take: TakeLine = (line, stream) => {
    if (said[stream].length < MOST_SAID) said[stream] += `${line.toString()}\n`;
  };
  const running = start(host === undefined ? command : overSsh(host, command), { input, take });
  return { ...(await running.ended), ...said };
}

/** Characters of an answer that are kept. */
const MOST_SAID = 16 * 1024;

/** Whether a host still answers. */
export async function answers(host: string): Promise<boolean> {
  return (await ask(host, ['true'])).code === 0;
}

/** The command that runs words on a host. `options`: more of ssh's own. */
export function overSsh(host: string, words: readonly string[], options: readonly string[] = []): Command {
  return [...SSH, ...options.flatMap((option) => ['-o', option]), '--', host, words.map(quoted).join(' ')];
}
