/**
 * Hosts for real faults: three etcd, three backends, two gateways and a client, each
 * in a network namespace of its own, on GlusterFS. The clients' load runs all the
 * while; what they ask and are answered, and all that is granted, is judged as it comes.
 */
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { type Machine, type MachineCluster, startMachines } from '../support/machines.ts';
import { startProgram, temporaryDir, waitFor } from '../support/process.ts';
import { Gluster } from './gluster.ts';
import { Grants } from './grants.ts';
import { History } from './history.ts';
import type { LoadEvent } from './load.ts';
import { TestNetwork } from './network.ts';
import { RegistryHosts } from './registry-hosts.ts';

export const registryHosts = ['e1', 'e2', 'e3'] as const;

const ports = {
  smtp: 2525,
  submission: 2587,
  submissions: 2465,
  imap: 2143,
  imaps: 2993,
  pop3: 2110,
  pop3s: 2995,
  https: 2443,
  health: 2080,
  link: 2700,
} as const;
const accountCount = 4;
const fakeClock = [
  '/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1',
  '/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1',
].find((file) => existsSync(file));

export interface RigOptions {
  /** 3 unless told; the last has a calendar clock that can be set. */
  readonly backends?: number;
  /** 2 unless told. */
  readonly gateways?: number;
  readonly say?: (line: string) => void;
}

export interface Rig {
  /** Machines, each with one backend: `m1`, `m2` … */
  readonly backends: readonly string[];
  /** Machines, each with one gateway: `g1`, `g2` … */
  readonly gateways: readonly string[];
  readonly network: TestNetwork;
  readonly registry: RegistryHosts;
  readonly cluster: MachineCluster;
  readonly history: History;
  readonly grants: Grants;
  readonly accounts: readonly string[];
  machine(name: string): Machine;
  /** A machine's calendar clock, so many seconds off; its monotonic clock stays. The last backend's alone can be set. */
  setClock(offsetSeconds: number): Promise<void>;
  round(number: number): void;
  /** Resolves when every client has been answered a read and an append that it asked from now on. @returns ms */
  answering(withinMs: number): Promise<number>;
  /** Ends the load, reads every account a last time. */
  finish(): Promise<void>;
  close(): Promise<void>;
}

const now = (): number => Number(process.hrtime.bigint() / 1000n) / 1000;

export async function openRig(tag: string, options: RigOptions = {}): Promise<Rig> {
  const { say = () => {} } = options;
  const named = (letter: string, count: number): string[] =>
    Array.from({ length: count }, (_, index) => `${letter}${index + 1}`);
  const backends = named('m', options.backends ?? 3);
  const gateways = named('g', options.gateways ?? 2);
  const dir = await temporaryDir('rig');
  const network = new TestNetwork(tag);
  const closers: (() => Promise<void>)[] = [() => dir.remove(), () => network.close()];
  const close = async (): Promise<void> => {
    for (const one of closers.reverse()) await one();
    closers.length = 0;
  };
  try {
    await network.open([...registryHosts, ...backends, ...gateways, 's1', 'cl']);
    const gluster = new Gluster(dir.path, network.host('s1'));
    closers.push(() => gluster.close());
    await gluster.open();
    const grants = new Grants();
    const registry = new RegistryHosts(
      dir.path,
      registryHosts.map((name) => network.host(name)),
      network.host('cl'),
      (changes) => grants.take(changes),
    );
    closers.push(() => registry.close());
    await registry.open();
    say('etcd is up');
    const clockFile = path.join(dir.path, 'clock');
    await writeFile(clockFile, '+0\n');
    const clockEnv = [
      'env',
      `LD_PRELOAD=${fakeClock}`,
      `FAKETIME_TIMESTAMP_FILE=${clockFile}`,
      'FAKETIME_DONT_FAKE_MONOTONIC=1',
      'DONT_FAKE_MONOTONIC=1',
      'FAKETIME_CACHE_DURATION=1',
    ];
    const machines = [];
    for (const name of [...backends, ...gateways]) {
      const host = network.host(name);
      const isBackend = backends.includes(name);
      const canSetClock = name === backends.at(-1) && fakeClock !== undefined;
      machines.push({
        name,
        host: host.address,
        exec: canSetClock ? [...host.exec, ...clockEnv] : host.exec,
        backends: isBackend ? 1 : 0,
        gateways: isBackend ? 0 : 1,
        ports,
        storage: await gluster.mount(host),
      });
    }
    say('the file system is mounted');
    const cluster = await startMachines({ endpoints: registry.endpoints, machines, readyMs: 120_000 });
    closers.push(() => cluster.stop());
    say('the machines are up');
    const accounts = [cluster.account];
    for (let number = 2; number <= accountCount; number++)
      accounts.push(await cluster.addAccount(`user${number}@postern.test`));
    const history = new History();
    const load = startLoad(network, gateways, accounts, history);
    closers.push(() => load.stop());
    const lanes = accounts.flatMap(({ address }) => gateways.map((_, gateway) => `${address} ${gateway}`));
    return {
      backends,
      gateways,
      network,
      registry,
      cluster,
      history,
      grants,
      accounts: accounts.map(({ address }) => address),
      machine: (name) => cluster.machine(name),
      setClock: (offset) => writeFile(clockFile, `${offset < 0 ? '' : '+'}${offset}\n`),
      round: (number) => load.order({ do: 'round', round: number }),
      async answering(withinMs) {
        const fromMs = now();
        await waitFor(
          'every client to be answered',
          () => {
            const missing = lanes.filter((lane) =>
              ['read', 'append'].some((op) => (history.lastAnswered.get(`${lane} ${op}`) ?? 0) < fromMs),
            );
            if (missing.length > 0) throw new Error(`not answered: ${missing.join(', ')}`);
            return true;
          },
          withinMs,
        );
        return Math.round(now() - fromMs);
      },
      async finish() {
        load.order({ do: 'stop' });
        await waitFor('the last reads', () => history.finals === accounts.length, 120_000);
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

function startLoad(
  network: TestNetwork,
  gateways: readonly string[],
  accounts: readonly { readonly address: string; readonly password: string }[],
  history: History,
): { order(order: object): void; stop(): Promise<void> } {
  const options = {
    accounts,
    gateways: gateways.map((name) => ({
      host: network.host(name).address,
      imaps: ports.imaps,
      smtp: ports.smtp,
    })),
  };
  const [command, ...before] = network.host('cl').exec;
  const program = startProgram(
    command!,
    [...before, process.execPath, path.join(import.meta.dirname, 'load.ts'), JSON.stringify(options)],
    { stdin: true },
  );
  createInterface({ input: program.child.stdout! }).on('line', (line) => {
    if (line.startsWith('{')) history.take(JSON.parse(line) as LoadEvent);
  });
  return {
    order: (order) => void program.child.stdin!.write(`${JSON.stringify(order)}\n`),
    stop: () => program.kill('SIGKILL'),
  };
}
