/** `/pop3`: checks the password, then carries a POP3 session on the stream. */
import { Fault, isFault } from '../../../base/fault.ts';
import { linkHeader, linkStatus } from '../../../cluster-protocol/link.ts';
import { parseTaking } from '../../../cluster-protocol/resumption.ts';
import { type Account, isMoving } from '../../accounts/accounts.ts';
import { answer, factsOf, ownerHint, statusOf } from '../answers.ts';
import { freshFolder } from '../fresh-folder.ts';
import { checkCredentials } from '../login-service.ts';
import type { Opening, ServiceContext, SessionService, SessionStream } from '../service.ts';
import { enterSession, leaveSession } from '../session-count.ts';
import { LoginDelay } from './login-delay.ts';
import { Maildrop } from './maildrop.ts';
import { CommandLines } from './pop3-command.ts';
import { Pop3HandOver, type Pop3Restoring, restoreMaildrop } from './pop3-hand-over.ts';
import { Pop3Output } from './pop3-output.ts';
import { capabilitiesWith, Pop3Session } from './pop3-session.ts';
import { decodePop3State } from './pop3-state.ts';

/** Of this backend. */
const loginDelay = new LoginDelay();

/**
 * 401 when the credentials are wrong; 200, and the session's bytes follow, from the first command after login.
 * The stream ends after QUIT, when the client is silent for `pop3.idle_timeout` (then without removing anything,
 * RFC 1939 3), when the client is gone, or when the account must be left.
 */
export const pop3Service: SessionService = async (stream, opening, context) => {
  stream.on('error', () => {});
  const marked = context.book !== undefined && opening.headers[linkHeader.marks] === '1';
  const resumes = marked && opening.headers[linkHeader.state] !== undefined;
  const restoring = resumes ? readResumed(opening, context) : undefined;
  if (resumes && restoring === undefined) return answer(stream, linkStatus.notResumable);
  if (restoring === undefined) {
    const checked = await checkCredentials(opening, context, 'pop3');
    if (!checked.ok) return answer(stream, checked.status, checked.headers);
  }
  let account: Account;
  try {
    account = await context.accounts.open(opening.account);
  } catch (error) {
    context.log.warn(
      { trace: opening.trace, account: opening.account, ...factsOf(error) },
      'session not opened',
    );
    const status = statusOf(error);
    return answer(stream, status, {
      ...(status === linkStatus.notOwner ? ownerHint(context, opening.account) : {}),
      ...(isFault(error, 'limit-reached') ? { [linkHeader.reason]: 'limit' } : {}),
    });
  }
  const loginDelayMs = context.settings['pop3.login_delay'];
  // A session that goes on was counted when it began.
  if (!resumes && loginDelay.enter(account.address, loginDelayMs, performance.now()) > 0) {
    account.release();
    return answer(stream, linkStatus.busy, { [linkHeader.reason]: 'login-delay' });
  }
  if (!enterSession(account, resumes ? Number.POSITIVE_INFINITY : context.settings['account.sessions_max'])) {
    account.release();
    return answer(stream, linkStatus.busy, { [linkHeader.reason]: 'limit' });
  }
  const startedAtMs = performance.now();
  const said = capabilitiesWith(loginDelayMs);
  let session: Pop3Session | undefined;
  let output: Pop3Output | undefined;
  let handOver: Pop3HandOver | undefined;
  let reason = 'quit';
  const leave = (): void => {
    if (handOver !== undefined && isMoving(account.ended.reason)) handOver.leave();
    else stream.destroy();
  };
  try {
    const folder = await account.store.folder('INBOX');
    await freshFolder(folder);
    if (restoring !== undefined) await context.book!.supersede(restoring.state.ticket.session);
    const drop =
      restoring === undefined ? await Maildrop.of(folder) : restoreMaildrop(folder, restoring.state);
    if (drop === undefined) {
      reason = 'not-resumed';
      return answer(stream, linkStatus.notResumable);
    }
    if (marked) {
      const ticket = restoring?.state.ticket ?? context.book!.issue(account.address);
      handOver = new Pop3HandOver(stream, account, folder, drop, context.book!, ticket, restoring);
    }
    output = new Pop3Output(stream, handOver?.stateNow);
    handOver?.attach(output);
    session = new Pop3Session(folder, drop, output, said, handOver);
    if (account.ended.aborted) throw new Fault('not-owner', 'the account was left');
    account.ended.addEventListener('abort', leave, { once: true });
    if (stream.destroyed) throw new Fault('gone', 'the gateway gave up');
    stream.respond({
      ':status': linkStatus.accepted,
      [linkHeader.capability]: said.map((word) => word.replaceAll(' ', '=')).join(' '),
      ...(marked ? { [linkHeader.marks]: '1' } : {}),
      ...(handOver !== undefined && !resumes
        ? { [linkHeader.state]: handOver.state().toString('base64') }
        : {}),
    });
    stream.setTimeout(context.settings['pop3.idle_timeout'], () => {
      reason = 'idle';
      if (handOver === undefined) {
        stream.destroy();
        return;
      }
      // A stream that only broke off would be resumed.
      output?.end('over');
      stream.end();
      setTimeout(() => stream.destroy(), lingerMs).unref();
    });
    const ended = await converse(stream, session, output, handOver);
    if (reason !== 'idle') reason = ended === 'closed' && handOver?.leaving ? 'moved' : ended;
    if (reason !== 'moved') output.end('over');
    stream.end();
    stream.resume();
  } catch (error) {
    if (reason !== 'idle')
      reason = account.ended.aborted ? 'account-left' : stream.destroyed ? 'closed' : 'failed';
    if (!stream.headersSent) answer(stream, statusOf(error), ownerHint(context, opening.account));
    else stream.destroy();
    if (reason === 'failed') {
      context.log.warn(
        { trace: opening.trace, account: opening.account, ...factsOf(error) },
        'session failed',
      );
    }
  } finally {
    account.ended.removeEventListener('abort', leave);
    handOver?.end();
    leaveSession(account);
    account.release();
    context.log.info(
      {
        trace: opening.trace,
        account: opening.account,
        service: 'pop3',
        client: opening.client.address,
        reason,
        retrieved: session?.retrievedCount ?? 0,
        deleted: session?.deletedCount ?? 0,
        sentBytes: output?.sentBytes ?? 0,
        ms: Math.round(performance.now() - startedAtMs),
      },
      'session ended',
    );
  }
};

