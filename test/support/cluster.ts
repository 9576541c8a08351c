/**
 * A real cluster for a test: the command `postern start` in a data directory of
 * its own, on free loopback ports, ended and removed afterwards.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { networkInterfaces } from 'node:os';
import path from 'node:path';
import tls from 'node:tls';
import { layoutOf } from '../../base/layout.ts';
import { certFilesOf } from '../../certs/files.ts';
import {
  answers,
  freePortRun,
  freePorts,
  type RunningProgram,
  startProgram,
  temporaryDir,
  waitFor,
} from './process.ts';

const projectDir = path.resolve(import.meta.dirname, '../..');
const node = path.join(projectDir, 'node_modules/.bin/node');

export const portNames = [
  'smtp',
  'submission',
  'submissions',
  'imap',
  'imaps',
  'pop3',
  'pop3s',
  'https',
  'health',
] as const;
export type PortName = (typeof portNames)[number];

export interface TestAccount {
  readonly address: string;
  readonly password: string;
}

export interface Cluster {
  readonly host: string;
  readonly ports: Readonly<Record<PortName, number>>;
  /** The first account, made by the first start. */
  readonly account: TestAccount;
  /** Data directory and configuration file. */
  readonly data: string;
  readonly config: string;
  /** How mail programs reach the account (see test/clients/mail-readers.ts). */
  access(account?: TestAccount): {
    host: string;
    imapsPort: number;
    imapPort: number;
    pop3sPort: number;
    pop3Port: number;
    httpsPort: number;
    user: string;
    password: string;
    caFile: string;
  };
  /** Adds an account through the real command. */
  addAccount(address: string, password?: string): Promise<TestAccount>;
  /** Runs `postern WORDS --data … --config …`. @throws {Error} with its output unless it exits 0. */
  command(words: readonly string[], input?: string): Promise<string>;
  /** `{ 'gateway-1': 4711, 'backend-1': 4712 }`, from the process tree. */
  memberPids(): Promise<Record<string, number>>;
  readonly supervisorPid: number;
  kill(member: string, signal?: NodeJS.Signals): Promise<void>;
  /** `kill -9` of supervisor and members, as when the machine dies. */
  killEverything(): Promise<void>;
  startAgain(): Promise<void>;
  /** Resolves when the gateway greets and the account can log in. */
  answering(): Promise<void>;
  /** All log records so far, of all members. */
  logs(): Promise<Record<string, unknown>[]>;
  /** Its exit code, once it has ended by itself; null when a signal ended it. */
  ended(): Promise<number | null>;
  /** What it wrote to the terminal. */
  output(): string;
  stop(): Promise<void>;
}

/**
 * Starts a cluster and waits for its `ready` line.
 * @param options.config  TOML after our own lines: tables and `[[plugin]]` entries.
 * @param options.gateways  Gateway members; `ports.health` is the first one's, the others' count up.
 * @param options.files   Further files of the configuration directory: site plugins.
 */
