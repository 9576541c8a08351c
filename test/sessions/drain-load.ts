/**
 * `npm run drain-load -- --sessions 2000`: sessions, half of them in IDLE, and deliveries, while each backend in turn is
 * drained and started again, and then while each is killed. One JSON line last; exit 1 when a connection was dropped or
 * a command failed under the drains, an idle one was dropped under the kills, or mail was lost or doubled.
 */
import { request } from 'node:http';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { layoutOf } from '../../base/layout.ts';
import { connectEmbeddedRegistry } from '../../cluster-protocol/registry/embedded-client.ts';
import { type Registry, registryKey } from '../../cluster-protocol/registry.ts';
import { decodeShardMap, whereIs } from '../../cluster-protocol/shard-map.ts';
import { controlPath } from '../../command/control.ts';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { sendAll } from '../support/mail-sender.ts';
import { waitFor } from '../support/process.ts';
import { randomSource } from '../support/random.ts';
import { append, Client } from './client.ts';
import { LoadSession, noSights, type Sights } from './load-session.ts';

const { values } = parseArgs({
  options: {
    sessions: { type: 'string', default: '2000' },
    accounts: { type: 'string', default: '200' },
    backends: { type: 'string', default: '2' },
    senders: { type: 'string', default: '4' },
    rest: { type: 'string', default: '2000' },
    seed: { type: 'string', default: '1' },
  },
});
const sessionCount = Number(values.sessions);
const accountCount = Number(values.accounts);
const backends = Array.from({ length: Number(values.backends) }, (_, index) => `backend-${index + 1}`);
const password = 'right horse battery';
const settleMs = 3000;

const cluster = await startCluster({
  config: `backend.count = ${backends.length}
login.plaintext = true
net.connections_max = ${sessionCount + 200}
net.connections_per_network_max = ${sessionCount + 200}
account.sessions_max = 1000
plugin = []
`,
});

async function addAccounts(addresses: readonly string[]): Promise<void> {
  const socketPath = layoutOf(cluster.data).adminSocket;
  const add = (address: string): Promise<void> =>
    new Promise((resolve, reject) => {
      const asked = request(
        { socketPath, path: controlPath, method: 'POST', headers: { 'content-type': 'application/json' } },
        (answer) => {
          answer.resume();
          answer.on('end', () =>
            answer.statusCode === 200 ? resolve() : reject(new Error(`not added: ${answer.statusCode}`)),
          );
        },
      );
      asked.on('error', reject);
      asked.end(JSON.stringify({ op: 'account-add', address, password }));
    });
  for (let at = 0; at < addresses.length; at += 8) await Promise.all(addresses.slice(at, at + 8).map(add));
}

/** Senders that go on until they are stopped; each message has its number in its subject. */
class Senders {
  readonly accepted: string[] = [];
  longestMs = 0;
  #stopped = false;
  readonly #to: readonly string[];
  readonly #running: Promise<void>[];

