/**
 * Modified UTF-7 (RFC 3501 5.1.3): how IMAP4rev1 writes mailbox names on the
 * wire and Maildir++ writes them as directory names. Each text has exactly one
 * spelling here; any other spelling is refused, because two spellings of one
 * name are two names for one mailbox (CASES 31).
 */

/**
 * Text → modified UTF-7.
 *
 * @param alsoEncoded  Printable ASCII characters that are written in base64 too: Maildir++ needs this
 *   for `.`, its level separator.
 */
export function encodeModifiedUtf7(text: string, alsoEncoded = ''): string {
  let out = '';
  let shifted = '';
  const flush = (): void => {
    if (shifted === '') return;
    out += `&${Buffer.from(shifted, 'utf16le').swap16().toString('base64').replaceAll('/', ',').replace(/=+$/, '')}-`;
    shifted = '';
  };
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    const char = text[at]!;
    if (unit < 0x20 || unit > 0x7e || alsoEncoded.includes(char)) {
      shifted += char;
      continue;
    }
    flush();
    out += char === '&' ? '&-' : char;
  }
  flush();
  return out;
}

/**
 * Modified UTF-7 → text. `undefined` when it is not the one spelling that
 * `encodeModifiedUtf7` gives: bytes outside ASCII, an unclosed shift, printable
 * characters in base64, padding bits, adjacent shifts, lone surrogates.
 */
export function decodeModifiedUtf7(encoded: string, alsoEncoded = ''): string | undefined {
  let text = '';
  for (let at = 0; at < encoded.length; ) {
    const amp = encoded.indexOf('&', at);
    if (amp < 0) {
      text += encoded.slice(at);
      break;
    }
    const end = encoded.indexOf('-', amp);
    if (end < 0) return undefined;
    text += encoded.slice(at, amp);
    const base64 = encoded.slice(amp + 1, end).replaceAll(',', '/');
    if (base64 === '') text += '&';
    else {
      const bytes = Buffer.from(base64, 'base64');
      if (bytes.length === 0 || bytes.length % 2 !== 0) return undefined;
      text += bytes.swap16().toString('utf16le');
    }
    at = end + 1;
  }
  return text.isWellFormed() && encodeModifiedUtf7(text, alsoEncoded) === encoded ? text : undefined;
}
