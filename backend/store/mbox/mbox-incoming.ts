/**
 * One message on its way into an mbox: gathered in memory, and past a size in a
 * file in `tmp/` that needs no sync, because what counts is when it stands in
 * the mbox.
 */
import { randomBytes } from 'node:crypto';
import { Fault } from '../../../base/fault.ts';
import { closeLater, openFile, readAt, unlinkFile, writeAt } from '../files.ts';
import { temporaryName } from '../incoming.ts';
import type { AppendFacts, Incoming } from '../store.ts';
import type { StoreHost } from '../store-host.ts';
import { type Prepared, prepareMessage } from './stored-message.ts';

const gatheredBytesMax = 256 * 1024;

export interface MboxArrival {
  readonly prepared: Prepared;
  readonly size: number;
  readonly facts: AppendFacts;
  readonly emailId: string;
}

export interface MboxPlace {
  readonly host: StoreHost;
  readonly directory: string;
  /** @throws {Fault} when nothing may be done there any more. */
  check(): void;
  publish(arrival: MboxArrival): Promise<number>;
}

export class MboxIncoming implements Incoming {
  readonly #place: MboxPlace;
  readonly #facts: AppendFacts;
  #gathered: Buffer[] = [];
  #size = 0;
  #written = 0;
  #file: { readonly fd: number; readonly path: string } | undefined;
  #done = false;

  constructor(place: MboxPlace, facts: AppendFacts) {
    this.#place = place;
    this.#facts = facts;
  }

  async write(chunk: Buffer): Promise<void> {
    if (this.#done) throw finished();
    this.#size += chunk.length;
    try {
      if (this.#size > this.#place.host.limits.messageBytesMax) {
        throw new Fault('message-too-big', 'the message is larger than this server takes');
      }
      this.#gathered.push(chunk);
      if (this.#size - this.#written >= gatheredBytesMax) await this.#spill();
    } catch (error) {
      this.#done = true;
      await this.#discard();
      throw this.#place.host.failed(error, 'append-write');
    }
  }

  async commit(): Promise<{ uid: number; already: boolean }> {
    if (this.#done) throw finished();
    this.#done = true;
    const key = this.#facts.deliveryKey;
    const { host } = this.#place;
    try {
      this.#place.check();
      if (key === undefined) return { uid: await this.#store(), already: false };
      return await host.keys.alone(key, async () => {
        const known = host.keys.uidOf(key);
        return known === undefined
          ? { uid: await this.#store(), already: false }
          : { uid: known, already: true };
      });
    } catch (error) {
      throw host.failed(error, 'append');
    } finally {
      await this.#discard();
    }
  }

  async abort(): Promise<void> {
    this.#done = true;
    await this.#discard();
  }

  async #store(): Promise<number> {
    const prepared = await prepareMessage(() => this.#pieces());
    const emailId = randomBytes(8).toString('hex');
    return this.#place.publish({ prepared, size: this.#size, facts: this.#facts, emailId });
  }

  async *#pieces(): AsyncGenerator<Buffer> {
    for (let at = 0; at < this.#written; ) {
      const bytes = await readAt(this.#file!.fd, at, Math.min(gatheredBytesMax, this.#written - at));
      if (bytes.length === 0) throw new Fault('storage-failed', 'a temporary file became shorter');
      yield bytes;
      at += bytes.length;
    }
    yield* this.#gathered;
  }

  async #spill(): Promise<void> {
    const data = Buffer.concat(this.#gathered);
    this.#gathered = [];
    if (!this.#file) {
      const path = `${this.#place.directory}/tmp/${temporaryName()}`;
      this.#file = { fd: await openFile(path, 'wx+'), path };
    }
    await writeAt(this.#file.fd, data, this.#written);
    this.#written += data.length;
  }

  async #discard(): Promise<void> {
    this.#gathered = [];
    if (!this.#file) return;
    closeLater(this.#file.fd);
    await unlinkFile(this.#file.path).catch(() => {});
    this.#file = undefined;
  }
}

function finished(): Fault {
  return new Fault('bug', 'the message is already committed, aborted or failed');
}
