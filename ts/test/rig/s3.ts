/**
 * An S3 server on loopback, faithful in what a client can go wrong with, and faulty where a test wants it.
 *
 * Comes in: requests, with signatures that it checks (SigV4); goes out: what S3 answers. Bodies are held against their
 * SHA-256, their MD5, and, where `checks` says so, their CRC-64/NVME. Keys are exact. A plan says which request goes wrong, and
 * how. Only what the client uses is there.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';
import { onTestFinished } from 'vitest';

/** One request, as a plan sees it. */
export interface Ask {
  readonly method: string;
  readonly key: string;
  readonly query: URLSearchParams;
  /** So often this very request has come, this one included. */
  readonly nth: number;
}

/**
 * What goes wrong with a request: an error instead; the connection breaks before anything was done (`reset`) or after all
 * was (`lost`); a completion stores its first part only (`short`); a bit flips in the body before anybody looks (`up`) or in
 * the content on its way out (`down`); an answer ends in its middle (`cut`); a page says that there is more and not where
 * (`no-token`), comes again (`repeat`), is out of order (`disorder`), has nothing though there is more (`empty`), or says that there
 * is more where nothing is (`beyond`); an answer goes on until nobody reads it (`endless`).
 */
export type Fault =
  | { readonly status: number; readonly code: string }
  | 'reset'
  | 'lost'
  | 'short'
  | 'up'
  | 'down'
  | 'cut'
  | 'no-token'
  | 'repeat'
  | 'disorder'
  | 'empty'
  | 'beyond'
  | 'endless';

interface Stored {
  body: Buffer;
  headers: Record<string, string>;
  etag: string;
  written: Date;
}

export interface S3Settings {
  /** `hash`: as Ceph, which does not look at a CRC; `crc`: that too; `nothing`: no sum is looked at. Default `crc`. */
  checks?: 'hash' | 'crc' | 'nothing';
  /** Keys of a page. Default 1000. */
  page?: number;
  /** Whether keys of a listing are encoded where that is asked for. Default true. */
  encodes?: boolean;
  /** So many empty objects more, below `many/`, that a listing without a delimiter has, alone, and that stay whatever removes them. Default 0. */
  many?: number;
  /** Their names, in order. Default: seven digits. */
  named?: (index: number) => string;
  /** As Google: what is kept packed (`content-encoding: gzip`) is unpacked for whoever does not take that, and a header about it is rewritten on its way. Default false. */
  unpacks?: boolean;
  /** The one bucket. Default `b`. */
  bucket?: string;
  /** Key and certificate (PEM) of a server that speaks TLS. Default: none. */
  tls?: { key: string; cert: string } | undefined;
}

export const KEY = 'AKIDEXAMPLE';
export const SECRET = 'a-secret/that+nobody+may+see';

/** A server, until the test ends. */
export async function s3(settings: S3Settings = {}): Promise<S3> {
  const server = new S3(settings);
  await server.listen();
  onTestFinished(() => server.close());
  return server;
}

export class S3 {
  /** By their keys. */
  readonly objects = new Map<string, Stored>();
  /** Uploads that were begun and not ended. */
  readonly uploads = new Map<
    string,
    { key: string; headers: Record<string, string>; parts: Map<number, Buffer>; begun: Date }
  >();
  /** All requests, as `METHOD URL`. */
  readonly asked: string[] = [];
  /** Stretches of objects that were asked for. */
  readonly ranges: { key: string; bytes: number }[] = [];
  /** Keys that many were removed with. */
  removed = 0;
  /** Bytes of answers that did not end. */
  endless = 0;
  /** Names of all headers that came. */
  readonly headers = new Set<string>();
  /** What becomes of a key that many are removed with: it stays, and that is said, or is not. */
  removes: (key: string) => 'refused' | 'silent' | undefined = () => undefined;
  /** What goes wrong. */
  plan: (ask: Ask) => Fault | undefined = () => undefined;
  readonly #settings: Required<Omit<S3Settings, 'tls'>>;
  readonly #counts = new Map<string, number>();
  readonly #server: Server;
  readonly #scheme: string;
  #uploads = 0;

