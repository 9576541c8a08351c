/**
 * When a gateway is under stress, and when it has nothing to spare (CASES 61,
 * 114). Pure: readings in, the next state out. Both states are entered at once
 * or nearly so, and left only when readings have been well below the mark for a
 * while, so that a flood at the mark does not switch them with every second.
 */

export interface StressReading {
  /** Connections now, as a share of the cap: 0 to 1. */
  readonly share: number;
  /** The share at which stress begins. */
  readonly shareMark: number;
  /** How late the event loop has been since the last reading (99th percentile). */
  readonly lagMs: number;
}

export interface StressState {
  readonly stressed: boolean;
  /** Readings in a row that speak for the other state. */
  readonly against: number;
}

export const calm: StressState = { stressed: false, against: 0 };

/** A late event loop counts when it stays late: one collection of garbage is no flood. */
export const lagMarkMs = 250;
const lagReadings = 3;
/** Readings in a row that end it. */
export const calmReadings = 10;
/** Of the marks, to count as a calm reading. */
const calmFactor = 0.7;

export function nextStress(state: StressState, { share, shareMark, lagMs }: StressReading): StressState {
  if (state.stressed) {
    const quiet = share <= shareMark * calmFactor && lagMs <= lagMarkMs * calmFactor;
    const against = quiet ? state.against + 1 : 0;
    return against >= calmReadings ? calm : { stressed: true, against };
  }
  const against = lagMs >= lagMarkMs ? state.against + 1 : 0;
  if (share >= shareMark || against >= lagReadings) return { stressed: true, against: 0 };
  return { stressed: false, against };
}

export interface ReserveReading {
  readonly descriptorsLeft: number;
  readonly memoryBytes: number;
  readonly memoryBytesMark: number;
}

/** Kept for links, spool files and scanners: sessions that are open need them. */
export const descriptorsReserve = 64;

/** Is it down to its reserve, so that nobody new may come in? */
export function isSpent(was: boolean, reading: ReserveReading): boolean {
  const { descriptorsLeft, memoryBytes, memoryBytesMark } = reading;
  if (!was) return descriptorsLeft < descriptorsReserve || memoryBytes >= memoryBytesMark;
  return descriptorsLeft < 2 * descriptorsReserve || memoryBytes > 0.95 * memoryBytesMark;
}
