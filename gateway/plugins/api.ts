/**
 * The plugin API: all a plugin imports of ours. One plugin serves SMTP, IMAP,
 * POP3 and HTTP. A plugin is *told* things (reports, nothing comes back) and
 * *asked* things (it must answer with a verdict within its deadline). What a
 * plugin that throws or does not answer means is settled per question and
 * plugin, never by accident: see `onFailure`.
 */
import type { Readable } from 'node:stream';
import type { Setting, SettingsTable, ValuesOf } from '../../base/settings.ts';
import type { Client, Protocol, Session, TlsFacts } from '../session/session.ts';

export type { Client, Protocol, Session, Setting, SettingsTable, TlsFacts, ValuesOf };

/**
 * - `pass`: no objection; the next plugin is asked.
 * - `accept`: no objection, and nobody else is asked this question.
 * - `defer`: not now (`451`, `NO [UNAVAILABLE]`, `-ERR [SYS/TEMP]`, `503`).
 * - `reject`: no (`550`/`554`, `NO`, `-ERR`, `403`).
 * - `disconnect`: no, and the connection ends (`421`, `BYE`).
 * - `throttle`: the answer is `pass`, given `delayMs` later; delays of several plugins add up to a limit.
 */
export interface Verdict {
  readonly word: 'pass' | 'accept' | 'defer' | 'reject' | 'disconnect' | 'throttle';
  /** What the client may read: short, never names policy or plugin. */
  readonly say?: string;
  /** What the admin reads in the log. */
  readonly log?: string;
  readonly delayMs?: number;
  /** Messages only: header fields to add on top, in order. Values are folded and cleaned by the host. */
  readonly headers?: readonly (readonly [name: string, value: string])[];
  /** Messages only: fields of the sender's that are taken out, when the message is delivered. */
  readonly dropFields?: readonly FieldMatch[];
  /** Messages only, with `pass`: it is delivered into each recipient's junk folder. */
  readonly quarantine?: boolean;
  /** Adds to the score of the message; for the log and for later plugins. */
  readonly score?: number;
}

/** Header fields by name and, if given, by how their unfolded value begins; both without regard to case. */
export interface FieldMatch {
  readonly name: string;
  readonly valueStart?: string;
}

export const pass: Verdict = Object.freeze({ word: 'pass' });
export const accept: Verdict = Object.freeze({ word: 'accept' });
export const defer = (say: string, log?: string): Verdict => ({
  word: 'defer',
  say,
  ...(log === undefined ? {} : { log }),
});
export const reject = (say: string, log?: string): Verdict => ({
  word: 'reject',
  say,
  ...(log === undefined ? {} : { log }),
});
export const disconnect = (say: string, log?: string): Verdict => ({
  word: 'disconnect',
  say,
  ...(log === undefined ? {} : { log }),
});
export const throttle = (delayMs: number, log?: string): Verdict => ({
  word: 'throttle',
  delayMs,
  ...(log === undefined ? {} : { log }),
});
/** Pass, with header fields and a score for the message. */
export const tag = (
  headers: readonly (readonly [name: string, value: string])[],
  score = 0,
  log?: string,
): Verdict => ({
  word: 'pass',
  headers,
  score,
  ...(log === undefined ? {} : { log }),
});

/** Pass, but into the junk folder. A later plugin may still refuse the message. */
export const quarantine = (
  log: string,
  headers: NonNullable<Verdict['headers']> = [],
  score = 0,
): Verdict => ({
  word: 'pass',
  quarantine: true,
  headers,
  score,
  log,
});

/** What can be seen on the wire before the first protocol word. */
export interface Wire {
  /**
   * Waits up to `waitMs` before the greeting; true when the client sent something first. False at once where
   * the client has to speak first (HTTP, TLS from the first byte).
   */
  spokeFirst(waitMs: number): Promise<boolean>;
}

export interface LoginAttempt {
  /** Canonical address, or what was typed when it cannot be an address (then login fails anyway). */
  readonly user: string;
  readonly mechanism: string;
}

export interface Envelope {
  /** Reverse-path without brackets; empty for bounces. */
  readonly from: string;
  /** Accepted recipients. */
  readonly to: readonly string[];
}

/** The header of a message, as soon as it has come and before the rest has. */
export interface MessageHeader {
  readonly envelope: Envelope;
  /** Unfolded values of a field, first one first, Latin-1 text; at most 100. */
  header(name: string): readonly string[];
  /** Names of all fields, in order, as they are spelled; at most 2,000. */
  names(): readonly string[];
}

/** A part of a message that holds no other parts: a text, an attachment. Parts of messages inside are there too. */
export interface MessagePart {
  /** As IMAP numbers it (RFC 9051 6.4.5): `1.2`. */
  readonly path: string;
  /** Lower case: `text/html`. What the sender says, not what it is. */
  readonly type: string;
  /** Decoded, without control characters; empty when it has none. */
  readonly fileName: string;
  readonly disposition: 'inline' | 'attachment' | '';
  /** Bytes as they stand in the message, before decoding. */
  readonly encodedBytes: number;
  /** Its beginning, decoded from base64 or quoted-printable. */
  bytes(bytesMax: number): Promise<Buffer>;
  /** Its beginning as text. */
  text(bytesMax: number): Promise<string>;
}

