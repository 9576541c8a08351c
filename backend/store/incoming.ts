/**
 * One message on its way in. Small ones are gathered and written at once;
 * large ones stream into `tmp/`. The bytes are on stable storage before the
 * folder is asked to give the message a UID and a name.
 */
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { errnoOf, Fault } from '../../base/fault.ts';
import { incarnation } from './fence.ts';
import { closeLater, dataSync, openFile, setTimes, unlinkFile, writeAt } from './files.ts';
import { hostOfNames } from './message-name.ts';
import type { AppendFacts, Incoming } from './store.ts';
import type { StoreHost } from './store-host.ts';

const gatheredBytesMax = 256 * 1024;
const { O_WRONLY, O_CREAT, O_EXCL, O_DSYNC } = fs.constants;
/** A write returns when data and size are on stable storage, as after fdatasync (open(2)). */
const newAndSynced = O_WRONLY | O_CREAT | O_EXCL | O_DSYNC;
let temporaryCount = 0;
let random = Buffer.alloc(0);
let randomUsed = 0;

/** 16 hex digits; drawn in blocks, because each draw by itself costs as much as a system call. */
function emailId(): string {
  if (randomUsed === random.length) {
    random = randomBytes(1024);
    randomUsed = 0;
  }
  randomUsed += 8;
  return random.toString('hex', randomUsed - 8, randomUsed);
}

/** A name for `tmp/` that no other process gives. */
export function temporaryName(): string {
  return `${Math.floor(Date.now() / 1000)}.P${incarnation}Q${++temporaryCount}.${hostOfNames}`;
}

/** Debris of an earlier process of ours: nobody else acts for this account, so nobody is writing it. */
export function isOldTemporary(name: string): boolean {
  const found = /^\d{1,12}\.P([0-9a-f]{16})Q\d{1,15}\./.exec(name);
  return found !== null && found[1] !== incarnation;
}

/** Bytes that are durable in `tmp/`. */
export interface TemporaryFile {
  /** Name in `tmp/`. */
  readonly temporary: string;
  /** Kept open so that the rename can be made durable through it when directories are not synced. */
  readonly fd: number;
}

/** A message waiting for its name. */
export interface Prepared {
  /** A small one, for the intake; absent: it has its file. */
  readonly bytes: Buffer | undefined;
  readonly size: number;
  readonly facts: AppendFacts;
  readonly emailId: string;
  /** Its file, which is made when there is none yet. */
  file(): Promise<TemporaryFile>;
}

export type Publish = (prepared: Prepared) => Promise<{ uid: number; already: boolean }>;

/** The folder a message goes into, which may be renamed or deleted while the message comes. */
export interface IncomingPlace {
  readonly host: StoreHost;
  readonly directory: string;
  /** @throws {Fault} when nothing may be done there any more. */
  check(): void;
}

export class IncomingMessage implements Incoming {
  readonly #place: IncomingPlace;
  readonly #facts: AppendFacts;
  readonly #publish: Publish;
  readonly #name = temporaryName();
  #gathered: Buffer[] = [];
  #size = 0;
  #written = 0;
  #fd: number | undefined;
  #state: 'open' | 'done' = 'open';

  constructor(place: IncomingPlace, facts: AppendFacts, publish: Publish) {
    this.#place = place;
    this.#facts = facts;
    this.#publish = publish;
  }

  async write(chunk: Buffer): Promise<void> {
    if (this.#state !== 'open') throw finished();
    this.#size += chunk.length;
    try {
      if (this.#size > this.#place.host.limits.messageBytesMax) {
        throw new Fault('message-too-big', 'the message is larger than this server takes');
      }
      this.#gathered.push(chunk);
      if (this.#size - this.#written >= gatheredBytesMax) await this.#writeGathered();
    } catch (error) {
      // What is missing now would be missing in the message: it can only be aborted.
      this.#state = 'done';
      await this.#discard();
      throw this.#failed(error, 'append-write');
    }
  }

  async commit(): Promise<{ uid: number; already: boolean }> {
    if (this.#state !== 'open') throw finished();
    this.#state = 'done';
    const key = this.#facts.deliveryKey;
    const { keys } = this.#place.host;
    try {
      this.#place.check();
      if (key === undefined) return await this.#store();
      return await keys.alone(key, async () => {
        const known = keys.uidOf(key);
        if (known === undefined) return this.#store();
        await this.#discard();
        return { uid: known, already: true };
      });
    } catch (error) {
      await this.#discard();
      throw this.#failed(error, 'append');
    }
  }

  async abort(): Promise<void> {
    this.#state = 'done';
    await this.#discard();
  }

  async #store(): Promise<{ uid: number; already: boolean }> {
    const bytes = this.#fd === undefined && this.#place.host.intake?.takes(this.#size) === true;
    let made = bytes ? undefined : await this.#makeFile();
    const answer = await this.#publish({
      bytes: bytes ? this.#joined() : undefined,
      size: this.#size,
      facts: this.#facts,
      emailId: emailId(),
      file: async () => {
        made ??= await this.#makeFile();
        return made;
      },
    });
    const fd = this.#fd;
    this.#fd = undefined;
    this.#gathered = [];
    if (fd !== undefined) closeLater(fd);
    return answer;
  }

  async #makeFile(): Promise<TemporaryFile> {
    const seconds = Math.floor(this.#facts.internalDateMs / 1000);
    // Other Maildir programs take a file's time for the internal date.
    const dated = Math.abs(Date.now() / 1000 - seconds) > 60;
    const whole = this.#fd === undefined && !dated;
    await this.#writeGathered(whole);
    const fd = this.#fd!;
    if (dated) await setTimes(fd, Math.max(0, seconds));
    try {
      if (!whole) await dataSync(fd);
    } catch (error) {
      this.#place.host.breakOff(error);
      throw error;
    }
    return { temporary: this.#name, fd };
  }

  /** What was gathered, in one piece. */
  #joined(): Buffer {
    if (this.#gathered.length !== 1) this.#gathered = [Buffer.concat(this.#gathered)];
    return this.#gathered[0]!;
  }

  /** @param durably  The file is written once, so the write itself can be the sync: one call less. */
  async #writeGathered(durably = false): Promise<void> {
    const data = this.#joined();
    this.#gathered = [];
    this.#fd ??= await this.#openTemporary(durably ? newAndSynced : 'wx');
    await writeAt(this.#fd, data, this.#written);
    this.#written += data.length;
  }

  async #openTemporary(flags: string | number): Promise<number> {
    try {
      return await openFile(this.#path(), flags);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
      // Its folder is being renamed or removed at this moment: in the lane it is known which.
      const { host } = this.#place;
      await host.lane.run(async () => this.#place.check());
      return await openFile(this.#path(), flags);
    }
  }

  #path(): string {
    return `${this.#place.directory}/tmp/${this.#name}`;
  }

  /** A folder that went away under the message is not a failure of the storage. */
  #failed(error: unknown, what: string): unknown {
    if (errnoOf(error) === 'ENOENT') {
      try {
        this.#place.check();
      } catch (gone) {
        return gone;
      }
    }
    return this.#place.host.failed(error, what);
  }

  async #discard(): Promise<void> {
    this.#gathered = [];
    if (this.#fd === undefined) return;
    closeLater(this.#fd);
    this.#fd = undefined;
    await unlinkFile(this.#path()).catch(() => {});
  }
}

function finished(): Fault {
  return new Fault('bug', 'the message is already committed, aborted or failed');
}
