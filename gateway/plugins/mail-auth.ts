/**
 * SPF, DKIM, DMARC and ARC (RFC 7208, 6376, 7489, 8617), checked by the package
 * mailauth. Writes Authentication-Results (RFC 8601) under our name, takes out
 * what the sender had written under it (RFC 8601 5), and does what the domain of
 * the From field asks for with `enforce`.
 *
 * A domain that cannot be asked for now is `temperror`: the mail is not refused
 * for it. Mail that users submit is not checked: it comes from us.
 */
import { Resolver } from 'node:dns/promises';
import { authenticate } from 'mailauth';
import { definePlugin, type FieldMatch, pass, reject, type Verdict } from './api.ts';

export default definePlugin({
  name: 'mail-auth',
  deadline: '20s',
  onFailure: 'pass',
  sideBySide: true,
  options: {
    name: {
      kind: 'text',
      default: '',
      pattern: /^[A-Za-z0-9.-]{0,253}$/,
      doc: 'Our name in Authentication-Results, the same at all gateways; hostname would do. Needed.',
    },
    enforce: {
      kind: 'choice',
      default: 'quarantine',
      choices: ['none', 'quarantine', 'reject'],
      doc: "What a DMARC failure leads to, at most: nothing, the junk folder, or what the sender's domain says.",
    },
    servers: { kind: 'texts', default: [], doc: "Name servers to ask. Empty: this machine's own." },
    timeout: {
      kind: 'duration',
      default: '5s',
      min: '100ms',
      max: '15s',
      doc: 'Longest one DNS answer may take.',
    },
    lookups_max: { kind: 'count', default: 60, min: 10, doc: 'DNS questions for one message, in all.' },
    size_max: { kind: 'size', default: '50MiB', doc: 'Larger messages are not checked.' },
    concurrent_max: { kind: 'count', default: 20, min: 1, doc: 'Messages checked at once.' },
    waiting_max: { kind: 'count', default: 500, doc: 'Messages that may wait; one more is not checked.' },
  },
  start(options, { count, queue }) {
    const { name } = options;
    if (name === '')
      throw new Error('name is needed: our own in Authentication-Results, such as "mx.example.org"');
    const inTurn = queue(options.concurrent_max, options.waiting_max);
    const ours: readonly FieldMatch[] = [{ name: 'Authentication-Results', valueStart: name }];
    return {
      asked: {
        async message(session, message): Promise<Verdict> {
          if (session.account !== undefined || session.protocol !== 'smtp') return pass;
          if (message.size > options.size_max)
            return { word: 'pass', log: 'not checked: size', dropFields: ours };
          const found = await inTurn(() =>
            authenticate(message.stream(), {
              ip: session.client.address,
              helo: session.greeting ?? '',
              sender: message.envelope.from,
              mta: name,
              disableBimi: true,
              resolver: boundedResolver(options),
            }),
          );
          const results = (found.headers ?? '').replace(/\r?\n[ \t]+/g, ' ');
          const line = /^Authentication-Results:\s*(.+)$/im.exec(results)?.[1] ?? `${name}; none`;
          const dmarc = found.dmarc === false ? undefined : found.dmarc;
          const outcome = dmarc?.status.result ?? 'none';
          count(`dmarc-${outcome}`);
          const tags = { headers: [['Authentication-Results', line]] as const, dropFields: ours };
          if (outcome !== 'fail' || options.enforce === 'none') return { word: 'pass', ...tags };
          const asked = dmarc?.policy ?? 'none';
          const log = `DMARC of ${dmarc?.domain ?? '?'} fails, policy ${asked}`;
          if (asked === 'reject' && options.enforce === 'reject') {
            return reject("Refused by the policy of the sender's domain", log);
          }
          if (asked === 'none') return { word: 'pass', ...tags, log };
          return { word: 'pass', quarantine: true, ...tags, log };
        },
      },
    };
  },
});

/** DNS answers for one message: each within the time, and not more of them than allowed. */
function boundedResolver(options: { servers: readonly string[]; timeout: number; lookups_max: number }) {
  const resolver = new Resolver({ timeout: options.timeout, tries: 1 });
  if (options.servers.length > 0) resolver.setServers([...options.servers]);
  let left = options.lookups_max;
  return async (domain: string, type: string): Promise<string[] | string[][]> => {
    left -= 1;
    if (left < 0) throw Object.assign(new Error('too many DNS questions'), { code: 'EPERM' });
    return (await resolver.resolve(domain, type)) as string[] | string[][];
  };
}
