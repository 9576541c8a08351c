/** MIME as strangers write it: the structure of ordinary messages, and bounds on hostile ones (CASES 50). */
import { describe, expect, test } from '@jest/globals';
import { parseAddressList } from '../../mailwire/mime/address-list.ts';
import { decodeEncodedWords } from '../../mailwire/mime/encoded-words.ts';
import { parseHeaderFields, selectFields } from '../../mailwire/mime/header-fields.ts';
import { parseMessageDate } from '../../mailwire/mime/message-date.ts';
import { decodedParameter, parseParameterized } from '../../mailwire/mime/parameters.ts';
import { type Part, parseStructure, structureOf } from '../../mailwire/mime/structure.ts';
import { TextScanner } from '../../mailwire/mime/text-scanner.ts';
import { decodeBody, decodeTransfer, transferDecoder } from '../../mailwire/mime/transfer-encoding.ts';

const lines = (...all: string[]) => Buffer.from(all.join('\r\n'), 'latin1');

/** `type/subtype[header:body-end lines](children)` */
function shown(part: Part): string {
  const inner = part.message
    ? `<${shown(part.message)}>`
    : part.parts.length > 0
      ? `(${part.parts.map(shown).join(' ')})`
      : '';
  return `${part.type}/${part.subtype}${inner}`;
}

function bodies(message: Buffer, part: Part): string[] {
  if (part.message) return bodies(message, part.message);
  if (part.parts.length > 0) return part.parts.flatMap((child) => bodies(message, child));
  return [message.toString('latin1', part.bodyStart, part.bodyEnd)];
}

async function timed<T>(work: () => T | Promise<T>): Promise<{ value: T; ms: number }> {
  const startedAt = performance.now();
  const value = await work();
  return { value, ms: performance.now() - startedAt };
}

