/** The map as it is written, read and looked up; placement; leases; what a backend holds. */
import { describe, expect, test } from '@jest/globals';
import { Holdings } from '../../cluster-protocol/holdings.ts';
import { shardOf } from '../../cluster-protocol/ids.ts';
import {
  leaseGranted,
  leaseIsGood,
  leaseLost,
  leaseRenewed,
  renewEveryMs,
} from '../../cluster-protocol/lease.ts';
import { placeShards } from '../../cluster-protocol/placement.ts';
import { reassign } from '../../cluster-protocol/reassignment.ts';
import { decodeReleased, encodeReleased, type Released } from '../../cluster-protocol/released.ts';
import {
  buildShardMap,
  decodeShardMap,
  emptyShardMap,
  encodeShardMap,
  freeHolding,
  type Holding,
  holdingOf,
  holdingOfAddress,
  pinBytesMax,
  pinsMax,
  type ShardMap,
  shardCountInEtcdMax,
  whereIs,
} from '../../cluster-protocol/shard-map.ts';
import { isDrained, noWishes, type Wishes, wishesAfter, wishesFrom } from '../../cluster-protocol/wishes.ts';

const a = { id: 'a', incarnation: '1' };
const b = { id: 'b', incarnation: '1' };
const owned = (owner = a, epoch = 3): Holding => ({ state: 'owned', owner, epoch });
const releasing: Holding = { state: 'releasing', owner: a, epoch: 3, to: b };

function mapOf(holdings: readonly Holding[], pins: Record<string, Holding> = {}, next = 9): ShardMap {
  return buildShardMap(holdings.length, next, (shard) => holdings[shard]!, new Map(Object.entries(pins)));
}

describe('the shard map', () => {
  test('is read as it was written, shards and pins in every state', () => {
    const holdings = [owned(), owned(), freeHolding, releasing, owned(b, 4)];
    const pins = { 'x@y.org': owned(b, 5), 'v@w.org': releasing, 'f@g.org': freeHolding };
    const map = decodeShardMap(encodeShardMap(mapOf(holdings, pins)));
    expect(Array.from({ length: 5 }, (_, shard) => holdingOf(map, shard))).toEqual(holdings);
    expect(Object.fromEntries(map.pins)).toEqual(pins);
    expect(map.nextEpoch).toBe(9);
  });

  test('of one owner is small, and at its worst still fits a registry value', () => {
    const one = encodeShardMap(mapOf(Array(4096).fill(owned())));
    expect(one.length).toBeLessThan(120);
    const worst = encodeShardMap(
      mapOf(
        Array.from({ length: 4096 }, (_, shard) =>
          owned({ id: `backend-${shard % 256}`, incarnation: 'f'.repeat(16) }, 1e12 + shard),
        ),
        {},
        2e12,
      ),
    );
    expect(worst.length).toBeLessThan(512 * 1024);
  });

  test('says where an account is: its pin, its shard, the one it moves to, or nowhere', () => {
    const shards = Array<Holding>(4).fill(owned());
    const address = 'ann@example.org';
    const at = (holding: Holding): Holding[] =>
      shards.map((old, shard) => (shard === shardOf(address, 4) ? holding : old));
    expect(whereIs(mapOf(at(owned(b, 4))), address)).toEqual({ owner: 'b', epoch: 4 });
    expect(whereIs(mapOf(at(releasing)), address)).toEqual({ owner: 'b', epoch: 3 });
    expect(whereIs(mapOf(at(freeHolding)), address)).toBeUndefined();
    expect(holdingOfAddress(mapOf(shards, { [address]: owned(b, 7) }), address)).toEqual(owned(b, 7));
    expect(whereIs(mapOf(shards, { [address]: freeHolding }), address)).toBeUndefined();
  });

  const good = JSON.parse(encodeShardMap(mapOf([owned(), releasing])));
  test.each([
    ['no JSON', '{'],
    ['nothing', 'null'],
    ['another version', JSON.stringify({ ...good, v: 2 })],
    ['too few shards', JSON.stringify({ ...good, shards: 3 })],
    ['too many shards', JSON.stringify({ ...good, shards: 1 })],
    ['a huge shard count', JSON.stringify({ ...good, shards: 1e9 })],
    ['an owner that is not listed', JSON.stringify({ ...good, runs: [[2, 7, 3]] })],
    ['an epoch that was never granted', JSON.stringify({ ...good, runs: [[2, 0, 9]] })],
    ['a fraction', JSON.stringify({ ...good, runs: [[1.5, 0, 3]] })],
    ['runs that are no list', JSON.stringify({ ...good, runs: {} })],
    ['a pin without name', JSON.stringify({ ...good, pins: [[1]] })],
  ])('with %s is refused', (_what, text) => {
    expect(() => decodeShardMap(text)).toThrow(expect.objectContaining({ code: 'peer-protocol' }));
  });
});

