/**
 * When the state of a session is different from what its gateway holds, and what
 * it is then. Asked after every command: most change nothing, and comparing a
 * few fields must be all they cost.
 */
import { stateBytesMax } from '../../../cluster-protocol/session-marks.ts';
import type { SessionTicket } from '../../../cluster-protocol/session-ticket.ts';
import { formatUidSet } from '../../store/uid-set.ts';
import type { SessionBook } from '../session-book.ts';
import type { ClientState } from './client-state.ts';
import { lowerBound, type MailboxView } from './mailbox-view.ts';
import { encodeState, type SelectedState } from './session-state.ts';

/** Flag changes that a resumed session would tell again, before the checkpoint moves on for them alone. */
const flagLagMax = 64;
/** UIDs that are gone and were not told, in a last checkpoint. Journals know of more. */
const untoldMax = 2000;

/** What a checkpoint needs of a session. */
export interface Checkpointed extends ClientState {
  readonly idleTag: string | undefined;
  readonly errorCount: number;
}

const notResumable = Buffer.alloc(0);

export class Checkpoints {
  readonly #session: Checkpointed;
  readonly #book: SessionBook;
  #ticket: SessionTicket;
  /** The gateway has it from the opening: `firstState`, or what it resumed from. */
  #told = true;
  #enabled = 0;
  #view: MailboxView | undefined;
  #modseq = 0;
  #uidLimit = 0;
  #flagsModseq = 0;
  #keywords = 0;
  #saved: readonly number[] | undefined;
  #idleTag: string | undefined;

  constructor(session: Checkpointed, book: SessionBook, ticket: SessionTicket) {
    this.#session = session;
    this.#book = book;
    this.#ticket = ticket;
    this.#note();
  }

  /** One per login, the same at every owner. */
  get sessionId(): string {
    return this.#ticket.session;
  }

  /** The state when the gateway has another one, else `undefined`. */
  next(): Buffer | undefined {
    if (this.#told && !this.#changed()) return undefined;
    return this.#encode();
  }

  /** The state at the end of a session that is handed over: as exact as the folder allows. */
  last(): Buffer {
    const { view } = this.#session;
    const untold = view && untoldOf(view);
    if (view !== undefined && untold !== undefined) {
      // What went is named, so that the history from here on is enough.
      view.untold = untold;
      view.modseq = view.folder.highestModseq;
    }
    return this.#encode();
  }

  /** Takes a new ticket when the old one has lasted long. @returns is there a new one? */
  renewTicket(): boolean {
    if (!this.#book.isDue(this.#ticket)) return false;
    this.#ticket = this.#book.issue(this.#session.account.address, this.#ticket.session);
    this.#told = false;
    return true;
  }

  #changed(): boolean {
    const session = this.#session;
    const { view } = session;
    if (view !== this.#view || session.idleTag !== this.#idleTag || session.saved !== this.#saved)
      return true;
    if (enabledOf(session) !== this.#enabled) return true;
    if (view === undefined) return false;
    return (
      view.modseq !== this.#modseq ||
      view.uidLimit !== this.#uidLimit ||
      view.keywordCount !== this.#keywords ||
      view.flagsModseq - this.#flagsModseq > flagLagMax
    );
  }

  #encode(): Buffer {
    this.#note();
    const session = this.#session;
    const { view } = session;
    const state = encodeState({
      ticket: this.#ticket,
      utf8: session.utf8,
      rev2: session.rev2,
      condstore: session.condstore,
      qresync: session.qresync,
      compressed: session.compression === 'active',
      selected: view && selectedOf(view),
      saved: formatUidSet(session.saved),
      idleTag: session.idleTag,
      errors: session.errorCount,
    });
    return state.length > stateBytesMax ? notResumable : state;
  }

  /** Remembers what was told. */
  #note(): void {
    const session = this.#session;
    const { view } = session;
    this.#told = true;
    this.#enabled = enabledOf(session);
    this.#view = view;
    this.#saved = session.saved;
    this.#idleTag = session.idleTag;
    if (view !== undefined) {
      this.#modseq = view.modseq;
      this.#uidLimit = view.uidLimit;
      this.#flagsModseq = view.flagsModseq;
      this.#keywords = view.keywordCount;
    }
  }
}

function enabledOf({ utf8, rev2, condstore, qresync, compression }: ClientState): number {
  const compressed = compression === 'active';
  return (utf8 ? 1 : 0) | (rev2 ? 2 : 0) | (condstore ? 4 : 0) | (qresync ? 8 : 0) | (compressed ? 16 : 0);
}

function selectedOf(view: MailboxView): SelectedState {
  const { folder } = view;
  return {
    name: folder.name,
    mailboxId: folder.mailboxId,
    uidValidity: folder.uidValidity,
    readOnly: view.readOnly,
    modseq: view.modseq,
    uidLimit: view.uidLimit,
    count: view.count,
    untold: view.untold,
    flagsModseq: view.flagsModseq,
    keywords: view.keywordCount,
  };
}

/** UIDs of the view that the folder has no more; `undefined`: too many to name. */
function untoldOf(view: MailboxView): string | undefined {
  const now = view.folder.uids();
  const { uids } = view;
  const gone: number[] = [];
  if (lowerBound(now, view.uidLimit) === uids.length) return '';
  let there = 0;
  for (const uid of uids) {
    while (there < now.length && now[there]! < uid) there++;
    if (now[there] === uid) continue;
    gone.push(uid);
    if (gone.length > untoldMax) return undefined;
  }
  return formatUidSet(gone);
}
