/** Messages of an mbox become files of a Maildir folder: bytes first, durably, then names. */
import {
  closeFile,
  dataSync,
  eachAtOnce,
  openFile,
  renameFile,
  setTimes,
  unlinkFile,
  writeAt,
} from './files.ts';
import { temporaryName } from './incoming.ts';
import type { MaildirFolder } from './maildir-folder.ts';
import { formatMessageName, type MessageName } from './message-name.ts';
import type { Brought } from './stored-folder.ts';

/** @returns the names in `cur/`, in order. On an error none of them is left there. */
export async function bringFiles(folder: MaildirFolder, messages: readonly Brought[]): Promise<string[]> {
  const names: string[] = [];
  folder.ownChanges++;
  try {
    await eachAtOnce([...messages.entries()], async ([index, message]) => {
      const temporary = `${folder.directory}/tmp/${temporaryName()}`;
      try {
        const name = await writeMessage(temporary, message);
        await renameFile(temporary, folder.file(name));
        names[index] = name;
      } catch (error) {
        await unlinkFile(temporary).catch(() => {});
        throw error;
      }
    });
    await folder.syncCur();
  } catch (error) {
    for (const name of names) if (name !== undefined) await unlinkFile(folder.file(name)).catch(() => {});
    throw error;
  }
  return names;
}

/** Writes a message into a new file, durably. @returns the name it is to have. */
export async function writeMessage(file: string, { name, pieces }: Brought): Promise<string> {
  const fd = await openFile(file, 'wx');
  try {
    let fileBytes = 0;
    for await (const piece of pieces()) {
      await writeAt(fd, piece, fileBytes);
      fileBytes += piece.length;
    }
    // Other Maildir programs take a file's time for the internal date.
    await setTimes(fd, name.seconds);
    await dataSync(fd);
    const given: MessageName = { ...name, fileBytes };
    return formatMessageName(given);
  } finally {
    await closeFile(fd);
  }
}
