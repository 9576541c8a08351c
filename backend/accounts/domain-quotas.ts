/** What the registry says accounts of a domain may hold, as it is now: only domains with a limit take memory. */
import type { Log } from '../../base/log.ts';
import { type DomainLimits, decodeDomain } from '../../cluster-protocol/domains.ts';
import { follow } from '../../cluster-protocol/registry/follow.ts';
import { type Registry, registryKey } from '../../cluster-protocol/registry.ts';

const none: DomainLimits = {};

export class DomainQuotas {
  readonly #limits = new Map<string, DomainLimits>();
  /** Told which domains changed. */
  onChange: (domains: ReadonlySet<string>) => void = () => {};

  /** Settles when the domains were read once: before that nobody knows what an account may hold. */
  static async follow(registry: Registry, log: Log, signal: AbortSignal): Promise<DomainQuotas> {
    const quotas = new DomainQuotas();
    await new Promise<void>((resolve) => {
      const nameIn = (key: string): string => key.slice(registryKey.domainPrefix.length);
      follow(
        registry,
        [registryKey.domainPrefix],
        {
          reset(entries) {
            const changed = new Set(quotas.#limits.keys());
            quotas.#limits.clear();
            for (const { key, value } of entries) {
              quotas.#put(nameIn(key), value);
              if (quotas.#limits.has(nameIn(key))) changed.add(nameIn(key));
            }
            quotas.onChange(changed);
            resolve();
          },
          event({ kind, key, value }) {
            if (kind === 'put') quotas.#put(nameIn(key), value);
            else quotas.#limits.delete(nameIn(key));
            quotas.onChange(new Set([nameIn(key)]));
          },
          trouble: (error) =>
            log.warn({ event: 'domains-not-read', err: error }, 'domains could not be read'),
        },
        signal,
      );
    });
    return quotas;
  }

  of(domain: string): DomainLimits {
    return this.#limits.get(domain) ?? none;
  }

  #put(name: string, text: string): void {
    const limits = decodeDomain(name, text);
    if (limits.quotaBytes === undefined && limits.quotaMessages === undefined) this.#limits.delete(name);
    else this.#limits.set(name, limits);
  }
}
