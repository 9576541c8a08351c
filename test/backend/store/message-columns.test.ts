import { expect, test } from '@jest/globals';
import { MessageColumns } from '../../../backend/store/message-columns.ts';

test('columns agree with a plain list through random additions, renames and removals', () => {
  let seed = 42;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  const columns = new MessageColumns();
  let rows: {
    uid: number;
    size: number;
    seconds: number;
    flags: number;
    modseq: number;
    keywordSet: number;
    name: string;
  }[] = [];
  let uid = 0;
  for (let step = 0; step < 3000; step++) {
    const choice = random(10);
    if (choice < 6 || rows.length === 0) {
      uid += 1 + random(3);
      const row = {
        uid,
        size: random(2 ** 31) * 8,
        seconds: random(2 ** 31),
        flags: random(32),
        modseq: step * 2 ** 22,
        keywordSet: random(100),
        name: `name-${'x'.repeat(random(150))}-${uid}`,
      };
      rows.push(row);
      columns.push(row);
    } else if (choice < 8) {
      const at = random(rows.length);
      rows[at]!.name = `renamed ${step}`;
      columns.setName(at, rows[at]!.name);
    } else {
      const held = columns.uids();
      const heldBefore = [...held];
      const indices = rows.flatMap((_, at) => (random(4) === 0 ? [at] : []));
      columns.remove(indices);
      rows = rows.filter((_, at) => !indices.includes(at));
      expect([...held]).toEqual(heldBefore);
    }
    if (step % 50 > 0) continue;
    expect([...columns.uids()]).toEqual(rows.map((row) => row.uid));
    for (const [at, row] of rows.entries()) {
      expect({
        uid: columns.uid[at],
        size: columns.size[at],
        seconds: columns.seconds[at],
        flags: columns.flags[at],
        modseq: columns.modseq[at],
        keywordSet: columns.keywordSet[at],
        name: columns.nameOf(at),
      }).toEqual(row);
      expect(columns.find(row.uid)).toBe(at);
    }
    for (let missing = 1; missing < uid; missing += 7) {
      if (!rows.some((row) => row.uid === missing)) expect(columns.find(missing)).toBe(-1);
    }
  }
});
