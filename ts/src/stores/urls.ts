/** URLs of places: text in, what it names out. Of a URL nothing is decoded: keys are as they stand. */
import { normalize } from 'node:path/posix';
import type { PathLike } from '../names.js';

/** Whether a place is named by a URL. */
export function isUrl(place: PathLike): boolean {
  return /^[a-z][a-z0-9+.-]+:\/\//i.test(String(place)) || /^(?:rclone|memory|file):/i.test(String(place));
}

/** Whether it is a path of this machine, written as a URL or not. */
export function isHere(place: PathLike): boolean {
  return !isUrl(place) || /^file:/i.test(String(place));
}

/** What answers for a place: requests have to be signed for it. */
export type Service = 's3' | 'gs' | 'az';

/** The service of a place; undefined: nobody has to be told who asks. */
export function serviceOf(place: PathLike): Service | undefined {
  const [, scheme = ''] = /^([a-z0-9]+):\/\//i.exec(String(place)) ?? [];
  return ({ s3: 's3', gs: 'gs', gcs: 'gs', az: 'az' } as const)[scheme.toLowerCase()];
}

/** A store by its URL, which ends where keys begin, and a key in it. */
export interface Located {
  readonly store: string;
  readonly key: string;
}

/**
 * The largest store that a URL lies in: a bucket, a host or where a login on it begins, a remote of rclone. Undefined: it is a
 * path of this machine.
 */
export function locate(url: string): Located | undefined {
  if (isHere(url)) return undefined;
  const [, head = url, key = ''] =
    /^(rclone::?(?:"[^"]*"|'[^']*'|[^"':])*:\/?)([\s\S]*)$/i.exec(url) ??
    /^(memory:(?:\/\/)?)([\s\S]*)$/i.exec(url) ??
    /^(sftp:\/\/[^/]*\/~)(?:\/([\s\S]*))?$/i.exec(url) ??
    /^(sftp:\/\/[^/]*\/)([\s\S]*)$/i.exec(url) ??
    /^([^:]+:\/\/[^/]*)(?:\/([\s\S]*))?$/i.exec(url) ??
    [];
  return { store: head, key };
}

/** The URL of a key in a store. */
export function urlOf({ store, key }: Located): string {
  return /[/:]$/.test(store) || key === '' ? `${store}${key}` : `${store}/${key}`;
}

/** A URL in one spelling, to be held against others: no scheme has two names, and where keys are paths none has two. */
export function canonical(url: string): string {
  const located = locate(url);
  if (located === undefined) return url;
  const { key } = located;
  const store = located.store.replace(/^[a-z0-9]+:/i, (scheme) => scheme.toLowerCase()).replace(/^gcs:/, 'gs:');
  return urlOf({ store, key: serviceOf(url) || key === '' ? key : normalize(key) });
}
