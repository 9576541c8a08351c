import { describe, expect, test } from '@jest/globals';
import { parseFetchItems } from '../../mailwire/imap-fetch-items.ts';
import { decodeMailboxName, encodeMailboxName } from '../../mailwire/imap-mailbox-name.ts';
import { imapAstring, imapNumberSet, imapString } from '../../mailwire/imap-reply.ts';
import { ImapCursor, star, utf8 } from '../../mailwire/imap-tokens.ts';

const cursor = (text: string) => new ImapCursor([Buffer.from(text, 'latin1')]);

/** What a method of the cursor makes of a text, or `!` when it refuses; all of the text has to be taken. */
function take(
  method: 'astring' | 'string' | 'atom' | 'number' | 'nzNumber' | 'nstring' | 'flag' | 'dateTime' | 'date',
  text: string,
): unknown {
  try {
    const at = cursor(text);
    const value = at[method]();
    at.end();
    return value;
  } catch (error) {
    return (error as { code?: string }).code === 'bad-syntax' ? '!' : error;
  }
}

describe('tokens', () => {
  const rows: [Parameters<typeof take>[0], string, unknown][] = [
    ['astring', 'abc', 'abc'],
    ['astring', 'a]b', 'a]b'],
    ['astring', '"a \\"b\\" \\\\"', 'a "b" \\'],
    ['astring', '""', ''],
    ['astring', 'a b', '!'],
    ['astring', '', '!'],
    ['astring', '(a)', '!'],
    ['astring', 'a{3}', '!'],
    ['astring', 'a*', '!'],
    ['astring', 'ä', '!'],
    ['string', '"ä"', 'ä'],
    ['string', '"a', '!'],
    ['string', '"a\\n"', '!'],
    ['string', '"a\rb"', '!'],
    ['string', '"a\nb"', '!'],
    ['string', '"a\0b"', '!'],
    ['string', 'a', '!'],
    ['atom', 'a]', '!'],
    ['nstring', 'NIL', undefined],
    ['nstring', '"x"', 'x'],
    ['nstring', 'x', '!'],
    ['number', '0', 0],
    ['number', '4294967295', 4294967295],
    ['number', '4294967296', '!'],
    ['number', '9'.repeat(400), '!'],
    ['number', '-1', '!'],
    ['number', '1e3', '!'],
    ['nzNumber', '0', '!'],
    ['flag', '\\Seen', '\\Seen'],
    ['flag', '$Work', '$Work'],
    ['flag', '\\', '!'],
    ['date', '1-Feb-2024', Date.UTC(2024, 1, 1)],
    ['date', '"29-Feb-2023"', '!'],
    ['date', '1-Foo-2024', '!'],
    ['dateTime', '" 1-Feb-2024 10:00:00 +0130"', Date.UTC(2024, 1, 1, 8, 30)],
    ['dateTime', '"01-Feb-2024 25:00:00 +0000"', '!'],
  ];
  test.each(rows)('%s of %j', (method, text, value) => {
    expect(take(method, text)).toEqual(value);
  });

  test.each([
    ['1', [{ from: 1, to: 1 }]],
    [
      '4:2,*',
      [
        { from: 2, to: 4 },
        { from: star, to: star },
      ],
    ],
    ['*:3', [{ from: 3, to: star }]],
    ['$', '$'],
    ['1,', '!'],
    ['1:', '!'],
    ['0', '!'],
    [',1', '!'],
  ])('sequence set %s', (text, value) => {
    let found: unknown = '!';
    try {
      found = cursor(text).sequenceSet();
    } catch {
      // stays '!'
    }
    expect(found).toEqual(value);
  });

  test('literals stand between texts', () => {
    const at = new ImapCursor([
      Buffer.from('a LOGIN '),
      { literal: Buffer.from('ann'), binary: false },
      Buffer.from(' '),
      { literal: Buffer.from('pw'), binary: false },
      Buffer.from(''),
    ]);
    expect(at.tag()).toBe('a');
    at.space();
    expect(at.keyword()).toBe('LOGIN');
    at.space();
    expect(at.astring()).toBe('ann');
    at.space();
    expect(at.astring()).toBe('pw');
    expect(at.atEnd).toBe(true);
  });

  test('a literal with NUL is refused', () => {
    const at = new ImapCursor([
      Buffer.from(''),
      { literal: Buffer.from('a\0'), binary: false },
      Buffer.from(''),
    ]);
    expect(() => at.astring()).toThrow('NUL');
  });

  test('text that is not UTF-8 is refused where UTF-8 is meant', () => {
    expect(utf8('gr\u00c3\u00bc')).toBe('grü');
    expect(() => utf8('\u00ff')).toThrow('UTF-8');
  });
});

test.each([
  ['BODY[]', 'BODY[]'],
  ['BODY.PEEK[1.2.HEADER.FIELDS (From "x y")]<0.9>', 'BODY[1.2.HEADER.FIELDS (From "x y")]<0>'],
  ['BODY[TEXT]', 'BODY[TEXT]'],
  ['BODY[1.MIME]', 'BODY[1.MIME]'],
  ['BODY[MIME]', '!'],
  ['BODY[1.]', '!'],
  ['BODY[0]', '!'],
  ['BODY[TEXT]<0.0>', '!'],
  ['BODY[TEXT', '!'],
  [`BODY[${'1.'.repeat(200)}1]`, '!'],
])('FETCH item %s', (text, label) => {
  let found = '!';
  try {
    const at = cursor(text);
    const [item] = parseFetchItems(at);
    at.end();
    found = item?.kind === 'section' ? item.label : '?';
  } catch {
    // stays '!'
  }
  expect(found).toBe(label);
});

describe('answers', () => {
  test.each([
    ['abc', '"abc"'],
    ['a"b\\', '"a\\"b\\\\"'],
    ['', '""'],
    ['a\r\nb', '{4}\r\na\r\nb'],
    ['ä', '{1}\r\nä'],
    ['a\0b', '{3}\r\na b'],
    ['x'.repeat(2000), `{2000}\r\n${'x'.repeat(2000)}`],
  ])('%j as a string', (text, written) => {
    expect(imapString(text)).toBe(written);
  });
  test('names that look like NIL are quoted', () => {
    expect([imapAstring('nil'), imapAstring('INBOX'), imapAstring('a b'), imapAstring('')]).toEqual([
      '"nil"',
      'INBOX',
      '"a b"',
      '""',
    ]);
  });
  test('numbers as a set', () => {
    expect(imapNumberSet([1, 2, 3, 7, 9, 10])).toBe('1:3,7,9:10');
    expect(imapNumberSet([])).toBe('');
  });
});

test('mailbox names have one spelling', () => {
  expect(decodeMailboxName('inbox', false)).toBe('INBOX');
  expect(decodeMailboxName('iNbOx/x', false)).toBe('INBOX/x');
  expect(decodeMailboxName('Entw&APw-rfe', false)).toBe('Entwürfe');
  expect(encodeMailboxName('Entwürfe & mehr 📎', false)).toBe('Entw&APw-rfe &- mehr &2D3czg-');
  expect(decodeMailboxName(encodeMailboxName('Entwürfe & mehr 📎', false), false)).toBe('Entwürfe & mehr 📎');
  for (const bad of [
    '&Jjo',
    '&AC8-',
    '&AEE-',
    '&AGE-&AGI-',
    '&AOQ-&AOQ-',
    '&2D0-',
    '&AAA-',
    'u\u00cc\u0088',
    '../x',
    'a//b',
    '/a',
    'a/',
    '',
    '\u00ff',
  ]) {
    expect(() => decodeMailboxName(bad, false)).toThrow();
  }
});
