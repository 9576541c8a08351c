/** The embedded registry as two members and a supervisor see it, over its real socket and file. */
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { connectEmbeddedRegistry } from '../../cluster-protocol/registry/embedded-client.ts';
import {
  type EmbeddedRegistry,
  openEmbeddedRegistry,
} from '../../cluster-protocol/registry/embedded-server.ts';
import { follow } from '../../cluster-protocol/registry/follow.ts';
import type { Registry } from '../../cluster-protocol/registry.ts';
import { isProcessGone, processIdentity, revokeMember } from '../../cluster-protocol/revoke.ts';
import { watching } from './watching.ts';

let dir: string;
let file: string;
let socket: string;
let server: EmbeddedRegistry;
let one: Registry;
let two: Registry;

beforeEach(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'registry-'));
  file = path.join(dir, 'registry.sqlite');
  socket = path.join(dir, 'registry.sock');
  server = await openEmbeddedRegistry(file, socket);
  one = await connectEmbeddedRegistry(socket, { deadlineMs: 500 });
  two = await connectEmbeddedRegistry(socket, { deadlineMs: 500 });
});

afterEach(async () => {
  await one.close();
  await two.close();
  await server.close();
  await rm(dir, { recursive: true });
});

async function until(holds: () => boolean, withinMs = 3000): Promise<void> {
  const end = performance.now() + withinMs;
  while (!holds()) {
    if (performance.now() > end) throw new Error('did not come true in time');
    await sleep(5);
  }
}

describe('keys and transactions', () => {
  test('what one client writes the other reads', async () => {
    const { done, revision } = await one.transact([], [{ put: 'a', value: 'x' }]);
    expect(done).toBe(true);
    expect(await two.get('a')).toEqual({ key: 'a', value: 'x', revision });
    expect(await server.registry.get('a')).toEqual({ key: 'a', value: 'x', revision });
    expect(await two.get('b')).toBeUndefined();
  });

  test('of two clients that create the same key exactly one succeeds', async () => {
    const tries = await Promise.all(
      [one, two, server.registry].map((registry) =>
        registry.transact([{ key: 'k', is: 'absent' }], [{ put: 'k', value: '1' }]),
      ),
    );
    expect(tries.filter((result) => result.done)).toHaveLength(1);
  });

  test('a transaction whose condition fails changes nothing', async () => {
    const { revision } = await one.transact([], [{ put: 'a', value: '1' }]);
    await two.transact([], [{ put: 'a', value: '2' }]);
    const late = await one.transact(
      [{ key: 'a', is: 'at', revision }],
      [
        { put: 'a', value: '3' },
        { put: 'b', value: '' },
      ],
    );
    expect(late.done).toBe(false);
    expect((await one.get('a'))?.value).toBe('2');
    expect(await one.get('b')).toBeUndefined();
  });

  test('a list is sorted, holds the prefix only, and comes in pages without a seam', async () => {
    const big = 'v'.repeat(100_000);
    for (let i = 0; i < 8; i++) await one.transact([], [{ put: `p/${i}`, value: big }]);
    await one.transact(
      [],
      [
        { put: 'o', value: '' },
        { put: 'q', value: '' },
      ],
    );
    const { entries, revision } = await two.list('p/');
    expect(entries.map((entry) => entry.key)).toEqual([0, 1, 2, 3, 4, 5, 6, 7].map((i) => `p/${i}`));
    expect(revision).toBe(9);
    expect((await two.list('')).entries).toHaveLength(10);
  });

  test.each([
    ['an empty key', [{ put: '', value: '' }], 'bad-argument'],
    ['a key with a space', [{ put: 'a b', value: '' }], 'bad-argument'],
    ['a key of 513 bytes', [{ put: 'k'.repeat(513), value: '' }], 'bad-argument'],
    ['a value over 512 Ki', [{ put: 'k', value: 'v'.repeat(512 * 1024 + 1) }], 'limit-reached'],
    ['a call over 1 MiB', [{ put: 'k', value: 'v'.repeat(1024 * 1024) }], 'limit-reached'],
    ['1025 changes', Array.from({ length: 1025 }, (_, i) => ({ put: `k${i}`, value: '' })), 'limit-reached'],
    ['a lease nobody granted', [{ put: 'k', value: '', lease: 'no' }], 'lease-lost'],
  ])('%s is refused', async (_what, changes, code) => {
    await expect(one.transact([], changes)).rejects.toMatchObject({ code });
    expect((await one.list('')).entries).toEqual([]);
  });
});

