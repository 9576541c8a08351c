/**
 * The lines a message gets on top: Return-Path and Received (RFC 5321 4.4) and
 * the chain's own header fields. Everything here that came from a client or a
 * plugin is cleaned, so that no value can start a line of its own.
 */
import type { Session } from '../session/session.ts';

const fieldValueCharsMax = 4000;
const foldAt = 76;
const days = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];
const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

export interface TraceFacts {
  readonly session: Session;
  readonly reversePath: string;
  readonly hostname: string;
  readonly id: string;
  /** EHLO rather than HELO. */
  readonly extended: boolean;
  readonly at: Date;
  readonly fields: readonly (readonly [name: string, value: string])[];
}

export function traceHeader(facts: TraceFacts): Buffer {
  const { session } = facts;
  const address = session.client.address;
  const literal = address.includes(':') ? `[IPv6:${address}]` : `[${address}]`;
  // RFC 3848: ESMTPSA = EHLO, TLS, logged in
  const protocol = facts.extended
    ? `ESMTP${session.tls ? 'S' : ''}${session.account === undefined ? '' : 'A'}`
    : 'SMTP';
  const tls = session.tls
    ? `\r\n\t(version=${token(session.tls.version)} cipher=${token(session.tls.cipher)})`
    : '';
  const lines =
    `Return-Path: <${line(facts.reversePath)}>\r\n` +
    `Received: from ${token(session.greeting ?? 'unknown')} (${literal})\r\n` +
    `\tby ${token(facts.hostname)} with ${protocol} id ${token(facts.id)}${tls};\r\n` +
    `\t${mailDate(facts.at)}\r\n`;
  return Buffer.from(
    lines + facts.fields.map(([name, value]) => renderField(name, value)).join(''),
    'latin1',
  );
}

/** `Mon, 02 Jan 2006 15:04:05 +0000` (RFC 5322 3.3), in UTC. */
export function mailDate(at: Date): string {
  const two = (n: number) => String(n).padStart(2, '0');
  return (
    `${days[at.getUTCDay()]}, ${two(at.getUTCDate())} ${months[at.getUTCMonth()]} ${at.getUTCFullYear()} ` +
    `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}:${two(at.getUTCSeconds())} +0000`
  );
}

/** One header field, folded and clean; empty for a name that cannot be one (RFC 5322 2.2). */
export function renderField(name: string, value: string): string {
  if (!/^[!-9;-~]{1,76}$/.test(name)) return '';
  const words = line(value.slice(0, fieldValueCharsMax)).split(' ').filter(Boolean);
  let text = `${name}:`;
  let width = text.length;
  for (const word of words) {
    // a first word that is too long stays beside the name: a line of white space alone is obsolete syntax
    const fold = width + 1 + word.length > foldAt && width > name.length + 1;
    text += `${fold ? '\r\n\t' : ' '}${word}`;
    width = (fold ? 1 : width + 1) + word.length;
  }
  return `${text}\r\n`;
}

/** Printable ASCII on one line. */
function line(text: string): string {
  return text.replace(/[^\x20-\x7e]+/g, (run) => (/^[\s\0]+$/.test(run) ? ' ' : '?'));
}

/** One word: what a host name, literal, id or cipher consists of. */
function token(text: string): string {
  return text.slice(0, 255).replace(/[^A-Za-z0-9.:[\]_-]/g, '?') || 'unknown';
}
