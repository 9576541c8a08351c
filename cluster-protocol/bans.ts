/**
 * Bans as they stand in the registry, under `ban/<network>`. The network is
 * canonical (`192.0.2.0/24`, `2001:db8::/32`); who spells it is told apart in
 * `gateway/net/`, where addresses are judged.
 */
import { registryKey } from './registry.ts';

/** Bans there may be at once: each gateway keeps all of them in memory. */
export const bansMax = 10_000;
/** Wider ones would shut out whole registries by a slip of the pen. */
export const banBitsMin = { ipv4: 8, ipv6: 32 } as const;

export interface Ban {
  readonly by: string;
  /** Milliseconds of the calendar. */
  readonly atMs: number;
  /** Absent: until it is removed. */
  readonly untilMs?: number;
  readonly why?: string;
}

export const banKey = (network: string): string => `${registryKey.banPrefix}${network}`;

/** `undefined` for what is no ban. */
export function decodeBan(text: string): Ban | undefined {
  try {
    const { by, atMs, untilMs, why } = JSON.parse(text) as Record<string, unknown>;
    return {
      by: typeof by === 'string' ? by : '',
      atMs: typeof atMs === 'number' ? atMs : 0,
      ...(typeof untilMs === 'number' ? { untilMs } : {}),
      ...(typeof why === 'string' ? { why } : {}),
    };
  } catch {
    return undefined;
  }
}
