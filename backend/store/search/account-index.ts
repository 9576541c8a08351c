/**
 * The search index of one open account: which folders are indexed how far,
 * and the background work that follows what comes and goes. Every step looks
 * at the lease before it; what it cannot do, a search does without.
 */
import path from 'node:path';
import { Fault, isFault } from '../../../base/fault.ts';
import type { Log } from '../../../base/log.ts';
import type { Folder, FolderEvent } from '../store.ts';
import type { IndexAnswer, IndexTask } from './index-tasks.ts';
import type { IndexThread } from './index-thread.ts';
import { trigramQuery } from './needle.ts';
import type { Candidates, TextIndex } from './text-index.ts';

/** A batch is what one task of the thread takes: a moment's work. */
const batchMessagesMax = 200;
const batchBytesMax = 2 * 1024 * 1024;
/** Larger messages are not indexed but looked at in every search. */
const messageBytesMax = 16 * 1024 * 1024;
/** Changes of a moment are taken together. */
const settleMs = 500;
/** Folders followed at once; the least lately searched is let go. */
const foldersMax = 100;
const dropsMax = 10_000;
const closeMsMax = 5000;

export interface AccountIndexOptions {
  /** The account's directory. */
  readonly directory: string;
  readonly thread: IndexThread;
  readonly log: Log;
  readonly indexBytesMax: number;
  /** @throws {Fault} when the account may not be acted for. */
  check(): void;
}

interface Followed {
  readonly folder: Folder;
  readonly name: string;
  readonly endWatch: () => void;
  readonly drops: number[];
  /** Some of what went was not kept: compare all. */
  compare: boolean;
  through: number;
  working: boolean;
  timer: NodeJS.Timeout | undefined;
}

export class AccountIndex implements TextIndex {
  readonly #options: AccountIndexOptions;
  readonly #directory: string;
  /** By mailbox, the most lately searched last. */
  readonly #folders = new Map<string, Followed>();
  #closed = false;
  #used = false;
  #full = false;

  constructor(options: AccountIndexOptions) {
    this.#options = options;
    this.#directory = path.join(options.directory, 'search');
  }

