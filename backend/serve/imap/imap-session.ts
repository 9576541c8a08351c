/**
 * One IMAP session after login (RFC 9051, RFC 3501): bytes in, answers out,
 * free of any transport. Commands run one after another; between them the
 * session holds no promise, no timer and no buffer, so that an idle one is small.
 */
import { Fault } from '../../../base/fault.ts';
import type { ImapPiece } from '../../../mailwire/imap-command-reader.ts';
import { imapText } from '../../../mailwire/imap-reply.ts';
import { isMoving } from '../../accounts/accounts.ts';
import type { Superseded } from '../session-book.ts';
import type { Checkpointed } from './checkpoints.ts';
import { ClientState } from './client-state.ts';
import { CommandRate } from './command-rate.ts';
import { runCommand } from './command-run.ts';
import { HandOver } from './hand-over.ts';
import type { Transport } from './reply-writer.ts';
import { type SessionClock, Slice, sharedClock } from './session-clock.ts';
import { SessionInput } from './session-input.ts';
import type { ImapSessionLimits, ImapSessionOptions } from './session-options.ts';

/** How often an idling session looks for what other programs put into the folder. */
const lookMs = 30_000;
/** A client that idles hears something this often, so that its router does not forget it. */
const keepAliveMs = 4 * 60_000;
/** NOOP looks at the directory at most this often. */
const refreshMs = 1000;

export class ImapSession extends ClientState implements Checkpointed, Superseded {
  readonly #transport: Transport;
  readonly #limits: ImapSessionLimits;
  readonly #input: SessionInput;
  readonly #clock: SessionClock;
  readonly #options: ImapSessionOptions;
  #running = false;
  /** Bytes came since the running loop last looked. */
  #arrived = false;
  #inputEnded = false;
  #paused = false;
  #over = false;
  /** Words of the BYE to come, when the session has to end at the next boundary. */
  #leaving: string | undefined;
  #leavingSince = 0;
  #idleTag: string | undefined;
  #pokePending = false;
  #errors = 0;
  #commandCount = 0;
  readonly #rate: CommandRate | undefined;
  #lastInputMs = performance.now();
  #lastOutputMs = performance.now();
  #lastLookMs = 0;
  #endReason = 'closed by client';
  readonly #startedMs = performance.now();
  #onEnded: (() => void)[] | undefined;

