/** An account store in memory: the model the protocol tests run against, and what the real one has to behave like. */
import { Readable } from 'node:stream';
import type {
  AppendFacts,
  FlagChange,
  Folder,
  FolderEvent,
  FolderInfo,
  Incoming,
  MessageFacts,
  OpenMessage,
  SpecialUse,
  Store,
} from '../../backend/store/store.ts';
import { Fault } from '../../base/fault.ts';

interface Message {
  facts: MessageFacts;
  bytes: Buffer;
  savedMs: number;
}

export interface MemoryLimits {
  readonly messageBytesMax: number;
  readonly quotaBytes: number;
  readonly quotaMessages: number;
}

let lastId = 0;

export class MemoryFolder implements Folder {
  name: string;
  readonly mailboxId = `F${++lastId}`;
  readonly uidValidity = 1_700_000_000 + lastId;
  uidNext = 1;
  highestModseq = 1;
  subscribed = false;
  specialUse: SpecialUse | undefined;
  selectable = true;
  /** Messages being written that were neither committed nor aborted. */
  incomingCount = 0;
  /** Messages open now. */
  openCount = 0;
  readonly #store: MemoryStore;
  readonly #messages = new Map<number, Message>();
  readonly #listeners = new Set<(event: FolderEvent) => void>();
  readonly #keywords: string[] = [];
  readonly #expunged: { uid: number; modseq: number }[] = [];
  /** Does not know what was expunged. */
  forgetful = false;

  constructor(store: MemoryStore, name: string) {
    this.#store = store;
    this.name = name;
  }

