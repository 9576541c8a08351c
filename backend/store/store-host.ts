/** What the parts of one open account share: the right to act, the journal, the one lane of changes. */
import type { Log } from '../../base/log.ts';
import type { DeliveryKeys } from './delivery-keys.ts';
import type { AccountIntake } from './intake/account-intake.ts';
import type { Journal } from './journal.ts';
import type { Lane } from './lane.ts';
import type { Operations } from './operations.ts';
import type { FolderFormat, Guard, StoreLimits } from './store.ts';

export interface StoreHost {
  /** `…/Maildir` */
  readonly maildir: string;
  readonly guard: Guard;
  readonly limits: StoreLimits;
  readonly log: Log;
  readonly lane: Lane;
  readonly journal: Journal;
  readonly keys: DeliveryKeys;
  readonly operations: Operations;
  /** Of folders to come. */
  readonly format: FolderFormat;
  /** Where small messages go first. */
  readonly intake: AccountIntake | undefined;
  /** fsync a directory after renames in it. */
  readonly dirsync: boolean;
  readonly usage: { bytes: number; messages: number };
  /** @throws {Fault} when the account was taken out or may not be acted for. */
  check(): void;
  /** Like `check`, for work behind an answer, which goes on while the account closes. */
  mayFinish(): void;
  /**
   * Turns an error into a fault; one that leaves memory and disk apart (a failed sync, a lost lease after the
   * write) takes the account out.
   */
  failed(error: unknown, what: string): unknown;
  /** Takes the account out: memory and disk may say different things. */
  breakOff(error: unknown): void;
  /** Runs a change in the lane; errors come out as `failed` words them. */
  change<T>(what: string, work: () => Promise<T>): Promise<T>;
  /** For what must not stop halfway: any error takes the account out. */
  orBreak(work: () => Promise<void>): Promise<void>;
  /** Work that goes on after the answer; `close` waits for it. */
  background(work: Promise<void>): void;
}
