/** Real mail at Postern and at the real Dovecot: what FETCH, SEARCH, SORT and THREAD say of it is the same. */
import { expect, test } from '@jest/globals';
import { compareWithDovecot } from './twin-answers.ts';

test('every fortieth message of the corpus is answered as Dovecot answers it', async () => {
  const { messages, differences } = await compareWithDovecot(40);
  expect(differences).toEqual([]);
  expect(messages).toBeGreaterThan(140);
}, 120_000);
