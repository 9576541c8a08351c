/**
 * Token buckets for everything that can be done too often: connections of a
 * network, mail of a sender's domain or of an account, recipients of an account.
 * A bucket that is empty means "not now": a well-behaved sender comes again.
 *
 * A stolen account shows first by the number of its recipients; that is what
 * `account_recipients` is for.
 */
import { defer, definePlugin, pass, throttle } from './api.ts';

export default definePlugin({
  name: 'rate-limit',
  options: {
    per: { kind: 'duration', default: '1h', min: '1s', doc: 'The time all numbers below are for.' },
    network_connections: {
      kind: 'count',
      default: 0,
      doc: 'Connections of one network (IPv4 address, IPv6 /64). 0: no limit.',
    },
    wide_connections: {
      kind: 'count',
      default: 0,
      doc: 'Connections of one wide network (IPv4 /24, IPv6 /48). 0: no limit.',
    },
    network_messages: { kind: 'count', default: 0, doc: 'Messages of one network to us. 0: no limit.' },
    domain_messages: {
      kind: 'count',
      default: 0,
      doc: "Messages of one sender's domain to us. 0: no limit.",
    },
    account_messages: { kind: 'count', default: 500, doc: 'Messages an account may send. 0: no limit.' },
    account_recipients: {
      kind: 'count',
      default: 2000,
      doc: 'Recipients an account may send to. 0: no limit.',
    },
    burst: {
      kind: 'number',
      default: 0.2,
      min: 0.001,
      max: 1,
      doc: 'The share of a number that may come all at once.',
    },
    slow_down: {
      kind: 'duration',
      default: '2s',
      max: '30s',
      doc: 'Who is over a limit by less than this is made to wait; who is over it by more is turned away.',
    },
  },
  start(options, { buckets, count }) {
    const limit = (name: string, amount: number): ((key: string) => number) => {
      if (amount === 0) return () => 0;
      const burst = Math.max(1, Math.ceil(amount * options.burst));
      const all = buckets(`rate-limit ${name}`, { amount, perMs: options.per, burst });
      return (key) => all.take(key);
    };
    const limits = {
      networkConnections: limit('network connections', options.network_connections),
      wideConnections: limit('wide connections', options.wide_connections),
      networkMessages: limit('network messages', options.network_messages),
      domainMessages: limit('domain messages', options.domain_messages),
      accountMessages: limit('account messages', options.account_messages),
      accountRecipients: limit('account recipients', options.account_recipients),
    };
    const verdict = (waits: readonly (readonly [what: string, waitMs: number])[]) => {
      const [what, waitMs] = waits.reduce((worst, one) => (one[1] > worst[1] ? one : worst));
      if (waitMs === 0) return pass;
      const log = `${what}: ${Math.ceil(waitMs)} ms too early`;
      if (waitMs <= options.slow_down) return throttle(waitMs, log);
      count('refused');
      return defer('Too much at once, try again later', log);
    };
    return {
      asked: {
        connect: ({ client }) =>
          verdict([
            [`connections of ${client.network}`, limits.networkConnections(client.network)],
            [`connections of ${client.wideNetwork}`, limits.wideConnections(client.wideNetwork)],
          ]),
        sender({ client, account }, from) {
          if (account !== undefined)
            return verdict([[`messages of ${account}`, limits.accountMessages(account)]]);
          const domain = from.slice(from.lastIndexOf('@') + 1).toLowerCase();
          return verdict([
            [`messages of ${client.network}`, limits.networkMessages(client.network)],
            // Bounces have no sender's domain; their network is counted.
            [`messages of ${domain}`, from === '' ? 0 : limits.domainMessages(domain)],
          ]);
        },
        recipient({ account }) {
          if (account === undefined) return pass;
          return verdict([[`recipients of ${account}`, limits.accountRecipients(account)]]);
        },
      },
    };
  },
});
