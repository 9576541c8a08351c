/**
 * Asks DNS lists about the client's address (RFC 5782): DNSBLs that name bad
 * ones, DNSWLs that name good ones. Answers are remembered for their time to
 * live. A list that does not answer says nothing: mail must not stop because a
 * list has.
 *
 * A list is written as `zone`, `zone=127.0.0.2,127.0.0.4` (only these answers
 * count) or with a weight, `zone*0.5`; a client is refused when the weights of
 * the lists that name it come to `reject_weight`.
 */
import { Resolver } from 'node:dns/promises';
import { isIP } from 'node:net';
import { accept, definePlugin, pass, reject } from './api.ts';

interface List {
  readonly zone: string;
  /** Empty: any answer in 127.0.0.0/8. */
  readonly answers: ReadonlySet<string>;
  readonly weight: number;
}

const rememberedMax = 50_000;
const rememberMsMax = 60 * 60_000;
const rememberNothingMs = 5 * 60_000;

export default definePlugin({
  name: 'dns-blocklist',
  options: {
    block: { kind: 'texts', default: [], doc: 'Lists of bad clients: zone[=answer,answer][*weight].' },
    allow: { kind: 'texts', default: [], doc: 'Lists of good clients, asked first: zone[=answer,answer].' },
    reject_weight: {
      kind: 'number',
      default: 1,
      min: 0.01,
      doc: 'Weights that come to this refuse a client.',
    },
    servers: {
      kind: 'texts',
      default: [],
      doc: "Name servers to ask, address or address:port. Empty: this machine's own.",
    },
    timeout: {
      kind: 'duration',
      default: '3s',
      min: '10ms',
      max: '30s',
      doc: 'Longest one answer may take.',
    },
    protocols: {
      kind: 'texts',
      default: ['smtp'],
      doc: 'Where clients are looked up: smtp, submission, imap, pop3, http.',
    },
  },
  start(options, { count, log, stopped }) {
    const resolver = new Resolver({ timeout: options.timeout, tries: 1 });
    if (options.servers.length > 0) resolver.setServers([...options.servers]);
    stopped.addEventListener('abort', () => resolver.cancel(), { once: true });
    const block = options.block.map(readList);
    const allow = options.allow.map(readList);
    const known = new Map<string, { readonly answers: readonly string[]; readonly untilMs: number }>();

    /** Addresses a list answers with; none when it does not know the client or does not answer. */
    const ask = async (zone: string, reversed: string): Promise<readonly string[]> => {
      const name = `${reversed}.${zone}`;
      const nowMs = performance.now();
      const found = known.get(name);
      if (found !== undefined && found.untilMs > nowMs) return found.answers;
      let answers: readonly string[] = [];
      let rememberMs = rememberNothingMs;
      try {
        const records = await resolver.resolve4(name, { ttl: true });
        answers = records.map(({ address }) => address).filter((address) => address.startsWith('127.'));
        rememberMs = Math.min(rememberMsMax, Math.max(1, ...records.map(({ ttl }) => ttl)) * 1000);
      } catch (error) {
        const { code } = error as { code?: string };
        if (code !== 'ENOTFOUND' && code !== 'ENODATA') {
          count('unanswered');
          log.warn({ zone, code }, 'a DNS list does not answer');
          rememberMs = 10_000;
        }
      }
      known.delete(name);
      if (known.size >= rememberedMax) known.delete(known.keys().next().value!);
      known.set(name, { answers, untilMs: nowMs + rememberMs });
      return answers;
    };
    const names = async (list: List, reversed: string): Promise<boolean> => {
      const answers = await ask(list.zone, reversed);
      return answers.some((answer) => list.answers.size === 0 || list.answers.has(answer));
    };

    return {
      asked: {
        async connect({ protocol, client }) {
          if (!options.protocols.includes(protocol)) return pass;
          const reversed = reversedAddress(client.address);
          if (reversed === undefined) return pass;
          const [good, bad] = await Promise.all([
            Promise.all(allow.map((list) => names(list, reversed))),
            Promise.all(block.map((list) => names(list, reversed))),
          ]);
          if (good.includes(true)) return accept;
          const listed = block.filter((_list, index) => bad[index]);
          const weight = listed.reduce((sum, list) => sum + list.weight, 0);
          if (listed.length === 0) return pass;
          const why = `${listed.map(({ zone }) => zone).join(', ')} (weight ${weight})`;
          if (weight < options.reject_weight) return { word: 'pass', log: why, score: weight };
          count('refused');
          return reject('Your address is on a block list', why);
        },
      },
    };
  },
});

/** @throws {Error} that says what is wrong with it. */
function readList(text: string): List {
  const read = /^([a-z0-9_-]+(?:\.[a-z0-9_-]+)+)(?:=([0-9.,]+))?(?:\*(\d+(?:\.\d+)?))?$/i.exec(text);
  if (read === null)
    throw new Error(`"${text}" is not a list; try "zen.example.org" or "zen.example.org=127.0.0.2*0.5"`);
  const [, zone = '', answers, weight = '1'] = read;
  return { zone, answers: new Set(answers?.split(',')), weight: Number(weight) };
}

/** `1.2.0.192`, or the nibbles of an IPv6 address (RFC 5782 2.1, 2.4); `undefined` for addresses nobody lists. */
export function reversedAddress(address: string): string | undefined {
  if (isIP(address) === 4) {
    const bytes = address.split('.');
    return bytes[0] === '127' || bytes[0] === '10' ? undefined : bytes.reverse().join('.');
  }
  if (isIP(address) !== 6 || address === '::1') return undefined;
  const [head = '', tail] = address.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const missing = tail === undefined ? 0 : 8 - left.length - right.length;
  const groups = [...left, ...Array<string>(missing).fill('0'), ...right];
  return groups
    .map((group) => group.padStart(4, '0'))
    .join('')
    .split('')
    .reverse()
    .join('.');
}
