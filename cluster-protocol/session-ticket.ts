/**
 * What lets a gateway take a session up again at another backend without the
 * client's password: a word of the backend that checked the login, under a
 * secret that backends read from the registry and gateways do not use. It names
 * the account and the session, and ends; sessions that last get new ones.
 */
import { timingSafeEqual } from 'node:crypto';
import type { Address } from './ids.ts';
import { macOf } from './mac.ts';

/** How long a ticket is good. Sessions get a new one when half of it has passed. */
export const ticketMs = 24 * 3_600_000;
/** How far the clocks of two members may be apart. */
const skewMs = 5 * 60_000;

export interface SessionTicket {
  /** 16 hex digits, one per login. */
  readonly session: string;
  /** Wall clock, ms since 1970. */
  readonly untilMs: number;
  /** 32 hex digits. */
  readonly mac: string;
}

/** @param secret  Of the cluster: `registryKey.sessionSecret`. */
export function makeTicket(secret: Buffer, account: Address, session: string, nowMs: number): SessionTicket {
  const untilMs = Math.floor(nowMs + ticketMs);
  return { session, untilMs, mac: ticketMac(secret, account, session, untilMs) };
}

/** Is it a ticket of this cluster for this account, and has it not run out? */
export function ticketIsGood(
  secret: Buffer,
  account: Address,
  ticket: SessionTicket,
  nowMs: number,
): boolean {
  const { session, untilMs, mac } = ticket;
  if (!(untilMs > nowMs - skewMs && untilMs <= nowMs + ticketMs + skewMs)) return false;
  const wanted = Buffer.from(ticketMac(secret, account, session, untilMs));
  const given = Buffer.from(mac);
  return wanted.length === given.length && timingSafeEqual(wanted, given);
}

function ticketMac(secret: Buffer, account: Address, session: string, untilMs: number): string {
  return macOf(secret, `session\n${account}\n${session}\n${untilMs}`).slice(0, 32);
}
