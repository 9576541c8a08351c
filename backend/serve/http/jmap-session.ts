/** The JMAP session resource (RFC 8620 2, RFC 8621 1.3). */
import { createHash } from 'node:crypto';
import type { Address } from '../../../cluster-protocol/ids.ts';
import { emailSortOptions } from './email-query.ts';
import { jmapLimits } from './jmap-limits.ts';
import { capability } from './jmap-methods.ts';

export function accountIdOf(address: Address): string {
  return `A${createHash('sha256').update(address).digest('hex').slice(0, 24)}`;
}

/** Nothing in the session changes while an account lives. */
export function sessionStateOf(address: Address): string {
  return createHash('sha256').update(`session 1 ${address}`).digest('hex').slice(0, 16);
}

/** @param authority  Host and port as the client asked. */
export function sessionResource(address: Address, authority: string): Record<string, unknown> {
  const accountId = accountIdOf(address);
  const base = `https://${authority}/jmap`;
  const { maxSizeRequest, maxConcurrentRequests, maxCallsInRequest, maxObjectsInGet } = jmapLimits;
  return {
    capabilities: {
      [capability.core]: {
        // Nothing can be uploaded or set yet: the limits say so.
        maxSizeUpload: 0,
        maxConcurrentUpload: 1,
        maxSizeRequest,
        maxConcurrentRequests,
        maxCallsInRequest,
        maxObjectsInGet,
        maxObjectsInSet: 0,
        collationAlgorithms: [],
      },
      [capability.mail]: {},
    },
    accounts: {
      [accountId]: {
        name: address,
        isPersonal: true,
        isReadOnly: true,
        accountCapabilities: {
          [capability.core]: {},
          [capability.mail]: {
            maxMailboxesPerEmail: null,
            maxMailboxDepth: null,
            maxSizeMailboxName: 255,
            maxSizeAttachmentsPerEmail: 0,
            emailQuerySortOptions: emailSortOptions,
            mayCreateTopLevelMailbox: false,
          },
        },
      },
    },
    primaryAccounts: { [capability.core]: accountId, [capability.mail]: accountId },
    username: address,
    apiUrl: `${base}/api`,
    downloadUrl: `${base}/download/{accountId}/{blobId}/{name}?accept={type}`,
    uploadUrl: `${base}/upload/{accountId}/`,
    eventSourceUrl: `${base}/eventsource/?types={types}&closeafter={closeafter}&ping={ping}`,
    state: sessionStateOf(address),
  };
}