  constructor(options: ImapSessionOptions) {
    super(options);
    this.#options = options;
    this.#transport = options.transport;
    this.#limits = options.limits;
    this.#input = new SessionInput(this, options.limits);
    this.#clock = options.clock ?? sharedClock;
    this.#clock.add(this);
    const { commandsPerSecondMax } = options.limits;
    if (commandsPerSecondMax > 0) this.#rate = new CommandRate(commandsPerSecondMax);
    const { restored, resumable } = options;
    this.#idleTag = restored?.state.idleTag;
    this.#errors = restored?.state.errors ?? 0;
    if (resumable !== undefined) this.handOver = new HandOver(this, this.#input, resumable, restored);
    if (this.account.ended.aborted) this.#accountEnded();
    else this.account.ended.addEventListener('abort', this, { once: true });
  }

  /** Takes the client's next bytes. */
  receive(chunk: Buffer): void {
    if (this.#over) return;
    this.#lastInputMs = performance.now();
    this.#input.push(chunk);
    this.#arrived = true;
    if (!this.#running) void this.#run();
    else if (this.#input.full && !this.#paused) {
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

  /** For a session that began elsewhere: a client in IDLE hears what it missed. */
  goOn(): void {
    this.changed();
  }

  #accountEnded(): void {
    const reason = this.account.ended.reason as unknown;
    if (this.handOver !== undefined && isMoving(reason)) {
      this.#leaveForNextOwner(this.handOver);
      return;
    }
    this.leave(
      'UNAVAILABLE',
      reason instanceof Fault ? reason.message : 'Account is moving, please reconnect',
    );
  }

  /** Ends the session at a boundary with nothing said to the client, or in time as after a crash. */
  #leaveForNextOwner(handOver: HandOver): void {
    if (this.#over || this.#leaving !== undefined) return;
    this.#endReason = 'moved';
    handOver.begin(() => this.abandon());
    if (!this.#running && handOver.mayLeave) void this.#finish();
  }

  /** The right to act is lost: nothing may be answered any more (DESIGN invariant 2). */
  lostOwnership(): void {
    if (this.handOver !== undefined) this.abandon();
    else this.leave('UNAVAILABLE', 'Account is moving, please reconnect');
  }

  /** Breaks the stream off: nothing may be answered any more, and the gateway resumes behind the last checkpoint. */
  abandon(): void {
    this.#transport.destroy();
    this.connectionLost();
  }

  /** The gateway resumes this session: its link is broken. Resolves when its last command is over. */
  supersede(): Promise<void> {
    return new Promise((resolve) => {
      this.#onEnded ??= [];
      this.#onEnded.push(resolve);
      this.abandon();
    });
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
    if (this.handOver?.renewTicket()) void this.#flushAtBoundary();
    this.handOver?.settle(nowMs);
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
      void this.#flushAtBoundary();
    }
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

  /** Something changed: an idling client hears of it, changes of one moment together. */
  protected override changed(): void {
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
      void this.#flushAtBoundary();
    });
  }

  /** Whatever is gathered is whole, and nothing of the client's is half done. */
  #flushAtBoundary(): Promise<void> | undefined {
    this.handOver?.noteBoundary();
    return this.flush();
  }

  get idleTag(): string | undefined {
    return this.#idleTag;
  }

  get errorCount(): number {
    return this.#errors;
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
      do {
        this.#arrived = false;
        await this.#runWhatCame(slice);
        // The answer to LOGOUT leaves with the stream's end, in one write.
        if (!this.#over && this.#leaving !== '') await this.flush();
        // A chunk that came while we flushed met a session that still ran: nobody else would look at it.
      } while (this.#arrived && !this.stopping && !this.handOver?.atBoundary);
    } catch (error) {
      this.#broken(error);
    }
    this.#running = false;
    if (this.#paused) this.#resume();
    if (this.#leaving !== undefined || this.#inputEnded || this.#transport.closed) await this.#finish();
    else if (this.handOver?.begun && this.handOver.mayLeave) await this.#finish();
  }

  async #runWhatCame(slice: Slice): Promise<void> {
    while (!this.stopping && !this.handOver?.atBoundary) {
      const stepped = this.#input.step();
      const event = stepped instanceof Promise ? await stepped : stepped;
      if (event === false) return;
      if (event !== true) {
        const done = this.#command(event);
        if (!(done instanceof Promise ? await done : done)) return;
      }
      this.handOver?.noteBoundary();
      if (event !== true && this.#rate?.used()) {
        await this.flush();
        await this.#rate.next();
      }
      const rest = slice.used();
      if (rest !== undefined) await rest;
      if (this.writer.full) await this.flush();
      this.readOn();
    }
  }

  #resume(): void {
    this.#paused = false;
    this.#transport.resumeInput();
  }

  /** Reads on when input was stopped and little of it is left. */
  readOn(): void {
    if (this.#paused && !this.#input.full) this.#resume();
  }

  /** A command was good: bad ones before it count no longer. */
  forgiveErrors(): void {
    this.#errors = 0;
  }

  /** For what is a command although it came another way (APPEND). */
  countCommand(): void {
    this.#commandCount++;
  }

  flush(): Promise<void> | undefined {
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

  leaveAtOnce(text: string): void {
    this.#leaving ??= `* BYE ${imapText(text)}\r\n`;
    this.#leavingSince = performance.now();
    this.#endReason = text;
  }

  /** Counts a bad command; too many end the session. */
  countError(): void {
    if (++this.#errors >= this.#limits.errorsMax) this.leaveAtOnce('Too many errors');
  }

  #command(pieces: readonly ImapPiece[]): boolean | Promise<boolean> {
    this.#commandCount++;
    if (this.#idleTag !== undefined) return this.#endIdle(pieces);
    return runCommand(this, this.#input.tag, pieces);
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
      this.countError();
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
    const moves = this.handOver?.begun === true && this.#leaving === undefined;
    if (moves) this.handOver?.noteLast();
    this.unselect();
    await this.#input.abort();
    if (this.#leaving !== undefined) this.writer.text(this.#leaving);
    this.writer.end(moves ? 'moved' : 'over');
    this.#transport.end();
    this.log.info(
      {
        event: 'imap-session',
        ...this.#options.facts,
        reason: this.#endReason,
        commands: this.#commandCount,
        bytesIn: this.#input.consumedBytes,
        bytesOut: this.writer.writtenBytes,
        ms: Math.round(performance.now() - this.#startedMs),
      },
      'session ended',
    );
    this.handOver?.end(this.#leaving === '');
    this.#options.ended();
    for (const resolve of this.#onEnded ?? []) resolve();
  }
}
