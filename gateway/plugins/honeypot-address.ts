/**
 * Addresses nobody writes to but those who harvest them: a name hidden in a web
 * page, an account that was closed years ago. Who sends to one, or tries to log in
 * as one, is turned away everywhere for a while.
 */
import { defer, definePlugin, pass, reject } from './api.ts';

export default definePlugin({
  name: 'honeypot-address',
  options: {
    addresses: { kind: 'texts', default: [], doc: 'Addresses, or @domain for all of a domain.' },
    hits_max: {
      kind: 'count',
      default: 1,
      min: 1,
      doc: 'How often a network may hit one before it is turned away.',
    },
    ban: { kind: 'duration', default: '1h', min: '1s', doc: 'How long it is turned away.' },
  },
  start(options, { countWithin, count }) {
    const hits = countWithin('honeypot-hits', options.ban);
    const traps = new Set(options.addresses.map((address) => address.toLowerCase()));
    const isTrap = (address: string): boolean => {
      const lower = address.toLowerCase();
      return traps.has(lower) || traps.has(lower.slice(lower.lastIndexOf('@')));
    };
    const hit = (network: string): void => {
      hits.add(network);
      count('hits');
    };
    const stuck = (network: string): boolean => hits.of(network) >= options.hits_max;
    return {
      told: {
        loginFailed({ client }, { user }) {
          if (isTrap(user)) hit(client.network);
        },
      },
      asked: {
        connect({ client }) {
          if (!stuck(client.network)) return pass;
          return defer('Try again later', `${hits.of(client.network)} hits on a honeypot`);
        },
        recipient({ client, account }, to) {
          if (account !== undefined || !isTrap(to)) return pass;
          hit(client.network);
          return reject('No such user here', `honeypot ${to}`);
        },
      },
    };
  },
});
