/** What plugins may see of the wire before the greeting, without taking a byte from the door. */
import type { Socket } from 'node:net';
import type { Wire } from '../plugins/api.ts';

/** Longest a plugin may hold a greeting back. */
const waitMsMax = 30_000;

/** @param clientFirst  The client has to speak first (TLS, HTTP): then nothing is early. */
export function wireOf(socket: Socket, clientFirst: boolean): Wire {
  return {
    spokeFirst: (waitMs) =>
      clientFirst ? Promise.resolve(false) : spokeFirst(socket, Math.min(waitMs, waitMsMax)),
  };
}

function spokeFirst(socket: Socket, waitMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const settle = (spoke: boolean): void => {
      clearTimeout(timer);
      socket.off('readable', look);
      socket.off('close', look);
      resolve(spoke);
    };
    // `readable` also comes at the end of input: only bytes count.
    const look = (): void => {
      if (socket.readableLength > 0) settle(true);
      else if (socket.destroyed || socket.readableEnded) settle(false);
    };
    const timer = setTimeout(() => settle(socket.readableLength > 0), waitMs);
    // Listening for it makes the socket read into its own buffer, where the door finds the bytes later.
    socket.on('readable', look);
    socket.on('close', look);
    if (waitMs > 0) look();
  });
}
