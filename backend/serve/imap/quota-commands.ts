/** GETQUOTA and GETQUOTAROOT (RFC 9208): one root with the empty name, the account, where it has a limit. */
import type { ImapSession } from './imap-session.ts';
import type { CommandCall } from './session-options.ts';

export function getQuota(session: ImapSession, { cursor }: CommandCall): string {
  cursor.space();
  const root = cursor.astring();
  cursor.end();
  const answer = root === '' ? quotaAnswer(session) : undefined;
  if (answer === undefined) return 'NO [NONEXISTENT] No such quota root';
  session.untagged(answer);
  return 'OK GETQUOTA completed';
}

export async function getQuotaRoot(session: ImapSession, { cursor }: CommandCall): Promise<string> {
  cursor.space();
  const name = session.nameFrom(cursor.astring());
  cursor.end();
  await session.account.store.folder(name);
  const answer = quotaAnswer(session);
  session.untagged(`* QUOTAROOT ${session.nameFor(name)}${answer === undefined ? '' : ' ""'}`);
  if (answer !== undefined) session.untagged(answer);
  return 'OK GETQUOTAROOT completed';
}

/** Limits are the admin's. */
export function setQuota(): string {
  return 'NO [NOPERM] Quotas are set by the administrator';
}

/** `undefined`: the account has no limit. STORAGE counts units of 1,024 bytes (RFC 9208 5.1). */
function quotaAnswer(session: ImapSession): string | undefined {
  const { usage, limits } = session.account.store;
  const resources: string[] = [];
  if (limits.quotaBytes > 0) {
    resources.push(`STORAGE ${Math.ceil(usage.bytes / 1024)} ${Math.floor(limits.quotaBytes / 1024)}`);
  }
  if (limits.quotaMessages > 0) resources.push(`MESSAGE ${usage.messages} ${limits.quotaMessages}`);
  return resources.length === 0 ? undefined : `* QUOTA "" (${resources.join(' ')})`;
}
