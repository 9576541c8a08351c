/**
 * What the SMTP door says. Replies carry enhanced codes (RFC 3463), say little
 * (the log says why), and are one table, so that a client never learns from
 * the wording which plugin or rule it met.
 */
import type { Question, Verdict } from '../plugins/api.ts';
import { isRefusal, smtpWords } from '../session/wording.ts';

export interface Reply {
  readonly code: number;
  /** One line of printable ASCII, enhanced status code first where there is one. */
  readonly text: string;
  /** The connection ends after this reply. */
  readonly close?: boolean;
}

const reply = (code: number, text: string): Reply => Object.freeze({ code, text });
const closing = (code: number, text: string): Reply => Object.freeze({ code, text, close: true });

export const replies = {
  startTls: reply(220, '2.0.0 Ready to start TLS'),
  bye: reply(221, '2.0.0 Bye'),
  ok: reply(250, '2.0.0 OK'),
  senderOk: reply(250, '2.1.0 Sender OK'),
  recipientOk: reply(250, '2.1.5 Recipient OK'),
  cannotVerify: reply(252, '2.1.5 Cannot verify, but will take mail for a valid recipient'), // RFC 5321 3.5.3
  help: reply(214, '2.0.0 Commands are those of RFC 5321; see the EHLO reply for extensions'),
  loggedIn: reply(235, '2.7.0 Authentication successful'),
  data: reply(354, 'End data with <CR><LF>.<CR><LF>'),

  // 421: the connection ends, the mail may come again
  tooManyErrors: closing(421, '4.7.0 Too many errors, closing'),
  tooSlow: closing(421, '4.4.2 Timeout, closing'),
  stopping: closing(421, '4.3.2 Service stopping, closing'),
  internal: closing(421, '4.3.0 Internal error, closing'),
  notSmtp: closing(421, '4.7.0 This is an SMTP server, closing'),

  // for now
  unavailable: reply(451, '4.3.0 Temporarily unavailable, try again later'),
  notStored: reply(451, '4.3.0 Message not accepted for all recipients, try again later'),
  noSpace: reply(452, '4.3.1 Insufficient system storage, try again later'),
  overQuota: reply(452, '4.2.2 Mailbox full'),
  tooManyRecipients: reply(452, '4.5.3 Too many recipients'),
  loginUnavailable: reply(454, '4.7.0 Temporary authentication failure'),
  tlsUnavailable: reply(454, '4.7.0 TLS not available'),

  // for good
  unknownCommand: reply(500, '5.5.2 Command unrecognized'),
  commandTooLong: closing(500, '5.5.2 Command line too long, closing'),
  bareNewlineInCommand: closing(500, '5.5.2 Command lines end with CR LF, closing'),
  nulInCommand: closing(500, '5.5.2 NUL in a command, closing'),
  notAscii: reply(500, '5.5.2 Commands are ASCII'),
  syntax: reply(501, '5.5.4 Syntax error in parameters'),
  badSender: reply(501, '5.1.7 Bad sender address syntax'),
  badRecipient: reply(501, '5.1.3 Bad recipient address syntax'),
  badBase64: reply(501, '5.5.2 Cannot decode this'),
  loginCancelled: reply(501, '5.7.0 Authentication cancelled'),
  noExpand: reply(502, '5.5.1 EXPN not available'),
  helloFirst: reply(503, '5.5.1 Send EHLO first'),
  mailFirst: reply(503, '5.5.1 Send MAIL first'),
  recipientFirst: reply(503, '5.5.1 Send RCPT first'),
  noValidRecipients: reply(554, '5.5.1 No valid recipients'),
  nestedMail: reply(503, '5.5.1 Sender already given'),
  tlsAlready: reply(503, '5.5.1 TLS is active already'),
  loggedInAlready: reply(503, '5.5.1 Already authenticated'),
  notDuringMail: reply(503, '5.5.1 Not during a mail transaction'),
  noLogin: reply(503, '5.5.1 AUTH not available'),
  mechanism: reply(504, '5.5.4 Mechanism not supported'),
  tlsFirst: reply(530, '5.7.0 Send STARTTLS first'),
  loginFirst: reply(530, '5.7.0 Authentication required'),
  badLogin: reply(535, '5.7.8 Authentication credentials invalid'),
  needsEncryption: reply(538, '5.7.11 Encryption required for authentication'),
  noSuchUser: reply(550, '5.1.1 No such user here'),
  noRelay: reply(550, '5.7.1 Relaying denied'),
  noRemoteYet: reply(550, '5.7.1 Sending to other domains is not available yet'),
  tooBig: reply(552, '5.3.4 Message too big'),
  farTooBig: closing(552, '5.3.4 Message too big, closing'),
  notYourAddress: reply(553, '5.7.1 Sender address is not yours'),
  needsUtf8: reply(553, '5.6.7 Internationalized addresses are not supported'),
  loop: reply(554, '5.4.6 Too many Received lines, looks like a loop'),
  bareNewline: closing(554, '5.6.0 Bare CR or LF in the message (RFC 5321 2.3.8), closing'),
  nulByte: closing(554, '5.6.0 NUL in the message, closing'),
  lineTooLong: reply(554, '5.6.0 Line too long in the message'),
  headerTooBig: reply(554, '5.6.0 Message header too big'),
  badParameter: reply(555, '5.5.4 Parameter not recognized or not implemented'),
} as const satisfies Record<string, Reply>;

/** `250 2.0.0 OK\r\n` */
export function renderReply({ code, text }: Reply): string {
  return `${code} ${text}\r\n`;
}

/** The reply for a verdict of the chain; `undefined` when the client may go on. */
export function replyFor(question: Question, verdict: Verdict): Reply | undefined {
  if (!isRefusal(verdict)) return undefined;
  const { code, status, text } = smtpWords(question, verdict);
  return { code, text: `${status} ${text}`, close: code === 421 || question === 'connect' };
}
