/**
 * One mbox with UIDs: what other programs append is noticed, what is written is
 * durable before it is answered, and what goes goes by replacing the file as a
 * whole. One owner of ours; foreign programs are held off by the dotlock, and
 * those that do not heed it are noticed before the file is replaced.
 */
import fs from 'node:fs';
import path from 'node:path';
import { errnoOf, Fault } from '../../../base/fault.ts';
import {
  closeFile,
  closeLater,
  copyBytes,
  dataSync,
  fullSync,
  openFile,
  readAt,
  renameFile,
  syncDirectory,
  truncateFile,
  unlinkFile,
  writeAt,
} from '../files.ts';
import { withDotlock } from './dotlock.ts';
import { formatFromLine } from './from-line.ts';
import { matchEntries, uidsNoted } from './match-entries.ts';
import { viewPieces } from './mbox-view.ts';
import { MessageScan } from './message-scan.ts';
import { formOf, storedPieces } from './quoting.ts';
import { type FoundMessage, scanMbox } from './scan-mbox.ts';
import {
  announce,
  confirm,
  type MboxEntry,
  readSide,
  type SeenMbox,
  type SideState,
  sameMbox,
  seenOf,
  writeSide,
} from './side-file.ts';

const lockWaitMs = 10_000;
const sliceBytes = 256 * 1024;
const attemptsMax = 3;

export interface MboxChanges {
  readonly added: readonly number[];
  readonly gone: readonly number[];
}

export class MboxFile {
  readonly #mbox: string;
  readonly #side: string;
  /** The state after a replacing that is under way. */
  readonly #next: string;
  readonly #newUidValidity: () => number;
  /** @throws when nothing may be written any more. */
  readonly #mayAct: () => void;
  #state: SideState | undefined;

  private constructor(mbox: string, newUidValidity: () => number, mayAct: () => void) {
    this.#mbox = mbox;
    this.#side = `${mbox}.postern`;
    this.#next = `${mbox}.postern-next`;
    this.#newUidValidity = newUidValidity;
    this.#mayAct = mayAct;
  }

  /** Opens an mbox, and makes an empty one where there is none. @throws {Fault} `busy`; errors of the file system. */
  static async open(mbox: string, newUidValidity: () => number, mayAct: () => void): Promise<MboxFile> {
    const file = new MboxFile(mbox, newUidValidity, mayAct);
    await openFile(mbox, 'a', 0o600).then(closeFile);
    await file.refresh();
    return file;
  }

  get uidValidity(): number {
    return this.#state!.uidValidity;
  }

  get uidNext(): number {
    return this.#state!.uidNext;
  }

  /** Ascending UIDs. */
  get entries(): readonly MboxEntry[] {
    return this.#state!.entries;
  }

