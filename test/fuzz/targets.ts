/** What is fuzzed: each parser that reads bytes of strangers, with seeds that reach into it. */

import { readImportedHash } from '../../backend/accounts/imported-hash.ts';
import { readSignedToken } from '../../backend/accounts/json-web-token.ts';
import { canonicalAddress as accountAddress } from '../../cluster-protocol/ids.ts';
import { basicCredentials } from '../../gateway/http/basic-auth.ts';
import { targetOf } from '../../gateway/http/request-target.ts';
import { canonicalAddress as clientAddress } from '../../gateway/net/address.ts';
import { parseBearerMessage } from '../../gateway/session/bearer-token.ts';
import { startSasl } from '../../gateway/session/sasl.ts';
import { DataReceiver } from '../../gateway/smtp/data-receiver.ts';
import { ImapCommandReader, type ImapPiece } from '../../mailwire/imap-command-reader.ts';
import { parseFetchItems } from '../../mailwire/imap-fetch-items.ts';
import { parseListRequest } from '../../mailwire/imap-list-request.ts';
import { parseSearchProgram } from '../../mailwire/imap-search-keys.ts';
import { ImapCursor } from '../../mailwire/imap-tokens.ts';
import { LineReader } from '../../mailwire/line-reader.ts';
import { parseAddressList } from '../../mailwire/mime/address-list.ts';
import { decodeEncodedWords } from '../../mailwire/mime/encoded-words.ts';
import { parseHeaderFields } from '../../mailwire/mime/header-fields.ts';
import { parseMessageDate } from '../../mailwire/mime/message-date.ts';
import { parseParameterized } from '../../mailwire/mime/parameters.ts';
import { structureOf } from '../../mailwire/mime/structure.ts';
import { decodeBody } from '../../mailwire/mime/transfer-encoding.ts';
import { decodeModifiedUtf7, encodeModifiedUtf7 } from '../../mailwire/modified-utf7.ts';
import { readProxyHeader } from '../../mailwire/proxy-header.ts';
import { saslPrep } from '../../mailwire/sasl-prep.ts';
import { parseClientFinal, parseClientFirst } from '../../mailwire/scram.ts';

export interface FuzzTarget {
  readonly name: string;
  readonly seeds: readonly string[];
  /** May throw a `Fault`; anything else is a finding, and so is a broken promise of its own (an `Error` with a reason). */
  run(input: Buffer): void;
}

const latin1 = (input: Buffer): string => input.toString('latin1');
const text = (input: Buffer): string => input.toString('utf8');

function imapCommands(input: Buffer): readonly (readonly ImapPiece[])[] {
  const reader = new ImapCommandReader({
    lineBytesMax: 8192,
    literalBytesMax: 4096,
    commandBytesMax: 16_384,
  });
  const commands: (readonly ImapPiece[])[] = [];
  // In uneven chunks, as a network brings them.
  for (let at = 0, step = 1; at < input.length; at += step, step = (step * 7 + 3) % 61 || 1) {
    reader.push(input.subarray(at, at + step));
    for (;;) {
      const reading = reader.next();
      if (reading.kind === 'more') break;
      if (reading.kind === 'command') commands.push(reading.pieces);
      else if (reading.tooBig) reader.refuseLiteral();
      else reader.acceptLiteral();
    }
  }
  return commands;
}

const withCursor =
  (parse: (cursor: ImapCursor) => unknown) =>
  (input: Buffer): void => {
    for (const pieces of imapCommands(Buffer.concat([input, Buffer.from('\r\n')])))
      parse(new ImapCursor(pieces));
  };

