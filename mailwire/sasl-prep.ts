/**
 * SASLprep (RFC 4013): the one spelling of a password both ends of a SCRAM
 * exchange must hash, so that an accent typed on another keyboard still fits.
 */

/** Longest text that is prepared, in characters: normalising costs more than reading. */
const charsMax = 1024;

/** RFC 3454 B.1: commonly mapped to nothing. */
const nothing = /\u034f|[\u180b-\u180d]|[\ufe00-\ufe0f]|[\u00ad\u1806\u200b-\u200d\u2060\ufeff]/gu;
/** RFC 3454 C.1.2: spaces that are not U+0020. */
const spaces = /[\u00a0\u1680\u2000-\u200b\u202f\u205f\u3000]/gu;
/** RFC 3454 C.2 to C.9: controls, private use, what is no character, what changes how others look. */
const prohibited =
  /\u0340|\u0341|[\p{Cc}\p{Co}\p{Cs}\p{Noncharacter_Code_Point}\u06dd\u070f\u180e\u200c-\u200f\u2028-\u202e\u2060-\u2063\u206a-\u206f\u2ff0-\u2ffb\ufeff\ufff9-\ufffd\u{1d173}-\u{1d17a}\u{e0001}\u{e0020}-\u{e007f}]/u;
const rightToLeft = /[\p{Script=Hebrew}\p{Script=Arabic}\p{Script=Syriac}\p{Script=Thaana}]/u;
const leftToRight =
  /[\p{Script=Latin}\p{Script=Greek}\p{Script=Cyrillic}\p{Script=Han}\p{Script=Devanagari}]/u;

/** @returns `undefined` for a text that can be no password here: empty, overlong, or with prohibited characters. */
export function saslPrep(text: string): string | undefined {
  if (text.length === 0 || text.length > charsMax) return undefined;
  // Most are ASCII, which is its own preparation.
  if (/^[\x20-\x7e]*$/.test(text)) return text;
  const prepared = text.replace(spaces, ' ').replace(nothing, '').normalize('NFKC');
  if (prepared === '' || prohibited.test(prepared)) return undefined;
  // RFC 3454 6: of two directions, one.
  if (rightToLeft.test(prepared)) {
    const characters = [...prepared];
    if (leftToRight.test(prepared)) return undefined;
    if (!rightToLeft.test(characters[0]!) || !rightToLeft.test(characters.at(-1)!)) return undefined;
  }
  return prepared;
}
