/** Settings, bans and certificates that change while two gateways and a backend run, through the real command. */
import { once } from 'node:events';
import { appendFile, readFile, writeFile } from 'node:fs/promises';
import net, { type Socket } from 'node:net';
import tls from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { layoutOf } from '../../base/layout.ts';
import { certFilesOf } from '../../certs/files.ts';
import { type Cluster, connectTo, startCluster } from '../support/cluster.ts';
import { waitFor } from '../support/process.ts';

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster({
    gateways: 2,
    config: 'login.plaintext = true\naccount.sessions_max = 50\n',
  });
}, 60_000);
afterAll(() => cluster?.stop(), 30_000);

const postern = (...words: string[]): Promise<string> => cluster.command(words);
const json = async <T>(...words: string[]): Promise<T> => JSON.parse(await postern(...words, '--json')) as T;
const refusal = async (...words: string[]): Promise<string> => {
  const said = await postern(...words).catch((error: Error) => error);
  if (typeof said === 'string') throw new Error(`it did: ${said}`);
  return said.message;
};

/** What the server says until it closes or `wanted` has come. */
async function heard(socket: Socket, wanted: RegExp): Promise<string> {
  let text = '';
  socket.on('data', (chunk) => (text += chunk.toString('latin1')));
  socket.on('error', () => {});
  await waitFor('an answer', () => wanted.test(text) || socket.destroyed || socket.readableEnded);
  return text;
}

async function login(): Promise<{ answer: string; socket: Socket }> {
  const socket = connectTo(cluster, 'imap');
  await once(socket, 'connect');
  socket.write(`a LOGIN ${cluster.account.address} "${cluster.account.password}"\r\n`);
  return { answer: await heard(socket, /^a /m), socket };
}

/** How many sessions an account may have: the setting, seen from outside. */
async function sessionsAllowed(most: number): Promise<number> {
  const open: Socket[] = [];
  try {
    for (let count = 0; count < most; count++) {
      const { answer, socket } = await login();
      open.push(socket);
      if (!/^a OK/m.test(answer)) return count;
    }
    return most;
  } finally {
    for (const socket of open) socket.destroy();
  }
}
const allowedSoon = (wanted: number, most: number): Promise<unknown> =>
  waitFor(`${wanted} sessions`, async () => (await sessionsAllowed(most)) === wanted, 20_000);

describe('a setting of the cluster', () => {
  test('goes before the file, reaches running members, and is taken back by its number', async () => {
    expect(await postern('settings', 'show')).toMatch(/^nothing is set for the whole cluster/);
    const { number } = await json<{ number: number }>('settings', 'set', 'account.sessions_max', '2');
    await allowedSoon(2, 4);
    expect(await postern('settings', 'show')).toMatch(
      new RegExp(`^account\\.sessions_max = 2 {2}\\(file 50, default 100, change ${number} by \\S+\\)$`, 'm'),
    );
    await postern('settings', 'set', 'account.sessions_max', '3');
    await allowedSoon(3, 4);
    expect(await refusal('settings', 'revert', String(number))).toMatch(
      /was changed again since; revert the later change first/,
    );
    await postern('settings', 'revert', String(number + 1));
    await postern('settings', 'revert', String(number));
    await allowedSoon(4, 4);
    const { changes } = await json<{ changes: { what: string; by: string }[] }>('settings', 'history');
    expect(changes.map(({ what }) => what)).toEqual([
      'set account.sessions_max 2',
      'set account.sessions_max 3',
      `revert ${number + 1} (set account.sessions_max 3)`,
      `revert ${number} (set account.sessions_max 2)`,
    ]);
    expect(changes.every(({ by }) => by !== '')).toBe(true);
  }, 90_000);

  test.each([
    [['smtp.recipients_max', '5'], /5 is not at least 100; use 100 or more/],
    [
      ['smtp.recipient_max', '200'],
      /there is no setting smtp\.recipient_max; did you mean smtp\.recipients_max\?/,
    ],
    [['backend.count', '9'], /backend\.count is a matter of each machine; set it in its postern\.toml/],
    [['login.oauth_jwks', 'https://id.example/keys'], /needs login\.oauth_issuer/],
    [['plugin.guess-guard.nothing', '1'], /plugin guess-guard has no such option/],
    [['plugin.guess-guard.window', '5'], /5 is not a duration; try "10m"/],
  ])('%j is checked before it is taken', async (words, wanted) => {
    expect(await refusal('settings', 'set', ...words)).toMatch(wanted);
  });

  test('changes the options of a plugin in every gateway', async () => {
    const changed = async (): Promise<number> =>
      (await cluster.logs()).filter(({ msg }) => msg === 'plugins changed').length;
    await postern('settings', 'set', 'plugin.guess-guard.failures_max', '3');
    await waitFor('both gateways', async () => (await changed()) === 2);
    await postern('settings', 'unset', 'plugin.guess-guard.failures_max');
    await waitFor('both gateways', async () => (await changed()) === 4);
    expect(await refusal('settings', 'unset', 'plugin.guess-guard.failures_max')).toMatch(
      /is not set for the cluster/,
    );
  }, 30_000);

  test('that needs a restart says so', async () => {
    expect(await postern('settings', 'set', 'smtp.message_size_max', '20MiB')).toMatch(
      /when a member is started next/,
    );
    await postern('member', 'restart', 'gateway-1');
    await postern('member', 'restart', 'gateway-2');
    const socket = connectTo(cluster, 'smtp');
    await heard(socket, /^220 /m);
    socket.write('EHLO client.example\r\n');
    expect(await heard(socket, /^250 /m)).toMatch(/SIZE 20971520/);
    socket.destroy();
    await postern('settings', 'unset', 'smtp.message_size_max');
  }, 60_000);
});

