/**
 * Makes renames in one directory durable, again and again: its descriptor stays
 * open between deliveries, because opening and closing it costs as much as the
 * sync. It belongs to the folder, not to a path: it follows the directory when
 * the folder is renamed, and never means another that took its place.
 */
import fs from 'node:fs';
import { closeLater, fullSync, openFile } from './files.ts';

/** Directories that keep their descriptor, in this process. */
const openMax = 1000;
/** Least lately used first. */
const opened = new Set<DirectorySync>();

export class DirectorySync {
  #fd: Promise<number> | undefined;
  #running = 0;
  #over = false;

  /** @param name  The directory's path now. @throws what the file system says; nobody knows then what is durable. */
  async sync(name: string): Promise<void> {
    this.#running++;
    try {
      this.#fd ??= openFile(name, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
      opened.delete(this);
      opened.add(this);
      if (opened.size > openMax) letGoOfOldest();
      await fullSync(await this.#fd);
    } catch (error) {
      this.#over = true;
      throw error;
    } finally {
      this.#running--;
      if (this.#over) this.close();
    }
  }

  get idle(): boolean {
    return this.#running === 0;
  }

  /** Lets go of the descriptor, when the last sync has ended; the next one opens it again. */
  close(): void {
    if (this.#running > 0) {
      this.#over = true;
      return;
    }
    this.#over = false;
    opened.delete(this);
    this.#fd?.then(closeLater, () => {});
    this.#fd = undefined;
  }
}

function letGoOfOldest(): void {
  for (const directory of opened) {
    if (!directory.idle) continue;
    directory.close();
    return;
  }
}
