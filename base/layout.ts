/** Where a machine keeps what belongs to it: names of the files and sockets in the data directory. */
import { createHash } from 'node:crypto';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** Longest path a Unix socket may have on Linux (sun_path, without its NUL). */
const socketPathBytesMax = 107;

export interface DataLayout {
  readonly data: string;
  /** Sockets of the running members. */
  readonly run: string;
  readonly log: string;
  /** The cluster CA and this machine's certificates. */
  readonly certs: string;
  /** The embedded registry's database. */
  readonly registryFile: string;
  readonly registrySocket: string;
  /** Where `postern …` commands reach the supervisor. */
  readonly adminSocket: string;
  readonly firstAccount: string;
  /** Which machine of which cluster this is: there only where a cluster has several. */
  readonly machineFile: string;
  /** Held by the supervisor that runs here, where no embedded registry does it. */
  readonly lockFile: string;
  /** The default storage root. */
  readonly storage: string;
  /** The link socket of a member on this machine. */
  linkSocket(memberId: string): string;
  /** Where a backend takes sessions on sockets of their own. */
  sessionSocket(memberId: string): string;
}

/** @param data  The data directory, absolute. */
export function layoutOf(data: string): DataLayout {
  const longest = path.join(data, 'run', 'registry-xxxxxxxxxxxxxxxx.sock');
  const run =
    Buffer.byteLength(longest) <= socketPathBytesMax
      ? path.join(data, 'run')
      : path.join(tmpdir(), `postern-${createHash('sha256').update(data).digest('hex').slice(0, 16)}`);
  return {
    data,
    run,
    log: path.join(data, 'log'),
    certs: path.join(data, 'certs'),
    registryFile: path.join(data, 'registry.sqlite'),
    registrySocket: path.join(run, 'registry.sock'),
    adminSocket: path.join(run, 'admin.sock'),
    firstAccount: path.join(data, 'first-account.txt'),
    machineFile: path.join(data, 'machine.json'),
    lockFile: path.join(data, 'lock.sqlite'),
    storage: path.join(data, 'storage'),
    linkSocket: (memberId) => path.join(run, `${memberId}.sock`),
    sessionSocket: (memberId) => path.join(run, `${memberId}-sessions.sock`),
  };
}

/**
 * The storage root: `storage.root` of the configuration, relative to the configuration
 * file's directory; `storage` in the data directory when it is empty.
 *
 * @param config  Absolute path of the configuration file; empty for none.
 */
export function storageRootOf(layout: DataLayout, configured: string, config: string): string {
  if (configured === '') return layout.storage;
  return path.resolve(config === '' ? layout.data : path.dirname(config), configured);
}
