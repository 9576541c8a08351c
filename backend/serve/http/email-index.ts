/**
 * Finds an email by its id. The store knows messages by folder and UID; JMAP
 * knows them by an id that stays when they move and is the same in every folder
 * that has a copy. A cache: made on first use, told nothing, checked on each use.
 */
import { createHash } from 'node:crypto';
import { isFault } from '../../../base/fault.ts';
import { type Folder, type FolderInfo, flagBit, type MessageFacts, type Store } from '../../store/store.ts';

export interface Location {
  readonly folder: Folder;
  readonly facts: MessageFacts;
}

interface FolderIndex {
  folder: Folder;
  readonly key: string;
  upToUid: number;
  /** Entries of expunged messages stay until there are too many of them. */
  readonly uids: Map<string, number | number[]>;
}

export interface Mailbox {
  readonly id: string;
  readonly info: FolderInfo;
  /** `undefined`: a level that only has children. */
  readonly folder: Folder | undefined;
}

/** Work between two turns of the event loop. */
const sliceMs = 2;

/** Gives others a turn when the slice is used up. */
export class Slices {
  #endsAtMs = performance.now() + sliceMs;
  #steps = 0;

  /** Call once per step; awaits only now and then. */
  async step(): Promise<void> {
    this.#steps += 1;
    if (this.#steps % 128 !== 0 || performance.now() < this.#endsAtMs) return;
    await new Promise((resolve) => setImmediate(resolve));
    this.#endsAtMs = performance.now() + sliceMs;
  }
}

const indexes = new WeakMap<Store, EmailIndex>();

export class EmailIndex {
  readonly #store: Store;
  #folders = new Map<string, FolderIndex>();
  #mailboxes: readonly Mailbox[] = [];

  private constructor(store: Store) {
    this.#store = store;
  }

  static of(store: Store): EmailIndex {
    const known = indexes.get(store);
    if (known !== undefined) return known;
    const index = new EmailIndex(store);
    indexes.set(store, index);
    return index;
  }

  /** Every mailbox, as of now, INBOX first. */
  async mailboxes(): Promise<readonly Mailbox[]> {
    const found: Mailbox[] = [];
    for (const info of this.#store.listFolders()) {
      let folder: Folder | undefined;
      if (info.selectable) {
        try {
          folder = await this.#store.folder(info.name);
        } catch (error) {
          if (!isFault(error, 'no-such-folder')) throw error; // deleted a moment ago
          continue;
        }
      }
      found.push({ id: folder?.mailboxId ?? levelId(info.name), info, folder });
    }
    this.#mailboxes = found;
    return found;
  }

  /** Brings the index up to date with every folder. Call before `locate`. */
  async update(): Promise<void> {
    const mailboxes = await this.mailboxes();
    const slices = new Slices();
    const kept = new Map<string, FolderIndex>();
    for (const { folder } of mailboxes) {
      if (folder === undefined) continue;
      const key = `${folder.mailboxId} ${folder.uidValidity}`;
      let index = this.#folders.get(key);
      if (index === undefined || index.uids.size > 2 * folder.count + 1000) {
        index = { folder, key, upToUid: 0, uids: new Map() };
      }
      index.folder = folder;
      kept.set(key, index);
      await extend(index, slices);
    }
    this.#folders = kept;
  }

  /** Where an email is: one entry per mailbox; empty when it does not exist. */
  locate(emailId: string): Location[] {
    const found: Location[] = [];
    for (const { folder, uids } of this.#folders.values()) {
      const held = uids.get(emailId);
      if (held === undefined) continue;
      for (const uid of Array.isArray(held) ? held : [held]) {
        const facts = folder.facts(uid);
        if (facts === undefined || facts.emailId !== emailId) continue;
        found.push({ folder, facts });
        break;
      }
    }
    return found;
  }

  /** Changes whenever an email or mailbox does. Of the last `mailboxes()` or `update()`. */
  get state(): string {
    const hash = createHash('sha256');
    for (const { id, info, folder } of this.#mailboxes) {
      hash.update(JSON.stringify([id, info.name, info.subscribed, info.specialUse]));
      if (folder === undefined) continue;
      const { uidValidity, uidNext, highestModseq, count } = folder;
      hash.update(`${uidValidity} ${uidNext} ${highestModseq} ${count};`);
    }
    return hash.digest('hex').slice(0, 24);
  }
}

async function extend(index: FolderIndex, slices: Slices): Promise<void> {
  const { folder } = index;
  const uids = folder.uids();
  // Ascending: the new ones are at the end.
  let from = uids.length;
  while (from > 0 && (uids[from - 1] as number) > index.upToUid) from -= 1;
  for (let at = from; at < uids.length; at += 1) {
    const uid = uids[at] as number;
    const facts = folder.facts(uid);
    if (facts !== undefined) {
      const held = index.uids.get(facts.emailId);
      if (held === undefined) index.uids.set(facts.emailId, uid);
      else if (Array.isArray(held)) held.push(uid);
      else index.uids.set(facts.emailId, [held, uid]);
    }
    index.upToUid = uid;
    await slices.step();
  }
}

/** A level without messages has no id of its own in the store. */
function levelId(name: string): string {
  return `L${createHash('sha256').update(name).digest('hex').slice(0, 24)}`;
}

const systemKeywords: readonly (readonly [bit: number, keyword: string])[] = [
  [flagBit.seen, '$seen'],
  [flagBit.answered, '$answered'],
  [flagBit.flagged, '$flagged'],
  [flagBit.draft, '$draft'],
];

/** RFC 8621 4.1.1. `\Deleted` has no keyword: such a message is still there. */
export function keywordsOf(facts: MessageFacts): Set<string> {
  const keywords = new Set<string>();
  for (const [bit, keyword] of systemKeywords) if ((facts.flags & bit) !== 0) keywords.add(keyword);
  for (const keyword of facts.keywords) keywords.add(keyword.toLowerCase());
  return keywords;
}
