/**
 * The file system as the store uses it: callback `fs` behind small promises
 * (a third cheaper than `fs.promises`), errors turned into faults, and the few
 * durable ways of writing. Nothing here is synchronous.
 */
import fs from 'node:fs';
import path from 'node:path';
import { errnoOf, Fault } from '../../base/fault.ts';

type Done = (error: NodeJS.ErrnoException | null) => void;

function settle(start: (done: Done) => void): Promise<void> {
  return new Promise((resolve, reject) => start((error) => (error ? reject(error) : resolve())));
}

export function openFile(name: string, flags: string | number, mode = 0o600): Promise<number> {
  return new Promise((resolve, reject) =>
    fs.open(name, flags, mode, (error, fd) => (error ? reject(error) : resolve(fd))),
  );
}

/** Does not wait: nothing follows from a descriptor that closes late, and its data was synced before. */
export function closeLater(fd: number): void {
  fs.close(fd, () => {});
}

export const closeFile = (fd: number): Promise<void> => settle((done) => fs.close(fd, done));
export const dataSync = (fd: number): Promise<void> => settle((done) => fs.fdatasync(fd, done));
export const fullSync = (fd: number): Promise<void> => settle((done) => fs.fsync(fd, done));
export const truncateFile = (fd: number, size: number): Promise<void> =>
  settle((done) => fs.ftruncate(fd, size, done));
export const renameFile = (from: string, to: string): Promise<void> =>
  settle((done) => fs.rename(from, to, done));
export const linkFile = (from: string, to: string): Promise<void> =>
  settle((done) => fs.link(from, to, done));
export const unlinkFile = (name: string): Promise<void> => settle((done) => fs.unlink(name, done));
export const makeDirectory = (name: string): Promise<void> => settle((done) => fs.mkdir(name, 0o700, done));
export const makeDirectories = (name: string): Promise<void> =>
  settle((done) => fs.mkdir(name, { recursive: true, mode: 0o700 }, (error) => done(error)));
export const removeTree = (name: string): Promise<void> =>
  settle((done) => fs.rm(name, { recursive: true, force: true }, done));
export const setTimes = (fd: number, seconds: number): Promise<void> =>
  settle((done) => fs.futimes(fd, seconds, seconds, done));
/** Gives a file the time of now, by the clock of the storage where it has one of its own. */
export async function touchFile(name: string): Promise<void> {
  const fd = await openFile(name, fs.constants.O_WRONLY);
  try {
    await writeAt(fd, Buffer.from('.'), 0);
  } finally {
    closeLater(fd);
  }
}
export const copyBytes = (from: string, to: string): Promise<void> =>
  settle((done) => fs.copyFile(from, to, fs.constants.COPYFILE_EXCL, done));

export function listDirectory(name: string): Promise<string[]> {
  return new Promise((resolve, reject) =>
    fs.readdir(name, (error, names) => (error ? reject(error) : resolve(names))),
  );
}

const batchNames = 2000;

/** The names in a directory, some thousands at a time: a million of them at once would hold up everybody. */
export async function listInBatches(name: string, take: (names: readonly string[]) => void): Promise<void> {
  const directory = await new Promise<fs.Dir>((resolve, reject) =>
    fs.opendir(name, { bufferSize: batchNames }, (error, opened) =>
      error ? reject(error) : resolve(opened),
    ),
  );
  let names: string[] = [];
  // Closes the directory at its end, and when an error ends it.
  for await (const entry of directory) {
    if (names.push(entry.name) < batchNames) continue;
    take(names);
    names = [];
    await new Promise((resolve) => setImmediate(resolve));
  }
  take(names);
}

export function statFile(name: string): Promise<fs.Stats> {
  return new Promise((resolve, reject) =>
    fs.stat(name, (error, stats) => (error ? reject(error) : resolve(stats))),
  );
}

/** The whole file, or `undefined` when there is none. */
export function readWhole(name: string): Promise<Buffer | undefined> {
  return new Promise((resolve, reject) =>
    fs.readFile(name, (error, data) => {
      if (!error) resolve(data);
      else if (error.code === 'ENOENT') resolve(undefined);
      else reject(error);
    }),
  );
}

