/** What a client has enabled and selected, and how it is told what changed in there. */
import { Fault } from '../../../base/fault.ts';
import type { Log } from '../../../base/log.ts';
import { decodeMailboxName, encodeMailboxName } from '../../../mailwire/imap-mailbox-name.ts';
import { imapAstring } from '../../../mailwire/imap-reply.ts';
import type { Account } from '../../accounts/accounts.ts';
import type { OperationId, OperationResult } from '../../store/operations.ts';
import type { Folder } from '../../store/store.ts';
import { rangesOf } from '../../store/uid-set.ts';
import { allSystemFlags } from './flags.ts';
import type { HandOver } from './hand-over.ts';
import { MailboxView } from './mailbox-view.ts';
import { ReplyWriter } from './reply-writer.ts';
import type { ImapSessionOptions, RestoredSession } from './session-options.ts';

export abstract class ClientState {
  readonly account: Account;
  readonly writer: ReplyWriter;
  readonly log: Log;
  /** IMAP4rev2 or UTF8=ACCEPT: mailbox names and quoted strings are UTF-8, else names are modified UTF-7. */
  utf8 = false;
  /** RFC 9051: no RECENT and UNSEEN, ESEARCH always. */
  rev2 = false;
  /** RFC 7162: FETCH answers tell modification sequences. */
  condstore = false;
  /** RFC 7162: VANISHED instead of EXPUNGE. */
  qresync = false;
  /** RFC 4978: the gateway compresses what goes to the client, or could. */
  compression: 'none' | 'possible' | 'active' = 'none';
  /** The FETCH that runs met a transfer encoding nobody knows. */
  unknownEncoding = false;
  /** What is selected. */
  view: MailboxView | undefined;
  /** UIDs of the last SEARCH with SAVE: `$`. */
  saved: readonly number[] = [];

  /** The session can outlive this backend. */
  protected handOver: HandOver | undefined;

  constructor(options: ImapSessionOptions) {
    this.account = options.account;
    this.log = options.log;
    this.writer = new ReplyWriter(options.transport, options.resumable !== undefined);
    if (options.canCompress && options.resumable !== undefined) this.compression = 'possible';
    if (options.restored !== undefined) this.#restore(options.restored);
  }

  /** Names the command that runs, for the account's journal; `undefined`: nobody could come back with it. */
  get operation(): OperationId | undefined {
    return this.handOver?.operation;
  }

  /** What an earlier owner has done of the command that runs, before its answer was lost. */
  done(): OperationResult | undefined {
    return this.handOver?.done();
  }

  /** The client has lines of an answer to the command that runs, from an earlier owner. */
  get answeredInPart(): boolean {
    return this.handOver?.answeredInPart ?? false;
  }

  /** Is a continuation request to be sent? Not when the client had it before its session moved. */
  mayAskForMore(): boolean {
    return this.handOver?.mayAskForMore() ?? true;
  }

  /** Messages were appended under these keys; the client is about to be told. */
  appended(keys: readonly string[]): void {
    this.handOver?.appended(keys);
  }

  /** Something changed in what is selected. */
  protected abstract changed(): void;

  /** An answer line, without its CRLF; one char per byte. */
  untagged(line: string): void {
    this.writer.text(`${line}\r\n`);
  }

  /** A mailbox name of the client. @throws {Fault} `bad-name` */
  nameFrom(latin1: string): string {
    return decodeMailboxName(latin1, this.utf8);
  }

  /** A mailbox name as it stands in an answer. */
  nameFor(name: string): string {
    return imapAstring(encodeMailboxName(name, this.utf8), this.utf8);
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
    this.view = new MailboxView(folder, readOnly, () => this.changed());
    return this.view;
  }

  #restore({ state, selected }: RestoredSession): void {
    this.utf8 = state.utf8;
    this.rev2 = state.rev2;
    this.condstore = state.condstore;
    this.qresync = state.qresync;
    if (state.compressed) this.compression = 'active';
    if (selected === undefined) return;
    const { folder, readOnly, view } = selected;
    this.view = new MailboxView(folder, readOnly, () => this.changed(), view);
    const saved: number[] = [];
    for (const [first, last] of rangesOf(state.saved))
      for (let uid = first; uid <= last && saved.length < view.uids.length; uid++) saved.push(uid);
    this.saved = saved;
  }

  unselect(): void {
    this.view?.close();
    this.view = undefined;
    this.saved = [];
  }

  /** `FETCH (UID u FLAGS (…))` of a message whose flags changed. */
  flagsAnswer(sequence: number, uid: number): string | undefined {
    const { view } = this;
    const facts = view?.folder.facts(uid);
    if (view === undefined || facts === undefined) return undefined;
    const modseq = this.condstore ? ` MODSEQ (${facts.modseq})` : '';
    return `* ${sequence} FETCH (UID ${uid}${modseq} FLAGS (${view.flagsWords(facts, this.rev2)}))`;
  }

  /** Tells what changed in the selected folder. @param expunges  Sequence numbers may change here. */
  sync(expunges: boolean): void {
    const view = this.view;
    if (view === undefined || view.gone) return;
    if (view.folder.keywords.length !== view.keywordCount) this.announceFlags(view);
    view.sync(expunges, this);
  }

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

  /** The client wants modification sequences from now on (RFC 7162 3.1). */
  enableCondstore(): void {
    if (this.condstore) return;
    this.condstore = true;
    if (this.view !== undefined) {
      this.untagged(`* OK [HIGHESTMODSEQ ${this.view.folder.highestModseq}] Highest`);
    }
  }
}