  constructor({ host, ports }: Cluster, to: readonly string[], count: number) {
    this.#to = to;
    this.#running = Array.from({ length: count }, async (_, sender) => {
      for (let number = 0; !this.#stopped; number++) {
        const subject = `load ${sender}-${number}`;
        const recipient = to[(sender + number * count) % to.length]!;
        const data = Buffer.from(`Subject: ${subject}\r\n\r\nA message of the load.\r\n`);
        const atMs = performance.now();
        await sendAll({ host, port: ports.smtp }, [{ from: 'sender@example.org', to: [recipient], data }], {
          connections: 1,
          giveUpMs: 60_000,
          retryMs: 50,
        });
        this.longestMs = Math.max(this.longestMs, performance.now() - atMs);
        this.accepted.push(subject);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#running);
  }

  /** Looks into every mailbox. */
  async compare(): Promise<{ missing: number; doubled: number }> {
    const counts = new Map(this.accepted.map((subject) => [subject, 1]));
    for (const address of this.#to) {
      const client = await Client.imap(cluster, { address, password });
      await client.ask('EXAMINE INBOX');
      const text = await client.ask('FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]', 60_000);
      client.close();
      for (const found of text.matchAll(/^Subject: (load .*)\r$/gm))
        counts.set(found[1]!, (counts.get(found[1]!) ?? 0) - 1);
    }
    const left = [...counts.values()];
    return {
      missing: left.reduce((sum, count) => sum + Math.max(0, count), 0),
      doubled: left.reduce((sum, count) => sum + Math.max(0, -count), 0),
    };
  }
}

async function metrics(): Promise<Record<string, number>> {
  const page = await (await fetch(`http://127.0.0.1:${cluster.ports.health}/metrics`)).text();
  return Object.fromEntries(
    [...page.matchAll(/^(postern_session[^ ]*) ([\d.e+-]+)$/gm)].map((found) => [
      found[1]!,
      Number(found[2]),
    ]),
  );
}

async function ownersNow(registry: Registry): Promise<(address: string) => string | undefined> {
  const map = decodeShardMap((await registry.get(registryKey.shardMap))!.value);
  return (address) => whereIs(map, address)?.owner;
}

const ready = async (id: string): Promise<void> => {
  await waitFor(
    `${id} to own shards`,
    async () => {
      const status = JSON.parse(await cluster.command(['cluster', 'status', '--json'])) as {
        moves: number;
        members: { id: string; ready: boolean; shards?: number }[];
      };
      const member = status.members.find((one) => one.id === id);
      return member?.ready === true && (member.shards ?? 0) > 0 && status.moves === 0;
    },
    60_000,
  );
};

let sights: Sights = noSights();
const take = (): Sights => {
  const taken = sights;
  sights = noSights();
  return taken;
};
const rest = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const sessions: LoadSession[] = [];
let good = false;
try {
  const addresses = Array.from({ length: accountCount }, (_, number) => `load${number}@postern.test`);
  await addAccounts(addresses);
  const random = randomSource(Number(values.seed));
  for (const address of addresses) {
    const client = await Client.imap(cluster, { address, password });
    await append(client, 'first');
    client.close();
  }
  for (let number = 0; number < sessionCount; number += 20) {
    const some = Array.from({ length: Math.min(20, sessionCount - number) }, (_, index) =>
      LoadSession.open(cluster.ports.imap, password, {
        account: addresses[(number + index) % accountCount]!,
        idles: ((number + index) % 2 === 0) === (Math.floor((number + index) / accountCount) % 2 === 0),
        restMs: Number(values.rest),
        random,
        sights: () => sights,
      }),
    );
    sessions.push(...(await Promise.all(some)));
  }
  console.log(`${sessions.length} sessions, ${sessions.filter((one) => one.idles).length} of them in IDLE`);
  for (const session of sessions) session.begin();
  const senders = new Senders(cluster, addresses, Number(values.senders));
  await rest(settleMs);
  const quiet = take();

  const drains: {
    dropped: string[];
    refused: string[];
    longestMs: number;
    commands: number;
    tookMs: number;
  }[] = [];
  for (const id of backends) {
    const beganMs = performance.now();
    await cluster.command(['member', 'restart', id]);
    const tookMs = Math.round(performance.now() - beganMs);
    await ready(id);
    await rest(settleMs);
    const { dropped, refused, longestMs, commands } = take();
    drains.push({ dropped, refused, longestMs: Math.round(longestMs), commands, tookMs });
    console.log(JSON.stringify({ drained: id, ...drains.at(-1) }));
  }
  const afterDrains = await metrics();

  const registry = await connectEmbeddedRegistry(layoutOf(path.resolve(cluster.data)).registrySocket);
  const kills: {
    dropped: string[];
    refused: string[];
    firstMs: number;
    longestMs: number;
    commands: number;
  }[] = [];
  for (const id of backends) {
    const owner = await ownersNow(registry);
    const killedMs = performance.now();
    await cluster.kill(id);
    await rest(settleMs);
    await ready(id);
    await rest(settleMs);
    const { dropped, refused, longestMs, commands, slow } = take();
    const hit = slow.filter((one) => owner(one.account) === id && one.answeredMs > killedMs);
    const firstMs = Math.round(Math.min(...hit.map((one) => one.answeredMs - killedMs)));
    kills.push({ dropped, refused, firstMs, longestMs: Math.round(longestMs), commands });
    console.log(JSON.stringify({ killed: id, ...kills.at(-1) }));
  }
  await registry.close();
  await senders.stop();
  for (const session of sessions) session.end();
  const mail = await senders.compare();
  good =
    drains.every((one) => one.dropped.length === 0 && one.refused.length === 0) &&
    kills.every((one) => one.dropped.every((what) => what === 'in a command')) &&
    mail.missing === 0 &&
    mail.doubled === 0;
  console.log(
    JSON.stringify({
      sessions: sessions.length,
      idle: sessions.filter((one) => one.idles).length,
      accounts: accountCount,
      backends: backends.length,
      quietLongestMs: Math.round(quiet.longestMs),
      drains,
      kills,
      deliveries: { accepted: senders.accepted.length, longestMs: Math.round(senders.longestMs), ...mail },
      metrics: { afterDrains, afterKills: await metrics() },
      good,
    }),
  );
} finally {
  for (const session of sessions) session.end();
  await cluster.stop();
}
if (!good) process.exitCode = 1;
