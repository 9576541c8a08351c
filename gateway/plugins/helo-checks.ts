/**
 * Looks at the name a mail server greets with (RFC 5321 4.1.4). By itself it may
 * not be used to refuse mail because it cannot be verified, so what is checked
 * here is what an honest server never says: our own name, an address literal of
 * somebody else, a bare address, a name of this machine's own kind.
 *
 * Users who submit mail greet with anything; they are left alone.
 */
import { isIP } from 'node:net';
import { definePlugin, pass, reject } from './api.ts';

export default definePlugin({
  name: 'helo-checks',
  options: {
    own_names: {
      kind: 'texts',
      default: [],
      doc: 'Names nobody else may greet with: the host name of the gateways, the domains of the site.',
    },
    bare_address: { kind: 'flag', default: true, doc: 'Refuse an address without brackets.' },
    other_literal: { kind: 'flag', default: true, doc: "Refuse [address] that is not the client's own." },
    localhost: { kind: 'flag', default: true, doc: 'Refuse localhost and localhost.localdomain.' },
    single_word: { kind: 'flag', default: false, doc: 'Refuse a name without a dot.' },
  },
  start(options, { count }) {
    const ownNames = new Set(options.own_names.map((name) => name.toLowerCase()));
    const wrongWith = (name: string, address: string): string | undefined => {
      const literal = /^\[(?:IPv6:)?([^\]]{2,45})\]$/i.exec(name)?.[1];
      if (literal !== undefined) {
        if (!options.other_literal || sameAddress(literal, address)) return undefined;
        return isIP(literal) === 0 ? 'not an address literal' : `the literal of another address`;
      }
      if (options.bare_address && isIP(name) !== 0) return 'a bare address';
      if (ownNames.has(name)) return 'our own name';
      if (options.localhost && /^localhost(?:\.localdomain)?$/.test(name)) return 'localhost';
      if (options.single_word && !name.includes('.')) return 'a single word';
      return undefined;
    };
    return {
      asked: {
        greeting({ protocol, client }, given) {
          if (protocol !== 'smtp' || isLoopback(client.address)) return pass;
          const wrong = wrongWith(given.toLowerCase().replace(/\.$/, ''), client.address);
          if (wrong === undefined) return pass;
          count('refused');
          return reject('Greet with the name of your host', `${wrong}: ${given}`);
        },
      },
    };
  },
});

function sameAddress(literal: string, address: string): boolean {
  if (literal === address) return true;
  // RFC 5952 spells an address one way; a client may spell it another.
  return isIP(literal) === 6 && isIP(address) === 6 && plainIpv6(literal) === plainIpv6(address);
}

function plainIpv6(text: string): string {
  return new URL(`http://[${text}]/`).hostname;
}

function isLoopback(address: string): boolean {
  return address.startsWith('127.') || address === '::1';
}