describe('structure', () => {
  const rows: { says: string; message: Buffer; shows: string; bodies: string[] }[] = [
    {
      says: 'a plain message',
      message: lines('Subject: x', '', 'hello', ''),
      shows: 'text/plain',
      bodies: ['hello\r\n'],
    },
    { says: 'no header at all', message: lines('', 'hello'), shows: 'text/plain', bodies: ['hello'] },
    { says: 'nothing at all', message: Buffer.alloc(0), shows: 'text/plain', bodies: [''] },
    { says: 'a header only', message: lines('Subject: x', ''), shows: 'text/plain', bodies: [''] },
    {
      says: 'parts, preamble and epilogue',
      message: lines(
        'Content-Type: multipart/mixed; boundary=b',
        '',
        'pre',
        '--b',
        '',
        'one',
        '--b  ',
        'Content-Type: text/html',
        '',
        'two',
        '',
        '--b--',
        'after',
        '--b',
        'no part',
      ),
      shows: 'multipart/mixed(text/plain text/html)',
      bodies: ['one', 'two\r\n'],
    },
    {
      says: 'an inner multipart that is not closed',
      message: lines(
        'Content-Type: multipart/mixed; boundary=a',
        '',
        '--a',
        'Content-Type: multipart/alternative; boundary=b',
        '',
        '--b',
        '',
        'one',
        '--a',
        '',
        'two',
        '--a--',
      ),
      shows: 'multipart/mixed(multipart/alternative(text/plain) text/plain)',
      bodies: ['one', 'two'],
    },
    {
      says: 'a boundary that begins with another',
      message: lines(
        'Content-Type: multipart/mixed; boundary=a',
        '',
        '--a',
        'Content-Type: multipart/mixed; boundary=ab',
        '',
        '--ab',
        '',
        'one',
        '--ab--',
        '--a',
        '',
        'two',
        '--a--',
      ),
      shows: 'multipart/mixed(multipart/mixed(text/plain) text/plain)',
      bodies: ['one', 'two'],
    },
    {
      // RFC 2046 5.1.1: an exact match of the entire line is not required.
      says: 'text behind a boundary',
      message: lines(
        'Content-Type: multipart/mixed; boundary=bb',
        '',
        '--bb',
        '',
        'one',
        '--bb and more',
        '',
        'two',
        '--bb--</BODY>',
        'epilogue',
      ),
      shows: 'multipart/mixed(text/plain text/plain)',
      bodies: ['one', 'two'],
    },
    {
      says: 'a type without the semicolon behind it',
      message: lines('Content-Type: TEXT / PLAIN charset=us-ascii', '', 'text'),
      shows: 'text/plain',
      bodies: ['text'],
    },
    {
      says: 'digest',
      message: lines(
        'Content-Type: multipart/digest; boundary=b',
        '',
        '--b',
        '',
        'Subject: in',
        '',
        'text',
        '--b--',
      ),
      shows: 'multipart/digest(message/rfc822<text/plain>)',
      bodies: ['text'],
    },
    {
      says: 'a boundary in the middle of a header',
      message: lines(
        'Content-Type: multipart/mixed; boundary=b',
        '',
        '--b',
        'Content-Type: text/html',
        '--b',
        '',
        'two',
        '--b--',
      ),
      shows: 'multipart/mixed(text/html text/plain)',
      bodies: ['', 'two'],
    },
    {
      says: 'a multipart without boundary',
      message: lines('Content-Type: multipart/mixed', '', '--b', '', 'x'),
      shows: 'application/octet-stream',
      bodies: ['--b\r\n\r\nx'],
    },
    {
      says: 'a message inside that is encoded stays closed',
      message: lines(
        'Content-Type: message/rfc822',
        'Content-Transfer-Encoding: base64',
        '',
        'U3ViamVjdDogeA==',
      ),
      shows: 'message/rfc822',
      bodies: ['U3ViamVjdDogeA=='],
    },
    {
      says: 'a content type that is none',
      message: lines('Content-Type: frob', '', 'x'),
      shows: 'text/plain',
      bodies: ['x'],
    },
    {
      says: 'a folded content type with comment',
      message: lines('Content-Type: text/html (really);', '\tcharset="utf-8"', '', 'x'),
      shows: 'text/html',
      bodies: ['x'],
    },
  ];
  test.each(rows)('$says', async ({ message, shows, bodies: wanted }) => {
    const part = structureOf(message);
    expect(shown(part)).toBe(shows);
    expect(bodies(message, part)).toEqual(wanted);
    expect(part.bodyEnd).toBe(message.length);
    const streamed = await parseStructure({
      size: message.length,
      read: async (start, end) => message.subarray(start, end),
    });
    expect(streamed).toEqual(part);
  });

  test('is the same when the message is longer than a window', async () => {
    const long = 'x'.repeat(300_000);
    const message = lines(
      'Content-Type: multipart/mixed; boundary=b',
      '',
      '--b',
      '',
      long,
      'short',
      '--b',
      '',
      'y\r\n'.repeat(200_000),
      '--b--',
      '',
    );
    const streamed = await parseStructure({
      size: message.length,
      read: async (start, end) => message.subarray(start, end),
    });
    expect(streamed).toEqual(structureOf(message));
    expect(streamed.parts).toHaveLength(2);
    // Two lines, and the end of the second belongs to the boundary.
    expect(streamed.parts[0]!.lines).toBe(1);
    expect(streamed.parts[1]!.bodyEnd - streamed.parts[1]!.bodyStart).toBe(600_000);
  });

  const hostile: [string, () => Buffer, (part: Part) => void][] = [
    [
      '10,000 nested multiparts',
      () =>
        lines(
          'Content-Type: multipart/mixed; boundary=b0',
          '',
          ...Array.from(
            { length: 10_000 },
            (_, n) => `--b${n}\r\nContent-Type: multipart/mixed; boundary=b${n + 1}\r\n`,
          ),
          '',
        ),
      (part) => {
        let depth = 0;
        for (let at: Part | undefined = part; at; at = at.parts[0]) depth++;
        expect(depth).toBe(101);
      },
    ],
    [
      '10,000 nested messages',
      () => Buffer.from('Content-Type: message/rfc822\r\n\r\n'.repeat(10_000)),
      (part) => {
        let depth = 0;
        for (let at: Part | undefined = part; at; at = at.message) depth++;
        expect(depth).toBe(101);
      },
    ],
    [
      '100,000 parts',
      () =>
        lines(
          'Content-Type: multipart/mixed; boundary=b',
          '',
          ...Array.from({ length: 100_000 }, () => '--b\r\n\r\nx'),
          '--b--',
        ),
      (part) => expect(part.parts).toHaveLength(9999),
    ],
    [
      'a boundary of 64 KB',
      () =>
        lines(
          `Content-Type: multipart/mixed; boundary="${'b'.repeat(65_536)}"`,
          '',
          ...Array.from({ length: 50 }, () => `--${'b'.repeat(65_536)}`),
        ),
      (part) => expect(shown(part)).toBe('application/octet-stream'),
    ],
    [
      '100 boundaries and 300,000 lines that almost match',
      () =>
        lines(
          'Content-Type: multipart/mixed; boundary=b0',
          '',
          ...Array.from(
            { length: 99 },
            (_, n) => `--b${n}\r\nContent-Type: multipart/mixed; boundary=b${n + 1}\r\n`,
          ),
          '--bx\r\n'.repeat(300_000),
        ),
      (part) => expect(part.parts).toHaveLength(1),
    ],
    [
      '100,000 parameters',
      () =>
        lines(
          `Content-Type: text/plain${Array.from({ length: 100_000 }, (_, n) => `; p*${n}*=x`).join('')}`,
          '',
          '',
        ),
      (part) => expect(part.params).toHaveLength(200),
    ],
    [
      'a header of 50 MB',
      () => Buffer.from(`X: ${'y'.repeat(50_000_000)}\r\n\r\nbody`),
      (part) => expect(part.bodyEnd - part.bodyStart).toBe(4),
    ],
    [
      '20 MB of line ends',
      () => Buffer.alloc(20_000_000, '\r\n'),
      (part) => expect(part.lines).toBe(9_999_999),
    ],
  ];
  test.each(hostile)('%s: bounded, in linear time', async (_, make, check) => {
    const message = make();
    const { value, ms } = await timed(() =>
      parseStructure({ size: message.length, read: async (start, end) => message.subarray(start, end) }),
    );
    check(value);
    expect(ms).toBeLessThan(3000);
  });
});

