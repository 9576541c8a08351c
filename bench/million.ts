/**
 * One folder with a million messages: how long SELECT, pages of FETCH, SEARCH,
 * SORT and THREAD take, what memory the backend takes meanwhile, and what another
 * account's NOOP notices of it. `npm run bench:million -- --messages 1000000`
 */
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { Fault } from '../base/fault.ts';
import { layoutOf } from '../base/layout.ts';
import { type Cluster, startCluster } from '../test/support/cluster.ts';

const box = 'Million';
const probeEveryMs = 5;
const commandWaitMs = 30 * 60_000;

interface Login {
  readonly port: number;
  readonly user: string;
  readonly password: string;
}

interface Row {
  readonly what: string;
  readonly ms: number;
  readonly answerBytes: number;
  readonly backendPeakMiB: number;
  readonly noopP50Ms: number;
  readonly noopP99Ms: number;
  readonly noopMaxMs: number;
}

/** One IMAP connection, one command at a time; answers are counted, not kept. */
class Client {
  readonly #socket: net.Socket;
  #tail = '';
  #bytes = 0;
  #waiting: { readonly tag: string; done(line: string): void } | undefined;
  #count = 0;

  constructor(socket: net.Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      this.#bytes += chunk.length;
      this.#tail = (this.#tail + chunk.toString('latin1')).slice(-1024);
      const { tag = '' } = this.#waiting ?? {};
      const found = this.#waiting && new RegExp(`(?:^|\n)${tag} [^\n]*\r\n$`).exec(this.#tail);
      if (found) this.#waiting!.done(found[0].trim());
    });
  }

  static async open({ port, user, password }: Login): Promise<Client> {
    const socket = net.connect({ port, host: '127.0.0.1' });
    await once(socket, 'data');
    const client = new Client(socket);
    await client.ask(`LOGIN ${user} "${password}"`);
    return client;
  }

  /** @returns bytes of the answer. @throws {Fault} unless it ends with OK */
  async ask(command: string): Promise<number> {
    const tag = `t${++this.#count}`;
    this.#bytes = 0;
    this.#tail = '';
    const line = await new Promise<string>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Fault('deadline-passed', command)), commandWaitMs);
      this.#waiting = {
        tag,
        done: (answer) => {
          clearTimeout(timer);
          this.#waiting = undefined;
          resolve(answer);
        },
      };
      this.#socket.write(`${tag} ${command}\r\n`);
    });
    if (!line.startsWith(`${tag} OK`)) throw new Fault('unavailable', `${command}: ${line}`);
    return this.#bytes;
  }

  close(): void {
    this.#socket.destroy();
  }
}

/** In a thread of its own: NOOP after NOOP from another account; latencies go out when asked for. */
async function probe(login: Login): Promise<void> {
  const { parentPort } = await import('node:worker_threads');
  const client = await Client.open(login);
  let latencies: number[] = [];
  parentPort!.on('message', () => {
    parentPort!.postMessage(latencies);
    latencies = [];
  });
  parentPort!.postMessage('ready');
  for (;;) {
    const began = performance.now();
    await client.ask('NOOP');
    latencies.push(performance.now() - began);
    await new Promise((resolve) => setTimeout(resolve, probeEveryMs));
  }
}

