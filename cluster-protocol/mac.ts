/**
 * HMAC-SHA-256 (RFC 2104) under keys that are used for every login: the two hash
 * calls it is made of, with the padded key kept. Node's Hmac object costs five
 * times as much for texts this short.
 */
import { hash } from 'node:crypto';

const blockBytes = 64;

interface PaddedKey {
  readonly inner: Buffer;
  readonly outer: Buffer;
}

const padded = new WeakMap<Buffer, PaddedKey>();

/** @returns 64 hex digits. The key must not be changed afterwards. */
export function macOf(key: Buffer, text: string): string {
  let pads = padded.get(key);
  if (pads === undefined) {
    pads = padsOf(key);
    padded.set(key, pads);
  }
  const inside = hash('sha256', Buffer.concat([pads.inner, Buffer.from(text)]), 'buffer');
  return hash('sha256', Buffer.concat([pads.outer, inside]), 'hex');
}

function padsOf(key: Buffer): PaddedKey {
  const block = Buffer.alloc(blockBytes);
  (key.length > blockBytes ? hash('sha256', key, 'buffer') : key).copy(block);
  return {
    inner: block.map((byte) => byte ^ 0x36) as Buffer,
    outer: block.map((byte) => byte ^ 0x5c) as Buffer,
  };
}
