/**
 * A disk or an object store, file by file: one interface for both.
 *
 * Comes in: a URL or the word for a kind of place; goes out: a `FileSystem`. What is brought over, copied or removed goes
 * through jobs, with all that they promise; contents that are read and written as streams go through the stores themselves:
 * what is written appears when its stream has finished, and not before.
 */
import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, mkdir, readdir, rename, stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { BulkhaulError, unfit } from './error.js';
import type { Report } from './events.js';
import { fromBytes, toBytes } from './names.js';
import type { ObjectHeaders, StoreRequests } from './native/options.js';
import { type FileEntry, loadStores, type NativeFiles, type NativeFileWriter } from './native.js';
import { type MaxDelete, record } from './ops/arguments.js';
import { copyMapped } from './ops/copy.js';
import { ASKING, type Asking, accessTo, HEADERS, headersAt, REQUESTS, STORE, whereabouts } from './ops/places.js';
import { remove } from './ops/remove.js';
import { removeBelow } from './ops/retain.js';
import { listStore, syncDir, syncFiles } from './ops/sync.js';
import { copied, placed, split } from './pairs.js';
import type { StoreSettings } from './stores/access.js';
import { isHere, isUrl, type Located, locate, serviceOf, urlOf } from './stores/urls.js';

/** Options of `filesystem`. */
export interface FileSystemOptions extends Asking {
  /** How the store is reached. Default: as `environment` says. */
  store?: StoreSettings;
  /** What is said of each object that is written: see `syncDir`. Default: its type. */
  headers?: ObjectHeaders;
  /** How requests go. Default: as `StoreRequests` has it. */
  requests?: StoreRequests;
}

/** What is known of a file or directory. */
export interface FileInfo {
  /** As the methods take it. That of a directory has no slash at its end. */
  name: string;
  /** What it is. */
  type: 'file' | 'directory';
  /** Bytes; 0 of a directory. */
  size: number;
  /** Its last change: in a listing of a store, when it was written. Absent: a directory of a store has none. */
  modified?: Date;
  /** What changes when the content does. Absent: the place does not say. */
  tag?: string;
}

/** Some bytes of a content. */
export interface Range {
  /** Offset of the first, in bytes. Default 0. */
  start?: number;
  /** Offset of the one after the last, in bytes. Default: where the content ends. */
  end?: number;
}

/** What is told of a content that is written. */
export interface Written {
  /** Its last change, where the place can keep one. Default: when it is written. */
  modified?: Date;
}

/** How much may go. */
export interface Guarded {
  /** Remove nothing when it would be more entries than this, or more than this part of those that are there: `'5%'`. Default: no limit. */
  maxDelete?: MaxDelete;
}

/** How much is meant. */
export interface Scope {
  /** A directory, with all that is in it. Default false: one file. */
  recursive?: boolean;
}

const OPTIONS = record<FileSystemOptions>({ ...ASKING, store: STORE, headers: HEADERS, requests: REQUESTS });

/**
 * Opens a disk or an object store. `s3://BUCKET/PREFIX`, `gs:`, `az:`, `sftp://HOST/PATH`, `rclone:REMOTE:PATH` and
 * `/DIRECTORY`: names are relative to it. `s3`, `gs` and `az`: names are `BUCKET/KEY`. `file`: names are paths. Nothing is asked yet.
 *
 * @example
 * ```js
 * import { filesystem } from 'bulkhaul';
 *
 * const archive = filesystem('s3://archive', { environment: process.env });
 * await archive.put('photos/a.jpg', 'backup/a.jpg');
 * for (const { name, size } of await archive.ls('backup')) console.log(name, size);
 * ```
 */