describe('header fields', () => {
  test('folded, repeated, odd and broken ones', () => {
    const fields = parseHeaderFields(
      lines('A: 1', 'b : 2', 'no field', 'C:', ' folded', '\tmore', ': none', 'A: 3', '', 'D: body'),
    );
    expect(fields.map(({ name, raw }) => [name, raw])).toEqual([
      ['a', ' 1'],
      ['b', ' 2'],
      ['c', '\r\n folded\r\n\tmore'],
      ['a', ' 3'],
    ]);
  });
  test('selected as they stand', () => {
    const header = lines('A: 1', 'B: 2', ' folded', 'a: 3', '', '');
    expect(selectFields(header, new Set(['a']), false).toString()).toBe('A: 1\r\na: 3\r\n\r\n');
    expect(selectFields(header, new Set(['a']), true).toString()).toBe('B: 2\r\n folded\r\n\r\n');
    expect(selectFields(header, new Set(['x']), false).toString()).toBe('\r\n');
  });
  test('500,000 lines are bounded', async () => {
    const { value, ms } = await timed(() => parseHeaderFields(Buffer.from('a: b\r\n'.repeat(500_000))));
    expect(value.length).toBeLessThanOrEqual(50_000);
    expect(ms).toBeLessThan(1000);
  });
});

