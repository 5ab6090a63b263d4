/**
 * A page of the job that is at work, for a browser of this machine.
 *
 * Comes in: the events of a job; goes out: over HTTP, a page that shows how far it is, each second anew (server-sent events).
 * Its address has a token in it that only whoever reads standard error knows; requests that come for another host or from
 * another page are refused; nothing but loopback is listened on unless an address says so. It reads only: what may be
 * changed (limits, a pause, the end in good order) is there when control was asked for. Memory is bounded: a browser that
 * is behind misses a status.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { BulkhaulError, whyOf } from '../error.js';
import { type Event, movedOf, type Report, type Snapshot } from '../events.js';
import type { Job } from '../ops/job.js';
import { sentenceOf } from '../verdict.js';
import { document, failures, Html, hostTable, html, speeds, tiles } from './markup.js';
import { DOING, type Progress, type View } from './progress.js';
import type { Reporter } from './reporter.js';
import { Failed, Speed } from './story.js';
import { bytes, count, duration, rate } from './units.js';

/** Where to listen, and whether the job may be changed from there. */
export interface ServeSettings {
  host: string;
  /** 0: any that is free. */
  port: number;
  control: boolean;
  /** What the job is, as its command says it. */
  title: string;
}

/** A short answer: its code, and its text. */
type Told = readonly [number, string];

/** Browsers that may look at once. */
const READERS = 16;
/** Bytes of a request that may change something. */
const REQUEST_BYTES = 4096;
/** Milliseconds that a browser has for the last status. */
const FAREWELL = 1000;
/** A pause: a byte and an entry in so long a time that nobody waits for it, and what is in flight waits too. */
const PAUSED = { bytes: 1e-3, entries: 1e-3 };

/** What the page does with what comes: it shows it. */
const SHOWING = `
const main = document.querySelector('main');
const events = new EventSource('events');
events.onmessage = (event) => { main.innerHTML = JSON.parse(event.data); };
events.addEventListener('end', (event) => { main.innerHTML = JSON.parse(event.data); events.close(); });
events.onerror = () => { document.body.dataset.lost = 'yes'; };
events.onopen = () => { delete document.body.dataset.lost; };
`;

/** And with what is pressed: it asks for it, and shows what came of it. */
const CHANGING = `
const form = document.querySelector('form');
form.addEventListener('submit', async (event) => {
  event.preventDefault();
  const told = { wish: event.submitter.value, bytes: Number(form.bytes.value), entries: Number(form.entries.value) };
  const headers = { 'Content-Type': 'application/json' };
  const answer = await fetch('control', { method: 'POST', headers, body: JSON.stringify(told) });
  form.querySelector('output').textContent = await answer.text();
});
`;

export class Serve implements Reporter {
  readonly every = 1000;
  readonly #token = randomBytes(18).toString('base64url');
  readonly #readers = new Set<ServerResponse>();
  readonly #speed = new Speed();
  readonly #failed = new Failed();
  #job: Pick<Job, 'cancel' | 'setLimits' | 'snapshot'> | undefined;
  #view: View | undefined;
  #end: { good: boolean; sentence: string } | undefined;
  /** The limits before a pause. */
  #before: Snapshot['limits'] | undefined;

