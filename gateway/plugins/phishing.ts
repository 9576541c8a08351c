/**
 * Signs of a message that pretends: a sender's domain that looks like one of ours,
 * letters of other scripts that look like Latin ones, a link whose text names
 * another site than it leads to, a display name that is somebody of the house with
 * a stranger's address, answers that go elsewhere. Local lists only, nothing is
 * asked of anybody; each finding says what it saw.
 *
 * One finding alone is seldom proof. They have weights, and what they come to
 * decides: tag, junk folder, or refusal.
 */
import { definePlugin, type Message, pass, reject, type Session, type Verdict } from './api.ts';
import { type Finding, headerFindings, type Watched } from './phishing/header-findings.ts';
import { linkFindings } from './phishing/link-findings.ts';
import { knownDomains } from './phishing/lookalike.ts';

export default definePlugin({
  name: 'phishing',
  deadline: '10s',
  onFailure: 'pass',
  sideBySide: true,
  options: {
    own_domains: { kind: 'texts', default: [], doc: "The site's own domains." },
    watched_domains: { kind: 'texts', default: [], doc: 'Domains others like to imitate: banks, suppliers.' },
    own_names: {
      kind: 'texts',
      default: [],
      doc: 'Names of people strangers would pretend to be, as "Ann Smith".',
    },
    tag_weight: {
      kind: 'number',
      default: 1,
      doc: 'From here on the findings are written into the message.',
    },
    quarantine_weight: { kind: 'number', default: 3, doc: 'From here on it goes into the junk folder.' },
    reject_weight: { kind: 'number', default: 6, doc: 'From here on it is refused.' },
    new_sender: {
      kind: 'number',
      default: 0.5,
      doc: 'Weight of a domain this gateway has had no mail from lately.',
    },
    remember: { kind: 'duration', default: '30d', min: '1h', doc: 'How long a domain is not new.' },
  },
  start(options, { count, countWithin }) {
    const lower = (list: readonly string[]): string[] => list.map((text) => text.toLowerCase());
    const domains = [...new Set([...lower(options.own_domains), ...lower(options.watched_domains)])];
    const watched: Watched = {
      ownDomains: lower(options.own_domains),
      domains,
      known: knownDomains(domains),
      names: options.own_names.map((name) => name.normalize('NFKC').toLowerCase()),
    };
    const seen = countWithin('phishing-domains', options.remember);

    const findingsOf = async (session: Session, message: Message): Promise<Finding[]> => {
      const found = [...headerFindings(message, watched), ...(await linkFindings(message, watched))];
      const { from } = message.envelope;
      const domain = from.slice(from.lastIndexOf('@') + 1).toLowerCase();
      if (domain !== '' && session.account === undefined) {
        const isNew = seen.of(domain) === 0;
        seen.add(domain);
        // By itself every sender is new once: it only makes other findings heavier.
        if (isNew && found.length > 0)
          found.push({ weight: options.new_sender, what: `first mail from ${domain}` });
      }
      return found;
    };

    return {
      asked: {
        async message(session, message): Promise<Verdict> {
          if (session.account !== undefined) return pass;
          const found = await findingsOf(session, message);
          const weight = found.reduce((sum, one) => sum + one.weight, 0);
          if (found.length === 0 || weight < Math.min(options.tag_weight, options.quarantine_weight))
            return pass;
          count('found');
          const log = found
            .map(({ what, weight: own }) => `${what} (${own})`)
            .join('; ')
            .slice(0, 500);
          if (weight >= options.reject_weight)
            return reject('Message refused: it pretends to be from somebody else', log);
          return {
            word: 'pass',
            headers: [['X-Phishing-Findings', found.map(({ what }) => what).join('; ')]],
            score: weight,
            log,
            ...(weight >= options.quarantine_weight ? { quarantine: true } : {}),
          };
        },
      },
    };
  },
});
