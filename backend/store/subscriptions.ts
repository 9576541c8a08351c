/**
 * The `subscriptions` file of a Maildir++: one name per line, as directories
 * are spelled without their first dot; `INBOX` as it is. Dovecot 2.3 writes a
 * second form, which is read too: a first line `V<TAB>2`, then levels
 * separated by tabs.
 */
import path from 'node:path';
import { readWhole, replaceDurably } from './files.ts';
import { compareFolderNames, directoryOf, folderOfDirectory } from './folder-name.ts';

export const subscriptionsName = 'subscriptions';
const linesMax = 100_000;
const secondForm = 'V\t2';

/**
 * @param bytesMax  Longest folder name. Lines that name no folder are left out.
 * @param exists  Is there such a folder? Servers that show all folders below `INBOX.` may have written names so.
 */
export async function readSubscriptions(
  maildir: string,
  bytesMax: number,
  exists: (name: string) => boolean = () => false,
): Promise<Set<string>> {
  const text = (await readWhole(path.join(maildir, subscriptionsName)))?.toString('latin1') ?? '';
  const lines = text.split('\n', linesMax);
  const isSecond = lines[0] === secondForm;
  const names = new Set<string>();
  for (const line of isSecond ? lines.slice(1) : lines) {
    if (line === '') continue;
    const spelled = isSecond ? line.replaceAll('\t', '.') : line;
    const name = spelled === 'INBOX' ? spelled : folderOfDirectory(`.${spelled}`, bytesMax);
    if (name === undefined) continue;
    const short = name.startsWith('INBOX/') ? name.slice(6) : name;
    names.add(!exists(name) && exists(short) ? short : name);
  }
  return names;
}

export function writeSubscriptions(maildir: string, names: ReadonlySet<string>): Promise<void> {
  const lines = [...names].sort(compareFolderNames).map((name) => {
    return name === 'INBOX' ? 'INBOX\n' : `${directoryOf(name).slice(1)}\n`;
  });
  return replaceDurably(path.join(maildir, subscriptionsName), lines.join(''));
}