describe('parameters', () => {
  test.each([
    ['attachment; filename="a b.txt"', 'a b.txt'],
    ['attachment; filename=a.txt (comment)', 'a.txt'],
    ['attachment; filename="a\\"b"; x=y', 'a"b'],
    ["attachment; filename*=utf-8'en'%E2%82%AC.txt", '€.txt'],
    ["attachment; filename*0*=iso-8859-1''%FC; filename*1=b; filename*2*=%FC", 'übü'],
    ['attachment; filename*0="a"; filename*1="b"; filename*3="d"', 'ab'],
    ['attachment; filename="=?utf-8?B?4oKs?="', '€'],
    ['attachment; filename', undefined],
    ['attachment;;; ;filename=x;', 'x'],
    ['attachment; filename="unclosed', 'unclosed'],
  ])('%s', (text, name) => {
    const { value, params } = parseParameterized(text);
    expect(value).toBe('attachment');
    expect(decodedParameter(params, 'filename')).toBe(name);
  });
});

describe('addresses', () => {
  const entry = (text: string) =>
    parseAddressList(text).map((found) =>
      found.kind === 'mailbox'
        ? `${found.name ?? ''}|${found.route ?? ''}|${found.local}@${found.domain}`
        : found.kind === 'group'
          ? `${found.name}:`
          : ';',
    );
  test.each([
    ['ann@example.org', ['||ann@example.org']],
    ['Ann B. <ann@example.org>, bob@example.org', ['Ann B.||ann@example.org', '||bob@example.org']],
    ['"B, Ann" <ann@example.org>', ['B, Ann||ann@example.org']],
    ['ann@example.org (Ann)', ['Ann||ann@example.org']],
    ['<@a,@b:ann@example.org>', ['|@a,@b|ann@example.org']],
    ['"a b"@example.org', ['||a b@example.org']],
    ['ann@[192.0.2.1]', ['||ann@[192.0.2.1]']],
    ['undisclosed-recipients:;', ['undisclosed-recipients:', ';']],
    ['g: a@x, b@y;, c@z', ['g:', '||a@x', '||b@y', ';', '||c@z']],
    ['g: a@x', ['g:', '||a@x', ';']],
    ['ann', ['||ann@']],
    ['', []],
    [',,;', []],
    ['<>', ['||@']],
    ['a@b@c', ['||a@b']],
    ['Ann <ann@example.org', ['Ann||ann@example.org']],
  ])('%s', (text, wanted) => {
    expect(entry(text)).toEqual(wanted);
  });
  test.each([
    ['nested groups', 'g:'.repeat(200_000)],
    ['nested comments', '('.repeat(400_000)],
    ['500,000 addresses', 'a@b,'.repeat(500_000)],
    ['angles', '<'.repeat(400_000)],
    ['at signs', '@'.repeat(400_000)],
    ['quotes', '"'.repeat(400_001)],
    ['colons in angles', '<@:'.repeat(200_000)],
    ['commas in a route', `<${'@a,'.repeat(200_000)}`],
    ['backslashes', '"\\'.repeat(200_000)],
    ['literals', '['.repeat(400_000)],
  ])('%s: bounded, in linear time', async (_, text) => {
    const { value, ms } = await timed(() => parseAddressList(text));
    expect(value.length).toBeLessThanOrEqual(2001);
    expect(ms).toBeLessThan(1500);
  });
});

