/**
 * APPEND (RFC 9051 6.3.12): the message's bytes go to the store as they come,
 * and nothing of it stays unless all of it came (CASES 27).
 */
import { Fault } from '../../../base/fault.ts';
import type { ImapPiece } from '../../../mailwire/imap-command-reader.ts';
import { ImapCursor } from '../../../mailwire/imap-tokens.ts';
import type { Folder, Incoming } from '../../store/store.ts';
import { answerTryCreate } from './answers.ts';
import { parseFlags } from './flags.ts';
import type { ImapSession } from './imap-session.ts';

export class AppendCommand {
  readonly tag: string;
  /** Pieces the whole command has when nothing follows the message. */
  readonly pieceCount: number;
  readonly #folder: Folder;
  readonly #incoming: Incoming;
  readonly #session: ImapSession;
  /** What went wrong: the rest of the message is read and thrown away. */
  #fault: Fault | undefined;

  private constructor(
    session: ImapSession,
    tag: string,
    pieceCount: number,
    folder: Folder,
    incoming: Incoming,
  ) {
    this.#session = session;
    this.tag = tag;
    this.pieceCount = pieceCount;
    this.#folder = folder;
    this.#incoming = incoming;
  }

  /**
   * Is the literal that was announced the message of an APPEND?
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
    if (tagEnd < 1 || first.toString('latin1', tagEnd + 1, tagEnd + 8).toUpperCase() !== 'APPEND ')
      return undefined;
    const cursor = new ImapCursor(soFar);
    let tag = '*';
    try {
      tag = cursor.tag();
      cursor.space();
      cursor.atom();
      cursor.space();
      // `APPEND {5}`: the literal is the mailbox's name.
      if (cursor.atEnd) return undefined;
      const name = cursor.astring();
      cursor.space();
      let flags: string[] = [];
      let dateMs = Date.now();
      if (cursor.isAt('(')) {
        flags = cursor.flagList();
        cursor.space();
      }
      if (cursor.isAt('"')) {
        dateMs = cursor.dateTime();
        cursor.space();
      }
      cursor.end();
      if (binary) throw new Fault('not-allowed', 'Binary messages are not supported');
      if (size === 0) throw new Fault('not-allowed', 'An empty message cannot be stored');
      const { bits, keywords } = parseFlags(flags);
      return AppendCommand.#open(session, tag, soFar.length + 2, name, size, {
        flags: bits,
        keywords,
        internalDateMs: dateMs,
      });
    } catch (error) {
      return Promise.resolve(refusal(tag, error));
    }
  }

  static async #open(
    session: ImapSession,
    tag: string,
    pieceCount: number,
    name: string,
    size: number,
    facts: { flags: number; keywords: string[]; internalDateMs: number },
  ): Promise<AppendCommand | string> {
    try {
      const folder = await session.account.store.folder(session.nameFrom(name));
      const incoming = await folder.append(facts, size);
      return new AppendCommand(session, tag, pieceCount, folder, incoming);
    } catch (error) {
      return refusal(tag, error);
    }
  }

  /** Takes the next bytes; after a failure they are only thrown away. */
  async write(bytes: Buffer): Promise<void> {
    if (this.#fault !== undefined) return;
    try {
      // RFC 9051 9: a literal holds CHAR8, which is any byte but NUL.
      if (bytes.includes(0)) throw new Fault('nul-byte', 'NUL is not allowed in a message');
      await this.#incoming.write(bytes);
    } catch (error) {
      this.#fault = Fault.from(error);
      await this.#incoming.abort();
    }
  }

  /** All bytes came. @returns the completion, without its tag. @throws {Fault} `lease-lost`, `not-owner` */
  async commit(): Promise<string> {
    if (this.#fault !== undefined) return answerTryCreate(this.#fault);
    try {
      const { uid } = await this.#incoming.commit();
      return `OK [APPENDUID ${this.#folder.uidValidity} ${uid}] APPEND completed`;
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

  async abort(): Promise<void> {
    if (this.#fault !== undefined) return;
    this.#fault = new Fault('unavailable', 'broken off');
    await this.#incoming.abort();
  }
}

function refusal(tag: string, error: unknown): string {
  return `${tag} ${answerTryCreate(Fault.from(error))}`;
}