/** The same bytes must mean the same whatever chunks they come in: a difference is how mail is smuggled. */
function dataReceiverAgrees(input: Buffer): void {
  const limits = {
    messageBytesMax: 1 << 20,
    lineBytesMax: 2000,
    headerLinesMax: 200,
    headerBytesMax: 65_536,
    receivedMax: 50,
  };
  const outcome = (chunkBytes: number): string => {
    const out: Buffer[] = [];
    const receiver = new DataReceiver(limits, (slice) => out.push(Buffer.from(slice)));
    for (let at = 0; at < input.length; at += chunkBytes) {
      const used = receiver.push(input.subarray(at, at + chunkBytes));
      if (used >= 0) {
        if (receiver.failure) return `refused at ${at + used}`;
        return `ended at ${at + used} ${Buffer.concat(out).toString('base64')}`;
      }
    }
    return receiver.failure ? 'refused' : 'open';
  };
  const whole = outcome(Math.max(1, input.length));
  // Byte by byte is slow by nature: long inputs come in longer chunks.
  for (const chunkBytes of input.length > 8192 ? [509, 4093] : [1, 2, 3, 7]) {
    const other = outcome(chunkBytes);
    if (other.split(' ')[0] !== whole.split(' ')[0] || (whole.startsWith('ended') && other !== whole))
      throw new Error(`chunks of ${chunkBytes} bytes: ${other.slice(0, 60)}; in one: ${whole.slice(0, 60)}`);
    if (
      whole.startsWith('ended') &&
      /(?:^|[^\r])\n|\r(?!\n)|\0/.test(Buffer.from(whole.split(' ')[3] ?? '', 'base64').toString('latin1'))
    )
      throw new Error('a bare CR, bare LF or NUL was accepted');
  }
}

