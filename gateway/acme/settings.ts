/** What an admin can set about certificates from an authority (RFC 8555), and what goes together. */
import { Fault } from '../../base/fault.ts';
import type { Place, SettingsTable, ValuesOf } from '../../base/settings.ts';

export const acmeSettings = {
  'acme.certificates': {
    kind: 'texts',
    default: [],
    doc: 'Certificates to get and renew, each with its names: ["mx.example.org imap.example.org"]. Each name has to lead to listen.http on port 80.',
  },
  'acme.agree': {
    kind: 'flag',
    default: false,
    doc: "You agree to the authority's terms of service. Needed.",
  },
  'acme.email': { kind: 'text', default: '', doc: 'Where the authority may write to.' },
  'acme.directory': {
    kind: 'text',
    default: 'https://acme-v02.api.letsencrypt.org/directory',
    pattern: /^https:\/\/[^\s]+$/,
    doc: "The authority's directory.",
  },
  'acme.ca': { kind: 'path', default: '', doc: "PEM file of the CA of an authority of one's own." },
  'acme.renew_before': {
    kind: 'duration',
    default: '30d',
    min: '1h',
    doc: 'How long before its end a certificate is renewed; at most with a third of its life left.',
  },
} as const satisfies SettingsTable;

export type AcmeSettings = ValuesOf<typeof acmeSettings>;

const namesMax = 100;

/** Names of each certificate, lower case. @throws {Fault} `bad-config` */
export function certificatesAsked(settings: AcmeSettings, place: Place): readonly (readonly string[])[] {
  const lists = settings['acme.certificates'];
  if (lists.length > 0 && !settings['acme.agree'])
    throw new Fault(
      'bad-config',
      `${place('acme.agree')}: has to be true to get certificates; read the authority's terms first`,
    );
  return lists.map((text) => {
    const names = text
      .toLowerCase()
      .split(/[\s,]+/)
      .filter(Boolean);
    const wrong = names.find(
      (name) => !/^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.){1,10}[a-z0-9-]{2,63}$/.test(name),
    );
    if (names.length === 0 || names.length > namesMax || wrong !== undefined) {
      const what = wrong ?? text;
      const why = wrong?.startsWith('*') ? 'is a wildcard, which HTTP-01 cannot prove' : 'is no host name';
      throw new Fault(
        'bad-config',
        `${place('acme.certificates')}: "${what}" ${why}; try "mx.example.org imap.example.org"`,
      );
    }
    return names;
  });
}
