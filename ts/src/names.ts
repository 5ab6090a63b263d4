/**
 * Names of files: bytes there, strings here, and what a terminal may see of them.
 *
 * A name comes in as the bytes that the file system has and goes out as a string: UTF-8 decoded, each byte 0xNN that
 * is not part of valid UTF-8 as the lone surrogate U+DCNN (as Python's surrogateescape). Nothing is lost:
 * `toBytes(fromBytes(bytes))` equals `bytes`, for any bytes.
 */
import { isUtf8 } from 'node:buffer';
import { BulkhaulError, unfit } from './error.js';

/** A path as callers may give it: a string in the form of this module, or bytes. */
export type PathLike = string | Buffer;

const ESCAPED = 0xdc00;

/** Length of the valid UTF-8 sequence at `at`, or 0. */
function sequenceLength(bytes: Buffer, at: number): number {
  const lead = bytes[at] ?? 0;
  if (lead < 0x80) return 1;
  const length = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
  return length > 0 && isUtf8(bytes.subarray(at, at + length)) ? length : 0;
}

/**
 * The string form of a name, as every event has it.
 *
 * @example
 * ```js
 * import { fromBytes, toBytes } from 'bulkhaul';
 *
 * const name = fromBytes(Buffer.from([0x63, 0x61, 0x66, 0xe9]));
 * console.log(name === 'caf\udce9', toBytes(name));
 * ```
 */
export function fromBytes(bytes: Buffer): string {
  if (!Buffer.isBuffer(bytes)) throw unfit('bytes', 'a Buffer', bytes);
  if (isUtf8(bytes)) return bytes.toString('utf8');
  let text = '';
  let valid = 0;
  for (let at = 0; at < bytes.length; ) {
    const length = sequenceLength(bytes, at);
    if (length > 0) {
      at += length;
      continue;
    }
    text += bytes.toString('utf8', valid, at) + String.fromCharCode(ESCAPED + (bytes[at] ?? 0));
    at += 1;
    valid = at;
  }
  return text + bytes.toString('utf8', valid);
}

/**
 * The bytes of a name, for calls of Node. Throws `USAGE` for a lone surrogate that stands for no byte.
 *
 * @example
 * ```js
 * import { statSync } from 'node:fs';
 * import { list, toBytes } from 'bulkhaul';
 *
 * for await (const event of list({ sources: 'photos', entries: true })) {
 *   if (event.type === 'entry') console.log(statSync(toBytes(event.source)).size);
 * }
 * ```
 */
export function toBytes(name: string): Buffer {
  if (typeof name !== 'string') throw unfit('name', 'a string', name);
  if (!/\p{Surrogate}/u.test(name)) return Buffer.from(name, 'utf8');
  const parts = name.split(/(\p{Surrogate}+)/u).map((part, index) => {
    if (index % 2 === 0) return Buffer.from(part, 'utf8');
    if (!/^[\udc80-\udcff]+$/.test(part)) throw new BulkhaulError('USAGE', `not the name of a file: ${display(name)}`);
    return Buffer.from(Array.from(part, (unit) => unit.charCodeAt(0) - ESCAPED));
  });
  return Buffer.concat(parts);
}

/** false when the name has bytes that are not UTF-8. */
export function isText(name: string): boolean {
  return !/\p{Surrogate}/u.test(name);
}

const SHORT: Record<string, string> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/**
 * A name, or a message with names in it, for a terminal or a log: no control characters (C0, DEL, C1), no bidirectional
 * marks, no line or paragraph separators, no undecodable bytes. One line, safe to print; not meant to be read back.
 *
 * @example
 * ```js
 * import { display } from 'bulkhaul';
 *
 * console.log(display('a\nb\x1b[31m'));
 * ```
 */
export function display(name: string): string {
  if (typeof name !== 'string') throw unfit('name', 'a string', name);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this is about
  const unsafe = /[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]|\p{Surrogate}/gu;
  return name.replace(unsafe, (char) => {
    const code = char.charCodeAt(0);
    if (code >= ESCAPED + 0x80 && code <= ESCAPED + 0xff) return `\\x${(code - ESCAPED).toString(16)}`;
    if (code < 0x80) return SHORT[char] ?? `\\x${code.toString(16).padStart(2, '0')}`;
    return `\\u{${code.toString(16)}}`;
  });
}
