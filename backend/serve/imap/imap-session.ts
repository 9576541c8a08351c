/**
 * One IMAP session after login (RFC 9051, RFC 3501): bytes in, answers out,
 * free of any transport. Commands run one after another; between them the
 * session holds no promise, no timer and no buffer, so that an idle one is small.
 */
import { Fault } from '../../../base/fault.ts';
import type { Log } from '../../../base/log.ts';
import {
  ImapCommandReader,
  type ImapPiece,
  type ImapReading,
  isTag,
} from '../../../mailwire/imap-command-reader.ts';
import { decodeMailboxName, encodeMailboxName } from '../../../mailwire/imap-mailbox-name.ts';
import { imapAstring, imapText } from '../../../mailwire/imap-reply.ts';
import { ImapCursor } from '../../../mailwire/imap-tokens.ts';
import type { Account } from '../../accounts/accounts.ts';
import type { Folder } from '../../store/store.ts';
import { answerOf } from './answers.ts';
import { AppendCommand } from './append-command.ts';
import { type CommandEntry, commands } from './commands.ts';
import { allSystemFlags, flagsText } from './flags.ts';
import { MailboxView } from './mailbox-view.ts';
import { ReplyWriter, type Transport } from './reply-writer.ts';
import { type SessionClock, Slice, sharedClock } from './session-clock.ts';

export interface ImapSessionLimits {
  readonly lineBytesMax: number;
  readonly commandBytesMax: number;
  readonly idleMs: number;
  /** A client that reads nothing for this long is let go. */
  readonly stallMs: number;
  /** Bad commands before the session ends. */
  readonly errorsMax: number;
}

export const imapSessionLimits: ImapSessionLimits = {
  lineBytesMax: 64 * 1024,
  commandBytesMax: 256 * 1024,
  idleMs: 30 * 60_000,
  stallMs: 5 * 60_000,
  errorsMax: 50,
};

export interface ImapSessionOptions {
  readonly account: Account;
  readonly transport: Transport;
  readonly limits: ImapSessionLimits;
  readonly log: Log;
  /** For the log line at the end. */
  readonly facts: Readonly<Record<string, unknown>>;
  /** Called once, when the session is over and the account no longer needed. */
  readonly ended: () => void;
  readonly clock?: SessionClock;
}

/** What one command is called with. */
export interface CommandCall {
  readonly tag: string;
  /** In capitals, without `UID `. */
  readonly name: string;
  readonly byUid: boolean;
  readonly cursor: ImapCursor;
}

/** Input waiting behind a running command before reading stops, bytes. */
const inputBytesMax = 64 * 1024;
/** How often an idling session looks for what other programs put into the folder. */
const lookMs = 30_000;
/** A client that idles hears something this often, so that its router does not forget it. */
const keepAliveMs = 4 * 60_000;
/** NOOP looks at the directory at most this often. */
const refreshMs = 1000;
/** A non-synchronising literal larger than this is not read to the end just to be thrown away. */
const skippedLiteralBytesMax = 1024 * 1024;

export class ImapSession {
  readonly account: Account;
  readonly writer: ReplyWriter;
  readonly log: Log;
  /** Mailbox names travel as UTF-8 (IMAP4rev2); else as modified UTF-7. */
  utf8Names = false;
  /** What is selected. */
  view: MailboxView | undefined;
  /** UIDs of the last SEARCH with SAVE: `$`. */
  saved: readonly number[] = [];

  readonly #transport: Transport;
  readonly #limits: ImapSessionLimits;
  readonly #reader: ImapCommandReader;
  readonly #clock: SessionClock;
  readonly #options: ImapSessionOptions;
  #running = false;
  #inputEnded = false;
  #paused = false;
  #over = false;
  /** Words of the BYE to come, when the session has to end at the next boundary. */
  #leaving: string | undefined;
  #leavingSince = 0;
  #idleTag: string | undefined;
  #pokePending = false;
  #append: AppendCommand | undefined;
  #errors = 0;
  #commandCount = 0;
  #lastInputMs = performance.now();
  #lastOutputMs = performance.now();
  #lastLookMs = 0;
  #endReason = 'closed by client';
  readonly #startedMs = performance.now();

