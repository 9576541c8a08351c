/** What an account may hold: its own word, its domain's, the site's. */
import { Fault } from '../../base/fault.ts';
import { type DomainLimits, quotaWithin } from '../../cluster-protocol/domains.ts';
import { addressParts } from '../../cluster-protocol/ids.ts';
import type { BackendSettings } from '../settings.ts';
import type { StoreLimits } from '../store/store.ts';
import type { AccountFile } from './account-files.ts';
import type { QuotaChange } from './accounts.ts';

const folderNameBytesMax = 1000;

export class Quotas {
  readonly #settings: BackendSettings;
  readonly #domainLimits: ((domain: string) => DomainLimits) | undefined;

  constructor(settings: BackendSettings, domainLimits: ((domain: string) => DomainLimits) | undefined) {
    this.#settings = settings;
    this.#domainLimits = domainLimits;
  }

  /** 0: no limit. */
  of(file: AccountFile): { bytes: number; messages: number } {
    const domain = this.#domainLimits?.(addressParts(file.address).domain);
    const site = this.#settings;
    return {
      bytes: quotaWithin(file.quotaBytes, domain?.quotaBytes, site['account.quota']),
      messages: quotaWithin(file.quotaMessages, domain?.quotaMessages, site['account.quota_messages']),
    };
  }

  said(file: AccountFile): { quotaBytes: number; quotaMessages: number } {
    const { bytes, messages } = this.of(file);
    return { quotaBytes: bytes, quotaMessages: messages };
  }

  limits(file: AccountFile): StoreLimits {
    return {
      messageBytesMax: this.#settings['account.message_size_max'],
      foldersMax: this.#settings['account.folders_max'],
      folderNameBytesMax,
      keywordsPerFolderMax: this.#settings['account.keywords_max'],
      ...this.said(file),
    };
  }
}

export function quotaFields(
  before: Pick<AccountFile, 'quotaBytes' | 'quotaMessages'>,
  { bytes, messages }: QuotaChange,
): Pick<AccountFile, 'quotaBytes' | 'quotaMessages'> {
  const next = (was: number | undefined, change: number | null | undefined): number | undefined => {
    if (change === undefined) return was;
    if (change === null) return undefined;
    if (Number.isSafeInteger(change) && change >= 0) return change;
    throw new Fault('bad-argument', 'a quota is a whole number; 0 for no limit');
  };
  return { quotaBytes: next(before.quotaBytes, bytes), quotaMessages: next(before.quotaMessages, messages) };
}