describe('with etcd, whose requests may have 1.5 MiB,', () => {
  test('a map of as many shards as it may have fits, however many owners, moves and pins there are', () => {
    const holders = Array.from({ length: 1000 }, (_, index) => ({
      id: `machine-with-a-long-name-${index}-backend-1`,
      incarnation: index.toString(16).padStart(16, '0'),
    }));
    const nextEpoch = 9_999_999_999;
    const holder = (number: number) => holders[number % holders.length]!;
    const pinned = (index: number): string =>
      `${String(index).padStart(Math.floor(pinBytesMax / pinsMax) - 12, 'p')}@example.org`;
    const pins = new Map<string, Holding>();
    for (let index = 0; index < pinsMax; index++)
      pins.set(pinned(index), {
        state: 'releasing',
        owner: holder(index),
        epoch: nextEpoch - 1 - index,
        to: holder(index + 1),
      });
    const text = encodeShardMap(
      buildShardMap(
        shardCountInEtcdMax,
        nextEpoch,
        (shard) => ({
          state: 'releasing',
          owner: holder(shard * 7),
          epoch: nextEpoch - 1 - shard,
          to: holder(shard * 7 + 1),
        }),
        pins,
      ),
    );
    expect(Buffer.byteLength(text)).toBeLessThan(1024 * 1024);
    expect(decodeShardMap(text).pins.size).toBe(pinsMax);
  });
});

describe('placement', () => {
  const count = (wanted: Int32Array, backend: number) => wanted.filter((owner) => owner === backend).length;
  const moves = (from: Int32Array, to: Int32Array) =>
    from.filter((owner, shard) => owner !== to[shard]).length;
  test.each([
    ['one backend gets everything', 8, [], [1], [8]],
    ['two share evenly', 8, [8, 0], [1, 1], [4, 4]],
    ['an odd shard stays where it is', 9, [0, 9], [1, 1], [4, 5]],
    ['weights count', 12, [12, 0], [1, 2], [4, 8]],
    ['one that is emptied gives all', 8, [4, 4], [0, 1], [0, 8]],
    ['a third takes from both', 9, [5, 4, 0], [1, 1, 1], [3, 3, 3]],
    ['when nobody may have any, nothing moves', 8, [5, 3], [0, 0], [5, 3]],
    ['balanced already, nothing moves', 9, [3, 3, 3], [1, 1, 1], [3, 3, 3]],
  ])('%s, with the fewest moves', (_rule, shards, now, weights, want) => {
    const current = new Int32Array(shards).fill(-1);
    let shard = 0;
    for (const [backend, has] of now.entries()) for (let i = 0; i < has; i++) current[shard++] = backend;
    const wanted = placeShards(current, weights);
    expect(weights.map((_, backend) => count(wanted, backend))).toEqual(want);
    const fewest =
      now.length === 0 ? shards : now.reduce((sum, has, i) => sum + Math.max(0, has - want[i]!), 0);
    expect(moves(current, wanted)).toBe(fewest);
  });

  test('keeps what moves together, so that the map stays short', () => {
    const current = new Int32Array(4096);
    const wanted = placeShards(current, [1, 1, 1]);
    const map = mapOf(Array.from(wanted, (backend) => owned({ id: `b${backend}`, incarnation: '1' })));
    expect(JSON.parse(encodeShardMap(map)).runs.length).toBeLessThanOrEqual(4);
  });
});

