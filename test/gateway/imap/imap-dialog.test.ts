import { describe, expect, test } from '@jest/globals';
import { ImapDialog } from '../../../gateway/imap/imap-dialog.ts';

interface Facts {
  tls: boolean;
  plaintextLogin: boolean;
}
const overTls: Facts = { tls: true, plaintextLogin: false };
const plain: Facts = { tls: false, plaintextLogin: false };

/** What the dialog says, and the steps other than saying: `login ann/pw`, `close`, `start-tls`. Stops at a login. */
function run(input: string, facts: Facts, bytewise = false): { said: string; steps: string[] } {
  const dialog = new ImapDialog({ ...facts, canStartTls: true });
  const chunks = bytewise ? input.split('') : [input];
  let said = '';
  const steps: string[] = [];
  for (const chunk of chunks) {
    dialog.push(Buffer.from(chunk, 'latin1'));
    for (;;) {
      const step = dialog.next();
      if (step.do === 'wait') break;
      if (step.do === 'login') {
        const { login } = step;
        steps.push(`login ${login.user}/${'password' in login ? login.password : ''}/${login.mechanism}`);
        return { said, steps };
      }
      if (!('text' in step)) return { said, steps: [...steps, step.do] };
      said += step.text;
      if (step.do === 'close') return { said, steps: [...steps, `close ${step.reason}`] };
      if (step.do === 'start-tls') return { said, steps: [...steps, 'start-tls'] };
    }
  }
  return { said, steps };
}

const base64 = (text: string): string => Buffer.from(text).toString('base64');
const many = (count: number, line: string): string => line.repeat(count);

