import { describe, expect, test } from '@jest/globals';
import { isFault } from '../../base/fault.ts';
import { LineReader } from '../../mailwire/line-reader.ts';

/** Every line `chunks` give, then the code of the fault if there was one. */
function linesOf(chunks: readonly string[], lineBytesMax = 64): string[] {
  const reader = new LineReader(lineBytesMax);
  const seen: string[] = [];
  for (const chunk of chunks) {
    reader.push(Buffer.from(chunk, 'latin1'));
    try {
      for (let line = reader.takeText(); line !== undefined; line = reader.takeText()) seen.push(line);
    } catch (error) {
      return [...seen, isFault(error) ? `!${error.code}` : String(error)];
    }
  }
  return seen;
}

describe('lines', () => {
  const rows = [
    { name: 'one line', chunks: ['a NOOP\r\n'], gives: ['a NOOP'] },
    { name: 'two lines in one chunk', chunks: ['a\r\nb\r\n'], gives: ['a', 'b'] },
    { name: 'an empty line', chunks: ['\r\n'], gives: [''] },
    { name: 'a line end across chunks', chunks: ['a\r', '\nb', '\r\n'], gives: ['a', 'b'] },
    { name: 'high bytes kept', chunks: ['\xe4\xff\r\n'], gives: ['\xe4\xff'] },
    { name: 'a bare LF', chunks: ['ok\r\na\nb\r\n'], gives: ['ok', '!bare-newline'] },
    { name: 'a bare LF at the start', chunks: ['\n'], gives: ['!bare-newline'] },
    { name: 'a bare CR inside', chunks: ['a\rb\r\n'], gives: ['!bare-newline'] },
    { name: 'a bare CR before the line is whole', chunks: ['a\rb'], gives: ['!bare-newline'] },
    { name: 'two CRs', chunks: ['a\r', '\r\n'], gives: ['!bare-newline'] },
    { name: 'NUL', chunks: ['a\0b\r\n'], gives: ['!nul-byte'] },
    { name: 'NUL before the line is whole', chunks: ['a\0'], gives: ['!nul-byte'] },
    { name: 'the longest line allowed', chunks: [`${'x'.repeat(62)}\r\n`], gives: ['x'.repeat(62)] },
    { name: 'one byte too many', chunks: [`${'x'.repeat(63)}\r\n`], gives: ['!line-too-long'] },
    { name: 'a line without end', chunks: Array.from({ length: 100 }, () => 'x'), gives: ['!line-too-long'] },
  ];
  test.each(rows)('$name', ({ chunks, gives }) => expect(linesOf(chunks)).toEqual(gives));
  test.each(rows)('$name, one byte at a time', ({ chunks, gives }) =>
    expect(linesOf(chunks.join('').split(''))).toEqual(gives),
  );

  test('a fault stays: no line is taken after it', () => {
    const reader = new LineReader(64);
    reader.push(Buffer.from('a\nb\r\nc\r\n'));
    expect(() => reader.take()).toThrow();
    expect(() => reader.take()).toThrow();
    expect(reader.heldBytes).toBe(0);
  });

  test('the rest is handed over whole, and only once', () => {
    const reader = new LineReader(64);
    reader.push(Buffer.from('a\r\nliteral\0bytes\n'));
    expect(reader.takeText()).toBe('a');
    expect(reader.takeBytes(7).toString()).toBe('literal');
    expect(reader.takeRest().toString('latin1')).toBe('\0bytes\n');
    expect(reader.takeRest().length).toBe(0);
  });
});
