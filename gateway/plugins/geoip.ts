/**
 * Where a client is, by a MaxMind-style database file (.mmdb) of the site's own:
 * refuses logins or connections from countries, or networks by their AS number.
 * Without a file the plugin does not start: it would guard nothing.
 */
import { readFile } from 'node:fs/promises';
import { type CountryResponse, Reader, type Response } from 'mmdb-lib';
import { definePlugin, disconnect, pass, reject, type Session, type Verdict } from './api.ts';

export default definePlugin({
  name: 'geoip',
  options: {
    country_file: { kind: 'path', default: '', doc: 'A database of countries (.mmdb).' },
    network_file: { kind: 'path', default: '', doc: 'A database of AS numbers (.mmdb).' },
    allow_countries: {
      kind: 'texts',
      default: [],
      doc: 'Only these may come, as "DE". Empty: all but those denied.',
    },
    deny_countries: { kind: 'texts', default: [], doc: 'These may not.' },
    deny_networks: { kind: 'texts', default: [], doc: 'AS numbers that may not come, as "64496".' },
    unknown: {
      kind: 'choice',
      default: 'pass',
      choices: ['pass', 'deny'],
      doc: 'Addresses the database does not know.',
    },
    at: {
      kind: 'choice',
      default: 'login',
      choices: ['login', 'connect'],
      doc: 'login: only who logs in is judged. connect: every client, mail servers too.',
    },
  },
  async start(options, { count }) {
    const countries = await open<CountryResponse>(options.country_file);
    const networks = await open<{ readonly autonomous_system_number?: number }>(options.network_file);
    if (countries === undefined && networks === undefined)
      throw new Error('country_file or network_file is needed');
    const allowed = new Set(options.allow_countries.map((code) => code.toUpperCase()));
    const denied = new Set(options.deny_countries.map((code) => code.toUpperCase()));
    const deniedNetworks = new Set(options.deny_networks.map((text) => Number(text.replace(/^AS/i, ''))));
    const wrongWith = (address: string): string | undefined => {
      const country = countries?.get(address)?.country?.iso_code;
      const network = networks?.get(address)?.autonomous_system_number;
      if (network !== undefined && deniedNetworks.has(network)) return `AS${network}`;
      if (countries === undefined) return undefined;
      if (country === undefined) return options.unknown === 'deny' ? 'unknown place' : undefined;
      if (denied.has(country) || (allowed.size > 0 && !allowed.has(country))) return country;
      return undefined;
    };
    const judge = ({ client }: Session, refuse: (say: string, log: string) => Verdict): Verdict => {
      const wrong = wrongWith(client.address);
      if (wrong === undefined) return pass;
      count('refused');
      return refuse('Not from there', wrong);
    };
    return {
      asked:
        options.at === 'connect'
          ? { connect: (session) => judge(session, disconnect) }
          : { login: (session) => judge(session, reject) },
    };
  },
});

async function open<T extends object>(file: string): Promise<Reader<T & Response> | undefined> {
  return file === '' ? undefined : new Reader<T & Response>(await readFile(file));
}
