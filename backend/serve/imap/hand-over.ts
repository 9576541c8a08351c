/**
 * How a session comes to a place from which another owner can go on, and leaves
 * there. Every command's end is such a place; the state there goes into the
 * stream in front of the command's answers.
 */
import { keptBytesMax } from '../../../cluster-protocol/session-marks.ts';
import type { SessionTicket } from '../../../cluster-protocol/session-ticket.ts';
import type { OperationId, OperationResult } from '../../store/operations.ts';
import type { SessionBook, Superseded } from '../session-book.ts';
import { type Checkpointed, Checkpoints } from './checkpoints.ts';
import type { SessionInput } from './session-input.ts';
import type { RestoredSession } from './session-options.ts';

/** How long a session that is handed over may take to come to a boundary. */
const handOverMs = 1000;
/** An answer that was written so long ago has come to the gateway, or the gateway has given up. */
const settledAfterMs = 60_000;

export class HandOver {
  readonly #session: Checkpointed & Superseded;
  readonly #input: SessionInput;
  readonly #book: SessionBook;
  readonly #ticket: SessionTicket;
  readonly #checkpoints: Checkpoints;
  /** Bytes of this stream up to the last boundary, where the command that runs begins. */
  #boundaryAt = 0;
  /** What the client had sent before this stream. */
  readonly #offset: number;
  /** Commands that begin before here may have been done by an earlier owner. */
  readonly #replayEnd: number;
  /** The first command has a part of its answer already. */
  #answeredInPart: boolean;
  #deadline: NodeJS.Timeout | undefined;
  #appended: { readonly key: string; readonly atMs: number }[] | undefined;
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
    const { taking } = restored ?? {};
    this.#askedAlready = taking?.continuations ?? 0;
    this.#answeredInPart = taking?.answered ?? false;
    this.#offset = taking?.offset ?? 0;
    this.#replayEnd = taking?.replayedBytes ?? 0;
    book.enter(ticket.session, session);
  }

  /** What was answered so far is whole: if nothing of the client's is half done, the session could go on from here. */
  noteBoundary(): void {
    if (!this.#input.atBoundary) return;
    this.#boundaryAt = this.#input.consumedBytes;
    this.#answeredInPart = false;
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

  /** Names the command that runs, for the account's journal. */
  get operation(): OperationId {
    return this.#ticket.session + (this.#offset + this.#boundaryAt).toString(16).padStart(12, '0');
  }

  /** What an earlier owner has done of the command that runs. */
  done(): OperationResult | undefined {
    if (this.#boundaryAt >= this.#replayEnd) return undefined;
    return this.#session.account.store.operation(this.operation);
  }

  /** The client has lines of an answer to the command that runs, which cannot be given the same again. */
  get answeredInPart(): boolean {
    return this.#answeredInPart;
  }

  /** Is a continuation request to be sent? Not when the client had it before its session moved. */
  mayAskForMore(): boolean {
    if (this.#askedAlready === 0) return true;
    this.#askedAlready--;
    return false;
  }

  /** Messages were stored under these keys. They are asked for by a session that comes back with their command. */
  appended(keys: readonly string[]): void {
    const atMs = performance.now();
    this.#appended ??= [];
    for (const key of keys) this.#appended.push({ key, atMs });
  }

  /** Lets go of keys nobody will ask for any more. */
  settle(nowMs: number): void {
    const appended = this.#appended;
    if (appended === undefined) return;
    const young = appended.findIndex(({ atMs }) => atMs > nowMs - settledAfterMs);
    const old = appended.splice(0, young < 0 ? appended.length : young);
    if (appended.length === 0) this.#appended = undefined;
    const { store } = this.#session.account;
    // Best effort: a key that stays costs some bytes for some days.
    for (const { key } of old) store.settle(key).catch(() => {});
  }

  /** The session is over. @param inOrder  Its client will not come back. */
  end(inOrder: boolean): void {
    clearTimeout(this.#deadline);
    if (inOrder) this.settle(Number.POSITIVE_INFINITY);
    this.#book.leave(this.#ticket.session, this.#session);
  }
}
