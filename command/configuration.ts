/**
 * From `--config` and `--data` to everything the configuration says, checked:
 * the supervisor is strict, so that members find nothing left to complain about.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { type BackendSettings, backendSettings } from '../backend/settings.ts';
import {
  type ConfigFile,
  emptyConfig,
  parseConfig,
  readSettings,
  refuseUnknownKeys,
} from '../base/config-file.ts';
import { errnoOf, Fault } from '../base/fault.ts';
import { type DataLayout, layoutOf, storageRootOf } from '../base/layout.ts';
import { checkLoginSettings, loginSettings } from '../cluster-protocol/login-settings.ts';
import {
  checkMachineSettings,
  type MachineSettings,
  machineSettings,
} from '../cluster-protocol/machine-settings.ts';
import { type ClusterSettings, clusterSettings } from '../cluster-protocol/settings.ts';
import { acmeSettings, certificatesAsked } from '../gateway/acme/settings.ts';
import { type GatewaySettings, gatewaySettings } from '../gateway/settings.ts';

/** Larger is no configuration. */
const configBytesMax = 1024 * 1024;

export interface Configuration {
  /** Absolute path of the file; empty when there is none. */
  readonly configPath: string;
  readonly layout: DataLayout;
  readonly file: ConfigFile;
  readonly gateway: GatewaySettings;
  readonly backend: BackendSettings;
  readonly cluster: ClusterSettings;
  readonly machine: MachineSettings;
  /** What relative paths of settings are relative to. */
  readonly configDir: string;
  /** Absolute. */
  readonly storageRoot: string;
}

/** `--config` and `--data` as typed; relative to the working directory. */
export interface Where {
  readonly config: string | undefined;
  readonly data: string | undefined;
}

/** All tables of the file, in the order the example shows them. Options of plugins are declared by the plugins. */
export const settingsTables = [
  gatewaySettings,
  acmeSettings,
  backendSettings,
  loginSettings,
  clusterSettings,
  machineSettings,
] as const;

/** The data directory: `--data`, else `./var`. */
export function dataLayoutAt(where: Where, cwd = process.cwd()): DataLayout {
  return layoutOf(path.resolve(cwd, where.data ?? 'var'));
}

/**
 * Reads and checks the configuration; `./postern.toml` when `--config` names none and that file exists.
 * Plugins are not loaded here: see `checkPlugins` of the plugin host.
 *
 * @throws {Fault} `bad-config`, one line with file, line and remedy.
 */
export function loadConfiguration(where: Where, cwd = process.cwd()): Configuration {
  const { file, configPath } = readConfig(where, cwd);
  const checked = checkFile(file);
  const layout = dataLayoutAt(where, cwd);
  const configDir = configPath === '' ? layout.data : path.dirname(configPath);
  const storageRoot = storageRootOf(layout, checked.backend['storage.root'], configPath);
  return { configPath, configDir, layout, file, ...checked, storageRoot };
}

/** What the file says, with what others say laid over it or not. @throws {Fault} `bad-config` */
export function checkFile(
  file: ConfigFile,
): Pick<Configuration, 'gateway' | 'backend' | 'cluster' | 'machine'> {
  refuseUnknownKeys(file, ...settingsTables);
  const gateway = readSettings(file, gatewaySettings);
  certificatesAsked(readSettings(file, acmeSettings), file.place);
  const backend = readSettings(file, backendSettings);
  const cluster = readSettings(file, clusterSettings);
  checkTogether(file, gateway, cluster);
  checkLoginSettings(readSettings(file, loginSettings), file.place);
  const machine = readSettings(file, machineSettings);
  checkMachineSettings(machine, backend['backend.count'], file.place);
  if (gateway['gateway.count'] + backend['backend.count'] === 0)
    throw new Fault(
      'bad-config',
      `${file.place('backend.count')}: no gateways and no backends are nothing to run; set one of them`,
    );
  return { gateway, backend, cluster, machine };
}

function readConfig(where: Where, cwd: string): { file: ConfigFile; configPath: string } {
  const name = where.config ?? 'postern.toml';
  const configPath = path.resolve(cwd, name);
  let bytes: Buffer;
  try {
    bytes = readFileSync(configPath);
  } catch (error) {
    const code = errnoOf(error);
    if (code === 'ENOENT' && where.config === undefined) return { file: emptyConfig, configPath: '' };
    throw new Fault(
      'bad-config',
      code === 'ENOENT'
        ? `${name}: there is no such file; make one with "postern check-config --example > ${name}"`
        : `${name}: cannot be read (${code}); mend its permissions or name another with --config`,
      { cause: error },
    );
  }
  if (bytes.length > configBytesMax)
    throw new Fault(
      'bad-config',
      `${name}: over 1 MiB is no configuration; name the right file with --config`,
    );
  return { file: parseConfig(bytes.toString('utf8'), path.basename(name)), configPath };
}

/** What no single setting can know: whether two of them go together. */
function checkTogether(file: ConfigFile, gateway: GatewaySettings, cluster: ClusterSettings): void {
  const certificate = gateway['tls.certificate'];
  const key = gateway['tls.key'];
  if ((certificate === '') !== (key === '')) {
    const [set, missing] =
      certificate === '' ? ['tls.key', 'tls.certificate'] : ['tls.certificate', 'tls.key'];
    throw new Fault('bad-config', `${file.place(set)}: this needs ${missing} as well; set both or neither`);
  }
  if (cluster['cluster.lease_margin'] * 2 > cluster['cluster.lease']) {
    const written = file.place('cluster.lease_margin');
    throw new Fault('bad-config', `${written}: the margin is over half of cluster.lease; make it smaller`);
  }
  const taken = new Map<string, string>();
  for (const [setting, addresses] of Object.entries(gateway)) {
    if (!setting.startsWith('listen.') || !Array.isArray(addresses)) continue;
    for (const address of addresses as string[]) {
      const other = taken.get(address);
      if (other !== undefined && !address.endsWith(':0'))
        throw new Fault(
          'bad-config',
          `${file.place(setting)}: ${address} is taken by ${other} already; give each its own port`,
        );
      taken.set(address, setting);
    }
  }
}
