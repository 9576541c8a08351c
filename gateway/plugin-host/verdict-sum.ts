/** What the answers of several plugins come to: one refuses or accepts and decides; what the others add is kept. */
import type { FieldMatch, Verdict } from '../plugins/api.ts';
import type { ChainVerdict } from './chain.ts';

/** Longest an answer is held back, however many plugins ask for it. */
export const throttleSumMsMax = 30_000;

export class VerdictSum {
  decided: ChainVerdict | undefined;
  delayMs = 0;
  readonly #headers: (readonly [string, string])[] = [];
  readonly #dropFields: FieldMatch[] = [];
  #score: number | undefined;
  #quarantinedBy: { readonly plugin: string; readonly log: string | undefined } | undefined;

  /** @returns true when this verdict decides, and nobody else need be asked. */
  add(plugin: string, verdict: Verdict): boolean {
    this.#headers.push(...(verdict.headers ?? []));
    this.#dropFields.push(...(verdict.dropFields ?? []));
    if (verdict.score !== undefined) this.#score = (this.#score ?? 0) + verdict.score;
    if (verdict.quarantine) this.#quarantinedBy ??= { plugin, log: verdict.log };
    if (verdict.word === 'pass') return false;
    if (verdict.word === 'throttle') {
      this.delayMs = Math.min(this.delayMs + (verdict.delayMs ?? 0), throttleSumMsMax);
      return false;
    }
    this.decided = { ...verdict, plugin };
    return true;
  }

  get refused(): boolean {
    return this.decided !== undefined && this.decided.word !== 'accept';
  }

  verdict(): ChainVerdict {
    const score = this.#score === undefined ? {} : { score: this.#score };
    if (this.refused) {
      const { headers: _headers, dropFields: _dropFields, quarantine: _quarantine, ...bare } = this.decided!;
      return { ...bare, ...score };
    }
    const by = this.#quarantinedBy;
    return {
      ...(this.decided ?? { word: 'pass', plugin: by?.plugin }),
      ...(by?.log === undefined || this.decided !== undefined ? {} : { log: by.log }),
      ...(this.#headers.length === 0 ? {} : { headers: this.#headers }),
      ...(this.#dropFields.length === 0 ? {} : { dropFields: this.#dropFields }),
      ...(by === undefined ? {} : { quarantine: true }),
      ...score,
    };
  }
}
