/**
 * What lets a POP3 session outlive its backend: its state for checkpoints, names
 * for its commands, and the way it leaves between two of them.
 */
import type { Taking } from '../../../cluster-protocol/resumption.ts';
import type { SessionTicket } from '../../../cluster-protocol/session-ticket.ts';
import type { Account } from '../../accounts/accounts.ts';
import type { Folder } from '../../store/store.ts';
import { uidsIn } from '../../store/uid-set.ts';
import { numbersOf } from '../imap/restored-view.ts';
import type { SessionStream } from '../service.ts';
import type { SessionBook, Superseded } from '../session-book.ts';
import { Maildrop } from './maildrop.ts';
import type { Pop3Output } from './pop3-output.ts';
import { encodePop3State, type Pop3State } from './pop3-state.ts';

/** How long a command that runs may keep its session from being handed over. */
const handOverMs = 1000;

/** Where a session is taken up, and with what. */
export interface Pop3Restoring {
  readonly state: Pop3State;
  readonly taking: Taking;
}

/**
 * The maildrop of a state.
 * @returns `undefined` when messages have gone whose sizes the client may still ask for: all but those it had marked.
 */
export function restoreMaildrop(folder: Folder, state: Pop3State): Maildrop | undefined {
  if (folder.mailboxId !== state.mailboxId || folder.uidValidity !== state.uidValidity) return undefined;
  const uids = numbersOf(folder, { ...state, untold: '' });
  if (uids === undefined) return undefined;
  const marked = new Set(uidsIn(state.deleted));
  for (const [index, uid] of uids.entries())
    if (!marked.has(index + 1) && folder.flagsOf(uid) === undefined) return undefined;
  return Maildrop.restored(folder, uids, state);
}

export class Pop3HandOver implements Superseded {
  readonly #stream: SessionStream;
  readonly #folder: Folder;
  readonly #drop: Maildrop;
  readonly #place: Pick<Pop3State, 'modseq' | 'uidLimit' | 'count'>;
  readonly #account: Account;
  readonly #book: SessionBook;
  readonly #taking: Taking | undefined;
  #ticket: SessionTicket;
  #toldVersion: number;
  /** Bytes of this stream up to the end of the last command. */
  consumed = 0;
  /** A command runs. */
  busy = false;
  #output: Pop3Output | undefined;
  #deadline: NodeJS.Timeout | undefined;
  readonly #ended = Promise.withResolvers<void>();

  constructor(
    stream: SessionStream,
    account: Account,
    folder: Folder,
    drop: Maildrop,
    book: SessionBook,
    ticket: SessionTicket,
    restoring: Pop3Restoring | undefined,
  ) {
    this.#stream = stream;
    this.#account = account;
    this.#folder = folder;
    this.#drop = drop;
    this.#book = book;
    this.#ticket = ticket;
    this.#taking = restoring?.taking;
    this.#place = restoring?.state ?? {
      modseq: folder.highestModseq,
      uidLimit: drop.last === 0 ? 1 : drop.uid(drop.last) + 1,
      count: drop.last,
    };
    this.#toldVersion = drop.version;
    book.enter(ticket.session, this);
  }

  /** For `leave`. */
  attach(output: Pop3Output): void {
    this.#output = output;
  }

  state(): Buffer {
    return encodePop3State({
      ticket: this.#ticket,
      mailboxId: this.#folder.mailboxId,
      uidValidity: this.#folder.uidValidity,
      modseq: this.#place.modseq,
      uidLimit: this.#place.uidLimit,
      count: this.#place.count,
      ...this.#drop.marks,
    });
  }

  /** The state when the gateway has another one. */
  readonly stateNow = (): Buffer | undefined => {
    if (this.#book.isDue(this.#ticket))
      this.#ticket = this.#book.issue(this.#account.address, this.#ticket.session);
    else if (this.#toldVersion === this.#drop.version) return undefined;
    this.#toldVersion = this.#drop.version;
    return this.state();
  };

  /** Names the command that runs. */
  get operation(): string {
    const offset = (this.#taking?.offset ?? 0) + this.consumed;
    return this.#ticket.session + offset.toString(16).padStart(12, '0');
  }

  /** Has an earlier owner done what the command that runs changes? */
  get isDone(): boolean {
    const replayed = this.consumed < (this.#taking?.replayedBytes ?? 0);
    return replayed && this.#account.store.operation(this.operation) !== undefined;
  }

  /** The account goes to another owner: at once, or when the command that runs is over. */
  leave(): void {
    if (this.leaving) return;
    this.#deadline = setTimeout(() => this.#stream.destroy(), handOverMs).unref();
    if (!this.busy) this.moveOn();
  }

  get leaving(): boolean {
    return this.#deadline !== undefined;
  }

  moveOn(): void {
    this.#output?.end('moved');
    this.#stream.end();
  }

  supersede(): Promise<void> {
    this.#stream.destroy();
    return this.#ended.promise;
  }

  end(): void {
    clearTimeout(this.#deadline);
    this.#book.leave(this.#ticket.session, this);
    this.#ended.resolve();
  }
}
