/** What a store holds, said the way the Dovecot rig says what Dovecot shows. */
import { type Folder, flagBit, type Store } from '../../../../backend/store/store.ts';
import { encodeModifiedUtf7 } from '../../../../mailwire/modified-utf7.ts';
import { textOf } from '../store-fixture.ts';
import type { SeenFolder } from './dovecot-rig.ts';

export const words = ['\\Answered', '\\Deleted', '\\Draft', '\\Flagged', '\\Seen'] as const;
const bits = [flagBit.answered, flagBit.deleted, flagBit.draft, flagBit.flagged, flagBit.seen] as const;

/** A folder as Dovecot's rig would say it. */
export async function see(folder: Folder): Promise<SeenFolder> {
  const messages = [];
  for (const uid of folder.uids()) {
    const { flags, keywords, internalDateMs, size } = folder.facts(uid)!;
    messages.push({
      uid,
      flags: [...words.filter((_, index) => flags & bits[index]!), ...keywords].sort(),
      seconds: internalDateMs / 1000,
      size,
      text: await textOf(folder, uid),
    });
  }
  return { uidValidity: folder.uidValidity, uidNext: folder.uidNext, messages };
}

export async function seeAll(store: Store): Promise<Record<string, SeenFolder>> {
  const all: Record<string, SeenFolder> = {};
  for (const { name, selectable } of store.listFolders()) {
    if (selectable) all[wireName(name)] = await see(await store.folder(name));
  }
  return all;
}

/** Modified UTF-7, `.` between levels. */
export const wireName = (name: string): string =>
  name
    .split('/')
    .map((level) => encodeModifiedUtf7(level, '.'))
    .join('.');
