/**
 * One mbox as a file: its locks, what is appended to it, what is cut out of it,
 * and what is read. It knows places, not mail: which messages there are is the
 * folder's business (`mbox-folder.ts`).
 *
 * Writing goes in a row and under the locks other programs heed; bytes only
 * move while nobody of ours reads.
 */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf, Fault } from '../../../base/fault.ts';
import { closeFile, closeLater, dataSync, openFile, readAt, truncateFile, writeAt } from '../files.ts';
import { Lane } from '../lane.ts';
import { takeDotlock } from './dotlock.ts';
import { lockThread } from './kernel-lock.ts';
import { type Place, Places } from './places.ts';
import { rewriteMbox } from './rewrite-log.ts';
import { type SeenFile, sameFile, seenOf } from './seen-file.ts';
import { Turns } from './turns.ts';

export const mboxName = 'mbox';
const lockWaitMs = 10_000;
const lockRetryMs = 25;
const sliceBytes = 256 * 1024;

/** A message to append: its `From ` line and what follows, without the empty line behind it. */
export interface Appended {
  readonly uid: number;
  readonly form: number;
  readonly line: Buffer;
  readonly storedBytes: number;
  pieces(): AsyncIterable<Buffer>;
}

export class MboxFile {
  directory: string;
  places = new Places();
  /** The file as it was when `places` was what it holds; `undefined`: to be looked at. */
  seen: SeenFile | undefined;
  /** Messages may stand between those that are known: the whole of it has to be looked at. */
  hasGaps = false;
  #appending = false;
  readonly #epoch: number;
  readonly #writers = new Lane();
  readonly #turns = new Turns();

  constructor(directory: string, epoch: number) {
    this.directory = directory;
    this.#epoch = epoch;
  }

  get path(): string {
    return path.join(this.directory, mboxName);
  }

  /** Did another program touch it since? */
  async isSame(): Promise<boolean> {
    return sameFile(this.seen, await seenOf(this.path));
  }