  private constructor(
    readonly settings: ServeSettings,
    readonly progress: Progress,
    readonly server: Server,
  ) {
    server.on('request', (request, response) => this.#answer(request, response));
  }

  /** Listens. Throws `USAGE` where that can't be had. */
  static async open(settings: ServeSettings, progress: Progress): Promise<Serve> {
    const server = createServer({ maxHeaderSize: 8192, requestTimeout: 10_000 });
    const { host, port } = settings;
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) =>
        reject(new BulkhaulError('USAGE', `--serve: ${host}:${port} can't be listened on: ${whyOf(error)}`)),
      );
      server.listen({ host, port }, resolve);
    });
    // What keeps the process alive is the job.
    server.unref();
    return new Serve(settings, progress, server);
  }

  /** What a browser is to open. */
  get address(): string {
    const { address, family, port } = this.server.address() as AddressInfo;
    return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}/${this.#token}/`;
  }

  /** This is the job. */
  attach(job: Pick<Job, 'cancel' | 'setLimits' | 'snapshot'>): void {
    this.#job = job;
  }

  take(event: Event): void {
    switch (event.type) {
      case 'status':
        this.#view = this.progress.update(event);
        this.#speed.take({ elapsed: event.elapsed, entries: event.doneEntries }, movedOf(event));
        this.#send('message');
        break;
      case 'error':
        this.#failed.take(event);
        break;
      case 'summary':
        this.#over(event.complete, sentenceOf(event satisfies Report));
        break;
      default:
    }
  }

  refused(error: BulkhaulError): void {
    this.#over(false, error.message);
  }

  close(): void {
    this.server.close();
    for (const reader of this.#readers) reader.end();
    setTimeout(() => this.server.closeAllConnections(), FAREWELL).unref();
  }

  #over(good: boolean, sentence: string): void {
    this.#end = { good, sentence };
    this.#send('end');
  }

  #send(event: 'message' | 'end'): void {
    if (this.#readers.size === 0) return;
    const text = `event: ${event}\ndata: ${JSON.stringify(this.#state().text)}\n\n`;
    for (const reader of this.#readers) if (event === 'end' || !reader.writableNeedDrain) reader.write(text);
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const say = ([code, text]: Told) => {
      response.writeHead(code, { 'Content-Type': 'text/plain; charset=utf-8', Connection: 'close' });
      response.end(`${text}\n`);
    };
    const told = this.#route(request, response, say);
    // The rest of a request that comes after its answer would reset the connection, and with it what was not read yet.
    if (told) request.on('end', () => say(told)).resume();
  }

  /** Answers, now or by `say` later; what it returns is the answer. */
  #route(request: IncomingMessage, response: ServerResponse, say: (told: Told) => void): Told | undefined {
    const { host = '', origin } = request.headers;
    // A page of somebody else, whose name was made to lead here.
    if (!this.#isOurs(host)) return [421, 'this is another host'];
    if (origin !== undefined && origin !== `http://${host}`) return [403, 'this comes from another page'];
    const [, token = '', name, ...more] = (request.url ?? '').split('/');
    if (!same(token, this.#token) || name === undefined || more.length > 0) return [404, 'there is nothing'];
    if (name === 'control' && this.settings.control) {
      if (request.method !== 'POST') return [405, 'this is to be posted'];
      // Another page can't say this of what it sends without asking first.
      if (request.headers['content-type'] !== 'application/json') return [415, 'this has to be JSON'];
      this.#control(request, say);
      return undefined;
    }
    if (request.method !== 'GET') return [405, 'this can only be read'];
    if (name !== '' && name !== 'events') return [404, 'there is nothing'];
    if (name === '') this.#page(response);
    else if (this.#readers.size >= READERS) return [503, `${READERS} look already`];
    else this.#follow(response);
    return undefined;
  }

  #follow(response: ServerResponse): void {
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store', Connection: 'close' });
    response.on('close', () => this.#readers.delete(response));
    this.#readers.add(response);
    if (this.#job) this.take({ type: 'status', ...this.#job.snapshot() });
  }

  #isOurs(host: string): boolean {
    const { address, port } = this.server.address() as AddressInfo;
    const names = [address, `[${address}]`, this.settings.host, `[${this.settings.host}]`];
    if (['127.0.0.1', '::1', 'localhost'].includes(this.settings.host)) names.push('localhost');
    // Every address of this machine was asked for, whose names nobody knows: there is the token.
    if (address === '0.0.0.0' || address === '::') return true;
    return names.some((name) => host === `${name}:${port}`);
  }

  #page(response: ServerResponse): void {
    const { control, title } = this.settings;
    const script = control ? SHOWING + CHANGING : SHOWING;
    const hash = createHash('sha256').update(script).digest('base64');
    const form = control
      ? html`<form aria-label="Control"><label>bytes a second <input name="bytes" type="number" min="0" value="0"></label>
<label>entries a second <input name="entries" type="number" min="0" value="0"></label> <button value="limit">Limit</button>
<button value="pause">Pause</button> <button value="go">Go on</button> <button value="stop">Stop in good order</button>
<output></output></form>`
      : undefined;
    const body = html`<main>${this.#state()}</main>${form}<footer><p class="lost" role="status">The job does not answer any more.</p></footer>
<script>${new Html(script)}</script>`;
    response.writeHead(200, {
      'Content-Type': 'text/html; charset=utf-8',
      'Cache-Control': 'no-store',
      'Content-Security-Policy':
        `default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-${hash}'; connect-src 'self'; ` +
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
      'Referrer-Policy': 'no-referrer',
      'X-Content-Type-Options': 'nosniff',
      Connection: 'close',
    });
    response.end(document(`bulkhaul: ${title}`, body));
  }

  /** How it stands, as the inside of the page. */
  #state(): Html {
    const { title } = this.settings;
    const end = this.#end;
    const { snapshot, percent, left, average, rate: now } = this.#view ?? {};
    const doing = snapshot === undefined ? 'begins' : snapshot.stopping ? 'stops' : DOING[snapshot.phase] || 'at work';
    const state = end
      ? html`<p class="verdict ${end.good ? 'good' : 'bad'}"><strong>${end.good ? 'Done.' : 'Not complete.'}</strong> ${end.sentence}</p>`
      : html`<p class="verdict open"><strong>${percent === undefined ? doing : `${percent} %`}</strong> ${percent === undefined ? '' : doing}</p>`;
    const facts =
      snapshot &&
      tiles([
        ['files done', snapshot.doneFiles.toLocaleString('en-US')],
        ['entries done', snapshot.doneEntries.toLocaleString('en-US')],
        ['moved', bytes(movedOf(snapshot))],
        ['speed', now === undefined ? undefined : rate(now)],
        ['average', average === undefined ? undefined : rate(average)],
        ['time', duration(snapshot.elapsed)],
        ['left', left === undefined || end ? undefined : duration(left)],
        ['workers', count(snapshot.workers, 'worker')],
        ['parts', snapshot.parts?.toLocaleString('en-US')],
        ['failures', snapshot.errors.toLocaleString('en-US')],
      ]);
    return html`<header><p class="kind">bulkhaul</p><h1>${title}</h1>${state}</header>${facts}${speeds(this.#speed.stretches)}
${hostTable(snapshot?.hosts ?? [])}
${failures(this.#failed.kinds, 'The end of the run says where all of them are.')}`;
  }

  #control(request: IncomingMessage, say: (told: Told) => void): void {
    const parts: Buffer[] = [];
    let size = 0;
    request.on('data', (part: Buffer) => {
      size += part.length;
      if (size <= REQUEST_BYTES) parts.push(part);
    });
    request.on('end', () => {
      if (size > REQUEST_BYTES) {
        say([413, 'this is too much']);
        return;
      }
      try {
        say([200, this.#change(JSON.parse(Buffer.concat(parts).toString()))]);
      } catch (error) {
        say([400, (error as Error).message]);
      }
    });
  }

  /** Does what is wished for, and says so. Throws for what is no wish. */
  #change(told: unknown): string {
    const job = this.#job;
    if (job === undefined || this.#end) return 'there is no job at work';
    const { wish, bytes: most, entries } = told as { wish?: unknown; bytes?: unknown; entries?: unknown };
    switch (wish) {
      case 'stop':
        job.cancel();
        return 'it stops in good order';
      case 'pause':
        this.#before ??= job.snapshot().limits;
        job.setLimits(PAUSED);
        return 'it waits';
      case 'go':
        if (this.#before) job.setLimits(this.#before);
        this.#before = undefined;
        return 'it goes on';
      case 'limit': {
        const limits = { bytes: Number(most), entries: Number(entries) };
        job.setLimits(limits);
        this.#before = undefined;
        return limits.bytes + limits.entries === 0 ? 'there is no limit' : 'the limits hold';
      }
      default:
        throw new BulkhaulError('USAGE', 'nobody knows what is wished for');
    }
  }
}

/** Whether two texts are the same; how long it takes tells nothing of where they differ. */
function same(one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)];
  return a.length === b.length && timingSafeEqual(a, b);
}
