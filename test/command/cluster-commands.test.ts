/** What an admin does with a cluster of three backends on one machine, through the real command. */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Cluster, connectTo, startCluster, type TestAccount } from '../support/cluster.ts';
import { waitFor } from '../support/process.ts';

const backends = ['backend-1', 'backend-2', 'backend-3'];

interface Member {
  readonly id: string;
  readonly role: string;
  readonly pid: number;
  readonly ready: boolean;
  readonly shards?: number;
  readonly pins?: number;
  readonly drained?: boolean;
  readonly leaseLeftMs?: number;
  readonly sessions?: number;
}
interface Status {
  readonly shardCount: number;
  readonly freeShards: number;
  readonly moves: number;
  readonly pins: number;
  readonly controller: string;
  readonly members: readonly Member[];
}
interface Why {
  readonly shard: number;
  readonly owner: string;
  readonly epoch: number;
  readonly because: string;
  readonly sessions?: number;
  readonly ifOwnerStopped: string;
  readonly moves: readonly { readonly to: string }[];
}

let cluster: Cluster;
const accounts: TestAccount[] = [];

const json = async <T>(...words: string[]): Promise<T> =>
  JSON.parse(await cluster.command([...words, '--json'])) as T;
const status = (): Promise<Status> => json('cluster', 'status');
const member = async (id: string): Promise<Member> => (await status()).members.find((one) => one.id === id)!;
const why = (address: string): Promise<Why> => json('cluster', 'why', address);
/** What a refused command says, its exit code with it. */
const refusal = async (...words: string[]): Promise<string> => {
  const said = await cluster.command(words).catch((error: Error) => error);
  if (typeof said === 'string') throw new Error(`it did: ${said}`);
  return said.message;
};

async function imap(account: TestAccount): Promise<Socket> {
  const socket = connectTo(cluster, 'imap');
  await once(socket, 'connect');
  let text = '';
  socket.on('data', (chunk) => (text += chunk.toString('latin1')));
  socket.write(`a LOGIN ${account.address} "${account.password}"\r\n`);
  await waitFor('the answer to LOGIN', () => /^a /m.test(text) || socket.destroyed);
  if (!/^a OK/m.test(text)) throw new Error(`refused: ${text}`);
  return socket;
}

/** Every account can be logged in to: whoever has it answers. */
async function everybodyAnswers(): Promise<void> {
  for (const account of accounts)
    await waitFor(`${account.address} to answer`, async () => {
      const socket = await imap(account).catch(() => undefined);
      socket?.destroy();
      return socket !== undefined;
    });
}
const balanced = (): Promise<unknown> =>
  waitFor(
    'an even share',
    async () => {
      const now = await status();
      return (
        now.moves === 0 &&
        now.freeShards === 0 &&
        backends.every((id) => {
          const shards = now.members.find((one) => one.id === id)?.shards ?? 0;
          return shards >= 1360 && shards <= 1370;
        })
      );
    },
    30_000,
  );

beforeAll(async () => {
  cluster = await startCluster({ gateways: 2, config: 'backend.count = 3\nlogin.plaintext = true\n' });
  for (let number = 0; number < 6; number++)
    accounts.push(await cluster.addAccount(`ops${number}@postern.test`));
  await balanced();
}, 90_000);

afterAll(() => cluster?.stop(), 30_000);

describe('draining', () => {
  test('gives everything away, keeps the record, and takes nothing until undrain', async () => {
    expect(await refusal('cluster', 'safe-to-stop', 'backend-2')).toMatch(
      /drain it first: postern cluster drain backend-2/,
    );
    const drained = await json<{ shards: number }>('cluster', 'drain', 'backend-2', '--wait');
    expect(drained).toMatchObject({ shards: 0, pins: 0, coming: 0, registered: true });
    expect(await member('backend-2')).toMatchObject({ ready: true, shards: 0, drained: true });
    await everybodyAnswers();
    expect(await cluster.command(['cluster', 'safe-to-stop', 'backend-2'])).toMatch(/^safe: /);
    // Its process may even die: what is started again is drained too.
    const { pid } = await member('backend-2');
    await cluster.kill('backend-2');
    await waitFor(
      'backend-2 to be back',
      async () => {
        const now = await member('backend-2');
        return now.ready && now.pid !== pid;
      },
      30_000,
    );
    expect(await member('backend-2')).toMatchObject({ shards: 0, drained: true });
    await cluster.command(['cluster', 'undrain', 'backend-2']);
    await balanced();
    await everybodyAnswers();
  }, 90_000);

  test('survives the controller', async () => {
    const { controller } = await status();
    const other = backends.find((id) => id !== controller)!;
    await cluster.command(['cluster', 'drain', other]);
    await cluster.kill(controller);
    await waitFor(
      'the drain to end under another controller',
      async () => {
        const now = await status();
        return (
          now.controller !== '' &&
          now.freeShards === 0 &&
          now.moves === 0 &&
          now.members.find((one) => one.id === other)?.shards === 0
        );
      },
      30_000,
    );
    await everybodyAnswers();
    await cluster.command(['cluster', 'undrain', other]);
    await balanced();
  }, 90_000);

  test('is refused where it makes no sense, with the remedy', async () => {
    expect(await refusal('cluster', 'drain', 'backend-9')).toMatch(
      /no backend "backend-9" now; there is: backend-1, backend-2, backend-3/,
    );
    expect(await refusal('cluster', 'drain', 'gateway-1')).toMatch(/gateway-1 is a gateway/);
    expect(await refusal('cluster', 'undrain', 'backend-1')).toMatch(/is not drained/);
    await cluster.command(['cluster', 'drain', 'backend-1']);
    await cluster.command(['cluster', 'drain', 'backend-2']);
    expect(await refusal('cluster', 'drain', 'backend-3')).toMatch(/only backend that takes shards/);
    expect(await refusal('cluster', 'upgrade-check')).toMatch(
      /backend-1 is drained[\s\S]*postern cluster undrain backend-1/,
    );
    await cluster.command(['cluster', 'undrain', 'backend-1']);
    await cluster.command(['cluster', 'undrain', 'backend-2']);
    await balanced();
  }, 60_000);
});

