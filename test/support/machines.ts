/**
 * Several machines of one cluster for a test: each a data directory with its own
 * supervisor, on an address of its own, all on one storage and one etcd. Where a
 * machine runs is a parameter: loopback addresses, or network namespaces that the
 * test has made (`exec: ['ip', 'netns', 'exec', 'm1']`, with the address it has there).
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { layoutOf } from '../../base/layout.ts';
import {
  canLogIn,
  killQuietly,
  membersOf,
  type PortName,
  portNames,
  readFirstAccount,
  type TestAccount,
} from './cluster.ts';
import { freePorts, type RunningProgram, startProgram, temporaryDir, waitFor } from './process.ts';

const projectHere = path.resolve(import.meta.dirname, '../..');
const node = path.join(projectHere, 'node_modules/.bin/node');

export interface MachineOptions {
  readonly name: string;
  /** Where it listens, for clients and for links; loopback, or its address in its namespace. */
  readonly host: string;
  /** What stands before every command that runs on it. */
  readonly exec?: readonly string[];
  readonly backends?: number;
  readonly gateways?: number;
  /** TOML after our own lines, for this machine alone. */
  readonly config?: string;
  /** Ports; free ones of loopback unless told. `link` is the first backend's. */
  readonly ports?: Readonly<Record<PortName | 'link', number>>;
  /** The source it runs from: another release. */
  readonly project?: string;
  /** Where it sees the storage; the common directory unless told. */
  readonly storage?: string;
}

export interface Machine {
  readonly name: string;
  readonly host: string;
  readonly ports: Readonly<Record<PortName | 'link', number>>;
  readonly data: string;
  readonly config: string;
  /** The source it starts from next. */
  project: string;
  readonly supervisorPid: number;
  /** Has its supervisor been started, and not ended? */
  readonly isRunning: boolean;
  /** Starts it and waits for its `ready` line. */
  start(readyMs?: number): Promise<void>;
  /** Runs `postern WORDS` on it. @throws {Error} with its output unless it exits 0. */
  command(words: readonly string[], input?: string): Promise<string>;
  /** `{ 'm1-gateway-1': 4711, … }` */
  memberPids(): Promise<Record<string, number>>;
  /** A signal to one of its members, by its whole id. */
  kill(member: string, signal?: NodeJS.Signals): Promise<void>;
  /** `kill -9` of supervisor and members, as when the machine loses power. */
  killEverything(): Promise<void>;
  /** SIGSTOP or SIGCONT to supervisor and members. */
  signalAll(signal: NodeJS.Signals): Promise<void>;
  /** All log records so far, of all members. */
  logs(): Promise<Record<string, unknown>[]>;
  output(): string;
  /** Its exit code, once it has ended by itself. */
  ended(): Promise<number | null>;
  stop(): Promise<void>;
}

export interface MachineCluster {
  readonly machines: readonly Machine[];
  /** Of the first account, made by the first machine. */
  readonly account: TestAccount;
  readonly storage: string;
  /** Data directories, storage and configurations are in here. */
  readonly dir: string;
  machine(name: string): Machine;
  /** Joins and starts one more. */
  add(options: MachineOptions): Promise<Machine>;
  addAccount(address: string, password?: string): Promise<TestAccount>;
  /** Resolves when the account can log in at this machine's gateway. */
  answering(machine: Machine, account?: TestAccount, withinMs?: number): Promise<void>;
  stop(): Promise<void>;
}

export interface MachinesOptions {
  /** etcd's client URLs, as every machine sees them. */
  readonly endpoints: readonly string[];
  /** TOML after our own lines, for every machine: dotted keys first, then tables. */
  readonly config?: string;
  /** The first makes the cluster; it has at least one backend. */
  readonly machines: readonly MachineOptions[];
  /** How long a machine may take to be ready for the first time; 30 s unless told. */
  readonly readyMs?: number;
  /** The shared storage root; a directory beside the data directories unless told. */
  readonly storage?: string;
}

/** Makes the cluster, has every machine join, starts all and waits until all are ready. */
export async function startMachines(options: MachinesOptions): Promise<MachineCluster> {
  const dir = await temporaryDir('machines');
  const storage = options.storage ?? path.join(dir.path, 'storage');
  await mkdir(storage, { recursive: true });
  const machines: Machine[] = [];
  const make = async (one: MachineOptions): Promise<Machine> => {
    const machine = await makeMachine(dir.path, { ...one, storage: one.storage ?? storage }, options);
    machines.push(machine);
    return machine;
  };
  const join = async (machine: Machine): Promise<void> => {
    const token = JSON.parse(await machines[0]!.command(['cluster', 'token', '--json'])) as { token: string };
    await machine.command(['cluster', 'join', '-'], token.token);
  };
  const stop = async (): Promise<void> => {
    await Promise.all(machines.map((machine) => machine.stop()));
    await dir.remove();
  };
  let account: TestAccount;
  try {
    const [first, ...others] = options.machines;
    const one = await make(first!);
    await one.command(['cluster', 'init']);
    await one.start(options.readyMs);
    account = readFirstAccount(await readFile(layoutOf(one.data).firstAccount, 'utf8'));
    for (const other of others) await join(await make(other));
    await Promise.all(machines.slice(1).map((machine) => machine.start(options.readyMs)));
  } catch (error) {
    await stop();
    throw error;
  }
  const cluster: MachineCluster = {
    machines,
    account,
    storage,
    dir: dir.path,
    machine: (name) => machines.find((one) => one.name === name)!,
    async add(one) {
      const machine = await make(one);
      await join(machine);
      await machine.start();
      return machine;
    },
    async addAccount(address, password = 'right horse battery') {
      const words = ['account', 'add', address, '--password-stdin'];
      await machines[0]!.command(words, `${password}\n`);
      return { address, password };
    },
    answering: async (machine, who = account, withinMs = 20_000) => {
      await waitFor('a login', () => canLogIn(machine.ports.imaps, who, machine.host), withinMs);
    },
    stop,
  };
  return cluster;
}

