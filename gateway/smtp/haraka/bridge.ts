/**
 * The bridge: our answers to Haraka's questions. The session has judged every
 * command before Haraka gets it, so most hooks only keep Haraka from deciding
 * anything of its own; delivery happens in the queue hook and nowhere else.
 */
import type { HarakaPeer } from './socket.ts';
import { type HarakaConnection, type Hook, hookResult } from './types.ts';

export const bridgeName = 'postern';

const first = -100;
const last = 100;

const peerOf = (connection: HarakaConnection): HarakaPeer =>
  (connection.client as unknown as { peer: HarakaPeer }).peer;

const deliver: Hook = (next, connection: HarakaConnection) =>
  peerOf(connection)
    .deliver()
    .then((outcome) => {
      if (outcome === 'accepted') next(hookResult.ok, 'OK');
      else next(outcome === 'deferred' ? hookResult.denySoft : hookResult.deny, 'Not accepted');
    });

/** Hook, priority, function. */
export const bridgeHooks: readonly (readonly [hook: string, priority: number, run: Hook])[] = [
  // no reverse lookup before the greeting: it costs up to seconds and decides nothing
  ['lookup_rdns', last, (next) => next(hookResult.ok, 'Unknown')],
  [
    'capabilities',
    last,
    (next, connection: HarakaConnection) => {
      connection.capabilities = [...peerOf(connection).capabilities];
      next();
    },
  ],
  // the owner has confirmed the recipient before Haraka heard of it
  ['rcpt', last, (next) => next(hookResult.ok)],
  // first of all: a plugin that queues somewhere else must not answer for us
  ['queue', first, deliver],
  ['queue_outbound', first, deliver],
];
