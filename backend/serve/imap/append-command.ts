/**
 * APPEND of one message or several (RFC 9051 6.3.12, RFC 3502) and REPLACE (RFC 8508).
 * The bytes go to the store as they come, and nothing stays unless all of it came (CASES 27).
 */
import { Fault, isFault } from '../../../base/fault.ts';
import type { ImapPiece } from '../../../mailwire/imap-command-reader.ts';
import { imapNumberSet } from '../../../mailwire/imap-reply.ts';
import { ImapCursor } from '../../../mailwire/imap-tokens.ts';
import type { AppendFacts, Folder, Incoming } from '../../store/store.ts';
import { answerTryCreate } from './answers.ts';
import { parseFlags } from './flags.ts';
import type { ImapSession } from './imap-session.ts';
import type { MailboxView } from './mailbox-view.ts';
import { modseqCode } from './resync.ts';

/** Messages of one command, and what the store may hold of them in memory until the last one came. */
const messagesMax = 200;
const heldBytesMax = 16 * 1024 * 1024;
/** Of a message's number in the delivery key that is made of its command's name. */
const operationKeyDigits = 4;
/** The store holds a message up to this size until it is committed. */
const heldPerMessageMax = 256 * 1024;

/** A message as announced: `[flags] [date] {n}`. */
interface Announced {
  readonly facts: AppendFacts;
  /** Was `UTF8 (~{n}`: a parenthesis has to follow (RFC 9755 4). */
  readonly closing: boolean;
}

/** The message REPLACE replaces. */
interface Replaced {
  readonly view: MailboxView;
  readonly uid: number;
}

export class AppendCommand {
  readonly tag: string;
  readonly #session: ImapSession;
  readonly #folder: Folder;
  readonly #replaced: Replaced | undefined;
  readonly #messages: Incoming[] = [];
  /** Delivery keys of the messages, so that a command that comes again finds them. */
  readonly #keys: string[] = [];
  /** The last literal is this piece of the command. */
  #literalIndex = 0;
  #closing = false;
  #binary = false;
  #heldBytes = 0;
  /** What went wrong: the rest of the message is read and thrown away. */
  #fault: Fault | undefined;

  private constructor(session: ImapSession, tag: string, folder: Folder, replaced: Replaced | undefined) {
    this.#session = session;
    this.tag = tag;
    this.#folder = folder;
    this.#replaced = replaced;
  }

  /**
   * Is the literal that was announced a message?
   *
   * @returns `undefined` when not. Else the command, ready for bytes, or the tagged answer that refuses it.
   */
  static begins(
    session: ImapSession,
    soFar: readonly ImapPiece[],
    size: number,
    binary: boolean,
  ): Promise<AppendCommand | string> | undefined {
    const first = soFar[0];
    if (!Buffer.isBuffer(first)) return undefined;
    const tagEnd = first.indexOf(0x20);
    if (tagEnd < 1) return undefined;
    const words = first.toString('latin1', tagEnd + 1, tagEnd + 13);
    if (!/^(?:APPEND|(?:UID )?REPLACE) /i.test(words)) return undefined;
    const cursor = new ImapCursor(soFar);
    let tag = '*';
    try {
      tag = cursor.tag();
      cursor.space();
      let name = cursor.keyword();
      const byUid = name === 'UID';
      cursor.space();
      if (byUid) {
        name = cursor.keyword();
        cursor.space();
      }
      let number: number | undefined;
      if (name === 'REPLACE') {
        number = cursor.nzNumber();
        cursor.space();
      }
      // `APPEND {5}`: the literal is the mailbox's name.
      if (cursor.atEnd) return undefined;
      const mailbox = cursor.astring();
      cursor.space();
      const announced = announcedMessage(session, cursor, size, binary);
      const replaced = number === undefined ? undefined : replacedMessage(session, number, byUid);
      return AppendCommand.#open(session, tag, mailbox, replaced, soFar, announced, size, binary);
    } catch (error) {
      return Promise.resolve(refusal(tag, error));
    }
  }

