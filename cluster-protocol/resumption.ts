/**
 * What becomes of a session whose stream has ended: decided here from the facts,
 * so that gateway and tests cannot see it differently. The gateway asks what it
 * may do; the backend that takes the session up is told the same facts.
 */
import { Fault } from '../base/fault.ts';
import type { Reached } from './session-marks.ts';

/** How the stream under a session ended. */
export type StreamEnd =
  /** At a command boundary, by an owner that hands the session over. */
  | 'moved'
  /** In order: the session is over (LOGOUT, BYE). */
  | 'over'
  /** The backend or the link has gone. */
  | 'lost';

export interface SessionFacts {
  readonly end: StreamEnd;
  /** There is a checkpoint, and all the client's bytes behind it are still here. */
  readonly whole: boolean;
  readonly reached: Reached;
  /** The client has closed its side. */
  readonly clientGone: boolean;
  /** How long the client has read nothing of what was written to it. */
  readonly stalledMs: number;
  /** Owners that went with the commands that are kept, before this one. */
  readonly tries: number;
}

/** A client that reads nothing for so long was given up by its owner. */
const stalledMsMax = 60_000;
/** Commands that end their session at so many owners are not taken to another. */
const triesMax = 3;

export type Next =
  /** Take it up behind the checkpoint, with the client's bytes that came after it. */
  | { readonly do: 'resume' }
  | { readonly do: 'close'; readonly reason: NotResumed | 'ended' }
  /** Say why on a line, then close. */
  | { readonly do: 'say-goodbye'; readonly reason: NotResumed };

/** Why a session was not resumed; a label of the gateway's metrics. */
export type NotResumed =
  /** The connection would have to go on in the middle of an answer. */
  | 'mid-answer'
  /** No checkpoint yet, more client bytes behind it than are kept, or a state too long to travel. */
  | 'no-checkpoint'
  /** Nobody owned the account for as long as clients wait. */
  | 'no-owner'
  /** The client reads nothing. */
  | 'stalled'
  /** What the client sent has ended its session again and again. */
  | 'no-progress'
  /** The new owner cannot rebuild what the client sees: the folder is gone, or its history does not reach back. */
  | 'refused';

/** What a gateway does about a session whose stream has ended. */
export function afterStreamEnd(facts: SessionFacts): Next {
  const { end, whole, reached, clientGone, stalledMs, tries } = facts;
  if (end === 'over') return { do: 'close', reason: 'ended' };
  if (clientGone) return { do: 'close', reason: 'ended' };
  if (stalledMs > stalledMsMax) return { do: 'close', reason: 'stalled' };
  if (reached === 'middle') return { do: 'close', reason: 'mid-answer' };
  if (!whole) return { do: 'say-goodbye', reason: 'no-checkpoint' };
  if (tries >= triesMax) return { do: 'say-goodbye', reason: 'no-progress' };
  return { do: 'resume' };
}

/** What the backend that takes a session up is told besides its state. */
export interface Taking {
  /** The client has lines of the answer to the first command behind the checkpoint: it is answered NO, not run. */
  readonly answered: boolean;
  /** Continuation requests the client has got since the checkpoint: they are not sent again. */
  readonly continuations: number;
  /** Client bytes from the login to the checkpoint. */
  readonly offset: number;
  /** Bytes behind the checkpoint that the old owner may have run commands of: the first so many of the new stream. */
  readonly replayedBytes: number;
}

/** `1,0,2210,117`, as in `linkHeader.taking`. */
export function formatTaking({ answered, continuations, offset, replayedBytes }: Taking): string {
  return `${answered ? 1 : 0},${continuations},${offset},${replayedBytes}`;
}

/** @throws {Fault} `bad-syntax` */
export function parseTaking(text: string): Taking {
  const found = /^([01]),(\d{1,9}),(\d{1,15}),(\d{1,15})$/.exec(text);
  if (found === null) throw new Fault('bad-syntax', 'the facts of a resumed session are malformed');
  return {
    answered: found[1] === '1',
    continuations: Number(found[2]),
    offset: Number(found[3]),
    replayedBytes: Number(found[4]),
  };
}
