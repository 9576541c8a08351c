/** The receiver against a plain reference, with every way to cut the bytes. */
import { describe, expect, test } from '@jest/globals';
import { DataReceiver } from '../../../gateway/smtp/data-receiver.ts';
import {
  headerExtent,
  headerNames,
  headerValues,
  withoutFields,
} from '../../../gateway/smtp/message-header.ts';

const limits = {
  messageBytesMax: 100_000,
  lineBytesMax: 50,
  headerLinesMax: 20,
  headerBytesMax: 400,
  receivedMax: 5,
};

function receive(bytes: Buffer, cuts: (at: number) => number) {
  const parts: Buffer[] = [];
  const receiver = new DataReceiver(limits, (slice) => parts.push(Buffer.from(slice)));
  for (let at = 0; at < bytes.length; ) {
    const size = Math.max(1, cuts(at));
    const used = receiver.push(bytes.subarray(at, at + size));
    if (used !== -1) return { receiver, end: at + used, message: Buffer.concat(parts) };
    at += size;
  }
  return { receiver, end: -1, message: Buffer.concat(parts) };
}

/** RFC 5321 4.5.2 over the whole text, with nothing incremental about it. */
function reference(text: string): { end: number; message: string; clean: boolean } {
  const end = text.startsWith('.\r\n') ? 0 : text.indexOf('\r\n.\r\n') + 2;
  if (end === 1) return { end: -1, message: '', clean: false };
  const body = text.slice(0, end);
  const clean = !/\r(?!\n)|(?<!\r)\n|\0/.test(body);
  return { end: end + 3, message: body.replace(/(^|\r\n)\./g, '$1'), clean };
}

describe('against the reference', () => {
  const alphabet = ['\r\n', '\r\n', '.', '\r\n.', 'a', 'Subject: x', ': ', ' ', '\r', '\n', '\0', '..'];
  let seed = 1;
  const random = (below: number) => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return seed % below;
  };

  test('20,000 random texts in random pieces', () => {
    for (let round = 0; round < 20_000; round++) {
      // half of them without bytes that are wrong anyhow
      const letters = round % 2 === 0 ? alphabet : alphabet.filter((part) => !/^[\r\n\0]$/.test(part));
      const text = `${Array.from({ length: random(14) }, () => letters[random(letters.length)]).join('')}\r\n.\r\nMAIL FROM:<x>`;
      const want = reference(text);
      const { receiver, end, message } = receive(Buffer.from(text, 'latin1'), () => 1 + random(6));
      const context = JSON.stringify(text);
      if (want.clean) {
        expect([context, receiver.failure?.text]).toEqual([context, undefined]);
        expect([context, end, message.toString('latin1')]).toEqual([context, want.end, want.message]);
        expect(receiver.size).toBe(want.message.length);
      } else {
        expect([context, receiver.failure?.close]).toEqual([context, true]);
      }
    }
  });
});

describe('limits', () => {
  test.each([
    ['a line of 50', `A: b\r\n\r\n${'x'.repeat(50)}\r\n.\r\n`, undefined],
    ['a line of 51', `A: b\r\n\r\n${'x'.repeat(51)}\r\n.\r\n`, /Line too long/],
    ['20 header lines, the empty one counted', `${'A: b\r\n'.repeat(19)}\r\nx\r\n.\r\n`, undefined],
    ['21 header lines', `${'A: b\r\n'.repeat(21)}\r\nx\r\n.\r\n`, /header too big/],
    ['21 lines of text', `${'text\r\n'.repeat(21)}.\r\n`, undefined],
    ['401 header bytes', `${`A: ${'b'.repeat(45)}\r\n`.repeat(9)}\r\nx\r\n.\r\n`, /header too big/],
    ['five Received', `${'Received: x\r\n'.repeat(5)}\r\nx\r\n.\r\n`, undefined],
    ['six Received', `${'received : x\r\n'.repeat(6)}\r\nx\r\n.\r\n`, /loop/],
    ['six Received in the body', `A: b\r\n\r\n${'Received: x\r\n'.repeat(6)}.\r\n`, undefined],
    ['100,001 bytes', `\r\n${`${'x'.repeat(48)}\r\n`.repeat(2000)}.\r\n`, /too big/],
  ] as const)('%s', (_name, text, failure) => {
    for (const piece of [1, 7, 100_000]) {
      const { receiver, end } = receive(Buffer.from(text), () => piece);
      expect(end).toBe(text.length);
      if (failure === undefined) expect(receiver.failure).toBeUndefined();
      else expect(receiver.failure?.text).toMatch(failure);
    }
  });
});

test('header values are unfolded, in order, by name in any case', () => {
  const header = Buffer.from(
    'From x\r\nTo: a,\r\n\tb\r\nSUBJECT : one\r\nsubject:two\r\n  three\r\n\r\nSubject: body\r\n',
  );
  const extent = headerExtent(header);
  expect(header.toString('latin1', extent)).toBe('Subject: body\r\n');
  expect(headerValues(header.subarray(0, extent), 'Subject')).toEqual(['one', 'two  three']);
  expect(headerValues(header.subarray(0, extent), 'to')).toEqual(['a,\tb']);
  expect(headerValues(header.subarray(0, extent), 'cc')).toEqual([]);
});

describe('the fields of a header', () => {
  const header = Buffer.from(
    'From: a@b\r\nX-Old: one\r\n two\r\nAuthentication-Results: mx.test; spf=pass\r\nAuthentication-Results: other; spf=fail\r\nx-old: three\r\n\r\n',
  );

  test('are named in order, as they are spelled', () => {
    expect(headerNames(header)).toEqual([
      'From',
      'X-Old',
      'Authentication-Results',
      'Authentication-Results',
      'x-old',
    ]);
  });

  test.each([
    [[], header.toString()],
    [[{ name: 'Subject' }], header.toString()],
    [
      [{ name: 'x-OLD' }],
      'From: a@b\r\nAuthentication-Results: mx.test; spf=pass\r\nAuthentication-Results: other; spf=fail\r\n\r\n',
    ],
    [
      [{ name: 'Authentication-Results', valueStart: 'MX.test;' }],
      'From: a@b\r\nX-Old: one\r\n two\r\nAuthentication-Results: other; spf=fail\r\nx-old: three\r\n\r\n',
    ],
  ])('without %j', (matches, rest) => {
    expect(withoutFields(header, matches).toString()).toBe(rest);
  });
});