  constructor(settings: S3Settings) {
    const { checks = 'crc', page = 1000, encodes = true, many = 0, unpacks = false, bucket = 'b', tls } = settings;
    const { named = (index) => String(index).padStart(7, '0') } = settings;
    const serve = (request: IncomingMessage, response: ServerResponse) => void this.#serve(request, response);
    this.#server = tls ? createSecureServer(tls, serve) : createServer(serve);
    this.#scheme = tls ? 'https' : 'http';
    this.#settings = { checks, page, encodes, many, named, unpacks, bucket };
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
  }

  close(): Promise<void> {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }

  /** Whoever is connected is not any more: of what they have sent nothing more is done. */
  cut(): void {
    this.#server.closeAllConnections();
  }

  get endpoint(): string {
    return `${this.#scheme}://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** What a client needs to know, as the environment of a command. */
  get env(): NodeJS.ProcessEnv {
    return {
      AWS_ENDPOINT_URL: this.endpoint,
      AWS_ACCESS_KEY_ID: KEY,
      AWS_SECRET_ACCESS_KEY: SECRET,
      AWS_CA_BUNDLE: '',
      AWS_PROFILE: '',
    };
  }

  /** Puts an object in. */
  put(key: string, body: string | Buffer, headers: Record<string, string> = {}, written = new Date(2020, 0, 1)): void {
    const bytes = Buffer.from(body);
    this.objects.set(key, { body: bytes, headers, etag: md5(bytes).toString('hex'), written });
  }

  /** Keys and contents, in order. */
  get contents(): Record<string, string> {
    return Object.fromEntries(this.keys.map((key) => [key, this.objects.get(key)?.body.toString() ?? '']));
  }

  get keys(): string[] {
    const keys = [...this.objects.keys()].map((key) => Buffer.from(key));
    return keys.sort(Buffer.compare).map(String);
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<undefined> {
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of request) chunks.push(chunk as Buffer);
    } catch {
      return;
    }
    const { method = '', url = '' } = request;
    this.asked.push(`${method} ${url}`);
    for (const name of Object.keys(request.headers)) this.headers.add(name);
    const nth = (this.#counts.get(`${method} ${url}`) ?? 0) + 1;
    this.#counts.set(`${method} ${url}`, nth);
    const [path = '', search = ''] = url.split('?');
    const query = new URLSearchParams(search);
    const [, bucket = '', ...rest] = path.split('/');
    const key = decodeURIComponent(rest.join('/'));
    const fault = this.plan({ method, key, query, nth });
    if (fault === 'reset') return broken(request);
    if (fault === 'endless') return this.#goOn(response);
    if (typeof fault === 'object') return refuse(response, fault.status, fault.code);
    let body: Buffer = Buffer.concat(chunks);
    if (fault === 'up' && body.length > 0) body = flipped(body);
    // As Ceph has it, of an empty body too.
    if (['PUT', 'POST'].includes(method) && header(request, 'content-length') === '')
      return refuse(response, 411, 'MissingContentLength');
    if (!isSigned(request, path, query)) return refuse(response, 403, 'SignatureDoesNotMatch');
    const wrong = this.#wrong(request, body);
    if (wrong !== undefined) return refuse(response, 400, wrong);
    if (bucket !== this.#settings.bucket) return refuse(response, 404, 'NoSuchBucket');
    if (fault === 'lost') {
      // Nobody hears of it.
      this.#act(request, nowhere(), method, key, query, body, undefined);
      return broken(request);
    }
    this.#act(request, response, method, key, query, body, fault);
  }

  #goOn(response: ServerResponse): undefined {
    const piece = Buffer.alloc(1 << 20, ' ');
    const more = (): void => {
      if (response.destroyed) return;
      this.endless += piece.length;
      response.write(piece, more);
    };
    response.writeHead(200);
    more();
  }

  #wrong(request: IncomingMessage, body: Buffer): string | undefined {
    const { checks } = this.#settings;
    if (checks === 'nothing') return undefined;
    const hash = header(request, 'x-amz-content-sha256');
    if (hash !== 'UNSIGNED-PAYLOAD' && hash !== sha256(body)) return 'XAmzContentSHA256Mismatch';
    const sum = header(request, 'content-md5');
    if (sum !== '' && sum !== md5(body).toString('base64')) return 'BadDigest';
    const crc = header(request, 'x-amz-checksum-crc64nvme');
    if (checks === 'crc' && crc !== '' && crc !== crc64(body)) return 'BadDigest';
    return undefined;
  }

  #act(
    request: IncomingMessage,
    response: ServerResponse,
    method: string,
    key: string,
    query: URLSearchParams,
    body: Buffer,
    fault: Fault | undefined,
  ): undefined {
    if (method === 'GET' && key === '' && query.has('uploads')) return this.#listUploads(response, query);
    if (method === 'GET' && key === '') return this.#list(response, query, fault);
    if (method === 'POST' && query.has('delete')) return this.#deleteMany(response, body);
    if (method === 'POST' && query.has('uploads')) return this.#beginUpload(response, key, request);
    if (query.has('uploadId')) return this.#upload(response, method, key, query, body, fault);
    if (method === 'DELETE') {
      this.objects.delete(key);
      return answer(response, 204, '');
    }
    const source = header(request, 'x-amz-copy-source');
    if (method === 'PUT' && source !== '') {
      const from = this.objects.get(decodeURIComponent(source).replace(/^\/[^/]*\//, ''));
      if (from === undefined) return refuse(response, 404, 'NoSuchKey');
      this.objects.set(key, { ...from, written: new Date() });
      return answer(response, 200, '<CopyObjectResult><ETag>"x"</ETag></CopyObjectResult>');
    }
    if (method === 'PUT') {
      this.put(key, body, this.#kept(request, body), new Date());
      return answer(response, 200, '', { etag: `"${md5(body).toString('hex')}"` });
    }
    const found = this.objects.get(key);
    if (found === undefined) return refuse(response, 404, 'NoSuchKey');
    if (this.#settings.unpacks && found.headers['content-encoding'] === 'gzip') {
      if (header(request, 'authorization').includes('accept-encoding'))
        return refuse(response, 403, 'SignatureDoesNotMatch');
      if (header(request, 'accept-encoding') !== 'gzip') return answer(response, 200, gunzipSync(found.body));
    }
    const condition = header(request, 'if-match');
    if (condition !== '' && condition !== `"${found.etag}"`) return refuse(response, 412, 'PreconditionFailed');
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(header(request, 'range')) ?? [];
    if (from !== undefined) this.ranges.push({ key, bytes: Number(to) - Number(from) + 1 });
    const { 'x-amz-checksum-crc64nvme': crc, ...metadata } = found.headers;
    const headers: Record<string, string> = {
      ...metadata,
      etag: `"${found.etag}"`,
      'last-modified': found.written.toUTCString(),
      ...(crc !== undefined && from === undefined && { 'x-amz-checksum-crc64nvme': crc }),
    };
    const content = fault === 'down' ? flipped(found.body) : found.body;
    if (method === 'HEAD') {
      response.writeHead(200, { ...headers, 'content-length': found.body.length });
      response.end();
    } else if (from !== undefined && to !== undefined) {
      headers['content-range'] = `bytes ${from}-${to}/${found.body.length}`;
      answer(response, 206, content.subarray(Number(from), Number(to) + 1), headers);
    } else answer(response, 200, content, headers);
  }

  /** What is kept with an object: its metadata, and the sum that a server which checks it vouches for. */
  #kept(request: IncomingMessage, body: Buffer): Record<string, string> {
    const sum: Record<string, string> =
      this.#settings.checks === 'crc' ? { 'x-amz-checksum-crc64nvme': crc64(body) } : {};
    return { ...kept(request), ...sum };
  }

  #list(response: ServerResponse, query: URLSearchParams, fault: Fault | undefined): undefined {
    const { page, encodes } = this.#settings;
    const prefix = query.get('prefix') ?? '';
    if (this.#settings.many > 0 && prefix === 'many/') return this.#listMany(response, query);
    const delimiter = query.get('delimiter') ?? '';
    const below = this.keys.filter((key) => key.startsWith(prefix));
    // With a delimiter, what is below a directory stands for it.
    const shared = new Set<string>();
    const keys = below.flatMap((key) => {
      const end = delimiter === '' ? -1 : key.indexOf(delimiter, prefix.length);
      const name = end < 0 ? key : key.slice(0, end + 1);
      if (end >= 0 && shared.has(name)) return [];
      if (end >= 0) shared.add(name);
      return [name];
    });
    // A token is where the page before it ended: what comes or goes before that changes nothing behind it.
    const after = query.get('continuation-token');
    const behind = Buffer.from(after ?? '', 'hex');
    const rest =
      after === null || fault === 'repeat' ? keys : keys.filter((key) => Buffer.compare(Buffer.from(key), behind) > 0);
    const encoded = encodes && query.get('encoding-type') === 'url';
    const taken = rest.slice(0, fault === 'empty' ? 0 : page);
    // Another token for the same place, where nothing was listed.
    const last = fault === 'empty' ? `${after ?? ''}-` : Buffer.from(taken.at(-1) ?? '').toString('hex');
    if (fault === 'disorder') taken.reverse();
    const items = taken.map((key) => {
      if (shared.has(key))
        return `<CommonPrefixes><Prefix>${encoded ? encodeURIComponent(key) : escaped(key)}</Prefix></CommonPrefixes>`;
      const { body, etag, written } = this.objects.get(key) as Stored;
      const name = encoded ? encodeURIComponent(key).replaceAll('%20', '+') : escaped(key);
      return `<Contents><Key>${name}</Key><LastModified>${written.toISOString()}</LastModified><ETag>&quot;${etag}&quot;</ETag><Size>${body.length}</Size></Contents>`;
    });
    const more = rest.length > page || fault === 'empty' || fault === 'beyond';
    const token = more && fault !== 'no-token' ? `<NextContinuationToken>${last}</NextContinuationToken>` : '';
    const xml = `<?xml version="1.0"?><ListBucketResult>${encoded ? '<EncodingType>url</EncodingType>' : ''}<IsTruncated>${more}</IsTruncated>${token}${items.join('')}</ListBucketResult>`;
    answer(response, 200, fault === 'cut' ? xml.slice(0, xml.length / 2) : xml);
  }

  #listMany(response: ServerResponse, query: URLSearchParams): undefined {
    const { page, many, named } = this.#settings;
    const start = Number(query.get('continuation-token') ?? 0);
    const end = Math.min(start + page, many);
    const items = Array.from(
      { length: end - start },
      (_, index) =>
        `<Contents><Key>many/${named(start + index)}</Key><LastModified>2020-01-01T00:00:00.000Z</LastModified><ETag>&quot;x&quot;</ETag><Size>0</Size></Contents>`,
    );
    const token = end < many ? `<NextContinuationToken>${end}</NextContinuationToken>` : '';
    answer(
      response,
      200,
      `<ListBucketResult><IsTruncated>${end < many}</IsTruncated>${token}${items.join('')}</ListBucketResult>`,
    );
  }

  #deleteMany(response: ServerResponse, body: Buffer): undefined {
    const keys = [...body.toString().matchAll(/<Key>([^<]*)<\/Key>/g)].map(([, key = '']) => key);
    const said = keys.map((key) => {
      this.removed += 1;
      const fate = this.removes(unescaped(key));
      if (fate === 'silent') return '';
      if (fate === 'refused') return `<Error><Key>${key}</Key><Code>AccessDenied</Code><Message>no</Message></Error>`;
      this.objects.delete(unescaped(key));
      return `<Deleted><Key>${key}</Key></Deleted>`;
    });
    answer(response, 200, `<DeleteResult>${said.join('')}</DeleteResult>`);
  }

  #beginUpload(response: ServerResponse, key: string, request: IncomingMessage): undefined {
    const algorithm = header(request, 'x-amz-checksum-algorithm');
    const headers = { ...kept(request), ...(algorithm !== '' && { 'x-amz-checksum-algorithm': algorithm }) };
    this.#uploads += 1;
    const id = `upload-${this.#uploads}`;
    this.uploads.set(id, { key, headers, parts: new Map(), begun: new Date() });
    answer(response, 200, `<InitiateMultipartUploadResult><UploadId>${id}</UploadId></InitiateMultipartUploadResult>`);
  }

  /** In pages of two. */
  #listParts(response: ServerResponse, query: URLSearchParams, parts: Map<number, Buffer>): undefined {
    const after = Number(query.get('part-number-marker') ?? 0);
    const numbers = [...parts.keys()].sort((a, b) => a - b).filter((number) => number > after);
    const items = numbers.slice(0, 2).map((number) => {
      const part = parts.get(number) ?? Buffer.alloc(0);
      const sum = this.#settings.checks === 'crc' ? `<ChecksumCRC64NVME>${crc64(part)}</ChecksumCRC64NVME>` : '';
      return `<Part><PartNumber>${number}</PartNumber><ETag>&quot;${md5(part).toString('hex')}&quot;</ETag><Size>${part.length}</Size>${sum}</Part>`;
    });
    const next = numbers.length > 2 ? `<NextPartNumberMarker>${numbers[1]}</NextPartNumberMarker>` : '';
    answer(
      response,
      200,
      `<ListPartsResult><IsTruncated>${next !== ''}</IsTruncated>${next}${items.join('')}</ListPartsResult>`,
    );
  }