  /**
   * Runs `work` under both locks. @param work  Gets the mbox, open for reading and writing.
   * @throws {Fault} `busy` when another program keeps the lock; `unavailable` when there are no locks here.
   */
  locked<T>(work: (fd: number) => Promise<T>): Promise<T> {
    return this.#writers.run(async () => {
      const giveUpMs = performance.now() + lockWaitMs;
      const release = await takeDotlock(this.path, this.#epoch, giveUpMs);
      try {
        const fd = await this.#lockedFile(giveUpMs);
        try {
          return await work(fd);
        } finally {
          await closeFile(fd);
        }
      } finally {
        await release();
      }
    });
  }

  async #lockedFile(giveUpMs: number): Promise<number> {
    for (;;) {
      const fd = await openFile(this.path, 'r+');
      try {
        if (await lockThread.tryLock(fd)) {
          // A program that replaces files may have put another in its place meanwhile.
          const [ours, named] = await Promise.all([seenOf(fd), seenOf(this.path)]);
          if (ours.ino === named.ino) return fd;
        }
      } catch (error) {
        closeLater(fd);
        throw error;
      }
      await closeFile(fd);
      if (performance.now() > giveUpMs) throw new Fault('busy', 'another program has locked the mailbox');
      await sleep(lockRetryMs);
    }
  }

  /** What is known is what is there. @param fd  Locked. */
  learn(places: Places, seen: SeenFile): void {
    this.places = places;
    this.seen = seen;
  }

  /**
   * Appends messages, durably. On an error nothing of them stays. What is there already can be read meanwhile: it may
   * be a copy of that.
   * @param fd  Locked; `seen` is of now.
   */
  async append(fd: number, messages: readonly Appended[]): Promise<void> {
    this.#appending = true;
    try {
      const before = this.seen!.size;
      let at = before;
      let waiting: Buffer[] = [await parting(fd, before)];
      let bytes = waiting[0]!.length;
      const put = async (): Promise<void> => {
        await writeAt(fd, waiting.length === 1 ? waiting[0]! : Buffer.concat(waiting), at);
        at += bytes;
        waiting = [];
        bytes = 0;
      };
      const add = (piece: Buffer): Promise<void> | undefined => {
        waiting.push(piece);
        bytes += piece.length;
        return bytes > sliceBytes ? put() : undefined;
      };
      const places: Place[] = [];
      try {
        for (const message of messages) {
          const offset = at + bytes;
          await add(message.line);
          const start = at + bytes;
          for await (const piece of message.pieces()) await add(piece);
          const end = at + bytes;
          if (end - start !== message.storedBytes)
            throw new Fault('bug', 'a message changed while it was stored');
          await add(newline);
          places.push({ uid: message.uid, offset, start, end, form: message.form, named: true });
        }
        await put();
        await dataSync(fd);
      } catch (error) {
        // A full disk: nothing of it may stay.
        this.seen = undefined;
        await truncateFile(fd, before);
        await dataSync(fd);
        throw error;
      }
      for (const place of places) this.places.push(place);
      this.seen = await seenOf(fd);
    } finally {
      this.#appending = false;
    }
  }

  /**
   * Takes messages out and gives names to those that have none. What stands behind what is known stays.
   *
   * @param fd  Locked. @param keep  `undefined`: the message goes; else its `From ` line, where it gets another.
   */
  rewrite(
    fd: number,
    keep: (place: Place) => { readonly line?: Buffer; readonly form?: number } | undefined,
    mayAct: () => void,
  ): Promise<void> {
    return this.#turns.alone(async () => {
      const known = this.seen!;
      const { size } = await seenOf(fd);
      const inOrder = [...this.places].sort((a, b) => a.offset - b.offset);
      const plan = inOrder.map((place) => ({ place, kept: keep(place) }));
      const first = plan.findIndex(({ kept }) => kept === undefined || kept.line !== undefined);
      if (first < 0) return;
      const next = plan.slice(0, first).map(({ place }) => place);
      const from = plan[first]!.place.offset;
      let at = from;
      const pieces = async function* (): AsyncGenerator<Buffer> {
        for (const { place, kept } of plan.slice(first)) {
          if (kept === undefined) continue;
          const offset = at;
          const line = kept.line ?? (await readAt(fd, place.offset, place.start - place.offset));
          yield line;
          let last = 10;
          for (let here = place.start; here < place.end; ) {
            const bytes = await readAt(fd, here, Math.min(sliceBytes, place.end - here));
            if (bytes.length === 0) throw new Fault('busy', 'another program cut the mailbox off');
            yield bytes;
            last = bytes[bytes.length - 1]!;
            here += bytes.length;
          }
          const open = place.end === place.start || last === 10 ? 0 : 1;
          yield open ? newlines : newline;
          const start = offset + line.length;
          const end = start + place.end - place.start + open;
          next.push({
            ...place,
            offset,
            start,
            end,
            form: kept.form ?? place.form,
            named: place.named || !!kept.line,
          });
          at = end + 1;
        }
        for (let here = known.size; here < size; ) {
          const bytes = await readAt(fd, here, Math.min(sliceBytes, size - here));
          if (bytes.length === 0) break;
          yield bytes;
          here += bytes.length;
        }
      };
      this.seen = undefined;
      const newSize = await rewriteMbox(this.directory, fd, from, pieces(), mayAct);
      this.places = Places.of(next);
      const seen = await seenOf(fd);
      // What another program appended is there now, but not known yet.
      this.seen = size > known.size ? { ...seen, size: newSize - (size - known.size) } : seen;
    });
  }

  /**
   * Bytes of a stored message, from where it stands now.
   * @returns `undefined`: it is not known where it is, the mbox has to be looked at.
   */
  read(uid: number, from: number, bytesMax: number): Promise<{ place: Place; bytes: Buffer } | undefined> {
    return this.#turns.shared(async () => {
      const place = this.places.get(uid);
      const before = await seenOf(this.path);
      if (!place || !(this.#appending || sameFile(this.seen, before))) return undefined;
      const fd = await openFile(this.path, 'r');
      try {
        const start = place.start + from;
        const bytes = await readAt(fd, start, Math.max(0, Math.min(bytesMax, place.end - start)));
        // Programs that write in place may have done so while this was read.
        const same = this.#appending || sameFile(before, await seenOf(fd));
        return same ? { place, bytes } : undefined;
      } finally {
        closeLater(fd);
      }
    });
  }
}

const newline = Buffer.from('\n');
const newlines = Buffer.from('\n\n');

/** What has to stand before the next `From ` line, so that it follows an empty line. */
export async function parting(fd: number, size: number): Promise<Buffer> {
  if (size === 0) return Buffer.alloc(0);
  const tail = (await readAt(fd, Math.max(0, size - 3), Math.min(3, size))).toString('latin1');
  if (/\n\r?\n$/.test(tail) || tail === '\n') return Buffer.alloc(0);
  return Buffer.from(tail.endsWith('\n') ? '\n' : '\n\n');
}

/** Makes an empty mbox, if there is none. */
export async function makeMbox(directory: string): Promise<void> {
  try {
    await closeFile(await openFile(path.join(directory, mboxName), 'wx', 0o600));
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error;
  }
}