  async candidates(folder: Folder, needle: string): Promise<Candidates | undefined> {
    const query = trigramQuery(needle);
    if (query === undefined || this.#closed) return undefined;
    const followed = this.#follow(folder);
    try {
      const { through, uids } = await this.#run({
        kind: 'find',
        directory: this.#directory,
        folder: followed.name,
        query,
      });
      followed.through = through;
      this.#schedule(followed, 0);
      return { through, has: (uid) => holds(uids, uid) };
    } catch (error) {
      this.#failed(error, followed);
      return undefined;
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const followed of this.#folders.values()) release(followed);
    this.#folders.clear();
    if (!this.#used) return;
    let whole = true;
    try {
      this.#options.check();
    } catch {
      // Without the right to act nothing is written any more: the next owner builds its own.
      whole = false;
    }
    let timer: NodeJS.Timeout | undefined;
    const closing = this.#options.thread.run({ kind: 'close', directory: this.#directory, whole });
    const deadline = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, closeMsMax);
    });
    await Promise.race([closing.then(ignore, ignore), deadline]);
    clearTimeout(timer);
  }

  #follow(folder: Folder): Followed {
    const key = folder.mailboxId;
    const known = this.#folders.get(key);
    this.#folders.delete(key);
    if (known !== undefined && known.folder === folder) {
      this.#folders.set(key, known);
      return known;
    }
    if (known !== undefined) release(known);
    const [oldest] = this.#folders;
    if (this.#folders.size >= foldersMax && oldest !== undefined) {
      this.#folders.delete(oldest[0]);
      release(oldest[1]);
    }
    const fresh: Followed = {
      folder,
      name: `${folder.mailboxId}.${folder.uidValidity}`,
      endWatch: folder.watch((event) => this.#heard(fresh, event)),
      drops: [],
      compare: true,
      through: 0,
      working: false,
      timer: undefined,
    };
    this.#folders.set(key, fresh);
    return fresh;
  }

  #heard(followed: Followed, event: FolderEvent): void {
    if (event.kind === 'expunged') {
      if (followed.drops.length + event.uids.length > dropsMax) followed.compare = true;
      else followed.drops.push(...event.uids);
    }
    if (event.kind === 'gone') {
      this.#folders.delete(followed.folder.mailboxId);
      release(followed);
      if (this.#closed) return;
      const none = new Uint32Array(0);
      this.#run({ kind: 'keep', directory: this.#directory, folder: followed.name, uids: none }).catch(
        ignore,
      );
    } else if (event.kind !== 'flags') this.#schedule(followed, settleMs);
  }

  #schedule(followed: Followed, ms: number): void {
    if (this.#closed || followed.working || followed.timer !== undefined) return;
    const pending = followed.compare || followed.drops.length > 0 || (this.#behind(followed) && !this.#full);
    if (!pending) return;
    followed.timer = setTimeout(() => {
      followed.timer = undefined;
      void this.#catchUp(followed);
    }, ms).unref();
  }

  #behind({ folder, through }: Followed): boolean {
    return (folder.uids().at(-1) ?? 0) > through;
  }

  async #catchUp(followed: Followed): Promise<void> {
    followed.working = true;
    try {
      while (this.#followed(followed)) {
        if (!(await this.#clear(followed)) && (this.#full || !(await this.#addSome(followed)))) return;
        await new Promise((resolve) => setImmediate(resolve));
      }
    } catch (error) {
      this.#failed(error, followed);
    } finally {
      followed.working = false;
    }
  }

  #followed(followed: Followed): boolean {
    return !this.#closed && this.#folders.get(followed.folder.mailboxId) === followed;
  }

  /** Takes out what went. false: nothing did. */
  async #clear(followed: Followed): Promise<boolean> {
    const common = { directory: this.#directory, folder: followed.name };
    if (followed.compare) {
      followed.compare = false;
      followed.drops.length = 0;
      const { through } = await this.#run({ kind: 'keep', ...common, uids: followed.folder.uids().slice() });
      followed.through = through;
      return true;
    }
    if (followed.drops.length === 0) return false;
    const uids = Uint32Array.from(followed.drops.splice(0).filter((uid) => uid <= followed.through));
    if (uids.length > 0) await this.#run({ kind: 'drop', ...common, uids });
    return true;
  }

  /** Indexes the next batch. false: there is none. */
  async #addSome(followed: Followed): Promise<boolean> {
    const { folder, through: before } = followed;
    const waiting = folder
      .uids()
      .filter((uid) => uid > before)
      .subarray(0, batchMessagesMax);
    if (waiting.length === 0) return false;
    const parts: Buffer[] = [];
    const messages: { uid: number; length: number | undefined }[] = [];
    let bytes = 0;
    let through = before;
    for (const uid of waiting) {
      if (bytes > batchBytesMax) break;
      this.#options.check();
      const part = await readMessage(folder, uid);
      through = uid;
      if (part === undefined) continue;
      messages.push({ uid, length: part === 'large' ? undefined : part.length });
      if (part === 'large') continue;
      parts.push(part);
      bytes += part.length;
    }
    const { indexBytesMax } = this.#options;
    const common = { kind: 'add', directory: this.#directory, folder: followed.name, after: before } as const;
    const answer = await this.#run({
      ...common,
      bytes: joined(parts, bytes),
      messages,
      through,
      indexBytesMax,
    });
    followed.through = answer.through;
    if (answer.full) {
      this.#full = true;
      this.#options.log.warn(
        { event: 'search-index-full', directory: this.#directory, indexBytesMax },
        'the search index has no room for more; newer messages are searched without it',
      );
    }
    return true;
  }

  async #run(task: IndexTask): Promise<IndexAnswer> {
    this.#options.check();
    this.#used = true;
    const answer = await this.#options.thread.run(task);
    this.#options.check();
    if (answer.begun !== undefined) {
      for (const one of this.#folders.values()) one.through = 0;
      this.#full = false;
      const level = answer.begun === 'new' ? 'info' : 'warn';
      this.#options.log[level](
        { event: 'search-index-begun', directory: this.#directory, because: answer.begun },
        'a search index is built',
      );
    }
    return answer;
  }

  #failed(error: unknown, followed: Followed): void {
    if (this.#closed || isFault(error, 'lease-lost') || isFault(error, 'not-owner')) return;
    // Asked again, or taken up again, with the next search.
    if (isFault(error, 'busy')) return;
    followed.through = 0;
    followed.compare = true;
    const fault = Fault.from(error);
    this.#options.log.warn(
      { event: 'search-index-failed', directory: this.#directory, code: fault.code, detail: fault.detail },
      'the search index failed; searches do without it',
    );
  }
}

function release(followed: Followed): void {
  clearTimeout(followed.timer);
  followed.endWatch();
}

/** `undefined`: it went meanwhile. */
async function readMessage(folder: Folder, uid: number): Promise<Buffer | 'large' | undefined> {
  const size = folder.facts(uid)?.size;
  if (size === undefined) return undefined;
  if (size > messageBytesMax) return 'large';
  try {
    const message = await folder.open(uid);
    try {
      return await message.read(0, message.size);
    } finally {
      await message.close();
    }
  } catch (error) {
    if (isFault(error, 'gone') && folder.flagsOf(uid) === undefined) return undefined;
    throw error;
  }
}

/** One buffer of its own, which can be given away. */
function joined(parts: readonly Buffer[], length: number): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function holds(sorted: Uint32Array, uid: number): boolean {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle]! < uid) low = middle + 1;
    else high = middle;
  }
  return sorted[low] === uid;
}

function ignore(): void {}
