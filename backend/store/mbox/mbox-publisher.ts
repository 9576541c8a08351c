/**
 * Puts prepared messages into an mbox. Whoever waits goes in one batch: one
 * journal record, one locking, one sync, then all become visible in the order
 * of their UIDs.
 */
import type { JournalRecord } from '../journal-records.ts';
import { hostOfNames, savedNow } from '../message-name.ts';
import type { MboxFolder } from './mbox-folder.ts';
import type { MboxArrival } from './mbox-incoming.ts';
import { rescanMbox } from './mbox-rescan.ts';
import { appendedMessage } from './stored-message.ts';

const batchMax = 500;

interface Waiting {
  readonly arrival: MboxArrival;
  readonly resolve: (uid: number) => void;
  readonly reject: (error: unknown) => void;
}

export class MboxPublisher {
  readonly #folder: MboxFolder;
  #waiting: Waiting[] = [];
  #scheduled = false;

  constructor(folder: MboxFolder) {
    this.#folder = folder;
  }

  /** @returns its UID. */
  publish(arrival: MboxArrival): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ arrival, resolve, reject });
      if (!this.#scheduled) this.#schedule();
    });
  }

  #schedule(): void {
    this.#scheduled = true;
    this.#folder.host.lane
      .run(async () => {
        const batch = this.#waiting.splice(0, batchMax);
        this.#scheduled = false;
        if (this.#waiting.length > 0) this.#schedule();
        await this.#publish(batch).catch((error: unknown) => {
          for (const one of batch) one.reject(error);
        });
      })
      .catch((error: unknown) => {
        this.#scheduled = false;
        for (const one of this.#waiting.splice(0)) one.reject(error);
      });
  }

  async #publish(batch: readonly Waiting[]): Promise<void> {
    const folder = this.#folder;
    const { host, state, file } = folder;
    folder.check();
    await file.locked(async (fd) => {
      if (!(await file.isSame())) await rescanMbox.underLock(folder, fd);
      const fits = this.#thoseThatFit(batch);
      if (fits.length === 0) return;
      await folder.reserve(fits.length, fits.length);
      const stored = fits.map(({ arrival }, index) => {
        const { prepared, facts, emailId, size } = arrival;
        const seconds = facts.internalDateMs / 1000;
        return appendedMessage(prepared, {
          seconds,
          uid: state.uidNext + index,
          emailId,
          modseq: state.highestModseq + 1 + index,
          savedSeconds: savedNow(seconds),
          deliveryKey: facts.deliveryKey,
          host: hostOfNames,
          fileBytes: prepared.storedBytes,
          size,
          flags: facts.flags & 31,
          otherLetters: '',
        });
      });
      const firstModseq = state.highestModseq + 1;
      const sums = fits.map(({ arrival }) => arrival.prepared.sum);
      await folder.commit(
        ...keywordRecords(folder, fits, firstModseq),
        folder.comingRecord(stored[0]!.uid, sums),
      );
      await file.append(fd, stored);
      try {
        host.guard.assert();
      } catch (error) {
        // Nobody knows whose the mbox is by now: not shown, not answered.
        host.breakOff(error);
        throw error;
      }
      for (const [index, { arrival, resolve }] of fits.entries()) {
        const { uid, text } = stored[index]!;
        const { facts, size } = arrival;
        const seconds = facts.internalDateMs / 1000;
        state.add(
          { uid, size, seconds, flags: facts.flags & 31, modseq: firstModseq + index, name: text },
          facts.keywords,
        );
        host.usage.bytes += size;
        host.usage.messages++;
        if (facts.deliveryKey !== undefined) {
          host.keys.stored(facts.deliveryKey, { mailboxId: folder.mailboxId, uid, seconds });
        }
        resolve(uid);
      }
      folder.emit({ kind: 'added', uids: stored.map(({ uid }) => uid) });
    });
  }

  #thoseThatFit(batch: readonly Waiting[]): Waiting[] {
    const fits: Waiting[] = [];
    let bytes = 0;
    for (const one of batch) {
      try {
        this.#folder.checkQuota(bytes + one.arrival.size, fits.length + 1);
        bytes += one.arrival.size;
        fits.push(one);
      } catch (error) {
        one.reject(error);
      }
    }
    return fits;
  }
}

/** Keywords do not stand in names. */
function keywordRecords(folder: MboxFolder, fits: readonly Waiting[], firstModseq: number): JournalRecord[] {
  return fits.flatMap(({ arrival: { facts } }, index): JournalRecord[] =>
    facts.keywords.length === 0
      ? []
      : [
          {
            t: 'flags',
            f: folder.mailboxId,
            u: String(folder.state.uidNext + index),
            how: 'add',
            fl: facts.flags & 31,
            kw: facts.keywords,
            m: firstModseq + index,
          },
        ],
  );
}
