/**
 * Azurite, Microsoft's own server that speaks as Azure does, on loopback until the test ends, with one container, behind
 * a front that sees each request, looks at sums as Azure does where a test wants it, and lets requests go wrong. `undefined` where
 * `scripts/setup --tests` did not install it, and that is printed.
 */
import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse, request as send } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import { freePort, scratch } from '../rig.js';
import { crc64, flipped } from './s3.js';

const PROGRAM = fileURLToPath(new URL('../../../.setup/azurite/node_modules/.bin/azurite-blob', import.meta.url));
/** The account that every Azurite has, and its key: no secret. */
const ACCOUNT = 'devstoreaccount1';
const ACCOUNT_KEY = 'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==';

/** One request, as a plan sees it. */
export interface Ask {
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  /** So often this very request has come, this one included. */
  readonly nth: number;
}

/**
 * What goes wrong with a request: the connection breaks before anything was done (`reset`) or after all was (`lost`); a bit
 * flips in the body before the server looks (`up`); an answer ends in its middle (`cut`).
 */
export type Fault = 'reset' | 'lost' | 'up' | 'cut';

/**
 * What becomes of a request with a CRC-64/NVME: Azurite takes any (`ignored`) or refuses the header (`refused`); `checked`: it
 * is held against the body, as Azure does it. An MD5 is checked always.
 */
export type Sums = 'ignored' | 'refused' | 'checked';

export interface Azurite {
  /** What a client needs to know, as the environment of a command. The container is `container`. */
  readonly env: NodeJS.ProcessEnv;
  /** All requests, as `METHOD URL`. */
  readonly asked: string[];
  /** Names of the headers with a sum that came with contents, but for the question what is checked. */
  readonly sums: Set<string>;
  /** What goes wrong. */
  plan: (ask: Ask) => Fault | undefined;
  /** Resolves when the server has done all that it was asked for. */
  idle: () => Promise<void>;
}

export async function azurite(sums: Sums = 'ignored'): Promise<Azurite | undefined> {
  const port = await freePort();
  const args = ['--silent', '--inMemoryPersistence', '--skipApiVersionCheck', '--blobHost', '127.0.0.1'];
  const manner = sums === 'refused' ? [] : ['--loose'];
  const server = spawn(PROGRAM, [...args, ...manner, '--blobPort', String(port)], { stdio: 'ignore', cwd: scratch() });
  const gone = new Promise<void>((resolve) => server.on('error', () => resolve()).on('close', () => resolve()));
  onTestFinished(async () => {
    server.kill('SIGKILL');
    await gone;
  });
  let ended = false;
  void gone.then(() => {
    ended = true;
  });
  const own = `http://127.0.0.1:${port}/${ACCOUNT}`;
  const answers = () =>
    fetch(own).then(
      () => true,
      () => false,
    );
  while (!ended && !(await answers())) await sleep(100);
  if (ended) {
    console.log('skip: Azurite is not installed');
    return undefined;
  }
  await makeContainer(own);
  const front = new Front(port, sums === 'checked');
  await front.listen();
  onTestFinished(() => front.close());
  return front;
}

async function makeContainer(endpoint: string): Promise<void> {
  const headers = { 'x-ms-date': new Date().toUTCString(), 'x-ms-version': '2021-08-06' };
  const named = Object.entries(headers).map(([name, value]) => `${name}:${value}\n`);
  const resource = `/${ACCOUNT}/${ACCOUNT}/container\nrestype:container`;
  const text = `PUT${'\n'.repeat(12)}${named.join('')}${resource}`;
  const signature = createHmac('sha256', Buffer.from(ACCOUNT_KEY, 'base64')).update(text).digest('base64');
  const made = await fetch(`${endpoint}/container?restype=container`, {
    method: 'PUT',
    headers: { ...headers, authorization: `SharedKey ${ACCOUNT}:${signature}` },
  });
  if (made.status !== 201) throw new Error(`no container: ${made.status} ${await made.text()}`);
}

/** Stands before a server. */
class Front implements Azurite {
  readonly asked: string[] = [];
  readonly sums = new Set<string>();
  plan: (ask: Ask) => Fault | undefined = () => undefined;
  readonly #port: number;
  readonly #checks: boolean;
  readonly #counts = new Map<string, number>();
  readonly #pending = new Set<Promise<void>>();
  readonly #server = createServer((request, response) => {
    const served = this.#serve(request, response);
    this.#pending.add(served);
    void served.finally(() => this.#pending.delete(served));
  });

  constructor(port: number, checks: boolean) {
    this.#port = port;
    this.#checks = checks;
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
  }

  close(): Promise<void> {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }

  get env(): NodeJS.ProcessEnv {
    const endpoint = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/${ACCOUNT}`;
    return {
      AZURE_STORAGE_CONNECTION_STRING: `DefaultEndpointsProtocol=http;AccountName=${ACCOUNT};AccountKey=${ACCOUNT_KEY};BlobEndpoint=${endpoint};`,
      AZURE_STORAGE_ACCOUNT: '',
      AZURE_STORAGE_KEY: '',
      AZURE_STORAGE_SAS_TOKEN: '',
    };
  }

  async idle(): Promise<void> {
    while (this.#pending.size > 0) await Promise.all(this.#pending);
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of request) chunks.push(chunk as Buffer);
    } catch {
      return;
    }
    const { method = '', url = '' } = request;
    this.asked.push(`${method} ${url}`);
    const named = ['x-ms-content-crc64', 'content-md5'].filter((name) => request.headers[name] !== undefined);
    for (const name of url.includes('.bulkhaul-probe-') ? [] : named) this.sums.add(name);
    const nth = (this.#counts.get(`${method} ${url}`) ?? 0) + 1;
    this.#counts.set(`${method} ${url}`, nth);
    const fault = this.plan({ method, url, nth });
    if (fault === 'reset') {
      request.socket.destroy();
      return;
    }
    const whole = Buffer.concat(chunks);
    const body = fault === 'up' && whole.length > 0 ? flipped(whole) : whole;
    const sum = request.headers['x-ms-content-crc64'];
    // The same sum as that of S3, the other end first.
    if (this.#checks && sum !== undefined && sum !== reversed(crc64(body))) {
      const text = '<?xml version="1.0"?><Error><Code>Crc64Mismatch</Code><Message>as planned</Message></Error>';
      response.writeHead(400, { 'content-type': 'application/xml', 'content-length': text.length }).end(text);
      return;
    }
    const [answer, content] = await this.#forward(request, body);
    if (fault === 'lost') {
      request.socket.destroy();
      return;
    }
    response.writeHead(answer.statusCode ?? 500, answer.rawHeaders);
    if (fault === 'cut') response.write(content.subarray(0, content.length >> 1), () => request.socket.destroy());
    else response.end(content);
  }

  #forward({ method, url, rawHeaders }: IncomingMessage, body: Buffer): Promise<[IncomingMessage, Buffer]> {
    return new Promise((resolve, reject) => {
      const to = { host: '127.0.0.1', port: this.#port, agent: false } as const;
      const asked = send({ ...to, method, path: url, headers: rawHeaders });
      asked.on('error', reject).on('response', async (answer) => {
        const chunks: Buffer[] = [];
        for await (const chunk of answer) chunks.push(chunk as Buffer);
        resolve([answer, Buffer.concat(chunks)]);
      });
      asked.end(body);
    });
  }
}

const reversed = (sum: string) => Buffer.from(sum, 'base64').reverse().toString('base64');