  #listUploads(response: ServerResponse, query: URLSearchParams): undefined {
    const items = [...this.uploads].flatMap(([id, { key, begun }]) =>
      key.startsWith(query.get('prefix') ?? '')
        ? `<Upload><Key>${encodeURIComponent(key)}</Key><UploadId>${id}</UploadId><Initiated>${begun.toISOString()}</Initiated></Upload>`
        : '',
    );
    answer(
      response,
      200,
      `<ListMultipartUploadsResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>${items.join('')}</ListMultipartUploadsResult>`,
    );
  }

  #upload(
    response: ServerResponse,
    method: string,
    key: string,
    query: URLSearchParams,
    body: Buffer,
    fault: Fault | undefined,
  ): undefined {
    const id = query.get('uploadId') ?? '';
    const upload = this.uploads.get(id);
    if (upload === undefined || upload.key !== key) return refuse(response, 404, 'NoSuchUpload');
    if (method === 'GET') return this.#listParts(response, query, upload.parts);
    if (method === 'PUT') {
      upload.parts.set(Number(query.get('partNumber')), body);
      return answer(response, 200, '', { etag: `"${md5(body).toString('hex')}"` });
    }
    this.uploads.delete(id);
    if (method === 'DELETE') return answer(response, 204, '');
    const parts = [
      ...body
        .toString()
        .matchAll(/<PartNumber>(\d+)<\/PartNumber><ETag>([^<]*)<\/ETag>(?:<ChecksumCRC64NVME>([^<]*)<)?/g),
    ];
    const bodies = parts.map(([, number]) => upload.parts.get(Number(number)));
    // An upload that was begun with sums is completed with them.
    const summed = upload.headers['x-amz-checksum-algorithm'] !== undefined;
    const isRight = (part: Buffer | undefined, [, , tag, sum]: readonly (string | undefined)[]) =>
      part !== undefined && tag === `"${md5(part).toString('hex')}"` && (!summed || sum === crc64(part));
    if (!bodies.every((part, index) => isRight(part, parts[index] ?? []))) return refuse(response, 400, 'InvalidPart');
    const all = Buffer.concat((fault === 'short' ? bodies.slice(0, 1) : bodies) as Buffer[]);
    const headers: Record<string, string> =
      this.#settings.checks === 'crc' ? { 'x-amz-checksum-crc64nvme': crc64(all) } : {};
    this.put(key, all, { ...upload.headers, ...headers }, new Date());
    answer(response, 200, '<CompleteMultipartUploadResult><ETag>"x-2"</ETag></CompleteMultipartUploadResult>');
  }
}

