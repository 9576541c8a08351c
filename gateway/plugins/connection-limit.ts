/**
 * Bounds how many connections one network holds at once, over all protocols.
 * IPv6 clients own whole networks, so the /64 is counted, and the /48 beside it;
 * for IPv4 the address and its /24. The gateway has a cap of its own that comes
 * before this (`net.connections_per_network_max`): this one is finer, and shared
 * with nobody else's policy.
 */
import { definePlugin, disconnect, pass, type Session } from './api.ts';

/** Longest from the question to `connected`: longer than any time a door gives a client for TLS. */
const arrivingMs = 120_000;

export default definePlugin({
  name: 'connection-limit',
  options: {
    per_network: {
      kind: 'count',
      default: 50,
      min: 1,
      doc: 'Connections at once from one IPv4 address or IPv6 /64.',
    },
    per_wide_network: {
      kind: 'count',
      default: 200,
      min: 1,
      doc: 'Connections at once from one IPv4 /24 or IPv6 /48.',
    },
  },
  start({ per_network, per_wide_network }, { gauge }) {
    const networks = gauge('connections-per-network');
    const wideNetworks = gauge('connections-per-wide-network');
    // Counted from the question on: of a thousand that arrive together, none is connected yet while the others
    // are asked. Whoever never gets as far as `connected` (TLS fails, another plugin refuses) is given back.
    const counted = new WeakSet<Session>();
    const arriving = new WeakMap<Session, NodeJS.Timeout>();
    const enter = (session: Session): void => {
      if (counted.has(session)) return;
      counted.add(session);
      networks.enter(session.client.network);
      wideNetworks.enter(session.client.wideNetwork);
    };
    const arrived = (session: Session): void => {
      clearTimeout(arriving.get(session));
      arriving.delete(session);
    };
    const leave = (session: Session): void => {
      arrived(session);
      if (!counted.delete(session)) return;
      networks.leave(session.client.network);
      wideNetworks.leave(session.client.wideNetwork);
    };
    return {
      told: {
        connected(session) {
          arrived(session);
          enter(session);
        },
        refused(session, question) {
          if (question === 'connect') leave(session);
        },
        disconnected: leave,
      },
      asked: {
        connect(session) {
          enter(session);
          const held = networks.of(session.client.network);
          const heldWide = wideNetworks.of(session.client.wideNetwork);
          if (held > per_network || heldWide > per_wide_network) {
            return disconnect(
              'Too many connections, try again later',
              `${held} held, ${heldWide} in the wide network`,
            );
          }
          arriving.set(session, setTimeout(leave, arrivingMs, session).unref());
          return pass;
        },
      },
    };
  },
});
