/**
 * Small messages on their way in, for all accounts of this process. A message
 * is durable, and answered, once it stands in the intake log; its file follows
 * in the background; later many files are made durable at once, and the room
 * in the log is free again. Whoever opens an account after a crash finds in
 * the log what has no durable file yet (`intake-recovery.ts`).
 */
import { errnoOf, Fault } from '../../../base/fault.ts';
import type { Log } from '../../../base/log.ts';
import { removeTree, storageFault, syncDirectory } from '../files.ts';
import { temporaryName } from '../incoming.ts';
import type { MaildirFolder } from '../maildir-folder.ts';
import { lettersIn, withFlags } from '../message-name.ts';
import { bulkSync, hasBulkSync } from './bulk-sync.ts';
import { type IntakeEntry, type IntakeLimits, intakeLimits, type NamedMessage } from './intake-entry.ts';
import { LifeSign } from './intake-janitor.ts';
import { IntakeLog } from './intake-log.ts';
import { compact, makeFile, syncFile } from './message-file.ts';

/** Files being made at the same time: the pool has eight threads, and answers come first. */
const makersMax = 4;
/** Files stay without a sync for this long at most. */
const settleMs = 5000;
/** Files are made durable earlier when the log is this full. */
const fullnessMax = 0.4;
/** So many files are worth a sync of the whole file system. */
const bulkMin = 32;
const noSpacePauseMs = 1000;
/** A file's time says the internal date, as other programs expect, where it is not about now. */
const datedSeconds = 60;

export class Intake {
  readonly #log: Log;
  readonly #root: string;
  readonly #limits: IntakeLimits;
  readonly #intakeLog: IntakeLog;
  readonly #life: LifeSign;
  readonly #bulk: boolean;
  /** By sequence; settled ones leave at the front. */
  #order: IntakeEntry[] = [];
  #orderFrom = 0;
  #toMake: IntakeEntry[] = [];
  #makeFrom = 0;
  #making = 0;
  #heldBytes = 0;
  readonly #made = new Set<IntakeEntry>();
  readonly #byAccount = new Map<string, Set<IntakeEntry>>();
  /** Accounts whose journals say that messages may be here. */
  readonly #marks = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #pass: Promise<void> | undefined;
  #nextPass: Promise<void> | undefined;
  #noted = 0;
  #closed = false;
  /** The disk has no room for files. */
  #fullUntilMs = 0;

  /** @param root  `<storage root>/intake`; made when it is missing. @throws {Fault} `storage-failed`, `no-space` */
  static async open(root: string, log: Log, limits: IntakeLimits = intakeLimits): Promise<Intake> {
    try {
      const intakeLog = await IntakeLog.create(root, limits);
      const life = await LifeSign.begin(intakeLog.directory);
      return new Intake(root, intakeLog, life, await hasBulkSync(root), log, limits);
    } catch (error) {
      throw storageFault(error, 'intake-open');
    }
  }

  private constructor(
    root: string,
    intakeLog: IntakeLog,
    life: LifeSign,
    bulk: boolean,
    log: Log,
    limits: IntakeLimits,
  ) {
    this.#root = root;
    this.#life = life;
    this.#intakeLog = intakeLog;
    this.#bulk = bulk;
    this.#log = log;
    this.#limits = limits;
  }

  /** Of the log that is written now. */
  get logId(): string {
    return this.#intakeLog.id;
  }

  get nextSeq(): number {
    return this.#intakeLog.nextSeq;
  }

  /** Is a message of this size taken, as far as can be known? */
  takes(bytes: number): boolean {
    return (
      bytes <= this.#limits.messageBytesMax &&
      !this.#closed &&
      this.#life.fresh &&
      performance.now() >= this.#fullUntilMs &&
      this.#intakeLog.broken === undefined &&
      this.#heldBytes + bytes <= this.#limits.heldBytesMax
    );
  }

