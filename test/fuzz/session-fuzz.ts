/**
 * `node bin/run.mjs test/fuzz/session-fuzz.ts --minutes 2 --seed 1`: hostile dialogs against every door of a running
 * cluster. Nothing may die, and a good client must be served throughout. One JSON line last, exit 1 on a finding.
 */
import net from 'node:net';
import tls from 'node:tls';
import { parseArgs } from 'node:util';
import { startCluster } from '../support/cluster.ts';
import { type RandomSource, randomSource } from '../support/random.ts';
import { mutated } from './mutation.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '1' },
    seed: { type: 'string', default: '1' },
    lanes: { type: 'string', default: '8' },
  },
});

interface Dialog {
  readonly port: 'smtp' | 'submissions' | 'imaps' | 'pop3s' | 'https';
  readonly lines: readonly string[];
}

const dialogs = (user: string, password: string): readonly Dialog[] => {
  const basic = Buffer.from(`${user}:${password}`).toString('base64');
  const plain = Buffer.from(`\0${user}\0${password}`).toString('base64');
  const login = `a LOGIN ${user} "${password}"\r\n`;
  const imap = (...lines: string[]): Dialog => ({ port: 'imaps', lines: [login, ...lines] });
  return [
    {
      port: 'smtp',
      lines: [
        'EHLO x\r\n',
        'MAIL FROM:<a@b.example> SIZE=100 BODY=8BITMIME\r\n',
        `RCPT TO:<${user}>\r\n`,
        'DATA\r\n',
        'Subject: x\r\n\r\nbody\r\n.\r\n',
        'RSET\r\n',
        'QUIT\r\n',
      ],
    },
    {
      port: 'submissions',
      lines: [
        'EHLO x\r\n',
        `AUTH PLAIN ${plain}\r\n`,
        `MAIL FROM:<${user}>\r\n`,
        `RCPT TO:<${user}>\r\n`,
        'DATA\r\n',
        'From: x\r\n\r\n..x\r\n.\r\n',
      ],
    },
    imap(
      'b SELECT INBOX\r\n',
      'c FETCH 1:* (UID FLAGS ENVELOPE BODYSTRUCTURE BODY.PEEK[HEADER.FIELDS (SUBJECT)]<0.10>)\r\n',
      'd UID FETCH 1:* BODY[1]\r\n',
      'e NOOP\r\n',
    ),
    imap(
      'b SELECT INBOX\r\n',
      'c APPEND INBOX (\\Seen k) "01-Jan-2026 00:00:00 +0000" {22+}\r\n',
      'Subject: x\r\n\r\nhello\r\n',
      '\r\n',
      'd STORE 1:3 +FLAGS.SILENT (\\Deleted $x)\r\n',
      'e EXPUNGE\r\n',
    ),
    imap(
      'b SELECT INBOX\r\n',
      'c UID SEARCH RETURN (MIN MAX COUNT ALL) OR BODY "x" NOT (SINCE 1-Jan-2020 LARGER 10)\r\n',
      'd SEARCH CHARSET UTF-8 TEXT {3+}\r\n',
      'abc',
      ' 1:*\r\n',
    ),
    imap(
      'b CREATE &AOk-/x\r\n',
      'c LIST (SUBSCRIBED) "" ("*" "%/%") RETURN (CHILDREN STATUS (MESSAGES))\r\n',
      'd RENAME &AOk- y\r\n',
      'e DELETE y/x\r\n',
      'f STATUS INBOX (MESSAGES UIDNEXT)\r\n',
    ),
    imap(
      'b SELECT INBOX\r\n',
      'c COPY 1 INBOX\r\n',
      'd MOVE 2 INBOX\r\n',
      'e IDLE\r\n',
      'DONE\r\n',
      'f ENABLE X\r\n',
      'g ID ("a" "b" "c" NIL)\r\n',
      'h CLOSE\r\n',
    ),
    {
      port: 'pop3s',
      lines: [
        `USER ${user}\r\n`,
        `PASS ${password}\r\n`,
        'STAT\r\n',
        'LIST 1\r\n',
        'UIDL\r\n',
        'TOP 1 5\r\n',
        'RETR 1\r\n',
        'DELE 1\r\n',
        'QUIT\r\n',
      ],
    },
    {
      port: 'https',
      lines: [`GET /jmap/session HTTP/1.1\r\nHost: x\r\nAuthorization: Basic ${basic}\r\n\r\n`],
    },
    {
      port: 'https',
      lines: [
        `POST /jmap/api HTTP/1.1\r\nHost: x\r\nAuthorization: Basic ${basic}\r\nContent-Type: application/json\r\nContent-Length: 159\r\n\r\n`,
        '{"using":["urn:ietf:params:jmap:core","urn:ietf:params:jmap:mail"],"methodCalls":[["Email/query",{"accountId":"x"},"q"],["Email/get",{"#ids":{}},"g"]]}',
      ],
    },
  ];
};

