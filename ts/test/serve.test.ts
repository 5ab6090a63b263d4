/** The page of a job that is at work: who may see it, what it shows, and what can be changed from there. */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { type IncomingHttpHeaders, request } from 'node:http';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { browse, noBrowser } from './browser.js';
import { executable, run, scratch } from './rig.js';

interface Answer {
  code: number;
  text: string;
  headers: IncomingHttpHeaders;
}

/** One request, with any headers. */
function ask(
  url: URL,
  {
    headers = {},
    method = 'GET',
    body = '',
  }: { headers?: Record<string, string>; method?: string; body?: string } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request(url, { headers, method, agent: false }, (response) => {
      let text = '';
      response.on('data', (part: Buffer) => {
        text += part.toString();
      });
      response.on('end', () => resolve({ code: response.statusCode ?? 0, text, headers: response.headers }));
    });
    asked.on('error', reject);
    asked.end(body);
  });
}

/** A copy that is held by its limits until somebody lifts them, and its page. */
async function watched(more: readonly string[] = ['--jobs=1'], command = ['copy', 's/', 'd']) {
  const cwd = scratch();
  mkdirSync(join(cwd, 's'));
  for (let index = 0; index < 50; index += 1) writeFileSync(join(cwd, `s/<f>${index}`), Buffer.alloc(5000));
  mkdirSync(join(cwd, 'd/<f>7/x'), { recursive: true });
  const [name = '', ...operands] = command;
  const args = [name, '--no-journal', '--serve', '0', '--iops-limit', '3', ...more, ...operands];
  const child = spawn(process.execPath, [executable, ...args], { cwd, env: { ...process.env, TMPDIR: cwd } });
  onTestFinished(() => void child.kill('SIGKILL'));
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  let said = '';
  const url = await new Promise<URL>((resolve, reject) => {
    child.stderr.on('data', (part: Buffer) => {
      said += part.toString();
      const [, address] = /^to be watched at (\S+)$/m.exec(said) ?? [];
      if (address !== undefined) resolve(new URL(address));
    });
    void ended.then(() => reject(new Error(said)));
  });
  const wish = (told: object, headers: Record<string, string> = {}) =>
    ask(new URL('control', url), {
      ...{ method: 'POST', body: JSON.stringify(told) },
      headers: { 'Content-Type': 'application/json', ...headers },
    });
  return { url, ended, wish, child };
}

it('is seen by whoever has the address, and by nobody else', async () => {
  const { url, child, ended } = await watched();
  expect(url.hostname).toBe('127.0.0.1');
  const { code, text, headers } = await ask(url);
  expect(code).toBe(200);
  expect(text).toMatch(/^<!doctype html>[\s\S]*<h1>main.js copy --no-journal/);
  expect(headers['content-security-policy']).toContain("default-src 'none'");
  const other = new URL(url);
  other.pathname = `/${'x'.repeat(url.pathname.length - 2)}/`;
  expect((await ask(other)).code).toBe(404);
  expect((await ask(new URL('/', url))).code).toBe(404);
  expect((await ask(new URL('events/more', url))).code).toBe(404);
  // A name that somebody made to lead here, and a page from elsewhere.
  expect((await ask(url, { headers: { Host: `evil.example:${url.port}` } })).code).toBe(421);
  expect((await ask(url, { headers: { Origin: 'http://evil.example' } })).code).toBe(403);
  expect((await ask(url, { headers: { Host: `localhost:${url.port}` } })).code).toBe(200);
  // Nothing can be changed where nobody asked for that.
  expect((await ask(url, { method: 'POST' })).code).toBe(405);
  expect((await ask(new URL('control', url), { method: 'POST' })).code).toBe(405);
  child.kill('SIGTERM');
  expect(await ended).toBe(130);
});

