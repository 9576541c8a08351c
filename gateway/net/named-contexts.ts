/** Which certificate a client is shown, by the name it asks for: an exact one before a wildcard, a later one before an earlier. */
import type { SecureContext } from 'node:tls';
import { type CertificatePair, namesOf } from './certificate-pair.ts';

export class NamedContexts {
  readonly #byName = new Map<string, CertificatePair>();
  readonly #made = new Map<CertificatePair, SecureContext>();
  readonly #make: (pair: CertificatePair) => SecureContext;
  /** For Node: `undefined` leaves the default context in use. */
  readonly callback = (
    serverName: string,
    done: (error: Error | null, context?: SecureContext) => void,
  ): void => done(null, this.contextFor(serverName));

  /** @param make  Called when a certificate is first asked for: ten thousand of them cost nothing until then. */
  constructor(pairs: readonly CertificatePair[], make: (pair: CertificatePair) => SecureContext) {
    this.#make = make;
    for (const pair of pairs) for (const name of namesOf(pair.cert)) this.#byName.set(name, pair);
  }

  get isEmpty(): boolean {
    return this.#byName.size === 0;
  }

  contextFor(serverName: string | undefined): SecureContext | undefined {
    if (serverName === undefined || serverName === '') return undefined;
    const name = serverName.toLowerCase();
    const dot = name.indexOf('.');
    // RFC 6125 6.4.3: a wildcard stands for one label, the leftmost.
    const pair = this.#byName.get(name) ?? (dot < 0 ? undefined : this.#byName.get(`*${name.slice(dot)}`));
    if (pair === undefined) return undefined;
    let context = this.#made.get(pair);
    if (context === undefined) {
      context = this.#make(pair);
      this.#made.set(pair, context);
    }
    return context;
  }
}