const cluster = await startCluster({
  config:
    'net.connections_per_network_max = 1000\n[[plugin]]\nuse = "connection-limit"\nper_network = 1000\nper_wide_network = 1000\n',
});
const before = await cluster.memberPids();
const findings: string[] = [];
const until = performance.now() + Number(values.minutes) * 60_000;
let runs = 0;

/** One dialog with some of its lines spoilt, sent in uneven pieces, sometimes broken off. */
function play(dialog: Dialog, random: RandomSource): Promise<void> {
  return new Promise((resolve) => {
    const port = cluster.ports[dialog.port];
    const socket =
      dialog.port === 'smtp'
        ? net.connect(port, cluster.host)
        : tls.connect({ port, host: cluster.host, rejectUnauthorized: false });
    const timer = setTimeout(() => socket.destroy(), random.between(50, 1500));
    socket.on('error', () => {});
    socket.on('close', () => {
      clearTimeout(timer);
      resolve();
    });
    if (random.between(0, 20) > 0) socket.resume(); // else: a client that reads nothing
    const seeds = dialog.lines.map((line) => Buffer.from(line, 'latin1'));
    const spoilFrom = random.between(0, seeds.length);
    const send = (index: number): void => {
      const line = seeds[index];
      if (line === undefined || socket.destroyed) {
        if (random.between(0, 1) === 0) socket.end();
        return;
      }
      const bytes =
        index >= spoilFrom && random.between(0, 2) > 0 ? mutated([line, ...seeds.slice(-2)], random) : line;
      const cut = random.between(0, bytes.length);
      socket.write(bytes.subarray(0, cut));
      if (random.between(0, 3) === 0) setTimeout(() => socket.write(bytes.subarray(cut)), 1);
      else socket.write(bytes.subarray(cut));
      setTimeout(() => send(index + 1), random.between(0, 4));
    };
    socket.once(dialog.port === 'smtp' ? 'connect' : 'secureConnect', () => send(0));
  });
}

const all = dialogs(cluster.account.address, cluster.account.password);
const lanes = Array.from({ length: Number(values.lanes) }, async (_, lane) => {
  const random = randomSource(Number(values.seed) * 1000 + lane);
  while (performance.now() < until && findings.length === 0) {
    await play(all[random.between(0, all.length - 1)]!, random);
    runs++;
  }
});
const watch = (async () => {
  while (performance.now() < until && findings.length === 0) {
    await new Promise((resolve) => setTimeout(resolve, 2000));
    const now = await cluster.memberPids();
    for (const [id, pid] of Object.entries(before)) if (now[id] !== pid) findings.push(`${id} died`);
    await cluster
      .answering()
      .catch((error: unknown) => findings.push(`a good client was not served: ${String(error)}`));
  }
})();
await Promise.all([...lanes, watch]);
const logs = await cluster.logs();
const bugs = logs.filter((record) =>
  /bug|uncaught|unhandled|TypeError|RangeError/i.test(JSON.stringify(record)),
);
for (const bug of bugs.slice(0, 10)) findings.push(JSON.stringify(bug).slice(0, 2000));
await cluster.stop();
for (const finding of findings) console.error(finding);
console.log(JSON.stringify({ runs, findings: findings.length, seed: Number(values.seed) }));
if (findings.length > 0) process.exitCode = 1;
