/**
 * The `/imap` service of the link: checks the login, opens the account, and
 * hands the stream to a session. Before `200` no byte of the client is read.
 */
import type { ServerHttp2Stream } from 'node:http2';
import { Fault } from '../../../base/fault.ts';
import { linkHeader, linkStatus, type RefusalReason } from '../../../cluster-protocol/link.ts';
import type { Account } from '../../accounts/accounts.ts';
import type { Opening, Service, ServiceContext } from '../service.ts';
import { enterSession, leaveSession } from '../session-count.ts';
import { capabilityLine } from './capabilities.ts';
import { ImapSession } from './imap-session.ts';
import type { Transport } from './reply-writer.ts';
import { imapSessionLimits } from './session-options.ts';

/** How long the other half of a stream may stay open after a session's end. */
const lingerMs = 10_000;

export const imapService: Service = async (stream, opening, context) => {
  const account = await login(stream, opening, context);
  if (account === undefined) return;
  if (stream.destroyed) {
    account.release();
    return;
  }
  if (!enterSession(account, context.settings['account.sessions_max'])) {
    account.release();
    refuse(stream, linkStatus.busy, 'limit');
    return;
  }
  stream.respond({ ':status': linkStatus.accepted, [linkHeader.capability]: capabilityLine(account.store) });
  await new Promise<void>((resolve) => {
    const transport = new StreamTransport(stream);
    const session = new ImapSession({
      account,
      transport,
      limits: {
        ...imapSessionLimits,
        idleMs: context.settings['imap.idle_timeout'],
        commandsPerSecondMax: context.settings['imap.commands_per_second'],
        commandBytesMax: context.settings['imap.command_bytes_max'],
      },
      log: context.log,
      facts: {
        trace: opening.trace,
        account: account.address,
        client: opening.client.address,
        port: opening.client.port,
        tls: opening.tls ?? 'none',
      },
      ended: () => {
        leaveSession(account);
        account.release();
        resolve();
      },
    });
    transport.attach(session);
  });
};

async function login(
  stream: ServerHttp2Stream,
  opening: Opening,
  context: ServiceContext,
): Promise<Account | undefined> {
  const { credentials } = opening;
  if (credentials === undefined || !(await context.accounts.verify(credentials))) {
    context.log.info(
      {
        event: 'login-refused',
        trace: opening.trace,
        account: opening.account,
        client: opening.client.address,
      },
      'login refused',
    );
    refuse(stream, linkStatus.refused, 'credentials');
    return undefined;
  }
  try {
    return await context.accounts.open(opening.account);
  } catch (error) {
    const fault = Fault.from(error);
    context.log.warn(
      {
        event: 'account-open-failed',
        trace: opening.trace,
        account: opening.account,
        code: fault.code,
        error: fault.message,
      },
      'account could not be opened',
    );
    if (fault.code === 'no-such-account') refuse(stream, linkStatus.refused, 'credentials');
    else if (fault.code === 'not-owner' || fault.code === 'lease-lost')
      refuseNotOwner(stream, opening, context);
    else refuse(stream, linkStatus.busy, 'busy');
    return undefined;
  }
}

function refuse(stream: ServerHttp2Stream, status: number, reason: RefusalReason): void {
  if (stream.destroyed) return;
  stream.respond({ ':status': status, [linkHeader.reason]: reason }, { endStream: true });
}

function refuseNotOwner(stream: ServerHttp2Stream, opening: Opening, context: ServiceContext): void {
  if (stream.destroyed) return;
  const owned = context.owns(opening.account);
  const hint = owned.ok ? {} : { [linkHeader.owner]: owned.owner };
  stream.respond(
    {
      ':status': owned.ok ? linkStatus.busy : linkStatus.notOwner,
      ...hint,
      [linkHeader.epoch]: String(owned.epoch),
    },
    { endStream: true },
  );
}

const transportOf = Symbol('transport');
type Held = ServerHttp2Stream & { [transportOf]: StreamTransport };

/** An HTTP/2 stream as the session sees it. Handlers are shared: ten thousand sessions are idle most of the time. */
class StreamTransport implements Transport {
  readonly #stream: ServerHttp2Stream;
  session: ImapSession | undefined;
  #lingering: NodeJS.Timeout | undefined;

  constructor(stream: ServerHttp2Stream) {
    this.#stream = stream;
  }

  attach(session: ImapSession): void {
    const stream = this.#stream;
    this.session = session;
    (stream as Held)[transportOf] = this;
    stream.on('data', streamData);
    stream.on('end', streamEnd);
    // `close` follows every error; without a listener an error would end the process.
    stream.on('error', ignore);
    stream.on('close', streamClose);
  }

  get closed(): boolean {
    return this.#stream.destroyed;
  }

  write(chunk: Buffer): boolean {
    return this.#stream.write(chunk);
  }

  drained(): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.#stream.off('drain', done);
        this.#stream.off('close', done);
        resolve();
      };
      if (this.#stream.destroyed) {
        resolve();
        return;
      }
      this.#stream.on('drain', done);
      this.#stream.on('close', done);
    });
  }

  pauseInput(): void {
    this.#stream.pause();
  }

  resumeInput(): void {
    if (!this.#stream.destroyed) this.#stream.resume();
  }

  end(): void {
    const stream = this.#stream;
    if (stream.destroyed) return;
    stream.end();
    // The gateway ends its half when it sees ours end; one that does not may not hold the stream for good.
    this.#lingering = setTimeout(destroy, lingerMs, stream).unref();
  }

  destroy(): void {
    this.#stream.destroy();
  }

  streamClosed(): void {
    // At once: a short session must not be kept in memory for its timer.
    clearTimeout(this.#lingering);
    this.session?.connectionLost();
  }
}

function streamData(this: ServerHttp2Stream, chunk: Buffer): void {
  (this as Held)[transportOf].session?.receive(chunk);
}
function streamEnd(this: ServerHttp2Stream): void {
  (this as Held)[transportOf].session?.inputEnded();
}
function streamClose(this: ServerHttp2Stream): void {
  (this as Held)[transportOf].streamClosed();
}
function destroy(stream: ServerHttp2Stream): void {
  stream.destroy();
}
function ignore(): void {}
