/**
 * The `/imap` service of the link: checks the login, opens the account, and
 * hands the stream to a session. Before `200` no byte of the client is read.
 */
import { Socket } from 'node:net';
import { Fault } from '../../../base/fault.ts';
import { linkHeader, linkStatus, type RefusalReason } from '../../../cluster-protocol/link.ts';
import { parseTaking } from '../../../cluster-protocol/resumption.ts';
import type { Account } from '../../accounts/accounts.ts';
import { answer, factsOf } from '../answers.ts';
import { giveBackGathered } from '../gather-buffers.ts';
import type { Opening, ServiceContext, SessionService, SessionStream } from '../service.ts';
import { enterSession, leaveSession } from '../session-count.ts';
import { capabilityLine } from './capabilities.ts';
import { ImapSession } from './imap-session.ts';
import type { Transport } from './reply-writer.ts';
import { folderOf, restoreView } from './restored-view.ts';
import { imapSessionLimits, type RestoredSession } from './session-options.ts';
import { decodeState, encodeState, firstState } from './session-state.ts';

/** How long the other half of a stream may stay open after a session's end. */
const lingerMs = 10_000;

export const imapService: SessionService = async (stream, opening, context) => {
  const marked = context.book !== undefined && opening.headers[linkHeader.marks] === '1';
  const canCompress = marked && opening.headers[linkHeader.compress] === '1';
  const state = opening.headers[linkHeader.state];
  const resumed = marked && state !== undefined;
  const restoring = resumed ? readResumed(stream, opening, context) : undefined;
  if (resumed && restoring === undefined) return;
  const account = await (restoring === undefined ? login : openAccount)(stream, opening, context);
  if (account === undefined) return;
  let restored: RestoredSession | undefined;
  if (restoring !== undefined) {
    try {
      restored = await restore(account, restoring, context);
    } catch (error) {
      // The account moves on, or its storage has trouble: the gateway asks again.
      context.log.warn({ trace: opening.trace, ...factsOf(error) }, 'session not resumed yet');
      if (!stream.destroyed) refuseNotOwner(stream, opening, context);
    }
    if (restored === undefined && !stream.destroyed) answer(stream, linkStatus.notResumable);
  }
  if (stream.destroyed || (restoring !== undefined && restored === undefined)) {
    account.release();
    return;
  }
  // A session that goes on was counted when it began.
  if (!enterSession(account, resumed ? Number.POSITIVE_INFINITY : context.settings['account.sessions_max'])) {
    account.release();
    refuse(stream, linkStatus.busy, 'limit');
    return;
  }
  const ticket = restored?.state.ticket ?? (marked ? context.book!.issue(account.address) : undefined);
  stream.respond({
    ':status': linkStatus.accepted,
    [linkHeader.capability]: capabilityLine(account.store, canCompress),
    ...(marked ? { [linkHeader.marks]: '1' } : {}),
    ...(marked && !resumed
      ? { [linkHeader.state]: encodeState(firstState(ticket!)).toString('base64') }
      : {}),
  });
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
        ...(resumed ? { resumed } : {}),
      },
      resumable: ticket && { book: context.book!, ticket },
      restored,
      canCompress,
      ended: () => {
        leaveSession(account);
        account.release();
        resolve();
      },
    });
    transport.attach(session);
    if (resumed) session.goOn();
  });
};

/** What a session began with elsewhere: the ticket in its state stands for its login. Refuses it itself. */
function readResumed(
  stream: SessionStream,
  opening: Opening,
  context: ServiceContext,
): Restoring | undefined {
  try {
    const state = decodeState(Buffer.from(String(opening.headers[linkHeader.state]), 'base64'));
    const taking = parseTaking(String(opening.headers[linkHeader.taking]));
    if (context.book!.isGood(opening.account, state.ticket)) return { state, taking };
    throw new Fault('bad-credentials', 'the ticket of a session is not good');
  } catch (error) {
    context.log.warn(
      { trace: opening.trace, account: opening.account, ...factsOf(error) },
      'session not resumed',
    );
    answer(stream, linkStatus.notResumable);
    return undefined;
  }
}

type Restoring = Omit<RestoredSession, 'selected'>;

/** @returns `undefined` when the client's numbers cannot be rebuilt. */
async function restore(
  account: Account,
  { state, taking }: Restoring,
  context: ServiceContext,
): Promise<RestoredSession | undefined> {
  // Its link broke, its process did not: what it is doing comes to an end first.
  await context.book!.supersede(state.ticket.session);
  if (state.selected === undefined) return { state, taking, selected: undefined };
  const folder = await folderOf(account.store, state.selected);
  const view = folder && (await restoreView(folder, state.selected));
  if (folder === undefined || view === undefined) {
    const { name, modseq, uidLimit, count, untold } = state.selected;
    context.log.info(
      {
        event: 'view-not-rebuilt',
        account: account.address,
        folder: name,
        there: folder !== undefined,
        modseq,
        uidLimit,
        count,
        untold,
        now: folder && {
          modseq: folder.highestModseq,
          count: folder.count,
          gone: folder.expungedSince(modseq)?.slice(0, 20),
        },
      },
      'session not resumed',
    );
    return undefined;
  }
  return { state, taking, selected: { folder, readOnly: state.selected.readOnly, view } };
}

async function login(
  stream: SessionStream,
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
  return openAccount(stream, opening, context);
}

async function openAccount(
  stream: SessionStream,
  opening: Opening,
  context: ServiceContext,
): Promise<Account | undefined> {
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

function refuse(stream: SessionStream, status: number, reason: RefusalReason): void {
  if (stream.destroyed) return;
  stream.respond({ ':status': status, [linkHeader.reason]: reason }, { endStream: true });
}

function refuseNotOwner(stream: SessionStream, opening: Opening, context: ServiceContext): void {
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
type Held = SessionStream & { [transportOf]: StreamTransport };

/** A stream as the session sees it. Handlers are shared: ten thousand sessions are idle most of the time. */
class StreamTransport implements Transport {
  readonly #stream: SessionStream;
  session: ImapSession | undefined;
  #lingering: NodeJS.Timeout | undefined;
  /** The last chunk the other side has not read. */
  #unwritten: Buffer | undefined;

  constructor(stream: SessionStream) {
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
    const stream = this.#stream;
    const room = stream.write(chunk);
    // All of it is on its way: there is nothing to wait for.
    if (stream.writableLength === 0) {
      this.#giveBack(chunk);
      return true;
    }
    if (!room) this.#unwritten = chunk;
    return room;
  }

  /** A link may still hold bytes of a stream that is closed; a socket does not. */
  #giveBack(chunk: Buffer): void {
    if (this.#stream instanceof Socket) giveBackGathered(chunk);
  }

  drained(): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.#stream.off('drain', done);
        this.#stream.off('close', done);
        if (this.#unwritten !== undefined && !this.#stream.destroyed) this.#giveBack(this.#unwritten);
        this.#unwritten = undefined;
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

  gather(): void {
    this.#stream.cork();
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

function streamData(this: SessionStream, chunk: Buffer): void {
  (this as Held)[transportOf].session?.receive(chunk);
}
function streamEnd(this: SessionStream): void {
  (this as Held)[transportOf].session?.inputEnded();
}
function streamClose(this: SessionStream): void {
  (this as Held)[transportOf].streamClosed();
}
function destroy(stream: SessionStream): void {
  stream.destroy();
}
function ignore(): void {}
