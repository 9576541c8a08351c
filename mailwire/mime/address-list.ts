/**
 * Address lists of header fields (RFC 5322 3.4) as ENVELOPE and JMAP need them:
 * one pass, no recursion, a bounded number of addresses; groups come out as
 * markers, so nested ones cost nothing (CASES 50).
 */

export type AddressEntry =
  | {
      readonly kind: 'mailbox';
      /** Display name, not yet decoded; one char per byte. `undefined`: none. */
      readonly name: string | undefined;
      /** Source route, obsolete: `@a,@b`. */
      readonly route: string | undefined;
      readonly local: string;
      /** `''` when the address has none. */
      readonly domain: string;
    }
  | { readonly kind: 'group'; readonly name: string }
  | { readonly kind: 'group-end' };

export const addressesMax = 2000;
const wordCharsMax = 1000;

/** @param text  An unfolded field value, one char per byte. */
export function parseAddressList(text: string): AddressEntry[] {
  return new AddressScanner(text).list();
}

class AddressScanner {
  readonly #text: string;
  #at = 0;
  /** Text of the last comment: the name in `ann@example.org (Ann)`. */
  #comment: string | undefined;

  constructor(text: string) {
    this.#text = text;
  }

  list(): AddressEntry[] {
    const entries: AddressEntry[] = [];
    let inGroup = false;
    while (entries.length < addressesMax) {
      this.#comment = undefined;
      const words = this.#words('<@,:;');
      const stop = this.#text[this.#at];
      if (stop === undefined) {
        this.#addBare(entries, words);
        break;
      }
      if (stop === ':') {
        this.#at++;
        if (!inGroup) entries.push({ kind: 'group', name: words.join(' ') });
        inGroup = true;
      } else if (stop === ';') {
        this.#addBare(entries, words);
        this.#at++;
        if (inGroup) entries.push({ kind: 'group-end' });
        inGroup = false;
      } else if (stop === ',') {
        this.#addBare(entries, words);
        this.#at++;
      } else if (stop === '<') {
        this.#at++;
        entries.push(this.#angle(words.join(' ') || undefined));
        this.#skipTo(',;');
      } else {
        this.#at++;
        const domain = this.#words('<@,:;').join('');
        entries.push({
          kind: 'mailbox',
          name: this.#comment,
          route: undefined,
          local: words.join(''),
          domain,
        });
        this.#skipTo(',;');
      }
    }
    if (inGroup) entries.push({ kind: 'group-end' });
    return entries;
  }

  /** `<@a,@b:ann@example.org>`, after the `<`. */
  #angle(name: string | undefined): AddressEntry {
    let route: string | undefined;
    let local = this.#words('@>,:').join('');
    if (local === '' && this.#text[this.#at] === '@') {
      const from = this.#at;
      this.#words('>:');
      if (this.#text[this.#at] === ':') {
        route = this.#text.slice(from, Math.min(this.#at, from + wordCharsMax)).replace(/\s+/g, '');
        this.#at++;
        local = this.#words('@>').join('');
      } else {
        this.#at = from;
      }
    }
    let domain = '';
    if (this.#text[this.#at] === '@') {
      this.#at++;
      domain = this.#words('>').join('');
    }
    if (this.#text[this.#at] === '>') this.#at++;
    this.#words(',;<@:');
    return { kind: 'mailbox', name: name ?? this.#comment, route, local, domain };
  }

  #addBare(entries: AddressEntry[], words: string[]): void {
    if (words.length === 0) return;
    entries.push({
      kind: 'mailbox',
      name: this.#comment,
      route: undefined,
      local: words.join(' '),
      domain: '',
    });
  }

  #skipTo(stops: string): void {
    while (this.#at < this.#text.length && !stops.includes(this.#text[this.#at]!)) {
      this.#at++;
      this.#words(`${stops}<@:`);
    }
  }

  /** Words up to one of `stops`: atoms with their dots, quoted strings without their quotes, domain literals. */
  #words(stops: string): string[] {
    const text = this.#text;
    const words: string[] = [];
    while (this.#at < text.length) {
      const char = text[this.#at]!;
      if (stops.includes(char)) break;
      if (char <= ' ') {
        this.#at++;
      } else if (char === '(') {
        this.#comment = this.#takeComment() || undefined;
      } else if (char === '"') {
        words.push(this.#takeQuoted());
      } else if (char === '[') {
        const end = text.indexOf(']', this.#at);
        const next = end < 0 ? text.length : end + 1;
        words.push(text.slice(this.#at, Math.min(next, this.#at + wordCharsMax)));
        this.#at = next;
      } else {
        const from = this.#at++;
        while (this.#at < text.length && text[this.#at]! > ' ' && !'()<>@,;:"['.includes(text[this.#at]!)) {
          this.#at++;
        }
        words.push(text.slice(from, Math.min(this.#at, from + wordCharsMax)));
      }
    }
    return words;
  }

  #takeQuoted(): string {
    const text = this.#text;
    let out = '';
    let from = ++this.#at;
    while (this.#at < text.length && text[this.#at] !== '"') {
      if (text[this.#at] === '\\') {
        out += text.slice(from, this.#at);
        from = ++this.#at;
      }
      this.#at++;
    }
    out += text.slice(from, this.#at++);
    return out.slice(0, wordCharsMax);
  }

  #takeComment(): string {
    const text = this.#text;
    const from = this.#at + 1;
    let depth = 0;
    while (this.#at < text.length) {
      const char = text[this.#at++];
      if (char === '\\') this.#at++;
      else if (char === '(') depth++;
      else if (char === ')' && --depth === 0)
        return text.slice(from, Math.min(this.#at - 1, from + wordCharsMax));
    }
    return text.slice(from, from + wordCharsMax);
  }
}