/** At most `length` bytes from `position`; shorter only at the end of the file. */
export function readAt(fd: number, position: number, length: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const buffer = Buffer.allocUnsafe(length);
    const more = (filled: number): void => {
      fs.read(fd, buffer, filled, length - filled, position + filled, (error, count) => {
        if (error) reject(error);
        else if (count === 0 || filled + count === length) resolve(buffer.subarray(0, filled + count));
        else more(filled + count);
      });
    };
    if (length === 0) resolve(buffer);
    else more(0);
  });
}

/**
 * A small file as a whole, by name: three calls of the pool and one promise. At most `length` bytes; shorter when
 * the file is.
 */
export function readSmall(name: string, length: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    fs.open(name, 'r', (failure, fd) => {
      if (failure) {
        reject(failure);
        return;
      }
      // Not of the pool of small buffers: what is kept for long would keep a whole slab of it.
      const buffer = Buffer.allocUnsafeSlow(length);
      const more = (filled: number): void => {
        fs.read(fd, buffer, filled, length - filled, filled, (error, count) => {
          if (!error && count > 0 && filled + count < length) {
            more(filled + count);
            return;
          }
          closeLater(fd);
          if (error) reject(error);
          else resolve(filled + count === length ? buffer : buffer.subarray(0, filled + count));
        });
      };
      if (length > 0) more(0);
      else {
        closeLater(fd);
        resolve(buffer);
      }
    });
  });
}

/** Writes all of `data` at `position`, however many calls that takes. */
export function writeAt(fd: number, data: Buffer, position: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const more = (written: number): void => {
      fs.write(fd, data, written, data.length - written, position + written, (error, count) => {
        if (error) reject(error);
        else if (written + count === data.length) resolve();
        else more(written + count);
      });
    };
    if (data.length === 0) resolve();
    else more(0);
  });
}

/** Makes renames, creations and removals in a directory durable. */
export async function syncDirectory(name: string): Promise<void> {
  const fd = await openFile(name, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
  try {
    await fullSync(fd);
  } finally {
    closeLater(fd);
  }
}

const { O_WRONLY, O_CREAT, O_TRUNC, O_DSYNC } = fs.constants;

/** Replaces a small file as a whole: after a crash there is the old text or the new one. */
export async function replaceDurably(name: string, data: string | Buffer): Promise<void> {
  await replaceFile(name, data);
  await syncDirectory(path.dirname(name));
}

/** As `replaceDurably`, but for a caller that syncs the directory itself: until then a crash may bring back the old text. */
export async function replaceFile(name: string, data: string | Buffer): Promise<void> {
  const temporary = `${name}.tmp`;
  const bytes = typeof data === 'string' ? Buffer.from(data) : data;
  const fd = await openFile(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_DSYNC);
  try {
    await writeAt(fd, bytes, 0);
    // nothing was written, so nothing was synced
    if (bytes.length === 0) await dataSync(fd);
  } catch (error) {
    await unlinkFile(temporary).catch(() => {});
    throw error;
  } finally {
    closeLater(fd);
  }
  await renameFile(temporary, name);
}

/**
 * What the file system said, as a fault. A full disk or quota is `no-space`
 * and passes by; everything else means the storage cannot be relied on.
 */
export function storageFault(error: unknown, what: string): Fault {
  if (error instanceof Fault) return error;
  const errno = errnoOf(error);
  if (errno === '') return Fault.from(error);
  return errno === 'ENOSPC' || errno === 'EDQUOT'
    ? new Fault('no-space', 'there is no space left for this', { cause: error, detail: { what, errno } })
    : new Fault('storage-failed', 'the storage failed', { cause: error, detail: { what, errno } });
}

/** File system calls of one piece of work that run side by side; the pool has few threads. */
const atOnce = 8;

/**
 * Does `work` for all items, a few at a time. After an error nothing more is begun; it is thrown when what had
 * been begun has ended, so that the caller may undo all of it.
 */
export async function eachAtOnce<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  let failure: { readonly error: unknown } | undefined;
  const worker = async (): Promise<void> => {
    while (next < items.length && !failure) {
      try {
        await work(items[next++]!);
      } catch (error) {
        failure ??= { error };
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
  if (failure) throw (failure as { readonly error: unknown }).error;
}
