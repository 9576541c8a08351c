import { createHmac, randomBytes } from 'node:crypto';
import { expect, test } from '@jest/globals';
import { macOf } from '../../cluster-protocol/mac.ts';

test('the MAC is the HMAC-SHA-256 of RFC 2104, for keys and texts of any length', () => {
  for (const keyBytes of [0, 1, 20, 32, 63, 64, 65, 131]) {
    const key = randomBytes(keyBytes);
    for (const text of ['', 'Hi There', 'Ω'.repeat(500)])
      expect(macOf(key, text)).toBe(createHmac('sha256', key).update(text).digest('hex'));
  }
  // RFC 4231, test case 2
  expect(macOf(Buffer.from('Jefe'), 'what do ya want for nothing?')).toBe(
    '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843',
  );
});