export async function startCluster(
  options: {
    config?: string;
    gateways?: number;
    files?: Readonly<Record<string, string>>;
    readyMs?: number;
  } = {},
): Promise<Cluster> {
  const dir = await temporaryDir('cluster');
  const data = path.join(dir.path, 'var');
  const config = path.join(dir.path, 'postern.toml');
  const numbers = await freePorts(portNames.length);
  const gateways = options.gateways ?? 1;
  // Each gateway counts the port of its health page up.
  numbers[portNames.indexOf('health')] = await freePortRun(gateways, numbers.slice(0, -1));
  const ports = Object.fromEntries(portNames.map((name, index) => [name, numbers[index]!])) as Record<
    PortName,
    number
  >;
  const hosts = hasIpv6Loopback() ? ['127.0.0.1', '[::1]'] : ['127.0.0.1'];
  const listen = portNames.map((name) => {
    const on = name === 'health' ? ['127.0.0.1'] : hosts;
    return `listen.${name} = [${on.map((host) => `"${host}:${ports[name]}"`).join(', ')}]`;
  });
  const own = ['hostname = "mx.postern.test"', `gateway.count = ${gateways}`, ...listen];
  await mkdir(dir.path, { recursive: true });
  await writeFile(config, `${own.join('\n')}\n${options.config ?? ''}\n`);
  for (const [name, text] of Object.entries(options.files ?? {}))
    await writeFile(path.join(dir.path, name), text);

  const args = ['--disable-warning=ExperimentalWarning', path.join(projectDir, 'postern.ts')];
  const where = ['--data', data, '--config', config];
  const env = { ...process.env };
  delete env.NODE_OPTIONS; // Jest's own
  const start = async (): Promise<RunningProgram> => {
    const program = startProgram(node, [...args, 'start', ...where], { env, cwd: dir.path });
    try {
      await waitFor(
        'the ready line',
        () => {
          return program.child.exitCode !== null || /^ready/m.test(program.output());
        },
        options.readyMs ?? 30_000,
      );
      if (program.child.exitCode !== null) throw new Error(`it has ended with ${program.child.exitCode}`);
    } catch (error) {
      const pids = Object.values(await membersOf(program.pid));
      await program.kill('SIGKILL');
      for (const pid of pids) killQuietly(pid, 'SIGKILL');
      const log = await readFile(path.join(layoutOf(data).log, 'supervisor.log'), 'utf8').catch(() => '');
      throw new Error(`${(error as Error).message}\n${program.output()}\n${log.slice(-2000)}`);
    }
    return program;
  };
  let running = await start().catch(async (error) => {
    await dir.remove();
    throw error;
  });
  const first = await readFile(layoutOf(data).firstAccount, 'utf8');
  const account = readFirstAccount(first);
  const caFile = certFilesOf(layoutOf(data).certs).authority;

  const cluster: Cluster = {
    host: '127.0.0.1',
    ports,
    account,
    data,
    config,
    access: (who = account) => ({
      host: '127.0.0.1',
      imapsPort: ports.imaps,
      imapPort: ports.imap,
      pop3sPort: ports.pop3s,
      pop3Port: ports.pop3,
      httpsPort: ports.https,
      user: who.address,
      password: who.password,
      caFile,
    }),
    async addAccount(address, password = 'right horse battery') {
      await cluster.command(['account', 'add', address, '--password-stdin'], `${password}\n`);
      return { address, password };
    },
    async command(words, input = '') {
      const child = spawn(node, [...args, ...words, ...where], { env, cwd: dir.path });
      let text = '';
      for (const stream of [child.stdout, child.stderr]) {
        stream.on('data', (chunk: Buffer) => {
          text += chunk;
        });
      }
      child.stdin.on('error', () => {});
      child.stdin.end(input);
      const code = await new Promise((resolve) => child.on('close', resolve));
      if (code !== 0) throw new Error(`postern ${words.join(' ')} ended with ${code}: ${text}`);
      return text;
    },
    memberPids: () => membersOf(running.pid),
    get supervisorPid() {
      return running.pid;
    },
    async kill(member, signal = 'SIGKILL') {
      const pid = (await membersOf(running.pid))[member];
      if (pid === undefined) throw new Error(`there is no member ${member}`);
      process.kill(pid, signal);
    },
    async killEverything() {
      const pids = Object.values(await membersOf(running.pid));
      await running.kill('SIGKILL');
      for (const pid of pids) killQuietly(pid, 'SIGKILL');
    },
    async startAgain() {
      running = await start();
    },
    async answering() {
      await waitFor('the greeting', () => answers(ports.smtp, '', /^220 /));
      await waitFor('a login', () => canLogIn(ports.imaps, account));
    },
    async logs() {
      const dirName = layoutOf(data).log;
      const files = await readdir(dirName).catch(() => []);
      const texts = await Promise.all(files.map((file) => readFile(path.join(dirName, file), 'utf8')));
      return [...texts, running.output()]
        .flatMap((text) => text.split('\n'))
        .filter((line) => line.startsWith('{'))
        .flatMap((line) => {
          try {
            return [JSON.parse(line) as Record<string, unknown>];
          } catch {
            return []; // a line that is being written
          }
        });
    },
    async ended() {
      const { child } = running;
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
      return child.exitCode;
    },
    output: () => running.output(),
    async stop() {
      const pids = Object.values(await membersOf(running.pid));
      await running.stop();
      for (const pid of pids) killQuietly(pid, 'SIGKILL');
      await dir.remove();
    },
  };
  return cluster;
}

/** The members that are children of a supervisor, by the `--id` they were started with. */
export async function membersOf(supervisorPid: number): Promise<Record<string, number>> {
  const children = await readFile(`/proc/${supervisorPid}/task/${supervisorPid}/children`, 'utf8').catch(
    () => '',
  );
  const found: Record<string, number> = {};
  for (const pid of children.split(' ').filter(Boolean)) {
    const words = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
    const id = words.find((word) => word.startsWith('--id='))?.slice(5) ?? words[words.indexOf('--id') + 1];
    if (id !== undefined && /^(?:[\w-]+-)?(?:gateway|backend)-\d+$/.test(id)) found[id] = Number(pid);
  }
  return found;
}

export function killQuietly(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // gone already
  }
}

export function readFirstAccount(text: string): TestAccount {
  const address = /[^\s:]+@[^\s]+/.exec(text)?.[0];
  const password = /password:?\s+(\S+)/i.exec(text)?.[1];
  if (address === undefined || password === undefined) throw new Error(`no account in: ${text}`);
  return { address, password };
}

function hasIpv6Loopback(): boolean {
  return Object.values(networkInterfaces()).some((list) => list?.some((one) => one.address === '::1'));
}

export function canLogIn(port: number, account: TestAccount, host = '127.0.0.1'): Promise<boolean> {
  return new Promise((resolve) => {
    let text = '';
    const socket = tls.connect({ port, host, rejectUnauthorized: false }, () =>
      socket.write(`a LOGIN ${account.address} "${account.password}"\r\n`),
    );
    const end = (good: boolean): void => {
      socket.destroy();
      resolve(good);
    };
    socket.setTimeout(5000, () => end(false));
    socket.on('error', () => end(false));
    socket.on('close', () => end(false));
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      if (/^a OK/m.test(text)) end(true);
      else if (/^a (?:NO|BAD)/m.test(text)) end(false);
    });
  });
}

/** A plain connection to a port of a cluster, for tests that write their own bytes. */
export function connectTo(cluster: Cluster, name: PortName, host = cluster.host): net.Socket {
  const socket = net.connect({ host, port: cluster.ports[name], noDelay: true });
  socket.on('error', () => {});
  return socket;
}
