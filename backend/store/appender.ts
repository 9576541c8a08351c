/**
 * Gives prepared messages their UIDs and names. Whoever waits goes in one
 * batch: renames side by side, one fsync per directory, then all become
 * visible in the order of their UIDs.
 */
import { eachAtOnce, fullSync, renameFile, unlinkFile } from './files.ts';
import type { Prepared, Publish } from './incoming.ts';
import type { AccountIntake } from './intake/account-intake.ts';
import type { JournalRecord } from './journal-records.ts';
import type { MaildirFolder } from './maildir-folder.ts';
import { formatMessageName, hostOfNames, savedNow } from './message-name.ts';
import type { StoreHost } from './store-host.ts';

const batchMax = 500;

interface Waiting {
  readonly folder: MaildirFolder;
  readonly prepared: Prepared;
  readonly resolve: (answer: { uid: number; already: boolean }) => void;
  readonly reject: (error: unknown) => void;
}

const hasFile = ({ prepared }: Named): boolean => prepared.bytes === undefined;

interface Named extends Waiting {
  readonly uid: number;
  readonly modseq: number;
  readonly name: string;
  error?: unknown;
}

export class Appender {
  readonly #host: StoreHost;
  #waiting: Waiting[] = [];
  #scheduled = false;

  constructor(host: StoreHost) {
    this.#host = host;
  }

  publishInto(folder: MaildirFolder): Publish {
    return (prepared) =>
      new Promise((resolve, reject) => {
        this.#waiting.push({ folder, prepared, resolve, reject });
        if (!this.#scheduled) this.#schedule();
      });
  }

  #schedule(): void {
    this.#scheduled = true;
    this.#host.lane
      .run(() => this.#runBatch())
      .catch((error: unknown) => {
        this.#scheduled = false;
        for (const one of this.#waiting.splice(0)) one.reject(error);
      });
  }

  async #runBatch(): Promise<void> {
    const batch = this.#waiting.splice(0, batchMax);
    this.#scheduled = false;
    if (this.#waiting.length > 0) this.#schedule();
    const folders = new Map<MaildirFolder, Waiting[]>();
    for (const one of batch) {
      const list = folders.get(one.folder);
      if (list) list.push(one);
      else folders.set(one.folder, [one]);
    }
    for (const [folder, list] of folders) {
      try {
        await this.#publish(folder, list);
      } catch (error) {
        for (const one of list) one.reject(error);
      }
    }
  }

  async #publish(folder: MaildirFolder, list: readonly Waiting[]): Promise<void> {
    const host = this.#host;
    folder.check();
    const named = await this.#nameAll(folder, list);
    if (named.length === 0) return;
    host.guard.assert();
    folder.ownChanges++;
    const journaled = named.flatMap((one): JournalRecord[] =>
      one.prepared.facts.keywords.length === 0
        ? []
        : [
            {
              t: 'flags',
              f: folder.mailboxId,
              u: String(one.uid),
              how: 'add',
              fl: one.prepared.facts.flags & 31,
              kw: one.prepared.facts.keywords,
              m: one.modseq,
            },
          ],
    );
    if (journaled.length > 0) await folder.commit(...journaled);
    // From here on a crash leaves a message that may be there: its file name says everything.
    folder.unclean = true;
    const taken = await this.#putInIntake(folder, named);
    try {
      await Promise.all([taken?.durable, this.#makeFiles(folder, taken ? named.filter(hasFile) : named)]);
      host.guard.assert();
    } catch (error) {
      // Nobody knows what of it is durable: not shown, not answered, and the account starts anew.
      host.breakOff(error);
      if (taken) host.intake!.unshown(taken.entries);
      throw error;
    }
    const good = named.filter((one) => one.error === undefined);
    for (const one of good) this.#show(folder, one);
    if (taken) host.intake!.shown(taken.entries);
    if (good.length > 0) folder.emit({ kind: 'added', uids: good.map((one) => one.uid) });
    for (const one of named) {
      if (one.error === undefined) one.resolve({ uid: one.uid, already: false });
      else one.reject(one.error);
    }
  }

  /** Puts the small ones in the intake log. `undefined`: there are none, or there is no room now. */
  async #putInIntake(
    folder: MaildirFolder,
    named: readonly Named[],
  ): Promise<ReturnType<AccountIntake['append']>> {
    const { intake } = this.#host;
    const small = named.flatMap(({ uid, name, prepared }) =>
      prepared.bytes === undefined ? [] : [{ uid, name, body: prepared.bytes }],
    );
    if (!intake || small.length === 0) return undefined;
    await intake.mark();
    this.#host.guard.assert();
    return intake.append(folder, small);
  }

  /** Gives files their names, durably; one that failed says so, and the others go on. */
  async #makeFiles(folder: MaildirFolder, named: readonly Named[]): Promise<void> {
    if (named.length === 0) return;
    const { dirsync } = this.#host;
    await eachAtOnce(named, async (one) => {
      try {
        const { temporary, fd } = await one.prepared.file();
        await renameFile(`${folder.directory}/tmp/${temporary}`, folder.file(one.name));
        if (!dirsync) await fullSync(fd);
      } catch (error) {
        one.error = error;
        if (!dirsync) await unlinkFile(folder.file(one.name)).catch(() => {});
      }
    });
    if (dirsync && named.some(({ error }) => error === undefined)) await folder.syncCur();
  }

  async #nameAll(folder: MaildirFolder, list: readonly Waiting[]): Promise<Named[]> {
    const fits: Waiting[] = [];
    let bytes = 0;
    for (const one of list) {
      try {
        folder.checkQuota(bytes + one.prepared.size, fits.length + 1);
        bytes += one.prepared.size;
        fits.push(one);
      } catch (error) {
        one.reject(error);
      }
    }
    await folder.reserve(fits.length, fits.length);
    return fits.map((one, index) => {
      const uid = folder.state.uidNext + index;
      const modseq = folder.state.highestModseq + 1 + index;
      const { facts, emailId, size } = one.prepared;
      const name = formatMessageName({
        seconds: facts.internalDateMs / 1000,
        uid,
        emailId,
        modseq,
        savedSeconds: savedNow(facts.internalDateMs / 1000),
        deliveryKey: facts.deliveryKey,
        host: hostOfNames,
        fileBytes: size,
        size,
        flags: facts.flags & 31,
        otherLetters: '',
      });
      return { ...one, uid, modseq, name };
    });
  }

  #show(folder: MaildirFolder, one: Named): void {
    const { facts, size } = one.prepared;
    const seconds = facts.internalDateMs / 1000;
    folder.state.add(
      { uid: one.uid, size, seconds, flags: facts.flags & 31, modseq: one.modseq, name: one.name },
      facts.keywords,
    );
    this.#host.usage.bytes += size;
    this.#host.usage.messages++;
    if (facts.deliveryKey !== undefined) {
      this.#host.keys.stored(facts.deliveryKey, { mailboxId: folder.mailboxId, uid: one.uid, seconds });
    }
  }
}