async function makeMachine(
  dir: string,
  options: MachineOptions & { storage: string },
  cluster: MachinesOptions,
): Promise<Machine> {
  const { name, host, exec = [], gateways = 1, backends = 1 } = options;
  const data = path.join(dir, name);
  const config = path.join(dir, `${name}.toml`);
  const names = [...portNames, 'link'] as const;
  const numbers = options.ports === undefined ? await freePorts(names.length) : [];
  const ports =
    options.ports ??
    (Object.fromEntries(names.map((word, index) => [word, numbers[index]!])) as Record<
      PortName | 'link',
      number
    >);
  const bracketed = host.includes(':') ? `[${host}]` : host;
  const lines = [
    `hostname = "${name}.postern.test"`,
    `gateway.count = ${gateways}`,
    `backend.count = ${backends}`,
    `storage.root = "${options.storage}"`,
    ...portNames.map((word) => `listen.${word} = ["${bracketed}:${ports[word]}"]`),
    'cluster.registry = "etcd"',
    `cluster.machine = "${name}"`,
    `cluster.etcd_endpoints = ${JSON.stringify(cluster.endpoints)}`,
    ...(backends > 0 ? [`cluster.listen = "${bracketed}:${ports.link}"`] : []),
    cluster.config ?? '',
    options.config ?? '',
  ];
  await writeFile(config, `${lines.join('\n')}\n`);
  const env = { ...process.env };
  delete env.NODE_OPTIONS; // Jest's own
  const where = ['--data', data, '--config', config];
  let running: RunningProgram | undefined;
  const argsOf = (words: readonly string[]): [command: string, args: string[]] => {
    const all = [
      ...exec,
      node,
      '--disable-warning=ExperimentalWarning',
      path.join(machine.project, 'postern.ts'),
      ...words,
      ...where,
    ];
    return [all[0]!, all.slice(1)];
  };
  const pids = async (): Promise<number[]> =>
    running === undefined ? [] : Object.values(await membersOf(running.pid));
  const machine: Machine = {
    name,
    host,
    ports,
    data,
    config,
    project: options.project ?? projectHere,
    get supervisorPid() {
      return running?.pid ?? -1;
    },
    get isRunning() {
      const child = running?.child;
      return child !== undefined && child.exitCode === null && child.signalCode === null;
    },
    async start(readyMs = cluster.readyMs ?? 30_000) {
      const [command, args] = argsOf(['start']);
      const program = startProgram(command, args, { env, cwd: dir });
      running = program;
      const over = (): boolean => program.child.exitCode !== null || program.child.signalCode !== null;
      try {
        await waitFor(`${name} to be ready`, () => over() || /^ready/m.test(program.output()), readyMs);
        if (over()) throw new Error(`${name} has ended with ${program.child.exitCode}`);
      } catch (error) {
        await machine.killEverything();
        const log = await readFile(path.join(layoutOf(data).log, 'supervisor.log'), 'utf8').catch(() => '');
        throw new Error(`${(error as Error).message}\n${program.output()}\n${log.slice(-3000)}`);
      }
    },
    async command(words, input = '') {
      const [command, args] = argsOf(words);
      const child = spawn(command, args, { env, cwd: dir });
      let text = '';
      for (const stream of [child.stdout, child.stderr]) {
        stream.on('data', (chunk: Buffer) => {
          text += chunk;
        });
      }
      child.stdin.on('error', () => {});
      child.stdin.end(input);
      const code = await new Promise((resolve) => child.on('close', resolve));
      if (code !== 0) throw new Error(`${name}: postern ${words.join(' ')} ended with ${code}: ${text}`);
      return text;
    },
    memberPids: () => membersOf(running?.pid ?? -1),
    async kill(member, signal = 'SIGKILL') {
      const pid = (await machine.memberPids())[member];
      if (pid === undefined) throw new Error(`${name} has no member ${member}`);
      process.kill(pid, signal);
    },
    async killEverything() {
      const members = await pids();
      await running?.kill('SIGKILL');
      for (const pid of members) killQuietly(pid, 'SIGKILL');
    },
    async signalAll(signal) {
      const members = await pids();
      if (running !== undefined) killQuietly(running.pid, signal);
      for (const pid of members) killQuietly(pid, signal);
    },
    async logs() {
      const directory = layoutOf(data).log;
      const files = await readdir(directory).catch(() => []);
      const texts = await Promise.all(files.map((file) => readFile(path.join(directory, file), 'utf8')));
      return texts
        .flatMap((text) => text.split('\n'))
        .filter((line) => line.startsWith('{') && line.endsWith('}'))
        .map((line) => JSON.parse(line) as Record<string, unknown>);
    },
    output: () => running?.output() ?? '',
    async ended() {
      const child = running!.child;
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
      return child.exitCode;
    },
    async stop() {
      const members = await pids();
      await running?.stop();
      for (const pid of members) killQuietly(pid, 'SIGKILL');
    },
  };
  return machine;
}
