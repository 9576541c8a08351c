/** Hosts that links of a message lead to, from its texts and its HTML, in bounded time and number. */
import { isIP } from 'node:net';
import { getDomain } from 'tldts';
import type { Message } from '../api.ts';

/** Of each part; links that come later are seldom what a reader sees first. */
const textBytesMax = 256 * 1024;
const partsMax = 20;
const hostsMax = 1000;

/** Host names and addresses, lower case, each once, in the order they stand. */
export async function linkedHosts(message: Message): Promise<readonly string[]> {
  const hosts = new Set<string>();
  const texts = (await message.parts())
    .filter((part) => /^text\/(?:plain|html)$/.test(part.type))
    .slice(0, partsMax);
  for (const part of texts) {
    for (const host of hostsOf(await part.text(textBytesMax))) {
      hosts.add(host);
      if (hosts.size >= hostsMax) return [...hosts];
    }
  }
  return [...hosts];
}

/** Takes `https://user@host:port/`, `//host/` in attributes, and `www.host` in texts; entities of HTML are read. */
export function* hostsOf(text: string): Generator<string> {
  const plain = text.replace(
    /&#(?:x([0-9a-f]{1,6})|(\d{1,7}));?/gi,
    (_whole, hex?: string, decimal?: string) => {
      const code = hex === undefined ? Number(decimal) : Number.parseInt(hex, 16);
      return code > 0x1f && code < 0x11_0000 ? String.fromCodePoint(code) : ' ';
    },
  );
  for (const [, authority = ''] of plain.matchAll(
    /(?:https?:|ftp:|["'=])[\\/]{2}([^\s"'<>\\/?#]{3,300})/gi,
  )) {
    const host = hostOf(authority.slice(authority.lastIndexOf('@') + 1));
    if (host !== undefined) yield host;
  }
  for (const [whole] of plain.matchAll(/\bwww\.[a-z0-9.-]{3,250}/gi)) {
    const host = hostOf(whole);
    if (host !== undefined) yield host;
  }
}

/** As a browser reads it: `0x7f.1`, IDN and percent signs too. */
function hostOf(authority: string): string | undefined {
  try {
    const { hostname } = new URL(`http://${authority}/`);
    const host = hostname.replace(/\.$/, '');
    return host.includes('.') || host.startsWith('[') ? host : undefined;
  } catch {
    return undefined;
  }
}

/** `shop.example.co.uk` → `example.co.uk`; an address is itself, an IPv4 address reversed as lists want it (RFC 5782 2.1). */
export function registrableDomain(host: string): string {
  if (isIP(host) === 4) return host.split('.').reverse().join('.');
  return getDomain(host, { allowPrivateDomains: true }) ?? host;
}
