/** The judges of a fault run see what they should: each kind of breach, and nothing in a run without one. */
import { describe, expect, test } from '@jest/globals';
import { Grants, type RegistryChange } from './grants.ts';
import { History } from './history.ts';
import type { LoadEvent } from './load.ts';

type Message = readonly [uid: number, op: string, flags: string];

/** A history in few words: questions and answers of one account, in order. */
class Script {
  readonly history = new History();
  #atMs = 0;

  ask(id: string, op: 'append' | 'deliver' | 'read' | 'flag', target?: string, round = 1): this {
    const event: LoadEvent = {
      ...{ kind: 'ask', atMs: ++this.#atMs, id, op, account: 'a', gateway: 0, round },
      ...(target === undefined ? {} : { target }),
    };
    this.history.take(event);
    return this;
  }

  answer(
    id: string,
    facts: { result?: 'no' | 'unknown'; uid?: number; uidValidity?: number; messages?: Message[] } = {},
  ): this {
    this.history.take({ kind: 'answer', atMs: ++this.#atMs, id, result: 'done', ...facts });
    return this;
  }

  append(id: string, uid: number, uidValidity = 1): this {
    return this.ask(id, 'append').answer(id, { uid, uidValidity });
  }

  read(id: string, ...messages: Message[]): this {
    return this.ask(id, 'read').answer(id, { messages });
  }

  final(...messages: (readonly [number, string])[]): this {
    this.history.take({ kind: 'final', account: 'a', messages });
    return this;
  }

  get violations(): readonly string[] {
    return this.history.violations;
  }
}

describe('the judge of what clients were told', () => {
  test('finds nothing in a run in which all is well', () => {
    const script = new Script()
      .append('x', 1)
      .ask('y', 'deliver')
      .answer('y')
      .ask('z', 'append')
      .answer('z', { result: 'unknown' })
      .read('r', [1, 'x', ''], [2, 'y', ''], [3, 'z', ''])
      .ask('f', 'flag', 'x')
      .answer('f')
      .read('s', [1, 'x', '\\Flagged'], [2, 'y', ''], [3, 'z', ''])
      .final([1, 'x'], [2, 'y'], [3, 'z']);
    expect(script.violations).toEqual([]);
    expect(script.history.acknowledged).toBe(2);
  });

  const rows: readonly [what: string, script: () => Script][] = [
    ['no stale read', () => new Script().append('x', 1).read('r')],
    // What one read has shown, the next has to show, though nobody was told that it was stored.
    [
      'no stale read',
      () =>
        new Script().ask('x', 'append').answer('x', { result: 'unknown' }).read('r', [1, 'x', '']).read('s'),
    ],
    ['exactly once', () => new Script().append('x', 1).read('r', [1, 'x', ''], [2, 'x', ''])],
    ['exactly once', () => new Script().append('x', 1).final([1, 'x'], [2, 'x'])],
    ['nothing from nowhere', () => new Script().read('r', [1, 'ghost', ''])],
    ['acknowledged is kept', () => new Script().append('x', 1).final()],
    ['a UID is one message', () => new Script().append('x', 1).append('y', 1)],
    ['UIDs grow', () => new Script().append('x', 5).append('y', 4)],
    ['UIDVALIDITY', () => new Script().append('x', 1, 7).append('y', 2, 8)],
    [
      'a flag stays',
      () => new Script().append('x', 1).ask('f', 'flag', 'x').answer('f').read('r', [1, 'x', '\\Seen']),
    ],
  ];
  test.each(rows)('%s', (what, script) => {
    expect(script().violations.join('\n')).toContain(what);
  });

  test('lets a read lack what was acknowledged after it was asked', () => {
    const script = new Script().ask('r', 'read').append('x', 1).answer('r', { messages: [] });
    expect(script.violations).toEqual([]);
  });
});

describe('the judge of what was granted', () => {
  let revision = 0;
  const put = (key: string, value: object): RegistryChange => ({
    ...{ revision: ++revision, kind: 'put', key, value: JSON.stringify(value) },
  });
  const member = (id: string, incarnation: string): RegistryChange => put(`member/${id}`, { incarnation });
  /** One shard; `pin`: one account with a grant of its own. */
  const map = (
    incarnation: string,
    epoch: number,
    pin?: [incarnation: string, epoch: number],
  ): RegistryChange => {
    const holders = [incarnation, pin?.[0]].flatMap((one) => (one === undefined ? [] : [[one[0]!, one]]));
    return put('map', { shards: 1, holders, runs: [[1, 0, epoch]], pins: pin ? [['p@x', 1, pin[1]]] : [] });
  };
  const judged = (...changes: RegistryChange[]): Grants => {
    const grants = new Grants();
    for (const change of changes) grants.take([change]);
    return grants;
  };

  test('takes a release, a member that has gone, and a member that was started anew', () => {
    const released = put('released/a', { incarnation: 'a1', runs: [[0, 1, 1]], pins: [] });
    const gone: RegistryChange = { revision: ++revision, kind: 'remove', key: 'member/b', value: '' };
    const grants = judged(
      ...[member('a', 'a1'), member('b', 'b1'), map('a1', 1), released, map('b1', 2)],
      ...[gone, map('a1', 3), member('a', 'a2'), map('a2', 4)],
    );
    expect(grants.violations).toEqual([]);
    expect(grants.grants).toBe(4);
  });

  test.each([
    ['no release', () => judged(member('a', 'a1'), map('a1', 1), map('b1', 2))],
    [
      'a release of an earlier epoch',
      () =>
        judged(
          ...[member('a', 'a1'), put('released/a', { incarnation: 'a1', runs: [[0, 1, 1]], pins: [] })],
          ...[map('a1', 2), map('b1', 3)],
        ),
    ],
    ['a pin that is not released', () => judged(member('a', 'a1'), map('a1', 1), map('a1', 1, ['b1', 2]))],
  ])('%s', (_, run) => {
    expect(run().violations.join('\n')).toContain('no grant over a live one');
  });

  test('an epoch that was given before', () => {
    expect(judged(map('a1', 2), map('b1', 2)).violations.join('\n')).toContain('epochs grow');
  });
});
