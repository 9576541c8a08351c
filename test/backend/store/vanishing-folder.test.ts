/** A folder that is deleted or renamed while others look into it: only they hear of it, the account stays. */
import { expect, test } from '@jest/globals';
import { isFault } from '../../../base/fault.ts';
import { makeBench, put, textOf } from './store-fixture.ts';

test.each(['delete', 'rename'] as const)(
  'looking into a folder during its %s takes no account out',
  async (what) => {
    const bench = await makeBench();
    try {
      const store = await bench.open();
      for (let round = 0; round < 30; round++) {
        const folder = await store.createFolder('Work');
        await put(folder, 'Subject: x\r\n\r\nx\r\n');
        const change =
          what === 'delete' ? store.deleteFolder('Work') : store.renameFolder('Work', `Old ${round}`);
        let over = false;
        const changed = change.finally(() => {
          over = true;
        });
        while (!over) {
          await folder.refresh().catch((error: unknown) => expect(isFault(error, 'gone')).toBe(true));
          await new Promise((resolve) => setImmediate(resolve));
        }
        await changed;
        expect(() => store.listFolders()).not.toThrow();
        if (what === 'rename') expect(await textOf(folder, 1)).toContain('Subject: x');
      }
      await store.close();
    } finally {
      await bench.remove();
    }
  },
);

test.each(['delete', 'rename'] as const)(
  'bringing messages into a folder during its %s takes no account out, and none that was answered is lost',
  async (what) => {
    const bench = await makeBench();
    try {
      const store = await bench.open();
      for (let round = 0; round < 15; round++) {
        const folder = await store.createFolder('Work');
        const change =
          what === 'delete' ? store.deleteFolder('Work') : store.renameFolder('Work', `Old ${round}`);
        let over = false;
        const changed = change.finally(() => {
          over = true;
        });
        let stored = 0;
        const bringing: Promise<void>[] = [];
        while (!over && bringing.length < 40) {
          bringing.push(
            put(folder, 'Subject: x\r\n\r\nx\r\n').then(
              () => void stored++,
              (error: unknown) => expect(isFault(error, 'gone')).toBe(true),
            ),
          );
          await new Promise((resolve) => setImmediate(resolve));
        }
        await changed;
        await Promise.all(bringing);
        expect(() => store.listFolders()).not.toThrow();
        if (what === 'rename') expect(folder.count).toBe(stored);
      }
      await store.close();
    } finally {
      await bench.remove();
    }
  },
);