test('a domain is removed only when it is empty, and comes back by its change', async () => {
  await postern('domain', 'add', 'second.test');
  expect(await refusal('domain', 'remove', 'postern.test')).toMatch(
    /has accounts, \S+@postern\.test among them/,
  );
  await postern('domain', 'remove', 'second.test');
  const { changes } = await json<{ changes: { number: number; what: string }[] }>('settings', 'history');
  expect(changes.at(-1)).toMatchObject({ what: 'remove domain second.test' });
  await postern('settings', 'revert', String(changes.at(-1)!.number));
  expect(await postern('domain', 'list')).toBe('postern.test\nsecond.test\n');
}, 30_000);

describe('a ban', () => {
  const greeting = async (from: string): Promise<string> => {
    const socket = net.connect({ host: '127.0.0.1', port: cluster.ports.smtp, localAddress: from });
    try {
      return await heard(socket, /^220 /m);
    } finally {
      socket.destroy();
    }
  };
  /** Both gateways take connections of one port: what holds for many holds for both. */
  const allOf = async (from: string, wanted: RegExp): Promise<boolean> => {
    for (let count = 0; count < 8; count++) if (!wanted.test(await greeting(from))) return false;
    return true;
  };

  test('keeps a network out of every gateway at once, without a word, until it is removed', async () => {
    expect(await greeting('127.0.0.9')).toMatch(/^220 /);
    expect(await postern('ban', 'add', '::ffff:127.0.0.9/125', '--why', 'guesses passwords')).toMatch(
      /^127\.0\.0\.8\/29 is banned/,
    );
    await waitFor('both gateways', () => allOf('127.0.0.9', /^$/));
    expect(await greeting('127.0.0.1')).toMatch(/^220 /);
    expect(await postern('ban', 'list')).toMatch(/^127\.0\.0\.8\/29 .* until removed .* guesses passwords$/m);
    expect(await refusal('ban', 'remove', '127.0.0.9')).toMatch(/is not banned as such/);
    await postern('ban', 'remove', '127.0.0.8/29');
    await waitFor('both gateways', () => allOf('127.0.0.9', /^220 /));
  }, 60_000);

  test('for a while ends by itself', async () => {
    expect(await postern('ban', 'add', '127.0.0.10', '--for', '1h')).toMatch(/is banned for 1h$/m);
    await waitFor('the ban', () => allOf('127.0.0.10', /^$/));
    await postern('ban', 'add', '127.0.0.10', '--for', '1s');
    await waitFor('its end', () => allOf('127.0.0.10', /^220 /));
    expect(await postern('ban', 'list')).toBe('');
    expect(await refusal('ban', 'add', '10.0.0.0/7')).toMatch(/wider than \/8/);
    expect(await refusal('ban', 'add', 'example.org')).toMatch(/is no address or network/);
    expect(await refusal('ban', 'add', '127.0.0.10', '--for', 'ever')).toMatch(/try --for 1h/);
  }, 60_000);
});

describe('reload', () => {
  const fingerprint = async (): Promise<string> => {
    const socket = tls.connect({ host: '127.0.0.1', port: cluster.ports.imaps, rejectUnauthorized: false });
    await once(socket, 'secureConnect');
    const { fingerprint256 } = socket.getPeerCertificate();
    socket.destroy();
    return fingerprint256;
  };

  test('takes over what can be, and names what cannot', async () => {
    const text = await readFile(cluster.config, 'utf8');
    await writeFile(
      cluster.config,
      text.replace('sessions_max = 50', 'sessions_max = 2\nlogin.remember = "1m"'),
    );
    // The gateways were started with a message size that is not set any more: that waits for a restart, too.
    expect(await postern('reload')).toBe(
      'applied: account.sessions_max\nafter a restart: login.remember, smtp.message_size_max\n',
    );
    await allowedSoon(2, 4);
    await writeFile(cluster.config, text);
    process.kill(cluster.supervisorPid, 'SIGHUP');
    await allowedSoon(4, 4);
  }, 60_000);

  test('of a file with a mistake changes nothing, and points', async () => {
    const text = await readFile(cluster.config, 'utf8');
    await appendFile(cluster.config, 'account.folders_max = 1\n');
    const line = text.split('\n').length;
    expect(await refusal('reload')).toMatch(
      new RegExp(`postern\\.toml:${line} account\\.folders_max: 1 is not at least 10`),
    );
    expect(await sessionsAllowed(4)).toBe(4);
    // A member that dies now cannot start; the others go on, and it serves as soon as the file is mended.
    await cluster.kill('gateway-2');
    await waitFor('the mistake to be shown', () =>
      /gateway-2 cannot start: .*folders_max|gateway-2 serves again/.test(cluster.output()),
    );
    await cluster.kill('backend-1');
    await waitFor('the mistake to be shown', () =>
      /backend-1 cannot start: .*folders_max/.test(cluster.output()),
    );
    await writeFile(cluster.config, text);
    await waitFor('everything to serve again', async () => /^a OK/m.test((await login()).answer), 30_000);
  }, 90_000);

  test('shows a certificate that was renewed on disk, and keeps the old one where the new is not good', async () => {
    const before = await fingerprint();
    await postern('cert', 'renew', 'edge');
    await postern('reload');
    await waitFor('the new one', async () => (await fingerprint()) !== before);
    const renewed = await fingerprint();
    const { edge } = certFilesOf(layoutOf(cluster.data).certs);
    const good = await readFile(edge);
    await writeFile(edge, 'no certificate\n');
    expect(await refusal('reload')).toMatch(
      /gateway-1 keeps its old configuration: .*holds no certificate in PEM form/,
    );
    expect(await fingerprint()).toBe(renewed);
    await writeFile(edge, good);
    await postern('reload');
  }, 60_000);
});