export const fuzzTargets: readonly FuzzTarget[] = [
  {
    name: 'imap-command-reader',
    seeds: [
      'a LOGIN ann secret\r\nb NOOP\r\n',
      'a LOGIN {3}\r\nann {6+}\r\nsecret\r\n',
      'a APPEND x {10}\r\n0123456789\r\n',
      'a X {4294967296}\r\n',
      'a B ~{2}\r\n\0x\r\n',
    ],
    run: (input) => void imapCommands(input),
  },
  {
    name: 'imap-fetch-items',
    seeds: [
      '(UID FLAGS BODY.PEEK[HEADER.FIELDS (From To)]<0.100>)',
      'BODY[1.2.3.MIME]',
      'ALL',
      '(ENVELOPE BODYSTRUCTURE)',
    ],
    run: withCursor(parseFetchItems),
  },
  {
    name: 'imap-search-keys',
    seeds: [
      'CHARSET UTF-8 OR (FROM "a" NOT SEEN) (1:*,5 UID 3:9)',
      'RETURN (MIN MAX) HEADER X {3+}\r\nabc SINCE 1-Feb-1994',
      'NOT NOT NOT ALL',
    ],
    run: withCursor(parseSearchProgram),
  },
  {
    name: 'imap-list-request',
    seeds: ['"" *', '(SUBSCRIBED) "" ("a" %) RETURN (CHILDREN STATUS (MESSAGES))', '"x/" "&AOk-"'],
    run: withCursor(parseListRequest),
  },
  {
    name: 'modified-utf7',
    seeds: ['&AOk-', '&2D3eAA-', 'a&-b', '&AEE-', 'Entw&APw-rfe'],
    run(input) {
      const decoded = decodeModifiedUtf7(latin1(input));
      if (decoded !== undefined && encodeModifiedUtf7(decoded) !== latin1(input))
        throw new Error('two spellings of one name');
    },
  },
  {
    name: 'line-reader',
    seeds: ['USER ann\r\nPASS x\r\n', 'a\rb\r\n', '\r\n\r\n'],
    run(input) {
      const reader = new LineReader(512);
      reader.push(input);
      while (reader.take() !== undefined);
    },
  },
  {
    name: 'proxy-header',
    seeds: [
      'PROXY TCP4 192.0.2.1 192.0.2.2 1234 25\r\n',
      'PROXY UNKNOWN\r\n',
      '\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x02\x12\x34\0\x19',
    ],
    run: (input) => void readProxyHeader(input),
  },
  {
    name: 'mime-structure',
    seeds: [
      'Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\nhi\r\n--x\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nbody\r\n--x--\r\n',
      'Content-Type: text/plain; name*0*=utf-8\'\'a; name*1=b; charset="x\\"y"\r\nContent-Disposition: attachment; filename=x\r\n\r\nx',
    ],
    run: (input) => void structureOf(input),
  },
  {
    name: 'mime-headers',
    seeds: ['A: b\r\n c\r\nD:e\r\n\r\n', ': x\r\n\r\n'],
    run: (input) => void parseHeaderFields(input),
  },
  {
    name: 'address-list',
    seeds: ['Ann <ann@example.org>, "B, C" <b@c>', 'group: a@b, c@d;, x@y (comment (nested))', '<@a,@b:c@d>'],
    run: (input) => void parseAddressList(latin1(input)),
  },
  {
    name: 'mime-parameters',
    seeds: ['text/plain; a=b; c*0="d"; c*1*=%20'],
    run: (input) => void parseParameterized(latin1(input)),
  },
  {
    name: 'encoded-words',
    seeds: ['=?utf-8?q?a_b=C3=A9?= =?utf-8?b?w6k=?= x'],
    run: (input) => void decodeEncodedWords(latin1(input)),
  },
  {
    name: 'message-date',
    seeds: ['Mon, 23 Nov 2026 03:00:00 +0000 (UTC)', '1 Jan 99 1:2 EST'],
    run: (input) => void parseMessageDate(latin1(input)),
  },
  {
    name: 'transfer-encoding',
    seeds: ['aGVsbG8=\r\n', 'a=3D=\r\nb=C3=A9'],
    run(input) {
      decodeBody(input, 'base64', 'utf-8');
      decodeBody(input, 'quoted-printable', 'iso-8859-1');
    },
  },
  {
    name: 'account-address',
    seeds: ['ann@example.org', 'Ä@münchen.example', '../x@y', 'a%00@b'],
    run(input) {
      const canonical = accountAddress(text(input));
      if (accountAddress(canonical) !== canonical)
        throw new Error('a canonical address has another canonical form');
      if (/[/\\\0]|^\.|\.\./.test(canonical)) throw new Error('a path got into an address');
    },
  },
  {
    name: 'client-address',
    seeds: ['::ffff:127.0.0.1', '64:ff9b::7f00:1', 'fe80::1%eth0', '192.0.2.1'],
    run: (input) => void clientAddress(latin1(input)),
  },
  {
    name: 'http-target',
    seeds: ['/jmap/api', '/jmap/download/a/b/c?accept=x', '/%2e%2e%2f', 'http://h/jmap/session'],
    run: (input) => void targetOf(latin1(input)),
  },
  {
    name: 'http-basic',
    seeds: ['Basic YW5uOnB3', 'Basic ====='],
    run: (input) => void basicCredentials(latin1(input)),
  },
  {
    name: 'smtp-data',
    seeds: [
      'Subject: x\r\n\r\nbody\r\n.\r\n',
      'a\r\n..b\r\n.\r\nMAIL FROM:<x>\r\n',
      'x\n.\r\n',
      'x\r\n.\n',
      'x\r.\r\n.\r\n',
    ],
    run: dataReceiverAgrees,
  },
  { name: 'sasl', seeds: ['AGFubgBwdw==', '='], run: (input) => void startSasl('PLAIN', latin1(input)) },
  {
    name: 'scram-first',
    seeds: ['n,,n=user,r=rOprNGfwEbeRWgbNEkqO', 'p=tls-exporter,a=b=2Cc,n=a=3D,r=x,t=1', 'y,,n=a,r=x'],
    run: (input) => {
      const first = parseClientFirst(text(input));
      if (first.gs2Header + first.bare !== text(input)) throw new Error('the message is not whole');
    },
  },
  {
    name: 'scram-final',
    seeds: ['c=biws,r=abc%hv,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ='],
    run: (input) => void parseClientFinal(text(input)),
  },
  {
    name: 'saslprep',
    seeds: ['I\u00adX', 'p\u00e4ss\u00a0w\u00f6rd', '\u0627\u0628'],
    run: (input) => {
      const once = saslPrep(text(input));
      if (once !== undefined && /[\0-\x1f]/.test(once)) throw new Error('a control character is left');
    },
  },
  {
    name: 'bearer',
    seeds: [
      'n,a=ann@example.org,\x01host=x\x01auth=Bearer abc.~\x01\x01',
      'n,,\x01auth=Bearer e30.eyJlbWFpbCI6ImFAYi5jIn0.c2ln\x01\x01',
    ],
    run: (input) => void parseBearerMessage('OAUTHBEARER', text(input), 'email'),
  },
  {
    name: 'signed-token',
    seeds: ['eyJhbGciOiJSUzI1NiJ9.eyJlbWFpbCI6ImFAYi5jIn0.c2ln', 'eyJhbGciOiJub25lIn0.e30.'],
    run: (input) => void readSignedToken(text(input)),
  },
  {
    name: 'imported-hash',
    seeds: [
      '{SSHA}EE7H/vr2oI+VVTQyMN+ePt9x4qM/d3NJ',
      '$2y$05$HL7MCNnLAr3z0DZmZRXuC.0sNwvKGFYA4vgzMYes79PgbRbab9q4q',
    ],
    run: (input) => void readImportedHash(text(input)),
  },
];
