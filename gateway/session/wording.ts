/**
 * A verdict in the words of each protocol. The client learns what it has to do
 * next (try later, give up, go away), never which rule or plugin decided: that
 * stands in the log.
 */
import type { Question, Verdict } from '../plugins/api.ts';

/** A verdict that refuses. */
export type RefusalWord = 'defer' | 'reject' | 'disconnect';

/** Longest text of ours after the code, in characters. */
const sayCharsMax = 200;

const said: Record<RefusalWord, string> = {
  defer: 'Try again later',
  reject: 'Not accepted',
  disconnect: 'Connection refused',
};

function isOfLogin(question: Question): boolean {
  return question === 'login' || question === 'authenticated';
}

/** Does the verdict end what was asked for? */
export function isRefusal(verdict: Verdict): verdict is Verdict & { readonly word: RefusalWord } {
  return verdict.word === 'defer' || verdict.word === 'reject' || verdict.word === 'disconnect';
}

/** What the client reads: the plugin's words as one bounded line of printable ASCII, or our own. */
export function sayOf(verdict: Verdict & { readonly word: RefusalWord }): string {
  const text = (verdict.say ?? '')
    .replace(/[^\x20-\x7e]+/g, ' ')
    .trim()
    .slice(0, sayCharsMax);
  // A text that began with `[` would be read as an IMAP or POP3 response code.
  return text === '' || text.startsWith('[') ? said[verdict.word] : text;
}

/** `{ code: 554, status: '5.7.1', text }` (RFC 5321 4.2, RFC 3463); the connection ends after a 421. */
export function smtpWords(
  question: Question,
  verdict: Verdict & { readonly word: RefusalWord },
): { readonly code: number; readonly status: string; readonly text: string } {
  const text = sayOf(verdict);
  if (verdict.word === 'disconnect') return { code: 421, status: '4.7.0', text };
  if (isOfLogin(question)) {
    // RFC 4954 6: 454 a temporary failure, 535 credentials not accepted.
    return verdict.word === 'defer'
      ? { code: 454, status: '4.7.0', text }
      : { code: 535, status: '5.7.8', text };
  }
  // A connection that may come again later is told 421: RFC 5321 3.1 allows no 451 as a greeting.
  if (verdict.word === 'defer')
    return question === 'connect'
      ? { code: 421, status: '4.7.0', text }
      : { code: 451, status: '4.7.1', text };
  const ofCommand = question === 'greeting' || question === 'sender' || question === 'recipient';
  const code = ofCommand ? 550 : 554;
  return { code, status: '5.7.1', text };
}

/** The line for IMAP, without tag and CRLF (RFC 9051 7.1): `NO [UNAVAILABLE] …`; `BYE …` is untagged and ends it. */
export function imapWords(verdict: Verdict & { readonly word: RefusalWord }): string {
  const text = sayOf(verdict);
  if (verdict.word === 'disconnect') return `BYE ${text}`;
  return verdict.word === 'defer' ? `NO [UNAVAILABLE] ${text}` : `NO ${text}`;
}

/** The line for POP3, without CRLF (RFC 2449 8, RFC 3206): what is no fault of the password is [SYS/TEMP]. */
export function pop3Words(question: Question, verdict: Verdict & { readonly word: RefusalWord }): string {
  const text = sayOf(verdict);
  if (verdict.word === 'defer') return `-ERR [SYS/TEMP] ${text}`;
  return isOfLogin(question) ? `-ERR [AUTH] ${text}` : `-ERR ${text}`;
}

/** The status for HTTP (RFC 9110 15, RFC 6585 4). */
export function httpWords(verdict: Verdict & { readonly word: RefusalWord }): {
  readonly status: 403 | 429 | 503;
  readonly text: string;
} {
  const status = verdict.word === 'defer' ? 503 : verdict.word === 'reject' ? 403 : 429;
  return { status, text: sayOf(verdict) };
}