describe('watches', () => {
  test('deliver every change under the prefix in order, and nothing else', async () => {
    const seen = watching(one, 'w/', 0);
    for (let i = 0; i < 50; i++)
      await two.transact(
        [],
        [
          { put: `w/${i % 3}`, value: String(i) },
          { put: 'x', value: '' },
        ],
      );
    await two.transact([], [{ remove: 'w/0' }, { remove: 'w/none' }]);
    await until(() => seen.events.length === 51);
    expect(seen.events.slice(0, 50).map((event) => event.value)).toEqual(
      Array.from({ length: 50 }, (_, i) => String(i)),
    );
    expect(seen.events[50]).toMatchObject({ kind: 'remove', key: 'w/0', value: '' });
    const revisions = seen.events.map((event) => event.revision);
    expect(revisions).toEqual([...revisions].sort((a, b) => a - b));
    seen.end();
    await two.transact([], [{ put: 'w/9', value: '' }]);
    await one.get('w/9');
    expect(seen.events).toHaveLength(51);
  });

  test('start from an earlier revision with what was missed', async () => {
    const { revision } = await one.transact([], [{ put: 'w', value: '1' }]);
    await one.transact([], [{ put: 'w', value: '2' }]);
    const remote = watching(two, 'w', revision);
    const direct = watching(server.registry, 'w', revision);
    await one.transact([], [{ put: 'w', value: '3' }]);
    await until(() => remote.events.length === 2 && direct.events.length === 2);
    for (const seen of [remote, direct]) expect(seen.events.map((event) => event.value)).toEqual(['2', '3']);
  });

  test('that cannot go back far enough, or come from another store, say so once', async () => {
    await server.close();
    server = await openEmbeddedRegistry(file, socket, { historyEventsMax: 3 });
    for (let i = 0; i < 6; i++) await server.registry.transact([], [{ put: 'w', value: String(i) }]);
    const old = watching(two, 'w', 1);
    const ahead = watching(two, 'w', 1000);
    const direct = watching(server.registry, 'w', 1);
    const recent = watching(two, 'w', 3);
    await until(() => old.resynchronised + ahead.resynchronised + direct.resynchronised === 3);
    await until(() => recent.events.length === 3);
    expect(old.events).toEqual([]);
    expect(recent.resynchronised).toBe(0);
  });
});

describe('leases', () => {
  test('a lease that is renewed keeps its keys; one that is not takes them with it', async () => {
    const kept = await one.grantLease(200);
    const dropped = await one.grantLease(200);
    await one.transact(
      [],
      [
        { put: 'kept', value: '', lease: kept },
        { put: 'dropped', value: '', lease: dropped },
      ],
    );
    const seen = watching(two, '', 1);
    const end = performance.now() + 600;
    while (performance.now() < end) {
      await one.renewLease(kept);
      await sleep(50);
    }
    expect(seen.events).toEqual([{ kind: 'remove', key: 'dropped', value: '', revision: 2 }]);
    expect(await two.get('kept')).toMatchObject({ lease: kept });
    await expect(one.renewLease(dropped)).rejects.toMatchObject({ code: 'lease-lost' });
  });

  test('a revoked lease is gone for its holder, and revoking twice does no harm', async () => {
    const lease = await one.grantLease(60_000);
    await one.transact([], [{ put: 'member/b', value: '{}', lease }]);
    expect(await revokeMember(server.registry, 'b')).toBe(true);
    expect(await revokeMember(server.registry, 'b')).toBe(false);
    await one.revokeLease(lease);
    expect(await two.get('member/b')).toBeUndefined();
    await expect(one.renewLease(lease)).rejects.toMatchObject({ code: 'lease-lost' });
    await expect(one.transact([], [{ put: 'k', value: '', lease }])).rejects.toMatchObject({
      code: 'lease-lost',
    });
  });

  test('leases survive a restart of the server with their full time', async () => {
    const lease = await one.grantLease(400);
    await one.transact([], [{ put: 'k', value: '', lease }]);
    await sleep(300);
    await server.close();
    server = await openEmbeddedRegistry(file, socket);
    await sleep(200);
    expect(await server.registry.get('k')).toMatchObject({ lease });
    await one.renewLease(lease);
    await sleep(300);
    expect(await server.registry.get('k')).toMatchObject({ lease });
    await sleep(200);
    expect(await server.registry.get('k')).toBeUndefined();
  });

  test('a process that is gone is told from one that lives and from one that cannot be judged', () => {
    const own = processIdentity();
    const [boot, namespace, pid, start] = own.split(' ');
    expect(isProcessGone(own)).toBe(false);
    expect(isProcessGone(`${boot} ${namespace} ${pid} ${Number(start) - 1}`)).toBe(true);
    expect(isProcessGone(`${boot} ${namespace} 4194305 ${start}`)).toBe(true);
    expect(isProcessGone(`other ${namespace} 4194305 ${start}`)).toBe(false);
    expect(isProcessGone(`${boot} pid:[1] 4194305 ${start}`)).toBe(false);
    expect(isProcessGone('')).toBe(false);
  });

  test('a restarted server revokes members whose process is gone and leaves the living alone', async () => {
    const [boot, namespace] = processIdentity().split(' ');
    for (const [id, identity] of [
      ['dead', `${boot} ${namespace} 4194305 1`],
      ['living', processIdentity()],
      ['unknown', ''],
    ]) {
      const lease = await one.grantLease(60_000);
      await one.transact(
        [],
        [{ put: `member/${id}`, value: JSON.stringify({ id, process: identity }), lease }],
      );
    }
    await server.close();
    server = await openEmbeddedRegistry(file, socket);
    const left = (await server.registry.list('member/')).entries.map((entry) => entry.key);
    expect(left).toEqual(['member/living', 'member/unknown']);
  });
});

