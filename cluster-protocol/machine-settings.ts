/**
 * What an admin sets where a cluster has several machines: the registry they
 * share, this machine's name, and where its members' links are.
 */
import { Fault } from '../base/fault.ts';
import { type Place, parseAddress, type SettingsTable, type ValuesOf } from '../base/settings.ts';

export const machineSettings = {
  'cluster.registry': {
    kind: 'choice',
    default: 'embedded',
    choices: ['embedded', 'etcd'],
    doc: 'Where members, shard map and domains stand: "embedded" for one machine, "etcd" for several.',
  },
  'cluster.machine': {
    kind: 'text',
    default: '',
    pattern: /^(?:[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?)?$/,
    doc: "This machine's name, unique in the cluster; its members are called NAME-backend-1 and so on. Needed with etcd.",
  },
  'cluster.listen': {
    kind: 'text',
    default: '',
    doc: 'Where backends take links from other machines, as "10.0.0.5:2900" or "[fd00::5]:2900". Further backends of the machine count the port up. Needed with etcd where there are backends.',
  },
  'cluster.advertise': {
    kind: 'text',
    default: '',
    doc: 'Host or address under which other machines reach cluster.listen. Empty: the address of cluster.listen.',
  },
  'cluster.etcd_endpoints': {
    kind: 'texts',
    default: [],
    doc: 'etcd members, as "https://10.0.0.1:2379"; the next is tried when one does not answer. Name all of them.',
  },
  'cluster.etcd_prefix': {
    kind: 'text',
    default: 'postern/',
    pattern: /^[\x21-\x7e]{0,100}\/$/,
    doc: 'All keys of the cluster begin with this, and it ends in "/". Give each cluster its own where they share an etcd.',
  },
  'cluster.etcd_ca': {
    kind: 'path',
    default: '',
    doc: "PEM file with the CA of etcd's certificates. Needed for https endpoints.",
  },
  'cluster.etcd_certificate': {
    kind: 'path',
    default: '',
    doc: 'PEM file with the certificate this machine shows to etcd, where etcd asks for one.',
  },
  'cluster.etcd_key': { kind: 'path', default: '', doc: 'PEM file with its private key.' },
  'cluster.etcd_user': {
    kind: 'text',
    default: '',
    doc: 'User name at etcd, where it has authentication on.',
  },
  'cluster.etcd_password_file': {
    kind: 'path',
    default: '',
    doc: 'File whose first line is the password of cluster.etcd_user.',
  },
  'cluster.certificate_life': {
    kind: 'duration',
    default: '90d',
    min: '1m',
    max: '365d',
    doc: "How long the certificates of the cluster's own CA are good; they are renewed while Postern runs, when a third (at most 30 days) is left.",
  },
} as const satisfies SettingsTable;

export type MachineSettings = ValuesOf<typeof machineSettings>;

/**
 * What no single setting can know.
 * @param backends  Backends of this machine.
 * @throws {Fault} `bad-config` with file, line and remedy.
 */
export function checkMachineSettings(settings: MachineSettings, backends: number, place: Place): void {
  const bad = (key: keyof MachineSettings, words: string): never => {
    throw new Fault('bad-config', `${place(key)}: ${words}`);
  };
  const listen = settings['cluster.listen'];
  if (listen !== '' && (parseAddress(listen)?.port ?? 0) === 0)
    bad('cluster.listen', `"${listen}" is not an address with a port; try "10.0.0.5:2900"`);
  for (const key of ['cluster.etcd_certificate', 'cluster.etcd_user'] as const) {
    const other = key === 'cluster.etcd_user' ? 'cluster.etcd_password_file' : 'cluster.etcd_key';
    if ((settings[key] === '') === (settings[other] === '')) continue;
    const [set, missing] = settings[key] === '' ? ([other, key] as const) : ([key, other] as const);
    bad(set, `this needs ${missing} as well; set both or neither`);
  }
  if (settings['cluster.registry'] === 'embedded') {
    // Members of one machine meet over Unix sockets: whoever sets this means a cluster of several.
    if (listen !== '') bad('cluster.listen', 'this needs cluster.registry = "etcd"; set it, or remove this');
    return;
  }
  const endpoints = settings['cluster.etcd_endpoints'];
  if (endpoints.length === 0)
    bad('cluster.registry', 'etcd needs to be named; set cluster.etcd_endpoints = ["https://10.0.0.1:2379"]');
  for (const endpoint of endpoints) {
    if (!/^https?:\/\/(?:\[[0-9a-fA-F:.]+\]|[^\s/:[\]]+):\d{1,5}$/.test(endpoint))
      bad(
        'cluster.etcd_endpoints',
        `${JSON.stringify(endpoint)} is not an endpoint; try "https://10.0.0.1:2379"`,
      );
    if (endpoint.startsWith('https:') !== endpoints[0]!.startsWith('https:'))
      bad('cluster.etcd_endpoints', 'some are http and some https; use one of them for all');
  }
  if (endpoints[0]!.startsWith('https:') && settings['cluster.etcd_ca'] === '')
    bad('cluster.etcd_endpoints', 'https needs the CA of etcd as well; set cluster.etcd_ca');
  if (settings['cluster.machine'] === '')
    bad('cluster.registry', 'with etcd each machine has a name; set cluster.machine = "m1"');
  if (backends === 0) return;
  if (listen === '')
    bad(
      'cluster.registry',
      'other machines have to reach the backends; set cluster.listen = "10.0.0.5:2900"',
    );
  if (/^(?:0\.0\.0\.0|\[[0:]+\]):/.test(listen) && settings['cluster.advertise'] === '')
    bad(
      'cluster.listen',
      'this is every address of the machine; set cluster.advertise to the one others use',
    );
  if (!/^(?:[^\s[\]:/]{1,255}|[0-9a-fA-F:.]{2,64})?$/.test(settings['cluster.advertise']))
    bad('cluster.advertise', 'this is not a host or an address without a port; try "10.0.0.5"');
}

/** Where backend `number` (1, 2, …) of this machine listens, and what others are told; `undefined` on a single machine. */
export function linkAddressOf(
  settings: MachineSettings,
  number: number,
): { listen: { host: string; port: number }; advertised: string } | undefined {
  const base = parseAddress(settings['cluster.listen']);
  if (settings['cluster.registry'] === 'embedded' || base === undefined) return undefined;
  const listen = { host: base.host, port: base.port + number - 1 };
  const host = settings['cluster.advertise'] || base.host;
  return { listen, advertised: `${host.includes(':') ? `[${host}]` : host}:${listen.port}` };
}

/** `m1-backend-1`; `backend-1` on a single machine. */
export function memberIdOf(machine: string, role: 'gateway' | 'backend', number: number): string {
  return machine === '' ? `${role}-${number}` : `${machine}-${role}-${number}`;
}