  /** Looks for what other programs did. Costs one `stat` when they did nothing. */
  async refresh(): Promise<MboxChanges> {
    if (sameMbox(this.#state?.seen, await seenOf(this.#mbox))) return { added: [], gone: [] };
    return withDotlock(this.#mbox, lockWaitMs, () => this.#look());
  }

  /** The bytes of a message, in pieces. @throws {Fault} `gone` */
  async *read(uid: number): AsyncGenerator<Buffer> {
    const fd = await openFile(this.#mbox, 'r');
    try {
      const entry = this.entries.find((one) => one.uid === uid);
      if (!entry || !sameMbox(this.#state!.seen, await seenOf(this.#mbox))) {
        throw new Fault('gone', 'the mailbox has changed; look at it again');
      }
      yield* viewPieces(fd, entry);
    } finally {
      closeLater(fd);
    }
  }

  /**
   * Appends a message that stands in a file, durably.
   * @param fd  Of the message alone. @param size  Its bytes. @param seconds  Internal date.
   */
  append(fd: number, size: number, seconds: number): Promise<MboxEntry> {
    return withDotlock(this.#mbox, lockWaitMs, async () => {
      const before = await this.#inStep();
      this.#mayAct();
      const form = await formOf(fd, size);
      const scan = new MessageScan();
      let storedSize = 0;
      for await (const { bytes, first, whole } of storedPieces(fd, size, form)) {
        scan.push(bytes, first, whole);
        storedSize += bytes.length;
      }
      const scanned = scan.finish();
      const parting = await this.#parting(before.size);
      const line = Buffer.from(formatFromLine(seconds));
      const offset = before.size + parting.length;
      const start = offset + line.length;
      const entry: MboxEntry = {
        uid: this.uidNext,
        offset,
        start,
        end: start + storedSize,
        digest: scanned.digest,
        size,
        seconds,
        form: form.ends,
        openEnd: form.openEnd,
        hidesState: scanned.state.size === 0,
      };
      await announce(this.#side, entry, before.size);
      this.#mayAct();
      const out = await openFile(this.#mbox, 'r+');
      try {
        await writeAt(out, Buffer.concat([parting, line]), before.size);
        let at = start;
        let gathered: Buffer[] = [];
        let bytes = 0;
        const put = async (): Promise<void> => {
          const data = Buffer.concat(gathered);
          gathered = [];
          bytes = 0;
          await writeAt(out, data, at);
          at += data.length;
        };
        for await (const piece of storedPieces(fd, size, form)) {
          gathered.push(Buffer.from(piece.bytes));
          bytes += piece.bytes.length;
          if (bytes > sliceBytes) await put();
        }
        gathered.push(Buffer.from('\n'));
        await put();
        await dataSync(out);
      } catch (error) {
        // A full disk: nothing of it may stay.
        await truncateFile(out, before.size);
        this.#state = { ...this.#state!, seen: undefined };
        throw error;
      } finally {
        await closeFile(out);
      }
      this.#mayAct();
      const seen = await seenOf(this.#mbox);
      await confirm(this.#side, seen);
      this.#state = {
        ...this.#state!,
        uidNext: entry.uid + 1,
        entries: [...this.entries, entry],
        seen,
        announced: undefined,
      };
      return entry;
    });
  }

  /** Removes messages by replacing the file. @returns those that were there. @throws {Fault} `busy` */
  expunge(uids: ReadonlySet<number>): Promise<readonly number[]> {
    return withDotlock(this.#mbox, lockWaitMs, async () => {
      for (let attempt = 1; attempt <= attemptsMax; attempt++) {
        const before = await this.#inStep();
        const leaving = this.entries.filter((entry) => uids.has(entry.uid)).map((entry) => entry.uid);
        if (leaving.length === 0) return [];
        if (await this.#replace(before, uids)) return leaving;
      }
      throw new Fault('busy', 'another program keeps writing to the mailbox without locking it');
    });
  }

  /** false: another program wrote meanwhile; nothing was changed. */
  async #replace(before: SeenMbox, uids: ReadonlySet<number>): Promise<boolean> {
    const fresh = `${this.#mbox}.postern-new`;
    const inOrder = this.entries.toSorted((a, b) => a.offset - b.offset);
    const kept: MboxEntry[] = [];
    const from = await openFile(this.#mbox, 'r');
    const to = await openFile(fresh, 'w');
    try {
      let at = 0;
      const copy = async (start: number, end: number): Promise<void> => {
        for (let here = start; here < end; ) {
          const bytes = await readAt(from, here, Math.min(sliceBytes, end - here));
          if (bytes.length === 0) throw new Fault('busy', 'another program cut the mailbox off');
          await writeAt(to, bytes, at);
          here += bytes.length;
          at += bytes.length;
        }
      };
      await copy(0, inOrder[0]!.offset);
      for (const [index, entry] of inOrder.entries()) {
        if (uids.has(entry.uid)) continue;
        const moved = at - entry.offset;
        kept.push({ ...entry, offset: at, start: entry.start + moved, end: entry.end + moved });
        await copy(entry.offset, inOrder[index + 1]?.offset ?? before.size);
      }
      await keepMode(from, to);
      await fullSync(to);
    } finally {
      closeLater(from);
      await closeFile(to);
    }
    const entries = kept.sort((a, b) => a.uid - b.uid);
    const state = { ...this.#state!, entries, seen: await seenOf(fresh) };
    await writeSide(this.#next, state);
    this.#mayAct();
    if (!sameMbox(before, await seenOf(this.#mbox))) {
      await unlinkFile(this.#next);
      await unlinkFile(fresh);
      return false;
    }
    await renameFile(fresh, this.#mbox);
    await syncDirectory(path.dirname(this.#mbox));
    await renameFile(this.#next, this.#side);
    await syncDirectory(path.dirname(this.#mbox));
    this.#state = state;
    return true;
  }

  /** Under the lock: what is known is what is there. */
  async #inStep(): Promise<SeenMbox> {
    const seen = await seenOf(this.#mbox);
    if (!sameMbox(this.#state?.seen, seen)) await this.#look();
    return this.#state!.seen!;
  }

  /** Under the lock. */
  async #look(): Promise<MboxChanges> {
    const side = await this.#sideOf();
    if (side?.announced) await this.#cutTorn(side.announced);
    const seen = await seenOf(this.#mbox);
    const found: FoundMessage[] = [];
    const fd = await openFile(this.#mbox, 'r');
    try {
      for await (const message of scanMbox(fd, 0, seen.size)) found.push(message);
    } finally {
      closeLater(fd);
    }
    const noted = side ? undefined : uidsNoted(found);
    const uidValidity = side?.uidValidity ?? noted?.uidValidity ?? this.#newUidValidity();
    const known = side?.entries ?? noted?.known ?? [];
    const matched = matchEntries(found, known, side?.uidNext ?? noted?.uidNext ?? 1);
    // What another program wrote while this looked is looked at the next time.
    const after = await seenOf(this.#mbox);
    const before = new Set(this.#state?.entries.map((entry) => entry.uid));
    const state = {
      uidValidity,
      uidNext: matched.uidNext,
      entries: matched.entries,
      seen: sameMbox(seen, after) ? seen : { ...seen, mtimeNs: '0' },
    };
    this.#mayAct();
    await writeSide(this.#side, state);
    await unlinkFile(this.#next).catch(() => {});
    this.#state = { ...state, announced: undefined };
    const now = new Set(matched.entries.map((entry) => entry.uid));
    return {
      added: [...now].filter((uid) => !before.has(uid)),
      gone: [...before].filter((uid) => !now.has(uid)),
    };
  }

  /** After a crash between the two renames of a replacing, the state that goes with the mbox is the next one. */
  async #sideOf(): Promise<SideState | undefined> {
    const next = await readSide(this.#next);
    if (next?.seen && next.seen.ino === (await seenOf(this.#mbox)).ino) return next;
    return readSide(this.#side);
  }

  /** Cuts off what a crash left of a message nobody was told of; a copy stays beside the mbox. */
  async #cutTorn({ entry, before }: NonNullable<SideState['announced']>): Promise<void> {
    const { size } = await seenOf(this.#mbox);
    // The empty line behind it belongs to it: without that the next message would run into it.
    if (size <= before || size > entry.end + 1) return;
    const fd = await openFile(this.#mbox, 'r+');
    try {
      const begun = Buffer.concat([await this.#parting(before), Buffer.from(formatFromLine(entry.seconds))]);
      const there = await readAt(fd, before, Math.min(begun.length, size - before));
      const isOurs = there.equals(begun.subarray(0, there.length)) || there.every((byte) => byte === 0);
      if (!isOurs) return;
      if (size === entry.end + 1) {
        for await (const message of scanMbox(fd, entry.offset, size)) {
          if (message.digest === entry.digest) return;
        }
      }
      await copyBytes(this.#mbox, `${this.#mbox}.torn-${entry.uid}`).catch((error: unknown) => {
        if (errnoOf(error) !== 'EEXIST') throw error;
      });
      this.#mayAct();
      await truncateFile(fd, before);
      await dataSync(fd);
    } finally {
      await closeFile(fd);
    }
  }

  /** What has to stand before the next `From ` line, so that it follows an empty line. */
  async #parting(size: number): Promise<Buffer> {
    if (size === 0) return Buffer.alloc(0);
    const fd = await openFile(this.#mbox, 'r');
    try {
      const tail = (await readAt(fd, Math.max(0, size - 3), Math.min(3, size))).toString('latin1');
      if (/\n\r?\n$/.test(tail) || tail === '\n') return Buffer.alloc(0);
      return Buffer.from(tail.endsWith('\n') ? '\n' : '\n\n');
    } finally {
      closeLater(fd);
    }
  }
}

/** The new file belongs to whom the old one did, as far as that may be said. */
async function keepMode(from: number, to: number): Promise<void> {
  const stats = await new Promise<fs.Stats>((resolve, reject) =>
    fs.fstat(from, (error, found) => (error ? reject(error) : resolve(found))),
  );
  await new Promise<void>((resolve, reject) =>
    fs.fchmod(to, stats.mode & 0o777, (error) => (error ? reject(error) : resolve())),
  );
  await new Promise<void>((resolve) => fs.fchown(to, stats.uid, stats.gid, () => resolve()));
}
