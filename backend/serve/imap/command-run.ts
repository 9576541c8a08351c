/** Runs one command of a session: finds who runs it, answers what it returns or throws. */
import { Fault } from '../../../base/fault.ts';
import { type ImapPiece, isTag } from '../../../mailwire/imap-command-reader.ts';
import { ImapCursor } from '../../../mailwire/imap-tokens.ts';
import { answerOf } from './answers.ts';
import { type CommandEntry, commands } from './commands.ts';
import type { ImapSession } from './imap-session.ts';

/**
 * @param tag  The tag, when there is a well-formed one.
 * @returns May the session go on to the next command?
 * @throws {Fault} after which the connection has to close
 */
export function runCommand(
  session: ImapSession,
  tag: string | undefined,
  pieces: readonly ImapPiece[],
): boolean | Promise<boolean> {
  if (tag === undefined || !isTag(tag)) {
    session.writer.text('* BAD Missing tag or command\r\n');
    session.countError();
    return true;
  }
  let entry: CommandEntry | undefined;
  try {
    const cursor = new ImapCursor(pieces);
    cursor.tag();
    cursor.space();
    let name = cursor.keyword();
    const byUid = name === 'UID';
    if (byUid) {
      cursor.space();
      name = cursor.keyword();
    }
    entry = Object.hasOwn(commands, name) ? commands[name] : undefined;
    if (entry === undefined || (byUid && !entry.uid)) throw new Fault('bad-syntax', 'Unknown command');
    if (entry.state === 'selected' && session.view === undefined) {
      throw new Fault('bad-syntax', 'No mailbox is selected');
    }
    if (session.answeredInPart && session.done() === undefined) {
      return complete(session, tag, entry, byUid, interrupted(session, name));
    }
    const outcome = entry.run(session, { tag, name, byUid, cursor });
    if (outcome instanceof Promise) {
      const settled = entry;
      return outcome.then(
        (completion) => complete(session, tag, settled, byUid, completion),
        (error: unknown) => failed(session, tag, settled, byUid, error),
      );
    }
    return complete(session, tag, entry, byUid, outcome);
  } catch (error) {
    return failed(session, tag, entry, false, error);
  }
}

function complete(
  session: ImapSession,
  tag: string,
  entry: CommandEntry,
  byUid: boolean,
  completion: string | undefined,
): boolean {
  if (completion === undefined) return true;
  session.sync(entry.expunges || byUid);
  session.writer.text(`${tag} ${completion}\r\n`);
  if (completion.startsWith('BAD')) session.countError();
  else if (completion.startsWith('OK')) session.forgiveErrors();
  return true;
}

/** The client has a part of the answer, from an owner that went: it may ask again. */
function interrupted(session: ImapSession, name: string): string {
  // RFC 9051 6.3.2: after a SELECT that failed nothing is selected.
  if (name === 'SELECT' || name === 'EXAMINE') session.unselect();
  return 'NO [UNAVAILABLE] Interrupted, please try again';
}

/** Answers NO or BAD for what a command threw. @returns May the session go on? */
function failed(
  session: ImapSession,
  tag: string,
  entry: CommandEntry | undefined,
  byUid: boolean,
  error: unknown,
): boolean {
  const fault = Fault.from(error);
  if (fault.detail.closeConnection === true) throw fault;
  // The right to act is lost: nothing may be answered any more (DESIGN invariant 2).
  if (fault.code === 'lease-lost' || fault.code === 'not-owner') {
    session.lostOwnership();
    return false;
  }
  if (fault.whose !== 'client') {
    const level = fault.code === 'bug' ? 'error' : 'warn';
    session.log[level](
      {
        event: 'imap-command',
        code: fault.code,
        error: fault.message,
        detail: fault.detail,
        ...(fault.code === 'bug' ? { stack: fault.stack } : {}),
      },
      'command failed',
    );
  }
  const answer = answerOf(fault);
  if (entry !== undefined && !answer.startsWith('BAD')) session.sync(entry.expunges || byUid);
  session.writer.text(`${tag} ${answer}\r\n`);
  if (answer.startsWith('BAD')) session.countError();
  if (session.view?.gone) session.leaveAtOnce('Mailbox was deleted');
  return true;
}