  constructor(options: ImapSessionOptions) {
    this.#options = options;
    this.account = options.account;
    this.log = options.log;
    this.#transport = options.transport;
    this.#limits = options.limits;
    this.writer = new ReplyWriter(options.transport);
    this.#reader = new ImapCommandReader({
      lineBytesMax: options.limits.lineBytesMax,
      literalBytesMax: options.limits.commandBytesMax,
      commandBytesMax: options.limits.commandBytesMax,
    });
    this.#clock = options.clock ?? sharedClock;
    this.#clock.add(this);
    if (this.account.ended.aborted) this.#accountEnded();
    else this.account.ended.addEventListener('abort', this, { once: true });
  }

  /** Takes the client's next bytes. */
  receive(chunk: Buffer): void {
    if (this.#over) return;
    this.#lastInputMs = performance.now();
    this.#reader.push(chunk);
    if (!this.#running) void this.#run();
    else if (this.#reader.bufferedBytes > inputBytesMax && !this.#paused) {
      this.#paused = true;
      this.#transport.pauseInput();
    }
  }

  /** The client sends no more; what it sent is still answered. */
  inputEnded(): void {
    this.#inputEnded = true;
    if (!this.#running) void this.#finish();
  }

  /** The connection is gone. */
  connectionLost(): void {
    this.#inputEnded = true;
    if (this.#over) return;
    this.#endReason = 'connection lost';
    if (!this.#running) void this.#finish();
  }

  /** The account's `ended` signal. */
  handleEvent(): void {
    this.#accountEnded();
  }

  #accountEnded(): void {
    const reason = this.account.ended.reason as unknown;
    this.leave(
      'UNAVAILABLE',
      reason instanceof Fault ? reason.message : 'Account is moving, please reconnect',
    );
  }

  /** Ends the session at the next command boundary with a BYE. */
  leave(code: string, text: string): void {
    if (this.#over || this.#leaving !== undefined) return;
    this.#leaving = `* BYE [${code}] ${imapText(text)}\r\n`;
    this.#leavingSince = performance.now();
    this.#endReason = text;
    if (!this.#running) void this.#finish();
  }

  /** The shared clock: deadlines, and what an idling client should hear. */
  tick(nowMs: number): void {
    if (this.#over) return;
    if (this.writer.blocked && nowMs - this.#lastOutputMs > this.#limits.stallMs) {
      this.#endReason = 'client does not read';
      this.#transport.destroy();
      this.connectionLost();
      return;
    }
    if (this.#leaving !== undefined && nowMs - this.#leavingSince > 5000) {
      this.#transport.destroy();
      this.connectionLost();
      return;
    }
    if (this.#running) return;
    if (nowMs - this.#lastInputMs > this.#limits.idleMs) {
      this.#endReason = 'idle for too long';
      this.#leaving ??= '* BYE Autologout; idle for too long\r\n';
      void this.#finish();
      return;
    }
    if (this.#idleTag === undefined) return;
    if (nowMs - this.#lastLookMs > lookMs) {
      this.#lastLookMs = nowMs;
      this.view?.folder.refresh().catch((error: unknown) => this.#storageFailed(error));
    }
    if (nowMs - this.#lastOutputMs > keepAliveMs) {
      this.#lastOutputMs = nowMs;
      this.untagged('* OK Still here');
      void this.writer.flush();
    }
  }

  /** An answer line, without its CRLF; one char per byte. */
  untagged(line: string): void {
    this.writer.text(`${line}\r\n`);
  }

  /** A mailbox name of the client. @throws {Fault} `bad-name` */
  nameFrom(latin1: string): string {
    return decodeMailboxName(latin1, this.utf8Names);
  }

  /** A mailbox name as it stands in an answer. */
  nameFor(name: string): string {
    return imapAstring(encodeMailboxName(name, this.utf8Names), this.utf8Names);
  }

  /** The selected view. @throws {Fault} `gone` when its folder was deleted */
  selected(): MailboxView {
    const view = this.view;
    if (view === undefined) throw new Fault('bug', 'nothing is selected');
    if (view.gone) throw new Fault('gone', 'Mailbox was deleted');
    return view;
  }

  /** The selected view, to be changed. @throws {Fault} `not-allowed` after EXAMINE */
  selectedForChange(): MailboxView {
    const view = this.selected();
    if (view.readOnly) throw new Fault('not-allowed', 'Mailbox is read-only');
    return view;
  }

  select(folder: Folder, readOnly: boolean): MailboxView {
    this.unselect();
    this.view = new MailboxView(folder, readOnly, () => this.#poke());
    return this.view;
  }

  unselect(): void {
    this.view?.close();
    this.view = undefined;
    this.saved = [];
  }

  /** The client is gone or has to go: long commands stop. */
  get stopping(): boolean {
    return this.#transport.closed || this.#over || this.#leaving !== undefined;
  }

  /** Looks for messages other programs brought, at most once a second. */
  refresh(): Promise<void> | undefined {
    const now = performance.now();
    if (this.view === undefined || now - this.#lastLookMs < refreshMs) return undefined;
    this.#lastLookMs = now;
    return this.view.folder.refresh();
  }

  /** Starts IDLE; the tagged answer comes after DONE. */
  startIdle(tag: string): void {
    this.#idleTag = tag;
    this.#lastLookMs = performance.now();
    this.writer.text('+ idling\r\n');
  }

  /** `FETCH (UID u FLAGS (…))` of a message whose flags changed. */
  flagsAnswer(sequence: number, uid: number): string | undefined {
    const facts = this.view?.folder.facts(uid);
    if (facts === undefined) return undefined;
    return `* ${sequence} FETCH (UID ${uid} FLAGS (${flagsText(facts.flags, facts.keywords)}))`;
  }

  /** Tells what changed in the selected folder. @param expunges  Sequence numbers may change here. */
  sync(expunges: boolean): void {
    const view = this.view;
    if (view === undefined || view.gone) return;
    if (view.folder.keywords.length !== view.keywordCount) this.announceFlags(view);
    view.sync(expunges, this.#write, this.#flags);
  }
  readonly #write = (line: string) => this.untagged(line);
  readonly #flags = (sequence: number, uid: number) => this.flagsAnswer(sequence, uid);

  /** The FLAGS answer: again whenever a keyword is new (RFC 9051 7.3.5). */
  announceFlags(view: MailboxView): void {
    const keywords = view.folder.keywords;
    view.keywordCount = keywords.length;
    this.untagged(`* FLAGS (${[allSystemFlags, ...keywords].join(' ')})`);
    if (!view.readOnly) {
      this.untagged(
        `* OK [PERMANENTFLAGS (${[allSystemFlags, ...keywords, '\\*'].join(' ')})] Flags permitted`,
      );
    }
  }

  /** Something changed: an idling client hears of it, changes of one moment together. */
  #poke(): void {
    if (this.#idleTag === undefined || this.#pokePending) return;
    this.#pokePending = true;
    setImmediate(() => {
      this.#pokePending = false;
      if (this.#idleTag === undefined || this.#running || this.#over || this.writer.blocked) return;
      if (this.view?.gone) {
        this.leave('UNAVAILABLE', 'Mailbox was deleted');
        return;
      }
      this.sync(true);
      void this.#flush();
    });
  }

  #storageFailed(error: unknown): void {
    const fault = Fault.from(error);
    this.log.warn(
      { event: 'imap-refresh', code: fault.code, error: fault.message },
      'folder could not be read again',
    );
  }

  async #run(): Promise<void> {
    this.#running = true;
    try {
      const slice = new Slice();
      while (!this.#over && this.#leaving === undefined && !this.#transport.closed) {
        if (!(await this.#step())) break;
        const rest = slice.used();
        if (rest !== undefined) await rest;
        if (this.writer.full) await this.#flush();
        if (this.#paused && this.#reader.bufferedBytes <= inputBytesMax) this.#resume();
      }
      if (!this.#over) await this.#flush();
    } catch (error) {
      this.#broken(error);
    }
    this.#running = false;
    if (this.#paused) this.#resume();
    if (this.#leaving !== undefined || this.#inputEnded || this.#transport.closed) await this.#finish();
  }

  #resume(): void {
    this.#paused = false;
    this.#transport.resumeInput();
  }

  #flush(): Promise<void> | undefined {
    this.#lastOutputMs = performance.now();
    return this.writer.flush();
  }

  /** An error that leaves the stream of answers in doubt: the connection has to go. */
  #broken(error: unknown): void {
    const fault = Fault.from(error);
    this.#endReason = `broken off: ${fault.code}`;
    this.log.error(
      { event: 'imap-broken', code: fault.code, error: fault.message, stack: fault.stack },
      'session broken off',
    );
    this.#transport.destroy();
    this.#inputEnded = true;
  }

  /** One event of the input. false: nothing more to do until more input comes. */
  #step(): boolean | Promise<boolean> {
    if (this.#append !== undefined) return this.#appendMore(this.#append);
    let reading: ImapReading;
    try {
      reading = this.#reader.next();
    } catch (error) {
      return this.#badInput(Fault.from(error));
    }
    if (reading.kind === 'more') return false;
    if (reading.kind === 'command') return this.#command(reading.pieces);
    return this.#literal(reading);
  }

  /** Something that is no command at all. */
  #badInput(fault: Fault): boolean {
    if (fault.code === 'bug') throw fault;
    this.writer.text(`${this.#reader.tag ?? '*'} BAD ${imapText(fault.message)}\r\n`);
    if (this.#reader.mustClose) this.leaveAtOnce(fault.message);
    else this.#countError();
    return !this.#reader.mustClose;
  }

  leaveAtOnce(text: string): void {
    this.#leaving ??= `* BYE ${imapText(text)}\r\n`;
    this.#leavingSince = performance.now();
    this.#endReason = text;
  }

  #countError(): void {
    if (++this.#errors >= this.#limits.errorsMax) this.leaveAtOnce('Too many errors');
  }

  #literal(reading: ImapReading & { kind: 'literal' }): boolean | Promise<boolean> {
    const append = AppendCommand.begins(this, reading.soFar, reading.size, reading.binary);
    if (append !== undefined) {
      return append.then((outcome) => {
        if (typeof outcome === 'string') return this.#refuseLiteral(reading, outcome);
        this.#append = outcome;
        this.#reader.streamLiteral();
        if (reading.sync) {
          this.writer.text('+ OK\r\n');
          return this.#flushThen(true);
        }
        return true;
      });
    }
    if (reading.tooBig) {
      return this.#refuseLiteral(reading, `${this.#reader.tag ?? '*'} BAD Literal is too large`);
    }
    this.#reader.acceptLiteral();
    if (!reading.sync) return true;
    this.writer.text('+ OK\r\n');
    return this.#flushThen(true);
  }

  #flushThen(value: boolean): boolean | Promise<boolean> {
    const wait = this.#flush();
    return wait === undefined ? value : wait.then(() => value);
  }

  #refuseLiteral(reading: ImapReading & { kind: 'literal' }, answer: string): boolean {
    this.writer.text(`${answer}\r\n`);
    if (answer.includes(' BAD ')) this.#countError();
    if (!reading.sync && reading.size > skippedLiteralBytesMax) this.leaveAtOnce('Literal is too large');
    this.#reader.refuseLiteral();
    return true;
  }

  /** Bytes of a message being appended. */
  async #appendMore(append: AppendCommand): Promise<boolean> {
    while (this.#reader.literalLeft > 0) {
      const bytes = this.#reader.takeLiteral();
      if (bytes === undefined) return false;
      await append.write(bytes);
      // Input was stopped while the store was slow.
      if (this.#paused && this.#reader.bufferedBytes <= inputBytesMax) this.#resume();
      if (this.#transport.closed || this.#leaving !== undefined) return false;
    }
    let reading: ImapReading;
    try {
      reading = this.#reader.next();
    } catch (error) {
      this.#append = undefined;
      await append.abort();
      return this.#badInput(Fault.from(error));
    }
    if (reading.kind === 'more') return false;
    this.#append = undefined;
    this.#commandCount++;
    if (reading.kind === 'literal') {
      await append.abort();
      return this.#refuseLiteral(reading, `${append.tag} BAD One message at a time`);
    }
    const rest = reading.pieces.at(-1);
    if (reading.pieces.length !== append.pieceCount || !Buffer.isBuffer(rest) || rest.length > 0) {
      await append.abort();
      this.writer.text(`${append.tag} BAD Unexpected text after the message\r\n`);
      this.#countError();
      return true;
    }
    const completion = await append.commit();
    this.sync(true);
    this.writer.text(`${append.tag} ${completion}\r\n`);
    return true;
  }

  #command(pieces: readonly ImapPiece[]): boolean | Promise<boolean> {
    this.#commandCount++;
    if (this.#idleTag !== undefined) return this.#endIdle(pieces);
    const tag = this.#reader.tag;
    if (tag === undefined || !isTag(tag)) {
      this.writer.text('* BAD Missing tag or command\r\n');
      this.#countError();
      return true;
    }
    let entry: CommandEntry | undefined;
    let outcome: string | undefined | Promise<string | undefined>;
    try {
      const cursor = new ImapCursor(pieces);
      cursor.tag();
      cursor.space();
      let name = cursor.keyword();
      const byUid = name === 'UID';
      if (byUid) {
        cursor.space();
        name = cursor.keyword();
      }
      entry = Object.hasOwn(commands, name) ? commands[name] : undefined;
      if (entry === undefined || (byUid && !entry.uid)) throw new Fault('bad-syntax', 'Unknown command');
      if (entry.state === 'selected' && this.view === undefined) {
        throw new Fault('bad-syntax', 'No mailbox is selected');
      }
      outcome = entry.run(this, { tag, name, byUid, cursor });
      if (outcome instanceof Promise) {
        const settled = entry;
        return outcome.then(
          (completion) => this.#complete(tag, settled, byUid, completion),
          (error: unknown) => this.#failed(tag, settled, byUid, error),
        );
      }
      return this.#complete(tag, entry, byUid, outcome);
    } catch (error) {
      return this.#failed(tag, entry, false, error);
    }
  }

  #complete(tag: string, entry: CommandEntry, byUid: boolean, completion: string | undefined): boolean {
    if (completion === undefined) return true;
    this.sync(entry.expunges || byUid);
    this.writer.text(`${tag} ${completion}\r\n`);
    if (completion.startsWith('BAD')) this.#countError();
    else if (completion.startsWith('OK')) this.#errors = 0;
    return true;
  }

  #failed(tag: string, entry: CommandEntry | undefined, byUid: boolean, error: unknown): boolean {
    const fault = Fault.from(error);
    if (fault.detail.closeConnection === true) throw fault;
    // The right to act is lost: nothing may be answered any more (DESIGN invariant 2).
    if (fault.code === 'lease-lost' || fault.code === 'not-owner') {
      this.leave('UNAVAILABLE', 'Account is moving, please reconnect');
      return false;
    }
    if (fault.whose !== 'client') {
      const level = fault.code === 'bug' ? 'error' : 'warn';
      this.log[level](
        {
          event: 'imap-command',
          code: fault.code,
          error: fault.message,
          detail: fault.detail,
          ...(fault.code === 'bug' ? { stack: fault.stack } : {}),
        },
        'command failed',
      );
    }
    const answer = answerOf(fault);
    if (entry !== undefined && !answer.startsWith('BAD')) this.sync(entry.expunges || byUid);
    this.writer.text(`${tag} ${answer}\r\n`);
    if (answer.startsWith('BAD')) this.#countError();
    if (this.view?.gone) {
      this.leaveAtOnce('Mailbox was deleted');
    }
    return true;
  }

  #endIdle(pieces: readonly ImapPiece[]): boolean {
    const line = pieces[0];
    const tag = this.#idleTag!;
    this.#idleTag = undefined;
    if (pieces.length === 1 && Buffer.isBuffer(line) && line.toString('latin1').toUpperCase() === 'DONE') {
      this.sync(true);
      this.writer.text(`${tag} OK IDLE completed\r\n`);
    } else {
      this.writer.text(`${tag} BAD Expected DONE\r\n`);
      this.#countError();
    }
    return true;
  }

  /** LOGOUT: BYE was written; ends after the tagged answer. */
  loggedOut(): void {
    this.#endReason = 'logout';
    this.#leaving = '';
    this.#leavingSince = performance.now();
  }

  async #finish(): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    this.#clock.remove(this);
    this.account.ended.removeEventListener('abort', this);
    const append = this.#append;
    this.#append = undefined;
    this.unselect();
    if (append !== undefined) await append.abort();
    if (this.#leaving !== undefined) this.writer.text(this.#leaving);
    void this.writer.flush();
    this.#transport.end();
    this.log.info(
      {
        event: 'imap-session',
        ...this.#options.facts,
        reason: this.#endReason,
        commands: this.#commandCount,
        bytesIn: this.#reader.consumedBytes,
        bytesOut: this.writer.writtenBytes,
        ms: Math.round(performance.now() - this.#startedMs),
      },
      'session ended',
    );
    this.#options.ended();
  }
}
