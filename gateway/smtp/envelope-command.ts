/**
 * MAIL and RCPT as RFC 5321 4.1.1.2, 4.1.1.3 and 4.1.2 write them. Haraka
 * reads them more kindly: unknown parameters pass, source routes are kept. A
 * gateway must not promise what it does not do, so both are read here first
 * and Haraka gets the plain form.
 */
import { type Reply, replies } from './reply.ts';

export interface EnvelopeCommand {
  /** Without brackets, quoting of the local part undone; empty for the null reverse-path. */
  readonly address: string;
  readonly localPart: string;
  /** As written; `[…]` for an address literal; empty for `<>` and `<postmaster>`. */
  readonly domain: string;
  /** A plain spelling of the path, in brackets, for Haraka. */
  readonly path: string;
  /** MAIL: declared SIZE in bytes (RFC 1870), 0 when not given. */
  readonly sizeBytes: number;
  readonly eightBit: boolean;
}

export interface EnvelopeRules {
  /** Parameters exist only after EHLO. */
  readonly extended: boolean;
  /** AUTH= is a parameter of MAIL only where AUTH is announced (RFC 4954 5). */
  readonly authOffered: boolean;
  readonly messageBytesMax: number;
}

export const pathBytesMax = 512; // well over RFC 5321 4.5.3.1.3's 256, bounded all the same
const parametersMax = 10;

const atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,256}";
const dotString = new RegExp(`^${atom}(?:\\.${atom}){0,128}$`);
const quotedString = /^"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\[\x20-\x7e]){0,256}"$/;
const domainName = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9])?\.?$/;
const addressLiteral = /^\[[A-Za-z0-9:.-]{2,128}\]$/;
const parameter = /^([A-Za-z0-9][A-Za-z0-9-]{0,31})(?:=([\x21-\x3c\x3e-\x7e]{1,512}))?$/;

/** @param rest  The command line after `MAIL ` or `RCPT `. */
export function readEnvelope(
  kind: 'mail' | 'rcpt',
  rest: string,
  rules: EnvelopeRules,
): { readonly command: EnvelopeCommand } | { readonly reply: Reply } {
  const bad = { reply: kind === 'mail' ? replies.badSender : replies.badRecipient };
  if (/[\x80-\xff]/.test(rest)) return { reply: replies.needsUtf8 };
  // RFC 5321 allows no space after the colon; senders in the field write one
  const opened = (kind === 'mail' ? /^FROM: {0,2}</i : /^TO: {0,2}</i).exec(rest);
  if (!opened) return { reply: replies.syntax };
  const close = endOfPath(rest, opened[0].length);
  if (close === -1 || close - opened[0].length > pathBytesMax) return bad;
  const mailbox = readMailbox(kind, rest.slice(opened[0].length, close));
  if (!mailbox) return bad;
  const parameters = readParameters(kind, rest.slice(close + 1), rules);
  if ('reply' in parameters) return parameters;
  return { command: { ...mailbox, ...parameters } };
}

/** Index of the `>` that ends the path: one inside a quoted local part does not. */
function endOfPath(text: string, from: number): number {
  let quoted = false;
  for (let at = from; at < text.length; at++) {
    const char = text[at];
    if (quoted && char === '\\') at++;
    else if (char === '"') quoted = !quoted;
    else if (char === '>' && !quoted) return at;
  }
  return -1;
}

function readMailbox(
  kind: 'mail' | 'rcpt',
  text: string,
): Pick<EnvelopeCommand, 'address' | 'localPart' | 'domain' | 'path'> | undefined {
  if (text === '')
    return kind === 'mail' ? { address: '', localPart: '', domain: '', path: '<>' } : undefined;
  // RFC 5321 4.5.1: the one recipient that needs no domain
  if (kind === 'rcpt' && /^postmaster$/i.test(text)) {
    return { address: 'postmaster', localPart: 'postmaster', domain: '', path: '<postmaster>' };
  }
  // "@relay,@relay:user@domain": RFC 5321 appendix C lets a server refuse source routes
  if (text.startsWith('@')) return undefined;
  const at = text.lastIndexOf('@');
  if (at <= 0) return undefined;
  const local = text.slice(0, at);
  const domain = text.slice(at + 1);
  if (!domainName.test(domain) && !addressLiteral.test(domain)) return undefined;
  if (/\.\./.test(domain)) return undefined;
  const plain = dotString.test(local);
  if (!plain && !quotedString.test(local)) return undefined;
  const localPart = plain ? local : local.slice(1, -1).replace(/\\(.)/g, '$1');
  if (localPart === '') return undefined;
  const spelled = dotString.test(localPart) ? localPart : local;
  return { address: `${spelled}@${domain}`, localPart, domain, path: `<${spelled}@${domain}>` };
}

function readParameters(
  kind: 'mail' | 'rcpt',
  text: string,
  rules: EnvelopeRules,
): Pick<EnvelopeCommand, 'sizeBytes' | 'eightBit'> | { readonly reply: Reply } {
  const found = { sizeBytes: 0, eightBit: false };
  const trimmed = text.trimEnd();
  if (trimmed === '') return found;
  if (!trimmed.startsWith(' ')) return { reply: replies.syntax };
  const words = trimmed.trimStart().split(/ +/, parametersMax + 1);
  if (words.length > parametersMax) return { reply: replies.syntax };
  const seen = new Set<string>();
  for (const word of words) {
    const match = parameter.exec(word);
    if (!match) return { reply: replies.syntax };
    const name = match[1]!.toUpperCase();
    const value = match[2];
    if (seen.has(name)) return { reply: replies.syntax };
    seen.add(name);
    if (!rules.extended || kind === 'rcpt') return { reply: replies.badParameter };
    switch (name) {
      case 'SIZE':
        if (value === undefined || !/^\d{1,20}$/.test(value)) return { reply: replies.syntax };
        found.sizeBytes = Number(value);
        // RFC 1870 6.1: refused before the client has sent it
        if (found.sizeBytes > rules.messageBytesMax) return { reply: replies.tooBig };
        break;
      case 'BODY':
        if (!/^(?:7BIT|8BITMIME)$/i.test(value ?? '')) return { reply: replies.badParameter };
        found.eightBit = value!.length === 8;
        break;
      case 'AUTH':
        if (!rules.authOffered) return { reply: replies.badParameter };
        if (value === undefined) return { reply: replies.syntax };
        break;
      default:
        return { reply: replies.badParameter };
    }
  }
  return found;
}
