/** Three etcd members on hosts of a test network, and everything that is ever written into them. */
import { execFile } from 'node:child_process';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { programPath, type RunningProgram, startProgram, waitFor } from '../support/process.ts';
import type { RegistryChange } from './grants.ts';
import type { Host } from './network.ts';

const run = promisify(execFile);
const prefix = 'postern/';
/** What one member may hold: little, so that it can be used up. */
const quotaBytes = 64 * 1024 * 1024;

interface WatchLine {
  readonly Header?: { readonly revision?: number };
  readonly Events?: readonly {
    readonly type?: number | string;
    readonly kv: { readonly key: string; readonly value?: string; readonly mod_revision: number };
  }[];
}

export class RegistryHosts {
  readonly #dir: string;
  readonly #hosts: readonly Host[];
  readonly #client: Host;
  readonly #members = new Map<string, RunningProgram>();
  readonly #on: (changes: readonly RegistryChange[]) => void;
  #watch: RunningProgram | undefined;
  #seen = 0;
  #closed = false;
  /** Revisions that were compacted away before they were read: must stay 0. */
  gaps = 0;

  constructor(
    dir: string,
    hosts: readonly Host[],
    client: Host,
    on: (changes: readonly RegistryChange[]) => void,
  ) {
    this.#dir = dir;
    this.#hosts = hosts;
    this.#client = client;
    this.#on = on;
  }

  get endpoints(): string[] {
    return this.#hosts.map(({ address }) => `http://${address}:2379`);
  }

  async open(): Promise<void> {
    for (const host of this.#hosts) this.start(host.name);
    await waitFor('etcd', async () => (await this.ctl(['endpoint', 'status', '-w', 'json'])) !== '', 60_000);
    this.#follow();
  }

  start(name: string): void {
    const host = this.#hosts.find((one) => one.name === name)!;
    const peers = this.#hosts.map((one) => `${one.name}=http://${one.address}:2380`).join(',');
    const [command, ...before] = host.exec;
    const args = [
      ['--name', name],
      ['--data-dir', `${this.#dir}/${name}.etcd`],
      ['--listen-client-urls', `http://${host.address}:2379`],
      ['--advertise-client-urls', `http://${host.address}:2379`],
      ['--listen-peer-urls', `http://${host.address}:2380`],
      ['--initial-advertise-peer-urls', `http://${host.address}:2380`],
      ['--initial-cluster', peers],
      ['--quota-backend-bytes', String(quotaBytes)],
      ['--log-level', 'error'],
    ].flat();
    this.#members.set(
      name,
      startProgram(command!, [...before, programPath('etcd'), ...args, '--unsafe-no-fsync']),
    );
  }

  async kill(name: string): Promise<void> {
    await this.#members.get(name)?.kill('SIGKILL');
  }

  signal(name: string, signal: NodeJS.Signals): void {
    const member = this.#members.get(name);
    if (member !== undefined) process.kill(member.pid, signal);
  }

  /** The host whose member leads; `undefined` while none does. */
  async leader(): Promise<string | undefined> {
    const text = await this.ctl(['endpoint', 'status', '-w', 'json']).catch(() => '[]');
    const list = JSON.parse(text) as {
      Endpoint: string;
      Status: { header: { member_id: number }; leader: number };
    }[];
    const found = list.find(({ Status }) => Status.leader !== 0 && Status.header.member_id === Status.leader);
    return this.#hosts.find(({ address }) => found?.Endpoint.includes(`//${address}:`))?.name;
  }

  async get(key: string): Promise<string> {
    return (await this.ctl(['get', '--print-value-only', prefix + key])).trim();
  }

  /** Everything up to now has been read; then what is older is thrown away. */
  async compact(): Promise<void> {
    const status = JSON.parse(await this.ctl(['get', `${prefix}map`, '-w', 'json'])) as {
      header: { revision: number };
    };
    const { revision } = status.header;
    const mapAt = (
      JSON.parse(await this.ctl(['get', `${prefix}map`, '-w', 'json'])) as {
        kvs: { mod_revision: number }[];
      }
    ).kvs[0]!.mod_revision;
    await waitFor('the history to be read', () => this.#seen >= mapAt);
    // Nothing may have been written since the last time.
    await this.ctl(['compact', String(revision)]).catch((error: Error) => {
      if (!/has been compacted/.test(error.message)) throw error;
    });
  }

  /** Uses up the space of all members. */
  async fill(): Promise<void> {
    const value = 'x'.repeat(1024 * 1024);
    for (let index = 0; index < 80; index++) {
      const failed = await this.#put(`filler/${index}`, value);
      if (failed) return;
    }
  }

  async empty(): Promise<void> {
    await this.ctl(['del', '--prefix', 'filler/']);
    await this.compact();
    for (const endpoint of this.endpoints) await this.ctl(['defrag'], [endpoint]);
    await this.ctl(['alarm', 'disarm']);
  }

  async ctl(words: readonly string[], endpoints: readonly string[] = this.endpoints): Promise<string> {
    const [command, ...before] = this.#client.exec;
    const { stdout } = await run(
      command!,
      [...before, programPath('etcdctl'), '--endpoints', endpoints.join(','), ...words],
      { env: { ...process.env, ETCDCTL_API: '3' }, timeout: 15_000, maxBuffer: 64 * 1024 * 1024 },
    );
    return stdout;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#watch?.kill('SIGKILL');
    for (const member of this.#members.values()) await member.kill('SIGKILL');
  }

  /** @returns Whether there was no room. */
  #put(key: string, value: string): Promise<boolean> {
    const [command, ...before] = this.#client.exec;
    return new Promise((resolve) => {
      const child = execFile(
        command!,
        [...before, programPath('etcdctl'), '--endpoints', this.endpoints.join(','), 'put', key],
        { env: { ...process.env, ETCDCTL_API: '3' }, timeout: 15_000 },
        (error) => resolve(error !== null),
      );
      child.stdin!.end(value);
    });
  }

  #follow(): void {
    const [command, ...before] = this.#client.exec;
    const watch = startProgram(
      command!,
      [
        ...before,
        programPath('etcdctl'),
        '--endpoints',
        this.endpoints.join(','),
        ...['watch', '--prefix', '--rev', String(this.#seen + 1), '-w', 'json', prefix],
      ],
      { env: { ...process.env, ETCDCTL_API: '3' } },
    );
    this.#watch = watch;
    createInterface({ input: watch.child.stdout! }).on('line', (line) => this.#line(line));
    watch.child.on('exit', () => {
      if (/compacted/.test(watch.output())) this.gaps++;
      if (!this.#closed) setTimeout(() => !this.#closed && this.#follow(), 300);
    });
  }

  #line(line: string): void {
    let read: WatchLine;
    try {
      read = JSON.parse(line) as WatchLine;
    } catch {
      return;
    }
    const changes = (read.Events ?? [])
      .map(
        ({ type, kv }): RegistryChange => ({
          revision: kv.mod_revision,
          kind: type === 1 || type === 'DELETE' ? 'remove' : 'put',
          key: Buffer.from(kv.key, 'base64').toString().slice(prefix.length),
          value: Buffer.from(kv.value ?? '', 'base64').toString(),
        }),
      )
      .filter(({ revision }) => revision > this.#seen);
    const byRevision = Map.groupBy(changes, ({ revision }) => revision);
    for (const [revision, list] of [...byRevision].sort(([a], [b]) => a - b)) {
      this.#on(list);
      this.#seen = revision;
    }
  }
}
