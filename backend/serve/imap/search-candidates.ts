/** Asks the text index which messages may hold the texts of a search, so that the others need not be opened. */
import type { SearchKey } from '../../../mailwire/imap-search-keys.ts';
import type { Candidates } from '../../store/search/text-index.ts';
import type { ImapSession } from './imap-session.ts';
import type { MailboxView } from './mailbox-view.ts';

/** A folder with fewer messages is looked through faster than it is asked about. */
const messagesMin = 200;
/** Texts of one search that are asked for; the others are looked for. */
const textsMax = 8;

/** By text. Without an answer every message may hold it. */
export async function candidatesOf(
  session: ImapSession,
  view: MailboxView,
  key: SearchKey,
): Promise<ReadonlyMap<string, Candidates>> {
  const found = new Map<string, Candidates>();
  const index = session.account.store.textIndex;
  if (index === undefined || view.count < messagesMin) return found;
  for (const text of textsOf(key)) {
    const candidates = await index.candidates(view.folder, text);
    if (candidates !== undefined) found.set(text, candidates);
  }
  return found;
}

function textsOf(root: SearchKey): Set<string> {
  const texts = new Set<string>();
  const waiting: SearchKey[] = [root];
  for (let key = waiting.pop(); key !== undefined && texts.size < textsMax; key = waiting.pop()) {
    if (key.key === 'not') waiting.push(key.of);
    else if (key.key === 'and' || key.key === 'or') waiting.push(...key.of);
    else if (key.key === 'header' || key.key === 'body' || key.key === 'text') texts.add(key.value);
  }
  return texts;
}
