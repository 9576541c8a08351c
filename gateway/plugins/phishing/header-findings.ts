/** What From, Reply-To and their like tell about a message that pretends. */

import { domainToUnicode } from 'node:url';
import type { MessageHeader } from '../api.ts';
import { imitated, type Known, mixesScripts } from './lookalike.ts';

export interface Finding {
  readonly weight: number;
  readonly what: string;
}

export interface Watched {
  /** Lower case. */
  readonly ownDomains: readonly string[];
  /** Our own and those others like to imitate. */
  readonly domains: readonly string[];
  readonly known: readonly Known[];
  /** Of people, lower case. */
  readonly names: readonly string[];
}

const wordsOfLikeness = {
  shape: 'looks like',
  slip: 'is one letter from',
  part: 'carries the name of',
} as const;

export function headerFindings(header: MessageHeader, watched: Watched): Finding[] {
  const found: Finding[] = [];
  const froms = header.header('From');
  if (froms.length > 1) found.push({ weight: 3, what: 'more than one From field' });
  const from = readAddress(froms[0] ?? '');
  if (from === undefined) return found;
  found.push(...domainFindings(from.domain, watched, 'sender'));
  const isOurs = isOf(from.domain, watched.ownDomains);
  if (!isOurs && watched.names.some((name) => from.name.includes(name))) {
    found.push({ weight: 3, what: `"${from.name.slice(0, 60)}" writes from ${from.domain}` });
  }
  const inName = /[\w.+-]{1,64}@([a-z0-9.-]{3,250})/i.exec(from.name)?.[1]?.toLowerCase();
  if (inName !== undefined && inName !== from.domain) {
    found.push({
      weight: 2,
      what: `the name shows an address at ${inName}, the mail is from ${from.domain}`,
    });
  }
  const replyTo = readAddress(header.header('Reply-To')[0] ?? '');
  if (replyTo !== undefined && replyTo.domain !== from.domain) {
    found.push(...domainFindings(replyTo.domain, watched, 'reply address'));
    if (isOurs) found.push({ weight: 2, what: `answers to ${from.domain} would go to ${replyTo.domain}` });
  }
  return found;
}

/** What is wrong with a domain by its looks. */
export function domainFindings(domain: string, watched: Watched, where: string): Finding[] {
  if (isOf(domain, watched.domains)) return [];
  const found: Finding[] = [];
  const seen = domainToUnicode(domain) || domain;
  if (seen.split('.').some(mixesScripts)) found.push({ weight: 3, what: `${where} ${domain} mixes scripts` });
  const imitation = imitated(domain, watched.known);
  if (imitation !== undefined) {
    const { how, known } = imitation;
    found.push({
      weight: how === 'part' ? 1 : 4,
      what: `${where} ${domain} ${wordsOfLikeness[how]} ${known}`,
    });
  }
  return found;
}

export function isOf(domain: string, list: readonly string[]): boolean {
  return list.some((known) => domain === known || domain.endsWith(`.${known}`));
}

/** Display name and domain of the first address; encoded words are read. */
function readAddress(value: string): { readonly name: string; readonly domain: string } | undefined {
  const text = value.slice(0, 2000);
  const open = text.lastIndexOf('<');
  const address = open < 0 ? text.trim() : text.slice(open + 1, text.indexOf('>', open) >>> 0);
  const domain = /@([^\s@<>,;]{3,255})$/.exec(address.trim())?.[1]?.toLowerCase().replace(/\.$/, '');
  if (domain === undefined) return undefined;
  const name = open < 0 ? '' : decodeWords(text.slice(0, open)).replaceAll('"', '').trim();
  return { name: name.normalize('NFKC').toLowerCase(), domain };
}

/** RFC 2047 words, as far as a name needs it. */
function decodeWords(text: string): string {
  return text.replace(
    /=\?([\w-]{1,40})\?([bq])\?([^?\s]{0,200})\?=\s*/gi,
    (whole, charset: string, kind: string, data: string) => {
      const bytes =
        kind.toLowerCase() === 'b'
          ? Buffer.from(data, 'base64')
          : Buffer.from(
              data
                .replaceAll('_', ' ')
                .replace(/=([0-9a-f]{2})/gi, (_all, hex: string) =>
                  String.fromCharCode(Number.parseInt(hex, 16)),
                ),
              'latin1',
            );
      try {
        return new TextDecoder(charset).decode(bytes);
      } catch {
        return whole;
      }
    },
  );
}