describe('an account', () => {
  test('is pinned, stays through the moves of its shard, and goes home', async () => {
    const [account] = accounts as [TestAccount];
    const { address } = account;
    const before = await why(address);
    expect(before).toMatchObject({ because: 'hash' });
    const to = backends.find((id) => id !== before.owner)!;
    await cluster.command(['cluster', 'pin', address, to]);
    await waitFor('the account to move', async () => (await why(address)).owner === to);
    const pinned = await why(address);
    expect(pinned).toMatchObject({ because: 'pin', shard: before.shard });
    expect(pinned.epoch).toBeGreaterThan(before.epoch);
    expect(pinned.moves.at(-1)).toMatchObject({ address, from: before.owner, to });
    const session = await imap(account);
    await waitFor('its session to be counted', async () => (await why(address)).sessions === 1);
    session.destroy();
    expect(await member(to)).toMatchObject({ pins: 1 });
    await cluster.command(['cluster', 'unpin', address]);
    await waitFor('the account to go home', async () => (await why(address)).owner === before.owner);
    await everybodyAnswers();
    // Its shard is granted anew, and the pin is not needed any more.
    await cluster.command(['cluster', 'move', String(before.shard), to]);
    await waitFor('the pin to go', async () => (await status()).pins === 0);
    expect(await why(address)).toMatchObject({ owner: to, because: 'move' });
    await everybodyAnswers();
    await cluster.command(['cluster', 'move', String(before.shard), '--balance']);
    expect(await why(address)).toMatchObject({ because: 'hash' });
  }, 60_000);

  test('that is none is not pinned, and bad names are named', async () => {
    expect(await refusal('cluster', 'pin', 'nobody@postern.test', 'backend-1')).toMatch(
      /nobody@postern\.test|no such account|no account/i,
    );
    expect(await refusal('cluster', 'pin', accounts[0]!.address, 'backend-9')).toMatch(
      /there is no backend "backend-9"/,
    );
    expect(await refusal('cluster', 'unpin', accounts[0]!.address)).toMatch(/is not pinned/);
    expect(await refusal('cluster', 'move', '99999', 'backend-1')).toMatch(/numbered 0 to 4095/);
    expect(await refusal('cluster', 'move', '1')).toMatch(/name a member, or write --balance/);
    expect(await refusal('cluster', 'why', 'x')).toMatch(/local@domain/);
  }, 30_000);
});

describe('a member', () => {
  test('is restarted by hand: drained, ended, started, undrained', async () => {
    const { pid } = await member('backend-3');
    const deaths = async (): Promise<number> =>
      (await cluster.logs()).filter((line) => line.msg === 'member ended' && line.name === 'backend-3')
        .length;
    const before = await deaths();
    await cluster.command(['member', 'restart', 'backend-3']);
    const now = await member('backend-3');
    expect(now).toMatchObject({ ready: true, drained: false });
    expect(now.pid).not.toBe(pid);
    await everybodyAnswers();
    // It let go of all it had before it ended: nobody took it for dead.
    expect(await deaths()).toBe(before);
    const gateway = await member('gateway-2');
    await cluster.command(['member', 'restart', 'gateway-2']);
    expect((await member('gateway-2')).pid).not.toBe(gateway.pid);
    expect(await refusal('member', 'restart', 'backend-7')).toMatch(/no member "backend-7" on this machine/);
    await balanced();
  }, 90_000);

  test('every change is in the history with who made it, and an upgrade can begin', async () => {
    const { changes } = await json<{ changes: { number: number; by: string; what: string }[] }>(
      'cluster',
      'history',
    );
    expect(changes.map(({ what }) => what)).toEqual(
      expect.arrayContaining(['drain backend-2', 'undrain backend-2', `unpin ${accounts[0]!.address}`]),
    );
    expect(changes.every(({ by }) => by !== '')).toBe(true);
    expect(changes.map(({ number }) => number)).toEqual(changes.map((_, index) => index + 1));
    const check = await json<{ ready: boolean; next: string[] }>('cluster', 'upgrade-check');
    expect(check.ready).toBe(true);
    expect(check.next).toContain('postern member restart backend-1');
    const text = await cluster.command(['cluster', 'status']);
    expect(text).toMatch(
      /^backend-1 +serves +pid \d+ +release \S+ +protocol \d-\d .*sessions \d+ +lease \d\.\d s/m,
    );
  }, 30_000);
});