describe('reassignment', () => {
  const view = (incarnation: string, revision = 5) => ({ incarnation, revision, weight: 1, draining: false });

  test('a restarted backend is granted its shards anew, on condition that the old record is gone', () => {
    const map = mapOf([owned(), owned()]);
    const { next } = reassign(map, new Map([['a', view('2')]]), new Map(), true);
    expect(holdingOf(next!.map, 1)).toEqual({
      state: 'owned',
      owner: { id: 'a', incarnation: '2' },
      epoch: 9,
    });
    expect(next!.map.nextEpoch).toBe(10);
    expect(next!.conditions).toEqual([{ key: 'member/a', is: 'at', revision: 5 }]);
  });

  test('nothing is granted over a live owner; a release of another epoch or incarnation does not count', () => {
    const map = mapOf([releasing, releasing]);
    const backends = new Map([
      ['a', view('1')],
      ['b', view('1')],
    ]);
    for (const released of [
      { incarnation: '1', runs: [[0, 2, 2]], pins: [] },
      { incarnation: '0', runs: [[0, 2, 3]], pins: [] },
    ] as const)
      expect(reassign(map, backends, new Map([['a', released]]), true).next).toBeUndefined();
    const { next } = reassign(
      map,
      backends,
      new Map([['a', { incarnation: '1', runs: [[0, 1, 3]], pins: [] }]]),
      true,
    );
    expect(holdingOf(next!.map, 0)).toEqual(owned(b, 9));
    expect(holdingOf(next!.map, 1)).toEqual(releasing);
  });

  test('moves are bounded, and wait while members come and go', () => {
    const map = mapOf(Array<Holding>(100).fill(owned()));
    const backends = new Map([
      ['a', view('1')],
      ['b', view('1')],
    ]);
    expect(reassign(map, backends, new Map(), false)).toEqual({ next: undefined, wantsMoves: true });
    const { next } = reassign(map, backends, new Map(), true, { movesMax: 7, membersMax: 60 });
    expect(next!.map.targets.filter((target) => target !== 0)).toHaveLength(7);
  });

  test('a pin whose owner died is granted at a new epoch, never dropped', () => {
    const map = mapOf([owned(b, 4)], { 'x@y.org': owned(a, 8) });
    const { next } = reassign(map, new Map([['b', view('1')]]), new Map(), true);
    expect(next!.map.pins.get('x@y.org')).toEqual(owned(b, 9));
  });
});

