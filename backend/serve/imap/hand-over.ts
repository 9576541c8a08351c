/**
 * How a session comes to a place from which another owner can go on, and leaves
 * there. Every command's end is such a place; the state there goes into the
 * stream in front of the command's answers.
 */
import { keptBytesMax } from '../../../cluster-protocol/session-marks.ts';
import type { SessionTicket } from '../../../cluster-protocol/session-ticket.ts';
import type { SessionBook, Superseded } from '../session-book.ts';
import { type Checkpointed, Checkpoints } from './checkpoints.ts';
import type { SessionInput } from './session-input.ts';
import type { RestoredSession } from './session-options.ts';

/** How long a session that is handed over may take to come to a boundary. */
const handOverMs = 1000;

export class HandOver {
  readonly #session: Checkpointed & Superseded;
  readonly #input: SessionInput;
  readonly #book: SessionBook;
  readonly #ticket: SessionTicket;
  readonly #checkpoints: Checkpoints;
  /** Client bytes up to the last boundary. */
  #boundaryAt = 0;
  #deadline: NodeJS.Timeout | undefined;
  /** Continuation requests that an earlier owner has sent, for commands that are read again. */
  #askedAlready: number;

  constructor(
    session: Checkpointed & Superseded,
    input: SessionInput,
    { book, ticket }: { readonly book: SessionBook; readonly ticket: SessionTicket },
    restored: RestoredSession | undefined,
  ) {
    this.#session = session;
    this.#input = input;
    this.#book = book;
    this.#ticket = ticket;
    this.#checkpoints = new Checkpoints(session, book, ticket);
    this.#askedAlready = restored?.taking.continuations ?? 0;
    book.enter(ticket.session, session);
  }

  /** What was answered so far is whole: if nothing of the client's is half done, the session could go on from here. */
  noteBoundary(): void {
    if (!this.#input.atBoundary) return;
    this.#boundaryAt = this.#input.consumedBytes;
    this.#session.writer.boundary(this.#boundaryAt, this.#checkpoints.next());
  }

  /** The account goes to another owner. @param late  Called when the session has not ended in time. */
  begin(late: () => void): void {
    this.#deadline ??= setTimeout(late, handOverMs).unref();
  }

  get begun(): boolean {
    return this.#deadline !== undefined;
  }

  /** Is it time to go, and a place to go from? */
  get atBoundary(): boolean {
    return this.begun && this.#input.atBoundary;
  }

  /** May the session leave now? Nothing was begun, or all of it is kept at the gateway and can be sent again. */
  get mayLeave(): boolean {
    const { atBoundary, pushedBytes } = this.#input;
    return atBoundary || pushedBytes - this.#boundaryAt <= keptBytesMax;
  }

  /** The last checkpoint of a session that leaves. */
  noteLast(): void {
    if (this.#input.atBoundary)
      this.#session.writer.boundary(this.#input.consumedBytes, this.#checkpoints.last());
  }

  /** @returns is there a new ticket to be told? */
  renewTicket(): boolean {
    return this.#checkpoints.renewTicket();
  }

  /** Is a continuation request to be sent? Not when the client had it before its session moved. */
  mayAskForMore(): boolean {
    if (this.#askedAlready === 0) return true;
    this.#askedAlready--;
    return false;
  }

  /** The session is over. */
  end(): void {
    clearTimeout(this.#deadline);
    this.#book.leave(this.#ticket.session, this.#session);
  }
}
