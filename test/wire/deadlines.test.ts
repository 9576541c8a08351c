/** Slow clients meet a total deadline, however busy they look (CASES 60). */

import tls from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Cluster, connectTo, type PortName, startCluster } from '../support/cluster.ts';
import { SmtpConnection } from '../support/mail-sender.ts';

/** `first` is sent at once, then one piece of `drip` every 150 ms, over and over. */
interface Row {
  readonly what: string;
  readonly port: PortName;
  readonly tls: boolean;
  readonly first: string;
  readonly drip: string;
  readonly closedWithinMs: number;
}

const greetingMs = 1500;
const loginMs = 3000;
const idleMs = 2000;
const dataMs = 4000;
/** For the work that is not waiting, on a busy machine. */
const slackMs = 1500;

const mail = 'EHLO c.test\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<demo@postern.test>\r\nDATA\r\n';
const rows: readonly Row[] = [
  { what: 'SMTP, silence', port: 'smtp', tls: false, first: '', drip: '', closedWithinMs: greetingMs },
  {
    what: 'SMTP, a greeting letter by letter',
    port: 'smtp',
    tls: false,
    first: 'EHLO ',
    drip: 'x',
    closedWithinMs: greetingMs,
  },
  {
    what: 'SMTP, idle after EHLO',
    port: 'smtp',
    tls: false,
    first: 'EHLO c.test\r\n',
    drip: '',
    closedWithinMs: idleMs,
  },
  {
    what: 'SMTP, a command letter by letter',
    port: 'smtp',
    tls: false,
    first: 'EHLO c.test\r\nMAIL FROM:<',
    drip: 'x',
    closedWithinMs: idleMs,
  },
  {
    what: 'SMTP, a message letter by letter',
    port: 'smtp',
    tls: false,
    first: `${mail}Subject: slow\r\n`,
    drip: 'x',
    closedWithinMs: dataMs,
  },
  {
    what: 'submission, NOOP for ever',
    port: 'submissions',
    tls: true,
    first: 'EHLO c.test\r\n',
    drip: 'NOOP\r\n',
    closedWithinMs: loginMs,
  },
  {
    what: 'submission, AUTH letter by letter',
    port: 'submissions',
    tls: true,
    first: 'EHLO c.test\r\nAUTH PLAIN\r\n',
    drip: 'A',
    closedWithinMs: loginMs,
  },
  {
    what: 'submissions, no TLS at all',
    port: 'submissions',
    tls: false,
    first: '',
    drip: '',
    closedWithinMs: greetingMs,
  },
  { what: 'IMAP, silence', port: 'imap', tls: false, first: '', drip: '', closedWithinMs: greetingMs },
  {
    what: 'IMAP, NOOP for ever',
    port: 'imap',
    tls: false,
    first: '',
    drip: 'a NOOP\r\n',
    closedWithinMs: loginMs,
  },
  {
    what: 'IMAP, LOGIN letter by letter',
    port: 'imaps',
    tls: true,
    first: 'a LOGIN "',
    drip: 'x',
    closedWithinMs: loginMs,
  },
  {
    what: 'IMAPS, half a handshake',
    port: 'imaps',
    tls: false,
    first: '\x16\x03\x01\x02\x00\x01\x00',
    drip: '\x00',
    closedWithinMs: greetingMs,
  },
  { what: 'POP3, silence', port: 'pop3', tls: false, first: '', drip: '', closedWithinMs: greetingMs },
  {
    what: 'POP3S, CAPA for ever',
    port: 'pop3s',
    tls: true,
    first: '',
    drip: 'CAPA\r\n',
    closedWithinMs: loginMs,
  },
  {
    what: 'HTTPS, no TLS at all',
    port: 'https',
    tls: false,
    first: '',
    drip: '',
    closedWithinMs: greetingMs,
  },
  {
    what: 'HTTPS, headers letter by letter',
    port: 'https',
    tls: true,
    first: 'GET / HTTP/1.1\r\nHost: x\r\nX-A: ',
    drip: 'x',
    closedWithinMs: loginMs,
  },
];

let cluster: Cluster;
let tookMs: Map<string, number>;

beforeAll(async () => {
  cluster = await startCluster({
    config:
      `net.greeting_timeout = "${greetingMs}ms"\nnet.login_timeout = "${loginMs}ms"\n` +
      `smtp.idle_timeout = "${idleMs}ms"\nsmtp.data_timeout = "${dataMs}ms"\n[[plugin]]\nuse = "early-talker"\nwait = "20ms"\n`,
  });
  // All at once: they only wait.
  const took = rows.map(async (row) => [row.what, await untilClosed(row)] as const);
  tookMs = new Map(await Promise.all(took));
}, 120_000);
afterAll(() => cluster?.stop());

async function untilClosed(row: Row): Promise<number> {
  const plain = connectTo(cluster, row.port);
  const socket = row.tls ? tls.connect({ socket: plain, rejectUnauthorized: false }) : plain;
  socket.on('error', () => {});
  const began = performance.now();
  return new Promise((resolve) => {
    let dripping: NodeJS.Timeout | undefined;
    const end = (): void => {
      clearInterval(dripping);
      clearTimeout(giveUp);
      plain.destroy();
      resolve(performance.now() - began);
    };
    const giveUp = setTimeout(end, row.closedWithinMs + 10_000);
    plain.on('close', end);
    socket.on('end', end);
    socket.resume();
    const begin = (): void => {
      if (row.first !== '') socket.write(row.first, 'latin1');
      if (row.drip !== '') dripping = setInterval(() => socket.write(row.drip, 'latin1'), 150);
    };
    if (row.tls) socket.once('secureConnect', begin);
    else begin();
  });
}

describe('closed within its time', () => {
  test.each(rows.map((row) => [row.what, row.closedWithinMs] as const))(
    '%s (%d ms)',
    (what, closedWithinMs) => {
      expect(tookMs.get(what)).toBeLessThan(closedWithinMs + slackMs);
    },
  );
});

test('and a client that does not dawdle is served', async () => {
  const connection = await SmtpConnection.open(cluster.host, cluster.ports.smtp);
  const answer = await connection.send(
    'a@example.org',
    [cluster.account.address],
    Buffer.from('Subject: x\r\n\r\nx\r\n'),
  );
  expect(answer.code).toBe(250);
  await connection.quit();
});