it('shows each status, and the end', async () => {
  const { url, ended, wish } = await watched(['--jobs=1', '--serve-control']);
  const events = ask(new URL('events', url));
  expect((await wish({ wish: 'limit', bytes: 0, entries: 0 })).text).toBe('there is no limit\n');
  expect(await ended).toBe(23);
  const { text, headers } = await events;
  expect(headers['content-type']).toBe('text/event-stream');
  const all = text.trimEnd().split('\n\n');
  expect(all[0]).toMatch(/^event: message\ndata: "/);
  const [, data = ''] = /^event: end\ndata: (.*)$/.exec(all.at(-1) ?? '') ?? [];
  const state: string = JSON.parse(data);
  expect(state).toContain('INCOMPLETE: 1 of 51 entries failed (exit 23)');
  expect(state).toContain('<h3>conflict: 1</h3>');
  expect(state).toContain('&lt;f&gt;7');
});

it('takes what is wished for, where that was asked for, and from its own page only', async () => {
  const { ended, wish } = await watched(['--jobs=1', '--serve-control']);
  expect((await wish({ wish: 'stop' }, { Origin: 'http://evil.example' })).code).toBe(403);
  expect((await wish({ wish: 'stop' }, { 'Content-Type': 'text/plain' })).code).toBe(415);
  expect(await wish({ wish: 'pause' })).toMatchObject({ code: 200, text: 'it waits\n' });
  expect(await wish({ wish: 'go' })).toMatchObject({ code: 200, text: 'it goes on\n' });
  expect(await wish({ wish: 'limit', bytes: -1, entries: 0 })).toMatchObject({ code: 400 });
  expect(await wish({ wish: 'nothing' })).toMatchObject({ code: 400, text: 'nobody knows what is wished for\n' });
  expect(await wish({ wish: 'x'.repeat(5000) })).toMatchObject({ code: 413 });
  expect(await wish({ wish: 'stop' })).toMatchObject({ code: 200, text: 'it stops in good order\n' });
  expect(await ended).toBe(130);
});

it.each([
  ['hpcp', 's', 'e'],
  ['run-mirror', 's', 'e'],
  ['migrate_compress', '-s', 's', '-d', 'e'],
])('can be had of %s too', async (...command) => {
  const jobs = command[0] === 'migrate_compress' ? ['--workers=1'] : ['--jobs=1'];
  const { url, ended, wish } = await watched(['--serve-control', ...jobs], command);
  expect((await ask(url)).text).toContain(`<h1>main.js ${command[0]} --no-journal`);
  expect(await wish({ wish: 'stop' })).toMatchObject({ code: 200, text: 'it stops in good order\n' });
  expect(await ended).toBeGreaterThan(0);
});

it('waits for as long as somebody wants', async () => {
  const { url, ended, wish, child } = await watched(['--jobs=1', '--serve-control']);
  expect((await wish({ wish: 'pause' })).code).toBe(200);
  const done = async () => /entries done<\/dt><dd>([\d,]+)/.exec((await ask(url)).text)?.[1];
  // What was let through before has come to its end by the time that a status tells the same twice.
  const twice = async (): Promise<void> => {
    const before = await done();
    await new Promise((resolve) => child.stderr.once('data', resolve) && child.kill('SIGUSR1'));
    if (before === undefined || (await done()) !== before) return twice();
  };
  await twice();
  child.kill('SIGTERM');
  expect(await ended).toBe(130);
});

it.each([
  ['-1', 'not a port'],
  ['70000', 'not a port'],
  ['203.0.113.1:0', "can't be listened on"],
])('at %s is refused before anything is done', async (address, why) => {
  const cwd = scratch();
  writeFileSync(join(cwd, 'f'), 'f');
  const { code, stderr } = await run(['copy', `--serve=${address}`, 'f', 'd'], { cwd });
  expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining(why) });
  expect(existsSync(join(cwd, 'd'))).toBe(false);
});

it('says what control goes with', async () => {
  const { code, stderr } = await run(['copy', '--serve-control', 'f', 'd']);
  expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining('--serve-control goes with --serve') });
});

it.skipIf(noBrowser)('in a browser follows the job, and does what is pressed there', async () => {
  const { url, ended } = await watched(['--jobs=1', '--serve-control', '--bwlimit', '20K']);
  // The page came without numbers, or with those of its first moment.
  const { value, errors } = await browse(
    url.href,
    `new Promise((resolve) => {
      const look = () => {
        const text = document.querySelector('main').textContent;
        if (!/entries done[1-9]/.test(text)) return setTimeout(look, 20);
        document.querySelector('button[value=stop]').click();
        const answered = () => {
          const { textContent } = document.querySelector('output');
          return textContent === '' ? setTimeout(answered, 20) : resolve(textContent);
        };
        answered();
      };
      look();
    })`,
  );
  expect({ value, errors }).toEqual({ value: 'it stops in good order\n', errors: [] });
  expect(await ended).toBe(130);
});