describe('what an admin wants', () => {
  const view = (incarnation: string, revision = 5) => ({ incarnation, revision, weight: 1, draining: false });
  const live = new Map([
    ['a', view('1')],
    ['b', view('1', 6)],
  ]);
  const address = 'ann@example.org';
  const wish = { by: 'root', atMs: 1 };
  const pinTo = (member: string): Wishes => ({
    ...noWishes,
    pins: new Map([[address, { ...wish, member }]]),
  });
  const letGo = (epoch: number): Map<string, Released> =>
    new Map([['a', { incarnation: '1', runs: [], pins: [[address, epoch] as const] }]]);
  const next = (map: ShardMap, wishes: Wishes, released = new Map<string, Released>(), mayMove = false) =>
    reassign(map, live, released, mayMove, undefined, wishes).next?.map;
  const ownedByBoth = Array.from({ length: 4 }, (_, shard) => (shard % 2 === 0 ? owned() : owned(b, 4)));

  test('a drained backend is asked for everything at once, and gets nothing', () => {
    const drain = (incarnation?: string): Wishes => ({
      ...noWishes,
      drains: new Map([['a', incarnation === undefined ? wish : { ...wish, incarnation }]]),
    });
    const map = mapOf([owned(), owned(), owned(b, 4), freeHolding]);
    for (const wishes of [drain(), drain('1')]) {
      const after = next(map, wishes)!;
      expect([0, 1].map((shard) => holdingOf(after, shard))).toEqual([releasing, releasing]);
      expect(holdingOf(after, 3)).toEqual(owned(b, 9));
    }
    // A drain of an earlier start is over.
    expect([0, 1].map((shard) => holdingOf(next(map, drain('0'))!, shard))).toEqual([owned(), owned()]);
  });

  test('when everybody is drained nobody is asked for anything, and what is free stays free', () => {
    const drains = new Map(['a', 'b'].map((id) => [id, wish]));
    const map = mapOf([owned(), owned(b, 4), freeHolding]);
    expect(next(map, { ...noWishes, drains }, new Map(), true)).toBeUndefined();
  });

  test('drains come before the moves for balance', () => {
    const three = new Map([...live, ['c', view('1', 7)]]);
    const map = mapOf([...Array<Holding>(50).fill(owned()), ...Array<Holding>(10).fill(owned(b, 4))]);
    const drains = new Map([['b', wish]]);
    const limits = { movesMax: 10, membersMax: 60 };
    const { next: first } = reassign(map, three, new Map(), true, limits, { ...noWishes, drains });
    const moving = [...first!.map.targets].flatMap((target, shard) => (target === 0 ? [] : [shard]));
    expect(moving).toEqual([50, 51, 52, 53, 54, 55, 56, 57, 58, 59]);
  });

  test('a shard that is kept somewhere goes there without waiting, and balance leaves it', () => {
    const shards = new Map([[0, { ...wish, member: 'b' }]]);
    const after = next(mapOf(ownedByBoth), { ...noWishes, shards })!;
    expect(holdingOf(after, 0)).toEqual(releasing);
    const there = mapOf([owned(b, 9), owned(b, 4), owned(), owned()]);
    expect(next(there, { ...noWishes, shards }, new Map(), true)).toBeUndefined();
    // All of them by hand: nobody else's share is touched, nothing goes round in circles.
    const all = new Map([0, 1, 2, 3].map((shard) => [shard, { ...wish, member: 'b' }]));
    expect(
      next(mapOf(Array(4).fill(owned(b, 4))), { ...noWishes, shards: all }, new Map(), true),
    ).toBeUndefined();
  });

  test('a pin begins with the owner and epoch of its shard, and is granted when that lets go', () => {
    const map = mapOf(Array(4).fill(owned()));
    const first = next(map, pinTo('b'))!;
    expect(first.pins.get(address)).toEqual(releasing);
    expect(next(first, pinTo('b'))).toBeUndefined();
    expect(next(first, pinTo('b'), letGo(2))).toBeUndefined();
    const second = next(first, pinTo('b'), letGo(3))!;
    expect(second.pins.get(address)).toEqual(owned(b, 9));
    expect(second.nextEpoch).toBe(10);
    // With its owner already: nothing moves.
    expect(next(map, pinTo('a'))!.pins.get(address)).toEqual(owned());
  });

  test.each([
    ['is moving', releasing],
    ['has no owner', freeHolding],
    ['belongs to one that is gone', owned({ id: 'a', incarnation: '0' })],
  ])('a pin is not begun while its shard %s', (_when, holding) => {
    expect(next(mapOf(Array(4).fill(holding)), pinTo('b'))?.pins.size ?? 0).toBe(0);
  });

  test('a pin for a backend that is not there waits; one whose backend goes is where its shard is', () => {
    const map = mapOf(Array(4).fill(owned()));
    expect(next(map, pinTo('c'))).toBeUndefined();
    const c = { id: 'c', incarnation: '1' };
    const pinned = mapOf(Array(4).fill(owned()), { [address]: owned(c, 5) });
    expect(next(pinned, pinTo('c'))!.pins.get(address)).toEqual(owned(a, 9));
    // Back again, it is asked for.
    const home = mapOf(Array(4).fill(owned()), { [address]: owned(a, 9) }, 10);
    expect(next(home, pinTo('b'))!.pins.get(address)).toEqual({ ...releasing, epoch: 9 });
  });

  test('an account goes home under its own epoch, and is its shard’s only at a greater one', () => {
    const shards = Array<Holding>(4).fill(owned());
    const away = mapOf(shards, { [address]: owned(b, 5) });
    const leaving = next(away, noWishes)!;
    expect(leaving.pins.get(address)).toEqual({ state: 'releasing', owner: b, epoch: 5, to: a });
    const byB = new Map([['b', { incarnation: '1', runs: [], pins: [[address, 5] as const] }]]);
    // Its shard stands at 3, and the fence at 5: it keeps an epoch of its own.
    expect(next(leaving, noWishes, byB)!.pins.get(address)).toEqual(owned(a, 9));
    const later = mapOf(Array(4).fill(owned(a, 6)), { [address]: leaving.pins.get(address)! });
    expect(next(later, noWishes, byB)!.pins.has(address)).toBe(false);
    expect(next(later, noWishes)).toBeUndefined();
  });

  test('a pin at home that its shard has passed is released once more and gone', () => {
    const passed = mapOf(Array(4).fill(owned(a, 6)), { [address]: owned(a, 5) });
    const asked = next(passed, noWishes)!;
    expect(asked.pins.get(address)).toEqual({ state: 'releasing', owner: a, epoch: 5, to: a });
    expect(next(asked, noWishes, letGo(5))!.pins.has(address)).toBe(false);
    const notPassed = mapOf(Array(4).fill(owned(a, 4)), { [address]: owned(a, 5) });
    expect(next(notPassed, noWishes)).toBeUndefined();
  });

  test('a pin without an owner does not say how far its fence is: it goes home only with a grant of its shard', () => {
    const map = mapOf(Array(4).fill(owned(a, 6)), { [address]: freeHolding });
    expect(next(map, noWishes)!.pins.get(address)).toEqual(owned(a, 9));
    const granted = next(mapOf(Array(4).fill(freeHolding), { [address]: freeHolding }), noWishes)!;
    expect(granted.pins.has(address)).toBe(false);
  });

  test('a pin that goes because its owner is gone depends on that', () => {
    const map = mapOf(Array(4).fill(owned(b, 6)), { [address]: owned({ id: 'c', incarnation: '1' }, 5) });
    const { next: after } = reassign(map, live, new Map(), false);
    expect(after!.map.pins.has(address)).toBe(false);
    expect(after!.conditions).toContainEqual({ key: 'member/c', is: 'absent' });
  });

  test('is read from the registry, and what cannot be read is no wish', () => {
    const entries = [
      ['wish/drain/a', JSON.stringify({ ...wish, incarnation: '7' })],
      ['wish/pin/x@y.org', JSON.stringify({ ...wish, member: 'b' })],
      ['wish/shard/3', JSON.stringify({ ...wish, member: 'b' })],
      ['wish/shard/no', JSON.stringify({ ...wish, member: 'b' })],
      ['wish/pin/bad@y.org', '{'],
      ['wish/pin/none@y.org', '{}'],
    ].map(([key, value]) => ({ key: key!, value: value!, revision: 1 }));
    const wishes = wishesFrom(entries);
    expect([...wishes.drains.keys(), ...wishes.pins.keys(), ...wishes.shards.keys()]).toEqual([
      'a',
      'x@y.org',
      3,
    ]);
    expect([isDrained(wishes, 'a', '7'), isDrained(wishes, 'a', '8')]).toEqual([true, false]);
    expect(wishesAfter(wishes, 'wish/drain/a', undefined).drains.size).toBe(0);
    expect(wishesAfter(wishes, 'map', 'x')).toBe(wishes);
  });
});