  /** Puts messages in the log, all or none. `undefined`: there is no room now. */
  append(
    account: string,
    folder: MaildirFolder,
    messages: readonly NamedMessage[],
  ): { readonly entries: readonly IntakeEntry[]; readonly durable: Promise<void> } | undefined {
    let bytes = 0;
    for (const { body } of messages) bytes += body.length;
    if (this.#closed || this.#heldBytes + bytes > this.#limits.heldBytesMax) return undefined;
    const appended = this.#intakeLog.append(messages);
    if (this.#intakeLog.fullness > fullnessMax) void this.settleSoon();
    if (appended === undefined) return undefined;
    this.#heldBytes += bytes;
    const ofAccount = this.#byAccount.get(account) ?? new Set();
    this.#byAccount.set(account, ofAccount);
    const entries: IntakeEntry[] = [];
    for (const [index, { uid, body }] of messages.entries()) {
      const entry: IntakeEntry = {
        seq: appended.firstSeq + index,
        segment: appended.segment,
        account,
        folder,
        uid,
        bytes: compact(body),
        state: 'written',
      };
      entries.push(entry);
      this.#order.push(entry);
      ofAccount.add(entry);
    }
    return { entries, durable: appended.durable.then(() => this.#stillOurs()) };
  }

  /** The messages are shown: their files may be made. */
  shown(entries: readonly IntakeEntry[]): void {
    for (const entry of entries) {
      entry.state = 'waiting';
      entry.folder.pending.add(entry);
    }
    this.makeLater(entries);
  }

  /** Nobody knows whether they are durable, and nobody was told so. */
  unshown(entries: readonly IntakeEntry[]): void {
    for (const entry of entries) this.#stick(entry);
  }

  makeLater(entries: readonly IntakeEntry[]): void {
    for (const entry of entries) this.#toMake.push(entry);
    this.#makeMore();
  }

  /** Settles when the files of these messages are durable. @throws {Fault} `no-space`, `storage-failed` */
  async settle(entries: readonly IntakeEntry[]): Promise<void> {
    if (entries.length === 0) return;
    await Promise.all([...new Set(entries.map(({ folder }) => folder))].map(({ pending }) => pending.made()));
    const left = entries.filter(({ state }) => state === 'made');
    if (left.length <= bulkMin) await this.#syncEach(left);
    else await this.settleSoon();
    for (const { state, folder } of entries) {
      // Not made durable: the account was taken out, and this says why.
      if (state !== 'settled') folder.host.mayFinish();
    }
  }

  /** Settles when all files that are there now have been made durable, together with everybody's who asks. */
  settleSoon(): Promise<void> {
    if (!this.#pass) {
      this.#pass = this.#settleMade().finally(() => {
        this.#pass = undefined;
      });
      return this.#pass;
    }
    this.#nextPass ??= this.#pass.then(() => {
      this.#nextPass = undefined;
      return this.settleSoon();
    });
    return this.#nextPass;
  }

  /** An account's journal says now that messages of it may be here. */
  marked(account: string): void {
    this.#marks.add(account);
  }

  /** … and that there are none. */
  unmarked(account: string): void {
    this.#marks.delete(account);
  }

  /**
   * Messages of an account that was taken out and is being opened again by this process: nothing more is done about
   * them here. @returns what to call when their files are durable.
   */
  async takeBack(account: string): Promise<() => void> {
    const entries = [...(this.#byAccount.get(account) ?? [])];
    for (const entry of entries) {
      await entry.folder.pending.quiet();
      this.#stick(entry);
    }
    return () => {
      for (const entry of entries) this.#settled(entry);
    };
  }

  /** An account is closed: no more files are made for it. Those that are there become durable with the others. */
  abandon(account: string): void {
    for (const entry of this.#byAccount.get(account) ?? []) if (entry.state !== 'made') this.#stick(entry);
  }

  /** Nothing more is taken; what there is becomes durable where it can, and an empty log goes. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.settleSoon();
    await this.#note();
    await this.#intakeLog.close();
    this.#life.end();
    if (this.#byAccount.size > 0 || this.#marks.size > 0) return;
    await removeTree(this.#intakeLog.directory).catch(() => {});
  }

  #makeMore(): void {
    while (this.#making < makersMax && this.#makeFrom < this.#toMake.length) {
      const entry = this.#toMake[this.#makeFrom++]!;
      if (entry.state !== 'waiting' || !entry.folder.pending.begin(entry)) continue;
      this.#making++;
      entry.state = 'making';
      this.#make(entry)
        .catch((error: unknown) => this.#notMade(entry, error))
        .finally(() => {
          entry.folder.pending.end();
          this.#making--;
          this.#makeMore();
        });
    }
    if (this.#makeFrom === this.#toMake.length || this.#makeFrom > 4096) {
      this.#toMake = this.#toMake.slice(this.#makeFrom);
      this.#makeFrom = 0;
    }
  }

  /** A log that others may have taken for dead and removed keeps nothing. */
  #stillOurs(): void {
    if (!this.#life.fresh) throw new Fault('storage-failed', 'the intake log shows no life');
  }

  async #make(entry: IntakeEntry): Promise<void> {
    const { folder, uid } = entry;
    const { columns } = folder.state;
    const at = columns.find(uid);
    // Expunged, or gone with its folder, before there was a file.
    if (at < 0 || folder.removed) return this.#settled(entry);
    const before = columns.nameOf(at);
    const name = withFlags(before, columns.flags[at]!);
    const seconds = columns.seconds[at]!;
    const dated = Math.abs(Date.now() / 1000 - seconds) > datedSeconds;
    folder.ownChanges++;
    await makeFile(
      `${folder.directory}/tmp/${temporaryName()}`,
      folder.file(name),
      entry.bytes!,
      dated ? seconds : undefined,
      () => folder.host.mayFinish(),
    );
    const now = columns.find(uid);
    if (now >= 0) {
      if (name !== before) columns.setName(now, name);
      if (lettersIn(name).flags !== columns.flags[now]) folder.late.showFlags([uid]);
    }
    entry.state = 'made';
    this.#made.add(entry);
    this.#letGo(entry);
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      void this.settleSoon();
    }, settleMs).unref();
  }

