/**
 * What a client sends, made into commands: the reader, the literals it asks
 * about, and messages on their way into the store. Runs no command itself.
 */
import { Fault } from '../../../base/fault.ts';
import {
  ImapCommandReader,
  type ImapPiece,
  type ImapReading,
} from '../../../mailwire/imap-command-reader.ts';
import { imapText } from '../../../mailwire/imap-reply.ts';
import { AppendCommand } from './append-command.ts';
import type { ImapSession } from './imap-session.ts';
import type { ImapSessionLimits } from './session-options.ts';

/** A whole command to run, or: is there more to do before more input comes? */
export type InputStep = readonly ImapPiece[] | boolean;

/** Input waiting behind a running command before reading stops, bytes. */
const inputBytesMax = 64 * 1024;
/** A non-synchronising literal larger than this is not read to the end just to be thrown away. */
const skippedLiteralBytesMax = 1024 * 1024;

export class SessionInput {
  readonly #session: ImapSession;
  readonly #reader: ImapCommandReader;
  #append: AppendCommand | undefined;

  constructor(session: ImapSession, limits: ImapSessionLimits) {
    this.#session = session;
    this.#reader = new ImapCommandReader({
      lineBytesMax: limits.lineBytesMax,
      literalBytesMax: limits.commandBytesMax,
      commandBytesMax: limits.commandBytesMax,
    });
  }

  push(chunk: Buffer): void {
    this.#reader.push(chunk);
  }

  /** More is waiting than should. */
  get full(): boolean {
    return this.#reader.bufferedBytes > inputBytesMax;
  }

  get consumedBytes(): number {
    return this.#reader.consumedBytes;
  }

  /** Bytes that were pushed, consumed or not. */
  get pushedBytes(): number {
    return this.#reader.consumedBytes + this.#reader.bufferedBytes;
  }

  /** Nothing of a command was consumed that is not complete. */
  get atBoundary(): boolean {
    return this.#append === undefined && this.#reader.atBoundary;
  }

  /** Tag of the command being read. */
  get tag(): string | undefined {
    return this.#reader.tag;
  }

  /** Throws away a message that did not come to its end. */
  async abort(): Promise<void> {
    const append = this.#append;
    this.#append = undefined;
    await append?.abort();
  }

  /** One event of the input. @throws {Fault} `bug` only; what is wrong with the input is answered here */
  step(): InputStep | Promise<InputStep> {
    if (this.#append !== undefined) return this.#appendMore(this.#append);
    let reading: ImapReading;
    try {
      reading = this.#reader.next();
    } catch (error) {
      return this.#badInput(Fault.from(error));
    }
    if (reading.kind === 'more') return false;
    if (reading.kind === 'command') return reading.pieces;
    return this.#literal(reading);
  }

  /** Something that is no command at all. */
  #badInput(fault: Fault): boolean {
    if (fault.code === 'bug') throw fault;
    const session = this.#session;
    session.writer.text(`${this.#reader.tag ?? '*'} BAD ${imapText(fault.message)}\r\n`);
    if (this.#reader.mustClose) session.leaveAtOnce(fault.message);
    else session.countError();
    return !this.#reader.mustClose;
  }

  #literal(reading: ImapReading & { kind: 'literal' }): boolean | Promise<boolean> {
    const append = AppendCommand.begins(this.#session, reading.soFar, reading.size, reading.binary);
    if (append !== undefined) {
      return append.then((outcome) => {
        if (typeof outcome === 'string') return this.#refuseLiteral(reading, outcome);
        this.#append = outcome;
        this.#reader.streamLiteral();
        return reading.sync ? this.#goOn() : true;
      });
    }
    if (reading.tooBig) {
      return this.#refuseLiteral(reading, `${this.#reader.tag ?? '*'} BAD Literal is too large`);
    }
    this.#reader.acceptLiteral();
    return reading.sync ? this.#goOn() : true;
  }

  /** Lets the client send its literal. */
  #goOn(): boolean | Promise<boolean> {
    if (this.#session.mayAskForMore()) this.#session.writer.more('+ OK\r\n');
    const wait = this.#session.flush();
    return wait === undefined ? true : wait.then(() => true);
  }

  #refuseLiteral(reading: ImapReading & { kind: 'literal' }, answer: string): boolean {
    this.#session.writer.text(`${answer}\r\n`);
    if (answer.includes(' BAD ')) this.#session.countError();
    if (!reading.sync && reading.size > skippedLiteralBytesMax) {
      this.#session.leaveAtOnce('Literal is too large');
    }
    this.#reader.refuseLiteral();
    return true;
  }

  /** Bytes of a message being appended. */
  async #appendMore(append: AppendCommand): Promise<boolean> {
    const session = this.#session;
    while (this.#reader.literalLeft > 0) {
      const bytes = this.#reader.takeLiteral();
      if (bytes === undefined) return false;
      await append.write(bytes);
      // Input was stopped while the store was slow.
      session.readOn();
      if (session.stopping) return false;
    }
    let reading: ImapReading;
    try {
      reading = this.#reader.next();
    } catch (error) {
      await this.abort();
      return this.#badInput(Fault.from(error));
    }
    if (reading.kind === 'more') return false;
    if (reading.kind === 'literal') {
      const refusal = await append.continues(reading.soFar, reading.size, reading.binary);
      if (refusal === undefined) {
        this.#reader.streamLiteral();
        return reading.sync ? this.#goOn() : true;
      }
      this.#append = undefined;
      session.countCommand();
      return this.#refuseLiteral(reading, refusal);
    }
    this.#append = undefined;
    session.countCommand();
    const completion = await append.commit(reading.pieces);
    session.sync(true);
    session.writer.text(`${append.tag} ${completion}\r\n`);
    if (completion.startsWith('BAD')) session.countError();
    return true;
  }
}
