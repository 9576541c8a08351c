/** Files in the order of UIDs, whatever order the directory has them in. */
import { expect, test } from '@jest/globals';
import { orderOf } from '../../../backend/store/file-order.ts';
import type { NamedFile } from '../../../backend/store/folder-state.ts';

test('files come by UID, those with one UID by name, as a plain sort would have them', () => {
  let seed = 7;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  for (let round = 0; round < 200; round++) {
    const uidMax = round % 2 ? 20 : 0xfffffffe;
    const files = Array.from({ length: random(60) }, (_, index) => ({
      text: `${random(5)}.${index}`,
      name: { uid: 1 + random(uidMax) },
    })) as unknown as NamedFile[];
    const work = orderOf(files, 1 + (round % 9));
    let step = work.next();
    while (!step.done) step = work.next();
    const plain = files.toSorted((a, b) => a.name.uid - b.name.uid || (a.text < b.text ? -1 : 1));
    expect([...step.value].map((index) => files[index]!.text)).toEqual(plain.map(({ text }) => text));
  }
});