  get count(): number {
    return this.#messages.size;
  }
  get unseenCount(): number {
    return [...this.#messages.values()].filter(({ facts }) => (facts.flags & 1) === 0).length;
  }
  get sizeBytes(): number {
    return [...this.#messages.values()].reduce((sum, { facts }) => sum + facts.size, 0);
  }
  get keywords(): readonly string[] {
    return this.#keywords;
  }
  get watcherCount(): number {
    return this.#listeners.size;
  }

  uids(): Uint32Array {
    return Uint32Array.from(this.#messages.keys());
  }
  facts(uid: number): MessageFacts | undefined {
    return this.#messages.get(uid)?.facts;
  }
  flagsOf(uid: number): number | undefined {
    return this.#messages.get(uid)?.facts.flags;
  }

  savedDateMs(uid: number): number | undefined {
    return this.#messages.get(uid)?.savedMs;
  }
  modseqOf(uid: number): number | undefined {
    return this.#messages.get(uid)?.facts.modseq;
  }
  expungesNoted(modseq: number): readonly (readonly [number, number])[] | undefined {
    return this.expungedSince(modseq);
  }

  expungedSince(modseq: number): readonly (readonly [number, number])[] | undefined {
    if (this.forgetful) return undefined;
    return this.#expunged
      .filter((one) => one.modseq > modseq)
      .map(({ uid }) => [uid, uid] as const)
      .sort((a, b) => a[0] - b[0]);
  }

  async open(uid: number): Promise<OpenMessage> {
    const message = this.#messages.get(uid);
    if (message === undefined) throw new Fault('gone', 'message is gone');
    const { bytes } = message;
    this.openCount++;
    return {
      size: bytes.length,
      read: async (start, end) => bytes.subarray(start, Math.min(end, bytes.length)),
      stream: (start, end) => Readable.from([bytes.subarray(start, end)]),
      close: async () => {
        this.openCount--;
      },
    };
  }

  async append(facts: AppendFacts, sizeHint: number | undefined): Promise<Incoming> {
    const { messageBytesMax, quotaBytes } = this.#store.limits;
    if ((sizeHint ?? 0) > messageBytesMax) throw new Fault('message-too-big', 'too big');
    if (quotaBytes > 0 && this.#store.usage.bytes + (sizeHint ?? 0) > quotaBytes) {
      throw new Fault('over-quota', 'quota');
    }
    const chunks: Buffer[] = [];
    this.incomingCount++;
    return {
      write: async (chunk) => {
        chunks.push(Buffer.from(chunk));
      },
      commit: async () => {
        this.incomingCount--;
        return { uid: this.add(Buffer.concat(chunks), facts), already: false };
      },
      abort: async () => {
        this.incomingCount--;
      },
    };
  }

  /** Adds a message at once. */
  add(bytes: Buffer | string, facts: Partial<AppendFacts> = {}): number {
    const content = Buffer.from(bytes as string);
    const uid = this.uidNext++;
    const keywords = this.#known(facts.keywords ?? []);
    this.#messages.set(uid, {
      bytes: content,
      savedMs: Date.now(),
      facts: {
        uid,
        size: content.length,
        internalDateMs: facts.internalDateMs ?? Date.UTC(2024, 1, 3, 4, 5, 6),
        flags: facts.flags ?? 0,
        keywords,
        modseq: ++this.highestModseq,
        emailId: `M${++lastId}`,
      },
    });
    this.#emit({ kind: 'added', uids: [uid] });
    return uid;
  }

  async changeFlags(uids: readonly number[], change: FlagChange): Promise<readonly number[]> {
    const modseq = this.highestModseq + 1;
    const wanted = this.#known(change.keywords);
    const changed: number[] = [];
    for (const uid of uids) {
      const message = this.#messages.get(uid);
      if (message === undefined) continue;
      if (message.facts.modseq > (change.unchangedSince ?? Number.POSITIVE_INFINITY)) continue;
      const { flags, keywords } = message.facts;
      let next = change.flags;
      let words: readonly string[] = wanted;
      if (change.how === 'add') {
        next = flags | change.flags;
        words = [...keywords, ...wanted.filter((word) => !keywords.includes(word))];
      } else if (change.how === 'remove') {
        next = flags & ~change.flags;
        words = keywords.filter((word) => !wanted.includes(word));
      }
      if (next === flags && words.join() === keywords.join()) continue;
      message.facts = { ...message.facts, flags: next, keywords: words, modseq };
      changed.push(uid);
    }
    if (changed.length > 0) {
      this.highestModseq = modseq;
      this.#emit({ kind: 'flags', uids: changed, modseq });
    }
    return changed;
  }

  async expunge(uids: readonly number[]): Promise<readonly number[]> {
    const removed = uids.filter((uid) => this.#messages.delete(uid));
    if (removed.length > 0) {
      const modseq = ++this.highestModseq;
      for (const uid of removed) this.#expunged.push({ uid, modseq });
      this.#emit({ kind: 'expunged', uids: removed, modseq });
    }
    return removed;
  }

  async copyTo(target: Folder, uids: readonly number[]): Promise<readonly (readonly [number, number])[]> {
    const pairs: [number, number][] = [];
    for (const uid of uids) {
      const message = this.#messages.get(uid);
      if (message === undefined) continue;
      pairs.push([uid, (target as MemoryFolder).add(message.bytes, message.facts)]);
    }
    return pairs;
  }

  async moveTo(target: Folder, uids: readonly number[]): Promise<readonly (readonly [number, number])[]> {
    const pairs = await this.copyTo(target, uids);
    await this.expunge(pairs.map(([uid]) => uid));
    return pairs;
  }

  async refresh(): Promise<void> {}

  watch(listener: (event: FolderEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  gone(): void {
    this.#emit({ kind: 'gone' });
    this.#listeners.clear();
  }

  #emit(event: FolderEvent): void {
    for (const listener of [...this.#listeners]) listener(event);
  }

  /** Keywords as first spelled. */
  #known(keywords: readonly string[]): string[] {
    return keywords.map((keyword) => {
      const known = this.#keywords.find((word) => word.toLowerCase() === keyword.toLowerCase());
      if (known !== undefined) return known;
      this.#keywords.push(keyword);
      return keyword;
    });
  }
}

export class MemoryStore implements Store {
  limits: MemoryLimits;
  readonly #folders = new Map<string, MemoryFolder>();
  readonly #subscriptions = new Set<string>(['INBOX']);

  constructor(limits: Partial<MemoryLimits> = {}) {
    this.limits = { messageBytesMax: 50 * 1024 * 1024, quotaBytes: 0, quotaMessages: 0, ...limits };
    this.#folders.set('INBOX', new MemoryFolder(this, 'INBOX'));
  }

  setQuota(quotaBytes: number, quotaMessages: number): void {
    this.limits = { ...this.limits, quotaBytes, quotaMessages };
  }

  get usage(): { bytes: number; messages: number } {
    let bytes = 0;
    let messages = 0;
    for (const folder of this.#folders.values()) {
      bytes += folder.sizeBytes;
      messages += folder.count;
    }
    return { bytes, messages };
  }

  listFolders(): readonly FolderInfo[] {
    const names = new Set<string>();
    for (const name of this.#folders.keys()) {
      const levels = name.split('/');
      for (let count = 1; count <= levels.length; count++) names.add(levels.slice(0, count).join('/'));
    }
    const order = (name: string) => (name === 'INBOX' ? '' : name.replaceAll('/', '\u0000'));
    return [...names]
      .sort((a, b) => (order(a) < order(b) ? -1 : 1))
      .map((name) => ({
        name,
        specialUse: this.#folders.get(name)?.specialUse,
        subscribed: this.#subscriptions.has(name),
        selectable: this.#folders.has(name),
      }));
  }

  async folder(name: string): Promise<MemoryFolder> {
    const folder = this.#folders.get(name);
    if (folder === undefined) throw new Fault('no-such-folder', 'no such folder');
    return folder;
  }

  async createFolder(name: string, specialUse?: SpecialUse): Promise<MemoryFolder> {
    if (this.#folders.has(name)) throw new Fault('already-exists', 'exists');
    const folder = new MemoryFolder(this, name);
    folder.specialUse = specialUse;
    this.#folders.set(name, folder);
    return folder;
  }

  async deleteFolder(name: string): Promise<void> {
    const folder = await this.folder(name);
    this.#folders.delete(name);
    folder.gone();
  }

  async renameFolder(from: string, to: string): Promise<void> {
    if (this.#folders.has(to)) throw new Fault('already-exists', 'exists');
    if (from === 'INBOX') {
      const inbox = await this.folder('INBOX');
      await inbox.moveTo(await this.createFolder(to), [...inbox.uids()]);
      return;
    }
    const moving = [...this.#folders].filter(([name]) => name === from || name.startsWith(`${from}/`));
    if (moving.length === 0) throw new Fault('no-such-folder', 'no such folder');
    for (const [name, folder] of moving) {
      this.#folders.delete(name);
      folder.name = to + name.slice(from.length);
      this.#folders.set(folder.name, folder);
    }
  }

  operation(): undefined {
    return undefined;
  }

  async setSubscribed(name: string, subscribed: boolean): Promise<void> {
    if (subscribed) this.#subscriptions.add(name);
    else this.#subscriptions.delete(name);
  }

  get subscribed(): ReadonlySet<string> {
    return this.#subscriptions;
  }

  async settle(): Promise<void> {}
  watchFolders(): () => void {
    return () => {};
  }
  async close(): Promise<void> {}
}
