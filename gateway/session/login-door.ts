/** A door for protocols that log in and then belong to the owner: IMAP and POP3. */
import type { Socket } from 'node:net';
import { LoginConnection, type LoginConnectionOwner, type LoginDoorParts } from './login-connection.ts';
import type { MutableSession } from './session.ts';
import { Splice, type SpliceOwner } from './splice.ts';

export interface LoginDoor {
  /** Takes over a connection that has passed PROXY and throttle. */
  accept(socket: Socket, session: MutableSession, implicitTls: boolean): void;
  readonly connectionCount: number;
  /** Says goodbye to everybody who is between commands, waits for the others up to `graceMs`, then cuts them. */
  close(graceMs: number): Promise<void>;
}

/** How often sessions that are new since the last time get TCP keep-alive. */
const keepAliveRoundMs = 60_000;
/** How often a closing door looks for sessions that have come to rest. */
const restCheckMs = 60;

export function openLoginDoor(parts: LoginDoorParts): LoginDoor {
  const { chain, log } = parts;
  const before = new Set<LoginConnection>();
  const after = new Set<Splice>();
  let closing = false;
  const keepingAlive = setInterval(() => {
    for (const splice of after) splice.keepAlive();
  }, keepAliveRoundMs).unref();

  const spliceOwner: SpliceOwner = {
    deadlines: parts.deadlines,
    farewell: { lost: parts.words.lost, stopping: parts.words.lost === '' ? '' : parts.words.stopping },
    ended(splice, reason) {
      if (!after.delete(splice)) return;
      finished(splice.session, splice.client, reason);
    },
  };
  const owner: LoginConnectionOwner = {
    loggedIn(connection, socket, stream, rest) {
      before.delete(connection);
      const splice = new Splice(socket, stream, connection.session, spliceOwner, rest);
      if (socket.destroyed) finished(connection.session, socket, 'client');
      else after.add(splice);
    },
    ended(connection, reason) {
      if (before.delete(connection)) finished(connection.session, undefined, reason);
    },
  };
  const finished = (session: MutableSession, socket: Socket | undefined, reason: string): void => {
    chain.tell('disconnected', session);
    log.info(
      {
        trace: session.id,
        protocol: session.protocol,
        client: session.client.address,
        port: session.client.port,
        listener: session.listener,
        tls: session.tls?.version,
        account: session.account,
        bytesIn: socket?.bytesRead,
        bytesOut: socket?.bytesWritten,
        reason,
        ms: Date.now() - session.startedAtMs,
      },
      'connection',
    );
  };

  return {
    accept(socket, session, implicitTls) {
      const connection = new LoginConnection(socket, session, parts, owner);
      before.add(connection);
      if (closing) connection.stop();
      else void connection.start(implicitTls);
    },
    get connectionCount() {
      return before.size + after.size;
    },
    async close(graceMs) {
      closing = true;
      clearInterval(keepingAlive);
      for (const connection of before) connection.stop();
      const endMs = performance.now() + graceMs;
      while (after.size > 0 && performance.now() < endMs) {
        for (const splice of after) if (splice.quiet()) splice.stop();
        await new Promise((resolve) => setTimeout(resolve, restCheckMs));
      }
      for (const splice of after) splice.cut();
    },
  };
}