  static async #open(
    session: ImapSession,
    tag: string,
    mailbox: string,
    replaced: Replaced | undefined,
    soFar: readonly ImapPiece[],
    announced: Announced,
    size: number,
    binary: boolean,
  ): Promise<AppendCommand | string> {
    try {
      const folder = await session.account.store.folder(session.nameFrom(mailbox));
      const command = new AppendCommand(session, tag, folder, replaced);
      await command.#announce(soFar, announced, size, binary);
      return command;
    } catch (error) {
      return refusal(tag, error);
    }
  }

  async #announce(
    soFar: readonly ImapPiece[],
    { facts, closing }: Announced,
    size: number,
    binary: boolean,
  ): Promise<void> {
    this.#heldBytes += Math.min(size, heldPerMessageMax);
    if (this.#messages.length >= messagesMax || this.#heldBytes > heldBytesMax) {
      throw new Fault('limit-reached', 'Too many messages at once');
    }
    const operation = this.#session.operation;
    const deliveryKey =
      operation && operation + this.#messages.length.toString(16).padStart(operationKeyDigits, '0');
    if (deliveryKey !== undefined) this.#keys.push(deliveryKey);
    this.#messages.push(
      await this.#folder.append(deliveryKey === undefined ? facts : { ...facts, deliveryKey }, size),
    );
    this.#literalIndex = soFar.length;
    this.#closing = closing;
    this.#binary = binary;
  }

  /**
   * Another literal was announced behind a message (MULTIAPPEND).
   * @returns `undefined`: ready for its bytes. Else the tagged answer that refuses the command; nothing of it stays.
   */
  async continues(soFar: readonly ImapPiece[], size: number, binary: boolean): Promise<string | undefined> {
    try {
      if (this.#fault !== undefined) throw this.#fault;
      const cursor = this.#behindMessage(soFar);
      if (this.#replaced !== undefined) throw new Fault('bad-syntax', 'One message at a time');
      cursor.space();
      await this.#announce(soFar, announcedMessage(this.#session, cursor, size, binary), size, binary);
      return undefined;
    } catch (error) {
      await this.abort();
      return refusal(this.tag, error);
    }
  }

  /** Takes the next bytes; after a failure they are only thrown away. */
  async write(bytes: Buffer): Promise<void> {
    if (this.#fault !== undefined) return;
    try {
      // RFC 9051 9: a literal holds CHAR8, which is any byte but NUL; a literal8 any byte.
      if (bytes.includes(0)) throw this.#binary ? unknownEncoding() : nul();
      await this.#messages.at(-1)!.write(bytes);
    } catch (error) {
      await this.#fail(Fault.from(error));
    }
  }

  /**
   * The whole command came.
   * @returns the completion, without its tag. @throws {Fault} `lease-lost`, `not-owner`
   */
  async commit(pieces: readonly ImapPiece[]): Promise<string> {
    try {
      this.#behindMessage(pieces).end();
    } catch (error) {
      await this.abort();
      return answerTryCreate(Fault.from(error));
    }
    if (this.#fault !== undefined) return answerTryCreate(this.#fault);
    try {
      const gone =
        this.#replaced !== undefined && this.#isGone(this.#replaced) && this.#session.done() === undefined;
      if (gone) throw new Fault('gone', 'The message to replace no longer exists');
      const uids = await this.#commitAll();
      this.#session.appended(this.#keys);
      const code = `[APPENDUID ${this.#folder.uidValidity} ${imapNumberSet(uids)}]`;
      if (this.#replaced === undefined) return `OK ${code} APPEND completed`;
      const { view, uid } = this.#replaced;
      // RFC 8508 3.4: told before the EXPUNGE answer, which comes with the completion.
      this.#session.untagged(`* OK ${code} Replacement stored`);
      await view.folder.expunge([uid], false, this.#session.operation);
      return `OK ${modseqCode(this.#session, view)}REPLACE completed`;
    } catch (error) {
      const fault = Fault.from(error);
      if (fault.code === 'lease-lost' || fault.code === 'not-owner') throw fault;
      if (fault.whose !== 'client') {
        this.#session.log.warn(
          { event: 'imap-append', code: fault.code, error: fault.message },
          'append failed',
        );
      }
      return answerTryCreate(fault);
    }
  }

  /** All of them in order, or none (RFC 3502 6.3.11). */
  async #commitAll(): Promise<number[]> {
    const uids: number[] = [];
    try {
      for (const message of this.#messages) uids.push((await message.commit()).uid);
      return uids;
    } catch (error) {
      for (const message of this.#messages.slice(uids.length + 1)) await message.abort();
      if (uids.length > 0 && !isFault(error, 'lease-lost') && !isFault(error, 'not-owner')) {
        await this.#folder.expunge(uids);
      }
      throw error;
    }
  }

  #isGone({ view, uid }: Replaced): boolean {
    return view.gone || view.folder.flagsOf(uid) === undefined;
  }

  /** A cursor on what follows the last message. @throws {Fault} `bad-syntax` */
  #behindMessage(pieces: readonly ImapPiece[]): ImapCursor {
    const cursor = new ImapCursor(pieces.slice(this.#literalIndex + 1));
    if (this.#closing) cursor.expect(')');
    return cursor;
  }

  async #fail(fault: Fault): Promise<void> {
    this.#fault = fault;
    for (const message of this.#messages) await message.abort();
  }

  async abort(): Promise<void> {
    if (this.#fault === undefined) await this.#fail(new Fault('unavailable', 'broken off'));
  }
}

/** `[flags SP] [date SP] ["UTF8" SP "("]` in front of a literal. @throws {Fault} */
function announcedMessage(
  session: ImapSession,
  cursor: ImapCursor,
  size: number,
  binary: boolean,
): Announced {
  let flags: string[] = [];
  let internalDateMs = Date.now();
  let closing = false;
  if (cursor.isAt('(')) {
    flags = cursor.flagList();
    cursor.space();
  }
  if (cursor.isAt('"')) {
    internalDateMs = cursor.dateTime();
    cursor.space();
  }
  if (!cursor.atEnd) {
    if (cursor.keyword() !== 'UTF8' || !binary) throw new Fault('bad-syntax', 'Missing message');
    if (!session.utf8) throw new Fault('bad-syntax', 'UTF8=ACCEPT is not enabled');
    cursor.space();
    cursor.expect('(');
    closing = true;
  }
  cursor.end();
  if (size === 0) throw new Fault('not-allowed', 'An empty message cannot be stored');
  const { bits, keywords } = parseFlags(flags);
  return { facts: { flags: bits, keywords, internalDateMs }, closing };
}

/** @throws {Fault} `bad-syntax`, `not-allowed`, `gone` */
function replacedMessage(session: ImapSession, number: number, byUid: boolean): Replaced {
  if (session.view === undefined) throw new Fault('bad-syntax', 'No mailbox is selected');
  const view = session.selectedForChange();
  if (!byUid && number > view.count) throw new Fault('bad-syntax', 'No such message');
  const uid = byUid ? number : view.uids[number - 1]!;
  const there = view.folder.flagsOf(uid) !== undefined || session.done() !== undefined;
  if (view.sequenceOf(uid) === 0 || !there) {
    throw new Fault('gone', 'The message to replace no longer exists');
  }
  return { view, uid };
}

function nul(): Fault {
  return new Fault('nul-byte', 'NUL is not allowed in a message');
}

/** RFC 3516 4.3: what is stored is lines of text; a client may encode and come again. */
function unknownEncoding(): Fault {
  return new Fault('not-allowed', 'Binary parts cannot be stored', { detail: { unknownCte: true } });
}

function refusal(tag: string, error: unknown): string {
  return `${tag} ${answerTryCreate(Fault.from(error))}`;
}