const header = (request: IncomingMessage, name: string) => String(request.headers[name] ?? '');
const sha256 = (text: string | Buffer) => createHash('sha256').update(text).digest('hex');
const md5 = (bytes: Buffer) => createHash('md5').update(bytes).digest();
const escaped = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
const unescaped = (text: string) => text.replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&');

/** What is kept with an object: metadata, and what is said of it. */
function kept(request: IncomingMessage): Record<string, string> {
  const isKept = (name: string) => /^(x-amz-meta-|x-amz-storage-class$|content-(?!length)|cache-control$)/.test(name);
  const headers = Object.entries(request.headers).filter(([name]) => isKept(name));
  return Object.fromEntries(headers.map(([name, value]) => [name, String(value)]));
}

/** With one bit that is another. */
export function flipped(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  const middle = copy.length >> 1;
  copy[middle] = (copy[middle] ?? 0) ^ 1;
  return copy;
}

function answer(response: ServerResponse, status: number, body: string | Buffer, headers = {}): undefined {
  const bytes = Buffer.from(body);
  response.writeHead(status, { ...headers, ...(status !== 204 && { 'content-length': bytes.length }) });
  response.end(bytes);
}

function refuse(response: ServerResponse, status: number, code: string): undefined {
  answer(response, status, `<Error><Code>${code}</Code><Message>as planned</Message></Error>`);
}