export function filesystem(urlOrProtocol: string, options: FileSystemOptions = {}): FileSystem {
  if (typeof urlOrProtocol !== 'string') throw unfit('urlOrProtocol', 'a URL, a path, s3 or file', urlOrProtocol);
  OPTIONS(options, 'options');
  const roots = { s3: 's3://', gs: 'gs://', az: 'az://', file: '' } as Record<string, string>;
  const root = roots[urlOrProtocol.replace(/:(?:\/\/)?$/, '')] ?? urlOrProtocol;
  if (!isHere(root) && !/^(?:s3|gs|gcs|az|sftp):\/\/|^rclone:/i.test(root)) {
    throw new BulkhaulError(
      'USAGE',
      `${urlOrProtocol}: there are s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, sftp://HOST/PATH, rclone:REMOTE:PATH, s3, gs, az, file and paths`,
    );
  }
  return new FileSystem(root.replace(/^file:(?:\/\/)?(?=\/)/i, ''), options);
}

/** A store and a key, or a path. */
type Place = Located | { readonly path: string };

/**
 * A disk or an object store, as `filesystem` gives it. Names are relative to its root; whole URLs and, on a disk, absolute
 * paths are taken as they are.
 *
 * @example
 * ```js
 * import { filesystem } from 'bulkhaul';
 *
 * const photos = filesystem('photos');
 * if (await photos.exists('a.jpg')) console.log((await photos.cat('a.jpg')).length);
 * ```
 */
export class FileSystem {
  readonly #files = new Map<string, Promise<NativeFiles>>();

  constructor(
    /** Where names begin. */
    readonly root: string,
    /** How it is reached. */
    readonly options: FileSystemOptions,
  ) {}

  /**
   * The whole URL or path of a name.
   *
   * @example
   * ```js
   * import { filesystem } from 'bulkhaul';
   *
   * const archive = filesystem('s3://archive', { environment: process.env });
   * console.log(archive.url('photos/a.jpg')); // s3://archive/photos/a.jpg
   * ```
   */
  url(name = ''): string {
    if (typeof name !== 'string') throw unfit('name', 'a string', name);
    if (isUrl(name) || (name.startsWith('/') && isHere(this.root))) return name.replace(/^file:(?:\/\/)?(?=\/)/i, '');
    if (this.root === '' || name === '') return this.root + name;
    return `${this.root}${this.root.endsWith('/') ? '' : '/'}${name}`;
  }