describe('a server that goes away', () => {
  test('its clients reconnect, and watches go on without a gap', async () => {
    const { revision } = await one.transact([], [{ put: 'w/1', value: '' }]);
    const seen = watching(one, 'w/', revision);
    await server.close();
    server = await openEmbeddedRegistry(file, socket);
    expect(await two.get('w/2')).toBeUndefined();
    await two.transact([], [{ put: 'w/2', value: '' }]);
    await until(() => seen.events.length === 1);
    expect(seen.resynchronised).toBe(0);
  });

  test('a follower starts over when changes were made that its watch cannot replay', async () => {
    const pictures: string[][] = [];
    const end = new AbortController();
    await one.transact([], [{ put: 'f/1', value: '' }]);
    follow(
      one,
      ['f/', 'g/'],
      {
        reset: (entries) => pictures.push(entries.map((entry) => entry.key)),
        event: (event) => pictures.at(-1)!.push(event.key),
      },
      end.signal,
    );
    await until(() => pictures.length === 1);
    await server.close();
    const alone = await openEmbeddedRegistry(file, path.join(dir, 'other.sock'));
    await alone.registry.transact(
      [],
      [
        { put: 'f/2', value: '' },
        { put: 'g/1', value: '' },
      ],
    );
    await alone.close();
    server = await openEmbeddedRegistry(file, socket);
    await until(() => pictures.length === 2);
    await server.registry.transact([], [{ put: 'g/2', value: '' }]);
    await until(() => pictures[1]!.length === 4);
    expect(pictures).toEqual([['f/1'], ['f/1', 'f/2', 'g/1', 'g/2']]);
    end.abort();
  });

  test('a transaction that was under way rejects, because nobody knows whether it was done', async () => {
    const pending = one.transact([], [{ put: 'a', value: '' }]);
    const rejected = expect(pending).rejects.toMatchObject({ code: 'registry-failed' });
    await server.close();
    await rejected;
    server = await openEmbeddedRegistry(file, socket);
  });

  test('calls reject with registry-failed within their deadline, never hang', async () => {
    await server.close();
    const from = performance.now();
    await expect(one.get('a')).rejects.toMatchObject({ code: 'registry-failed' });
    expect(performance.now() - from).toBeLessThan(1000);
    server = await openEmbeddedRegistry(file, socket);
    expect(await one.get('a')).toBeUndefined();
  });

  test('a second server on the same file is refused', async () => {
    await expect(openEmbeddedRegistry(file, path.join(dir, 'two.sock'))).rejects.toMatchObject({
      code: 'already-running',
    });
  });
});

describe('the socket', () => {
  test('and the file are private', async () => {
    expect((await stat(socket)).mode & 0o777).toBe(0o600);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
  });

  test.each([
    ['another version', '{"hello":"postern-registry","version":99}\n'],
    ['no greeting', '{"id":1,"op":"get","key":"a"}\n'],
    ['what is not JSON', 'GET / HTTP/1.1\r\n\r\n'],
    ['a line without end', 'x'.repeat(1024 * 1024 + 100)],
    [
      'a line too long after the greeting',
      `{"hello":"postern-registry","version":1}\n"${'x'.repeat(1024 * 1024)}"\n`,
    ],
  ])('closes on %s and goes on serving others', async (_what, bytes) => {
    const stranger = connect(socket);
    stranger.on('error', () => {});
    stranger.resume();
    stranger.write(bytes);
    await new Promise((resolve) => stranger.on('close', resolve));
    expect(await one.get('a')).toBeUndefined();
  });
});
