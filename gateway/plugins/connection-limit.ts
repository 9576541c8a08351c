/**
 * Bounds how many connections one network holds at once, over all protocols.
 * IPv6 clients own whole networks, so the /64 is counted, and the /48 beside it;
 * for IPv4 the address and its /24. The gateway has a cap of its own that comes
 * before this (`net.connections_per_network_max`): this one is finer, and shared
 * with nobody else's policy.
 */
import { definePlugin, disconnect, pass, type Session } from './api.ts';

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
    // A session is counted once and given back once, in whatever order the reports come.
    const counted = new WeakSet<Session>();
    return {
      told: {
        connected(session) {
          if (counted.has(session)) return;
          counted.add(session);
          networks.enter(session.client.network);
          wideNetworks.enter(session.client.wideNetwork);
        },
        disconnected(session) {
          if (!counted.delete(session)) return;
          networks.leave(session.client.network);
          wideNetworks.leave(session.client.wideNetwork);
        },
      },
      asked: {
        connect(session) {
          const own = counted.has(session) ? 0 : 1;
          const held = networks.of(session.client.network) + own;
          const heldWide = wideNetworks.of(session.client.wideNetwork) + own;
          if (held <= per_network && heldWide <= per_wide_network) return pass;
          return disconnect(
            'Too many connections, try again later',
            `${held} held, ${heldWide} in the wide network`,
          );
        },
      },
    };
  },
});
