/**
 * Turns away networks that keep guessing passwords, and slows guessing at one
 * account from many networks. Guessers hop between IMAP, POP, SMTP and HTTP, so
 * failures are counted once, across all of them.
 *
 * An account is never locked: whoever knows its name could lock its owner out.
 * Past `account_failures_max` every login for it is held back by `account_delay`,
 * except from networks where its owner logged in before.
 *
 * Mail from other servers (port 25) has no login and is left alone.
 */
import { defer, definePlugin, disconnect, pass, throttle } from './api.ts';

export default definePlugin({
  name: 'guess-guard',
  options: {
    failures_max: {
      kind: 'count',
      default: 10,
      min: 1,
      doc: 'Failed logins allowed per network (IPv4 address, IPv6 /64) within the window.',
    },
    wide_failures_max: {
      kind: 'count',
      default: 100,
      min: 1,
      doc: 'Failed logins allowed per wide network (IPv4 /24, IPv6 /48) within the window.',
    },
    account_failures_max: {
      kind: 'count',
      default: 20,
      min: 1,
      doc: 'Failed logins of one account, from anywhere, before logins for it are slowed.',
    },
    account_delay: {
      kind: 'duration',
      default: '5s',
      max: '30s',
      doc: 'How long a login for such an account is held back.',
    },
    window: { kind: 'duration', default: '10m', min: '1s', doc: 'How far back failures are counted.' },
    remember: {
      kind: 'duration',
      default: '7d',
      min: '1m',
      doc: 'How long a network is remembered as one its owner logs in from.',
    },
  },
  start(options, { countWithin, count }) {
    const { failures_max, wide_failures_max, account_failures_max, account_delay } = options;
    const failures = countWithin('login-failures', options.window);
    const wideFailures = countWithin('login-failures-wide', options.window);
    const accountFailures = countWithin('login-failures-account', options.window);
    const successes = countWithin('login-successes', options.remember);
    const home = (account: string, network: string): string => `${network} ${account}`;
    const guesses = (client: { network: string; wideNetwork: string }): string | undefined => {
      const seen = failures.of(client.network);
      if (seen >= failures_max) return `${seen} failures from ${client.network}`;
      const seenWide = wideFailures.of(client.wideNetwork);
      return seenWide >= wide_failures_max ? `${seenWide} failures from ${client.wideNetwork}` : undefined;
    };
    return {
      told: {
        loginFailed({ client }, { user }) {
          failures.add(client.network);
          wideFailures.add(client.wideNetwork);
          accountFailures.add(user);
          count('login-failures');
        },
        loggedIn({ client, account }) {
          if (account !== undefined) successes.add(home(account, client.network));
        },
      },
      asked: {
        connect({ client, protocol }) {
          if (protocol === 'smtp') return pass;
          const reason = guesses(client);
          return reason === undefined ? pass : defer('Too many failed logins, try again later', reason);
        },
        login({ client }, { user }) {
          const reason = guesses(client);
          if (reason !== undefined) return disconnect('Too many failed logins, try again later', reason);
          const seen = accountFailures.of(user);
          if (seen < account_failures_max || successes.of(home(user, client.network)) > 0) return pass;
          return throttle(account_delay, `${seen} failures for this account`);
        },
      },
    };
  },
});
