/** `/pop3`: checks the password, then carries a POP3 session on the stream. */
import { Fault, isFault } from '../../../base/fault.ts';
import { linkHeader, linkStatus } from '../../../cluster-protocol/link.ts';
import type { Account } from '../../accounts/accounts.ts';
import { answer, factsOf, ownerHint, statusOf } from '../answers.ts';
import { freshFolder } from '../fresh-folder.ts';
import { checkCredentials } from '../login-service.ts';
import type { SessionService, SessionStream } from '../service.ts';
import { enterSession, leaveSession } from '../session-count.ts';
import { LoginDelay } from './login-delay.ts';
import { Maildrop } from './maildrop.ts';
import { CommandLines } from './pop3-command.ts';
import { Pop3Output } from './pop3-output.ts';
import { capabilitiesWith, Pop3Session } from './pop3-session.ts';

/** Of this backend. */
const loginDelay = new LoginDelay();

/**
 * 401 when the credentials are wrong; 200, and the session's bytes follow, from the first command after login.
 * The stream ends after QUIT, when the client is silent for `pop3.idle_timeout` (then without removing anything,
 * RFC 1939 3), when the client is gone, or when the account must be left.
 */
export const pop3Service: SessionService = async (stream, opening, context) => {
  stream.on('error', () => {});
  const checked = await checkCredentials(opening, context, 'pop3');
  if (!checked.ok) return answer(stream, checked.status, checked.headers);
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
  if (loginDelay.enter(account.address, loginDelayMs, performance.now()) > 0) {
    account.release();
    return answer(stream, linkStatus.busy, { [linkHeader.reason]: 'login-delay' });
  }
  if (!enterSession(account, context.settings['account.sessions_max'])) {
    account.release();
    return answer(stream, linkStatus.busy, { [linkHeader.reason]: 'limit' });
  }
  const startedAtMs = performance.now();
  const output = new Pop3Output(stream);
  const said = capabilitiesWith(loginDelayMs);
  let session: Pop3Session | undefined;
  let reason = 'quit';
  const leave = (): void => {
    stream.destroy();
  };
  try {
    const folder = await account.store.folder('INBOX');
    await freshFolder(folder);
    session = new Pop3Session(folder, await Maildrop.of(folder), output, said);
    if (account.ended.aborted) throw new Fault('not-owner', 'the account was left');
    account.ended.addEventListener('abort', leave, { once: true });
    if (stream.destroyed) throw new Fault('gone', 'the gateway gave up');
    stream.respond({
      ':status': linkStatus.accepted,
      [linkHeader.capability]: said.map((word) => word.replaceAll(' ', '=')).join(' '),
    });
    stream.setTimeout(context.settings['pop3.idle_timeout'], () => {
      reason = 'idle';
      stream.destroy();
    });
    reason = await converse(stream, session, output);
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
        sentBytes: output.sentBytes,
        ms: Math.round(performance.now() - startedAtMs),
      },
      'session ended',
    );
  }
};

/** Reads and answers until QUIT, the end of the stream, or too much nonsense. Returns the reason it ended. */
async function converse(stream: SessionStream, session: Pop3Session, output: Pop3Output): Promise<string> {
  const lines = new CommandLines();
  // Commands that came in one packet are answered in one write (RFC 2449 6.6).
  for await (const chunk of stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    try {
      for (const line of lines.push(chunk)) {
        if ((await session.perform(line)) === 'end') {
          await output.flush();
          return session.tooManyErrors ? 'too-many-errors' : 'quit';
        }
      }
    } catch (error) {
      if (!isFault(error) || error.whose !== 'client' || error.code === 'gone') throw error;
      await output.add(`-ERR ${error.message}\r\n`);
      await output.flush();
      return error.code;
    }
    await output.flush();
  }
  return 'closed';
}
