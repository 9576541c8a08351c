/** The first words of a message, as plain text (RFC 8621 4.1.4 `preview`). */

/** RFC 8621 allows 256 characters. */
const previewCharsMax = 256;

export function previewOf(text: string, isHtml: boolean): string {
  const plain = isHtml ? textOfHtml(text) : text;
  const words = plain
    .replace(/[\s\0-\x1f\x7f]+/g, ' ')
    .trim()
    .slice(0, previewCharsMax);
  // No half of a surrogate pair at the cut.
  return words.isWellFormed() ? words : words.slice(0, -1).toWellFormed();
}

const entities: Readonly<Record<string, string>> = {
  amp: '&',
  lt: '<',
  gt: '>',
  quot: '"',
  apos: "'",
  nbsp: ' ',
};

/** Words of a piece of HTML: tags go, styles and scripts with what is in them. For reading, never for display as HTML. */
function textOfHtml(html: string): string {
  let out = '';
  let at = 0;
  while (at < html.length && out.length < previewCharsMax * 8) {
    const open = html.indexOf('<', at);
    if (open < 0) {
      out += html.slice(at);
      break;
    }
    out += `${html.slice(at, open)} `;
    const hidden = /^<(style|script|head|title)\b/i.exec(html.slice(open, open + 10));
    const from =
      hidden === null ? open : html.toLowerCase().indexOf(`</${(hidden[1] as string).toLowerCase()}`, open);
    const close = from < 0 ? -1 : html.indexOf('>', from);
    if (close < 0) break;
    at = close + 1;
  }
  return out.replace(/&(#\d{1,7}|#x[0-9a-f]{1,6}|[a-z]{2,6});/gi, (whole, name: string) => {
    if (!name.startsWith('#')) return entities[name.toLowerCase()] ?? whole;
    const code = /^#x/i.test(name) ? Number.parseInt(name.slice(2), 16) : Number(name.slice(1));
    return code > 0 && code <= 0x10ffff && !(code >= 0xd800 && code <= 0xdfff)
      ? String.fromCodePoint(code)
      : ' ';
  });
}
