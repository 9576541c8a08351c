/**
 * The account store as everything above it sees it (DESIGN section 4). One
 * `Store` object exists per open account, in the one process that owns the
 * account; all sessions share it. Promises of changing calls settle when the
 * change is on stable storage and the lease was still good afterwards.
 */
import type { Readable } from 'node:stream';
import type { OperationId, OperationResult } from './operations.ts';
import type { TextIndex } from './search/text-index.ts';

/** System flags as bits, so that a folder of a million messages keeps them in one typed array. */
export const flagBit = { seen: 1, answered: 2, flagged: 4, deleted: 8, draft: 16 } as const;

/** RFC 6154, RFC 8457. Without the backslash, lower case. */
export type SpecialUse = 'all' | 'archive' | 'drafts' | 'flagged' | 'junk' | 'sent' | 'trash' | 'important';

/** How a folder's messages are kept on disk. */
export type FolderFormat = 'maildir' | 'mbox';

export interface FolderInfo {
  /** Unicode (NFC), levels separated by `/`; `INBOX` for the inbox. */
  readonly name: string;
  readonly specialUse: SpecialUse | undefined;
  readonly subscribed: boolean;
  /** false: a level that only has children (`\Noselect`). */
  readonly selectable: boolean;
  /** Absent: it has no messages, or the store has no files. */
  readonly format?: FolderFormat;
}

/** What is known of a message without opening its file. */
export interface MessageFacts {
  readonly uid: number;
  /** Bytes as IMAP and POP3 count them: with CRLF line ends. */
  readonly size: number;
  /** Arrival, ms since 1970. */
  readonly internalDateMs: number;
  /** `flagBit`s. */
  readonly flags: number;
  /** Keywords without order, as first spelled; shared frozen array when empty. */
  readonly keywords: readonly string[];
  readonly modseq: number;
  /** Stable for the life of the message, kept by COPY and MOVE inside the account (RFC 8474 EMAILID). */
  readonly emailId: string;
}

/** An open message: bytes with CRLF line ends, whatever the file holds. */
export interface OpenMessage {
  readonly size: number;
  /** All of it, when it is in memory already. Shared: nobody may change these bytes. */
  readonly whole?: Buffer;
  /** Bytes `start` (inclusive) to `end` (exclusive, clamped to size). For small parts. */
  read(start: number, end: number): Promise<Buffer>;
  stream(start: number, end: number): Readable;
  close(): Promise<void>;
}

export type FlagChange = {
  readonly how: 'set' | 'add' | 'remove';
  readonly flags: number;
  readonly keywords: readonly string[];
  /** Messages with a greater modseq are left as they are (RFC 7162 UNCHANGEDSINCE). */
  readonly unchangedSince?: number;
};

export interface AppendFacts {
  readonly flags: number;
  readonly keywords: readonly string[];
  readonly internalDateMs: number;
  /** Deliveries only: a second append with the same key is answered with the first one's UID. */
  readonly deliveryKey?: string;
}

/** One message being written: bytes go to a temporary file as they come, nothing is visible until `commit`. */
export interface Incoming {
  /** Resolves when the next chunk may come (back-pressure). */
  write(chunk: Buffer): Promise<void>;
  /** Makes it durable and visible. `already`: the delivery key was known, nothing was added. */
  commit(): Promise<{ uid: number; already: boolean }>;
  /** Leaves nothing behind. */
  abort(): Promise<void>;
}

/** A change of a folder, told to every session that has it selected, in order, after it is durable. */
export type FolderEvent =
  | { readonly kind: 'added'; readonly uids: readonly number[] }
  | { readonly kind: 'flags'; readonly uids: readonly number[]; readonly modseq: number }
  | { readonly kind: 'expunged'; readonly uids: readonly number[]; readonly modseq: number }
  /** The folder was deleted, or the account went to another owner. */
  | { readonly kind: 'gone' };

