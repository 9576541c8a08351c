import { describe, expect, test } from '@jest/globals';
import { Fault } from '../../base/fault.ts';
import { ImapCommandReader, type ImapPiece } from '../../mailwire/imap-command-reader.ts';

const limits = { lineBytesMax: 8192, literalBytesMax: 4096, commandBytesMax: 16_384 };

/** Pieces as text: literals in angle brackets. */
function shown(pieces: readonly ImapPiece[]): string {
  return pieces
    .map((piece) =>
      Buffer.isBuffer(piece) ? piece.toString('latin1') : `<${piece.literal.toString('latin1')}>`,
    )
    .join('');
}

/** Feeds `chunks`, accepts every literal, and lists what came out. */
function read(chunks: readonly (string | Buffer)[], accept = true): string[] {
  const reader = new ImapCommandReader(limits);
  const out: string[] = [];
  for (const chunk of chunks) {
    reader.push(Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk, 'latin1'));
    try {
      for (let reading = reader.next(); reading.kind !== 'more'; reading = reader.next()) {
        if (reading.kind === 'command') {
          out.push(shown(reading.pieces));
        } else if (accept && !reading.tooBig) {
          out.push(reading.sync ? '+' : '(+)');
          reader.acceptLiteral();
        } else {
          out.push(`refused ${reading.size}`);
          reader.refuseLiteral();
        }
      }
    } catch (error) {
      out.push(`${(error as Fault).code}${reader.mustClose ? ' close' : ''} ${reader.tag}`);
      if (reader.mustClose) break;
    }
  }
  return out;
}

