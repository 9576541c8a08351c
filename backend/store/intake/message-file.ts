/**
 * The file of a message that the intake log has: made without a sync, and made
 * durable later, under whatever name it has by then.
 */
import fs from 'node:fs';
import { errnoOf } from '../../../base/fault.ts';
import { closeLater, fullSync, listDirectory, openFile } from '../files.ts';
import type { MaildirFolder } from '../maildir-folder.ts';
import { parseMessageName } from '../message-name.ts';

/** Makes the file of a message, not durably: under its name there is all of it or nothing, as long as the machine lives. */
export async function makeFile(
  temporary: string,
  target: string,
  bytes: Buffer,
  seconds: number | undefined,
  check: () => void,
): Promise<void> {
  check();
  await new Promise<void>((resolve, reject) => {
    fs.open(temporary, 'wx', 0o600, (failure, fd) => {
      if (failure) {
        reject(failure);
        return;
      }
      const fail = (error: unknown): void => {
        closeLater(fd);
        fs.unlink(temporary, () => reject(error));
      };
      const finish = (): void => {
        closeLater(fd);
        try {
          check();
        } catch (error) {
          fs.unlink(temporary, () => reject(error));
          return;
        }
        fs.rename(temporary, target, (error) => {
          if (error) fs.unlink(temporary, () => reject(error));
          else resolve();
        });
      };
      const more = (written: number): void => {
        fs.write(fd, bytes, written, bytes.length - written, written, (error, count) => {
          if (error) fail(error);
          else if (written + count < bytes.length) more(written + count);
          else if (seconds === undefined) finish();
          else fs.futimes(fd, seconds, seconds, (late) => (late ? fail(late) : finish()));
        });
      };
      if (bytes.length > 0) more(0);
      else finish();
    });
  });
}

/** fsync of a message's file, under whatever name it has now. */
export async function syncFile(folder: MaildirFolder, uid: number): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    const at = folder.state.columns.find(uid);
    // Expunged: nobody needs it any more.
    if (at < 0) return;
    let name: string | undefined = folder.state.columns.nameOf(at);
    if (attempt === 2) {
      const names = await listDirectory(`${folder.directory}/cur`);
      name = names.find((text) => parseMessageName(text)?.uid === uid);
      // Another program took it away.
      if (name === undefined) return;
    }
    try {
      const fd = await openFile(folder.file(name), 'r+');
      try {
        await fullSync(fd);
        return;
      } finally {
        closeLater(fd);
      }
    } catch (error) {
      // Renamed meanwhile, by the showing of flags or by another program.
      if (errnoOf(error) !== 'ENOENT' || attempt >= 2) throw error;
    }
  }
}

/** A small part of a large buffer would keep all of it in memory. */
export function compact(bytes: Buffer): Buffer {
  if (bytes.buffer.byteLength <= 2 * bytes.length + 1024) return bytes;
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  bytes.copy(copy);
  return copy;
}
