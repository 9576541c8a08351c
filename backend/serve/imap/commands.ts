/** Which commands there are, in which state each is allowed, and who runs it: data, not code. */
import { capabilityLine } from './capabilities.ts';
import { copyMessages, expunge, moveMessages, storeFlags } from './change-commands.ts';
import { fetchMessages } from './fetch-command.ts';
import {
  createFolder,
  deleteFolder,
  namespaces,
  renameFolder,
  subscribe,
  unsubscribe,
} from './folder-commands.ts';
import type { ImapSession } from './imap-session.ts';
import { listFolders, listSubscribed } from './list-commands.ts';
import { getQuota, getQuotaRoot, setQuota } from './quota-commands.ts';
import { search } from './search-command.ts';
import { check, closeFolder, examine, select, status, unselect } from './select-commands.ts';
import type { CommandCall } from './session-options.ts';
import { sortMessages, threadMessages } from './sort-commands.ts';

/**
 * Runs a command. @returns the completion without its tag (`OK …`), or `undefined` when it comes later (IDLE).
 * A thrown fault becomes NO or BAD.
 */
export type CommandRun = (
  session: ImapSession,
  call: CommandCall,
) => string | undefined | Promise<string | undefined>;

export interface CommandEntry {
  /** RFC 9051 3: after login every command is at least in `authenticated`. */
  readonly state: 'authenticated' | 'selected';
  /** May EXPUNGE be told when it completes? Not for FETCH, STORE, SEARCH (RFC 9051 7.5.1). */
  readonly expunges: boolean;
  /** Has a UID form. */
  readonly uid?: true;
  readonly run: CommandRun;
}

export const commands: Readonly<Record<string, CommandEntry>> = {
  CAPABILITY: { state: 'authenticated', expunges: true, run: capability },
  NOOP: { state: 'authenticated', expunges: true, run: noop },
  LOGOUT: { state: 'authenticated', expunges: false, run: logout },
  ID: { state: 'authenticated', expunges: true, run: id },
  ENABLE: { state: 'authenticated', expunges: true, run: enable },
  IDLE: { state: 'authenticated', expunges: true, run: idle },
  COMPRESS: { state: 'authenticated', expunges: true, run: compress },

  // RFC 9051 6.2: only before login.
  LOGIN: { state: 'authenticated', expunges: false, run: loggedInAlready },
  AUTHENTICATE: { state: 'authenticated', expunges: false, run: loggedInAlready },
  STARTTLS: { state: 'authenticated', expunges: false, run: loggedInAlready },

  SELECT: { state: 'authenticated', expunges: false, run: select },
  EXAMINE: { state: 'authenticated', expunges: false, run: examine },
  STATUS: { state: 'authenticated', expunges: true, run: status },
  CREATE: { state: 'authenticated', expunges: true, run: createFolder },
  DELETE: { state: 'authenticated', expunges: true, run: deleteFolder },
  RENAME: { state: 'authenticated', expunges: true, run: renameFolder },
  SUBSCRIBE: { state: 'authenticated', expunges: true, run: subscribe },
  UNSUBSCRIBE: { state: 'authenticated', expunges: true, run: unsubscribe },
  LIST: { state: 'authenticated', expunges: true, run: listFolders },
  LSUB: { state: 'authenticated', expunges: true, run: listSubscribed },
  NAMESPACE: { state: 'authenticated', expunges: true, run: namespaces },
  GETQUOTA: { state: 'authenticated', expunges: true, run: getQuota },
  GETQUOTAROOT: { state: 'authenticated', expunges: true, run: getQuotaRoot },
  SETQUOTA: { state: 'authenticated', expunges: true, run: setQuota },
  // With a message it is recognised by its literal, see AppendCommand; without one it is wrong.
  APPEND: { state: 'authenticated', expunges: false, run: () => 'BAD Missing message' },

  REPLACE: { state: 'selected', expunges: false, uid: true, run: () => 'BAD Missing message' },
  CHECK: { state: 'selected', expunges: true, run: check },
  CLOSE: { state: 'selected', expunges: false, run: closeFolder },
  UNSELECT: { state: 'selected', expunges: false, run: unselect },
  EXPUNGE: { state: 'selected', expunges: true, uid: true, run: expunge },
  SEARCH: { state: 'selected', expunges: false, uid: true, run: search },
  SORT: { state: 'selected', expunges: false, uid: true, run: sortMessages },
  THREAD: { state: 'selected', expunges: false, uid: true, run: threadMessages },
  FETCH: { state: 'selected', expunges: false, uid: true, run: fetchMessages },
  STORE: { state: 'selected', expunges: false, uid: true, run: storeFlags },
  COPY: { state: 'selected', expunges: true, uid: true, run: copyMessages },
  MOVE: { state: 'selected', expunges: true, uid: true, run: moveMessages },
};

