/** Two gateways and two backends on one machine: nothing about a cluster may hold only while there is one of each. */

import { once } from 'node:events';
import type { Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Cluster, connectTo, startCluster, type TestAccount } from '../support/cluster.ts';
import { waitFor } from '../support/process.ts';

const gateways = ['gateway-1', 'gateway-2'];
const backends = ['backend-1', 'backend-2'];
const accountCount = 10;

let cluster: Cluster;
const accounts: TestAccount[] = [];

beforeAll(async () => {
  cluster = await startCluster({
    gateways: 2,
    config:
      'backend.count = 2\nlogin.plaintext = true\naccount.sessions_max = 5\n[[plugin]]\nuse = "guess-guard"\n',
  });
  for (let number = 0; number < accountCount; number++)
    accounts.push(await cluster.addAccount(`several${number}@postern.test`));
}, 60_000);

afterAll(() => cluster?.stop(), 30_000);

/** Reads until `wanted` matches everything read since the last call. */
async function readTo(socket: Socket, wanted: RegExp): Promise<string> {
  let text = '';
  const read = (chunk: Buffer): void => {
    text += chunk.toString('latin1');
  };
  socket.on('data', read);
  try {
    await waitFor(`${wanted}`, () => wanted.test(text) || socket.destroyed, 15_000);
  } finally {
    socket.off('data', read);
  }
  if (!wanted.test(text)) throw new Error(`the connection closed after: ${text}`);
  return text;
}

async function imap(account: TestAccount, commands: readonly string[]): Promise<string> {
  const socket = connectTo(cluster, 'imap');
  await once(socket, 'connect');
  const lines = [`a LOGIN ${account.address} "${account.password}"`, ...commands, 'z LOGOUT'];
  socket.write(`${lines.join('\r\n')}\r\n`);
  try {
    return await readTo(socket, /^z (?:OK|BAD|NO)/m);
  } finally {
    socket.destroy();
  }
}

async function pop3(account: TestAccount): Promise<{ said: string; socket: Socket }> {
  const socket = connectTo(cluster, 'pop3');
  await readTo(socket, /^\+OK.*\r\n/);
  socket.write(`USER ${account.address}\r\n`);
  await readTo(socket, /^\+OK.*\r\n/);
  socket.write(`PASS ${account.password}\r\n`);
  return { said: await readTo(socket, /\r\n$/), socket };
}

async function send(to: readonly TestAccount[], subject: string): Promise<string> {
  const socket = connectTo(cluster, 'smtp');
  await readTo(socket, /^220 /m);
  const ask = async (line: string): Promise<string> => {
    socket.write(`${line}\r\n`);
    return readTo(socket, /^\d{3} .*\r\n/m);
  };
  try {
    await ask('EHLO client.example');
    await ask('MAIL FROM:<sender@example.org>');
    for (const { address } of to) await ask(`RCPT TO:<${address}>`);
    await ask('DATA');
    return await ask(`Subject: ${subject}\r\n\r\nto ${to.length}\r\n.`);
  } finally {
    socket.destroy();
  }
}

/** Subjects in the INBOX, as often as they are there. */
async function subjects(account: TestAccount): Promise<string[]> {
  const text = await imap(account, ['b SELECT INBOX', 'c FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]']);
  return [...text.matchAll(/^Subject: (.*)\r$/gm)].map((found) => found[1]!).sort();
}

async function counterOf(gateway: number, name: string): Promise<number> {
  const page = await (await fetch(`http://127.0.0.1:${cluster.ports.health + gateway}/metrics`)).text();
  return [...page.matchAll(new RegExp(`^${name}\\{[^}]*\\} (\\d+)`, 'gm'))].reduce(
    (sum, found) => sum + Number(found[1]),
    0,
  );
}

interface Status {
  readonly freeShards: number;
  readonly members: { readonly id: string; readonly ready: boolean; readonly shards?: number }[];
}
const status = async (): Promise<Status> =>
  JSON.parse(await cluster.command(['cluster', 'status', '--json'])) as Status;
const shardsOf = ({ members }: Status, id: string): number =>
  members.find((member) => member.id === id)?.shards ?? 0;