describe('framing of IMAP commands', () => {
  const rows: { says: string; chunks: string[]; gives: string[]; accept?: boolean }[] = [
    { says: 'two commands in one chunk', chunks: ['a NOOP\r\nb NOOP\r\n'], gives: ['a NOOP', 'b NOOP'] },
    { says: 'a command in pieces', chunks: ['a N', 'OOP\r', '\n'], gives: ['a NOOP'] },
    {
      says: 'a synchronising literal',
      chunks: ['a LOGIN {3}\r\n', 'ann pw\r\n'],
      gives: ['+', 'a LOGIN <ann> pw'],
    },
    {
      says: 'LITERAL+',
      chunks: ['a LOGIN {3+}\r\nann {2+}\r\npw\r\n'],
      gives: ['(+)', '(+)', 'a LOGIN <ann> <pw>'],
    },
    { says: 'an empty literal', chunks: ['a X {0+}\r\n\r\n'], gives: ['(+)', 'a X <>'] },
    { says: 'a binary literal', chunks: ['a X ~{2+}\r\n\0\n\r\n'], gives: ['(+)', 'a X <\0\n>'] },
    { says: 'braces inside a quoted string', chunks: ['a X "b{3}\r\n'], gives: ['a X "b{3}'] },
    {
      says: 'an escaped quote before a literal',
      chunks: ['a X "\\"" {1+}\r\nz\r\n'],
      gives: ['(+)', 'a X "\\"" <z>'],
    },
    { says: 'a bare LF', chunks: ['a NOOP\nb NOOP\r\n'], gives: ['bare-newline close a'] },
    { says: 'an LF alone', chunks: ['\n'], gives: ['bare-newline close undefined'] },
    { says: 'a bare CR', chunks: ['a NO\rOP\r\n'], gives: ['bare-newline close a'] },
    { says: 'CR CR LF', chunks: ['a NOOP\r\r\n'], gives: ['bare-newline close a'] },
    { says: 'a NUL', chunks: ['a NO\0OP\r\n', 'b NOOP\r\n'], gives: ['nul-byte a', 'b NOOP'] },
    { says: 'a quoted string with NUL', chunks: ['a LOGIN "a\0" b\r\n'], gives: ['nul-byte a'] },
    {
      says: 'a size over 32 bits',
      chunks: ['a LOGIN {4294967296}\r\n', 'b NOOP\r\n'],
      gives: ['literal-too-big a', 'b NOOP'],
    },
    { says: 'an absurd size', chunks: ['a LOGIN {99999999999999}\r\n'], gives: ['literal-too-big a'] },
    {
      says: 'an absurd size on its way',
      chunks: ['a LOGIN {99999999999999+}\r\n'],
      gives: ['literal-too-big close a'],
    },
    {
      says: 'a size of forty digits',
      chunks: [`a LOGIN {${'9'.repeat(40)}}\r\n`, 'b NOOP\r\n'],
      gives: ['literal-too-big a', 'b NOOP'],
    },
    {
      says: 'a negative size',
      chunks: ['a LOGIN {-1}\r\n', 'b NOOP\r\n'],
      gives: ['a LOGIN {-1}', 'b NOOP'],
    },
    { says: 'a size that is no number', chunks: ['a LOGIN {0x10}\r\n'], gives: ['a LOGIN {0x10}'] },
    {
      says: 'a literal of 100 MB that is refused',
      chunks: ['a LOGIN {100000000}\r\n', 'b NOOP\r\n'],
      gives: ['refused 100000000', 'b NOOP'],
    },
    {
      says: 'a refused LITERAL+ is skipped whole',
      chunks: ['a X {9000+}\r\n', 'z'.repeat(9000), ' {2+}\r\nyy {5}\r\n', 'b NOOP\r\n'],
      gives: ['refused 9000', 'b NOOP'],
    },
    {
      says: 'a command that grows by literals',
      chunks: Array.from({ length: 6 }, () => `{4000+}\r\n${'z'.repeat(4000)}`),
      gives: ['(+)', '(+)', '(+)', 'refused 4000'],
    },
    {
      says: 'ten thousand empty literals',
      chunks: ['a X ', '{0+}\r\n'.repeat(10_000)],
      gives: [...Array.from({ length: 124 }, () => '(+)'), 'command-too-big close a'],
    },
    { says: 'a line without end', chunks: ['a X', 'z'.repeat(10_000)], gives: ['line-too-long close a'] },
  ];
  test.each(rows)('$says', ({ chunks, gives }) => {
    expect(read(chunks)).toEqual(gives);
  });

  test('is the same whatever the chunks are', () => {
    const text = 'a LOGIN {3+}\r\nann {2+}\r\npw\r\nb SELECT "x{1}"\r\nc X ~{4+}\r\n\r\n\0\r \r\n';
    const whole = read([text]);
    expect(read([...text])).toEqual(whole);
    expect(read(text.match(/[\s\S]{1,3}/g)!)).toEqual(whole);
    expect(whole).toHaveLength(6);
  });

  test('allocates nothing for an announced literal that does not come', () => {
    const before = process.memoryUsage().arrayBuffers;
    const readers = Array.from({ length: 1000 }, () => {
      const reader = new ImapCommandReader({ ...limits, literalBytesMax: 2 ** 30, commandBytesMax: 2 ** 31 });
      reader.push(Buffer.from('a APPEND x {1000000000+}\r\nabc'));
      expect(reader.next().kind).toBe('literal');
      reader.acceptLiteral();
      expect(reader.next().kind).toBe('more');
      return reader;
    });
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 * 2 ** 20);
    expect(readers).toHaveLength(1000);
  });

  test('reads a long line byte by byte in linear time', () => {
    const reader = new ImapCommandReader({ ...limits, lineBytesMax: 300_000, commandBytesMax: 400_000 });
    const byte = Buffer.from('z');
    const startedAt = performance.now();
    for (let i = 0; i < 250_000; i++) {
      reader.push(byte);
      reader.next();
    }
    reader.push(Buffer.from('\r\n'));
    const reading = reader.next();
    expect(reading.kind === 'command' && shown(reading.pieces).length).toBe(250_000);
    expect(performance.now() - startedAt).toBeLessThan(3000);
  });

  test('hands a streamed literal on as it comes, and counts what was consumed', () => {
    const reader = new ImapCommandReader(limits);
    reader.push(Buffer.from('a APPEND x {10}\r\n'));
    const reading = reader.next();
    expect(reading).toMatchObject({ kind: 'literal', size: 10, sync: true });
    reader.streamLiteral();
    expect(reader.takeLiteral()).toBeUndefined();
    expect(reader.next()).toEqual({ kind: 'more' });
    reader.push(Buffer.from('01234'));
    expect(reader.takeLiteral()!.toString()).toBe('01234');
    expect(reader.literalLeft).toBe(5);
    reader.push(Buffer.from('56789\r\nb NOOP\r\n'));
    expect(reader.takeLiteral()!.toString()).toBe('56789');
    expect(reader.next().kind).toBe('command');
    expect(reader.consumedBytes).toBe(29);
    expect(reader.takeRest().toString()).toBe('b NOOP\r\n');
    expect(reader.bufferedBytes).toBe(0);
    expect(reader.next()).toEqual({ kind: 'more' });
  });

  test('throws away the rest of a streamed literal that is refused in the middle', () => {
    const reader = new ImapCommandReader(limits);
    reader.push(Buffer.from('a APPEND x {10}\r\n01'));
    reader.next();
    reader.streamLiteral();
    reader.takeLiteral();
    reader.refuseLiteral();
    reader.push(Buffer.from('23456789\r\nb NOOP\r\n'));
    const reading = reader.next();
    expect(reading.kind === 'command' && shown(reading.pieces)).toBe('b NOOP');
  });

  test('keeps an unread literal question from being overlooked', () => {
    const reader = new ImapCommandReader(limits);
    reader.push(Buffer.from('a LOGIN {3}\r\n'));
    reader.next();
    expect(() => reader.next()).toThrow(Fault);
  });
});
