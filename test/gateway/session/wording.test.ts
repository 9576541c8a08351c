import { describe, expect, test } from '@jest/globals';
import type { Verdict } from '../../../gateway/plugins/api.ts';
import { defer, disconnect, reject } from '../../../gateway/plugins/api.ts';
import {
  httpWords,
  imapWords,
  isRefusal,
  pop3Words,
  type RefusalWord,
  sayOf,
  smtpWords,
} from '../../../gateway/session/wording.ts';

const refusal = (verdict: Verdict): Verdict & { readonly word: RefusalWord } => {
  if (!isRefusal(verdict)) throw new Error('no refusal');
  return verdict;
};

// RFC 5321 4.2, RFC 3463, RFC 4954 6; RFC 9051 7.1; RFC 2449 8, RFC 3206; RFC 9110 15, RFC 6585 4
const rows = [
  {
    question: 'connect',
    verdict: defer('No'),
    smtp: '421 4.7.0 No',
    imap: 'NO [UNAVAILABLE] No',
    pop3: '-ERR [SYS/TEMP] No',
    http: 503,
  },
  {
    question: 'connect',
    verdict: reject('No'),
    smtp: '554 5.7.1 No',
    imap: 'NO No',
    pop3: '-ERR No',
    http: 403,
  },
  {
    question: 'connect',
    verdict: disconnect('No'),
    smtp: '421 4.7.0 No',
    imap: 'BYE No',
    pop3: '-ERR No',
    http: 429,
  },
  {
    question: 'login',
    verdict: defer('No'),
    smtp: '454 4.7.0 No',
    imap: 'NO [UNAVAILABLE] No',
    pop3: '-ERR [SYS/TEMP] No',
    http: 503,
  },
  {
    question: 'login',
    verdict: reject('No'),
    smtp: '535 5.7.8 No',
    imap: 'NO No',
    pop3: '-ERR [AUTH] No',
    http: 403,
  },
  {
    question: 'sender',
    verdict: reject('No'),
    smtp: '550 5.7.1 No',
    imap: 'NO No',
    pop3: '-ERR No',
    http: 403,
  },
  {
    question: 'recipient',
    verdict: reject('No'),
    smtp: '550 5.7.1 No',
    imap: 'NO No',
    pop3: '-ERR No',
    http: 403,
  },
  {
    question: 'recipient',
    verdict: defer('No'),
    smtp: '451 4.7.1 No',
    imap: 'NO [UNAVAILABLE] No',
    pop3: '-ERR [SYS/TEMP] No',
    http: 503,
  },
  {
    question: 'message',
    verdict: reject('No'),
    smtp: '554 5.7.1 No',
    imap: 'NO No',
    pop3: '-ERR No',
    http: 403,
  },
  {
    question: 'message',
    verdict: defer('No'),
    smtp: '451 4.7.1 No',
    imap: 'NO [UNAVAILABLE] No',
    pop3: '-ERR [SYS/TEMP] No',
    http: 503,
  },
] as const;

describe('verdicts in words', () => {
  test.each(rows)('$verdict.word at $question: $smtp', ({ question, verdict, smtp, imap, pop3, http }) => {
    const { code, status, text } = smtpWords(question, refusal(verdict));
    expect(`${code} ${status} ${text}`).toBe(smtp);
    expect(imapWords(refusal(verdict))).toBe(imap);
    expect(pop3Words(question, refusal(verdict))).toBe(pop3);
    expect(httpWords(refusal(verdict)).status).toBe(http);
  });

  const texts = [
    { say: 'two\r\nlines', is: 'two lines' },
    { say: 'a\0b\u202e', is: 'a b' },
    { say: '', is: 'Try again later' },
    { say: '[ALERT] click here', is: 'Try again later' },
    { say: 'x'.repeat(1000), is: 'x'.repeat(200) },
  ];
  test.each(texts)('a plugin’s text can be no more than one short line: $say', ({ say, is }) => {
    expect(sayOf(refusal(defer(say)))).toBe(is);
  });

  test('pass, accept and throttle refuse nothing', () => {
    expect(
      isRefusal({ word: 'pass' }) || isRefusal({ word: 'accept' }) || isRefusal({ word: 'throttle' }),
    ).toBe(false);
  });
});
