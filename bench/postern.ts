/** Postern as the bench sees it: a real cluster with its accounts, all limits of number lifted. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Fault } from '../base/fault.ts';
import { layoutOf } from '../base/layout.ts';
import { controlPath } from '../command/control.ts';
import { startCluster } from '../test/support/cluster.ts';
import { runLoad } from './peers.ts';

export interface PosternUnderTest {
  readonly ports: Readonly<Record<'smtp' | 'imap' | 'imaps' | 'pop3', number>>;
  /** Root of the process tree: the supervisor. */
  readonly pid: number;
  /** Link socket of the backend. */
  readonly linkSocket: string;
  /** Shell command that prints how many messages are stored. */
  readonly countCommand: string;
  /** Directory of a user's Maildir++ folder. */
  maildirOf(user: string, folder: string): Promise<string>;
  /** Fresh processes, same accounts. @param meanwhile  While none runs. */
  restart(meanwhile?: () => Promise<void>): Promise<void>;
  stop(): Promise<void>;
}

const domain = 'example.test';
const password = 'pass';

/** Many clients from one address and logins without TLS, as the peers allow them in this comparison. */
const config = `
login.plaintext = true
net.connections_max = 9000
net.connections_per_network_max = 20000
account.sessions_max = 1000

[[plugin]]
use = "connection-limit"
per_network = 20000
per_wide_network = 20000

[[plugin]]
use = "guess-guard"
`;

/** @param options.imapUsers  u1 … uN; @param options.mailboxes  u1001 … u(1000+N). All have the password `pass`. */
export async function startPosternUnderTest(options: {
  imapUsers: number;
  mailboxes: number;
}): Promise<PosternUnderTest> {
  const cluster = await startCluster({ config });
  try {
    await cluster.command(['domain', 'add', domain]);
    const names = [
      ...Array.from({ length: options.imapUsers }, (_, index) => `u${index + 1}`),
      ...Array.from({ length: options.mailboxes }, (_, index) => `u${index + 1001}`),
      'u999',
    ];
    await addAccounts(layoutOf(cluster.data).adminSocket, names);
  } catch (error) {
    await cluster.stop();
    throw error;
  }
  const layout = layoutOf(cluster.data);
  return {
    ports: cluster.ports,
    get pid() {
      return cluster.supervisorPid;
    },
    linkSocket: layout.linkSocket('backend-1'),
    countCommand: `find ${layout.storage}/domains/${domain} -path '*/cur/*' -type f | wc -l`,
    async maildirOf(user, folder) {
      const [local = ''] = user.split('@');
      const names = path.join(layout.storage, 'domains', domain);
      for (const hash of await readdir(names)) {
        const directory = path.join(names, hash, local, 'Maildir', `.${folder}`);
        if (existsSync(directory)) return directory;
      }
      throw new Fault('unavailable', `${user} has no folder ${folder}`);
    },
    async restart(meanwhile) {
      process.kill(cluster.supervisorPid, 'SIGTERM');
      for (;;) {
        const alive = await readFile(`/proc/${cluster.supervisorPid}/stat`, 'utf8').then(
          (stat) => !stat.includes(') Z '),
          () => false,
        );
        if (!alive) break;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      await meanwhile?.();
      await cluster.startAgain();
      await cluster.answering();
    },
    stop: () => cluster.stop(),
  };
}

/** Over the admin socket, as `postern account add` does, but without a process for each. */
async function addAccounts(adminSocket: string, names: readonly string[]): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let index = next++; index < names.length; index = next++) {
      await control(adminSocket, { op: 'account-add', address: `${names[index]}@${domain}`, password });
    }
  };
  await Promise.all(Array.from({ length: 8 }, worker));
}

function control(socketPath: string, body: unknown): Promise<void> {
  return new Promise((resolve, reject) => {
    const asked = request(
      { socketPath, path: controlPath, method: 'POST', headers: { 'content-type': 'application/json' } },
      (answer) => {
        let text = '';
        answer.on('data', (chunk: Buffer) => {
          text += chunk.toString();
        });
        answer.on('end', () =>
          answer.statusCode === 200
            ? resolve()
            : reject(new Fault('unavailable', `the admin socket said ${answer.statusCode}: ${text}`)),
        );
      },
    );
    asked.on('error', reject);
    asked.end(JSON.stringify(body));
  });
}

/** Runs one of the doors that stand alone in a process of its own while `work` uses the ports it prints. */
export async function withDoor<T>(
  script: 'smtp-alone.ts' | 'imap-alone.ts',
  work: (ports: readonly number[]) => Promise<T>,
): Promise<T> {
  const directory = await mkdtemp(path.join(tmpdir(), 'postern-door-'));
  const args = ['--disable-warning=ExperimentalWarning', path.join(import.meta.dirname, script), directory];
  const door = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    const [said] = (await once(door.stdout, 'data')) as [Buffer];
    return await work(said.toString().trim().split(' ').map(Number));
  } finally {
    door.kill();
    await rm(directory, { recursive: true, force: true });
  }
}

/** Makes a folder with `count` messages of `size` bytes over IMAP, on either side. */
export async function fillBox(
  box: string,
  count: number,
  size: number,
  where: { host: string; port: number; user: string },
): Promise<void> {
  const args = [where.host, String(where.port), where.user, password];
  const steps = [
    ['create', ...args],
    ['fill', ...args],
  ] as const;
  for (const step of steps) {
    const done = await runLoad('bench.sh', step, { BOX: box, COUNT: String(count), SIZE: String(size) });
    if (done.code !== 0 || /"errors":\s*[1-9]/.test(done.stdout))
      throw new Fault('unavailable', `filling ${box} on port ${where.port}: ${done.stdout} ${done.stderr}`);
  }
}
