/**
 * Turns away senders that talk before they were greeted. A mail server waits for
 * the greeting (RFC 5321 4.3.1); bulk senders that write their commands blindly do
 * not. Only asked on port 25: a person's mail program is not made to wait, nor is
 * a server that has passed before.
 */
import { definePlugin, disconnect, pass } from './api.ts';

export default definePlugin({
  name: 'early-talker',
  options: {
    wait: {
      kind: 'duration',
      default: '1s',
      max: '8s',
      doc: 'How long the greeting is held back for a network not seen before.',
    },
    remember: {
      kind: 'duration',
      default: '1d',
      min: '1s',
      doc: 'How long a network that waited is greeted at once.',
    },
  },
  start({ wait, remember }, { countWithin }) {
    const passed = countWithin('early-talker-passed', remember);
    return {
      asked: {
        async connect({ protocol, client }, wire) {
          if (protocol !== 'smtp') return pass;
          const known = passed.of(client.network) > 0;
          // Even who is known may not have sent anything yet: that costs no wait.
          if (await wire.spokeFirst(known ? 0 : wait)) {
            return disconnect('Protocol error: command before greeting', 'spoke before the greeting');
          }
          if (!known) passed.add(client.network);
          return pass;
        },
      },
    };
  },
});
