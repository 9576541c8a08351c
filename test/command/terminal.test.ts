/** The command as a person at a terminal meets it: a password typed unseen, and Ctrl-C while clients are connected. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import http2 from 'node:http2';
import net from 'node:net';
import path from 'node:path';
import tls from 'node:tls';
import { afterEach, expect, test } from '@jest/globals';
import { type Cluster, type PortName, startCluster } from '../support/cluster.ts';
import { programPath, waitFor } from '../support/process.ts';

const projectDir = path.resolve(import.meta.dirname, '../..');
let cluster: Cluster;
afterEach(() => cluster?.stop());

/** Runs the command on a terminal of its own (`script` makes one); types each answer when its prompt is there. */
async function onTerminal(
  words: readonly string[],
  dialog: readonly (readonly [prompt: RegExp, typed: string])[],
): Promise<{ code: number | null; screen: string }> {
  const quoted = [path.join(projectDir, 'node_modules/.bin/node'), path.join(projectDir, 'bin/postern.mjs')]
    .concat(words)
    .map((word) => `'${word}'`)
    .join(' ');
  const env = { ...process.env };
  delete env.NODE_OPTIONS;
  const child = spawn(programPath('script'), ['-q', '-e', '-c', quoted, '/dev/null'], { env });
  const ended = once(child, 'close') as Promise<[number | null]>;
  let screen = '';
  child.stdout.on('data', (chunk: Buffer) => {
    screen += chunk;
  });
  let from = 0;
  for (const [prompt, typed] of dialog) {
    await waitFor(`${prompt}`, () => prompt.test(screen.slice(from)) || child.exitCode !== null);
    from = screen.length;
    child.stdin.write(typed);
  }
  const [code] = await ended;
  return { code, screen };
}

test('a password typed at a terminal is not shown, is asked for twice, and logs in', async () => {
  cluster = await startCluster();
  const where = ['--data', cluster.data, '--config', cluster.config];
  const ann = { address: 'ann@postern.test', password: 'right horsé' };
  const added = await onTerminal(
    ['account', 'add', ann.address, ...where],
    [
      [/Password: $/, 'right horx\u007fsé\r'],
      [/Again: $/, `${ann.password}\r`],
    ],
  );
  expect(added).toMatchObject({ code: 0 });
  expect(added.screen).not.toMatch(/hors/);
  const differ = await onTerminal(
    ['account', 'passwd', ann.address, ...where],
    [
      [/Password: $/, 'one\r'],
      [/Again: $/, 'two\r'],
    ],
  );
  expect(differ.code).not.toBe(0);
  expect(differ.screen).toContain('the two passwords differ');
  const given = await onTerminal(['account', 'passwd', ann.address, ...where], [[/Password: $/, '\u0003']]);
  expect(given.code).not.toBe(0);
  expect(given.screen).toContain('no password was given');
  const client = await secure('imaps');
  client.write(`a LOGIN ${ann.address} {${Buffer.byteLength(ann.password)}+}\r\n${ann.password}\r\n`);
  await heard(client, /^a OK/m);
  client.destroy();
});

test('Ctrl-C with idle sessions of every protocol ends each with a word, and exits 0 within five seconds', async () => {
  cluster = await startCluster();
  const { address, password } = cluster.account;
  const [smtp, imap, pop3, http, idle] = await Promise.all([
    plain('smtp'),
    secure('imaps'),
    secure('pop3s'),
    secure('https'),
    secure('imaps'),
  ]);
  smtp.write('EHLO client.test\r\n');
  await heard(smtp, /^250 /m);
  imap.write(`a LOGIN ${address} "${password}"\r\n`);
  await heard(imap, /^a OK/m);
  idle.write(`a LOGIN ${address} "${password}"\r\nb SELECT INBOX\r\nc IDLE\r\n`);
  await heard(idle, /^\+ /m);
  pop3.write(`USER ${address}\r\nPASS ${password}\r\n`);
  await heard(pop3, /^\+OK.*\r\n\+OK.*\r\n\+OK/m);
  const authorization = `Basic ${Buffer.from(`${address}:${password}`).toString('base64')}`;
  http.write(`GET /jmap/session HTTP/1.1\r\nHost: localhost\r\nAuthorization: ${authorization}\r\n\r\n`);
  await heard(http, /^HTTP\/1\.1 200/m);
  const session = http2.connect(`https://127.0.0.1:${cluster.ports.https}`, { rejectUnauthorized: false });
  session.on('error', () => {});
  await once(session, 'connect');

  // POP3 and HTTP/1.1 have no word for it after login: those are closed.
  const goodbye = Promise.all([heard(smtp, /^421 /m), heard(imap, /^\* BYE /m), heard(idle, /^\* BYE /m)]);
  const closed = Promise.all([smtp, imap, pop3, http, idle].map((socket) => once(socket, 'close')));
  const startedMs = performance.now();
  process.kill(cluster.supervisorPid, 'SIGINT');
  expect(await cluster.ended()).toBe(0);
  expect(performance.now() - startedMs).toBeLessThan(5000);
  await goodbye;
  await closed;
});

const seen = new WeakMap<net.Socket, { text: string }>();

function watched<T extends net.Socket>(socket: T): T {
  const words = { text: '' };
  seen.set(socket, words);
  socket.on('error', () => {});
  socket.on('data', (chunk: Buffer) => {
    words.text += chunk.toString('latin1');
  });
  return socket;
}

async function plain(port: PortName): Promise<net.Socket> {
  const socket = watched(net.connect(cluster.ports[port], '127.0.0.1'));
  await heard(socket, /\r\n/);
  return socket;
}

async function secure(port: PortName): Promise<net.Socket> {
  const socket = watched(
    tls.connect({ port: cluster.ports[port], host: '127.0.0.1', rejectUnauthorized: false }),
  );
  await once(socket, 'secureConnect');
  return socket;
}

async function heard(socket: net.Socket, wanted: RegExp): Promise<void> {
  await waitFor(`${wanted}`, () => wanted.test(seen.get(socket)!.text));
}
