/** Checks one message file against what its name says of it, and mends the name or takes the file out. */
import path from 'node:path';
import { errnoOf } from '../../../base/fault.ts';
import { closeLater, openFile, readAt, renameFile, statFile } from '../files.ts';
import { formatMessageName, type MessageName } from '../message-name.ts';
import { measureFile } from '../open-message.ts';
import type { Findings } from './finding.ts';
import type { Quarantine } from './quarantine.ts';

/** A file that begins with so many NULs was never written, or lost what was. */
const zeroedBytes = 512;

export interface MessageToCheck {
  /** The account's directory. */
  readonly account: string;
  /** Folder, for the reader. */
  readonly folder: string;
  /** `Maildir/…/cur`. */
  readonly directory: string;
  readonly text: string;
  readonly name: MessageName;
}

export interface CheckWays {
  /** Reads every message, not only its size. */
  readonly deep: boolean;
  /** Absent: only looks. */
  readonly quarantine: Quarantine | undefined;
}

/** @returns false when the file is not there any more. */
export async function checkMessage(
  message: MessageToCheck,
  ways: CheckWays,
  findings: Findings,
): Promise<boolean> {
  const { account, folder, directory, text, name } = message;
  const file = path.join(directory, text);
  const full = path.join(account, file);
  const add = findings.add.bind(findings);
  const takeOut = async (): Promise<string | undefined> =>
    ways.quarantine && `moved to ${await ways.quarantine.take(file)}`;
  try {
    const stats = await statFile(full);
    if (!stats.isFile()) {
      add('not-a-file', folder, 'is no regular file', { file, repaired: await takeOut() });
      return true;
    }
    if (stats.size === 0 && name.fileBytes > 0) {
      const said = `is empty and should have ${name.fileBytes} bytes`;
      add('message-empty', folder, said, { file, repaired: await takeOut() });
      return true;
    }
    const differs = stats.size !== name.fileBytes;
    if (!differs && !ways.deep) return true;
    const { zeroed, fileBytes, size } = await measure(full);
    if (zeroed) {
      add('message-zeroed', folder, 'begins with NUL bytes only', { file, repaired: await takeOut() });
      return true;
    }
    if (!differs && size === name.size) return true;
    const right = { ...name, fileBytes, size };
    const mended = ways.quarantine && (await rename(message, right));
    if (differs) {
      const said = `has ${fileBytes} bytes and should have ${name.fileBytes}`;
      add('size-differs', folder, said, { file, repaired: mended });
    } else {
      const said = `has ${size} bytes with CRLF line ends and its name says ${name.size}`;
      add('lines-differ', folder, said, { file, repaired: mended });
    }
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    if (errnoOf(error) !== 'EACCES' && errnoOf(error) !== 'EIO') throw error;
    add('unreadable', folder, `cannot be read: ${errnoOf(error)}`, { file });
    return true;
  }
}

async function measure(file: string): Promise<{ zeroed: boolean; fileBytes: number; size: number }> {
  const fd = await openFile(file, 'r');
  try {
    const start = await readAt(fd, 0, zeroedBytes);
    const zeroed = start.length > 0 && start.every((byte) => byte === 0);
    return { zeroed, ...(await measureFile(fd)) };
  } finally {
    closeLater(fd);
  }
}

/** The bytes that are left stay under their UID: taking them away would lose more. */
async function rename({ account, directory, text }: MessageToCheck, right: MessageName): Promise<string> {
  const to = formatMessageName(right);
  await renameFile(path.join(account, directory, text), path.join(account, directory, to));
  return `renamed to say ${right.fileBytes} bytes`;
}
