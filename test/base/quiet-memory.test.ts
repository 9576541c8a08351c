import { expect, test } from '@jest/globals';
import { isWorthCollecting } from '../../base/quiet-memory.ts';

const MiB = 1024 * 1024;

const rows = [
  { name: 'at rest after a burst', busy: 0.01, heap: 100, after: 30, worth: true },
  { name: 'the first burst', busy: 0.01, heap: 60, after: 0, worth: true },
  { name: 'still busy', busy: 0.3, heap: 100, after: 30, worth: false },
  { name: 'hardly grown', busy: 0.01, heap: 37, after: 30, worth: false },
  { name: 'a large heap that has grown by little of it', busy: 0.01, heap: 220, after: 200, worth: false },
  { name: 'a heap whose collection would be felt', busy: 0.01, heap: 300, after: 30, worth: false },
];

test.each(rows)('$name: collected is $worth', ({ busy, heap, after, worth }) => {
  const facts = { busyShare: busy, heapBytes: heap * MiB, heapBytesAfterLast: after * MiB };
  expect(isWorthCollecting(facts)).toBe(worth);
});
