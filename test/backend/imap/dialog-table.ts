/** Tables of dialogs: commands one after another, and what the answer to the last one must and must not be. */
import { expect } from '@jest/globals';
import type { MemoryStore } from '../../support/memory-store.ts';
import { ImapClient } from './imap-client.ts';

export interface Dialog {
  readonly says: string;
  readonly send: readonly string[];
  readonly gives: readonly (string | RegExp)[];
  readonly not?: readonly (string | RegExp)[];
}

/** Plays a dialog in a session of its own. @returns the last answer */
export async function play(store: MemoryStore, dialog: Dialog): Promise<string> {
  const client = new ImapClient(store);
  let answer = '';
  for (const line of dialog.send) answer = await client.run(line);
  for (const wanted of dialog.gives) {
    if (typeof wanted === 'string') expect(answer).toContain(wanted);
    else expect(answer).toMatch(wanted);
  }
  for (const unwanted of dialog.not ?? []) {
    if (typeof unwanted === 'string') expect(answer).not.toContain(unwanted);
    else expect(answer).not.toMatch(unwanted);
  }
  return answer;
}