function capability(session: ImapSession, { cursor }: CommandCall): string {
  cursor.end();
  session.untagged(
    `* CAPABILITY ${capabilityLine(session.account.store, session.compression === 'possible')}`,
  );
  return 'OK CAPABILITY completed';
}

function noop(session: ImapSession, { cursor }: CommandCall): string | Promise<string> {
  cursor.end();
  const refreshed = session.refresh();
  return refreshed === undefined ? 'OK NOOP completed' : refreshed.then(() => 'OK NOOP completed');
}

function logout(session: ImapSession, { cursor }: CommandCall): string {
  cursor.end();
  session.untagged('* BYE Logging out');
  session.loggedOut();
  return 'OK LOGOUT completed';
}

/** RFC 2971. What the client says of itself is checked and not kept. */
function id(session: ImapSession, { cursor }: CommandCall): string {
  cursor.space();
  if (cursor.takeIf('(')) {
    for (let count = 0; !cursor.takeIf(')'); count++) {
      if (count >= 60) return 'BAD Too many fields';
      if (count > 0) cursor.space();
      cursor.nstring();
    }
  } else if (cursor.nstring() !== undefined) return 'BAD Missing list';
  cursor.end();
  session.untagged('* ID ("name" "Postern")');
  return 'OK ID completed';
}

/** RFC 5161: what is not known is passed over in silence. */
function enable(session: ImapSession, { cursor }: CommandCall): string {
  const wanted = new Set<string>();
  do {
    cursor.space();
    wanted.add(cursor.keyword());
  } while (!cursor.atEnd);
  const enabled: string[] = [];
  for (const name of wanted)
    if (enableOne(session, name)) enabled.push(name === 'IMAP4REV2' ? 'IMAP4rev2' : name);
  session.untagged(['* ENABLED', ...enabled].join(' '));
  return 'OK ENABLE completed';
}

/** @returns Was it enabled by this? */
function enableOne(session: ImapSession, name: string): boolean {
  switch (name) {
    case 'CONDSTORE': {
      const before = session.condstore;
      session.enableCondstore();
      return !before;
    }
    case 'QRESYNC': {
      const before = session.qresync;
      session.enableCondstore();
      session.qresync = true;
      return !before;
    }
    case 'IMAP4REV2': {
      const before = session.rev2;
      session.rev2 = true;
      session.utf8 = true;
      return !before;
    }
    case 'UTF8=ACCEPT': {
      const before = session.utf8;
      session.utf8 = true;
      return !before;
    }
    default:
      return false;
  }
}

function idle(session: ImapSession, { cursor, tag }: CommandCall): undefined {
  cursor.end();
  session.startIdle(tag);
  session.sync(true);
}

/** RFC 4978 3: between client and gateway, behind this answer. */
function compress(session: ImapSession, { cursor }: CommandCall): string {
  cursor.space();
  const mechanism = cursor.keyword();
  cursor.end();
  if (mechanism !== 'DEFLATE') return 'BAD Unknown compression mechanism';
  if (session.compression === 'active') return 'NO [COMPRESSIONACTIVE] DEFLATE is active already';
  if (session.compression === 'none') return 'NO [CANNOT] Compression is not available';
  session.compression = 'active';
  session.writer.compressBehind();
  return 'OK DEFLATE active';
}

function loggedInAlready(): string {
  return 'BAD Already logged in';
}
