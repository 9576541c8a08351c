/**
 * Looks up the hosts that links in a message lead to: in DNS lists of bad domains
 * (RFC 5782 2.3 style: `domain.zone`), and in a file of the site's own. Links are
 * taken from texts and HTML, a bounded number of them; what is looked up is the
 * registrable domain, so that a fresh host name in front changes nothing.
 */
import { Resolver } from 'node:dns/promises';
import { readFile } from 'node:fs/promises';
import { definePlugin, type Message, pass, quarantine, reject, type Verdict } from './api.ts';
import { linkedHosts, registrableDomain } from './uri-blocklist/links.ts';

const linesMax = 1_000_000;
const rememberedMax = 50_000;

export default definePlugin({
  name: 'uri-blocklist',
  deadline: '20s',
  onFailure: 'pass',
  sideBySide: true,
  options: {
    zones: { kind: 'texts', default: [], doc: 'DNS lists of domains, as "dbl.example.org".' },
    file: {
      kind: 'path',
      default: '',
      doc: 'A file of domains, one a line, # begins a comment; read at the start.',
    },
    action: {
      kind: 'choice',
      default: 'reject',
      choices: ['reject', 'quarantine', 'tag'],
      doc: 'What a listed link means.',
    },
    ignore: { kind: 'texts', default: [], doc: "Domains that are never looked up: the site's own." },
    hosts_max: {
      kind: 'count',
      default: 30,
      min: 1,
      max: 200,
      doc: 'Domains of one message that are looked up.',
    },
    servers: { kind: 'texts', default: [], doc: "Name servers to ask. Empty: this machine's own." },
    timeout: {
      kind: 'duration',
      default: '3s',
      min: '10ms',
      max: '15s',
      doc: 'Longest one answer may take.',
    },
    remember: {
      kind: 'duration',
      default: '10m',
      min: '1s',
      max: '1d',
      doc: 'How long an answer is remembered.',
    },
  },
  async start(options, { count, log, stopped }) {
    const resolver = new Resolver({ timeout: options.timeout, tries: 1 });
    if (options.servers.length > 0) resolver.setServers([...options.servers]);
    stopped.addEventListener('abort', () => resolver.cancel(), { once: true });
    const listed = await readDomains(options.file);
    const ignored = new Set(options.ignore.map((domain) => domain.toLowerCase()));
    const known = new Map<string, { readonly bad: boolean; readonly untilMs: number }>();

    const isBad = async (domain: string, zone: string): Promise<boolean> => {
      const name = `${domain}.${zone}`;
      const found = known.get(name);
      if (found !== undefined && found.untilMs > performance.now()) return found.bad;
      let bad = false;
      try {
        const answers = await resolver.resolve4(name);
        // 127.255.255.0/24: "you may not ask", by common usage no verdict about the domain.
        bad = answers.some((answer) => answer.startsWith('127.') && !answer.startsWith('127.255.255.'));
      } catch (error) {
        const { code } = error as { code?: string };
        if (code !== 'ENOTFOUND' && code !== 'ENODATA') {
          count('unanswered');
          log.warn({ zone, code }, 'a DNS list does not answer');
          return false;
        }
      }
      if (known.size >= rememberedMax) known.delete(known.keys().next().value!);
      known.set(name, { bad, untilMs: performance.now() + options.remember });
      return bad;
    };

    const firstBad = async (message: Message): Promise<string | undefined> => {
      const domains = [...new Set((await linkedHosts(message)).map(registrableDomain))]
        .filter((domain) => !ignored.has(domain))
        .slice(0, options.hosts_max);
      const local = domains.find((domain) => listed.has(domain));
      if (local !== undefined) return `${local} (own list)`;
      const asked = domains.flatMap((domain) => options.zones.map((zone) => ({ domain, zone })));
      const answers = await Promise.all(asked.map(({ domain, zone }) => isBad(domain, zone)));
      const at = answers.indexOf(true);
      return at < 0 ? undefined : `${asked[at]!.domain} (${asked[at]!.zone})`;
    };

    return {
      asked: {
        async message(_session, message): Promise<Verdict> {
          const bad = await firstBad(message);
          if (bad === undefined) return pass;
          count('listed');
          const log_ = `links to ${bad}`;
          if (options.action === 'reject') return reject('Message refused: it links to a listed site', log_);
          if (options.action === 'quarantine') return quarantine(log_);
          return { word: 'pass', headers: [['X-Listed-Link', bad]], score: 1, log: log_ };
        },
      },
    };
  },
});

async function readDomains(file: string): Promise<ReadonlySet<string>> {
  if (file === '') return new Set();
  const lines = (await readFile(file, 'utf8')).split('\n');
  if (lines.length > linesMax) throw new Error(`${file}: more than ${linesMax} lines`);
  return new Set(lines.map((line) => line.replace(/#.*/, '').trim().toLowerCase()).filter(Boolean));
}
