/** The network between the nodes of a play: cuts by direction, losses, delays, doubles. */
import type { Random } from './random.ts';
import type { Timeline } from './timeline.ts';

interface Cut {
  readonly from: string;
  readonly to: string;
  readonly untilMs: number;
}

export class Network {
  readonly #timeline: Timeline;
  readonly #random: Random;
  #noise: number;
  #cuts: Cut[] = [];
  readonly #lossyUntilMs = new Map<string, number>();

  constructor(timeline: Timeline, random: Random, noisePerMille: number) {
    this.#timeline = timeline;
    this.#random = random;
    this.#noise = noisePerMille / 1000;
  }

  cut(from: string, to: string, ms: number): void {
    this.#cuts.push({ from, to, untilMs: this.#timeline.nowMs + ms });
  }

  lossy(node: string, ms: number): void {
    this.#lossyUntilMs.set(node, this.#timeline.nowMs + ms);
  }

  /** Everything works from now on. */
  heal(): void {
    this.#cuts = [];
    this.#lossyUntilMs.clear();
    this.#noise = 0;
  }

  /** When what is sent now can arrive at the earliest: later than now while there is a cut. */
  opensAtMs(from: string, to: string): number {
    const { nowMs } = this.#timeline;
    let opensMs = nowMs;
    for (const cut of this.#cuts)
      if (cut.from === from && cut.to === to && cut.untilMs > opensMs) opensMs = cut.untilMs;
    return opensMs;
  }

  isCut(from: string, to: string): boolean {
    return this.#cuts.length > 0 && this.opensAtMs(from, to) > this.#timeline.nowMs;
  }

  delayMs(): number {
    return this.#noise > 0 && this.#random.chance(this.#noise)
      ? this.#random.between(50, 3500)
      : this.#random.between(0.5, 10);
  }

  /** `arrive` runs once, twice or never. */
  send(from: string, to: string, arrive: () => void): void {
    this.#once(from, to, arrive);
    if (this.#noise > 0 && this.#random.chance(this.#noise)) this.#once(from, to, arrive);
  }

  #once(from: string, to: string, arrive: () => void): void {
    if (this.isCut(from, to) || this.#isLost(from, to)) return;
    this.#timeline.after(this.delayMs(), () => {
      if (!this.isCut(from, to)) arrive();
    });
  }

  #isLost(from: string, to: string): boolean {
    if (this.#noise > 0 && this.#random.chance(this.#noise)) return true;
    if (this.#lossyUntilMs.size === 0) return false;
    const { nowMs } = this.#timeline;
    const isLossy = (node: string): boolean => (this.#lossyUntilMs.get(node) ?? 0) > nowMs;
    return (isLossy(from) || isLossy(to)) && this.#random.chance(0.3);
  }
}