describe('a lease', () => {
  test('is good from when its renewal was sent, for its time less the margin', () => {
    const lease = leaseGranted(3000, 500, 100);
    expect(leaseIsGood(lease, 2599)).toBe(true);
    expect(leaseIsGood(lease, 2600)).toBe(false);
    expect(leaseIsGood(leaseRenewed(lease, 1000), 3499)).toBe(true);
    expect(renewEveryMs(lease)).toBe(833);
  });

  test('is not shortened by an answer that comes late, and not revived once lost', () => {
    const lease = leaseRenewed(leaseRenewed(leaseGranted(3000, 500, 0), 1000), 500);
    expect(lease.goodUntilMs).toBe(3500);
    expect(leaseIsGood(leaseLost(lease), 0)).toBe(false);
  });
});

describe('what a backend holds', () => {
  test('follows newer maps only, and ends with what it lets go', () => {
    const holdings = new Holdings(a);
    expect(holdings.takeMap(mapOf([owned(), owned(b, 4), releasing]), 10)).toEqual({ gained: 2, lost: 0 });
    expect(holdings.takeMap(emptyShardMap(3, 9), 9)).toEqual({ gained: 0, lost: 0 });
    expect([0, 1, 2].map((shard) => holdings.epochOfShard(shard))).toEqual([3, 0, 3]);
    const leaving = holdings.leaving()!;
    expect([...leaving.shards]).toEqual([2]);
    expect(holdings.released()).toBeUndefined();
    holdings.letGo(leaving);
    expect(holdings.epochOfShard(2)).toBe(0);
    expect(holdings.leaving()).toBeUndefined();
    expect(holdings.released()).toEqual({ incarnation: '1', runs: [[2, 1, 3]], pins: [] });
    // The same map again, or one that gives the epoch back, revives nothing.
    holdings.takeMap(mapOf([owned(), owned(b, 4), owned()]), 11);
    expect(holdings.epochOfShard(2)).toBe(0);
    holdings.takeMap(mapOf([owned(), owned(b, 4), owned(a, 5)]), 12);
    expect(holdings.epochOfShard(2)).toBe(5);
    expect(holdings.released()).toBeUndefined();
  });

  test('is not what an earlier start of the same backend held', () => {
    const holdings = new Holdings({ id: 'a', incarnation: '2' });
    holdings.takeMap(mapOf([owned()]), 1);
    expect(holdings.shardsHeld).toBe(0);
  });

  test('says when the map gives away what was never released', () => {
    const holdings = new Holdings(a);
    holdings.takeMap(mapOf([owned()]), 1);
    expect(holdings.takeMap(mapOf([owned(b, 4)]), 2)).toEqual({ gained: 0, lost: 1 });
  });

  test('a pin is left and let go by itself', () => {
    const holdings = new Holdings(a);
    const address = 'x@y.org';
    holdings.takeMap(mapOf([owned(b, 4)], { [address]: releasing }), 1);
    expect(holdings.epochFor(address)).toBe(3);
    expect(holdings.isOpenFor(address)).toBe(false);
    const leaving = holdings.leaving()!;
    expect(leaving.has(address)).toBe(true);
    expect(leaving.has('other@y.org')).toBe(false);
    holdings.letGo(leaving);
    expect(holdings.epochFor(address)).toBe(0);
    expect(holdings.released()).toEqual({ incarnation: '1', runs: [], pins: [[address, 3]] });
  });
});

test('a record of released shards is read as written, and nothing else is', () => {
  const released = { incarnation: '1', runs: [[0, 2, 3]], pins: [['x@y.org', 4]] } as const;
  expect(decodeReleased(encodeReleased(released))).toEqual(released);
  for (const text of [
    '',
    '{}',
    '{"v":2,"incarnation":"1","runs":[],"pins":[]}',
    '{"v":1,"incarnation":"1","runs":[[0]],"pins":[]}',
  ])
    expect(() => decodeReleased(text)).toThrow(expect.objectContaining({ code: 'peer-protocol' }));
});
