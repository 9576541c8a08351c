/**
 * Bytes to text by the charset a message names. The names come from strangers:
 * they are bounded, looked up with the platform's own decoders, and what is
 * unknown is read as UTF-8 or else as windows-1252, never refused.
 */

type Decoder = InstanceType<typeof TextDecoder>;
const decoders = new Map<string, Decoder | undefined>();
const decodersMax = 100;

function decoderOf(charset: string): Decoder | undefined {
  const label = charset.trim().toLowerCase();
  const known = decoders.get(label);
  if (known !== undefined || decoders.has(label)) return known;
  if (label.length > 40) return undefined;
  let decoder: Decoder | undefined;
  try {
    decoder = new TextDecoder(aliases[label] ?? label);
  } catch {
    // Not a charset this platform knows.
  }
  if (decoders.size >= decodersMax) decoders.clear();
  decoders.set(label, decoder);
  return decoder;
}

/** Names seen in mail that the encoding standard has no label for. */
const aliases: Record<string, string> = {
  'utf-7': 'x-none',
  utf7: 'x-none',
  'iso-8859-8-i': 'iso-8859-8',
  cp932: 'shift_jis',
  cp936: 'gbk',
  cp949: 'euc-kr',
  cp950: 'big5',
  'ansi_x3.4-1968': 'utf-8',
  ascii: 'utf-8',
  'us-ascii': 'utf-8',
  'utf-8mb4': 'utf-8',
};

/** Does this platform know the charset? SEARCH answers BADCHARSET otherwise. */
export function knowsCharset(charset: string): boolean {
  return decoderOf(charset) !== undefined;
}

const strict = new TextDecoder('utf-8', { fatal: true });
const western = new TextDecoder('windows-1252');

/** Text of the bytes; never throws. `us-ascii` with 8-bit bytes is read as UTF-8, or else as windows-1252. */
export function decodeCharset(bytes: Buffer, charset: string): string {
  const label = charset.trim().toLowerCase();
  const guess = label === '' || label === 'us-ascii' || label === 'ascii' || label === 'utf-8';
  const decoder = guess ? undefined : decoderOf(label);
  if (decoder !== undefined) return decoder.decode(bytes);
  try {
    return strict.decode(bytes);
  } catch {
    return label === 'utf-8' ? bytes.toString('utf8') : western.decode(bytes);
  }
}

/**
 * A decoder for text that comes in pieces: characters may be cut between them. Unknown charsets are read as
 * UTF-8 with replacement characters: what came first cannot be taken back.
 */
export function streamDecoder(charset: string): (bytes: Buffer, last: boolean) => string {
  const known = decoderOf(charset);
  const label = charset.trim() === '' || known === undefined ? 'utf-8' : known.encoding;
  const decoder = new TextDecoder(label);
  return (bytes, last) => decoder.decode(bytes, { stream: !last });
}