describe('encoded words', () => {
  test.each([
    ['=?utf-8?Q?Gr=C3=BC=C3=9Fe?=', 'Grüße'],
    ['=?UTF-8?B?R3LDvMOfZQ==?= plain', 'Grüße plain'],
    ['=?utf-8?B?4oI=?= =?utf-8?B?rA==?=', '€'],
    ['=?iso-8859-1?q?a?= b =?iso-8859-1*en?q?_=FC?=', 'a b  ü'],
    ['=?x-frob?q?a?=', 'a'],
    ['=?utf-8?X?a?=', '=?utf-8?X?a?='],
    ['=?utf-8?q?a', '=?utf-8?q?a'],
    ['gr\u00c3\u00bc\u00c3\u009f', 'grüß'],
    ['gr\u00fc\u00df', 'grüß'],
  ])('%s', (text, wanted) => {
    expect(decodeEncodedWords(text)).toBe(wanted);
  });
  test('many that are none: linear', async () => {
    const { ms } = await timed(() => decodeEncodedWords('=?a?q?'.repeat(40_000)));
    expect(ms).toBeLessThan(1000);
  });
});

describe('transfer encodings', () => {
  const text = 'Grüße = 100 % ≠ 0\r\nzweite Zeile mit Leerzeichen \r\n';
  const rows: [string, string, Buffer][] = [
    ['base64', Buffer.from(text).toString('base64').replace(/.{10}/g, '$&\r\n'), Buffer.from(text)],
    [
      'quoted-printable',
      'Gr=C3=BC=C3=9Fe =3D 10=\r\n0 % =e2=89=a0 0\t \r\na=b=\r\n',
      Buffer.from('Grüße = 100 % ≠ 0\r\na=b'),
    ],
    ['7bit', 'as it is', Buffer.from('as it is')],
    ['x-frob', 'as it is', Buffer.from('as it is')],
  ];
  test.each(rows)('%s, whole and byte by byte', (encoding, encoded, wanted) => {
    expect(decodeTransfer(Buffer.from(encoded), encoding).toString()).toBe(wanted.toString());
    if (encoding === 'quoted-printable') return;
    const decoder = transferDecoder(encoding);
    const parts = [...encoded].map((char) => Buffer.from(decoder.push(Buffer.from(char))));
    expect(Buffer.concat([...parts, decoder.end()]).toString()).toBe(wanted.toString());
  });
  test('charsets', () => {
    expect(decodeBody(Buffer.from('=FC'), 'quoted-printable', 'ISO-8859-1')).toBe('ü');
    expect(decodeBody(Buffer.from('\xfc', 'latin1'), '8bit', '')).toBe('ü');
    expect(decodeBody(Buffer.from('ü'), '8bit', 'us-ascii')).toBe('ü');
    expect(decodeBody(Buffer.from('ü'), '8bit', 'no-such-charset')).toBe('ü');
    expect(decodeBody(Buffer.from([0x82, 0xa0]), '8bit', 'Shift_JIS')).toBe('あ');
  });
  test('a text is found across the pieces of a body', () => {
    for (let size = 1; size < 12; size++) {
      const bytes = Buffer.from(Buffer.from('viel Text, dann GRÜSSE aus Köln').toString('base64'));
      const scanner = new TextScanner('grüsse aus köln', 'base64', 'utf-8', (found) => found.toLowerCase());
      let found = false;
      for (let at = 0; at < bytes.length; at += size)
        found = scanner.push(bytes.subarray(at, at + size)) || found;
      expect(found || scanner.end()).toBe(true);
    }
  });
});

test.each([
  ['Tue, 1 Jul 2003 10:52:37 +0200', Date.UTC(2003, 6, 1, 8, 52, 37), Date.UTC(2003, 6, 1)],
  ['1 Jul 03 23:30 -0800 (PST)', Date.UTC(2003, 6, 2, 7, 30), Date.UTC(2003, 6, 1)],
  ['Tue, 01 July 2003', Date.UTC(2003, 6, 1), Date.UTC(2003, 6, 1)],
  ['yesterday', undefined, undefined],
  ['31 Feb 2024 10:00:00 +0000', undefined, undefined],
])('date %s', (text, ms, dayMs) => {
  expect(parseMessageDate(text)?.ms).toBe(ms);
  expect(parseMessageDate(text)?.dayMs).toBe(dayMs);
});
