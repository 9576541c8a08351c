import { describe, expect, test } from '@jest/globals';
import { Pop3Dialog } from '../../../gateway/pop3/pop3-dialog.ts';

const overTls = { tls: true, plaintextLogin: false };
const plain = { tls: false, plaintextLogin: false };
const base64 = (text: string): string => Buffer.from(text).toString('base64');

/** What the dialog says, and the steps other than saying. Stops at a login. */
function run(input: string, facts: typeof plain, bytewise = false): { said: string; steps: string[] } {
  const dialog = new Pop3Dialog({ ...facts, canStartTls: true });
  let said = '';
  for (const chunk of bytewise ? input.split('') : [input]) {
    dialog.push(Buffer.from(chunk, 'latin1'));
    for (;;) {
      const step = dialog.next();
      if (step.do === 'wait') break;
      if (step.do === 'login') {
        const { login } = step;
        const password = 'password' in login ? login.password : '';
        return { said, steps: [`login ${login.user}/${password}/${login.mechanism}`] };
      }
      if (!('text' in step)) return { said, steps: [step.do] };
      said += step.text;
      if (step.do === 'close') return { said, steps: [`close ${step.reason}`] };
      if (step.do === 'start-tls') return { said, steps: ['start-tls'] };
    }
  }
  return { said, steps: [] };
}

// RFC 1939 4, 7; RFC 2449; RFC 2595; RFC 5034; CASES 30, 63, 70.
const rows: readonly {
  name: string;
  input: string;
  facts?: typeof plain;
  said: RegExp;
  steps?: readonly string[];
}[] = [
  { name: 'CAPA before TLS', input: 'CAPA\r\n', facts: plain, said: /^\+OK\r\n(?!.*SASL).*STLS\r\n\.\r\n$/s },
  {
    name: 'CAPA over TLS',
    input: 'capa\r\n',
    said: /^\+OK\r\n(?!.*STLS).*USER\r\nSASL PLAIN LOGIN\r\n\.\r\n$/s,
  },
  { name: 'STLS', input: 'STLS\r\n', facts: plain, said: /^\+OK/, steps: ['start-tls'] },
  { name: 'STLS over TLS', input: 'STLS\r\n', said: /^-ERR/ },
  { name: 'USER before TLS', input: 'USER ann\r\nPASS pw\r\n', facts: plain, said: /^-ERR [^\n]*\n-ERR/ },
  { name: 'AUTH before TLS', input: `AUTH PLAIN ${base64('\0ann\0pw')}\r\n`, facts: plain, said: /^-ERR/ },
  {
    name: 'USER and PASS',
    input: 'USER ann\r\nPASS p w \r\n',
    said: /^\+OK\r\n$/,
    steps: ['login ann/p w /USER'],
  },
  { name: 'PASS without USER', input: 'PASS pw\r\n', said: /^-ERR/ },
  {
    name: 'a command between USER and PASS',
    input: 'USER ann\r\nSTAT\r\nPASS pw\r\n',
    said: /^\+OK\r\n-ERR .*\r\n-ERR/,
  },
  { name: 'PASS without a password', input: 'USER ann\r\nPASS\r\n', said: /-ERR \[AUTH\]/ },
  { name: 'AUTH lists', input: 'AUTH\r\n', said: /^\+OK\r\nPLAIN\r\nLOGIN\r\n\.\r\n$/ },
  {
    name: 'AUTH PLAIN',
    input: `AUTH PLAIN ${base64('\0ann\0pw')}\r\n`,
    said: /^$/,
    steps: ['login ann/pw/PLAIN'],
  },
  {
    name: 'AUTH PLAIN in two steps',
    input: `AUTH PLAIN\r\n${base64('\0ann\0pw')}\r\n`,
    said: /^\+ \r\n$/,
    steps: ['login ann/pw/PLAIN'],
  },
  {
    name: 'AUTH LOGIN',
    input: `AUTH LOGIN\r\n${base64('ann')}\r\n${base64('pw')}\r\n`,
    said: /^\+ \S+\r\n\+ \S+\r\n$/,
    steps: ['login ann/pw/LOGIN'],
  },
  { name: 'AUTH cancelled', input: 'AUTH PLAIN\r\n*\r\nCAPA\r\n', said: /^\+ \r\n-ERR .*\r\n\+OK/ },
  {
    name: 'AUTH for somebody else',
    input: `AUTH PLAIN ${base64('bob\0ann\0pw')}\r\n`,
    said: /^-ERR \[AUTH\]/,
  },
  { name: 'UTF8', input: 'UTF8\r\nUTF8 x\r\n', said: /^\+OK .*\r\n-ERR/ },
  {
    name: 'UTF8 before TLS',
    input: 'UTF8\r\nSTLS\r\n',
    facts: plain,
    said: /^\+OK.*\r\n\+OK/,
    steps: ['start-tls'],
  },
  { name: 'QUIT', input: 'QUIT\r\n', said: /^\+OK/, steps: ['close logout'] },
  { name: 'RETR before login', input: 'RETR 1\r\n', said: /^-ERR/ },
  { name: 'DELE before login', input: 'DELE 1\r\n', said: /^-ERR/ },
  {
    name: 'a USER of 1 MB',
    input: `USER ${'x'.repeat(1_000_000)}\r\n`,
    said: /^-ERR/,
    steps: ['close line-too-long'],
  },
  {
    name: 'ten errors',
    input: 'STAT\r\n'.repeat(10),
    said: /^(-ERR .*\r\n){10}$/,
    steps: ['close too-many-errors'],
  },
  { name: 'a bare LF', input: 'USER ann\nPASS pw\r\n', said: /^-ERR/, steps: ['close bare-newline'] },
  { name: 'NUL', input: 'USER a\0b\r\n', said: /^-ERR/, steps: ['close nul-byte'] },
  { name: 'GET', input: 'GET / HTTP/1.1\r\n\r\n', said: /^-ERR/, steps: ['close http'] },
];

describe('POP3 before login', () => {
  test.each(rows)('$name', ({ input, facts = overTls, said, steps = [] }) => {
    const outcome = run(input, facts);
    expect(outcome.said).toMatch(said);
    expect(outcome.steps).toEqual(steps);
  });

  test.each(rows.filter(({ input }) => input.length < 10_000))(
    '$name, byte by byte',
    ({ input, facts = overTls, said, steps = [] }) => {
      const outcome = run(input, facts, true);
      expect(outcome.said).toMatch(said);
      expect(outcome.steps).toEqual(steps);
    },
  );

  test('a login that comes too early is told so, and may come again', () => {
    const dialog = new Pop3Dialog({ tls: true, plaintextLogin: false, canStartTls: true });
    dialog.push(Buffer.from('USER ann\r\nPASS pw\r\n'));
    expect([dialog.next().do, dialog.next().do]).toEqual(['say', 'login']);
    expect(dialog.loginRefused('login-delay')).toMatchObject({
      do: 'say',
      text: expect.stringMatching(/^-ERR \[LOGIN-DELAY\] /),
    });
  });

  test('a name from before TLS is forgotten', () => {
    const dialog = new Pop3Dialog({ tls: false, plaintextLogin: true, canStartTls: true });
    dialog.push(Buffer.from('USER ann\r\nSTLS\r\nPASS pw\r\n'));
    expect(dialog.next().do).toBe('say');
    expect(dialog.next().do).toBe('start-tls');
    dialog.tlsStarted();
    expect(dialog.next().do).toBe('wait');
    dialog.push(Buffer.from('PASS pw\r\n'));
    expect(dialog.next()).toMatchObject({ do: 'say', text: '-ERR USER first\r\n' });
  });
});