async function measure(messages: number): Promise<void> {
  const cluster = await startCluster({ config: 'login.plaintext = true\n' });
  try {
    const other = await cluster.addAccount('other@postern.test');
    await seed(cluster, messages);
    const loginOf = (account: { address: string; password: string }): Login => ({
      port: cluster.ports.imap,
      user: account.address,
      password: account.password,
    });
    const prober = new Worker(import.meta.filename, { workerData: loginOf(other) });
    await once(prober, 'message');
    const latencies = async (): Promise<number[]> => {
      prober.postMessage('take');
      const [taken] = (await once(prober, 'message')) as [number[]];
      return taken.sort((a, b) => a - b);
    };
    const rows: Row[] = [];
    const client = await Client.open(loginOf(cluster.account));
    const step = async (what: string, commands: readonly string[]): Promise<void> => {
      const { 'backend-1': pid } = await cluster.memberPids();
      await writeFile(`/proc/${pid}/clear_refs`, '5');
      await latencies();
      const began = performance.now();
      let answerBytes = 0;
      for (const command of commands) answerBytes += await client.ask(command);
      const ms = performance.now() - began;
      const noop = await latencies();
      const status = await readFile(`/proc/${pid}/status`, 'utf8');
      const at = (share: number): number =>
        round(noop[Math.min(noop.length - 1, Math.floor(noop.length * share))] ?? 0);
      const row: Row = {
        what,
        ms: Math.round(ms),
        answerBytes,
        backendPeakMiB: Math.round(Number(/^VmHWM:\s+(\d+)/m.exec(status)![1]) / 1024),
        noopP50Ms: at(0.5),
        noopP99Ms: at(0.99),
        noopMaxMs: at(1),
      };
      rows.push(row);
      process.stderr.write(
        `${what.padEnd(44)} ${String(row.ms).padStart(8)} ms ${String(answerBytes).padStart(10)} bytes  backend ${row.backendPeakMiB} MiB  NOOP ${row.noopP50Ms} / ${row.noopP99Ms} / ${row.noopMaxMs} ms\n`,
      );
    };
    await step(
      'quiet for five seconds',
      Array.from({ length: 500 }, () => 'NOOP'),
    );
    await step('SELECT, no index', [`SELECT ${box}`]);
    await step('SELECT, open', [`SELECT ${box}`]);
    const pages = Array.from({ length: 100 }, (_, index) => {
      const first = 1 + Math.floor(((index * 7919) % 100) * (messages / 100));
      return `FETCH ${first}:${Math.min(messages, first + 49)} (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)`;
    });
    await step('FETCH of envelopes, 100 pages of 50', pages);
    await step('FETCH 1:* (FLAGS)', ['FETCH 1:* (FLAGS)']);
    await step('STORE 1:* +FLAGS.SILENT (\\Flagged)', ['STORE 1:* +FLAGS.SILENT (\\Flagged)']);
    await step('SEARCH UNSEEN SINCE', ['SEARCH UNSEEN SINCE 1-Jan-2024']);
    await step('SEARCH SUBJECT, first time', ['SEARCH RETURN (COUNT) SUBJECT "number 77777 "']);
    await step('SEARCH SUBJECT, again', ['SEARCH RETURN (COUNT) SUBJECT "number 77777 "']);
    await step('SEARCH BODY', ['SEARCH RETURN (COUNT) BODY "of message 55555 "']);
    await step('SORT (ARRIVAL)', ['SORT (ARRIVAL) UTF-8 ALL']);
    await step('SORT (SUBJECT), first time', ['SORT (SUBJECT) UTF-8 ALL']);
    await step('SORT (REVERSE DATE), again', ['SORT (REVERSE DATE) UTF-8 ALL']);
    await step('THREAD REFERENCES', ['THREAD REFERENCES UTF-8 ALL']);
    await step('THREAD ORDEREDSUBJECT', ['THREAD ORDEREDSUBJECT UTF-8 ALL']);
    client.close();
    await prober.terminate();
    process.stdout.write(`${JSON.stringify({ messages, rows })}\n`);
  } finally {
    await cluster.stop();
  }
}

/** Messages as another program would leave them: the first opening gives them their UIDs. */
async function seed(cluster: Cluster, messages: number): Promise<void> {
  const client = await Client.open({
    port: cluster.ports.imap,
    user: cluster.account.address,
    password: cluster.account.password,
  });
  await client.ask(`CREATE ${box}`);
  client.close();
  const [local = '', domain = ''] = cluster.account.address.split('@');
  const names = path.join(layoutOf(cluster.data).storage, 'domains', domain);
  const { readdir } = await import('node:fs/promises');
  const hashes = await readdir(names);
  let maildir = '';
  for (const hash of hashes) {
    const candidate = path.join(names, hash, local, 'Maildir', `.${box}`);
    if (await readdir(candidate).then(Boolean, () => false)) maildir = candidate;
  }
  if (maildir === '') throw new Fault('unavailable', 'the folder was not found');
  await mkdir(path.join(maildir, 'new'), { recursive: true });
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let index = next++; index < messages; index = next++) {
      const name = `${1_700_000_000 + index}.M${index}P1.seed:2,${index % 3 === 0 ? '' : 'S'}`;
      await writeFile(path.join(maildir, 'cur', name), message(index));
    }
  };
  process.stderr.write(`writing ${messages} messages ...\n`);
  await Promise.all(Array.from({ length: 8 }, worker));
}

/** One in four answers the one before it. */
function message(index: number): string {
  const date = new Date(1_700_000_000_000 + ((index * 7919) % 1_000_000) * 1000).toUTCString();
  const reply = index % 4 === 3;
  const topic = reply ? index - 1 : index;
  return [
    `From: Sender ${index % 5000} <s${index % 5000}@example.test>`,
    'To: Ann <ann@example.test>',
    `Subject: ${reply ? 'Re: ' : ''}number ${topic} of many`,
    `Date: ${date}`,
    `Message-ID: <${index}@example.test>`,
    ...(reply ? [`In-Reply-To: <${index - 1}@example.test>`, `References: <${index - 1}@example.test>`] : []),
    '',
    `The text of message ${index} is short.`,
    '',
  ].join('\r\n');
}

function round(ms: number): number {
  return Math.round(ms * 100) / 100;
}

if (isMainThread) {
  const { values } = parseArgs({ options: { messages: { type: 'string', default: '1000000' } } });
  await measure(Number(values.messages));
} else {
  await probe(workerData as Login);
}
