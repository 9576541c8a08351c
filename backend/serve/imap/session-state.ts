/**
 * What a checkpoint says of an IMAP session: all that a new owner of the account
 * needs to go on, and that it cannot read from the account itself. A selected
 * mailbox is named, not copied: its sequence numbers are a function of the
 * messages and of where the session stands in the folder's history.
 */
import { Fault } from '../../../base/fault.ts';
import type { SessionTicket } from '../../../cluster-protocol/session-ticket.ts';

/** Where a view stands in the history of its folder. */
export interface ViewPlace {
  /** Every expunge up to this modification sequence has been told. */
  readonly modseq: number;
  /** Messages from this UID on have not been announced. */
  readonly uidLimit: number;
  /** Messages in the view. */
  readonly count: number;
  /** UIDs of the view that are gone at `modseq` without having been told; a set as IMAP writes it. */
  readonly untold: string;
  /** Flags as of this modification sequence have been told. */
  readonly flagsModseq: number;
  /** Keywords the client was told of. */
  readonly keywords: number;
}

export interface SelectedState extends ViewPlace {
  /** Unicode; where it was. It may have another name now. */
  readonly name: string;
  readonly mailboxId: string;
  readonly uidValidity: number;
  readonly readOnly: boolean;
}

export interface ImapState {
  readonly ticket: SessionTicket;
  readonly utf8: boolean;
  readonly rev2: boolean;
  readonly condstore: boolean;
  readonly qresync: boolean;
  /** Between client and gateway (RFC 4978). */
  readonly compressed: boolean;
  readonly selected: SelectedState | undefined;
  /** `$`: a UID set. */
  readonly saved: string;
  /** Tag of the IDLE that runs. */
  readonly idleTag: string | undefined;
  readonly errors: number;
}

/** The form of the state; a backend that does not know it refuses to resume. */
const form = 1;

export function encodeState(state: ImapState): Buffer {
  const { ticket, selected } = state;
  return Buffer.from(
    JSON.stringify([
      form,
      ticket.session,
      ticket.untilMs,
      ticket.mac,
      (state.utf8 ? 1 : 0) |
        (state.rev2 ? 2 : 0) |
        (state.condstore ? 4 : 0) |
        (state.qresync ? 8 : 0) |
        (state.compressed ? 16 : 0),
      state.saved,
      state.idleTag ?? 0,
      state.errors,
      ...(selected === undefined
        ? []
        : [
            selected.name,
            selected.mailboxId,
            selected.uidValidity,
            selected.readOnly ? 1 : 0,
            selected.modseq,
            selected.uidLimit,
            selected.count,
            selected.untold,
            selected.flagsModseq,
            selected.keywords,
          ]),
    ]),
  );
}

/** Of a session that has just logged in. */
export function firstState(ticket: SessionTicket): ImapState {
  return {
    ticket,
    utf8: false,
    rev2: false,
    condstore: false,
    qresync: false,
    compressed: false,
    selected: undefined,
    saved: '',
    idleTag: undefined,
    errors: 0,
  };
}

/** @throws {Fault} `peer-protocol` */
export function decodeState(bytes: Buffer): ImapState {
  let read: Reader;
  try {
    read = new Reader(JSON.parse(bytes.toString()));
  } catch (cause) {
    throw new Fault('peer-protocol', 'the state of a session is no JSON', { cause });
  }
  if (read.number() !== form) throw new Fault('peer-protocol', 'the state of a session has an unknown form');
  const ticket = { session: read.text(), untilMs: read.number(), mac: read.text() };
  const enabled = read.number();
  const saved = read.text();
  const idleTag = read.textOr0();
  const errors = read.number();
  return {
    ticket,
    utf8: (enabled & 1) !== 0,
    rev2: (enabled & 2) !== 0,
    condstore: (enabled & 4) !== 0,
    qresync: (enabled & 8) !== 0,
    compressed: (enabled & 16) !== 0,
    saved,
    idleTag,
    errors,
    selected: read.atEnd
      ? undefined
      : {
          name: read.text(),
          mailboxId: read.text(),
          uidValidity: read.number(),
          readOnly: read.number() === 1,
          modseq: read.number(),
          uidLimit: read.number(),
          count: read.number(),
          untold: read.text(),
          flagsModseq: read.number(),
          keywords: read.number(),
        },
  };
}

class Reader {
  readonly #values: readonly unknown[];
  #at = 0;

  constructor(values: unknown) {
    this.#values = Array.isArray(values) ? values : [];
  }

  get atEnd(): boolean {
    return this.#at === this.#values.length;
  }

  number(): number {
    const value = this.#values[this.#at++];
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw malformed();
    return value;
  }

  text(): string {
    const value = this.#values[this.#at++];
    if (typeof value !== 'string') throw malformed();
    return value;
  }

  textOr0(): string | undefined {
    return this.#values[this.#at] === 0 ? void this.#at++ : this.text();
  }
}

function malformed(): Fault {
  return new Fault('peer-protocol', 'the state of a session is malformed');
}
