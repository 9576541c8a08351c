/** Looks at an account after a crash: every message there, whole. What it means is the model's to say. */
import { expect } from '@jest/globals';
import type { Store } from '../../../backend/store/store.ts';
import type { Found } from './crash-model.ts';
import { textOf } from './store-fixture.ts';

export async function look(store: Store): Promise<Found[]> {
  const found: Found[] = [];
  for (const { name } of store.listFolders()) {
    const folder = await store.folder(name);
    for (const uid of folder.uids()) {
      const text = await textOf(folder, uid);
      const id = Number(/^id:(\d+)\r\n/.exec(text)?.[1]);
      expect(text).toBe(`id:${id}\r\n`.padEnd(id % 13 === 0 ? 400_000 : 300, 'x'));
      expect(folder.facts(uid)!.size).toBe(text.length);
      found.push({ folder: name, uid, id, flags: folder.flagsOf(uid)! });
    }
  }
  return found;
}
