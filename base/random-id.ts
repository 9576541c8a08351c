/** Ids that never meet another: drawn in one call for many, because each call costs more than what it is drawn for. */
import { randomFillSync } from 'node:crypto';

/** Enough that two never meet in one cluster's logs. */
const idBytes = 8;
const pool = Buffer.alloc(idBytes * 256);
let poolAt = pool.length;

/** 16 hex digits, not to be guessed. */
export function randomId(): string {
  if (poolAt === pool.length) {
    randomFillSync(pool);
    poolAt = 0;
  }
  poolAt += idBytes;
  return pool.toString('hex', poolAt - idBytes, poolAt);
}
