/** The base subject of a message (RFC 5256 2.1): what a thread has in common when `Re:` and `[list]` are off. */

export interface BaseSubject {
  /** Not folded: compare by `casemap`. */
  readonly base: string;
  /** Something said "reply" or "forward". */
  readonly isReply: boolean;
}

/** Longer subjects are cut: each turn of the loop looks at the whole text. */
const subjectCharsMax = 1000;

/** @param subject  Decoded (RFC 2047). */
export function baseSubject(subject: string): BaseSubject {
  let text = subject
    .slice(0, subjectCharsMax)
    .replace(/[\t\r\n ]+/g, ' ')
    .trimEnd();
  let isReply = false;
  for (;;) {
    const before = text;
    // (2) trailers
    while (/\(fwd\)$/i.test(text)) {
      text = text.slice(0, -5).trimEnd();
      isReply = true;
    }
    for (;;) {
      // (3) leaders: `[blob] re [blob]:`
      text = text.trimStart();
      const leader = leaderLength(text);
      if (leader > 0) {
        text = text.slice(leader);
        isReply = true;
        continue;
      }
      // (4) a blob, when something is left behind it
      const blob = blobLength(text, 0);
      if (blob === 0 || blob >= text.length) break;
      text = text.slice(blob);
    }
    // (6) `[fwd: ...]`
    if (/^\[fwd:/i.test(text) && text.endsWith(']')) {
      text = text.slice(5, -1).trim();
      isReply = true;
    }
    if (text === before) return { base: text, isReply };
  }
}

/** `*blob ("re" / "fw" / "fwd") [blob] ":"`; 0: none. */
function leaderLength(text: string): number {
  let at = 0;
  for (let blob = blobLength(text, at); blob > 0; blob = blobLength(text, at)) at += blob;
  const word = /^(?:re|fwd|fw) */i.exec(text.slice(at, at + 20));
  if (word === null) return 0;
  at += word[0].length;
  while (text[at] === ' ') at++;
  at += blobLength(text, at);
  return text[at] === ':' ? at + 1 : 0;
}

/** `[...]` without brackets inside, and the space behind it; 0: none. */
function blobLength(text: string, at: number): number {
  if (text[at] !== '[') return 0;
  const close = text.indexOf(']', at);
  const open = text.indexOf('[', at + 1);
  if (close < 0 || (open >= 0 && open < close)) return 0;
  let end = close + 1;
  while (text[end] === ' ') end++;
  return end - at;
}
