/** A domain as it stands in the registry, under `domain/<name>`, and what its limits mean for an account. Pure. */

export interface DomainLimits {
  /** Bytes an account of the domain may hold; absent: the site's default; 0: no limit. */
  readonly quotaBytes?: number;
  /** Messages, likewise. */
  readonly quotaMessages?: number;
  /** Accounts there may be; absent or 0: no limit. */
  readonly accountsMax?: number;
}

export interface DomainRecord extends DomainLimits {
  readonly name: string;
}

const limitNames = ['quotaBytes', 'quotaMessages', 'accountsMax'] as const;

export function formatDomain(record: DomainRecord): string {
  return JSON.stringify(record);
}

/** What is not readable has no limits: it is a domain all the same. */
export function decodeDomain(name: string, text: string): DomainRecord {
  let raw: Record<string, unknown> = {};
  try {
    raw = (JSON.parse(text) ?? {}) as Record<string, unknown>;
  } catch {
    // Then there is its name.
  }
  const limits: { -readonly [K in keyof DomainLimits]: DomainLimits[K] } = {};
  for (const key of limitNames) {
    const value = raw[key];
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) limits[key] = value;
  }
  return { name, ...limits };
}

/** What admins ask for; `null`: as if it had never been said. */
export interface DomainLimitChange {
  readonly bytes?: number | null;
  readonly messages?: number | null;
  readonly accounts?: number | null;
}

export function changedDomain(record: DomainRecord, change: DomainLimitChange): DomainRecord {
  const next: Record<string, unknown> = { ...record };
  const put = (key: string, value: number | null | undefined): void => {
    if (value === null) delete next[key];
    else if (value !== undefined) next[key] = value;
  };
  put('quotaBytes', change.bytes);
  put('quotaMessages', change.messages);
  put('accountsMax', change.accounts);
  return next as unknown as DomainRecord;
}

/**
 * What an account may hold: its own quota, else the domain's, else the site's; and never more than the domain's.
 * @param own  Absent: it has none of its own. 0 is no limit, everywhere.
 */
export function quotaWithin(own: number | undefined, domain: number | undefined, site: number): number {
  const wanted = own ?? domain ?? site;
  if (!domain) return wanted;
  return wanted === 0 ? domain : Math.min(wanted, domain);
}
