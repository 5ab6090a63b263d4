/** A real browser, without a window: a page is opened in it, and something found out there. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { onTestFinished } from 'vitest';
import { scratch } from './rig.js';

const BROWSER = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) =>
  existsSync(path),
);
if (BROWSER === undefined) console.log('skip: no browser is here');

/** Whether there is none. */
export const noBrowser = BROWSER === undefined;

interface Message {
  id?: number;
  method?: string;
  params?: { exceptionDetails?: { text: string }; message?: string };
  result?: { targetId?: string; sessionId?: string; result?: { value?: unknown } };
  error?: { message: string };
}

/**
 * What an expression comes to in a page, once its promise is kept, and the errors that the page had by then. By the
 * DevTools protocol, through a pipe.
 */
export async function browse(
  url: string,
  expression: string,
  { dark = false, width = 400 } = {},
): Promise<{ value: unknown; errors: string[] }> {
  const own = scratch();
  const child = spawn(
    BROWSER as string,
    [
      ...['--headless', '--no-sandbox', '--disable-gpu', '--remote-debugging-pipe', `--window-size=${width},900`],
      ...[`--blink-settings=preferredColorScheme=${dark ? 0 : 1}`, `--user-data-dir=${own}`],
    ],
    // It leaves things where temporary files go.
    { env: { ...process.env, TMPDIR: own }, stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'] },
  );
  // All its processes have it, and some go on for a moment and write: it is closed when the last of them has ended.
  child.stderr?.resume();
  const gone = new Promise<void>((resolve) => child.on('close', () => resolve()));
  const end = async () => {
    child.kill('SIGKILL');
    await gone;
  };
  onTestFinished(end);
  const errors: string[] = [];
  const waiting = new Map<number, (message: Message) => void>();
  let rest = '';
  (child.stdio[4] as Readable).on('data', (part: Buffer) => {
    const lines = (rest + part.toString()).split('\0');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      const message = JSON.parse(line) as Message;
      if (message.id !== undefined) waiting.get(message.id)?.(message);
      if (message.method === 'Runtime.exceptionThrown') errors.push(message.params?.exceptionDetails?.text ?? line);
      if (message.method === 'Log.entryAdded') errors.push(line);
    }
  });
  let number = 0;
  const call = async (
    method: string,
    params: object = {},
    sessionId?: string,
  ): Promise<NonNullable<Message['result']>> => {
    number += 1;
    const id = number;
    const answered = new Promise<Message>((resolve, reject) => {
      waiting.set(id, resolve);
      void gone.then(() => reject(new Error(`the browser ended before it answered ${method}`)));
    });
    (child.stdio[3] as Writable).write(`${JSON.stringify({ id, method, params, ...(sessionId && { sessionId }) })}\0`);
    const { result, error } = await answered;
    if (error) throw new Error(`${method}: ${error.message}`);
    return result ?? {};
  };
  const { targetId } = await call('Target.createTarget', { url: 'about:blank' });
  const { sessionId } = await call('Target.attachToTarget', { targetId, flatten: true });
  for (const domain of ['Runtime', 'Log', 'Page']) await call(`${domain}.enable`, {}, sessionId);
  await call('Page.navigate', { url }, sessionId);
  // Until the page is there, what is evaluated may be lost with what was there before.
  const ready = `location.href !== 'about:blank' && document.readyState === 'complete'`;
  while ((await call('Runtime.evaluate', { expression: ready }, sessionId)).result?.value !== true);
  const { result } = await call('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true }, sessionId);
  await end();
  return { value: result?.value, errors };
}