describe('two gateways and two backends', () => {
  test('share the shards evenly and all serve', async () => {
    await waitFor('an even share', async () => {
      const now = await status();
      return backends.every((id) => shardsOf(now, id) === 2048) && now.freeShards === 0;
    });
    const { members } = await status();
    expect(members.map((member) => [member.id, member.ready]).sort()).toEqual(
      [...backends, ...gateways].map((id) => [id, true]).sort(),
    );
  }, 20_000);

  test('each gateway has its own health page', async () => {
    for (const [index, id] of gateways.entries()) {
      const answer = await fetch(`http://127.0.0.1:${cluster.ports.health + index}/healthz`);
      expect([answer.status, await answer.json()]).toEqual([
        200,
        expect.objectContaining({ member: id, state: 'serving', backends }),
      ]);
    }
  });

  test('the account list is one list, whoever owns the accounts', async () => {
    const listed = (await cluster.command(['account', 'list', 'postern.test'])).split('\n').filter(Boolean);
    expect(listed).toEqual([cluster.account, ...accounts].map((account) => account.address).sort());
  });

  test('mail for accounts of both backends arrives once, through either gateway', async () => {
    let sent = 0;
    for (; sent < 40; sent++) {
      expect(await send(accounts, `round ${sent}`)).toMatch(/^250 /);
      const counts = [
        await counterOf(0, 'postern_messages_total'),
        await counterOf(1, 'postern_messages_total'),
      ];
      if (sent >= 3 && counts.every((count) => count > 0)) break;
    }
    expect(sent).toBeLessThan(40); // else one gateway never got a connection
    const wanted = Array.from({ length: sent + 1 }, (_, round) => `round ${round}`).sort();
    for (const account of accounts) expect(await subjects(account)).toEqual(wanted);
  }, 60_000);

  test('logins through either gateway reach the owner', async () => {
    for (let count = 0; count < 40; count++) {
      const text = await imap(accounts[count % accountCount]!, ['b NOOP']);
      expect(text).toMatch(/^a OK [\s\S]*^b OK/m);
    }
    for (const index of gateways.keys())
      expect(await counterOf(index, 'postern_logins_total')).toBeGreaterThan(0);
    const served = async (): Promise<string[]> => {
      const lines = await cluster.logs();
      return [
        ...new Set(lines.filter((line) => line.event === 'imap-session').map((line) => String(line.member))),
      ];
    };
    await waitFor('sessions in the logs of both backends', async () => (await served()).length === 2);
    // One account, one owner: never sessions of it at two backends.
    const owners = new Map<unknown, Set<unknown>>();
    for (const line of await cluster.logs()) {
      if (line.event !== 'imap-session') continue;
      owners.set(line.account, (owners.get(line.account) ?? new Set()).add(line.member));
    }
    expect([...owners.values()].every((members) => members.size === 1)).toBe(true);
  }, 60_000);

  test('sessions of an account are counted over protocols and gateways together', async () => {
    const [account] = accounts as [TestAccount];
    const open: Socket[] = [];
    try {
      for (let count = 0; count < 4; count++) {
        const socket = connectTo(cluster, 'imap');
        open.push(socket);
        socket.write(`a LOGIN ${account.address} "${account.password}"\r\n`);
        expect(await readTo(socket, /^a .*\r\n/m)).toMatch(/^a OK/m);
      }
      const fifth = await pop3(account);
      open.push(fifth.socket);
      expect(fifth.said).toMatch(/^\+OK/);
      const sixth = await pop3(account);
      open.push(sixth.socket);
      expect(sixth.said).toMatch(/^-ERR/);
      expect(await imap(account, [])).toMatch(/^a NO \[LIMIT\]/m);
      expect(await imap(accounts[1]!, [])).toMatch(/^a OK/m);
    } finally {
      for (const socket of open) socket.destroy();
    }
    await waitFor('room again', async () => /^a OK/m.test(await imap(account, [])));
  }, 30_000);

  test('what a killed backend owned is served by the other, and shared again when it is back', async () => {
    const before = await Promise.all(accounts.map(subjects));
    await cluster.kill('backend-1');
    await waitFor(
      'every account to answer',
      async () => {
        const answers = await Promise.all(accounts.map((account) => imap(account, []).catch(() => '')));
        return answers.every((text) => /^a OK/m.test(text));
      },
      15_000,
    );
    expect(await send(accounts, 'after the kill')).toMatch(/^250 /);
    await waitFor(
      'an even share again',
      async () => {
        const now = await status().catch(() => undefined);
        return now !== undefined && backends.every((id) => shardsOf(now, id) === 2048);
      },
      15_000,
    );
    for (const [index, account] of accounts.entries())
      expect(await subjects(account)).toEqual([...before[index]!, 'after the kill'].sort());
  }, 60_000);

  test('a killed gateway takes only its own connections along', async () => {
    await cluster.kill('gateway-2');
    for (let count = 0; count < 10; count++) {
      await waitFor('a login', async () =>
        /^a OK/m.test(await imap(accounts[count % accountCount]!, []).catch(() => '')),
      );
    }
    await waitFor(
      'gateway-2 to serve again',
      async () => {
        const page = await fetch(`http://127.0.0.1:${cluster.ports.health + 1}/healthz`).catch(
          () => undefined,
        );
        return page?.status === 200;
      },
      15_000,
    );
  }, 60_000);
});