function broken(request: IncomingMessage): undefined {
  request.socket.destroy();
}

/** Takes an answer that nobody gets. */
function nowhere(): ServerResponse {
  return { writeHead: () => undefined, end: () => undefined } as unknown as ServerResponse;
}

/** Whether a signature is right, by the AWS documentation (Signature Version 4, header form). */
function isSigned(request: IncomingMessage, path: string, query: URLSearchParams): boolean {
  const [, scope = '', names = '', signature = ''] =
    /^AWS4-HMAC-SHA256 Credential=[^/]+\/([^,]+), SignedHeaders=([^,]+), Signature=(\w{64})$/.exec(
      header(request, 'authorization'),
    ) ?? [];
  const strict = (text: string) =>
    encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
  const pairs = [...query].map(([name, value]) => `${strict(name)}=${strict(value)}`).sort();
  const headers = names.split(';').map((name) => `${name}:${header(request, name).trim()}\n`);
  const hash = header(request, 'x-amz-content-sha256');
  const canonical = [request.method, path, pairs.join('&'), headers.join(''), names, hash].join('\n');
  const text = ['AWS4-HMAC-SHA256', header(request, 'x-amz-date'), scope, sha256(canonical)].join('\n');
  const hmac = (key: string | Buffer, part: string) => createHmac('sha256', key).update(part).digest();
  const key = scope.split('/').reduce<string | Buffer>((secret, part) => hmac(secret, part), `AWS4${SECRET}`);
  const expected = hmac(key, text).toString('hex');
  return signature.length === expected.length && timingSafeEqual(Buffer.from(signature), Buffer.from(expected));
}

/** The table of CRC-64/NVME (polynomial 0xAD93D23594C93659, reflected), as halves. */
const TABLE = Array.from({ length: 256 }, (_, byte) => {
  let crc = BigInt(byte);
  for (let bit = 0; bit < 8; bit += 1) crc = (crc >> 1n) ^ (crc & 1n ? 0x9a6c9329ac4bc9b5n : 0n);
  return [Number(crc >> 32n), Number(crc & 0xffffffffn)] as const;
});

/** A CRC-64/NVME as headers of S3 have it. */
export function crc64(bytes: Buffer): string {
  let [high, low] = [0xffffffff, 0xffffffff];
  for (const byte of bytes) {
    const [tableHigh, tableLow] = TABLE[(low ^ byte) & 0xff] as readonly [number, number];
    low = ((low >>> 8) | (high << 24)) ^ tableLow;
    high = (high >>> 8) ^ tableHigh;
  }
  const sum = Buffer.alloc(8);
  sum.writeUInt32BE(~high >>> 0, 0);
  sum.writeUInt32BE(~low >>> 0, 4);
  return sum.toString('base64');
}
