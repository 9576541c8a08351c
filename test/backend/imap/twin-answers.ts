/**
 * The same messages and the same commands at Postern and at the real Dovecot: what differs is told, after what is
 * known to differ and why has been taken out of both answers.
 */
import { corpus } from '../../support/corpus.ts';
import { makeDovecot } from '../store/dovecot/dovecot-rig.ts';
import { makeBench } from '../store/store-fixture.ts';
import { ImapClient } from './imap-client.ts';

export interface Difference {
  readonly message: string;
  readonly command: string;
  readonly dovecot: string;
  readonly ours: string;
}

export interface TwinReport {
  readonly messages: number;
  readonly commands: number;
  readonly differences: readonly Difference[];
}

/** Asked of every message, `#` for its number. */
const ofMessage: readonly string[] = [
  'BODYSTRUCTURE',
  'BODY',
  'ENVELOPE',
  'RFC822.SIZE',
  ...['HEADER', 'TEXT', '1', '1.MIME', '2', '2.MIME', '3', 'HEADER.FIELDS (To Received Subject)'].map(
    (section) => `BODY.PEEK[${section}]`,
  ),
  'BODY.PEEK[HEADER.FIELDS.NOT (Received From)]',
  'BODY.PEEK[TEXT]<100.50>',
  'BODY.PEEK[1]<5.7>',
];

const ofMailbox: readonly string[] = [
  ...[
    'SUBJECT spam',
    'TEXT free',
    'BODY click',
    'HEADER Received "localhost"',
    'SENTSINCE 1-Sep-2002',
    'SENTON 22-Aug-2002',
    'LARGER 5000',
    'TO zzzz',
    'CC list',
    'OR SUBJECT re FROM net',
    'HEADER X-Mailer ""',
    'BODY "http://"',
    'TEXT "charset"',
    'CHARSET ISO-8859-1 BODY "\xe9"',
    'CHARSET UTF-8 TEXT "\xc3\xa9"',
    'SINCE 3-Feb-2020',
    'ON 3-Feb-2020',
    'BEFORE 4-Feb-2020',
    '3:*,1 NOT 5:7',
  ].map((keys) => `SEARCH ${keys}`),
  ...[
    'SUBJECT',
    'REVERSE SUBJECT',
    'FROM',
    'TO',
    'CC',
    'DATE',
    'ARRIVAL',
    'SIZE',
    'DISPLAYTO',
    'REVERSE DATE SUBJECT',
  ].map((criteria) => `SORT (${criteria}) UTF-8 ALL`),
  'THREAD REFERENCES UTF-8 ALL',
  'THREAD ORDEREDSUBJECT UTF-8 ALL',
  'THREAD REFERENCES UTF-8 SUBJECT re',
];

/** @param every  One message in so many is taken. */
export async function compareWithDovecot(every: number): Promise<TwinReport> {
  const rig = await makeDovecot();
  const bench = await makeBench();
  const store = await bench.open();
  const names: string[] = [];
  const differences: Difference[] = [];
  const unread = new Set<string>();
  let commands = 0;
  try {
    const dovecot = await rig.connect();
    const ann = new ImapClient(store);
    let tag = 0;
    const both = async (command: string): Promise<[string, string]> => {
      commands++;
      const name = `Zw${++tag}q`;
      return [await dovecot.ask(command), await ann.run(Buffer.from(`${name} ${command}`, 'latin1'))];
    };
    const compare = async (message: string, command: string): Promise<void> => {
      const answers = await both(command);
      // An address list it cannot make sense of: it says so in words of its own, and sorts by them.
      if (/«?\b(?:SYNTAX_ERROR|MISSING_MAILBOX|MISSING_DOMAIN)\b/.test(answers[0])) {
        unread.add(/^\* (\d+)/.exec(answers[0])?.[1] ?? '');
        return;
      }
      const [theirs, mine] = answers.map((answer) => comparable(answer, command, unread));
      if (theirs !== mine) differences.push({ message, command, dovecot: theirs!, ours: mine! });
    };
    let index = 0;
    for (const { name, bytes, unfit } of corpus()) {
      if (index++ % every !== 0 || isUnlike(name, unfit)) continue;
      const date = `0${1 + (names.length % 9)}-Feb-2020 10:00:00 +0000`;
      await both(`APPEND INBOX "${date}" {${bytes.length}+}\r\n${bytes.toString('latin1')}`);
      names.push(name);
    }
    await both('SELECT INBOX');
    for (const [at, name] of names.entries()) {
      for (const item of ofMessage) await compare(name, `FETCH ${at + 1} ${item}`);
    }
    for (const command of ofMailbox) await compare('all', command);
    await dovecot.end();
  } finally {
    await store.close();
    await bench.remove();
    await rig.remove();
  }
  return { messages: names.length, commands, differences };
}

/** Messages the two see differently, and why. */
const unlike: Readonly<Record<string, string>> = {
  'spam-2/00204': '`Content-Type: TEXT/PLAIN charset=US-ASCII`: Dovecot reads no type at all',
};

function isUnlike(name: string, unfit: string | undefined): boolean {
  // Bare CR: Dovecot drops some of them. NUL: refused by us.
  return unfit === 'bare-cr' || unfit === 'nul' || Object.hasOwn(unlike, name);
}

/** One form for what may be written in several, without what both may choose. */
function comparable(answer: string, command: string, unread: ReadonlySet<string>): string {
  const lines = plainStrings(answer)
    .split('\r\n')
    .filter((line) => !/^\S+ OK /.test(line))
    .join('\n')
    .trimEnd();
  if (/^\* S(?:EARCH|ORT)/.test(lines))
    return lines
      .split(' ')
      .filter((word) => !unread.has(word))
      .join(' ');
  if (/ BODY(?:STRUCTURE)?$/.test(command)) return structure(lines);
  if (command.endsWith('ENVELOPE')) return envelope(lines);
  // A part that is not there: we say NIL, Dovecot an empty string.
  return (
    lines
      .replace(/(BODY\[[^\]]*\](?:<\d+>)?) NIL/gi, '$1 «»')
      .replace(/BODY\[[^\]]*\]/gi, (name) => name.toUpperCase())
      // Where a boundary begins with another, Dovecot counts the line end before it to the part.
      .replace(/--\n»\)$/, '--»)')
  );
}

/** Types and encodings have no case; one language is a list or a string; without MIME-Version Dovecot reads no encoding. */
function structure(text: string): string {
  return text
    .toLowerCase()
    .replace(/\((«[^»]*»)\) nil\)/g, '$1 nil)')
    .replace(
      /(\((?:structure|bodystructure|body) \(«text» «plain» \(«charset» «us-ascii»\) nil nil) «8bit»/,
      '$1 «7bit»',
    );
}

/** Dovecot joins white space. */
function envelope(text: string): string {
  return text
    .replace(/[ \t]+/g, ' ')
    .replace(/« /g, '«')
    .replace(/ »/g, '»');
}

/** Quoted strings and literals as «…». */
function plainStrings(answer: string): string {
  let out = '';
  for (let at = 0; at < answer.length; ) {
    const literal = answer[at] === '{' ? /^\{(\d+)\}\r\n/.exec(answer.slice(at, at + 20)) : null;
    if (literal !== null) {
      const start = at + literal[0].length;
      at = start + Number(literal[1]);
      out += `«${answer.slice(start, at)}»`;
    } else if (answer[at] === '"') {
      out += '«';
      for (at++; at < answer.length && answer[at] !== '"'; at++) {
        if (answer[at] === '\\') at++;
        out += answer[at];
      }
      out += '»';
      at++;
    } else out += answer[at++];
  }
  return out;
}
