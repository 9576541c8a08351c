import { expect, test } from '@jest/globals';
import { Deadlines } from '../../../gateway/net/deadline.ts';
import { HandshakeGate, slowHandshakeMs, type Turn } from '../../../gateway/net/handshake-gate.ts';

/** A gate for two, with a clock of the test's own. */
function rig() {
  const clock = { nowMs: 0 };
  const now = (): number => clock.nowMs;
  const deadlines = new Deadlines(100, now);
  const gate = new HandshakeGate(deadlines, 2, now);
  const seen: string[] = [];
  const turns: Record<string, Turn> = {};
  return {
    gate,
    seen,
    enter(name: string) {
      turns[name] = gate.enter(
        () => seen.push(`${name} starts`),
        () => seen.push(`${name} is cut`),
      );
    },
    leave: (name: string) => turns[name]!.leave(),
    pass(ms: number) {
      const end = clock.nowMs + ms;
      for (; clock.nowMs < end; clock.nowMs += 100) deadlines.turn();
      deadlines.turn();
    },
    close: () => deadlines.close(),
  };
}

test('handshakes past the limit wait for their turn, in order', () => {
  const { gate, seen, enter, leave, close } = rig();
  for (const name of ['a', 'b', 'c', 'd']) enter(name);
  expect(seen).toEqual(['a starts', 'b starts']);
  leave('b');
  expect(seen.at(-1)).toBe('c starts');
  leave('a');
  expect(seen.at(-1)).toBe('d starts');
  leave('a'); // again: nobody else's place
  expect([gate.running, gate.waiting]).toEqual([2, 0]);
  leave('c');
  leave('d');
  expect([gate.running, gate.waiting]).toEqual([0, 0]);
  close();
});

test('who gives up while waiting is not started', () => {
  const { gate, seen, enter, leave, close } = rig();
  for (const name of ['a', 'b', 'c', 'd']) enter(name);
  leave('c');
  leave('a');
  expect(seen).toEqual(['a starts', 'b starts', 'd starts']);
  expect([gate.running, gate.waiting]).toEqual([2, 0]);
  close();
});

test('handshakes that never end give their places to those who wait, the oldest first', () => {
  const { seen, enter, pass, close } = rig();
  enter('a');
  pass(1000);
  enter('b');
  pass(1000);
  enter('c');
  expect(seen).toEqual(['a starts', 'b starts']);
  pass(slowHandshakeMs - 2000 + 300);
  expect(seen).toEqual(['a starts', 'b starts', 'a is cut', 'c starts']);
  enter('d');
  pass(1100);
  expect(seen.slice(4)).toEqual(['b is cut', 'd starts']);
  close();
});

test('a slow handshake goes on while nobody waits', () => {
  const { gate, seen, enter, pass, close } = rig();
  enter('a');
  enter('b');
  pass(slowHandshakeMs * 10);
  expect(seen).toEqual(['a starts', 'b starts']);
  enter('c');
  expect(seen).toEqual(['a starts', 'b starts', 'a is cut', 'c starts']);
  expect(gate.running).toBe(2);
  close();
});
