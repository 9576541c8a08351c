/** The life of one shard: one row, one rule. */
import { describe, expect, test } from '@jest/globals';
import { type HoldingFacts, stepHolding } from '../../cluster-protocol/ownership.ts';
import type { Holding } from '../../cluster-protocol/shard-map.ts';

const [a, b, c] = ['a', 'b', 'c'].map((id) => ({ id, incarnation: '1' }));
const free: Holding = { state: 'free' };
const owned: Holding = { state: 'owned', owner: a!, epoch: 3 };
const releasing: Holding = { state: 'releasing', owner: a!, epoch: 3, to: b! };
const granted = (owner = b!): Holding => ({ state: 'owned', owner, epoch: 9 });
const facts: HoldingFacts = { owner: 'live', targetIsLive: true, wanted: undefined, mayMove: true, epoch: 9 };

const rows: readonly (readonly [string, Holding, Partial<HoldingFacts>, Holding])[] = [
  ['a free shard is granted to whom it is wanted for', free, { wanted: b! }, granted()],
  ['a free shard stays free when nobody may have it', free, {}, free],
  ['an owned shard stays where it is wanted', owned, { wanted: a! }, owned],
  ['an owned shard stays when nobody else is wanted', owned, {}, owned],
  ['an owned shard that is wanted elsewhere is asked back, not taken', owned, { wanted: b! }, releasing],
  ['an owned shard is not moved while moves have to wait', owned, { wanted: b!, mayMove: false }, owned],
  ['a shard of a dead owner is granted at a new epoch', owned, { owner: 'gone', wanted: b! }, granted()],
  [
    'a shard of a dead owner is granted even while moves have to wait',
    owned,
    { owner: 'gone', wanted: b!, mayMove: false },
    granted(),
  ],
  ['a shard of a dead owner with nobody left is free', owned, { owner: 'gone' }, free],
  [
    'a released shard goes on, at a new epoch even to the same owner',
    owned,
    { owner: 'released', wanted: a! },
    granted(a!),
  ],
  ['a releasing shard waits for its owner', releasing, { wanted: b! }, releasing],
  ['a releasing shard waits although it is wanted elsewhere by now', releasing, { wanted: c! }, releasing],
  [
    'a releasing shard is granted to its target when released',
    releasing,
    { owner: 'released', wanted: c! },
    granted(),
  ],
  [
    'a releasing shard is granted to its target when its owner dies',
    releasing,
    { owner: 'gone', wanted: c! },
    granted(),
  ],
  [
    'a released shard whose target died goes where it is wanted',
    releasing,
    { owner: 'released', targetIsLive: false, wanted: c! },
    granted(c!),
  ],
  [
    'a releasing shard whose target died gets another target, never its epoch back',
    releasing,
    { targetIsLive: false, wanted: c! },
    { ...releasing, to: c! },
  ],
  [
    'a releasing shard whose target died and nobody else is wanted comes back to its owner by way of a release',
    releasing,
    { targetIsLive: false },
    { ...releasing, to: a! },
  ],
];

describe('a shard', () => {
  test.each(rows)('%s', (_rule, before, given, after) => {
    expect(stepHolding(before, { ...facts, ...given })).toEqual(after);
  });

  test('never changes owner while the old one is live', () => {
    for (const before of [owned, releasing])
      for (const wanted of [undefined, a, b, c])
        for (const targetIsLive of [true, false])
          for (const mayMove of [true, false]) {
            const after = stepHolding(before, { owner: 'live', targetIsLive, wanted, mayMove, epoch: 9 });
            expect(after).toMatchObject({ owner: a, epoch: 3 });
          }
  });
});
