/** What the parts of the intake say to each other: its limits, and a message on its way from the log to its file. */
import type { MaildirFolder } from '../maildir-folder.ts';
import type { IntakeLogLimits, NewRecord, Segment } from './intake-log.ts';

export interface IntakeLimits extends IntakeLogLimits {
  /** Larger messages go to a file of their own at once. */
  readonly messageBytesMax: number;
  /** Bytes held in memory for messages without a file. */
  readonly heldBytesMax: number;
}

export const intakeLimits: IntakeLimits = {
  segmentBytes: 8 * 1024 * 1024,
  segmentsMax: 16,
  messageBytesMax: 256 * 1024,
  heldBytesMax: 32 * 1024 * 1024,
};

export interface IntakeEntry {
  readonly seq: number;
  readonly segment: Segment;
  readonly account: string;
  readonly folder: MaildirFolder;
  readonly uid: number;
  /** Until there is a file. */
  bytes: Buffer | undefined;
  /**
   * - `written`: not acknowledged yet. `waiting`, `making`: no file yet. `made`: there is one, not durable.
   * - `stuck`: the account was taken out; whoever opens it next finds it in the log.
   */
  state: 'written' | 'waiting' | 'making' | 'made' | 'stuck' | 'settled';
}

/** A message that has its name. */
export interface NamedMessage extends NewRecord {
  readonly uid: number;
}
