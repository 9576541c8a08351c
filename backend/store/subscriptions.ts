/**
 * The `subscriptions` file of a Maildir++: one name per line, as directories
 * are spelled without their first dot; `INBOX` as it is.
 */
import path from 'node:path';
import { readWhole, replaceDurably } from './files.ts';
import { compareFolderNames, directoryOf, folderOfDirectory } from './folder-name.ts';

const linesMax = 100_000;

/** @param bytesMax  Longest folder name. Lines that name no folder are left out. */
export async function readSubscriptions(maildir: string, bytesMax: number): Promise<Set<string>> {
  const text = (await readWhole(path.join(maildir, 'subscriptions')))?.toString('latin1') ?? '';
  const names = new Set<string>();
  for (const line of text.split('\n', linesMax)) {
    if (line === '') continue;
    const name = line === 'INBOX' ? line : folderOfDirectory(`.${line}`, bytesMax);
    if (name !== undefined) names.add(name);
  }
  return names;
}

export function writeSubscriptions(maildir: string, names: ReadonlySet<string>): Promise<void> {
  const lines = [...names].sort(compareFolderNames).map((name) => {
    return name === 'INBOX' ? 'INBOX\n' : `${directoryOf(name).slice(1)}\n`;
  });
  return replaceDurably(path.join(maildir, 'subscriptions'), lines.join(''));
}
