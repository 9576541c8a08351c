import { expect, test } from '@jest/globals';
import { descriptorAdvice, hardDescriptorLimit, readHardLimit } from '../../base/descriptor-limit.ts';

const rows = [
  { name: 'room for all', hard: 20_000, connections: 9000, advice: undefined },
  { name: 'just enough', hard: 9500, connections: 9000, advice: undefined },
  { name: 'too low', hard: 1024, connections: 9000, advice: /only 1024 .* needs 9500; raise it/ },
  { name: 'no limit', hard: Number.POSITIVE_INFINITY, connections: 9000, advice: undefined },
];

test.each(rows)('the limit of open files: $name', ({ hard, connections, advice }) => {
  const said = descriptorAdvice(hard, connections);
  if (advice === undefined) expect(said).toBeUndefined();
  else expect(said).toMatch(advice);
});

test('the hard limit is read from what the system says', async () => {
  const line =
    'Limit                     Soft Limit           Hard Limit           Units     \nMax open files            1024                 ';
  expect(readHardLimit(`${line}524288               files     \n`)).toBe(524_288);
  expect(readHardLimit(`${line}unlimited            files     \n`)).toBe(Number.POSITIVE_INFINITY);
  expect(readHardLimit('')).toBe(Number.POSITIVE_INFINITY);
  expect(await hardDescriptorLimit()).toBeGreaterThan(0);
});
