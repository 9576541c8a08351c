/** A rename that a crash interrupts is finished once, and never again. */
import { expect, test } from '@jest/globals';
import type { Guard } from '../../../backend/store/store.ts';
import { Fault } from '../../../base/fault.ts';
import { makeBench, put } from './store-fixture.ts';

/** The lease is lost at the n-th look at it. */
function failingGuard(epoch: number, looks: number): Guard {
  let left = looks;
  return {
    epoch,
    assert() {
      if (--left < 0) throw new Fault('lease-lost', 'lost');
    },
  };
}

test('a name that was renamed away may be used again, whenever the owner was lost', async () => {
  for (let looks = 1; looks <= 40; looks++) {
    const bench = await makeBench();
    try {
      const first = await bench.open({ epoch: 1 });
      await put(await first.createFolder('B/y'), 'Subject: old\r\n\r\nx\r\n');
      await first.close();
      const broken = await bench.open({ guard: failingGuard(2, looks) }).catch(() => undefined);
      const renamed = await broken?.renameFolder('B/y', 'B').then(
        () => true,
        () => false,
      );
      await broken?.close();
      // The next owner finishes it, or finds it undone; then the old name is used again.
      const third = await bench.open({ epoch: 3 });
      const names = third.listFolders().map((folder) => folder.name);
      if (renamed) expect(names).toContain('B');
      const finished =
        names.includes('B') && third.listFolders().find(({ name }) => name === 'B')?.selectable;
      if (finished) {
        expect((await third.folder('B')).count).toBe(1);
        await third.createFolder('B/y');
        await third.deleteFolder('B');
      }
      await third.close();
      const fourth = await bench.open({ epoch: 4 });
      expect((await fourth.folder('B/y')).count).toBe(finished ? 0 : 1);
      await fourth.close();
    } finally {
      await bench.remove();
    }
  }
});
