/** What the file system says of an mbox: it tells whether another program was there. */
import fs from 'node:fs';

/** Text: nanoseconds and inodes exceed what numbers hold. */
export interface SeenFile {
  readonly size: number;
  readonly mtimeNs: string;
  readonly ino: string;
}

/** @param file  A descriptor or a name. */
export async function seenOf(file: number | string): Promise<SeenFile> {
  const stats = await new Promise<fs.BigIntStats>((resolve, reject) => {
    const done = (error: Error | null, found: fs.BigIntStats): void =>
      error ? reject(error) : resolve(found);
    if (typeof file === 'number') fs.fstat(file, { bigint: true }, done);
    else fs.stat(file, { bigint: true }, done);
  });
  return { size: Number(stats.size), mtimeNs: String(stats.mtimeNs), ino: String(stats.ino) };
}

export async function sizeOf(fd: number): Promise<number> {
  return (await seenOf(fd)).size;
}

export function sameFile(a: SeenFile | undefined, b: SeenFile | undefined): boolean {
  return (
    a !== undefined && b !== undefined && a.size === b.size && a.mtimeNs === b.mtimeNs && a.ino === b.ino
  );
}
