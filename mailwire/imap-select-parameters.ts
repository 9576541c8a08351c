/** Parameters of SELECT and EXAMINE: CONDSTORE and QRESYNC (RFC 7162 3.1.8, 3.2.5), read from the arguments. */
import { Fault } from '../base/fault.ts';
import { type ImapCursor, type ImapRange, star } from './imap-tokens.ts';

export interface ResyncRequest {
  readonly uidValidity: number;
  /** What the client knows the mailbox by. */
  readonly modseq: number;
  /** UIDs the client has; `undefined`: it does not say. */
  readonly known: readonly ImapRange[] | undefined;
  /** Message numbers of the client with their UIDs, ascending; `undefined`: it does not say. */
  readonly match: { readonly numbers: readonly ImapRange[]; readonly uids: readonly ImapRange[] } | undefined;
}

export interface SelectParameters {
  readonly condstore: boolean;
  readonly resync: ResyncRequest | undefined;
}

/** What may follow the mailbox name, to the end of the command. @throws {Fault} `bad-syntax` */
export function parseSelectParameters(cursor: ImapCursor): SelectParameters {
  let condstore = false;
  let resync: ResyncRequest | undefined;
  if (cursor.takeIf(' ')) {
    cursor.expect('(');
    do {
      const name = cursor.keyword();
      if (name === 'CONDSTORE' && !condstore) condstore = true;
      else if (name === 'QRESYNC' && resync === undefined) {
        cursor.space();
        resync = parseResync(cursor);
      } else throw new Fault('bad-syntax', 'Unknown SELECT parameter');
    } while (cursor.takeIf(' '));
    cursor.expect(')');
  }
  cursor.end();
  return { condstore, resync };
}

function parseResync(cursor: ImapCursor): ResyncRequest {
  cursor.expect('(');
  const uidValidity = cursor.nzNumber();
  cursor.space();
  const modseq = cursor.number64();
  if (modseq === 0) throw new Fault('bad-syntax', '0 is not allowed here');
  let known: readonly ImapRange[] | undefined;
  let match: ResyncRequest['match'];
  if (cursor.takeIf(' ')) {
    if (!cursor.isAt('(')) {
      known = plainSet(cursor);
      if (cursor.takeIf(' ')) match = sequenceMatch(cursor);
    } else match = sequenceMatch(cursor);
  }
  cursor.expect(')');
  return { uidValidity, modseq, known, match };
}

function sequenceMatch(cursor: ImapCursor): ResyncRequest['match'] {
  cursor.expect('(');
  const numbers = plainSet(cursor);
  cursor.space();
  const uids = plainSet(cursor);
  cursor.expect(')');
  return { numbers, uids };
}

/** A set without `*` and `$`. */
function plainSet(cursor: ImapCursor): readonly ImapRange[] {
  const set = cursor.sequenceSet();
  if (set === '$' || set.some(({ from, to }) => from === star || to === star)) {
    throw new Fault('bad-syntax', '"*" and "$" are not allowed here');
  }
  return set;
}
