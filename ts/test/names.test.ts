import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { display, fromBytes, isText, toBytes } from '../src/names.js';

/** Bytes that are mostly near valid UTF-8, where decoders go wrong. */
const hostileBytes = fc.oneof(
  fc.uint8Array(),
  fc
    .array(
      fc.oneof(
        fc.constantFrom(0xc0, 0xc3, 0xe2, 0xed, 0xef, 0xf0, 0xf4, 0xf5, 0x80, 0x82, 0xa0, 0xac, 0xbf, 0x41),
        fc.nat(255),
      ),
    )
    .map((list) => Uint8Array.from(list)),
  fc.string({ unit: 'binary' }).map((text) => new TextEncoder().encode(text)),
);

describe('fromBytes and toBytes', () => {
  it('lose no bytes', () => {
    fc.assert(
      fc.property(hostileBytes, (list) => {
        const bytes = Buffer.from(list);
        expect(toBytes(fromBytes(bytes))).toEqual(bytes);
      }),
      { numRuns: 2000 },
    );
  });

  it('lose no text, and agree with the decoder of the platform on it', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const bytes = Buffer.from(text, 'utf8');
        expect(fromBytes(bytes)).toBe(new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes));
        expect(fromBytes(toBytes(text))).toBe(text);
      }),
    );
  });

  it.each([
    ['plain', [0x61], 'a'],
    ['two bytes', [0xc3, 0xa9], 'é'],
    ['four bytes', [0xf0, 0x9f, 0x98, 0x80], '😀'],
    ['latin 1', [0x63, 0x61, 0x66, 0xe9], 'caf\udce9'],
    ['a sequence that ends early', [0xe2, 0x82, 0x41], '\udce2\udc82A'],
    ['overlong', [0xc0, 0xaf], '\udcc0\udcaf'],
    ['an encoded surrogate', [0xed, 0xb3, 0xa9], '\udced\udcb3\udca9'],
    ['past the last character', [0xf4, 0x90, 0x80, 0x80], '\udcf4\udc90\udc80\udc80'],
    ['valid around invalid', [0xc3, 0xa9, 0xff, 0xc3, 0xa9], 'é\udcffé'],
    ['a byte order mark', [0xef, 0xbb, 0xbf, 0x61], '\ufeffa'],
    ['nothing', [], ''],
  ])('decodes %s as Python does', (_, list, text) => {
    expect(fromBytes(Buffer.from(list))).toBe(text);
    expect(toBytes(text)).toEqual(Buffer.from(list));
  });

  it.each(['\ud800', 'a\udc7f', '\udd00', '\udfff'])('refuses a surrogate that stands for no byte', (text) => {
    expect(() => toBytes(text)).toThrow(expect.objectContaining({ code: 'USAGE' }));
  });

  it('tells text from bytes', () => {
    expect(isText('é😀')).toBe(true);
    expect(isText('caf\udce9')).toBe(false);
  });
});

describe('display', () => {
  it('is one line without anything that a terminal obeys', () => {
    fc.assert(
      fc.property(hostileBytes, (list) => {
        const shown = display(fromBytes(Buffer.from(list)));
        for (const char of shown) {
          const code = char.codePointAt(0) ?? 0;
          expect(code >= 0x20 && !(code >= 0x7f && code <= 0x9f) && !(code >= 0xd800 && code <= 0xdfff)).toBe(true);
          expect(code === 0x2028 || code === 0x2029 || (code >= 0x202a && code <= 0x202e)).toBe(false);
          expect(code >= 0x2066 && code <= 0x2069).toBe(false);
        }
      }),
      { numRuns: 1000 },
    );
  });

  it.each([
    ['a b-é😀', 'a b-é😀'],
    ['a\nb\tc\rd', 'a\\nb\\tc\\rd'],
    ['\x1b[31mred', '\\x1b[31mred'],
    ['\x00\x7f', '\\x00\\x7f'],
    ['\x9b', '\\u{9b}'],
    ['caf\udce9', 'caf\\xe9'],
    ['\u202egnp.exe', '\\u{202e}gnp.exe'],
    ['\u2028', '\\u{2028}'],
  ])('shows %j as %s', (name, shown) => {
    expect(display(name)).toBe(shown);
  });
});
