/**
 * Links whose text shows another site than they lead to, or that lead to an imitation.
 *
 * Newsletters send every link through a counter of clicks, so that a text which is
 * an address and leads elsewhere is weak evidence by itself; it is strong when the
 * site it shows is one of those that are watched, and none when a word of the text merely
 * looks like a name.
 */
import { getDomain } from 'tldts';
import type { Message } from '../api.ts';
import { domainFindings, type Finding, isOf, type Watched } from './header-findings.ts';

const htmlBytesMax = 256 * 1024;
const partsMax = 5;
const linksMax = 300;
const findingsMax = 5;
const tagCharsMax = 4000;
const shownCharsMax = 500;

export async function linkFindings(message: Message, watched: Watched): Promise<Finding[]> {
  const found: Finding[] = [];
  let mismatch: Finding = { weight: 0, what: '' };
  const pages = (await message.parts()).filter(({ type }) => type === 'text/html').slice(0, partsMax);
  for (const part of pages) {
    const judged = new Set<string>();
    for (const { target, shown } of linksOf(await part.text(htmlBytesMax))) {
      if (shown !== undefined && getDomain(shown) !== getDomain(target)) {
        const weight = isOf(shown, watched.domains) ? 4 : 1;
        // Ten links through one counter are one finding.
        if (weight > mismatch.weight)
          mismatch = { weight, what: `a link shows ${shown} and leads to ${target}` };
      }
      if (!judged.has(target)) found.push(...domainFindings(target, watched, 'link'));
      judged.add(target);
      if (found.length >= findingsMax) break;
    }
  }
  return mismatch.weight > 0 ? [mismatch, ...found] : found;
}

/**
 * Host a link leads to, and the host its text shows, if it shows one. Every byte is looked at a bounded number of
 * times, whatever stands there.
 */
export function* linksOf(html: string): Generator<{ target: string; shown: string | undefined }> {
  const lower = html.toLowerCase();
  let end = -1;
  let count = 0;
  for (let at = lower.indexOf('<a'); at >= 0 && count < linksMax; at = lower.indexOf('<a', at + 2)) {
    if (end < at) end = lower.indexOf('>', at);
    if (end < 0) return;
    if (!/\s/.test(lower[at + 2] ?? '') || end - at > tagCharsMax) continue;
    count++;
    const target = targetOf(html.slice(at + 3, end));
    if (target !== undefined)
      yield { target, shown: shownHost(html.slice(end + 1, end + 1 + shownCharsMax)) };
  }
}

function targetOf(attributes: string): string | undefined {
  const value = /\bhref\s{0,9}=\s{0,9}["']?\s{0,9}(https?:\/\/[^\s"'>]{3,2000})/i.exec(attributes)?.[1];
  return value === undefined ? undefined : hostOf(value.replaceAll('&amp;', '&'));
}

/** @param rest  What follows the tag, a bounded piece of it. */
function shownHost(rest: string): string | undefined {
  const close = rest.toLowerCase().indexOf('</a');
  const inside = (close < 0 ? rest : rest.slice(0, close)).replace(/<[^>]{0,500}>/g, ' ').trim();
  const name = /^(?:https?:\/\/)?((?:[\p{L}\p{N}-]{1,63}\.){1,8}\p{L}{2,24})(?:[/:?#]\S{0,300})?$/u.exec(
    inside,
  )?.[1];
  return name === undefined || getDomain(name) === null ? undefined : hostOf(`http://${name}`);
}

function hostOf(url: string): string | undefined {
  try {
    return new URL(url).hostname.replace(/\.$/, '');
  } catch {
    return undefined;
  }
}