  #notMade(entry: IntakeEntry, error: unknown): void {
    const { host, pending } = entry.folder;
    const fault = host.failed(error, 'intake-file') as Fault;
    pending.failed(fault);
    if (fault.code === 'no-space') {
      // The message is safe in the log, and is read from memory meanwhile. The next ones are told.
      this.#fullUntilMs = performance.now() + noSpacePauseMs;
      entry.state = 'waiting';
      setTimeout(() => this.makeLater([entry]), noSpacePauseMs).unref();
    } else this.#stick(entry);
  }

  /** Nothing more is done about a message here. */
  #stick(entry: IntakeEntry): void {
    if (entry.state === 'settled') return;
    entry.state = 'stuck';
    entry.folder.pending.abandon();
    this.#made.delete(entry);
    this.#letGo(entry);
  }

  /** Its bytes are not needed in memory any more. */
  #letGo(entry: IntakeEntry): void {
    if (entry.bytes === undefined) return;
    this.#heldBytes -= entry.bytes.length;
    entry.bytes = undefined;
    entry.folder.pending.wasMade(entry);
  }

  #settled(entry: IntakeEntry): void {
    if (entry.state === 'settled') return;
    entry.state = 'settled';
    this.#made.delete(entry);
    this.#letGo(entry);
    entry.folder.pending.settled(entry);
    this.#intakeLog.release(entry.segment);
    const ofAccount = this.#byAccount.get(entry.account);
    ofAccount?.delete(entry);
    if (ofAccount?.size === 0) this.#byAccount.delete(entry.account);
    while (this.#order[this.#orderFrom]?.state === 'settled') this.#orderFrom++;
    if (this.#orderFrom > 4096 || this.#orderFrom === this.#order.length) {
      this.#order = this.#order.slice(this.#orderFrom);
      this.#orderFrom = 0;
    }
  }

  async #settleMade(): Promise<void> {
    const entries = [...this.#made];
    if (entries.length === 0) return;
    try {
      if (this.#bulk && entries.length > bulkMin) {
        await bulkSync(this.#root);
        for (const entry of entries) this.#settled(entry);
      } else await this.#syncEach(entries);
    } catch (error) {
      // Then each by itself: an error belongs to the account it is about.
      this.#log.warn({ event: 'bulk-sync-failed', err: error }, 'the storage could not be synced as a whole');
      await this.#syncEach(entries);
    }
    await this.#note();
  }

  /** Makes the files of these messages durable, each by itself. */
  async #syncEach(entries: readonly IntakeEntry[]): Promise<void> {
    const folders = new Map<MaildirFolder, IntakeEntry[]>();
    for (const entry of entries) {
      const list = folders.get(entry.folder);
      if (list) list.push(entry);
      else folders.set(entry.folder, [entry]);
    }
    await Promise.all(
      [...folders].map(async ([folder, list]) => {
        try {
          folder.host.mayFinish();
          for (const entry of list) await syncFile(folder, entry.uid);
          await syncDirectory(`${folder.directory}/cur`);
          for (const entry of list) this.#settled(entry);
        } catch (error) {
          if (folder.removed && errnoOf(error) === 'ENOENT') {
            for (const entry of list) this.#settled(entry);
            return;
          }
          // A second fsync would say that all is well (CASES 91): the log is what is believed.
          folder.host.failed(error, 'intake-sync');
          for (const entry of list) this.#stick(entry);
        }
      }),
    );
  }

  /** Says in the log how far everything is settled. */
  async #note(): Promise<void> {
    const upTo = (this.#order[this.#orderFrom]?.seq ?? this.#intakeLog.nextSeq) - 1;
    if (upTo <= this.#noted || this.#intakeLog.broken) return;
    this.#noted = upTo;
    await this.#intakeLog.note(upTo).catch((error: unknown) => {
      this.#log.error({ event: 'intake-broken', err: error }, 'the intake log cannot be written any more');
    });
  }
}
