/**
 * Small files that must be whole or absent after a power cut: written beside
 * their place, flushed, renamed over it, and the directory flushed too.
 */
import { open, rename, unlink } from 'node:fs/promises';
import path from 'node:path';

let sequence = 0;

/**
 * Replaces `file` by `content`, durably and at once.
 * @param mode  Permissions of the new file, e.g. 0o600 for keys.
 */
export async function writeDurably(file: string, content: string | Uint8Array, mode = 0o644): Promise<void> {
  const temporary = `${file}.${process.pid}.${++sequence}.tmp`;
  try {
    const handle = await open(temporary, 'wx', mode);
    try {
      await handle.chmod(mode); // the umask may have taken bits away
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
  } catch (error) {
    await unlink(temporary).catch(() => {});
    throw error;
  }
  await syncDirectory(path.dirname(file));
}

/** Makes renames and new names in `directory` durable. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