/** What a session began with elsewhere; `undefined`: it is not in form, or its ticket not good. */
function readResumed(opening: Opening, context: ServiceContext): Pop3Restoring | undefined {
  try {
    const state = decodePop3State(Buffer.from(String(opening.headers[linkHeader.state]), 'base64'));
    const taking = parseTaking(String(opening.headers[linkHeader.taking]));
    if (context.book!.isGood(opening.account, state.ticket)) return { state, taking };
    throw new Fault('bad-credentials', 'the ticket of a session is not good');
  } catch (error) {
    const { trace, account } = opening;
    context.log.warn({ trace, account, ...factsOf(error) }, 'session not resumed');
    return undefined;
  }
}

/** Reads and answers until QUIT, the end of the stream, or too much nonsense. Returns the reason it ended. */
async function converse(
  stream: SessionStream,
  session: Pop3Session,
  output: Pop3Output,
  handOver: Pop3HandOver | undefined,
): Promise<string> {
  const lines = new CommandLines();
  // Commands that came in one packet are answered in one write (RFC 2449 6.6).
  for await (const chunk of stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    // What comes now the gateway sends to the next owner again.
    if (handOver?.leaving) continue;
    if (handOver !== undefined) handOver.busy = true;
    try {
      for (const line of lines.push(chunk)) {
        const next = await session.perform(line);
        if (handOver !== undefined) {
          handOver.consumed += line.length + crlfBytes;
          output.boundary(handOver.consumed);
        }
        if (next === 'end') {
          await output.flush();
          return session.tooManyErrors ? 'too-many-errors' : 'quit';
        }
        if (handOver?.leaving) break;
      }
    } catch (error) {
      if (!isFault(error) || error.whose !== 'client' || error.code === 'gone') throw error;
      await output.add(`-ERR ${error.message}\r\n`);
      await output.flush();
      return error.code;
    }
    await output.flush();
    if (handOver === undefined) continue;
    handOver.busy = false;
    if (handOver.leaving) handOver.moveOn();
  }
  return 'closed';
}

const crlfBytes = 2;
/** How long the other half of a stream may stay open after a session's end. */
const lingerMs = 10_000;
