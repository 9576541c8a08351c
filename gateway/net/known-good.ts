/**
 * Networks that logged in or delivered mail lately: they come in while newcomers
 * are turned away. Bounded; the network that was good longest ago is forgotten
 * first. One gateway's own memory: a new process knows nobody, which is why
 * newcomers are kept out of the last places only.
 */
const networksMax = 50_000;
export const goodForMs = 3 * 24 * 60 * 60 * 1000;

export class KnownGood {
  readonly #max: number;
  /** When it was last good; the longest ago first. */
  readonly #lastMs = new Map<string, number>();

  constructor(max = networksMax) {
    this.#max = max;
  }

  get size(): number {
    return this.#lastMs.size;
  }

  add(network: string, nowMs: number): void {
    this.#lastMs.delete(network);
    this.#lastMs.set(network, nowMs);
    if (this.#lastMs.size <= this.#max) return;
    const [oldest] = this.#lastMs.keys();
    this.#lastMs.delete(oldest!);
  }

  has(network: string, nowMs: number): boolean {
    const lastMs = this.#lastMs.get(network);
    return lastMs !== undefined && nowMs - lastMs < goodForMs;
  }
}