/** A whole message as received, before our own headers. Bytes have CRLF line ends and no dot-stuffing. */
export interface Message extends MessageHeader {
  readonly size: number;
  /** Its parts, in order, at most 1,000; read once for all plugins. */
  parts(): Promise<readonly MessagePart[]>;
  /** A new stream from the first byte; several plugins may read side by side. */
  stream(): Readable;
}

/** Questions. Each gets the session first. Every one may answer directly or with a promise. */
export interface Asked {
  /** Before the greeting and before TLS handshakes are worth their cost. */
  connect?(session: Session, wire: Wire): Verdict | Promise<Verdict>;
  /** SMTP: the name in HELO or EHLO. */
  greeting?(session: Session, name: string): Verdict | Promise<Verdict>;
  /** After credentials were sent and before they are checked. */
  login?(session: Session, attempt: LoginAttempt): Verdict | Promise<Verdict>;
  /** The credentials were right: `session.account` is who it is. Before the client is told. */
  authenticated?(session: Session, attempt: LoginAttempt): Verdict | Promise<Verdict>;
  /** SMTP: MAIL FROM. */
  sender?(session: Session, from: string): Verdict | Promise<Verdict>;
  /** SMTP: each RCPT TO that the owner has confirmed. */
  recipient?(session: Session, to: string, from: string): Verdict | Promise<Verdict>;
  /**
   * SMTP: the message's header has come. Asked while the rest comes; a refusal saves looking at it, and is told
   * to the client after the final dot (RFC 5321 4.1.1.4).
   */
  header?(session: Session, header: MessageHeader): Verdict | Promise<Verdict>;
  /** SMTP: the whole message, before any owner gets it. */
  message?(session: Session, message: Message): Verdict | Promise<Verdict>;
}
export type Question = keyof Asked;

/** Reports. What they return or throw changes nothing for the client. */
export interface Told {
  connected?(session: Session): void;
  loggedIn?(session: Session): void;
  loginFailed?(session: Session, attempt: LoginAttempt): void;
  /** Stored for every recipient; the sender gets its 250. */
  delivered?(session: Session, envelope: Envelope, size: number): void;
  /** Some plugin or rule refused. */
  refused?(session: Session, question: Question, verdict: Verdict, plugin: string): void;
  disconnected?(session: Session): void;
}
export type Report = keyof Told;

/** Counts events per key within a sliding window, in bounded memory. */
export interface WindowCounter {
  add(key: string, amount?: number): void;
  of(key: string): number;
}

/** Counts what is held at the moment, per key. */
export interface Gauge {
  enter(key: string): void;
  leave(key: string): void;
  of(key: string): number;
}

/** Tokens per key: so many flow in over time, so many can be saved up. */
export interface TokenBuckets {
  /** @returns 0 when `amount` was taken; else the ms until it could be, and nothing is taken. */
  take(key: string, amount?: number): number;
}

/** What the host lends a plugin. */
export interface PluginHost {
  /** Same name, same counter: plugins may share one. */
  countWithin(name: string, windowMs: number): WindowCounter;
  gauge(name: string): Gauge;
  /** Same name, same buckets. @param rate  `amount` tokens flow in within `perMs`; `burst` can be saved up. */
  buckets(name: string, rate: { amount: number; perMs: number; burst: number }): TokenBuckets;
  /**
   * Runs work at most `runningMax` at a time, in order; rejects at once (`busy`) when `waitingMax` are waiting.
   * For scanners, which take only so many messages side by side.
   */
  queue(runningMax: number, waitingMax: number): <T>(work: () => Promise<T>) => Promise<T>;
  log: { info(facts: object, text: string): void; warn(facts: object, text: string): void };
  /** A metric of this plugin: `postern_plugin_<plugin>_<name>_total`. */
  count(name: string, amount?: number): void;
  /** Aborts when the gateway stops or the plugin is replaced: end timers and sockets then. */
  stopped: AbortSignal;
}

export interface PluginWork {
  readonly asked?: Asked;
  readonly told?: Told;
}

export interface PluginDefinition<T extends SettingsTable = SettingsTable> {
  readonly name: string;
  /** Every option with kind, default and text; the admin's values are checked against it. */
  readonly options: T;
  /** Longest a question may take; the admin can set `deadline` in the entry. Default 10s. */
  readonly deadline?: string;
  /**
   * What a throw or a passed deadline means. A scanner says `defer`: nothing gets through unseen. Default: `defer`
   * for `message`, `pass` for the rest. The admin can set `on_failure = "pass" | "defer"` in the entry.
   */
  readonly onFailure?: 'pass' | 'defer';
  /**
   * `message` is asked at the same time as of the neighbours in the order that say so too: for scanners, which mostly
   * wait. Their verdicts still count in the order; once one refuses, what the others find is not waited for.
   */
  readonly sideBySide?: boolean;
  /** Called once, at load. `options` are in code units: durations in ms, sizes in bytes. */
  start(options: ValuesOf<T>, host: PluginHost): PluginWork | Promise<PluginWork>;
}

/** Gives the options their types; returns the definition unchanged. */
export function definePlugin<const T extends SettingsTable>(
  definition: PluginDefinition<T>,
): PluginDefinition<T> {
  return definition;
}