export interface Folder {
  readonly name: string;
  /** RFC 8474 MAILBOXID. Survives RENAME. */
  readonly mailboxId: string;
  readonly uidValidity: number;
  readonly uidNext: number;
  readonly highestModseq: number;
  /** UIDs from here on were given since this store opened the folder; absent where that is not known. */
  readonly uidAtOpening?: number;
  /** Messages that exist now, expunged ones left out. */
  readonly count: number;
  readonly unseenCount: number;
  /** Sum of sizes, bytes. */
  readonly sizeBytes: number;
  /** Keywords in use or used before in this folder. */
  readonly keywords: readonly string[];
  /** UIDs that exist, ascending. The caller may keep it: a change makes a new array or only adds behind its length. */
  uids(): Uint32Array;
  facts(uid: number): MessageFacts | undefined;
  /** Flag bits alone, for scans. `undefined`: no such message. */
  flagsOf(uid: number): number | undefined;
  /** When the message came into this folder, ms since 1970 (RFC 8514). `undefined`: no such message. */
  savedDateMs(uid: number): number | undefined;
  /** Modification sequence alone, for scans. `undefined`: no such message. */
  modseqOf(uid: number): number | undefined;
  /**
   * UIDs expunged after a modseq as ranges [first, last], ascending; may name some that went before it.
   * `undefined`: not known that far back, every UID below `uidNext` that does not exist may be one.
   */
  expungedSince(modseq: number): readonly (readonly [number, number])[] | undefined;
  /**
   * Exactly the UIDs expunged through this store after a modseq, as ranges in any order, whatever other programs may
   * have removed besides. `undefined`: not known one by one any more.
   */
  expungesNoted(modseq: number): readonly (readonly [number, number])[] | undefined;
  /** @throws {Fault} `gone` when it was expunged. */
  open(uid: number): Promise<OpenMessage>;
  /** The message's bytes when they are in memory, without waiting. Shared: nobody may change them. */
  held?(uid: number): Buffer | undefined;
  append(facts: AppendFacts, sizeHint: number | undefined): Promise<Incoming>;
  /** Changes flags of those that exist; resolves when durable. Returns the uids whose flags really changed. */
  changeFlags(
    uids: readonly number[],
    change: FlagChange,
    operation?: OperationId,
  ): Promise<readonly number[]>;
  /**
   * Removes those that exist, for good. Returns the uids removed.
   * @param markedOnly  Only those that are marked \Deleted when it is their turn: a mark that another session took
   *   away, and was told so, counts no more.
   */
  expunge(uids: readonly number[], markedOnly?: boolean, operation?: OperationId): Promise<readonly number[]>;
  /** All or none. Pairs [source uid, new uid] in order. */
  copyTo(
    target: Folder,
    uids: readonly number[],
    operation?: OperationId,
  ): Promise<readonly (readonly [number, number])[]>;
  moveTo(
    target: Folder,
    uids: readonly number[],
    operation?: OperationId,
  ): Promise<readonly (readonly [number, number])[]>;
  /** Picks up what other programs put into the directory since the last look. Cheap when nothing changed. */
  refresh(): Promise<void>;
  /** Ends with the returned function. Events come after the call that caused them has settled its own state. */
  watch(listener: (event: FolderEvent) => void): () => void;
}

export interface Store {
  /** Sorted by name, INBOX first. */
  listFolders(): readonly FolderInfo[];
  /** Opens (and indexes on first use) a folder. @throws {Fault} `no-such-folder`, `storage-failed` */
  folder(name: string): Promise<Folder>;
  /** Creates parents as needed. @throws {Fault} `already-exists`, `bad-name`, `limit-reached` */
  createFolder(name: string, specialUse?: SpecialUse, operation?: OperationId): Promise<Folder>;
  /** @throws {Fault} `no-such-folder`, `not-allowed` (INBOX) */
  deleteFolder(name: string, operation?: OperationId): Promise<void>;
  /** Moves children along; INBOX: moves its messages into the new folder (RFC 9051 6.3.6). */
  renameFolder(from: string, to: string, operation?: OperationId): Promise<void>;
  /**
   * What a command has done that was given this name with its change; `undefined`: nothing, or it is long ago. A
   * change with the name of one that was made is made again: whoever may be repeating itself asks first.
   */
  operation(id: OperationId): OperationResult | undefined;
  /**
   * Keeps a folder's messages in the other format from now on; everything a client knows stays. Sessions that have it
   * open are told that it is gone.
   */
  convertFolder?(name: string, to: FolderFormat): Promise<void>;
  setSubscribed(name: string, subscribed: boolean): Promise<void>;
  /** Names subscribed to, whether there is such a folder or not (RFC 9051 6.3.7: deleting one does not unsubscribe). */
  readonly subscribed: ReadonlySet<string>;
  /** The sender has seen the 250: deliveries with this key need not be remembered any longer. */
  settle(deliveryKey: string): Promise<void>;
  readonly usage: { readonly bytes: number; readonly messages: number };
  /** Names the messages that may hold a text; `undefined`: this store has no such index. */
  readonly textIndex?: TextIndex | undefined;
  readonly limits: Pick<StoreLimits, 'messageBytesMax' | 'quotaBytes' | 'quotaMessages'>;
  /** From the next change on. 0: no limit. What is over it already stays. */
  setQuota(quotaBytes: number, quotaMessages: number): void;
  /** Told when a folder appears, goes or changes its place or subscription. */
  watchFolders(listener: () => void): () => void;
  /** Flushes what is in the background, ends watches with `gone`, closes files. */
  close(): Promise<void>;
}

/** What gives the store the right to act: checked before every change and again after it is durable. */
export interface Guard {
  readonly epoch: number;
  /** @throws {Fault} `lease-lost` or `not-owner`: nothing may be read, written or answered any more. */
  assert(): void;
}

export interface StoreLimits {
  readonly messageBytesMax: number;
  readonly foldersMax: number;
  readonly folderNameBytesMax: number;
  readonly keywordsPerFolderMax: number;
  /** 0: none. */
  readonly quotaBytes: number;
  readonly quotaMessages: number;
}
