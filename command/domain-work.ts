/** Domains and their limits, as the supervisor does them: in the registry, with a record of who changed what. */
import { Fault } from '../base/fault.ts';
import { changeAndRecord } from '../cluster-protocol/change-history.ts';
import {
  changedDomain,
  type DomainLimitChange,
  type DomainRecord,
  decodeDomain,
  formatDomain,
} from '../cluster-protocol/domains.ts';
import { type Registry, registryKey } from '../cluster-protocol/registry.ts';
import type { Router } from '../gateway/routing/router.ts';
import { listAccounts } from './account-work.ts';
import { accountsPerPageMax } from './control.ts';

export async function listDomains(
  registry: Registry,
): Promise<{ domains: string[]; limits: DomainRecord[] }> {
  const { entries } = await registry.list(registryKey.domainPrefix);
  const limits = entries.map(({ key, value }) =>
    decodeDomain(key.slice(registryKey.domainPrefix.length), value),
  );
  return { domains: limits.map(({ name }) => name), limits };
}

/** @throws {Fault} `no-such-domain` */
export async function setDomainLimits(
  registry: Registry,
  { domain, by, ...change }: { readonly domain: string; readonly by: string } & DomainLimitChange,
): Promise<DomainRecord> {
  const key = registryKey.domain(domain);
  const wanted = {
    by,
    what: `limits of domain ${domain}`,
    key,
    after(before: string | undefined): string {
      if (before === undefined) throw noSuchDomain(domain);
      return formatDomain(changedDomain(decodeDomain(domain, before), change));
    },
  };
  await changeAndRecord(registry, wanted, Date.now());
  const entry = await registry.get(key);
  if (entry === undefined) throw noSuchDomain(domain);
  return decodeDomain(domain, entry.value);
}

/**
 * May there be one account more? Accounts that are being added at the same time are not counted.
 * @throws {Fault} `no-such-domain`, `limit-reached`
 */
export async function needAccountRoom(registry: Registry, router: Router, domain: string): Promise<void> {
  const entry = await registry.get(registryKey.domain(domain));
  if (entry === undefined) throw noSuchDomain(domain);
  const { accountsMax } = decodeDomain(domain, entry.value);
  if (!accountsMax) return;
  let count = 0;
  for (let after: string | undefined; count < accountsMax; ) {
    const page = await listAccounts(router, domain, after, Math.min(accountsPerPageMax, accountsMax - count));
    count += page.accounts.length;
    after = page.accounts.at(-1);
    if (!page.more || after === undefined) break;
  }
  if (count < accountsMax) return;
  throw new Fault(
    'limit-reached',
    `${domain} may have ${accountsMax} accounts and has them; see "postern domain quota ${domain} --accounts"`,
  );
}

export function noSuchDomain(domain: string): Fault {
  return new Fault(
    'no-such-domain',
    `${domain} is not a domain of this cluster; add it with "postern domain add ${domain}"`,
  );
}
