/** Secrets all members of a cluster share: made by whoever asks first, kept in the registry. */
import { hkdfSync, randomBytes } from 'node:crypto';
import { Fault } from '../base/fault.ts';
import { type Registry, registryKey } from './registry.ts';

/** @throws {Fault} `registry-failed` */
export async function secretOf(registry: Registry, key: string): Promise<Buffer> {
  const put = { put: key, value: randomBytes(32).toString('base64') };
  if ((await registry.get(key)) === undefined) await registry.transact([{ key, is: 'absent' }], [put]);
  const entry = await registry.get(key);
  if (entry === undefined) throw new Fault('registry-failed', 'the registry lost a secret');
  return Buffer.from(entry.value, 'base64');
}

/** How long one key is used for TLS session tickets. */
const ticketPeriodMs = 12 * 60 * 60_000;

/** @returns What gives the 48 bytes of the tickets' key of the moment, the same at every gateway (RFC 5077 5.5). */
export async function ticketKeysOf(
  registry: Registry,
  nowMs: () => number = Date.now,
): Promise<() => Buffer> {
  const secret = await secretOf(registry, registryKey.ticketSecret);
  let period = -1;
  let keys = Buffer.alloc(0);
  return () => {
    const now = Math.floor(nowMs() / ticketPeriodMs);
    if (now !== period) {
      period = now;
      keys = Buffer.from(hkdfSync('sha256', secret, '', `tls tickets ${now}`, 48));
    }
    return keys;
  };
}
