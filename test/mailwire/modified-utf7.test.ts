import { describe, expect, test } from '@jest/globals';
import { decodeModifiedUtf7, encodeModifiedUtf7 } from '../../mailwire/modified-utf7.ts';

describe('modified UTF-7', () => {
  const pairs = [
    ['INBOX', 'INBOX'],
    ['A & B', 'A &- B'],
    ['~peter/mail/台北/日本語', '~peter/mail/&U,BTFw-/&ZeVnLIqe-'], // RFC 3501 5.1.3
    ['Entwürfe', 'Entw&APw-rfe'],
    ['😀', '&2D3eAA-'],
  ] as const;
  test.each(pairs)('%s is written %s and read back', (text, encoded) => {
    expect(encodeModifiedUtf7(text)).toBe(encoded);
    expect(decodeModifiedUtf7(encoded)).toBe(text);
  });

  test('a separator inside a level is written in base64 and read back', () => {
    expect(encodeModifiedUtf7('a.b', '.')).toBe('a&AC4-b');
    expect(encodeModifiedUtf7('é.b', '.')).toBe('&AOkALg-b');
    expect(decodeModifiedUtf7('a&AC4-b', '.')).toBe('a.b');
    expect(decodeModifiedUtf7('&AOkALg-b', '.')).toBe('é.b');
  });

  const refused = [
    ['&AC8-', 'an encoded slash'],
    ['&AC4ALg-', 'encoded dots'],
    ['&AEE-', 'an encoded letter'],
    ['&Jjo', 'an unclosed shift'],
    ['&', 'a lone ampersand'],
    ['&Jjo!-', 'a character outside base64'],
    ['&Jjp-', 'padding bits that are not zero'],
    ['&U,BTFw-&ZeVnLIqe-', 'adjacent shifts'], // RFC 3501 5.1.3: superfluous shifts are not permitted
    ['&AA=-', 'padding'],
    ['&2D0-', 'half a surrogate pair'],
    ['caf\u00e9', 'a byte outside ASCII'],
    ['&AAA', 'a NUL that is not closed'],
  ] as const;
  test.each(refused)('%s is refused: %s', (encoded, _why) => {
    expect(decodeModifiedUtf7(encoded)).toBeUndefined();
  });
});