  #place(name: string): Place {
    const url = this.url(name);
    const located = locate(url);
    if (located === undefined) return { path: url };
    if (/^[a-z0-9]+:\/\/$/i.test(located.store)) throw new BulkhaulError('USAGE', `${url}: there is no bucket in it`);
    return located;
  }

  /** A name of something in a store, as the methods take it. */
  #named(store: string, key: string): string {
    const url = urlOf({ store, key });
    const root = this.root === '' || this.root.endsWith('/') ? this.root : `${this.root}/`;
    return url.startsWith(root) ? url.slice(root.length) : url;
  }

  /** The store of a bucket, or the directory of a disk. */
  #opened(place: string): Promise<NativeFiles> {
    const known = this.#files.get(place);
    if (known !== undefined) return known;
    const { store, headers, requests } = this.options;
    const opening = loadStores().then(async (stores) => {
      const access = await accessTo(place, store, this.options);
      try {
        return stores.openFiles({
          place: toBytes(place),
          ...(access && { access }),
          ...headersAt(place, headers),
          ...(requests && { requests }),
        });
      } catch (error) {
        throw BulkhaulError.from(error);
      }
    });
    if (!isHere(place)) this.#files.set(place, opening);
    opening.catch(() => this.#files.delete(place));
    return opening;
  }

  #told(store: string, { key, directory, size, written, mtime, tag }: FileEntry): FileInfo {
    const name = this.#named(store, fromBytes(key));
    if (directory) return { name: name.replace(/\/$/, ''), type: 'directory', size: 0 };
    const modified = new Date((mtime ?? written) * 1000);
    return { name, type: 'file', size, modified, ...(tag && { tag: tag.toString() }) };
  }

  /**
   * What is in a directory, or the one file of this name, in the order of the bytes of the names.
   *
   * @example
   * ```js
   * import { filesystem } from 'bulkhaul';
   *
   * const archive = filesystem('s3://archive', { environment: process.env });
   * for (const { name, type, size } of await archive.ls('photos')) console.log(name, type, size);
   * ```
   */
  async ls(name = ''): Promise<FileInfo[]> {
    const place = this.#place(name);
    if ('path' in place) {
      const itself = await this.info(name);
      return itself.type === 'file' ? [itself] : children(name, place.path);
    }
    const { store, key } = place;
    const directory = key === '' || key.endsWith('/') ? key : `${key}/`;
    const files = await this.#opened(store);
    const found = await files.list(toBytes(directory)).catch(storeError);
    return found.length > 0 ? found.map((each) => this.#told(store, each)) : [await this.info(name)].filter(isFile);
  }

  /**
   * All files below a directory, in the order of the bytes of their names. On a disk a symlink to a file is that file, and one to
   * a directory is not entered.
   *
   * @example
   * ```js
   * import { filesystem } from 'bulkhaul';
   *
   * const photos = filesystem('photos');
   * for (const { name, size } of await photos.find()) console.log(name, size);
   * ```
   */
  async find(name = ''): Promise<FileInfo[]> {
    const place = this.#place(name);
    if ('path' in place) {
      const below = async (info: FileInfo): Promise<FileInfo[]> => {
        const path = this.url(info.name);
        if (isFile(info)) return [info];
        return (await lstat(toBytes(path))).isSymbolicLink() ? [] : all(await children(info.name, path));
      };
      const all = async (infos: FileInfo[]) => (await Promise.all(infos.map(below))).flat();
      return (await all(await this.ls(name))).sort((a, b) => Buffer.compare(toBytes(a.name), toBytes(b.name)));
    }
    const { key } = place;
    const { requests, store, environment, credentials } = this.options;
    const found: FileInfo[] = [];
    const job = listStore({
      place: this.url(name),
      entries: true,
      ...{ environment, credentials },
      ...(store && { store }),
      ...(requests && { requests }),
    });
    const below = key === '' || key.endsWith('/') ? key : `${key}/`;
    for await (const event of job) {
      if (event.type !== 'entry' || event.kind !== 'file') continue;
      const { path, size = 0, mtime = 0 } = event;
      found.push({
        name: this.#named(place.store, below + path),
        type: 'file',
        size,
        modified: new Date(mtime * 1000),
      });
    }
    await job.orThrow();
    // A file is listed by its name alone, as what is alone in a directory of that name is.
    const alone = below + basename(key);
    if (found.length === 1 && found[0]?.name === this.#named(place.store, alone)) {
      const files = await this.#opened(place.store);
      if ((await files.stat(toBytes(alone)).catch(storeError)) === null) return [await this.info(name)];
    }
    return found.length > 0 ? found : [await this.info(name)].filter(isFile);
  }

  /**
   * What is known of a file or directory. Rejects with `NO_SOURCE` where there is none.
   *
   * @example
   * ```js
   * import { filesystem } from 'bulkhaul';
   *
   * const archive = filesystem('s3://archive', { environment: process.env });
   * const { size, modified } = await archive.info('photos/a.jpg');
   * console.log(size, modified);
   * ```
   */
  async info(name: string): Promise<FileInfo> {
    const found = await this.#look(name);
    if (found === undefined) throw new BulkhaulError('NO_SOURCE', `${this.url(name)}: there is no such file`);
    return found;
  }

  async #look(asked: string): Promise<FileInfo | undefined> {
    const place = this.#place(asked);
    if ('path' in place) return look(asked, place.path);
    const { store, key } = place;
    const files = await this.#opened(store);
    const isDirectory = key === '' || key.endsWith('/');
    const isObject = serviceOf(store) !== undefined;
    // Where there are directories, one is there by its name alone.
    const name = isObject ? key : key.replace(/\/$/, '');
    const itself = name === '' ? null : await files.stat(toBytes(name)).catch(storeError);
    if (itself && !isObject && isDirectory && !itself.directory) return undefined;
    if (itself) return this.#told(store, itself);
    const within = await files.list(toBytes(isDirectory ? key : `${key}/`)).catch(storeError);
    const isThere = within.length > 0 || key === '' || (!isDirectory && (await this.#marker(store, key)) !== null);
    return isThere ? { name: this.#named(store, key.replace(/\/$/, '')), type: 'directory', size: 0 } : undefined;
  }

  /** The object that bears the name of a directory, with its slash. Only services of objects have such. */
  async #marker(store: string, key: string): Promise<FileEntry | null> {
    if (key === '' || !serviceOf(store)) return null;
    const files = await this.#opened(store);
    return files.stat(toBytes(slashed(key))).catch(storeError);
  }

  /** The object that bears the name of a directory, and whether it is all that there is. */
  async #marked(store: string, key: string): Promise<{ marker: FileEntry | null; alone: boolean }> {
    const marker = await this.#marker(store, key);
    if (marker === null) return { marker, alone: false };
    const files = await this.#opened(store);
    return { marker, alone: (await files.list(toBytes(key)).catch(storeError)).length === 0 };
  }

  /**
   * Whether there is a file or directory of this name.
   *
   * @example
   * ```js
   * import { filesystem } from 'bulkhaul';
   *
   * const archive = filesystem('s3://archive', { environment: process.env });
   * console.log(await archive.exists('photos/a.jpg'), await archive.exists('photos/z.jpg')); // true false
   * ```
   */
  async exists(name: string): Promise<boolean> {
    return (await this.#look(name)) !== undefined;
  }

  /**
   * A stream of a content (`'r'`), or one that makes it (`'w'`): that appears when the stream has finished.
   *
   * @example
   * ```js
   * import { filesystem } from 'bulkhaul';
   *
   * import { pipeline } from 'node:stream/promises';
   *
   * const archive = filesystem('s3://archive', { environment: process.env });
   * await pipeline(archive.open('photos/a.jpg'), archive.open('backup/a.jpg', 'w'));
   * ```
   */
  open(name: string, mode?: 'r', range?: Range): Readable;
  open(name: string, mode: 'w', about?: Written): Writable;
  open(name: string, mode: 'r' | 'w' = 'r', more: Range & Written = {}): Readable | Writable {
    if (mode !== 'r' && mode !== 'w') throw unfit('mode', "'r' or 'w'", mode);
    const place = this.#place(name);
    if (mode === 'w') return this.#writable(place, more.modified);
    const { start = 0, end } = more;
    for (const [key, value] of Object.entries({ start, end: end ?? 0 })) {
      if (!Number.isSafeInteger(value) || value < 0) throw unfit(key, 'a number of bytes', value);
    }
    if ('store' in place) return Readable.from(this.#parts(place.store, place.key, start, end), { objectMode: false });
    if (end !== undefined && end <= start) return Readable.from([], { objectMode: false });
    return createReadStream(toBytes(place.path), { start, ...(end !== undefined && { end: end - 1 }) });
  }

  async *#parts(store: string, key: string, start: number, end?: number): AsyncGenerator<Buffer> {
    const files = await this.#opened(store);
    const reader = files.read(toBytes(key), start, end);
    for (;;) {
      const part = await reader.next().catch(storeError);
      if (part === null) return;
      yield part;
    }
  }

  #writable(place: Place, modified: Date | undefined): Writable {
    const [directory, key] = 'path' in place ? [dirname(place.path), basename(place.path)] : [place.store, place.key];
    if (key === '') throw new BulkhaulError('USAGE', 'there is no name to write to');
    let writer: NativeFileWriter | undefined;
    const begun = async () => {
      const files = await this.#opened(directory);
      writer ??= files.write(toBytes(key), modified && modified.getTime() / 1000);
      return writer;
    };
    const done = (work: Promise<unknown>, callback: (error?: Error | null) => void) =>
      void work.then(
        () => callback(),
        (error: Error) => callback(asStoreError(error)),
      );
    return new Writable({
      write: (chunk: Buffer, _, callback) =>
        done(
          begun().then((writer) => writer.put(chunk)),
          callback,
        ),
      final: (callback) =>
        done(
          begun().then(async (writer) => {
            await writer.finish();
          }),
          callback,
        ),
      destroy: (error, callback) => {
        writer?.abort();
        callback(error);
      },
    });
  }

  /**
   * A content, or some bytes of it.
   *
   * @example
   * ```js
   * import { filesystem } from 'bulkhaul';
   *
   * const archive = filesystem('s3://archive', { environment: process.env });
   * console.log((await archive.cat('photos/a.jpg', { end: 4 })).toString()); // the first four bytes
   * ```
   */
  async cat(name: string, range: Range = {}): Promise<Buffer> {
    const chunks: Buffer[] = [];
    for await (const chunk of this.open(name, 'r', range)) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  }

  /**
   * Brings a file of this machine here, or with `recursive` what is in a directory of it, where it differs. What is no regular
   * file rejects with `USAGE`; of what is in a directory a store takes regular files.
   *
   * @example
   * ```js
   * import { filesystem } from 'bulkhaul';
   *
   * const archive = filesystem('s3://archive', { environment: process.env });
   * const { outcomes } = await archive.put('photos', 'backup', { recursive: true });
   * console.log(outcomes.copied);
   * ```
   */
  async put(local: string, name: string, { recursive = false }: Scope = {}): Promise<Report> {
    return this.#brought(local, this.url(name), recursive);
  }

  /**
   * Brings a file to this machine, or with `recursive` what is in a directory, where it differs. What is no regular file rejects
   * with `USAGE`.
   *
   * @example
   * ```js
   * import { filesystem } from 'bulkhaul';
   *
   * const archive = filesystem('s3://archive', { environment: process.env });
   * await archive.get('photos/a.jpg', 'photos/again.jpg');
   * ```
   */
  async get(name: string, local: string, { recursive = false }: Scope = {}): Promise<Report> {
    return this.#brought(this.url(name), local, recursive);
  }

  /**
   * Copies a file, or with `recursive` what is in a directory, within the store where it can, whatever is there. What is no
   * regular file rejects with `USAGE`; of what is in a directory a store takes regular files.
   *
   * @example
   * ```js
   * import { filesystem } from 'bulkhaul';
   *
   * const archive = filesystem('s3://archive', { environment: process.env });
   * await archive.cp('photos/a.jpg', 'backup/a.jpg');
   * ```
   */
  async cp(from: string, to: string, { recursive = false }: Scope = {}): Promise<Report> {
    const [source, destination] = [this.url(from), this.url(to)];
    if (!recursive) await refuseItself(source, below(destination, source), false);
    return this.#brought(source, destination, recursive, true);
  }

  /** `always`: also what seems to be the same. */
  async #brought(source: string, destination: string, recursive: boolean, always = false): Promise<Report> {
    const compare = always && ({ compare: 'always' } as const);
    const asked = { ...this.#asked, ...headersAt(destination, this.options.headers) };
    if (recursive && isHere(source) && isHere(destination)) {
      // What is compared as a whole, and is the same, is as it would be copied. Two paths have no requests.
      const { requests: _, ...plain } = asked;
      return syncDir({ source, destination, ...plain, ...(always && { compare: 'checksum' }) }).orThrow();
    }
    if (recursive) return syncDir({ source, destination, ...asked, ...compare }).orThrow();
    const pair = placed(source, below(destination, source));
    const { job } = await copied([pair], { ...asked, ...compare });
    const report = await job.orThrow();
    if (pair.outcome.reason !== 'not-a-file') return report;
    const why = pair.kind === 'directory' ? 'a directory: say recursive' : 'no regular file, and only those are copied';
    throw new BulkhaulError('USAGE', `${source} is ${why}`);
  }

  get #asked() {
    const { store, requests, environment, credentials } = this.options;
    return { environment, credentials, ...(store && { store }), ...(requests && { requests }) };
  }

  /**
   * Gives a file another name, or with `recursive` all that is in a directory, whatever is there: in a store it is copied and then
   * removed. What can't be copied stays (symlinks do, from a disk to a store), and it rejects with `INCOMPLETE` then. Nothing is
   * moved onto itself, by whatever name it is seen there, or into itself: `USAGE`.
   *
   * @example
   * ```js
   * import { filesystem } from 'bulkhaul';
   *
   * const archive = filesystem('s3://archive', { environment: process.env });
   * await archive.mv('photos/a.jpg', 'photos/first.jpg');
   * ```
   */
  async mv(from: string, to: string, { recursive = false }: Scope = {}): Promise<void> {
    const here = this.url(from);
    const there = recursive ? this.url(to) : below(this.url(to), here);
    await refuseItself(here, there, recursive);
    if (isHere(here) && isHere(there)) return renamed(here, there);
    await this.#refuseView(here, there, recursive);
    if (recursive) return this.#movedAll(slashed(here), slashed(there));
    const pair = placed(here, there);
    const { job } = await copied([pair], { ...this.#asked, compare: 'always' });
    await job.orThrow();
    const { outcome, reason } = pair.outcome;
    if (outcome !== 'added' && outcome !== 'updated') throw staying([`${here} (${reason})`]);
    await this.#removed(pair.source[0], [pair.source[1]]);
  }

  /**
   * Throws `USAGE` where one place shows what is in the other: names that a host folds, symlinks and mounts of a host or remote, a
   * host that is this machine. What would be removed after it was copied is its only copy then. A place where nothing is shows
   * nothing, and keys of objects are exact.
   */
  async #refuseView(here: string, there: string, recursive: boolean): Promise<void> {
    if ((serviceOf(here) && serviceOf(there)) || !(await this.exists(there))) return;
    const [from, to] = recursive ? [slashed(here), slashed(there)] : [here, there];
    // Nothing is written into a service where the other place can have it.
    const [written, seen] = isHere(to) || serviceOf(from) ? [to, from] : [from, to];
    const probe = `.bulkhaul-probe-of-views-${randomBytes(8).toString('hex')}`;
    await finished(this.open(beside(written, probe), 'w').end());
    const isOne = await this.exists(beside(seen, probe)).finally(() => this.rm(beside(written, probe)));
    if (!isOne) return;
    // Of two files in one directory both are listed.
    const listed = recursive ? [] : (await this.ls(beside(here, ''))).map(({ name }) => basename(name));
    const both = new Set([here, there].map((url) => basename(this.#keyOf(url))));
    if (both.size < 2 || ![...both].every((name) => listed.includes(name)))
      throw new BulkhaulError('USAGE', `${there} is ${here} itself, seen in another way`);
  }

  #keyOf(url: string): string {
    const place = this.#place(url);
    return 'path' in place ? place.path : place.key;
  }

  /** Moves what is in a directory, of which one at least is in a store: only what was copied goes. */
  async #movedAll(here: string, there: string): Promise<void> {
    const place = this.#place(here);
    const { marker, alone } = 'store' in place ? await this.#marked(place.store, place.key) : NO_MARKER;
    const [gone, stay]: [string[], string[]] = [[], []];
    if (!alone) {
      // A marker is moved where its directory has come to be; a directory of a disk stays.
      const markers = serviceOf(here) !== undefined;
      const places = { source: here, destination: there };
      const job = syncDir({ ...places, ...this.#asked, compare: 'always', entries: true, markers });
      for await (const event of job) {
        if (event.type !== 'entry') continue;
        const isDirectory = event.kind === 'directory';
        if (event.outcome === 'copied' || (isDirectory && markers)) gone.push(event.path);
        else if (!isDirectory) stay.push(`${here}${event.path} (${event.reason})`);
      }
      await job.orThrow();
    }
    if (gone.length > 0) await this.#removed(here, gone);
    if (marker !== null && 'store' in place) {
      if (await this.#marks(here, there, marker)) await this.#removed(place.store, [place.key]);
      else stay.push(`${here} (not-a-file)`);
    }
    if (stay.length > 0) throw staying(stay);
  }

  /** Gives what bears the name of a directory another; false: it can't have that. */
  async #marks(here: string, there: string, { directory }: FileEntry): Promise<boolean> {
    const goal = this.#place(there);
    const isObject = 'store' in goal && goal.key !== '' && serviceOf(goal.store) !== undefined;
    if (directory && isObject) {
      const files = await this.#opened(goal.store);
      await files.write(toBytes(goal.key)).finish().catch(storeError);
    } else if (directory) await this.makedirs(there);
    else if (isObject) await (await copied([placed(here, there)], { ...this.#asked, compare: 'always' })).job.orThrow();
    return directory || isObject;
  }

  #removed(place: string, remove: string[], limit: Guarded = {}): Promise<Report> {
    return syncFiles({ source: place, destination: place, remove, ...limit, ...this.#asked }).orThrow();
  }

  /**
   * Removes a file, or with `recursive` a directory with all that is in it. Rejects with `NO_SOURCE` where there is none.
   *
   * @example
   * ```js
   * import { filesystem } from 'bulkhaul';
   *
   * const archive = filesystem('s3://archive', { environment: process.env });
   * const { outcomes } = await archive.rm('photos', { recursive: true, maxDelete: 100 });
   * console.log(outcomes.removed);
   * ```
   */
  async rm(name: string, { recursive = false, maxDelete }: Scope & Guarded = {}): Promise<Report> {
    const url = this.url(name);
    const limit: Guarded = maxDelete === undefined ? {} : { maxDelete };
    const { type } = await this.info(name);
    if (type === 'directory' && !recursive) throw new BulkhaulError('USAGE', `${url} is a directory: say recursive`);
    if (isHere(url)) return remove({ paths: url, ...limit }).orThrow();
    if (type === 'directory' || (recursive && url.endsWith('/'))) return this.#emptied(slashed(url), limit);
    const [destination, key] = split(url);
    return this.#removed(destination, [key]);
  }

  /** Removes what is in a directory of a store, and last what bears its name. */
  async #emptied(url: string, limit: Guarded): Promise<Report> {
    const { store, key } = this.#place(url) as Located;
    const { marker, alone } = await this.#marked(store, key);
    if (alone) return this.#removed(store, [key], limit);
    const report = await removeBelow({ place: url, ...limit, ...this.#asked }).orThrow();
    if (marker !== null || (key !== '' && !serviceOf(store))) await this.#removed(store, [key]);
    return report;
  }

  /**
   * Makes a directory and those above it. In a bucket there is nothing to make.
   *
   * @example
   * ```js
   * import { filesystem } from 'bulkhaul';
   *
   * await filesystem('/mnt/archive').makedirs('2026/photos');
   * ```
   */
  async makedirs(name: string): Promise<void> {
    const place = this.#place(name);
    if ('path' in place) await mkdir(toBytes(place.path), { recursive: true });
    else if (/^(?:sftp|rclone):/i.test(place.store) && place.key !== '') {
      const files = await this.#opened(place.store);
      await files
        .write(toBytes(slashed(place.key)))
        .finish()
        .catch(storeError);
    }
  }
}

const NO_MARKER = { marker: null, alone: false };
const isFile = ({ type }: FileInfo) => type === 'file';
const slashed = (url: string) => (url.endsWith('/') ? url : `${url}/`);

/** A name in the directory of a file, or in a directory whose name ends with a slash. */
function beside(url: string, name: string): string {
  const within = (path: string) => path.slice(0, path.lastIndexOf('/') + 1) + name;
  const located = locate(url);
  return located ? urlOf({ ...located, key: within(located.key) }) : within(url);
}

/** A destination: what ends with a slash is the directory for a file, which keeps its name. */
function below(there: string, here: string): string {
  return there.endsWith('/') && !here.endsWith('/') ? there + here.slice(here.lastIndexOf('/') + 1) : there;
}

/** Where something is, and of a path also what it leads to: links to one file are that file. */
async function identified(place: string): Promise<{ at: string; inode: string | undefined }> {
  const known = isHere(place) ? await stat(toBytes(place), { bigint: true }).catch(() => undefined) : undefined;
  return { at: await whereabouts(place), inode: known && `${known.dev}:${known.ino}` };
}

/** Throws `USAGE` where one place is the other, or with `recursive` one is in the other, by whatever names. */
async function refuseItself(here: string, there: string, recursive: boolean): Promise<void> {
  const [from, to] = await Promise.all([identified(here), identified(there)]);
  // Of objects a slash at the end is part of the name.
  const [one, other] = recursive ? [slashed(from.at), slashed(to.at)] : [from.at, to.at];
  if (one === other || (from.inode && from.inode === to.inode)) {
    throw new BulkhaulError('USAGE', `${there} is ${here} itself`);
  }
  const isDirectory = recursive || (isHere(here) && isHere(there));
  if (isDirectory && other.startsWith(slashed(one))) throw new BulkhaulError('USAGE', `${there} is in ${here}`);
  if (recursive && one.startsWith(other)) throw new BulkhaulError('USAGE', `${here} is in ${there}`);
}

/** Moves an entry of this machine: by its name, or where that is another file system as a proved copy. */
async function renamed(here: string, there: string): Promise<void> {
  try {
    await rename(toBytes(here), toBytes(there));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') throw await missing(error as Error, here, there);
    if (code !== 'EXDEV') throw error;
    const source = { path: here, contents: false, name: basename(there), follow: false };
    const destinations = [{ path: dirname(there), follow: true }];
    await copyMapped({ sources: [source], destinations, removeSources: true, verify: true }).orThrow();
  }
}

/** Which of the two it was that is not there. */
async function missing(cause: Error, here: string, there: string): Promise<BulkhaulError> {
  const source = await lstat(toBytes(here)).catch(() => undefined);
  return source === undefined
    ? new BulkhaulError('NO_SOURCE', `${here}: there is no such file`, { cause })
    : new BulkhaulError('NO_DESTINATION', `${there}: there is no such directory as ${dirname(there)}`, { cause });
}

/** What was not moved. */
function staying(names: readonly string[]): BulkhaulError {
  const more = names.length - NAMED;
  const named = names.slice(0, NAMED).join(', ');
  return new BulkhaulError('INCOMPLETE', `not moved: ${named}${more > 0 ? ` and ${more} more` : ''}`);
}

/** So many names are in one sentence. */
const NAMED = 10;

/** A file or directory of this machine; symlinks are followed. */
async function look(name: string, path: string): Promise<FileInfo | undefined> {
  const found = await stat(toBytes(path === '' ? '.' : path)).catch((error: NodeJS.ErrnoException) => {
    if (['ENOENT', 'ENOTDIR', 'ELOOP'].includes(error.code ?? '')) return undefined;
    throw error;
  });
  if (found === undefined) return undefined;
  const { mtime: modified } = found;
  const plain = name.length > 1 ? name.replace(/\/+$/, '') : name;
  if (found.isDirectory()) return { name: plain, type: 'directory', size: 0, modified };
  return { name: plain, type: 'file', size: found.size, modified };
}

/** What is in a directory of this machine; a symlink that leads nowhere is left out. */
async function children(name: string, path: string): Promise<FileInfo[]> {
  const names = (await readdir(toBytes(path === '' ? '.' : path), { encoding: 'buffer' })).sort(Buffer.compare);
  const join = (above: string, below: string) => (above === '' ? below : `${slashed(above)}${below}`);
  const found = await Promise.all(names.map((each) => look(join(name, fromBytes(each)), join(path, fromBytes(each)))));
  return found.filter((each) => each !== undefined);
}

/** What the addon rejects with, as the error of the library. */
function asStoreError(error: unknown): BulkhaulError {
  const { kind, message } = error as Error & { kind?: string };
  if (kind === 'missing' || kind === 'vanished') return new BulkhaulError('NO_SOURCE', message, { cause: error });
  return BulkhaulError.from(error);
}

function storeError(error: unknown): never {
  throw asStoreError(error);
}
