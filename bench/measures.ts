/**
 * The works that are compared: what each needs, how one round of it is measured
 * on each side, and the mark it has to reach (the table in
 * docs/internals/performance.md says what the marks are about).
 */

import { proxyCeiling } from './ceiling.ts';
import type { Mark } from './figures.ts';
import { smtpAlone, smtpToMailbox, storeOverLink } from './mail-in.ts';
import { peerPort } from './peers.ts';
import { fillBox } from './postern.ts';
import { selectMeasures } from './select-measures.ts';
import { type Bench, dovecot, first, load, type Measure, numberIn, postern, type Side } from './sides.ts';

interface ImapOptions {
  readonly tls?: boolean;
  readonly mark?: Mark;
  /** As user number 1, where the boxes are. */
  readonly one?: boolean;
  readonly env?: Readonly<Record<string, string>>;
  prepare?(bench: Bench): Promise<void>;
}

/** One `bench.sh` measure on both sides, with the same user names, boxes and seconds. */
function imapLoad(
  work: string,
  measure: string,
  key: string,
  unit: string,
  { tls = false, mark, one = false, env = {}, prepare }: ImapOptions = {},
): Measure {
  const round = async (bench: Bench, side: Side): Promise<number> =>
    numberIn(await load(bench, measure, one ? first(side) : side, env), key);
  return {
    work,
    unit,
    peer: 'Dovecot',
    ...(mark === undefined ? {} : { mark }),
    ...(prepare === undefined ? {} : { prepare }),
    peers: ['dovecot'],
    ours: (bench) => round(bench, postern(bench, tls)),
    theirs: (bench) => round(bench, dovecot(bench, tls)),
  };
}

/** A server has been up for a while: compiled, and with the passwords of these users verified. */
async function warmLogins(bench: Bench): Promise<void> {
  for (const side of [postern(bench), dovecot(bench)]) await load(bench, 'login', side, { SECS: '5' });
}

const fetchOptions = { one: true, env: { BOX: 'm1k' } };
const login = 'IMAP login, select, logout';
const bulkFetch = 'bulk FETCH 1,000 x 10 KiB';

/** The same path as ours, proxy and server: nginx mail in front of Dovecot. */
const noopBesideNginx: Measure = {
  work: 'NOOP, 20 connections, plain, beside a proxy',
  unit: 'commands/s',
  peer: 'nginx mail > Dovecot',
  mark: { atLeastTimes: 2 },
  peers: ['dovecot', 'nginx'],
  ours: async (bench) => numberIn(await load(bench, 'noop20', postern(bench)), 'per_s'),
  theirs: async (bench) =>
    numberIn(await load(bench, 'noop20', { ...dovecot(bench), port: peerPort(146) }), 'per_s'),
};

const pop3Login: Measure = {
  work: 'POP3 login, STAT, QUIT, plain',
  unit: 'logins/s',
  peer: 'Dovecot',
  mark: { atLeastTimes: 10 },
  peers: ['dovecot'],
  ours: async (bench) =>
    numberIn(await load(bench, 'pop3login', { ...postern(bench), port: bench.postern.ports.pop3 }), 'per_s'),
  theirs: async (bench) =>
    numberIn(await load(bench, 'pop3login', { ...dovecot(bench), port: peerPort(110) }), 'per_s'),
};

/** A search that took less was answered by the index; how long to wait for that. */
const indexedMs = 50;
const indexedWithinMs = 60_000;

/** For a text that stands in no message: an answer without an index has to read them all. */
const searchBody = imapLoad('SEARCH BODY over 10,000 x 4 KiB', 'search', 'p50_ms', 'ms', {
  one: true,
  mark: { atMostTimes: 1 / 20 },
  env: { BOX: 'm10k' },
  async prepare(bench) {
    for (const side of [postern(bench), dovecot(bench)]) await fillBox('m10k', 10_000, 4096, first(side));
    // The index is built in the background: what is compared is a mailbox that has been there for a while.
    const startedMs = performance.now();
    while (performance.now() - startedMs < indexedWithinMs) {
      const line = await load(bench, 'search', first(postern(bench)), { BOX: 'm10k', COUNT: '1' });
      if (numberIn(line, 'max_ms') < indexedMs) break;
    }
  },
});

const idle = (tls: boolean, atMost: number): Measure => ({
  work: `an idle session, ${tls ? 'TLS' : 'plain'}`,
  unit: 'KiB',
  peer: 'Dovecot',
  mark: { atMost },
  peers: ['dovecot'],
  ours: async (bench) => {
    // A proxy that has run load keeps its heap: a fresh one is measured.
    await bench.postern.restart();
    const line = await load(bench, 'idle', postern(bench, tls), { CONNS: String(bench.idleSessions) });
    return numberIn(line, 'srv_pss_kib_per_conn');
  },
  theirs: async (bench) => {
    const line = await load(bench, 'idle', dovecot(bench, tls), {
      CONNS: String(Math.min(bench.idleSessions, 1000)),
    });
    return numberIn(line, 'srv_pss_kib_per_conn');
  },
});

/** In the order they run: what fills the disk with small files comes last, as every count of files walks over them. */
export const measures: readonly Measure[] = [
  imapLoad(`${login}, plain`, 'login', 'per_s', 'logins/s', {
    mark: { atLeastTimes: 10 },
    prepare: warmLogins,
  }),
  imapLoad(`${login}, TLS`, 'login', 'per_s', 'logins/s', { tls: true, mark: { atLeastTimes: 5 } }),
  imapLoad(`${login}, TLS resumed`, 'loginr', 'per_s', 'logins/s', { tls: true }),
  pop3Login,
  proxyCeiling(false),
  proxyCeiling(true),
  imapLoad('NOOP, 20 connections, plain', 'noop20', 'per_s', 'commands/s', { mark: { atLeastTimes: 1 } }),
  noopBesideNginx,
  imapLoad('NOOP p50, one connection, TLS', 'noop1', 'p50_ms', 'ms', { tls: true, mark: { atMostTimes: 1 } }),
  imapLoad('NOOP p99, one connection, TLS', 'noop1', 'p99_ms', 'ms', { tls: true, mark: { atMostTimes: 1 } }),
  imapLoad(`${bulkFetch}, plain`, 'fetch', 'rx_mb_s', 'MB/s', {
    ...fetchOptions,
    mark: { atLeastTimes: 1.3 },
  }),
  imapLoad(`${bulkFetch}, TLS`, 'fetch', 'rx_mb_s', 'MB/s', {
    ...{ ...fetchOptions, tls: true },
    mark: { atLeastTimes: 3 },
  }),
  imapLoad('STORE flags, one connection', 'store', 'per_s', 'commands/s', {
    ...fetchOptions,
    mark: { atLeastTimes: 2 },
  }),
  imapLoad('APPEND 4 KiB, one connection', 'append', 'per_s', 'messages/s', { mark: { atLeastTimes: 4 } }),
  imapLoad('APPEND 4 KiB, 20 mailboxes', 'append', 'per_s', 'messages/s', {
    mark: { atLeastTimes: 2 },
    env: { CONNS: '20' },
  }),
  storeOverLink('1,000 mailboxes', { users: 1000, first: 1001 }, 'lmtp1000'),
  storeOverLink('one mailbox', { users: 1, first: 999 }, 'lmtp1'),
  smtpAlone,
  smtpToMailbox('4 KiB', 4096),
  smtpToMailbox('50 KiB', 51_200),
  idle(false, 24),
  idle(true, 60),
  searchBody,
  ...selectMeasures,
];