// RFC 9051 6.1, 6.2 and CASES 20-25, 63, 65, 70: what is sent, what is said, what is done.
const rows: readonly {
  name: string;
  input: string;
  facts?: Facts;
  said: RegExp;
  steps?: readonly string[];
}[] = [
  {
    name: 'CAPABILITY before TLS',
    input: 'a CAPABILITY\r\n',
    facts: plain,
    said: /^\* CAPABILITY IMAP4rev1 IMAP4rev2 LITERAL\+ SASL-IR ID STARTTLS LOGINDISABLED\r\na OK/,
  },
  {
    name: 'CAPABILITY over TLS',
    input: 'a capability\r\n',
    said: /^\* CAPABILITY IMAP4rev1 IMAP4rev2 LITERAL\+ SASL-IR ID AUTH=PLAIN AUTH=LOGIN\r\na OK/,
  },
  { name: 'NOOP', input: 'a NOOP\r\n', said: /^a OK/ },
  { name: 'LOGOUT', input: 'a LOGOUT\r\n', said: /^\* BYE .*\r\na OK/, steps: ['close logout'] },
  {
    name: 'ID',
    input: 'a ID ("name" "x" "x-originating-ip" "127.0.0.1")\r\n',
    said: /^\* ID \("name" "Postern"\)\r\na OK/,
  },
  { name: 'ID NIL', input: 'a ID NIL\r\n', said: /^\* ID .*\r\na OK/ },
  { name: 'ID with 1,000 fields', input: `a ID (${many(1000, '"k" "v" ').trim()})\r\n`, said: /^a BAD/ },
  { name: 'STARTTLS', input: 'a STARTTLS\r\n', facts: plain, said: /^a OK/, steps: ['start-tls'] },
  { name: 'STARTTLS over TLS', input: 'a STARTTLS\r\n', said: /^a BAD/ },
  { name: 'LOGIN before TLS', input: 'a LOGIN ann pw\r\n', facts: plain, said: /^a NO \[PRIVACYREQUIRED\]/ },
  {
    name: 'AUTHENTICATE before TLS',
    input: `a AUTHENTICATE PLAIN ${base64('\0ann\0pw')}\r\n`,
    facts: plain,
    said: /^a NO \[PRIVACYREQUIRED\]/,
  },
  {
    name: 'LOGIN where the admin allows it',
    input: 'a LOGIN ann pw\r\n',
    facts: { tls: false, plaintextLogin: true },
    said: /^$/,
    steps: ['login ann/pw/LOGIN'],
  },
  { name: 'LOGIN', input: 'a LOGIN ann@x.test pw\r\n', said: /^$/, steps: ['login ann@x.test/pw/LOGIN'] },
  {
    name: 'LOGIN quoted',
    input: 'a LOGIN "ann" "p \\"w\\\\"\r\n',
    said: /^$/,
    steps: ['login ann/p "w\\/LOGIN'],
  },
  {
    name: 'LOGIN by literals',
    input: 'a LOGIN {3}\r\nann {2}\r\npw\r\n',
    said: /^\+ OK\r\n\+ OK\r\n$/,
    steps: ['login ann/pw/LOGIN'],
  },
  {
    name: 'LOGIN by non-synchronising literals',
    input: 'a LOGIN {3+}\r\nann {2+}\r\npw\r\n',
    said: /^$/,
    steps: ['login ann/pw/LOGIN'],
  },
  {
    name: 'LOGIN with UTF-8',
    input: 'a LOGIN ann {3+}\r\n\xe2\x82\xac\r\n',
    said: /^$/,
    steps: ['login ann/€/LOGIN'],
  },
  {
    name: 'LOGIN with bytes that are no UTF-8',
    input: 'a LOGIN ann {2+}\r\n\xff\xfe\r\n',
    said: /^a NO \[AUTHENTICATIONFAILED\]/,
  },
  {
    name: 'LOGIN with an empty password',
    input: 'a LOGIN ann ""\r\n',
    said: /^a NO \[AUTHENTICATIONFAILED\]/,
  },
  { name: 'LOGIN with one argument', input: 'a LOGIN ann\r\n', said: /^a BAD/ },
  { name: 'LOGIN with three arguments', input: 'a LOGIN ann pw pw\r\n', said: /^a BAD/ },
  {
    name: 'AUTHENTICATE PLAIN with SASL-IR',
    input: `a AUTHENTICATE PLAIN ${base64('\0ann\0pw')}\r\n`,
    said: /^$/,
    steps: ['login ann/pw/PLAIN'],
  },
  {
    name: 'AUTHENTICATE PLAIN in two steps',
    input: `a AUTHENTICATE PLAIN\r\n${base64('\0ann\0pw')}\r\n`,
    said: /^\+ \r\n$/,
    steps: ['login ann/pw/PLAIN'],
  },
  {
    name: 'AUTHENTICATE LOGIN',
    input: `a AUTHENTICATE LOGIN\r\n${base64('ann')}\r\n${base64('pw')}\r\n`,
    said: /^\+ VXNlcm5hbWU6\r\n\+ UGFzc3dvcmQ6\r\n$/,
    steps: ['login ann/pw/LOGIN'],
  },
  {
    name: 'AUTHENTICATE cancelled',
    input: 'a AUTHENTICATE PLAIN\r\n*\r\nb NOOP\r\n',
    said: /^\+ \r\na BAD .*\r\nb OK/,
  },
  {
    name: 'AUTHENTICATE with what is no base64',
    input: 'a AUTHENTICATE PLAIN\r\n!!!\r\n',
    said: /^\+ \r\na BAD/,
  },
  {
    name: 'AUTHENTICATE for somebody else',
    input: `a AUTHENTICATE PLAIN ${base64('bob\0ann\0pw')}\r\n`,
    said: /^a NO \[AUTHENTICATIONFAILED\]/,
  },
  {
    name: 'AUTHENTICATE with one NUL too many',
    input: `a AUTHENTICATE PLAIN ${base64('\0ann\0p\0w')}\r\n`,
    said: /^a NO \[AUTHENTICATIONFAILED\]/,
  },
  {
    name: 'AUTHENTICATE with an empty password',
    input: `a AUTHENTICATE PLAIN ${base64('\0ann\0')}\r\n`,
    said: /^a NO \[AUTHENTICATIONFAILED\]/,
  },
  { name: 'AUTHENTICATE by an unknown mechanism', input: 'a AUTHENTICATE CRAM-MD5\r\n', said: /^a NO/ },
  {
    name: 'a literal in the middle of AUTHENTICATE',
    input: 'a AUTHENTICATE PLAIN\r\n{5}\r\n',
    said: /^\+ \r\na BAD/,
  },
  { name: 'SELECT before login', input: 'a SELECT INBOX\r\n', said: /^a BAD/ },
  { name: 'a command without a tag', input: 'NOOP\r\n', said: /BAD/ },
  {
    name: 'ten errors',
    input: many(10, 'a SELECT x\r\n'),
    said: /\* BYE Too many errors\r\n$/,
    steps: ['close too-many-errors'],
  },
  { name: 'nine errors', input: `${many(9, 'a SELECT x\r\n')}b NOOP\r\n`, said: /b OK/ },
  { name: 'a literal of 4 GiB', input: 'a LOGIN {4294967296}\r\nb NOOP\r\n', said: /BAD .*\r\nb OK/ },
  { name: 'a literal of 14 digits', input: 'a LOGIN {99999999999999}\r\n', said: /BAD/ },
  { name: 'a negative literal', input: 'a LOGIN {-1}\r\n', said: /^a BAD/ },
  {
    name: 'LITERAL+ of 100 MB',
    input: 'a LOGIN {104857600+}\r\n',
    said: /^a BAD .*\r\n\* BYE/,
    steps: ['close literal-too-big'],
  },
  {
    name: 'LITERAL+ over 4096',
    input: 'a LOGIN {4097+}\r\n',
    said: /^a BAD/,
    steps: ['close literal-too-big'],
  },
  {
    name: 'a synchronising literal over 4096',
    input: 'a LOGIN {4097}\r\nb NOOP\r\n',
    said: /^a BAD .*\r\nb OK/,
  },
  { name: 'a line without end', input: 'a'.repeat(13_000), said: /\* BYE/, steps: ['close line-too-long'] },
  { name: 'parentheses 4,000 deep', input: `a ID ${'('.repeat(4000)}\r\n`, said: /^a BAD/ },
  {
    name: 'many literals',
    input: `a LOGIN ${many(1000, '{1+}\r\nx ')}\r\n`,
    said: /BAD/,
    steps: ['close command-too-big'],
  },
  { name: 'NUL in a quoted string', input: 'a LOGIN "a\0" x\r\n', said: /BAD/ },
  { name: 'CRLF in a quoted string', input: 'a LOGIN "a\r\nb" x\r\n', said: /^a BAD/ },
  { name: 'a bare LF', input: 'a NOOP\nb NOOP\r\n', said: /BAD .*\r\n\* BYE/, steps: ['close bare-newline'] },
  { name: 'GET', input: 'GET / HTTP/1.1\r\nHost: x\r\n\r\n', said: /^\* BYE/, steps: ['close http'] },
  {
    name: 'POST with IMAP in its body',
    input: 'POST /x HTTP/1.1\r\n\r\na LOGIN ann pw\r\n',
    said: /^\* BYE/,
    steps: ['close http'],
  },
  { name: 'HTTP/2', input: 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', said: /^\* BYE/, steps: ['close http'] },
];

describe('IMAP before login', () => {
  test.each(rows)('$name', ({ input, facts = overTls, said, steps = [] }) => {
    const outcome = run(input, facts);
    expect(outcome.said).toMatch(said);
    expect(outcome.steps).toEqual(steps);
  });

  test.each(rows)('$name, byte by byte', ({ input, facts = overTls, said, steps = [] }) => {
    const outcome = run(input, facts, true);
    expect(outcome.said).toMatch(said);
    expect(outcome.steps).toEqual(steps);
  });

  test('a capability list from an owner that would break the line is not passed on', () => {
    const dialog = new ImapDialog({ ...overTls, canStartTls: true });
    dialog.push(Buffer.from('a LOGIN ann pw\r\n'));
    expect(dialog.next().do).toBe('login');
    expect(dialog.loggedIn('IMAP4rev1] x\r\n* BYE')).toBe('a OK [CAPABILITY IMAP4rev1] Logged in\r\n');
  });

  test('nothing from before TLS is kept', () => {
    const dialog = new ImapDialog({ ...plain, canStartTls: true });
    dialog.push(Buffer.from('a STARTTLS\r\nb LOGIN ann pw\r\n'));
    expect(dialog.next().do).toBe('start-tls');
    dialog.tlsStarted();
    expect(dialog.next().do).toBe('wait');
  });
});
