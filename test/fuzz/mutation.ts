/** Makes hostile inputs out of seeds: flips, cuts, repeats, splices and interesting bytes. */
import type { RandomSource } from '../support/random.ts';

export const inputBytesMax = 65_536;

const interesting = [
  '\r\n',
  '\n',
  '\r',
  '\0',
  '.',
  '\r\n.\r\n',
  '"',
  '\\',
  '(',
  ')',
  '{',
  '}',
  '{9}',
  '<',
  '>',
  '@',
  ',',
  ';',
  ':',
  '&',
  '=',
  '=?',
  '?=',
  '%',
  '*',
  '~',
  '-',
  '--',
  '\x80',
  '\xff',
  '\xc3\xa9',
  '4294967296',
  '99999999999999999999',
  '-1',
  ' ',
].map((piece) => Buffer.from(piece, 'latin1'));

export function mutated(seeds: readonly Buffer[], random: RandomSource): Buffer {
  let input = seeds[random.between(0, seeds.length - 1)]!;
  for (let changes = random.between(1, 8); changes > 0; changes--) {
    const at = random.between(0, input.length);
    const end = Math.min(input.length, at + random.between(1, 24));
    const piece = interesting[random.between(0, interesting.length - 1)]!;
    switch (random.between(0, 6)) {
      case 0:
        input = Buffer.concat([input.subarray(0, at), piece, input.subarray(at)]);
        break;
      case 1:
        input = Buffer.concat([input.subarray(0, at), piece, input.subarray(end)]);
        break;
      case 2:
        input = Buffer.concat([input.subarray(0, at), input.subarray(end)]);
        break;
      case 3: {
        // Long runs find what is not linear.
        const run = input.subarray(at, end).length > 0 ? input.subarray(at, end) : piece;
        const times = random.between(0, 20) === 0 ? random.between(100, 4000) : random.between(1, 20);
        input = Buffer.concat([
          input.subarray(0, at),
          ...new Array<Buffer>(times).fill(run),
          input.subarray(at),
        ]);
        break;
      }
      case 4: {
        const other = seeds[random.between(0, seeds.length - 1)]!;
        input = Buffer.concat([input.subarray(0, at), other.subarray(random.between(0, other.length))]);
        break;
      }
      case 5: {
        const copy = Buffer.from(input);
        if (copy.length > 0) copy[random.between(0, copy.length - 1)] = random.between(0, 255);
        input = copy;
        break;
      }
      default:
        input = input.subarray(0, at);
    }
    if (input.length > inputBytesMax) input = input.subarray(0, inputBytesMax);
  }
  return input;
}
